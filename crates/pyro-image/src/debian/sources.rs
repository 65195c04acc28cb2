//! The Debian mirrors the host itself uses, read from its apt sources and turned to the release an environment wants.
//!
//! Nothing here names a host: whoever runs Pyro has said in `/etc/apt` where packages come from, and that is obeyed. Both forms are read:
//! one line per entry (`*.list`) and stanzas (`*.sources`); see sources.list(5).

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Codenames and aliases of Debian's releases: an entry with another suite is somebody else's repository.
const RELEASES: [&str; 10] = ["bullseye", "bookworm", "trixie", "forky", "duke", "sid", "oldstable", "stable", "testing", "unstable"];
/// The component every entry of the Debian archive has, and most private repositories do not.
const MAIN: &str = "main";

/// One entry of apt's sources, of the kind that holds binary packages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Entry {
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
    /// Value of `Signed-By`: keyring files, fingerprints, or a key in place, continuation lines included.
    signed_by: Option<String>,
    trusted: Option<String>,
    check_valid_until: Option<String>,
}

/// The sources an environment is built from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sources {
    /// Content of a `.sources` file.
    pub(crate) stanzas: String,
    /// Files of the host that the stanzas refer to: keyrings, lists of mirrors. The guest's apt needs them too.
    pub(crate) referenced: Vec<PathBuf>,
    /// How many index files they have, one per suite and component: for progress.
    pub(crate) index_count: u64,
}

/// Reads the Debian entries of an apt folder such as `/etc/apt`, or of one sources file, for the release `codename`.
pub(crate) fn read(path: &Path, codename: &'static str) -> Result<Sources> {
    let mut entries = Vec::new();
    for file in source_files(path)? {
        let text = fs_err::read_to_string(&file).map_err(|source| Error::io("read", &file, source))?;
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => parse_stanzas(&text, &mut entries),
            Some(_) | None => text.lines().filter_map(parse_line).for_each(|entry| entries.push(entry)),
        }
    }
    choose(entries, codename).ok_or_else(|| Error::NoDebianSources { searched: path.to_owned(), codename })
}

fn source_files(path: &Path) -> Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files: Vec<_> = Some(path.join("sources.list")).into_iter().filter(|file| file.is_file()).collect();
    let parts = path.join("sources.list.d");
    if parts.is_dir() {
        let entries = fs_err::read_dir(&parts).map_err(|source| Error::io("list", &parts, source))?;
        let is_source = |file: &PathBuf| file.extension().is_some_and(|extension| extension == "list" || extension == "sources");
        let mut found: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(is_source).collect();
        found.sort();
        files.append(&mut found);
    }
    Ok(files)
}

/// Reads `deb [option=value …] URI suite component…`.
fn parse_line(line: &str) -> Option<Entry> {
    let line = line.split('#').next().unwrap_or_default().trim();
    let mut rest = line.strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
    let mut entry = Entry::default();
    if let Some(bracketed) = rest.strip_prefix('[') {
        let (options, after) = bracketed.split_once(']')?;
        rest = after;
        for (name, value) in options.split_whitespace().filter_map(|option| option.split_once('=')) {
            let value = Some(value.replace(',', " "));
            match name.to_ascii_lowercase().as_str() {
                "signed-by" => entry.signed_by = value,
                "trusted" => entry.trusted = value,
                "check-valid-until" => entry.check_valid_until = value,
                _ => {}
            }
        }
    }
    let mut words = rest.split_whitespace().map(str::to_owned);
    entry.uris = vec![words.next()?];
    entry.suites = vec![words.next()?];
    entry.components = words.collect();
    Some(entry)
}

fn parse_stanzas(text: &str, entries: &mut Vec<Entry>) {
    for stanza in text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().split(|line| line.trim().is_empty()) {
        let mut fields: Vec<(String, String)> = Vec::new();
        for line in stanza {
            if line.starts_with([' ', '\t']) {
                if let Some((_, value)) = fields.last_mut() {
                    value.push('\n');
                    value.push_str(line);
                }
            } else if let Some((name, value)) = line.split_once(':') {
                fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
            }
        }
        let field = |name: &str| fields.iter().find(|field| field.0 == name).map(|field| field.1.clone());
        let words = |name: &str| field(name).unwrap_or_default().split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let disabled = field("enabled").is_some_and(|value| matches!(value.to_ascii_lowercase().as_str(), "no" | "false" | "0" | "off"));
        if !disabled && words("types").iter().any(|kind| kind == "deb") {
            entries.push(Entry {
                uris: words("uris"),
                suites: words("suites"),
                components: words("components"),
                signed_by: field("signed-by"),
                trusted: field("trusted"),
                check_valid_until: field("check-valid-until"),
            });
        }
    }
}

