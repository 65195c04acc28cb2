//! Git's patterns: `*`, `?`, sets in brackets, and `**` where a whole component is one. A brace is a brace.
//!
//! A pattern is compiled to the states of an automaton, and a text moves all of them at once, so that `*a*a*a*a*` costs its length for each
//! byte of the text and no more. The odd ends are Git's, and compared with it in `tests`: a set that is not closed matches nothing, an escaped
//! capital matches nothing where case does not count, `[[:space:]]` has no vertical tab.

/// Whether capitals and small letters differ, as `core.ignoreCase` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Case {
    Sensitive,
    Folded,
}

/// Whether a slash is more than a character: only `**` crosses one then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slash {
    Separates,
    Plain,
}

/// What one state waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Byte(u8),
    AnyByte,
    Set(Box<Set>),
    /// Any bytes, none as well.
    Any,
    /// Any bytes but slashes.
    AnyInName,
    /// The next two tokens may be skipped.
    Optional,
}

/// The bytes a set in brackets takes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Set([bool; 256]);

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Glob {
    /// `None` when nothing can match.
    tokens: Option<Vec<Token>>,
    case: Case,
    slash: Slash,
    /// Shortest text that can match.
    shortest: usize,
}

/// Longest text that is ever asked about: a path. Patterns that need more are not kept.
const TEXT_MAX_BYTES: usize = crate::path::PATH_MAX_BYTES;

/// Returns whether a byte means something in a pattern.
pub(crate) const fn is_special(byte: u8) -> bool {
    matches!(byte, b'*' | b'?' | b'[' | b'\\')
}

impl Glob {
    pub(crate) fn new(pattern: &[u8], case: Case, slash: Slash) -> Self {
        let tokens = compile(pattern, case, slash);
        let consumes = |token: &&Token| matches!(token, Token::Byte(_) | Token::AnyByte | Token::Set(_));
        let optional = tokens.iter().flatten().filter(|token| matches!(token, Token::Optional)).count();
        // Of what may be skipped, the slash is counted among the bytes.
        let shortest = tokens.iter().flatten().filter(consumes).count() - optional;
        let tokens = tokens.filter(|_| shortest <= TEXT_MAX_BYTES);
        Self { tokens, case, slash, shortest }
    }

    pub(crate) fn matches(&self, text: &[u8]) -> bool {
        let Some(tokens) = &self.tokens else { return false };
        if text.len() < self.shortest {
            return false;
        }
        let mut states = States::new(tokens.len() + 1);
        states.add(0);
        states.follow(tokens);
        let mut next = States::new(tokens.len() + 1);
        for byte in text {
            let byte = if self.case == Case::Folded { byte.to_ascii_lowercase() } else { *byte };
            let separates = byte == b'/' && self.slash == Slash::Separates;
            next.clear();
            let mut any = false;
            states.each(|state| {
                let (stays, moves) = match tokens.get(state) {
                    None | Some(Token::Optional) => (false, false),
                    Some(Token::Byte(wanted)) => (false, *wanted == byte),
                    Some(Token::AnyByte) => (false, !separates),
                    Some(Token::Set(set)) => (false, !separates && set.0[usize::from(byte)]),
                    Some(Token::Any) => (true, false),
                    Some(Token::AnyInName) => (byte != b'/', false),
                };
                if stays {
                    next.add(state);
                }
                if moves {
                    next.add(state + 1);
                }
                any |= stays || moves;
            });
            if !any {
                return false;
            }
            next.follow(tokens);
            std::mem::swap(&mut states, &mut next);
        }
        states.has(tokens.len())
    }
}

/// A set of states, one bit each.
struct States(Vec<u64>);

impl States {
    fn new(count: usize) -> Self {
        Self(vec![0; count.div_ceil(64)])
    }

    fn clear(&mut self) {
        self.0.fill(0);
    }

    fn add(&mut self, state: usize) {
        self.0[state / 64] |= 1 << (state % 64);
    }

