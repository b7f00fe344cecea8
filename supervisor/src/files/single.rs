//! One file.

use std::io::{Read as _, Write as _};
use std::path::Path;

use bytes::Bytes;
use rustix::fs::{FileType, fstat};

use super::failed;
use super::side::{Side, kind};
use super::target::Target;
use crate::error::Error;

/// The content of a regular file of at most `max` bytes.
pub(super) fn read(side: &Side<'_>, path: &Path, max: u64) -> Result<Bytes, Error> {
    let fail = |what, error: rustix::io::Errno| Error::from(failed(what, path, error).with_field("path"));
    let found = side.find(path).map_err(|error| fail("open", error))?;
    let stat = fstat(&found).map_err(|error| fail("look at", error))?;
    if kind(&stat) != FileType::RegularFile {
        return Err(Error::invalid("path", format!("{} is no regular file", path.display())));
    }
    if side.is_pseudo(&found).map_err(|error| fail("look at", error))? {
        return Err(Error::invalid("path", format!("{} is made up by the kernel", path.display())));
    }
    let file = side.open(&found, false).map_err(|error| fail("open", error))?;
    let mut content = Vec::new();
    let read = std::fs::File::from(file).take(max.saturating_add(1)).read_to_end(&mut content);
    read.map_err(|error| failed("read", path, error).with_field("path"))?;
    if content.len() as u64 > max {
        return Err(Error::invalid("max", format!("{} is larger than {max} bytes", path.display())));
    }
    Ok(content.into())
}

/// A new file in place of what was there; what was there is never written through.
pub(super) fn write(side: &Side<'_>, path: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
    let target = Target::new(side, path, "path", 1)?;
    let file = side
        .make_file(target.dir(), target.temporary())
        .map_err(|error| failed("make", path, error).with_field("path"))?;
    let mut file = std::fs::File::from(file);
    file.write_all(content).map_err(|error| failed("write", path, error).with_field("path"))?;
    side.change_mode(&file, mode).map_err(|error| failed("change the mode of", path, error).with_field("path"))?;
    target.replace()
}
