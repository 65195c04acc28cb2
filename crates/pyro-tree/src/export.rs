//! Writes entries below a host path, and publishes them only when all of them are there.
//!
//! Everything is written to a staging folder beside the output, through no link (see `beneath`), and moved into place by the last call. An
//! exporter that is dropped before, or fails, removes it. What is replaced with `force` is swapped out by one `renameat2`, so at
//! any moment the output is the old or the new one. Only what is exported anew is ever replaced: a folder is not replaced by a file, nor by a
//! folder that lacks something it holds. Links are written as links; what they point to is not looked at.

use std::{
    collections::HashSet,
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use pyro_proto::error::ErrorKind;
use rustix::{
    fs::{CWD, RenameFlags},
    io::Errno,
};

use crate::{
    beneath::{Beneath, Sparse},
    entry::{Entry, EntryKind, Timestamp},
    files,
    path::TreePath,
};

/// Most clashes named in a report.
const CLASHES_MAX: usize = 100;
/// The name of what is exported, inside the staging folder.
const CONTENT: &str = "content";

/// What was exported.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExportReport {
    /// Entries written, without the folder that holds them.
    pub entry_count: u64,
    /// Bytes of files written, holes not counted.
    pub bytes_written: u64,
    /// Names that a file system which folds case would take for one that came before them, at most 100.
    pub case_clashes: Vec<TreePath>,
}

/// Why nothing was exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The output exists.
    #[error("output `{}` exists already", path.display())]
    Exists {
        /// The output.
        path: PathBuf,
    },
    /// A folder is where a file or a link would be.
    #[error("output `{}` is a folder, and what is exported is not", path.display())]
    IsFolder {
        /// The output.
        path: PathBuf,
    },
    /// The folder that would be replaced holds something that is not exported.
    #[error("output `{}` holds `{}`, which would be lost", path.display(), lost.display())]
    WouldLose {
        /// The output.
        path: PathBuf,
        /// The first entry found, relative to it.
        lost: PathBuf,
    },
    /// The output cannot be the name of a file or folder.
    #[error("output `{}` names no file or folder", path.display())]
    Name {
        /// The output.
        path: PathBuf,
    },
    /// Something cannot be written.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file did not have the size that was announced.
    #[error("content of `{path}` ended after {found} of {expected} bytes")]
    Size {
        /// The entry.
        path: TreePath,
        /// Bytes announced.
        expected: u64,
        /// Bytes read.
        found: u64,
    },
    /// The files hold more than may be written.
    #[error("files hold more than {max_bytes} bytes, holes not counted; it was `{path}` that passed it")]
    TooMuch {
        /// The file that was too much.
        path: TreePath,
        /// Bytes that may be written.
        max_bytes: u64,
    },
    /// A single entry was announced, and another number came.
    #[error("output `{}` takes exactly one file or link", path.display())]
    NotSingle {
        /// The output.
        path: PathBuf,
    },
}

impl ExportError {
    /// Returns the kind of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Exists { .. } => ErrorKind::AlreadyExists,
            Self::Name { .. } | Self::IsFolder { .. } => ErrorKind::InvalidArgument,
            Self::WouldLose { .. } => ErrorKind::Conflict,
            Self::Write { source, .. } => files::error_kind(source),
            Self::Size { .. } => ErrorKind::Io,
            Self::TooMuch { .. } => ErrorKind::LimitExceeded,
            Self::NotSingle { .. } => ErrorKind::InvalidArgument,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Single,
    Folder,
}

/// An export under way.
#[derive(Debug)]
pub struct Exporter {
    output: PathBuf,
    /// The staging folder; removed when the exporter is dropped.
    stage: PathBuf,
    beneath: Beneath,
    form: Form,
    force: bool,
    data_max_bytes: u64,
    /// Modes of folders, set at the end: one that may not be written to would take nothing.
    folders: Vec<(TreePath, u32, Timestamp)>,
    seen: HashSet<Vec<u8>>,
    /// Paths that were written, folders above them included.
    written: HashSet<TreePath>,
    report: ExportReport,
}

impl Exporter {
    /// Begins the export of a tree: `output` becomes a folder that holds the entries. Until then they are in the folder `stage`, which is
    /// made here and must lie on the same file system.
    ///
    /// # Errors
    /// The output exists and `force` is not set, or the staging folder cannot be made.
    pub fn directory(output: &Path, stage: &Path, force: bool) -> Result<Self, ExportError> {
        let exporter = Self::begin(output, stage, force, Form::Folder)?;
        let content = TreePath::try_from(CONTENT).expect("a word is a path");
        exporter.beneath.make_folder(&content, 0o755).map_err(|source| exporter.failed(source))?;
        Ok(exporter)
    }

