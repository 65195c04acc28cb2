//! The log of what a workspace's network did: one line per entry, chained by hashes, so that a line that was changed, taken out or put in
//! later shows.
//!
//! ```text
//! HASH {"continues":16}                                      what the file goes on from: the hash of entry 16, or zeros and 0
//! HASH {"at_ms":…,"event":"opened",…,"sequence":17}          HASH = SHA-256(HASH of the line before, newline, the JSON text)
//! ```
//!
//! The chain proves order and wholeness against accidents and against who edits lines. Who can write the log *and* the registry, which
//! keeps the newest hash, can make both anew: a copy of the hash elsewhere is safe from that.
//!
//! A guest can cause entries without end, so the log is two files of bounded size: when the newer is full it takes the place of the older.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use rustix::fs::FlockOperation;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::StoreResult;

/// Where one file ends and the next begins.
const FILE_MAX_BYTES: u64 = 16 << 20;
/// Longest line; whoever makes an entry bounds its fields.
const LINE_MAX_BYTES: u64 = 64 << 10;
const HASH_DIGITS: usize = 64;
/// The names of both files, the older first.
const FILES: [&str; 2] = ["network.log.1", "network.log"];
/// The key of a file's first line.
const CONTINUES: &str = "continues";

/// Where the chain stands: at its newest entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainEnd {
    /// Number of the entry, 0 before the first.
    pub sequence: u64,
    /// Its hash, zeros before the first.
    pub hash: String,
}

impl Default for ChainEnd {
    fn default() -> Self {
        Self { sequence: 0, hash: "0".repeat(HASH_DIGITS) }
    }
}

/// What is wrong with a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChainFault {
    /// A line is not what its hash, or the line before it, says.
    Broken {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
    },
    /// The newest entry that the registry knows is not in it: its end was cut, or the whole was replaced.
    Cut {
        /// What the registry knows.
        known: ChainEnd,
        /// Where the log ends.
        found: ChainEnd,
    },
}

/// A log that was found whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// Number of the oldest entry kept; 0 if there is none.
    pub oldest: u64,
    /// The newest.
    pub end: ChainEnd,
}

/// The network log of one workspace.
#[derive(Debug, Clone)]
pub struct NetworkLog {
    folder: PathBuf,
    file_max_bytes: u64,
}

impl NetworkLog {
    /// Returns the log in a workspace's folder; it need not be there.
    #[must_use]
    pub const fn new(folder: PathBuf) -> Self {
        Self { folder, file_max_bytes: FILE_MAX_BYTES }
    }

    /// Appends entries and returns where the chain stands then. Several processes may append; they take turns.
    ///
    /// A line that a killed writer left unfinished is taken away first.
    ///
    /// # Errors
    /// The folder is gone, or a file cannot be written.
    pub fn append(&self, entries: impl IntoIterator<Item = Map<String, Value>>) -> StoreResult<ChainEnd> {
        let turn = self.open("network.log.lock")?;
        rustix::fs::flock(&turn, FlockOperation::LockExclusive).map_err(std::io::Error::from)?;
        let mut file = self.open(FILES[1])?;
        let (before, whole_bytes) = end(&mut file)?;
        let mut end = before.clone();
        let mut text = Vec::new();
        for mut entry in entries {
            end.sequence += 1;
            entry.insert("sequence".to_owned(), end.sequence.into());
            let json = Value::Object(entry).to_string();
            end.hash = chain(&end.hash, json.as_bytes());
            text.extend_from_slice(format!("{} {json}\n", end.hash).as_bytes());
        }
        file.set_len(whole_bytes)?;
        if whole_bytes > 0 && whole_bytes + text.len() as u64 > self.file_max_bytes {
            fs_err::rename(self.path(FILES[1]), self.path(FILES[0]))?;
            file = self.open(FILES[1])?;
        }
        if file.seek(SeekFrom::End(0))? == 0 {
            text.splice(0..0, format!("{} {{\"{CONTINUES}\":{}}}\n", before.hash, before.sequence).into_bytes());
        }
        file.write_all(&text)?;
        Ok(end)
    }

    /// Makes the folder the log lies in. Nothing else does: what is appended after the workspace was deleted must not bring its folder back.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn prepare(&self) -> StoreResult<()> {
        Ok(fs_err::create_dir_all(&self.folder)?)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn open(&self, name: &str) -> StoreResult<File> {
        use std::os::unix::fs::OpenOptionsExt as _;
        Ok(File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(self.path(name))?)
    }

