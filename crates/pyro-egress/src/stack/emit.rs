//! The packets that are written here and not by smoltcp's sockets: ARP, DHCP, ICMP and datagrams.

use std::net::{Ipv4Addr, SocketAddrV4};

use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, DhcpMessageType, DhcpOption, DhcpPacket, DhcpRepr, EthernetAddress, Icmpv4DstUnreachable,
    Icmpv4Packet, Icmpv4Repr, IpProtocol, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, UdpPacket, UdpRepr,
};

use crate::configuration::Configuration;

use super::link::{ETHERTYPE_IPV4, Output, checksums};

const ETHERTYPE_ARP: u16 = 0x0806;
const HOP_LIMIT: u8 = 64;
const IP_HEADER_BYTES: usize = 20;
const UDP_HEADER_BYTES: usize = 8;
/// A DHCP reply with all our options has some 290 bytes.
const DHCP_BYTES_MAX: usize = 512;
/// The address never changes, so the lease may as well be long.
const LEASE_SECONDS: u32 = 86_400;
const DHCP_SERVER_PORT: u16 = 67;
const DHCP_CLIENT_PORT: u16 = 68;
const OPTION_MTU: u8 = 26;

/// Whether a packet fitted into a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Emitted {
    Queued,
    TooLong,
}

fn packet(
    output: &mut Output,
    mtu_bytes: u16,
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: IpProtocol,
    payload_length: usize,
    write: impl FnOnce(&mut [u8]),
) -> Emitted {
    let length = IP_HEADER_BYTES + payload_length;
    if length > usize::from(mtu_bytes) {
        return Emitted::TooLong;
    }
    let header =
        Ipv4Repr { src_addr: source, dst_addr: destination, next_header: protocol, payload_len: payload_length, hop_limit: HOP_LIMIT };
    output.push(ETHERTYPE_IPV4, length, |bytes| {
        header.emit(&mut Ipv4Packet::new_unchecked(&mut *bytes), &checksums());
        write(&mut bytes[IP_HEADER_BYTES..]);
    });
    Emitted::Queued
}

/// Queues a datagram for the guest.
pub(super) fn datagram(output: &mut Output, mtu_bytes: u16, source: SocketAddrV4, destination: SocketAddrV4, payload: &[u8]) -> Emitted {
    let header = UdpRepr { src_port: source.port(), dst_port: destination.port() };
    let (from, to) = (*source.ip(), *destination.ip());
    packet(output, mtu_bytes, from, to, IpProtocol::Udp, UDP_HEADER_BYTES + payload.len(), |bytes| {
        let (from, to) = (from.into(), to.into());
        header.emit(&mut UdpPacket::new_unchecked(bytes), &from, &to, payload.len(), |space| space.copy_from_slice(payload), &checksums());
    })
}

