//! What becomes of something that was made, when all of the tree is there.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::owners::Owners;
use super::tree::times;
use crate::error::Error;
use crate::plan::owners::Gift;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    File,
    Directory,
    Symlink,
    Fifo,
}

#[derive(Clone, Debug)]
pub(super) struct Late {
    pub(super) ids: (u32, u32),
    pub(super) mode: u32,
    pub(super) mtime: (i64, u32),
    pub(super) what: What,
    pub(super) capability: Option<Vec<u8>>,
}

impl Late {
    /// A directory that no entry speaks of.
    pub(super) fn made() -> Self {
        let mtime = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        let mtime = (mtime.tv_sec, u32::try_from(mtime.tv_nsec).unwrap_or(0));
        Self { ids: (0, 0), mode: 0o755, mtime, what: What::Directory, capability: None }
    }

    /// Time and mode of something that is ours and stays so.
    pub(super) fn now(&self, file: &OwnedFd) -> Result<(), Errno> {
        self.time(file)?;
        match self.what {
            What::File | What::Directory => rustix::fs::fchmod(file, rustix::fs::Mode::from_raw_mode(self.mode)),
            What::Fifo => self.open_mode(file),
            What::Symlink => Ok(()),
        }
    }

    /// Its time first, which is its owner's to set; then everything else, by whoever may.
    pub(super) fn settle(&self, file: OwnedFd, owners: &mut Owners, path: PathBuf) -> Result<(), Error> {
        let failed = |error: Errno| {
            let name = super::limits::quoted(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()));
            Error::system(format!("cannot set mode and time of {name}"), error)
        };
        if owners.is_ours(self.ids) && self.capability.is_none() {
            return self.now(&file).map_err(failed);
        }
        self.time(&file).map_err(failed)?;
        // What is open as a path only cannot be changed later on, and loses nothing by a change of its owner.
        let mode = match self.what {
            What::File | What::Directory => Some(self.mode),
            What::Fifo => {
                self.open_mode(&file).map_err(failed)?;
                None
            }
            What::Symlink => None,
        };
        let gift = Gift { uid: self.ids.0, gid: self.ids.1, mode, capability: self.capability.clone() };
        owners.give(file, gift, path)
    }

    fn time(&self, file: &OwnedFd) -> Result<(), Errno> {
        match self.what {
            What::File | What::Directory => rustix::fs::futimens(file, &times(self.mtime)),
            What::Symlink | What::Fifo => {
                rustix::fs::utimensat(file, "", &times(self.mtime), AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW)
            }
        }
    }

    /// By way of /proc: the very pipe that is open as a path.
    fn open_mode(&self, file: &OwnedFd) -> Result<(), Errno> {
        let open = format!("/proc/self/fd/{}", file.as_raw_fd());
        let set = std::fs::set_permissions(open, std::fs::Permissions::from_mode(self.mode));
        set.map_err(|error| Errno::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EIO)))
    }
}
