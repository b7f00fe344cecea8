//! Removing a tree whose directories may belong to ids of a range, and may be closed to everybody: without root, without
//! following a link, with memory and descriptors that do not grow with the tree, however deep it is.
//!
//! Nothing is descended into. What a directory holds is removed, but for directories that are not empty: those are moved up
//! into the tree's top, where their turn comes. A directory that is somebody else's is taken over first ([`Owners`]), a
//! hundred at a time. Broken off at any moment, what is left is still one tree with the same name, and is removed by the next.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;

use super::limits::quoted;
use super::owners::Owners;
use crate::error::{Error, ErrorKind};
use crate::plan::owners::Gift;

/// Directories that are opened and taken over together.
const AT_ONCE: usize = 100;
/// So often in a row may a directory be full again although all of it was removed.
const PATIENCE: u32 = 100;
/// Nothing follows a link or leaves the file system.
const STAY: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_XDEV)
    .union(ResolveFlags::NO_MAGICLINKS);

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Removed {
    /// Files, directories and the like. Nothing: it was gone already.
    pub entries: u64,
}

/// Remove the directory at `path` and everything in it, whoever of this user's ids it belongs to. What is gone already is
/// no error. Blocks.
///
/// # Errors
/// [`ErrorKind::Invalid`] with the field `path` for what is no directory, or a link to one; [`ErrorKind::Permission`] with the name
/// of what belongs to somebody else; the operating system's, such as EBUSY and EXDEV for something that is mounted in it.
pub(super) fn tree(path: &Path, owners: &mut Owners, leave: &dyn Fn() -> bool) -> Result<Removed, Error> {
    let name = path.file_name();
    let name = name.ok_or_else(|| Error::invalid("path", format!("{} names no directory", path.display())))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = match rustix::fs::open(parent, flags, Mode::empty()) {
        Ok(parent) => parent,
        Err(Errno::NOENT) => return Ok(Removed::default()),
        Err(error) => return Err(failed("open the directory of", path.as_os_str(), error).with_field("path")),
    };
    match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => at(&parent, name, owners, leave),
        Ok(_) => Err(Error::invalid("path", format!("{} is no directory", path.display()))),
        Err(Errno::NOENT) => Ok(Removed::default()),
        Err(error) => Err(failed("look at", path.as_os_str(), error).with_field("path")),
    }
}

/// Remove `name` in a directory that we may write to, whatever it is.
pub(super) fn at(
    parent: &OwnedFd,
    name: &OsStr,
    owners: &mut Owners,
    leave: &dyn Fn() -> bool,
) -> Result<Removed, Error> {
    let mut remover = Remover { owners, leave, next: 0, removed: Removed::default() };
    if let Some(top) = remover.unlink(parent, name)? {
        remover.usable(&[(&top, name)])?;
        let mut left = PATIENCE;
        loop {
            let before = remover.removed.entries;
            remover.empty(&top)?;
            match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
                Ok(()) => break,
                Err(Errno::NOENT) => return Ok(remover.removed),
                // Somebody puts things into it, or they were moved up while it was listed.
                Err(Errno::NOTEMPTY | Errno::EXIST) if remover.removed.entries > before => left = PATIENCE,
                Err(Errno::NOTEMPTY | Errno::EXIST) if left > 0 => left -= 1,
                Err(error) => return Err(failed("remove", name, error)),
            }
        }
        remover.removed.entries += 1;
    }
    Ok(remover.removed)
}

fn failed(what: &str, name: &OsStr, error: Errno) -> Error {
    Error::system(format!("cannot {what} {}", quoted(name.as_bytes())), error)
}

struct Remover<'a> {
    owners: &'a mut Owners,
    leave: &'a dyn Fn() -> bool,
    /// Number of the next name in the top.
    next: u64,
    removed: Removed,
}

