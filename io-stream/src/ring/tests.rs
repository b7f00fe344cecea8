//! The history alone: what leaves, what a new reader gets, and which gap opens it.

use super::*;
use crate::chunk::Source::{Stderr, Stdout};
use crate::chunk::testing::chunk;

/// Five chunks of 10 bytes: out, err, out, err, out.
fn ring(bytes: usize) -> Ring {
    let mut ring = Ring::new(bytes);
    for (seq, source, offset) in [(0, Stdout, 0), (1, Stderr, 0), (2, Stdout, 10), (3, Stderr, 10), (4, Stdout, 20)] {
        assert_eq!((ring.next_seq(), ring.total(source)), (seq, offset));
        ring.push(chunk(source, seq, offset, 10));
    }
    ring
}

fn gap(source: Source, from: u64, to: u64, cause: GapCause) -> Gap {
    Gap { source, from, to, cause }
}

fn missing(source: Source, from: u64, to: u64) -> Gap {
    gap(source, from, to, GapCause::NotRetained)
}

fn is_empty(replay: &Replay) -> bool {
    replay.gaps.is_empty() && replay.chunks.is_empty()
}

fn places(replay: &Replay) -> Vec<(u64, u64, u64)> {
    let place = |chunk: &Chunk| (chunk.seq, chunk.offset, chunk.len());
    replay.chunks.iter().map(place).collect()
}

#[test]
fn the_oldest_bytes_leave() {
    for (bytes, oldest) in [(25, 15), (22, 18), (20, 20)] {
        let ring = ring(bytes);
        assert_eq!((ring.oldest(Stdout), ring.oldest(Stderr)), (oldest, 10));
        assert_eq!(ring.occupancy(), (bytes as u64, bytes as u64));
        let replay = ring.replay(Sources::Both, From::Start);
        assert_eq!(replay.gaps, [missing(Stdout, 0, oldest), missing(Stderr, 0, 10)]);
        let rest = (oldest < 20).then_some((2, oldest, 20 - oldest));
        assert_eq!(places(&replay), Vec::from_iter(rest.into_iter().chain([(3, 10, 10), (4, 20, 10)])));
        assert!(replay.chunks.iter().all(|part| part.data == chunk(part.source, 0, part.offset, part.len()).data));
    }
    // The beginning of a chunk that has lost it is a gap; its place is known.
    let replay = ring(25).replay(Sources::Both, From::Seq(2));
    assert_eq!(replay.gaps, [missing(Stdout, 10, 15)]);
    assert_eq!(places(&replay)[0], (2, 15, 5));
}

#[test]
fn without_room_everything_is_a_gap() {
    let replay = ring(0).replay(Sources::Stdout, From::Start);
    assert_eq!(replay.gaps, [missing(Stdout, 0, 30)]);
    assert_eq!(replay.chunks, []);
    assert!(is_empty(&ring(0).replay(Sources::Both, From::Now)));
}

#[test]
fn now_is_after_everything() {
    let replay = ring(100).replay(Sources::Both, From::Now);
    assert!(is_empty(&replay));
    assert_eq!((replay.start[Stdout], replay.start[Stderr]), (30, 20));
}

#[test]
fn a_tail_is_exact_for_each_source() {
    let replay = ring(100).replay(Sources::Both, From::TailBytes(13));
    assert_eq!(replay.gaps, []);
    assert_eq!(places(&replay), [(1, 7, 3), (2, 17, 3), (3, 10, 10), (4, 20, 10)]);
    let replay = ring(20).replay(Sources::Stdout, From::TailBytes(13));
    assert_eq!(replay.gaps, [missing(Stdout, 17, 20)]);
    let all = ring(100).replay(Sources::Stdout, From::TailBytes(u64::MAX));
    assert_eq!(places(&all), [(0, 0, 10), (2, 10, 10), (4, 20, 10)]);
}

