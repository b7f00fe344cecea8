//! The limits that a container may ask for, in cgroup v2's terms, and their validation. Pure: no files, no modes.

use super::io::{IoMax, IoWeight};
use super::other::Other;
use serde::{Deserialize, Serialize};

/// 512 KiB: below it not even the first process of a container (its stacks, page tables and descriptor table are
/// charged too) can be made; a smaller number is nearly always a forgotten unit.
pub const MEMORY_MIN: u64 = 512 * 1024;
/// The kernel's `PID_MAX_LIMIT` on 64 bit; `pids.max` refuses more.
pub const PIDS_MAX: u64 = 4 * 1024 * 1024;
/// The kernel's `MAX_BW`, in microseconds.
pub(super) const QUOTA_MAX: u64 = (1 << 44) - 1;
/// The kernel counts memory in pages up to `LONG_MAX`; more is "no limit" there.
const MEMORY_MAX: u64 = i64::MAX as u64;
/// Most that `CONFIG_NR_CPUS` and `CONFIG_NODES_SHIFT` allow.
const CPUS: u32 = 8192;
const NODES: u32 = 1024;

/// What one container may use. `None` is "not asked": at creation the kernel's default, in an update "leave it".
///
/// ```
/// use orangery_runtime::cgroup::Limits;
/// let limits = Limits { memory: Some(64 << 20), pids: Some(32), ..Limits::default() };
/// assert!(limits.validate().is_empty());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory in bytes: `memory.max` (v2, 4.5), `memory.limit_in_bytes` (v1). Rounded down to a page by the kernel.
    pub memory: Option<u64>,
    /// Swap in bytes *in addition* to memory: `memory.swap.max` (v2, 4.5). v1 only knows the sum
    /// (`memory.memsw.limit_in_bytes`), so there it needs `memory` too.
    pub memory_swap: Option<u64>,
    /// CPU time per period: `cpu.max` (v2, 4.15), `cpu.cfs_quota_us` and `cpu.cfs_period_us` (v1).
    pub cpu_quota: Option<CpuQuota>,
    /// Share under contention, 1 to 10000, 100 is everybody's: `cpu.weight` (v2, 4.15); v1 `cpu.shares` = weight * 1024 / 100.
    pub cpu_weight: Option<u64>,
    /// `cpu.shares` as they stand, where `cpu_weight` was made of them: for v1, in place of what that comes to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_shares: Option<u64>,
    /// CPUs, as `0-3,6`: `cpuset.cpus` (v2, 5.0).
    pub cpuset_cpus: Option<String>,
    /// Memory nodes, as `0-1`: `cpuset.mems` (v2, 5.0).
    pub cpuset_mems: Option<String>,
    /// Processes and threads: `pids.max` (4.3).
    pub pids: Option<u64>,
    /// Share of each disk under contention, 1 to 10000, 100 is everybody's: `io.weight` and `io.bfq.weight` (v2),
    /// `blkio.bfq.weight` (v1). Only disks under the scheduler bfq, or under io.cost of v2, heed it.
    pub io_weight: Option<u64>,
    /// The same on single devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub io_device_weight: Vec<IoWeight>,
    /// Most that goes to and from single devices, a second. In an update what is not named stays.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub io_max: Vec<IoMax>,
    /// Settings that have no field here, each by a name of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other: Vec<Other>,
}

/// `quota_us` of CPU time in each `period_us`; 200000 of 100000 is two CPUs.
///
/// ```
/// use orangery_runtime::cgroup::{CpuQuota, Limits};
/// let half = CpuQuota { quota_us: 50_000, period_us: 100_000 };
/// assert!(Limits { cpu_quota: Some(half), ..Limits::default() }.validate().is_empty());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuQuota {
    /// Microseconds of CPU time, at least 1000; [`CpuQuota::NONE`]: without end.
    pub quota_us: u64,
    /// The period in microseconds, 1000 to 1000000.
    pub period_us: u64,
}

impl CpuQuota {
    /// The `quota_us` of who has no quota, and may have a period all the same.
    pub const NONE: u64 = QUOTA_MAX;
}

impl Limits {
    /// Nothing is asked for.
    pub fn is_empty(&self) -> bool {
        *self == Limits::default()
    }

