//! What must hold whatever the bytes. Each function takes any and panics where something does not.
//!
//! Also compiled into `crates/pyro-egress/tests/fuzz.rs`, so it uses nothing that is not there.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::OnceLock;
use std::time::Duration;

use domain::base::Message;
use domain::rdata::A;
use pyro_egress::dns::{self, Unusable};
use pyro_egress::inspect::{OPENING_BYTES_MAX, Opening, look};
use pyro_egress::policy::{Policy, Reason, Refusal, Rule, VisibleName};
use pyro_egress::{Configuration, Deframer, FRAME_BYTES_MAX};
use smoltcp::wire::{IpProtocol, Ipv4Packet, TcpPacket, UdpPacket};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A stack that has not answered an echo request by then hangs.
const ALIVE: Duration = Duration::from_secs(20);

/// A stream, cut into steps of the length that the first byte says.
pub fn deframer(bytes: &[u8]) {
    let Some((step, stream)) = bytes.split_first() else { return };
    let mut deframer = Deframer::default();
    let (mut rest, mut expected) = (stream, stream);
    while !rest.is_empty() {
        let space = deframer.space();
        assert!(!space.is_empty());
        let count = (1 + usize::from(*step)).min(rest.len()).min(space.len());
        space[..count].copy_from_slice(&rest[..count]);
        deframer.filled(count);
        rest = &rest[count..];
        loop {
            match deframer.next_frame() {
                Ok(Some(range)) => {
                    let frame = deframer.frame(range);
                    let (length, after) = expected.split_first_chunk::<4>().expect("a frame has a length");
                    assert_eq!(u32::from_be_bytes(*length) as usize, frame.len());
                    assert_eq!(frame, &after[..frame.len()]);
                    expected = &after[frame.len()..];
                }
                Ok(None) => break,
                Err(_) => {
                    let length = expected.first_chunk().expect("a length was refused");
                    assert!(u32::from_be_bytes(*length) as usize > FRAME_BYTES_MAX);
                    return;
                }
            }
        }
    }
    assert_eq!(deframer.is_between_frames(), expected.is_empty());
}

/// The first bytes of a connection, seen in two steps; the first two bytes say where the cut is.
pub fn opening(bytes: &[u8]) {
    let Some((cut, bytes)) = bytes.split_first_chunk::<2>() else { return };
    let early = look(&bytes[..usize::from(u16::from_be_bytes(*cut)).min(bytes.len())]);
    let all = look(bytes);
    if let Opening::Complete(_) = early {
        assert_eq!(early, all, "what was judged changed");
    }
    match &all {
        Opening::Incomplete => assert!(bytes.len() < OPENING_BYTES_MAX),
        Opening::Complete(VisibleName::Http { names }) => names.iter().for_each(|name| assert_printable(name.as_str())),
        Opening::Complete(VisibleName::Tls { server_name, .. }) => server_name.iter().for_each(|name| assert_printable(name.as_str())),
        Opening::Complete(VisibleName::Other) => {}
    }
}

/// A question of a guest.
pub fn question(bytes: &[u8]) {
    match dns::parse_question(bytes) {
        Ok(question) => {
            assert_printable(question.name.as_str());
            let reply = dns::error_reply(&question, domain::base::iana::Rcode::SERVFAIL);
            let reply = Message::from_octets(reply).expect("our reply can be read");
            assert_eq!((reply.header().id().to_be_bytes().as_slice(), reply.header().qr()), (&bytes[..2], true));
            let query = dns::query(&question, 0x1234).expect("every name can be asked for");
            let query = Message::from_octets(query).expect("our query can be read");
            let asked = query.sole_question().expect("it asks one thing");
            assert!(asked.qname().to_string().eq_ignore_ascii_case(question.name.as_str()));
        }
        Err(Unusable::Refused { reply, .. }) => {
            let header = Message::from_octets(reply).expect("our reply can be read").header();
            assert!(header.qr() && header.id().to_be_bytes() == bytes[..2]);
        }
        Err(Unusable::Ignored) => {}
    }
}

