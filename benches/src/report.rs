//! The only printer: a table per section as it is measured, then every target with what was found and what peers take.

use std::{io::Write as _, process::ExitCode};

use anyhow::Result;
use serde_json::{Value, json};

use crate::{
    arguments::Section,
    process,
    sample::{Samples, Target, Unit},
};

/// Whose figure a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    Pyro,
    /// Another sandbox's.
    Peers,
    /// What cannot be beaten, or what a figure is made of.
    Part,
}

impl Whose {
    const fn name(self) -> &'static str {
        match self {
            Self::Pyro => "pyro",
            Self::Peers => "peer",
            Self::Part => "part",
        }
    }
}

/// One measured figure, or why it could not be measured.
#[derive(Debug)]
pub(crate) struct Row {
    subject: String,
    whose: Whose,
    unit: Unit,
    samples: Samples,
    target: Option<Target>,
    problem: Option<String>,
}

impl Row {
    pub(crate) fn new(whose: Whose, subject: impl Into<String>, unit: Unit, samples: impl Into<Samples>) -> Self {
        Self { subject: subject.into(), whose, unit, samples: samples.into(), target: None, problem: None }
    }

    pub(crate) fn target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    /// A figure that cannot be had on this host.
    pub(crate) fn missing(whose: Whose, subject: impl Into<String>, unit: Unit, problem: String) -> Self {
        Self { problem: Some(problem), ..Self::new(whose, subject, unit, Samples::default()) }
    }

    /// Returns what 95 of 100 samples are no worse than.
    fn p95(&self) -> Option<f64> {
        self.samples.percentile(if self.unit.more_is_better() { 5 } else { 95 })
    }

    fn verdict(&self) -> Option<&'static str> {
        let (target, value) = (self.target?, self.samples.percentile(50)?);
        Some(if target.is_met_by(value) { "met" } else { "MISSED" })
    }

    fn json(&self) -> Value {
        json!({
            "subject": self.subject, "whose": self.whose.name(), "unit": self.unit, "n": self.samples.count(), "p50": self.samples.percentile(50),
            "p95": self.p95(), "target": self.target, "verdict": self.verdict(), "problem": self.problem,
        })
    }
}

/// Rows that belong beside each other.
#[derive(Debug)]
pub(crate) struct Group {
    section: Section,
    title: String,
    rows: Vec<Row>,
    notes: Vec<String>,
    load_before: f64,
    load_after: f64,
}

impl Group {
    /// Begins a group; the host's load is noted now and when it is printed.
    pub(crate) fn begin(section: Section, title: impl Into<String>) -> Self {
        Self { section, title: title.into(), rows: Vec::new(), notes: Vec::new(), load_before: process::load(), load_after: 0.0 }
    }

    pub(crate) fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    fn json(&self) -> Value {
        let rows: Vec<Value> = self.rows.iter().map(Row::json).collect();
        json!({
            "section": format!("{:?}", self.section).to_lowercase(), "title": self.title, "rows": rows, "notes": self.notes,
            "load_before": self.load_before, "load_after": self.load_after,
        })
    }
}

/// Everything printed so far.
#[derive(Debug)]
pub(crate) struct Report {
    host: Vec<String>,
    groups: Vec<Group>,
    json: bool,
}

impl Report {
    /// Begins a report and prints what it was made on.
    pub(crate) fn begin(host: Vec<String>, json: bool) -> Self {
        let report = Self { host, groups: Vec::new(), json };
        for line in &report.host {
            report.line(line);
        }
        report
    }

    /// Prints one line for people.
    pub(crate) fn line(&self, text: &str) {
        // Whoever closed the stream has seen enough; the figures are still taken for the other one.
        let _ = if self.json { writeln!(std::io::stderr(), "{text}") } else { writeln!(std::io::stdout(), "{text}") };
    }