/// Queues the SYN of a peer that has forgotten a connection. A guest that has not answers where it stands, whatever the number (RFC 9293,
/// 3.10.7.4), and the reset that it gets for its answer ends the connection: what happens when a peer starts anew (3.5.1).
pub(super) fn syn(output: &mut Output, configuration: &Configuration, source: SocketAddrV4, guest_port: u16) {
    let segment = TcpRepr {
        src_port: source.port(),
        dst_port: guest_port,
        control: TcpControl::Syn,
        seq_number: TcpSeqNumber(0),
        ack_number: None,
        window_len: 0,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let (from, to) = (*source.ip(), configuration.guest_address);
    // 40 bytes fit into every MTU that a configuration may have.
    let _ = packet(output, configuration.mtu_bytes, from, to, IpProtocol::Tcp, segment.buffer_len(), |bytes| {
        segment.emit(&mut TcpPacket::new_unchecked(bytes), &from.into(), &to.into(), &checksums());
    });
}

fn icmp(output: &mut Output, mtu_bytes: u16, source: Ipv4Addr, guest: Ipv4Addr, message: &Icmpv4Repr<'_>) -> Emitted {
    packet(output, mtu_bytes, source, guest, IpProtocol::Icmp, message.buffer_len(), |bytes| {
        message.emit(&mut Icmpv4Packet::new_unchecked(bytes), &checksums());
    })
}

/// Queues the reply to an echo request.
pub(super) fn echo_reply(
    output: &mut Output,
    mtu_bytes: u16,
    source: Ipv4Addr,
    guest: Ipv4Addr,
    (ident, seq_no): (u16, u16),
    data: &[u8],
) -> Emitted {
    icmp(output, mtu_bytes, source, guest, &Icmpv4Repr::EchoReply { ident, seq_no, data })
}

/// Queues the message that a packet of the guest cannot be delivered. It comes from the gateway, as from any router.
pub(super) fn unreachable(
    output: &mut Output,
    configuration: &Configuration,
    reason: Icmpv4DstUnreachable,
    source: SocketAddrV4,
    destination: SocketAddrV4,
    protocol: IpProtocol,
    first_bytes: [u8; 8],
) {
    let header = Ipv4Repr {
        src_addr: *source.ip(),
        dst_addr: *destination.ip(),
        next_header: protocol,
        payload_len: first_bytes.len(),
        hop_limit: HOP_LIMIT,
    };
    let message = Icmpv4Repr::DstUnreachable { reason, header, data: &first_bytes };
    let (gateway, guest) = (configuration.gateway_address, configuration.guest_address);
    // 56 bytes fit into every MTU that a configuration may have.
    let _ = icmp(output, configuration.mtu_bytes, gateway, guest, &message);
}

/// Returns the first eight bytes of a datagram, by which a guest finds the socket that an ICMP message is about.
pub(super) fn udp_first_bytes(source_port: u16, destination_port: u16, payload_length: usize) -> [u8; 8] {
    let length = u16::try_from(UDP_HEADER_BYTES + payload_length).unwrap_or(u16::MAX);
    let mut bytes = [0; 8];
    bytes[..2].copy_from_slice(&source_port.to_be_bytes());
    bytes[2..4].copy_from_slice(&destination_port.to_be_bytes());
    bytes[4..6].copy_from_slice(&length.to_be_bytes());
    bytes
}

/// Answers an ARP request of the guest for the gateway; says nothing to anything else.
pub(super) fn arp_reply(output: &mut Output, configuration: &Configuration, request: &[u8]) -> Result<(), ArpRefused> {
    let malformed = |_| ArpRefused::Malformed;
    let request = ArpRepr::parse(&ArpPacket::new_checked(request).map_err(malformed)?).map_err(malformed)?;
    let ArpRepr::EthernetIpv4 { operation, source_hardware_addr, source_protocol_addr, target_protocol_addr, .. } = request else {
        return Err(ArpRefused::Malformed);
    };
    let own = [configuration.guest_address, Ipv4Addr::UNSPECIFIED];
    if source_hardware_addr.0 != configuration.guest_mac.0 || !own.contains(&source_protocol_addr) {
        return Err(ArpRefused::Spoofed);
    }
    if operation != ArpOperation::Request || target_protocol_addr != configuration.gateway_address {
        return Ok(());
    }
    let reply = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Reply,
        source_hardware_addr: EthernetAddress(configuration.gateway_mac.0),
        source_protocol_addr: configuration.gateway_address,
        target_hardware_addr: source_hardware_addr,
        target_protocol_addr: source_protocol_addr,
    };
    output.push(ETHERTYPE_ARP, reply.buffer_len(), |bytes| reply.emit(&mut ArpPacket::new_unchecked(bytes)));
    Ok(())
}

/// Why an ARP packet was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ArpRefused {
    Malformed,
    Spoofed,
}

