//! A directory of the host as the source of a root file system: everything in it as entries, without following a link or
//! leaving its file system. What is in it may change meanwhile; what was looked at is what is opened.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, SeekFrom, Stat};
use rustix::io::Errno;

use super::content::Content;
use super::entry::{Entry, Extent, Kind};
use super::limits::{Budget, quoted};
use super::remove::{listing, next_name};
use super::report::WhyLeftOut;
use super::tree::{Tree, bytes_of};
use crate::error::Error;

fn failed(what: &str, path: &Path, error: Errno) -> Error {
    Error::system(format!("cannot {what} {}", quoted(path.as_os_str().as_bytes())), error).with_field("directory")
}

/// How the upper directory of an overlay says that nothing below it is seen.
const OPAQUE: [&[u8]; 2] = [b"user.overlay.opaque", b"trusted.overlay.opaque"];

/// One level of the walk.
struct Level {
    dir: OwnedFd,
    path: PathBuf,
    names: Vec<OsString>,
}

/// Put everything below the directory at `from` into the tree.
pub(super) fn copy(
    from: &Path,
    tree: &mut Tree<'_>,
    budget: &mut Budget,
    wrote: &mut dyn FnMut(u64) -> Result<(), Error>,
) -> Result<(), Error> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = rustix::fs::open(from, flags, Mode::empty()).map_err(|error| failed("open", from, error))?;
    let mut walk = Walk { tree, budget, wrote, links: HashMap::new() };
    let mut levels = Vec::new();
    walk.one(top, PathBuf::new(), &mut levels)?;
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.names.pop() else {
            levels.pop();
            continue;
        };
        let path = level.path.join(&name);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV;
        match rustix::fs::openat2(&level.dir, &name, flags, Mode::empty(), how) {
            Ok(found) => walk.one(found, path, &mut levels)?,
            // It has gone meanwhile.
            Err(Errno::NOENT) => {}
            Err(Errno::XDEV) => walk.left_out(&path, WhyLeftOut::OtherFileSystem),
            Err(Errno::ACCESS) => walk.left_out(&path, WhyLeftOut::Unreadable),
            Err(error) => return Err(failed("open", &path, error)),
        }
    }
    Ok(())
}

