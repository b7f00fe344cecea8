//! Pause without a freezer: SIGSTOP to every process of a container, found by its pid namespace.
//!
//! Weaker than a freezer: the processes' parents can see it, SIGCONT undoes it for one of them, and a fork races with
//! the search, so that it is repeated until nothing is found running any more, within bounds. It blocks; it is called on
//! a thread for that. No number is trusted: a pidfd is opened first, and what is read under the number counts only if
//! that process has not ended afterwards.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::lives;
use crate::error::{Error, ErrorKind};
use crate::sys::stat::Stat;

/// How long processes may take to stop, or go on forking.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks: the kernel tells nobody when a process that is not its child has stopped.
const LOOK_AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };

/// A process as it was when looked at: number and start time are never another's.
type Key = (i32, u64);

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
    for member in space.members()?.iter().filter(|member| member.state == 'T') {
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

/// That process runs: of one that has ended nothing tells where it was.
pub(super) fn is_there(pid: i32) -> bool {
    link(pid).is_some()
}

/// A pid namespace and those below it, as /proc shows them.
struct Space {
    /// Whether a namespace, by the text of its link, is this one or one below it.
    verdicts: HashMap<OsString, bool>,
}

struct Member {
    key: Key,
    state: char,
    pidfd: OwnedFd,
}

fn link(pid: i32) -> Option<OsString> {
    fs::read_link(format!("/proc/{pid}/ns/pid")).ok().map(Into::into)
}

impl Space {
    fn of(init_pid: i32, init: &OwnedFd) -> Result<Self, Error> {
        match link(init_pid) {
            Some(own) if lives(init) => Ok(Self { verdicts: HashMap::from([(own, true)]) }),
            _ => Err(Error::new(ErrorKind::State, "the container has ended")),
        }
    }

    fn members(&mut self) -> Result<Vec<Member>, Error> {
        let all = fs::read_dir("/proc").map_err(|error| Error::system("cannot list processes", error))?;
        let numbers = all.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        Ok(numbers.filter_map(|pid| self.member(pid)).collect())
    }

    fn member(&mut self, pid: i32) -> Option<Member> {
        // A cheap look first: nearly all processes of a machine are somebody else's.
        self.contains(pid).then_some(())?;
        let pidfd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        let inside = self.contains(pid);
        let stat = Stat::of(pid)?;
        let key = (pid, stat.start_time()?);
        (inside && lives(&pidfd)).then_some(Member { key, state: stat.state(), pidfd })
    }

    fn contains(&mut self, pid: i32) -> bool {
        let Some(link) = link(pid) else { return false };
        if let Some(verdict) = self.verdicts.get(&link) {
            return *verdict;
        }
        let verdict = self.below(pid);
        self.verdicts.insert(link, verdict);
        verdict
    }

    /// One of the namespaces above that of `pid` is ours. The kernel shows none above the caller's own.
    fn below(&self, pid: i32) -> bool {
        let mut above = fs::File::open(format!("/proc/{pid}/ns/pid")).map(OwnedFd::from);
        while let Ok(namespace) = above {
            above = crate::sys::parent_namespace(&namespace);
            let name = above.as_ref().ok().and_then(|parent| rustix::fs::fstat(parent).ok());
            let name = name.map(|stat| OsString::from(format!("pid:[{}]", stat.st_ino)));
            if name.is_some_and(|name| self.verdicts.get(&name) == Some(&true)) {
                return true;
            }
        }
        false
    }
}

impl Member {
    /// Stopped, ended, or in a wait that a signal does not end (a parent in vfork, slow storage): it was told before
    /// that, and stops before it runs any code again.
    fn rests(&self) -> bool {
        matches!(self.state, 'T' | 't' | 'Z' | 'X' | 'D')
    }

    fn send(&self, signal: Signal) -> Result<(), Error> {
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(Error::system("cannot signal a process of the container", error).with_field("pause")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_a_member_of_its_own_namespace_and_its_parent_namespace_of_nothing_below() {
        let own = std::process::id().cast_signed();
        let pidfd = pidfd_open(Pid::from_raw(own).unwrap(), PidfdFlags::empty()).unwrap();
        let mut space = Space::of(own, &pidfd).unwrap();
        let member = space.member(own).unwrap();
        assert_eq!(member.key.0, own);
        assert!(!Space { verdicts: HashMap::new() }.contains(own), "of no namespace that is not known");
    }
}
