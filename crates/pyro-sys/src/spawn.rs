//! Starts a process without copying the caller: `clone(CLONE_VM | CLONE_VFORK)`, as `posix_spawn` does.
//!
//! The standard library forks as soon as a user, a session or a root is asked for, and a fork copies page tables, which a translated
//! guest pays for with milliseconds. `posix_spawn` knows no users and does not say which step failed. So this module has its own child:
//! it borrows the caller's memory while the calling thread sleeps, makes nothing but system calls, and ends in `execve` or `_exit`.
//!
//! ```text
//! caller: block signals ── clone ───────── sleeps ──────────── restore signals, read the child's verdict
//! child:                     control group, session, stdio, terminal, root, identity, directory, signals ── execve  (or verdict, _exit)
//! ```
//!
//! Handlers the process installed keep their meaning in the child for the instant between unblocking and `execve`; they must be
//! async-signal-safe (as every handler must) and may run there. `SIGPIPE`, which Rust ignores, is set back to its default.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr;

use rustix::process::{Gid, Pid, Uid};

/// Enough for a child that only makes system calls: its frames are a few hundred bytes each, and `execve` needs none of it.
const STACK_BYTES: usize = 64 << 10;

/// What to start, and as whom.
#[derive(Debug)]
pub struct Command<'a> {
    /// Paths tried one after the other; the first that can be executed is. More than one is what a search path makes.
    pub candidates: &'a [CString],
    /// The argument list.
    pub arguments: &'a [CString],
    /// The whole environment, `KEY=VALUE` each.
    pub environment: &'a [CString],
    /// Root directory to change into, if not the caller's.
    pub root: Option<&'a CStr>,
    /// Working directory, entered with the new identity.
    pub directory: &'a CStr,
    /// User and groups, if not the caller's.
    pub identity: Option<&'a Identity>,
    /// Standard input.
    pub stdin: BorrowedFd<'a>,
    /// Standard output.
    pub stdout: BorrowedFd<'a>,
    /// Standard error.
    pub stderr: BorrowedFd<'a>,
    /// What the new session has for a controlling terminal.
    pub terminal: Controlling,
    /// `cgroup.procs`, opened for writing, of the control group the process joins before it does anything else.
    pub group: Option<BorrowedFd<'a>>,
}

/// The controlling terminal of a new session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controlling {
    /// None.
    Nothing,
    /// Standard input, which must be a terminal no session has yet.
    Stdin,
}

/// Numbers of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub uid: Uid,
    /// Primary group.
    pub gid: Gid,
    /// Supplementary groups.
    pub groups: Vec<Gid>,
}

/// The step that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Making the process.
    Clone,
    /// Joining the control group.
    Group,
    /// A session of its own, and standard streams.
    Setup,
    /// Making standard input the session's controlling terminal.
    Terminal,
    /// Changing the root directory.
    Root,
    /// Taking on user and groups.
    Identity,
    /// Entering the working directory.
    Directory,
    /// Finding and executing the program.
    Execute,
}

impl Step {
    const ALL: [Self; 8] =
        [Self::Clone, Self::Group, Self::Setup, Self::Terminal, Self::Root, Self::Identity, Self::Directory, Self::Execute];
}

/// A process could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start a process")]
pub struct SpawnError {
    /// Where it failed.
    pub step: Step,
    /// Why.
    pub source: io::Error,
    /// Whether a candidate existed and was executable by its mode, so that the error is about the file and not about finding it.
    pub found: bool,
}

/// Starts the command as leader of a new session and process group, and returns when it has become the program.
///
/// The child inherits the three streams and whatever descriptor is not close-on-exec. It is the caller's to wait for.
///
/// # Errors
/// [`SpawnError`], with no process left behind.
pub fn spawn(command: &Command<'_>) -> Result<Pid, SpawnError> {
    let arguments = pointers(command.arguments);
    let environment = pointers(command.environment);
    let mut plan = Plan { command, arguments: &arguments, environment: &environment, failed: None, found: false };
    // u128 for the alignment the calling convention asks of a stack.
    let mut stack = vec![0_u128; STACK_BYTES / size_of::<u128>()];
    // SAFETY: the pointer is one past the end of the allocation, which pointer arithmetic allows.
    let stack_top = unsafe { stack.as_mut_ptr().add(stack.len()) };

    let blocked = SignalMask::block_all();
    // SAFETY: `child` runs on `stack`, which outlives it: CLONE_VFORK suspends this thread until the child has executed a program or
    // exited. It gets exclusive use of `plan` for that time, touches no other memory, allocates nothing and takes no lock.
    let pid = unsafe { libc::clone(child, stack_top.cast(), libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD, (&raw mut plan).cast()) };
    let clone_error = io::Error::last_os_error();
    drop(blocked);

    let Some(pid) = Pid::from_raw(pid).filter(|_| pid > 0) else {
        return Err(SpawnError { step: Step::Clone, source: clone_error, found: false });
    };
    match plan.failed {
        None => Ok(pid),
        Some((step, error)) => {
            // The child has exited already or is about to; without this it would stay behind as a zombie.
            let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
            Err(SpawnError { step: Step::ALL[step as usize], source: error.into(), found: plan.found })
        }
    }
}

