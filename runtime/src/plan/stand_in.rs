//! The plan of a process that does nothing but be in a cgroup, until it is let go: systemd makes the group of a scope for processes
//! that are there already, and a container is born into a group that is.

use super::encode::{Builder, Need, Plan, Slot};
use super::wire::Op;

/// It ends when [`Need::Gate`] does.
#[must_use]
pub fn plan() -> Plan {
    let mut b = Builder::new(&[Need::Gate]);
    b.field("cgroup");
    b.on_path(Op::Name, Slot::CWD, "orangery-place", 0);
    let gate = b.received(Need::Gate).unwrap_or(Slot::CWD);
    b.on(Op::Wait, gate, 0);
    b.op(Op::Quit, 0, 0, 0);
    b.finish()
}
