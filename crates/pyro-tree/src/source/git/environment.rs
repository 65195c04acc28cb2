//! What of a user's environment decides how Git works: where its configuration lies, and what variables say.
//!
//! Whoever reads the environment fills this in, once; nothing below reads a variable. Those that point Git at another repository (`GIT_DIR`,
//! `GIT_WORK_TREE`, `GIT_INDEX_FILE`, `GIT_COMMON_DIR`, …) are left out on purpose: a source is the path that was named, also where Pyro is called from a hook
//! of some other repository. `GIT_CONFIG_PARAMETERS` is how Git talks to itself, and left out as well.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
};

use super::config::truth;

/// Most settings taken from `GIT_CONFIG_COUNT`.
const SETTINGS_MAX: usize = 1000;

/// The configuration that applies to the whole host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
enum SystemFile {
    /// None is read.
    #[default]
    Off,
    /// The one that belongs to the `git` that would be run.
    Usual,
    /// `GIT_CONFIG_SYSTEM`.
    At(PathBuf),
}

/// Where a user's Git finds its configuration. The default finds none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GitEnvironment {
    home: Option<PathBuf>,
    /// `git` in the folder of configurations.
    folder: Option<PathBuf>,
    /// `GIT_CONFIG_GLOBAL`, instead of the two usual places.
    global: Option<PathBuf>,
    system: SystemFile,
    /// Attributes of the whole host count.
    system_attributes: bool,
    /// Where programs are looked for.
    programs: Vec<PathBuf>,
    /// `GIT_CONFIG_KEY_n` and `GIT_CONFIG_VALUE_n`.
    settings: Vec<(String, String)>,
    /// What is wrong with those.
    problem: Option<&'static str>,
}

impl GitEnvironment {
    /// Resolves what Git would, by a way to look variables up.
    #[must_use]
    pub fn from_variables(variable: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let folder_named = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = folder_named("HOME");
        // git-config(1): `$HOME/.config` when that is not set or empty.
        let folder = folder_named("XDG_CONFIG_HOME").or_else(|| Some(home.as_ref()?.join(".config"))).map(|folder| folder.join("git"));
        let is_true = |name: &str| variable(name).is_some_and(|value| truth(&value.to_string_lossy()).unwrap_or(true));
        let system = match variable("GIT_CONFIG_SYSTEM") {
            _ if is_true("GIT_CONFIG_NOSYSTEM") => SystemFile::Off,
            Some(path) => SystemFile::At(path.into()),
            None => SystemFile::Usual,
        };
        let programs = variable("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
        let (settings, problem) = match settings(variable) {
            Ok(settings) => (settings, None),
            Err(problem) => (Vec::new(), Some(problem)),
        };
        let system_attributes = !is_true("GIT_ATTR_NOSYSTEM");
        Self {
            home,
            folder,
            global: variable("GIT_CONFIG_GLOBAL").map(PathBuf::from),
            system,
            system_attributes,
            programs,
            settings,
            problem,
        }
    }

    /// Returns the files of configuration outside any repository, the weakest first.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let system = match &self.system {
            SystemFile::Off => None,
            SystemFile::Usual => Some(self.installed("gitconfig")),
            SystemFile::At(path) => Some(path.clone()),
        };
        let global = match &self.global {
            Some(path) => vec![path.clone()],
            None => [self.folder.as_ref().map(|folder| folder.join("config")), self.home.as_ref().map(|home| home.join(".gitconfig"))]
                .into_iter()
                .flatten()
                .collect(),
        };
        system.into_iter().chain(global).collect()
    }

    /// Returns the list of ignored files that counts when none is configured.
    pub(super) fn usual_excludes(&self) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join("ignore"))
    }

    /// Returns the attributes that count when none are configured.
    pub(super) fn usual_attributes(&self) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join("attributes"))
    }

    /// Returns the attributes of the whole host.
    pub(super) fn system_attributes(&self) -> Option<PathBuf> {
        self.system_attributes.then(|| self.installed("gitattributes"))
    }

    /// Returns what variables set, as section, subsection, name and value, and what is wrong with them.
    pub(super) fn settings(&self) -> (&[(String, String)], Option<&'static str>) {
        (&self.settings, self.problem)
    }

    /// Expands a path of a configuration: `~`, `~user`, `%(prefix)`. `None` when it names nobody's folder.
    pub(super) fn expand(&self, path: &str) -> Option<PathBuf> {
        if let Some(rest) = path.strip_prefix("%(prefix)/") {
            return Some(self.prefix().join(rest));
        }
        let Some(rest) = path.strip_prefix('~') else { return Some(path.into()) };
        let (user, below) = rest.split_once('/').unwrap_or((rest, ""));
        let home = if user.is_empty() { self.home.clone()? } else { home_of(user)? };
        // With a slash behind it the home is a folder whose content is meant.
        Some(if rest.contains('/') { home.join(below) } else { home })
    }

    /// Returns a file of the host's, which lies beside the `git` that would be run: a build of one's own has its own.
    fn installed(&self, name: &str) -> PathBuf {
        let prefix = self.prefix();
        // Nix keeps each package in a folder of its own, and what is configured where others have it.
        let folder =
            if prefix == Path::new("/usr") || prefix.starts_with("/nix/store") { PathBuf::from("/etc") } else { prefix.join("etc") };
        folder.join(name)
    }

    fn prefix(&self) -> PathBuf {
        let found = self.programs.iter().map(|folder| folder.join("git")).find(|path| path.is_file());
        let found = found.and_then(|path| std::fs::canonicalize(path).ok());
        let prefix = found.and_then(|path| Some(path.parent()?.parent()?.to_owned()));
        prefix.filter(|prefix| prefix != Path::new("/")).unwrap_or_else(|| "/usr".into())
    }
}

