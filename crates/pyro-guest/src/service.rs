//! The gRPC service: checks that an operation fits the stage, hands it to the module that does it, and puts failures on the wire.
//!
//! An operation that moves the machine on (`PrepareFreeze`, `Warm`, `Attach`, `Shutdown`) is a task of its own, so that a cut
//! connection cannot leave it half done: it runs to its end and the answer is lost.

use std::ffi::CString;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use pyro_proto::error::{ErrorKind, Failure};
use pyro_proto::limits::PROTOCOL_GENERATION;
use pyro_proto::v1::guest_server::Guest;
use pyro_proto::v1::{
    AttachAnswer, AttachRequest, ChangeAnswer, ChangeInput, ConnectInput, ConnectOutput, CountAnswer, CountRequest, ExecInput, ExecOutput,
    ExistsAnswer, ExistsRequest, FreezeAnswer, FreezeRequest, HelloAnswer, HelloRequest, ListFilesAnswer, ListFilesRequest,
    PrepareFreezeAnswer, PrepareFreezeRequest, PutSecretAnswer, ReadFilesAnswer, ReadFilesRequest, SecretValue, ShutdownAnswer,
    ShutdownRequest, SyncAnswer, SyncRequest, WakeAnswer, WarmAnswer, WarmRequest, connect_input, exec_input,
};
use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::attach::{Attachment, Mounted};
use crate::calls::Inputs;
use crate::exec::Executor;
use crate::gate::Gate;
use crate::group::GROUPS;
use crate::mounts::Disks;
use crate::reap::Reaper;
use crate::stage::{Stage, StageCell};
use crate::workspace::Workspace;
use crate::{connect, freeze, inquiry, secrets, shutdown, warm};

/// The agent; clones are the same one.
#[derive(Debug, Clone)]
pub struct Agent {
    inner: Arc<Inner>,
    /// Told when the agent wants to end the connection this clone serves.
    farewell: Arc<Notify>,
}

#[derive(Debug)]
struct Inner {
    stage: StageCell,
    executor: Executor,
    /// The machine's disks; None in a process that is no machine.
    disks: Option<Disks>,
    /// Set by `Attach`.
    mounted: OnceLock<Mounted>,
    /// Set by `Attach` too, or from the start in a process that is no machine.
    workspace: OnceLock<Workspace>,
}

impl Agent {
    /// Makes the agent of a machine that has just booted.
    pub(crate) fn booted(reaper: Reaper, disks: Disks) -> io::Result<Self> {
        let executor = Executor::new(reaper, c"/workspace".to_owned())?.with_groups(GROUPS.into()).with_homes();
        Ok(Self::new(Stage::Booted, executor, Some(disks)))
    }

    /// Makes an agent that runs commands in the calling process's own root, in `directory` unless told otherwise, and moves no disks. It
    /// makes control groups in `groups`, the mount of a version 2 hierarchy, if there is one to be used.
    ///
    /// # Errors
    /// When `/dev/null` cannot be opened.
    pub fn attached(reaper: Reaper, directory: CString, groups: Option<PathBuf>) -> io::Result<Self> {
        let executor = Executor::new(reaper, directory)?;
        let executor = match groups {
            Some(groups) => executor.with_groups(groups),
            None => executor,
        };
        Ok(Self::new(Stage::Attached, executor, None))
    }

    fn new(stage: Stage, executor: Executor, disks: Option<Disks>) -> Self {
        let inner = Inner { stage: StageCell::new(stage), executor, disks, mounted: OnceLock::new(), workspace: OnceLock::new() };
        Self { inner: Arc::new(inner), farewell: Arc::default() }
    }

    /// Gives an agent that is no machine's the folder at `disk` for the root of its workspace's disk. What an earlier agent has left in it
    /// is brought to its end.
    ///
    /// # Errors
    /// When the folder cannot be opened or set up.
    pub fn with_disk(self, disk: &Path) -> io::Result<Self> {
        let (workspace, leftovers) = Workspace::open(std::fs::File::open(disk)?.into(), Gate::default()).map_err(io::Error::other)?;
        workspace.tidy(leftovers);
        // It has none yet.
        let _ = self.inner.workspace.set(workspace);
        Ok(self)
    }

