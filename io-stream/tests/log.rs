//! Logs on disk: written by splice from real pipes, rotated, removed, followed, resumed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod fed;
mod workload;

use std::fs::File;
use std::future::pending;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime};

use fed::Fed;
use orangery_io_stream::log::{Log, LogErrorKind, LogEvent, LogOptions, LogReader, ReadOptions, log_pump_pair};
use orangery_io_stream::{Cursor, EndReason, From, Gap, GapCause, Generation, GoneReason, PipeReader, Source, Sources};
use workload::{MIB, pipe, writer};

const FOLLOW: ReadOptions = ReadOptions { sources: Sources::Both, follow: true, through_ends: false };

fn small(segment_bytes: u64) -> LogOptions {
    LogOptions { segment_bytes, keep_segments: 1000, retry: Duration::ZERO, ..LogOptions::default() }
}

fn read(dir: &Path, from: From) -> LogReader {
    LogReader::open(dir, from, ReadOptions::default()).unwrap()
}

/// Everything that is there now: bytes of each source, and the gaps. Checks that nothing is missing.
fn drain(reader: &mut LogReader) -> ([Vec<u8>; 2], Vec<Gap>, bool) {
    let (mut bytes, mut gaps, mut ended) = ([Vec::new(), Vec::new()], Vec::new(), false);
    let mut place = Source::ALL.map(|source| reader.cursor().offset(source));
    while let Some(event) = reader.try_next().unwrap() {
        match event {
            LogEvent::Chunk(chunk) => {
                assert_eq!(chunk.offset, place[chunk.source as usize]);
                assert_eq!(chunk.cursor().offset(chunk.source), chunk.offset);
                place[chunk.source as usize] += chunk.data.len() as u64;
                bytes[chunk.source as usize].extend_from_slice(&chunk.data);
            }
            LogEvent::Gap(gap) => {
                if gap.cause != GapCause::PositionForgotten {
                    assert_eq!(gap.from, place[gap.source as usize]);
                }
                place[gap.source as usize] = gap.to;
                gaps.push(gap);
            }
            LogEvent::End(_) => ended = true,
            other => panic!("unknown {other:?}"),
        }
    }
    (bytes, gaps, ended)
}

