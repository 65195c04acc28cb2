//! The workspace's disk as calls use it: each runs on a blocking thread, so that a slow or frozen file system holds up nobody else.
//!
//! What a dropped call leaves behind: a listing or reading stops at its next answer, a change that was not committed is thrown away, one
//! that was runs to its end, and a freeze thaws.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use pyro_proto::error::{ErrorKind, Failure};
use pyro_proto::limits::READ_FILES_MAX;
use pyro_proto::v1::{
    ChangeAnswer, ChangeInput, FreezeAnswer, FreezeRequest, ListFilesAnswer, ListFilesRequest, ReadFilesAnswer, ReadFilesRequest,
    change_input,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::spawn_blocking;
use tonic::{Status, Streaming};

use crate::change;
use crate::files::{self, FileError, Files, Past, TreePath};
use crate::gate::{Gate, Which};

/// Answers between a blocking thread and the HTTP/2 stream: one on its way, one ready.
const ANSWER_QUEUE: usize = 2;
/// Inputs between the HTTP/2 stream and the thread that writes them to disk.
const INPUT_QUEUE: usize = 4;
/// Longest freeze: a host that has died must not leave the machine's users waiting for good.
const FREEZE_MAX: Duration = Duration::from_secs(120);

type Answers<T> = mpsc::Receiver<Result<T, Status>>;

/// The workspace's disk; clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    files: Arc<Files>,
    pub(crate) gate: Arc<Gate>,
    /// True once the machine is being shut down.
    closing: watch::Sender<bool>,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot freeze the file systems")]
struct FreezeError {
    source: std::io::Error,
}

/// What an earlier life has left in the agent's folder: to be removed when there is time.
#[derive(Debug)]
pub(crate) struct Leftovers(Vec<Vec<u8>>);

impl Workspace {
    /// Opens a disk by its root, blank or not, and brings to its end what was left in the middle. Blocks.
    pub(crate) fn open(disk: OwnedFd, gate: Gate) -> Result<(Self, Leftovers), FileError> {
        let (files, past) = Files::open(disk)?;
        let leftovers = match past {
            Past::None => Vec::new(),
            Past::Some => change::recover(&files)?,
        };
        let workspace = Self { files: Arc::new(files), gate: Arc::new(gate), closing: watch::Sender::new(false) };
        Ok((workspace, Leftovers(leftovers)))
    }

    /// Removes what is left of an earlier life, in the background.
    pub(crate) fn tidy(&self, leftovers: Leftovers) {
        if leftovers.0.is_empty() {
            return;
        }
        let Self { files, gate, .. } = self.clone();
        spawn_blocking(move || {
            let Ok(_work) = gate.work() else { return };
            leftovers.0.iter().for_each(|name| change::discard(&files, &gate, name));
        });
    }

    pub(crate) fn files(&self) -> &Files {
        &self.files
    }

    /// Lets nobody write any more, and thaws.
    pub(crate) fn close(&self) {
        self.closing.send_replace(true);
        self.gate.close();
    }

    pub(crate) fn list(&self, request: &ListFilesRequest) -> Result<Answers<ListFilesAnswer>, Failure> {
        let path = TreePath::parse(&request.path).map_err(|error| error.failure())?;
        let (recursive, limit) = (request.recursive, request.limit);
        let (sender, receiver) = mpsc::channel(ANSWER_QUEUE);
        let files = Arc::clone(&self.files);
        spawn_blocking(move || {
            if let Err(error) = files::list(&files, &path, recursive, limit, &sender) {
                // Nobody may be there to hear it.
                let _ = sender.blocking_send(Err(error.failure().into_status()));
            }
        });
        Ok(receiver)
    }

    pub(crate) fn read(&self, request: ReadFilesRequest) -> Result<Answers<ReadFilesAnswer>, Failure> {
        if request.ranges.len() > READ_FILES_MAX {
            return Err(Failure::message(ErrorKind::LimitExceeded, format!("more than {READ_FILES_MAX} files are to be read at once")));
        }
        let (sender, receiver) = mpsc::channel(ANSWER_QUEUE);
        let files = Arc::clone(&self.files);
        spawn_blocking(move || {
            for range in &request.ranges {
                if let Err(files::Stop) = files::read(&files, range, &sender) {
                    return;
                }
            }
        });
        Ok(receiver)
    }

    pub(crate) async fn change(&self, inputs: &mut impl ChangeInputs) -> Result<ChangeAnswer, Status> {
        let (sender, mut receiver) = mpsc::channel(INPUT_QUEUE);
        let (answer, answered) = oneshot::channel();
        let Self { files, gate, .. } = self.clone();
        spawn_blocking(move || change::run(&files, &gate, &mut receiver, answer));
        let mut closing = self.closing.subscribe();
        loop {
            let input = tokio::select! {
                input = inputs.next() => input?,
                _ = closing.wait_for(|closing| *closing) => return Err(FileError::Closing.failure().into_status()),
                // Refused already.
                () = sender.closed() => break,
            };
            // A call that ends without a commit is as good as given up.
            let Some(input) = input else { break };
            let is_commit = matches!(input, change_input::Input::Commit(_));
            if sender.send(input).await.is_err() || is_commit {
                break;
            }
        }
        drop(sender);
        let answer = answered.await.map_err(|error| Failure::new(ErrorKind::Internal, &error).into_status())?;
        answer.map_err(|error| error.failure().into_status())
    }

    pub(crate) fn freeze(&self, request: FreezeRequest) -> Answers<FreezeAnswer> {
        let which = Which { root: request.root, workspace: request.workspace };
        let limit = match request.max_ms {
            0 => FREEZE_MAX,
            limit => Duration::from_millis(limit).min(FREEZE_MAX),
        };
        let (sender, receiver) = mpsc::channel(1);
        let gate = Arc::clone(&self.gate);
        let mut closing = self.closing.subscribe();
        tokio::spawn(async move {
            let freezing = Arc::clone(&gate);
            let frozen = match spawn_blocking(move || freezing.freeze(which)).await {
                Ok(Ok(frozen)) => frozen,
                Ok(Err(source)) => {
                    let failure = Failure::new(ErrorKind::Io, &FreezeError { source });
                    return drop(sender.send(Err(failure.into_status())).await);
                }
                Err(error) => return drop(sender.send(Err(Failure::new(ErrorKind::Internal, &error).into_status())).await),
            };
            let _ = sender.send(Ok(FreezeAnswer {})).await;
            tokio::select! {
                () = sender.closed() => {}
                () = tokio::time::sleep(limit) => {}
                _ = closing.wait_for(|closing| *closing) => {}
            }
            // The stream ends after the thaw.
            let _ = spawn_blocking(move || gate.thaw(frozen)).await;
            drop(sender);
        });
        receiver
    }
}

/// Where the inputs of a change come from.
pub(crate) trait ChangeInputs {
    /// Returns the next input, or None when no more will come. Must be safe to drop and call again.
    async fn next(&mut self) -> Result<Option<change_input::Input>, Status>;
}

impl ChangeInputs for Streaming<ChangeInput> {
    async fn next(&mut self) -> Result<Option<change_input::Input>, Status> {
        loop {
            match self.message().await? {
                // An input this generation does not know.
                Some(ChangeInput { input: None }) => {}
                Some(ChangeInput { input }) => return Ok(input),
                None => return Ok(None),
            }
        }
    }
}

impl ChangeInputs for std::vec::IntoIter<change_input::Input> {
    async fn next(&mut self) -> Result<Option<change_input::Input>, Status> {
        Ok(Iterator::next(self))
    }
}
