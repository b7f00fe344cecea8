//! Groups in a time that the test moves, against the scripted runtime.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says why by panicking")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt as _;
use orangery::events::{Item, Kind, Since};
use orangery::faults::{Fault, FaultPoint, FaultPolicy, Site};
use orangery::restart::GiveUp;
use orangery::testing::{Actor, FakeRuntime, VirtualClock};
use orangery::{
    Command, ErrorKind, ExitClass, Group, GroupBuilder, Restart, ServiceInspect, ServiceState, Strategy, Supervisor,
    Treatment,
};

const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);

struct Stage {
    clock: VirtualClock,
    fake: FakeRuntime,
    supervisor: Supervisor,
    /// Processes that run, by their containers.
    alive: BTreeMap<String, Actor>,
    read: usize,
}

/// Panics over the nth message of this name to the actor of this group.
struct PanicAt(&'static str, &'static str, u64);

impl FaultPolicy for PanicAt {
    fn decide(&self, at: &FaultPoint<'_>) -> Fault {
        let hit = at.site == Site::GroupMessage(self.1) && at.container == self.0 && at.count == self.2;
        if hit { Fault::Panic } else { Fault::Continue }
    }
}

impl Stage {
    fn set() -> Self {
        Self::faulty(|builder| builder)
    }

    fn faulty(set: impl FnOnce(orangery::SupervisorBuilder) -> orangery::SupervisorBuilder) -> Self {
        let (clock, fake) = (VirtualClock::default(), FakeRuntime::default());
        let builder = set(Supervisor::builder().shards(1).clock(&clock));
        let supervisor = builder.build_on(Arc::new(fake.clone())).unwrap();
        Self { clock, fake, supervisor, alive: BTreeMap::new(), read: 0 }
    }

    fn command(&self) -> Command {
        self.supervisor.command("prog").restart(Restart::on_failure().jitter(0))
    }

    /// `a`, `b` and `c`, one after the other.
    fn three(&self, strategy: Strategy) -> GroupBuilder {
        let group = Group::builder("g").strategy(strategy).stop_with(15, HOUR);
        group.service("a", self.command()).service("b", self.command()).service("c", self.command())
    }

    /// Wait until the fake was asked this, after everything that was read before; what lay between.
    async fn until(&mut self, line: &str) -> Vec<String> {
        loop {
            let log: Vec<_> = self.fake.log().into_iter().skip(self.read).collect();
            if let Some(at) = log.iter().position(|told| told == line) {
                self.read += at + 1;
                let starts = log[..=at].iter().filter_map(|told| told.strip_prefix("start "));
                for id in starts.map(str::to_owned).collect::<Vec<_>>() {
                    let process = self.fake.actor().await;
                    self.alive.insert(id, process);
                }
                return log[..=at].to_vec();
            }
            tokio::task::yield_now().await;
        }
    }

    /// It ends by itself.
    fn ends(&mut self, id: &str, code: i32) {
        self.alive.remove(id).unwrap().exit(code);
    }

    /// TERM has come: nothing else was stopped before, and it obeys.
    async fn obeys(&mut self, id: &str) {
        let before = self.until(&format!("signal {id} 15")).await;
        assert!(!before.iter().any(|told| told.starts_with("start ")), "{before:?}");
        let signals = before.iter().filter(|told| told.starts_with("signal ") && told.ends_with(" 15"));
        assert_eq!(signals.count(), 1, "each is gone before the next TERM: {before:?}");
        self.until(&format!("signal {id} 18")).await;
        self.ends(id, 0);
        self.until(&format!("delete {id}")).await;
    }

    async fn end(mut self) {
        // They hold their output, and no grace will pass.
        self.alive.clear();
        self.supervisor.shutdown().await;
        assert_eq!(self.fake.alive(), 0);
    }
}

async fn waits(group: &Group, member: &str) -> ServiceInspect {
    group.service(member).unwrap().wait_state(ServiceState::BackOff).await.unwrap()
}

