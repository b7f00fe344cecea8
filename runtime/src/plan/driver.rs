//! The plan of one call of a program that is driven (`native/driven/`): it runs as the keeper does, in the host's namespaces. A
//! call that makes a container has a mount namespace of its own, with what is the host's at one place: the root, the sources of
//! its mounts and its private directories. So nobody but this call, and what it makes, ever sees them, and nothing has to be
//! unmounted.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::container;
use super::encode::{Builder, Need, Plan, Slot};
use super::layers;
use super::mounts::{self, prepare};
use super::rootfs::{NODEV, NOEXEC, NOSUID, O_PATH, PATH_DIR, PRIVATE, RDONLY};
use super::wire::{EXIST_OK, NEWNS, Op};
use crate::spec::{Access, CheckedSpec, Disk};

/// RLIMIT_NOFILE.
const NOFILE: u64 = 7;
/// Numbers from here on are in nobody's way.
const APART: u64 = 64;
/// MS_REC | MS_SLAVE
const SLAVES: u64 = 0x4000 | 0x8_0000;

/// One call, by a child of whoever carries this out: that one attends it ([`Op::Attend`]).
pub struct Call<'a> {
    /// The program's path.
    pub program: &'a OsStr,
    /// Its arguments, its own name first.
    pub argv: &'a [OsString],
    /// Its environment.
    pub env: &'a [OsString],
    /// Limits of descriptors, as the supervisor has them.
    pub nofile: (u64, u64),
    /// It is born in the container's group of version 2.
    pub grouped: bool,
    /// It enters so many of version 1.
    pub tasks: u16,
    /// The score that the kernel has for it, and for all that come of it, when memory is short.
    pub oom_score_adj: Option<i32>,
    /// So many descriptors from 3 on.
    pub preserved: u16,
    /// Where it is called.
    pub ground: Ground<'a>,
    /// The directory with the socket that waits for the master of a terminal: `console` of the place.
    pub console: Option<&'a OsStr>,
    /// What it finds of the host, where it makes a container.
    pub host: Option<Host<'a>>,
}

/// The mount namespace of a call. Programs look for the root's path again when there is nothing at it any more.
#[derive(Clone, Copy)]
pub struct Ground<'a> {
    /// An existing directory, at which there is nothing but what is put there.
    pub place: &'a str,
    /// Where version 2 of cgroups is mounted beside version 1, if it is: covered, because some programs refuse such a machine. Who is
    /// born in a group of it need not enter it. Not unmounted, which nobody may in a user namespace.
    pub unified: Option<&'a OsStr>,
    /// Hierarchies that are only read here: who is in the container's groups already makes none.
    pub read_only: &'a [PathBuf],
}

/// What is at the place of a call that makes a container.
pub struct Host<'a> {
    /// The container.
    pub spec: &'a CheckedSpec,
    /// Trees of its root and mounts that come along; the others the call, which has rights over mounts in its user namespace, copies itself.
    pub trees: &'a [Need],
    /// Its private directories: name and mode.
    pub scratch: &'a [(&'static str, u32)],
    /// Who they belong to, outside.
    pub owner: (u32, u32),
    /// The program that is its pid 1, where it has one.
    pub init: Option<&'a OsStr>,
}

impl Host<'_> {
    /// Its root is an overlay.
    fn is_layered(&self) -> bool {
        let spec = self.spec.container();
        let several = spec.rootfs.directories().len().max(spec.root_mounts.len()) > 1;
        several || spec.rootfs.access() == Some(Access::Overlay)
    }
}

