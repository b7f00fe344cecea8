//! Files that are touched in somebody's name: who that is, what is done, and who does it.
//!
//! Root becomes whom it likes for a moment ([`sys::as_ids`]). An ordinary user with a range of ids cannot
//! become one of them, but a child of its keeper can: a [`Hand`] is one (`plan/reach.rs`, `keeper/hand.rs`), that user for
//! good, with no capability and no supplementary group, which is sent one [`Errand`] at a time. It can do no more than that
//! user of the container could, at the descriptors that it is sent.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::{Errno, Result as IoResult};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use crate::error::{Error, ErrorKind};
use crate::keeper::{self, Unclaimed};
use crate::plan::wire::{self, Deed, Purpose, Tell};
use crate::sys;

/// In whose name files are touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// In our own: we have no rights there that the container lacks.
    Own,
    /// Of this user and group, whom we can become: [`sys::as_ids`].
    Ids((u32, u32)),
    /// Of this user and group of the keeper's user namespace: [`Container::hand`](crate::Container::hand).
    Hand((u32, u32)),
}

/// One operation at one place, which is a descriptor. Names are single names, and no link is followed, unless it is said.
#[derive(Clone, Copy, Debug)]
pub enum Errand<'a> {
    /// Open a path, as openat(2).
    Open {
        /// From the place on.
        path: &'a Path,
        /// How.
        flags: OFlags,
        /// Of what is made.
        mode: Mode,
    },
    /// Open a path, links followed, with the place as its `/`: see [`sys::open_inside`].
    OpenInside {
        /// From the place on.
        path: &'a Path,
        /// How.
        flags: OFlags,
    },
    /// Open the very object that the place is, whatever its name means by now.
    Reopen {
        /// How.
        flags: OFlags,
    },
    /// Make a directory.
    MakeDirectory {
        /// Its name.
        name: &'a OsStr,
        /// Its mode.
        mode: Mode,
    },
    /// Make a symbolic link.
    Link {
        /// Its name.
        name: &'a OsStr,
        /// What it says.
        text: &'a OsStr,
    },
    /// Give something another name in the same directory.
    Rename {
        /// Its old name.
        from: &'a OsStr,
        /// Its new name.
        to: &'a OsStr,
        /// What has the new name already is replaced; else that is EEXIST.
        replace: bool,
    },
    /// Remove a name.
    Remove {
        /// Which.
        name: &'a OsStr,
        /// That of an empty directory; else that of anything else.
        directory: bool,
    },
    /// Change the permission bits of the place itself.
    ChangeMode {
        /// To these.
        mode: Mode,
    },
}

