//! What is looked for, built once and shared by every stream.
//!
//! ```text
//!  patterns ──► Aho–Corasick automaton over their bytes       state = the longest pattern's beginning that the input ends with
//!               live[state] = length of the longest PROPER beginning the input ends with = how much must be held back
//! ```
//!
//! The automaton is aho-corasick's uncompiled one, the only one whose states all patterns can be walked through; its own streaming search
//! knows no overlapping matches and copies all that it is given. A pattern's byte costs some 50 bytes of memory (30 MB for a value of 64 KiB in
//! all its forms; a usual one costs 30 KB). Those hold the values' bytes, too, and are freed without being wiped: a redactor lives in a process that holds the
//! values anyway.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::nfa::noncontiguous::NFA;
use aho_corasick::{Anchored, MatchKind};

use crate::forms::{Form, forms};
use crate::stream::RedactedStream;
use crate::value::SecretValue;

/// What stands where a value stood.
pub const REDACTED: &str = "[REDACTED]";

/// The most bytes of patterns of one redactor: half a dozen values of the longest kind in all their forms, or thousands of usual ones.
pub const PATTERN_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Replaces values in text. Clones share what was built. One without values copies nothing and looks at nothing.
///
/// Every byte that belongs to an occurrence of a value in one of its forms goes, whichever other occurrence it overlaps; occurrences that
/// overlap are replaced together, by what the leftmost of them (the longest, where two begin alike) is replaced by.
#[derive(Clone, Default)]
pub struct Redactor(pub(crate) Option<Arc<Table>>);

/// Why there can be no [`Redactor`] for some values.
#[derive(Debug, Clone, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the variants are")]
pub enum RedactorError {
    #[error("secrets are too large together to be looked for: their forms hold more than {PATTERN_BYTES_MAX} bytes")]
    TooLarge,
    #[error("cannot build the table that secrets are looked for with")]
    Build(#[source] aho_corasick::BuildError),
}

impl Redactor {
    /// Builds a redactor that replaces values by [`REDACTED`].
    ///
    /// # Errors
    ///
    /// If the values are too large together ([`PATTERN_BYTES_MAX`]).
    pub fn new<'a>(values: impl IntoIterator<Item = &'a SecretValue>) -> Result<Self, RedactorError> {
        Self::with_replacements(values.into_iter().map(|value| (value, REDACTED)))
    }

    /// Builds a redactor that replaces each value by its own text. Of values that have a form in common, the first counts.
    ///
    /// # Errors
    ///
    /// If the values are too large together ([`PATTERN_BYTES_MAX`]).
    pub fn with_replacements<'a>(pairs: impl IntoIterator<Item = (&'a SecretValue, &'a str)>) -> Result<Self, RedactorError> {
        let mut replacements: Vec<Box<[u8]>> = Vec::new();
        let mut patterns: Vec<Pattern> = Vec::new();
        let mut pattern_bytes = 0;
        for (value, replacement) in pairs {
            replacements.push(replacement.as_bytes().into());
            for form in forms(value) {
                pattern_bytes += form.len();
                if pattern_bytes > PATTERN_BYTES_MAX {
                    return Err(RedactorError::TooLarge);
                }
                patterns.push(Pattern { form, replacement: replacements.len() - 1 });
            }
        }
        if patterns.is_empty() {
            return Ok(Self(None));
        }
        Ok(Self(Some(Arc::new(Table::new(patterns, replacements)?))))
    }

    /// Returns whether nothing is looked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Returns the most bytes that a stream of this redactor ever holds back.
    #[must_use]
    pub fn held_bytes_max(&self) -> usize {
        self.0.as_ref().map_or(0, |table| table.longest() - 1)
    }

    /// Returns a fresh stream: chunks in, what may be shown of them out.
    #[must_use]
    pub fn stream(&self) -> RedactedStream {
        RedactedStream::new(self.clone())
    }

    /// Returns bytes that are complete in themselves without the values.
    #[must_use]
    pub fn redact_bytes<'t>(&self, bytes: &'t [u8]) -> Cow<'t, [u8]> {
        let mut stream = self.stream();
        let shown = stream.push(bytes);
        if shown.len() == bytes.len() && matches!(shown, Cow::Borrowed(_)) {
            return Cow::Borrowed(bytes);
        }
        let mut shown = shown.into_owned();
        shown.extend(stream.finish());
        Cow::Owned(shown)
    }

    /// Returns text that is complete in itself without the values.
    #[must_use]
    pub fn redact_text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match self.redact_bytes(text.as_bytes()) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            Cow::Owned(bytes) => Cow::Owned(String::from_utf8(bytes).expect("text of which whole texts are replaced by texts stays text")),
        }
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let replacements = self.0.as_ref().map_or(0, |table| table.replacements.len());
        formatter.debug_struct("Redactor").field("values", &replacements).finish_non_exhaustive()
    }
}

