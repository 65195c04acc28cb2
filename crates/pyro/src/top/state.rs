//! What the screen shows and what keys do to it. Pure: it is told what was learnt and answers keys with what is to be done.
//!
//! ```text
//! browse ── / ──► filter     Enter keeps it, Escape takes it away
//!   │ ├─── x d ─► confirm    y does it, every other key does not
//!   │ └─── l s ─► logs       q and Escape go back
//!   └───── ? ───► help       any key goes back
//! ```

use std::{cmp::Reverse, collections::HashMap};

use pyro_sdk::{
    HostUsage,
    contract::{Event, ServiceInBrief, ServiceState, Shell, WorkspaceList, WorkspaceState, WorkspaceStatus},
};

use super::keys::Key;

/// What a supervisor said of its machine's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Memory {
    /// There is no machine to ask.
    None,
    /// It has not been asked yet, or does not answer.
    Unknown,
    Bytes(u64),
}

/// One workspace.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) status: WorkspaceStatus,
    pub(super) cpu_percent: Option<f64>,
    pub(super) memory: Memory,
    /// What is being done to it.
    pub(super) doing: Option<&'static str>,
}

impl Row {
    /// Returns what a person calls it.
    pub(super) fn label(&self) -> &str {
        self.status.name.as_deref().unwrap_or(&self.status.workspace_id)
    }

    /// Counts services that can be used: one without a readiness probe only runs.
    pub(super) fn services_ready(&self) -> usize {
        let usable = |service: &&ServiceInBrief| matches!(service.state, ServiceState::Ready | ServiceState::Running);
        self.status.services.iter().filter(usable).count()
    }

    /// Tells what would end with the machine.
    pub(super) fn running(&self) -> String {
        let count = |count: u64, one: &str, many: &str| match count {
            0 => None,
            1 => Some(format!("1 {one}")),
            count => Some(format!("{count} {many}")),
        };
        let alive: Vec<&ServiceInBrief> = self.status.services.iter().filter(|service| service.state.is_alive()).collect();
        let names = alive.iter().map(|service| format!("`{}`", service.service_name)).collect::<Vec<_>>().join(", ");
        let parts: Vec<String> = [
            count(self.status.running_command_count, "command", "commands"),
            count(alive.len() as u64, "service", "services").map(|count| format!("{count} ({names})")),
            count(self.status.open_shell_count, "shell", "shells"),
        ]
        .into_iter()
        .flatten()
        .collect();
        if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
    }
}

/// What is shown of the selected workspace alone.
#[derive(Debug, Clone, Default)]
pub(super) struct Details {
    pub(super) workspace_id: String,
    pub(super) shells: Vec<Shell>,
    /// Newest last.
    pub(super) events: Vec<Event>,
}

/// What the table is sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Order {
    #[default]
    Activity,
    Name,
    State,
    Cpu,
    Memory,
    Disk,
}

impl Order {
    const ALL: [Self; 6] = [Self::Activity, Self::Name, Self::State, Self::Cpu, Self::Memory, Self::Disk];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Activity => "activity",
            Self::Name => "name",
            Self::State => "state",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Disk => "disk",
        }
    }

    fn next(self) -> Self {
        let at = Self::ALL.iter().position(|order| *order == self).unwrap_or(0);
        Self::ALL[(at + 1) % Self::ALL.len()]
    }

    fn sort(self, rows: &mut [&Row]) {
        // The list comes newest activity first, and sorting keeps that among equals.
        match self {
            Self::Activity => {}
            Self::Name => rows.sort_by(|a, b| a.label().cmp(b.label())),
            Self::State => rows.sort_by_key(|row| row.status.state != WorkspaceState::Running),
            Self::Cpu => rows.sort_by(|a, b| b.cpu_percent.unwrap_or(-1.0).total_cmp(&a.cpu_percent.unwrap_or(-1.0))),
            Self::Memory => rows.sort_by_key(|row| Reverse(if let Memory::Bytes(bytes) = row.memory { bytes } else { 0 })),
            Self::Disk => rows.sort_by_key(|row| Reverse(row.status.disk_used_bytes)),
        }
    }
}

