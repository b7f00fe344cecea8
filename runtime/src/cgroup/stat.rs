//! What a container has used. Each number is read on its own and is `None` where this mode or kernel does not have it:
//! a reading never fails as a whole, and unknown is never zero.

use super::detect::Controller;
use super::dir::Dir;
use super::group::{Group, Home};
use super::parse::{Ceiling, blkio_sum, ceiling, io_sum, keyed, nanoseconds, number};
use super::v1;
use serde::Serialize;

/// Who has counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Source {
    /// The container's cgroup.
    Cgroup,
    /// Its processes were looked at one by one, in /proc. Processor time and what was read and written are then of those that
    /// live and of the children that they have waited for: what a further process has used that has ended is missing.
    Proc,
}

/// One reading. `None` is "unknown here".
///
/// ```
/// use orangery_runtime::cgroup::Stats;
/// assert_eq!(Stats::default().cpu_usage_ns, None, "unknown is never zero");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Who has counted; `None`: nobody, and nothing is known.
    pub source: Option<Source>,
    /// CPU time, nanoseconds: `cpu.stat` of v2 (also without a controller, 4.15), v1 `cpuacct.usage`.
    pub cpu_usage_ns: Option<u64>,
    /// Of it in user mode; v1: `cpuacct.usage_user` (4.9).
    pub cpu_user_ns: Option<u64>,
    /// Of it in the kernel.
    pub cpu_system_ns: Option<u64>,
    /// Periods in which the quota ran out. Unknown unless a CPU limit was asked (v1) or the controller is on (v2).
    pub cpu_throttled_periods: Option<u64>,
    /// Time spent waiting for the next period.
    pub cpu_throttled_ns: Option<u64>,
    /// Memory in use, page cache included.
    pub memory_current: Option<u64>,
    /// Memory of its processes, without a cgroup: their resident sets, so that what several share counts in each of them, and
    /// files in memory do not unless they are mapped.
    pub memory_rss: Option<u64>,
    /// The most it was; `memory.peak` on v2 (5.19).
    pub memory_peak: Option<u64>,
    /// Its own limit; one above may be lower.
    pub memory_limit: Option<Ceiling>,
    /// Swap in use; on v1 the difference of two files read one after the other.
    pub swap_current: Option<u64>,
    /// Processes and threads. Unknown on v1 unless a limit was asked.
    pub pids_current: Option<u64>,
    /// Processes alone, without a cgroup.
    pub processes: Option<u64>,
    /// The most there were: `pids.peak` (6.1).
    pub pids_peak: Option<u64>,
    /// Its own limit.
    pub pids_limit: Option<Ceiling>,
    /// Forks refused because of the limit: `max` of `pids.events`.
    pub pids_refused: Option<u64>,
    /// Processes that the OOM killer took, nested groups included.
    pub oom_kills: Option<u64>,
    /// Bytes read from block devices: `io.stat` of v2. On v1 (`blkio.throttle.io_service_bytes`) unknown unless a limit of a
    /// device was asked, and then of devices that some limit is set on.
    pub io_read_bytes: Option<u64>,
    /// Bytes written to block devices.
    pub io_write_bytes: Option<u64>,
    /// Reads from block devices. Unknown without a cgroup.
    pub io_read_ops: Option<u64>,
    /// Writes to block devices.
    pub io_write_ops: Option<u64>,
}

impl Stats {
    /// As a cgroup has it, if there is anything.
    fn counted(self) -> Self {
        let source = (self != Self::default()).then_some(Source::Cgroup);
        Self { source, ..self }
    }
}

impl Group {
    /// Reads everything there is. Read it after [`wait_empty`](Group::wait_empty) and before [`remove`](Group::remove)
    /// for the final report.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        self.cpu(&mut stats);
        match self.home(Controller::Memory).ok().flatten() {
            Some(Home::V1(dir)) => memory_v1(&dir, &mut stats),
            Some(Home::V2(dir)) => memory_v2(&dir, &mut stats),
            None => {}
        }
        if let Some(home) = self.home(Controller::Pids).ok().flatten() {
            pids(home.dir(), &mut stats);
        }
        match self.home(Controller::Io).ok().flatten() {
            Some(Home::V1(dir)) => io_v1(&dir, &mut stats),
            Some(Home::V2(dir)) => io_v2(&dir, &mut stats),
            None => {}
        }
        stats.counted()
    }

    /// What the final report tells, in as few reads as possible: processor time, the memory peak, OOM kills, refused
    /// forks. The rest of [`Group::stats`] means nothing any more when all processes are gone.
    pub fn final_stats(&self) -> Stats {
        let mut stats = Stats::default();
        if let Some(text) = self.v2_dir().ok().flatten().and_then(|dir| dir.read("cpu.stat").ok()) {
            cpu_v2(&text, &mut stats);
        } else if let Some(Home::V1(dir)) = self.home(Controller::Cpuacct).ok().flatten() {
            stats.cpu_usage_ns = count(&dir, "cpuacct.usage");
        }
        match self.home(Controller::Memory).ok().flatten() {
            Some(Home::V1(dir)) => {
                stats.memory_peak = count(&dir, "memory.max_usage_in_bytes");
                stats.oom_kills = kills_v1(&dir);
            }
            Some(Home::V2(dir)) => {
                stats.memory_peak = count(&dir, "memory.peak");
                stats.oom_kills = dir.read("memory.events").ok().and_then(|t| keyed(&t, "oom_kill"));
            }
            None => {}
        }
        if let Some(home) = self.home(Controller::Pids).ok().flatten() {
            stats.pids_peak = count(home.dir(), "pids.peak");
            stats.pids_refused = home.dir().read("pids.events").ok().and_then(|t| keyed(&t, "max"));
        }
        stats.counted()
    }

    fn cpu(&self, stats: &mut Stats) {
        if let Some(text) = self.v2_dir().ok().flatten().and_then(|dir| dir.read("cpu.stat").ok()) {
            cpu_v2(&text, stats);
        } else if let Some(Home::V1(dir)) = self.home(Controller::Cpuacct).ok().flatten() {
            stats.cpu_usage_ns = count(&dir, "cpuacct.usage");
            stats.cpu_user_ns = count(&dir, "cpuacct.usage_user");
            stats.cpu_system_ns = count(&dir, "cpuacct.usage_sys");
        }
        if let Some(Home::V1(dir)) = self.home(Controller::Cpu).ok().flatten() {
            let text = dir.read("cpu.stat").unwrap_or_default();
            stats.cpu_throttled_periods = keyed(&text, "nr_throttled");
            stats.cpu_throttled_ns = keyed(&text, "throttled_time");
        }
    }
}

