//! What is known at the end of a process, in one place. Says nothing that was not measured.

use std::time::{Duration, SystemTime};

use orangery_io_stream::{EndReason, Source};
use orangery_runtime::cgroup::Oom;
use orangery_runtime::{Evidence, Exit, ExitStatus};

use super::hits;
use super::root;
use super::slot::ContainerSlot;
use crate::output_limit::OutputAction;
use crate::process::slot::{Intent, Ours, Slot};
use crate::report::{Cause, CgroupUsage, LimitKind, Measured, OomVerdict, Report, StreamTotals, unix_ms};

const SIGKILL: i32 = 9;
pub(super) const SIGXCPU: i32 = 24;
pub(super) const SIGXFSZ: i32 = 25;
pub(super) const SIGSYS: i32 = 31;

/// The account of the main process, and with it of the container.
pub(crate) fn of_main(owner: &ContainerSlot, exit: &Exit, evidence: &Evidence, reason: EndReason) -> Report {
    let slot = &*owner.main;
    let oom = OomVerdict::from(evidence.oom.clone());
    let kills = match oom {
        OomVerdict::Own { kills } | OomVerdict::Killed { kills } => kills,
        _ => 0,
    };
    let oom_killed = slot.intent().is_none() && killed(exit) && owner.claim_oom(kills);
    let intent = slot.intent().or_else(|| over_output(slot));
    let used = exit.rusage.map(|used| (used.user_us + used.system_us) * 1000);
    let cause = match cause(intent, exit, oom_killed, slot.wall_over_ns()) {
        // However it ended: nobody else had to, and the limit was over.
        Cause::Own if owner.over_cpu(evidence.stats.cpu_usage_ns, used) => Cause::Limit(LimitKind::Cpu),
        Cause::Own => root::was_lost(owner, exit.at_ns).unwrap_or(Cause::Own),
        cause => cause,
    };
    let report = report(slot, exit, reason, cause, oom, counted(evidence));
    let rootfs = owner.container.get().and_then(|container| container.root_way());
    Report { limits_hit: hits::of_main(owner, exit, evidence, &report), unmet: owner.unmet(), rootfs, ..report }
}

/// Of a container whose counters cannot be read yet, because its processes go on.
pub(super) fn unread() -> Evidence {
    let mut evidence = Evidence::default();
    evidence.oom = Oom::Unknown { why: "its processes were killed and do not end".into() };
    evidence
}

/// Its last bytes were too many, and it ended before we came to tell it so.
fn over_output(slot: &Slot) -> Option<Intent> {
    let limit = slot.over_output().filter(|limit| limit.action != OutputAction::Truncate)?;
    let gently = matches!(limit.action, OutputAction::Signal(_));
    Some(Intent { cause: Cause::Limit(LimitKind::Output), gently })
}

fn counted(evidence: &Evidence) -> CgroupUsage {
    let (stats, no_counter) = (&evidence.stats, "this cgroup mode or kernel does not count it");
    CgroupUsage {
        mode: evidence.cgroup_mode.clone(),
        cpu_ns: Measured::from_option(stats.cpu_usage_ns, no_counter),
        memory_peak: Measured::from_option(stats.memory_peak, no_counter),
        pids_refused: Measured::from_option(stats.pids_refused, no_counter),
    }
}

/// The account of a process that was started in a running container. The counters are the container's as a whole, so
/// they stand in its report alone; what the OOM killer did to this process is told here.
pub(super) fn of_further(
    owner: &ContainerSlot,
    slot: &Slot,
    exit: &Exit,
    reason: EndReason,
    own: Option<Evidence>,
) -> Report {
    let (container, wall_ns) = (owner.container.get(), slot.wall_over_ns());
    let ended_with_it = killed(exit) && (owner.main.ended() || owner.main.intent().is_some());
    let intent = slot.intent().or_else(|| over_output(slot)).or_else(|| {
        // Nobody meant this process: its container was ended, or has ended, and took it along.
        let of_container = owner.main.intent().map_or(Cause::Stop { escalated: true }, |intent| intent.cause);
        ended_with_it.then_some(Intent { cause: of_container, gently: false })
    });
    let (oom, oom_killed) = match intent {
        None if killed(exit) => match container.and_then(|container| container.stats().oom_kills) {
            Some(kills) if owner.claim_oom(kills) => (OomVerdict::Killed { kills: 1 }, true),
            Some(_) => (OomVerdict::No, false),
            None => (OomVerdict::Unknown { why: "the container has no counter of OOM kills".into() }, false),
        },
        _ => (OomVerdict::No, false),
    };
    if let Some(own) = own {
        let report = with_limits(slot, exit, reason, (intent, oom_killed, wall_ns), &own);
        return Report { limits_hit: hits::of_further(slot, exit, Some(&own), &report), ..report };
    }
    let of_whole = || Measured::from_option(None, "counted for the whole container: see its report");
    let mode = container.map_or_else(|| "none".into(), |container| container.cgroup_mode());
    let cgroup = CgroupUsage { mode, cpu_ns: of_whole(), memory_peak: of_whole(), pids_refused: of_whole() };
    let report = report(slot, exit, reason, cause(intent, exit, oom_killed, wall_ns), oom, cgroup);
    Report { limits_hit: hits::of_further(slot, exit, None, &report), ..report }
}

