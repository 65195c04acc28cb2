//! Writes the part of a configuration that may enter a machine.
//!
//! A configuration can hold credentials and name programs to run. So nothing is copied: what is on the list is written anew, addresses
//! without user names and passwords. Of the user's own configuration, and of files a repository includes, only words that change what the
//! files of a checkout mean to Git are written, and no text. What a repository asks of Git (its extensions) is written as far as it means something
//! in a checkout of its own, since an older Git refuses all work on what it does not know.

use std::fmt::Write as _;

use super::{
    config::{Config, Level, Setting},
    credentials::strip_value,
};

/// Longest word that is taken from outside the repository's own file.
const WORD_MAX_BYTES: usize = 16;

/// How the references of a repository are stored in what is handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::source) enum References {
    Files,
    /// As they were, in a form that Git before 2.45 does not know.
    AsTheyAre,
}

/// A configuration for a machine.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::source) struct GuestConfig {
    pub(in crate::source) text: String,
    /// What keeps Git in a machine from working as it does here.
    pub(in crate::source) notes: Vec<String>,
}

impl GuestConfig {
    pub(in crate::source) fn of(config: &Config, references: References) -> Self {
        let mut written = Self { text: String::new(), notes: Vec::new() };
        let mut last: Option<(&str, Option<String>)> = None;
        let plain = config.settings.iter().filter(|setting| is_extension(setting)).all(|setting| !is_kept(setting, references));
        for setting in &config.settings {
            if is_extension(setting) {
                written.note_extension(setting, references);
            }
            let value = match setting.allowed_value(references) {
                None => continue,
                // Without any extension a repository is as every Git knows it.
                Some("1") if plain && setting.name == "repositoryformatversion" => "0".to_owned(),
                Some(value) => strip_value(value),
            };
            // A remote without a name is called by its address.
            let header = (setting.section.as_str(), setting.subsection.as_deref().map(strip_value));
            if last.as_ref() != Some(&header) {
                match &header.1 {
                    None => writeln!(written.text, "[{}]", header.0),
                    Some(subsection) => {
                        writeln!(written.text, "[{} \"{}\"]", header.0, subsection.replace('\\', "\\\\").replace('"', "\\\""))
                    }
                }
                .expect("writing to a string cannot fail");
                last = Some(header);
            }
            writeln!(written.text, "\t{} = {}", setting.name, quote(&value)).expect("writing to a string cannot fail");
        }
        written.note_promisors(config);
        written
    }

    /// Adds where the attributes lie that the user has for all repositories.
    pub(super) fn add_attributes_file(&mut self, path: &str) {
        writeln!(self.text, "[core]\n\tattributesfile = {}", quote(path)).expect("writing to a string cannot fail");
    }

