//! Names of signals.

/// The names of 1 to 31, in order (signal(7), x86 and ARM).
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

/// The number of `TERM`, `SIGTERM` or `15`.
///
/// # Errors
/// No signal has that name or number.
pub fn number(text: &str) -> Result<i32, String> {
    let upper = text.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    let named = (1..).zip(NAMES).find(|(number, name)| *name == bare || number.to_string() == bare);
    named.map(|(number, _)| number).ok_or_else(|| format!("{text:?} is no signal: write TERM, SIGTERM or 15"))
}

/// `TERM` for 15.
#[must_use]
pub fn name(signal: i32) -> &'static str {
    let index = usize::try_from(signal).unwrap_or(0).wrapping_sub(1);
    NAMES.get(index).copied().unwrap_or("?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, expected) in [("TERM", 15), ("sigkill", 9), ("10", 10), ("SIGSYS", 31)] {
            assert_eq!(number(text), Ok(expected), "{text}");
        }
        for text in ["", "SIG", "0", "32", "TERMINATE", "015", "-9"] {
            assert!(number(text).is_err(), "{text}");
        }
        assert_eq!((name(9), name(0), name(99)), ("KILL", "?", "?"));
    }
}
