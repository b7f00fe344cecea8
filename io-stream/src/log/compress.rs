//! Closed segments, compressed (feature `zstd`).
//!
//! Run by whoever has a thread for it, never by the pump. Offsets stay what they are: readers unpack on
//! the way.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::Path;

use zstd::stream::{read::Decoder, write::Encoder};
use zstd::zstd_safe;

use super::error::LogError;
use super::segment::{self, Form, Segment};
use crate::chunk::Source;

const COMPRESS: &str = "compress segments in";

/// Compresses every closed segment of the log in `dir` that is not yet, at zstd's `level` (0: its
/// default). Gives how many.
///
/// Blocks for as long as it takes: call it on a thread that may, as tokio's `spawn_blocking` is. A
/// compressed segment appears whole before the plain one goes; interrupted, it leaves a file ending in
/// `.new` that the next call writes over.
///
/// # Errors
///
/// [`LogErrorKind::Io`](super::LogErrorKind::Io), at the first segment that cannot be compressed.
pub fn compress_closed(dir: impl AsRef<Path>, level: i32) -> Result<usize, LogError> {
    let dir = dir.as_ref();
    let mut count = 0;
    for source in Source::ALL {
        let segments = segment::list(dir, source).map_err(LogError::io(COMPRESS, dir))?;
        // The last one is being written.
        for segment in segments.iter().rev().skip(1).filter(|segment| segment.form == Form::Plain) {
            count += usize::from(compress(dir, segment, level).map_err(LogError::io(COMPRESS, dir))?);
        }
    }
    Ok(count)
}

/// Compresses one segment; whether it was still there.
fn compress(dir: &Path, plain: &Segment, level: i32) -> io::Result<bool> {
    let packed = Segment { form: Form::Zstd, ..*plain };
    let draft = packed.data(dir).with_added_extension("new");
    let mut from = match File::open(plain.data(dir)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        file => file?,
    };
    let mut encoder = Encoder::new(File::create(&draft)?, level)?;
    // Readers learn the length from the frame.
    encoder.set_pledged_src_size(Some(from.metadata()?.len()))?;
    encoder.include_contentsize(true)?;
    encoder.include_checksum(true)?;
    io::copy(&mut from, &mut encoder)?;
    let packed_file = encoder.finish()?;
    // As old as what it stands for: retention goes by that.
    packed_file.set_modified(from.metadata()?.modified()?)?;
    packed_file.sync_data()?;
    fs::rename(&draft, packed.data(dir))?;
    match fs::remove_file(plain.data(dir)) {
        // It was removed meanwhile: it must not come back.
        Err(error) if error.kind() == io::ErrorKind::NotFound => segment::remove(dir, &packed).map(|()| false),
        other => other.map(|()| true),
    }
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