#[tokio::test]
async fn three_start_in_order_and_stop_in_reverse_each_gone_before_the_next_term() {
    let mut stage = Stage::set();
    let group = stage.three(Strategy::OneForOne).start(&stage.supervisor).await.unwrap();
    assert_eq!(group.state(), ServiceState::Running);
    stage.until("start g.c").await;
    let log = stage.fake.log();
    let starts: Vec<_> = log.iter().filter(|told| told.starts_with("start") || told.starts_with("create")).collect();
    assert_eq!(starts, ["create g.a", "start g.a", "create g.b", "start g.b", "create g.c", "start g.c"]);
    let stopping = tokio::spawn(group.stop(15, HOUR));
    for id in ["g.c", "g.b", "g.a"] {
        stage.obeys(id).await;
    }
    stopping.await.unwrap().unwrap();
    assert_eq!(group.state(), ServiceState::Stopped);
    stage.clock.advance(HOUR).await;
    assert_eq!(stage.fake.alive(), 0, "nobody comes back");
    group.start().await.unwrap();
    assert_eq!((group.state(), group.inspect().whole.generation), (ServiceState::Running, 2));
    drop(group);
    stage.end().await;
}

#[tokio::test]
async fn one_for_one_restarts_the_one_after_its_delay() {
    let mut stage = Stage::set();
    let group = stage.three(Strategy::OneForOne).start(&stage.supervisor).await.unwrap();
    stage.until("start g.c").await;
    stage.ends("g.b", 1);
    assert_eq!(waits(&group, "b").await.back_off.unwrap().delay, Duration::from_millis(100));
    stage.clock.advance(SECOND).await;
    let between = stage.until("start g.b").await;
    assert!(!between.iter().any(|told| told.starts_with("signal")), "{between:?}");
    assert_eq!((group.state(), group.service("b").unwrap().inspect().restarts), (ServiceState::Running, 1));
    stage.end().await;
}

#[tokio::test]
async fn one_for_all_stops_all_in_reverse_and_starts_all_in_order() {
    let mut stage = Stage::set();
    let group = stage.three(Strategy::OneForAll).start(&stage.supervisor).await.unwrap();
    stage.until("start g.c").await;
    stage.ends("g.b", 1);
    stage.obeys("g.c").await;
    stage.obeys("g.a").await;
    waits(&group, "b").await;
    stage.clock.advance(SECOND).await;
    for id in ["g.a", "g.b", "g.c"] {
        let between = stage.until(&format!("start {id}")).await;
        assert_eq!(between.iter().filter(|told| told.starts_with("start")).count(), 1, "{between:?}");
    }
    let now = |member: &str| group.service(member).unwrap().inspect();
    assert_eq!(["a", "b", "c"].map(|member| now(member).generation), [2, 2, 2]);
    assert_eq!(now("b").deaths.len() + now("a").deaths.len() + now("c").deaths.len(), 1, "only one has died");
    // Once more, the other way round: the windows are those of the ones that die.
    stage.ends("g.a", 1);
    stage.obeys("g.c").await;
    stage.obeys("g.b").await;
    assert_eq!(waits(&group, "a").await.back_off.unwrap().delay, Duration::from_millis(100));
    stage.end().await;
}

#[tokio::test]
async fn rest_for_one_leaves_the_former_alone() {
    let mut stage = Stage::set();
    let group = stage.three(Strategy::RestForOne).start(&stage.supervisor).await.unwrap();
    stage.until("start g.c").await;
    stage.ends("g.b", 1);
    stage.obeys("g.c").await;
    waits(&group, "b").await;
    stage.clock.advance(SECOND).await;
    stage.until("start g.b").await;
    stage.until("start g.c").await;
    assert_eq!(group.service("a").unwrap().inspect().generation, 1);
    stage.end().await;
}

#[tokio::test]
async fn a_spent_window_ends_the_group_and_a_start_by_hand_begins_anew() {
    let mut stage = Stage::set();
    let once = stage.supervisor.command("prog").restart(Restart::always().at_most(0));
    let group = Group::builder("g").stop_with(15, HOUR).service("a", stage.command()).service("b", once);
    let group = group.service("c", stage.command()).start(&stage.supervisor).await.unwrap();
    stage.until("start g.c").await;
    stage.ends("g.b", 1);
    stage.obeys("g.c").await;
    stage.obeys("g.a").await;
    let failed = group.wait().await.unwrap();
    assert_eq!((failed.state, failed.give_up), (ServiceState::Failed, Some(GiveUp::Member)));
    assert!(failed.error.unwrap().contains("\"b\"") && failed.deaths.len() == 1);
    assert_eq!(group.service("b").unwrap().inspect().give_up, Some(GiveUp::WindowSpent));
    stage.clock.advance(HOUR).await;
    group.start().await.unwrap();
    stage.until("start g.c").await;
    assert_eq!(group.service("b").unwrap().inspect().generation, 2);
    stage.end().await;
}

