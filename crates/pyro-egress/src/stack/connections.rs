//! TCP connections: from a SYN to the event that tells how it ended.
//!
//! The host connects before the guest's SYN is answered, so a refused port looks refused to the guest and an unreachable host unreachable;
//! a SYN that comes again while the host is connecting is dropped. Only then are buffers allocated.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use smoltcp::iface::PollResult;
use smoltcp::socket::tcp;
use smoltcp::wire::{Icmpv4DstUnreachable, IpProtocol, TcpPacket};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::AbortHandle;

use crate::dns::serve_stream;
use crate::event::{End, Event, FlowId};
use crate::policy::{Grant, Name, Protocol, Reason, Refusal, Rule};

use super::emit;
use super::flow::{Flow, Stage, Turn, Upstream};
use super::link::Port;
use super::ready::Token;
use super::run::Stack;

/// Linux gives up on a SYN after two minutes; clients in a guest would rather hear sooner.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// A guest is one hop away: its part of the handshake takes no time, unless it does not mean to complete it.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may be silent; RFC 5382, 5 asks NATs for two hours and four minutes.
const IDLE_TIMEOUT: Duration = Duration::from_secs(7440);
/// What a refused client of plain HTTP may take to send its request, and then to read why.
pub(super) const PARTING_TIMEOUT: Duration = Duration::from_secs(5);
/// IP and TCP headers with all their options. Data with a SYN (RFC 7413) needs a cookie that nobody gave the guest.
const SYN_BYTES_MAX: usize = 120;
const IP_HEADER_BYTES: usize = 20;
const HTTP_PORT: u16 = 80;
pub(super) const DNS_PORT: u16 = 53;
/// The least a connection works with.
const BUFFER_BYTES_MIN: usize = 16 * 1024;
/// A new connection gets no more than this part of what is left, so that the first ones do not take all.
const BUFFER_SHARE: usize = 64;

/// Linux answers no more than so many unexpected SYNs a second (`tcp_challenge_ack_limit`, before 6.3).
const PARTED_MAX: usize = 1000;

/// What tells a guest's connections apart: it has only one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct FlowKey {
    pub(super) guest_port: u16,
    pub(super) destination: SocketAddrV4,
}

/// A connection whose SYN waits until the host has reached the destination.
#[derive(Debug)]
pub(super) struct Connecting {
    key: FlowKey,
    syn: Box<[u8]>,
    grant: Grant,
    name: Option<Name>,
    attempt: AbortHandle,
}

impl Stack {
    pub(super) fn segment(&mut self, packet: &[u8], destination: Ipv4Addr) {
        let segment = match TcpPacket::new_checked(&packet[IP_HEADER_BYTES..]) {
            Ok(segment) if segment.src_port() != 0 && segment.dst_port() != 0 => segment,
            _ => {
                self.counters.malformed += 1;
                return;
            }
        };
        let key = FlowKey { guest_port: segment.src_port(), destination: SocketAddrV4::new(destination, segment.dst_port()) };
        match self.keys.get(&key).copied() {
            Some(id) if self.flows.contains_key(&id) => {
                self.feed(id, packet);
                self.make_busy(id);
            }
            Some(id) if segment.rst() => self.forget_connecting(id),
            // Its SYN again: it will be answered when there is an answer.
            Some(_) => {}
            None if segment.rst() => {}
            None if segment.syn() && !segment.ack() && !segment.fin() && packet.len() <= SYN_BYTES_MAX => self.open(key, packet),
            // Of a connection that is over, or was never one: after a fork or a restore a guest has many of them.
            None => self.reset(packet),
        }
    }

    /// Returns whether a destination is answered by our resolver: the gateway's, and any other out in the world that no rule names as
    /// an address. What a program has as its resolver built in then works, and is judged like everything else.
    pub(super) fn is_for_resolver(&self, protocol: Protocol, destination: SocketAddrV4) -> bool {
        if destination.port() != DNS_PORT {
            return false;
        }
        let address = *destination.ip();
        if address == self.configuration.gateway_address {
            return true;
        }
        let named = matches!(self.policy.judge_dial(protocol, address, Some(DNS_PORT), &[]), Ok(Grant::Address(_)));
        !named && self.policy.judge_answer(address).is_ok()
    }

