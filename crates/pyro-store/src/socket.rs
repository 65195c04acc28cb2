//! Unix sockets under folders of any depth. A socket address holds 107 bytes, so the folder is opened and the address goes through
//! `/proc/self/fd/N/NAME` (unix(7), proc(5)).

use std::{
    os::{
        fd::AsRawFd as _,
        unix::{
            fs::{OpenOptionsExt as _, PermissionsExt as _},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
};

use crate::StoreResult;

fn through_descriptor(folder: &Path, name: &str) -> std::io::Result<(std::fs::File, PathBuf)> {
    let folder = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::PATH.bits().cast_signed() | rustix::fs::OFlags::DIRECTORY.bits().cast_signed())
        .open(folder)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()));
    Ok((folder, path))
}

/// Listens on `folder/name`, usable by the owner only.
///
/// # Errors
/// The name is taken or the folder not there.
pub fn bind_listener(folder: &Path, name: &str) -> StoreResult<UnixListener> {
    let (_folder, path) = through_descriptor(folder, name)?;
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Connects to `folder/name`.
///
/// # Errors
/// Nobody listens there.
pub fn connect_stream(folder: &Path, name: &str) -> StoreResult<UnixStream> {
    let (_folder, path) = through_descriptor(folder, name)?;
    Ok(UnixStream::connect(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_folder_holds_a_socket() {
        let home = tempfile::tempdir().expect("a folder");
        let deep = home.path().join("d".repeat(200)).join("e".repeat(200));
        std::fs::create_dir_all(&deep).expect("a deep folder");
        let _listener = bind_listener(&deep, "socket").expect("binds");
        connect_stream(&deep, "socket").expect("connects");
    }
}
