//! Where in a log a reader starts: from what was asked to an offset of each source.
//!
//! Answered from the names of the segments and from their indexes; only a tail of lines reads data.

use std::io;
use std::path::Path;

use super::files;
use super::index::{Entry, Index};
use super::segment::{self, Segment};
use super::state::State;
use super::track::{CHUNK, Open};
use crate::chunk::{PerSource, Source};
use crate::cursor::{Cursor, Extent};
use crate::from::From;

/// What there is of one source.
#[derive(Debug)]
pub(crate) struct Kept {
    segments: Vec<Segment>,
    /// The oldest offset that is kept.
    pub(crate) oldest: u64,
    /// The offset of the next byte.
    pub(crate) end: u64,
}

/// Where a source starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) offset: u64,
    /// Whether what was asked for may have been removed: `offset` is then the oldest there is.
    pub(crate) forgotten: bool,
}

/// Looks at all segments.
pub(crate) fn kept(dir: &Path, state: &State) -> io::Result<PerSource<Kept>> {
    let of = |source| kept_of(dir, source, state.slots[source].taken);
    Ok(PerSource::new(of(Source::Stdout)?, of(Source::Stderr)?))
}

fn kept_of(dir: &Path, source: Source, taken: u64) -> io::Result<Kept> {
    // A segment that goes between the listing and the opening is not kept: look again.
    for _ in 0..8 {
        let segments = segment::list_all(dir, source)?;
        let Some(last) = segments.last() else { return Ok(Kept { segments, oldest: taken, end: taken }) };
        if let Some(open) = Open::new(dir, last)? {
            let oldest = segments.first().map_or(0, |first| first.base);
            return Ok(Kept { segments, oldest, end: open.end().max(taken) });
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, "the segments of the log keep disappearing"))
}

/// Only what lies before `until`.
pub(crate) fn before(kept: PerSource<Kept>, until: &Cursor) -> PerSource<Kept> {
    let [stdout, stderr] = Source::ALL.map(|source| until.offset(source));
    let PerSource { stdout: out, stderr: err } = kept;
    PerSource::new(Kept { end: out.end.min(stdout), ..out }, Kept { end: err.end.min(stderr), ..err })
}

/// The places that can be resumed at.
pub(crate) fn extent(state: &State, kept: &PerSource<Kept>) -> Extent {
    let cursor = |of: &dyn Fn(&Kept) -> u64| {
        let [stdout, stderr] = Source::ALL.map(|source| of(&kept[source]));
        Cursor::new(state.stream, state.generation, Source::Stdout, stdout, stderr)
    };
    Extent { oldest: cursor(&|kept| kept.oldest), newest: cursor(&|kept| kept.end) }
}

/// Where each source starts for a reader that asks for `from`.
pub(crate) fn resolve(dir: &Path, kept: &PerSource<Kept>, from: From) -> io::Result<[Start; 2]> {
    let known = |offset| Start { offset, forgotten: false };
    let each = |of: &dyn Fn(&Kept) -> io::Result<Start>| -> io::Result<[Start; 2]> {
        Ok([of(&kept[Source::Stdout])?, of(&kept[Source::Stderr])?])
    };
    match from {
        From::Start => each(&|_| Ok(known(0))),
        From::Now => each(&|kept| Ok(known(kept.end))),
        From::TailBytes(bytes) => each(&|kept| Ok(known(kept.end.saturating_sub(bytes)))),
        From::TailLines(lines) => each(&|kept| kept.start_of_lines(dir, lines)),
        From::Seq(seq) => each(&|kept| kept.first(dir, |entry| entry.seq >= seq)),
        From::Time(time) => each(&|kept| kept.first(dir, |entry| entry.wall_time() >= time)),
        From::Offset { source, offset } => {
            let offset = offset.min(kept[source].end);
            let other = &kept[source.other()];
            let other = match kept[source].entry_at(dir, offset)? {
                _ if offset < kept[source].oldest => other.forgotten(),
                _ if offset == kept[source].end => known(other.end),
                Some(entry) => other.first(dir, |each| each.seq > entry.seq)?,
                None => other.forgotten(),
            };
            Ok(Source::ALL.map(|each| if each == source { known(offset) } else { other }))
        }
    }
}

impl Kept {
    /// The oldest byte, which may not be the one that was asked for.
    const fn forgotten(&self) -> Start {
        Start { offset: self.oldest, forgotten: self.oldest > 0 }
    }

    /// The first entry that `is_wanted`; the end if there is none.
    fn first(&self, dir: &Path, is_wanted: impl Fn(&Entry) -> bool) -> io::Result<Start> {
        let mut earlier = false;
        for segment in &self.segments {
            let index = index(dir, segment)?;
            if let Some(entry) = index.entries().iter().find(|entry| is_wanted(entry)) {
                let before = earlier || index.entries().first() != Some(entry);
                // What was wanted may have begun before the first entry that is left.
                return Ok(if before { Start { offset: entry.offset, forgotten: false } } else { self.forgotten() });
            }
            earlier |= !index.entries().is_empty();
        }
        Ok(Start { offset: self.end, forgotten: false })
    }

    /// The entry of the byte at `offset`.
    fn entry_at(&self, dir: &Path, offset: u64) -> io::Result<Option<Entry>> {
        match self.segments.iter().rfind(|segment| segment.base <= offset) {
            Some(segment) => Ok(index(dir, segment)?.at(offset).0),
            None => Ok(None),
        }
    }

    /// Where the last `lines` lines begin.
    fn start_of_lines(&self, dir: &Path, lines: u64) -> io::Result<Start> {
        let mut left = lines;
        if left == 0 {
            return Ok(Start { offset: self.end, forgotten: false });
        }
        for segment in self.segments.iter().rev() {
            let Some(mut open) = Open::new(dir, segment)? else { break };
            let mut end = open.end().min(self.end);
            while end > segment.base {
                let from = end.saturating_sub(CHUNK).max(segment.base);
                let data = open.read(from, (end - from) as usize)?;
                for (at, _) in data.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
                    let next = from + at as u64 + 1;
                    // The newline at the very end closes the last line and begins none.
                    left -= u64::from(next != self.end);
                    if left == 0 {
                        return Ok(Start { offset: next, forgotten: false });
                    }
                }
                end = from;
            }
        }
        Ok(self.forgotten())
    }
}

/// The index of a segment; empty if it is not there.
fn index(dir: &Path, segment: &Segment) -> io::Result<Index> {
    let mut index = Index::default();
    match files::contents(&segment.index(dir)) {
        Ok(bytes) => index.extend(segment.base, &bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(index)
}
