//! The hub against a plain model: whatever is published, subscribed, read, dropped and closed in
//! whatever order, each reader gets every byte once or a gap in its place, in order, and the end last.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use orangery_io_stream::{
    Chunk, Cursor, End, EndInfo, EndReason, Event, Fallback, Fate, From, Gap, GapCause, GoneReason, Hub, HubOptions,
    Overflow, RateLimit, Source, Sources, StreamErrorKind, SubscribeOptions, Subscriber,
};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Op {
    Publish(Source, u64),
    Subscribe(SubscribeOptions),
    Read(usize, usize),
    Leave(usize),
    /// Cut off, and resumed by the text of its cursor.
    Resume(usize),
    /// From now on as plain bytes, as far as there are any.
    Bytes(usize),
    EndBytes,
    Close,
    LoseHandles,
}

fn source() -> impl Strategy<Value = Source> {
    prop_oneof![Just(Source::Stdout), Just(Source::Stderr)]
}

fn from() -> impl Strategy<Value = From> {
    prop_oneof![
        Just(From::Start),
        Just(From::Now),
        (0..200_u64).prop_map(From::TailBytes),
        (0..5_u64).prop_map(From::TailLines),
        (0..40_u64).prop_map(From::Seq),
        (source(), 0..300_u64).prop_map(|(source, offset)| From::Offset { source, offset }),
    ]
}

fn fallback() -> impl Strategy<Value = Fallback> {
    prop_oneof![Just(Fallback::DropOldest), Just(Fallback::DropNewest), Just(Fallback::Disconnect)]
}

/// With no rate the clock does not matter: the burst passes, in debt by one chunk, and then nothing.
fn rate() -> impl Strategy<Value = Option<RateLimit>> {
    let limit = (0..200_u64).prop_map(|burst| Some(RateLimit { bytes_per_second: 0, burst }));
    prop_oneof![4 => Just(None), 1 => limit]
}

fn options() -> impl Strategy<Value = SubscribeOptions> {
    let sources = prop_oneof![Just(Sources::Stdout), Just(Sources::Stderr), Just(Sources::Both)];
    let overflow = prop_oneof![
        3 => Just(Overflow::DropOldest),
        3 => Just(Overflow::DropNewest),
        2 => Just(Overflow::Disconnect),
        1 => Just(Overflow::block(Duration::from_secs(1))),
        1 => fallback().prop_map(|then| Overflow::Block { budget: Duration::ZERO, then }),
        2 => (0..2000_u64).prop_map(|limit| Overflow::Spill { limit }),
    ];
    (sources, from(), overflow, rate(), 0..100_usize).prop_map(|(sources, from, overflow, rate, queue_bytes)| {
        SubscribeOptions { sources, from, overflow, rate, queue_bytes }
    })
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        16 => (source(), 0..40_u64).prop_map(|(source, len)| Op::Publish(source, len)),
        4 => options().prop_map(Op::Subscribe),
        8 => (0..8_usize, 1..6_usize).prop_map(|(who, count)| Op::Read(who, count)),
        1 => (0..8_usize).prop_map(Op::Leave),
        4 => (0..8_usize).prop_map(Op::Resume),
        2 => (0..8_usize).prop_map(Op::Bytes),
        1 => prop_oneof![3 => Just(Op::Close), 2 => Just(Op::EndBytes), 1 => Just(Op::LoseHandles)],
    ]
}

/// The bytes `from..from + len` of a test stream: each tells its place.
fn bytes_at(source: Source, from: u64, len: u64) -> Bytes {
    let salt = if source == Source::Stdout { 0 } else { 101 };
    (from..from + len).map(|at| (at % 251) as u8 ^ salt).collect()
}

/// Everything that was ever published: chunk n is entry n; then what came behind the output limit.
struct History {
    chunks: Vec<(Source, u64, u64)>,
    left: u64,
    over: [u64; 2],
}

impl History {
    fn new(limit: Option<u64>) -> Self {
        Self { chunks: Vec::new(), left: limit.unwrap_or(u64::MAX), over: [0; 2] }
    }

    fn publish(&mut self, source: Source, len: u64) {
        let within = len.min(self.left);
        self.left -= within;
        if within > 0 {
            self.chunks.push((source, self.total(source), within));
        }
        self.over[source as usize] += len - within;
    }

    fn total(&self, source: Source) -> u64 {
        self.kept(source) + self.over[source as usize]
    }

