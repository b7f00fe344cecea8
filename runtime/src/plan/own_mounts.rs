//! Mounts that one further process of a container sees alone: a mount namespace of its own, a copy of the container's.

use super::container::NEWNS;
use super::encode::{Builder, Need, Slot};
use super::process::Joining;
use super::rootfs::{self, BENEATH, NODEV, NOSUID, O_PATH, PATH_DIR, PRIVATE, RDONLY};
use super::wire::{EXIST_OK, Op};
use crate::spec::check::CheckedProcess;
use crate::spec::{Mount, MountSource};

/// The trees of bind mounts, where they do not come along: opened by the child before it joins the container.
pub(super) fn sources(b: &mut Builder, process: &CheckedProcess) -> Vec<Option<Slot>> {
    let one = |(index, mount): (usize, &Mount)| match &mount.source {
        MountSource::Bind(path) => {
            let need = Need::Bind(u16::try_from(index).unwrap_or(u16::MAX));
            Some(b.received(need).unwrap_or_else(|| b.field("mounts").open_tree(Slot::CWD, path, true)))
        }
        MountSource::Tmpfs { .. } => None,
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
        one(b, mount, process.mount_is_file(index), joining, binds.get(index).copied().flatten());
    }
}

fn one(b: &mut Builder, mount: &Mount, is_file: bool, joining: &Joining, bind: Option<Slot>) {
    let inside = mount.target.strip_prefix("/").unwrap_or(&mount.target);
    // The working directory is the container's root since it was joined.
    let (dir, name) = rootfs::make_parents(b, Slot::CWD, inside);
    if is_file {
        b.make_file(dir, name, 0o644, None, Slot::CWD).tolerate(EXIST_OK);
    } else {
        b.on_path(Op::Mkdir, dir, name, 0o755).tolerate(EXIST_OK);
    }
    let place = b.open(Slot::CWD, inside, if is_file { O_PATH } else { PATH_DIR }, BENEATH);
    let read_only = if mount.read_only { RDONLY } else { 0 };
    let source = match (&mount.source, bind) {
        (MountSource::Tmpfs { size }, _) => {
            let (size, inodes) = (size.unwrap_or(joining.disk.bytes).to_string(), joining.disk.inodes.to_string());
            let options = [("size", size.as_str()), ("nr_inodes", inodes.as_str()), ("mode", "1777")];
            b.new_mount("tmpfs", &options, NOSUID | NODEV | read_only)
        }
        (MountSource::Bind(_), tree) => {
            let tree = tree.unwrap_or(Slot::CWD);
            b.mount_attr(tree, NOSUID | NODEV | read_only, PRIVATE, true);
            tree
        }
    };
    b.move_mount(source, place, "");
}
