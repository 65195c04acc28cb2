//! The lowest layers: framing, addresses, and everything a guest may put on a wire that it should not.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod kit;

use std::net::{Ipv4Addr, SocketAddrV4};

use kit::guest::{packet_of, syn};
use kit::{World, servers};
use proptest::prelude::*;
use pyro_egress::{Configuration, EgressError};
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, DhcpMessageType, DhcpPacket, DhcpRepr, EthernetAddress, IpProtocol, TcpControl, TcpPacket, TcpRepr,
    TcpSeqNumber,
};

const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;

fn arp(mac: [u8; 6], source: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let request = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: EthernetAddress(mac),
        source_protocol_addr: source,
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: target,
    };
    let mut bytes = vec![0; request.buffer_len()];
    request.emit(&mut ArpPacket::new_unchecked(&mut bytes));
    bytes
}

/// One for all cases of a property.
fn echo_server() -> SocketAddrV4 {
    static SERVER: std::sync::OnceLock<SocketAddrV4> = std::sync::OnceLock::new();
    *SERVER.get_or_init(|| servers::tcp(LOOPBACK, servers::echo))
}

/// A segment near the edges of an open connection's windows.
#[derive(Debug, Clone)]
struct Segment {
    control: TcpControl,
    offset: u16,
    acknowledged: Option<u16>,
    window: u16,
    scale: Option<u8>,
    largest: Option<u16>,
    payload: Vec<u8>,
}

fn any_segment() -> impl Strategy<Value = Segment> {
    let control = prop_oneof![
        6 => Just(TcpControl::None),
        3 => Just(TcpControl::Psh),
        1 => Just(TcpControl::Fin),
        1 => Just(TcpControl::Syn),
        1 => Just(TcpControl::Rst),
    ];
    let offset = prop_oneof![4 => 0_u16..300, 1 => any::<u16>()];
    let acknowledged = prop::option::weighted(0.9, prop_oneof![4 => 0_u16..300, 1 => any::<u16>()]);
    let payload = prop::collection::vec(any::<u8>(), 0..300);
    (control, offset, acknowledged, any::<u16>(), any::<Option<u8>>(), any::<Option<u16>>(), payload).prop_map(
        |(control, offset, acknowledged, window, scale, largest, payload)| Segment {
            control,
            offset,
            acknowledged,
            window,
            scale: scale.filter(|_| control == TcpControl::Syn),
            largest: largest.filter(|_| control == TcpControl::Syn),
            payload,
        },
    )
}

#[test]
fn a_machine_that_hangs_up_ends_its_stack() {
    let (world, guest) = World::allowing(&[]);
    guest.hang_up();
    assert!(world.ended().is_ok());
}

#[test]
fn connections_of_another_stack_end_though_nobody_speaks() {
    let server = servers::tcp(LOOPBACK, servers::echo);
    let (world, mut guest) = World::allowing(&["127.0.0.1"]);
    let known = guest.connect(server).unwrap();
    let known_port = guest.last_port();
    let stranger = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 9), 80);
    world.part_with(vec![(known_port, server), (4711, stranger)]);
    let asked = guest.expect_frame(|frame| {
        let packet = packet_of(frame, IpProtocol::Tcp)?;
        let segment = TcpPacket::new_checked(packet.payload()).ok()?;
        (packet.src_addr() == *stranger.ip()).then(|| (segment.syn(), segment.ack(), segment.src_port(), segment.dst_port()))
    });
    assert_eq!(asked, (true, false, 80, 4711));
    let here = TcpRepr { control: TcpControl::None, ack_number: Some(TcpSeqNumber(900)), max_seg_size: None, ..syn(4711, 80) };
    guest.send_segment(*stranger.ip(), &here);
    let reset = guest.expect_frame(|frame| {
        let packet = packet_of(frame, IpProtocol::Tcp)?;
        let segment = TcpPacket::new_checked(packet.payload()).ok()?;
        (packet.src_addr() == *stranger.ip() && segment.rst()).then(|| segment.seq_number())
    });
    assert_eq!(reset, TcpSeqNumber(900), "a reset that the guest believes");
    // The one that the stack has is not touched.
    guest.send(known, b"still here").unwrap();
    assert_eq!(guest.receive(known, 10).unwrap(), b"still here");
}

