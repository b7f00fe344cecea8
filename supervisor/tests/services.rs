//! Services in a time that the test moves, against the scripted runtime.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says why by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use orangery::events::{Item, Kind, Since};
use orangery::faults::{Fault, FaultPoint, FaultPolicy, Site};
use orangery::restart::GiveUp;
use orangery::testing::{FakeRuntime, VirtualClock};
use orangery::{
    Cause, Command, ErrorKind, ExitClass, ExitStatus, Restart, Sandbox, Service, ServiceState, Supervisor, Treatment,
};

const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

struct Stage {
    clock: VirtualClock,
    fake: FakeRuntime,
    supervisor: Supervisor,
}

impl Stage {
    fn set() -> Self {
        Self::with(10, Arc::new(PanicAt::new("nowhere", 0)))
    }

    fn with(most: usize, faults: Arc<dyn FaultPolicy>) -> Self {
        let (clock, fake) = (VirtualClock::default(), FakeRuntime::default());
        let builder = Supervisor::builder().shards(1).clock(&clock).max_containers(most).fault_policy(faults);
        let supervisor = builder.build_on(Arc::new(fake.clone())).unwrap();
        Self { clock, fake, supervisor }
    }

    fn command(&self, restart: Restart) -> Command {
        self.supervisor.command("prog").id("a").restart(restart)
    }

    async fn supervise(&self, restart: Restart) -> Service {
        self.command(restart.jitter(0)).supervise().await.unwrap()
    }

    /// How often it was told this.
    fn told(&self, line: &str) -> usize {
        self.fake.log().iter().filter(|told| *told == line).count()
    }

    /// The current incarnation ends with this code; how long it is until the next.
    async fn die(&self, service: &Service, code: i32) -> Duration {
        let generation = service.inspect().generation;
        self.fake.actor().await.exit(code);
        let waits = service.wait_for(move |now| now.generation == generation && now.back_off.is_some()).await.unwrap();
        waits.back_off.unwrap().delay
    }

    /// Its delay passes, and not a moment before does it start.
    async fn again(&self, service: &Service, delay: Duration) {
        let before = service.inspect();
        self.clock.advance(delay - MS).await;
        assert_eq!((service.state(), service.inspect().generation), (ServiceState::BackOff, before.generation));
        self.clock.advance(2 * MS).await;
        running(service, before.generation + 1).await;
    }

    async fn end(self) {
        self.supervisor.shutdown().await;
        assert_eq!(self.fake.alive(), 0);
    }
}

async fn running(service: &Service, generation: u32) {
    let runs = service.wait_for(move |now| now.state == ServiceState::Running && now.generation >= generation);
    assert_eq!(runs.await.unwrap().generation, generation);
}

/// Panics when a service's actor has a message of this name, this often.
struct PanicAt {
    message: &'static str,
    times: AtomicU32,
}

impl PanicAt {
    fn new(message: &'static str, times: u32) -> Self {
        Self { message, times: times.into() }
    }
}

impl FaultPolicy for PanicAt {
    fn decide(&self, at: &FaultPoint<'_>) -> Fault {
        let hit = at.site == Site::ServiceMessage(self.message);
        let left = |left: u32| left.checked_sub(1);
        if hit && self.times.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left).is_ok() {
            return Fault::Panic;
        }
        Fault::Continue
    }
}

/// The start of each incarnation takes an hour.
struct SlowStart;

impl FaultPolicy for SlowStart {
    fn decide(&self, at: &FaultPoint<'_>) -> Fault {
        if at.site == Site::StartGate { Fault::Delay(HOUR) } else { Fault::Continue }
    }
}

