//! Stops that do not end as they should, and the commands that go with them, in a time that the test moves.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says why by panicking")]

use std::sync::Arc;
use std::time::Duration;

use orangery::events::{Events, Item, Kind, Since};
use orangery::faults::{Fault, FaultPoint, FaultPolicy, Site};
use orangery::restart::GiveUp;
use orangery::testing::{FakeRuntime, VirtualClock};
use orangery::{
    Cause, Command, ContainerHandle, ErrorKind, ExitStatus, Group, Hook, HookKind, HookOutcome, Restart, Sandbox,
    ServiceState, State, StopLadder, Supervisor,
};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const PATIENCE: Duration = Duration::from_secs(30);

struct Stage {
    clock: VirtualClock,
    fake: FakeRuntime,
    supervisor: Supervisor,
}

/// No further process can be started; or the first message of this name makes its actor panic.
struct Unlucky(&'static str);

impl FaultPolicy for Unlucky {
    fn decide(&self, at: &FaultPoint<'_>) -> Fault {
        match at.site {
            Site::Exec if self.0 == "exec" => Fault::Errno(12),
            Site::ProcessMessage(name) if name == self.0 && at.count == 0 => Fault::Panic,
            _ => Fault::Continue,
        }
    }
}

impl Stage {
    fn set() -> Self {
        Self::with(Unlucky("never"))
    }

    fn with(faults: Unlucky) -> Self {
        let (clock, fake) = (VirtualClock::default(), FakeRuntime::default());
        let builder = Supervisor::builder().shards(1).clock(&clock).fault_policy(Arc::new(faults));
        let supervisor = builder.build_on(Arc::new(fake.clone())).unwrap();
        Self { clock, fake, supervisor }
    }

    fn command(&self, id: &str) -> Command {
        self.supervisor.command("prog").id(id)
    }

    async fn spawn(&self, id: &str) -> ContainerHandle {
        self.command(id).spawn().await.unwrap()
    }

    /// How often it was told this.
    fn told(&self, line: &str) -> usize {
        self.fake.log().iter().filter(|told| *told == line).count()
    }
}

async fn until(events: &mut Events, wanted: impl Fn(&Kind) -> bool) -> Kind {
    loop {
        if let Some(Item::Event(event)) = events.recv().await
            && wanted(&event.kind)
        {
            return event.kind.clone();
        }
    }
}

#[tokio::test]
async fn what_no_kill_ends_is_reported_in_bounded_time_and_everything_else_goes_on() {
    let stage = Stage::set();
    let mut events = stage.supervisor.events(Since::Now);
    let handle = stage.spawn("a").await;
    let _asleep = stage.fake.actor().await;
    stage.fake.fall_asleep("a");
    let stop = tokio::spawn(handle.stop(15, SECOND));
    stage.fake.saw("signal a 18").await;
    stage.clock.advance(SECOND).await;
    assert_eq!(stage.told("kill a"), 1);
    stage.clock.advance(PATIENCE - SECOND).await;
    assert!(!stop.is_finished() && handle.inspect().report.is_none());
    stage.clock.advance(SECOND).await;
    let refused = stop.await.unwrap().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unkillable);
    assert!(refused.to_string().contains("process 1 (prog, D)"), "{refused}");
    let report = handle.wait().await.unwrap();
    assert_eq!((report.exit, report.cause.clone()), (ExitStatus::Lost, Cause::Stop { escalated: true }));
    let left = report.unkillable.clone().unwrap();
    assert_eq!((left.after_ms, left.processes[0].state), (30_000, 'D'));
    assert_eq!(handle.inspect().state, State::Unkillable);
    assert_eq!(
        until(&mut events, |kind| matches!(kind, Kind::ContainerUnkillable(_))).await,
        Kind::ContainerUnkillable(left)
    );
    // It still has its name, and cannot be told anything; all others can.
    assert_eq!(handle.delete().await.unwrap_err().kind(), ErrorKind::Unkillable);
    assert_eq!(handle.pause().await.unwrap_err().kind(), ErrorKind::State);
    assert_eq!(stage.command("a").spawn().await.unwrap_err().kind(), ErrorKind::Exists);
    let other = stage.spawn("b").await;
    stage.fake.actor().await.exit(3);
    assert_eq!(other.wait().await.unwrap().exit, ExitStatus::Code(3));
    // Tried again until it works.
    let before = stage.told("kill a");
    stage.clock.advance(10 * SECOND).await;
    assert!(stage.told("kill a") > before);
    stage.fake.wake("a");
    stage.clock.advance(10 * SECOND).await;
    until(&mut events, |kind| *kind == Kind::ContainerRemoved).await;
    handle.delete().await.unwrap();
    assert_eq!((handle.inspect().state, stage.fake.alive()), (State::Gone, 0));
    assert!(handle.wait().await.unwrap().unkillable.is_some(), "a report is made once");
    drop(stage.spawn("a").await);
    stage.supervisor.shutdown().await;
}

