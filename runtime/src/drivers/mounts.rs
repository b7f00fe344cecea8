//! The mounts of a container in the words of a config.json.

use serde_json::{Value, json};

use super::{Layout, text};
use crate::spec::{Access, Exact, Mount, MountSource, Network, Propagation};

/// `MOUNT_ATTR_*`, what it is called and what the lack of it is called.
const ATTRIBUTES: [(u64, &str, &str); 6] = [
    (0x1, "ro", "rw"),
    (0x2, "nosuid", "suid"),
    (0x4, "nodev", "dev"),
    (0x8, "noexec", "exec"),
    (0x80, "nodiratime", "diratime"),
    (0x20_0000, "nosymfollow", "symfollow"),
];
/// One of them at a time; neither is `relatime`.
const ATIME: u64 = 0x70;
const NOATIME: u64 = 0x10;
const STRICTATIME: u64 = 0x20;

const MS_REC: u64 = 0x4000;
const PROPAGATIONS: [(u64, &str); 4] =
    [(1 << 20, "shared"), (1 << 19, "slave"), (1 << 18, "private"), (1 << 17, "unbindable")];

/// Private writable directories of a root of the user's, each with its mode: one file system of the container's size.
pub(crate) fn scratch(layout: &Layout<'_>) -> Vec<(&'static str, u32)> {
    let spec = layout.spec.container();
    if spec.listed {
        return Vec::new();
    }
    let shown: &[_] = match spec.rootfs.access() {
        _ if spec.plain_root => &[],
        Some(Access::ReadWrite | Access::Overlay) => &[("run", 0o755)],
        _ => &[("tmp", 0o1777), ("run", 0o755)],
    };
    shown.iter().copied().chain([("shm", 0o1777)]).collect()
}

/// All of them, in order.
pub(super) fn mounts(layout: &Layout<'_>) -> Vec<Value> {
    let spec = layout.spec.container();
    let mut all = if spec.listed { Vec::new() } else { of_every_container(layout) };
    for (index, mount) in spec.mounts.iter().enumerate() {
        all.push(one(layout, index, mount));
    }
    if layout.has_init() {
        let source = format!("{}/init", layout.place);
        all.push(entry(super::INIT, "bind", &source, ["bind", "ro", "nosuid", "nodev", "rprivate"]));
    }
    all
}

fn entry<'a>(target: &str, kind: &str, source: &str, options: impl IntoIterator<Item = &'a str>) -> Value {
    let options: Vec<&str> = options.into_iter().collect();
    json!({ "destination": target, "type": kind, "source": source, "options": options })
}

/// Who has no rights over a network cannot mount what shows it, and has a copy of the host's.
pub(super) fn copies_sys(layout: &Layout<'_>) -> bool {
    layout.spec.container().network != Network::None && layout.ids.is_some()
}

/// What a container has that lists nothing.
fn of_every_container(layout: &Layout<'_>) -> Vec<Value> {
    let spec = layout.spec.container();
    let safe = ["nosuid", "noexec", "nodev"];
    let mut pts = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    if layout.ids.is_none_or(|ids| ids.gid.has(5)) {
        pts.push("gid=5");
    }
    let mut all = vec![
        entry("/proc", "proc", "proc", safe),
        entry("/dev", "tmpfs", "tmpfs", ["nosuid", "noexec", "mode=0755", "size=64k", "nr_inodes=128"]),
        entry("/dev/pts", "devpts", "devpts", pts),
    ];
    if spec.mqueue {
        all.push(entry("/dev/mqueue", "mqueue", "mqueue", safe));
    }
    if copies_sys(layout) {
        all.push(entry("/sys", "bind", "/sys", safe.into_iter().chain(["rbind", "ro", "rprivate"])));
    } else {
        all.push(entry("/sys", "sysfs", "sysfs", safe.into_iter().chain(["ro"])));
    }
    if layout.unified {
        all.push(entry("/sys/fs/cgroup", "cgroup", "cgroup", safe.into_iter().chain(["ro"])));
    }
    for (name, _) in scratch(layout) {
        let (target, source) = match name {
            "shm" => ("/dev/shm".to_owned(), format!("{}/scratch/shm", layout.place)),
            name => (format!("/{name}"), format!("{}/scratch/{name}", layout.place)),
        };
        let more = if name == "shm" { &["noexec"][..] } else { &[] };
        all.push(entry(&target, "bind", &source, ["bind", "nosuid", "nodev", "rprivate"].iter().chain(more).copied()));
    }
    all
}

