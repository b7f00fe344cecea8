//! Rate limit of one subscriber: a bucket of bytes that fills with time; pure.
//!
//! Asked by the queue for each chunk, with the chunk's own clock. It never waits.

use std::time::Duration;

/// How many bytes a subscriber wants at most.
///
/// Chunks pass whole, as long as the bucket is not empty, and may leave it in debt; while it is, chunks
/// are suppressed. What was suppressed is told as one [`Gap`](crate::Gap) for each source with
/// [`GapCause::Suppressed`](crate::GapCause::Suppressed), before the next bytes that pass or before the
/// end. History that a subscription opens with is not limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RateLimit {
    /// Bytes that pass in the long run, a second.
    pub bytes_per_second: u64,
    /// Bytes that may pass at once after a silence; at least one chunk passes.
    pub burst: u64,
}

/// The bucket. Units: a byte is a thousand million parts, so that a nanosecond's share is whole.
#[derive(Debug)]
pub(crate) struct Bucket {
    limit: RateLimit,
    level: i128,
    at: Option<Duration>,
}

const BYTE: i128 = 1_000_000_000;

impl Bucket {
    /// A full bucket.
    pub(crate) fn new(limit: RateLimit) -> Self {
        Self { limit, level: Self::full(limit), at: None }
    }

    /// Whether `len` bytes that were read at `now` pass.
    pub(crate) fn admits(&mut self, len: u64, now: Duration) -> bool {
        let passed = now.saturating_sub(self.at.unwrap_or(now));
        self.at = Some(now.max(self.at.unwrap_or(now)));
        // 2^64 bytes a second for 2^64 seconds are below 2^127 parts only after saturation.
        let filled = (passed.as_nanos() as i128).saturating_mul(i128::from(self.limit.bytes_per_second));
        self.level = self.level.saturating_add(filled).min(Self::full(self.limit));
        let admitted = self.level > 0;
        if admitted {
            self.level -= i128::from(len) * BYTE;
        }
        admitted
    }

    fn full(limit: RateLimit) -> i128 {
        i128::from(limit.burst.max(1)) * BYTE
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn millis(at: u64) -> Duration {
        Duration::from_millis(at)
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let mut bucket = Bucket::new(RateLimit { bytes_per_second: 1000, burst: 100 });
        assert!(bucket.admits(60, millis(0)) && bucket.admits(60, millis(0)));
        assert!(!bucket.admits(1, millis(20)));
        assert!(bucket.admits(500, millis(21)));
        assert!(!bucket.admits(1, millis(520)));
        assert!(bucket.admits(1, millis(521)));
        // A silence fills no more than the burst.
        assert!(bucket.admits(101, millis(100_000)) && !bucket.admits(1, millis(100_001)));
    }

    #[test]
    fn a_clock_that_goes_back_fills_nothing() {
        let mut bucket = Bucket::new(RateLimit { bytes_per_second: 1000, burst: 1 });
        assert!(bucket.admits(10, millis(50)));
        assert!(!bucket.admits(1, millis(0)) && !bucket.admits(1, millis(50)));
    }

    #[test]
    fn extremes_do_not_overflow() {
        let mut bucket = Bucket::new(RateLimit { bytes_per_second: u64::MAX, burst: u64::MAX });
        assert!(bucket.admits(u64::MAX, Duration::ZERO));
        assert!(!bucket.admits(1, Duration::ZERO));
        assert!(bucket.admits(1, Duration::MAX));
    }

    proptest! {
        #[test]
        fn no_more_than_the_rate_passes(
            rate in 1..10_000_u64,
            burst in 1..1000_u64,
            chunks in prop::collection::vec((0..200_u64, 1..500_u64), 1..100),
        ) {
            let mut bucket = Bucket::new(RateLimit { bytes_per_second: rate, burst });
            let (mut now, mut passed, mut largest) = (0, 0, 0);
            for (wait, len) in chunks {
                now += wait;
                largest = largest.max(len);
                passed += if bucket.admits(len, millis(now)) { len } else { 0 };
                prop_assert!(passed <= burst + rate * now / 1000 + largest + 1);
            }
        }
    }
}