/// A resolver's reply. The first byte says to which question and how large the guest's may be, the rest is the reply.
pub fn answer(bytes: &[u8]) {
    const KINDS: [u8; 6] = [1, 5, 15, 16, 33, 12];
    let Some((choice, reply)) = bytes.split_first() else { return };
    let edns = choice & 0x80 != 0;
    let kind = KINDS[usize::from(choice & 0x7f) % KINDS.len()];
    let mut asked = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns)];
    asked.extend(b"\x03www\x07example\x00\x00");
    asked.extend([kind, 0, 1]);
    if edns {
        asked.extend([0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 0]);
    }
    let question = dns::parse_question(&asked).expect("it is one");
    let size_max = question.datagram_reply_bytes();
    let inner = |address: Ipv4Addr| address.is_private() || address.is_loopback();
    let judged = dns::answer(&question, reply, size_max, &mut |address, _| {
        if inner(address) { Err(Refusal::final_word(Reason::AddressNotListed)) } else { Ok(()) }
    });
    let Ok(answer) = judged else { return };
    assert!(!answer.addresses.iter().any(|address| inner(*address)));
    assert!(answer.reply.len() <= size_max, "{} bytes", answer.reply.len());
    let message = Message::from_octets(answer.reply.as_slice()).expect("our reply can be read");
    assert!(message.header().qr() && message.header().id() == 0xabcd && message.header().rcode() == answer.rcode);
    let records = message.answer().expect("it has an answer section").limit_to::<A>();
    let told: Vec<Ipv4Addr> = records.map(|record| record.expect("it can be read").data().addr()).collect();
    assert!(told == answer.addresses || message.header().tc() && told.is_empty(), "{told:?} {answer:?}");
    assert_eq!(message.opt().is_some(), edns);
}

/// A rule as somebody typed it.
pub fn rule(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match text.parse::<Rule>() {
        Ok(rule) => {
            let written = rule.to_string();
            assert_printable(&written);
            assert_eq!(written.parse::<Rule>().as_ref(), Ok(&rule), "{written}");
        }
        Err(error) => assert!(!error.to_string().contains(['\n', '\x1b']), "{error:?}"),
    }
}

/// Frames into a running stack, whose outside is two servers on loopback and nothing else.
///
/// Each is a byte that says what to make of what follows, two bytes of length, and content: 0 a raw frame; 1 with our Ethernet header;
/// 2 an IPv4 packet, 3 a segment to our server and 4 a datagram to the gateway, made consistent, so that they are looked at further in; 5 a
/// segment that continues what the stack last said. The stack must be there afterwards and hold no more than the frames can have made.
pub fn ingress(bytes: &[u8]) {
    static RUNTIME: OnceLock<std::sync::Mutex<tokio::runtime::Runtime>> = OnceLock::new();
    let make = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        std::sync::Mutex::new(runtime.expect("a runtime can be made"))
    };
    // One at a time: a panic in one is the end anyhow.
    let runtime = RUNTIME.get_or_init(make).lock().expect("no other input has panicked");
    runtime.block_on(feed_stack(bytes));
}

