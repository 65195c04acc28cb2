//! The initramfs a guest boots from: the agent as `/init`, the kernel modules, and places to mount things.

use crate::cpio::Writer;

/// Folders the agent mounts on before it switches to the environment; `env` is the read-only image, `newroot` the overlay over it.
const FOLDERS: [&str; 9] = ["dev", "proc", "sys", "run", "tmp", "env", "scratch", "changes", "newroot"];

/// Returns an uncompressed initramfs: folders, `/dev/console`, `agent` as `/init`, then `modules_archive` as it is.
///
/// Equal arguments give equal bytes, so a template's key can hash the result. Uncompressed, because under TCG unpacking costs more than reading.
#[must_use]
pub fn initramfs(modules_archive: &[u8], agent: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new(agent.len() + modules_archive.len() + 8 * 1024);
    for folder in FOLDERS {
        writer.directory(folder, 0o755);
    }
    // The kernel opens it as descriptors 0, 1 and 2 of `/init`, before anything can mount devtmpfs.
    writer.character_device("dev/console", 0o600, 5, 1);
    writer.file("init", 0o755, agent);
    let mut bytes = writer.finish();
    bytes.extend_from_slice(modules_archive);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpio::tests::read;

    #[test]
    fn initramfs_holds_agent_console_folders_and_modules() {
        let mut modules = Writer::new(0);
        modules.directory("modules", 0o755);
        modules.file("modules/order", 0o644, b"virtio.ko\n");
        let bytes = initramfs(&modules.finish(), b"agent");
        let found = read(&bytes);
        let content = |name: &str| found.iter().find(|entry| entry.0 == name).cloned();
        assert_eq!(content("init").unwrap().2, b"agent");
        assert_eq!(content("init").unwrap().1, 0o100_755);
        assert_eq!(content("dev/console").unwrap().3, (5, 1));
        assert_eq!(content("modules/order").unwrap().2, b"virtio.ko\n");
        for folder in FOLDERS {
            assert_eq!(content(folder).unwrap().1, 0o040_755, "{folder}");
        }
        assert_eq!(initramfs(b"", b"x"), initramfs(b"", b"x"));
    }
}
