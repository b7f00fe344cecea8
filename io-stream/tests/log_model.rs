//! Logs against a plain model: whatever is written, rotated, removed, refused for want of room, crashed,
//! read and resumed in whatever order, each reader gets every byte once or a gap in its place.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod fed;

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use fed::Fed;
use orangery_io_stream::log::{LogErrorKind, LogEvent, LogOptions, LogReader, ReadOptions};
use orangery_io_stream::{Cursor, EndReason, From, Gap, GapCause, GoneReason, Source, Sources};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Op {
    Write(Source, usize),
    /// The writer dies with so much in the pipe.
    Crash(Source, usize),
    /// The log takes no bytes, or takes them again.
    Room(bool),
    /// Closed segments are compressed.
    #[cfg(feature = "zstd")]
    Compress,
    Open(From, Sources),
    Read(usize, usize),
    Resume(usize),
}

fn source() -> impl Strategy<Value = Source> {
    prop_oneof![Just(Source::Stdout), Just(Source::Stderr)]
}

fn op() -> impl Strategy<Value = Op> {
    let from = prop_oneof![
        Just(From::Start),
        Just(From::Now),
        (0..60_u64).prop_map(From::TailBytes),
        (0..4_u64).prop_map(From::TailLines),
        (source(), 0..200_u64).prop_map(|(source, offset)| From::Offset { source, offset }),
        (0..30_u64).prop_map(From::Seq),
    ];
    #[cfg(feature = "zstd")]
    let compress = Just(Op::Compress);
    #[cfg(not(feature = "zstd"))]
    let compress = Just(Op::Room(true));
    let sources = prop_oneof![1 => Just(Sources::Stdout), 1 => Just(Sources::Stderr), 2 => Just(Sources::Both)];
    prop_oneof![
        12 => (source(), 1..30_usize).prop_map(|(source, len)| Op::Write(source, len)),
        1 => (source(), 0..30_usize).prop_map(|(source, len)| Op::Crash(source, len)),
        2 => any::<bool>().prop_map(Op::Room),
        1 => compress,
        3 => (from, sources).prop_map(|(from, sources)| Op::Open(from, sources)),
        6 => (0..4_usize, 1..5_usize).prop_map(|(who, count)| Op::Read(who, count)),
        2 => (0..4_usize).prop_map(Op::Resume),
    ]
}

/// Beside the writer, at any moment.
fn compress() -> impl Strategy<Value = Option<i32>> {
    prop_oneof![1 => Just(None), 1 => Just(cfg!(feature = "zstd").then_some(1))]
}

/// The byte at `offset`; now and then a newline.
fn byte_at(source: Source, offset: u64) -> u8 {
    (offset % 23) as u8 + if source == Source::Stdout { 0 } else { 100 }
}

struct Reader {
    reader: LogReader,
    position: [u64; 2],
    over: bool,
}

struct World {
    /// Of the log, and where it is while there is no room.
    places: [PathBuf; 2],
    options: LogOptions,
    fed: Option<Fed>,
    room: bool,
    total: [u64; 2],
    /// What was read away.
    lost: [Vec<Range<u64>>; 2],
    readers: Vec<Reader>,
}

impl World {
    async fn act(&mut self, op: Op) {
        match op {
            Op::Write(source, len) => self.write(source, len).await,
            Op::Crash(source, len) => self.crash(source, len).await,
            Op::Room(room) => self.set_room(room),
            #[cfg(feature = "zstd")]
            Op::Compress => {
                self.set_room(true);
                orangery_io_stream::log::compress_closed(&self.places[0], 1).unwrap();
            }
            Op::Open(from, sources) => self.open(from, sources),
            Op::Read(who, count) => {
                for _ in 0..count {
                    self.step(who);
                }
            }
            Op::Resume(who) => self.resume(who),
        }
    }

    fn set_room(&mut self, room: bool) {
        if room != self.room {
            let [dir, away] = &self.places;
            let (from, to) = if room { (away, dir) } else { (dir, away) };
            std::fs::rename(from, to).unwrap();
            self.room = room;
        }
    }

    fn bytes(&mut self, source: Source, len: usize) -> Vec<u8> {
        let from = self.total[source as usize];
        self.total[source as usize] += len as u64;
        (from..self.total[source as usize]).map(|at| byte_at(source, at)).collect()
    }

    async fn write(&mut self, source: Source, len: usize) {
        let bytes = self.bytes(source, len);
        let fed = self.fed.as_mut().unwrap();
        let before = fed.log.metrics().discarded;
        fed.write(source, &bytes).await;
        // What did not go into the open segment was lost, and only without room.
        let lost = fed.log.metrics().discarded - before;
        assert!(lost == 0 || !self.room);
        let end = self.total[source as usize];
        if lost > 0 {
            self.lost[source as usize].push(end - lost..end);
        }
    }

    async fn crash(&mut self, source: Source, len: usize) {
        self.set_room(true);
        let bytes = self.bytes(source, len);
        let mut fed = self.fed.take().unwrap();
        fed.write_pipe(source, &bytes);
        let mut fed = fed.crash(self.options);
        fed.settle(len as u64).await;
        assert_eq!(fed.log.metrics().taken, self.total[0] + self.total[1]);
        self.fed = Some(fed);
    }

