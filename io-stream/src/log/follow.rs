//! One subscriber of a recording: what its reader finds in the log, as the events of a stream.
//!
//! Polled by the subscriber. It looks first and waits for the writer's word after, so that history and live
//! bytes are one thing; it waits for nothing that needs a runtime.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use tokio::task::coop;

use super::error::LogError;
use super::event::{LogChunk, LogEvent};
use super::loss::Loss;
use super::reader::LogReader;
use super::recording::{Core, Ended, Heard, Phase};
use crate::chunk::{Chunk, PerSource, Source, Sources, Totals};
use crate::cursor::Cursor;
use crate::error::StreamErrorKind;
use crate::event::{End, EndReason, Event, Gap, GapCause};
use crate::fate::Fate;
use crate::metrics::SubscriberMetrics;
use crate::options::SubscribeOptions;
use crate::rate::Bucket;
use crate::subscriber::Opening;
use crate::sync::lock;

type Waiting = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

/// See the file's head.
pub(crate) struct Follow {
    core: Arc<Core>,
    /// `None`: the log cannot be read.
    reader: Option<LogReader>,
    sources: Sources,
    rate: Option<Bucket>,
    heard: Heard,
    waiting: Option<Waiting>,
    opening: Opening,
    place: Cursor,
    /// Order and times of the last chunk, for one whose own the index does not know.
    stamp: (u64, SystemTime, Duration),
    over: bool,
    meter: Arc<Meter>,
}

impl Follow {
    pub(super) fn new(core: Arc<Core>, reader: Result<LogReader, LogError>, options: SubscribeOptions) -> Self {
        let opening = match &reader {
            Ok(reader) => reader.opening(),
            Err(_) => Opening { oldest: core.began, start: core.began },
        };
        let reader = reader.map_err(|error| unreadable(&error)).ok();
        let meter = lock(&core.followers).add(options.sources, &opening.start);
        Self {
            heard: core.heard(),
            waiting: None,
            core,
            reader,
            sources: options.sources,
            rate: options.rate.map(Bucket::new),
            opening,
            place: opening.start,
            stamp: (0, SystemTime::UNIX_EPOCH, Duration::ZERO),
            over: false,
            meter,
        }
    }

    pub(crate) const fn opening(&self) -> Opening {
        self.opening
    }

    /// The place after the last event that was handed out.
    pub(crate) const fn place(&self) -> Cursor {
        self.place
    }

    pub(crate) fn metrics(&self) -> SubscriberMetrics {
        self.meter.look(&self.core.newest())
    }

