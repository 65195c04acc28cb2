//! What an operation tells while it runs, and what it is told: that it shall end early. The library never prints and handles no signal:
//! whoever calls decides what becomes of either.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::error::{Problem, Result};

/// Something worth showing to whoever waits.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// An environment is being built.
    Pull {
        /// Name of the environment.
        environment: String,
        /// Stable name of the phase.
        phase: &'static str,
        /// What happens now, in one line.
        detail: String,
        /// How much of the phase is done, from 0 to 1, when that is known.
        fraction: Option<f32>,
    },
    /// A machine takes longer than a second, and why.
    Machine {
        /// In the supervisor's words.
        phase: String,
    },
    /// Hardware virtualization was just tried and found unusable; from now on guests are translated.
    AcceleratorFallback {
        /// The probe's verdict.
        verdict: String,
    },
    /// A step of an operation that has several.
    Step {
        /// Stable name.
        name: &'static str,
        /// How long it took, in milliseconds.
        duration_ms: f64,
    },
    /// Files are on their way.
    Transfer {
        /// `seed` or `push`.
        what: &'static str,
        /// Entries so far.
        entries: u64,
        /// Bytes of files so far.
        bytes: u64,
    },
    /// Something of a seed or a push was not taken.
    LeftOut {
        /// The first of them, with the reasons.
        entries: Vec<pyro_tree::LeftOut>,
        /// How many.
        count: u64,
    },
    /// Something of a seed or a push is different for Git in the machine.
    Notes(Vec<pyro_tree::Note>),
    /// Something is waited for that takes longer than a second.
    Waiting {
        /// What, in one line.
        what: String,
    },
    /// No guest could be started and the caller allowed the host instead.
    HostCompat {
        /// Why no guest could be started.
        reason: String,
    },
}

/// Asks operations to end early. They do where what they have begun can be undone at once; otherwise they run to completion.
#[derive(Debug, Clone, Default)]
pub struct CallOff(CancellationToken);

impl CallOff {
    /// Asks every operation that was given an observer with this.
    pub fn call_off(&self) {
        self.0.cancel();
    }
}

/// Receives [`Progress`], from any thread. Must not block.
#[derive(Clone)]
pub struct Observer {
    notify: Arc<dyn Fn(Progress) + Send + Sync>,
    call_off: CallOff,
}

impl Observer {
    /// Makes an observer of a function.
    pub fn new(notify: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        Self { notify: Arc::new(notify), call_off: CallOff::default() }
    }

    /// Lets operations be called off, too.
    #[must_use]
    pub fn with_call_off(self, call_off: CallOff) -> Self {
        Self { call_off, ..self }
    }

    pub(crate) fn is_called_off(&self) -> bool {
        self.call_off.0.is_cancelled()
    }

    /// Goes on with `work` unless the caller calls it off: then it is dropped.
    ///
    /// # Errors
    /// As `work` says, or it was called off; `outcome` says what that leaves.
    pub(crate) async fn unless_called_off<T>(&self, outcome: &'static str, work: impl Future<Output = Result<T>>) -> Result<T> {
        match self.call_off.0.run_until_cancelled(work).await {
            Some(result) => result,
            None => Err(Problem::Interrupted { outcome }.into()),
        }
    }

    /// Makes an observer that does not care.
    #[must_use]
    pub fn none() -> Self {
        Self::new(|_| {})
    }

    pub(crate) fn notify(&self, progress: Progress) {
        (self.notify)(progress);
    }
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Observer")
    }
}
