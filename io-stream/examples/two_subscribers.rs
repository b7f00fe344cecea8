//! Two readers of one pipe: a late one gets the history first, and both end at the same byte.
//!
//! ```console
//! $ cargo run -p orangery-io-stream --example two_subscribers
//! ```

use std::error::Error;
use std::io::Write;

use orangery_io_stream::{Event, From, Hub, HubOptions, PipeReader, SubscribeOptions, Subscriber, pump_pair};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let (ours, mut theirs) = std::io::pipe()?;
    let hub = Hub::new(HubOptions::default());
    let early = tokio::spawn(show("early", hub.subscribe(SubscribeOptions::default())));
    let pumps = pump_pair(Some(PipeReader::from_fd(ours.into())?), None, hub.clone(), std::future::pending(), None);
    let pumps = tokio::spawn(pumps);

    writeln!(theirs, "one\ntwo\nthree")?;
    // The early reader has them before the late one comes.
    while hub.metrics().bytes_out < 14 {
        tokio::task::yield_now().await;
    }
    let from = From::TailLines(2);
    let late = tokio::spawn(show("late", hub.subscribe(SubscribeOptions { from, ..SubscribeOptions::default() })));
    writeln!(theirs, "four")?;
    drop(theirs);

    pumps.await?;
    early.await?;
    late.await?;
    Ok(())
}

async fn show(name: &str, mut reader: Subscriber) {
    while let Some(event) = reader.recv().await {
        match event {
            Event::Chunk(chunk) => {
                println!("{name}: bytes {}..{}: {:?}", chunk.offset, chunk.end(), String::from_utf8_lossy(&chunk.data));
            }
            Event::Gap(gap) => println!("{name}: bytes {}..{} are missing: {}", gap.from, gap.to, gap.cause),
            Event::End(end) => println!("{name}: the end, {:?}, {} bytes in all", end.reason, end.stdout.bytes),
            _ => {}
        }
    }
}
