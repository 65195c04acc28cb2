//! Archives: read twice, first to judge the whole of it, then to hand it over.
//!
//! Only the first reading knows whether a later entry makes an earlier one a trap, which of two entries of one name counts, and which
//! files other entries are hard links to. A sink therefore never sees a part of an archive that is refused. Memory is bound by what is
//! really read: names, headers and maps have a budget for each entry (`stream`), content passes through.

mod header;
mod pax;
mod plan;
mod reader;
mod sparse;
mod stream;

use std::{
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
};

use rustix::fs::{Mode, OFlags};

pub(super) use self::stream::Compression;
use self::{
    plan::{Kind, Plan},
    reader::{Member, ReadError, Reader},
};
use super::{
    OriginKind, Sink, SourceError, SourceOptions, SourceReport,
    emit::Emitter,
    git::{self, CONFIG_MAX_BYTES, Config, GuestConfig, Level, References, TEXT_MAX_BYTES},
};
use crate::{
    entry::{Entry, EntryKind, Timestamp},
    path::TreePath,
};

/// Hands over an archive.
pub(super) fn read<S: Sink>(
    path: &Path,
    compression: Compression,
    options: &SourceOptions,
    sink: &mut S,
) -> Result<SourceReport, SourceError<S::Error>> {
    let plan = Plan::make(path, compression, options.git)?;
    let mut emitter = Emitter::new(sink, OriginKind::Archive, options.strict);
    for (name, reason) in &plan.left_out {
        emitter.leave_out(name, *reason);
    }
    let mut handed = Handed { made: std::collections::HashSet::new(), plan: &plan };
    let mut archive = Reader::new(stream::open(path, compression)?);
    let changed = || SourceError::Read { path: path.into(), source: io::Error::other("was changed while it was read") };
    for index in 0..plan.entry_count {
        let member = match archive.next() {
            Ok(Some(member)) => member,
            Ok(None) | Err(ReadError::Refused { .. }) => return Err(changed()),
            Err(ReadError::Damaged(source)) => {
                return Err(SourceError::Damaged { path: path.into(), offset: archive.position(), source });
            }
        };
        handed.one(index, &member, &mut archive, path, &mut emitter)?;
    }
    emitter.report.top_mtime = plan.top_mtime;
    Ok(emitter.report)
}

struct Handed<'a> {
    /// Folders the sink has.
    made: std::collections::HashSet<TreePath>,
    plan: &'a Plan,
}

impl Handed<'_> {
    /// Hands over what the entry at `index` stands for: nothing, one thing, or a file under several names.
    fn one<S: Sink>(
        &mut self,
        index: u64,
        member: &Member,
        content: &mut dyn io::Read,
        host: &Path,
        emitter: &mut Emitter<'_, S>,
    ) -> Result<(), SourceError<S::Error>> {
        let Some(paths) = self.plan.by_entry.get(&index) else { return Ok(()) };
        let failed = |source| SourceError::Read { path: host.into(), source };
        let mut spooled = None;
        if paths.len() > 1 && matches!(self.plan.entries.get(&paths[0]).map(|planned| &planned.kind), Some(Kind::File)) {
            // Every name needs the content, which passes by only once.
            let mut file = unnamed_file().map_err(failed)?;
            io::copy(content, &mut file).map_err(failed)?;
            spooled = Some(file);
        }
        for path in paths {
            for parent in path.ancestors() {
                self.folder(&parent, member.mtime, emitter)?;
            }
            let Some(planned) = self.plan.entries.get(path) else { continue };
            match &planned.kind {
                Kind::Folder => self.folder(path, member.mtime, emitter)?,
                Kind::Link(target) => emitter.link(path.clone(), target.clone(), planned.mtime)?,
                Kind::File => {
                    if member.size_bytes != planned.size_bytes {
                        return Err(failed(io::Error::other("was changed while it was read")));
                    }
                    let (mode, size_bytes, mtime) = (planned.mode, planned.size_bytes, planned.mtime);
                    let made = Entry { path: path.clone(), kind: EntryKind::File, mode, size_bytes, mtime, link_target: None };
                    let content: &mut dyn io::Read = match &mut spooled {
                        None => &mut *content,
                        Some(file) => {
                            file.seek(SeekFrom::Start(0)).map_err(failed)?;
                            file
                        }
                    };
                    match git::split_dot_git(path.as_bytes()) {
                        Some((_, below)) if git::is_text(below) => git_text(&made, below, content, host, emitter)?,
                        _ => emitter.emit(&made, content, host)?,
                    }
                }
            }
        }
        Ok(())
    }

    fn folder<S: Sink>(
        &mut self,
        path: &TreePath,
        first_below: Timestamp,
        emitter: &mut Emitter<'_, S>,
    ) -> Result<(), SourceError<S::Error>> {
        if !self.made.insert(path.clone()) {
            return Ok(());
        }
        let (mode, mtime) = self.plan.entries.get(path).map_or((0o755, first_below), |planned| (planned.mode, planned.mtime));
        emitter.folder(path.clone(), mode, mtime)
    }
}

/// Hands over text of a `.git`, `below` which it lies, without credentials.
fn git_text<S: Sink>(
    entry: &Entry,
    below: &[u8],
    content: &mut dyn io::Read,
    host: &Path,
    emitter: &mut Emitter<'_, S>,
) -> Result<(), SourceError<S::Error>> {
    let config = below == b"config";
    let max_bytes = if config { CONFIG_MAX_BYTES } else { TEXT_MAX_BYTES };
    if entry.size_bytes > max_bytes {
        emitter.leave_out(entry.path.as_bytes(), format!("cannot be freed of credentials: is larger than {max_bytes} bytes"));
        return Ok(());
    }
    let failed = |source| SourceError::Read { path: host.into(), source };
    let mut text = Vec::new();
    content.take(entry.size_bytes).read_to_end(&mut text).map_err(failed)?;
    if u64::try_from(text.len()).ok() != Some(entry.size_bytes) {
        return Err(failed(io::Error::other("was changed while it was read")));
    }
    let text = if config {
        match Config::parse(&text, Level::Repository) {
            Ok(config) => {
                let config = GuestConfig::of(&config, References::AsTheyAre);
                let dot_git = entry.path.parent();
                for note in config.notes {
                    emitter.note(dot_git.as_ref().map(TreePath::as_bytes).unwrap_or_default(), &note);
                }
                config.text.into_bytes()
            }
            Err(problem) => {
                emitter.leave_out(entry.path.as_bytes(), problem.to_string());
                return Ok(());
            }
        }
    } else {
        git::strip_credentials(&text)
    };
    git::emit_text(entry.path.clone(), &text, entry.mtime, host, emitter)
}

/// Makes a file without a name, which ends with its descriptor.
fn unnamed_file() -> io::Result<std::fs::File> {
    let open = |folder| rustix::fs::open(folder, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR);
    // `/tmp` is memory on many hosts, so it comes second.
    Ok(open("/var/tmp").or_else(|_| open("/tmp"))?.into())
}
