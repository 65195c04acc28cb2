//! Draws a state. Pure: nothing is asked here, and the time is given.
//!
//! The narrowest terminal that is drawn for has 80 columns and 24 rows; a smaller one shows what fits.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Borders, Cell, Clear, Paragraph, Row as TableRow, Table, TableState},
};

use super::{
    age::ago,
    details::{self, Subject},
    state::{Action, Focus, Memory, Mode, Order, Pane, Row, State},
};
use crate::render::{bytes, plain};

/// Lines around a pane's text: its frame, and the line of keys.
pub(super) const PANE_FRAME: u16 = 3;

/// Colours, or none where the terminal's owner wants none (<https://no-color.org>).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Palette {
    colours: bool,
}

impl Palette {
    pub(crate) const fn new(colours: bool) -> Self {
        Self { colours }
    }

    fn coloured(self, colour: Color) -> Style {
        if self.colours { Style::new().fg(colour) } else { Style::new() }
    }

    pub(super) fn good(self) -> Style {
        self.coloured(Color::Green)
    }

    pub(super) fn middling(self) -> Style {
        self.coloured(Color::Yellow)
    }

    pub(super) fn bad(self) -> Style {
        self.coloured(Color::Red).add_modifier(Modifier::BOLD)
    }

    pub(super) fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    pub(super) fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    fn title(self) -> Style {
        self.coloured(Color::Cyan).add_modifier(Modifier::BOLD)
    }
}

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, state: &State, palette: Palette, now_ms: i64) {
    let [head, body, foot] = Layout::vertical([Constraint::Length(2), Constraint::Min(0), Constraint::Length(1)]).areas(frame.area());
    frame.render_widget(Paragraph::new(header(state, palette)), head);
    if let Mode::Logs(pane) = &state.mode {
        draw_pane(frame, head.union(body), pane, palette);
    } else {
        let details_height = if body.height < 9 { 0 } else { (body.height / 2).clamp(6, 16) };
        let [table, details] = Layout::vertical([Constraint::Min(0), Constraint::Length(details_height)]).areas(body);
        draw_table(frame, table, state, palette, now_ms);
        draw_details(frame, details, state, palette, now_ms);
    }
    frame.render_widget(Paragraph::new(footer(state, palette)), foot);
    match &state.mode {
        Mode::Help => draw_help(frame, body, palette),
        Mode::Confirm { action, label, running, .. } => draw_question(frame, body, palette, *action, label, running),
        Mode::Browse | Mode::Filter | Mode::Logs(_) => {}
    }
}

fn header(state: &State, palette: Palette) -> Vec<Line<'static>> {
    let running = state.rows().iter().filter(|row| row.status.state == pyro_sdk::contract::WorkspaceState::Running).count();
    let stopped = state.rows().len() - running;
    let (mut known, mut unknown) = (0, false);
    for row in state.rows() {
        match row.memory {
            Memory::Bytes(bytes) => known += bytes,
            Memory::Unknown => unknown = true,
            Memory::None => {}
        }
    }
    let Some(usage) = state.usage() else { return vec![Line::styled("pyro top", palette.title())] };
    let standby_memory: u64 = usage.machines.iter().filter_map(|machine| machine.memory_bytes).sum();
    let order = if state.order == Order::Activity { String::new() } else { format!("   by {}", state.order.name()) };
    let first = format!(
        "   {running} running, {stopped} stopped   {} standby   disk {} free{order}",
        usage.standby_count(),
        bytes(usage.disk_free_bytes)
    );
    let cpu = state.cpu_percent.map_or_else(|| "?".to_owned(), |percent| format!("{percent:.0}"));
    let second = format!(
        "cpu {cpu} % of {} %   memory {}{} of {}, {} free",
        usage.cpu_count * 100,
        bytes(known + standby_memory),
        // At least so much: somebody has not said.
        if unknown { "+" } else { "" },
        bytes(usage.memory_total_bytes),
        bytes(usage.memory_available_bytes)
    );
    vec![Line::from(vec![Span::styled("pyro top", palette.title()), Span::raw(first)]), Line::raw(second)]
}

/// One column of the table.
struct Column {
    title: &'static str,
    width: u16,
    /// From which width of the terminal on it is shown.
    from: u16,
    cell: fn(&Row, i64) -> String,
}

fn count(count: u64) -> String {
    if count == 0 { "-".to_owned() } else { count.to_string() }
}

