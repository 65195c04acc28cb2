//! Reads files of Git's configuration: what they say, one setting after the other, and who said it.
//!
//! Nothing is interpreted here, and no other file is read: `levels` follows includes, `guest` decides what of it all may enter a machine.

/// Largest configuration accepted.
pub(in crate::source) const CONFIG_MAX_BYTES: u64 = 4 << 20;

/// Whose word a setting is. The later of two wins in Git, whoever said it; what may be done with it depends on this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::source) enum Level {
    /// The user's own configuration, or that of the host.
    User,
    /// The repository's own file. It may come from a stranger.
    Repository,
    /// A file that the repository's includes: any file of the host, if a stranger wrote that.
    Included,
}

/// One setting; section and name in lower case, as Git compares them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) section: String,
    pub(super) subsection: Option<String>,
    pub(super) name: String,
    pub(super) value: String,
    pub(super) level: Level,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::source) struct Config {
    pub(super) settings: Vec<Setting>,
}

/// A configuration that Git would refuse, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its configuration is invalid at line {0}")]
pub(in crate::source) struct ConfigError(usize);

impl Config {
    /// Reads a file as Git does, byte by byte. What is not UTF-8 can only be a part of a value, and none that is used needs such bytes.
    ///
    /// # Errors
    /// A line is not of the form that Git takes; it would not work with the file at all.
    pub(in crate::source) fn parse(bytes: &[u8], level: Level) -> Result<Self, ConfigError> {
        let mut text = Text { rest: bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes), line: 1, ended: false };
        let mut config = Self::default();
        // Git reads what stands before the first section, as a setting of none.
        let mut section = (String::new(), None);
        loop {
            let line = text.line;
            match text.next() {
                b'\n' if text.ended => return Ok(config),
                blank if is_blank(blank) => {}
                b'#' | b';' => text.skip_line(),
                b'[' => section = text.header().ok_or(ConfigError(line))?,
                first if first.is_ascii_alphabetic() => {
                    let (name, value) = text.setting(first).ok_or(ConfigError(line))?;
                    let (section, subsection) = section.clone();
                    config.settings.push(Setting { section, subsection, name, value, level });
                }
                _ => return Err(ConfigError(line)),
            }
        }
    }

    /// Returns the last value of a setting outside any subsection.
    pub(super) fn get(&self, section: &str, name: &str) -> Option<&str> {
        let wanted = |setting: &&Setting| setting.section == section && setting.subsection.is_none() && setting.name == name;
        self.settings.iter().rfind(wanted).map(|setting| setting.value.as_str())
    }

    /// Returns the last value of a setting of a subsection.
    pub(super) fn get_of(&self, section: &str, subsection: &str, name: &str) -> Option<&str> {
        let named = |setting: &&Setting| setting.subsection.as_deref() == Some(subsection);
        let wanted = |setting: &&Setting| setting.section == section && setting.name == name && named(setting);
        self.settings.iter().rfind(wanted).map(|setting| setting.value.as_str())
    }

    /// Returns the last value of a setting that is true or false; `None` when it is neither, or not set.
    pub(super) fn get_bool(&self, section: &str, name: &str) -> Option<bool> {
        self.get(section, name).and_then(truth)
    }
}

/// Returns what Git takes a value for where it wants true or false.
pub(super) fn truth(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => Some(true),
        "false" | "no" | "off" | "" => Some(false),
        number => number.parse::<i64>().ok().map(|number| number != 0),
    }
}

/// A file being read.
struct Text<'a> {
    rest: &'a [u8],
    /// The line of the next byte.
    line: usize,
    ended: bool,
}

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

const fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-'
}

