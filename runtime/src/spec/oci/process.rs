//! The process: who it is, what it may do, its terminal.

use std::ffi::OsString;

use oci_spec::runtime as oci;

use super::{Refusals, seccomp};
use crate::error::{Error, ErrorKind};
use crate::spec::{CapSet, Caps, MemoryPolicy, ProcessSpec, Resource, Rlimit, Scheduler, Seccomp, User, WindowSize};

pub(super) fn convert(no: &mut Refusals, process: &oci::Process, linux: Option<&oci::Linux>) -> ProcessSpec {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let affinity = process.exec_cpu_affinity().as_ref();
    let user = process.user();
    for (field, given, here) in [
        ("process.commandLine", process.command_line().is_some(), "args say what is run"),
        ("process.user.username", user.username().is_some(), "uid and gid say who"),
    ] {
        if given {
            let why = format!("the specification has it for Windows alone; here {here}");
            no.0.push(Error::new(ErrorKind::Unsupported, why).with_field(field));
        }
    }
    let caps = process.capabilities().as_ref().map_or_else(Caps::none, |caps| convert_caps(no, caps));
    let mut spec = ProcessSpec {
        argv: process.args().iter().flatten().map(Into::into).collect(),
        env: env(no, process),
        cwd: Some(process.cwd().clone()),
        user: User::Ids { uid: user.uid(), gid: user.gid() },
        groups: user.additional_gids().clone().unwrap_or_default(),
        umask: user.umask(),
        caps: Some(caps),
        new_privileges: !process.no_new_privileges().unwrap_or(false),
        rlimits: rlimits(no, process),
        // A bundle without `linux.seccomp` asks for none.
        seccomp: Seccomp::Unconfined,
        personality: linux.and_then(|linux| personality(no, linux)),
        memory_policy: linux.and_then(|linux| memory_policy(no, linux)),
        cpus_before: affinity.and_then(|cpus| given(cpus.initial())),
        cpus: affinity.and_then(|cpus| given(cpus.cpu_affinity_final())),
        apparmor_profile: given(process.apparmor_profile()),
        selinux_label: given(process.selinux_label()),
        io_priority: process.io_priority().as_ref().and_then(|priority| io_priority(no, priority)),
        scheduler: process.scheduler().as_ref().and_then(|scheduler| convert_scheduler(no, scheduler)),
        oom_score_adj: process.oom_score_adj(),
        tty: convert_tty(no, process),
        ..ProcessSpec::default()
    };
    if let Some(filter) = linux.and_then(|linux| linux.seccomp().as_ref()) {
        seccomp::convert(no, filter, &mut spec);
    }
    spec
}

/// Of a name that is given twice the last value counts, as with runc and crun: programs differ in which one they would take.
fn env(no: &mut Refusals, process: &oci::Process) -> Vec<(OsString, OsString)> {
    let mut all: Vec<(OsString, OsString)> = Vec::new();
    for (index, entry) in process.env().iter().flatten().enumerate() {
        match entry.split_once('=') {
            Some((key, value)) if !key.is_empty() => match all.iter_mut().find(|(other, _)| other == key) {
                Some((_, other)) => *other = value.into(),
                None => all.push((key.into(), value.into())),
            },
            _ => no.add(&format!("process.env[{index}]"), format!("{entry:?} is not NAME=VALUE")),
        }
    }
    all
}

fn personality(no: &mut Refusals, linux: &oci::Linux) -> Option<u32> {
    let personality = linux.personality().as_ref()?;
    let flags = personality.flags().iter().flatten().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if !flags.is_empty() {
        let why = format!("the specification's list of flags is empty so far, so nobody says what is meant by {flags}");
        no.0.push(Error::new(ErrorKind::Unsupported, why).with_field("linux.personality.flags"));
    }
    Some(match personality.domain() {
        oci::LinuxPersonalityDomain::PerLinux => 0,
        oci::LinuxPersonalityDomain::PerLinux32 => 8,
    })
}

fn memory_policy(no: &mut Refusals, linux: &oci::Linux) -> Option<MemoryPolicy> {
    use oci::MemoryPolicyFlagType as Flag;
    use oci::MemoryPolicyModeType as Mode;
    let policy = linux.memory_policy().as_ref()?;
    let (mode, takes) = match policy.mode() {
        Mode::MpolDefault => (0, Some(false)),
        Mode::MpolPreferred => (1, None),
        Mode::MpolBind => (2, Some(true)),
        Mode::MpolInterleave => (3, Some(true)),
        Mode::MpolLocal => (4, Some(false)),
        Mode::MpolPreferredMany => (5, Some(true)),
        Mode::MpolWeightedInterleave => (6, Some(true)),
    };
    let bit = |flag: &Flag| match flag {
        Flag::MpolFNumaBalancing => 1 << 13,
        Flag::MpolFRelativeNodes => 1 << 14,
        Flag::MpolFStaticNodes => 1 << 15,
    };
    let flags = policy.flags().iter().flatten().fold(0, |all, flag| all | bit(flag));
    let nodes = policy.nodes().clone().unwrap_or_default();
    if takes.is_some_and(|takes| takes == nodes.is_empty()) {
        let why = if nodes.is_empty() { "this mode needs nodes" } else { "this mode takes no nodes" };
        no.add("linux.memoryPolicy.nodes", why);
    }
    Some(MemoryPolicy { mode: mode | flags, nodes })
}