/// One that was asked for. What is the host's has been copied to our place, where the call finds it.
fn one(layout: &Layout<'_>, index: usize, mount: &Mount) -> Value {
    let source = format!("{}/binds/{index}", layout.place);
    let target = text(&mount.target);
    let own = match &mount.exact {
        Some(exact) => of_exact(exact, mount.source.path().is_some()),
        None => ours(mount),
    };
    match &mount.source {
        MountSource::Bind(_) | MountSource::Device(_) => {
            entry(&target, "bind", &source, own.iter().map(String::as_str))
        }
        MountSource::Tmpfs { size } => {
            let disk = layout.spec.container().disk;
            let more = [
                format!("size={}", size.unwrap_or(disk.bytes)),
                format!("nr_inodes={}", disk.inodes),
                "mode=1777".into(),
            ];
            entry(&target, "tmpfs", "tmpfs", own.iter().chain(&more).map(String::as_str))
        }
        MountSource::FileSystem { kind, source, options } => {
            let option = |(key, value): &(String, String)| match value.as_str() {
                "" => key.clone(),
                value => format!("{key}={value}"),
            };
            let mut options: Vec<String> = own.into_iter().chain(options.iter().map(option)).collect();
            // The attributes of a bind mount once more: they want a source that is there, and do not look at it.
            let alone = kind == "none";
            options.extend(alone.then(|| "bind".to_owned()));
            let source = if alone {
                "/"
            } else if source.is_empty() {
                kind
            } else {
                source
            };
            entry(&target, kind, source, options.iter().map(String::as_str))
        }
    }
}

fn ours(mount: &Mount) -> Vec<String> {
    let host = mount.source.path().is_some();
    let words = [
        (host, "rbind"),
        (true, "nosuid"),
        (!matches!(mount.source, MountSource::Device(_)), "nodev"),
        (mount.read_only, "ro"),
        (mount.no_exec, "noexec"),
        (host && mount.propagation == Propagation::Slave, "rslave"),
        (host && mount.propagation != Propagation::Slave, "rprivate"),
    ];
    words.into_iter().filter(|(said, _)| *said).map(|(_, word)| word.to_owned()).collect()
}

fn of_exact(exact: &Exact, bind: bool) -> Vec<String> {
    let mut words = Vec::new();
    if bind {
        words.push(if exact.single { "bind".to_owned() } else { "rbind".to_owned() });
    }
    for (set, clear, below) in [(exact.set_below, exact.clear_below, "r"), (exact.set, exact.clear, "")] {
        for (bit, on, off) in ATTRIBUTES {
            if set & bit != 0 {
                words.push(format!("{below}{on}"));
            } else if clear & bit != 0 {
                words.push(format!("{below}{off}"));
            }
        }
        let atime = match set & ATIME {
            NOATIME => Some("noatime"),
            STRICTATIME => Some("strictatime"),
            _ if clear & ATIME == ATIME => Some("relatime"),
            _ => None,
        };
        words.extend(atime.map(|word| format!("{below}{word}")));
    }
    for (given, word) in [(exact.copy_up, "tmpcopyup"), (exact.remount, "remount")] {
        words.extend(given.then(|| word.to_owned()));
    }
    for flags in &exact.propagation {
        let named = PROPAGATIONS.iter().find(|(bit, _)| flags & bit != 0);
        words.extend(named.map(|(_, word)| format!("{}{word}", if flags & MS_REC != 0 { "r" } else { "" })));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_options_are_written_as_they_were_read() {
        let exact = Exact { set: 0x1 | 0x2 | 0x10, clear: 0x8 | ATIME, single: true, ..Exact::default() };
        assert_eq!(of_exact(&exact, true), ["bind", "ro", "nosuid", "exec", "noatime"]);
        let below = Exact { set_below: 0x1, clear_below: 0x4, propagation: vec![1 << 19 | MS_REC], ..Exact::default() };
        assert_eq!(of_exact(&below, true), ["rbind", "rro", "rdev", "rslave"]);
        assert_eq!(of_exact(&Exact { clear: ATIME, ..Exact::default() }, false), ["relatime"]);
    }
}
