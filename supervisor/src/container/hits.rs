//! Which limits were reached, and what says so: from what was counted and from what is in the slots.

use std::time::Duration;

use orangery_io_stream::Source;
use orangery_runtime::cgroup::{Counter, Limits};
use orangery_runtime::spec::{Resource, Rlimit};
use orangery_runtime::{Evidence, Exit, ExitStatus};

use super::report::{SIGSYS, SIGXCPU, SIGXFSZ};
use super::slot::ContainerSlot;
use crate::limit_hit::{Counted, LimitHit};
use crate::process::slot::Slot;
use crate::report::{Cause, LimitKind, Report};

/// The limits of the main process and of the container.
pub(super) fn of_main(owner: &ContainerSlot, exit: &Exit, evidence: &Evidence, report: &Report) -> Vec<LimitHit> {
    let mut hits = of_process(&owner.main, exit, report);
    if report.cause == Cause::Limit(LimitKind::Idle)
        && let Some((from, to)) = owner.silent_ns.get()
    {
        hits.push(hit(LimitKind::Idle, [Counted::new(CLOCK, *from, *to)]));
    }
    if report.cause == Cause::Limit(LimitKind::Cpu) && !by(exit, SIGXCPU) {
        hits.push(hit(LimitKind::Cpu, [processor_time(owner, exit, evidence)]));
    }
    hits.extend(of_group(evidence, &owner.limits()));
    hits
}

/// Those of a further process, with what its own group has counted, where it has one.
pub(super) fn of_further(slot: &Slot, exit: &Exit, own: Option<&Evidence>, report: &Report) -> Vec<LimitHit> {
    let mut hits = of_process(slot, exit, report);
    if let Some(own) = own {
        hits.extend(of_group(own, &slot.limits));
    }
    hits
}

const CLOCK: &str = "CLOCK_MONOTONIC ns";

fn hit(limit: LimitKind, counters: impl IntoIterator<Item = Counted>) -> LimitHit {
    LimitHit { limit, counters: counters.into_iter().collect() }
}

fn by(exit: &Exit, wanted: i32) -> bool {
    matches!(exit.status, ExitStatus::Signal { signal, .. } if signal == wanted)
}

fn of_process(slot: &Slot, exit: &Exit, report: &Report) -> Vec<LimitHit> {
    let mut hits = Vec::new();
    let over = slot.wall_over_ns().filter(|over| exit.at_ns >= *over || report.cause == Cause::Limit(LimitKind::Wall));
    if let Some(over) = over {
        let began = slot.born.get().map(|born| born.at_ns);
        hits.push(hit(LimitKind::Wall, [Counted::new(CLOCK, began, exit.at_ns).of(over)]));
    }
    if let Some(limit) = slot.over_output() {
        let written = Source::ALL.into_iter().map(|source| {
            let totals = slot.output.totals(source);
            totals.bytes.saturating_add(totals.over_limit)
        });
        hits.push(hit(LimitKind::Output, [Counted::new("bytes", 0, written.sum::<u64>()).of(limit.bytes)]));
    }
    let told = |signal: i32, name: &str, bound| by(exit, signal).then(|| Counted::new(name, 0, 1).of(bound));
    let soft = |resource| soft(&slot.rlimits, resource);
    for (limit, counted) in [
        (LimitKind::FileSize, told(SIGXFSZ, "SIGXFSZ", soft(Resource::Fsize))),
        (LimitKind::Seccomp, told(SIGSYS, "SIGSYS", None)),
    ] {
        hits.extend(counted.map(|counted| hit(limit, [counted])));
    }
    if by(exit, SIGXCPU) {
        let used = exit.rusage.map(|used| used.user_us + used.system_us);
        let bound = soft(Resource::Cpu).map(|seconds| seconds.saturating_mul(1_000_000));
        let counters = [Counted::new("SIGXCPU", 0, 1), Counted::new("ru_utime + ru_stime us", 0, used).of(bound)];
        hits.push(hit(LimitKind::Cpu, counters));
    }
    hits
}

fn soft(rlimits: &[Rlimit], resource: Resource) -> Option<u64> {
    rlimits.iter().find(|limit| limit.resource == resource).map(|limit| limit.soft)
}

/// Of all processes where that is counted.
fn processor_time(owner: &ContainerSlot, exit: &Exit, evidence: &Evidence) -> Counted {
    let limit = owner.cpu_limit();
    let begin = owner.cpu_begin_ns.get().copied();
    match evidence.stats.cpu_usage_ns.zip(begin) {
        Some((after, begin)) if evidence.cgroup_mode == "v1" => {
            Counted::new("cpuacct.usage", begin, after).of(limit.map(|limit| begin.saturating_add(ns(limit))))
        }
        Some((after, begin)) => {
            let bound = limit.map(|limit| (begin.saturating_add(ns(limit))) / 1000);
            Counted::new("cpu.stat usage_usec", begin / 1000, after / 1000).of(bound)
        }
        None => {
            let used = exit.rusage.map(|used| used.user_us + used.system_us);
            Counted::new("ru_utime + ru_stime us", 0, used).of(limit.map(|limit| ns(limit) / 1000))
        }
    }
}

fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// What the kernel has counted against the limits of a group.
fn of_group(evidence: &Evidence, limits: &Limits) -> Vec<LimitHit> {
    let counted = |it: &Counter| Counted::new(it.name.clone(), it.before, it.after);
    let (forks, memory): (Vec<_>, Vec<_>) = evidence.counters.iter().partition(|it| it.name.starts_with("pids."));
    let mut hits = Vec::new();
    // Whether anybody was killed: a limit that is hit without that ends nobody.
    if memory.iter().any(|it| it.name.ends_with("oom_kill") && it.after > it.before) {
        let peak = match evidence.cgroup_mode.as_str() {
            "v2" => "memory.peak",
            _ => "memory.max_usage_in_bytes",
        };
        let peak = evidence.stats.memory_peak.map(|bytes| Counted::new(peak, None, bytes).of(limits.memory));
        hits.push(hit(LimitKind::Memory, memory.into_iter().map(counted).chain(peak)));
    }
    if !forks.is_empty() {
        hits.push(hit(LimitKind::Pids, forks.into_iter().map(|it| counted(it).of(limits.pids))));
    }
    hits
}
