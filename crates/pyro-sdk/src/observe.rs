//! What an operation tells while it runs. The library never prints: whoever calls decides what becomes of it.

use std::sync::Arc;

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

/// Receives [`Progress`], from any thread. Must not block.
#[derive(Clone)]
pub struct Observer(Arc<dyn Fn(Progress) + Send + Sync>);

impl Observer {
    /// Makes an observer of a function.
    pub fn new(notify: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        Self(Arc::new(notify))
    }

    /// Makes an observer that does not care.
    #[must_use]
    pub fn none() -> Self {
        Self::new(|_| {})
    }

    pub(crate) fn notify(&self, progress: Progress) {
        (self.0)(progress);
    }
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Observer")
    }
}
