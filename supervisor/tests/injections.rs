//! Plans of faults on the scripted runtime, in a time that the test moves: what is applied, how it ends, what is told. What
//! the kernel has to say to each kind is `real/injected.rs`; what is counted and drawn, the unit tests beside the code.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says why by panicking")]

use std::sync::Arc;
use std::time::Duration;

use orangery::events::{Item, Kind, Since};
use orangery::faults::{
    Fault, FaultKind, FaultPoint, FaultPolicy, FaultReport, FaultStep, Injection, Pick, Plan, PlannedFault, Site,
    Trigger,
};
use orangery::stream::Event;
use orangery::testing::{FakeRuntime, VirtualClock};
use orangery::{Cause, ContainerHandle, ErrorKind, ExitStatus, Restart, Source, State, Supervisor};

const HOUR: Duration = Duration::from_secs(3600);
const FIRST: Trigger = Trigger::Spawn { nth: 1 };

struct Stage {
    clock: VirtualClock,
    fake: FakeRuntime,
    supervisor: Supervisor,
}

impl Stage {
    fn set() -> Self {
        let (clock, fake) = (VirtualClock::default(), FakeRuntime::default());
        let builder = Supervisor::builder().shards(1).clock(&clock).fault_points();
        let supervisor = builder.build_on(Arc::new(fake.clone())).unwrap();
        Self { clock, fake, supervisor }
    }

    async fn inject(&self, fault: PlannedFault) -> Injection {
        self.supervisor.inject(Plan::seeded(1).fault(fault)).await.unwrap()
    }

    async fn spawn(&self, id: &str) -> ContainerHandle {
        self.supervisor.command("prog").id(id).spawn().await.unwrap()
    }

    async fn end(self) {
        self.supervisor.shutdown().await;
        assert_eq!(self.fake.alive(), 0);
    }
}

fn fault(kind: FaultKind, trigger: Trigger) -> PlannedFault {
    PlannedFault::new("f", kind, trigger)
}

/// What was done, and why, about the one fault of a plan.
fn told(report: &FaultReport) -> Vec<(FaultStep, Option<&str>, &str)> {
    let of = |entry: &orangery::faults::FaultEntry| entry.step;
    report
        .entries
        .iter()
        .map(|entry| (of(entry), entry.container.as_deref(), entry.why.as_deref().unwrap_or("")))
        .collect()
}

const PLANNED: (FaultStep, Option<&str>, &str) = (FaultStep::Planned, None, "");

const fn applied(id: &str) -> (FaultStep, Option<&str>, &str) {
    (FaultStep::Applied, Some(id), "")
}

#[tokio::test]
async fn a_pause_lasts_as_long_as_it_says() {
    let stage = Stage::set();
    let injection = stage.inject(fault(FaultKind::Pause, FIRST).lasting(HOUR)).await;
    let handle = stage.spawn("a").await;
    assert!(injection.saw("f", FaultStep::Applied, 1).await);
    assert_eq!(handle.inspect().state, State::Paused);
    stage.clock.advance(HOUR / 2).await;
    assert_eq!((handle.inspect().state, injection.report().left().len()), (State::Paused, 1));
    stage.clock.advance(HOUR).await;
    assert!(injection.saw("f", FaultStep::Reverted, 1).await);
    assert_eq!(handle.inspect().state, State::Running);
    let report = injection.end().await;
    assert_eq!(told(&report), [PLANNED, applied("a"), (FaultStep::Reverted, Some("a"), "its time is over")]);
    assert!(report.left().is_empty());
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<FaultReport>(&text).unwrap(), report);
    stage.end().await;
}

#[tokio::test]
async fn whoever_drops_the_injection_has_everything_reverted() {
    let stage = Stage::set();
    let injection = stage.inject(fault(FaultKind::Pause, FIRST)).await;
    let handle = stage.spawn("a").await;
    assert!(injection.saw("f", FaultStep::Applied, 1).await);
    drop(injection);
    stage.fake.saw("resume a").await;
    drop(handle);
    // Nothing is decided any more.
    let again = stage.spawn("b").await;
    assert_eq!(again.inspect().state, State::Running);
    drop(again);
    stage.end().await;
}

#[tokio::test]
async fn the_end_of_a_plan_and_of_its_supervisor_are_told() {
    let stage = Stage::set();
    let ends = stage.inject(fault(FaultKind::Pause, FIRST)).await;
    let handle = stage.spawn("a").await;
    assert!(ends.saw("f", FaultStep::Applied, 1).await);
    let report = ends.end().await;
    assert_eq!(told(&report)[2], (FaultStep::Reverted, Some("a"), "the plan has ended"));
    assert_eq!(handle.inspect().state, State::Running);

    let stall = FaultKind::StallOutput { source: Source::Stdout };
    let closes = stage.inject(fault(stall, Trigger::Now).pick(Pick::All)).await;
    assert!(closes.saw("f", FaultStep::Applied, 1).await);
    let never = closes.saw("f", FaultStep::Applied, 2);
    stage.supervisor.shutdown().await;
    assert!(!never.await, "the plan ended before");
    let report = closes.end().await;
    assert_eq!(told(&report)[2], (FaultStep::Reverted, Some("a"), "the supervisor shuts down"));
    drop(handle);
    stage.end().await;
}

