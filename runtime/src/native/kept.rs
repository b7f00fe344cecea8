//! User namespaces for id-mapped mounts. Nobody lives in them, ranges come back, and the maps of a range never change:
//! so those used last are kept. A container needs its own only while it is made; those of living containers that were
//! made long ago are the first to go.

use std::collections::VecDeque;

/// Descriptors that may be spent on it.
const MOST: usize = 64;

/// What was made for maps, by the maps.
#[derive(Debug)]
pub(super) struct Kept<K, T> {
    /// The one used last is the last.
    list: VecDeque<(K, T)>,
}

impl<K, T> Default for Kept<K, T> {
    fn default() -> Self {
        Self { list: VecDeque::new() }
    }
}

impl<K: PartialEq, T: Clone> Kept<K, T> {
    pub(super) fn get(&mut self, ids: &K) -> Option<T> {
        let at = self.list.iter().position(|(have, _)| have == ids)?;
        let entry = self.list.remove(at)?;
        let found = entry.1.clone();
        self.list.push_back(entry);
        Some(found)
    }

    pub(super) fn put(&mut self, ids: K, made: T) {
        self.list.retain(|(have, _)| *have != ids);
        if self.list.len() == MOST {
            self.list.pop_front();
        }
        self.list.push_back((ids, made));
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
            kept.put(n, n);
            assert_eq!(kept.get(&n), Some(n));
        }
        assert_eq!(kept.get(&936), Some(936));
        kept.put(1000, 1000);
        assert_eq!((kept.get(&936), kept.get(&937)), (Some(936), None));
        kept.put(936, 7);
        assert_eq!((kept.get(&936), kept.list.len()), (Some(7), MOST));
    }
}
