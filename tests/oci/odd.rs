//! Configurations that are odd, and good all the same; or are not.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use orangery_tests::{Scene, wait};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use serde_json::{Value, json};

use crate::bundle::bundle;
use crate::caller::{Caller, end_of, path, text};

/// What `run` of it comes to: exit code, output, errors.
fn runs(scene: &Scene, name: &str, args: &[&str], change: impl FnOnce(&mut Value)) -> (Option<i32>, String, String) {
    let bundle = bundle(scene, name, args, change);
    let output = Caller::new(scene).run(&["run", "--bundle", path(&bundle), name]);
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

pub(crate) fn a_device_directory_may_be_read_only(scene: &Scene) {
    let script = "echo x >/dev/null && ls /dev/pts >/dev/null && cd /run/deep && echo y >/dev/new";
    let (code, _, told) = runs(scene, "still", &["sh", "-c", script], |config| {
        config["mounts"][1]["options"] = json!(["nosuid", "ro"]);
        let more = [("/run", &["ro"][..]), ("/run/deep", &["ro", "size=64k"])];
        let more = more.map(|(at, options)| json!({ "destination": at, "type": "tmpfs", "options": options }));
        config["mounts"].as_array_mut().expect("a list").extend(more);
    });
    assert!(code == Some(1) && told.contains("/dev/new: Read-only file system"), "{code:?}: {told}");
}

pub(crate) fn nothing_but_a_procfs_is_on_proc(scene: &Scene) {
    for (kind, source, options) in [("bind", "/etc", &["bind"][..]), ("tmpfs", "tmpfs", &[]), ("sysfs", "sysfs", &[])] {
        let (code, _, told) = runs(scene, kind, &["true"], |config| {
            config["mounts"][0] = json!({ "destination": "/proc", "type": kind, "source": source, "options": options });
        });
        assert!(code == Some(1) && told.contains("nothing but a procfs"), "{kind}: {code:?}: {told}");
    }
    let (code, said, told) = runs(scene, "copy", &["cat", "/proc/sys/kernel/ostype"], |config| {
        config["mounts"][0] = json!({ "destination": "/proc", "source": "/proc", "options": ["rbind", "ro"] });
    });
    assert_eq!((code, said.as_str()), (Some(0), "Linux\n"), "{told}");
}

pub(crate) fn a_tmpfs_has_the_mode_of_its_place(scene: &Scene) {
    let tmpfs = |at: &str, options: &[&str]| json!({ "destination": at, "type": "tmpfs", "options": options });
    let script = "busybox stat -c %a /var /home /new /root";
    let (code, said, told) = runs(scene, "modes", &["sh", "-c", script], |config| {
        config["root"]["readonly"] = false.into();
        let more = [("/var", &["size=64k"][..]), ("/home", &["mode=0410"]), ("/new", &[]), ("/root", &["ro"])];
        let image = scene.dir().join("modes/rootfs");
        for (name, mode) in [("var", 0o2710), ("home", 0o755), ("root", 0o700)] {
            fs::set_permissions(image.join(name), fs::Permissions::from_mode(mode)).expect("a mode");
        }
        config["mounts"].as_array_mut().expect("a list").extend(more.map(|(at, options)| tmpfs(at, options)));
    });
    assert_eq!((code, said.as_str()), (Some(0), "2710\n410\n1777\n700\n"), "{told}");
}

/// What lies where a device is to be is that device, or nothing is started: a file would be taken for it.
pub(crate) fn a_file_is_no_device(scene: &Scene) {
    let put = |name: &str, path: &'static str| {
        runs(scene, name, &["true"], |config| {
            config["root"]["readonly"] = false.into();
            config["linux"]["devices"] = json!([{ "path": path, "type": "c", "major": 1, "minor": 3 }]);
        })
    };
    let (code, _, told) = put("file", "/etc/marker");
    assert!(code == Some(1) && told.contains("devices"), "{code:?}: {told}");
    assert_eq!(put("fresh", "/etc/null").0, Some(0));
    let (code, _, told) = runs(scene, "image", &["true"], |config| {
        // The image's own /dev, with a file in it.
        fs::write(scene.dir().join("image/rootfs/dev/zero"), "no zeros").expect("a file");
        config["mounts"].as_array_mut().expect("a list").retain(|mount| mount["destination"] == "/proc");
    });
    assert!(code == Some(1) && told.contains("devices"), "{code:?}: {told}");
}

