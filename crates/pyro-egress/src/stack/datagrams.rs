//! Datagrams and echo requests: associations of a guest's port (or echo identifier) and one destination with one socket of the host.
//!
//! Each socket is connected to its destination, so nobody else's datagrams come back through it, and the host's ICMP errors reach the
//! right sender. The same holds for echo, where the host lets ordinary users send it (`net.ipv4.ping_group_range`).

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use rustix::net::SendFlags;
use smoltcp::wire::Icmpv4DstUnreachable;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::task::AbortHandle;

use crate::event::{End, Event, FlowId};
use crate::policy::{Grant, Name, Protocol, Reason, Refusal};

use super::connections::{FlowKey, allowing_rule};
use super::emit::{self, Emitted};
use super::ready::{Token, TokenWaker};
use super::run::Stack;

/// RFC 4787, 4.3 asks for two minutes or more where nothing is known about the protocol.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// How many datagrams of one socket are taken before others have their turn.
const DATAGRAMS_PER_TURN: usize = 64;
const ECHO_REQUEST: u8 = 8;
const ECHO_HEADER_BYTES: usize = 8;

/// An association; for echo, the guest's port is the identifier and the destination's port is 0.
#[derive(Debug)]
pub(super) struct Association {
    key: FlowKey,
    protocol: Protocol,
    name: Option<Name>,
    socket: Arc<UdpSocket>,
    waker: Arc<TokenWaker>,
    watch: AbortHandle,
    opened: Instant,
    active: Instant,
    armed: Option<Instant>,
    sent_bytes: u64,
    received_bytes: u64,
}

/// All associations, those of echo apart from the others, so that neither pushes the other out.
#[derive(Debug, Default)]
pub(super) struct Associations {
    by_id: HashMap<FlowId, Association>,
    udp: HashMap<FlowKey, FlowId>,
    echo: HashMap<FlowKey, FlowId>,
    buffer: Vec<u8>,
}

impl Associations {
    pub(super) fn udp_count(&self) -> usize {
        self.udp.len()
    }

    pub(super) fn echo_count(&self) -> usize {
        self.echo.len()
    }

    fn keys(&mut self, protocol: Protocol) -> &mut HashMap<FlowKey, FlowId> {
        match protocol {
            Protocol::Echo => &mut self.echo,
            Protocol::Udp | Protocol::Tcp => &mut self.udp,
        }
    }

    fn longest_silent(&self, protocol: Protocol) -> Option<FlowId> {
        let of_protocol = self.by_id.iter().filter(|(_, association)| association.protocol == protocol);
        of_protocol.min_by_key(|(id, association)| (association.active, **id)).map(|(id, _)| *id)
    }
}

const fn token(protocol: Protocol, id: FlowId) -> Token {
    match protocol {
        Protocol::Echo => Token::Echo(id),
        Protocol::Udp | Protocol::Tcp => Token::Udp(id),
    }
}

impl Stack {
    pub(super) fn send_datagram(&mut self, guest_port: u16, destination: SocketAddrV4, payload: &[u8]) {
        match self.associate(Protocol::Udp, FlowKey { guest_port, destination }) {
            Ok(id) => self.send(id, payload),
            Err(refusal) => self.refuse_datagram(guest_port, destination, payload.len(), refusal),
        }
    }

    pub(super) fn send_echo(&mut self, destination: Ipv4Addr, ident: u16, seq_no: u16, data: &[u8]) {
        let key = FlowKey { guest_port: ident, destination: SocketAddrV4::new(destination, 0) };
        let [seq_high, seq_low] = seq_no.to_be_bytes();
        // The kernel fills in checksum and identifier.
        let request = [&[ECHO_REQUEST, 0, 0, 0, 0, 0, seq_high, seq_low], data].concat();
        match self.associate(Protocol::Echo, key) {
            Ok(id) => self.send(id, &request),
            Err(refusal) => {
                self.unreachable_echo(key, [ECHO_REQUEST, 0, 0, 0, 0, 0, seq_high, seq_low], Icmpv4DstUnreachable::CommProhibited);
                let name = self.learnt.names_at(destination, self.now).pop();
                self.tell(Event::Refused { id: None, protocol: Protocol::Echo, destination: key.destination, name, refusal });
            }
        }
    }

    fn unreachable_echo(&mut self, key: FlowKey, mut first_bytes: [u8; 8], reason: Icmpv4DstUnreachable) {
        first_bytes[4..6].copy_from_slice(&key.guest_port.to_be_bytes());
        let source = SocketAddrV4::new(self.configuration.guest_address, 0);
        let protocol = smoltcp::wire::IpProtocol::Icmp;
        emit::unreachable(&mut self.output, &self.configuration, reason, source, key.destination, protocol, first_bytes);
    }

