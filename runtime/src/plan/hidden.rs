//! What is hidden inside and what is made read-only. A directory disappears behind an empty one, anything else behind
//! the host's /dev/null, checked to be it. What is not there needs no hiding; what is there and cannot be hidden is an
//! error, and so is a path that leads through a link: where it leads to can change.

use super::container::Context;
use super::encode::{Builder, Slot};
use super::kernel::Kernel;
use super::rootfs::{IN_ROOT, NODEV, NOEXEC, NOFOLLOW, NOSUID, O_PATH, PATH_DIR, RDONLY, Root, STRICT};
use super::wire::{OPTIONAL, Op, PRESENT};
use crate::spec::{Device, Rootfs};

/// Paths of /proc that tell about or act on the host: directories, then files.
const PROC_DIRECTORIES: [&str; 3] = ["acpi", "asound", "scsi"];
const PROC_FILES: [&str; 5] = ["kcore", "keys", "latency_stats", "timer_list", "interrupts"];
const PROC_READ_ONLY: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];
const SYS_DIRECTORIES: [&str; 2] = ["firmware", "devices/virtual/powercap"];

/// Names in the scratch that covers are copied from.
const EMPTY: &str = "empty";
const NULL: &str = "null";

/// Put what covers other things into the scratch, where nobody sees it.
pub(super) fn covers(b: &mut Builder, scratch: Slot) {
    b.on_path(Op::Mkdir, scratch, EMPTY, 0o555);
    let empty = b.open_tree(scratch, EMPTY, false);
    b.mount_attr(empty, RDONLY | NOSUID | NODEV | NOEXEC, 0, false);
    b.move_mount(empty, scratch, EMPTY);
    b.close(empty);
    b.make_file(scratch, NULL, 0o444, None, Slot::CWD);
    let null = b.open_tree(Slot::CWD, "/dev/null", false);
    b.check_device(null, Device { rdev: rustix::fs::makedev(1, 3), block: false });
    // Whoever is root of the host's ids owns it: its mode is not to be changed through what it covers.
    b.mount_attr(null, RDONLY | NOSUID | NOEXEC, 0, false);
    b.move_mount(null, scratch, NULL);
    b.close(null);
}

/// What no container gets to see of the host.
pub(super) fn always(b: &mut Builder, cx: &Context<'_>, tree: &Root, kernel: &Kernel) {
    b.field("");
    if matches!(cx.spec.container().rootfs, Rootfs::HostRoot) {
        for (path, is_dir) in &cx.machine.host.secrets {
            let path = path.trim_start_matches('/');
            if *is_dir { directory(b, tree.scratch, tree.root, path) } else { file(b, tree.scratch, tree.root, path) }
        }
    }
    for path in PROC_DIRECTORIES {
        directory(b, tree.scratch, kernel.proc, path);
    }
    for path in PROC_FILES {
        file(b, tree.scratch, kernel.proc, path);
    }
    for path in SYS_DIRECTORIES {
        directory(b, tree.scratch, kernel.sys, path);
    }
    for path in PROC_READ_ONLY {
        read_only(b, kernel.proc, path, STRICT);
    }
}

/// What the user wants to be hidden or read-only, whatever it lies on.
pub(super) fn asked(b: &mut Builder, cx: &Context<'_>, tree: &Root) {
    // What is on a list comes from somebody who expects that links are followed; they stay inside.
    let resolve = if cx.spec.container().listed { IN_ROOT } else { STRICT };
    b.field("masked_paths");
    for path in &cx.spec.container().masked_paths {
        anything(b, tree, &inside(path), resolve);
    }
    b.field("readonly_paths");
    for path in &cx.spec.container().readonly_paths {
        read_only(b, tree.root, &inside(path), resolve);
    }
}

/// The path from the root on.
fn inside(path: &std::path::Path) -> String {
    path.strip_prefix("/").unwrap_or(path).to_string_lossy().into_owned()
}

/// Hide directory `path` below `dir`, if there is one.
pub(super) fn directory(b: &mut Builder, scratch: Slot, dir: Slot, path: &str) {
    let place = b.open(dir, path, PATH_DIR | NOFOLLOW, STRICT);
    b.tolerate(OPTIONAL);
    cover(b, scratch, place, EMPTY);
}

fn file(b: &mut Builder, scratch: Slot, dir: Slot, path: &str) {
    let place = b.open(dir, path, O_PATH | NOFOLLOW, STRICT);
    b.tolerate(OPTIONAL);
    cover(b, scratch, place, NULL);
}

/// Hide what only the kernel knows the kind of: first as a directory; what then still is none, as anything else. No
/// NOFOLLOW: a link at the end is refused like any other.
fn anything(b: &mut Builder, tree: &Root, path: &str, resolve: u64) {
    let place = b.open(tree.root, path, PATH_DIR, resolve);
    b.tolerate(OPTIONAL);
    cover(b, tree.scratch, place, EMPTY);
    let place = b.open(tree.root, path, O_PATH, resolve);
    b.tolerate(OPTIONAL);
    b.not_a_directory(place);
    cover(b, tree.scratch, place, NULL);
}

fn cover(b: &mut Builder, scratch: Slot, place: Slot, with: &str) {
    let copy = b.open_tree(scratch, with, false);
    b.only_if(place);
    b.move_mount(copy, place, "").tolerate(PRESENT);
    b.close(copy);
    b.close(place);
}

/// A read-only copy of what was opened, never of what has the same name by then.
fn read_only(b: &mut Builder, dir: Slot, path: &str, resolve: u64) {
    let place = b.open(dir, path, O_PATH, resolve);
    b.tolerate(OPTIONAL);
    let copy = b.clone_tree(place);
    b.tolerate(PRESENT);
    b.mount_attr(copy, RDONLY, 0, true).tolerate(PRESENT);
    b.move_mount(copy, place, "").tolerate(PRESENT);
    b.close(copy);
    b.close(place);
}
