//! Containers made of a config.json, looked at from inside.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use orangery_runtime::spec::{Stdio, oci};
use orangery_runtime::{Container, Errors};
use orangery_tests::host::{Outcome, outcome};
use orangery_tests::{Host, Scene, wait};
use rustix::fs::{CWD, FileType, Mode, makedev};
use serde_json::{Value, json};

use crate::options;

/// A bundle whose root has the probe and nothing else.
pub(crate) struct Bundle {
    pub(crate) dir: PathBuf,
    pub(crate) config: Value,
}

/// All namespaces, and for an ordinary user ids: a config.json that runs the probe with `args`.
pub(crate) fn bundle(scene: &Scene, args: &[&str]) -> Bundle {
    let dir = scene.dir().join("bundle");
    let rootfs = dir.join("rootfs");
    fs::create_dir_all(&rootfs).expect("a root");
    fs::copy(scene.probe(), rootfs.join("probe")).expect("the probe");
    fs::set_permissions(rootfs.join("probe"), fs::Permissions::from_mode(0o755)).expect("its mode");
    let mut namespaces = vec!["pid", "ipc", "uts", "mount", "network", "cgroup"];
    if !scene.root() {
        namespaces.push("user");
    }
    let mut linux = json!({"namespaces": namespaces.iter().map(|kind| json!({"type": kind})).collect::<Vec<_>>()});
    if !scene.root() {
        let one = |id: u32| json!([{"containerID": 0, "hostID": id, "size": 1}]);
        linux["uidMappings"] = one(rustix::process::geteuid().as_raw());
        linux["gidMappings"] = one(rustix::process::getegid().as_raw());
    }
    let args: Vec<&str> = ["/probe"].into_iter().chain(args.iter().copied()).collect();
    let config = json!({
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs"},
        "process": {"user": {"uid": 0, "gid": 0}, "args": args, "env": ["PATH=/"], "cwd": "/"},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        ],
        "linux": linux,
    });
    Bundle { dir, config }
}

impl Bundle {
    pub(crate) fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    pub(crate) fn mount(&mut self, mount: Value) {
        self.config["mounts"].as_array_mut().expect("a list").push(mount);
    }

    pub(crate) async fn create(&self, host: &Host) -> Result<Box<dyn Container>, Errors> {
        let (mut spec, mut main) = oci::parse(&self.dir, self.config.to_string().as_bytes())?;
        spec.id = "bundle".into();
        spec.cgroups_path = None;
        (main.stdout, main.stderr) = (Stdio::Piped, Stdio::Piped);
        host.create(spec, main).await
    }

    pub(crate) async fn run(&self, host: &Host) -> Outcome {
        let container = self.create(host).await.unwrap_or_else(|errors| panic!("create: {errors}"));
        let started = wait::soon("start", container.start()).await.unwrap_or_else(|error| panic!("start: {error}"));
        let outcome = outcome(started).await;
        wait::soon("delete", container.delete()).await.expect("deleted");
        outcome
    }

    pub(crate) async fn refused(&self, host: &Host) -> String {
        match self.create(host).await {
            Ok(_) => panic!("it was not refused: {}", self.config),
            Err(errors) => errors.to_string(),
        }
    }
}

/// Where things are mounted, in the order in which that was done.
fn targets(seen: &Value) -> Vec<&str> {
    let lines = seen["mountinfo"].as_array().expect("lines").iter().filter_map(Value::as_str);
    lines.filter_map(|line| line.split(' ').nth(4)).collect()
}

