//! Graces, limits and intervals in a time that the test moves, against the scripted runtime.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says why by panicking")]

use std::sync::Arc;
use std::time::Duration;

use futures_core::Stream as _;
use orangery::testing::{Actor, FakeRuntime, VirtualClock};
use orangery::{
    Cause, ContainerHandle, ErrorKind, ExitStatus, LimitKind, LimitUpdate, Limits, Sandbox, SandboxBuilder, State,
    StatsStream, StopLadder, Supervisor,
};

const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);

struct Stage {
    clock: VirtualClock,
    fake: FakeRuntime,
    supervisor: Supervisor,
}

impl Stage {
    fn set() -> Self {
        let (clock, fake) = (VirtualClock::default(), FakeRuntime::default());
        let builder = Supervisor::builder().shards(1).clock(&clock);
        let supervisor = builder.build_on(Arc::new(fake.clone())).unwrap();
        Self { clock, fake, supervisor }
    }

    async fn spawn(&self, sandbox: SandboxBuilder) -> (ContainerHandle, Actor) {
        let sandbox = sandbox.id("a").build().unwrap();
        let handle = self.supervisor.command("prog").sandbox(&sandbox).spawn().await.unwrap();
        (handle, self.fake.actor().await)
    }

    /// How often it was told this.
    fn told(&self, line: &str) -> usize {
        self.fake.log().iter().filter(|told| *told == line).count()
    }
}

#[tokio::test]
async fn the_wall_limit_is_over_when_it_is_over() {
    let stage = Stage::set();
    let (handle, process) = stage.spawn(Sandbox::builder().wall(HOUR)).await;
    stage.clock.advance(HOUR - SECOND).await;
    assert_eq!((stage.told("kill a"), handle.inspect().state), (0, State::Running));
    stage.clock.advance(SECOND).await;
    assert_eq!(stage.told("kill a"), 1);
    drop(process);
    assert_eq!(handle.wait().await.unwrap().cause, Cause::Limit(LimitKind::Wall));
    stage.supervisor.shutdown().await;
}

#[tokio::test]
async fn silence_is_over_its_limit_when_nothing_was_written_for_so_long_and_a_pause_is_none() {
    let stage = Stage::set();
    let (handle, mut process) = stage.spawn(Sandbox::builder().idle(HOUR)).await;
    let mut output = handle.output();
    for _ in 0..3 {
        stage.clock.advance(HOUR - SECOND).await;
        process.say(b".");
        output.recv().await.unwrap();
    }
    handle.pause().await.unwrap();
    stage.clock.advance(HOUR).await;
    handle.resume().await.unwrap();
    stage.clock.advance(HOUR - SECOND).await;
    // One that is over before the limit would have been is none either: a new silence begins.
    handle.pause().await.unwrap();
    handle.resume().await.unwrap();
    stage.clock.advance(HOUR - SECOND).await;
    assert_eq!((stage.told("kill a"), handle.inspect().state), (0, State::Running));
    stage.clock.advance(SECOND).await;
    assert_eq!(stage.told("kill a"), 1);
    drop(process);
    assert_eq!(handle.wait().await.unwrap().cause, Cause::Limit(LimitKind::Idle));
    stage.supervisor.shutdown().await;
}

/// Killed by hand while it is asked, it was killed: the report says so; what answers before that says so too.
#[tokio::test]
async fn a_kill_during_a_stop_is_an_escalation_where_it_is_what_has_ended_it() {
    for (escalated, exit) in
        [(true, ExitStatus::Signal { signal: 9, core_dumped: false }), (false, ExitStatus::Code(3))]
    {
        let stage = Stage::set();
        let (handle, process) = stage.spawn(Sandbox::builder()).await;
        let stop = tokio::spawn(handle.stop(15, HOUR));
        while stage.told("signal a 15") == 0 {
            tokio::task::yield_now().await;
        }
        match exit {
            // It was about to answer: the kill finds it, and its code is the end of it all the same.
            ExitStatus::Code(code) => {
                stage.fake.fall_asleep("a");
                handle.kill().unwrap();
                process.exit(code);
                stage.fake.wake("a");
            }
            _ => {
                handle.kill().unwrap();
                drop(process);
            }
        }
        stop.await.unwrap().unwrap();
        let report = handle.wait().await.unwrap();
        assert_eq!((report.exit, report.cause.clone()), (exit, Cause::Stop { escalated }));
        stage.supervisor.shutdown().await;
    }
}

