//! The steps that make a container's `/`.
//!
//! Two file systems are always there: the *root*, and the *scratch*, a tmpfs with the container's size limit that
//! carries every private writable directory. The root is attached on top of the old `/`, so that `pivot_root` can take
//! it, and the scratch below the old `/`, so that one lazy unmount drops everything else. All paths below the root are reached from its descriptor;
//! targets in a tree that is not ours are opened with `RESOLVE_BENEATH` before anything is mounted on them.

use std::path::{Component, Path};

use super::container::Context;
use super::encode::{Builder, Need, Slot};
use super::layers::Space;
use super::machine::HostEntry;
use super::wire::{EXIST_OK, OPTIONAL, Op, PRESENT};
use super::{hidden, kernel, layers, mounts};
use crate::spec::{Access, Network, Rootfs};

pub(super) const RDONLY: u64 = 0x1;
pub(super) const NOSUID: u64 = 0x2;
pub(super) const NODEV: u64 = 0x4;
pub(super) const NOEXEC: u64 = 0x8;
pub(super) const PRIVATE: u64 = 1 << 18;
pub(super) const SLAVE: u64 = 1 << 19;
/// O_PATH | O_DIRECTORY
pub(super) const PATH_DIR: u64 = (libc::O_PATH | libc::O_DIRECTORY) as u64;
pub(super) const O_PATH: u64 = libc::O_PATH as u64;
pub(super) const NOFOLLOW: u64 = libc::O_NOFOLLOW as u64;
/// RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS
pub(super) const BENEATH: u64 = 0x08 | 0x02;
/// RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS: a link stays inside.
pub(super) const IN_ROOT: u64 = 0x10 | 0x02;
/// The same without following any link.
pub(super) const STRICT: u64 = BENEATH | 0x04;

/// Private writable directories: name, mode.
const SCRATCH: [(&str, u64); 6] =
    [("tmp", 0o1777), ("run", 0o755), ("var", 0o755), ("home", 0o755), ("root", 0o700), ("shm", 0o1777)];

/// The file systems under construction.
pub(super) struct Root {
    pub(super) root: Slot,
    pub(super) scratch: Slot,
    /// Source trees of bind mounts, in the order of `mounts`.
    pub(super) binds: Vec<Option<Slot>>,
}

/// Build the whole tree and make it `/`.
pub(super) fn steps(b: &mut Builder, cx: &Context<'_>, slaves: Vec<Option<Slot>>, device: Option<Slot>) {
    // Sources first: once something lies on top of `/`, a recursive copy of it would contain that too.
    let sources = root_sources(b, cx);
    let binds = mounts::sources(b, cx, slaves);
    let scratch = scratch(b, cx);
    let layered = layers::layering(cx).is_some();
    let root = match (sources.as_slice(), access(cx)) {
        ([], _) => allow_list(b, cx),
        ([tree], None | Some(Access::ReadOnly)) if !layered => attach(b, *tree, RDONLY),
        ([tree], Some(Access::ReadWrite)) if !layered => attach(b, *tree, 0),
        (layers, access) => {
            let space = Space { scratch, device, writable: access == Some(Access::Overlay) };
            layers::over(b, cx, layers, space)
        }
    };
    let ours = matches!(cx.spec.container().rootfs, Rootfs::HostAllowList);
    let tree = Root { root, scratch, binds };
    if ours {
        stage(b, cx, root, |path| !in_private(cx, path));
        mounts::points(b, cx, root, |path| scratch_path(path).is_none());
        // Everything so far is the host's or ours and stays as it is: one recursive call.
        b.field("rootfs").mount_attr(root, RDONLY | NOSUID | NODEV, PRIVATE, true);
    }
    if access(cx) == Some(Access::Overlay) {
        stage(b, cx, root, |path| !in_private(cx, path));
    }
    scratch_directories(b, cx, &tree);
    kernel::dev(b, cx, &tree);
    let kernel = kernel::proc_and_sys(b, cx, &tree);
    hidden::always(b, cx, &tree, &kernel);
    if !ours {
        resolv_conf(b, cx, &tree);
    }
    mounts::attach(b, cx, &tree);
    // What the user wants hidden may lie in what the user has mounted.
    hidden::asked(b, cx, &tree);
    b.field("").on(Op::Fchdir, root, 0);
    b.op(Op::PivotRoot, 1, 0, 0);
}

