//! What a stack tells about itself: every connection, every refusal, every question.
//!
//! Events wait in a bounded queue. A guest can cause them faster than anybody reads, so what does not fit is dropped and counted
//! (`Counters::events_dropped`). All names in them are [`Name`]s and therefore printable and bounded.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::policy::{Name, Protocol, Refusal, Rule};

/// The number of a connection or association, never reused within a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowId(pub u64);

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The host reached the destination of a connection, or the first datagram of an association was let out.
    Opened {
        /// Its number.
        id: FlowId,
        /// What it is made with.
        protocol: Protocol,
        /// Where it goes; the port of an echo request is 0.
        destination: SocketAddrV4,
        /// The name it is for, as far as DNS tells; the connection itself may tell another when it is closed.
        name: Option<Name>,
        /// The rule that allowed it; none while there is no allow-list.
        allowed_by: Option<Rule>,
    },
    /// A connection, datagram or echo request was refused. For one that was open before, `Closed` follows.
    Refused {
        /// Its number, if it had one.
        id: Option<FlowId>,
        /// What it was made with.
        protocol: Protocol,
        /// Where it was to go.
        destination: SocketAddrV4,
        /// The name it was for, if known.
        name: Option<Name>,
        /// Why, and what would allow it.
        refusal: Refusal,
    },
    /// The host could not reach the destination.
    Unreachable {
        /// Its number.
        id: FlowId,
        /// Where it was to go.
        destination: SocketAddrV4,
        /// The name it was for, if known.
        name: Option<Name>,
        /// What the host said.
        cause: std::io::ErrorKind,
    },
    /// An opened connection or association is over.
    Closed {
        /// Its number.
        id: FlowId,
        /// What it was made with.
        protocol: Protocol,
        /// Where it went.
        destination: SocketAddrV4,
        /// The name it was for, if known.
        name: Option<Name>,
        /// Bytes that the guest sent and the host took.
        sent_bytes: u64,
        /// Bytes that the host sent and that were queued for the guest.
        received_bytes: u64,
        /// How long it was open.
        duration: Duration,
        /// How it ended.
        end: End,
    },
    /// The guest asked for a name.
    Question {
        /// The name; none if it was no name.
        name: Option<Name>,
        /// The type of record, such as `A`.
        kind: String,
        /// What it was told.
        outcome: QuestionOutcome,
    },
}

/// How a connection or association ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Both sides closed it.
    Finished,
    /// The guest reset it.
    ResetByGuest,
    /// The destination reset it, or the host lost it.
    ResetByPeer,
    /// The policy ended it.
    Refused,
    /// It was silent for too long, or the guest stopped answering.
    TimedOut,
    /// It made room for another one.
    Evicted,
    /// The machine closed its link.
    Closed,
}

/// What a guest was told about a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QuestionOutcome {
    /// An answer.
    Answered {
        /// The addresses in it.
        addresses: Vec<Ipv4Addr>,
        /// How many other records were in it.
        other_records: usize,
        /// Why addresses were left out, for the first one.
        stripped: Option<(Ipv4Addr, Refusal)>,
    },
    /// That there is no such name.
    NoSuchName,
    /// That it is refused.
    Refused(Refusal),
    /// That it failed: no resolver gave a usable reply.
    Failed,
}

/// The events of one stack, in order. Ends when the stack has.
#[derive(Debug)]
pub struct Events(pub(crate) mpsc::Receiver<Event>);

impl Events {
    /// Waits for the next event. Dropping the future loses none.
    pub async fn next(&mut self) -> Option<Event> {
        self.0.recv().await
    }

    /// Returns the next event if it has already happened.
    pub fn try_next(&mut self) -> Option<Event> {
        self.0.try_recv().ok()
    }
}

/// What a stack holds now and has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames that came from the guest.
    pub frames_in: u64,
    /// Frames that went to the guest.
    pub frames_out: u64,
    /// Frames that were too short or contradicted themselves.
    pub malformed: u64,
    /// Frames with another's hardware or IP address as their source.
    pub spoofed: u64,
    /// IPv6 frames.
    pub ipv6: u64,
    /// Frames of other ethertypes, to other hardware addresses, or of other IP protocols.
    pub foreign: u64,
    /// Fragments of IP packets, and packets with IP options.
    pub unsupported: u64,
    /// Datagrams and replies that did not fit into a frame or the queue to the guest.
    pub undeliverable: u64,
    /// Half-open connections that made room for others.
    pub half_open_evicted: u64,
    /// Events that did not fit into their queue.
    pub events_dropped: u64,
    /// TCP connections now, in any state.
    pub tcp_flows: usize,
    /// Of those, the half-open ones.
    pub half_open_flows: usize,
    /// Bytes of their buffers.
    pub buffer_bytes: usize,
    /// UDP associations now.
    pub udp_associations: usize,
    /// Echo associations now.
    pub echo_associations: usize,
    /// Tasks that serve questions by stream or watch an association, and those that have ended since the last turn.
    pub helper_tasks: usize,
    /// Questions that wait for a resolver.
    pub questions_in_flight: usize,
    /// Pairs of address and name that are remembered.
    pub learnt_pairs: usize,
}
