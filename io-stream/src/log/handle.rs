//! The writing side of a log as its users hold it: made, opened again, stepped by the pump, asked.
//!
//! It owns the lock on the log's state and both writers; its own lock is never held across an await.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustix::io::Errno;
use tokio::sync::watch;

use super::change::{Change, Watch};
#[cfg(feature = "zstd")]
use super::compressor::Compressor;
use super::error::{LogError, LogErrorKind};
use super::held::{self, Holder, Meanwhile};
use super::options::{LogOptions, ReadOptions};
use super::reader::LogReader;
use super::state::{Slot, State};
use super::sync::Syncer;
use super::writer::{Around, Taken, Writer};
use super::{retain, segment, state};
use crate::chunk::{Generation, PerSource, Source, Stamp};
use crate::cursor::{Cursor, StreamId};
use crate::from::From;
use crate::options::EndInfo;
use crate::pipe::Feed;
use crate::sync::{Mutex, lock};

/// The writing side of a log. A handle: clones share it.
///
/// Fed by [`log_pump_pair`](crate::log::log_pump_pair); readers can be made while it is. When the last handle goes, the lock on the
/// log goes with it.
#[derive(Debug, Clone)]
pub struct Log {
    pub(super) core: Arc<Core>,
}

#[derive(Debug)]
pub(super) struct Core {
    pub(super) dir: PathBuf,
    options: LogOptions,
    stream: StreamId,
    generation: Generation,
    pub(super) inner: Mutex<Inner>,
    /// Told whenever readers may find something new.
    pub(super) news: watch::Sender<()>,
    /// Who is told of each change of the files.
    pub(super) watch: Watch,
    /// Who holds the open files as well.
    pub(super) holder: OnceLock<Arc<dyn Holder>>,
    /// The directories that were made for it, the deepest first, if it was made by this handle.
    made: Option<Vec<PathBuf>>,
}

#[derive(Debug)]
pub(super) struct Inner {
    state: File,
    slots: PerSource<Slot>,
    pub(super) writers: PerSource<Writer>,
    seq: u64,
    last: Option<Source>,
    /// Bytes that may still be logged, both sources together.
    left: u64,
    syncer: Syncer,
    removed: u64,
    #[cfg(feature = "zstd")]
    compressor: Compressor,
}

/// What can be measured of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub struct LogMetrics {
    /// Bytes that were taken from the pipes, both sources together, since the log was made.
    pub taken: u64,
    /// Bytes that this writer read away because the log took none.
    pub discarded: u64,
    /// Segments that this writer removed.
    pub removed_segments: u64,
    /// Times that bytes were forced to the disk.
    pub syncs: u64,
    /// Times that this failed.
    pub failed_syncs: u64,
    /// Segments that were compressed because of [`LogOptions::compress`].
    pub compressed_segments: u64,
    /// Times that this failed: the segment stays as it is, and is tried again with the next one.
    pub failed_compressions: u64,
}

/// What came of the compression of closed segments.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Compressions {
    pub(super) done: u64,
    pub(super) failed: u64,
    /// Segments that were removed afterwards, because they were too many bytes.
    pub(super) removed: u64,
}

const CREATE: &str = "create a log in";
const OPEN: &str = "open the log in";

impl Log {
    /// Makes a new log in `dir`, and the directory where it is missing.
    ///
    /// # Errors
    ///
    /// [`LogErrorKind::Exists`] where there is a log already, [`LogErrorKind::Option`], or
    /// [`LogErrorKind::Io`] with what the system said.
    pub fn create(dir: impl AsRef<Path>, options: LogOptions) -> Result<Self, LogError> {
        let dir = dir.as_ref();
        check_options(CREATE, dir, &options)?;
        let made = make_dirs(dir).map_err(LogError::io(CREATE, dir))?;
        let state = State {
            stream: options.stream.unwrap_or_else(StreamId::random),
            generation: options.generation,
            slots: PerSource::default(),
        };
        let file = state.create(dir).map_err(|error| {
            remove_dirs(&made);
            match error.kind() {
                io::ErrorKind::AlreadyExists => LogError::new(CREATE, dir, LogErrorKind::Exists),
                _ => LogError::io(CREATE, dir)(error),
            }
        })?;
        Self::start(dir, options, (file, state), Some(made), CREATE)
    }

    /// Goes on with the log in `dir`, or makes one where there is none.
    ///
    /// # Errors
    ///
    /// As [`Log::create`] and [`Log::open`], but for [`LogErrorKind::Exists`] and [`LogErrorKind::Missing`].
    pub fn open_or_create(dir: impl AsRef<Path>, options: LogOptions) -> Result<Self, LogError> {
        let dir = dir.as_ref();
        let mut opened = Self::create(dir, options);
        // One that is there may be removed before it is opened, and so on.
        for _ in 0..8 {
            opened = match opened {
                Err(error) if error.kind() == LogErrorKind::Exists => Self::open(dir, options),
                Err(error) if error.kind() == LogErrorKind::Missing => Self::create(dir, options),
                done => return done,
            };
        }
        opened
    }