#[tokio::test]
async fn whoever_is_left_of_a_container_whose_main_process_has_ended_is_unkillable_too() {
    let stage = Stage::set();
    let handle = stage.spawn("a").await;
    stage.fake.fall_asleep("a");
    stage.fake.actor().await.exit(7);
    assert_eq!(handle.wait_exit().await.unwrap(), ExitStatus::Code(7));
    stage.fake.saw("finish a").await;
    stage.clock.advance(PATIENCE).await;
    let report = handle.wait().await.unwrap();
    assert_eq!((report.exit, report.cause.clone()), (ExitStatus::Code(7), Cause::Own));
    assert!(report.unkillable.is_some());
    stage.fake.wake("a");
    stage.clock.advance(10 * SECOND).await;
    stage.fake.empty().await;
    stage.supervisor.shutdown().await;
}

#[tokio::test]
async fn a_further_process_that_does_not_die_leaves_its_container_alone() {
    let stage = Stage::set();
    let handle = stage.spawn("a").await;
    let main = stage.fake.actor().await;
    let more = handle.command("more").spawn().await.unwrap();
    let _asleep = stage.fake.actor().await;
    more.kill().unwrap();
    stage.fake.saw("signal a 9").await;
    stage.clock.advance(PATIENCE).await;
    let report = more.wait().await.unwrap();
    assert_eq!((report.exit, report.unkillable.is_some()), (ExitStatus::Lost, true));
    assert_eq!(handle.inspect().state, State::Running);
    main.exit(0);
    assert_eq!(handle.wait().await.unwrap().exit, ExitStatus::Code(0));
    stage.supervisor.shutdown().await;
}

#[tokio::test]
async fn a_service_whose_container_does_not_end_settles_and_says_so() {
    let stage = Stage::set();
    let service = stage.command("a").restart(Restart::always()).supervise().await.unwrap();
    let _asleep = stage.fake.actor().await;
    stage.fake.fall_asleep("a");
    // By hand: it is no stop, and a restart cannot follow.
    service.current().unwrap().kill().unwrap();
    stage.clock.advance(PATIENCE).await;
    let settled = service.wait().await.unwrap();
    assert_eq!((settled.state, settled.give_up), (ServiceState::Failed, Some(GiveUp::Unkillable)));
    assert!(settled.report.unwrap().unkillable.is_some());
    stage.fake.wake("a");
    stage.clock.advance(10 * SECOND).await;
    stage.fake.empty().await;
    service.start().await.unwrap();
    let _asleep = stage.fake.actor().await;
    stage.fake.fall_asleep("a");
    let stop = tokio::spawn(service.stop_with(StopLadder::new()));
    stage.fake.saw("kill a").await;
    stage.clock.advance(PATIENCE).await;
    assert_eq!(stop.await.unwrap().unwrap_err().kind(), ErrorKind::Unkillable);
    assert_eq!(service.state(), ServiceState::Stopped);
    stage.fake.wake("a");
    stage.clock.advance(10 * SECOND).await;
    stage.fake.empty().await;
    stage.supervisor.shutdown().await;
}

#[tokio::test]
async fn a_member_that_does_not_end_does_not_hold_up_the_stop_of_the_others() {
    let stage = Stage::set();
    let group = Group::builder("g").service("a", stage.command("a")).service("b", stage.command("b"));
    let group = group.start(&stage.supervisor).await.unwrap();
    let (first, _asleep) = (stage.fake.actor().await, stage.fake.actor().await);
    stage.fake.fall_asleep("b");
    let stop = tokio::spawn(group.stop(15, SECOND));
    stage.fake.saw("signal b 18").await;
    stage.clock.advance(SECOND).await;
    stage.clock.advance(PATIENCE).await;
    stage.fake.saw("signal a 15").await;
    first.exit(0);
    stop.await.unwrap().unwrap();
    assert_eq!(group.state(), ServiceState::Stopped);
    assert!(group.service("b").unwrap().inspect().report.unwrap().unkillable.is_some());
    stage.fake.wake("b");
    stage.clock.advance(10 * SECOND).await;
    stage.fake.empty().await;
    stage.supervisor.shutdown().await;
}

