//! Plans that reach into a container and run nothing there: for a descriptor, of a socket in its network namespace, of a
//! pseudoterminal of its devpts; or for its files, in the name of one of its users ([`hand`]). A multi-threaded service cannot enter those itself; a child of the keeper does, sends
//! what it has made over its channel, and ends. It never enters the container's pid namespace, so nothing in there can
//! see it, and what blocks there (a file system that never answers) blocks nobody else.

use super::encode::{Builder, Need, Plan, Slot};
use super::process::Joining;
use super::rootfs::{NODEV, NOSUID};
use super::tty;
use super::wire::{NEWNET, NEWNS, NEWUSER, Op, Purpose};
use crate::spec::Disk;

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

/// A file system in memory of this size, for whoever fills it. It belongs to the keeper's root, and is gone with the last who
/// has it open or has mounted it.
#[must_use]
pub fn file_system(disk: Disk) -> Plan {
    let mut b = Builder::new(&[Need::Channel]);
    let channel = b.received(Need::Channel).unwrap_or(Slot::CWD);
    // Only in a mount namespace of its own may a user mount something.
    b.clone_flags(NEWNS);
    let (size, inodes) = (disk.bytes.to_string(), disk.inodes.to_string());
    let options = [("size", size.as_str()), ("nr_inodes", inodes.as_str()), ("mode", "0755")];
    let made = b.field("disk").new_mount("tmpfs", &options, NOSUID | NODEV);
    end(b, channel, made, Purpose::Tree)
}

/// Touches files as one of the keeper's ids, for an ordinary user's supervisor, which cannot become another one. It enters
/// nothing: whom files belong to is the same everywhere, and those of a container that has ended are still there.
#[must_use]
pub fn hand((uid, gid): (u32, u32)) -> Plan {
    let mut b = Builder::new(&[Need::Channel]);
    let channel = b.received(Need::Channel).unwrap_or(Slot::CWD);
    b.field("user");
    b.set_groups(&[]);
    b.op(Op::SetIds, uid.into(), gid.into(), 0);
    // One who is the keeper's root and of another group would have kept them.
    b.op(Op::CapSet, 0, 0, 0);
    b.on_path(Op::Name, Slot::CWD, "orangery-hand", 0);
    b.op(Op::Ready, 0, 0, 0);
    b.on(Op::Hand, channel, 0);
    b.finish()
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
