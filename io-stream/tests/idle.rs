//! What a stream weighs on which nothing happens: its hub, its pump, its place in the runtime and one reader.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::alloc::System;
use std::future::pending;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::Stream;
use orangery_io_stream::{Hub, HubOptions, PipeReader, SubscribeOptions, pump_pair};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The goal, in bytes.
const MOST: usize = 2048;
const COUNT: usize = 100;

/// A standard output and a standard error that nobody has written into, waited for; what they keep.
async fn pair() -> impl Sized {
    let [(out, out_end), (err, err_end)] = [(); 2].map(|()| std::io::pipe().unwrap());
    let [out, err] = [out, err].map(|end| PipeReader::from_fd(end.into()).unwrap());
    let hub = Hub::new(HubOptions::default());
    let reader = hub.subscribe(SubscribeOptions::default());
    let grace = Some(Duration::from_secs(2));
    let pump = tokio::spawn(pump_pair(Some(out), Some(err), hub, pending(), grace));
    let mut reader = Box::new(reader);
    std::future::poll_fn(|cx| {
        assert!(Pin::new(&mut reader).poll_next(cx).is_pending());
        Poll::Ready(())
    })
    .await;
    tokio::task::yield_now().await;
    (out_end, err_end, pump, reader)
}

// One test alone in its process: other threads would be counted as well.
#[tokio::test]
async fn an_idle_stream_is_small() {
    let mut kept = Vec::with_capacity(COUNT + 1);
    // What is made once.
    kept.push(pair().await);
    let region = Region::new(ALLOCATOR);
    for _ in 0..COUNT {
        kept.push(pair().await);
    }
    let change = region.change();
    let each = (change.bytes_allocated - change.bytes_deallocated) / (2 * COUNT);
    assert!(each <= MOST, "{each} bytes a stream");
    println!("{each} bytes a stream");
}
