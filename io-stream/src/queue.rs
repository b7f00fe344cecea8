//! The bounded queue of one subscriber.
//!
//! Filled by the hub, emptied by the subscriber, both through the slot that holds it. It applies the
//! rate limit and the overflow policy and keeps the books: what is not delivered stands in it as a gap,
//! at its place. Never waits and never wakes anybody. Pure, but for a subscriber that spills.

use std::collections::VecDeque;
use std::time::Duration;

use crate::chunk::{Chunk, PerSource};
use crate::event::{Gap, GapCause};
use crate::overflow::{Bound, Overflow, Verdict};
use crate::rate::Bucket;
use crate::spill::Spill;

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
    /// Bytes of it that the rate limit took.
    pub(crate) suppressed: PerSource<u64>,
    /// Set when the policy ends the subscription before this chunk.
    pub(crate) disconnected: bool,
}

/// How a queue is bounded.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) bound: Bound,
    pub(crate) overflow: Overflow,
    /// In a box, as `spill`: few readers have them.
    pub(crate) rate: Option<Box<Bucket>>,
    pub(crate) spill: Option<Box<Spill>>,
}

/// A queue of chunks and gaps. Bound: bytes and chunks (at least one chunk always fits), and between
/// two chunks [`GAPS`] gaps; overflow: as the subscriber chose; loss counters: [`Queue::lost`],
/// [`Queue::suppressed`].
///
/// In order: `items`, then what was spilled, then `late`.
#[derive(Debug)]
pub(crate) struct Queue {
    items: VecDeque<Item>,
    bytes: u64,
    chunks: usize,
    rules: Rules,
    /// Whether a blocking subscriber has given up: its losses are called after that.
    gave_up: bool,
    /// What was lost since the last chunk that was taken.
    late: VecDeque<Item>,
    lost: u64,
    suppressed: u64,
}

/// How many gaps may stand between two chunks. From there on a gap is lengthened whatever its cause.
const GAPS: usize = 16;

impl Queue {
    /// A queue that opens with history. The bound is widened to hold all of it: history is replayed
    /// whole, however small the queue.
    pub(crate) fn new(mut rules: Rules, gaps: Vec<Gap>, history: Vec<Chunk>) -> Self {
        let bytes = history.iter().map(Chunk::len).sum();
        let chunks = history.len();
        rules.bound = rules.bound.at_least(bytes, chunks);
        let gaps = gaps.into_iter().map(Item::Gap);
        Self {
            items: gaps.chain(history.into_iter().map(Item::Chunk)).collect(),
            bytes,
            chunks,
            rules,
            gave_up: false,
            late: VecDeque::new(),
            lost: 0,
            suppressed: 0,
        }
    }

    /// What the policy says about `len` more bytes, whose publisher has `waited` so far.
    pub(crate) fn verdict(&self, len: u64, waited: Duration) -> Verdict {
        self.rules.overflow.decide(self.fits(len), waited)
    }

    /// Gives up blocking: from now on the named fallback holds.
    pub(crate) fn stop_blocking(&mut self) {
        if let Overflow::Block { then, .. } = self.rules.overflow {
            self.rules.overflow = then.into();
            self.gave_up = true;
        }
    }

    /// Bytes that fit in one more chunk; a reader can only make more of it.
    pub(crate) fn room(&self) -> u64 {
        match &self.rules.spill {
            Some(spill) if !spill.is_empty() => 0,
            _ => self.rules.bound.room(self.bytes, self.chunks),
        }
    }

    /// Whether a publisher may be waiting for room here.
    pub(crate) const fn blocks(&self) -> bool {
        matches!(self.rules.overflow, Overflow::Block { .. })
    }

    /// Whether a stall budget was spent.
    pub(crate) const fn gave_up(&self) -> bool {
        self.gave_up
    }

    /// Takes a chunk or loses one, by the rate limit and the policy.
    pub(crate) fn offer(&mut self, chunk: Chunk) -> Offered {
        let mut offered = Offered::default();
        if self.rules.rate.as_mut().is_some_and(|bucket| !bucket.admits(chunk.len(), chunk.mono)) {
            offered.suppressed[chunk.source] += chunk.len();
            self.suppressed += chunk.len();
            self.lose_late(gap(&chunk, GapCause::Suppressed));
            return offered;
        }
        match self.verdict(chunk.len(), Duration::ZERO) {
            // A wait was settled by the hub before it committed the chunk.
            Verdict::Take | Verdict::Wait(_) | Verdict::GiveUp => self.push(chunk),
            Verdict::EvictThenTake => {
                while !self.fits(chunk.len()) {
                    self.evict_oldest(&mut offered);
                }
                self.push(chunk);
            }
            Verdict::Refuse => self.refuse(&chunk, GapCause::DroppedNewest, &mut offered),
            Verdict::Disconnect => {
                offered.disconnected = true;
                self.settle();
            }
            Verdict::Spill => self.spill(&chunk, &mut offered),
        }
        offered
    }

    /// Takes note of bytes that nobody gets.
    pub(crate) fn miss(&mut self, gap: Gap) {
        self.lose_late(gap);
    }

    /// The next item for the reader. What is lost on the way, because a spilled chunk cannot be read, is
    /// in `lost`.
    pub(crate) fn pop(&mut self, lost: &mut PerSource<u64>) -> Option<Item> {
        if self.items.is_empty() {
            self.unspill(lost);
        }
        if self.items.is_empty() && !self.is_limited() {
            self.tell_late();
        }
        let item = self.items.pop_front()?;
        if let Item::Chunk(chunk) = &item {
            self.forget(chunk);
        }
        Some(item)
    }

    /// No more chunks will come: what was lost last is told as well.
    pub(crate) fn settle(&mut self) {
        self.rules.rate = None;
    }

