//! What is done to a group's processes as a whole: kill, freeze, thaw, and waiting for it.

use super::detect::Controller;
use super::dir::Dir;
use super::error::{CgroupError, timed_out, unsupported};
use super::group::{Group, Home};
use super::{v1, v2};
use rustix::fs::OFlags;
use std::os::fd::OwnedFd;
use std::time::Duration;

type Result<T> = std::result::Result<T, CgroupError>;

/// Re-reads of v1, which tells nobody anything: 1, 2, 4 .. 50 ms apart, about 5 s in all.
const RETRIES: u32 = 105;

impl Group {
    /// Kills every process in the group and in groups below it, and takes limits of devices away
    /// ([`lift_io`](Group::lift_io)). Idempotent; a removed group is a success.
    ///
    /// `cgroup.kill` (5.14) where there is one: one write, also while frozen. Otherwise (v1, older kernels) freeze,
    /// SIGKILL each through a pidfd, thaw, until empty: that **blocks** the thread, a few milliseconds for an ordinary
    /// group, 4 s at most; the group is thawed afterwards. No member need be reaped for it to return.
    ///
    /// # Errors
    /// Processes that do not die in time ([`is_timeout`](CgroupError::is_timeout)); no cgroup at all.
    pub fn kill(&self) -> Result<()> {
        self.lift_io();
        let killed = match (self.v2_dir(), self.freezer()) {
            (Err(e), _) | (_, Err(e)) => Err(e),
            (Ok(Some(dir)), _) => v2::kill(&dir, self.parents.without_kill),
            (_, Ok(Some(dir))) => v1::kill_each(&dir, &|frozen| v1::set_frozen(&dir, frozen)),
            // No freezer: whoever forks faster than we kill wins; the bound still holds.
            _ => self.any_v1("kill").and_then(|dir| v1::kill_each(&dir, &|_| Ok(()))),
        };
        gone_is_fine(killed)
    }

    /// Kills every process of a frozen group, before any of them runs again: a signal that one handles and was sent before is
    /// not felt. Unlike [`kill`](Group::kill) it waits for nothing. A removed group is a success.
    ///
    /// # Errors
    /// Nothing freezes here; a file or a process cannot be reached.
    pub fn kill_frozen(&self) -> Result<()> {
        self.lift_io();
        let killed = match (self.v2_dir(), self.freezer()) {
            (Err(e), _) | (_, Err(e)) => Err(e),
            (Ok(Some(dir)), _) => v2::kill_frozen(&dir, self.parents.without_kill),
            (_, Ok(Some(dir))) => v1::kill_frozen(&dir, &|frozen| v1::set_frozen(&dir, frozen)),
            _ => Err(self.no_freezer()),
        };
        gone_is_fine(killed)
    }

    /// Has `pid` in the group's own freezer of version 1 again, where somebody has moved it to another one: in a frozen one it feels no
    /// signal, and it goes on in ours. Nothing without such a freezer.
    ///
    /// # Errors
    /// It cannot be looked for, or not be moved.
    pub fn bring_back(&self, pid: i32) -> Result<()> {
        let Some(dir) = self.freezer()? else { return Ok(()) };
        let pid = pid.to_string();
        if dir.read("cgroup.procs")?.lines().any(|line| line == pid) {
            return Ok(());
        }
        dir.write("cgroup.procs", &pid)
    }

    /// Asks the kernel to stop every process of the group (`cgroup.freeze`, 5.2; v1 `freezer.state`). It is done when
    /// [`wait_frozen`](Group::wait_frozen) says so.
    ///
    /// # Errors
    /// [`is_unsupported`](CgroupError::is_unsupported) without v2 and without a v1 freezer; the group is gone.
    pub fn freeze(&self) -> Result<()> {
        self.set_frozen(true)
    }

    /// It was asked to stop, by whomever; `false` where that cannot be seen.
    pub fn is_frozen(&self) -> bool {
        match self.v2_dir() {
            Ok(Some(dir)) if dir.has("cgroup.freeze") => dir.read("cgroup.freeze").is_ok_and(|text| text.trim() == "1"),
            _ => match self.freezer() {
                Ok(Some(dir)) => dir.read("freezer.state").is_ok_and(|text| text.trim() != "THAWED"),
                _ => false,
            },
        }
    }

