//! What a slow reader has not read yet, in a file without a name, in order; bounded.
//!
//! Used by a queue whose subscriber chose to spill. Written and read under that subscriber's lock: the
//! writes go to the page cache, so a directory on tmpfs never waits. The file has no name from its
//! birth on (O_TMPFILE, open(2)): nothing is left behind, however the process ends.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rustix::fs::{FallocateFlags, Mode, OFlags, fallocate};

use crate::chunk::{Chunk, Generation, PerSource, Source};
use crate::cursor::StreamId;
use crate::event::{Gap, GapCause};
use crate::queue::Item;

/// Bytes of a record's header.
const HEADER: usize = 64;
/// What was read is given back to the file system in pieces of this size.
const PIECE: u64 = 1024 * 1024;

/// A queue on disk. Bound: `limit` bytes of records, those included that were read but whose blocks the
/// file system has not back yet; overflow: the newest chunk is refused, and the queue above counts it.
#[derive(Debug)]
pub(crate) struct Spill {
    dir: PathBuf,
    limit: u64,
    file: Option<File>,
    /// First and last byte of what is not read yet.
    read: u64,
    write: u64,
    /// Up to here the file system has its blocks back.
    freed: u64,
    /// Payload bytes not read yet.
    bytes: u64,
    /// The offsets that are in the file: what is missing if it cannot be read.
    spans: PerSource<Option<(u64, u64)>>,
    of: (StreamId, Generation),
}

impl Spill {
    /// An empty one; the file is made in `dir` when it is first needed.
    pub(crate) fn new(dir: PathBuf, limit: u64) -> Self {
        Self {
            dir,
            limit,
            file: None,
            read: 0,
            write: 0,
            freed: 0,
            bytes: 0,
            spans: PerSource::default(),
            of: (StreamId::from_bytes([0; 16]), Generation::default()),
        }
    }

    /// Whether everything was read.
    pub(crate) const fn is_empty(&self) -> bool {
        self.read == self.write
    }

    /// Payload bytes that wait in the file.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends `gaps` and then `chunk`, all or nothing; whether there was room.
    pub(crate) fn push(&mut self, gaps: &[Gap], chunk: &Chunk) -> bool {
        let mut record = Vec::with_capacity((gaps.len() + 1) * HEADER + chunk.data.len());
        gaps.iter().for_each(|gap| record.extend(Header::of_gap(gap).encode()));
        record.extend(Header::of_chunk(chunk).encode());
        record.extend(&chunk.data);
        let room = self.limit.saturating_sub(self.write - self.freed);
        if record.len() as u64 > room {
            return false;
        }
        if let Err(error) = self.append(&record) {
            tracing::warn!(%error, dir = %self.dir.display(), "cannot spill");
            return false;
        }
        gaps.iter().for_each(|gap| self.put(gap.source, gap.from, gap.to));
        self.put(chunk.source, chunk.offset, chunk.end());
        self.of = (chunk.stream, chunk.generation);
        self.write += record.len() as u64;
        self.bytes += chunk.len();
        true
    }

    /// The oldest record. If the file cannot be read, everything in it is lost: the gaps that say so.
    pub(crate) fn pop(&mut self) -> Result<Option<Item>, Vec<Gap>> {
        if self.is_empty() {
            return Ok(None);
        }
        match self.read_record() {
            Ok((item, len)) => {
                self.read += len;
                self.release();
                Ok(Some(item))
            }
            Err(error) => {
                tracing::warn!(%error, "cannot read what was spilled");
                let lost = Source::ALL.into_iter().filter_map(|source| {
                    let (from, to) = self.spans[source].take()?;
                    Some(Gap { source, from, to, cause: GapCause::SpillFailed })
                });
                let lost = lost.collect();
                self.bytes = 0;
                self.read = self.write;
                self.release();
                Err(lost)
            }
        }
    }

