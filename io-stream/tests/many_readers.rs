//! A flood to ten readers of different speed and policy, while one of them is cut off and resumed all
//! the time: equal bytes where nothing may be lost, gaps that add up exactly where something may.
//! 32 MiB; `ORANGERY_FLOOD_MIB=1024` for more.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs::File;
use std::future::pending;
use std::io::Write;
use std::time::Duration;

use orangery_io_stream::{
    EndReason, Event, Fallback, Hub, HubOptions, Overflow, PipeReader, RateLimit, SubscribeOptions, Subscriber,
    pump_pair,
};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::task::JoinHandle;

/// After so many bytes the output repeats; a prime.
const PERIOD: usize = 1_000_003;

/// Bytes that look random (SplitMix64), one period of them.
fn output() -> &'static [u8] {
    static OUTPUT: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    OUTPUT.get_or_init(|| {
        let mut state = 0_u64;
        let next = std::iter::repeat_with(|| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (mixed ^ (mixed >> 31)) as u8
        });
        next.take(PERIOD).collect()
    })
}

/// What one reader came to.
#[derive(Debug, Default, Clone, Copy)]
struct Read {
    position: u64,
    received: u64,
    missed: u64,
}

impl Read {
    /// Checks that these are the bytes that stand here, and nothing is between.
    fn take(&mut self, offset: u64, data: &[u8]) {
        assert_eq!(offset, self.position, "a hole or a duplicate");
        let (mut at, mut rest) = ((self.position % PERIOD as u64) as usize, data);
        while !rest.is_empty() {
            let len = rest.len().min(PERIOD - at);
            assert!(rest[..len] == output()[at..at + len], "other bytes at {offset}");
            (at, rest) = ((at + len) % PERIOD, &rest[len..]);
        }
        self.position += data.len() as u64;
        self.received += data.len() as u64;
    }
}

/// Reads to the end, resting after every `pace` events; asks for `resume` after every `cut` chunks.
async fn read(hub: Hub, options: SubscribeOptions, pace: usize, cut: usize) -> (Read, u64) {
    let mut reader = hub.subscribe(options);
    let (mut read, mut counted) = (Read::default(), 0);
    let mut since = 0;
    loop {
        for _ in 0..pace {
            tokio::task::yield_now().await;
        }
        match reader.recv().await.unwrap() {
            Event::Chunk(chunk) => read.take(chunk.offset, &chunk.data),
            Event::Gap(gap) => {
                assert_eq!(gap.from, read.position);
                read.position = gap.to;
                read.missed += gap.bytes();
            }
            Event::End(_) => {
                let metrics = reader.metrics();
                return (read, counted + metrics.dropped + metrics.suppressed);
            }
            Event::Lagged { .. } => since = cut,
            other => panic!("unknown {other:?}"),
        }
        since += 1;
        if since > cut {
            since = 0;
            let metrics = reader.metrics();
            counted += metrics.dropped + metrics.suppressed;
            reader = again(&hub, reader, options);
        }
    }
}

/// Leaves, and comes back where it was.
fn again(hub: &Hub, reader: Subscriber, options: SubscribeOptions) -> Subscriber {
    let cursor = reader.cursor().to_string();
    drop(reader);
    hub.resume(cursor.parse().unwrap(), options).unwrap()
}

fn workload(mut pipe: File, total: usize) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut written = 0;
        while written < total {
            let rest = &output()[written % PERIOD..];
            let len = rest.len().min(total - written).min(1 + written % 70_001);
            pipe.write_all(&rest[..len]).unwrap();
            written += len;
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_readers_of_every_kind() {
    let mebibytes = std::env::var("ORANGERY_FLOOD_MIB").map_or(32, |size| size.parse().unwrap());
    let total: usize = mebibytes << 20;
    // Room for all of it: whoever is cut off can always come back.
    let hub = Hub::new(HubOptions { ring_bytes: 2 * total, ..HubOptions::default() });
    let block = Overflow::block(Duration::from_secs(600));
    let spill = Overflow::Spill { limit: 4 * total as u64 };
    let rate = Some(RateLimit { bytes_per_second: 10 << 20, burst: 1 << 20 });
    let never = usize::MAX - 1;
    let lossless = [(block, 0, never), (block, 3, never), (spill, 50, never), (spill, 0, 20), (block, 1, 7)];
    let lossy = [
        (Overflow::DropOldest, 20, never),
        (Overflow::DropNewest, 20, never),
        (Overflow::Disconnect, 20, never),
        (Overflow::Block { budget: Duration::ZERO, then: Fallback::DropNewest }, 5, never),
    ];
    let start = |overflow, rate, pace, cut| -> JoinHandle<(Read, u64)> {
        let options = SubscribeOptions { overflow, rate, queue_bytes: 300_000, ..SubscribeOptions::default() };
        tokio::spawn(read(hub.clone(), options, pace, cut))
    };
    let lossless = lossless.map(|(overflow, pace, cut)| start(overflow, None, pace, cut));
    let mut lossy = Vec::from(lossy.map(|(overflow, pace, cut)| start(overflow, None, pace, cut)));
    lossy.push(start(Overflow::DropOldest, rate, 0, never));
    while hub.subscribers() < 10 {
        tokio::task::yield_now().await;
    }
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let workload = workload(theirs.into(), total);
    let reader = PipeReader::from_fd(ours).unwrap();
    assert_eq!(pump_pair(Some(reader), None, hub.clone(), pending(), None).await, EndReason::Eof);
    workload.join().unwrap();
    for reader in lossless {
        let (read, lost) = reader.await.unwrap();
        assert_eq!((read.received, read.missed, lost), (total as u64, 0, 0));
    }
    for reader in lossy {
        let (read, lost) = reader.await.unwrap();
        assert_eq!((read.received + read.missed, read.missed), (total as u64, lost));
    }
}
