//! Readiness and health in a time that the test moves, against the scripted runtime.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says why by panicking")]

use std::sync::Arc;
use std::time::Duration;

use orangery::events::{Item, Kind, Since};
use orangery::restart::GiveUp;
use orangery::stream::log::LogOptions;
use orangery::testing::{Actor, FakeRuntime, VirtualClock};
use orangery::{
    Cause, Command, ErrorKind, ExitClass, Group, Health, HealthState, OnUnhealthy, Probe, ProcessRole, Readiness,
    Restart, ServiceState, Supervisor, Treatment,
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
        let (clock, fake) = (VirtualClock::default(), FakeRuntime::default());
        let builder = Supervisor::builder().shards(1).clock(&clock);
        let supervisor = builder.build_on(Arc::new(fake.clone())).unwrap();
        Self { clock, fake, supervisor }
    }

    fn command(&self) -> Command {
        self.supervisor.command("prog").id("a")
    }

    /// How often it was told this.
    fn told(&self, line: &str) -> usize {
        self.fake.log().iter().filter(|told| *told == line).count()
    }

    /// Somebody runs a probe after this time and not before, and it ends with this code.
    async fn asked(&self, after: Duration, code: i32) {
        let before = self.told("exec a");
        self.clock.advance(after - MS).await;
        assert_eq!(self.told("exec a"), before, "too early");
        self.clock.advance(MS).await;
        self.fake.actor().await.exit(code);
        self.clock.advance(Duration::ZERO).await;
    }

    async fn end(self) {
        self.supervisor.shutdown().await;
        assert_eq!(self.fake.alive(), 0);
    }
}

fn probe() -> Probe {
    Probe::exec(["check"])
}

fn health() -> Health {
    Health::new(probe()).interval(SECOND)
}

/// What it was told by, in order.
async fn kinds(supervisor: &Supervisor, until: &str) -> Vec<Kind> {
    let mut events = supervisor.events(Since::Oldest);
    let mut seen = Vec::new();
    while let Some(Item::Event(event)) = events.recv().await {
        seen.push(event.kind.clone());
        if event.kind.name() == until {
            break;
        }
    }
    seen
}

#[tokio::test]
async fn without_a_readiness_it_is_ready_and_nobody_asks() {
    let stage = Stage::set();
    let container = stage.command().spawn().await.unwrap();
    container.ready().await.unwrap();
    let vitals = container.inspect().vitals;
    assert_eq!((vitals.ready, vitals.health), (true, None));
    drop(container);
    stage.end().await;
}

#[tokio::test]
async fn a_delay_counts_time_that_is_not_spent_in_a_pause() {
    let stage = Stage::set();
    let readiness = Readiness::new(Probe::delay(HOUR)).timeout(2 * HOUR);
    let container = stage.command().ready_when(readiness).spawn().await.unwrap();
    stage.clock.advance(HOUR - MS).await;
    container.pause().await.unwrap();
    stage.clock.advance(9 * HOUR).await;
    assert!(!container.inspect().vitals.ready);
    container.resume().await.unwrap();
    stage.clock.advance(Duration::ZERO).await;
    assert!(!container.inspect().vitals.ready);
    stage.clock.advance(MS).await;
    container.ready().await.unwrap();
    assert!(matches!(kinds(&stage.supervisor, "container_ready").await.last(), Some(Kind::ContainerReady { .. })));
    drop(container);
    stage.end().await;
}

#[tokio::test]
async fn an_attempt_is_listed_as_what_it_is() {
    let stage = Stage::set();
    let container = stage.command().healthy_while(health()).spawn().await.unwrap();
    let main = stage.fake.actor().await;
    stage.clock.advance(SECOND).await;
    let probe = stage.fake.actor().await;
    let _command = container.command("more").spawn().await.unwrap();
    let roles = || container.inspect().processes.iter().map(|process| process.role).collect::<Vec<_>>();
    while roles().len() < 3 {
        tokio::task::yield_now().await;
    }
    assert_eq!(roles(), [ProcessRole::Main, ProcessRole::Probe, ProcessRole::Exec]);
    assert_eq!(container.processes()[1].role(), ProcessRole::Probe);
    drop((container, main, probe));
    stage.end().await;
}

