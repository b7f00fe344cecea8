//! One of systemd's managers: the machine's, or that of a user's session. It starts a transient unit, changes its properties, and
//! stops it, each waited for.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::bus::{self, Bus, ENDED, refusal};
use super::marshal::{Call, Message, Reader, Value, Writer};
use super::{PATIENCE, runtime_dir};
use crate::error::{Error, ErrorKind};

const SERVICE: &str = "org.freedesktop.systemd1";
const INTERFACE: &str = "org.freedesktop.systemd1.Manager";
const OBJECT: &str = "/org/freedesktop/systemd1";
/// Of a bus or a manager; the rest of what it calls its refusal.
const EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
const UNKNOWN: &str = "org.freedesktop.systemd1.NoSuchUnit";
/// Where it is unless `DBUS_SYSTEM_BUS_ADDRESS` says otherwise, by the specification of D-Bus.
const MACHINE: &str = "/run/dbus/system_bus_socket";

/// A property of a unit, by its name on the bus.
#[derive(Clone, Debug, PartialEq)]
pub struct Property {
    /// Such as `MemoryMax`.
    pub name: String,
    /// What it is to be.
    pub value: Variant,
}

impl Property {
    /// Of this name.
    pub fn new(name: impl Into<String>, value: Variant) -> Self {
        Self { name: name.into(), value }
    }
}

/// The value of a property.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Variant {
    /// `b`
    Flag(bool),
    /// `s`
    Text(String),
    /// `as`
    Texts(Vec<String>),
    /// `u`
    Number(u32),
    /// `t`; all ones are "infinity".
    Wide(u64),
    /// `i`
    Signed(i32),
    /// `x`
    SignedWide(i64),
    /// `d`
    Real(f64),
    /// `ay`
    Bytes(Vec<u8>),
}

impl Variant {
    fn value(&self) -> Value<'_> {
        match self {
            Self::Flag(flag) => Value::Flag(*flag),
            Self::Text(text) => Value::Text(text),
            Self::Texts(texts) => Value::Texts(texts),
            Self::Number(number) => Value::Number(*number),
            Self::Wide(number) => Value::Wide(*number),
            Self::Signed(number) => Value::Signed(*number),
            Self::SignedWide(number) => Value::SignedWide(*number),
            Self::Real(number) => Value::Real(*number),
            Self::Bytes(bytes) => Value::Bytes(bytes),
        }
    }
}

/// A transient unit: a scope of processes that are there, or a slice.
#[derive(Clone, Debug, PartialEq)]
pub struct Unit {
    /// With its `.scope` or `.slice`.
    pub name: String,
    /// Who is in it from the beginning; a scope needs somebody.
    pub processes: Vec<u32>,
    /// What it is.
    pub properties: Vec<Property>,
}

/// A connection to one.
#[derive(Debug)]
pub struct Manager {
    bus: Bus,
}

impl Manager {
    /// The machine's, which root may ask: over the system's bus, or over systemd's own socket where there is none.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`]: there is nobody; each socket that was tried is named, with what the kernel said.
    /// [`ErrorKind::Invalid`]: the variable that names the bus names none that is understood.
    pub fn of_machine() -> Result<Self, Error> {
        match named("DBUS_SYSTEM_BUS_ADDRESS")? {
            // Who names one means no other.
            Some(named) => Self::first(&[named], &[]),
            None => Self::first(&[MACHINE.into()], &["/run/systemd/private".into()]),
        }
    }

    /// That of this user.
    ///
    /// # Errors
    /// As [`of_machine`](Manager::of_machine).
    pub fn of_user() -> Result<Self, Error> {
        match named("DBUS_SESSION_BUS_ADDRESS")? {
            Some(named) => Self::first(&[named], &[]),
            None => Self::first(&[runtime_dir().join("bus")], &[runtime_dir().join("systemd/private")]),
        }
    }

    /// The first that answers, of sockets of a bus, and of systemd's own.
    fn first(buses: &[PathBuf], own: &[PathBuf]) -> Result<Self, Error> {
        let mut tried = Vec::new();
        let direct = |path: &PathBuf| Bus::direct(path, PATIENCE).and_then(|bus| Self { bus }.listening());
        let buses = buses.iter().map(|path| (path, Self::at(path, PATIENCE)));
        // One after the other: what is not needed is not asked.
        for (path, connected) in buses.chain(own.iter().map(|path| (path, direct(path)))) {
            match connected {
                Ok(manager) => return Ok(manager),
                // Each has a number of its own, so that the whole has none.
                Err(error) => tried.push(format!("{}: {error}", path.display())),
            }
        }
        Err(Error::new(ErrorKind::Unsupported, format!("no systemd can be asked: {}", tried.join("; "))))
    }

