//! A host disk that is soon full.

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};

/// A tmpfs of 900 MiB that can grow.
#[derive(Debug)]
pub struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// Mounts one; `None`, and a line that says so, where the tests do not run as root.
    #[must_use]
    #[expect(clippy::print_stdout, reason = "a skipped test says why")]
    pub fn mount() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: mounting a small file system needs root");
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        mount("pyro-test", folder.path(), "tmpfs", MountFlags::empty(), Some(c"size=900m")).expect("a tmpfs");
        Some(Self(folder))
    }

    /// Returns where it is mounted.
    #[must_use]
    pub fn path(&self) -> &std::path::Path {
        self.0.path()
    }

    /// Takes all the room that is left but this much.
    pub fn fill_up_to(&self, left_bytes: u64) {
        let status = rustix::fs::statvfs(self.path()).expect("it is mounted");
        let room = (status.f_bavail * status.f_frsize).saturating_sub(left_bytes);
        let zeros = std::fs::File::open("/dev/zero").expect("it is there");
        let mut filler = std::fs::File::create(self.path().join("filler")).expect("writable");
        std::io::copy(&mut std::io::Read::take(zeros, room), &mut filler).expect("there is room");
    }

    /// Gives back what was taken.
    pub fn empty(&self) {
        std::fs::remove_file(self.path().join("filler")).expect("it was filled");
    }

    /// Makes it larger.
    pub fn grow(&self) {
        mount_remount(self.path(), MountFlags::empty(), c"size=4g").expect("it grows");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = unmount(self.path(), UnmountFlags::DETACH);
    }
}
