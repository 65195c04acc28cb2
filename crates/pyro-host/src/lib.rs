//! The supervisor of one machine: a process of its own that owns QEMU, the guest's channel, the workspace's disks while it runs, and its
//! journal. See `supervise` for its life.

mod agent;
mod error;
mod machine;
mod supervise;
mod workspace;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use machine::become_machine;
pub use supervise::supervise;

/// Locks; a panic elsewhere leaves the registry's connection as usable as before, since every change is a transaction.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
