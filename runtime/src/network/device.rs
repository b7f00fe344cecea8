//! Interfaces of the host's that become a container's: rtnetlink(7), by hand. What is moved keeps its hardware address and its MTU by
//! itself; its addresses are lost on the way and given to it again.
//!
//! ```text
//!  here:   RTM_GETLINK, RTM_GETADDR ─► RTM_NEWLINK with IFLA_NET_NS_FD and its new name
//!  by a socket made inside: RTM_NEWADDR of each global, permanent address ─► up
//! ```
//!
//! What was moved when something fails comes back, as it was; also when that is later ([`Given::back`]).

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::addresses::{u16_at, u32_at};
use crate::error::{Error, ErrorKind};

/// RTM_NEWLINK, RTM_GETLINK, RTM_NEWADDR, RTM_GETADDR, NLMSG_ERROR, NLMSG_DONE.
const NEW_LINK: u16 = 16;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
const ANSWERED: u16 = 2;
const DONE: u16 = 3;
/// NLM_F_REQUEST | NLM_F_ACK; NLM_F_DUMP; NLM_F_CREATE | NLM_F_EXCL.
const ASK: u16 = 5;
const DUMP: u16 = 0x300;
const CREATE: u16 = 0x600;
/// IFLA_IFNAME, IFLA_NET_NS_FD.
const NAME: u16 = 3;
const NAMESPACE: u16 = 28;
/// IFF_UP.
const UP: u32 = 1;
/// IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_FLAGS.
const KEPT: [u16; 3] = [1, 2, 4];
const FLAGS: u16 = 8;
/// IFA_F_PERMANENT; and those that somebody has chosen: NODAD, HOMEADDRESS, MANAGETEMPADDR, NOPREFIXROUTE, MCAUTOJOIN.
const PERMANENT: u32 = 0x80;
const CHOSEN: u32 = 0x712;

type Res<T> = Result<T, rustix::io::Errno>;

/// One that was moved.
#[derive(Debug)]
struct Moved {
    name: String,
    called: String,
    addresses: Vec<Vec<u8>>,
    up: bool,
    /// Its number where it is now, which stays when somebody there gives it another name; `None`: it has not been looked at there.
    index: Option<u32>,
}

/// In a name that is to be given: the first number that nobody there has.
const NUMBER: &str = "%d";
/// As many numbers as the kernel tries.
const NUMBERS: u32 = 1 << 15;

/// What no interface can be called. In a new name `%d` may stand once.
pub(crate) fn wrong_new_name(name: &str) -> bool {
    name.len() > 15 || wrong_name(&name.replacen(NUMBER, "0", 1))
}

/// One that others may have too, as each gets a number of its own.
pub(crate) fn is_numbered(name: &str) -> bool {
    name.contains(NUMBER)
}

/// What no interface is called.
pub(crate) fn wrong_name(name: &str) -> bool {
    let odd = |byte: u8| byte <= b' ' || byte > b'~' || matches!(byte, b'/' | b':' | b'%');
    name.is_empty() || name.len() > 15 || matches!(name, "." | "..") || name.bytes().any(odd)
}

/// Give these, with the names that they have there, to a network namespace. Blocks for some system calls.
///
/// # Errors
/// With the name: there is no such interface, or it cannot be moved.
pub(crate) fn give(devices: &BTreeMap<String, String>, namespace: BorrowedFd<'_>) -> Result<(), Error> {
    lend(devices, namespace).map(drop)
}

/// The same, by somebody who may take them back.
///
/// # Errors
/// As [`give`].
pub(crate) fn lend(devices: &BTreeMap<String, String>, namespace: BorrowedFd<'_>) -> Result<Given, Error> {
    let failed = |error: rustix::io::Errno| Error::system("cannot use netlink", error).with_field("net_devices");
    let here = Link::open().map_err(failed)?;
    let home: OwnedFd = File::open("/proc/thread-self/ns/net")
        .map_err(|error| Error::system("cannot open our network namespace", error))?
        .into();
    // Before anything is moved: with it all comes back.
    let there = inside(namespace)?;
    let mut moved = Vec::new();
    let gone = devices.iter().try_for_each(|(name, called)| {
        let called = there.free(called).map_err(|error| of_one(name, error))?;
        let one = here.look(name, &called).map_err(|error| of_one(name, error))?;
        let left = here.leave(&one, namespace);
        if left.is_ok() {
            moved.push(one);
        } else if here.find(name).is_err() {
            // The kernel moves it first and gives it its new name then, which may be taken there.
            moved.push(Moved { called: name.clone(), ..one });
        }
        left.map_err(|error| of_one(name, error))
    });
    let whole = gone.and_then(|()| arrived(&there, &mut moved));
    let given = Given { here, there, home, moved };
    match whole {
        Ok(()) => Ok(given),
        Err(error) => {
            given.back();
            Err(error)
        }
    }
}

