//! How many new names below a wildcard may be asked for: what keeps an allowed wildcard from being a way out for data.
//!
//! A guest that is allowed `*.example.org` chooses the labels of a question, and whoever serves `example.org` reads them. So what stands
//! before the suffix is capped in length, and new names in number: a burst as a build fetching from many hosts needs it, then a
//! trickle. Names that lately resolved cost nothing. Entropy is not measured: hosts named by hashes are common, and data can be spelt in words.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::learnt::Learnt;
use super::name::Name;
use super::refusal::{Reason, Refusal};
use super::rule::{Rule, Target};

/// How many new names below one suffix may be asked for at once.
pub const NEW_NAMES_BURST: u32 = 120;
/// How long it takes until one more may be asked for.
pub const NEW_NAME_INTERVAL: Duration = Duration::from_secs(2);
/// The most characters before a wildcard's suffix: one full label and a prefix such as a region or a bucket.
pub const BELOW_LENGTH_MAX: usize = 96;

#[derive(Debug)]
struct Bucket {
    names: u32,
    refilled: Instant,
}

/// What is left for each wildcard. At most as many as there are rules with names.
#[derive(Debug, Default)]
pub struct Budgets(HashMap<Name, Bucket>);

impl Budgets {
    /// Takes what a question for `name`, allowed by `rule`, costs; `plain` is whether it asks for addresses only.
    ///
    /// # Errors
    ///
    /// Refuses a name that is too long or one too many. The suggestion then is the exact name, which is judged by no budget.
    pub fn spend(&mut self, rule: &Rule, name: &Name, plain: bool, learnt: &Learnt, now: Instant) -> Result<(), Refusal> {
        let Target::Below(suffix) = &rule.target else { return Ok(()) };
        let exact = || Rule { target: Target::Name(name.clone()), ports: rule.ports };
        if name.part_below(suffix).is_some_and(|part| part.len() > BELOW_LENGTH_MAX) {
            return Err(Refusal::until(Reason::NameTooLong(name.clone()), exact()));
        }
        // Repeated questions for addresses carry nothing new. Other kinds, TXT above all, carry answers back, so they always cost.
        if plain && learnt.knows(name) {
            return Ok(());
        }
        let bucket = self.0.entry(suffix.clone()).or_insert(Bucket { names: NEW_NAMES_BURST, refilled: now });
        let intervals = now.saturating_duration_since(bucket.refilled).as_secs() / NEW_NAME_INTERVAL.as_secs();
        let gained = u32::try_from(intervals).unwrap_or(NEW_NAMES_BURST).min(NEW_NAMES_BURST);
        if gained > 0 {
            bucket.names = (bucket.names + gained).min(NEW_NAMES_BURST);
            bucket.refilled = now;
        }
        match bucket.names.checked_sub(1) {
            Some(left) => {
                bucket.names = left;
                Ok(())
            }
            None => Err(Refusal::until(Reason::TooManyNames(suffix.clone()), exact())),
        }
    }

    /// Forgets the budgets of rules that are no more, keeps those that are.
    pub fn keep(&mut self, rules: &[Rule]) {
        self.0.retain(|suffix, _| rules.iter().any(|rule| matches!(&rule.target, Target::Below(own) if own == suffix)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(budgets: &mut Budgets, label: &str, now: Instant) -> Result<(), Refusal> {
        let name = format!("{label}.example.org").parse().unwrap();
        budgets.spend(&"*.example.org".parse().unwrap(), &name, true, &Learnt::default(), now)
    }

    #[test]
    fn random_names_below_a_wildcard_run_dry_and_trickle_back() {
        let start = Instant::now();
        let mut budgets = Budgets::default();
        for number in 0..NEW_NAMES_BURST {
            ask(&mut budgets, &format!("n{number}"), start).unwrap();
        }
        let refusal = ask(&mut budgets, "one-more", start).unwrap_err();
        assert_eq!(refusal.reason, Reason::TooManyNames("example.org".parse().unwrap()));
        assert_eq!(refusal.suggestion.unwrap().to_string(), "one-more.example.org");
        assert!(ask(&mut budgets, "later", start + NEW_NAME_INTERVAL).is_ok());
        assert!(ask(&mut budgets, "too-soon", start + NEW_NAME_INTERVAL).is_err());
    }

    #[test]
    fn a_name_that_resolved_costs_nothing_unless_asked_for_texts() {
        let start = Instant::now();
        let (mut budgets, mut learnt) = (Budgets::default(), Learnt::default());
        let (rule, name): (Rule, Name) = ("*.example.org".parse().unwrap(), "cdn.example.org".parse().unwrap());
        learnt.learn([203, 0, 113, 5].into(), &name, Duration::ZERO, start);
        for _ in 0..1000 {
            budgets.spend(&rule, &name, true, &learnt, start).unwrap();
        }
        for _ in 0..NEW_NAMES_BURST {
            budgets.spend(&rule, &name, false, &learnt, start).unwrap();
        }
        assert!(budgets.spend(&rule, &name, false, &learnt, start).is_err());
    }

    #[test]
    fn long_labels_below_a_wildcard_are_refused() {
        let mut budgets = Budgets::default();
        let label = format!("{}.{}", "a".repeat(63), "b".repeat(32));
        assert!(ask(&mut budgets, &label, Instant::now()).is_ok());
        let refusal = ask(&mut budgets, &format!("{label}b"), Instant::now()).unwrap_err();
        assert!(matches!(refusal.reason, Reason::NameTooLong(_)));
    }
}