#[tokio::test]
async fn it_ends_with_its_container_and_what_has_ended_is_not_hit() {
    let stage = Stage::set();
    let injection = stage.inject(fault(FaultKind::Pause, FIRST).times(2)).await;
    let handle = stage.spawn("a").await;
    assert!(injection.saw("f", FaultStep::Applied, 1).await);
    handle.kill().unwrap();
    handle.wait().await.unwrap();
    assert!(injection.saw("f", FaultStep::Reverted, 1).await);
    // This one never runs.
    stage.fake.refuse(orangery::runtime::Error::new(orangery::runtime::ErrorKind::System, "no"));
    stage.supervisor.command("prog").id("b").spawn().await.unwrap_err();
    assert!(injection.saw("f", FaultStep::Skipped, 1).await);
    let report = injection.end().await;
    let want = [
        PLANNED,
        applied("a"),
        (FaultStep::Reverted, Some("a"), "the container has ended"),
        (FaultStep::Skipped, Some("b"), "the container ended before it came to it"),
    ];
    assert_eq!(told(&report), want);
    stage.end().await;
}

#[tokio::test]
async fn what_cannot_be_is_skipped_with_the_reason_and_what_others_did_stays() {
    let stage = Stage::set();
    let handle = stage.spawn("a").await;
    handle.pause().await.unwrap();
    let injection = stage.inject(fault(FaultKind::Pause, Trigger::Now).pick(Pick::All)).await;
    assert!(injection.saw("f", FaultStep::Skipped, 1).await);
    let report = injection.end().await;
    assert_eq!(told(&report)[1], (FaultStep::Skipped, Some("a"), "the container is paused already"));
    assert_eq!(handle.inspect().state, State::Paused, "not ours to end");

    // A fake has no files of limits.
    let injection = stage.inject(fault(FaultKind::StarvePids { most: 3 }, Trigger::Now).pick(Pick::One)).await;
    assert!(injection.saw("f", FaultStep::Skipped, 1).await);
    assert!(injection.end().await.entries[1].why.as_ref().unwrap().contains("no files of limits"));

    let injection = stage.inject(fault(FaultKind::Kill, Trigger::Exit { nth: 5 }).pick(Pick::All)).await;
    let report = injection.end().await;
    assert_eq!(told(&report), [PLANNED, (FaultStep::Skipped, None, "nothing has triggered it")]);
    drop(handle);
    stage.end().await;
}

#[tokio::test]
async fn without_a_freezer_it_is_stopped() {
    let stage = Stage::set();
    stage.fake.without_freezer();
    let injection = stage.inject(fault(FaultKind::Pause, FIRST)).await;
    let handle = stage.spawn("a").await;
    assert!(injection.saw("f", FaultStep::Applied, 1).await);
    injection.end().await;
    assert_eq!(stage.fake.log(), ["create a", "start a", "stop a", "resume a"]);
    drop(handle);
    stage.end().await;
}

#[tokio::test]
async fn a_stalled_output_comes_when_the_stall_is_over_and_nothing_of_it_is_lost() {
    let stage = Stage::set();
    let stall = FaultKind::StallOutput { source: Source::Stdout };
    let injection = stage.inject(fault(stall, FIRST).lasting(HOUR)).await;
    let handle = stage.spawn("a").await;
    let mut events = handle.subscribe(orangery::SubscribeOptions::default());
    let mut actor = stage.fake.actor().await;
    assert!(injection.saw("f", FaultStep::Applied, 1).await);
    actor.say(b"late");
    stage.clock.advance(HOUR / 2).await;
    let mut first = Box::pin(events.recv());
    let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(first.as_mut().poll(cx))).await;
    assert!(polled.is_pending());
    stage.clock.advance(HOUR).await;
    assert!(matches!(first.await, Some(Event::Chunk(chunk)) if chunk.data == "late"));
    actor.say(b"r");
    assert!(matches!(events.recv().await, Some(Event::Chunk(chunk)) if chunk.data == "r"));
    // One that is stalled when it ends is read to its end.
    let injection =
        stage.inject(fault(FaultKind::StallOutput { source: Source::Stdout }, Trigger::Now).pick(Pick::All));
    let injection = injection.await;
    assert!(injection.saw("f", FaultStep::Applied, 1).await);
    actor.say(b"last");
    actor.exit(0);
    assert!(matches!(events.recv().await, Some(Event::Chunk(chunk)) if chunk.data == "last"));
    assert_eq!(handle.wait().await.unwrap().exit, ExitStatus::Code(0));
    assert!(injection.saw("f", FaultStep::Reverted, 1).await);
    stage.end().await;
}

