//! What a stack is started with.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use crate::error::EgressError;
use crate::interceptor::Interceptor;

/// A hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MacAddress(pub [u8; 6]);

/// What a stack is started with. `default()` suits a machine that has the address and card of QEMU's defaults.
#[derive(Debug, Clone)]
pub struct Configuration {
    /// The card's hardware address; frames from any other are dropped. It must be what QEMU was told.
    pub guest_mac: MacAddress,
    /// The guest's only address, static or by DHCP; packets from any other are dropped.
    pub guest_address: Ipv4Addr,
    /// Our hardware address.
    pub gateway_mac: MacAddress,
    /// Our address: router, DHCP and DNS server. It answers echo requests.
    pub gateway_address: Ipv4Addr,
    /// How many bits of the two addresses name their network.
    pub prefix_bits: u8,
    /// The largest IP packet, 576 to 65535. The guest has to be told by DHCP or by its card: it must not send larger ones.
    pub mtu_bytes: u16,
    /// The resolvers that questions are forwarded to, in this order. They are dialled by us, so the policy does not apply to them.
    pub resolvers: Vec<SocketAddr>,
    /// How much the guest may use of us.
    pub caps: Caps,
    /// Who may take over connections once it is visible whom they are for; nobody by default.
    pub interceptor: Option<Arc<dyn Interceptor>>,
}

/// How much the guest may use of us. Each flow, association and question holds one of the host's descriptors, so the process needs some
/// `tcp_flows + udp_associations + echo_associations + 2 × questions_in_flight` of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// TCP connections in any state; one more is reset.
    pub tcp_flows: usize,
    /// Connections that the host or the guest has not completed yet; one more pushes out the oldest.
    pub half_open_flows: usize,
    /// The buffer of a connection, each way, while there is plenty.
    pub flow_buffer_bytes: usize,
    /// What buffers of all connections share. When it is used up new connections get the least they work with, 16 KiB each way.
    pub buffers_total_bytes: usize,
    /// Pairs of guest port and destination that datagrams are passed between; one more pushes out the one silent for longest.
    pub udp_associations: usize,
    /// Pairs of echo identifier and destination; one more pushes out the one silent for longest.
    pub echo_associations: usize,
    /// Questions that wait for a resolver; one more is answered with a failure.
    pub questions_in_flight: usize,
    /// Events that wait to be taken; one more is dropped and counted.
    pub events_waiting: usize,
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            tcp_flows: 512,
            half_open_flows: 128,
            flow_buffer_bytes: 256 * 1024,
            buffers_total_bytes: 64 * 1024 * 1024,
            udp_associations: 128,
            echo_associations: 16,
            questions_in_flight: 64,
            events_waiting: 1024,
        }
    }
}

impl Default for Configuration {
    fn default() -> Self {
        Self {
            guest_mac: MacAddress([0x52, 0x54, 0x00, 0x12, 0x34, 0x56]),
            guest_address: Ipv4Addr::new(10, 0, 2, 15),
            gateway_mac: MacAddress([0x52, 0x55, 0x0a, 0x00, 0x02, 0x02]),
            gateway_address: Ipv4Addr::new(10, 0, 2, 2),
            prefix_bits: 24,
            mtu_bytes: 1500,
            resolvers: Vec::new(),
            caps: Caps::default(),
            interceptor: None,
        }
    }
}

impl Configuration {
    pub(crate) fn check(&self) -> Result<(), EgressError> {
        let refuse = |problem| Err(EgressError::Configuration { problem });
        if self.mtu_bytes < 576 {
            return refuse("the MTU is below the 576 bytes that every IPv4 host must take");
        }
        if !(1..=30).contains(&self.prefix_bits) {
            return refuse("the prefix leaves no room for two addresses");
        }
        let network = |address: Ipv4Addr| address.to_bits() >> (32 - self.prefix_bits);
        if self.guest_address == self.gateway_address || network(self.guest_address) != network(self.gateway_address) {
            return refuse("guest and gateway are not two addresses of one network");
        }
        if self.guest_mac == self.gateway_mac || [self.guest_mac, self.gateway_mac].iter().any(|mac| mac.0[0] & 1 == 1) {
            return refuse("guest and gateway do not have two unicast hardware addresses");
        }
        Ok(())
    }
}
