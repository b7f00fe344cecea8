//! Following a log that another process writes: a reader that has nothing but the files, and the kernel's word.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod fed;

use std::fs;
use std::future::poll_fn;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use fed::Fed;
use futures_util::FutureExt;
use orangery_io_stream::log::{LogErrorKind, LogEvent, LogOptions, LogReader, ReadOptions};
use orangery_io_stream::{From, GapCause, Source, Sources};

const FOLLOW: ReadOptions = ReadOptions { sources: Sources::Both, follow: true, through_ends: false };

fn small(segment_bytes: u64, keep_segments: usize) -> LogOptions {
    LogOptions { segment_bytes, keep_segments, ..LogOptions::default() }
}

async fn chunk(reader: &mut LogReader) -> (u64, Vec<u8>) {
    match reader.next().await.unwrap().unwrap() {
        LogEvent::Chunk(chunk) => (chunk.offset, chunk.data.to_vec()),
        other => panic!("unexpected {other:?}"),
    }
}

/// In a time that passes by itself when nobody has anything to do: who looked now and then would do so for an hour.
#[tokio::test(start_paused = true)]
async fn a_follower_that_waits_does_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut fed = Fed::new(dir.path(), LogOptions::default());
    fed.write(Source::Stdout, b"before").await;
    let mut reader = LogReader::open(dir.path(), From::Start, FOLLOW).unwrap();
    assert_eq!(chunk(&mut reader).await, (0, b"before".to_vec()));
    let polls = AtomicU32::new(0);
    let mut next = pin!(reader.next());
    let counted = poll_fn(|cx| {
        polls.fetch_add(1, Ordering::Relaxed);
        next.as_mut().poll(cx)
    });
    assert!(tokio::time::timeout(Duration::from_secs(3600), counted).await.is_err());
    assert!(polls.load(Ordering::Relaxed) <= 3, "{polls:?}");
    fed.write(Source::Stderr, b"after").await;
    match next.await.unwrap().unwrap() {
        LogEvent::Chunk(chunk) => assert_eq!((chunk.source, &chunk.data[..]), (Source::Stderr, &b"after"[..])),
        other => panic!("unexpected {other:?}"),
    }
}

#[tokio::test]
async fn each_write_rotation_removal_and_end_is_heard_of() {
    let dir = tempfile::tempdir().unwrap();
    let mut fed = Fed::new(dir.path(), small(4, 2));
    let mut reader = LogReader::open(dir.path(), From::Start, FOLLOW).unwrap();
    for at in 0..10_u8 {
        let bytes = [at; 4];
        let (first, ()) = tokio::join!(chunk(&mut reader), fed.write(Source::Stdout, &bytes));
        assert_eq!(first, (u64::from(at) * 4, bytes.to_vec()));
    }
    // Three segments while nobody reads, two are kept, and the one that is open stays readable.
    fed.write(Source::Stdout, &[b'x'; 12]).await;
    match reader.next().await.unwrap().unwrap() {
        LogEvent::Gap(gap) => assert_eq!((gap.from, gap.to, gap.cause), (40, 44, GapCause::Removed)),
        other => panic!("unexpected {other:?}"),
    }
    assert_eq!((chunk(&mut reader).await.0, chunk(&mut reader).await.0), (44, 48));
    let (end, _) = tokio::join!(reader.next(), fed.end());
    assert!(matches!(end.unwrap(), Some(LogEvent::End(end)) if end.stdout.bytes == 52));
    assert_eq!(reader.next().await.unwrap(), None);
}

#[tokio::test]
async fn a_log_that_goes_wakes_its_follower_and_is_not_taken_for_the_next_one() {
    for moved in [false, true] {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("log");
        let mut fed = Fed::new(&dir, LogOptions::default());
        fed.write(Source::Stdout, b"old").await;
        let mut reader = LogReader::open(&dir, From::Start, FOLLOW).unwrap();
        assert_eq!(chunk(&mut reader).await.1, b"old");
        let mut next = Box::pin(reader.next());
        assert!(next.as_mut().now_or_never().is_none());
        match moved {
            true => fs::rename(&dir, parent.path().join("elsewhere")).unwrap(),
            false => fs::remove_dir_all(&dir).unwrap(),
        }
        // In its place stands another log, which has more than the first one had.
        let mut other = Fed::new(&dir, LogOptions::default());
        other.write(Source::Stdout, b"new and longer").await;
        assert_eq!(next.as_mut().await.unwrap_err().kind(), LogErrorKind::Missing);
        drop(next);
        assert_eq!(reader.next().await.unwrap_err().kind(), LogErrorKind::Missing);
        let mut again = LogReader::open(&dir, From::Start, FOLLOW).unwrap();
        assert_eq!(chunk(&mut again).await.1, b"new and longer");
    }
}

/// Our descriptors of files in `dir`, and of watches on it.
fn descriptors(dir: &Path) -> (usize, usize) {
    let watch = format!("ino:{:x} ", fs::metadata(dir).unwrap().ino());
    let (mut files, mut watches) = (0, 0);
    for entry in fs::read_dir("/proc/self/fd").unwrap() {
        let number = entry.unwrap().file_name().into_string().unwrap();
        let Ok(target) = fs::read_link(format!("/proc/self/fd/{number}")) else { continue };
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap_or_default();
        files += usize::from(target.starts_with(dir));
        watches += usize::from(info.lines().any(|line| line.starts_with("inotify") && line.contains(&watch)));
    }
    (files, watches)
}

#[tokio::test]
async fn a_follower_holds_six_descriptors_and_gives_them_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut fed = Fed::new(dir.path(), small(4, 3));
    for source in Source::ALL {
        fed.write(source, b"12345678").await;
    }
    let before = descriptors(dir.path());
    let mut reader = LogReader::open(dir.path(), From::Start, FOLLOW).unwrap();
    for _ in 0..4 {
        chunk(&mut reader).await;
    }
    {
        let mut next = pin!(reader.next());
        assert!(next.as_mut().now_or_never().is_none());
        let held = descriptors(dir.path());
        assert_eq!((held.0 - before.0, held.1 - before.1), (5, 1));
    }
    drop(reader);
    assert_eq!(descriptors(dir.path()), before);
}
