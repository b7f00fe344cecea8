//! Options of mounts, the host's later mounts, and devices of the host.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "test code: a panic is a failed trial")]

mod bundle;
mod fields;
mod filled;

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bundle::{
    a_bundle_as_podman_writes_it, a_proc_of_the_image_is_not_taken_for_one,
    devices_that_no_rule_allows_cannot_be_opened, how_a_process_is_scheduled,
    namespaces_that_are_not_listed_are_shared, the_ids_of_a_bundle, the_mounts_of_a_list_in_their_order,
    the_root_of_a_bundle_is_not_left,
};
use fields::{
    an_interface_of_the_hosts_is_the_containers, labels_are_refused_where_nobody_reads_them,
    memory_and_cpus_of_a_process, programs_of_32_bits_are_filtered_too, the_clocks_of_a_bundle,
    the_other_limits_of_a_bundle,
};
use filled::{a_tmpfs_begins_with_what_lay_there, the_ids_of_a_mount_are_its_own};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use orangery_runtime::native::{Faults, Point};
use orangery_runtime::spec::{Access, Mount, MountSource, Propagation, Rootfs, UserNamespace};
use orangery_runtime::{ContainerSpec, ErrorKind};
use orangery_tests::host::{command, outcome, probe, see};
use orangery_tests::{Host, Scene, trial, wait};
use serde_json::Value;

fn main() -> ExitCode {
    orangery_tests::main(&[
        trial!(no_mount_has_programs_that_was_asked_for_none),
        trial!(later_mounts_of_the_host_arrive_at_slaves_alone, Root),
        trial!(later_mounts_arrive_at_a_process_of_its_own_mounts, Root),
        trial!(propagation_that_cannot_be_is_refused),
        trial!(a_slave_of_a_private_mount_is_refused, Root),
        trial!(a_device_of_the_host_in_any_root, Busybox),
        trial!(a_device_with_the_hosts_user_ids, Root),
        trial!(what_is_no_device_is_refused),
        trial!(a_device_that_its_user_cannot_open_is_refused, User),
        trial!(a_device_that_became_another_is_not_mounted),
        trial!(a_bundle_as_podman_writes_it, Root),
        trial!(the_mounts_of_a_list_in_their_order),
        trial!(the_ids_of_a_bundle, Root),
        trial!(namespaces_that_are_not_listed_are_shared, Root),
        trial!(the_root_of_a_bundle_is_not_left),
        trial!(a_proc_of_the_image_is_not_taken_for_one),
        trial!(devices_that_no_rule_allows_cannot_be_opened, Root),
        trial!(how_a_process_is_scheduled),
        trial!(a_tmpfs_begins_with_what_lay_there),
        trial!(the_ids_of_a_mount_are_its_own),
        trial!(the_clocks_of_a_bundle),
        trial!(an_interface_of_the_hosts_is_the_containers, Root, Nets),
        trial!(programs_of_32_bits_are_filtered_too, Narrow),
        trial!(the_other_limits_of_a_bundle, Root),
        trial!(memory_and_cpus_of_a_process),
        trial!(labels_are_refused_where_nobody_reads_them),
    ])
}

/// The options of the mounts at `at`, as their mountinfo lines have them, with the optional fields.
pub(crate) fn options(seen: &Value, at: &str) -> String {
    let lines = seen["mountinfo"].as_array().expect("lines").iter().filter_map(Value::as_str);
    let here = lines.filter(|line| line.split(' ').nth(4) == Some(at));
    let options = here.flat_map(|line| line.split(' ').skip(5).take_while(|part| *part != "-"));
    let options = options.collect::<Vec<_>>().join(" ");
    assert!(!options.is_empty(), "no mount at {at}: {seen}");
    options
}

