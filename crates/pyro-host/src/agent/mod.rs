//! The guest's agent as seen from the host: the channel, and its calls with their deadlines.
//!
//! What comes back is hostile. tonic refuses messages over the cap before it holds them; texts are cut by `Failure::from_status`.

mod channel;
mod relay;
mod transport;

use std::{os::unix::net::UnixStream as StdUnixStream, time::Duration};

use pyro_proto::{
    error::{ErrorKind, Failure},
    limits::{MESSAGE_MAX_BYTES, PROTOCOL_GENERATION},
    v1::{
        AttachRequest, ChangeAnswer, ChangeInput, CountRequest, ExecInput, ExecOutput, ExistsRequest, FreezeAnswer, FreezeRequest,
        HelloRequest, ListFilesAnswer, ListFilesRequest, PrepareFreezeRequest, ReadFilesAnswer, ReadFilesRequest, SecretValue,
        ShutdownRequest, WakeAnswer, WarmRequest, guest_client::GuestClient,
    },
};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;

pub(crate) use self::relay::{connected, relay};
use self::transport::Transport;
use crate::error::{Doing as _, HostError, HostResult};

/// Mounts, a few writes: 20 ms warm, 300 ms cold, and ten times that on a host with both cores busy. A large disk with a journal to
/// replay takes longest.
const ATTACH_DEADLINE: Duration = Duration::from_secs(60);
/// Programs run once from a cold disk, under TCG.
const PREPARE_DEADLINE: Duration = Duration::from_secs(120);
/// An answer takes under a millisecond, and seconds on a host with both cores busy.
const ALIVE_DEADLINE: Duration = Duration::from_secs(5);
/// The agent answers before it starts the process.
const EXEC_START_DEADLINE: Duration = Duration::from_secs(20);
/// A page of a listing or the first bytes of a file; a cold disk and a loaded host make seconds of it.
const FILES_DEADLINE: Duration = Duration::from_secs(60);
/// Freezing flushes what is dirty first. A guest that writes as fast as it can was seen to need seconds.
const FREEZE_DEADLINE: Duration = Duration::from_secs(60);
/// Every dirty page of both disks may have to be written.
const SYNC_DEADLINE: Duration = Duration::from_secs(60);

/// A connection to the agent; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Agent {
    client: GuestClient<Transport>,
    connection: std::sync::Arc<AbortOnDrop>,
}

