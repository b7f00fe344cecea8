//! One feed of many, against the scripted runtime.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says why by panicking")]

use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use orangery::events::Since;
use orangery::faults::{Fault, FaultPoint, FaultPolicy, Site};
use orangery::follow::{Follow, FollowOptions, GoneWhy, Item};
use orangery::stream::log::LogOptions;
use orangery::testing::{FakeRuntime, VirtualClock};
use orangery::{ContainerHandle, EventFilter, GoneReason, Restart, Sandbox, Supervisor};

fn supervisor(fake: &FakeRuntime) -> Supervisor {
    Supervisor::builder().shards(1).build_on(Arc::new(fake.clone())).unwrap()
}

async fn spawn(supervisor: &Supervisor, id: &str, of: &str) -> ContainerHandle {
    let sandbox = Sandbox::builder().id(id).label("of", of).build().unwrap();
    supervisor.command("prog").sandbox(&sandbox).spawn().await.unwrap()
}

/// Output and ends, without events but for restarts of services.
fn wanted() -> EventFilter {
    EventFilter::new().label("of", "a").kind("service_changed")
}

fn brief(item: &Item) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match item {
        Item::Chunk { member, chunk } => {
            format!("{}.{}.{} {}", member.container, member.generation, member.process, text(&chunk.data))
        }
        Item::Closed { member, end } => {
            format!("{}.{}.{} closed {}", member.container, member.generation, member.process, end.stdout.bytes)
        }
        Item::Gone { member, why } => format!("{}.{}.{} {why:?}", member.container, member.generation, member.process),
        Item::End { container, generation, report } => {
            let code = report.as_ref().map(|report| report.shell_code());
            format!("{container}.{generation} end {code:?}")
        }
        other => format!("{other:?}"),
    }
}

/// The next items that are no events.
async fn take(follow: &mut Follow, count: usize) -> Vec<String> {
    let mut taken = Vec::new();
    while taken.len() < count {
        match follow.recv().await.unwrap() {
            Item::Event(_) => {}
            item => taken.push(brief(&item)),
        }
    }
    taken
}

#[tokio::test]
async fn only_main_processes_unless_more_are_asked_for() {
    let fake = FakeRuntime::default();
    let supervisor = supervisor(&fake);
    let mut mains = supervisor.follow(wanted(), FollowOptions::default());
    let mut all = supervisor.follow(wanted(), FollowOptions { further: true, ..FollowOptions::default() });
    let handle = spawn(&supervisor, "x", "a").await;
    let _other = spawn(&supervisor, "y", "b").await;
    let (mut main, _) = (fake.actor().await, fake.actor().await);
    let more = handle.command("more").spawn().await.unwrap();
    let mut further = fake.actor().await;
    further.say(b"probe");
    further.exit(0);
    more.wait().await.unwrap();
    main.say(b"hello");
    main.exit(3);
    let told = ["x.1.0 hello", "x.1.0 closed 5", "x.1 end Some(3)"];
    assert_eq!(take(&mut mains, 3).await, told);
    let told = ["x.1.1 probe", "x.1.1 closed 5", "x.1.0 hello", "x.1.0 closed 5", "x.1 end Some(3)"];
    let mut got = take(&mut all, 5).await;
    assert_eq!(got.pop().as_deref(), told.last().copied());
    got.sort_unstable();
    assert_eq!(got, ["x.1.0 closed 5", "x.1.0 hello", "x.1.1 closed 5", "x.1.1 probe"]);
    supervisor.shutdown().await;
    assert_eq!((mains.next().await, all.next().await), (None, None));
}

#[tokio::test]
async fn a_service_is_followed_through_its_restarts() {
    let (clock, fake) = (VirtualClock::default(), FakeRuntime::default());
    let supervisor = Supervisor::builder().shards(1).clock(&clock).build_on(Arc::new(fake.clone())).unwrap();
    let sandbox = Sandbox::builder().id("s").label("of", "a").build().unwrap();
    let mut follow = supervisor.follow(wanted(), FollowOptions::default());
    let command = supervisor.command("prog").sandbox(&sandbox).restart(Restart::always().jitter(0));
    let service = command.supervise().await.unwrap();
    for generation in 1..=3 {
        let mut actor = fake.actor().await;
        actor.say(b"up");
        actor.exit(generation);
        let told = take(&mut follow, 3).await;
        let id = format!("s.{generation}");
        assert_eq!(told, [format!("{id}.0 up"), format!("{id}.0 closed 2"), format!("{id} end Some({generation})")]);
        let waits = service.wait_for(|now| now.back_off.is_some()).await.unwrap();
        clock.advance(waits.back_off.unwrap().delay + Duration::from_millis(1)).await;
    }
    drop(service);
    supervisor.shutdown().await;
}

