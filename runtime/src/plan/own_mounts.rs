//! Mounts that one further process of a container sees alone: a mount namespace of its own, a copy of the container's.

use super::encode::{Builder, Slot};
use super::mounts;
use super::process::Joining;
use super::rootfs::{self, BENEATH, O_PATH, PATH_DIR};
use super::wire::{NEWNS, Op};
use crate::spec::check::CheckedProcess;
use crate::spec::{Mount, MountSource, Seen};

/// The trees of bind mounts, opened where they do not come along, as they are to be mounted: whoever is in the container may see them
/// from the process's first moment.
pub(super) fn sources(b: &mut Builder, process: &CheckedProcess) -> Vec<Option<Slot>> {
    let one = |(index, mount): (usize, &Mount)| {
        let tree = mounts::open(b, index, mount)?;
        mounts::prepare(b, mount, process.mount(index), tree);
        Some(tree)
    };
    process.spec().mounts.iter().enumerate().map(one).collect()
}

/// In the container's namespaces, before the rights for it are given up.
pub(super) fn steps(b: &mut Builder, process: &CheckedProcess, joining: &Joining, binds: &[Option<Slot>]) {
    let mounts = &process.spec().mounts;
    if mounts.is_empty() {
        return;
    }
    b.field("mounts").op(Op::Unshare, NEWNS, 0, 0);
    // MS_REC | MS_PRIVATE: nothing of it may travel to the container.
    b.on_path(Op::Propagation, Slot::CWD, "/", 0x4000 | 0x4_0000);
    if let Some(ids) = &joining.ids {
        // Whoever has no id there can make no mount point.
        if !ids.deny_setgroups {
            b.set_groups(&[]);
        }
        let (uid, gid) = ids.first_ids();
        b.op(Op::SetIds, uid.into(), gid.into(), 0);
    }
    for (index, mount) in mounts.iter().enumerate() {
        one(b, mount, process.mount(index), joining, binds.get(index).copied().flatten());
    }
}

fn one(b: &mut Builder, mount: &Mount, seen: Seen, joining: &Joining, bind: Option<Slot>) {
    let inside = mount.target.strip_prefix("/").unwrap_or(&mount.target);
    // The working directory is the container's root since it was joined.
    let (dir, name) = rootfs::make_parents(b, Slot::CWD, inside);
    mounts::make(b, dir, name, seen.is_file);
    let place = b.open(Slot::CWD, inside, if seen.is_file { O_PATH } else { PATH_DIR }, BENEATH);
    let source = match (&mount.source, bind) {
        (MountSource::Tmpfs { size }, _) => mounts::tmpfs(b, mount, *size, joining.disk),
        (_, tree) => tree.unwrap_or(Slot::CWD),
    };
    b.move_mount(source, place, "");
}