#[derive(Debug)]
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Agent {
    /// Finds the agent on the channel and agrees on a protocol.
    pub(crate) async fn connect(stream: StdUnixStream, deadline: Duration) -> HostResult<Self> {
        let connect = async {
            let stream = channel::open(stream).await?;
            let (transport, connection) = Transport::start(stream).await?;
            let client = GuestClient::with_origin(transport, transport::origin())
                .max_decoding_message_size(MESSAGE_MAX_BYTES)
                .max_encoding_message_size(MESSAGE_MAX_BYTES);
            let agent = Self { client, connection: std::sync::Arc::new(AbortOnDrop(connection)) };
            let hello = agent.client.clone().hello(HelloRequest { protocol: PROTOCOL_GENERATION }).await;
            let found = hello.map_err(|status| refused(&status, "greeting its agent"))?.into_inner().protocol;
            if found == 0 { Err(HostError::Protocol { found, known: PROTOCOL_GENERATION }) } else { Ok(agent) }
        };
        within(deadline, "connecting", connect).await
    }

    /// Has the agent fill its page cache and let go of the channel.
    pub(crate) async fn prepare_freeze(&self, programs: Vec<String>) -> HostResult<()> {
        let call = async { self.client.clone().prepare_freeze(PrepareFreezeRequest { programs }).await };
        within(PREPARE_DEADLINE, "preparing to freeze", async { call.await.map_err(|status| refused(&status, "preparing to freeze")) })
            .await
            .map(drop)
    }

    /// Waits until the agent has closed the connection, so that nothing of it is in the frozen guest.
    pub(crate) async fn close(self) {
        let Ok(mut connection) = std::sync::Arc::try_unwrap(self.connection) else { return };
        drop(self.client);
        drop(tokio::time::timeout(Duration::from_secs(5), &mut connection.0).await);
    }

    /// Has a standby guest translate the code a first use needs.
    pub(crate) async fn warm(&self, programs: Vec<String>) -> HostResult<()> {
        let call = async { self.client.clone().warm(WarmRequest { programs }).await.map_err(|status| refused(&status, "warming")) };
        within(PREPARE_DEADLINE, "warming", call).await.map(drop)
    }

    /// Gives the guest its identity and mounts the workspace's disks.
    pub(crate) async fn attach(&self, identity: Identity) -> HostResult<()> {
        let request = identity.request()?;
        let call = async { self.client.clone().attach(request).await.map_err(|status| refused(&status, "mounting its disks")) };
        within(ATTACH_DEADLINE, "mounting its disks", call).await.map(drop)
    }

    /// Brings a guest that was frozen with its workspace into the present, under another identity; returns the commands that go on, and
    /// the connections that do not.
    pub(crate) async fn wake(&self, identity: Identity) -> HostResult<WakeAnswer> {
        let request = identity.request()?;
        let call = async { self.client.clone().wake(request).await.map_err(|status| refused(&status, "waking up")) };
        within(ATTACH_DEADLINE, "waking up", call).await.map(tonic::Response::into_inner)
    }

    /// Puts a secret into the guest's memory.
    pub(crate) async fn put_secret(&self, secret: SecretValue) -> HostResult<()> {
        let call = async { self.client.clone().put_secret(secret).await.map_err(|status| refused(&status, "taking a secret")) };
        within(ATTACH_DEADLINE, "taking a secret", call).await.map(drop)
    }

    /// Lists files.
    pub(crate) async fn list_files(&self, request: ListFilesRequest) -> HostResult<tonic::Streaming<ListFilesAnswer>> {
        let call = async { self.client.clone().list_files(request).await.map_err(|status| passed_on(&status)) };
        within(FILES_DEADLINE, "listing files", call).await.map(tonic::Response::into_inner)
    }

    /// Reads files.
    pub(crate) async fn read_files(&self, request: ReadFilesRequest) -> HostResult<tonic::Streaming<ReadFilesAnswer>> {
        let call = async { self.client.clone().read_files(request).await.map_err(|status| passed_on(&status)) };
        within(FILES_DEADLINE, "reading files", call).await.map(tonic::Response::into_inner)
    }

    /// Changes files, all or none. Has no deadline of its own: a push may be as large as the disk, and its client may give up.
    pub(crate) async fn change(&self, input: mpsc::Receiver<ChangeInput>) -> HostResult<ChangeAnswer> {
        let answer = self.client.clone().change(ReceiverStream::new(input)).await;
        answer.map(tonic::Response::into_inner).map_err(|status| passed_on(&status))
    }

    /// Freezes the file systems of both disks until the answer is dropped.
    pub(crate) async fn freeze(&self) -> HostResult<Frozen> {
        self.freeze_disks(FreezeRequest { root: true, workspace: true, max_ms: milliseconds(FREEZE_DEADLINE) }).await
    }

    /// Freezes the file system of `/workspace` until the answer is dropped, at most for `limit`.
    pub(crate) async fn freeze_workspace(&self, limit: Duration) -> HostResult<Frozen> {
        self.freeze_disks(FreezeRequest { root: false, workspace: true, max_ms: milliseconds(limit) }).await
    }

    async fn freeze_disks(&self, request: FreezeRequest) -> HostResult<Frozen> {
        let freeze = async {
            let refuse = |status: tonic::Status| refused(&status, "freezing its file systems");
            let mut answers = self.client.clone().freeze(request).await.map_err(refuse)?.into_inner();
            match answers.message().await.map_err(refuse)? {
                Some(FreezeAnswer {}) => Ok(Frozen { answers }),
                None => Err(HostError::WrongState { problem: "the guest did not freeze its file systems".into() }),
            }
        };
        within(FREEZE_DEADLINE, "freezing its file systems", freeze).await
    }

    /// Runs a command; output is read from the returned stream, which ends after its exit.
    pub(crate) async fn exec(
        &self,
        input: mpsc::Receiver<ExecInput>,
        deadline: Option<Duration>,
    ) -> HostResult<tonic::Streaming<ExecOutput>> {
        let mut client = self.client.clone();
        let call = async { client.exec(ReceiverStream::new(input)).await.map_err(|status| refused(&status, "starting a command")) };
        within(deadline.map_or(EXEC_START_DEADLINE, |deadline| deadline.min(EXEC_START_DEADLINE)), "starting a command", call)
            .await
            .map(tonic::Response::into_inner)
    }

    /// Tells whether a path is there.
    pub(crate) async fn exists(&self, path: &str) -> HostResult<bool> {
        let request = ExistsRequest { path: path.to_owned().into() };
        let call = async { self.client.clone().exists(request).await.map_err(|status| passed_on(&status)) };
        within(FILES_DEADLINE, "looking for a file", call).await.map(|answer| answer.into_inner().exists)
    }

    /// Counts what runs for a process.
    pub(crate) async fn count(&self, id: u64) -> HostResult<u64> {
        let call = async { self.client.clone().count(CountRequest { id }).await.map_err(|status| passed_on(&status)) };
        within(ALIVE_DEADLINE, "counting processes", call).await.map(|answer| answer.into_inner().processes)
    }

    /// Tells whether the agent still answers, within a few seconds.
    pub(crate) async fn is_alive(&self) -> bool {
        let call = async { self.client.clone().hello(HelloRequest { protocol: PROTOCOL_GENERATION }).await.is_ok() };
        tokio::time::timeout(ALIVE_DEADLINE, call).await.unwrap_or(false)
    }

    /// Ends every process in the guest and unmounts its disks; `false` when they could only be flushed.
    pub(crate) async fn shut_down(&self, grace: Duration) -> HostResult<bool> {
        let request = ShutdownRequest { grace_ms: u64::try_from(grace.as_millis()).unwrap_or(u64::MAX) };
        let call = async { self.client.clone().shutdown(request).await.map_err(|status| refused(&status, "shutting down")) };
        within(SYNC_DEADLINE + grace, "shutting down", call).await.map(|answer| answer.into_inner().clean)
    }
}

