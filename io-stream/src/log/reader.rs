//! The reading side of a log: chunks, gaps and the end, across rotation and removal.
//!
//! Works on the files alone, so in any process. It reads on the thread that polls it.

use std::collections::VecDeque;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tokio::sync::watch;

use super::error::{LogError, LogErrorKind};
use super::event::{LogChunk, LogEvent};
use super::files;
use super::news::News;
use super::options::ReadOptions;
use super::position::{self, Start};
use super::state::{self, State};
use super::track::{Place, Track};
use crate::chunk::{PerSource, Source, Sources, Totals};
use crate::cursor::Cursor;
use crate::event::{End, Gap, GapCause};
use crate::from::From;
use crate::subscriber::Opening;

const READ: &str = "read the log in";

/// Reads a log, from anywhere in it, and follows it if asked to.
///
/// Received bytes and gaps together are the stream, exactly, from the place on where it began.
///
/// It holds a descriptor of the state file and, of each stream, one of a segment and one of its index; and
/// while it follows a log that another process writes one of inotify(7): six at most.
#[derive(Debug)]
pub struct LogReader {
    dir: PathBuf,
    state: File,
    /// Device and number of the state file.
    identity: (u64, u64),
    options: ReadOptions,
    tracks: Vec<Track>,
    /// Gaps that come first.
    gaps: VecDeque<Gap>,
    opening: Opening,
    place: Cursor,
    missed: PerSource<u64>,
    over_limit: PerSource<u64>,
    /// Where the last end was, for a reader that goes on behind ends.
    ended_at: Option<Cursor>,
    over: bool,
    news: News,
}

impl LogReader {
    /// Opens the log in `dir` at `from`.
    ///
    /// Where the wanted position is no longer kept, the first event is a [`Gap`] up to the oldest byte.
    ///
    /// # Errors
    ///
    /// [`LogErrorKind::Missing`], [`LogErrorKind::NotALog`], or [`LogErrorKind::Io`] with what the system
    /// said.
    pub fn open(dir: impl AsRef<Path>, from: From, options: ReadOptions) -> Result<Self, LogError> {
        Self::open_before(dir.as_ref(), from, options, None)
    }

    /// As [`LogReader::open`] of a log that ends at `until`, if there is one.
    pub(crate) fn open_before(
        dir: &Path,
        from: From,
        options: ReadOptions,
        until: Option<Cursor>,
    ) -> Result<Self, LogError> {
        let opened = Opened::new(dir)?;
        let mut kept = opened.kept(dir)?;
        if let Some(until) = until {
            kept = position::before(kept, &until);
        }
        let starts = position::resolve(dir, &kept, from).map_err(LogError::io(READ, dir))?;
        let oldest = position::extent(&opened.state, &kept).oldest;
        Ok(Self::new(dir, opened, starts, oldest, options))
    }

    /// Opens the log in `dir` for a reader that has everything before `cursor`.
    ///
    /// # Errors
    ///
    /// [`LogErrorKind::Gone`] when the cursor belongs to another stream or its bytes were removed, see
    /// [`LogError::gone`]; otherwise as [`LogReader::open`].
    pub fn resume(dir: impl AsRef<Path>, cursor: Cursor, options: ReadOptions) -> Result<Self, LogError> {
        let dir = dir.as_ref();
        let opened = Opened::new(dir)?;
        let extent = position::extent(&opened.state, &opened.kept(dir)?);
        extent
            .check(&cursor, |source| options.sources.contains(source))
            .map_err(|gone| LogError::from_gone(READ, dir, gone))?;
        Ok(Self::at(dir, opened, &cursor, extent.oldest, options))
    }

    /// As [`LogReader::resume`], for a place that this log has been at: what is gone is a gap.
    pub(crate) fn from_place(dir: &Path, place: Cursor, options: ReadOptions) -> Result<Self, LogError> {
        let opened = Opened::new(dir)?;
        let extent = position::extent(&opened.state, &opened.kept(dir)?);
        Ok(Self::at(dir, opened, &place, extent.oldest, options))
    }

    fn at(dir: &Path, opened: Opened, place: &Cursor, oldest: Cursor, options: ReadOptions) -> Self {
        let starts = Source::ALL.map(|source| Start { offset: place.offset(source), forgotten: false });
        Self::new(dir, opened, starts, oldest, options)
    }

