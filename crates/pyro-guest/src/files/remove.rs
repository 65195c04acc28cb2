//! Removes whole trees, however deep.

use std::ffi::CString;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, Mode, OFlags, SeekFrom, openat, renameat, unlinkat};
use rustix::io::Errno;

use super::FOLDER;
use super::walk::names;

/// Removes the folder `name` of `parent` with everything in it, unless `stop` says so in between.
///
/// A folder inside it is first moved up beside the others, so that neither depth nor length of paths matters. Nothing else may use the
/// tree meanwhile.
pub(crate) fn remove_tree(parent: BorrowedFd<'_>, name: &[u8], stop: &dyn Fn() -> bool) -> rustix::io::Result<()> {
    match unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTDIR) => return unlinkat(parent, name, AtFlags::empty()),
        // What is in it comes first.
        Err(_) => {}
    }
    let top = openat(parent, name, FOLDER | OFlags::NOFOLLOW, Mode::empty())?;
    let mut moved = 0_u64;
    loop {
        // What was moved up since the last round is read, too.
        rustix::fs::seek(&top, SeekFrom::Start(0))?;
        let mut folders = names(&top)?;
        if folders.is_empty() {
            break;
        }
        while let Some(entry) = folders.next() {
            let entry = CString::new(entry).expect("a name of the kernel holds no zero byte");
            if stop() {
                return Err(Errno::CANCELED);
            }
            if unlink_or_enter(&top, &entry)? == Entry::Gone {
                continue;
            }
            let folder = openat(&top, &entry, FOLDER | OFlags::NOFOLLOW, Mode::empty())?;
            let mut inner = names(&folder)?;
            while let Some(name) = inner.next() {
                if stop() {
                    return Err(Errno::CANCELED);
                }
                let name = CString::new(name).expect("a name of the kernel holds no zero byte");
                if unlink_or_enter(&folder, &name)? == Entry::Folder {
                    move_up(&folder, &name, &top, &mut moved)?;
                }
            }
            unlinkat(&top, &entry, AtFlags::REMOVEDIR)?;
        }
    }
    unlinkat(parent, name, AtFlags::REMOVEDIR)
}

#[derive(PartialEq, Eq)]
enum Entry {
    Gone,
    /// A folder that is not empty.
    Folder,
}

fn unlink_or_enter(folder: impl std::os::fd::AsFd, name: &CString) -> rustix::io::Result<Entry> {
    let folder = folder.as_fd();
    match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) => Ok(Entry::Gone),
        // POSIX says EPERM, Linux EISDIR.
        Err(Errno::ISDIR | Errno::PERM) => match unlinkat(folder, name, AtFlags::REMOVEDIR) {
            Ok(()) => Ok(Entry::Gone),
            Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(Entry::Folder),
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    }
}

fn move_up(folder: impl std::os::fd::AsFd, name: &CString, top: impl std::os::fd::AsFd, moved: &mut u64) -> rustix::io::Result<()> {
    loop {
        *moved += 1;
        match renameat(&folder, name, &top, format!("moved-{moved}")) {
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
            result => return result,
        }
    }
}
