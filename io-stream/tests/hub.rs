//! The hub as its users meet it: policies, ends, and who keeps what alive. No descriptors here.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use orangery_io_stream::{
    EndInfo, EndReason, Event, Fallback, From, Gap, GapCause, Generation, Hub, HubOptions, Overflow, RateLimit, Source,
    Sources, StreamErrorKind, SubscribeOptions, Subscriber,
};
use tokio::time::Instant;

const BUDGET: Duration = Duration::from_secs(2);

fn hub() -> Hub {
    Hub::new(HubOptions::default())
}

fn small(overflow: Overflow) -> SubscribeOptions {
    SubscribeOptions { overflow, queue_bytes: 4, ..SubscribeOptions::default() }
}

async fn data(subscriber: &mut Subscriber) -> Bytes {
    match subscriber.recv().await {
        Some(Event::Chunk(chunk)) => chunk.data,
        other => panic!("no chunk but {other:?}"),
    }
}

async fn gap(subscriber: &mut Subscriber) -> (u64, u64, GapCause) {
    match subscriber.recv().await {
        Some(Event::Gap(Gap { from, to, cause, .. })) => (from, to, cause),
        other => panic!("no gap but {other:?}"),
    }
}

async fn reason(subscriber: &mut Subscriber) -> EndReason {
    let Some(Event::End(end)) = subscriber.recv().await else {
        panic!("no end");
    };
    assert_eq!(subscriber.recv().await, None);
    end.reason
}

#[test]
fn handles_and_futures_cross_threads() {
    fn assert_shared<T: Send + Sync + 'static>(_: &T) {}
    fn assert_send<T: Send>(_: &T) {}
    let hub = hub();
    let mut subscriber = hub.subscribe(SubscribeOptions::default());
    assert_shared(&hub);
    assert_shared(&subscriber);
    assert_send(&hub.publish(Source::Stdout, Bytes::new()));
    assert_send(&hub.wait_closed());
    assert_send(&subscriber.recv());
    assert_send(&orangery_io_stream::pump_pair(None, None, hub, async {}, None));
}

#[test]
fn without_any_runtime_it_works_too() {
    let hub = hub();
    let mut subscriber = hub.subscribe(SubscribeOptions::default());
    hub.publish(Source::Stdout, "a".into()).now_or_never().unwrap();
    assert_eq!(data(&mut subscriber).now_or_never().unwrap(), "a");
    assert!(subscriber.recv().now_or_never().is_none());
}

#[tokio::test]
async fn positions_run_over_both_sources() {
    let hub = Hub::new(HubOptions { generation: Generation(3), ..HubOptions::default() });
    for (source, text) in [(Source::Stdout, "one"), (Source::Stderr, "two"), (Source::Stdout, "three")] {
        assert!(hub.publish(source, text.into()).await);
    }
    assert!(hub.publish(Source::Stdout, Bytes::new()).await);
    assert_eq!(hub.totals(Source::Stdout).bytes, 8);
    let mut subscriber = hub.subscribe(SubscribeOptions::default());
    let mut seen = Vec::new();
    while let Some(Some(Event::Chunk(chunk))) = subscriber.recv().now_or_never() {
        assert_eq!(chunk.generation, Generation(3));
        seen.push((chunk.seq, chunk.source, chunk.offset));
    }
    assert_eq!(seen, [(0, Source::Stdout, 0), (1, Source::Stderr, 0), (2, Source::Stdout, 3)]);
}

#[tokio::test]
async fn a_waiting_reader_is_woken() {
    let hub = hub();
    let mut subscriber = hub.subscribe(SubscribeOptions::default());
    let reader = tokio::spawn(async move { data(&mut subscriber).await });
    tokio::task::yield_now().await;
    hub.publish(Source::Stderr, "x".into()).await;
    assert_eq!(reader.await.unwrap(), "x");
}

#[tokio::test]
async fn closing_twice_counts_once() {
    let hub = hub();
    let mut subscriber = hub.subscribe(SubscribeOptions::default());
    let leaked = EndInfo { leaked_writers: true, ..EndInfo::default() };
    assert!(hub.close(leaked));
    assert!(!hub.close(EndInfo::default()));
    assert!(!hub.publish(Source::Stdout, "late".into()).await);
    assert_eq!(reason(&mut subscriber).await, EndReason::Leaked);
    assert_eq!(hub.wait_closed().await.reason, EndReason::Leaked);
    assert_eq!(hub.totals(Source::Stdout).bytes, 0);
}

#[tokio::test]
async fn an_error_outranks_a_leak() {
    let hub = hub();
    hub.close(EndInfo { leaked_writers: true, error: Some(StreamErrorKind::Read), ..EndInfo::default() });
    let mut late = hub.subscribe(SubscribeOptions::default());
    assert_eq!(reason(&mut late).await, EndReason::Error(StreamErrorKind::Read));
}

