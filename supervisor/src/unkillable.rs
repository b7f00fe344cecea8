//! What is said of a container or process that outlives its kill: plain values.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What was still there when we gave up waiting for the end of what was killed.
///
/// SIGKILL ends everything but a process in a wait of the kernel's own: for a disk or a network file system that does not
/// answer, or because of a bug of the kernel. After [`kill_patience`](crate::SupervisorBuilder::kill_patience) the report is
/// made with what is known (an exit that has not come is [`ExitStatus::Lost`](crate::ExitStatus::Lost)), who waits for a stop or
/// a removal is told [`ErrorKind::Unkillable`](crate::ErrorKind::Unkillable), and the container is
/// [`State::Unkillable`](crate::State::Unkillable): it keeps its name and its place, the kill and the removal are tried again
/// every ten seconds, and everything else goes on.
///
/// ```no_run
/// # async fn f(container: orangery::ContainerHandle) -> Result<(), orangery::Error> {
/// container.kill()?;
/// if let Some(left) = &container.wait().await?.unkillable {
///     println!("{left}");
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Unkillable {
    /// How long it was waited for, in milliseconds.
    pub after_ms: u64,
    /// Processes that were still there; at most 64 are told of.
    pub processes: Vec<StuckProcess>,
    /// Directories of its cgroup that are left.
    pub cgroups: Vec<String>,
}

/// A process that was still there.
///
/// ```no_run
/// # fn f(left: orangery::Unkillable) {
/// let stuck = left.processes.iter().filter(|process: &&orangery::StuckProcess| process.state == 'D');
/// # let _ = stuck;
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StuckProcess {
    /// Outside.
    pub pid: i32,
    /// As in /proc: `D` is a wait that no signal ends. The others of a container may only wait for such a one.
    pub state: char,
    /// Its command name.
    pub name: String,
}

impl fmt::Display for Unkillable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "killed, and not gone after {} ms:", self.after_ms)?;
        for process in &self.processes {
            write!(f, " process {} ({}, {})", process.pid, process.name.escape_debug(), process.state)?;
        }
        self.cgroups.iter().try_for_each(|path| write!(f, " cgroup {path}"))
    }
}

impl Unkillable {
    pub(crate) fn new(after: std::time::Duration, held: orangery_runtime::Held) -> Self {
        let process =
            |held: orangery_runtime::HeldProcess| StuckProcess { pid: held.pid, state: held.state, name: held.name };
        Self {
            after_ms: u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
            processes: held.processes.into_iter().map(process).collect(),
            cgroups: held.cgroups.into_iter().map(|path| path.to_string_lossy().into_owned()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_named() {
        let process = StuckProcess { pid: 7, state: 'D', name: "dd\n".into() };
        let left = Unkillable { after_ms: 30_000, processes: vec![process], cgroups: vec!["/a".into()] };
        assert_eq!(left.to_string(), "killed, and not gone after 30000 ms: process 7 (dd\\n, D) cgroup /a");
        let text = serde_json::to_string(&left).unwrap();
        assert_eq!(serde_json::from_str::<Unkillable>(&text).unwrap(), left);
    }
}
