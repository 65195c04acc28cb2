//! Everything that comes over the wire from the host's side, seen where it arrives.

use std::{
    net::Ipv4Addr,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use rustix::net::{AddressFamily, RecvFlags, SocketType, eth, recv, socket, sockopt};

use super::{
    HOST,
    namespace::{HOST_MAC, Side, WORLD_MAC},
};
use crate::eventually;

/// Enough for every packet of a story about refusals; stories about bodies do not look.
const PACKETS_MAX: usize = 200_000;
/// What the kernel keeps until it is read.
const BUFFER_BYTES: usize = 32 << 20;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;

/// A packet that came over the wire.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Packet {
    /// Who says to have sent it.
    pub source: Ipv4Addr,
    /// Where it goes.
    pub destination: Ipv4Addr,
    /// Number of its protocol.
    pub protocol: u8,
    /// Its destination port, the type of an ICMP message, or 0.
    pub port: u16,
}

/// Watches the wire until it is dropped.
#[derive(Debug)]
pub struct Watch {
    seen: Arc<Mutex<Seen>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Seen {
    packets: Vec<Packet>,
    // Frames of which nothing must ever come: another sender, another protocol.
    strange: Vec<Vec<u8>>,
}

impl Watch {
    pub(super) fn start(world: &Side) -> Self {
        let card = world.within(|| socket(AddressFamily::PACKET, SocketType::RAW, Some(eth::ALL))).expect("root may watch");
        sockopt::set_socket_recv_buffer_size_force(&card, BUFFER_BYTES).expect("root may");
        // Only to look at `end` now and then.
        sockopt::set_socket_timeout(&card, sockopt::Timeout::Recv, Some(Duration::from_millis(50))).expect("sockets have timeouts");
        let (seen, end) = (Arc::<Mutex<Seen>>::default(), Arc::<AtomicBool>::default());
        let (told, ended) = (Arc::clone(&seen), Arc::clone(&end));
        let thread = std::thread::spawn(move || watch(&card, &told, &ended));
        Self { seen, end, thread: Some(thread) }
    }

    /// Returns the packets that came, in their order.
    #[must_use]
    pub fn packets(&self) -> Vec<Packet> {
        self.seen.lock().expect("the watcher does not panic").packets.clone()
    }

    /// Returns the packets that came, each kind once, without those to the given addresses.
    #[must_use]
    pub fn packets_but_to(&self, expected: &[Ipv4Addr]) -> Vec<Packet> {
        let mut packets = self.packets();
        packets.retain(|packet| !expected.contains(&packet.destination));
        packets.sort();
        packets.dedup();
        packets
    }

    /// Asserts that no frame came that the host's own kernel would not send: another's address, another protocol.
    pub fn assert_nothing_strange(&self) {
        let seen = self.seen.lock().expect("the watcher does not panic");
        assert!(seen.strange.is_empty(), "{:02x?}", seen.strange);
    }

    /// Forgets what came so far.
    pub fn forget(&self) {
        *self.seen.lock().expect("the watcher does not panic") = Seen::default();
    }

    pub(super) fn settle(&self, send: impl Fn()) {
        let to_router = |packets: Vec<Packet>| packets.iter().filter(|packet| packet.destination == super::ROUTER).count();
        let before = to_router(self.packets());
        send();
        eventually("what was sent last is seen", 10, || to_router(self.packets()) > before);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It panics only when a test has failed already.
            drop(thread.join());
        }
    }
}

fn watch(card: &OwnedFd, told: &Mutex<Seen>, end: &AtomicBool) {
    let mut frame = vec![0; 1 << 17];
    while !end.load(Ordering::Relaxed) {
        let Ok((count, _)) = recv(card, &mut frame[..], RecvFlags::empty()) else { continue };
        let frame = &frame[..count];
        // Our own, and those of this side's loopback.
        if count < 14 || frame[6..12] == WORLD_MAC || frame[..12] == [0; 12] {
            continue;
        }
        let mut seen = told.lock().expect("readers do not panic");
        let ethertype = u16::from_be_bytes([frame[12], frame[13]]);
        match read(&frame[14..]) {
            Some(packet) if ethertype == ETHERTYPE_IPV4 && frame[6..12] == HOST_MAC && packet.source == HOST => {
                if seen.packets.len() < PACKETS_MAX {
                    seen.packets.push(packet);
                }
            }
            // The host asks who its router is.
            _ if ethertype == ETHERTYPE_ARP && frame[6..12] == HOST_MAC => {}
            _ => seen.strange.push(frame[..count.min(80)].to_vec()),
        }
    }
}

fn read(packet: &[u8]) -> Option<Packet> {
    let header = packet.first_chunk::<20>()?;
    let address = |at: usize| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]);
    let behind = packet.get(usize::from(header[0] & 0xf) * 4..)?;
    let port = match header[9] {
        ICMP => behind.first().map_or(0, |kind| u16::from(*kind)),
        TCP | UDP => behind.get(2..4).map_or(0, |port| u16::from_be_bytes([port[0], port[1]])),
        _ => 0,
    };
    Some(Packet { source: address(12), destination: address(16), protocol: header[9], port })
}