struct Pattern {
    form: Form,
    replacement: usize,
}

/// The automaton and what is known of its states.
pub(crate) struct Table {
    automaton: NFA,
    start: StateID,
    /// By byte: whether a pattern begins with it.
    begins: [bool; 256],
    /// By state: how many bytes before it may be the beginning of a longer match.
    live: Vec<u32>,
    /// By pattern: which replacement.
    replacement_of: Vec<usize>,
    replacements: Vec<Box<[u8]>>,
    longest: usize,
}

/// A pattern that ends at the current byte.
pub(crate) struct Found {
    pub(crate) length: usize,
    pub(crate) replacement: usize,
}

impl Table {
    fn new(mut patterns: Vec<Pattern>, replacements: Vec<Box<[u8]>>) -> Result<Self, RedactorError> {
        // Shortest first, as `live` needs them; stable, so that of two values with one form the first counts.
        patterns.sort_by(|one, other| (one.form.len(), &one.form[..]).cmp(&(other.form.len(), &other.form[..])));
        patterns.dedup_by(|later, earlier| later.form == earlier.form);
        let longest = patterns.last().map_or(0, |pattern| pattern.form.len());
        // `Standard` keeps every state below a match, which the leftmost kinds prune.
        let automaton = NFA::builder()
            .match_kind(MatchKind::Standard)
            .prefilter(false)
            .build(patterns.iter().map(|pattern| &pattern.form[..]))
            .map_err(RedactorError::Build)?;
        let start = automaton.start_state(Anchored::No).map_err(|_| RedactorError::TooLarge)?;
        let mut begins = [false; 256];
        for pattern in &patterns {
            begins[usize::from(pattern.form[0])] = true;
        }
        let mut table = Self {
            automaton,
            start,
            begins,
            live: Vec::new(),
            replacement_of: patterns.iter().map(|pattern| pattern.replacement).collect(),
            replacements,
            longest,
        };
        table.measure(&patterns);
        Ok(table)
    }

    /// Fills `live`: the depth of each state that a pattern goes on from, and for each that none does that of the longest end of its
    /// pattern that is such a state.
    fn measure(&mut self, patterns: &[Pattern]) {
        for pattern in patterns {
            let mut state = self.start;
            for (depth, byte) in (1_u32..).zip(&pattern.form[..pattern.form.len() - 1]) {
                state = self.next(state, *byte);
                self.set_live(state, depth);
            }
        }
        for pattern in patterns {
            let last = pattern.form.iter().fold(self.start, |state, byte| self.next(state, *byte));
            if self.live(last) == 0 {
                // Shorter patterns have been seen to, and whatever this one ends with is shorter.
                let end = pattern.form[1..].iter().fold(self.start, |state, byte| self.next(state, *byte));
                self.set_live(last, self.live.get(end.as_usize()).copied().unwrap_or(0));
            }
        }
    }

    fn set_live(&mut self, state: StateID, depth: u32) {
        let index = state.as_usize();
        if self.live.len() <= index {
            self.live.resize(index + 1, 0);
        }
        self.live[index] = depth;
    }

    pub(crate) fn start(&self) -> StateID {
        self.start
    }

    pub(crate) fn next(&self, state: StateID, byte: u8) -> StateID {
        self.automaton.next_state(Anchored::No, state, byte)
    }

    /// Returns how many of the bytes that led to a state may be the beginning of a match that is not complete.
    pub(crate) fn live(&self, state: StateID) -> usize {
        self.live.get(state.as_usize()).map_or(0, |depth| *depth as usize)
    }

