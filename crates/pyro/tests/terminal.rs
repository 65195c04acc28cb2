//! The terminal a command has taken over is given back, however the command ends. On a real pseudo-terminal, without a guest.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    fs::{Mode, OFlags, open},
    process::{Pid, Signal, kill_process, kill_process_group},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};

/// How long anything here may take: processes start slowly on a busy host.
const DEADLINE: Duration = Duration::from_secs(30);

/// A terminal and what is on it.
struct Terminal {
    controller: File,
    terminal: OwnedFd,
    shown: std::sync::mpsc::Receiver<Vec<u8>>,
    text: String,
}

impl Terminal {
    fn open() -> Self {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("the test can set itself up");
        grantpt(&controller).and_then(|()| unlockpt(&controller)).expect("the test can set itself up");
        let name = ptsname(&controller, Vec::new()).expect("the test can set itself up");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let terminal = open(&name, flags, Mode::empty()).expect("the test can set itself up");
        let size = Winsize { ws_col: 80, ws_row: 24, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&terminal, size).expect("the test can set itself up");
        let controller = File::from(controller);
        let mut reader = controller.try_clone().expect("the test can set itself up");
        let (sender, shown) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // Ends with the last descriptor of the terminal.
            while let Ok(count) = reader.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { controller, terminal, shown, text: String::new() }
    }

    /// Starts `pyro` on it, in a process group of its own.
    fn start(&self, home: &Path, arguments: &[&str]) -> Child {
        use std::os::unix::process::CommandExt as _;
        let end = || Stdio::from(self.terminal.as_fd().try_clone_to_owned().expect("the test can set itself up"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_pyro"));
        command.args(arguments).env_clear().env("PYRO_HOME", home).process_group(0);
        command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("the binary was built")
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.terminal).expect("the terminal is open").local_modes.contains(LocalModes::ICANON)
    }

    fn type_keys(&mut self, keys: &[u8]) {
        self.controller.write_all(keys).expect("the terminal takes keys");
    }

    /// Waits until a condition holds of the terminal and what was written to it since the last wait.
    fn wait(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = Instant::now() + DEADLINE;
        while !holds(self) {
            assert!(Instant::now() < end, "{what} did not come: {:?}", self.text);
            if let Ok(bytes) = self.shown.recv_timeout(Duration::from_millis(20)) {
                self.text.push_str(&String::from_utf8_lossy(&bytes));
            }
        }
    }

    fn wait_for_top(&mut self) {
        self.wait("the screen", |terminal| terminal.text.contains("no workspaces") && terminal.is_raw());
        self.text.clear();
    }

    fn wait_given_back(&mut self) {
        self.wait("the line discipline", |terminal| !terminal.is_raw());
        self.wait("the main screen", |terminal| terminal.text.contains("\x1b[?1049l") && terminal.text.contains("\x1b[?25h"));
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// Starts `pyro top`, lets `end` end it, and sees the terminal given back.
fn given_back_after(end: impl FnOnce(&mut Terminal, &Child)) -> Option<i32> {
    let home = tempfile::tempdir().expect("the test can set itself up");
    let mut terminal = Terminal::open();
    let mut child = terminal.start(home.path(), &["top"]);
    terminal.wait_for_top();
    end(&mut terminal, &child);
    terminal.wait_given_back();
    child.wait().expect("it was started").code()
}

#[test]
fn terminal_is_given_back_after_quitting() {
    assert_eq!(given_back_after(|terminal, _| terminal.type_keys(b"q")), Some(0));
    assert_eq!(given_back_after(|terminal, _| terminal.type_keys(b"/x\x03")), Some(0));
}

#[test]
fn terminal_is_given_back_after_a_signal() {
    assert_eq!(given_back_after(|_, child| kill_process(pid(child), Signal::TERM).expect("it runs")), Some(143));
    assert_eq!(given_back_after(|_, child| kill_process(pid(child), Signal::HUP).expect("it runs")), Some(129));
}

#[test]
fn terminal_is_given_back_after_a_kill_of_the_whole_process_group() {
    assert_eq!(given_back_after(|_, child| kill_process(pid(child), Signal::KILL).expect("it runs")), None);
    assert_eq!(given_back_after(|_, child| kill_process(pid(child), Signal::ABORT).expect("it runs")), None);
    assert_eq!(given_back_after(|_, child| kill_process_group(pid(child), Signal::KILL).expect("it runs")), None);
}

#[test]
fn keys_typed_for_what_was_killed_do_not_reach_the_shell_after_it() {
    let home = tempfile::tempdir().expect("the test can set itself up");
    let mut terminal = Terminal::open();
    let mut child = terminal.start(home.path(), &["top"]);
    terminal.wait_for_top();
    // Stopped, it reads nothing: what is typed waits in the terminal's queue.
    kill_process(pid(&child), Signal::STOP).expect("it runs");
    terminal.type_keys(b"rm -rf build\n");
    kill_process(pid(&child), Signal::KILL).expect("it runs");
    terminal.wait_given_back();
    child.wait().expect("it was started");
    assert_eq!(rustix::io::ioctl_fionread(&terminal.terminal).expect("the terminal is open"), 0);
}

#[test]
fn commands_that_need_a_terminal_say_so() {
    let home = tempfile::tempdir().expect("the test can set itself up");
    for arguments in [&["top"][..], &["workspace", "shell", "attach", "api", "sh1"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pyro"));
        command.args(arguments).env_clear().env("PYRO_HOME", home.path()).stdin(Stdio::null());
        let output = command.output().expect("the binary was built");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("are not a terminal") && !output.status.success(), "{text}");
    }
}