/// The part of a release a suite stands for; proposed updates and backports are not what an environment is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pocket {
    Release,
    Updates,
    Security,
}

impl Pocket {
    const fn suffix(self) -> &'static str {
        match self {
            Self::Release => "",
            Self::Updates => "-updates",
            Self::Security => "-security",
        }
    }
}

/// Splits `bookworm-security` into release and pocket; `None` when the suite is not Debian's.
fn parse_suite(suite: &str) -> Option<(&str, Pocket)> {
    let known = |release: &&str| RELEASES.contains(release);
    for pocket in [Pocket::Updates, Pocket::Security] {
        if let Some(release) = suite.strip_suffix(pocket.suffix()).filter(known) {
            return Some((release, pocket));
        }
    }
    Some((suite, Pocket::Release)).filter(|(release, _)| known(release))
}

/// Keeps the entries of the Debian archive and turns their suites to `codename`.
fn choose(entries: Vec<Entry>, codename: &str) -> Option<Sources> {
    let is_debian = |entry: &Entry| {
        entry.components.iter().any(|component| component == MAIN)
            && entry.suites.iter().any(|suite| parse_suite(suite).is_some())
            && entry.uris.iter().any(|uri| !uri.starts_with("cdrom:"))
    };
    let mut debian: Vec<_> = entries.into_iter().filter(is_debian).collect();
    // Vendors publish under Debian's suite and component names too, but sign with their own key. A private mirror may as well, so such
    // entries are only dropped when there are others.
    let archive_key = |entry: &Entry| entry.signed_by.as_ref().is_none_or(|value| value.contains("debian-archive") || !value.contains('/'));
    if debian.iter().any(archive_key) {
        debian.retain(archive_key);
    }
    // A host of the same release says exactly what it wants; any other lends its mirror.
    let same = |entry: &Entry| entry.suites.iter().any(|suite| parse_suite(suite).is_some_and(|(release, _)| release == codename));
    let lent = !debian.iter().any(same);
    if !lent {
        debian.retain(same);
    }
    let mut sources = Sources { stanzas: String::new(), referenced: Vec::new(), index_count: 0 };
    let (mut seen, mut referenced) = (BTreeSet::new(), BTreeSet::new());
    for entry in debian {
        let mut suites = Vec::new();
        for (release, pocket) in entry.suites.iter().filter_map(|suite| parse_suite(suite)) {
            let suite = format!("{codename}{}", pocket.suffix());
            if (lent || release == codename) && seen.insert((entry.uris.clone(), suite.clone())) {
                suites.push(suite);
            }
        }
        if suites.is_empty() {
            continue;
        }
        sources.index_count += (suites.len() * entry.components.len()) as u64;
        referenced.extend(entry.uris.iter().filter_map(|uri| uri.strip_prefix("mirror+file:")).map(file_path));
        referenced.extend(
            entry.signed_by.iter().flat_map(|value| value.split_whitespace()).filter(|word| word.starts_with('/')).map(PathBuf::from),
        );
        write_stanza(&mut sources.stanzas, &entry, &suites);
    }
    sources.referenced = referenced.into_iter().collect();
    (!sources.stanzas.is_empty()).then_some(sources)
}

/// Turns the rest of a `file:` URI into a path: one or three slashes mean the same.
fn file_path(rest: &str) -> PathBuf {
    PathBuf::from(format!("/{}", rest.trim_start_matches('/')))
}