    /// Begins the export of one file or link: `output` becomes it. One call of `entry` follows; its path does not matter.
    ///
    /// # Errors
    /// As [`Exporter::directory`].
    pub fn single(output: &Path, stage: &Path, force: bool) -> Result<Self, ExportError> {
        Self::begin(output, stage, force, Form::Single)
    }

    /// Caps the bytes that all files together may hold, holes not counted. A file with many names is written once for each.
    #[must_use]
    pub const fn with_data_max(mut self, bytes: u64) -> Self {
        self.data_max_bytes = bytes;
        self
    }

    fn begin(output: &Path, stage: &Path, force: bool, form: Form) -> Result<Self, ExportError> {
        let failed = |source| ExportError::Write { path: output.into(), source };
        let name = output.file_name().ok_or_else(|| ExportError::Name { path: output.into() })?;
        match std::fs::symlink_metadata(output) {
            Ok(_) if !force => return Err(ExportError::Exists { path: output.into() }),
            Ok(there) if there.is_dir() && form == Form::Single => return Err(ExportError::IsFolder { path: output.into() }),
            Ok(_) | Err(_) => {}
        }
        let parent = output.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let parent = std::fs::canonicalize(parent).map_err(failed)?;
        std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700).create(stage).map_err(failed)?;
        let beneath = Beneath::open(stage).map_err(|source| {
            drop(std::fs::remove_dir(stage));
            failed(source)
        })?;
        let output = parent.join(name);
        let report = ExportReport::default();
        let data_max_bytes = u64::MAX;
        Ok(Self {
            output,
            stage: stage.to_owned(),
            beneath,
            form,
            force,
            data_max_bytes,
            folders: Vec::new(),
            seen: HashSet::new(),
            written: HashSet::new(),
            report,
        })
    }

    fn failed(&self, source: io::Error) -> ExportError {
        ExportError::Write { path: self.output.clone(), source }
    }

    /// Writes one entry; missing parents are made.
    ///
    /// # Errors
    /// It cannot be written, came before, or its content is not as long as it says.
    pub fn entry(&mut self, entry: &Entry, content: &mut dyn Sparse) -> Result<(), ExportError> {
        let place = TreePath::try_from(CONTENT).expect("a word is a path");
        let place = match self.form {
            Form::Single if self.report.entry_count > 0 || entry.kind == EntryKind::Directory => {
                return Err(ExportError::NotSingle { path: self.output.clone() });
            }
            Form::Single => place,
            Form::Folder => place.join(entry.path.as_bytes()).map_err(|error| self.failed(io::Error::other(error)))?,
        };
        let path = self.output.join(entry.path.as_path());
        let failed = |source| ExportError::Write { path: path.clone(), source };
        for parent in place.ancestors().skip(1) {
            match self.beneath.make_folder(&parent, 0o755) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
                Ok(()) | Err(_) => {}
            }
        }
        match entry.kind {
            EntryKind::Directory => {
                match self.beneath.make_folder(&place, 0o755) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
                    Ok(()) | Err(_) => {}
                }
                self.folders.push((place, entry.mode, entry.mtime));
            }
            EntryKind::Link => {
                self.beneath.make_link(&place, entry.link_target.as_deref().unwrap_or_default()).map_err(failed)?;
                self.beneath.set_mtime(&place, entry.mtime.seconds, entry.mtime.nanoseconds.into()).map_err(failed)?;
            }
            EntryKind::File => {
                let left = self.data_max_bytes.saturating_sub(self.report.bytes_written);
                let made = self.beneath.make_sparse_file(&place, entry.mode, content, entry.size_bytes, left).map_err(failed)?;
                if made.data_bytes > left {
                    return Err(ExportError::TooMuch { path: entry.path.clone(), max_bytes: self.data_max_bytes });
                }
                let found = made.size_bytes;
                if found != entry.size_bytes {
                    return Err(ExportError::Size { path: entry.path.clone(), expected: entry.size_bytes, found });
                }
                self.beneath.set_mtime(&place, entry.mtime.seconds, entry.mtime.nanoseconds.into()).map_err(failed)?;
                self.report.bytes_written = self.report.bytes_written.saturating_add(made.data_bytes);
            }
        }
        self.report.entry_count += 1;
        if self.force && self.form == Form::Folder {
            self.written.extend(entry.path.ancestors());
            self.written.insert(entry.path.clone());
        }
        if !self.seen.insert(entry.path.case_folded()) && self.report.case_clashes.len() < CLASHES_MAX {
            self.report.case_clashes.push(entry.path.clone());
        }
        Ok(())
    }

    /// Looks whether everything at the output was written anew.
    fn may_replace(&self) -> Result<(), ExportError> {
        let is_folder = std::fs::symlink_metadata(&self.output).is_ok_and(|there| there.is_dir());
        match self.form {
            _ if !is_folder => Ok(()),
            Form::Single => Err(ExportError::IsFolder { path: self.output.clone() }),
            Form::Folder => self.holds_only_what_was_written(&self.output),
        }
    }

    fn holds_only_what_was_written(&self, folder: &Path) -> Result<(), ExportError> {
        for entry in std::fs::read_dir(folder).map_err(|source| self.failed(source))? {
            let entry = entry.map_err(|source| self.failed(source))?;
            let path = entry.path();
            let below = path.strip_prefix(&self.output).unwrap_or(&path);
            let known = TreePath::try_from(below.as_os_str().as_bytes()).is_ok_and(|below| self.written.contains(&below));
            if !known {
                return Err(ExportError::WouldLose { path: self.output.clone(), lost: below.to_owned() });
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.holds_only_what_was_written(&path)?;
            }
        }
        Ok(())
    }

    /// Publishes what was written.
    ///
    /// # Errors
    /// The output has come into being meanwhile, or cannot be replaced. Nothing is then left beside it.
    pub fn finish(mut self) -> Result<ExportReport, ExportError> {
        if self.form == Form::Single && self.report.entry_count != 1 {
            return Err(ExportError::NotSingle { path: self.output.clone() });
        }
        // The innermost first: making an entry changes the time of its folder, and a mode may close it.
        let mut folders = std::mem::take(&mut self.folders);
        folders.sort_by(|one, other| other.0.cmp(&one.0));
        for (path, mode, mtime) in folders {
            // Whoever exported it must be able to remove it again.
            let set = self
                .beneath
                .set_folder_mode(&path, mode | 0o700)
                .and_then(|()| self.beneath.set_mtime(&path, mtime.seconds, mtime.nanoseconds.into()));
            set.map_err(|source| self.failed(source))?;
        }
        self.beneath.sync().map_err(|source| self.failed(source))?;
        if self.force {
            self.may_replace()?;
        }
        let content = self.stage.join(CONTENT);
        let moved = match rustix::fs::renameat_with(CWD, &content, CWD, &self.output, RenameFlags::NOREPLACE) {
            // The old one is swapped into the staging folder, and removed with it.
            Err(Errno::EXIST) if self.force => rustix::fs::renameat_with(CWD, &content, CWD, &self.output, RenameFlags::EXCHANGE),
            other => other,
        };
        match moved {
            Ok(()) => Ok(std::mem::take(&mut self.report)),
            Err(Errno::EXIST) => Err(ExportError::Exists { path: self.output.clone() }),
            Err(error) => Err(self.failed(error.into())),
        }
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        // Nothing more can be done about a staging folder that cannot be removed; its name says whose it is.
        drop(std::fs::remove_dir_all(&self.stage));
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    fn entry(path: &str, kind: EntryKind, mode: u32, size_bytes: u64, link_target: Option<&str>) -> Entry {
        let link_target = link_target.map(|target| target.as_bytes().to_vec());
        Entry { path: TreePath::try_from(path).unwrap(), kind, mode, size_bytes, mtime: Timestamp::from_seconds(7), link_target }
    }

    fn file(path: &str, content: &str) -> Entry {
        entry(path, EntryKind::File, 0o4755, u64::try_from(content.len()).unwrap(), None)
    }

    fn stage(output: &Path) -> PathBuf {
        output.with_file_name("stage")
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|item| item.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_tree_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("out");
        let mut exporter = Exporter::directory(&output, &stage(&output), false).unwrap();
        exporter.entry(&entry("d", EntryKind::Directory, 0o500, 0, None), &mut io::empty()).unwrap();
        exporter.entry(&file("d/f", "abc"), &mut b"abc".as_slice()).unwrap();
        exporter.entry(&file("p/q/F", "x"), &mut b"x".as_slice()).unwrap();
        exporter.entry(&file("p/q/f", "y"), &mut b"y".as_slice()).unwrap();
        exporter.entry(&entry("l", EntryKind::Link, 0o777, 0, Some("/etc/passwd")), &mut io::empty()).unwrap();
        assert!(!output.exists());
        let report = exporter.finish().unwrap();
        assert_eq!((report.entry_count, report.bytes_written, report.case_clashes.len()), (5, 5, 1));
        assert_eq!(fs::read(output.join("d/f")).unwrap(), b"abc");
        assert_eq!(fs::metadata(output.join("d/f")).unwrap().permissions().mode() & 0o7777, 0o755);
        assert_eq!(fs::read_link(output.join("l")).unwrap(), Path::new("/etc/passwd"));
        assert_eq!(names(folder.path()), ["out"]);
    }

    /// A hole, and then a byte.
    struct Holed(u64, bool);

    impl io::Read for Holed {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            buffer[0] = b'x';
            Ok(usize::from(!std::mem::replace(&mut self.1, true)))
        }
    }

    impl Sparse for Holed {
        fn skip_hole(&mut self) -> u64 {
            std::mem::take(&mut self.0)
        }
    }

    #[test]
    fn holes_stay_holes_and_data_is_capped() {
        use std::os::unix::fs::MetadataExt as _;
        const HOLE: u64 = 1 << 32;
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("out");
        let mut exporter = Exporter::directory(&output, &stage(&output), false).unwrap().with_data_max(2);
        let holed = entry("holed", EntryKind::File, 0o644, HOLE + 1, None);
        exporter.entry(&holed, &mut Holed(HOLE, false)).unwrap();
        exporter.entry(&file("again", "x"), &mut b"x".as_slice()).unwrap();
        let error = exporter.entry(&file("more", "x"), &mut b"x".as_slice()).unwrap_err();
        assert_eq!(error.to_string(), "files hold more than 2 bytes, holes not counted; it was `more` that passed it");
        assert_eq!(error.kind(), ErrorKind::LimitExceeded);
        let status = fs::metadata(exporter.stage.join("content/holed")).unwrap();
        assert!(status.size() == HOLE + 1 && status.blocks() < 1024, "{} blocks", status.blocks());
    }

    #[test]
    fn nothing_is_left_of_an_export_that_fails() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("out");
        let mut exporter = Exporter::directory(&output, &stage(&output), false).unwrap();
        let error = exporter.entry(&file("f", "abc"), &mut b"ab".as_slice()).unwrap_err();
        assert_eq!(error.to_string(), "content of `f` ended after 2 of 3 bytes");
        drop(exporter);
        assert_eq!(names(folder.path()), Vec::<String>::new());
    }

    #[test]
    fn an_entry_behind_a_link_of_the_export_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let mut exporter = Exporter::directory(&folder.path().join("out"), &folder.path().join("stage"), false).unwrap();
        exporter.entry(&entry("l", EntryKind::Link, 0o777, 0, outside.path().to_str()), &mut io::empty()).unwrap();
        assert!(exporter.entry(&file("l/f", ""), &mut io::empty()).is_err());
        assert_eq!(names(outside.path()), Vec::<String>::new());
    }

    #[test]
    fn an_output_that_exists_is_replaced_only_by_force() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("out");
        fs::create_dir_all(output.join("old")).unwrap();
        assert!(matches!(Exporter::single(&output, &stage(&output), false), Err(ExportError::Exists { .. })));
        assert!(matches!(Exporter::single(&output, &stage(&output), true), Err(ExportError::IsFolder { .. })));
        fs::remove_dir_all(&output).unwrap();
        fs::write(&output, "old").unwrap();
        let mut exporter = Exporter::single(&output, &stage(&output), true).unwrap();
        exporter.entry(&file("any/name", "new"), &mut b"new".as_slice()).unwrap();
        assert!(matches!(exporter.entry(&file("two", ""), &mut io::empty()), Err(ExportError::NotSingle { .. })));
        exporter.finish().unwrap();
        assert_eq!(fs::read(&output).unwrap(), b"new");
        let exporter = Exporter::directory(&output, &stage(&output), true).unwrap();
        exporter.finish().unwrap();
        assert_eq!((names(folder.path()), names(&output)), (vec!["out".to_owned()], Vec::new()));
    }

    #[test]
    fn a_folder_is_replaced_only_when_nothing_in_it_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("out");
        fs::create_dir_all(output.join("d")).unwrap();
        fs::write(output.join("d/f"), "old").unwrap();
        let export = || {
            let mut exporter = Exporter::directory(&output, &stage(&output), true).unwrap();
            exporter.entry(&file("d/f", "new"), &mut b"new".as_slice()).unwrap();
            exporter.entry(&file("more", ""), &mut io::empty()).unwrap();
            exporter.finish()
        };
        export().unwrap();
        assert_eq!((fs::read(output.join("d/f")).unwrap(), names(&output)), (b"new".to_vec(), vec!["d".to_owned(), "more".to_owned()]));
        fs::write(output.join("d/own"), "precious").unwrap();
        let lost = export().unwrap_err();
        assert!(matches!(&lost, ExportError::WouldLose { lost, .. } if lost == Path::new("d/own")), "{lost}");
        assert_eq!((fs::read(output.join("d/own")).unwrap(), names(folder.path())), (b"precious".to_vec(), vec!["out".to_owned()]));
    }
}