fn stdout(dir: &Path, from: From) -> Vec<u8> {
    drain(&mut read(dir, from)).0[0].clone()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn both_streams_come_back_in_the_order_of_reading() {
    let dir = tempfile::tempdir().unwrap();
    let before = SystemTime::now();
    let mut fed = Fed::new(dir.path(), small(8));
    let mut written = Vec::new();
    for at in 0..30_u8 {
        let source = if at % 3 == 0 { Source::Stderr } else { Source::Stdout };
        fed.write(source, &[at; 3]).await;
        written.extend([at; 3]);
    }
    let (_, reason) = fed.end().await;
    assert_eq!(reason, EndReason::Eof);
    let mut reader = read(dir.path(), From::Start);
    let (mut seen, mut last) = (Vec::new(), 0);
    while let Some(event) = reader.next().await.unwrap() {
        match event {
            LogEvent::Chunk(chunk) => {
                assert!(chunk.seq.unwrap() >= last);
                last = chunk.seq.unwrap();
                let wall = chunk.wall.unwrap();
                assert!(wall >= before && wall <= SystemTime::now() && chunk.mono.is_some());
                seen.extend_from_slice(&chunk.data);
            }
            LogEvent::End(end) => assert_eq!((end.stdout.bytes, end.stderr.bytes, end.reason), (60, 30, reason)),
            other => panic!("unexpected {other:?}"),
        }
    }
    assert_eq!(seen, written);
    assert_eq!(reader.next().await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_loses_nothing_over_many_rotations() {
    let total = 8 * MIB;
    let dir = tempfile::tempdir().unwrap();
    let log = Log::create(dir.path(), small(200_000)).unwrap();
    let (out, file) = pipe();
    let workload = writer(file, total);
    // One reader is woken by the writer, one is on its own, as in another process.
    let readers = [log.reader(From::Start, FOLLOW).unwrap(), LogReader::open(dir.path(), From::Start, FOLLOW).unwrap()];
    let readers = readers.map(|mut reader| {
        tokio::spawn(async move {
            let mut position = 0;
            loop {
                match reader.next().await.unwrap().unwrap() {
                    LogEvent::Chunk(chunk) => {
                        assert_eq!(chunk.offset, position as u64);
                        for byte in &chunk.data {
                            assert_eq!(usize::from(*byte), position % 251);
                            position += 1;
                        }
                    }
                    LogEvent::End(end) => return (position, end.reason),
                    other => panic!("unexpected {other:?}"),
                }
            }
        })
    });
    let reason = log_pump_pair(Some(out), None, log.clone(), pending(), None).await;
    workload.join().unwrap();
    for reader in readers {
        assert_eq!(reader.await.unwrap(), (total, reason));
    }
    let segments = names(dir.path()).into_iter().filter(|name| name.ends_with(".log")).count();
    assert_eq!(segments, total.div_ceil(200_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_order_holds_while_both_streams_flow() {
    let total = 2 * MIB;
    let dir = tempfile::tempdir().unwrap();
    let log = Log::create(dir.path(), small(400_000)).unwrap();
    let ((out, out_file), (err, err_file)) = (pipe(), pipe());
    let workloads = [writer(out_file, total), writer(err_file, total)];
    let mut reader = log.reader(From::Start, FOLLOW).unwrap();
    let reader = tokio::spawn(async move {
        let (mut last, mut bytes) = (0, 0);
        while let Some(LogEvent::Chunk(chunk)) = reader.next().await.unwrap() {
            assert!(chunk.seq.unwrap() >= last, "{} after {last}", chunk.seq.unwrap());
            last = chunk.seq.unwrap();
            bytes += chunk.data.len();
        }
        (last, bytes)
    });
    log_pump_pair(Some(out), Some(err), log, pending(), None).await;
    let (last, bytes) = reader.await.unwrap();
    assert!(last > 1 && bytes == 2 * total);
    workloads.into_iter().for_each(|workload| workload.join().unwrap());
}

#[tokio::test]
async fn removed_segments_are_gaps_of_exact_size() {
    let dir = tempfile::tempdir().unwrap();
    let mut fed = Fed::new(dir.path(), LogOptions { keep_segments: 2, ..small(10) });
    let mut early = fed.log.reader(From::Start, FOLLOW).unwrap();
    fed.write(Source::Stdout, b"0123456789").await;
    let Some(LogEvent::Chunk(first)) = early.try_next().unwrap() else { panic!("nothing there") };
    let expired = first.cursor_after(5);
    for at in 1..6_u8 {
        fed.write(Source::Stdout, &[b'a' + at; 10]).await;
    }
    // Forty bytes went while the reader had the first segment open.
    let (bytes, gaps, _) = drain(&mut early);
    assert_eq!(gaps, [Gap { source: Source::Stdout, from: 10, to: 40, cause: GapCause::Removed }]);
    assert_eq!(bytes[0], [&[b'e'; 10][..], &[b'f'; 10]].concat());
    let gone = LogReader::resume(dir.path(), expired, FOLLOW).unwrap_err();
    assert_eq!((gone.kind(), gone.gone().unwrap().reason), (LogErrorKind::Gone, GoneReason::Expired));
    let mut oldest = LogReader::resume(dir.path(), gone.gone().unwrap().oldest, ReadOptions::default()).unwrap();
    assert_eq!(drain(&mut oldest).0[0].len(), 20);
    let (bytes, gaps, _) = drain(&mut read(dir.path(), From::Offset { source: Source::Stdout, offset: 15 }));
    assert_eq!((gaps[0].from, gaps[0].to, bytes[0].len()), (15, 40, 20));
    assert_eq!(fed.log.metrics().removed_segments, 4);
    assert_eq!(names(dir.path()).len(), 5);
}

#[tokio::test]
async fn bytes_are_a_bound_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut fed = Fed::new(dir.path(), LogOptions { keep_bytes: Some(25), ..small(10) });
    for _ in 0..8 {
        fed.write(Source::Stdout, &[0; 5]).await;
        fed.write(Source::Stderr, &[1; 5]).await;
    }
    let bytes: u64 = names(dir.path())
        .iter()
        .filter(|name| name.ends_with(".log"))
        .map(|name| dir.path().join(name).metadata().unwrap().len())
        .sum();
    assert!(bytes <= 25 + 20, "{bytes}");
    // Everything is still accounted for.
    let (kept, gaps, _) = drain(&mut read(dir.path(), From::Start));
    let missing: u64 = gaps.iter().map(Gap::bytes).sum();
    assert_eq!(kept[0].len() as u64 + kept[1].len() as u64 + missing, 80);
}

#[tokio::test]
async fn every_position_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let mut fed = Fed::new(dir.path(), small(12));
    let mut times = Vec::new();
    for text in ["one\n", "two\n", "three\n", "four\nfi", "ve\n"] {
        times.push(SystemTime::now());
        fed.write(Source::Stdout, text.as_bytes()).await;
        fed.write(Source::Stderr, b"-").await;
    }
    let all = "one\ntwo\nthree\nfour\nfive\n";
    let dir = dir.path();
    let tail = |from| String::from_utf8(stdout(dir, from)).unwrap();
    assert_eq!(tail(From::Start), all);
    assert_eq!(tail(From::Now), "");
    assert_eq!(tail(From::TailBytes(7)), "r\nfive\n");
    for (lines, text) in [(0, ""), (1, "five\n"), (2, "four\nfive\n"), (3, "three\nfour\nfive\n"), (9, all)] {
        assert_eq!(tail(From::TailLines(lines)), text);
    }
    assert_eq!(tail(From::Time(times[2])), "three\nfour\nfive\n");
    assert_eq!(tail(From::Time(SystemTime::now())), "");
    assert_eq!(tail(From::Seq(4)), "three\nfour\nfive\n");
    assert_eq!(tail(From::Offset { source: Source::Stdout, offset: 5 }), &all[5..]);
    let (bytes, ..) = drain(&mut read(dir, From::Offset { source: Source::Stderr, offset: 2 }));
    assert_eq!((&bytes[0][..], bytes[1].len()), (&b"four\nfive\n"[..], 3));
    let (bytes, ..) = drain(&mut read(dir, From::Offset { source: Source::Stdout, offset: 1000 }));
    assert_eq!(bytes, [Vec::new(), Vec::new()]);
}

#[tokio::test]
async fn a_cursor_resumes_exactly_and_a_foreign_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut fed = Fed::new(dir.path(), small(7));
    let mut reader = read(dir.path(), From::Start);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    for at in 0..40_u8 {
        fed.write(if at % 2 == 0 { Source::Stdout } else { Source::Stderr }, &[at, at, at]).await;
        // One chunk, cut in its middle, and a new reader for the rest.
        let Some(LogEvent::Chunk(chunk)) = reader.try_next().unwrap() else { panic!("nothing there") };
        let half = chunk.data.len().div_ceil(2);
        let to = if chunk.source == Source::Stdout { &mut out } else { &mut err };
        to.extend_from_slice(&chunk.data[..half]);
        let cursor: Cursor = chunk.cursor_after(half).to_string().parse().unwrap();
        reader = fed.log.resume(cursor, ReadOptions::default()).unwrap();
        assert_eq!((reader.cursor(), reader.opening().start), (cursor, cursor));
    }
    let ([rest, rest_err], gaps, _) = drain(&mut reader);
    assert_eq!(gaps, []);
    out.extend(rest);
    err.extend(rest_err);
    assert_eq!(out, (0..40).step_by(2).flat_map(|at| [at; 3]).collect::<Vec<u8>>());
    assert_eq!(err, (1..40).step_by(2).flat_map(|at| [at; 3]).collect::<Vec<u8>>());
    let other = tempfile::tempdir().unwrap();
    let foreign = Log::create(other.path(), LogOptions::default()).unwrap().cursor();
    let gone = fed.log.resume(foreign, FOLLOW).unwrap_err().gone().unwrap();
    assert_eq!(gone.reason, GoneReason::Foreign);
}

#[tokio::test]
async fn without_room_the_workload_goes_on_and_the_gap_is_exact() {
    let parent = tempfile::tempdir().unwrap();
    let (dir, away) = (parent.path().join("log"), parent.path().join("away"));
    let mut fed = Fed::new(&dir, small(4));
    let mut follower = fed.log.reader(From::Start, FOLLOW).unwrap();
    fed.write(Source::Stdout, b"kept").await;
    let Some(LogEvent::Chunk(_)) = follower.try_next().unwrap() else { panic!("nothing there") };
    // The next segment cannot be made.
    std::fs::rename(&dir, &away).unwrap();
    fed.write(Source::Stdout, b"lost").await;
    fed.write(Source::Stdout, b"lost as well").await;
    assert_eq!(fed.log.metrics().discarded, 16);
    std::fs::rename(&away, &dir).unwrap();
    fed.write(Source::Stdout, b"back").await;
    let gap = Gap { source: Source::Stdout, from: 4, to: 20, cause: GapCause::LogFull };
    let (bytes, gaps, _) = drain(&mut follower);
    assert_eq!((&bytes[0][..], &gaps[..]), (&b"back"[..], &[gap][..]));
    let (bytes, gaps, _) = drain(&mut read(&dir, From::Start));
    assert_eq!((&bytes[0][..], &gaps[..]), (&b"keptback"[..], &[gap][..]));
    // The other source has lost nothing, and a loss at the very end is told before the end.
    std::fs::rename(&dir, &away).unwrap();
    fed.write(Source::Stdout, b"end").await;
    fed.end().await;
    let (bytes, gaps, ended) = drain(&mut read(&away, From::Now));
    assert_eq!((bytes[0].len(), gaps.len(), ended), (0, 0, true));
    let (_, gaps, ended) = drain(&mut read(&away, From::TailBytes(5)));
    assert_eq!((gaps[0].from, gaps[0].to, ended), (24, 27, true));
}

#[tokio::test]
async fn a_second_writer_is_refused_and_a_later_one_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions { generation: Generation(7), ..small(6) };
    let mut fed = Fed::new(dir.path(), options);
    fed.write(Source::Stdout, b"first ").await;
    fed.write(Source::Stdout, b"se").await;
    let kind = |result: Result<Log, _>| result.map_err(|error: orangery_io_stream::log::LogError| error.kind()).err();
    assert_eq!(kind(Log::open(dir.path(), options)), Some(LogErrorKind::InUse));
    assert_eq!(kind(Log::create(dir.path(), options)), Some(LogErrorKind::Exists));
    let (stream, cursor) = (fed.log.stream(), fed.log.cursor());
    drop(fed);
    let again = Log::open(dir.path(), small(6)).unwrap();
    assert_eq!((again.stream(), again.generation(), again.cursor()), (stream, Generation(7), cursor));
    let mut fed = Fed::on(again);
    fed.write(Source::Stdout, b"cond").await;
    fed.write(Source::Stderr, b"!").await;
    let (log, _) = fed.end().await;
    drop(log);
    let mut reader = read(dir.path(), From::Start);
    let mut numbers = Vec::new();
    while let Some(event) = reader.try_next().unwrap() {
        if let LogEvent::Chunk(chunk) = event {
            numbers.push(chunk.seq.unwrap());
        }
    }
    assert!(numbers.is_sorted(), "{numbers:?}");
    assert_eq!(stdout(dir.path(), From::Start), b"first second");
    let nowhere = dir.path().join("nowhere");
    assert_eq!(kind(Log::open(&nowhere, options)), Some(LogErrorKind::Missing));
    std::fs::write(dir.path().join("log.state"), "no state").unwrap();
    assert_eq!(kind(Log::open(dir.path(), options)), Some(LogErrorKind::NotALog));
    let bad = LogOptions { segment_bytes: 0, ..options };
    assert_eq!(kind(Log::create(&nowhere, bad)), Some(LogErrorKind::Option));
}

#[tokio::test]
async fn a_reopened_log_has_no_end_until_its_new_one() {
    let dir = tempfile::tempdir().unwrap();
    Fed::new(dir.path(), small(6)).end().await;
    assert!(drain(&mut read(dir.path(), From::Start)).2);
    let mut fed = Fed::on(Log::open(dir.path(), small(6)).unwrap());
    fed.write(Source::Stderr, b"more").await;
    let (bytes, _, ended) = drain(&mut read(dir.path(), From::Start));
    assert_eq!((&bytes[1][..], ended), (&b"more"[..], false));
}

#[tokio::test]
async fn a_log_that_was_replaced_is_never_read_as_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("log");
    let mut fed = Fed::new(&dir, small(1000));
    fed.write(Source::Stdout, b"old").await;
    let mut reader = read(&dir, From::Start);
    let Some(LogEvent::Chunk(chunk)) = reader.try_next().unwrap() else { panic!("nothing there") };
    drop(fed);
    std::fs::remove_dir_all(&dir).unwrap();
    let mut fed = Fed::new(&dir, small(1000));
    fed.write(Source::Stdout, b"new bytes").await;
    assert_eq!(reader.try_next().unwrap_err().kind(), LogErrorKind::Missing);
    let gone = LogReader::resume(&dir, chunk.cursor_after(3), FOLLOW).unwrap_err().gone().unwrap();
    assert_eq!(gone.reason, GoneReason::Foreign);
}

#[tokio::test]
async fn a_torn_index_costs_times_and_no_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let mut fed = Fed::new(dir.path(), small(1000));
    fed.write(Source::Stdout, b"one").await;
    fed.write(Source::Stderr, b"two").await;
    fed.write(Source::Stdout, b"three").await;
    let index = dir.path().join("stdout.00000000000000000000.idx");
    let len = index.metadata().unwrap().len();
    File::options().write(true).open(&index).unwrap().set_len(len - 1).unwrap();
    drop(fed);
    let mut fed = Fed::on(Log::open(dir.path(), small(1000)).unwrap());
    fed.write(Source::Stdout, b"four").await;
    assert_eq!(index.metadata().unwrap().len() % 40, 0);
    assert_eq!(stdout(dir.path(), From::Start), b"onethreefour");
    std::fs::remove_file(&index).unwrap();
    let mut reader = read(dir.path(), From::Start);
    let Some(LogEvent::Chunk(chunk)) = reader.try_next().unwrap() else { panic!("nothing there") };
    assert_eq!((chunk.seq, chunk.wall, chunk.data.len()), (None, None, 12));
}

