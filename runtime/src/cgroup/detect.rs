//! Which cgroup hierarchies this process can see, and where in each it stands: from `/proc/self/mountinfo` and
//! `/proc/self/cgroup`, verified on the opened directory. Nothing here assumes `/sys/fs/cgroup`.

use super::dir::Dir;
use super::error::CgroupError;
use rustix::fs as rfs;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

const CGROUP_MAGIC: u64 = 0x0027_e0eb;
const CGROUP2_MAGIC: u64 = 0x6367_7270;

/// A controller that this module writes to or reads from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Controller {
    Memory,
    Pids,
    Cpu,
    Cpuacct,
    Cpuset,
    Freezer,
    Io,
    Hugetlb,
    Rdma,
    NetCls,
    NetPrio,
    Misc,
    Dmem,
    /// Of the groups of version 2 themselves.
    Core,
    /// One that we know nothing of.
    Unknown,
}

impl Controller {
    /// Its name in `cgroup.controllers` of v2, where that has it, and in v1.
    pub(super) fn name(self) -> &'static str {
        match self {
            Controller::Memory => "memory",
            Controller::Pids => "pids",
            Controller::Cpu => "cpu",
            Controller::Cpuacct => "cpuacct",
            Controller::Cpuset => "cpuset",
            Controller::Freezer => "freezer",
            Controller::Io => "io",
            Controller::Hugetlb => "hugetlb",
            Controller::Rdma => "rdma",
            Controller::NetCls => "net_cls",
            Controller::NetPrio => "net_prio",
            Controller::Misc => "misc",
            Controller::Dmem => "dmem",
            Controller::Core => "cgroup",
            Controller::Unknown => "such",
        }
    }

    /// It counts for few, and costs everybody who has it.
    pub(super) fn is_rare(self) -> bool {
        matches!(self, Controller::Hugetlb | Controller::Rdma | Controller::Misc | Controller::Dmem)
    }

    /// The one of this name in either version.
    pub(super) fn named(name: &str) -> Option<Controller> {
        let all = Controller::V1.into_iter().chain(Controller::V2).chain([Controller::Core]);
        all.into_iter().find(|controller| controller.name() == name || controller.legacy_name() == name)
    }

    /// Its name in mount options and `/proc/self/cgroup` of v1.
    pub(super) fn legacy_name(self) -> &'static str {
        if self == Controller::Io { "blkio" } else { self.name() }
    }

    pub(super) const V1: [Controller; 11] = [
        Controller::Memory,
        Controller::Pids,
        Controller::Cpu,
        Controller::Cpuacct,
        Controller::Cpuset,
        Controller::Freezer,
        Controller::Io,
        Controller::Hugetlb,
        Controller::Rdma,
        Controller::NetCls,
        Controller::NetPrio,
    ];

    /// In this order: a domain controller first, so that "no internal processes" shows before anything is changed.
    pub(super) const V2: [Controller; 9] = [
        Controller::Memory,
        Controller::Io,
        Controller::Pids,
        Controller::Cpu,
        Controller::Cpuset,
        Controller::Hugetlb,
        Controller::Rdma,
        Controller::Misc,
        Controller::Dmem,
    ];
}

/// The version of one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    V2,
    V1(Vec<Controller>),
}

/// One cgroup mount of `/proc/self/mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) device: (u32, u32),
    pub(super) root: PathBuf,
    pub(super) point: PathBuf,
    pub(super) kind: Kind,
}

/// A hierarchy that can be reached, and the components from its mount's top to our own group (`Err`: why unknown).
#[derive(Debug)]
pub(super) struct Hierarchy {
    pub(super) kind: Kind,
    pub(super) top: Dir,
    pub(super) own: Result<Vec<OsString>, String>,
}

/// Opens every distinct hierarchy.
pub(super) fn hierarchies() -> Result<Vec<Hierarchy>, CgroupError> {
    let found = tops(|_| true)?;
    let own = parse_self_cgroup(&read("/proc/self/cgroup")?);
    let placed = |(mount, top): (Mount, Dir)| Hierarchy { own: place_of(&mount, &own), kind: mount.kind, top };
    Ok(found.into_iter().map(placed).collect())
}

