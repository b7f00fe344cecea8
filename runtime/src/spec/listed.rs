//! What a container has whose mounts are listed, as those of an OCI bundle are: device nodes, ids of its choice, and the check
//! of a list.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::check::Refusals;
use super::mount::{Device, Seen, device, look};
use super::overlay::{self, LONGEST};
use super::{ContainerSpec, Exact, Mount, MountSource, Rootfs, UserNamespace};
use crate::cgroup::{Cgroups, MOST_DEVICE_RULES};
use crate::error::{Error, ErrorKind};
use crate::plan::Machine;

/// What of /proc a mount may lie on: what tells of the container's limits instead of the machine's. Anything else would be taken
/// for the kernel's word.
const IN_PROC: [&str; 11] = [
    "cpuinfo",
    "diskstats",
    "meminfo",
    "stat",
    "swaps",
    "uptime",
    "loadavg",
    "slabinfo",
    "net/dev",
    "sys/kernel/ns_last_pid",
    "sys/crypto/fips_enabled",
];

/// Type of a [`DeviceNode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeKind {
    /// Characters.
    Char,
    /// Blocks.
    Block,
    /// No device: a named pipe.
    Fifo,
}

/// A device node that a container gets. With the host's user ids it is made; else the host's node of the same path is mounted,
/// and checked to be it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceNode {
    /// Where it is inside.
    pub path: PathBuf,
    /// What it is.
    pub kind: NodeKind,
    /// Its number.
    pub rdev: u64,
    /// Permission bits.
    pub mode: u32,
    /// User and group inside that it belongs to.
    pub owner: (u32, u32),
}

/// Ids that follow each other: `count` from `inside` on are those from `outside` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// First id in the container.
    pub inside: u32,
    /// What it is for us.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// The ids of a user namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRanges {
    /// User ids.
    pub uid: Vec<IdRange>,
    /// Group ids.
    pub gid: Vec<IdRange>,
}

impl IdRanges {
    /// What the kernel would refuse: nothing at all, an overflow, an id twice, more lines than it takes.
    fn wrong(&self) -> Option<(&'static str, String)> {
        [("uid", &self.uid), ("gid", &self.gid)].into_iter().find_map(|(what, list)| Some((what, of_one(list)?)))
    }
}

fn of_one(list: &[IdRange]) -> Option<String> {
    // user_namespaces(7)
    if list.is_empty() || list.len() > 340 {
        return Some(format!("{} lines of a map; 1 to 340 are possible", list.len()));
    }
    let overlaps = |a: u32, b: u32, one: &IdRange, two: &IdRange| {
        u64::from(a) < u64::from(b) + u64::from(two.count) && u64::from(b) < u64::from(a) + u64::from(one.count)
    };
    for (index, one) in list.iter().enumerate() {
        let ends = |first: u32| u64::from(first) + u64::from(one.count) > u64::from(u32::MAX);
        if one.count == 0 || ends(one.inside) || ends(one.outside) {
            return Some(format!("line {index} maps no ids, or ids that there are not"));
        }
        let before = list.get(..index).unwrap_or_default();
        if before
            .iter()
            .any(|two| overlaps(one.inside, two.inside, one, two) || overlaps(one.outside, two.outside, one, two))
        {
            return Some(format!("line {index} has ids of an earlier one"));
        }
    }
    None
}

