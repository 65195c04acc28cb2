//! Changes `/workspace`: all of it or nothing, also when the machine is killed in between.
//!
//! ```text
//! inputs ─▶ stage: pyro/change-N/new/… ─▶ plan: what is there? ─▶ intent ─▶ steps: renames ─▶ intent gone ─▶ answer ─▶ remove change-N
//!             │ anything wrong               │ conflict                        │ failed: undone in reverse
//!             └──────────▶ nothing changed ◀─┴─────────────────────────────────┘
//! ```
//!
//! New content is staged as a tree of its own, with the paths it will have. A plan compares it with what is there and comes down to as
//! few renames as possible: a folder that is new moves with one.
//!
//! **Why it survives a kill.** The journal of the file system holds operations on names in order, so what a killed machine leaves on
//! disk is a beginning of: staging, the intent's rename, the steps, the intent's removal. Content has reached the disk before the first
//! step (`write_out`, or one `syncfs` for many files). So nothing needs a flush in between: an intent that is found when the disk is
//! attached is carried out to its end, and staging without one is thrown away. One step needs no intent.
//!
//! A call that is cut while it stages changes nothing; once it commits it runs to its end. Two commits never overlap (see `gate`).

mod intent;
mod plan;
mod stage;
mod step;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use pyro_proto::v1::{ChangeAnswer, change_input};
use rustix::fs::{AtFlags, unlinkat};
use tokio::sync::{mpsc, oneshot};

use crate::files::{FileError, Files, names, remove_tree};
use crate::gate::Gate;
use crate::log;

use plan::Plan;
use stage::Stage;
use step::Place;

const PREFIX: &str = "change-";

/// Runs one change from its inputs to its answer; then throws away what is left of it. Blocks.
pub(crate) fn run(
    files: &Arc<Files>,
    gate: &Arc<Gate>,
    inputs: &mut mpsc::Receiver<change_input::Input>,
    answer: oneshot::Sender<Result<ChangeAnswer, FileError>>,
) {
    let work = match gate.work() {
        Ok(work) => work,
        Err(error) => return drop(answer.send(Err(error))),
    };
    let (result, name) = match Stage::begin(files) {
        Ok(mut stage) => {
            let result = stage.fill(inputs).and_then(|()| commit(files, gate, &mut stage, &|| answer.is_closed()));
            (result, Some(stage.into_name()))
        }
        Err(error) => (Err(error), None),
    };
    let torn = matches!(result, Err(FileError::Torn { .. }));
    // Nobody may be there to hear it.
    let _ = answer.send(result);
    if let Some(name) = name.filter(|_| !torn) {
        discard(files, gate, &name);
    }
    drop(work);
}

/// Commits what is staged.
fn commit(files: &Files, gate: &Gate, stage: &mut Stage<'_>, abandoned: &dyn Fn() -> bool) -> Result<ChangeAnswer, FileError> {
    stage.settle()?;
    let turn = gate.commit(abandoned)?;
    let plan = Plan::make(files, stage)?;
    let place = Place::new(files, stage.folder(), stage.staged());
    if plan.steps.len() > 1 {
        intent::write(&place, &plan.steps)?;
        step::apply_all(&place, &plan.steps)?;
        intent::remove(&place)?;
    } else {
        step::apply_all(&place, &plan.steps)?;
    }
    // Folders that have become empty: a failure only means that somebody has put something there.
    plan.prunes.iter().for_each(|path| place.prune(path));
    drop(turn);
    let mut answer = stage.counts();
    answer.removed += plan.removed;
    Ok(answer)
}

/// Carries out the intents a killed machine has left, and returns what there is to throw away. No command may be running.
pub(crate) fn recover(files: &Files) -> Result<Vec<Vec<u8>>, FileError> {
    let mut left = names(files.staging()).map_err(|error| FileError::io("list", b"pyro", error))?;
    let mut discarded = Vec::new();
    while let Some(name) = left.next() {
        if !name.starts_with(PREFIX.as_bytes()) {
            continue;
        }
        match intent::resume(files, name) {
            Ok(intent::Resumed::Done) => discarded.push(name.to_vec()),
            Ok(intent::Resumed::Newer) => log::line("a change of a newer agent was left as it is"),
            // It stays for a better day; the workspace is of use without it.
            Err(error) => log::failure(&error),
        }
    }
    Ok(discarded)
}

/// Removes a change's folder. Blocks for as long as that takes, or until the machine is shut down.
pub(crate) fn discard(files: &Files, gate: &Gate, name: &[u8]) {
    if let Err(error) = remove_tree(files.staging(), name, &|| gate.is_closed())
        && error != rustix::io::Errno::CANCELED
    {
        log::line(&format!("cannot remove `{}`: {error}", String::from_utf8_lossy(name)));
    }
}

/// Removes an entry that is no folder, if it is there.
fn unlink(folder: impl std::os::fd::AsFd, name: &[u8]) -> rustix::io::Result<()> {
    match unlinkat(folder.as_fd(), name, AtFlags::empty()) {
        Err(rustix::io::Errno::NOENT) => Ok(()),
        result => result,
    }
}