/// The tops of those that are wanted. A mount that another one hides (a cgroup2 over the v1 tree) is left out: what its
/// path leads to has another device or another type of file system.
pub(super) fn tops(wanted: impl Fn(&Kind) -> bool) -> Result<Vec<(Mount, Dir)>, CgroupError> {
    opened(parse_mountinfo(&read("/proc/self/mountinfo")?), wanted)
}

/// The hierarchy without controllers by which systemd knows its processes where there is no version 2.
pub(super) fn of_systemd() -> Result<Vec<(Mount, Dir)>, CgroupError> {
    let text = read("/proc/self/mountinfo")?;
    opened(text.split(|b| *b == b'\n').filter_map(parse_mount_of_systemd).collect(), |_| true)
}

fn opened(mounts: Vec<Mount>, wanted: impl Fn(&Kind) -> bool) -> Result<Vec<(Mount, Dir)>, CgroupError> {
    let mut found: Vec<(Mount, Dir)> = Vec::new();
    for mount in mounts {
        if !wanted(&mount.kind) || found.iter().any(|(other, _)| other.kind == mount.kind) {
            continue;
        }
        let top = Dir::open(&mount.point).ok().filter(|top| is_that_mount(top, &mount));
        found.extend(top.map(|top| (mount, top)));
    }
    Ok(found)
}

fn read(path: &str) -> Result<Vec<u8>, CgroupError> {
    crate::sys::text(path).map_err(|e| CgroupError::sys("read", path, e))
}

fn is_that_mount(top: &Dir, mount: &Mount) -> bool {
    let magic = if mount.kind == Kind::V2 { CGROUP2_MAGIC } else { CGROUP_MAGIC };
    let (Ok(system), Ok(stat)) = (rfs::fstatfs(top), rfs::fstat(top)) else {
        return false;
    };
    let device = (rfs::major(stat.st_dev), rfs::minor(stat.st_dev));
    u64::try_from(system.f_type).is_ok_and(|t| t == magic) && device == mount.device
}

/// The cgroup mounts with a controller of ours, or version 2, in the order of the file.
pub(super) fn parse_mountinfo(text: &[u8]) -> Vec<Mount> {
    text.split(|b| *b == b'\n').filter_map(parse_mount).collect()
}

fn parse_mount(line: &[u8]) -> Option<Mount> {
    let mount = parse_any_mount(line).map(|(mount, _)| mount);
    mount.filter(|mount| mount.kind != Kind::V1(Vec::new()))
}

fn parse_mount_of_systemd(line: &[u8]) -> Option<Mount> {
    let (mount, options) = parse_any_mount(line)?;
    options.split(|b| *b == b',').any(|option| option == b"name=systemd").then_some(mount)
}

/// One of either version, and the options of its file system.
fn parse_any_mount(line: &[u8]) -> Option<(Mount, &[u8])> {
    let fields: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
    // "-" ends the optional fields, of which there may be none; the six before it are fixed.
    let dash = 6 + fields.get(6..)?.iter().position(|f| *f == b"-")?;
    let kind = match *fields.get(dash + 1)? {
        b"cgroup2" => Kind::V2,
        b"cgroup" => {
            let options: Vec<&[u8]> = fields.get(dash + 3)?.split(|b| *b == b',').collect();
            let has = |c: &Controller| options.contains(&c.legacy_name().as_bytes());
            Kind::V1(Controller::V1.into_iter().filter(has).collect())
        }
        _ => return None,
    };
    let (major, minor) = std::str::from_utf8(fields[2]).ok()?.split_once(':')?;
    let device = (major.parse().ok()?, minor.parse().ok()?);
    let mount = Mount { device, root: unescape(fields[3]), point: unescape(fields[4]), kind };
    Some((mount, fields.get(dash + 3).copied().unwrap_or_default()))
}

/// Blank, tab, newline and backslash stand as `\ooo` in mountinfo.
fn unescape(text: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|d| *first == b'\\' && d.iter().all(|b| (b'0'..=b'7').contains(b)));
        let value = octal.map(|d| d.iter().fold(0u16, |n, b| n * 8 + u16::from(b - b'0')));
        if let Some(byte) = value.and_then(|v| u8::try_from(v).ok()) {
            out.push(byte);
            rest = &after[3..];
        } else {
            out.push(*first);
            rest = after;
        }
    }
    PathBuf::from(OsString::from_vec(out))
}

