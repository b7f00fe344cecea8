//! What one process writes into a log, followed by subscribers: history and live bytes, the end, what is lost.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod workload;

use std::future::ready;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use futures_util::FutureExt;
use orangery_io_stream::log::{Log, LogErrorKind, LogEvent, LogOptions, LogReader, ReadOptions, Recording};
use orangery_io_stream::{
    EndReason, Event, Fate, From, GapCause, GoneReason, Interceptor, Interference, RateLimit, Source, Sources,
    StreamErrorKind, SubscribeOptions, Subscriber,
};
use workload::{MIB, pipe, writer};

fn options(from: From) -> SubscribeOptions {
    SubscribeOptions { from, ..SubscribeOptions::default() }
}

fn recording(dir: &Path, segment_bytes: u64) -> Recording {
    let options = LogOptions { segment_bytes, keep_segments: 3, ..LogOptions::default() };
    Recording::new(Log::open_or_create(dir, options).unwrap())
}

/// A process that writes this and ends.
async fn wrote(recording: &Recording, out: &[u8], err: &[u8]) {
    let [(out_end, mut out_file), (err_end, mut err_file)] = [pipe(), pipe()];
    out_file.write_all(out).unwrap();
    err_file.write_all(err).unwrap();
    drop((out_file, err_file));
    let reason = recording.pump(Some(out_end), Some(err_end), ready(Fate::Unknown), None).await;
    assert_eq!(reason, EndReason::Eof);
}

/// Standard output, then standard error: which of two pipes is read first is nobody's promise.
async fn text(mut subscriber: Subscriber) -> String {
    let mut both = [String::new(), String::new()];
    while let Some(event) = subscriber.recv().await {
        if let Event::Chunk(chunk) = event {
            both[chunk.source as usize].push_str(std::str::from_utf8(&chunk.data).unwrap());
        }
    }
    both.concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_come_back_at_any_moment_of_a_flood() {
    let total = 16 * MIB;
    let dir = tempfile::tempdir().unwrap();
    let log = LogOptions { segment_bytes: 300_000, keep_segments: 1000, ..LogOptions::default() };
    let recording = Recording::new(Log::create(dir.path(), log).unwrap());
    let (out, file) = pipe();
    let again = recording.clone();
    let comes_back = tokio::spawn(async move {
        let mut reader = again.subscribe(SubscribeOptions::default());
        let (mut at, mut since) = (0_usize, 0);
        loop {
            match reader.recv().await.unwrap() {
                Event::Chunk(chunk) => {
                    assert_eq!(chunk.offset, at as u64);
                    // A part of it, as a client that is cut off has seen.
                    let seen = if since > 20 { chunk.data.len() / 3 } else { chunk.data.len() };
                    for byte in &chunk.data[..seen] {
                        assert_eq!(usize::from(*byte), at % 251);
                        at += 1;
                    }
                    since += 1;
                    if since > 21 {
                        let cursor = chunk.cursor_after(seen).to_string().parse().unwrap();
                        reader = again.resume(cursor, SubscribeOptions::default()).unwrap();
                        since = 0;
                    }
                }
                Event::End(end) => {
                    // Who has seen the end may have the log.
                    drop(Log::open(again.dir(), LogOptions::default()).unwrap());
                    return (at, end);
                }
                other => panic!("unexpected {other:?}"),
            }
        }
    });
    let stays = tokio::spawn(workload::check_all(recording.subscribe(SubscribeOptions::default()), total as u64));
    let workload = writer(file, total);
    recording.pump(Some(out), None, ready(Fate::Unknown), None).await;
    let (at, end) = comes_back.await.unwrap();
    assert_eq!((at, end.stdout.bytes, end.stdout.dropped, end.reason), (total, total as u64, 0, EndReason::Eof));
    assert_eq!(stays.await.unwrap(), (total as u64, 0, EndReason::Eof));
    assert!(recording.metrics().bytes_out >= 2 * total as u64 && recording.metrics().subscribers.is_empty());
    workload.join().unwrap();
}

#[tokio::test]
async fn each_process_of_a_log_has_its_own_part_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let first = recording(dir.path(), 1 << 20);
    wrote(&first, b"one\n", b"").await;
    let of_first = first.subscribe(SubscribeOptions::default());
    let cursor = of_first.opening().start;
    // The lock is gone with its end.
    let second = recording(dir.path(), 1 << 20);
    wrote(&second, b"two\nthree\n", b"err").await;
    assert_eq!(text(of_first).await, "one\n");
    assert_eq!(text(first.subscribe(options(From::TailLines(1)))).await, "one\n");
    assert_eq!(text(second.subscribe(options(From::Start))).await, "two\nthree\nerr");
    assert_eq!(text(second.subscribe(options(From::TailLines(1)))).await, "three\nerr");
    let more_than_there_is = SubscribeOptions { sources: Sources::Stdout, ..options(From::TailLines(9)) };
    assert_eq!(text(second.subscribe(more_than_there_is)).await, "two\nthree\n");
    let at = From::Offset { source: Source::Stdout, offset: 2 };
    assert_eq!(
        text(second.subscribe(SubscribeOptions { sources: Sources::Stdout, ..options(at) })).await,
        "e\ntwo\nthree\n"
    );
    // A cursor of the first is a place in the log of both.
    assert_eq!(text(second.resume(cursor, SubscribeOptions::default()).unwrap()).await, "one\ntwo\nthree\nerr");
    let mut ended = second.subscribe(SubscribeOptions::default());
    while ended.recv().await.is_some() {}
    assert_eq!(first.resume(ended.cursor(), SubscribeOptions::default()).unwrap_err().reason, GoneReason::Ahead);
    assert!(second.resume(ended.cursor(), SubscribeOptions::default()).is_ok());
    let (stdout, stderr) = (second.totals(Source::Stdout), second.totals(Source::Stderr));
    assert_eq!((stdout.bytes, stderr.bytes, stdout.dropped), (10, 3, 0));
    assert!(second.exceeds(12).await && !second.exceeds(13).await);
}

