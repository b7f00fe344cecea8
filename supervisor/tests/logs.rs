//! Commands whose output goes into a durable log, against the scripted runtime.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says why by panicking")]

use std::path::Path;
use std::sync::Arc;

use orangery::faults::{Fault, FaultPoint, FaultPolicy, Site};
use orangery::stream::log::{Log, LogErrorKind, LogEvent, LogOptions, LogReader, ReadOptions};
use orangery::stream::{EndReason, Fate, From, GapCause, GoneReason};
use orangery::testing::FakeRuntime;
use orangery::{
    Cause, Cursor, ErrorKind, Event, LimitKind, Measured, OutputAction, OutputLimit, Restart, Sandbox, Source,
    SubscribeOptions, Supervisor,
};

fn supervisor(fake: &FakeRuntime) -> Supervisor {
    Supervisor::builder().shards(1).build_on(Arc::new(fake.clone())).unwrap()
}

/// All of a log as its files have it.
async fn kept(dir: &Path) -> (String, bool) {
    let mut reader = LogReader::open(dir, From::Start, ReadOptions::default()).unwrap();
    let (mut text, mut ended) = (String::new(), false);
    while let Some(event) = reader.next().await.unwrap() {
        match event {
            LogEvent::Chunk(chunk) => text.push_str(std::str::from_utf8(&chunk.data).unwrap()),
            LogEvent::End(_) => ended = true,
            other => panic!("unexpected {other:?}"),
        }
    }
    (text, ended)
}

#[tokio::test]
async fn the_output_is_in_the_log_and_in_every_readers_hands() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("new/log");
    let fake = FakeRuntime::default();
    let supervisor = supervisor(&fake);
    let container = supervisor.command("prog").log(&dir, LogOptions::default()).spawn().await.unwrap();
    let mut main = fake.actor().await;
    let mut live = container.output();
    main.say(b"first ");
    let Some(Event::Chunk(first)) = live.recv().await else { panic!() };
    assert_eq!((&first.data[..], first.offset), (&b"first "[..], 0));
    // A client that was cut off within the chunk.
    let cursor: Cursor = first.cursor_after(3).to_string().parse().unwrap();
    main.say(b"second");
    let again = container.resume_from(cursor, SubscribeOptions::default()).unwrap();
    let late = container.stdout();
    main.exit(3);
    assert_eq!(again.collect(100).await.to_vec(), b"st second");
    assert_eq!(late.collect(100).await.to_vec(), b"first second");
    let report = container.wait().await.unwrap();
    assert_eq!((&report.stdout.bytes, report.stdout.lost, report.leaked_writers), (&Measured::Known(12), 0, false));
    let Some(Event::Chunk(second)) = live.recv().await else { panic!() };
    assert_eq!(&second.data[..], b"second");
    let Some(Event::End(end)) = live.recv().await else { panic!() };
    assert_eq!((end.stdout.bytes, end.reason, end.fate), (12, EndReason::Eof, Fate::Code(3)));
    assert_eq!(kept(&dir).await, ("first second".into(), true));
    // After the end, too, and by the files alone.
    assert_eq!(container.stdout().collect(100).await.to_vec(), b"first second");
    assert_eq!(container.stream_metrics().bytes_in, 12);
    LogReader::resume(&dir, cursor, ReadOptions::default()).unwrap();
    supervisor.shutdown().await;
}

