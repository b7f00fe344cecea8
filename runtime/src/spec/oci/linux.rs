//! The rest of `linux`: parameters of the kernel, devices, paths that are hidden, propagation.

use std::path::PathBuf;

use oci_spec::runtime as oci;

use super::{Refusals, mounts};
use crate::spec::{ContainerSpec, DeviceNode, NodeKind};

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
    for (index, device) in linux.devices().iter().flatten().enumerate() {
        match node(device) {
            Ok(node) => container.devices.push(node),
            Err(why) => no.add(&format!("linux.devices[{index}]"), why),
        }
    }
    no.unsupported("linux.mountLabel", linux.mount_label().as_ref().is_some_and(|label| !label.is_empty()));
    no.unsupported("linux.intelRdt", linux.intel_rdt().is_some());
    no.unsupported("linux.memoryPolicy", linux.memory_policy().is_some());
    no.unsupported("linux.netDevices", linux.net_devices().as_ref().is_some_and(|devices| !devices.is_empty()));
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