fn count(dir: &Dir, file: &str) -> Option<u64> {
    number(&dir.read(file).ok()?)
}

fn cpu_v2(text: &str, stats: &mut Stats) {
    let time = |key| keyed(text, key).and_then(nanoseconds);
    stats.cpu_usage_ns = time("usage_usec");
    stats.cpu_user_ns = time("user_usec");
    stats.cpu_system_ns = time("system_usec");
    stats.cpu_throttled_periods = keyed(text, "nr_throttled");
    stats.cpu_throttled_ns = time("throttled_usec");
}

fn memory_v1(dir: &Dir, stats: &mut Stats) {
    let limit = |n| {
        if n >= v1::UNLIMITED { Ceiling::Unlimited } else { Ceiling::At(n) }
    };
    stats.memory_current = count(dir, "memory.usage_in_bytes");
    stats.memory_peak = count(dir, "memory.max_usage_in_bytes");
    stats.memory_limit = count(dir, "memory.limit_in_bytes").map(limit);
    let total = count(dir, "memory.memsw.usage_in_bytes");
    stats.swap_current = total.zip(stats.memory_current).map(|(total, memory)| total.saturating_sub(memory));
    stats.oom_kills = kills_v1(dir);
}

/// v1 counts a group's own victims only: those of nested groups are added.
pub(super) fn kills_v1(dir: &Dir) -> Option<u64> {
    let mut kills = Some(0u64);
    let read = dir.visit(&mut |group| {
        let here = group.read("memory.oom_control").ok().and_then(|t| keyed(&t, "oom_kill"));
        kills = kills.and_then(|sum| sum.checked_add(here?));
        Ok(())
    });
    read.ok().and(kills)
}

fn memory_v2(dir: &Dir, stats: &mut Stats) {
    stats.memory_current = count(dir, "memory.current");
    stats.memory_peak = count(dir, "memory.peak");
    stats.memory_limit = dir.read("memory.max").ok().and_then(|t| ceiling(&t));
    stats.swap_current = count(dir, "memory.swap.current");
    stats.oom_kills = dir.read("memory.events").ok().and_then(|t| keyed(&t, "oom_kill"));
}

fn io_v2(dir: &Dir, stats: &mut Stats) {
    let Ok(text) = dir.read("io.stat") else { return };
    let sum = |key| io_sum(&text, key);
    (stats.io_read_bytes, stats.io_write_bytes) = (sum("rbytes"), sum("wbytes"));
    (stats.io_read_ops, stats.io_write_ops) = (sum("rios"), sum("wios"));
}

/// Groups below it included.
fn io_v1(dir: &Dir, stats: &mut Stats) {
    let read = |file| {
        let text = dir.read(file).ok();
        let sum = |word| text.as_deref().and_then(|text| blkio_sum(text, word));
        (sum("Read"), sum("Write"))
    };
    (stats.io_read_bytes, stats.io_write_bytes) = read("blkio.throttle.io_service_bytes_recursive");
    (stats.io_read_ops, stats.io_write_ops) = read("blkio.throttle.io_serviced_recursive");
}

/// The same files in both versions.
fn pids(dir: &Dir, stats: &mut Stats) {
    stats.pids_current = count(dir, "pids.current");
    stats.pids_peak = count(dir, "pids.peak");
    stats.pids_limit = dir.read("pids.max").ok().and_then(|t| ceiling(&t));
    stats.pids_refused = dir.read("pids.events").ok().and_then(|t| keyed(&t, "max"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_stat_of_v2() {
        let mut stats = Stats::default();
        let text = "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\nnr_periods 4\nnr_throttled 3\nthrottled_usec 7\n";
        cpu_v2(text, &mut stats);
        assert_eq!((stats.cpu_usage_ns, stats.cpu_user_ns), (Some(1_500_000), Some(1_000_000)));
        assert_eq!((stats.cpu_throttled_periods, stats.cpu_throttled_ns), (Some(3), Some(7000)));
        cpu_v2("usage_usec 18446744073709551615\n", &mut stats);
        assert_eq!((stats.cpu_usage_ns, stats.cpu_throttled_ns), (None, None));
    }

    #[test]
    fn unknown_is_null_and_unlimited_is_max() {
        let stats =
            Stats { pids_limit: Some(Ceiling::Unlimited), memory_limit: Some(Ceiling::At(7)), ..Stats::default() };
        let value = serde_json::to_value(stats).unwrap();
        assert_eq!((&value["pids_limit"], &value["memory_limit"]), (&"max".into(), &7.into()));
        assert!(value["cpu_usage_ns"].is_null());
    }
}
