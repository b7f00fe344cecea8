//! The values of each preset, and the words for them.

use std::time::Duration;

use orangery_runtime::cgroup::CpuQuota;
use orangery_runtime::spec::{Caps, Disk, Enforcement, Landlock, Resource, Rlimit};

use super::{Choice, Choices, Preset};
use crate::output_limit::{OutputAction, OutputLimit};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// What would look at other processes.
const TRACING: [&str; 3] = ["ptrace", "process_vm_readv", "process_vm_writev"];
/// What tells about the machine, and not about the container.
const OF_THE_MACHINE: [&str; 6] =
    ["/sys", "/proc/cmdline", "/proc/diskstats", "/proc/kallsyms", "/proc/modules", "/proc/partitions"];

const fn seconds(count: u64) -> Option<Duration> {
    Some(Duration::from_secs(count))
}

/// As far as the machine lets anybody have it: nobody inside could raise it.
fn at_most(resource: Resource, value: u64) -> Rlimit {
    let value = value.min(resource.current().1);
    Rlimit { resource, soft: value, hard: value }
}

const fn killed_beyond(bytes: u64) -> Option<OutputLimit> {
    Some(OutputLimit { bytes, action: OutputAction::Kill })
}

const fn processors(count: i64) -> Option<CpuQuota> {
    Some(CpuQuota { quota_us: (count * 100_000) as _, period_us: 100_000 })
}

fn names(of: &[&str]) -> Vec<String> {
    of.iter().map(|name| (*name).to_owned()).collect()
}

/// As without any.
fn none(preset: Preset) -> Choices {
    Choices {
        preset,
        enforcement: Enforcement::Required,
        memory: None,
        cpus: None,
        pids: None,
        disk: Disk::default(),
        wall: None,
        cpu_time: None,
        output: None,
        masked: Vec::new(),
        caps: None,
        rlimits: vec![at_most(Resource::Core, 0)],
        refused_calls: Vec::new(),
        landlock: None,
    }
}

pub(super) fn of(preset: Preset) -> Choices {
    let none = none(preset);
    let limits = |more: &[(Resource, u64)]| {
        let more = more.iter().map(|(resource, value)| at_most(*resource, *value));
        none.rlimits.iter().copied().chain(more).collect()
    };
    match preset {
        Preset::Strict => Choices {
            memory: Some(256 * MIB),
            cpus: processors(1),
            pids: Some(32),
            disk: Disk { bytes: 16 * MIB, inodes: 1024 },
            wall: seconds(60),
            cpu_time: seconds(30),
            output: killed_beyond(MIB),
            masked: OF_THE_MACHINE.map(Into::into).to_vec(),
            caps: Some(Caps::none()),
            rlimits: limits(&[(Resource::Nofile, 128), (Resource::Fsize, 16 * MIB), (Resource::Memlock, 0)]),
            refused_calls: names(&[&["socket", "socketpair"], &TRACING[..]].concat()),
            landlock: Some(Landlock::new().scope_signals(true).enforcement(Enforcement::BestEffort)),
            ..none
        },
        Preset::Judge => Choices {
            memory: Some(256 * MIB),
            cpus: processors(1),
            pids: Some(64),
            disk: Disk { bytes: 64 * MIB, inodes: 4096 },
            wall: seconds(20),
            cpu_time: seconds(10),
            output: killed_beyond(16 * MIB),
            caps: Some(Caps::none()),
            rlimits: limits(&[(Resource::Nofile, 256), (Resource::Fsize, 64 * MIB)]),
            refused_calls: names(&[&["socket"], &TRACING[..]].concat()),
            ..none
        },
        Preset::Ci => Choices {
            enforcement: Enforcement::BestEffort,
            memory: Some(4 * GIB),
            pids: Some(4096),
            disk: Disk { bytes: 2 * GIB, inodes: 262_144 },
            wall: seconds(3600),
            output: killed_beyond(64 * MIB),
            ..none
        },
        Preset::Interactive => Choices {
            enforcement: Enforcement::BestEffort,
            memory: Some(2 * GIB),
            pids: Some(1024),
            disk: Disk { bytes: 256 * MIB, inodes: 65_536 },
            ..none
        },
    }
}

