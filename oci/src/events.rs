//! `events`: counters of a container, once or for as long as it runs, and its OOM kills.

use std::time::Duration;

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
pub(crate) fn events(place: &Place, id: &str, stats: bool, interval: Duration) -> Result<(), Failure> {
    let container = Container::find(place, id)?;
    let (_, pidfd) = container.alive()?;
    let group = container.group()?.ok_or_else(|| Container::no_group("events"))?;
    let interval = Timespec {
        tv_sec: i64::try_from(interval.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(interval.subsec_nanos()),
    };
    let mut last = group.stats();
    loop {
        say(&line("stats", id, Some(numbers(&last, &group))))?;
        if stats {
            return Ok(());
        }
        let ended = has_ended(pidfd, Some(interval));
        // Also of what has ended it.
        let now = group.stats();
        for _ in last.oom_kills.unwrap_or(0)..now.oom_kills.unwrap_or(0) {
            say(&line("oom", id, None))?;
        }
        if ended {
            return Ok(());
        }
        last = now;
    }
}

/// In runc's order: there are callers that look how a line begins.
fn line(kind: &str, id: &str, data: Option<Value>) -> String {
    let data = data.map(|data| format!(",\"data\":{data}")).unwrap_or_default();
    format!("{{\"type\":{},\"id\":{}{data}}}\n", json!(kind), json!(id))
}

/// How long its processes have waited for this, where the kernel counts that: `some` and `full`, in percent and microseconds.
fn waited(group: &Group, what: &str) -> Option<Value> {
    let mut files = group.paths().into_iter().map(|dir| std::fs::read_to_string(dir.join(format!("{what}.pressure"))));
    let text = files.find_map(Result::ok)?;
    let number = |word: &str| {
        let (key, number) = word.split_once('=')?;
        let whole = number.parse::<u64>().map(Value::from);
        Some((key.to_owned(), whole.or_else(|_| number.parse::<f64>().map(Value::from)).ok()?))
    };
    let entry = |line: &str| {
        let (kind, numbers) = line.split_once(' ')?;
        Some((kind.to_owned(), Value::Object(numbers.split(' ').filter_map(number).collect())))
    };
    Some(Value::Object(text.lines().filter_map(entry).collect()))
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
    let mut all = json!({
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
    });
    for (of, file) in [("cpu", "cpu"), ("memory", "memory"), ("blkio", "io")] {
        if let Some(waited) = waited(group, file) {
            all[of]["psi"] = waited;
        }
    }
    all
}