#[test]
fn a_machine_that_breaks_the_framing_ends_its_stack() {
    let (world, mut guest) = World::allowing(&[]);
    guest.send_bytes(&[0x7f, 0xff, 0xff, 0xff, 1, 2, 3]);
    assert!(matches!(world.ended(), Err(EgressError::FrameTooLong { length_bytes: 0x7fff_ffff })));
    let (world, mut guest) = World::allowing(&[]);
    guest.send_bytes(&[0, 0, 0, 60, 1, 2, 3]);
    guest.hang_up();
    assert!(matches!(world.ended(), Err(EgressError::FrameCut)));
}

#[test]
fn a_configuration_that_contradicts_itself_is_refused() {
    let refused = |configuration: Configuration| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (socket, _peer) = tokio::net::UnixStream::pair().unwrap();
            pyro_egress::start(socket, configuration, kit::world::policy(&[])).unwrap_err().to_string()
        })
    };
    let default = Configuration::default;
    let text = refused(Configuration { mtu_bytes: 500, ..default() });
    assert_eq!(text, "cannot start the workspace's network: the MTU is below the 576 bytes that every IPv4 host must take");
    assert!(refused(Configuration { gateway_address: Ipv4Addr::new(10, 0, 3, 2), ..default() }).contains("one network"));
    assert!(refused(Configuration { gateway_mac: default().guest_mac, ..default() }).contains("hardware"));
}

#[test]
fn arp_is_answered_for_the_gateway_only() {
    let (world, mut guest) = World::allowing(&[]);
    let (mac, own, gateway) = (guest.mac, guest.address, guest.gateway);
    for (mac, source, target) in
        [([2; 6], own, gateway), (mac, Ipv4Addr::new(10, 0, 2, 99), gateway), (mac, own, Ipv4Addr::new(10, 0, 2, 3)), (mac, own, gateway)]
    {
        let frame = guest.frame(0x0806, &arp(mac, source, target));
        guest.send_frame(&frame);
    }
    let replied = guest.expect_frame(|frame| {
        let ArpRepr::EthernetIpv4 { operation, source_protocol_addr, .. } =
            (frame[12..14] == [8, 6]).then(|| ArpRepr::parse(&ArpPacket::new_checked(&frame[14..]).unwrap()).unwrap())?
        else {
            return None;
        };
        (operation == ArpOperation::Reply).then_some(source_protocol_addr)
    });
    assert_eq!(replied, gateway);
    let counters = world.counters();
    assert_eq!((counters.spoofed, counters.frames_out), (2, 1));
}

#[test]
fn dhcp_gives_the_one_address() {
    let (_world, mut guest) = World::allowing(&[]);
    let mut ask = |message_type, requested_ip| {
        let request = DhcpRepr {
            message_type,
            transaction_id: 7,
            secs: 0,
            client_hardware_address: EthernetAddress(guest.mac),
            client_ip: Ipv4Addr::UNSPECIFIED,
            your_ip: Ipv4Addr::UNSPECIFIED,
            server_ip: Ipv4Addr::UNSPECIFIED,
            router: None,
            subnet_mask: None,
            relay_agent_ip: Ipv4Addr::UNSPECIFIED,
            broadcast: true,
            requested_ip,
            client_identifier: None,
            server_identifier: None,
            parameter_request_list: None,
            dns_servers: None,
            max_size: None,
            lease_duration: None,
            renew_duration: None,
            rebind_duration: None,
            additional_options: &[],
        };
        let mut message = vec![0; request.buffer_len()];
        request.emit(&mut DhcpPacket::new_unchecked(&mut message)).unwrap();
        let length = (8 + message.len()) as u16;
        let datagram = [&68_u16.to_be_bytes()[..], &67_u16.to_be_bytes(), &length.to_be_bytes(), &[0, 0], &message].concat();
        let packet = guest.packet(Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, IpProtocol::Udp, &datagram);
        let frame = [&[0xff; 6][..], &guest.mac, &[8, 0], &packet].concat();
        guest.send_frame(&frame);
        let reply = guest.expect_datagram(SocketAddrV4::new(guest.gateway, 67), 68);
        let packet = DhcpPacket::new_checked(&reply).unwrap();
        let mtu = packet.options().find(|option| option.kind == 26).map(|option| option.data.to_vec());
        let reply = DhcpRepr::parse(&packet).unwrap();
        (reply.message_type, reply.your_ip, reply.router, reply.dns_servers.map(|servers| servers.to_vec()), mtu)
    };
    let (own, gateway) = (Ipv4Addr::new(10, 0, 2, 15), Ipv4Addr::new(10, 0, 2, 2));
    let granted = |kind| (kind, own, Some(gateway), Some(vec![gateway]), Some(1500_u16.to_be_bytes().to_vec()));
    assert_eq!(ask(DhcpMessageType::Discover, None), granted(DhcpMessageType::Offer));
    assert_eq!(ask(DhcpMessageType::Request, Some(own)), granted(DhcpMessageType::Ack));
    let (kind, address, ..) = ask(DhcpMessageType::Request, Some(Ipv4Addr::new(10, 0, 2, 77)));
    assert_eq!((kind, address), (DhcpMessageType::Nak, Ipv4Addr::UNSPECIFIED));
}

