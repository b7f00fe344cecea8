//! The supervisor's side of a filter that asks: which call, and what becomes of it.

use std::io;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::sys::{self, notify};

/// A call that waits for an answer. Its process is stopped in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Names it in [`Listener::answer`] and [`Listener::waits`].
    pub id: u64,
    /// The thread that makes it, in our pid namespace; another one's by the time [`Listener::waits`] says no.
    pub pid: u32,
    /// `AUDIT_ARCH_*`.
    pub arch: u32,
    /// Its number.
    pub number: u32,
    /// Its arguments. What a pointer points to may be changed by another thread at any time: no decision about security
    /// can be made from it.
    pub args: [u64; 6],
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It fails with this error number.
    Errno(u16),
    /// It returns this, and nothing was done.
    Value(i64),
    /// It is made after all (5.5).
    Continue,
}

/// Hears of the calls that a filter's [`Action::Notify`](super::Action::Notify) is about. The one reader of its listener:
/// the kernel blocks a second one, whatever its flags. Dropped, those calls fail with ENOSYS.
#[derive(Debug)]
pub struct Listener {
    fd: AsyncFd<OwnedFd>,
}

impl Listener {
    /// Of [`Started::listener`](crate::Started::listener). Needs a tokio runtime with I/O.
    ///
    /// # Errors
    /// It cannot be watched.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(listener: OwnedFd) -> io::Result<Self> {
        Ok(Self { fd: sys::watch(listener, Interest::READABLE)? })
    }

    /// The next call that waits; `None`: nobody who could make one is left.
    ///
    /// # Errors
    /// The kernel's.
    ///
    /// # Cancel safety
    /// A call is taken in the poll that returns it or not at all.
    pub async fn next(&mut self) -> io::Result<Option<Asked>> {
        loop {
            let mut ready = self.fd.readable().await?;
            let mut fds = [PollFd::new(ready.get_inner(), PollFlags::IN)];
            // Asked again: an edge may be of a call whose process was killed meanwhile, and receiving would block.
            if poll(&mut fds, Some(&Timespec::default()))? == 0 {
                ready.clear_ready();
                continue;
            }
            let events = fds[0].revents();
            if !events.contains(PollFlags::IN) {
                return Ok(None);
            }
            match notify::receive(ready.get_inner()) {
                Ok(asked) => return Ok(Some(asked)),
                // Killed between the question and now.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The call still waits: what was read of its process meanwhile was its own.
    #[must_use]
    pub fn waits(&self, id: u64) -> bool {
        notify::valid(self.fd.get_ref(), id).is_ok()
    }

    /// Answer it. `false`: it does not wait any more, it was answered or its process killed or interrupted.
    ///
    /// # Errors
    /// EINVAL for [`Answer::Continue`] before 5.5.
    pub fn answer(&self, id: u64, answer: Answer) -> io::Result<bool> {
        match notify::answer(self.fd.get_ref(), id, answer) {
            Ok(()) => Ok(true),
            // EINPROGRESS: answered, and its process has not run since.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINPROGRESS)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
