//! Names of secrets: what is told of a secret outside of the supervisor, and what file and variable it becomes in the guest.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The longest name, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// A secret's name: `[A-Za-z_][A-Za-z0-9_]*`, at most [`NAME_BYTES_MAX`] long. Safe as a file's name and as an environment variable's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretName(Arc<str>);

/// Why a text is not a [`SecretName`]. The text is in no message: whoever swaps name and value must not find the value in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the variants are")]
pub enum SecretNameError {
    #[error("a secret's name cannot be empty")]
    Empty,
    #[error("a secret's name holds at most {NAME_BYTES_MAX} characters")]
    TooLong,
    #[error("a secret's name holds only letters, digits and underscores, and does not begin with a digit")]
    BadCharacter,
}

impl SecretName {
    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SecretName {
    type Err = SecretNameError;

    fn from_str(text: &str) -> Result<Self, SecretNameError> {
        if text.is_empty() {
            return Err(SecretNameError::Empty);
        }
        if text.len() > NAME_BYTES_MAX {
            return Err(SecretNameError::TooLong);
        }
        let good = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !good || text.starts_with(|first: char| first.is_ascii_digit()) {
            return Err(SecretNameError::BadCharacter);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_variables() {
        for text in ["A", "_", "API_TOKEN", "api_token2", &"a".repeat(64)] {
            assert_eq!(text.parse::<SecretName>().unwrap().to_string(), text);
        }
        let check = |text: &str, expected: SecretNameError| assert_eq!(text.parse::<SecretName>(), Err(expected), "{text:?}");
        check("", SecretNameError::Empty);
        check(&"a".repeat(65), SecretNameError::TooLong);
        for text in ["1A", "A-B", "A B", "A=B", "../A", "A\n", "Ä"] {
            check(text, SecretNameError::BadCharacter);
        }
    }
}