#[tokio::test]
async fn a_crash_loop_waits_as_the_formula_says_until_the_window_is_spent_and_a_start_by_hand_works() {
    let stage = Stage::set();
    let service = stage.supervise(Restart::on_failure()).await;
    for n in 0..10 {
        let delay = stage.die(&service, 3).await;
        assert_eq!(delay, Duration::from_millis(100 << n));
        stage.again(&service, delay).await;
    }
    stage.fake.actor().await.exit(3);
    let failed = service.wait().await.unwrap();
    assert_eq!((failed.state, failed.give_up), (ServiceState::Failed, Some(GiveUp::WindowSpent)));
    assert_eq!((failed.generation, failed.restarts, failed.deaths.len()), (11, 10, 11));
    assert!(failed.deaths.iter().zip(1..).all(|(death, n)| death.generation == n && death.cause == Some(Cause::Own)));
    assert_eq!(failed.report.unwrap().exit, ExitStatus::Code(3));
    stage.clock.advance(100 * HOUR).await;
    assert_eq!(stage.told("start a"), 11, "no start any more");
    service.start().await.unwrap();
    running(&service, 12).await;
    assert_eq!((service.inspect().give_up, service.inspect().restarts), (None, 10));
    assert_eq!(stage.die(&service, 3).await, 100 * MS, "as if nothing had happened");
    assert_eq!(service.inspect().deaths.len(), 12, "but for the tally");
    stage.end().await;
}

#[tokio::test]
async fn a_stable_run_resets_the_delays() {
    let stage = Stage::set();
    let service = stage.supervise(Restart::on_failure().without_window()).await;
    for n in 0..3 {
        let delay = stage.die(&service, 1).await;
        assert_eq!(delay, Duration::from_millis(100 << n));
        stage.again(&service, delay).await;
    }
    stage.clock.advance(10 * SECOND - MS).await;
    let delay = stage.die(&service, 1).await;
    assert_eq!(delay, 800 * MS, "not quite");
    stage.again(&service, delay).await;
    stage.clock.advance(10 * SECOND).await;
    assert_eq!(stage.die(&service, 1).await, 100 * MS);
    stage.end().await;
}

#[tokio::test]
async fn a_permanent_failure_is_not_tried_again_and_exit_0_waits_for_nothing() {
    let stage = Stage::set();
    let restart = Restart::always()
        .class(ExitClass::Code(125), Treatment::Permanent)
        .class(ExitClass::Code(0), Treatment::NoBackOff);
    let service = stage.supervise(restart).await;
    for generation in 2..5 {
        stage.fake.actor().await.exit(0);
        running(&service, generation).await;
    }
    assert_eq!(stage.die(&service, 1).await, 100 * MS, "they have not grown");
    stage.again(&service, 100 * MS).await;
    stage.fake.actor().await.exit(125);
    let failed = service.wait().await.unwrap();
    assert_eq!((failed.state, failed.give_up), (ServiceState::Failed, Some(GiveUp::Permanent)));
    stage.clock.advance(100 * HOUR).await;
    assert_eq!(stage.told("start a"), 5);
    stage.end().await;
}

#[tokio::test]
async fn who_succeeds_or_is_never_restarted_has_ended() {
    for (restart, code) in [(Restart::on_failure(), 0), (Restart::never(), 1)] {
        let stage = Stage::set();
        let service = stage.supervise(restart).await;
        let mut changes = service.changes();
        stage.fake.actor().await.exit(code);
        let end = service.wait().await.unwrap();
        assert_eq!((end.state, end.report.unwrap().exit), (ServiceState::Ended, ExitStatus::Code(code)));
        assert_eq!((stage.told("start a"), changes.next().await.unwrap().state), (1, ServiceState::Ended));
        stage.end().await;
    }
}

#[tokio::test]
async fn a_stop_through_the_container_is_a_wish_for_unless_stopped_and_an_end_for_always() {
    for (restart, want) in [
        (Restart::on_failure(), ServiceState::Ended),
        (Restart::unless_stopped(), ServiceState::Ended),
        (Restart::always(), ServiceState::BackOff),
    ] {
        let stage = Stage::set();
        let service = stage.supervise(restart).await;
        let process = stage.fake.actor().await;
        service.current().unwrap().kill().unwrap();
        drop(process);
        service.wait_state(want).await.unwrap();
        stage.end().await;
    }
}

