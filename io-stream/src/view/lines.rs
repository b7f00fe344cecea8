//! Bytes as lines; pure.
//!
//! Fed with the pieces of a stream, in order. A line inside one piece is a slice of it; only a line that
//! crosses pieces is copied, once.

use std::time::SystemTime;

use bytes::{Bytes, BytesMut};

use crate::chunk::{Chunk, PerSource, Source};

/// How bytes become lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LineOptions {
    /// The longest piece of a line, in bytes without its newline; a longer line comes in parts. 0 sets
    /// no limit: the longest line is then held in memory. Otherwise at least 4. Default 16 KiB.
    pub max_len: usize,
    /// What becomes of a carriage return in front of the newline. Default: it goes with it.
    pub carriage_return: CarriageReturn,
    /// After how long a silence an unfinished line is shown, as prompts want it; `None`: only when it is
    /// finished. Looked at by [`LineStream`](super::LineStream) alone. Default 100 ms.
    pub idle: Option<std::time::Duration>,
}

impl Default for LineOptions {
    fn default() -> Self {
        Self {
            max_len: 16 * 1024,
            carriage_return: CarriageReturn::default(),
            idle: Some(std::time::Duration::from_millis(100)),
        }
    }
}

/// What becomes of a carriage return in front of a newline. Others are always kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CarriageReturn {
    /// It belongs to the line's end.
    #[default]
    Strip,
    /// It is the line's last byte.
    Keep,
}

/// A line, or a part of one that is too long, unfinished, or cut by a gap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The stream that it came from.
    pub source: Source,
    /// Offset of the line's first byte: the same for all its parts.
    pub line: u64,
    /// Offset of this part's first byte.
    pub offset: u64,
    /// Offset of the first byte after it, its newline included.
    pub end: u64,
    /// When the first part of the line was read; `None` if nobody knows.
    pub wall: Option<SystemTime>,
    /// The bytes, without the newline, whatever they are.
    pub data: Bytes,
    /// Whether the line begins here.
    pub begins: bool,
    /// Whether its newline was seen.
    pub ends: bool,
    /// Whether the bytes are UTF-8. A part is never cut inside a character unless it had to be shown.
    pub utf8: bool,
}

impl Line {
    /// Whether it is a whole line.
    pub const fn is_whole(&self) -> bool {
        self.begins && self.ends
    }
}

/// Bytes of one source with their place, as [`Lines`] takes them apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The stream that they came from.
    pub source: Source,
    /// Offset of the first byte that is left.
    pub offset: u64,
    /// When they were read, if that is known.
    pub wall: Option<SystemTime>,
    /// What is left.
    pub data: Bytes,
}

impl From<Chunk> for Piece {
    fn from(chunk: Chunk) -> Self {
        Self { source: chunk.source, offset: chunk.offset, wall: Some(chunk.wall), data: chunk.data }
    }
}

impl Piece {
    fn split_to(&mut self, len: usize) -> Bytes {
        self.offset += len as u64;
        self.data.split_to(len)
    }
}

/// Takes pieces apart into lines, each source for itself.
///
/// Holds one unfinished line of each source: at most twice [`LineOptions::max_len`] bytes.
#[derive(Debug, Clone)]
pub struct Lines {
    max_len: usize,
    carriage_return: CarriageReturn,
    open: PerSource<Open>,
}

/// The line that a source is in.
#[derive(Debug, Clone)]
struct Open {
    /// What of it was not shown yet.
    data: BytesMut,
    offset: u64,
    /// Where it began, once a byte of it is there.
    line: Option<u64>,
    wall: Option<SystemTime>,
    begins: bool,
}

impl Default for Open {
    fn default() -> Self {
        Self { data: BytesMut::new(), offset: 0, line: None, wall: None, begins: true }
    }
}

/// The bytes of the longest UTF-8 character.
const CHARACTER: usize = 4;

