//! `update`: other limits for a container that lives.

use std::io::Read as _;

use orangery_runtime::spec::Limits;
use serde_json::{Map, Value, json};

use crate::args::Update;
use crate::container::{Container, reason};
use crate::failure::Failure;
use crate::pieces;
use crate::place::Place;

/// `update`, whole: all or nothing.
///
/// # Errors
/// What cannot be limited, or not so.
pub(crate) fn update(place: &Place, what: &Update) -> Result<(), Failure> {
    let container = Container::hold(place, &what.id)?;
    container.alive()?;
    let limits = wanted(what)?;
    let group = container.group()?.ok_or_else(|| Failure::new("limits need a cgroup of the container's own"))?;
    if limits.is_empty() {
        return Err(Failure::new("nothing is to be changed"));
    }
    group.update(&limits).map_err(|error| Failure::system("cannot change the limits", reason(&error)))
}

/// `--resources`, or the others put together as if they had come by it.
fn wanted(what: &Update) -> Result<Limits, Failure> {
    if let Some(path) = &what.resources {
        let failed = |error| Failure::system(format!("--resources {}", path.display()), error);
        let mut text = Vec::new();
        match path.as_os_str() == "-" {
            true => drop(std::io::stdin().lock().read_to_end(&mut text).map_err(failed)?),
            false => text = std::fs::read(path).map_err(failed)?,
        }
        return pieces::limits(&text);
    }
    let group = |entries: &[(&str, Option<Value>)]| {
        let entries = entries.iter().filter_map(|(key, value)| Some(((*key).to_owned(), value.clone()?)));
        Value::Object(entries.collect::<Map<_, _>>())
    };
    let number = |value: Option<u64>| value.map(Value::from);
    let signed = |value: Option<i64>| value.map(Value::from);
    let resources = json!({
        "memory": group(&[("limit", signed(what.memory)), ("swap", signed(what.memory_swap))]),
        "cpu": group(&[
            ("quota", signed(what.cpu_quota)),
            ("period", number(what.cpu_period)),
            ("shares", number(what.cpu_share)),
            ("cpus", what.cpuset_cpus.clone().map(Value::from)),
            ("mems", what.cpuset_mems.clone().map(Value::from)),
        ]),
    });
    let mut resources = resources;
    if let Some(limit) = what.pids_limit {
        resources["pids"] = json!({ "limit": limit });
    }
    pieces::limits(resources.to_string().as_bytes())
}