    // Finds the association or makes one, if the policy lets it.
    fn associate(&mut self, protocol: Protocol, key: FlowKey) -> Result<FlowId, Refusal> {
        if let Some(id) = self.associations.keys(protocol).get(&key) {
            return Ok(*id);
        }
        let address = *key.destination.ip();
        let names = self.learnt.names_at(address, self.now);
        let grant = self.policy.judge_dial(protocol, address, port_of(protocol, key), &names)?;
        let cap = match protocol {
            Protocol::Echo => self.configuration.caps.echo_associations,
            Protocol::Udp | Protocol::Tcp => self.configuration.caps.udp_associations,
        };
        while self.associations.keys(protocol).len() >= cap.max(1) {
            let Some(oldest) = self.associations.longest_silent(protocol) else { break };
            self.dissociate(oldest, End::Evicted);
        }
        let socket = match protocol {
            Protocol::Echo => echo_socket(address),
            Protocol::Udp | Protocol::Tcp => datagram_socket(key.destination),
        };
        let socket = Arc::new(socket.map_err(|_| Refusal::final_word(Reason::HostCannot))?);
        let id = self.take_id();
        let name = match &grant {
            Grant::Name { name, .. } => Some(name.clone()),
            Grant::Open | Grant::Address(_) => names.last().cloned(),
        };
        let waker = self.ready.waker(token(protocol, id));
        // The first look registers the waker with the socket.
        waker.queue();
        let watch = self.servers.spawn(watch_errors(Arc::clone(&socket), Arc::clone(&waker)));
        let association = Association {
            key,
            protocol,
            name: name.clone(),
            socket,
            waker,
            watch,
            opened: self.now,
            active: self.now,
            armed: None,
            sent_bytes: 0,
            received_bytes: 0,
        };
        self.associations.by_id.insert(id, association);
        self.associations.keys(protocol).insert(key, id);
        self.arm_association(id);
        self.tell(Event::Opened { id, protocol, destination: key.destination, name, allowed_by: allowing_rule(&grant) });
        Ok(id)
    }

    fn send(&mut self, id: FlowId, payload: &[u8]) {
        let Some(association) = self.associations.by_id.get_mut(&id) else { return };
        association.active = self.now;
        // Not by tokio, which takes a socket for unready until its driver has looked at it: the first datagram would be lost.
        match rustix::net::send(&association.socket, payload, SendFlags::empty()) {
            Ok(count) => association.sent_bytes += count as u64,
            // Datagrams may be lost; a full socket loses them as a full wire does.
            Err(rustix::io::Errno::AGAIN) => self.counters.undeliverable += 1,
            Err(error) => self.tell_unreachable(id, &error.into()),
        }
    }

    pub(super) fn receive_datagrams(&mut self, id: FlowId) {
        self.receive(id, |stack, key, payload| {
            let guest = SocketAddrV4::new(stack.configuration.guest_address, key.guest_port);
            emit::datagram(&mut stack.output, stack.configuration.mtu_bytes, key.destination, guest, payload)
        });
    }

    pub(super) fn receive_echoes(&mut self, id: FlowId) {
        self.receive(id, |stack, key, payload| {
            let Some((header, data)) = payload.split_first_chunk::<ECHO_HEADER_BYTES>() else { return Emitted::TooLong };
            let (source, guest) = (*key.destination.ip(), stack.configuration.guest_address);
            let ident_and_number = (key.guest_port, u16::from_be_bytes([header[6], header[7]]));
            emit::echo_reply(&mut stack.output, stack.configuration.mtu_bytes, source, guest, ident_and_number, data)
        });
    }

