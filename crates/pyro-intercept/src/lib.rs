//! Secrets that never enter the guest: a TLS proxy that puts them into requests where they are allowed, and nowhere else.
//!
//! ```text
//!  guest ── TLS, a certificate of the workspace's own CA ──► Proxy ── TLS, verified against the host's roots ──► api.example.com
//!           Authorization: Bearer pyro-secret-TOKEN-5f…       │        Authorization: Bearer ghp_…
//!                                                             ├─ is the request for the name of the handshake? if not, 421
//!                                                             ├─ placeholder in the named header ► value; told to the audit log first
//!           {"you sent": "pyro-secret-TOKEN-5f…"} ◄───────────┴─ value in the answer ► placeholder
//! ```
//!
//! [`Proxy`] is an [`Interceptor`](pyro_egress::Interceptor): the egress stack offers it every allowed connection whose first bytes are
//! known, and it takes those whose TLS server name and port belong to a [`Substitution`]. All others are spliced untouched, so this crate
//! sees nothing of them. For each connection that it takes there is one upstream connection, the one that the stack made to the address
//! that it judged; nothing here resolves or dials.
//!
//! **Both sides speak the same protocol.** The guest's hello is read, what it offers (HTTP/2, HTTP/1.1) is offered upstream, and what
//! the upstream chooses is what the guest gets. Bodies stream in both directions with the pressure of their readers, trailers pass, and
//! an upgrade that the upstream accepts (WebSocket) becomes a pipe.
//!
//! **The upstream is verified here**, since the guest sees only our certificate. Where that fails nothing is sent, and the guest reads why
//! in a 502.
//!
//! **What comes back** to a request that carried a secret has the secret replaced by its placeholder, in headers, body and trailers; such
//! requests ask for an answer without compression, and a compressed one is withheld. Not looked through are what follows an upgrade and
//! gRPC messages, whose framing counts bytes, and answers to other requests, such as one that asks a server what it was sent before.
//!
//! **Cancellation.** All tasks of a proxy end when it is dropped, at their next turn: the stack drops it when it ends.

mod answer;
mod authority;
mod body;
mod connection;
mod departure;
mod host;
mod limits;
mod proxy;
mod relay;
mod request;
mod roots;
mod substitution;
mod tasks;
mod upstream;
mod usage;

pub use authority::{Authority, AuthorityError};
pub use host::{HostPattern, HostPatternError};
pub use limits::{PROXIED_FLOWS_MAX, Patience, VALID_FOR};
pub use proxy::{Proxy, ProxyError};
pub use roots::{Roots, RootsError};
pub use substitution::{Substitution, SubstitutionError};
pub use usage::{RefusedRequest, SecretUse};
