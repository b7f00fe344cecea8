//! Pause without a freezer: SIGSTOP to every process of a container, found by its pid namespace.
//!
//! Weaker than a freezer: the processes' parents can see it, SIGCONT undoes it for one of them, and a fork races with
//! the search (`space.rs`), so that it is repeated until nothing is found running any more, within bounds. It blocks; it is
//! called on a thread for that.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, pidfd_send_signal};

use super::space::{Key, Member, Space, is_there};
use crate::error::{Error, ErrorKind};

/// How long processes may take to stop, or go on forking.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks: the kernel tells nobody when a process that is not its child has stopped.
const LOOK_AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };

/// Processes that had been stopped before, by somebody else: they stay so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stopped(HashSet<Key>);

impl Stopped {
    /// As they are written down.
    pub(super) fn keys(&self) -> Vec<(i32, u64)> {
        let mut keys: Vec<Key> = self.0.iter().copied().collect();
        keys.sort_unstable();
        keys
    }

    pub(super) fn of(keys: &[(i32, u64)]) -> Self {
        Self(keys.iter().copied().collect())
    }
}

/// Stop everything in the pid namespace of `init`, it included.
///
/// # Errors
/// [`ErrorKind::Exhausted`] when they went on for five seconds: everything runs again then.
pub(super) fn stop(init_pid: i32, init: &OwnedFd) -> Result<Stopped, Error> {
    let mut space = Space::of(init_pid, init)?;
    if space.contains(std::process::id().cast_signed()) {
        let what = "the container shares its pid namespace with this process";
        return Err(Error::new(ErrorKind::Unsupported, what).with_field("pause"));
    }
    let mut before = Stopped::default();
    let mut known: HashSet<Key> = HashSet::new();
    for member in space.members()?.iter().filter(|member| member.stat.state() == 'T') {
        before.0.insert(member.key);
    }
    let until = Instant::now() + PATIENCE;
    loop {
        let mut running = 0;
        for member in space.members()?.iter().filter(|member| !before.0.contains(&member.key)) {
            let new = known.insert(member.key);
            if new || !member.rests() {
                running += 1;
                member.send(Signal::STOP)?;
            }
        }
        if running == 0 {
            return Ok(before);
        }
        if Instant::now() > until {
            resume(init_pid, init, &before)?;
            let what = format!("{running} processes were still running {PATIENCE:?} after they were told to stop");
            return Err(Error::new(ErrorKind::Exhausted, what).with_field("pause"));
        }
        // Or until the end of it all.
        let _ = poll(&mut [PollFd::new(init, PollFlags::IN)], Some(&LOOK_AGAIN));
    }
}

/// Let everything go on that `stop` has stopped.
///
/// # Errors
/// A signal cannot be sent.
pub(super) fn resume(init_pid: i32, init: &OwnedFd, before: &Stopped) -> Result<(), Error> {
    let members = Space::of(init_pid, init)?.members()?;
    members.iter().filter(|member| !before.0.contains(&member.key)).try_for_each(|member| member.send(Signal::CONT))
}

/// Everything that `stop` has stopped.
///
/// # Errors
/// The container has ended.
pub(super) fn held(init_pid: i32, init: &OwnedFd, before: &Stopped) -> Result<Vec<OwnedFd>, Error> {
    let members = Space::of(init_pid, init)?.members()?.into_iter();
    Ok(members.filter(|member| !before.0.contains(&member.key)).map(|member| member.pidfd).collect())
}

/// The numbers of everything in the pid namespace of `init`.
pub(super) fn numbers(init_pid: i32, init: &OwnedFd) -> Result<Vec<i32>, Error> {
    let members = Space::of(init_pid, init)?.members()?;
    Ok(members.iter().map(|member| member.key.0).collect())
}

/// Whether that process is in the pid namespace of `init`; `None`: it has ended.
pub(super) fn is_inside(init_pid: i32, init: &OwnedFd, pid: i32) -> Result<Option<bool>, Error> {
    let inside = Space::of(init_pid, init)?.contains(pid);
    Ok((inside || is_there(pid)).then_some(inside))
}

impl Member {
    /// Stopped, ended, or in a wait that a signal does not end (a parent in vfork, slow storage): it was told before
    /// that, and stops before it runs any code again.
    fn rests(&self) -> bool {
        matches!(self.stat.state(), 'T' | 't' | 'Z' | 'X' | 'D')
    }

    fn send(&self, signal: Signal) -> Result<(), Error> {
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(Error::system("cannot signal a process of the container", error).with_field("pause")),
        }
    }
}
