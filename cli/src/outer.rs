//! What is around us: an outer container's engine, and what is mounted.

use std::fs;
use std::path::{Path, PathBuf};

/// Mount points in /proc that hide nothing: the kernel keeps these directories empty for them.
const HARMLESS: [&str; 2] = ["/proc/sys/fs/binfmt_misc", "/proc/fs/nfsd"];

/// The container engine around us.
pub(crate) fn engine() -> Option<&'static str> {
    if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
        return Some("kubernetes");
    }
    if Path::new("/run/.containerenv").exists() {
        return Some("podman");
    }
    Path::new("/.dockerenv").exists().then_some("docker")
}

/// A line of /proc/self/mountinfo, as far as it is needed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) point: String,
    pub(crate) kind: String,
    pub(crate) read_only: bool,
}

pub(crate) fn mounts() -> impl Iterator<Item = Mount> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    text.lines().filter_map(mount).collect::<Vec<_>>().into_iter()
}

fn mount(line: &str) -> Option<Mount> {
    let (fixed, rest) = line.split_once(" - ")?;
    let mut fixed = fixed.split(' ').skip(4);
    let (point, options) = (fixed.next()?, fixed.next()?);
    let read_only = options.split(',').any(|option| option == "ro");
    Some(Mount { point: point.into(), kind: rest.split(' ').next()?.into(), read_only })
}

/// What is mounted over parts of /proc.
pub(crate) fn masked_proc() -> Vec<String> {
    let below = |mount: &Mount| mount.point.starts_with("/proc/") && !HARMLESS.contains(&mount.point.as_str());
    mounts().filter(below).map(|mount| mount.point).collect()
}

/// What makes a new /proc possible, where something hides parts of ours.
pub(crate) fn fix_for_proc() -> Option<String> {
    let masked = masked_proc();
    if masked.is_empty() {
        return None;
    }
    Some(match engine() {
        Some("kubernetes") => "in the pod: securityContext: {procMount: Unmasked}, hostUsers: false".into(),
        Some("podman") => "podman run --security-opt unmask=ALL ...".into(),
        Some(engine) => format!("{engine} run --security-opt systempaths=unconfined ..."),
        None => format!("sudo umount {}", masked.join(" ")),
    })
}

/// The cgroup of version 2 that a process is in.
pub(crate) fn cgroup2_of(pid: i32) -> Option<PathBuf> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let mount = mounts().find(|mount| mount.kind == "cgroup2")?;
    Some(Path::new(&mount.point).join(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_with_and_without_optional_fields() {
        let line = "35 31 0:32 / /proc/kcore ro,nosuid shared:1 - tmpfs tmpfs rw,size=64k";
        let expected = Mount { point: "/proc/kcore".into(), kind: "tmpfs".into(), read_only: true };
        assert_eq!(mount(line), Some(expected));
        assert!(!mount("1 0 0:1 / /proc rw - proc proc ro").unwrap().read_only);
        assert_eq!(mount("broken"), None);
    }
}
