//! Sealed text: any bytes as text that can leave the program and come back, checked as a [cursor](crate::Cursor) is.
//!
//! For whoever keeps several cursors as one. Pure.

use crate::base64;
use crate::cursor::{CursorError, check};

/// A version, how many zero bytes were added so that the length is a multiple of three, and the check.
const AROUND: usize = 2 + 4;

/// `bytes` as text of a kind that only [`unseal`] with the same `version` accepts: characters that are safe in URLs and HTTP
/// headers, four for each three bytes begun, and eight more. Version 1 is that of a single cursor.
///
/// ```
/// use orangery_io_stream::{CursorError, seal, unseal};
/// let text = seal(7, b"three places");
/// assert_eq!(unseal(7, &text).unwrap(), b"three places");
/// assert_eq!(unseal(8, &text), Err(CursorError::Version));
/// ```
pub fn seal(version: u8, bytes: &[u8]) -> String {
    let added = (3 - (bytes.len() + AROUND) % 3) % 3;
    let mut all = Vec::with_capacity(bytes.len() + AROUND + added);
    all.extend([version, added as u8]);
    all.extend_from_slice(bytes);
    all.extend(std::iter::repeat_n(0, added));
    all.extend(check(&all).to_be_bytes());
    base64::url(&all)
}

/// The bytes that `text` was made of. It takes no more memory than the text does.
///
/// # Errors
///
/// [`CursorError`], for anything that [`seal`] has not made with this `version`.
pub fn unseal(version: u8, text: &str) -> Result<Vec<u8>, CursorError> {
    let mut all = base64::all_from_url(text).filter(|all| all.len() >= AROUND).ok_or(CursorError::NotACursor)?;
    if all[0] != version {
        return Err(CursorError::Version);
    }
    let checked = all.len() - 4;
    if check(&all[..checked]).to_be_bytes() != all[checked..] {
        return Err(CursorError::Check);
    }
    let added = usize::from(all[1]);
    if added > 2 || added > checked - 2 {
        return Err(CursorError::NotACursor);
    }
    all.truncate(checked - added);
    Ok(all.split_off(2))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cursor_is_no_sealed_text_and_the_other_way_round() {
        let text = seal(2, b"");
        assert_eq!((text.len(), unseal(2, &text)), (8, Ok(Vec::new())));
        assert!(text.parse::<crate::Cursor>().is_err());
        let cursor = crate::Cursor::of_event(crate::StreamId::random(), 3).to_string();
        assert_eq!(unseal(2, &cursor), Err(CursorError::Version));
    }

    proptest! {
        #[test]
        fn what_is_sealed_is_unsealed(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let text = seal(2, &bytes);
            prop_assert_eq!(text.len(), bytes.len().div_ceil(3) * 4 + 8);
            prop_assert_eq!(unseal(2, &text), Ok(bytes));
        }

        #[test]
        fn a_changed_text_is_refused(at in 0..24_usize, with in "[A-Za-z0-9_-]") {
            let mut text = seal(2, b"twelve bytes");
            prop_assume!(text[at..=at] != with);
            text.replace_range(at..=at, &with);
            prop_assert!(unseal(2, &text).is_err());
        }

        #[test]
        fn no_text_is_a_panic(text in any::<String>()) {
            prop_assert!(unseal(2, &text).is_err());
        }
    }
}
