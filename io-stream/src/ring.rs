//! The replay history of one hub, bounded by bytes; pure.
//!
//! Filled by the hub under its lock, asked by it once for each new subscriber. The chunks in it are
//! the newest of both sources without a hole, so that a position is found by subtraction.

use std::collections::VecDeque;

use crate::chunk::{Chunk, PerSource, Source, Sources};
use crate::event::{Gap, GapCause};
use crate::overflow::Bound;

/// Where a subscription starts.
///
/// A position that does not exist yet means [`From::Now`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum From {
    /// The first byte of the stream.
    #[default]
    Start,
    /// The next byte that is read.
    Now,
    /// The last so many bytes of *each* chosen source, then what follows.
    TailBytes(u64),
    /// The chunk of this sequence number: what [`Event::Lagged`](crate::Event::Lagged) gives, or one
    /// more than the last [`Chunk::seq`] seen.
    Seq(u64),
    /// A byte of one source; the other source starts with what was read after the chunk of that byte.
    Offset {
        /// The source that `offset` counts.
        source: Source,
        /// Offset of the first wanted byte.
        offset: u64,
    },
}

/// What a new subscriber is given from the past: gaps first, then chunks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Replay {
    pub(crate) gaps: Vec<Gap>,
    pub(crate) chunks: Vec<Chunk>,
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
            self.bytes -= old.len();
            self.oldest[old.source] = old.end();
        }
    }

    /// What a subscriber that wants `sources` from `from` gets of the past.
    pub(crate) fn replay(&self, sources: Sources, from: From) -> Replay {
        let start = self.start(from);
        let wanted = Source::ALL.into_iter().filter(|s| sources.contains(*s));
        Replay {
            gaps: wanted.filter_map(|s| self.gap(s, start[s])).collect(),
            chunks: self
                .chunks
                .iter()
                .filter(|chunk| sources.contains(chunk.source))
                .filter_map(|chunk| chunk.since(start[chunk.source].offset))
                .collect(),
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
            From::Seq(seq) => PerSource::from_fn(|source| self.start_at_seq(source, seq)),
            From::Offset { source, offset } => self.start_at_offset(source, offset),
        }
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
mod tests {
    use super::*;
    use crate::chunk::Source::{Stderr, Stdout};
    use crate::chunk::testing::chunk;

    /// Five chunks of 10 bytes: out, err, out, err, out.
    fn ring(bytes: usize) -> Ring {
        let mut ring = Ring::new(bytes);
        for (seq, source, offset) in [(0, Stdout, 0), (1, Stderr, 0), (2, Stdout, 10), (3, Stderr, 10), (4, Stdout, 20)]
        {
            assert_eq!((ring.next_seq(), ring.total(source)), (seq, offset));
            ring.push(chunk(source, seq, offset, 10));
        }
        ring
    }

    fn gap(source: Source, from: u64, to: u64, cause: GapCause) -> Gap {
        Gap { source, from, to, cause }
    }

    fn missing(source: Source, from: u64, to: u64) -> Gap {
        gap(source, from, to, GapCause::NotRetained)
    }

    fn places(replay: &Replay) -> Vec<(u64, u64, u64)> {
        let place = |chunk: &Chunk| (chunk.seq, chunk.offset, chunk.len());
        replay.chunks.iter().map(place).collect()
    }

    #[test]
    fn the_oldest_whole_chunks_leave() {
        let ring = ring(25);
        assert_eq!((ring.oldest(Stdout), ring.oldest(Stderr)), (20, 10));
        let replay = ring.replay(Sources::Both, From::Start);
        assert_eq!(replay.gaps, [missing(Stdout, 0, 20), missing(Stderr, 0, 10)]);
        assert_eq!(places(&replay), [(3, 10, 10), (4, 20, 10)]);
    }

    #[test]
    fn without_room_everything_is_a_gap() {
        let replay = ring(0).replay(Sources::Stdout, From::Start);
        assert_eq!(replay.gaps, [missing(Stdout, 0, 30)]);
        assert_eq!(replay.chunks, []);
        assert_eq!(ring(0).replay(Sources::Both, From::Now), Replay::default());
    }

    #[test]
    fn now_is_after_everything() {
        assert_eq!(ring(100).replay(Sources::Both, From::Now), Replay::default());
    }

    #[test]
    fn a_tail_is_exact_for_each_source() {
        let replay = ring(100).replay(Sources::Both, From::TailBytes(13));
        assert_eq!(replay.gaps, []);
        assert_eq!(places(&replay), [(1, 7, 3), (2, 17, 3), (3, 10, 10), (4, 20, 10)]);
        let replay = ring(25).replay(Sources::Stdout, From::TailBytes(13));
        assert_eq!(replay.gaps, [missing(Stdout, 17, 20)]);
        let all = ring(100).replay(Sources::Stdout, From::TailBytes(u64::MAX));
        assert_eq!(places(&all), [(0, 0, 10), (2, 10, 10), (4, 20, 10)]);
    }

    #[test]
    fn a_retained_seq_is_exact() {
        let replay = ring(100).replay(Sources::Both, From::Seq(3));
        assert_eq!(replay.gaps, []);
        assert_eq!(places(&replay), [(3, 10, 10), (4, 20, 10)]);
        for seq in [5, 6, u64::MAX] {
            assert_eq!(ring(100).replay(Sources::Both, From::Seq(seq)), Replay::default());
        }
    }

    #[test]
    fn a_forgotten_seq_says_that_it_is_a_bound() {
        let replay = ring(25).replay(Sources::Both, From::Seq(1));
        let cause = GapCause::PositionForgotten;
        assert_eq!(replay.gaps, [gap(Stdout, 0, 20, cause), gap(Stderr, 0, 10, cause)]);
        // Only the first chunk has gone: stderr is whole, its position known.
        let replay = ring(45).replay(Sources::Both, From::Seq(0));
        assert_eq!(replay.gaps, [missing(Stdout, 0, 10)]);
    }

    #[test]
    fn an_offset_cuts_its_source_and_places_the_other() {
        let from = |source, offset| From::Offset { source, offset };
        let replay = ring(100).replay(Sources::Both, from(Stdout, 14));
        assert_eq!(replay.gaps, []);
        assert_eq!(places(&replay), [(2, 14, 6), (3, 10, 10), (4, 20, 10)]);
        let replay = ring(25).replay(Sources::Both, from(Stderr, 4));
        assert_eq!(replay.gaps, [gap(Stdout, 0, 20, GapCause::PositionForgotten), missing(Stderr, 4, 10)]);
        for offset in [30, 31, u64::MAX] {
            let replay = ring(100).replay(Sources::Both, from(Stdout, offset));
            assert_eq!(replay, Replay::default());
        }
    }
}
