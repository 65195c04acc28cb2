//! The agent's service over a socket pair, with commands running on the host: everything but mounts.

mod attended;
mod connections;
mod contained;
mod files;
mod terminals;

use std::ffi::CString;
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use pyro_guest::{Agent, Quiet, Reaper, Scope, serve};
use pyro_proto::channel::{FRAME_BYTES, FrameKind, Nonce, Scanner, frame};
use pyro_proto::error::{ErrorKind, Failure};
use pyro_proto::limits;
use pyro_proto::v1::guest_client::GuestClient;
use pyro_proto::v1::{
    AttachRequest, EnvironmentVariable, ExecExit, ExecInput, ExecOutput, ExecStart, HelloRequest, PrepareFreezeRequest, ShutdownRequest,
    SpawnFailure, StdinClosed, exec_input, exec_output,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

/// Far above what any step takes, so that a hang fails and a slow machine does not.
const DEADLINE: Duration = Duration::from_secs(60);

type Client = GuestClient<Channel>;

/// Starts an agent; returns the host's end of its stream.
fn agent() -> UnixStream {
    agent_made(|agent| agent)
}

/// Starts an agent that is given more than a root to run commands in.
fn agent_made(make: impl FnOnce(Agent) -> Agent) -> UnixStream {
    let reaper = Reaper::new(Scope::Commands);
    tokio::spawn(reaper.clone().run());
    let agent = make(Agent::attached(reaper, c"/".to_owned(), None).expect("/dev/null opens"));
    let (host, guest) = UnixStream::pair().expect("a socket pair");
    tokio::spawn(serve(guest, Quiet::Ended, agent));
    host
}

/// Finds the agent on the stream, skipping whatever else is in it.
async fn call(stream: &mut UnixStream, nonce: Nonce) {
    stream.write_all(&frame(FrameKind::Call, &nonce)).await.expect("the agent reads");
    let mut scanner = Scanner::default();
    loop {
        let byte = stream.read_u8().await.expect("the agent answers");
        if scanner.push(byte).expect("no flood") == Some((FrameKind::Answer, nonce)) {
            return;
        }
    }
}

/// Starts HTTP/2 on an answered call.
async fn start(mut stream: UnixStream, nonce: Nonce) -> Client {
    stream.write_all(&frame(FrameKind::Start, &nonce)).await.expect("the agent reads");
    let mut stream = Some(stream);
    let connector = tower::service_fn(move |_| {
        let stream = stream.take().ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected));
        async move { stream.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://guest")
        .initial_stream_window_size(limits::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
        .connect_with_connector(connector)
        .await
        .expect("HTTP/2 starts");
    GuestClient::new(channel)
}

/// Starts HTTP/2 like [`start`], but so that the connection can be cut: both ends still believe in it, and the stream lives on.
async fn start_to_be_cut(stream: UnixStream, nonce: Nonce) -> (Client, impl AsyncFnOnce() -> UnixStream) {
    let (near, mut far) = UnixStream::pair().expect("a socket pair");
    let (cut, wait_for_cut) = oneshot::channel::<()>();
    let carrying = tokio::spawn(async move {
        let mut stream = stream;
        tokio::select! {
            ended = tokio::io::copy_bidirectional(&mut stream, &mut far) => panic!("the connection ended by itself: {ended:?}"),
            _ = wait_for_cut => (stream, far),
        }
    });
    let client = start(near, nonce).await;
    let cut = async move || {
        cut.send(()).expect("the carrier waits for it");
        let (stream, far) = carrying.await.expect("it carries on until cut");
        // The client's end stays open for good, as that of a host that was frozen does.
        std::mem::forget(far);
        stream
    };
    (client, cut)
}

async fn client() -> Client {
    let mut stream = agent();
    call(&mut stream, [1; 16]).await;
    start(stream, [1; 16]).await
}

fn command(argv: &[&str]) -> ExecStart {
    ExecStart { argv: argv.iter().map(|word| word.to_string().into()).collect(), ..ExecStart::default() }
}

fn shell(script: &str) -> ExecStart {
    command(&["sh", "-c", script])
}

fn input(input: exec_input::Input) -> ExecInput {
    ExecInput { input: Some(input) }
}

/// A command in progress.
struct Running {
    inputs: mpsc::Sender<ExecInput>,
    outputs: Streaming<ExecOutput>,
}

#[derive(Debug, Default)]
struct Finished {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    exit: ExecExit,
}

impl Running {
    async fn start(client: &mut Client, start: ExecStart) -> Self {
        let (inputs, receiver) = mpsc::channel(4);
        inputs.send(input(exec_input::Input::Start(start))).await.expect("the receiver is here");
        let outputs = client.exec(ReceiverStream::new(receiver)).await.expect("the call is accepted").into_inner();
        Self { inputs, outputs }
    }

    async fn send(&self, sent: exec_input::Input) {
        self.inputs.send(input(sent)).await.expect("the call is open");
    }

    /// Waits for some output and returns it.
    async fn read(&mut self) -> Vec<u8> {
        loop {
            match self.outputs.message().await.expect("the call lives").expect("the exit comes last").output {
                Some(exec_output::Output::Stdout(bytes) | exec_output::Output::Stderr(bytes)) => return bytes.to_vec(),
                Some(exec_output::Output::Started(_)) => {}
                other => panic!("output awaited, not {other:?}"),
            }
        }
    }

    async fn finish(mut self) -> Finished {
        let mut finished = Finished::default();
        while let Some(message) = self.outputs.message().await.expect("the call lives") {
            match message.output.expect("an output") {
                exec_output::Output::Started(_) => {}
                exec_output::Output::Stdout(bytes) => finished.stdout.extend_from_slice(&bytes),
                exec_output::Output::Stderr(bytes) => finished.stderr.extend_from_slice(&bytes),
                exec_output::Output::Terminal(_) => {}
                exec_output::Output::Exit(exit) => finished.exit = exit,
            }
        }
        finished
    }
}

async fn run(start: ExecStart) -> Finished {
    let mut client = client().await;
    tokio::time::timeout(DEADLINE, async { Running::start(&mut client, start).await.finish().await }).await.expect("it ends")
}

fn is_alive(pid: i32) -> bool {
    // A zombie whose parent is not this process takes a moment to vanish; it counts as gone.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

async fn wait_until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "the condition never came true");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn exit_status_and_signal_are_told_as_a_shell_does() {
    for (script, code, signal) in [("exit 0", 0, 0), ("exit 255", 255, 0), ("kill -TERM $$", 143, 15), ("kill -KILL $$", 137, 9)] {
        let exit = run(shell(script)).await.exit;
        assert_eq!((exit.exit_code, exit.signal, exit.timed_out), (code, signal, false), "{script}");
        assert!(exit.duration_us > 0);
    }
}

#[tokio::test]
async fn environment_and_directory_are_those_of_a_login_with_the_request_on_top() {
    let start = ExecStart {
        cwd: "/usr".into(),
        env: vec![EnvironmentVariable { name: "ADDED".into(), value: "a\nb".into() }],
        ..shell("pwd; echo $HOME $USER $LANG $ADDED; echo oops >&2; cat")
    };
    let finished = run(start).await;
    let home = std::fs::read_to_string("/etc/passwd").expect("a passwd file");
    let home = home.lines().find_map(|line| line.strip_prefix("root:")).expect("root is in it").split(':').nth(4).expect("a home");
    assert_eq!(String::from_utf8_lossy(&finished.stdout), format!("/usr\n{home} root C.UTF-8 a b\n"));
    assert_eq!(finished.stderr, b"oops\n");
}

#[tokio::test]
async fn command_that_cannot_start_says_why() {
    let check = async |start: ExecStart, failure: SpawnFailure, code: i32, message: &str| {
        let exit = run(start).await.exit;
        assert_eq!((exit.spawn_failure(), exit.exit_code, exit.spawn_message.as_str()), (failure, code, message));
    };
    check(command(&["no-such-program"]), SpawnFailure::NotFound, 127, "the guest has no program `no-such-program`").await;
    check(command(&["/etc"]), SpawnFailure::NotExecutable, 126, "cannot execute `/etc`: Permission denied (os error 13)").await;
    check(
        ExecStart { cwd: "/nonexistent".into(), ..command(&["true"]) },
        SpawnFailure::WorkingDirectory,
        126,
        "cannot enter the working directory `/nonexistent`: No such file or directory (os error 2)",
    )
    .await;
    check(ExecStart { user: "nobody-here".into(), ..command(&["true"]) }, SpawnFailure::User, 126, "the guest has no user `nobody-here`")
        .await;
}

#[tokio::test]
async fn command_runs_as_another_user_with_its_groups() {
    if !rustix::process::geteuid().is_root() {
        // Only root can change users; the guest's agent is root.
        return;
    }
    let finished = run(ExecStart { user: "daemon".into(), ..shell("id -un; id -gn; echo $HOME") }).await;
    assert_eq!(String::from_utf8_lossy(&finished.stdout), "daemon\ndaemon\n/usr/sbin\n");
    let finished = run(ExecStart { user: "4711".into(), ..shell("id -u; id -g") }).await;
    assert_eq!(String::from_utf8_lossy(&finished.stdout), "4711\n4711\n");
}

#[tokio::test]
async fn stdin_is_streamed_until_it_is_closed() {
    let mut client = client().await;
    let mut running = Running::start(&mut client, ExecStart { stdin: true, ..command(&["cat"]) }).await;
    running.send(exec_input::Input::Stdin("ping".into())).await;
    assert_eq!(running.read().await, b"ping");
    running.send(exec_input::Input::Stdin("pong".into())).await;
    running.send(exec_input::Input::StdinClosed(StdinClosed {})).await;
    let finished = running.finish().await;
    assert_eq!((finished.stdout.as_slice(), finished.exit.exit_code), (b"pong".as_slice(), 0));
}

#[tokio::test]
async fn much_stdin_reaches_a_slow_reader_whole() {
    let mut client = client().await;
    let running = Running::start(&mut client, ExecStart { stdin: true, ..shell("sleep 0.2; wc -c") }).await;
    let Running { inputs, outputs } = running;
    let feeding = tokio::spawn(async move {
        for _ in 0..320 {
            inputs.send(input(exec_input::Input::Stdin(vec![b'x'; 100_000].into()))).await.expect("the call is open");
        }
    });
    let (unused, _) = mpsc::channel(1);
    let finished = Running { inputs: unused, outputs }.finish().await;
    feeding.await.expect("all was sent");
    assert_eq!(finished.stdout.trim_ascii(), b"32000000");
}

#[tokio::test]
async fn signal_reaches_the_whole_group() {
    let mut client = client().await;
    let mut running = Running::start(&mut client, shell("trap 'echo caught; exit 3' USR1; echo ready; sleep 1000 & wait")).await;
    assert_eq!(running.read().await, b"ready\n");
    running.send(exec_input::Input::Signal(10)).await;
    let finished = running.finish().await;
    assert_eq!((finished.stdout.as_slice(), finished.exit.exit_code), (b"caught\n".as_slice(), 3));
}

#[tokio::test]
async fn large_binary_output_arrives_whole() {
    let finished = run(shell("head -c 50000000 /dev/zero; printf '\\377\\000' >&2")).await;
    assert_eq!(finished.stdout.len(), 50_000_000);
    assert!(finished.stdout.iter().all(|&byte| byte == 0));
    assert_eq!(finished.stderr, [255, 0]);
}

#[tokio::test]
async fn timeout_ends_the_whole_group() {
    let start = ExecStart { timeout_ms: 200, ..shell("sleep 1000 & echo $!; trap '' TERM; while :; do sleep 0.05; done") };
    let finished = run(start).await;
    assert_eq!((finished.exit.exit_code, finished.exit.timed_out, finished.exit.signal), (124, true, 9));
    let child = String::from_utf8_lossy(&finished.stdout).trim().parse().expect("a process id");
    wait_until(|| !is_alive(child)).await;
}

#[tokio::test]
async fn background_process_that_holds_the_pipe_is_not_waited_for() {
    let began = Instant::now();
    let finished = run(shell("sleep 30 & echo $!; yes | head -c 300000")).await;
    assert!(began.elapsed() < Duration::from_secs(25));
    let text = String::from_utf8_lossy(&finished.stdout).into_owned();
    let (pid, rest) = text.split_once('\n').expect("a line");
    assert_eq!(rest.len(), 300_000);
    let pid: i32 = pid.parse().expect("a process id");
    assert!(is_alive(pid));
    let _ = rustix::process::kill_process(rustix::process::Pid::from_raw(pid).expect("a process id"), rustix::process::Signal::KILL);
}

#[tokio::test]
async fn unread_command_blocks_no_other_call() {
    let mut client = client().await;
    let unread = Running::start(&mut client, ExecStart { timeout_ms: 5_000, ..command(&["yes"]) }).await;
    for _ in 0..20 {
        let finished = Running::start(&mut client, shell("head -c 1000000 /dev/zero")).await.finish().await;
        assert_eq!(finished.stdout.len(), 1_000_000);
    }
    drop(unread);
}

#[tokio::test]
async fn many_commands_at_once_lose_no_output() {
    let client = client().await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..100 {
        let mut client = client.clone();
        tasks.spawn(async move {
            let finished = Running::start(&mut client, shell(&format!("echo {number}; exit {number}"))).await.finish().await;
            assert_eq!(String::from_utf8_lossy(&finished.stdout), format!("{number}\n"));
            assert_eq!(finished.exit.exit_code, number);
        });
    }
    while let Some(result) = tasks.join_next().await {
        result.expect("the command ran");
    }
}

#[tokio::test]
async fn dropped_call_ends_the_process_group() {
    let mut client = client().await;
    let mut running = Running::start(&mut client, shell("echo $$; sleep 1000 & wait")).await;
    let pid = String::from_utf8_lossy(&running.read().await).trim().parse().expect("a process id");
    drop(running);
    wait_until(|| !is_alive(pid)).await;
}

#[tokio::test]
async fn connection_is_found_behind_stale_bytes_and_repeated_calls() {
    let mut stream = agent();
    stream.write_all(&[0xf7; 1000]).await.expect("the agent reads");
    stream.write_all(&frame(FrameKind::Start, &[9; 16])).await.expect("the agent reads");
    stream.write_all(&frame(FrameKind::Call, &[8; 16])[..FRAME_BYTES - 5]).await.expect("the agent reads");
    // The first call is lost in the cut one before it.
    for nonce in [[1; 16], [2; 16]] {
        stream.write_all(&frame(FrameKind::Call, &nonce)).await.expect("the agent reads");
    }
    call(&mut stream, [3; 16]).await;
    let mut client = start(stream, [3; 16]).await;
    let answer = client.hello(HelloRequest { protocol: 99 }).await.expect("an answer").into_inner();
    assert_eq!(answer.protocol, limits::PROTOCOL_GENERATION);
}

#[tokio::test]
async fn connection_is_remade_on_the_same_stream_and_ends_the_commands_of_the_old_one() {
    let mut stream = agent();
    call(&mut stream, [1; 16]).await;
    let (mut first, cut) = start_to_be_cut(stream, [1; 16]).await;
    let mut running = Running::start(&mut first, shell("echo $$; exec sleep 1000")).await;
    let pid = String::from_utf8_lossy(&running.read().await).trim().parse().expect("a process id");

    let mut stream = cut().await;
    call(&mut stream, [2; 16]).await;
    wait_until(|| !is_alive(pid)).await;
    call(&mut stream, [3; 16]).await;
    let mut second = start(stream, [3; 16]).await;
    assert_eq!(Running::start(&mut second, shell("exit 5")).await.finish().await.exit.exit_code, 5);
}

#[tokio::test]
async fn operations_out_of_their_stage_are_refused() {
    let mut client = client().await;
    let refused = |status: tonic::Status| Failure::from_status(&status, ErrorKind::Internal).kind();
    let status = client.prepare_freeze(PrepareFreezeRequest::default()).await.expect_err("it is attached already");
    assert_eq!(refused(status), ErrorKind::WrongState);
    let status = client.attach(AttachRequest::default()).await.expect_err("it is attached already");
    assert_eq!(refused(status), ErrorKind::WrongState);

    let mut running = Running::start(&mut client, shell("trap 'exit 9' TERM; echo up; sleep 1000 & wait")).await;
    assert_eq!(running.read().await, b"up\n");
    let answer = client.shutdown(ShutdownRequest { grace_ms: 30_000 }).await.expect("it ends").into_inner();
    assert!(!answer.clean, "a process that is no machine has no disks to bring to rest");
    assert_eq!(running.finish().await.exit.exit_code, 9);
    let (_inputs, receiver) = mpsc::channel(1);
    _inputs.send(input(exec_input::Input::Start(shell("true")))).await.expect("the receiver is here");
    let status = client.exec(ReceiverStream::new(receiver)).await.expect_err("the machine has ended");
    assert_eq!(refused(status), ErrorKind::WrongState);
}

#[tokio::test]
async fn hostile_requests_are_refused() {
    let mut client = client().await;
    let mut refused = async |first: ExecInput| {
        let (inputs, receiver) = mpsc::channel(1);
        inputs.send(first).await.expect("the receiver is here");
        let status = client.exec(ReceiverStream::new(receiver)).await.expect_err("it must be refused");
        Failure::from_status(&status, ErrorKind::Internal).kind()
    };
    assert_eq!(refused(input(exec_input::Input::Signal(9))).await, ErrorKind::InvalidArgument);
    assert_eq!(refused(input(exec_input::Input::Start(ExecStart::default()))).await, ErrorKind::InvalidArgument);
    let long = CString::new(vec![b'x'; limits::ARGUMENTS_MAX_BYTES + 1]).expect("no zero byte").into_bytes();
    let start = ExecStart { argv: vec![long.into()], ..ExecStart::default() };
    assert_eq!(refused(input(exec_input::Input::Start(start))).await, ErrorKind::LimitExceeded);
}
