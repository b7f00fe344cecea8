//! The steps of the mounts that the user asked for: sources, mount points, and where each is attached.

use std::ffi::OsStr;
use std::path::Path;

use super::container::Context;
use super::encode::{Builder, Need, Slot};
use super::listed;
use super::rootfs::{
    BENEATH, NODEV, NOEXEC, NOSUID, O_PATH, PATH_DIR, PRIVATE, RDONLY, Root, SLAVE, in_private, left, make_parents,
    may_make,
};
use super::wire::{EXIST_OK, Op};
use crate::spec::{Disk, Mount, MountSource, Propagation, Seen};

/// Sources that later mounts of the host are to reach. Before the namespace is made private: a copy of a private mount
/// can be no slave.
pub(super) fn slaves(b: &mut Builder, cx: &Context<'_>) -> Vec<Option<Slot>> {
    let mounts = cx.spec.container().mounts.iter().enumerate();
    let slave = |(index, mount): (usize, &Mount)| travels(mount).then(|| open(b, index, mount));
    mounts.map(slave).map(Option::flatten).collect()
}

/// Mounts of the host reach it, or its own reach the host.
fn travels(mount: &Mount) -> bool {
    const PRIVATE_OR_UNBINDABLE: u64 = 1 << 18 | 1 << 17;
    match &mount.exact {
        Some(exact) => exact.propagation.iter().any(|flags| flags & PRIVATE_OR_UNBINDABLE == 0),
        None => mount.propagation == Propagation::Slave,
    }
}

/// Source trees, in the order of the mounts; `slaves` are open already.
pub(super) fn sources(b: &mut Builder, cx: &Context<'_>, slaves: Vec<Option<Slot>>) -> Vec<Option<Slot>> {
    let mut all = Vec::new();
    for ((index, mount), slave) in cx.spec.container().mounts.iter().enumerate().zip(slaves) {
        let tree = slave.or_else(|| open(b, index, mount));
        if let Some(tree) = tree {
            prepare(b, mount, cx.spec.mount(index), tree);
        }
        all.push(tree);
    }
    all
}

/// The tree that came along, or one that is opened.
pub(super) fn open(b: &mut Builder, index: usize, mount: &Mount) -> Option<Slot> {
    let path = mount.source.path()?;
    let need = Need::Bind(u16::try_from(index).unwrap_or(u16::MAX));
    let recursive = !mount.exact.as_ref().is_some_and(|exact| exact.single);
    Some(b.field("mounts").received(need).unwrap_or_else(|| b.open_tree(Slot::CWD, path, recursive)))
}

/// Flags and propagation of a tree of the host's; a device must be the one that was seen.
pub(super) fn prepare(b: &mut Builder, mount: &Mount, seen: Seen, tree: Slot) {
    b.field("mounts");
    if let Some(device) = seen.device {
        b.check_device(tree, device);
    }
    if let Some(exact) = &mount.exact {
        return listed::attributes(b, exact, tree);
    }
    let propagation = if mount.propagation == Propagation::Slave { SLAVE } else { PRIVATE };
    b.mount_attr(tree, flags(mount), propagation, true);
}

/// An empty file system, of the container's size if it has none of its own.
pub(super) fn tmpfs(b: &mut Builder, mount: &Mount, size: Option<u64>, disk: Disk) -> Slot {
    let (size, inodes) = (size.unwrap_or(disk.bytes).to_string(), disk.inodes.to_string());
    let options = [("size", size.as_str()), ("nr_inodes", inodes.as_str()), ("mode", "1777")];
    b.new_mount("tmpfs", &options, flags(mount))
}

fn flags(mount: &Mount) -> u64 {
    let device = matches!(mount.source, MountSource::Device(_));
    let chosen = [(mount.read_only, RDONLY), (mount.no_exec, NOEXEC), (!device, NODEV)];
    chosen.iter().filter(|(set, _)| *set).fold(NOSUID, |all, (_, flag)| all | flag)
}

/// The part below /dev of a device's target: its mount point is made there, before /dev is read-only.
fn in_dev(mount: &Mount) -> Option<&Path> {
    let inside = mount.target.strip_prefix("/dev").ok()?;
    (matches!(mount.source, MountSource::Device(_)) && inside != Path::new("")).then_some(inside)
}

/// How many files and directories [`device_points`] makes at most.
pub(super) fn device_inodes(cx: &Context<'_>) -> usize {
    cx.spec.container().mounts.iter().filter_map(in_dev).map(|path| path.components().count()).sum()
}

/// Mount points of devices in our own /dev.
pub(super) fn device_points(b: &mut Builder, cx: &Context<'_>, dev: Slot) {
    for inside in cx.spec.container().mounts.iter().filter_map(in_dev) {
        b.field("mounts");
        point(b, dev, inside, true);
    }
}

/// Mount points that lie `here`: needed before a root becomes read-only.
pub(super) fn points(b: &mut Builder, cx: &Context<'_>, root: Slot, here: impl Fn(&Path) -> bool) {
    b.field("mounts");
    for (index, mount) in cx.spec.container().mounts.iter().enumerate() {
        if here(&mount.target) && in_dev(mount).is_none() {
            point(b, root, inside(mount), cx.spec.mount(index).is_file);
        }
    }
}

/// A mount point of the right kind; what exists is left alone.
fn point(b: &mut Builder, root: Slot, path: &Path, is_file: bool) {
    let (dir, name) = make_parents(b, root, path);
    make(b, dir, name, is_file);
    left(b, root, dir);
}

pub(super) fn make(b: &mut Builder, dir: Slot, name: &OsStr, is_file: bool) {
    if is_file {
        b.make_file(dir, name, 0o644, None, Slot::CWD).tolerate(EXIST_OK);
    } else {
        b.on_path(Op::Mkdir, dir, name, 0o755).tolerate(EXIST_OK);
    }
}

fn inside(mount: &Mount) -> &Path {
    mount.target.strip_prefix("/").unwrap_or(&mount.target)
}

/// In order, after everything else.
pub(super) fn attach(b: &mut Builder, cx: &Context<'_>, tree: &Root) {
    for (index, mount) in cx.spec.container().mounts.iter().enumerate() {
        b.field("mounts");
        let is_file = cx.spec.mount(index).is_file;
        if in_dev(mount).is_none() && (may_make(cx) || in_private(cx, &mount.target)) {
            point(b, tree.root, inside(mount), is_file);
        }
        let place = b.open(tree.root, inside(mount), if is_file { O_PATH } else { PATH_DIR }, BENEATH);
        let source = match &mount.source {
            MountSource::Tmpfs { size } => tmpfs(b, mount, *size, cx.spec.container().disk),
            _ => tree.binds.get(index).copied().flatten().unwrap_or(Slot::CWD),
        };
        b.move_mount(source, place, "");
    }
}
