//! `state`: what is known of a container, in the specification's words.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use serde::Serialize;

use crate::container::{Container, Status};
use crate::failure::Failure;
use crate::place::Place;

/// As runc prints it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct State<'a> {
    oci_version: &'a str,
    id: &'a str,
    /// 0 for one that has ended.
    pub(crate) pid: i32,
    pub(crate) status: &'static str,
    pub(crate) bundle: &'a Path,
    rootfs: &'a Path,
    pub(crate) created: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
    pub(crate) owner: String,
}

impl<'a> State<'a> {
    /// Of this one, now.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub(crate) fn of(container: &'a Container) -> Result<State<'a>, Failure> {
        let record = &container.record;
        let status = container.status()?;
        let pid = match (&container.init, status) {
            (Some((pid, _)), Status::Creating | Status::Created | Status::Running | Status::Paused) => *pid,
            _ => 0,
        };
        Ok(State {
            oci_version: &record.oci_version,
            id: &record.id,
            pid,
            status: status.name(),
            bundle: &record.bundle,
            rootfs: &record.rootfs,
            created: &record.created,
            annotations: &record.annotations,
            owner: owner(record.owner),
        })
    }
}

/// A user's name, or the number where the host has none for it.
pub(crate) fn owner(uid: u32) -> String {
    let of_line = |line: &str| {
        let mut words = line.split(':');
        let name = words.next()?;
        (words.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    };
    let text = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    text.lines().find_map(of_line).unwrap_or_else(|| uid.to_string())
}

/// `state`, whole.
///
/// # Errors
/// There is no such container.
pub(crate) fn state(place: &Place, id: &str) -> Result<(), Failure> {
    let container = Container::find(place, id)?;
    print(&serde_json::to_string_pretty(&State::of(&container)?))
}

/// Print what was made of something, as it is.
///
/// # Errors
/// Nobody reads it any more.
pub(crate) fn print(text: &serde_json::Result<String>) -> Result<(), Failure> {
    match text {
        Ok(text) => say(&format!("{text}\n")),
        Err(error) => Err(Failure::new(format!("cannot be written as JSON: {error}"))),
    }
}

/// Write to standard output.
///
/// # Errors
/// Nobody reads it any more.
pub(crate) fn say(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| Failure::system("cannot write to standard output", error))
}
