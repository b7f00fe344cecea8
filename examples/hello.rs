//! Start a sandboxed command, stream its output, wait for its report.
//!
//! `cargo run --release --example hello`

use orangery::{Event, Supervisor};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let supervisor = Supervisor::new()?;
    let container = supervisor.command("sh").arg("-c").arg("echo hello; echo oops >&2; exit 3").spawn().await?;
    let mut output = container.output();
    while let Some(event) = output.recv().await {
        match event {
            Event::Chunk(chunk) => print!("{}: {}", chunk.source, String::from_utf8_lossy(&chunk.data)),
            other => println!("{other:?}"),
        }
    }
    let report = container.wait().await?;
    println!("ended with {:?} after {:?}", report.exit, report.wall().unwrap_or_default());
    supervisor.shutdown().await;
    Ok(())
}
