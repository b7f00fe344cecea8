//! The plan of a process in a container that exists: join, become the user, exec.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::container;
use super::encode::{Builder, Need, Plan, Slot};
use super::landlock;
use super::machine::{IdMap, Machine};
use super::own_mounts;
use super::rootfs::PATH_DIR;
use super::tty;
use super::wire::{self, NEWCGROUP, NEWIPC, NEWNET, NEWNS, NEWTIME, NEWUSER, NEWUTS, Op, Purpose};
use crate::spec::check::CheckedProcess;
use crate::spec::{Disk, ProcessSpec, Resource, placement};

/// RLIMIT_NOFILE.
const NOFILE: u64 = 7;

/// SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, which the kernel takes with a listener alone.
const WAIT_KILLABLE: u64 = 0x20;

/// `f_type` of procfs.
const PROC_SUPER_MAGIC: u64 = 0x9fa0;
/// O_WRONLY; RESOLVE_NO_XDEV and RESOLVE_NO_MAGICLINKS of openat2(2).
const WRITE_ONLY: u64 = 1;
const NO_XDEV: u64 = 1;
const NO_MAGICLINKS: u64 = 2;

/// Above the number of any descriptor that a process is given, unless it is given many.
const APART: u64 = 64;

/// What a process plan depends on beside the process.
#[derive(Clone, Debug, Default)]
pub struct Joining {
    /// The container's id maps; `None`: it has no user namespace of its own.
    pub ids: Option<IdMap>,
    /// It has a network namespace of its own.
    pub own_network: bool,
    /// It has a time namespace of its own.
    pub own_time: bool,
    /// Which of the others (CLONE_NEWIPC, CLONE_NEWUTS, CLONE_NEWCGROUP) it has in common with whoever makes the process: they need not be
    /// entered, and cannot be by whoever has no rights over them.
    pub common: u64,
    /// Born in the container's cgroup v2.
    pub cgroup: bool,
    /// The container has rights over the cgroup namespace that it lives in.
    pub governs_cgroups: bool,
    /// v1 `tasks` files.
    pub tasks: u16,
    /// Mount trees that come along for mounts of this process alone, by index.
    pub trees: Vec<u16>,
    /// The size of its own tmpfs mounts, where they have none.
    pub disk: Disk,
    /// A terminal of its own is the container's console: it is the main process of a container with mounts of its own.
    pub console: bool,
}

impl Joining {
    /// It enters the cgroup namespace when it is born, and not whoever clones it: where cgroup2 is mounted with
    /// `nsdelegate`, as systemd does, nobody in that namespace gives birth into the cgroup from outside of it (ENOENT). The
    /// keeper is in no such namespace; a middle process would be.
    pub(super) fn enters_cgroups_last(&self, machine: &Machine) -> bool {
        !machine.enters_pidns && self.cgroup && self.governs_cgroups && self.common & NEWCGROUP == 0
    }
}

/// The container's cgroup namespace.
pub const CGROUP_NAMESPACE: Need = Need::Namespace(wire::JOIN_CGROUP);

/// The descriptors that a process needs.
pub(super) fn needs(process: &CheckedProcess) -> Vec<Need> {
    let preserved = u16::try_from(process.spec().preserved.len()).unwrap_or(u16::MAX);
    let tty = process.spec().tty.is_some();
    let channel = (tty || process.listens()).then_some(Need::Channel);
    (0..if tty { 0 } else { 3 }).map(Need::Stdio).chain((0..preserved).map(Need::Preserved)).chain(channel).collect()
}

/// The plan that starts `process` in a container.
#[must_use]
pub fn plan(process: &CheckedProcess, joining: &Joining, machine: &Machine) -> Plan {
    whole(process, joining, machine).finish()
}

/// The same of one that ends with its parent: a hook, which is waited for.
#[must_use]
pub fn plan_tied(process: &CheckedProcess, joining: &Joining, machine: &Machine) -> Plan {
    let mut b = whole(process, joining, machine);
    b.tie();
    b.finish()
}

fn whole(process: &CheckedProcess, joining: &Joining, machine: &Machine) -> Builder {
    let mut needs_all = vec![Need::Init];
    if joining.cgroup {
        needs_all.push(Need::Cgroup);
    }
    needs_all.extend((0..joining.tasks).map(Need::Tasks));
    needs_all.extend(joining.enters_cgroups_last(machine).then_some(CGROUP_NAMESPACE));
    needs_all.extend(joining.trees.iter().copied().map(Need::Bind));
    needs_all.extend(needs(process));
    let mut b = Builder::new(&needs_all);
    // While the host is seen.
    let binds = own_mounts::sources(&mut b, process);
    join(&mut b, process, joining, machine);
    own_mounts::steps(&mut b, process, joining, &binds);
    steps(&mut b, process, machine, joining.ids.as_ref(), joining.console);
    b
}