#[tokio::test]
async fn cut_anywhere_and_resumed_it_is_the_same_story() {
    let fake = FakeRuntime::default();
    let supervisor = supervisor(&fake);
    let options = FollowOptions { since: Since::Oldest, ..FollowOptions::default() };
    let mut handles = Vec::new();
    let filter = EventFilter::new().label("of", "a");
    let mut whole = supervisor.follow(filter.clone(), options);
    let start = whole.cursor();
    for n in 0..5 {
        handles.push(spawn(&supervisor, &format!("c{n}"), "a").await);
        let mut actor = fake.actor().await;
        (0..4).for_each(|line| actor.say(format!("line {line}\n").as_bytes()));
        if n % 2 == 0 {
            actor.exit(n);
        } else {
            drop(actor.leave(0));
        }
        handles[usize::try_from(n).unwrap()].wait().await.unwrap();
    }
    let mut wants = Vec::new();
    while wants.iter().filter(|line: &&String| line.contains(" end Some")).count() < 5 {
        wants.push(whole.recv().await.map(|item| brief(&item)).unwrap());
    }
    // Again, cut after each item. The handles are held, so that everything is still to be had.
    let (mut cursor, mut got) = (start, Vec::new());
    while got.len() < wants.len() {
        let mut follow =
            supervisor.resume_follow(&cursor.to_string().parse().unwrap(), filter.clone(), options).unwrap();
        got.push(brief(&follow.recv().await.unwrap()));
        cursor = follow.cursor();
    }
    assert_eq!(cursor.sources(), 0);
    // Whose turn it is may differ, and so where chunks are cut; of each container the story is the same.
    for n in 0..5 {
        let of =
            |lines: &[String]| lines.iter().filter(|line| line.contains(&format!("c{n}"))).cloned().collect::<Vec<_>>();
        let events =
            |lines: Vec<String>| lines.into_iter().filter(|line| line.starts_with("Event")).collect::<Vec<_>>();
        let others =
            |lines: Vec<String>| lines.into_iter().filter(|line| !line.starts_with("Event")).collect::<Vec<_>>();
        assert_eq!(events(of(&got)), events(of(&wants)));
        assert_eq!(others(of(&got)), others(of(&wants)));
    }
    drop(handles);
    let mut late = supervisor.resume_follow(&whole.cursor(), filter, options).unwrap();
    assert!(late.recv().now_or_never().is_none(), "everything was handed out");
    supervisor.shutdown().await;
}

#[tokio::test]
async fn what_ended_between_cut_and_resume_is_named() {
    let fake = FakeRuntime::default();
    let supervisor = supervisor(&fake);
    let mut follow = supervisor.follow(wanted(), FollowOptions::default());
    let (kept, lost) = (spawn(&supervisor, "kept", "a").await, spawn(&supervisor, "lost", "a").await);
    let (mut first, mut second) = (fake.actor().await, fake.actor().await);
    first.say(b"1");
    second.say(b"1");
    let mut told = take(&mut follow, 2).await;
    told.sort_unstable();
    assert_eq!(told, ["kept.1.0 1", "lost.1.0 1"]);
    let cursor = follow.cursor().to_string();
    drop(follow);
    first.say(b"2");
    second.say(b"2");
    first.exit(0);
    second.exit(0);
    kept.wait().await.unwrap();
    lost.wait().await.unwrap();
    drop(lost);
    fake.empty().await;
    // Its actors let go of it a moment after the last handle has.
    let told = loop {
        let mut follow =
            supervisor.resume_follow(&cursor.parse().unwrap(), wanted(), FollowOptions::default()).unwrap();
        let mut told = take(&mut follow, 3).await;
        told.sort_unstable();
        if told.contains(&"lost.1.0 Ended".to_owned()) {
            let mut rest = take(&mut follow, 2).await;
            told.append(&mut rest);
            break told;
        }
        tokio::task::yield_now().await;
    };
    let told: std::collections::BTreeSet<_> = told.iter().map(String::as_str).collect();
    assert!(
        ["kept.1.0 2", "kept.1.0 closed 2", "lost.1.0 Ended", "kept.1 end Some(0)"]
            .iter()
            .all(|line| told.contains(line)),
        "{told:?}"
    );
    let foreign = self::supervisor(&FakeRuntime::default());
    let refused = foreign.resume_follow(&cursor.parse().unwrap(), wanted(), FollowOptions::default());
    assert_eq!(refused.err(), Some(GoneReason::Foreign));
    foreign.shutdown().await;
    supervisor.shutdown().await;
}

