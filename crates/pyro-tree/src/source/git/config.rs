//! Reads a repository's `config`, and writes the part of it that may enter a machine.
//!
//! A configuration can hold credentials, name programs to run and include other files. So nothing is copied: what is on the list is
//! written anew, addresses without user names and passwords. Includes are not followed.

use std::fmt::Write as _;

/// Largest configuration accepted.
pub(in crate::source) const CONFIG_MAX_BYTES: u64 = 4 << 20;

/// One setting; section and name in lower case, as Git compares them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    section: String,
    subsection: Option<String>,
    name: String,
    value: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::source) struct Config {
    settings: Vec<Setting>,
}

/// A configuration that Git would refuse, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its configuration is damaged in line {0}")]
pub(in crate::source) struct ConfigError(usize);

impl Config {
    pub(in crate::source) fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        // What is not UTF-8 can only be a value, and none that is kept needs such bytes.
        let text = String::from_utf8_lossy(bytes);
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let mut config = Self::default();
        let mut section: Option<(String, Option<String>)> = None;
        let mut lines = text.lines().enumerate();
        while let Some((number, line)) = lines.next() {
            let damaged = ConfigError(number + 1);
            let mut rest = line.trim_start();
            if let Some(header) = rest.strip_prefix('[') {
                let (parsed, after) = parse_header(header).ok_or(damaged)?;
                section = Some(parsed);
                rest = after.trim_start();
            }
            if rest.is_empty() || rest.starts_with(['#', ';']) {
                continue;
            }
            let (section, subsection) = section.as_ref().ok_or(damaged)?;
            let end = rest.find(|character: char| !character.is_ascii_alphanumeric() && character != '-').unwrap_or(rest.len());
            let (name, after) = rest.split_at(end);
            if name.is_empty() {
                return Err(damaged);
            }
            let after = after.trim_start();
            let value = match after.strip_prefix('=') {
                Some(value) => parse_value(value, &mut || lines.next().map(|(_, line)| line)).ok_or(damaged)?,
                None if after.is_empty() || after.starts_with(['#', ';']) => "true".to_owned(),
                None => return Err(damaged),
            };
            let setting = Setting { section: section.clone(), subsection: subsection.clone(), name: name.to_ascii_lowercase(), value };
            config.settings.push(setting);
        }
        Ok(config)
    }

    /// Returns the last value of a setting outside any subsection.
    pub(super) fn get(&self, section: &str, name: &str) -> Option<&str> {
        let wanted = |setting: &&Setting| setting.section == section && setting.subsection.is_none() && setting.name == name;
        self.settings.iter().rfind(wanted).map(|setting| setting.value.as_str())
    }

    /// Takes over the settings of `other`, as if they came later.
    pub(super) fn extend(&mut self, other: Self) {
        self.settings.extend(other.settings);
    }

    /// Writes the settings that may enter a machine.
    pub(in crate::source) fn allowed(&self) -> String {
        let mut text = String::new();
        let mut last: Option<(&str, Option<String>)> = None;
        for setting in &self.settings {
            let Some(value) = setting.allowed_value().map(strip_value) else { continue };
            // A remote without a name is called by its address.
            let header = (setting.section.as_str(), setting.subsection.as_deref().map(strip_value));
            if last.as_ref() != Some(&header) {
                match &header.1 {
                    None => writeln!(text, "[{}]", header.0),
                    Some(subsection) => writeln!(text, "[{} \"{}\"]", header.0, subsection.replace('\\', "\\\\").replace('"', "\\\"")),
                }
                .expect("writing to a string cannot fail");
                last = Some(header);
            }
            writeln!(text, "\t{} = {}", setting.name, quote(&value)).expect("writing to a string cannot fail");
        }
        text
    }
}

impl Setting {
    /// Returns the value that may enter a machine once it is without credentials.
    fn allowed_value(&self) -> Option<&str> {
        let own = || Some(self.value.as_str());
        match (self.section.as_str(), self.subsection.is_some(), self.name.as_str()) {
            // A linked worktree of a bare repository becomes a checkout of its own.
            ("core", false, "bare") => Some("false"),
            ("core", false, "repositoryformatversion" | "filemode" | "symlinks" | "ignorecase" | "precomposeunicode") => own(),
            // Without these every file with other line ends, or outside a sparse checkout, would look changed.
            ("core", false, "autocrlf" | "eol" | "sparsecheckout" | "sparsecheckoutcone") => own(),
            // The settings of a single worktree are merged into this file.
            ("extensions", false, "worktreeconfig") => None,
            ("extensions", _, _) | ("user", false, "name" | "email") | ("remote", true, "fetch") => own(),
            ("branch", true, "remote" | "pushremote" | "merge" | "rebase" | "description") | ("remote" | "submodule", true, "url") => own(),
            ("submodule", true, "active") => own(),
            _ => None,
        }
    }
}