/// Guest file systems at rest; they go on when this is dropped.
#[derive(Debug)]
pub(crate) struct Frozen {
    answers: tonic::Streaming<FreezeAnswer>,
}

impl Frozen {
    /// Resolves when the guest has let go by itself.
    pub(crate) async fn ended(&mut self) {
        drop(self.answers.message().await);
    }

    /// Tells whether the guest has not said that it let go.
    pub(crate) fn holds(&mut self) -> bool {
        use std::{
            future::Future as _,
            pin::pin,
            task::{Context, Poll, Waker},
        };
        let ended = pin!(self.ended());
        matches!(ended.poll(&mut Context::from_waker(Waker::noop())), Poll::Pending)
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What makes a machine a workspace's.
#[derive(Debug)]
pub(crate) struct Identity {
    /// 1 to 64 letters, digits and dashes.
    pub(crate) hostname: String,
    /// 32 lower-case hexadecimal digits.
    pub(crate) machine_id: String,
    /// Where the machine has a network card that is in use.
    pub(crate) network: Option<pyro_proto::v1::Network>,
    /// What the guest trusts beside its own, PEM.
    pub(crate) certificates: String,
    /// What an environment without any begins with, PEM.
    pub(crate) certificate_bundle: String,
}

impl Identity {
    /// Adds what is new each time: the clock and randomness.
    fn request(self) -> HostResult<AttachRequest> {
        let mut entropy = vec![0; 64];
        rustix::rand::getrandom(&mut entropy, rustix::rand::GetRandomFlags::empty()).doing("draw entropy for the guest")?;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Ok(AttachRequest {
            clock_ns: u64::try_from(now.as_nanos()).unwrap_or(u64::MAX),
            entropy: entropy.into(),
            hostname: self.hostname,
            machine_id: self.machine_id,
            network: self.network,
            certificates: self.certificates.into(),
            certificate_bundle: self.certificate_bundle.into(),
        })
    }
}

/// A refusal that is the client's business: kind and words reach it as they are.
fn passed_on(status: &tonic::Status) -> HostError {
    HostError::PassedOn { source: Failure::from_status(status, ErrorKind::MachineFailed) }
}

fn refused(status: &tonic::Status, doing: &'static str) -> HostError {
    HostError::Guest { doing, source: Failure::from_status(status, ErrorKind::MachineFailed) }
}

async fn within<T>(deadline: Duration, doing: &'static str, work: impl Future<Output = HostResult<T>>) -> HostResult<T> {
    tokio::time::timeout(deadline, work).await.unwrap_or(Err(HostError::AgentTimeout { seconds: deadline.as_secs(), doing }))
}
