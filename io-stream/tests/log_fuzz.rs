//! The reader and the writer of logs on damaged files: errors and gaps, never a panic, never for ever.
//!
//! The target is a plain function of bytes; here it runs on mutants of a real log, always the same ones.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod fed;

use std::path::Path;

use fed::Fed;
use orangery_io_stream::log::{Log, LogEvent, LogOptions, LogReader, ReadOptions};
use orangery_io_stream::{From, Source};

const FILES: [&str; 5] = [
    "log.state",
    "stdout.00000000000000000000.log",
    "stdout.00000000000000000000.idx",
    "stderr.00000000000000000000.log",
    "stderr.00000000000000000000.idx",
];

/// Fuzz target: the bytes are the files of a log, one after the other, each behind its length (two
/// bytes, little endian).
fn fuzz_log(bytes: &[u8]) {
    let dir = tempfile::tempdir().unwrap();
    let mut rest = bytes;
    for name in FILES {
        let Some((len, more)) = rest.split_first_chunk::<2>() else { break };
        let (data, more) = more.split_at(usize::from(u16::from_le_bytes(*len)).min(more.len()));
        std::fs::write(dir.path().join(name), data).unwrap();
        rest = more;
    }
    let start = |source, offset| From::Offset { source, offset };
    for from in [From::Start, From::TailLines(2), From::Seq(1), start(Source::Stderr, 3), From::TailBytes(5)] {
        read_all(dir.path(), from);
    }
    if Log::open(dir.path(), LogOptions::default()).is_ok() {
        read_all(dir.path(), From::Start);
    }
}

fn read_all(dir: &Path, from: From) {
    let Ok(mut reader) = LogReader::open(dir, from, ReadOptions::default()) else { return };
    let mut place = Source::ALL.map(|source| reader.cursor().offset(source));
    for _ in 0..10_000 {
        match reader.try_next() {
            Ok(Some(LogEvent::Chunk(chunk))) => {
                assert!(!chunk.data.is_empty() && chunk.offset == place[chunk.source as usize]);
                place[chunk.source as usize] += chunk.data.len() as u64;
            }
            Ok(Some(LogEvent::Gap(gap))) => place[gap.source as usize] = gap.to,
            Ok(Some(_) | None) | Err(_) => return,
        }
    }
    panic!("it never ends");
}

/// A small real log as the target reads it.
fn sample() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut fed = Fed::new(dir.path(), LogOptions::default());
        for at in 0..5 {
            fed.write(Source::Stdout, format!("out {at}\n").as_bytes()).await;
            fed.write(Source::Stderr, b"e\n").await;
        }
        fed.end().await;
    });
    let file = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
    FILES.map(file).into_iter().flat_map(|data| [(data.len() as u16).to_le_bytes().to_vec(), data].concat()).collect()
}

/// Numbers that look random and are the same each time (SplitMix64).
fn random(state: &mut u64) -> usize {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) as usize
}

#[test]
fn damaged_logs_are_read_as_far_as_they_are() {
    let sample = sample();
    let mut state = 1;
    for _ in 0..1500 {
        let mut mutant = sample.clone();
        for _ in 0..1 + random(&mut state) % 4 {
            let at = random(&mut state) % mutant.len();
            match random(&mut state) % 5 {
                0 => mutant[at] ^= 1 << (random(&mut state) % 8),
                1 => mutant[at] = random(&mut state) as u8,
                2 => mutant.truncate(at.max(1)),
                3 => drop(mutant.drain(at..(at + 1 + random(&mut state) % 60).min(mutant.len()))),
                _ => mutant.extend_from_within(at..(at + 40).min(mutant.len())),
            }
            if mutant.is_empty() {
                break;
            }
        }
        fuzz_log(&mutant);
    }
    fuzz_log(&[]);
}
