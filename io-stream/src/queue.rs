//! The bounded queue of one subscriber; pure.
//!
//! Filled by the hub, emptied by the subscriber, both through the slot that holds it. It applies the
//! overflow policy and keeps the books: what is not delivered stands in it as a gap, at its place.
//! Never waits and never wakes anybody.

use std::collections::VecDeque;
use std::time::Duration;

use crate::chunk::{Chunk, PerSource};
use crate::event::{Gap, GapCause};
use crate::overflow::{Bound, Overflow, Verdict};

/// What stands in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    Chunk(Chunk),
    Gap(Gap),
}

/// What an offered chunk did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Offered {
    /// Bytes that this subscriber lost by it.
    pub(crate) lost: PerSource<u64>,
    /// Set when the policy ends the subscription before this chunk.
    pub(crate) disconnected: bool,
}

/// A queue of chunks and gaps. Bound: bytes and chunks (at least one chunk always fits); overflow: as
/// the subscriber chose; loss counter: [`Queue::lost`].
#[derive(Debug)]
pub(crate) struct Queue {
    items: VecDeque<Item>,
    bytes: u64,
    chunks: usize,
    bound: Bound,
    overflow: Overflow,
    /// What a front loss is called: it changes when a blocking subscriber falls back.
    evict_cause: GapCause,
    lost: u64,
}

impl Queue {
    /// A queue that opens with history. The bound is widened to hold all of it: history is replayed
    /// whole, however small the queue.
    pub(crate) fn new(bound: Bound, overflow: Overflow, gaps: Vec<Gap>, history: Vec<Chunk>) -> Self {
        let bytes = history.iter().map(Chunk::len).sum();
        let chunks = history.len();
        let gaps = gaps.into_iter().map(Item::Gap);
        Self {
            items: gaps.chain(history.into_iter().map(Item::Chunk)).collect(),
            bytes,
            chunks,
            bound: bound.at_least(bytes, chunks),
            overflow,
            evict_cause: GapCause::DroppedOldest,
            lost: 0,
        }
    }

    /// What the policy says about `len` more bytes, whose publisher has `waited` so far.
    pub(crate) fn verdict(&self, len: u64, waited: Duration) -> Verdict {
        self.overflow.decide(self.fits(len), waited)
    }

    /// Gives up blocking: from now on the oldest chunks make way.
    pub(crate) fn stop_blocking(&mut self) {
        self.overflow = Overflow::DropOldest;
        self.evict_cause = GapCause::StallBudgetSpent;
    }

    /// Whether a publisher may be waiting for room here.
    pub(crate) const fn blocks(&self) -> bool {
        matches!(self.overflow, Overflow::Block { .. })
    }

    /// Takes a chunk or loses one, by the policy.
    pub(crate) fn offer(&mut self, chunk: Chunk) -> Offered {
        let mut offered = Offered::default();
        match self.verdict(chunk.len(), Duration::ZERO) {
            // A wait was settled by the hub before it committed the chunk.
            Verdict::Take | Verdict::Wait(_) => self.push(chunk),
            Verdict::EvictThenTake => {
                while !self.fits(chunk.len()) {
                    self.evict_oldest(&mut offered);
                }
                self.push(chunk);
            }
            Verdict::Refuse => self.refuse(&chunk, &mut offered),
            Verdict::Disconnect => offered.disconnected = true,
        }
        offered
    }

    /// The next item for the reader.
    pub(crate) fn pop(&mut self) -> Option<Item> {
        let item = self.items.pop_front()?;
        if let Item::Chunk(chunk) = &item {
            self.forget(chunk);
        }
        Some(item)
    }

    /// Bytes that the policy took from this subscriber so far.
    pub(crate) const fn lost(&self) -> u64 {
        self.lost
    }

    fn fits(&self, len: u64) -> bool {
        self.chunks == 0 || self.bound.allows(self.bytes + len, self.chunks + 1)
    }

    fn push(&mut self, chunk: Chunk) {
        self.bytes += chunk.len();
        self.chunks += 1;
        self.items.push_back(Item::Chunk(chunk));
    }

    fn forget(&mut self, chunk: &Chunk) {
        self.bytes -= chunk.len();
        self.chunks -= 1;
    }

    /// Turns the oldest chunk into a gap at the front.
    fn evict_oldest(&mut self, offered: &mut Offered) {
        // The gaps before the first chunk are few: one for each source and cause.
        let leading = self.items.iter().take_while(|item| matches!(item, Item::Gap(_)));
        let at = leading.count();
        let Some(Item::Chunk(chunk)) = self.items.remove(at) else {
            return;
        };
        self.forget(&chunk);
        let gap = self.lose(&chunk, self.evict_cause, offered);
        if !extend_one(self.items.range_mut(..at), &gap) {
            self.items.insert(at, Item::Gap(gap));
        }
    }

    /// Turns an offered chunk into a gap at the back.
    fn refuse(&mut self, chunk: &Chunk, offered: &mut Offered) {
        let gap = self.lose(chunk, GapCause::DroppedNewest, offered);
        if !extend_one(self.items.iter_mut().rev(), &gap) {
            self.items.push_back(Item::Gap(gap));
        }
    }

    fn lose(&mut self, chunk: &Chunk, cause: GapCause, offered: &mut Offered) -> Gap {
        offered.lost[chunk.source] += chunk.len();
        self.lost += chunk.len();
        Gap { source: chunk.source, from: chunk.offset, to: chunk.end(), cause }
    }
}

