//! Terminals: what comes out of them, what goes in, and what is told about them.

use pyro_proto::v1::{EndProcess, ExecAttach, TerminalSize, TerminalState};

use super::*;

/// A shell with nobody's settings; its prompt is `$ `.
fn bash(id: u64) -> ExecStart {
    let prompt = EnvironmentVariable { name: "PS1".into(), value: "$ ".into() };
    ExecStart { id, env: vec![prompt], ..at_terminal(command(&["bash", "--norc", "--noprofile", "-i"])) }
}

fn at_terminal(start: ExecStart) -> ExecStart {
    ExecStart { terminal: Some(TerminalSize { columns: 80, rows: 24 }), stdin: true, ..start }
}

/// A command at a terminal, with what it has said and what was told about it.
struct Screen {
    running: Running,
    text: String,
    state: Option<TerminalState>,
    sent: u64,
}

impl Screen {
    async fn open(start: ExecStart) -> Self {
        Self::of(Running::start(&mut client().await, start).await)
    }

    fn of(running: Running) -> Self {
        Self { running, text: String::new(), state: None, sent: 0 }
    }

    async fn type_in(&mut self, text: &str) {
        self.sent += text.len() as u64;
        self.running.send(exec_input::Input::Stdin(text.to_owned().into())).await;
    }

    /// Takes one output; returns the exit if it is one.
    async fn next(&mut self) -> Option<ExecExit> {
        let next = tokio::time::timeout(DEADLINE, self.running.outputs.message()).await;
        let next = next.unwrap_or_else(|_| panic!("nothing comes after {:?} {:?}", self.text, self.state));
        match next.expect("the call lives").expect("the exit comes last").output.expect("an output") {
            exec_output::Output::Started(_) => {}
            exec_output::Output::Stdout(bytes) => self.text.push_str(&String::from_utf8_lossy(&bytes)),
            exec_output::Output::Stderr(_) => panic!("a terminal has one stream"),
            exec_output::Output::Terminal(state) => self.state = Some(state),
            exec_output::Output::Exit(exit) => return Some(exit),
        }
        None
    }

    async fn until(&mut self, mut condition: impl FnMut(&Self) -> bool) {
        while !condition(self) {
            if let Some(exit) = self.next().await {
                panic!("it has ended with {exit:?} after {:?}", self.text);
            }
        }
    }

    /// Waits until the shell has dealt with everything typed; takes what was said.
    async fn prompt(&mut self) -> String {
        let sent = self.sent;
        self.until(|screen| screen.state.is_some_and(|state| state.prompt && state.input_bytes == sent)).await;
        // How readline says whether pasted text is to be bracketed.
        std::mem::take(&mut self.text).replace("\x1b[?2004l\r", "").replace("\x1b[?2004h", "")
    }

    async fn program(&mut self) {
        self.until(|screen| screen.state.is_some_and(|state| state.program)).await;
    }

    async fn exit(&mut self) -> ExecExit {
        loop {
            if let Some(exit) = self.next().await {
                return exit;
            }
        }
    }
}

#[tokio::test]
async fn shell_echoes_runs_and_comes_back_to_its_prompt() {
    let mut screen = Screen::open(bash(0)).await;
    screen.prompt().await;
    screen.type_in("echo $((6 * 7)) $TERM; tty >/dev/tty\n").await;
    let text = screen.prompt().await;
    assert!(text.starts_with("echo $((6 * 7))"), "{text:?}");
    assert!(text.contains("\r\n42 xterm-256color\r\n/dev/pts/"), "{text:?}");
    assert!(text.ends_with("$ "), "the prompt is told after what was printed before it: {text:?}");
    screen.type_in("exit 7\n").await;
    assert_eq!(screen.exit().await.exit_code, 7);
}

#[tokio::test]
async fn state_is_told_first_and_output_is_never_overtaken_by_it() {
    let mut screen = Screen::open(bash(0)).await;
    assert_eq!((screen.next().await, screen.next().await), (None, None));
    assert_eq!(screen.state, Some(TerminalState::default()), "it comes right after `started`");
    screen.prompt().await;
    for round in 0..30 {
        screen.type_in(&format!("seq 1 200; echo round $(({round} + 1000))\n")).await;
        let text = screen.prompt().await;
        assert!(text.contains(&format!("\nround {}\r\n", round + 1000)) && text.ends_with("$ "), "{text:?}");
    }
}

