//! `stats`: what a container uses, once or again and again.

use serde_json::Value;

use super::table::size;
use super::{asking, container, say};
use crate::args::StatsArgs;
use crate::client::{Again, Feed};
use crate::errors::Failure;

const HEADS: [&str; 9] = ["CPU", "THROTTLED", "MEMORY", "LIMIT", "PEAK", "PIDS", "READ", "WRITTEN", "SOURCE"];

pub(super) fn stats(args: &StatsArgs, json: bool) -> Result<u8, Failure> {
    asking(&args.lasting.daemon, async |client| {
        let target = container(&args.name).then("stats");
        let Some(every) = args.every else {
            let now: Value = client.get(&target).await?;
            return show(&now, json, true).map(|()| 0);
        };
        let target = target.query("every", format!("{}ms", every.as_millis()));
        let mut feed = Feed::new(&client, target, None, Again::new(args.lasting.reconnect, json));
        let mut first = true;
        loop {
            let message = feed.next().await?;
            match message.event.as_str() {
                "end" => return Ok(0),
                "stats" => {
                    let now = serde_json::from_str(&message.data).map_err(|error| Failure::new(error.to_string()))?;
                    show(&now, json, std::mem::take(&mut first))?;
                }
                _ => {}
            }
        }
    })
}

fn show(now: &Value, json: bool, heads: bool) -> Result<(), Failure> {
    if json {
        return say(format!("{now}\n").as_bytes());
    }
    // Rows that follow each other have the same widths, as far as that can be.
    let line = |cells: [String; 9]| cells.map(|cell| format!("{cell:>9}")).join("  ") + "\n";
    let head = if heads { line(HEADS.map(str::to_owned)) } else { String::new() };
    say((head + &line(row(now))).as_bytes())
}

fn row(now: &Value) -> [String; 9] {
    let number = |key: &str| now[key].as_u64();
    let shown = |key: &str, how: fn(u64) -> String| number(key).map_or_else(|| "-".to_owned(), how);
    let seconds = |ns: u64| format!("{}.{:02}s", ns / 1_000_000_000, ns % 1_000_000_000 / 10_000_000);
    [
        shown("cpu_usage_ns", seconds),
        shown("cpu_throttled_ns", seconds),
        // Without a cgroup it is the sum of what is resident: SOURCE says so.
        number("memory_rss").or_else(|| number("memory_current")).map_or_else(|| "-".to_owned(), size),
        shown("memory_limit", size),
        shown("memory_peak", size),
        shown("pids_current", |count| count.to_string()),
        shown("io_read_bytes", size),
        shown("io_write_bytes", size),
        now["source"].as_str().unwrap_or("-").to_owned(),
    ]
}
