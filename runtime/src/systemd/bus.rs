//! One connection to a message bus: authenticated as this user, one call at a time, and the signals that come meanwhile.
//! It blocks, and nothing takes longer than its patience.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::marshal::{self, Call, ERROR, HEAD, Message, RETURN, SIGNAL};

const BUS: &str = "org.freedesktop.DBus";
/// Signals that nobody has asked for yet: a bus sends what was asked for alone.
const WAITING: usize = 64;

pub(super) struct Bus {
    stream: UnixStream,
    until: Instant,
    serial: u32,
    signals: VecDeque<Message>,
}

fn wrong(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

impl Bus {
    /// At this socket, within this time for everything together.
    pub(super) fn connect(socket: &Path, patience: Duration) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        let mut bus = Self { stream, until: Instant::now() + patience, serial: 0, signals: VecDeque::new() };
        bus.authenticate()?;
        let hello =
            Call { destination: BUS, path: "/org/freedesktop/DBus", interface: BUS, member: "Hello", signature: "" };
        bus.call(&hello, Vec::new())?;
        Ok(bus)
    }

    /// EXTERNAL: the bus knows by the socket who we are.
    fn authenticate(&mut self) -> io::Result<()> {
        let uid = rustix::process::geteuid().as_raw().to_string();
        let uid: String = uid.bytes().map(|digit| format!("{digit:02x}")).collect();
        self.write(format!("\0AUTH EXTERNAL {uid}\r\n").as_bytes())?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n") {
            if answer.len() > 512 {
                return Err(wrong("the bus answers without an end"));
            }
            answer.extend(self.read(1)?);
        }
        if !answer.starts_with(b"OK ") {
            let said = String::from_utf8_lossy(&answer).trim().escape_debug().to_string();
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("the bus does not take us: {said}")));
        }
        self.write(b"BEGIN\r\n")
    }

    /// Ask for these signals.
    pub(super) fn listen(&mut self, rule: &str) -> io::Result<()> {
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
                    return Err(io::Error::other(format!("{}: {}: {said}", call.member, message.error)));
                }
                SIGNAL if self.signals.len() < WAITING => self.signals.push_back(message),
                _ => {}
            }
        }
    }

    /// The next signal.
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
}
