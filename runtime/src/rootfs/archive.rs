//! Reading tar archives: ustar, GNU and pax, sparse files in all four forms. Knows no file system: what it gives out are
//! names that somebody has written, and nothing is known about them.
//!
//! Whoever wrote the archive may be hostile. So nothing is kept but the headers of one entry, which are bounded; what an
//! entry says of itself is counted before it is believed; and nothing is guessed: an archive that is cut or wrong is refused
//! with the entry at which it is.

mod header;
mod pax;

use std::io::{ErrorKind as IoKind, Read};

use super::entry::{Entry, Extent, Kind};
use super::limits::{Budget, UnpackLimits, quoted};
use crate::error::{Error, ErrorKind};
use header::{BLOCK, Header, Piece, more_sparse};
use pax::{MAX_PIECES, Pax};

/// Most bytes of one extended header.
const MAX_EXTENDED: u64 = 1 << 20;

/// An archive that is being read, entry by entry.
///
/// ```
/// use orangery_runtime::rootfs::{Archive, UnpackLimits};
/// let empty = [0; 1024];
/// let mut archive = Archive::new(&empty[..], UnpackLimits::default());
/// assert_eq!(archive.next_entry()?, None);
/// # Ok::<(), orangery_runtime::Error>(())
/// ```
#[derive(Debug)]
pub struct Archive<R> {
    input: R,
    pub(super) budget: Budget,
    /// Of the entry in hand: its name, and what of its content is still to be read.
    name: Vec<u8>,
    left: u64,
    padding: u64,
    global: Pax,
    started: bool,
    ended: bool,
}

fn wrong(name: &[u8], why: impl std::fmt::Display) -> Error {
    let place = if name.is_empty() { "at its beginning".to_owned() } else { format!("at {}", quoted(name)) };
    Error::invalid("archive", format!("this tar archive is wrong {place}: {why}"))
}

impl<R: Read> Archive<R> {
    /// Read from here; not compressed any more.
    #[must_use]
    pub fn new(input: R, limits: UnpackLimits) -> Self {
        Self::with(input, Budget::new(limits))
    }

    pub(super) fn with(input: R, budget: Budget) -> Self {
        let global = Pax::default();
        Self { input, budget, name: Vec::new(), left: 0, padding: 0, global, started: false, ended: false }
    }

