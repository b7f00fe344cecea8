//! What the kernel shows of itself inside: /dev, /proc and /sys, made anew for each container. The place of each is
//! looked up in the root once; everything below is reached from the file system's own descriptor, because the root may
//! be a tree that somebody else writes to at the same time.

use super::container::Context;
use super::encode::{Builder, Slot};
use super::rootfs::{NODEV, NOEXEC, NOFOLLOW, NOSUID, PATH_DIR, PRIVATE, RDONLY, Root, STRICT, may_make, target};
use super::wire::{EXIST_OK, NEWCGROUP, NEWNET, OPTIONAL, Op, PRESENT};
use super::{hidden, mounts};
use crate::spec::{Device, Network};

/// The container's proc and sysfs.
pub(super) struct Kernel {
    pub(super) proc: Slot,
    pub(super) sys: Slot,
}

/// Where the kernel lets file systems be mounted below /sys; the control groups have their own.
pub(crate) const SYS_MOUNTS: [&str; 11] = [
    "fs/bpf",
    "fs/fuse/connections",
    "fs/pstore",
    "fs/resctrl",
    "fs/selinux",
    "fs/smackfs",
    "hypervisor",
    "kernel/config",
    "kernel/debug",
    "kernel/security",
    "kernel/tracing",
];

/// A small /dev of our own: host nodes bound one by one, each checked to be the device that it claims to be.
pub(super) fn dev(b: &mut Builder, cx: &Context<'_>, tree: &Root) {
    b.field("");
    let place = target(b, tree.root, "dev", may_make(cx), "");
    let inodes = (64 + mounts::device_inodes(cx)).to_string();
    let options = [("size", "64k"), ("nr_inodes", inodes.as_str()), ("mode", "0755")];
    let dev = b.new_mount("tmpfs", &options, NOSUID | NOEXEC);
    b.move_mount(dev, place, "");
    for (name, rdev) in &cx.machine.host.devices {
        b.make_file(dev, name, 0o666, None, Slot::CWD);
        let node = b.open_tree(Slot::CWD, format!("/dev/{name}"), false);
        b.check_device(node, Device { rdev: *rdev, block: false });
        // It is the host's, which is read and written as ever, but whose mode and owner stay as they are.
        b.mount_attr(node, RDONLY | NOSUID, 0, false);
        b.move_mount(node, dev, name);
    }
    for (name, text) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        b.on_paths(Op::Symlink, dev, name, text);
    }
    b.on_path(Op::Mkdir, dev, "pts", 0o755);
    b.on_path(Op::Mkdir, dev, "shm", 0o755);
    let mut options = vec![("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620")];
    if cx.maps_gid(5) {
        options.push(("gid", "5"));
    }
    let pts = b.new_mount("devpts", &options, NOSUID | NOEXEC);
    b.move_mount(pts, dev, "pts");
    let shm = b.open_tree(tree.scratch, "shm", false);
    b.mount_attr(shm, NOSUID | NODEV | NOEXEC, 0, false);
    b.move_mount(shm, dev, "shm");
    if cx.spec.container().mqueue {
        b.field("mqueue").on_path(Op::Mkdir, dev, "mqueue", 0o755);
        let queue = b.new_mount("mqueue", &[("source", "mqueue")], NOSUID | NODEV | NOEXEC);
        b.move_mount(queue, dev, "mqueue");
    }
    mounts::device_points(b, cx, dev);
    if cx.spec.main().spec().tty.is_some() {
        // The terminal goes there as soon as there is one.
        b.field("tty").make_file(dev, "console", 0o600, None, Slot::CWD).tolerate(EXIST_OK);
    }
    b.field("");
    b.mount_attr(dev, RDONLY, 0, false);
}

pub(super) fn proc_and_sys(b: &mut Builder, cx: &Context<'_>, tree: &Root) -> Kernel {
    b.field("");
    let place = target(b, tree.root, "proc", may_make(cx), "");
    let proc = b.new_mount("proc", &[("source", "proc")], NOSUID | NODEV | NOEXEC);
    b.move_mount(proc, place, "");
    b.close(place);
    for (key, value) in &cx.spec.container().sysctls {
        b.field("sysctls").on_paths(Op::WriteFile, proc, format!("sys/{}", key.replace('.', "/")), value);
    }
    b.field("");
    let place = target(b, tree.root, "sys", may_make(cx), "");
    let own = cx.spec.container().network == Network::None && cx.spec.governs(NEWNET);
    // A new sysfs needs rights over the network namespace that it shows. The copy of the host's must be recursive: what is mounted below
    // it is locked to it in a user namespace of ours, and is covered instead.
    let sys = if own {
        b.new_mount("sysfs", &[("source", "sysfs")], RDONLY | NOSUID | NODEV | NOEXEC)
    } else {
        let sys = b.open_tree(Slot::CWD, "/sys", true);
        b.mount_attr(sys, RDONLY | NOSUID | NODEV | NOEXEC, PRIVATE, true);
        sys
    };
    b.move_mount(sys, place, "");
    b.close(place);
    if !own {
        for path in SYS_MOUNTS {
            hidden::directory(b, tree.scratch, sys, path);
        }
    }
    own_cgroup(b, cx, tree, sys);
    Kernel { proc, sys }
}

/// The control groups of its namespace, where it has one of version 2 and may see it; else nothing: in a group that is not its own
/// the others below it are the host's.
fn own_cgroup(b: &mut Builder, cx: &Context<'_>, tree: &Root, sys: Slot) {
    if !cx.machine.cgroup2 || !cx.allotment.cgroup || !cx.spec.governs(NEWCGROUP) {
        return hidden::directory(b, tree.scratch, sys, "fs/cgroup");
    }
    let place = b.open(sys, "fs/cgroup", PATH_DIR | NOFOLLOW, STRICT);
    b.tolerate(OPTIONAL);
    let cgroup = b.new_mount("cgroup2", &[("source", "cgroup2")], RDONLY | NOSUID | NODEV | NOEXEC);
    b.only_if(place);
    b.move_mount(cgroup, place, "").tolerate(PRESENT);
    b.close(cgroup);
    b.close(place);
}