fn write_stanza(text: &mut String, entry: &Entry, suites: &[String]) {
    let uris: Vec<_> = entry.uris.iter().filter(|uri| !uri.starts_with("cdrom:")).map(String::as_str).collect();
    let optional = [("Signed-By", &entry.signed_by), ("Trusted", &entry.trusted), ("Check-Valid-Until", &entry.check_valid_until)];
    let fields =
        [("Types", "deb".to_owned()), ("URIs", uris.join(" ")), ("Suites", suites.join(" ")), ("Components", entry.components.join(" "))];
    let optional = optional.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
    if !text.is_empty() {
        text.push('\n');
    }
    for (name, value) in fields.into_iter().chain(optional) {
        writeln!(text, "{name}: {value}").expect("writing to a string does not fail");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes files into a made-up `/etc/apt` and returns what is chosen for bookworm.
    fn chosen(files: &[(&str, &str)]) -> Result<Sources> {
        let folder = tempfile::tempdir().unwrap();
        fs_err::create_dir(folder.path().join("sources.list.d")).unwrap();
        for (name, text) in files {
            fs_err::write(folder.path().join(name), text).unwrap();
        }
        read(folder.path(), "bookworm")
    }

    const STANZAS: &str = "\
Types: deb deb-src
# a remark
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates bookworm-backports
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Enabled: no
Types: deb
URIs: http://other.example/debian
Suites: bookworm
Components: main
";

    #[test]
    fn host_of_the_same_release_is_taken_at_its_word() {
        let sources = chosen(&[
            ("sources.list.d/debian.sources", STANZAS),
            (
                "sources.list.d/vendor.list",
                "deb [signed-by=/etc/apt/keyrings/vendor.gpg] https://vendor.example/debian/12/prod bookworm main\n",
            ),
            ("sources.list.d/node.sources", "Types: deb\nURIs: https://node.example\nSuites: nodistro\nComponents: main\n"),
            ("sources.list.d/docker.list", "deb https://docker.example/linux/debian bookworm stable\n"),
        ])
        .unwrap();
        assert_eq!(
            sources.stanzas,
            "\
Types: deb
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"
        );
        assert_eq!(sources.referenced, [PathBuf::from("/usr/share/keyrings/debian-archive-keyring.gpg")]);
        assert_eq!(sources.index_count, 5);
    }

    #[test]
    fn host_of_another_release_lends_its_mirror() {
        let list = "\
# deb http://old.example/debian bookworm main
deb-src http://mirror.example/debian trixie main
deb cdrom:[Debian] trixie main
deb [ arch=amd64 signed-by=/k/debian-archive-keyring.pgp check-valid-until=no ] mirror+file:///etc/apt/mirrors/debian.list trixie main non-free-firmware # own
deb http://mirror.example/debian-security trixie-security main
";
        let sources = chosen(&[("sources.list", list)]).unwrap();
        assert_eq!(
            sources.stanzas,
            "\
Types: deb
URIs: mirror+file:///etc/apt/mirrors/debian.list
Suites: bookworm
Components: main non-free-firmware
Signed-By: /k/debian-archive-keyring.pgp
Check-Valid-Until: no

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
"
        );
        assert_eq!(sources.referenced, [PathBuf::from("/etc/apt/mirrors/debian.list"), PathBuf::from("/k/debian-archive-keyring.pgp")]);
    }

    #[test]
    fn private_mirror_with_its_own_key_is_used_when_it_is_all_there_is() {
        let sources =
            chosen(&[("sources.list", "deb [signed-by=/etc/apt/keyrings/corp.gpg] https://corp.example/apt bookworm main\n")]).unwrap();
        assert!(sources.stanzas.contains("https://corp.example/apt"));
    }

    #[test]
    fn host_without_debian_sources_is_told_what_to_add() {
        let error = chosen(&[("sources.list", "deb http://ubuntu.example/ubuntu noble main universe\n")]).unwrap_err();
        assert!(matches!(error, Error::NoDebianSources { codename: "bookworm", .. }));
        assert!(error.hint().unwrap().contains("debian-archive-keyring"));
    }

    #[test]
    fn key_given_in_place_is_kept_whole() {
        let key = "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm\nComponents: main\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n";
        let sources = chosen(&[("sources.list.d/x.sources", key)]).unwrap();
        assert!(sources.stanzas.ends_with("Signed-By: \n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n"), "{}", sources.stanzas);
    }
}
