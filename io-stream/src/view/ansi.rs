//! Terminal control sequences taken out of a text, across chunk borders; pure.
//!
//! Used on demand by whoever shows output where no terminal is. The stored bytes keep their sequences.

/// Removes ECMA-48 control sequences, one chunk after the other.
///
/// Removed are `ESC [ ... final` (colours, cursor moves), `ESC ] ...`, `ESC P`, `ESC X`, `ESC ^` and
/// `ESC _` up to their terminator (titles, links), and the short `ESC` sequences. Other control
/// characters, newlines and tabs among them, stay. A sequence that is cut by a newline ends there, so
/// that a broken one takes no more than its own line. The 8-bit forms are left alone: their bytes occur
/// inside UTF-8.
///
/// ```
/// use orangery_io_stream::view::AnsiStripper;
///
/// let mut stripper = AnsiStripper::new();
/// let mut text = Vec::new();
/// for part in ["\x1b[1;3", "1mred\x1b", "[0m\n"] {
///     stripper.strip(part.as_bytes(), &mut text);
/// }
/// assert_eq!(text, b"red\n");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AnsiStripper {
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// After ESC and an intermediate byte.
    Intermediate,
    /// In a control sequence (ESC [).
    Control,
    /// In a string that ends with ST, and of an operating system command also with BEL.
    String,
    /// After ESC in a string.
    StringEscape,
}

const ESC: u8 = 0x1b;
const BEL: u8 = 0x07;
const CANCEL: [u8; 2] = [0x18, 0x1a];

impl AnsiStripper {
    /// One that stands in plain text.
    pub const fn new() -> Self {
        Self { state: State::Text }
    }

    /// Appends what of `data` is text to `out`.
    pub fn strip(&mut self, data: &[u8], out: &mut Vec<u8>) {
        let mut rest = data;
        while let Some(first) = rest.first() {
            if self.state == State::Text {
                let len = rest.iter().position(|byte| *byte == ESC).unwrap_or(rest.len());
                out.extend_from_slice(&rest[..len]);
                rest = &rest[len..];
                if !rest.is_empty() {
                    self.state = State::Escape;
                    rest = &rest[1..];
                }
            } else {
                if self.step(*first) {
                    out.push(*first);
                }
                rest = &rest[1..];
            }
        }
    }

    /// Takes one byte inside a sequence; whether it is text all the same.
    fn step(&mut self, byte: u8) -> bool {
        let (next, keep) = match (self.state, byte) {
            (_, b'\n') => (State::Text, true),
            (_, byte) if CANCEL.contains(&byte) => (State::Text, false),
            (State::String, ESC) => (State::StringEscape, false),
            (State::String, BEL) => (State::Text, false),
            (State::String, _) => (State::String, false),
            (State::StringEscape, b'\\') => (State::Text, false),
            // What is no terminator begins a sequence of its own.
            (State::Escape | State::StringEscape, byte) => (after_escape(byte), is_control(byte)),
            (_, ESC) => (State::Escape, false),
            // Terminals carry control characters out in the midst of a sequence.
            (state, byte) if is_control(byte) => (state, true),
            (State::Intermediate, 0x20..=0x2f) => (State::Intermediate, false),
            (State::Control, 0x20..=0x3f) => (State::Control, false),
            (State::Intermediate | State::Control, 0x30..=0x7e) => (State::Text, false),
            // No byte of a sequence: it ends, and the byte is text.
            (State::Intermediate | State::Control | State::Text, _) => (State::Text, true),
        };
        self.state = next;
        keep
    }
}

const fn after_escape(byte: u8) -> State {
    match byte {
        b'[' => State::Control,
        b']' | b'P' | b'X' | b'^' | b'_' => State::String,
        0x20..=0x2f => State::Intermediate,
        ESC => State::Escape,
        byte if is_control(byte) => State::Escape,
        _ => State::Text,
    }
}

const fn is_control(byte: u8) -> bool {
    byte < 0x20 && byte != ESC
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn strip(parts: &[&[u8]]) -> Vec<u8> {
        let mut stripper = AnsiStripper::new();
        let mut out = Vec::new();
        parts.iter().for_each(|part| stripper.strip(part, &mut out));
        out
    }

    #[test]
    fn sequences_go_and_text_stays() {
        for (raw, text) in [
            (&b"plain \xc3\xa9 \xff\tx\r\n"[..], &b"plain \xc3\xa9 \xff\tx\r\n"[..]),
            (b"\x1b[31mred\x1b[0m", b"red"),
            (b"\x1b[38;2;1;2;3mx\x1b[K", b"x"),
            (b"\x1b]0;title\x07a\x1b]8;;http://x\x1b\\b", b"ab"),
            (b"\x1bP+q\x1b\\x\x1b(By\x1b7z\x1bMw", b"xyzw"),
            (b"\x1b[3\n1m", b"\n1m"),
            (b"\x1b]0;never ended\nnext", b"\nnext"),
            (b"\x1b[1\rm", b"\r"),
            (b"\x1b[1\x18x", b"x"),
            (b"\x1b]0;a\x1b[1mb", b"b"),
            (b"end\x1b", b"end"),
            (b"\x1b[\xc3\xa9", b"\xc3\xa9"),
        ] {
            assert_eq!(strip(&[raw]), text, "{:?}", raw.escape_ascii().to_string());
        }
    }

    proptest! {
        #[test]
        fn cuts_change_nothing(
            bytes in prop::collection::vec(prop_oneof![
                Just(ESC), Just(b'['), Just(b']'), Just(b'm'), Just(b'\\'), Just(BEL), Just(b'\n'), Just(b'1'), any::<u8>()
            ], 0..60),
            cut in any::<prop::sample::Index>(),
            second in any::<prop::sample::Index>(),
        ) {
            let whole = strip(&[&bytes]);
            let first = cut.index(bytes.len() + 1);
            let second = first + second.index(bytes.len() - first + 1);
            prop_assert_eq!(&whole, &strip(&[&bytes[..first], &bytes[first..second], &bytes[second..]]));
            // And nothing is made up.
            prop_assert!(whole.iter().all(|byte| bytes.contains(byte)));
        }

        #[test]
        fn without_escapes_nothing_changes(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let plain: Vec<u8> = bytes.into_iter().filter(|byte| *byte != ESC).collect();
            prop_assert_eq!(strip(&[&plain]), plain);
        }
    }
}