    /// What anybody can get.
    fn kept(&self, source: Source) -> u64 {
        self.place(source, u64::MAX)
    }

    /// Where `source` stood when chunk `seq` was read.
    fn place(&self, source: Source, seq: u64) -> u64 {
        let seq = (seq as usize).min(self.chunks.len());
        self.chunks[..seq].iter().filter(|chunk| chunk.0 == source).map(|chunk| chunk.2).sum()
    }

    /// Where a subscription of now starts in `source`.
    fn start(&self, source: Source, from: From) -> u64 {
        match from {
            From::Start => 0,
            From::Now => self.total(source),
            From::TailLines(0) => self.total(source),
            From::TailLines(lines) => self.start_of_lines(source, lines),
            From::TailBytes(bytes) => self.total(source).saturating_sub(bytes),
            From::Seq(seq) => self.place(source, seq),
            From::Offset { source: of, offset } if of == source => offset.min(self.total(source)),
            From::Offset { source: of, offset } => {
                let holds = |chunk: &(Source, u64, u64)| chunk.0 == of && chunk.1 + chunk.2 > offset;
                let seq = self.chunks.iter().position(holds);
                self.place(source, seq.map_or(u64::MAX, |seq| seq as u64))
            }
            From::Time(_) => panic!("no clock here"),
        }
    }
}

impl History {
    fn start_of_lines(&self, source: Source, lines: u64) -> u64 {
        let total = self.kept(source);
        let all = bytes_at(source, 0, total);
        let begins = |at: &u64| *at == 0 || all[*at as usize - 1] == b'\n';
        let starts: Vec<u64> = (0..total).filter(begins).collect();
        let first = starts.len().saturating_sub(lines as usize);
        starts.get(first).copied().unwrap_or(total)
    }
}

struct Reader {
    subscriber: Subscriber,
    options: SubscribeOptions,
    position: [u64; 2],
    last_seq: Option<u64>,
    missed: u64,
    suppressed: u64,
    over: bool,
}

impl Reader {
    fn new(subscriber: Subscriber, options: SubscribeOptions, history: &History) -> Self {
        Self {
            subscriber,
            options,
            position: Source::ALL.map(|source| history.start(source, options.from)),
            last_seq: None,
            missed: 0,
            suppressed: 0,
            over: false,
        }
    }

    /// Reads one event if there is one, and checks it.
    fn step(&mut self, history: &History, end: Option<(EndReason, Fate)>) -> bool {
        let Some(event) = self.subscriber.recv().now_or_never() else {
            assert!(!self.over && end.is_none(), "nothing comes, not even the end");
            return false;
        };
        let Some(event) = event else {
            assert!(self.over, "no last event");
            return false;
        };
        assert!(!self.over, "{event:?} after the last event");
        match event {
            Event::Chunk(chunk) => self.chunk(&chunk, history),
            Event::Gap(gap) => self.gap(gap, history),
            Event::End(found) => self.end(found, history, end),
            Event::Lagged { seq, cursor } => self.lagged(seq, cursor, history),
            other => panic!("unknown event {other:?}"),
        }
        true
    }

    fn chunk(&mut self, chunk: &Chunk, history: &History) {
        let position = &mut self.position[chunk.source as usize];
        assert!(self.options.sources.contains(chunk.source));
        assert_eq!(chunk.offset, *position, "a hole or a duplicate");
        assert_eq!(chunk.data, bytes_at(chunk.source, chunk.offset, chunk.data.len() as u64));
        assert!(self.last_seq < Some(chunk.seq), "out of order");
        let (source, from, len) = history.chunks[chunk.seq as usize];
        assert_eq!((source, from + len), (chunk.source, chunk.end()));
        self.last_seq = Some(chunk.seq);
        *position = chunk.end();
    }

    fn gap(&mut self, gap: Gap, history: &History) {
        let position = self.position[gap.source as usize];
        assert!(self.options.sources.contains(gap.source) && gap.from < gap.to);
        assert!(gap.to <= history.total(gap.source));
        match gap.cause {
            GapCause::PositionForgotten => assert!(gap.from == 0 && gap.to >= position),
            _ => assert_eq!(gap.from, position, "a hole or a duplicate"),
        }
        match gap.cause {
            GapCause::NotRetained | GapCause::PositionForgotten => {
                assert_eq!(self.last_seq, None, "history is missing at the start only");
            }
            GapCause::Suppressed => self.suppressed += gap.bytes(),
            GapCause::OutputLimit => assert!(gap.from >= history.kept(gap.source)),
            cause => {
                // Many losses between two chunks may be told as one, under the cause of the first.
                assert_eq!(cause, self.cause());
                self.missed += gap.bytes();
            }
        }
        self.position[gap.source as usize] = gap.to;
    }

