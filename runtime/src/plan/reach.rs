//! Plans that reach into a container for a descriptor and run nothing there: a socket in its network namespace, a
//! pseudoterminal of its devpts. A multi-threaded service cannot enter those itself; a child of the keeper does, sends
//! what it has made over its channel, and ends. It never enters the container's pid namespace, so nothing in there can
//! see it, and what blocks there (a file system that never answers) blocks nobody else.

use super::encode::{Builder, Need, Plan, Slot};
use super::process::Joining;
use super::tty;
use super::wire::{NEWNET, NEWNS, NEWUSER, Op, Purpose};

fn begin() -> (Builder, Slot, Slot) {
    let b = Builder::new(&[Need::Init, Need::Channel]);
    let slot = |need| b.received(need).unwrap_or(Slot::CWD);
    let (init, channel) = (slot(Need::Init), slot(Need::Channel));
    (b, init, channel)
}

fn end(mut b: Builder, channel: Slot, made: Slot, purpose: Purpose) -> Plan {
    b.send(channel, made, purpose);
    b.op(Op::Quit, 0, 0, 0);
    b.finish()
}

/// A socket of this family and type, whoever the container's network belongs to. `enter`: it is not the keeper's own.
#[must_use]
pub fn socket(enter: bool, family: u32, kind: u32) -> Plan {
    let (mut b, init, channel) = begin();
    b.field("socket");
    if enter {
        b.on(Op::SetNs, init, NEWNET);
    }
    let made = b.socket(family, kind);
    end(b, channel, made, Purpose::Socket)
}

/// The master of a new pseudoterminal, whose slave belongs to this user of the container.
#[must_use]
pub fn pty(joining: &Joining, user: (u32, u32)) -> Plan {
    let (mut b, init, channel) = begin();
    b.field("pty");
    let own = if joining.ids.is_some() { NEWUSER } else { 0 };
    b.on(Op::SetNs, init, NEWNS | own);
    b.op(Op::SetIds, user.0.into(), user.1.into(), 0);
    let master = tty::open_master(&mut b);
    end(b, channel, master, Purpose::PtyMaster)
}
