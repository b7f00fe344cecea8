//! The root file system of a container whose mounts are listed, as those of an OCI bundle are: the directory, each mount of the
//! list in its order, the devices that the specification promises, then what is hidden. Every place is found and made by a walk
//! that stays inside the root (`Op::Place`), and nothing but a list's own /proc, or a file of it, is mounted on a procfs.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::container::Context;
use super::encode::{Builder, Need, Slot};
use super::rootfs::{self, NODEV, NOEXEC, NOFOLLOW, NOSUID, O_PATH, PATH_DIR, PRIVATE, RDONLY, Root, SLAVE, STRICT};
use super::wire::{EXIST_OK, NEWCGROUP, NEWNET, NEWPID, Op};
use super::{hidden, mounts};
use crate::spec::overlay;
use crate::spec::{Access, Device, DeviceNode, Exact, Mount, MountSource, Network, NodeKind};

/// `PROC_SUPER_MAGIC`
const PROC: u64 = 0x9fa0;
/// `MOUNT_ATTR_NODIRATIME`, `MOUNT_ATTR_NOSYMFOLLOW`
const NODIRATIME: u64 = 0x80;
const NOSYMFOLLOW: u64 = 0x20_0000;
/// MS_REC
const MS_REC: u64 = 0x4000;
/// MS_SHARED
const MS_SHARED: u64 = 1 << 20;

/// Devices of every container ("Default Devices" of the specification; of /dev/console a terminal is mounted there).
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
/// Links of every container ("Dev symbolic links").
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// A root that later mounts of the host are to reach: before its namespace is made private.
pub(super) fn early_root(b: &mut Builder, cx: &Context<'_>) -> Option<Slot> {
    let travels = cx.spec.container().root_propagation & (SLAVE | MS_SHARED) != 0;
    (cx.spec.container().listed && travels).then(|| rootfs::root_sources(b, cx).first().copied()).flatten()
}

/// Build the whole tree and make it `/`.
pub(super) fn steps(b: &mut Builder, cx: &Context<'_>, early: Option<Slot>, slaves: Vec<Option<Slot>>) {
    let root = early.or_else(|| rootfs::root_sources(b, cx).first().copied()).unwrap_or(Slot::CWD);
    let binds = mounts::sources(b, cx, slaves);
    sysctls(b, cx);
    b.field("rootfs");
    // What is mounted inside must not travel to the host; it is shared, if at all, among those inside.
    // Nodes that the image brings along are no devices either where nobody could have made them: no rules are kept there.
    let nodev = if crate::spec::makes_nodes(cx.spec.container(), cx.machine) { 0 } else { NODEV };
    b.mount_attr(root, nodev, if early.is_some() { SLAVE } else { PRIVATE }, true);
    let mut late = Vec::new();
    // A hook finds it where the bundle has it, and whoever enters the mount namespace the host's root.
    let directory = cx.spec.container().rootfs.directories().first().filter(|_| cx.spec.container().hooks.hold_up());
    match directory {
        // It may be a link, which a mount by name does not follow.
        Some(path) => {
            let place = b.open(Slot::CWD, path.as_path(), PATH_DIR, 0);
            b.move_mount(root, place, "");
            b.close(place);
        }
        None => {
            b.move_mount(root, Slot::CWD, "/");
        }
    }
    let mut kept = Vec::new();
    for (index, mount) in cx.spec.container().mounts.iter().enumerate() {
        late.extend(one(b, cx, root, (index, mount), binds.get(index).copied().flatten(), &mut kept));
    }
    devices(b, cx, root);
    if cx.spec.container().hooks.hold_up() {
        b.field("hooks").op(Op::Ready, 1, 0, 0);
        if let Some(gate) = b.received(Need::Gate) {
            b.on(Op::Wait, gate, 0);
        }
    }
    let scratch = scratch(b);
    hidden::asked(b, cx, &Root { root, scratch, binds });
    if let Some(cwd) = cx.spec.main().spec().cwd.as_deref().filter(|cwd| *cwd != Path::new("/")) {
        let place = b.field("cwd").place(root, cwd, false, 0);
        b.close(place);
    }
    for made in late {
        b.field("mounts").mount_attr(made, RDONLY, 0, false);
        b.close(made);
    }
    b.field("rootfs");
    if cx.spec.container().rootfs.access() == Some(Access::ReadOnly) {
        b.mount_attr(root, RDONLY, 0, false);
    }
    b.field("").on(Op::Fchdir, root, 0);
    let way = match (cx.spec.container().no_pivot, directory) {
        (false, _) => 0,
        (true, None) => 1,
        (true, Some(_)) => 2,
    };
    b.op(Op::PivotRoot, 1, way, 0);
    let propagation = cx.spec.container().root_propagation;
    if propagation & !MS_REC != 0 {
        b.field("root_propagation").on_path(Op::Propagation, Slot::CWD, "/", propagation);
    }
}

