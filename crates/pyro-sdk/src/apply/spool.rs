//! Content of changed files on its way to the host: in memory, or in files that go with the call.

use std::path::Path;

use pyro_disk::{FileReader, Tree, TreeEntry};
use pyro_proto::error::ErrorKind;
use pyro_store::Scratch;
use pyro_tree::Content;
use sha2::{Digest as _, Sha256};

use super::{OPERATION, UNCHANGED};
use crate::{
    diff::ReadContent,
    error::{Cause, Error, Result},
    wanted::Wanted,
    workspace_path::path_text,
};

/// Content that is held in memory; what is beyond goes to a file until it has landed.
pub(super) const HELD_MAX_BYTES: u64 = 64 << 20;

/// Holds content in memory, or in a file below a folder that goes with the call.
pub(super) struct Spool<'w> {
    /// Without one, what does not fit into memory is known by its digest.
    folder: Option<Scratch>,
    count: u64,
    left: u64,
    label: String,
    data_max: u64,
    /// Bytes that may still be read, holes counted: those are hashed, too.
    unread: u64,
    wanted: &'w Wanted,
}

impl<'w> Spool<'w> {
    /// Makes one for the changes of a workspace whose disk has `data_max` bytes.
    pub(super) fn new(folder: Option<Scratch>, label: String, data_max: u64, wanted: &'w Wanted) -> Self {
        Self { folder, count: 0, left: HELD_MAX_BYTES, label, data_max, unread: data_max, wanted }
    }

    /// Hands over the folder, which must outlive what was spooled.
    pub(super) fn into_folder(self) -> Option<Scratch> {
        self.folder
    }
}

impl ReadContent for Spool<'_> {
    fn read(&mut self, tree: &Tree, entry: &TreeEntry) -> Result<Content> {
        self.wanted.check(UNCHANGED)?;
        let Some(unread) = self.unread.checked_sub(entry.size_bytes) else {
            let text =
                format!("its changed files hold more than its disk's {} bytes, holes and further names of a file counted", self.data_max);
            let cause = Cause::new(text).because(vec![format!("`{}` was the one that passed it", path_text(&entry.path))]);
            return Err(Error::workspace(OPERATION, &self.label, ErrorKind::LimitExceeded, cause));
        };
        self.unread = unread;
        if entry.size_bytes <= self.left {
            self.left -= entry.size_bytes;
            return Ok(Content::Bytes(tree.read_of(entry, 0, usize::try_from(entry.size_bytes).unwrap_or(usize::MAX))?));
        }
        let mut content = tree.reader_of(entry)?;
        let Some(folder) = &self.folder else {
            let digest = digest(&mut content).map_err(|error| Error::io("read", path_text(&entry.path), error))?;
            return Ok(Content::Digested(digest));
        };
        self.count += 1;
        let path = folder.path().join(self.count.to_string());
        spool(&mut content, &path, self.wanted).map_err(|error| Error::io("write", &path, error))?;
        self.wanted.check(UNCHANGED)?;
        Ok(Content::Spooled(path))
    }
}

/// Copies a file, and its holes as holes.
fn spool(content: &mut FileReader<'_>, path: &Path, wanted: &Wanted) -> std::io::Result<()> {
    use std::{io::Read as _, os::unix::fs::FileExt as _};
    let file = std::fs::File::create_new(path)?;
    let (mut offset, mut buffer) = (0, vec![0; 128 << 10]);
    while wanted.is_wanted() {
        let hole = content.hole_bytes();
        if hole > 0 {
            content.skip(hole);
            offset += hole;
            continue;
        }
        let count = content.read(&mut buffer)?;
        if count == 0 {
            return file.set_len(offset);
        }
        file.write_all_at(&buffer[..count], offset)?;
        offset += count as u64;
    }
    Ok(())
}

/// Returns the SHA-256 of what is still to be read.
pub(crate) fn digest(content: &mut dyn std::io::Read) -> std::io::Result<[u8; 32]> {
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 128 << 10]);
    loop {
        match content.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().into()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// Returns the SHA-256 of content that was read; `None` of what is no file's, or was not read.
pub(crate) fn digest_of(content: &Content) -> Result<Option<[u8; 32]>> {
    Ok(match content {
        Content::Bytes(bytes) => Some(Sha256::digest(bytes).into()),
        Content::Spooled(path) => {
            let digest = std::fs::File::open(path).and_then(|mut file| digest(&mut file));
            Some(digest.map_err(|error| Error::io("read", path, error))?)
        }
        Content::Digested(digest) => Some(*digest),
        Content::None | Content::TooLarge | Content::Link(_) => None,
    })
}
