//! Watch many containers at once: lines of all that have a label, as one stream, cut off in the middle and gone on with.
//!
//! `cargo run --example follow_many`

use std::collections::HashMap;

use orangery::follow::{Follow, FollowCursor, FollowOptions, Item};
use orangery::stream::view::{LineOptions, Lines, Piece};
use orangery::{EventFilter, Sandbox, Supervisor};

/// One says much more than the others; they do not wait for it.
const WORKERS: [(&str, &str); 3] = [
    ("chatty", "for n in $(seq 2000); do echo line $n of many; done"),
    ("calm", "echo first; echo second; echo third"),
    ("broken", "echo before it fails >&2; exit 3"),
];

fn wanted() -> EventFilter {
    EventFilter::new().label("job", "build").kind("container_started").kind("process_exited")
}

/// What a client makes of it: lines by container.
#[derive(Default)]
struct Client {
    lines: HashMap<String, Lines>,
    seen: HashMap<String, usize>,
    ended: usize,
}

impl Client {
    fn take(&mut self, item: Item) {
        match item {
            Item::Chunk { member, chunk } => {
                let id = member.container.to_string();
                let lines = self.lines.entry(id.clone()).or_insert_with(|| Lines::new(LineOptions::default()));
                let mut piece = Piece::from(chunk);
                while let Some(line) = lines.next_from(&mut piece) {
                    let count = self.seen.entry(id.clone()).or_default();
                    *count += 1;
                    if *count <= 3 {
                        println!("{id} {}: {}", line.source, String::from_utf8_lossy(&line.data));
                    }
                }
            }
            Item::Gap { member, gap } => println!("{}: {} bytes are missing", member.container, gap.bytes()),
            Item::Event(event) => println!("{}: {}", event.container.as_deref().unwrap_or("-"), event.kind.name()),
            Item::End { container, report, .. } => {
                println!("{container} has ended: {:?}", report.map(|report| report.exit));
                self.ended += 1;
            }
            _ => {}
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let supervisor = Supervisor::new()?;
    let mut feed = supervisor.follow(wanted(), FollowOptions::default());
    let mut handles = Vec::new();
    for (id, script) in WORKERS {
        let sandbox = Sandbox::builder().id(id).label("job", "build").build()?;
        handles.push(supervisor.command("sh").arg("-c").arg(script).sandbox(&sandbox).spawn().await?);
    }
    let mut client = Client::default();
    for _ in 0..5 {
        client.take(next(&mut feed).await?);
    }
    // The connection breaks; the client has the text, comes back with it, and misses nothing.
    let text = feed.cursor().to_string();
    drop(feed);
    let cursor: FollowCursor = text.parse()?;
    println!("-- cut off and resumed, at {} sources in {} characters", cursor.sources(), text.len());
    let mut feed = supervisor.resume_follow(&cursor, wanted(), FollowOptions::default())?;
    while client.ended < WORKERS.len() {
        client.take(next(&mut feed).await?);
    }
    anyhow::ensure!(client.seen["chatty"] == 2000 && client.seen["calm"] == 3, "{:?}", client.seen);
    supervisor.shutdown().await;
    Ok(())
}

async fn next(feed: &mut Follow) -> anyhow::Result<Item> {
    feed.recv().await.ok_or_else(|| anyhow::anyhow!("the supervisor has ended"))
}
