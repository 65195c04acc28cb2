//! The checks themselves. Each looks at one thing, changes nothing, and knows the command that mends it.

use std::{
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use pyro_store::{Dirs, Orphan};

use crate::contract::{Check, CheckStatus};

/// Where tools are looked for; a user's own `PATH` lacks `sbin` on Debian, where mke2fs lives.
const FOLDERS: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// QEMU answers for its version in 40 ms here; a cold page cache on a slow disk took two seconds.
const TOOL_DEADLINE: Duration = Duration::from_secs(10);
/// Oldest QEMU whose machines were tried.
const QEMU_MINIMUM: (u32, u32) = (7, 2);
/// Below this an environment cannot be built.
const DISK_FAIL_BYTES: u64 = 2 << 30;
/// Below this a few busy workspaces fill the disk.
const DISK_WARN_BYTES: u64 = 10 << 30;
/// Below this not even one default workspace fits.
const MEMORY_FAIL_MIB: u64 = 256;
const MEMORY_WARN_MIB: u64 = 2048;

fn check(name: &str, status: CheckStatus, detail: impl Into<String>, fix: Option<&str>) -> Check {
    Check { name: name.to_owned(), status, detail: detail.into(), fix: fix.map(ToOwned::to_owned) }
}

pub(super) fn ok(name: &str, detail: impl Into<String>) -> Check {
    check(name, CheckStatus::Ok, detail, None)
}

fn graded(name: &str, value: u64, fail_below: u64, warn_below: u64, detail: String, fix: Option<&str>) -> Check {
    if value < fail_below {
        check(name, CheckStatus::Fail, detail, fix)
    } else if value < warn_below {
        check(name, CheckStatus::Warn, detail, fix)
    } else {
        ok(name, detail)
    }
}

/// Checks the programs Pyro starts.
pub(super) fn tools(qemu: &Path, qemu_setting: Option<&str>, environment_is_built: bool) -> Vec<Check> {
    // What only builds environments is no obstacle once one is there.
    let building = if environment_is_built { CheckStatus::Warn } else { CheckStatus::Fail };
    vec![
        check_qemu(qemu, qemu_setting),
        check_tool("mmdebstrap", "mmdebstrap", building),
        check_tool("mke2fs", "e2fsprogs", CheckStatus::Fail),
        check_tool("qemu-img", "qemu-utils", CheckStatus::Fail),
        check_namespaces(building),
    ]
}

fn check_qemu(path: &Path, setting: Option<&str>) -> Check {
    const NAME: &str = "qemu-system-x86_64";
    const REINSTALL: Option<&str> = Some("sudo apt-get install --reinstall qemu-system-x86");
    const INSTALL: Option<&str> = Some("sudo apt-get install qemu-system-x86");
    let correct = setting.map(|setting| format!("correct {setting}, which says where QEMU is"));
    let correct = correct.as_deref();
    if !path.is_file() {
        return check(NAME, CheckStatus::Fail, format!("`{}` is not there", path.display()), correct.or(INSTALL));
    }
    let Some(text) = run(path, &["--version"]) else {
        return check(NAME, CheckStatus::Fail, format!("`{}` does not tell its version", path.display()), correct.or(REINSTALL));
    };
    match qemu_version(&text) {
        Some(version) if version >= QEMU_MINIMUM => ok(NAME, format!("version {}.{} at `{}`", version.0, version.1, path.display())),
        Some(version) => {
            let detail = format!("version {}.{} is older than {}.{}", version.0, version.1, QEMU_MINIMUM.0, QEMU_MINIMUM.1);
            check(NAME, CheckStatus::Fail, detail, correct.or(INSTALL))
        }
        None => {
            let detail = format!("what `{} --version` prints is not QEMU's version", path.display());
            check(NAME, CheckStatus::Fail, detail, correct.or(REINSTALL))
        }
    }
}

fn qemu_version(text: &str) -> Option<(u32, u32)> {
    let rest = text.split("version ").nth(1)?;
    let mut numbers = rest.split(|character: char| !character.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn check_tool(tool: &str, package: &str, missing: CheckStatus) -> Check {
    match locate(tool) {
        Some(path) => ok(tool, format!("`{}`", path.display())),
        None => check(tool, missing, "it is not there", Some(&format!("sudo apt-get install {package}"))),
    }
}

fn locate(tool: &str) -> Option<PathBuf> {
    FOLDERS.iter().map(|folder| Path::new(folder).join(tool)).find(|path| path.is_file())
}

/// Runs a program and returns what it printed, if it succeeded in time.
fn run(program: &Path, arguments: &[&str]) -> Option<String> {
    let mut child = Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
    let end = Instant::now() + TOOL_DEADLINE;
    // What is asked here prints a few lines, which fit a pipe: it never waits for its reader.
    let status = loop {
        match child.try_wait().ok()? {
            Some(status) => break status,
            None if Instant::now() >= end => {
                drop(child.kill());
                drop(child.wait());
                return None;
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    let mut text = String::new();
    child.stdout.take()?.take(64 << 10).read_to_string(&mut text).ok()?;
    status.success().then_some(text)
}

fn check_namespaces(missing: CheckStatus) -> Check {
    const NAME: &str = "user namespaces";
    if rustix::process::geteuid().is_root() {
        return ok(NAME, "not needed: Pyro runs as root");
    }
    if locate("newuidmap").is_none() {
        return check(NAME, missing, "`newuidmap` is not there; it is needed to build environments", Some("sudo apt-get install uidmap"));
    }
    match locate("unshare").and_then(|unshare| run(&unshare, &["--user", "--map-root-user", "--", "true"])) {
        Some(_) => ok(NAME, "this user may make them"),
        None => check(
            NAME,
            missing,
            "this user may not make them; they are needed to build environments",
            Some(
                "sudo sysctl kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000 kernel.apparmor_restrict_unprivileged_userns=0",
            ),
        ),
    }
}

/// Returns the command that may make KVM usable. There is none for a processor without virtualization, nor for a device that opens and
/// was found too slow or broken: no permission mends that.
pub(super) fn kvm_fix() -> Option<String> {
    let device = Path::new("/dev/kvm");
    let status = std::fs::metadata(device).ok()?;
    let opened = std::fs::OpenOptions::new().read(true).write(true).open(device);
    // Root is refused by a container's rules, which no command in the container changes.
    if opened.is_ok() || rustix::process::geteuid().is_root() {
        return None;
    }
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    Some(kvm_permission_fix(status.gid(), status.mode(), &groups))
}

fn kvm_permission_fix(gid: u32, mode: u32, groups: &str) -> String {
    let group = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(gid)).then_some(name)
    });
    match group {
        // Being in root's group is more than anybody should be given for this.
        Some(group) if gid != 0 && mode & 0o060 == 0o060 => format!("sudo usermod -aG {group} \"$USER\", then log in again"),
        Some(_) | None => {
            "as root: `groupadd -f kvm && chgrp kvm /dev/kvm && chmod 660 /dev/kvm`; then `sudo usermod -aG kvm \"$USER\"` and \
                           log in again"
                .to_owned()
        }
    }
}

/// Checks what the host's kernel and file systems offer.
pub(super) fn host(dirs: &Dirs) -> Vec<Check> {
    vec![
        check_folders(dirs),
        check_disk(&dirs.data),
        check_memory(),
        check_memfd(),
        check_landlock(),
        check_seccomp(),
        check_cgroup(),
        check_ptrace(),
    ]
}

/// Checks that every machine that runs belongs to somebody.
pub(super) fn machines(orphans: &[Orphan]) -> Check {
    const NAME: &str = "machines";
    if orphans.is_empty() {
        return ok(NAME, "every running machine belongs to a workspace or waits for one");
    }
    let processes: Vec<String> = orphans.iter().map(|orphan| orphan.process.pid.to_string()).collect();
    let detail = match processes.as_slice() {
        [process] => format!("1 running machine belongs to no workspace: process {process}"),
        _ => format!("{} running machines belong to no workspace: processes {}", processes.len(), processes.join(", ")),
    };
    check(NAME, CheckStatus::Warn, detail, Some("pyro system prune"))
}

fn check_folders(dirs: &Dirs) -> Check {
    const NAME: &str = "folders";
    let folders = [&dirs.data, &dirs.state, &dirs.cache, &dirs.runtime];
    let closed = folders.iter().find(|folder| rustix::fs::access(folder.as_path(), rustix::fs::Access::WRITE_OK).is_err());
    match closed {
        Some(folder) => check(
            NAME,
            CheckStatus::Fail,
            format!("`{}` cannot be written to", folder.display()),
            Some(&format!("sudo chown -R \"$USER\" {}", folder.display())),
        ),
        None => ok(
            NAME,
            format!(
                "data in `{}`, registry in `{}`, settings in `{}`",
                dirs.data.display(),
                dirs.state.display(),
                dirs.config_file().display()
            ),
        ),
    }
}

fn check_disk(folder: &Path) -> Check {
    const NAME: &str = "disk space";
    let Ok(status) = rustix::fs::statvfs(folder) else {
        return check(NAME, CheckStatus::Warn, format!("the disk of `{}` does not tell", folder.display()), None);
    };
    let free = status.f_bavail * status.f_frsize;
    let detail = format!("{} GiB free for `{}`", free >> 30, folder.display());
    let fix = Some("pyro system prune --all, or set PYRO_HOME to a folder on a larger disk");
    graded(NAME, free, DISK_FAIL_BYTES, DISK_WARN_BYTES, detail, fix)
}

fn check_memory() -> Check {
    const NAME: &str = "memory";
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let available = available
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .and_then(|kilobytes| kilobytes.parse::<u64>().ok())
        .map(|kilobytes| kilobytes / 1024);
    let Some(available) = available else { return check(NAME, CheckStatus::Warn, "the kernel does not tell", None) };
    let detail = format!("{available} MiB available");
    let fix = Some("pyro workspace list --state running, then pyro workspace stop WORKSPACE");
    graded(NAME, available, MEMORY_FAIL_MIB, MEMORY_WARN_MIB, detail, fix)
}

fn check_memfd() -> Check {
    const NAME: &str = "sealed memory";
    let flags = rustix::fs::MemfdFlags::CLOEXEC | rustix::fs::MemfdFlags::ALLOW_SEALING;
    match rustix::fs::memfd_create("pyro-doctor", flags) {
        Ok(_) => ok(NAME, "templates are shared read-only"),
        Err(error) => check(NAME, CheckStatus::Fail, format!("memfd_create(2) fails: {error}"), None),
    }
}

fn check_landlock() -> Check {
    const NAME: &str = "landlock";
    // The words are the wrapper's.
    match pyro_sys::launch::landlock_status() {
        status @ "not available" => check(
            NAME,
            CheckStatus::Warn,
            format!("{status}: QEMU is contained by its other walls"),
            Some("add `lsm=landlock,…` to the kernel's command line"),
        ),
        status => ok(NAME, status),
    }
}

fn check_seccomp() -> Check {
    const NAME: &str = "seccomp";
    if Path::new("/proc/sys/kernel/seccomp/actions_avail").exists() {
        ok(NAME, "QEMU's system calls are filtered")
    } else {
        check(NAME, CheckStatus::Fail, "the kernel has no seccomp filters, and QEMU is not started without", None)
    }
}

fn check_cgroup() -> Check {
    const NAME: &str = "cgroup";
    if !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        return check(NAME, CheckStatus::Warn, "version 2 is not mounted: memory of a machine is capped by rlimits alone", None);
    }
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let folder = format!("/sys/fs/cgroup{own}");
    if rustix::fs::access(&folder, rustix::fs::Access::WRITE_OK).is_ok() {
        ok(NAME, format!("version 2, `{own}` can be divided"))
    } else {
        check(NAME, CheckStatus::Warn, format!("version 2, but `{own}` is not ours: memory of a machine is capped by rlimits alone"), None)
    }
}

fn check_ptrace() -> Check {
    const NAME: &str = "ptrace_scope";
    let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").ok().and_then(|text| text.trim().parse::<u32>().ok());
    match scope {
        Some(scope) if scope >= 2 && !rustix::process::geteuid().is_root() => check(
            NAME,
            CheckStatus::Warn,
            format!("{scope}: the pages of a running machine cannot be read, so live snapshots and forks will not work"),
            Some("sudo sysctl kernel.yama.ptrace_scope=1"),
        ),
        Some(scope) => ok(NAME, scope.to_string()),
        None => ok(NAME, "not restricted"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qemu_version_is_read_from_its_own_words() {
        assert_eq!(qemu_version("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright"), Some((7, 2)));
        assert_eq!(qemu_version("QEMU emulator version 10.0.2"), Some((10, 0)));
        assert_eq!(qemu_version("something else"), None);
    }

    #[test]
    fn missing_qemu_fails_with_the_command_that_installs_it() {
        let check = check_qemu(Path::new("/no/such/qemu"), None);
        assert_eq!((check.status, check.fix.as_deref()), (CheckStatus::Fail, Some("sudo apt-get install qemu-system-x86")));
    }

    #[test]
    fn configured_qemu_that_is_not_one_fails_and_names_the_setting() {
        let check = check_qemu(Path::new("/bin/true"), Some("`PYRO_QEMU`"));
        assert_eq!((check.status, check.fix.as_deref()), (CheckStatus::Fail, Some("correct `PYRO_QEMU`, which says where QEMU is")));
    }

    #[test]
    fn kvm_fix_joins_only_a_group_that_may_open_the_device() {
        let groups = "root:x:0:\nkvm:x:104:\n";
        assert_eq!(kvm_permission_fix(104, 0o20660, groups), "sudo usermod -aG kvm \"$USER\", then log in again");
        for (gid, mode) in [(0, 0o20660), (104, 0o20600), (105, 0o20660)] {
            assert!(kvm_permission_fix(gid, mode, groups).starts_with("as root: "), "{gid} {mode:o}");
        }
    }

    #[test]
    fn tool_that_hangs_or_fails_is_not_believed() {
        assert_eq!(run(Path::new("/bin/sh"), &["-c", "echo x; exit 1"]), None);
        assert_eq!(run(Path::new("/bin/sh"), &["-c", "echo x"]).as_deref(), Some("x\n"));
    }
}
