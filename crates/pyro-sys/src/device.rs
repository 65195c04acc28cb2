//! The requests to devices and file systems the guest agent makes and no kept library wraps: random pool, block cache, freezing and
//! writing out, loopback link.
//!
//! Every function borrows the descriptor it works on and touches no other state of the process.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};

/// `_IOW('R', 0x03, int [2])` and `_IO('R', 0x07)` of `linux/random.h`, `_IO(0x12, 97)` of `linux/fs.h`; `libc` has none of them
/// for every target.
const RNDADDENTROPY: libc::Ioctl = 0x4008_5203;
const RNDRESEEDCRNG: libc::Ioctl = 0x5207;
const BLKFLSBUF: libc::Ioctl = 0x1261;

/// `_IOWR('X', 119, int)` and `_IOWR('X', 120, int)` of `linux/fs.h`.
const FIFREEZE: libc::Ioctl = 0xC004_5877;
const FITHAW: libc::Ioctl = 0xC004_5878;

/// Most bytes of entropy one request mixes in; the kernel's pool holds 256 bits, so this is generous.
const ENTROPY_MAX_BYTES: usize = 512;

/// `struct rand_pool_info` with a buffer of fixed size in place of its flexible one.
#[repr(C)]
struct PoolInfo {
    entropy_bits: libc::c_int,
    buffer_bytes: libc::c_int,
    buffer: [u8; ENTROPY_MAX_BYTES],
}

/// Mixes `entropy` into the kernel's random pool, credits it in full, and makes the generator draw from the pool anew.
///
/// `random` is `/dev/random` or `/dev/urandom`, opened for writing. Bytes past the first 512 are left out. Needs `CAP_SYS_ADMIN`.
///
/// # Errors
/// What the kernel answers, for example `EPERM`.
pub fn reseed_random(random: impl AsFd, entropy: &[u8]) -> io::Result<()> {
    let mut info = PoolInfo { entropy_bits: 0, buffer_bytes: 0, buffer: [0; ENTROPY_MAX_BYTES] };
    let length = entropy.len().min(ENTROPY_MAX_BYTES);
    info.buffer[..length].copy_from_slice(&entropy[..length]);
    info.buffer_bytes = i32::try_from(length).expect("the length is at most 512");
    info.entropy_bits = info.buffer_bytes * 8;
    let descriptor = random.as_fd().as_raw_fd();
    // SAFETY: RNDADDENTROPY reads a `rand_pool_info` and `buffer_bytes` bytes behind it, all of which lie inside `info`.
    check(unsafe { libc::ioctl(descriptor, RNDADDENTROPY, &raw const info) })?;
    // SAFETY: RNDRESEEDCRNG takes no argument.
    check(unsafe { libc::ioctl(descriptor, RNDRESEEDCRNG) })
}

/// Drops every byte of the block device that the kernel holds in its buffer cache.
///
/// # Errors
/// What the kernel answers, for example `EACCES` without `CAP_SYS_ADMIN`.
pub fn flush_block_buffers(disk: impl AsFd) -> io::Result<()> {
    // SAFETY: BLKFLSBUF takes no argument; on anything but a block device it is refused with ENOTTY.
    check(unsafe { libc::ioctl(disk.as_fd().as_raw_fd(), BLKFLSBUF, 0) })
}

/// Flushes the file system `file` lies on and lets nobody write to it until it is thawed; whoever tries sleeps. Needs `CAP_SYS_ADMIN`.
///
/// # Errors
/// What the kernel answers: `EBUSY` when it is frozen already.
pub fn freeze_file_system(file: impl AsFd) -> io::Result<()> {
    // SAFETY: FIFREEZE ignores its argument.
    check(unsafe { libc::ioctl(file.as_fd().as_raw_fd(), FIFREEZE, 0) })
}

/// Undoes [`freeze_file_system`].
///
/// # Errors
/// What the kernel answers: `EINVAL` when it is not frozen.
pub fn thaw_file_system(file: impl AsFd) -> io::Result<()> {
    // SAFETY: FITHAW ignores its argument.
    check(unsafe { libc::ioctl(file.as_fd().as_raw_fd(), FITHAW, 0) })
}

