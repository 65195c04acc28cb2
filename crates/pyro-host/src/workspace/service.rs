//! The gRPC service: thin; it turns messages into calls and errors into failures.

use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use pyro_proto::{
    error::{ErrorKind, Failure},
    v1::{
        AdoptProgress, AdoptReady, AdoptRequest, ChangeAnswer, ChangeInput, CheckpointAnswer, CheckpointRequest, CollapseAnswer,
        CollapseRequest, ExecInput, ExecKillAnswer, ExecKillRequest, ExecOutput, ExecWaitAnswer, ExecWaitRequest, GiveSecretAnswer,
        HoldAnswer, HoldRequest, InspectAnswer, InspectRequest, ListFilesAnswer, ListFilesRequest, NetworkApplyAnswer, NetworkApplyRequest,
        NetworkFlushAnswer, NetworkFlushRequest, NetworkLearnAnswer, NetworkLearnRequest, PortPublishAnswer, PortPublishRequest,
        PortUnpublishAnswer, PortUnpublishRequest, ReadFilesAnswer, ReadFilesRequest, RefreshAnswer, RefreshRequest, RunningCommand,
        SecretValue, ServiceCountAnswer, ServiceCountRequest, ServiceStartAnswer, ServiceStartRequest, ServiceStopAnswer,
        ServiceStopRequest, ShellAttachInput, ShellAttachOutput, ShellCloseAnswer, ShellCloseRequest, ShellOpenAnswer, ShellOpenRequest,
        ShellResizeAnswer, ShellResizeRequest, ShellSignalAnswer, ShellSignalRequest, ShellWaitAnswer, ShellWaitRequest, ShellWriteAnswer,
        ShellWriteRequest, StopAnswer, StopRequest, TakeSecretsRequest, adopt_progress::Progress, exec_input::Input, shell_attach_input,
        supervisor_server,
    },
};
use pyro_store::{ServiceName, SnapshotKind, SnapshotName, WorkspaceId};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use super::{End, EndReason, Stage, Supervisor};
use crate::error::{HostError, HostResult};

/// Serves one supervisor.
#[derive(Debug)]
pub(crate) struct Service(Arc<Supervisor>);

impl Service {
    pub(crate) fn new(supervisor: Arc<Supervisor>) -> Self {
        Self(supervisor)
    }
}