    fn cause(&self) -> GapCause {
        match self.options.overflow {
            Overflow::DropOldest => GapCause::DroppedOldest,
            Overflow::DropNewest => GapCause::DroppedNewest,
            Overflow::Block { .. } => GapCause::StallBudgetSpent,
            Overflow::Spill { .. } => GapCause::SpillFull,
            Overflow::Disconnect => panic!("a disconnecting reader loses nothing"),
        }
    }

    fn end(&mut self, end: End, history: &History, expected: Option<(EndReason, Fate)>) {
        assert_eq!(Some((end.reason, end.fate)), expected, "an invented end");
        for source in Source::ALL {
            assert_eq!(end.totals(source).bytes, history.total(source));
            assert_eq!(end.totals(source).over_limit, history.over[source as usize]);
            if self.options.sources.contains(source) {
                assert_eq!(self.position[source as usize], history.total(source));
            }
        }
        let metrics = self.subscriber.metrics();
        assert_eq!((self.missed, self.suppressed), (metrics.dropped, metrics.suppressed));
        assert_eq!((metrics.lag(), metrics.queued), (0, 0));
        self.over = true;
    }

    fn lagged(&mut self, seq: u64, cursor: Cursor, history: &History) {
        let named = [Overflow::Disconnect, Overflow::Block { budget: Duration::ZERO, then: Fallback::Disconnect }];
        assert!(named.contains(&self.options.overflow));
        for source in Source::ALL {
            if self.options.sources.contains(source) {
                assert_eq!(self.position[source as usize], history.place(source, seq));
                assert_eq!(cursor.offset(source), history.place(source, seq));
            }
        }
        self.over = true;
    }
}

struct World {
    hub: Option<Hub>,
    history: History,
    readers: Vec<Reader>,
    /// No more bytes come.
    bytes_ended: bool,
    end: Option<(EndReason, Fate)>,
    /// What readers that left had lost.
    left_dropped: u64,
}

impl World {
    fn run(ring_bytes: usize, output_limit: Option<u64>, ops: Vec<Op>) {
        let hub = Hub::new(HubOptions { ring_bytes, output_limit, ..HubOptions::default() });
        let history = History::new(output_limit);
        let mut world =
            Self { hub: Some(hub), history, readers: Vec::new(), bytes_ended: false, end: None, left_dropped: 0 };
        ops.into_iter().for_each(|op| world.act(op));
        world.finish();
    }

    fn act(&mut self, op: Op) {
        match op {
            Op::Publish(source, len) => self.publish(source, len),
            Op::Subscribe(options) => self.subscribe(options),
            Op::Read(who, count) => {
                if let Some(reader) = self.readers.get_mut(who) {
                    (0..count).all(|_| reader.step(&self.history, self.end));
                }
            }
            Op::Leave(who) if who < self.readers.len() => {
                self.left_dropped += self.readers.remove(who).subscriber.dropped();
            }
            Op::Leave(_) => {}
            Op::Resume(who) if who < self.readers.len() => self.resume(who),
            Op::Resume(_) => {}
            Op::Bytes(who) if who < self.readers.len() => self.read_bytes(who),
            Op::Bytes(_) => {}
            Op::EndBytes => {
                let Some(hub) = &self.hub else { return };
                let taken = self.end.is_none() && !self.bytes_ended;
                assert_eq!(hub.end_bytes(EndInfo { leaked_writers: true, ..EndInfo::default() }), taken);
                self.bytes_ended = true;
            }
            Op::Close => self.close(),
            Op::LoseHandles => {
                self.hub = None;
                let reason = if self.bytes_ended { EndReason::Leaked } else { EndReason::Abandoned };
                self.end = self.end.or(Some((reason, Fate::Unknown)));
            }
        }
    }

    fn publish(&mut self, source: Source, len: u64) {
        let Some(hub) = &self.hub else { return };
        let offset = self.history.total(source);
        assert_eq!(hub.totals(source).bytes, offset);
        let taken = hub.publish(source, bytes_at(source, offset, len)).now_or_never();
        match taken {
            Some(taken) => {
                assert_eq!(taken, self.end.is_none() && !self.bytes_ended);
                if taken {
                    self.history.publish(source, len);
                    assert_eq!(hub.is_over_limit(), self.history.over != [0; 2]);
                }
            }
            // Dropped while it waits: nothing was published.
            None => {
                assert!(self.readers.iter().any(|reader| {
                    matches!(reader.options.overflow, Overflow::Block { budget, .. } if !budget.is_zero())
                }))
            }
        }
    }