    /// Returns the entries after number `after`, oldest first, each with its hash, `limit` at the most; and the number of the oldest kept.
    ///
    /// Lines that are none are passed over; [`verify`](Self::verify) tells of them.
    ///
    /// # Errors
    /// A file is there and cannot be read.
    pub fn read(&self, after: u64, limit: usize) -> StoreResult<(Vec<Map<String, Value>>, u64)> {
        let (mut found, mut oldest) = (Vec::new(), 0);
        for name in FILES {
            for line in lines(&self.path(name))? {
                let line = line?;
                let Some(Line { hash, sequence, json, continues: false }) = parse(&line) else { continue };
                if oldest == 0 {
                    oldest = sequence;
                }
                if sequence > after
                    && found.len() < limit
                    && let Ok(mut entry) = serde_json::from_slice::<Map<String, Value>>(json)
                {
                    entry.insert("hash".to_owned(), hash.into());
                    found.push(entry);
                }
            }
        }
        Ok((found, oldest))
    }

    /// Checks every line, and that the log reaches what the registry knows of it.
    ///
    /// # Errors
    /// A file is there and cannot be read.
    pub fn verify(&self, known: &ChainEnd) -> StoreResult<Result<Verified, ChainFault>> {
        let mut verified = Verified::default();
        // Nothing is known of what came before the older file.
        let mut before: Option<ChainEnd> = None;
        let mut reached = known.sequence == 0;
        for name in FILES {
            let path = self.path(name);
            for (number, line) in (1..).zip(lines(&path)?) {
                let line = line?;
                let follows = |line: &Line<'_>| {
                    let end = ChainEnd { sequence: line.sequence, hash: line.hash.to_owned() };
                    match (&before, line.continues, number) {
                        // While there is no older file, the newer one begins with the first entry.
                        (None, true, 1) if name == FILES[0] || line.sequence == 0 => Some(end),
                        (Some(before), true, 1) => (*before == end).then_some(end),
                        (Some(before), false, 2..) => {
                            (line.sequence == before.sequence + 1 && chain(&before.hash, line.json) == line.hash).then_some(end)
                        }
                        _ => None,
                    }
                };
                let Some((line, end)) = parse(&line).and_then(|line| follows(&line).map(|end| (line, end))) else {
                    return Ok(Err(ChainFault::Broken { path, line: number }));
                };
                if !line.continues && verified.oldest == 0 {
                    verified.oldest = end.sequence;
                }
                reached |= end == *known;
                before = Some(end);
            }
        }
        verified.end = before.unwrap_or_default();
        Ok(if reached { Ok(verified) } else { Err(ChainFault::Cut { known: known.clone(), found: verified.end }) })
    }
}

/// A line, taken apart and not checked.
struct Line<'a> {
    hash: &'a str,
    sequence: u64,
    json: &'a [u8],
    /// Whether it is a file's first one.
    continues: bool,
}

fn parse(line: &[u8]) -> Option<Line<'_>> {
    let (hash, json) = (line.get(..HASH_DIGITS)?, line.get(HASH_DIGITS..)?.strip_prefix(b" ")?);
    let hash = std::str::from_utf8(hash).ok().filter(|hash| hash.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    let entry: Map<String, Value> = serde_json::from_slice(json).ok()?;
    let number = |key: &str| entry.get(key).and_then(Value::as_u64);
    match number(CONTINUES) {
        Some(sequence) => Some(Line { hash, sequence, json, continues: true }),
        None => Some(Line { hash, sequence: number("sequence")?, json, continues: false }),
    }
}

/// Returns the lines of a file without their ends; none if it is not there. What is longer than any line comes in pieces.
fn lines(path: &Path) -> StoreResult<impl Iterator<Item = StoreResult<Vec<u8>>> + use<>> {
    let mut reader = match fs_err::File::open(path) {
        Ok(file) => Some(BufReader::new(file)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    Ok(std::iter::from_fn(move || {
        let mut line = Vec::new();
        match reader.as_mut()?.by_ref().take(LINE_MAX_BYTES).read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) => {
                line.truncate(line.len() - usize::from(line.ends_with(b"\n")));
                Some(Ok(line))
            }
            Err(error) => Some(Err(error.into())),
        }
    }))
}

/// Returns where the chain stands at the end of a file, and how much of it is whole lines.
fn end(file: &mut File) -> StoreResult<(ChainEnd, u64)> {
    let from = file.metadata()?.len().saturating_sub(2 * LINE_MAX_BYTES);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.take(2 * LINE_MAX_BYTES).read_to_end(&mut tail)?;
    let Some(newline) = tail.iter().rposition(|byte| *byte == b'\n') else { return Ok((ChainEnd::default(), 0)) };
    let last = tail[..newline].rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    // A last line that is none breaks the chain, and `verify` says so.
    let end = parse(last).map(|line| ChainEnd { sequence: line.sequence, hash: line.hash.to_owned() }).unwrap_or_default();
    Ok((end, from + newline as u64 + 1))
}