#[tokio::test]
async fn a_stop_ends_what_runs_gently_and_is_followed_by_nothing() {
    let stage = Stage::set();
    let service = stage.supervise(Restart::always()).await;
    let process = stage.fake.actor().await;
    let stopping = tokio::spawn(service.stop(15, HOUR));
    stage.fake.saw("signal a 18").await;
    let refused = service.start().await.unwrap_err();
    assert_eq!((service.state(), refused.kind()), (ServiceState::Stopping, ErrorKind::State));
    let joined = tokio::spawn(service.stop(15, HOUR));
    process.exit(0);
    stopping.await.unwrap().unwrap();
    joined.await.unwrap().unwrap();
    let stopped = service.inspect();
    assert_eq!((stopped.state, stopped.restarts, stopped.deaths.len()), (ServiceState::Stopped, 0, 0));
    assert_eq!(stopped.report.unwrap().cause, Cause::Stop { escalated: false });
    assert_eq!((stage.told("signal a 15"), stage.told("kill a")), (1, 0));
    stage.clock.advance(HOUR).await;
    service.stop(15, HOUR).await.unwrap();
    assert_eq!((service.state(), stage.told("start a")), (ServiceState::Stopped, 1));
    service.start().await.unwrap();
    running(&service, 2).await;
    stage.end().await;
}

#[tokio::test]
async fn a_service_is_stopped_in_its_own_way_and_a_second_stop_only_shortens_it() {
    let stage = Stage::set();
    let ladder = orangery::StopLadder::new().then(3, HOUR).then(15, HOUR);
    let service = stage.command(Restart::always()).stop_ladder(ladder).supervise().await.unwrap();
    let process = stage.fake.actor().await;
    let first = tokio::spawn(service.stop_gently());
    stage.fake.saw("signal a 18").await;
    let shorter = tokio::spawn(service.stop(2, Duration::from_secs(60)));
    let longer = tokio::spawn(service.stop_gently());
    // Behind all of them: of the service, then of its process.
    service.start().await.unwrap_err();
    service.current().unwrap().process().signal_in_order(1).await.unwrap();
    stage.clock.advance(Duration::from_secs(60)).await;
    assert_eq!((stage.told("signal a 3"), stage.told("signal a 2"), stage.told("kill a")), (1, 0, 1));
    drop(process);
    for stop in [first, shorter, longer] {
        stop.await.unwrap().unwrap();
    }
    assert_eq!(service.inspect().report.unwrap().cause, Cause::Stop { escalated: true });
    stage.end().await;
}

#[tokio::test]
async fn a_stop_during_the_delay_ends_it_at_once_and_a_start_cuts_it_short() {
    let stage = Stage::set();
    let service = stage.supervise(Restart::always()).await;
    stage.die(&service, 1).await;
    service.start().await.unwrap();
    running(&service, 2).await;
    stage.clock.advance(HOUR).await;
    assert_eq!(stage.told("start a"), 2, "the delay is forgotten");
    stage.die(&service, 1).await;
    service.stop(15, HOUR).await.unwrap();
    assert_eq!((service.state(), service.inspect().back_off), (ServiceState::Stopped, None));
    stage.clock.advance(HOUR).await;
    assert_eq!(stage.told("start a"), 2);
    stage.die_again_after_kill(&service).await;
    stage.end().await;
}

impl Stage {
    /// A kill while it waits is a stop too.
    async fn die_again_after_kill(&self, service: &Service) {
        service.start().await.unwrap();
        self.die(service, 1).await;
        service.kill();
        service.wait_state(ServiceState::Stopped).await.unwrap();
        self.clock.advance(HOUR).await;
        assert_eq!(self.told("start a"), 3);
    }
}

