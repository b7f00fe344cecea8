//! The feed, told by the actors against the scripted runtime.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says why by panicking")]

use std::sync::Arc;
use std::time::Duration;

use orangery::events::{Event, Events, Item, Kind, Since};
use orangery::faults::{Fault, FaultPoint, FaultPolicy, Site};
use orangery::testing::FakeRuntime;
use orangery::{
    Cause, ContainerHandle, EventFilter, ExitStatus, GoneReason, LimitKind, Limits, ProcessId, Sandbox, Supervisor,
};

fn supervisor(fake: &FakeRuntime) -> Supervisor {
    Supervisor::builder().shards(1).build_on(Arc::new(fake.clone())).unwrap()
}

async fn spawn(supervisor: &Supervisor, id: &str) -> ContainerHandle {
    let sandbox = Sandbox::builder().id(id).label("of", id).build().unwrap();
    supervisor.command("prog").sandbox(&sandbox).spawn().await.unwrap()
}

/// The events up to the first of this kind.
async fn until(events: &mut Events, last: &str) -> Vec<Arc<Event>> {
    let mut told = Vec::new();
    while let Some(Item::Event(event)) = events.recv().await {
        let done = event.kind.name() == last;
        told.push(event);
        if done {
            return told;
        }
    }
    panic!("the feed ended without {last}: {told:?}");
}

fn names(events: &[Arc<Event>]) -> Vec<&'static str> {
    events.iter().map(|event| event.kind.name()).collect()
}

#[tokio::test]
async fn the_whole_story_of_a_container_in_order() {
    let fake = FakeRuntime::default();
    let supervisor = supervisor(&fake);
    let mut events = supervisor.events(Since::Oldest);
    let handle = spawn(&supervisor, "a").await;
    let actor = fake.actor().await;
    handle.pause().await.unwrap();
    handle.pause().await.unwrap();
    handle.resume().await.unwrap();
    handle.update(Limits { pids: Some(7), ..Limits::default() }).await.unwrap();
    handle.set_property("owner", "alice").unwrap();
    assert!(handle.remove_property("owner").is_some() && handle.remove_property("owner").is_none());
    let more = handle.command("more").spawn().await.unwrap();
    fake.actor().await.exit(4);
    more.wait().await.unwrap();
    actor.exit(3);
    let report = handle.wait().await.unwrap();
    let told = until(&mut events, "container_removed").await;
    let want = [
        "container_created",
        "process_started",
        "container_started",
        "container_paused",
        "container_resumed",
        "container_updated",
        "property_changed",
        "property_changed",
        "process_started",
        "process_exited",
        "process_ended",
        "process_exited",
        "container_exited",
        "process_ended",
        "container_removed",
    ];
    assert_eq!(names(&told), want);
    assert!(told.iter().enumerate().all(|(number, event)| event.seq == number as u64 && event.generation == 1));
    assert!(told.is_sorted_by_key(|event| event.mono_ns));
    assert!(told.iter().all(|event| event.container.as_deref() == Some("a") && event.labels["of"] == "a"));
    let Kind::ContainerUpdated { limits, .. } = &told[5].kind else { panic!() };
    assert_eq!(limits.pids, Some(7));
    assert_eq!(
        (told[9].process, &told[9].kind),
        (Some(ProcessId(1)), &Kind::ProcessExited { exit: ExitStatus::Code(4) })
    );
    assert_eq!(
        (told[11].process, &told[11].kind),
        (Some(ProcessId(0)), &Kind::ProcessExited { exit: ExitStatus::Code(3) })
    );
    let Kind::ProcessEnded { report: ended } = &told[13].kind else { panic!() };
    assert!(Arc::ptr_eq(ended, &report), "one report, shared");
    assert_eq!(told[14].cause, Some(Cause::Own));
    supervisor.shutdown().await;
    assert_eq!(events.recv().await, None);
    let again = supervisor.events(Since::Oldest).recv().await;
    assert!(matches!(again, Some(Item::Event(event)) if event.seq == 0), "kept after the end");
}

#[tokio::test]
async fn who_has_the_news_finds_the_event_in_the_feed() {
    let fake = FakeRuntime::default();
    let supervisor = supervisor(&fake);
    for _ in 0..20 {
        let handle = spawn(&supervisor, "a").await;
        let mut events = supervisor.events(Since::Now).only(EventFilter::new().kind("container_removed"));
        fake.actor().await.exit(0);
        handle.wait().await.unwrap();
        let ready = futures_util::FutureExt::now_or_never(events.recv());
        assert!(matches!(ready, Some(Some(Item::Event(_)))), "{ready:?}");
    }
    supervisor.shutdown().await;
}