#[tokio::test]
async fn an_exit_is_late_or_another_and_only_that_of_the_main_process() {
    let stage = Stage::set();
    let injection = stage.inject(fault(FaultKind::LateExit, Trigger::Exit { nth: 1 }).lasting(HOUR)).await;
    let handle = stage.spawn("a").await;
    let main = stage.fake.actor().await;
    let further = handle.command("more").spawn().await.unwrap();
    stage.fake.actor().await.exit(1);
    assert_eq!(further.wait().await.unwrap().exit, ExitStatus::Code(1), "not held up");
    main.exit(3);
    assert_eq!(handle.wait_exit().await.unwrap(), ExitStatus::Code(3), "the bare exit is not held up");
    assert!(injection.saw("f", FaultStep::Applied, 1).await);
    let report = tokio::spawn(handle.wait());
    stage.clock.advance(HOUR / 2).await;
    assert!(!report.is_finished());
    stage.clock.advance(HOUR).await;
    assert_eq!(report.await.unwrap().unwrap().exit, ExitStatus::Code(3));
    assert!(injection.end().await.left().is_empty());

    let named = PlannedFault::new("lie", FaultKind::OverrideExit { code: 42 }, FIRST);
    let injection = stage.supervisor.inject(Plan::seeded(1).fault(named)).await.unwrap();
    let handle = stage.spawn("b").await;
    stage.fake.actor().await.exit(0);
    let report = handle.wait().await.unwrap();
    let cause = Cause::Injected { fault: "lie".into() };
    assert_eq!((report.exit, report.cause.clone()), (ExitStatus::Code(42), cause));
    assert_eq!(handle.wait_exit().await.unwrap(), ExitStatus::Code(0));
    assert_eq!(injection.end().await.of("lie", FaultStep::Applied).count(), 1);
    stage.end().await;
}

#[tokio::test]
async fn a_line_of_its_output_is_a_trigger() {
    let stage = Stage::set();
    let trigger = |containing: &str, nth| Trigger::Line { source: Source::Stdout, containing: containing.into(), nth };
    let injection = stage.inject(fault(FaultKind::Pause, trigger("hit", 2)).until(trigger("enough", 1))).await;
    let handle = stage.spawn("a").await;
    let mut actor = stage.fake.actor().await;
    actor.say(b"hit\nmiss\nhi");
    actor.say(b"t again\n");
    assert!(injection.saw("f", FaultStep::Applied, 1).await);
    // A fake writes on while it is held.
    actor.say(b"enough\n");
    assert!(injection.saw("f", FaultStep::Reverted, 1).await);
    let report = injection.end().await;
    assert_eq!(told(&report)[2], (FaultStep::Reverted, Some("a"), "what it was to last until has happened"));
    drop((handle, actor));
    stage.end().await;
}

#[tokio::test]
async fn restarts_are_counted_and_a_killed_service_comes_back() {
    let stage = Stage::set();
    let plan = fault(FaultKind::Kill, Trigger::Restart { nth: 2 }).id("s");
    let injection = stage.inject(plan).await;
    let restart = Restart::always().delays([Duration::ZERO]).jitter(0);
    let service = stage.supervisor.command("prog").id("s").restart(restart).supervise().await.unwrap();
    for generation in 1..=2 {
        service.wait_for(move |now| now.generation == generation && now.back_off.is_none()).await.unwrap();
        stage.fake.actor().await.exit(0);
        stage.clock.advance(Duration::from_secs(1)).await;
    }
    assert!(injection.saw("f", FaultStep::Applied, 1).await);
    let report = injection.end().await;
    let hit: Vec<u32> = report.of("f", FaultStep::Applied).map(|entry| entry.generation).collect();
    assert_eq!(hit, [3]);
    drop(service);
    stage.end().await;
}

#[tokio::test]
async fn two_supervisors_of_one_process_do_not_see_each_other() {
    let (hit, other) = (Stage::set(), Stage::set());
    let kills = |stage: &Stage| stage.supervisor.inject(Plan::seeded(1).fault(fault(FaultKind::Kill, FIRST)));
    let (injection, idle) = (kills(&hit).await.unwrap(), kills(&other).await.unwrap());
    let handle = hit.spawn("a").await;
    assert!(injection.saw("f", FaultStep::Applied, 1).await);
    assert_eq!(handle.wait().await.unwrap().cause, Cause::Injected { fault: "f".into() });
    assert_eq!(told(&idle.report()), [PLANNED]);
    drop(idle);
    let spared = other.spawn("a").await;
    assert_eq!(spared.inspect().state, State::Running);
    drop((injection, spared));
    hit.end().await;
    other.end().await;
}