    fn receive(&mut self, id: FlowId, emit: impl Fn(&mut Self, FlowKey, &[u8]) -> Emitted) {
        let mut buffer = std::mem::take(&mut self.associations.buffer);
        // One byte more than fits shows what does not.
        buffer.resize(usize::from(self.configuration.mtu_bytes) + 1, 0);
        let mut failure = None;
        for turn in 0.. {
            let Some(association) = self.associations.by_id.get_mut(&id) else { break };
            if turn == 0 {
                association.waker.begin();
            }
            if turn == DATAGRAMS_PER_TURN || !self.output.has_room() {
                association.waker.queue();
                break;
            }
            let waker = Waker::from(Arc::clone(&association.waker));
            match association.socket.poll_recv_ready(&mut Context::from_waker(&waker)) {
                Poll::Pending => {
                    // It may have been an error that woke us.
                    failure = association.socket.take_error().ok().flatten();
                    break;
                }
                Poll::Ready(_) => {}
            }
            match association.socket.try_recv(&mut buffer) {
                Ok(count) => {
                    association.active = self.now;
                    association.received_bytes += count as u64;
                    let key = association.key;
                    if emit(self, key, &buffer[..count]) == Emitted::TooLong {
                        self.counters.undeliverable += 1;
                    }
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(error) => {
                    failure = Some(error);
                    association.waker.queue();
                    break;
                }
            }
        }
        self.associations.buffer = buffer;
        if let Some(error) = failure {
            self.tell_unreachable(id, &error);
        }
    }

    // The socket stays: a port that is closed now may be open for the next datagram.
    fn tell_unreachable(&mut self, id: FlowId, error: &io::Error) {
        let Some(association) = self.associations.by_id.get(&id) else { return };
        let (key, protocol) = (association.key, association.protocol);
        let Some(reason) = unreachable_reason(error.kind()) else {
            self.counters.undeliverable += 1;
            return;
        };
        match protocol {
            Protocol::Echo => self.unreachable_echo(key, [ECHO_REQUEST, 0, 0, 0, 0, 0, 0, 0], reason),
            Protocol::Udp | Protocol::Tcp => {
                let first_bytes = emit::udp_first_bytes(key.guest_port, key.destination.port(), 0);
                self.unreachable_datagram(key.guest_port, key.destination, first_bytes, reason);
            }
        }
    }

    fn arm_association(&mut self, id: FlowId) {
        if let Some(association) = self.associations.by_id.get_mut(&id) {
            let deadline = association.active + IDLE_TIMEOUT;
            self.timers.set(token(association.protocol, id), &mut association.armed, deadline);
        }
    }

    pub(super) fn association_is_due(&mut self, token: Token) {
        let (Token::Udp(id) | Token::Echo(id) | Token::Tcp(id)) = token;
        let Some(association) = self.associations.by_id.get_mut(&id) else { return };
        association.armed = None;
        if association.active + IDLE_TIMEOUT <= self.now {
            self.dissociate(id, End::TimedOut);
        } else {
            self.arm_association(id);
        }
    }

    fn dissociate(&mut self, id: FlowId, end: End) {
        let Some(mut association) = self.associations.by_id.remove(&id) else { return };
        let protocol = association.protocol;
        self.associations.keys(protocol).remove(&association.key);
        self.timers.clear(token(protocol, id), &mut association.armed);
        association.watch.abort();
        self.tell(Event::Closed {
            id,
            protocol,
            destination: association.key.destination,
            name: association.name,
            sent_bytes: association.sent_bytes,
            received_bytes: association.received_bytes,
            duration: self.now.saturating_duration_since(association.opened),
            end,
        });
    }

    /// Ends all associations: the machine has gone.
    pub(super) fn part_associations(&mut self) {
        let open: Vec<FlowId> = self.associations.by_id.keys().copied().collect();
        for id in open {
            self.dissociate(id, End::Closed);
        }
    }

    /// Applies a new policy to all associations. Returns how many it ended.
    pub(super) fn rejudge_associations(&mut self) -> usize {
        let mut refused = Vec::new();
        for (id, association) in &self.associations.by_id {
            let (key, protocol) = (association.key, association.protocol);
            let address = *key.destination.ip();
            let names = match &association.name {
                Some(name) => vec![name.clone()],
                None => self.learnt.names_at(address, self.now),
            };
            if let Err(refusal) = self.policy.judge_dial(protocol, address, port_of(protocol, key), &names) {
                refused.push((*id, protocol, key.destination, association.name.clone(), refusal));
            }
        }
        let count = refused.len();
        for (id, protocol, destination, name, refusal) in refused {
            self.tell(Event::Refused { id: Some(id), protocol, destination, name, refusal });
            self.dissociate(id, End::Refused);
        }
        count
    }
}

fn port_of(protocol: Protocol, key: FlowKey) -> Option<u16> {
    (protocol != Protocol::Echo).then_some(key.destination.port())
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the standard library's kinds are many, and these are the ones routers tell of")]
const fn unreachable_reason(kind: io::ErrorKind) -> Option<Icmpv4DstUnreachable> {
    match kind {
        io::ErrorKind::ConnectionRefused => Some(Icmpv4DstUnreachable::PortUnreachable),
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown => Some(Icmpv4DstUnreachable::NetUnreachable),
        io::ErrorKind::HostUnreachable => Some(Icmpv4DstUnreachable::HostUnreachable),
        // The host's own firewall says no like this.
        io::ErrorKind::PermissionDenied => Some(Icmpv4DstUnreachable::CommProhibited),
        _ => None,
    }
}

// tokio wakes a reader for data only, and what an ICMP message leaves on a socket is an error without data.
async fn watch_errors(socket: Arc<UdpSocket>, waker: Arc<TokenWaker>) {
    while socket.ready(Interest::ERROR).await.is_ok() {
        waker.queue();
        // Says that this error has been seen, so that the next one is waited for.
        let _ = socket.try_io(Interest::ERROR, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
    }
}

// Connecting a datagram socket sends nothing and waits for nothing.
fn datagram_socket(destination: SocketAddrV4) -> io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_nonblocking(true)?;
    socket.connect(destination)?;
    UdpSocket::from_std(socket)
}

// `man 7 icmp`, "ping sockets": the kernel lets only echo requests out and only their replies in.
fn echo_socket(destination: Ipv4Addr) -> io::Result<UdpSocket> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = std::net::UdpSocket::from(socket_with(AddressFamily::INET, SocketType::DGRAM, flags, Some(ipproto::ICMP))?);
    socket.connect(SocketAddr::from((destination, 0)))?;
    UdpSocket::from_std(socket)
}