#[tokio::test]
async fn the_next_command_goes_on_with_it_and_run_gives_its_own_output() {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeRuntime::default();
    let supervisor = supervisor(&fake);
    let mut cursors = Vec::new();
    for (text, code) in [("one", 1), ("two", 2)] {
        let run = tokio::spawn(supervisor.command("prog").log(dir.path(), LogOptions::default()).run());
        let mut main = fake.actor().await;
        main.say(text.as_bytes());
        main.exit(code);
        // The first one's handles are alive: its log is free all the same.
        let output = run.await.unwrap().unwrap();
        assert_eq!((output.stdout.to_vec(), output.report.shell_code()), (text.as_bytes().to_vec(), code));
        assert_eq!(output.report.stdout.bytes, Measured::Known(3));
        let reader = LogReader::open(dir.path(), From::Now, ReadOptions::default()).unwrap();
        cursors.push(reader.cursor());
    }
    assert_eq!(kept(dir.path()).await, ("onetwo".into(), true));
    let mut second = LogReader::resume(dir.path(), cursors[0], ReadOptions::default()).unwrap();
    let Ok(Some(LogEvent::Chunk(chunk))) = second.next().await else { panic!() };
    assert_eq!((&chunk.data[..], chunk.offset), (&b"two"[..], 3));
    let elsewhere = tempfile::tempdir().unwrap();
    drop(Log::create(elsewhere.path(), LogOptions::default()).unwrap());
    let foreign = LogReader::resume(elsewhere.path(), cursors[0], ReadOptions::default()).unwrap_err();
    assert_eq!(foreign.gone().unwrap().reason, GoneReason::Foreign);
    supervisor.shutdown().await;
}

#[tokio::test]
async fn a_directory_that_cannot_be_used_is_refused_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeRuntime::default();
    let supervisor = supervisor(&fake);
    let held = Log::create(dir.path(), LogOptions::default()).unwrap();
    let container = supervisor.command("prog").spawn().await.unwrap();
    let before = fake.log();
    for (path, kind) in [
        (dir.path(), ErrorKind::State),
        (Path::new("/dev/null/log"), ErrorKind::NotFound),
        (Path::new("relative"), ErrorKind::Invalid),
    ] {
        let main = supervisor.command("prog").log(path, LogOptions::default()).spawn().await.unwrap_err();
        let further = container.command("more").log(path, LogOptions::default()).spawn().await.unwrap_err();
        for error in [main, further] {
            assert_eq!((error.kind(), error.field()), (kind, Some("log")), "{error}");
        }
    }
    assert_eq!(fake.log(), before, "the runtime has heard of none of them");
    drop(held);
    supervisor.shutdown().await;
}

#[tokio::test]
async fn a_further_process_has_a_log_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeRuntime::default();
    let supervisor = supervisor(&fake);
    let container = supervisor.command("prog").spawn().await.unwrap();
    let _main = fake.actor().await;
    let more = container.command("more").log(dir.path().join("more"), LogOptions::default()).spawn().await.unwrap();
    let mut process = fake.actor().await;
    process.say(b"of its own");
    process.exit(0);
    let report = more.wait().await.unwrap();
    assert_eq!(report.stdout.bytes, Measured::Known(10));
    assert_eq!(more.output().collect(100).await.to_vec(), b"of its own");
    assert_eq!(kept(&dir.path().join("more")).await, ("of its own".into(), true));
    // It can be written by the next one at once.
    let next = container.command("more").log(dir.path().join("more"), LogOptions::default()).spawn().await.unwrap();
    assert_eq!(next.stdout().opening().start.offset(Source::Stdout), 10);
    supervisor.shutdown().await;
}

#[tokio::test]
async fn the_limit_of_output_counts_what_goes_into_a_log() {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeRuntime::default();
    let supervisor = supervisor(&fake);
    let sandbox = Sandbox::builder().output(10).build().unwrap();
    let command = supervisor.command("prog").sandbox(&sandbox).log(dir.path(), LogOptions::default());
    let container = command.spawn().await.unwrap();
    let mut main = fake.actor().await;
    main.say(b"more than ten");
    let report = container.wait().await.unwrap();
    assert_eq!(report.cause, Cause::Limit(LimitKind::Output));
    supervisor.shutdown().await;
}