    /// Behind the bus of this socket, which has so much time for each thing that it is asked.
    pub(super) fn at(socket: &Path, patience: Duration) -> io::Result<Self> {
        Self { bus: Bus::connect(socket, patience)? }.listening()
    }

    /// To the ends of jobs, before the first call: a job may be done before the answer to what has begun it is read.
    fn listening(mut self) -> io::Result<Self> {
        self.bus.listen(&format!("type='signal',interface='{INTERFACE}',member='JobRemoved',path='{OBJECT}'"))?;
        self.call("Subscribe", "", Writer::default())?;
        Ok(self)
    }

    fn call(&mut self, member: &str, signature: &str, body: Writer) -> io::Result<Message> {
        let call = Call { destination: SERVICE, path: OBJECT, interface: INTERFACE, member, signature };
        self.bus.call(&call, body.into_bytes())
    }

    /// Which systemd it is: 252 of `252.30-1`.
    ///
    /// # Errors
    /// It does not say.
    pub fn version(&mut self) -> Result<u32, Error> {
        self.bus.begin();
        let mut body = Writer::default();
        body.text(INTERFACE);
        body.text("Version");
        let call = Call {
            destination: SERVICE,
            path: OBJECT,
            interface: "org.freedesktop.DBus.Properties",
            member: "Get",
            signature: "ss",
        };
        let answer =
            self.bus.call(&call, body.into_bytes()).map_err(|error| failed("does not say its version", &error))?;
        let mut reader = Reader::new(&answer.body);
        let text = reader.signature().filter(|signature| signature == "s").and_then(|_| reader.text());
        let text = text.unwrap_or_default();
        let digits: String = text.chars().skip_while(|c| *c == 'v').take_while(char::is_ascii_digit).collect();
        digits.parse().map_err(|_| Error::new(ErrorKind::System, format!("systemd says that its version is {text:?}")))
    }

    /// Make a unit, and wait until it is there. One of that name that has failed before is forgotten.
    ///
    /// # Errors
    /// [`ErrorKind::State`]: there is a unit of that name. [`ErrorKind::System`]: it refuses, its job does not end as `done`,
    /// or there is no answer in time; whether there is a unit is not known then.
    pub fn start(&mut self, unit: &Unit) -> Result<(), Error> {
        self.bus.begin();
        let mut begun = self.begin_unit(unit);
        if begun.as_ref().is_err_and(|error| refusal(error) == Some(EXISTS)) && self.forget(&unit.name).is_ok() {
            begun = self.begin_unit(unit);
        }
        begun.map_err(|error| {
            let kind = if refusal(&error) == Some(EXISTS) { ErrorKind::State } else { ErrorKind::System };
            failed(&format!("gives no {}", unit.name), &error).with_kind(kind)
        })
    }

    fn begin_unit(&mut self, unit: &Unit) -> io::Result<()> {
        let answer = self.call("StartTransientUnit", "ssa(sv)a(sa(sv))", arguments(unit))?;
        self.done(&answer, &unit.name)
    }

    /// Change what it is until it ends.
    ///
    /// # Errors
    /// It refuses, or there is no such unit.
    pub fn set(&mut self, unit: &str, properties: &[Property]) -> Result<(), Error> {
        self.bus.begin();
        let mut body = Writer::default();
        body.text(unit);
        // Not beyond the next boot: of a transient unit nothing is.
        body.number(1);
        written(&mut body, &[], properties);
        let set = self.call("SetUnitProperties", "sba(sv)", body);
        set.map(drop).map_err(|error| failed(&format!("does not change {unit}"), &error))
    }

    /// End all that is in it, and wait until it is gone; gone already is as good.
    ///
    /// # Errors
    /// It refuses, or there is no answer in time.
    pub fn stop(&mut self, unit: &str) -> Result<(), Error> {
        self.bus.begin();
        let mut body = Writer::default();
        body.text(unit);
        body.text("replace");
        let stopped = self.call("StopUnit", "ss", body).and_then(|answer| self.done(&answer, unit));
        // One that has failed would be kept for somebody to look at, by a systemd that knows no CollectMode.
        let forgotten = self.forget(unit);
        match (stopped, forgotten) {
            (Err(error), _) | (Ok(()), Err(error)) if refusal(&error) != Some(UNKNOWN) => {
                Err(failed(&format!("does not stop {unit}"), &error))
            }
            _ => Ok(()),
        }
    }

