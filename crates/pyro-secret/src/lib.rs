//! Secrets in memory: values that are wiped and never printed, and streams out of which they are taken.
//!
//! [`SecretValue`] is the only type in which a secret travels within Pyro. It has no `Display`, its `Debug` says `[REDACTED]`, and its
//! one buffer is wiped when the last holder lets go. [`Redactor`] replaces values, in the forms that terminals, JSON, URLs and base64 give
//! them, in bytes that arrive in chunks.
//!
//! What this crate cannot promise: a redactor finds a value and its usual encodings, not what a program makes of it (reversed, compressed,
//! encrypted, one letter a line). It keeps accidents out of logs; it is no wall against a guest that wants to tell a secret it has.

mod forms;
mod name;
mod redactor;
mod stream;
mod value;

pub use name::{NAME_BYTES_MAX, SecretName, SecretNameError};
pub use redactor::{PATTERN_BYTES_MAX, REDACTED, Redactor, RedactorError};
pub use stream::RedactedStream;
pub use value::{SecretValue, SecretValueError, VALUE_BYTES_MAX, VALUE_BYTES_MIN};
