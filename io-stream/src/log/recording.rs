//! What one process writes into a log: from the place where the log stands to the process's end.
//!
//! Made by whoever starts the process, pumped once, and followed by any number of subscribers as a hub is;
//! they read the files. It lets go of the log at its end, so that the next process may go on with it.

use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;

use super::error::LogError;
use super::follow::{Follow, Followers};
use super::handle::Log;
use super::options::ReadOptions;
use super::pump::drain_pair;
use super::reader::LogReader;
use crate::chunk::{PerSource, Source, Totals};
use crate::cursor::{Cursor, Extent, Gone};
use crate::event::{End, EndReason};
use crate::fate::Fate;
use crate::from::From;
use crate::metrics::Metrics;
use crate::options::{EndInfo, SubscribeOptions};
use crate::pipe::PipeReader;
use crate::pump::Stopped;
use crate::subscriber::Subscriber;
use crate::sync::{Mutex, lock};

/// The part of a log that one process writes. A handle: clones share it.
///
/// Its [`Subscriber`]s read the log's files, each at its own pace: nobody's slowness costs anybody a byte
/// or any memory, so that overflow policy and queue size mean nothing here. What a reader does not get is
/// what the log has not ([`GapCause::LogFull`](crate::GapCause::LogFull)), and what was removed before it
/// came there ([`GapCause::Removed`](crate::GapCause::Removed)). A rate limit applies to history as well.
///
/// [`From::Start`] is where the process began, and no other [`From`] but an offset goes back behind that. A
/// cursor of an earlier process in the same log is as good as one of this.
///
/// Dropped before it was pumped, a log that was made for it is removed again, unless somebody else holds it too
/// ([`Log::share`](super::Log::share)): there the process may run.
///
/// ```
/// use std::io::Write;
/// use orangery_io_stream::log::{Log, LogOptions, Recording};
/// use orangery_io_stream::{Fate, PipeReader, SubscribeOptions};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// let recording = Recording::new(Log::open_or_create(dir.path().join("log"), LogOptions::default())?);
/// let reader = recording.subscribe(SubscribeOptions::default());
/// let (ours, mut theirs) = std::io::pipe()?;
/// theirs.write_all(b"kept")?;
/// drop(theirs);
/// let exit = async { Fate::Code(0) }; // whoever knows how the process ends
/// recording.pump(Some(PipeReader::from_fd(ours.into())?), None, exit, None).await;
/// assert_eq!(reader.collect(1024).await.to_vec(), b"kept");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Recording {
    pub(super) core: Arc<Core>,
}

#[derive(Debug)]
pub(super) struct Core {
    dir: PathBuf,
    pub(super) began: Cursor,
    /// Until the end. Without it the lock on the log is gone.
    pub(super) log: Mutex<Option<Log>>,
    pumped: AtomicBool,
    /// Said when its pump is to let go of what it reads.
    closing: Stopped,
    /// Where it ends, and as what to readers of bytes: from the last byte on.
    drained: OnceLock<Ended>,
    /// How it has ended; known before the lock goes, so that bytes of the next process are told apart.
    ended: OnceLock<Ended>,
    phase: watch::Sender<Phase>,
    pub(super) followers: Mutex<Followers>,
    /// Bytes that readers took.
    pub(super) delivered: AtomicU64,
}

/// How far a recording is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Open,
    /// No more bytes come.
    Drained,
    /// It has ended, and the next process may have the log.
    Over,
}

/// How a recording ended, and where.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    pub(super) end: End,
    pub(super) until: Cursor,
}

impl Recording {
    /// A recording that begins where `log` stands. Nobody else may pump into it meanwhile.
    pub fn new(log: Log) -> Self {
        let began = log.cursor();
        Self::from(log, began)
    }

    pub(super) fn over(dir: PathBuf, began: Cursor, until: Cursor, end: End) -> Self {
        let core = Core::new(dir, None, began);
        core.pumped.store(true, Ordering::Release);
        let ended = Ended { end, until };
        let _ = (core.drained.set(ended), core.ended.set(ended));
        core.phase.send_replace(Phase::Over);
        Self { core: Arc::new(core) }
    }