/// Through the host's /proc, which nobody in the container can have replaced: what is written there is the writer's namespaces'.
fn sysctls(b: &mut Builder, cx: &Context<'_>) {
    for (key, value) in &cx.spec.container().sysctls {
        let path = if key.contains('/') { key.clone() } else { key.replace('.', "/") };
        b.field("sysctls").on_paths(Op::WriteFile, Slot::CWD, format!("/proc/sys/{path}"), value);
    }
}

/// What covers other things, on the old /proc, which nobody needs any more.
fn scratch(b: &mut Builder) -> Slot {
    let options = [("size", "64k"), ("nr_inodes", "32"), ("mode", "0755")];
    let scratch = b.field("").new_mount("tmpfs", &options, NOSUID | NODEV);
    b.move_mount(scratch, Slot::CWD, "/proc");
    hidden::covers(b, scratch);
    scratch
}

/// What a mount of the list becomes; what is made read-only when all that lies below it is there.
fn one(
    b: &mut Builder,
    cx: &Context<'_>,
    root: Slot,
    (index, mount): (usize, &Mount),
    bind: Option<Slot>,
    kept: &mut Vec<(PathBuf, Slot)>,
) -> Option<Slot> {
    b.field("mounts");
    let inside = mount.target.strip_prefix("/").unwrap_or(&mount.target);
    let mut exact = mount.exact.clone().unwrap_or_default();
    let late = is_late(cx, index, mount, &exact);
    if late {
        exact.set &= !RDONLY;
    }
    let comes_again = cx.spec.container().mounts.iter().skip(index + 1).any(|later| is_again(later, &mount.target));
    if exact.remount {
        // A name may lead elsewhere by now, where others have the directory as well: what was mounted there is known.
        let place = match kept.iter().position(|(target, _)| *target == mount.target) {
            Some(at) => kept.swap_remove(at).1,
            None => b.place(root, inside, false, 0),
        };
        again(b, cx, place, mount, &exact);
        return keep(b, place, late, comes_again.then_some((mount, kept)));
    }
    let has_its_mode = has_its_mode(mount);
    let place = match &mount.source {
        // The kernel's own are where they are said to be, whatever the image has made of the name.
        MountSource::FileSystem { kind, .. } if matches!(kind.as_str(), "proc" | "sysfs") => own_place(b, root, inside),
        MountSource::FileSystem { .. } if has_its_mode => b.open_place(root, inside, PROC),
        _ => {
            let not_on = if inside.starts_with("proc") { 0 } else { PROC };
            b.place(root, inside, cx.spec.mount(index).is_file, not_on)
        }
    };
    let made = match &mount.source {
        MountSource::FileSystem { kind, .. } if matches!(kind.as_str(), "cgroup" | "cgroup2") => {
            cgroups(b, cx, place, &exact);
            b.close(place);
            return None;
        }
        MountSource::FileSystem { kind, source, options } if exact.copy_up || has_its_mode => {
            // What is read-only cannot be filled.
            let open = Exact { set: exact.set & !RDONLY, set_below: exact.set_below & !RDONLY, ..exact.clone() };
            let made = file_system(b, cx, kind, source, options, &open);
            let given = |names: &[&str]| options.iter().any(|(key, _)| names.contains(&key.as_str()));
            match exact.copy_up {
                true => b.copy_up(place, made, !given(&["mode"]), !given(&["uid", "gid"])),
                false => b.copy_mode(place, made),
            };
            if (exact.set | exact.set_below) & RDONLY != 0 {
                b.mount_attr(made, RDONLY, 0, false);
            }
            made
        }
        MountSource::FileSystem { kind, source, options } => file_system(b, cx, kind, source, options, &exact),
        MountSource::Tmpfs { size } => mounts::tmpfs(b, mount, *size, cx.spec.container().disk),
        _ => bind.unwrap_or(Slot::CWD),
    };
    b.move_mount(made, place, "");
    b.close(place);
    keep(b, made, late, comes_again.then_some((mount, kept)))
}

