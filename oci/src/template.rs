//! `spec`: a config.json to begin with.

use std::path::Path;

use serde_json::{Value, json};

use crate::failure::Failure;

/// `spec`, whole: into the bundle, where there must be none yet.
///
/// # Errors
/// There is one, or it cannot be written.
pub(crate) fn spec(bundle: &Path, rootless: bool) -> Result<(), Failure> {
    use std::io::Write as _;
    let path = bundle.join("config.json");
    let text = serde_json::to_string_pretty(&template(rootless));
    let text = text.map_err(|error| Failure::new(format!("cannot be written as JSON: {error}")))?;
    let file = std::fs::OpenOptions::new().write(true).create_new(true).open(&path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Failure::new(format!("file {} exists. Remove it first", path.display())),
        _ => Failure::system(format!("cannot write {}", path.display()), error),
    })
}

fn template(rootless: bool) -> Value {
    let caps = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    let mut namespaces = vec!["pid", "network", "ipc", "uts", "mount", "cgroup"];
    if rootless {
        namespaces.retain(|kind| *kind != "network");
        namespaces.push("user");
    }
    let namespaces: Vec<Value> = namespaces.into_iter().map(|kind| json!({ "type": kind })).collect();
    let mut config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": true,
            "user": { "uid": 0, "gid": 0 },
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": { "bounding": caps, "effective": caps, "permitted": caps },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "orangery",
        "mounts": mounts(rootless),
        "linux": {
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": namespaces,
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    });
    if rootless {
        let map = |host: u32| json!([{ "containerID": 0, "hostID": host, "size": 1 }]);
        config["linux"]["uidMappings"] = map(rustix::process::geteuid().as_raw());
        config["linux"]["gidMappings"] = map(rustix::process::getegid().as_raw());
        config["linux"]["resources"] = json!({});
    }
    config
}

fn mounts(rootless: bool) -> Value {
    let sys = match rootless {
        // Without a network namespace of its own nobody mounts a sysfs.
        true => json!({ "destination": "/sys", "type": "none", "source": "/sys",
            "options": ["rbind", "nosuid", "noexec", "nodev", "ro"] }),
        false => json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs",
            "options": ["nosuid", "noexec", "nodev", "ro"] }),
    };
    let pts = match rootless {
        true => json!(["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
        false => json!(["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
    };
    let mut list = vec![
        json!({ "destination": "/proc", "type": "proc", "source": "proc" }),
        json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] }),
        json!({ "destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": pts }),
        json!({ "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
            "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] }),
        json!({ "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
            "options": ["nosuid", "noexec", "nodev"] }),
        sys,
    ];
    if !rootless {
        list.push(json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", "relatime", "ro"] }));
    }
    list.into()
}
