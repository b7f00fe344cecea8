//! JSON strings and numbers, written by hand; pure.
//!
//! Used by the two JSON formats, which need nothing else of JSON.

use std::io::Write;

/// Appends `text` as a JSON string.
pub(super) fn push_str(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    push_escaped(text, out);
    out.push(b'"');
}

/// Appends bytes as a JSON string; what is no UTF-8 becomes U+FFFD.
pub(super) fn push_lossy(data: &[u8], newline: bool, out: &mut Vec<u8>) {
    out.push(b'"');
    for part in data.utf8_chunks() {
        push_escaped(part.valid(), out);
        if !part.invalid().is_empty() {
            push_escaped("\u{fffd}", out);
        }
    }
    if newline {
        out.extend_from_slice(b"\\n");
    }
    out.push(b'"');
}

/// Appends a number.
pub(super) fn push_number(number: u64, out: &mut Vec<u8>) {
    // Writing to a vector cannot fail.
    let _ = write!(out, "{number}");
}

fn push_escaped(text: &str, out: &mut Vec<u8>) {
    let mut done = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0..0x20 => b"",
            _ => continue,
        };
        out.extend_from_slice(&text.as_bytes()[done..at]);
        done = at + 1;
        if escape.is_empty() {
            let _ = write!(out, "\\u{byte:04x}");
        } else {
            out.extend_from_slice(escape);
        }
    }
    out.extend_from_slice(&text.as_bytes()[done..]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn another_parser_reads_it(text in any::<String>()) {
            let mut out = Vec::new();
            push_str(&text, &mut out);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }

        #[test]
        fn any_bytes_are_json(data in prop::collection::vec(any::<u8>(), 0..40), newline in any::<bool>()) {
            let mut out = Vec::new();
            push_lossy(&data, newline, &mut out);
            let mut text = String::from_utf8_lossy(&data).into_owned();
            text.extend(newline.then_some('\n'));
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }
}