    /// Every field that no kernel would take, with the reason. An empty list does not promise that *this* machine can
    /// do it: that is [`Cgroups::supports`](super::Cgroups::supports).
    pub fn validate(&self) -> Vec<(&'static str, String)> {
        let mut wrong = Vec::new();
        let mut range = |field: &'static str, value: Option<u64>, low: u64, high: u64| {
            if let Some(value) = value.filter(|v| !(low..=high).contains(v)) {
                wrong.push((field, format!("{value} is not between {low} and {high}")));
            }
        };
        range("memory", self.memory, MEMORY_MIN, MEMORY_MAX);
        range("memory_swap", self.memory_swap, 0, MEMORY_MAX - self.memory.unwrap_or(0).min(MEMORY_MAX));
        range("cpu_quota", self.cpu_quota.map(|q| q.quota_us), 1000, QUOTA_MAX);
        range("cpu_quota", self.cpu_quota.map(|q| q.period_us), 1000, 1_000_000);
        range("cpu_weight", self.cpu_weight, 1, 10_000);
        range("pids", self.pids, 1, PIDS_MAX);
        for (field, list, end) in [("cpuset_cpus", &self.cpuset_cpus, CPUS), ("cpuset_mems", &self.cpuset_mems, NODES)]
        {
            if let Some(Err(reason)) = list.as_deref().map(|list| parse_list(list, end)) {
                wrong.push((field, reason));
            }
        }
        wrong.extend(super::io::validate(self));
        wrong.extend(super::other::validate(&self.other));
        wrong
    }
}

/// Parses the kernel's list format (`0-3,6`) strictly: no blanks, no empty parts, no `:used/group` strides.
/// Returns the ranges, both ends included.
pub(crate) fn parse_list(list: &str, end: u32) -> Result<Vec<(u32, u32)>, String> {
    list.split(',').map(|part| parse_range(part, end)).collect()
}

fn parse_range(part: &str, end: u32) -> Result<(u32, u32), String> {
    let (low, high) = part.split_once('-').unwrap_or((part, part));
    let (low, high) = (parse_index(low, end)?, parse_index(high, end)?);
    if low > high {
        return Err(format!("the range {low}-{high} runs backwards"));
    }
    Ok((low, high))
}

fn parse_index(text: &str, end: u32) -> Result<u32, String> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("{text:?} is not a number in a list such as 0-3,6"));
    }
    text.parse::<u32>().ok().filter(|n| *n < end).ok_or_else(|| format!("{text} is not below {end}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(limits: &Limits) -> Vec<&'static str> {
        limits.validate().into_iter().map(|(field, _)| field).collect()
    }

    #[test]
    fn ranges_are_checked_at_both_ends() {
        let quota =
            |quota_us, period_us| Limits { cpu_quota: Some(CpuQuota { quota_us, period_us }), ..Limits::default() };
        assert!(Limits::default().is_empty() && fields(&Limits::default()).is_empty());
        assert!(fields(&quota(1000, 1000)).is_empty());
        assert_eq!(fields(&quota(999, 1_000_001)), ["cpu_quota", "cpu_quota"]);
        assert_eq!(fields(&quota(u64::MAX, 100_000)), ["cpu_quota"]);
        for (pids, good) in [(0, false), (1, true), (PIDS_MAX, true), (PIDS_MAX + 1, false)] {
            assert_eq!(fields(&Limits { pids: Some(pids), ..Limits::default() }).is_empty(), good, "{pids}");
        }
        for (weight, good) in [(0, false), (1, true), (10_000, true), (10_001, false)] {
            assert_eq!(fields(&Limits { cpu_weight: Some(weight), ..Limits::default() }).is_empty(), good, "{weight}");
        }
        assert_eq!(fields(&Limits { memory: Some(32), ..Limits::default() }), ["memory"]);
        let both = Limits { memory: Some(MEMORY_MAX), memory_swap: Some(1), ..Limits::default() };
        assert_eq!(fields(&both), ["memory_swap"]);
        let both = Limits { memory: Some(u64::MAX), memory_swap: Some(u64::MAX), ..Limits::default() };
        assert_eq!(fields(&both), ["memory", "memory_swap"]);
    }

    #[test]
    fn lists_are_strict() {
        for good in ["0", "0-3", "0-3,6", "7,1", "0-0", "8191"] {
            assert!(parse_list(good, CPUS).is_ok(), "{good}");
        }
        for bad in [
            "",
            ",",
            "0,",
            ",0",
            "3-1",
            "a",
            "0-",
            "-1",
            "0--1",
            " 0",
            "0\n",
            "0\n1",
            "0-10:2/4",
            "all",
            "8192",
            "+1",
            "99999999999999999999",
            "0-3\0",
            "٣",
        ] {
            assert!(parse_list(bad, CPUS).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn any_list_that_passes_means_what_it_says() {
        let alphabet = b"019,- \n:";
        let mut seed = 0x9e37_79b9_u64;
        for _ in 0..50_000 {
            let mut text = String::new();
            for _ in 0..(seed >> 60) {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                text.push(char::from(alphabet[(seed >> 33) as usize % alphabet.len()]));
            }
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            if let Ok(ranges) = parse_list(&text, CPUS) {
                assert!(text.bytes().all(|b| b.is_ascii_digit() || b == b',' || b == b'-'), "{text:?}");
                assert!(ranges.iter().all(|(a, b)| a <= b && *b < CPUS));
                let printed: Vec<String> = ranges.iter().map(|(a, b)| format!("{a}-{b}")).collect();
                assert_eq!(parse_list(&printed.join(","), CPUS), Ok(ranges));
            }
        }
    }
}