fn memory(memory: Memory) -> String {
    match memory {
        Memory::None => "-".to_owned(),
        Memory::Unknown => "?".to_owned(),
        Memory::Bytes(count) => bytes(count),
    }
}

fn services(row: &Row) -> String {
    if row.status.services.is_empty() { "-".to_owned() } else { format!("{}/{}", row.services_ready(), row.status.services.len()) }
}

fn ports(row: &Row) -> String {
    let ports: Vec<String> = row.status.published_ports.iter().map(|port| format!("{}→{}", port.host_port, port.guest_port)).collect();
    if ports.is_empty() { "-".to_owned() } else { ports.join(" ") }
}

/// The columns between the name, which is first, and the ports, which have what is left.
const COLUMNS: [Column; 8] = [
    Column { title: "STATE", width: 8, from: 0, cell: |row, _| row.doing.unwrap_or(row.status.state.as_str()).to_owned() },
    Column { title: "ENVIRONMENT", width: 14, from: 110, cell: |row, _| plain(&row.status.environment) },
    Column { title: "ACTIVITY", width: 8, from: 0, cell: |row, now_ms| ago(&row.status.last_activity_at, now_ms) },
    Column { title: "CPU %", width: 5, from: 0, cell: |row, _| row.cpu_percent.map_or_else(|| "-".to_owned(), |cpu| format!("{cpu:.0}")) },
    Column { title: "MEMORY", width: 8, from: 0, cell: |row, _| memory(row.memory) },
    Column { title: "DISK", width: 8, from: 90, cell: |row, _| bytes(row.status.disk_used_bytes) },
    Column { title: "CMDS", width: 4, from: 0, cell: |row, _| count(row.status.running_command_count) },
    Column { title: "SVCS", width: 5, from: 0, cell: |row, _| services(row) },
];

fn draw_table(frame: &mut Frame<'_>, area: Rect, state: &State, palette: Palette, now_ms: i64) {
    let visible = state.visible();
    if visible.is_empty() {
        let text = if state.rows().is_empty() {
            "no workspaces; make one with `pyro workspace create debian:12`"
        } else {
            "no workspace matches the filter; Escape takes it away"
        };
        frame.render_widget(Paragraph::new(Line::styled(text, palette.dim())), area);
        return;
    }
    let columns: Vec<&Column> = COLUMNS.iter().filter(|column| column.from <= area.width).collect();
    let name_width = if area.width >= 110 { 24 } else { 18 };
    let mut widths = vec![Constraint::Length(name_width)];
    widths.extend(columns.iter().map(|column| Constraint::Length(column.width)));
    widths.push(Constraint::Min(4));
    let titles = std::iter::once("NAME").chain(columns.iter().map(|column| column.title)).chain(std::iter::once("PORTS"));
    let header = TableRow::new(titles).style(palette.dim());
    let rows = visible.iter().map(|row| {
        let name = Cell::from(plain(row.label()));
        let middle = columns.iter().map(|column| {
            let text = (column.cell)(row, now_ms);
            if column.title == "STATE" { Cell::from(Span::styled(text, state_style(row, palette))) } else { Cell::from(text) }
        });
        TableRow::new(std::iter::once(name).chain(middle).chain(std::iter::once(Cell::from(ports(row)))).collect::<Vec<_>>())
    });
    let table = Table::new(rows, widths).header(header).column_spacing(1).row_highlight_style(palette.selected());
    let mut table_state = TableState::default().with_selected(state.selected_index());
    frame.render_stateful_widget(table, area, &mut table_state);
}

fn state_style(row: &Row, palette: Palette) -> Style {
    use pyro_sdk::contract::WorkspaceState;
    match row.status.state {
        _ if row.status.host_disk_full => palette.bad(),
        WorkspaceState::Running => palette.good(),
        WorkspaceState::Creating | WorkspaceState::Starting | WorkspaceState::Stopping | WorkspaceState::Deleting => palette.middling(),
        WorkspaceState::Stopped => palette.dim(),
    }
}

fn draw_details(frame: &mut Frame<'_>, area: Rect, state: &State, palette: Palette, now_ms: i64) {
    let Some(row) = state.selected() else { return };
    let title = match &row.status.name {
        Some(name) => format!(" {} {} ", plain(name), row.status.workspace_id),
        None => format!(" {} ", row.status.workspace_id),
    };
    let block = Block::new().borders(Borders::TOP).title(Span::styled(title, palette.title()));
    let inner = block.inner(area);
    let subject = Subject { row, details: state.details(), now_ms, focus: state.focus, service: state.service, palette };
    frame.render_widget(Paragraph::new(details::lines(&subject, inner.height.into())).block(block), area);
}