#[tokio::test]
async fn a_line_is_found_however_it_is_cut_and_readers_have_all_of_it() {
    let stage = Stage::set();
    let (container, stdout, _) = stage.command().ready_when(Probe::line("is ready")).spawn_with_output().await.unwrap();
    let mut process = stage.fake.actor().await;
    process.say(b"is rea\ndy; ");
    stage.clock.advance(SECOND).await;
    assert!(!container.inspect().vitals.ready);
    process.say(b"it is re");
    process.say(b"ady");
    container.ready().await.unwrap();
    process.exit(0);
    assert_eq!(stdout.collect(1 << 16).await.to_vec(), b"is rea\ndy; it is ready");
    assert_eq!(container.wait().await.unwrap().cause, Cause::Own);
    container.ready().await.unwrap();
    stage.end().await;
}

#[tokio::test]
async fn a_line_of_an_earlier_run_in_the_same_log_is_no_sign() {
    let stage = Stage::set();
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let command = stage.command().log(dir.path().join("log"), LogOptions::default());
        let container = command.ready_when(Probe::line("up")).spawn().await.unwrap();
        let mut process = stage.fake.actor().await;
        stage.clock.advance(SECOND).await;
        assert!(!container.inspect().vitals.ready);
        process.say(b"up\n");
        container.ready().await.unwrap();
        process.exit(0);
        assert!(container.wait().await.unwrap().success());
    }
    stage.end().await;
}

#[tokio::test]
async fn a_start_that_takes_too_long_is_asked_to_end_then_killed_and_says_why() {
    let stage = Stage::set();
    let container = stage.command().ready_when(Probe::line("ready")).spawn().await.unwrap();
    let process = stage.fake.actor().await;
    stage.clock.advance(59 * SECOND).await;
    assert_eq!(stage.told("signal a 15"), 0);
    stage.clock.advance(SECOND).await;
    stage.fake.saw("signal a 18").await;
    assert_eq!(stage.told("kill a"), 0);
    stage.clock.advance(10 * SECOND).await;
    drop(process);
    let report = container.wait().await.unwrap();
    assert_eq!((report.cause.clone(), report.shell_code()), (Cause::NotReady, 137));
    let error = container.ready().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotReady);
    assert_eq!(error.to_string(), "it was not ready in time: it has not written \"ready\"");
    stage.end().await;
}

#[tokio::test]
async fn a_command_is_asked_until_it_succeeds_with_a_pause_between() {
    let stage = Stage::set();
    let readiness = Readiness::new(probe()).interval(SECOND);
    let container = stage.command().ready_when(readiness).spawn().await.unwrap();
    let process = stage.fake.actor().await;
    let mut check = stage.fake.actor().await;
    check.say(b"not yet\n");
    check.exit(7);
    stage.clock.advance(Duration::ZERO).await;
    assert_eq!(container.inspect().vitals.failure.as_deref(), Some("exit code 7: not yet"));
    stage.asked(SECOND, 1).await;
    // Its own time is no pause between two.
    stage.clock.advance(SECOND).await;
    let slow: Actor = stage.fake.actor().await;
    stage.clock.advance(SECOND / 2).await;
    slow.exit(0);
    container.ready().await.unwrap();
    assert_eq!(container.inspect().vitals.failure, None);
    stage.clock.advance(HOUR).await;
    assert_eq!(stage.told("exec a"), 3, "asked no more");
    process.exit(0);
    assert!(container.wait().await.unwrap().success());
    stage.end().await;
}

