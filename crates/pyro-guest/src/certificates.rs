//! Trusts certificate authorities that the host names, beside those of the environment.
//!
//! They become ordinary files of the root, because packages must be able to replace them: `update-ca-certificates` moves a new bundle over
//! the old one, which a mount would forbid, and takes what lies in its folder of local authorities into it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use pyro_proto::pem::{CERTIFICATE_BEGIN, certificates};

use crate::{log, root_file};

/// Where `update-ca-certificates` looks for local authorities; one certificate per file.
const LOCAL_FOLDER: &str = "usr/local/share/ca-certificates";
/// What programs read; Debian's place for it.
const BUNDLE: &str = "etc/ssl/certs/ca-certificates.crt";
/// Largest bundle that is added to: Debian's has 220 KB.
const BUNDLE_MAX_BYTES: u64 = 8 << 20;
/// Names of our files begin with it.
const PREFIX: &str = "pyro-";
/// Lines around ours in the bundle: text between certificates is passed over by whoever reads it (RFC 7468, section 2).
const OURS_BEGIN: &str = "# Added by Pyro: authorities of the host and of this workspace.";
const OURS_END: &str = "# End of what Pyro added.";

/// Makes `pem` what is trusted beside the environment's own, in place of what an earlier call said; an environment that has none gets
/// `base` for it. What fails is logged: commands run
/// without it, and those that need it say so themselves.
pub(crate) fn trust(root: &Path, pem: &str, base: &str) {
    let certificates: Vec<&str> = certificates(pem).collect();
    if let Err(error) = write_local(&root.join(LOCAL_FOLDER), &certificates) {
        log::line(&format!("cannot write certificates to `/{LOCAL_FOLDER}`: {error}"));
    }
    if let Err(error) = write_bundle(&root.join(BUNDLE), &certificates, base) {
        log::line(&format!("cannot add certificates to `/{BUNDLE}`: {error}"));
    }
}

fn write_local(folder: &Path, certificates: &[&str]) -> io::Result<()> {
    let mut known: Vec<PathBuf> = Vec::new();
    for (number, certificate) in certificates.iter().enumerate() {
        let path = folder.join(format!("{PREFIX}{number}.crt"));
        if read(&path).is_ok_and(|there| there == format!("{certificate}\n")) {
            known.push(path);
            continue;
        }
        fs::create_dir_all(folder)?;
        root_file::replace(&path, &[certificate.as_bytes(), b"\n"])?;
        known.push(path);
    }
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) && !known.contains(&entry.path()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn write_bundle(path: &Path, certificates: &[&str], base: &str) -> io::Result<()> {
    let old = match read(path) {
        Ok(old) => old,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let mut new = without_ours(&old);
    if !certificates.is_empty() {
        if !new.contains(CERTIFICATE_BEGIN) {
            new.push_str(base);
        }
        if !new.is_empty() && !new.ends_with('\n') {
            new.push('\n');
        }
        for line in [OURS_BEGIN].iter().chain(certificates).chain(&[OURS_END]) {
            new.push_str(line);
            new.push('\n');
        }
    }
    if new == old {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    root_file::replace(path, &[new.as_bytes()])
}

fn read(path: &Path) -> io::Result<String> {
    let bytes = root_file::read(path, BUNDLE_MAX_BYTES)?;
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()))
}

fn without_ours(bundle: &str) -> String {
    match (bundle.find(OURS_BEGIN), bundle.find(OURS_END)) {
        (Some(begin), Some(end)) if begin < end => {
            let rest = bundle[end + OURS_END.len()..].trim_start_matches('\n');
            format!("{}{rest}", &bundle[..begin])
        }
        _ => bundle.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use pyro_proto::pem::CERTIFICATE_END;

    use super::*;

    fn certificate(body: &str) -> String {
        format!("{CERTIFICATE_BEGIN}\n{body}\n{CERTIFICATE_END}")
    }

    fn local(root: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(root.join(LOCAL_FOLDER))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn certificates_are_added_replaced_and_taken_away() {
        let root = tempfile::tempdir().expect("a folder");
        let root = root.path();
        let bundle = root.join(BUNDLE);
        fs::create_dir_all(bundle.parent().expect("it has one")).expect("made");
        let own = certificate("OWN");
        fs::write(&bundle, &own).expect("written");
        let read = || fs::read_to_string(&bundle).expect("read");

        trust(root, &format!("text\n{}\n{}\n", certificate("AAAA"), certificate("BBBB")), "");
        assert_eq!(certificates(&read()).collect::<Vec<_>>(), [certificate("OWN"), certificate("AAAA"), certificate("BBBB")]);
        assert_eq!(local(root), ["pyro-0.crt", "pyro-1.crt"]);

        trust(root, &certificate("CCCC"), &certificate("BASE"));
        assert_eq!(certificates(&read()).collect::<Vec<_>>(), [certificate("OWN"), certificate("CCCC")]);
        assert_eq!(local(root), ["pyro-0.crt"]);

        trust(root, "", "");
        assert_eq!(read(), format!("{own}\n"));
        assert!(local(root).is_empty());
    }

    #[test]
    fn an_environment_without_a_bundle_gets_one_only_for_a_certificate() {
        let root = tempfile::tempdir().expect("a folder");
        trust(root.path(), "", "");
        assert!(!root.path().join("etc").exists() && !root.path().join("usr").exists());
        trust(root.path(), &certificate("AAAA"), &certificate("BASE"));
        let bundle = fs::read_to_string(root.path().join(BUNDLE)).expect("read");
        assert_eq!(certificates(&bundle).collect::<Vec<_>>(), [certificate("BASE"), certificate("AAAA")]);
    }

    #[test]
    fn what_is_no_file_keeps_nobody_waiting() {
        let root = tempfile::tempdir().expect("a folder");
        let bundle = root.path().join(BUNDLE);
        fs::create_dir_all(bundle.parent().expect("it has one")).expect("made");
        rustix::fs::mknodat(rustix::fs::CWD, &bundle, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("made");
        trust(root.path(), &certificate("AAAA"), "");
        assert_eq!(local(root.path()), ["pyro-0.crt"]);
    }

    #[test]
    fn a_link_in_the_place_of_the_bundle_is_replaced() {
        let root = tempfile::tempdir().expect("a folder");
        let (bundle, target) = (root.path().join(BUNDLE), root.path().join("target"));
        fs::create_dir_all(bundle.parent().expect("it has one")).expect("made");
        fs::write(&target, "kept").expect("written");
        std::os::unix::fs::symlink(&target, &bundle).expect("linked");
        trust(root.path(), &certificate("AAAA"), "");
        assert_eq!(fs::read_to_string(&target).expect("read"), "kept");
        assert!(!bundle.symlink_metadata().expect("there").is_symlink());
    }
}