    fn has(&self, state: usize) -> bool {
        self.0[state / 64] >> (state % 64) & 1 == 1
    }

    fn each(&self, mut visit: impl FnMut(usize)) {
        for (index, word) in self.0.iter().enumerate() {
            let mut word = *word;
            while word != 0 {
                visit(index * 64 + word.trailing_zeros() as usize);
                word &= word - 1;
            }
        }
    }

    /// Adds the states that are reached without a byte. They all lie further on, so one pass finds them.
    fn follow(&mut self, tokens: &[Token]) {
        for index in 0..self.0.len() {
            let mut seen = 0;
            while self.0[index] & !seen != 0 {
                let bit = (self.0[index] & !seen).trailing_zeros() as usize;
                seen |= 1 << bit;
                let state = index * 64 + bit;
                match tokens.get(state) {
                    Some(Token::Any | Token::AnyInName) => self.add(state + 1),
                    Some(Token::Optional) => {
                        self.add(state + 1);
                        self.add(state + 3);
                    }
                    Some(Token::Byte(_) | Token::AnyByte | Token::Set(_)) | None => {}
                }
            }
        }
    }
}

/// Compiles a pattern; `None` when it can match nothing.
fn compile(pattern: &[u8], case: Case, slash: Slash) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = pattern;
    // What stands before the rest, if anything does.
    let mut before: Option<u8> = None;
    while let [first, after @ ..] = rest {
        let mut last = *first;
        rest = after;
        match first {
            b'\\' => {
                // An escape of nothing matches nothing.
                let [escaped, after @ ..] = rest else { return None };
                tokens.push(Token::Byte(*escaped));
                last = *escaped;
                rest = after;
            }
            b'?' => tokens.push(Token::AnyByte),
            b'*' => {
                let stars = 1 + rest.iter().take_while(|byte| **byte == b'*').count();
                rest = &rest[stars - 1..];
                let alone = before.is_none_or(|before| before == b'/') && (rest.is_empty() || rest[0] == b'/' || rest.starts_with(b"\\/"));
                if slash == Slash::Plain {
                    tokens.push(Token::Any);
                } else if stars == 1 || !alone {
                    tokens.push(Token::AnyInName);
                } else if rest.first() == Some(&b'/') {
                    // `**/` is no folder as well, but said twice it is no more than once.
                    let again = tokens.ends_with(&[Token::Optional, Token::Any, Token::Byte(b'/')]);
                    if !again {
                        tokens.extend([Token::Optional, Token::Any, Token::Byte(b'/')]);
                    }
                    rest = &rest[1..];
                    last = b'/';
                } else {
                    tokens.push(Token::Any);
                }
            }
            b'[' => {
                let (set, after) = set(rest, case)?;
                tokens.push(Token::Set(Box::new(set)));
                last = b']';
                rest = after;
            }
            byte => tokens.push(Token::Byte(if case == Case::Folded { byte.to_ascii_lowercase() } else { *byte })),
        }
        before = Some(last);
    }
    Some(tokens)
}

/// Compiles what follows a `[`; returns the set and what stands after its `]`.
fn set(pattern: &[u8], case: Case) -> Option<(Set, &[u8])> {
    let mut bytes = [false; 256];
    let negated = matches!(pattern.first(), Some(b'!' | b'^'));
    let mut rest = if negated { &pattern[1..] } else { pattern };
    // The byte a `-` would begin a range with.
    let mut from: Option<u8> = None;
    let mut first = true;
    loop {
        let byte = take(&mut rest)?;
        // A bracket that comes first stands for itself.
        if byte == b']' && !first {
            break;
        }
        first = false;
        let single = match (byte, from) {
            (b'\\', _) => take(&mut rest)?,
            (b'-', Some(from_byte)) if rest.first().is_some_and(|next| *next != b']') => {
                let to = match take(&mut rest)? {
                    b'\\' => take(&mut rest)?,
                    other => other,
                };
                for value in from_byte..=to {
                    bytes[usize::from(value)] = true;
                    if case == Case::Folded {
                        bytes[usize::from(value.to_ascii_lowercase())] = true;
                    }
                }
                from = None;
                continue;
            }
            (b'[', _) if rest.first() == Some(&b':') => {
                let end = rest[1..].iter().position(|byte| *byte == b']')? + 1;
                if end > 1 && rest[end - 1] == b':' {
                    class(&rest[1..end - 1], case, &mut bytes)?;
                    rest = &rest[end + 1..];
                    from = None;
                    continue;
                }
                b'['
            }
            (other, _) => other,
        };
        bytes[usize::from(single)] = true;
        from = Some(single).filter(|byte| *byte != 0);
    }
    if negated {
        bytes.iter_mut().for_each(|byte| *byte = !*byte);
    }
    Some((Set(bytes), rest))
}

