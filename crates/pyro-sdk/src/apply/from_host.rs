//! How a workspace differs from what the host last gave it: what an apply brings to the host, and what `diff --against host` shows.

use std::collections::BTreeMap;

use pyro_disk::{Changed, Tree, TreeEntry, changes};
use pyro_tree::{Content, Difference, EntryKind, Given, GivenEntry, Side, TreePath};
use sha2::{Digest as _, Sha256};

use super::spool::{digest, digest_of};
use crate::{
    diff::{ReadContent, is_git, leave_out_hollow, side},
    disk_view::View,
    error::{Error, Problem, Result},
    ignored::Ignored,
    workspace_path::path_text,
};

/// Longest file whose earlier text is looked for on the host.
const TEXT_MAX_BYTES: u64 = 1 << 20;

/// Compares a workspace with what the host last gave it. Blocks.
///
/// What changed since the baseline is told by the disks, and only where the host gave something else later is more looked at.
pub(crate) fn differences_from_host(
    view: &View,
    given: &Given,
    ignored: &mut Ignored,
    after: &mut dyn ReadContent,
) -> Result<Vec<Difference>> {
    let Some(baseline) = &view.before else { return Ok(Vec::new()) };
    let mut now: BTreeMap<TreePath, Option<TreeEntry>> = BTreeMap::new();
    for Changed { path, after, .. } in changes(baseline, &view.now)? {
        now.insert(TreePath::try_from(path.as_slice())?, after);
    }
    for path in given.touched() {
        if !now.contains_key(path) {
            now.insert(path.clone(), view.now.status(path.as_bytes())?);
        }
    }
    ignored.learn(view, now.iter().map(|(path, entry)| (path, entry.as_ref())))?;
    let mut found = Vec::new();
    for (path, entry) in now {
        if is_git(path.as_bytes()) {
            continue;
        }
        let gave = given.get(&path);
        let Some(entry) = entry else {
            if let Some(gave) = gave {
                found.push(Difference { before: Some(before(baseline, &path, gave)?), after: None, path });
            }
            continue;
        };
        match gave {
            None if ignored.leaves_out(&path) => continue,
            Some(gave) if is_as_given(&view.now, &entry, gave)? => continue,
            Some(_) | None => {}
        }
        let side = side(&view.now, Some(entry), after)?;
        let before = gave.map(|gave| before(baseline, &path, gave)).transpose()?;
        // Sockets and devices are nothing that could be brought anywhere.
        if side.is_some() || before.is_some() {
            found.push(Difference { path, before, after: side });
        }
    }
    // Folders that are there only for what was pushed into them the host has elsewhere, or not at all.
    leave_out_hollow(&mut found, |path| ignored.is_above(path) || given.is_above(path));
    Ok(found)
}

/// Tells whether an entry of the workspace is what the host gave there, its mode included.
fn is_as_given(tree: &Tree, entry: &TreeEntry, gave: &GivenEntry) -> Result<bool> {
    let gave = &gave.entry;
    let same_mode = entry.mode & 0o777 == gave.mode & 0o777;
    Ok(match (entry.kind, gave.kind) {
        (pyro_disk::EntryKind::Directory, EntryKind::Directory) => same_mode,
        (pyro_disk::EntryKind::Link, EntryKind::Link) => entry.link_target == gave.link_target,
        (pyro_disk::EntryKind::File, EntryKind::File) => {
            let may_be = same_mode && entry.size_bytes == gave.size_bytes && gave.digest.is_some();
            let found = || digest(&mut tree.reader_of(entry)?).map_err(|error| Error::io("read", path_text(&entry.path), error));
            may_be && Some(found()?) == gave.digest
        }
        _ => false,
    })
}

/// Returns what the host gave, with its content where that can still be had: from the baseline, or from the file of the host it was.
fn before(baseline: &Tree, path: &TreePath, gave: &GivenEntry) -> Result<Side> {
    let entry = &gave.entry;
    let content = match (entry.kind, &entry.digest) {
        (EntryKind::Directory, _) => Content::None,
        (EntryKind::Link, _) => Content::Link(entry.link_target.clone().unwrap_or_default()),
        // A seed that an older Pyro took without a digest.
        (EntryKind::File, None) => Content::TooLarge,
        (EntryKind::File, Some(digest)) => {
            let bytes = if entry.size_bytes > TEXT_MAX_BYTES { None } else { earlier(baseline, path, gave, digest)? };
            bytes.map_or(Content::Digested(*digest), Content::Bytes)
        }
    };
    Ok(Side { kind: entry.kind, mode: entry.mode, size_bytes: entry.size_bytes, content })
}

fn earlier(baseline: &Tree, path: &TreePath, gave: &GivenEntry, digest: &[u8; 32]) -> Result<Option<Vec<u8>>> {
    let size = gave.entry.size_bytes;
    let is_it = |bytes: &[u8]| <[u8; 32]>::from(Sha256::digest(bytes)) == *digest;
    if let Some(seeded) = baseline.status(path.as_bytes())?
        && seeded.kind == pyro_disk::EntryKind::File
        && seeded.size_bytes == size
    {
        let bytes = baseline.read_of(&seeded, 0, usize::try_from(size).unwrap_or(usize::MAX))?;
        if is_it(&bytes) {
            return Ok(Some(bytes));
        }
    }
    let Some(from) = &gave.from else { return Ok(None) };
    let status = std::fs::symlink_metadata(from);
    if !status.is_ok_and(|status| status.is_file() && status.len() == size) {
        return Ok(None);
    }
    // Somebody may have changed it since; the digest tells.
    Ok(std::fs::read(from).ok().filter(|bytes| is_it(bytes)))
}

/// Returns what the host has once these differences have been brought to `target`.
pub(super) fn received<'d>(
    target: &std::path::Path,
    differences: impl Iterator<Item = &'d Difference>,
) -> Result<BTreeMap<TreePath, Option<GivenEntry>>> {
    let mut entries = BTreeMap::new();
    for difference in differences {
        let given = match &difference.after {
            None => None,
            Some(side) => {
                let link_target = match &side.content {
                    Content::Link(link) => Some(link.clone()),
                    Content::TooLarge => return Err(Problem::Internal { what: "content that was not read was applied" }.into()),
                    Content::None | Content::Bytes(_) | Content::Digested(_) | Content::Spooled(_) => None,
                };
                let size_bytes = if side.kind == EntryKind::File { side.size_bytes } else { 0 };
                let digest = digest_of(&side.content)?;
                let entry = pyro_tree::ManifestEntry { kind: side.kind, mode: side.mode, size_bytes, digest, link_target };
                Some(GivenEntry { entry, from: Some(target.join(difference.path.as_path())) })
            }
        };
        entries.insert(difference.path.clone(), given);
    }
    Ok(entries)
}
