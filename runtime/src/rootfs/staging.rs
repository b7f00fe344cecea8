//! A place where a root file system is made, so that it is there whole or not at all.
//!
//! `DIR` is made as `.DIR.unpacking` beside it, which is locked as long as somebody works in it, and gets its name at the end.
//! What a killed one has left is not locked any more: the next one for the same `DIR` removes it. It is closed to everybody
//! else, and so is `DIR`: what is set-user-id in an archive would be so for the users of this machine too.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FlockOperation, Gid, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::owners::Owners;
use super::remove;
use crate::error::{Error, ErrorKind};

/// The name of `/` in it.
pub(super) const ROOT: &str = "rootfs";
/// What was unpacked, as JSON; that it is there says that the directory is ours.
pub(super) const REPORT: &str = "orangery.json";

/// A place that is being filled.
#[derive(Debug)]
pub(super) struct Staging {
    parent: OwnedFd,
    name: OsString,
    to: PathBuf,
    /// Locked; the last descriptor lets go of it.
    pub(super) dir: OwnedFd,
}

fn failed(what: &str, path: &Path, error: Errno) -> Error {
    Error::system(format!("cannot {what} {}", path.display()), error).with_field("to")
}

/// What a place is called before it is whole.
fn unpacking(name: &OsStr) -> OsString {
    let mut staged = OsString::from(".");
    staged.push(name);
    staged.push(".unpacking");
    staged
}

fn directory(parent: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

impl Staging {
    /// For a directory that is not there yet; its own directory is.
    ///
    /// # Errors
    /// [`ErrorKind::Exists`] with the field `to` when it is there, or somebody is unpacking it now.
    pub(super) fn begin(to: &Path, owners: &mut Owners) -> Result<Self, Error> {
        let name = to.file_name();
        let name = name.ok_or_else(|| Error::invalid("to", format!("{} names no directory", to.display())))?;
        let above = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = rustix::fs::open(above, flags, Mode::empty()).map_err(|error| failed("open", above, error))?;
        match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => {}
            Ok(_) => return Err(exists(to, "is there already")),
            Err(error) => return Err(failed("look at", to, error)),
        }
        let staged = unpacking(name);
        swept(&parent, &staged, to, owners)?;
        match rustix::fs::mkdirat(&parent, &staged, Mode::RWXU) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Err(busy(to)),
            Err(error) => return Err(failed("make", to, error)),
        }
        let dir = directory(&parent, &staged).map_err(|error| failed("open", to, error))?;
        // Somebody who saw it before it was locked has taken it for what a dead one has left.
        locked(&dir).map_err(|_| busy(to))?;
        if !is_still(&parent, &staged, &dir) {
            return Err(busy(to));
        }
        let staging = Self { parent, name: name.to_owned(), to: to.to_owned(), dir };
        match staging.prepare() {
            Ok(()) => Ok(staging),
            Err(error) => {
                staging.undo(owners)?;
                Err(failed("make", to, error))
            }
        }
    }

    fn prepare(&self) -> Result<(), Errno> {
        // It may lie in a directory whose group is everybody's who makes something there.
        let gid = Gid::from_raw(rustix::process::getegid().as_raw());
        rustix::fs::fchown(&self.dir, None, Some(gid))?;
        rustix::fs::fchmod(&self.dir, Mode::RWXU)?;
        rustix::fs::mkdirat(&self.dir, ROOT, Mode::RWXU)
    }

    /// Its `/`.
    pub(super) fn root(&self) -> Result<OwnedFd, Error> {
        directory(&self.dir, OsStr::new(ROOT)).map_err(|error| failed("open", &self.to, error))
    }

    /// It is whole: it gets its name. Locked as long as this exists.
    pub(super) fn finish(&self, report: &[u8]) -> Result<(), Error> {
        use std::io::Write as _;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.dir, REPORT, flags, Mode::RUSR | Mode::WUSR);
        let file = file.map_err(|error| failed("write the report into", &self.to, error))?;
        let written = std::fs::File::from(file).write_all(report);
        written.map_err(|error| Error::system("cannot write the report", error).with_field("to"))?;
        let staged = unpacking(&self.name);
        match rustix::fs::renameat_with(&self.parent, &staged, &self.parent, &self.name, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => Err(exists(&self.to, "is there by now")),
            Err(error) => Err(failed("make", &self.to, error)),
        }
    }

    /// Nothing of it is left.
    pub(super) fn undo(&self, owners: &mut Owners) -> Result<(), Error> {
        remove::at(&self.parent, &unpacking(&self.name), owners, &|| false).map(drop)
    }
}

fn exists(to: &Path, why: &str) -> Error {
    Error::new(ErrorKind::Exists, format!("{} {why}", to.display())).with_field("to")
}

fn busy(to: &Path) -> Error {
    exists(to, "is being unpacked by somebody else")
}

fn locked(dir: &OwnedFd) -> Result<(), Errno> {
    rustix::fs::flock(dir, FlockOperation::NonBlockingLockExclusive)
}

fn is_still(parent: &OwnedFd, name: &OsStr, dir: &OwnedFd) -> bool {
    let named = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
    let found = rustix::fs::fstat(dir);
    matches!((named, found), (Ok(named), Ok(found)) if (named.st_dev, named.st_ino) == (found.st_dev, found.st_ino))
}

/// What is left of one that was killed is removed.
fn swept(parent: &OwnedFd, staged: &OsStr, to: &Path, owners: &mut Owners) -> Result<(), Error> {
    let left = match directory(parent, staged) {
        Err(Errno::NOENT) => return Ok(()),
        left => left.map_err(|error| failed("look at what is left of", to, error))?,
    };
    // Locked until it is gone.
    match locked(&left) {
        Ok(()) if is_still(parent, staged, &left) => remove::at(parent, staged, owners, &|| false).map(drop),
        Ok(()) | Err(Errno::WOULDBLOCK) => Err(busy(to)),
        Err(error) => Err(failed("lock", to, error)),
    }
}

/// What was left of a directory with this name that was to be unpacked, by one that was killed; and nothing of one that lives.
pub(super) fn sweep(to: &Path, owners: &mut Owners) -> Result<(), Error> {
    let above = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::open(above, flags, Mode::empty()) {
        Ok(parent) => swept(&parent, &unpacking(to.file_name().unwrap_or_default()), to, owners),
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(failed("open", above, error)),
    }
}
