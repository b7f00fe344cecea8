use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_executor::block_on;
use futures_util::StreamExt as _;
use orangery_io_stream::{Cursor, GoneReason};
use proptest::prelude::*;

use super::*;
use crate::filter::EventFilter;
use crate::ids::ProcessId;
use crate::probe::{HealthState, NotifyRefusal};
use crate::report::Cause;

fn tell(voice: &Voice, count: u64) {
    for _ in 0..count {
        voice.tell(None, Kind::ContainerPaused, None);
    }
}

fn next(reader: &mut Events) -> Item {
    block_on(reader.recv()).unwrap()
}

fn seq(item: Item) -> u64 {
    match item {
        Item::Event(event) => event.seq,
        Item::Lagged { missed } => panic!("{missed} missed"),
    }
}

#[test]
fn a_cursor_goes_on_where_it_was_and_a_wrong_one_is_gone_with_the_oldest() {
    let feed = Feed::new(4);
    let voice = feed.voice();
    tell(&voice, 3);
    let mut reader = feed.read(Since::Oldest);
    assert_eq!((seq(next(&mut reader)), seq(next(&mut reader))), (0, 1));
    let text = reader.cursor().to_string();
    let cursor: Cursor = text.parse().unwrap();
    assert_eq!(seq(next(&mut feed.resume(cursor).unwrap())), 2);

    let foreign = Feed::new(4).resume(cursor).unwrap_err();
    assert_eq!(foreign.reason, GoneReason::Foreign);
    let ahead = feed.resume(feed.cursor(4)).unwrap_err();
    assert_eq!(ahead.reason, GoneReason::Ahead);
    tell(&voice, 4);
    let expired = feed.resume(cursor).unwrap_err();
    assert_eq!(expired.reason, GoneReason::Expired);
    assert_eq!(seq(next(&mut feed.resume(expired.oldest).unwrap())), 3);
}

#[test]
fn a_slow_reader_learns_how_much_it_missed_and_holds_up_nobody() {
    let feed = Feed::new(3);
    let voice = feed.voice();
    let mut reader = feed.read(Since::Now);
    tell(&voice, 10);
    assert_eq!(next(&mut reader), Item::Lagged { missed: 7 });
    assert_eq!((0..3).map(|_| seq(next(&mut reader))).collect::<Vec<_>>(), [7, 8, 9]);
    feed.close();
    assert_eq!(block_on(reader.next()), None);
}

#[test]
fn a_reader_that_waits_is_woken_and_one_that_leaves_leaves_nothing() {
    let feed = Feed::new(3);
    let voice = feed.voice();
    let mut reader = feed.read(Since::Now);
    let mut waiting = Box::pin(reader.recv());
    let waker = futures_util::task::noop_waker();
    assert!(waiting.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_pending());
    drop(waiting);
    assert_eq!(feed.state().waiting.len(), 1);
    let thread = std::thread::spawn(move || seq(next(&mut reader)));
    tell(&voice, 1);
    assert_eq!(thread.join().unwrap(), 0);
    assert!(feed.state().waiting.is_empty() && feed.state().readers.is_empty());
}

#[test]
fn every_event_is_one_allocation_for_all_readers() {
    let feed = Feed::new(3);
    let (mut one, mut other) = (feed.read(Since::Now), feed.read(Since::Now));
    tell(&feed.voice(), 1);
    let (Item::Event(a), Item::Event(b)) = (next(&mut one), next(&mut other)) else { panic!() };
    assert!(Arc::ptr_eq(&a, &b));
}