    /// Goes on with the log in `dir`, however its last writer ended. Identity and generation are those
    /// it has.
    ///
    /// # Errors
    ///
    /// [`LogErrorKind::Missing`], [`LogErrorKind::NotALog`], [`LogErrorKind::InUse`] while another writer
    /// has it, [`LogErrorKind::Option`], or [`LogErrorKind::Io`] with what the system said.
    pub fn open(dir: impl AsRef<Path>, options: LogOptions) -> Result<Self, LogError> {
        let dir = dir.as_ref();
        check_options(OPEN, dir, &options)?;
        let file = state::open(dir).map_err(unusable(OPEN, dir))?;
        // Read with the lock: the last writer has written its last.
        let state = State::read(&file).map_err(LogError::io(OPEN, dir))?;
        Self::start(dir, options, (file, state), None, OPEN)
    }

    fn start(
        dir: &Path,
        options: LogOptions,
        (file, state): (File, State),
        made: Option<Vec<PathBuf>>,
        operation: &'static str,
    ) -> Result<Self, LogError> {
        let mut inner = Inner {
            state: file,
            slots: state.slots,
            writers: PerSource::from_fn(Writer::new),
            seq: 0,
            last: None,
            left: u64::MAX,
            syncer: Syncer::default(),
            removed: 0,
            #[cfg(feature = "zstd")]
            compressor: Compressor::default(),
        };
        for source in Source::ALL {
            // What was an end is none any more: more bytes may come.
            if inner.slots[source].end.take().is_some() {
                inner.slots[source].write(&inner.state, source).map_err(LogError::io(operation, dir))?;
            }
        }
        inner.take_up(dir, &state).map_err(LogError::io(operation, dir))?;
        let watch = Watch::default();
        // What a writer before has left.
        #[cfg(feature = "zstd")]
        inner.compressor.look(dir, &options, &watch);
        let core = Core {
            dir: dir.to_owned(),
            options,
            stream: state.stream,
            generation: state.generation,
            inner: Mutex::new(inner),
            news: watch::Sender::new(()),
            watch,
            holder: OnceLock::new(),
            made,
        };
        Ok(Self { core: Arc::new(core) })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.core.dir
    }

    /// How it is written.
    pub fn options(&self) -> LogOptions {
        self.core.options
    }

    /// The identity that cursors of this log carry.
    pub fn stream(&self) -> StreamId {
        self.core.stream
    }

    /// The incarnation whose bytes these are.
    pub fn generation(&self) -> Generation {
        self.core.generation
    }

    /// The place after the last byte that was taken so far.
    pub fn cursor(&self) -> Cursor {
        let inner = lock(&self.core.inner);
        let next = |source: Source| inner.writers[source].next();
        Cursor::new(self.core.stream, self.core.generation, Source::Stdout, next(Source::Stdout), next(Source::Stderr))
    }

    /// Bytes of `source` that this writer read away because the log took none.
    pub(super) fn discarded(&self, source: Source) -> u64 {
        lock(&self.core.inner).writers[source].discarded
    }

    /// Bytes of `source` that this writer read away because they are behind the limit.
    pub(super) fn over_limit(&self, source: Source) -> u64 {
        lock(&self.core.inner).writers[source].over_limit
    }

    /// So many bytes of both sources together are logged from `began` on, and what comes behind them is read away. Once
    /// something has come behind a limit, that stays.
    pub(super) fn limit(&self, began: &Cursor, bytes: u64) {
        let mut inner = lock(&self.core.inner);
        if Source::ALL.into_iter().all(|source| inner.writers[source].over_limit == 0) {
            let had = |source| inner.writers[source].next() - began.offset(source);
            inner.left = bytes.saturating_sub(Source::ALL.into_iter().map(had).sum());
        }
    }

    /// Has this told of each change of the files from now on; once. It may be called under the log's lock, and must not use the log. For
    /// tests that stop the process just there: nothing goes on before it comes back.
    pub fn watched_by(&self, told: impl Fn(Change) + Send + Sync + 'static) {
        self.core.watch.by(Box::new(told));
    }

    /// Told whenever readers may find something new.
    pub(super) fn news(&self) -> watch::Receiver<()> {
        self.core.news.subscribe()
    }

