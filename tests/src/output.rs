//! What a finished `pyro` said.

use serde_json::Value;

/// Exit code and both streams of a finished command.
#[derive(Debug, Clone)]
pub struct Output {
    /// Exit code; a signal counts as 128 + its number.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Returns standard output as text, without the last newline.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }

    /// Parses standard output as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }

    /// Asserts success.
    #[must_use]
    pub fn ok(self) -> Self {
        self.code(0)
    }

    /// Asserts an exit code.
    #[must_use]
    pub fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", String::from_utf8_lossy(&self.stdout), self.stderr);
        self
    }
}
