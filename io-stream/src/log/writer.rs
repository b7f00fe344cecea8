//! The writing side of one source: the open segment, its index, and what happens when there is no room.
//!
//! Stepped by the pump through the log's lock. Each step takes what the pipe holds, and never waits for
//! room: what cannot be written is read away and counted. What is no pipe is copied (`copied.rs`).

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::io::Errno;
use rustix::pipe::{SpliceFlags, splice};

use super::change::{Change, Watch};
use super::copied;
use super::files;
use super::held::{self, Held, Meanwhile};
use super::index::{ENTRY, Entry, Index};
use super::loss::Loss;
use super::options::LogOptions;
use super::segment::{self, Segment};
use crate::chunk::{Source, Stamp};
use crate::pipe::Feed;

/// The most that one step takes: a pipe's default capacity (pipe(7)).
const STEP: usize = 64 * 1024;
/// A byte's time is that of a read at most so many bytes or so long before its own.
const ENTRY_BYTES: u64 = 64 * 1024;
const ENTRY_TIME: Duration = Duration::from_millis(10);
/// An index has room for so much and a quarter of its segment: a flood of tiny writes in turn to both
/// streams must not make it larger than what it is about.
const INDEX_FLOOR: u64 = 64 * 1024;

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// So many bytes went from the pipe into the log.
    Logged(u64),
    /// So many bytes were read away, because the log takes none.
    Discarded(u64),
    /// The pipe is empty.
    Empty,
    /// The pipe has ended.
    Eof,
    /// The pipe cannot be read.
    Failed(Errno),
    /// Nothing: who holds the log as well has to be told first.
    Untold,
}

/// One segment that is being written. Its length is the truth about what is in the log.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) file: File,
    /// Missing when it could not be made: its bytes have no time then.
    index: Option<File>,
    index_len: u64,
    base: u64,
    len: u64,
    born: Duration,
    noted: Option<(u64, Duration)>,
}

/// The writer of one source.
#[derive(Debug)]
pub(crate) struct Writer {
    source: Source,
    open: Option<Open>,
    /// Offset of the next byte of the stream.
    next: u64,
    /// No write is tried before this.
    retry_at: Option<Duration>,
    /// The next write fails so.
    fault: Option<Errno>,
    /// Why the last bytes before the next one are missing, unless they are there.
    loss: Option<Loss>,
    /// Who holds its file as well knows this one; `None`: nobody does.
    pub(super) held: Option<Held>,
    /// Who did not take the word of it is not asked again before this.
    tell_at: Option<Duration>,
    /// Nor before something has moved.
    refused: bool,
    /// Bytes that were read away because the log took none.
    pub(crate) discarded: u64,
    /// Bytes that were read away because they are behind the limit.
    pub(crate) over_limit: u64,
}

/// What a step needs from the log around it.
pub(crate) struct Around<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) options: &'a LogOptions,
    /// The next number of both sources together.
    pub(crate) seq: &'a mut u64,
    /// The source of the last entry.
    pub(crate) last: &'a mut Option<Source>,
    /// Bytes of both sources together that may still be logged.
    pub(crate) left: &'a mut u64,
    /// Told each change of the files.
    pub(crate) watch: &'a Watch,
    /// Told each segment that is closed.
    pub(crate) closed: &'a mut Vec<File>,
}

impl Writer {
    /// The writer of a source that nothing was written of.
    pub(crate) const fn new(source: Source) -> Self {
        Self {
            source,
            open: None,
            next: 0,
            retry_at: None,
            fault: None,
            loss: None,
            held: None,
            tell_at: None,
            refused: false,
            discarded: 0,
            over_limit: 0,
        }
    }

    /// Goes on where the last segment ends, or at `taken` where that is further: what lies between was
    /// read away, as `loss` says. Gives the highest sequence number that is used.
    pub(crate) fn recover(
        &mut self,
        dir: &Path,
        segments: &[Segment],
        taken: u64,
        loss: Loss,
    ) -> io::Result<Option<u64>> {
        let mut seq = None;
        if let Some(last) = segments.last() {
            (self.open, self.next) = match last.form {
                segment::Form::Plain => {
                    let open = Open::recover(dir, last)?;
                    let end = open.end();
                    (Some(open), end)
                }
                // It was closed and a later one begun, which went before anything was in it.
                segment::Form::Zstd => (None, last.base + segment::compressed_len(dir, last)?),
            };
            // The newest number is in the last index that has an entry.
            seq = segments.iter().rev().find_map(|segment| read_index(dir, segment).entries().last().map(|e| e.seq));
        }
        if self.next < taken {
            (self.next, self.open, self.loss) = (taken, None, Some(loss));
        }
        Ok(seq)
    }

