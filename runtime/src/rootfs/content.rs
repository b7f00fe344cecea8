//! The bytes of files on their way into a tree.

use super::entry::Extent;
use crate::error::Error;

/// Where the content of files comes from.
pub(super) struct Content<'a> {
    /// More of the file in hand; 0 at its end.
    pub(super) read: &'a mut dyn FnMut(&mut [u8]) -> Result<usize, Error>,
    /// Said now and then, with how much more was written.
    pub(super) wrote: &'a mut dyn FnMut(u64) -> Result<(), Error>,
}

impl Content<'_> {
    /// All of it, with its holes; how much that was.
    pub(super) fn pour(&mut self, file: &mut std::fs::File, extent: &Extent) -> Result<u64, Error> {
        use std::io::{Seek as _, SeekFrom, Write as _};
        let write = |error: std::io::Error| Error::system("cannot write the content of a file", error).with_field("to");
        let whole = [(0, extent.size)];
        let pieces = extent.pieces.as_deref().unwrap_or(&whole);
        let mut buffer = vec![0; 128 << 10];
        for (offset, len) in pieces {
            file.seek(SeekFrom::Start(*offset)).map_err(write)?;
            let mut left = *len;
            while left > 0 {
                let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
                let read = (self.read)(buffer.get_mut(..most).unwrap_or_default())?;
                // A file that has become shorter while it was read: what is missing are zeros.
                if read == 0 {
                    break;
                }
                file.write_all(buffer.get(..read).unwrap_or_default()).map_err(write)?;
                left -= read as u64;
                (self.wrote)(read as u64)?;
            }
        }
        if extent.pieces.is_some() {
            file.set_len(extent.size).map_err(write)?;
        }
        Ok(extent.stored())
    }
}
