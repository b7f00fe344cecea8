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
        if self.held.is_some() {
            self.leave_if_over(now, around);
            if let Err(errno) = self.enter(now, around).map(drop) {
                self.give_up(errno, now, around);
            }
            if self.is_untold(now) {
                return Taken::Untold;
            }
        }
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
        let held = self.held.is_some();
        if !held {
            self.leave_if_over(now, around);
        }
        let left = usize::try_from(*around.left).unwrap_or(usize::MAX);
        let (open, most) = self.enter(now, around)?;
        // One that is held is left at the next step: nobody can be told between a read and its write.
        let most = if held { left } else { most };
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
