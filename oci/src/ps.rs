//! `ps`: the processes of a container, by ps(1) where it is there, or by ourselves.

use std::ffi::OsString;
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
/// There is no such container; it has neither a cgroup nor a pid namespace to know its processes by; ps(1) is not there, or fails.
pub(crate) fn ps(place: &Place, id: &str, format: Format, options: &[OsString]) -> Result<(), Failure> {
    let container = Container::find(place, id)?;
    let failed = |error| Failure::system("cannot list the processes of the cgroup", reason(&error));
    let mut pids = match (container.group()?, &container.init) {
        (Some(group), _) if !group.paths().is_empty() => group.processes().map_err(failed)?,
        (Some(_), _) | (None, None) => Vec::new(),
        (None, Some(_)) => {
            let members = container.members()?.ok_or_else(|| Container::no_group("ps without a pid namespace"))?;
            members.into_iter().map(|(pid, _)| pid).collect()
        }
    };
    pids.sort_unstable();
    if format == Format::Json {
        return print(&serde_json::to_string(&pids));
    }
    // A string without options is what somebody has written who has none.
    let mut options: Vec<OsString> = options.iter().filter(|option| !option.is_empty()).cloned().collect();
    let asked = !options.is_empty();
    if !asked {
        options.push("-ef".into());
    }
    match by_program(&options) {
        Ok(said) => say(&lines_of(&said, &pids)?),
        Err(error) if !asked && error.kind() == std::io::ErrorKind::NotFound => say(&own_table(pids)),
        Err(error) => Err(Failure::system("cannot list processes by ps(1)", error)),
    }
}

/// What ps(1) says of everybody whom these options are about.
#[expect(clippy::disallowed_methods, reason = "the caller's own ps, beside no container and for its terminal")]
fn by_program(options: &[OsString]) -> std::io::Result<String> {
    let output = std::process::Command::new("ps").args(options).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let told = String::from_utf8_lossy(&output.stderr);
    Err(std::io::Error::other(format!("{}: {}", output.status, told.trim())))
}

/// The head, and the lines of these.
///
/// # Errors
/// They do not say whose they are.
fn lines_of(said: &str, pids: &[i32]) -> Result<String, Failure> {
    let head = said.lines().next().unwrap_or_default();
    let column = head.split_whitespace().position(|word| word == "PID");
    let column = column.ok_or_else(|| Failure::new("ps(1) prints no column PID with these options"))?;
    let theirs = |line: &&str| {
        let pid = line.split_whitespace().nth(column).and_then(|word| word.parse().ok());
        pid.is_some_and(|pid| pids.binary_search(&pid).is_ok())
    };
    let lines = std::iter::once(head).chain(said.lines().skip(1).filter(theirs));
    Ok(lines.map(|line| format!("{line}\n")).collect())
}

fn own_table(pids: Vec<i32>) -> String {
    let head = ["UID", "PID", "PPID", "CMD"].map(str::to_owned);
    let rows: Vec<[String; 4]> = std::iter::once(head).chain(pids.into_iter().filter_map(row)).collect();
    aligned(&rows)
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

#[cfg(test)]
mod tests {
    use super::lines_of;

    #[test]
    fn lines_are_told_by_their_column() {
        let said = "  PID TTY      TIME CMD\n    7 ?    00:00 a 8\n   70 ?    00:00 b\n    8 ?    00:00 c\n";
        let of = |pids: &[i32]| lines_of(said, pids).unwrap().lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(of(&[7]), ["    7 ?    00:00 a 8"]);
        assert_eq!(of(&[7, 8]).len(), 2);
        assert!(of(&[]).is_empty() && lines_of("TTY CMD\n? x\n", &[7]).is_err() && lines_of("", &[7]).is_err());
    }
}
