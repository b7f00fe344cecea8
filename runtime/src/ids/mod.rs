//! Id ranges for containers started by root: 65,536 ids each, apart for every supervisor of the machine. Entries for
//! root in `/etc/subuid` and `/etc/subgid` say which; without any they go from 524288 up, one [`STRIDE`] from each other. A range is held by
//! open-file-description locks on as many bytes of one file as it has ids, one place a id, so that a crash frees it,
//! holding thousands costs one descriptor, and supervisors that cut the ids differently never meet. The locks of
//! neighbours touch: the kernel walks the locks of a file one by one, and keeps those that touch as one.

use std::collections::BTreeSet;
use std::fs::{File, Permissions};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nix::fcntl::{FcntlArg, fcntl};

use crate::error::{Error, ErrorKind};

pub(crate) mod chosen;
pub(crate) mod joined;
pub mod subordinate;

/// First id of the first built-in range.
pub const FIRST: u32 = 524_288;
/// Ids in a range.
pub const COUNT: u32 = 65_536;
/// From the beginning of a range to that of the next. Not [`COUNT`]: the kernel finds the users of processes in 128
/// lists by `uid + (uid >> 7)` modulo 128, and multiples of 65,536 would all lie in one of them, which each `setuid` of
/// the machine to a new id walks under a spinlock. One id is left out between two ranges, and they spread.
pub const STRIDE: u32 = COUNT + 1;
/// How many ranges there are below 2^32 - 2.
const RANGES: u32 = (u32::MAX - FIRST) / STRIDE - 1;
/// Where the locks of group ids begin in the lock file: behind those of all user ids.
const GROUPS: i64 = 1 << 32;

/// Where the nth range begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    first: u32,
    stride: u32,
}

impl Row {
    fn at(self, index: u32) -> u32 {
        self.first + index * self.stride
    }

    /// How many places to lock for a range: up to its neighbour, if there is one.
    fn places(self, has_neighbour: bool) -> u32 {
        if has_neighbour { self.stride } else { COUNT }
    }
}

/// The nth range of all segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    /// First user and group id.
    ids: (u32, u32),
    /// Places to lock from each of them on.
    places: (u32, u32),
}

/// Ranges that follow each other, of users and of groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    uid: Row,
    gid: Row,
    blocks: u32,
}

/// Gives out ranges.
#[derive(Clone, Debug)]
pub struct Ranges {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: File,
    segments: Result<Vec<Segment>, Error>,
    held: Mutex<Held>,
}

/// Which ranges are ours: those below `top` that are neither `free` nor `foreign`, and none above.
#[derive(Debug, Default)]
struct Held {
    /// Given back by us.
    free: BTreeSet<u32>,
    /// Another supervisor held them when we last asked. Not asked for again while there are others: with a thousand
    /// containers over there, each creation here would otherwise try a thousand locks.
    foreign: BTreeSet<u32>,
    top: u32,
}

impl Held {
    /// The next range to try: the lowest that came back, so that what is cached for a range is used again; else the
    /// next of the machine.
    fn next(&mut self, segments: &[Segment]) -> Option<(u32, Place)> {
        if let Some(index) = self.free.pop_first() {
            return Some((index, at(segments, index)?));
        }
        let place = at(segments, self.top)?;
        self.top += 1;
        Some((self.top - 1, place))
    }
}

/// One range; freed when dropped.
#[derive(Debug)]
pub struct Range {
    inner: Arc<Inner>,
    /// `None`: it is none of those that are given out now.
    index: Option<u32>,
    place: Place,
    /// It stays locked.
    left: AtomicBool,
}