impl Errand<'_> {
    /// Do it ourselves: the descriptor, where something was opened.
    ///
    /// # Errors
    /// The operating system's.
    pub fn carry_out(&self, place: impl AsFd) -> IoResult<Option<OwnedFd>> {
        use rustix::fs;
        let place = place.as_fd();
        match *self {
            Self::Open { path, flags, mode } => fs::openat(place, path, flags, mode).map(Some),
            Self::OpenInside { path, flags } => sys::open_inside(place, path, flags).map(Some),
            Self::Reopen { flags } => {
                let path = format!("/proc/self/fd/{}", place.as_raw_fd());
                fs::open(path.as_str(), flags, Mode::empty()).map(Some)
            }
            Self::MakeDirectory { name, mode } => fs::mkdirat(place, name, mode).map(|()| None),
            Self::Link { name, text } => fs::symlinkat(text, place, name).map(|()| None),
            Self::Rename { from, to, replace } => {
                fs::renameat_with(place, from, place, to, how_renamed(replace)).map(|()| None)
            }
            Self::Remove { name, directory } => fs::unlinkat(place, name, how_removed(directory)).map(|()| None),
            Self::ChangeMode { mode } => fs::fchmod(place, mode).map(|()| None),
        }
    }

    /// As it travels.
    fn encode(&self) -> IoResult<Vec<u8>> {
        let errand = |deed, flags, names| wire::Errand { deed, flags, mode: 0, resolve: 0, names };
        let errand = match *self {
            Self::Open { path, flags, mode } => {
                let open = errand(Deed::Open, flags.bits(), [path.as_os_str().as_bytes(), &[]]);
                wire::Errand { mode: mode.bits(), ..open }
            }
            Self::OpenInside { path, flags } => {
                let open = errand(Deed::Open, flags.bits(), [path.as_os_str().as_bytes(), &[]]);
                wire::Errand { resolve: sys::INSIDE.bits(), ..open }
            }
            Self::Reopen { flags } => errand(Deed::Reopen, flags.bits(), [&[], &[]]),
            Self::MakeDirectory { name, mode } => {
                wire::Errand { mode: mode.bits(), ..errand(Deed::MakeDirectory, 0, [name.as_bytes(), &[]]) }
            }
            Self::Link { name, text } => errand(Deed::Link, 0, [name.as_bytes(), text.as_bytes()]),
            Self::Rename { from, to, replace } => {
                errand(Deed::Rename, how_renamed(replace).bits(), [from.as_bytes(), to.as_bytes()])
            }
            Self::Remove { name, directory } => {
                errand(Deed::Remove, how_removed(directory).bits(), [name.as_bytes(), &[]])
            }
            Self::ChangeMode { mode } => wire::Errand { mode: mode.bits(), ..errand(Deed::ChangeMode, 0, [&[], &[]]) },
        };
        let mut bytes = errand.head().encode_with(Purpose::Place).to_vec();
        for name in errand.names.iter().take(errand.deed.names() as usize) {
            if name.len() >= wire::NAME {
                return Err(Errno::NAMETOOLONG);
            }
            if name.contains(&0) {
                return Err(Errno::INVAL);
            }
            bytes.extend_from_slice(name);
            bytes.push(0);
        }
        Ok(bytes)
    }
}

fn how_renamed(replace: bool) -> RenameFlags {
    if replace { RenameFlags::empty() } else { RenameFlags::NOREPLACE }
}

fn how_removed(directory: bool) -> AtFlags {
    if directory { AtFlags::REMOVEDIR } else { AtFlags::empty() }
}

/// See the file's head. Killed when it is dropped; ends by itself when we do, or the keeper.
#[derive(Debug)]
pub struct Hand {
    channel: OwnedFd,
    /// Its pidfd.
    _child: Unclaimed,
}

impl Hand {
    pub(crate) fn new(channel: OwnedFd, child: Unclaimed) -> Self {
        Self { channel, _child: child }
    }

    /// Let it do something, and wait for it: the descriptor, where something was opened, or why it could not be done. Takes
    /// turns with nobody: for one thread at a time.
    ///
    /// # Errors
    /// [`ErrorKind::Keeper`] when the hand is not there any more, or answers what it may not.
    pub fn carry_out(&mut self, errand: &Errand<'_>, place: impl AsFd) -> Result<IoResult<Option<OwnedFd>>, Error> {
        let bytes = match errand.encode() {
            Ok(bytes) => bytes,
            Err(errno) => return Ok(Err(errno)),
        };
        let failed =
            |error: Errno| Error::system("cannot speak to a hand of the keeper", error).with_kind(ErrorKind::Keeper);
        self.ask(&bytes, place.as_fd()).map_err(failed)?;
        let heard = self.hear().map_err(failed)?;
        let gone = || Error::new(ErrorKind::Keeper, "a hand of the keeper has ended before its work was done");
        let heard = heard.ok_or_else(gone)?;
        if heard.no_room {
            return Ok(Err(Errno::MFILE));
        }
        let sent = heard.brought.filter(|_| heard.message.kind == Tell::Sent as u16);
        let opens = matches!(errand, Errand::Open { .. } | Errand::OpenInside { .. } | Errand::Reopen { .. });
        match sent {
            Some(None) if heard.message.errno > 0 => Ok(Err(Errno::from_raw_os_error(heard.message.errno))),
            Some(None) if !opens => Ok(Ok(None)),
            Some(brought) if opens => keeper::expect(brought, Purpose::Opened).map(|fd| Ok(Some(fd))),
            _ => Err(Error::new(ErrorKind::Keeper, "a hand of the keeper has answered something else")),
        }
    }