/// What was given, with a socket in there: that namespace does not go before this does.
#[derive(Debug)]
pub(crate) struct Given {
    here: Link,
    there: Link,
    home: OwnedFd,
    moved: Vec<Moved>,
}

impl Given {
    /// All of it comes back, as it was.
    pub(crate) fn back(self) {
        for one in self.moved.iter().rev() {
            let (name, called) = (one.called.clone(), one.name.clone());
            let back = Moved { name, called, addresses: Vec::new(), up: false, index: one.index };
            let left = self.there.leave(&back, self.home.as_fd());
            let found = left.and_then(|()| self.here.find(&one.name));
            let returned = found.and_then(|(index, _)| self.here.arrive(index, &one.addresses, one.up));
            if let Err(error) = returned {
                let name = one.name.as_str();
                tracing::warn!(name, %error, "an interface of the host's has not come back as it was");
            }
        }
    }
}

fn of_one(name: &str, error: rustix::io::Errno) -> Error {
    let field = format!("net_devices[{name}]");
    if error == rustix::io::Errno::NODEV {
        return Error::new(ErrorKind::Invalid, format!("there is no interface {name}")).with_field(field);
    }
    Error::system(format!("cannot give the interface {name} to the container"), error).with_field(field)
}

fn arrived(there: &Link, moved: &mut [Moved]) -> Result<(), Error> {
    // All of them first: by their numbers all come back, whichever fails.
    let look = |one: &mut Moved| there.find(&one.called).map(|(index, _)| one.index = Some(index));
    let looked = moved.iter_mut().try_for_each(|one| look(one).map_err(|error| of_one(&one.name, error)));
    looked?;
    moved.iter().try_for_each(|one| {
        let index = one.index.unwrap_or_default();
        there.arrive(index, &one.addresses, true).map_err(|error| of_one(&one.name, error))
    })
}

/// Made on a thread that is in there and ends: a socket stays where it was made.
fn inside(namespace: BorrowedFd<'_>) -> Result<Link, Error> {
    let failed = |error: rustix::io::Errno| {
        Error::system("cannot enter the container's network namespace", error).with_field("net_devices")
    };
    std::thread::scope(|scope| {
        let enter = || {
            move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network)).map_err(failed)?;
            Link::open().map_err(failed)
        };
        let thread = std::thread::Builder::new().spawn_scoped(scope, enter);
        let thread = thread.map_err(|error| Error::system("cannot start a thread", error).with_field("net_devices"))?;
        thread.join().unwrap_or_else(|_| Err(Error::new(ErrorKind::System, "a thread has panicked")))
    })
}

/// A netlink socket of the namespace that it was made in.
#[derive(Debug)]
struct Link(OwnedFd);