    /// Returns the longest pattern that ends at a state.
    pub(crate) fn found(&self, state: StateID) -> Option<Found> {
        if !self.automaton.is_match(state) {
            return None;
        }
        (0..self.automaton.match_len(state))
            .map(|index| self.automaton.match_pattern(state, index))
            .max_by_key(|pattern| self.automaton.pattern_len(*pattern))
            .map(|pattern| Found { length: self.automaton.pattern_len(pattern), replacement: self.replacement_of[pattern.as_usize()] })
    }

    /// Returns whether a pattern begins with a byte.
    pub(crate) fn begins(&self, byte: u8) -> bool {
        self.begins[usize::from(byte)]
    }

    pub(crate) fn replacement(&self, index: usize) -> &[u8] {
        &self.replacements[index]
    }

    pub(crate) fn longest(&self) -> usize {
        self.longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::VALUE_BYTES_MAX;

    fn value(text: &str) -> SecretValue {
        SecretValue::new(text.to_owned()).unwrap()
    }

    fn check(values: &[&str], text: &str, expected: &str) {
        let values: Vec<SecretValue> = values.iter().map(|text| value(text)).collect();
        assert_eq!(Redactor::new(&values).unwrap().redact_text(text), expected);
    }

    #[test]
    fn values_are_replaced() {
        check(&["canary"], "a canary, two canarycanary", "a [REDACTED], two [REDACTED][REDACTED]");
        check(&["canary"], "canar", "canar");
        check(&["é"], "café", "caf[REDACTED]");
        check(&[], "canary", "canary");
    }

    #[test]
    fn a_value_within_another_leaves_nothing_of_either() {
        check(&["abc", "abcdef"], "abcdef abcde abc", "[REDACTED] [REDACTED]de [REDACTED]");
        check(&["abcdef", "cd"], "abcdef cd abcd", "[REDACTED] [REDACTED] ab[REDACTED]");
        check(&["abcd", "cdef"], "abcdef", "[REDACTED]");
        check(&["aa"], "aaaaa", "[REDACTED]");
    }

    #[test]
    fn a_value_that_looks_redacted_is_replaced() {
        check(&["[REDACTED]"], "[REDACTED]", "[REDACTED]");
        check(&["<[REDACTED]>"], "a<[REDACTED]>b", "a[REDACTED]b");
    }

    #[test]
    fn other_forms_are_replaced() {
        check(&["one\ntwo\n"], "one\r\ntwo\r\n$ one\ntwo.", "[REDACTED]$ [REDACTED].");
        check(&["pass\"word"], r#"{"a":"pass\"word"} ?p=pass%22word"#, r#"{"a":"[REDACTED]"} ?p=[REDACTED]"#);
        // `user:hunter2hunter2` and `hunter2hunter2`.
        check(&["hunter2hunter2"], "Basic dXNlcjpodW50ZXIyaHVudGVyMg== aHVudGVyMmh1bnRlcjI=", "Basic dXNlcjp[REDACTED]== [REDACTED]=");
    }

    #[test]
    fn replacements_are_each_values_own() {
        let (one, two) = (value("first-value"), value("second-value"));
        let redactor = Redactor::with_replacements([(&one, "<1>"), (&two, "<2>")]).unwrap();
        assert_eq!(redactor.redact_text("second-value first-value"), "<2> <1>");
    }

    #[test]
    fn nothing_found_is_nothing_copied() {
        assert!(matches!(Redactor::new(&[value("canary")]).unwrap().redact_text("no such bird"), Cow::Borrowed(_)));
        assert!(Redactor::new([]).unwrap().is_empty());
    }

    #[test]
    fn values_are_not_shown_by_debug() {
        assert_eq!(format!("{:?}", Redactor::new(&[value("canary")]).unwrap()), "Redactor { values: 1, .. }");
    }

    #[test]
    fn the_longest_values_fit_and_too_many_are_refused() {
        let long: Vec<SecretValue> = (0..10).map(|index: usize| value(&index.to_string().repeat(VALUE_BYTES_MAX))).collect();
        let redactor = Redactor::new(&long[..2]).unwrap();
        assert_eq!(redactor.redact_text(&format!("a{}b", long[1].expose())), "a[REDACTED]b");
        let many: Vec<SecretValue> = (0..200).map(|index| value(&format!("{index}{}", "\u{1}".repeat(60_000)))).collect();
        assert!(matches!(Redactor::new(&many), Err(RedactorError::TooLarge)));
    }
}
