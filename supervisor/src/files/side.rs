//! One side of a copy: where paths begin, and in whose name they are touched.
//!
//! The supervisor may be the machine's root. What a container makes us open by a link of its own must not be more than it
//! could open itself, so its side is touched with the ids of its own root, and where that is refused with those of its
//! main process's user; never with ours, unless they are no more than the container's.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use orangery_runtime as runtime;
use runtime::hand::{Errand, Identity};
use rustix::fs::{Mode, OFlags, Stat};
use rustix::io::{Errno, Result as IoResult};

use super::failed;
use super::hands::Hands;
use super::job::Leave;
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
pub(super) struct Side<'a> {
    root: Where,
    /// In whose name, in this order.
    identities: Vec<Identity>,
    hands: Option<Hands<'a>>,
}

#[derive(Debug)]
enum Where {
    Container(Arc<runtime::Root>),
    Host(OwnedFd),
}

impl<'a> Side<'a> {
    pub(super) fn container(
        root: Arc<runtime::Root>,
        container: &Arc<dyn runtime::Container>,
        leave: Leave<'a>,
    ) -> Self {
        let hands = Some(Hands::new(Arc::clone(container), leave));
        Self { root: Where::Container(root), identities: container.identities(), hands }
    }

    /// The host, with our own rights.
    pub(super) fn host() -> Result<Self, Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let here =
            rustix::fs::open(".", flags, Mode::empty()).map_err(|error| failed("open", Path::new("."), error))?;
        Ok(Self { root: Where::Host(here), identities: vec![Identity::Own], hands: None })
    }

    /// What has become of the work on this side: where it has failed for want of a hand, that is why.
    pub(super) fn outcome<T>(&self, done: Result<T, Error>) -> Result<T, Error> {
        done.map_err(|error| self.hands.as_ref().and_then(Hands::failure).unwrap_or(error))
    }

    /// Do it as the first of our identities that may.
    fn act(&self, place: impl AsFd, errand: &Errand<'_>) -> IoResult<Option<OwnedFd>> {
        let place = place.as_fd();
        let mut refused = Errno::ACCESS;
        for identity in &self.identities {
            let done = match (identity, &self.hands) {
                (Identity::Own, _) => errand.carry_out(place),
                (Identity::Ids(ids), _) => runtime::sys::as_ids(*ids, || errand.carry_out(place)),
                (Identity::Hand(ids), Some(hands)) => hands.carry_out(*ids, errand, place),
                (Identity::Hand(_), None) => continue,
            };
            match done {
                Err(error @ (Errno::ACCESS | Errno::PERM)) => refused = error,
                done => return done,
            }
        }
        Err(refused)
    }

    fn opened(&self, place: impl AsFd, errand: &Errand<'_>) -> IoResult<OwnedFd> {
        // What opens says so or fails.
        self.act(place, errand)?.ok_or(Errno::BADF)
    }

    fn done(&self, place: impl AsFd, errand: &Errand<'_>) -> IoResult<()> {
        self.act(place, errand).map(drop)
    }

    /// The object that `path` names, links followed, without opening it.
    pub(super) fn find(&self, path: &Path) -> IoResult<OwnedFd> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        match &self.root {
            Where::Container(root) => self.opened(root, &Errand::OpenInside { path: &relative(path), flags }),
            Where::Host(here) => self.opened(here, &Errand::Open { path, flags, mode: Mode::empty() }),
        }
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
        self.one(dir, name, OFlags::PATH, Mode::empty())
    }

    /// A directory, for its names. No link is followed.
    pub(super) fn directory(&self, dir: impl AsFd, name: &OsStr) -> IoResult<OwnedFd> {
        self.one(dir, name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
    }

    /// A new file, for us alone until its mode is changed.
    pub(super) fn make_file(&self, dir: impl AsFd, name: &OsStr) -> IoResult<OwnedFd> {
        self.one(dir, name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, Mode::from_raw_mode(0o600))
    }

    fn one(&self, dir: impl AsFd, name: &OsStr, flags: OFlags, mode: Mode) -> IoResult<OwnedFd> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.opened(dir, &Errand::Open { path: Path::new(name), flags, mode })
    }

    /// Open for reading what [`Side::find`] or [`Side::entry`] has found: this very object, whatever its name means by
    /// now. Never waits: not for a lease that the container holds on it either (EAGAIN).
    pub(super) fn open(&self, found: impl AsFd, directory: bool) -> IoResult<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let flags = if directory { flags | OFlags::DIRECTORY } else { flags };
        self.opened(found, &Errand::Reopen { flags })
    }

    /// A new directory, for us alone until its mode is changed.
    pub(super) fn make_directory(&self, dir: impl AsFd, name: &OsStr) -> IoResult<OwnedFd> {
        self.done(&dir, &Errand::MakeDirectory { name, mode: Mode::from_raw_mode(0o700) })?;
        self.directory(dir, name)
    }

    pub(super) fn link(&self, dir: impl AsFd, name: &OsStr, text: &OsStr) -> IoResult<()> {
        self.done(dir, &Errand::Link { name, text })
    }

    pub(super) fn rename(&self, dir: impl AsFd, from: &OsStr, to: &OsStr, replace: bool) -> IoResult<()> {
        self.done(dir, &Errand::Rename { from, to, replace })
    }

    pub(super) fn remove(&self, dir: impl AsFd, name: &OsStr, directory: bool) -> IoResult<()> {
        self.done(dir, &Errand::Remove { name, directory })
    }

    /// The permission bits of what is open.
    pub(super) fn change_mode(&self, open: impl AsFd, mode: u32) -> IoResult<()> {
        self.done(open, &Errand::ChangeMode { mode: Mode::from_raw_mode(mode & 0o777) })
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
