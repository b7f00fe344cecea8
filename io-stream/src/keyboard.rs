//! What is typed at a terminal: the way in of a pseudo-terminal, by its master.
//!
//! Bounded by the terminal itself: there is no queue here, a terminal that takes no more makes the writer wait.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use rustix::io::Errno;
use rustix::termios::{InputModes, LocalModes, SpecialCodeIndex as Code, Termios, tcgetattr};
use tokio::io::AsyncWrite;
use tokio::net::unix::pipe::Sender;

use crate::error::{StreamError, StreamErrorKind};

/// A character that is switched off (`_POSIX_VDISABLE`).
const OFF: u8 = 0;

/// Writes to a terminal as its keyboard would.
///
/// A terminal has no half-close: `shutdown` does nothing, and [`PtyWriter::end_of_input`] types what the
/// line discipline takes for an end. When the last process has closed the terminal, and after a
/// [`Pty::hang_up`](crate::Pty::hang_up), writes answer [`io::ErrorKind::BrokenPipe`]. Of a line that is longer than the
/// 4,095 bytes of termios(3) the line discipline loses the rest, as if typed; in raw mode nothing is lost.
#[derive(Debug)]
pub struct PtyWriter {
    line: Arc<Line>,
    /// The last byte that was typed here.
    last: Option<u8>,
}

/// The master as its writer has it, unless the terminal was hung up meanwhile.
#[derive(Debug)]
pub(crate) struct Line(Mutex<Open>);

#[derive(Debug)]
struct Open {
    master: Option<Sender>,
    /// Who waits for room: told when the master is taken away.
    waiting: Option<Waker>,
}

impl Line {
    pub(crate) fn new(master: Sender) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Open { master: Some(master), waiting: None })))
    }

    /// Takes the master away from whoever writes.
    pub(crate) fn hang_up(&self) {
        let (master, waiting) = {
            let mut open = self.open();
            (open.master.take(), open.waiting.take())
        };
        drop(master);
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll_write(&self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let mut open = self.open();
        let Some(master) = &mut open.master else { return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) };
        let written = Pin::new(master).poll_write(cx, data);
        open.waiting = written.is_pending().then(|| cx.waker().clone());
        written.map_err(closed)
    }

    fn modes(&self) -> io::Result<Termios> {
        let open = self.open();
        let master = open.master.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        tcgetattr(master).map_err(|errno| closed(errno.into()))
    }
}

/// The other side is closed.
fn closed(error: io::Error) -> io::Error {
    match Errno::from_io_error(&error) {
        Some(Errno::IO) => io::ErrorKind::BrokenPipe.into(),
        _ => error,
    }
}

impl PtyWriter {
    pub(crate) fn new(line: Arc<Line>) -> Self {
        Self { line, last: None }
    }

    /// Types the terminal's end-of-file character (Ctrl-D unless it was changed), which ends the reader's
    /// input at the beginning of a line only: behind a line that was begun here it is typed twice. A
    /// terminal in raw mode, or one whose character is switched off, gets nothing: it knows no end.
    ///
    /// # Errors
    ///
    /// [`StreamErrorKind::BrokenPipe`] when the terminal is closed, else [`StreamErrorKind::Write`] with what the
    /// system said.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready and called again, it goes on.
    pub async fn end_of_input(&mut self) -> Result<(), StreamError> {
        let ended = std::future::poll_fn(|cx| self.poll_end_of_input(cx)).await;
        ended.map_err(|error| {
            let kind = match error.kind() {
                io::ErrorKind::BrokenPipe => StreamErrorKind::BrokenPipe,
                _ => StreamErrorKind::Write,
            };
            StreamError::io("write to a terminal", kind, error)
        })
    }

    pub(crate) fn poll_end_of_input(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let modes = self.line.modes()?;
            let end = modes.special_codes[Code::VEOF];
            if !modes.local_modes.contains(LocalModes::ICANON) || end == OFF {
                return Poll::Ready(Ok(()));
            }
            let at_beginning = self.last.is_none_or(|last| ends_line(&modes, last));
            ready!(self.poll_type(cx, &[end]))?;
            if at_beginning {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn poll_type(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(self.line.poll_write(cx, data))?;
        self.last = written.checked_sub(1).and_then(|at| data.get(at)).copied().or(self.last);
        Poll::Ready(Ok(written))
    }
}

/// Whether nothing of a line is left to be read behind this byte (n_tty(4), termios(3)).
fn ends_line(modes: &Termios, byte: u8) -> bool {
    let is = |code: Code| byte != OFF && modes.special_codes[code] == byte;
    let input = |flag: InputModes| modes.input_modes.contains(flag);
    let flushes = modes.local_modes.contains(LocalModes::ISIG) && !modes.local_modes.contains(LocalModes::NOFLSH);
    match byte {
        b'\n' => !input(InputModes::INLCR),
        b'\r' => input(InputModes::ICRNL) && !input(InputModes::IGNCR),
        _ => {
            [Code::VEOF, Code::VEOL, Code::VEOL2, Code::VKILL].into_iter().any(is)
                || flushes && [Code::VINTR, Code::VQUIT, Code::VSUSP].into_iter().any(is)
        }
    }
}

impl AsyncWrite for PtyWriter {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_type(cx, data)
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
