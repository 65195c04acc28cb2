//! What is shown of the selected workspace, line by line. All text of the guest is made plain here.

use pyro_sdk::contract::{CommandState, OpenPort, ServiceInBrief, ServiceState, ShellState};
use ratatui::text::{Line, Span};

use super::{
    age::{ago, parse, span},
    state::{Details, Focus, Row},
    view::Palette,
};
use crate::render::{self, plain};

/// What the details are drawn from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) row: &'a Row,
    pub(super) details: Option<&'a Details>,
    pub(super) now_ms: i64,
    pub(super) focus: Focus,
    /// Which service is selected when the focus is on them.
    pub(super) service: usize,
    pub(super) palette: Palette,
}

/// Writes as many lines as there is room for; events fill what is left.
pub(super) fn lines(subject: &Subject<'_>, height: usize) -> Vec<Line<'static>> {
    let mut lines = services(subject);
    lines.extend(loose_ports(subject));
    lines.extend(shells(subject));
    lines.extend(last_command(subject));
    lines.push(life(subject));
    let room = height.saturating_sub(lines.len());
    lines.extend(events(subject, room));
    lines
}

fn field(subject: &Subject<'_>, name: &str, value: String) -> Line<'static> {
    Line::from(vec![Span::styled(format!("{name:9}"), subject.palette.dim()), Span::raw(value)])
}

fn leads(port: &OpenPort) -> String {
    format!("{}:{} → {}", port.host, port.host_port, port.guest_port)
}

fn services(subject: &Subject<'_>) -> Vec<Line<'static>> {
    let status = &subject.row.status;
    // The selected one is shown even when there are more than fit.
    let most = 4;
    let first = (subject.service + 1).saturating_sub(most);
    let mut lines: Vec<Line<'static>> = status
        .services
        .iter()
        .enumerate()
        .skip(first)
        .take(most)
        .map(|(at, service)| service_line(subject, at, service, at == first))
        .collect();
    let hidden = status.services.len().saturating_sub(lines.len());
    if hidden > 0 {
        lines.push(field(subject, "", format!("and {hidden} more")));
    }
    lines
}

fn service_line(subject: &Subject<'_>, at: usize, service: &ServiceInBrief, first: bool) -> Line<'static> {
    let palette = subject.palette;
    let style = match service.state {
        ServiceState::Ready => palette.good(),
        ServiceState::Starting | ServiceState::Running => palette.middling(),
        ServiceState::Failed => palette.bad(),
        ServiceState::Exited | ServiceState::Stopped => palette.dim(),
    };
    let end = service.exit_code.filter(|_| !service.state.is_alive()).map(|code| format!(" exit {code}")).unwrap_or_default();
    let restarts = if service.restart_count > 0 { format!(" restarts {}", service.restart_count) } else { String::new() };
    let ports: Vec<String> = subject
        .row
        .status
        .published_ports
        .iter()
        .filter(|port| port.service_name.as_ref() == Some(&service.service_name))
        .map(leads)
        .collect();
    let name = if subject.focus == Focus::Services && subject.service == at {
        Span::styled(format!("{:16} ", plain(&service.service_name)), palette.selected())
    } else {
        Span::raw(format!("{:16} ", plain(&service.service_name)))
    };
    Line::from(vec![
        Span::styled(format!("{:9}", if first { "services" } else { "" }), palette.dim()),
        name,
        Span::styled(format!("{:8}", service.state.as_str()), style),
        Span::raw(format!("{end}{restarts} {}", ports.join(", ")).trim_end().to_owned()),
    ])
}

/// Ports that live as long as the machine.
fn loose_ports(subject: &Subject<'_>) -> Option<Line<'static>> {
    let ports: Vec<String> = subject.row.status.published_ports.iter().filter(|port| port.service_name.is_none()).map(leads).collect();
    (!ports.is_empty()).then(|| field(subject, "ports", ports.join(", ")))
}

fn shells(subject: &Subject<'_>) -> Option<Line<'static>> {
    let details = subject.details.filter(|details| !details.shells.is_empty())?;
    let each = details.shells.iter().rev().map(|shell| {
        let command = shell.command.as_ref().map(|command| format!(" `{}`", render::command_line(std::slice::from_ref(command))));
        let state = match (shell.state, shell.exit_code) {
            (ShellState::Open, _) => "open".to_owned(),
            (ShellState::Ended, Some(code)) => format!("exit {code}"),
            (ShellState::Ended, None) => "ended".to_owned(),
        };
        format!("{}{} {state}", shell.shell_id, command.unwrap_or_default())
    });
    Some(field(subject, "shells", each.collect::<Vec<_>>().join(", ")))
}

fn last_command(subject: &Subject<'_>) -> Option<Line<'static>> {
    let entry = subject.row.status.last_command.as_ref()?;
    let end = match (entry.state, entry.exit_code) {
        (CommandState::Running, _) => format!("running for {}", ago(&entry.started_at, subject.now_ms)),
        (CommandState::Exited, _) if entry.timed_out => "timed out".to_owned(),
        (CommandState::Exited, Some(code)) => format!("exit {code}"),
        (CommandState::Exited, None) => entry.failure.as_deref().map_or_else(|| "lost".to_owned(), plain),
    };
    Some(field(subject, "command", format!("#{} {} ({end})", entry.sequence, render::command_line(&entry.command))))
}

/// Writes what it is made of and how long it lives.
fn life(subject: &Subject<'_>) -> Line<'static> {
    let status = &subject.row.status;
    let verb = match status.on_expire {
        pyro_sdk::contract::ExpireAction::Stop => "stops",
        pyro_sdk::contract::ExpireAction::Delete => "is deleted",
    };
    let expiry = match status.expires_at.as_deref().and_then(parse) {
        Some(at) if status.state == pyro_sdk::contract::WorkspaceState::Running => {
            format!("{verb} in {} if nothing happens", span(at - subject.now_ms))
        }
        Some(at) => format!("its disks are deleted in {}", span(at - subject.now_ms)),
        None => "does not expire while something runs".to_owned(),
    };
    let because = status.stop_reason.as_deref().map(|reason| format!(" because {}", plain(reason))).unwrap_or_default();
    let full = if status.host_disk_full { ", PAUSED: the host's disk is full" } else { "" };
    field(
        subject,
        "life",
        format!(
            "{}{because}{full}; {expiry}; {} vCPU, {} MiB, {}",
            status.state.as_str(),
            status.vcpu_count,
            status.mem_mib,
            status.accelerator
        ),
    )
}

fn events(subject: &Subject<'_>, room: usize) -> Vec<Line<'static>> {
    let Some(details) = subject.details else { return Vec::new() };
    let shown = details.events.iter().rev().take(room).collect::<Vec<_>>().into_iter().rev();
    shown
        .enumerate()
        .map(|(at, event)| {
            // `#7 2026-11-26T08:00:00.000Z kind name=value`, made plain by whoever wrote it.
            let line = render::event(event);
            let text = line.trim_end().splitn(3, ' ').nth(2).unwrap_or_default().to_owned();
            let age = format!("{:>6} ago ", ago(&event.at, subject.now_ms));
            let name = if at == 0 { "events" } else { "" };
            let palette = subject.palette;
            Line::from(vec![Span::styled(format!("{name:9}"), palette.dim()), Span::styled(age, palette.dim()), Span::raw(text)])
        })
        .collect()
}
