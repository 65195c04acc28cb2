//! Services: processes that are started by name, watched until they can be used, and ended whole.
//!
//! One task per service, its driver, owns its row in the registry, its process in the guest and its log; others talk to it through a
//! queue. The process has a control group of its own in the guest, so that its exit means that nothing of it is left.
//!
//! ```text
//! start ─▶ bind its ports ─▶ row ─▶ driver: process ─▶ probe … ─▶ exit ─▶ (restart on failure ─▶ wait ─▶ process …) ─▶ row, ports closed
//! ```

mod driver;
mod probe;

use std::{sync::Arc, time::Duration};

use pyro_proto::v1::{EnvironmentVariable, SecretVariable, ServiceStartRequest, StartOutcome};
use pyro_store::{ServiceName, ServiceRecord, ServiceSpec, ServiceState, WorkspaceId, service_ring, service_ring_name};
use tokio::sync::{mpsc, oneshot, watch};

use self::driver::{Control, Driver};
use super::{Supervisor, now_ms, ports::Listener};
use crate::{
    error::{HostError, HostResult},
    lock,
};

/// What an end takes beyond its grace: KILL, the report of a busy guest, and what is in the pipes.
const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// A service that has a driver.
#[derive(Debug, Clone)]
pub(super) struct Service {
    control: mpsc::Sender<Control>,
    status: watch::Receiver<Status>,
}

/// What its driver tells of a service.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Status {
    /// How its start came out, once that is known.
    outcome: Option<StartOutcome>,
    /// Number of its newest process.
    number: u64,
    /// Where its log ends.
    log_end: u64,
    ended: bool,
}

impl Supervisor {
    /// Starts a service and waits until it is known how that came out. Dropping the future leaves it running.
    pub(super) async fn start_service(self: &Arc<Self>, request: ServiceStartRequest) -> HostResult<StartOutcome> {
        self.not_paused()?;
        let workspace = self.adopted()?.clone();
        let name: ServiceName = request.name.parse().map_err(|error| invalid(&error))?;
        let spec: ServiceSpec = serde_json::from_str(&request.spec).map_err(|error| invalid(&error))?;
        if spec.argv.first().is_none_or(String::is_empty) {
            return Err(HostError::Invalid { problem: "a service needs a program: give at least one argument after `--`".into() });
        }
        // What it is started with is kept in the registry, so that it can be started again, and secrets are not.
        if let Some(secret) = self.secret_in(&serde_json::from_str(&request.spec).map_err(|error| invalid(&error))?) {
            let problem =
                format!("what it is started with holds the value of the secret `{secret}`: hand that over by `--secret-env {secret}`");
            return Err(HostError::Invalid { problem });
        }
        // The name of a secret that nobody knows fails before anything is changed.
        self.environment_of(&spec)?;
        if !spec.publish.is_empty() {
            self.may_publish()?;
        }
        // Before anything is changed: a port that is taken leaves the service that was there.
        let listeners = spec.publish.iter().map(|port| Listener::bind(*port)).collect::<HostResult<Vec<_>>>()?;
        let (record, forgotten) = lock(&self.registry).begin_service(&workspace, &name, &spec)?;
        for name in [Some(&name), forgotten.as_ref()].into_iter().flatten() {
            drop(std::fs::remove_dir_all(service_ring(&self.arguments.dirs, &workspace, name)));
        }
        let mut status = self.drive(record, false);
        for listener in listeners {
            if let Err(error) = self.open_port(listener, Some(name.clone())) {
                self.stop_service(&name, Duration::ZERO).await?;
                return Err(error);
            }
        }
        let known = status.wait_for(|status| status.outcome.is_some()).await.ok().and_then(|status| status.outcome);
        Ok(known.unwrap_or(StartOutcome::Stopped))
    }

