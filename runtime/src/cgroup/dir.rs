//! One cgroup directory as an `O_PATH` descriptor; everything below it is reached relative to that descriptor.
//! The path it carries is for people and records and is never resolved again.

use super::error::CgroupError;
use rustix::fs::{self as rfs, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

type Result<T> = std::result::Result<T, CgroupError>;

/// More than any cgroup file holds: 16 MiB is the `cgroup.procs` of two million processes.
const READ_MAX: u64 = 16 << 20;

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// An open cgroup directory.
#[derive(Debug)]
pub(super) struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Dir {
    /// Opens a mount point that `/proc/self/mountinfo` named.
    pub(super) fn open(path: &Path) -> Result<Dir> {
        let fd = rfs::open(path, DIRECTORY, Mode::empty()).map_err(|e| CgroupError::sys("open", path, e))?;
        Ok(Dir { fd, path: path.to_path_buf() })
    }

    /// Opens a child directory; the last component is never followed if it is a link.
    pub(super) fn child(&self, name: impl AsRef<OsStr>) -> Result<Dir> {
        let (name, path) = (name.as_ref(), self.path.join(name.as_ref()));
        match rfs::openat(&self.fd, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(fd) => Ok(Dir { fd, path }),
            Err(e) => Err(CgroupError::sys("open", path, e)),
        }
    }

    /// The directory above. The caller knows that this is not the mount's top.
    pub(super) fn up(&self) -> Result<Dir> {
        let path = self.path.parent().unwrap_or(Path::new("/")).to_path_buf();
        match rfs::openat(&self.fd, "..", DIRECTORY, Mode::empty()) {
            Ok(fd) => Ok(Dir { fd, path }),
            Err(e) => Err(CgroupError::sys("open", path, e)),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// A second handle on the same directory.
    pub(super) fn try_clone(&self) -> Result<Dir> {
        let fd = self.fd.try_clone().map_err(|e| CgroupError::sys("open", &self.path, e))?;
        Ok(Dir { fd, path: self.path.clone() })
    }

    /// Makes a child group, mode 0755 whatever the host's umask: a container's own cgroup2 mount shows this directory as
    /// its root to users that are not its owner.
    pub(super) fn make(&self, name: &str) -> Result<()> {
        let fail = |e: Errno| CgroupError::sys("make", self.path.join(name), e);
        let mode = Mode::from_raw_mode(0o755);
        rfs::mkdirat(&self.fd, name, mode).map_err(fail)?;
        // Looked at first, because a changed mode costs the kernel memory for as long as the group lives.
        let made = rfs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW);
        let right = |stat: rfs::Stat| Mode::from_raw_mode(stat.st_mode) == mode;
        let set = |stat| if right(stat) { Ok(()) } else { rfs::chmodat(&self.fd, name, mode, AtFlags::empty()) };
        made.and_then(set).map_err(|e| {
            // Nobody else knows of it yet.
            let _ = self.rmdir(OsStr::new(name));
            fail(e)
        })
    }

    /// Removes an empty child group; one that is gone is a success.
    pub(super) fn rmdir(&self, name: &OsStr) -> Result<()> {
        match rfs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(CgroupError::sys("remove", self.path.join(name), e)),
        }
    }

    pub(super) fn has(&self, file: &str) -> bool {
        rfs::statat(&self.fd, file, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Groups in here have no such file, as far as that is to be seen: the topmost one of a hierarchy has few of those that it gives
    /// to others, and a write tells.
    pub(super) fn lacks(&self, file: &str) -> bool {
        let topmost = self.has("release_agent") || self.has("cgroup.controllers") && !self.has("cgroup.events");
        !topmost && !self.has(file)
    }

    /// The file may be written by who we are.
    pub(super) fn is_ours(&self, file: &str) -> bool {
        rfs::accessat(&self.fd, file, rfs::Access::WRITE_OK, AtFlags::EACCESS).is_ok()
    }

    /// Opens a file of this group; the flags get `O_CLOEXEC | O_NOFOLLOW`.
    pub(super) fn file(&self, file: &str, flags: OFlags) -> Result<OwnedFd> {
        rfs::openat(&self.fd, file, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
            .map_err(|e| CgroupError::sys("open", self.path.join(file), e))
    }

    pub(super) fn read(&self, file: &str) -> Result<String> {
        let opened = File::from(self.file(file, OFlags::RDONLY)?);
        let mut text = String::new();
        match opened.take(READ_MAX).read_to_string(&mut text) {
            Ok(_) => Ok(text),
            Err(e) => Err(CgroupError::sys("read", self.path.join(file), e)),
        }
    }

    /// One value, one `write(2)`: the kernel parses each write on its own. The newline makes an empty value a write too.
    pub(super) fn write(&self, file: &str, value: &str) -> Result<()> {
        let opened = self.file(file, OFlags::WRONLY)?;
        let line = format!("{value}\n");
        let written = rustix::io::retry_on_intr(|| rustix::io::write(&opened, line.as_bytes()))
            .map_err(|e| CgroupError::sys("write", self.path.join(file), e))?;
        if written == line.len() {
            return Ok(());
        }
        Err(CgroupError::refused(
            "write",
            self.path.join(file),
            format!("only {written} of {} bytes taken", line.len()),
        ))
    }

    /// The names of the child groups. A group removed meanwhile has none.
    pub(super) fn children(&self) -> Result<Vec<OsString>> {
        let fail = |e: Errno| CgroupError::sys("list", &self.path, e);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let listing = match rfs::openat(&self.fd, ".", flags, Mode::empty()) {
            Ok(fd) => rfs::Dir::new(fd).map_err(fail)?,
            Err(Errno::NOENT | Errno::NODEV) => return Ok(Vec::new()),
            Err(e) => return Err(fail(e)),
        };
        let mut names = Vec::new();
        for entry in listing {
            let entry = entry.map_err(fail)?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if entry.file_type() == FileType::Directory && name != "." && name != ".." {
                names.push(name.to_os_string());
            }
        }
        Ok(names)
    }

    /// Calls `each` for this group and every group below it, parents first. It holds two descriptors at any depth
    /// (a workload with a delegated group chooses the depth); groups that vanish meanwhile are skipped.
    pub(super) fn visit(&self, each: &mut dyn FnMut(&Dir) -> Result<()>) -> Result<()> {
        each(self)?;
        let mut at = self.try_clone()?;
        let mut pending = vec![at.children()?];
        while let Some(names) = pending.last_mut() {
            match names.pop().map(|name| at.child(name)) {
                Some(Ok(dir)) => {
                    each(&dir)?;
                    pending.push(dir.children()?);
                    at = dir;
                }
                Some(Err(e)) if e.is_gone() => {}
                Some(Err(e)) => return Err(e),
                None => {
                    pending.pop();
                    if !pending.is_empty() {
                        at = at.up()?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Names of child groups, as far as they can be read.
    pub(super) fn names(&self) -> Vec<String> {
        let names = self.children().unwrap_or_default();
        names.into_iter().filter_map(|name| name.into_string().ok()).collect()
    }

    /// Removes the child group `name` and all below it, deepest first. Gone already is a success; a group that still
    /// holds a process stops it with a busy error, and what was removed until then stays removed.
    pub(super) fn remove_tree(&self, name: &OsStr) -> Result<()> {
        match self.rmdir(name) {
            Ok(()) => return Ok(()),
            Err(e) if !e.is_busy() => return Err(e),
            Err(_) => {}
        }
        let mut at = match self.child(name) {
            Ok(dir) => dir,
            Err(e) if e.is_gone() => return Ok(()),
            Err(e) => return Err(e),
        };
        let mut trail: Vec<OsString> = Vec::new();
        loop {
            if let Some(child) = at.children()?.pop() {
                match at.child(&child) {
                    Ok(dir) => {
                        trail.push(child);
                        at = dir;
                    }
                    Err(e) if e.is_gone() => {}
                    Err(e) => return Err(e),
                }
                continue;
            }
            let Some(leaf) = trail.pop() else {
                return self.rmdir(name);
            };
            at = at.up()?;
            at.rmdir(&leaf)?;
        }
    }
}
