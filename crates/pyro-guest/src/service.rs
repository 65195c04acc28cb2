//! The gRPC service: checks that an operation fits the stage, hands it to the module that does it, and puts failures on the wire.
//!
//! An operation that moves the machine on (`PrepareFreeze`, `Warm`, `Attach`, `Shutdown`) is a task of its own, so that a cut
//! connection cannot leave it half done: it runs to its end and the answer is lost.

use std::ffi::CString;
use std::io;
use std::sync::{Arc, OnceLock};

use pyro_proto::error::{ErrorKind, Failure};
use pyro_proto::limits::PROTOCOL_GENERATION;
use pyro_proto::v1::guest_server::Guest;
use pyro_proto::v1::{
    AttachAnswer, AttachRequest, ExecInput, ExecOutput, HelloAnswer, HelloRequest, PrepareFreezeAnswer, PrepareFreezeRequest,
    ShutdownAnswer, ShutdownRequest, SyncAnswer, SyncRequest, WarmAnswer, WarmRequest, exec_input,
};
use tokio::sync::Notify;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::attach::{Attachment, Mounted};
use crate::exec::Executor;
use crate::mounts::Disks;
use crate::reap::Reaper;
use crate::stage::{Stage, StageCell};
use crate::{freeze, shutdown, warm};

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
}

impl Agent {
    /// Makes the agent of a machine that has just booted.
    pub(crate) fn booted(reaper: Reaper, disks: Disks) -> io::Result<Self> {
        let executor = Executor::new(reaper, c"/workspace".to_owned())?;
        Ok(Self::new(Stage::Booted, executor, Some(disks)))
    }

    /// Makes an agent that runs commands in the calling process's own root, in `directory` unless told otherwise, and moves no disks.
    ///
    /// # Errors
    /// When `/dev/null` cannot be opened.
    pub fn attached(reaper: Reaper, directory: CString) -> io::Result<Self> {
        Ok(Self::new(Stage::Attached, Executor::new(reaper, directory)?, None))
    }

    fn new(stage: Stage, executor: Executor, disks: Option<Disks>) -> Self {
        let inner = Inner { stage: StageCell::new(stage), executor, disks, mounted: OnceLock::new() };
        Self { inner: Arc::new(inner), farewell: Arc::default() }
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

    async fn shutdown(&self, grace_ms: u64) -> Result<shutdown::Rest, Failure> {
        let turn = self.stage.begin(&[Stage::Booted, Stage::Attached, Stage::Broken])?;
        shutdown::end_processes(&self.executor.reaper, grace_ms).await;
        // Without an attached workspace no disk is mounted for writing, or a failed attachment left one that only a sync can help.
        let rest = self.mounted.get().map_or(shutdown::Rest::Flushed, shutdown::put_disks_to_rest);
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

    type ExecStream = ReceiverStream<Result<ExecOutput, Status>>;

    async fn exec(&self, request: Request<Streaming<ExecInput>>) -> Result<Response<Self::ExecStream>, Status> {
        let mut inputs = request.into_inner();
        let Some(ExecInput { input: Some(exec_input::Input::Start(start)) }) = inputs.message().await? else {
            return Err(Failure::message(ErrorKind::InvalidArgument, "the first input of a command is not its start").into_status());
        };
        self.inner.stage.require(Stage::Attached).map_err(Failure::into_status)?;
        let outputs = self.inner.executor.run(&start, inputs).map_err(Failure::into_status)?;
        Ok(Response::new(ReceiverStream::new(outputs)))
    }

    async fn sync(&self, _: Request<SyncRequest>) -> Result<Response<SyncAnswer>, Status> {
        self.inner.stage.require(Stage::Attached).map_err(Failure::into_status)?;
        // A slow disk must not hold up the other calls.
        to_the_end(async { tokio::task::spawn_blocking(shutdown::sync_disks).await.unwrap_or(Ok(())) }).await?;
        Ok(Response::new(SyncAnswer {}))
    }

    async fn shutdown(&self, request: Request<ShutdownRequest>) -> Result<Response<ShutdownAnswer>, Status> {
        let inner = Arc::clone(&self.inner);
        let grace_ms = request.into_inner().grace_ms;
        let rest = to_the_end(async move { inner.shutdown(grace_ms).await }).await?;
        Ok(Response::new(ShutdownAnswer { clean: rest == shutdown::Rest::Clean }))
    }
}