#[test]
fn a_filter_wants_labels_ids_and_kinds() {
    let feed = Feed::new(100);
    let labels = |value: &str| Arc::new(BTreeMap::from([("tenant".to_owned(), value.to_owned())]));
    let (a, b) = (feed.voice().of("job-a", &labels("1"), 1), feed.voice().of("job-b", &labels("2"), 1));
    feed.voice().tell(None, Kind::KeeperLost, None);
    a.tell(None, Kind::ContainerPaused, None);
    b.tell(None, Kind::ContainerPaused, None);
    b.tell(Some(ProcessId(1)), Kind::LeakedWriters, None);
    let read = |filter: EventFilter| {
        let mut reader = feed.read(Since::Oldest).only(filter);
        std::iter::from_fn(|| {
            let waker = futures_util::task::noop_waker();
            match reader.poll_next_unpin(&mut std::task::Context::from_waker(&waker)) {
                std::task::Poll::Ready(Some(item)) => Some(seq(item)),
                _ => None,
            }
        })
        .collect::<Vec<_>>()
    };
    assert_eq!(read(EventFilter::new()), [0, 1, 2, 3]);
    assert_eq!(read(EventFilter::new().label("tenant", "2")), [2, 3]);
    assert_eq!(read(EventFilter::new().id("job-a").id("job-b").kind("container_paused")), [1, 2]);
    assert_eq!(read(EventFilter::new().id_prefix("job-").kind("leaked_writers")), [3]);
    assert!(read(EventFilter::new().label("tenant", "2").id("job-a")).is_empty());
}

fn every_kind() -> Vec<Kind> {
    let news = |why: Option<&str>| {
        let (fault, what) = ("slow".to_owned(), "starve_cpu".to_owned());
        FaultNews { fault, what, why: why.map(str::to_owned) }
    };
    let failure = Failure { stage: Some("step 3 mount".into()), errno: Some(12), why: "no memory".into() };
    vec![
        Kind::ContainerCreated { cgroup_mode: "v2".into(), create_us: 7 },
        Kind::ContainerStarted { pid: 5, init_pid: 4 },
        Kind::ContainerReady { after_us: 7 },
        Kind::ContainerHealth { health: HealthState::Unhealthy, failure: Some("exit code 1".into()) },
        Kind::NotifyRefused { why: NotifyRefusal::Stranger },
        Kind::ContainerFailed(failure.clone()),
        Kind::ContainerPaused,
        Kind::ContainerResumed,
        Kind::ContainerUpdated {
            limits: crate::Limits { memory: Some(1), ..crate::Limits::default() },
            watched: crate::WatchedLimits::default(),
        },
        Kind::ContainerStopping,
        Kind::ContainerExited { exit: crate::ExitStatus::Code(3) },
        Kind::ContainerKept,
        Kind::ContainerRemoved,
        Kind::ProcessStarted { pid: 9, start_us: 3 },
        Kind::ProcessFailed(failure.clone()),
        Kind::ProcessStopping,
        Kind::ProcessExited { exit: crate::ExitStatus::Signal { signal: 9, core_dumped: false } },
        Kind::ProcessEnded { report: Arc::new(crate::report::example()) },
        Kind::Oom { verdict: crate::OomVerdict::Own { kills: 2 } },
        Kind::NetworkLost { why: "its helper was ended by signal 9".into() },
        Kind::RootLost { why: "its helper was ended by signal 9".into() },
        Kind::LimitUnmet(orangery_runtime::spec::UnmetLimit::new("memory", "no cgroup")),
        Kind::LimitHit { limit: crate::LimitKind::Wall },
        Kind::LeakedWriters,
        Kind::PropertyChanged { name: "owner".into(), removed: true },
        Kind::ServiceChanged {
            state: crate::ServiceState::Failed,
            restarts: 3,
            delay_ms: Some(100),
            give_up: Some(crate::restart::GiveUp::WindowSpent),
        },
        Kind::GroupChanged { state: crate::ServiceState::Running, restarts: 0, delay_ms: None, give_up: None },
        Kind::PoolReady { pool: "p".into() },
        Kind::PoolLeased { pool: "p".into() },
        Kind::PoolDiscarded { pool: "p".into(), why: crate::DiscardReason::Aged },
        Kind::PoolBackOff { pool: "p".into(), delay_ms: 100, failure: Some(failure) },
        Kind::ActorPanicked { actor: "process".into(), restarted: true },
        Kind::KeeperDied,
        Kind::KeeperReplaced { processes: 5, streams: 6, deadlines: 1, left_out: 0, took_us: 4_200 },
        Kind::KeeperLost,
        Kind::FaultPlanned(news(None)),
        Kind::FaultApplied(news(None)),
        Kind::FaultReverted(news(Some("its time is over"))),
        Kind::FaultSkipped(news(Some("the container has ended"))),
        Kind::FaultLeft(news(Some("no such file"))),
        Kind::HookEnded {
            hook: crate::HookKind::PostStop,
            outcome: crate::HookOutcome::NotStarted { why: "no such file".into() },
        },
        Kind::ContainerUnkillable(crate::unkillable::Unkillable::new(
            std::time::Duration::from_secs(30),
            orangery_runtime::Held::default(),
        )),
        Kind::Unknown,
    ]
}