    fn open(&mut self, key: FlowKey, syn: &[u8]) {
        let destination = key.destination;
        let address = *destination.ip();
        let names = self.learnt.names_at(address, self.now);
        let for_resolver = self.is_for_resolver(Protocol::Tcp, destination);
        let verdict = if self.keys.len() >= self.configuration.caps.tcp_flows {
            Err(Refusal::final_word(Reason::TooMany("connections")))
        } else if for_resolver {
            Ok(Grant::Open)
        } else if address == self.configuration.gateway_address {
            Err(Refusal::final_word(Reason::NotServed))
        } else {
            self.policy.judge_dial(Protocol::Tcp, address, Some(destination.port()), &names)
        };
        let id = self.take_id();
        match verdict {
            Ok(_) if for_resolver => self.open_to_resolver(id, key, syn),
            Ok(grant) => {
                let name = match &grant {
                    Grant::Name { name, .. } => Some(name.clone()),
                    Grant::Open | Grant::Address(_) => names.last().cloned(),
                };
                self.make_room_for_half_open();
                let attempt = self.connects.spawn(connect(id, destination));
                self.keys.insert(key, id);
                self.half_open.insert(id);
                self.connecting.insert(id, Connecting { key, syn: syn.into(), grant, name, attempt });
            }
            Err(refusal) => {
                let name = names.last().cloned();
                self.tell(Event::Refused { id: Some(id), protocol: Protocol::Tcp, destination, name, refusal: refusal.clone() });
                if destination.port() == HTTP_PORT && !matches!(refusal.reason, Reason::TooMany(_)) {
                    let stage = Stage::Pleading { refusal, until: self.now + PARTING_TIMEOUT };
                    self.make_room_for_half_open();
                    let mut flow = self.new_flow(id, key, stage);
                    flow.told = false;
                    self.admit(key, flow, syn);
                } else {
                    self.reset(syn);
                }
            }
        }
    }

    fn open_to_resolver(&mut self, id: FlowId, key: FlowKey, syn: &[u8]) {
        let Ok((ours, theirs)) = UnixStream::pair() else {
            self.reset(syn);
            return;
        };
        self.servers.spawn(serve_stream(theirs, self.stream_questions.clone()));
        self.make_room_for_half_open();
        let mut flow = self.new_flow(id, key, Stage::Spliced);
        flow.told = false;
        flow.upstream = Some(Upstream::Local(ours));
        self.admit(key, flow, syn);
    }

    /// Takes the host's verdict on a destination.
    pub(super) fn connected(&mut self, id: FlowId, result: io::Result<TcpStream>) {
        let Some(Connecting { key, syn, grant, name, .. }) = self.connecting.remove(&id) else { return };
        let destination = key.destination;
        match result {
            Ok(stream) => {
                // The guest's stack has decided about small segments already.
                let _ = stream.set_nodelay(true);
                let allowed_by = allowing_rule(&grant);
                let mut flow = self.new_flow(id, key, Stage::Judging { grant, since: None });
                flow.name = name.clone();
                flow.upstream = Some(Upstream::Host(stream));
                self.tell(Event::Opened { id, protocol: Protocol::Tcp, destination, name, allowed_by });
                self.admit(key, flow, &syn);
            }
            Err(error) => {
                self.keys.remove(&key);
                self.half_open.remove(&id);
                let cause = error.kind();
                if matches!(cause, io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable) {
                    self.unreachable_connection(key, &syn, Icmpv4DstUnreachable::HostUnreachable);
                } else if matches!(cause, io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown) {
                    self.unreachable_connection(key, &syn, Icmpv4DstUnreachable::NetUnreachable);
                } else {
                    self.reset(&syn);
                }
                self.tell(Event::Unreachable { id, destination, name, cause });
            }
        }
    }

    fn unreachable_connection(&mut self, key: FlowKey, syn: &[u8], reason: Icmpv4DstUnreachable) {
        let source = SocketAddrV4::new(self.configuration.guest_address, key.guest_port);
        let Some(first_bytes) = syn[IP_HEADER_BYTES..].first_chunk::<8>() else { return };
        emit::unreachable(&mut self.output, &self.configuration, reason, source, key.destination, IpProtocol::Tcp, *first_bytes);
    }

    fn new_flow(&mut self, id: FlowId, key: FlowKey, stage: Stage) -> Box<Flow> {
        let caps = self.configuration.caps;
        // Each connection has two buffers.
        let left = caps.buffers_total_bytes.saturating_sub(self.counters.buffer_bytes) / 2;
        let buffer_bytes = (left / BUFFER_SHARE).min(caps.flow_buffer_bytes).max(BUFFER_BYTES_MIN);
        self.counters.buffer_bytes += 2 * buffer_bytes;
        let waker = self.ready.waker(Token::Tcp(id));
        Box::new(Flow::new(id, key.guest_port, key.destination, stage, waker, buffer_bytes))
    }