/// What the container may do to a root of the user's own.
fn access(cx: &Context<'_>) -> Option<Access> {
    cx.spec.container().rootfs.access()
}

/// The layers of the root, the uppermost first; none where it is built by us.
pub(super) fn root_sources(b: &mut Builder, cx: &Context<'_>) -> Vec<Slot> {
    b.field("rootfs");
    let spec = cx.spec.container();
    if spec.rootfs == Rootfs::HostRoot {
        return vec![b.open_tree(Slot::CWD, "/", true)];
    }
    if let Some(copy) = layers::copied(b, cx) {
        return vec![copy];
    }
    let mounts = (0..spec.root_mounts.len()).map(|_| None);
    let layers = spec.rootfs.directories().iter().map(Some).chain(mounts);
    (0u16..)
        .zip(layers)
        .filter_map(|(index, path)| {
            b.received(Need::Layer(index)).or_else(|| path.map(|path| b.open_tree(Slot::CWD, path, true)))
        })
        .collect()
}

/// Put `tree` on top of `/`.
pub(super) fn attach(b: &mut Builder, tree: Slot, attributes: u64) -> Slot {
    b.mount_attr(tree, attributes | NODEV | NOSUID, PRIVATE, true);
    b.move_mount(tree, Slot::CWD, "/");
    tree
}

/// The tmpfs of everything private and writable, attached where nobody sees it.
fn scratch(b: &mut Builder, cx: &Context<'_>) -> Slot {
    let disk = cx.spec.container().disk;
    let (size, inodes) = (disk.bytes.to_string(), disk.inodes.to_string());
    let options = [("size", size.as_str()), ("nr_inodes", inodes.as_str()), ("mode", "0755")];
    b.field("disk");
    let slot = layers::copied(b, cx).unwrap_or_else(|| b.new_mount("tmpfs", &options, NOSUID | NODEV));
    // On the old /proc, where no source is looked for: one unmount of the old root then takes it along.
    b.move_mount(slot, Slot::CWD, "/proc");
    for (name, mode) in SCRATCH {
        b.on_path(Op::Mkdir, slot, name, mode);
    }
    // /var as programs expect it; the usual places of temporary files have the sticky bit.
    for (name, mode) in
        [("var/tmp", 0o1777), ("var/lib", 0o755), ("var/cache", 0o755), ("var/log", 0o755), ("run/lock", 0o1777)]
    {
        b.on_path(Op::Mkdir, slot, name, mode);
    }
    b.on_paths(Op::Symlink, slot, "var/run", "/run");
    home(b, cx, slot);
    stage(b, cx, slot, |path| in_private(cx, path));
    b.field("");
    hidden::covers(b, slot);
    slot
}

/// A home for the main process's user.
fn home(b: &mut Builder, cx: &Context<'_>, scratch: Slot) {
    let (uid, gid) = cx.spec.main().ids();
    if uid != 0 {
        b.field("user").on_path(Op::Mkdir, scratch, "home/user", 0o700);
        if cx.first_ids() != (uid, gid) {
            b.chown(scratch, "home/user", uid, gid);
        }
    }
}

/// Directories down to `path` (relative), each opened before the next is made in it, so that a symbolic link in a
/// hostile tree leads nowhere. Returns the parent's slot and the last name.
pub(super) fn make_parents<'p>(b: &mut Builder, root: Slot, path: &'p Path) -> (Slot, &'p std::ffi::OsStr) {
    let names: Vec<_> = path
        .components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name),
            _ => None,
        })
        .collect();
    let (last, parents) = names.split_last().map_or((std::ffi::OsStr::new(""), &[][..]), |(last, rest)| (*last, rest));
    let mut dir = root;
    for name in parents {
        b.on_path(Op::Mkdir, dir, name, 0o755).tolerate(EXIST_OK);
        let next = b.open(dir, name, PATH_DIR, BENEATH);
        left(b, root, dir);
        dir = next;
    }
    (dir, last)
}