#[tokio::test]
async fn a_stop_during_the_creation_undoes_it() {
    let stage = Stage::with(10, Arc::new(SlowStart));
    let starting = tokio::spawn(stage.command(Restart::always()).supervise());
    stage.fake.saw("create a").await;
    let service = stage.supervisor.service("a").await.unwrap().unwrap();
    assert_eq!((service.state(), service.inspect().generation), (ServiceState::Starting, 1));
    service.stop(15, HOUR).await.unwrap();
    assert_eq!((service.state(), stage.fake.alive()), (ServiceState::Stopped, 0), "undone before it is told");
    assert_eq!(starting.await.unwrap().unwrap_err().kind(), ErrorKind::State);
    // Again, and dropped half way.
    let again = tokio::spawn(service.start());
    service.wait_for(|now| now.state == ServiceState::Starting).await.unwrap();
    again.abort();
    drop(service);
    stage.fake.empty().await;
    stage.end().await;
}

#[tokio::test]
async fn a_first_start_that_fails_is_told_and_one_that_fails_later_is_a_death() {
    let stage = Stage::set();
    let failing = |kind| orangery_runtime::Error::new(kind, "a test");
    stage.fake.refuse(failing(orangery_runtime::ErrorKind::System));
    let told = stage.command(Restart::always()).supervise().await.unwrap_err();
    assert_eq!(told.kind(), ErrorKind::System);
    // Its name is free at once.
    let service = stage.supervise(Restart::always()).await;
    let delay = stage.die(&service, 1).await;
    stage.fake.refuse(failing(orangery_runtime::ErrorKind::System));
    stage.clock.advance(delay + MS).await;
    let waits = service.wait_for(|now| now.generation == 2 && now.back_off.is_some()).await.unwrap();
    assert_eq!(waits.back_off.unwrap().delay, 200 * MS);
    assert!(waits.error.is_some() && waits.deaths[1].error.is_some() && waits.deaths[1].exit.is_none());
    stage.fake.refuse(failing(orangery_runtime::ErrorKind::CommandNotFound));
    stage.clock.advance(200 * MS + MS).await;
    let failed = service.wait().await.unwrap();
    assert_eq!((failed.give_up, failed.generation), (Some(GiveUp::CannotStart), 3), "that would not change");
    stage.end().await;
}

#[tokio::test]
async fn a_panic_of_its_actor_at_each_message_loses_nothing() {
    let stage = Stage::with(10, Arc::new(PanicAt::new("start", 1)));
    let lost = stage.command(Restart::always()).supervise().await.unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::SupervisorFault);
    stage.end().await;

    let stage = Stage::with(10, Arc::new(PanicAt::new("stop", 1)));
    let service = stage.supervise(Restart::always()).await;
    let process = stage.fake.actor().await;
    assert_eq!(service.stop(15, HOUR).await.unwrap_err().kind(), ErrorKind::SupervisorFault);
    assert_eq!(service.state(), ServiceState::Running);
    let stopping = tokio::spawn(service.stop(15, HOUR));
    stage.fake.saw("signal a 15").await;
    process.exit(0);
    stopping.await.unwrap().unwrap();
    stage.end().await;

    // The news of a start, of an end, of the next start and the next end.
    let stage = Stage::with(10, Arc::new(PanicAt::new("news", 4)));
    let service = stage.supervise(Restart::on_failure()).await;
    stage.die(&service, 1).await;
    stage.again(&service, 100 * MS).await;
    assert_eq!(stage.die(&service, 1).await, 200 * MS);
    stage.again(&service, 200 * MS).await;
    assert_eq!((service.inspect().deaths.len(), stage.told("start a")), (2, 3));
    stage.end().await;

    let stage = Stage::with(10, Arc::new(PanicAt::new("close", 1)));
    let service = stage.supervise(Restart::always()).await;
    drop(service);
    stage.fake.empty().await;
    stage.end().await;
}

