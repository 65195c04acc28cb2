//! The frames: QEMU's stream framing on one side, slices on the other.
//!
//! Each frame is preceded by its length in four bytes, big-endian. Both buffers have a fixed size, so a length is refused before anything
//! is allocated for it. While the guest does not take frames, no more are read: whatever comes in could need a reply.

use std::io;
use std::ops::Range;

use smoltcp::phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use tokio::net::UnixStream;

use crate::configuration::MacAddress;
use crate::error::EgressError;

/// The longest frame: a 65 535-byte IP packet behind an Ethernet header with one VLAN tag would have 65 553; ours has no tag.
pub const FRAME_BYTES_MAX: usize = 65_550;
const LENGTH_BYTES: usize = 4;
pub(super) const ETHERNET_HEADER_BYTES: usize = 14;
/// Holds several of the longest frames, and some hundred of the usual ones, so one system call reads many.
const INPUT_BYTES: usize = 4 * (FRAME_BYTES_MAX + LENGTH_BYTES);
/// Above this, flows wait and nothing is read. One frame more always fits, since a `Vec` grows.
const OUTPUT_BYTES_HIGH: usize = 256 * 1024;

/// Finds frames in a stream. No I/O, so that it can be tested on any bytes.
#[derive(Debug)]
pub struct Deframer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Default for Deframer {
    /// Allocates all the memory it will ever have.
    fn default() -> Self {
        Self { bytes: vec![0; INPUT_BYTES], start: 0, end: 0 }
    }
}

impl Deframer {
    /// Returns where the stream goes on. It is never empty after `next_frame` returned `None`.
    pub fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.bytes.len() - self.end < FRAME_BYTES_MAX + LENGTH_BYTES {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        &mut self.bytes[self.end..]
    }

    /// Says how much of the space was filled.
    pub fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.bytes.len());
    }

    /// Returns where the next whole frame lies, for [`Self::frame`].
    ///
    /// # Errors
    ///
    /// Fails when the stream announces a frame that cannot be; there is no way to find the next one after that.
    pub fn next_frame(&mut self) -> Result<Option<Range<usize>>, EgressError> {
        let Some((header, rest)) = self.bytes[self.start..self.end].split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length_bytes = u32::from_be_bytes(*header);
        let length = usize::try_from(length_bytes).unwrap_or(usize::MAX);
        if length > FRAME_BYTES_MAX {
            return Err(EgressError::FrameTooLong { length_bytes });
        }
        if rest.len() < length {
            return Ok(None);
        }
        let begin = self.start + LENGTH_BYTES;
        self.start = begin + length;
        Ok(Some(begin..begin + length))
    }

    /// Returns a frame found before, valid until [`Self::space`] is called.
    #[must_use]
    pub fn frame(&self, range: Range<usize>) -> &[u8] {
        self.bytes.get(range).unwrap_or_default()
    }

    /// Returns whether the stream stands between two frames.
    #[must_use]
    pub const fn is_between_frames(&self) -> bool {
        self.start == self.end
    }
}

/// Frames on their way to the guest.
#[derive(Debug)]
pub(super) struct Output {
    bytes: Vec<u8>,
    sent: usize,
    frames: u64,
    addresses: [u8; 12],
}

impl Output {
    pub(super) fn new(guest: MacAddress, gateway: MacAddress) -> Self {
        let mut addresses = [0; 12];
        addresses[..6].copy_from_slice(&guest.0);
        addresses[6..].copy_from_slice(&gateway.0);
        Self { bytes: Vec::new(), sent: 0, frames: 0, addresses }
    }

    pub(super) const fn frames(&self) -> u64 {
        self.frames
    }

    pub(super) const fn has_room(&self) -> bool {
        self.bytes.len() - self.sent < OUTPUT_BYTES_HIGH
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.bytes.len() == self.sent
    }

    /// Queues a frame with `length` bytes after its Ethernet header, which `write` fills.
    pub(super) fn push<R>(&mut self, ethertype: u16, length: usize, write: impl FnOnce(&mut [u8]) -> R) -> R {
        // A length over four bytes cannot happen: no IP packet is that long.
        let frame_length = u32::try_from(ETHERNET_HEADER_BYTES + length).unwrap_or(0);
        self.bytes.extend_from_slice(&frame_length.to_be_bytes());
        self.bytes.extend_from_slice(&self.addresses);
        self.bytes.extend_from_slice(&ethertype.to_be_bytes());
        let begin = self.bytes.len();
        self.bytes.resize(begin + length, 0);
        self.frames += 1;
        write(&mut self.bytes[begin..])
    }