/// The plan.
#[must_use]
pub fn call(call: &Call<'_>) -> Plan {
    let mut needs: Vec<Need> = (0..3).map(Need::Stdio).chain((0..call.preserved).map(Need::Preserved)).collect();
    needs.extend(call.host.as_ref().map_or(&[][..], |host| host.trees));
    needs.extend(call.grouped.then_some(Need::Cgroup));
    needs.extend((0..call.tasks).map(Need::Tasks));
    needs.push(Need::Channel);
    let mut b = Builder::new(&needs);
    if let Some(group) = b.received(Need::Cgroup) {
        b.born_in(group);
    }
    let line = b.field("runtime").received(Need::Channel).unwrap_or(Slot::CWD);
    b.on(Op::Attend, line, 0);
    container::cgroup(&mut b, call.tasks);
    b.field("runtime");
    b.op(Op::Setsid, 0, 0, 0);
    if let Some(score) = call.oom_score_adj {
        b.field("oom_score_adj").on_paths(Op::WriteFile, Slot::CWD, "/proc/self/oom_score_adj", score.to_string());
        b.field("runtime");
    }
    ground(&mut b, call);
    install(&mut b, call.preserved);
    b.field("runtime").op(Op::Umask, 0o022, 0, 0);
    b.op(Op::Rlimit, NOFILE, call.nofile.0, call.nofile.1);
    b.op(Op::Signals, 0, 0, 0);
    b.exec_tied(&[call.program], &words(call.argv), &words(call.env));
    b.finish()
}

fn words(list: &[OsString]) -> Vec<&OsStr> {
    list.iter().map(OsString::as_os_str).collect()
}

fn install(b: &mut Builder, preserved: u16) {
    let slot = |b: &Builder, need| b.received(need).unwrap_or(Slot::CWD);
    let more: Vec<Slot> = (0..preserved).map(|n| slot(b, Need::Preserved(n))).collect();
    if preserved > 0 {
        for slot in more.iter().copied().chain([slot(b, Need::Report)]) {
            b.on(Op::Lift, slot, APART.max(3 + u64::from(preserved)));
        }
    }
    for n in 0..3 {
        let stdio = slot(b, Need::Stdio(n));
        b.on(Op::Install, stdio, n.into());
    }
    for (number, slot) in (3u64..).zip(more) {
        b.on(Op::Install, slot, number);
    }
    // CLOSE_RANGE_CLOEXEC
    b.op(Op::CloseRange, 3 + u64::from(preserved), 4, 0);
}

/// A mount namespace in which later mounts of the host arrive and from which none travels, and the place in it, with the
/// program that is to be pid 1, the way to who waits for a terminal, and what is the host's.
fn ground(b: &mut Builder, call: &Call<'_>) {
    let Call { ground, console, ref host, .. } = *call;
    b.op(Op::Unshare, NEWNS, 0, 0);
    b.on_path(Op::Propagation, Slot::CWD, "/", SLAVES);
    if let Some(path) = ground.unified {
        // crun makes directories there whatever it is.
        let cover =
            b.new_mount("tmpfs", &[("size", "1m"), ("nr_inodes", "64"), ("mode", "0755")], NOSUID | NODEV | NOEXEC);
        b.move_mount(cover, Slot::CWD, path);
    }
    for top in ground.read_only {
        let top = b.open(Slot::CWD, top, O_PATH, 0);
        b.mount_attr(top, RDONLY, 0, false);
        b.close(top);
    }
    // Opened first: what is at the place may be hidden by it.
    let init = host.as_ref().and_then(|host| host.init).map(|path| b.open_tree(Slot::CWD, path, false));
    let console = console.map(|path| b.open_tree(Slot::CWD, path, false));
    let sources = host.as_ref().map(|host| (host, sources(b, host)));
    let space = b.field("runtime").new_mount(
        "tmpfs",
        &[("size", "1m"), ("nr_inodes", "1024"), ("mode", "0755")],
        NOSUID | NODEV,
    );
    b.move_mount(space, Slot::CWD, ground.place);
    for name in ["rootfs", "binds", "scratch"] {
        b.on_path(Op::Mkdir, space, name, 0o755);
    }
    if let Some(console) = console {
        b.on_path(Op::Mkdir, space, "console", 0o755);
        b.move_mount(console, space, "console");
    }
    if let Some(init) = init {
        b.make_file(space, "init", 0o755, None, Slot::CWD);
        // Where it lies may be a place from which nothing is to be executed.
        b.mount_attrs(init, RDONLY | NOSUID | NODEV, NOEXEC, false);
        b.move_mount(init, space, "init");
    }
    if let Some((host, sources)) = sources {
        let private = scratch(b, host, space);
        match private.filter(|_| host.is_layered()) {
            Some(private) => layered(b, host, space, (&sources.layers, private)),
            None => root(b, host, space, sources.layers.first().copied().unwrap_or(Slot::CWD)),
        }
        binds(b, host, space, &sources.binds);
    }
}