#[tokio::test]
async fn an_old_segment_gets_a_successor() {
    let dir = tempfile::tempdir().unwrap();
    let mut fed = Fed::new(dir.path(), LogOptions { segment_age: Some(Duration::ZERO), ..small(1000) });
    for text in ["a", "b", "c"] {
        fed.write(Source::Stdout, text.as_bytes()).await;
    }
    assert_eq!(names(dir.path()).iter().filter(|name| name.ends_with(".log")).count(), 3);
    assert_eq!(stdout(dir.path(), From::Start), b"abc");
}

#[tokio::test]
async fn the_disk_is_synced_as_the_policy_says() {
    use orangery_io_stream::log::SyncPolicy;
    for (sync, at_least) in [(SyncPolicy::Never, 0), (SyncPolicy::OnClose, 2), (SyncPolicy::Every(Duration::ZERO), 3)] {
        let dir = tempfile::tempdir().unwrap();
        let mut fed = Fed::new(dir.path(), LogOptions { sync, ..small(4) });
        for _ in 0..4 {
            fed.write(Source::Stdout, b"1234").await;
        }
        let (log, _) = fed.end().await;
        while log.metrics().syncs < at_least {
            tokio::task::yield_now().await;
        }
        assert_eq!((log.metrics().failed_syncs, sync == SyncPolicy::Never && log.metrics().syncs > 0), (0, false));
    }
}

