//! A checked spec as a config.json: the reverse of `spec/oci/`. Pure. What it cannot say is refused before, by field
//! (`refused.rs`).

use serde_json::{Value, json};

use super::{Layout, mounts, process, seccomp, text};
use crate::plan::SYS_MOUNTS;
use crate::plan::idmap::Ids;
use crate::plan::wire::{NEWCGROUP, NEWIPC, NEWPID, NEWUTS};
use crate::spec::{Access, CheckedSpec, DeviceKind, DeviceNode, DeviceRule, Network, NodeKind, Seccomp};

/// Paths of /proc and /sys that tell about or act on the host.
const MASKED: [&str; 10] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/scsi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/interrupts",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The whole file.
///
/// # Errors
/// What its filter cannot be said to be.
pub(crate) fn config(layout: &Layout<'_>) -> Result<Value, String> {
    let (spec, main) = (layout.spec.container(), layout.spec.main());
    let first = if layout.has_init() { process::init(main, super::INIT) } else { process::written(main) };
    let readonly = spec.rootfs.access() == Some(Access::ReadOnly);
    let mut made = json!({
        "ociVersion": "1.0.2",
        "process": first,
        "root": { "path": format!("{}/rootfs", layout.place), "readonly": readonly },
        "mounts": mounts::mounts(layout),
        "linux": linux(layout)?,
    });
    let named = if spec.listed { spec.hostname.as_deref() } else { Some(layout.spec.hostname()) };
    if let Some(name) = named.filter(|_| !layout.spec.shares(NEWUTS)) {
        made["hostname"] = name.into();
    }
    if let Some(name) = &spec.domainname {
        made["domainname"] = name.as_str().into();
    }
    Ok(made)
}

fn linux(layout: &Layout<'_>) -> Result<Value, String> {
    let spec = layout.spec.container();
    let mut made = json!({ "namespaces": namespaces(layout.spec, layout.ids.is_some()) });
    if let Some(ids) = layout.ids {
        made["uidMappings"] = mappings(&ids.uid);
        made["gidMappings"] = mappings(&ids.gid);
    }
    if let Some(path) = layout.cgroup {
        made["cgroupsPath"] = path.into();
    }
    if !spec.sysctls.is_empty() {
        made["sysctl"] = json!(spec.sysctls);
    }
    if !spec.devices.is_empty() {
        made["devices"] = spec.devices.iter().map(device).collect();
    }
    if !spec.device_rules.is_empty() {
        made["resources"] = json!({ "devices": spec.device_rules.iter().map(rule).collect::<Vec<_>>() });
    }
    let (mut masked, mut read_only) = (Vec::new(), Vec::new());
    if !spec.listed {
        masked.extend(MASKED.map(str::to_owned));
        read_only.extend(READ_ONLY.map(str::to_owned));
        if !layout.unified {
            masked.push("/sys/fs/cgroup".into());
        }
        if mounts::copies_sys(layout) {
            // In a copy of the host's they come along, and are not only read.
            masked.extend(SYS_MOUNTS.map(|path| format!("/sys/{path}")));
        }
    }
    masked.extend(spec.masked_paths.iter().map(text));
    read_only.extend(spec.readonly_paths.iter().map(text));
    made["maskedPaths"] = json!(masked);
    made["readonlyPaths"] = json!(read_only);
    made["rootfsPropagation"] = propagation(spec.root_propagation).into();
    if let Some(filter) = filter(layout.spec)? {
        made["seccomp"] = filter;
    }
    Ok(made)
}

/// Its filter, merged as ours is.
pub(super) fn filter(spec: &CheckedSpec) -> Result<Option<Value>, String> {
    let (main, caps) = (spec.main().spec(), spec.main().caps());
    let profile = (main.seccomp == Seccomp::Default).then(|| crate::seccomp::default_profile(caps.bounding));
    let all: Vec<_> = profile.into_iter().chain(main.filters.iter().cloned()).collect();
    match all.as_slice() {
        [] => Ok(None),
        [one] => seccomp::written(one, main.filter_flags).map(Some),
        several => {
            let merged = crate::seccomp::merge(several).map_err(|error| error.to_string())?;
            seccomp::written(&merged, main.filter_flags).map(Some)
        }
    }
}

fn namespaces(spec: &CheckedSpec, own_ids: bool) -> Value {
    let all = [
        (true, "mount"),
        (!spec.shares(NEWPID), "pid"),
        (!spec.shares(NEWIPC), "ipc"),
        (!spec.shares(NEWUTS), "uts"),
        (!spec.shares(NEWCGROUP), "cgroup"),
        (spec.container().network == Network::None, "network"),
        (own_ids, "user"),
    ];
    all.iter().filter(|(has, _)| *has).map(|(_, kind)| json!({ "type": kind })).collect()
}

fn mappings(ids: &Ids) -> Value {
    let range =
        |(inside, outside, count): (u32, u32, u32)| json!({ "containerID": inside, "hostID": outside, "size": count });
    ids.ranges().map(range).collect()
}

fn device(node: &DeviceNode) -> Value {
    let kind = match node.kind {
        NodeKind::Char => "c",
        NodeKind::Block => "b",
        NodeKind::Fifo => "p",
    };
    let (major, minor) = (rustix::fs::major(node.rdev), rustix::fs::minor(node.rdev));
    let (uid, gid) = node.owner;
    json!({
        "path": text(&node.path), "type": kind, "major": major, "minor": minor,
        "fileMode": node.mode, "uid": uid, "gid": gid,
    })
}

fn rule(rule: &DeviceRule) -> Value {
    let kind = match rule.kind {
        DeviceKind::Char => "c",
        DeviceKind::Block => "b",
        DeviceKind::Any => "a",
    };
    let letters = [(DeviceRule::READ, 'r'), (DeviceRule::WRITE, 'w'), (DeviceRule::MKNOD, 'm')];
    let access: String = letters.iter().filter(|(bit, _)| rule.access & bit != 0).map(|(_, letter)| *letter).collect();
    let mut made = json!({ "allow": rule.allow, "type": kind, "access": access });
    for (key, number) in [("major", rule.major), ("minor", rule.minor)] {
        if let Some(number) = number {
            made[key] = number.into();
        }
    }
    made
}

fn propagation(flags: u64) -> &'static str {
    let deep = flags & 0x4000 != 0;
    match flags & !0x4000 {
        flags if flags == 1 << 20 => {
            if deep {
                "rshared"
            } else {
                "shared"
            }
        }
        flags if flags == 1 << 19 => {
            if deep {
                "rslave"
            } else {
                "slave"
            }
        }
        flags if flags == 1 << 17 => {
            if deep {
                "runbindable"
            } else {
                "unbindable"
            }
        }
        _ => "rprivate",
    }
}
