//! A container that is written down, and what has become of it.

use std::os::fd::OwnedFd;
use std::path::Path;

use orangery_runtime::cgroup::{CgroupError, Cgroups, Group};
use orangery_runtime::native;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::failure::Failure;
use crate::place::{Place, Room};
use crate::record::Record;

/// It is pid 1 of its pid namespace: nobody of that outlives it.
pub(crate) fn is_first(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let inside = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    inside.and_then(|pids| pids.split_whitespace().last()) == Some("1")
}

/// The specification's states, and runc's `paused`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// One that is there.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) room: Room,
    pub(crate) record: Record,
    /// Its first process, if that lives: its number for display, and its pidfd.
    pub(crate) init: Option<(i32, OwnedFd)>,
}

impl Container {
    /// Look at one; others may change it meanwhile.
    ///
    /// # Errors
    /// There is none, or it is being made.
    pub(crate) fn find(place: &Place, id: &str) -> Result<Container, Failure> {
        Self::of(place.find(id)?)
    }

    /// The same, and nobody else changes it until this is dropped.
    ///
    /// # Errors
    /// As [`Container::find`].
    pub(crate) fn hold(place: &Place, id: &str) -> Result<Container, Failure> {
        Self::of(place.find(id)?.change()?)
    }

    pub(crate) fn of(room: Room) -> Result<Container, Failure> {
        let record = room.record()?.ok_or_else(Failure::no_such_container)?;
        Ok(Self::with(room, record))
    }

    /// What is written down of it was read.
    pub(crate) fn with(room: Room, record: Record) -> Container {
        let init = record.progress.init.as_ref().and_then(|init| Some((init.pid(), init.find()?)));
        let init = init.filter(|(_, pidfd)| !has_ended(pidfd, None));
        Container { room, record, init }
    }

    /// Its first process.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) fn alive(&self) -> Result<(i32, &OwnedFd), Failure> {
        let (pid, pidfd) = self.init.as_ref().ok_or_else(|| Failure::new("container not running"))?;
        Ok((*pid, pidfd))
    }

    /// What it is doing now.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub(crate) fn status(&self) -> Result<Status, Failure> {
        if self.record.progress.unfinished || self.record.progress.init.is_none() {
            return Ok(Status::Creating);
        }
        if self.init.is_none() {
            return Ok(Status::Stopped);
        }
        if self.gate()?.is_some() {
            return Ok(Status::Created);
        }
        Ok(if self.is_frozen()? { Status::Paused } else { Status::Running })
    }

    /// It was asked to stand still.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub(crate) fn is_frozen(&self) -> Result<bool, Failure> {
        let frozen = self.group_by(Cgroups::freezers_above)?;
        Ok(frozen.is_some_and(|group| group.is_frozen()))
    }

    /// The start gate, if the command waits there.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(crate) fn gate(&self) -> Result<Option<OwnedFd>, Failure> {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match rustix::fs::openat(self.room.dir(), "gate", flags, Mode::empty()) {
            Ok(gate) => Ok(Some(gate)),
            // Started, and cleaned up after; or past it.
            Err(Errno::NOENT | Errno::NXIO) => Ok(None),
            Err(error) => Err(Failure::system("cannot open the start gate", error)),
        }
    }

    /// Who is in its pid namespace, where that is its own: what it has for a cgroup where it has none.
    ///
    /// # Errors
    /// They cannot be looked at.
    pub(crate) fn members(&self) -> Result<Option<Vec<(i32, OwnedFd)>>, Failure> {
        let Some((pid, pidfd)) = self.init.as_ref().filter(|(pid, _)| is_first(*pid)) else { return Ok(None) };
        Ok(Some(native::in_its_pid_namespace(*pid, pidfd)?))
    }

    /// It has none, and this command is nothing without one.
    pub(crate) fn no_group(what: &str) -> Failure {
        Failure::new(format!(
            "{what} needs a cgroup of the container's own, and this one was made without: --systemd-cgroup, or a linux.cgroupsPath \
             below a group that was delegated to this user"
        ))
    }

    /// Its cgroup, as far as it is there.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub(crate) fn group(&self) -> Result<Option<Group>, Failure> {
        self.group_by(|path| {
            if self.record.systemd.is_some() { Cgroups::of_unit(path, None) } else { Cgroups::above(path, None) }
        })
    }

    fn group_by(&self, above: impl Fn(&Path) -> Found) -> Result<Option<Group>, Failure> {
        let Some(path) = &self.record.cgroup else { return Ok(None) };
        let failed = |error| Failure::system(format!("cannot look at the cgroup {}", path.display()), reason(&error));
        let (above, name) = above(path).map_err(failed)?;
        let found = above.find(&name).map_err(failed)?;
        // What is not written down yet has nobody in it that is ours.
        let groups = &self.record.progress.groups;
        Ok(Some(if groups.is_empty() { found } else { found.that_are(groups) }))
    }
}

/// What a group lies in, and its name there.
type Found = Result<(Cgroups, String), CgroupError>;

/// A cgroup's error in words, with what the kernel said.
pub(crate) fn reason(error: &CgroupError) -> std::io::Error {
    std::io::Error::other(match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    })
}

/// Let some time pass: what is waited for tells nobody.
pub(crate) fn pause(time: Timespec) {
    let _ = poll(&mut [], Some(&time));
}

/// It has ended, or does within this time; `None`: now.
pub(crate) fn has_ended(pidfd: &OwnedFd, within: Option<Timespec>) -> bool {
    let wait = within.unwrap_or(Timespec { tv_sec: 0, tv_nsec: 0 });
    loop {
        match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&wait)) {
            Err(Errno::INTR) => {}
            other => return other.is_ok_and(|ready| ready > 0),
        }
    }
}
