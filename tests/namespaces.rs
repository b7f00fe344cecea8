//! What a container sees: its own namespaces, its root file system, and nothing of the host.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "test code: a panic is a failed trial")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use orangery_runtime::hand::Identity;
use orangery_runtime::spec::{Access, Mount, MountSource, Network, Rootfs, User, UserNamespace};
use orangery_runtime::{ContainerSpec, ErrorKind};
use orangery_tests::host::{command, outcome, probe, see};
use orangery_tests::{Host, Scene, trial};
use serde_json::Value;

fn main() -> ExitCode {
    orangery_tests::main(&[
        trial!(seven_namespaces_of_its_own),
        trial!(exec_joins_the_same_namespaces),
        trial!(two_containers_share_nothing),
        trial!(loopback_is_up_and_alone),
        trial!(the_hosts_network),
        trial!(the_hosts_user_ids, Root),
        trial!(host_user_ids_are_roots, User),
        trial!(own_ranges_differ_and_shared_ones_do_not, Root),
        trial!(subordinate_ids_of_root_win, Root, SubordinateFiles),
        trial!(the_cgroup_is_its_root, Cgroups),
        trial!(the_allow_list_and_nothing_else),
        trial!(the_private_directories_are_writable_and_private),
        trial!(a_made_etc_without_the_hosts_users),
        trial!(a_secret_of_a_service_user_is_not_readable),
        trial!(the_hosts_opt_is_shown_when_asked),
        trial!(devices_are_the_real_ones_and_no_others),
        trial!(the_hosts_root_without_its_secrets),
        trial!(an_image_read_only, Busybox),
        trial!(an_image_under_an_overlay, Busybox),
        trial!(an_image_written_to, Busybox),
        trial!(an_image_of_root_is_id_mapped, Root, Busybox),
        trial!(an_image_without_mount_points_is_refused, Busybox),
        trial!(an_image_runs_without_init, Busybox),
        trial!(a_missing_image_is_refused),
        trial!(bind_mounts),
        trial!(a_bind_mount_is_recursive_and_read_only_below, Root),
        trial!(a_bind_of_one_file),
        trial!(a_tmpfs_with_a_size),
        trial!(mounts_over_mounts_in_order),
        trial!(a_mount_below_a_private_directory_of_any_root, Busybox),
        trial!(a_missing_mount_point_in_a_read_only_image_is_told, Busybox),
        trial!(masked_and_read_only_paths),
        trial!(masked_and_read_only_paths_of_mounts),
        trial!(whatever_it_is_it_can_be_masked),
        trial!(as_many_paths_as_there_are),
        trial!(kernel_paths_are_masked),
        trial!(nothing_below_the_root_is_suid_or_a_device),
    ])
}

/// Where the probe is bound in the host's own root, which has no place for it: over a program that nobody needs.
const IN_HOST_ROOT: &str = "/usr/bin/false";
const KINDS: [&str; 7] = ["user", "pid", "mnt", "net", "ipc", "uts", "cgroup"];

fn ours(kind: &str) -> String {
    fs::read_link(format!("/proc/self/ns/{kind}")).expect("a namespace").display().to_string()
}

fn dir(path: &Path, access: Access) -> Rootfs {
    Rootfs::Dir { path: path.into(), access }
}

/// A spec whose root is `image`; the probe is in it.
fn imaged(host: &Host, image: &Path, access: Access) -> ContainerSpec {
    let mut spec = host.spec("image");
    spec.mounts.clear();
    spec.rootfs = dir(image, access);
    spec
}

