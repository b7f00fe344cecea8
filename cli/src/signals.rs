//! Signals: their names, and the four that are forwarded. The keeper and everything in the container are in sessions of
//! their own, so a terminal's ^C reaches this process only.

use std::future::pending;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::errors::Failure;

pub(crate) const HUP: i32 = 1;
pub(crate) const INT: i32 = 2;
pub(crate) const QUIT: i32 = 3;
pub(crate) const KILL: i32 = 9;
pub(crate) const PIPE: i32 = 13;
pub(crate) const TERM: i32 = 15;

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
pub(crate) fn number(text: &str) -> Result<i32, String> {
    let upper = text.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    let named = (1..).zip(NAMES).find(|(number, name)| *name == bare || number.to_string() == bare);
    named.map(|(number, _)| number).ok_or_else(|| format!("{text:?} is no signal: write TERM, SIGTERM or 15"))
}

/// `TERM` for 15.
pub(crate) fn name(signal: i32) -> &'static str {
    let index = usize::try_from(signal).unwrap_or(0).wrapping_sub(1);
    NAMES.get(index).copied().unwrap_or("?")
}

/// The signals that are forwarded, as they come.
#[derive(Debug)]
pub(crate) struct Signals {
    int: Signal,
    term: Signal,
    quit: Signal,
    /// `None`: we were started with HUP ignored (nohup), and so the command is to survive it too.
    hup: Option<Signal>,
}

impl Signals {
    /// Listen from now on; before this call they end this process, and the keeper then ends the container.
    ///
    /// # Errors
    /// The kernel refuses, which it does not for these four.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::system("cannot listen for signals", &error));
        Ok(Self {
            int: listen(SignalKind::interrupt())?,
            term: listen(SignalKind::terminate())?,
            quit: listen(SignalKind::quit())?,
            hup: if ignored(HUP) { None } else { Some(listen(SignalKind::hangup())?) },
        })
    }

    /// The next one.
    ///
    /// # Cancel safety
    /// No signal is lost when the future is dropped.
    pub(crate) async fn next(&mut self) -> i32 {
        let Self { int, term, quit, hup } = self;
        let hup = async {
            match hup {
                Some(hup) => hup.recv().await,
                None => pending().await,
            }
        };
        tokio::select! {
            _ = int.recv() => INT,
            _ = term.recv() => TERM,
            _ = quit.recv() => QUIT,
            _ = hup => HUP,
        }
    }
}

/// Whether this process ignores the signal.
fn ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let set = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    set & (1 << (signal - 1)) != 0
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
