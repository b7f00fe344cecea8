//! Base64 (RFC 4648), the two alphabets that this crate writes; pure.
//!
//! Used by cursors and sealed text (URL alphabet, no padding) and by the views (standard alphabet, padded). Not a
//! general decoder: it reads only what those write.

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Appends `data` in the standard alphabet with padding.
pub(crate) fn push_standard(data: &[u8], out: &mut Vec<u8>) {
    for group in data.chunks(3) {
        let digits = digits(group);
        let used = group.len() + 1;
        out.extend(digits[..used].iter().map(|digit| STANDARD[usize::from(*digit)]));
        out.extend(std::iter::repeat_n(b'=', 4 - used));
    }
}

/// `data` in the URL alphabet. Its length is a multiple of 3, so that no padding is needed.
pub(crate) fn url(data: &[u8]) -> String {
    data.chunks(3).flat_map(digits).map(|digit| char::from(URL[usize::from(digit)])).collect()
}

/// The bytes of `text` in the URL alphabet, four characters for each three bytes; `None` for anything
/// else.
pub(crate) fn from_url<const BYTES: usize>(text: &str) -> Option<[u8; BYTES]> {
    if text.len() != BYTES / 3 * 4 {
        return None;
    }
    let mut bytes = [0; BYTES];
    read_url(text, &mut bytes)?;
    Some(bytes)
}

/// As [`from_url`], of any length; `None` also where that is no multiple of four.
pub(crate) fn all_from_url(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let mut bytes = vec![0; text.len() / 4 * 3];
    read_url(text, &mut bytes)?;
    Some(bytes)
}

fn read_url(text: &str, bytes: &mut [u8]) -> Option<()> {
    for (group, out) in text.as_bytes().chunks(4).zip(bytes.chunks_mut(3)) {
        let mut bits = 0;
        for character in group {
            let digit = URL.iter().position(|each| each == character)?;
            bits = bits << 6 | digit as u32;
        }
        out.copy_from_slice(&bits.to_be_bytes()[1..]);
    }
    Some(())
}

/// The four 6-bit digits of one to three bytes.
fn digits(group: &[u8]) -> [u8; 4] {
    let at = |index| u32::from(group.get(index).copied().unwrap_or(0));
    let bits = at(0) << 16 | at(1) << 8 | at(2);
    [18, 12, 6, 0].map(|shift| (bits >> shift & 0x3f) as u8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_vectors_of_the_rfc() {
        for (data, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            let mut out = Vec::new();
            push_standard(data.as_bytes(), &mut out);
            assert_eq!(out, text.as_bytes());
        }
    }

    #[test]
    fn only_our_own_text_is_read() {
        assert_eq!(from_url::<3>("Zm9v"), Some(*b"foo"));
        for text in ["Zm9", "Zm9vYmFy", "Zm9+", "Zm9=", "Zm9é"] {
            assert_eq!(from_url::<3>(text), None);
        }
        assert_eq!(all_from_url("Zm9vYmFy"), Some(b"foobar".to_vec()));
        for text in ["Zm9", "Zm9vYmF", "Zm9+", "Zm9vZm9=", "Zm9é"] {
            assert_eq!(all_from_url(text), None);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(bytes in any::<[u8; 12]>()) {
            prop_assert_eq!(from_url::<12>(&url(&bytes)), Some(bytes));
        }
    }
}
