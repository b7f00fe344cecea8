//! Limits of the control group.

use oci_spec::runtime as oci;

use super::Refusals;
use crate::spec::{ContainerSpec, CpuQuota};

pub(super) fn convert(no: &mut Refusals, linux: &oci::Linux, container: &mut ContainerSpec) {
    let Some(resources) = linux.resources() else { return };
    let positive = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
    let limits = &mut container.limits;
    if let Some(memory) = resources.memory() {
        limits.memory = positive(memory.limit());
        // OCI counts memory and swap together, we count swap alone.
        limits.memory_swap =
            positive(memory.swap()).zip(limits.memory).map(|(both, memory)| both.saturating_sub(memory));
        no.unsupported("linux.resources.memory.reservation", positive(memory.reservation()).is_some());
        no.unsupported("linux.resources.memory.kernel", positive(memory.kernel()).is_some());
        no.unsupported("linux.resources.memory.kernelTCP", positive(memory.kernel_tcp()).is_some());
        no.unsupported("linux.resources.memory.swappiness", memory.swappiness().is_some());
        no.unsupported("linux.resources.memory.disableOOMKiller", memory.disable_oom_killer() == Some(true));
    }
    if let Some(pids) = resources.pids() {
        limits.pids = positive(Some(pids.limit())).filter(|limit| *limit > 0);
    }
    if let Some(cpu) = resources.cpu() {
        if let Some(quota_us) = positive(cpu.quota()).filter(|quota| *quota > 0) {
            let period_us = cpu.period().filter(|period| *period > 0).unwrap_or(100_000);
            limits.cpu_quota = Some(CpuQuota { quota_us, period_us });
        }
        limits.cpu_weight = cpu.shares().filter(|shares| *shares > 0).map(weight);
        limits.cpuset_cpus = cpu.cpus().clone().filter(|list| !list.is_empty());
        limits.cpuset_mems = cpu.mems().clone().filter(|list| !list.is_empty());
        no.unsupported("linux.resources.cpu.burst", cpu.burst().is_some_and(|burst| burst > 0));
        no.unsupported("linux.resources.cpu.idle", cpu.idle().is_some_and(|idle| idle > 0));
        no.unsupported("linux.resources.cpu.realtimeRuntime", cpu.realtime_runtime().is_some_and(|time| time > 0));
        no.unsupported("linux.resources.cpu.realtimePeriod", cpu.realtime_period().is_some_and(|time| time > 0));
    }
    no.unsupported("linux.resources.blockIO", resources.block_io().is_some());
    no.unsupported("linux.resources.hugepageLimits", some(resources.hugepage_limits().as_ref().map(Vec::len)));
    no.unsupported("linux.resources.network", resources.network().is_some());
    no.unsupported("linux.resources.rdma", some(resources.rdma().as_ref().map(std::collections::HashMap::len)));
    no.unsupported("linux.resources.unified", some(resources.unified().as_ref().map(std::collections::HashMap::len)));
    if resources.devices().iter().flatten().next().is_some() {
        tracing::warn!("the device rules of this bundle are not enforced yet");
    }
}

fn some(count: Option<usize>) -> bool {
    count.is_some_and(|count| count > 0)
}

/// cpu.shares (2 to 262,144) as cpu.weight (1 to 10,000), as runc and crun convert them.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_weights() {
        assert_eq!([2, 1024, 262_144].map(weight), [1, 39, 10_000]);
    }
}
