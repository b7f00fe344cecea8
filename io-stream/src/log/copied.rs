//! What is no pipe, copied into a log: splice(2) needs a pipe on one side, and a terminal or a socket is none.
//!
//! Read and then written by this process: one that is killed in between takes what it had read with it, at most one
//! read (of a terminal 4 KiB). Everything else is as with a pipe.

use rustix::io::Errno;

use super::writer::{Around, Taken, Writer};
use crate::chunk::Stamp;
use crate::pipe::Feed;

/// The most that one step copies.
const COPY: usize = 16 * 1024;

impl Writer {
    /// Takes what `feed` holds, once: every byte is in the log then, or counted as lost.
    pub(super) fn copy(&mut self, feed: Feed<'_>, now: &Stamp, around: &mut Around<'_>) -> Taken {
        let mut buffer = [0; COPY];
        let len = match read(feed, &mut buffer) {
            Ok(len) => len,
            Err(taken) => return taken,
        };
        let mut rest = &buffer[..len];
        while !rest.is_empty() && self.takes(now, around) {
            match self.write(rest, now, around) {
                Ok(written) => rest = &rest[written..],
                Err(errno) => self.give_up(errno, now, around),
            }
        }
        if !rest.is_empty() {
            self.lose(rest.len() as u64, around);
            return Taken::Discarded(len as u64);
        }
        Taken::Logged(len as u64)
    }

    fn write(&mut self, bytes: &[u8], now: &Stamp, around: &mut Around<'_>) -> Result<usize, Errno> {
        self.leave_if_over(now, around);
        let (open, most) = self.enter(now, around)?;
        let written =
            match rustix::io::retry_on_intr(|| rustix::io::write(&open.file, &bytes[..bytes.len().min(most)]))? {
                0 => return Err(Errno::NOSPC),
                written => written,
            };
        self.advance(written as u64, around);
        Ok(written)
    }
}

/// Reads once, without waiting; what it is instead of bytes.
pub(super) fn read(feed: Feed<'_>, buffer: &mut [u8]) -> Result<usize, Taken> {
    match rustix::io::retry_on_intr(|| rustix::io::read(feed.as_fd(), &mut *buffer)) {
        Ok(0) => Err(Taken::Eof),
        Ok(len) => Ok(len),
        Err(Errno::AGAIN) => Err(Taken::Empty),
        // Everybody has closed it.
        Err(Errno::IO) if matches!(feed, Feed::Terminal(_)) => Err(Taken::Eof),
        Err(errno) => Err(Taken::Failed(errno)),
    }
}