fn no_mount_has_programs_that_was_asked_for_none(scene: &Scene) {
    let shared = scene.dir().join("shared");
    fs::create_dir(&shared).expect("a directory");
    fs::copy(scene.probe(), shared.join("probe")).expect("a program");
    scene.play(async |host| {
        let mut spec = host.spec("noexec");
        spec.mounts.push(Mount::bind(&shared, "/with"));
        spec.mounts.push(Mount::bind(&shared, "/without").no_exec().read_only());
        spec.mounts.push(Mount::tmpfs("/scratch").no_exec());
        let seen = host.once(spec.clone(), see(&[])).await.json();
        for (at, not) in [("/with", "noexec"), ("/without", "rw"), ("/scratch", "ro")] {
            let has = options(&seen, at);
            let all = ["nosuid", "nodev"].iter().all(|one| has.contains(one));
            assert!(all && !has.split(&[',', ' ']).any(|one| one == not), "{at}: {has}");
        }
        assert!(
            options(&seen, "/without").contains("noexec") && options(&seen, "/scratch").contains("noexec"),
            "{seen}"
        );
        assert_eq!(host.once(spec.clone(), command(&["/with/probe", "true"])).await.code(), 0);
        let container = host.create(spec, command(&["/without/probe", "true"])).await.expect("created");
        let error = wait::soon("a start", container.start()).await.expect_err("not executable");
        assert_eq!((error.kind(), error.errno()), (ErrorKind::CommandNotExecutable, Some(libc::EACCES)));
        container.delete().await.expect("deleted");
    });
}

fn tmpfs_on(path: &Path) {
    mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("a mount");
}

/// A directory `name` of the scene with `later` in it, where the host will mount something.
fn place_for_later(scene: &Scene, name: &str) -> (PathBuf, PathBuf) {
    let shared = scene.dir().join(name);
    let later = shared.join("later");
    fs::create_dir_all(&later).expect("directories");
    (shared, later)
}

/// What a further process of the container sees of these.
async fn content(container: &dyn orangery_runtime::Container, paths: &[&str]) -> Vec<Value> {
    let seen = outcome(container.exec(see(paths)).await.expect("exec")).await.json();
    paths.iter().map(|path| seen["paths"][*path]["content"].clone()).collect()
}

/// The whole mount namespace of a trial is shared. With ids of its own the tree comes from the supervisor, with the host's
/// the child opens it.
fn later_mounts_of_the_host_arrive_at_slaves_alone(scene: &Scene) {
    let (shared, later) = place_for_later(scene, "shared");
    scene.play(async |host| {
        for user_namespace in [UserNamespace::Own, UserNamespace::Host] {
            let mut spec = host.spec("slave");
            spec.user_namespace = user_namespace;
            spec.mounts.push(Mount::bind(&shared, "/slave").propagation(Propagation::Slave));
            spec.mounts.push(Mount::bind(&shared, "/private"));
            let container = host.create(spec, probe(&["deaf"])).await.expect("created");
            let started = wait::soon("a start", container.start()).await.expect("started");
            tmpfs_on(&later);
            fs::write(later.join("file"), "late").expect("a file");
            let paths = ["/slave/later/file", "/private/later/file"];
            assert_eq!(content(&*container, &paths).await, ["late".into(), Value::Null], "{user_namespace:?}");
            let seen = outcome(container.exec(see(&[])).await.expect("exec")).await.json();
            assert!(options(&seen, "/slave").contains("master:"), "{seen}");
            assert!(!options(&seen, "/private").contains("master:"), "{seen}");
            assert!(!seen["mountinfo"].to_string().contains("shared:"), "{seen}");
            umount2(&later, MntFlags::empty()).expect("nobody holds it");
            assert_eq!(content(&*container, &paths).await, [Value::Null, Value::Null], "{user_namespace:?}");
            container.delete().await.expect("deleted");
            drop(started);
        }
    });
}