fn io_priority(no: &mut Refusals, priority: &oci::LinuxIOPriority) -> Option<u16> {
    let class = match priority.class() {
        oci::IOPriorityClass::IoprioClassRt => 1,
        oci::IOPriorityClass::IoprioClassBe => 2,
        oci::IOPriorityClass::IoprioClassIdle => 3,
    };
    match u16::try_from(priority.priority()) {
        Ok(level) if level < 8 => Some(class << 13 | level),
        _ => {
            no.add("process.ioPriority.priority", "levels are 0 to 7");
            None
        }
    }
}

fn convert_scheduler(no: &mut Refusals, scheduler: &oci::Scheduler) -> Option<Scheduler> {
    use oci::LinuxSchedulerFlag as Flag;
    use oci::LinuxSchedulerPolicy as Policy;
    let policy = match scheduler.policy() {
        Policy::SchedOther => 0,
        Policy::SchedFifo => 1,
        Policy::SchedRr => 2,
        Policy::SchedBatch => 3,
        Policy::SchedIso => 4,
        Policy::SchedIdle => 5,
        Policy::SchedDeadline => 6,
    };
    let bit = |flag: &Flag| match flag {
        Flag::SchedResetOnFork => 1,
        Flag::SchedFlagReclaim => 2,
        Flag::SchedFlagDLOverrun => 4,
        Flag::SchedFlagKeepPolicy => 8,
        Flag::SchedFlagKeepParams => 0x10,
        Flag::SchedFlagUtilClampMin => 0x20,
        Flag::SchedFlagUtilClampMax => 0x40,
    };
    let flags = scheduler.flags().iter().flatten().fold(0, |all, flag| all | bit(flag));
    let Ok(priority) = u32::try_from(scheduler.priority().unwrap_or(0)) else {
        no.add("process.scheduler.priority", "it is not below 0");
        return None;
    };
    Some(Scheduler {
        policy,
        flags,
        nice: scheduler.nice().unwrap_or(0),
        priority,
        runtime: scheduler.runtime().unwrap_or(0),
        deadline: scheduler.deadline().unwrap_or(0),
        period: scheduler.period().unwrap_or(0),
    })
}

/// A console without a size has the default one, and so has one of 0 by 0: that is how others write "not given".
fn convert_tty(no: &mut Refusals, process: &oci::Process) -> Option<WindowSize> {
    let size = match process.console_size() {
        Some(size) if (size.height(), size.width()) != (0, 0) => {
            match (u16::try_from(size.height()), u16::try_from(size.width())) {
                (Ok(rows), Ok(columns)) if rows > 0 && columns > 0 => WindowSize { rows, columns },
                _ => {
                    no.add("process.consoleSize", "height and width are from 1 to 65535");
                    WindowSize::default()
                }
            }
        }
        _ => WindowSize::default(),
    };
    process.terminal().unwrap_or(false).then_some(size)
}

fn convert_caps(no: &mut Refusals, caps: &oci::LinuxCapabilities) -> Caps {
    let mut set = |field: &str, list: &Option<oci::Capabilities>| {
        list.iter().flatten().fold(CapSet::default(), |all, cap| match CapSet::parse(&cap.to_string()) {
            Ok(cap) => all | cap,
            Err(why) => {
                no.add(&format!("process.capabilities.{field}"), why);
                all
            }
        })
    };
    let mut caps = Caps {
        bounding: set("bounding", caps.bounding()),
        effective: set("effective", caps.effective()),
        permitted: set("permitted", caps.permitted()),
        inheritable: set("inheritable", caps.inheritable()),
        ambient: set("ambient", caps.ambient()),
    };
    // `runc spec` writes ambient capabilities without inheritable ones, which no kernel raises; runc drops them too.
    let possible = caps.ambient.intersection(caps.permitted).intersection(caps.inheritable);
    if possible != caps.ambient {
        tracing::warn!(asked = ?caps.ambient.names(), "ambient capabilities that are not inheritable are dropped");
        caps.ambient = possible;
    }
    // The kernel takes these, and each execve takes them away again.
    let beyond = caps.permitted.difference(caps.bounding);
    if !beyond.is_empty() {
        tracing::warn!(asked = ?beyond.names(), "permitted capabilities beyond the bounding set are dropped");
        caps.permitted = caps.permitted.difference(beyond);
        caps.effective = caps.effective.difference(beyond);
    }
    caps
}

fn rlimits(no: &mut Refusals, process: &oci::Process) -> Vec<Rlimit> {
    let mut all: Vec<Rlimit> = Vec::new();
    for limit in process.rlimits().iter().flatten() {
        let name = limit.typ().to_string();
        match Resource::from_name(&name).and_then(|resource| Rlimit::new(resource, limit.soft(), limit.hard())) {
            Ok(made) if all.iter().any(|other| other.resource == made.resource) => {
                no.add("process.rlimits", format!("{name} is given twice"));
            }
            Ok(made) => all.push(made),
            Err(why) => no.add("process.rlimits", why),
        }
    }
    all
}
