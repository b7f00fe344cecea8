//! Id ranges for containers started by root: 65,536 ids each, from 524288 up, one [`STRIDE`] from each other, apart for
//! every supervisor of the machine. A range is held by an open-file-description lock on one byte of one file, so that a crash frees it and
//! holding thousands costs one descriptor.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use nix::fcntl::{FcntlArg, fcntl};

use crate::error::{Error, ErrorKind};

/// First id of the first range.
pub const FIRST: u32 = 524_288;
/// Ids in a range.
pub const COUNT: u32 = 65_536;
/// From the beginning of a range to that of the next. Not [`COUNT`]: the kernel finds the users of processes in 128
/// lists by `uid + (uid >> 7)` modulo 128, and multiples of 65,536 would all lie in one of them, which each `setuid` of
/// the machine to a new id walks under a spinlock. One id is left out between two ranges, and they spread.
pub const STRIDE: u32 = COUNT + 1;
/// How many ranges there are below 2^32 - 2.
const RANGES: u32 = (u32::MAX - FIRST) / STRIDE - 1;

/// Gives out ranges.
#[derive(Clone, Debug)]
pub struct Ranges {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: File,
    held: Mutex<Held>,
}

/// Which ranges are ours: those below `top` that are not `free`, and none above.
#[derive(Debug, Default)]
struct Held {
    free: BTreeSet<u32>,
    top: u32,
}

/// One range; freed when dropped.
#[derive(Debug)]
pub struct Range {
    inner: Arc<Inner>,
    index: u32,
}

impl Ranges {
    /// Use the lock file `path`, making it if needed.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)
            .map_err(|error| Error::system(format!("cannot open {}", path.display()), error))?;
        Ok(Self { inner: Arc::new(Inner { file, held: Mutex::default() }) })
    }

    /// The lowest free range.
    ///
    /// # Errors
    /// [`ErrorKind::Exhausted`] when all are taken.
    pub fn take(&self) -> Result<Range, Error> {
        let mut held = self.inner.held.lock().unwrap_or_else(PoisonError::into_inner);
        // The lowest that came back, so that what is cached for a range is used again; else the next of the machine.
        // A range below `top` that another supervisor holds stays among the free ones for a later try.
        let back = held.free.iter().copied().find(|index| self.inner.lock(*index, libc::F_WRLCK).is_ok());
        if let Some(index) = back {
            held.free.remove(&index);
            return Ok(Range { inner: Arc::clone(&self.inner), index });
        }
        while held.top < RANGES {
            let index = held.top;
            held.top += 1;
            if self.inner.lock(index, libc::F_WRLCK).is_ok() {
                return Ok(Range { inner: Arc::clone(&self.inner), index });
            }
            held.free.insert(index);
        }
        Err(Error::new(ErrorKind::Exhausted, "every range of user ids is taken").with_field("user_namespace"))
    }
}

impl Inner {
    fn lock(&self, index: u32, kind: i32) -> nix::Result<()> {
        let lock = libc::flock {
            l_type: i16::try_from(kind).unwrap_or(0),
            l_whence: 0,
            l_start: index.into(),
            l_len: 1,
            l_pid: 0,
        };
        fcntl(&self.file, FcntlArg::F_OFD_SETLK(&lock)).map(drop)
    }
}

impl Range {
    /// The first id outside.
    #[must_use]
    pub fn base(&self) -> u32 {
        FIRST + self.index * STRIDE
    }
}

impl Drop for Range {
    fn drop(&mut self) {
        let mut held = self.inner.held.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = self.inner.lock(self.index, libc::F_UNLCK);
        held.free.insert(self.index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_supervisors_never_get_the_same_range_and_a_dropped_one_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ids");
        let (one, two) = (Ranges::open(&path).unwrap(), Ranges::open(&path).unwrap());
        let (a, b, c) = (one.take().unwrap(), two.take().unwrap(), one.take().unwrap());
        assert_eq!([a.base(), b.base(), c.base()], [524_288, 589_825, 655_362]);
        drop(b);
        assert_eq!(one.take().unwrap().base(), 589_825);
        drop((a, c));
    }

    /// `__uidhashfn` of the kernel's kernel/user.c, with 128 lists.
    fn bucket(uid: u32) -> usize {
        usize::try_from((uid >> 7).wrapping_add(uid) & 127).unwrap()
    }

    #[test]
    fn the_same_id_of_many_containers_lies_in_all_lists_of_the_kernel() {
        let dir = tempfile::tempdir().unwrap();
        let ranges = Ranges::open(&dir.path().join("ids")).unwrap();
        let held: Vec<Range> = (0..1280).map(|_| ranges.take().unwrap()).collect();
        for inside in [0, 1000, 65_534] {
            let mut lists = [0; 128];
            for range in &held {
                lists[bucket(range.base() + inside)] += 1;
            }
            let longest = lists.iter().max().unwrap();
            assert!(*longest <= 20, "id {inside}: {longest} of 1280 containers in one list");
        }
        let last = FIRST + (RANGES - 1) * STRIDE;
        assert!(last.checked_add(COUNT).is_some_and(|end| end < u32::MAX - 1));
    }
}
