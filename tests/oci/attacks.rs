//! Bundles and images that lie, and processes inside that try to get out. The bundle's author is trusted (`docs/security.md`): what is
//! attacked here is what an image brings along, who lives in a container, and other users of the machine.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{ChildStdout, Stdio};

use orangery_tests::swap::Swapper;
use orangery_tests::{Scene, Trial, trial, wait};
use serde_json::{Value, json};

use crate::bundle::{bundle, groups_below};
use crate::caller::{Caller, end_of, path, text};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial!(names_that_are_swapped_during_a_create, Root, Busybox),
        trial!(proc_and_sys_as_links_files_and_loops, Root, Busybox),
        trial!(a_masked_path_is_not_covered_by_what_the_image_says, Root, Busybox),
        trial!(a_working_directory_is_inside, Root, Busybox),
        trial!(no_descriptor_but_the_preserved_ones, Root, Busybox),
        trial!(the_program_cannot_be_reached_from_inside, Root, Busybox),
        trial!(nobody_sees_the_host_through_who_comes_in, Root, Busybox, Cgroups),
        trial!(who_waits_to_be_started_has_nothing_of_the_hosts, Root, Busybox, Cgroups),
        trial!(what_a_process_of_a_bundle_must_not_do, Root, Busybox),
        trial!(a_fork_bomb_in_a_bundle_ends_at_its_limit, Root, Busybox, Pids),
        trial!(a_node_that_is_made_inside_cannot_be_opened, Root, Busybox),
        trial!(id_maps_that_are_none_are_refused, Root, Busybox),
        trial!(hostile_words, Root, Busybox),
        trial!(hostile_config_files, Root, Busybox),
        trial!(a_state_directory_of_others_is_not_believed, Root, Busybox),
        trial!(a_file_is_not_written_through_a_link, Root, Busybox),
        trial!(a_passwd_of_the_image_is_no_trap, Root, Busybox),
    ]
}

