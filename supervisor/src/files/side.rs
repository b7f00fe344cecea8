//! One side of a copy: where paths begin, and in whose name they are touched.
//!
//! The supervisor may be the machine's root. What a container makes us open by a link of its own must not be more than it
//! could open itself, so its side is touched with the ids of its own root, and where that is refused with those of its
//! main process's user; never with ours.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use orangery_runtime as runtime;
use rustix::fs::{Mode, OFlags, Stat, openat};
use rustix::io::{Errno, Result as IoResult};

use super::failed;
use crate::error::Error;

/// File systems that the kernel makes up: what is read there is not the container's, and reading may act or wait.
/// proc, sysfs, cgroup, cgroup2, debugfs, tracefs, securityfs, bpf, devpts, mqueue, configfs, pstore, efivarfs, nsfs,
/// selinuxfs, binfmt_misc, rpc_pipefs.
const PSEUDO: [u64; 17] = [
    0x9fa0,
    0x6265_6572,
    0x0027_e0eb,
    0x6367_7270,
    0x6462_6720,
    0x7472_6163,
    0x7363_6673,
    0xcafe_4a11,
    0x1cd1,
    0x1980_0202,
    0x6265_6570,
    0x6165_676c,
    0xde5e_81e4,
    0x6e73_6673,
    0xf97c_ff8c,
    0x4249_4e4d,
    0x6759_6969,
];

/// See the file's head.
#[derive(Debug)]
pub(super) struct Side {
    root: Where,
    ids: Vec<(u32, u32)>,
}

#[derive(Debug)]
enum Where {
    Container(Arc<runtime::Root>),
    Host(OwnedFd),
}

impl Side {
    pub(super) fn container(root: Arc<runtime::Root>, ids: Vec<(u32, u32)>) -> Self {
        Self { root: Where::Container(root), ids }
    }

    /// The host, with our own rights.
    pub(super) fn host() -> Result<Self, Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let here =
            rustix::fs::open(".", flags, Mode::empty()).map_err(|error| failed("open", Path::new("."), error))?;
        Ok(Self { root: Where::Host(here), ids: Vec::new() })
    }

    /// Do it as the first of our identities that may.
    pub(super) fn act<T>(&self, op: impl Fn() -> IoResult<T>) -> IoResult<T> {
        if self.ids.is_empty() {
            return op();
        }
        let mut refused = Errno::ACCESS;
        for ids in &self.ids {
            match runtime::sys::as_ids(*ids, &op) {
                Err(error @ (Errno::ACCESS | Errno::PERM)) => refused = error,
                done => return done,
            }
        }
        Err(refused)
    }

    /// The object that `path` names, links followed, without opening it.
    pub(super) fn find(&self, path: &Path) -> IoResult<OwnedFd> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        self.act(|| match &self.root {
            Where::Container(root) => runtime::sys::open_inside(root, &relative(path), flags),
            Where::Host(here) => openat(here, path, flags, Mode::empty()),
        })
    }

    /// The directory of `path` and the name in it.
    pub(super) fn parent<'p>(&self, path: &'p Path, field: &str) -> Result<(OwnedFd, &'p OsStr), Error> {
        let Some(name) = path.file_name() else {
            return Err(Error::invalid(field, format!("{} names no file", path.display())));
        };
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let dir = self.find(parent).map_err(|error| failed("open the directory of", path, error).with_field(field))?;
        Ok((dir, name))
    }

    /// The entry `name` of a directory, whatever it is, without opening it. No link is followed.
    pub(super) fn entry(&self, dir: impl AsFd, name: &OsStr) -> IoResult<OwnedFd> {
        self.act(|| openat(&dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()))
    }

    /// Open for reading what [`Side::find`] or [`Side::entry`] has found: this very object, whatever its name means by
    /// now. Never waits: not for a lease that the container holds on it either (EAGAIN).
    pub(super) fn open(&self, found: BorrowedFd<'_>, directory: bool) -> IoResult<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let flags = if directory { flags | OFlags::DIRECTORY } else { flags };
        let path = format!("/proc/self/fd/{}", found.as_raw_fd());
        self.act(|| rustix::fs::open(path.as_str(), flags, Mode::empty()))
    }

    /// It lies in a file system that the kernel makes up. Never so on the host, whose owner names what he means.
    pub(super) fn is_pseudo(&self, found: impl AsFd) -> IoResult<bool> {
        if matches!(self.root, Where::Host(_)) {
            return Ok(false);
        }
        let kind = rustix::fs::fstatfs(found)?.f_type;
        Ok(u64::try_from(kind).is_ok_and(|kind| PSEUDO.contains(&(kind & 0xffff_ffff))))
    }
}

fn relative(path: &Path) -> PathBuf {
    let inside: PathBuf = path.components().skip_while(|part| matches!(part, std::path::Component::RootDir)).collect();
    if inside.as_os_str().is_empty() { ".".into() } else { inside }
}

/// What kind of thing it is.
pub(super) fn kind(stat: &Stat) -> rustix::fs::FileType {
    rustix::fs::FileType::from_raw_mode(stat.st_mode)
}