#[tokio::test]
async fn program_in_the_foreground_is_no_prompt_and_neither_is_a_substitution() {
    let mut screen = Screen::open(bash(0)).await;
    screen.prompt().await;
    screen.type_in("sleep 1000\n").await;
    screen.program().await;
    assert!(!screen.state.expect("it was told").prompt);
    // By the key, then by a signal.
    screen.type_in("\x03").await;
    screen.prompt().await;
    screen.type_in("sleep 1000\n").await;
    screen.program().await;
    screen.running.send(exec_input::Input::Signal(2)).await;
    screen.until(|screen| screen.state.is_some_and(|state| state.prompt)).await;
    screen.type_in("echo $?\n").await;
    assert!(screen.prompt().await.contains("\n130\r\n"));

    let began = Instant::now();
    screen.type_in("x=$(sleep 1); echo 'done'\n").await;
    let text = screen.prompt().await;
    assert!(began.elapsed() >= Duration::from_secs(1) && text.contains("\ndone\r\n"), "{text:?} after {:?}", began.elapsed());
}

#[tokio::test]
async fn shells_that_wait_in_other_ways_are_at_their_prompt_too() {
    let reader = "import os, select, sys\nfor line in sys.stdin: print(line.strip().upper(), flush=True)";
    let poller = "import os, select\np = select.poll(); p.register(0, select.POLLIN)\nwhile p.poll(): print(os.read(0, 99).decode().strip().upper(), flush=True)";
    for argv in [vec!["dash", "-i"], vec!["python3", "-c", reader], vec!["python3", "-c", poller]] {
        let mut screen = Screen::open(at_terminal(command(&argv))).await;
        screen.prompt().await;
        screen.type_in("x=$(sleep 0.3); echo a\n").await;
        let text = screen.prompt().await;
        let expected = if argv[0] == "dash" { "\na\r\n" } else { "\nX=$(SLEEP 0.3); ECHO A\r\n" };
        assert!(text.contains(expected), "{argv:?}: {text:?}");
    }
    // Waiting for something else is none.
    let mut screen =
        Screen::open(at_terminal(command(&["sh", "-c", "read x; mkfifo $x; echo made; read y <$x; echo got $y; read z"]))).await;
    screen.prompt().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let fifo = folder.path().join("fifo");
    screen.type_in(&format!("{}\n", fifo.display())).await;
    screen.until(|screen| screen.text.contains("made")).await;
    let sent = screen.sent;
    screen.until(|screen| screen.state.is_some_and(|state| state.input_bytes == sent && !state.prompt)).await;
    std::fs::write(fifo, "word\n").expect("somebody reads it");
    let text = screen.prompt().await;
    assert!(text.contains("got word"), "{text:?}");
}

#[tokio::test]
async fn terminal_has_the_size_it_was_given_last() {
    let mut screen = Screen::open(bash(0)).await;
    screen.prompt().await;
    screen.type_in("stty size\n").await;
    assert!(screen.prompt().await.contains("\n24 80\r\n"));
    screen.type_in("trap 'echo resized' WINCH; cat\n").await;
    screen.program().await;
    screen.running.send(exec_input::Input::Resize(TerminalSize { columns: 100, rows: 1000 })).await;
    screen.type_in("\x04").await;
    screen.prompt().await;
    screen.type_in("stty size\n").await;
    assert!(screen.prompt().await.contains("\n200 100\r\n"));
}

#[tokio::test]
async fn login_shell_has_a_dash_before_its_name() {
    let login = |argv: &[&str]| {
        let home = EnvironmentVariable { name: "HOME".into(), value: "/nonexistent".into() };
        ExecStart { login: true, env: vec![home], ..command(argv) }
    };
    let finished = run(login(&["echo $0; shopt -q login_shell && echo login"])).await;
    let shell = std::fs::read_to_string("/etc/passwd").expect("a passwd file");
    let shell = shell.lines().next().and_then(|line| line.rsplit('/').next()).expect("root is first and has a shell");
    assert_eq!(String::from_utf8_lossy(&finished.stdout), format!("-{shell}\nlogin\n"));
    let mut screen = Screen::open(at_terminal(login(&[]))).await;
    screen.prompt().await;
    screen.type_in("echo \"<$0>\"\n").await;
    assert!(screen.prompt().await.contains(&format!("<-{shell}>")));
    screen.type_in("logout\n").await;
    assert_eq!(screen.exit().await.exit_code, 0);
}