#[tokio::test]
async fn a_held_pipe_leaks_after_the_grace_and_a_socket_is_copied() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::create(dir.path(), LogOptions::default()).unwrap();
    let (out, mut file) = pipe();
    file.write_all(b"last words").unwrap();
    let reason = log_pump_pair(Some(out), None, log.clone(), async {}, Some(Duration::ZERO)).await;
    assert_eq!(reason, EndReason::Leaked);
    assert_eq!(stdout(dir.path(), From::Start), b"last words");
    let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let socket = PipeReader::from_fd(ours.into()).unwrap();
    theirs.write_all(b" and more").unwrap();
    drop(theirs);
    let reason = log_pump_pair(Some(socket), None, log, pending(), None).await;
    assert_eq!(reason, EndReason::Eof);
    assert_eq!(stdout(dir.path(), From::Start), b"last words and more");
}

#[tokio::test]
async fn a_reader_goes_on_behind_an_end_if_it_is_asked_to() {
    let dir = tempfile::tempdir().unwrap();
    let mut fed = Fed::new(dir.path(), LogOptions::default());
    fed.write(Source::Stdout, b"one").await;
    drop(fed.end().await);
    let options = ReadOptions { through_ends: true, ..ReadOptions::default() };
    let mut reader = LogReader::open(dir.path(), From::Start, options).unwrap();
    assert_eq!(drain(&mut reader), ([b"one".to_vec(), Vec::new()], Vec::new(), true));
    assert!(!drain(&mut reader).2, "an end is told once");
    let mut fed = Fed::on(Log::open(dir.path(), LogOptions::default()).unwrap());
    fed.write(Source::Stderr, b"two").await;
    assert_eq!(drain(&mut reader), ([Vec::new(), b"two".to_vec()], Vec::new(), false));
    drop(fed.end().await);
    assert_eq!(drain(&mut reader), ([Vec::new(), Vec::new()], Vec::new(), true));
}