#[tokio::test]
async fn a_service_is_started_when_it_is_ready_and_not_before() {
    let stage = Stage::set();
    let command = stage.command().ready_when(Probe::delay(SECOND)).restart(Restart::always().jitter(0));
    let starting = tokio::spawn(command.supervise());
    stage.fake.saw("start a").await;
    let process = stage.fake.actor().await;
    stage.clock.advance(SECOND - MS).await;
    assert!(!starting.is_finished());
    assert_eq!(stage.supervisor.services().await.unwrap()[0].state, ServiceState::Unready);
    stage.clock.advance(MS).await;
    let service = starting.await.unwrap().unwrap();
    assert_eq!(service.state(), ServiceState::Running);
    assert!(service.inspect().vitals.unwrap().ready);
    // The next incarnation has to become ready of its own.
    process.exit(1);
    service.wait_state(ServiceState::BackOff).await.unwrap();
    stage.clock.advance(100 * MS).await;
    let unready = service.wait_state(ServiceState::Unready).await.unwrap();
    assert_eq!((unready.generation, unready.vitals.unwrap().ready), (2, false));
    stage.clock.advance(SECOND).await;
    service.wait_state(ServiceState::Running).await.unwrap();
    drop(service);
    stage.end().await;
}

#[tokio::test]
async fn a_first_start_that_is_not_ready_is_told_and_a_later_one_is_a_death() {
    let stage = Stage::set();
    let readiness = Readiness::new(probe()).interval(SECOND).timeout(SECOND / 2);
    let command = stage.command().ready_when(readiness).restart(Restart::on_failure().jitter(0));
    let service = command.supervise();
    let failing = async {
        let process = stage.fake.actor().await;
        stage.fake.actor().await.exit(3);
        stage.clock.advance(Duration::ZERO).await;
        stage.clock.advance(SECOND / 2).await;
        stage.fake.saw("signal a 15").await;
        process.exit(0);
    };
    let (error, ()) = tokio::join!(service, failing);
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotReady);
    assert_eq!(error.to_string(), "it was not ready in time: exit code 3");

    let readiness = Readiness::new(probe()).interval(SECOND).timeout(SECOND / 2);
    let command = stage.command().ready_when(readiness).restart(Restart::on_failure().jitter(0));
    let passing = async {
        let process = stage.fake.actor().await;
        stage.fake.actor().await.exit(0);
        process
    };
    let (service, process) = tokio::join!(command.supervise(), passing);
    let service = service.unwrap();
    process.exit(9);
    service.wait_state(ServiceState::BackOff).await.unwrap();
    stage.clock.advance(100 * MS).await;
    let process = stage.fake.actor().await;
    stage.fake.actor().await.exit(3);
    stage.clock.advance(Duration::ZERO).await;
    stage.clock.advance(SECOND / 2).await;
    process.exit(0);
    let again = service.wait_for(|now| now.deaths.len() == 2 && now.state == ServiceState::BackOff).await.unwrap();
    assert_eq!(again.deaths[1].cause, Some(Cause::NotReady));
    assert_eq!(again.back_off.unwrap().delay, 200 * MS);
    drop(service);
    stage.end().await;
}

#[tokio::test]
async fn an_end_before_it_was_ready_is_no_success_and_a_stop_is_a_stop() {
    let stage = Stage::set();
    let command = || stage.command().ready_when(Probe::delay(SECOND));
    let (error, ()) = tokio::join!(command().supervise(), async { stage.fake.actor().await.exit(0) });
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotReady);
    assert!(error.to_string().starts_with("it has ended before it was ready: Code(0)"), "{error}");

    let starting = tokio::spawn(command().supervise());
    stage.fake.saw("start a").await;
    let process = stage.fake.actor().await;
    let service = stage.supervisor.service("a").await.unwrap().unwrap();
    service.wait_state(ServiceState::Unready).await.unwrap();
    let stopping = service.stop(15, SECOND);
    stage.fake.saw("signal a 15").await;
    process.exit(0);
    stopping.await.unwrap();
    assert_eq!((service.state(), service.inspect().vitals), (ServiceState::Stopped, None));
    starting.await.unwrap().unwrap_err();
    drop(service);
    stage.end().await;
}

