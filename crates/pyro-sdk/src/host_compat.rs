//! Runs a command on the host itself: only when no guest can be started, only when the caller allowed it, never silently.
//!
//! The command gets a fresh temporary folder, an environment of its own and a process group that is killed at its end. None of this
//! contains it.

use std::{
    os::unix::{ffi::OsStringExt as _, process::ExitStatusExt as _},
    process::Stdio,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use pyro_proto::{limits::OUTPUT_CHUNK_BYTES, v1::exec_input};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStdin, Command},
    sync::mpsc,
};

use crate::{
    error::{Error, Problem, Result},
    exec::{CommandExit, CommandInput, CommandSpec, ExecEvent, Execution, Stdin as CommandStdin},
    text::GuestPath,
};

/// Pieces of output on their way; with their size this bounds what a slow reader makes us hold.
const OUTPUT_QUEUE: usize = 8;
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// As a shell reports a command whose time was up, and a program that is not there or not executable.
const TIMED_OUT: i32 = 124;
const NOT_FOUND: i32 = 127;
const NOT_EXECUTABLE: i32 = 126;

/// A command on the host. Its events come from a task that owns the process and its folder; dropping this ends both.
#[derive(Debug)]
pub(crate) struct HostCommand {
    events: mpsc::Receiver<ExecEvent>,
}

impl HostCommand {
    pub(crate) async fn next(&mut self) -> Result<Option<ExecEvent>> {
        Ok(self.events.recv().await)
    }
}