#[tokio::test]
async fn what_was_removed_is_a_gap_and_what_a_rate_suppresses_too() {
    let dir = tempfile::tempdir().unwrap();
    wrote(&recording(dir.path(), 10), &[b'x'; 25], b"").await;
    let second = recording(dir.path(), 10);
    let mut early = second.subscribe(SubscribeOptions::default());
    wrote(&second, &[b'y'; 65], b"").await;
    for reader in [&mut early, &mut second.subscribe(SubscribeOptions::default())] {
        match reader.recv().await.unwrap() {
            Event::Gap(gap) => assert_eq!((gap.from, gap.to, gap.cause), (25, 60, GapCause::Removed)),
            other => panic!("unexpected {other:?}"),
        }
        assert_eq!(reader.metrics().dropped, 35);
    }
    let rate = Some(RateLimit { bytes_per_second: 1, burst: 1 });
    let mut slow = second.subscribe(SubscribeOptions { rate, ..SubscribeOptions::default() });
    let mut seen = Vec::new();
    while let Some(event) = slow.recv().await {
        seen.push(match event {
            Event::Chunk(chunk) => (chunk.offset, "chunk"),
            Event::Gap(gap) => (gap.from, gap.cause.as_str()),
            _ => (0, "end"),
        });
    }
    assert_eq!(seen, [(25, "removed"), (60, "chunk"), (70, "suppressed"), (80, "suppressed"), (0, "end")]);
    assert_eq!(slow.metrics().suppressed, 20);
}

#[tokio::test]
async fn a_log_that_takes_nothing_loses_by_count_and_the_end_comes_last() {
    let dir = tempfile::tempdir().unwrap();
    let recording = recording(dir.path(), 1 << 20);
    let mut reader = recording.subscribe(SubscribeOptions::default());
    assert!(reader.recv().now_or_never().is_none());
    let (out, mut file) = pipe();
    let full = Interceptor::new(|_| Box::pin(async { Interference::Lose }));
    file.write_all(b"lost").unwrap();
    drop(file);
    recording.pump(Some(out.intercepted(full)), None, ready(Fate::Unknown), None).await;
    match reader.recv().await.unwrap() {
        Event::Gap(gap) => assert_eq!((gap.from, gap.to, gap.cause), (0, 4, GapCause::LogFull)),
        other => panic!("unexpected {other:?}"),
    }
    match reader.recv().await.unwrap() {
        Event::End(end) => assert_eq!((end.stdout.bytes, end.stdout.dropped, end.reason), (4, 4, EndReason::Eof)),
        other => panic!("unexpected {other:?}"),
    }
    assert_eq!((reader.recv().await, reader.cursor().offset(Source::Stdout)), (None, 4));
    assert_eq!(recording.metrics().dropped, 4);
}