/// Holds in every sandbox, until it is told otherwise.
const ALWAYS: [(&str, &str, &str); 6] = [
    ("network", "none", "it has a loopback of its own and reaches nobody"),
    ("user_namespace", "own", "its root is nobody outside"),
    ("rootfs", "the host's programs, read-only", "nothing of /home, /root, /var and /run is in sight"),
    ("seccomp", "the profile", "what acts on the whole machine, or is a way into the kernel that few need, is refused"),
    ("new_privileges", "no", "no program makes a process more than it is"),
    ("descriptors", "0, 1, 2", "nothing of the supervisor's comes along"),
];

pub(super) fn lines(of: &Choices) -> Vec<Choice> {
    let Choices { preset: _, enforcement, memory, cpus, pids, disk, wall, cpu_time, output, masked, .. } = of;
    let mut lines = Vec::new();
    let mut say = |setting, value: Option<String>, why| {
        lines.extend(value.map(|value| Choice { setting, value, why, always: false }));
    };
    say("memory", memory.map(size), "of all processes and private files together; beyond it the kernel ends one");
    say(
        "cpus",
        cpus.map(|it| number(it.quota_us as f64 / it.period_us as f64)),
        "so that its neighbours have the others",
    );
    say("pids", pids.map(|count| count.to_string()), "a fork bomb ends there");
    let enforced = match enforcement {
        Enforcement::BestEffort => ("best effort", "where the machine has no such limit it runs without, and says so"),
        _ => ("required", "where the machine has no such limit it does not run"),
    };
    say("enforcement", Some(enforced.0.to_owned()), enforced.1);
    let space = format!("{}, {} files", size(disk.bytes), disk.inodes);
    say("disk", Some(space), "all that it can write anywhere, but for mounts that are named; it is memory");
    say("wall", wall.map(time), "from its start to the kill of everything in it");
    say("cpu_time", cpu_time.map(time), "of all processes together: waiting costs nothing, threads no less");
    say("output", output.map(|it| format!("{}, then killed", size(it.bytes))), "who reads it is not flooded");
    processes(of, &mut say);
    let hidden = masked.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ");
    say(
        "mask",
        Some(hidden).filter(|list| !list.is_empty()),
        "they tell about the machine, and not about the container",
    );
    let always = ALWAYS.map(|(setting, value, why)| Choice { setting, value: value.to_owned(), why, always: true });
    lines.extend(always);
    lines
}

/// What is each process's.
fn processes(of: &Choices, say: &mut impl FnMut(&'static str, Option<String>, &'static str)) {
    let Choices { caps, rlimits, refused_calls, landlock, .. } = of;
    let held = |caps: &Caps| match caps.permitted.names() {
        names if names.is_empty() => "none".to_owned(),
        names => names.join(" "),
    };
    say("process_caps", caps.as_ref().map(held), "its root may do what any user may, and no more");
    for limit in rlimits {
        let value = match limit.resource {
            Resource::Nofile => limit.hard.to_string(),
            _ => size(limit.hard),
        };
        let why = match limit.resource {
            Resource::Core => "a core file is of use to nobody here",
            Resource::Nofile => "the kernel's memory for open files is everybody's",
            Resource::Fsize => "no single file takes the whole space",
            Resource::Memlock => "what is locked cannot be reclaimed",
            _ => "of each process",
        };
        let name = limit.resource.name();
        say("process_rlimit", Some(format!("{name} {value}")), why);
    }
    let calls = Some(refused_calls.join(" ")).filter(|list| !list.is_empty());
    let scoped = landlock.as_ref().map(ToString::to_string);
    say(
        "landlock",
        scoped,
        "the main process and further ones do not signal each other, where the kernel has that (6.12)",
    );
    say("refuse_calls", calls, "it has nobody to talk to, and nobody to look into; they fail with EPERM");
}

fn size(bytes: u64) -> String {
    match bytes {
        0 => "0".to_owned(),
        bytes if bytes % GIB == 0 => format!("{} GiB", bytes / GIB),
        bytes if bytes % MIB == 0 => format!("{} MiB", bytes / MIB),
        bytes => format!("{bytes} bytes"),
    }
}

fn time(time: Duration) -> String {
    format!("{} s", time.as_secs())
}

fn number(of: f64) -> String {
    of.to_string()
}
