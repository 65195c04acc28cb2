//! Disks against the distribution's own tools: QEMU writes chains, mke2fs and debugfs file systems, and `ext4-view` reads them as well.
//!
//! The marks `cfg(test)` say to clippy what it cannot see by itself here: these are tests, and may unwrap.

#[cfg(test)]
mod chain;
#[cfg(test)]
mod changes;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod kit;
#[cfg(test)]
mod tree;
