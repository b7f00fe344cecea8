//! Pumps over real pipes, inside one process. Threads play the workload: their ends stay blocking.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod workload;

use std::future::pending;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::time::Duration;

use futures_util::FutureExt;
use orangery_io_stream::{
    DEFAULT_PIPE_SIZE, EndInfo, EndReason, Event, Fate, Hub, HubOptions, PipeBudget, PipeReader, PumpEnd, Source,
    Sources, SubscribeOptions, pipe_size, pump, pump_pair, pump_process,
};
use tokio::sync::oneshot;
use tokio::time::Instant;
use workload::{MIB, check_all, pipe, writer};

const GRACE: Duration = Duration::from_secs(2);

fn all_of_it() -> SubscribeOptions {
    SubscribeOptions { sources: Sources::Stdout, queue_bytes: 2 * MIB, ..SubscribeOptions::default() }
}

async fn one_mebibyte() {
    let hub = Hub::new(HubOptions::default());
    let subscriber = hub.subscribe(all_of_it());
    let (out, file) = pipe();
    let workload = writer(file, MIB);
    // The exit is there first: what the pipe holds still comes before the end.
    let pumps = pump_pair(Some(out), None, hub, async {}, Some(Duration::from_secs(60)));
    let (reason, seen) = tokio::join!(pumps, check_all(subscriber, MIB as u64));
    assert_eq!(reason, EndReason::Eof);
    assert_eq!(seen, (MIB as u64, 0, EndReason::Eof));
    workload.join().unwrap();
}