    fn forget(&mut self, unit: &str) -> io::Result<()> {
        let mut body = Writer::default();
        body.text(unit);
        self.call("ResetFailedUnit", "s", body).map(drop)
    }

    /// The job that `answer` names has ended well.
    fn done(&mut self, answer: &Message, unit: &str) -> io::Result<()> {
        let none = || io::Error::new(io::ErrorKind::InvalidData, "what was asked for is answered without a job");
        let job = Reader::new(&answer.body).text().filter(|_| answer.signature == "o").ok_or_else(none)?;
        loop {
            let signal = self.bus.signal()?;
            if signal.member != ENDED || signal.signature != "uoss" {
                continue;
            }
            let mut reader = Reader::new(&signal.body);
            let removed = (reader.number(), reader.text(), reader.text(), reader.text());
            let (Some(_), Some(path), Some(_), Some(result)) = removed else { continue };
            match result.as_str() {
                _ if path != job => {}
                "done" => return Ok(()),
                other => return Err(io::Error::other(format!("the job of {unit} has ended as {other}"))),
            }
        }
    }
}

/// The socket that a variable of the environment names; `None`: it is not set, or empty.
fn named(variable: &str) -> Result<Option<PathBuf>, Error> {
    match std::env::var_os(variable).filter(|address| !address.is_empty()) {
        None => Ok(None),
        Some(address) => understood(variable, &address).map(Some),
    }
}

/// Who names one means no other: what is not understood is not passed over.
fn understood(variable: &str, address: &OsStr) -> Result<PathBuf, Error> {
    address.to_str().and_then(|text| bus::place(Some(text), None)).ok_or_else(|| {
        let what = format!("{variable}: {address:?} names no socket by its path, as unix:path=/run/user/1000/bus does");
        Error::new(ErrorKind::Invalid, what)
    })
}

fn failed(what: &str, error: &io::Error) -> Error {
    let why = match error.kind() {
        // The error says it itself.
        _ if error.raw_os_error().is_some() => String::new(),
        io::ErrorKind::TimedOut => format!(": there was no answer within {} s", PATIENCE.as_secs()),
        io::ErrorKind::UnexpectedEof => ": the connection to it has ended".to_owned(),
        _ => format!(": {error}"),
    };
    Error::new(ErrorKind::System, format!("systemd {what}{why}")).with_errno(error.raw_os_error())
}

/// The arguments of `StartTransientUnit`: name, mode, properties, no further units.
fn arguments(unit: &Unit) -> Writer {
    let mut body = Writer::default();
    body.text(&unit.name);
    body.text("fail");
    written(&mut body, &unit.processes, &unit.properties);
    body.array(8, |_| {});
    body
}

