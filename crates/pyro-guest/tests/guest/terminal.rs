//! Commands at a terminal: shells as the host opens them.

use pyro_proto::v1::{CountRequest, EndProcess, ExecAttach, TerminalSize, TerminalState};

use super::*;

const SIZE: TerminalSize = TerminalSize { columns: 90, rows: 25 };

fn at_terminal(start: ExecStart) -> ExecStart {
    ExecStart { terminal: Some(SIZE), stdin: true, ..start }
}

/// A shell without anybody's start-up files, as a login shell would otherwise read them from this host.
fn bash(id: u64) -> ExecStart {
    at_terminal(ExecStart {
        id,
        env: vec![EnvironmentVariable { name: "PS1".into(), value: "ready> ".into() }],
        ..command(&["bash", "--norc", "--noprofile", "-i"])
    })
}

/// What has come so far of a command at a terminal.
struct Session {
    running: Running,
    text: String,
    state: TerminalState,
    sent: u64,
}

impl Session {
    async fn open(client: &mut Client, start: ExecStart) -> Self {
        Self { running: Running::start(client, start).await, text: String::new(), state: TerminalState::default(), sent: 0 }
    }

    async fn write(&mut self, text: &str) {
        self.sent += text.len() as u64;
        self.running.send(exec_input::Input::Stdin(text.to_owned().into())).await;
    }

    /// Reads until `done`; returns the exit when that comes first.
    async fn until(&mut self, done: impl Fn(&Self) -> bool) -> Option<ExecExit> {
        let reading = async {
            while !done(self) {
                match self.running.outputs.message().await.expect("the call lives").expect("the exit comes last").output {
                    Some(exec_output::Output::Stdout(bytes)) => self.text.push_str(&String::from_utf8_lossy(&bytes)),
                    Some(exec_output::Output::Terminal(state)) => self.state = state,
                    Some(exec_output::Output::Exit(exit)) => return Some(exit),
                    Some(exec_output::Output::Started(_) | exec_output::Output::Stderr(_)) | None => {}
                }
            }
            None
        };
        tokio::time::timeout(DEADLINE, reading).await.unwrap_or_else(|_| panic!("not in time: {:?} {:?}", self.text, self.state))
    }

    /// Reads until the shell waits for input, having seen all that was written.
    async fn prompt(&mut self) {
        self.until(|session| session.state.prompt && session.state.input_bytes == session.sent).await;
    }

    async fn exit(&mut self) -> ExecExit {
        self.until(|_| false).await.expect("it exits")
    }
}

#[tokio::test]
async fn terminal_echoes_has_a_size_and_takes_control_keys() {
    let mut client = client().await;
    let mut session = Session::open(&mut client, bash(0)).await;
    session.prompt().await;
    session.write("stty size; tty; echo $TERM\r").await;
    session.prompt().await;
    for expected in ["stty size", "25 90\r\n", "/dev/pts/", "xterm-256color"] {
        assert!(session.text.contains(expected), "{:?}", session.text);
    }
    session.running.send(exec_input::Input::Resize(TerminalSize { columns: 101, rows: 33 })).await;
    session.write("stty size\r").await;
    session.prompt().await;
    assert!(session.text.contains("33 101"), "{:?}", session.text);
    session.write("sleep 1000\r").await;
    session.until(|session| session.state.program).await;
    session.write("\u{3}").await;
    session.prompt().await;
    session.write("sleep 1000\r").await;
    session.until(|session| session.state.program).await;
    session.running.send(exec_input::Input::Signal(2)).await;
    session.until(|session| session.state.prompt && !session.state.program).await;
    session.write("exit 5\r").await;
    assert_eq!(session.exit().await.exit_code, 5);
}

#[tokio::test]
async fn shell_that_waits_for_a_child_is_not_at_its_prompt() {
    let mut client = client().await;
    let mut session = Session::open(&mut client, bash(0)).await;
    session.prompt().await;
    // The substitution runs in the shell's own process group, and the shell sleeps.
    session.write("x=$(sleep 0.5); echo got-$((40 + 2))\r").await;
    session.prompt().await;
    assert!(session.text.contains("got-42"), "{:?}", session.text);
    session.write("read answer; echo $answer-$((1 + 1))\r").await;
    session.prompt().await;
    assert!(!session.text.contains("-2\r"), "a builtin that reads waits for input, too: {:?}", session.text);
    session.write("yes\r").await;
    session.until(|session| session.text.contains("yes-2")).await;
}

