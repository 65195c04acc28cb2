//! When to look at whom again, though nothing happened.

use std::collections::BTreeSet;
use std::time::Instant;

use super::ready::Token;

/// The deadlines of all tokens, at most one each.
#[derive(Debug, Default)]
pub(super) struct Timers(BTreeSet<(Instant, Token)>);

impl Timers {
    /// Moves a token's deadline. `armed` is the owner's note of what is set. A later deadline is not set at once: the earlier one
    /// fires, the owner looks, and sets what is due then. Retransmission deadlines move with every segment, so this saves most of the work.
    pub(super) fn set(&mut self, token: Token, armed: &mut Option<Instant>, deadline: Instant) {
        if let Some(earlier) = *armed {
            if earlier <= deadline {
                return;
            }
            self.0.remove(&(earlier, token));
        }
        self.0.insert((deadline, token));
        *armed = Some(deadline);
    }

    pub(super) fn clear(&mut self, token: Token, armed: &mut Option<Instant>) {
        if let Some(deadline) = armed.take() {
            self.0.remove(&(deadline, token));
        }
    }

    pub(super) fn first(&self) -> Option<Instant> {
        self.0.first().map(|(deadline, _)| *deadline)
    }

    /// Takes a token whose deadline has passed. The owner must forget its note before it sets another.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Token> {
        let first = *self.0.first()?;
        if first.0 > now {
            return None;
        }
        self.0.remove(&first);
        Some(first.1)
    }
}
