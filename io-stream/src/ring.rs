//! The replay history of one hub, bounded by bytes; pure.
//!
//! Filled by the hub under its lock, asked by it once for each new subscriber. The chunks in it are
//! the newest of both sources without a hole, so that a position is found by subtraction.

use std::collections::VecDeque;
use std::time::SystemTime;

use bytes::Bytes;

use crate::chunk::{Chunk, PerSource, Source, Sources};
use crate::cursor::Cursor;
use crate::event::{Gap, GapCause};
use crate::from::From;
use crate::overflow::Bound;

/// What a new subscriber is given from the past: gaps first, then chunks, then what is missing behind them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Replay {
    pub(crate) gaps: Vec<Gap>,
    pub(crate) chunks: Vec<Chunk>,
    pub(crate) behind: Vec<Gap>,
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

/// The newest bytes. Bound: bytes and chunks; overflow: the oldest bytes leave, of the last chunk that does not go whole
/// its beginning; nothing is lost by that, so there is no counter: [`Ring::oldest`] tells what is left.
#[derive(Debug)]
pub(crate) struct Ring {
    chunks: VecDeque<Chunk>,
    bytes: u64,
    /// How many bytes the first chunk has lost.
    trimmed: u64,
    bound: Bound,
    next_seq: u64,
    oldest: PerSource<u64>,
    total: PerSource<u64>,
    /// Where the bytes end that anybody gets: before the total once the output is over its limit.
    end: PerSource<u64>,
    /// When the newest chunk that has left was read.
    evicted: Option<SystemTime>,
}

impl Ring {
    /// An empty history that may hold `bytes`; 0 keeps nothing.
    pub(crate) fn new(bytes: usize) -> Self {
        Self {
            chunks: VecDeque::new(),
            bytes: 0,
            trimmed: 0,
            bound: Bound::of_bytes(bytes),
            next_seq: 0,
            oldest: PerSource::default(),
            total: PerSource::default(),
            end: PerSource::default(),
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
        self.end[chunk.source] = chunk.end();
        self.bytes += chunk.len();
        self.chunks.push_back(chunk);
        while !self.bound.allows(self.bytes, self.chunks.len()) {
            let over = self.bytes.saturating_sub(self.bound.bytes());
            match self.chunks.front_mut() {
                Some(first) if 0 < over && over < first.len() => self.trim(over),
                Some(_) => self.forget_first(),
                None => return,
            }
        }
    }

    /// Takes the first `over` bytes of the first chunk, which has more.
    fn trim(&mut self, over: u64) {
        let Some(first) = self.chunks.front_mut() else { return };
        let (keep, skip) = (first.len() - over, over as usize);
        // Less than half of what was read pins no more than itself.
        first.data = if keep < over { Bytes::copy_from_slice(&first.data[skip..]) } else { first.data.slice(skip..) };
        first.offset += over;
        self.oldest[first.source] = first.offset;
        self.bytes -= over;
        self.trimmed += over;
    }

    /// Counts bytes of `source` that are lost to everybody, and returns where they stood. There are no holes here, so
    /// the history begins anew behind them.
    pub(crate) fn skip(&mut self, source: Source, bytes: u64) -> Gap {
        while !self.chunks.is_empty() {
            self.forget_first();
        }
        let from = self.total[source];
        self.total[source] += bytes;
        self.oldest[source] = self.total[source];
        self.end[source] = self.total[source];
        Gap { source, from, to: self.total[source], cause: GapCause::Injected }
    }

    /// Counts bytes of `source` that nobody gets because the output is over its limit; no chunk comes after them.
    pub(crate) fn cut(&mut self, source: Source, bytes: u64) -> Gap {
        let from = self.total[source];
        self.total[source] += bytes;
        Gap { source, from, to: self.total[source], cause: GapCause::OutputLimit }
    }

    /// How many bytes of `source` were cut off.
    pub(crate) fn over_limit(&self, source: Source) -> u64 {
        self.total[source] - self.end[source]
    }

    fn forget_first(&mut self) {
        let Some(old) = self.chunks.pop_front() else { return };
        self.bytes -= old.len();
        self.trimmed = 0;
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
        let wanted = || Source::ALL.into_iter().filter(|s| sources.contains(*s));
        Replay {
            gaps: wanted().filter_map(|s| self.gap(s, start[s])).collect(),
            behind: wanted().filter_map(|s| self.gap_behind(s, start[s])).collect(),
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

    fn gap_behind(&self, source: Source, start: Start) -> Option<Gap> {
        let (from, to) = (start.offset.max(self.end[source]), self.total(source));
        (from < to).then_some(Gap { source, from, to, cause: GapCause::OutputLimit })
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
        let end = self.end[source];
        let mut left = lines;
        if left == 0 {
            return Start::at(self.total(source));
        }
        for chunk in self.chunks.iter().rev().filter(|chunk| chunk.source == source) {
            for (at, _) in chunk.data.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
                let next = chunk.offset + at as u64 + 1;
                // The newline at the very end closes the last line and begins none.
                left -= u64::from(next != end);
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
            let next = (skip..).zip(self.chunks.range(skip..)).find(|(_, chunk)| chunk.source == source);
            // Before what the first one has lost: that is missing.
            let begin = |(at, chunk): (usize, &Chunk)| chunk.offset - if at == 0 { self.trimmed } else { 0 };
            return Start::at(next.map_or(self.end[source], begin));
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
