//! Git's binary patches: content or a delta, deflated, in base 85, and the way back.
//!
//! A patch carries both directions. Going back from the result must give what was there, which shows that the patch was made for this
//! file; the object ids in its header are not needed for that.

use std::io::Read as _;

use flate2::read::ZlibDecoder;

/// Largest content a binary patch may unfold to: the patch is small, what it inflates to need not be.
const CONTENT_MAX_BYTES: u64 = 64 << 20;
/// Most that all binary parts of a patch may unfold to.
pub(super) const UNFOLDED_MAX_BYTES: usize = 128 << 20;
const ALPHABET: &[u8; 85] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";

/// One direction.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(Vec<u8>),
    Delta(Vec<u8>),
}

/// A binary patch as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binary {
    forward: Part,
    /// Missing in a patch that cannot be taken back; nothing then shows that it fits, so it is refused.
    back: Part,
}

impl Binary {
    /// Returns how many bytes it holds.
    pub(super) const fn len(&self) -> usize {
        self.forward.len() + self.back.len()
    }

    /// Returns what `before` becomes; `None` when the patch was not made for it.
    pub(super) fn apply(&self, before: &[u8]) -> Option<Vec<u8>> {
        let after = self.forward.apply(before)?;
        (self.back.apply(&after)? == before).then_some(after)
    }
}

impl Part {
    const fn len(&self) -> usize {
        match self {
            Self::Literal(content) | Self::Delta(content) => content.len(),
        }
    }

    fn apply(&self, before: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Literal(content) => Some(content.clone()),
            Self::Delta(delta) => apply_delta(delta, before),
        }
    }
}

/// Reads both directions at `lines[at]`; returns them and where they end.
pub(super) fn read(lines: &[&[u8]], at: usize) -> Option<(Binary, usize)> {
    let (forward, at) = read_part(lines, at)?;
    let (back, at) = read_part(lines, at)?;
    Some((Binary { forward, back }, at))
}

fn read_part(lines: &[&[u8]], at: usize) -> Option<(Part, usize)> {
    let head = std::str::from_utf8(lines.get(at)?).ok()?;
    let (kind, size) = head.split_once(' ')?;
    let size: u64 = size.parse().ok().filter(|size| *size <= CONTENT_MAX_BYTES)?;
    let mut packed = Vec::new();
    let mut at = at + 1;
    while let Some(line) = lines.get(at).filter(|line| !line.is_empty()) {
        decode_line(line, &mut packed)?;
        at += 1;
    }
    let mut content = Vec::new();
    ZlibDecoder::new(packed.as_slice()).take(size + 1).read_to_end(&mut content).ok()?;
    if u64::try_from(content.len()) != Ok(size) {
        return None;
    }
    let part = match kind {
        "literal" => Part::Literal(content),
        "delta" => Part::Delta(content),
        _ => return None,
    };
    Some((part, (at + 1).min(lines.len())))
}

/// Decodes a line: its length as a letter, then five characters for each four bytes.
fn decode_line(line: &[u8], packed: &mut Vec<u8>) -> Option<()> {
    let (length, text) = line.split_first()?;
    let length = usize::from(match length {
        b'A'..=b'Z' => length - b'A' + 1,
        b'a'..=b'z' => length - b'a' + 27,
        _ => return None,
    });
    if text.len() != length.div_ceil(4) * 5 {
        return None;
    }
    let mut left = length;
    for group in text.chunks_exact(5) {
        let mut value = 0_u32;
        for character in group {
            let digit = u32::try_from(ALPHABET.iter().position(|letter| letter == character)?).ok()?;
            value = value.checked_mul(85)?.checked_add(digit)?;
        }
        let count = left.min(4);
        packed.extend_from_slice(&value.to_be_bytes()[..count]);
        left -= count;
    }
    Some(())
}

struct Delta<'a>(&'a [u8]);

impl Delta<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn size(&mut self) -> Option<usize> {
        let mut size = 0_usize;
        for shift in (0..35).step_by(7) {
            let byte = self.byte()?;
            size |= usize::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(size);
            }
        }
        None
    }

    /// Reads those bytes of a little-endian number whose bits are set.
    fn sparse(&mut self, bits: u8, count: u32) -> Option<usize> {
        let mut value = 0_usize;
        for position in 0..count {
            if bits >> position & 1 == 1 {
                value |= usize::from(self.byte()?) << (8 * position);
            }
        }
        Some(value)
    }
}

/// Applies a delta as packs hold them: sizes, then copies and insertions.
fn apply_delta(delta: &[u8], before: &[u8]) -> Option<Vec<u8>> {
    let mut delta = Delta(delta);
    if delta.size()? != before.len() {
        return None;
    }
    let size = delta.size().filter(|size| u64::try_from(*size).is_ok_and(|size| size <= CONTENT_MAX_BYTES))?;
    let mut after = Vec::new();
    while !delta.0.is_empty() {
        let command = delta.byte()?;
        let piece = if command & 0x80 != 0 {
            let offset = delta.sparse(command & 0x0f, 4)?;
            let length = match delta.sparse(command >> 4 & 0x07, 3)? {
                0 => 0x1_0000,
                length => length,
            };
            before.get(offset..offset.checked_add(length)?)?
        } else {
            let (piece, rest) = delta.0.split_at_checked(usize::from(command)).filter(|_| command != 0)?;
            delta.0 = rest;
            piece
        };
        if after.len() + piece.len() > size {
            return None;
        }
        after.extend_from_slice(piece);
    }
    (after.len() == size).then_some(after)
}
