//! Ends a command and what it has started: first asks, then, when the grace is over, kills.
//!
//! | command | asked | killed |
//! |---|---|---|
//! | contained | TERM for everybody in its control group, newcomers included | `cgroup.kill` |
//! | at a terminal | HUP for the leader's process group and the foreground's, as when its line is hung up | KILL for both |
//! | other | TERM for its process group | KILL for it |
//!
//! CONT follows what is asked, since a stopped process takes a signal only once it goes on. The kernel tells nobody when a process group
//! becomes empty, so it is looked at, at growing intervals.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process_group};

use crate::group::Group;
use crate::log;
use crate::terminal::Terminal;

/// How long a command may take to end that nobody has given another grace: it timed out or its call was dropped.
pub(crate) const GRACE: Duration = Duration::from_secs(2);
/// Longest grace accepted: the clock must be able to count it.
const GRACE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// How often is looked whether anybody is left, first and at most.
const STEP_FIRST: Duration = Duration::from_millis(20);
const STEP_MAX: Duration = Duration::from_millis(250);
/// How long a control group may take to become empty after KILL: only the kernel can hold its processes up then.
const KILL_WAIT: Duration = Duration::from_secs(5);

/// What there is to signal and to end.
#[derive(Debug)]
pub(crate) struct Target {
    /// Process id, process group and session.
    leader: Pid,
    terminal: Option<Arc<Terminal>>,
    group: Option<Group>,
}

impl Target {
    pub(crate) fn new(leader: Pid, terminal: Option<Arc<Terminal>>, group: Option<Group>) -> Self {
        Self { leader, terminal, group }
    }

    pub(crate) fn leader(&self) -> Pid {
        self.leader
    }

    pub(crate) fn terminal(&self) -> Option<&Arc<Terminal>> {
        self.terminal.as_ref()
    }

    pub(crate) fn group(&self) -> Option<&Group> {
        self.group.as_ref()
    }

    /// Sends a signal: to the terminal's foreground, to the leader's process group, or, once the leader is gone, to the control group.
    pub(crate) fn signal(&self, number: i32, leader: Leader) {
        // 1 to 64 are the kernel's; anything else would be refused by it.
        let Some(signal) = Signal::from_named_raw(number) else { return };
        match (leader, &self.group, &self.terminal) {
            (Leader::Gone, Some(group), _) => group.signal(&[signal], None, &mut Vec::new()),
            // Its number may be another's by now.
            (Leader::Gone, None, _) => {}
            (Leader::Alive, _, Some(terminal)) => {
                // ESRCH: it has just ended.
                let _ = kill_process_group(terminal.foreground().unwrap_or(self.leader), signal);
                terminal.touch();
            }
            (Leader::Alive, _, None) => {
                let _ = kill_process_group(self.leader, signal);
            }
        }
    }

    /// Returns when the control group is empty; never without one.
    pub(crate) async fn emptied(&self) {
        match &self.group {
            Some(group) => group.emptied().await,
            None => std::future::pending().await,
        }
    }
}

/// Whether a command's first process is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leader {
    Alive,
    /// It has ended and was collected.
    Gone,
}

/// Why a command is being ended by the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    TimedOut,
    /// Its only call was dropped.
    Abandoned,
    /// The host has said so.
    Asked,
    /// Its leader has failed and left others behind.
    Failed,
}

/// A command's end under way.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) cause: Cause,
    deadline: Instant,
    /// When it is looked at next.
    pub(crate) next: Instant,
    step: Duration,
    /// When KILL was sent.
    killed: Option<Instant>,
    /// Processes of a control group that were asked.
    asked: Vec<i32>,
    /// Process groups that were asked and are to go.
    process_groups: Vec<Pid>,
}

/// Whether there is more to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    Some,
    None,
}

impl Ending {
    pub(crate) fn new(cause: Cause, grace: Duration) -> Self {
        let now = Instant::now();
        let deadline = now + grace.min(GRACE_MAX);
        Self { cause, deadline, next: now, step: STEP_FIRST, killed: None, asked: Vec::new(), process_groups: Vec::new() }
    }

    /// Ends sooner, if that is sooner. What it was ended for first stays the cause.
    pub(crate) fn shorten(&mut self, grace: Duration) {
        let now = Instant::now();
        self.deadline = self.deadline.min(now + grace.min(GRACE_MAX));
        self.next = now;
    }

    /// Asks those who were not asked yet, kills when it is time, and returns whether anybody is left.
    pub(crate) fn step(&mut self, target: &Target, leader: Leader) -> Rest {
        let now = Instant::now();
        self.next = now + self.step;
        self.step = (self.step * 2).min(STEP_MAX);
        let rest = match target.group() {
            Some(group) => self.step_group(target, group, leader, now),
            None => self.step_process_groups(target, leader, now),
        };
        if self.killed.is_none() {
            self.next = self.next.min(self.deadline.max(now));
        }
        rest
    }

    fn step_group(&mut self, target: &Target, group: &Group, leader: Leader, now: Instant) -> Rest {
        if group.is_empty() && leader == Leader::Gone {
            return Rest::None;
        }
        // It may have left the group, as root in the machine can.
        let leader = Some(target.leader()).filter(|_| leader == Leader::Alive);
        match self.killed {
            None if now < self.deadline => {
                let signals: &[_] = match target.terminal() {
                    // An interactive shell does not heed TERM.
                    Some(_) => &[Signal::TERM, Signal::HUP, Signal::CONT],
                    None => &[Signal::TERM, Signal::CONT],
                };
                group.signal(signals, leader, &mut self.asked);
                Rest::Some
            }
            None => {
                group.kill();
                // ESRCH: it has just ended.
                let _ = leader.map(|leader| kill_process(leader, Signal::KILL));
                self.killed = Some(now);
                Rest::Some
            }
            Some(at) if now < at + KILL_WAIT => Rest::Some,
            Some(_) => {
                log::line(&format!("some processes of `{}` do not end", group.path().display()));
                Rest::None
            }
        }
    }

    fn step_process_groups(&mut self, target: &Target, leader: Leader, now: Instant) -> Rest {
        let signal = if target.terminal().is_some() { Signal::HUP } else { Signal::TERM };
        // The leader's number stays taken for as long as anybody is in its process group or session.
        let present = (leader == Leader::Alive).then_some(target.leader());
        let foreground = target.terminal().and_then(|terminal| terminal.foreground()).filter(|_| leader == Leader::Alive);
        for group in present.into_iter().chain(foreground) {
            if !self.process_groups.contains(&group) {
                self.process_groups.push(group);
                // ESRCH: it has just ended.
                let _ = kill_process_group(group, signal);
                let _ = kill_process_group(group, Signal::CONT);
            }
        }
        // ESRCH once every member was collected, the leader by the reaper.
        self.process_groups.retain(|&group| test_kill_process_group(group).is_ok());
        if now >= self.deadline && self.killed.is_none() {
            for &group in &self.process_groups {
                let _ = kill_process_group(group, Signal::KILL);
            }
            self.killed = Some(now);
        }
        match (leader, self.killed) {
            (Leader::Alive, _) => Rest::Some,
            // Nothing survives KILL, and how long the kernel takes with the others is nobody's concern.
            (Leader::Gone, Some(_)) => Rest::None,
            (Leader::Gone, None) if self.process_groups.is_empty() => Rest::None,
            (Leader::Gone, None) => Rest::Some,
        }
    }
}
