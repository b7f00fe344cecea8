//! A log on a disk that is really full: the workload runs on, and the gap is exact.
//!
//! The disk is a small tmpfs in a mount namespace of a child's own, or, without the right to make one,
//! a limit on the size of files. What is missing is said and counted as skipped.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::future::pending;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Output};
use std::time::Duration;

use libtest_mimic::{Arguments, Trial};
use orangery_io_stream::log::{Log, LogEvent, LogOptions, LogReader, ReadOptions, log_pump_pair};
use orangery_io_stream::{EndReason, From, Gap, GapCause, PipeReader};

/// Set for a child: which one it is, and where it works.
const CHILD: &str = "ORANGERY_FULL_CHILD";
const DIR: &str = "ORANGERY_FULL_DIR";
const TOTAL: usize = 6 << 20;

fn main() -> ExitCode {
    if let Some(child) = std::env::var_os(CHILD) {
        let dir = PathBuf::from(std::env::var_os(DIR).unwrap());
        match child.to_str() {
            Some("disk") => on_a_small_disk(&dir),
            Some("begin") => begun_on_a_full_disk(&dir),
            _ => with_a_file_limit(&dir),
        }
        return ExitCode::SUCCESS;
    }
    let skip = without_mounts();
    if let Some(why) = &skip {
        for name in ["a_full_disk_never_stops_the_workload", "a_log_that_cannot_be_begun_is_refused_and_leaves_nothing"]
        {
            eprintln!("skipped: {name}: {why}");
        }
    }
    let full = trial("a_full_disk_never_stops_the_workload", || child("disk")).with_ignored_flag(skip.is_some());
    let begin = trial("a_log_that_cannot_be_begun_is_refused_and_leaves_nothing", || child("begin"));
    let begin = begin.with_ignored_flag(skip.is_some());
    let limit = trial("a_limit_on_files_is_a_full_disk", || child("limit"));
    libtest_mimic::run(&Arguments::from_args(), vec![full, begin, limit]).exit_code()
}

fn trial(name: &str, run: fn()) -> Trial {
    Trial::test(name, move || {
        run();
        Ok(())
    })
}

