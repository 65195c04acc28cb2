//! The configuration that Git effectively uses in a repository: system, user, repository, worktree, variables, and what they include.
//!
//! Includes are followed as Git follows them, conditions and the depth of ten included, to find out what Git would do. A repository may come
//! from a stranger and include any file of the host, so who said a thing stays with it (see [`Level`]): a text of an included file enters no machine.
//! How much is read is bounded as a whole, since a file that includes itself twice would be read a thousand times.

use std::{
    io::Read as _,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use super::{
    config::{CONFIG_MAX_BYTES, Config, Level, Setting},
    environment::GitEnvironment,
};
use crate::{
    ignore::{Case, Glob, Slash},
    path::printable,
};

/// How deep files include each other, as in Git.
const DEPTH_MAX: u32 = 10;
/// Most files read for one repository, and most bytes of them.
const FILES_MAX: u32 = 1000;
const TOTAL_MAX_BYTES: u64 = 32 << 20;

/// What conditions of includes ask about.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    /// The repository's folder for this checkout.
    pub(super) git_dir: PathBuf,
    /// The branch that is checked out, without `refs/heads/`.
    pub(super) branch: Option<String>,
}

/// What all levels say together, the strongest last.
#[derive(Debug, Default)]
pub(super) struct Levels {
    pub(super) config: Config,
    /// What could not be read.
    pub(super) complaints: Vec<String>,
}

struct Reading<'a> {
    environment: &'a GitEnvironment,
    facts: &'a Facts,
    /// Addresses of remotes for `hasconfig`; `None` while they are being gathered, when such includes are left out.
    remotes: Option<Vec<String>>,
    levels: Levels,
    files: u32,
    bytes: u64,
}

impl Levels {
    /// Reads every level; `repository` are the repository's own files and what they hold.
    pub(super) fn read(environment: &GitEnvironment, facts: &Facts, repository: &[(PathBuf, Config)]) -> Self {
        let read = |remotes| {
            let mut reading = Reading { environment, facts, remotes, levels: Self::default(), files: 0, bytes: 0 };
            for file in environment.files() {
                reading.file(&file, Level::User, 0);
            }
            for (path, config) in repository {
                reading.take(config.clone(), Some(path), 0);
            }
            reading.variables();
            (reading.levels, reading.remotes.is_none())
        };
        let (levels, _) = read(None);
        let asks = |setting: &Setting| {
            setting.section == "includeif" && setting.subsection.as_deref().is_some_and(|name| name.starts_with("hasconfig:"))
        };
        if !levels.config.settings.iter().any(asks) {
            return levels;
        }
        let urls = levels.config.settings.iter().filter(|setting| (setting.section.as_str(), setting.name.as_str()) == ("remote", "url"));
        read(Some(urls.map(|setting| setting.value.clone()).collect())).0
    }

    /// Returns a path that is configured, and who configured it. Relative ones are seen from the top of the checkout, where Git works.
    pub(super) fn path(&self, environment: &GitEnvironment, name: &str, checkout: &Path) -> Option<(PathBuf, Level)> {
        let wanted = |setting: &&Setting| setting.section == "core" && setting.subsection.is_none() && setting.name == name;
        let setting = self.config.settings.iter().rfind(wanted)?;
        let path = environment.expand(setting.value.strip_prefix(":(optional)").unwrap_or(&setting.value))?;
        Some((checkout.join(path), setting.level))
    }
}