    pub(super) fn from(log: Log, began: Cursor) -> Self {
        Self { core: Arc::new(Core::new(log.dir().to_owned(), Some(log), began)) }
    }
}

impl Core {
    fn new(dir: PathBuf, log: Option<Log>, began: Cursor) -> Self {
        Self {
            dir,
            began,
            log: Mutex::new(log),
            pumped: AtomicBool::new(false),
            closing: Stopped::default(),
            drained: OnceLock::new(),
            ended: OnceLock::new(),
            phase: watch::Sender::new(Phase::Open),
            followers: Mutex::new(Followers::default()),
            delivered: AtomicU64::new(0),
        }
    }
}

impl Recording {
    /// The same for a process that may write no more than so many bytes, both streams together: the log gets exactly those.
    /// What comes behind is read away and counted ([`Totals::over_limit`]), and is a
    /// [`Gap`](crate::Gap) of [`GapCause::OutputLimit`](crate::GapCause::OutputLimit) to everybody who reads the log, with
    /// the end or before the first bytes of the next process. Before it is pumped.
    #[must_use]
    pub fn limited(self, bytes: u64) -> Self {
        self.set_limit(bytes);
        self
    }

    /// Another limit, or one where there was none, of all that the process writes from its beginning on. Lower than what it
    /// has written it lets nothing more through. A limit that was passed stays: what came behind it is not in the log. After
    /// the end nothing happens.
    pub fn set_limit(&self, bytes: u64) {
        if let Some(log) = &*lock(&self.core.log) {
            log.limit(&self.core.began, bytes);
        }
    }

    /// Empties both pipes into the log, as [`log_pump_pair`](super::log_pump_pair) does, waits for `exit` to say how the process
    /// has ended, writes that down, and lets go of the log. Who reads plain bytes waits for the pipes alone, as with
    /// [`pump_process`](crate::pump_process). Once: a second call returns at once.
    ///
    /// # Panics
    ///
    /// As [`log_pump_pair`](super::log_pump_pair).
    ///
    /// # Cancel safety
    ///
    /// Dropped at any time it leaves the log as a crash would, and its readers are told
    /// [`EndReason::Abandoned`].
    pub fn pump(
        &self,
        stdout: Option<PipeReader>,
        stderr: Option<PipeReader>,
        exit: impl Future<Output = Fate>,
        grace: Option<Duration>,
    ) -> impl Future<Output = EndReason> {
        let log = match self.core.pumped.swap(true, Ordering::AcqRel) {
            true => None,
            false => lock(&self.core.log).clone(),
        };
        // Made before the first poll: a future that never ran abandons its readers too.
        let guard = log.is_some().then(|| AbandonOnDrop(Arc::clone(&self.core)));
        let core = Arc::clone(&self.core);
        async move {
            if let Some(log) = log {
                let mut exit = std::pin::pin!(exit);
                let (info, known) = drain_pair(stdout, stderr, &log, exit.as_mut(), grace, &core.closing).await;
                core.drained(info);
                let fate = match known {
                    Some(fate) => fate,
                    None => exit.await,
                };
                let info = EndInfo { fate, ..info };
                log.finish(info);
                drop(log);
                core.finish(info.reason(), fate);
            }
            drop(guard);
            core.reason()
        }
    }

    /// Has its pump take what there is and let go of what it reads; it ends as [`EndReason::Eof`], unless reading failed. For a
    /// terminal that is hung up.
    pub fn close(&self) {
        self.core.closing.tell();
    }

    /// Ends it before it was pumped, and removes the log if it was made for it. Afterwards it does nothing.
    /// Blocks as file operations do.
    pub fn take_back(&self) {
        self.core.end_unpumped(|_| true);
    }

    /// The directory of the log.
    pub fn dir(&self) -> &std::path::Path {
        &self.core.dir
    }

