//! Nodes of devices for a program that is driven. Some (crun) give a container's streams to its user, whatever they are; the machine's own
//! `/dev/null` would be that user's from then on, who may be somebody inside a container. So a call gets another node of it, and of
//! the other devices that have no state: of those nobody can tell one that was opened anew from the one that was given.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, chmodat, fcntl_getfl, fstat, major, makedev, minor, mknodat, openat,
};
use rustix::io::Result;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

/// Major number of what is memory.
const MEMORY: u32 = 1;
const NULL: u32 = 3;
/// null, zero, full, random, urandom.
const STATELESS: [u32; 5] = [NULL, 5, 7, 8, 9];

/// A null device.
///
/// # Errors
/// As [`instead_of`].
pub(super) fn null(privileged: bool) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    if privileged { own(NULL, flags) } else { rustix::fs::open("/dev/null", flags, Mode::empty()) }
}

/// What a call gets where it is given this. An ordinary user's program has no rights over nodes of the machine's.
///
/// # Errors
/// No right to make one, which a program that root drives needs as well; no descriptor is left.
pub(super) fn instead_of(fd: OwnedFd, privileged: bool) -> Result<OwnedFd> {
    let Some(device) = stateless(&fd).filter(|_| privileged) else { return Ok(fd) };
    let flags = fcntl_getfl(&fd)? & (OFlags::RWMODE | OFlags::NONBLOCK | OFlags::APPEND);
    own(device, flags | OFlags::CLOEXEC)
}

/// The minor number, where it is such a device.
fn stateless(fd: &OwnedFd) -> Option<u32> {
    let stat = fstat(fd).ok()?;
    let device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && major(stat.st_rdev) == MEMORY;
    Some(minor(stat.st_rdev)).filter(|minor| device && STATELESS.contains(minor))
}

/// A node that nobody else has, on a file system that nobody sees (5.2), both gone with the last descriptor.
fn own(device: u32, flags: OFlags) -> Result<OwnedFd> {
    let all = Mode::from_raw_mode(0o666);
    let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(fs.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mount = fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    mknodat(&mount, "node", FileType::CharacterDevice, all, makedev(MEMORY, device))?;
    // Whatever the umask is.
    chmodat(&mount, "node", all, AtFlags::empty())?;
    openat(&mount, "node", flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &str) -> OwnedFd {
        std::fs::File::open(path).unwrap().into()
    }

    #[test]
    fn what_has_a_state_is_left_alone() {
        assert_eq!([stateless(&open("/dev/null")), stateless(&open("/dev/full"))], [Some(3), Some(7)]);
        assert_eq!([stateless(&open("/dev/ptmx")), stateless(&open("/"))], [None, None]);
        let which = |fd: &OwnedFd| fstat(fd).map(|stat| (stat.st_dev, stat.st_ino)).unwrap();
        let (dir, zero) = (open("/"), open("/dev/zero"));
        let before = (which(&dir), which(&zero));
        assert_eq!(which(&instead_of(dir, true).unwrap()), before.0);
        assert_eq!(which(&instead_of(zero, false).unwrap()), before.1);
    }

    #[test]
    fn one_of_its_own_is_no_other() {
        let which = |fd: &OwnedFd| fstat(fd).map(|stat| (stat.st_dev, stat.st_ino)).unwrap();
        match null(true) {
            Ok(null) => {
                assert_eq!(stateless(&null), Some(NULL));
                assert_ne!(which(&null), which(&open("/dev/null")));
                assert_eq!(fstat(&null).unwrap().st_mode & 0o777, 0o666);
                assert_eq!(rustix::io::write(&null, b"gone").unwrap(), 4);
                assert_eq!(rustix::io::read(&null, &mut [0; 1]).unwrap(), 0);
                let full = instead_of(open("/dev/full"), true).unwrap();
                assert_ne!(which(&full), which(&open("/dev/full")));
                assert!(
                    rustix::io::write(&full, b"x").is_err_and(|error| error == rustix::io::Errno::BADF),
                    "only read"
                );
            }
            Err(error) => assert!(!rustix::process::geteuid().is_root(), "{error}"),
        }
    }
}