/// The default of podman 4.3.1 as root, shortened where it repeats itself.
pub(crate) fn a_bundle_as_podman_writes_it(scene: &Scene) {
    let paths =
        ["/dev/null", "/dev/fuse", "/dev/ptmx", "/proc/version", "/proc/acpi", "/deep/work", "/etc/hosts", "/file"];
    let mut bundle = bundle(scene, &["see"]);
    let args = &mut bundle.config["process"]["args"];
    args.as_array_mut().expect("a list").extend(paths.iter().map(|path| json!(path)));
    fs::write(bundle.dir.join("hosts"), "127.0.0.1 here\n").expect("a file");
    bundle.config["root"]["readonly"] = true.into();
    bundle.config["hostname"] = "fruit".into();
    bundle.config["domainname"] = "orchard".into();
    bundle.config["annotations"] = json!({"io.container.manager": "libpod"});
    let caps = json!(["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    bundle.config["process"] = json!({
        "user": {"uid": 1000, "gid": 1001, "umask": 0o27, "additionalGids": [1001, 7]},
        "args": bundle.config["process"]["args"], "env": ["PATH=/", "TERM=xterm", "container=podman"],
        "cwd": "/deep/work", "oomScoreAdj": 7,
        "capabilities": {"bounding": caps, "effective": [], "permitted": [], "inheritable": []},
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 512, "soft": 256}, {"type": "RLIMIT_NPROC", "hard": 999, "soft": 99}],
    });
    let list = json!([
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/etc/hosts", "type": "bind", "source": bundle.dir.join("hosts"), "options": ["bind", "rprivate"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
            "options": ["rprivate", "nosuid", "noexec", "nodev", "size=64000k"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": ["rprivate", "nosuid", "noexec", "nodev", "relatime", "ro"]},
    ]);
    // A bind mount is numbered when its source is opened.
    let made = list.as_array().expect("a list").iter().filter(|mount| mount["type"] != "bind");
    let order: Vec<String> = made.map(|mount| mount["destination"].as_str().expect("a path").to_owned()).collect();
    bundle.config["mounts"] = list;
    let linux = &mut bundle.config["linux"];
    linux["sysctl"] = json!({"net.ipv4.ping_group_range": "0 0"});
    linux["cgroupsPath"] = "/libpod_parent/libpod-1".into();
    linux["resources"] = json!({"devices": [{"allow": false, "access": "rwm"}], "pids": {"limit": 2048}, "cpu": {}});
    linux["devices"] =
        json!([{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o620, "uid": 3, "gid": 4}]);
    linux["maskedPaths"] = json!(["/proc/acpi", "/proc/version", "/proc/no-such-thing", "/sys/firmware"]);
    linux["readonlyPaths"] = json!(["/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"]);
    linux["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [{"names": ["mkdirat", "mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99}],
    });
    scene.play(async |host| {
        let seen = bundle.run(host).await.json();
        let mounted = targets(&seen);
        let at: Vec<usize> = order
            .iter()
            .map(|path| mounted.iter().position(|at| at == path).unwrap_or_else(|| panic!("{path}: {seen}")))
            .collect();
        assert!(at.is_sorted(), "{mounted:?}");
        for (at, has) in [
            ("/", "ro"),
            ("/dev", "nosuid"),
            ("/sys", "ro,nosuid,nodev,noexec"),
            ("/proc/sys", "ro"),
            ("/sys/fs/cgroup", "ro"),
            ("/dev/shm", "rw,nosuid,nodev,noexec"),
        ] {
            assert!(
                options(&seen, at).starts_with(has) || options(&seen, at).contains(has),
                "{at}: {}",
                options(&seen, at)
            );
        }
        assert!(!options(&seen, "/").contains("nosuid") && !options(&seen, "/etc/hosts").contains("nodev"), "{seen}");
        let path = |path: &str| seen["paths"][path].clone();
        assert_eq!(
            (path("/dev/null")["kind"].clone(), path("/dev/null")["mode"].clone()),
            ("char".into(), "666".into())
        );
        let fuse = path("/dev/fuse");
        assert_eq!(
            (&fuse["content"], &fuse["mode"], &fuse["uid"], &fuse["gid"]),
            (&"10:229".into(), &"620".into(), &3.into(), &4.into())
        );
        assert_eq!(path("/dev/ptmx")["content"], "pts/ptmx");
        assert_eq!(
            (path("/proc/version")["kind"].clone(), path("/proc/acpi")["content"].clone()),
            ("char".into(), json!([]))
        );
        assert_eq!(
            (path("/etc/hosts")["content"].clone(), seen["hostname"].clone()),
            ("127.0.0.1 here\n".into(), "fruit".into())
        );
        let status = &seen["status"];
        assert_eq!(
            (&status["Uid"], &status["Gid"], &status["Groups"]),
            (&"1000\t1000\t1000\t1000".into(), &"1001\t1001\t1001\t1001".into(), &"7 1001".into())
        );
        assert_eq!(
            (&status["Seccomp"], &status["NoNewPrivs"], &status["Umask"]),
            (&"2".into(), &"0".into(), &"0027".into())
        );
        assert_eq!((&status["CapBnd"], &status["CapEff"]), (&"0000000000000421".into(), &"0000000000000000".into()));
        assert_eq!((&seen["cwd"], &seen["oom_score_adj"]), (&"/deep/work".into(), &"7".into()));
        let limits = seen["limits"].to_string();
        assert!(limits.contains("Max open files            256                  512"), "{limits}");
        assert_eq!(seen["pid"], 1, "{seen}");
    });
    assert!(bundle.rootfs().join("deep/work").is_dir(), "it was made before the root was read-only");
}