#[tokio::test]
async fn a_second_stop_of_a_group_hurries_the_member_that_is_being_stopped() {
    let stage = Stage::set();
    let group = Group::builder("g").stop_with(15, HOUR).service("a", stage.command("a"));
    let group = group.start(&stage.supervisor).await.unwrap();
    let process = stage.fake.actor().await;
    let first = tokio::spawn(group.stop_gently());
    stage.fake.saw("signal a 18").await;
    let longer = tokio::spawn(group.stop(15, 2 * HOUR));
    let second = tokio::spawn(group.stop(15, SECOND));
    while stage.told("kill a") == 0 {
        stage.clock.advance(SECOND).await;
    }
    drop(process);
    for stop in [first, longer, second] {
        stop.await.unwrap().unwrap();
    }
    assert_eq!(stage.told("signal a 15"), 1);
    stage.supervisor.shutdown().await;
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_ever_for_what_no_kill_ends() {
    let stage = Stage::set();
    let handle = stage.spawn("a").await;
    let _asleep = stage.fake.actor().await;
    stage.fake.fall_asleep("a");
    let shutdown = tokio::spawn(stage.supervisor.shutdown());
    stage.fake.saw("kill a").await;
    stage.clock.advance(10 * SECOND).await;
    shutdown.await.unwrap();
    assert_eq!(handle.wait().await.unwrap().exit, ExitStatus::Lost);
}

impl Stage {
    /// A container with a pre-stop command, stopped; the main process and the command.
    async fn stopped_with_hook(&self, ladder: StopLadder) -> (ContainerHandle, orangery::testing::Actor) {
        let handle = self.command("a").pre_stop(Hook::new("hook")).stop_ladder(ladder).spawn().await.unwrap();
        let main = self.fake.actor().await;
        drop(handle.stop_gently());
        (handle, main)
    }
}

#[tokio::test]
async fn a_pre_stop_command_ends_before_the_first_signal() {
    let stage = Stage::set();
    let mut events = stage.supervisor.events(Since::Now);
    let (handle, main) = stage.stopped_with_hook(StopLadder::default()).await;
    let hook = stage.fake.actor().await;
    stage.clock.advance(4 * SECOND).await;
    assert_eq!(stage.told("signal a 15"), 0);
    hook.exit(0);
    stage.fake.saw("signal a 18").await;
    // The grace is not shorter by what it took.
    stage.clock.advance(9 * SECOND).await;
    assert_eq!(stage.told("kill a"), 0);
    main.exit(0);
    let report = handle.wait().await.unwrap();
    assert_eq!(report.cause, Cause::Stop { escalated: false });
    assert!(report.pre_stop.as_ref().unwrap().success() && report.post_stop.is_none());
    let told = until(&mut events, |kind| matches!(kind, Kind::HookEnded { .. })).await;
    assert_eq!(told, Kind::HookEnded { hook: HookKind::PreStop, outcome: report.pre_stop.clone().unwrap() });
    stage.supervisor.shutdown().await;
}

#[tokio::test]
async fn a_pre_stop_command_that_does_not_end_or_start_holds_up_nothing() {
    let stage = Stage::set();
    let (handle, main) = stage.stopped_with_hook(StopLadder::default()).await;
    let _hook = stage.fake.actor().await;
    stage.clock.advance(5 * SECOND).await;
    stage.fake.saw("signal a 18").await;
    assert_eq!(stage.told("signal a 9"), 1, "killed at its deadline");
    main.exit(0);
    assert_eq!(handle.wait().await.unwrap().pre_stop, Some(HookOutcome::TimedOut { after_ms: 5000 }));
    stage.supervisor.shutdown().await;

    let stage = Stage::with(Unlucky("exec"));
    let (handle, main) = stage.stopped_with_hook(StopLadder::default()).await;
    stage.fake.saw("signal a 18").await;
    main.exit(0);
    let report = handle.wait().await.unwrap();
    assert!(matches!(report.pre_stop, Some(HookOutcome::NotStarted { .. })), "{report:?}");
    stage.supervisor.shutdown().await;
}

#[tokio::test]
async fn a_panic_with_the_news_of_a_pre_stop_command_in_hand_loses_it_not() {
    let stage = Stage::with(Unlucky("prepared"));
    let (handle, main) = stage.stopped_with_hook(StopLadder::default()).await;
    stage.fake.actor().await.exit(1);
    stage.fake.saw("signal a 18").await;
    main.exit(0);
    assert!(handle.wait().await.unwrap().pre_stop.is_some());
    stage.supervisor.shutdown().await;
}

#[tokio::test]
async fn a_second_stop_hurries_a_pre_stop_command_and_a_kill_skips_both() {
    let stage = Stage::set();
    let (handle, main) = stage.stopped_with_hook(StopLadder::from((15, HOUR))).await;
    let _hook = stage.fake.actor().await;
    let second = tokio::spawn(handle.stop(2, SECOND));
    handle.process().signal_in_order(1).await.unwrap();
    stage.clock.advance(SECOND).await;
    assert_eq!((stage.told("kill a"), stage.told("signal a 15"), stage.told("signal a 2")), (1, 0, 0));
    drop(main);
    second.await.unwrap().unwrap();
    let report = handle.wait().await.unwrap();
    assert_eq!(report.cause, Cause::Stop { escalated: true });
    assert!(matches!(report.pre_stop, Some(HookOutcome::Ended { exit: ExitStatus::Signal { signal: 9, .. }, .. })));

    let hooks = stage.command("a").pre_stop(Hook::new("pre")).post_stop(Hook::new("post"));
    let handle = hooks.spawn().await.unwrap();
    handle.kill().unwrap();
    drop(stage.fake.actor().await);
    let report = handle.wait().await.unwrap();
    assert_eq!((report.pre_stop.clone(), report.post_stop.clone()), (None, Some(HookOutcome::Skipped)));
    assert_eq!(stage.told("exec a"), 1, "the first container's");
    stage.supervisor.shutdown().await;
}

#[tokio::test]
async fn a_post_stop_command_runs_before_anything_is_removed_and_the_report_waits_for_it() {
    let stage = Stage::set();
    let handle = stage.command("a").post_stop(Hook::new("post")).spawn().await.unwrap();
    stage.fake.actor().await.exit(3);
    let post = stage.fake.actor().await;
    assert_eq!(handle.wait_exit().await.unwrap(), ExitStatus::Code(3), "told at once");
    assert!(handle.inspect().report.is_none());
    post.exit(4);
    let report = handle.wait().await.unwrap();
    assert_eq!((report.exit, report.cause.clone()), (ExitStatus::Code(3), Cause::Own));
    assert!(matches!(report.post_stop, Some(HookOutcome::Ended { exit: ExitStatus::Code(4), .. })));
    assert_eq!(stage.fake.log(), ["create a", "start a", "exec a", "finish a", "delete a"]);
    // At its deadline it is killed, with everything else.
    let handle = stage.command("a").post_stop(Hook::new("post").deadline(HOUR)).spawn().await.unwrap();
    stage.fake.actor().await.exit(0);
    let _post = stage.fake.actor().await;
    stage.clock.advance(HOUR).await;
    assert_eq!(handle.wait().await.unwrap().post_stop, Some(HookOutcome::TimedOut { after_ms: 3_600_000 }));
    stage.supervisor.shutdown().await;
}

#[tokio::test]
async fn hooks_that_make_no_sense_are_refused_by_their_field() {
    let stage = Stage::set();
    let no_init = Sandbox::builder().init(false).build().unwrap();
    for (command, field) in [
        (stage.command("a").pre_stop(Hook::new("x").deadline(Duration::ZERO)), "pre_stop"),
        (stage.command("a").post_stop(Hook::new("")), "post_stop"),
        (stage.command("a").sandbox(&no_init).post_stop(Hook::new("x")), "post_stop"),
    ] {
        let refused = command.spawn().await.unwrap_err();
        assert_eq!((refused.kind(), refused.field()), (ErrorKind::Invalid, Some(field)));
    }
    assert!(stage.fake.log().is_empty());
    stage.supervisor.shutdown().await;
}
