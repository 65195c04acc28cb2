//! The loop: keys, answers, the clock and signals change the state, and the state is drawn.

use std::{io, path::Path, time::Duration};

use pyro_sdk::{
    Pyro, ShellSession, TerminalSize,
    contract::{ShellList, ShellOpen, ShellState},
    limits::{TerminalColumns, TerminalRows},
    text::{ShellId, WorkspaceReference},
};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

use super::{
    age::now_ms,
    keys::{Decoder, Key},
    look::{Asker, Learnt},
    screen::Screen,
    state::{Action, Effect, Mode, State},
    view::{self, Palette},
};
use crate::terminal::{self, Asked, End, Flow, RawTerminal, Signals, TerminalInput};

/// How often everything is asked again.
const INTERVAL: Duration = Duration::from_secs(1);
/// Exit code when there is no terminal any more, as of a program ended by SIGHUP.
const HUNG_UP: u8 = 129;

/// What goes on: everything but the screen, which is away while a shell is attached.
struct Top {
    pyro: Pyro,
    input: TerminalInput,
    signals: Signals,
    asker: Asker,
    answers: mpsc::UnboundedReceiver<Learnt>,
    state: State,
    palette: Palette,
}

/// Shows the workspaces until a person has seen enough; returns the exit code. The terminal is as it was then.
pub(crate) async fn run(pyro: Pyro, binary: &Path, palette: Palette) -> io::Result<u8> {
    let (asker, answers) = Asker::new(pyro.clone());
    let mut top =
        Top { pyro, input: TerminalInput::open()?, signals: Signals::listen()?, asker, answers, state: State::default(), palette };
    top.measure();
    let mut terminal = RawTerminal::enter(binary)?;
    let (code, flow) = loop {
        terminal.will_show_full_screen();
        let mut screen = Screen::open();
        let left = top.show(&mut screen).await;
        let flow = screen.close().await;
        match left {
            Ok(Left::Ended(code)) => break (Ok(code), flow),
            Ok(Left::Attached(session)) if flow == Flow::Free => {
                if let Some(ended) = top.attach(*session, &mut terminal).await {
                    break ended;
                }
            }
            Ok(Left::Attached(_)) => break (Ok(HUNG_UP), flow),
            Err(error) => break (Err(error), flow),
        }
    };
    terminal.restore(flow);
    code
}

/// Why the screen was left.
enum Left {
    Ended(u8),
    Attached(Box<ShellSession>),
}

impl Top {
    /// Takes the terminal's height.
    fn measure(&mut self) {
        let (_, rows) = terminal::size();
        self.state.page = rows.saturating_sub(view::PANE_FRAME).into();
    }

    /// Shows the screen until it is to be left.
    async fn show(&mut self, screen: &mut Screen) -> io::Result<Left> {
        let mut decoder = Decoder::default();
        let mut clock = interval(INTERVAL);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stale = true;
        let mut attaching: Option<JoinHandle<pyro_sdk::Result<ShellSession>>> = None;
        loop {
            tokio::select! {
                typed = self.input.next() => {
                    let typed = typed?;
                    if typed.is_empty() {
                        return Ok(Left::Ended(HUNG_UP));
                    }
                    for key in decoder.take(&typed) {
                        // What is typed meanwhile is meant for the shell, but it is not there yet.
                        if let Some(task) = &attaching {
                            if matches!(key, Key::Escape | Key::Interrupt) {
                                task.abort();
                                (attaching, self.state.message) = (None, None);
                            }
                            continue;
                        }
                        match self.state.key(key) {
                            Effect::None => {}
                            Effect::Quit => return Ok(Left::Ended(0)),
                            Effect::Redraw => screen.redraw(),
                            Effect::Attach { workspace_id } => {
                                self.state.message = Some("attaching to a shell… Escape gives up".to_owned());
                                let pyro = self.pyro.clone();
                                attaching = Some(tokio::spawn(async move { newest_shell(&pyro, &workspace_id).await }));
                            }
                            Effect::ReadLogs(target) => self.asker.read_logs(&target),
                            Effect::Act { action, workspace_id, label } => self.act(action, workspace_id, label),
                        }
                    }
                    self.read_details();
                }
                attached = joined(&mut attaching) => {
                    attaching = None;
                    match attached {
                        Ok(session) => {
                            self.state.message = None;
                            return Ok(Left::Attached(Box::new(session)));
                        }
                        Err(error) => self.state.message = Some(format!("{error}; {}", error.hint())),
                    }
                }
                Some(learnt) = self.answers.recv() => self.take(learnt),
                _ = clock.tick() => self.ask(),
                asked = self.signals.next() => match asked {
                    Asked::End(code) => return Ok(Left::Ended(code)),
                    Asked::Resize => {
                        self.measure();
                        screen.redraw();
                    }
                },
                () = screen.idle(), if stale => {
                    let Self { state, palette, .. } = &*self;
                    stale = !screen.draw(|frame| view::draw(frame, state, *palette, now_ms()));
                    continue;
                }
            }
            stale = true;
        }
    }

