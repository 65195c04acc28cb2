//! Values of secrets: one buffer, wiped when its last holder lets go.

use std::fmt;
use std::sync::Arc;

use zeroize::{Zeroize, Zeroizing};

/// The longest value, in bytes: room for a chain of certificates with its key.
pub const VALUE_BYTES_MAX: usize = 64 * 1024;

/// The shortest value that is taken from a user, in bytes without the white space around it.
///
/// A value is taken out of all output wherever it stands, also where it stands by chance. Three letters do so every few pages, and a digit in
/// every line; what is left cannot be read. Nothing that keeps anybody out is that short: a PIN has four digits, a one-time code six.
pub const VALUE_BYTES_MIN: usize = 4;

/// A secret's value: UTF-8, 1 to [`VALUE_BYTES_MAX`] bytes. Clones share one buffer, which is wiped with the last of them.
///
/// There is no `Display`, no comparison and no serialization: whoever needs the text says so with [`SecretValue::expose`].
#[derive(Clone)]
pub struct SecretValue(Arc<Zeroizing<String>>);

/// Why something is not a [`SecretValue`]. No message holds any of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the variants are")]
pub enum SecretValueError {
    #[error("a secret's value cannot be empty")]
    Empty,
    #[error("a secret's value holds at most {VALUE_BYTES_MAX} bytes")]
    TooLong,
    #[error("a secret's value must be UTF-8 text")]
    NotText,
}

impl SecretValue {
    /// Takes a value over; its buffer is wiped whether or not it is one.
    ///
    /// # Errors
    ///
    /// If it is empty or longer than [`VALUE_BYTES_MAX`].
    pub fn new(text: String) -> Result<Self, SecretValueError> {
        let text = Zeroizing::new(text);
        match text.len() {
            0 => Err(SecretValueError::Empty),
            1..=VALUE_BYTES_MAX => Ok(Self(Arc::new(text))),
            _ => Err(SecretValueError::TooLong),
        }
    }

    /// Takes the content of a file over; its buffer is wiped whether or not it is a value.
    ///
    /// # Errors
    ///
    /// If it is empty, longer than [`VALUE_BYTES_MAX`] or not UTF-8.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, SecretValueError> {
        match String::from_utf8(bytes) {
            Ok(text) => Self::new(text),
            Err(error) => {
                error.into_bytes().zeroize();
                Err(SecretValueError::NotText)
            }
        }
    }

    /// Tells whether it is shorter than a value that a user may give. Those from before there was a least length are still handed on.
    #[must_use]
    pub fn is_too_short(&self) -> bool {
        self.0.trim().len() < VALUE_BYTES_MIN
    }

    /// Returns the value itself. What is made of it is the caller's to wipe.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(crate::REDACTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_stands_everywhere_by_chance_is_too_short() {
        for (text, short) in
            [("a", true), ("   ", true), ("abc", true), (" abc\n", true), ("1234", false), ("a b c", false), ("\u{e4}\u{f6}", false)]
        {
            assert_eq!(SecretValue::new(text.to_owned()).unwrap().is_too_short(), short, "{text:?}");
        }
    }

    #[test]
    fn a_value_is_not_shown_by_debug() {
        let value = SecretValue::new("canary".to_owned()).unwrap();
        assert_eq!(format!("{value:?} {:?}", Some(&value)), "[REDACTED] Some([REDACTED])");
        assert_eq!(value.clone().expose(), "canary");
    }

    #[test]
    fn what_is_no_value_is_said_to_be_none() {
        let check = |bytes: &[u8], expected| assert_eq!(SecretValue::from_bytes(bytes.to_vec()).unwrap_err(), expected);
        check(b"", SecretValueError::Empty);
        check(b"a\xff", SecretValueError::NotText);
        check(&vec![b'a'; VALUE_BYTES_MAX + 1], SecretValueError::TooLong);
        assert_eq!(SecretValue::from_bytes(vec![b'a'; VALUE_BYTES_MAX]).unwrap().expose().len(), VALUE_BYTES_MAX);
    }
}
