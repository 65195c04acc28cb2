//! Keys and what they do, on workspaces that are not there.

use std::collections::BTreeMap;

use pyro_sdk::contract::{ExecutionMode, ExpireAction, NetworkPolicy, OpenPort, WorkspaceSeed};

use super::*;

pub(in crate::top) fn workspace(name: &str, state: WorkspaceState) -> WorkspaceStatus {
    WorkspaceStatus {
        workspace_id: format!("{name}-id"),
        name: Some(name.to_owned()),
        labels: BTreeMap::from([("issue".to_owned(), format!("of-{name}"))]),
        environment: "debian:12-base".to_owned(),
        state,
        stop_reason: None,
        vcpu_count: 1,
        mem_mib: 256,
        disk_gib: 8,
        root_disk_gib: 16,
        ttl_seconds: 600,
        on_expire: ExpireAction::Stop,
        network_policy: NetworkPolicy::PublishedPorts,
        execution_mode: ExecutionMode::Guest,
        accelerator: "kvm".to_owned(),
        workspace_seed: WorkspaceSeed {
            mode: "empty".to_owned(),
            seed_path: None,
            origin_kind: "empty".to_owned(),
            origin_ref: None,
            entry_count: 0,
            bytes_written: 0,
        },
        secrets: Vec::new(),
        secrets_unavailable: Vec::new(),
        command_count: 3,
        running_command_count: 0,
        last_command: None,
        reset_count: 0,
        last_reset_at: None,
        service_count: 0,
        running_service_count: 0,
        services: Vec::new(),
        open_shell_count: 0,
        published_ports: Vec::new(),
        last_activity_at: "2026-11-26T08:00:00.000Z".to_owned(),
        created_at: "2026-11-26T07:00:00.000Z".to_owned(),
        expires_at: Some("2026-11-26T08:10:00.000Z".to_owned()),
        disk_used_bytes: 3 << 20,
        memory_used_bytes: None,
        host_disk_full: false,
    }
}

pub(in crate::top) fn with_services(mut status: WorkspaceStatus, services: &[(&str, ServiceState)]) -> WorkspaceStatus {
    let brief = |&(name, state): &(&str, ServiceState)| ServiceInBrief {
        service_name: name.to_owned(),
        state,
        exit_code: (!state.is_alive()).then_some(3),
        restart_count: 1,
    };
    status.services = services.iter().map(brief).collect();
    status.published_ports = vec![OpenPort {
        guest_port: 8000,
        host_port: 40123,
        host: "127.0.0.1".to_owned(),
        protocol: "tcp".to_owned(),
        service_name: services.first().map(|(name, _)| (*name).to_owned()),
    }];
    status
}

pub(in crate::top) fn usage() -> HostUsage {
    HostUsage {
        at: std::time::Instant::now(),
        machines: Vec::new(),
        cpu_count: 2,
        memory_total_bytes: 16 << 30,
        memory_available_bytes: 9 << 30,
        disk_free_bytes: 45 << 30,
    }
}

pub(in crate::top) fn state(workspaces: Vec<WorkspaceStatus>) -> State {
    let mut state = State { page: 20, ..State::default() };
    state.take_look(WorkspaceList { workspaces }, usage());
    state
}

fn three() -> State {
    state(vec![
        workspace("beta", WorkspaceState::Running),
        with_services(workspace("alpha", WorkspaceState::Running), &[("web", ServiceState::Ready), ("db", ServiceState::Failed)]),
        workspace("gamma", WorkspaceState::Stopped),
    ])
}

fn shown(state: &State) -> Vec<&str> {
    state.visible().iter().map(|row| row.label()).collect()
}

fn press(state: &mut State, keys: &str) -> Effect {
    keys.chars().map(|character| state.key(Key::Character(character))).last().unwrap_or(Effect::None)
}

fn selected(state: &State) -> &str {
    state.selected().map_or("none", Row::label)
}

#[test]
fn selection_follows_its_workspace_and_stays_near_when_that_is_gone() {
    let mut state = three();
    assert_eq!((shown(&state), selected(&state)), (vec!["beta", "alpha", "gamma"], "beta"));
    press(&mut state, "j");
    press(&mut state, "o");
    assert_eq!((shown(&state), selected(&state)), (vec!["alpha", "beta", "gamma"], "alpha"));
    let left = vec![workspace("gamma", WorkspaceState::Stopped), workspace("beta", WorkspaceState::Running)];
    state.take_look(WorkspaceList { workspaces: left }, usage());
    assert_eq!(selected(&state), "beta");
    state.take_look(WorkspaceList { workspaces: Vec::new() }, usage());
    assert_eq!(press(&mut state, "jkGga"), Effect::None);
    assert_eq!(selected(&state), "none");
}

