//! The reading side of a log: chunks, gaps and the end, across rotation and removal.
//!
//! Works on the files alone, so in any process. It reads on the thread that polls it.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::sync::watch;

use super::error::{LogError, LogErrorKind};
use super::options::ReadOptions;
use super::position::{self, Start};
use super::state::{self, State};
use super::track::{Place, Track};
use crate::chunk::{PerSource, Source, Sources, Totals};
use crate::cursor::Cursor;
use crate::event::{End, Gap, GapCause};
use crate::from::From;
use crate::subscriber::Opening;
use crate::view::Piece;

const READ: &str = "read the log in";
/// How often a log is looked at whose writer is another process.
const POLL: Duration = Duration::from_millis(50);

/// Bytes of a log with their place.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogChunk {
    /// The stream that the bytes came from.
    pub source: Source,
    /// Offset of the first byte in its stream.
    pub offset: u64,
    /// The order of reading, over both sources: several chunks may share a number. `None` if the index
    /// does not know.
    pub seq: Option<u64>,
    /// Wall-clock time of the read, at most 10 ms before it; `None` if the index does not know.
    pub wall: Option<SystemTime>,
    /// `CLOCK_MONOTONIC` of the read, as `wall`. Counts from the boot of the machine that wrote it.
    pub mono: Option<Duration>,
    /// The bytes, never empty.
    pub data: Bytes,
    place: Cursor,
}

impl LogChunk {
    /// The place before its first byte.
    pub const fn cursor(&self) -> Cursor {
        self.place
    }

    /// The place after its first `bytes` bytes, or after its last one if it has fewer.
    pub fn cursor_after(&self, bytes: usize) -> Cursor {
        self.place.with(self.source, self.offset + bytes.min(self.data.len()) as u64)
    }
}

impl std::convert::From<LogChunk> for Piece {
    fn from(chunk: LogChunk) -> Self {
        Self { source: chunk.source, offset: chunk.offset, wall: chunk.wall, data: chunk.data }
    }
}

/// One event of a log that is read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogEvent {
    /// Bytes.
    Chunk(LogChunk),
    /// Bytes that are not in the log: it was full, or they were removed.
    Gap(Gap),
    /// The stream is over; the last event.
    End(End),
}

/// Reads a log, from anywhere in it, and follows it if asked to.
///
/// Received bytes and gaps together are the stream, exactly, from the place on where it began.
#[derive(Debug)]
pub struct LogReader {
    dir: PathBuf,
    state: File,
    options: ReadOptions,
    tracks: Vec<Track>,
    /// Gaps that come first.
    gaps: VecDeque<Gap>,
    opening: Opening,
    place: Cursor,
    missed: PerSource<u64>,
    over: bool,
    news: Option<watch::Receiver<()>>,
}

impl LogReader {
    /// Opens the log in `dir` at `from`. A log that another process writes is looked at every 50 ms.
    ///
    /// Where the wanted position is no longer kept, the first event is a [`Gap`] up to the oldest byte.
    ///
    /// # Errors
    ///
    /// [`LogErrorKind::Missing`], [`LogErrorKind::NotALog`], or [`LogErrorKind::Io`] with what the system
    /// said.
    pub fn open(dir: impl AsRef<Path>, from: From, options: ReadOptions) -> Result<Self, LogError> {
        let dir = dir.as_ref();
        let (file, state) = read_state(dir)?;
        let kept = position::kept(dir, &state).map_err(LogError::io(READ, dir))?;
        let starts = position::resolve(dir, &kept, from).map_err(LogError::io(READ, dir))?;
        Ok(Self::new(dir, file, starts, position::extent(&state, &kept).oldest, options))
    }

    /// Opens the log in `dir` for a reader that has everything before `cursor`.
    ///
    /// # Errors
    ///
    /// [`LogErrorKind::Gone`] when the cursor belongs to another stream or its bytes were removed, see
    /// [`LogError::gone`]; otherwise as [`LogReader::open`].
    pub fn resume(dir: impl AsRef<Path>, cursor: Cursor, options: ReadOptions) -> Result<Self, LogError> {
        let dir = dir.as_ref();
        let (file, state) = read_state(dir)?;
        let kept = position::kept(dir, &state).map_err(LogError::io(READ, dir))?;
        let extent = position::extent(&state, &kept);
        extent
            .check(&cursor, |source| options.sources.contains(source))
            .map_err(|gone| LogError::from_gone(READ, dir, gone))?;
        let starts = Source::ALL.map(|source| Start { offset: cursor.offset(source), forgotten: false });
        Ok(Self::new(dir, file, starts, extent.oldest, options))
    }

    fn new(dir: &Path, state: File, starts: [Start; 2], oldest: Cursor, options: ReadOptions) -> Self {
        let wanted = |source: &Source| options.sources.contains(*source);
        let start = |source: Source| starts[source as usize];
        let mut place = oldest;
        let mut gaps = VecDeque::new();
        for source in Source::ALL {
            let Start { offset, forgotten } = start(source);
            place = place.with(source, offset);
            if forgotten && wanted(&source) {
                let cause = GapCause::PositionForgotten;
                gaps.push_back(Gap { source, from: 0, to: offset, cause });
            }
        }
        let tracks = Source::ALL.into_iter().filter(wanted).map(|source| Track::new(source, start(source).offset));
        Self {
            dir: dir.to_owned(),
            state,
            options,
            tracks: tracks.collect(),
            gaps,
            opening: Opening { oldest, start: place },
            place,
            missed: PerSource::default(),
            over: false,
            news: None,
        }
    }