impl Remover<'_> {
    /// Remove what is no directory, or an empty one. `Some`: a directory, opened as a path.
    fn unlink(&mut self, dir: &OwnedFd, name: &OsStr) -> Result<Option<OwnedFd>, Error> {
        if (self.leave)() {
            return Err(Error::new(ErrorKind::State, "the removal is not wanted any more"));
        }
        let mut left = PATIENCE;
        let gone = loop {
            match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
                Err(Errno::ISDIR) => {}
                done => break done,
            }
            match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
                // Somebody has put something else there meanwhile.
                Err(Errno::NOTDIR) if left > 0 => left -= 1,
                done => break done,
            }
        };
        match gone {
            Ok(()) => self.removed.entries += 1,
            Err(Errno::NOENT) => {}
            Err(Errno::NOTEMPTY | Errno::EXIST) => return self.open(dir, name),
            Err(error) => return Err(failed("remove", name, error)),
        }
        Ok(None)
    }

    fn open(&self, dir: &OwnedFd, name: &OsStr) -> Result<Option<OwnedFd>, Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat2(dir, name, flags, Mode::empty(), STAY) {
            Ok(found) => Ok(Some(found)),
            // Gone, or something else by now: the next look at its directory will tell.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(failed("open", name, error)),
        }
    }

    /// Directories that we may list, and take things out of.
    fn usable(&mut self, dirs: &[(&OwnedFd, &OsStr)]) -> Result<(), Error> {
        if self.owners.is_direct() {
            return Ok(());
        }
        let own = rustix::process::geteuid().as_raw();
        let stat =
            |(dir, name): (&OwnedFd, &OsStr)| rustix::fs::fstat(dir).map_err(|error| failed("look at", name, error));
        for (dir, name) in dirs {
            if stat((dir, name))?.st_uid != own {
                let copy = rustix::io::fcntl_dupfd_cloexec(dir, 0);
                let copy = copy.map_err(|error| failed("open", name, error))?;
                let gift = Gift { uid: 0, gid: 0, mode: None, capability: None };
                self.owners.give(copy, gift, PathBuf::from(name))?;
            }
        }
        self.owners.flush()?;
        for (dir, name) in dirs {
            if stat((dir, name))?.st_mode & 0o700 != 0o700 {
                // This very directory, whatever its name means by now.
                let open = format!("/proc/self/fd/{}", dir.as_raw_fd());
                let opened = std::fs::set_permissions(open, std::fs::Permissions::from_mode(0o700));
                opened.map_err(|error| {
                    Error::system(format!("cannot open {} to be emptied", quoted(name.as_bytes())), error)
                })?;
            }
        }
        Ok(())
    }

    /// Remove everything in the top that can be by now.
    fn empty(&mut self, top: &OwnedFd) -> Result<(), Error> {
        let mut list = listing(top)?;
        loop {
            let batch = self.batch(top, &mut list)?;
            if batch.is_empty() {
                return Ok(());
            }
            for (dir, name) in &batch {
                self.flatten(top, dir)?;
                match rustix::fs::unlinkat(top, name, AtFlags::REMOVEDIR) {
                    Ok(()) => self.removed.entries += 1,
                    // Its turn comes again.
                    Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
                    Err(error) => return Err(failed("remove", name, error)),
                }
            }
        }
    }

    /// Remove what is no directory; the next directories, which are usable then.
    fn batch(&mut self, dir: &OwnedFd, list: &mut Dir) -> Result<Vec<(OwnedFd, OsString)>, Error> {
        let mut batch = Vec::new();
        while batch.len() < AT_ONCE {
            let Some(name) = next_name(list)? else { break };
            if let Some(found) = self.unlink(dir, &name)? {
                batch.push((found, name));
            }
        }
        let dirs: Vec<_> = batch.iter().map(|(dir, name)| (dir, name.as_os_str())).collect();
        self.usable(&dirs)?;
        Ok(batch)
    }

    /// Remove what is in `dir`, or move it up.
    fn flatten(&mut self, top: &OwnedFd, dir: &OwnedFd) -> Result<(), Error> {
        let mut list = listing(dir)?;
        loop {
            let batch = self.batch(dir, &mut list)?;
            if batch.is_empty() {
                return Ok(());
            }
            for (_, name) in &batch {
                self.move_up(dir, name, top)?;
            }
        }
    }

    fn move_up(&mut self, dir: &OwnedFd, name: &OsStr, top: &OwnedFd) -> Result<(), Error> {
        loop {
            let new = format!(".orangery-removed-{}", self.next);
            self.next += 1;
            match rustix::fs::renameat_with(dir, name, top, new.as_str(), RenameFlags::NOREPLACE) {
                Ok(()) | Err(Errno::NOENT) => return Ok(()),
                // Of an earlier removal, or the tree's own.
                Err(Errno::EXIST) => {}
                Err(error) => return Err(failed("move", name, error)),
            }
        }
    }
}

/// The names in a directory that is open as a path.
pub(super) fn listing(dir: &OwnedFd) -> Result<Dir, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(dir, ".", flags, Mode::empty());
    opened.and_then(Dir::new).map_err(|error| Error::system("cannot list a directory", error))
}

/// The next name but `.` and `..`.
pub(super) fn next_name(list: &mut Dir) -> Result<Option<OsString>, Error> {
    loop {
        match list.read().transpose().map_err(|error| Error::system("cannot list a directory", error))? {
            None => return Ok(None),
            Some(entry) => {
                let name = entry.file_name().to_bytes();
                if name != b"." && name != b".." {
                    return Ok(Some(OsString::from_vec(name.to_vec())));
                }
            }
        }
    }
}