fn written(body: &mut Writer, processes: &[u32], properties: &[Property]) {
    body.array(8, |it| {
        for Property { name, value } in properties {
            it.property(name, value.value());
        }
        if !processes.is_empty() {
            it.property("PIDs", Value::Numbers(processes));
        }
    });
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use std::io::{Read as _, Write as _};

    use super::super::marshal::{HEAD, RETURN, SIGNAL, length, parse};
    use super::*;

    /// What a manager that nobody can have says, to each call but those of the beginning.
    type Says = fn(member: &str, serial: u32) -> Vec<Vec<u8>>;

    fn message(kind: u8, answers: Option<u32>, member: &str, signature: &str, body: Writer) -> Vec<u8> {
        let call = Call { destination: "a.b", path: OBJECT, interface: INTERFACE, member, signature };
        call.of_kind(kind, answers, body.into_bytes())
    }

    fn fake(says: Says) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bus");
        let listener = UnixListener::bind(&path).unwrap();
        thread::spawn(move || -> io::Result<()> {
            let (mut stream, _) = listener.accept()?;
            let mut said = Vec::new();
            for (until, answer) in [("EXTERNAL\r\n", "DATA\r\n"), ("DATA\r\n", "OK 1\r\n"), ("BEGIN\r\n", "")] {
                while !said.ends_with(until.as_bytes()) {
                    let mut byte = [0];
                    stream.read_exact(&mut byte)?;
                    said.push(byte[0]);
                }
                stream.write_all(answer.as_bytes())?;
            }
            for serial in 1.. {
                let mut bytes = vec![0; HEAD];
                stream.read_exact(&mut bytes)?;
                let whole = length(&bytes).unwrap_or(HEAD);
                bytes.resize(whole, 0);
                stream.read_exact(&mut bytes[HEAD..])?;
                let asked = parse(&bytes).unwrap_or_default().member;
                let plain = ["Hello", "AddMatch", "Subscribe"].contains(&asked.as_str());
                let answers = match plain {
                    true => vec![message(RETURN, Some(serial), "", "", Writer::default())],
                    false => says(&asked, serial),
                };
                if answers.is_empty() {
                    // It goes away.
                    return Ok(());
                }
                answers.iter().try_for_each(|answer| stream.write_all(answer))?;
            }
            Ok(())
        });
        (dir, path)
    }

    fn job(serial: u32, result: &str) -> Vec<Vec<u8>> {
        let mut path = Writer::default();
        path.text("/job/1");
        let mut removed = Writer::default();
        removed.number(1);
        ["/job/1", "x.scope", result].iter().for_each(|text| removed.text(text));
        // Before the answer, as it may come.
        vec![message(SIGNAL, None, "JobRemoved", "uoss", removed), message(RETURN, Some(serial), "", "o", path)]
    }

    fn scope() -> Unit {
        let properties = vec![Property::new("MemoryMax", Variant::Wide(1 << 30))];
        Unit { name: "x.scope".into(), processes: vec![7], properties }
    }

    #[test]
    fn a_job_that_is_done_before_its_answer_is_done() {
        let (_dir, path) = fake(|_, serial| job(serial, "done"));
        let mut manager = Manager::at(&path, PATIENCE).unwrap();
        manager.start(&scope()).unwrap();
    }

    #[test]
    fn a_job_among_many_others_is_done() {
        // As many signals of something else as no queue holds, before it and after it.
        let (_dir, path) = fake(|_, serial| {
            let noise = || (0..100).map(|_| message(SIGNAL, None, "UnitNew", "", Writer::default()));
            let mut said = job(serial, "done");
            let answer = said.pop();
            noise().chain(said).chain(noise()).chain(answer).collect()
        });
        Manager::at(&path, PATIENCE).unwrap().start(&scope()).unwrap();
    }

    #[test]
    fn a_bus_that_is_named_and_not_understood_is_told() {
        for address in ["unix:abstract=/tmp/x", "unix:path=/a%20b", "tcp:host=x"] {
            let error = understood("DBUS_SESSION_BUS_ADDRESS", address.as_ref()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.what().contains("DBUS_SESSION_BUS_ADDRESS") && error.what().contains(address), "{error}");
        }
        assert_eq!(understood("X", "unix:path=/b".as_ref()).unwrap(), Path::new("/b"));
        assert_eq!(named("ORANGERY_NOBODY_SETS_THIS").unwrap(), None);
    }

    #[test]
    fn a_job_that_fails_is_told_by_its_word() {
        let (_dir, path) = fake(|_, serial| job(serial, "failed"));
        let error = Manager::at(&path, PATIENCE).unwrap().start(&scope()).unwrap_err();
        let told = "systemd gives no x.scope: the job of x.scope has ended as failed";
        assert_eq!((error.kind(), error.what()), (ErrorKind::System, told));
    }

    #[test]
    fn a_bus_that_goes_away_is_told() {
        let (_dir, path) = fake(|_, _| Vec::new());
        let error = Manager::at(&path, PATIENCE).unwrap().start(&scope()).unwrap_err();
        assert_eq!(error.what(), "systemd gives no x.scope: the connection to it has ended");
    }

    #[test]
    fn nobody_is_waited_for_for_ever() {
        // A signal of something else is no answer.
        let (_dir, path) = fake(|_, _| vec![message(SIGNAL, None, "Other", "", Writer::default())]);
        let mut manager = Manager::at(&path, PATIENCE).unwrap();
        manager.bus.be_patient_for(Duration::from_millis(20));
        let error = manager.start(&scope()).unwrap_err();
        assert!(error.what().contains("no answer"), "{error}");
    }

    #[test]
    fn without_any_socket_all_that_were_tried_are_named() {
        let error = Manager::first(&["/nonexistent/bus".into()], &["/nonexistent/private".into()]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        for part in ["/nonexistent/bus: No such file", "/nonexistent/private: No such file"] {
            assert!(error.what().contains(part), "{error}");
        }
    }
}