    /// Returns the agent for one connection, so that a farewell meant for it cannot end the next.
    pub(crate) fn for_connection(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), farewell: Arc::default() }
    }

    /// Waits until the agent wants to end this connection.
    pub(crate) async fn farewell(&self) {
        self.farewell.notified().await;
    }
}

impl Inner {
    fn disks(&self) -> Result<&Disks, Failure> {
        self.disks.as_ref().ok_or_else(|| Failure::message(ErrorKind::WrongState, "the agent is not running in a machine"))
    }

    fn workspace(&self) -> Result<&Workspace, Failure> {
        self.stage.require(Stage::Attached)?;
        self.workspace.get().ok_or_else(|| Failure::message(ErrorKind::WrongState, "the agent has no workspace disk"))
    }

    async fn prepare_freeze(&self, programs: &[String]) -> Result<(), Failure> {
        let _turn = self.stage.begin(&[Stage::Booted])?;
        freeze::prepare(self.disks()?, &self.executor, programs).await;
        Ok(())
    }

    async fn warm(&self, programs: &[String]) -> Result<(), Failure> {
        let _turn = self.stage.begin(&[Stage::Booted])?;
        warm::warm(self.disks()?, &self.executor, programs).await.map_err(|error| Failure::new(ErrorKind::Io, &error))
    }

    fn attach(&self, request: &AttachRequest) -> Result<(), Failure> {
        let turn = self.stage.begin(&[Stage::Booted])?;
        let disks = self.disks()?;
        let attachment = Attachment::parse(request)?;
        match attachment.apply(disks) {
            Ok(mounted) => {
                // Empty until now: the stage lets nobody attach twice.
                let _ = self.workspace.set(mounted.workspace.clone());
                let _ = self.mounted.set(mounted);
                turn.finish(Stage::Attached);
                Ok(())
            }
            Err(failure) => {
                turn.finish(Stage::Broken);
                Err(failure)
            }
        }
    }

    /// Makes a machine that was frozen with its workspace a present one. Blocks.
    fn wake(&self, request: &AttachRequest) -> Result<WakeAnswer, Failure> {
        let workspace = self.workspace()?;
        self.disks()?;
        let attachment = Attachment::parse(request)?;
        attachment.wake().and_then(|()| attachment.rename()).map_err(|error| Failure::new(ErrorKind::Io, &error))?;
        // Before anything goes on: what is connected later has its own network to end it.
        let connections = attachment.connections();
        workspace.gate.release();
        attachment.trust();
        Ok(WakeAnswer { commands: self.executor.commands.unfinished(), connections })
    }

    async fn shutdown(self: Arc<Self>, grace_ms: u64) -> Result<shutdown::Rest, Failure> {
        let turn = self.stage.begin(&[Stage::Booted, Stage::Attached, Stage::Broken])?;
        // A process that sleeps in a frozen file system cannot be ended.
        if let Some(workspace) = self.workspace.get().cloned() {
            let _ = spawn_blocking(move || workspace.close()).await;
        }
        shutdown::end_processes(&self.executor.reaper, grace_ms).await;
        // Without an attached workspace no disk is mounted for writing, or a failed attachment left one that only a sync can help.
        let inner = Arc::clone(&self);
        let rest = spawn_blocking(move || inner.mounted.get().map_or(shutdown::Rest::Flushed, shutdown::put_disks_to_rest)).await;
        let rest = rest.unwrap_or(shutdown::Rest::Flushed);
        turn.finish(Stage::Ended);
        Ok(rest)
    }
}

/// Runs `operation` to its end whatever becomes of the call.
async fn to_the_end<T: Send + 'static>(operation: impl Future<Output = Result<T, Failure>> + Send + 'static) -> Result<T, Status> {
    match tokio::spawn(operation).await {
        Ok(result) => result.map_err(Failure::into_status),
        Err(error) => Err(Failure::new(ErrorKind::Internal, &error).into_status()),
    }
}

