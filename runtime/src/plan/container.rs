//! The plan of a container: from `clone3` to the stub init, or to the command waiting behind the start gate.

use super::encode::{Builder, Need, Plan, Slot};
use super::machine::{Allotment, IdMap, Machine};
use super::wire::{NEWCGROUP, NEWIPC, NEWNET, NEWNS, NEWPID, NEWTIME, NEWUSER, NEWUTS, Op};
use super::{layers, listed, mounts, process, rootfs};
use crate::rootfs::Layering;
use crate::spec::{CheckedSpec as Spec, Network, TimeOffsets};

/// Everything that a step of a container depends on.
pub struct Context<'a> {
    /// What is asked for.
    pub spec: &'a Spec,
    /// Where it runs.
    pub machine: &'a Machine,
    /// What it was given.
    pub allotment: &'a Allotment,
}

impl Context<'_> {
    /// The ids of whoever sets the container up.
    pub(super) fn first_ids(&self) -> (u32, u32) {
        self.allotment.ids.as_ref().map_or((0, 0), IdMap::first_ids)
    }

    /// Group `gid` of the container exists outside.
    pub(super) fn maps_gid(&self, gid: u32) -> bool {
        self.allotment.ids.as_ref().is_none_or(|ids| ids.gid.has(gid))
    }
}

/// The plan that makes the container.
#[must_use]
pub fn plan(cx: &Context<'_>) -> Plan {
    let mut b = Builder::new(&needs(cx));
    let b = &mut b;
    namespaces(b, cx);
    if cx.spec.container().without_init {
        process::of_itself(b, cx.spec.main());
    }
    clocks(b, cx);
    let device = identity(b, cx);
    cgroup(b, cx.allotment.tasks);
    b.field("");
    if !cx.spec.joins(NEWCGROUP) {
        b.op(Op::Unshare, NEWCGROUP, 0, 0);
    }
    if !(cx.spec.container().without_init && cx.spec.main().spec().shares_keyring) {
        b.op(Op::Keyring, 0, 0, 0);
    }
    if cx.spec.joins(NEWNS) {
        names(b, cx);
    } else {
        let slaves = mounts::slaves(b, cx);
        let root = listed::early_root(b, cx);
        b.field("");
        // MS_REC | MS_PRIVATE, before anything is mounted: nothing of ours may travel to the host.
        b.on_path(Op::Propagation, Slot::CWD, "/", 0x4000 | 0x4_0000);
        names(b, cx);
        if cx.spec.container().listed {
            listed::steps(b, cx, root, slaves);
        } else {
            rootfs::steps(b, cx, slaves, device);
        }
    }
    if cx.allotment.leaves {
        left(b, cx);
    } else if cx.spec.container().without_init {
        ready(b);
        process::rlimits(b, cx.spec.main(), cx.machine);
        process::steps(b, cx.spec.main(), cx.machine, cx.allotment.ids.as_ref(), !cx.spec.joins(NEWNS));
    } else {
        stub(b, cx.machine);
    }
    std::mem::replace(b, Builder::new(&[])).finish()
}

/// Everything up to the gate that can be refused. A filter that asks is there before, because whoever makes the
/// container hands its listener on; any other one only has to let the program be executed.
fn left(b: &mut Builder, cx: &Context<'_>) {
    let main = cx.spec.main();
    process::rlimits(b, main, cx.machine);
    process::prepare(b, main, cx.machine, cx.allotment.ids.as_ref(), !cx.spec.joins(NEWNS));
    process::find(b, main);
    if main.listens() {
        process::filter(b, main);
    }
    ready(b);
    if !main.listens() {
        process::filter(b, main);
    }
    process::exec(b, main);
}

/// It waits behind its gate.
fn ready(b: &mut Builder) {
    b.field("").op(Op::Ready, 0, 0, 0);
    if let Some(gate) = b.received(Need::Gate) {
        b.on(Op::Wait, gate, 0);
    }
}

/// Of namespaces that are new: what is joined stays as it is.
fn names(b: &mut Builder, cx: &Context<'_>) {
    let container = cx.spec.container();
    let given = container.hostname.is_some();
    // A bundle has no name but the one that it gives, also to a namespace that exists.
    if if container.listed { given } else { !cx.spec.joins(NEWUTS) } {
        b.field("hostname").on_path(Op::Hostname, Slot::CWD, cx.spec.hostname(), 0);
    }
    if let Some(name) = &container.domainname {
        b.field("domainname").on_path(Op::Domainname, Slot::CWD, name, 0);
    }
    if cx.spec.own_network() {
        b.field("network").op(Op::Loopback, 0, 0, 0);
    }
}