fn bind(source: impl Into<PathBuf>, target: &str, read_only: bool) -> Mount {
    let mut mount = Mount::bind(source, target);
    mount.read_only = read_only;
    mount
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().map(|list| list.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
}

fn seven_namespaces_of_its_own(scene: &Scene) {
    scene.play(async |host| {
        for without_init in [false, true] {
            let seen = host.see(&[], |spec, _| spec.without_init = without_init).await;
            for kind in KINDS {
                assert_ne!(seen["ns"][kind], ours(kind), "{kind}");
            }
            assert!(seen["pid"].as_u64() <= Some(3), "{}", seen["pid"]);
        }
    });
}

fn exec_joins_the_same_namespaces(scene: &Scene) {
    scene.play(async |host| {
        let container = host.create(host.spec("join"), see(&[])).await.expect("created");
        let main = outcome(container.start().await.expect("started")).await.json();
        let init = container.init_pid();
        let second = outcome(container.exec(see(&[])).await.expect("exec")).await.json();
        assert_eq!(main["ns"], second["ns"]);
        assert_eq!(main["mountinfo"], second["mountinfo"]);
        if let Ok(link) = fs::read_link(format!("/proc/{init}/ns/mnt")) {
            assert_eq!(main["ns"]["mnt"], link.display().to_string());
        }
        container.delete().await.expect("deleted");
    });
}

fn two_containers_share_nothing(scene: &Scene) {
    scene.play(async |host| {
        let (a, b) = (host.spec("a"), host.spec("b"));
        let (a, b) =
            (host.create(a, see(&[])).await.expect("created"), host.create(b, see(&[])).await.expect("created"));
        let one = outcome(a.start().await.expect("started")).await.json();
        let two = outcome(b.start().await.expect("started")).await.json();
        for kind in KINDS {
            assert_ne!(one["ns"][kind], two["ns"][kind], "{kind}");
        }
        let write = outcome(
            a.exec(probe(&["create", "/tmp/x", "/run/x", "/var/x", "/home/x", "/root/x", "/dev/shm/x"]))
                .await
                .expect("exec"),
        )
        .await
        .json();
        assert!(write.as_object().expect("paths").values().all(|errno| errno == 0), "{write}");
        let seen = outcome(
            b.exec(see(&["/tmp/x", "/run/x", "/var/x", "/home/x", "/root/x", "/dev/shm/x"])).await.expect("exec"),
        )
        .await
        .json();
        assert!(
            seen["paths"].as_object().expect("paths").values().all(|path| path["missing"] == -libc::ENOENT),
            "{}",
            seen["paths"]
        );
        a.delete().await.expect("deleted");
        b.delete().await.expect("deleted");
    });
}

fn loopback_is_up_and_alone(scene: &Scene) {
    scene.play(async |host| {
        let seen = host.see(&[], |_, _| ()).await;
        // Kernels with tunnels compiled in make sit0 and the like; they are down.
        let up = |flags: &Value| {
            flags.as_str().and_then(|hex| u32::from_str_radix(hex.trim_start_matches("0x"), 16).ok()).unwrap_or(1) & 1
                == 1
        };
        let interfaces = seen["interfaces"].as_object().expect("interfaces");
        let up: Vec<&String> = interfaces.iter().filter(|(_, flags)| up(flags)).map(|(name, _)| name).collect();
        assert_eq!(up, ["lo"], "{interfaces:?}");
    });
}

fn the_hosts_network(scene: &Scene) {
    scene.play(async |host| {
        let kernels = [
            "/sys/firmware",
            "/sys/devices/virtual/powercap",
            "/sys/fs/bpf",
            "/sys/fs/pstore",
            "/sys/kernel/debug",
            "/sys/kernel/security",
            "/sys/kernel/tracing",
        ];
        let paths = [&["/etc/resolv.conf", "/sys/fs/cgroup"][..], &kernels].concat();
        let seen = host.see(&paths, |spec, _| spec.network = Network::Host).await;
        assert_eq!(seen["ns"]["net"], ours("net"));
        for path in kernels {
            let seen = &seen["paths"][path];
            assert!(
                seen["content"] == serde_json::json!([]) || seen["missing"] == -libc::ENOENT,
                "{path} is the host's: {seen}"
            );
        }
        // The container's own control groups, or none; never the host's.
        let groups = names(&seen["paths"]["/sys/fs/cgroup"]["content"]);
        assert!(groups.iter().all(|name| name.contains('.')), "{groups:?}");
        let mut outside: Vec<String> = fs::read_dir("/sys/class/net")
            .expect("interfaces")
            .flatten()
            .map(|entry| entry.file_name().display().to_string())
            .collect();
        outside.sort();
        let inside: Vec<String> = seen["interfaces"].as_object().expect("interfaces").keys().cloned().collect();
        assert_eq!(inside, outside);
        if let Ok(resolv) = fs::read_to_string("/etc/resolv.conf") {
            assert_eq!(seen["paths"]["/etc/resolv.conf"]["content"], resolv);
        }
        let read_only = |at: &str| {
            names(&seen["mountinfo"])
                .iter()
                .filter(|line| line.split(' ').nth(4).is_some_and(|path| path.starts_with(at)))
                .all(|line| line.split(' ').nth(5).is_some_and(|options| options.starts_with("ro")))
        };
        assert!(read_only("/sys"), "{}", seen["mountinfo"]);
    });
}

fn the_hosts_user_ids(scene: &Scene) {
    scene.play(async |host| {
        let seen = host.see(&["/proc/self/uid_map"], |spec, _| spec.user_namespace = UserNamespace::Host).await;
        assert_eq!(seen["ns"]["user"], ours("user"));
        assert_ne!(seen["ns"]["mnt"], ours("mnt"));
        // No way to more through the host's user namespace than the default capabilities.
        assert_eq!(seen["status"]["CapBnd"], seen["status"]["CapEff"]);
    });
}

fn host_user_ids_are_roots(scene: &Scene) {
    scene.play(async |host| {
        let mut spec = host.spec("host-ids");
        spec.user_namespace = UserNamespace::Host;
        let errors = host.refused(spec, probe(&["true"])).await;
        assert_eq!((errors.0[0].kind(), errors.0[0].field()), (ErrorKind::Invalid, Some("user_namespace")));
    });
}

fn own_ranges_differ_and_shared_ones_do_not(scene: &Scene) {
    scene.play(async |host| {
        let map = async |id: &str, kind: UserNamespace| {
            let mut spec = host.spec(id);
            spec.user_namespace = kind;
            let container = host.create(spec, see(&["/proc/self/uid_map"])).await.expect("created");
            let seen = outcome(container.start().await.expect("started")).await.json();
            let text = seen["paths"]["/proc/self/uid_map"]["content"].as_str().expect("a map").to_owned();
            let words: Vec<u32> = text.split_whitespace().map(|word| word.parse().expect("a number")).collect();
            (container, words)
        };
        let (a, one) = map("a", UserNamespace::Own).await;
        let (b, two) = map("b", UserNamespace::Own).await;
        let (c, three) = map("c", UserNamespace::Shared).await;
        let (d, four) = map("d", UserNamespace::Shared).await;
        for map in [&one, &two, &three, &four] {
            assert!(map[0] == 0 && map[1] > 0 && map[2] == 65_536, "{map:?}");
        }
        assert!(
            one[1] != two[1] && one[1] != three[1] && two[1] != three[1] && three == four,
            "{one:?} {two:?} {three:?} {four:?}"
        );
        for container in [a, b, c, d] {
            container.delete().await.expect("deleted");
        }
    });
}

/// Our own /etc/subuid and /etc/subgid, in the trial's mount namespace.
struct Subordinate(Vec<PathBuf>);

impl Subordinate {
    fn over_the_machines(scene: &Scene) -> Self {
        let over = |name: &str| {
            let (file, target) = (scene.dir().join(name), format!("/etc/{name}"));
            fs::write(&file, "").expect("a file");
            let bind = nix::mount::MsFlags::MS_BIND;
            nix::mount::mount(Some(&file), target.as_str(), None::<&str>, bind, None::<&str>).expect("bound");
            file
        };
        Self(vec![over("subuid"), over("subgid")])
    }

    fn say(&self, texts: [&str; 2]) {
        for (file, text) in self.0.iter().zip(texts) {
            fs::write(file, text).expect("a file");
        }
    }
}

impl Drop for Subordinate {
    fn drop(&mut self) {
        for name in ["/etc/subuid", "/etc/subgid"] {
            nix::mount::umount2(name, nix::mount::MntFlags::MNT_DETACH).expect("unmounted");
        }
    }
}

fn subordinate_ids_of_root_win(scene: &Scene) {
    let files = Subordinate::over_the_machines(scene);
    files.say(["root:300000000:65536\n", "0:400000000:65536\n"]);
    scene.play(async |host| {
        let spec = host.spec("given");
        let main = see(&["/proc/self/uid_map", "/proc/self/gid_map"]);
        let container = host.create(spec, main).await.expect("created");
        let seen = outcome(container.start().await.expect("started")).await.json();
        for (file, first) in [("uid_map", "300000000"), ("gid_map", "400000000")] {
            let map = seen["paths"][format!("/proc/self/{file}")]["content"].as_str().expect("a map");
            assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", first, "65536"], "{file}");
        }
        assert_eq!(container.identities(), [Identity::Ids((300_000_000, 400_000_000))]);
        let errors = host.refused(host.spec("second"), probe(&["true"])).await;
        assert_eq!((errors.0[0].kind(), errors.0[0].field()), (ErrorKind::Exhausted, Some("user_namespace")));
        container.delete().await.expect("deleted");
    });
    files.say(["root:300000000:65536\nroot:300000001:65536\n", "root:300000000:65536\n"]);
    scene.play(async |host| {
        let errors = host.refused(host.spec("wrong"), probe(&["true"])).await;
        assert_eq!((errors.0[0].kind(), errors.0[0].field()), (ErrorKind::Invalid, Some("user_namespace")));
        assert!(errors.0[0].what().starts_with("/etc/subuid:2: "), "{errors:?}");
        // No range is needed for this one.
        let mut spec = host.spec("host");
        spec.user_namespace = UserNamespace::Host;
        assert_eq!(host.once(spec, probe(&["true"])).await.code(), 0);
    });
}

fn the_cgroup_is_its_root(scene: &Scene) {
    scene.play(async |host| {
        let container = host.create(host.spec("cg"), see(&[])).await.expect("created");
        let main = outcome(container.start().await.expect("started")).await.json();
        let second = outcome(container.exec(see(&[])).await.expect("exec")).await.json();
        for seen in [main, second] {
            let joined: Vec<&str> = names(&seen["cgroup"])
                .into_iter()
                .filter(|line| line.starts_with("0::") || line.contains(":memory:"))
                .collect();
            assert!(!joined.is_empty() && joined.iter().all(|line| line.ends_with(":/")), "{}", seen["cgroup"]);
        }
        container.delete().await.expect("deleted");
    });
}

fn the_allow_list_and_nothing_else(scene: &Scene) {
    let outside = scene.dir().join("outside");
    fs::write(&outside, "x").expect("a file of the host");
    scene.play(async |host| {
        let paths = [
            "/root",
            "/opt",
            "/home",
            "/run",
            "/var",
            "/mnt",
            "/srv",
            "/boot",
            "/work",
            "/etc/shadow",
            "/etc/hostname",
            "/tmp",
        ];
        let seen = host.see(&paths, |_, _| ()).await;
        let allowed = [
            "bin", "dev", "etc", "home", "lib", "lib32", "lib64", "libx32", "nix", "probe", "proc", "root", "run",
            "sbin", "sys", "tmp", "usr", "var",
        ];
        for name in names(&seen["root"]) {
            assert!(allowed.contains(&name), "/{name} is not on the list");
        }
        let content = |path: &str| seen["paths"][path]["content"].clone();
        for (path, names) in [("/root", &[][..]), ("/run", &["lock"]), ("/tmp", &[])] {
            assert_eq!(content(path), serde_json::json!(names), "{path}");
        }
        for missing in ["/opt", "/mnt", "/srv", "/boot", "/work", "/etc/shadow"] {
            assert_eq!(seen["paths"][missing]["missing"], -libc::ENOENT, "{missing}");
        }
        assert_eq!(content("/etc/hostname"), "see\n");
        let run = host.once(host.spec("sh"), command(&["sh", "-c", "echo hello; echo oops >&2; exit 3"])).await;
        assert_eq!((run.code(), run.out.as_str(), run.err.as_str()), (3, "hello\n", "oops\n"));
    });
}

fn the_private_directories_are_writable_and_private(scene: &Scene) {
    scene.play(async |host| {
        let writable = ["/tmp/x", "/run/x", "/var/x", "/var/tmp/x", "/home/x", "/root/x", "/dev/shm/x"];
        let read_only = ["/x", "/etc/x", "/usr/x", "/bin/x", "/dev/x", "/proc/x", "/sys/x"];
        let all: Vec<&str> = ["create"].into_iter().chain(writable).chain(read_only).collect();
        let said = host.once(host.spec("writes"), probe(&all)).await.json();
        for path in writable {
            assert_eq!(said[path], 0, "{path}");
        }
        for path in read_only {
            assert_ne!(said[path], 0, "{path} could be written");
        }
    });
    assert!(
        !Path::new("/tmp/x").exists() || fs::read("/tmp/x").is_ok_and(|text| text != b"x"),
        "it was the host's /tmp"
    );
}

fn a_made_etc_without_the_hosts_users(scene: &Scene) {
    scene.play(async |host| {
        let seen = host.see(&["/etc/passwd", "/etc/group", "/etc/hosts"], |_, _| ()).await;
        let passwd = seen["paths"]["/etc/passwd"]["content"].as_str().expect("passwd").to_owned();
        assert_eq!(
            passwd.lines().map(|line| line.split(':').next().unwrap_or("")).collect::<Vec<_>>(),
            ["root", "nobody"]
        );
        assert!(seen["paths"]["/etc/hosts"]["content"].as_str().expect("hosts").contains("127.0.0.1\tlocalhost"));
    });
}

/// A file that a service user keeps for itself in /etc must not be there, whoever asks: the container of root has
/// root's rights over nothing of the host's.
fn a_secret_of_a_service_user_is_not_readable(scene: &Scene) {
    let secret = scene.dir().join("secret");
    fs::write(&secret, "the secret").expect("a secret");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("its mode");
    if scene.root() {
        std::os::unix::fs::chown(&secret, Some(33), Some(33)).expect("its owner");
    }
    scene.play(async |host| {
        let hidden = secret.display().to_string();
        let seen = host.see(&[&hidden], |_, _| ()).await;
        assert_eq!(seen["paths"][&hidden]["missing"], -libc::ENOENT);
        // Bound on purpose, it is what it is outside: its owner's.
        if host.root() {
            let seen = host.see(&["/data"], |spec, _| spec.mounts.push(bind(&secret, "/data", true))).await;
            assert_eq!(
                (&seen["paths"]["/data"]["content"], &seen["paths"]["/data"]["uid"]),
                (&"the secret".into(), &33.into())
            );
            let seen = host
                .see(&["/data"], |spec, main| {
                    spec.mounts.push(bind(&secret, "/data", true));
                    main.user = User::Ids { uid: 34, gid: 34 };
                })
                .await;
            assert_eq!(seen["paths"]["/data"]["content"], -libc::EACCES);
        }
    });
}

fn the_hosts_opt_is_shown_when_asked(scene: &Scene) {
    scene.play(async |host| {
        let seen = host.see(&["/opt"], |spec, _| spec.host_opt = true).await;
        assert_eq!(seen["paths"]["/opt"]["kind"] == "dir", Path::new("/opt").is_dir());
    });
}

fn devices_are_the_real_ones_and_no_others(scene: &Scene) {
    scene.play(async |host| {
        let seen = host.see(&["/dev/fd", "/dev/pts/ptmx"], |_, _| ()).await;
        let dev = seen["dev"].as_object().expect("dev");
        let expected = [
            "fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero",
        ];
        assert_eq!(dev.keys().map(String::as_str).collect::<Vec<_>>(), expected);
        for (name, device) in [("null", "1:3"), ("zero", "1:5"), ("full", "1:7"), ("random", "1:8"), ("urandom", "1:9")]
        {
            assert_eq!((&dev[name]["kind"], &dev[name]["content"]), (&"char".into(), &device.into()), "{name}");
        }
        let run = host
            .once(host.spec("null"), command(&["sh", "-c", "echo x > /dev/null && head -c 4 /dev/zero | wc -c"]))
            .await;
        assert_eq!((run.code(), run.out.trim()), (0, "4"), "{run:?}");
    });
}

fn the_hosts_root_without_its_secrets(scene: &Scene) {
    scene.play(async |host| {
        let secrets = ["/etc/shadow", "/etc/gshadow", "/etc/sudoers", "/etc/ssl/private", "/etc/ssh"];
        let mut paths = secrets.to_vec();
        paths.extend(["/etc/passwd", "/usr/bin", "/tmp", "/run", "/root"]);
        let seen = host
            .see(&paths, |spec, main| {
                spec.rootfs = Rootfs::HostRoot;
                spec.mounts[0].target = IN_HOST_ROOT.into();
                main.argv[0] = IN_HOST_ROOT.into();
            })
            .await;
        for path in secrets.iter().filter(|path| Path::new(path).exists()) {
            let content = &seen["paths"][path]["content"];
            let hidden = content == "1:3" || content == &serde_json::json!([]) || content.as_i64().is_some();
            assert!(hidden, "{path}: {}", seen["paths"][path]);
        }
        assert_eq!(
            seen["paths"]["/etc/passwd"]["content"].as_str().map(|text| text.contains("root:x:0:0")),
            Some(true)
        );
        assert_eq!(seen["paths"]["/root"]["content"], serde_json::json!([]));
        let mut spec = host.spec("writes");
        spec.rootfs = Rootfs::HostRoot;
        spec.mounts[0].target = IN_HOST_ROOT.into();
        let mut main = probe(&["create", "/etc/x", "/usr/x", "/tmp/x", "/x"]);
        main.argv[0] = IN_HOST_ROOT.into();
        let said = host.once(spec, main).await.json();
        assert!(said["/etc/x"] != 0 && said["/usr/x"] != 0 && said["/x"] != 0 && said["/tmp/x"] == 0, "{said}");
    });
}

fn an_image_read_only(scene: &Scene) {
    let image = scene.image("image");
    scene.play(async |host| {
        let seen = host
            .once(imaged(host, &image, Access::ReadOnly), see(&["/etc/marker", "/usr", "/etc/passwd"]))
            .await
            .json();
        assert_eq!(seen["paths"]["/etc/marker"]["content"], "the image");
        assert_eq!(seen["paths"]["/usr"]["content"], serde_json::json!([]), "nothing of the host's /usr");
        let said = host
            .once(imaged(host, &image, Access::ReadOnly), probe(&["create", "/x", "/etc/x", "/tmp/x", "/run/x"]))
            .await
            .json();
        assert_eq!(said, serde_json::json!({"/x": libc::EROFS, "/etc/x": libc::EROFS, "/tmp/x": 0, "/run/x": 0}));
        let run = host.once(imaged(host, &image, Access::ReadOnly), command(&["sh", "-c", "id -u; exit 9"])).await;
        assert_eq!((run.code(), run.out.as_str()), (9, "0\n"));
    });
    assert!(!image.join("tmp/x").exists());
}

fn an_image_under_an_overlay(scene: &Scene) {
    let image = scene.image("image");
    fs::remove_dir(image.join("proc")).expect("no mount point");
    scene.play(async |host| {
        let container = host.create(imaged(host, &image, Access::Overlay), probe(&["true"])).await.expect("created");
        outcome(container.start().await.expect("started")).await;
        let said = outcome(container.exec(probe(&["create", "/x", "/etc/marker", "/usr/deep"])).await.expect("exec"))
            .await
            .json();
        assert_eq!(said, serde_json::json!({"/x": 0, "/etc/marker": 0, "/usr/deep": 0}));
        let removed =
            outcome(container.exec(command(&["busybox", "rm", "-r", "/etc/passwd", "/home"])).await.expect("exec"))
                .await;
        assert_eq!(removed.code(), 0, "{removed:?}");
        let seen = outcome(container.exec(see(&["/etc/marker", "/x", "/etc/passwd", "/home"])).await.expect("exec"))
            .await
            .json();
        assert_eq!(
            (&seen["paths"]["/etc/marker"]["content"], &seen["paths"]["/x"]["content"]),
            (&"x".into(), &"x".into())
        );
        assert_eq!(seen["paths"]["/etc/passwd"]["missing"], -libc::ENOENT);
        container.delete().await.expect("deleted");
        let seen = host.once(imaged(host, &image, Access::Overlay), see(&["/etc/marker", "/x"])).await.json();
        assert_eq!(
            (&seen["paths"]["/etc/marker"]["content"], &seen["paths"]["/x"]["missing"]),
            (&"the image".into(), &(-libc::ENOENT).into())
        );
    });
    assert_eq!(fs::read_to_string(image.join("etc/marker")).expect("marker"), "the image");
    assert!(!image.join("x").exists() && image.join("etc/passwd").exists() && image.join("home").exists());
}

fn an_image_written_to(scene: &Scene) {
    let image = scene.image("image");
    scene.play(async |host| {
        let said = host
            .once(imaged(host, &image, Access::ReadWrite), probe(&["create", "/x", "/etc/x", "/tmp/x"]))
            .await
            .json();
        assert_eq!(said, serde_json::json!({"/x": 0, "/etc/x": 0, "/tmp/x": 0}));
    });
    use std::os::unix::fs::MetadataExt as _;
    let meta = fs::metadata(image.join("etc/x")).expect("written");
    assert_eq!(meta.uid(), rustix::process::geteuid().as_raw(), "uid 0 inside is the owner outside");
}

fn an_image_of_root_is_id_mapped(scene: &Scene) {
    let image = scene.image("image");
    let private = image.join("etc/private");
    fs::write(&private, "for root only").expect("private");
    fs::set_permissions(&private, fs::Permissions::from_mode(0o600)).expect("its mode");
    fs::write(image.join("etc/of-1000"), "x").expect("a file");
    std::os::unix::fs::chown(image.join("etc/of-1000"), Some(1000), Some(1000)).expect("its owner");
    scene.play(async |host| {
        for access in [Access::ReadOnly, Access::Overlay, Access::ReadWrite] {
            let seen = host
                .once(imaged(host, &image, access), see(&["/etc/private", "/etc/of-1000", "/bin/busybox"]))
                .await
                .json();
            assert_eq!(seen["paths"]["/etc/private"]["content"], "for root only", "{access:?}");
            assert_eq!(
                (&seen["paths"]["/etc/private"]["uid"], &seen["paths"]["/etc/of-1000"]["uid"]),
                (&0.into(), &1000.into()),
                "{access:?}"
            );
            let mut main = see(&["/etc/private"]);
            main.user = User::Ids { uid: 1000, gid: 1000 };
            let seen = host.once(imaged(host, &image, access), main).await.json();
            assert_eq!(seen["paths"]["/etc/private"]["content"], -libc::EACCES, "{access:?}");
        }
    });
}

fn an_image_without_mount_points_is_refused(scene: &Scene) {
    let image = scene.image("image");
    fs::remove_dir(image.join("proc")).expect("removed");
    scene.play(async |host| {
        let errors = host.refused(imaged(host, &image, Access::ReadOnly), probe(&["true"])).await;
        assert_eq!((errors.0[0].kind(), errors.0[0].field()), (ErrorKind::Invalid, Some("rootfs")), "{errors:?}");
        assert!(errors.to_string().contains("/proc"), "{errors}");
    });
}

fn an_image_runs_without_init(scene: &Scene) {
    let image = scene.image("image");
    scene.play(async |host| {
        for access in [Access::ReadOnly, Access::Overlay, Access::ReadWrite] {
            let mut spec = imaged(host, &image, access);
            spec.without_init = true;
            let seen = host.once(spec, see(&["/etc/marker"])).await.json();
            assert_eq!((&seen["pid"], &seen["paths"]["/etc/marker"]["content"]), (&1.into(), &"the image".into()));
        }
    });
}

fn a_missing_image_is_refused(scene: &Scene) {
    scene.play(async |host| {
        for path in ["/no/such/image", "/etc/passwd", "relative"] {
            let errors = host.refused(imaged(host, Path::new(path), Access::ReadOnly), probe(&["true"])).await;
            assert_eq!(errors.0[0].field(), Some("rootfs"), "{errors:?}");
        }
    });
}

fn bind_mounts(scene: &Scene) {
    let shared = scene.dir().join("shared");
    fs::create_dir_all(shared.join("sub")).expect("a directory");
    fs::write(shared.join("from-outside"), "hello").expect("a file");
    scene.play(async |host| {
        let mut spec = host.spec("binds");
        spec.mounts.push(bind(&shared, "/data", false));
        spec.mounts.push(bind(&shared, "/data-ro", true));
        spec.mounts.push(bind(&shared, "/tmp/deep/er", true));
        let seen =
            host.once(spec.clone(), see(&["/data/from-outside", "/data-ro/from-outside", "/tmp/deep/er"])).await.json();
        for path in ["/data/from-outside", "/data-ro/from-outside"] {
            assert_eq!(
                (&seen["paths"][path]["content"], &seen["paths"][path]["uid"]),
                (&"hello".into(), &0.into()),
                "{path}"
            );
        }
        assert_eq!(seen["paths"]["/tmp/deep/er"]["content"], serde_json::json!(["from-outside", "sub"]));
        let said = host.once(spec, probe(&["create", "/data/x", "/data-ro/y"])).await.json();
        assert_eq!(said, serde_json::json!({"/data/x": 0, "/data-ro/y": libc::EROFS}));
        for (source, target, field) in [
            ("/no/such/source", "/x", "mounts[1].source"),
            ("relative", "/x", "mounts[1].source"),
            ("/tmp/../etc", "/x", "mounts[1].source"),
            ("/tmp", "relative", "mounts[1].target"),
            ("/tmp", "/a/../b", "mounts[1].target"),
            ("/tmp", "/", "mounts[1].target"),
            ("/tmp", "/a\nb", "mounts[1].target"),
        ] {
            let mut spec = host.spec("refused");
            spec.mounts.push(bind(source, target, false));
            let errors = host.refused(spec, probe(&["true"])).await;
            assert_eq!(errors.0[0].field(), Some(field), "{source} {target}: {errors:?}");
        }
    });
    assert!(shared.join("x").exists() && !shared.join("y").exists());
}

fn a_bind_mount_is_recursive_and_read_only_below(scene: &Scene) {
    let shared = scene.dir().join("shared");
    fs::create_dir_all(shared.join("below")).expect("a directory");
    let none = None::<&str>;
    nix::mount::mount(Some("tmpfs"), &shared.join("below"), Some("tmpfs"), nix::mount::MsFlags::empty(), none)
        .expect("a mount below");
    fs::write(shared.join("below/file"), "deep").expect("a file");
    scene.play(async |host| {
        let mut spec = host.spec("deep");
        spec.mounts.push(bind(&shared, "/data", true));
        let seen = host.once(spec.clone(), see(&["/data/below/file"])).await.json();
        assert_eq!(seen["paths"]["/data/below/file"]["content"], "deep");
        assert_eq!(host.once(spec, probe(&["create", "/data/below/x"])).await.json()["/data/below/x"], libc::EROFS);
    });
    nix::mount::umount2(&shared.join("below"), nix::mount::MntFlags::MNT_DETACH).expect("unmounted");
}

fn a_bind_of_one_file(scene: &Scene) {
    let file = scene.dir().join("one");
    fs::write(&file, "one file").expect("a file");
    scene.play(async |host| {
        let seen = host
            .see(&["/etc/one", "/tmp/two"], |spec, _| {
                spec.mounts.push(bind(&file, "/etc/one", true));
                spec.mounts.push(bind(&file, "/tmp/two", true));
            })
            .await;
        assert_eq!(
            (&seen["paths"]["/etc/one"]["content"], &seen["paths"]["/tmp/two"]["content"]),
            (&"one file".into(), &"one file".into())
        );
    });
}

fn a_tmpfs_with_a_size(scene: &Scene) {
    scene.play(async |host| {
        let mut spec = host.spec("tmpfs");
        spec.mounts.push(Mount::new(MountSource::Tmpfs { size: Some(1 << 20) }, "/small"));
        spec.mounts.push(Mount::tmpfs("/still").read_only());
        let said = host.once(spec.clone(), probe(&["fill", "/small/x"])).await.json();
        assert_eq!((said["bytes"].as_u64(), said["errno"].as_i64()), (Some(1 << 20), Some(libc::ENOSPC.into())));
        assert_eq!(host.once(spec, probe(&["create", "/still/x"])).await.json()["/still/x"], libc::EROFS);
    });
}

fn mounts_over_mounts_in_order(scene: &Scene) {
    let (one, two) = (scene.dir().join("one"), scene.dir().join("two"));
    for dir in [&one, &two] {
        fs::create_dir_all(dir.join("inner")).expect("a directory");
        fs::write(dir.join("name"), dir.file_name().expect("a name").as_encoded_bytes()).expect("a file");
    }
    scene.play(async |host| {
        let seen = host
            .see(&["/m/name", "/m/inner/name"], |spec, _| {
                spec.mounts.push(bind(&one, "/m", true));
                spec.mounts.push(bind(&two, "/m/inner", true));
            })
            .await;
        assert_eq!(
            (&seen["paths"]["/m/name"]["content"], &seen["paths"]["/m/inner/name"]["content"]),
            (&"one".into(), &"two".into()),
            "{}",
            seen["paths"]
        );
    });
}

/// /tmp and /run are private tmpfs in every root: a mount point below them can always be made.
fn a_mount_below_a_private_directory_of_any_root(scene: &Scene) {
    let image = scene.image("image");
    scene.play(async |host| {
        for root in [dir(&image, Access::ReadOnly), Rootfs::HostRoot] {
            let mut spec = host.spec("below");
            spec.rootfs = root;
            spec.mounts[0].target = "/tmp/a/probe".into();
            let mut main = probe(&["true"]);
            main.argv[0] = "/tmp/a/probe".into();
            assert_eq!(host.once(spec, main).await.code(), 0);
        }
    });
}

fn a_missing_mount_point_in_a_read_only_image_is_told(scene: &Scene) {
    let image = scene.image("image");
    scene.play(async |host| {
        let mut spec = imaged(host, &image, Access::ReadOnly);
        spec.mounts.push(bind("/usr", "/not/there", true));
        let errors = host.refused(spec, probe(&["true"])).await;
        assert_eq!((errors.0[0].field(), errors.0[0].errno()), (Some("mounts"), Some(libc::ENOENT)), "{errors:?}");
        assert!(errors.0[0].hint().is_some());
    });
    assert!(!image.join("not").exists());
}

fn masked_and_read_only_paths(scene: &Scene) {
    scene.play(async |host| {
        let seen = host
            .see(&["/etc/passwd", "/usr/bin", "/tmp", "/no/such", "/etc/hosts"], |spec, _| {
                spec.masked_paths = vec!["/etc/passwd".into(), "/usr/bin".into(), "/no/such".into()];
                spec.readonly_paths = vec!["/tmp".into(), "/also/not".into()];
            })
            .await;
        assert_eq!(seen["paths"]["/etc/passwd"]["content"], "1:3", "behind /dev/null");
        assert_eq!(seen["paths"]["/usr/bin"]["content"], serde_json::json!([]));
        assert!(seen["paths"]["/etc/hosts"]["content"].as_str().is_some_and(|text| text.contains("localhost")));
        let mut spec = host.spec("ro");
        spec.readonly_paths = vec!["/tmp".into()];
        assert_eq!(
            host.once(spec, probe(&["create", "/tmp/x", "/run/x"])).await.json(),
            serde_json::json!({"/tmp/x": libc::EROFS, "/run/x": 0})
        );
        for path in ["relative", "/a/../b", "/", "/a\nb"] {
            let mut spec = host.spec("refused");
            spec.masked_paths = vec![path.into()];
            assert_eq!(host.refused(spec, probe(&["true"])).await.0[0].field(), Some("masked_paths"), "{path}");
        }
    });
}

fn masked_and_read_only_paths_of_mounts(scene: &Scene) {
    let shared = scene.dir().join("shared");
    for dir in ["secret-dir", "ro", "rw"] {
        fs::create_dir_all(shared.join(dir)).expect("a directory");
        fs::write(shared.join(dir).join("file"), "x").expect("a file");
    }
    fs::write(shared.join("secret"), "x").expect("a file");
    scene.play(async |host| {
        let mut spec = host.spec("mounted");
        spec.mounts.push(bind(&shared, "/data", false));
        spec.masked_paths = vec!["/data/secret".into(), "/data/secret-dir".into()];
        spec.readonly_paths = vec!["/data/ro".into()];
        let seen = host.once(spec.clone(), see(&["/data/secret", "/data/secret-dir", "/data/ro/file"])).await.json();
        assert_eq!(seen["paths"]["/data/secret"]["content"], "1:3");
        assert_eq!(seen["paths"]["/data/secret-dir"]["content"], serde_json::json!([]));
        assert_eq!(seen["paths"]["/data/ro/file"]["content"], "x");
        let said = host.once(spec, probe(&["create", "/data/ro/y", "/data/rw/y"])).await.json();
        assert_eq!(said, serde_json::json!({"/data/ro/y": libc::EROFS, "/data/rw/y": 0}));
    });
}

fn whatever_it_is_it_can_be_masked(scene: &Scene) {
    let shared = scene.dir().join("shared");
    fs::create_dir(&shared).expect("a directory");
    nix::unistd::mkfifo(&shared.join("fifo"), nix::sys::stat::Mode::from_bits_truncate(0o600)).expect("a fifo");
    let _socket = std::os::unix::net::UnixListener::bind(shared.join("socket")).expect("a socket");
    fs::write(shared.join("file"), "x").expect("a file");
    std::os::unix::fs::symlink("file", shared.join("link")).expect("a link");
    scene.play(async |host| {
        let mut spec = host.spec("kinds");
        spec.mounts.push(bind(&shared, "/data", true));
        let mut linked = spec.clone();
        spec.masked_paths = vec!["/data/fifo".into(), "/data/socket".into()];
        let seen = host.once(spec, see(&["/data/fifo", "/data/socket"])).await.json();
        for path in ["/data/fifo", "/data/socket"] {
            assert_eq!(seen["paths"][path]["content"], "1:3", "{path}");
        }
        // What a link leads to would stay where it is.
        linked.masked_paths = vec!["/data/link".into()];
        let errors = host.refused(linked.clone(), probe(&["true"])).await;
        assert_eq!((errors.0[0].field(), errors.0[0].errno()), (Some("masked_paths"), Some(libc::ELOOP)), "{errors:?}");
        linked.readonly_paths = std::mem::take(&mut linked.masked_paths);
        let errors = host.refused(linked, probe(&["true"])).await;
        assert_eq!(
            (errors.0[0].field(), errors.0[0].errno()),
            (Some("readonly_paths"), Some(libc::ELOOP)),
            "{errors:?}"
        );
    });
}

fn as_many_paths_as_there_are(scene: &Scene) {
    scene.play(async |host| {
        let mut spec = host.spec("many");
        let deep: PathBuf = std::iter::once("/tmp").chain((0..300).map(|_| "d")).chain(["file"]).collect();
        let file = |n: i32, at: &Path| orangery_runtime::spec::StagedFile {
            path: at.with_file_name(format!("file-{n}")),
            content: b"x".as_slice().into(),
            mode: 0o644,
        };
        spec.files = (0..4).map(|n| file(n, &deep)).collect();
        spec.masked_paths = (0..140).map(|n| format!("/no/such/{n}").into()).collect();
        spec.masked_paths.extend(["/etc/passwd".into(), "/usr/bin".into()]);
        spec.readonly_paths = (0..140).map(|n| format!("/no/such/{n}").into()).collect();
        let seen = deep.with_file_name("file-3").display().to_string();
        let said = host.once(spec, see(&[&seen, "/etc/passwd", "/usr/bin"])).await.json();
        assert_eq!(said["paths"][&seen]["content"], "x");
        assert_eq!(said["paths"]["/etc/passwd"]["content"], "1:3");
        assert_eq!(said["paths"]["/usr/bin"]["content"], serde_json::json!([]));
        let mut spec = host.spec("too-many");
        spec.readonly_paths = (0..3000).map(|n| format!("/no/such/{n}").into()).collect();
        let errors = host.refused(spec, probe(&["true"])).await;
        assert_eq!(
            (errors.0[0].kind(), errors.0[0].field()),
            (ErrorKind::Invalid, Some("readonly_paths")),
            "{errors:?}"
        );
    });
}

fn kernel_paths_are_masked(scene: &Scene) {
    scene.play(async |host| {
        let paths = [
            "/proc/kcore",
            "/proc/keys",
            "/proc/timer_list",
            "/proc/interrupts",
            "/sys/firmware",
            "/proc/acpi",
            "/proc/scsi",
        ];
        let seen = host.see(&paths, |_, _| ()).await;
        for path in paths.iter().filter(|path| Path::new(path).exists()) {
            let content = &seen["paths"][path]["content"];
            assert!(
                content == "1:3" || content == &serde_json::json!([]) || seen["paths"][path]["missing"].is_i64(),
                "{path}: {}",
                seen["paths"][path]
            );
        }
    });
}

fn nothing_below_the_root_is_suid_or_a_device(scene: &Scene) {
    scene.play(async |host| {
        let seen = host.see(&[], |_, _| ()).await;
        let mut seen_root = false;
        for line in names(&seen["mountinfo"]) {
            let (at, options) = (line.split(' ').nth(4).unwrap_or(""), line.split(' ').nth(5).unwrap_or(""));
            let has = |option: &str| options.split(',').any(|have| have == option);
            seen_root |= at == "/" && has("ro");
            // The nodes of /dev, and what is masked with /dev/null: one character device each.
            if line.contains(" - devtmpfs ") {
                continue;
            }
            assert!(has("nosuid"), "{line}");
            assert!(has("nodev") || at == "/dev" || at == "/dev/pts", "{line}");
            assert!(!line.contains(" shared:") && !line.contains(" master:"), "mounts travel: {line}");
        }
        assert!(seen_root, "the root is writable: {}", seen["mountinfo"]);
    });
}