    /// Bytes that the policy took from this subscriber so far.
    pub(crate) const fn lost(&self) -> u64 {
        self.lost
    }

    /// Bytes that the rate limit took from this subscriber so far.
    pub(crate) const fn suppressed(&self) -> u64 {
        self.suppressed
    }

    /// Bytes that wait for the reader: in memory, and in its file.
    pub(crate) fn waiting(&self) -> (u64, u64) {
        (self.bytes, self.rules.spill.as_ref().map_or(0, |spill| spill.bytes()))
    }

    /// While a rate limit holds, losses are told in front of what passes, not one by one.
    const fn is_limited(&self) -> bool {
        self.rules.rate.is_some()
    }

    fn fits(&self, len: u64) -> bool {
        let spilled = self.rules.spill.as_ref().is_some_and(|spill| !spill.is_empty());
        !spilled && (self.chunks == 0 || self.rules.bound.allows(self.bytes + len, self.chunks + 1))
    }

    fn push(&mut self, chunk: Chunk) {
        self.tell_late();
        self.bytes += chunk.len();
        self.chunks += 1;
        self.items.push_back(Item::Chunk(chunk));
    }

    /// Puts what was lost last behind the last chunk, joined with the gaps that stand there.
    fn tell_late(&mut self) {
        if self.late.is_empty() {
            return;
        }
        let last = self.items.iter().rposition(|item| matches!(item, Item::Chunk(_)));
        let from = last.map_or(0, |last| last + 1);
        for item in std::mem::take(&mut self.late) {
            let count = self.items.len() - from;
            if !item.gap().is_some_and(|gap| extend_one(self.items.range_mut(from..), count, &gap)) {
                self.items.push_back(item);
            }
        }
    }

    fn forget(&mut self, chunk: &Chunk) {
        self.bytes -= chunk.len();
        self.chunks -= 1;
    }

    /// Puts a chunk into the file; refuses it if there is no room.
    fn spill(&mut self, chunk: &Chunk, offered: &mut Offered) {
        let late: Vec<Gap> = self.late.iter().filter_map(Item::gap).collect();
        if self.rules.spill.as_mut().is_some_and(|spill| spill.push(&late, chunk)) {
            self.late.clear();
        } else {
            self.refuse(chunk, GapCause::SpillFull, offered);
        }
    }

    /// Brings the oldest spilled item back.
    fn unspill(&mut self, lost: &mut PerSource<u64>) {
        let Some(spill) = &mut self.rules.spill else { return };
        match spill.pop() {
            Ok(Some(Item::Chunk(chunk))) => {
                self.bytes += chunk.len();
                self.chunks += 1;
                self.items.push_back(Item::Chunk(chunk));
            }
            Ok(Some(gap)) => self.items.push_back(gap),
            Ok(None) => {}
            Err(gaps) => {
                for gap in gaps {
                    lost[gap.source] += gap.bytes();
                    self.lost += gap.bytes();
                    self.items.push_back(Item::Gap(gap));
                }
            }
        }
    }

    /// Turns the oldest chunk into a gap at the front.
    fn evict_oldest(&mut self, offered: &mut Offered) {
        // The gaps before the first chunk are few, see `GAPS`.
        let leading = self.items.iter().take_while(|item| matches!(item, Item::Gap(_)));
        let at = leading.count();
        let Some(Item::Chunk(chunk)) = self.items.remove(at) else {
            return;
        };
        self.forget(&chunk);
        let gap = self.lose(&chunk, GapCause::DroppedOldest, offered);
        if !extend_one(self.items.range_mut(..at), at, &gap) {
            self.items.insert(at, Item::Gap(gap));
        }
        // What follows the new gap may now continue it: a gap that stood behind the chunk.
        self.join_leading(at);
    }

    /// Keeps the gaps before the first chunk few, after those behind an evicted one joined them.
    fn join_leading(&mut self, from: usize) {
        let mut at = from;
        while at < self.items.len() {
            let Some(Item::Gap(gap)) = self.items.get(at).cloned() else { return };
            if extend_one(self.items.range_mut(..at), at, &gap) {
                self.items.remove(at);
            } else {
                at += 1;
            }
        }
    }

    /// Turns an offered chunk into a gap at the back.
    fn refuse(&mut self, chunk: &Chunk, cause: GapCause, offered: &mut Offered) {
        let gap = self.lose(chunk, cause, offered);
        self.lose_late(gap);
    }

    fn lose_late(&mut self, gap: Gap) {
        let count = self.late.len();
        if !extend_one(self.late.iter_mut(), count, &gap) {
            self.late.push_back(Item::Gap(gap));
        }
    }

    fn lose(&mut self, chunk: &Chunk, cause: GapCause, offered: &mut Offered) -> Gap {
        offered.lost[chunk.source] += chunk.len();
        self.lost += chunk.len();
        gap(chunk, if self.gave_up { GapCause::StallBudgetSpent } else { cause })
    }
}

impl Item {
    const fn gap(&self) -> Option<Gap> {
        match self {
            Self::Gap(gap) => Some(*gap),
            Self::Chunk(_) => None,
        }
    }
}

fn gap(chunk: &Chunk, cause: GapCause) -> Gap {
    Gap { source: chunk.source, from: chunk.offset, to: chunk.end(), cause }
}

/// Lengthens the one of `count` gaps that `more` continues, if there is one.
fn extend_one<'a>(gaps: impl Iterator<Item = &'a mut Item>, count: usize, more: &Gap) -> bool {
    for item in gaps {
        if let Item::Gap(gap) = item
            && gap.source == more.source
            && gap.to == more.from
            && (gap.cause == more.cause || count >= GAPS)
        {
            gap.to = more.to;
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests;
