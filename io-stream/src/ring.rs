//! The replay history of one hub, bounded by bytes; pure.
//!
//! Filled by the hub under its lock, asked by it once for each new subscriber. The chunks in it are
//! the newest of both sources without a hole, so that a position is found by subtraction.

use std::collections::VecDeque;
use std::time::SystemTime;

use crate::chunk::{Chunk, PerSource, Source, Sources};
use crate::cursor::Cursor;
use crate::event::{Gap, GapCause};
use crate::from::From;
use crate::overflow::Bound;

/// What a new subscriber is given from the past: gaps first, then chunks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Replay {
    pub(crate) gaps: Vec<Gap>,
    pub(crate) chunks: Vec<Chunk>,
    /// The offset of the first byte it gets, past or future.
    pub(crate) start: PerSource<u64>,
}

/// The first wanted offset of a source, and whether it is known or only a lower bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Start {
    offset: u64,
    missing: GapCause,
}

impl Start {
    const fn at(offset: u64) -> Self {
        Self { offset, missing: GapCause::NotRetained }
    }
}

/// The newest chunks. Bound: bytes and chunks; overflow: the oldest whole chunks leave; nothing is
/// lost by that, so there is no counter: [`Ring::oldest`] tells what is left.
#[derive(Debug)]
pub(crate) struct Ring {
    chunks: VecDeque<Chunk>,
    bytes: u64,
    bound: Bound,
    next_seq: u64,
    oldest: PerSource<u64>,
    total: PerSource<u64>,
    /// When the newest chunk that has left was read.
    evicted: Option<SystemTime>,
}

impl Ring {
    /// An empty history that may hold `bytes`; 0 keeps nothing.
    pub(crate) fn new(bytes: usize) -> Self {
        Self {
            chunks: VecDeque::new(),
            bytes: 0,
            bound: Bound::of_bytes(bytes),
            next_seq: 0,
            oldest: PerSource::default(),
            total: PerSource::default(),
            evicted: None,
        }
    }

    /// The sequence number of the next chunk.
    pub(crate) const fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// How many bytes of `source` there ever were: the offset of the next one.
    pub(crate) fn total(&self, source: Source) -> u64 {
        self.total[source]
    }

    /// The oldest retained offset of `source`; the total if nothing of it is retained.
    pub(crate) fn oldest(&self, source: Source) -> u64 {
        self.oldest[source]
    }

    /// How many bytes are retained, and how many may be.
    pub(crate) const fn occupancy(&self) -> (u64, u64) {
        (self.bytes, self.bound.bytes())
    }

    /// Appends the next chunk: its `seq` is [`Ring::next_seq`], its offset the source's total.
    pub(crate) fn push(&mut self, chunk: Chunk) {
        self.next_seq = chunk.seq + 1;
        self.total[chunk.source] = chunk.end();
        self.bytes += chunk.len();
        self.chunks.push_back(chunk);
        while !self.bound.allows(self.bytes, self.chunks.len()) {
            let Some(old) = self.chunks.pop_front() else {
                return;
            };
            self.forget(&old);
        }
    }

    /// Counts bytes of `source` that are lost to everybody, and returns where they stood. There are no holes here, so
    /// the history begins anew behind them.
    pub(crate) fn skip(&mut self, source: Source, bytes: u64) -> Gap {
        while let Some(old) = self.chunks.pop_front() {
            self.forget(&old);
        }
        let from = self.total[source];
        self.total[source] += bytes;
        self.oldest[source] = self.total[source];
        Gap { source, from, to: self.total[source], cause: GapCause::Injected }
    }

    fn forget(&mut self, old: &Chunk) {
        self.bytes -= old.len();
        self.oldest[old.source] = old.end();
        self.evicted = Some(old.wall);
    }

    /// What a subscriber that wants `sources` from `from` gets of the past.
    pub(crate) fn replay(&self, sources: Sources, from: From) -> Replay {
        self.replay_since(sources, self.start(from))
    }

    /// What a subscriber gets that has everything before `cursor`, a place that is retained.
    pub(crate) fn resume(&self, sources: Sources, cursor: &Cursor) -> Replay {
        self.replay_since(sources, PerSource::from_fn(|source| Start::at(cursor.offset(source))))
    }