#[test]
fn filter_finds_names_states_and_labels() {
    let mut state = three();
    press(&mut state, "/OF-AL");
    assert_eq!(shown(&state), ["alpha"]);
    state.key(Key::Enter);
    assert_eq!(press(&mut state, "a"), Effect::Attach { workspace_id: "alpha-id".to_owned() });
    state.key(Key::Escape);
    press(&mut state, "/stopped");
    assert_eq!(shown(&state), ["gamma"]);
    state.key(Key::Escape);
    assert_eq!((shown(&state).len(), &state.mode), (3, &Mode::Browse));
}

#[test]
fn nothing_ends_without_a_yes() {
    let mut state = three();
    press(&mut state, "jd");
    let Mode::Confirm { running, label, .. } = &state.mode else { panic!("{:?}", state.mode) };
    assert_eq!((running.as_str(), label.as_str()), ("1 service (`web`)", "alpha"));
    assert_eq!((press(&mut state, "d"), &state.mode), (Effect::None, &Mode::Browse));
    press(&mut state, "x");
    // Whatever is sorted where by now: what was named is what is meant.
    state.take_look(WorkspaceList { workspaces: vec![workspace("beta", WorkspaceState::Running)] }, usage());
    let act = Effect::Act { action: Action::Stop, workspace_id: "alpha-id".to_owned(), label: "alpha".to_owned() };
    assert_eq!(press(&mut state, "y"), act);
    let mut state = three();
    press(&mut state, "Gx");
    assert_eq!((&state.mode, state.message.as_deref()), (&Mode::Browse, Some("`gamma` is stopped")));
}

#[test]
fn logs_are_of_the_workspace_or_of_the_selected_service() {
    let mut state = three();
    let target = |service: Option<&str>| Target {
        workspace_id: "alpha-id".to_owned(),
        label: "alpha".to_owned(),
        service: service.map(ToOwned::to_owned),
    };
    press(&mut state, "s");
    assert_eq!(state.message.as_deref(), Some("`beta` has no services"));
    assert_eq!(press(&mut state, "jl"), Effect::ReadLogs(target(None)));
    press(&mut state, "q");
    state.key(Key::Tab);
    assert_eq!(press(&mut state, "jl"), Effect::ReadLogs(target(Some("db"))));
    state.take_logs(&target(Some("web")), vec!["late".to_owned()]);
    state.take_logs(&target(Some("db")), (0..100).map(|line| line.to_string()).collect());
    let Mode::Logs(pane) = &state.mode else { panic!("{:?}", state.mode) };
    assert_eq!((pane.lines.len(), pane.first(20)), (100, 80));
    press(&mut state, "kk");
    let Mode::Logs(pane) = &state.mode else { panic!("{:?}", state.mode) };
    assert_eq!((pane.first(20), pane.follows_end), (78, false));
    press(&mut state, "gG");
    let Mode::Logs(pane) = &state.mode else { panic!("{:?}", state.mode) };
    assert_eq!((pane.first(20), pane.follows_end), (80, true));
}

#[test]
fn memory_of_a_silent_supervisor_is_unknown_and_of_a_stopped_workspace_none() {
    let mut state = three();
    state.take_memory("alpha-id".to_owned(), Some(5));
    state.take_memory("beta-id".to_owned(), None);
    let memory: Vec<_> = state.visible().iter().map(|row| row.memory).collect();
    assert_eq!(memory, [Memory::Unknown, Memory::Bytes(5), Memory::None]);
}

#[test]
fn what_is_done_shows_until_it_is_done() {
    let mut state = three();
    state.begin("beta-id".to_owned(), "stopping");
    assert_eq!(state.selected().and_then(|row| row.doing), Some("stopping"));
    state.done("beta-id", "stopped `beta`".to_owned());
    assert_eq!((state.selected().and_then(|row| row.doing), state.message.as_deref()), (None, Some("stopped `beta`")));
}

#[test]
fn quitting_works_in_every_mode() {
    for keys in ["", "/", "x", "l", "?"] {
        let mut state = three();
        press(&mut state, keys);
        assert_eq!(state.key(Key::Interrupt), Effect::Quit, "{keys}");
    }
    assert_eq!(press(&mut three(), "q"), Effect::Quit);
}