impl Link {
    fn open() -> Res<Self> {
        socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None).map(Self)
    }

    /// What the kernel answers, which it does within the call.
    fn ask(&self, request: Message) -> Res<Vec<(u16, Vec<u8>)>> {
        send(&self.0, &request.bytes(), SendFlags::empty())?;
        let (mut answers, mut buffer) = (Vec::new(), vec![0u8; 32 << 10]);
        loop {
            let (len, _) = recv(&self.0, &mut buffer[..], RecvFlags::DONTWAIT)?;
            if let Some(end) = read(buffer.get(..len).unwrap_or_default(), &mut answers) {
                return end.map(|()| answers);
            }
        }
    }

    /// Its index and whether it is up.
    fn find(&self, name: &str) -> Res<(u32, bool)> {
        let answers = self.ask(Message::new(GET_LINK, 0, &[0; 16]).text(NAME, name))?;
        let found = answers.iter().find(|(kind, _)| *kind == NEW_LINK).and_then(|(_, body)| {
            // struct ifinfomsg: family, padding, type (u16), index, flags, change.
            Some((u32::try_from(u32_at(body, 4)?).ok()?, u32_at(body, 8)? & 1 != 0))
        });
        found.ok_or(rustix::io::Errno::NODEV)
    }

    /// This name, or what becomes of it with a number.
    fn free(&self, pattern: &str) -> Res<String> {
        if !is_numbered(pattern) {
            return Ok(pattern.to_owned());
        }
        for number in 0..NUMBERS {
            let name = pattern.replacen(NUMBER, &number.to_string(), 1);
            match self.find(&name) {
                Ok(_) => {}
                Err(rustix::io::Errno::NODEV) if wrong_name(&name) => return Err(rustix::io::Errno::NAMETOOLONG),
                Err(rustix::io::Errno::NODEV) => return Ok(name),
                Err(error) => return Err(error),
            }
        }
        Err(rustix::io::Errno::NFILE)
    }

    /// What it will have lost.
    fn look(&self, name: &str, called: &str) -> Res<Moved> {
        let (index, up) = self.find(name)?;
        let answers = self.ask(Message::new(GET_ADDRESS, DUMP, &[0; 8]))?;
        let of_it = |(kind, body): &(u16, Vec<u8>)| if *kind == NEW_ADDRESS { address(body, index) } else { None };
        let addresses = answers.iter().filter_map(of_it).collect();
        Ok(Moved { name: name.to_owned(), called: called.to_owned(), addresses, up, index: None })
    }

    /// Move it.
    fn leave(&self, one: &Moved, namespace: BorrowedFd<'_>) -> Res<()> {
        let index = one.index.map_or_else(|| self.find(&one.name).map(|(index, _)| index), Ok)?;
        let fd = namespace.as_raw_fd().to_ne_bytes();
        self.ask(Message::new(NEW_LINK, 0, &info(index, 0)).attribute(NAMESPACE, &fd).text(NAME, &one.called)).map(drop)
    }

    /// Its addresses and, if it is to be, up.
    fn arrive(&self, index: u32, addresses: &[Vec<u8>], up: bool) -> Res<()> {
        for address in addresses {
            let mut body = address.clone();
            // struct ifaddrmsg: family, prefix, flags, scope, index.
            if let Some(place) = body.get_mut(4..8) {
                place.copy_from_slice(&index.to_ne_bytes());
            }
            match self.ask(Message::new(NEW_ADDRESS, CREATE, &body)) {
                Err(rustix::io::Errno::EXIST) => {}
                other => drop(other?),
            }
        }
        if up { self.ask(Message::new(NEW_LINK, 0, &info(index, UP))).map(drop) } else { Ok(()) }
    }
}

/// A `struct ifinfomsg` that says whether it is up.
fn info(index: u32, flags: u32) -> [u8; 16] {
    let mut info = [0u8; 16];
    info[4..8].copy_from_slice(&index.to_ne_bytes());
    info[8..12].copy_from_slice(&flags.to_ne_bytes());
    info[12..16].copy_from_slice(&UP.to_ne_bytes());
    info
}

