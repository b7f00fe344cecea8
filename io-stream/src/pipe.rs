//! Pipe ends from owned descriptors. The only file that names tokio-pipe.
//!
//! The pumps read through [`PipeReader`], standard input is written through [`PipeWriter`]. Each checks
//! what it is given before it takes it, and makes non-blocking only the end it owns: the other end,
//! which the workload holds, stays as it is.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fcntl_setfl, fstat};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::unix::pipe::Receiver;
use tokio_pipe::PipeWrite;

use crate::error::{StreamError, StreamErrorKind};
use crate::intercept::Interceptor;
use crate::pipe_size::{DEFAULT_PIPE_SIZE, GROWN_PIPE, Grown, pipe_size};
use crate::read_buffer::{self, READ_MAX};

const OPEN_READER: &str = "open the reading end";
const OPEN_WRITER: &str = "open the writing end";
pub(crate) const READ: &str = "read a pipe";
/// From so many readers on a larger pipe pays: what each read costs for all of them is spread over more bytes.
const MANY_READERS: usize = 16;

/// The reading end of a pipe, one end of a stream socket, or the master of a pseudo-terminal.
#[derive(Debug)]
pub struct PipeReader {
    receiver: Receiver,
    kind: Kind,
    /// The most that one read takes.
    most: usize,
    /// What came of the attempt to make it larger.
    grown: Option<Option<Grown>>,
    /// Asked by the pump that reads it.
    pub(crate) interceptor: Option<Interceptor>,
}

/// What a reader reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Pipe,
    Socket,
    Terminal,
}

/// A descriptor that a log is fed from, by what it is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Feed<'a> {
    /// Spliced from.
    Pipe(BorrowedFd<'a>),
    /// The master of one: copied. Its end is EIO.
    Terminal(BorrowedFd<'a>),
    /// Copied.
    Socket(BorrowedFd<'a>),
}

impl Feed<'_> {
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        let (Self::Pipe(fd) | Self::Terminal(fd) | Self::Socket(fd)) = self;
        *fd
    }
}

impl PipeReader {
    /// Takes the descriptor over and makes it non-blocking.
    ///
    /// # Errors
    ///
    /// [`StreamErrorKind::NotAPipe`], [`StreamErrorKind::WrongEnd`], [`StreamErrorKind::NoRuntime`], or
    /// [`StreamErrorKind::Prepare`] with what the system said. The descriptor is closed then.
    ///
    /// # Panics
    ///
    /// Inside a tokio runtime that was built without I/O.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, StreamError> {
        let kind = match check_end(&fd, OFlags::RDONLY, OPEN_READER)? {
            FileType::Fifo => Kind::Pipe,
            FileType::Socket => Kind::Socket,
            FileType::CharacterDevice if is_pty_master(&fd) => Kind::Terminal,
            _ => return Err(StreamError::new(OPEN_READER, StreamErrorKind::NotAPipe)),
        };
        if kind == Kind::Pipe {
            warn_if_small(&fd);
        }
        set_nonblocking(&fd, OPEN_READER)?;
        let receiver = Receiver::from_owned_fd_unchecked(fd)
            .map_err(|error| StreamError::io(OPEN_READER, StreamErrorKind::Prepare, error))?;
        Ok(Self { receiver, kind, most: READ_MAX, grown: None, interceptor: None })
    }

    /// Lets a test interfere with what a [`pump`](crate::pump) or [`pump_pair`](crate::pump_pair) reads from it; nobody
    /// else asks.
    #[must_use]
    pub fn intercepted(mut self, by: Interceptor) -> Self {
        self.interceptor = Some(by);
        self
    }

    /// Makes the pipe hold more, and reads take as much, because `readers` are woken for each of them. Nothing happens
    /// where that does not pay, was done before, or is not to be had.
    pub(crate) fn grow_for(&mut self, readers: usize) {
        if readers >= MANY_READERS && self.grown.is_none() {
            let grown = Grown::take(&self.receiver);
            if grown.is_some() {
                self.most = GROWN_PIPE;
            }
            self.grown = Some(grown);
        }
    }

    /// The most that one read takes.
    pub(crate) const fn most(&self) -> usize {
        self.most
    }

    /// The next bytes, at most 64 KiB (256 KiB for many readers); none at the end.
    ///
    /// Cancel safe: dropped before it is ready, it has read nothing.
    pub(crate) async fn read(&mut self) -> Result<Bytes, StreamError> {
        poll_fn(|cx| self.poll_read(cx)).await.map_err(|error| StreamError::io(READ, StreamErrorKind::Read, error))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        read_buffer::with(self.most, |buffer| {
            {
                let mut limited = (&mut *buffer).limit(self.most);
                // The future keeps nothing between polls; the receiver keeps the waker.
                match ready!(pin!(self.receiver.read_buf(&mut limited)).poll(cx)) {
                    Err(error) if self.is_terminal() && error.raw_os_error() == Some(EIO) => 0,
                    read => read?,
                };
            }
            Poll::Ready(Ok(read_buffer::take(buffer)))
        })
    }

    /// A terminal that everybody has closed says EIO: that is its end.
    fn is_terminal(&self) -> bool {
        self.kind == Kind::Terminal
    }

    /// Waits until there is something to read, or the end.
    pub(crate) async fn ready(&self) -> io::Result<()> {
        self.receiver.readable().await
    }

    /// Runs one non-blocking operation on the descriptor; after [`io::ErrorKind::WouldBlock`] of it
    /// [`PipeReader::ready`] waits for new bytes.
    pub(crate) fn try_io<R>(&self, operation: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        self.receiver.try_io(operation)
    }

    /// Whether it is a pipe, and no socket or terminal.
    pub(crate) fn is_pipe(&self) -> bool {
        self.kind == Kind::Pipe
    }

    /// It as something that a log is fed from.
    pub(crate) fn feed(&self) -> Feed<'_> {
        let fd = self.receiver.as_fd();
        match self.kind {
            Kind::Pipe => Feed::Pipe(fd),
            Kind::Terminal => Feed::Terminal(fd),
            Kind::Socket => Feed::Socket(fd),
        }
    }

    /// How many bytes the pipe holds at this moment, at the most: a terminal counts no more of them than one read gets.
    pub(crate) fn available(&self) -> Result<u64, StreamError> {
        if self.is_terminal() {
            return Ok(TERMINAL_HOLDS);
        }
        rustix::io::ioctl_fionread(&self.receiver).map_err(|errno| StreamError::io(READ, StreamErrorKind::Read, errno))
    }

    /// What can be read without waiting, at most 64 KiB: `Some` of nothing is the end, `None` is an
    /// empty pipe whose writers still live.
    ///
    /// It asks the pipe itself, not tokio's memory of its readiness.
    pub(crate) fn read_now(&mut self) -> Result<Option<Bytes>, StreamError> {
        let mut buffer = vec![0; READ_MAX];
        loop {
            match rustix::io::read(&self.receiver, &mut buffer) {
                Ok(len) => return Ok(Some(Bytes::copy_from_slice(&buffer[..len]))),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Ok(None),
                Err(rustix::io::Errno::IO) if self.is_terminal() => return Ok(Some(Bytes::new())),
                Err(errno) => return Err(StreamError::io(READ, StreamErrorKind::Read, errno)),
            }
        }
    }
}