    fn new(dir: &Path, opened: Opened, starts: [Start; 2], oldest: Cursor, options: ReadOptions) -> Self {
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
            state: opened.file,
            identity: opened.identity,
            options,
            tracks: tracks.collect(),
            gaps,
            opening: Opening { oldest, start: place },
            place,
            missed: PerSource::default(),
            over_limit: PerSource::default(),
            ended_at: None,
            over: false,
            news: News::Unasked,
        }
    }

    /// The same reader, told of news instead of looking for them.
    pub(crate) fn woken_by(mut self, news: watch::Receiver<()>) -> Self {
        self.news = News::Writer(news);
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

    /// The next event. `None` after [`LogEvent::End`] (unless it reads [through ends](ReadOptions::through_ends)), and, for a reader that does not follow, where
    /// there is nothing more for now.
    ///
    /// A log that this process writes wakes it; of one that another writes the kernel tells (inotify(7)).
    /// Where that cannot be had (no watch is left, a file system of a network) it looks every 50 ms, and
    /// says so once in the log of this program.
    ///
    /// # Errors
    ///
    /// [`LogErrorKind::Io`] or [`LogErrorKind::NotALog`]; asking again tries again.
    /// [`LogErrorKind::Missing`] when the log was removed or moved, whatever stands in its place now.
    ///
    /// # Panics
    ///
    /// When it follows a log that another process writes, outside a tokio runtime with I/O and a timer.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again: no event is lost.
    pub async fn next(&mut self) -> Result<Option<LogEvent>, LogError> {
        loop {
            // Before the look: what comes after it wakes the wait.
            self.news.mark_seen();
            if let Some(event) = self.try_next()? {
                return Ok(Some(event));
            }
            if self.over || !self.options.follow {
                return Ok(None);
            }
            self.news.wait(&self.dir).await;
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
        let event = self.find();
        // After the look: another log may stand in the place of one that was removed or moved, and its bytes
        // are none of this stream.
        if !self.is_there().map_err(LogError::io(READ, &self.dir))? {
            return Err(LogError::new(READ, &self.dir, LogErrorKind::Missing));
        }
        let event = event.map_err(LogError::io(READ, &self.dir))?;
        match &event {
            Some(LogEvent::Chunk(chunk)) => self.place = chunk.cursor_after(chunk.data.len()),
            Some(LogEvent::Gap(gap)) => {
                self.place = self.place.with(gap.source, gap.to);
                match gap.cause {
                    GapCause::OutputLimit => self.over_limit[gap.source] += gap.bytes(),
                    _ => self.missed[gap.source] += gap.bytes(),
                }
            }
            Some(LogEvent::End(_)) if self.options.through_ends => self.ended_at = Some(self.place),
            Some(LogEvent::End(_)) => self.over = true,
            None => {}
        }
        Ok(event)
    }

    /// Whether the directory is still the log's that was opened. The open file keeps its number from being
    /// used again.
    fn is_there(&self) -> io::Result<bool> {
        match std::fs::symlink_metadata(self.dir.join(state::NAME)) {
            Ok(found) => Ok(identity(&found) == self.identity),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
            Err(error) => Err(error),
        }
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
                None if self.ended_at == Some(self.place) => return Ok(None),
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
        let mut last = None;
        for track in &mut self.tracks {
            let slot = state.slots[track.source];
            last = Some((slot.end?, slot.fate));
            if track.offset < slot.taken {
                let (source, from, to) = (track.source, track.offset, slot.taken);
                track.offset = to;
                return Some(LogEvent::Gap(Gap { source, from, to, cause: slot.loss.cause() }));
            }
        }
        let totals = PerSource::from_fn(|source| Totals {
            bytes: state.slots[source].taken,
            dropped: self.missed[source],
            over_limit: self.over_limit[source],
            ..Totals::default()
        });
        let (reason, fate) = last?;
        Some(LogEvent::End(End::new(totals, reason, fate)))
    }
}

fn identity(state: &Metadata) -> (u64, u64) {
    (state.dev(), state.ino())
}

/// The state file of the log in a directory, and which file that is.
struct Opened {
    file: File,
    identity: (u64, u64),
    state: State,
}

impl Opened {
    fn new(dir: &Path) -> Result<Self, LogError> {
        let file = files::read(&dir.join(state::NAME)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => LogError::new(READ, dir, LogErrorKind::Missing),
            _ => LogError::io(READ, dir)(error),
        })?;
        let state = State::read(&file).map_err(LogError::io(READ, dir))?;
        let identity = identity(&file.metadata().map_err(LogError::io(READ, dir))?);
        Ok(Self { file, identity, state })
    }

    fn kept(&self, dir: &Path) -> Result<PerSource<position::Kept>, LogError> {
        position::kept(dir, &self.state).map_err(LogError::io(READ, dir))
    }
}
