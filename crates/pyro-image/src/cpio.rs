//! Writes archives in cpio's `newc` form, the only one the kernel unpacks as an initramfs.
//!
//! Format: `Documentation/driver-api/early-userspace/buffer-format.rst` of the kernel. Output depends on the entries alone: no times, no
//! owners, inode numbers counted up. The kernel treats equal inode numbers as links only for files with several links; there are none.

/// Length of the magic and thirteen fields of eight hex digits.
const HEADER_BYTES: usize = 110;
/// Archives are padded to this, so that another one can follow: the kernel wants each to begin at a multiple of four.
const BLOCK_BYTES: usize = 512;
const TRAILER: &str = "TRAILER!!!";
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// An archive under construction.
pub(crate) struct Writer {
    bytes: Vec<u8>,
    inode: u32,
}

impl Writer {
    /// Starts an archive that will hold about `capacity` bytes.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { bytes: Vec::with_capacity(capacity), inode: 0 }
    }

    /// Adds a directory; parents come before what they hold.
    pub(crate) fn directory(&mut self, name: &str, mode: u32) {
        self.entry(name, DIRECTORY | mode, &[], (0, 0));
    }

    /// Adds a regular file.
    pub(crate) fn file(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entry(name, REGULAR | mode, content, (0, 0));
    }

    /// Adds a character device.
    pub(crate) fn character_device(&mut self, name: &str, mode: u32, major: u32, minor: u32) {
        self.entry(name, CHARACTER_DEVICE | mode, &[], (major, minor));
    }

    /// Ends the archive and returns its bytes, a multiple of 512.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.inode = 0;
        self.header(TRAILER, 0, 0, (0, 0), 0);
        self.pad(BLOCK_BYTES);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8], device: (u32, u32)) {
        self.inode += 1;
        let length = u32::try_from(content.len()).expect("kernel modules and the agent are far below the format's 4 GiB");
        self.header(name, self.inode, mode, device, length);
        self.bytes.extend_from_slice(content);
        self.pad(4);
    }

    fn header(&mut self, name: &str, inode: u32, mode: u32, (major, minor): (u32, u32), length: u32) {
        let name_length = u32::try_from(name.len() + 1).expect("names are short");
        // Order: inode, mode, uid, gid, links, mtime, size, major and minor of the disk, then of the device, name size, checksum.
        let fields = [inode, mode, 0, 0, 1, 0, length, 0, 0, major, minor, name_length, 0];
        let start = self.bytes.len();
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        debug_assert_eq!(self.bytes.len() - start, HEADER_BYTES, "the header has a fixed length");
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad(4);
    }

    fn pad(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What a reader finds: name, mode, content, device.
    pub(crate) type Found = (String, u32, Vec<u8>, (u32, u32));

    /// Reads concatenated archives the way the kernel does.
    pub(crate) fn read(bytes: &[u8]) -> Vec<Found> {
        let (mut at, mut found) = (0, Vec::new());
        while at < bytes.len() {
            if bytes[at] == 0 {
                at += 1;
                continue;
            }
            assert_eq!(at % 4, 0, "an entry starts at a multiple of four");
            assert_eq!(&bytes[at..at + 6], b"070701");
            let field = |index: usize| {
                let text = std::str::from_utf8(&bytes[at + 6 + index * 8..at + 14 + index * 8]).unwrap();
                u32::from_str_radix(text, 16).unwrap()
            };
            let (mode, length, name_length) = (field(1), field(6) as usize, field(11) as usize);
            let device = (field(9), field(10));
            let name = String::from_utf8(bytes[at + HEADER_BYTES..at + HEADER_BYTES + name_length - 1].to_vec()).unwrap();
            let start = (at + HEADER_BYTES + name_length).next_multiple_of(4);
            at = (start + length).next_multiple_of(4);
            if name != TRAILER {
                found.push((name, mode, bytes[start..start + length].to_vec(), device));
            }
        }
        found
    }

    fn sample() -> Vec<u8> {
        let mut writer = Writer::new(0);
        writer.directory("dev", 0o755);
        writer.character_device("dev/console", 0o600, 5, 1);
        writer.file("init", 0o755, b"hello");
        writer.finish()
    }

    #[test]
    fn entries_read_back_and_the_bytes_do_not_change() {
        let bytes = sample();
        assert_eq!(bytes, sample());
        assert_eq!(bytes.len() % BLOCK_BYTES, 0);
        assert_eq!(
            read(&bytes),
            [
                ("dev".to_owned(), 0o040_755, Vec::new(), (0, 0)),
                ("dev/console".to_owned(), 0o020_600, Vec::new(), (5, 1)),
                ("init".to_owned(), 0o100_755, b"hello".to_vec(), (0, 0)),
            ]
        );
    }

    #[test]
    fn the_reference_reader_agrees() {
        use std::io::Write as _;
        use std::process::{Command, Stdio};
        let spawned = Command::new("cpio").arg("-itv").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let Ok(mut child) = spawned else {
            eprintln!("skipped: the program `cpio` is not installed");
            return;
        };
        child.stdin.take().unwrap().write_all(&sample()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let listing = String::from_utf8(output.stdout).unwrap();
        for expected in ["drwxr-xr-x", "crw-------", "5,   1", "dev/console", "-rwxr-xr-x", "init"] {
            assert!(listing.contains(expected), "{expected} is not in:\n{listing}");
        }
    }
}
