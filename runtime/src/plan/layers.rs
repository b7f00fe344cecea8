//! The steps that lay directories over each other, in each [`Layering`]: an overlay, the same served by a program, or a copy
//! that is there already. What is written lies on the scratch, whose size so bounds it.

use super::container::Context;
use super::encode::{Builder, Need, Slot};
use super::rootfs::{BENEATH, NODEV, NOSUID, PATH_DIR, PRIVATE, RDONLY, attach};
use super::wire::{Op, Purpose};
use crate::rootfs::Layering;
use crate::spec::{Access, UserNamespace};

/// Where the copy of a root lies in the file system that was made for it.
pub const COPY: &str = "rootfs";
/// The device by which file systems are served.
pub const FUSE: &str = "/dev/fuse";
const O_RDWR: u64 = libc::O_RDWR as u64;

/// The way of this container's root, where it is one of layers.
pub(super) fn layering(cx: &Context<'_>) -> Option<Layering> {
    let spec = cx.spec.container();
    let several = spec.rootfs.directories().len().max(spec.root_mounts.len()) > 1;
    let layered = several || spec.rootfs.access() == Some(Access::Overlay);
    (layered && !spec.listed).then_some(cx.allotment.layering)
}

/// The file system that a copy was made in: it is the scratch as well.
pub(super) fn copied(b: &Builder, cx: &Context<'_>) -> Option<Slot> {
    layering(cx).filter(|way| *way == Layering::Copy).and_then(|_| b.received(Need::Layer(0)))
}

/// Open the device by which the root is to be served, if it is.
pub(super) fn device(b: &mut Builder, cx: &Context<'_>) -> Option<Slot> {
    layering(cx).filter(|way| *way == Layering::FuseOverlayfs)?;
    Some(b.field("rootfs").open(Slot::CWD, FUSE, O_RDWR, 0))
}

/// What a root is made with.
#[derive(Clone, Copy)]
pub(super) struct Space {
    pub(super) scratch: Slot,
    /// What [`device`] has opened.
    pub(super) device: Option<Slot>,
    pub(super) writable: bool,
}

/// The root, on top of `/`.
pub(super) fn over(b: &mut Builder, cx: &Context<'_>, layers: &[Slot], space: Space) -> Slot {
    b.field("rootfs");
    let Space { scratch, device, writable } = space;
    match (cx.allotment.layering, device) {
        (Layering::Copy, _) => {
            let tree = b.open_tree(scratch, COPY, false);
            attach(b, tree, if writable { 0 } else { RDONLY })
        }
        (_, Some(device)) => served(b, cx, layers, space, device),
        _ => overlay(b, cx, layers, scratch, writable),
    }
}

/// Layers over each other, written to or not. The paths are relative to the working directory, which is the scratch for a moment, or, for
/// several layers, the directory that holds them: an option of `fsconfig` has 256 bytes, and 64 short names fit.
fn overlay(b: &mut Builder, cx: &Context<'_>, layers: &[Slot], scratch: Slot, writable: bool) -> Slot {
    directories(b, scratch, writable);
    let root = overlaid(b, layers, scratch, (writable, cx.spec.container().user_namespace));
    b.move_mount(root, Slot::CWD, "/");
    root
}

/// The same, attached nowhere, in directories that are there.
pub(super) fn overlaid(
    b: &mut Builder,
    layers: &[Slot],
    scratch: Slot,
    (writable, ids): (bool, UserNamespace),
) -> Slot {
    let (lower, upper, work) = match layers {
        [layer] => {
            b.move_mount(*layer, scratch, "lower");
            b.on(Op::Fchdir, scratch, 0);
            ("lower".to_owned(), "upper", "work")
        }
        _ => (stacked(b, layers, scratch), "../upper", "../work"),
    };
    let mut options = vec![("source", "overlay"), ("lowerdir", lower.as_str())];
    if writable {
        options.extend([("upperdir", upper), ("workdir", work)]);
    }
    if ids != UserNamespace::Host {
        options.push(("userxattr", ""));
    }
    let root = b.new_mount("overlay", &options, NOSUID | NODEV | if writable { 0 } else { RDONLY });
    b.on_path(Op::Chdir, Slot::CWD, "/", 0);
    root
}

/// Each layer in a directory of its own, which is named by its number; the working directory is the one above.
fn stacked(b: &mut Builder, layers: &[Slot], scratch: Slot) -> String {
    let dir = b.open(scratch, "lower", PATH_DIR, BENEATH);
    let names: Vec<String> = (0..layers.len()).map(|index| index.to_string()).collect();
    for (name, layer) in names.iter().zip(layers) {
        b.on_path(Op::Mkdir, dir, name, 0o755);
        b.move_mount(*layer, dir, name);
    }
    b.on(Op::Fchdir, dir, 0);
    names.join(":")
}

pub(super) fn directories(b: &mut Builder, scratch: Slot, writable: bool) {
    for name in if writable { &["lower", "upper", "work"][..] } else { &["lower"][..] } {
        b.on_path(Op::Mkdir, scratch, name, 0o755);
    }
}

/// The same by a program that serves it ([`server`](super::server)). The file system is mounted here, and whatever is looked
/// up in it waits until that program is there: it gets the device, and a copy of the scratch with everything that lies on it.
/// Nobody here keeps the device, so that when the program ends everything fails and nothing hangs.
fn served(b: &mut Builder, cx: &Context<'_>, layers: &[Slot], space: Space, device: Slot) -> Slot {
    let Space { scratch, writable, .. } = space;
    directories(b, scratch, writable);
    for layer in layers {
        b.mount_attr(*layer, RDONLY | NOSUID | NODEV, PRIVATE, true);
    }
    match layers {
        [layer] => {
            b.move_mount(*layer, scratch, "lower");
        }
        _ => {
            stacked(b, layers, scratch);
        }
    }
    let (uid, gid) = cx.first_ids();
    let (uid, gid) = (uid.to_string(), gid.to_string());
    let options = [
        ("source", "fuse-overlayfs"),
        ("rootmode", "40000"),
        ("user_id", uid.as_str()),
        ("group_id", gid.as_str()),
        ("allow_other", ""),
        ("default_permissions", ""),
    ];
    let read_only = if writable { 0 } else { RDONLY };
    let root = b.new_served_mount("fuse", &options, device, NOSUID | NODEV | read_only);
    let world = b.clone_tree(scratch);
    if let Some(channel) = b.received(Need::Served) {
        b.send(channel, device, Purpose::Fuse);
        b.send(channel, world, Purpose::Tree);
        b.on(Op::Close, channel, 0);
    }
    b.close(device);
    b.close(world);
    b.move_mount(root, Slot::CWD, "/");
    root
}
