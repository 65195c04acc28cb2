//! A file's bytes as lines, four bytes for each: a file of 32 MiB may consist of line ends.

/// Bytes and where their lines begin. A line keeps its line end; the last one may have none.
pub(super) struct Text<'a> {
    bytes: &'a [u8],
    /// One more than there are lines: the last is the end.
    starts: Vec<u32>,
}

impl<'a> Text<'a> {
    /// Returns `None` for what no `u32` can measure.
    pub(super) fn new(bytes: &'a [u8]) -> Option<Self> {
        let end = u32::try_from(bytes.len()).ok()?;
        let mut starts = vec![0];
        for newline in memchr::memchr_iter(b'\n', bytes) {
            starts.push(u32::try_from(newline + 1).ok()?);
        }
        if starts.last() != Some(&end) {
            starts.push(end);
        }
        Some(Self { bytes, starts })
    }

    pub(super) fn len(&self) -> usize {
        self.starts.len() - 1
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn line(&self, at: usize) -> &'a [u8] {
        self.range(at, at + 1)
    }

    /// Returns the bytes of the lines `from..to`.
    pub(super) fn range(&self, from: usize, to: usize) -> &'a [u8] {
        &self.bytes[self.starts[from] as usize..self.starts[to] as usize]
    }

    pub(super) fn lines(&self) -> impl Iterator<Item = &'a [u8]> {
        (0..self.len()).map(|at| self.line(at))
    }

    /// Returns whether `wanted` stands at line `at`.
    pub(super) fn has(&self, wanted: &[&[u8]], at: usize) -> bool {
        at.checked_add(wanted.len()).is_some_and(|end| end <= self.len())
            && wanted.iter().enumerate().all(|(offset, wanted)| self.line(at + offset) == *wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_split_inclusive() {
        for bytes in [&b""[..], b"\n", b"a", b"a\nb", b"a\n\nb\n"] {
            let text = Text::new(bytes).unwrap();
            assert_eq!(text.lines().collect::<Vec<_>>(), bytes.split_inclusive(|byte| *byte == b'\n').collect::<Vec<_>>());
        }
    }
}
