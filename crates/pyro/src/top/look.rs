//! Asks what the screen shows. Every question is a task of its own that sends its answer; none waits for another, and none is asked again
//! before it is answered.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use pyro_sdk::{
    HostUsage, Observer, Pyro, Workspace,
    contract::{ShellList, WorkspaceDelete, WorkspaceEvents, WorkspaceList, WorkspaceListRequest, WorkspaceState, WorkspaceStatus},
    limits::EventLimit,
    text::WorkspaceReference,
};
use serde::Serialize;
use tokio::sync::mpsc;

use super::{
    logs,
    state::{Action, Details, Target},
};

/// How often a supervisor is asked for its memory: the kernel walks all its pages for that.
const MEMORY_INTERVAL: Duration = Duration::from_secs(2);
/// After how long a supervisor that has not answered counts as silent. It answers from memory, within milliseconds.
const SILENCE: Duration = Duration::from_millis(1_500);
/// How far two looks are apart when there is only one answer.
const ONCE_INTERVAL: Duration = Duration::from_millis(500);
/// Most events of a workspace that are shown.
const EVENTS: u64 = 50;

/// What came of a question.
#[derive(Debug)]
pub(super) enum Learnt {
    Look(Box<(WorkspaceList, HostUsage)>),
    /// The registry cannot be read.
    LookFailed(String),
    /// `None`: it did not answer. The handle is kept for the next time.
    Memory {
        workspace_id: String,
        bytes: Option<u64>,
        handle: Option<Workspace>,
    },
    Details(Details),
    Logs {
        target: Target,
        lines: Vec<String>,
    },
    Done {
        workspace_id: String,
        message: String,
    },
}

/// Asks, and remembers what is still open.
#[derive(Debug)]
pub(super) struct Asker {
    pyro: Pyro,
    answers: mpsc::UnboundedSender<Learnt>,
    looking: bool,
    reading_details: bool,
    reading_logs: bool,
    /// When each supervisor was asked, and whether it has answered.
    asked: HashMap<String, (Instant, bool)>,
    workspaces: HashMap<String, Workspace>,
    /// The newest event seen of the workspace whose details are read, so that not all of them are read each time.
    events: (String, u64, Vec<pyro_sdk::contract::Event>),
}

impl Asker {
    pub(super) fn new(pyro: Pyro) -> (Self, mpsc::UnboundedReceiver<Learnt>) {
        let (answers, receiver) = mpsc::unbounded_channel();
        let asker = Self {
            pyro,
            answers,
            looking: false,
            reading_details: false,
            reading_logs: false,
            asked: HashMap::new(),
            workspaces: HashMap::new(),
            events: (String::new(), 0, Vec::new()),
        };
        (asker, receiver)
    }

    fn spawn(&self, question: impl Future<Output = Learnt> + Send + 'static) {
        let answers = self.answers.clone();
        tokio::spawn(async move { drop(answers.send(question.await)) });
    }

    /// Asks for the list and what the machines use.
    pub(super) fn look(&mut self) {
        if std::mem::replace(&mut self.looking, true) {
            return;
        }
        let pyro = self.pyro.clone();
        self.spawn(async move {
            match look(&pyro).await {
                Ok(look) => Learnt::Look(Box::new(look)),
                Err(error) => Learnt::LookFailed(error.to_string()),
            }
        });
    }

    /// Asks supervisors for their memory that are due, and returns the ids of those that have been silent for too long.
    pub(super) fn ask_memory(&mut self, rows: &[super::state::Row]) -> Vec<String> {
        let now = Instant::now();
        let running: HashSet<&str> =
            rows.iter().filter(|row| row.status.state == WorkspaceState::Running).map(|row| row.status.workspace_id.as_str()).collect();
        self.asked.retain(|id, _| running.contains(id.as_str()));
        self.workspaces.retain(|id, _| running.contains(id.as_str()));
        let mut silent = Vec::new();
        for id in running {
            match self.asked.get(id) {
                Some((at, false)) => {
                    if now - *at >= SILENCE {
                        silent.push(id.to_owned());
                    }
                    continue;
                }
                Some((at, true)) if now - *at < MEMORY_INTERVAL => continue,
                Some(_) | None => {}
            }
            self.asked.insert(id.to_owned(), (now, false));
            let (pyro, handle, workspace_id) = (self.pyro.clone(), self.workspaces.get(id).cloned(), id.to_owned());
            self.spawn(async move {
                let handle = match handle {
                    Some(handle) => Some(handle),
                    None => handle_of(&pyro, &workspace_id).await,
                };
                let bytes = memory(handle.as_ref()).await;
                Learnt::Memory { workspace_id, bytes, handle }
            });
        }
        silent
    }

    /// Asks for what is shown of one workspace.
    pub(super) fn read_details(&mut self, workspace_id: &str) {
        if std::mem::replace(&mut self.reading_details, true) {
            return;
        }
        if self.events.0 != workspace_id {
            self.events = (workspace_id.to_owned(), 0, Vec::new());
        }
        let (pyro, (workspace_id, cursor, events)) = (self.pyro.clone(), self.events.clone());
        self.spawn(async move {
            let details = details(&pyro, &workspace_id, cursor, events.clone()).await;
            // A workspace that was deleted just now has no details.
            Learnt::Details(details.unwrap_or_else(|_| Details { workspace_id, shells: Vec::new(), events }))
        });
    }

    pub(super) fn read_logs(&mut self, target: &Target) {
        if std::mem::replace(&mut self.reading_logs, true) {
            return;
        }
        let (pyro, target) = (self.pyro.clone(), target.clone());
        self.spawn(async move {
            let lines = logs::read(&pyro, &target).await.unwrap_or_else(|error| vec![error.to_string()]);
            Learnt::Logs { target, lines }
        });
    }

