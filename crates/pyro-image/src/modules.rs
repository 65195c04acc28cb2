//! The kernel modules a guest needs before it can read its disks, in the order they must be loaded.
//!
//! Which there are and what they need is read from the files `depmod` writes (`modules.dep`, `modules.builtin`; see modules.dep(5)).
//! The archive keeps them flat: `/modules/NAME.ko`, and `/modules/order` with one file name per line.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use crate::cpio::Writer;
use crate::error::{Error, Result};
use crate::tool::Tool;

/// What the agent needs from the kernel; what these depend on (`failover` and `net_failover` for the network card) follows by itself.
const WANTED: [&str; 8] = ["virtio_ring", "virtio", "virtio_mmio", "virtio_blk", "virtio_console", "virtio_net", "virtio_rng", "overlay"];

/// Makes the archive of modules from the module tree of one kernel, a folder as `/lib/modules/VERSION`.
pub(crate) fn archive(tree: &Path, kernel_version: &str) -> Result<Vec<u8>> {
    let read = |name: &str| {
        let path = tree.join(name);
        fs_err::read_to_string(&path).map_err(|source| Error::io("read", &path, source))
    };
    let order = load_order(&read("modules.dep")?, &read("modules.builtin")?, kernel_version)?;
    let mut writer = Writer::new(2 << 20);
    writer.directory("modules", 0o755);
    let mut names = String::new();
    for relative in &order {
        let path = tree.join(relative);
        let content = read_module(&path)?;
        let name = format!("{}.ko", module_name(relative));
        writer.file(&format!("modules/{name}"), 0o644, &content);
        names.push_str(&name);
        names.push('\n');
    }
    writer.file("modules/order", 0o644, names.as_bytes());
    Ok(writer.finish())
}

/// Reads a module, unpacking it when the distribution ships it compressed: the agent hands bytes to the kernel and knows no format.
fn read_module(path: &Path) -> Result<Vec<u8>> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => Tool::XZ.output("unpack a kernel module", &["--decompress".as_ref(), "--stdout".as_ref(), path.as_ref()]),
        Some("zst") => Tool::ZSTD.output("unpack a kernel module", &["--decompress".as_ref(), "--stdout".as_ref(), path.as_ref()]),
        Some(_) | None => fs_err::read(path).map_err(|source| Error::io("read", path, source)),
    }
}

/// Returns the paths of the modules to load, each after everything it depends on; what the kernel has built in is left out.
fn load_order(dependencies: &str, builtin: &str, kernel_version: &str) -> Result<Vec<String>> {
    let built_in: HashSet<String> = builtin.lines().map(module_name).collect();
    let mut known: HashMap<String, (&str, Vec<&str>)> = HashMap::new();
    for (path, needs) in dependencies.lines().filter_map(|line| line.split_once(':')) {
        known.insert(module_name(path), (path, needs.split_whitespace().collect()));
    }
    let (mut order, mut placed) = (Vec::new(), HashSet::new());
    for wanted in WANTED {
        if built_in.contains(wanted) {
            continue;
        }
        let Some((path, needs)) = known.get(wanted) else {
            return Err(Error::MissingModule { module: wanted.to_owned(), kernel_version: kernel_version.to_owned() });
        };
        // depmod lists all that is needed, directly or not, the first to load last.
        for path in needs.iter().rev().chain([path]) {
            if placed.insert(*path) {
                order.push((*path).to_owned());
            }
        }
    }
    Ok(order)
}

/// Returns the name the kernel knows a module file by: no folder, no suffix, `_` for `-`.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split_once(".ko").map_or(file, |(stem, _)| stem).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPENDENCIES: &str = "\
kernel/drivers/virtio/virtio_mmio.ko: kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko
kernel/drivers/virtio/virtio.ko:
kernel/drivers/virtio/virtio_ring.ko: kernel/drivers/virtio/virtio.ko
kernel/drivers/char/hw_random/virtio-rng.ko.xz: kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko
kernel/drivers/net/virtio_net.ko: kernel/drivers/net/net_failover.ko kernel/net/core/failover.ko kernel/drivers/virtio/virtio.ko
kernel/drivers/char/virtio_console.ko:
";
    const BUILT_IN: &str = "kernel/fs/overlayfs/overlay.ko\nkernel/drivers/block/virtio_blk.ko\n";

    #[test]
    fn every_module_comes_after_what_it_needs_and_builtins_are_skipped() {
        assert_eq!(
            load_order(DEPENDENCIES, BUILT_IN, "6.1").unwrap(),
            [
                "kernel/drivers/virtio/virtio.ko",
                "kernel/drivers/virtio/virtio_ring.ko",
                "kernel/drivers/virtio/virtio_mmio.ko",
                "kernel/drivers/char/virtio_console.ko",
                "kernel/net/core/failover.ko",
                "kernel/drivers/net/net_failover.ko",
                "kernel/drivers/net/virtio_net.ko",
                "kernel/drivers/char/hw_random/virtio-rng.ko.xz",
            ]
        );
    }

    #[test]
    fn missing_module_is_named() {
        let error = load_order(DEPENDENCIES, "", "6.1.0-9").unwrap_err();
        assert_eq!(error.to_string(), "kernel 6.1.0-9 has no module `virtio_blk`, which its guests need");
    }

    #[test]
    fn archive_is_flat_and_ordered() {
        use crate::cpio::tests::read;
        let tree = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &str| {
            let path = tree.path().join(name);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, content).unwrap();
        };
        let dependencies = DEPENDENCIES.replace(".ko.xz", ".ko");
        write("modules.dep", &dependencies);
        write("modules.builtin", BUILT_IN);
        for path in load_order(&dependencies, BUILT_IN, "6.1").unwrap() {
            write(&path, &path);
        }
        let found = read(&archive(tree.path(), "6.1").unwrap());
        let order = &found.last().unwrap().2;
        assert!(order.starts_with(b"virtio.ko\nvirtio_ring.ko\nvirtio_mmio.ko\n"));
        assert!(found.iter().any(|entry| entry.0 == "modules/virtio_rng.ko" && entry.2.ends_with(b"virtio-rng.ko")));
    }
}
