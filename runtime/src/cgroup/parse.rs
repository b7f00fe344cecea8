//! The formats of cgroup files. Strict: a number is digits only and fits `u64`, anything else is "unknown", never zero.

use serde::{Serialize, Serializer};
use std::fmt;

/// A limit as the kernel shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ceiling {
    /// `max`, or v1's largest number.
    Unlimited,
    /// That many.
    At(u64),
}

impl Ceiling {
    /// The number, if there is a limit.
    pub fn value(self) -> Option<u64> {
        match self {
            Ceiling::Unlimited => None,
            Ceiling::At(value) => Some(value),
        }
    }
}

impl fmt::Display for Ceiling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ceiling::Unlimited => f.write_str("max"),
            Ceiling::At(value) => write!(f, "{value}"),
        }
    }
}

/// A number, or the string `max`.
impl Serialize for Ceiling {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Ceiling::Unlimited => serializer.serialize_str("max"),
            Ceiling::At(value) => serializer.serialize_u64(*value),
        }
    }
}

/// The one number of a file.
pub(super) fn number(text: &str) -> Option<u64> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// A number or `max`.
pub(super) fn ceiling(text: &str) -> Option<Ceiling> {
    match text.strip_suffix('\n').unwrap_or(text) {
        "max" => Some(Ceiling::Unlimited),
        digits => number(digits).map(Ceiling::At),
    }
}

/// The number of the line `key N`.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| number(line.strip_prefix(key)?.strip_prefix(' ')?))
}

/// The words of a list file such as `cgroup.controllers`.
pub(super) fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(String::from).collect()
}

/// The sum over all devices of `key=N` in `io.stat`; an empty file is zero.
pub(super) fn io_sum(text: &str, key: &str) -> Option<u64> {
    text.lines().try_fold(0u64, |sum, line| {
        let found = line.split(' ').skip(1).find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
        // A device may be listed with other pairs only (an iocost model); a pair that is no number is unknown.
        found.map_or(Some(sum), |value| sum.checked_add(number(value)?))
    })
}

/// The sum over all devices of `MAJ:MIN word N` in v1's counters; none is zero.
pub(super) fn blkio_sum(text: &str, word: &str) -> Option<u64> {
    text.lines().try_fold(0u64, |sum, line| match line.split(' ').collect::<Vec<_>>()[..] {
        [_, found, value] if found == word => sum.checked_add(number(value)?),
        _ => Some(sum),
    })
}

/// Microseconds to nanoseconds; unknown if it does not fit.
pub(super) fn nanoseconds(microseconds: u64) -> Option<u64> {
    microseconds.checked_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_digits_that_fit() {
        assert_eq!(number("18446744073709551615\n"), Some(u64::MAX));
        for bad in ["", "\n", "18446744073709551616", "-1", "+1", "1 ", " 1", "0x1", "1\n2", "max", "٣"] {
            assert_eq!(number(bad), None, "{bad:?}");
        }
        assert_eq!(ceiling("max\n"), Some(Ceiling::Unlimited));
        assert_eq!(ceiling("0\n"), Some(Ceiling::At(0)));
        assert_eq!(ceiling("maximum"), None);
    }

    #[test]
    fn keys_are_whole_words() {
        let text = "low 0\noom 7\noom_kill 3\noom_group_kill 1\n";
        assert_eq!(keyed(text, "oom"), Some(7));
        assert_eq!(keyed(text, "oom_kill"), Some(3));
        assert_eq!(keyed(text, "oom_"), None);
        assert_eq!(keyed("oom x\n", "oom"), None);
    }

    #[test]
    fn io_is_summed_and_never_guessed() {
        let text = "8:0 rbytes=10 wbytes=1 rios=3\n253:1 wbytes=5 rbytes=2\n259:0\n";
        assert_eq!(io_sum(text, "rbytes"), Some(12));
        assert_eq!(io_sum(text, "wbytes"), Some(6));
        assert_eq!(io_sum("", "rbytes"), Some(0));
        assert_eq!(io_sum("8:0 rbytes=x\n", "rbytes"), None);
        let text = "8:0 Read 10\n8:0 Write 1\n8:0 Sync 9\n8:0 Total 11\n8:16 Read 2\nTotal 13\n";
        assert_eq!((blkio_sum(text, "Read"), blkio_sum(text, "Write")), (Some(12), Some(1)));
        assert_eq!((blkio_sum("Total 0\n", "Read"), blkio_sum("8:0 Read x\n", "Read")), (Some(0), None));
        assert_eq!(io_sum(&format!("8:0 rbytes={}\n8:1 rbytes=1\n", u64::MAX), "rbytes"), None);
    }
}