async fn feed_stack(mut bytes: &[u8]) {
    let server = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback is there");
    let resolver = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback is there");
    let port = server.local_addr().expect("it is bound").port();
    let configuration = Configuration { resolvers: vec![resolver.local_addr().expect("it is bound")], ..Configuration::default() };
    let caps = configuration.caps;
    let rules = vec![format!("127.0.0.1:{port}").parse().expect("a rule"), "*.example".parse().expect("a rule")];
    let (ours, guests) = tokio::net::UnixStream::pair().expect("a pair of sockets");
    let (handle, _events) = pyro_egress::start(ours, configuration, Policy::new(rules, Vec::new(), [])).expect("it starts");
    let mut guest =
        Guest { socket: guests, input: Vec::new(), server: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port), next: (0, 0) };
    let mut frames = 0;
    while let Some(([kind, high, low], rest)) = bytes.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (content, rest) = rest.split_at(length);
        bytes = rest;
        frames += 1;
        guest.send(&guest.make(*kind, content)).await;
        if kind % 6 == 5 {
            guest.settle(frames).await;
        }
    }
    guest.settle(frames + 1).await;
    let counters = handle.counters().await.expect("the stack is there");
    assert!(counters.tcp_flows <= caps.tcp_flows.min(frames.into()), "{counters:?}");
    assert!(counters.buffer_bytes <= caps.buffers_total_bytes && counters.udp_associations <= caps.udp_associations, "{counters:?}");
    assert!(counters.questions_in_flight <= caps.questions_in_flight.min(frames.into()), "{counters:?}");
}

/// The machine's end of the link.
struct Guest {
    socket: tokio::net::UnixStream,
    input: Vec<u8>,
    server: SocketAddr,
    /// Sequence and acknowledgement numbers that would be in order.
    next: (u32, u32),
}

const GUEST_PORT: u16 = 40_000;

impl Guest {
    fn make(&self, kind: u8, content: &[u8]) -> Vec<u8> {
        let (gateway, loopback) = (Ipv4Addr::new(10, 0, 2, 2), Ipv4Addr::LOCALHOST);
        match kind % 6 {
            0 => content.to_vec(),
            1 => content.split_first_chunk().map_or_else(Vec::new, |(ethertype, rest)| framed(*ethertype, rest)),
            2 => {
                let mut packet = content.to_vec();
                packet.resize(packet.len().max(20), 0);
                mend(&mut packet);
                framed([8, 0], &packet)
            }
            3 => {
                let mut segment = content.to_vec();
                segment.resize(segment.len().max(20), 0);
                segment[..2].copy_from_slice(&GUEST_PORT.to_be_bytes());
                segment[2..4].copy_from_slice(&self.server.port().to_be_bytes());
                packet(loopback, IpProtocol::Tcp, &segment)
            }
            4 => {
                let mut datagram = content.to_vec();
                datagram.resize(datagram.len().max(8), 0);
                let length = u16::try_from(datagram.len()).unwrap_or(u16::MAX);
                UdpPacket::new_unchecked(datagram.as_mut_slice()).set_len(length);
                packet(gateway, IpProtocol::Udp, &datagram)
            }
            _ => {
                // Control bits, how far from what would be in order, then data.
                let (head, data) = content.split_at(content.len().min(4));
                let head: Vec<u8> = head.iter().copied().chain([0; 4]).take(4).collect();
                let mut segment = vec![0; 20 + data.len()];
                let mut header = TcpPacket::new_unchecked(&mut segment);
                header.set_src_port(GUEST_PORT);
                header.set_dst_port(self.server.port());
                header.set_seq_number(smoltcp::wire::TcpSeqNumber(
                    self.next.0.wrapping_add_signed(i32::from(head[1].cast_signed())).cast_signed(),
                ));
                header.set_ack_number(smoltcp::wire::TcpSeqNumber(
                    self.next.1.wrapping_add_signed(i32::from(head[2].cast_signed())).cast_signed(),
                ));
                header.set_header_len(20);
                header.set_window_len(u16::from(head[3]) << 8);
                segment[13] = head[0];
                segment[20..].copy_from_slice(data);
                packet(loopback, IpProtocol::Tcp, &segment)
            }
        }
    }

    async fn send(&mut self, frame: &[u8]) {
        let frame = &frame[..frame.len().min(FRAME_BYTES_MAX)];
        let framed = [&u32::try_from(frame.len()).expect("it is short").to_be_bytes(), frame].concat();
        let sent = tokio::time::timeout(ALIVE, self.socket.write_all(&framed)).await.expect("the stack reads");
        sent.expect("the stack is there");
    }