/// Lengthens the gap that `more` continues, if there is one before the next chunk.
fn extend_one<'a>(items: impl Iterator<Item = &'a mut Item>, more: &Gap) -> bool {
    for item in items {
        match item {
            Item::Chunk(_) => return false,
            Item::Gap(gap) => {
                if gap.source == more.source && gap.cause == more.cause && gap.to == more.from {
                    gap.to = more.to;
                    return true;
                }
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::Source::{self, Stderr, Stdout};
    use crate::chunk::testing::chunk;

    fn queue(bytes: usize, overflow: Overflow) -> Queue {
        Queue::new(Bound::of_bytes(bytes), overflow, Vec::new(), Vec::new())
    }

    fn gap(source: Source, from: u64, to: u64, cause: GapCause) -> Item {
        Item::Gap(Gap { source, from, to, cause })
    }

    fn drain(queue: &mut Queue) -> Vec<Item> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn dropping_the_oldest_leaves_one_gap_for_each_source() {
        let mut queue = queue(10, Overflow::DropOldest);
        queue.offer(chunk(Stdout, 0, 0, 4));
        queue.offer(chunk(Stderr, 1, 0, 4));
        queue.offer(chunk(Stdout, 2, 4, 4));
        let offered = queue.offer(chunk(Stdout, 3, 8, 10));
        assert_eq!(offered.lost[Stdout], 4);
        assert_eq!(queue.lost(), 12);
        assert_eq!(
            drain(&mut queue),
            [
                gap(Stdout, 0, 8, GapCause::DroppedOldest),
                gap(Stderr, 0, 4, GapCause::DroppedOldest),
                Item::Chunk(chunk(Stdout, 3, 8, 10)),
            ]
        );
    }

    #[test]
    fn dropping_the_newest_puts_the_gap_behind_what_was_kept() {
        let mut queue = queue(4, Overflow::DropNewest);
        for (seq, source, offset) in [(0, Stdout, 0), (1, Stdout, 4), (2, Stderr, 0), (3, Stdout, 8)] {
            queue.offer(chunk(source, seq, offset, 4));
        }
        assert_eq!(queue.pop(), Some(Item::Chunk(chunk(Stdout, 0, 0, 4))));
        queue.offer(chunk(Stdout, 4, 12, 4));
        assert_eq!(
            drain(&mut queue),
            [
                gap(Stdout, 4, 12, GapCause::DroppedNewest),
                gap(Stderr, 0, 4, GapCause::DroppedNewest),
                Item::Chunk(chunk(Stdout, 4, 12, 4)),
            ]
        );
    }

    #[test]
    fn disconnecting_keeps_what_was_queued() {
        let mut queue = queue(4, Overflow::Disconnect);
        assert!(!queue.offer(chunk(Stdout, 0, 0, 4)).disconnected);
        assert!(queue.offer(chunk(Stdout, 1, 4, 1)).disconnected);
        assert_eq!(drain(&mut queue), [Item::Chunk(chunk(Stdout, 0, 0, 4))]);
        assert_eq!(queue.lost(), 0);
    }

    #[test]
    fn a_blocking_queue_that_gave_up_says_so() {
        let budget = Duration::from_secs(1);
        let mut queue = queue(4, Overflow::Block { budget });
        queue.offer(chunk(Stdout, 0, 0, 4));
        assert_eq!(queue.verdict(4, Duration::ZERO), Verdict::Wait(budget));
        queue.stop_blocking();
        assert!(!queue.blocks());
        queue.offer(chunk(Stdout, 1, 4, 4));
        assert_eq!(queue.pop(), Some(gap(Stdout, 0, 4, GapCause::StallBudgetSpent)));
    }

    #[test]
    fn one_chunk_fits_into_any_queue() {
        let mut queue = queue(0, Overflow::DropNewest);
        assert_eq!(queue.offer(chunk(Stdout, 0, 0, 100)), Offered::default());
        assert_eq!(queue.offer(chunk(Stdout, 1, 100, 1)).lost[Stdout], 1);
    }

    #[test]
    fn history_is_replayed_whole_and_its_gap_keeps_its_cause() {
        let opening = Gap { source: Stdout, from: 0, to: 8, cause: GapCause::NotRetained };
        let history = vec![chunk(Stdout, 1, 8, 8), chunk(Stdout, 2, 16, 8)];
        let mut queue = Queue::new(Bound::of_bytes(1), Overflow::DropOldest, vec![opening], history);
        assert_eq!(queue.lost(), 0);
        queue.offer(chunk(Stdout, 3, 24, 8));
        assert_eq!(
            drain(&mut queue),
            [
                Item::Gap(opening),
                gap(Stdout, 8, 16, GapCause::DroppedOldest),
                Item::Chunk(chunk(Stdout, 2, 16, 8)),
                Item::Chunk(chunk(Stdout, 3, 24, 8)),
            ]
        );
    }

    #[test]
    fn a_flood_of_tiny_chunks_is_bounded_by_count() {
        let mut queue = queue(1000, Overflow::DropOldest);
        for at in 0..500 {
            queue.offer(chunk(Stdout, at, at, 1));
        }
        assert_eq!(drain(&mut queue).len(), 65);
    }
}
