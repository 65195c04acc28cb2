//! Seeds: the first content of `/workspace`, written into a disk layer on the host, before any machine is involved.
//!
//! The layer is the workspace's baseline: a reset goes back to it, a diff compares with it. Beside it lies the manifest of what was taken,
//! which `apply` compares the host's files with, and of a Git checkout the rules by which files were left behind.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use pyro_image::{SeedTime, SeedWriter};
use pyro_proto::error::ErrorKind;
use pyro_store::{Dirs, LayerId, LayerRecord, SeedRecord, WorkspaceId, remove_if_present};
use pyro_tree::{Entry, EntryKind, IgnoreRules, LeftOut, Manifest, ManifestEntry, Note, Sink, SourceOptions, Timestamp, read_source};

use crate::{
    Observer, Pyro,
    error::{Error, Problem, Result},
    lifecycle::NO_WORKSPACE,
    meter::Meter,
    wanted::{Wanted, while_wanted},
};

/// What a seed is made from.
#[derive(Debug, Clone)]
pub(crate) struct SeedRequest {
    pub(crate) path: PathBuf,
    pub(crate) options: SourceOptions,
    pub(crate) disk_gib: u64,
}

/// A seed in a layer whose file is there and whose row is not yet. Dropping it removes the file, unless it was [kept](Seeded::keep).
#[derive(Debug)]
pub(crate) struct Seeded {
    pub(crate) layer: LayerRecord,
    pub(crate) record: SeedRecord,
    pub(crate) manifest: Manifest,
    pub(crate) left_out: Vec<LeftOut>,
    pub(crate) left_out_count: u64,
    pub(crate) notes: Vec<Note>,
    /// What Git ignores in it, if it is a checkout of which that was left out.
    pub(crate) ignore: Option<IgnoreRules>,
    image: Option<PathBuf>,
}

impl Seeded {
    /// Leaves the file to the registry, which has its row now.
    pub(crate) fn keep(&mut self) {
        self.image = None;
    }
}

impl Drop for Seeded {
    fn drop(&mut self) {
        if let Some(image) = &self.image {
            // A remnant without a row is removed by `system prune`.
            drop(remove_if_present(image));
        }
    }
}

impl Pyro {
    /// Writes a seed into a layer of its own. Dropping the future, or calling it off, ends the work and removes what it made.
    pub(crate) async fn make_seed(&self, request: SeedRequest, observer: &Observer) -> Result<Seeded> {
        let blank = LayerRecord::blank_workspace(request.disk_gib);
        let row = blank.clone();
        // First the row, so that whoever prunes meanwhile knows the file.
        self.store(move |_, registry| Ok(registry.insert_layer(&row)?)).await?;
        let (dirs, meter) = (self.dirs().clone(), Meter::new(observer, "seed"));
        while_wanted(observer, move |wanted| write_seed(&dirs, &blank, &request, meter, wanted)).await
    }
}

fn write_seed(dirs: &Dirs, blank: &LayerRecord, request: &SeedRequest, meter: Meter, wanted: &Wanted) -> Result<Seeded> {
    let blank_path = dirs.layers().join(blank.file_name());
    if !blank_path.exists() {
        pyro_image::write_blank_ext4(&blank_path, blank.size_bytes, "pyro-workspace")?;
    }
    let layer = LayerRecord { id: LayerId::random(), parent: None, format: "raw".to_owned(), size_bytes: blank.size_bytes };
    let image = dirs.layers().join(layer.file_name());
    let writer = SeedWriter::start(&image, &blank_path)?;
    let mut sink = Writer { writer, manifest: Manifest::new(), refused: Vec::new(), entries: 0, bytes: 0, meter, wanted };
    let report = read_source(&request.path, &request.options, &mut sink);
    // What failed because nobody waits for it says something else by itself.
    wanted.check(NO_WORKSPACE)?;
    let report = report.map_err(|error| seed_error(&request.path, error))?;
    let Writer { mut writer, manifest, mut refused, entries, bytes, .. } = sink;
    writer.directory(b"", 0o755, time(report.top_mtime.unwrap_or_else(now)))?;
    writer.finish()?;
    let left_out_count = report.left_out_count + refused.len() as u64;
    let mut left_out = report.left_out;
    left_out.append(&mut refused);
    // Whoever takes ignored files along wants them back.
    let ignore = report.ignore.filter(|_| !request.options.all);
    let shown = std::path::absolute(&request.path).unwrap_or_else(|_| request.path.clone());
    let record = SeedRecord {
        path: shown.to_string_lossy().into_owned(),
        origin_kind: report.origin.as_str().to_owned(),
        origin_ref: report.origin_ref,
        entry_count: entries,
        bytes_written: bytes,
    };
    Ok(Seeded { layer, record, manifest, left_out, left_out_count, notes: report.notes, ignore, image: Some(image) })
}