/// More than a pseudo-terminal holds for its master: 8 KiB in its buffers (`pty_common_install`), 4 KiB in its line
/// discipline.
const TERMINAL_HOLDS: u64 = 16 << 10;

/// What a terminal's master says when the last process has closed it.
const EIO: i32 = rustix::io::Errno::IO.raw_os_error();

/// Whether it is the master of a pseudo-terminal: only those have a number for their peer.
pub(crate) fn is_pty_master(fd: &OwnedFd) -> bool {
    rustix::termios::isatty(fd) && rustix::pty::ptsname(fd, Vec::new()).is_ok()
}

/// Says that this pipe is smaller than pipes are: the user's budget of pages is spent, and the workload
/// waits sooner.
fn warn_if_small(fd: &OwnedFd) {
    match pipe_size(fd) {
        Ok(size) if size < DEFAULT_PIPE_SIZE => {
            tracing::warn!(size, "a pipe is small: the user's pipe pages may be spent (pipe(7))");
        }
        _ => {}
    }
}

impl AsFd for PipeReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}

impl TryFrom<OwnedFd> for PipeReader {
    type Error = StreamError;

    fn try_from(fd: OwnedFd) -> Result<Self, StreamError> {
        Self::from_fd(fd)
    }
}

/// The writing end of a pipe.
#[derive(Debug)]
pub struct PipeWriter {
    pipe: PipeWrite,
}

impl PipeWriter {
    /// Takes the descriptor over and makes it non-blocking.
    ///
    /// Sockets are refused: shutting one down for writing is another call than closing it.
    ///
    /// # Errors
    ///
    /// [`StreamErrorKind::NotAPipe`], [`StreamErrorKind::WrongEnd`], [`StreamErrorKind::NoRuntime`], or
    /// [`StreamErrorKind::Prepare`] with what the system said. The descriptor is closed then.
    ///
    /// # Panics
    ///
    /// Inside a tokio runtime that was built without I/O.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place: the descriptor is owned, was checked, and is given up by the same line"
    )]
    pub fn from_fd(fd: OwnedFd) -> Result<Self, StreamError> {
        match check_end(&fd, OFlags::WRONLY, OPEN_WRITER)? {
            FileType::Fifo => {}
            _ => return Err(StreamError::new(OPEN_WRITER, StreamErrorKind::NotAPipe)),
        }
        set_nonblocking(&fd, OPEN_WRITER)?;
        // Checked, so that the checks inside cannot fail: they would leak the descriptor.
        let pipe = PipeWrite::from_raw_fd_checked(fd.into_raw_fd())
            .map_err(|error| StreamError::io(OPEN_WRITER, StreamErrorKind::Prepare, error))?;
        Ok(Self { pipe })
    }

    /// Writes what fits into the pipe.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.pipe).poll_write(cx, data)
    }
}

