//! The processes of a container without a cgroup, found by its pid namespace.
//!
//! No number is trusted: a pidfd is opened first, and what is read under the number counts only if that process has not
//! ended afterwards. Everything here blocks: all processes of the machine are looked at.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::lives;
use crate::error::{Error, ErrorKind};
use crate::sys::stat::Stat;

/// A process as it was when looked at: number and start time are never another's.
pub(super) type Key = (i32, u64);

/// A pid namespace and those below it, as /proc shows them.
pub(super) struct Space {
    /// Whether a namespace, by the text of its link, is this one or one below it.
    verdicts: HashMap<OsString, bool>,
}

/// A process in it that lived when it was looked at.
pub(super) struct Member {
    pub(super) key: Key,
    pub(super) stat: Stat,
    pub(super) pidfd: OwnedFd,
}

/// That process runs: of one that has ended nothing tells where it was.
pub(super) fn is_there(pid: i32) -> bool {
    link(pid).is_some()
}

fn link(pid: i32) -> Option<OsString> {
    fs::read_link(format!("/proc/{pid}/ns/pid")).ok().map(Into::into)
}

impl Space {
    /// That of this process.
    ///
    /// # Errors
    /// [`ErrorKind::State`]: it has ended.
    pub(super) fn of(init_pid: i32, init: &OwnedFd) -> Result<Self, Error> {
        match link(init_pid) {
            Some(own) if lives(init) => Ok(Self { verdicts: HashMap::from([(own, true)]) }),
            _ => Err(Error::new(ErrorKind::State, "the container has ended")),
        }
    }

    pub(super) fn members(&mut self) -> Result<Vec<Member>, Error> {
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
        (inside && lives(&pidfd)).then_some(Member { key, stat, pidfd })
    }

    pub(super) fn contains(&mut self, pid: i32) -> bool {
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