    /// The opposite of [`freeze`](Group::freeze).
    ///
    /// # Errors
    /// As `freeze`.
    pub fn thaw(&self) -> Result<()> {
        self.set_frozen(false)
    }

    /// The file that kills the group, or lets a frozen one feel a SIGKILL that was sent to its processes, and what is to be
    /// written to it: for somebody who carries it out later. `None` without `cgroup.kill` (5.14) and without a v1 freezer:
    /// then the end of a pid namespace's init is the kill.
    ///
    /// # Errors
    /// The group is gone, or no descriptor is left.
    pub fn kill_file(&self) -> Result<Option<(OwnedFd, Vec<u8>)>> {
        if let Some(dir) = self.v2_dir()? {
            return match dir.file("cgroup.kill", OFlags::WRONLY) {
                Ok(_) if self.parents.without_kill => Ok(None),
                Ok(file) => Ok(Some((file, b"1".to_vec()))),
                Err(error) if error.is_gone() && dir.has("cgroup.procs") => Ok(None),
                Err(error) => Err(error),
            };
        }
        let thaw = |dir: Dir| Ok((dir.file("freezer.state", OFlags::WRONLY)?, b"THAWED".to_vec()));
        self.freezer()?.map(thaw).transpose()
    }

    /// The file that thaws the group, and what is to be written to it: for somebody who carries it out later.
    ///
    /// # Errors
    /// As [`freeze`](Group::freeze).
    pub fn thaw_file(&self) -> Result<(OwnedFd, Vec<u8>)> {
        if let Some(dir) = self.v2_dir()? {
            return Ok((dir.file("cgroup.freeze", OFlags::WRONLY)?, b"0".to_vec()));
        }
        let dir = self.freezer()?.ok_or_else(|| self.no_freezer())?;
        Ok((dir.file("freezer.state", OFlags::WRONLY)?, b"THAWED".to_vec()))
    }

    fn set_frozen(&self, frozen: bool) -> Result<()> {
        if let Some(dir) = self.v2_dir()? {
            return v2::set_frozen(&dir, frozen);
        }
        v1::set_frozen(&self.freezer()?.ok_or_else(|| self.no_freezer())?, frozen)
    }

    /// Waits until the whole group is frozen, or until it is no longer.
    ///
    /// v2: woken by the kernel, waits for as long as it takes (a process in uninterruptible sleep holds it up). v1 has
    /// no notification and an intermediate FREEZING: `freezer.state` is read again up to 105 times in about 5 s.
    ///
    /// # Errors
    /// The group was removed ([`is_gone`](CgroupError::is_gone)); v1: [`is_timeout`](CgroupError::is_timeout).
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing. Needs a tokio runtime with I/O and time.
    pub async fn wait_frozen(&self, frozen: bool) -> Result<()> {
        if let Some(dir) = self.v2_dir()? {
            return match v2::await_event(&dir, "frozen", frozen).await? {
                true => Ok(()),
                false => Err(CgroupError::sys("watch", dir.path(), rustix::io::Errno::NODEV)),
            };
        }
        let dir = self.freezer()?.ok_or_else(|| self.no_freezer())?;
        retry(&dir, "freeze", |attempt| settled(&dir, frozen, attempt)).await
    }

    /// [`wait_frozen`](Group::wait_frozen) for who has no tokio runtime: it **blocks** the thread, and reads again on v2 as well,
    /// for about 5 s.
    ///
    /// # Errors
    /// As `wait_frozen`; [`is_timeout`](CgroupError::is_timeout) on v2 too.
    pub fn await_frozen(&self, frozen: bool) -> Result<()> {
        let v2 = self.v2_dir()?;
        let dir = match v2 {
            Some(dir) => Home::V2(dir),
            None => Home::V1(self.freezer()?.ok_or_else(|| self.no_freezer())?),
        };
        for attempt in 0..RETRIES {
            let now = match &dir {
                Home::V2(dir) => v2::event(dir, "frozen")? == Some(frozen),
                Home::V1(dir) => settled(dir, frozen, attempt)?,
            };
            if now {
                return Ok(());
            }
            let pause = rustix::event::Timespec { tv_sec: 0, tv_nsec: (1_000_000 << attempt.min(6)).min(50_000_000) };
            let _ = rustix::event::poll(&mut [], Some(&pause));
        }
        Err(timed_out("wait until it is done:", dir.dir().path(), "freeze"))
    }

