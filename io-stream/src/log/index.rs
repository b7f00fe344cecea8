//! The index beside a segment: which bytes were read when, and in which order; pure.
//!
//! An entry is written *before* the bytes that it is about, so that no byte in the log is ever without
//! one: what a crash leaves behind is at most an entry without bytes. Entries have a fixed size and a
//! check each; a torn or damaged one is skipped, and its bytes count to the entry before it.

use std::time::{Duration, SystemTime};

use super::loss::Loss;
use super::segment::MAX_OFFSET;
use crate::cursor::check;

/// Bytes of one entry.
pub(crate) const ENTRY: usize = 40;
const CHECKED: usize = ENTRY - 4;

/// From `offset` on, up to the next entry, the bytes were read at this time as number `seq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) offset: u64,
    pub(crate) seq: u64,
    /// Since 1970.
    pub(crate) wall: Duration,
    pub(crate) mono: Duration,
    /// Why bytes are missing before it, if some are and it is the first of its segment.
    pub(crate) loss: Loss,
}

impl Entry {
    /// Offset, sequence number, the two clocks in nanoseconds, why bytes are missing before, three zero bytes, check;
    /// little endian.
    pub(crate) fn encode(&self) -> [u8; ENTRY] {
        let mut bytes = [0; ENTRY];
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let values = [self.offset, self.seq, nanos(self.wall), nanos(self.mono)];
        for (place, value) in bytes.chunks_mut(8).zip(values) {
            place.copy_from_slice(&value.to_le_bytes());
        }
        bytes[32] = self.loss.code();
        let check = check(&bytes[..CHECKED]);
        bytes[CHECKED..].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; ENTRY]) -> Option<Self> {
        let value = |at: usize| u64::from_le_bytes(std::array::from_fn(|index| bytes[at * 8 + index]));
        let found: [u8; 4] = std::array::from_fn(|index| bytes[CHECKED + index]);
        let sane = value(0).max(value(1)) <= MAX_OFFSET && bytes[33..CHECKED] == [0; 3];
        let loss = Loss::from_code(bytes[32])?;
        (sane && check(&bytes[..CHECKED]).to_le_bytes() == found).then(|| Self {
            offset: value(0),
            seq: value(1),
            wall: Duration::from_nanos(value(2)),
            mono: Duration::from_nanos(value(3)),
            loss,
        })
    }

    /// The wall-clock time.
    pub(crate) fn wall_time(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.wall
    }
}

/// The entries of one segment, as far as they were read; grows with its file.
#[derive(Debug, Default)]
pub(crate) struct Index {
    entries: Vec<Entry>,
    /// Bytes of the file that were looked at.
    seen: u64,
}

impl Index {
    /// Looks at what was appended to the file since: `more` begins at [`Index::seen`]. A rest that is
    /// shorter than an entry is looked at again next time.
    pub(crate) fn extend(&mut self, base: u64, more: &[u8]) {
        let (entries, _) = more.as_chunks::<ENTRY>();
        for bytes in entries {
            self.seen += ENTRY as u64;
            if let Some(entry) = Entry::decode(bytes) {
                self.add(base, entry);
            }
        }
    }

    /// Entries only go forward; of two for the same place the later one holds: the first one's bytes
    /// never came.
    fn add(&mut self, base: u64, entry: Entry) {
        let after = |last: &Entry| last.offset <= entry.offset && last.seq < entry.seq;
        if entry.offset < base || !self.entries.last().is_none_or(after) {
            return;
        }
        if self.entries.last().is_some_and(|last| last.offset == entry.offset) {
            self.entries.pop();
        }
        self.entries.push(entry);
    }

    /// How many bytes of the file were looked at: where the next whole entry goes.
    pub(crate) const fn seen(&self) -> u64 {
        self.seen
    }

    /// All of them, in order.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Why the bytes before its first one are missing, if some are.
    pub(crate) fn loss_before(&self) -> Loss {
        self.entries.first().map_or(Loss::Full, |entry| entry.loss)
    }

