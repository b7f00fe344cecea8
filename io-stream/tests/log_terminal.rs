//! Terminals into logs: copied, because they cannot be spliced; the end, the hang-up, and what the log does not take.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs::File;
use std::future::ready;
use std::io::Write;
use std::path::Path;

use orangery_io_stream::log::{Log, LogEvent, LogOptions, LogReader, ReadOptions, Recording};
use orangery_io_stream::{
    EndReason, Event, Fate, From, GapCause, Interceptor, Interference, PipeReader, Pty, Source, SubscribeOptions,
};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};

/// A terminal's master, and the terminal that a workload would have.
fn terminal() -> (Pty, File) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let peer = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    (Pty::from_master(master).unwrap(), peer.into())
}

fn recording(dir: &Path, segment_bytes: u64) -> Recording {
    let options = LogOptions { segment_bytes, keep_segments: 1000, ..LogOptions::default() };
    Recording::new(Log::open_or_create(dir, options).unwrap())
}

fn kept(dir: &Path) -> Vec<u8> {
    let mut reader = LogReader::open(dir, From::Start, ReadOptions::default()).unwrap();
    let mut all = Vec::new();
    while let Some(event) = reader.try_next().unwrap() {
        match event {
            LogEvent::Chunk(chunk) => {
                assert!(chunk.seq.is_some() && chunk.wall.is_some());
                all.extend_from_slice(&chunk.data);
            }
            LogEvent::End(end) => assert_eq!(end.reason, EndReason::Eof),
            other => panic!("unexpected {other:?}"),
        }
    }
    all
}

#[tokio::test]
async fn every_byte_of_a_terminal_is_in_the_log_across_segments() {
    let dir = tempfile::tempdir().unwrap();
    let (pty, mut workload) = terminal();
    let recording = recording(dir.path(), 1000);
    let live = recording.subscribe(SubscribeOptions::default());
    let printed = std::thread::spawn(move || workload.write_all("hello\n".repeat(5000).as_bytes()).unwrap());
    // Closing the last terminal is the end, not an error.
    let reason = recording.pump(Some(pty.reader().unwrap()), None, ready(Fate::Unknown), None).await;
    printed.join().unwrap();
    let all = "hello\r\n".repeat(5000);
    assert_eq!((reason, recording.totals(Source::Stdout).bytes), (EndReason::Eof, all.len() as u64));
    assert!(live.collect(1 << 20).await.to_vec() == all.as_bytes() && kept(dir.path()) == all.as_bytes());
}

#[tokio::test]
async fn one_that_is_hung_up_ends_with_what_it_had_printed() {
    let dir = tempfile::tempdir().unwrap();
    let (pty, mut workload) = terminal();
    let recording = recording(dir.path(), 1 << 20);
    let reader = pty.reader().unwrap();
    workload.write_all(b"before").unwrap();
    pty.hang_up();
    recording.close();
    // The workload still has it.
    assert_eq!(recording.pump(Some(reader), None, ready(Fate::Unknown), None).await, EndReason::Eof);
    assert!(workload.write_all(b"after").is_err(), "nobody has the master any more");
    assert_eq!(kept(dir.path()), b"before");
}

/// A terminal that has printed this and was closed.
fn printed(text: &[u8]) -> (Pty, PipeReader) {
    let (pty, mut workload) = terminal();
    workload.write_all(text).unwrap();
    let reader = pty.reader().unwrap();
    (pty, reader)
}

#[tokio::test]
async fn what_the_log_does_not_take_is_counted_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let recording = recording(dir.path(), 1 << 20);
    let mut reader = recording.subscribe(SubscribeOptions::default());
    let (_pty, terminal) = printed(b"lost");
    let full = Interceptor::new(|_| Box::pin(async { Interference::Lose }));
    recording.pump(Some(terminal.intercepted(full)), None, ready(Fate::Unknown), None).await;
    let Some(Event::Gap(gap)) = reader.recv().await else { panic!() };
    assert_eq!((gap.from, gap.to, gap.cause), (0, 4, GapCause::LogFull));
    let Some(Event::End(end)) = reader.recv().await else { panic!() };
    assert_eq!((end.stdout.bytes, end.stdout.dropped, end.reason), (4, 4, EndReason::Eof));
}

#[tokio::test]
async fn a_limit_cuts_it_to_the_byte() {
    let dir = tempfile::tempdir().unwrap();
    let recording = recording(dir.path(), 2).limited(5);
    let (_pty, terminal) = printed(b"12345678");
    recording.pump(Some(terminal), None, ready(Fate::Unknown), None).await;
    let totals = recording.totals(Source::Stdout);
    assert_eq!((totals.bytes, totals.dropped, totals.over_limit), (8, 0, 3));
    assert_eq!(recording.subscribe(SubscribeOptions::default()).collect(100).await.to_vec(), b"12345");
}
