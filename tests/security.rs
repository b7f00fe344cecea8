//! The security checklist of `kernel.md` section 13: a trial for each row that applies to the runtime layer.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "test code: a panic is a failed trial")]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use orangery_runtime::spec::caps::CapSet;
use orangery_runtime::spec::{
    Access, Caps, Mount, MountSource, Rootfs, Seccomp, StagedFile, Stdio, User, UserNamespace,
};
use orangery_runtime::{ContainerSpec, ErrorKind, ProcessSpec, Runtime as _};
use orangery_tests::host::{outcome, probe, see};
use orangery_tests::wait::Lines;
use orangery_tests::{Host, Scene, trial};
use serde_json::Value;

mod privileged;

use privileged::what_only_root_can_have_is_refused_with_the_reason;

fn main() -> ExitCode {
    orangery_tests::main(&[
        trial!(what_a_container_must_not_do),
        trial!(what_an_ordinary_user_inside_must_not_do),
        trial!(what_the_kernel_refuses_without_the_filter),
        trial!(the_stub_init_cannot_be_looked_into),
        trial!(the_helper_cannot_be_looked_into_on_its_way),
        trial!(no_descriptor_reaches_the_process),
        trial!(all_five_capability_sets),
        trial!(asked_capabilities_and_no_others),
        trial!(no_new_privileges_and_a_filter),
        trial!(setgroups_is_denied_with_one_id, User),
        trial!(what_only_root_can_have_is_refused_with_the_reason, User),
        trial!(cgroup_files_cannot_be_written, Cgroups),
        trial!(a_mount_target_swapped_during_the_creation, Busybox),
        trial!(a_read_only_path_swapped_during_the_creation, Busybox),
        trial!(a_mount_target_that_leads_outside, Busybox),
        trial!(a_mount_point_is_not_made_outside, Busybox),
        trial!(proc_sys_and_dev_as_links_files_and_loops, Busybox),
        trial!(a_fake_null_in_the_image, Busybox),
        trial!(a_fake_proc_in_the_image, Busybox),
        trial!(hostile_passwd_and_group_files, Busybox),
        trial!(staged_files_are_there_in_every_root, Busybox),
        trial!(staged_files_never_reach_the_hosts_trees),
        trial!(mount_points_are_never_made_in_the_hosts_trees),
        trial!(staged_files_follow_no_links, Busybox),
        trial!(users_are_parsed_strictly),
        trial!(hostile_strings_are_refused_by_field),
        trial!(the_state_is_for_its_owner_alone),
        trial!(limits_of_the_spec_are_refused_by_field),
        trial!(the_most_that_is_accepted_works),
    ])
}

fn imaged(host: &Host, image: &Path, access: Access) -> ContainerSpec {
    let mut spec = host.spec("image");
    spec.mounts.clear();
    spec.rootfs = Rootfs::Dir { path: image.into(), access };
    spec
}

/// Every attempt must be refused, but those in `allowed`.
fn refused(said: &Value, allowed: &[&str]) {
    let said = said.as_object().expect("attempts");
    assert!(said.len() > 60);
    let worked: Vec<&String> = said
        .iter()
        .filter(|(name, errno)| **errno == 0 && !allowed.contains(&name.as_str()))
        .map(|(name, _)| name)
        .collect();
    assert!(worked.is_empty(), "these worked: {worked:?}\nof {said:?}");
}

fn what_a_container_must_not_do(scene: &Scene) {
    scene.play(async |host| {
        // With a range of ids setgroups is the container's own business.
        let seen = host.see(&["/proc/self/setgroups"], |_, _| ()).await;
        let range = seen["paths"]["/proc/self/setgroups"]["content"] == "allow\n";
        assert!(range || !host.root());
        let allowed: &[&str] = if range { &["setgroups"] } else { &[] };
        refused(&host.once(host.spec("run"), probe(&["attack"])).await.json(), allowed);
        let container = host.create(host.spec("exec"), probe(&["true"])).await.expect("created");
        refused(&outcome(container.exec(probe(&["attack"])).await.expect("exec")).await.json(), allowed);
        container.delete().await.expect("deleted");
    });
}

fn what_an_ordinary_user_inside_must_not_do(scene: &Scene) {
    scene.play(async |host| {
        let mut main = probe(&["attack"]);
        main.user = User::Ids { uid: 1234, gid: 1234 };
        refused(&host.once(host.spec("user"), main).await.json(), &[]);
    });
}

