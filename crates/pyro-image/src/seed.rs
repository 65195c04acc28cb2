//! Seeds: files written straight into a raw ext4 disk, before any guest has seen it.
//!
//! `debugfs` does the writing: 10 000 files take it half a second, where a guest without hardware virtualization needs seven. It is given
//! files of commands, a batch at a time, since it reads contents from files of their own: they are spooled to a folder beside the image,
//! which also bounds what is held at once. Two things about it must be known. It ends with success whatever happened, so all it prints is
//! checked and the inodes are counted at the end. And it reads lines, so an *odd* entry, one with a line break in its path or target,
//! goes through an argument of a process of its own.
//!
//! Times are set through its clock before each command: that costs nothing, where setting them afterwards searches the folder again.
//! Nanoseconds, and seconds beyond 32 bits, lie in a field of their own; a file's is set in the next batch by the number of its inode,
//! which debugfs prints when it makes it, and that costs nothing either. All belongs to root, whoever runs it. As debugfs searches a folder from its start for each name, a folder costs time by the square of its
//! size: 20 000 files in one folder take 4 s.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use image::Image;
use spool::Spool;

use crate::error::{Error, Result, ToolOutput};
use crate::tool::Tool;

mod image;
mod spool;
#[cfg(test)]
mod tests;

/// The folder of the disk that becomes `/workspace`.
const TOP: &[u8] = b"/tree";
/// Content spooled before it is written; a larger file goes alone.
const BATCH_BYTES: u64 = 64 << 20;
/// Files spooled before they are written. More would only cost more to make; fewer, more starts of debugfs, 10 ms each.
const BATCH_FILES: u32 = 500;
/// Bytes of commands before they are run.
const BATCH_COMMAND_BYTES: usize = 4 << 20;
/// Longest line debugfs reads: its buffer is `BUFSIZ`, 8192 bytes, less the line break and the final zero.
const LINE_MAX_BYTES: usize = 8190;
/// Longest name in a folder, path, and target of a link. debugfs does not check: a longer name becomes damage.
const NAME_MAX_BYTES: usize = 255;
const PATH_MAX_BYTES: usize = 4096;
const TARGET_MAX_BYTES: usize = 4095;
/// Lines of debugfs's complaints that are kept.
const COMPLAINTS_MAX: usize = 20;

const DIRECTORY_MODE: u32 = 0o040_000;
const FILE_MODE: u32 = 0o100_000;

/// Writes a seed into a copy of a blank disk. Entries come parents first. There is no image until [`Self::finish`] has returned; dropped
/// before, nothing stays.
#[derive(Debug)]
pub struct SeedWriter {
    image: Image,
    spool: Spool,
    batch: Batch,
    folders: HashSet<Vec<u8>>,
    /// Inodes that were free in the blank, less those taken since: what must be free at the end.
    inodes_free: u32,
    bytes: u64,
}

/// When something was changed last. A time that ext4 cannot hold becomes the first or the last that it can: 1901 or 2446.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeedTime {
    /// Seconds since 1970, rounded down.
    pub seconds: i64,
    /// What goes beyond them, below 1 000 000 000.
    pub nanoseconds: u32,
}

/// What has become of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// SHA-256 of the content.
    pub digest: [u8; 32],
}