pub(crate) fn the_mounts_of_a_list_in_their_order(scene: &Scene) {
    let mut bundle = bundle(scene, &["see", "/a/b/file", "/link/in", "/t"]);
    let data = bundle.dir.join("data");
    fs::create_dir_all(data.join("b")).expect("directories");
    fs::write(data.join("b/file"), "below").expect("a file");
    fs::write(bundle.dir.join("one"), "above").expect("a file");
    symlink("/a", bundle.rootfs().join("link")).expect("a link");
    bundle.mount(
        json!({"destination": "/a", "type": "bind", "source": "data", "options": ["rbind", "noexec", "rprivate"]}),
    );
    bundle.mount(json!({"destination": "/a/b/file", "type": "bind", "source": "one", "options": ["bind", "ro"]}));
    // Through a link of the image, to a directory that is not there.
    bundle.mount(json!({"destination": "/link/in", "type": "tmpfs", "source": "t", "options": ["mode=700", "size=4k", "nr_inodes=9"]}));
    bundle.mount(
        json!({"destination": "t/../t", "type": "tmpfs", "source": "t", "options": ["nodev", "noatime", "rnosuid"]}),
    );
    scene.play(async |host| {
        let seen = bundle.run(host).await.json();
        assert_eq!(seen["paths"]["/a/b/file"]["content"], "above", "{seen}");
        assert_eq!(
            (&seen["paths"]["/link/in"]["mode"], &seen["paths"]["/link/in"]["kind"]),
            (&"700".into(), &"dir".into())
        );
        assert!(options(&seen, "/a/b/file").starts_with("ro") && options(&seen, "/a").contains("noexec"), "{seen}");
        assert!(options(&seen, "/t").starts_with("rw,nosuid,nodev,noatime"), "{}", options(&seen, "/t"));
        assert!(
            seen["mountinfo"].to_string().contains(" /a/in rw")
                && seen["mountinfo"].to_string().contains("nr_inodes=9"),
            "{seen}"
        );
    });
}

