//! A private apt: the host's configuration and keys, but indexes, packages and sources of our own.
//!
//! The host's apt state is neither read nor changed, and its locks are not taken. Proxy, certificates and authentication come from the
//! host's `/etc/apt/apt.conf.d` and from the environment the caller was started in, both of which apt reads by itself.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::files;
use crate::tool::{Tool, World};

/// apt's progress is in per cent; kept as hundredths of it, since downloads take long.
pub(super) const STATUS_TOTAL: u64 = 10_000;

/// Options that must hold whatever the host says; given last (`--config-file`), so that `#clear` empties the host's lists.
///
/// Images of containers turn apt's caches off, which doubles the time of every question we ask. Hooks of the host (docker's cleaner, AppStream) are none of our business, and neither are the further indexes they fetch. Downloads run
/// as the caller instead of `_apt`, who cannot enter a private folder; what they write is checked against the archive's signature.
const OPTIONS: &str = r#"
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
#clear DPkg::Pre-Install-Pkgs;
#clear APT::Architectures;
#clear Acquire::Languages;
#clear Acquire::IndexTargets::deb;
Acquire::IndexTargets::deb::Packages {
  MetaKey "$(COMPONENT)/binary-$(ARCHITECTURE)/Packages";
  flatMetaKey "Packages";
  ShortDescription "Packages";
  Description "$(RELEASE)/$(COMPONENT) $(ARCHITECTURE) Packages";
  flatDescription "$(RELEASE) Packages";
  Optional "0";
};
APT::Architecture "amd64";
APT::Architectures { "amd64"; };
APT::Default-Release "";
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Get::Assume-Yes "true";
APT::Keep-Downloaded-Packages "true";
APT::Sandbox::User "";
Acquire::Languages { "none"; };
Acquire::Retries "3";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "srcpkgcache.bin";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
"#;

/// A folder of packages that stays empty: apt names only what it has not fetched yet, but all packages must be known.
const NOTHING_FETCHED: &str = "nothing/partial";

/// One package apt would fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Package {
    pub(super) file_name: String,
    pub(super) size_bytes: u64,
}

/// The private apt of one release, in a folder that outlives pulls. The caller holds the lock of the cache.
pub(super) struct Apt {
    folder: PathBuf,
    config: PathBuf,
}

impl Apt {
    /// Prepares the folder for the given sources.
    pub(super) fn open(folder: &Path, stanzas: &str) -> Result<Self> {
        for name in ["state/lists/partial", "cache/archives/partial", NOTHING_FETCHED] {
            files::make_folder(&folder.join(name))?;
        }
        let (sources, status, config) = (folder.join("debian.sources"), folder.join("status"), folder.join("apt.conf"));
        let quoted = |path: &Path| path.display().to_string().replace('"', "%22");
        let config_text = format!(
            "{OPTIONS}Dir::State \"{}\";\nDir::State::status \"{}\";\nDir::Cache \"{}\";\nDir::Etc::SourceList \"{}\";\n",
            quoted(&folder.join("state")),
            quoted(&status),
            quoted(&folder.join("cache")),
            quoted(&sources),
        );
        // An empty status: nothing counts as installed, so whatever is wanted is fetched with all it depends on.
        for (path, text) in [(&sources, stanzas), (&status, ""), (&config, &config_text)] {
            files::write_atomically(path, text.as_bytes())?;
        }
        Ok(Self { folder: folder.to_owned(), config })
    }

    /// Where fetched packages are.
    pub(super) fn archives(&self) -> PathBuf {
        self.folder.join("cache/archives")
    }

    /// Where fetched indexes are.
    pub(super) fn lists(&self) -> PathBuf {
        self.folder.join("state/lists")
    }

    /// Fetches the indexes; `on_index` is told how many are done.
    pub(super) fn update(&self, on_index: &mut dyn FnMut(u64)) -> Result<()> {
        let mut done = 0;
        // A mirror that cannot be reached is an error here, while for an administrator's apt it is a warning.
        self.follow("read the package indexes", &["-o", "APT::Update::Error-Mode=any", "update"], &mut |line| {
            if line.starts_with("Get:") || line.starts_with("Hit:") {
                done += 1;
                on_index(done);
            }
        })
    }

