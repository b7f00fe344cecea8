//! Closed segments, compressed (feature `zstd`).
//!
//! Run by whoever has a thread for it (`compressor.rs`, or who calls), never by the pump. Offsets stay what they are: readers unpack on
//! the way.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use zstd::stream::{read::Decoder, write::Encoder};
use zstd::zstd_safe;

use super::change::{Change, Watch};
use super::error::LogError;
use super::files;
use super::segment::{self, Form, Segment};
use crate::chunk::Source;

const COMPRESS: &str = "compress segments in";

/// Compresses every closed segment of the log in `dir` that is not yet, at zstd's `level` (0: its
/// default). Gives how many. Beside [`LogOptions::compress`](super::LogOptions::compress), for logs that nobody writes.
///
/// Blocks for as long as it takes: call it on a thread that may, as tokio's `spawn_blocking` is. A
/// compressed segment appears whole before the plain one goes; interrupted, it leaves a file ending in
/// `.new` that the next call writes over. One that somebody else is compressing is left to them.
///
/// # Errors
///
/// [`LogErrorKind::Io`](super::LogErrorKind::Io), at the first segment that cannot be compressed.
pub fn compress_closed(dir: impl AsRef<Path>, level: i32) -> Result<usize, LogError> {
    let dir = dir.as_ref();
    let mut count = 0;
    for segment in uncompressed(dir).map_err(LogError::io(COMPRESS, dir))? {
        let found = compress(dir, &segment, level, &Watch::default()).map_err(LogError::io(COMPRESS, dir))?;
        count += usize::from(found == Found::Compressed);
    }
    Ok(count)
}

/// Closed segments that are not compressed, the oldest first.
pub(crate) fn uncompressed(dir: &Path) -> io::Result<Vec<Segment>> {
    let mut found = Vec::new();
    for source in Source::ALL {
        let mut segments = segment::list(dir, source)?;
        // The last one is being written.
        segments.pop();
        found.extend(segments.into_iter().filter(|segment| segment.form == Form::Plain));
    }
    Ok(found)
}

/// What became of a segment that was to be compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    Compressed,
    /// It was removed, or somebody else has compressed it.
    Gone,
    /// Somebody else is compressing it, or writes it again.
    InWork,
}

/// Compresses one segment. Whoever does has its plain file locked: nobody else writes its draft.
pub(crate) fn compress(dir: &Path, plain: &Segment, level: i32, watch: &Watch) -> io::Result<Found> {
    let packed = Segment { form: Form::Zstd, ..*plain };
    let from = match files::read(&plain.data(dir)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Gone),
        file => file?,
    };
    match flock(&from, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => return Ok(Found::InWork),
        locked => locked?,
    }
    // Who had it locked before may have done it: what is open is then no file of the log any more.
    if from.metadata()?.nlink() == 0 {
        return Ok(Found::Gone);
    }
    let draft = packed.draft(dir);
    let done = pack(&from, &draft, level).and_then(|len| {
        watch.tell(Change::Packed);
        // Whoever looks at the directory meanwhile could see neither of the two.
        let place = segment::alone(dir)?;
        // A log that was opened meanwhile goes on in it, if nothing was in the one behind it.
        let last = segment::list(dir, plain.source)?.last().copied();
        if last.is_some_and(|last| last.base == plain.base) || from.metadata()?.len() != len {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        fs::rename(&draft, packed.data(dir))?;
        // The compressed one is there for good before the plain one goes, whatever the machine does.
        place.sync_all()?;
        watch.tell(Change::Doubled);
        Ok(place)
    });
    let _place = match done {
        // The segment was removed, and its draft with it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Gone),
        Err(error) => {
            let _ = files::remove(&draft);
            return if error.kind() == io::ErrorKind::ResourceBusy { Ok(Found::InWork) } else { Err(error) };
        }
        Ok(place) => place,
    };
    match fs::remove_file(plain.data(dir)) {
        // It was removed meanwhile: it must not come back.
        Err(error) if error.kind() == io::ErrorKind::NotFound => segment::remove(dir, &packed).map(|()| Found::Gone),
        other => {
            other?;
            watch.tell(Change::Compressed);
            Ok(Found::Compressed)
        }
    }
}

/// How many bytes were packed.
fn pack(from: &File, draft: &Path, level: i32) -> io::Result<u64> {
    let mut encoder = Encoder::new(files::fresh(draft)?, level)?;
    let found = from.metadata()?;
    // Readers learn the length from the frame.
    encoder.set_pledged_src_size(Some(found.len()))?;
    encoder.include_contentsize(true)?;
    encoder.include_checksum(true)?;
    io::copy(&mut from.take(found.len()), &mut encoder)?;
    let packed = encoder.finish()?;
    // As old as what it stands for: retention goes by that.
    packed.set_modified(found.modified()?)?;
    packed.sync_data().map(|()| found.len())
}

/// A compressed segment as the bytes that it was.
pub(crate) struct Unpacked {
    decoder: Decoder<'static, BufReader<File>>,
    file: File,
    /// Offset in the segment of the decoder's next byte.
    at: u64,
    len: u64,
}

impl Unpacked {
    pub(crate) fn new(file: File) -> io::Result<Self> {
        let mut head = [0; 18];
        let read = file.read_at(&mut head, 0)?;
        let size = zstd_safe::get_frame_content_size(&head[..read]).ok().flatten();
        let len = size.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no segment of a log"))?;
        Ok(Self { decoder: Decoder::new(file.try_clone()?)?, file, at: 0, len })
    }

    pub(crate) const fn len(&self) -> u64 {
        self.len
    }

    /// Fills `buffer` from `at` on. Going forward costs what it skips, going back begins anew.
    pub(crate) fn read_at(&mut self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        if at < self.at {
            self.file.rewind()?;
            self.decoder = Decoder::new(self.file.try_clone()?)?;
            self.at = 0;
        }
        let skip = at - self.at;
        let skipped = io::copy(&mut self.decoder.by_ref().take(skip), &mut io::sink())?;
        self.at += skipped;
        let mut read = 0;
        while skipped == skip && read < buffer.len() {
            match self.decoder.read(&mut buffer[read..])? {
                0 => break,
                len => read += len,
            }
        }
        self.at += read as u64;
        Ok(read)
    }
}

impl fmt::Debug for Unpacked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unpacked").field("at", &self.at).field("len", &self.len).finish_non_exhaustive()
    }
}