#[tokio::test]
async fn a_group_is_restarted_by_its_own_restart_and_gives_up_to_the_group_above() {
    let mut stage = Stage::set();
    let fragile = stage.supervisor.command("prog").restart(Restart::always().at_most(0));
    let inner = Group::builder("inner").stop_with(15, HOUR).service("x", stage.command()).service("y", fragile);
    let inner = inner.restart(Restart::always().at_most(1).jitter(0));
    let outer = Group::builder("outer").stop_with(15, HOUR).service("a", stage.command()).group(inner);
    let outer = outer.service("z", stage.command()).start(&stage.supervisor).await.unwrap();
    stage.until("start outer.z").await;
    assert!(stage.alive.contains_key("outer.inner.y"));
    stage.ends("outer.inner.y", 1);
    stage.obeys("outer.inner.x").await;
    let inner = outer.group("inner").unwrap();
    let waits = inner.wait_for(|now| now.state == ServiceState::BackOff).await.unwrap();
    assert_eq!((waits.back_off.unwrap().delay, outer.state()), (Duration::from_millis(100), ServiceState::Running));
    stage.clock.advance(SECOND).await;
    stage.until("start outer.inner.y").await;
    inner.wait_for(|now| now.state == ServiceState::Running && now.generation == 2).await.unwrap();
    // Once was enough: now the group above stops the rest, in reverse order.
    stage.ends("outer.inner.y", 1);
    stage.obeys("outer.inner.x").await;
    stage.obeys("outer.z").await;
    stage.obeys("outer.a").await;
    let failed = outer.wait().await.unwrap();
    assert_eq!((failed.state, failed.give_up), (ServiceState::Failed, Some(GiveUp::Member)));
    assert_eq!(inner.wait().await.unwrap().give_up, Some(GiveUp::WindowSpent));
    stage.end().await;
}

#[tokio::test]
async fn a_permanent_failure_is_one_all_the_way_up() {
    let mut stage = Stage::set();
    let hopeless = stage.command().restart(Restart::always().class(ExitClass::Code(125), Treatment::Permanent));
    let inner = Group::builder("inner").restart(Restart::always()).service("x", hopeless);
    let outer = Group::builder("outer").restart(Restart::always()).group(inner);
    let outer = outer.start(&stage.supervisor).await.unwrap();
    stage.until("start outer.inner.x").await;
    stage.ends("outer.inner.x", 125);
    let failed = outer.wait().await.unwrap();
    assert_eq!((failed.give_up, failed.restarts), (Some(GiveUp::Permanent), 0));
    stage.end().await;
}

#[tokio::test]
async fn who_has_done_its_work_holds_up_nobody_and_all_together_are_an_end() {
    let mut stage = Stage::set();
    let group = Group::builder("g").service("init", stage.command()).service("main", stage.command());
    let group = group.start(&stage.supervisor).await.unwrap();
    stage.until("start g.main").await;
    stage.ends("g.init", 0);
    group.service("init").unwrap().wait_state(ServiceState::Ended).await.unwrap();
    stage.ends("g.main", 0);
    assert_eq!(group.wait().await.unwrap().state, ServiceState::Ended);
    stage.end().await;
}

#[tokio::test]
async fn a_first_start_that_fails_is_told_and_leaves_nothing() {
    let stage = Stage::set();
    let taken = stage.supervisor.command("prog").id("g.b").spawn().await.unwrap();
    let refused = stage.three(Strategy::OneForOne).start(&stage.supervisor).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Exists);
    drop(taken);
    drop(stage.fake.actor().await);
    stage.fake.empty().await;
    let why = orangery_runtime::Error::new(orangery_runtime::ErrorKind::CommandNotFound, "a test");
    stage.fake.refuse(why);
    let group = Group::builder("h").service("a", stage.command()).start(&stage.supervisor).await;
    assert_eq!(group.unwrap_err().kind(), ErrorKind::CommandNotFound);
    stage.end().await;
}

#[tokio::test]
async fn a_circle_and_unknown_names_are_refused_before_anything_is_made() {
    let stage = Stage::set();
    let circle = stage.three(Strategy::OneForOne).service("d", stage.command()).after(["e"]);
    let circle = circle.service("e", stage.command()).after(["d", "a"]).start(&stage.supervisor).await.unwrap_err();
    assert!(circle.to_string().contains("d -> e -> d"), "{circle}");
    let nobody = stage.three(Strategy::OneForOne).after(["nobody"]).start(&stage.supervisor).await.unwrap_err();
    assert_eq!((nobody.kind(), nobody.field()), (ErrorKind::Invalid, Some("members[2].after")));
    assert!(Group::builder("g").start(&stage.supervisor).await.is_err(), "an empty one");
    assert!(stage.fake.log().is_empty());
    stage.end().await;
}