fn join(b: &mut Builder, process: &CheckedProcess, joining: &Joining, machine: &Machine) {
    of_itself(b, process);
    beside(b, joining, machine);
    if let Some(cgroup) = b.received(Need::Cgroup) {
        b.born_in(cgroup);
    }
    // Where it is born in the cgroup, and in no other one, there is nothing before.
    if let Some(cpus) = process.spec().cpus_before.as_ref().filter(|_| !joining.cgroup || joining.tasks > 0) {
        b.field("cpus_before").affinity(&placement::cpus(cpus));
    }
    container::cgroup(b, joining.tasks);
    if let Some(cpus) = &process.spec().cpus {
        b.field("cpus").affinity(&placement::cpus(cpus));
    }
    // A hard limit is raised with the keeper's rights or not at all.
    rlimits(b, process, machine);
    enter(b, joining, machine);
}

/// Which namespaces of the container a process has to enter.
fn namespaces(joining: &Joining) -> u64 {
    let own = [(joining.own_network, NEWNET), (joining.own_time, NEWTIME), (joining.ids.is_some(), NEWUSER)];
    let own = own.into_iter().filter(|(own, _)| *own).fold(0, |all, (_, kind)| all | kind);
    (NEWNS | NEWIPC | NEWUTS | NEWCGROUP) & !joining.common | own
}

/// From here on it is in the container, beside whose first process it is born: whoever is in there sees it, and nothing of the host
/// through it (docs/decisions/0075).
pub(super) fn beside(b: &mut Builder, joining: &Joining, machine: &Machine) {
    let Some(init) = b.received(Need::Init) else { return };
    // Those that take rights away are entered later, with what needs them done.
    let later = match machine.enters_pidns {
        true => NEWUSER | NEWCGROUP,
        // Over the undumpable first process the keeper has rights, and the child none.
        false if joining.enters_cgroups_last(machine) => NEWCGROUP,
        false => 0,
    };
    b.field("").born_beside(init, namespaces(joining) & !later);
}

/// The namespaces of the container that are left.
pub(super) fn enter(b: &mut Builder, joining: &Joining, machine: &Machine) {
    if let Some(namespace) = b.received(CGROUP_NAMESPACE) {
        b.field("").on(Op::SetNs, namespace, NEWCGROUP);
    }
    let left = namespaces(joining) & (NEWUSER | NEWCGROUP);
    let Some(init) = b.received(Need::Init).filter(|_| machine.enters_pidns && left != 0) else { return };
    if joining.ids.as_ref().is_some_and(|ids| ids.deny_setgroups) {
        // In there it is denied, and the groups of the supervisor's user must not come along.
        b.field("groups").set_groups(&[]);
    }
    b.field("").on(Op::SetNs, init, left);
}

/// From inside the namespaces to `execve`, for a process whose [`rlimits`] are set.
pub(super) fn steps(b: &mut Builder, process: &CheckedProcess, machine: &Machine, ids: Option<&IdMap>, console: bool) {
    prepare(b, process, machine, ids, console);
    filter(b, process);
    exec(b, process);
}

/// All of [`steps`] but the filter and the `execve`; and the filter, where it has to be loaded with rights that are given up.
pub(super) fn prepare(
    b: &mut Builder,
    process: &CheckedProcess,
    machine: &Machine,
    ids: Option<&IdMap>,
    console: bool,
) {
    let early = process.filtered_early();
    b.field("").op(Op::Setsid, 0, 0, 0);
    if !process.spec().shares_keyring {
        b.op(Op::Keyring, 0, 0, 0);
    }
    let tty = tty::steps(b, process, ids, console);
    let umask = |b: &mut Builder| {
        b.field("umask").op(Op::Umask, process.spec().umask.unwrap_or(0o022).into(), 0, 0);
    };
    if early {
        // As little as possible is behind it.
        umask(b);
        last_words(b, process, machine, tty);
        load(b, process);
    }
    credentials(b, process, ids);
    if !early {
        umask(b);
    }
    let cwd = process.spec().cwd.as_deref().map_or(OsStr::new("/"), |cwd| cwd.as_os_str());
    b.field("cwd").on_path(Op::Chdir, Slot::CWD, cwd, 0);
    if !early {
        last_words(b, process, machine, tty);
    }
}