fn draw_pane(frame: &mut Frame<'_>, area: Rect, pane: &Pane, palette: Palette) {
    let target = &pane.target;
    let of = match &target.service {
        Some(service) => format!(" log of service {} of {} ", plain(service), plain(&target.label)),
        None => format!(" commands of {} ", plain(&target.label)),
    };
    let block = Block::new().borders(Borders::TOP | Borders::BOTTOM).title(Span::styled(of, palette.title()));
    let height = usize::from(block.inner(area).height);
    let first = pane.first(height);
    let lines: Vec<Line<'_>> = pane.lines.iter().skip(first).take(height).map(|line| Line::raw(line.as_str())).collect();
    let shown = format!(" {}–{} of {} ", (first + 1).min(pane.lines.len()), first + lines.len(), pane.lines.len());
    let follows = if pane.follows_end { " following " } else { "" };
    let block = block.title_bottom(shown).title_bottom(follows);
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

fn footer(state: &State, palette: Palette) -> Line<'static> {
    if let Some(message) = &state.message {
        return Line::styled(plain(message), palette.middling());
    }
    let keys = match &state.mode {
        Mode::Filter => return Line::raw(format!("filter: {}█   Enter keeps it, Escape takes it away", plain(&state.filter))),
        Mode::Logs(_) => "↑↓ scroll   PgUp PgDn page   g G begin, end   q back",
        Mode::Confirm { .. } => "y yes   any other key no",
        Mode::Help => "any key goes back",
        Mode::Browse if state.focus == Focus::Services => "↑↓ service   l its log   Tab back   ? help   q quit",
        Mode::Browse => "↑↓ select  Enter attach  l logs  x stop  d delete  / filter  ? help  q quit",
    };
    let filter =
        if state.filter.is_empty() { Span::raw("") } else { Span::styled(format!("[{}] ", plain(&state.filter)), palette.middling()) };
    Line::from(vec![filter, Span::styled(keys, palette.dim())])
}

/// Draws lines in a frame in the middle.
fn draw_box(frame: &mut Frame<'_>, area: Rect, palette: Palette, title: &str, lines: Vec<Line<'_>>) {
    let width = lines.iter().map(Line::width).max().unwrap_or(0).max(title.len()) + 4;
    let height = lines.len() + 2;
    let width = u16::try_from(width).unwrap_or(u16::MAX).min(area.width);
    let height = u16::try_from(height).unwrap_or(u16::MAX).min(area.height);
    let place = Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    let block = Block::bordered().title(Span::styled(format!(" {title} "), palette.title()));
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(lines).block(block), place);
}

fn draw_question(frame: &mut Frame<'_>, area: Rect, palette: Palette, action: Action, label: &str, running: &str) {
    let (title, question, after) = match action {
        Action::Stop => ("stop", format!("Stop `{}`?", plain(label)), "its files and packages stay"),
        Action::Delete => ("delete", format!("Delete `{}`?", plain(label)), "nothing of it is left"),
    };
    let lines = vec![
        Line::raw(format!(" {question}")),
        Line::raw(format!(" It ends {};", plain(running))),
        Line::raw(format!(" {after}.")),
        Line::raw(""),
        Line::styled(" y / N", palette.bad()),
    ];
    draw_box(frame, area, palette, title, lines);
}

fn draw_help(frame: &mut Frame<'_>, area: Rect, palette: Palette) {
    let keys = [
        ("↑ ↓ k j", "select; PgUp PgDn g G go further"),
        ("Enter a", "attach to the newest shell, or open one; Ctrl-] q comes back"),
        ("l", "commands and the newest one's output"),
        ("Tab", "go to the services and back; l shows a service's log"),
        ("s", "log of the selected, or first, service"),
        ("x d", "stop, delete: asks first"),
        ("o", "sort by activity, name, state, cpu, memory, disk"),
        ("/", "filter by name, id, environment, state or label"),
        ("Ctrl-L", "draw everything again"),
        ("q Ctrl-C", "quit"),
    ];
    let lines =
        keys.iter().map(|(key, text)| Line::from(vec![Span::styled(format!(" {key:9}"), palette.title()), Span::raw(*text)])).collect();
    draw_box(frame, area, palette, "keys", lines);
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
