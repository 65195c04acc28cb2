//! One TCP connection: the guest's end, played by smoltcp, and the upstream end, a socket of the host.
//!
//! ```text
//!              ┌─ Judging ──┬─► Spliced ──┐
//!   connected ─┤            └─► Parting ──┼─► over
//!              └─ Pleading ────► Parting ─┘
//! ```
//!
//! Judging: what the guest sends waits until it shows whom it is for; what the upstream sends passes, so protocols in which the server
//! speaks first are not delayed. Pleading: refused, accepted only to say so to a client of plain HTTP. Parting: that has been said.
//!
//! Data moves only when the receiving side has room, so buffers are all the memory a connection takes. Nothing here knows the policy.

use std::io;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use tokio::io::AsyncWrite;
use tokio::net::{TcpStream, UnixStream};

use crate::event::{End, FlowId};
use crate::policy::{Grant, Name, Refusal};

use super::ready::TokenWaker;

/// What one connection may move at a time, each way, before the others have their turn.
const TURN_BYTES: usize = 256 * 1024;
/// How long a guest may leave data unacknowledged. A paused guest acknowledges nothing, and pauses are short.
const GUEST_TIMEOUT: Duration = Duration::from_secs(300);

/// The other end of a connection.
#[derive(Debug)]
pub(super) enum Upstream {
    Host(TcpStream),
    /// Within this process: the DNS proxy, or an interceptor.
    Local(UnixStream),
}

impl Upstream {
    fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Host(stream) => stream.poll_read_ready(context),
            Self::Local(stream) => stream.poll_read_ready(context),
        }
    }

    fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Host(stream) => stream.poll_write_ready(context),
            Self::Local(stream) => stream.poll_write_ready(context),
        }
    }

    fn try_read(&self, space: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Host(stream) => stream.try_read(space),
            Self::Local(stream) => stream.try_read(space),
        }
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Host(stream) => stream.try_write(bytes),
            Self::Local(stream) => stream.try_write(bytes),
        }
    }

    // Neither waits: the kernel sends what it holds and then the end.
    fn end_writing(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Host(stream) => std::pin::Pin::new(stream).poll_shutdown(context),
            Self::Local(stream) => std::pin::Pin::new(stream).poll_shutdown(context),
        }
    }
}

/// Where a connection stands.
#[derive(Debug)]
pub(super) enum Stage {
    Judging { grant: Grant, since: Option<Instant> },
    Spliced,
    Pleading { refusal: Refusal, until: Instant },
    Parting { until: Instant },
}

/// What a turn came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing more to do until somebody wakes the connection.
    Rest,
    /// There may be more to move at once.
    Again,
    /// The upstream failed; the guest's end has been aborted.
    Failed,
}

pub(super) struct Flow {
    pub(super) id: FlowId,
    pub(super) guest_port: u16,
    pub(super) destination: SocketAddrV4,
    pub(super) name: Option<Name>,
    pub(super) opened: Instant,
    pub(super) active: Instant,
    pub(super) stage: Stage,
    pub(super) upstream: Option<Upstream>,
    pub(super) waker: Arc<TokenWaker>,
    pub(super) armed: Option<Instant>,
    pub(super) buffer_bytes: usize,
    pub(super) sent_bytes: u64,
    pub(super) received_bytes: u64,
    /// Whether it waits for its turn.
    pub(super) busy: bool,
    /// Whether the guest has completed the handshake.
    pub(super) established: bool,
    /// Whether the last acknowledgement has been sent, after which smoltcp must not be asked for more: ten seconds later it would throw
    /// away what the upstream has yet to take.
    pub(super) parted: bool,
    /// Whether events speak of it: questions by TCP are told as questions.
    pub(super) told: bool,
    pub(super) end: Option<End>,
    pub(super) sockets: SocketSet<'static>,
    handle: SocketHandle,
    upstream_ended: bool,
    guest_ended: bool,
}