/// Which part the arrow keys move in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Focus {
    #[default]
    Table,
    Services,
}

/// What ends a workspace's machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Stop,
    Delete,
}

/// Whose output a pane shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) workspace_id: String,
    pub(super) label: String,
    /// A service; else the journal.
    pub(super) service: Option<String>,
}

/// Text that is looked through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pane {
    pub(super) target: Target,
    pub(super) lines: Vec<String>,
    /// First line shown, unless the end is followed.
    pub(super) top: usize,
    pub(super) follows_end: bool,
}

impl Pane {
    /// Returns the first line shown of `height`.
    pub(super) fn first(&self, height: usize) -> usize {
        let last = self.lines.len().saturating_sub(height);
        if self.follows_end { last } else { self.top.min(last) }
    }

    fn scroll(&mut self, lines: isize, height: usize) {
        let last = self.lines.len().saturating_sub(height);
        self.top = self.first(height).saturating_add_signed(lines).min(last);
        self.follows_end = self.top == last;
    }
}

/// What the keys are for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Mode {
    #[default]
    Browse,
    Filter,
    Confirm {
        action: Action,
        workspace_id: String,
        label: String,
        running: String,
    },
    Logs(Pane),
    Help,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    None,
    Quit,
    Redraw,
    Attach { workspace_id: String },
    ReadLogs(Target),
    Act { action: Action, workspace_id: String, label: String },
}

/// The screen.
#[derive(Debug, Default)]
pub(super) struct State {
    rows: Vec<Row>,
    usage: Option<HostUsage>,
    pub(super) cpu_percent: Option<f64>,
    memory: HashMap<String, Memory>,
    doing: HashMap<String, &'static str>,
    details: Option<Details>,
    selected: Option<String>,
    /// Where the selected one was, for when it is gone.
    selected_at: usize,
    pub(super) service: usize,
    pub(super) focus: Focus,
    pub(super) order: Order,
    pub(super) filter: String,
    pub(super) mode: Mode,
    pub(super) message: Option<String>,
    /// Lines of a pane and of a page.
    pub(super) page: usize,
}

impl State {
    /// Returns the rows that are shown, in order.
    pub(super) fn visible(&self) -> Vec<&Row> {
        let wanted = self.filter.to_lowercase();
        let matches = |row: &&Row| {
            let status = &row.status;
            let labels = status.labels.iter().map(|(key, value)| format!("{key}={value}"));
            let texts = [row.label().to_owned(), status.workspace_id.clone(), status.environment.clone(), status.state.as_str().to_owned()];
            texts.into_iter().chain(labels).any(|text| text.to_lowercase().contains(&wanted))
        };
        let mut rows: Vec<&Row> = self.rows.iter().filter(matches).collect();
        self.order.sort(&mut rows);
        rows
    }

    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub(super) const fn usage(&self) -> Option<&HostUsage> {
        self.usage.as_ref()
    }

    /// Returns where the selected row is among the visible ones.
    pub(super) fn selected_index(&self) -> Option<usize> {
        let rows = self.visible();
        let at = self.selected.as_ref().and_then(|id| rows.iter().position(|row| &row.status.workspace_id == id));
        at.or_else(|| rows.len().checked_sub(1).map(|last| self.selected_at.min(last)))
    }

    pub(super) fn selected(&self) -> Option<&Row> {
        self.selected_index().and_then(|at| self.visible().get(at).copied())
    }

    /// Returns what is known of the selected workspace alone.
    pub(super) fn details(&self) -> Option<&Details> {
        let id = &self.selected()?.status.workspace_id;
        self.details.as_ref().filter(|details| &details.workspace_id == id)
    }

    pub(super) fn take_look(&mut self, list: WorkspaceList, usage: HostUsage) {
        let earlier = self.usage.take();
        self.cpu_percent = earlier.as_ref().and_then(|earlier| usage.cpu_percent_since(earlier));
        self.rows = list
            .workspaces
            .into_iter()
            .map(|status| Row {
                cpu_percent: earlier.as_ref().and_then(|earlier| usage.workspace_cpu_percent_since(earlier, &status.workspace_id)),
                memory: Memory::None,
                doing: self.doing.get(&status.workspace_id).copied(),
                status,
            })
            .collect();
        self.usage = Some(usage);
        self.memory.retain(|id, _| self.rows.iter().any(|row| &row.status.workspace_id == id));
        self.apply_memory();
        self.keep_selection();
    }

