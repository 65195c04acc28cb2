//! Turns a freshly started, single-threaded process into a contained machine: drops privileges, binds its life to its parent's, limits
//! and locks itself in, and executes the program.
//!
//! The order matters. The parent-death signal is cleared by a change of user (prctl(2)), so it is set after it, and whoever became an
//! orphan in between finds out by its parent's id. Landlock comes last before `exec`, because it needs `no_new_privs` when unprivileged
//! and forbids what the steps before it do.

use std::{ffi::OsString, os::unix::process::CommandExt as _, path::PathBuf, process::Command};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetStatus, Scope,
};
use rustix::process::{Resource, Rlimit, Signal};

/// Newest Landlock interface asked for; an older kernel enforces what it knows.
const LANDLOCK_ABI: ABI = ABI::V6;

/// What the contained process may be and touch.
#[derive(Debug, Clone)]
pub struct Containment {
    /// Process that must be the parent; when it ends, so does this one.
    pub parent: u32,
    /// User and group to become, with further groups; `None` keeps the caller's, which is the only choice without root.
    pub user: Option<User>,
    /// Most bytes of address space.
    pub address_space_bytes: u64,
    /// Most bytes of any file it writes.
    pub file_size_bytes: u64,
    /// Most open descriptors.
    pub descriptors: u64,
    /// Files and folders it may read.
    pub read_only: Vec<PathBuf>,
    /// Files it may read and write.
    pub read_write: Vec<PathBuf>,
    /// First descriptor it does not get; everything before is its inheritance.
    pub first_foreign_descriptor: u32,
}

/// A user to become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User and group number.
    pub id: u32,
    /// Further groups, e.g. the one that owns `/dev/kvm`.
    pub groups: Vec<u32>,
}

/// Which step of the containment failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}")]
pub struct LaunchError {
    step: &'static str,
    source: std::io::Error,
}

fn failed(step: &'static str) -> impl Fn(rustix::io::Errno) -> LaunchError {
    move |errno| LaunchError { step, source: errno.into() }
}

/// Contains the calling process and replaces it by `program`. Returns only on failure, and the process must then exit: it may have lost
/// some of its privileges already.
///
/// Must be called while the process has one thread, as right after its start: user, limits and Landlock apply to the calling thread.
#[must_use]
pub fn exec_contained(containment: &Containment, program: &PathBuf, arguments: &[OsString]) -> LaunchError {
    match contain(containment) {
        Ok(()) => LaunchError { step: "execute the machine", source: Command::new(program).args(arguments).exec() },
        Err(error) => error,
    }
}

fn contain(containment: &Containment) -> Result<(), LaunchError> {
    if let Some(user) = &containment.user {
        become_user(user)?;
    }
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(failed("bind its life to its supervisor's"))?;
    let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get().cast_unsigned());
    if parent != containment.parent {
        return Err(LaunchError { step: "find its supervisor alive", source: std::io::ErrorKind::NotFound.into() });
    }
    for (resource, limit) in [
        (Resource::As, containment.address_space_bytes),
        (Resource::Fsize, containment.file_size_bytes),
        (Resource::Nofile, containment.descriptors),
        // A core file would hold the guest's memory, secrets included.
        (Resource::Core, 0),
        // Counts every process and thread of the user, so it is set only where the user is the machine's own. QEMU's pool has 64.
        (Resource::Nproc, if containment.user.is_some() { 512 } else { u64::MAX }),
    ] {
        // A hard limit that is already lower stays.
        let maximum = rustix::process::getrlimit(resource).maximum.map_or(limit, |hard| hard.min(limit));
        rustix::process::setrlimit(resource, Rlimit { current: Some(maximum), maximum: Some(maximum) })
            .map_err(failed("limit its resources"))?;
    }
    crate::inherit::keep_from_children(containment.first_foreign_descriptor)
        .map_err(|source| LaunchError { step: "let go of foreign descriptors", source })?;
    rustix::thread::set_no_new_privs(true).map_err(failed("give up gaining privileges"))?;
    forbid_sockets().map_err(|error| LaunchError { step: "filter its system calls", source: std::io::Error::other(error) })?;
    restrict_paths(containment).map_err(|error| LaunchError { step: "restrict itself with Landlock", source: std::io::Error::other(error) })
}

fn become_user(user: &User) -> Result<(), LaunchError> {
    let check =
        |result: libc::c_int, step| if result == 0 { Ok(()) } else { Err(LaunchError { step, source: std::io::Error::last_os_error() }) };
    // SAFETY: the pointer and the length describe one live slice, which the kernel only reads (setgroups(2)).
    check(unsafe { libc::setgroups(user.groups.len(), user.groups.as_ptr()) }, "set its groups")?;
    // SAFETY: takes numbers only (setresgid(2)).
    check(unsafe { libc::setresgid(user.id, user.id, user.id) }, "set its group")?;
    // SAFETY: takes numbers only (setresuid(2)).
    check(unsafe { libc::setresuid(user.id, user.id, user.id) }, "set its user")
}

/// Makes new sockets impossible: what the machine talks to, it inherits. Landlock restrains TCP and abstract addresses only, not UDP, and
/// not sockets with a path, which in a user's own folders lead to agents and buses. io_uring could make sockets without the call.
fn forbid_sockets() -> Result<(), seccompiler::Error> {
    use seccompiler::{SeccompAction, SeccompFilter};
    let denied = [libc::SYS_socket, libc::SYS_io_uring_setup, libc::SYS_ptrace, libc::SYS_process_vm_writev, libc::SYS_pidfd_getfd];
    let denied = denied.into_iter().map(|call| (call, Vec::new())).collect();
    let architecture = std::env::consts::ARCH.try_into()?;
    let action = SeccompAction::Errno(libc::EACCES.cast_unsigned());
    let filter = SeccompFilter::new(denied, SeccompAction::Allow, action, architecture)?;
    let program: seccompiler::BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&program)
}

fn restrict_paths(containment: &Containment) -> Result<(), landlock::RulesetError> {
    let all = AccessFs::from_all(LANDLOCK_ABI);
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)?
        .handle_access(AccessNet::from_all(LANDLOCK_ABI))?
        .scope(Scope::from_all(LANDLOCK_ABI))?
        .create()?;
    let folder_only = AccessFs::ReadDir;
    for (paths, access) in [
        (&containment.read_only, AccessFs::from_read(LANDLOCK_ABI)),
        (&containment.read_write, AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev),
    ] {
        for path in paths {
            // What is not there needs no rule.
            let Ok(opened) = PathFd::new(path) else { continue };
            let access = if path.is_dir() { access } else { access & !folder_only };
            ruleset = ruleset.add_rule(PathBeneath::new(opened, access))?;
        }
    }
    ruleset.restrict_self().map(drop)
}

/// Tells how much of Landlock the running kernel enforces, by trying it in a thread that ends right after.
#[must_use]
pub fn landlock_status() -> &'static str {
    let status = std::thread::spawn(|| {
        Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(LANDLOCK_ABI))
            .and_then(Ruleset::create)
            .and_then(landlock::RulesetCreated::restrict_self)
            .map(|status| status.ruleset)
    });
    match status.join() {
        Ok(Ok(RulesetStatus::FullyEnforced)) => "fully enforced",
        Ok(Ok(RulesetStatus::PartiallyEnforced)) => "partially enforced",
        Ok(Ok(RulesetStatus::NotEnforced) | Err(_)) | Err(_) => "not available",
    }
}