/// The filter is a second wall: these hold without it.
fn what_the_kernel_refuses_without_the_filter(scene: &Scene) {
    scene.play(async |host| {
        let mut main = probe(&["attack"]);
        main.seccomp = Seccomp::Unconfined;
        let said = host.once(host.spec("unconfined"), main).await.json();
        for name in [
            "open-own-exe-for-write",
            "open-init-exe-for-write",
            "open-init-exe",
            "list-init-fds",
            "read-init-environ",
            "read-init-maps",
            "open-init-mem",
            "ptrace-seize-init",
            "ptrace-attach-init",
            "read-init-memory",
            "steal-init-fd",
            "unshare-mnt",
            "unshare-net",
            "mount-tmpfs",
            "remount-root-rw",
            "umount-proc",
            "umount-mask",
            "pivot-root",
            "open-tree",
            "mknod-block",
            "mknod-char",
            "become-unmapped",
            "init-module",
            "delete-module",
            "kexec",
            "settimeofday",
            "sethostname",
            "packet-socket",
            "raw-socket",
            "sysrq",
            "core-pattern",
            "modprobe-path",
            "lower-oom-score",
            "write-usr",
            "write-root",
            "write-etc",
            "open-kcore",
            "open-disk",
            "tiocsti",
        ] {
            assert!(said[name].as_i64().is_some_and(|errno| errno < 0), "{name} worked: {said}");
        }
    });
}

fn the_stub_init_cannot_be_looked_into(scene: &Scene) {
    scene.play(async |host| {
        let said = host.once(host.spec("stub"), probe(&["attack"])).await.json();
        // An ordinary user's single id owns the listing, which is empty; nothing in it could be followed.
        assert!(
            said["list-init-fds"] == -libc::EACCES || (!host.root() && said["list-init-fds"] == -libc::ENOENT),
            "{said}"
        );
        for name in [
            "open-init-exe-for-write",
            "open-init-exe",
            "open-init-mem",
            "read-init-environ",
            "read-init-maps",
            "follow-init-root",
            "follow-init-cwd",
        ] {
            assert_eq!(said[name], -libc::EACCES, "{name}: {said}");
        }
        // A filter or the kernel: EPERM either way.
        for name in ["ptrace-seize-init", "ptrace-attach-init", "read-init-memory", "steal-init-fd"] {
            assert_eq!(said[name], -libc::EPERM, "{name}: {said}");
        }
        // From outside: no descriptor, no capability.
        let container = host.create(host.spec("outside"), probe(&["true"])).await.expect("created");
        // "Created" is told just before the stub lets go of its descriptors: after an exec it has.
        outcome(container.start().await.expect("started")).await;
        let status = fs::read_to_string(format!("/proc/{}/status", container.init_pid())).expect("status");
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert!(status.contains(&format!("{set}:\t0000000000000000")), "{status}");
        }
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
        if let Ok(fds) = fs::read_dir(format!("/proc/{}/fd", container.init_pid())) {
            assert_eq!(fds.count(), 0);
        }
        container.delete().await.expect("deleted");
    });
}

/// CVE-2019-5736 and its like: a process inside watches for those that enter it.
fn the_helper_cannot_be_looked_into_on_its_way(scene: &Scene) {
    scene.play(async |host| {
        let mut main = probe(&["spy"]);
        main.stdin = Stdio::Piped;
        let container = host.create(host.spec("spy"), main).await.expect("created");
        let mut spy = container.start().await.expect("started");
        let mut lines = Lines::of(spy.stdout.take().expect("stdout"));
        assert_eq!(lines.next().await, "ready");
        for _ in 0..150 {
            outcome(container.exec(probe(&["true"])).await.expect("exec")).await;
        }
        drop(spy.stdin.take());
        let said: Value = serde_json::from_str(&lines.next().await).expect("JSON");
        assert!(said["looked"].as_u64() > Some(100), "{said}");
        assert_eq!(said["opened"], serde_json::json!([]), "{said}");
        outcome(spy).await;
        container.delete().await.expect("deleted");
    });
}

fn no_descriptor_reaches_the_process(scene: &Scene) {
    let leaked: Vec<fs::File> = (0..30)
        .map(|_| {
            let file = fs::File::open("/").expect("a directory of the host");
            rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).expect("inheritable");
            file
        })
        .collect();
    scene.play(async |host| {
        let container = host.create(host.spec("fds"), see(&[])).await.expect("created");
        let started = [container.start().await.expect("started"), container.exec(see(&[])).await.expect("exec")];
        for started in started {
            let fds = outcome(started).await.json()["fds"].clone();
            assert_eq!(fds.as_object().expect("fds").len(), 3, "{fds}");
        }
        container.delete().await.expect("deleted");
    });
    drop(leaked);
}

const SETS: [&str; 5] = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];

fn sets(seen: &Value) -> [u64; 5] {
    SETS.map(|set| u64::from_str_radix(seen["status"][set].as_str().expect("a set"), 16).expect("hexadecimal"))
}

