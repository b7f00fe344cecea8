//! The keys that take our terminal away from the command: how they are written, and how they are found in what is typed.

use std::fmt;
use std::str::FromStr;

/// A sequence of keys; none means that it is never typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DetachKeys(Vec<u8>);

/// This is no key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoKey(String);

impl fmt::Display for NoKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is no key: write single characters, or ctrl- and one of a-z @ [ \\ ] ^ _, with commas between",
            self.0
        )
    }
}

impl std::error::Error for NoKey {}

impl FromStr for DetachKeys {
    type Err = NoKey;

    /// As docker writes them: `ctrl-p,ctrl-q`, `ctrl-a,d`; empty for none.
    fn from_str(text: &str) -> Result<Self, NoKey> {
        if text.is_empty() {
            return Ok(Self(Vec::new()));
        }
        text.split(',').map(|word| key(word).ok_or_else(|| NoKey(word.to_owned()))).collect::<Result<_, _>>().map(Self)
    }
}

fn key(word: &str) -> Option<u8> {
    let (control, name) = match word.strip_prefix("ctrl-") {
        Some(name) => (true, name),
        None => (false, word),
    };
    match (control, name.as_bytes()) {
        (true, [byte @ (b'a'..=b'z' | b'A'..=b'Z' | b'@' | b'['..=b'_')]) => Some(byte & 0x1f),
        (false, [byte]) if byte.is_ascii_graphic() => Some(*byte),
        _ => None,
    }
}

/// Finds the keys in what is typed. Their beginning is held back until it is known not to be theirs.
#[derive(Debug)]
pub(crate) struct Watcher {
    keys: Vec<u8>,
    held: usize,
}

impl Watcher {
    pub(crate) fn new(DetachKeys(keys): DetachKeys) -> Self {
        Self { keys, held: 0 }
    }

    /// What of `typed` goes on, and whether the keys came. What was typed behind them is nobody's.
    pub(crate) fn pass(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        if self.keys.is_empty() {
            return (typed.to_vec(), false);
        }
        let mut on = Vec::with_capacity(typed.len() + self.held);
        for byte in typed {
            let mut seen = self.keys.get(..self.held).unwrap_or_default().to_vec();
            seen.push(*byte);
            // The longest end of it that the keys may begin with.
            self.held =
                (0..=seen.len()).rev().find(|len| self.keys.starts_with(&seen[seen.len() - len..])).unwrap_or(0);
            on.extend_from_slice(&seen[..seen.len() - self.held]);
            if self.held == self.keys.len() {
                self.held = 0;
                return (on, true);
            }
        }
        (on, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_as_docker_writes_them() {
        for (text, keys) in [
            ("ctrl-p,ctrl-q", &[16, 17][..]),
            ("ctrl-a,d", &[1, b'd']),
            ("ctrl-@,ctrl-_,ctrl-[", &[0, 31, 27]),
            ("", &[]),
        ] {
            assert_eq!(text.parse(), Ok(DetachKeys(keys.to_vec())), "{text}");
        }
        for text in ["ctrl-", "ctrl-1", "ctrl-p,", "ab", "ctrl-pq", "é", " ", "\n", "meta-x"] {
            assert!(text.parse::<DetachKeys>().is_err(), "{text:?}");
        }
        assert!("a,ctrl-{".parse::<DetachKeys>().unwrap_err().to_string().contains("\"ctrl-{\""));
    }

    /// Every text of up to nine letters of two, typed in pieces of every size: what goes on is everything up to the keys, or
    /// everything but an end that may still become them.
    #[test]
    fn nothing_is_lost_and_the_keys_do_not_pass() {
        for keys in ["aab", "aba", "aa", "b"] {
            for number in 0..1_u32 << 9 {
                let text: Vec<u8> = (0..9).map(|bit| if number >> bit & 1 == 0 { b'a' } else { b'b' }).collect();
                let found = text.windows(keys.len()).position(|window| window == keys.as_bytes());
                let held = (0..keys.len()).rev().find(|len| text.ends_with(&keys.as_bytes()[..*len])).unwrap();
                let expected = &text[..found.unwrap_or(text.len() - held)];
                for size in 1..=9 {
                    let mut watcher = Watcher::new(DetachKeys(keys.into()));
                    let (mut on, mut detached) = (Vec::new(), false);
                    for piece in text.chunks(size) {
                        let (more, now) = watcher.pass(piece);
                        on.extend(more);
                        detached = now;
                        if now {
                            break;
                        }
                    }
                    assert_eq!((on.as_slice(), detached), (expected, found.is_some()), "{keys} in {text:?} by {size}");
                }
            }
        }
        assert_eq!(Watcher::new(DetachKeys(Vec::new())).pass(b"ab"), (b"ab".to_vec(), false));
    }
}