#[tokio::test]
async fn a_process_that_has_closed_its_output_is_silent() {
    let stage = Stage::set();
    let (handle, mut process) = stage.spawn(Sandbox::builder().idle(HOUR)).await;
    process.hang_up();
    // To the last byte; the last event waits for the exit.
    handle.output().collect(0).await;
    stage.clock.advance(HOUR).await;
    assert_eq!(stage.told("kill a"), 1);
    drop(process);
    assert_eq!(handle.wait().await.unwrap().cause, Cause::Limit(LimitKind::Idle));
    stage.supervisor.shutdown().await;
}

#[tokio::test]
async fn a_gentle_wall_limit_gives_its_grace() {
    let stage = Stage::set();
    let command = stage.supervisor.command("prog").id("a").timeout(HOUR).timeout_gently(15, 10 * SECOND);
    let handle = command.spawn().await.unwrap();
    let process = stage.fake.actor().await;
    stage.clock.advance(HOUR).await;
    assert_eq!((stage.told("signal a 15"), stage.told("kill a")), (1, 0));
    stage.clock.advance(9 * SECOND).await;
    assert_eq!(stage.told("kill a"), 0);
    stage.clock.advance(SECOND).await;
    assert_eq!(stage.told("kill a"), 1);
    drop(process);
    assert_eq!(handle.wait().await.unwrap().cause, Cause::Limit(LimitKind::Wall));
    stage.supervisor.shutdown().await;
}

#[tokio::test]
async fn a_stop_kills_after_its_grace_and_a_second_one_only_shortens_it() {
    let stage = Stage::set();
    let (handle, process) = stage.spawn(Sandbox::builder()).await;
    let first = tokio::spawn(handle.stop(15, HOUR));
    stage.fake.saw("signal a 18").await;
    stage.clock.advance(HOUR / 2).await;
    let longer = tokio::spawn(handle.stop(15, 2 * HOUR));
    let shorter = tokio::spawn(handle.stop(15, 10 * SECOND));
    // Behind both in the mailbox.
    handle.process().signal_in_order(1).await.unwrap();
    stage.clock.advance(9 * SECOND).await;
    assert_eq!((stage.told("signal a 15"), stage.told("kill a")), (1, 0));
    stage.clock.advance(SECOND).await;
    assert_eq!(stage.told("kill a"), 1);
    drop(process);
    for stop in [first, longer, shorter] {
        stop.await.unwrap().unwrap();
    }
    assert_eq!(handle.wait().await.unwrap().cause, Cause::Stop { escalated: true });
    stage.supervisor.shutdown().await;
}

#[tokio::test]
async fn a_ladder_is_gone_down_rung_by_rung_to_the_kill() {
    let stage = Stage::set();
    let ladder = StopLadder::new().then(3, HOUR).then(15, 10 * SECOND);
    let handle = stage.supervisor.command("prog").id("a").stop_ladder(ladder).spawn().await.unwrap();
    let process = stage.fake.actor().await;
    let stop = tokio::spawn(handle.stop_gently());
    stage.fake.saw("signal a 18").await;
    stage.clock.advance(HOUR - SECOND).await;
    assert_eq!((stage.told("signal a 3"), stage.told("signal a 15")), (1, 0));
    stage.clock.advance(SECOND).await;
    assert_eq!((stage.told("signal a 15"), stage.told("signal a 18"), stage.told("kill a")), (1, 2, 0));
    stage.clock.advance(9 * SECOND).await;
    // What is left is less than this one gives.
    let joined = tokio::spawn(handle.stop(2, 5 * SECOND));
    handle.process().signal_in_order(1).await.unwrap();
    stage.clock.advance(SECOND).await;
    assert_eq!((stage.told("signal a 2"), stage.told("kill a")), (0, 1));
    drop(process);
    for stop in [stop, joined] {
        stop.await.unwrap().unwrap();
    }
    assert_eq!(handle.wait().await.unwrap().cause, Cause::Stop { escalated: true });
    stage.supervisor.shutdown().await;
}

#[tokio::test]
async fn a_wall_limit_goes_down_a_ladder_too() {
    let stage = Stage::set();
    let ladder = StopLadder::new().then(15, SECOND).then(2, SECOND);
    let command = stage.supervisor.command("prog").id("a").timeout(HOUR).timeout_ladder(ladder);
    let handle = command.spawn().await.unwrap();
    let process = stage.fake.actor().await;
    for told in [(1, 0, 0), (1, 1, 0), (1, 1, 1)] {
        stage.clock.advance(if told == (1, 0, 0) { HOUR } else { SECOND }).await;
        assert_eq!((stage.told("signal a 15"), stage.told("signal a 2"), stage.told("kill a")), told);
    }
    drop(process);
    assert_eq!(handle.wait().await.unwrap().cause, Cause::Limit(LimitKind::Wall));
    stage.supervisor.shutdown().await;
}