/// Runs one of the children: this program once more, in a shell that makes its surroundings.
fn child(name: &str) {
    let dir = tempfile::tempdir().unwrap();
    let output = match name {
        "disk" | "begin" => shell(&unshare(), &format!(r#"{MOUNT} && exec "$@""#), name, dir.path()),
        // Blocks of 512 bytes. The signal is ignored, as a service with such a limit must.
        _ => shell(&["sh"], r#"trap '' XFSZ; ulimit -f 100 && exec "$@""#, name, dir.path()),
    };
    assert!(output.status.success(), "{output:?}");
}

const MOUNT: &str = r#"mount -t tmpfs -o size=2m none "$ORANGERY_FULL_DIR""#;

/// Into a mount namespace of its own.
fn unshare() -> [&'static str; 3] {
    let root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    ["unshare", if root { "-m" } else { "-rm" }, "sh"]
}

/// Why there can be no small disk here.
fn without_mounts() -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    let output = shell(&unshare(), MOUNT, "none", dir.path());
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

#[expect(clippy::disallowed_methods, reason = "limits and mounts need a process of their own")]
fn shell(program: &[&str], script: &str, child: &str, dir: &Path) -> Output {
    std::process::Command::new(program[0])
        .args(&program[1..])
        .args(["-c", script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .env(CHILD, child)
        .env(DIR, dir)
        .output()
        .unwrap()
}

/// Writes everything through a pipe into a log, and reads it back: what was kept, and the gaps.
fn flood(dir: &Path, options: LogOptions, free: impl FnOnce() + Send + 'static) -> (Vec<u8>, Vec<Gap>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (ours, mut theirs) = std::io::pipe().unwrap();
        let log = Log::create(dir, options).unwrap();
        let watched = log.clone();
        let workload = std::thread::spawn(move || {
            let all: Vec<u8> = (0..TOTAL).map(|at| (at % 251) as u8).collect();
            theirs.write_all(&all[..TOTAL / 2]).unwrap();
            // The disk is full by now; there is room again for what follows.
            while watched.metrics().discarded == 0 {
                std::thread::yield_now();
            }
            free();
            theirs.write_all(&all[TOTAL / 2..]).unwrap();
        });
        let reader = PipeReader::from_fd(ours.into()).unwrap();
        let reason = log_pump_pair(Some(reader), None, log.clone(), pending(), None).await;
        assert_eq!(reason, EndReason::Eof);
        workload.join().unwrap();
        let (mut kept, mut gaps, mut position) = (Vec::new(), Vec::new(), 0);
        let mut reader = LogReader::open(dir, From::Start, ReadOptions::default()).unwrap();
        loop {
            match reader.try_next().unwrap().unwrap() {
                LogEvent::Chunk(chunk) => {
                    assert_eq!(chunk.offset, position);
                    for byte in &chunk.data {
                        assert_eq!(u64::from(*byte), position % 251);
                        position += 1;
                    }
                    kept.extend_from_slice(&chunk.data);
                }
                LogEvent::Gap(gap) => {
                    assert_eq!((gap.from, gap.cause), (position, GapCause::LogFull));
                    position = gap.to;
                    gaps.push(gap);
                }
                LogEvent::End(end) => {
                    let missed: u64 = gaps.iter().map(Gap::bytes).sum();
                    assert_eq!((position, end.stdout.bytes), (TOTAL as u64, TOTAL as u64));
                    assert_eq!(log.metrics().discarded, missed);
                    return (kept, gaps);
                }
                other => panic!("unknown {other:?}"),
            }
        }
    })
}

fn on_a_small_disk(dir: &Path) {
    let ballast = dir.join("ballast");
    std::fs::write(&ballast, vec![0; 1 << 20]).unwrap();
    let options = LogOptions {
        segment_bytes: 200_000,
        keep_segments: usize::MAX,
        retry: Duration::ZERO,
        ..LogOptions::default()
    };
    let (kept, gaps) = flood(&dir.join("log"), options, move || std::fs::remove_file(ballast).unwrap());
    assert!(gaps.len() >= 2, "it went on when there was room: {gaps:?}");
    // Two mebibytes of disk were used to the last block, indexes and directories apart.
    assert!(kept.len() > 1_500_000, "{}", kept.len());
}

fn with_a_file_limit(dir: &Path) {
    // Each segment is cut by the limit; the next one begins where room is seen again.
    let options = LogOptions { keep_segments: usize::MAX, retry: Duration::ZERO, ..LogOptions::default() };
    let (kept, gaps) = flood(&dir.join("log"), options, || {});
    assert!(!gaps.is_empty() && kept.len() > TOTAL / 10, "{} {gaps:?}", kept.len());
}

/// Nothing fits: no new log begins, and one that is there goes on, with a gap.
fn begun_on_a_full_disk(dir: &Path) {
    let old = dir.join("old");
    drop(Log::create(&old, LogOptions::default()).unwrap());
    let filler = std::fs::File::create(dir.join("filler")).unwrap();
    let mut filler = std::io::BufWriter::with_capacity(4096, filler);
    while filler.write_all(&[0; 4096]).is_ok() {}
    let before = names(dir);
    let refused = Log::create(dir.join("new/log"), LogOptions::default()).unwrap_err();
    assert_eq!(refused.io_error().and_then(std::io::Error::raw_os_error), Some(28), "{refused}");
    let refused = Log::open_or_create(dir, LogOptions::default()).unwrap_err();
    assert_eq!(refused.io_error().and_then(std::io::Error::raw_os_error), Some(28), "{refused}");
    assert_eq!(names(dir), before);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let log = Log::open(&old, LogOptions::default()).unwrap();
        let (ours, mut theirs) = std::io::pipe().unwrap();
        theirs.write_all(b"lost").unwrap();
        drop(theirs);
        let reader = PipeReader::from_fd(ours.into()).unwrap();
        log_pump_pair(Some(reader), None, log.clone(), pending(), None).await;
        assert_eq!(log.metrics().discarded, 4);
    });
    assert_eq!(names(&old), ["log.state"]);
}

fn names(dir: &Path) -> Vec<std::ffi::OsString> {
    let mut names: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}