#[tokio::test]
async fn the_feed_tells_what_the_report_says_in_the_same_order() {
    let stage = Stage::set();
    let mut events = stage.supervisor.events(Since::Now);
    let plan = Plan::seeded(1).fault(PlannedFault::new("stands", FaultKind::Pause, FIRST)).fault(PlannedFault::new(
        "dies",
        FaultKind::Kill,
        Trigger::Spawn { nth: 2 },
    ));
    let injection = stage.supervisor.inject(plan).await.unwrap();
    let stands = stage.spawn("a").await;
    stage.spawn("b").await.wait().await.unwrap();
    let report = injection.end().await;
    drop(stands);
    stage.end().await;
    let mut fed = Vec::new();
    while let Some(Item::Event(event)) = events.recv().await {
        let (step, news) = match &event.kind {
            Kind::FaultPlanned(news) => (FaultStep::Planned, news),
            Kind::FaultApplied(news) => (FaultStep::Applied, news),
            Kind::FaultReverted(news) => (FaultStep::Reverted, news),
            Kind::FaultSkipped(news) => (FaultStep::Skipped, news),
            _ => continue,
        };
        fed.push((step, event.container.as_deref().map(str::to_owned), event.generation, news.fault.clone()));
    }
    let reported = report.entries.iter();
    let reported = reported.map(|entry| (entry.step, entry.container.clone(), entry.generation, entry.fault.clone()));
    assert_eq!(fed, reported.collect::<Vec<_>>());
    assert_eq!(fed.len(), 5, "{fed:?}");
}

struct Nothing;

impl FaultPolicy for Nothing {
    fn decide(&self, at: &FaultPoint<'_>) -> Fault {
        if at.site == Site::Exec && at.count == 0 { Fault::Errno(12) } else { Fault::Continue }
    }
}

#[tokio::test]
async fn nonsense_and_a_supervisor_without_fault_points_are_refused_and_a_policy_brings_them() {
    let plain = Supervisor::builder().build_on(Arc::new(FakeRuntime::default())).unwrap();
    let plan = || Plan::seeded(1).fault(fault(FaultKind::Kill, FIRST));
    let error = plain.inject(plan()).await.unwrap_err();
    assert_eq!((error.kind(), error.field()), (ErrorKind::Unsupported, Some("fault_points")));
    let error = plain.inject(plan().fault(fault(FaultKind::Kill, FIRST))).await.unwrap_err();
    assert_eq!((error.kind(), error.field()), (ErrorKind::Invalid, Some("faults[\"f\"].name")));
    plain.shutdown().await;

    let fake = FakeRuntime::default();
    let builder = Supervisor::builder().fault_policy(Arc::new(Nothing)).fault_points();
    let both = builder.build_on(Arc::new(fake.clone())).unwrap();
    let injection = both.inject(plan()).await.unwrap();
    let killed = both.command("prog").spawn().await.unwrap();
    assert_eq!(killed.wait().await.unwrap().cause, Cause::Injected { fault: "f".into() });
    let lives = both.command("prog").spawn().await.unwrap();
    assert_eq!(lives.command("more").spawn().await.unwrap_err().errno(), Some(12));
    drop((lives, injection));
    both.shutdown().await;
    let error = both.inject(plan()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ShutDown);
}

#[tokio::test]
async fn an_injection_that_is_given_up_while_it_is_armed_leaves_nothing() {
    let stage = Stage::set();
    drop(stage.supervisor.inject(Plan::seeded(1).fault(fault(FaultKind::Kill, FIRST))));
    let handle = stage.spawn("a").await;
    handle.pause().await.unwrap();
    assert_eq!(handle.inspect().state, State::Paused, "it lives");
    drop(handle);
    stage.end().await;
}

#[tokio::test]
async fn the_same_is_not_done_twice_at_a_time() {
    let stage = Stage::set();
    let plan = Plan::seeded(1)
        .fault(PlannedFault::new("one", FaultKind::Pause, FIRST).lasting(HOUR))
        .fault(PlannedFault::new("two", FaultKind::Pause, FIRST).lasting(2 * HOUR));
    let injection = stage.supervisor.inject(plan).await.unwrap();
    let handle = stage.spawn("a").await;
    assert!(injection.saw("one", FaultStep::Applied, 1).await);
    assert!(injection.saw("two", FaultStep::Skipped, 1).await);
    let report = injection.end().await;
    assert_eq!(report.of("two", FaultStep::Skipped).count(), 1);
    assert_eq!(stage.fake.log(), ["create a", "start a", "pause a", "resume a"]);
    drop(handle);
    stage.end().await;
}