    fn admit(&mut self, key: FlowKey, flow: Box<Flow>, syn: &[u8]) {
        let id = flow.id;
        self.keys.insert(key, id);
        self.half_open.insert(id);
        self.flows.insert(id, flow);
        self.feed(id, syn);
        self.make_busy(id);
    }

    // Ids grow, so the first is the oldest.
    fn make_room_for_half_open(&mut self) {
        while self.half_open.len() >= self.configuration.caps.half_open_flows.max(1) {
            let Some(oldest) = self.half_open.pop_first() else { return };
            self.counters.half_open_evicted += 1;
            self.forget_connecting(oldest);
            if let Some(flow) = self.flows.get_mut(&oldest) {
                flow.abort(End::Evicted);
                self.close(oldest, End::Evicted);
            }
        }
    }

    fn forget_connecting(&mut self, id: FlowId) {
        if let Some(connecting) = self.connecting.remove(&id) {
            connecting.attempt.abort();
            self.keys.remove(&connecting.key);
            self.half_open.remove(&id);
        }
    }

    fn feed(&mut self, id: FlowId, packet: &[u8]) {
        let tick = self.tick();
        let Some(flow) = self.flows.get_mut(&id) else { return };
        let mut port = Port { packet: Some(packet), output: &mut self.output, mtu_bytes: self.configuration.mtu_bytes };
        self.interface.poll_ingress_single(tick, &mut port, &mut flow.sockets);
    }

    fn reset(&mut self, packet: &[u8]) {
        let tick = self.tick();
        let mut port = Port { packet: Some(packet), output: &mut self.output, mtu_bytes: self.configuration.mtu_bytes };
        self.interface.poll_ingress_single(tick, &mut port, &mut self.nobody);
    }

    pub(super) fn make_busy(&mut self, id: FlowId) {
        if let Some(flow) = self.flows.get_mut(&id).filter(|flow| !flow.busy) {
            flow.busy = true;
            self.busy.push_back(id);
        }
    }

    /// Gives a connection its turn.
    pub(super) fn serve(&mut self, id: FlowId) {
        let now = self.now;
        let Some(flow) = self.flows.get_mut(&id) else { return };
        flow.busy = false;
        let mut turn = flow.turn(now);
        if matches!(flow.stage, Stage::Judging { .. } | Stage::Pleading { .. }) {
            self.judge(id);
            let Some(flow) = self.flows.get_mut(&id) else { return };
            if matches!(flow.stage, Stage::Spliced) {
                turn = flow.turn(now);
            }
        }
        let tick = self.tick();
        let Some(flow) = self.flows.get_mut(&id) else { return };
        if !flow.parted {
            let mut port = Port { packet: None, output: &mut self.output, mtu_bytes: self.configuration.mtu_bytes };
            while self.interface.poll_egress(tick, &mut port, &mut flow.sockets) == PollResult::SocketStateChanged {}
            flow.parted = flow.state() == tcp::State::TimeWait && self.output.has_room();
        }
        if flow.established {
            self.half_open.remove(&id);
        }
        if let Some(end) = flow.over() {
            self.close(id, end);
        } else {
            self.arm(id);
            if turn == Turn::Again || !self.output.has_room() {
                self.make_busy(id);
            }
        }
    }

    fn arm(&mut self, id: FlowId) {
        let (tick, now) = (self.tick(), self.now);
        let Some(flow) = self.flows.get_mut(&id) else { return };
        let due = if flow.parted { None } else { self.interface.poll_at(tick, &flow.sockets) };
        let idle = flow.active + IDLE_TIMEOUT;
        let deadline = [stage_deadline(flow), Some(idle)].into_iter().flatten().min().unwrap_or(idle);
        let mut armed = flow.armed;
        // What is due at once waits only for room, and is served when there is some; a moment later is soon enough to look.
        let due = due.map(|due| self.instant(due).max(now + Duration::from_millis(1)));
        self.timers.set(Token::Tcp(id), &mut armed, due.map_or(deadline, |due| due.min(deadline)));
        if let Some(flow) = self.flows.get_mut(&id) {
            flow.armed = armed;
        }
    }

    pub(super) fn flow_is_due(&mut self, id: FlowId) {
        let now = self.now;
        let Some(flow) = self.flows.get_mut(&id) else { return };
        flow.armed = None;
        let judging = matches!(flow.stage, Stage::Judging { .. });
        // An opening that is never completed is for `judge` to judge.
        let expired = stage_deadline(flow).is_some_and(|deadline| deadline <= now) && (!judging || !flow.established);
        if expired || flow.active + IDLE_TIMEOUT <= now {
            flow.abort(End::TimedOut);
        }
        self.make_busy(id);
    }

