//! Slow readers of a real pipe: received and missed bytes are always everything.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod workload;

use std::future::pending;
use std::time::Duration;

use orangery_io_stream::{
    EndReason, Event, Hub, HubOptions, Overflow, RateLimit, SubscribeOptions, Subscriber, pump_pair,
};
use workload::{MIB, check_all, pipe, writer};

#[tokio::test]
async fn a_reader_that_never_reads_hinders_nobody() {
    let total = 100 * MIB as u64;
    let hub = Hub::new(HubOptions::default());
    let lazy = hub.subscribe(SubscribeOptions { queue_bytes: MIB, ..SubscribeOptions::default() });
    let (out, file) = pipe();
    let workload = writer(file, total as usize);
    assert_eq!(pump_pair(Some(out), None, hub, pending(), None).await, EndReason::Eof);
    workload.join().unwrap();
    let (received, missed, _) = check_all(lazy, total).await;
    assert_eq!(received + missed, total);
    assert!(received <= MIB as u64 && received > MIB as u64 / 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_of_each_kind_can_add_up() {
    let total = 8 * MIB as u64;
    let hub = Hub::new(HubOptions::default());
    let budget = Duration::from_secs(600);
    let rate = RateLimit { bytes_per_second: 1_000_000, burst: 1_000_000 };
    let small_spill = Overflow::Spill { limit: total / 8 };
    let readers: Vec<_> = [Overflow::DropOldest, Overflow::DropNewest, small_spill]
        .into_iter()
        .flat_map(|overflow| [(overflow, None), (overflow, Some(rate))])
        .map(|(overflow, rate)| {
            let options = SubscribeOptions { overflow, rate, queue_bytes: 100_000, ..SubscribeOptions::default() };
            tokio::spawn(read_sum(hub.subscribe(options)))
        })
        .collect();
    let patient = tokio::spawn(read_sum(hub.subscribe(SubscribeOptions {
        overflow: Overflow::block(budget),
        queue_bytes: 100_000,
        ..SubscribeOptions::default()
    })));
    let (out, file) = pipe();
    let workload = writer(file, total as usize);
    pump_pair(Some(out), None, hub, pending(), None).await;
    workload.join().unwrap();
    for reader in readers {
        let (received, missed) = reader.await.unwrap();
        assert_eq!(received + missed, total);
    }
    assert_eq!(patient.await.unwrap(), (total, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_and_resumed_under_load_nothing_is_lost_or_doubled() {
    let total = 4 * MIB;
    let hub = Hub::new(HubOptions { ring_bytes: 2 * total, ..HubOptions::default() });
    let (out, file) = pipe();
    let workload = writer(file, total);
    let pumps = tokio::spawn(pump_pair(Some(out), None, hub.clone(), pending(), None));
    let (mut position, mut cursor) = (0, None::<String>);
    while position < total as u64 {
        let options = SubscribeOptions { queue_bytes: 2 * total, ..SubscribeOptions::default() };
        let mut subscriber = match &cursor {
            None => hub.subscribe(options),
            Some(text) => hub.resume(text.parse().unwrap(), options).unwrap(),
        };
        // A few chunks, the last of them cut in its middle.
        for taken in 0..3 {
            let Some(Event::Chunk(chunk)) = subscriber.recv().await else {
                break;
            };
            assert_eq!(chunk.offset, position);
            assert_eq!(u64::from(chunk.data[0]), position % 251);
            let take = if taken == 2 { chunk.data.len().div_ceil(2) } else { chunk.data.len() };
            position += take as u64;
            cursor = Some(chunk.cursor_after(take).to_string());
        }
    }
    assert_eq!(position, total as u64);
    assert_eq!(pumps.await.unwrap(), EndReason::Eof);
    workload.join().unwrap();
}

async fn read_sum(mut subscriber: Subscriber) -> (u64, u64) {
    let (mut received, mut missed) = (0, 0);
    while let Some(event) = subscriber.recv().await {
        match event {
            Event::Chunk(chunk) => received += chunk.data.len() as u64,
            Event::Gap(gap) => missed += gap.bytes(),
            _ => {}
        }
        tokio::task::yield_now().await;
    }
    (received, missed)
}

#[tokio::test(start_paused = true)]
async fn a_spent_stall_budget_lets_the_workload_go_on() {
    let hub = Hub::new(HubOptions::default());
    let budget = Duration::from_secs(5);
    let stuck = hub.subscribe(SubscribeOptions {
        overflow: Overflow::block(budget),
        queue_bytes: 1000,
        ..SubscribeOptions::default()
    });
    let (out, file) = pipe();
    let workload = writer(file, 4 * MIB);
    pump_pair(Some(out), None, hub, pending(), None).await;
    workload.join().unwrap();
    let (received, missed, _) = check_all(stuck, 4 * MIB as u64).await;
    assert!(missed > 0 && received > 0);
}

#[tokio::test]
async fn a_spilling_reader_that_comes_late_gets_everything() {
    let total = 20 * MIB as u64;
    let hub = Hub::new(HubOptions::default());
    let late = hub.subscribe(SubscribeOptions {
        overflow: Overflow::Spill { limit: 2 * total },
        queue_bytes: MIB,
        ..SubscribeOptions::default()
    });
    let (out, file) = pipe();
    let workload = writer(file, total as usize);
    assert_eq!(pump_pair(Some(out), None, hub, pending(), None).await, EndReason::Eof);
    workload.join().unwrap();
    let metrics = late.metrics();
    assert_eq!((metrics.lag(), metrics.dropped), (total, 0));
    assert!(metrics.queued <= MIB as u64 && metrics.spilled >= 19 * MIB as u64);
    assert_eq!(check_all(late, total).await, (total, 0, EndReason::Eof));
}