    /// Stops or deletes a workspace.
    pub(super) fn act(&self, action: Action, workspace_id: String, label: String) {
        let pyro = self.pyro.clone();
        self.spawn(async move {
            let done = act(&pyro, action, &workspace_id).await;
            let message = match (action, done) {
                (Action::Stop, Ok(())) => format!("stopped `{label}`; start it with `pyro workspace start {label}`"),
                (Action::Delete, Ok(())) => format!("deleted `{label}`"),
                (_, Err(error)) => error.to_string(),
            };
            Learnt::Done { workspace_id, message }
        });
    }

    /// Notes that a question was answered.
    pub(super) fn answered(&mut self, learnt: &Learnt) {
        match learnt {
            Learnt::Look(_) | Learnt::LookFailed(_) => self.looking = false,
            Learnt::Memory { workspace_id, handle, .. } => {
                if let Some((_, answered)) = self.asked.get_mut(workspace_id) {
                    *answered = true;
                    self.workspaces.extend(handle.clone().map(|handle| (workspace_id.clone(), handle)));
                }
            }
            Learnt::Details(details) => {
                self.reading_details = false;
                if details.workspace_id == self.events.0 {
                    self.events.1 = details.events.last().map_or(self.events.1, |event| event.sequence);
                    self.events.2.clone_from(&details.events);
                }
            }
            Learnt::Logs { .. } => self.reading_logs = false,
            Learnt::Done { .. } => {}
        }
    }
}

async fn look(pyro: &Pyro) -> pyro_sdk::Result<(WorkspaceList, HostUsage)> {
    let list = pyro.list_workspaces(WorkspaceListRequest::default()).await?;
    Ok((list, pyro.usage().await?))
}

async fn handle_of(pyro: &Pyro, workspace_id: &str) -> Option<Workspace> {
    pyro.workspace(&workspace_id.parse().ok()?).await.ok()
}

async fn memory(workspace: Option<&Workspace>) -> Option<u64> {
    workspace?.status().await.ok()?.memory_used_bytes
}

async fn details(
    pyro: &Pyro,
    workspace_id: &str,
    mut cursor: u64,
    mut events: Vec<pyro_sdk::contract::Event>,
) -> pyro_sdk::Result<Details> {
    let workspace: WorkspaceReference = workspace_id.parse()?;
    let shells = pyro.list_shells(&ShellList { workspace: workspace.clone() }).await?.shells;
    loop {
        let request = WorkspaceEvents { workspace: workspace.clone(), cursor, limit: EventLimit::default() };
        let answer = pyro.events(&request).await?;
        cursor = answer.next_cursor;
        events.extend(answer.events);
        events.drain(..events.len().saturating_sub(usize::try_from(EVENTS).unwrap_or(usize::MAX)));
        if !answer.truncated {
            return Ok(Details { workspace_id: workspace_id.to_owned(), shells, events });
        }
    }
}

async fn act(pyro: &Pyro, action: Action, workspace_id: &str) -> pyro_sdk::Result<()> {
    let workspace: WorkspaceReference = workspace_id.parse()?;
    match action {
        Action::Stop => pyro.workspace(&workspace).await?.stop(&Observer::none()).await.map(drop),
        // What runs in it was named when it was asked for.
        Action::Delete => pyro.delete_workspace(WorkspaceDelete { workspace, force: true }, &Observer::none()).await.map(drop),
    }
}

/// One look, for programs.
#[derive(Debug, Serialize)]
pub(crate) struct Once {
    cpu_count: u64,
    cpu_percent: Option<f64>,
    disk_free_bytes: u64,
    memory_available_bytes: u64,
    memory_total_bytes: u64,
    memory_used_bytes: u64,
    standby_count: usize,
    workspaces: Vec<OnceRow>,
}

#[derive(Debug, Serialize)]
struct OnceRow {
    cpu_percent: Option<f64>,
    #[serde(flatten)]
    status: WorkspaceStatus,
}

/// Looks once, or rather twice: processor time is what was used in between.
pub(crate) async fn once(pyro: &Pyro) -> pyro_sdk::Result<Once> {
    let before = pyro.usage().await?;
    tokio::time::sleep(ONCE_INTERVAL).await;
    let (list, usage) = look(pyro).await?;
    let asked: Vec<_> = list
        .workspaces
        .iter()
        .map(|status| {
            let (pyro, id) = (pyro.clone(), status.workspace_id.clone());
            let running = status.state == WorkspaceState::Running;
            tokio::spawn(async move {
                if !running {
                    return None;
                }
                let ask = async { memory(handle_of(&pyro, &id).await.as_ref()).await };
                tokio::time::timeout(SILENCE, ask).await.ok().flatten()
            })
        })
        .collect();
    let mut workspaces = Vec::new();
    for (mut status, memory) in list.workspaces.into_iter().zip(asked) {
        status.memory_used_bytes = memory.await.ok().flatten();
        let cpu_percent = usage.workspace_cpu_percent_since(&before, &status.workspace_id);
        workspaces.push(OnceRow { cpu_percent, status });
    }
    let standby: u64 = usage.machines.iter().filter_map(|machine| machine.memory_bytes).sum();
    Ok(Once {
        cpu_count: usage.cpu_count,
        cpu_percent: usage.cpu_percent_since(&before),
        disk_free_bytes: usage.disk_free_bytes,
        memory_available_bytes: usage.memory_available_bytes,
        memory_total_bytes: usage.memory_total_bytes,
        memory_used_bytes: standby + workspaces.iter().filter_map(|row| row.status.memory_used_bytes).sum::<u64>(),
        standby_count: usage.standby_count(),
        workspaces,
    })
}