fn all_five_capability_sets(scene: &Scene) {
    scene.play(async |host| {
        let default = Caps::default_root().permitted.0;
        for name in ["MKNOD", "AUDIT_WRITE", "NET_RAW", "SYS_ADMIN", "SYS_PTRACE", "NET_ADMIN"] {
            assert_eq!(default & CapSet::parse(name).expect("a capability").0, 0, "{name}");
        }
        for without_init in [false, true] {
            let mut spec = host.spec("caps");
            spec.without_init = without_init;
            let container = host.create(spec, see(&[])).await.expect("created");
            let run = outcome(container.start().await.expect("started")).await.json();
            assert_eq!(sets(&run), [0, default, default, default, 0], "without_init {without_init}");
            if !without_init {
                let exec = outcome(container.exec(see(&[])).await.expect("exec")).await.json();
                assert_eq!(sets(&exec), [0, default, default, default, 0]);
            }
            container.delete().await.expect("deleted");
        }
        let nobody = host.see(&[], |_, main| main.user = User::Ids { uid: 7, gid: 7 }).await;
        assert_eq!(sets(&nobody), [0; 5]);
    });
}

fn asked_capabilities_and_no_others(scene: &Scene) {
    scene.play(async |host| {
        let bind = CapSet::NET_BIND_SERVICE;
        let ambient = Caps { bounding: bind, effective: bind, permitted: bind, inheritable: bind, ambient: bind };
        let seen = host
            .see(&[], |_, main| {
                main.user = User::Ids { uid: 7, gid: 7 };
                main.caps = Some(ambient);
            })
            .await;
        assert_eq!(sets(&seen), [bind.0; 5]);
        let none = host.see(&[], |_, main| main.caps = Some(Caps::none())).await;
        assert_eq!(sets(&none), [0; 5], "root without any");
        let wrong = Caps { ambient: bind, ..Caps::none() };
        let mut main = probe(&["true"]);
        main.caps = Some(wrong);
        assert_eq!(host.refused(host.spec("wrong"), main).await.0[0].field(), Some("caps"));
    });
}

fn no_new_privileges_and_a_filter(scene: &Scene) {
    scene.play(async |host| {
        let seen = host.see(&[], |_, _| ()).await;
        assert_eq!((&seen["status"]["NoNewPrivs"], &seen["status"]["Seccomp"]), (&"1".into(), &"2".into()));
        let seen = host
            .see(&[], |_, main| {
                main.new_privileges = true;
                main.seccomp = Seccomp::Unconfined;
            })
            .await;
        assert_eq!((&seen["status"]["NoNewPrivs"], &seen["status"]["Seccomp"]), (&"0".into(), &"0".into()));
        // Loaded while there are rights to it.
        let seen = host.see(&[], |_, main| main.new_privileges = true).await;
        assert_eq!((&seen["status"]["NoNewPrivs"], &seen["status"]["Seccomp"]), (&"0".into(), &"2".into()));
    });
}

fn setgroups_is_denied_with_one_id(scene: &Scene) {
    let many = orangery_tests::Machine::probe().lacks(orangery_tests::Need::ManyIds).is_none();
    scene.play(async |host| {
        let seen = host.see(&["/proc/self/setgroups"], |_, _| ()).await;
        assert_eq!(seen["paths"]["/proc/self/setgroups"]["content"] == "deny\n", !many);
        if !many {
            assert_eq!(host.once(host.spec("groups"), probe(&["attack"])).await.json()["setgroups"], -libc::EPERM);
            let mut main = probe(&["true"]);
            main.groups = vec![5];
            assert_eq!(host.refused(host.spec("asked"), main).await.0[0].field(), Some("groups"));
        }
    });
}

fn cgroup_files_cannot_be_written(scene: &Scene) {
    scene.play(async |host| {
        for without_init in [false, true] {
            let mut spec = host.spec("cgroup");
            spec.without_init = without_init;
            let said = host.once(spec, probe(&["write-cgroup"])).await.json();
            let said = said.as_object().expect("files");
            // A container whose groups are all of version 1 is shown none of them.
            let shown = host.rt.cgroup_mode().0 != "v1";
            assert!(said.len() > if shown { 3 } else { 0 }, "{said:?}");
            assert!(said.values().all(|errno| errno.as_i64().is_some_and(|errno| errno < 0)), "{said:?}");
            assert!(said.keys().all(|path| !path.contains("..")), "{said:?}");
        }
    });
}

/// A thread that keeps exchanging `name` in `image` for a link to `outside` until it is dropped.
struct Swapper {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<u64>>,
}

impl Swapper {
    fn start(image: PathBuf, name: &'static str, outside: PathBuf) -> Self {
        let link = image.join("the-link");
        for old in [&link, &image.join(name)] {
            let _ = fs::remove_file(old);
            let _ = fs::remove_dir_all(old);
        }
        symlink(&outside, &link).expect("a link");
        fs::create_dir(image.join(name)).expect("a directory");
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut swaps = 0;
            while !told.load(Ordering::Relaxed) {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(rustix::fs::CWD, &link, rustix::fs::CWD, image.join(name), flags)
                    .expect("exchanged");
                swaps += 1;
            }
            swaps
        });
        Self { stop, thread: Some(thread) }
    }

    fn stop(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("once").join().expect("no panic")
    }
}

fn bind(source: impl Into<PathBuf>, target: &str) -> Mount {
    Mount::bind(source, target)
}