    /// Adds a subscriber. History and live bytes join without a gap and without a duplicate: both are read
    /// from the log.
    ///
    /// Where the log cannot be read (somebody removed it, no descriptor is left) the subscription ends at
    /// once as [`EndReason::Error`], with all that is missing as dropped. The files are read on the thread
    /// that polls the subscriber; it holds five descriptors at most.
    pub fn subscribe(&self, options: SubscribeOptions) -> Subscriber {
        let read = ReadOptions { sources: options.sources, ..ReadOptions::default() };
        self.follow(self.core.open(options.from, read), options)
    }

    /// Adds a subscriber that has everything before `cursor`; `options.from` is not looked at. No byte is
    /// missing and none comes twice.
    ///
    /// # Errors
    ///
    /// [`Gone`], with the oldest place there is, as [`Hub::resume`](crate::Hub::resume).
    pub fn resume(&self, cursor: Cursor, options: SubscribeOptions) -> Result<Subscriber, Gone> {
        let read = ReadOptions { sources: options.sources, ..ReadOptions::default() };
        let reader = LogReader::resume(&self.core.dir, cursor, read);
        if let Some(gone) = reader.as_ref().err().and_then(LogError::gone) {
            return Err(gone);
        }
        if let (Some(ended), Ok(reader)) = (self.core.ended(), &reader) {
            // The log may have been gone on with: the places of others are none of this recording.
            let extent = Extent { oldest: reader.opening().oldest, newest: ended.until };
            extent.check(&cursor, |source| options.sources.contains(source))?;
        }
        Ok(self.follow(reader, options))
    }

    fn follow(&self, reader: Result<LogReader, LogError>, options: SubscribeOptions) -> Subscriber {
        Subscriber::of_log(Follow::new(Arc::clone(&self.core), reader, options))
    }

    /// Whether it has ended: nothing comes behind what is there.
    pub fn is_closed(&self) -> bool {
        self.core.ended().is_some()
    }

    /// What was counted for `source` so far: bytes that were taken from the pipe, and, as dropped, those of
    /// them that the log did not take.
    pub fn totals(&self, source: Source) -> Totals {
        self.core.totals()[source]
    }

    /// What can be measured now. What the log did not take counts as dropped; nothing waits in memory.
    pub fn metrics(&self) -> Metrics {
        let totals = self.core.totals();
        let sum = |of: &dyn Fn(&Totals) -> u64| Source::ALL.into_iter().map(|source| of(&totals[source])).sum();
        let newest = self.core.newest();
        Metrics {
            bytes_in: sum(&|totals| totals.bytes),
            bytes_out: self.core.delivered.load(Ordering::Relaxed),
            dropped: sum(&|totals| totals.dropped),
            over_limit: sum(&|totals| totals.over_limit),
            subscribers: lock(&self.core.followers).look(&newest),
            ..Metrics::default()
        }
    }

    /// Waits until more than so many bytes were taken, both sources together; `false` if it ends before.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again.
    pub async fn exceeds(&self, bytes: u64) -> bool {
        let mut heard = self.core.heard();
        loop {
            let over = heard.mark_seen() >= Phase::Drained;
            let totals = self.core.totals();
            if totals[Source::Stdout].bytes + totals[Source::Stderr].bytes > bytes {
                return true;
            }
            if over {
                return false;
            }
            heard.changed().await;
        }
    }
}

impl Core {
    /// Where it stands now.
    pub(super) fn newest(&self) -> Cursor {
        match &*lock(&self.log) {
            Some(log) => log.cursor(),
            None => self.ended().map_or(self.began, |ended| ended.until),
        }
    }

    pub(super) fn totals(&self) -> PerSource<Totals> {
        match &*lock(&self.log) {
            Some(log) => self.totals_of(log),
            None => self.ended().map_or_else(PerSource::default, |ended| PerSource::from_fn(|s| ended.end.totals(s))),
        }
    }

    fn totals_of(&self, log: &Log) -> PerSource<Totals> {
        let newest = log.cursor();
        PerSource::from_fn(|source| Totals {
            bytes: newest.offset(source) - self.began.offset(source),
            dropped: log.discarded(source),
            over_limit: log.over_limit(source),
            ..Totals::default()
        })
    }

