//! Makes a restored machine the workspace's: its time, its randomness, its names, its disks.
//!
//! Everything is a system call of this process: under translation a helper program costs more than the work. The order matters: clock
//! and randomness before anything may use them, names before the first command can read them, the root last.
//!
//! ```text
//! /changes  root-changes disk ─┐
//! /env      environment ───────┴─ overlay /new ── + /workspace, /dev /proc /sys /run moved in ── becomes /
//! /disk     workspace's disk ── its `tree` ─────────┘
//! ```

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::Path;

use pyro_proto::error::{ErrorKind, Failure};
use pyro_proto::v1::{AttachRequest, Connection};
use pyro_sys::device::LinkAddress;
use rustix::time::{ClockId, Timespec};

use crate::files::FileError;
use crate::gate::Gate;
use crate::log;
use crate::mounts::{self, CHANGES, DISK, Disks, MountError, NEW_ROOT};
use crate::workspace::{Leftovers, Workspace};
use crate::{certificates, git, network};

/// Least bytes of entropy accepted: what the kernel's pool holds twice over.
const ENTROPY_MIN_BYTES: usize = 64;
/// `__NEW_UTS_LEN` of `linux/utsname.h`.
const HOSTNAME_MAX_BYTES: usize = 64;
const MACHINE_ID_DIGITS: usize = 32;
/// The host name of a machine without a workspace.
const BOOT_HOSTNAME: &str = "pyro";

/// A checked request.
#[derive(Debug)]
pub(crate) struct Attachment<'a> {
    clock: Timespec,
    entropy: &'a [u8],
    hostname: &'a str,
    machine_id: &'a str,
    link: Option<LinkAddress>,
    certificates: &'a str,
    certificate_bundle: &'a str,
}

/// The file systems of both disks, which have no path any more once the overlay is `/`.
#[derive(Debug)]
pub(crate) struct Mounted {
    pub(crate) changes: OwnedFd,
    pub(crate) workspace: Workspace,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum AttachError {
    #[error("cannot {action}")]
    Identity { action: &'static str, source: io::Error },
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error("cannot open a mounted disk")]
    Handle { source: io::Error },
    #[error("cannot set up the workspace's disk")]
    Workspace { source: FileError },
    #[error("cannot move into the workspace's root")]
    MoveIn { source: io::Error },
}

impl<'a> Attachment<'a> {
    /// Checks the request; nothing has happened yet when it is refused.
    pub(crate) fn parse(request: &'a AttachRequest) -> Result<Self, Failure> {
        let invalid = |message: &str| Failure::message(ErrorKind::InvalidArgument, message);
        let hostname = request.hostname.as_str();
        if request.entropy.len() < ENTROPY_MIN_BYTES {
            return Err(invalid("the entropy is shorter than 64 bytes"));
        }
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if hostname.is_empty() || hostname.len() > HOSTNAME_MAX_BYTES || !hostname.bytes().all(is_name) {
            return Err(invalid("the host name is not made of 1 to 64 letters, digits, `-`, `.` and `_`"));
        }
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if request.machine_id.len() != MACHINE_ID_DIGITS || !request.machine_id.bytes().all(is_digit) {
            return Err(invalid("the machine id is not 32 lower-case hexadecimal digits"));
        }
        let link = request.network.as_ref().map(|network| {
            let prefix_bits = u8::try_from(network.prefix_bits).ok().filter(|bits| *bits <= 32);
            let prefix_bits = prefix_bits.ok_or_else(|| invalid("the network's prefix is longer than an address"))?;
            let (address, gateway) = (Ipv4Addr::from_bits(network.address), Ipv4Addr::from_bits(network.gateway));
            Ok(LinkAddress { address, prefix_bits, gateway })
        });
        let text = |bytes| std::str::from_utf8(bytes).map_err(|_| invalid("the certificates are not text"));
        let (certificates, certificate_bundle) = (text(&request.certificates)?, text(&request.certificate_bundle)?);
        let nanoseconds = i64::try_from(request.clock_ns).map_err(|_| invalid("the clock is past the year 2262"))?;
        let clock = Timespec { tv_sec: nanoseconds / 1_000_000_000, tv_nsec: nanoseconds % 1_000_000_000 };
        Ok(Self {
            clock,
            entropy: &request.entropy,
            hostname,
            machine_id: &request.machine_id,
            link: link.transpose()?,
            certificates,
            certificate_bundle,
        })
    }