/// Of a process whose limits are its own: what its group has counted.
fn with_limits(
    slot: &Slot,
    exit: &Exit,
    reason: EndReason,
    (intent, oom_killed, wall_ns): (Option<Intent>, bool, Option<u64>),
    own: &Evidence,
) -> Report {
    let oom = OomVerdict::from(own.oom.clone());
    let of_own = matches!(oom, OomVerdict::Own { .. } | OomVerdict::Killed { .. }) && killed(exit);
    let cause = cause(intent, exit, oom_killed || of_own, wall_ns);
    report(slot, exit, reason, cause, oom, counted(own))
}

fn report(slot: &Slot, exit: &Exit, reason: EndReason, cause: Cause, oom: OomVerdict, cgroup: CgroupUsage) -> Report {
    let born = slot.born.get();
    let wall_ns = born.map_or(0, |born| exit.at_ns.saturating_sub(born.at_ns));
    let started = born.map_or(SystemTime::UNIX_EPOCH, |born| born.wall_clock);
    let wall = (exit.status != ExitStatus::Lost).then_some(wall_ns / 1000);
    Report {
        schema: 1,
        id: slot.id.clone(),
        generation: slot.generation,
        pid: born.map_or(0, |born| born.pid),
        exit: exit.status.into(),
        cause,
        oom,
        usage: Measured::from_option(exit.rusage.map(Into::into), "only the pidfd told this exit"),
        wall_us: Measured::from_option(wall, "nobody saw when it ended"),
        create_us: Measured::from_option(
            born.and_then(|born| born.create_us),
            "it was started in a container that was there",
        ),
        start_us: born.map_or(0, |born| born.start_us),
        started_at_ms: unix_ms(started),
        ended_at_ms: unix_ms(started + Duration::from_nanos(wall_ns)),
        stdout: totals(slot, Source::Stdout, born.and_then(|born| born.ours.0)),
        stderr: totals(slot, Source::Stderr, born.and_then(|born| born.ours.1)),
        leaked_writers: reason == EndReason::Leaked,
        output_limit: slot.over_output().map(|limit| limit.bytes),
        cgroup,
        limits_hit: Vec::new(),
        unmet: Vec::new(),
        rootfs: None,
        unkillable: None,
        pre_stop: None,
        post_stop: None,
    }
}

fn totals(slot: &Slot, source: Source, ours: Option<Ours>) -> StreamTotals {
    let totals = slot.output.totals(source);
    let elsewhere = "it wrote to a descriptor of its own";
    let no_pipe = if ours.is_some() { "it is a terminal" } else { elsewhere };
    StreamTotals {
        bytes: Measured::from_option(ours.map(|_| totals.bytes), elsewhere),
        lost: totals.dropped,
        suppressed: totals.over_limit,
        pipe: Measured::from_option(ours.and_then(|ours| ours.pipe), no_pipe),
    }
}

fn killed(exit: &Exit) -> bool {
    matches!(exit.status, ExitStatus::Signal { signal: SIGKILL, .. })
}

/// A kill may be what has ended it.
fn of_kill(status: ExitStatus) -> bool {
    matches!(status, ExitStatus::Signal { signal: SIGKILL, .. } | ExitStatus::Lost)
}