/// What is the host's: as it came along, or copied.
struct Sources {
    /// Of the root, the uppermost first.
    layers: Vec<Slot>,
    /// In the order of the mounts.
    binds: Vec<Option<Slot>>,
}

fn sources(b: &mut Builder, host: &Host<'_>) -> Sources {
    let spec = host.spec.container();
    b.field("rootfs");
    let paths = spec.rootfs.directories().iter().map(Some).chain(spec.root_mounts.iter().map(|_| None));
    let layer = |b: &mut Builder, (index, path): (u16, Option<&PathBuf>)| {
        b.received(Need::Layer(index)).or_else(|| path.map(|path| b.open_tree(Slot::CWD, path, true)))
    };
    let layers = (0u16..).zip(paths).filter_map(|one| layer(b, one)).collect();
    let mounts = spec.mounts.iter().enumerate();
    Sources { layers, binds: mounts.map(|(index, mount)| mounts::open(b, index, mount)).collect() }
}

fn root(b: &mut Builder, host: &Host<'_>, space: Slot, tree: Slot) {
    let spec = host.spec.container();
    b.field("rootfs");
    let read = if spec.rootfs.access() == Some(Access::ReadOnly) { RDONLY } else { 0 };
    let kept = if spec.listed { 0 } else { NOSUID | NODEV };
    // What is only read is not written to by the program either: of the root itself, what is mounted in it is as it is.
    b.mount_attr(tree, kept, PRIVATE, true);
    b.mount_attr(tree, read, 0, !spec.listed);
    b.move_mount(tree, space, "rootfs");
}

/// An overlay, of which what is written lies on the file system of what is private: one size for both. It goes with the container's
/// last mount of it.
fn layered(b: &mut Builder, host: &Host<'_>, space: Slot, (layers, private): (&[Slot], Slot)) {
    let spec = host.spec.container();
    let writable = spec.rootfs.access() == Some(Access::Overlay);
    b.field("rootfs");
    layers::directories(b, private, writable);
    if writable && host.owner != (0, 0) {
        b.chown(private, "upper", host.owner.0, host.owner.1);
    }
    let root = layers::overlaid(b, layers, private, (writable, spec.user_namespace));
    b.move_mount(root, space, "rootfs");
}

fn binds(b: &mut Builder, host: &Host<'_>, space: Slot, trees: &[Option<Slot>]) {
    let dir = b.field("mounts").open(space, "binds", PATH_DIR, 0);
    for (index, (mount, tree)) in host.spec.container().mounts.iter().zip(trees).enumerate() {
        let Some(tree) = *tree else { continue };
        let seen = host.spec.mount(index);
        let name = index.to_string();
        mounts::make(b, dir, OsStr::new(&name), seen.is_file);
        prepare(b, mount, seen, tree);
        b.move_mount(tree, dir, &name);
    }
}

fn scratch(b: &mut Builder, host: &Host<'_>, space: Slot) -> Option<Slot> {
    if host.scratch.is_empty() && !host.is_layered() {
        return None;
    }
    let Disk { bytes, inodes } = host.spec.container().disk;
    let (size, inodes) = (bytes.to_string(), inodes.to_string());
    let options = [("size", size.as_str()), ("nr_inodes", inodes.as_str()), ("mode", "0755")];
    let made = b.field("disk").new_mount("tmpfs", &options, NOSUID | NODEV);
    b.move_mount(made, space, "scratch");
    for (name, mode) in host.scratch {
        b.on_path(Op::Mkdir, made, name, (*mode).into()).tolerate(EXIST_OK);
        if host.owner != (0, 0) {
            b.chown(made, name, host.owner.0, host.owner.1);
        }
    }
    Some(made)
}