impl TryFrom<OwnedFd> for PipeWriter {
    type Error = StreamError;

    fn try_from(fd: OwnedFd) -> Result<Self, StreamError> {
        Self::from_fd(fd)
    }
}

/// The type of the descriptor, if it can be used here at all: inside a runtime, and, of a pipe, open
/// for `access` alone. An end that is open for both would hold its own end of file back.
fn check_end(fd: &OwnedFd, access: OFlags, operation: &'static str) -> Result<FileType, StreamError> {
    if tokio::runtime::Handle::try_current().is_err() {
        return Err(StreamError::new(operation, StreamErrorKind::NoRuntime));
    }
    let prepare = |errno| StreamError::io(operation, StreamErrorKind::Prepare, errno);
    let kind = FileType::from_raw_mode(fstat(fd).map_err(prepare)?.st_mode);
    let flags = fcntl_getfl(fd).map_err(prepare)?;
    if kind == FileType::Fifo && flags & OFlags::ACCMODE != access {
        return Err(StreamError::new(operation, StreamErrorKind::WrongEnd));
    }
    Ok(kind)
}

pub(crate) fn set_nonblocking(fd: &OwnedFd, operation: &'static str) -> Result<(), StreamError> {
    fcntl_getfl(fd)
        .and_then(|flags| fcntl_setfl(fd, flags | OFlags::NONBLOCK))
        .map_err(|errno| StreamError::io(operation, StreamErrorKind::Prepare, errno))
}

#[cfg(test)]
mod tests {
    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    fn pipe() -> (OwnedFd, OwnedFd) {
        pipe_with(PipeFlags::CLOEXEC).unwrap()
    }

    fn is_nonblocking(fd: impl AsFd) -> bool {
        fcntl_getfl(fd).unwrap().contains(OFlags::NONBLOCK)
    }

    #[tokio::test]
    async fn only_our_end_becomes_nonblocking() {
        let (read, write) = pipe();
        let reader = PipeReader::from_fd(read).unwrap();
        assert!(is_nonblocking(&reader) && !is_nonblocking(&write));
        let (read, write) = pipe();
        let _writer = PipeWriter::from_fd(write).unwrap();
        assert!(!is_nonblocking(&read));
    }

    #[tokio::test]
    async fn a_wrong_descriptor_is_refused() {
        let file = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let kind = |result: Result<(), StreamError>| result.unwrap_err().kind();
        let (read, write) = pipe();
        assert_eq!(kind(PipeReader::from_fd(write).map(drop)), StreamErrorKind::WrongEnd);
        assert_eq!(kind(PipeWriter::from_fd(read).map(drop)), StreamErrorKind::WrongEnd);
        assert_eq!(kind(PipeReader::from_fd(file()).map(drop)), StreamErrorKind::NotAPipe);
        assert_eq!(kind(PipeWriter::from_fd(file()).map(drop)), StreamErrorKind::NotAPipe);
    }

    #[test]
    fn without_a_runtime_the_error_is_typed() {
        let (read, write) = pipe();
        let error = PipeReader::from_fd(read).unwrap_err();
        assert_eq!(error.kind(), StreamErrorKind::NoRuntime);
        let error = PipeWriter::from_fd(write).unwrap_err();
        assert_eq!(error.kind(), StreamErrorKind::NoRuntime);
    }

    #[tokio::test]
    async fn a_socket_can_be_read() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut reader = PipeReader::from_fd(ours.into()).unwrap();
        rustix::io::write(&theirs, b"hello").unwrap();
        assert_eq!(reader.read().await.unwrap(), "hello");
        drop(theirs);
        assert!(reader.read().await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn read_now_tells_empty_from_ended() {
        let (read, write) = pipe();
        let mut reader = PipeReader::from_fd(read).unwrap();
        assert_eq!(reader.read_now().unwrap(), None);
        rustix::io::write(&write, b"abc").unwrap();
        assert_eq!(reader.available().unwrap(), 3);
        assert_eq!(reader.read_now().unwrap(), Some(Bytes::from("abc")));
        drop(write);
        assert_eq!(reader.read_now().unwrap(), Some(Bytes::new()));
    }
}