/// CVE-2021-30465: the target is a directory when it is looked at and a link when it is mounted on.
fn a_mount_target_swapped_during_the_creation(scene: &Scene) {
    let (image, data, outside) = (scene.image("image"), scene.dir().join("data"), scene.dir().join("outside"));
    fs::create_dir(&data).expect("data");
    fs::write(data.join("mark"), "data").expect("mark");
    fs::create_dir(&outside).expect("outside");
    let (mut made, mut refused) = (0, 0);
    scene.play(async |host| {
        for access in [Access::ReadWrite, Access::Overlay, Access::ReadOnly] {
            let swapper = Swapper::start(image.clone(), "target", outside.clone());
            for _ in 0..40 {
                let mut spec = imaged(host, &image, access);
                spec.mounts.push(bind(&data, "/target"));
                spec.mounts.push(bind(&data, "/target/deeper"));
                spec.mounts.pop();
                match host.create(spec, see(&["/target/mark", "/target"])).await {
                    Ok(container) => {
                        let started = container.start().await.expect("started");
                        let seen = outcome(started).await.json();
                        // Whatever /target is by now, the host's directory is not reachable through it.
                        assert_ne!(seen["paths"]["/target/mark"]["content"], "outside");
                        container.delete().await.expect("deleted");
                        made += 1;
                    }
                    Err(errors) => {
                        let error = &errors.0[0];
                        assert_eq!(error.field(), Some("mounts"), "{error:?}");
                        assert!(
                            matches!(error.errno(), Some(libc::ELOOP | libc::EXDEV | libc::ENOTDIR | libc::ENOENT)),
                            "{error:?}"
                        );
                        refused += 1;
                    }
                }
                assert_eq!(fs::read_dir(&outside).expect("outside").count(), 0, "something was made outside");
            }
            assert!(swapper.stop() > 100);
        }
    });
    assert!(made > 0 && refused > 0, "{made} made, {refused} refused: the race was not run");
}

/// The copy that becomes read-only is of what was opened: a name that is a link by then would lead to the host's files.
fn a_read_only_path_swapped_during_the_creation(scene: &Scene) {
    let (image, outside) = (scene.image("image"), scene.dir().join("outside"));
    fs::create_dir(&outside).expect("outside");
    fs::write(outside.join("mark"), "of the host").expect("mark");
    let (mut made, mut refused) = (0, 0);
    scene.play(async |host| {
        let swapper = Swapper::start(image.clone(), "target", outside.clone());
        for _ in 0..150 {
            let mut spec = imaged(host, &image, Access::ReadWrite);
            spec.readonly_paths = vec!["/target".into()];
            // Wherever the directory is by now, what lies on it came along.
            match host.create(spec, see(&["/target/mark", "/the-link/mark"])).await {
                Ok(container) => {
                    let seen = outcome(container.start().await.expect("started")).await.json();
                    for path in ["/target/mark", "/the-link/mark"] {
                        assert_ne!(seen["paths"][path]["content"], "of the host", "{path}");
                    }
                    container.delete().await.expect("deleted");
                    made += 1;
                }
                Err(errors) => {
                    let error = &errors.0[0];
                    assert_eq!(
                        (error.field(), error.errno()),
                        (Some("readonly_paths"), Some(libc::ELOOP)),
                        "{error:?}"
                    );
                    refused += 1;
                }
            }
        }
        assert!(swapper.stop() > 100);
    });
    assert!(made > 0 && refused > 0, "{made} made, {refused} refused: the race was not run");
}

fn a_mount_target_that_leads_outside(scene: &Scene) {
    let (image, outside) = (scene.image("image"), scene.dir().join("outside"));
    fs::create_dir(&outside).expect("outside");
    symlink(&outside, image.join("absolute")).expect("a link");
    symlink("../outside", image.join("relative")).expect("a link");
    symlink("/proc/self/root", image.join("magic")).expect("a link");
    symlink("loop", image.join("loop")).expect("a link");
    scene.play(async |host| {
        for access in [Access::ReadOnly, Access::Overlay, Access::ReadWrite] {
            for target in [
                "/absolute",
                "/relative",
                "/magic",
                "/loop",
                "/absolute/x",
                "/magic/tmp",
                "/proc/1/root",
                "/proc/self/cwd",
                "/proc/self/fd/0",
            ] {
                let mut spec = imaged(host, &image, access);
                spec.mounts.push(bind("/usr", target));
                let errors = host.refused(spec, probe(&["true"])).await;
                assert_eq!(errors.0[0].field(), Some("mounts"), "{target} {access:?}: {errors:?}");
            }
        }
    });
    assert_eq!(fs::read_dir(&outside).expect("outside").count(), 0);
}