    /// The next event. Who wants `bytes` alone is told the end as soon as the last one has come.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, bytes: bool) -> Poll<Option<Event>> {
        // A long history must not starve the task's neighbours.
        let progress = ready!(coop::poll_proceed(cx));
        loop {
            if self.over {
                return Poll::Ready(None);
            }
            if let Some(waiting) = &mut self.waiting {
                ready!(waiting.as_mut().poll(cx));
                self.waiting = None;
            }
            // Before the look: what comes after it wakes the wait.
            let phase = self.heard.mark_seen();
            let event = self.look().or_else(|| match phase {
                Phase::Open => None,
                Phase::Drained => {
                    self.core.until().and_then(|at| self.rest(&at).or_else(|| bytes.then_some(Event::End(at.end))))
                }
                Phase::Over => self.core.ended().map(|at| self.rest(&at).unwrap_or(Event::End(at.end))),
            });
            if let Some(event) = event {
                progress.made_progress();
                self.note(&event);
                return Poll::Ready(Some(event));
            }
            let mut heard = self.heard.clone();
            self.waiting = Some(Box::pin(async move { heard.changed().await }));
        }
    }

    /// What comes next of what is there.
    fn look(&mut self) -> Option<Event> {
        loop {
            let event = match self.reader.as_mut().map(LogReader::try_next) {
                Some(Ok(event)) => event?,
                Some(Err(error)) => {
                    unreadable(&error);
                    return Some(self.failed());
                }
                None => return Some(self.failed()),
            };
            // Asked after the look: bytes that somebody else wrote can only be there when this has ended.
            let until = self.core.until().map(|ended| ended.until);
            let event = match event {
                LogEvent::Chunk(chunk) => self.chunk(chunk, until),
                LogEvent::Gap(gap) => self.cut(gap, until).map(Event::Gap),
                // The recording says so itself.
                LogEvent::End(_) => None,
            };
            if event.is_some() {
                return event;
            }
        }
    }

    /// The part of a gap before `until`, and behind what was told before: at the last byte, of what is only in the log when the
    /// process has ended.
    fn cut(&self, gap: Gap, until: Option<Cursor>) -> Option<Gap> {
        let from = match gap.cause {
            GapCause::PositionForgotten => gap.from,
            _ => gap.from.max(self.place.offset(gap.source)),
        };
        let to = until.map_or(gap.to, |until| gap.to.min(until.offset(gap.source)));
        (from < to).then_some(Gap { from, to, ..gap })
    }

    fn chunk(&mut self, chunk: LogChunk, until: Option<Cursor>) -> Option<Event> {
        let LogChunk { source, offset, mut data, .. } = chunk;
        if let Some(until) = until {
            let left = until.offset(source).saturating_sub(offset);
            data.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        }
        if data.is_empty() {
            return None;
        }
        let (seq, wall, mono) = self.stamp;
        self.stamp = (chunk.seq.unwrap_or(seq), chunk.wall.unwrap_or(wall), chunk.mono.unwrap_or(mono));
        let (seq, wall, mono) = self.stamp;
        let len = data.len() as u64;
        if self.rate.as_mut().is_some_and(|rate| !rate.admits(len, mono)) {
            return Some(Event::Gap(Gap { source, from: offset, to: offset + len, cause: GapCause::Suppressed }));
        }
        let (stream, generation) = (self.place.stream(), self.place.generation());
        let other_offset = self.place.offset(source.other());
        Some(Event::Chunk(Chunk { stream, source, generation, offset, other_offset, seq, wall, mono, data }))
    }

    /// Nothing is left of what was there when it had ended: what was read away last.
    fn rest(&self, ended: &Ended) -> Option<Event> {
        let short = |source: &Source| {
            self.sources.contains(*source) && self.place.offset(*source) < ended.until.offset(*source)
        };
        let source = Source::ALL.into_iter().find(short)?;
        let (from, to) = (self.place.offset(source), ended.until.offset(source));
        let loss = if ended.end.totals(source).over_limit > 0 { Loss::OverLimit } else { Loss::Full };
        Some(Event::Gap(Gap { source, from, to, cause: loss.cause() }))
    }

    /// The log cannot be read any more: an end that says how much is missing.
    fn failed(&self) -> Event {
        let newest = self.core.newest();
        let totals = self.core.totals();
        let totals = PerSource::from_fn(|source| Totals {
            dropped: match self.sources.contains(source) {
                true => newest.offset(source).saturating_sub(self.place.offset(source)),
                false => 0,
            },
            ..totals[source]
        });
        Event::End(End::new(totals, EndReason::Error(StreamErrorKind::Read), Fate::Unknown))
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::Chunk(chunk) => {
                self.place = chunk.cursor_after(chunk.data.len());
                self.core.delivered.fetch_add(chunk.len(), Ordering::Relaxed);
                self.meter.delivered.fetch_add(chunk.len(), Ordering::Relaxed);
            }
            Event::Gap(gap) => {
                self.place = self.place.with(gap.source, gap.to);
                let counter = match gap.cause {
                    GapCause::Suppressed => &self.meter.suppressed,
                    _ => &self.meter.missed,
                };
                counter.fetch_add(gap.bytes(), Ordering::Relaxed);
            }
            _ => {
                self.over = true;
                self.reader = None;
            }
        }
        for source in Source::ALL {
            self.meter.place[source].store(self.place.offset(source), Ordering::Relaxed);
        }
    }
}

impl std::fmt::Debug for Follow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follow").field("place", &self.place).field("over", &self.over).finish_non_exhaustive()
    }
}

fn unreadable(error: &LogError) {
    tracing::warn!(%error, cause = ?error.io_error(), "a log cannot be read: its reader is told an end");
}

/// Those who read a recording.
#[derive(Debug, Default)]
pub(super) struct Followers {
    next_id: u64,
    all: Vec<Weak<Meter>>,
}

impl Followers {
    fn add(&mut self, sources: Sources, start: &Cursor) -> Arc<Meter> {
        let place = PerSource::from_fn(|source| AtomicU64::new(start.offset(source)));
        let meter = Arc::new(Meter { id: self.next_id, sources, place, ..Meter::default() });
        self.next_id += 1;
        self.all.retain(|meter| meter.strong_count() > 0);
        self.all.push(Arc::downgrade(&meter));
        meter
    }

    /// One look at each that is still there.
    pub(super) fn look(&self, newest: &Cursor) -> Vec<SubscriberMetrics> {
        self.all.iter().filter_map(Weak::upgrade).map(|meter| meter.look(newest)).collect()
    }
}

/// The counters of one reader.
#[derive(Debug, Default)]
struct Meter {
    id: u64,
    sources: Sources,
    place: PerSource<AtomicU64>,
    delivered: AtomicU64,
    missed: AtomicU64,
    suppressed: AtomicU64,
}

impl Meter {
    fn look(&self, newest: &Cursor) -> SubscriberMetrics {
        let behind = |source| newest.offset(source).saturating_sub(self.place[source].load(Ordering::Relaxed));
        SubscriberMetrics {
            id: self.id,
            delivered: self.delivered.load(Ordering::Relaxed),
            spilled: Source::ALL.into_iter().filter(|source| self.sources.contains(*source)).map(behind).sum(),
            dropped: self.missed.load(Ordering::Relaxed),
            suppressed: self.suppressed.load(Ordering::Relaxed),
            ..SubscriberMetrics::default()
        }
    }
}
