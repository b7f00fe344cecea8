//! Limits of the control group.

use oci_spec::runtime as oci;

use super::{Refusals, other};
use crate::cgroup::{BlockDevice, IoMax, IoWeight};
use crate::spec::{ContainerSpec, CpuQuota, DeviceKind, DeviceRule, Limits, UserNamespace};

pub(super) fn convert(no: &mut Refusals, linux: &oci::Linux, container: &mut ContainerSpec) {
    let Some(resources) = linux.resources() else { return usual_devices(container) };
    let positive = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
    let limits = &mut container.limits;
    if let Some(memory) = resources.memory() {
        // 0 is how some write "not given".
        limits.memory = positive(memory.limit()).filter(|limit| *limit > 0);
        // OCI counts memory and swap together, we count swap alone.
        let both = positive(memory.swap()).filter(|both| *both > 0);
        if both.is_some_and(|both| limits.memory.is_none_or(|memory| both < memory)) {
            no.add(
                "linux.resources.memory.swap",
                "it is memory and swap together, and needs a limit that is not above it",
            );
        }
        limits.memory_swap = both.zip(limits.memory).map(|(both, memory)| both.saturating_sub(memory));
        limits.other.extend(other::memory(memory));
    }
    if let Some(pids) = resources.pids() {
        limits.pids = positive(Some(pids.limit())).filter(|limit| *limit > 0);
    }
    if let Some(cpu) = resources.cpu() {
        let (quota, period) =
            (positive(cpu.quota()).filter(|quota| *quota > 0), cpu.period().filter(|period| *period > 0));
        if quota.is_some() || period.is_some() {
            let (quota_us, period_us) = (quota.unwrap_or(CpuQuota::NONE), period.unwrap_or(100_000));
            limits.cpu_quota = Some(CpuQuota { quota_us, period_us });
        }
        limits.cpu_shares = cpu.shares().filter(|shares| *shares > 0);
        limits.cpu_weight = limits.cpu_shares.map(weight);
        limits.cpuset_cpus = cpu.cpus().clone().filter(|list| !list.is_empty());
        limits.cpuset_mems = cpu.mems().clone().filter(|list| !list.is_empty());
        limits.other.extend(other::cpu(cpu));
    }
    if let Some(block) = resources.block_io() {
        block_io(no, block, limits);
    }
    limits.other.extend(other::hugepages(resources));
    limits.other.extend(other::rdma(resources));
    limits.other.extend(other::network(resources));
    other::unified(no, resources, limits);
    devices(no, resources, container);
}

/// Devices of every container, which are always allowed, as runc and crun have them: to be made is any, to be used are null, zero,
/// full, random, urandom, tty, ptmx, console, the terminals of its devpts, and tun.
const ALWAYS: [(Option<u32>, Option<u32>, u8); 11] = [
    (None, None, DeviceRule::MKNOD),
    (Some(1), Some(3), DeviceRule::ALL),
    (Some(1), Some(5), DeviceRule::ALL),
    (Some(1), Some(7), DeviceRule::ALL),
    (Some(1), Some(8), DeviceRule::ALL),
    (Some(1), Some(9), DeviceRule::ALL),
    (Some(5), Some(0), DeviceRule::ALL),
    (Some(5), Some(1), DeviceRule::ALL),
    (Some(5), Some(2), DeviceRule::ALL),
    (Some(136), None, DeviceRule::ALL),
    (Some(10), Some(200), DeviceRule::ALL),
];

/// Where the ids are the host's: elsewhere no node that a container makes is a device, and what is mounted was asked for.
fn devices(no: &mut Refusals, resources: &oci::LinuxResources, container: &mut ContainerSpec) {
    for (index, rule) in resources.devices().iter().flatten().enumerate() {
        match of_one(rule) {
            Ok(rule) => container.device_rules.push(rule),
            Err(why) => no.add(&format!("linux.resources.devices[{index}]"), why),
        }
    }
    if container.user_namespace != UserNamespace::Host {
        container.device_rules.clear();
    } else if container.device_rules.is_empty() {
        usual_devices(container);
    } else {
        container.device_rules.extend(always());
    }
}

/// Whoever says nothing means these, as with runc, where they can be kept.
fn usual_devices(container: &mut ContainerSpec) {
    if container.user_namespace == UserNamespace::Host {
        let none =
            DeviceRule { allow: false, kind: DeviceKind::Any, major: None, minor: None, access: DeviceRule::ALL };
        container.device_rules = std::iter::once(none).chain(always()).collect();
        container.device_rules_if_possible = true;
    }
}

fn always() -> impl Iterator<Item = DeviceRule> {
    let char = |(major, minor, access)| DeviceRule { allow: true, kind: DeviceKind::Char, major, minor, access };
    let block =
        DeviceRule { allow: true, kind: DeviceKind::Block, major: None, minor: None, access: DeviceRule::MKNOD };
    ALWAYS.map(char).into_iter().chain([block])
}

fn of_one(rule: &oci::LinuxDeviceCgroup) -> Result<DeviceRule, String> {
    use oci::LinuxDeviceType as Type;
    let kind = match rule.typ().unwrap_or(Type::A) {
        Type::A => DeviceKind::Any,
        Type::C | Type::U => DeviceKind::Char,
        Type::B => DeviceKind::Block,
        Type::P => return Err("a named pipe is no device".into()),
    };
    // Below zero is how some write "all".
    let number = |number: Option<i64>| match number {
        Some(number) if number >= 0 => {
            u32::try_from(number).map(Some).map_err(|_| format!("{number} is no device number"))
        }
        _ => Ok(None),
    };
    let letters = rule.access().as_deref().filter(|letters| !letters.is_empty()).unwrap_or("rwm");
    let access = letters.chars().try_fold(0, |all, letter| match letter {
        'r' => Ok(all | DeviceRule::READ),
        'w' => Ok(all | DeviceRule::WRITE),
        'm' => Ok(all | DeviceRule::MKNOD),
        other => Err(format!("{other:?} is no access: r, w and m are")),
    })?;
    Ok(DeviceRule { allow: rule.allow(), kind, major: number(rule.major())?, minor: number(rule.minor())?, access })
}