#[tokio::test]
async fn idle_prompt_is_told_once_and_later_call_is_told_it_again() {
    let mut client = client().await;
    let mut session = Session::open(&mut client, bash(70)).await;
    session.prompt().await;
    session.write("MARK=kept\r").await;
    session.prompt().await;
    let sent = session.sent;
    drop(session);
    let (inputs, receiver) = mpsc::channel(4);
    inputs.send(input(exec_input::Input::Attach(ExecAttach { id: 70 }))).await.expect("the receiver is here");
    let outputs = client.exec(ReceiverStream::new(receiver)).await.expect("it runs").into_inner();
    let mut session = Session { running: Running { inputs, outputs }, text: String::new(), state: TerminalState::default(), sent };
    session.prompt().await;
    session.write("echo $MARK-$((2 + 2))\r").await;
    session.until(|session| session.text.contains("kept-4")).await;
    let count = client.count(CountRequest { id: 70 }).await.expect("it is known").into_inner();
    assert_eq!(count.processes, 1);
    session.running.send(exec_input::Input::End(EndProcess { grace_ms: 5000 })).await;
    let exit = session.exit().await;
    assert_eq!(exit.signal, 1, "hung up: {exit:?}");
}

#[tokio::test]
async fn flood_passes_whole_and_input_nobody_reads_does_not_hold_up_signals() {
    let mut client = client().await;
    let start = at_terminal(shell("stty raw; head -c 8000000 /dev/zero | tr '\\0' x; sleep 1000"));
    let mut session = Session::open(&mut client, start).await;
    session.until(|session| session.text.len() == 8_000_000).await;
    for _ in 0..12 {
        session.write(&"y".repeat(1 << 20)).await;
    }
    session.running.send(exec_input::Input::Signal(9)).await;
    assert_eq!(session.exit().await.signal, 9);
}

#[tokio::test]
async fn end_kills_what_ignores_the_hang_up_after_its_grace() {
    let mut client = client().await;
    let start = at_terminal(ExecStart { id: 71, ..shell("trap '' HUP TERM; echo ready; while :; do sleep 0.05; done") });
    let mut session = Session::open(&mut client, start).await;
    session.until(|session| session.text.contains("ready")).await;
    let began = Instant::now();
    session.running.send(exec_input::Input::End(EndProcess { grace_ms: 300 })).await;
    assert_eq!(session.exit().await.signal, 9);
    assert!(began.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn login_shell_is_started_as_one() {
    let mut client = client().await;
    let start = at_terminal(ExecStart { argv: vec!["echo arg0=$0 done".into()], login: true, ..ExecStart::default() });
    let mut session = Session::open(&mut client, start).await;
    let exit = session.exit().await;
    assert!(exit.exit_code == 0 && session.text.contains("arg0=-"), "{:?} {exit:?}", session.text);
}

#[tokio::test]
async fn contained_command_is_counted_and_ended_whole() {
    let has_groups =
        std::path::Path::new("/sys/fs/cgroup/cgroup.procs").exists() && std::fs::create_dir("/sys/fs/cgroup/pyro-probe").is_ok();
    if !has_groups {
        println!("skipped: control groups cannot be made here; a story in a guest sees to it");
        return;
    }
    let _ = std::fs::remove_dir("/sys/fs/cgroup/pyro-probe");
    let id = 0x5000_0000 + u64::from(std::process::id());
    let mut client = client().await;
    let script = "(setsid sh -c 'trap \"\" TERM; echo $$; while :; do sleep 0.1; done' &); exit 0";
    let mut running = Running::start(&mut client, ExecStart { id, contained: true, ..shell(script) }).await;
    let daemon = String::from_utf8_lossy(&running.read().await).trim().parse().expect("a process id");
    assert!(client.count(CountRequest { id }).await.expect("it is known").into_inner().processes >= 1);
    assert!(is_alive(daemon));
    running.send(exec_input::Input::End(EndProcess { grace_ms: 200 })).await;
    assert_eq!(running.finish().await.exit.exit_code, 0);
    assert!(!is_alive(daemon));
    wait_until(|| !std::path::Path::new(&format!("/sys/fs/cgroup/pyro-{id}")).exists()).await;
}