/// Reads `GIT_CONFIG_COUNT` and what it counts; Git refuses to work with what is refused here.
fn settings(variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Vec<(String, String)>, &'static str> {
    let Some(count) = variable("GIT_CONFIG_COUNT").filter(|count| !count.is_empty()) else { return Ok(Vec::new()) };
    let count: usize = count.to_str().and_then(|count| count.parse().ok()).ok_or("it is not a number")?;
    if count > SETTINGS_MAX {
        return Err("it is larger than 1000");
    }
    let one = |index: usize| {
        let named = |kind: &str| variable(&format!("GIT_CONFIG_{kind}_{index}"));
        let key = named("KEY").filter(|key| !key.is_empty()).ok_or("a `GIT_CONFIG_KEY_…` is missing")?;
        let value = named("VALUE").ok_or("a `GIT_CONFIG_VALUE_…` is missing")?;
        Ok((key.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
    };
    (0..count).map(one).collect()
}

/// Returns the home of a user of this host, as far as `/etc/passwd` knows them.
fn home_of(user: &str) -> Option<PathBuf> {
    const PASSWD_MAX_BYTES: u64 = 16 << 20;
    let file = std::fs::File::open("/etc/passwd").ok()?;
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(file, PASSWD_MAX_BYTES), &mut text).ok()?;
    text.split(|byte| *byte == b'\n').find_map(|line| {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
        let home = fields.get(5).filter(|_| fields[0] == user.as_bytes())?;
        Some(PathBuf::from(OsString::from_vec(OsStr::from_bytes(home).as_bytes().to_vec())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> GitEnvironment {
        GitEnvironment::from_variables(&|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
    }

    fn check(variables: &[(&str, &str)], expected: &[&str]) {
        let files: Vec<_> = environment(variables).files().iter().map(|path| path.display().to_string()).collect();
        assert_eq!(files, expected, "{variables:?}");
    }

    #[test]
    fn files_are_where_git_looks_for_them() {
        check(&[], &["/etc/gitconfig"]);
        check(&[("HOME", "/h")], &["/etc/gitconfig", "/h/.config/git/config", "/h/.gitconfig"]);
        check(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "")], &["/etc/gitconfig", "/h/.config/git/config", "/h/.gitconfig"]);
        check(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/x")], &["/etc/gitconfig", "/x/git/config", "/h/.gitconfig"]);
        check(&[("HOME", "/h"), ("GIT_CONFIG_NOSYSTEM", "1")], &["/h/.config/git/config", "/h/.gitconfig"]);
        check(&[("GIT_CONFIG_NOSYSTEM", "false")], &["/etc/gitconfig"]);
        check(&[("GIT_CONFIG_SYSTEM", "/s"), ("HOME", "/h"), ("GIT_CONFIG_GLOBAL", "/g")], &["/s", "/g"]);
        check(&[("GIT_CONFIG_SYSTEM", "/s"), ("GIT_CONFIG_NOSYSTEM", "yes"), ("GIT_CONFIG_GLOBAL", "")], &[""]);
    }

    #[test]
    fn the_hosts_own_file_lies_beside_the_git_that_would_be_run() {
        let place = tempfile::tempdir().unwrap();
        let prefix = std::fs::canonicalize(place.path()).unwrap();
        std::fs::create_dir(prefix.join("bin")).unwrap();
        std::fs::write(prefix.join("bin/git"), "").unwrap();
        let path = format!("/nonexistent:{}/bin:/usr/bin", prefix.display());
        check(&[("PATH", &path)], &[&prefix.join("etc/gitconfig").display().to_string()]);
        assert_eq!(environment(&[("PATH", &path)]).expand("%(prefix)/x").unwrap(), prefix.join("x"));
    }

    #[test]
    fn tildes_are_homes() {
        let environment = environment(&[("HOME", "/h")]);
        assert_eq!(environment.expand("~/a"), Some("/h/a".into()));
        assert_eq!(environment.expand("~"), Some("/h".into()));
        assert_eq!(environment.expand("~root/a"), Some("/root/a".into()));
        assert_eq!(environment.expand("~nobody-of-this-name/a"), None);
        assert_eq!(environment.expand("a/~"), Some("a/~".into()));
        assert_eq!(GitEnvironment::default().expand("~/a"), None);
    }

    #[test]
    fn settings_of_variables_are_all_there_or_refused() {
        let one = [("GIT_CONFIG_COUNT", "1"), ("GIT_CONFIG_KEY_0", "core.autocrlf"), ("GIT_CONFIG_VALUE_0", "true")];
        assert_eq!(environment(&one).settings().0, [("core.autocrlf".to_owned(), "true".to_owned())]);
        for broken in [&[("GIT_CONFIG_COUNT", "x")][..], &[("GIT_CONFIG_COUNT", "1001")], &[("GIT_CONFIG_COUNT", "1")], &one[..2]] {
            let environment = environment(broken);
            assert!(environment.settings().0.is_empty() && environment.settings().1.is_some(), "{broken:?}");
        }
        assert_eq!(environment(&[]).settings(), (&[][..], None));
    }
}
