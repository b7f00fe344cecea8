//! The terminal of a process.

use super::{ContainerHandle, ProcessHandle};
use crate::error::Error;

impl ProcessHandle {
    /// Give the window of its terminal another size; what runs in the foreground gets SIGWINCH if it differs.
    ///
    /// # Errors
    /// [`ErrorKind::State`](crate::ErrorKind::State) without a terminal, after the end and after a hang-up;
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid), with the field `tty`, for a size of zero.
    pub fn resize(&self, rows: u16, columns: u16) -> Result<(), Error> {
        self.slot.resize(rows, columns)
    }

    /// Hang its terminal up, as a closed window does: its session gets SIGHUP (and CONT), whoever reads the terminal
    /// the end of file, and what is written to it fails. Its output ends here, with what was read so far; so does its input.
    /// Most programs end by it; one that ignores SIGHUP goes on without a terminal.
    ///
    /// # Errors
    /// [`ErrorKind::State`](crate::ErrorKind::State) without a terminal, after the end and after a hang-up.
    pub fn hang_up(&self) -> Result<(), Error> {
        self.slot.hang_up()
    }
}

impl ContainerHandle {
    /// See [`ProcessHandle::resize`].
    ///
    /// # Errors
    /// As there.
    pub fn resize(&self, rows: u16, columns: u16) -> Result<(), Error> {
        self.process().resize(rows, columns)
    }

    /// See [`ProcessHandle::hang_up`].
    ///
    /// # Errors
    /// As there.
    pub fn hang_up(&self) -> Result<(), Error> {
        self.process().hang_up()
    }
}
