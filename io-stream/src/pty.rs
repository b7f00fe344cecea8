//! Pseudo-terminals: a master descriptor that somebody else made, as a stream and a terminal.
//!
//! Reading goes through the same pumps and hubs as a pipe: one stream, any number of readers, exact
//! replay; a reader that leaves hangs up nothing. The line discipline is left as it is (`onlcr` makes
//! `\r\n` of `\n`). Making the pair is not done here: the peer belongs into the workload's own devpts,
//! by TIOCGPTPEER, never by path.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::termios::{SpecialCodeIndex, Winsize, tcgetattr, tcgetwinsize, tcsetwinsize};
use tokio::io::AsyncWrite;
use tokio::net::unix::pipe::Sender;

use crate::error::{StreamError, StreamErrorKind};
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
/// The terminal is hung up when this, its readers and its writers are all gone.
#[derive(Debug)]
pub struct Pty {
    master: OwnedFd,
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
        let pty = Self { master };
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
        Ok(PtyWriter { master })
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

/// Writes to a terminal as its keyboard would.
///
/// A terminal has no half-close: `shutdown` does nothing, and [`PtyWriter::end_of_input`] types what the
/// line discipline takes for an end. When the last process has closed the terminal, writes go nowhere
/// that is read.
#[derive(Debug)]
pub struct PtyWriter {
    master: Sender,
}

impl PtyWriter {
    /// Types the terminal's end-of-file character (Ctrl-D unless it was changed): at the beginning of a
    /// line it ends the reader's input. A terminal in raw mode gets nothing: it knows no such character.
    ///
    /// # Errors
    ///
    /// [`StreamErrorKind::Write`] with what the system said.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, it has typed nothing.
    pub async fn end_of_input(&mut self) -> Result<(), StreamError> {
        let failed = |error: io::Error| StreamError::io("write to a terminal", StreamErrorKind::Write, error);
        let modes = tcgetattr(&self.master).map_err(|errno| failed(errno.into()))?;
        if !modes.local_modes.contains(rustix::termios::LocalModes::ICANON) {
            return Ok(());
        }
        let character = modes.special_codes[SpecialCodeIndex::VEOF];
        let typed = std::future::poll_fn(|cx| Pin::new(&mut *self).poll_write(cx, &[character])).await;
        typed.map(drop).map_err(failed)
    }
}

impl AsyncWrite for PtyWriter {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.master).poll_write(cx, data));
        Poll::Ready(written.map_err(|error| match Errno::from_io_error(&error) {
            // The other side is closed.
            Some(Errno::IO) => io::ErrorKind::BrokenPipe.into(),
            _ => error,
        }))
    }

    /// Nothing is buffered on this side.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// There is no half-close.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