#[tokio::test]
async fn a_log_that_was_removed_ends_its_readers_and_says_what_they_miss() {
    let dir = tempfile::tempdir().unwrap();
    let recording = recording(dir.path(), 1 << 20);
    let mut early = recording.subscribe(SubscribeOptions::default());
    wrote(&recording, b"unread", b"").await;
    std::fs::remove_dir_all(dir.path()).unwrap();
    for reader in [&mut early, &mut recording.subscribe(SubscribeOptions::default())] {
        match reader.recv().await.unwrap() {
            Event::End(end) => {
                assert_eq!((end.stdout.bytes, end.stdout.dropped), (6, 6));
                assert_eq!(end.reason, EndReason::Error(StreamErrorKind::Read));
            }
            other => panic!("unexpected {other:?}"),
        }
        assert_eq!(reader.recv().await, None);
    }
}

#[tokio::test]
async fn a_pump_that_is_dropped_abandons_its_readers_and_lets_go_of_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let recording = recording(dir.path(), 1 << 20);
    let reader = recording.subscribe(SubscribeOptions::default());
    let (out, _file) = pipe();
    assert_eq!(Log::open(dir.path(), LogOptions::default()).unwrap_err().kind(), LogErrorKind::InUse);
    drop(recording.pump(Some(out), None, ready(Fate::Unknown), None));
    let mut reader = reader;
    assert!(matches!(reader.recv().await, Some(Event::End(end)) if end.reason == EndReason::Abandoned));
    // A second pump has nothing to do.
    assert_eq!(recording.pump(None, None, ready(Fate::Unknown), None).await, EndReason::Abandoned);
    Log::open(dir.path(), LogOptions::default()).unwrap();
}

#[tokio::test]
async fn a_leaked_writer_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let recording = recording(dir.path(), 1 << 20);
    let (out, mut file) = pipe();
    file.write_all(b"before").unwrap();
    let reason = recording.pump(Some(out), None, ready(Fate::Code(3)), Some(Duration::ZERO)).await;
    assert_eq!(reason, EndReason::Leaked);
    assert_eq!(text(recording.subscribe(SubscribeOptions::default())).await, "before");
    let mut read = LogReader::open(dir.path(), From::Now, ReadOptions::default()).unwrap();
    assert!(read.next().await.unwrap().is_some(), "its end is in the log");
}

#[test]
fn a_log_that_was_never_used_goes_and_another_stays() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("a/b");
    let unused = recording(&dir, 100);
    assert!(dir.join("log.state").exists());
    drop(unused.subscribe(SubscribeOptions::default()));
    drop(unused);
    assert!(!parent.path().join("a").exists());
    let unused = recording(&dir, 100);
    std::fs::write(parent.path().join("a/other"), "").unwrap();
    unused.take_back();
    assert!(parent.path().join("a/other").exists() && !dir.exists());
    // One that was there before is nobody's to remove.
    drop(Log::create(&dir, LogOptions::default()).unwrap());
    recording(&dir, 100).take_back();
    assert!(dir.join("log.state").exists());
    // Who holds it too may have a process that writes into it, unless it is said that there is none.
    let dir = parent.path().join("held");
    for stays in [true, false] {
        let held = recording(&dir, 100);
        let _file = held.log().unwrap().share(Source::Stdout).unwrap();
        if stays {
            drop(held)
        } else {
            held.take_back()
        }
        assert_eq!(dir.join("log.state").exists(), stays);
        let _ = std::fs::remove_dir_all(&dir);
    }
}

/// All that files of a log tell about standard output: bytes, and each gap.
fn told(dir: &Path) -> (String, Vec<(u64, u64, GapCause)>) {
    let mut reader = LogReader::open(dir, From::Start, ReadOptions::default()).unwrap();
    let (mut text, mut gaps) = (String::new(), Vec::new());
    while let Some(event) = reader.try_next().unwrap() {
        match event {
            LogEvent::Chunk(chunk) => text.push_str(std::str::from_utf8(&chunk.data).unwrap()),
            LogEvent::Gap(gap) => gaps.push((gap.from, gap.to, gap.cause)),
            LogEvent::End(end) => {
                let over: u64 = gaps.iter().map(|(from, to, _)| to - from).sum();
                assert_eq!((end.stdout.over_limit, end.stdout.dropped), (over, 0));
            }
            other => panic!("unexpected {other:?}"),
        }
    }
    (text, gaps)
}

