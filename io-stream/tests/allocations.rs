//! Nothing is allocated or copied for a byte and a subscriber: a chunk of any size, to any number of
//! readers, costs the same few allocations.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use bytes::Bytes;
use futures_util::FutureExt;
use orangery_io_stream::{Event, Hub, HubOptions, Source, SubscribeOptions, Subscriber};

/// Allocations and bytes that one chunk costs this thread from its publication until every reader has it. Those of the
/// test's harness are on another.
fn cost(hub: &Hub, readers: &mut [Subscriber], chunk: &Bytes) -> (u64, u64) {
    let info = allocation_counter::measure(|| {
        assert!(hub.publish(Source::Stdout, chunk.clone()).now_or_never().unwrap());
        for reader in readers {
            let Some(Some(Event::Chunk(got))) = reader.recv().now_or_never() else { panic!("no chunk") };
            assert_eq!(got.data.as_ptr(), chunk.as_ptr());
        }
    });
    (info.count_total, info.bytes_total)
}

/// The dearest of many chunks, once everything has grown to its size.
fn dearest(readers: usize, len: usize) -> (u64, u64) {
    let hub = Hub::new(HubOptions { ring_bytes: 4 * len, ..HubOptions::default() });
    let mut readers: Vec<_> = (0..readers).map(|_| hub.subscribe(SubscribeOptions::default())).collect();
    let chunk = Bytes::from(vec![7; len]);
    for _ in 0..200 {
        cost(&hub, &mut readers, &chunk);
    }
    (0..200).map(|_| cost(&hub, &mut readers, &chunk)).max().unwrap()
}

#[test]
fn a_chunk_costs_the_same_whatever_its_size_and_its_readers() {
    assert_eq!(dearest(1, 1), (0, 0));
    assert_eq!(dearest(1, 1 << 20), (0, 0));
    assert_eq!(dearest(100, 1), (0, 0));
    assert_eq!(dearest(100, 1 << 20), (0, 0));
}
