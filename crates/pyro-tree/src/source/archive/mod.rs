//! Archives: read twice, first to judge the whole of it, then to hand it over.
//!
//! Only the first reading knows whether a later entry makes an earlier one a trap, which of two entries of one name counts, and which
//! files other entries are hard links to. A sink therefore never sees a part of an archive that is refused. Memory is bound by what is
//! really read: names, headers and maps have a budget for each entry (`stream`), content passes through.

mod plan;
mod stream;

use std::{
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
};

use rustix::fs::{Mode, OFlags};

pub(super) use self::stream::Compression;
use self::{
    plan::{Kind, Plan},
    stream::Stream,
};
use super::{
    OriginKind, Sink, SourceError, SourceOptions, SourceReport,
    emit::Emitter,
    git::{self, CONFIG_MAX_BYTES, Config, TEXT_MAX_BYTES},
};
use crate::{
    entry::{Entry, EntryKind},
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
    let stream = Stream::open(path, compression)?;
    let mut archive = tar::Archive::new(stream.reader());
    let damaged = |source| SourceError::Damaged { path: path.into(), offset: stream.position(), source };
    let mut index = 0;
    stream.expect_headers();
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        stream.expect_content();
        handed.one(index, &mut entry, path, &mut emitter)?;
        stream.drain(&mut entry).map_err(damaged)?;
        stream.expect_headers();
        index += 1;
    }
    if index != plan.entry_count {
        return Err(damaged(io::Error::other("was changed while it was read")));
    }
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
        entry: &mut tar::Entry<'_, impl io::Read>,
        host: &Path,
        emitter: &mut Emitter<'_, S>,
    ) -> Result<(), SourceError<S::Error>> {
        let Some(paths) = self.plan.by_entry.get(&index) else { return Ok(()) };
        let failed = |source| SourceError::Read { path: host.into(), source };
        let mut spooled = None;
        if paths.len() > 1 && matches!(self.plan.entries.get(&paths[0]).map(|planned| &planned.kind), Some(Kind::File)) {
            // Every name needs the content, which passes by only once.
            let mut file = unnamed_file().map_err(failed)?;
            io::copy(entry, &mut file).map_err(failed)?;
            spooled = Some(file);
        }
        for path in paths {
            for parent in path.ancestors() {
                self.folder(&parent, emitter)?;
            }
            let Some(planned) = self.plan.entries.get(path) else { continue };
            match &planned.kind {
                Kind::Folder => self.folder(path, emitter)?,
                Kind::Link(target) => emitter.link(path.clone(), target.clone(), planned.mtime_seconds)?,
                Kind::File => {
                    if entry.size() != planned.size_bytes {
                        return Err(failed(io::Error::other("was changed while it was read")));
                    }
                    let (mode, size_bytes, mtime_seconds) = (planned.mode, planned.size_bytes, planned.mtime_seconds);
                    let made = Entry { path: path.clone(), kind: EntryKind::File, mode, size_bytes, mtime_seconds, link_target: None };
                    let content: &mut dyn io::Read = match &mut spooled {
                        None => &mut *entry,
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

    fn folder<S: Sink>(&mut self, path: &TreePath, emitter: &mut Emitter<'_, S>) -> Result<(), SourceError<S::Error>> {
        if !self.made.insert(path.clone()) {
            return Ok(());
        }
        let (mode, mtime) = self.plan.entries.get(path).map_or((0o755, 0), |planned| (planned.mode, planned.mtime_seconds));
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
        match Config::parse(&text) {
            Ok(config) => config.allowed().into_bytes(),
            Err(problem) => {
                emitter.leave_out(entry.path.as_bytes(), problem.to_string());
                return Ok(());
            }
        }
    } else {
        git::strip_credentials(&text)
    };
    git::emit_text(entry.path.clone(), &text, host, emitter)
}

/// Makes a file without a name, which ends with its descriptor.
fn unnamed_file() -> io::Result<std::fs::File> {
    let open = |folder| rustix::fs::open(folder, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR);
    // `/tmp` is memory on many hosts, so it comes second.
    Ok(open("/var/tmp").or_else(|_| open("/tmp"))?.into())
}
