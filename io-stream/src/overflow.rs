//! What happens to a slow reader: the policies and the decision; pure.
//!
//! Asked by the queue for each chunk. Holds no bytes and counts nothing.

use std::time::Duration;

/// What happens when a subscriber's queue is full. Chosen by each subscriber for itself: it never
/// changes what the others see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Overflow {
    /// The oldest queued chunks make way; the reader sees a [`Gap`](crate::Gap) where they were. The
    /// workload notices nothing.
    #[default]
    DropOldest,
    /// New chunks are turned away until there is room; the reader sees a [`Gap`](crate::Gap) after
    /// what it had queued. The workload notices nothing.
    DropNewest,
    /// The subscriber is removed. It still reads what it had queued, then
    /// [`Event::Lagged`](crate::Event::Lagged) tells where to resume. The workload notices nothing.
    Disconnect,
    /// The publisher waits for room, and with it every reader of this hub and, once its pipe is full,
    /// the workload. If there is none when `budget` has passed, the subscriber falls back to
    /// [`Overflow::DropOldest`] for the rest of its life, and its gaps say
    /// [`GapCause::StallBudgetSpent`](crate::GapCause::StallBudgetSpent).
    Block {
        /// The longest wait for one chunk.
        budget: Duration,
    },
}

/// What to do with one chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Queue it.
    Take,
    /// Drop from the front until it fits, then queue it.
    EvictThenTake,
    /// Turn it away.
    Refuse,
    /// End the subscription here.
    Disconnect,
    /// Ask again when there is room, at the latest after this long.
    Wait(Duration),
}

impl Overflow {
    /// The fate of a chunk for a queue in which it `fits` or not, whose publisher has `waited` so far.
    pub(crate) fn decide(self, fits: bool, waited: Duration) -> Verdict {
        match self {
            _ if fits => Verdict::Take,
            Self::DropOldest => Verdict::EvictThenTake,
            Self::DropNewest => Verdict::Refuse,
            Self::Disconnect => Verdict::Disconnect,
            Self::Block { budget } => match budget.checked_sub(waited) {
                Some(left) if !left.is_zero() => Verdict::Wait(left),
                _ => Verdict::EvictThenTake,
            },
        }
    }
}

/// The most that a queue or a history may hold.
///
/// Bytes are the measure; the count keeps a flood of tiny chunks from costing many times their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bound {
    bytes: u64,
    chunks: usize,
}

impl Bound {
    /// Bytes for which one chunk is allowed, about what its bookkeeping costs.
    const BYTES_PER_CHUNK: usize = 64;
    /// Chunks that are allowed whatever the bytes.
    const MIN_CHUNKS: usize = 64;

    /// The bound of something that may hold `bytes`.
    pub(crate) fn of_bytes(bytes: usize) -> Self {
        Self { bytes: bytes as u64, chunks: (bytes / Self::BYTES_PER_CHUNK).max(Self::MIN_CHUNKS) }
    }

    /// This bound, or wider where `held` and `count` already exceed it.
    pub(crate) fn at_least(self, held: u64, count: usize) -> Self {
        Self { bytes: self.bytes.max(held), chunks: self.chunks.max(count) }
    }

    /// Whether so much is within the bound.
    pub(crate) const fn allows(self, bytes: u64, chunks: usize) -> bool {
        bytes <= self.bytes && chunks <= self.chunks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Duration = Duration::from_secs(2);

    #[test]
    fn what_fits_is_always_taken() {
        for policy in
            [Overflow::DropOldest, Overflow::DropNewest, Overflow::Disconnect, Overflow::Block { budget: BUDGET }]
        {
            assert_eq!(policy.decide(true, Duration::MAX), Verdict::Take);
        }
    }

    #[test]
    fn each_policy_has_its_answer() {
        let now = Duration::ZERO;
        assert_eq!(Overflow::DropOldest.decide(false, now), Verdict::EvictThenTake);
        assert_eq!(Overflow::DropNewest.decide(false, now), Verdict::Refuse);
        assert_eq!(Overflow::Disconnect.decide(false, now), Verdict::Disconnect);
        assert_eq!(Overflow::default(), Overflow::DropOldest);
    }

    #[test]
    fn blocking_waits_for_what_is_left_of_the_budget() {
        let block = Overflow::Block { budget: BUDGET };
        assert_eq!(block.decide(false, Duration::ZERO), Verdict::Wait(BUDGET));
        let second = Duration::from_secs(1);
        assert_eq!(block.decide(false, second), Verdict::Wait(second));
        assert_eq!(block.decide(false, BUDGET), Verdict::EvictThenTake);
        assert_eq!(block.decide(false, Duration::MAX), Verdict::EvictThenTake);
    }

    #[test]
    fn a_bound_counts_bytes_and_chunks() {
        let bound = Bound::of_bytes(10);
        assert!(bound.allows(10, 64) && !bound.allows(11, 1) && !bound.allows(1, 65));
        assert!(bound.at_least(20, 100).allows(20, 100));
        assert!(Bound::of_bytes(64 * 1000).allows(1000, 1000));
        assert!(!Bound::of_bytes(64 * 1000).allows(1001, 1001));
    }
}