    /// The next entry; what was not read of the content of the one before is passed over. `None` at the end.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] with the field `archive`, where the archive is cut, wrong, or of a kind that cannot be unpacked, and
    /// `limits.*` where it is more than is wanted: both name the entry. The operating system's, of reading.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, Error> {
        let mut pax = self.global.clone();
        let (mut long_name, mut long_link) = (None, None);
        while let Some(block) = self.header()? {
            let header = Header(&block);
            self.name = header.name();
            self.budget.entry(&self.name)?;
            match header.kind() {
                b'x' => pax.read(&self.extended(&header)?).map_err(|why| wrong(&self.name, why))?,
                b'g' => {
                    let records = self.extended(&header)?;
                    self.global.read(&records).map_err(|why| wrong(&self.name, why))?;
                    // A name is nobody's alone.
                    (self.global.path, self.global.link, self.global.size) = (None, None, None);
                    pax = self.global.clone();
                }
                b'L' => long_name = Some(self.long(&header)?),
                b'K' => long_link = Some(self.long(&header)?),
                // A label of the volume.
                b'V' => {
                    let size = self.size(&header)?;
                    self.begin(size)?;
                }
                _ => return self.entry(&header, pax, long_name, long_link).map(Some),
            }
        }
        if long_name.is_some() || long_link.is_some() {
            return Err(wrong(&self.name, "it ends where an entry should be"));
        }
        Ok(None)
    }

    /// More of the content of the entry in hand: its pieces one behind the other, without the holes. 0 at its end.
    ///
    /// # Errors
    /// The archive is cut; the operating system's.
    pub fn read_content(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let Some(buffer) = buffer.get_mut(..most).filter(|buffer| !buffer.is_empty()) else { return Ok(0) };
        let read = self.input_read(buffer)?;
        if read == 0 {
            return Err(wrong(&self.name, "it ends within the content"));
        }
        self.left -= read as u64;
        Ok(read)
    }

    /// Behind its end there is padding, and who writes it into a pipe wants to be rid of it.
    pub(super) fn drain(&mut self) {
        const MOST: u64 = 1 << 20;
        let _ = std::io::copy(&mut self.input.by_ref().take(MOST), &mut std::io::sink());
    }

    fn entry(
        &mut self,
        header: &Header<'_>,
        mut pax: Pax,
        name: Option<Vec<u8>>,
        link: Option<Vec<u8>>,
    ) -> Result<Entry, Error> {
        let sparse_name = pax.sparse.name.take();
        let path = sparse_name.or(pax.path.take()).or(name).unwrap_or_else(|| header.name());
        let link = pax.link.take().or(link).unwrap_or_else(|| header.link());
        self.name.clone_from(&path);
        self.budget.path(path.len() as u64, &path)?;
        self.budget.path(link.len() as u64, &path)?;
        let bad = |what: &str| wrong(&path, format!("its {what} is no number"));
        let size = match pax.size {
            Some(size) => size,
            None => self.size(header)?,
        };
        let id = |number: Option<i64>, what| number.and_then(|id| u32::try_from(id).ok()).ok_or_else(|| bad(what));
        let ids = (
            pax.uid.map_or_else(|| id(header.uid(), "user"), Ok)?,
            pax.gid.map_or_else(|| id(header.gid(), "group"), Ok)?,
        );
        let mode = header.mode().and_then(|mode| u32::try_from(mode).ok()).ok_or_else(|| bad("mode"))? & 0o7777;
        let seconds = || header.mtime().map(|seconds| (seconds, 0)).ok_or_else(|| bad("time"));
        let mtime = pax.mtime.map_or_else(seconds, Ok)?;
        let kind = self.kind(header, &path, link, size, &mut pax)?;
        Ok(Entry { path, kind, mode, ids, mtime, xattrs: pax.xattrs })
    }

    /// What it is; its content is what comes next.
    fn kind(
        &mut self,
        header: &Header<'_>,
        path: &[u8],
        link: Vec<u8>,
        size: u64,
        pax: &mut Pax,
    ) -> Result<Kind, Error> {
        let kind = match header.kind() {
            b'S' => return self.old_sparse(header, path, size).map(Kind::File),
            // A directory of archives that had no kind for it.
            0 if path.ends_with(b"/") => Kind::Directory,
            0 | b'0' | b'7' => {
                self.begin(size)?;
                return self.file(path, size, pax).map(Kind::File);
            }
            // Of some writers with content, which other readers do not take.
            b'1' => Kind::HardLink(link),
            b'2' => Kind::Symlink(link),
            b'3' | b'4' => Kind::Device,
            b'5' | b'D' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => {
                return Err(wrong(path, format!("entries of the type {} cannot be unpacked", other.escape_ascii())));
            }
        };
        self.begin(size)?;
        Ok(kind)
    }

    /// A regular file, with the holes that its extended header tells of.
    fn file(&mut self, path: &[u8], stored: u64, pax: &mut Pax) -> Result<Extent, Error> {
        let Some(size) = pax.sparse.size else { return Ok(Extent::whole(stored)) };
        let pieces = if pax.sparse.in_front {
            self.map_in_front(path)?
        } else {
            let Some(map) = pax.sparse.map.take() else { return Ok(Extent::whole(stored)) };
            map.as_chunks::<2>().0.iter().map(|[offset, len]| (*offset, *len)).collect()
        };
        let stored = self.left;
        checked(path, size, stored, pieces)
    }

    /// Numbers, a line each, in whole blocks in front of the content.
    fn map_in_front(&mut self, path: &[u8]) -> Result<Vec<(u64, u64)>, Error> {
        let mut text = Lines::default();
        let bad = || wrong(path, "the list of its pieces is no list of numbers");
        let count = text.number(self)?.ok_or_else(bad)?;
        if count > MAX_PIECES as u64 {
            return Err(wrong(path, format!("it has {count} pieces; {MAX_PIECES} can be unpacked")));
        }
        let mut pieces = Vec::new();
        for _ in 0..count {
            let (offset, len) = (text.number(self)?, text.number(self)?);
            pieces.push(offset.zip(len).ok_or_else(bad)?);
        }
        Ok(pieces)
    }

    /// GNU's type `S`: the pieces stand in the header and in blocks behind it.
    fn old_sparse(&mut self, header: &Header<'_>, path: &[u8], stored: u64) -> Result<Extent, Error> {
        let (mut found, mut more, size) = header.sparse();
        while more {
            self.budget.bytes(BLOCK as u64, path)?;
            let mut block = [0; BLOCK];
            if !self.fill(&mut block)? {
                return Err(wrong(path, "it ends within the list of its pieces"));
            }
            let (next, again) = more_sparse(&block);
            found.extend(next);
            more = again;
            if found.len() > MAX_PIECES {
                return Err(wrong(path, format!("it has more than {MAX_PIECES} pieces")));
            }
        }
        let piece = |piece: Piece| {
            let (offset, len) = piece?;
            Some((u64::try_from(offset).ok()?, u64::try_from(len).ok()?))
        };
        let pieces: Option<Vec<_>> = found.into_iter().map(piece).collect();
        let size = size.and_then(|size| u64::try_from(size).ok());
        let (pieces, size) = pieces.zip(size).ok_or_else(|| wrong(path, "its pieces are no numbers"))?;
        self.begin(stored)?;
        checked(path, size, stored, pieces)
    }

    fn size(&self, header: &Header<'_>) -> Result<u64, Error> {
        let size = header.size().and_then(|size| u64::try_from(size).ok());
        size.ok_or_else(|| wrong(&self.name, "its size is no number"))
    }

    /// The content of an entry comes next, of this length.
    fn begin(&mut self, size: u64) -> Result<(), Error> {
        self.budget.bytes(size, &self.name)?;
        self.left = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
        Ok(())
    }

    /// The records of an extended header.
    fn extended(&mut self, header: &Header<'_>) -> Result<Vec<u8>, Error> {
        let size = self.size(header)?;
        if size > MAX_EXTENDED {
            return Err(wrong(&self.name, format!("an extended header of {size} bytes; {MAX_EXTENDED} can be read")));
        }
        self.whole(size)
    }

    /// A name that the header has no room for, with a NUL behind it.
    fn long(&mut self, header: &Header<'_>) -> Result<Vec<u8>, Error> {
        let size = self.size(header)?;
        self.budget.path(size.saturating_sub(1), &self.name)?;
        let bytes = self.whole(size)?;
        Ok(bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec())
    }

    fn whole(&mut self, size: u64) -> Result<Vec<u8>, Error> {
        self.begin(size)?;
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        let mut at = 0;
        while let Some(rest) = bytes.get_mut(at..).filter(|rest| !rest.is_empty()) {
            at += self.read_content(rest)?;
        }
        Ok(bytes)
    }

    /// The next header that is one, behind what is left of the entry before. `None` at the end.
    fn header(&mut self) -> Result<Option<[u8; BLOCK]>, Error> {
        if self.ended {
            return Ok(None);
        }
        self.pass_over()?;
        let mut block = [0; BLOCK];
        if !self.fill(&mut block)? {
            // Without the two empty blocks: some writers leave them out. Nothing at all is no archive.
            self.ended = true;
            return if self.started { Ok(None) } else { Err(wrong(&[], "it is empty")) };
        }
        let header = Header(&block);
        if header.is_zero() {
            self.ended = true;
            return Ok(None);
        }
        if !header.sums_up() {
            let why = if self.started { "what follows is no header" } else { "it is no tar archive" };
            return Err(wrong(&self.name, why));
        }
        self.started = true;
        Ok(Some(block))
    }

    fn pass_over(&mut self) -> Result<(), Error> {
        let mut buffer = [0; 16 << 10];
        while self.left > 0 {
            self.read_content(&mut buffer)?;
        }
        self.left = std::mem::take(&mut self.padding);
        while self.left > 0 {
            self.read_content(&mut buffer)?;
        }
        Ok(())
    }

    /// A whole block; `false`: the input ends here. A part of one is an error.
    fn fill(&mut self, block: &mut [u8; BLOCK]) -> Result<bool, Error> {
        let mut at = 0;
        while let Some(rest) = block.get_mut(at..).filter(|rest| !rest.is_empty()) {
            match self.input_read(rest)? {
                0 if at == 0 => return Ok(false),
                0 => return Err(wrong(&self.name, "it ends within a header")),
                read => at += read,
            }
        }
        Ok(true)
    }

    fn input_read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        loop {
            match self.input.read(buffer) {
                Ok(read) => return Ok(read.min(buffer.len())),
                Err(error) if error.kind() == IoKind::Interrupted => {}
                Err(error) if error.raw_os_error().is_some() => {
                    return Err(Error::system("cannot read the archive", error).with_field("archive"));
                }
                // What unpacks a compressed archive says what is wrong with it in words.
                Err(error) => {
                    let why = format!("cannot read the archive: {error}");
                    return Err(Error::new(ErrorKind::Invalid, why).with_field("archive"));
                }
            }
        }
    }
}