#[cfg(feature = "zstd")]
#[tokio::test]
async fn compressed_segments_read_as_before() {
    use orangery_io_stream::log::compress_closed;
    let dir = tempfile::tempdir().unwrap();
    let mut fed = Fed::new(dir.path(), LogOptions { keep_segments: 40, ..small(10_000) });
    let mut all = Vec::new();
    for at in 0..200_u32 {
        let text = format!("line {at}, and some more of the same, the same, the same\n").repeat(10);
        fed.write(Source::Stdout, text.as_bytes()).await;
        all.extend_from_slice(text.as_bytes());
        if at % 50 == 0 {
            compress_closed(dir.path(), 0).unwrap();
        }
    }
    let mut reader = read(dir.path(), From::Start);
    reader.try_next().unwrap();
    assert!(compress_closed(dir.path(), 0).unwrap() > 0);
    assert_eq!(compress_closed(dir.path(), 0).unwrap(), 0);
    assert!(names(dir.path()).iter().all(|name| !name.ends_with(".new")));
    assert_eq!(names(dir.path()).iter().filter(|name| name.ends_with(".log")).count(), 1);
    assert!(stdout(dir.path(), From::Start) == all);
    let offset = all.len() as u64 / 2;
    assert!(stdout(dir.path(), From::Offset { source: Source::Stdout, offset }) == all[offset as usize..]);
    let lines = stdout(dir.path(), From::TailLines(1500));
    assert!(lines == all[all.len() - lines.len()..] && lines.iter().filter(|byte| **byte == b'\n').count() == 1500);
    // A reader that had an old segment open goes on as well.
    assert!(!drain(&mut reader).0[0].is_empty());
}

