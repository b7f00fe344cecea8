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
use crate::pipe::PipeWriter;

const WRITE: &str = "write stdin";

/// Writes to a process's standard input.
///
/// [`shutdown`](AsyncWriteExt::shutdown) closes it: the process then reads the end of file, while its
/// output goes on. Dropping it does the same, unless it was [`lent`](Self::lent). A process that closes its standard input early is no
/// failure of ours: writes answer [`io::ErrorKind::BrokenPipe`] from then on, `shutdown` still succeeds.
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
    pipe: Option<PipeWriter>,
    home: Option<Home>,
    writes: Option<Writes>,
}

/// Whom it goes back to.
struct Home(Box<dyn FnOnce(StdinWriter) + Send + Sync>);

impl fmt::Debug for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Home")
    }
}

impl StdinWriter {
    /// Writes to this pipe.
    pub const fn new(pipe: PipeWriter) -> Self {
        Self { pipe: Some(pipe), home: None, writes: None }
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
        self.pipe.is_none()
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
        if let (Some(pipe), Some(home)) = (self.pipe.take(), self.home.take()) {
            (home.0)(Self { pipe: Some(pipe), home: None, writes: self.writes.take() });
        }
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
        let Some(pipe) = &mut this.pipe else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        if let Some(writes) = &mut this.writes {
            match ready!(writes.poll(cx)) {
                Interference::None => {}
                Interference::Lose => return Poll::Ready(Ok(data.len())),
                Interference::Fail(error) => return Poll::Ready(Err(error)),
            }
        }
        let written = ready!(pipe.poll_write(cx, data));
        if let Some(writes) = &mut this.writes {
            writes.done();
        }
        if matches!(&written, Err(error) if error.kind() == io::ErrorKind::BrokenPipe) {
            this.pipe = None;
        }
        Poll::Ready(written)
    }

    /// Nothing is buffered on this side.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Closes the pipe; done at once, also when it is closed already.
    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pipe = None;
        Poll::Ready(Ok(()))
    }
}