    /// Makes an attachment that changes nothing: the clock as it is, no entropy, the names a machine boots with.
    pub(crate) fn rehearsal() -> Attachment<'static> {
        let clock = rustix::time::clock_gettime(ClockId::Realtime);
        Attachment { clock, entropy: &[], hostname: BOOT_HOSTNAME, machine_id: "", link: None, certificates: "", certificate_bundle: "" }
    }

    /// Does it all. After a failure the machine is in between and of no further use.
    pub(crate) fn apply(&self, disks: &Disks) -> Result<Mounted, Failure> {
        self.wake().and_then(|()| self.mount(disks)).map_err(|error| Failure::new(ErrorKind::Io, &error))
    }

    /// Brings a machine that was frozen into its own present.
    pub(crate) fn wake(&self) -> Result<(), AttachError> {
        let failed = |action| move |source: io::Error| AttachError::Identity { action, source };
        rustix::time::clock_settime(ClockId::Realtime, self.clock).map_err(io::Error::from).map_err(failed("set the clock"))?;
        File::options()
            .write(true)
            .open("/dev/urandom")
            .and_then(|random| pyro_sys::device::reseed_random(&random, self.entropy))
            .map_err(failed("reseed the random number generator"))?;
        rustix::system::sethostname(self.hostname.as_bytes()).map_err(io::Error::from).map_err(failed("set the host name"))?;
        match self.link {
            Some(link) => network::configure(link).map_err(failed("set up the network card")),
            None => Ok(()),
        }
    }

    fn mount(&self, disks: &Disks) -> Result<Mounted, AttachError> {
        mounts::disk(disks.changes()?, CHANGES)?;
        mounts::overlay(CHANGES, NEW_ROOT)?;
        let changes = mounts::handle(CHANGES).map_err(|source| AttachError::Handle { source })?;
        mounts::disk(disks.workspace()?, DISK)?;
        let root = changes.try_clone().map_err(|source| AttachError::Handle { source })?;
        let (workspace, leftovers) = open_workspace(DISK, Some(root))?;
        mounts::workspace(DISK, NEW_ROOT)?;
        for (from, to, path) in [
            (c"/dev", c"/new/dev", "/new/dev"),
            (c"/proc", c"/new/proc", "/new/proc"),
            (c"/sys", c"/new/sys", "/new/sys"),
            (c"/run", c"/new/run", "/new/run"),
        ] {
            if mounts::move_to(from, to).is_err() {
                mounts::directory(path)?;
                mounts::move_to(from, to)?;
            }
        }
        move_in().map_err(|source| AttachError::MoveIn { source })?;
        self.name_files("");
        self.name_resolver("");
        self.trust();
        git::trust_repositories(Path::new("/"));
        workspace.tidy(leftovers);
        Ok(Mounted { changes, workspace })
    }

    /// Gives a machine that was frozen with its workspace names of its own. The files lie below the covers, in memory.
    pub(crate) fn rename(&self) -> Result<(), AttachError> {
        for (file, _, contents) in self.names() {
            std::fs::write(file, contents).map_err(|source| AttachError::Identity { action: "rewrite the files that name it", source })?;
        }
        Ok(())
    }

    /// Returns the connections by the network card that the machine was frozen with.
    pub(crate) fn connections(&self) -> Vec<Connection> {
        self.link.map_or_else(Vec::new, |link| network::connections(link.address))
    }

    /// The files that name the machine: where they lie, what they cover, what is in them.
    fn names(&self) -> [(&'static str, &'static str, String); 2] {
        let hostname = self.hostname;
        let hosts = format!("127.0.0.1\tlocalhost\n127.0.1.1\t{hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n");
        let machine_id = format!("{}\n", self.machine_id);
        [("/run/pyro/machine-id", "/etc/machine-id", machine_id), ("/run/pyro/hosts", "/etc/hosts", hosts)]
    }