/// Answers a DHCP message: there is one address to be had, and it is always the same. Returns whether the message was one.
pub(super) fn dhcp_reply(output: &mut Output, configuration: &Configuration, message: &[u8]) -> bool {
    let Some(request) = DhcpPacket::new_checked(message).ok().filter(|packet| packet.hardware_len() == 6) else { return false };
    let Ok(request) = DhcpRepr::parse(&request) else { return false };
    if request.client_hardware_address.0 != configuration.guest_mac.0 {
        return false;
    }
    let (gateway, guest) = (configuration.gateway_address, configuration.guest_address);
    let wanted = request.requested_ip.unwrap_or(request.client_ip);
    let message_type = match request.message_type {
        DhcpMessageType::Discover => DhcpMessageType::Offer,
        DhcpMessageType::Request if request.server_identifier.is_some_and(|server| server != gateway) => return true,
        DhcpMessageType::Request if wanted != guest => DhcpMessageType::Nak,
        DhcpMessageType::Request | DhcpMessageType::Inform => DhcpMessageType::Ack,
        DhcpMessageType::Offer
        | DhcpMessageType::Decline
        | DhcpMessageType::Ack
        | DhcpMessageType::Nak
        | DhcpMessageType::Release
        | DhcpMessageType::Unknown(_) => return true,
    };
    let granted = message_type != DhcpMessageType::Nak;
    let mtu = configuration.mtu_bytes.to_be_bytes();
    let options = [DhcpOption { kind: OPTION_MTU, data: &mtu }];
    let reply = DhcpRepr {
        message_type,
        transaction_id: request.transaction_id,
        secs: 0,
        client_hardware_address: request.client_hardware_address,
        client_ip: Ipv4Addr::UNSPECIFIED,
        your_ip: if granted { guest } else { Ipv4Addr::UNSPECIFIED },
        server_ip: gateway,
        router: granted.then_some(gateway),
        subnet_mask: granted.then(|| Ipv4Addr::from_bits(u32::MAX << (32 - configuration.prefix_bits))),
        relay_agent_ip: Ipv4Addr::UNSPECIFIED,
        broadcast: request.broadcast,
        requested_ip: None,
        client_identifier: None,
        server_identifier: Some(gateway),
        parameter_request_list: None,
        dns_servers: granted.then(|| std::iter::once(gateway).collect()),
        max_size: None,
        lease_duration: granted.then_some(LEASE_SECONDS),
        renew_duration: None,
        rebind_duration: None,
        additional_options: if granted { &options } else { &[] },
    };
    let mut bytes = vec![0; DHCP_BYTES_MAX];
    let length = reply.buffer_len().min(bytes.len());
    if reply.emit(&mut DhcpPacket::new_unchecked(&mut bytes[..length])).is_err() {
        return true;
    }
    let (server, client) = (SocketAddrV4::new(gateway, DHCP_SERVER_PORT), SocketAddrV4::new(Ipv4Addr::BROADCAST, DHCP_CLIENT_PORT));
    let _ = datagram(output, configuration.mtu_bytes, server, client, &bytes[..length]);
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn discover(configuration: &Configuration) -> Vec<u8> {
        let mut message = vec![0; 240];
        message[..4].copy_from_slice(&[1, 1, 6, 0]);
        message[28..34].copy_from_slice(&configuration.guest_mac.0);
        message[236..].copy_from_slice(&[99, 130, 83, 99]);
        [&message[..], &[53, 1, 1, 50, 4, 10, 0, 2, 15, 55, 3, 1, 3, 6, 255]].concat()
    }

    fn answered(message: &[u8]) -> (bool, u64) {
        let configuration = Configuration::default();
        let mut output = Output::new(configuration.guest_mac, configuration.gateway_mac);
        (dhcp_reply(&mut output, &configuration, message), output.frames())
    }

    #[test]
    fn a_discover_is_answered_and_another_cards_is_not() {
        let mut message = discover(&Configuration::default());
        assert_eq!(answered(&message), (true, 1));
        message[28] ^= 2;
        assert_eq!(answered(&message), (false, 0));
    }

    #[test]
    fn what_does_not_fit_into_a_frame_is_not_sent() {
        let configuration = Configuration::default();
        let mut output = Output::new(configuration.guest_mac, configuration.gateway_mac);
        let (from, to) = (SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1), SocketAddrV4::new(configuration.guest_address, 2));
        assert_eq!(datagram(&mut output, 1500, from, to, &[0; 1472]), Emitted::Queued);
        assert_eq!(datagram(&mut output, 1500, from, to, &[0; 1473]), Emitted::TooLong);
        assert_eq!(output.frames(), 1);
    }

    proptest! {
        #[test]
        fn any_dhcp_message_is_read_without_harm(message in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(answered(&message).1 <= 1);
        }

        #[test]
        fn a_damaged_dhcp_message_is_read_without_harm(at in 0_usize..300, byte: u8, cut in 0_usize..300) {
            let mut message = discover(&Configuration::default());
            let at = at % message.len();
            message[at] = byte;
            message.truncate(cut.max(1));
            prop_assert!(answered(&message).1 <= 1);
        }

        #[test]
        fn any_arp_message_is_read_without_harm(message in prop::collection::vec(any::<u8>(), 0..60)) {
            let configuration = Configuration::default();
            let mut output = Output::new(configuration.guest_mac, configuration.gateway_mac);
            let _ = arp_reply(&mut output, &configuration, &message);
            prop_assert!(output.frames() <= 1);
        }
    }
}