    /// Returns the packages `package` depends on directly.
    pub(super) fn dependencies(&self, package: &str) -> Result<Vec<String>> {
        let text = match self.query("find the kernel", &["depends", "--important", package]) {
            Ok(text) => text,
            // apt-cache fails on a name it does not know.
            Err(Error::ToolFailed { .. }) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        Ok(text.lines().filter_map(|line| line.trim().strip_prefix("Depends: ")).map(|name| name.trim().to_owned()).collect())
    }

    /// Returns Debian's minimal base: what is essential, what has the priority `required`, and apt; as mmdebstrap's `minbase`.
    pub(super) fn minimal_base(&self) -> Result<Vec<String>> {
        let names = minimal_base(&self.query("read the package indexes", &["dumpavail"])?);
        Ok(names)
    }

    /// Returns every package an installation of `names` needs.
    pub(super) fn resolve(&self, names: &[String]) -> Result<Vec<Package>> {
        let nothing = format!("Dir::Cache::archives={}", self.folder.join("nothing").display());
        let mut arguments = vec!["-o", &nothing, "--print-uris", "install"];
        arguments.extend(names.iter().map(String::as_str));
        self.uris(&arguments)
    }

    /// Returns the package itself, without what it depends on.
    pub(super) fn resolve_alone(&self, name: &str) -> Result<Package> {
        self.uris(&["--print-uris", "download", name])?
            .into_iter()
            .next()
            .ok_or(Error::NoKernel { package: super::KERNEL_METAPACKAGE, problem: "names a kernel that is not there" })
    }

    /// Fetches every package an installation of `names` needs; `on_progress` is told hundredths of a per cent and what happens.
    pub(super) fn download(&self, names: &[String], on_progress: &mut dyn FnMut(u64, &str)) -> Result<()> {
        let mut arguments = vec!["-o", "APT::Status-Fd=1", "--download-only", "install"];
        arguments.extend(names.iter().map(String::as_str));
        self.follow("download the packages", &arguments, &mut |line| {
            if let Some((done, detail)) = parse_status(line) {
                on_progress(done, detail);
            }
        })
    }

    /// Fetches one package alone, and returns its file.
    pub(super) fn download_alone(&self, name: &str, package: &Package, on_progress: &mut dyn FnMut(u64, &str)) -> Result<PathBuf> {
        let archives = self.archives();
        let arguments = self.arguments(&["-o", "APT::Status-Fd=1", "download", name]);
        // `apt-get download` writes to where it is started, goes on with what is there, and checks it.
        Tool::APT_GET.run_in(&archives, "download the kernel", &World::Host, &arguments, &mut |line| {
            if let Some((done, detail)) = parse_status(line) {
                on_progress(done, detail);
            }
        })?;
        Ok(archives.join(&package.file_name))
    }

    /// Drops packages that the archive no longer offers, so that the cache does not grow with every update.
    pub(super) fn drop_outdated(&self) -> Result<()> {
        self.follow("tidy the package cache", &["autoclean"], &mut |_| {})
    }

    fn uris(&self, arguments: &[&str]) -> Result<Vec<Package>> {
        let mut packages = Vec::new();
        self.follow("choose the packages", arguments, &mut |line| packages.extend(parse_uri(line)))?;
        Ok(packages)
    }

    fn follow(&self, activity: &str, arguments: &[&str], on_line: &mut dyn FnMut(&str)) -> Result<()> {
        let arguments = self.arguments(arguments);
        Tool::APT_GET.run(activity, &World::Host, &arguments, on_line)
    }

    fn query(&self, activity: &str, arguments: &[&str]) -> Result<String> {
        let output = Tool::APT_CACHE.output(activity, &self.arguments(arguments))?;
        Ok(String::from_utf8_lossy(&output).into_owned())
    }

    fn arguments<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a OsStr> {
        let mut all: Vec<&OsStr> = vec!["--config-file".as_ref(), self.config.as_os_str()];
        all.extend(arguments.iter().map(|argument| OsStr::new(*argument)));
        all
    }
}

/// Reads `'URI' FILE SIZE HASH`.
fn parse_uri(line: &str) -> Option<Package> {
    let (_, rest) = line.strip_prefix('\'')?.split_once("' ")?;
    let mut words = rest.split(' ');
    let (file_name, size_bytes) = (words.next()?, words.next()?.parse().ok()?);
    // The name becomes a path; apt makes it of a package's name, version and architecture, none of which has a slash.
    (!file_name.contains('/')).then(|| Package { file_name: file_name.to_owned(), size_bytes })
}

/// Reads `dlstatus:NUMBER:PERCENT:TEXT`; see README.progress-reporting of apt.
fn parse_status(line: &str) -> Option<(u64, &str)> {
    let mut fields = line.strip_prefix("dlstatus:")?.splitn(3, ':');
    let percent: f64 = fields.nth(1)?.parse().ok()?;
    // A cast saturates: nonsense becomes 0 or everything.
    Some(((percent * (STATUS_TOTAL / 100) as f64) as u64, fields.next()?))
}

fn minimal_base(available: &str) -> Vec<String> {
    let mut names: Vec<_> = available
        .split("\n\n")
        .filter_map(|record| {
            let field = |name: &str| record.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            let is_base = field("Essential") == Some("yes") || field("Priority") == Some("required") || field("Package") == Some("apt");
            field("Package").filter(|_| is_base).map(str::to_owned)
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_uris_are_read() {
        let line = "'http://m.example/pool/main/a/apt_2.6.1_amd64.deb' apt_2.6.1_amd64.deb 1374060 MD5Sum:ab";
        assert_eq!(parse_uri(line), Some(Package { file_name: "apt_2.6.1_amd64.deb".to_owned(), size_bytes: 1_374_060 }));
        assert_eq!(parse_uri("'http://m.example/x' ../x 1 MD5Sum:ab"), None);
        assert_eq!(parse_uri("Reading package lists..."), None);
    }

    #[test]
    fn download_status_is_read() {
        assert_eq!(
            parse_status("dlstatus:3:25.5:Retrieving file 3 of 29 (2s remaining)"),
            Some((2550, "Retrieving file 3 of 29 (2s remaining)"))
        );
        assert_eq!(parse_status("pmstatus:apt:1:x"), None);
        assert_eq!(parse_status("dlstatus:1"), None);
    }

    #[test]
    fn minimal_base_is_essential_required_and_apt() {
        let records = "Package: bash\nEssential: yes\nPriority: required\n\nPackage: mount\nPriority: required\n\nPackage: vim\nPriority: optional\n\nPackage: apt\nPriority: important\n\nPackage: bash\nEssential: yes\n";
        assert_eq!(minimal_base(records), ["apt", "bash", "mount"]);
    }
}