fn later_mounts_arrive_at_a_process_of_its_own_mounts(scene: &Scene) {
    let (shared, later) = place_for_later(scene, "shared");
    scene.play(async |host| {
        let container = host.create(host.spec("slave"), probe(&["deaf"])).await.expect("created");
        let started = wait::soon("a start", container.start()).await.expect("started");
        let mut process = command(&["sh", "-c", "read line; cat /tmp/slave/later/file"]);
        process.stdin = orangery_runtime::spec::Stdio::Piped;
        process.mounts.push(Mount::bind(&shared, "/tmp/slave").propagation(Propagation::Slave));
        let further = container.exec(process).await.expect("exec");
        tmpfs_on(&later);
        fs::write(later.join("file"), "late").expect("a file");
        // The end of its input lets it go on.
        assert_eq!(outcome(further).await.out, "late");
        umount2(&later, MntFlags::empty()).expect("nobody holds it");
        container.delete().await.expect("deleted");
        drop(started);
    });
}

async fn refused(host: &Host, mount: Mount) -> (ErrorKind, String, bool) {
    let mut spec = host.spec("refused");
    spec.mounts.push(mount);
    let errors = host.refused(spec, probe(&["true"])).await;
    let error = &errors.0[0];
    (error.kind(), error.field().unwrap_or_default().to_owned(), error.hint().is_some())
}

fn propagation_that_cannot_be_is_refused(scene: &Scene) {
    scene.play(async |host| {
        let field = || "mounts[1].propagation".to_owned();
        let shared = Mount::bind("/usr", "/data").propagation(Propagation::Shared);
        assert_eq!(refused(host, shared).await, (ErrorKind::Invalid, field(), true));
        for mount in [Mount::tmpfs("/data"), Mount::device("/dev/zero")] {
            let slave = mount.propagation(Propagation::Slave);
            assert_eq!(refused(host, slave).await, (ErrorKind::Invalid, field(), false));
        }
    });
}

fn a_slave_of_a_private_mount_is_refused(scene: &Scene) {
    let (shared, later) = place_for_later(scene, "private");
    tmpfs_on(&shared);
    mount(None::<&str>, &shared, None::<&str>, MsFlags::MS_PRIVATE, None::<&str>).expect("private");
    fs::create_dir(&later).expect("a directory");
    scene.play(async |host| {
        let slave = |path: &Path| Mount::bind(path, "/data").propagation(Propagation::Slave);
        for path in [&shared, &later] {
            let said = refused(host, slave(path)).await;
            assert_eq!(said, (ErrorKind::Invalid, "mounts[1].propagation".into(), true), "{path:?}");
        }
    });
    umount2(&shared, MntFlags::empty()).expect("unmounted");
}

/// Three bytes can be read from the device at `at`, and not from the bind mount of the same node at /tmp/bound.
async fn is_zero(host: &Host, mut spec: ContainerSpec, at: &str) {
    let mut device = Mount::device("/dev/zero");
    device.target = at.into();
    spec.mounts.extend([device, Mount::bind("/dev/zero", "/tmp/bound")]);
    let script = format!("head -c 3 {at} | wc -c; ! head -c 3 /tmp/bound");
    let ended = host.once(spec.clone(), command(&["sh", "-c", &script])).await;
    assert!(ended.code() == 0 && ended.out.trim() == "3", "{at}: {ended:?}");
    assert!(ended.err.contains("Permission denied"), "{ended:?}");
    spec.mounts[0].target = "/tmp/probe".into();
    let mut main = see(&[at]);
    main.argv[0] = "/tmp/probe".into();
    let seen = host.once(spec, main).await.json();
    assert_eq!((&seen["paths"][at]["kind"], &seen["paths"][at]["content"]), (&"char".into(), &"1:5".into()));
    let has = options(&seen, at);
    assert!(has.contains("nosuid") && !has.contains("nodev") && !has.contains("master:"), "{has}");
}

fn a_device_of_the_host_in_any_root(scene: &Scene) {
    let image = scene.image("image");
    scene.play(async |host| {
        let roots = [Access::ReadOnly, Access::Overlay].map(|access| Rootfs::Dir { path: image.clone(), access });
        for root in [Rootfs::HostAllowList, Rootfs::HostRoot].into_iter().chain(roots) {
            for at in ["/dev/mine", "/dev/a/b/mine", "/dev/null", "/tmp/mine"] {
                let mut spec = host.spec("device");
                spec.mounts[0].target = "/tmp/probe".into();
                spec.rootfs = root.clone();
                is_zero(host, spec, at).await;
            }
        }
    });
    assert!(!image.join("dev/mine").exists(), "the image was written to");
}

