//! What may leave a workspace. Pure: no I/O, no clock of its own, no state but what is handed in.

mod address;
mod budget;
mod judge;
#[cfg(test)]
mod judge_tests;
mod learnt;
mod name;
mod refusal;
mod rule;

pub use address::{AddressClass, Network, NetworkError, refused_class};
pub use budget::{BELOW_LENGTH_MAX, Budgets, NEW_NAME_INTERVAL, NEW_NAMES_BURST};
pub use judge::{Grant, Policy, Protocol, VisibleName};
pub use learnt::{LEARNT_PAIRS_MAX, Learnt, TTL_FLOOR, TTL_GRACE, TTL_MAX};
pub use name::{LABEL_LENGTH_MAX, NAME_LENGTH_MAX, Name, NameError};
pub use refusal::{Reason, Refusal};
pub use rule::{Ports, Rule, RuleError, Target};
