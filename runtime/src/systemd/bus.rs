//! One connection to a message bus: authenticated as this user, one call at a time, and the signals that come meanwhile.
//! It blocks, and nothing takes longer than its patience. Of signals the ends of jobs alone are kept.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use super::marshal::{self, Call, ERROR, HEAD, Message, RETURN, SIGNAL};

const BUS: &str = "org.freedesktop.DBus";
/// The signal that a job has ended.
pub(super) const ENDED: &str = "JobRemoved";
/// Ends of jobs that nobody has asked for yet, the last ones: that of a job may come before the answer that names it, and all jobs of the
/// machine's are told.
const WAITING: usize = 64;

#[derive(Debug)]
pub(super) struct Bus {
    stream: UnixStream,
    patience: Duration,
    until: Instant,
    /// There is no bus in between: who answers is at the other end.
    direct: bool,
    serial: u32,
    signals: VecDeque<Message>,
}

/// The words of who has refused a call.
#[derive(Debug)]
pub(super) struct Refusal {
    member: String,
    /// Such as `org.freedesktop.systemd1.NoSuchUnit`.
    pub(super) name: String,
    said: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}: {}", self.member, self.name, self.said)
    }
}

impl std::error::Error for Refusal {}

/// What the other side calls its refusal, where it is one.
pub(super) fn refusal(error: &io::Error) -> Option<&str> {
    Some(error.get_ref()?.downcast_ref::<Refusal>()?.name.as_str())
}