/// Its own, of which files on the disk know nothing.
pub(crate) fn the_ids_of_a_bundle(scene: &Scene) {
    let mut bundle = bundle(scene, &["see", "/probe", "/dev/null"]);
    bundle.config["linux"]["namespaces"].as_array_mut().expect("a list").push(json!({"type": "user"}));
    let maps =
        json!([{"containerID": 0, "hostID": 300_000, "size": 10}, {"containerID": 20, "hostID": 300_010, "size": 5}]);
    bundle.config["linux"]["uidMappings"] = maps.clone();
    bundle.config["linux"]["gidMappings"] = maps;
    bundle.config["process"]["user"] = json!({"uid": 21, "gid": 0});
    for dir in [bundle.dir.clone(), bundle.rootfs()] {
        std::os::unix::fs::chown(&dir, Some(300_000), Some(300_000)).expect("given");
    }
    std::os::unix::fs::chown(bundle.rootfs().join("probe"), Some(300_011), None).expect("given");
    let (all, rdev) = (Mode::from_raw_mode(0o666), makedev(10, 237));
    rustix::fs::mknodat(CWD, bundle.rootfs().join("node"), FileType::CharacterDevice, all, rdev).expect("a node");
    rustix::fs::chmod(bundle.rootfs().join("node"), all).expect("open to all");
    scene.play(async |host| {
        let seen = bundle.run(host).await.json();
        assert_eq!(seen["status"]["Uid"], "21\t21\t21\t21");
        assert_eq!(
            (&seen["paths"]["/probe"]["uid"], &seen["paths"]["/dev/null"]["kind"]),
            (&21.into(), &"char".into())
        );
        // A node that the image brings along is no device: root has unpacked it, and no rules hold in there.
        bundle.config["process"]["args"] = json!(["/probe", "touch", "/node"]);
        assert_eq!(bundle.run(host).await.json()["errno"], libc::EACCES);
        bundle.config["process"]["user"] = json!({"uid": 15, "gid": 0});
        assert!(bundle.refused(host).await.contains("uid 15"));
        bundle.config["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 300_000, "size": 0}]);
        assert!(bundle.refused(host).await.contains("id_maps.uid"));
    });
}

pub(crate) fn namespaces_that_are_not_listed_are_shared(scene: &Scene) {
    let mut bundle = bundle(scene, &["see", "/sys/fs/cgroup/memory/cgroup.procs"]);
    bundle.config["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "network"}]);
    bundle.mount(json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]}));
    bundle.mount(json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]}));
    let ours =
        |kind: &str| fs::read_link(format!("/proc/self/ns/{kind}")).expect("a link").to_string_lossy().into_owned();
    scene.play(async |host| {
        let seen = bundle.run(host).await.json();
        for kind in ["pid", "ipc", "uts", "cgroup", "user"] {
            assert_eq!(seen["ns"][kind], ours(kind), "{kind}");
        }
        for kind in ["mnt", "net"] {
            assert_ne!(seen["ns"][kind], ours(kind), "{kind}");
        }
        // What is mounted begins at its own group all the same.
        let procs =
            seen["paths"]["/sys/fs/cgroup/memory/cgroup.procs"]["content"].as_str().unwrap_or_default().to_owned();
        assert!(!Path::new("/sys/fs/cgroup/memory").exists() || procs.lines().count() == 1, "{procs:?}");
        bundle.config["hostname"] = "fruit".into();
        assert!(bundle.refused(host).await.contains("hostname"));
    });
}

/// Links of the image lead where they would lead inside, also where nothing is yet.
pub(crate) fn the_root_of_a_bundle_is_not_left(scene: &Scene) {
    let mut bundle = bundle(scene, &["see", "/in/target"]);
    let outside = scene.dir().join("outside");
    fs::create_dir(&outside).expect("a directory");
    fs::write(bundle.dir.join("one"), "mounted").expect("a file");
    symlink(&outside, bundle.rootfs().join("abs")).expect("a link");
    symlink("../../../../in/target", bundle.rootfs().join("dots")).expect("a link");
    symlink("loop", bundle.rootfs().join("loop")).expect("a link");
    for (index, target) in ["/abs/file", "/dots"].into_iter().enumerate() {
        bundle.mount(json!({"destination": target, "type": "bind", "source": "one", "options": ["bind"]}));
        assert_eq!(bundle.config["mounts"][index + 2]["destination"], target);
    }
    scene.play(async |host| {
        let seen = bundle.run(host).await.json();
        assert_eq!(seen["paths"]["/in/target"]["content"], "mounted", "{seen}");
        assert!(fs::read_dir(&outside).expect("a directory").next().is_none(), "nothing was made outside");
        let inside = bundle.rootfs().join(outside.strip_prefix("/").expect("absolute")).join("file");
        assert!(inside.is_file(), "it was made inside");
        bundle.mount(json!({"destination": "/loop/x", "type": "tmpfs", "source": "t"}));
        assert!(bundle.refused(host).await.contains("mounts"));
    });
}