    /// Returns what a service and its probe find in their environment: what the service says, then its secrets.
    fn environment_of(&self, spec: &ServiceSpec) -> HostResult<Vec<EnvironmentVariable>> {
        let variable = |(name, value): &(String, String)| EnvironmentVariable { name: name.clone(), value: value.clone().into() };
        let secret = |(secret, variable): &(String, String)| SecretVariable { secret: secret.clone(), variable: variable.clone() };
        let secrets: Vec<SecretVariable> = spec.secret_env.iter().map(secret).collect();
        Ok(spec.env.iter().map(variable).chain(self.secret_variables(&secrets)?).collect())
    }

    /// Goes on with a service of a machine that was frozen: with its process, or with the wait for its next start.
    pub(super) fn take_over_service(self: &Arc<Self>, record: ServiceRecord, has_process: bool) {
        drop(self.drive(record, has_process));
    }

    fn drive(self: &Arc<Self>, record: ServiceRecord, has_process: bool) -> watch::Receiver<Status> {
        let (control, commands) = mpsc::channel(4);
        let (status, receiver) = watch::channel(Status { number: record.number, ..Status::default() });
        lock(&self.services).insert(record.name.clone(), Service { control, status: receiver.clone() });
        tokio::spawn(Driver::new(self.clone(), record, status).run(commands, has_process));
        self.activity.notify_waiters();
        receiver
    }

    /// Ends a service with everything it has started; `false` when it had ended already.
    pub(super) async fn stop_service(&self, name: &ServiceName, grace: Duration) -> HostResult<bool> {
        self.not_paused()?;
        let service = lock(&self.services).get(name).cloned();
        let Some(mut service) = service else {
            // Refuses a name nobody has.
            lock(&self.registry).service(self.adopted()?, name)?;
            return Ok(false);
        };
        let (done, finished) = oneshot::channel();
        if service.control.send(Control::Stop { grace, done }).await.is_err() {
            return Ok(false);
        }
        let ended = async {
            let stopped = finished.await.unwrap_or(false);
            drop(service.status.wait_for(|status| status.ended).await);
            stopped
        };
        let patience = grace + STOP_PATIENCE;
        match tokio::time::timeout(patience, ended).await {
            Ok(stopped) => Ok(stopped),
            Err(_) => Err(HostError::AgentTimeout { seconds: patience.as_secs(), doing: "ending a service" }),
        }
    }

    /// Counts a service's processes in the guest.
    pub(super) async fn count_service(&self, name: &ServiceName) -> HostResult<u64> {
        self.not_paused()?;
        let number = lock(&self.services).get(name).map(|service| service.status.borrow().number);
        match number {
            Some(number) => self.agent()?.count(pyro_proto::process::ProcessId::Service(number).number()).await,
            None => lock(&self.registry).service(self.adopted()?, name).map(|_| 0).map_err(Into::into),
        }
    }

    /// Returns whether any service runs, or waits to be started again.
    pub(super) fn serves(&self) -> bool {
        !lock(&self.services).is_empty()
    }

    /// Returns how far the log of every service has come, by the name of its ring.
    pub(super) fn service_cursors(&self) -> Vec<(String, u64)> {
        let services = lock(&self.services);
        services.iter().map(|(name, service)| (service_ring_name(name), service.status.borrow().log_end)).collect()
    }

    /// Enters the end of a service that this machine's guest does not have.
    pub(super) fn lose_service(&self, workspace: &WorkspaceId, mut record: ServiceRecord, reason: &str) -> HostResult<()> {
        record.state = ServiceState::Stopped;
        record.ended_at_ms = Some(now_ms());
        record.stop_reason = Some(reason.to_owned());
        let detail = serde_json::json!({ "service_name": record.name, "state": record.state, "reason": reason });
        Ok(lock(&self.registry).put_service(workspace, &record, "service_end", &detail)?)
    }
}

fn invalid(error: &dyn std::error::Error) -> HostError {
    HostError::Invalid { problem: error.to_string() }
}
