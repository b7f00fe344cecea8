//! Raw hand-over: a pipe spliced straight to a socket, a file or another pipe.
//!
//! For output that nobody else needs to see: no byte enters this process. Driven by whoever polls it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fcntl_setfl, fstat};
use rustix::io::Errno;
use rustix::pipe::{SpliceFlags, splice};
use tokio::net::unix::pipe::Sender;

use crate::error::{StreamError, StreamErrorKind};
use crate::pipe::PipeReader;

const HAND_OVER: &str = "hand a stream over";
/// The most that one call moves: a pipe's default capacity (pipe(7)).
const STEP: usize = 64 * 1024;

/// How a hand-over ended.
#[derive(Debug)]
pub enum HandOverEnd {
    /// Every writer of the pipe closed its end: the target has everything.
    Eof,
    /// Nobody reads the target any more. What was not moved is still in the pipe.
    TargetGone,
    /// Moving failed. What was not moved is still in the pipe.
    Failed(StreamError),
}

/// Moves everything from a pipe to another descriptor, by splice(2).
///
/// ```
/// use std::io::{Read, Write};
/// use orangery_io_stream::{HandOver, HandOverEnd, PipeReader};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (ours, mut workload) = std::io::pipe()?;
/// let (mut client, socket) = std::os::unix::net::UnixStream::pair()?;
/// workload.write_all(b"hello")?;
/// drop(workload);
///
/// let mut hand_over = HandOver::new(PipeReader::from_fd(ours.into())?, socket.into())?;
/// assert!(matches!(hand_over.run().await, HandOverEnd::Eof));
/// assert_eq!(hand_over.bytes(), 5);
/// drop(hand_over);
/// let mut text = String::new();
/// client.read_to_string(&mut text)?;
/// assert_eq!(text, "hello");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct HandOver {
    reader: PipeReader,
    target: Target,
    bytes: u64,
}

#[derive(Debug)]
enum Target {
    /// A pipe or a socket: it may be full.
    Polled(Sender),
    /// A file: it never is.
    File(OwnedFd),
}

impl HandOver {
    /// Prepares to move from `reader` to `target`. Pipes and sockets are made non-blocking, which their
    /// other holders see. A file gets the bytes at its position and must not be open for appending
    /// (splice(2)).
    ///
    /// # Errors
    ///
    /// [`StreamErrorKind::NotAPipe`] if `reader` is a socket or a terminal,
    /// [`StreamErrorKind::WrongEnd`] for a target that splice cannot write to, or
    /// [`StreamErrorKind::Prepare`] with what the system said.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O.
    pub fn new(reader: PipeReader, target: OwnedFd) -> Result<Self, StreamError> {
        if !reader.is_pipe() {
            return Err(StreamError::new(HAND_OVER, StreamErrorKind::NotAPipe));
        }
        let prepare = |errno: Errno| StreamError::io(HAND_OVER, StreamErrorKind::Prepare, errno);
        let flags = fcntl_getfl(&target).map_err(prepare)?;
        if flags & OFlags::ACCMODE == OFlags::RDONLY || flags.contains(OFlags::APPEND) {
            return Err(StreamError::new(HAND_OVER, StreamErrorKind::WrongEnd));
        }
        let stat = fstat(&target).map_err(prepare)?;
        let target = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Fifo | FileType::Socket => {
                fcntl_setfl(&target, flags | OFlags::NONBLOCK).map_err(prepare)?;
                // The pipe's type of tokio's, for sockets as well: only its readiness is used.
                let polled = Sender::from_owned_fd_unchecked(target);
                Target::Polled(polled.map_err(|error| StreamError::io(HAND_OVER, StreamErrorKind::Prepare, error))?)
            }
            _ => Target::File(target),
        };
        Ok(Self { reader, target, bytes: 0 })
    }

    /// Moves until the pipe ends or the target is gone.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again: every byte is either in the pipe or in the target.
    pub async fn run(&mut self) -> HandOverEnd {
        loop {
            match self.step().await {
                Ok(0) => return HandOverEnd::Eof,
                Ok(len) => self.bytes += len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => match Errno::from_io_error(&error) {
                    Some(Errno::PIPE | Errno::CONNRESET) => return HandOverEnd::TargetGone,
                    _ => return HandOverEnd::Failed(StreamError::io(HAND_OVER, StreamErrorKind::Write, error)),
                },
            }
            tokio::task::consume_budget().await;
        }
    }

    /// Bytes that were moved so far.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The pipe, for whoever goes on with what was not moved. The target is closed.
    pub fn into_reader(self) -> PipeReader {
        self.reader
    }

    /// Waits until both sides are ready, and moves once.
    async fn step(&self) -> io::Result<u64> {
        self.reader.ready().await?;
        match &self.target {
            Target::File(file) => self.reader.try_io(|| move_once(self.reader.as_fd(), file.as_fd())),
            Target::Polled(polled) => {
                polled.writable().await?;
                let moved = move_once(self.reader.as_fd(), polled.as_fd());
                if matches!(&moved, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
                    // One error for two reasons: each side is asked, inside its own operation, so that news that
                    // come meanwhile are not forgotten with the old ones.
                    let _ = polled.try_io(|| ready_or_wait(polled.as_fd(), PollFlags::OUT));
                    let _ = self.reader.try_io(|| ready_or_wait(self.reader.as_fd(), PollFlags::IN));
                }
                moved
            }
        }
    }
}

fn move_once(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<u64> {
    loop {
        match splice(from, None, to, None, STEP, SpliceFlags::NONBLOCK) {
            Ok(len) => return Ok(len as u64),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn ready_or_wait(fd: BorrowedFd<'_>, wanted: PollFlags) -> io::Result<()> {
    let mut fds = [PollFd::from_borrowed_fd(fd, wanted)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    // An error or a hang-up is something to act on as well.
    match poll(&mut fds, Some(&now)) {
        Ok(0) => Err(io::ErrorKind::WouldBlock.into()),
        _ => Ok(()),
    }
}