/// Descriptors, their number, signals.
fn last_words(b: &mut Builder, process: &CheckedProcess, machine: &Machine, tty: Option<Slot>) {
    // Nothing but the program is opened behind it.
    landlock::steps(b, process);
    descriptors(b, process, tty);
    // Last: moving descriptors out of the way needs numbers above what the process may be allowed.
    let (soft, hard) = nofile(process, machine);
    b.field("rlimits").op(Op::Rlimit, NOFILE, soft, hard);
    b.field("").op(Op::Signals, 0, 0, 0);
}

/// Its system call filter, unless [`prepare`] had to load it.
pub(super) fn filter(b: &mut Builder, process: &CheckedProcess) {
    if !process.filtered_early() {
        load(b, process);
    }
}

/// Where a filter asks, the listener goes over the channel.
fn load(b: &mut Builder, process: &CheckedProcess) {
    let Some(filter) = process.filter() else { return };
    let field = if process.spec().filters.is_empty() { "seccomp" } else { "filters" };
    let flags = process.spec().filter_flags;
    match b.field(field).received(Need::Channel).filter(|_| filter.listens) {
        Some(channel) => {
            let listener = b.seccomp_listener(&filter.program, flags);
            b.send(channel, listener, Purpose::Listener);
        }
        None => drop(b.seccomp(&filter.program, flags & !WAIT_KILLABLE)),
    }
}

/// Set while the child still has the keeper's ids: the files of an undumpable process belong to root. What is written to must be a
/// file of the kernel's, with nothing mounted over it: /proc is what somebody has mounted there.
pub(super) fn of_itself(b: &mut Builder, process: &CheckedProcess) {
    let score = process.spec().oom_score_adj.map(|score| ("oom_score_adj", "self/oom_score_adj", score.to_string()));
    let labels = process.labels().iter();
    let labels = labels.map(|(file, label)| ("security label", file.trim_start_matches("/proc/"), label.clone()));
    let all: Vec<_> = labels.chain(score).collect();
    let Some((first, ..)) = all.first() else { return };
    let proc = b.field(first).open(Slot::CWD, "/proc", PATH_DIR, 0);
    b.on(Op::CheckFs, proc, PROC_SUPER_MAGIC);
    for (field, file, text) in &all {
        let file = b.field(field).open(proc, file, WRITE_ONLY, NO_XDEV | NO_MAGICLINKS);
        b.on_path(Op::WriteFd, file, text, 0);
        b.close(file);
    }
    b.close(proc);
}

/// All but the number of descriptors, of which only the hard limit is raised here.
pub(super) fn rlimits(b: &mut Builder, process: &CheckedProcess, machine: &Machine) {
    b.field("rlimits");
    for limit in process.spec().rlimits.iter().filter(|limit| limit.resource != Resource::Nofile) {
        b.op(Op::Rlimit, limit.resource.number().into(), limit.soft, limit.hard);
    }
    let (_, hard) = nofile(process, machine);
    if hard > machine.nofile.1 {
        b.op(Op::Rlimit, NOFILE, hard, hard);
    }
    scheduling(b, process.spec());
}

/// What may need the keeper's rights as well.
fn scheduling(b: &mut Builder, spec: &ProcessSpec) {
    if let Some(personality) = spec.personality {
        b.field("personality").op(Op::Personality, personality.into(), 0, 0);
    }
    if let Some(policy) = &spec.memory_policy {
        b.field("memory_policy").memory_policy(policy.mode, &policy.mask());
    }
    if let Some(priority) = spec.io_priority {
        b.field("io_priority").op(Op::IoPriority, priority.into(), 0, 0);
    }
    if let Some(scheduler) = &spec.scheduler {
        b.field("scheduler").scheduler(&scheduler.attributes());
    }
}

/// What is asked for (the last word counts), or what the caller has.
fn nofile(process: &CheckedProcess, machine: &Machine) -> (u64, u64) {
    let asked = process.spec().rlimits.iter().rev().find(|limit| limit.resource == Resource::Nofile);
    asked.map_or(machine.nofile, |limit| (limit.soft, limit.hard))
}

/// Groups and bounding set while the rights for it are there, then the ids, then exactly the capabilities asked for.
fn credentials(b: &mut Builder, process: &CheckedProcess, ids: Option<&IdMap>) {
    let (caps, (uid, gid)) = (process.caps(), process.ids());
    b.field("groups");
    if !ids.is_some_and(|ids| ids.deny_setgroups) {
        b.set_groups(process.groups());
    }
    b.field("caps").op(Op::CapBound, caps.bounding.0, 0, 0);
    // What is inheritable has to be permitted when it is set.
    let keep = uid != 0 && (caps.permitted.0 | caps.inheritable.0) != 0;
    if keep {
        // PR_SET_KEEPCAPS
        b.op(Op::Prctl, 8, 1, 0);
    }
    b.field("user").op(Op::SetIds, uid.into(), gid.into(), 0);
    b.field("caps").op(Op::CapSet, caps.effective.0, caps.permitted.0, caps.inheritable.0);
    b.op(Op::CapAmbient, caps.ambient.0, 0, 0);
    if !process.spec().new_privileges {
        b.field("new_privileges").op(Op::Prctl, 38, 1, 0);
    }
}