/// What becomes read-only later stays open, and what is mounted again later does.
fn keep(b: &mut Builder, made: Slot, late: bool, again: Option<(&Mount, &mut Vec<(PathBuf, Slot)>)>) -> Option<Slot> {
    match again {
        Some((mount, kept)) => kept.push((mount.target.clone(), made)),
        None if late => return Some(made),
        None => b.close(made),
    }
    None
}

/// It is for what is mounted at this target.
fn is_again(mount: &Mount, target: &Path) -> bool {
    mount.exact.as_ref().is_some_and(|exact| exact.remount) && mount.target == target
}

/// What is mounted there already, as if by mount(2) with `MS_REMOUNT`: attributes that are not named are gone, but for those of times.
/// In a user namespace those stay that are not taken away by name: the kernel has locked the ones that came along from outside.
fn again(b: &mut Builder, cx: &Context<'_>, place: Slot, mount: &Mount, exact: &Exact) {
    if let MountSource::FileSystem { options, .. } = &mount.source
        && !options.is_empty()
    {
        let options: Vec<_> = options.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        b.reconfigure(place, &options);
    }
    let all = if cx.allotment.ids.is_some() { 0 } else { RDONLY | NOSUID | NODEV | NOEXEC | NODIRATIME | NOSYMFOLLOW };
    let clear = exact.clear | all & !exact.set;
    attributes(b, &Exact { clear, ..exact.clone() }, place);
}

/// A tmpfs of which nobody says who may write to it: whoever could before.
fn has_its_mode(mount: &Mount) -> bool {
    let MountSource::FileSystem { kind, options, .. } = &mount.source else { return false };
    kind == "tmpfs" && !options.iter().any(|(key, _)| key == "mode")
}

/// A tmpfs that is read-only, and empty: what comes into it could not be made any more.
fn is_late(cx: &Context<'_>, index: usize, mount: &Mount, exact: &Exact) -> bool {
    let container = cx.spec.container();
    let is_empty = matches!(&mount.source, MountSource::FileSystem { kind, .. } if kind == "tmpfs");
    let within = |path: &Path| path.starts_with(&mount.target);
    let later = || container.mounts.iter().skip(index + 1);
    let mut others = later().filter(|other| !is_again(other, &other.target)).map(|other| other.target.as_path());
    // What a later one says of the same mount is what counts in the end.
    let is_last = !later().any(|other| is_again(other, &mount.target));
    (is_empty || exact.remount)
        && is_last
        && exact.set & RDONLY != 0
        && (within(Path::new("/dev"))
            || others.any(within)
            || container.devices.iter().any(|node| within(&node.path))
            || cx.spec.main().spec().cwd.as_deref().is_some_and(within))
}

/// A directory by this very name.
fn own_place(b: &mut Builder, root: Slot, inside: &Path) -> Slot {
    let (dir, name) = rootfs::make_parents(b, root, inside);
    b.on_path(Op::Mkdir, dir, name, 0o755).tolerate(EXIST_OK);
    rootfs::left(b, root, dir);
    b.open(root, inside, PATH_DIR | NOFOLLOW, STRICT)
}

/// Attributes and propagation of a tree, as its options say.
pub(super) fn attributes(b: &mut Builder, exact: &Exact, tree: Slot) {
    if exact.set_below | exact.clear_below != 0 {
        b.mount_attrs(tree, exact.set_below, exact.clear_below, true);
    }
    if exact.set | exact.clear != 0 {
        b.mount_attrs(tree, exact.set, exact.clear, false);
    }
    propagation(b, exact, tree);
}

fn propagation(b: &mut Builder, exact: &Exact, tree: Slot) {
    for flags in &exact.propagation {
        b.mount_attr(tree, 0, flags & !MS_REC, flags & MS_REC != 0);
    }
}

