//! `/dev/null` for a program that is driven. Some (crun) give a container's streams to its user, whatever they are; the machine's own
//! node would be that user's from then on, who may be somebody inside a container.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, chmodat, fstat, makedev, mknodat, openat};
use rustix::io::Result;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

/// Major and minor number.
const NULL: (u32, u32) = (1, 3);

/// It is a null device.
pub(super) fn is_null(fd: &OwnedFd) -> bool {
    let wanted = |stat: rustix::fs::Stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == makedev(NULL.0, NULL.1)
    };
    fstat(fd).is_ok_and(wanted)
}

/// What a call is given: an ordinary user's cannot give the machine's node to anybody.
pub(super) fn for_a_call(privileged: bool) -> Result<OwnedFd> {
    if privileged {
        return own();
    }
    rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
}

/// A node that nobody else has, on a file system that nobody sees (5.2), both gone with the last descriptor.
///
/// # Errors
/// No right to make one, which a program that is driven needs as well; no descriptor is left.
fn own() -> Result<OwnedFd> {
    let all = Mode::from_raw_mode(0o666);
    let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(fs.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mount = fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    mknodat(&mount, "null", FileType::CharacterDevice, all, makedev(NULL.0, NULL.1))?;
    // Whatever the umask is.
    chmodat(&mount, "null", all, AtFlags::empty())?;
    openat(&mount, "null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_null_is_none() {
        let open = |path: &str| OwnedFd::from(std::fs::File::open(path).unwrap());
        assert!(is_null(&open("/dev/null")));
        assert!(!is_null(&open("/dev/zero")) && !is_null(&open("/")));
    }

    #[test]
    fn one_of_its_own_is_no_other() {
        match own() {
            Ok(null) => {
                let machines = std::fs::File::open("/dev/null").unwrap();
                let which = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino);
                assert!(is_null(&null));
                assert_ne!(which(fstat(&null).unwrap()), which(fstat(&machines).unwrap()));
                assert_eq!(fstat(&null).unwrap().st_mode & 0o777, 0o666);
                assert_eq!(rustix::io::write(&null, b"gone").unwrap(), 4);
                assert_eq!(rustix::io::read(&null, &mut [0; 1]).unwrap(), 0);
            }
            Err(error) => assert!(!rustix::process::geteuid().is_root(), "{error}"),
        }
    }
}