    fn note_extension(&mut self, setting: &Setting, references: References) {
        let (name, value) = (setting.name.as_str(), &setting.value);
        let note = match name {
            "refstorage" if value.eq_ignore_ascii_case("reftable") && references == References::AsTheyAre => {
                "its refs are stored as reftables, which Git before 2.45 cannot read; \
                 run `git refs migrate --ref-format=files` on the host"
                    .to_owned()
            }
            "noop" | "noop-v1" | "objectformat" | "partialclone" | "preciousobjects" => return,
            _ if !is_kept(setting, references) => return,
            _ => format!("it uses `extensions.{name}`; Git in the workspace fails unless it supports that extension"),
        };
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    fn note_promisors(&mut self, config: &Config) {
        let promisor = |setting: &&Setting| {
            let (section, name) = (setting.section.as_str(), setting.name.as_str());
            setting.level == Level::Repository
                && ((section, name) == ("extensions", "partialclone")
                    || ((section, name) == ("remote", "promisor") && super::config::truth(&setting.value) == Some(true)))
        };
        let Some(setting) = config.settings.iter().find(promisor) else { return };
        let remote = setting.subsection.as_deref().unwrap_or(&setting.value);
        let address = config.get_of("remote", remote, "url").map_or_else(|| strip_value(remote), strip_value);
        self.notes.push(format!(
            "it is a partial clone; objects that were not fetched yet are missing in the workspace unless it can reach `{}`. \
             To complete the clone, run `git fetch --refetch --no-filter` on the host",
            crate::path::printable_cut(address.as_bytes(), 200)
        ));
    }
}

fn is_extension(setting: &Setting) -> bool {
    setting.section == "extensions" && setting.level == Level::Repository
}

/// Returns whether an extension means something in a checkout of its own.
fn is_kept(setting: &Setting, references: References) -> bool {
    match setting.name.as_str() {
        // How linked worktrees and submodules are found; a seed has its worktree merged into it and its submodules where they lie.
        "worktreeconfig" | "relativeworktrees" | "submodulepathconfig" => false,
        // A second name for each object, in a format that older versions cannot know, and nothing is lost without it.
        "compatobjectformat" => false,
        "noop" | "noop-v1" => false,
        "refstorage" => references == References::AsTheyAre && !setting.value.eq_ignore_ascii_case("files"),
        "objectformat" => !setting.value.eq_ignore_ascii_case("sha1"),
        _ => true,
    }
}

impl Setting {
    /// Returns the value that may enter a machine once it is without credentials.
    fn allowed_value(&self, references: References) -> Option<&str> {
        let own = || Some(self.value.as_str());
        let word = || own().filter(|value| value.len() <= WORD_MAX_BYTES && value.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        match (self.section.as_str(), self.subsection.is_some(), self.name.as_str()) {
            ("core", false, "filemode" | "symlinks" | "ignorecase" | "precomposeunicode") => return word(),
            // Without these every file with other line ends, or outside a sparse checkout, would look changed.
            ("core", false, "autocrlf" | "eol" | "safecrlf" | "sparsecheckout" | "sparsecheckoutcone") | ("index", false, "sparse") => {
                return word();
            }
            // What a clean checkout shows.
            ("status", false, "showuntrackedfiles") | ("diff", false, "ignoresubmodules") => return word(),
            _ if self.level != Level::Repository => return None,
            _ => {}
        }
        match (self.section.as_str(), self.subsection.is_some(), self.name.as_str()) {
            // A linked worktree of a bare repository becomes a checkout of its own.
            ("core", false, "bare") => Some("false"),
            ("core", false, "repositoryformatversion") => word(),
            ("extensions", _, _) => own().filter(|_| is_kept(self, references)),
            ("user", false, "name" | "email") | ("remote", true, "fetch" | "promisor" | "partialclonefilter") => own(),
            ("branch", true, "remote" | "pushremote" | "merge" | "rebase" | "description") | ("remote" | "submodule", true, "url") => own(),
            ("submodule", true, "active") => own(),
            ("submodule", true, "ignore") => word(),
            _ => None,
        }
    }
}

fn quote(value: &str) -> String {
    let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").replace('\t', "\\t").replace('\u{8}', "\\b");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str, level: Level, references: References) -> GuestConfig {
        GuestConfig::of(&Config::parse(text.as_bytes(), level).unwrap(), references)
    }

    fn allowed(text: &str) -> String {
        written(text, Level::Repository, References::Files).text
    }

    #[test]
    fn only_what_is_on_the_list_is_written_and_without_credentials() {
        let text = "[core]\n\tbare = false\n\thooksPath = /evil\n\tfsmonitor = evil\n[remote \"origin\"]\n\turl = https://me:s3cret@example.org/a.git?token=s3cret\n\
            \tpushurl = https://x@y\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n[credential]\n\thelper = store\n[http \"https://x\"]\n\
            \textraheader = \"AUTHORIZATION: s3cret\"\n[include]\n\tpath = s3cret\n[url \"https://s3cret@x\"]\n\tinsteadOf = y\n\
            [user]\n\tname = \"A \\\"B\\\" # c\" ; note\n[branch \"m\"]\n\tmerge = refs/heads/m\n\tremote = ssh://git:s3cret@host/x\n";
        assert_eq!(
            allowed(text),
            "[core]\n\tbare = \"false\"\n[remote \"origin\"]\n\turl = \"https://example.org/a.git\"\n\tfetch = \"+refs/heads/*:refs/remotes/origin/*\"\n\
            [user]\n\tname = \"A \\\"B\\\" # c\"\n[branch \"m\"]\n\tmerge = \"refs/heads/m\"\n\tremote = \"ssh://git@host/x\"\n"
        );
    }