fn a_mount_point_is_not_made_outside(scene: &Scene) {
    let (image, outside) = (scene.image("image"), scene.dir().join("outside"));
    fs::create_dir(&outside).expect("outside");
    scene.play(async |host| {
        for access in [Access::ReadWrite, Access::Overlay] {
            let swapper = Swapper::start(image.clone(), "way", outside.clone());
            for n in 0..40 {
                let mut spec = imaged(host, &image, access);
                spec.mounts.push(bind("/usr", &format!("/way/point-{n}/deep")));
                if let Ok(container) = host.create(spec, probe(&["true"])).await {
                    container.delete().await.expect("deleted");
                }
            }
            swapper.stop();
        }
    });
    let found: Vec<_> = fs::read_dir(&outside).expect("outside").flatten().map(|entry| entry.path()).collect();
    assert!(found.is_empty(), "made outside: {found:?}");
}

/// CVE-2023-28642 and others: what is mounted on must be a directory of the image.
fn proc_sys_and_dev_as_links_files_and_loops(scene: &Scene) {
    let outside = scene.dir().join("outside");
    fs::create_dir(&outside).expect("outside");
    scene.play(async |host| {
        for name in ["proc", "sys", "dev", "run"] {
            for kind in ["absolute", "relative", "loop", "file", "inside"] {
                let image = scene.image(&format!("image-{name}-{kind}"));
                let place = image.join(name);
                fs::remove_dir(&place).expect("removed");
                match kind {
                    "absolute" => symlink(&outside, &place).expect("a link"),
                    "relative" => symlink("../outside", &place).expect("a link"),
                    "loop" => symlink(name, &place).expect("a link"),
                    "inside" => symlink("tmp", &place).expect("a link"),
                    _ => fs::write(&place, "not a directory").expect("a file"),
                }
                for access in [Access::ReadOnly, Access::Overlay, Access::ReadWrite] {
                    let errors = host.refused(imaged(host, &image, access), probe(&["true"])).await;
                    let error = &errors.0[0];
                    assert!(
                        matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Creation),
                        "/{name} as {kind} {access:?}: {error:?}"
                    );
                }
            }
        }
    });
    assert_eq!(fs::read_dir(&outside).expect("outside").count(), 0);
}

/// CVE-2025-31133: masks come from the host's /dev/null, not from the image's.
fn a_fake_null_in_the_image(scene: &Scene) {
    let image = scene.image("image");
    for name in ["null", "zero", "tty"] {
        fs::write(image.join("dev").join(name), "fake").expect("a fake");
    }
    symlink("/etc", image.join("dev/pts")).expect("a link");
    symlink("/etc", image.join("dev/shm")).expect("a link");
    fs::write(image.join("etc/secret"), "secret").expect("a secret");
    scene.play(async |host| {
        for access in [Access::ReadOnly, Access::Overlay, Access::ReadWrite] {
            let mut spec = imaged(host, &image, access);
            spec.masked_paths = vec!["/etc/secret".into()];
            let seen = host.once(spec, see(&["/etc/secret", "/dev/null", "/dev/pts", "/proc/kcore"])).await.json();
            assert_eq!(
                (&seen["paths"]["/etc/secret"]["content"], &seen["paths"]["/dev/null"]["content"]),
                (&"1:3".into(), &"1:3".into()),
                "{access:?}"
            );
            assert_eq!(seen["paths"]["/dev/pts"]["kind"], "dir", "{access:?}");
        }
    });
    assert_eq!(fs::read_to_string(image.join("dev/null")).expect("the fake"), "fake");
}

fn a_fake_proc_in_the_image(scene: &Scene) {
    let image = scene.image("image");
    for dir in ["proc/self", "proc/sys/net/ipv4", "proc/1"] {
        fs::create_dir_all(image.join(dir)).expect("a fake");
    }
    let fakes =
        ["proc/self/oom_score_adj", "proc/sys/net/ipv4/ip_default_ttl", "proc/self/uid_map", "proc/self/setgroups"];
    for fake in fakes {
        fs::write(image.join(fake), "fake").expect("a fake");
    }
    scene.play(async |host| {
        for access in [Access::ReadOnly, Access::Overlay, Access::ReadWrite] {
            let mut spec = imaged(host, &image, access);
            spec.sysctls.insert("net.ipv4.ip_default_ttl".into(), "33".into());
            let mut main = see(&["/proc/sys/net/ipv4/ip_default_ttl"]);
            main.oom_score_adj = Some(700);
            let seen = host.once(spec, main).await.json();
            assert_eq!(
                (&seen["oom_score_adj"], &seen["paths"]["/proc/sys/net/ipv4/ip_default_ttl"]["content"]),
                (&"700".into(), &"33\n".into())
            );
        }
    });
    for fake in fakes {
        assert_eq!(fs::read_to_string(image.join(fake)).expect("a fake"), "fake", "{fake}");
    }
}

