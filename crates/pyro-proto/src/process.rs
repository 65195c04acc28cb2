//! Numbers by which the guest knows what runs in it: one table for commands, shells and services, told apart by range.

/// The first number of a shell is one above it.
const SHELLS: u64 = 1 << 61;
/// The first number of a service is one above it.
const SERVICES: u64 = 1 << 62;

/// What a number stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProcessId {
    /// A command of the journal, by its sequence.
    Command(u64),
    /// A shell, by its number in the workspace.
    Shell(u64),
    /// A service, by its number in the workspace.
    Service(u64),
}

impl ProcessId {
    /// Returns the number on the guest hop.
    #[must_use]
    pub const fn number(self) -> u64 {
        match self {
            Self::Command(sequence) => sequence,
            Self::Shell(number) => SHELLS + number,
            Self::Service(number) => SERVICES + number,
        }
    }

    /// Returns what a number of the guest hop stands for.
    #[must_use]
    pub const fn of(number: u64) -> Self {
        match number {
            SERVICES.. => Self::Service(number - SERVICES),
            SHELLS.. => Self::Shell(number - SHELLS),
            _ => Self::Command(number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_tell_what_they_stand_for() {
        for id in [ProcessId::Command(1), ProcessId::Command(SHELLS - 1), ProcessId::Shell(0), ProcessId::Shell(7), ProcessId::Service(7)] {
            assert_eq!(ProcessId::of(id.number()), id);
        }
    }
}
