//! Tells how far something is that takes longer than a second, and how often.

use std::time::{Duration, Instant};

use crate::{Observer, Progress};

/// What is done sooner is not worth a line.
const QUIET: Duration = Duration::from_secs(1);
/// How often it is told afterwards.
const INTERVAL: Duration = Duration::from_millis(250);

/// Counts what moves.
#[derive(Debug)]
pub(crate) struct Meter {
    observer: Observer,
    what: &'static str,
    next: Instant,
    entries: u64,
    bytes: u64,
}

impl Meter {
    pub(crate) fn new(observer: &Observer, what: &'static str) -> Self {
        Self { observer: observer.clone(), what, next: Instant::now() + QUIET, entries: 0, bytes: 0 }
    }

    /// Counts on.
    pub(crate) fn add(&mut self, entries: u64, bytes: u64) {
        self.entries += entries;
        self.bytes += bytes;
        let now = Instant::now();
        if now >= self.next {
            self.next = now + INTERVAL;
            self.observer.notify(Progress::Transfer { what: self.what, entries: self.entries, bytes: self.bytes });
        }
    }
}
