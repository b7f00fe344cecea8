//! OOM kills as they happen. One descriptor, for as long as somebody waits.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::OFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::detect::Controller;
use super::dir::Dir;
use super::error::{CgroupError, unsupported};
use super::group::{Group, Home};
use super::parse::keyed;
use super::stat::kills_v1;

type Result<T> = std::result::Result<T, CgroupError>;

impl Group {
    /// Waits until the OOM killer has taken more than `seen` processes of the group, and says how many.
    ///
    /// v2: woken by `memory.events`, up to some 20 ms late. v1: by an eventfd, which also fires for what is no kill, and not
    /// for a limit of a group below this one; it comes before the kill, so that the count is read a few times after it.
    ///
    /// # Errors
    /// There is no memory controller, or no counter of kills; the group is gone ([`is_gone`](CgroupError::is_gone)).
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing. Needs a tokio runtime with I/O and time.
    pub async fn wait_oom_kills(&self, seen: u64) -> Result<u64> {
        let home = self.home(Controller::Memory)?;
        let no_counter = |dir: &Dir| unsupported("watch", dir.path(), "there is no counter of OOM kills");
        let (dir, news) = match &home {
            Some(Home::V2(dir)) => (dir, News::file(dir)?),
            Some(Home::V1(dir)) => (dir, News::eventfd(dir)?),
            None => return Err(unsupported("watch", self.id(), "the container has no memory controller")),
        };
        let look = || {
            let kills = match &home {
                Some(Home::V1(dir)) => kills_v1(dir),
                _ => dir.read("memory.events").ok().and_then(|text| keyed(&text, "oom_kill")),
            };
            match kills {
                Some(kills) => Ok(Some(kills).filter(|kills| *kills > seen)),
                // Its end looks like that too.
                None if dir.has("cgroup.procs") => Err(no_counter(dir)),
                None => Err(CgroupError::sys("watch", dir.path(), rustix::io::Errno::NODEV)),
            }
        };
        let again: &[u64] = if matches!(news, News::Eventfd(_)) { &LOOKS_AGAIN } else { &[] };
        loop {
            if let Some(kills) = look()? {
                return Ok(kills);
            }
            news.next(dir).await?;
            for pause in again {
                if let Some(kills) = look()? {
                    return Ok(kills);
                }
                tokio::time::sleep(Duration::from_millis(*pause)).await;
            }
        }
    }
}

/// v1 tells that somebody will be killed, and nothing more: it counts the kill after it has described it on the console, which may be slow.
/// Pauses before it is looked at again, in milliseconds.
const LOOKS_AGAIN: [u64; 11] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];

/// What wakes.
enum News {
    /// `memory.events`, by POLLPRI.
    File(AsyncFd<OwnedFd>),
    Eventfd(AsyncFd<OwnedFd>),
}

fn fail(dir: &Dir) -> impl Fn(std::io::Error) -> CgroupError + '_ {
    |error| CgroupError::sys("watch", dir.path(), error)
}

impl News {
    /// Registered before the first look: a change after that makes an edge.
    fn file(dir: &Dir) -> Result<Self> {
        let file = dir.file("memory.events", OFlags::RDONLY | OFlags::NONBLOCK)?;
        crate::sys::watch(file, Interest::PRIORITY).map(Self::File).map_err(fail(dir))
    }

    /// The control file is needed for as long as the registration takes.
    fn eventfd(dir: &Dir) -> Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|e| fail(dir)(e.into()))?;
        let control = dir.file("memory.oom_control", OFlags::RDONLY)?;
        dir.write("cgroup.event_control", &format!("{} {}", event.as_raw_fd(), control.as_raw_fd()))?;
        crate::sys::watch(event, Interest::READABLE).map(Self::Eventfd).map_err(fail(dir))
    }

    async fn next(&self, dir: &Dir) -> Result<()> {
        let (watched, interest) = match self {
            Self::File(watched) => (watched, Interest::PRIORITY),
            Self::Eventfd(watched) => (watched, Interest::READABLE),
        };
        let mut guard = watched.ready(interest).await.map_err(fail(dir))?;
        let mut buffer = [0u8; 512];
        // An unread file is ready for ever, and so is an eventfd.
        match self {
            Self::File(file) => {
                let _ = rustix::io::pread(file.get_ref(), &mut buffer, 0);
            }
            Self::Eventfd(event) => {
                let _ = rustix::io::read(event.get_ref(), &mut buffer[..8]);
            }
        }
        guard.clear_ready();
        Ok(())
    }
}
