//! Values with an accepted range. Holding one means it was checked, where it came in, against the contract's limits.
//!
//! Two of the ranges end at what this host has. They are read once, from the kernel.

use std::{borrow::Cow, fmt, str::FromStr, sync::OnceLock, time::Duration};

use pyro_proto::error::ErrorKind;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A number outside its accepted range, or no number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not accepted for {what}: {minimum} to {maximum}{unit} are")]
pub struct LimitError {
    /// What was given, cut to 80 characters.
    pub value: String,
    /// What it was meant for.
    pub what: &'static str,
    /// Smallest accepted.
    pub minimum: u64,
    /// Largest accepted.
    pub maximum: u64,
    /// Unit of both, with a space before it, or nothing.
    pub unit: &'static str,
}

impl LimitError {
    /// Returns the kind every surface reports: asking for too much is a limit, anything else is a wrong value.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self.value.parse::<u64>() {
            Ok(value) if value > self.maximum => ErrorKind::LimitExceeded,
            Ok(_) | Err(_) => ErrorKind::InvalidArgument,
        }
    }
}

macro_rules! bounded {
    ($(#[$doc:meta])* $name:ident, $what:literal, $unit:literal, $minimum:expr, $maximum:expr, schema: $schema_maximum:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "u64", into = "u64")]
        pub struct $name(u64);

        impl $name {
            /// Checks a value.
            ///
            /// # Errors
            /// It is outside the accepted range, which the error names.
            pub fn new(value: u64) -> Result<Self, LimitError> {
                if ($minimum..=$maximum).contains(&value) { Ok(Self(value)) } else { Err(Self::refuse(&value.to_string())) }
            }

            /// Returns the number.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }

            fn refuse(value: &str) -> LimitError {
                LimitError { value: value.chars().take(80).collect(), what: $what, minimum: $minimum, maximum: $maximum, unit: $unit }
            }
        }

        impl TryFrom<u64> for $name {
            type Error = LimitError;

            fn try_from(value: u64) -> Result<Self, LimitError> {
                Self::new(value)
            }
        }

        impl From<$name> for u64 {
            fn from(value: $name) -> Self {
                value.0
            }
        }

        impl FromStr for $name {
            type Err = LimitError;

            fn from_str(text: &str) -> Result<Self, LimitError> {
                text.parse().map_err(|_| Self::refuse(text)).and_then(Self::new)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                let maximum: Option<u64> = $schema_maximum;
                match maximum {
                    Some(maximum) => json_schema!({ "type": "integer", "minimum": $minimum, "maximum": maximum }),
                    // The host decides; the field's description says so.
                    None => json_schema!({ "type": "integer", "minimum": $minimum }),
                }
            }
        }
    };
    ($(#[$doc:meta])* $name:ident, $what:literal, $unit:literal, $minimum:expr, $maximum:expr) => {
        bounded!($(#[$doc])* $name, $what, $unit, $minimum, $maximum, schema: Some($maximum));
    };
}

bounded!(
    /// Virtual CPUs of a workspace: 1 to the host's number.
    VcpuCount, "the number of virtual CPUs", "", 1, host_cpu_count(), schema: None
);
bounded!(
    /// Memory of a workspace in MiB: 128 to 80 % of the host's.
    MemMib, "memory", " MiB", 128, host_memory_limit_mib(), schema: None
);
bounded!(
    /// Size of one of a workspace's disks in GiB.
    DiskGib, "the size of a disk", " GiB", 1, 256
);
bounded!(
    /// Idle time in seconds until a workspace expires: a minute to 30 days.
    TtlSeconds, "the idle time", " s", 60, 30 * 24 * 3600
);
bounded!(
    /// How much output an answer carries, in bytes.
    MaxOutputBytes, "the size of the output", " bytes", 1, 1 << 20
);
bounded!(
    /// After how many milliseconds a call answers although its command still runs.
    YieldAfterMs, "the yield time", " ms", 1_000, 55_000
);
bounded!(
    /// How many commands of the journal an answer carries.
    TailCount, "the number of commands", "", 1, 1_000
);

bounded!(
    /// How much of a file an answer carries, in bytes.
    ReadBytes, "the size of an answer", " bytes", 1, 1 << 20
);
bounded!(
    /// How many entries of a tree an answer carries.
    EntryLimit, "the number of entries", "", 1, 100_000
);
bounded!(
    /// How many matching lines an answer carries.
    MatchLimit, "the number of matching lines", "", 1, 1_000
);
bounded!(
    /// How many copies a fork makes.
    ForkCount, "the number of copies", "", 1, 100
);

bounded!(
    /// Width of a terminal.
    TerminalColumns, "the width of a terminal", " columns", 20, 500
);
bounded!(
    /// Height of a terminal.
    TerminalRows, "the height of a terminal", " rows", 5, 200
);
bounded!(
    /// How much of a shell's output an answer carries, in characters.
    ReadChars, "the size of an answer", " characters", 1, 1 << 20
);
bounded!(
    /// How long a shell must be silent to count as quiet, in milliseconds.
    IdleMs, "the time of quiet", " ms", 10, 10_000
);
bounded!(
    /// How long a service may take to become ready, in seconds.
    ReadyTimeoutSeconds, "the time to become ready", " s", 1, 3_600
);
bounded!(
    /// How long between two probes of a service, in milliseconds.
    ReadyIntervalMs, "the time between two probes", " ms", 50, 60_000
);
bounded!(
    /// How long a service that is asked to end may take, in seconds.
    GraceSeconds, "the grace", " s", 0, 300
);
bounded!(
    /// How many lines of a log an answer carries.
    TailLines, "the number of lines", "", 1, 100_000
);
bounded!(
    /// How many events an answer carries.
    EventLimit, "the number of events", "", 1, 10_000
);

macro_rules! defaults {
    ($($name:ident: $value:expr),* $(,)?) => {
        $(impl Default for $name {
            fn default() -> Self {
                Self($value)
            }
        })*
    };
}

defaults!(
    VcpuCount: 1,
    MemMib: 1024,
    DiskGib: 8,
    MaxOutputBytes: 64 << 10,
    TailCount: 20,
    ReadBytes: 64 << 10,
    EntryLimit: 10_000,
    MatchLimit: 200,
    ForkCount: 1,
    TerminalColumns: 120,
    TerminalRows: 30,
    ReadChars: 64 << 10,
    ReadyTimeoutSeconds: 30,
    ReadyIntervalMs: 500,
    GraceSeconds: 10,
    TailLines: 200,
    EventLimit: 1_000,
);

impl MaxOutputBytes {
    /// As much as one answer carries.
    #[must_use]
    pub const fn most() -> Self {
        Self(1 << 20)
    }
}

impl YieldAfterMs {
    /// For a call that waits: chat hosts give up at a minute.
    #[must_use]
    pub const fn call() -> Self {
        Self(45_000)
    }
}

impl DiskGib {
    /// For changes to `/`: room for a compiler and its libraries.
    #[must_use]
    pub const fn root() -> Self {
        Self(16)
    }
}

impl TtlSeconds {
    /// For `pyro run`: ten minutes.
    #[must_use]
    pub const fn one_shot() -> Self {
        Self(600)
    }

    /// For workspaces: eight hours.
    #[must_use]
    pub const fn workspace() -> Self {
        Self(8 * 3600)
    }
}

bounded!(
    /// A command's time in seconds, a second to a day.
    BoundedTimeoutSeconds, "the timeout", " s", 1, 24 * 3600
);

/// How long a command may run. No limit can be asked for on the command line only, where a person is there to interrupt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeoutSeconds {
    /// Seconds.
    After(BoundedTimeoutSeconds),
    /// For as long as it likes.
    Never,
}

impl TimeoutSeconds {
    /// Checks a number of seconds; 0 is refused.
    ///
    /// # Errors
    /// It is outside the accepted range.
    pub fn new(seconds: u64) -> Result<Self, LimitError> {
        BoundedTimeoutSeconds::new(seconds).map(Self::After)
    }

    /// Returns the limit; `None` when there is none.
    #[must_use]
    pub const fn duration(self) -> Option<Duration> {
        match self {
            Self::After(seconds) => Some(Duration::from_secs(seconds.0)),
            Self::Never => None,
        }
    }
}

impl Default for TimeoutSeconds {
    fn default() -> Self {
        Self::After(BoundedTimeoutSeconds(600))
    }
}

impl From<TimeoutSeconds> for u64 {
    fn from(timeout: TimeoutSeconds) -> Self {
        timeout.duration().map_or(0, |duration| duration.as_secs())
    }
}

impl Serialize for TimeoutSeconds {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64((*self).into())
    }
}

impl<'de> Deserialize<'de> for TimeoutSeconds {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BoundedTimeoutSeconds::deserialize(deserializer).map(Self::After)
    }
}

/// Parses a command line's value, where 0 means no limit.
impl FromStr for TimeoutSeconds {
    type Err = LimitError;

    fn from_str(text: &str) -> Result<Self, LimitError> {
        if text == "0" { Ok(Self::Never) } else { text.parse().map(Self::After) }
    }
}

impl fmt::Display for TimeoutSeconds {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        u64::from(*self).fmt(formatter)
    }
}