/// A global, permanent address of this interface, with what is kept of it.
fn address(body: &[u8], of: u32) -> Option<Vec<u8>> {
    let [_family, _prefix, flags, scope, ..] = *body else { return None };
    let mut flags = u32::from(flags);
    let mut kept = Vec::new();
    let mut attributes = body.get(8..)?;
    while let (Some(len), Some(kind)) = (u16_at(attributes, 0), u16_at(attributes, 2)) {
        let len = usize::from(len);
        let Some(value) = attributes.get(4..len) else { break };
        match kind {
            FLAGS => flags = u32::from_ne_bytes(value.try_into().ok()?),
            kind if KEPT.contains(&kind) => put(&mut kept, kind, value),
            _ => {}
        }
        attributes = attributes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    if scope != 0 || flags & PERMANENT == 0 || u32_at(body, 4) != usize::try_from(of).ok() {
        return None;
    }
    put(&mut kept, FLAGS, &(flags & CHOSEN).to_ne_bytes());
    let head = body.get(..8)?;
    Some([head, &kept].concat())
}

fn put(to: &mut Vec<u8>, kind: u16, value: &[u8]) {
    to.extend(u16::try_from(4 + value.len()).unwrap_or(u16::MAX).to_ne_bytes());
    to.extend(kind.to_ne_bytes());
    to.extend(value);
    to.resize(to.len().next_multiple_of(4), 0);
}

/// One datagram; the end of the answer, if it is in there.
fn read(mut datagram: &[u8], answers: &mut Vec<(u16, Vec<u8>)>) -> Option<Res<()>> {
    while let (Some(len), Some(kind)) = (u32_at(datagram, 0), u16_at(datagram, 4)) {
        let Some(body) = datagram.get(16..len) else { return Some(Err(rustix::io::Errno::BADMSG)) };
        match kind {
            ANSWERED => {
                let errno = body.get(..4).and_then(|code| Some(i32::from_ne_bytes(code.try_into().ok()?)));
                return Some(match errno {
                    Some(0) => Ok(()),
                    Some(errno) => Err(rustix::io::Errno::from_raw_os_error(errno.saturating_neg())),
                    None => Err(rustix::io::Errno::BADMSG),
                });
            }
            DONE => return Some(Ok(())),
            kind => answers.push((kind, body.to_vec())),
        }
        datagram = datagram.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    None
}

/// A request that is being put together.
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16, body: &[u8]) -> Self {
        // struct nlmsghdr: length, type, flags, sequence, port.
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((ASK | flags).to_ne_bytes());
        bytes.resize(16, 0);
        bytes.extend(body);
        Self(bytes)
    }

    fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        put(&mut self.0, kind, value);
        self
    }

    fn text(self, kind: u16, text: &str) -> Self {
        self.attribute(kind, &[text.as_bytes(), &[0]].concat())
    }

    fn bytes(mut self) -> Vec<u8> {
        let len = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        if let Some(place) = self.0.get_mut(..4) {
            place.copy_from_slice(&len.to_ne_bytes());
        }
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn global_addresses_are_kept_without_what_is_not_ones_own() {
        let with = |scope: u8, flags: u32| {
            let mut body = vec![2, 24, 0, scope, 7, 0, 0, 0];
            put(&mut body, 1, &[10, 0, 0, 1]);
            put(&mut body, 3, b"eth0\0");
            put(&mut body, FLAGS, &flags.to_ne_bytes());
            body
        };
        let kept = address(&with(0, 0x80 | 0x40 | 0x200), 7).unwrap();
        let mut expected = vec![2, 24, 0, 0, 7, 0, 0, 0];
        put(&mut expected, 1, &[10, 0, 0, 1]);
        put(&mut expected, FLAGS, &0x200u32.to_ne_bytes());
        assert_eq!(kept, expected);
        assert!(address(&with(253, 0x80), 7).is_none() && address(&with(0, 0), 7).is_none());
        assert!(address(&with(0, 0x80), 8).is_none() && address(&[2, 24], 7).is_none());
    }

    #[test]
    fn answers_end_with_what_became_of_it() {
        let error = |errno: i32| {
            let mut bytes = Message::new(ANSWERED, 0, &errno.to_ne_bytes()).bytes();
            bytes.extend([0; 4]);
            bytes
        };
        let mut answers = Vec::new();
        assert_eq!(read(&error(-19), &mut answers), Some(Err(rustix::io::Errno::NODEV)));
        assert_eq!(read(&error(0), &mut answers), Some(Ok(())));
        assert_eq!(read(&Message::new(NEW_LINK, 0, &[1, 2, 3, 4]).bytes(), &mut answers), None);
        assert_eq!(answers, [(NEW_LINK, vec![1, 2, 3, 4])]);
        assert!(wrong_name("a/b") && wrong_name("eth%d") && wrong_name("sixteen-bytes-00") && !wrong_name("eth0.5"));
        assert!(!wrong_new_name("eth%d") && !wrong_new_name("eth0") && is_numbered("a%db") && !is_numbered("a%sb"));
        assert!(wrong_new_name("%d%d") && wrong_new_name("eth%s") && wrong_new_name("fourteen-bytes%d"));
    }
}