    /// Offset of the next byte of the stream.
    pub(crate) const fn next(&self) -> u64 {
        self.next
    }

    /// The file that is being written, and how many bytes it has.
    pub(crate) fn file(&self) -> Option<(&File, u64)> {
        self.open.as_ref().map(|open| (&open.file, open.len))
    }

    /// The next write fails so.
    pub(crate) const fn fail(&mut self, errno: Errno) {
        self.fault = Some(errno);
    }

    /// Why the last bytes before the next one are missing, unless they are there.
    pub(crate) const fn loss(&self) -> Option<Loss> {
        self.loss
    }

    /// Takes what `feed` holds, once.
    pub(crate) fn step(&mut self, feed: Feed<'_>, around: &mut Around<'_>) -> Taken {
        let taken = self.take(feed, around);
        self.refused &= !matches!(taken, Taken::Logged(_) | Taken::Discarded(_));
        taken
    }

    fn take(&mut self, feed: Feed<'_>, around: &mut Around<'_>) -> Taken {
        let now = Stamp::now();
        if self.is_untold(&now) {
            return Taken::Untold;
        }
        if !self.takes(&now, around) {
            return self.discard(feed, around);
        }
        if !matches!(feed, Feed::Pipe(_)) {
            return self.copy(feed, &now, around);
        }
        match self.splice(feed, &now, around) {
            Ok(taken) => taken,
            Err(errno) => {
                self.give_up(errno, &now, around);
                if self.is_untold(&now) { Taken::Untold } else { self.discard(feed, around) }
            }
        }
    }

    /// Whether a write is to be tried now.
    pub(super) fn takes(&self, now: &Stamp, around: &Around<'_>) -> bool {
        *around.left > 0 && self.retry_at.is_none_or(|at| now.mono >= at)
    }