/// Runs what may sleep in the kernel where it holds nobody up.
async fn blocking<T: Send + 'static>(question: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Status> {
    let answer = spawn_blocking(question).await;
    answer.unwrap_or_else(|error| Err(Failure::new(ErrorKind::Internal, &error))).map_err(Failure::into_status)
}

#[tonic::async_trait]
impl Guest for Agent {
    async fn hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloAnswer>, Status> {
        let protocol = request.into_inner().protocol.min(PROTOCOL_GENERATION);
        Ok(Response::new(HelloAnswer { protocol, agent_version: env!("CARGO_PKG_VERSION").to_owned() }))
    }

    async fn prepare_freeze(&self, request: Request<PrepareFreezeRequest>) -> Result<Response<PrepareFreezeAnswer>, Status> {
        let inner = Arc::clone(&self.inner);
        let programs = request.into_inner().programs;
        to_the_end(async move { inner.prepare_freeze(&programs).await }).await?;
        // The connection lets calls in progress finish, so this answer still goes out.
        self.farewell.notify_one();
        Ok(Response::new(PrepareFreezeAnswer {}))
    }

    async fn warm(&self, request: Request<WarmRequest>) -> Result<Response<WarmAnswer>, Status> {
        let inner = Arc::clone(&self.inner);
        let programs = request.into_inner().programs;
        to_the_end(async move { inner.warm(&programs).await }).await?;
        Ok(Response::new(WarmAnswer {}))
    }

    async fn attach(&self, request: Request<AttachRequest>) -> Result<Response<AttachAnswer>, Status> {
        // Without an await inside it cannot be cancelled half done, and needs no task.
        self.inner.attach(request.get_ref()).map_err(Failure::into_status)?;
        Ok(Response::new(AttachAnswer {}))
    }

    type ExecStream = Pin<Box<dyn Stream<Item = Result<ExecOutput, Status>> + Send>>;

    async fn exec(&self, request: Request<Streaming<ExecInput>>) -> Result<Response<Self::ExecStream>, Status> {
        let mut inputs = request.into_inner();
        let first = inputs.message().await?.and_then(|message| message.input);
        let executor = &self.inner.executor;
        self.inner.stage.require(Stage::Attached).map_err(Failure::into_status)?;
        let outputs = match first {
            Some(exec_input::Input::Start(start)) => executor.run(&start, Inputs::Call(Box::new(inputs))),
            Some(exec_input::Input::Attach(attach)) => executor.commands.attach(attach.id, Inputs::Call(Box::new(inputs))),
            Some(
                exec_input::Input::Stdin(_)
                | exec_input::Input::StdinClosed(_)
                | exec_input::Input::Signal(_)
                | exec_input::Input::Resize(_)
                | exec_input::Input::End(_),
            )
            | None => Err(Failure::message(ErrorKind::InvalidArgument, "the first input of a command is not its start")),
        };
        outputs.map(|outputs| Response::new(Box::pin(outputs) as Self::ExecStream)).map_err(Failure::into_status)
    }

    async fn wake(&self, request: Request<AttachRequest>) -> Result<Response<WakeAnswer>, Status> {
        let inner = Arc::clone(&self.inner);
        let request = request.into_inner();
        blocking(move || inner.wake(&request)).await.map(Response::new)
    }

    async fn put_secret(&self, request: Request<SecretValue>) -> Result<Response<PutSecretAnswer>, Status> {
        self.inner.stage.require(Stage::Attached).map_err(Failure::into_status)?;
        let secret = request.into_inner();
        blocking(move || secrets::put(&secret)).await?;
        Ok(Response::new(PutSecretAnswer {}))
    }

    type ListFilesStream = ReceiverStream<Result<ListFilesAnswer, Status>>;