#[test]
fn what_is_not_the_guests_or_not_spoken_is_dropped_and_counted() {
    let (server, streams) = servers::told(LOOPBACK);
    let (world, mut guest) = World::allowing(&["127.0.0.1"]);
    let segment = [&9_u16.to_be_bytes()[..], &server.port().to_be_bytes(), &[0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 4, 0, 0, 0, 0, 0]].concat();
    let send = |guest: &mut kit::Guest, frame: Vec<u8>| guest.send_frame(&frame);

    let packet = guest.packet(Ipv4Addr::new(10, 0, 2, 16), LOOPBACK, IpProtocol::Tcp, &segment);
    let frame = guest.frame(0x0800, &packet);
    send(&mut guest, frame);
    let mut frame = guest.frame(0x0800, &guest.packet(guest.address, LOOPBACK, IpProtocol::Tcp, &segment));
    frame[6] ^= 2;
    send(&mut guest, frame);
    guest.settle();
    assert_eq!(world.counters().spoofed, 2);

    let frame = guest.frame(0x86dd, &[0x60; 60]);
    send(&mut guest, frame);
    guest.settle();
    assert_eq!(world.counters().ipv6, 1);

    let frame = guest.frame(0x88cc, &[0; 60]);
    send(&mut guest, frame);
    let mut frame = guest.frame(0x0800, &guest.packet(guest.address, LOOPBACK, IpProtocol::Tcp, &segment));
    frame[..6].copy_from_slice(&[0x01, 0, 0x5e, 0, 0, 1]);
    send(&mut guest, frame);
    let frame = guest.frame(0x0800, &guest.packet(guest.address, LOOPBACK, IpProtocol::Unknown(47), &segment));
    send(&mut guest, frame);
    guest.settle();
    assert_eq!(world.counters().foreign, 3);

    let mut fragment = guest.packet(guest.address, LOOPBACK, IpProtocol::Tcp, &segment);
    fragment[6] = 0x20;
    fragment[10..12].copy_from_slice(&[0, 0]);
    let sum = !smoltcp::wire::checksum::data(&fragment[..20]);
    fragment[10..12].copy_from_slice(&sum.to_be_bytes());
    let frame = guest.frame(0x0800, &fragment);
    send(&mut guest, frame);
    guest.settle();
    assert_eq!(world.counters().unsupported, 1);

    let mut damaged = guest.packet(guest.address, LOOPBACK, IpProtocol::Tcp, &segment);
    damaged[10] ^= 1;
    let frame = guest.frame(0x0800, &damaged);
    send(&mut guest, frame);
    send(&mut guest, vec![1, 2, 3]);
    send(&mut guest, Vec::new());
    let mut portless = segment.clone();
    portless[..2].copy_from_slice(&[0, 0]);
    let frame = guest.frame(0x0800, &guest.packet(guest.address, LOOPBACK, IpProtocol::Tcp, &portless));
    send(&mut guest, frame);
    guest.settle();
    assert_eq!(world.counters().malformed, 4);
    assert!(streams.try_recv().is_err(), "none of it reached the server");
    assert!(guest.connect(server).is_ok());
}

#[test]
fn the_gateway_answers_echo_and_refuses_everything_else() {
    let (_world, mut guest) = World::allowing(&[]);
    let gateway = guest.gateway;
    let mut request = vec![8, 0, 0, 0, 0x12, 0x34, 0, 7, b'h', b'i'];
    let sum = !smoltcp::wire::checksum::data(&request);
    request[2..4].copy_from_slice(&sum.to_be_bytes());
    guest.send_packet(gateway, IpProtocol::Icmp, &request);
    let reply = guest.expect_frame(|frame| packet_of(frame, IpProtocol::Icmp).map(|packet| packet.payload().to_vec()));
    assert_eq!((reply[0], &reply[4..]), (0, &request[4..]));
    assert_eq!(guest.connect(SocketAddrV4::new(gateway, 22)), Err(kit::guest::Broken::Reset));
    guest.send_datagram(700, SocketAddrV4::new(gateway, 69), b"boot?");
    assert_eq!(guest.expect_unreachable(gateway), 13);
}

