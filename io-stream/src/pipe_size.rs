//! How much a pipe holds: asked for on purpose, and what was got.
//!
//! An ordinary user has a budget of pipe pages. When it is spent, new pipes hold 8 KiB (4 KiB before
//! Linux 5.14) in silence, and none can be made larger (pipe(7)). So every size is read back.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;
use rustix::pipe::{fcntl_getpipe_size, fcntl_setpipe_size};

use crate::error::{StreamError, StreamErrorKind};

/// What a pipe holds that is made while there is budget: 64 KiB (pipe(7)).
pub const DEFAULT_PIPE_SIZE: usize = 64 * 1024;

const SIZE: &str = "size a pipe";

/// What came of asking for a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PipeSize {
    /// What was asked for, in bytes.
    pub asked: usize,
    /// What the pipe holds now. More than was asked for where the kernel rounds up.
    pub got: usize,
    /// Why it is not what was asked for, if it is less (or more, for a pipe that was to shrink).
    pub refused: Option<PipeRefusal>,
}

/// Why a pipe kept its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PipeRefusal {
    /// The user's pipe pages are spent, or the size is above the system's limit: see [`PipeBudget`].
    Budget,
    /// The pipe holds more bytes than it was to be shrunk to.
    InUse,
}

/// The size of the pipe behind `pipe`, in bytes. Below [`DEFAULT_PIPE_SIZE`] in a pipe that nobody made
/// smaller, the user's budget was spent when it was made.
///
/// # Errors
///
/// [`StreamErrorKind::NotAPipe`].
pub fn pipe_size(pipe: impl AsFd) -> Result<usize, StreamError> {
    fcntl_getpipe_size(pipe).map_err(|errno| StreamError::io(SIZE, StreamErrorKind::NotAPipe, errno))
}

/// Asks for a pipe that holds `bytes`. That the kernel refuses is no error: the pipe stays as it is,
/// and the answer says why.
///
/// # Errors
///
/// [`StreamErrorKind::NotAPipe`], or [`StreamErrorKind::Prepare`] with what the system said.
pub fn set_pipe_size(pipe: impl AsFd, bytes: usize) -> Result<PipeSize, StreamError> {
    let before = pipe_size(&pipe)?;
    match fcntl_setpipe_size(&pipe, bytes) {
        Ok(got) => Ok(PipeSize { asked: bytes, got, refused: None }),
        Err(Errno::PERM) => Ok(PipeSize { asked: bytes, got: before, refused: Some(PipeRefusal::Budget) }),
        Err(Errno::BUSY) => Ok(PipeSize { asked: bytes, got: before, refused: Some(PipeRefusal::InUse) }),
        Err(errno) => Err(StreamError::io(SIZE, StreamErrorKind::Prepare, errno)),
    }
}

/// The system's limits on pipes, which hold for users without `CAP_SYS_RESOURCE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PipeBudget {
    /// Pages that all pipes of a user may hold before new ones are small; 0: no limit.
    pub soft_pages: u64,
    /// Pages that all pipes of a user may hold before new ones are refused; 0: no limit.
    pub hard_pages: u64,
    /// The largest pipe, in bytes.
    pub max_size: u64,
}

impl PipeBudget {
    /// Reads the limits from `/proc/sys/fs`; `None` where that is not to be seen.
    pub fn read() -> Option<Self> {
        let value = |name| std::fs::read_to_string(format!("/proc/sys/fs/{name}")).ok()?.trim().parse().ok();
        Some(Self {
            soft_pages: value("pipe-user-pages-soft")?,
            hard_pages: value("pipe-user-pages-hard")?,
            max_size: value("pipe-max-size")?,
        })
    }

    /// How many pipes of `bytes` each a user can have at full size; `None`: any number.
    pub const fn pipes_of(&self, bytes: u64) -> Option<u64> {
        // Pages of 4 KiB, as everywhere but on some builds for aarch64: there it is too few, never too many.
        let pages = bytes.div_ceil(4096);
        match self.soft_pages {
            0 => None,
            soft => Some(soft / if pages == 0 { 1 } else { pages }),
        }
    }
}