#[tokio::test]
async fn a_delay_under_way_survives_a_panic() {
    let stage = Stage::with(10, Arc::new(PanicAt::new("stop", 1)));
    let service = stage.supervise(Restart::always().back_off(HOUR, 1, HOUR)).await;
    let delay = stage.die(&service, 1).await;
    stage.clock.advance(delay / 2).await;
    assert!(service.stop(15, HOUR).await.is_err(), "lost");
    stage.again(&service, delay / 2).await;
    stage.end().await;
}

#[tokio::test]
async fn a_broken_actor_leaves_nothing_unmanaged() {
    let stage = Stage::with(10, Arc::new(PanicAt::new("stop", u32::MAX)));
    let service = stage.supervise(Restart::always()).await;
    for _ in 0..5 {
        assert!(service.stop(15, HOUR).await.is_err());
    }
    // The one that breaks it: it may be told already that it is over.
    let _ = service.stop(15, HOUR).await;
    let failed = service.wait().await.unwrap();
    assert_eq!((failed.state, failed.give_up), (ServiceState::Failed, Some(GiveUp::SupervisorFault)));
    assert!(stage.told("kill a") > 0);
    stage.fake.empty().await;
    assert!(service.start().await.is_err());
    stage.end().await;
}

#[tokio::test]
async fn dropping_the_last_handle_kills_and_detach_opts_out() {
    let stage = Stage::set();
    let service = stage.supervise(Restart::always()).await;
    let container = service.current().unwrap();
    let changes = service.changes();
    drop(service.clone());
    assert_eq!(stage.told("kill a"), 0);
    drop(service);
    assert!(matches!(container.wait_exit().await.unwrap(), ExitStatus::Signal { signal: 9, .. }));
    drop(stage.fake.actor().await);
    stage.fake.empty().await;
    let last = changes.map(|change| change.state).collect::<Vec<_>>().await;
    assert_eq!(last, [ServiceState::Stopping, ServiceState::Stopped], "gone, with its name");
    let service = stage.supervise(Restart::always()).await;
    service.detach();
    stage.fake.actor().await.exit(1);
    let found = stage.supervisor.service("a").await.unwrap().unwrap();
    found.wait_state(ServiceState::BackOff).await.unwrap();
    drop(found);
    stage.clock.advance(SECOND).await;
    stage.fake.actor().await;
    assert_eq!(stage.supervisor.services().await.unwrap()[0].generation, 2);
    stage.end().await;
}

#[tokio::test]
async fn its_name_is_its_own_while_it_waits_and_the_end_of_the_supervisor_is_its_end() {
    let stage = Stage::set();
    let service = stage.supervise(Restart::always().back_off(HOUR, 1, HOUR)).await;
    stage.die(&service, 1).await;
    let taken = stage.supervisor.command("other").id("a").spawn().await.unwrap_err();
    assert_eq!((taken.kind(), taken.field()), (ErrorKind::Exists, Some("id")));
    let taken = stage.command(Restart::never()).supervise().await.unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::Exists);
    let mut changes = service.changes();
    stage.supervisor.shutdown().await;
    assert_eq!(changes.next().await.unwrap().state, ServiceState::Stopped);
    assert_eq!(service.wait().await.unwrap().state, ServiceState::Stopped);
    assert!(service.wait_state(ServiceState::Running).await.is_err(), "never again");
    assert!(service.start().await.is_err());
    service.stop(15, HOUR).await.unwrap();
}

/// What waits for room when the supervisor ends has not failed: it is stopped like what runs.
#[tokio::test]
async fn a_restart_that_waits_for_its_admission_at_the_end_of_the_supervisor_is_stopped() {
    let stage = Stage::with(1, Arc::new(PanicAt::new("nowhere", 0)));
    let service = stage.supervise(Restart::always()).await;
    stage.die(&service, 1).await;
    let other = stage.supervisor.command("other").id("b").spawn().await.unwrap();
    stage.clock.advance(SECOND).await;
    service.wait_state(ServiceState::Starting).await.unwrap();
    let mut changes = service.changes();
    stage.supervisor.shutdown().await;
    let mut states = Vec::new();
    while let Some(change) = changes.next().await {
        states.push(change.state);
        if change.state.is_settled() {
            break;
        }
    }
    assert_eq!(states, [ServiceState::Stopping, ServiceState::Stopped]);
    assert!(service.inspect().give_up.is_none());
    drop(other);
    stage.end().await;
}

