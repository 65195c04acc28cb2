//! Frames of the guest: who may have sent them, and who gets them. Everything that is not plainly in order is dropped and counted.

use std::net::{Ipv4Addr, SocketAddrV4};

use smoltcp::wire::{Icmpv4DstUnreachable, Icmpv4Packet, Icmpv4Repr, IpProtocol, Ipv4Packet, UdpPacket};

use crate::event::Event;
use crate::policy::{Protocol, Reason, Refusal};

use super::emit::{self, ArpRefused};
use super::link::{ETHERNET_HEADER_BYTES, checksums};
use super::run::Stack;

const BROADCAST_MAC: [u8; 6] = [0xff; 6];
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
const IP_HEADER_BYTES: usize = 20;
const DHCP_SERVER_PORT: u16 = 67;
const DHCP_CLIENT_PORT: u16 = 68;

impl Stack {
    pub(super) fn frame(&mut self, frame: &[u8]) {
        let Some((header, payload)) = frame.split_at_checked(ETHERNET_HEADER_BYTES) else {
            self.counters.malformed += 1;
            return;
        };
        let (destination, source, ethertype) = (&header[..6], &header[6..12], [header[12], header[13]]);
        if source != self.configuration.guest_mac.0 {
            self.counters.spoofed += 1;
            return;
        }
        // Multicast is for protocols that are not spoken here, IPv6 above all, which is counted as what it is.
        let for_us = destination == self.configuration.gateway_mac.0 || destination == BROADCAST_MAC;
        match ethertype {
            ETHERTYPE_IPV6 => self.counters.ipv6 += 1,
            _ if !for_us => self.counters.foreign += 1,
            ETHERTYPE_ARP => self.arp(payload),
            ETHERTYPE_IPV4 => self.packet(payload),
            _ => self.counters.foreign += 1,
        }
    }

    fn arp(&mut self, payload: &[u8]) {
        match emit::arp_reply(&mut self.output, &self.configuration, payload) {
            Ok(()) => {}
            Err(ArpRefused::Malformed) => self.counters.malformed += 1,
            Err(ArpRefused::Spoofed) => self.counters.spoofed += 1,
        }
    }

    fn packet(&mut self, bytes: &[u8]) {
        let header = match Ipv4Packet::new_checked(bytes) {
            Ok(header) if header.version() == 4 && header.total_len() <= self.configuration.mtu_bytes && header.verify_checksum() => header,
            _ => {
                self.counters.malformed += 1;
                return;
            }
        };
        if header.more_frags() || header.frag_offset() != 0 || usize::from(header.header_len()) != IP_HEADER_BYTES {
            // Options can route a packet by themselves, and fragments hide ports. No program of today needs either.
            self.counters.unsupported += 1;
            return;
        }
        let (source, destination, protocol) = (header.src_addr(), header.dst_addr(), header.next_header());
        // Frames may be padded; the packet ends where it says.
        let packet = &bytes[..usize::from(header.total_len())];
        let payload = &packet[IP_HEADER_BYTES..];
        if source == Ipv4Addr::UNSPECIFIED && protocol == IpProtocol::Udp {
            self.dhcp(destination, payload);
            return;
        }
        if source != self.configuration.guest_address {
            self.counters.spoofed += 1;
            return;
        }
        if protocol == IpProtocol::Tcp {
            self.segment(packet, destination);
        } else if protocol == IpProtocol::Udp {
            self.datagram(destination, payload);
        } else if protocol == IpProtocol::Icmp {
            self.icmp(destination, payload);
        } else {
            self.counters.foreign += 1;
        }
    }

    // Before a guest has its address, this is all it may say.
    fn dhcp(&mut self, destination: Ipv4Addr, payload: &[u8]) {
        let Ok(datagram) = UdpPacket::new_checked(payload) else {
            self.counters.malformed += 1;
            return;
        };
        let expected = datagram.src_port() == DHCP_CLIENT_PORT
            && datagram.dst_port() == DHCP_SERVER_PORT
            && (destination == Ipv4Addr::BROADCAST || destination == self.configuration.gateway_address);
        if !expected {
            self.counters.spoofed += 1;
        } else if !emit::dhcp_reply(&mut self.output, &self.configuration, datagram.payload()) {
            self.counters.malformed += 1;
        }
    }

    fn datagram(&mut self, destination: Ipv4Addr, payload: &[u8]) {
        let datagram = match UdpPacket::new_checked(payload) {
            Ok(datagram) if datagram.src_port() != 0 && datagram.dst_port() != 0 => datagram,
            _ => {
                self.counters.malformed += 1;
                return;
            }
        };
        let (guest_port, destination) = (datagram.src_port(), SocketAddrV4::new(destination, datagram.dst_port()));
        let to_gateway = *destination.ip() == self.configuration.gateway_address;
        if destination.port() == DHCP_SERVER_PORT && (to_gateway || destination.ip().is_broadcast()) {
            // Renewing, the guest speaks from its address.
            self.dhcp(*destination.ip(), payload);
        } else if self.is_for_resolver(Protocol::Udp, destination) {
            self.datagram_question(guest_port, destination, datagram.payload());
        } else if to_gateway {
            self.refuse_datagram(guest_port, destination, datagram.payload().len(), Refusal::final_word(Reason::NotServed));
        } else {
            self.send_datagram(guest_port, destination, datagram.payload());
        }
    }

    fn icmp(&mut self, destination: Ipv4Addr, payload: &[u8]) {
        let message = Icmpv4Packet::new_checked(payload).and_then(|message| Icmpv4Repr::parse(&message, &checksums()));
        match message {
            Ok(Icmpv4Repr::EchoRequest { ident, seq_no, data }) if destination == self.configuration.gateway_address => {
                let (mtu_bytes, guest) = (self.configuration.mtu_bytes, self.configuration.guest_address);
                // As long as the request, which fitted.
                let _ = emit::echo_reply(&mut self.output, mtu_bytes, destination, guest, (ident, seq_no), data);
            }
            Ok(Icmpv4Repr::EchoRequest { ident, seq_no, data }) => self.send_echo(destination, ident, seq_no, data),
            // A guest that tells of unreachable ports tells it of datagrams that it does not expect any more.
            Ok(_) => {}
            Err(_) => self.counters.malformed += 1,
        }
    }

    /// Tells the guest that a datagram did not get out, and the log why.
    pub(super) fn refuse_datagram(&mut self, guest_port: u16, destination: SocketAddrV4, payload_length: usize, refusal: Refusal) {
        let first_bytes = emit::udp_first_bytes(guest_port, destination.port(), payload_length);
        self.unreachable_datagram(guest_port, destination, first_bytes, Icmpv4DstUnreachable::CommProhibited);
        let name = self.learnt.names_at(*destination.ip(), self.now).pop();
        self.tell(Event::Refused { id: None, protocol: Protocol::Udp, destination, name, refusal });
    }

    pub(super) fn unreachable_datagram(
        &mut self,
        guest_port: u16,
        destination: SocketAddrV4,
        first_bytes: [u8; 8],
        reason: Icmpv4DstUnreachable,
    ) {
        let source = SocketAddrV4::new(self.configuration.guest_address, guest_port);
        emit::unreachable(&mut self.output, &self.configuration, reason, source, destination, IpProtocol::Udp, first_bytes);
    }
}