fn hostile_passwd_and_group_files(scene: &Scene) {
    let image = scene.image("image");
    let outside = scene.dir().join("passwd");
    fs::write(&outside, "victim:x:42:42::/:/bin/sh\n").expect("outside");
    scene.play(async |host| {
        let ask = async |user: &str| {
            let mut main = probe(&["true"]);
            main.user = User::Name(user.into());
            host.rt.check(&imaged(host, &image, Access::ReadOnly), &main)
        };
        let put = |kind: &str| {
            let _ = fs::remove_file(image.join("etc/passwd"));
            let _ = fs::remove_dir(image.join("etc/passwd"));
            match kind {
                "link" => symlink(&outside, image.join("etc/passwd")).expect("a link"),
                "fifo" => rustix::fs::mknodat(
                    rustix::fs::CWD,
                    image.join("etc/passwd"),
                    rustix::fs::FileType::Fifo,
                    rustix::fs::Mode::RWXU,
                    0,
                )
                .expect("a fifo"),
                "dir" => fs::create_dir(image.join("etc/passwd")).expect("a directory"),
                "proc" => symlink("/proc/self/environ", image.join("etc/passwd")).expect("a link"),
                _ => fs::write(image.join("etc/passwd"), vec![b'a'; 5 << 20]).expect("a large file"),
            }
        };
        for kind in ["link", "fifo", "dir", "proc", "large"] {
            put(kind);
            let errors = ask("victim").await.expect_err("unknown");
            assert_eq!(errors.0[0].field(), Some("user"), "{kind}: {errors:?}");
        }
    });
}

/// What is accepted is there: in the private directories of each root; elsewhere it is refused by field.
fn staged_files_are_there_in_every_root(scene: &Scene) {
    let image = scene.image("image");
    scene.play(async |host| {
        for access in [Access::ReadOnly, Access::Overlay, Access::ReadWrite] {
            for path in ["/tmp/in/file", "/run/in/file", "/in/file", "/etc/file", "/var/file"] {
                let mut spec = imaged(host, &image, access);
                spec.files.push(StagedFile { path: path.into(), content: b"staged".as_slice().into(), mode: 0o644 });
                let main = see(&[path]);
                match host.rt.check(&spec, &main) {
                    Ok(()) => assert_eq!(
                        host.once(spec, main).await.json()["paths"][path]["content"],
                        "staged",
                        "{path} {access:?}"
                    ),
                    Err(errors) => {
                        assert!(!path.starts_with("/run") && errors.0[0].field() == Some("files[0].path"), "{errors:?}")
                    }
                }
            }
        }
    });
}

/// The allow-list shows the host's /usr: a file that is staged there must be refused, not written through.
fn staged_files_never_reach_the_hosts_trees(scene: &Scene) {
    let name = format!("orangery-staged-{}", std::process::id());
    let kinds = [UserNamespace::Own, UserNamespace::Host];
    let mut written = Vec::new();
    scene.play(async |host| {
        for kind in kinds.into_iter().take(if host.root() { 2 } else { 1 }) {
            for dir in ["/usr", "/usr/lib", "/bin", "/lib", "/sbin", "/etc/ssl/certs", "/etc/alternatives", "/opt"] {
                let path = Path::new(dir).join(&name);
                let mut spec = host.spec("stage");
                spec.user_namespace = kind;
                spec.host_opt = true;
                spec.files.push(StagedFile { path: path.clone(), content: b"staged".as_slice().into(), mode: 0o644 });
                match host.create(spec, probe(&["true"])).await {
                    Ok(container) => container.delete().await.expect("deleted"),
                    Err(errors) => {
                        assert!(matches!(errors.0[0].field(), Some("files" | "files[0].path")), "{path:?}: {errors:?}")
                    }
                }
                if fs::remove_file(&path).is_ok() {
                    written.push(path);
                }
            }
        }
    });
    assert!(written.is_empty(), "written on the host: {written:?}");
}

/// The same for mount points.
fn mount_points_are_never_made_in_the_hosts_trees(scene: &Scene) {
    let name = format!("orangery-point-{}", std::process::id());
    let mut made = Vec::new();
    scene.play(async |host| {
        for dir in ["/usr", "/usr/lib", "/bin", "/etc/ssl/certs", "/etc/alternatives", "/opt"] {
            let path = Path::new(dir).join(&name);
            let mut spec = host.spec("point");
            if host.root() {
                spec.user_namespace = UserNamespace::Host;
            }
            spec.host_opt = true;
            spec.mounts.push(bind("/var", path.to_str().expect("a path")));
            if let Ok(container) = host.create(spec, probe(&["true"])).await {
                container.delete().await.expect("deleted");
            }
            if fs::remove_dir(&path).is_ok() {
                made.push(path);
            }
        }
    });
    assert!(made.is_empty(), "made on the host: {made:?}");
}