    /// Trusts what the request names, instead of what the machine it is a copy of trusted. Writes to the root, which must not be frozen.
    pub(crate) fn trust(&self) {
        certificates::trust(Path::new("/"), self.certificates, self.certificate_bundle);
    }

    /// Covers the files that name the machine with ones in memory, so that neither disk holds a copy's identity. Returns what was covered.
    pub(crate) fn name_files(&self, root: &str) -> Vec<CString> {
        self.names()
            .into_iter()
            .filter_map(|(source, target, contents)| {
                let target = format!("{root}{target}");
                match cover(source, &target, &contents) {
                    Ok(()) => CString::new(target).ok(),
                    Err(error) => {
                        log::line(&format!("cannot cover `{target}`: {error}"));
                        None
                    }
                }
            })
            .collect()
    }

    /// Covers the list of resolvers with one in memory: the environment's own is of where it was built.
    fn name_resolver(&self, root: &str) {
        let Some(link) = self.link else { return };
        let contents = format!(
            "# Pyro's gateway: it asks the host's resolvers, as far as the workspace's network rules allow.\nnameserver {}\n",
            link.gateway
        );
        let target = format!("{root}/etc/resolv.conf");
        if let Err(error) = cover("/run/pyro/resolv.conf", &target, &contents) {
            log::line(&format!("cannot cover `{target}`: {error}"));
        }
    }
}

/// Opens the workspace's disk mounted at `disk`; `root` is the file system that is frozen with it.
pub(crate) fn open_workspace(disk: &CStr, root: Option<OwnedFd>) -> Result<(Workspace, Leftovers), AttachError> {
    let handle = || mounts::handle(disk).map_err(|source| AttachError::Handle { source });
    let gate = Gate::new(root, Some(handle()?));
    Workspace::open(handle()?, gate).map_err(|source| AttachError::Workspace { source })
}

fn cover(source: &str, target: &str, contents: &str) -> io::Result<()> {
    std::fs::write(source, contents)?;
    let bind = || rustix::mount::mount_bind(source, target);
    match bind() {
        // An image without the file gets an empty one on the root-changes disk to hang it on.
        Err(rustix::io::Errno::NOENT) => {
            File::create(target)?;
            Ok(bind()?)
        }
        result => Ok(result?),
    }
}

/// Makes `/new` the root, as switch_root(8) does.
fn move_in() -> io::Result<()> {
    rustix::process::chdir(NEW_ROOT)?;
    rustix::mount::mount_move(c".", c"/")?;
    rustix::process::chroot(c".")?;
    Ok(rustix::process::chdir(c"/")?)
}

#[cfg(test)]
mod tests {
    use pyro_proto::v1::Network;

    use super::*;

    fn request() -> AttachRequest {
        AttachRequest {
            clock_ns: 1_700_000_000_123_456_789,
            entropy: vec![7; 64].into(),
            hostname: "api".into(),
            machine_id: "0123456789abcdef0123456789abcdef".into(),
            network: Some(Network { address: 0x0a00_020f, prefix_bits: 24, gateway: 0x0a00_0202 }),
            certificates: "".into(),
            certificate_bundle: "".into(),
        }
    }

    #[test]
    fn request_is_checked_before_anything_happens() {
        let clock = Attachment::parse(&request()).expect("valid").clock;
        assert_eq!((clock.tv_sec, clock.tv_nsec), (1_700_000_000, 123_456_789));
        let check = |change: fn(&mut AttachRequest)| {
            let mut request = request();
            change(&mut request);
            assert_eq!(Attachment::parse(&request).expect_err("must be refused").kind(), ErrorKind::InvalidArgument);
        };
        check(|request| request.entropy = vec![7; 63].into());
        check(|request| request.hostname = "a\nb".into());
        check(|request| request.hostname = "a".repeat(65));
        check(|request| request.machine_id.make_ascii_uppercase());
        check(|request| request.machine_id.push('0'));
        check(|request| request.clock_ns = u64::MAX);
        check(|request| request.certificates = vec![0xff].into());
        check(|request| request.network = Some(Network { prefix_bits: 33, ..Network::default() }));
    }
}