fn chain(before: &str, json: &[u8]) -> String {
    let digest = Sha256::new().chain_update(before).chain_update(b"\n").chain_update(json).finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str) -> Map<String, Value> {
        Map::from_iter([("name".to_owned(), Value::from(name))])
    }

    fn log(file_max_bytes: u64) -> (tempfile::TempDir, NetworkLog) {
        let folder = tempfile::tempdir().unwrap();
        let log = NetworkLog { folder: folder.path().to_owned(), file_max_bytes };
        (folder, log)
    }

    fn broken_line(log: &NetworkLog, known: &ChainEnd) -> u64 {
        match log.verify(known).unwrap() {
            Err(ChainFault::Broken { line, .. }) => line,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn entries_come_back_in_order_and_are_whole() {
        let (_folder, log) = log(FILE_MAX_BYTES);
        assert_eq!(log.verify(&ChainEnd::default()).unwrap(), Ok(Verified::default()));
        let first = log.append([entry("a"), entry("b")]).unwrap();
        let end = log.append([entry("c")]).unwrap();
        assert_eq!((first.sequence, end.sequence), (2, 3));
        let (entries, oldest) = log.read(1, 10).unwrap();
        assert_eq!(oldest, 1);
        assert_eq!(entries.iter().map(|entry| entry["name"].as_str().unwrap()).collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(entries[1]["hash"], end.hash);
        for known in [&ChainEnd::default(), &first, &end] {
            assert_eq!(log.verify(known).unwrap(), Ok(Verified { oldest: 1, end: end.clone() }));
        }
    }

    #[test]
    fn a_line_changed_taken_out_swapped_or_put_in_shows() {
        let (folder, log) = log(FILE_MAX_BYTES);
        let end = log.append(["a", "b", "c", "d"].map(entry)).unwrap();
        let path = folder.path().join("network.log");
        let whole = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = whole.lines().collect();
        // Its beginning taken out, as if it had turned over.
        let continued = format!("{} {{\"continues\":2}}", lines[2].split_once(' ').unwrap().0);
        let changed = lines[2].replace("\"b\"", "\"B\"");
        for (forged, line) in [
            (vec![lines[0], lines[1], &changed, lines[3], lines[4]], 3),
            (vec![lines[0], lines[1], lines[3], lines[4]], 3),
            (vec![lines[0], lines[2], lines[1], lines[3], lines[4]], 2),
            (vec![lines[0], lines[1], lines[1], lines[2], lines[3], lines[4]], 3),
            (vec![lines[0], lines[1], "nonsense", lines[2], lines[3], lines[4]], 3),
            (vec![lines[1], lines[2], lines[3], lines[4]], 1),
            (vec![&continued, lines[3], lines[4]], 1),
        ] {
            std::fs::write(&path, forged.join("\n") + "\n").unwrap();
            assert_eq!(broken_line(&log, &end), line, "{forged:?}");
        }
    }

    #[test]
    fn a_cut_end_and_another_log_show_by_what_is_known() {
        let (folder, log) = log(FILE_MAX_BYTES);
        let end = log.append(["a", "b"].map(entry)).unwrap();
        let path = folder.path().join("network.log");
        let whole = std::fs::read_to_string(&path).unwrap();
        let cut: String = whole.lines().take(2).map(|line| format!("{line}\n")).collect();
        std::fs::write(&path, cut).unwrap();
        assert!(matches!(log.verify(&end).unwrap(), Err(ChainFault::Cut { found, .. }) if found.sequence == 1));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(log.verify(&end).unwrap(), Err(ChainFault::Cut { .. })));
        log.append(["x", "y"].map(entry)).unwrap();
        assert!(matches!(log.verify(&end).unwrap(), Err(ChainFault::Cut { .. })));
    }

    #[test]
    fn a_line_a_killed_writer_left_is_taken_away() {
        let (folder, log) = log(FILE_MAX_BYTES);
        log.append([entry("a")]).unwrap();
        let path = folder.path().join("network.log");
        File::options().append(true).open(&path).unwrap().write_all(b"0123 {\"seq").unwrap();
        let end = log.append([entry("b")]).unwrap();
        assert_eq!(log.verify(&end).unwrap(), Ok(Verified { oldest: 1, end }));
    }

    #[test]
    fn an_endless_log_stays_bounded_and_whole() {
        let (folder, log) = log(2000);
        for number in 0..100 {
            let end = log.append([entry(&format!("entry {number}"))]).unwrap();
            assert!(log.verify(&end).unwrap().is_ok());
        }
        let bytes: u64 = FILES.iter().map(|name| folder.path().join(name).metadata().unwrap().len()).sum();
        assert!(bytes <= 4200, "{bytes}");
        let (entries, oldest) = log.read(0, 1000).unwrap();
        assert_eq!(entries.len() as u64, 101 - oldest);
        assert!(oldest > 50);
    }

    #[test]
    fn writers_take_turns() {
        let (_folder, log) = log(FILE_MAX_BYTES);
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let log = &log;
                scope.spawn(move || (0..25).for_each(|number| drop(log.append([entry(&format!("{writer}-{number}"))]).unwrap())));
            }
        });
        let verified = log.verify(&ChainEnd::default()).unwrap().unwrap();
        assert_eq!((verified.oldest, verified.end.sequence), (1, 100));
    }
}