    fn replay_since(&self, sources: Sources, start: PerSource<Start>) -> Replay {
        let wanted = Source::ALL.into_iter().filter(|s| sources.contains(*s));
        Replay {
            gaps: wanted.filter_map(|s| self.gap(s, start[s])).collect(),
            chunks: self
                .chunks
                .iter()
                .filter(|chunk| sources.contains(chunk.source))
                .filter_map(|chunk| chunk.since(start[chunk.source].offset))
                .collect(),
            start: PerSource::from_fn(|source| start[source].offset.max(self.oldest(source))),
        }
    }

    fn gap(&self, source: Source, start: Start) -> Option<Gap> {
        let to = self.oldest(source);
        (start.offset < to).then_some(Gap { source, from: start.offset, to, cause: start.missing })
    }

    fn start(&self, from: From) -> PerSource<Start> {
        match from {
            From::Start => PerSource::from_fn(|_| Start::at(0)),
            From::Now => PerSource::from_fn(|source| Start::at(self.total(source))),
            From::TailBytes(bytes) => PerSource::from_fn(|source| Start::at(self.total(source).saturating_sub(bytes))),
            From::TailLines(lines) => PerSource::from_fn(|source| self.start_of_lines(source, lines)),
            From::Time(time) => self.start_at_time(time),
            From::Seq(seq) => PerSource::from_fn(|source| self.start_at_seq(source, seq)),
            From::Offset { source, offset } => self.start_at_offset(source, offset),
        }
    }

    /// Where the last `lines` lines of `source` begin.
    fn start_of_lines(&self, source: Source, lines: u64) -> Start {
        let total = self.total(source);
        let mut left = lines;
        if left == 0 {
            return Start::at(total);
        }
        for chunk in self.chunks.iter().rev().filter(|chunk| chunk.source == source) {
            for (at, _) in chunk.data.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
                let next = chunk.offset + at as u64 + 1;
                // The newline at the very end closes the last line and begins none.
                left -= u64::from(next != total);
                if left == 0 {
                    return Start::at(next);
                }
            }
        }
        self.forgotten(source)
    }

    fn start_at_time(&self, time: SystemTime) -> PerSource<Start> {
        if self.evicted.is_some_and(|evicted| evicted >= time) {
            return PerSource::from_fn(|source| self.forgotten(source));
        }
        let first = self.chunks.iter().find(|chunk| chunk.wall >= time);
        let seq = first.map_or(self.next_seq, |chunk| chunk.seq);
        PerSource::from_fn(|source| self.start_at_seq(source, seq))
    }

    /// Where `source` stood when chunk `seq` was read.
    fn start_at_seq(&self, source: Source, seq: u64) -> Start {
        let oldest_seq = self.next_seq - self.chunks.len() as u64;
        if seq >= oldest_seq {
            let skip = (seq - oldest_seq).min(self.chunks.len() as u64) as usize;
            let next = self.chunks.range(skip..).find(|chunk| chunk.source == source);
            return Start::at(next.map_or(self.total(source), |chunk| chunk.offset));
        }
        if seq == 0 {
            return Start::at(0);
        }
        self.forgotten(source)
    }

    /// Where `source` stood at a moment that is older than everything retained: known only if
    /// nothing of it was ever evicted.
    fn forgotten(&self, source: Source) -> Start {
        Start {
            offset: 0,
            missing: if self.oldest(source) == 0 { GapCause::NotRetained } else { GapCause::PositionForgotten },
        }
    }

    fn start_at_offset(&self, source: Source, offset: u64) -> PerSource<Start> {
        let offset = offset.min(self.total(source));
        let other = if offset < self.oldest(source) {
            self.forgotten(source.other())
        } else {
            let holds = |chunk: &&Chunk| chunk.source == source && chunk.end() > offset;
            let held = self.chunks.iter().find(holds);
            let seq = held.map_or(self.next_seq, |chunk| chunk.seq);
            self.start_at_seq(source.other(), seq)
        };
        PerSource::from_fn(|each| if each == source { Start::at(offset) } else { other })
    }
}

#[cfg(test)]
mod tests;