#[tokio::test]
async fn every_limit_changes_while_it_runs() {
    let stage = Stage::set();
    let (handle, mut process) = stage.spawn(Sandbox::builder().wall(HOUR)).await;
    stage.clock.advance(HOUR - SECOND).await;
    // From the start, not from now.
    handle.update(LimitUpdate::new().wall(2 * HOUR).idle(3 * HOUR).output(10)).await.unwrap();
    let now = handle.inspect().watched;
    assert_eq!((now.wall_ms, now.idle_ms, now.output), (Some(7_200_000), Some(10_800_000), Some(10)));
    stage.clock.advance(HOUR).await;
    assert_eq!(stage.told("kill a"), 0);
    process.say(b"12345");
    let mut output = handle.output();
    output.recv().await.unwrap();
    handle.update(LimitUpdate::new().wall(Duration::MAX)).await.unwrap();
    stage.clock.advance(2 * HOUR).await;
    assert_eq!(stage.told("kill a"), 0, "no limit any more, and the silence was broken");
    // Less than was written already.
    handle.update(LimitUpdate::new().output(3)).await.unwrap();
    stage.fake.saw("kill a").await;
    drop(process);
    let report = handle.wait().await.unwrap();
    assert_eq!((report.cause.clone(), report.output_limit), (Cause::Limit(LimitKind::Output), Some(3)));
    let hit = &report.limits_hit[0].counters[0];
    assert_eq!((hit.name.as_str(), hit.after, hit.bound), ("bytes", Some(5), Some(3)));
    stage.supervisor.shutdown().await;
}

#[tokio::test]
async fn a_limit_of_silence_that_comes_later_ends_a_silent_one() {
    let stage = Stage::set();
    let (handle, process) = stage.spawn(Sandbox::builder()).await;
    handle.update(LimitUpdate::new().idle(HOUR)).await.unwrap();
    stage.clock.advance(HOUR - SECOND).await;
    assert_eq!(stage.told("kill a"), 0);
    stage.clock.advance(SECOND).await;
    assert_eq!(stage.told("kill a"), 1);
    drop(process);
    let report = handle.wait().await.unwrap();
    assert_eq!((report.cause.clone(), report.limits_hit[0].limit), (Cause::Limit(LimitKind::Idle), LimitKind::Idle));
    stage.supervisor.shutdown().await;
}

#[tokio::test]
async fn an_update_is_refused_before_anything_is_written_and_taken_back_as_a_whole() {
    let stage = Stage::set();
    let (handle, process) = stage.spawn(Sandbox::builder().wall(HOUR)).await;
    let wrong = Limits { pids: Some(0), ..Limits::default() };
    let refused = handle.update(LimitUpdate::from(wrong).wall(Duration::ZERO)).await.unwrap_err();
    assert_eq!((refused.kind(), refused.messages().count()), (ErrorKind::Invalid, 2));
    assert_eq!(stage.told("update a"), 0);
    stage.fake.refuse_update(orangery::runtime::Error::new(orangery::runtime::ErrorKind::System, "busy"));
    let memory = Limits { memory: Some(1 << 30), ..Limits::default() };
    handle.update(LimitUpdate::from(memory).wall(2 * HOUR)).await.unwrap_err();
    let now = handle.inspect();
    assert_eq!((now.watched.wall_ms, now.limits.memory), (Some(3_600_000), None));
    stage.clock.advance(HOUR).await;
    assert_eq!(stage.told("kill a"), 1);
    drop(process);
    let report = handle.wait().await.unwrap();
    assert_eq!(report.cause, Cause::Limit(LimitKind::Wall));
    assert_eq!(report.limits_hit[0].counters[0].name, "CLOCK_MONOTONIC ns");
    stage.supervisor.shutdown().await;
}

