//! Disks of workspaces, read from outside: no guest, no mount, no root.
//!
//! Everything on a disk was written by a guest, or by a QEMU it has taken over. So a [`Disk`] believes no layer about what lies below it
//! or how large it is, and a [`Tree`] believes no pointer, length or name of the file system: a lie is an error, never a panic, an endless
//! walk or a large allocation. Nothing here takes a lock: whoever opens the disk of a running machine has it frozen first, so that all is
//! flushed and nothing moves. Paths are bytes, as the guest wrote them; they are names inside the disk and never become host paths here.

mod changes;
mod content;
mod disk;
mod error;
mod export;
mod ext4;
mod layer;
mod tree;

pub use changes::{Changed, changes};
pub use content::FileReader;
pub use disk::Disk;
pub use error::DiskError;
pub use layer::{Layer, LayerFormat};
pub use tree::{EntryKind, Tree, TreeEntry};