    fn act(&mut self, action: Action, workspace_id: String, label: String) {
        let doing = match action {
            Action::Stop => "stopping",
            Action::Delete => "deleting",
        };
        self.state.begin(workspace_id.clone(), doing);
        self.asker.act(action, workspace_id, label);
    }

    /// Asks everything that is due.
    fn ask(&mut self) {
        self.asker.look();
        for silent in self.asker.ask_memory(self.state.rows()) {
            self.state.take_memory(silent, None);
        }
        self.read_details();
        if let Mode::Logs(pane) = &self.state.mode {
            self.asker.read_logs(&pane.target);
        }
    }

    fn read_details(&mut self) {
        if let Some(row) = self.state.selected() {
            self.asker.read_details(&row.status.workspace_id);
        }
    }

    fn take(&mut self, learnt: Learnt) {
        self.asker.answered(&learnt);
        match learnt {
            Learnt::Look(look) => {
                let (list, usage) = *look;
                let first = self.state.usage().is_none();
                self.state.take_look(list, usage);
                if first {
                    self.ask();
                }
            }
            Learnt::LookFailed(message) => self.state.message = Some(message),
            Learnt::Memory { workspace_id, bytes, .. } => self.state.take_memory(workspace_id, bytes),
            Learnt::Details(details) => self.state.take_details(details),
            Learnt::Logs { target, lines } => self.state.take_logs(&target, lines),
            Learnt::Done { workspace_id, message } => {
                self.state.done(&workspace_id, message);
                self.asker.look();
            }
        }
    }

    /// Shows a shell and comes back after it; an exit code when there is nothing to come back to.
    async fn attach(&mut self, mut session: ShellSession, terminal: &mut RawTerminal) -> Option<(io::Result<u8>, Flow)> {
        terminal.leave_full_screen();
        let attached = match terminal::attach(&mut session, terminal, &self.input, &mut self.signals).await {
            Ok(attached) => attached,
            Err(error) => return Some((Err(error), Flow::Free)),
        };
        self.measure();
        self.state.message = match attached.end {
            End::Signalled(code) => return Some((Ok(code), attached.flow)),
            End::Gone => return Some((Ok(HUNG_UP), attached.flow)),
            End::Detached => Some("detached, and the shell goes on".to_owned()),
            End::Ended(exit) => Some(format!("the shell ended with exit code {}", exit.exit_code)),
            End::Lost(error) => Some(error.to_string()),
        };
        if attached.flow == Flow::Stuck {
            return Some((Ok(HUNG_UP), Flow::Stuck));
        }
        terminal.leave_shell();
        None
    }
}

/// Waits for a task, if there is one.
async fn joined<T>(task: &mut Option<JoinHandle<T>>) -> T {
    match task {
        Some(task) => match task.await {
            Ok(value) => value,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // Given up: whoever did that has taken it away.
            Err(_) => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

/// Attaches to the newest open shell, or opens one of the terminal's size.
async fn newest_shell(pyro: &Pyro, workspace_id: &str) -> pyro_sdk::Result<pyro_sdk::ShellSession> {
    let reference: WorkspaceReference = workspace_id.parse()?;
    let shells = pyro.list_shells(&ShellList { workspace: reference.clone() }).await?.shells;
    let (columns, rows) = terminal::size();
    let size = TerminalSize::nearest(columns, rows);
    let shell: ShellId = match shells.iter().rfind(|shell| shell.state == ShellState::Open) {
        Some(shell) => shell.shell_id.parse()?,
        None => {
            let request = ShellOpen {
                workspace: reference.clone(),
                cwd: pyro_sdk::text::GuestPath::default(),
                cols: TerminalColumns::new(size.columns().into())?,
                rows: TerminalRows::new(size.rows().into())?,
                command: None,
                user: None,
                secret_env: Vec::new(),
                no_history_expansion: false,
            };
            pyro.open_shell(request).await?.shell_id.parse()?
        }
    };
    pyro.workspace(&reference).await?.attach_shell(shell, size).await
}