impl Ranges {
    /// Use the lock file `path`, making it if needed, and the ranges that `/etc/subuid` and `/etc/subgid` give root.
    /// Wrong entries there are no error yet: [`take`](Self::take) names file and line, and containers without a range
    /// of their own still run.
    ///
    /// # Errors
    /// The lock file cannot be opened.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::with(path, subordinate::root::read(Path::new("/etc/subuid"), Path::new("/etc/subgid")))
    }

    fn with(path: &Path, given: Result<Option<Vec<Segment>>, Error>) -> Result<Self, Error> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)
            .map_err(|error| Error::system(format!("cannot open {}", path.display()), error))?;
        // The next supervisor opens it too, whatever this one's umask was.
        let _ = file.set_permissions(Permissions::from_mode(0o600));
        Ok(Self::of(file, given))
    }

    fn of(file: File, given: Result<Option<Vec<Segment>>, Error>) -> Self {
        let row = Row { first: FIRST, stride: STRIDE };
        let built_in = || vec![Segment { uid: row, gid: row, blocks: RANGES }];
        let segments = given.map(|given| given.unwrap_or_else(built_in));
        Self { inner: Arc::new(Inner { file, segments, held: Mutex::default() }) }
    }

    /// The first free range.
    ///
    /// # Errors
    /// [`ErrorKind::Exhausted`] when all are taken; [`ErrorKind::Invalid`] when root's entries in `/etc/subuid` or
    /// `/etc/subgid` cannot be used, with file and line.
    pub fn take(&self) -> Result<Range, Error> {
        let segments = self.inner.segments.as_ref().map_err(Clone::clone)?;
        let mut held = self.inner.held.lock().unwrap_or_else(PoisonError::into_inner);
        let range = |index, place| Range::of(&self.inner, Some(index), place);
        while let Some((index, place)) = held.next(segments) {
            if self.inner.hold(place).is_some() {
                return Ok(range(index, place));
            }
            held.foreign.insert(index);
        }
        // The last resort: what others may have given back meanwhile.
        let hold = |index| Some((index, self.inner.hold(at(segments, index)?)?));
        if let Some((index, place)) = held.foreign.iter().copied().find_map(hold) {
            held.foreign.remove(&index);
            return Ok(range(index, place));
        }
        Err(Error::new(ErrorKind::Exhausted, "every range of user ids is taken")
            .with_field("user_namespace")
            .with_hint("give root more ids in /etc/subuid and /etc/subgid, 65536 a container, or share one range"))
    }
}

impl Ranges {
    /// The locks of an earlier supervisor, by the open file that has them. What of them is not
    /// [taken again](Ranges::take_again) is to be [let go](Ranges::let_go_of_others).
    pub(crate) fn adopt(file: File) -> Self {
        Self::of(file, subordinate::root::read(Path::new("/etc/subuid"), Path::new("/etc/subgid")))
    }

    /// The open file that has the locks: whoever has it open too keeps them.
    pub(crate) fn file(&self) -> &File {
        &self.inner.file
    }

    /// The range that begins at these ids, which a container of an earlier supervisor has.
    ///
    /// # Errors
    /// [`ErrorKind::Exhausted`] when somebody else has got it meanwhile.
    pub(crate) fn take_again(&self, base: (u32, u32)) -> Result<Range, Error> {
        let (index, place) = self.place_of(base);
        let mut held = self.inner.held.lock().unwrap_or_else(PoisonError::into_inner);
        if self.inner.hold(place).is_none() {
            let what = format!("the user ids from {} on belong to another supervisor now", base.0);
            return Err(Error::new(ErrorKind::Exhausted, what).with_field("user_namespace"));
        }
        if let Some(index) = index {
            let top = held.top;
            held.free.extend(top..index);
            held.top = top.max(index + 1);
            held.free.remove(&index);
            held.foreign.remove(&index);
        }
        Ok(Range::of(&self.inner, index, place))
    }

    /// The range that begins at these ids; one of a cut that is not given out any more has no neighbours.
    fn place_of(&self, base: (u32, u32)) -> (Option<u32>, Place) {
        let segments = self.inner.segments.as_ref().map_or(&[][..], Vec::as_slice);
        let index = index_of(segments, base);
        let single = Place { ids: base, places: (COUNT, COUNT) };
        (index, index.and_then(|index| at(segments, index)).unwrap_or(single))
    }

    /// Unlock all but these, by where they begin.
    pub(crate) fn let_go_of_others(&self, mut kept: Vec<(u32, u32)>) {
        kept.sort_unstable();
        let places: Vec<Place> = kept.into_iter().map(|base| self.place_of(base).1).collect();
        let users = places.iter().map(|place| (i64::from(place.ids.0), i64::from(place.places.0)));
        self.inner.unlock_between(users, 0, GROUPS);
        let mut groups: Vec<_> =
            places.iter().map(|place| (GROUPS + i64::from(place.ids.1), i64::from(place.places.1))).collect();
        groups.sort_unstable();
        self.inner.unlock_between(groups.into_iter(), GROUPS, 2 * GROUPS);
    }
}

/// The number of the range that begins at these ids.
fn index_of(segments: &[Segment], base: (u32, u32)) -> Option<u32> {
    let mut before = 0;
    for segment in segments {
        let offset = base.0.checked_sub(segment.uid.first).filter(|offset| offset % segment.uid.stride == 0);
        let index = offset.map(|offset| offset / segment.uid.stride).filter(|index| *index < segment.blocks);
        if let Some(index) = index.filter(|index| segment.gid.at(*index) == base.1) {
            return Some(before + index);
        }
        before += segment.blocks;
    }
    None
}