#[tokio::test]
async fn all_arrives_before_the_end() {
    one_mebibyte().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_arrives_before_the_end_on_many_threads() {
    tokio::spawn(one_mebibyte()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_held_pipe_leaks_after_the_grace() {
    let hub = Hub::new(HubOptions::default());
    let mut subscriber = hub.subscribe(SubscribeOptions::default());
    let ((out, mut file), (err, err_file)) = (pipe(), pipe());
    let grandchild = file.try_clone().unwrap();
    file.write_all(b"last words").unwrap();
    drop((file, err_file));
    let began = Instant::now();
    let reason = pump_pair(Some(out), Some(err), hub, async {}, Some(GRACE)).await;
    assert_eq!((reason, began.elapsed()), (EndReason::Leaked, GRACE));
    let Some(Event::Chunk(chunk)) = subscriber.recv().await else {
        panic!("what the pipe held comes first");
    };
    assert_eq!(chunk.data, "last words");
    assert!(matches!(subscriber.recv().await, Some(Event::End(end)) if end.reason == EndReason::Leaked));
    // Our end is closed: the grandchild is told.
    assert!((&grandchild).write_all(b"x").is_err());
}

#[tokio::test]
async fn without_a_grace_the_last_writer_is_waited_for() {
    let hub = Hub::new(HubOptions::default());
    let (out, file) = pipe();
    let pumps = pump_pair(Some(out), None, hub, async {}, None);
    let mut pumps = std::pin::pin!(pumps);
    assert!(pumps.as_mut().now_or_never().is_none());
    drop(file);
    assert_eq!(pumps.await, EndReason::Eof);
}

#[tokio::test]
async fn a_leaked_writer_that_never_pauses_is_left_behind() {
    let hub = Hub::new(HubOptions::default());
    let (out, mut file) = pipe();
    let grandchild = std::thread::spawn(move || while file.write_all(&[0; 4096]).is_ok() {});
    let (exit, exited) = oneshot::channel::<()>();
    let subscriber_hub = hub.clone();
    let watcher = async move {
        // Exit only once the flood is under way.
        let mut subscriber = subscriber_hub.subscribe(SubscribeOptions::default());
        subscriber.recv().await.unwrap();
        exit.send(()).unwrap();
    };
    let exited = async { exited.await.unwrap() };
    let pumps = pump_pair(Some(out), None, hub, exited, Some(Duration::ZERO));
    let (reason, ()) = tokio::join!(pumps, watcher);
    assert_eq!(reason, EndReason::Leaked);
    grandchild.join().unwrap();
}

#[tokio::test]
async fn who_attaches_after_the_end_gets_both() {
    let hub = Hub::new(HubOptions::default());
    let ((out, mut out_file), (err, mut err_file)) = (pipe(), pipe());
    out_file.write_all(b"to stdout").unwrap();
    err_file.write_all(b"to stderr").unwrap();
    drop((out_file, err_file));
    pump_pair(Some(out), Some(err), hub.clone(), pending(), Some(GRACE)).await;
    for (sources, text) in [(Sources::Stdout, "to stdout"), (Sources::Stderr, "to stderr")] {
        let late = hub.subscribe(SubscribeOptions { sources, ..SubscribeOptions::default() });
        assert_eq!(late.collect(100).await.to_vec(), text.as_bytes());
    }
    assert_eq!(hub.subscribers(), 0);
}

#[tokio::test]
async fn no_stream_at_all_ends_at_once() {
    let hub = Hub::new(HubOptions::default());
    assert_eq!(pump_pair(None, None, hub, pending(), None).await, EndReason::Eof);
}

/// Each read wakes everybody: for many it is to be worth it. A pipe at its default size for a few.
#[tokio::test]
async fn many_readers_have_the_pipe_made_larger() {
    for (readers, larger) in [(15, false), (16, true)] {
        let hub = Hub::new(HubOptions::default());
        let (out, mut file) = pipe();
        let before = pipe_size(&file).unwrap();
        let all: Vec<_> = (0..readers)
            .map(|_| hub.subscribe(SubscribeOptions { queue_bytes: 4 * MIB, ..SubscribeOptions::default() }))
            .collect();
        let workload = std::thread::spawn(move || {
            file.write_all(&vec![7; MIB]).unwrap();
            pipe_size(&file).unwrap()
        });
        pump_pair(Some(out), None, hub, pending(), None).await;
        // A user whose pipe pages are spent keeps what there is.
        let spent = PipeBudget::read().is_none() || before < DEFAULT_PIPE_SIZE;
        assert_eq!(workload.join().unwrap() > before, larger && !spent);
        for reader in all {
            assert_eq!(reader.collect(2 * MIB).await.to_vec(), vec![7; MIB]);
        }
    }
}

#[tokio::test]
async fn dropped_pumps_abandon_the_hub() {
    let hub = Hub::new(HubOptions::default());
    let ((out, _file), (unpolled, _other)) = (pipe(), pipe());
    let mut pumps = Box::pin(pump_pair(Some(out), None, hub.clone(), pending(), None));
    assert!(pumps.as_mut().now_or_never().is_none());
    assert_eq!(hub.end(), None);
    drop(pumps);
    assert_eq!(hub.wait_closed().await.reason, EndReason::Abandoned);

    let hub = Hub::new(HubOptions::default());
    drop(pump_pair(Some(unpolled), None, hub.clone(), pending(), None));
    assert_eq!(hub.wait_closed().await.reason, EndReason::Abandoned);
}

#[tokio::test]
async fn a_panic_abandons_the_hub() {
    let hub = Hub::new(HubOptions::default());
    let (out, _file) = pipe();
    let exit = async { panic!("the exit is lost") };
    let pumps = tokio::spawn(pump_pair(Some(out), None, hub.clone(), exit, None));
    assert!(pumps.await.unwrap_err().is_panic());
    assert_eq!(hub.wait_closed().await.reason, EndReason::Abandoned);
}

#[tokio::test]
async fn a_single_pump_leaves_the_hub_open() {
    let hub = Hub::new(HubOptions::default());
    let (out, mut file) = pipe();
    file.write_all(b"abc").unwrap();
    drop(file);
    assert!(matches!(pump(out, Source::Stderr, hub.clone()).await, PumpEnd::Eof));
    assert_eq!((hub.totals(Source::Stderr).bytes, hub.end()), (3, None));
}

#[tokio::test]
async fn a_pump_ends_with_its_hub() {
    let hub = Hub::new(HubOptions::default());
    let (out, file) = pipe();
    let mut pump = Box::pin(pump(out, Source::Stdout, hub.clone()));
    assert!(pump.as_mut().now_or_never().is_none());
    hub.close(EndInfo::default());
    assert!(matches!(pump.await, PumpEnd::Closed));
    assert!((&file).write_all(b"x").is_err());
}

#[tokio::test]
async fn a_failed_read_is_the_reason_of_the_end() {
    // A socket whose peer closes with unread bytes is reset: the one pipe-like that can fail.
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    (&ours).write_all(b"unread").unwrap();
    let out = PipeReader::from_fd(OwnedFd::from(ours)).unwrap();
    drop(theirs);
    let hub = Hub::new(HubOptions::default());
    let reason = pump_pair(Some(out), None, hub, pending(), None).await;
    assert!(matches!(reason, EndReason::Error(_)), "{reason:?}");
}

#[tokio::test]
async fn the_end_carries_the_exit_and_bytes_do_not_wait_for_it() {
    let hub = Hub::new(HubOptions::default());
    let (out, mut file) = pipe();
    let (exit, exited) = oneshot::channel();
    let exited = async { exited.await.unwrap() };
    let pump = tokio::spawn(pump_process(Some(out), None, hub.clone(), exited, Some(GRACE)));
    let bytes = hub.subscribe(SubscribeOptions::default());
    let mut events = hub.subscribe(SubscribeOptions::default());
    file.write_all(b"all").unwrap();
    drop(file);
    assert_eq!(bytes.collect(100).await.to_vec(), b"all");
    assert_eq!(hub.subscribe(SubscribeOptions::default()).collect(100).await.to_vec(), b"all");
    assert!(matches!(events.recv().await, Some(Event::Chunk(_))));
    assert!(events.recv().now_or_never().is_none() && hub.end().is_none() && !pump.is_finished());
    assert!(!hub.publish(Source::Stdout, "more".into()).await);
    exit.send(Fate::Code(3)).unwrap();
    assert_eq!(pump.await.unwrap(), EndReason::Eof);
    let Some(Event::End(end)) = events.recv().await else { panic!() };
    assert_eq!((end.fate, end.stdout.bytes, end.reason), (Fate::Code(3), 3, EndReason::Eof));
    assert_eq!(events.recv().await, None);
}

#[tokio::test(start_paused = true)]
async fn an_exit_that_comes_first_is_in_the_end_too() {
    let hub = Hub::new(HubOptions::default());
    let (out, mut file) = pipe();
    file.write_all(b"held").unwrap();
    let killed = Fate::Signal { signal: 9, core_dumped: false };
    let reason = pump_process(Some(out), None, hub.clone(), async { killed }, Some(GRACE)).await;
    let end = hub.end().unwrap();
    assert_eq!((reason, end.reason, end.fate), (EndReason::Leaked, EndReason::Leaked, killed));
    // Somebody who knows better ends it at any time; a pump that goes leaves what it knew.
    let hub = Hub::new(HubOptions::default());
    let mut pump = Box::pin(pump_process(None, None, hub.clone(), pending(), None));
    assert!((&mut pump).now_or_never().is_none());
    drop(pump);
    assert_eq!(hub.end().map(|end| (end.reason, end.fate)), Some((EndReason::Eof, Fate::Unknown)));
    let hub = Hub::new(HubOptions::default());
    let pump = pump_process(None, None, hub.clone(), pending(), None);
    hub.close(EndInfo { fate: Fate::Code(1), ..EndInfo::default() });
    assert_eq!((pump.await, hub.end().unwrap().fate), (EndReason::Eof, Fate::Code(1)));
}
