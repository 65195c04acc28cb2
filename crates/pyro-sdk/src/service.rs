//! Services: the client checks what is asked for, the workspace's supervisor starts, watches and ends, the registry tells.

use std::time::Duration;

use pyro_proto::{
    error::ErrorKind,
    limits::ARGUMENTS_MAX_BYTES,
    v1::{ServiceCountRequest, ServiceStartRequest, ServiceStopRequest, StartOutcome},
};
use pyro_store::{
    PortRecord, PortSpec, ReadinessProbe, RestartPolicy as StoredPolicy, ServiceName, ServiceRecord, ServiceSpec, StoreError, WorkspaceId,
    WorkspaceRecord,
};

use crate::{
    Observer, Progress, Pyro, Workspace,
    client::Reap,
    contract::{
        OpenPort, ProbeKind, RestartPolicy, Service, ServiceList, ServiceListAnswer, ServiceOutcome, ServiceReadiness, ServiceStart,
        ServiceStarted, ServiceState, ServiceStatus, ServiceStop,
    },
    error::{Cause, Error, Problem, Result},
    shell::user,
    supervisor::Client,
    time::rfc3339,
    workspace::INSPECT_DEADLINE,
};

/// Most ports one service is started with.
const PUBLISH_MAX: usize = 16;
/// What starting may take beyond the time to become ready: the process begins, and the supervisor of a busy host says so.
const START_GRACE: Duration = Duration::from_secs(60);
/// What ending may take beyond the grace: KILL, and a busy guest's report.
const STOP_GRACE: Duration = Duration::from_secs(30);
/// After how long whoever waits is told what for.
const WAIT_TOLD_AFTER: Duration = Duration::from_secs(1);
/// Lines of the log in the answer to a start that did not come out well.
const LOG_TAIL_LINES: u64 = 20;

impl Pyro {
    /// Starts a service and waits until it is ready, has ended, or its time to become ready is over.
    ///
    /// Dropping the future leaves the service running.
    ///
    /// # Errors
    /// The request passes a limit or has several probes, the workspace does not run or has no published ports, a service of this name
    /// runs, or a port of the host is taken; nothing is started then. That a service does not become ready is no error.
    pub async fn start_service(&self, request: ServiceStart, observer: &Observer) -> Result<ServiceStarted> {
        const OPERATION: &str = "start a service in";
        let (workspace, record) = self.find(&request.workspace, Reap::WhenDue).await?;
        let spec = spec(&request).map_err(|error| error.about(workspace.label()))?;
        crate::secrets::has_all(&record, workspace.label(), &request.secret_env)?;
        if !spec.publish.is_empty() {
            workspace.may_publish(&record)?;
        }
        workspace.is_free(&request.name).await?;
        let start =
            ServiceStartRequest { spec: serde_json::to_string(&spec).expect("plain fields serialise"), name: request.name.to_string() };
        let deadline = Duration::from_secs(request.ready_timeout_seconds.get()) + START_GRACE;
        let call = |mut client: Client| async move { client.service_start(start).await };
        let mut start = std::pin::pin!(workspace.ask(&record, OPERATION, deadline, call));
        let answer = match tokio::time::timeout(WAIT_TOLD_AFTER, &mut start).await {
            Ok(answer) => answer,
            Err(_) => {
                observer.notify(Progress::Waiting { what: waited_for(&request.name, spec.probe.as_ref()) });
                start.await
            }
        };
        // What else could be in its way was looked at before.
        let about_ports = |error: &Error| matches!(error.kind(), ErrorKind::Conflict | ErrorKind::PermissionDenied);
        let answer = answer.map_err(|error| if about_ports(&error) { error.about_ports() } else { error })?;
        let outcome = match answer.outcome() {
            StartOutcome::Ready => ServiceOutcome::Ready,
            StartOutcome::Exited => ServiceOutcome::Exited,
            StartOutcome::TimedOut => ServiceOutcome::TimedOut,
            StartOutcome::Stopped => ServiceOutcome::Stopped,
            StartOutcome::Unspecified => {
                let cause = Cause::new("its supervisor did not say how the start came out");
                return Err(Error::workspace(OPERATION, workspace.label(), ErrorKind::Incompatible, cause));
            }
        };
        let log_tail = match outcome {
            ServiceOutcome::Ready => None,
            ServiceOutcome::Exited | ServiceOutcome::TimedOut | ServiceOutcome::Stopped => {
                Some(workspace.log_tail(&request.name, LOG_TAIL_LINES).await?)
            }
        };
        Ok(ServiceStarted { service: workspace.service(&request.name).await?, outcome, log_tail })
    }