/// Starts a command on the host.
pub(crate) async fn start(spec: &CommandSpec) -> Result<Execution> {
    if spec.user.is_some() || spec.cwd != GuestPath::default() {
        let refusal = "users and folders of a guest mean nothing there";
        return Err(Problem::HostCompatRefused { refusal }.into());
    }
    let folder = tempfile::Builder::new()
        .prefix("pyro-host-compat-")
        .tempdir()
        .map_err(|source| Error::io("make a folder in", std::env::temp_dir(), source))?;
    let mut arguments = spec.command.arguments().iter().cloned().map(std::ffi::OsString::from_vec);
    let program = arguments.next().unwrap_or_default();
    let mut command = Command::new(&program);
    command
        .args(arguments)
        .current_dir(folder.path())
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", folder.path())
        .env("LANG", "C.UTF-8")
        .envs(spec.env.iter().map(|variable| (&variable.name, &variable.value)))
        .stdin(if spec.stdin == CommandStdin::Open { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let (input, inputs) = CommandInput::channel();
    let (sender, events) = mpsc::channel(OUTPUT_QUEUE);
    let cwd = folder.path().display().to_string();
    match command.spawn() {
        Ok(child) => {
            let run = Run { child, _folder: folder, sender, timeout: spec.timeout.duration() };
            tokio::spawn(run.finish(inputs));
        }
        Err(error) => {
            let exit_code = if error.kind() == std::io::ErrorKind::NotFound {
                NOT_FOUND
            } else if error.kind() == std::io::ErrorKind::PermissionDenied {
                NOT_EXECUTABLE
            } else {
                return Err(Problem::HostCommand { program: program.to_string_lossy().into_owned(), source: error }.into());
            };
            let failure = Some(format!("cannot start `{}`: {error}", program.to_string_lossy()));
            // The queue is empty and has room.
            drop(sender.try_send(ExecEvent::Exited(CommandExit { exit_code, failure, ..CommandExit::default() })));
        }
    }
    Ok(Execution::on_host(HostCommand { events }, input, cwd))
}

struct Run {
    child: Child,
    // Removed when the command has ended.
    _folder: tempfile::TempDir,
    sender: mpsc::Sender<ExecEvent>,
    timeout: Option<Duration>,
}

impl Run {
    async fn finish(mut self, inputs: mpsc::Receiver<pyro_proto::v1::ExecInput>) {
        let started = Instant::now();
        let group = self.child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw);
        let stdout = self.child.stdout.take().map(|stream| tokio::spawn(copy(stream, self.sender.clone(), ExecEvent::Stdout)));
        let stderr = self.child.stderr.take().map(|stream| tokio::spawn(copy(stream, self.sender.clone(), ExecEvent::Stderr)));
        let feeding = tokio::spawn(feed(inputs, self.child.stdin.take(), group));
        let limit = self.timeout.unwrap_or(Duration::MAX);
        let (mut timed_out, mut status) = (false, None);
        tokio::select! {
            ended = tokio::time::timeout(limit, self.child.wait()) => match ended {
                Ok(ended) => status = ended.ok(),
                Err(_) => timed_out = true,
            },
            // Nobody listens any more.
            () = self.sender.closed() => {}
        }
        // The group's id stays reserved while the child has not been waited for or a member lives.
        if let Some(group) = group {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        if status.is_none() {
            status = self.child.wait().await.ok();
        }
        feeding.abort();
        for reader in [stdout, stderr].into_iter().flatten() {
            drop(reader.await);
        }
        let signal = status.and_then(|status| status.signal());
        let exit_code = match (timed_out, signal) {
            (true, _) => TIMED_OUT,
            (false, Some(signal)) => 128 + signal,
            (false, None) => status.and_then(|status| status.code()).unwrap_or(NOT_EXECUTABLE),
        };
        let exit = CommandExit { exit_code, signal, timed_out, duration: started.elapsed(), ..CommandExit::default() };
        drop(self.sender.send(ExecEvent::Exited(exit)).await);
    }
}

async fn copy(mut stream: impl AsyncRead + Unpin, sender: mpsc::Sender<ExecEvent>, event: fn(Bytes) -> ExecEvent) {
    loop {
        let mut buffer = BytesMut::with_capacity(OUTPUT_CHUNK_BYTES);
        match stream.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                if sender.send(event(buffer.freeze())).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn feed(mut inputs: mpsc::Receiver<pyro_proto::v1::ExecInput>, mut stdin: Option<ChildStdin>, group: Option<rustix::process::Pid>) {
    while let Some(input) = inputs.recv().await {
        match input.input {
            Some(exec_input::Input::Stdin(bytes)) => {
                if let Some(open) = &mut stdin
                    && open.write_all(&bytes).await.is_err()
                {
                    stdin = None;
                }
            }
            Some(exec_input::Input::StdinClosed(_)) => stdin = None,
            Some(exec_input::Input::Signal(number)) => {
                if let (Some(group), Some(signal)) = (group, rustix::process::Signal::from_named_raw(number)) {
                    let _ = rustix::process::kill_process_group(group, signal);
                }
            }
            Some(exec_input::Input::Start(_) | exec_input::Input::Attach(_) | exec_input::Input::Resize(_) | exec_input::Input::End(_))
            | None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        contract::{CommandState, ExecutionMode, GuestCommand},
        limits::{MaxOutputBytes, TimeoutSeconds},
    };

    async fn run(line: &str, timeout: u64) -> crate::contract::CommandAnswer {
        let spec = CommandSpec { timeout: TimeoutSeconds::new(timeout).unwrap(), ..CommandSpec::new(GuestCommand::shell(line).unwrap()) };
        start(&spec).await.unwrap().collect(MaxOutputBytes::default(), None).await.unwrap()
    }

    #[tokio::test]
    async fn host_command_streams_and_says_where_it_ran() {
        let answer = run("pwd; echo error >&2; exit 3", 60).await;
        assert_eq!((answer.exit_code, answer.state, answer.execution_mode), (Some(3), CommandState::Exited, ExecutionMode::HostCompat));
        assert_eq!((answer.stdout.trim(), answer.stderr.as_str()), (answer.cwd.as_str(), "error\n"));
        assert!(!std::path::Path::new(&answer.cwd).exists(), "the folder is gone");
    }

    #[tokio::test]
    async fn timeout_kills_the_whole_group() {
        let answer = run("sleep 1000 & echo $!; wait", 1).await;
        assert_eq!((answer.exit_code, answer.timed_out), (Some(TIMED_OUT), true));
        let pid = rustix::process::Pid::from_raw(answer.stdout.trim().parse().unwrap()).unwrap();
        let end = Instant::now() + Duration::from_secs(10);
        // It is a child of nobody now: whoever adopts orphans here must reap it first.
        while rustix::process::test_kill_process(pid).is_ok() && !is_zombie(pid) {
            assert!(Instant::now() < end, "the background process lives");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn is_zombie(pid: rustix::process::Pid) -> bool {
        std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).is_ok_and(|stat| stat.contains(") Z "))
    }

    #[tokio::test]
    async fn missing_program_is_exit_127() {
        let spec = CommandSpec::new(GuestCommand::new(["/no/such/program"]).unwrap());
        let answer = start(&spec).await.unwrap().collect(MaxOutputBytes::default(), None).await.unwrap();
        assert_eq!(answer.exit_code, Some(127));
        assert!(answer.failure.unwrap().contains("/no/such/program"));
    }
}
