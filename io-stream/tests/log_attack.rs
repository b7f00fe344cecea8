//! What others do to the directory of a log: links and pipes where files should be, files that go, two who want to write.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod fed;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fed::Fed;
use orangery_io_stream::log::{Log, LogErrorKind, LogEvent, LogOptions, LogReader, ReadOptions};
use orangery_io_stream::{From, GapCause, Source};
use rustix::fs::{CWD, Mode, mkfifoat};

fn options(segment_bytes: u64) -> LogOptions {
    LogOptions { segment_bytes, keep_segments: 1000, retry: Duration::ZERO, ..LogOptions::default() }
}

fn file(dir: &Path, base: u64, ending: &str) -> PathBuf {
    dir.join(format!("stdout.{base:020}.{ending}"))
}

/// Bytes of standard output that are there, and each gap.
fn told(dir: &Path) -> (String, Vec<(u64, u64, GapCause)>) {
    let mut reader = LogReader::open(dir, From::Start, ReadOptions::default()).unwrap();
    let (mut text, mut gaps) = (String::new(), Vec::new());
    while let Some(event) = reader.try_next().unwrap() {
        match event {
            LogEvent::Chunk(chunk) => text.push_str(std::str::from_utf8(&chunk.data).unwrap()),
            LogEvent::Gap(gap) => gaps.push((gap.from, gap.to, gap.cause)),
            _ => {}
        }
    }
    (text, gaps)
}

#[tokio::test]
async fn nobody_has_us_write_elsewhere() {
    let parent = tempfile::tempdir().unwrap();
    let (dir, victim) = (parent.path().join("log"), parent.path().join("victim"));
    fs::write(&victim, "as it was").unwrap();
    let mut fed = Fed::new(&dir, options(4));
    fed.write(Source::Stdout, b"one ").await;
    // In the place of the next index, of the one after that and its data, and of the state that a new log would make.
    symlink(&victim, file(&dir, 4, "idx")).unwrap();
    symlink(&victim, file(&dir, 8, "idx")).unwrap();
    symlink(&victim, file(&dir, 8, "log")).unwrap();
    symlink(&victim, dir.join("log.state.new")).unwrap();
    fed.write(Source::Stdout, b"two ").await;
    fed.write(Source::Stdout, b"lost").await;
    fed.write(Source::Stdout, b"four").await;
    drop(fed.end().await);
    assert_eq!(fs::read_to_string(&victim).unwrap(), "as it was");
    assert_eq!(told(&dir), ("one two four".into(), vec![(8, 12, GapCause::LogFull)]));
    // A writer that comes later neither.
    let mut fed = Fed::on(Log::open(&dir, options(4)).unwrap());
    fed.write(Source::Stdout, b"more").await;
    drop(fed.end().await);
    assert_eq!(fs::read_to_string(&victim).unwrap(), "as it was");
    for (planted, name) in [(file(&dir, 16, "log"), "data"), (dir.join("log.state"), "state")] {
        let away = parent.path().join("away");
        fs::rename(&planted, &away).unwrap();
        symlink(&away, &planted).unwrap();
        match name {
            // No file of the log: what was in it is gone.
            "data" => assert_eq!(told(&dir).0, "one two four"),
            _ => {
                assert!(LogReader::open(&dir, From::Start, ReadOptions::default()).is_err());
                assert_eq!(Log::open(&dir, options(4)).unwrap_err().kind(), LogErrorKind::Io);
                assert_eq!(Log::create(&dir, options(4)).unwrap_err().kind(), LogErrorKind::Exists);
            }
        }
    }
}

#[tokio::test]
async fn nobody_has_us_wait_for_a_pipe() {
    let dir = tempfile::tempdir().unwrap();
    let mut fed = Fed::new(dir.path(), options(4));
    fed.write(Source::Stdout, b"one ").await;
    let fifo = |path: PathBuf| mkfifoat(CWD, path, Mode::RWXU).unwrap();
    fifo(file(dir.path(), 2, "log"));
    fifo(file(dir.path(), 100, "log"));
    fs::remove_file(file(dir.path(), 0, "idx")).unwrap();
    fifo(file(dir.path(), 0, "idx"));
    fs::create_dir(file(dir.path(), 200, "log")).unwrap();
    fed.write(Source::Stdout, b"two ").await;
    drop(fed.end().await);
    fs::remove_file(file(dir.path(), 0, "idx")).unwrap();
    assert_eq!(told(dir.path()), ("one two ".into(), Vec::new()));
    fs::rename(dir.path().join("log.state"), dir.path().join("away")).unwrap();
    fifo(dir.path().join("log.state"));
    assert!(LogReader::open(dir.path(), From::Start, ReadOptions::default()).is_err());
    assert!(Log::open(dir.path(), options(4)).is_err());
}

#[tokio::test]
async fn what_is_deleted_under_a_reader_is_a_gap_and_under_a_writer_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut fed = Fed::new(dir.path(), options(4));
    fed.write(Source::Stdout, b"one two four").await;
    let mut reader = LogReader::open(dir.path(), From::Start, ReadOptions::default()).unwrap();
    let Some(LogEvent::Chunk(first)) = reader.try_next().unwrap() else { panic!() };
    assert_eq!(first.data, "one ");
    for ending in ["log", "idx"] {
        fs::remove_file(file(dir.path(), 4, ending)).unwrap();
        // The one that is being written.
        fs::remove_file(file(dir.path(), 8, ending)).unwrap();
    }
    fed.write(Source::Stdout, b"next").await;
    let Some(LogEvent::Gap(gap)) = reader.try_next().unwrap() else { panic!() };
    assert_eq!((gap.from, gap.to), (4, 12));
    let Some(LogEvent::Chunk(next)) = reader.try_next().unwrap() else { panic!() };
    assert_eq!((next.offset, &next.data[..]), (12, &b"next"[..]));
    // One made shorter: what it had is an error to who stood behind, and the rest is there.
    let shorter = fs::File::options().write(true).open(file(dir.path(), 12, "log")).unwrap();
    shorter.set_len(2).unwrap();
    let (text, gaps) = told(dir.path());
    assert_eq!((text.as_str(), gaps), ("one ne", vec![(4, 12, GapCause::LogFull)]));
    drop(fed.end().await);
}

#[test]
fn of_many_who_make_a_log_at_once_one_has_it_and_it_is_what_it_says() {
    let parent = tempfile::tempdir().unwrap();
    for round in 0..50 {
        let dir = parent.path().join(format!("{round}/log"));
        let start = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    start.wait();
                    match Log::open_or_create(&dir, options(10)) {
                        Ok(log) => {
                            let read = LogReader::open(&dir, From::Start, ReadOptions::default()).unwrap();
                            assert_eq!(read.cursor().stream(), log.stream());
                        }
                        Err(error) => assert_eq!(error.kind(), LogErrorKind::InUse),
                    }
                });
            }
        });
        let left: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["log.state"]);
    }
}
