//! Signals: the four that are forwarded. The keeper and everything in the container are in sessions of
//! their own, so a terminal's ^C reaches this process only.

use std::future::pending;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::errors::Failure;

pub(crate) use orangery_daemon::signal::{name, number};

pub(crate) const HUP: i32 = 1;
pub(crate) const INT: i32 = 2;
pub(crate) const QUIT: i32 = 3;
pub(crate) const KILL: i32 = 9;
pub(crate) const PIPE: i32 = 13;
pub(crate) const TERM: i32 = 15;

/// The exit code that tells of a signal.
pub(crate) fn by_signal(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
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
