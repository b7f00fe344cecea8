//! How a reader hears that there may be more: from the writer, if that is in this process; else from the
//! kernel, by inotify(7) on the log's directory; else nobody tells, and it looks every 50 ms.
//!
//! Used by the log's reader, which marks the news as seen, looks, and only then waits.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::watch;

/// How often a reader looks that nobody tells.
const POLL: Duration = Duration::from_millis(50);

/// Bytes come, segments come and go, the state file goes, and so does the directory.
const EVENTS: WatchFlags = WatchFlags::MODIFY
    .union(WatchFlags::CREATE)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// `f_type` of file systems whose writers all go through this kernel, so that it can tell (statfs(2)): on
/// one of a network, or one that is not known, a watch may stay silent for ever.
const LOCAL: [(&str, i64); 11] = [
    ("ext", 0xEF53),
    ("xfs", 0x5846_5342),
    ("btrfs", 0x9123_683E),
    ("tmpfs", 0x0102_1994),
    ("ramfs", 0x8584_58F6),
    ("overlay", 0x794C_7630),
    ("f2fs", 0xF2F5_2010),
    ("bcachefs", 0xCA45_1A4E),
    ("zfs", 0x2FC1_2FC1),
    ("vfat", 0x4D44),
    ("exfat", 0x2011_BAB0),
];

/// Who tells.
#[derive(Debug)]
pub(crate) enum News {
    /// Nobody was asked yet.
    Unasked,
    /// The writer, in this process.
    Writer(watch::Receiver<()>),
    /// The kernel. Tokio's reader of pipes reads any descriptor; its `AsyncFd` is unsafe to make.
    Kernel(Receiver),
    /// Nobody.
    Nobody,
}

impl News {
    /// What comes from now on wakes the next wait. Called before each look.
    pub(crate) fn mark_seen(&mut self) {
        if let Self::Writer(news) = self {
            news.borrow_and_update();
        }
    }

    /// Returns when there may be something new in `dir` since the last look, or when a look is due: the
    /// first time at once, because what was written before the kernel was asked is told by nobody.
    ///
    /// Cancel safe: whatever was heard of is heard of again, or found by the look that follows.
    pub(crate) async fn wait(&mut self, dir: &Path) {
        match self {
            Self::Unasked => *self = Self::ask(dir, inotify::init),
            Self::Writer(news) => {
                // The writer is gone; another one may come, in any process.
                if news.changed().await.is_err() {
                    *self = Self::Unasked;
                }
            }
            Self::Kernel(watch) => {
                if let Err(error) = told(watch).await {
                    *self = Self::nobody(dir, &error);
                }
            }
            Self::Nobody => tokio::time::sleep(POLL).await,
        }
    }

    fn ask(dir: &Path, init: impl FnOnce(CreateFlags) -> rustix::io::Result<OwnedFd>) -> Self {
        match watch(dir, init) {
            Ok(watch) => Self::Kernel(watch),
            Err(error) => Self::nobody(dir, &error),
        }
    }

    fn nobody(dir: &Path, error: &io::Error) -> Self {
        tracing::warn!(%error, dir = %dir.display(), "no inotify: a log that is followed is looked at every 50 ms");
        Self::Nobody
    }
}

/// A watch on `dir`. One descriptor, and one of the user's `fs.inotify.max_user_instances`.
fn watch(dir: &Path, init: impl FnOnce(CreateFlags) -> rustix::io::Result<OwnedFd>) -> io::Result<Receiver> {
    let kind = rustix::fs::statfs(dir)?.f_type;
    #[allow(clippy::useless_conversion, clippy::unnecessary_fallible_conversions, reason = "its type is the machine's")]
    let kind = i64::try_from(kind).unwrap_or_default();
    if !LOCAL.iter().any(|(_, local)| *local == kind) {
        let why = format!("the file system (type {kind:#x}) is not known to tell of all writes");
        return Err(io::Error::new(io::ErrorKind::Unsupported, why));
    }
    let watch = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    inotify::add_watch(&watch, dir, EVENTS)?;
    Receiver::from_owned_fd_unchecked(watch)
}

/// Takes what the kernel has to tell; that it has is all that counts.
async fn told(watch: &Receiver) -> io::Result<()> {
    let mut events = [0; 4096];
    loop {
        watch.readable().await?;
        match watch.try_read(&mut events) {
            Ok(_) => return Ok(()),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use rustix::io::Errno;

    use super::*;

    #[tokio::test]
    async fn the_kernel_is_asked_where_it_can_tell() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(News::ask(dir.path(), inotify::init), News::Kernel(_)));
        // Its entries come and go with the processes: nobody writes them.
        assert!(matches!(News::ask(Path::new("/proc/self"), inotify::init), News::Nobody));
        assert!(matches!(News::ask(&dir.path().join("none"), inotify::init), News::Nobody));
    }

    #[tokio::test(start_paused = true)]
    async fn where_no_watch_is_left_it_looks() {
        let dir = tempfile::tempdir().unwrap();
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOSPC, Errno::NOSYS] {
            let mut news = News::ask(dir.path(), |_| Err(errno));
            assert!(matches!(news, News::Nobody));
            let before = tokio::time::Instant::now();
            news.wait(dir.path()).await;
            assert_eq!(before.elapsed(), POLL);
        }
    }

    #[tokio::test]
    async fn what_was_told_once_is_not_told_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut news = News::Unasked;
        news.wait(dir.path()).await;
        std::fs::write(dir.path().join("a"), "b").unwrap();
        news.wait(dir.path()).await;
        assert!(news.wait(dir.path()).now_or_never().is_none());
    }
}
