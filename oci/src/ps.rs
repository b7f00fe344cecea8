//! `ps`: the processes of a container.

use std::fs;

use crate::args::Format;
use crate::container::{Container, reason};
use crate::failure::Failure;
use crate::list::aligned;
use crate::place::Place;
use crate::state::{owner, print, say};

/// `ps`, whole.
///
/// # Errors
/// There is no such container; it has no cgroup to know its processes by.
pub(crate) fn ps(place: &Place, id: &str, format: Format) -> Result<(), Failure> {
    let container = Container::find(place, id)?;
    let group = container.group()?.ok_or_else(|| Failure::new("ps needs a cgroup of the container's own"))?;
    let failed = |error| Failure::system("cannot list the processes of the cgroup", reason(&error));
    let mut pids = if group.paths().is_empty() { Vec::new() } else { group.processes().map_err(failed)? };
    pids.sort_unstable();
    match format {
        Format::Json => print(&serde_json::to_string(&pids)),
        Format::Table => {
            let head = ["UID", "PID", "PPID", "CMD"].map(str::to_owned);
            let rows: Vec<[String; 4]> = std::iter::once(head).chain(pids.into_iter().filter_map(row)).collect();
            say(&aligned(&rows))
        }
    }
}

/// `None`: it has ended meanwhile.
fn row(pid: i32) -> Option<[String; 4]> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let word = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next().map(str::to_owned)
    };
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words: Vec<_> = line.split(|byte| *byte == 0).filter(|word| !word.is_empty()).collect();
    let command = match words.is_empty() {
        true => format!("[{}]", word("Name:")?),
        false => words.iter().map(|word| String::from_utf8_lossy(word)).collect::<Vec<_>>().join(" "),
    };
    Some([owner(word("Uid:")?.parse().ok()?), pid.to_string(), word("PPid:")?, command])
}