    fn open(&mut self, from: From, sources: Sources) {
        self.set_room(true);
        let reader = self
            .fed
            .as_ref()
            .unwrap()
            .log
            .reader(from, ReadOptions { sources, follow: true, ..ReadOptions::default() })
            .unwrap();
        let position = Source::ALL.map(|source| reader.cursor().offset(source));
        for source in Source::ALL {
            let (total, at) = (self.total[source as usize], position[source as usize]);
            match from {
                From::Start => assert_eq!(at, 0),
                From::Now => assert_eq!(at, total),
                From::TailBytes(bytes) => assert_eq!(at, total.saturating_sub(bytes)),
                From::Offset { source: of, offset } if of == source => assert_eq!(at, offset.min(total)),
                _ => assert!(at <= total),
            }
        }
        self.readers.push(Reader { reader, position, over: false });
    }

    /// Reads one event if there is one, and checks it.
    fn step(&mut self, who: usize) -> bool {
        self.set_room(true);
        let Some(Reader { reader, position, over }) = self.readers.get_mut(who) else { return false };
        let Some(event) = reader.try_next().unwrap() else { return false };
        assert!(!*over);
        match event {
            LogEvent::Chunk(chunk) => {
                let place = &mut position[chunk.source as usize];
                assert!(reader.sources().contains(chunk.source));
                assert_eq!(chunk.offset, *place, "a hole or a duplicate");
                for byte in &chunk.data {
                    assert_eq!(*byte, byte_at(chunk.source, *place));
                    assert!(!self.lost[chunk.source as usize].iter().any(|range| range.contains(place)));
                    *place += 1;
                }
            }
            LogEvent::Gap(gap) => {
                self.check_gap(gap, who);
                self.readers[who].position[gap.source as usize] = gap.to;
            }
            LogEvent::End(end) => {
                *over = true;
                assert_eq!(end.reason, EndReason::Eof);
                assert_eq!([end.stdout.bytes, end.stderr.bytes], self.total);
            }
            other => panic!("unknown {other:?}"),
        }
        let Reader { reader, position, .. } = &self.readers[who];
        assert!(Source::ALL.into_iter().all(|source| reader.cursor().offset(source) == position[source as usize]));
        true
    }

    fn check_gap(&self, gap: Gap, who: usize) {
        let place = self.readers[who].position[gap.source as usize];
        let lost = &self.lost[gap.source as usize];
        match gap.cause {
            // Its beginning is a lower bound.
            GapCause::PositionForgotten => assert!(gap.from == 0 && gap.to == place),
            GapCause::Removed => assert_eq!(gap.from, place, "a hole or a duplicate"),
            GapCause::LogFull => {
                assert_eq!(gap.from, place, "a hole or a duplicate");
                let known = |at: u64| lost.iter().any(|range| range.contains(&at));
                assert!((gap.from..gap.to).all(known), "{gap:?} is not {lost:?}");
            }
            other => panic!("{other:?} of a log"),
        }
    }

    fn resume(&mut self, who: usize) {
        if who >= self.readers.len() {
            return;
        }
        self.set_room(true);
        let old = self.readers.remove(who);
        let options = ReadOptions { sources: old.reader.sources(), follow: true, ..ReadOptions::default() };
        let cursor: Cursor = old.reader.cursor().to_string().parse().unwrap();
        match self.fed.as_ref().unwrap().log.resume(cursor, options) {
            Ok(reader) => self.readers.push(Reader { reader, position: old.position, over: false }),
            Err(error) => {
                let gone = error.gone().unwrap();
                assert_eq!((error.kind(), gone.reason), (LogErrorKind::Gone, GoneReason::Expired));
                let wanted = |source: &Source| options.sources.contains(*source);
                assert!(Source::ALL.iter().filter(|s| wanted(s)).any(|s| cursor.offset(*s) < gone.oldest.offset(*s)));
            }
        }
    }

    async fn finish(mut self) {
        self.open(From::Start, Sources::Both);
        let (log, _) = self.fed.take().unwrap().end().await;
        for who in 0..self.readers.len() {
            while self.step(who) {}
            let Reader { reader, position, over } = &self.readers[who];
            assert!(over, "no end");
            for source in Source::ALL.into_iter().filter(|source| reader.sources().contains(*source)) {
                assert_eq!(position[source as usize], self.total[source as usize]);
            }
        }
        let lost: u64 = self.lost.iter().flatten().map(|range| range.end - range.start).sum();
        assert!(log.metrics().discarded <= lost);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn received_and_gaps_are_everything(
        segment_bytes in 1..60_u64,
        keep_segments in 1..6_usize,
        keep_bytes in prop::option::of(0..100_u64),
        // Of age zero each write begins a segment.
        compress in compress(),
        segment_age in prop_oneof![2 => Just(None), 1 => Just(Some(Duration::ZERO))],
        ops in prop::collection::vec(op(), 0..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let parent = tempfile::tempdir().unwrap();
            let places = [parent.path().join("log"), parent.path().join("away")];
            let retry = Duration::ZERO;
            let options = LogOptions {
                segment_bytes, segment_age, keep_segments, keep_bytes, retry, compress, ..LogOptions::default()
            };
            let fed = Some(Fed::new(&places[0], options));
            let (total, lost) = ([0; 2], [Vec::new(), Vec::new()]);
            let mut world = World { places, options, fed, room: true, total, lost, readers: Vec::new() };
            for op in ops {
                world.act(op).await;
            }
            world.finish().await;
        });
    }
}
