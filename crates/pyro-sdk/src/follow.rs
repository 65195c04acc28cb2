//! Paths on a disk that is read from outside, followed through links as the guest's agent follows them.

use pyro_disk::{DiskError, EntryKind, Tree, TreeEntry};
use pyro_proto::links::{self, FollowError, Found};

use crate::{
    error::{Problem, Result},
    text::WorkspacePath,
    workspace_path::path_text,
};

/// Returns what a path leads to; the entry has the path without links.
///
/// # Errors
/// There is nothing, a link leads out of `/workspace`, or the disk cannot be read.
pub(crate) fn follow(tree: &Tree, path: &WorkspacePath) -> Result<TreeEntry> {
    let look = |path: &[u8]| -> Result<Found, DiskError> {
        Ok(match tree.status(path)? {
            None => Found::Missing,
            Some(entry) => match entry.kind {
                EntryKind::Directory => Found::Directory,
                EntryKind::Link => Found::Link(entry.link_target.unwrap_or_default()),
                EntryKind::File | EntryKind::Other => Found::Other,
            },
        })
    };
    let followed = links::follow(path.as_bytes(), look).map_err(|error| match error {
        FollowError::Outside { link, target } => {
            Problem::LinkOutside { path: path.text(), link: path_text(&link), target: path_text(&target) }.into()
        }
        FollowError::TooMany => Problem::LinkLoop { path: path.text() }.into(),
        FollowError::NoDirectory => Problem::Missing { path: path.text() }.into(),
        FollowError::Look(error) => crate::Error::from(error),
    })?;
    let missing = || match followed.link {
        Some((_, target)) => Problem::LinkDangling { path: path.text(), target: path_text(&target) },
        None => Problem::Missing { path: path.text() },
    };
    Ok(tree.status(&followed.path)?.ok_or_else(missing)?)
}
