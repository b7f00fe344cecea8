//! The way in: standard input of a process.
//!
//! Held by one owner, bounded by the pipe itself: there is no queue here, a full pipe makes the writer
//! wait.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::error::{StreamError, StreamErrorKind};
use crate::intercept::{Interceptor, Interference, Writes};
use crate::keyboard::PtyWriter;
use crate::pipe::PipeWriter;

const WRITE: &str = "write stdin";

/// Writes to a process's standard input.
///
/// [`shutdown`](AsyncWriteExt::shutdown) closes it: the process then reads the end of file, while its
/// output goes on. Dropping it does the same, unless it was [`lent`](Self::lent). A process that closes its standard input early is no
/// failure of ours: writes answer [`io::ErrorKind::BrokenPipe`] from then on, `shutdown` still succeeds.
///
/// Where it is a terminal, writes are typed, `shutdown` types what the terminal takes for an end in the modes that it has
/// then ([`PtyWriter::end_of_input`]; in raw mode there is none), and dropping it types nothing: a terminal whose keyboard
/// nobody uses has not ended.
///
/// ```
/// use std::io::Read;
/// use orangery_io_stream::StdinWriter;
/// use tokio::io::AsyncWriteExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (mut theirs, ours) = std::io::pipe()?;
/// let mut stdin = StdinWriter::from_fd(ours.into())?;
/// stdin.write_all_bytes("hello".into()).await?;
/// stdin.shutdown().await?;
///
/// let mut text = String::new();
/// theirs.read_to_string(&mut text)?;
/// assert_eq!(text, "hello");
/// # Ok(())
/// # }
/// ```
///
/// The calling program must ignore `SIGPIPE`, as every Rust program does unless told otherwise.
#[derive(Debug)]
pub struct StdinWriter {
    /// `None` once closed from either side.
    way: Option<Way>,
    home: Option<Home>,
    writes: Option<Writes>,
    closed: Option<Closed>,
}

/// Where it leads.
#[derive(Debug)]
enum Way {
    Pipe(PipeWriter),
    Terminal(PtyWriter),
}

/// Whom it goes back to.
struct Home(Box<dyn FnOnce(StdinWriter) + Send + Sync>);

/// Who is told that it is closed.
struct Closed(Box<dyn FnOnce() + Send + Sync>);

impl fmt::Debug for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Closed")
    }
}

impl fmt::Debug for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Home")
    }
}

impl StdinWriter {
    /// Writes to this pipe.
    pub const fn new(pipe: PipeWriter) -> Self {
        Self { way: Some(Way::Pipe(pipe)), home: None, writes: None, closed: None }
    }

    /// Types at this terminal.
    pub const fn typing(terminal: PtyWriter) -> Self {
        Self { way: Some(Way::Terminal(terminal)), home: None, writes: None, closed: None }
    }

    /// Lets a test interfere with each write, also of whoever it is lent to.
    #[must_use]
    pub fn intercepted(mut self, by: Interceptor) -> Self {
        self.writes = Some(Writes::new(by));
        self
    }

    /// Lends it: dropped while it is still open, it is given to `home` instead of being closed. A shutdown closes it
    /// all the same, and then nobody gets it back.
    ///
    /// ```
    /// use orangery_io_stream::StdinWriter;
    /// use std::sync::mpsc;
    /// use tokio::io::AsyncWriteExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (_theirs, ours) = std::io::pipe()?;
    /// let (sender, back) = mpsc::sync_channel(1);
    /// drop(StdinWriter::from_fd(ours.into())?.lent(move |writer| drop(sender.send(writer))));
    /// let mut again = back.recv()?;
    /// again.write_all_bytes("more".into()).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn lent(mut self, home: impl FnOnce(Self) + Send + Sync + 'static) -> Self {
        self.home = Some(Home(Box::new(home)));
        self
    }

    /// Have this done when it is closed, by whomever and from whichever side: for who holds another end of the same pipe, which
    /// would keep the process from reading the end of file. Not when it goes back to whom it was lent by.
    #[must_use]
    pub fn when_closed(mut self, act: impl FnOnce() + Send + Sync + 'static) -> Self {
        self.closed = Some(Closed(Box::new(act)));
        self
    }

    fn close(&mut self) {
        self.way = None;
        if let Some(Closed(act)) = self.closed.take() {
            act();
        }
    }

    /// Takes the writing end of a pipe over.
    ///
    /// # Errors
    ///
    /// As [`PipeWriter::from_fd`].
    ///
    /// # Panics
    ///
    /// As [`PipeWriter::from_fd`].
    pub fn from_fd(fd: OwnedFd) -> Result<Self, StreamError> {
        PipeWriter::from_fd(fd).map(Self::new)
    }

    /// Whether it was shut down, or a write found that nobody reads any more.
    pub const fn is_closed(&self) -> bool {
        self.way.is_none()
    }

    /// Writes all of `data`.
    ///
    /// # Errors
    ///
    /// [`StreamErrorKind::BrokenPipe`] when nobody reads any more or after a shutdown, else
    /// [`StreamErrorKind::Write`].
    ///
    /// # Cancel safety
    ///
    /// None: dropped before it is ready, some of the bytes may have been written.
    pub async fn write_all_bytes(&mut self, data: Bytes) -> Result<(), StreamError> {
        self.write_all(&data).await.map_err(|error| {
            let kind = match error.kind() {
                io::ErrorKind::BrokenPipe => StreamErrorKind::BrokenPipe,
                _ => StreamErrorKind::Write,
            };
            StreamError::io(WRITE, kind, error)
        })
    }
}

impl Drop for StdinWriter {
    fn drop(&mut self) {
        if self.way.is_some()
            && let Some(home) = self.home.take()
        {
            let (way, writes, closed) = (self.way.take(), self.writes.take(), self.closed.take());
            return (home.0)(Self { way, home: None, writes, closed });
        }
        self.close();
    }
}

impl From<PipeWriter> for StdinWriter {
    fn from(pipe: PipeWriter) -> Self {
        Self::new(pipe)
    }
}

impl AsyncWrite for StdinWriter {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let Some(way) = &mut this.way else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        if let Some(writes) = &mut this.writes {
            match ready!(writes.poll(cx)) {
                Interference::None => {}
                Interference::Lose => return Poll::Ready(Ok(data.len())),
                Interference::Fail(error) => return Poll::Ready(Err(error)),
            }
        }
        let written = ready!(match way {
            Way::Pipe(pipe) => pipe.poll_write(cx, data),
            Way::Terminal(terminal) => Pin::new(terminal).poll_write(cx, data),
        });
        if let Some(writes) = &mut this.writes {
            writes.done();
        }
        if matches!(&written, Err(error) if error.kind() == io::ErrorKind::BrokenPipe) {
            this.close();
        }
        Poll::Ready(written)
    }

    /// Nothing is buffered on this side.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Closes a pipe, at once, also when it is closed already; types the end at a terminal.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = match &mut self.way {
            Some(Way::Terminal(terminal)) => ready!(terminal.poll_end_of_input(cx)),
            Some(Way::Pipe(_)) | None => Ok(()),
        };
        self.close();
        Poll::Ready(ended.or_else(|error| if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) }))
    }
}