/// A text that shrinks, and its log in segments of 10,000 bytes.
#[cfg(feature = "zstd")]
async fn fed_with_text(dir: &Path, options: LogOptions) -> (Fed, Vec<u8>) {
    let mut fed = Fed::new(dir, LogOptions { segment_bytes: 10_000, ..options });
    let mut all = Vec::new();
    for at in 0..200_u32 {
        let text = format!("line {at}, and some more of the same, the same, the same\n").repeat(10);
        fed.write(Source::Stdout, text.as_bytes()).await;
        all.extend_from_slice(text.as_bytes());
    }
    (fed, all)
}

#[cfg(feature = "zstd")]
#[tokio::test]
async fn a_log_compresses_what_it_has_left_and_counts_what_is_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let keep_bytes = Some(20_000);
    let (fed, all) = fed_with_text(dir.path(), LogOptions { compress: Some(0), keep_bytes, ..small(0) }).await;
    let closed = all.len() as u64 / 10_000;
    while fed.log.metrics().compressed_segments < closed {
        tokio::task::yield_now().await;
    }
    assert_eq!(fed.log.metrics().failed_compressions, 0);
    let plain = names(dir.path()).iter().filter(|name| name.ends_with(".log")).count();
    let packed = names(dir.path()).into_iter().filter(|name| name.ends_with(".zst"));
    let sizes: Vec<_> = packed.map(|name| dir.path().join(name).metadata().unwrap().len()).collect();
    assert!(plain == 1 && sizes.iter().sum::<u64>() <= 20_000, "{sizes:?}");
    // As they are, two would have been kept.
    assert!(sizes.len() > 2, "{sizes:?}");
    let kept = stdout(dir.path(), From::Start);
    assert!(kept == all[all.len() - kept.len()..] && kept.len() > 20_000);
    drop(fed.end().await);
    for compress in [Some(1000), Some(-1_000_000)] {
        let refused = Log::open(dir.path(), LogOptions { compress, ..small(10) }).unwrap_err();
        assert_eq!(refused.kind(), LogErrorKind::Option);
    }
}