impl Lines {
    /// A view that stands at the beginning of a line.
    pub fn new(options: LineOptions) -> Self {
        Self {
            max_len: if options.max_len == 0 { usize::MAX - 1 } else { options.max_len.max(CHARACTER) },
            carriage_return: options.carriage_return,
            open: PerSource::default(),
        }
    }

    /// The next line, or part of one, that is complete with what `piece` holds. Takes from `piece` what
    /// it used; `None` when it used everything.
    pub fn next_from(&mut self, piece: &mut Piece) -> Option<Line> {
        if piece.data.is_empty() {
            return None;
        }
        let open = &mut self.open[piece.source];
        if open.line.is_none() {
            (open.line, open.wall) = (Some(piece.offset), piece.wall);
        }
        if open.data.is_empty() {
            open.offset = piece.offset;
        }
        let room = self.max_len - open.data.len();
        let seen = &piece.data[..piece.data.len().min(room + 1)];
        if let Some(len) = seen.iter().position(|byte| *byte == b'\n') {
            let mut data = open.take(piece, len);
            drop(piece.split_to(1));
            if self.carriage_return == CarriageReturn::Strip && data.ends_with(b"\r") {
                data.truncate(data.len() - 1);
            }
            return Some(open.line(piece.source, data, piece.offset, true));
        }
        if seen.len() > room {
            let data = open.take(piece, room);
            let whole = data.len() - unfinished_character(&data);
            open.data.extend_from_slice(&data[whole..]);
            let end = piece.offset - open.data.len() as u64;
            return Some(open.line(piece.source, data.slice(..whole), end, false));
        }
        let all = piece.split_to(piece.data.len());
        open.data.extend_from_slice(&all);
        None
    }

    /// Whether an unfinished line waits for its rest.
    pub fn has_partial(&self) -> bool {
        Source::ALL.into_iter().any(|source| !self.open[source].data.is_empty())
    }

    /// Shows the unfinished line of one source as far as it is there; again for the other source, until
    /// `None`. Its rest comes as a part of the same line.
    pub fn flush(&mut self) -> Option<Line> {
        Source::ALL.into_iter().find_map(|source| self.flush_one(source))
    }

    /// Bytes of `source` are missing here: shows the unfinished line, if there is one. What follows is
    /// part of a line that nobody has seen the beginning of.
    pub fn cut(&mut self, source: Source) -> Option<Line> {
        let line = self.flush_one(source);
        let open = &mut self.open[source];
        (open.line, open.begins) = (None, false);
        line
    }

    fn flush_one(&mut self, source: Source) -> Option<Line> {
        let open = &mut self.open[source];
        if open.data.is_empty() {
            return None;
        }
        let data = open.data.split().freeze();
        let end = open.offset + data.len() as u64;
        Some(open.line(source, data, end, false))
    }
}

impl Open {
    /// What is open and the next `len` bytes of `piece`, in one.
    fn take(&mut self, piece: &mut Piece, len: usize) -> Bytes {
        let rest = piece.split_to(len);
        if self.data.is_empty() {
            return rest;
        }
        self.data.extend_from_slice(&rest);
        self.data.split().freeze()
    }

    /// Gives `data`, which ends at `end`, away.
    fn line(&mut self, source: Source, data: Bytes, end: u64, ends: bool) -> Line {
        let utf8 = std::str::from_utf8(&data).is_ok();
        let line = self.line.unwrap_or(self.offset);
        let (offset, wall, begins) = (self.offset, self.wall, self.begins);
        self.offset = end;
        self.begins = ends;
        if ends {
            self.line = None;
        }
        Line { source, line, offset, end, wall, data, begins, ends, utf8 }
    }
}

/// How many bytes at the end are the beginning of a character that is cut there.
fn unfinished_character(data: &[u8]) -> usize {
    for (back, byte) in data.iter().rev().take(CHARACTER - 1).enumerate() {
        let needs = match byte {
            0x80..=0xbf => continue,
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => return 0,
        };
        return if needs > back + 1 { back + 1 } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests;