/// Let go of what [`make_parents`] has opened.
pub(super) fn left(b: &mut Builder, root: Slot, dir: Slot) {
    if dir != root {
        b.close(dir);
    }
}

fn scratch_path(path: &Path) -> Option<&Path> {
    let inside = path.strip_prefix("/").ok()?;
    let first = inside.components().next()?.as_os_str().to_str()?;
    (["tmp", "run", "var", "home", "root"].contains(&first)).then_some(inside)
}

fn stage(b: &mut Builder, cx: &Context<'_>, root: Slot, here: impl Fn(&Path) -> bool) {
    for (index, file) in cx.spec.container().files.iter().enumerate() {
        let need = Need::File(u16::try_from(index).unwrap_or(u16::MAX));
        let (Some(content), true) = (b.received(need), here(&file.path)) else { continue };
        b.field("files");
        let (dir, name) = make_parents(b, root, file.path.strip_prefix("/").unwrap_or(&file.path));
        b.make_file(dir, name, file.mode.into(), None, content);
        left(b, root, dir);
    }
}

/// Over that of a root that is not made by us, or made where that may be written. A link is followed inside the root; where it
/// leads nowhere there is no resolver.
fn resolv_conf(b: &mut Builder, cx: &Context<'_>, tree: &Root) {
    let Some(text) = cx.spec.resolv_conf() else { return };
    b.field("pasta").make_file(tree.scratch, "resolv.conf", 0o644, Some(text), Slot::CWD);
    if may_make(cx) {
        b.on_path(Op::Mkdir, tree.root, "etc", 0o755).tolerate(EXIST_OK);
        b.make_file(tree.root, "etc/resolv.conf", 0o644, None, Slot::CWD);
        b.tolerate(EXIST_OK);
    }
    let place = b.open(tree.root, "etc/resolv.conf", O_PATH, IN_ROOT);
    b.tolerate(OPTIONAL);
    let copy = b.open_tree(tree.scratch, "resolv.conf", false);
    b.move_mount(copy, place, "");
    b.tolerate(PRESENT);
}

/// A fresh tmpfs with the host's programs and libraries and a made /etc.
fn allow_list(b: &mut Builder, cx: &Context<'_>) -> Slot {
    let options = [("size", "16m"), ("nr_inodes", "4096"), ("mode", "0755")];
    let root = b.field("rootfs").new_mount("tmpfs", &options, NOSUID | NODEV);
    b.move_mount(root, Slot::CWD, "/");
    for name in ["etc", "tmp", "run", "var", "home", "proc", "sys", "dev"] {
        b.on_path(Op::Mkdir, root, name, 0o755);
    }
    b.on_path(Op::Mkdir, root, "root", 0o755);
    b.on_path(Op::Mkdir, root, "etc/ssl", 0o755);
    b.on_path(Op::Mkdir, root, "etc/pki", 0o755);
    b.on_path(Op::Mkdir, root, "etc/pki/tls", 0o755);
    b.on_path(Op::Mkdir, root, "etc/pki/ca-trust", 0o755);
    for entry in &cx.machine.host.entries {
        host_entry(b, root, entry);
    }
    if cx.spec.container().host_opt && cx.machine.host.opt {
        b.field("host_opt");
        host_entry(b, root, &HostEntry::Directory("/opt".into()));
    }
    if let Some(text) = cx.spec.resolv_conf() {
        b.field("pasta").make_file(root, "etc/resolv.conf", 0o644, Some(text), Slot::CWD);
    } else if let (Network::Host, Some(resolv)) = (cx.spec.container().network, &cx.machine.host.resolv_conf) {
        b.field("network").make_file(root, "etc/resolv.conf", 0o644, None, Slot::CWD);
        let tree = b.open_tree(Slot::CWD, resolv, false);
        b.move_mount(tree, root, "etc/resolv.conf");
    }
    made_etc(b, cx, root);
    root
}

