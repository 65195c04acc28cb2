//! The life of one service, from its first start to its end.

use std::{pin::Pin, sync::Arc, time::Duration};

use pyro_proto::{
    process::ProcessId,
    v1::{EndProcess, ExecAttach, ExecExit, ExecInput, ExecOutput, ExecStart, StartOutcome, exec_input::Input, exec_output::Output},
};
use pyro_store::{RestartPolicy, RingReader, RingWriter, ServiceRecord, ServiceState, WorkspaceId, service_ring};
use serde_json::json;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};
use tonic::Streaming;

use super::{Status, probe};
use crate::{
    error::HostResult,
    lock,
    workspace::{Supervisor, exec::sanitise, now_ms, process},
};

/// The first wait before a failed service is started again; each further one is twice as long.
const BACKOFF_FIRST: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A service that ran so long has not failed at its start: the count of quick failures begins anew.
const SETTLED_AFTER: Duration = Duration::from_secs(10);
/// After so many quick failures in a row nothing is to be hoped for from another start.
const QUICK_FAILURES_MAX: u32 = 5;
/// Least wait between two probes once the time to become ready is over: nobody waits for the answer any more.
const LATE_PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// How much of the end of a log an event carries.
const LAST_LINES: usize = 10;
const LAST_BYTES: u64 = 4096;
/// How much of a log is kept, at the most. With the number of services this bounds what all logs take.
const LOG_SHARE: u64 = pyro_store::SERVICES_MAX;

/// What others ask of a driver.
#[derive(Debug)]
pub(super) enum Control {
    /// End it. `done` tells whether there was something to end.
    Stop { grace: Duration, done: oneshot::Sender<bool> },
}

/// One service's driver.
pub(super) struct Driver {
    supervisor: Arc<Supervisor>,
    record: ServiceRecord,
    status: watch::Sender<Status>,
    log: Option<RingWriter>,
    quick_failures: u32,
    /// Whoever asked for its end.
    stopping: Vec<oneshot::Sender<bool>>,
}

/// A process in the guest.
struct Process {
    input: mpsc::Sender<ExecInput>,
    output: Streaming<ExecOutput>,
}

/// How a process came to its end.
enum End {
    Exited(ExecExit),
    /// It could not be started, or its machine is going.
    Lost(String),
}