/// A block device too, where there is one: it is shown, not read.
fn a_device_with_the_hosts_user_ids(scene: &Scene) {
    scene.play(async |host| {
        let mut spec = host.spec("device");
        spec.user_namespace = UserNamespace::Host;
        is_zero(host, spec.clone(), "/dev/mine").await;
        if fs::metadata("/dev/loop0").is_ok_and(|meta| meta.file_type().is_block_device()) {
            spec.mounts.push(Mount::device("/dev/loop0"));
            let seen = host.once(spec, see(&["/dev/loop0"])).await.json();
            assert_eq!(seen["paths"]["/dev/loop0"]["kind"], "other", "{}", seen["paths"]);
        }
    });
}

fn what_is_no_device_is_refused(scene: &Scene) {
    scene.play(async |host| {
        let field = || "mounts[1].device".to_owned();
        for path in ["/etc/passwd", "/usr", "relative", "/dev/../dev/zero"] {
            assert_eq!(refused(host, Mount::device(path)).await.0, ErrorKind::Invalid, "{path}");
        }
        assert_eq!(refused(host, Mount::device("/etc/passwd")).await, (ErrorKind::Invalid, field(), false));
        assert_eq!(refused(host, Mount::device("/dev/no-such")).await, (ErrorKind::NotFound, field(), false));
        let read_only = refused(host, Mount::device("/dev/zero").read_only()).await;
        assert_eq!(read_only, (ErrorKind::Invalid, "mounts[1].read_only".into(), false));
        // There is no place for it in /dev/pts.
        let mut spec = host.spec("refused");
        let source = MountSource::Device("/dev/zero".into());
        spec.mounts.push(Mount::new(source, "/dev/pts/mine"));
        let errors = host.refused(spec, probe(&["true"])).await;
        assert_eq!(errors.0[0].field(), Some("mounts"), "{errors:?}");
    });
}

fn a_device_that_its_user_cannot_open_is_refused(scene: &Scene) {
    let closed = |path: &PathBuf| {
        let meta = fs::symlink_metadata(path).ok();
        meta.is_some_and(|meta| meta.file_type().is_char_device() && meta.mode() & 0o077 == 0 && meta.uid() == 0)
    };
    let nodes = fs::read_dir("/dev").expect("/dev").flatten().map(|entry| entry.path());
    let Some(path) = nodes.into_iter().find(closed) else {
        println!("this machine has no node of root's alone in /dev");
        return;
    };
    scene.play(async |host| {
        assert_eq!(refused(host, Mount::device(path)).await, (ErrorKind::Permission, "mounts[1].device".into(), true));
    });
}

/// The name leads elsewhere after the check: the child looks at what it has in hand.
fn a_device_that_became_another_is_not_mounted(scene: &Scene) {
    for other in ["/dev/full", "/etc/passwd"] {
        let name = scene.dir().join("node");
        symlink("/dev/zero", &name).expect("a link");
        let mut options = scene.options();
        let (swapped, other) = (name.clone(), PathBuf::from(other));
        options.faults = Faults::new(move |_, point| {
            if point == Point::IdRange {
                fs::remove_file(&swapped).and_then(|()| symlink(&other, &swapped)).expect("another link");
            }
            false
        });
        scene.play_with(options, async |host| {
            let mut spec = host.spec("swapped");
            let mut device = Mount::device(&name);
            device.target = "/dev/mine".into();
            spec.mounts.push(device);
            let errors = host.refused(spec, probe(&["true"])).await;
            let error = &errors.0[0];
            assert_eq!((error.errno(), error.field()), (Some(libc::ENODEV), Some("mounts")), "{error:?}");
        });
        fs::remove_file(&name).expect("removed");
    }
}