#[test]
fn segments_of_connections_that_are_no_more_are_reset() {
    let (_world, mut guest) = World::allowing(&["127.0.0.1"]);
    let segment = TcpRepr { control: TcpControl::Psh, ack_number: Some(TcpSeqNumber(99)), payload: b"hello again", ..syn(77, 4000) };
    guest.send_segment(LOOPBACK, &segment);
    let flags = guest.expect_frame(|frame| packet_of(frame, IpProtocol::Tcp).map(|packet| packet.payload()[13]));
    assert_eq!(flags & 4, 4);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn no_segments_harm_an_open_connection(segments in prop::collection::vec(any_segment(), 1..60)) {
        let (server, (world, mut guest)) = (echo_server(), World::allowing(&["127.0.0.1"]));
        let own = TcpSeqNumber(1000);
        guest.send_segment(LOOPBACK, &TcpRepr { seq_number: own, window_scale: Some(7), sack_permitted: true, ..syn(90, server.port()) });
        let theirs = guest.expect_frame(|frame| {
            let packet = packet_of(frame, IpProtocol::Tcp)?;
            Some(TcpPacket::new_checked(packet.payload()).ok()?.seq_number())
        });
        guest.mute(|guest| {
            for segment in &segments {
                let acknowledged = segment.acknowledged.map(|offset| theirs + 1 + usize::from(offset));
                guest.send_segment(LOOPBACK, &TcpRepr {
                    control: segment.control,
                    seq_number: own + 1 + usize::from(segment.offset),
                    ack_number: acknowledged,
                    window_len: segment.window,
                    window_scale: segment.scale,
                    max_seg_size: segment.largest,
                    sack_permitted: segment.scale.is_some(),
                    payload: &segment.payload,
                    ..syn(90, server.port())
                });
            }
            guest.settle();
        });
        prop_assert!(world.counters().tcp_flows <= 1);
        let connection = guest.connect(server).unwrap();
        guest.send(connection, b"\0still there?").unwrap();
        prop_assert_eq!(guest.receive(connection, 13).unwrap(), b"\0still there?");
    }

    #[test]
    fn no_frames_harm_the_stack(
        frames in prop::collection::vec((0_usize..6, prop::collection::vec(any::<u8>(), 0..120), any::<u8>(), any::<u8>()), 1..40)
    ) {
        let (server, (world, mut guest)) = (echo_server(), World::allowing(&["127.0.0.1", "203.0.113.9"]));
        for (kind, bytes, at, byte) in frames {
            let frame = match kind {
                0 => bytes,
                1 => guest.frame(0x0800, &bytes),
                2 => guest.frame(0x0806, &bytes),
                3 => guest.frame(0x0800, &guest.packet(guest.address, LOOPBACK, IpProtocol::Tcp, &bytes)),
                4 => guest.frame(0x0800, &guest.packet(guest.address, guest.gateway, IpProtocol::Udp, &bytes)),
                _ => {
                    // A segment that is nearly in order.
                    let mut segment = vec![0; syn(90, server.port()).buffer_len()];
                    let (from, to) = (guest.address.into(), LOOPBACK.into());
                    let mut packet = TcpPacket::new_unchecked(&mut segment);
                    syn(90, server.port()).emit(&mut packet, &from, &to, &smoltcp::phy::ChecksumCapabilities::default());
                    let at = usize::from(at) % segment.len();
                    segment[at] = byte;
                    guest.frame(0x0800, &guest.packet(guest.address, LOOPBACK, IpProtocol::Tcp, &[segment, bytes].concat()))
                }
            };
            guest.send_frame(&frame);
        }
        let connection = guest.connect(server).unwrap();
        guest.send(connection, b"\0still there?").unwrap();
        prop_assert_eq!(guest.receive(connection, 13).unwrap(), b"\0still there?");
        let counters = world.counters();
        prop_assert!(counters.tcp_flows <= 40 && counters.udp_associations <= 40);
    }
}