/// A new instance; a copy of the host's where the container has no rights over what it would show.
fn file_system(
    b: &mut Builder,
    cx: &Context<'_>,
    kind: &str,
    source: &str,
    options: &[(String, String)],
    exact: &Exact,
) -> Slot {
    let attributes = exact.set | exact.set_below;
    let of_host = match kind {
        "sysfs" => {
            cx.allotment.ids.is_some() && !(cx.spec.container().network == Network::None && cx.spec.governs(NEWNET))
        }
        "proc" => !cx.spec.governs(NEWPID),
        _ => false,
    };
    if of_host {
        let path = if kind == "proc" { "/proc" } else { "/sys" };
        let tree = b.open_tree(Slot::CWD, path, true);
        // A mode of atime is set in the place of the one that was there (MOUNT_ATTR__ATIME), or not at all.
        let clear = if attributes & 0x70 == 0 { 0 } else { 0x70 };
        b.mount_attrs(tree, attributes, clear, true);
        propagation(b, exact, tree);
        return tree;
    }
    let unmapped = |(key, value): &(&str, &str)| {
        *key == "gid" && value.parse().is_ok_and(|gid| kind == "devpts" && !cx.maps_gid(gid))
    };
    let short = overlay::shortened(kind, options);
    let (above, options) = short.as_ref().map_or((None, options), |(above, options)| (Some(above), options.as_slice()));
    let mut all = vec![("source", if source.is_empty() { kind } else { source })];
    all.extend(options.iter().map(|(key, value)| (key.as_str(), value.as_str())).filter(|option| !unmapped(option)));
    // Those of the kernel have labels of their own.
    let label = cx.spec.container().mount_label.as_deref().filter(|_| !matches!(kind, "proc" | "sysfs" | "mqueue"));
    all.extend(label.map(|label| ("context", label)));
    if let Some(above) = above {
        b.on_path(Op::Chdir, Slot::CWD, above, 0);
    }
    let made = b.new_mount(kind, &all, attributes);
    if above.is_some() {
        b.on_path(Op::Chdir, Slot::CWD, "/", 0);
    }
    propagation(b, exact, made);
    made
}

/// The container's own groups: version 2, or a directory for each hierarchy of version 1 that it has a group in.
fn cgroups(b: &mut Builder, cx: &Context<'_>, place: Slot, exact: &Exact) {
    let attributes = exact.set | exact.set_below;
    let shared = cx.spec.joins(NEWCGROUP);
    if shared && (cx.allotment.ids.is_some() || !cx.machine.whole) {
        // In a user namespace nothing but a copy of the host's can be had.
        let copy = b.open_tree(Slot::CWD, "/sys/fs/cgroup", true);
        b.mount_attrs(copy, RDONLY | NOSUID | NODEV | NOEXEC, 0, true);
        b.move_mount(copy, place, "");
        return b.close(copy);
    }
    // For a moment a namespace of its own, so that the group of the container is the root of what is mounted.
    let back = shared.then(|| b.open(Slot::CWD, "/proc/self/ns/cgroup", 0, 0));
    if shared {
        b.op(Op::Unshare, NEWCGROUP, 0, 0);
    }
    let top = if cx.machine.cgroup1.is_empty() && cx.machine.cgroup2 && cx.allotment.cgroup {
        b.new_mount("cgroup2", &[("source", "cgroup")], attributes)
    } else {
        b.new_mount("tmpfs", &[("source", "tmpfs"), ("mode", "0755"), ("size", "64k")], attributes & !RDONLY)
    };
    propagation(b, exact, top);
    b.move_mount(top, place, "");
    if !cx.machine.cgroup1.is_empty() {
        hierarchies(b, cx, top, attributes);
        b.mount_attr(top, attributes & RDONLY, 0, false);
    }
    b.close(top);
    if let Some(back) = back {
        b.on(Op::SetNs, back, NEWCGROUP);
        b.close(back);
    }
}

fn hierarchies(b: &mut Builder, cx: &Context<'_>, top: Slot, attributes: u64) {
    let ours = |name: &&String| name.split(',').any(|part| cx.allotment.legacy.contains(&part));
    for name in cx.machine.cgroup1.iter().filter(ours) {
        let mut options = vec![("source", "cgroup")];
        options.extend(name.split(',').map(|controller| (controller, "")));
        b.on_path(Op::Mkdir, top, name, 0o755);
        let made = b.new_mount("cgroup", &options, attributes);
        b.move_mount(made, top, name);
        b.close(made);
        for controller in name.split(',').filter(|controller| controller != name) {
            b.on_paths(Op::Symlink, top, controller, name);
        }
    }
    // Nothing of the container's is in a hierarchy without controllers. Callers that run an init of systemd's bind theirs to that place.
    for name in cx.machine.cgroup1.iter().filter_map(|name| name.strip_prefix("name=")) {
        b.on_path(Op::Mkdir, top, name, 0o755);
    }
    if cx.machine.cgroup2 && cx.allotment.cgroup {
        b.on_path(Op::Mkdir, top, "unified", 0o755);
        let made = b.new_mount("cgroup2", &[("source", "cgroup")], attributes);
        b.move_mount(made, top, "unified");
        b.close(made);
    }
}