    /// Prints a finished group and keeps it.
    pub(crate) fn finish(&mut self, mut group: Group) {
        group.load_after = process::load();
        self.line(&format!("\n{}   [load {:.1} → {:.1}]", group.title, group.load_before, group.load_after));
        let width = group.rows.iter().map(|row| row.subject.chars().count()).max().unwrap_or(0).max(20);
        self.line(&format!("  {:width$}  {:>9}  {:>9}  {:11}  {:>5}  {:>12}", "", "p50", "p95", "", "n", "target"));
        for row in &group.rows {
            self.line(format!("  {:width$}  {}", row.subject, figures(row)).trim_end());
        }
        for note in &group.notes {
            self.line(&format!("  {note}"));
        }
        self.groups.push(group);
    }

    /// Prints every target beside what was measured, then JSON if that was asked for.
    pub(crate) fn end(self) -> Result<()> {
        let rows: Vec<(&Group, &Row)> = self.groups.iter().flat_map(|group| group.rows.iter().map(move |row| (group, row))).collect();
        let targets: Vec<_> = rows.iter().filter(|(_, row)| row.target.is_some()).collect();
        if !targets.is_empty() {
            self.line("\nTargets, against p50; a peer's figure is that of its whole command");
            let width = targets.iter().map(|(_, row)| row.subject.chars().count()).max().unwrap_or(0);
            for (group, row) in targets {
                let measured = row.samples.percentile(50).map_or_else(|| "not measured".to_owned(), |value| show(value, row.unit));
                let peers: Vec<String> = group
                    .rows
                    .iter()
                    .filter(|peer| peer.whose == Whose::Peers && peer.unit == row.unit)
                    .filter_map(|peer| Some(format!("{} {}", peer.subject.split([' ', ':']).next()?, short(peer.samples.percentile(50)?))))
                    .collect();
                let peers = if peers.is_empty() { String::new() } else { format!("   peers: {}", peers.join(" · ")) };
                let target = row.target.map_or_else(String::new, |target| limit(target, row.unit));
                self.line(&format!(
                    "  {:6}  {:width$}  {:>16}  {:>18}{peers}",
                    row.verdict().unwrap_or("?"),
                    row.subject,
                    measured,
                    target
                ));
            }
        }
        if self.json {
            let groups: Vec<Value> = self.groups.iter().map(Group::json).collect();
            writeln!(std::io::stdout(), "{}", json!({ "format_version": 1, "host": self.host, "groups": groups }))?;
        }
        Ok(())
    }
}

fn figures(row: &Row) -> String {
    if let Some(problem) = &row.problem {
        return format!("cannot be measured here: {problem}");
    }
    let p50 = row.samples.percentile(50).map_or_else(String::new, short);
    // One sample has no spread.
    let p95 = row.p95().filter(|_| row.samples.count() > 1).map_or_else(String::new, short);
    let target = row.target.map_or_else(String::new, |target| limit(target, row.unit));
    format!("{p50:>9}  {p95:>9}  {:11}  {:>5}  {target:>12}  {}", row.unit.suffix(), row.samples.count(), row.verdict().unwrap_or(""))
}

fn short(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

fn show(value: f64, unit: Unit) -> String {
    format!("{} {}", short(value), unit.suffix())
}

fn limit(target: Target, unit: Unit) -> String {
    let unit = unit.suffix().split(' ').next().unwrap_or("");
    match target {
        Target::AtMost(limit) => format!("≤ {limit} {unit}"),
        Target::AtLeast(limit) => format!("≥ {limit} {unit}"),
    }
}

/// Turns the outcome into an exit code: only a benchmark that could not be made fails.
pub(crate) fn exit(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut lines = vec![format!("error: {error}")];
            lines.extend(error.chain().skip(1).map(|cause| format!("  caused by: {cause}")));
            let _ = writeln!(std::io::stderr(), "{}", lines.join("\n"));
            ExitCode::FAILURE
        }
    }
}