/// Each line of `/proc/self/cgroup`: the controller names (empty for v2) and the path.
pub(super) fn parse_self_cgroup(text: &[u8]) -> Vec<(Vec<String>, PathBuf)> {
    let line = |line: &[u8]| {
        let mut parts = line.splitn(3, |b| *b == b':');
        let (_, names, path) = (parts.next()?, parts.next()?, parts.next()?);
        let names = std::str::from_utf8(names).ok()?.split(',').filter(|n| !n.is_empty()).map(String::from).collect();
        Some((names, PathBuf::from(OsStr::from_bytes(path))))
    };
    text.split(|b| *b == b'\n').filter_map(line).collect()
}

fn place_of(mount: &Mount, own: &[(Vec<String>, PathBuf)]) -> Result<Vec<OsString>, String> {
    let ours = |names: &Vec<String>| match &mount.kind {
        Kind::V2 => names.is_empty(),
        Kind::V1(controllers) => controllers.iter().any(|c| names.iter().any(|n| n == c.legacy_name())),
    };
    let (_, path) = own.iter().find(|(names, _)| ours(names)).ok_or("/proc/self/cgroup does not list it")?;
    below(&mount.root, path).ok_or_else(|| {
        format!("our own group {} is outside of what is mounted at {}", path.display(), mount.point.display())
    })
}

/// The components from a mount's root to our group; `None` if the mount does not show it.
fn below(root: &Path, own: &Path) -> Option<Vec<OsString>> {
    normal(own.strip_prefix(root).ok()?)
}

/// The components of a path, without a leading `/`; `None` if one of them is `..`.
pub(super) fn normal(path: &Path) -> Option<Vec<OsString>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name.to_os_string()),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &[u8] = b"\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 master:2 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/abc /mnt/a\\040b ro - cgroup cgroup rw,memory
39 31 0:36 / /sys/fs/cgroup/blkio rw,relatime - cgroup cgroup rw,blkio
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
broken
";

    #[test]
    fn mounts_are_found_wherever_they_are() {
        let mounts = parse_mountinfo(INFO);
        assert_eq!(mounts.len(), 4);
        assert_eq!(mounts[0].kind, Kind::V1(vec![Controller::Cpu, Controller::Cpuacct]));
        assert_eq!(mounts[1].point, Path::new("/mnt/a b"));
        assert_eq!(mounts[1].root, Path::new("/docker/abc"));
        assert_eq!(mounts[1].device, (0, 32));
        assert_eq!(mounts[2].kind, Kind::V1(vec![Controller::Io]));
        assert_eq!(mounts[3].kind, Kind::V2);
        let named: Vec<_> = INFO.split(|b| *b == b'\n').filter_map(parse_mount_of_systemd).collect();
        assert_eq!((named.len(), &named[0].kind, named[0].device), (1, &Kind::V1(Vec::new()), (0, 37)));
    }

    #[test]
    fn own_group_is_found_below_the_mounts_root() {
        let own = parse_self_cgroup(b"4:memory:/docker/abc/x:y\n1:cpu,cpuacct:/\n0::/a/b\n9:name=systemd:/\n");
        let mounts = parse_mountinfo(INFO);
        let names = |list: &[&str]| Ok(list.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(place_of(&mounts[0], &own), names(&[]));
        assert_eq!(place_of(&mounts[1], &own), names(&["x:y"]));
        assert_eq!(place_of(&mounts[3], &own), names(&["a", "b"]));
        assert!(place_of(&mounts[1], &parse_self_cgroup(b"4:memory:/other\n")).is_err());
        assert!(place_of(&mounts[3], &parse_self_cgroup(b"0::/../x\n")).is_err());
        assert!(place_of(&mounts[3], &[]).is_err());
    }

    #[test]
    fn escapes() {
        assert_eq!(unescape(b"/a\\134b\\011"), Path::new("/a\\b\t"));
        assert_eq!(unescape(b"/a\\9\\777\\04"), Path::new("/a\\9\\777\\04"));
    }
}
