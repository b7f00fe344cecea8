//! When to try again, and when to give up. Pure.

use std::time::Duration;

/// The first pause: a daemon that is replaced is away for less.
const FIRST: Duration = Duration::from_millis(20);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(1);

/// Pauses that double, up to [`LONGEST`], and that are no longer than `patience` together.
#[derive(Clone, Debug)]
pub(crate) struct BackOff {
    patience: Duration,
    left: Duration,
    next: Duration,
}

impl BackOff {
    pub(crate) const fn new(patience: Duration) -> Self {
        Self { patience, left: patience, next: FIRST }
    }

    /// How long to wait before the next attempt; `None`: it has been tried for long enough.
    pub(crate) fn pause(&mut self) -> Option<Duration> {
        if self.left.is_zero() {
            return None;
        }
        let pause = self.next.min(self.left);
        self.left -= pause;
        self.next = (self.next * 2).min(LONGEST);
        Some(pause)
    }

    /// It has worked: the next trouble is a new one.
    pub(crate) fn worked(&mut self) {
        *self = Self::new(self.patience);
    }

    pub(crate) const fn patience(&self) -> Duration {
        self.patience
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pauses_double_and_end() {
        let mut back_off = BackOff::new(Duration::from_millis(100));
        let pauses: Vec<u128> = std::iter::from_fn(|| back_off.pause()).map(|pause| pause.as_millis()).collect();
        assert_eq!(pauses, [20, 40, 40]);
        assert_eq!(back_off.pause(), None);
        back_off.worked();
        assert_eq!(back_off.pause(), Some(FIRST));
        assert_eq!(BackOff::new(Duration::ZERO).pause(), None);
    }

    proptest! {
        #[test]
        fn together_they_are_as_long_as_the_patience(patience in 0_u64..100_000) {
            let mut back_off = BackOff::new(Duration::from_millis(patience));
            let pauses: Vec<Duration> = std::iter::from_fn(|| back_off.pause()).collect();
            prop_assert_eq!(pauses.iter().sum::<Duration>(), Duration::from_millis(patience));
            prop_assert!(pauses.iter().all(|pause| (Duration::from_nanos(1)..=LONGEST).contains(pause)));
            prop_assert!(pauses.len() as u64 <= patience / 1000 + 7);
        }
    }
}
