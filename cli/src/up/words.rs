//! Events in words. Pure.

use orangery::events::{Event, Kind};
use orangery::restart::GiveUp;
use orangery::{Cause, ExitStatus, HealthState, HookKind, HookOutcome, LimitKind, ServiceState};

use crate::signals;

/// How something ended.
pub(crate) fn exit(exit: ExitStatus) -> String {
    match exit {
        ExitStatus::Code(0) => "well".into(),
        ExitStatus::Code(code) => format!("with code {code}"),
        ExitStatus::Signal { signal, .. } => format!("by signal {}", signal_name(signal)),
        _ => "and nobody knows how".into(),
    }
}

fn signal_name(signal: i32) -> String {
    match signals::name(signal) {
        "?" => signal.to_string(),
        name => name.to_owned(),
    }
}

/// Why a service is not started any more.
pub(super) fn give_up(why: GiveUp) -> &'static str {
    match why {
        GiveUp::WindowSpent => "it was restarted as often as it may be",
        GiveUp::Permanent => "it said that it can never work",
        GiveUp::CannotStart => "it cannot be started",
        GiveUp::Unhealthy => "it was unhealthy",
        GiveUp::Unkillable => "it was killed and does not end",
        GiveUp::Member => "a member of it has failed",
        GiveUp::SupervisorFault => "a part of orangery failed",
        _ => "for a reason that this version does not know",
    }
}

/// What a service does from now on. `last`: how its last incarnation ended.
pub(super) fn state(kind: &Kind, last: Option<ExitStatus>) -> Option<String> {
    let (state, restarts, delay_ms, why) = match kind {
        Kind::ServiceChanged { state, restarts, delay_ms, give_up } => (state, restarts, delay_ms, give_up),
        Kind::GroupChanged { state, restarts, delay_ms, give_up } => {
            return group(*state, *restarts, *delay_ms, *give_up);
        }
        Kind::ContainerHealth { health, failure } => return Some(healthy(*health, failure.as_deref())),
        _ => return None,
    };
    let ended = last.map_or_else(|| "could not be started".to_owned(), |last| format!("has ended {}", exit(last)));
    Some(match state {
        ServiceState::Starting if *restarts > 0 => format!("starts, restart {restarts}"),
        ServiceState::Starting => "starts".into(),
        ServiceState::Unready => "runs, and is not ready yet".into(),
        ServiceState::Running => "runs".into(),
        ServiceState::Stopping => "is told to stop".into(),
        ServiceState::BackOff => format!("{ended}, and starts again in {}", delay(delay_ms.unwrap_or(0))),
        ServiceState::Ended => ended,
        ServiceState::Stopped if last.is_some() => format!("is stopped: it {ended}"),
        ServiceState::Stopped => "is stopped".into(),
        ServiceState::Failed => format!("has failed: it {ended}; {}", why.map_or("for good", give_up)),
        _ => return None,
    })
}

/// What a group does as a whole.
fn group(state: ServiceState, restarts: u64, delay_ms: Option<u64>, why: Option<GiveUp>) -> Option<String> {
    Some(match state {
        ServiceState::Starting if restarts > 0 => format!("starts its members, restart {restarts}"),
        ServiceState::Starting => "starts its members".into(),
        ServiceState::Running => "has all members ready".into(),
        ServiceState::Stopping => "stops its members".into(),
        ServiceState::BackOff => format!("has failed, and starts again in {}", delay(delay_ms.unwrap_or(0))),
        ServiceState::Ended => "has done its work".into(),
        ServiceState::Stopped => "is stopped".into(),
        ServiceState::Failed => format!("has failed: {}", why.map_or("for good", give_up)),
        _ => return None,
    })
}

fn healthy(health: HealthState, failure: Option<&str>) -> String {
    match (health, failure) {
        (HealthState::Unhealthy, Some(why)) => format!("is unhealthy: {why}"),
        (HealthState::Unhealthy, None) => "is unhealthy".into(),
        _ => "is healthy".into(),
    }
}

fn delay(ms: u64) -> String {
    if ms < 1000 { format!("{ms} ms") } else { format!("{}.{} s", ms / 1000, ms % 1000 / 100) }
}

fn cause(cause: &Cause) -> String {
    match cause {
        Cause::Own => "by itself".into(),
        Cause::Limit(kind) => format!("over its limit of {}", limit(*kind)),
        Cause::Stop { escalated: false } => "because it was stopped".into(),
        Cause::Stop { escalated: true } => "because it was killed".into(),
        Cause::Unhealthy => "because it was unhealthy".into(),
        Cause::NotReady => "because it was not ready in time".into(),
        Cause::RootLost { why } => format!("because its root file system is gone: {why}"),
        Cause::Watchdog => "because it gave no sign of life".into(),
        Cause::SupervisorFault => "because a part of orangery failed".into(),
        Cause::Injected { fault } => format!("by the fault {fault}"),
        _ => "for a reason that this version does not know".into(),
    }
}

fn limit(kind: LimitKind) -> &'static str {
    match kind {
        LimitKind::Wall => "time",
        LimitKind::Memory => "memory",
        LimitKind::Pids => "processes",
        LimitKind::Disk => "disk",
        LimitKind::Cpu => "processor time",
        LimitKind::Idle => "silence",
        LimitKind::FileSize => "file size",
        LimitKind::Output => "output",
        LimitKind::Unattended => "time without a handle",
        _ => "another kind",
    }
}