/// Writes a file's content to its device and waits for that, without a commit of the journal: on an ordered journal, whatever is done
/// to the file's name afterwards reaches the disk after the content (sync_file_range(2)).
///
/// # Errors
/// What the kernel answers, for example `ENOSPC` when blocks are allocated only now.
pub fn write_out(file: impl AsFd) -> io::Result<()> {
    let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: takes numbers only; a length of 0 means to the end.
    check(unsafe { libc::sync_file_range(file.as_fd().as_raw_fd(), 0, 0, flags) })
}

/// Brings the loopback link up; the kernel gives it 127.0.0.1 and ::1 by itself.
///
/// # Errors
/// What the kernel answers, for example `EPERM`.
pub fn bring_loopback_up() -> io::Result<()> {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
    bring_link_up(&socket, "lo")
}

/// An address of a link, and the way out through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkAddress {
    /// The link's own address.
    pub address: Ipv4Addr,
    /// How many bits of it name its network, 0 to 32.
    pub prefix_bits: u8,
    /// Where packets to everywhere else go.
    pub gateway: Ipv4Addr,
}

/// Gives a link its one address, brings it up and makes it the default route. A link that has them already is left as it is.
///
/// # Errors
/// What the kernel answers, for example `ENODEV` when there is no such link, or `EINVAL` for a name longer than 15 bytes.
pub fn configure_link(name: &str, link: LinkAddress) -> io::Result<()> {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
    let mask = u32::MAX.checked_shl(32 - u32::from(link.prefix_bits.min(32))).unwrap_or(0);
    for (request_number, address) in [(libc::SIOCSIFADDR, link.address), (libc::SIOCSIFNETMASK, Ipv4Addr::from_bits(mask))] {
        let mut request = link_request(name)?;
        request.ifr_ifru.ifru_addr = socket_address(address);
        // SAFETY: both requests read an `ifreq`, whose name ends with a zero byte and whose address was just set.
        check(unsafe { libc::ioctl(socket.as_raw_fd(), request_number, &raw const request) })?;
    }
    bring_link_up(&socket, name)?;
    // SAFETY: of numbers, addresses and a pointer that may be null, all of which may be zero.
    let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
    route.rt_dst = socket_address(Ipv4Addr::UNSPECIFIED);
    route.rt_genmask = socket_address(Ipv4Addr::UNSPECIFIED);
    route.rt_gateway = socket_address(link.gateway);
    route.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
    // SAFETY: SIOCADDRT reads an `rtentry`; its name of a device is null, so the kernel finds the link by the gateway.
    match check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCADDRT, &raw const route) }) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

fn bring_link_up(socket: &impl AsRawFd, name: &str) -> io::Result<()> {
    let mut request = link_request(name)?;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads an `ifreq`, whose name ends with a zero byte and whose flags were just set.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) })
}

fn link_request(name: &str) -> io::Result<libc::ifreq> {
    // The last byte stays zero.
    if name.is_empty() || name.len() >= libc::IFNAMSIZ {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut request = libc::ifreq { ifr_name: [0; libc::IFNAMSIZ], ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: 0 } };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    Ok(request)
}

/// An IPv4 address where the kernel wants a generic one: two bytes of port, then the address (`struct sockaddr_in`).
fn socket_address(address: Ipv4Addr) -> libc::sockaddr {
    let mut generic = libc::sockaddr { sa_family: libc::AF_INET as libc::sa_family_t, sa_data: [0; 14] };
    for (to, from) in generic.sa_data[2..6].iter_mut().zip(address.octets()) {
        *to = from.cast_signed();
    }
    generic
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn requests_to_a_file_that_is_no_device_are_refused() {
        let null = File::open("/dev/null").expect("/dev/null opens");
        assert!(reseed_random(&null, &[0; 600]).is_err());
        assert!(flush_block_buffers(&null).is_err());
        assert!(write_out(&null).is_err());
    }
}
