//! A secret that is looked for wherever it must not be.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::Home;

/// Half of a value. Each half is looked for by itself: what takes secrets out of a stream may fail where it was cut.
const HALF_CHARACTERS: usize = 24;
const PAGE_BYTES: u64 = 4096;
/// Bits of an entry of `/proc/PID/pagemap`: in memory, or swapped out.
const THERE: u64 = 0b11 << 62;

/// A random text, with which nothing else on this host begins or ends.
#[derive(Debug)]
pub struct Canary {
    texts: Vec<String>,
    // Outside of any home, and not in `grep`'s arguments, which are looked at as well.
    patterns: tempfile::NamedTempFile,
}

impl Canary {
    /// Makes one up: lower-case, no longer than a label of a name.
    #[must_use]
    pub fn new() -> Self {
        let uuid = || std::fs::read_to_string("/proc/sys/kernel/random/uuid").expect("Linux has it").trim().replace('-', "");
        let text: String = (uuid() + &uuid()).chars().take(2 * HALF_CHARACTERS).collect();
        Self::of(vec![text])
    }

    /// Returns one that is found where this or the other is.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        Self::of([self.texts.clone(), other.texts.clone()].concat())
    }

    fn of(texts: Vec<String>) -> Self {
        let patterns: Vec<String> = texts.iter().flat_map(|text| patterns(text)).collect();
        let mut file = tempfile::NamedTempFile::new().expect("there is room");
        file.write_all((patterns.join("\n") + "\n").as_bytes()).expect("there is room");
        Self { texts, patterns: file }
    }

    /// Returns the value.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.texts[0]
    }

    fn grep(&self, options: &[&str]) -> Command {
        let mut command = Command::new("grep");
        // With zeros as line ends, no line is long.
        command.env("LC_ALL", "C").args(["-a", "-z", "-F", "-f"]).arg(self.patterns.path()).args(options);
        command
    }

    /// Tells whether the value, a half of it, or either in base64, is in these bytes.
    #[must_use]
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        self.is_among(|sink| sink.write_all(bytes))
    }

    fn is_among(&self, write: impl FnOnce(&mut dyn std::io::Write) -> std::io::Result<()>) -> bool {
        let mut grep = self.grep(&["-q"]).stdin(Stdio::piped()).spawn().expect("grep is there");
        let mut input = grep.stdin.take().expect("it was piped");
        match write(&mut input) {
            // It has seen enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            written => written.expect("grep reads"),
        }
        drop(input);
        let code = grep.wait().expect("it ends").code();
        assert!(matches!(code, Some(0 | 1)), "grep failed: {code:?}");
        code == Some(0)
    }

    /// Returns the files below a folder that hold it.
    #[must_use]
    pub fn files_below(&self, folder: &Path) -> Vec<PathBuf> {
        let output = self.grep(&["-r", "-l", "-Z", "--"]).arg(folder).output().expect("grep is there");
        assert!(matches!(output.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&output.stderr));
        let names = output.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        let mut files: Vec<PathBuf> = names.map(|name| PathBuf::from(String::from_utf8_lossy(name).into_owned())).collect();
        files.sort();
        files
    }

    /// Tells whether it is in the memory of a process: in every page that the process has touched.
    #[must_use]
    pub fn is_in_memory_of(&self, pid: u32) -> bool {
        let open = |what: &str| File::open(format!("/proc/{pid}/{what}")).expect("it runs, and we are root");
        let (mut memory, mut pages) = (open("mem"), open("pagemap"));
        let ranges: Vec<(u64, u64)> =
            BufReader::new(open("maps")).lines().map_while(Result::ok).filter_map(|line| readable(&line)).collect();
        assert!(ranges.len() > 10, "process {pid} has memory");
        self.is_among(|sink| {
            for (start, end) in ranges {
                let mut entries = vec![0; usize::try_from((end - start) / PAGE_BYTES * 8).expect("it fits")];
                pages.seek(SeekFrom::Start(start / PAGE_BYTES * 8))?;
                if pages.read_exact(&mut entries).is_err() {
                    continue;
                }
                let is_there = |entry: &[u8]| u64::from_ne_bytes(entry.try_into().expect("eight bytes")) & THERE != 0;
                let entries: Vec<bool> = entries.chunks_exact(8).map(is_there).collect();
                let mut at = start;
                for run in entries.chunk_by(bool::eq) {
                    let length = run.len() as u64 * PAGE_BYTES;
                    if run[0] {
                        memory.seek(SeekFrom::Start(at))?;
                        let mut bytes = vec![0; usize::try_from(length).expect("it fits")];
                        // Devices' memory cannot be read.
                        if memory.read_exact(&mut bytes).is_ok() {
                            sink.write_all(&bytes)?;
                        }
                    }
                    at += length;
                }
            }
            Ok(())
        })
    }

    /// Asserts that no process of a home shows it to whoever lists processes.
    pub fn assert_in_no_process_list(&self, home: &Home) {
        for pid in home.live_processes() {
            for what in ["cmdline", "environ", "comm"] {
                let shown = std::fs::read(format!("/proc/{pid}/{what}")).expect("it runs, and we are root");
                assert!(!self.is_in(&shown), "it is in /proc/{pid}/{what}: {}", String::from_utf8_lossy(&shown));
            }
        }
    }
}

impl Default for Canary {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns what is looked for: halves of a text, and of its base64 at each place within a group of three bytes, without the characters that
/// hold bits of what stands before it and behind it.
fn patterns(text: &str) -> Vec<String> {
    let mut patterns = vec![text[..HALF_CHARACTERS].to_owned(), text[HALF_CHARACTERS..].to_owned()];
    for (before, skipped) in [("", 0), ("x", 2), ("xx", 3)] {
        let encoded = STANDARD.encode(format!("{before}{text}"));
        let own = &encoded[skipped..encoded.trim_end_matches('=').len() - 2];
        patterns.extend([own[..HALF_CHARACTERS].to_owned(), own[own.len() - HALF_CHARACTERS..].to_owned()]);
    }
    patterns
}

/// Returns the range of a line of `/proc/PID/maps` that may be read.
fn readable(line: &str) -> Option<(u64, u64)> {
    let mut words = line.split_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let may_be_read = words.next()?.starts_with('r');
    let parse = |text| u64::from_str_radix(text, 16).ok();
    // What the kernel shows there is not the process's own.
    (may_be_read && !line.contains("[v")).then_some((parse(start)?, parse(end)?))
}