    /// Writes what the socket takes.
    pub(super) fn flush(&mut self, socket: &UnixStream) -> io::Result<()> {
        while !self.is_empty() {
            match socket.try_write(&self.bytes[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // Whole again only now and then, or a slow reader would cost a copy per frame.
                    if self.sent > OUTPUT_BYTES_HIGH {
                        self.bytes.drain(..self.sent);
                        self.sent = 0;
                    }
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        self.bytes.clear();
        self.sent = 0;
        Ok(())
    }
}

/// What smoltcp takes for its network card: one packet in, the queue out.
pub(super) struct Port<'a> {
    pub(super) packet: Option<&'a [u8]>,
    pub(super) output: &'a mut Output,
    pub(super) mtu_bytes: u16,
}

pub(super) struct Incoming<'a>(&'a [u8]);

pub(super) struct Outgoing<'a>(&'a mut Output);

impl Device for Port<'_> {
    type RxToken<'a>
        = Incoming<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = Outgoing<'a>
    where
        Self: 'a;

    fn receive(&mut self, _: Instant) -> Option<(Incoming<'_>, Outgoing<'_>)> {
        let packet = self.packet.take()?;
        Some((Incoming(packet), Outgoing(self.output)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Outgoing<'_>> {
        self.output.has_room().then_some(Outgoing(self.output))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = usize::from(self.mtu_bytes);
        capabilities.checksum = checksums();
        capabilities
    }
}

/// Checksums are written, since the guest's kernel checks them, but not checked: nothing can be damaged on a socket of this host, and a
/// guest that sends wrong ones only confuses itself.
pub(super) fn checksums() -> ChecksumCapabilities {
    let mut checksums = ChecksumCapabilities::ignored();
    checksums.ipv4 = smoltcp::phy::Checksum::Tx;
    checksums.tcp = smoltcp::phy::Checksum::Tx;
    checksums.udp = smoltcp::phy::Checksum::Tx;
    checksums.icmpv4 = smoltcp::phy::Checksum::Tx;
    checksums
}

impl RxToken for Incoming<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        self.0.push(ETHERTYPE_IPV4, length, write)
    }
}

pub(super) const ETHERTYPE_IPV4: u16 = 0x0800;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn feed(deframer: &mut Deframer, mut stream: &[u8], step: usize) -> Result<Vec<Vec<u8>>, EgressError> {
        let mut frames = Vec::new();
        while !stream.is_empty() {
            let space = deframer.space();
            let count = step.min(stream.len()).min(space.len());
            space[..count].copy_from_slice(&stream[..count]);
            deframer.filled(count);
            stream = &stream[count..];
            while let Some(range) = deframer.next_frame()? {
                frames.push(deframer.frame(range).to_vec());
            }
        }
        Ok(frames)
    }

    fn stream(frames: &[Vec<u8>]) -> Vec<u8> {
        frames.iter().flat_map(|frame| [&u32::try_from(frame.len()).unwrap().to_be_bytes(), frame.as_slice()].concat()).collect()
    }

    #[test]
    fn a_length_that_cannot_be_ends_the_stream() {
        let mut deframer = Deframer::default();
        let error = feed(&mut deframer, &[0, 1, 0, 15, 9], 5).unwrap_err();
        assert_eq!(error.to_string(), "the machine announced a frame of 65551 bytes, more than there can be");
        assert!(feed(&mut Deframer::default(), &[0xff; 4], 1).is_err());
    }

    #[test]
    fn the_longest_frames_pass() {
        let frames = vec![vec![7; FRAME_BYTES_MAX]; 9];
        assert_eq!(feed(&mut Deframer::default(), &stream(&frames), 70_001).unwrap(), frames);
    }

    proptest! {
        #[test]
        fn frames_are_found_however_the_stream_is_cut(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20), step in 1_usize..400
        ) {
            let mut deframer = Deframer::default();
            prop_assert_eq!(feed(&mut deframer, &stream(&frames), step).unwrap(), frames);
            prop_assert!(deframer.is_between_frames());
        }

        #[test]
        fn any_stream_is_cut_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..2000), step in 1_usize..400) {
            let _ = feed(&mut Deframer::default(), &bytes, step);
        }
    }
}