/// The pieces are in order, apart, within the size, and as much together as there is content.
fn checked(path: &[u8], size: u64, stored: u64, pieces: Vec<(u64, u64)>) -> Result<Extent, Error> {
    let mut end = 0u64;
    let mut sum = 0u64;
    for (offset, len) in &pieces {
        let next = offset.checked_add(*len).filter(|next| *offset >= end && *next <= size);
        end = next.ok_or_else(|| wrong(path, "its pieces overlap or lie outside of it"))?;
        // No overflow: they are apart and end within the size.
        sum += len;
    }
    if sum != stored {
        return Err(wrong(path, format!("its pieces are {sum} bytes and its content {stored}")));
    }
    if i64::try_from(size).is_err() {
        return Err(wrong(path, "no file is that large"));
    }
    Ok(Extent { size, pieces: Some(pieces) })
}

/// Lines of an entry's content, read by whole blocks: what comes after them begins with the next one.
#[derive(Debug, Default)]
struct Lines {
    block: Vec<u8>,
    at: usize,
}

impl Lines {
    /// The next line as a number; `None`: it is none, or the content ends.
    fn number<R: Read>(&mut self, archive: &mut Archive<R>) -> Result<Option<u64>, Error> {
        let mut line = Vec::new();
        loop {
            if self.at == self.block.len() && !self.next_block(archive)? {
                return Ok(None);
            }
            let byte = self.block.get(self.at).copied().unwrap_or_default();
            self.at += 1;
            if byte == b'\n' {
                return Ok(pax::decimal(&line));
            }
            // More digits than a number has.
            if line.len() > 20 {
                return Ok(None);
            }
            line.push(byte);
        }
    }

    fn next_block<R: Read>(&mut self, archive: &mut Archive<R>) -> Result<bool, Error> {
        let mut block = [0; BLOCK];
        if archive.left < BLOCK as u64 {
            return Ok(false);
        }
        let mut at = 0;
        while let Some(rest) = block.get_mut(at..).filter(|rest| !rest.is_empty()) {
            at += archive.read_content(rest)?;
        }
        self.block = block.to_vec();
        self.at = 0;
        Ok(true)
    }
}