#[tokio::test]
async fn waiting_for_the_end_sees_it() {
    let hub = hub();
    let other = hub.clone();
    let waiting = tokio::spawn(async move { other.wait_closed().await });
    tokio::task::yield_now().await;
    hub.close(EndInfo::default());
    assert_eq!(waiting.await.unwrap().reason, EndReason::Eof);
}

#[tokio::test]
async fn the_loss_of_all_handles_is_no_normal_end() {
    let hub = hub();
    let clone = hub.clone();
    let mut subscriber = hub.subscribe(SubscribeOptions::default());
    hub.publish(Source::Stdout, "kept".into()).await;
    drop(hub);
    assert_eq!(data(&mut subscriber).await, "kept");
    assert!(subscriber.recv().now_or_never().is_none());
    drop(clone);
    assert_eq!(reason(&mut subscriber).await, EndReason::Abandoned);
}

#[tokio::test]
async fn a_dropped_subscriber_is_gone_at_once() {
    let hub = hub();
    let first = hub.subscribe(SubscribeOptions::default());
    let second = hub.subscribe(SubscribeOptions::default());
    assert_eq!(hub.subscribers(), 2);
    drop(first);
    assert_eq!(hub.subscribers(), 1);
    drop(second);
    assert_eq!(hub.subscribers(), 0);
}

#[tokio::test]
async fn readers_share_the_bytes() {
    let hub = hub();
    let mut first = hub.subscribe(SubscribeOptions::default());
    let mut second = hub.subscribe(SubscribeOptions::default());
    let bytes = Bytes::from(vec![1; 100]);
    hub.publish(Source::Stdout, bytes.clone()).await;
    assert_eq!(data(&mut first).await.as_ptr(), bytes.as_ptr());
    assert_eq!(data(&mut second).await.as_ptr(), bytes.as_ptr());
}

#[tokio::test]
async fn one_readers_loss_is_not_the_others() {
    let hub = hub();
    let mut slow = hub.subscribe(small(Overflow::DropOldest));
    let mut roomy = hub.subscribe(SubscribeOptions::default());
    for text in ["aaaa", "bbbb", "cccc"] {
        hub.publish(Source::Stdout, text.into()).await;
    }
    assert_eq!(gap(&mut slow).await, (0, 8, GapCause::DroppedOldest));
    assert_eq!(data(&mut slow).await, "cccc");
    assert_eq!((slow.dropped(), roomy.dropped()), (8, 0));
    assert_eq!(hub.totals(Source::Stdout).dropped, 8);
    for text in ["aaaa", "bbbb", "cccc"] {
        assert_eq!(data(&mut roomy).await, text);
    }
}

#[tokio::test]
async fn a_disconnected_reader_resumes_where_it_was_cut() {
    let hub = hub();
    let mut reader = hub.subscribe(small(Overflow::Disconnect));
    for text in ["aaaa", "bbbb", "cccc"] {
        hub.publish(Source::Stdout, text.into()).await;
    }
    assert_eq!(hub.subscribers(), 0);
    assert_eq!(data(&mut reader).await, "aaaa");
    let Some(Event::Lagged { seq: 1, cursor }) = reader.recv().await else { panic!("not told where") };
    assert_eq!(reader.recv().await, None);
    let mut again = hub.subscribe(SubscribeOptions { from: From::Seq(1), ..SubscribeOptions::default() });
    assert_eq!(data(&mut again).await, "bbbb");
    assert_eq!(data(&mut again).await, "cccc");
    let mut by_cursor = hub.resume(cursor, SubscribeOptions::default()).unwrap();
    assert_eq!(data(&mut by_cursor).await, "bbbb");
}

