//! The rest of `linux`: parameters of the kernel, devices, paths that are hidden, propagation.

use std::path::PathBuf;

use oci_spec::runtime as oci;

use super::{Refusals, mounts, seccomp};
use crate::spec::{ContainerSpec, DeviceNode, NodeKind, Rdt};

pub(super) fn convert(no: &mut Refusals, linux: &oci::Linux, container: &mut ContainerSpec) {
    container.sysctls = linux.sysctl().iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
    let paths = |list: &Option<Vec<String>>| list.iter().flatten().map(PathBuf::from).collect();
    container.masked_paths = paths(linux.masked_paths());
    container.readonly_paths = paths(linux.readonly_paths());
    container.cgroups_path = linux.cgroups_path().clone().filter(|path| !path.as_os_str().is_empty());
    match linux.rootfs_propagation().as_deref().unwrap_or_default() {
        "" | "private" | "rprivate" => {}
        word => match mounts::propagation(word) {
            Some(flags) => container.root_propagation = flags,
            None => no.add("linux.rootfsPropagation", format!("{word:?} is no propagation")),
        },
    }
    container.filter_listener = linux.seccomp().as_ref().and_then(|seccomp| seccomp::listener(no, seccomp));
    for (index, device) in linux.devices().iter().flatten().enumerate() {
        match node(device) {
            Ok(node) => container.devices.push(node),
            Err(why) => no.add(&format!("linux.devices[{index}]"), why),
        }
    }
    container.mount_label = linux.mount_label().clone().filter(|label| !label.is_empty());
    container.intel_rdt = linux.intel_rdt().as_ref().map(shares);
    for (name, device) in linux.net_devices().iter().flatten() {
        let called = device.name().clone().filter(|called| !called.is_empty()).unwrap_or_else(|| name.clone());
        container.net_devices.insert(name.clone(), called);
    }
}

/// Either way of writing it: the lines of `schemata` last.
fn shares(rdt: &oci::LinuxIntelRdt) -> Rdt {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let (cache, bandwidth) = (given(rdt.l3_cache_schema()), given(rdt.mem_bw_schema()));
    // Each may have several lines. Of what is said twice the field of its own counts.
    let twice = |line: &str| bandwidth.is_some() && line.trim_start().starts_with("MB:");
    let lines =
        |text: &Option<String>| text.iter().flat_map(|text| text.lines()).map(str::to_owned).collect::<Vec<_>>();
    let mut schemata = lines(&cache);
    schemata.retain(|line| !twice(line));
    schemata.extend(lines(&bandwidth));
    schemata.extend(rdt.schemata().iter().flatten().cloned());
    Rdt { group: given(rdt.clos_id()), schemata, monitoring: rdt.enable_monitoring().unwrap_or(false) }
}

fn node(device: &oci::LinuxDevice) -> Result<DeviceNode, String> {
    use oci::LinuxDeviceType as Type;
    let kind = match device.typ() {
        Type::C | Type::U => NodeKind::Char,
        Type::B => NodeKind::Block,
        Type::P => NodeKind::Fifo,
        Type::A => return Err("a device has one type: c, u, b or p".into()),
    };
    let number = |number: i64| u32::try_from(number).map_err(|_| format!("{number} is no device number"));
    let rdev = match kind {
        NodeKind::Fifo => 0,
        _ => rustix::fs::makedev(number(device.major())?, number(device.minor())?),
    };
    let owner = (device.uid().unwrap_or(0), device.gid().unwrap_or(0));
    let mode = device.file_mode().unwrap_or(0o666) & 0o7777;
    Ok(DeviceNode { path: device.path().clone(), kind, rdev, mode, owner })
}
