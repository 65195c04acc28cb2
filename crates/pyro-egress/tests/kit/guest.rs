//! The guest's end: smoltcp's client sockets for what an honest guest does, raw frames for what any guest can do.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use pyro_egress::Configuration;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::wire::{
    EthernetAddress, HardwareAddress, IpCidr, IpProtocol, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, UdpPacket,
    UdpRepr,
};

use super::DEADLINE;

/// How a connection broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    Reset,
}

/// Frames are kept for tests to look at; the oldest go first.
const SEEN_MAX: usize = 50_000;

struct Wire {
    stream: UnixStream,
    input: Vec<u8>,
    waiting: VecDeque<Vec<u8>>,
    output: Vec<u8>,
    mtu: usize,
    muted: bool,
}

pub(crate) struct Guest {
    wire: Wire,
    interface: Interface,
    sockets: SocketSet<'static>,
    started: Instant,
    next_port: u16,
    pub(crate) mac: [u8; 6],
    pub(crate) gateway_mac: [u8; 6],
    pub(crate) address: Ipv4Addr,
    pub(crate) gateway: Ipv4Addr,
    pub(crate) seen: VecDeque<Vec<u8>>,
}

impl Guest {
    pub(crate) fn new(stream: UnixStream, configuration: &Configuration) -> Self {
        stream.set_nonblocking(true).unwrap();
        let mtu = usize::from(configuration.mtu_bytes);
        let mut wire = Wire { stream, input: Vec::new(), waiting: VecDeque::new(), output: Vec::new(), mtu, muted: false };
        let mac = configuration.guest_mac.0;
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(mac)));
        config.random_seed = 7;
        let mut interface = Interface::new(config, &mut wire, smoltcp::time::Instant::ZERO);
        let (address, gateway) = (configuration.guest_address, configuration.gateway_address);
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(address.into(), configuration.prefix_bits)).unwrap();
        });
        interface.routes_mut().add_default_ipv4_route(gateway).unwrap();
        Self {
            wire,
            interface,
            sockets: SocketSet::new(Vec::new()),
            started: Instant::now(),
            next_port: 40_000,
            mac,
            gateway_mac: configuration.gateway_mac.0,
            address,
            gateway,
            seen: VecDeque::new(),
        }
    }

    /// Keeps smoltcp from saying anything meanwhile, so that only raw frames are sent.
    pub(crate) fn mute(&mut self, act: impl FnOnce(&mut Self)) {
        self.wire.muted = true;
        act(self);
        self.wire.muted = false;
    }

    /// Exchanges what can be exchanged without waiting.
    pub(crate) fn poll(&mut self) {
        self.wire.read();
        for frame in &self.wire.waiting {
            if self.seen.len() == SEEN_MAX {
                self.seen.pop_front();
            }
            self.seen.push_back(frame.clone());
        }
        let now = smoltcp::time::Instant::from_micros(self.started.elapsed().as_micros() as i64);
        self.interface.poll(now, &mut self.wire, &mut self.sockets);
        self.wire.write();
    }

    /// Polls until `done` gives a value.
    pub(crate) fn until<T>(&mut self, mut done: impl FnMut(&mut Self) -> Option<T>) -> T {
        let deadline = Instant::now() + DEADLINE;
        loop {
            self.poll();
            if let Some(value) = done(self) {
                return value;
            }
            assert!(Instant::now() < deadline, "what was waited for did not happen");
            // What `done` took makes room that the other end is to hear of.
            self.poll();
            self.wait();
        }
    }

    // Until frames come, or smoltcp's own timers are due.
    fn wait(&self) {
        let mut events = PollFlags::IN;
        if !self.wire.output.is_empty() {
            events |= PollFlags::OUT;
        }
        let timeout = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
        let _ = poll(&mut [PollFd::new(&self.wire.stream, events)], Some(&timeout));
    }

    pub(crate) fn dial(&mut self, destination: SocketAddrV4) -> SocketHandle {
        self.dial_with(destination, 256 * 1024)
    }

    pub(crate) fn dial_with(&mut self, destination: SocketAddrV4, buffer_bytes: usize) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; buffer_bytes]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_ack_delay(None);
        self.next_port += 1;
        socket.connect(self.interface.context(), (*destination.ip(), destination.port()), self.next_port).unwrap();
        self.sockets.add(socket)
    }

    pub(crate) fn tcp(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    pub(crate) fn last_port(&self) -> u16 {
        self.next_port
    }

    /// Connects, or is told that it cannot.
    pub(crate) fn connect(&mut self, destination: SocketAddrV4) -> Result<SocketHandle, Broken> {
        let handle = self.dial(destination);
        self.established(handle)
    }

    pub(crate) fn established(&mut self, handle: SocketHandle) -> Result<SocketHandle, Broken> {
        self.until(|guest| {
            let state = guest.tcp(handle).state();
            if state == tcp::State::Closed {
                return Some(Err(Broken::Reset));
            }
            (!matches!(state, tcp::State::SynSent | tcp::State::SynReceived)).then_some(Ok(handle))
        })
    }

    pub(crate) fn send(&mut self, handle: SocketHandle, bytes: &[u8]) -> Result<(), Broken> {
        let mut rest = bytes;
        self.until(|guest| {
            let socket = guest.tcp(handle);
            match socket.send_slice(rest) {
                Ok(count) => rest = &rest[count..],
                Err(_) => return Some(Err(Broken::Reset)),
            }
            // Flushed within this very poll, or the next one.
            rest.is_empty().then_some(Ok(()))
        })
        .inspect(|()| self.poll())
    }

    pub(crate) fn close(&mut self, handle: SocketHandle) {
        self.tcp(handle).close();
        self.poll();
    }

    /// Forgets a connection that is over, so that later ones are not slowed by it.
    pub(crate) fn forget(&mut self, handle: SocketHandle) {
        self.sockets.remove(handle);
    }

    pub(crate) fn abort(&mut self, handle: SocketHandle) {
        self.tcp(handle).abort();
        self.poll();
    }

    /// Reads until `count` bytes or the end are there.
    pub(crate) fn receive(&mut self, handle: SocketHandle, count: usize) -> Result<Vec<u8>, Broken> {
        let mut bytes = Vec::new();
        self.until(|guest| {
            let socket = guest.tcp(handle);
            while bytes.len() < count && socket.can_recv() {
                let wanted = count - bytes.len();
                socket
                    .recv(|space| {
                        let taken = wanted.min(space.len());
                        bytes.extend_from_slice(&space[..taken]);
                        (taken, ())
                    })
                    .unwrap();
            }
            if bytes.len() == count {
                return Some(Ok(std::mem::take(&mut bytes)));
            }
            match socket.peek(1) {
                Ok(_) => None,
                Err(tcp::RecvError::Finished) => Some(Ok(std::mem::take(&mut bytes))),
                Err(tcp::RecvError::InvalidState) => Some(Err(Broken::Reset)),
            }
        })
    }

    pub(crate) fn receive_to_end(&mut self, handle: SocketHandle) -> Result<Vec<u8>, Broken> {
        self.receive(handle, usize::MAX)
    }

    /// Waits until the connection is reset.
    pub(crate) fn broken(&mut self, handle: SocketHandle) {
        assert_eq!(self.receive_to_end(handle), Err(Broken::Reset));
    }

    pub(crate) fn send_frame(&mut self, frame: &[u8]) {
        self.wire.queue(frame);
        self.wire.write();
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.wire.output.extend_from_slice(bytes);
        self.wire.write();
    }

    pub(crate) fn hang_up(&self) {
        self.wire.stream.shutdown(std::net::Shutdown::Write).unwrap();
    }

    pub(crate) fn frame(&self, ethertype: u16, payload: &[u8]) -> Vec<u8> {
        [&self.gateway_mac[..], &self.mac, &ethertype.to_be_bytes(), payload].concat()
    }

    pub(crate) fn packet(&self, source: Ipv4Addr, destination: Ipv4Addr, protocol: IpProtocol, payload: &[u8]) -> Vec<u8> {
        let header = Ipv4Repr { src_addr: source, dst_addr: destination, next_header: protocol, payload_len: payload.len(), hop_limit: 64 };
        let mut bytes = vec![0; 20 + payload.len()];
        header.emit(&mut Ipv4Packet::new_unchecked(&mut bytes), &ChecksumCapabilities::default());
        bytes[20..].copy_from_slice(payload);
        bytes
    }

    pub(crate) fn send_packet(&mut self, destination: Ipv4Addr, protocol: IpProtocol, payload: &[u8]) {
        let packet = self.packet(self.address, destination, protocol, payload);
        let frame = self.frame(0x0800, &packet);
        self.send_frame(&frame);
    }

    pub(crate) fn send_segment(&mut self, destination: Ipv4Addr, segment: &TcpRepr<'_>) {
        let mut bytes = vec![0; segment.buffer_len()];
        let (source, to) = (self.address.into(), destination.into());
        segment.emit(&mut TcpPacket::new_unchecked(&mut bytes), &source, &to, &ChecksumCapabilities::default());
        self.send_packet(destination, IpProtocol::Tcp, &bytes);
    }

    pub(crate) fn send_datagram(&mut self, port: u16, destination: SocketAddrV4, payload: &[u8]) {
        let header = UdpRepr { src_port: port, dst_port: destination.port() };
        let mut bytes = vec![0; 8 + payload.len()];
        let (source, to) = (self.address.into(), (*destination.ip()).into());
        let mut packet = UdpPacket::new_unchecked(&mut bytes);
        header.emit(&mut packet, &source, &to, payload.len(), |space| space.copy_from_slice(payload), &ChecksumCapabilities::default());
        self.send_packet(*destination.ip(), IpProtocol::Udp, &bytes);
    }

    /// Waits for a frame that `read` makes something of, and takes it out of those seen.
    pub(crate) fn expect_frame<T>(&mut self, read: impl Fn(&[u8]) -> Option<T>) -> T {
        self.until(|guest| {
            let found = guest.seen.iter().enumerate().find_map(|(index, frame)| read(frame).map(|value| (index, value)));
            found.map(|(index, value)| {
                guest.seen.remove(index);
                value
            })
        })
    }

    /// Waits for a datagram from `source` to `port`.
    pub(crate) fn expect_datagram(&mut self, source: SocketAddrV4, port: u16) -> Vec<u8> {
        self.expect_frame(|frame| {
            let packet = packet_of(frame, IpProtocol::Udp).filter(|packet| packet.src_addr() == *source.ip())?;
            let datagram = UdpPacket::new_checked(packet.payload()).ok()?;
            assert!(datagram.verify_checksum(&packet.src_addr().into(), &packet.dst_addr().into()));
            (datagram.src_port() == source.port() && datagram.dst_port() == port).then(|| datagram.payload().to_vec())
        })
    }

    /// Waits for an ICMP message about something sent to `destination`, and returns its code.
    pub(crate) fn expect_unreachable(&mut self, destination: Ipv4Addr) -> u8 {
        self.expect_frame(|frame| {
            let packet = packet_of(frame, IpProtocol::Icmp)?;
            let message = packet.payload();
            let about = Ipv4Packet::new_unchecked(message.get(8..28)?);
            (message[0] == 3 && about.dst_addr() == destination).then_some(message[1])
        })
    }

    /// Waits until everything sent so far has been looked at: the gateway answers an echo request that came after it.
    pub(crate) fn settle(&mut self) {
        self.next_port += 1;
        let [high, low] = self.next_port.to_be_bytes();
        let mut request = vec![8, 0, 0, 0, high, low, 0, 0];
        let sum = !smoltcp::wire::checksum::data(&request);
        request[2..4].copy_from_slice(&sum.to_be_bytes());
        self.send_packet(self.gateway, IpProtocol::Icmp, &request);
        self.expect_frame(|frame| {
            let packet = packet_of(frame, IpProtocol::Icmp)?;
            (packet.payload()[0] == 0 && packet.payload()[4..6] == [high, low]).then_some(())
        });
    }

    /// Asks the resolver at `server` and returns its reply.
    pub(crate) fn ask(&mut self, server: Ipv4Addr, question: &[u8]) -> Vec<u8> {
        self.next_port += 1;
        let (port, server) = (self.next_port, SocketAddrV4::new(server, 53));
        self.send_datagram(port, server, question);
        self.expect_datagram(server, port)
    }
}