    fn put(&mut self, source: Source, from: u64, to: u64) {
        let begin = self.spans[source].map_or(from, |(begin, _)| begin);
        self.spans[source] = Some((begin, to));
    }

    fn take(&mut self, source: Source, to: u64) {
        self.spans[source] = self.spans[source].map(|(_, end)| (to, end)).filter(|(from, end)| from < end);
    }

    fn append(&mut self, record: &[u8]) -> io::Result<()> {
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(unnamed(&self.dir)?),
        };
        file.write_all_at(record, self.write)
    }

    fn read_record(&mut self) -> io::Result<(Item, u64)> {
        let file = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let mut bytes = [0; HEADER];
        file.read_exact_at(&mut bytes, self.read)?;
        let header = Header::decode(&bytes).ok_or(io::ErrorKind::InvalidData)?;
        if let Some(cause) = header.gap {
            let gap = Gap { source: header.source, from: header.offset, to: header.other, cause };
            self.take(gap.source, gap.to);
            return Ok((Item::Gap(gap), HEADER as u64));
        }
        let mut data = vec![0; header.len as usize];
        file.read_exact_at(&mut data, self.read + HEADER as u64)?;
        let chunk = header.chunk(self.of, data);
        self.take(chunk.source, chunk.end());
        self.bytes -= chunk.len();
        let len = HEADER as u64 + chunk.len();
        Ok((Item::Chunk(chunk), len))
    }

    /// Gives back what was read: all at once when nothing is left, else in large pieces.
    fn release(&mut self) {
        let Some(file) = &self.file else { return };
        if self.is_empty() {
            if file.set_len(0).is_ok() {
                (self.read, self.write, self.freed) = (0, 0, 0);
            }
            return;
        }
        let len = (self.read - self.freed) / PIECE * PIECE;
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        // Where holes are not known the blocks stay, and count, until all was read.
        if len > 0 && fallocate(file, flags, self.freed, len).is_ok() {
            self.freed += len;
        }
    }
}

fn unnamed(dir: &std::path::Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    Ok(rustix::fs::open(dir, flags, Mode::RUSR | Mode::WUSR)?.into())
}

/// One record's fixed part, native to this process: nobody else ever reads it.
struct Header {
    source: Source,
    gap: Option<GapCause>,
    len: u32,
    offset: u64,
    /// Of a chunk the other source's offset, of a gap its end.
    other: u64,
    seq: u64,
    wall: Duration,
    mono: Duration,
}

impl Header {
    fn of_gap(gap: &Gap) -> Self {
        let zero = Duration::ZERO;
        let Gap { source, from: offset, to: other, cause } = *gap;
        Self { source, gap: Some(cause), len: 0, offset, other, seq: 0, wall: zero, mono: zero }
    }

    fn of_chunk(chunk: &Chunk) -> Self {
        Self {
            source: chunk.source,
            gap: None,
            len: chunk.data.len() as u32,
            offset: chunk.offset,
            other: chunk.other_offset,
            seq: chunk.seq,
            // A clock that stands before 1970 is told as 1970.
            wall: chunk.wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
            mono: chunk.mono,
        }
    }

    fn chunk(&self, (stream, generation): (StreamId, Generation), data: Vec<u8>) -> Chunk {
        Chunk {
            stream,
            source: self.source,
            generation,
            offset: self.offset,
            other_offset: self.other,
            seq: self.seq,
            wall: SystemTime::UNIX_EPOCH + self.wall,
            mono: self.mono,
            data: data.into(),
        }
    }

    fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0] = u8::from(self.source == Source::Stderr);
        bytes[1] = self.gap.map_or(0, |cause| cause.code());
        bytes[4..8].copy_from_slice(&self.len.to_ne_bytes());
        let times = [self.wall, self.mono].map(|time| time.as_nanos() as u64);
        for (at, value) in [self.offset, self.other, self.seq, times[0], times[1]].into_iter().enumerate() {
            bytes[8 + at * 8..16 + at * 8].copy_from_slice(&value.to_ne_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8; HEADER]) -> Option<Self> {
        let value = |at: usize| u64::from_ne_bytes(std::array::from_fn(|index| bytes[8 + at * 8 + index]));
        Some(Self {
            source: if bytes[0] == 0 { Source::Stdout } else { Source::Stderr },
            gap: match bytes[1] {
                0 => None,
                code => Some(GapCause::from_code(code)?),
            },
            len: u32::from_ne_bytes(std::array::from_fn(|index| bytes[4 + index])),
            offset: value(0),
            other: value(1),
            seq: value(2),
            wall: Duration::from_nanos(value(3)),
            mono: Duration::from_nanos(value(4)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::Source::{Stderr, Stdout};
    use crate::chunk::testing::chunk;

    fn spill(limit: u64) -> Spill {
        Spill::new(std::env::temp_dir(), limit)
    }

    fn gap(source: Source, from: u64, to: u64, cause: GapCause) -> Gap {
        Gap { source, from, to, cause }
    }

    #[test]
    fn what_goes_in_comes_out_in_order() {
        let mut spill = spill(10_000);
        let mut late = chunk(Stderr, 3, 9, 1);
        late.wall += Duration::new(5, 7);
        late.mono = Duration::new(1, 2);
        late.other_offset = 30;
        let lost = [gap(Stderr, 2, 9, GapCause::Suppressed), gap(Stdout, 10, 30, GapCause::SpillFull)];
        assert!(spill.push(&[], &chunk(Stdout, 0, 0, 10)) && spill.push(&lost, &late));
        assert_eq!(spill.bytes(), 11);
        let all: Vec<_> = std::iter::from_fn(|| spill.pop().unwrap()).collect();
        let [first, second] = lost.map(Item::Gap);
        assert_eq!(all, [Item::Chunk(chunk(Stdout, 0, 0, 10)), first, second, Item::Chunk(late)]);
        assert!(spill.is_empty());
        assert_eq!((spill.write, spill.bytes()), (0, 0));
    }

    #[test]
    fn room_comes_back_as_it_is_read() {
        let mut spill = spill(3 * PIECE);
        let len = PIECE / 4;
        let (mut pushed, mut popped) = (0, 0);
        for _ in 0..50 {
            while spill.push(&[], &chunk(Stdout, pushed, pushed * len, len)) {
                pushed += 1;
            }
            for _ in 0..5 {
                let Some(Item::Chunk(found)) = spill.pop().unwrap() else { panic!("nothing there") };
                assert_eq!((found.seq, found.offset), (popped, popped * len));
                popped += 1;
            }
            assert!(spill.write - spill.freed <= 3 * PIECE);
        }
        assert!(pushed > 200);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_one_gap_for_each_source() {
        let mut spill = spill(10_000);
        for (seq, source, offset) in [(0, Stdout, 0), (1, Stdout, 10), (2, Stderr, 0)] {
            assert!(spill.push(&[], &chunk(source, seq, offset, 10)));
        }
        assert!(spill.pop().is_ok());
        spill.file.as_ref().unwrap().set_len(100).unwrap();
        let failed = GapCause::SpillFailed;
        assert_eq!(spill.pop(), Err(vec![gap(Stdout, 10, 20, failed), gap(Stderr, 0, 10, failed)]));
        assert!(spill.is_empty());
        assert!(spill.push(&[], &chunk(Stdout, 3, 20, 10)));
        assert_eq!(spill.pop(), Ok(Some(Item::Chunk(chunk(Stdout, 3, 20, 10)))));
    }

    #[test]
    fn a_missing_directory_is_a_spill_without_room() {
        let mut spill = Spill::new("/nowhere/at/all".into(), 1000);
        assert!(!spill.push(&[], &chunk(Stdout, 0, 0, 1)));
        assert_eq!(spill.pop(), Ok(None));
    }
}