/// The range with this number.
fn at(segments: &[Segment], mut index: u32) -> Option<Place> {
    for segment in segments {
        if index < segment.blocks {
            let more = index + 1 < segment.blocks;
            return Some(Place {
                ids: (segment.uid.at(index), segment.gid.at(index)),
                places: (segment.uid.places(more), segment.gid.places(more)),
            });
        }
        index -= segment.blocks;
    }
    None
}

impl Inner {
    /// Lock both halves of a range, or none.
    fn hold(&self, place: Place) -> Option<Place> {
        let ((uid, gid), (uids, gids)) = (place.ids, place.places);
        self.lock(uid.into(), uids, libc::F_WRLCK).ok()?;
        if self.lock(GROUPS + i64::from(gid), gids, libc::F_WRLCK).is_err() {
            let _ = self.lock(uid.into(), uids, libc::F_UNLCK);
            return None;
        }
        Some(place)
    }

    fn let_go(&self, place: Place) {
        let _ = self.lock(place.ids.0.into(), place.places.0, libc::F_UNLCK);
        let _ = self.lock(GROUPS + i64::from(place.ids.1), place.places.1, libc::F_UNLCK);
    }

    /// Unlock what is not in `kept`, which is in order, between two places.
    fn unlock_between(&self, kept: impl Iterator<Item = (i64, i64)>, from: i64, to: i64) {
        let mut at = from;
        for (first, len) in kept.chain([(to, 0)]) {
            if first > at {
                let _ = self.set(at, first - at, libc::F_UNLCK);
            }
            at = at.max(first + len);
        }
    }

    fn lock(&self, first: i64, places: u32, kind: i32) -> nix::Result<()> {
        self.set(first, places.into(), kind)
    }

    fn set(&self, first: i64, places: i64, kind: i32) -> nix::Result<()> {
        let lock = libc::flock {
            l_type: i16::try_from(kind).unwrap_or(0),
            l_whence: 0,
            l_start: first,
            l_len: places,
            l_pid: 0,
        };
        fcntl(&self.file, FcntlArg::F_OFD_SETLK(&lock)).map(drop)
    }
}

impl Range {
    fn of(inner: &Arc<Inner>, index: Option<u32>, place: Place) -> Self {
        Self { inner: Arc::clone(inner), index, place, left: AtomicBool::new(false) }
    }

    /// Dropping it does not free it: its container outlives us, and whoever has the file open keeps the lock.
    pub(crate) fn leave(&self) {
        self.left.store(true, Ordering::Release);
    }

    /// The first user and group id outside.
    #[must_use]
    pub fn base(&self) -> (u32, u32) {
        self.place.ids
    }
}

impl Drop for Range {
    fn drop(&mut self) {
        if *self.left.get_mut() {
            return;
        }
        let mut held = self.inner.held.lock().unwrap_or_else(PoisonError::into_inner);
        self.inner.let_go(self.place);
        held.free.extend(self.index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(path: &Path, given: Option<Vec<Segment>>) -> Ranges {
        Ranges::with(path, Ok(given)).unwrap()
    }

    fn segment(uid: u32, gid: u32) -> Segment {
        let row = |first| Row { first, stride: COUNT };
        Segment { uid: row(uid), gid: row(gid), blocks: 1 }
    }

    #[test]
    fn two_supervisors_never_get_the_same_range_and_a_dropped_one_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ids");
        let (one, two) = (ranges(&path, None), ranges(&path, None));
        let (a, b, c) = (one.take().unwrap(), two.take().unwrap(), one.take().unwrap());
        assert_eq!([a.base().0, b.base().0, c.base().1], [524_288, 589_825, 655_362]);
        drop(a);
        assert_eq!(one.take().unwrap().base(), (524_288, 524_288));
        drop((b, c));
    }

    #[test]
    fn what_another_supervisor_holds_is_asked_for_once_until_nothing_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ids");
        let segments = || Some((0..6).map(|n| segment(FIRST + n * COUNT, FIRST + n * COUNT)).collect());
        let (one, two) = (ranges(&path, segments()), ranges(&path, segments()));
        let base = |range: &Range| (range.base().0 - FIRST) / COUNT;
        let theirs: Vec<Range> = (0..4).map(|_| two.take().unwrap()).collect();
        let first = one.take().unwrap();
        drop(theirs);
        let second = one.take().unwrap();
        assert_eq!((base(&first), base(&second)), (4, 5), "the free ones below were tried again");
        assert_eq!(base(&one.take().unwrap()), 0, "the last resort");
    }