/// A whole line: about whom, which incarnation, what, why.
pub(crate) fn event(event: &Event, last: Option<ExitStatus>) -> String {
    let who = match (event.container.as_deref(), event.process) {
        (Some(id), Some(process)) if process.0 > 0 => format!("{id}#{} process {}", event.generation, process.0),
        (Some(id), _) if event.generation > 0 => format!("{id}#{}", event.generation),
        (Some(id), _) => id.to_owned(),
        (None, _) => "the supervisor".into(),
    };
    let what = state(&event.kind, last).unwrap_or_else(|| what(&event.kind));
    let told = matches!(event.kind, Kind::ProcessEnded { .. } | Kind::ContainerStopping | Kind::ProcessStopping);
    let why = event.cause.as_ref().filter(|_| told).map(|why| format!(", {}", cause(why))).unwrap_or_default();
    format!("{who}: {what}{why}")
}

fn what(kind: &Kind) -> String {
    match kind {
        Kind::ContainerCreated { create_us, .. } => format!("its sandbox is made, in {create_us} us"),
        Kind::ContainerStarted { pid, .. } => format!("its command runs as process {pid}"),
        Kind::ContainerReady { after_us } => format!("it is ready, {} after its start", delay(after_us / 1000)),
        Kind::ContainerFailed(failure) | Kind::ProcessFailed(failure) => {
            format!("could not be started: {}", failure.why)
        }
        Kind::ContainerStopping | Kind::ProcessStopping => "a signal is sent to it".into(),
        Kind::ProcessExited { exit: how } => format!("its command has ended {}", exit(*how)),
        Kind::ContainerExited { .. } => "all of its output is read".into(),
        Kind::ContainerRemoved => "nothing of it is left".into(),
        Kind::ProcessStarted { pid, start_us } => format!("a process runs as {pid}, after {start_us} us"),
        Kind::ProcessEnded { report } => match report.wall() {
            Some(wall) => format!("its report is made: {} after {} ms", exit(report.exit), wall.as_millis()),
            None => format!("its report is made: {}", exit(report.exit)),
        },
        Kind::LimitHit { limit: kind } => format!("its limit of {} is reached", limit(*kind)),
        Kind::NetworkLost { why } => format!("it runs on without its network: {why}"),
        Kind::Oom { verdict } => format!("the kernel took processes of it for memory: {verdict:?}"),
        Kind::NotifyRefused { why } => format!("what it notified of is refused: {why:?}"),
        Kind::ContainerUnkillable(_) => "it was killed and does not end: it is left to itself".into(),
        Kind::HookEnded { hook, outcome } => format!("its {} {}", hook_name(*hook), hook_end(outcome)),
        Kind::LeakedWriters => "something that outlived it held its output".into(),
        Kind::ActorPanicked { actor, restarted: true } => format!("the {actor} actor failed, and goes on"),
        Kind::ActorPanicked { actor, .. } => format!("the {actor} actor failed for good"),
        Kind::KeeperDied => "the keeper has died: another one is started".into(),
        Kind::KeeperReplaced { .. } => "another keeper has everything".into(),
        Kind::KeeperLost => "the keeper is gone: nothing new can be started".into(),
        other => other.name().replace('_', " "),
    }
}

fn hook_name(hook: HookKind) -> &'static str {
    match hook {
        HookKind::PreStop => "pre-stop command",
        HookKind::PostStop => "post-stop command",
        _ => "command of a stop",
    }
}

fn hook_end(outcome: &HookOutcome) -> String {
    match outcome {
        HookOutcome::Ended { exit: how, .. } => format!("has ended {}", exit(*how)),
        HookOutcome::TimedOut { after_ms } => format!("was killed after {}", delay(*after_ms)),
        HookOutcome::NotStarted { why } => format!("could not be run: {why}"),
        HookOutcome::Skipped => "is left out, because it was killed".into(),
        _ => "is over".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_service_is() {
        let changed = |state, restarts, delay_ms, give_up| Kind::ServiceChanged { state, restarts, delay_ms, give_up };
        let code = |code| Some(ExitStatus::Code(code));
        for (kind, last, words) in [
            (changed(ServiceState::Starting, 0, None, None), None, "starts"),
            (changed(ServiceState::Starting, 3, None, None), code(1), "starts, restart 3"),
            (
                changed(ServiceState::BackOff, 0, Some(1600), None),
                code(3),
                "has ended with code 3, and starts again in 1.6 s",
            ),
            (
                changed(ServiceState::BackOff, 0, Some(75), None),
                None,
                "could not be started, and starts again in 75 ms",
            ),
            (changed(ServiceState::Ended, 0, None, None), code(0), "has ended well"),
            (
                changed(ServiceState::Failed, 9, None, Some(GiveUp::WindowSpent)),
                Some(ExitStatus::Signal { signal: 11, core_dumped: false }),
                "has failed: it has ended by signal SEGV; it was restarted as often as it may be",
            ),
        ] {
            assert_eq!(state(&kind, last).as_deref(), Some(words));
        }
        assert_eq!(state(&Kind::KeeperLost, None), None);
    }
}
