//! Programs of the host, brought into a guest with the libraries they need: a guest has no network, and the smallest environment lacks them.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use crate::Home;

/// Where they lie in the guest.
const FOLDER: &str = "tools";

/// Puts programs of the host, given by name or by path, below `/workspace/tools`, each startable by its name there.
///
/// # Panics
/// One of them is not on this host; `script/install-dependencies --test` installs what the stories need.
pub fn bring(home: &Home, workspace: &str, programs: &[&str]) {
    let staging = home.path().join(FOLDER);
    std::fs::create_dir_all(staging.join("lib")).expect("the home is writable");
    for program in programs {
        let path = find(program);
        let program = Path::new(program).file_name().and_then(|name| name.to_str()).expect("a program has a name");
        std::fs::copy(&path, staging.join("lib").join(format!("{program}.bin"))).expect("it can be copied");
        let listed = Command::new("ldd").arg(&path).output().expect("ldd is there");
        let mut loader = None;
        for line in String::from_utf8_lossy(&listed.stdout).lines() {
            let Some(library) = line.split_whitespace().find(|word| word.starts_with('/')) else { continue };
            let name = Path::new(library).file_name().expect("a library has a name");
            if name.to_string_lossy().starts_with("ld-") {
                loader = Some(name.to_string_lossy().into_owned());
            }
            std::fs::copy(library, staging.join("lib").join(name)).expect("it can be copied");
        }
        let lib = format!("/workspace/{FOLDER}/lib");
        // Through its own loader, so that it does not matter which C library the guest has.
        let script = match loader {
            Some(loader) => format!("#!/bin/sh\nexec {lib}/{loader} --argv0 {program} --library-path {lib} {lib}/{program}.bin \"$@\"\n"),
            None => format!("#!/bin/sh\nexec {lib}/{program}.bin \"$@\"\n"),
        };
        let start = staging.join(program);
        std::fs::write(&start, script).expect("the home is writable");
        std::fs::set_permissions(&start, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    }
    let source = staging.to_string_lossy();
    let _ = home.pyro(&["workspace", "sync", "push", workspace, &source, "--dest", FOLDER]).ok();
}

fn find(program: &str) -> PathBuf {
    // Behind any of them, a path is itself.
    let folders = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin"];
    let found = folders.iter().map(|folder| Path::new(folder).join(program)).find(|path| path.exists());
    let found = found.unwrap_or_else(|| panic!("`{program}` is not on this host: run `script/install-dependencies --test`"));
    std::fs::canonicalize(found).expect("it is there")
}
