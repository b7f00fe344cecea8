//! What a handle can do, against the scripted runtime.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says why by panicking")]

use std::sync::Arc;
use std::time::Duration;

use futures_core::Stream as _;
use orangery::testing::FakeRuntime;
use orangery::{
    Cause, ContainerHandle, ErrorKind, Event, ExitStatus, Filter, Limits, Measured, Pause, ProcessId, Sandbox, State,
    StatsStream, Supervisor, block_on,
};

fn supervisor(fake: &FakeRuntime) -> Supervisor {
    Supervisor::builder().shards(1).build_on(Arc::new(fake.clone())).unwrap()
}

async fn spawn(supervisor: &Supervisor, id: &str) -> ContainerHandle {
    let sandbox = Sandbox::builder().id(id).build().unwrap();
    supervisor.command("prog").sandbox(&sandbox).spawn().await.unwrap()
}

fn numbers(handle: &ContainerHandle) -> Vec<u32> {
    handle.processes().iter().map(|process| process.id().0).collect()
}

#[tokio::test]
async fn a_detached_container_is_attached_to_again_and_again() {
    let fake = FakeRuntime::default();
    let supervisor = supervisor(&fake);
    spawn(&supervisor, "a").await.detach();
    let mut main = fake.actor().await;
    for _ in 0..3 {
        let attached = supervisor.container("a").await.unwrap().unwrap();
        assert_eq!(attached.id(), "a");
        drop(attached);
    }
    let attached = supervisor.container("a").await.unwrap().unwrap();
    let waiting = attached.wait();
    main.say(b"still here");
    main.exit(4);
    let report = waiting.await.unwrap();
    assert_eq!(
        (report.exit, report.cause.clone(), report.stdout.bytes.clone()),
        (ExitStatus::Code(4), Cause::Own, Measured::Known(10))
    );
    assert_eq!(attached.stdout().collect(100).await.to_vec(), b"still here", "the ring holds it for late readers");
    assert!(!fake.log().contains(&"kill a".to_owned()));
    while supervisor.container("a").await.unwrap().is_some() {}
    assert!(supervisor.container("b").await.unwrap().is_none());
    supervisor.shutdown().await;
    assert!(supervisor.container("a").await.is_err(), "shut down");
}

#[tokio::test]
async fn the_last_handle_of_all_kills_whichever_it_is() {
    let fake = FakeRuntime::default();
    let supervisor = supervisor(&fake);
    let first = spawn(&supervisor, "a").await;
    let attached = supervisor.container("a").await.unwrap().unwrap();
    drop(first);
    // A round trip through the manager: a kill would have come before it.
    assert!(supervisor.container("a").await.unwrap().is_some());
    assert!(!fake.log().contains(&"kill a".to_owned()), "an attached handle holds it");
    drop(attached);
    fake.saw("kill a").await;
    fake.empty().await;
    supervisor.shutdown().await;
}

