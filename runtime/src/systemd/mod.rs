//! A group of this user's own manager, systemd: for programs that own their process and were started where they have no
//! rights over their cgroup, as in the session of a login.
//!
//! One call over the session's message bus ([`enter_scope`]): `bus.rs` is the connection, `marshal.rs` the bytes. Nothing in
//! the library calls it by itself, and nothing here starts a process. Why no library speaks to the bus: docs/decisions/0054.

mod bus;
mod marshal;

use std::path::PathBuf;
use std::time::Duration;

use bus::Bus;
use marshal::{Call, Reader, Value, Writer};

use crate::error::{Error, ErrorKind};

const MANAGER: &str = "org.freedesktop.systemd1";
const INTERFACE: &str = "org.freedesktop.systemd1.Manager";
const OBJECT: &str = "/org/freedesktop/systemd1";
/// For all of it: a manager that is busy with a log-in takes a second or two.
const PATIENCE: Duration = Duration::from_secs(15);

/// Moves **this process** into a transient scope of the user's manager, with `Delegate=yes`: a group whose limits are ours to give
/// out. As `systemd-run --user --scope -p Delegate=yes` does, without another program. Follow it with
/// [`enter_leaf`](crate::cgroup::enter_leaf). The scope goes with the last process in it, so what lives on in the durable mode
/// keeps it.
///
/// For programs that own their process, never for a library: everything that this process starts from then on is in the
/// scope, and is ended with the user's manager, at the end of the last session unless the user lingers. Returns the
/// scope's name, such as `orangery-4711.scope`.
///
/// It blocks until the manager has done it, for fifteen seconds at most.
///
/// # Errors
/// [`ErrorKind::Unsupported`]: this user has no session bus. [`ErrorKind::System`]: the bus or the manager refuses, or does
/// not answer in time; the message has its words. This process may then be in the scope or not.
pub fn enter_scope(description: &str) -> Result<String, Error> {
    let socket = session_bus().ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, "this user's session has no message bus").with_field("cgroup_parent")
    })?;
    let failed = |error: std::io::Error| {
        Error::new(ErrorKind::System, format!("the user's systemd gives no scope: {error}")).with_field("cgroup_parent")
    };
    ask(&socket, description).map_err(failed)
}

/// The socket of the session's bus, if there is one.
#[must_use]
pub fn session_bus() -> Option<PathBuf> {
    let address = std::env::var("DBUS_SESSION_BUS_ADDRESS").ok();
    let dir = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    // A shell that was not started by a log-in may have neither.
    let dir = dir.unwrap_or_else(|| format!("/run/user/{}", rustix::process::geteuid().as_raw()).into());
    bus::place(address.as_deref(), Some(&dir))
}

fn ask(socket: &std::path::Path, description: &str) -> std::io::Result<String> {
    let mut bus = Bus::connect(socket, PATIENCE)?;
    // Before the call: the job may be done before its answer is read.
    bus.listen(&format!("type='signal',interface='{INTERFACE}',member='JobRemoved',path='{OBJECT}'"))?;
    let call = |member, signature| Call { destination: MANAGER, path: OBJECT, interface: INTERFACE, member, signature };
    bus.call(&call("Subscribe", ""), Vec::new())?;
    let pid = std::process::id();
    let name = format!("orangery-{pid}-{:08x}.scope", crate::native::now_ns() & 0xffff_ffff);
    let answer = bus.call(&call("StartTransientUnit", "ssa(sv)a(sa(sv))"), unit(&name, description, pid))?;
    let none = || std::io::Error::new(std::io::ErrorKind::InvalidData, "StartTransientUnit answers without a job");
    let job = Reader::new(&answer.body).text().filter(|_| answer.signature == "o").ok_or_else(none)?;
    loop {
        let signal = bus.signal()?;
        if signal.member != "JobRemoved" || signal.signature != "uoss" {
            continue;
        }
        let mut reader = Reader::new(&signal.body);
        let removed = (reader.number(), reader.text(), reader.text(), reader.text());
        let (Some(_), Some(path), Some(_), Some(result)) = removed else { continue };
        match result.as_str() {
            _ if path != job => {}
            "done" => return Ok(name),
            other => return Err(std::io::Error::other(format!("the job of {name} has ended as {other}"))),
        }
    }
}

/// The arguments of `StartTransientUnit`: name, mode, properties, no further units.
fn unit(name: &str, description: &str, pid: u32) -> Vec<u8> {
    let mut body = Writer::default();
    body.text(name);
    body.text("fail");
    body.array(8, |it| {
        it.property("Description", Value::Text(description));
        it.property("PIDs", Value::Numbers(&[pid]));
        it.property("Delegate", Value::Flag(true));
        it.property("CollectMode", Value::Text("inactive-or-failed"));
    });
    body.array(8, |_| {});
    body.into_bytes()
}
