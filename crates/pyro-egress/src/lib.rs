//! The network of a workspace in user space: Ethernet frames in, the host's sockets out, policy in between.
//!
//! ```text
//!  QEMU ── -netdev stream ──► Deframer ─► who sent it? ─┬─ ARP, DHCP, echo to the gateway ──► answered
//!   ▲      (unix socket,      (capped)    (MAC, IP)     ├─ UDP, echo ─► policy ─► association ─► socket of the host
//!   │       4-byte lengths)                             ├─ port 53 ───► policy ─► resolver of the host ─► answer rebuilt
//!   │                                                   └─ TCP ───────► policy ─► connect ─► smoltcp's socket ⇄ host's socket
//!   └───────────────────────── frames ◄─────────────────────────────────────────────────────── first bytes judged
//! ```
//!
//! [`start`] puts one task on the caller's runtime. It owns everything: the link, every connection, the [`policy::Policy`] and what DNS
//! taught it; a [`Handle`] sends it commands, [`Events`] hears from it. Dropping the handle closes every socket. No root, no raw
//! sockets, no firewall rule, no IPv6: AAAA questions are answered empty, IPv6 frames dropped and counted, and no router is advertised.
//!
//! **Each flow has its own smoltcp socket set.** Frames are assigned to flows here, by address and port, and smoltcp is fed one packet for
//! one socket at a time. So a packet costs the same with one flow and with five hundred, and everything that is not a segment of an
//! allowed connection never reaches it.
//!
//! **The host connects first.** A guest's SYN is answered when the host has connected: a closed port is a reset, an unreachable host an
//! ICMP message. The exception is a refused connection to port 80, which is accepted, without the host dialling anything, to answer its
//! request with a 403 that names the rule to ask for.
//!
//! **A name is checked three times**, where there is an allow-list: when it is asked for (or no question leaves), when an address is dialled
//! (only what an allowed name lately resolved to), and when the connection shows whom it is for (SNI, `Host`). What the guest sends is
//! held until then; what the server sends is not, so protocols in which it speaks first are not slowed. [`Interceptor`] is the seam for
//! whoever wants a connection at that point: its first bytes known, its upstream connected and unused.
//!
//! **The guest is hostile.** Lengths are checked before anything is kept, every table has a cap ([`Caps`]), buffers come out of one budget
//! after a connection is made, and nothing that a guest sends is waited for without a deadline. While a guest takes no frames, none are read
//! from it.
//!
//! What this crate does not see: the second request of an HTTP connection, names inside TLS (an allowed front end can serve a name that is
//! not), and names in QUIC, which therefore passes only where a rule names the address.

mod configuration;
pub mod dns;
mod error;
mod event;
mod handle;
mod host;
pub mod inspect;
mod interceptor;
pub mod policy;
mod stack;

pub use configuration::{Caps, Configuration, MacAddress};
pub use error::EgressError;
pub use event::{Counters, End, Event, Events, FlowId, QuestionOutcome};
pub use handle::{Handle, start};
pub use host::host_addresses;
pub use interceptor::{Interceptor, OpenedFlow};
pub use stack::{Deframer, FRAME_BYTES_MAX};