fn staged_files_follow_no_links(scene: &Scene) {
    let (image, outside) = (scene.image("image"), scene.dir().join("outside"));
    fs::create_dir(&outside).expect("outside");
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o777)).expect("its mode");
    symlink(&outside, image.join("tmp/way")).expect("a link");
    symlink(outside.join("file"), image.join("tmp/file")).expect("a link");
    symlink(&outside, image.join("etc/way")).expect("a link");
    symlink("../../outside", image.join("etc/back")).expect("a link");
    scene.play(async |host| {
        for access in [Access::ReadOnly, Access::Overlay, Access::ReadWrite] {
            for path in ["/tmp/way/x", "/tmp/file", "/etc/way/x", "/etc/back/x"] {
                let mut spec = imaged(host, &image, access);
                spec.files.push(StagedFile { path: path.into(), content: b"staged".as_slice().into(), mode: 0o644 });
                if let Ok(container) = host.create(spec, probe(&["true"])).await {
                    container.delete().await.expect("deleted");
                }
            }
        }
    });
    assert_eq!(fs::read_dir(&outside).expect("outside").count(), 0, "a staged file went outside");
}

fn users_are_parsed_strictly(scene: &Scene) {
    scene.play(async |host| {
        for user in [
            "",
            ":",
            "0:",
            ":0",
            "-1",
            "+1",
            " 0",
            "0 ",
            "00",
            "0x0",
            "4294967295",
            "4294967296",
            "18446744073709551616",
            "0:4294967295",
            "a b",
            "root\n",
            "root\0",
            "root:root:root",
            "nobody-of-this-name",
            "../root",
            "r\u{f6}\u{f6}t",
        ] {
            let mut main = probe(&["true"]);
            main.user = User::Name(user.into());
            let errors = host.rt.check(&host.spec("user"), &main).expect_err(user);
            assert_eq!(errors.0[0].field(), Some("user"), "{user:?}: {errors:?}");
        }
        let mut main = probe(&["true"]);
        main.user = User::Ids { uid: u32::MAX, gid: 0 };
        assert!(host.rt.check(&host.spec("user"), &main).is_err(), "uid -1 means \"leave it\" to the kernel");
        // Seeded mutants: an answer, never a panic, and never the forbidden id.
        let mut seed = 7u64;
        for _ in 0..5_000 {
            let text: String = (0..8)
                .map(|_| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    char::from(b"0123456789:ar-+ x"[(seed >> 59) as usize % 17])
                })
                .collect();
            let mut main = probe(&["true"]);
            main.user = User::Name(text);
            let _ = host.rt.check(&host.spec("user"), &main);
        }
    });
}

type Change = fn(&mut ContainerSpec, &mut ProcessSpec, &str);

/// Newline, NUL and `..` in each field that becomes part of a file, a path or a system call.
fn hostile_strings_are_refused_by_field(scene: &Scene) {
    let fields: [(&str, &[&str], Change); 14] = [
        ("id", &["a\nb", "a\0b", "../x", "a/b", "", ".", ".."], |spec, _, text| spec.id = text.into()),
        ("hostname", &["a\nb", "a\0b", "a/b", "", "a b"], |spec, _, text| spec.hostname = Some(text.into())),
        ("mounts[1].target", &["/a\nb", "/a\0b", "/a/../b", "a", ""], |spec, _, text| {
            spec.mounts.push(bind("/usr", text))
        }),
        ("mounts[1].source", &["/usr\nx", "/usr\0x", "/usr/../etc", "usr", ""], |spec, _, text| {
            spec.mounts.push(bind(text, "/x"))
        }),
        (
            "files[0].path",
            &["/tmp/a\nb", "/tmp/a\0b", "/tmp/../etc/x", "tmp/x", "", "/proc/x", "/dev/x", "/sys/x"],
            |spec, _, text| {
                spec.files.push(StagedFile { path: text.into(), content: b"x".as_slice().into(), mode: 0o644 });
            },
        ),
        ("masked_paths", &["/a\nb", "/a\0b", "/a/..", "a", "/"], |spec, _, text| spec.masked_paths.push(text.into())),
        ("readonly_paths", &["/a\nb", "/a\0b", "/a/..", "a", "/"], |spec, _, text| {
            spec.readonly_paths.push(text.into())
        }),
        (
            "sysctls",
            &["net.a\nb", "net.a\0b", "net/../kernel/x", "net..x", "kernel.core_pattern", ""],
            |spec, _, text| {
                spec.sysctls.insert(text.into(), "1".into());
            },
        ),
        ("sysctls", &["1\n2", "1\0", ""], |spec, _, text| {
            spec.sysctls.insert("net.ipv4.ip_forward".into(), text.into());
        }),
        ("limits.cpuset_cpus", &["0\n1", "0\0", "../0", "0-", "1-0", ""], |spec, _, text| {
            spec.limits.cpuset_cpus = Some(text.into())
        }),
        ("argv[1]", &["a\0b"], |_, main, text| main.argv = vec!["/probe".into(), text.into()]),
        ("env", &["a\0b"], |_, main, text| main.env = vec![("A".into(), text.into())]),
        ("env", &["", "A=B", "A\0"], |_, main, text| main.env = vec![(text.into(), "x".into())]),
        ("cwd", &["/a\nb", "/a\0b", "/a/../b", "a", ""], |_, main, text| main.cwd = Some(text.into())),
    ];
    scene.play(async |host| {
        for (field, texts, change) in fields {
            for text in texts {
                let (mut spec, mut main) = (host.spec("hostile"), probe(&["true"]));
                change(&mut spec, &mut main, text);
                let errors = host.rt.check(&spec, &main).expect_err(text);
                assert!(errors.0.iter().any(|error| error.field() == Some(field)), "{field} {text:?}: {errors:?}");
                assert_eq!(host.refused(spec, main).await.0.len(), errors.0.len(), "check and create agree");
            }
        }
        // All refusals at once.
        let (mut spec, mut main) = (host.spec("a\nb"), probe(&["true"]));
        spec.hostname = Some("\n".into());
        main.cwd = Some("..".into());
        main.umask = Some(0o1000);
        let errors = host.rt.check(&spec, &main).expect_err("four");
        let fields: Vec<_> = errors.0.iter().filter_map(|error| error.field()).collect();
        assert_eq!(fields, ["id", "hostname", "cwd", "umask"]);
    });
}

