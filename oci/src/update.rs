//! `update`: other limits for a container that lives.

use std::io::Read as _;
use std::path::PathBuf;

use orangery_runtime::cgroup::Group;
use orangery_runtime::resctrl;
use orangery_runtime::spec::{Limits, oci};
use serde_json::{Map, Value, json};

use crate::args::Update;
use crate::container::{Container, reason};
use crate::failure::Failure;
use crate::pieces;
use crate::place::Place;
use crate::record::Record;

/// `update`, whole: all or nothing.
///
/// # Errors
/// What cannot be limited, or not so.
pub(crate) fn update(place: &Place, what: &Update) -> Result<(), Failure> {
    // Read first: nobody else waits for who writes it.
    let mut resources = wanted(what)?;
    let container = Container::hold(place, &what.id)?;
    container.alive()?;
    let group = container.group()?.ok_or_else(|| Container::no_group("a limit"))?;
    complete(&mut resources, &group.paths());
    let limits = pieces::limits(&resources)?;
    let shares = shares(what, &container.record)?;
    let changed = limit(&container, &group, &limits);
    if let (Err(_), Some(before)) = (&changed, shares) {
        // They were written a moment ago.
        let _ = resctrl::put_back(&container.record.spec.id, &before);
    }
    changed
}

/// Its part of caches and memory bandwidth, where that is to be another; what it was before.
fn shares(what: &Update, record: &Record) -> Result<Option<String>, Failure> {
    let asked = [("--l3-cache-schema", &what.l3_cache_schema), ("--mem-bw-schema", &what.mem_bw_schema)];
    let asked = asked.map(|(option, text)| (option, text.as_deref().unwrap_or_default()));
    let lines: Vec<_> = asked.iter().flat_map(|(_, text)| text.lines()).map(str::to_owned).collect();
    if lines.is_empty() {
        return Ok(None);
    }
    let options: Vec<_> = asked.iter().filter(|(_, text)| !text.is_empty()).map(|(option, _)| *option).collect();
    let changed = resctrl::change(&record.spec.id, record.spec.intel_rdt.as_ref(), &lines);
    changed.map(Some).map_err(|error| Failure::new(format!("{}: {}", options.join(", "), Failure::from(error))))
}

fn limit(container: &Container, group: &Group, limits: &Limits) -> Result<(), Failure> {
    // As with runc: callers pass on what they were told, which may be nothing.
    if limits.is_empty() {
        return Ok(());
    }
    let failed = |error| Failure::system("cannot change the limits", reason(&error));
    let Some(owner) = &container.record.systemd else { return group.update(limits).map_err(failed) };
    let before = group.before(limits).map_err(failed)?;
    group.update(limits).map_err(failed)?;
    if let Err(refused) = owner.knows(limits) {
        return Err(match before.put_back() {
            Ok(()) => refused,
            Err(lost) => Failure::new(format!("{refused}; and could not put back {lost}")),
        });
    }
    // systemd has written what it keeps of them, rounded.
    group.update(limits).map_err(failed)
}

/// `--resources`, or the others put together as if they had come by it.
fn wanted(what: &Update) -> Result<Value, Failure> {
    if let Some(path) = &what.resources {
        let failed = |error| Failure::system(format!("--resources {}", path.display()), error);
        let mut text = Vec::new();
        match path.as_os_str() == "-" {
            true => drop(std::io::stdin().lock().read_to_end(&mut text).map_err(failed)?),
            false => text = std::fs::read(path).map_err(failed)?,
        }
        let mut read = serde_json::from_slice(&text).map_err(|error| Failure::new(format!("resources: {error}")))?;
        oci::keys_as_specified(&mut read)?;
        return Ok(read);
    }
    let group = |entries: &[(&str, Option<Value>)]| {
        let entries = entries.iter().filter_map(|(key, value)| Some(((*key).to_owned(), value.clone()?)));
        Value::Object(entries.collect::<Map<_, _>>())
    };
    let number = |value: Option<u64>| value.map(Value::from);
    let signed = |value: Option<i64>| value.map(Value::from);
    let resources = json!({
        "memory": group(&[("limit", signed(what.memory)), ("swap", signed(what.memory_swap)),
            ("reservation", signed(what.memory_reservation))]),
        "cpu": group(&[
            ("quota", signed(what.cpu_quota)),
            ("period", number(what.cpu_period)),
            ("burst", number(what.cpu_burst)),
            ("idle", signed(what.cpu_idle)),
            ("realtimeRuntime", signed(what.cpu_rt_runtime)),
            ("realtimePeriod", number(what.cpu_rt_period)),
            ("shares", number(what.cpu_share)),
            ("cpus", what.cpuset_cpus.clone().map(Value::from)),
            ("mems", what.cpuset_mems.clone().map(Value::from)),
        ]),
    });
    let mut resources = resources;
    if let Some(weight) = what.blkio_weight {
        resources["blockIO"] = json!({ "weight": weight });
    }
    if let Some(limit) = what.pids_limit {
        resources["pids"] = json!({ "limit": limit });
    }
    Ok(resources)
}

/// Of what goes together, and of which one is asked for, the other one is what it is now.
fn complete(resources: &mut Value, groups: &[PathBuf]) {
    // Files of version 1 and of version 2, and which of their words.
    let pairs = [
        ("cpu", "period", "quota", ("cpu.cfs_quota_us", "cpu.max", 0)),
        ("cpu", "quota", "period", ("cpu.cfs_period_us", "cpu.max", 1)),
        ("memory", "swap", "limit", ("memory.limit_in_bytes", "memory.max", 0)),
    ];
    for (what, asked, other, (one, two, word)) in pairs {
        let Some(part) = resources.get_mut(what).and_then(Value::as_object_mut) else { continue };
        let given = |key: &str| part.get(key).is_some_and(|value| !value.is_null() && value != &json!(0));
        if given(asked)
            && !given(other)
            && let Some(now) = number(groups, one, 0).or_else(|| number(groups, two, word))
        {
            part.insert(other.to_owned(), now.into());
        }
    }
}

/// A word of a file of its groups; `max` is -1, as others write it.
fn number(groups: &[PathBuf], file: &str, word: usize) -> Option<i64> {
    let text = groups.iter().find_map(|group| std::fs::read_to_string(group.join(file)).ok())?;
    let word = text.split_whitespace().nth(word)?;
    if word == "max" { Some(-1) } else { word.parse().ok() }
}