/// Exactly 0, 1, 2 and what is preserved; everything else is closed by the exec at the latest.
fn descriptors(b: &mut Builder, process: &CheckedProcess, tty: Option<Slot>) {
    b.field("stdio");
    let spec = process.spec();
    let slot = |b: &Builder, need: Need| b.received(need).unwrap_or(Slot::CWD);
    let needed = |n: usize| Need::Preserved(u16::try_from(n).unwrap_or(u16::MAX));
    let slots: Vec<Slot> = (0..spec.preserved.len()).map(|n| slot(b, needed(n))).collect();
    let numbers: Vec<u64> = match spec.preserved_at.as_slice() {
        [] => (3..).take(slots.len()).collect(),
        at => at.iter().map(|number| u64::from(*number)).collect(),
    };
    let (report, channel, gate) = (slot(b, Need::Report), b.received(Need::Channel), b.received(Need::Gate));
    // One that waits at its gate may be looked at through /proc for as long, by whoever comes into the container beside it: nothing of
    // what it was made with is to be found there.
    let waits = gate.is_some();
    if !numbers.is_empty() || waits {
        // Out of the way of the numbers that are about to be given out, or closed.
        let above = numbers.last().map_or(APART, |last| APART.max(last + 1));
        let apart = if waits { above.max(wire::HIGH.unsigned_abs().into()) } else { above };
        for slot in slots.iter().copied().chain([report]).chain(channel).chain(gate) {
            b.on(Op::Lift, slot, apart);
        }
    }
    for n in 0..3 {
        let stdio = tty.unwrap_or_else(|| slot(b, Need::Stdio(n)));
        b.on(Op::Install, stdio, n.into());
    }
    if waits {
        b.op(Op::CloseRange, 3, 0, (wire::HIGH - 1).unsigned_abs().into());
    }
    // CLOSE_RANGE_CLOEXEC. What is installed after it stays open.
    b.op(Op::CloseRange, 3, 4, 0);
    for (slot, number) in slots.into_iter().zip(numbers) {
        b.on(Op::Install, slot, number);
    }
}

/// The program itself, or one candidate for each directory of the container's PATH.
pub(super) fn exec(b: &mut Builder, process: &CheckedProcess) {
    let spec = process.spec();
    let Some(program) = spec.argv.first() else { return };
    let candidates = candidates(program, process);
    let candidates: Vec<&OsStr> = candidates.iter().map(OsString::as_os_str).collect();
    let argv: Vec<&OsStr> = spec.argv.iter().map(OsString::as_os_str).collect();
    let env: Vec<OsString> = spec
        .env
        .iter()
        .map(|(key, value)| {
            let mut both = key.clone();
            both.push("=");
            both.push(value);
            both
        })
        .collect();
    let env: Vec<&OsStr> = env.iter().map(OsString::as_os_str).collect();
    b.field("argv").exec(&candidates, &argv, &env);
}

/// What [`exec`] will be asked for is there.
pub(super) fn find(b: &mut Builder, process: &CheckedProcess) {
    let Some(program) = process.spec().argv.first() else { return };
    let candidates = candidates(program, process);
    let candidates: Vec<&OsStr> = candidates.iter().map(OsString::as_os_str).collect();
    b.field("argv").find(&candidates);
}

fn candidates(program: &OsString, process: &CheckedProcess) -> Vec<OsString> {
    if let Some(program) = &process.spec().program {
        return vec![program.clone().into_os_string()];
    }
    if program.as_bytes().contains(&b'/') {
        return vec![program.clone()];
    }
    let default = OsString::from("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    let path = process.spec().env.iter().rev().find(|(key, _)| key == "PATH").map_or(&default, |(_, value)| value);
    let dirs = path.as_bytes().split(|byte| *byte == b':').filter(|dir| !dir.is_empty());
    let found: Vec<OsString> = dirs
        .map(|dir| {
            let mut candidate = OsStr::from_bytes(dir).to_os_string();
            candidate.push("/");
            candidate.push(program);
            candidate
        })
        .collect();
    if found.is_empty() { vec![program.clone()] } else { found }
}