fn take(rest: &mut &[u8]) -> Option<u8> {
    let (first, after) = rest.split_first()?;
    *rest = after;
    Some(*first)
}

/// Adds the bytes of a named class; `None` when there is none of that name.
fn class(name: &[u8], case: Case, bytes: &mut [bool; 256]) -> Option<()> {
    let within: fn(u8) -> bool = match name {
        b"alnum" => |byte| byte.is_ascii_alphanumeric(),
        b"alpha" => |byte| byte.is_ascii_alphabetic(),
        b"blank" => |byte| matches!(byte, b' ' | b'\t'),
        b"cntrl" => |byte| byte.is_ascii_control(),
        b"digit" => |byte| byte.is_ascii_digit(),
        b"graph" => |byte| byte.is_ascii_graphic(),
        b"lower" => |byte| byte.is_ascii_lowercase(),
        b"print" => |byte| byte.is_ascii_graphic() || byte == b' ',
        b"punct" => |byte| byte.is_ascii_punctuation(),
        b"space" => |byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'),
        b"upper" if case == Case::Folded => |byte| byte.is_ascii_alphabetic(),
        b"upper" => |byte| byte.is_ascii_uppercase(),
        b"xdigit" => |byte| byte.is_ascii_hexdigit(),
        _ => return None,
    };
    for value in 0..=u8::MAX {
        bytes[usize::from(value)] |= within(value);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, text: &str, expected: bool) {
        let found = Glob::new(pattern.as_bytes(), Case::Sensitive, Slash::Separates).matches(text.as_bytes());
        assert_eq!(found, expected, "{pattern} with {text}");
    }

    #[test]
    fn wildcards_match_as_gitignore_says() {
        check("*", "abc", true);
        check("*", "a/b", false);
        check("**", "a/b", true);
        check("**/b", "b", true);
        check("**/b", "a/a/b", true);
        check("a/**/b", "a/b", true);
        check("a/**/b", "a/x/y/b", true);
        check("a/**", "a", false);
        check("a/**", "a/b/c", true);
        check("a**b", "a/b", false);
        check("?", "/", false);
        check("[a-c]x", "bx", true);
        check("[!a-c]x", "bx", false);
        check("[]-]", "]", true);
        check("[[:digit:]]", "7", true);
        check("[a", "a", false);
        check("{a,b}", "a", false);
        check("{a,b}", "{a,b}", true);
        check("\\*", "*", true);
        check("a\\", "a", false);
    }

    #[test]
    fn a_pattern_made_to_be_slow_is_not() {
        let text = vec![b'a'; TEXT_MAX_BYTES];
        for pattern in [b"*a".repeat(2000), b"**/".repeat(100_000), b"*?".repeat(4000), b"[a-z]*".repeat(4000)] {
            let pattern = [pattern, b"b".to_vec()].concat();
            assert!(!Glob::new(&pattern, Case::Sensitive, Slash::Separates).matches(&text));
        }
        assert!(!Glob::new(&vec![b'?'; 1 << 22], Case::Sensitive, Slash::Separates).matches(&text));
    }
}
