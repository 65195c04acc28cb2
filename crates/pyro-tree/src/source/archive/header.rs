//! One header block of an archive: its fields as GNU tar reads them.
//!
//! Archives of forty years differ in what they put around a number, and tar reads them all: leading blanks, a leading NUL, base-256 with a
//! sign, nothing at all. Owners are not looked at, since everything of a seed belongs to root, so that a damaged one does no harm.

/// Size of a header and of what content is padded to.
pub(super) const BLOCK_BYTES: usize = 512;

/// Where a field lies in a header.
#[derive(Debug, Clone, Copy)]
struct Field(usize, usize);

const NAME: Field = Field(0, 100);
const MODE: Field = Field(100, 8);
const SIZE: Field = Field(124, 12);
const MTIME: Field = Field(136, 12);
const CHECKSUM: Field = Field(148, 8);
const KIND: usize = 156;
const LINK: Field = Field(157, 100);
const MAGIC: Field = Field(257, 6);
const PREFIX: Field = Field(345, 155);
/// Of a sparse file in the old GNU form: pieces, whether another block of them follows, and the size with its holes.
const SPARSE: Field = Field(386, 4 * PIECE_BYTES);
const SPARSE_GOES_ON: usize = 482;
const REAL_SIZE: Field = Field(483, 12);
const MORE_SPARSE: Field = Field(0, 21 * PIECE_BYTES);
const MORE_SPARSE_GOES_ON: usize = 504;
/// An offset and a length, twelve bytes each.
const PIECE_BYTES: usize = 24;

/// A header block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header<'a>(&'a [u8; BLOCK_BYTES]);

/// What a field holds that should hold a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    Value(i64),
    /// Nothing but blanks.
    Blank,
    Damaged,
}

impl<'a> Header<'a> {
    /// Takes a block for a header if its checksum says so; some programs added up bytes with a sign.
    pub(super) fn of(block: &'a [u8; BLOCK_BYTES]) -> Option<Self> {
        let header = Self(block);
        let Number::Value(written) = header.number(CHECKSUM) else { return None };
        let sum = |value: fn(u8) -> i64| {
            let summed = block.iter().enumerate().map(|(at, byte)| {
                let within = at.checked_sub(CHECKSUM.0).is_some_and(|at| at < CHECKSUM.1);
                value(if within { b' ' } else { *byte })
            });
            summed.sum::<i64>()
        };
        (written == sum(i64::from) || written == sum(|byte| i64::from(byte.cast_signed()))).then_some(header)
    }

    fn bytes(self, field: Field) -> &'a [u8] {
        &self.0[field.0..field.0 + field.1]
    }

    fn text(self, field: Field) -> &'a [u8] {
        until_nul(self.bytes(field))
    }

    fn number(self, field: Field) -> Number {
        number(self.bytes(field))
    }

    pub(super) const fn kind(self) -> u8 {
        self.0[KIND]
    }

    /// Returns the name, with the prefix of the form that POSIX gave it; old GNU archives have other things there.
    pub(super) fn name(self) -> Vec<u8> {
        let (prefix, name) = (self.text(PREFIX), self.text(NAME));
        if prefix.is_empty() || self.bytes(MAGIC) != b"ustar\0" { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    pub(super) fn link(self) -> &'a [u8] {
        self.text(LINK)
    }

    pub(super) fn mode(self) -> Number {
        self.number(MODE)
    }

    pub(super) fn size(self) -> Number {
        self.number(SIZE)
    }

    pub(super) fn mtime(self) -> Number {
        self.number(MTIME)
    }

    /// Returns the size of a sparse file with its holes.
    pub(super) fn real_size(self) -> Number {
        self.number(REAL_SIZE)
    }

    /// Returns the pieces of a sparse file that this header names, and whether a block with more follows.
    pub(super) fn sparse(self) -> (Vec<(Number, Number)>, bool) {
        (pieces(self.bytes(SPARSE)), self.0[SPARSE_GOES_ON] != 0)
    }
}

/// Returns the pieces that a block after a header names, and whether another one follows.
pub(super) fn more_sparse(block: &[u8; BLOCK_BYTES]) -> (Vec<(Number, Number)>, bool) {
    (pieces(&block[MORE_SPARSE.0..MORE_SPARSE.1]), block[MORE_SPARSE_GOES_ON] != 0)
}

/// Reads pieces up to the first that has no length written down.
fn pieces(bytes: &[u8]) -> Vec<(Number, Number)> {
    let used = bytes.chunks_exact(PIECE_BYTES).take_while(|piece| piece[PIECE_BYTES / 2] != 0);
    used.map(|piece| (number(&piece[..PIECE_BYTES / 2]), number(&piece[PIECE_BYTES / 2..]))).collect()
}

pub(super) fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn number(field: &[u8]) -> Number {
    match field {
        // Base-256: the first bit marks it, the second is the sign.
        [first, ..] if first & 0x80 != 0 => binary(field).map_or(Number::Damaged, Number::Value),
        [0, rest @ ..] => octal(rest),
        _ => octal(field),
    }
}

fn binary(field: &[u8]) -> Option<i64> {
    let first = i64::from(field[0] & 0x3f) - if field[0] & 0x40 == 0 { 0 } else { 0x40 };
    field[1..].iter().try_fold(first, |value, byte| value.checked_mul(256)?.checked_add(i64::from(*byte)))
}

fn octal(field: &[u8]) -> Number {
    let text = until_nul(field).trim_ascii_start();
    if text.is_empty() {
        // Only blanks are no number at all; a NUL ends one that is zero.
        return if field.contains(&0) { Number::Value(0) } else { Number::Blank };
    }
    let end = text.iter().position(|byte| !(b'0'..=b'7').contains(byte)).unwrap_or(text.len());
    if end == 0 || text.get(end).is_some_and(|byte| !byte.is_ascii_whitespace()) {
        return Number::Damaged;
    }
    let value = text[..end].iter().try_fold(0_i64, |value, digit| value.checked_mul(8)?.checked_add(i64::from(digit - b'0')));
    value.map_or(Number::Damaged, Number::Value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_tar_reads_them() {
        for (field, expected) in [
            (&b"0000644\0"[..], Number::Value(0o644)),
            (b"    644 ", Number::Value(0o644)),
            (b"\x00000644\0", Number::Value(0o644)),
            (b"00000644", Number::Value(0o644)),
            (b"        ", Number::Blank),
            (b"\0\0\0\0\0\0\0\0", Number::Value(0)),
            (b"644\0junk", Number::Value(0o644)),
            (b"0000x44\0", Number::Damaged),
            (b"-0000644", Number::Damaged),
            (b"\x80\0\0\0\0\0\0\x01", Number::Value(1)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", Number::Value(-1)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", Number::Value(-2)),
            (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", Number::Value(i64::MAX)),
            (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", Number::Damaged),
            (b"777777777777777777777777", Number::Damaged),
        ] {
            assert_eq!(number(field), expected, "{}", field.escape_ascii());
        }
    }
}
