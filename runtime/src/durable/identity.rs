//! Which process is meant, when only what was written down about it is left: a number is used again, and by the next boot for
//! certain.

use std::os::fd::OwnedFd;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::sys::stat::Stat;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

/// A process as it is known beyond the life of whoever started it: by the inode of its pidfd (6.9), and where the kernel has
/// none, by its number and the time of its start; in one boot of the machine.
///
/// ```
/// use orangery_runtime::durable::Identity;
/// let pid = std::process::id().cast_signed();
/// let own = Identity::look(pid, false).expect("we are there");
/// assert!(own.find().is_some());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The boot that it lives in.
    boot: String,
    pid: i32,
    /// Of its pidfd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    inode: Option<u64>,
    /// In clock ticks since the boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    started: Option<u64>,
}

impl Identity {
    /// Of the process behind a pidfd, whose number is `pid`. `without_inode`: as a kernel before 6.9 has it.
    pub(crate) fn of(pidfd: &OwnedFd, pid: i32, without_inode: bool) -> Self {
        let inode = if without_inode { None } else { inode(pidfd) };
        // Where there is an inode nobody asks for the time.
        let started = if inode.is_some() { None } else { start_time(pid).filter(|_| crate::native::lives(pidfd)) };
        Self { boot: boot().to_owned(), pid, inode, started }
    }

    /// Of the process that has this number now.
    #[must_use]
    pub fn look(pid: i32, without_inode: bool) -> Option<Self> {
        let pidfd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        Some(Self::of(&pidfd, pid, without_inode))
    }

    /// Its number, for display.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// It was in this boot of the machine.
    #[must_use]
    pub fn is_of_this_boot(&self) -> bool {
        self.boot == boot()
    }

    /// It may be the process behind this pidfd: nothing that both know speaks against it.
    #[must_use]
    pub fn may_be(&self, pidfd: &OwnedFd) -> bool {
        let same = |(ours, theirs)| ours == theirs;
        self.is_of_this_boot() && self.inode.zip(inode(pidfd)).is_none_or(same)
    }

    /// Its pidfd, if it still is a process: one that is dead and not reaped counts.
    #[must_use]
    pub fn find(&self) -> Option<OwnedFd> {
        if !self.is_of_this_boot() {
            return None;
        }
        self.find_living().or_else(|| self.find_remembered())
    }

    /// Who has ended and is nobody's any more has no number, but may have a pidfd that somebody has held all the time.
    fn find_remembered(&self) -> Option<OwnedFd> {
        let remembered = REMEMBERED.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |pidfd: &&OwnedFd| self.inode.is_some() && inode(pidfd) == self.inode;
        remembered.iter().find(is_it)?.try_clone().ok()
    }

    fn find_living(&self) -> Option<OwnedFd> {
        let pidfd = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        let known = match self.inode.zip(inode(&pidfd)) {
            Some((ours, theirs)) => ours == theirs,
            // The number was its own when the time was read, if it lives afterwards.
            None => self.started.is_some() && self.started == start_time(self.pid) && crate::native::lives(&pidfd),
        };
        known.then_some(pidfd)
    }
}

static REMEMBERED: Mutex<Vec<OwnedFd>> = Mutex::new(Vec::new());

/// Until it is dropped, [`Identity::find`] also finds who was [remembered](remember).
#[derive(Debug)]
#[must_use]
pub struct Remembered(());

/// Pidfds that somebody has held while there was neither supervisor nor keeper, as the fd store of systemd: how those have ended
/// that have meanwhile is known by them (6.15). Of the whole process, as is whatever it was given at its start.
pub fn remember(pidfds: Vec<OwnedFd>) -> Remembered {
    *REMEMBERED.lock().unwrap_or_else(PoisonError::into_inner) = pidfds;
    Remembered(())
}

impl Drop for Remembered {
    fn drop(&mut self) {
        let forgotten = std::mem::take(&mut *REMEMBERED.lock().unwrap_or_else(PoisonError::into_inner));
        drop(forgotten);
    }
}

/// Which boot of the machine this is; empty where /proc does not say.
fn boot() -> &'static str {
    static BOOT: OnceLock<String> = OnceLock::new();
    BOOT.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        text.trim().to_owned()
    })
}

pub(crate) fn this_boot() -> String {
    boot().to_owned()
}

/// The number that no other process of this boot gets, on pidfs.
fn inode(pidfd: &OwnedFd) -> Option<u64> {
    let kind = rustix::fs::fstatfs(pidfd).ok()?.f_type;
    if u64::try_from(kind).ok()? != crate::doctor::PIDFS {
        return None;
    }
    rustix::fs::fstat(pidfd).ok().map(|stat| stat.st_ino)
}

fn start_time(pid: i32) -> Option<u64> {
    Stat::of(pid)?.start_time()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> i32 {
        std::process::id().cast_signed()
    }

    #[test]
    fn a_process_is_found_with_and_without_pidfs() {
        for without in [false, true] {
            let identity = Identity::look(own(), without).unwrap();
            assert_eq!(identity.inode.is_none(), without || crate::doctor::pidfs().is_err());
            assert_eq!(identity.started.is_some(), identity.inode.is_none());
            let pidfd = identity.find().unwrap();
            assert!(identity.may_be(&pidfd));
        }
    }

    #[test]
    fn another_boot_another_inode_and_another_start_are_another_process() {
        for without in [false, true] {
            let identity = Identity::look(own(), without).unwrap();
            let other = Identity { boot: "another".into(), ..identity.clone() };
            assert!(other.find().is_none() && !other.is_of_this_boot());
            let other = Identity { inode: identity.inode.map(|inode| inode + 1), started: Some(1), ..identity.clone() };
            assert!(other.find().is_none());
            let other = Identity { pid: i32::MAX, ..identity };
            assert!(other.find().is_none());
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a process that ends")]
    fn who_has_ended_is_found_by_a_pidfd_that_was_held() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id().cast_signed();
        let pidfd = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap();
        let identity = Identity::of(&pidfd, pid, false);
        child.wait().unwrap();
        assert!(identity.find().is_none());
        let remembered = remember(vec![pidfd]);
        assert_eq!(identity.find().is_some(), identity.inode.is_some());
        drop(remembered);
        assert!(identity.find().is_none());
    }

    #[test]
    fn with_nothing_to_know_it_by_nothing_is_found() {
        let identity = Identity { inode: None, started: None, ..Identity::look(own(), true).unwrap() };
        assert!(identity.find().is_none());
    }
}