#[tokio::test]
async fn a_limit_of_output_cuts_the_log_to_the_byte() {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeRuntime::default();
    let supervisor = supervisor(&fake);
    let limit = OutputLimit { bytes: 10, action: OutputAction::Truncate };
    let sandbox = Sandbox::builder().output_limit(limit).build().unwrap();
    let command = supervisor.command("prog").sandbox(&sandbox).log(dir.path(), LogOptions::default());
    let container = command.spawn().await.unwrap();
    let mut main = fake.actor().await;
    let output = container.stdout();
    main.say(b"more than ten");
    main.exit(0);
    let report = container.wait().await.unwrap();
    assert_eq!((&report.cause, report.output_limit, report.stdout.suppressed), (&Cause::Own, Some(10), 3));
    assert_eq!((&report.stdout.bytes, report.stdout.lost), (&Measured::Known(13), 0));
    let captured = output.collect(100).await;
    assert_eq!(captured.to_vec(), b"more than ");
    let mut reader =
        LogReader::open(dir.path(), From::Offset { source: Source::Stdout, offset: 10 }, Default::default());
    let Ok(Some(LogEvent::Gap(gap))) = reader.as_mut().unwrap().next().await else { panic!() };
    assert_eq!((gap.from, gap.to, gap.cause), (10, 13, GapCause::OutputLimit));
    supervisor.shutdown().await;
}

#[tokio::test]
async fn a_start_that_fails_leaves_no_log() {
    let parent = tempfile::tempdir().unwrap();
    let fake = FakeRuntime::default();
    let supervisor = supervisor(&fake);
    fake.refuse(orangery::runtime::Error::new(orangery::runtime::ErrorKind::NotFound, "no such program"));
    let dir = parent.path().join("a/b");
    supervisor.command("prog").log(&dir, LogOptions::default()).spawn().await.unwrap_err();
    assert!(!parent.path().join("a").exists());
    let missing = LogReader::open(&dir, From::Start, ReadOptions::default()).unwrap_err();
    assert_eq!(missing.kind(), LogErrorKind::Missing);
    supervisor.shutdown().await;
}

#[tokio::test]
async fn each_incarnation_of_a_service_goes_on_with_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeRuntime::default();
    let supervisor = supervisor(&fake);
    let command = supervisor.command("prog").id("a").log(dir.path(), LogOptions::default());
    let service = command.restart(Restart::on_failure().delays([])).supervise().await.unwrap();
    for (text, code) in [("one ", 1), ("two ", 1), ("three", 0)] {
        let mut main = fake.actor().await;
        main.say(text.as_bytes());
        main.exit(code);
    }
    service.wait().await.unwrap();
    assert_eq!(kept(dir.path()).await, ("one two three".into(), true));
    supervisor.shutdown().await;
}

/// No log takes anything.
struct Full;

impl FaultPolicy for Full {
    fn decide(&self, at: &FaultPoint<'_>) -> Fault {
        if matches!(at.site, Site::PumpRead(_)) { Fault::Drop } else { Fault::Continue }
    }
}

#[tokio::test]
async fn what_the_log_does_not_take_is_in_the_report() {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeRuntime::default();
    let builder = Supervisor::builder().shards(1).fault_policy(Arc::new(Full));
    let supervisor = builder.build_on(Arc::new(fake.clone())).unwrap();
    let container = supervisor.command("prog").log(dir.path(), LogOptions::default()).spawn().await.unwrap();
    let mut output = container.output();
    let mut main = fake.actor().await;
    main.say(b"lost");
    main.exit(0);
    let report = container.wait().await.unwrap();
    assert_eq!((&report.stdout.bytes, report.stdout.lost, report.stderr.lost), (&Measured::Known(4), 4, 0));
    let Some(Event::Gap(gap)) = output.recv().await else { panic!() };
    assert_eq!((gap.from, gap.to, gap.cause), (0, 4, GapCause::LogFull));
    let Some(Event::End(end)) = output.recv().await else { panic!() };
    assert_eq!((end.stdout.dropped, end.reason), (4, EndReason::Eof));
    assert_eq!(container.stream_metrics().dropped, 4);
    supervisor.shutdown().await;
}