/// Of all lists, one entry for each device.
fn block_io(no: &mut Refusals, block: &oci::LinuxBlockIo, limits: &mut Limits) {
    limits.other.extend(other::leaves(block));
    limits.io_weight = block.weight().filter(|weight| *weight > 0).map(|weight| io_weight(weight.into()));
    let mut device = |field: &str, major: i64, minor: i64| match (u32::try_from(major), u32::try_from(minor)) {
        (Ok(major), Ok(minor)) => Some(BlockDevice::Number { major, minor }),
        _ => {
            no.add(&format!("linux.resources.blockIO.{field}"), format!("{major}:{minor} is no device"));
            None
        }
    };
    for weight in block.weight_device().iter().flatten() {
        if let (Some(device), Some(weight)) = (device("weightDevice", weight.major(), weight.minor()), weight.weight())
        {
            limits.io_device_weight.push(IoWeight { device, weight: io_weight(weight.into()) });
        }
    }
    type Set = fn(&mut IoMax, u64);
    let lists: [(&str, &Option<Vec<oci::LinuxThrottleDevice>>, Set); 4] = [
        ("throttleReadBpsDevice", block.throttle_read_bps_device(), |most, rate| most.read_bps = Some(rate)),
        ("throttleWriteBpsDevice", block.throttle_write_bps_device(), |most, rate| most.write_bps = Some(rate)),
        ("throttleReadIOPSDevice", block.throttle_read_iops_device(), |most, rate| most.read_iops = Some(rate)),
        ("throttleWriteIOPSDevice", block.throttle_write_iops_device(), |most, rate| most.write_iops = Some(rate)),
    ];
    for (field, list, set) in lists {
        // A rate of nothing is none.
        for throttle in list.iter().flatten().filter(|throttle| throttle.rate() > 0) {
            let Some(device) = device(field, throttle.major(), throttle.minor()) else { continue };
            match limits.io_max.iter_mut().find(|most| most.device == device) {
                Some(most) => set(most, throttle.rate()),
                None => {
                    let mut most = IoMax::new(device);
                    set(&mut most, throttle.rate());
                    limits.io_max.push(most);
                }
            }
        }
    }
}

/// blkio.weight (10 to 1000, 100 is everybody's in both) as io.weight (1 to 10,000).
fn io_weight(weight: u64) -> u64 {
    if weight <= 100 { weight } else { 100 + (weight - 100) * 11 }
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
        assert_eq!([10, 100, 1000].map(io_weight), [10, 100, 10_000]);
    }

    fn of(json: &str, user_namespace: UserNamespace) -> (ContainerSpec, Vec<String>) {
        let linux: oci::Linux = serde_json::from_str(&format!(r#"{{"resources":{json}}}"#)).unwrap();
        let (mut no, mut spec) = (Refusals(Vec::new()), ContainerSpec { user_namespace, ..ContainerSpec::default() });
        convert(&mut no, &linux, &mut spec);
        (spec, no.0.iter().filter_map(|error| error.field().map(str::to_owned)).collect())
    }

    #[test]
    fn rules_of_devices_are_followed_by_what_everybody_has() {
        let json = r#"{"devices":[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":10,"minor":229,"access":"rw"}]}"#;
        let (spec, no) = of(json, UserNamespace::Host);
        assert!(no.is_empty() && spec.device_rules.len() == 2 + ALWAYS.len() + 1, "{no:?}");
        let first = DeviceRule { allow: false, kind: DeviceKind::Any, major: None, minor: None, access: 7 };
        let second = DeviceRule { allow: true, kind: DeviceKind::Char, major: Some(10), minor: Some(229), access: 6 };
        assert_eq!(spec.device_rules[..2], [first, second]);
        assert!(of(json, UserNamespace::Own).0.device_rules.is_empty() && !spec.device_rules_if_possible);
        let (usual, _) = of("{}", UserNamespace::Host);
        assert!(usual.device_rules_if_possible && usual.device_rules.len() == 1 + ALWAYS.len() + 1);
        assert!(of("{}", UserNamespace::Own).0.device_rules.is_empty());
        let (_, no) = of(r#"{"devices":[{"allow":true,"access":"x"},{"allow":true,"type":"p"}]}"#, UserNamespace::Host);
        assert_eq!(no, ["linux.resources.devices[0]", "linux.resources.devices[1]"]);
    }

    #[test]
    fn a_device_has_one_entry_of_four_lists() {
        let (spec, no) = of(
            r#"{"blockIO":{"weight":1000,"leafWeight":5,"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":5}],
                "throttleWriteIOPSDevice":[{"major":8,"minor":0,"rate":7},{"major":8,"minor":16,"rate":0}]}}"#,
            UserNamespace::Host,
        );
        assert!(no.is_empty(), "{no:?}");
        let [leaf] = spec.limits.other.as_slice() else { panic!("{:?}", spec.limits) };
        assert_eq!((leaf.v1.clone(), leaf.v2.clone()), (Some(("blkio.leaf_weight".into(), "5".into())), None));
        let [most] = spec.limits.io_max.as_slice() else { panic!("{:?}", spec.limits) };
        assert_eq!((most.read_bps, most.write_iops, spec.limits.io_weight), (Some(5), Some(7), Some(10_000)));
    }
}
