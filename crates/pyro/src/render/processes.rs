//! Answers about shells, services, ports and events as people read them.

use pyro_sdk::contract::{
    Event, OpenPort, PortListAnswer, ProbeKind, RestartPolicy, Service, ServiceInBrief, ServiceListAnswer, ServiceReadiness, ServiceState,
    Shell, ShellListAnswer,
};
use serde_json::Value;

use super::{
    answers::command_line,
    field,
    plain::plain,
    table::{columns, fields},
};

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}

fn shell_end(shell: &Shell) -> String {
    let end = match (shell.exit_code, &shell.end_reason) {
        (Some(code), _) => format!("exit {code}"),
        (None, Some(reason)) => plain(reason),
        (None, None) => return "-".to_owned(),
    };
    format!("{end}, {}", shell.ended_at.as_deref().unwrap_or_default())
}

pub(crate) fn shells(answer: &ShellListAnswer) -> String {
    if answer.shells.is_empty() {
        return String::new();
    }
    let mut rows = vec![["SHELL", "STATE", "USER", "SIZE", "OPENED", "ENDED", "CWD", "COMMAND"].map(ToOwned::to_owned).to_vec()];
    rows.extend(answer.shells.iter().map(|shell| {
        vec![
            shell.shell_id.clone(),
            shell.state.as_str().to_owned(),
            plain(&shell.user),
            format!("{}x{}", shell.cols, shell.rows),
            shell.opened_at.clone(),
            shell_end(shell),
            plain(&shell.cwd),
            or_dash(shell.command.as_deref().map(|command| command_line(&[command.to_owned()]))),
        ]
    }));
    columns(&rows)
}

/// Writes where a port leads.
fn port(port: &OpenPort) -> String {
    format!("{}:{} -> {}", port.host, port.host_port, port.guest_port)
}

fn port_list(ports: &[OpenPort]) -> Option<String> {
    (!ports.is_empty()).then(|| ports.iter().map(port).collect::<Vec<_>>().join(", "))
}

/// Writes ports one a line.
pub(crate) fn ports_in_brief(ports: &[OpenPort]) -> String {
    ports.iter().map(|open| format!("{}\n", port(open))).collect()
}

pub(crate) fn ports(answer: &PortListAnswer) -> String {
    if answer.published_ports.is_empty() {
        return String::new();
    }
    let mut rows = vec![["GUEST", "HOST", "PROTOCOL", "SERVICE"].map(ToOwned::to_owned).to_vec()];
    rows.extend(answer.published_ports.iter().map(|port| {
        vec![
            port.guest_port.to_string(),
            format!("{}:{}", port.host, port.host_port),
            port.protocol.clone(),
            or_dash(port.service_name.clone()),
        ]
    }));
    columns(&rows)
}

/// Writes a state with what is worth knowing of it.
fn outcome(state: ServiceState, exit_code: Option<i32>) -> String {
    match (state, exit_code) {
        (ServiceState::Exited | ServiceState::Failed, Some(code)) => format!("{}, exit {code}", state.as_str()),
        (_, _) => state.as_str().to_owned(),
    }
}

/// Writes the services of a workspace in one line.
pub(super) fn services_in_brief(services: &[ServiceInBrief]) -> Option<String> {
    let each = services.iter().map(|service| format!("{} ({})", service.service_name, outcome(service.state, service.exit_code)));
    (!services.is_empty()).then(|| each.collect::<Vec<_>>().join(", "))
}

/// Writes the ports of a workspace in one line.
pub(super) fn published(ports: &[OpenPort]) -> Option<String> {
    let each = ports.iter().map(|open| match &open.service_name {
        Some(service) => format!("{} ({service})", port(open)),
        None => port(open),
    });
    (!ports.is_empty()).then(|| each.collect::<Vec<_>>().join(", "))
}

pub(crate) fn services(answer: &ServiceListAnswer) -> String {
    if answer.services.is_empty() {
        return String::new();
    }
    let mut rows = vec![["NAME", "STATE", "PID", "RESTARTS", "STARTED", "PORTS", "COMMAND"].map(ToOwned::to_owned).to_vec()];
    rows.extend(answer.services.iter().map(|service| {
        vec![
            service.service_name.clone(),
            outcome(service.state, service.exit_code),
            or_dash(service.pid.map(|pid| pid.to_string())),
            service.restart_count.to_string(),
            service.started_at.clone(),
            or_dash(port_list(&service.published_ports)),
            command_line(&service.command),
        ]
    }));
    columns(&rows)
}

fn readiness(readiness: &ServiceReadiness) -> String {
    let target = plain(readiness.target.as_deref().unwrap_or_default());
    let probe = match readiness.kind {
        ProbeKind::None => return "no probe".to_owned(),
        ProbeKind::File => format!("`{target}` is there"),
        ProbeKind::Tcp => format!("a connection to {target} is accepted"),
        ProbeKind::Http => format!("{target} answers"),
        ProbeKind::Command => format!("`{target}` succeeds"),
    };
    format!("{probe}; every {} ms, within {} s", readiness.interval_ms, readiness.timeout_seconds)
}

