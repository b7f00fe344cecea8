//! A process's own terminal: made by the process itself in the devpts of its container, before it gives up its rights,
//! and by descriptors alone. It keeps the slave, as its three streams and as the terminal that controls its session; the
//! master goes over the plan's channel to whoever watches the process.

use super::encode::{Builder, Need, Slot};
use super::machine::IdMap;
use super::rootfs::{O_PATH, STRICT};
use super::wire::{Op, Purpose};
use crate::spec::check::CheckedProcess;

/// `openat2`: RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_IN_ROOT.
const INSIDE: u64 = 0x02 | 0x04 | 0x10;
/// `DEVPTS_SUPER_MAGIC`.
const DEVPTS: u64 = 0x1cd1;
/// The group stays as it is: the mount's, `tty`, where that exists inside.
const SAME_GROUP: u32 = u32::MAX;

fn flags() -> u64 {
    u64::from((libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC).unsigned_abs())
}

/// A new master, in the devpts that the container has now.
pub(super) fn open_master(b: &mut Builder) -> Slot {
    let master = b.open(Slot::CWD, "/dev/pts/ptmx", flags(), INSIDE);
    // Whatever the workload has put there is not taken for a terminal.
    b.on(Op::CheckFs, master, DEVPTS);
    master
}

/// The slave, for a process that has a terminal. `console`: it is /dev/console of the whole container too.
pub(super) fn steps(b: &mut Builder, process: &CheckedProcess, ids: Option<&IdMap>, console: bool) -> Option<Slot> {
    let size = process.spec().tty?;
    let channel = b.received(Need::Channel)?;
    // Whoever has no id in the container can give nothing away there.
    let (root, group) = ids.map_or((0, 0), IdMap::first_ids);
    b.field("tty").op(Op::SetIds, root.into(), group.into(), 0);
    let master = open_master(b);
    let slave = b.open_peer(master, flags());
    b.window_size(slave, size.rows, size.columns);
    let (uid, _) = process.ids();
    if uid != root {
        b.chown(slave, "", uid, SAME_GROUP);
    }
    if console {
        let tree = b.clone_tree(slave);
        // The working directory is the container's root since it was joined or made.
        let place = b.open(Slot::CWD, "dev/console", O_PATH, STRICT);
        b.move_mount(tree, place, "");
        b.close(place);
        b.close(tree);
    }
    b.on(Op::ControllingTerminal, slave, 0);
    b.send(channel, master, Purpose::PtyMaster);
    b.close(master);
    Some(slave)
}
