//! What each policy does to a reader that reads nothing while a mebibyte passes.
//!
//! ```console
//! $ cargo run -p orangery-io-stream --example slow_reader
//! ```

use std::error::Error;
use std::io::Write;
use std::time::Duration;

use orangery_io_stream::{
    Event, Fallback, Hub, HubOptions, Overflow, PipeReader, RateLimit, SubscribeOptions, pump_pair,
};

const TOTAL: usize = 1 << 20;
const QUEUE: usize = 128 << 10;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let budget = Duration::from_millis(50);
    let rate = Some(RateLimit { bytes_per_second: 1000, burst: 64 << 10 });
    println!("{TOTAL} bytes pass a reader with a queue of {QUEUE}; then it reads.\n");
    println!("{:<38} {:>9} {:>9}  {:<24} workload", "policy", "received", "missing", "told as");
    for (name, overflow, rate) in [
        ("drop the oldest (default)", Overflow::DropOldest, None),
        ("drop the newest", Overflow::DropNewest, None),
        ("disconnect", Overflow::Disconnect, None),
        ("spill", Overflow::Spill { limit: 4 << 20 }, None),
        ("spill, but little", Overflow::Spill { limit: 256 << 10 }, None),
        ("block, then drop the oldest", Overflow::block(budget), None),
        ("block, then disconnect", Overflow::Block { budget, then: Fallback::Disconnect }, None),
        ("drop the oldest, at most 1000 a second", Overflow::DropOldest, rate),
    ] {
        show(name, SubscribeOptions { overflow, rate, queue_bytes: QUEUE, ..SubscribeOptions::default() }).await?;
    }
    Ok(())
}

async fn show(name: &str, options: SubscribeOptions) -> Result<(), Box<dyn Error>> {
    let (ours, mut theirs) = std::io::pipe()?;
    let hub = Hub::new(HubOptions { ring_bytes: 0, ..HubOptions::default() });
    let mut slow = hub.subscribe(options);
    let workload = std::thread::spawn(move || theirs.write_all(&vec![b'x'; TOTAL]));
    let reader = PipeReader::from_fd(ours.into())?;
    pump_pair(Some(reader), None, hub.clone(), std::future::pending(), None).await;
    workload.join().map_err(|_| "the workload panicked")??;

    let (mut received, mut missing, mut told) = (0, 0, String::from("nothing"));
    while let Some(event) = slow.recv().await {
        match event {
            Event::Chunk(chunk) => received += chunk.data.len() as u64,
            Event::Gap(gap) => {
                missing += gap.bytes();
                told = format!("gap: {}", gap.cause);
            }
            Event::Lagged { .. } => told = String::from("lagged, with a cursor"),
            _ => {}
        }
    }
    let waited = hub.metrics().blocked;
    let workload =
        if waited.is_zero() { String::from("untouched") } else { format!("waited {} ms", waited.as_millis()) };
    println!("{name:<38} {received:>9} {missing:>9}  {told:<24} {workload}");
    Ok(())
}