#[tokio::test]
async fn a_dropped_attach_leaves_no_claim() {
    let fake = FakeRuntime::default();
    let supervisor = supervisor(&fake);
    let handle = spawn(&supervisor, "a").await;
    for polls in 0..4 {
        let mut attaching = Box::pin(supervisor.container("a"));
        for _ in 0..polls {
            let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(attaching.as_mut().poll(cx))).await;
            if polled.is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    drop(handle);
    fake.empty().await;
    supervisor.shutdown().await;
}

#[tokio::test]
async fn processes_are_numbered_listed_and_found_until_they_are_reported() {
    let fake = FakeRuntime::default();
    let supervisor = supervisor(&fake);
    let handle = spawn(&supervisor, "a").await;
    let main = fake.actor().await;
    assert_eq!((handle.process().id(), numbers(&handle)), (ProcessId::MAIN, vec![0]));
    let one = handle.command("one").spawn().await.unwrap();
    let mut first = fake.actor().await;
    let two = handle.command("two").spawn().await.unwrap();
    let second = fake.actor().await;
    assert_eq!((one.id(), two.id(), numbers(&handle)), (ProcessId(1), ProcessId(2), vec![0, 1, 2]));
    let elsewhere = supervisor.container("a").await.unwrap().unwrap().process_by_id(ProcessId(1)).unwrap();
    let waiting = elsewhere.wait();
    first.say(b"one");
    first.exit(5);
    let report = waiting.await.unwrap();
    assert_eq!((report.exit, report.stdout.bytes.clone()), (ExitStatus::Code(5), Measured::Known(3)));
    while handle.process_by_id(ProcessId(1)).is_some() {
        std::thread::yield_now();
    }
    assert_eq!(numbers(&handle), [0, 2]);
    assert_eq!(handle.inspect().processes.iter().map(|process| process.id.0).collect::<Vec<_>>(), [0, 2]);
    second.exit(0);
    two.wait().await.unwrap();
    main.exit(0);
    handle.wait().await.unwrap();
    assert!(handle.process_by_id(ProcessId::MAIN).is_some(), "its report can still be asked for");
    assert!(!numbers(&handle).contains(&0));
    let json = serde_json::to_value(handle.inspect()).unwrap();
    assert!(json["processes"].is_array());
    supervisor.shutdown().await;
}

#[tokio::test]
async fn properties_change_labels_do_not_and_both_are_filtered_by() {
    let fake = FakeRuntime::default();
    let supervisor = supervisor(&fake);
    let mut handles = Vec::new();
    for (id, tenant) in [("job-1", "7"), ("job-2", "7"), ("job-3", "8"), ("web-1", "7")] {
        let sandbox = Sandbox::builder().id(id).label("tenant", tenant).build().unwrap();
        handles.push(supervisor.command("prog").sandbox(&sandbox).spawn().await.unwrap());
    }
    assert_eq!(handles[0].set_property("stage", "built").unwrap(), None);
    assert_eq!(handles[0].set_property("stage", "tested").unwrap().as_deref(), Some("built"));
    handles[3].set_property("stage", "tested").unwrap();
    handles[1].pause().await.unwrap();
    let found = async |filter: Filter| {
        let found = supervisor.list_matching(&filter).await.unwrap();
        found.into_iter().map(|container| container.id).collect::<Vec<_>>()
    };
    assert_eq!(found(Filter::new()).await, ["job-1", "job-2", "job-3", "web-1"]);
    assert_eq!(found(Filter::new().label("tenant", "7").id_prefix("job-")).await, ["job-1", "job-2"]);
    assert_eq!(found(Filter::new().property("stage", "tested")).await, ["job-1", "web-1"]);
    assert_eq!(found(Filter::new().property("stage", "tested").label("tenant", "8")).await, [""; 0]);
    assert_eq!(found(Filter::new().state(State::Paused)).await, ["job-2"]);
    assert_eq!(found(Filter::new().state(State::Paused).state(State::Running)).await.len(), 4);
    assert_eq!(handles[0].inspect().properties["stage"], "tested");
    assert_eq!(handles[0].remove_property("stage").as_deref(), Some("tested"));
    assert!(handles[0].property("stage").is_none() && handles[0].properties().is_empty());
    let refused = handles[0].set_property("", "x").unwrap_err();
    assert_eq!((refused.kind(), refused.field()), (ErrorKind::Invalid, Some("property")));
    supervisor.shutdown().await;
}

#[tokio::test]
async fn inspect_shows_the_limits_after_an_update() {
    let fake = FakeRuntime::default();
    let supervisor = supervisor(&fake);
    let sandbox = Sandbox::builder().memory(64 << 20).pids(10).build().unwrap();
    let handle = supervisor.command("prog").sandbox(&sandbox).spawn().await.unwrap();
    handle.update(Limits { pids: Some(20), cpu_weight: Some(50), ..Limits::default() }).await.unwrap();
    let limits = handle.inspect().limits;
    assert_eq!((limits.memory, limits.pids, limits.cpu_weight), (Some(64 << 20), Some(20), Some(50)));
    supervisor.shutdown().await;
}

#[test]
fn stats_are_pushed_without_a_runtime_and_end_with_the_last_ones() {
    let fake = FakeRuntime::default();
    let supervisor = supervisor(&fake);
    let handle = supervisor.command("prog").spawn_blocking().unwrap();
    let mut stats = handle.stats_stream(Duration::ZERO);
    let next =
        |stats: &mut StatsStream| block_on(std::future::poll_fn(|cx| std::pin::Pin::new(&mut *stats).poll_next(cx)));
    let first = next(&mut stats).unwrap().cpu_usage_ns.unwrap();
    let second = next(&mut stats).unwrap().cpu_usage_ns.unwrap();
    assert!(second > first);
    // Readings go on while nobody looks; then only the newest is there.
    while fake.readings() < second + 5 {
        std::thread::yield_now();
    }
    assert!(next(&mut stats).unwrap().cpu_usage_ns.unwrap() > second + 3, "a slow reader gets the newest");
    handle.kill().unwrap();
    let mut rest = Vec::new();
    while let Some(stats) = next(&mut stats) {
        rest.push(stats.cpu_usage_ns.unwrap());
    }
    assert_eq!(rest.last(), Some(&fake.readings()), "the last ones were read at the end");
    assert!(next(&mut handle.stats_stream(Duration::from_secs(1))).is_some(), "an ended container has its last ones");
    supervisor.shutdown_blocking();
}

#[tokio::test]
async fn without_a_freezer_a_pause_is_refused_unless_a_stop_is_asked_for() {
    let fake = FakeRuntime::default();
    fake.without_freezer();
    let supervisor = supervisor(&fake);
    let handle = spawn(&supervisor, "a").await;
    let refused = handle.pause().await.unwrap_err();
    assert_eq!((refused.kind(), refused.field()), (ErrorKind::Unsupported, Some("pause")));
    assert_eq!(handle.inspect().state, State::Running);
    handle.pause_with(Pause::Stop).await.unwrap();
    handle.pause_with(Pause::Stop).await.unwrap();
    assert_eq!(handle.inspect().state, State::Paused);
    assert_eq!(handle.command("more").spawn().await.unwrap_err().kind(), ErrorKind::State);
    handle.resume().await.unwrap();
    assert_eq!(handle.inspect().state, State::Running);
    assert_eq!(fake.log(), ["create a", "start a", "stop a", "resume a"], "the second pause joined the first");
    supervisor.shutdown().await;
}

/// Everything asynchronous, without a runtime: nothing of it needs the caller's.
#[test]
fn all_of_it_works_without_a_runtime() {
    fn send<T: Send + 'static>(of: T) -> T {
        of
    }
    let fake = FakeRuntime::default();
    let supervisor = supervisor(&fake);
    let handle = supervisor.command("prog").id("a").spawn_blocking().unwrap();
    let mut main = block_on(fake.actor());
    let further = handle.command("more").spawn_blocking().unwrap();
    block_on(send(handle.pause_with(Pause::Stop))).unwrap();
    block_on(send(handle.resume())).unwrap();
    block_on(send(handle.update(Limits::default()))).unwrap();
    main.say(b"read without a runtime");
    let mut output = send(handle.stdout());
    let Some(Event::Chunk(chunk)) = block_on(output.recv()) else { panic!("no output") };
    assert_eq!(chunk.data, "read without a runtime");
    let attached = block_on(send(supervisor.container("a"))).unwrap().unwrap();
    assert_eq!(block_on(send(supervisor.list_matching(&Filter::new().id_prefix("a")))).unwrap().len(), 1);
    drop(send(attached.stats_stream(Duration::from_secs(1))));
    let stopping = send(attached.stop(15, Duration::from_millis(1)));
    drop(main);
    block_on(stopping).unwrap();
    drop(block_on(fake.actor()));
    assert!(matches!(block_on(further.wait()).unwrap().exit, ExitStatus::Signal { signal: 9, .. }));
    block_on(send(attached.delete())).unwrap();
    supervisor.shutdown_blocking();
}
