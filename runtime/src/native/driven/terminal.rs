//! The terminal of a process that a program starts. It makes one in the container's devpts and hands its master to a socket of ours
//! (`--console-socket`). That is asked for when the call has ended: the master has come by then, or it does not come.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SocketAddrUnix, SocketFlags,
    SocketType,
};
use rustix::termios::Winsize;

use crate::error::{Error, ErrorKind};
use crate::native::start::directory;
use crate::spec::WindowSize;

/// The master of a pseudoterminal (`TTYAUX_MAJOR`, ptmx).
const PTMX: (u32, u32) = (5, 2);
/// More than one is too many; of so many it is seen that they are.
const MOST: usize = 4;

/// A socket that waits for one master.
#[derive(Debug)]
pub(super) struct Terminal {
    socket: OwnedFd,
    path: PathBuf,
    name: String,
    size: WindowSize,
}

impl Terminal {
    /// A socket in this directory, which nobody else can enter.
    pub(super) fn listen(dir: &Path, number: u64, size: WindowSize) -> Result<Self, Error> {
        let failed = |error: Errno| Error::system("cannot wait for a terminal", error).with_field("tty");
        let name = format!("tty-{number}");
        let opened = directory(dir)?;
        // The directory's own path may be longer than an address.
        let address = format!("/proc/self/fd/{}/{name}", opened.as_raw_fd());
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(failed)?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(address).map_err(failed)?).map_err(failed)?;
        let made = Self { socket, path: dir.join(&name), name, size };
        rustix::net::listen(&made.socket, 1).map_err(failed)?;
        Ok(made)
    }

    /// Where the call finds it.
    pub(super) fn inside(&self, place: &str) -> String {
        format!("{place}/console/{}", self.name)
    }

    /// The master, of the size that was asked for.
    ///
    /// # Errors
    /// None has come, or what has come is none.
    pub(super) fn take(&self) -> Result<OwnedFd, Error> {
        let master = self.received()?;
        check(&master).map_err(no)?;
        let size = Winsize { ws_row: self.size.rows, ws_col: self.size.columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&master, size)
            .map_err(|error| Error::system("cannot give a terminal its size", error).with_field("tty"))?;
        Ok(master)
    }

    fn received(&self) -> Result<OwnedFd, Error> {
        let from = match rustix::net::accept_with(&self.socket, SocketFlags::CLOEXEC) {
            Ok(from) => from,
            Err(Errno::AGAIN) => return Err(no("the runtime has handed over no terminal")),
            Err(error) => return Err(Error::system("cannot hear of a terminal", error).with_field("tty")),
        };
        let mut bytes = [0; 256];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let got = rustix::net::recvmsg(&from, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags);
        let got = got.map_err(|error| match error {
            Errno::AGAIN => no("the runtime has handed over no terminal"),
            error => Error::system("cannot hear of a terminal", error).with_field("tty"),
        })?;
        let brought = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        });
        let mut all: Vec<OwnedFd> = brought.flatten().collect();
        match all.pop().filter(|_| all.is_empty() && !got.flags.contains(ReturnFlags::CTRUNC)) {
            Some(one) => Ok(one),
            None => Err(no("the runtime has not handed over one descriptor for a terminal")),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn no(what: &str) -> Error {
    Error::new(ErrorKind::Creation, what).with_field("tty")
}

/// Another file could hold up whoever reads it, or be somebody else's.
fn check(fd: &OwnedFd) -> Result<(), &'static str> {
    let none = "what the runtime has handed over is not the master of a terminal";
    let stat = rustix::fs::fstat(fd).map_err(|_| none)?;
    let device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice || device != PTMX {
        return Err(none);
    }
    let flags = rustix::fs::fcntl_getfl(fd).map_err(|_| none)?;
    if flags & OFlags::RWMODE != OFlags::RDWR || flags.contains(OFlags::PATH) {
        return Err("the terminal that the runtime has handed over cannot be read and written");
    }
    rustix::pty::ptsname(fd, Vec::new()).map(drop).map_err(|_| none)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masters_are_told_from_everything_else() {
        use rustix::fs::{Mode, open};
        use rustix::pty::{OpenptFlags, grantpt, openpt, unlockpt};
        let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap();
        assert!(check(&null).unwrap_err().contains("not the master"));
        let Ok(master) = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC) else { return };
        grantpt(&master).and_then(|()| unlockpt(&master)).unwrap();
        assert_eq!(check(&master), Ok(()));
        let name = rustix::pty::ptsname(&master, Vec::new()).unwrap();
        let other = open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        assert!(check(&other).is_err());
    }

    #[test]
    fn nothing_handed_over_is_an_error_and_the_socket_goes() {
        let dir = std::env::temp_dir().join(format!("orangery-terminal-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let terminal = Terminal::listen(&dir, 1, WindowSize::default()).unwrap();
        assert_eq!(terminal.inside("/mnt"), "/mnt/console/tty-1");
        let error = terminal.take().unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::Creation, Some("tty")));
        drop(terminal);
        std::fs::remove_dir(&dir).unwrap();
    }
}
