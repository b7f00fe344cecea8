//! Whose turn it is: deficit round robin over those that have something. Pure.

use std::collections::VecDeque;

/// What a piece counts at least, so that many small ones are not a long turn.
const LEAST: i64 = 256;

/// Those that have something, the one whose turn it is first.
#[derive(Debug)]
pub(super) struct Turns {
    line: VecDeque<Standing>,
    each: i64,
}

#[derive(Debug)]
struct Standing {
    key: u64,
    /// What it may still take. Below nothing: the last piece was larger than that.
    credit: i64,
}

impl Turns {
    /// In turns of so many bytes.
    pub(super) fn new(bytes: usize) -> Self {
        Self { line: VecDeque::new(), each: i64::try_from(bytes.max(1)).unwrap_or(i64::MAX) }
    }

    /// It has something now. It was not there.
    pub(super) fn join(&mut self, key: u64) {
        self.line.push_back(Standing { key, credit: 0 });
    }

    /// Whose turn it is. Others whose credit is below nothing are passed over, which pays off a part of it.
    pub(super) fn current(&mut self) -> Option<u64> {
        loop {
            let first = self.line.front_mut()?;
            if first.credit > 0 {
                return Some(first.key);
            }
            first.credit = first.credit.saturating_add(self.each);
            if first.credit <= 0 {
                self.line.rotate_left(1);
            }
        }
    }

    /// Whose turn it is has taken so much.
    pub(super) fn took(&mut self, bytes: u64) {
        if let Some(first) = self.line.front_mut() {
            first.credit -= i64::try_from(bytes).unwrap_or(i64::MAX).max(LEAST);
            if first.credit <= 0 {
                self.line.rotate_left(1);
            }
        }
    }

    /// Whose turn it is has nothing any more. What it might still have taken is not kept.
    pub(super) fn leave(&mut self) {
        self.line.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn who_has_nothing_is_not_there() {
        let mut turns = Turns::new(0);
        assert_eq!(turns.current(), None);
        turns.join(7);
        assert_eq!(turns.current(), Some(7));
        turns.leave();
        assert_eq!(turns.current(), None);
        turns.took(1);
        turns.leave();
    }

    #[test]
    fn a_newcomer_waits_for_one_turn_of_each() {
        let mut turns = Turns::new(1000);
        (0..10).for_each(|key| turns.join(key));
        assert_eq!(turns.current(), Some(0));
        turns.took(900);
        turns.join(10);
        let mut before = 0;
        while turns.current() != Some(10) {
            turns.took(500);
            before += 1;
        }
        assert_eq!(before, 1 + 9 * 2);
    }

    proptest! {
        /// Whatever sizes their pieces have, those that always have something get the same, to within a turn and a piece.
        #[test]
        fn the_same_for_all(sizes in proptest::collection::vec(1..5000_u64, 2..8), each in 1..4000_usize) {
            let mut turns = Turns::new(each);
            (0..sizes.len() as u64).for_each(|key| turns.join(key));
            let mut got: BTreeMap<u64, u64> = (0..sizes.len() as u64).map(|key| (key, 0)).collect();
            for _ in 0..2000 {
                let key = turns.current().unwrap();
                let size = sizes[usize::try_from(key).unwrap()];
                turns.took(size);
                *got.get_mut(&key).unwrap() += size.max(256);
                let (least, most) = (got.values().min().unwrap(), got.values().max().unwrap());
                prop_assert!(most - least <= 5000 + 2 * each as u64, "{got:?}");
            }
        }
    }
}
