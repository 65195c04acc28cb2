//! One stream: chunks in, what may be shown of them out.
//!
//! ```text
//!   … shown │ held back: the beginning of a value, perhaps │ not yet come
//!           base                                        position
//! ```
//!
//! Positions count from the beginning of the stream. Matches become marks, which overlap none of each other; a mark that reaches into
//! what is held back has been shown as its replacement and waits for the next match that overlaps it.

use std::borrow::Cow;

use aho_corasick::automaton::StateID;

use crate::redactor::{Redactor, Table};

/// Bytes of one stream without the values of a [`Redactor`].
///
/// Holds back what may be the beginning of a value, which is less than the longest form of the longest value, and nothing else. The time is
/// proportional to the bytes, whatever they are.
#[derive(Debug)]
pub struct RedactedStream {
    redactor: Redactor,
    state: Option<StateID>,
    /// What came and was not shown.
    held: Vec<u8>,
    /// Where in the stream `held` begins.
    base: u64,
    marks: Vec<Mark>,
}

/// Bytes that are not to be shown.
#[derive(Debug, Clone, Copy)]
struct Mark {
    start: u64,
    end: u64,
    /// What is shown for them; none if it has been.
    replacement: Option<usize>,
}

impl RedactedStream {
    pub(crate) fn new(redactor: Redactor) -> Self {
        let state = redactor.0.as_ref().map(|table| table.start());
        Self { redactor, state, held: Vec::new(), base: 0, marks: Vec::new() }
    }