/// Returns an ordinary SYN of a guest, number 1.
pub(crate) fn syn(port: u16, destination_port: u16) -> TcpRepr<'static> {
    TcpRepr {
        src_port: port,
        dst_port: destination_port,
        control: TcpControl::Syn,
        seq_number: TcpSeqNumber(1),
        ack_number: None,
        window_len: 1000,
        window_scale: None,
        max_seg_size: Some(1460),
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    }
}

pub(crate) fn packet_of(frame: &[u8], protocol: IpProtocol) -> Option<Ipv4Packet<&[u8]>> {
    let (header, payload) = frame.split_at_checked(14)?;
    let packet = (header[12..14] == [8, 0]).then(|| Ipv4Packet::new_checked(payload).ok())??;
    (packet.next_header() == protocol).then_some(packet)
}

impl Wire {
    fn read(&mut self) {
        let mut buffer = [0; 65_536];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => self.input.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        let mut start = 0;
        while let Some(header) = self.input.get(start..start + 4) {
            let length = u32::from_be_bytes(header.try_into().unwrap()) as usize;
            let Some(frame) = self.input.get(start + 4..start + 4 + length) else { break };
            self.waiting.push_back(frame.to_vec());
            start += 4 + length;
        }
        self.input.drain(..start);
    }

    fn queue(&mut self, frame: &[u8]) {
        self.output.extend((frame.len() as u32).to_be_bytes());
        self.output.extend_from_slice(frame);
    }

    fn write(&mut self) {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // The stack has ended; tests that care look at it.
                Err(_) => self.output.clear(),
            }
        }
    }
}

struct Received(Vec<u8>);
struct Sending<'a>(&'a mut Wire);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let mut frame = vec![0; length];
        let result = write(&mut frame);
        if !self.0.muted {
            self.0.queue(&frame);
        }
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: smoltcp::time::Instant) -> Option<(Received, Sending<'_>)> {
        let frame = self.waiting.pop_front()?;
        Some((Received(frame), Sending(self)))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Sending<'_>> {
        (self.output.len() < 1 << 20).then_some(Sending(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.mtu + 14;
        capabilities
    }
}

/// How long "at once" may take on a busy machine: refusals that took a timeout would be slower.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(3);
