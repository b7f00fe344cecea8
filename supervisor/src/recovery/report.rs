//! What a supervisor has found at its start.

use std::path::PathBuf;
use std::time::Instant;

use serde::{Deserialize, Serialize};

/// What a durable supervisor has found of the one before it: [`Supervisor::recovery`](crate::Supervisor::recovery).
///
/// ```no_run
/// # fn f(supervisor: orangery::Supervisor) {
/// if let Some(found) = supervisor.recovery() {
///     println!("{} go on, {} records are damaged", found.adopted.len(), found.set_aside.len());
/// }
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// Containers that are ours again: those that run, and those that have ended while nobody was there, whose reports follow.
    pub adopted: Vec<String>,
    /// Containers whose reports were there already.
    pub ended: Vec<String>,
    /// Containers of which nothing was left: how they ended is not known, and their reports say so.
    pub lost: Vec<String>,
    /// Services that go on, members of groups among them.
    pub services: Vec<String>,
    /// Groups that go on.
    #[serde(default)]
    pub groups: Vec<String>,
    /// What could not be read, and where it lies now.
    pub set_aside: Vec<SetAside>,
    /// What nobody had written down, or could be read no more, was killed and removed: so many processes.
    pub killed: usize,
    /// How long all of it took.
    pub took: RecoveryTimes,
}

/// Where the time of a start went, in microseconds: one step after the other.
///
/// ```no_run
/// # fn f(found: orangery::RecoveryReport) {
/// println!("{} us a container", found.took.all_us() / found.adopted.len().max(1) as u64);
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RecoveryTimes {
    /// The keeper has told what it holds, or another one was started.
    pub keeper_us: u64,
    /// Records were read.
    pub records_us: u64,
    /// Containers and processes were claimed.
    pub claims_us: u64,
    /// What nobody had written down was killed and removed, and what is over was accounted for.
    pub leftovers_us: u64,
    /// Logs were opened, and each container has its actors again.
    pub lines_us: u64,
}

impl RecoveryTimes {
    /// All of it.
    #[must_use]
    pub fn all_us(&self) -> u64 {
        self.keeper_us + self.records_us + self.claims_us + self.leftovers_us + self.lines_us
    }
}

/// A clock that is read at the end of each step.
#[derive(Debug)]
pub(crate) struct Lap(Instant);

impl Lap {
    pub(crate) fn begin() -> Self {
        Self(Instant::now())
    }

    /// Microseconds since it was read last.
    pub(crate) fn us(&mut self) -> u64 {
        let now = Instant::now();
        let since = now.duration_since(std::mem::replace(&mut self.0, now));
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }
}

/// A record that nobody understands.
///
/// ```no_run
/// # fn f(found: orangery::RecoveryReport) {
/// for orangery::SetAside { path, why, .. } in &found.set_aside {
///     println!("{}: {why}", path.display());
/// }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SetAside {
    /// Where it lies now, as it was; what it was called is part of its name.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
}
