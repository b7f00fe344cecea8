//! What a supervisor has found at its start.

use std::path::PathBuf;

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
    /// Services that go on.
    pub services: Vec<String>,
    /// What could not be read, and where it lies now.
    pub set_aside: Vec<SetAside>,
    /// What nobody had written down, or could be read no more, was killed and removed: so many processes.
    pub killed: usize,
    /// How long all of it took, in microseconds.
    pub took_us: u64,
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