fn the_state_is_for_its_owner_alone(scene: &Scene) {
    scene.play(async |host| {
        host.once(host.spec("x"), probe(&["true"])).await;
        let base = scene.state_dir();
        assert_eq!(fs::metadata(&base).expect("the state directory").mode() & 0o777, 0o700);
        for entry in fs::read_dir(&base).expect("instances").flatten() {
            assert_eq!(entry.metadata().expect("an instance").mode() & 0o777, 0o700);
            for file in fs::read_dir(entry.path()).expect("files").flatten() {
                assert_eq!(file.metadata().expect("a file").mode() & 0o777, 0o600, "{file:?}");
            }
        }
    });
    // A directory that others can write is not taken.
    let open = scene.dir().join("open");
    fs::create_dir(&open).expect("a directory");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).expect("its mode");
    let link = scene.dir().join("link");
    symlink(scene.dir(), &link).expect("a link");
    for wrong in [open, link] {
        let mut options = scene.options();
        options.state_dir = Some(wrong.clone());
        let error = scene
            .block_on(async { orangery_runtime::native::NativeRuntime::start(options).map(drop) })
            .expect_err("refused");
        assert_eq!(error.field(), Some("state_dir"), "{}: {error:?}", wrong.display());
    }
}

fn limits_of_the_spec_are_refused_by_field(scene: &Scene) {
    scene.play(async |host| {
        let many: [(&str, Change); 6] = [
            ("mounts", |spec, _, _| spec.mounts = (0..65).map(|n| bind("/usr", &format!("/m{n}"))).collect()),
            ("files", |spec, _, _| {
                spec.files = (0..33)
                    .map(|n| StagedFile {
                        path: format!("/tmp/f{n}").into(),
                        content: b"".as_slice().into(),
                        mode: 0o600,
                    })
                    .collect();
            }),
            ("files[0].mode", |spec, _, _| {
                spec.files = vec![StagedFile { path: "/tmp/f".into(), content: b"".as_slice().into(), mode: 0o4755 }]
            }),
            ("argv[1]", |_, main, _| main.argv = vec!["/probe".into(), "x".repeat(128 << 10).into()]),
            ("argv", |_, main, _| main.argv = Vec::new()),
            ("disk", |spec, _, _| spec.disk.bytes = 1),
        ];
        for (field, change) in many {
            let (mut spec, mut main) = (host.spec("many"), probe(&["true"]));
            change(&mut spec, &mut main, "");
            let errors = host.rt.check(&spec, &main).expect_err(field);
            assert!(errors.0.iter().any(|error| error.field() == Some(field)), "{field}: {errors:?}");
        }
    });
}

/// 64 mounts, 32 files, 16 descriptors.
fn the_most_that_is_accepted_works(scene: &Scene) {
    scene.play(async |host| {
        let mut spec = host.spec("most");
        spec.mounts.extend((0..63).map(|n| Mount::new(MountSource::Tmpfs { size: Some(4096) }, format!("/m{n}"))));
        spec.files = (0..32)
            .map(|n| StagedFile { path: format!("/tmp/f{n}").into(), content: b"x".as_slice().into(), mode: 0o600 })
            .collect();
        assert_eq!(host.once(spec, probe(&["true"])).await.code(), 0);
        let mut spec = host.spec("most-binds");
        spec.mounts.extend((0..63).map(|n| bind("/usr", &format!("/m{n}"))));
        spec.files = (0..32)
            .map(|n| StagedFile { path: format!("/tmp/f{n}").into(), content: b"x".as_slice().into(), mode: 0o600 })
            .collect();
        let mut main = probe(&["true"]);
        main.preserved = (0..16).map(|_| Arc::new(fs::File::open("/dev/null").expect("null").into())).collect();
        for without_init in [false, true] {
            spec.without_init = without_init;
            assert_eq!(host.once(spec.clone(), main.clone()).await.code(), 0, "without_init {without_init}");
        }
    });
}