    fn splice(&mut self, feed: Feed<'_>, now: &Stamp, around: &mut Around<'_>) -> Result<Taken, Errno> {
        let pipe = feed.as_fd();
        self.leave_if_over(now, around);
        if self.open.is_none() {
            // An empty pipe makes no segment.
            match rustix::io::ioctl_fionread(pipe) {
                Ok(0) if !is_ended(pipe) => return Ok(Taken::Empty),
                Ok(0) => return Ok(Taken::Eof),
                _ => {}
            }
        }
        self.enter(now, around)?;
        if self.is_untold(now) {
            return Ok(Taken::Untold);
        }
        let (open, most) = self.enter(now, around)?;
        loop {
            match splice(pipe, None, open.file.as_fd(), None, most, SpliceFlags::NONBLOCK) {
                Ok(0) => return Ok(Taken::Eof),
                Ok(len) => {
                    self.advance(len as u64, around);
                    return Ok(Taken::Logged(len as u64));
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(Taken::Empty),
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Closes the segment that is long or old enough.
    pub(super) fn leave_if_over(&mut self, now: &Stamp, around: &mut Around<'_>) {
        if self.open.as_ref().is_some_and(|open| open.is_over(around.options, now)) {
            around.closed.extend(self.open.take().map(|open| open.file));
        }
    }

    /// The segment for the next bytes, with when they were read written down, and how many it takes at most.
    pub(super) fn enter(&mut self, now: &Stamp, around: &mut Around<'_>) -> Result<(&Open, usize), Errno> {
        if let Some(errno) = self.fault.take() {
            return Err(errno);
        }
        let told = self.tells(now);
        let open = match &mut self.open {
            Some(open) => open,
            none => {
                let segment = Segment::plain(self.source, self.next);
                let held = self.held.is_some();
                // Without a name until its holder knows it, if he is told at once.
                let path = if held && told { segment.held(around.dir) } else { segment.data(around.dir) };
                let open = Open::create(around.dir, segment, &path, now)?;
                self.held = held.then_some(Held::Other);
                around.watch.tell(Change::Made);
                none.insert(open)
            }
        };
        open.note(self.source, now, self.loss, around);
        // One that is held is not cut while it is copied into: it is left at the next step.
        let room = around.options.segment_bytes.saturating_sub(open.len).min(*around.left);
        Ok((open, STEP.min(usize::try_from(room).unwrap_or(STEP))))
    }

    /// So many bytes are in the segment.
    pub(super) fn advance(&mut self, len: u64, around: &mut Around<'_>) {
        if let Some(open) = &mut self.open {
            open.len += len;
        }
        self.next += len;
        *around.left -= len;
        (self.retry_at, self.loss) = (None, None);
    }

    /// The log takes no more for now: closes the segment, and removes it if nothing is in it, so that
    /// the next one can begin at another offset.
    pub(super) fn give_up(&mut self, errno: Errno, now: &Stamp, around: &mut Around<'_>) {
        if self.retry_at.is_none() {
            tracing::warn!(source = %self.source, %errno, dir = %around.dir.display(), "the log takes no bytes: they are discarded");
        }
        self.retry_at = Some(now.mono + around.options.retry);
        let Some(open) = self.open.take() else { return };
        if open.len == 0 {
            let empty = Segment::plain(self.source, open.base);
            if let Err(error) =
                segment::remove(around.dir, &empty).and_then(|()| files::remove(&empty.held(around.dir)))
            {
                tracing::warn!(%error, "an empty segment stays");
            }
        }
        if self.held.is_some() {
            self.held = Some(Held::Closed(open.file));
        }
    }

    /// The file that is being written, made where there is none; held by somebody else as well from now on.
    pub(super) fn share(&mut self, dir: &Path) -> io::Result<&File> {
        let open = match &mut self.open {
            Some(open) => open,
            none => {
                let segment = Segment::plain(self.source, self.next);
                none.insert(Open::create(dir, segment, &segment.data(dir), &Stamp::now())?)
            }
        };
        self.held = Some(Held::This);
        Ok(&open.file)
    }

    /// The segment that was made and in which there is nothing; it is not written any more.
    pub(super) fn take_unused(&mut self) -> Option<Segment> {
        self.open.take().filter(|open| open.len == 0).map(|open| Segment::plain(self.source, open.base))
    }

    /// Its holder has to be told first. Without a file there is nothing to be told of yet.
    pub(super) fn is_untold(&self, now: &Stamp) -> bool {
        let untold = matches!((&self.held, &self.open), (Some(Held::Closed(_)), _) | (Some(Held::Other), Some(_)));
        untold && self.tells(now)
    }

    /// Its holder would be told now.
    fn tells(&self, now: &Stamp) -> bool {
        !self.refused && self.tell_at.is_none_or(|at| now.mono >= at)
    }

    /// What its holder is to know, and whether bytes go there.
    pub(super) fn untold(&self) -> io::Result<Option<(File, bool)>> {
        if !self.is_untold(&Stamp::now()) {
            return Ok(None);
        }
        match (&self.held, &self.open) {
            (Some(Held::Closed(file)), _) => Ok(Some((file.try_clone()?, false))),
            (Some(Held::Other), Some(open)) => Ok(Some((open.file.try_clone()?, true))),
            _ => Ok(None),
        }
    }

    /// It knows; or does not, and is told `again` at that time. The file has its name either way: readers wait for it.
    pub(super) fn told(&mut self, dir: &Path, again: Option<Duration>) -> io::Result<()> {
        (self.tell_at, self.refused) = (again, again.is_some());
        let name = match (&self.held, &self.open) {
            (Some(Held::Other), Some(open)) => held::name(dir, &Segment::plain(self.source, open.base)),
            _ => Ok(()),
        };
        if again.is_none() {
            self.held = Some(Held::This);
        }
        name
    }

    /// What was done while there was no writer: the file is as long as it is, and knows nothing of it.
    pub(super) fn meanwhile(&mut self, done: &Meanwhile, around: &mut Around<'_>) {
        let Meanwhile { logged, lost, since } = *done;
        *around.left = around.left.saturating_sub(logged);
        if let Some(open) = self.open.as_mut().filter(|open| logged > 0 && logged <= open.len) {
            open.note_meanwhile(self.source, open.end() - logged, since, around);
        }
        if lost > 0 {
            // What comes next has another offset, and so another file. Until its holder knows that this one is over, another crash
            // would let it go on here.
            if let Some(open) = self.open.take() {
                around.closed.extend(open.file.try_clone());
                self.held = Some(Held::Closed(open.file));
            }
            self.lose(lost, around);
        }
    }

    /// Reads away what `feed` holds, once.
    fn discard(&mut self, feed: Feed<'_>, around: &mut Around<'_>) -> Taken {
        match copied::read(feed, &mut [0; STEP / 4]) {
            Ok(len) => self.lose(len as u64, around),
            Err(taken) => taken,
        }
    }

    /// So many bytes are gone: those within the limit because the log took none.
    pub(super) fn lose(&mut self, len: u64, around: &mut Around<'_>) -> Taken {
        let within = len.min(*around.left);
        *around.left -= within;
        self.discarded += within;
        self.over_limit += len - within;
        self.next += len;
        self.loss = Some(if len > within { Loss::OverLimit } else { Loss::Full });
        Taken::Discarded(len)
    }
}

/// Whether nobody can write into the pipe any more.
fn is_ended(pipe: BorrowedFd<'_>) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::from_borrowed_fd(pipe, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().contains(PollFlags::HUP)
}

impl Open {
    fn create(dir: &Path, segment: Segment, path: &Path, now: &Stamp) -> Result<Self, Errno> {
        // The index first: a reader that finds the data finds it as well.
        let index = files::fresh(&segment.index(dir));
        let file = files::create(path).map_err(|error| {
            // An index without data is in nobody's way, but of no use either.
            let _ = std::fs::remove_file(segment.index(dir));
            Errno::from_io_error(&error).unwrap_or(Errno::IO)
        })?;
        Ok(Self { file, index: index.ok(), index_len: 0, base: segment.base, len: 0, born: now.mono, noted: None })
    }

    /// Goes on writing a segment that another process has left.
    fn recover(dir: &Path, segment: &Segment) -> io::Result<Self> {
        let mut file = files::write(&segment.data(dir))?;
        let len = file.seek(SeekFrom::End(0))?;
        let index = read_index(dir, segment);
        // After a crash of the machine the index may know more than the log has.
        let kept = index.entries().iter().all(|entry| entry.offset <= segment.base + len);
        let path = segment.index(dir);
        let (file_of_index, index_len) = if kept {
            (files::write(&path).or_else(|_| files::fresh(&path)), index.seen())
        } else {
            rewrite(&path, index.entries(), segment.base + len)
        };
        Ok(Self {
            file,
            index: file_of_index.ok(),
            index_len,
            base: segment.base,
            len,
            born: Stamp::now().mono,
            noted: None,
        })
    }

    const fn end(&self) -> u64 {
        self.base + self.len
    }

    fn is_over(&self, options: &LogOptions, now: &Stamp) -> bool {
        let old = |age| self.len > 0 && now.mono.saturating_sub(self.born) >= age;
        self.len >= options.segment_bytes || options.segment_age.is_some_and(old)
    }

    /// Writes down when the next bytes are read, unless the last entry is good enough.
    fn note(&mut self, source: Source, now: &Stamp, loss: Option<Loss>, around: &mut Around<'_>) {
        let fresh = self
            .noted
            .is_some_and(|(offset, at)| self.end() - offset < ENTRY_BYTES && now.mono.saturating_sub(at) < ENTRY_TIME);
        let full = self.index_len > INDEX_FLOOR + self.len / 4;
        let Some(index) = &self.index else { return };
        if (fresh && *around.last == Some(source)) || full {
            return;
        }
        let wall = now.wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let loss = loss.filter(|_| self.len == 0).unwrap_or_default();
        let entry = Entry { offset: self.base + self.len, seq: *around.seq, wall, mono: now.mono, loss };
        // At its place, not appended: what a full disk took a part of is written over.
        if index.write_all_at(&entry.encode(), self.index_len).is_ok() {
            self.index_len += ENTRY as u64;
            self.noted = Some((entry.offset, now.mono));
            *around.seq += 1;
            *around.last = Some(source);
        }
    }
}

impl Open {
    /// Bytes from this offset on were read from then on, by somebody else.
    fn note_meanwhile(&mut self, source: Source, offset: u64, since: Duration, around: &mut Around<'_>) {
        let now = Stamp::now();
        let wall =
            (now.wall - now.mono.saturating_sub(since)).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let entry = Entry { offset, seq: *around.seq, wall, mono: since, loss: Loss::default() };
        let Some(index) = &self.index else { return };
        if index.write_all_at(&entry.encode(), self.index_len).is_ok() {
            self.index_len += ENTRY as u64;
            *around.seq += 1;
            *around.last = Some(source);
        }
    }
}

/// The index of a segment; empty if it cannot be read.
fn read_index(dir: &Path, segment: &Segment) -> Index {
    let mut index = Index::default();
    index.extend(segment.base, &files::contents(&segment.index(dir)).unwrap_or_default());
    index
}

/// Writes an index without the entries that lie behind `end`.
fn rewrite(path: &Path, entries: &[Entry], end: u64) -> (io::Result<File>, u64) {
    let kept: Vec<u8> = entries.iter().filter(|entry| entry.offset <= end).flat_map(Entry::encode).collect();
    let file = files::fresh(path).and_then(|file| file.write_all_at(&kept, 0).map(|()| file));
    (file, kept.len() as u64)
}