/// What an entry is made from.
#[derive(Clone, Copy)]
enum Origin<'seed> {
    Directory,
    Link { target: &'seed [u8] },
    File { spooled: &'seed [u8] },
}

impl<'seed> Origin<'seed> {
    /// Returns the command that makes the entry called `name`.
    fn words(self, name: &'seed [u8]) -> Vec<&'seed [u8]> {
        match self {
            Self::Directory => vec![b"mkdir", name],
            Self::Link { target } => vec![b"symlink", name, target],
            Self::File { spooled } => vec![b"write", spooled, name],
        }
    }
}

impl SeedWriter {
    /// Makes `image` as a sparse copy of `blank`, with the empty folder the seed will fill.
    ///
    /// # Errors
    ///
    /// Fails if the blank cannot be read or the image cannot be written.
    pub fn start(image: &Path, blank: &Path) -> Result<Self> {
        let image = Image::copy(image, blank)?;
        let inodes_free = image.free_inodes()?;
        let spool = Spool::make(image.temporary())?;
        let mut writer = Self { image, spool, batch: Batch::default(), folders: HashSet::new(), inodes_free, bytes: 0 };
        writer.count_inode()?;
        writer.add_command(&[b"mkdir", TOP])?;
        writer.folders.insert(Vec::new());
        Ok(writer)
    }

    /// Tells whether a path can be written: relative, without `.`, `..` or zero bytes, no longer than a guest could name it.
    #[must_use]
    pub fn accepts(path: &[u8]) -> bool {
        let fits = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && name.len() <= NAME_MAX_BYTES && !name.contains(&0);
        path.len() <= PATH_MAX_BYTES && path.split(|byte| *byte == b'/').all(fits)
    }

    /// Makes a folder; the empty path stands for the seed's top, which exists.
    ///
    /// # Errors
    ///
    /// Fails if its parent is missing or the disk is full.
    pub fn directory(&mut self, path: &[u8], mode: u32, mtime: SeedTime) -> Result<()> {
        let moment = Moment::of(mtime);
        if path.is_empty() {
            self.set_mtime(path, &moment)?;
        } else {
            self.check(path)?;
            if self.folders.contains(path) {
                return Err(refused(path, "it is in the seed twice"));
            }
            self.make(path, &moment, Origin::Directory)?;
            self.folders.insert(path.to_owned());
        }
        // debugfs makes every folder with this mode.
        if mode == 0o755 { Ok(()) } else { self.set_field(path, b"mode", &mode_word(DIRECTORY_MODE | mode)) }
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    ///
    /// Fails if its parent is missing, the target cannot be one, or the disk is full.
    pub fn link(&mut self, path: &[u8], target: &[u8], mtime: SeedTime) -> Result<()> {
        self.check(path)?;
        if target.is_empty() || target.len() > TARGET_MAX_BYTES || target.contains(&0) {
            return Err(refused(path, "its target is empty, too long or holds a zero byte"));
        }
        self.make(path, &Moment::of(mtime), Origin::Link { target })
    }

    /// Writes a file of exactly `size_bytes`.
    ///
    /// # Errors
    ///
    /// Fails if its parent is missing, `content` fails or has another size, or the disk is full.
    pub fn file(&mut self, path: &[u8], mode: u32, mtime: SeedTime, size_bytes: u64, content: &mut dyn Read) -> Result<Written> {
        self.check(path)?;
        self.bytes = self.bytes.saturating_add(size_bytes);
        if self.bytes > self.image.size_bytes() {
            return Err(self.too_large());
        }
        if self.spool.bytes().saturating_add(size_bytes) > BATCH_BYTES || self.spool.files() >= BATCH_FILES {
            self.flush()?;
        }
        // A file that its owner may not read could not be read by debugfs, either.
        let readable = mode & 0o400 != 0;
        let (spooled, digest) = self.spool.add(path, if readable { mode } else { 0o600 }, size_bytes, content)?;
        self.make(path, &Moment::of(mtime), Origin::File { spooled: spooled.as_os_str().as_bytes() })?;
        if !readable {
            self.set_field(path, b"mode", &mode_word(FILE_MODE | mode))?;
        }
        Ok(Written { digest })
    }

    /// Writes what is left, sees that nothing is missing and makes it durable.
    ///
    /// # Errors
    ///
    /// Fails if the disk is full or anything was not written; the image is gone then.
    pub fn finish(mut self) -> Result<()> {
        // A batch leaves the times of its files to the next one.
        while !self.batch.commands.is_empty() {
            self.run_batch()?;
        }
        let found = self.image.free_inodes()?;
        if found != self.inodes_free {
            return Err(failed(format!("{found} inodes are free on the disk instead of {}", self.inodes_free)));
        }
        self.image.publish()
    }

    fn check(&self, path: &[u8]) -> Result<()> {
        if !Self::accepts(path) {
            return Err(refused(path, "its name cannot be written to a disk"));
        }
        if self.folders.contains(split(path).0) { Ok(()) } else { Err(refused(path, "its folder is not in the seed")) }
    }

    fn make(&mut self, path: &[u8], moment: &Moment, origin: Origin<'_>) -> Result<()> {
        self.count_inode()?;
        let (parent, name) = split(path);
        let (full, folder) = (below_top(path), below_top(parent));
        // Alone, a command has no folder to be in, so it names the whole path.
        let (alone, among_others) = (origin.words(&full), origin.words(name));
        if is_odd(&alone) || is_odd(&[b"cd", &folder]) {
            self.run_batch()?;
            self.run_alone(&alone)?;
            return self.set_mtime(path, moment);
        }
        if self.batch.folder != folder {
            self.add_command(&[b"cd", &folder])?;
            self.batch.folder = folder;
        }
        if self.batch.time != moment.clock {
            self.add_command(&[b"set_current_time", &moment.clock])?;
            self.batch.time.clone_from(&moment.clock);
        }
        self.add_command(&among_others)?;
        match (origin, moment.needs_extra()) {
            (Origin::File { .. }, needed) => self.batch.extras.push(needed.then_some(moment.extra)),
            (Origin::Directory | Origin::Link { .. }, true) => self.set_field(path, b"mtime_extra", &moment.extra_word())?,
            (Origin::Directory | Origin::Link { .. }, false) => {}
        }
        Ok(())
    }

    fn set_mtime(&mut self, path: &[u8], moment: &Moment) -> Result<()> {
        self.set_field(path, b"mtime", &moment.clock)?;
        self.set_field(path, b"mtime_extra", &moment.extra_word())
    }

    fn set_field(&mut self, path: &[u8], field: &[u8], value: &[u8]) -> Result<()> {
        let full = below_top(path);
        let words: [&[u8]; 4] = [b"set_inode_field", &full, field, value];
        if is_odd(&words) {
            self.run_batch()?;
            self.run_alone(&words)
        } else {
            self.add_command(&words)
        }
    }

    fn add_command(&mut self, words: &[&[u8]]) -> Result<()> {
        if self.batch.commands.len() > BATCH_COMMAND_BYTES {
            let (folder, time) = (self.batch.folder.clone(), self.batch.time.clone());
            self.run_batch()?;
            if !folder.is_empty() {
                self.batch.push(&[b"cd", &folder]);
            }
            if !time.is_empty() {
                self.batch.push(&[b"set_current_time", &time]);
            }
            (self.batch.folder, self.batch.time) = (folder, time);
        }
        self.batch.push(words);
        Ok(())
    }

    /// Runs the commands so far and drops the contents they were about.
    fn flush(&mut self) -> Result<()> {
        self.run_batch()?;
        self.spool.clear();
        Ok(())
    }

    fn run_batch(&mut self) -> Result<()> {
        let batch = std::mem::take(&mut self.batch);
        if batch.commands.is_empty() {
            return Ok(());
        }
        let commands = self.spool.write_commands(&batch.commands)?;
        let inodes = self.run(&["-f".as_ref(), commands.as_os_str()], batch.expected)?;
        for (inode, extra) in inodes.iter().zip(batch.extras) {
            if let Some(extra) = extra {
                self.batch.push(&[b"set_inode_field", format!("<{inode}>").as_bytes(), b"mtime_extra", extra.to_string().as_bytes()]);
            }
        }
        Ok(())
    }

    fn run_alone(&mut self, words: &[&[u8]]) -> Result<()> {
        let mut expected = Expected::default();
        expected.count(words);
        // Only commands from a file are repeated in the output.
        expected.commands = 0;
        self.run(&["-R".as_ref(), OsStr::from_bytes(&line(words))], expected).map(drop)
    }

    /// Runs debugfs and returns the inodes of the files it made, in their order.
    fn run(&self, what: &[&OsStr; 2], expected: Expected) -> Result<Vec<u32>> {
        // `-n`: the blank is ours and sound. Checking the checksums of a folder for each new name would double the time.
        let arguments = ["-n".as_ref(), "-w".as_ref(), what[0], what[1], self.image.temporary().as_os_str()];
        let output = Tool::DEBUGFS.outputs("write the seed", &arguments)?;
        // Its first line is its name and version.
        let errors = String::from_utf8_lossy(&output.stderr);
        let complaints: Vec<&str> = errors.lines().skip(1).filter(|line| !line.trim().is_empty()).take(COMPLAINTS_MAX).collect();
        if complaints.iter().any(|line| line.contains("Could not allocate")) {
            return Err(self.too_large());
        }
        if complaints.iter().any(|line| line.contains("No space left on device")) {
            return Err(Error::DiskFull { activity: "write the seed".to_owned() });
        }
        if !complaints.is_empty() {
            return Err(failed(complaints.join("\n")));
        }
        match Expected::read(&output.stdout) {
            Some((found, inodes)) if found == expected => Ok(inodes),
            found => Err(failed(format!("it printed {:?}, expected were {expected:?}", found.map(|(found, _)| found)))),
        }
    }

    fn count_inode(&mut self) -> Result<()> {
        self.inodes_free = self.inodes_free.checked_sub(1).ok_or_else(|| self.too_large())?;
        Ok(())
    }

    const fn too_large(&self) -> Error {
        Error::SeedTooLarge { seed_bytes: self.bytes, disk_bytes: self.image.size_bytes() }
    }
}

/// Commands not yet run.
#[derive(Debug, Default)]
struct Batch {
    commands: Vec<u8>,
    expected: Expected,
    /// The folder and the clock they leave debugfs with; empty at its start.
    folder: Vec<u8>,
    time: Vec<u8>,
    /// What is to be set of each file they make, in their order, once its inode is known.
    extras: Vec<Option<u32>>,
}

impl Batch {
    fn push(&mut self, words: &[&[u8]]) {
        self.commands.extend_from_slice(&line(words));
        self.commands.push(b'\n');
        self.expected.count(words);
    }
}

/// What debugfs prints when all goes well: each command, and a line of its own for some.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Expected {
    commands: usize,
    files: usize,
    clocks: usize,
}

impl Expected {
    fn count(&mut self, words: &[&[u8]]) {
        self.commands += 1;
        match words.first() {
            Some(&b"write") => self.files += 1,
            Some(&b"set_current_time") => self.clocks += 1,
            _ => {}
        }
    }

    /// Counts what was printed, and reads the inodes of files; none if there is anything else among it.
    fn read(output: &[u8]) -> Option<(Self, Vec<u32>)> {
        const INODE: &[u8] = b"Allocated inode: ";
        let mut found = Self::default();
        let mut inodes = Vec::new();
        for line in output.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match line {
                line if line.starts_with(b"debugfs: ") => found.commands += 1,
                line if line.starts_with(INODE) => {
                    found.files += 1;
                    inodes.push(std::str::from_utf8(&line[INODE.len()..]).ok()?.trim().parse().ok()?);
                }
                line if line.starts_with(b"Setting current time to ") => found.clocks += 1,
                _ => return None,
            }
        }
        Some((found, inodes))
    }
}

/// Writes a command as debugfs reads it: words in quotes, a quote in them doubled, nothing else special.
fn line(words: &[&[u8]]) -> Vec<u8> {
    let mut line = Vec::new();
    for (index, word) in words.iter().enumerate() {
        if index > 0 {
            line.push(b' ');
        }
        line.push(b'"');
        for byte in *word {
            line.push(*byte);
            if *byte == b'"' {
                line.push(b'"');
            }
        }
        line.push(b'"');
    }
    line
}

/// Tells whether a command does not fit on one line of debugfs's.
fn is_odd(words: &[&[u8]]) -> bool {
    line(words).len() > LINE_MAX_BYTES || words.iter().any(|word| word.contains(&b'\n') || word.contains(&b'\r'))
}

fn below_top(path: &[u8]) -> Vec<u8> {
    if path.is_empty() { TOP.to_owned() } else { [TOP, b"/", path].concat() }
}

/// Splits a path into its folder and its name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&path[..0], path),
    }
}