#[tokio::test]
async fn failures_in_a_row_make_it_unhealthy_and_it_is_restarted_whatever_its_policy() {
    let stage = Stage::set();
    let service = stage.command().healthy_while(health()).supervise().await.unwrap();
    let process = stage.fake.actor().await;
    for code in [0, 1, 1, 0, 1, 1] {
        stage.asked(SECOND, code).await;
        let vitals = service.current().unwrap().inspect().vitals;
        assert_eq!(vitals.health, Some(HealthState::Healthy));
    }
    stage.asked(SECOND, 1).await;
    let sick = service.wait_for(|now| now.vitals.as_ref().is_some_and(|it| it.health == Some(HealthState::Unhealthy)));
    assert_eq!(sick.await.unwrap().vitals.unwrap().failures, 3);
    stage.fake.saw("signal a 18").await;
    process.exit(0);
    let dead = service.wait_state(ServiceState::BackOff).await.unwrap();
    assert_eq!(dead.deaths[0].cause, Some(Cause::Unhealthy));
    stage.clock.advance(100 * MS).await;
    let again = service.wait_state(ServiceState::Running).await.unwrap();
    assert_eq!((again.generation, again.vitals.unwrap().health), (2, Some(HealthState::Starting)));
    let told = kinds(&stage.supervisor, "container_stopping").await;
    let health: Vec<_> = told.iter().filter(|kind| kind.name() == "container_health").collect();
    assert_eq!(health.len(), 2);
    let page = stage.supervisor.metrics();
    for line in [
        "orangery_container_health{health=\"starting\"} 1",
        "orangery_container_health{health=\"unhealthy\"} 0",
        "orangery_probes_total{result=\"failed\"} 5",
        "orangery_exits_total{process=\"main\",cause=\"unhealthy\"} 1",
    ] {
        assert!(page.contains(line), "{line}: {page}");
    }
    drop(service);
    stage.end().await;
}

#[tokio::test]
async fn nothing_fails_while_it_is_paused_or_in_its_grace() {
    let stage = Stage::set();
    let health = health().grace(10 * SECOND).failures(1).on_unhealthy(OnUnhealthy::Report).successes(2);
    let container = stage.command().healthy_while(health).spawn().await.unwrap();
    let process = stage.fake.actor().await;
    let now = || container.inspect().vitals.health.unwrap();
    stage.asked(SECOND, 1).await;
    assert_eq!(now(), HealthState::Starting, "in its grace");
    // It is paused while a probe runs, which then fails.
    stage.clock.advance(SECOND).await;
    let check = stage.fake.actor().await;
    container.pause().await.unwrap();
    check.exit(1);
    stage.clock.advance(HOUR).await;
    assert_eq!((now(), stage.told("exec a")), (HealthState::Starting, 2));
    container.resume().await.unwrap();
    stage.asked(SECOND, 1).await;
    assert_eq!(now(), HealthState::Unhealthy, "the grace has passed");
    stage.asked(SECOND, 0).await;
    assert_eq!(now(), HealthState::Unhealthy);
    stage.asked(SECOND, 0).await;
    assert_eq!(now(), HealthState::Healthy);
    assert_eq!(stage.told("signal a 15"), 0, "it was to be reported, no more");
    process.exit(0);
    assert_eq!(container.wait().await.unwrap().cause, Cause::Own);
    stage.end().await;
}