    /// Lists a workspace's services. Does not count as activity and needs no machine.
    ///
    /// # Errors
    /// There is no such workspace.
    pub async fn list_services(&self, request: &ServiceList) -> Result<ServiceListAnswer> {
        let (_, record) = self.find(&request.workspace, Reap::Now).await?;
        self.store(move |_, registry| {
            let ports = registry.ports(&record.id)?;
            let services = registry.services(&record.id)?.into_iter().map(|service| describe(&record.id, service, &ports)).collect();
            Ok(ServiceListAnswer { workspace_id: record.id.to_string(), services })
        })
        .await
    }

    /// Returns what is known of a service. Does not count as activity.
    ///
    /// # Errors
    /// There is no such workspace or service.
    pub async fn service_status(&self, request: &ServiceStatus) -> Result<Service> {
        let (workspace, record) = self.find(&request.workspace, Reap::Now).await?;
        let service = workspace.service(&request.name).await?;
        let process_count = if service.state.is_alive() { workspace.count_processes(&record, &request.name).await } else { None };
        Ok(Service { process_count, ..service })
    }

    /// Stops a service and returns when nothing of it is left; one that has ended is left as it is.
    ///
    /// Dropping the future does not call it off.
    ///
    /// # Errors
    /// There is no such workspace or service, or its machine fails.
    pub async fn stop_service(&self, request: &ServiceStop) -> Result<Service> {
        const OPERATION: &str = "stop a service of";
        let (workspace, record) = self.find(&request.workspace, Reap::WhenDue).await?;
        let service = workspace.service(&request.name).await?;
        if !service.state.is_alive() {
            return Ok(service);
        }
        let grace = Duration::from_secs(request.grace_seconds.get());
        let stop = ServiceStopRequest { name: request.name.to_string(), grace_ms: grace.as_millis().try_into().unwrap_or(u64::MAX) };
        let call = |mut client: Client| async move { client.service_stop(stop).await };
        workspace.ask(&record, OPERATION, grace + STOP_GRACE, call).await?;
        workspace.service(&request.name).await
    }
}

impl Workspace {
    pub(crate) async fn service_record(&self, name: &ServiceName) -> Result<ServiceRecord> {
        let (id, name) = (self.id().clone(), name.clone());
        self.pyro().store(move |_, registry| Ok(registry.service(&id, &name)?)).await.map_err(|error| error.about(self.label()))
    }