    /// Takes what a supervisor said; `None` when it said nothing in time.
    pub(super) fn take_memory(&mut self, workspace_id: String, bytes: Option<u64>) {
        self.memory.insert(workspace_id, bytes.map_or(Memory::Unknown, Memory::Bytes));
        self.apply_memory();
    }

    fn apply_memory(&mut self) {
        for row in &mut self.rows {
            row.memory = match row.status.state {
                WorkspaceState::Running => self.memory.get(&row.status.workspace_id).copied().unwrap_or(Memory::Unknown),
                WorkspaceState::Creating
                | WorkspaceState::Stopping
                | WorkspaceState::Stopped
                | WorkspaceState::Starting
                | WorkspaceState::Deleting => Memory::None,
            };
        }
    }

    pub(super) fn take_details(&mut self, details: Details) {
        self.details = Some(details);
    }

    pub(super) fn take_logs(&mut self, target: &Target, lines: Vec<String>) {
        if let Mode::Logs(pane) = &mut self.mode
            && pane.target == *target
        {
            pane.lines = lines;
        }
    }

    /// Says what is being done to a workspace, until it is done.
    pub(super) fn begin(&mut self, workspace_id: String, doing: &'static str) {
        self.doing.insert(workspace_id, doing);
        for row in &mut self.rows {
            row.doing = self.doing.get(&row.status.workspace_id).copied();
        }
    }

    pub(super) fn done(&mut self, workspace_id: &str, message: String) {
        self.doing.remove(workspace_id);
        for row in self.rows.iter_mut().filter(|row| row.status.workspace_id == workspace_id) {
            row.doing = None;
        }
        self.message = Some(message);
    }

    /// Does what a key is for.
    pub(super) fn key(&mut self, key: Key) -> Effect {
        if key == Key::Interrupt {
            return Effect::Quit;
        }
        if key == Key::Redraw {
            return Effect::Redraw;
        }
        self.message = None;
        match &mut self.mode {
            Mode::Browse => return self.browse(key),
            Mode::Filter => match key {
                Key::Character(character) => self.filter.push(character),
                Key::Backspace => drop(self.filter.pop()),
                Key::Enter => self.mode = Mode::Browse,
                Key::Escape => {
                    self.filter.clear();
                    self.mode = Mode::Browse;
                }
                Key::Up => self.step(-1),
                Key::Down => self.step(1),
                Key::PageUp | Key::PageDown | Key::Home | Key::End | Key::Tab | Key::Interrupt | Key::Redraw => {}
            },
            Mode::Confirm { action, workspace_id, label, .. } => {
                let act = Effect::Act { action: *action, workspace_id: workspace_id.clone(), label: label.clone() };
                self.mode = Mode::Browse;
                if matches!(key, Key::Character('y' | 'Y')) {
                    return act;
                }
            }
            Mode::Help => self.mode = Mode::Browse,
            Mode::Logs(pane) => {
                let page = self.page.max(1);
                match key {
                    Key::Up | Key::Character('k') => pane.scroll(-1, page),
                    Key::Down | Key::Character('j') => pane.scroll(1, page),
                    Key::PageUp => pane.scroll(1 - page.cast_signed(), page),
                    Key::PageDown | Key::Character(' ') => pane.scroll(page.cast_signed() - 1, page),
                    Key::Home | Key::Character('g') => pane.scroll(isize::MIN, page),
                    Key::End | Key::Character('G') => pane.scroll(isize::MAX, page),
                    Key::Escape | Key::Character('q' | 'l' | 's') => self.mode = Mode::Browse,
                    Key::Enter | Key::Tab | Key::Backspace | Key::Character(_) | Key::Interrupt | Key::Redraw => {}
                }
            }
        }
        Effect::None
    }