#[test]
fn a_retained_seq_is_exact() {
    let replay = ring(100).replay(Sources::Both, From::Seq(3));
    assert_eq!(replay.gaps, []);
    assert_eq!(places(&replay), [(3, 10, 10), (4, 20, 10)]);
    for seq in [5, 6, u64::MAX] {
        assert!(is_empty(&ring(100).replay(Sources::Both, From::Seq(seq))));
    }
}

#[test]
fn a_forgotten_seq_says_that_it_is_a_bound() {
    let replay = ring(20).replay(Sources::Both, From::Seq(1));
    let cause = GapCause::PositionForgotten;
    assert_eq!(replay.gaps, [gap(Stdout, 0, 20, cause), gap(Stderr, 0, 10, cause)]);
    // Only the first chunk has gone: stderr is whole, its position known.
    let replay = ring(40).replay(Sources::Both, From::Seq(0));
    assert_eq!(replay.gaps, [missing(Stdout, 0, 10)]);
}

#[test]
fn an_offset_cuts_its_source_and_places_the_other() {
    let from = |source, offset| From::Offset { source, offset };
    let replay = ring(100).replay(Sources::Both, from(Stdout, 14));
    assert_eq!(replay.gaps, []);
    assert_eq!(places(&replay), [(2, 14, 6), (3, 10, 10), (4, 20, 10)]);
    let replay = ring(20).replay(Sources::Both, from(Stderr, 4));
    assert_eq!(replay.gaps, [gap(Stdout, 0, 20, GapCause::PositionForgotten), missing(Stderr, 4, 10)]);
    for offset in [30, 31, u64::MAX] {
        let replay = ring(100).replay(Sources::Both, from(Stdout, offset));
        assert!(is_empty(&replay));
    }
}

/// A history of one source, each text one chunk, read one second after the other.
fn texts(bytes: usize, texts: &[&'static str]) -> Ring {
    let mut ring = Ring::new(bytes);
    for (at, text) in (0..).zip(texts) {
        let mut chunk = chunk(Stdout, at, ring.total(Stdout), 0);
        chunk.data = Bytes::from(*text);
        chunk.wall = second(at);
        ring.push(chunk);
    }
    ring
}

fn second(at: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(at)
}

#[test]
fn a_tail_of_lines_crosses_chunks() {
    let ring = texts(100, &["one\ntw", "o\n", "thr", "ee\nfo"]);
    let start = |lines| ring.replay(Sources::Stdout, From::TailLines(lines)).start[Stdout];
    assert_eq!([0, 1, 2, 3, 4, 5].map(start), [16, 14, 8, 4, 0, 0]);
    let closed = texts(100, &["one\ntwo", "\n"]);
    assert_eq!(closed.replay(Sources::Stdout, From::TailLines(1)).start[Stdout], 4);
    let short = texts(2, &["one\ntw", "o\n"]).replay(Sources::Stdout, From::TailLines(2));
    assert_eq!(short.gaps, [gap(Stdout, 0, 6, GapCause::PositionForgotten)]);
}

#[test]
fn a_time_is_the_first_chunk_at_it_or_later() {
    let ring = texts(2, &["a", "b", "c", "d"]);
    let start = |time| ring.replay(Sources::Stdout, From::Time(time));
    assert_eq!(start(second(3)).start[Stdout], 3);
    assert!(is_empty(&start(second(4))));
    // Everything since then is retained: no gap.
    assert_eq!((start(second(2)).gaps, start(second(2)).start[Stdout]), (Vec::new(), 2));
    assert_eq!(start(second(1)).gaps, [gap(Stdout, 0, 2, GapCause::PositionForgotten)]);
}

#[test]
fn a_cursor_is_exact_in_both_sources() {
    let cursor = |out, err| Cursor::new(chunk(Stdout, 0, 0, 0).stream, Default::default(), Stdout, out, err);
    let replay = ring(100).resume(Sources::Both, &cursor(14, 10));
    assert_eq!(replay.gaps, []);
    assert_eq!(places(&replay), [(2, 14, 6), (3, 10, 10), (4, 20, 10)]);
    assert!(is_empty(&ring(100).resume(Sources::Both, &cursor(30, 20))));
}
