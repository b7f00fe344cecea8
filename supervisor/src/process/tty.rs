//! The terminal of a process, where it has one: its size, its keyboard, its end.
//!
//! Output goes the way of every output: a pump reads the master (which came once more for that) into the hub or the log, as
//! standard output.

use std::os::fd::OwnedFd;
use std::sync::PoisonError;

use orangery_io_stream::{Pty, PtySize, StdinWriter};

use super::slot::Slot;
use crate::error::{Error, ErrorKind};
use crate::faults::Faults;

/// Put the terminal of what was started into its slot.
pub(crate) fn give(slot: &Slot, master: OwnedFd, faults: &Faults) {
    let made = Pty::from_master(master).and_then(|tty| {
        let keyboard = tty.writer()?;
        Ok((tty, keyboard))
    });
    match made {
        Ok((tty, keyboard)) => {
            let writer = faults.watch_writer(StdinWriter::typing(keyboard));
            *slot.stdin.lock().unwrap_or_else(PoisonError::into_inner) = Some(writer);
            *slot.tty.lock().unwrap_or_else(PoisonError::into_inner) = Some(tty);
        }
        Err(error) => tracing::error!(container = %slot.id, %error, "its terminal can be neither sized nor typed at"),
    }
}

impl Slot {
    pub(crate) fn has_tty(&self) -> bool {
        self.tty.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Another size of its window.
    pub(crate) fn resize(&self, rows: u16, columns: u16) -> Result<(), Error> {
        if rows == 0 || columns == 0 {
            return Err(Error::invalid("tty", "a terminal has at least one row and one column"));
        }
        let tty = self.tty.lock().unwrap_or_else(PoisonError::into_inner);
        let tty = tty.as_ref().ok_or_else(no_tty)?;
        tty.resize(PtySize { rows, columns }).map_err(|error| Error::new(ErrorKind::System, error.to_string()))
    }

    /// Let go of the terminal: its reader, its writer, itself.
    pub(crate) fn hang_up(&self) -> Result<(), Error> {
        let tty = self.take_tty().ok_or_else(no_tty)?;
        drop(self.stdin.lock().unwrap_or_else(PoisonError::into_inner).take());
        tty.hang_up();
        // Its pump lets go of the master then.
        self.output.close();
        Ok(())
    }
}

fn no_tty() -> Error {
    Error::new(ErrorKind::State, "the process has no terminal, or not any more")
}