fn host_entry(b: &mut Builder, root: Slot, entry: &HostEntry) {
    match entry {
        HostEntry::Link(path, target) => {
            b.on_paths(Op::Symlink, root, path.trim_start_matches('/'), target);
        }
        HostEntry::Directory(path) => {
            b.on_path(Op::Mkdir, root, path.trim_start_matches('/'), 0o755);
            let tree = b.open_tree(Slot::CWD, path, true);
            // From its first moment on: what is staged later must not reach the host through it.
            b.mount_attr(tree, RDONLY | NOSUID | NODEV, PRIVATE, true);
            b.move_mount(tree, root, path.trim_start_matches('/'));
        }
        HostEntry::File(path) => {
            b.make_file(root, path.trim_start_matches('/'), 0o644, None, Slot::CWD);
            let tree = b.open_tree(Slot::CWD, path, false);
            b.move_mount(tree, root, path.trim_start_matches('/'));
        }
    }
}

/// /etc of the container: users, groups and names of its own, nothing of the host's.
fn made_etc(b: &mut Builder, cx: &Context<'_>, root: Slot) {
    let (uid, gid) = cx.spec.main().ids();
    let mut passwd =
        String::from("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n");
    let mut group = String::from("root:x:0:\ntty:x:5:\nnogroup:x:65534:\n");
    if uid != 0 && uid != 65534 {
        passwd.push_str(&format!("user:x:{uid}:{gid}:user:/home/user:/bin/sh\n"));
    }
    if ![0, 5, 65534].contains(&gid) {
        group.push_str(&format!("user:x:{gid}:\n"));
    }
    let host = cx.spec.hostname();
    let hosts = format!("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t{host}\n");
    b.field("rootfs");
    b.make_file(root, "etc/passwd", 0o644, Some(&passwd), Slot::CWD);
    b.make_file(root, "etc/group", 0o644, Some(&group), Slot::CWD);
    b.make_file(root, "etc/hosts", 0o644, Some(&hosts), Slot::CWD);
    b.make_file(root, "etc/hostname", 0o644, Some(&format!("{host}\n")), Slot::CWD);
}

/// The target of a mount that comes from `field`, opened without leaving the root; in a tree that may be written it is made
/// first. That it is not there, or cannot be made, is the root's fault.
pub(super) fn target(b: &mut Builder, root: Slot, path: &str, make: bool, field: &'static str) -> Slot {
    b.field("rootfs");
    if make {
        b.on_path(Op::Mkdir, root, path, 0o755).tolerate(EXIST_OK);
    }
    let place = b.open(root, path, PATH_DIR | NOFOLLOW, STRICT);
    b.field(field);
    place
}

pub(super) fn may_make(cx: &Context<'_>) -> bool {
    matches!(access(cx), Some(Access::Overlay | Access::ReadWrite))
}

/// The directories of the root that are private and writable.
fn private(cx: &Context<'_>) -> &'static [&'static str] {
    match access(cx) {
        _ if cx.spec.container().plain_root => &[],
        None if cx.spec.container().rootfs == Rootfs::HostRoot => &["tmp", "run", "root"],
        None => &["tmp", "run", "var", "home", "root"],
        Some(Access::ReadOnly) => &["tmp", "run"],
        Some(Access::Overlay | Access::ReadWrite) => &["run"],
    }
}

/// `path` lies below a private directory.
pub(super) fn in_private(cx: &Context<'_>, path: &Path) -> bool {
    scratch_path(path)
        .and_then(|inside| inside.components().next())
        .is_some_and(|first| private(cx).iter().any(|name| first.as_os_str() == *name))
}

/// Bind each private directory over the root's. In a writable root of the user's only what must be private is.
fn scratch_directories(b: &mut Builder, cx: &Context<'_>, tree: &Root) {
    b.field("disk");
    for name in private(cx) {
        let copy = b.open_tree(tree.scratch, name, false);
        let place = target(b, tree.root, name, may_make(cx), "disk");
        b.move_mount(copy, place, "");
    }
}
