//! A line on a terminal that says how far a run is; nothing elsewhere.

use std::io::{IsTerminal as _, Write as _};

/// Tells a person how far it is.
#[derive(Debug)]
pub struct Progress {
    shown: bool,
}

impl Progress {
    /// Shown when standard error is a terminal.
    #[must_use]
    pub fn new() -> Self {
        Self { shown: std::io::stderr().is_terminal() }
    }

    /// `done` of `all`.
    pub fn at(&self, what: &str, done: usize, all: usize) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K{what}: {done}/{all}");
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
