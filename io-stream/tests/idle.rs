//! What a stream weighs on which nothing happens: its hub, its pump, its place in the runtime and one reader.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::future::pending;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::Stream;
use orangery_io_stream::{Hub, HubOptions, PipeReader, SubscribeOptions, pump_pair};

/// The goal, in bytes.
const MOST: i64 = 2048;
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

#[test]
fn an_idle_stream_is_small() {
    // Its tasks run on this thread, which alone is counted.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut kept = Vec::with_capacity(COUNT + 1);
    // What is made once.
    kept.push(runtime.block_on(pair()));
    let info = allocation_counter::measure(|| {
        for _ in 0..COUNT {
            kept.push(runtime.block_on(pair()));
        }
    });
    let each = info.bytes_current / (2 * i64::try_from(COUNT).unwrap());
    assert!(each > 0 && each <= MOST, "{each} bytes a stream");
    println!("{each} bytes a stream");
}
