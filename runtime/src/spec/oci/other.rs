//! Limits of controllers that have no field of ours: each by its name in config.json, with the file of either version.

use oci_spec::runtime as oci;

use super::Refusals;
use crate::spec::{Limits, Other};

const RESOURCES: &str = "linux.resources";

fn positive(value: Option<i64>) -> Option<u64> {
    value.and_then(|value| u64::try_from(value).ok())
}

pub(super) fn memory(memory: &oci::LinuxMemory) -> Vec<Other> {
    let new = |field: &str| Other::new(format!("{RESOURCES}.memory.{field}"), "memory");
    let mut all = Vec::new();
    // 0 is how some write "not given".
    if let Some(low) = positive(memory.reservation()).filter(|low| *low > 0) {
        let low = low.to_string();
        all.push(new("reservation").v1("memory.soft_limit_in_bytes", &low).v2("memory.low", &low));
    }
    if let Some(swappiness) = memory.swappiness() {
        all.push(new("swappiness").v1("memory.swappiness", swappiness.to_string()));
    }
    if memory.disable_oom_killer() == Some(true) {
        all.push(new("disableOOMKiller").v1("memory.oom_control", "1"));
    }
    for (field, given) in [("kernel", memory.kernel()), ("kernelTCP", memory.kernel_tcp())] {
        if positive(given).is_some_and(|limit| limit > 0) {
            tracing::warn!(field, "memory of the kernel is counted as any other: this limit is left out, as by runc");
        }
    }
    all
}

pub(super) fn cpu(cpu: &oci::LinuxCpu) -> Vec<Other> {
    let new = |field: &str| Other::new(format!("{RESOURCES}.cpu.{field}"), "cpu");
    let mut all = Vec::new();
    // 0 takes away what an update finds there, and asks for nothing of a kernel without it.
    let given = |field: &str, value: String, v1: &str, v2: &str| {
        let setting = new(field).v1(v1, &value).v2(v2, &value);
        if value == "0" { setting.optional() } else { setting }
    };
    all.extend(cpu.burst().map(|burst| given("burst", burst.to_string(), "cpu.cfs_burst_us", "cpu.max.burst")));
    all.extend(cpu.idle().map(|idle| given("idle", idle.to_string(), "cpu.idle", "cpu.idle")));
    // The period first: a time is compared with it.
    if let Some(period) = cpu.realtime_period().filter(|period| *period > 0) {
        all.push(new("realtimePeriod").v1("cpu.rt_period_us", period.to_string()));
    }
    if let Some(time) = cpu.realtime_runtime().filter(|time| *time > 0) {
        all.push(new("realtimeRuntime").v1("cpu.rt_runtime_us", time.to_string()));
    }
    all
}

/// Of pages that are reserved, where the kernel counts those (5.7), and of pages that are in use; 0 is none at all.
pub(super) fn hugepages(resources: &oci::LinuxResources) -> Vec<Other> {
    let of_one = |(index, limit): (usize, &oci::LinuxHugepageLimit)| {
        let (size, most) = (limit.page_size(), limit.limit().to_string());
        let name = format!("{RESOURCES}.hugepageLimits[{index}]");
        let new = |what: &str| {
            let file = |limit: &str| format!("hugetlb.{size}.{what}{limit}");
            Other::new(&name, "hugetlb").v1(file("limit_in_bytes"), &most).v2(file("max"), &most)
        };
        [new(""), new("rsvd.").optional()]
    };
    resources.hugepage_limits().iter().flatten().enumerate().flat_map(of_one).collect()
}

/// Weights of a group's own processes beside those of the groups below it: of version 1, before Linux 5.0.
pub(super) fn leaves(block: &oci::LinuxBlockIo) -> Vec<Other> {
    let new = |field: &str, file: &str, value: String| {
        Other::new(format!("{RESOURCES}.blockIO.{field}"), "blkio").v1(file, value)
    };
    let positive = |weight: Option<u16>| weight.filter(|weight| *weight > 0);
    let of_all = positive(block.leaf_weight()).map(|weight| new("leafWeight", "blkio.leaf_weight", weight.to_string()));
    let of_one = |of: &oci::LinuxWeightDevice| {
        let line = format!("{}:{} {}", of.major(), of.minor(), positive(of.leaf_weight())?);
        Some(new("weightDevice.leafWeight", "blkio.leaf_weight_device", line))
    };
    of_all.into_iter().chain(block.weight_device().iter().flatten().filter_map(of_one)).collect()
}

