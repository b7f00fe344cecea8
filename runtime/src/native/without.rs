//! As on an older kernel: for tests of what takes the place of a feature that is missing there. The table of
//! `docs/where-it-runs.md` says what that is; nothing of it is asked by version.

/// Features of the kernel that are not used though it has them. Default: none.
///
/// ```
/// use orangery_runtime::native::{Options, Without};
/// let mut options = Options::default();
/// options.without.cgroup_kill = true;
/// assert!(!options.without.pidfs && Without::all().pidfs);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Without {
    /// The inode of a pidfd (6.9): a process is known by its number and the time of its start, in the same boot.
    pub pidfs: bool,
    /// What a pidfd tells of an exit that somebody else has waited for (`PIDFD_GET_INFO`, 6.15): it is
    /// [`Lost`](crate::ExitStatus::Lost).
    pub exit_info: bool,
    /// `cgroup.kill` (5.14): a group is frozen, each process in it killed, and then thawed. What keeps its pids in a namespace of
    /// others is refused.
    pub cgroup_kill: bool,
}

impl Without {
    /// None of them is used.
    #[must_use]
    pub fn all() -> Self {
        Self { pidfs: true, exit_info: true, cgroup_kill: true }
    }
}
