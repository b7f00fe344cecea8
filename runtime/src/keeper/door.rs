//! Where the next supervisor comes: a listening socket that the keeper holds.

use std::fs::Permissions;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen as listen_at};

use crate::error::{Error, ErrorKind};

/// The address of a socket at this path. One that is too long for an address (107 bytes) is named from its directory, which has
/// to stay open until it is used.
pub(super) fn address(path: &Path) -> std::io::Result<(SocketAddrUnix, Option<OwnedFd>)> {
    match SocketAddrUnix::new(path) {
        Err(rustix::io::Errno::NAMETOOLONG) => {}
        made => return Ok((made?, None)),
    }
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(rustix::io::Errno::NAMETOOLONG.into());
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(dir, flags, Mode::empty())?;
    let near = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name);
    Ok((SocketAddrUnix::new(near)?, Some(dir)))
}

/// Make the door of a keeper: for [`Client::hello`](super::Client::hello). A socket at this path that nobody listens at is
/// replaced; removing it at the end is up to whoever made it.
///
/// # Errors
/// [`ErrorKind::Permission`] where others can enter the directory, [`ErrorKind::Exists`] where there is something else or
/// somebody listens, [`ErrorKind::System`] where the socket cannot be made.
pub fn listen(path: &Path) -> Result<OwnedFd, Error> {
    let failed = |error: std::io::Error| {
        Error::system(format!("cannot make the socket {}", path.display()), error).with_field("door")
    };
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let meta = std::fs::metadata(dir).map_err(failed)?;
    if meta.uid() != rustix::process::geteuid().as_raw() || meta.mode() & 0o077 != 0 {
        let what = format!("{} is not a directory that only this user can enter", dir.display());
        return Err(Error::new(ErrorKind::Permission, what).with_field("door").with_hint("chmod 0700"));
    }
    let (address, _place) = address(path).map_err(failed)?;
    let socket = || {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .map_err(|error| failed(error.into()))
    };
    if let Ok(found) = std::fs::symlink_metadata(path) {
        let deaf = found.file_type().is_socket() && connect(socket()?, &address) == Err(rustix::io::Errno::CONNREFUSED);
        if !deaf {
            let what = format!("somebody listens at {}, or it is something else", path.display());
            return Err(Error::new(ErrorKind::Exists, what).with_field("door"));
        }
        std::fs::remove_file(path).map_err(failed)?;
    }
    let door = socket()?;
    bind(&door, &address).map_err(|error| failed(error.into()))?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
    listen_at(&door, 8).map_err(|error| failed(error.into()))?;
    Ok(door)
}