    /// Refuses a name whose service runs: said here with a better hint than the supervisor's refusal can have.
    async fn is_free(&self, name: &ServiceName) -> Result<()> {
        match self.service_record(name).await {
            Ok(service) if service.state.is_alive() => {
                let runs = StoreError::ServiceRuns { workspace: self.label().to_owned(), name: name.to_string() };
                Err(Error::from(runs).about(self.label()))
            }
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Returns what the registry knows of a service. Does not count as activity.
    ///
    /// # Errors
    /// There is none of this name.
    pub async fn service(&self, name: &ServiceName) -> Result<Service> {
        let (id, name) = (self.id().clone(), name.clone());
        let look =
            move |_: &Pyro, registry: &mut pyro_store::Registry| Ok(describe(&id, registry.service(&id, &name)?, &registry.ports(&id)?));
        self.pyro().store(look).await.map_err(|error| error.about(self.label()))
    }

    /// Counts a service's processes; a machine that does not say is not worth a failure.
    async fn count_processes(&self, record: &WorkspaceRecord, name: &ServiceName) -> Option<u64> {
        let count = ServiceCountRequest { name: name.to_string() };
        let call = |mut client: Client| async move { client.service_count(count).await };
        self.ask(record, "count processes of a service of", INSPECT_DEADLINE, call).await.ok().map(|answer| answer.processes)
    }
}

/// Says what a start waits for.
fn waited_for(name: &ServiceName, probe: Option<&ReadinessProbe>) -> String {
    match probe {
        None => format!("service `{name}`: waiting for it to run"),
        Some(ReadinessProbe::File(path)) => format!("service `{name}`: waiting for `{path}` to be there"),
        Some(probe @ ReadinessProbe::Tcp { .. }) => format!("service `{name}`: waiting for a connection to {}", target(probe)),
        Some(ReadinessProbe::Http { url, .. }) => format!("service `{name}`: waiting for an answer of {url}"),
        Some(ReadinessProbe::Command(line)) => format!("service `{name}`: waiting for `{line}` to succeed"),
    }
}

fn probe(request: &ServiceStart) -> Result<Option<ReadinessProbe>> {
    let file = request.ready_file.as_ref().map(|path| ReadinessProbe::File(path.in_folder(&request.cwd)));
    let tcp = request.ready_tcp.as_ref().map(|target| ReadinessProbe::Tcp { host: target.host.clone(), port: target.port });
    let http = request.ready_http.as_ref().map(|url| ReadinessProbe::Http {
        host: url.host.clone(),
        port: url.port,
        target: url.target.clone(),
        url: url.to_string(),
    });
    let command = request.ready_command.as_ref().map(|line| ReadinessProbe::Command(line.as_str().to_owned()));
    let mut probes = [file, tcp, http, command].into_iter().flatten();
    match (probes.next(), probes.next()) {
        (probe, None) => Ok(probe),
        (_, Some(_)) => Err(Problem::SeveralProbes.into()),
    }
}

/// Checks what of a request its fields alone cannot, and makes what the registry keeps of it.
fn spec(request: &ServiceStart) -> Result<ServiceSpec> {
    // They are kept in the registry and shown in answers, both of which are text.
    let argv = request.command.arguments().iter().map(|argument| String::from_utf8(argument.clone()).map_err(|_| Problem::CommandNotText));
    let argv = argv.collect::<Result<Vec<_>, _>>()?;
    let env: Vec<_> = request.env.iter().map(|variable| (variable.name.clone(), variable.value.clone())).collect();
    let count = argv.iter().map(|argument| argument.len() + 1).sum::<usize>()
        + env.iter().map(|(name, value)| name.len() + value.len() + 2).sum::<usize>();
    if count > ARGUMENTS_MAX_BYTES {
        return Err(Problem::CommandTooLong { what: "bytes of arguments and variables", count, maximum: ARGUMENTS_MAX_BYTES }.into());
    }
    if request.publish.len() > PUBLISH_MAX {
        return Err(Problem::TooManyPorts { count: request.publish.len(), maximum: PUBLISH_MAX }.into());
    }
    Ok(ServiceSpec {
        argv,
        cwd: request.cwd.to_string(),
        user: request.user.as_ref().map(ToString::to_string).unwrap_or_default(),
        env,
        secret_env: request.secret_env.iter().map(|wanted| (wanted.name.to_string(), wanted.variable.clone())).collect(),
        probe: probe(request)?,
        ready_timeout_ms: request.ready_timeout_seconds.get() * 1000,
        ready_interval_ms: request.ready_interval_ms.get(),
        restart: match request.restart {
            RestartPolicy::Never => StoredPolicy::Never,
            RestartPolicy::OnFailure => StoredPolicy::OnFailure,
        },
        publish: request.publish.iter().map(|port| PortSpec::from(*port)).collect(),
    })
}

/// Shows what a probe looks at.
fn target(probe: &ReadinessProbe) -> String {
    match probe {
        ReadinessProbe::File(path) => path.clone(),
        ReadinessProbe::Tcp { host, port } => crate::text::TcpTarget { host: host.clone(), port: *port }.to_string(),
        ReadinessProbe::Http { url, .. } => url.clone(),
        ReadinessProbe::Command(line) => line.clone(),
    }
}

fn readiness(service: &ServiceRecord) -> ServiceReadiness {
    let state = ServiceState::from(service.state);
    let kind = match &service.spec.probe {
        None => ProbeKind::None,
        Some(ReadinessProbe::File(_)) => ProbeKind::File,
        Some(ReadinessProbe::Tcp { .. }) => ProbeKind::Tcp,
        Some(ReadinessProbe::Http { .. }) => ProbeKind::Http,
        Some(ReadinessProbe::Command(_)) => ProbeKind::Command,
    };
    ServiceReadiness {
        kind,
        target: service.spec.probe.as_ref().map(target),
        ready: state == ServiceState::Ready || (kind == ProbeKind::None && state == ServiceState::Running),
        timeout_seconds: service.spec.ready_timeout_ms / 1000,
        interval_ms: service.spec.ready_interval_ms,
    }
}

fn describe(workspace: &WorkspaceId, service: ServiceRecord, ports: &[PortRecord]) -> Service {
    Service {
        workspace_id: workspace.to_string(),
        state: service.state.into(),
        started_at: rfc3339(service.started_at_ms),
        ready_at: service.ready_at_ms.map(rfc3339),
        ended_at: service.ended_at_ms.map(rfc3339),
        exit_code: service.exit_code,
        signal: service.signal,
        pid: service.pid,
        readiness: readiness(&service),
        stop_reason: service.stop_reason,
        restart: match service.spec.restart {
            StoredPolicy::Never => RestartPolicy::Never,
            StoredPolicy::OnFailure => RestartPolicy::OnFailure,
        },
        restart_count: service.restart_count,
        process_count: None,
        published_ports: ports.iter().filter(|port| port.service.as_ref() == Some(&service.name)).map(OpenPort::from).collect(),
        service_name: service.name.to_string(),
        command: service.spec.argv,
        cwd: service.spec.cwd,
        user: user(&service.spec.user),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(more: serde_json::Value) -> ServiceStart {
        let mut request = json!({ "workspace": "api", "name": "web", "command": ["serve", "--port", "80"] });
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(request).unwrap()
    }

    fn check_refused(more: serde_json::Value, kind: ErrorKind) {
        let error = spec(&request(more)).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }

    #[test]
    fn probes_are_seen_from_where_the_service_runs() {
        let made = spec(&request(json!({ "cwd": "app", "ready_file": "run/ready", "publish": [80, "8080:81"] }))).unwrap();
        assert_eq!(made.probe, Some(ReadinessProbe::File("/workspace/app/run/ready".to_owned())));
        assert_eq!(made.publish[1], PortSpec { guest_port: 81, host_port: Some(8080) });
        assert_eq!((made.ready_timeout_ms, made.ready_interval_ms, made.restart), (30_000, 500, StoredPolicy::Never));
        let made = spec(&request(json!({ "ready_http": "http://localhost:8000/health" }))).unwrap();
        assert_eq!(
            waited_for(&"web".parse().unwrap(), made.probe.as_ref()),
            "service `web`: waiting for an answer of http://localhost:8000/health"
        );
    }

    #[test]
    fn what_is_too_much_for_a_service_is_refused() {
        check_refused(json!({ "ready_file": "a", "ready_tcp": "80" }), ErrorKind::InvalidArgument);
        check_refused(json!({ "publish": vec![80; 17] }), ErrorKind::LimitExceeded);
        check_refused(json!({ "env": { "A": "x".repeat(1 << 20) } }), ErrorKind::LimitExceeded);
        let mut binary = request(json!({}));
        binary.command = crate::contract::GuestCommand::new([b"a\xff".to_vec()]).unwrap();
        assert_eq!(spec(&binary).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
}