#[test]
fn each_kind_goes_through_json_under_its_own_name_beside_the_common_fields() {
    let feed = Feed::new(100);
    let labels = Arc::new(BTreeMap::from([("a".to_owned(), "b".to_owned())]));
    let voice = feed.voice().of("job", &labels, 2);
    let kinds = every_kind();
    let names: BTreeSet<_> = kinds.iter().map(Kind::name).collect();
    assert_eq!(names.len(), kinds.len());
    assert_eq!(names, Kind::NAMES.into_iter().chain(["unknown"]).collect());
    let mut reader = feed.read(Since::Now);
    for kind in kinds {
        voice.tell(Some(ProcessId(1)), kind.clone(), Some(Cause::Own));
        let Item::Event(event) = next(&mut reader) else { panic!() };
        let text = serde_json::to_string(&*event).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&value["kind"], &value["schema"]), (&kind.name().into(), &SCHEMA.into()), "{text}");
        assert_eq!(
            (&value["container"], &value["labels"]["a"], &value["process"]),
            (&"job".into(), &"b".into(), &1.into())
        );
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), *event, "{text}");
    }
}

#[test]
fn what_is_about_nothing_is_missing_and_a_newer_kind_with_newer_fields_is_read() {
    let feed = Feed::new(1);
    feed.voice().tell(None, Kind::KeeperLost, None);
    let Item::Event(event) = next(&mut feed.read(Since::Oldest)) else { panic!() };
    let text = serde_json::to_string(&*event).unwrap();
    for absent in ["container", "labels", "process", "cause"] {
        assert!(!text.contains(&format!("\"{absent}\"")), "{text}");
    }
    let newer = text.replace("\"keeper_lost\"", "\"network_attached\",\"network\":{\"id\":7}");
    assert_eq!(serde_json::from_str::<Event>(&newer).unwrap().kind, Kind::Unknown);
}

proptest! {
    /// Whatever is told and read in whatever order: what a reader gets and what it is told to have missed is everything,
    /// in order.
    #[test]
    fn nothing_is_lost_without_being_said(steps in proptest::collection::vec((0..6u64, 0..6usize), 1..40), keep in 1..8usize) {
        let feed = Feed::new(keep);
        let voice = feed.voice();
        let mut reader = feed.read(Since::Now);
        let (mut told, mut at) = (0, 0);
        for (count, reads) in steps {
            tell(&voice, count);
            told += count;
            for _ in 0..reads.min(usize::try_from(told - at).unwrap()) {
                if at == told {
                    break;
                }
                match next(&mut reader) {
                    Item::Event(event) => { prop_assert_eq!(event.seq, at); at += 1; }
                    Item::Lagged { missed } => { prop_assert!(missed > 0); at += missed; }
                }
            }
            prop_assert!(at <= told && told - at.max(feed.state().ring.oldest()) <= keep as u64);
            prop_assert_eq!(reader.cursor(), feed.cursor(at));
        }
    }
}