impl Text<'_> {
    /// Returns the next byte; the end of the file is that of a line.
    fn next(&mut self) -> u8 {
        let (byte, length) = match self.rest {
            [] => {
                self.ended = true;
                return b'\n';
            }
            [b'\r', b'\n', ..] => (b'\n', 2),
            [byte, ..] => (*byte, 1),
        };
        self.rest = &self.rest[length..];
        self.line += usize::from(byte == b'\n');
        byte
    }

    fn skip_line(&mut self) {
        while self.next() != b'\n' {}
    }

    /// Reads what follows the `[` of a section.
    fn header(&mut self) -> Option<(String, Option<String>)> {
        let mut name = Vec::new();
        loop {
            match self.next() {
                b']' if name.is_empty() => return None,
                b']' => {
                    // The old form `[branch.name]`.
                    let name = String::from_utf8(name).ok()?;
                    let parts = name.split_once('.').map(|(section, subsection)| (section.to_owned(), Some(subsection.to_owned())));
                    return Some(parts.unwrap_or((name, None)));
                }
                blank if is_blank(blank) && !name.is_empty() => return self.subsection(blank).map(|subsection| split(&name, &subsection)),
                byte if is_name(byte) || byte == b'.' => name.push(byte.to_ascii_lowercase()),
                _ => return None,
            }
        }
    }

    /// Reads a name in quotes and the `]` behind it; `before` is the blank that was read last.
    fn subsection(&mut self, mut before: u8) -> Option<String> {
        while is_blank(before) {
            if before == b'\n' {
                return None;
            }
            before = self.next();
        }
        if before != b'"' {
            return None;
        }
        let mut name = Vec::new();
        loop {
            match self.next() {
                b'\n' => return None,
                b'"' => return (self.next() == b']').then(|| String::from_utf8_lossy(&name).into_owned()),
                b'\\' => match self.next() {
                    b'\n' => return None,
                    escaped => name.push(escaped),
                },
                byte => name.push(byte),
            }
        }
    }

    /// Reads a name that begins with `first`, and its value; one without is true.
    fn setting(&mut self, first: u8) -> Option<(String, String)> {
        let mut name = String::from(char::from(first.to_ascii_lowercase()));
        let mut byte = self.next();
        while is_name(byte) {
            name.push(char::from(byte.to_ascii_lowercase()));
            byte = self.next();
        }
        while matches!(byte, b' ' | b'\t') {
            byte = self.next();
        }
        match byte {
            b'\n' => Some((name, "true".to_owned())),
            b'=' => Some((name, self.value()?)),
            _ => None,
        }
    }

    fn value(&mut self) -> Option<String> {
        let mut value = Vec::new();
        let mut quoted = false;
        // Blanks at the end count only when something follows them.
        let mut kept = 0;
        loop {
            match self.next() {
                b'\n' if quoted => return None,
                b'\n' => break,
                b'#' | b';' if !quoted => {
                    self.skip_line();
                    break;
                }
                blank if is_blank(blank) && !quoted => {
                    if !value.is_empty() {
                        value.push(blank);
                    }
                    continue;
                }
                b'"' => quoted = !quoted,
                b'\\' => match self.next() {
                    b'\n' => {}
                    b'n' => value.push(b'\n'),
                    b't' => value.push(b'\t'),
                    b'b' => value.push(8),
                    other @ (b'\\' | b'"') => value.push(other),
                    _ => return None,
                },
                other => value.push(other),
            }
            kept = value.len();
        }
        value.truncate(kept);
        Some(String::from_utf8_lossy(&value).into_owned())
    }
}

/// Joins a section's name with what stands in quotes behind it; both may have dots, and the first of all separates.
fn split(name: &[u8], quoted: &str) -> (String, Option<String>) {
    let name = String::from_utf8_lossy(name).into_owned();
    match name.split_once('.') {
        Some((section, rest)) => (section.to_owned(), Some(format!("{rest}.{quoted}"))),
        None => (name, Some(quoted.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_as_git_reads_them() {
        let text = "[a]\n b = one \\\n two  # note\n c\n d = \"x;y\" z  \n[A \"S\\\"s\"] e = 1\n[old.Sub]\nf=2\n";
        let config = Config::parse(text.as_bytes(), Level::User).unwrap();
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
        assert_eq!(Config::parse(b"[a]\n b = \"x", Level::User), Err(ConfigError(2)));
        assert_eq!(Config::parse(b"\n= 1", Level::User), Err(ConfigError(2)));
    }
}
