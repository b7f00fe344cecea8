//! Bundles as callers write them.

use std::fs;
use std::path::PathBuf;

use orangery_tests::Scene;
use serde_json::{Value, json};

/// An ordinary one, called `name`, whose command is `args`; `change` makes something else of it.
pub(crate) fn bundle(scene: &Scene, name: &str, args: &[&str], change: impl FnOnce(&mut Value)) -> PathBuf {
    let image = scene.image(&format!("{name}/rootfs"));
    let caps = ["CAP_KILL", "CAP_NET_BIND_SERVICE"];
    let mut config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": args,
            "env": ["PATH=/bin", "WHO=bundle"],
            "cwd": "/",
            "noNewPrivileges": true,
            "capabilities": { "bounding": caps, "effective": caps, "permitted": caps },
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "bundled",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs" },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts" },
        ],
        "annotations": { "org.example.key": "value" },
        "linux": { "namespaces": [
            { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" },
        ] },
    });
    config["linux"]["cgroupsPath"] = cgroup(scene, name).into();
    change(&mut config);
    let bundle = image.parent().expect("a parent").to_path_buf();
    fs::write(bundle.join("config.json"), config.to_string()).expect("config.json");
    bundle
}

/// One more below each group of the only container.
pub(crate) fn groups_below(scene: &Scene) -> Vec<PathBuf> {
    let below = |group: PathBuf| {
        let below = group.join("below");
        fs::create_dir(&below).expect("a group below");
        if group.join("cpuset.cpus").exists() {
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let above = fs::read(group.join(file)).expect("the container's");
                fs::write(below.join(file), above).expect("the same");
            }
        }
        below
    };
    scene.cgroups().into_iter().map(below).collect()
}

/// A path in the trial's own group of each hierarchy.
pub(crate) fn cgroup(scene: &Scene, name: &str) -> String {
    let parent = scene.cgroup_parents().first().and_then(|parent| parent.file_name()).expect("a cgroup of the trial's");
    format!("/{}/{name}", parent.display())
}
