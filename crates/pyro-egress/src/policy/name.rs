//! Domain names as rules and events hold them: lower case, printable, bounded.
//!
//! DNS lets a label hold any octet. Names that programs look up hold letters, digits, hyphens and underscores (internationalised ones
//! come as `xn--`), so everything else is refused at the door, and no name that got in needs escaping in a log, an event or a 403 body.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The longest name in presentation form, without the final dot (RFC 1035, 2.3.4: 255 octets on the wire).
pub const NAME_LENGTH_MAX: usize = 253;
/// The longest label (RFC 1035, 2.3.4).
pub const LABEL_LENGTH_MAX: usize = 63;

/// A domain name: lower case, no final dot, at least one label that is not all digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// Why a text is not a [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the variants are")]
pub enum NameError {
    #[error("a name cannot be empty")]
    Empty,
    #[error("a name holds at most {NAME_LENGTH_MAX} characters")]
    TooLong,
    #[error("each part of a name holds 1 to {LABEL_LENGTH_MAX} characters")]
    BadLabel,
    #[error("a name holds only letters, digits, hyphens, underscores and dots (write other scripts as xn--…)")]
    BadCharacter,
    #[error("a name does not end in a number: that is how addresses are written")]
    Numeric,
}

impl Name {
    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether this name lies below `suffix`, at any depth; a name does not lie below itself.
    #[must_use]
    pub fn is_below(&self, suffix: &Self) -> bool {
        self.part_below(suffix).is_some()
    }

    /// Returns what precedes `.suffix` in this name, if it lies below it.
    #[must_use]
    pub fn part_below(&self, suffix: &Self) -> Option<&str> {
        self.0.strip_suffix(suffix.as_str())?.strip_suffix('.')
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > NAME_LENGTH_MAX {
            return Err(NameError::TooLong);
        }
        if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')) {
            return Err(NameError::BadCharacter);
        }
        if text.split('.').any(|label| label.is_empty() || label.len() > LABEL_LENGTH_MAX) {
            return Err(NameError::BadLabel);
        }
        // `inet_aton` and URL parsers read `1`, `0x7f.1` and `10.0.0.1` as addresses, so no such text may pass as a name.
        let last = text.rsplit('.').next().unwrap_or(text);
        let hexadecimal = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
        if last.bytes().all(|byte| byte.is_ascii_digit())
            || hexadecimal.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
        {
            return Err(NameError::Numeric);
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_lower_case_and_loses_its_final_dot() {
        assert_eq!("API.Example.COM.".parse::<Name>().unwrap().as_str(), "api.example.com");
        assert_eq!("_dmarc.xn--bcher-kva.example".parse::<Name>().unwrap().as_str(), "_dmarc.xn--bcher-kva.example");
    }

    #[test]
    fn what_is_no_name_is_said_to_be_none() {
        let check = |text: &str, expected: NameError| assert_eq!(text.parse::<Name>(), Err(expected), "{text:?}");
        check("", NameError::Empty);
        check(".", NameError::Empty);
        check("a..b", NameError::BadLabel);
        check(".a", NameError::BadLabel);
        check(&"a".repeat(64), NameError::BadLabel);
        check(&["a"; 128].join("."), NameError::TooLong);
        check("a b.example", NameError::BadCharacter);
        check("a\n.example", NameError::BadCharacter);
        check("bücher.example", NameError::BadCharacter);
        check("10.0.0.1", NameError::Numeric);
        check("2130706433", NameError::Numeric);
        check("0x7f000001", NameError::Numeric);
        check("host.0x7F", NameError::Numeric);
    }

    #[test]
    fn only_whole_labels_lie_below_a_suffix() {
        let suffix: Name = "example.org".parse().unwrap();
        let below = |text: &str| text.parse::<Name>().unwrap().is_below(&suffix);
        assert!(below("a.example.org"));
        assert!(below("a.b.example.org"));
        assert!(!below("example.org"));
        assert!(!below("badexample.org"));
        assert!(!below("example.org.evil.test"));
    }
}