/// `run` of what `change` makes of a bundle: the exit code, what it says and what it tells.
fn run(caller: &Caller<'_>, id: &str, args: &[&str], change: impl FnOnce(&mut Value)) -> (Option<i32>, String, String) {
    let bundle = bundle(caller.scene, id, args, change);
    let output = caller.run(&["run", "--bundle", path(&bundle), id]);
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn mounts(config: &mut Value) -> &mut Vec<Value> {
    config["mounts"].as_array_mut().expect("a list")
}

/// CVE-2021-30465, CVE-2025-52881: a name of the image is a directory when it is looked at and a link when it is used.
fn names_that_are_swapped_during_a_create(scene: &Scene) {
    let caller = Caller::new(scene);
    let outside = scene.dir().join("outside");
    fs::create_dir(&outside).expect("outside");
    fs::write(outside.join("mark"), "of the host").expect("mark");
    for (kind, field) in
        [("target", "mounts"), ("masked", "masked_paths"), ("read-only", "readonly_paths"), ("cwd", "cwd")]
    {
        let made = bundle(scene, kind, &["cat", "/place/mark", "mark"], |config| {
            match kind {
                "target" => mounts(config).push(json!({
                    "destination": "/place/made", "type": "tmpfs", "source": "tmpfs",
                })),
                "masked" => config["linux"]["maskedPaths"] = json!(["/place"]),
                "read-only" => config["linux"]["readonlyPaths"] = json!(["/place"]),
                _ => config["process"]["cwd"] = "/place".into(),
            }
            config["root"]["readonly"] = false.into();
        });
        let swapper = Swapper::start(made.join("rootfs"), "place", outside.clone());
        let mut refused = 0;
        for _ in 0..25 {
            let output = caller.run(&["run", "--bundle", path(&made), kind]);
            let (said, told) = (text(&output.stdout), text(&output.stderr));
            assert!(!said.contains("of the host"), "{kind}: {said}");
            if !told.contains("cat: ") {
                assert!(told.contains(field), "{kind}: {told}");
                refused += 1;
            }
            let found: Vec<_> =
                fs::read_dir(&outside).expect("outside").flatten().map(|entry| entry.file_name()).collect();
            assert_eq!(found, ["mark"], "{kind}: something was made outside");
        }
        assert!(swapper.stop() > 100, "{kind}: the race was not run ({refused} refused)");
    }
}

/// CVE-2023-28642 and others: what is mounted on must be a directory of the image.
fn proc_and_sys_as_links_files_and_loops(scene: &Scene) {
    let caller = Caller::new(scene);
    let outside = scene.dir().join("outside");
    fs::create_dir(&outside).expect("outside");
    for name in ["proc", "sys"] {
        for kind in ["absolute", "relative", "loop", "file", "inside"] {
            let id = format!("{name}-{kind}");
            let made = bundle(scene, &id, &["true"], |config| {
                mounts(config)
                    .push(json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"] }));
            });
            let place = made.join("rootfs").join(name);
            fs::remove_dir(&place).expect("removed");
            match kind {
                "absolute" => symlink(&outside, &place).expect("a link"),
                "relative" => symlink("../../outside", &place).expect("a link"),
                "loop" => symlink(name, &place).expect("a link"),
                "inside" => symlink("tmp", &place).expect("a link"),
                _ => fs::write(&place, "not a directory").expect("a file"),
            }
            let told = caller.bad(&["create", "--bundle", path(&made), &id]);
            assert!(told.contains("mounts"), "{id}: {told}");
        }
    }
    assert_eq!(fs::read_dir(&outside).expect("outside").count(), 0);
}

/// CVE-2025-31133: what covers a file is the host's /dev/null, whatever the image calls so.
fn a_masked_path_is_not_covered_by_what_the_image_says(scene: &Scene) {
    let caller = Caller::new(scene);
    for fake in ["file", "link"] {
        let made = bundle(scene, fake, &["cat", "/etc/secret"], |config| {
            config["mounts"] = json!([{ "destination": "/proc", "type": "proc", "source": "proc" }]);
            config["linux"]["maskedPaths"] = json!(["/etc/secret", "/proc/kcore"]);
            config["root"]["readonly"] = false.into();
        });
        let rootfs = made.join("rootfs");
        fs::write(rootfs.join("etc/secret"), "secret").expect("a secret");
        match fake {
            "file" => fs::write(rootfs.join("dev/null"), "fake").expect("a fake"),
            _ => symlink("/etc/passwd", rootfs.join("dev/null")).expect("a fake"),
        }
        let output = caller.run(&["run", "--bundle", path(&made), fake]);
        let said = (output.status.code(), text(&output.stdout));
        // Refused, or covered; never read.
        assert!(
            said == (Some(0), String::new()) || output.status.code() == Some(1),
            "{said:?} {}",
            text(&output.stderr)
        );
        assert_eq!(fs::read_to_string(rootfs.join("etc/secret")).expect("the secret"), "secret");
    }
}

/// CVE-2024-21626: a descriptor that leaks is a way to the host's files, as a working directory above all.
fn a_working_directory_is_inside(scene: &Scene) {
    let caller = Caller::new(scene);
    for (index, cwd) in
        ["/proc/self/fd/3", "/proc/self/fd/7/../../..", "/proc/thread-self/fd/8", "/link"].into_iter().enumerate()
    {
        for number in 3..12 {
            let id = format!("cwd-{index}-{number}");
            let cwd = cwd.replace("/3", &format!("/{number}"));
            let made = bundle(scene, &id, &["ls"], |config| config["process"]["cwd"] = cwd.clone().into());
            symlink(format!("/proc/self/fd/{number}"), made.join("rootfs/link")).expect("a link");
            let output = caller.run(&["run", "--bundle", path(&made), &id]);
            assert_eq!(output.status.code(), Some(1), "{cwd}: {} {}", text(&output.stdout), text(&output.stderr));
            if !cwd.contains('3') && cwd != "/link" {
                break;
            }
        }
    }
    let made = bundle(scene, "stays", &["sleep", "1000"], |_| ());
    let init = wait::pidfd(caller.create(&made, "stays", Stdio::null()));
    caller.good(&["start", "stays"]);
    for number in 3..12 {
        let cwd = format!("/proc/self/fd/{number}");
        let output = caller.run(&["exec", "--cwd", &cwd, "stays", "ls"]);
        assert_eq!(output.status.code(), Some(255), "{cwd}: {}", text(&output.stdout));
    }
    caller.good(&["delete", "--force", "stays"]);
    end_of(&init);
}

/// Whatever the caller has open: 0, 1, 2, and those that are to be preserved.
fn no_descriptor_but_the_preserved_ones(scene: &Scene) {
    let caller = Caller::new(scene);
    let leaked: Vec<fs::File> = (0..12)
        .map(|_| {
            let file = fs::File::open("/").expect("a directory of the host");
            rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).expect("inheritable");
            file
        })
        .collect();
    // What lists them has the directory open as well.
    let list = ["sh", "-c", "cd /proc/self/fd && echo *"];
    let numbers = |said: &str| said.split_whitespace().filter_map(|name| name.parse().ok()).collect::<Vec<u32>>();
    let made = bundle(scene, "fds", &list, |_| ());
    let none = numbers(&caller.good(&["run", "--bundle", path(&made), "fds"]));
    assert!(none.len() <= 4 && none.starts_with(&[0, 1, 2]), "{none:?}");
    let two = numbers(&caller.good(&["run", "--preserve-fds", "2", "--bundle", path(&made), "fds"]));
    assert!(two.starts_with(&[0, 1, 2, 3, 4]) && two.len() <= 6 && two.len() == none.len() + 2, "{two:?} {none:?}");
    let sleeps = bundle(scene, "stays", &["sleep", "1000"], |_| ());
    let init = wait::pidfd(caller.create(&sleeps, "stays", Stdio::null()));
    caller.good(&["start", "stays"]);
    let exec = |options: &[&str]| numbers(&caller.good(&[&["exec"], options, &["stays"], &list[..]].concat()));
    assert_eq!(exec(&[]), none);
    assert_eq!(exec(&["--preserve-fds", "2"]), two);
    caller.good(&["delete", "--force", "stays"]);
    end_of(&init);
    drop(leaked);
}

/// CVE-2019-5736: the program that makes and enters containers is executed from inside, or opened while it is on its way.
fn the_program_cannot_be_reached_from_inside(scene: &Scene) {
    let caller = Caller::new(scene);
    let us = std::env::current_exe().expect("us");
    let sum = |file: &Path| {
        (fs::metadata(file).expect("us").len(), fs::metadata(file).expect("us").modified().expect("a time"))
    };
    let before = sum(&us);
    let (code, said, _) = run(&caller, "self", &["/proc/self/exe", "--help"], |_| ());
    assert!(code != Some(0) && !said.contains("orangery"), "{code:?} {said}");
    let made = bundle(scene, "spied", &["/probe", "spy"], |_| ());
    let (said, ()) = beside(&caller, &made, "spied", |_| {
        for _ in 0..30 {
            caller.good(&["exec", "spied", "true"]);
        }
    });
    let said: Value = serde_json::from_str(&said).expect("JSON");
    assert!(said["looked"].as_u64() > Some(30), "{said}");
    assert_eq!(said["opened"], json!([]), "{said}");
    // A script whose interpreter is whoever executes it: that is sealed memory, which nobody can write to, whoever finds it.
    let write = "echo ready; while ! read -t 0 end; do for exe in /proc/[0-9]*/exe; do \
                 if ls -l $exe | busybox grep -q keeper; then echo found; fi; (echo x > $exe) && echo written; done; done 2>/dev/null; exit 0";
    let made = bundle(scene, "written", &["sh", "-c", write], |_| ());
    let script = made.join("rootfs/bin/trap");
    fs::write(&script, "#!/proc/self/exe\n").expect("a script");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("its mode");
    let (said, ()) = beside(&caller, &made, "written", |_| {
        for _ in 0..30 {
            let output = caller.run(&["exec", "written", "trap"]);
            assert_ne!(output.status.code(), Some(0), "{}", text(&output.stdout));
        }
    });
    assert!(!said.contains("written"), "{said}");
    assert_eq!(sum(&us), before);
}

/// With the one capability that lets it look at processes of root's, and no user namespace that would make it worthless.
fn looks_at_others(config: &mut Value) {
    for set in ["bounding", "effective", "permitted"] {
        config["process"]["capabilities"][set] = json!(["CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"]);
    }
}

fn nobody_sees_the_host_through_who_comes_in(scene: &Scene) {
    let caller = Caller::new(scene);
    let secret = scene.dir().join("secret");
    fs::write(&secret, "secret of the host").expect("a file of the host's");
    let made = bundle(scene, "peeks", &["/probe", "peek", path(&secret)], looks_at_others);
    let (said, still) = beside(&caller, &made, "peeks", |lines| {
        // Who is born in a group that stands still does so from his first moment on, as long as somebody looks.
        let below = groups_below(scene);
        let freezers: Vec<_> =
            below.iter().map(|group| group.join("cgroup.freeze")).filter(|file| file.exists()).collect();
        let freeze = |word| freezers.iter().for_each(|file| fs::write(file, word).expect("a freezer of version 2"));
        // 1 is who looks, and 2 a thread of it.
        for number in 3..33 {
            freeze("1");
            let mut exec = caller.command(&["exec", "--cgroup", "/below", "peeks", "cat"]);
            let mut exec = exec.stdin(Stdio::piped()).spawn().expect("it runs");
            let mut line = String::new();
            lines.read_line(&mut line).expect("a line");
            assert_eq!(line, format!("{number}\n"), "each has been looked at");
            freeze("0");
            drop(exec.stdin.take());
            assert!(wait::child(&mut exec, wait::PATIENCE).expect("waited").expect("in time").success());
        }
        below.iter().for_each(|group| wait::removed(group));
        !freezers.is_empty()
    });
    let said: Value = serde_json::from_str(&said).expect("JSON");
    assert!(said["early"].as_u64() >= Some(if still { 30 } else { 1 }), "{said}");
    assert_eq!(said["found"], json!([]), "{said}");
}

/// A further process may come in before the command runs, and so may a hook of the image's.
fn who_waits_to_be_started_has_nothing_of_the_hosts(scene: &Scene) {
    let caller = Caller::new(scene);
    let made = bundle(scene, "waits", &["sleep", "1000"], looks_at_others);
    let init = wait::pidfd(caller.create(&made, "waits", Stdio::null()));
    let list = "for fd in /proc/1/fd/*; do echo ${fd##*/} $(busybox stat -L -c %F $fd); done";
    let said = caller.good(&["exec", "waits", "sh", "-c", list]);
    caller.good(&["delete", "--force", "waits"]);
    end_of(&init);
    let others: Vec<_> = said.lines().filter_map(|line| line.split_once(' ')).filter(|(fd, _)| fd.len() > 1).collect();
    assert!(said.lines().count() >= 4, "{said}");
    assert!(others.iter().all(|(_, kind)| *kind == "fifo"), "{said}");
    let low = said.lines().filter(|line| line.split_once(' ').is_some_and(|(fd, _)| fd.len() == 1)).count();
    assert_eq!(low, 3, "{said}");
}

/// What one says after its first line, while something is done beside it: from that line on until its input ends.
fn beside<T>(
    caller: &Caller<'_>,
    bundle: &Path,
    id: &str,
    what: impl FnOnce(&mut BufReader<ChildStdout>) -> T,
) -> (String, T) {
    let mut command = caller.command(&["run", "--bundle", path(bundle), id]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe"));
    let (mut first, mut rest) = (String::new(), String::new());
    lines.read_line(&mut first).expect("a line");
    assert_eq!(first, "ready\n");
    let done = what(&mut lines);
    drop(child.stdin.take());
    lines.read_to_string(&mut rest).expect("its words");
    assert!(wait::child(&mut child, wait::PATIENCE).expect("waited").expect("in time").success());
    (rest, done)
}

/// As root of the host's ids, without a filter: what is left are namespaces, capabilities and masks.
fn what_a_process_of_a_bundle_must_not_do(scene: &Scene) {
    let caller = Caller::new(scene);
    let masked = json!(["/proc/kcore", "/proc/keys", "/sys/firmware"]);
    let read_only = json!(["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]);
    // Not as pid 1, which is attacked as well.
    let made = bundle(scene, "attacks", &["sleep", "1000"], |config| {
        mounts(config).push(json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"] }));
        config["linux"]["maskedPaths"] = masked;
        config["linux"]["readonlyPaths"] = read_only;
    });
    let init = wait::pidfd(caller.create(&made, "attacks", Stdio::null()));
    caller.good(&["start", "attacks"]);
    let said = caller.good(&["exec", "attacks", "/probe", "attack"]);
    caller.good(&["delete", "--force", "attacks"]);
    end_of(&init);
    let said: Value = serde_json::from_str(&said).expect("JSON");
    for name in [
        "open-own-exe-for-write",
        "setns-mnt",
        "setns-net",
        "unshare-mnt",
        "unshare-net",
        "mount-tmpfs",
        "mount-proc",
        "bind-root",
        "remount-root-rw",
        "remount-sys-rw",
        "umount-proc",
        "umount-mask",
        "pivot-root",
        "climb-out-of-chroot",
        "open-tree",
        "fsopen",
        "mount-setattr",
        "mknod-block",
        "mknod-char",
        "tiocsti",
        "bpf",
        "kexec",
        "init-module",
        "delete-module",
        "reboot",
        "swapon",
        "open-by-handle",
        "sethostname",
        "settimeofday",
        "acct",
        "packet-socket",
        "raw-socket",
        "sysrq",
        "core-pattern",
        "modprobe-path",
        "uevent-helper",
        "lower-oom-score",
        "write-usr",
        "write-root",
        "write-etc",
        "open-kcore",
        "open-dev-mem",
        "open-disk",
        "dirty-inheritable",
    ] {
        assert!(said[name].as_i64().is_some_and(|errno| errno < 0), "{name} worked: {said}");
    }
    // CVE-2022-29162.
    let (_, said, _) = run(&caller, "sets", &["cat", "/proc/self/status"], |_| ());
    for set in ["CapInh", "CapAmb"] {
        assert!(said.contains(&format!("{set}:\t0000000000000000")), "{said}");
    }
}

fn a_fork_bomb_in_a_bundle_ends_at_its_limit(scene: &Scene) {
    let caller = Caller::new(scene);
    let bomb = "n=0; while [ $n -lt 100 ]; do sleep 1000 & n=$((n + 1)); done; echo all";
    let (code, said, told) = run(&caller, "bomb", &["sh", "-c", bomb], |config| {
        config["linux"]["resources"] = json!({ "pids": { "limit": 20 } });
    });
    assert!(code != Some(0) && said.is_empty() && told.contains("fork"), "{code:?} {said} {told}");
    assert!(scene.cgroups().is_empty(), "{:?}", scene.cgroups());
}

/// Of a bundle that lets it make nodes.
fn a_node_that_is_made_inside_cannot_be_opened(scene: &Scene) {
    let caller = Caller::new(scene);
    // A loop device: there on every machine, and nobody's.
    let script = "busybox mknod /dev/x b 7 0 && busybox dd if=/dev/x of=/dev/null bs=1 count=1 && echo opened";
    let (code, said, told) = run(&caller, "node", &["sh", "-c", script], |config| {
        let caps = json!(["CAP_MKNOD"]);
        config["process"]["capabilities"] = json!({ "bounding": caps, "effective": caps, "permitted": caps });
        config["linux"]["resources"] = json!({ "devices": [{ "allow": false, "access": "rwm" }] });
    });
    assert!(code != Some(0) && !said.contains("opened"), "{told}");
    // A user namespace takes that away from everybody.
    let (code, said, told) = run(&caller, "mapped", &["sh", "-c", script], |config| {
        let caps = json!(["CAP_MKNOD"]);
        config["process"]["capabilities"] = json!({ "bounding": caps, "effective": caps, "permitted": caps });
        config["linux"]["namespaces"].as_array_mut().expect("a list").push(json!({ "type": "user" }));
        for map in ["uidMappings", "gidMappings"] {
            config["linux"][map] = json!([{ "containerID": 0, "hostID": 0, "size": 1 }]);
        }
    });
    assert!(code != Some(0) && !said.contains("opened"), "{told}");
}

fn id_maps_that_are_none_are_refused(scene: &Scene) {
    let caller = Caller::new(scene);
    let map = |inside: u64, outside: u64, size: u64| json!({ "containerID": inside, "hostID": outside, "size": size });
    let maps: Vec<(&str, Value)> = vec![
        ("overlap-inside", json!([map(0, 300_000, 10), map(5, 400_000, 10)])),
        ("overlap-outside", json!([map(0, 300_000, 10), map(20, 300_005, 10)])),
        ("wraps-outside", json!([map(0, 4_294_967_290, 100)])),
        ("wraps-inside", json!([map(4_294_967_290, 300_000, 100)])),
        ("everything", json!([map(0, 1, u64::from(u32::MAX))])),
        ("too-wide", json!([map(0, 300_000, 1 << 33)])),
        ("nothing", json!([map(0, 300_000, 0)])),
        ("none", json!([])),
        ("many", json!((0..400).map(|n| map(n, 300_000 + n, 1)).collect::<Vec<_>>())),
    ];
    for (id, map) in maps {
        let made = bundle(scene, id, &["true"], |config| {
            config["linux"]["namespaces"].as_array_mut().expect("a list").push(json!({ "type": "user" }));
            (config["linux"]["uidMappings"], config["linux"]["gidMappings"]) = (map.clone(), map);
        });
        let told = caller.bad(&["create", "--bundle", path(&made), id]);
        assert!(caller.bad(&["state", id]).contains("does not exist"), "{id}: {told}");
    }
}

/// Words that reach files, paths and the parser.
fn hostile_words(scene: &Scene) {
    let caller = Caller::new(scene);
    let made = bundle(scene, "words", &["true"], |_| ());
    fs::create_dir_all(&caller.root).expect("the state directory");
    let long = "x".repeat(200);
    for id in ["..", ".", "", "../words", "a/b", "/", "a\nb", "a b", "ä", &long] {
        for line in
            [&["create", "--bundle", path(&made)][..], &["state"], &["kill"], &["delete"], &["start"], &["pause"]]
        {
            let output = caller.run(&[line, &["--", id]].concat());
            assert_eq!(output.status.code(), Some(1), "{line:?} {id:?}: {}", text(&output.stderr));
        }
    }
    assert_eq!(fs::read_dir(&caller.root).expect("the state directory").count(), 0);
    type Change = fn(&mut Value);
    let changes: [(&str, Change); 9] = [
        ("cgroups", |config| config["linux"]["cgroupsPath"] = "/../../x".into()),
        ("cgroup-top", |config| config["linux"]["cgroupsPath"] = "/".into()),
        ("nul-arg", |config| config["process"]["args"] = json!(["true", "a\0b"])),
        ("nul-path", |config| config["process"]["cwd"] = "/a\0b".into()),
        ("nul-mount", |config| mounts(config).push(json!({ "destination": "/x\0y", "type": "tmpfs", "source": "t" }))),
        ("newline", |config| config["hostname"] = "a\nb".into()),
        ("sysctl", |config| config["linux"]["sysctl"] = json!({ "kernel.core_pattern": "|/x" })),
        ("sysctl-path", |config| config["linux"]["sysctl"] = json!({ "net/../kernel/core_pattern": "|/x" })),
        ("root", |config| config["root"]["path"] = "/proc/self/root\0".into()),
    ];
    for (id, change) in changes {
        let made = bundle(scene, id, &["true"], change);
        caller.bad(&["create", "--bundle", path(&made), id]);
    }
}

/// A config.json that is none, however it is none: an answer, and soon.
fn hostile_config_files(scene: &Scene) {
    let caller = Caller::new(scene);
    let dir = scene.dir().join("config");
    fs::create_dir(&dir).expect("a directory");
    let file = dir.join("config.json");
    let nested = "[".repeat(200_000);
    let deep = format!("{{\"ociVersion\": \"1.0.2\", \"annotations\": {}", "{\"a\":".repeat(50_000));
    let wide = format!("{{\"ociVersion\": \"1.0.2\", \"x\": \"{}\"}}", "x".repeat(17 << 20));
    for content in ["", "{", "null", "[]", "{}", "\u{0}", &nested, &deep, &wide] {
        fs::write(&file, content).expect("a file");
        let told = caller.bad(&["create", "--bundle", path(&dir), "it"]);
        assert!(told.len() < 2000, "{} bytes", told.len());
    }
    // Larger than memory, never ending, never beginning, and not there.
    fs::File::create(&file).and_then(|file| file.set_len(1 << 40)).expect("a sparse file");
    assert!(caller.bad(&["create", "--bundle", path(&dir), "it"]).contains("16 MiB"));
    for special in ["/dev/zero", "/dev/null", "fifo", "loop", "/proc/self/mem", "."] {
        fs::remove_file(&file).expect("removed");
        match special {
            "fifo" => {
                let mode = rustix::fs::Mode::RWXU;
                rustix::fs::mknodat(rustix::fs::CWD, &file, rustix::fs::FileType::Fifo, mode, 0).expect("a fifo");
            }
            "loop" => symlink("config.json", &file).expect("a link"),
            target => symlink(target, &file).expect("a link"),
        }
        assert!(caller.bad(&["create", "--bundle", path(&dir), "it"]).contains("config.json"), "{special}");
    }
    // The last of a name counts, as for everybody who reads JSON with Go.
    let made = bundle(scene, "twice", &["sh", "-c", "echo first"], |_| ());
    let config = fs::read_to_string(made.join("config.json")).expect("a file");
    let twice = config.replacen("\"args\":", "\"args\":[\"sh\",\"-c\",\"echo never\"],\"args\":", 1);
    assert_ne!(config, twice);
    fs::write(made.join("config.json"), twice).expect("a file");
    assert_eq!(caller.good(&["run", "--bundle", path(&made), "twice"]), "first\n");
}

/// Whoever may write where containers are written down says whom `kill` and `delete` end.
fn a_state_directory_of_others_is_not_believed(scene: &Scene) {
    let caller = Caller::new(scene);
    let victim = bundle(scene, "victim", &["sleep", "1000"], |_| ());
    let init = wait::pidfd(caller.create(&victim, "victim", Stdio::null()));
    caller.good(&["start", "victim"]);
    let record = fs::read(caller.root.join("victim/state.json")).expect("a record");
    let nobody = Some(65_534);
    // Of a place that all can write to, as /tmp is, with a room in it that somebody else has made.
    let open = scene.dir().join("open");
    fs::create_dir_all(open.join("victim")).expect("a directory");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o1777)).expect("its mode");
    fs::write(open.join("victim/state.json"), &record).expect("a record");
    std::os::unix::fs::chown(open.join("victim"), nobody, nobody).expect("given");
    let theirs = Caller { scene, root: open.clone() };
    for line in [&["state"][..], &["kill"], &["delete", "--force"], &["exec"]] {
        let output = theirs.run(&[line, &["victim"], if line == ["exec"] { &["true"] } else { &[] }].concat());
        assert!(
            !output.status.success() && text(&output.stderr).contains("belongs to user"),
            "{line:?}: {}",
            text(&output.stderr)
        );
    }
    // One of ours that everybody may write to, and a record that is a link to another's file.
    std::os::unix::fs::chown(open.join("victim"), Some(0), Some(0)).expect("ours");
    fs::set_permissions(open.join("victim"), fs::Permissions::from_mode(0o777)).expect("its mode");
    assert!(theirs.bad(&["delete", "--force", "victim"]).contains("can be written to by others"));
    fs::set_permissions(open.join("victim"), fs::Permissions::from_mode(0o711)).expect("its mode");
    fs::rename(open.join("victim/state.json"), open.join("record")).expect("moved");
    symlink("../record", open.join("victim/state.json")).expect("a link");
    assert!(theirs.bad(&["state", "victim"]).contains("state.json"));
    assert_eq!(caller.status("victim"), "running");
    // Of whoever has the place, each name may be that of another one: by his right, by everybody's, or by root's mistake.
    fs::remove_file(open.join("victim/state.json")).expect("removed");
    fs::write(open.join("victim/state.json"), &record).expect("a record");
    fs::rename(open.join("victim"), open.join("other")).expect("moved");
    assert!(theirs.bad(&["kill", "other"]).contains("it is that of container victim"));
    assert!(theirs.bad(&["delete", "--force", "other"]).contains("it is that of container victim"));
    fs::rename(open.join("other"), open.join("victim")).expect("moved");
    for (owner, mode, why) in [(65_534, 0o755, "belongs to user"), (0, 0o777, "can be written to by others")] {
        std::os::unix::fs::chown(&open, Some(owner), None).expect("given");
        fs::set_permissions(&open, fs::Permissions::from_mode(mode)).expect("its mode");
        for line in [&["state", "victim"][..], &["delete", "--force", "victim"], &["list"], &["create", "new"]] {
            let command = theirs.command(line).current_dir(victim.as_path()).output().expect("it runs");
            let told = text(&command.stderr);
            assert!(!command.status.success() && told.contains(why), "{line:?}: {told}");
        }
    }
    assert_eq!(caller.status("victim"), "running");
    fs::remove_dir_all(&open).expect("removed");
    caller.good(&["delete", "--force", "victim"]);
    end_of(&init);
}

/// The file that becomes the pid file has a name that can be guessed, in a directory that others may write to.
fn a_file_is_not_written_through_a_link(scene: &Scene) {
    let caller = Caller::new(scene);
    let made = bundle(scene, "links", &["sleep", "1000"], |_| ());
    let (dir, victim) = (scene.dir().join("shared"), scene.dir().join("victim"));
    fs::create_dir(&dir).expect("a directory");
    fs::write(&victim, "victim").expect("a file");
    let us = std::process::id();
    for pid in us..us + 4000 {
        symlink(&victim, dir.join(format!(".pid.{pid}"))).expect("a link");
    }
    symlink(&victim, dir.join("pid")).expect("a link");
    let mut create =
        caller.command(&["create", "--pid-file", path(&dir.join("pid")), "--bundle", path(&made), "links"]);
    // The container has its output as well, and longer.
    assert!(create.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("it runs").success());
    let pid = fs::read_to_string(dir.join("pid")).expect("a pid file").parse().expect("a number");
    let init = wait::pidfd(pid);
    assert_eq!(fs::read_to_string(&victim).expect("a file"), "victim");
    assert!(fs::symlink_metadata(dir.join("pid")).expect("a pid file").is_file());
    caller.good(&["delete", "--force", "links"]);
    end_of(&init);
}

/// Names are looked up inside, in what may be anything.
fn a_passwd_of_the_image_is_no_trap(scene: &Scene) {
    let caller = Caller::new(scene);
    let outside = scene.dir().join("passwd");
    fs::write(&outside, "victim:x:42:42::/:/bin/sh\n").expect("outside");
    let made = bundle(scene, "names", &["sleep", "1000"], |_| ());
    let init = wait::pidfd(caller.create(&made, "names", Stdio::null()));
    caller.good(&["start", "names"]);
    let passwd = made.join("rootfs/etc/passwd");
    for kind in ["link", "fifo", "directory", "large", "loop"] {
        let _ = fs::remove_file(&passwd);
        let _ = fs::remove_dir(&passwd);
        match kind {
            "link" => symlink(&outside, &passwd).expect("a link"),
            "fifo" => {
                let mode = rustix::fs::Mode::RWXU;
                rustix::fs::mknodat(rustix::fs::CWD, &passwd, rustix::fs::FileType::Fifo, mode, 0).expect("a fifo");
            }
            "directory" => fs::create_dir(&passwd).expect("a directory"),
            "loop" => symlink("passwd", &passwd).expect("a link"),
            _ => fs::File::create(&passwd).and_then(|file| file.set_len(1 << 40)).expect("a sparse file"),
        }
        let output = caller.run(&["exec", "--user", "victim", "names", "id"]);
        assert_eq!(output.status.code(), Some(255), "{kind}: {}", text(&output.stdout));
        assert!(text(&output.stderr).contains("user"), "{kind}: {}", text(&output.stderr));
    }
    caller.good(&["delete", "--force", "names"]);
    end_of(&init);
}