#[cfg(feature = "zstd")]
#[tokio::test]
async fn a_compression_that_was_cut_off_leaves_one_good_copy() {
    use orangery_io_stream::log::compress_closed;
    let dir = tempfile::tempdir().unwrap();
    let (fed, all) = fed_with_text(dir.path(), small(0)).await;
    drop(fed.end().await);
    let closed = names(dir.path()).iter().filter(|name| name.ends_with(".log")).count() - 1;
    let plain = dir.path().join(names(dir.path()).into_iter().find(|name| name.ends_with(".log")).unwrap());
    let bytes = std::fs::read(&plain).unwrap();
    // While it was written; and when both were there.
    let draft = plain.with_added_extension("zst.new");
    std::fs::write(&draft, "half of it").unwrap();
    assert!(stdout(dir.path(), From::Start) == all);
    assert_eq!(compress_closed(dir.path(), 0).unwrap(), closed);
    assert!(!draft.exists() && !plain.exists());
    std::fs::write(&plain, &bytes).unwrap();
    assert!(stdout(dir.path(), From::Start) == all);
    assert_eq!(compress_closed(dir.path(), 0).unwrap(), 1);
    assert!(stdout(dir.path(), From::Start) == all && !plain.exists());
    // Removal takes both, so that nothing comes back.
    std::fs::write(&plain, &bytes).unwrap();
    let mut fed = Fed::on(Log::open(dir.path(), LogOptions { keep_segments: 2, ..small(10_000) }).unwrap());
    fed.write(Source::Stdout, &[b'x'; 20_000]).await;
    let left = names(dir.path()).into_iter().filter(|name| name.contains(".log")).count();
    assert_eq!((left, plain.with_added_extension("zst").exists()), (2, false));
}

#[cfg(feature = "zstd")]
#[tokio::test]
async fn who_compresses_at_the_same_time_compresses_each_once() {
    use orangery_io_stream::log::compress_closed;
    let dir = tempfile::tempdir().unwrap();
    let (fed, all) = fed_with_text(dir.path(), small(0)).await;
    drop(fed.end().await);
    let closed = names(dir.path()).iter().filter(|name| name.ends_with(".log")).count() - 1;
    let count: usize = std::thread::scope(|scope| {
        let all: Vec<_> = (0..4).map(|_| scope.spawn(|| compress_closed(dir.path(), 3).unwrap())).collect();
        all.into_iter().map(|each| each.join().unwrap()).sum()
    });
    assert_eq!(count, closed);
    assert!(stdout(dir.path(), From::Start) == all);
}
