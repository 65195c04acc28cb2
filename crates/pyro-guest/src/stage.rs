//! How far the machine has come, and which of the operations that move it on is allowed now.
//!
//! ```text
//! booted ──PrepareFreeze, Warm──▶ booted ──Attach──▶ attached ──Shutdown──▶ ended
//!    │                               └─failed─▶ broken ──Shutdown───────────▲
//!    └──────────────────────────Shutdown────────────────────────────────────┘
//! ```
//!
//! While such an operation runs, the stage is `busy` and every other is refused; one that fails puts the stage back.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyro_proto::error::{ErrorKind, Failure};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nothing of a workspace is here yet.
    Booted,
    /// The workspace's disks are mounted; commands run.
    Attached,
    /// A workspace was attached in part; the machine can only be shut down.
    Broken,
    /// An operation is moving the machine from the stage named.
    Busy,
    /// The disks are at rest; nothing more happens.
    Ended,
}

impl Stage {
    const fn sentence(self) -> &'static str {
        match self {
            Self::Booted => "no workspace is attached to the machine",
            Self::Attached => "a workspace is attached to the machine",
            Self::Broken => "attaching a workspace to the machine has failed",
            Self::Busy => "the machine is being prepared or shut down",
            Self::Ended => "the machine has been shut down",
        }
    }
}

#[derive(Debug)]
pub(crate) struct StageCell(Mutex<Stage>);

impl StageCell {
    pub(crate) const fn new(stage: Stage) -> Self {
        Self(Mutex::new(stage))
    }

    /// Refuses with `wrong_state` unless the stage is `wanted`.
    pub(crate) fn require(&self, wanted: Stage) -> Result<(), Failure> {
        let stage = *self.lock();
        if stage == wanted { Ok(()) } else { Err(refusal(stage)) }
    }

    /// Begins an operation that is allowed in one of `from`; the stage falls back when the turn is dropped unfinished.
    pub(crate) fn begin(&self, from: &[Stage]) -> Result<Turn<'_>, Failure> {
        let mut stage = self.lock();
        if !from.contains(&stage) {
            return Err(refusal(*stage));
        }
        let next = std::mem::replace(&mut *stage, Stage::Busy);
        drop(stage);
        Ok(Turn { cell: self, next })
    }

    fn lock(&self) -> MutexGuard<'_, Stage> {
        // A stage is a plain value: whoever panicked while holding it left it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refusal(stage: Stage) -> Failure {
    Failure::message(ErrorKind::WrongState, stage.sentence())
}

/// The right to move the stage on.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    cell: &'a StageCell,
    next: Stage,
}

impl Turn<'_> {
    pub(crate) fn finish(mut self, stage: Stage) {
        self.next = stage;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.cell.lock() = self.next;
    }
}