    fn open(&self, from: From, options: ReadOptions) -> Result<LogReader, LogError> {
        if from == From::Start {
            return LogReader::from_place(&self.dir, self.began, options);
        }
        let until = self.ended().map(|ended| ended.until);
        let reader = LogReader::open_before(&self.dir, from, options, until)?;
        let start = reader.opening().start;
        let before = |source| options.sources.contains(source) && start.offset(source) < self.began.offset(source);
        if matches!(from, From::Offset { .. }) || !Source::ALL.into_iter().any(before) {
            return Ok(reader);
        }
        let later = |place: Cursor, source| place.with(source, place.offset(source).max(self.began.offset(source)));
        LogReader::from_place(&self.dir, Source::ALL.into_iter().fold(start, later), options)
    }

    /// Whoever waits for bytes, or for the end.
    pub(super) fn heard(&self) -> Heard {
        let news = lock(&self.log).as_ref().map(Log::news);
        Heard { news, phase: self.phase.subscribe() }
    }

    /// No more bytes come.
    fn drained(&self, info: EndInfo) {
        if let Some(log) = &*lock(&self.log) {
            let end = End::new(self.totals_of(log), info.reason(), Fate::Unknown);
            let _ = self.drained.set(Ended { end, until: log.cursor() });
        }
        self.phase.send_replace(Phase::Drained);
    }

    fn finish(&self, reason: EndReason, fate: Fate) {
        let mut place = lock(&self.log);
        let Some(log) = &*place else { return };
        // Who has seen the last byte knows how the bytes ended, if not what became of the process.
        let reason = match (reason, self.until()) {
            (EndReason::Abandoned, Some(drained)) => drained.end.reason,
            _ => reason,
        };
        let ended = Ended { end: End::new(self.totals_of(log), reason, fate), until: log.cursor() };
        let _ = self.drained.set(ended);
        let _ = self.ended.set(ended);
        let log = place.take();
        drop(place);
        drop(log);
        self.phase.send_replace(Phase::Over);
    }

    /// Where it ends, from the last byte on.
    pub(super) fn until(&self) -> Option<Ended> {
        self.drained.get().copied()
    }

    /// How it has ended.
    pub(super) fn ended(&self) -> Option<Ended> {
        self.ended.get().copied()
    }

    fn reason(&self) -> EndReason {
        self.ended().map_or(EndReason::Abandoned, |ended| ended.end.reason)
    }

    /// Unless it was pumped. A log that was made for it, and that `goes`, is removed.
    fn end_unpumped(&self, goes: impl FnOnce(&Log) -> bool) {
        if self.pumped.swap(true, Ordering::AcqRel) {
            return;
        }
        let log = lock(&self.log).clone();
        self.finish(EndReason::Abandoned, Fate::Unknown);
        if let Some(log) = log.filter(goes) {
            log.remove_unused();
        }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.end_unpumped(|log| !log.is_shared());
    }
}

/// Ends the recording as abandoned unless it has ended.
struct AbandonOnDrop(Arc<Core>);

impl Drop for AbandonOnDrop {
    fn drop(&mut self) {
        self.0.finish(EndReason::Abandoned, Fate::Unknown);
    }
}

/// What a reader waits for. A clone has seen what this has.
#[derive(Debug, Clone)]
pub(super) struct Heard {
    /// `None`: it had ended before.
    news: Option<watch::Receiver<()>>,
    phase: watch::Receiver<Phase>,
}

impl Heard {
    /// What comes from now on wakes the next wait. How far it is.
    pub(super) fn mark_seen(&mut self) -> Phase {
        if let Some(news) = &mut self.news {
            news.borrow_and_update();
        }
        *self.phase.borrow_and_update()
    }

    /// Returns when something was told since it was seen.
    pub(super) async fn changed(&mut self) {
        let Self { news, phase } = self;
        let news = async {
            let told = match news {
                Some(news) => news.changed().await.is_ok(),
                None => false,
            };
            // The writer has gone: what is left to be told is the end.
            if !told {
                std::future::pending().await
            }
        };
        tokio::select! {
            () = news => {}
            _ = phase.changed() => {}
        }
    }
}