#[tokio::test]
async fn a_limit_is_of_each_process_and_what_is_behind_it_stays_known() {
    let dir = tempfile::tempdir().unwrap();
    let first = recording(dir.path(), 4).limited(6);
    wrote(&first, b"one and more", b"").await;
    let mut reader = first.subscribe(SubscribeOptions::default());
    let mut got = Vec::new();
    while let Some(event) = reader.recv().await {
        match event {
            Event::Chunk(chunk) => got.extend_from_slice(&chunk.data),
            Event::Gap(gap) => assert_eq!((gap.from, gap.to, gap.cause), (6, 12, GapCause::OutputLimit)),
            Event::End(end) => assert_eq!((end.stdout.bytes, end.stdout.over_limit, end.stdout.dropped), (12, 6, 0)),
            other => panic!("unexpected {other:?}"),
        }
    }
    assert_eq!(got, b"one an");
    assert_eq!((first.metrics().over_limit, first.metrics().dropped), (6, 0));
    assert!(first.exceeds(6).await);
    let behind = (6, 12, GapCause::OutputLimit);
    assert_eq!(told(dir.path()), ("one an".into(), vec![behind]));
    // The next one has its own limit, and the place of the first one's rest keeps its reason.
    let second = recording(dir.path(), 4).limited(3);
    wrote(&second, b"two", b"").await;
    assert_eq!(told(dir.path()), ("one antwo".into(), vec![behind]));
    let third = recording(dir.path(), 4).limited(1);
    wrote(&third, b"12", b"").await;
    assert_eq!(told(dir.path()), ("one antwo1".into(), vec![behind, (16, 17, GapCause::OutputLimit)]));
}

#[tokio::test]
async fn a_limit_can_be_changed_until_it_is_passed() {
    let dir = tempfile::tempdir().unwrap();
    wrote(&recording(dir.path(), 1 << 20), b"before", b"").await;
    let recording = recording(dir.path(), 1 << 20).limited(3);
    let (out, mut file) = pipe();
    let again = recording.clone();
    let pump = tokio::spawn(async move { again.pump(Some(out), None, async { Fate::Code(0) }, None).await });
    let mut events = recording.subscribe(SubscribeOptions::default());
    let mut next = async |text: &str| {
        file.write_all(text.as_bytes()).unwrap();
        match events.recv().await {
            Some(Event::Chunk(chunk)) => chunk.data.to_vec(),
            other => panic!("unexpected {other:?}"),
        }
    };
    assert_eq!(next("ab").await, b"ab");
    // One byte of three is left; then three of five; then, lower than what is there, none.
    recording.set_limit(5);
    assert_eq!(next("cde").await, b"cde");
    recording.set_limit(u64::MAX);
    assert_eq!(next("fgh").await, b"fgh");
    recording.set_limit(1);
    file.write_all(b"over").unwrap();
    assert!(recording.exceeds(8).await);
    recording.set_limit(u64::MAX);
    file.write_all(b"and more").unwrap();
    drop(file);
    assert_eq!(pump.await.unwrap(), EndReason::Eof);
    recording.set_limit(1);
    assert_eq!(recording.subscribe(SubscribeOptions::default()).collect(100).await.to_vec(), b"abcdefgh");
    assert_eq!((recording.metrics().over_limit, recording.metrics().dropped), (12, 0));
}

#[tokio::test]
async fn the_end_of_a_recording_carries_the_exit_and_bytes_do_not_wait_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let recording = recording(dir.path(), 1 << 20).limited(3);
    let (out, mut file) = pipe();
    let (exit, exited) = tokio::sync::oneshot::channel();
    let again = recording.clone();
    let pump = tokio::spawn(async move { again.pump(Some(out), None, async { exited.await.unwrap() }, None).await });
    file.write_all(b"all and more").unwrap();
    drop(file);
    let mut events = recording.subscribe(SubscribeOptions::default());
    assert_eq!(recording.subscribe(SubscribeOptions::default()).collect(100).await.to_vec(), b"all");
    assert!(matches!(events.recv().await, Some(Event::Chunk(_))));
    // What is behind the last byte is known with it.
    assert!(matches!(events.recv().await, Some(Event::Gap(gap)) if gap.bytes() == 9));
    assert!(events.recv().now_or_never().is_none() && !pump.is_finished());
    assert_eq!(recording.subscribe(SubscribeOptions::default()).collect(100).await.to_vec(), b"all");
    exit.send(Fate::Code(7)).unwrap();
    assert_eq!(pump.await.unwrap(), EndReason::Eof);
    let Some(Event::End(end)) = events.recv().await else { panic!() };
    assert_eq!((end.fate, end.stdout.bytes), (Fate::Code(7), 12));
    // And in the log.
    let mut reader = LogReader::open(dir.path(), From::Now, ReadOptions::default()).unwrap();
    let Some(LogEvent::End(end)) = reader.next().await.unwrap() else { panic!() };
    assert_eq!(end.fate, Fate::Code(7));
}
