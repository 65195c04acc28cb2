//! Starts a supervisor: `pyro __supervise ARGUMENTS` with a listening socket and a held lock as inherited descriptors.
//!
//! Socket and lock exist before the process does. So a client connects at once and its first call waits in the socket's backlog, nobody
//! polls, and no other client ever takes the machine for dead: the lock passes from this process to the supervisor without a gap.

use std::{
    os::fd::OwnedFd,
    os::unix::fs::DirBuilderExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};

use command_fds::{CommandFdExt as _, FdMapping};

use crate::{FileLock, NewMachine, ProcessIdentity, Registry, StoreResult, SupervisorArguments, bind_listener, random_hex};

/// Descriptor on which a supervisor finds its listening socket.
pub const INHERITED_LISTENER: i32 = 3;
/// Descriptor on which a supervisor finds its machine's lock.
pub const INHERITED_LOCK: i32 = 4;
/// File in a machine's folder that its supervisor locks for as long as it lives.
pub(crate) const SUPERVISOR_LOCK: &str = "lock";
/// File in a machine's folder that the machine itself locks: it inherits the descriptor and knows nothing of it.
pub const MACHINE_LOCK: &str = "machine-lock";

/// Registers a machine and starts its supervisor, which goes on after this process has ended. Returns the child so that a long-lived
/// caller can reap it.
///
/// # Errors
/// The folder, the row or the process cannot be made, or another client has begun to change the workspace; what was made is removed again.
pub fn start_supervisor(
    binary: &Path,
    arguments: &SupervisorArguments,
    machine: &NewMachine,
    registry: &mut Registry,
) -> StoreResult<Child> {
    let folder = arguments.dirs.machine(&machine.id);
    // Under another name until its lock is held: a folder of the final name that nobody holds and no row names is a remnant.
    let making = folder.with_file_name(format!("{}.partial-{}", machine.id, random_hex(16)));
    let mut start = || -> StoreResult<Child> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&making)?;
        let lock = FileLock::acquire(&making.join(SUPERVISOR_LOCK))?;
        fs_err::rename(&making, &folder)?;
        let listener: OwnedFd = bind_listener(&folder, "socket")?.into();
        let log = fs_err::OpenOptions::new().create(true).append(true).open(folder.join("supervisor.log"))?;
        registry.insert_machine(machine, &folder, arguments.settings.standby)?;
        let mut command = Command::new(binary);
        command
            .arg("__supervise")
            .arg(serde_json::to_string(arguments).expect("plain fields serialise"))
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.into_file());
        command
            .fd_mappings(vec![
                FdMapping { parent_fd: listener, child_fd: INHERITED_LISTENER },
                FdMapping { parent_fd: lock.into(), child_fd: INHERITED_LOCK },
            ])
            .expect("the two descriptors differ");
        let mut child = command
            .spawn()
            .map_err(|error| std::io::Error::new(error.kind(), format!("cannot start the supervisor `{}`: {error}", binary.display())))?;
        // Entered here and not by the supervisor: whoever must end it before its first step finds it. A child that has ended already is
        // still there for whoever started it, as a zombie, and has no identity any more.
        let entered = ProcessIdentity::of(child.id()).map_or(Ok(()), |process| registry.set_supervisor(&machine.id, &process));
        if let Err(error) = entered {
            drop(child.kill());
            drop(child.wait());
            return Err(error);
        }
        Ok(child)
    };
    start().inspect_err(|_| {
        drop(std::fs::remove_dir_all(&making));
        drop(std::fs::remove_dir_all(&folder));
        drop(registry.remove_machine(&machine.id));
    })
}
