//! SIGKILL of the splicing process at random moments of a flood: the log and what is left in the pipe
//! are the exact sequence. 20 rounds; `ORANGERY_CRASH_ROUNDS=200` for more. And at each change of its files, where it says what it
//! has done and waits for our word.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs::File;
use std::future::pending;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::pin::Pin;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use orangery_io_stream::log::{
    Change, Holder, Log, LogEvent, LogOptions, LogReader, Meanwhile, ReadOptions, log_pump_pair,
};
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
        let stdin = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
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

/// Names the log of the process that says what it does; and that somebody else holds it.
const TURNS: &str = "ORANGERY_CRASH_TURNS";
const HELD: &str = "ORANGERY_CRASH_HELD";

/// Bytes of the stream, which a pipe holds.
const TURNED: usize = 20_000;

fn turning(held: bool) -> LogOptions {
    let compress = (cfg!(feature = "zstd") && !held).then_some(1);
    let keep_segments = if held { usize::MAX } else { 3 };
    LogOptions { segment_bytes: 1000, keep_segments, compress, ..LogOptions::default() }
}

/// Whoever decides whether it goes on.
#[derive(Debug)]
struct Word(Mutex<File>);

impl Word {
    /// Says what was done, and waits.
    fn ask(&self, what: &str) {
        let mut word = self.0.lock().unwrap();
        write!(word, "\n{what}\n").unwrap();
        word.read_exact(&mut [0]).unwrap();
    }

    fn hold(&self, file: &OwnedFd) {
        let path = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
        self.ask(&format!("hold {}", path.display()));
    }
}

impl Holder for Word {
    fn hold<'a>(
        &'a self,
        _: Source,
        _: BorrowedFd<'a>,
        file: OwnedFd,
        takes: bool,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        Box::pin(async move {
            assert!(takes);
            Word::hold(self, &file);
            true
        })
    }
}

/// Not a test of its own: the process that is killed. Its word is at its standard output.
#[test]
fn child_that_turns() {
    let Some(dir) = std::env::var_os(TURNS) else { return };
    let held = std::env::var_os(HELD).is_some();
    let word = Arc::new(Word(Mutex::new(File::from(std::io::stdout().as_fd().try_clone_to_owned().unwrap()))));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let log = Log::create(dir, turning(held)).unwrap();
        let told = Arc::clone(&word);
        log.watched_by(move |change| told.ask(&format!("{change:?}")));
        if held {
            Word::hold(&word, &log.share(Source::Stdout).unwrap());
            log.held_by(word.clone());
        }
        let stdin = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
        log_pump_pair(Some(PipeReader::from_fd(stdin).unwrap()), None, log.clone(), pending(), None).await;
        while turning(held).compress.is_some() && log.metrics().compressed_segments == 0 {
            tokio::task::yield_now().await;
        }
    });
}

#[expect(clippy::disallowed_methods, reason = "the process that is killed is this test itself")]
fn turning_child(dir: &Path, held: bool, pipe: &OwnedFd, word: OwnedFd) -> Child {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child_that_turns"]).env(TURNS, dir).stdin(pipe.try_clone().unwrap()).stdout(word);
    if held {
        command.env(HELD, "1");
    }
    command.spawn().unwrap()
}

/// A log of the whole stream, whose writer is killed behind the nth change of this name; then somebody goes on with it. Gives what
/// its writer has said.
fn turn(held: bool, strike: Option<(&str, usize)>) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("log");
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let sequence: Vec<u8> = (0..TURNED).map(byte_at).collect();
    File::from(write).write_all(&sequence).unwrap();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let mut child = turning_child(&dir, held, &read, theirs.into());
    let (mut said, mut known, mut struck) = (Vec::new(), None, false);
    for line in BufReader::new(ours.try_clone().unwrap()).lines() {
        let line = line.unwrap();
        if let Some(path) = line.strip_prefix("hold ") {
            known = Some(File::options().write(true).open(path).unwrap());
        } else if Change::ALL.iter().any(|change| format!("{change:?}") == line) {
            said.push(line);
            let nth = said.iter().filter(|one| said.last() == Some(one)).count();
            if strike.is_some_and(|(wanted, at)| said.last().is_some_and(|last| last == wanted) && at == nth) {
                child.kill().unwrap();
                struck = true;
                break;
            }
        } else {
            continue;
        }
        ours.write_all(&[0]).unwrap();
    }
    let status = child.wait().unwrap();
    assert_eq!(status.success(), !struck, "{strike:?}: {status:?} {said:?}");
    // How often it happens in all depends on how much is read at once: the last time of one turn may never come in another.
    assert!(struck || strike.is_none_or(|(_, nth)| nth > 1), "{strike:?}: never, {said:?}");
    match known {
        Some(known) => go_on_held(&dir, read, known, &sequence),
        None => go_on(&dir, read, &sequence),
    }
    said
}

/// Who holds the log empties the pipe into the file that he knows, and then there is another writer.
fn go_on_held(dir: &Path, pipe: OwnedFd, mut known: File, sequence: &[u8]) {
    let rest = left_in(pipe);
    known.seek(SeekFrom::End(0)).unwrap();
    known.write_all(&rest).unwrap();
    let log = Log::open(dir, turning(true)).unwrap();
    log.meanwhile(Source::Stdout, &Meanwhile { logged: rest.len() as u64, lost: 0, since: Duration::from_secs(1) });
    assert_eq!(log.cursor().offset(Source::Stdout), sequence.len() as u64);
    assert!(read_all(dir) == sequence, "a byte is lost or doubled");
}

/// Another writer takes what is left in the pipe. What was removed is missing at the beginning, and nothing else.
fn go_on(dir: &Path, pipe: OwnedFd, sequence: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let log = Log::open(dir, turning(false)).unwrap();
        log_pump_pair(Some(PipeReader::from_fd(pipe).unwrap()), None, log.clone(), pending(), None).await;
        assert_eq!(log.cursor().offset(Source::Stdout), sequence.len() as u64);
    });
    // Whoever compresses has come to its end.
    drop(runtime);
    let mut reader = LogReader::open(dir, From::Start, ReadOptions::default()).unwrap();
    let mut next = None;
    while let Some(event) = reader.try_next().unwrap() {
        if let LogEvent::Chunk(chunk) = event {
            let at = usize::try_from(chunk.offset).unwrap();
            assert!(next.is_none_or(|next| next == at), "{next:?} {at}");
            assert!(chunk.data == sequence[at..at + chunk.data.len()], "at {at}");
            next = Some(at + chunk.data.len());
        }
    }
    assert_eq!(next, Some(sequence.len()));
}

#[test]
fn killed_at_each_change_of_its_files_nothing_is_lost_or_doubled() {
    if std::env::var_os(TURNS).is_some() {
        return;
    }
    let mut met = std::collections::BTreeSet::new();
    for held in [true, false] {
        let said = turn(held, None);
        let each: std::collections::BTreeSet<_> = said.iter().cloned().collect();
        for change in &each {
            turn(held, Some((change, 1)));
            // Who compresses is not always equally fast.
            if ["Made", "Told", "Named", "Removed"].contains(&change.as_str()) {
                turn(held, Some((change, said.iter().filter(|one| *one == change).count())));
            }
        }
        met.extend(each);
    }
    let compressed = [Change::Packed, Change::Doubled, Change::Compressed];
    let wanted = Change::ALL.into_iter().filter(|change| cfg!(feature = "zstd") || !compressed.contains(change));
    let missing: Vec<_> = wanted.filter(|change| !met.contains(&format!("{change:?}"))).collect();
    assert!(missing.is_empty(), "never met: {missing:?}");
}