/// How often a client that waits for its machine hears that somebody is at it.
const BEAT: Duration = Duration::from_secs(2);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl supervisor_server::Supervisor for Service {
    type AdoptStream = Answers<AdoptProgress>;
    type ExecStream = Answers<ExecOutput>;

    async fn adopt(&self, request: Request<AdoptRequest>) -> Result<Response<Self::AdoptStream>, Status> {
        self.0.adoption_requested.store(true, Ordering::SeqCst);
        let request = request.into_inner();
        if !request.settings.is_empty() {
            let settings =
                serde_json::from_str(&request.settings).map_err(|error| Failure::new(ErrorKind::Incompatible, &error).into_status())?;
            // A second client is refused further on.
            drop(self.0.adopted_settings.set(settings));
        }
        let id: WorkspaceId =
            request.workspace_id.parse().map_err(|error| Failure::new(ErrorKind::InvalidArgument, &error).into_status())?;
        let supervisor = self.0.clone();
        let (sender, receiver) = mpsc::channel(8);
        tokio::spawn(async move {
            let mut work = std::pin::pin!(drive_adoption(&supervisor, &id, &sender));
            let mut beats = tokio::time::interval_at(tokio::time::Instant::now() + BEAT, BEAT);
            let result = loop {
                tokio::select! {
                    result = &mut work => break result,
                    // Nobody waits any more. Half an adoption is of no use to anyone.
                    () = sender.closed() => break Err(Failure::message(ErrorKind::WrongState, "the client went away")),
                    // A full queue holds a sign of life already.
                    _ = beats.tick() => drop(sender.try_send(Ok(supervisor.phase()))),
                }
            };
            match result {
                Ok(()) => drop(sender.send(Ok(AdoptProgress { progress: Some(Progress::Ready(AdoptReady {})) })).await),
                Err(failure) => {
                    drop(sender.send(Err(failure.into_status())).await);
                    supervisor.request_end(EndReason::Unneeded);
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn give_secret(&self, request: Request<SecretValue>) -> Result<Response<GiveSecretAnswer>, Status> {
        self.0.give_secret(request.into_inner())?;
        Ok(Response::new(GiveSecretAnswer {}))
    }

    type TakeSecretsStream = Answers<SecretValue>;

    async fn take_secrets(&self, _: Request<TakeSecretsRequest>) -> Result<Response<Self::TakeSecretsStream>, Status> {
        Ok(Response::new(Box::pin(ReceiverStream::new(self.0.hand_secrets_over()?))))
    }

    async fn inspect(&self, _: Request<InspectRequest>) -> Result<Response<InspectAnswer>, Status> {
        let supervisor = &self.0;
        let running = supervisor.running_commands().into_iter().map(|(sequence, started_at_ms)| RunningCommand { sequence, started_at_ms });
        let machine_pid = supervisor.machine.get().map_or(0, crate::machine::Machine::pid);
        let supervisor_pid = std::process::id();
        Ok(Response::new(InspectAnswer {
            running: running.collect(),
            host_memory_bytes: proportional_set_bytes(supervisor_pid) + proportional_set_bytes(machine_pid),
            host_disk_full: *supervisor.disk_full.borrow(),
            supervisor_pid,
            machine_pid,
            accelerator: supervisor.record.shape.accelerator.to_string(),
            busy_shells: supervisor.busy_shells(),
        }))
    }

    async fn exec(&self, request: Request<Streaming<ExecInput>>) -> Result<Response<Self::ExecStream>, Status> {
        let mut inputs = request.into_inner();
        let Some(Input::Start(start)) = inputs.message().await?.and_then(|message| message.input) else {
            return Err(HostError::Invalid { problem: "the first message of a command must start it".into() }.into());
        };
        // In a task of its own: a client that goes away meanwhile must not leave a command that is neither running nor ended.
        let supervisor = self.0.clone();
        let started = tokio::spawn(async move { supervisor.exec(start, inputs).await });
        let output = started.await.map_err(|error| Failure::new(ErrorKind::Internal, &error).into_status())??;
        Ok(Response::new(Box::pin(ReceiverStream::new(output))))
    }

    async fn exec_wait(&self, request: Request<ExecWaitRequest>) -> Result<Response<ExecWaitAnswer>, Status> {
        let request = request.into_inner();
        let timeout = (request.timeout_ms > 0).then(|| Duration::from_millis(request.timeout_ms));
        let exit = self.0.wait(request.sequence, timeout).await?;
        Ok(Response::new(ExecWaitAnswer { running: exit.is_none(), exit }))
    }

    async fn exec_kill(&self, request: Request<ExecKillRequest>) -> Result<Response<ExecKillAnswer>, Status> {
        let request = request.into_inner();
        let delivered = self.0.signal(request.sequence, request.signal).await?;
        Ok(Response::new(ExecKillAnswer { delivered }))
    }

    async fn refresh(&self, _: Request<RefreshRequest>) -> Result<Response<RefreshAnswer>, Status> {
        self.0.activity.notify_waiters();
        Ok(Response::new(RefreshAnswer {}))
    }

    async fn network_apply(&self, _: Request<NetworkApplyRequest>) -> Result<Response<NetworkApplyAnswer>, Status> {
        let supervisor = self.0.clone();
        let ended = to_the_end(async move { supervisor.apply_network_rules().await }).await?;
        Ok(Response::new(NetworkApplyAnswer { ended: ended as u64 }))
    }

    type NetworkLearnStream = Answers<NetworkLearnAnswer>;

    async fn network_learn(&self, requests: Request<Streaming<NetworkLearnRequest>>) -> Result<Response<Self::NetworkLearnStream>, Status> {
        let mut requests = requests.into_inner();
        let finished = async move { while let Ok(Some(NetworkLearnRequest {})) = requests.message().await {} };
        Ok(Response::new(Box::pin(ReceiverStream::new(self.0.learn_network(finished).await?))))
    }

    async fn network_flush(&self, _: Request<NetworkFlushRequest>) -> Result<Response<NetworkFlushAnswer>, Status> {
        self.0.flush_network().await?;
        Ok(Response::new(NetworkFlushAnswer {}))
    }

    type ListFilesStream = Streaming<ListFilesAnswer>;

    async fn list_files(&self, request: Request<ListFilesRequest>) -> Result<Response<Self::ListFilesStream>, Status> {
        Ok(Response::new(self.0.list_files(request.into_inner()).await?))
    }

    type ReadFilesStream = Streaming<ReadFilesAnswer>;

    async fn read_files(&self, request: Request<ReadFilesRequest>) -> Result<Response<Self::ReadFilesStream>, Status> {
        Ok(Response::new(self.0.read_files(request.into_inner()).await?))
    }

    async fn change(&self, request: Request<Streaming<ChangeInput>>) -> Result<Response<ChangeAnswer>, Status> {
        Ok(Response::new(self.0.change(request.into_inner()).await?))
    }

    type HoldStream = Answers<HoldAnswer>;

    async fn hold(&self, _: Request<HoldRequest>) -> Result<Response<Self::HoldStream>, Status> {
        Ok(Response::new(Box::pin(ReceiverStream::new(self.0.hold().await?))))
    }

    async fn shell_open(&self, request: Request<ShellOpenRequest>) -> Result<Response<ShellOpenAnswer>, Status> {
        let supervisor = self.0.clone();
        // Tasks of their own, here and for services: a client that goes away must not leave half a shell.
        let number = to_the_end(async move { supervisor.open_shell(request.into_inner()).await }).await?;
        Ok(Response::new(ShellOpenAnswer { number }))
    }

    async fn shell_write(&self, request: Request<ShellWriteRequest>) -> Result<Response<ShellWriteAnswer>, Status> {
        Ok(Response::new(self.0.write_shell(request.into_inner()).await?))
    }

    async fn shell_signal(&self, request: Request<ShellSignalRequest>) -> Result<Response<ShellSignalAnswer>, Status> {
        let ShellSignalRequest { number, signal } = request.into_inner();
        self.0.signal_shell(number, signal).await?;
        Ok(Response::new(ShellSignalAnswer {}))
    }

    async fn shell_resize(&self, request: Request<ShellResizeRequest>) -> Result<Response<ShellResizeAnswer>, Status> {
        let ShellResizeRequest { number, size } = request.into_inner();
        self.0.resize_shell(number, size).await?;
        Ok(Response::new(ShellResizeAnswer {}))
    }

    async fn shell_close(&self, request: Request<ShellCloseRequest>) -> Result<Response<ShellCloseAnswer>, Status> {
        self.0.close_shell(request.into_inner().number).await?;
        Ok(Response::new(ShellCloseAnswer {}))
    }

    async fn shell_wait(&self, request: Request<ShellWaitRequest>) -> Result<Response<ShellWaitAnswer>, Status> {
        Ok(Response::new(self.0.wait_for_shell(request.get_ref()).await?))
    }

    type ShellAttachStream = Answers<ShellAttachOutput>;

    async fn shell_attach(&self, request: Request<Streaming<ShellAttachInput>>) -> Result<Response<Self::ShellAttachStream>, Status> {
        let mut inputs = request.into_inner();
        let Some(shell_attach_input::Input::Start(start)) = inputs.message().await?.and_then(|message| message.input) else {
            return Err(HostError::Invalid { problem: "the first message of a terminal must say which shell it is for".into() }.into());
        };
        Ok(Response::new(Box::pin(ReceiverStream::new(self.0.attach_shell(start, inputs).await?))))
    }

    async fn service_start(&self, request: Request<ServiceStartRequest>) -> Result<Response<ServiceStartAnswer>, Status> {
        let supervisor = self.0.clone();
        let outcome = to_the_end(async move { supervisor.start_service(request.into_inner()).await }).await?;
        Ok(Response::new(ServiceStartAnswer { outcome: outcome.into() }))
    }

    async fn service_stop(&self, request: Request<ServiceStopRequest>) -> Result<Response<ServiceStopAnswer>, Status> {
        let ServiceStopRequest { name, grace_ms } = request.into_inner();
        let stopped = self.0.stop_service(&service_name(&name)?, Duration::from_millis(grace_ms)).await?;
        Ok(Response::new(ServiceStopAnswer { stopped }))
    }

    async fn service_count(&self, request: Request<ServiceCountRequest>) -> Result<Response<ServiceCountAnswer>, Status> {
        let processes = self.0.count_service(&service_name(&request.into_inner().name)?).await?;
        Ok(Response::new(ServiceCountAnswer { processes }))
    }

    async fn port_publish(&self, request: Request<PortPublishRequest>) -> Result<Response<PortPublishAnswer>, Status> {
        let PortPublishRequest { guest_port, host_port, service } = request.into_inner();
        let service = if service.is_empty() { None } else { Some(service_name(&service)?) };
        let host_port = self.0.publish(port(guest_port)?, port(host_port)?, service)?;
        Ok(Response::new(PortPublishAnswer { host_port: host_port.into() }))
    }

    async fn port_unpublish(&self, request: Request<PortUnpublishRequest>) -> Result<Response<PortUnpublishAnswer>, Status> {
        let PortUnpublishRequest { guest_port, host_port } = request.into_inner();
        let host_port = Some(port(host_port)?).filter(|port| *port != 0);
        let unpublished = self.0.unpublish(port(guest_port)?, host_port)?;
        Ok(Response::new(PortUnpublishAnswer { unpublished: u32::try_from(unpublished).unwrap_or(u32::MAX) }))
    }

    async fn checkpoint(&self, request: Request<CheckpointRequest>) -> Result<Response<CheckpointAnswer>, Status> {
        let CheckpointRequest { name, live } = request.into_inner();
        let kind = if live { SnapshotKind::Live } else { SnapshotKind::Disk };
        let supervisor = self.0.clone();
        // A task of its own, so that a client that goes away cannot leave the machine between two states.
        let kept = tokio::spawn(async move { supervisor.checkpoint(SnapshotName::from_client(name), kind).await });
        let kept = kept.await.map_err(|error| Failure::new(ErrorKind::Internal, &error).into_status())??;
        Ok(Response::new(CheckpointAnswer {
            pause_us: u64::try_from(kept.pause.as_micros()).unwrap_or(u64::MAX),
            memory_bytes: kept.memory_bytes,
        }))
    }

    async fn collapse(&self, _: Request<CollapseRequest>) -> Result<Response<CollapseAnswer>, Status> {
        self.0.collapse();
        Ok(Response::new(CollapseAnswer {}))
    }

    async fn stop(&self, request: Request<StopRequest>) -> Result<Response<StopAnswer>, Status> {
        let reason = match request.into_inner().reason.as_str() {
            "deleted" => EndReason::Deleted,
            "expired" => EndReason::Expired,
            _ => EndReason::Requested,
        };
        let (done, finished) = oneshot::channel();
        self.0.answers.fetch_add(1, Ordering::SeqCst);
        let ended = async {
            self.0.ends.send(End { reason, done: Some(done) }).await.ok()?;
            finished.await.ok()
        };
        let ended = ended.await;
        self.0.answers.fetch_sub(1, Ordering::SeqCst);
        match ended {
            Some(result) => result.map(|()| Response::new(StopAnswer {})).map_err(Into::into),
            None => Err(HostError::WrongState { problem: "the machine is ending already".into() }.into()),
        }
    }
}

/// Runs `work` to its end whatever becomes of the call.
async fn to_the_end<T: Send + 'static>(work: impl Future<Output = HostResult<T>> + Send + 'static) -> Result<T, Status> {
    let result = tokio::spawn(work).await.map_err(|error| Failure::new(ErrorKind::Internal, &error).into_status())?;
    Ok(result?)
}

fn service_name(name: &str) -> Result<ServiceName, HostError> {
    name.parse().map_err(|error: pyro_store::IdError| HostError::Invalid { problem: error.to_string() })
}

fn port(number: u32) -> Result<u16, HostError> {
    u16::try_from(number).map_err(|_| HostError::Invalid { problem: format!("{number} is not a port: 1 to 65535 are") })
}

impl Supervisor {
    /// Says what is being done, as a sign of life.
    fn phase(&self) -> AdoptProgress {
        let phase = match &*self.stage.borrow() {
            Stage::Preparing(phase) => phase.clone(),
            Stage::Ready => "machine: taking the workspace over".to_owned(),
            Stage::Failed(_) => "machine: ending".to_owned(),
        };
        AdoptProgress { progress: Some(Progress::Phase(phase)) }
    }
}

/// Waits until the machine is ready, telling what it does, then adopts.
async fn drive_adoption(
    supervisor: &Arc<Supervisor>,
    id: &WorkspaceId,
    sender: &mpsc::Sender<Result<AdoptProgress, Status>>,
) -> Result<(), Failure> {
    let mut stages = supervisor.stage.subscribe();
    loop {
        let stage = stages.borrow_and_update().clone();
        match stage {
            Stage::Ready => break,
            Stage::Failed(failure) => return Err(failure),
            Stage::Preparing(phase) => drop(sender.send(Ok(AdoptProgress { progress: Some(Progress::Phase(phase)) })).await),
        }
        if stages.changed().await.is_err() {
            return Err(Failure::message(ErrorKind::Internal, "the supervisor gave up its machine"));
        }
    }
    let machine = supervisor.machine().map_err(|error| error.to_failure())?;
    tokio::select! {
        result = supervisor.adopt(id) => result.map_err(|error| error.to_failure()),
        reason = machine.ended() => Err(Failure { kind: ErrorKind::MachineFailed.into(), message: "the machine ended".into(), causes: vec![reason] }),
    }
}

/// Returns the memory a process has to itself plus its share of what it shares (proc(5), `Pss`).
fn proportional_set_bytes(pid: u32) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let kib = rollup.lines().find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