    /// Takes the next bytes and returns what may be shown now: part of them, if nothing was held back and no value is in them.
    pub fn push<'c>(&mut self, chunk: &'c [u8]) -> Cow<'c, [u8]> {
        let (Some(table), Some(state)) = (self.redactor.0.clone(), self.state) else { return Cow::Borrowed(chunk) };
        let state = self.scan(&table, state, chunk);
        self.state = Some(state);
        let live = table.live(state);
        if self.held.is_empty() && self.marks.is_empty() {
            let (shown, held) = chunk.split_at(chunk.len() - live);
            self.held.extend_from_slice(held);
            self.base += shown.len() as u64;
            return Cow::Borrowed(shown);
        }
        self.held.extend_from_slice(chunk);
        Cow::Owned(self.show(&table, self.held.len() - live))
    }

    /// Returns how many bytes are held back.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held.len()
    }

    /// Returns what was held back, and begins a new stream.
    pub fn finish(&mut self) -> Vec<u8> {
        let Some(table) = self.redactor.0.clone() else { return Vec::new() };
        let shown = self.show(&table, self.held.len());
        self.state = Some(table.start());
        self.marks.clear();
        shown
    }

    /// Walks the automaton over a chunk and marks what matches. Returns the state it ends in.
    fn scan(&mut self, table: &Table, mut state: StateID, chunk: &[u8]) -> StateID {
        let before = self.base + self.held.len() as u64;
        let mut at = 0;
        while at < chunk.len() {
            if state == table.start() {
                // Most bytes begin nothing, and need no step of the automaton.
                at += chunk[at..].iter().position(|byte| table.begins(*byte)).unwrap_or(chunk.len() - at);
                if at == chunk.len() {
                    break;
                }
            }
            state = table.next(state, chunk[at]);
            at += 1;
            if let Some(found) = table.found(state) {
                let end = before + at as u64;
                self.mark(Mark { start: end - found.length as u64, end, replacement: Some(found.replacement) });
            }
        }
        state
    }

    /// Adds a match, which ends where no earlier one did, to the marks, and joins those that it overlaps.
    fn mark(&mut self, mut mark: Mark) {
        while let Some(last) = self.marks.pop_if(|last| mark.start < last.end) {
            // What has been shown for a mark stands for all that overlaps it; no match begins before what has been shown.
            if last.start < mark.start || last.replacement.is_none() {
                mark = Mark { end: mark.end, ..last };
            }
        }
        self.marks.push(mark);
    }

    /// Returns what is to be shown of the first `length` bytes that are held, and forgets them. No match may begin before their end.
    fn show(&mut self, table: &Table, length: usize) -> Vec<u8> {
        let cut = self.base + length as u64;
        let mut shown = Vec::with_capacity(length);
        let mut position = self.base;
        self.marks.retain_mut(|mark| {
            // What begins in what stays held may yet be joined by a longer match.
            if mark.start >= cut {
                return true;
            }
            shown.extend_from_slice(&self.held[(position - self.base) as usize..(mark.start - self.base) as usize]);
            if let Some(replacement) = mark.replacement.take() {
                shown.extend_from_slice(table.replacement(replacement));
            }
            position = mark.end.min(cut);
            mark.start = cut;
            mark.end > cut
        });
        shown.extend_from_slice(&self.held[(position - self.base) as usize..length]);
        self.held.drain(..length);
        self.base = cut;
        shown
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::value::SecretValue;

    fn redactor(values: &[String]) -> Redactor {
        let values: Vec<SecretValue> = values.iter().map(|text| SecretValue::new(text.clone()).unwrap()).collect();
        Redactor::new(&values).unwrap()
    }

    /// Returns what is shown of the chunks, having checked that no more is held back than may be.
    fn shown<'c>(redactor: &Redactor, chunks: impl IntoIterator<Item = &'c [u8]>) -> Vec<u8> {
        let mut stream = redactor.stream();
        let mut shown = Vec::new();
        for chunk in chunks {
            shown.extend_from_slice(&stream.push(chunk));
            assert!(stream.held_bytes() <= redactor.held_bytes_max());
        }
        shown.extend(stream.finish());
        shown
    }

    /// The same, slowly: marks the bytes of every occurrence, joins those that overlap.
    fn plainly(values: &[String], text: &[u8]) -> Vec<u8> {
        let forms: Vec<_> = values.iter().flat_map(|text| crate::forms::forms(&SecretValue::new(text.clone()).unwrap())).collect();
        let mut covered = vec![false; text.len()];
        // Whether an occurrence reaches from the byte before into this one.
        let mut joined = vec![false; text.len()];
        for form in &forms {
            for at in 0..(text.len() + 1).saturating_sub(form.len()) {
                if text[at..].starts_with(form) {
                    covered[at..at + form.len()].fill(true);
                    joined[at + 1..at + form.len()].fill(true);
                }
            }
        }
        let mut shown = Vec::new();
        for (at, byte) in text.iter().enumerate() {
            if !covered[at] {
                shown.push(*byte);
            } else if !joined[at] {
                shown.extend(b"[REDACTED]");
            }
        }
        shown
    }

    fn cut(text: &[u8], lengths: &[usize]) -> Vec<Vec<u8>> {
        let mut chunks = Vec::new();
        let mut rest = text;
        for length in lengths.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (chunk, after) = rest.split_at((*length).min(rest.len()));
            chunks.push(chunk.to_vec());
            rest = after;
        }
        chunks
    }

    #[test]
    fn what_cannot_begin_a_value_is_passed_on_at_once() {
        let redactor = redactor(&["canary".to_owned()]);
        let mut stream = redactor.stream();
        assert!(matches!(stream.push(b"no such bird: ca"), Cow::Borrowed(b"no such bird: ")));
        assert_eq!(&*stream.push(b"n"), b"");
        assert_eq!(&*stream.push(b"\n$ "), b"can\n$ ");
        assert!(matches!(stream.push(b"more"), Cow::Borrowed(b"more")));
        assert!(stream.finish().is_empty());
    }

    #[test]
    fn a_longer_value_is_waited_for_and_a_shorter_one_taken_when_it_does_not_come() {
        let redactor = redactor(&["abc".to_owned(), "abcde".to_owned()]);
        let mut stream = redactor.stream();
        assert_eq!(&*stream.push(b"xabcd"), b"x");
        assert_eq!(&*stream.push(b"x"), b"[REDACTED]dx");
        assert_eq!(&*stream.push(b"abcd"), b"");
        assert_eq!(stream.finish(), b"[REDACTED]d");
    }

    #[test]
    fn a_value_that_goes_on_and_on_is_not_gathered() {
        let redactor = redactor(&["aa".to_owned()]);
        let mut stream = redactor.stream();
        let mut shown = Vec::new();
        for _ in 0..1000 {
            shown.extend_from_slice(&stream.push(b"aaa"));
            assert!(stream.held.len() < 2 && stream.marks.len() < 2);
        }
        shown.extend(stream.finish());
        assert_eq!(shown, b"[REDACTED]");
    }

    proptest! {
        #[test]
        fn any_chunks_show_what_a_plain_search_shows(
            values in prop::collection::vec("[ab]{1,5}|[a-c]{6,9}|[ab\n]{1,8}|é[aé]{0,3}", 0..5),
            pieces in prop::collection::vec((0_usize..6, "[abc\r\n%0ADé]{0,6}"), 0..12),
            lengths in prop::collection::vec(1_usize..7, 1..6),
        ) {
            let forms: Vec<Vec<u8>> = values
                .iter()
                .flat_map(|text| crate::forms::forms(&SecretValue::new(text.clone()).unwrap()))
                .map(|form| form.to_vec())
                .collect();
            let mut text = Vec::new();
            for (index, between) in &pieces {
                text.extend(between.bytes());
                text.extend(forms.get(index * 7 % forms.len().max(1)).into_iter().flatten());
            }
            let redactor = redactor(&values);
            let expected = plainly(&values, &text);
            prop_assert_eq!(&shown(&redactor, [&text[..]]), &expected);
            let chunks = cut(&text, &lengths);
            prop_assert_eq!(&shown(&redactor, chunks.iter().map(Vec::as_slice)), &expected);
            prop_assert_eq!(&*redactor.redact_bytes(&text), &expected);
            for form in forms {
                prop_assert!(!expected.windows(form.len()).any(|window| window == form));
            }
        }

        #[test]
        fn text_stays_text(value in "\\PC{1,12}", before in "\\PC{0,12}", after in "\\PC{0,12}") {
            let redactor = redactor(std::slice::from_ref(&value));
            let text = format!("{before}{value}{after}");
            prop_assert!(redactor.redact_text(&text).contains("[REDACTED]"));
        }

        #[test]
        fn long_stretches_are_skipped_rightly(
            values in prop::collection::vec("[xyz]{3,12}", 1..4), gaps in prop::collection::vec(0_usize..400, 1..6), length in 1_usize..300
        ) {
            let mut text = Vec::new();
            for (index, gap) in gaps.iter().enumerate() {
                text.extend(b"the quick brown fog ".iter().cycle().take(*gap));
                text.extend(values[index % values.len()].bytes());
            }
            let expected = plainly(&values, &text);
            let redactor = redactor(&values);
            prop_assert_eq!(&shown(&redactor, [&text[..]]), &expected);
            prop_assert_eq!(&shown(&redactor, text.chunks(length)), &expected);
        }
    }
}