    async fn list_files(&self, request: Request<ListFilesRequest>) -> Result<Response<Self::ListFilesStream>, Status> {
        let workspace = self.inner.workspace().map_err(Failure::into_status)?;
        let answers = workspace.list(request.get_ref()).map_err(Failure::into_status)?;
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    type ReadFilesStream = ReceiverStream<Result<ReadFilesAnswer, Status>>;

    async fn read_files(&self, request: Request<ReadFilesRequest>) -> Result<Response<Self::ReadFilesStream>, Status> {
        let workspace = self.inner.workspace().map_err(Failure::into_status)?;
        let answers = workspace.read(request.into_inner()).map_err(Failure::into_status)?;
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn change(&self, request: Request<Streaming<ChangeInput>>) -> Result<Response<ChangeAnswer>, Status> {
        let workspace = self.inner.workspace().map_err(Failure::into_status)?;
        workspace.change(&mut request.into_inner()).await.map(Response::new)
    }

    type FreezeStream = ReceiverStream<Result<FreezeAnswer, Status>>;

    async fn freeze(&self, request: Request<FreezeRequest>) -> Result<Response<Self::FreezeStream>, Status> {
        let workspace = self.inner.workspace().map_err(Failure::into_status)?;
        Ok(Response::new(ReceiverStream::new(workspace.freeze(request.into_inner()))))
    }

    type ConnectStream = ReceiverStream<Result<ConnectOutput, Status>>;

    async fn connect(&self, request: Request<Streaming<ConnectInput>>) -> Result<Response<Self::ConnectStream>, Status> {
        self.inner.stage.require(Stage::Attached).map_err(Failure::into_status)?;
        let mut inputs = request.into_inner();
        let Some(connect_input::Input::Open(open)) = inputs.message().await?.and_then(|message| message.input) else {
            let failure = Failure::message(ErrorKind::InvalidArgument, "the first input of a connection is not its opening");
            return Err(failure.into_status());
        };
        let hosts = || self.inner.executor.read("etc/hosts");
        let socket = connect::open(&open, hosts).await.map_err(Failure::into_status)?;
        let (sender, outputs) = connect::queue();
        tokio::spawn(connect::carry(socket, inputs, sender));
        Ok(Response::new(ReceiverStream::new(outputs)))
    }

    async fn exists(&self, request: Request<ExistsRequest>) -> Result<Response<ExistsAnswer>, Status> {
        self.inner.stage.require(Stage::Attached).map_err(Failure::into_status)?;
        let path = request.into_inner().path;
        let exists = blocking(move || inquiry::exists(&path)).await?;
        Ok(Response::new(ExistsAnswer { exists }))
    }

    async fn count(&self, request: Request<CountRequest>) -> Result<Response<CountAnswer>, Status> {
        let id = request.into_inner().id;
        let whole = self.inner.executor.commands.whole(id).map_err(Failure::into_status)?;
        let processes = blocking(move || whole.map_or(Ok(0), |whole| inquiry::count(id, &whole))).await?;
        Ok(Response::new(CountAnswer { processes }))
    }

    async fn sync(&self, _: Request<SyncRequest>) -> Result<Response<SyncAnswer>, Status> {
        self.inner.stage.require(Stage::Attached).map_err(Failure::into_status)?;
        let inner = Arc::clone(&self.inner);
        // A slow disk must not hold up the other calls.
        let synced = spawn_blocking(move || inner.mounted.get().map_or(Ok(()), shutdown::sync_disks)).await;
        synced.unwrap_or(Ok(())).map_err(Failure::into_status)?;
        Ok(Response::new(SyncAnswer {}))
    }

    async fn shutdown(&self, request: Request<ShutdownRequest>) -> Result<Response<ShutdownAnswer>, Status> {
        let inner = Arc::clone(&self.inner);
        let grace_ms = request.into_inner().grace_ms;
        let rest = to_the_end(async move { inner.shutdown(grace_ms).await }).await?;
        Ok(Response::new(ShutdownAnswer { clean: rest == shutdown::Rest::Clean }))
    }
}