#[tokio::test]
async fn dropping_it_kills_all_of_it_and_a_kill_is_a_stop() {
    let mut stage = Stage::set();
    let inner = Group::builder("inner").service("x", stage.command());
    let builder = stage.three(Strategy::OneForAll).group(inner);
    let group = builder.clone().start(&stage.supervisor).await.unwrap();
    stage.until("start g.inner.x").await;
    group.kill();
    stage.alive.clear();
    assert_eq!(group.wait().await.unwrap().state, ServiceState::Stopped);
    stage.fake.empty().await;
    group.start().await.unwrap();
    stage.until("start g.inner.x").await;
    let member = group.service("a").unwrap();
    drop(group);
    stage.alive.clear();
    stage.fake.empty().await;
    assert!(member.wait().await.is_ok(), "its own handle lives on");
    stage.end().await;
}

#[tokio::test]
async fn the_end_of_the_supervisor_is_its_end() {
    let mut stage = Stage::set();
    let mut events = stage.supervisor.events(Since::Oldest);
    let inner = Group::builder("inner").service("x", stage.command());
    let builder = stage.three(Strategy::OneForAll).group(inner).restart(Restart::always());
    let group = builder.start(&stage.supervisor).await.unwrap();
    stage.until("start g.inner.x").await;
    stage.alive.clear();
    stage.supervisor.shutdown().await;
    assert_eq!(group.wait().await.unwrap().state, ServiceState::Stopped);
    assert!(group.start().await.is_err());
    assert_eq!(stage.fake.alive(), 0);
    // To be ended is no failure of anything.
    while let Some(item) = events.recv().await {
        let Item::Event(event) = item else { panic!("events were lost") };
        if let Kind::GroupChanged { state, give_up, .. } | Kind::ServiceChanged { state, give_up, .. } = event.kind {
            assert_eq!((state == ServiceState::Failed, give_up), (false, None), "{event:?}");
        }
    }
}

#[tokio::test]
async fn a_detached_one_lives_on_and_is_found_by_its_name() {
    let mut stage = Stage::set();
    let inner = Group::builder("inner").service("x", stage.command());
    let builder = stage.three(Strategy::OneForOne).group(inner);
    let group = builder.clone().start(&stage.supervisor).await.unwrap();
    stage.until("start g.inner.x").await;
    let taken = builder.clone().start(&stage.supervisor).await.unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::Exists);
    group.detach();
    assert!(stage.supervisor.group("nobody").is_none());
    for name in ["g", "g.inner"] {
        let again = stage.supervisor.group(name).unwrap();
        assert_eq!(again.state(), ServiceState::Running);
    }
    assert_eq!(stage.fake.alive(), 4);
    let again = stage.supervisor.group("g").unwrap();
    again.kill();
    stage.alive.clear();
    assert_eq!(again.wait().await.unwrap().state, ServiceState::Stopped);
    again.start().await.unwrap();
    drop(again);
    // Its end is the supervisor's.
    stage.until("start g.inner.x").await;
    stage.end().await;
}

#[tokio::test]
async fn a_name_is_free_when_its_group_has_gone() {
    let mut stage = Stage::set();
    for _ in 0..3 {
        let group = Group::builder("g").service("a", stage.supervisor.command("prog")).start(&stage.supervisor).await;
        let group = group.unwrap();
        stage.until("start g.a").await;
        drop(group);
        assert!(stage.supervisor.group("g").is_none());
        stage.alive.clear();
        stage.until("delete g.a").await;
        while stage.supervisor.services().await.unwrap().len() + stage.supervisor.list().await.unwrap().len() > 0 {}
    }
    stage.end().await;
}

#[tokio::test]
async fn its_changes_come_in_order_to_readers_and_to_the_feed() {
    let mut stage = Stage::set();
    let mut events = stage.supervisor.events(Since::Oldest);
    let once =
        stage.supervisor.command("prog").restart(Restart::never().class(ExitClass::Code(1), Treatment::Permanent));
    let builder = Group::builder("g").service("a", once);
    let group = builder.start(&stage.supervisor).await.unwrap();
    let mut changes = group.changes();
    stage.until("start g.a").await;
    stage.ends("g.a", 1);
    let failed = changes.next().await.unwrap();
    assert_eq!((failed.id.as_str(), failed.number, failed.generation), ("g", 3, 1));
    assert_eq!((failed.state, failed.give_up), (ServiceState::Failed, Some(GiveUp::Permanent)));
    drop(group);
    assert!(changes.next().await.is_none_or(|change| change.state.is_settled()));
    let mut states = Vec::new();
    while states.last() != Some(&ServiceState::Failed) {
        let Some(Item::Event(event)) = events.recv().await else { continue };
        if let Kind::GroupChanged { state, .. } = event.kind {
            assert_eq!(event.container.as_deref(), Some("g"));
            states.push(state);
        }
    }
    assert_eq!(states, [ServiceState::Starting, ServiceState::Running, ServiceState::Failed]);
    stage.end().await;
}

