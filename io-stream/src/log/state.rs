//! The state file of a log: whose it is, and what no length can tell.
//!
//! Written whole once, when the log is made; later only its slots are overwritten in place, which needs
//! no room and so works on a full disk. It is also what the writer locks.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::files;
use super::loss::Loss;
use super::segment::MAX_OFFSET;
use crate::chunk::{Generation, PerSource, Source};
use crate::cursor::{StreamId, check};
use crate::event::EndReason;
use crate::fate::Fate;

/// Its name in the log's directory.
pub(crate) const NAME: &str = "log.state";
const MAGIC: &[u8; 8] = b"orgylog1";
const HEADER: usize = 32;
const SLOT: usize = 16;
const LEN: usize = HEADER + 2 * SLOT;

/// What is known of one source besides its segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Slot {
    /// The stream has been read at least up to here, into the log or, when that was full, away.
    pub(crate) taken: u64,
    /// Why what lies behind the last segment is not there.
    pub(crate) loss: Loss,
    /// How it ended, once it has.
    pub(crate) end: Option<EndReason>,
    /// And what became of the process.
    pub(crate) fate: Fate,
}

/// A whole state file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) stream: StreamId,
    pub(crate) generation: Generation,
    pub(crate) slots: PerSource<Slot>,
}

impl State {
    /// Magic, identity, generation, check; then for each source: offset, end, loss, fate, check.
    pub(crate) fn encode(&self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..24].copy_from_slice(&self.stream.to_bytes());
        bytes[24..28].copy_from_slice(&self.generation.0.to_le_bytes());
        let sum = check(&bytes[..28]);
        bytes[28..HEADER].copy_from_slice(&sum.to_le_bytes());
        for (source, place) in Source::ALL.into_iter().zip(bytes[HEADER..].chunks_mut(SLOT)) {
            place.copy_from_slice(&self.slots[source].encode());
        }
        bytes
    }

    /// `None` if this is no state file; a damaged slot is one that nothing is known of.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; LEN] = bytes.try_into().ok()?;
        if bytes[..8] != *MAGIC || check(&bytes[..28]).to_le_bytes() != bytes[28..HEADER] {
            return None;
        }
        let slot = |source| Slot::decode(&bytes[slot_at(source)..slot_at(source) + SLOT]).unwrap_or_default();
        Some(Self {
            stream: StreamId::from_bytes(std::array::from_fn(|at| bytes[8 + at])),
            generation: Generation(u32::from_le_bytes(std::array::from_fn(|at| bytes[24 + at]))),
            slots: PerSource::from_fn(slot),
        })
    }

    /// Reads the state file of the log in `dir`.
    pub(crate) fn read(file: &File) -> io::Result<Self> {
        let mut bytes = [0; LEN];
        file.read_exact_at(&mut bytes, 0)?;
        Self::decode(&bytes).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no state file of a log"))
    }

    /// Makes the state file of a new log in `dir`; it appears whole, and locked, or not at all, and never in the place of
    /// another.
    pub(crate) fn create(&self, dir: &Path) -> io::Result<File> {
        // Of a name that nobody else uses: two who make a log here at once do not write into each other's.
        let unique = u64::from_le_bytes(std::array::from_fn(|at| StreamId::random().to_bytes()[at]));
        let draft = dir.join(format!("{NAME}.{unique:016x}.new"));
        let made = files::create(&draft).and_then(|file| {
            flock(&file, FlockOperation::NonBlockingLockExclusive)?;
            file.write_all_at(&self.encode(), 0)?;
            files::appear(&draft, &dir.join(NAME))?;
            Ok(file)
        });
        if made.is_err() {
            // On a full disk, say.
            let _ = files::remove(&draft);
        }
        made
    }
}

/// Opens the state file of the log in `dir` for a writer, and locks it; `WouldBlock` while another has it.
pub(crate) fn open(dir: &Path) -> io::Result<File> {
    for _ in 0..8 {
        let file = files::write(&dir.join(NAME))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        // Whoever had it may have removed it, and another be there.
        if is_at(&file, dir)? {
            return Ok(file);
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, "the state file keeps disappearing"))
}

/// Opens it once more, for whoever wants it written to the disk.
pub(crate) fn reopen(dir: &Path) -> io::Result<File> {
    files::write(&dir.join(NAME))
}

fn is_at(file: &File, dir: &Path) -> io::Result<bool> {
    let (ours, there) = (file.metadata()?, std::fs::symlink_metadata(dir.join(NAME)));
    Ok(there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())))
}

const fn slot_at(source: Source) -> usize {
    HEADER + SLOT * source as usize
}

impl Slot {
    /// Writes it in place.
    pub(crate) fn write(&self, file: &File, source: Source) -> io::Result<()> {
        file.write_all_at(&self.encode(), slot_at(source) as u64)
    }

    fn encode(&self) -> [u8; SLOT] {
        let mut bytes = [0; SLOT];
        bytes[..8].copy_from_slice(&self.taken.to_le_bytes());
        bytes[8] = match self.end {
            None => 0,
            Some(EndReason::Eof) => 1,
            Some(EndReason::Leaked) => 2,
            Some(EndReason::Error(_)) => 3,
            Some(EndReason::Abandoned) => 4,
        };
        bytes[9] = self.loss.code();
        bytes[10..12].copy_from_slice(&self.fate.encode());
        let sum = check(&bytes[..12]);
        bytes[12..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; SLOT] = bytes.try_into().ok()?;
        if check(&bytes[..12]).to_le_bytes() != bytes[12..] {
            return None;
        }
        let end = match bytes[8] {
            0 => None,
            1 => Some(EndReason::Eof),
            2 => Some(EndReason::Leaked),
            3 => Some(EndReason::Error(crate::error::StreamErrorKind::Read)),
            4 => Some(EndReason::Abandoned),
            _ => return None,
        };
        let taken = u64::from_le_bytes(std::array::from_fn(|at| bytes[at]));
        let loss = Loss::from_code(bytes[9])?;
        let fate = Fate::decode([bytes[10], bytes[11]])?;
        (taken <= MAX_OFFSET).then_some(Self { taken, loss, end, fate })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn state() -> State {
        let slots = PerSource::from_fn(|source| Slot {
            taken: 1000,
            loss: if source == Source::Stdout { Loss::OverLimit } else { Loss::Full },
            end: (source == Source::Stderr).then_some(EndReason::Leaked),
            fate: Fate::Code(3),
        });
        State { stream: StreamId::from_bytes([9; 16]), generation: Generation(3), slots }
    }

    #[test]
    fn it_is_read_as_it_was_written() {
        assert_eq!(State::decode(&state().encode()), Some(state()));
    }

    #[test]
    fn a_damaged_slot_is_unknown_and_the_rest_stays() {
        let mut bytes = state().encode();
        bytes[HEADER] ^= 1;
        let found = State::decode(&bytes).unwrap();
        assert_eq!(found.slots[Source::Stdout], Slot::default());
        assert_eq!(found.slots[Source::Stderr], state().slots[Source::Stderr]);
    }

    proptest! {
        #[test]
        fn any_other_bytes_are_no_state(at in 0..HEADER, bit in 0..8_u32, rest in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut bytes = state().encode();
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(State::decode(&bytes), None);
            prop_assert_eq!(State::decode(&rest), None);
        }
    }
}