/// A time namespace of its own: made for its children, because nobody can change the clocks of one that somebody lives in, and then
/// entered. Its file is the keeper's user's, as the child still is.
fn clocks(b: &mut Builder, cx: &Context<'_>) {
    let Some(offsets) = &cx.spec.container().time else { return };
    b.field("time").op(Op::Unshare, NEWTIME, 0, 0);
    if *offsets != TimeOffsets::default() {
        b.on_paths(Op::WriteFile, Slot::CWD, "/proc/self/timens_offsets", offsets.text());
    }
    let made = b.open(Slot::CWD, "/proc/self/ns/time_for_children", 0, 0);
    b.on(Op::SetNs, made, NEWTIME);
    b.close(made);
}

/// The descriptors that come with the plan.
fn needs(cx: &Context<'_>) -> Vec<Need> {
    let mut needs = Vec::new();
    if cx.allotment.cgroup {
        needs.push(Need::Cgroup);
    }
    needs.extend((0..cx.allotment.tasks).map(Need::Tasks));
    needs.extend(cx.allotment.trees.iter().copied());
    let files = u16::try_from(cx.spec.container().files.len()).unwrap_or(u16::MAX);
    needs.extend((0..files).map(Need::File));
    needs.extend(cx.spec.joined().iter().map(|joined| Need::Namespace(joined.place)));
    if cx.spec.container().without_init {
        needs.push(Need::Gate);
        needs.extend(process::needs(cx.spec.main()));
    } else if cx.allotment.tied {
        needs.push(Need::Gate);
    }
    if layers::layering(cx) == Some(Layering::FuseOverlayfs) {
        needs.push(Need::Served);
    }
    needs
}

fn namespaces(b: &mut Builder, cx: &Context<'_>) {
    let mut flags = NEWNS | NEWPID | NEWIPC | NEWUTS;
    if cx.spec.container().network == Network::None {
        flags |= NEWNET;
    }
    if let Some(ids) = cx.allotment.ids.as_ref().filter(|_| !cx.spec.joins(NEWUSER)) {
        flags |= NEWUSER;
        b.maps(&ids.uid.text(), &ids.gid.text(), ids.deny_setgroups);
    }
    // What is joined is not made.
    b.born_joined();
    let there = [NEWNS, NEWPID, NEWIPC, NEWUTS, NEWNET, NEWUSER].into_iter().filter(|kind| cx.spec.joins(*kind));
    b.clone_flags(flags & !there.fold(0, |all, kind| all | kind));
    if let Some(cgroup) = b.received(Need::Cgroup) {
        b.born_in(cgroup);
    }
}

/// Become the first user of the namespace; the groups of the supervisor's user must not come along. Gives the device of what
/// serves the root: it has to be opened in the namespace, and may be open to nobody but the supervisor's user.
fn identity(b: &mut Builder, cx: &Context<'_>) -> Option<Slot> {
    b.field("user_namespace");
    let Some(ids) = &cx.allotment.ids else {
        b.set_groups(&[]);
        return layers::device(b, cx);
    };
    if !cx.spec.joins(NEWUSER) {
        b.op(Op::WaitMaps, 0, 0, 0);
    }
    if !ids.deny_setgroups {
        b.set_groups(&[]);
    }
    let device = layers::device(b, cx);
    let (uid, gid) = ids.first_ids();
    b.field("user_namespace").op(Op::SetIds, uid.into(), gid.into(), 0);
    device
}

/// v1: the still single-threaded child writes itself into each hierarchy. `tasks`, never `cgroup.procs`: the latter
/// waits for an RCU grace period. Before the cgroup namespace, so that it shows `/`.
pub(super) fn cgroup(b: &mut Builder, tasks: u16) {
    b.field("limits");
    for index in 0..tasks {
        if let Some(file) = b.received(Need::Tasks(index)) {
            b.on_path(Op::WriteFd, file, "0", 0);
        }
    }
}

/// pid 1 is the keeper's own image with nothing left: no capability, no descriptor, not even its memory can be read.
fn stub(b: &mut Builder, machine: &Machine) {
    b.field("");
    b.op(Op::Rlimit, 7, machine.nofile.0, machine.nofile.1);
    // It never execs, so the bounding set has nothing to bound.
    b.op(Op::CapSet, 0, 0, 0);
    // PR_SET_NO_NEW_PRIVS; PR_SET_DUMPABLE is off since the keeper's start.
    b.op(Op::Prctl, 38, 1, 0);
    b.on_path(Op::Name, Slot::CWD, "orangery-init", 0);
    b.op(Op::Ready, 0, 0, 0);
    match b.received(Need::Gate) {
        Some(line) => b.on(Op::Stub, line, 0),
        None => b.op(Op::Stub, 0, 0, 0),
    };
}