pub(crate) fn service(service: &Service) -> String {
    let restart = match (service.restart, service.restart_count) {
        (RestartPolicy::Never, _) => "never".to_owned(),
        (RestartPolicy::OnFailure, count) => format!("on failure, {count} so far"),
    };
    fields(&[
        ("service", Some(service.service_name.clone())),
        ("state", Some(outcome(service.state, service.exit_code))),
        ("because", service.stop_reason.as_deref().map(plain)),
        ("signal", service.signal.map(|signal| signal.to_string())),
        ("command", Some(plain(&service.command.join(" ")))),
        ("cwd", Some(plain(&service.cwd))),
        ("user", Some(plain(&service.user))),
        ("pid", service.pid.map(|pid| pid.to_string())),
        ("processes", service.process_count.map(|count| count.to_string())),
        ("ready when", Some(readiness(&service.readiness))),
        ("restarted", Some(restart)),
        ("ports", port_list(&service.published_ports)),
        ("started", Some(service.started_at.clone())),
        ("ready", service.ready_at.clone()),
        ("ended", service.ended_at.clone()),
    ])
}

/// Writes an event in one line.
pub(crate) fn event(event: &Event) -> String {
    let mut line = format!("#{} {} {}", event.sequence, event.at, event.kind);
    for (name, value) in event.detail.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        // A command reads better as it was typed.
        let words: Option<Vec<&str>> = value.as_array().and_then(|items| items.iter().map(Value::as_str).collect());
        let value = words.map_or_else(|| field(value), |words| field(&words.join(" ").into()));
        line.push_str(&format!(" {name}={value}"));
    }
    format!("{}\n", plain(&line))
}

#[cfg(test)]
mod tests {
    use pyro_sdk::contract::ShellState;
    use serde_json::json;

    use super::*;
    use crate::cli::check_file;

    fn open_port(service_name: Option<&str>) -> OpenPort {
        OpenPort {
            guest_port: 8000,
            host_port: 40123,
            host: "127.0.0.1".to_owned(),
            protocol: "tcp".to_owned(),
            service_name: service_name.map(ToOwned::to_owned),
        }
    }

    fn a_service(name: &str, state: ServiceState) -> Service {
        Service {
            workspace_id: "cc11dd533181e4bb".to_owned(),
            service_name: name.to_owned(),
            command: ["python3", "-m", "http.server", "8000"].map(ToOwned::to_owned).to_vec(),
            cwd: "/workspace".to_owned(),
            user: "root".to_owned(),
            state,
            started_at: "2026-11-26T08:00:00.000Z".to_owned(),
            ready_at: (state == ServiceState::Ready).then(|| "2026-11-26T08:00:01.000Z".to_owned()),
            ended_at: (!state.is_alive()).then(|| "2026-11-26T08:00:02.000Z".to_owned()),
            exit_code: (!state.is_alive()).then_some(3),
            signal: None,
            pid: state.is_alive().then_some(412),
            readiness: ServiceReadiness {
                kind: ProbeKind::Http,
                target: Some("http://localhost:8000/".to_owned()),
                ready: state == ServiceState::Ready,
                timeout_seconds: 30,
                interval_ms: 500,
            },
            stop_reason: None,
            restart: RestartPolicy::OnFailure,
            restart_count: 2,
            process_count: state.is_alive().then_some(3),
            published_ports: if state.is_alive() { vec![open_port(Some(name))] } else { Vec::new() },
        }
    }

    #[test]
    fn processes_read_well() {
        let shell = Shell {
            workspace_id: "cc11dd533181e4bb".to_owned(),
            shell_id: "sh1".to_owned(),
            state: ShellState::Open,
            command: None,
            cwd: "/workspace".to_owned(),
            user: "root".to_owned(),
            cols: 120,
            rows: 30,
            cursor: 4096,
            exit_code: None,
            end_reason: None,
            opened_at: "2026-11-26T08:00:00.000Z".to_owned(),
            ended_at: None,
        };
        let ended = Shell {
            shell_id: "sh2".to_owned(),
            state: ShellState::Ended,
            command: Some("make \u{1b}[31mtest".to_owned()),
            exit_code: Some(2),
            ended_at: Some("2026-11-26T08:01:00.000Z".to_owned()),
            ..shell.clone()
        };
        let (ready, failed) = (a_service("web", ServiceState::Ready), a_service("worker", ServiceState::Failed));
        let event = |kind: &str, detail| Event { sequence: 7, at: "2026-11-26T08:00:00.000Z".to_owned(), kind: kind.to_owned(), detail };
        let text = [
            shells(&ShellListAnswer { workspace_id: String::new(), shells: vec![shell, ended] }),
            services(&ServiceListAnswer { workspace_id: String::new(), services: vec![ready.clone(), failed.clone()] }),
            service(&ready),
            service(&failed),
            ports(&PortListAnswer { workspace_id: String::new(), published_ports: vec![open_port(Some("web")), open_port(None)] }),
            published(&[open_port(Some("web")), open_port(None)]).unwrap_or_default() + "\n",
            [
                event("command_start", json!({ "sequence": 1, "command": ["sh", "-c", "echo \u{202e}"] })),
                event("service_end", json!({ "service_name": "worker", "exit_code": 3, "reason": null })),
            ]
            .iter()
            .map(super::event)
            .collect(),
        ]
        .join("\n");
        check_file("crates/pyro/tests/snapshots/processes.txt", &text);
    }
}
