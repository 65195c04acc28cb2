//! Samples of one figure, and what is said of them.

use serde::Serialize;

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    Milliseconds,
    MegabytesPerSecond,
    RequestsPerSecond,
    ConnectionsPerSecond,
    Mebibytes,
    PercentOfOneCore,
    /// Of two figures taken right after each other.
    Ratio,
}

impl Unit {
    /// Tells whether the tail worth knowing is that of the small values.
    pub(crate) const fn more_is_better(self) -> bool {
        match self {
            Self::MegabytesPerSecond | Self::RequestsPerSecond | Self::ConnectionsPerSecond => true,
            Self::Milliseconds | Self::Mebibytes | Self::PercentOfOneCore | Self::Ratio => false,
        }
    }

    pub(crate) const fn suffix(self) -> &'static str {
        match self {
            Self::Milliseconds => "ms",
            Self::MegabytesPerSecond => "MB/s",
            Self::RequestsPerSecond => "requests/s",
            Self::ConnectionsPerSecond => "connections/s",
            Self::Mebibytes => "MiB",
            Self::PercentOfOneCore => "% of a core",
            Self::Ratio => "times",
        }
    }
}

/// What a figure should be; compared with its p50.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    AtMost(f64),
    AtLeast(f64),
}

impl Target {
    pub(crate) fn is_met_by(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }
}

/// Measured values of one figure.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Returns the sample taken last.
    pub(crate) fn last(&self) -> Option<f64> {
        self.0.last().copied()
    }

    /// Returns the smallest sample that `percent` of all do not exceed (nearest rank); `None` without samples.
    pub(crate) fn percentile(&self, percent: usize) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied()
    }
}

impl From<f64> for Samples {
    fn from(value: f64) -> Self {
        Self(vec![value])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(values: &[f64], p50: Option<f64>, p95: Option<f64>) {
        let samples = Samples(values.to_vec());
        assert_eq!((samples.percentile(50), samples.percentile(95)), (p50, p95));
    }

    #[test]
    fn percentiles_are_samples_that_were_taken() {
        check(&[], None, None);
        check(&[3.0], Some(3.0), Some(3.0));
        check(&[4.0, 1.0, 3.0, 2.0], Some(2.0), Some(4.0));
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        check(&hundred, Some(50.0), Some(95.0));
    }

    #[test]
    fn target_is_met_at_its_limit() {
        assert!(Target::AtMost(5.0).is_met_by(5.0) && !Target::AtMost(5.0).is_met_by(5.1));
        assert!(Target::AtLeast(40.0).is_met_by(40.0) && !Target::AtLeast(40.0).is_met_by(39.9));
    }
}