fn wrong(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

impl Bus {
    /// At this socket, within this time, and within this time again after each [`begin`](Bus::begin).
    pub(super) fn connect(socket: &Path, patience: Duration) -> io::Result<Self> {
        let mut bus = Self::direct(socket, patience)?;
        bus.direct = false;
        let hello =
            Call { destination: BUS, path: "/org/freedesktop/DBus", interface: BUS, member: "Hello", signature: "" };
        bus.call(&hello, Vec::new())?;
        Ok(bus)
    }

    /// The same where there is no bus in between.
    pub(super) fn direct(socket: &Path, patience: Duration) -> io::Result<Self> {
        let stream = connected(socket, patience)?;
        let until = Instant::now() + patience;
        let mut bus = Self { stream, patience, until, direct: true, serial: 0, signals: VecDeque::new() };
        bus.authenticate()?;
        Ok(bus)
    }

    /// From the next [`begin`](Bus::begin) on.
    #[cfg(test)]
    pub(super) fn be_patient_for(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Something new is to be done.
    pub(super) fn begin(&mut self) {
        self.until = Instant::now() + self.patience;
    }

    /// EXTERNAL without a name: the other side knows by the socket who we are, and in a user namespace we do not know it.
    fn authenticate(&mut self) -> io::Result<()> {
        self.write(b"\0AUTH EXTERNAL\r\n")?;
        let mut answer = self.line()?;
        if answer == "DATA" {
            self.write(b"DATA\r\n")?;
            answer = self.line()?;
        }
        if !answer.starts_with("OK ") {
            let said = answer.escape_debug();
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("the bus does not take us: {said}")));
        }
        self.write(b"BEGIN\r\n")
    }

    /// Of what is said before the first message.
    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            if line.len() > 512 {
                return Err(wrong("the bus answers without an end"));
            }
            line.extend(self.read(1)?);
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// Ask for these signals. Who is at the other end itself sends all of its own.
    pub(super) fn listen(&mut self, rule: &str) -> io::Result<()> {
        if self.direct {
            return Ok(());
        }
        let mut body = marshal::Writer::default();
        body.text(rule);
        let call = Call {
            destination: BUS,
            path: "/org/freedesktop/DBus",
            interface: BUS,
            member: "AddMatch",
            signature: "s",
        };
        self.call(&call, body.into_bytes()).map(drop)
    }

    /// Call, and wait for the answer.
    pub(super) fn call(&mut self, call: &Call<'_>, body: Vec<u8>) -> io::Result<Message> {
        self.serial += 1;
        let serial = self.serial;
        self.write(&call.message(serial, body))?;
        loop {
            let message = self.receive()?;
            match message.kind {
                RETURN if message.answers == Some(serial) => return Ok(message),
                ERROR if message.answers == Some(serial) => {
                    let said =
                        marshal::Reader::new(&message.body).text().filter(|_| message.signature.starts_with('s'));
                    let said = said.unwrap_or_default().escape_debug().to_string();
                    return Err(io::Error::other(Refusal { member: call.member.into(), name: message.error, said }));
                }
                SIGNAL if message.member == ENDED => self.keep(message),
                _ => {}
            }
        }
    }

    fn keep(&mut self, signal: Message) {
        if self.signals.len() == WAITING {
            self.signals.pop_front();
        }
        self.signals.push_back(signal);
    }

    /// The next signal; of those before the last answer only ends of jobs.
    pub(super) fn signal(&mut self) -> io::Result<Message> {
        if let Some(signal) = self.signals.pop_front() {
            return Ok(signal);
        }
        loop {
            let message = self.receive()?;
            if message.kind == SIGNAL {
                return Ok(message);
            }
        }
    }

    fn receive(&mut self) -> io::Result<Message> {
        let mut bytes = self.read(HEAD)?;
        let length = marshal::length(&bytes).ok_or_else(|| wrong("the bus sends what is no message"))?;
        bytes.extend(self.read(length - HEAD)?);
        marshal::parse(&bytes).ok_or_else(|| wrong("the bus sends what is no message"))
    }

    fn left(&self) -> io::Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        // A time-out of zero would be none.
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }

    fn read(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        let mut at = 0;
        while at < count {
            self.stream.set_read_timeout(Some(self.left()?))?;
            match self.stream.read(&mut bytes[at..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => at += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(io::ErrorKind::TimedOut.into()),
                Err(error) => return Err(error),
            }
        }
        Ok(bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write_all(bytes)
    }
}

/// Whoever listens there may have so many to accept before us that it waits for the kernel to take us.
fn connected(socket: &Path, patience: Duration) -> io::Result<UnixStream> {
    let ours = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_timeout(&ours, sockopt::Timeout::Send, Some(patience))?;
    let address = SocketAddrUnix::new(socket)?;
    match rustix::io::retry_on_intr(|| rustix::net::connect(&ours, &address)) {
        Ok(()) => Ok(ours.into()),
        Err(rustix::io::Errno::AGAIN) => Err(io::ErrorKind::TimedOut.into()),
        Err(error) => Err(error.into()),
    }
}

/// Where the bus of this user's session is, if there is one: by `DBUS_SESSION_BUS_ADDRESS`, else in the runtime directory.
pub(super) fn place(address: Option<&str>, runtime_dir: Option<&Path>) -> Option<PathBuf> {
    let named = address.and_then(|list| list.split(';').find_map(socket));
    named.or_else(|| Some(runtime_dir?.join("bus")).filter(|path| path.exists()))
}

/// `unix:path=/run/user/1000/bus,guid=...`; other transports are not systemd's.
fn socket(address: &str) -> Option<PathBuf> {
    let fields = address.strip_prefix("unix:")?;
    let path = fields.split(',').find_map(|field| field.strip_prefix("path="))?;
    // `%` begins an escaped byte, and no path of systemd's has one.
    (!path.contains('%')).then(|| path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bus_is_where_it_is_said_to_be() {
        let of = |address| place(Some(address), None);
        assert_eq!(of("unix:path=/run/user/7/bus"), Some("/run/user/7/bus".into()));
        assert_eq!(of("tcp:host=x,port=1;unix:guid=1,path=/b"), Some("/b".into()));
        for none in ["", "unix:abstract=/x", "unix:path=/a%20b", "path=/x"] {
            assert_eq!(of(none), None, "{none}");
        }
        assert_eq!(place(None, Some(Path::new("/nonexistent"))), None);
    }

    #[test]
    fn who_never_accepts_is_not_waited_for_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bus");
        let address = SocketAddrUnix::new(&path).unwrap();
        let socket = || rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        let listener = socket();
        rustix::net::bind(&listener, &address).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        // With as many as the kernel takes before somebody accepts them.
        let first = socket();
        rustix::net::connect(&first, &address).unwrap();
        let error = Bus::direct(&path, Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
    }
}