/// Parses what follows the `[` of a section; returns the section and what stands after its `]`.
fn parse_header(header: &str) -> Option<((String, Option<String>), &str)> {
    let end = header.find(|character: char| !character.is_ascii_alphanumeric() && !matches!(character, '-' | '.'))?;
    let (name, rest) = header.split_at(end);
    if name.is_empty() {
        return None;
    }
    if let Some(rest) = rest.strip_prefix(']') {
        // The old form `[branch.name]`.
        let parts = name.split_once('.');
        let section = parts.map_or(name, |(section, _)| section).to_ascii_lowercase();
        return Some(((section, parts.map(|(_, subsection)| subsection.to_ascii_lowercase())), rest));
    }
    let quoted = rest.trim_start().strip_prefix('"')?;
    let mut subsection = String::new();
    let mut characters = quoted.char_indices();
    loop {
        match characters.next()? {
            (at, '"') => {
                let rest = quoted[at + 1..].strip_prefix(']')?;
                return Some(((name.to_ascii_lowercase(), Some(subsection)), rest));
            }
            (_, '\\') => subsection.push(characters.next()?.1),
            (_, character) => subsection.push(character),
        }
    }
}

/// Parses a value; `more` gives the next line when one ends with a backslash.
fn parse_value<'a>(first: &'a str, more: &mut dyn FnMut() -> Option<&'a str>) -> Option<String> {
    let mut value = String::new();
    let mut quoted = false;
    // Blanks at the end count only when something follows them.
    let mut kept = 0;
    let mut line = first.trim_start();
    loop {
        let mut characters = line.chars();
        let mut continued = false;
        while let Some(character) = characters.next() {
            match character {
                '"' => {
                    quoted = !quoted;
                    kept = value.len();
                    continue;
                }
                '\\' => match characters.next() {
                    Some('n') => value.push('\n'),
                    Some('t') => value.push('\t'),
                    Some('b') => value.push('\u{8}'),
                    Some(other @ ('\\' | '"')) => value.push(other),
                    Some(_) => return None,
                    None => {
                        continued = true;
                        break;
                    }
                },
                '#' | ';' if !quoted => break,
                blank if blank.is_ascii_whitespace() && !quoted => {
                    value.push(blank);
                    continue;
                }
                other => value.push(other),
            }
            kept = value.len();
        }
        if !continued {
            break;
        }
        let Some(next) = more() else { break };
        line = next;
    }
    value.truncate(kept);
    (!quoted).then_some(value)
}

fn quote(value: &str) -> String {
    let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").replace('\t', "\\t").replace('\u{8}', "\\b");
    format!("\"{escaped}\"")
}

/// Takes the credentials out of a value or a name: its addresses may hold anything but the end of a line.
fn strip_value(value: &str) -> String {
    String::from_utf8_lossy(&strip(value.as_bytes(), |byte| byte == b'\n')).into_owned()
}

/// Takes user names and passwords out of every address in a text, and the query of an address of the web.
///
/// The user of `ssh://git@host` is part of the address and stays; its password does not. `git@host:path` holds no secret. A text is bytes:
/// a message or a patch is in whatever encoding its author used.
pub(in crate::source) fn strip_credentials(text: &[u8]) -> Vec<u8> {
    strip(text, |byte| byte.is_ascii_whitespace())
}