/// One mount of a list.
pub(super) fn check(no: &mut Refusals, mount: &Mount, field: &str) -> Seen {
    if let Err(why) = clean(&mount.target) {
        no.add(format!("{field}.target"), why);
    }
    // Nothing comes to lie there.
    let again = mount.exact.as_ref().is_some_and(|exact| exact.remount);
    if let (Ok(inside), MountSource::FileSystem { .. } | MountSource::Bind(_)) =
        (mount.target.strip_prefix("/proc"), &mount.source)
        && !again
        && !inside.as_os_str().is_empty()
        && !IN_PROC.iter().any(|path| inside == Path::new(path))
    {
        no.add(format!("{field}.target"), "nothing may be mounted there: programs trust what /proc says");
    }
    if mount.target == Path::new("/proc") && !again && !is_proc(&mount.source) {
        no.add(format!("{field}.target"), "nothing but a procfs may be mounted there: programs trust what /proc says");
    }
    let seen = match &mount.source {
        MountSource::Bind(path) => look(path).map(|meta| Seen { is_file: !meta.is_dir(), device: None }),
        MountSource::Device(path) => device(path).map(|device| Seen { is_file: true, device: Some(device) }),
        MountSource::FileSystem { kind, source, options } => {
            let short = overlay::shortened(kind, options).map(|(_, options)| options);
            let options = short.as_ref().unwrap_or(options);
            let texts = options.iter().flat_map(|(key, value)| [key, value]).chain([kind, source]);
            // What fsconfig(2) takes.
            match texts.into_iter().find(|text| text.len() > LONGEST || text.contains('\0')) {
                Some(text) => Err(Error::invalid("", format!("{text:?} is no option of a mount: at most 255 bytes"))),
                None => Ok(Seen::default()),
            }
        }
        MountSource::Tmpfs { .. } => Ok(Seen::default()),
    };
    seen.unwrap_or_else(|error| {
        no.push(error.with_field(format!("{field}.source")));
        Seen::default()
    })
}

/// A new one, or the root of one that there is.
fn is_proc(source: &MountSource) -> bool {
    match source {
        MountSource::FileSystem { kind, .. } => kind == "proc",
        // What is not there is told by others. 1 is the root's inode.
        MountSource::Bind(path) => rustix::fs::statfs(path).map_or(true, |all| {
            all.f_type == rustix::fs::PROC_SUPER_MAGIC && rustix::fs::stat(path).is_ok_and(|root| root.st_ino == 1)
        }),
        _ => false,
    }
}

/// Absolute and without what would be cut; `..` is walked inside.
fn clean(path: &Path) -> Result<(), String> {
    use std::os::unix::ffi::OsStrExt as _;
    let text = path.as_os_str().as_bytes();
    if !path.is_absolute() || text.len() > 4000 || text.iter().any(|byte| *byte == 0 || *byte == b'\n') {
        return Err(format!("{} is no absolute path that can be used here", path.display()));
    }
    if path.components().all(|part| !matches!(part, std::path::Component::Normal(_))) {
        return Err("the root itself is chosen by rootfs, not by a mount".into());
    }
    Ok(())
}

/// What only a list can have, and what a list cannot have beside it.
pub(super) fn beside(no: &mut Refusals, spec: &ContainerSpec, machine: &Machine, cgroups: &Cgroups) {
    check_rules(no, spec, machine, cgroups);
    if let Some(maps) = &spec.id_maps {
        if spec.user_namespace != UserNamespace::Own {
            no.add("id_maps", "ids are mapped in a user namespace of the container's own");
        }
        if let Some((what, why)) = maps.wrong() {
            no.add(format!("id_maps.{what}"), why);
        }
    }
    if let Some(name) = &spec.domainname
        && (name.is_empty() || name.len() > 64 || name.contains(['\0', '\n']))
    {
        no.add("domainname", format!("{name:?} is no domain name: 1 to 64 bytes"));
    }
    if !spec.listed {
        for (field, given) in [
            ("devices", !spec.devices.is_empty()),
            ("root_propagation", spec.root_propagation != 0),
            ("no_pivot", spec.no_pivot),
            ("mount_label", spec.mount_label.is_some()),
        ] {
            if given {
                no.add(field, "it is for a container whose mounts are listed");
            }
        }
        return;
    }
    if spec.mount_label.is_some() && !super::labels::selinux() {
        let why = "SELinux is not enabled on this machine";
        no.push(Error::new(ErrorKind::Unsupported, why).with_field("mount_label"));
    }
    let one = matches!(spec.rootfs, Rootfs::Dir { access: super::Access::ReadOnly | super::Access::ReadWrite, .. });
    if !one || spec.rootfs_provider.is_some() {
        no.add("rootfs", "a container whose mounts are listed has one directory, which is read or written");
    }
    for (field, given) in [("files", !spec.files.is_empty()), ("pasta", spec.pasta.is_some())] {
        if given {
            no.add(field, "a container whose mounts are listed has nothing else");
        }
    }
    for (index, mount) in spec.mounts.iter().enumerate() {
        if let Some(exact) = &mount.exact {
            check_exact(no, spec, machine, &format!("mounts[{index}]"), (&mount.source, exact));
        }
    }
    for (index, node) in spec.devices.iter().enumerate() {
        if let Err(error) = check_node(node, spec, machine) {
            no.push(error.with_field(format!("devices[{index}]")));
        }
    }
}