impl JsonSchema for TimeoutSeconds {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "TimeoutSeconds".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        BoundedTimeoutSeconds::json_schema(generator)
    }
}

/// Returns how many CPUs the host gives this process.
#[must_use]
pub fn host_cpu_count() -> u64 {
    static COUNT: OnceLock<u64> = OnceLock::new();
    *COUNT.get_or_init(|| std::thread::available_parallelism().map_or(1, |count| count.get() as u64))
}

/// Returns the host's memory in MiB, and 0 when the kernel does not tell.
#[must_use]
pub fn host_memory_mib() -> u64 {
    static MEMORY: OnceLock<u64> = OnceLock::new();
    *MEMORY.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
        total.and_then(|rest| rest.trim().strip_suffix(" kB")).and_then(|kilobytes| kilobytes.parse::<u64>().ok()).unwrap_or(0) / 1024
    })
}

fn host_memory_limit_mib() -> u64 {
    // Below the smallest guest the range would be empty; the start then fails with the host's own reason.
    (host_memory_mib() * 8 / 10).max(128)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: FromStr<Err = LimitError> + fmt::Debug>(accepted: &[&str], refused: &[(&str, ErrorKind)]) {
        for text in accepted {
            text.parse::<T>().unwrap();
        }
        for (text, kind) in refused {
            let error = text.parse::<T>().unwrap_err();
            assert_eq!(error.kind(), *kind, "{text}: {error}");
            assert!(error.to_string().contains(&error.minimum.to_string()) && error.to_string().contains(&error.maximum.to_string()));
        }
    }

    #[test]
    fn ranges_are_those_of_the_contract() {
        use ErrorKind::{InvalidArgument, LimitExceeded};
        check::<DiskGib>(&["1", "256"], &[("0", InvalidArgument), ("257", LimitExceeded), ("x", InvalidArgument), ("", InvalidArgument)]);
        check::<TtlSeconds>(&["60", "2592000"], &[("59", InvalidArgument), ("2592001", LimitExceeded)]);
        check::<TimeoutSeconds>(&["0", "1", "86400"], &[("86401", LimitExceeded), ("-1", InvalidArgument)]);
        check::<MemMib>(&["128"], &[("127", InvalidArgument), ("99999999999", LimitExceeded)]);
        check::<VcpuCount>(&["1"], &[("0", InvalidArgument), ("100000", LimitExceeded)]);
        check::<MaxOutputBytes>(&["1", "1048576"], &[("1048577", LimitExceeded)]);
        check::<TerminalColumns>(&["20", "500"], &[("19", InvalidArgument), ("501", LimitExceeded)]);
        check::<TerminalRows>(&["5", "200"], &[("4", InvalidArgument), ("201", LimitExceeded)]);
        check::<IdleMs>(&["10", "10000"], &[("9", InvalidArgument), ("10001", LimitExceeded)]);
        check::<ReadyTimeoutSeconds>(&["1", "3600"], &[("0", InvalidArgument), ("3601", LimitExceeded)]);
        check::<ReadyIntervalMs>(&["50", "60000"], &[("49", InvalidArgument), ("60001", LimitExceeded)]);
        check::<GraceSeconds>(&["0", "300"], &[("-1", InvalidArgument), ("301", LimitExceeded)]);
        check::<YieldAfterMs>(&["1000", "55000"], &[("999", InvalidArgument), ("55001", LimitExceeded)]);
    }

    #[test]
    fn unlimited_timeout_is_for_the_command_line_only() {
        assert_eq!("0".parse(), Ok(TimeoutSeconds::Never));
        assert!(serde_json::from_str::<TimeoutSeconds>("0").is_err());
        assert_eq!(serde_json::from_str::<TimeoutSeconds>("5").unwrap().duration(), Some(Duration::from_secs(5)));
    }
}