    /// Removes the log, with the directories that were made for it, if this handle has made it and nothing
    /// was written. Files of others keep their directory.
    pub(super) fn remove_unused(self) {
        let Some(made) = &self.core.made else { return };
        if self.metrics().taken > 0 {
            return;
        }
        for writer in
            Source::ALL.map(|source| lock(&self.core.inner).writers[source].take_unused()).into_iter().flatten()
        {
            let _ = segment::remove(&self.core.dir, &writer);
        }
        if let Err(error) = std::fs::remove_file(self.core.dir.join(state::NAME)) {
            tracing::warn!(%error, dir = %self.core.dir.display(), "an unused log stays");
        }
        remove_dirs(made);
    }

    /// A reader that starts at `from`, and that is woken by this writer.
    ///
    /// # Errors
    ///
    /// As [`LogReader::open`].
    pub fn reader(&self, from: From, options: ReadOptions) -> Result<LogReader, LogError> {
        // Subscribed before it looks: what is written in between wakes it.
        let news = self.core.news.subscribe();
        Ok(LogReader::open(&self.core.dir, from, options)?.woken_by(news))
    }

    /// A reader that has everything before `cursor`, and that is woken by this writer.
    ///
    /// # Errors
    ///
    /// As [`LogReader::resume`].
    pub fn resume(&self, cursor: Cursor, options: ReadOptions) -> Result<LogReader, LogError> {
        let news = self.core.news.subscribe();
        Ok(LogReader::resume(&self.core.dir, cursor, options)?.woken_by(news))
    }

    /// The descriptor of the segment of `source` that is being written, for a process that is to go on
    /// with it when this one has ended: they share its position. `None` while none is open.
    pub fn segment(&self, source: Source) -> Option<OwnedFd> {
        let inner = lock(&self.core.inner);
        inner.writers[source].file().and_then(|(file, _)| file.try_clone().ok()).map(OwnedFd::from)
    }

    /// What can be measured now.
    pub fn metrics(&self) -> LogMetrics {
        let inner = lock(&self.core.inner);
        let (syncs, failed_syncs) = inner.syncer.counts();
        #[cfg(feature = "zstd")]
        let compressions = inner.compressor.counts();
        #[cfg(not(feature = "zstd"))]
        let compressions = Compressions::default();
        let sum = |of: &dyn Fn(&Writer) -> u64| Source::ALL.into_iter().map(|s| of(&inner.writers[s])).sum();
        LogMetrics {
            taken: sum(&Writer::next),
            discarded: sum(&|writer| writer.discarded),
            removed_segments: inner.removed + compressions.removed,
            syncs,
            failed_syncs,
            compressed_segments: compressions.done,
            failed_compressions: compressions.failed,
        }
    }

    /// The next step of `source` cannot write, because a test wants it so.
    pub(super) fn fail(&self, source: Source, errno: Errno) {
        lock(&self.core.inner).writers[source].fail(errno);
    }

    /// Takes what `feed` holds of `source`, once.
    pub(super) fn step(&self, source: Source, feed: Feed<'_>) -> Taken {
        let taken = lock(&self.core.inner).step(source, feed, &self.core);
        if matches!(taken, Taken::Logged(_) | Taken::Discarded(_)) {
            self.core.news.send_replace(());
        }
        taken
    }

    /// Writes down how both sources ended.
    pub(super) fn finish(&self, info: EndInfo) {
        let mut inner = lock(&self.core.inner);
        let mut files = Vec::new();
        for source in Source::ALL {
            let slot = Slot { end: Some(info.reason()), fate: info.fate, ..inner.slot(source) };
            inner.slots[source] = slot;
            if let Err(error) = slot.write(&inner.state, source) {
                tracing::warn!(%source, %error, "the end of a log could not be written down");
            }
            files.extend(inner.writers[source].file().and_then(|(file, _)| file.try_clone().ok()));
        }
        // Opened anew: a copy of ours would share its lock, and hold it until it is synced.
        files.extend(state::reopen(&self.core.dir));
        inner.syncer.closed(self.core.options.sync, files);
        drop(inner);
        self.core.news.send_replace(());
    }
}

/// How often the directory is looked at anew when a log is opened.
const LOOKS: usize = 100;

