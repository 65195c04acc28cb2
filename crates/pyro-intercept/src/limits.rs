//! Deadlines and caps, and why they are what they are.

use std::time::Duration;

/// How long a certificate authority is valid: longer than any workspace is kept running, short enough not to matter when it leaks.
pub const VALID_FOR: Duration = Duration::from_secs(8 * 7 * 24 * 3600);

/// How long before now certificates become valid, since a guest's clock may be behind.
pub(crate) const VALID_BEFORE: Duration = Duration::from_secs(24 * 3600);

/// Leaf certificates that are kept. A wildcard lets the guest ask for any number of names.
pub(crate) const LEAVES_MAX: usize = 256;

/// Connections that are proxied at once; one more is closed. Each holds up to some 2 MiB where both of its ends are hostile.
pub const PROXIED_FLOWS_MAX: usize = 128;

/// How long a guest may take. The default is for real ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// From the beginning of a connection to the end of both handshakes: what slow TLS servers on slow lines take, with room.
    pub handshake: Duration,
    /// How long an HTTP/1 connection may be idle or in the middle of a request's head: longer than most clients keep an idle one.
    pub head: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { handshake: Duration::from_secs(20), head: Duration::from_secs(90) }
    }
}

/// How long a server says nothing until what is held back of its answer is passed on: longer than a network's hiccup, shorter than a person
/// waits.
pub(crate) const QUIET: Duration = Duration::from_millis(500);

/// The longest head of a request or answer: several times what servers accept.
pub(crate) const HEAD_BYTES_MAX: usize = 64 * 1024;

/// The buffer of an HTTP/1 peer each way: what a head and the beginning of its body fit into.
pub(crate) const BUFFER_BYTES: usize = 128 * 1024;

/// The most that the values put into one request may make it grow by. One value of the longest kind fits.
pub(crate) const SUBSTITUTED_BYTES_MAX: usize = 96 * 1024;

/// HTTP/2 streams of a connection at once: what browsers' servers use to allow.
pub(crate) const STREAMS_MAX: u32 = 100;

/// What an HTTP/2 peer may send ahead on one stream: fast enough on a line with 10 ms delay (25 MB/s), cheap enough for hostile peers.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 256 * 1024;

/// What an HTTP/2 peer may send ahead on all streams of a connection.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 512 * 1024;

/// How long a request waits for room in the queue of uses before it is refused: it must not be sent without being told of.
pub(crate) const TELL_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest method and path in a [`SecretUse`](crate::SecretUse), in bytes.
pub(crate) const METHOD_BYTES_MAX: usize = 32;
pub(crate) const PATH_BYTES_MAX: usize = 256;