/// A time as debugfs is told it.
struct Moment {
    /// For its clock.
    clock: Vec<u8>,
    /// What the inode's second field holds: two more bits of the seconds, and the nanoseconds.
    extra: u32,
    /// The clock alone does not say it.
    odd: bool,
}

impl Moment {
    fn of(time: SeedTime) -> Self {
        const FIRST: i64 = -(1 << 31);
        const LAST: i64 = (1 << 34) - (1 << 31) - 1;
        let seconds = time.seconds.clamp(FIRST, LAST);
        let nanoseconds = if seconds == time.seconds { time.nanoseconds.min(999_999_999) } else { 0 };
        let epoch = u32::try_from((seconds - FIRST) >> 32).unwrap_or(0);
        // To the clock 0 means that it is not set, and -1 is how its parser says that it failed. As 32 bits of both are stored, another
        // second with the same bits does; newer versions store the rest as well, so that it has to be set anew.
        let told = match seconds {
            -1 | 0 => seconds + (1 << 32),
            other => other,
        };
        Self { clock: format!("@{told}").into_bytes(), extra: nanoseconds << 2 | epoch, odd: told != seconds }
    }

    const fn needs_extra(&self) -> bool {
        self.extra != 0 || self.odd
    }

    fn extra_word(&self) -> Vec<u8> {
        self.extra.to_string().into_bytes()
    }
}

fn mode_word(mode: u32) -> Vec<u8> {
    format!("0{mode:o}").into_bytes()
}

fn refused(path: &[u8], problem: &'static str) -> Error {
    Error::SeedEntry { entry: path.escape_ascii().to_string(), problem }
}

fn failed(complaint: String) -> Error {
    Error::SeedNotWritten { source: ToolOutput(complaint) }
}