#[tokio::test]
async fn a_stop_that_escalates_and_a_limit_say_why() {
    let fake = FakeRuntime::default();
    let supervisor = supervisor(&fake);
    let mut events = supervisor.events(Since::Now);
    let handle = spawn(&supervisor, "a").await;
    let _first = fake.actor().await;
    handle.stop(15, Duration::ZERO).await.unwrap();
    let stops = until(&mut events, "container_removed").await;
    let causes: Vec<_> =
        stops.iter().filter(|event| event.kind == Kind::ContainerStopping).map(|event| event.cause.clone()).collect();
    assert_eq!(causes, [Some(Cause::Stop { escalated: false }), Some(Cause::Stop { escalated: true })]);

    let sandbox = Sandbox::builder().id("b").output(3).build().unwrap();
    let handle = supervisor.command("prog").sandbox(&sandbox).spawn().await.unwrap();
    let mut actor = fake.actor().await;
    actor.say(b"four");
    fake.saw("kill b").await;
    drop(actor);
    handle.wait().await.unwrap();
    let told = until(&mut events, "container_removed").await;
    let want = [
        "container_created",
        "process_started",
        "container_started",
        "limit_hit",
        "container_stopping",
        "process_exited",
        "container_exited",
        "process_ended",
        "container_removed",
    ];
    assert_eq!(names(&told), want);
    assert_eq!(told[3].kind, Kind::LimitHit { limit: LimitKind::Output });
    assert!(told[3..].iter().filter_map(|event| event.cause.as_ref()).all(|c| *c == Cause::Limit(LimitKind::Output)));
    supervisor.shutdown().await;
}

#[tokio::test]
async fn a_creation_that_fails_says_where_and_is_the_last_word() {
    let fake = FakeRuntime::default();
    let supervisor = supervisor(&fake);
    let mut events = supervisor.events(Since::Now);
    let error = orangery::runtime::Error::new(orangery::runtime::ErrorKind::Creation, "no").with_errno(Some(12));
    fake.refuse(error.with_stage("step 3 mount"));
    let sandbox = Sandbox::builder().id("a").build().unwrap();
    supervisor.command("prog").sandbox(&sandbox).spawn().await.unwrap_err();
    let second = spawn(&supervisor, "b").await;
    let told = until(&mut events, "container_started").await;
    assert_eq!(names(&told), ["container_failed", "container_created", "process_started", "container_started"]);
    let Kind::ContainerFailed(failure) = &told[0].kind else { panic!() };
    assert_eq!((failure.stage.as_deref(), failure.errno), (Some("step 3 mount"), Some(12)));
    drop(second);
    supervisor.shutdown().await;
}

/// Panics over each `signal`.
struct Panics;

impl FaultPolicy for Panics {
    fn decide(&self, at: &FaultPoint<'_>) -> Fault {
        if at.site == Site::ProcessMessage("signal") { Fault::Panic } else { Fault::Continue }
    }
}

#[tokio::test]
async fn panics_of_actors_are_events_and_the_last_one_says_that_it_is_broken() {
    let fake = FakeRuntime::default();
    let supervisor =
        Supervisor::builder().shards(1).fault_policy(Arc::new(Panics)).build_on(Arc::new(fake.clone())).unwrap();
    let mut events = supervisor.events(Since::Now).only(EventFilter::new().kind("actor_panicked"));
    let handle = spawn(&supervisor, "a").await;
    let mut restarted = Vec::new();
    loop {
        handle.process().signal_in_order(10).await.unwrap_err();
        let Some(Item::Event(event)) = events.recv().await else { panic!() };
        let Kind::ActorPanicked { actor, restarted: goes_on } = &event.kind else { panic!() };
        assert_eq!((actor.as_str(), event.process), ("process", Some(ProcessId::MAIN)));
        restarted.push(*goes_on);
        if !goes_on {
            break;
        }
    }
    assert_eq!(restarted.len(), 6, "five are forgiven");
    supervisor.shutdown().await;
}

#[tokio::test]
async fn a_small_history_lags_and_an_old_cursor_is_gone() {
    let fake = FakeRuntime::default();
    let supervisor = Supervisor::builder().shards(1).event_history(2).build_on(Arc::new(fake.clone())).unwrap();
    let mut events = supervisor.events(Since::Now);
    let before = events.cursor();
    let handle = spawn(&supervisor, "a").await;
    assert_eq!(events.recv().await, Some(Item::Lagged { missed: 1 }));
    let gone = supervisor.resume_events(before).unwrap_err();
    assert_eq!(gone.reason, GoneReason::Expired);
    let first = supervisor.resume_events(gone.oldest).unwrap().recv().await;
    assert!(matches!(first, Some(Item::Event(event)) if event.seq == 1));
    let bytes = handle.output().cursor();
    assert_eq!(supervisor.resume_events(bytes).unwrap_err().reason, GoneReason::Foreign);
    drop(handle);
    supervisor.shutdown().await;
}