    /// Waits until all that was sent has been looked at: the gateway answers an echo request that came after it.
    async fn settle(&mut self, number: u16) {
        let mut request = [8, 0, 0, 0, 0xee, 0xee, 0, 0];
        request[6..].copy_from_slice(&number.to_be_bytes());
        let sum = !smoltcp::wire::checksum::data(&request);
        request[2..4].copy_from_slice(&sum.to_be_bytes());
        self.send(&packet(Ipv4Addr::new(10, 0, 2, 2), IpProtocol::Icmp, &request)).await;
        loop {
            while let Some((length, rest)) = self.input.split_first_chunk::<4>() {
                let length = u32::from_be_bytes(*length) as usize;
                let Some(frame) = rest.get(..length).map(<[u8]>::to_vec) else { break };
                self.input.drain(..4 + length);
                if self.heard(&frame, number) {
                    return;
                }
            }
            let mut buffer = vec![0; 65_536];
            let read = tokio::time::timeout(ALIVE, self.socket.read(&mut buffer)).await.expect("the stack answers");
            let count = read.expect("the stack is there");
            assert!(count > 0, "the stack has ended");
            self.input.extend_from_slice(&buffer[..count]);
        }
    }

    /// Looks at a frame of the stack; returns whether it is the echo waited for.
    fn heard(&mut self, frame: &[u8], number: u16) -> bool {
        assert_eq!(frame[..6], [0x52, 0x54, 0, 0x12, 0x34, 0x56], "it speaks to the guest");
        if frame[12..14] != [8, 0] {
            return false;
        }
        let packet = Ipv4Packet::new_checked(&frame[14..]).expect("what it says is in order");
        assert!(packet.verify_checksum());
        let payload = packet.payload();
        if packet.next_header() == IpProtocol::Tcp {
            let segment = TcpPacket::new_checked(payload).expect("what it says is in order");
            assert!(segment.verify_checksum(&packet.src_addr().into(), &packet.dst_addr().into()));
            if segment.dst_port() == GUEST_PORT {
                self.next = (segment.ack_number().0.cast_unsigned(), (segment.seq_number() + segment.segment_len()).0.cast_unsigned());
            }
        }
        packet.next_header() == IpProtocol::Icmp
            && payload[0] == 0
            && payload[4..6] == [0xee, 0xee]
            && payload[6..8] == number.to_be_bytes()
    }
}

fn framed(ethertype: [u8; 2], payload: &[u8]) -> Vec<u8> {
    [&[0x52, 0x55, 0x0a, 0, 2, 2, 0x52, 0x54, 0, 0x12, 0x34, 0x56][..], &ethertype, payload].concat()
}

fn packet(destination: Ipv4Addr, protocol: IpProtocol, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 20];
    bytes.extend(&payload[..payload.len().min(1480)]);
    let mut header = Ipv4Packet::new_unchecked(&mut bytes);
    header.set_src_addr(Ipv4Addr::new(10, 0, 2, 15));
    header.set_dst_addr(destination);
    header.set_next_header(protocol);
    header.set_hop_limit(64);
    mend(&mut bytes);
    if protocol == IpProtocol::Tcp && bytes.len() >= 40 {
        let (source, destination) = (Ipv4Addr::new(10, 0, 2, 15).into(), destination.into());
        TcpPacket::new_unchecked(&mut bytes[20..]).fill_checksum(&source, &destination);
    }
    framed([8, 0], &bytes)
}

// What a packet must have before anything else of it is looked at.
fn mend(packet: &mut [u8]) {
    let length = u16::try_from(packet.len()).unwrap_or(u16::MAX);
    let mut header = Ipv4Packet::new_unchecked(packet);
    header.set_version(4);
    header.set_header_len(20);
    header.set_total_len(length);
    header.fill_checksum();
}

fn assert_printable(text: &str) {
    assert!(text.chars().all(|character| character.is_ascii_graphic()), "{text:?}");
}