#[tokio::test]
async fn a_ladder_of_no_signals_is_refused_by_its_field() {
    let stage = Stage::set();
    let nonsense = || StopLadder::new().then(15, SECOND).then(77, SECOND);
    let command = || stage.supervisor.command("prog").id("a");
    for (command, field) in [
        (command().stop_ladder(nonsense()), "stop_ladder[1]"),
        (command().timeout(HOUR).timeout_ladder(nonsense()), "timeout_ladder[1]"),
    ] {
        let refused = command.spawn().await.unwrap_err();
        assert_eq!((refused.kind(), refused.field()), (ErrorKind::Invalid, Some(field)));
    }
    let (handle, process) = stage.spawn(Sandbox::builder()).await;
    let refused = handle.stop_with(nonsense()).await.unwrap_err();
    assert_eq!((refused.kind(), refused.field()), (ErrorKind::Invalid, Some("ladder[1]")));
    handle.process().signal_in_order(1).await.unwrap();
    assert_eq!(stage.fake.log(), ["create a", "start a", "signal a 1"], "nothing was done");
    // Without a signal: the kill.
    let stop = tokio::spawn(handle.stop_with(StopLadder::new()));
    stage.fake.saw("kill a").await;
    drop(process);
    stop.await.unwrap().unwrap();
    stage.supervisor.shutdown().await;
}

#[tokio::test]
async fn the_drain_grace_ends_the_wait_for_a_leaked_writer() {
    let stage = Stage::set();
    let (handle, process) = stage.spawn(Sandbox::builder().drain_grace(Some(10 * SECOND))).await;
    let held = process.leave(0);
    handle.wait_exit().await.unwrap();
    stage.clock.advance(9 * SECOND).await;
    assert!(handle.inspect().report.is_none());
    stage.clock.advance(SECOND).await;
    let report = handle.wait().await.unwrap();
    assert!(report.leaked_writers && held.is_some());
    stage.supervisor.shutdown().await;
}

#[tokio::test]
async fn an_infinite_drain_grace_waits_for_the_last_writer() {
    let stage = Stage::set();
    let (handle, process) = stage.spawn(Sandbox::builder().drain_grace(None)).await;
    let held = process.leave(0);
    handle.wait_exit().await.unwrap();
    stage.clock.advance(1000 * HOUR).await;
    assert!(handle.inspect().report.is_none());
    drop(held);
    assert!(!handle.wait().await.unwrap().leaked_writers);
    stage.supervisor.shutdown().await;
}

#[tokio::test]
async fn an_unattended_container_ends_and_an_attach_stops_its_clock() {
    let stage = Stage::set();
    let (handle, process) = stage.spawn(Sandbox::builder().unattended(HOUR)).await;
    stage.clock.advance(2 * HOUR).await;
    assert_eq!(stage.told("kill a"), 0, "attended to");
    handle.detach();
    stage.clock.advance(HOUR - SECOND).await;
    let attached = stage.supervisor.container("a").await.unwrap().unwrap();
    stage.clock.advance(2 * HOUR).await;
    assert_eq!(stage.told("kill a"), 0, "attended to again");
    let report = attached.wait();
    drop(attached);
    stage.clock.advance(HOUR - SECOND).await;
    assert_eq!(stage.told("kill a"), 0, "the clock began anew");
    stage.clock.advance(SECOND).await;
    assert_eq!(stage.told("kill a"), 1);
    drop(process);
    assert_eq!(report.await.unwrap().cause, Cause::Limit(LimitKind::Unattended));
    stage.supervisor.shutdown().await;
}

#[tokio::test]
async fn without_that_limit_a_detached_container_lives_on() {
    let stage = Stage::set();
    let (handle, process) = stage.spawn(Sandbox::builder()).await;
    handle.detach();
    stage.clock.advance(10_000 * HOUR).await;
    assert_eq!(stage.told("kill a"), 0);
    // It holds the output, and no grace will pass.
    drop(process);
    stage.supervisor.shutdown().await;
}

async fn next(stats: &mut StatsStream) -> Option<u64> {
    let stats = std::future::poll_fn(|cx| std::pin::Pin::new(&mut *stats).poll_next(cx)).await;
    stats.and_then(|stats| stats.cpu_usage_ns)
}

#[tokio::test]
async fn counters_are_read_at_the_interval_and_only_while_somebody_listens() {
    let stage = Stage::set();
    let (handle, process) = stage.spawn(Sandbox::builder()).await;
    let mut stats = handle.stats_stream(HOUR);
    assert_eq!(next(&mut stats).await, Some(1), "at once");
    stage.clock.advance(HOUR).await;
    assert_eq!(next(&mut stats).await, Some(2));
    for _ in 0..3 {
        stage.clock.advance(HOUR).await;
    }
    assert_eq!(next(&mut stats).await, Some(5), "a slow reader gets the newest");
    drop(stats);
    for _ in 0..3 {
        stage.clock.advance(HOUR).await;
    }
    assert_eq!(stage.fake.readings(), 5, "nobody listens, nothing is read");
    drop(process);
    stage.supervisor.shutdown().await;
}
