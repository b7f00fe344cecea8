//! What happens to a slow reader: the policies and the decision; pure.
//!
//! Asked by the queue for each chunk. Holds no bytes and counts nothing.

use std::time::Duration;

/// What happens when a subscriber's queue is full. Chosen by each subscriber for itself: it never
/// changes what the others see.
///
/// ```
/// use orangery_io_stream::Overflow;
/// use std::time::Duration;
/// assert_ne!(Overflow::block(Duration::from_secs(1)), Overflow::DropOldest);
/// ```
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
    /// the workload. If there is none when `budget` has passed, the fallback holds for the rest of the
    /// subscriber's life; its gaps say
    /// [`GapCause::StallBudgetSpent`](crate::GapCause::StallBudgetSpent), and the log names it.
    ///
    /// It is a policy of hubs alone. A pipe that is emptied into a [durable log](crate::log) waits for no reader: its
    /// readers find in the files what they have not come to yet, until retention removes it.
    Block {
        /// The longest wait for one chunk.
        budget: Duration,
        /// What happens when it is spent.
        then: Fallback,
    },
    /// Chunks wait in a file without a name, in the hub's
    /// [`spill_dir`](crate::HubOptions::spill_dir), until the reader comes for them. When the file is
    /// full, or cannot be written, new chunks are turned away until there is room. The workload notices
    /// nothing, as long as that directory takes writes without waiting.
    Spill {
        /// The most that the file may hold, in bytes; 64 bytes a chunk come on top of its data.
        limit: u64,
    },
}

/// What a blocking subscriber falls back to when its stall budget is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Fallback {
    /// As [`Overflow::DropOldest`].
    #[default]
    DropOldest,
    /// As [`Overflow::DropNewest`].
    DropNewest,
    /// As [`Overflow::Disconnect`].
    Disconnect,
}

impl From<Fallback> for Overflow {
    fn from(fallback: Fallback) -> Self {
        match fallback {
            Fallback::DropOldest => Self::DropOldest,
            Fallback::DropNewest => Self::DropNewest,
            Fallback::Disconnect => Self::Disconnect,
        }
    }
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
    /// The budget is spent: the fallback holds from now on.
    GiveUp,
    /// Put it on disk.
    Spill,
}

impl Overflow {
    /// Blocks for at most `budget`, then drops the oldest.
    pub const fn block(budget: Duration) -> Self {
        Self::Block { budget, then: Fallback::DropOldest }
    }

    /// The fate of a chunk for a queue in which it `fits` or not, whose publisher has `waited` so far.
    pub(crate) fn decide(self, fits: bool, waited: Duration) -> Verdict {
        match self {
            _ if fits => Verdict::Take,
            Self::DropOldest => Verdict::EvictThenTake,
            Self::DropNewest => Verdict::Refuse,
            Self::Disconnect => Verdict::Disconnect,
            Self::Spill { .. } => Verdict::Spill,
            Self::Block { budget, .. } => match budget.checked_sub(waited) {
                Some(left) if !left.is_zero() => Verdict::Wait(left),
                _ => Verdict::GiveUp,
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

    /// The most bytes.
    pub(crate) const fn bytes(self) -> u64 {
        self.bytes
    }

    /// Bytes that may be added in one more chunk.
    pub(crate) const fn room(self, bytes: u64, chunks: usize) -> u64 {
        if chunks < self.chunks { self.bytes.saturating_sub(bytes) } else { 0 }
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
        for policy in [Overflow::DropOldest, Overflow::DropNewest, Overflow::Disconnect, Overflow::block(BUDGET)] {
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
        let block = Overflow::block(BUDGET);
        assert_eq!(block.decide(false, Duration::ZERO), Verdict::Wait(BUDGET));
        let second = Duration::from_secs(1);
        assert_eq!(block.decide(false, second), Verdict::Wait(second));
        assert_eq!(block.decide(false, BUDGET), Verdict::GiveUp);
        assert_eq!(block.decide(false, Duration::MAX), Verdict::GiveUp);
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
