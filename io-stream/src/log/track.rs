//! Where a reader stands in one source: the open segment and the way to the next one.
//!
//! Used by the log's reader. A segment that is open stays readable after it was removed; which one
//! follows is asked of the directory, only at the end of the open one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;

use super::files;
use super::index::{Entry, Index};
use super::segment::{self, Form, Segment};
use crate::chunk::Source;
use crate::event::{Gap, GapCause};

/// The most that one chunk holds.
pub(crate) const CHUNK: u64 = 64 * 1024;

/// One source's place in a log.
#[derive(Debug)]
pub(crate) struct Track {
    pub(crate) source: Source,
    /// Offset of the next byte.
    pub(crate) offset: u64,
    open: Option<Open>,
}

/// What stands at a track's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Bytes.
    Data,
    /// Bytes that are in no segment; the track stands behind them now.
    Gap(Gap),
    /// Nothing yet.
    End,
}

impl Track {
    pub(crate) const fn new(source: Source, offset: u64) -> Self {
        Self { source, offset, open: None }
    }

    /// Looks again what stands here, and moves on to the next segment where this one is over.
    pub(crate) fn look(&mut self, dir: &Path) -> io::Result<Place> {
        loop {
            let Some(open) = &mut self.open else {
                match self.enter(dir)? {
                    Some(place) => return Ok(place),
                    None => continue,
                }
            };
            open.refresh()?;
            if self.offset < open.end() {
                return Ok(Place::Data);
            }
            let mut segments = segment::list(dir, self.source)?;
            let base = open.segment.base;
            let behind = |segments: &[Segment]| segments.iter().find(|segment| segment.base > base).copied();
            let Some(mut next) = behind(&segments) else {
                return Ok(Place::End);
            };
            // The writer had left this segment before the next one was there: now its end is its end.
            open.refresh()?;
            if self.offset < open.end() {
                return Ok(Place::Data);
            }
            if next.base > self.offset {
                // A hole, or one that is just being compressed.
                segments = segment::list_again(dir, self.source, segments)?;
                next = behind(&segments).unwrap_or(next);
            }
            let removed = segments.first().is_some_and(|first| first.base > base);
            if let Some(place) = self.go(dir, &next, if removed { GapCause::Removed } else { GapCause::LogFull })? {
                return Ok(place);
            }
        }
    }

    /// Finds the segment that the place is in; `None` when it is open or should be looked for again.
    fn enter(&mut self, dir: &Path) -> io::Result<Option<Place>> {
        let segments = segment::list_all(dir, self.source)?;
        let after = segments.partition_point(|segment| segment.base <= self.offset);
        let next = segments.get(after);
        if let Some(before) = after.checked_sub(1).and_then(|at| segments.get(at)) {
            let Some(open) = Open::new(dir, before)? else { return Ok(None) };
            if self.offset <= open.end() || next.is_none() {
                let ahead = self.offset > open.end();
                self.open = Some(open);
                // A place that no segment has reached yet: what is there is being read away.
                return Ok(ahead.then_some(Place::End));
            }
        }
        let Some(next) = next else { return Ok(Some(Place::End)) };
        let cause = if after == 0 { GapCause::Removed } else { GapCause::LogFull };
        self.go(dir, next, cause)
    }

    /// Opens the next segment; the gap before it, if there is one. `None`: look again.
    fn go(&mut self, dir: &Path, next: &Segment, cause: GapCause) -> io::Result<Option<Place>> {
        // It may have been removed or compressed since it was listed.
        self.open = Open::new(dir, next)?;
        let Some(open) = self.open.as_ref().filter(|_| next.base > self.offset) else { return Ok(None) };
        let cause = match cause {
            GapCause::LogFull => open.index.loss_before().cause(),
            cause => cause,
        };
        let gap = Gap { source: self.source, from: self.offset, to: next.base, cause };
        self.offset = next.base;
        Ok(Some(Place::Gap(gap)))
    }