pub(crate) fn without_a_pid_namespace_all_are_killed(scene: &Scene) {
    let caller = Caller::new(scene);
    let bundle = bundle(scene, "host", &["sleep", "1000"], |config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().expect("a list");
        namespaces.retain(|namespace| namespace["type"] != "pid");
    });
    let further = || {
        let file = scene.dir().join("further.pid");
        let line = ["exec", "--detach", "--pid-file", path(&file), "host", "sleep", "1000"];
        assert!(caller.command(&line).stdout(Stdio::null()).status().expect("it runs").success());
        wait::pidfd(fs::read_to_string(file).expect("a pid file").parse().expect("a number"))
    };
    for init_is_gone in [false, true] {
        let init = wait::pidfd(caller.create(&bundle, "host", Stdio::null()));
        caller.good(&["start", "host"]);
        let other = further();
        if init_is_gone {
            wait::kill(&init);
            end_of(&init);
            assert!(caller.bad(&["kill", "host", "TERM"]).contains("not running"));
        } else {
            caller.good(&["kill", "host", "0"]);
        }
        caller.good(&["kill", "host", "KILL"]);
        assert_eq!(end_of(&other).terminating_signal(), Some(9));
        if !init_is_gone {
            end_of(&init);
        }
        caller.good(&["delete", "host"]);
    }
}

pub(crate) fn an_update_leaves_what_it_does_not_name(scene: &Scene) {
    let caller = Caller::new(scene);
    let bundle = bundle(scene, "updated", &["sleep", "1000"], |config| {
        config["linux"]["resources"] = json!({ "cpu": { "period": 50_000 }, "pids": { "limit": 20 } });
    });
    let init = wait::pidfd(caller.create(&bundle, "updated", Stdio::null()));
    let read = |file: &str| {
        let text = scene.cgroup_parents().iter().find_map(|at| fs::read_to_string(at.join("updated").join(file)).ok());
        text.map(|text| text.trim().to_owned())
    };
    let cpu = || match (read("cpu.max"), read("cpu.cfs_quota_us"), read("cpu.cfs_period_us")) {
        (_, Some(quota), Some(period)) => format!("{} {period}", if quota == "-1" { "max" } else { &quota }),
        (max, ..) => max.expect("a controller of processor time"),
    };
    assert_eq!(cpu(), "max 50000", "a period without a quota");
    for (options, is) in [
        (&["--cpu-quota", "30000"][..], "30000 50000"),
        (&["--cpu-period", "60000"], "30000 60000"),
        (&["--cpu-quota", "-1"], "max 60000"),
    ] {
        caller.good(&[&["update"], options, &["updated"]].concat());
        assert_eq!(cpu(), is, "{options:?}");
    }
    caller.good(&["update", "updated", "--memory", "50M", "--pids-limit", "-1"]);
    let memory = read("memory.max").or_else(|| read("memory.limit_in_bytes"));
    assert_eq!((memory.as_deref(), read("pids.max").as_deref()), (Some("52428800"), Some("max")));
    caller.good(&["delete", "--force", "updated"]);
    end_of(&init);
}

pub(crate) fn a_process_file_need_not_say_who(scene: &Scene) {
    let caller = Caller::new(scene);
    let bundle = bundle(scene, "who", &["sleep", "1000"], |_| ());
    let init = wait::pidfd(caller.create(&bundle, "who", Stdio::null()));
    caller.good(&["start", "who"]);
    let file = scene.dir().join("process.json");
    fs::write(&file, json!({ "args": ["/bin/id", "-u"], "cwd": "/" }).to_string()).expect("a file");
    assert_eq!(caller.good(&["exec", "--process", path(&file), "who"]), "0\n");
    let debug = caller.run(&["--debug", "state", "who"]);
    assert!(text(&debug.stderr).contains("level=debug"), "{}", text(&debug.stderr));
    caller.good(&["delete", "--force", "who"]);
    end_of(&init);
    // A program that is none is told by its name, when it is started.
    let (code, _, told) = runs(scene, "script", &["/tmp/script"], |_| {
        let script = scene.dir().join("script/rootfs/tmp/script");
        fs::write(&script, "#!/no/such/interpreter\n").expect("a script");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("its mode");
    });
    assert!(code == Some(1) && told.contains("exec /tmp/script: No such file"), "{code:?}: {told}");
    // Its keeper has outlived the command, and is ours.
    while waitid(WaitId::All, WaitIdOptions::EXITED).is_ok() {}
}