/// Ours if we meant it before it happened; else what the kernel's evidence says; else its own. `wall_ns` is when the
/// wall limit was over.
fn cause(intent: Option<Intent>, exit: &Exit, oom_killed: bool, wall_ns: Option<u64>) -> Cause {
    match (exit.status, intent) {
        // More than it may write was read from it, whether it lived to feel the kill or not.
        (_, Some(Intent { cause: cause @ Cause::Limit(LimitKind::Output), .. })) => cause,
        // Whatever it did without its files.
        (_, Some(Intent { cause: cause @ Cause::RootLost { .. }, .. })) => cause,
        // It ended by itself while our kill was on its way. A signal that it can handle it may have answered so; and a
        // wall limit was over when it was over.
        (ExitStatus::Code(_), Some(Intent { cause, gently: false })) => match cause {
            Cause::Limit(LimitKind::Wall) if wall_ns.is_some_and(|limit| exit.at_ns >= limit) => cause,
            _ => Cause::Own,
        },
        (ExitStatus::Lost, None) => Cause::SupervisorFault,
        // It has answered what it was asked by, while the kill was on its way.
        (status, Some(Intent { cause: Cause::Stop { .. }, gently: true })) if !of_kill(status) => {
            Cause::Stop { escalated: false }
        }
        (_, Some(intent)) => intent.cause,
        (ExitStatus::Signal { signal: SIGKILL, .. }, None) if oom_killed => Cause::Limit(LimitKind::Memory),
        // The keeper's deadline was over and we had not yet heard that it holds one.
        (ExitStatus::Signal { signal: SIGKILL, .. }, None) if wall_ns.is_some_and(|limit| exit.at_ns >= limit) => {
            Cause::Limit(LimitKind::Wall)
        }
        (ExitStatus::Signal { signal: SIGXCPU, .. }, None) => Cause::Limit(LimitKind::Cpu),
        (ExitStatus::Signal { signal: SIGXFSZ, .. }, None) => Cause::Limit(LimitKind::FileSize),
        (ExitStatus::Signal { signal: SIGSYS, .. }, None) => Cause::Limit(LimitKind::Seccomp),
        _ => Cause::Own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(status: ExitStatus) -> Exit {
        Exit::new(status, None, 100)
    }

    const KILLED: ExitStatus = ExitStatus::Signal { signal: SIGKILL, core_dumped: false };
    const STOP: Cause = Cause::Stop { escalated: true };
    const WALL: Cause = Cause::Limit(LimitKind::Wall);

    fn meant(cause: Cause, gently: bool) -> Option<Intent> {
        Some(Intent { cause, gently })
    }

    #[test]
    fn who_ended_it() {
        let cases = [
            (ExitStatus::Code(0), None, false, Cause::Own),
            // Its own end was quicker than the kill.
            (ExitStatus::Code(3), meant(STOP, false), false, Cause::Own),
            // Its answer to TERM.
            (
                ExitStatus::Code(3),
                meant(Cause::Stop { escalated: false }, true),
                false,
                Cause::Stop { escalated: false },
            ),
            (
                ExitStatus::Code(0),
                meant(Cause::Limit(LimitKind::Output), false),
                false,
                Cause::Limit(LimitKind::Output),
            ),
            // The same, and a kill was on its way.
            (ExitStatus::Code(3), meant(STOP, true), false, Cause::Stop { escalated: false }),
            (KILLED, meant(STOP, true), false, STOP),
            (KILLED, meant(STOP, false), true, STOP),
            (KILLED, None, true, Cause::Limit(LimitKind::Memory)),
            (KILLED, None, false, Cause::Own),
            (ExitStatus::Lost, None, false, Cause::SupervisorFault),
            (ExitStatus::Lost, meant(STOP, false), false, STOP),
        ];
        for (status, intent, oom, want) in cases {
            assert_eq!(cause(intent.clone(), &exit(status), oom, None), want, "{status:?} {intent:?} {oom}");
        }
    }

    #[test]
    fn an_exit_before_the_end_of_the_wall_limit_is_its_own() {
        for (limit, want) in [(101, Cause::Own), (100, WALL)] {
            assert_eq!(cause(meant(WALL, false), &exit(ExitStatus::Code(0)), false, Some(limit)), want);
        }
        assert_eq!(cause(meant(WALL, false), &exit(KILLED), false, Some(100)), WALL);
    }
}