/// The second container's output is lost for who follows.
struct Second;

impl FaultPolicy for Second {
    fn decide(&self, at: &FaultPoint<'_>) -> Fault {
        if at.site == Site::Follow && at.container == "second" { Fault::Drop } else { Fault::Continue }
    }
}

#[tokio::test]
async fn an_injected_loss_is_told_and_harms_nobody_else() {
    let fake = FakeRuntime::default();
    let builder = Supervisor::builder().shards(1).fault_policy(Arc::new(Second));
    let supervisor = builder.build_on(Arc::new(fake.clone())).unwrap();
    let mut follow = supervisor.follow(wanted(), FollowOptions::default());
    let (first, second) = (spawn(&supervisor, "first", "a").await, spawn(&supervisor, "second", "a").await);
    let (mut one, mut other) = (fake.actor().await, fake.actor().await);
    one.say(b"1");
    other.say(b"2");
    let mut told = take(&mut follow, 2).await;
    told.sort_unstable();
    assert_eq!(told, ["first.1.0 1", &format!("second.1.0 {:?}", GoneWhy::Injected)]);
    other.exit(0);
    assert_eq!(second.wait().await.unwrap().stdout.bytes, orangery::Measured::Known(1));
    assert_eq!(take(&mut follow, 1).await, ["second.1 end Some(0)"]);
    drop((first, one));
    supervisor.shutdown().await;
}

#[tokio::test]
async fn a_container_with_a_log_is_followed_in_its_files() {
    let parent = tempfile::tempdir().unwrap();
    let fake = FakeRuntime::default();
    let supervisor = supervisor(&fake);
    let sandbox = Sandbox::builder().id("l").label("of", "a").build().unwrap();
    let mut follow = supervisor.follow(wanted(), FollowOptions::default());
    let command = supervisor.command("prog").sandbox(&sandbox).log(parent.path().join("log"), LogOptions::default());
    let container = command.spawn().await.unwrap();
    let mut main = fake.actor().await;
    main.say(b"first");
    assert_eq!(take(&mut follow, 1).await, ["l.1.0 first"]);
    let cursor = follow.cursor();
    drop(follow);
    main.say(b"second");
    main.exit(3);
    container.wait().await.unwrap();
    let mut follow = supervisor.resume_follow(&cursor, wanted(), FollowOptions::default()).unwrap();
    assert_eq!(take(&mut follow, 3).await, ["l.1.0 second", "l.1.0 closed 11", "l.1 end Some(3)"]);
    supervisor.shutdown().await;
}

#[tokio::test]
async fn figures_tell_who_follows_and_a_dropped_wait_loses_nothing() {
    let fake = FakeRuntime::default();
    let supervisor = supervisor(&fake);
    let mut follow = supervisor.follow(wanted(), FollowOptions::default());
    let _handle = spawn(&supervisor, "x", "a").await;
    let mut main = fake.actor().await;
    let figure = |line: &str| supervisor.metrics().lines().any(|have| have == line);
    assert!(figure("orangery_followers 1") && figure("orangery_followed_sources 1"));
    let mut text = String::new();
    for n in 0..50 {
        // Polled once and dropped, before and after there is something.
        while let Some(item) = follow.recv().now_or_never() {
            text.push_str(&brief(&item.unwrap()));
        }
        main.say(n.to_string().as_bytes());
    }
    main.exit(0);
    while !text.contains(" end ") {
        text.push_str(&brief(&follow.recv().await.unwrap()));
    }
    let bytes: String = text.replace("x.1.0 ", "");
    let want: String = (0..50).map(|n| n.to_string()).collect();
    assert!(bytes.starts_with(&want), "{bytes}");
    drop(follow);
    assert!(figure("orangery_followers 0") && figure("orangery_followed_sources 0"));
    supervisor.shutdown().await;
}

#[tokio::test]
async fn it_may_be_sent_and_needs_no_runtime() {
    fn send<T: Send + 'static>(value: T) -> T {
        value
    }
    let fake = FakeRuntime::default();
    let supervisor = supervisor(&fake);
    let mut follow = send(supervisor.follow(wanted(), FollowOptions::default()));
    let _handle = spawn(&supervisor, "x", "a").await;
    fake.actor().await.exit(7);
    let heard = std::thread::spawn(move || {
        futures_executor::block_on(async {
            loop {
                match follow.recv().await {
                    Some(Item::End { report, .. }) => return report,
                    Some(_) => {}
                    None => return None,
                }
            }
        })
    });
    assert_eq!(heard.join().unwrap().unwrap().shell_code(), 7);
    supervisor.shutdown().await;
}