#[tokio::test]
async fn shell_outlives_its_call_and_the_next_one_is_told_what_is_going_on() {
    let mut client = client().await;
    let mut screen = Screen::of(Running::start(&mut client, bash(1 << 61)).await);
    screen.prompt().await;
    screen.type_in("sleep 1000\n").await;
    screen.program().await;
    drop(screen);

    let (inputs, receiver) = mpsc::channel(4);
    inputs.send(input(exec_input::Input::Attach(ExecAttach { id: 1 << 61 }))).await.expect("the receiver is here");
    let outputs = client.exec(ReceiverStream::new(receiver)).await.expect("it runs").into_inner();
    let mut screen = Screen::of(Running { inputs, outputs });
    assert_eq!((screen.next().await, screen.next().await), (None, None));
    assert!(screen.state.is_some_and(|state| state.program && state.input_bytes == 11), "{:?}", screen.state);
    screen.sent = 11;
    // No input is lost, and none is wanted back.
    screen.running.send(exec_input::Input::StdinClosed(StdinClosed {})).await;
    screen.type_in("\x03").await;
    screen.prompt().await;
    screen.type_in("echo later\n").await;
    assert!(screen.prompt().await.contains("\nlater\r\n"));
    screen.running.send(exec_input::Input::End(EndProcess { grace_ms: 30_000 })).await;
    assert_eq!(screen.exit().await.signal, 1);
}

#[tokio::test]
async fn much_output_comes_through_a_terminal_whole() {
    let mut screen = Screen::open(at_terminal(shell("stty -opost; head -c 16777216 /dev/zero | tr '\\000' x; echo end"))).await;
    let began = Instant::now();
    assert_eq!(screen.exit().await.exit_code, 0);
    assert_eq!(screen.text.len(), (16 << 20) + 4);
    assert!(screen.text.ends_with("xxxend\n"));
    println!("16 MiB in {:?}", began.elapsed());
}

#[tokio::test]
async fn last_words_before_the_end_are_not_lost() {
    let mut client = client().await;
    for round in 0..50 {
        let finished = Running::start(&mut client, at_terminal(shell(&format!("echo {round}; exit 5")))).await.finish().await;
        assert_eq!((String::from_utf8_lossy(&finished.stdout).as_ref(), finished.exit.exit_code), (format!("{round}\r\n").as_str(), 5));
    }
}

#[tokio::test]
async fn much_input_reaches_a_program_at_the_terminal_whole() {
    let mut screen = Screen::open(at_terminal(shell("stty raw -echo; echo ready; sleep 0.2; head -c 3000000 | cksum"))).await;
    screen.until(|screen| screen.text.contains("ready")).await;
    for _ in 0..30 {
        screen.type_in(&"0123456789".repeat(10_000)).await;
    }
    assert_eq!(screen.exit().await.exit_code, 0);
    let expected = run(shell("yes 0123456789 | tr -d '\\n' | head -c 3000000 | cksum")).await;
    let expected = String::from_utf8_lossy(&expected.stdout).trim().to_owned();
    assert!(screen.text.contains(&expected), "{:?} {expected:?}", screen.text);
}

#[tokio::test]
async fn terminal_that_reads_nothing_is_ended_all_the_same() {
    let mut screen = Screen::open(at_terminal(shell("trap '' HUP TERM; stty raw; echo ready; while :; do sleep 1; done"))).await;
    screen.until(|screen| screen.text.contains("ready")).await;
    for _ in 0..24 {
        screen.type_in(&"x".repeat(1 << 20)).await;
    }
    // The second one, with the shorter grace, takes effect.
    screen.running.send(exec_input::Input::End(EndProcess { grace_ms: 600_000 })).await;
    screen.running.send(exec_input::Input::End(EndProcess { grace_ms: 100 })).await;
    assert_eq!(screen.exit().await.signal, 9);
}

#[tokio::test]
async fn end_of_a_shell_ends_the_program_in_its_foreground() {
    let mut screen = Screen::open(bash(0)).await;
    screen.prompt().await;
    screen.type_in("sh -c 'trap \"\" HUP; echo pid=$$=; while :; do sleep 0.1; done'\n").await;
    screen.until(|screen| screen.text.matches('=').count() >= 4).await;
    screen.program().await;
    let pid = screen.text.rsplit('=').nth(1).expect("a process id").parse().expect("a number");
    screen.running.send(exec_input::Input::End(EndProcess { grace_ms: 200 })).await;
    screen.exit().await;
    wait_until(|| !is_alive(pid)).await;
}

#[tokio::test]
async fn shutdown_does_not_wait_for_an_idle_shell() {
    let mut client = client().await;
    let mut screen = Screen::of(Running::start(&mut client, bash(0)).await);
    screen.prompt().await;
    let began = Instant::now();
    client.shutdown(ShutdownRequest { grace_ms: 50_000 }).await.expect("it ends");
    assert!(began.elapsed() < Duration::from_secs(40));
    assert_eq!(screen.exit().await.signal, 1);
}

#[tokio::test]
async fn idle_shell_is_left_alone() {
    let mut screen = Screen::open(bash(0)).await;
    screen.prompt().await;
    let quiet = tokio::time::timeout(Duration::from_millis(1500), screen.running.outputs.message()).await;
    assert!(quiet.is_err(), "nothing is told when nothing happens: {quiet:?}");
}