    /// The open file goes over to another supervisor, and with it what is locked.
    #[test]
    fn ranges_go_over_with_the_open_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ids");
        let (first, stranger) = (ranges(&path, None), ranges(&path, None));
        let held: Vec<Range> = (0..4).map(|_| first.take().unwrap()).collect();
        let bases: Vec<_> = held.iter().map(Range::base).collect();
        let file = first.file().try_clone().unwrap();
        held.iter().for_each(Range::leave);
        drop(held);
        drop(first);
        assert_eq!(stranger.take().unwrap().base().0, FIRST + 4 * STRIDE, "all four are still held");
        let next = Ranges::adopt(file);
        let again: Vec<Range> = [1, 3].into_iter().map(|n| next.take_again(bases[n]).unwrap()).collect();
        next.let_go_of_others(again.iter().map(Range::base).collect());
        let taken: Vec<_> = (0..2).map(|_| stranger.take().unwrap()).collect();
        // What was foreign to it is asked for last; what it had is free again.
        assert!(taken.iter().all(|range| ![bases[1], bases[3]].contains(&range.base())), "{taken:?}");
        let other = ranges(&path, None);
        assert_eq!(other.take().unwrap().base(), bases[0]);
        assert!(other.take_again(bases[1]).is_err(), "it is the next one's");
        drop(again);
        assert_eq!(other.take_again(bases[1]).unwrap().base(), bases[1]);
        // One of a cut that is not given out any more.
        assert_eq!(next.take_again((9, 9)).unwrap().base(), (9, 9));
    }

    #[test]
    fn ranges_of_another_cut_are_kept_apart_and_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ids");
        // Shifted by half a range: it overlaps two of the built-in ones. The group ids do not.
        let segments = vec![segment(FIRST + COUNT / 2, 1 << 24), segment(9, 9)];
        let (built_in, given) = (ranges(&path, None), ranges(&path, Some(segments)));
        let first = given.take().unwrap();
        assert_eq!(first.base(), (FIRST + COUNT / 2, 1 << 24));
        assert_eq!(built_in.take().unwrap().base().0, FIRST + 2 * STRIDE);
        let second = given.take().unwrap();
        assert_eq!(second.base(), (9, 9));
        let error = given.take().unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::Exhausted, Some("user_namespace")));
        drop((first, second));
        assert_eq!(given.take().unwrap().base().0, FIRST + COUNT / 2);
    }

    #[test]
    fn groups_that_are_taken_free_the_users_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ids");
        let given = |uid, gid| ranges(&path, Some(vec![segment(uid, gid)]));
        let (one, two, three) = (given(FIRST, 7), given(1, 7), given(1, 1 << 20));
        let _held = one.take().unwrap();
        assert!(two.take().is_err());
        assert_eq!(three.take().unwrap().base(), (1, 1 << 20));
    }

    #[test]
    fn the_locks_of_many_ranges_are_one_for_the_kernel() {
        use std::os::unix::fs::MetadataExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ids");
        let ranges = ranges(&path, None);
        let inode = format!(":{}", std::fs::metadata(&path).unwrap().ino());
        let locks = || {
            let all = std::fs::read_to_string("/proc/locks").unwrap();
            all.lines().filter(|line| line.split_whitespace().nth(5).is_some_and(|file| file.ends_with(&inode))).count()
        };
        let mut held: Vec<Range> = (0..1000).map(|_| ranges.take().unwrap()).collect();
        assert_eq!(locks(), 2, "users and groups");
        drop(held.remove(500));
        assert_eq!(locks(), 4);
        held.push(ranges.take().unwrap());
        assert_eq!(locks(), 2);
    }

    /// `__uidhashfn` of the kernel's kernel/user.c, with 128 lists.
    fn bucket(uid: u32) -> usize {
        usize::try_from((uid >> 7).wrapping_add(uid) & 127).unwrap()
    }

    #[test]
    fn the_same_id_of_many_containers_lies_in_all_lists_of_the_kernel() {
        let dir = tempfile::tempdir().unwrap();
        let ranges = ranges(&dir.path().join("ids"), None);
        let held: Vec<Range> = (0..1280).map(|_| ranges.take().unwrap()).collect();
        for inside in [0, 1000, 65_534] {
            let mut lists = [0; 128];
            for range in &held {
                lists[bucket(range.base().0 + inside)] += 1;
            }
            let longest = lists.iter().max().unwrap();
            assert!(*longest <= 20, "id {inside}: {longest} of 1280 containers in one list");
        }
        let last = FIRST + (RANGES - 1) * STRIDE;
        assert!(last.checked_add(COUNT).is_some_and(|end| end < u32::MAX - 1));
    }
}