struct Walk<'a, 't> {
    tree: &'a mut Tree<'t>,
    budget: &'a mut Budget,
    wrote: &'a mut dyn FnMut(u64) -> Result<(), Error>,
    /// Files with several names, by where they are.
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl Walk<'_, '_> {
    fn left_out(&mut self, path: &Path, why: WhyLeftOut) {
        self.tree.report.skip(path.as_os_str().as_bytes(), why, None);
    }

    /// One thing, open as a path; a directory is only begun.
    fn one(&mut self, found: OwnedFd, path: PathBuf, levels: &mut Vec<Level>) -> Result<(), Error> {
        let stat = rustix::fs::fstat(&found).map_err(|error| failed("look at", &path, error))?;
        self.budget.entry(path.as_os_str().as_bytes())?;
        match FileType::from_raw_mode(stat.st_mode) {
            // The copy lies in what is copied.
            FileType::Directory if self.tree.is_beside(&stat) => Ok(()),
            FileType::Directory => self.directory(&found, path, &stat, levels),
            FileType::RegularFile => self.file(&found, &path, &stat),
            FileType::Symlink => {
                let text = rustix::fs::readlinkat(&found, "", Vec::new());
                let text = text.map_err(|error| failed("read the link", &path, error))?;
                self.put(&path, &stat, Kind::Symlink(text.into_bytes()), Vec::new())
            }
            FileType::Fifo => self.put(&path, &stat, Kind::Fifo, Vec::new()),
            FileType::CharacterDevice if stat.st_rdev == 0 && self.tree.placed.is_some() => {
                self.whiteout(path.parent().unwrap_or(Path::new("")), path.file_name().unwrap_or_default(), &stat)
            }
            FileType::Socket => self.put(&path, &stat, Kind::Socket, Vec::new()),
            _ => self.put(&path, &stat, Kind::Device, Vec::new()),
        }
    }

    fn put(&mut self, path: &Path, stat: &Stat, kind: Kind, xattrs: Vec<(Vec<u8>, Vec<u8>)>) -> Result<(), Error> {
        let entry = self.entry(path, stat, kind, xattrs);
        let mut read = |_: &mut [u8]| Ok(0);
        self.tree.put(&entry, &mut Content { read: &mut read, wrote: self.wrote })
    }

    /// As archives say it.
    fn whiteout(&mut self, above: &Path, hidden: &OsStr, stat: &Stat) -> Result<(), Error> {
        let mut name = OsString::from(".wh.");
        name.push(hidden);
        self.put(&above.join(name), stat, Kind::File(Extent::default()), Vec::new())
    }

    fn entry(&mut self, path: &Path, stat: &Stat, kind: Kind, xattrs: Vec<(Vec<u8>, Vec<u8>)>) -> Entry {
        let ids = self.tree.owners.seen((stat.st_uid, stat.st_gid));
        let path = if path.as_os_str().is_empty() { b".".to_vec() } else { bytes_of(path) };
        let nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
        Entry { path, kind, mode: stat.st_mode & 0o7777, ids, mtime: (stat.st_mtime, nanos), xattrs }
    }

    fn directory(&mut self, found: &OwnedFd, path: PathBuf, stat: &Stat, levels: &mut Vec<Level>) -> Result<(), Error> {
        let Some(dir) = reopened(found, OFlags::DIRECTORY, &path)? else {
            self.left_out(&path, WhyLeftOut::Unreadable);
            return Ok(());
        };
        let xattrs = attributes(&dir);
        let opaque = xattrs.iter().any(|(name, value)| OPAQUE.contains(&name.as_slice()) && value == b"y");
        self.put(&path, stat, Kind::Directory, xattrs)?;
        if opaque && self.tree.placed.is_some() {
            self.whiteout(&path, OsStr::new(".wh..opq"), stat)?;
        }
        let mut list = listing(&dir)?;
        let mut names = Vec::new();
        while let Some(name) = next_name(&mut list)? {
            names.push(name);
            if names.len() as u64 > self.budget.limits.entries {
                return self.budget.entry(path.as_os_str().as_bytes());
            }
        }
        // From the end; in an order that does not depend on the file system.
        names.sort_unstable_by(|one, other| other.cmp(one));
        levels.push(Level { dir, path, names });
        Ok(())
    }

    fn file(&mut self, found: &OwnedFd, path: &Path, stat: &Stat) -> Result<(), Error> {
        let place = (stat.st_dev, stat.st_ino);
        if stat.st_nlink > 1
            && let Some(first) = self.links.get(&place)
        {
            let kind = Kind::HardLink(first.clone());
            return self.put(path, stat, kind, Vec::new());
        }
        let Some(file) = reopened(found, OFlags::NONBLOCK, path)? else {
            self.left_out(path, WhyLeftOut::Unreadable);
            return Ok(());
        };
        let extent = extent(&file, u64::try_from(stat.st_size).unwrap_or(0));
        let extent = extent.map_err(|error| failed("find the holes of", path, error))?;
        self.budget.bytes(extent.stored(), path.as_os_str().as_bytes())?;
        let pieces = extent.pieces.clone().unwrap_or_default();
        let entry = self.entry(path, stat, Kind::File(extent), attributes(&file));
        let mut reader = Pieces { file: &file, pieces: pieces.into_iter(), now: (0, 0), path };
        let mut read = |buffer: &mut [u8]| reader.read(buffer);
        self.tree.put(&entry, &mut Content { read: &mut read, wrote: self.wrote })?;
        if stat.st_nlink > 1 {
            self.links.insert(place, bytes_of(path));
        }
        Ok(())
    }
}

/// Open for reading the very thing that is open as a path; `None`: we may not.
fn reopened(found: &OwnedFd, flags: OFlags, path: &Path) -> Result<Option<OwnedFd>, Error> {
    let open = format!("/proc/self/fd/{}", found.as_raw_fd());
    match rustix::fs::open(open.as_str(), flags | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty()) {
        Ok(file) => Ok(Some(file)),
        Err(Errno::ACCESS | Errno::PERM) => Ok(None),
        Err(error) => Err(failed("open", path, error)),
    }
}

/// Where there is content; a file system that does not say has it everywhere.
fn extent(file: &OwnedFd, size: u64) -> Result<Extent, Errno> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < size {
        let data = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(data) => data,
            // Nothing but a hole up to the end.
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::OPNOTSUPP) => {
                pieces.push((at, size - at));
                break;
            }
            Err(error) => return Err(error),
        };
        if data >= size {
            break;
        }
        let hole = rustix::fs::seek(file, SeekFrom::Hole(data))?.min(size);
        pieces.push((data, hole - data));
        at = hole;
    }
    Ok(Extent { size, pieces: Some(pieces) })
}

/// Reads a file piece by piece.
struct Pieces<'a> {
    file: &'a OwnedFd,
    pieces: std::vec::IntoIter<(u64, u64)>,
    /// Offset and what is left of the piece in hand.
    now: (u64, u64),
    path: &'a Path,
}

impl Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        if self.now.1 == 0 {
            let Some(next) = self.pieces.next() else { return Ok(0) };
            self.now = next;
        }
        let most = usize::try_from(self.now.1).unwrap_or(usize::MAX).min(buffer.len());
        let into = buffer.get_mut(..most).unwrap_or_default();
        let read = loop {
            match rustix::io::pread(self.file, &mut *into, self.now.0) {
                Err(Errno::INTR) => {}
                done => break done.map_err(|error| failed("read", self.path, error))?,
            }
        };
        self.now = (self.now.0 + read as u64, if read == 0 { 0 } else { self.now.1 - read as u64 });
        Ok(read)
    }
}

/// Extended attributes that can be read; those that cannot are not ours to give on.
fn attributes(file: &OwnedFd) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut names = vec![0; 64 << 10];
    let Ok(len) = rustix::fs::flistxattr(file, &mut names[..]) else { return Vec::new() };
    let names = names.get(..len).unwrap_or_default().split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0; 64 << 10];
        let len = rustix::fs::fgetxattr(file, OsStr::from_bytes(name), &mut value[..]).ok()?;
        value.truncate(len);
        Some((name.to_vec(), value))
    };
    names.filter_map(value).collect()
}
