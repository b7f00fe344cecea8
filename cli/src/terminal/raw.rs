//! Our own terminal in raw mode: every key is a byte for the command, and nothing is echoed but by its own terminal. It is
//! put back as it was, however we end; only a SIGKILL of this very process leaves it raw.

use std::io;
use std::panic;
use std::sync::{Mutex, PoisonError};
use std::thread;

use rustix::stdio::stdin;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

/// How it was. Here and not in the guard: a panic is told, on this terminal, before anything is dropped.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// The terminal behind stdin is raw while this exists.
#[derive(Debug)]
pub(crate) struct Raw(());

impl Raw {
    /// Set it. The panic hook of this process puts it back from now on, for panics of this thread: those of others do not
    /// end us.
    ///
    /// # Errors
    /// Stdin is no terminal.
    pub(crate) fn enter() -> io::Result<Self> {
        let before = tcgetattr(stdin())?;
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        let raw = Self(());
        let (next, ours) = (panic::take_hook(), thread::current().id());
        panic::set_hook(Box::new(move |info| {
            if thread::current().id() == ours {
                restore();
            }
            next(info);
        }));
        raw.again()?;
        Ok(raw)
    }

    /// Set it once more: whoever had the terminal while we were stopped has set modes of its own.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(crate) fn again(&self) -> io::Result<()> {
        let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(mut modes) = before else { return Ok(()) };
        modes.make_raw();
        Ok(tcsetattr(stdin(), OptionalActions::Now, &modes)?)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

/// Once: afterwards the terminal may be somebody else's.
fn restore() {
    let Some(before) = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
    // One that is gone needs nothing.
    let _ = tcsetattr(stdin(), OptionalActions::Now, &before);
}
