//! What systemd's managers are asked for: units whose groups we may use.
//!
//! [`enter_scope`] is for programs that own their process and were started where they have no rights over their cgroup, as in the
//! session of a login. [`Manager`] makes a unit for a container whose caller wants that (`orangery-oci --systemd-cgroup`), of the
//! machine's manager or the user's. `bus.rs` is the connection, `marshal.rs` the bytes. Nothing in the library calls any of it by
//! itself, and nothing here starts a process. Why no library speaks to the bus: docs/decisions/0054, 0069.

mod bus;
mod manager;
mod marshal;

use std::path::PathBuf;
use std::time::Duration;

pub use manager::{Manager, Property, Unit, Variant};

use crate::error::Error;

/// For each thing that is asked: a manager that is busy with a log-in takes a second or two.
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
/// [`Unsupported`](crate::ErrorKind::Unsupported): this user's manager is to be had neither over a session bus nor over its own socket; as
/// [`Manager::of_user`]. [`System`](crate::ErrorKind::System): the bus or the manager refuses, or does not answer in time; the message has its
/// words. This process may then be in the scope or not.
pub fn enter_scope(description: &str) -> Result<String, Error> {
    let pid = std::process::id();
    let name = format!("orangery-{pid}-{:08x}.scope", crate::native::now_ns() & 0xffff_ffff);
    let properties = vec![
        Property::new("Description", Variant::Text(description.to_owned())),
        Property::new("Delegate", Variant::Flag(true)),
        Property::new("CollectMode", Variant::Text("inactive-or-failed".to_owned())),
    ];
    let unit = Unit { name, processes: vec![pid], properties };
    let started = Manager::of_user().and_then(|mut manager| manager.start(&unit));
    started.map(|()| unit.name).map_err(|error| error.with_field("cgroup_parent"))
}

/// The socket of the session's bus, if there is one.
#[must_use]
pub fn session_bus() -> Option<PathBuf> {
    let address = std::env::var("DBUS_SESSION_BUS_ADDRESS").ok();
    bus::place(address.as_deref(), Some(&runtime_dir()))
}

/// A shell that was not started by a log-in may not have it in its environment.
fn runtime_dir() -> PathBuf {
    let dir = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    dir.unwrap_or_else(|| format!("/run/user/{}", rustix::process::geteuid().as_raw()).into())
}