    #[test]
    fn no_value_and_no_name_of_a_section_keeps_credentials() {
        let text = "[extensions]\n\tpartialClone = https://u:s3cret@h/x\n[remote \"https://u:s3cret s@h/x\"]\n\tfetch = y\n\
            [branch \"https://u:s3cret@h/x\"]\n\tremote = \"https://u:s3 s3cret'@h/x\"\n[submodule \"https://u:s3cret@h/x\"]\n\tactive = 1\n\
            [user]\n\tname = https://u:s3cret@h/x\n[core]\n\teol = https://u:s3cret@h/x\n[url \"https://u:s3cret@h\"]\n\tinsteadOf = y\n";
        let written = written(text, Level::Repository, References::Files);
        assert_eq!(
            written.text,
            "[extensions]\n\tpartialclone = \"https://h/x\"\n[remote \"https://h/x\"]\n\tfetch = \"y\"\n\
            [branch \"https://h/x\"]\n\tremote = \"https://h/x\"\n[submodule \"https://h/x\"]\n\tactive = \"1\"\n\
            [user]\n\tname = \"https://h/x\"\n"
        );
        assert!(written.notes[0].contains("reach `https://h/x`") && !written.notes[0].contains("s3cret"), "{:?}", written.notes);
    }

    #[test]
    fn of_the_users_own_configuration_and_of_includes_only_words_enter() {
        let text = "[core]\n\tautocrlf = true\n\teol = my private text\n\tbare = true\n\teditor = vi\n[user]\n\tname = me\n\
            [remote \"origin\"]\n\turl = x\n[extensions]\n\tpartialClone = x\n[status]\n\tshowUntrackedFiles = no\n";
        for level in [Level::User, Level::Included] {
            let written = written(text, level, References::Files);
            assert_eq!(written.text, "[core]\n\tautocrlf = \"true\"\n[status]\n\tshowuntrackedfiles = \"no\"\n");
            assert_eq!(written.notes, [""; 0]);
        }
    }

    #[test]
    fn extensions_enter_as_far_as_they_mean_something() {
        let check = |extensions: &str, references: References, expected: &str, said: &str| {
            let text = format!("[core]\n\trepositoryformatversion = 1\n[extensions]\n{extensions}");
            let written = written(&text, Level::Repository, references);
            let version = if expected.is_empty() { "0" } else { "1" };
            let expected = if expected.is_empty() { String::new() } else { format!("[extensions]\n{expected}") };
            assert_eq!(written.text, format!("[core]\n\trepositoryformatversion = \"{version}\"\n{expected}"));
            assert!(written.notes.is_empty() == said.is_empty() && written.notes.concat().contains(said), "{:?}", written.notes);
        };
        check("relativeWorktrees\nworktreeConfig = true\nnoop\ncompatObjectFormat = sha256\n", References::Files, "", "");
        check("refStorage = reftable\n", References::Files, "", "");
        check("refStorage = files\nobjectFormat = sha1\n", References::AsTheyAre, "", "");
        check("objectFormat = sha256\nrelativeWorktrees\n", References::Files, "\tobjectformat = \"sha256\"\n", "");
        check("preciousObjects\n", References::Files, "\tpreciousobjects = \"true\"\n", "");
        check("refStorage = reftable\n", References::AsTheyAre, "\trefstorage = \"reftable\"\n", "git refs migrate");
        check("timeMachine = 1\n", References::Files, "\ttimemachine = \"1\"\n", "`extensions.timemachine`");
    }
}