impl Flow {
    /// Returns a flow that waits for the guest's SYN, which the caller feeds to `sockets`.
    pub(super) fn new(
        id: FlowId,
        guest_port: u16,
        destination: SocketAddrV4,
        stage: Stage,
        waker: Arc<TokenWaker>,
        buffer_bytes: usize,
    ) -> Self {
        let buffer = || tcp::SocketBuffer::new(vec![0; buffer_bytes]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        // Frames come in batches, and one acknowledgement follows each batch anyway.
        socket.set_ack_delay(None);
        socket.set_timeout(Some(smoltcp::time::Duration::from_micros(GUEST_TIMEOUT.as_micros() as u64)));
        // Only an open socket or port 0 is refused, and neither gets here.
        let _ = socket.listen((*destination.ip(), destination.port()));
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        let now = Instant::now();
        Self {
            id,
            guest_port,
            destination,
            name: None,
            opened: now,
            active: now,
            stage,
            upstream: None,
            waker,
            armed: None,
            buffer_bytes,
            sent_bytes: 0,
            received_bytes: 0,
            busy: false,
            established: false,
            parted: false,
            told: true,
            end: None,
            sockets,
            handle,
            upstream_ended: false,
            guest_ended: false,
        }
    }

    pub(super) fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    pub(super) fn state(&self) -> tcp::State {
        self.sockets.get::<tcp::Socket<'_>>(self.handle).state()
    }

    /// Resets the guest's end and drops the upstream one; `end` says why, unless it was over before.
    pub(super) fn abort(&mut self, end: End) {
        self.end.get_or_insert(end);
        self.socket().abort();
        self.drop_upstream();
    }

    /// Lets the destination see a reset, where it is one of the host's sockets.
    pub(super) fn drop_upstream(&mut self) {
        if let Some(Upstream::Host(stream)) = self.upstream.take() {
            // A socket that is gone already cannot be told, and need not be.
            let _ = stream.set_zero_linger();
        }
    }

    /// Returns all that the guest has sent and nobody has taken, and whether no more will fit or come.
    pub(super) fn first_bytes(&mut self) -> (&[u8], bool) {
        let ended = !matches!(self.state(), tcp::State::Established | tcp::State::FinWait1 | tcp::State::FinWait2);
        let socket = self.socket();
        let full = socket.recv_queue() == socket.recv_capacity();
        let queued = socket.recv_queue();
        // Nothing has been taken yet, so the ring has not wrapped and all of it is one slice.
        (socket.peek(queued).unwrap_or_default(), full || ended)
    }

    /// Says something to the guest in the upstream's place, and nothing more after it.
    pub(super) fn say_last(&mut self, text: &[u8], until: Instant) {
        self.drop_upstream();
        // The queue is empty: this is only said where nothing else was.
        let _ = self.socket().send_slice(text);
        self.socket().close();
        self.stage = Stage::Parting { until };
    }

    /// Returns whether the upstream has said anything yet.
    pub(super) const fn has_received(&self) -> bool {
        self.received_bytes > 0 || self.upstream_ended
    }

    /// Moves what can be moved.
    pub(super) fn turn(&mut self, now: Instant) -> Turn {
        self.established |= !matches!(self.state(), tcp::State::Listen | tcp::State::SynReceived);
        let moved = self.sent_bytes + self.received_bytes;
        let turn = match self.stage {
            Stage::Judging { .. } => self.pump_in(),
            Stage::Spliced => match (self.pump_in(), self.pump_out()) {
                (Turn::Failed, _) | (_, Turn::Failed) => Turn::Failed,
                (Turn::Again, _) | (_, Turn::Again) => Turn::Again,
                (Turn::Rest, Turn::Rest) => Turn::Rest,
            },
            Stage::Pleading { .. } => Turn::Rest,
            Stage::Parting { .. } => {
                // What is still on its way is of no interest, but unread data would turn our end into a reset.
                while self.socket().recv(|bytes| (bytes.len(), bytes.len())).is_ok_and(|count| count > 0) {}
                Turn::Rest
            }
        };
        if self.sent_bytes + self.received_bytes != moved {
            self.active = now;
        }
        if turn == Turn::Failed {
            self.abort(End::ResetByPeer);
        }
        turn
    }

    /// Returns how the connection ended, if there is nothing left to do for it.
    pub(super) fn over(&self) -> Option<End> {
        let finished = self.upstream.is_none() || self.guest_ended;
        match self.state() {
            tcp::State::Closed if finished || self.end.is_some() => Some(self.end.unwrap_or(End::Finished)),
            // Everything the guest sent has been taken, or it would not be `guest_ended`; or else it reset the connection.
            tcp::State::Closed => {
                let socket = self.sockets.get::<tcp::Socket<'_>>(self.handle);
                (!socket.can_recv()).then_some(End::ResetByGuest)
            }
            // The guest has acknowledged everything, so waiting for stray segments is not worth a place among the flows.
            tcp::State::TimeWait => finished.then(|| self.end.unwrap_or(End::Finished)),
            tcp::State::Listen
            | tcp::State::SynSent
            | tcp::State::SynReceived
            | tcp::State::Established
            | tcp::State::FinWait1
            | tcp::State::FinWait2
            | tcp::State::CloseWait
            | tcp::State::Closing
            | tcp::State::LastAck => None,
        }
    }

    fn pump_in(&mut self) -> Turn {
        let Some(upstream) = &self.upstream else { return Turn::Rest };
        let waker = Waker::from(Arc::clone(&self.waker));
        let mut context = Context::from_waker(&waker);
        let socket: &mut tcp::Socket<'_> = self.sockets.get_mut(self.handle);
        let mut moved = 0;
        while !self.upstream_ended && socket.can_send() {
            if moved >= TURN_BYTES {
                return Turn::Again;
            }
            match upstream.poll_read_ready(&mut context) {
                Poll::Pending => return Turn::Rest,
                Poll::Ready(Err(_)) => return Turn::Failed,
                Poll::Ready(Ok(())) => {}
            }
            let read = socket.send(|space| match upstream.try_read(space) {
                Ok(count) => (count, Ok(count)),
                Err(error) => (0, Err(error)),
            });
            match read {
                Ok(Ok(0)) => {
                    self.upstream_ended = true;
                    socket.close();
                }
                Ok(Ok(count)) => {
                    moved += count;
                    self.received_bytes += count as u64;
                }
                // Readiness was a false alarm; asking again registers the waker.
                Ok(Err(error)) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Ok(Err(_)) => return Turn::Failed,
                Err(_) => return Turn::Rest,
            }
        }
        Turn::Rest
    }

    fn pump_out(&mut self) -> Turn {
        let Some(upstream) = &mut self.upstream else { return Turn::Rest };
        let waker = Waker::from(Arc::clone(&self.waker));
        let mut context = Context::from_waker(&waker);
        let socket: &mut tcp::Socket<'_> = self.sockets.get_mut(self.handle);
        let mut moved = 0;
        while socket.can_recv() {
            if moved >= TURN_BYTES {
                return Turn::Again;
            }
            match upstream.poll_write_ready(&mut context) {
                Poll::Pending => return Turn::Rest,
                Poll::Ready(Err(_)) => return Turn::Failed,
                Poll::Ready(Ok(())) => {}
            }
            let written = socket.recv(|bytes| match upstream.try_write(bytes) {
                Ok(count) => (count, Ok(count)),
                Err(error) => (0, Err(error)),
            });
            match written {
                Ok(Ok(count)) => {
                    moved += count;
                    self.sent_bytes += count as u64;
                }
                Ok(Err(error)) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Ok(Err(_)) => return Turn::Failed,
                Err(_) => break,
            }
        }
        // `Finished` is the guest's FIN; a reset gives another error.
        if !self.guest_ended && matches!(socket.peek(1), Err(tcp::RecvError::Finished)) {
            self.guest_ended = true;
            // An upstream that is gone already will say so when it is read.
            let _ = upstream.end_writing(&mut context);
        }
        Turn::Rest
    }
}