    /// The entry of the byte at `offset`, and the offset from which on another one holds.
    pub(crate) fn at(&self, offset: u64) -> (Option<Entry>, u64) {
        let next = self.entries.partition_point(|entry| entry.offset <= offset);
        let until = self.entries.get(next).map_or(u64::MAX, |entry| entry.offset);
        (next.checked_sub(1).and_then(|at| self.entries.get(at)).copied(), until)
    }
}

/// Fuzz target: any bytes are an index, entries go forward, and growing gives what reading at once does.
#[cfg(test)]
fn fuzz_index(bytes: &[u8]) {
    let mut whole = Index::default();
    whole.extend(0, bytes);
    let mut grown = Index::default();
    for step in [bytes.len() / 3, bytes.len() / 2, bytes.len()] {
        let from = grown.seen() as usize;
        if let Some(more) = bytes.get(from..step) {
            grown.extend(0, more);
        }
    }
    assert_eq!(whole.entries, grown.entries);
    assert!(whole.entries.is_sorted_by(|a, b| a.offset < b.offset && a.seq < b.seq));
    for entry in whole.entries() {
        let (found, until) = whole.at(entry.offset);
        assert!(found == Some(*entry) && until > entry.offset);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(offset: u64, seq: u64) -> Entry {
        Entry { offset, seq, wall: Duration::new(1_700_000_000, 5), mono: Duration::from_nanos(seq), loss: Loss::Full }
    }

    fn file(entries: &[Entry]) -> Vec<u8> {
        entries.iter().flat_map(Entry::encode).collect()
    }

    fn index(bytes: &[u8]) -> Index {
        let mut index = Index::default();
        index.extend(100, bytes);
        index
    }

    #[test]
    fn a_byte_belongs_to_the_entry_before_it() {
        let index = index(&file(&[entry(100, 1), entry(150, 4), entry(200, 5)]));
        assert_eq!(index.at(99), (None, 100));
        assert_eq!(index.at(100), (Some(entry(100, 1)), 150));
        assert_eq!(index.at(199), (Some(entry(150, 4)), 200));
        assert_eq!(index.at(u64::MAX), (Some(entry(200, 5)), u64::MAX));
    }

    #[test]
    fn an_entry_without_bytes_gives_way() {
        let index = index(&file(&[entry(100, 1), entry(150, 2), entry(150, 7)]));
        assert_eq!(index.entries(), [entry(100, 1), entry(150, 7)]);
    }

    #[test]
    fn torn_and_damaged_entries_are_skipped() {
        let mut bytes = file(&[entry(100, 1), entry(150, 2), entry(200, 3)]);
        bytes[ENTRY + 3] ^= 1;
        bytes.truncate(3 * ENTRY - 1);
        let mut index = index(&bytes);
        assert_eq!((index.entries(), index.seen()), (&[entry(100, 1)][..], 2 * ENTRY as u64));
        index.extend(100, &entry(200, 3).encode());
        assert_eq!(index.entries(), [entry(100, 1), entry(200, 3)]);
        // Backwards is no order.
        index.extend(100, &file(&[entry(120, 9), entry(300, 2), entry(300, 9)]));
        assert_eq!(index.entries().last(), Some(&entry(300, 9)));
        assert_eq!(index.entries().len(), 3);
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_index(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            fuzz_index(&bytes);
        }

        #[test]
        fn a_flipped_bit_costs_one_entry_at_most(count in 1..8_usize, bit in any::<prop::sample::Index>()) {
            let entries: Vec<_> = (0..count as u64).map(|at| entry(100 + at * 10, at)).collect();
            let mut bytes = file(&entries);
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            fuzz_index(&bytes);
            let kept = index(&bytes).entries().to_vec();
            prop_assert_eq!(kept.len(), count - 1);
            prop_assert!(kept.iter().all(|entry| entries.contains(entry)));
        }
    }
}
