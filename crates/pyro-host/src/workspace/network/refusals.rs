//! What was refused lately, so that a command's end can tell of it: most programs say no more than that they could not connect.

use std::{
    collections::VecDeque,
    sync::Mutex,
    time::{Duration, Instant},
};

use crate::lock;

/// How many are kept. A command that was refused more often knows.
const KEPT_MAX: usize = 256;
/// How many a command is told of.
const TOLD_MAX: usize = 16;
/// How long a command's end waits for what is on its way. The keeper answers at once unless it is writing, which takes long where a disk is busy.
pub(super) const TELL_DEADLINE: Duration = Duration::from_secs(2);

/// The newest refusals that a rule could have prevented, oldest first.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<VecDeque<(Instant, String)>>);

impl Refusals {
    /// Notes the rule that would have allowed something.
    pub(super) fn note(&self, at: Instant, rule: String) {
        let mut kept = lock(&self.0);
        // A program that tries again and again is one entry.
        kept.retain(|(_, known)| *known != rule);
        kept.push_back((at, rule));
        if kept.len() > KEPT_MAX {
            kept.pop_front();
        }
    }

    /// Returns the rules noted since then.
    pub(super) fn since(&self, then: Instant) -> Vec<String> {
        lock(&self.0).iter().filter(|(at, _)| *at >= then).map(|(_, rule)| rule.clone()).take(TOLD_MAX).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_told_once_of_what_was_refused_in_its_time() {
        let refusals = Refusals::default();
        let began = Instant::now();
        let at = |milliseconds| began + Duration::from_millis(milliseconds);
        for (milliseconds, rule) in [(0, "a.example:443"), (10, "b.example:443"), (20, "a.example:443")] {
            refusals.note(at(milliseconds), rule.to_owned());
        }
        assert_eq!(refusals.since(began), ["b.example:443", "a.example:443"]);
        assert_eq!(refusals.since(at(15)), ["a.example:443"]);
        assert!(refusals.since(at(30)).is_empty());
    }

    #[test]
    fn a_flood_of_refusals_is_kept_and_told_in_part() {
        let refusals = Refusals::default();
        let began = Instant::now();
        (0..1000).for_each(|port| refusals.note(began, format!("192.0.2.1:{port}")));
        assert_eq!(lock(&refusals.0).len(), KEPT_MAX);
        assert_eq!(refusals.since(began).len(), TOLD_MAX);
    }
}
