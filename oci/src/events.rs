//! `events`: counters of a container, once or for as long as it runs, and its OOM kills.

use orangery_runtime::cgroup::{Ceiling, Group, Stats};
use rustix::event::Timespec;
use serde_json::{Value, json};

use crate::container::{Container, has_ended};
use crate::failure::Failure;
use crate::place::Place;
use crate::state::say;

/// `events`, whole: one JSON object a line.
///
/// # Errors
/// It does not run, or has no cgroup.
pub(crate) fn events(place: &Place, id: &str, stats: bool, interval: i64) -> Result<(), Failure> {
    let container = Container::find(place, id)?;
    let (_, pidfd) = container.alive()?;
    let group = container.group()?.ok_or_else(|| Failure::new("events need a cgroup of the container's own"))?;
    let mut last = group.stats();
    loop {
        say(&line("stats", id, Some(numbers(&last, &group))))?;
        if stats || has_ended(pidfd, Some(Timespec { tv_sec: interval, tv_nsec: 0 })) {
            return Ok(());
        }
        let now = group.stats();
        for _ in last.oom_kills.unwrap_or(0)..now.oom_kills.unwrap_or(0) {
            say(&line("oom", id, None))?;
        }
        last = now;
    }
}

fn line(kind: &str, id: &str, data: Option<Value>) -> String {
    let mut event = json!({ "type": kind, "id": id });
    if let Some(data) = data {
        event["data"] = data;
    }
    format!("{event}\n")
}

/// All that the kernel counts of its memory, by the kernel's own names: some callers look for those alone.
fn raw(group: &Group) -> Value {
    let mut files = group.paths().into_iter().map(|dir| std::fs::read_to_string(dir.join("memory.stat")));
    let text = files.find_map(Result::ok).unwrap_or_default();
    let entry = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_owned(), Value::from(value.parse::<u64>().ok()?)))
    };
    Value::Object(text.lines().filter_map(entry).collect())
}

/// In runc's words; what is not known is left out.
fn numbers(stats: &Stats, group: &Group) -> Value {
    let ceiling = |limit: Option<Ceiling>| match limit {
        Some(Ceiling::At(number)) => Some(number),
        _ => None,
    };
    let known = |entries: &[(&str, Option<u64>)]| -> Value {
        let entries = entries.iter().filter_map(|(key, value)| Some(((*key).to_owned(), (*value)?.into())));
        Value::Object(entries.collect())
    };
    json!({
        "cpu": {
            "usage": known(&[
                ("total", stats.cpu_usage_ns),
                ("user", stats.cpu_user_ns),
                ("kernel", stats.cpu_system_ns),
            ]),
            "throttling": known(&[
                ("throttledPeriods", stats.cpu_throttled_periods),
                ("throttledTime", stats.cpu_throttled_ns),
            ]),
        },
        "memory": {
            "usage": known(&[
                ("usage", stats.memory_current),
                ("max", stats.memory_peak),
                ("limit", ceiling(stats.memory_limit)),
            ]),
            "swap": known(&[("usage", stats.swap_current)]),
            "raw": raw(group),
        },
        "pids": known(&[("current", stats.pids_current), ("limit", ceiling(stats.pids_limit))]),
        "blkio": known(&[("readBytes", stats.io_read_bytes), ("writeBytes", stats.io_write_bytes)]),
    })
}