/// As where the host's root is an initramfs, which nobody can pivot away from: what is entered by chroot is the image all the same.
pub(crate) fn without_pivot_the_root_is_the_images(scene: &Scene) {
    let caller = Caller::new(scene);
    for (name, hooks) in [("moved", json!({})), ("hooked", json!({ "createContainer": [{ "path": "/bin/true" }] }))] {
        let bundle = bundle(scene, name, &["sleep", "1000"], |config| {
            config["hooks"] = hooks;
            config["linux"]["maskedPaths"] = json!(["/proc/keys", "/proc/timer_list", "/sys/firmware"]);
        });
        let pid_file = scene.dir().join(format!("{name}.pid"));
        let line = ["create", "--no-pivot", "-b", path(&bundle), "--pid-file", path(&pid_file), name];
        // What it says would be the container's as well.
        assert!(caller.command(&line).stdout(Stdio::null()).status().expect("it runs").success());
        let init = wait::pidfd(fs::read_to_string(pid_file).expect("a pid file").parse().expect("a number"));
        caller.good(&["start", name]);
        // A further process comes in by another way.
        let seen = caller.good(&[
            "exec",
            name,
            "sh",
            "-c",
            "cd /; pwd; cat etc/marker; cat /proc/1/comm; ls ../usr/lib 2>&1 || true",
        ]);
        let first = caller.good(&["exec", name, "sh", "-c", "cd /proc/1/root && cat etc/marker"]);
        assert!(seen.starts_with("/\n") && seen.contains("sleep\n"), "{seen}");
        assert!(!first.is_empty() && seen.contains(&first), "{seen}: {first}");
        assert!(seen.contains("No such file"), "the host's is not there: {seen}");
        let mounts = caller.good(&["exec", name, "cat", "/proc/self/mountinfo"]);
        assert!(mounts.lines().any(|line| line.split(' ').nth(4) == Some("/")), "{mounts}");
        for kind in ["proc", "sysfs"] {
            // Nothing would be masked in it. The kernel allows it where it finds a whole one.
            let mount = format!("unshare --user --map-root-user --net --mount --pid --fork mount -t {kind} none /tmp");
            let refused =
                caller.run(&["exec", "--cap", "CAP_SETFCAP", name, "sh", "-c", &format!("{mount} 2>&1 || echo $?")]);
            let told = text(&refused.stdout);
            assert!(told.contains("permission denied"), "{kind}: {told}");
        }
        caller.good(&["delete", "--force", name]);
        end_of(&init);
    }
}

/// Where it is without `linux.cgroupsPath`: the topmost group itself has none of these files.
pub(crate) fn a_group_at_the_top_has_limits(scene: &Scene) {
    let caller = Caller::new(scene);
    let name = format!("at-the-top-of-{}", std::process::id());
    let bundle = bundle(scene, "top", &["sleep", "1000"], |config| {
        config["linux"]["cgroupsPath"] = format!("/{name}").into();
        config["linux"]["resources"] = json!({ "pids": { "limit": 41 } });
    });
    let limit = || {
        let mut groups = orangery_tests::scene::hierarchies().into_iter().map(|top| top.join(&name));
        groups.find_map(|group| fs::read_to_string(group.join("pids.max")).ok()).map(|text| text.trim().to_owned())
    };
    let init = wait::pidfd(caller.create(&bundle, "top", Stdio::null()));
    let made = limit();
    let updated = caller.run(&["update", "--pids-limit", "42", "top"]);
    let changed = limit();
    caller.good(&["delete", "--force", "top"]);
    end_of(&init);
    assert_eq!(made.as_deref(), Some("41"));
    assert_eq!((text(&updated.stderr).as_str(), changed.as_deref()), ("", Some("42")));
    assert_eq!(limit(), None, "it is still there");
}

pub(crate) fn who_wants_systemd_is_told(scene: &Scene) {
    let caller = Caller::new(scene);
    let unit = |config: &mut Value| config["linux"]["cgroupsPath"] = json!("a.slice:b:c");
    let (bundle, by_path) = (bundle(scene, "asked", &["true"], unit), bundle(scene, "by-path", &["true"], |_| ()));
    let socket = scene.dir().join("bus");
    for global in [&["--systemd-cgroup"][..], &["--cgroup-manager", "systemd"]] {
        let refused = |bundle| {
            let mut command = caller.command(&[global, &["run", "-b", path(bundle), "asked"]].concat());
            command.env("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:path={}", path(&socket)));
            let output = command.output().expect("it runs");
            assert_eq!(output.status.code(), Some(1));
            text(&output.stderr)
        };
        let told = refused(&bundle);
        let there = format!("{}: No such file or directory (os error 2)", path(&socket));
        assert!(told.contains("--systemd-cgroup") && told.contains(&there), "{told}");
        assert_eq!(told.matches("os error").count(), 1, "{told}");
        // By its form alone, before anybody is asked.
        let told = refused(&by_path);
        assert!(told.contains("linux.cgroupsPath") && told.contains("slice:prefix:name"), "{told}");
        assert_eq!(caller.good(&["list", "--quiet"]), "");
        // Where no group is made it means nothing: callers write it everywhere.
        caller.good(&[global, &["delete", "--force", "asked"]].concat());
    }
}