#[tokio::test(start_paused = true)]
async fn a_blocking_reader_gets_everything() {
    let hub = hub();
    let mut reader = hub.subscribe(small(Overflow::block(BUDGET)));
    let feeder = tokio::spawn(async move {
        for at in 0..100_u8 {
            hub.publish(Source::Stdout, vec![at; 3].into()).await;
        }
        hub.close(EndInfo::default());
    });
    let began = Instant::now();
    for at in 0..100_u8 {
        // Slow, but never slower than the budget.
        tokio::time::sleep(BUDGET / 2).await;
        assert_eq!(data(&mut reader).await, vec![at; 3]);
    }
    assert_eq!(reason(&mut reader).await, EndReason::Eof);
    assert!(began.elapsed() >= BUDGET * 50);
    feeder.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_spent_budget_names_itself_and_is_spent_once() {
    let hub = hub();
    let mut stuck = hub.subscribe(small(Overflow::block(BUDGET)));
    let began = Instant::now();
    for text in ["aaaa", "bbbb", "cccc"] {
        hub.publish(Source::Stdout, text.into()).await;
    }
    assert_eq!(began.elapsed(), BUDGET);
    assert_eq!(gap(&mut stuck).await, (0, 8, GapCause::StallBudgetSpent));
    assert_eq!(data(&mut stuck).await, "cccc");
}

#[tokio::test(start_paused = true)]
async fn the_leaving_of_a_blocking_reader_frees_the_publisher() {
    let hub = hub();
    let stuck = hub.subscribe(small(Overflow::block(Duration::MAX)));
    hub.publish(Source::Stdout, "aaaa".into()).await;
    let other = hub.clone();
    let feeder = tokio::spawn(async move { other.publish(Source::Stdout, "bbbb".into()).await });
    tokio::task::yield_now().await;
    assert!(!feeder.is_finished());
    drop(stuck);
    assert!(feeder.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_close_frees_the_publisher() {
    let hub = hub();
    let _stuck = hub.subscribe(small(Overflow::block(Duration::MAX)));
    hub.publish(Source::Stdout, "aaaa".into()).await;
    let other = hub.clone();
    let feeder = tokio::spawn(async move { other.publish(Source::Stdout, "bbbb".into()).await });
    tokio::task::yield_now().await;
    hub.close(EndInfo::default());
    assert!(!feeder.await.unwrap());
}

#[tokio::test]
async fn a_blocking_reader_of_one_source_does_not_hold_the_other() {
    let hub = hub();
    let _stuck = hub.subscribe(SubscribeOptions { sources: Sources::Stderr, ..small(Overflow::block(Duration::MAX)) });
    hub.publish(Source::Stderr, "aaaa".into()).await;
    assert!(hub.publish(Source::Stdout, "bbbb".into()).now_or_never().is_some());
    assert!(hub.publish(Source::Stderr, "cccc".into()).now_or_never().is_none());
    assert_eq!(hub.totals(Source::Stderr).bytes, 4);
}

#[tokio::test]
async fn a_subscriber_is_a_stream() {
    let hub = hub();
    let mut subscriber = hub.subscribe(SubscribeOptions::default());
    hub.close(EndInfo::default());
    let event = Pin::new(&mut subscriber).next().await;
    assert!(matches!(event, Some(Event::End(_))));
    assert_eq!(subscriber.next().await, None);
}

#[tokio::test]
async fn a_fallback_that_disconnects_tells_where_to_resume() {
    let hub = hub();
    let mut stuck = hub.subscribe(small(Overflow::Block { budget: Duration::ZERO, then: Fallback::Disconnect }));
    for text in ["aaaa", "bbbb"] {
        hub.publish(Source::Stdout, text.into()).await;
    }
    assert_eq!(data(&mut stuck).await, "aaaa");
    let Some(Event::Lagged { cursor, .. }) = stuck.recv().await else { panic!("not told where") };
    let mut again = hub.resume(cursor, SubscribeOptions::default()).unwrap();
    assert_eq!(data(&mut again).await, "bbbb");
}

#[tokio::test]
async fn a_rate_limit_says_what_it_suppressed() {
    let hub = hub();
    let rate = Some(RateLimit { bytes_per_second: 0, burst: 4 });
    let mut reader = hub.subscribe(SubscribeOptions { rate, ..SubscribeOptions::default() });
    for text in ["aaaa", "bbbb", "cccc"] {
        hub.publish(Source::Stdout, text.into()).await;
    }
    assert_eq!(data(&mut reader).await, "aaaa");
    assert!(reader.recv().now_or_never().is_none());
    hub.close(EndInfo::default());
    assert_eq!(gap(&mut reader).await, (4, 12, GapCause::Suppressed));
    let Some(Event::End(end)) = reader.recv().await else { panic!("no end") };
    assert_eq!((end.stdout.suppressed, end.stdout.dropped), (8, 0));
}

#[tokio::test(start_paused = true)]
async fn everything_is_measured() {
    let hub = Hub::new(HubOptions { ring_bytes: 10, ..HubOptions::default() });
    let mut fast = hub.subscribe(SubscribeOptions::default());
    let _stuck = hub.subscribe(small(Overflow::block(BUDGET)));
    let rate = Some(RateLimit { bytes_per_second: 0, burst: 1 });
    let _limited = hub.subscribe(SubscribeOptions { rate, ..SubscribeOptions::default() });
    for text in ["aaaa", "bbbb", "cccc"] {
        hub.publish(Source::Stdout, text.into()).await;
    }
    data(&mut fast).await;
    let metrics = hub.metrics();
    assert_eq!((metrics.bytes_in, metrics.bytes_out), (12, 4));
    assert_eq!((metrics.ring_bytes, metrics.ring_capacity), (10, 10));
    assert_eq!((metrics.dropped, metrics.suppressed, metrics.blocked), (8, 8, BUDGET));
    let [fast, stuck, limited] = &metrics.subscribers[..] else { panic!("three readers") };
    assert_eq!((fast.lag(), fast.delivered, fast.gave_up), (8, 4, false));
    assert_eq!((stuck.lag(), stuck.dropped, stuck.gave_up), (4, 8, true));
    assert_eq!((limited.lag(), limited.suppressed), (4, 8));
}
