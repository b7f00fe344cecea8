//! What of a container's limits systemd has properties for. It would undo those when it next writes to the group's files: at a change
//! of another property, or when it is loaded anew. The files themselves are written by us, which is exact.

use orangery_runtime::cgroup::{CpuQuota, Limits, PIDS_MAX};
use orangery_runtime::systemd::{Property, Variant};

/// systemd's "infinity".
const NONE: u64 = u64::MAX;
/// Microseconds a second for each hundredth of a processor, which is what systemd keeps.
const PERCENT: u64 = 10_000;

/// As a systemd of this version calls them, with controllers of version 2, or of version 1.
pub(crate) fn of(limits: &Limits, unified: bool, version: u32) -> Vec<Property> {
    let mut all = Vec::new();
    let mut wide = |name: &str, value: Option<u64>| {
        all.extend(value.map(|value| Property::new(name, Variant::Wide(value))));
    };
    let most = |limit: Option<u64>| limit.map(|limit| if limit >= i64::MAX.cast_unsigned() { NONE } else { limit });
    if unified {
        wide("MemoryMax", most(limits.memory));
        wide("MemorySwapMax", most(limits.memory_swap.map(|swap| lifted(swap, limits.memory))));
        for (file, name) in [("memory.low", "MemoryLow"), ("memory.high", "MemoryHigh"), ("memory.min", "MemoryMin")] {
            wide(name, other(limits, file));
        }
        wide("CPUWeight", limits.cpu_weight);
        wide("IOWeight", limits.io_weight);
    } else {
        wide("MemoryLimit", most(limits.memory));
        wide("CPUShares", limits.cpu_shares.or_else(|| limits.cpu_weight.map(|weight| weight * 1024 / 100)));
    }
    if let Some(CpuQuota { quota_us, period_us }) = limits.cpu_quota {
        wide("CPUQuotaPerSecUSec", Some(a_second(quota_us, period_us)));
        // Since 242.
        wide("CPUQuotaPeriodUSec", (version >= 242).then_some(period_us));
    }
    wide("TasksMax", limits.pids.map(|pids| if pids >= PIDS_MAX { NONE } else { pids }));
    // Since 244, and of version 2 alone.
    if unified && version >= 244 {
        for (list, name) in [(&limits.cpuset_cpus, "AllowedCPUs"), (&limits.cpuset_mems, "AllowedMemoryNodes")] {
            let bits = list.as_deref().and_then(bits);
            all.extend(bits.map(|bits| Property::new(name, Variant::Bytes(bits))));
        }
    }
    all
}

/// Without a limit of memory, one of swap that is the rest to the most is none.
fn lifted(swap: u64, memory: Option<u64>) -> u64 {
    let rest = i64::MAX.cast_unsigned() - memory.unwrap_or(0).min(i64::MAX.cast_unsigned());
    if swap >= rest { NONE } else { swap }
}

/// Rounded up to what systemd keeps, so that it is never less than was asked for.
fn a_second(quota_us: u64, period_us: u64) -> u64 {
    match quota_us {
        CpuQuota::NONE => NONE,
        quota => (quota.saturating_mul(1_000_000) / period_us.max(1)).div_ceil(PERCENT).saturating_mul(PERCENT),
    }
}

/// What is written to this file of version 2, where it is a number.
fn other(limits: &Limits, file: &str) -> Option<u64> {
    let (_, value) = limits.other.iter().filter_map(|other| other.v2.as_ref()).find(|(name, _)| name == file)?;
    if value == "max" { Some(NONE) } else { value.parse().ok() }
}

/// `0-3,6` as bits, the first in the lowest one of the first byte. What is no list is refused elsewhere.
fn bits(list: &str) -> Option<Vec<u8>> {
    let mut bits: Vec<u8> = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok().filter(|last| *last < 8192)?);
        for number in first..=last {
            bits.resize(bits.len().max(number / 8 + 1), 0);
            if let Some(byte) = bits.get_mut(number / 8) {
                *byte |= 1 << (number % 8);
            }
        }
    }
    Some(bits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use orangery_runtime::cgroup::Other;

    fn limits() -> Limits {
        let low = Other::new("low", "memory").v1("memory.soft_limit_in_bytes", "9").v2("memory.low", "4096");
        Limits {
            memory: Some(1 << 26),
            memory_swap: Some(1 << 20),
            cpu_quota: Some(CpuQuota { quota_us: 33_333, period_us: 100_000 }),
            cpu_weight: Some(50),
            cpu_shares: Some(500),
            cpuset_cpus: Some("0-1,9".into()),
            cpuset_mems: Some("0".into()),
            pids: Some(64),
            io_weight: Some(200),
            other: vec![low],
            ..Limits::default()
        }
    }

    fn of(limits: &Limits, unified: bool, version: u32) -> Vec<String> {
        let text = |property: Property| match property.value {
            Variant::Wide(u64::MAX) => format!("{}=none", property.name),
            Variant::Wide(number) => format!("{}={number}", property.name),
            value => format!("{}={value:?}", property.name),
        };
        super::of(limits, unified, version).into_iter().map(text).collect()
    }

    #[test]
    fn each_limit_has_its_property() {
        let new = [
            "MemoryMax=67108864",
            "MemorySwapMax=1048576",
            "MemoryLow=4096",
            "CPUWeight=50",
            "IOWeight=200",
            "CPUQuotaPerSecUSec=340000",
            "CPUQuotaPeriodUSec=100000",
            "TasksMax=64",
            "AllowedCPUs=Bytes([3, 2])",
            "AllowedMemoryNodes=Bytes([1])",
        ];
        assert_eq!(of(&limits(), true, 252), new);
        let old: Vec<_> =
            new.into_iter().filter(|text| !text.contains("Period") && !text.contains("Allowed")).collect();
        assert_eq!(of(&limits(), true, 241), old);
        let legacy =
            ["MemoryLimit=67108864", "CPUShares=500", "CPUQuotaPerSecUSec=340000", "CPUQuotaPeriodUSec=100000"];
        assert_eq!(of(&limits(), false, 252), [&legacy[..], &["TasksMax=64"]].concat());
        assert!(of(&Limits::default(), true, 252).is_empty());
    }

    #[test]
    fn what_is_lifted_is_none() {
        let most = Limits {
            memory: Some(i64::MAX.cast_unsigned()),
            memory_swap: Some(0),
            cpu_quota: Some(CpuQuota { quota_us: CpuQuota::NONE, period_us: 50_000 }),
            pids: Some(PIDS_MAX),
            ..Limits::default()
        };
        let all = ["MemoryMax=none", "MemorySwapMax=none", "CPUQuotaPerSecUSec=none", "CPUQuotaPeriodUSec=50000"];
        assert_eq!(of(&most, true, 252), [&all[..], &["TasksMax=none"]].concat());
        let alone = Limits { memory_swap: Some(7), ..Limits::default() };
        assert_eq!(of(&alone, true, 252), ["MemorySwapMax=7"]);
    }
}