/// The devices of every container and those that were asked for, unless /dev is somebody else's.
fn devices(b: &mut Builder, cx: &Context<'_>, root: Slot) {
    b.field("devices");
    let container = cx.spec.container();
    let bound = |mount: &Mount| mount.target == Path::new("/dev") && matches!(mount.source, MountSource::Bind(_));
    let is_bound = container.mounts.iter().any(bound);
    if !is_bound {
        let dev = b.place(root, "dev", false, PROC);
        for (name, major, minor) in DEVICES {
            let rdev = rustix::fs::makedev(major, minor);
            let path = Path::new("/dev").join(name);
            // One that is asked for by the same name is that one.
            if !container.devices.iter().any(|node| node.path == path) {
                let node = DeviceNode { path, kind: NodeKind::Char, rdev, mode: 0o666, owner: (0, 0) };
                make(b, cx, dev, OsStr::new(name), &node);
            }
        }
        for (name, text) in LINKS {
            b.on_paths(Op::Symlink, dev, name, text).tolerate(EXIST_OK);
        }
        if cx.spec.main().spec().tty.is_some() {
            // The terminal goes there as soon as there is one.
            b.field("tty").make_file(dev, "console", 0o600, None, Slot::CWD).tolerate(EXIST_OK);
        }
        b.close(dev);
    }
    b.field("devices");
    // Nothing is made in a /dev that is somebody else's.
    for node in container.devices.iter().filter(|node| !(is_bound && node.path.starts_with("/dev"))) {
        let (Some(parent), Some(name)) = (node.path.parent(), node.path.file_name()) else { continue };
        let dir = b.place(root, parent.strip_prefix("/").unwrap_or(parent), false, PROC);
        make(b, cx, dir, name, node);
        b.close(dir);
    }
}

/// There is nothing in its /dev but what we make.
fn has_new_dev(cx: &Context<'_>) -> bool {
    let last = cx.spec.container().mounts.iter().rfind(|mount| mount.target == Path::new("/dev"));
    last.is_some_and(|mount| {
        let is_new = matches!(&mount.source, MountSource::FileSystem { kind, .. } if kind == "tmpfs");
        is_new && !mount.exact.as_ref().is_some_and(|exact| exact.copy_up)
    })
}

/// Make it, or mount the host's where that would be no device.
fn make(b: &mut Builder, cx: &Context<'_>, dir: Slot, name: &OsStr, node: &DeviceNode) {
    let (kind, block) = match node.kind {
        NodeKind::Char => (libc::S_IFCHR, false),
        NodeKind::Block => (libc::S_IFBLK, true),
        NodeKind::Fifo => (libc::S_IFIFO, false),
    };
    if crate::spec::makes_nodes(cx.spec.container(), cx.machine) || node.kind == NodeKind::Fifo {
        b.mknod(dir, name, kind | node.mode, node.rdev).tolerate(EXIST_OK);
        // What was there by this name is it, or nothing is started.
        if node.kind != NodeKind::Fifo && !(node.path.parent() == Some(Path::new("/dev")) && has_new_dev(cx)) {
            let there = b.open(dir, name, O_PATH | NOFOLLOW, STRICT);
            b.check_device(there, Device { rdev: node.rdev, block });
            b.close(there);
        }
        let (uid, gid) = node.owner;
        if (uid, gid) != cx.first_ids() {
            b.chown(dir, name, uid, gid);
        }
        return;
    }
    b.make_file(dir, name, 0o666, None, Slot::CWD).tolerate(EXIST_OK);
    let source = b.open_tree(Slot::CWD, &node.path, false);
    b.check_device(source, Device { rdev: node.rdev, block });
    let place = b.open(dir, name, O_PATH | NOFOLLOW, STRICT);
    b.move_mount(source, place, "");
    b.close(place);
    b.close(source);
}