/// Of a mount's options those that cannot be had everywhere.
fn check_exact(
    no: &mut Refusals,
    spec: &ContainerSpec,
    machine: &Machine,
    field: &str,
    (source, exact): (&MountSource, &Exact),
) {
    if exact.copy_up && !matches!(source, MountSource::FileSystem { kind, .. } if kind == "tmpfs") {
        no.add(format!("{field}.options"), "tmpcopyup is an option of a tmpfs");
    }
    if exact.copy_up && exact.remount {
        no.add(format!("{field}.options"), "tmpcopyup is about what is new, and remount about what is there");
    }
    let Some(ids) = &exact.ids else { return };
    let field = format!("{field}.uidMappings");
    if !matches!(source, MountSource::Bind(_)) {
        no.add(field, "the ids of a bind mount alone can be mapped");
    } else if !machine.whole {
        let why = "only root can map the ids of a mount (MOUNT_ATTR_IDMAP)";
        no.push(Error::new(ErrorKind::Unsupported, why).with_field(field));
    } else if let Some((what, why)) = ids.maps.as_ref().and_then(IdRanges::wrong) {
        no.add(field, format!("{what}: {why}"));
    } else if ids.maps.is_none() && spec.user_namespace == UserNamespace::Host {
        no.add(field, "without maps those of the container's user namespace are meant, and it has none");
    }
}

fn check_rules(no: &mut Refusals, spec: &ContainerSpec, machine: &Machine, cgroups: &Cgroups) {
    if spec.device_rules.is_empty() || spec.device_rules_if_possible {
        return;
    }
    let why = match (machine.whole, cgroups.has_v2()) {
        (false, _) => {
            "only root can have rules of devices; an ordinary user's containers have no devices but the user's"
        }
        (_, false) => "rules of devices need a cgroup of version 2",
        _ => {
            if spec.device_rules.len() > MOST_DEVICE_RULES {
                no.add("device_rules", format!("{} rules; {MOST_DEVICE_RULES} are possible", spec.device_rules.len()));
            }
            return;
        }
    };
    no.push(Error::new(ErrorKind::Unsupported, why).with_field("device_rules"));
}

fn check_node(node: &DeviceNode, spec: &ContainerSpec, machine: &Machine) -> Result<(), Error> {
    clean(&node.path).map_err(|why| Error::invalid("", why))?;
    if node.mode & !0o7777 != 0 {
        return Err(Error::invalid("", format!("{:o} is no mode", node.mode)));
    }
    if makes_nodes(spec, machine) || node.kind == NodeKind::Fifo {
        return Ok(());
    }
    let found = device(&node.path)?;
    let wanted = Device { rdev: node.rdev, block: node.kind == NodeKind::Block };
    if found == wanted {
        return Ok(());
    }
    let why =
        format!("{} of the host is another device, and nobody can make one in a user namespace", node.path.display());
    Err(Error::new(ErrorKind::Unsupported, why))
}

/// Device nodes can be made for the container, and are devices in it.
pub(crate) fn makes_nodes(spec: &ContainerSpec, machine: &Machine) -> bool {
    machine.whole && spec.user_namespace == UserNamespace::Host
}
