//! Files of a container, by descriptors from its root: links and `..` lead nowhere outside, special files are not
//! opened, sizes are bounded.

use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use orangery_runtime as runtime;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};

use crate::error::Error;

const INSIDE: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

fn failed(what: &str, path: &Path, error: impl Into<std::io::Error>) -> Error {
    runtime::Error::system(format!("cannot {what} {}", path.display()), error).with_field("path").into()
}

fn relative(path: &Path) -> PathBuf {
    path.strip_prefix("/").unwrap_or(path).to_path_buf()
}

/// The content of a regular file of at most `max` bytes.
pub(crate) fn read(root: &OwnedFd, path: &Path, max: u64) -> Result<Bytes, Error> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file =
        openat2(root, relative(path), flags, Mode::empty(), INSIDE).map_err(|error| failed("open", path, error))?;
    let stat = fstat(&file).map_err(|error| failed("look at", path, error))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::invalid("path", format!("{} is no regular file", path.display())));
    }
    let mut content = Vec::new();
    std::fs::File::from(file)
        .take(max.saturating_add(1))
        .read_to_end(&mut content)
        .map_err(|error| failed("read", path, error))?;
    if content.len() as u64 > max {
        return Err(Error::invalid("max", format!("{} is larger than {max} bytes", path.display())));
    }
    Ok(content.into())
}

/// A new file in place of what was there; what was there is unlinked, never written through.
pub(crate) fn write(root: &OwnedFd, path: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
    let inside = relative(path);
    let (Some(parent), Some(name)) = (inside.parent(), inside.file_name()) else {
        return Err(Error::invalid("path", format!("{} names no file", path.display())));
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = openat2(root, parent, flags, Mode::empty(), INSIDE)
        .map_err(|error| failed("open the directory of", path, error))?;
    match rustix::fs::unlinkat(&dir, name, rustix::fs::AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(failed("replace", path, error)),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&dir, name, flags, Mode::from_raw_mode(mode & 0o777))
        .map_err(|error| failed("make", path, error))?;
    std::fs::File::from(file).write_all(content).map_err(|error| failed("write", path, error))
}
