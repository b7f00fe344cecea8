//! Mounts of a bundle that begin with what lay there, and whose files belong to other ids.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

use orangery_tests::Scene;
use rustix::fs::{CWD, FileType, Mode};
use serde_json::{Value, json};

use crate::bundle::bundle;
use crate::options;

/// Kind, mode and content of what was seen.
fn three<'v>(seen: &'v Value, path: &str) -> (&'v Value, &'v Value, &'v Value) {
    let of = &seen["paths"][path];
    (&of["kind"], &of["mode"], &of["content"])
}

pub(crate) fn a_tmpfs_begins_with_what_lay_there(scene: &Scene) {
    let paths = ["/data", "/data/file", "/data/in/deep", "/data/link", "/data/pipe", "/data/set"];
    let mut bundle = bundle(scene, &["see"]);
    let args = bundle.config["process"]["args"].as_array_mut().expect("a list");
    args.extend(paths.iter().map(|path| json!(path)));
    let data = bundle.rootfs().join("data");
    fs::create_dir_all(data.join("in")).expect("directories");
    fs::write(data.join("file"), "x".repeat(70_000)).expect("a file");
    fs::write(data.join("in/deep"), "deep").expect("a file");
    fs::write(data.join("set"), "").expect("a file");
    symlink("/probe", data.join("link")).expect("a link");
    rustix::fs::mknodat(CWD, data.join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).expect("a pipe");
    for (path, mode) in [("", 0o751), ("file", 0o604), ("in", 0o710), ("set", 0o4755)] {
        fs::set_permissions(data.join(path), fs::Permissions::from_mode(mode)).expect("a mode");
    }
    if scene.root() {
        for path in ["", "in/deep", "link"] {
            std::os::unix::fs::lchown(data.join(path), Some(7), Some(8)).expect("given");
        }
    }
    bundle.mount(json!({"destination": "/data", "type": "tmpfs", "source": "t",
        "options": ["size=1m", "noexec", "tmpcopyup", "ro"]}));
    scene.play(async |host| {
        let seen = bundle.run(host).await.json();
        let text = |text: &str| json!(text);
        assert_eq!((three(&seen, "/data").0, three(&seen, "/data").1), (&text("dir"), &text("751")), "{seen}");
        assert!(options(&seen, "/data").starts_with("ro,noexec"), "{}", options(&seen, "/data"));
        assert_eq!(three(&seen, "/data/in/deep").2, "deep", "{seen}");
        assert_eq!(three(&seen, "/data/file").1, "604");
        assert_eq!(three(&seen, "/data/link").2, "/probe");
        assert_eq!((three(&seen, "/data/pipe").0, three(&seen, "/data/pipe").1), (&text("other"), &text("640")));
        assert_eq!(three(&seen, "/data/set").1, "4755");
        if host.root() {
            for path in ["/data", "/data/in/deep", "/data/link"] {
                let of = &seen["paths"][path];
                assert_eq!((&of["uid"], &of["gid"]), (&json!(7), &json!(8)), "{path}");
            }
        }
        let last = bundle.config["mounts"].as_array().expect("a list").len() - 1;
        // What is given is not what lay there.
        bundle.config["mounts"][last]["options"] = json!(["mode=700", "tmpcopyup"]);
        assert_eq!(three(&bundle.run(host).await.json(), "/data").1, "700");
        bundle.config["process"]["args"] = json!(["/probe", "touch", "/data/file"]);
        bundle.run(host).await;
        assert_eq!(fs::metadata(data.join("file")).expect("it is there").len(), 70_000, "the image is as it was");
        // It does not fit.
        bundle.config["mounts"][last]["options"] = json!(["size=16k", "tmpcopyup"]);
        assert!(bundle.refused(host).await.contains("mounts"));
        // A tree without an end, as far as we go.
        let mut deep = data.join("in");
        (0..70).for_each(|_| deep.push("d"));
        fs::create_dir_all(deep).expect("directories");
        bundle.config["mounts"][last]["options"] = json!(["tmpcopyup"]);
        assert!(bundle.refused(host).await.contains("mounts"));
    });
}

pub(crate) fn the_ids_of_a_mount_are_its_own(scene: &Scene) {
    let mut bundle = bundle(scene, &["see", "/a/file", "/a/other"]);
    let data = bundle.dir.join("data");
    fs::create_dir(&data).expect("a directory");
    fs::write(data.join("file"), "").expect("a file");
    fs::write(data.join("other"), "").expect("a file");
    if scene.root() {
        chown(data.join("other"), Some(3), Some(4)).expect("given");
    }
    let map = |first: u32| json!([{"containerID": 0, "hostID": first, "size": 10}]);
    let plain = json!({"destination": "/a", "type": "bind", "source": "data", "options": ["bind", "idmap"]});
    let with = |uid: u32, gid: u32, word: &str| {
        let mut mount = plain.clone();
        (mount["uidMappings"], mount["gidMappings"]) = (map(uid), map(gid));
        mount["options"] = json!(["rbind", word]);
        mount
    };
    bundle.mount(with(5000, 6000, "idmap"));
    let last = bundle.config["mounts"].as_array().expect("a list").len() - 1;
    let owner = |seen: &Value, path: &str| {
        let of = &seen["paths"][path];
        (of["uid"].as_u64().unwrap_or_default(), of["gid"].as_u64().unwrap_or_default())
    };
    scene.play(async |host| {
        if !host.root() {
            assert!(bundle.refused(host).await.contains("mounts[2].uidMappings"));
            return;
        }
        let seen = bundle.run(host).await.json();
        assert_eq!((owner(&seen, "/a/file"), owner(&seen, "/a/other")), ((5000, 6000), (5003, 6004)), "{seen}");
        bundle.config["mounts"][last] = with(5000, 6000, "ridmap");
        assert_eq!(owner(&bundle.run(host).await.json(), "/a/other"), (5003, 6004));
        bundle.config["mounts"][last] = plain.clone();
        assert!(bundle.refused(host).await.contains("mounts[2].uidMappings"), "whose would be meant");
        // The container's own are meant, where it has some; its root is as it is on the disk.
        bundle.config["linux"]["namespaces"].as_array_mut().expect("a list").push(json!({"type": "user"}));
        (bundle.config["linux"]["uidMappings"], bundle.config["linux"]["gidMappings"]) = (map(300_000), map(300_000));
        for dir in [bundle.dir.clone(), bundle.rootfs()] {
            chown(&dir, Some(300_000), Some(300_000)).expect("given");
        }
        let seen = bundle.run(host).await.json();
        assert_eq!((owner(&seen, "/a/file"), owner(&seen, "/a/other")), ((0, 0), (3, 4)), "{seen}");
        bundle.config["mounts"][last]["options"] = json!(["bind"]);
        assert_eq!(owner(&bundle.run(host).await.json(), "/a/file").0, 65_534, "nobody's without it");
    });
}
