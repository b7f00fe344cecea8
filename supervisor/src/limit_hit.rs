//! The evidence for a limit that was reached: plain values.

use serde::{Deserialize, Serialize};

use crate::report::LimitKind;

/// A limit that was reached, with what was counted. Whether it has ended the process says
/// [`Report::cause`](crate::Report::cause).
///
/// ```no_run
/// # async fn f(container: orangery::ContainerHandle) -> Result<(), orangery::Error> {
/// for hit in &container.wait().await?.limits_hit {
///     for it in &hit.counters {
///         println!("{:?}: {} went from {:?} to {:?}, of {:?}", hit.limit, it.name, it.before, it.after, it.bound);
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LimitHit {
    /// Which.
    pub limit: LimitKind,
    /// What says so.
    pub counters: Vec<Counted>,
}

/// A counter before and after, as whoever counts names it.
///
/// | limit | counters |
/// |---|---|
/// | wall | `CLOCK_MONOTONIC ns`: the start and the exit; the bound is when the limit was over |
/// | idle | `CLOCK_MONOTONIC ns`: the last output, and when it was killed |
/// | cpu | `cpu.stat usage_usec` (v2), `cpuacct.usage` in nanoseconds (v1), or what wait4(2) says of the process, in microseconds |
/// | memory | `memory.events oom_kill`, `memory.events oom` and `memory.events.local oom` of groups above (v2); `memory.oom_control oom_kill` and `memory.failcnt` (v1); `memory.peak` |
/// | pids | `pids.events max`: forks that were refused |
/// | output | `bytes` of both streams |
/// | file size, seccomp | the signal that the kernel sends for it |
///
/// ```no_run
/// # fn f(report: orangery::Report) {
/// let kills = report.limits_hit.iter().flat_map(|hit| &hit.counters).find(|it| it.name.ends_with("oom_kill"));
/// # let _ = kills;
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Counted {
    /// Its name.
    pub name: String,
    /// When what it counts began; `None`: not known.
    pub before: Option<u64>,
    /// At the end; `None`: not known.
    pub after: Option<u64>,
    /// The limit, in what the counter counts; `None` where it is not ours or none of a number.
    pub bound: Option<u64>,
}

impl Counted {
    pub(crate) fn new(name: impl Into<String>, before: impl Into<Option<u64>>, after: impl Into<Option<u64>>) -> Self {
        Self { name: name.into(), before: before.into(), after: after.into(), bound: None }
    }

    pub(crate) fn of(self, bound: impl Into<Option<u64>>) -> Self {
        Self { bound: bound.into(), ..self }
    }
}