fn seed_error(path: &Path, error: pyro_tree::SourceError<WriteError>) -> Error {
    if let pyro_tree::SourceError::Sink(WriteError::Image(error)) = error {
        return error.into();
    }
    let kind = error.kind(|_| ErrorKind::Io);
    Problem::Seed { path: path.to_owned(), kind, source: Box::new(error) }.into()
}

/// Why the seed cannot be written.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error(transparent)]
    Image(#[from] pyro_image::Error),
    /// Nobody waits for it any more.
    #[error("interrupted")]
    Interrupted,
}

struct Writer<'w> {
    writer: SeedWriter,
    manifest: Manifest,
    refused: Vec<LeftOut>,
    entries: u64,
    bytes: u64,
    meter: Meter,
    wanted: &'w Wanted,
}

/// Content that ends early when nobody waits for it any more.
struct WhileWanted<'c> {
    content: &'c mut dyn Read,
    wanted: &'c Wanted,
}

impl Read for WhileWanted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.wanted.is_wanted() { self.content.read(buffer) } else { Err(std::io::Error::other("interrupted")) }
    }
}

impl Sink for Writer<'_> {
    type Error = WriteError;

    fn entry(&mut self, entry: &Entry, content: &mut dyn Read) -> std::result::Result<(), Self::Error> {
        if !self.wanted.is_wanted() {
            return Err(WriteError::Interrupted);
        }
        let path = entry.path.as_bytes();
        if !SeedWriter::accepts(path) {
            self.refused.push(LeftOut { path: entry.path.to_string(), reason: "its name holds a line break".to_owned() });
            return Ok(());
        }
        let digest = match entry.kind {
            EntryKind::Directory => {
                self.writer.directory(path, entry.mode, time(entry.mtime))?;
                None
            }
            EntryKind::Link => {
                self.writer.link(path, entry.link_target.as_deref().unwrap_or_default(), time(entry.mtime))?;
                None
            }
            EntryKind::File => {
                let written = self.writer.file(
                    path,
                    entry.mode,
                    time(entry.mtime),
                    entry.size_bytes,
                    &mut WhileWanted { content, wanted: self.wanted },
                )?;
                self.bytes += entry.size_bytes;
                Some(written.digest)
            }
        };
        self.entries += 1;
        self.manifest.insert(
            entry.path.clone(),
            ManifestEntry {
                kind: entry.kind,
                mode: entry.mode,
                size_bytes: entry.size_bytes,
                digest,
                link_target: entry.link_target.clone(),
            },
        );
        self.meter.add(1, entry.size_bytes);
        Ok(())
    }
}

const fn time(timestamp: Timestamp) -> SeedTime {
    SeedTime { seconds: timestamp.seconds, nanoseconds: timestamp.nanoseconds }
}

fn now() -> Timestamp {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp { seconds: i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX), nanoseconds: since_1970.subsec_nanos() }
}

/// Stores what is remembered of a seed beside its workspace, which has its row: the manifest, and what Git ignores.
pub(crate) fn store_seed(dirs: &Dirs, id: &WorkspaceId, seeded: &Seeded) -> Result<()> {
    make_folder(dirs, id)?;
    seeded.manifest.store(&dirs.seed_manifest(id)).map_err(Problem::Manifest)?;
    if let Some(rules) = &seeded.ignore {
        rules.store(&dirs.seed_ignores(id)).map_err(Problem::Manifest)?;
    }
    Ok(())
}

/// Gives a fork what is remembered of its origin's seed, if that has one.
pub(crate) fn copy_seed_records(dirs: &Dirs, from: &WorkspaceId, to: &WorkspaceId) -> Result<()> {
    for (source, target) in [(dirs.seed_manifest(from), dirs.seed_manifest(to)), (dirs.seed_ignores(from), dirs.seed_ignores(to))] {
        if source.exists() {
            make_folder(dirs, to)?;
            fs_err::copy(&source, &target).map_err(|source| Error::io("copy what is known of the seed to", &target, source))?;
        }
    }
    Ok(())
}

fn make_folder(dirs: &Dirs, id: &WorkspaceId) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let folder = dirs.workspace(id);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(|source| Error::io("make the folder", &folder, source))
}