    /// The bytes here, up to the next entry, with their entry. Only where there is [`Place::Data`].
    pub(crate) fn read(&mut self) -> io::Result<(Option<Entry>, Bytes)> {
        let Some(open) = &mut self.open else { return Ok((None, Bytes::new())) };
        let (entry, until) = open.index.at(self.offset);
        let until = until.min(open.end()).min(self.offset + CHUNK);
        let data = open.read(self.offset, until.saturating_sub(self.offset) as usize)?;
        self.offset += data.len() as u64;
        Ok((entry, data))
    }

    /// The number of the next byte here, and of the last byte that was there at the last look.
    pub(crate) fn numbers(&self) -> Option<(u64, u64)> {
        let open = self.open.as_ref().filter(|open| self.offset < open.end())?;
        // Bytes without an entry are not held back for anything.
        let number = |offset| open.index.at(offset).0.map_or(0, |entry| entry.seq);
        Some((number(self.offset), number(open.end() - 1)))
    }
}

/// A segment that is being read.
#[derive(Debug)]
pub(crate) struct Open {
    segment: Segment,
    data: Data,
    index_file: Option<File>,
    pub(crate) index: Index,
    len: u64,
}

#[derive(Debug)]
enum Data {
    Plain(File),
    #[cfg(feature = "zstd")]
    Zstd(super::compress::Unpacked),
}

impl Open {
    /// Opens a segment; `None` if it is not there any more.
    pub(crate) fn new(dir: &Path, segment: &Segment) -> io::Result<Option<Self>> {
        // The index is made before the data and removed after it: looked for on both sides, it is found.
        let before = found(files::read(&segment.index(dir)))?;
        let Some(file) = found(files::read(&segment.data(dir)))? else { return Ok(None) };
        let index_file = match before {
            None => found(files::read(&segment.index(dir)))?,
            some => some,
        };
        let (data, len) = match segment.form {
            Form::Plain => (Data::Plain(file), 0),
            #[cfg(feature = "zstd")]
            Form::Zstd => {
                let unpacked = super::compress::Unpacked::new(file)?;
                let len = unpacked.len();
                (Data::Zstd(unpacked), len)
            }
            #[cfg(not(feature = "zstd"))]
            Form::Zstd => return Err(io::Error::new(io::ErrorKind::Unsupported, "built without the feature zstd")),
        };
        let mut open = Self { segment: *segment, data, index_file, index: Index::default(), len };
        open.refresh()?;
        Ok(Some(open))
    }

    /// Looks how long it is now, and then at its index: in this order, so that every byte that is seen
    /// has its entry.
    fn refresh(&mut self) -> io::Result<()> {
        let known = match &self.data {
            Data::Plain(file) => {
                let before = std::mem::replace(&mut self.len, file.metadata()?.len());
                before == self.len && before > 0
            }
            #[cfg(feature = "zstd")]
            Data::Zstd(_) => self.index.seen() > 0,
        };
        if known {
            return Ok(());
        }
        let Some(file) = &self.index_file else { return Ok(()) };
        let mut more = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            match file.read_at(&mut buffer, self.index.seen() + more.len() as u64)? {
                0 => break,
                len => more.extend_from_slice(&buffer[..len]),
            }
        }
        self.index.extend(self.segment.base, &more);
        Ok(())
    }

    /// Offset of the first byte after it.
    pub(crate) fn end(&self) -> u64 {
        self.segment.base.saturating_add(self.len)
    }

    /// At most `len` bytes from the stream offset `from` on.
    pub(crate) fn read(&mut self, from: u64, len: usize) -> io::Result<Bytes> {
        let at = from - self.segment.base;
        let mut buffer = vec![0; len];
        let read = match &mut self.data {
            Data::Plain(file) => file.read_at(&mut buffer, at)?,
            #[cfg(feature = "zstd")]
            Data::Zstd(unpacked) => unpacked.read_at(&mut buffer, at)?,
        };
        if read == 0 && len > 0 {
            // Somebody has made it shorter under our hands.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer.truncate(read);
        Ok(buffer.into())
    }
}

/// `None` for what is not there.
fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