    /// The same reader, told of news instead of looking for them.
    pub(crate) fn woken_by(mut self, news: watch::Receiver<()>) -> Self {
        self.news = Some(news);
        self
    }

    /// What the reader found when it was opened.
    pub const fn opening(&self) -> Opening {
        self.opening
    }

    /// The place after the last event: [`LogReader::resume`] goes on there.
    pub const fn cursor(&self) -> Cursor {
        self.place
    }

    /// Which streams it reads.
    pub const fn sources(&self) -> Sources {
        self.options.sources
    }

    /// The next event. `None` after [`LogEvent::End`], and, for a reader that does not follow, where
    /// there is nothing more for now.
    ///
    /// # Errors
    ///
    /// [`LogErrorKind::Io`] or [`LogErrorKind::NotALog`]; asking again tries again.
    /// [`LogErrorKind::Missing`] when the log was removed, whatever stands in its place now.
    ///
    /// # Panics
    ///
    /// When it has to look for news itself, outside a tokio runtime with a timer.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again: no event is lost.
    pub async fn next(&mut self) -> Result<Option<LogEvent>, LogError> {
        loop {
            // Marked as seen before the look: what comes after it wakes the wait.
            if let Some(news) = &mut self.news {
                news.borrow_and_update();
            }
            if let Some(event) = self.try_next()? {
                return Ok(Some(event));
            }
            if self.over || !self.options.follow {
                return Ok(None);
            }
            match &mut self.news {
                Some(news) => {
                    // The writer is gone; another one may come.
                    if news.changed().await.is_err() {
                        self.news = None;
                    }
                }
                None => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// The next event, if there is one now. Never waits but for the files.
    ///
    /// # Errors
    ///
    /// As [`LogReader::next`].
    pub fn try_next(&mut self) -> Result<Option<LogEvent>, LogError> {
        if self.over {
            return Ok(None);
        }
        // Another log may stand in the place of one that was removed: its bytes are none of this stream.
        if self.state.metadata().map_err(LogError::io(READ, &self.dir))?.nlink() == 0 {
            return Err(LogError::new(READ, &self.dir, LogErrorKind::Missing));
        }
        let event = self.find().map_err(LogError::io(READ, &self.dir))?;
        match &event {
            Some(LogEvent::Chunk(chunk)) => self.place = chunk.cursor_after(chunk.data.len()),
            Some(LogEvent::Gap(gap)) => {
                self.place = self.place.with(gap.source, gap.to);
                self.missed[gap.source] += gap.bytes();
            }
            Some(LogEvent::End(_)) => self.over = true,
            None => {}
        }
        Ok(event)
    }

    fn find(&mut self) -> io::Result<Option<LogEvent>> {
        if let Some(gap) = self.gaps.pop_front() {
            return Ok(Some(LogEvent::Gap(gap)));
        }
        // Read before the look: an end that stands there comes after all bytes.
        let state = State::read(&self.state)?;
        loop {
            // Of what is there at the first look, everything that was read before it is there at the
            // second: up to its highest number the order is known.
            if let Some(gap) = self.look()? {
                return Ok(Some(LogEvent::Gap(gap)));
            }
            let known = self.tracks.iter().filter_map(|track| Some(track.numbers()?.1)).max();
            if self.tracks.len() > 1
                && let Some(gap) = self.look()?
            {
                return Ok(Some(LogEvent::Gap(gap)));
            }
            let numbered = self.tracks.iter_mut().filter_map(|track| Some((track.numbers()?.0, track)));
            match numbered.min_by_key(|(number, _)| *number) {
                None => return Ok(self.end(&state)),
                Some((number, track)) if Some(number) <= known => {
                    let offset = track.offset;
                    let source = track.source;
                    let (entry, data) = track.read()?;
                    return Ok(Some(LogEvent::Chunk(LogChunk {
                        source,
                        offset,
                        seq: entry.map(|entry| entry.seq),
                        wall: entry.map(|entry| entry.wall_time()),
                        mono: entry.map(|entry| entry.mono),
                        data,
                        place: self.place,
                    })));
                }
                Some(_) => {}
            }
        }
    }

    /// Looks at each source; the first gap that is found.
    fn look(&mut self) -> io::Result<Option<Gap>> {
        for track in &mut self.tracks {
            if let Place::Gap(gap) = track.look(&self.dir)? {
                return Ok(Some(gap));
            }
        }
        Ok(None)
    }

    /// No bytes are left: what was read away last, then the end, if the state says that it is one.
    fn end(&mut self, state: &State) -> Option<LogEvent> {
        let mut reason = None;
        for track in &mut self.tracks {
            let slot = state.slots[track.source];
            reason = Some(slot.end?);
            if track.offset < slot.taken {
                let (source, from, to) = (track.source, track.offset, slot.taken);
                track.offset = to;
                return Some(LogEvent::Gap(Gap { source, from, to, cause: GapCause::LogFull }));
            }
        }
        let totals = PerSource::from_fn(|source| Totals {
            bytes: state.slots[source].taken,
            dropped: self.missed[source],
            ..Totals::default()
        });
        Some(LogEvent::End(End::new(totals, reason?)))
    }
}

fn read_state(dir: &Path) -> Result<(File, State), LogError> {
    let file = File::open(dir.join(state::NAME)).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => LogError::new(READ, dir, LogErrorKind::Missing),
        _ => LogError::io(READ, dir)(error),
    })?;
    let state = State::read(&file).map_err(LogError::io(READ, dir))?;
    Ok((file, state))
}