/// Whatever nodes there are and whatever it may make.
pub(crate) fn devices_that_no_rule_allows_cannot_be_opened(scene: &Scene) {
    let mut bundle = bundle(scene, &["touch", "/dev/loop-control"]);
    bundle.config["linux"]["devices"] =
        json!([{"path": "/dev/loop-control", "type": "c", "major": 10, "minor": 237, "fileMode": 0o666}]);
    let deny = json!({"allow": false, "access": "rwm"});
    scene.play(async |host| {
        // Opened and then not written to, or not even opened.
        let allow = |access: &str| json!({"allow": true, "type": "c", "major": 10, "minor": 237, "access": access});
        for (rules, errno) in [
            // Nobody has said anything: what every container may.
            (json!([]), libc::EPERM),
            (json!([deny, allow("rw")]), libc::EINVAL),
            (json!([deny, allow("r")]), libc::EPERM),
            (json!([allow("rwm"), deny]), libc::EPERM),
            (json!([deny]), libc::EPERM),
        ] {
            bundle.config["linux"]["resources"] = json!({"devices": rules});
            assert_eq!(bundle.run(host).await.json()["errno"], errno, "{rules}");
        }
        bundle.config["process"]["args"] = json!(["/probe", "touch", "/dev/null"]);
        assert_eq!(bundle.run(host).await.json()["errno"], 0, "what everybody has");
    });
}

/// Told by the kernel of the process itself.
pub(crate) fn how_a_process_is_scheduled(scene: &Scene) {
    let mut bundle = bundle(scene, &["see", "/proc/self/stat", "/proc/self/personality"]);
    bundle.config["linux"]["personality"] = json!({"domain": "LINUX32"});
    bundle.config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_IDLE", "priority": 3});
    bundle.config["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 7});
    scene.play(async |host| {
        let seen = bundle.run(host).await.json();
        let stat = seen["paths"]["/proc/self/stat"]["content"].as_str().expect("a line").to_owned();
        // Behind the name in brackets; 19 is nice, 41 the policy (proc_pid_stat(5)).
        let words: Vec<&str> = stat.rsplit(") ").next().expect("words").split(' ').collect();
        assert_eq!((words[19 - 3], words[41 - 3]), ("7", "3"), "{stat}");
        let personality = &seen["paths"]["/proc/self/personality"]["content"];
        assert!(personality.as_str().is_none_or(|text| text.trim() == "00000008"), "{personality}");
        bundle.config["process"]["ioPriority"]["priority"] = 8.into();
        assert!(bundle.refused(host).await.contains("process.ioPriority"));
    });
}

pub(crate) fn a_proc_of_the_image_is_not_taken_for_one(scene: &Scene) {
    let mut bundle = bundle(scene, &["see"]);
    fs::create_dir(bundle.rootfs().join("fake")).expect("a directory");
    symlink("/fake", bundle.rootfs().join("proc")).expect("a link");
    scene.play(async |host| {
        assert!(bundle.refused(host).await.contains("mounts"));
        fs::remove_file(bundle.rootfs().join("proc")).expect("removed");
        // A mount that a link leads into what the kernel tells.
        symlink("/proc/self", bundle.rootfs().join("etc")).expect("a link");
        bundle.mount(json!({"destination": "/etc/attr", "type": "tmpfs", "source": "t"}));
        assert!(bundle.refused(host).await.contains("mounts"));
        bundle.config["mounts"][2]["destination"] = "/proc/self".into();
        let refused = bundle.refused(host).await;
        assert!(refused.contains("mounts[2].target"), "{refused}");
    });
}