impl Inner {
    /// Go on where what is in the directory ends. Whoever compresses and removes for the log that was open before this one may
    /// still be at it: then what was seen is not there, or has another form by now, and is looked for again.
    fn take_up(&mut self, dir: &Path, state: &State) -> io::Result<()> {
        for _ in 1..LOOKS {
            match self.look(dir, state) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                looked => return looked,
            }
        }
        self.look(dir, state)
    }

    fn look(&mut self, dir: &Path, state: &State) -> io::Result<()> {
        let _place = segment::alone(dir)?;
        let found = held::recover(dir)?;
        for source in Source::ALL {
            self.writers[source] = Writer::new(source);
            let slot = state.slots[source];
            let seq = self.writers[source].recover(dir, &found.segments[source], slot.taken, slot.loss)?;
            self.seq = self.seq.max(seq.map_or(0, |seq| seq + 1));
        }
        Ok(())
    }

    fn step(&mut self, source: Source, feed: Feed<'_>, core: &Core) -> Taken {
        let mut closed = Vec::new();
        let before = self.writers[source].file().is_some();
        let mut around = Around {
            dir: &core.dir,
            options: &core.options,
            seq: &mut self.seq,
            last: &mut self.last,
            left: &mut self.left,
            watch: &core.watch,
            closed: &mut closed,
        };
        let taken = self.writers[source].step(feed, &mut around);
        if let Taken::Discarded(_) = taken {
            self.note_discarded(source);
        }
        if !closed.is_empty() || (!before && self.writers[source].file().is_some()) {
            self.retain(core);
        }
        self.syncer.closed(core.options.sync, closed);
        if matches!(taken, Taken::Logged(_)) && self.syncer.is_due(core.options.sync, Stamp::now().mono) {
            let files = Source::ALL.into_iter().filter_map(|source| self.writers[source].file()?.0.try_clone().ok());
            self.syncer.current(files.collect());
        }
        taken
    }

    /// Removes what is not kept. Where closed segments are compressed their bytes count when they are: then their compressor
    /// does so.
    fn retain(&mut self, core: &Core) {
        #[cfg(feature = "zstd")]
        let later = self.compressor.look(&core.dir, &core.options, &core.watch);
        #[cfg(not(feature = "zstd"))]
        let later = false;
        let options = if later { LogOptions { keep_bytes: None, ..core.options } } else { core.options };
        match retain::apply(&core.dir, &options, None, &core.watch) {
            Ok(removed) => self.removed += removed,
            Err(error) => tracing::warn!(%error, dir = %core.dir.display(), "old segments stay"),
        }
    }

    /// See [`Log::meanwhile`].
    pub(super) fn meanwhile(&mut self, source: Source, done: &Meanwhile, core: &Core) {
        let mut closed = Vec::new();
        let mut around = Around {
            dir: &core.dir,
            options: &core.options,
            seq: &mut self.seq,
            last: &mut self.last,
            left: &mut self.left,
            watch: &core.watch,
            closed: &mut closed,
        };
        self.writers[source].meanwhile(done, &mut around);
        if done.lost > 0 {
            self.note_discarded(source);
        }
        self.syncer.closed(core.options.sync, closed);
    }

    /// What is known of `source` now.
    fn slot(&self, source: Source) -> Slot {
        let writer = &self.writers[source];
        Slot { taken: writer.next(), loss: writer.loss().unwrap_or_default(), ..self.slots[source] }
    }

    /// In place, so that it works on a full disk: after a crash the gap is known, up to one step.
    fn note_discarded(&mut self, source: Source) {
        self.slots[source] = self.slot(source);
        if let Err(error) = self.slots[source].write(&self.state, source) {
            tracing::debug!(%source, %error, "a gap could not be written down");
        }
    }
}

fn check_options(operation: &'static str, dir: &Path, options: &LogOptions) -> Result<(), LogError> {
    if options.segment_bytes == 0 || options.keep_segments == 0 {
        return Err(LogError::new(operation, dir, LogErrorKind::Option));
    }
    match options.compress {
        None => Ok(()),
        #[cfg(feature = "zstd")]
        Some(level) if zstd::compression_level_range().contains(&level) => Ok(()),
        #[cfg(feature = "zstd")]
        Some(_) => Err(LogError::new(operation, dir, LogErrorKind::Option)),
        #[cfg(not(feature = "zstd"))]
        Some(_) => Err(LogError::new(operation, dir, LogErrorKind::Unsupported)),
    }
}

/// Makes a directory with those above it. Gives those that were made, the deepest first.
fn make_dirs(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let missing = dir.ancestors().take_while(|each| !each.as_os_str().is_empty() && !each.exists());
    let missing: Vec<_> = missing.map(Path::to_owned).collect();
    std::fs::create_dir_all(dir).inspect_err(|_| remove_dirs(&missing))?;
    Ok(missing)
}

/// Those in which somebody has put something stay.
fn remove_dirs(dirs: &[PathBuf]) {
    for dir in dirs {
        let _ = std::fs::remove_dir(dir);
    }
}

/// A log that is not there, or that another writer has, is called so.
fn unusable(operation: &'static str, dir: &Path) -> impl FnOnce(io::Error) -> LogError {
    move |error| match error.kind() {
        io::ErrorKind::WouldBlock => LogError::new(operation, dir, LogErrorKind::InUse),
        io::ErrorKind::NotFound => LogError::new(operation, dir, LogErrorKind::Missing),
        _ => LogError::io(operation, dir)(error),
    }
}