    pub(super) fn close(&mut self, id: FlowId, end: End) {
        let Some(mut flow) = self.flows.remove(&id) else { return };
        self.timers.clear(Token::Tcp(id), &mut flow.armed);
        self.half_open.remove(&id);
        self.keys.remove(&FlowKey { guest_port: flow.guest_port, destination: flow.destination });
        self.counters.buffer_bytes -= 2 * flow.buffer_bytes;
        if end == End::ResetByGuest {
            flow.drop_upstream();
        }
        if flow.told {
            let duration = self.now.saturating_duration_since(flow.opened);
            self.tell(Event::Closed {
                id,
                protocol: Protocol::Tcp,
                destination: flow.destination,
                name: flow.name,
                sent_bytes: flow.sent_bytes,
                received_bytes: flow.received_bytes,
                duration,
                end,
            });
        }
    }

    /// Applies a new policy to what is open. Returns how many connections it ended.
    pub(super) fn rejudge_connections(&mut self) -> usize {
        let mut ended = 0;
        let connecting: Vec<FlowId> = self.connecting.keys().copied().collect();
        for id in connecting {
            let Some(Connecting { key, name, .. }) = self.connecting.get(&id) else { continue };
            let (key, name) = (*key, name.clone());
            match self.judge_again(key.destination, name.as_ref()) {
                Ok(grant) => {
                    if let Some(connecting) = self.connecting.get_mut(&id) {
                        connecting.grant = grant;
                    }
                }
                Err(refusal) => {
                    if let Some(connecting) = self.connecting.get(&id) {
                        let syn = connecting.syn.clone();
                        self.reset(&syn);
                    }
                    self.forget_connecting(id);
                    self.tell(Event::Refused { id: Some(id), protocol: Protocol::Tcp, destination: key.destination, name, refusal });
                    ended += 1;
                }
            }
        }
        let open: Vec<FlowId> = self.flows.values().filter(|flow| flow.told && flow.end.is_none()).map(|flow| flow.id).collect();
        for id in open {
            let Some(flow) = self.flows.get(&id) else { continue };
            let (destination, name) = (flow.destination, flow.name.clone());
            let verdict = self.judge_again(destination, name.as_ref());
            let Some(flow) = self.flows.get_mut(&id) else { continue };
            match (verdict, &mut flow.stage) {
                (Ok(new), Stage::Judging { grant, .. }) => *grant = new,
                (Ok(_), _) | (Err(_), Stage::Parting { .. }) => {}
                (Err(refusal), _) => {
                    flow.abort(End::Refused);
                    self.make_busy(id);
                    self.tell(Event::Refused { id: Some(id), protocol: Protocol::Tcp, destination, name, refusal });
                    ended += 1;
                }
            }
        }
        ended
    }

    /// Provokes the guest into saying where it stands in connections that nobody knows here, and into being told so by a reset.
    pub(super) fn part_with(&mut self, connections: Vec<(u16, SocketAddrV4)>) {
        for (guest_port, destination) in connections.into_iter().take(PARTED_MAX) {
            if !self.keys.contains_key(&FlowKey { guest_port, destination }) {
                emit::syn(&mut self.output, &self.configuration, destination, guest_port);
            }
        }
    }

    // By the name it was judged to be for, however long ago its address was learnt.
    fn judge_again(&self, destination: SocketAddrV4, name: Option<&Name>) -> Result<Grant, Refusal> {
        let names = match name {
            Some(name) => vec![name.clone()],
            None => self.learnt.names_at(*destination.ip(), self.now),
        };
        self.policy.judge_dial(Protocol::Tcp, *destination.ip(), Some(destination.port()), &names)
    }
}

pub(super) fn allowing_rule(grant: &Grant) -> Option<Rule> {
    match grant {
        Grant::Open => None,
        Grant::Address(rule) | Grant::Name { rule, .. } => Some(rule.clone()),
    }
}

fn stage_deadline(flow: &Flow) -> Option<Instant> {
    let handshake = (!flow.established).then(|| flow.opened + HANDSHAKE_TIMEOUT);
    let stage = match flow.stage {
        Stage::Judging { since, .. } => since.map(|since| since + super::judging::JUDGING_TIMEOUT),
        Stage::Spliced => None,
        Stage::Pleading { until, .. } | Stage::Parting { until } => Some(until),
    };
    [handshake, stage].into_iter().flatten().min()
}

async fn connect(id: FlowId, destination: SocketAddrV4) -> (FlowId, io::Result<TcpStream>) {
    let attempt = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(destination)).await;
    (id, attempt.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())))
}