/// What caller and child share. The child writes the last two fields.
struct Plan<'a> {
    command: &'a Command<'a>,
    arguments: &'a [*const c_char],
    environment: &'a [*const c_char],
    failed: Option<(Step, rustix::io::Errno)>,
    found: bool,
}

extern "C" fn child(argument: *mut c_void) -> c_int {
    // SAFETY: `spawn` passes its `Plan` and sleeps until this function's process has ended or executed.
    let plan = unsafe { &mut *argument.cast::<Plan<'_>>() };
    let failure = become_program(plan);
    plan.failed = Some(failure);
    // SAFETY: `_exit` runs no destructor and no exit handler of the caller, whose memory this is.
    unsafe { libc::_exit(127) }
}

/// Does every step in order; returns only when one failed.
fn become_program(plan: &mut Plan<'_>) -> (Step, rustix::io::Errno) {
    let command = plan.command;
    // Zero stands for the writer (cgroups(7)). Before everything else: what joins later has left a moment outside.
    if let Some(group) = command.group
        && let Err(error) = rustix::io::write(group, b"0")
    {
        return (Step::Group, error);
    }
    if let Err(error) = set_up(command) {
        return (Step::Setup, error);
    }
    if command.terminal == Controlling::Stdin
        && let Err(error) = rustix::process::ioctl_tiocsctty(command.stdin)
    {
        return (Step::Terminal, error);
    }
    if let Some(root) = command.root
        && let Err(error) = rustix::process::chroot(root)
    {
        return (Step::Root, error);
    }
    if let Some(identity) = command.identity
        && let Err(error) = take_on(identity)
    {
        return (Step::Identity, error);
    }
    if let Err(error) = rustix::process::chdir(command.directory) {
        return (Step::Directory, error);
    }
    SignalMask::unblock_all();
    let mut last = rustix::io::Errno::NOENT;
    for candidate in command.candidates {
        // A failed `execve` copies all arguments before it looks; asking first makes a search path cheap.
        match rustix::fs::access(candidate, rustix::fs::Access::EXEC_OK) {
            Ok(()) => plan.found = true,
            Err(error) => {
                // As execvp(3): an unusable match is remembered while the search goes on.
                if last == rustix::io::Errno::NOENT && error != rustix::io::Errno::NOTDIR {
                    last = error;
                }
                continue;
            }
        }
        // SAFETY: the path ends with a zero byte; both lists end with a null pointer and their strings outlive the call.
        unsafe { libc::execve(candidate.as_ptr(), plan.arguments.as_ptr(), plan.environment.as_ptr()) };
        last = rustix::io::Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(rustix::io::Errno::NOEXEC);
        if last != rustix::io::Errno::ACCESS {
            break;
        }
    }
    (Step::Execute, last)
}

fn set_up(command: &Command<'_>) -> rustix::io::Result<()> {
    rustix::process::setsid()?;
    rustix::stdio::dup2_stdin(command.stdin)?;
    rustix::stdio::dup2_stdout(command.stdout)?;
    rustix::stdio::dup2_stderr(command.stderr)?;
    // SAFETY: changes the disposition in this process alone, since CLONE_SIGHAND is not set.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    Ok(())
}

fn take_on(identity: &Identity) -> rustix::io::Result<()> {
    rustix::thread::set_thread_groups(&identity.groups)?;
    rustix::thread::set_thread_res_gid(identity.gid, identity.gid, identity.gid)?;
    rustix::thread::set_thread_res_uid(identity.uid, identity.uid, identity.uid)
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

/// The calling thread's signal mask from before, put back on drop.
struct SignalMask(libc::sigset_t);

impl SignalMask {
    fn block_all() -> Self {
        let mut all = empty_set();
        let mut before = empty_set();
        // SAFETY: the set is initialised and writable.
        unsafe { libc::sigfillset(&raw mut all) };
        // SAFETY: both sets are valid; neither SIG_SETMASK nor a full set can be refused.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before) };
        Self(before)
    }

    fn unblock_all() {
        let none = empty_set();
        // SAFETY: the set is valid, and a null old set is allowed.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut()) };
    }
}

impl Drop for SignalMask {
    fn drop(&mut self) {
        // SAFETY: the set was filled by the kernel, and a null old set is allowed.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, ptr::null_mut()) };
    }
}

fn empty_set() -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set it is given.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: sigemptyset has just initialised it; it cannot fail for a valid pointer.
    unsafe { set.assume_init() }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read as _;
    use std::os::fd::{AsFd as _, OwnedFd};

    use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};

    use rustix::process::WaitOptions;

    use super::*;

    fn strings(list: &[&str]) -> Vec<CString> {
        list.iter().map(|text| CString::new(*text).expect("no zero byte")).collect()
    }

    /// Runs a program with `change` made to its command; returns how it ended and what it wrote.
    fn run_with(
        candidates: &[&str],
        arguments: &[&str],
        directory: &str,
        change: impl for<'a> FnOnce(&mut Command<'a>, &'a OwnedFd),
        terminal: &OwnedFd,
    ) -> Result<(Option<i32>, String), SpawnError> {
        let null = File::options().read(true).write(true).open("/dev/null").expect("/dev/null opens");
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let directory = CString::new(directory).expect("no zero byte");
        let (candidates, arguments, environment) = (strings(candidates), strings(arguments), strings(&["NAME=value"]));
        let mut command = Command {
            candidates: &candidates,
            arguments: &arguments,
            environment: &environment,
            root: None,
            directory: &directory,
            identity: None,
            stdin: null.as_fd(),
            stdout: writer.as_fd(),
            stderr: null.as_fd(),
            terminal: Controlling::Nothing,
            group: None,
        };
        change(&mut command, terminal);
        let pid = spawn(&command)?;
        drop(writer);
        let mut output = String::new();
        reader.read_to_string(&mut output).expect("output is text");
        let (_, status) = rustix::process::waitpid(Some(pid), WaitOptions::empty()).expect("a child").expect("it ended");
        Ok((status.exit_status(), output))
    }

    fn run(candidates: &[&str], arguments: &[&str], directory: &str) -> Result<(Option<i32>, String), SpawnError> {
        let unused = File::open("/dev/null").expect("/dev/null opens").into();
        run_with(candidates, arguments, directory, |_, _| {}, &unused)
    }

    #[test]
    fn program_runs_in_its_own_session_with_directory_and_environment() {
        let script = "pwd; echo $NAME; test $(cut -d' ' -f6 /proc/$$/stat) = $$ && exit 7";
        let (status, output) = run(&["/nonexistent/sh", "/bin/sh"], &["sh", "-c", script], "/usr").expect("it starts");
        assert_eq!((status, output.as_str()), (Some(7), "/usr\nvalue\n"));
    }

    #[test]
    fn failure_names_its_step() {
        let check = |candidate: &str, directory: &str, step: Step, found: bool| {
            let error = run(&[candidate], &["x"], directory).expect_err("it must not start");
            assert_eq!((error.step, error.found), (step, found), "{candidate} in {directory}");
        };
        check("/nonexistent", "/", Step::Execute, false);
        check("/usr", "/", Step::Execute, true);
        check("/bin/true", "/nonexistent", Step::Directory, false);
    }

    #[test]
    fn terminal_at_stdin_becomes_the_controlling_one_of_the_session() {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).expect("a terminal");
        unlockpt(&master).expect("it is unlocked");
        let slave = ioctl_tiocgptpeer(&master, flags).expect("its other end");
        // `/dev/tty` opens only in a session that has a terminal; the 8th field is the foreground's process group.
        let script = "true </dev/tty || exit 3; test $(cut -d' ' -f8 /proc/$$/stat) = $$ && exit 7";
        let at_terminal = |command: &mut Command<'_>| command.terminal = Controlling::Stdin;
        let ended = run_with(
            &["/bin/sh"],
            &["sh", "-c", script],
            "/",
            |command, slave| {
                command.stdin = slave.as_fd();
                at_terminal(command);
            },
            &slave,
        );
        assert_eq!(ended.expect("it starts").0, Some(7));
        let error = run_with(&["/bin/sh"], &["sh"], "/", |command, _| at_terminal(command), &slave).expect_err("/dev/null is none");
        assert_eq!(error.step, Step::Terminal);
    }

    #[test]
    fn control_group_is_joined_by_writing_to_its_file_before_the_program_runs() {
        let folder = std::env::temp_dir().join(format!("pyro-spawn-{}", std::process::id()));
        let procs: OwnedFd = File::create(&folder).expect("a file in place of cgroup.procs").into();
        let ended =
            run_with(&["/bin/cat"], &["cat", &folder.to_string_lossy()], "/", |command, procs| command.group = Some(procs.as_fd()), &procs);
        let read_only: OwnedFd = File::open(&folder).expect("it opens").into();
        std::fs::remove_file(&folder).expect("it is there");
        assert_eq!(ended.expect("it starts"), (Some(0), "0".to_owned()));
        let refused = run_with(&["/bin/true"], &["true"], "/", |command, procs| command.group = Some(procs.as_fd()), &read_only);
        assert_eq!(refused.expect_err("it cannot join").step, Step::Group);
    }
}
