//! User namespaces for id-mapped mounts. Nobody lives in them, ranges come back, and the maps of a range never change:
//! so those used last are kept. A container needs its own only while it is made; those of living containers that were
//! made long ago are the first to go.

use std::collections::VecDeque;

/// Descriptors that may be spent on it.
const MOST: usize = 64;

/// What was made for a range, by the first ids of the range.
#[derive(Debug)]
pub(super) struct Kept<T> {
    /// The one used last is the last.
    list: VecDeque<((u32, u32), T)>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { list: VecDeque::new() }
    }
}

impl<T: Clone> Kept<T> {
    pub(super) fn get(&mut self, base: (u32, u32)) -> Option<T> {
        let at = self.list.iter().position(|(have, _)| *have == base)?;
        let entry = self.list.remove(at)?;
        let found = entry.1.clone();
        self.list.push_back(entry);
        Some(found)
    }

    pub(super) fn put(&mut self, base: (u32, u32), made: T) {
        self.list.retain(|(have, _)| *have != base);
        if self.list.len() == MOST {
            self.list.pop_front();
        }
        self.list.push_back((base, made));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With more living containers than are kept, the range that comes and goes is still found.
    #[test]
    fn the_ones_used_last_are_kept() {
        let mut kept = Kept::default();
        for n in 0..1000 {
            kept.put((n, n), n);
            assert_eq!(kept.get((n, n)), Some(n));
        }
        assert_eq!(kept.get((936, 936)), Some(936));
        kept.put((1000, 1000), 1000);
        assert_eq!((kept.get((936, 936)), kept.get((937, 937))), (Some(936), None));
        kept.put((936, 936), 7);
        assert_eq!((kept.get((936, 936)), kept.list.len()), (Some(7), MOST));
    }
}