#[tokio::test]
async fn an_unhealthy_one_that_is_to_stop_has_failed_and_a_class_says_otherwise() {
    let stage = Stage::set();
    let stop = health().failures(1).on_unhealthy(OnUnhealthy::Stop).ended_by(2, SECOND);
    let command = stage.command().healthy_while(stop.clone()).restart(Restart::always());
    let service = command.clone().supervise().await.unwrap();
    let process = stage.fake.actor().await;
    stage.asked(SECOND, 1).await;
    stage.fake.saw("signal a 2").await;
    stage.clock.advance(SECOND).await;
    stage.fake.saw("kill a").await;
    drop(process);
    let end = service.wait().await.unwrap();
    assert_eq!((end.state, end.give_up), (ServiceState::Failed, Some(GiveUp::Unhealthy)));
    drop(service);
    stage.fake.empty().await;

    let classed = Restart::always().class(ExitClass::Unhealthy, Treatment::Prevent);
    let service = command.restart(classed).id("a").supervise().await.unwrap();
    let process = stage.fake.actor().await;
    stage.asked(SECOND, 1).await;
    stage.clock.advance(SECOND).await;
    drop(process);
    assert_eq!(service.wait().await.unwrap().state, ServiceState::Ended);
    drop(service);
    stage.end().await;
}

#[tokio::test]
async fn a_group_waits_for_readiness_and_fails_with_a_member_that_never_is() {
    let stage = Stage::set();
    let first = || stage.supervisor.command("prog").ready_when(Readiness::new(Probe::line("up")).timeout(SECOND));
    let builder = |name| Group::builder(name).service("db", first()).service("web", stage.supervisor.command("prog"));
    let start = |name| {
        let (builder, supervisor) = (builder(name), stage.supervisor.clone());
        tokio::spawn(async move { builder.start(&supervisor).await })
    };
    let starting = start("shop");
    let mut db = stage.fake.actor().await;
    stage.clock.advance(SECOND / 2).await;
    assert_eq!(stage.fake.log().iter().filter(|line| line.starts_with("start ")).count(), 1);
    db.say(b"up\n");
    let group = starting.await.unwrap().unwrap();
    drop((group, db, stage.fake.actor().await));
    stage.fake.empty().await;

    let starting = start("other");
    let process = stage.fake.actor().await;
    stage.clock.advance(SECOND).await;
    process.exit(0);
    let error = starting.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("it was not ready in time"), "{error}");
    stage.end().await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_named() {
    let stage = Stage::set();
    for (command, field) in [
        (stage.command().ready_when(Probe::exec([""; 0])), "ready_when.probe"),
        (stage.command().ready_when(Probe::line("")), "ready_when.probe"),
        (stage.command().ready_when(Probe::line("a\nb")), "ready_when.probe"),
        (stage.command().ready_when(Probe::tcp(0)), "ready_when.probe"),
        (stage.command().ready_when(Readiness::new(probe()).timeout(Duration::ZERO)), "ready_when.timeout"),
        (stage.command().ready_when(Readiness::new(Probe::delay(HOUR)).timeout(HOUR)), "ready_when.timeout"),
        (stage.command().ready_when(Readiness::new(probe()).extendable(SECOND)), "ready_when.extendable"),
        (stage.command().ready_when(Probe::http(80, "no-slash")), "ready_when.probe"),
        (stage.command().healthy_while(Probe::notify()), "healthy_while.probe"),
        (stage.command().watchdog(Duration::ZERO), "watchdog"),
        (stage.command().healthy_while(Probe::line("x")), "healthy_while.probe"),
        (stage.command().healthy_while(health().failures(0)), "healthy_while.failures"),
        (stage.command().healthy_while(health().interval(Duration::ZERO)), "healthy_while.interval"),
        (stage.command().healthy_while(health().ended_by(65, SECOND)), "healthy_while.ended_by[0]"),
    ] {
        let error = command.clone().spawn().await.unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::Invalid, Some(field)));
        assert_eq!(command.supervise().await.unwrap_err().field(), Some(field));
    }
    assert!(stage.fake.log().is_empty(), "nothing was made");
    stage.end().await;
}
