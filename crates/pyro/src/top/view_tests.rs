//! Pictures of the screen, as they would be on a terminal without colours.

use std::fmt::Write as _;

use pyro_sdk::contract::{CommandEntry, CommandState, Event, ServiceState, Shell, ShellState, WorkspaceState};
use ratatui::{Terminal, backend::TestBackend, style::Color};
use serde_json::json;

use super::*;
use crate::{
    cli::check_file,
    top::{
        keys::Key,
        state::{
            Details, Target,
            tests::{state, with_services, workspace},
        },
    },
};

/// Half past eight of the day the workspaces were last active at eight.
const NOW_MS: i64 = 1_795_681_800_000;

fn terminal(state: &State, palette: Palette, width: u16, height: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, state, palette, NOW_MS)).unwrap();
    terminal
}

fn picture(state: &State, width: u16, height: u16) -> String {
    let terminal = terminal(state, Palette::new(false), width, height);
    let buffer = terminal.backend().buffer();
    let mut text = format!("{}\n", "=".repeat(width.into()));
    for y in 0..height {
        let line: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
        writeln!(text, "{}", line.trim_end()).unwrap();
    }
    text
}

fn example() -> State {
    let mut busy = with_services(
        workspace("api", WorkspaceState::Running),
        &[("web", ServiceState::Ready), ("worker", ServiceState::Failed), ("db", ServiceState::Starting)],
    );
    busy.running_command_count = 2;
    busy.open_shell_count = 1;
    busy.expires_at = None;
    busy.last_activity_at = "2026-11-26T08:29:55.000Z".to_owned();
    busy.last_command = Some(CommandEntry {
        sequence: 3,
        command: vec!["make".to_owned(), "te\u{1b}[31mst".to_owned()],
        cwd: "/workspace".to_owned(),
        state: CommandState::Running,
        exit_code: None,
        signal: None,
        timed_out: false,
        duration_ms: None,
        started_at: "2026-11-26T08:28:00.000Z".to_owned(),
        ended_at: None,
        failure: None,
        stdout_bytes: 0,
        stderr_bytes: 0,
    });
    let mut stopped = workspace("issue-4711-a-name-that-is-long", WorkspaceState::Stopped);
    stopped.stop_reason = Some("it was idle".to_owned());
    stopped.expires_at = Some("2026-12-20T08:00:00.000Z".to_owned());
    let mut state = state(vec![busy, workspace("quiet", WorkspaceState::Running), stopped]);
    state.take_memory("api-id".to_owned(), Some(312 << 20));
    state.take_memory("quiet-id".to_owned(), None);
    let event = |sequence, kind: &str, detail| Event { sequence, at: "2026-11-26T08:28:00.000Z".to_owned(), kind: kind.to_owned(), detail };
    state.take_details(Details {
        workspace_id: "api-id".to_owned(),
        shells: vec![Shell {
            workspace_id: "api-id".to_owned(),
            shell_id: "sh1".to_owned(),
            state: ShellState::Open,
            command: Some("htop \u{202e}".to_owned()),
            cwd: "/workspace".to_owned(),
            user: "root".to_owned(),
            cols: 120,
            rows: 30,
            cursor: 1,
            exit_code: None,
            end_reason: None,
            opened_at: "2026-11-26T08:00:00.000Z".to_owned(),
            ended_at: None,
        }],
        events: vec![
            event(6, "shell_open", json!({ "shell_id": "sh1" })),
            event(7, "command_start", json!({ "sequence": 3, "command": ["make", "te\u{1b}[31mst"] })),
        ],
    });
    state
}

#[test]
fn screen_looks_as_recorded() {
    let mut text = picture(&example(), 80, 24);
    text.push_str(&picture(&example(), 120, 30));
    text.push_str(&picture(&state(Vec::new()), 80, 12));
    for keys in ["/nothing", "?", "d", "Go"] {
        let mut state = example();
        for key in keys.chars() {
            state.key(Key::Character(key));
        }
        text.push_str(&picture(&state, 80, 24));
    }
    let mut state = example();
    state.key(Key::Character('l'));
    let target = Target { workspace_id: "api-id".to_owned(), label: "api".to_owned(), service: None };
    state.take_logs(&target, (1..=40).map(|line| format!("line {line}")).collect());
    text.push_str(&picture(&state, 80, 12));
    text.push_str(&picture(&example(), 30, 6));
    check_file("crates/pyro/tests/snapshots/top.txt", &text);
}

#[test]
fn no_size_of_a_terminal_is_too_small_and_no_control_character_gets_out() {
    for (width, height) in [(1, 1), (5, 3), (20, 5), (79, 9), (300, 100)] {
        for key in [None, Some('?'), Some('d'), Some('l')] {
            let mut state = example();
            key.map(|key| state.key(Key::Character(key)));
            let text = picture(&state, width, height);
            assert!(!text.contains(|character: char| (character.is_control() && character != '\n') || character == '\u{202e}'), "{text}");
        }
    }
}

#[test]
fn nothing_is_coloured_where_no_colour_is_wanted() {
    let coloured = |colours| {
        let terminal = terminal(&example(), Palette::new(colours), 80, 24);
        terminal.backend().buffer().content.iter().any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
    };
    assert!(coloured(true) && !coloured(false));
}