    fn browse(&mut self, key: Key) -> Effect {
        let page = self.page.max(2).cast_signed() / 2;
        match key {
            Key::Up | Key::Character('k') => self.step(-1),
            Key::Down | Key::Character('j') => self.step(1),
            Key::PageUp => self.step(-page),
            Key::PageDown => self.step(page),
            Key::Home | Key::Character('g') => self.step(isize::MIN),
            Key::End | Key::Character('G') => self.step(isize::MAX),
            Key::Tab => {
                let services = self.selected().is_some_and(|row| !row.status.services.is_empty());
                self.focus = if services && self.focus == Focus::Table { Focus::Services } else { Focus::Table };
            }
            Key::Escape if self.focus == Focus::Services => self.focus = Focus::Table,
            Key::Escape => self.filter.clear(),
            Key::Enter | Key::Character('a') => {
                if let Some(row) = self.selected() {
                    return Effect::Attach { workspace_id: row.status.workspace_id.clone() };
                }
            }
            Key::Character('l') => return self.show_logs(self.focus == Focus::Services),
            Key::Character('s') => return self.show_logs(true),
            Key::Character('x') => self.ask(Action::Stop),
            Key::Character('d') => self.ask(Action::Delete),
            Key::Character('o') => {
                self.order = self.order.next();
                self.keep_selection();
            }
            Key::Character('/') => self.mode = Mode::Filter,
            Key::Character('?') => self.mode = Mode::Help,
            Key::Character('q') => return Effect::Quit,
            Key::Backspace | Key::Character(_) | Key::Interrupt | Key::Redraw => {}
        }
        Effect::None
    }

    fn step(&mut self, rows: isize) {
        if self.focus == Focus::Services {
            let last = self.selected().map_or(0, |row| row.status.services.len().saturating_sub(1));
            self.service = self.service.saturating_add_signed(rows).min(last);
            return;
        }
        let visible = self.visible();
        let Some(last) = visible.len().checked_sub(1) else { return };
        let at = self.selected_index().unwrap_or(0).saturating_add_signed(rows).min(last);
        let id = visible[at].status.workspace_id.clone();
        if self.selected.as_ref() != Some(&id) {
            self.service = 0;
        }
        (self.selected, self.selected_at) = (Some(id), at);
    }

    /// Holds on to the selected workspace wherever it is sorted to, and to its neighbour once it is gone.
    fn keep_selection(&mut self) {
        let Some(at) = self.selected_index() else {
            (self.selected, self.focus) = (None, Focus::Table);
            return;
        };
        let id = self.visible()[at].status.workspace_id.clone();
        if self.selected.as_ref() != Some(&id) {
            // What is typed next must not go to another workspace's services.
            (self.service, self.focus) = (0, Focus::Table);
        }
        (self.selected, self.selected_at) = (Some(id), at);
        if self.selected().is_none_or(|row| row.status.services.is_empty()) {
            self.focus = Focus::Table;
        }
    }

    fn ask(&mut self, action: Action) {
        let Some(row) = self.selected() else { return };
        if action == Action::Stop && row.status.state != WorkspaceState::Running {
            self.message = Some(format!("`{}` is {}", row.label(), row.status.state.as_str()));
            return;
        }
        self.mode =
            Mode::Confirm { action, workspace_id: row.status.workspace_id.clone(), label: row.label().to_owned(), running: row.running() };
    }

    fn show_logs(&mut self, of_service: bool) -> Effect {
        let Some(row) = self.selected() else { return Effect::None };
        let service = row.status.services.get(self.service).map(|service| service.service_name.clone());
        if of_service && service.is_none() {
            self.message = Some(format!("`{}` has no services", row.label()));
            return Effect::None;
        }
        let target = Target {
            workspace_id: row.status.workspace_id.clone(),
            label: row.label().to_owned(),
            service: service.filter(|_| of_service),
        };
        self.mode = Mode::Logs(Pane { target: target.clone(), lines: vec!["…".to_owned()], top: 0, follows_end: true });
        Effect::ReadLogs(target)
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
pub(super) mod tests;