type Probing = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Driver {
    pub(super) fn new(supervisor: Arc<Supervisor>, record: ServiceRecord, status: watch::Sender<Status>) -> Self {
        Self { supervisor, record, status, log: None, quick_failures: 0, stopping: Vec::new() }
    }

    /// Lives; `has_process` tells that the guest has its process already.
    pub(super) async fn run(mut self, mut control: mpsc::Receiver<Control>, has_process: bool) {
        let Ok(workspace) = self.supervisor.adopted().cloned() else { return };
        let folder = service_ring(&self.supervisor.arguments.dirs, &workspace, &self.record.name);
        let retention = self.supervisor.settings().retention;
        let cap = retention.command_max_bytes.min(retention.workspace_max_bytes / LOG_SHARE);
        self.log = RingWriter::open(&folder, cap).ok();
        self.tell_log();
        let ready_deadline = Instant::now() + Duration::from_millis(self.record.spec.ready_timeout_ms);
        let mut attach = has_process;
        loop {
            let began = Instant::now();
            let process = self.process(std::mem::take(&mut attach)).await;
            let end = match process {
                Ok((process, pid)) => {
                    self.record.pid = Some(pid);
                    self.began(&workspace);
                    self.attend(&workspace, process, ready_deadline, &mut control).await
                }
                Err(error) => End::Lost(self.supervisor.redact(&error.to_string()).into_owned()),
            };
            let lost = matches!(end, End::Lost(_)) && self.record.pid.is_some();
            if self.supervisor.is_ending() || lost && self.supervisor.is_about_to_end().await {
                // The end of the machine is entered for all that ran in it.
                break;
            }
            let again = self.ended(&workspace, end, began.elapsed());
            if !again || !self.pause(&workspace, &mut control).await {
                break;
            }
        }
        self.leave();
    }

    fn leave(mut self) {
        lock(&self.supervisor.services).remove(&self.record.name);
        self.supervisor.close_ports_of(&self.record.name);
        let outcome = if self.stopping.is_empty() { StartOutcome::Exited } else { StartOutcome::Stopped };
        self.status.send_modify(|status| {
            status.ended = true;
            status.outcome.get_or_insert(outcome);
        });
        for done in self.stopping.drain(..) {
            let _ = done.send(true);
        }
        self.supervisor.activity.notify_waiters();
    }

    /// Starts the process, or finds the one the guest has.
    async fn process(&self, attach: bool) -> HostResult<(Process, u32)> {
        let id = ProcessId::Service(self.record.number).number();
        let spec = &self.record.spec;
        let first = if attach {
            Input::Attach(ExecAttach { id })
        } else {
            Input::Start(self.supervisor.equip(ExecStart {
                argv: spec.argv.iter().map(|argument| argument.clone().into()).collect(),
                cwd: spec.cwd.clone().into(),
                env: self.supervisor.environment_of(spec)?,
                user: spec.user.clone(),
                id,
                contained: true,
                ..ExecStart::default()
            }))
        };
        let (input, guest_input) = mpsc::channel(4);
        // The queue is empty, so this cannot wait.
        drop(input.try_send(ExecInput { input: Some(first) }));
        let mut output = self.supervisor.agent()?.exec(guest_input, None).await?;
        let pid = process::started(&mut output).await?;
        Ok((Process { input, output }, pid))
    }

    /// The process runs: without a probe that is all there is to wait for.
    fn began(&mut self, workspace: &WorkspaceId) {
        if self.record.state != ServiceState::Starting {
            // It goes on in a copy of its machine.
            self.tell(StartOutcome::Ready);
            return;
        }
        if self.record.spec.probe.is_none() {
            self.record.state = ServiceState::Running;
            self.enter(workspace, "service_run", json!({ "service_name": self.record.name, "pid": self.record.pid }));
            self.tell(StartOutcome::Ready);
        } else {
            // The number of its process is worth a row, and no event.
            self.enter(workspace, "service_run", json!({ "service_name": self.record.name, "pid": self.record.pid, "probing": true }));
        }
    }

    /// Carries the log, probes, and obeys, until the process has ended.
    async fn attend(
        &mut self,
        workspace: &WorkspaceId,
        process: Process,
        ready_deadline: Instant,
        control: &mut mpsc::Receiver<Control>,
    ) -> End {
        let Process { input, mut output } = process;
        let mut redacted = self.supervisor.redacted();
        let mut probing: Option<Probing> = self.probing(ready_deadline);
        let mut in_time = self.record.state == ServiceState::Starting;
        loop {
            tokio::select! {
                message = output.message() => match message.map(|message| message.and_then(|message| message.output)) {
                    Ok(Some(Output::Stdout(bytes) | Output::Stderr(bytes))) => {
                        self.keep(&redacted.push(bytes));
                    }
                    Ok(Some(Output::Exit(exit))) => {
                        self.keep(&redacted.finish());
                        return End::Exited(self.supervisor.redact_exit(sanitise(exit, Duration::MAX)));
                    }
                    Ok(Some(Output::Started(_) | Output::Terminal(_))) => {}
                    Ok(None) => return End::Lost("the machine went away while it ran".to_owned()),
                    Err(status) => return End::Lost(status.message().chars().take(200).collect()),
                },
                () = async { match &mut probing { Some(probing) => probing.await, None => std::future::pending().await } } => {
                    probing = None;
                    self.record.state = ServiceState::Ready;
                    self.record.ready_at_ms = Some(now_ms());
                    self.record.stop_reason = None;
                    let seconds = (now_ms() - self.record.started_at_ms) as f64 / 1000.0;
                    self.enter(workspace, "service_ready", json!({ "service_name": self.record.name, "after_seconds": seconds }));
                    self.tell(StartOutcome::Ready);
                }
                () = tokio::time::sleep_until(ready_deadline), if in_time && probing.is_some() => {
                    in_time = false;
                    self.late(workspace);
                }
                command = control.recv() => match command {
                    Some(Control::Stop { grace, done }) => {
                        self.stopping.push(done);
                        probing = None;
                        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
                        let end = ExecInput { input: Some(Input::End(EndProcess { grace_ms })) };
                        // A full queue holds an end already.
                        drop(input.try_send(end));
                    }
                    None => std::future::pending().await,
                },
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        if let Some(log) = &mut self.log {
            // What cannot be kept is counted.
            drop(log.write(bytes));
        }
        self.tell_log();
    }

    /// Its time to become ready is over; it goes on.
    fn late(&mut self, workspace: &WorkspaceId) {
        self.record.state = ServiceState::Running;
        let seconds = self.record.spec.ready_timeout_ms as f64 / 1000.0;
        self.record.stop_reason = Some(format!("it was not ready within {seconds} s"));
        self.enter(workspace, "service_late", json!({ "service_name": self.record.name, "after_seconds": seconds }));
        self.tell(StartOutcome::TimedOut);
    }

    fn probing(&self, ready_deadline: Instant) -> Option<Probing> {
        let probe = self.record.spec.probe.clone().filter(|_| self.record.state != ServiceState::Ready)?;
        let (supervisor, spec) = (self.supervisor.clone(), self.record.spec.clone());
        let interval = Duration::from_millis(spec.ready_interval_ms);
        Some(Box::pin(async move {
            loop {
                if probe::succeeds(&supervisor, &probe, &spec).await {
                    return;
                }
                let late = Instant::now() >= ready_deadline;
                tokio::time::sleep(if late { interval.max(LATE_PROBE_INTERVAL) } else { interval }).await;
            }
        }))
    }

    /// Enters an end; tells whether it is to be started again.
    fn ended(&mut self, workspace: &WorkspaceId, end: End, lasted: Duration) -> bool {
        let (exit, reason) = match end {
            End::Exited(exit) => (Some(exit), None),
            End::Lost(reason) => (None, Some(reason)),
        };
        let succeeded = exit.as_ref().is_some_and(|exit| exit.exit_code == 0);
        self.record.exit_code = exit.as_ref().map(|exit| exit.exit_code);
        self.record.signal = exit.as_ref().map(|exit| exit.signal).filter(|signal| *signal != 0);
        self.record.pid = None;
        self.quick_failures = if lasted >= SETTLED_AFTER { 1 } else { self.quick_failures + 1 };
        let wanted = self.stopping.is_empty() && !succeeded && self.record.spec.restart == RestartPolicy::OnFailure;
        if wanted && self.quick_failures < QUICK_FAILURES_MAX {
            return true;
        }
        self.record.state = if !self.stopping.is_empty() {
            ServiceState::Stopped
        } else if succeeded {
            ServiceState::Exited
        } else {
            ServiceState::Failed
        };
        self.record.ended_at_ms = Some(now_ms());
        self.record.stop_reason = if !self.stopping.is_empty() {
            Some("it was asked to stop".to_owned())
        } else if wanted {
            Some(format!("it failed {QUICK_FAILURES_MAX} times in a row, each time within {} s of its start", SETTLED_AFTER.as_secs()))
        } else {
            reason
        };
        let detail = json!({
            "service_name": self.record.name,
            "state": self.record.state,
            "exit_code": self.record.exit_code,
            "reason": self.record.stop_reason,
            "last_lines": self.last_lines(workspace),
        });
        self.enter(workspace, "service_end", detail);
        false
    }

    /// Waits before another start; `false` when it is called off.
    async fn pause(&mut self, workspace: &WorkspaceId, control: &mut mpsc::Receiver<Control>) -> bool {
        let wait = BACKOFF_FIRST.saturating_mul(1 << (self.quick_failures - 1).min(16)).min(BACKOFF_MAX);
        let detail = json!({
            "service_name": self.record.name,
            "exit_code": self.record.exit_code,
            "wait_ms": u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            "last_lines": self.last_lines(workspace),
        });
        self.record.state = ServiceState::Starting;
        self.record.restart_count += 1;
        self.enter(workspace, "service_restart", detail);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            command = control.recv() => {
                if let Some(Control::Stop { done, .. }) = command {
                    self.stopping.push(done);
                }
                self.ended(workspace, End::Lost("it was asked to stop".to_owned()), Duration::ZERO);
                return false;
            }
        }
        let number = lock(&self.supervisor.registry).renumber_service(workspace, &self.record);
        match number {
            Ok(number) => {
                self.record.number = number;
                self.record.ready_at_ms = None;
                self.status.send_modify(|status| status.number = number);
                true
            }
            // The workspace has moved on.
            Err(_) => false,
        }
    }

    fn last_lines(&self, workspace: &WorkspaceId) -> Vec<String> {
        let reader = RingReader::new(service_ring(&self.supervisor.arguments.dirs, workspace, &self.record.name));
        let Ok((start, end)) = reader.range() else { return Vec::new() };
        let bytes = reader.read(end.saturating_sub(LAST_BYTES).max(start), LAST_BYTES).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        let printable = |line: &&str| line.chars().filter(|character| !character.is_control()).collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].iter().map(printable).collect()
    }

    #[expect(clippy::print_stderr, reason = "a supervisor's stderr is its log file")]
    fn enter(&self, workspace: &WorkspaceId, event: &str, detail: serde_json::Value) {
        let entered = lock(&self.supervisor.registry).put_service(workspace, &self.record, event, &detail);
        if let Err(error) = entered {
            eprintln!("cannot enter the state of service {}: {error}", self.record.name);
        }
        self.supervisor.activity.notify_waiters();
    }

    fn tell(&self, outcome: StartOutcome) {
        self.status.send_modify(|status| {
            status.outcome.get_or_insert(outcome);
        });
    }

    fn tell_log(&self) {
        let end = self.log.as_ref().map_or(0, RingWriter::end);
        self.status.send_modify(|status| status.log_end = end);
    }
}