/// Holds up the first start of a service, until it is let go, and then panics over it.
struct PanicLate(Mutex<Option<std::sync::mpsc::Receiver<()>>>);

impl FaultPolicy for PanicLate {
    fn decide(&self, at: &FaultPoint<'_>) -> Fault {
        let first = (at.site == Site::ServiceMessage("start")).then(|| self.0.lock().unwrap().take()).flatten();
        match first.map(|gate| gate.recv()) {
            Some(_) => Fault::Panic,
            None => Fault::Continue,
        }
    }
}

/// It was lost before the stop had come, and is not made up for after it.
#[tokio::test]
async fn a_start_that_a_panic_loses_is_not_asked_again_after_a_stop() {
    let (go, gate) = std::sync::mpsc::channel();
    let stage = Stage::faulty(|builder| builder.fault_policy(Arc::new(PanicLate(Mutex::new(Some(gate))))));
    let group = Group::builder("g").service("a", stage.command()).prepare(&stage.supervisor).await.unwrap();
    let (starting, stopping) = (group.start(), group.stop(15, HOUR));
    group.wait_for(|now| now.state == ServiceState::Stopping).await.unwrap();
    go.send(()).unwrap();
    stopping.await.unwrap();
    assert!(starting.await.is_err());
    // Whatever was asked of it before has come.
    let service = group.service("a").unwrap();
    service.stop(15, HOUR).await.unwrap();
    assert_eq!((service.state(), service.inspect().generation), (ServiceState::Stopped, 0));
    stage.end().await;
}

/// A panic over a request is told to who asked; one over news is not even noticed. The members are the same ones after it.
#[tokio::test]
async fn its_actor_panics_at_each_message_and_goes_on() {
    for (message, count) in
        [("start", 0), ("stop", 0), ("news", 0), ("news", 1), ("news", 2), ("news", 5), ("close", 0)]
    {
        let mut stage = Stage::faulty(|it| it.fault_policy(Arc::new(PanicAt("g", message, count))));
        let started = stage.three(Strategy::OneForAll).start(&stage.supervisor).await;
        if message == "start" {
            assert_eq!(started.unwrap_err().kind(), ErrorKind::SupervisorFault);
            assert_eq!(stage.fake.log(), [""; 0]);
            stage.end().await;
            continue;
        }
        let group = started.unwrap();
        stage.until("start g.c").await;
        stage.ends("g.b", 1);
        stage.obeys("g.c").await;
        stage.obeys("g.a").await;
        waits(&group, "b").await;
        stage.clock.advance(SECOND).await;
        stage.until("start g.c").await;
        if message == "stop" {
            let lost = group.stop(15, HOUR).await.unwrap_err();
            assert_eq!((lost.kind(), group.state()), (ErrorKind::SupervisorFault, ServiceState::Running));
        }
        let stopping = tokio::spawn(group.stop(15, HOUR));
        for id in ["g.c", "g.b", "g.a"] {
            stage.obeys(id).await;
        }
        stopping.await.unwrap().unwrap();
        drop(group);
        while stage.supervisor.group("g").is_some() {}
        stage.end().await;
    }
}

#[tokio::test]
async fn a_broken_actor_takes_its_members_along() {
    struct Always;
    impl FaultPolicy for Always {
        fn decide(&self, at: &FaultPoint<'_>) -> Fault {
            if at.site == Site::GroupMessage("stop") { Fault::Panic } else { Fault::Continue }
        }
    }
    let mut stage = Stage::faulty(|it| it.fault_policy(Arc::new(Always)));
    let group = stage.three(Strategy::OneForOne).start(&stage.supervisor).await.unwrap();
    stage.until("start g.c").await;
    for _ in 0..6 {
        assert!(group.stop(15, HOUR).await.is_err());
    }
    stage.alive.clear();
    stage.fake.empty().await;
    let failed = group.wait().await.unwrap();
    assert_eq!((failed.state, failed.give_up), (ServiceState::Failed, Some(GiveUp::SupervisorFault)));
    stage.end().await;
}