pub(super) fn rdma(resources: &oci::LinuxResources) -> Vec<Other> {
    let mut all: Vec<Other> = resources
        .rdma()
        .iter()
        .flatten()
        .map(|(device, limit)| {
            let part = |name: &str, most: Option<u32>| most.map(|most| format!(" {name}={most}")).unwrap_or_default();
            let handles = part("hca_handle", limit.hca_handles());
            let line = format!("{device}{handles}{}", part("hca_object", limit.hca_objects()));
            Other::new(format!("{RESOURCES}.rdma.{device}"), "rdma").v1("rdma.max", &line).v2("rdma.max", &line)
        })
        .collect();
    all.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    all
}

pub(super) fn network(resources: &oci::LinuxResources) -> Vec<Other> {
    let Some(network) = resources.network() else { return Vec::new() };
    let mut all = Vec::new();
    if let Some(class) = network.class_id().filter(|class| *class > 0) {
        all.push(
            Other::new(format!("{RESOURCES}.network.classID"), "net_cls").v1("net_cls.classid", class.to_string()),
        );
    }
    let lines = network.priorities().iter().flatten().map(|one| format!("{} {}\n", one.name(), one.priority()));
    let lines: String = lines.collect();
    if !lines.is_empty() {
        all.push(Other::new(format!("{RESOURCES}.network.priorities"), "net_prio").v1("net_prio.ifpriomap", lines));
    }
    all
}

/// Files of version 2 as they are called there; with a word for those that we have a field for, the last word is theirs.
pub(super) fn unified(no: &mut Refusals, resources: &oci::LinuxResources, limits: &mut Limits) {
    let mut all: Vec<Other> = Vec::new();
    for (file, value) in resources.unified().iter().flatten() {
        let name = format!("{RESOURCES}.unified.{file}");
        match file.split_once('.') {
            Some((controller, _)) if !file.contains('/') => all.push(Other::new(name, controller).v2(file, value)),
            _ => no.add(&name, "a file is called after its controller, as memory.high, and has no slashes"),
        }
    }
    all.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    limits.other.extend(all);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> (Vec<Other>, Vec<String>) {
        let linux: oci::Linux = serde_json::from_str(&format!(r#"{{"resources":{json}}}"#)).unwrap();
        let (mut no, mut spec) = (Refusals(Vec::new()), crate::ContainerSpec::default());
        super::super::resources::convert(&mut no, &linux, &mut spec);
        (spec.limits.other, no.0.iter().filter_map(|error| error.field().map(str::to_owned)).collect())
    }

    #[test]
    fn each_field_has_its_files() {
        let (all, no) = of(
            r#"{"memory":{"reservation":4096,"swappiness":7,"disableOOMKiller":true,"kernel":5,"useHierarchy":true},
            "cpu":{"burst":9,"idle":1,"realtimeRuntime":2,"realtimePeriod":3},
            "hugepageLimits":[{"pageSize":"2MB","limit":0}],"rdma":{"mlx5_1":{"hcaHandles":3}},
            "network":{"classID":65537,"priorities":[{"name":"eth0","priority":5},{"name":"lo","priority":0}]},
            "unified":{"memory.high":"8192","cgroup.max.depth":"3"}}"#,
        );
        assert!(no.is_empty(), "{no:?}");
        let file = |of: &Option<(String, String)>| {
            of.as_ref().map_or("-".to_owned(), |(file, value)| format!("{file}={}", value.replace('\n', ";")))
        };
        let seen: Vec<String> = all.iter().map(|other| format!("{} {}", file(&other.v1), file(&other.v2))).collect();
        assert_eq!(
            seen,
            [
                "memory.soft_limit_in_bytes=4096 memory.low=4096",
                "memory.swappiness=7 -",
                "memory.oom_control=1 -",
                "cpu.cfs_burst_us=9 cpu.max.burst=9",
                "cpu.idle=1 cpu.idle=1",
                "cpu.rt_period_us=3 -",
                "cpu.rt_runtime_us=2 -",
                "hugetlb.2MB.limit_in_bytes=0 hugetlb.2MB.max=0",
                "hugetlb.2MB.rsvd.limit_in_bytes=0 hugetlb.2MB.rsvd.max=0",
                "rdma.max=mlx5_1 hca_handle=3 rdma.max=mlx5_1 hca_handle=3",
                "net_cls.classid=65537 -",
                "net_prio.ifpriomap=eth0 5;lo 0; -",
                "- cgroup.max.depth=3",
                "- memory.high=8192",
            ]
        );
        assert_eq!(all[7].name, "linux.resources.hugepageLimits[0]");
    }

    #[test]
    fn a_file_of_another_place_is_refused() {
        let (_, no) = of(r#"{"unified":{"../memory.high":"1"}}"#);
        assert_eq!(no, ["linux.resources.unified.../memory.high"]);
        let (all, _) = of(r#"{"unified":{"cgroup.procs":"1"}}"#);
        assert!(!Limits { other: all, ..Limits::default() }.validate().is_empty());
    }
}