#[tokio::test]
async fn a_restart_waits_for_its_admission_and_is_not_overtaken() {
    let stage = Stage::with(1, Arc::new(PanicAt::new("nowhere", 0)));
    let service = stage.supervise(Restart::always()).await;
    stage.die(&service, 1).await;
    let other = stage.supervisor.command("other").id("b").spawn().await.unwrap();
    let process = stage.fake.actor().await;
    stage.clock.advance(SECOND).await;
    service.wait_state(ServiceState::Starting).await.unwrap();
    assert_eq!(stage.told("create a"), 1);
    process.exit(0);
    other.wait().await.unwrap();
    let refused = stage.supervisor.command("other").id("c").spawn().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Exhausted);
    running(&service, 2).await;
    // One that waits for its admission can be stopped.
    stage.die(&service, 1).await;
    let other = stage.supervisor.command("other").id("b").spawn().await.unwrap();
    stage.clock.advance(SECOND).await;
    service.wait_state(ServiceState::Starting).await.unwrap();
    service.stop(15, HOUR).await.unwrap();
    drop(other);
    stage.end().await;
}

#[tokio::test]
async fn the_kill_passes_no_mailbox() {
    let stage = Stage::set();
    let service = stage.supervise(Restart::always()).await;
    let process = stage.fake.actor().await;
    let flood: Vec<_> = (0..100_000).map(|_| service.start()).collect();
    service.kill();
    drop(process);
    assert_eq!(service.wait_state(ServiceState::Stopped).await.unwrap().generation, 1);
    drop(flood);
    stage.end().await;
}

#[tokio::test]
async fn changes_come_in_order_and_each_has_the_next_number() {
    let stage = Stage::set();
    let service = stage.supervise(Restart::on_failure()).await;
    let mut changes = service.changes();
    stage.die(&service, 1).await;
    stage.again(&service, 100 * MS).await;
    stage.fake.actor().await.exit(0);
    let mut seen = Vec::new();
    while seen.len() < 4 {
        let change = changes.next().await.unwrap();
        seen.push((change.number, change.state, change.generation, change.delay));
    }
    let want = [
        (3, ServiceState::BackOff, 1, Some(100 * MS)),
        (4, ServiceState::Starting, 2, None),
        (5, ServiceState::Running, 2, None),
        (6, ServiceState::Ended, 2, None),
    ];
    assert_eq!(seen, want);
    let told = stage.supervisor.events(Since::Oldest);
    let told = told.filter_map(async |item| match item {
        Item::Event(event) => match event.kind {
            Kind::ServiceChanged { state, delay_ms, .. } => Some((state, event.generation, delay_ms)),
            _ => None,
        },
        _ => None,
    });
    let told: Vec<_> = told.take(6).skip(2).collect().await;
    let want = want.map(|(_, state, generation, delay)| (state, generation, delay.map(|_| 100)));
    assert_eq!(told, want, "and the feed has them too");
    drop(service);
    stage.supervisor.shutdown().await;
    assert!(changes.next().await.is_none(), "it is gone");
}

#[tokio::test]
async fn what_cannot_be_supervised_is_refused_all_at_once() {
    let stage = Stage::set();
    let sandbox = Sandbox::builder().keep_files(true).unattended(HOUR).build().unwrap();
    let command = stage.supervisor.command("prog").sandbox(&sandbox).restart(Restart::always().jitter(200));
    let refused = command.supervise().await.unwrap_err();
    assert_eq!((refused.kind(), refused.messages().count()), (ErrorKind::Invalid, 3));
    assert!(Sandbox::builder().restart(Restart::always().jitter(101)).build().is_err());
    stage.end().await;
}
