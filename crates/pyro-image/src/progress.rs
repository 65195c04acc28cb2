//! What a pull tells while it runs.

/// Names of the phases, in their order; stable, since scripts read them from `[pull] phase=…` lines.
pub mod phase {
    /// Finding the host's package sources and what must be fetched; also waiting for another pull.
    pub const RESOLVE: &str = "resolve";
    /// Fetching packages.
    pub const DOWNLOAD: &str = "download";
    /// Installing packages into a folder.
    pub const INSTALL: &str = "install";
    /// Taking the kernel and its modules out of their package.
    pub const KERNEL: &str = "kernel";
    /// Writing the root image.
    pub const IMAGE: &str = "image";
    /// Checking the image and computing the digest.
    pub const VERIFY: &str = "verify";
    /// Making the environment visible.
    pub const PUBLISH: &str = "publish";
}

/// One step of a pull.
#[derive(Clone, Debug, PartialEq)]
pub struct PullProgress {
    /// One of [`phase`].
    pub phase: &'static str,
    /// What happens now, in one line.
    pub detail: String,
    /// How much of this phase is done, from 0 to 1, when that is known.
    pub fraction: Option<f32>,
}

/// Forwards progress of one phase at a time.
pub(crate) struct Reporter<'a>(pub(crate) &'a mut dyn FnMut(PullProgress));

impl Reporter<'_> {
    pub(crate) fn step(&mut self, phase: &'static str, detail: impl Into<String>) {
        (self.0)(PullProgress { phase, detail: detail.into(), fraction: None });
    }

    pub(crate) fn part(&mut self, phase: &'static str, detail: impl Into<String>, done: u64, total: u64) {
        // A count past its total is a wrong estimate, not more than everything.
        let fraction = (total > 0).then(|| (done.min(total) as f64 / total as f64) as f32);
        (self.0)(PullProgress { phase, detail: detail.into(), fraction });
    }
}