impl Reading<'_> {
    fn complain(&mut self, complaint: String) {
        if !self.levels.complaints.contains(&complaint) {
            self.levels.complaints.push(complaint);
        }
    }

    fn file(&mut self, path: &Path, level: Level, depth: u32) {
        let shown = || printable(path.as_os_str().as_bytes());
        let text = match read_config_file(path, CONFIG_MAX_BYTES) {
            Ok(Some(text)) => text,
            Ok(None) => return,
            Err(error) => return self.complain(format!("cannot read Git's configuration `{}`: {error}", shown())),
        };
        self.files += 1;
        self.bytes = self.bytes.saturating_add(text.len() as u64);
        if self.files > FILES_MAX || self.bytes > TOTAL_MAX_BYTES {
            return self.complain("Git's configuration includes too many files; the rest was ignored".to_owned());
        }
        match Config::parse(&text, level) {
            Ok(config) => self.take(config, Some(path), depth),
            Err(error) => self.complain(format!("Git's configuration `{}` was ignored: {error}", shown())),
        }
    }

    /// Takes settings over in their order, with what they include where they include it.
    fn take(&mut self, config: Config, from: Option<&Path>, depth: u32) {
        for setting in config.settings {
            let included = match (setting.section.as_str(), setting.subsection.as_deref(), setting.name.as_str()) {
                ("include", None, "path") => true,
                ("includeif", Some(condition), "path") => self.holds(condition, from),
                _ => false,
            };
            let (value, level) = (setting.value.clone(), setting.level);
            self.levels.config.settings.push(setting);
            if included {
                self.include(&value, if level == Level::User { level } else { Level::Included }, from, depth);
            }
        }
    }

    fn include(&mut self, value: &str, level: Level, from: Option<&Path>, depth: u32) {
        let Some(path) = self.environment.expand(value) else { return };
        // Of a variable, nothing can be relative to it.
        let path = match from.and_then(Path::parent) {
            Some(folder) => folder.join(path),
            None if path.is_absolute() => path,
            None => return,
        };
        if depth == DEPTH_MAX {
            return self.complain(format!("Git's configuration has includes nested more than {DEPTH_MAX} deep; the rest was ignored"));
        }
        self.file(&path, level, depth + 1);
    }

    fn holds(&self, condition: &str, from: Option<&Path>) -> bool {
        if let Some(pattern) = condition.strip_prefix("gitdir:") {
            self.is_git_dir(pattern, Case::Sensitive, from)
        } else if let Some(pattern) = condition.strip_prefix("gitdir/i:") {
            self.is_git_dir(pattern, Case::Folded, from)
        } else if let Some(pattern) = condition.strip_prefix("onbranch:") {
            let pattern = with_everything_below(pattern.to_owned());
            self.facts.branch.as_ref().is_some_and(|branch| matches(pattern.as_bytes(), branch.as_bytes(), Case::Sensitive))
        } else if let Some(pattern) = condition.strip_prefix("hasconfig:remote.*.url:") {
            self.remotes.iter().flatten().any(|url| matches(pattern.as_bytes(), url.as_bytes(), Case::Sensitive))
        } else {
            // A condition that is not known does not hold, as in Git.
            false
        }
    }

    fn is_git_dir(&self, pattern: &str, case: Case, from: Option<&Path>) -> bool {
        let Some(expanded) = self.environment.expand(pattern) else { return false };
        let expanded = String::from_utf8_lossy(expanded.as_os_str().as_bytes()).into_owned();
        // What `./` stands for is a folder's name, whatever characters it has.
        let (literal, pattern) = match (expanded.strip_prefix("./"), from) {
            (Some(below), Some(from)) => {
                let Some(folder) = std::fs::canonicalize(from).ok().and_then(|from| from.parent().map(Path::to_owned)) else {
                    return false;
                };
                ([folder.as_os_str().as_bytes(), b"/"].concat(), below.to_owned())
            }
            (Some(_), None) => return false,
            (None, _) if expanded.starts_with('/') => (Vec::new(), expanded),
            (None, _) => (Vec::new(), format!("**/{expanded}")),
        };
        let pattern = with_everything_below(pattern);
        let real = std::fs::canonicalize(&self.facts.git_dir).ok();
        [real.as_deref(), Some(self.facts.git_dir.as_path())].into_iter().flatten().any(|git_dir| {
            let Some((begin, rest)) = git_dir.as_os_str().as_bytes().split_at_checked(literal.len()) else { return false };
            let same = if case == Case::Folded { begin.eq_ignore_ascii_case(&literal) } else { begin == literal };
            same && matches(pattern.as_bytes(), rest, case)
        })
    }

    fn variables(&mut self) {
        let (settings, problem) = self.environment.settings();
        if let Some(problem) = problem {
            self.complain(format!("settings from `GIT_CONFIG_COUNT` were ignored: {problem}"));
        }
        let parsed = settings.iter().filter_map(|(key, value)| {
            let (section, rest) = key.split_once('.')?;
            let (subsection, name) = rest.rsplit_once('.').map_or((None, rest), |(subsection, name)| (Some(subsection.to_owned()), name));
            let (section, name) = (section.to_ascii_lowercase(), name.to_ascii_lowercase());
            Some(Setting { section, subsection, name, value: value.clone(), level: Level::User })
        });
        self.take(Config { settings: parsed.collect() }, None, 0);
    }
}

/// A folder stands for everything below it.
fn with_everything_below(mut pattern: String) -> String {
    if pattern.ends_with('/') {
        pattern.push_str("**");
    }
    pattern
}

fn matches(pattern: &[u8], text: &[u8], case: Case) -> bool {
    Glob::new(pattern, case, Slash::Separates).matches(text)
}

/// Reads a file that the user's configuration may name, links followed; `None` when there is none. A device or a FIFO is not opened.
pub(super) fn read_config_file(path: &Path, max_bytes: u64) -> std::io::Result<Option<Vec<u8>>> {
    let absent = |error: &std::io::Error| matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory);
    match std::fs::metadata(path) {
        Ok(status) if status.is_file() => {}
        Ok(_) => return Ok(None),
        Err(error) if absent(&error) => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > max_bytes) {
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, format!("is larger than {max_bytes} bytes")));
    }
    Ok(Some(bytes))
}
