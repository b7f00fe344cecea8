//! What ends a wait before that comes which is waited for: the end of the container's first process, a time, somebody who asks.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::super::lives;
use crate::error::{Error, ErrorKind};

/// Somebody who may want that nothing is waited for any more: whoever passes on the signals of a command.
pub trait Halt: fmt::Debug {
    /// One that can be read from wakes who waits, to [ask](Halt::asked) again.
    fn wakes(&self) -> Vec<BorrowedFd<'_>>;

    /// Why it is to end now; `None`: it goes on.
    fn asked(&self) -> Option<Error>;
}

/// Until when something is waited for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Until<'a> {
    /// Then it is too late.
    pub(super) time: Option<Instant>,
    /// The container's first process: when that has ended there is nothing to wait for.
    pub(super) init: Option<&'a OwnedFd>,
    pub(super) halt: Option<&'a dyn Halt>,
}

/// Why somebody does not wait any more.
#[derive(Debug)]
pub(super) enum Stop {
    /// The time has come.
    Late,
    /// Everything else.
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Stop> for Error {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Late => Error::new(ErrorKind::Creation, "it took too long"),
            Stop::Failed(error) => error,
        }
    }
}

impl Until<'_> {
    /// Nothing has ended the wait yet.
    pub(super) fn look(&self) -> Result<(), Stop> {
        if self.init.is_some_and(|init| !lives(init)) {
            return Err(Error::new(ErrorKind::State, "the container's first process has ended").into());
        }
        if let Some(error) = self.halt.and_then(Halt::asked) {
            return Err(error.into());
        }
        let late = self.time.is_some_and(|time| time <= Instant::now());
        if late { Err(Stop::Late) } else { Ok(()) }
    }

    /// Wait until one of these can be read from, at the longest; which of them can.
    pub(super) fn wait<const N: usize>(&self, fds: [Option<BorrowedFd<'_>>; N]) -> Result<[bool; N], Stop> {
        self.look()?;
        let left = self.time.map(|time| time.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        let mut all: Vec<PollFd<'_>> =
            fds.iter().flatten().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
        let others = self.init.map(AsFd::as_fd).into_iter().chain(self.halt.map(Halt::wakes).unwrap_or_default());
        all.extend(others.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        match poll(&mut all, left.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Error::system("cannot wait", error).into()),
        }
        let mut ready = all.iter().map(|fd| !fd.revents().is_empty());
        Ok(fds.map(|fd| fd.is_some() && ready.next().unwrap_or_default()))
    }
}
