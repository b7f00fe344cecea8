//! Pseudo-terminals: a master descriptor that somebody else made, as a stream and a terminal.
//!
//! Reading goes through the same pumps and hubs as a pipe: one stream, any number of readers, exact
//! replay; a reader that leaves hangs up nothing. The line discipline is left as it is (`onlcr` makes
//! `\r\n` of `\n`). Making the pair is not done here: the peer belongs into the workload's own devpts,
//! by TIOCGPTPEER, never by path.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::termios::{Winsize, tcgetwinsize, tcsetwinsize};
use tokio::net::unix::pipe::Sender;

use crate::error::{StreamError, StreamErrorKind};
use crate::keyboard::{Line, PtyWriter};
use crate::pipe::{PipeReader, is_pty_master, set_nonblocking};

const OPEN: &str = "open a terminal";
const RESIZE: &str = "resize a terminal";

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PtySize {
    /// Lines.
    pub rows: u16,
    /// Characters of a line.
    pub columns: u16,
}

impl Default for PtySize {
    /// 24 lines of 80 characters.
    fn default() -> Self {
        Self { rows: 24, columns: 80 }
    }
}

/// The master of a pseudo-terminal.
///
/// The terminal is hung up when this, its readers and its writers are all gone: the session that it controls gets
/// SIGHUP, whoever reads it the end of file, and writes to it fail. See [`Pty::hang_up`].
#[derive(Debug)]
pub struct Pty {
    master: OwnedFd,
    writers: Mutex<Vec<Weak<Line>>>,
}

impl Pty {
    /// Takes the master over and makes it non-blocking. A terminal without a size gets the default one.
    ///
    /// # Errors
    ///
    /// [`StreamErrorKind::NotAPty`], or [`StreamErrorKind::Prepare`] with what the system said. The
    /// descriptor is closed then.
    pub fn from_master(master: OwnedFd) -> Result<Self, StreamError> {
        if !is_pty_master(&master) {
            return Err(StreamError::new(OPEN, StreamErrorKind::NotAPty));
        }
        set_nonblocking(&master, OPEN)?;
        let pty = Self { master, writers: Mutex::default() };
        if pty.size()? == (PtySize { rows: 0, columns: 0 }) {
            pty.resize(PtySize::default())?;
        }
        Ok(pty)
    }

    /// Its output, for a pump: ends when the last process has closed the terminal.
    ///
    /// # Errors
    ///
    /// As [`PipeReader::from_fd`].
    ///
    /// # Panics
    ///
    /// As [`PipeReader::from_fd`].
    pub fn reader(&self) -> Result<PipeReader, StreamError> {
        PipeReader::from_fd(self.duplicate()?)
    }

    /// Its input, as if typed.
    ///
    /// # Errors
    ///
    /// [`StreamErrorKind::NoRuntime`], or [`StreamErrorKind::Prepare`] with what the system said.
    ///
    /// # Panics
    ///
    /// Inside a tokio runtime that was built without I/O.
    pub fn writer(&self) -> Result<PtyWriter, StreamError> {
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(StreamError::new(OPEN, StreamErrorKind::NoRuntime));
        }
        // The pipe's type of tokio's: any descriptor that can be waited for.
        let master = Sender::from_owned_fd_unchecked(self.duplicate()?);
        let master = master.map_err(|error| StreamError::io(OPEN, StreamErrorKind::Prepare, error))?;
        let line = Line::new(master);
        let mut writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        writers.retain(|writer| writer.strong_count() > 0);
        writers.push(Arc::downgrade(&line));
        Ok(PtyWriter::new(line))
    }

    /// Lets go of the terminal, and takes it away from its writers, wherever they are. It is hung up at once unless
    /// somebody still reads: a [`pump`](crate::pump) lets go when its hub is closed.
    pub fn hang_up(self) {
        let writers = self.writers.into_inner().unwrap_or_else(PoisonError::into_inner);
        writers.iter().filter_map(Weak::upgrade).for_each(|writer| writer.hang_up());
    }

    /// The size that the workload sees.
    ///
    /// # Errors
    ///
    /// [`StreamErrorKind::Prepare`] with what the system said.
    pub fn size(&self) -> Result<PtySize, StreamError> {
        let size =
            tcgetwinsize(&self.master).map_err(|errno| StreamError::io(RESIZE, StreamErrorKind::Prepare, errno))?;
        Ok(PtySize { rows: size.ws_row, columns: size.ws_col })
    }

    /// Sets the size; the foreground processes get SIGWINCH if it is another one. At any time.
    ///
    /// # Errors
    ///
    /// [`StreamErrorKind::Prepare`] with what the system said.
    pub fn resize(&self, size: PtySize) -> Result<(), StreamError> {
        let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.master, size).map_err(|errno| StreamError::io(RESIZE, StreamErrorKind::Prepare, errno))
    }

    fn duplicate(&self) -> Result<OwnedFd, StreamError> {
        self.master.try_clone().map_err(|error| StreamError::io(OPEN, StreamErrorKind::Prepare, error))
    }
}

impl AsFd for Pty {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.master.as_fd()
    }
}