    fn subscribe(&mut self, options: SubscribeOptions) {
        let Some(hub) = &self.hub else { return };
        let subscriber = hub.subscribe(options);
        self.readers.push(Reader::new(subscriber, options, &self.history));
    }

    /// It has the end as soon as no more bytes come, and never before.
    fn read_bytes(&mut self, who: usize) {
        let Reader { subscriber, over, .. } = self.readers.remove(who);
        self.left_dropped += subscriber.dropped();
        let (mut bytes, mut lagged) = (subscriber.bytes(), false);
        let no_more = self.bytes_ended || self.end.is_some();
        let abandoned = self.end.is_some_and(|(reason, _)| reason == EndReason::Abandoned);
        loop {
            match bytes.next().now_or_never() {
                None => return assert!(!no_more && !over && !lagged, "no end"),
                Some(None) => return assert!(no_more || over || lagged, "an invented end"),
                Some(Some(Ok(_))) => {}
                Some(Some(Err(error))) => match error.kind() {
                    StreamErrorKind::Gap => {}
                    StreamErrorKind::Lagged => lagged = true,
                    kind => assert!(kind == StreamErrorKind::Abandoned && abandoned),
                },
            }
        }
    }

    fn resume(&mut self, who: usize) {
        let Some(hub) = &self.hub else { return };
        let old = self.readers.remove(who);
        self.left_dropped += old.subscriber.dropped();
        let cursor: Cursor = old.subscriber.cursor().to_string().parse().unwrap();
        let wanted = |source| old.options.sources.contains(source);
        let behind = |source: Source| cursor.offset(source) >= old.position[source as usize];
        assert!(Source::ALL.into_iter().all(|s| !wanted(s) || behind(s)), "what was handed out would come again");
        let opening = old.subscriber.opening();
        drop(old.subscriber);
        match hub.resume(cursor, old.options) {
            Ok(subscriber) => {
                let start = subscriber.opening().start;
                assert!(Source::ALL.into_iter().all(|s| !wanted(s) || start.offset(s) == cursor.offset(s)));
                let mut reader = Reader::new(subscriber, old.options, &self.history);
                reader.position = Source::ALL.map(|source| cursor.offset(source));
                self.readers.push(reader);
            }
            Err(gone) => {
                assert_eq!(gone.reason, GoneReason::Expired);
                let lost = |source| wanted(source) && cursor.offset(source) < hub.oldest(source);
                assert!(Source::ALL.into_iter().any(lost));
                assert!(Source::ALL.into_iter().all(|s| gone.oldest.offset(s) == hub.oldest(s)));
                assert!(hub.resume(gone.oldest, old.options).is_ok());
            }
        }
        assert!(Source::ALL.into_iter().all(|s| opening.oldest.offset(s) <= opening.start.offset(s)));
    }

    fn close(&mut self) {
        let Some(hub) = &self.hub else { return };
        let fate = Fate::Code(3);
        assert_eq!(hub.close(EndInfo { fate, ..EndInfo::default() }), self.end.is_none());
        self.end = self.end.or(Some((EndReason::Eof, fate)));
    }

    fn finish(mut self) {
        self.act(Op::Subscribe(SubscribeOptions::default()));
        self.close();
        for reader in &mut self.readers {
            while reader.step(&self.history, self.end) {}
        }
        if let Some(hub) = &self.hub {
            let dropped = |reader: &Reader| reader.subscriber.dropped();
            let lost = self.left_dropped + self.readers.iter().map(dropped).sum::<u64>();
            let counted: u64 = Source::ALL.map(|source| hub.totals(source).dropped).iter().sum();
            assert_eq!(counted, lost);
            assert_eq!(hub.subscribers(), 0);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn received_and_gaps_are_everything_in_order(
        ring_bytes in prop_oneof![Just(0), 0..200_usize, Just(100_000)],
        output_limit in prop_oneof![2 => Just(None), 1 => (0..400_u64).prop_map(Some)],
        ops in prop::collection::vec(op(), 0..80),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        // Waiting publishes make timers; none of them is ever polled again.
        let _inside = runtime.enter();
        World::run(ring_bytes, output_limit, ops);
    }
}