fn strip(text: &[u8], ends_address: impl Fn(u8) -> bool) -> Vec<u8> {
    const MARK: &[u8] = b"://";
    let mut stripped = Vec::with_capacity(text.len());
    let mut at = 0;
    let mut end = 0;
    while let Some(found) = text[at..].windows(MARK.len()).position(|window| window == MARK) {
        let start = at + found + MARK.len();
        stripped.extend_from_slice(&text[at..start]);
        let scheme = text[(start - MARK.len()).saturating_sub("https".len())..start - MARK.len()].to_ascii_lowercase();
        // An address inside another one ends where that does; looking for the end each time would take for ever.
        if start > end {
            let length = text[start..].iter().position(|byte| ends_address(*byte)).unwrap_or(text.len() - start);
            // A quotation mark may be part of a password, so it only ends an address when nothing follows it.
            let last = text[start..start + length].iter().rposition(|byte| !matches!(byte, b'\'' | b'"'));
            end = start + last.map_or(0, |last| last + 1);
        }
        let address = &text[start..end];
        let mut length = address.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(address.len());
        if address[..length].ends_with(b":") && address[length..].starts_with(b"//") {
            length -= 1;
        }
        let (authority, path) = address.split_at(length);
        let sign = authority.iter().rposition(|byte| *byte == b'@');
        if let Some(sign) = sign.filter(|_| scheme.ends_with(b"ssh")) {
            stripped.extend(authority[..sign].iter().take_while(|byte| **byte != b':'));
            stripped.push(b'@');
        }
        stripped.extend_from_slice(&authority[sign.map_or(0, |sign| sign + 1)..]);
        let web = scheme.ends_with(b"http") || scheme.ends_with(b"https");
        let kept = (0..path.len()).find(|index| path[*index..].starts_with(MARK) || (web && matches!(path[*index], b'?' | b'#')));
        let kept = kept.unwrap_or(path.len());
        stripped.extend_from_slice(&path[..kept]);
        at = if path[kept..].starts_with(MARK) { start + length + kept } else { end };
    }
    stripped.extend_from_slice(&text[at..]);
    stripped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_on_the_list_is_written_and_without_credentials() {
        let text = "[core]\n\tbare = false\n\thooksPath = /evil\n\tfsmonitor = evil\n[remote \"origin\"]\n\turl = https://me:s3cret@example.org/a.git?token=s3cret\n\
            \tpushurl = https://x@y\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n[credential]\n\thelper = store\n[http \"https://x\"]\n\
            \textraheader = \"AUTHORIZATION: s3cret\"\n[include]\n\tpath = s3cret\n[url \"https://s3cret@x\"]\n\tinsteadOf = y\n\
            [user]\n\tname = \"A \\\"B\\\" # c\" ; note\n[branch \"m\"]\n\tmerge = refs/heads/m\n\tremote = ssh://git:s3cret@host/x\n";
        let allowed = Config::parse(text.as_bytes()).unwrap().allowed();
        assert_eq!(
            allowed,
            "[core]\n\tbare = \"false\"\n[remote \"origin\"]\n\turl = \"https://example.org/a.git\"\n\tfetch = \"+refs/heads/*:refs/remotes/origin/*\"\n\
            [user]\n\tname = \"A \\\"B\\\" # c\"\n[branch \"m\"]\n\tmerge = \"refs/heads/m\"\n\tremote = \"ssh://git@host/x\"\n"
        );
    }

    #[test]
    fn values_read_as_git_reads_them() {
        let text = "[a]\n b = one \\\n two  # note\n c\n d = \"x;y\" z  \n[A \"S\\\"s\"] e = 1\n[old.Sub]\nf=2\n";
        let config = Config::parse(text.as_bytes()).unwrap();
        let values: Vec<_> =
            config.settings.iter().map(|s| (s.section.as_str(), s.subsection.as_deref(), s.name.as_str(), s.value.as_str())).collect();
        assert_eq!(
            values,
            [
                ("a", None, "b", "one  two"),
                ("a", None, "c", "true"),
                ("a", None, "d", "x;y z"),
                ("a", Some("S\"s"), "e", "1"),
                ("old", Some("sub"), "f", "2")
            ]
        );
        assert_eq!(Config::parse(b"[a]\n b = \"x"), Err(ConfigError(2)));
        assert_eq!(Config::parse(b"x = 1"), Err(ConfigError(1)));
    }

    #[test]
    fn addresses_in_prose_lose_their_secrets() {
        let check = |text: &str, expected: &str| assert_eq!(String::from_utf8(strip_credentials(text.as_bytes())).unwrap(), expected);
        check("pull https://t:k@h/x: ok, and git@h:p, ssh://u:p@h/y", "pull https://h/x: ok, and git@h:p, ssh://u@h/y");
        check("of 'https://t:k'k@h/x?s3cret'\nHTTPS://t@h", "of 'https://h/x'\nHTTPS://h");
        check("https://https://t:k@h/https://t:k@h/a?b ext::ftp://t@h/a?b", "https://https://h/https://h/a ext::ftp://h/a?b");
        check("://", "://");
        assert_eq!(strip_credentials(b"\xe9 https://\xe9@h/\xe9"), b"\xe9 https://h/\xe9");
    }

    #[test]
    fn text_made_to_be_slow_is_not() {
        let text = "https://".repeat(1 << 18);
        assert_eq!(strip_credentials(text.as_bytes()), text.as_bytes());
    }

    #[test]
    fn no_value_and_no_name_of_a_section_keeps_credentials() {
        let text = "[extensions]\n\tpartialClone = https://u:s3cret@h/x\n[remote \"https://u:s3cret s@h/x\"]\n\tfetch = y\n\
            [branch \"https://u:s3cret@h/x\"]\n\tremote = \"https://u:s3 s3cret'@h/x\"\n[submodule \"https://u:s3cret@h/x\"]\n\tactive = 1\n\
            [user]\n\tname = https://u:s3cret@h/x\n[core]\n\teol = https://u:s3cret@h/x\n[url \"https://u:s3cret@h\"]\n\tinsteadOf = y\n";
        let allowed = Config::parse(text.as_bytes()).unwrap().allowed();
        assert_eq!(
            allowed,
            "[extensions]\n\tpartialclone = \"https://h/x\"\n[remote \"https://h/x\"]\n\tfetch = \"y\"\n\
            [branch \"https://h/x\"]\n\tremote = \"https://h/x\"\n[submodule \"https://h/x\"]\n\tactive = \"1\"\n\
            [user]\n\tname = \"https://h/x\"\n[core]\n\teol = \"https://h/x\"\n"
        );
    }
}
