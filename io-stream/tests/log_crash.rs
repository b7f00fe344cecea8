//! SIGKILL of the splicing process at random moments of a flood: the log and what is left in the pipe
//! are the exact sequence. 20 rounds; `ORANGERY_CRASH_ROUNDS=200` for more.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs::File;
use std::future::pending;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use orangery_io_stream::log::{Log, LogEvent, LogOptions, LogReader, ReadOptions, log_pump_pair};
use orangery_io_stream::{EndReason, From, PipeReader, Source};
use rustix::pipe::{PipeFlags, pipe_with};

const DIR: &str = "ORANGERY_CRASH_DIR";

fn options() -> LogOptions {
    LogOptions { segment_bytes: 3_000_000, keep_segments: usize::MAX, ..LogOptions::default() }
}

/// Not a test of its own: the process that is killed. It empties its standard input into the log.
#[test]
fn child_that_splices() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let log = Log::open(&dir, options()).or_else(|_| Log::create(&dir, options())).unwrap();
        let stdin = std::os::fd::AsFd::as_fd(&std::io::stdin()).try_clone_to_owned().unwrap();
        log_pump_pair(Some(PipeReader::from_fd(stdin).unwrap()), None, log, pending(), None).await;
    });
}

#[expect(clippy::disallowed_methods, reason = "the process that is killed is this test itself")]
fn child(dir: &Path, pipe: &OwnedFd) -> Child {
    std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_splices"])
        .env(DIR, dir)
        .stdin(pipe.try_clone().unwrap())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// After so many bytes the sequence begins anew; a prime, so that no hole of a likely size is a whole
/// number of them.
const PERIOD: usize = 4_000_037;

/// The byte at `offset`: of a sequence of numbers, so that a hole shows.
fn byte_at(offset: usize) -> u8 {
    let offset = offset % PERIOD;
    (offset as u64 / 8).to_le_bytes()[offset % 8]
}

/// Floods until it is told to stop; gives how much it wrote.
fn flood(mut pipe: File, stop: Arc<AtomicBool>) -> JoinHandle<usize> {
    std::thread::spawn(move || {
        let sequence: Vec<u8> = (0..PERIOD).map(byte_at).collect();
        let mut written = 0;
        while !stop.load(Ordering::Relaxed) {
            // Sizes that are no multiples of anything.
            let from = &sequence[written % PERIOD..];
            let len = (1 + written % 59_999).min(from.len());
            pipe.write_all(&from[..len]).unwrap();
            written += len;
        }
        written
    })
}

/// How much is in the log, by the lengths of its files.
fn logged(dir: &Path) -> u64 {
    let lens = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let data = lens.filter(|entry| entry.path().extension().is_some_and(|ending| ending == "log"));
    data.filter_map(|entry| entry.metadata().ok()).map(|found| found.len()).sum()
}

fn read_all(dir: &Path) -> Vec<u8> {
    let mut reader = LogReader::open(dir, From::Start, ReadOptions::default()).unwrap();
    let mut all = Vec::new();
    while let Some(event) = reader.try_next().unwrap() {
        match event {
            LogEvent::Chunk(chunk) => {
                assert_eq!(chunk.offset, all.len() as u64);
                assert!(chunk.wall.is_some(), "a byte without a time at {}", chunk.offset);
                all.extend_from_slice(&chunk.data);
            }
            LogEvent::End(_) => break,
            other => panic!("unexpected {other:?}"),
        }
    }
    all
}

/// Numbers that look random and are the same each time (SplitMix64).
fn random(seed: u64) -> u64 {
    let mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn round(seed: u64) {
    let dir = tempfile::tempdir().unwrap();
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let flood = flood(write.into(), Arc::clone(&stop));
    // Killed up to three times: the next writer goes on where the last one was.
    let mut floor = 0;
    for kill in 0..1 + random(seed) % 3 {
        let mut child = child(dir.path(), &read);
        floor += random(seed ^ kill << 32) % 30_000_000;
        while logged(dir.path()) < floor {
            assert!(child.try_wait().unwrap().is_none(), "the child ended by itself");
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        floor = logged(dir.path());
    }
    stop.store(true, Ordering::Relaxed);
    let rest = if seed.is_multiple_of(2) { left_in(read) } else { log_rest(dir.path(), read) };
    let written = flood.join().unwrap();
    let mut all = read_all(dir.path());
    all.extend(rest);
    assert_eq!(all.len(), written, "seed {seed}");
    let sequence: Vec<u8> = (0..PERIOD).map(byte_at).collect();
    let right = all.chunks(PERIOD).all(|part| part == &sequence[..part.len()]);
    assert!(right, "seed {seed}: a byte is lost or doubled");
}

/// What is left in the pipe.
fn left_in(pipe: OwnedFd) -> Vec<u8> {
    // The children made the shared description non-blocking.
    rustix::io::ioctl_fionbio(&pipe, false).unwrap();
    let mut rest = Vec::new();
    File::from(pipe).read_to_end(&mut rest).unwrap();
    rest
}

/// The same, but this process goes on with the log: nothing is left then.
fn log_rest(dir: &Path, pipe: OwnedFd) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let reason = runtime.block_on(async {
        let log = Log::open(dir, options()).unwrap();
        let reader = PipeReader::from_fd(pipe).unwrap();
        let reason = log_pump_pair(Some(reader), None, log.clone(), pending(), None).await;
        assert_eq!(log.cursor().offset(Source::Stdout), logged(dir));
        reason
    });
    assert_eq!(reason, EndReason::Eof);
    Vec::new()
}

#[test]
fn killed_at_any_moment_nothing_is_lost_or_doubled() {
    if std::env::var_os(DIR).is_some() {
        return;
    }
    let rounds = std::env::var("ORANGERY_CRASH_ROUNDS").map_or(20, |rounds| rounds.parse().unwrap());
    for seed in 0..rounds {
        round(seed);
    }
}