    fn ask(&self, bytes: &[u8], place: BorrowedFd<'_>) -> IoResult<()> {
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let places = [place];
        control.push(SendAncillaryMessage::ScmRights(&places));
        let parts = [std::io::IoSlice::new(bytes)];
        rustix::net::sendmsg(&self.channel, &parts, &mut control, SendFlags::NOSIGNAL).map(drop)
    }

    /// `None`: it has ended.
    fn hear(&self) -> IoResult<Option<keeper::Heard>> {
        loop {
            let mut answer = [PollFd::new(&self.channel, PollFlags::IN)];
            match rustix::event::poll(&mut answer, None).and_then(|_| keeper::receive(&self.channel)) {
                Err(Errno::INTR | Errno::AGAIN) => {}
                // Errands that it had not read when it ended.
                Err(Errno::CONNRESET) => return Ok(None),
                heard => return heard,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn removed(name: &str) -> IoResult<Vec<u8>> {
        Errand::Remove { name: OsStr::new(name), directory: false }.encode()
    }

    #[test]
    fn what_is_sent_is_what_is_read() {
        let (name, text) = (OsStr::from_bytes(b"\xff\n"), OsStr::new("../x"));
        let bytes = Errand::Link { name, text }.encode().unwrap();
        let read = wire::errand(&bytes, 1).unwrap();
        assert_eq!((read.deed, read.names), (Deed::Link, [name.as_bytes(), text.as_bytes()]));
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let bytes = Errand::OpenInside { path: Path::new("a/b"), flags }.encode().unwrap();
        let read = wire::errand(&bytes, 1).unwrap();
        assert_eq!((read.deed, read.flags, read.resolve), (Deed::Open, flags.bits(), sys::INSIDE.bits()));
        let bytes = Errand::ChangeMode { mode: Mode::from_raw_mode(0o751) }.encode().unwrap();
        let read = wire::errand(&bytes, 1).unwrap();
        assert_eq!((read.deed, read.mode, read.names), (Deed::ChangeMode, 0o751, [&[][..], &[]]));
        let bytes = Errand::Rename { from: name, to: text, replace: false }.encode().unwrap();
        assert_eq!(wire::errand(&bytes, 1).map(|read| read.flags), Some(1));
    }

    #[test]
    fn nothing_that_is_cut_longer_or_without_its_place_is_an_errand() {
        let long = "x".repeat(wire::NAME);
        assert_eq!(removed(&long).unwrap_err(), Errno::NAMETOOLONG);
        assert_eq!(removed("a\0b").unwrap_err(), Errno::INVAL);
        let bytes = removed(&long[1..]).unwrap();
        assert!(bytes.len() <= wire::ERRAND && wire::errand(&bytes, 1).is_some());
        let bytes = Errand::Link { name: OsStr::new("a"), text: OsStr::new("b") }.encode().unwrap();
        assert!(wire::errand(&bytes, 0).is_none() && wire::errand(&bytes, 2).is_none());
        for len in 0..bytes.len() {
            assert!(wire::errand(&bytes[..len], 1).is_none(), "{len}");
        }
        for more in [&b"x"[..], b"\0", b"c\0"] {
            assert!(wire::errand(&[&bytes, more].concat(), 1).is_none(), "{more:?}");
        }
        // No other purpose, no unknown deed.
        for (at, byte) in [(wire::MESSAGE, Purpose::Opened as u8), (wire::MESSAGE, 0), (6, 99)] {
            let mut bytes = bytes.clone();
            bytes[at] = byte;
            assert!(wire::errand(&bytes, 1).is_none(), "{at}");
        }
    }
}