/// What the pipe of a stream with many readers is made to hold.
pub(crate) const GROWN_PIPE: usize = 256 * 1024;

/// Bytes that pipes of this process were made to hold beyond what they had.
static GROWN_BY: AtomicU64 = AtomicU64::new(0);

/// A pipe that was made larger. All of a process together take at most a quarter of the user's budget: no pipe that is made
/// later is small because of them.
#[derive(Debug)]
pub(crate) struct Grown(u64);

impl Grown {
    /// Makes `pipe` larger, unless it is large enough; `None` where it is no pipe, or would take too much.
    pub(crate) fn take(pipe: impl AsFd) -> Option<Self> {
        let by = GROWN_PIPE.saturating_sub(pipe_size(&pipe).ok()?) as u64;
        if by == 0 {
            return Some(Self(0));
        }
        let most = match PipeBudget::read()?.soft_pages {
            0 => u64::MAX,
            // Pages of 4 KiB, see `pipes_of`.
            soft => soft / 4 * 4096,
        };
        let taken = GROWN_BY.fetch_add(by, Ordering::Relaxed);
        // From here on it is given back when it is dropped.
        let grown = Self(by);
        let size = (taken + by <= most).then(|| set_pipe_size(pipe, GROWN_PIPE));
        size.is_some_and(|size| size.is_ok_and(|size| size.refused.is_none())).then_some(grown)
    }
}

impl Drop for Grown {
    fn drop(&mut self) {
        GROWN_BY.fetch_sub(self.0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_size_is_rounded_up_and_told() {
        let (ours, mut theirs) = std::io::pipe().unwrap();
        let size = set_pipe_size(&ours, 100_000).unwrap();
        assert_eq!((size.asked, size.got, size.refused), (100_000, 131_072, None));
        assert_eq!(pipe_size(&theirs).unwrap(), 131_072);
        theirs.write_all(&[0; 70_000]).unwrap();
        let kept = set_pipe_size(&ours, 4096).unwrap();
        assert_eq!((kept.got, kept.refused), (131_072, Some(PipeRefusal::InUse)));
    }

    #[test]
    fn growing_is_bounded_and_given_back() {
        let Some(budget) = PipeBudget::read() else { return };
        let most = if budget.soft_pages == 0 { 4 } else { budget.soft_pages / 4 * 4096 / (192 * 1024) };
        let pipes: Vec<_> = (0..=most.min(400)).map(|_| std::io::pipe().unwrap()).collect();
        let grown: Vec<_> = pipes.iter().map(|pipe| Grown::take(&pipe.0)).collect();
        if grown.iter().all(Option::is_none) {
            return;
        }
        assert_eq!(pipe_size(&pipes[0].0).unwrap(), GROWN_PIPE);
        assert!(Grown::take(&pipes[0].0).is_some_and(|grown| grown.0 == 0), "it is large enough");
        let more = std::io::pipe().unwrap();
        assert_eq!(Grown::take(&more.0).is_none(), budget.soft_pages > 0 && most < 400);
        drop(grown);
        assert_eq!(GROWN_BY.load(Ordering::Relaxed), 0);
        assert!(Grown::take(&more.0).is_some() || pipe_size(&more.0).unwrap() == GROWN_PIPE);
        assert!(Grown::take(std::fs::File::open("/dev/null").unwrap()).is_none());
    }

    #[test]
    fn a_file_has_no_size_of_a_pipe() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(pipe_size(&file).unwrap_err().kind(), StreamErrorKind::NotAPipe);
        assert_eq!(set_pipe_size(&file, 4096).unwrap_err().kind(), StreamErrorKind::NotAPipe);
    }

    #[test]
    fn the_budget_is_arithmetic() {
        let budget = PipeBudget { soft_pages: 16_384, hard_pages: 0, max_size: 1 << 20 };
        assert_eq!(budget.pipes_of(64 * 1024), Some(1024));
        assert_eq!(budget.pipes_of(1 << 20), Some(64));
        assert_eq!(PipeBudget { soft_pages: 0, ..budget }.pipes_of(4096), None);
        assert!(PipeBudget::read().is_none_or(|budget| budget.max_size >= 4096));
    }
}
