//! A tar header: 512 bytes, as POSIX, GNU and their ancestors write it. Pure.

/// What tar counts in.
pub(super) const BLOCK: usize = 512;

/// Offset and length of a piece of a sparse file; `None`: they are no numbers.
pub(super) type Piece = Option<(i64, i64)>;

/// The fields of a header, as they stand there.
#[derive(Debug)]
pub(super) struct Header<'a>(pub(super) &'a [u8; BLOCK]);

impl<'a> Header<'a> {
    fn bytes(&self, at: usize, len: usize) -> &'a [u8] {
        self.0.get(at..at + len).unwrap_or_default()
    }

    /// Up to the first NUL.
    fn text(&self, at: usize, len: usize) -> &'a [u8] {
        let bytes = self.bytes(at, len);
        bytes.split(|byte| *byte == 0).next().unwrap_or_default()
    }

    /// The sum of its bytes is what it says. Old writers have added signed ones.
    pub(super) fn sums_up(&self) -> bool {
        // The sum itself counts as blanks.
        let (mut unsigned, mut high) = (8 * i64::from(b' '), 0);
        for bytes in [self.bytes(0, 148), self.bytes(156, BLOCK - 156)] {
            for byte in bytes {
                unsigned += i64::from(*byte);
                high += i64::from(byte >> 7);
            }
        }
        number(self.bytes(148, 8)).is_some_and(|sum| sum == unsigned || sum == unsigned - 256 * high)
    }

    pub(super) fn is_zero(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }

    /// With the prefix of ustar.
    pub(super) fn name(&self) -> Vec<u8> {
        let (name, prefix) = (self.text(0, 100), self.text(345, 155));
        // GNU's own format has other things there.
        if self.bytes(257, 6) == b"ustar\0" && !prefix.is_empty() {
            [prefix, b"/", name].concat()
        } else {
            name.to_vec()
        }
    }

    pub(super) fn link(&self) -> Vec<u8> {
        self.text(157, 100).to_vec()
    }

    pub(super) fn kind(&self) -> u8 {
        self.bytes(156, 1).first().copied().unwrap_or_default()
    }

    pub(super) fn mode(&self) -> Option<i64> {
        number(self.bytes(100, 8))
    }

    pub(super) fn uid(&self) -> Option<i64> {
        number(self.bytes(108, 8))
    }

    pub(super) fn gid(&self) -> Option<i64> {
        number(self.bytes(116, 8))
    }

    pub(super) fn size(&self) -> Option<i64> {
        number(self.bytes(124, 12))
    }

    pub(super) fn mtime(&self) -> Option<i64> {
        number(self.bytes(136, 12))
    }

    /// GNU's old way with sparse files: up to four pieces, whether more follow, and the size with its holes.
    pub(super) fn sparse(&self) -> (Vec<Piece>, bool, Option<i64>) {
        (pieces(self.bytes(386, 96)), self.bytes(482, 1) != [0], number(self.bytes(483, 12)))
    }
}

/// A block of further pieces: they, and whether one more block follows.
pub(super) fn more_sparse(block: &[u8; BLOCK]) -> (Vec<Piece>, bool) {
    (pieces(block.get(..504).unwrap_or_default()), block.get(504) != Some(&0))
}

/// Offset and length, 12 bytes each, up to an empty one.
fn pieces(bytes: &[u8]) -> Vec<Piece> {
    let (pairs, _) = bytes.as_chunks::<24>();
    let used = pairs.iter().take_while(|pair| pair.iter().any(|byte| *byte != 0));
    used.map(|pair| {
        let (offset, len) = pair.split_at(12);
        number(offset).zip(number(len))
    })
    .collect()
}

/// Octal digits, or base 256 with the highest bit set; nothing at all is zero. `None`: neither, or too large.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    let first = *field.first()?;
    if first & 0x80 != 0 {
        return binary(field);
    }
    let text = field.trim_ascii_start();
    let end = text.iter().position(|byte| matches!(byte, 0 | b' ')).unwrap_or(text.len());
    text.get(..end)?.iter().try_fold(0i64, |sum, digit| match digit {
        b'0'..=b'7' => sum.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

/// Two's complement without its highest bit, big endian.
fn binary(field: &[u8]) -> Option<i64> {
    let negative = field.first()? & 0x40 != 0;
    let mut sum: i128 = if negative { -1 } else { 0 };
    for (index, byte) in field.iter().enumerate() {
        let byte = match (index, negative) {
            (0, true) => byte | 0x80,
            (0, false) => byte & 0x7f,
            _ => *byte,
        };
        sum = (sum << 8) | i128::from(byte);
    }
    i64::try_from(sum).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_binary() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   644 \0"), Some(0o644));
        assert_eq!(number(b"77777777777"), Some(0o77_777_777_777));
        assert_eq!((number(b"\0\0\0\0\0\0\0\0"), number(b"        ")), (Some(0), Some(0)));
        assert_eq!(number(b"\x80\0\0\0\0\0\0\x01\0\0\0\0"), Some(1 << 32));
        assert_eq!(number(b"\xff\xff\xff\xff\xff\xff\xff\xfe"), Some(-2));
        assert_eq!(number(b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), None, "2^88 - 1");
        for bad in [&b"12x45"[..], b"-1", b"8", b""] {
            assert_eq!(number(bad), None, "{bad:?}");
        }
    }
}