    /// Waits until no living process is in the group or below it; zombies do not count. A removed group is empty.
    ///
    /// v2: `populated 0`, woken by the kernel (up to 15 ms late), for as long as it takes. v1 has **no notification**:
    /// `cgroup.procs` is read again up to 105 times in about 5 s; better call it when the last pidfd has become
    /// readable.
    ///
    /// # Errors
    /// v1: [`is_timeout`](CgroupError::is_timeout).
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing. Needs a tokio runtime with I/O and time.
    pub async fn wait_empty(&self) -> Result<()> {
        let gone_is_none = |dir: Result<Option<Dir>>| match dir {
            Err(e) if e.is_gone() => Ok(None),
            other => other,
        };
        if self.v2 {
            if let Some(dir) = gone_is_none(self.v2_dir())? {
                v2::await_event(&dir, "populated", false).await?;
            }
            return Ok(());
        }
        match gone_is_none(self.any_v1("watch").map(Some))? {
            Some(dir) => gone_is_fine(retry(&dir, "empty", |_| Ok(v1::processes(&dir)?.is_empty())).await),
            None => Ok(()),
        }
    }

    /// Whether the group is empty at this moment; never waits.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn is_empty(&self) -> Result<bool> {
        let empty = match self.v2_dir() {
            Ok(Some(dir)) => v2::is_empty(&dir),
            Ok(None) => self.any_v1("read").and_then(|dir| Ok(v1::processes(&dir)?.is_empty())),
            Err(e) => Err(e),
        };
        match empty {
            Err(e) if e.is_gone() => Ok(true),
            other => other,
        }
    }

    /// The processes of the group and of those below it, as far as our pid namespace sees them. A removed group has none.
    ///
    /// # Errors
    /// No cgroup at all.
    pub fn processes(&self) -> Result<Vec<i32>> {
        let dir = match self.v2_dir() {
            Ok(Some(dir)) => Ok(dir),
            Ok(None) => self.any_v1("list"),
            Err(e) => Err(e),
        };
        match dir.and_then(|dir| v1::processes(&dir)) {
            Err(e) if e.is_gone() => Ok(Vec::new()),
            listed => Ok(listed?.into_iter().collect()),
        }
    }

    fn freezer(&self) -> Result<Option<Dir>> {
        let place = self.v1_places().find(|place| place.has(Controller::Freezer));
        place.map(|place| place.dir.child(&self.id)).transpose()
    }

    fn any_v1(&self, operation: &'static str) -> Result<Dir> {
        match self.freezer()? {
            Some(dir) => Ok(dir),
            None => match self.v1_places().next() {
                Some(place) => place.dir.child(&self.id),
                None => Err(unsupported(operation, &self.id, "the container has no cgroup")),
            },
        }
    }

    fn no_freezer(&self) -> CgroupError {
        unsupported("freeze", &self.id, "there is neither cgroup v2 nor a v1 freezer")
    }
}

/// Who is in the middle of an execve(2) of several threads cannot be frozen by version 1: those that are frozen do not end, and the one that
/// goes on waits for that without freezing. So whoever still is on the way so late is let go for a moment, and asked once more.
fn settled(dir: &Dir, frozen: bool, attempt: u32) -> Result<bool> {
    let now = v1::is_frozen(dir)?;
    if frozen && now.is_none() && attempt % 10 == 9 {
        v1::set_frozen(dir, false)?;
        v1::set_frozen(dir, true)?;
    }
    Ok(now == Some(frozen))
}

fn gone_is_fine(done: Result<()>) -> Result<()> {
    match done {
        Err(e) if e.is_gone() => Ok(()),
        other => other,
    }
}

async fn retry(dir: &Dir, what: &'static str, mut done: impl FnMut(u32) -> Result<bool>) -> Result<()> {
    for attempt in 0..RETRIES {
        if done(attempt)? {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(1 << attempt.min(6)).min(Duration::from_millis(50))).await;
    }
    Err(timed_out("wait until it is done:", dir.path(), what))
}
