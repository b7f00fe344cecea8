//! What those ask for who judge runtimes from outside (youki's contest, runtime-tools), and no other trial shows.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use orangery_tests::{Scene, wait};
use serde_json::{Value, json};

use crate::bundle::bundle;
use crate::caller::{Caller, end_of, path, text};

/// Of its own environment nothing is said: it has that of the command. What is said is all that it has.
pub(crate) fn a_start_hook_has_the_environment_of_the_command(scene: &Scene) {
    let caller = Caller::new(scene);
    let bundle = bundle(scene, "surrounded", &["cat", "/unsaid", "/said"], |config| {
        config["root"]["readonly"] = false.into();
        let hook = |to: &str| json!({ "path": "/bin/sh", "args": ["sh", "-c", format!("echo ${{WHO-nobody}} ${{OWN-none}} > {to}")] });
        let mut said = hook("/said");
        said["env"] = json!(["OWN=some"]);
        config["hooks"] = json!({ "startContainer": [hook("/unsaid"), said] });
    });
    let seen = caller.run(&["run", "-b", path(&bundle), "surrounded"]);
    assert_eq!((text(&seen.stdout).as_str(), text(&seen.stderr).as_str()), ("bundle none\nnobody some\n", ""));
}

/// The kernel takes permitted capabilities that the bounding set lacks, and the command has none of them; of inheritable ones it does not.
pub(crate) fn capabilities_beyond_the_bounding_set_are_none(scene: &Scene) {
    let caller = Caller::new(scene);
    let with = |name: &str, inheritable: Value| {
        let bundle = bundle(scene, name, &["cat", "/proc/self/status"], |config| {
            let some = json!(["CAP_KILL", "CAP_CHOWN"]);
            config["process"]["capabilities"] = json!({
                "bounding": ["CAP_KILL"], "permitted": some, "effective": some, "inheritable": inheritable,
            });
        });
        caller.run(&["run", "-b", path(&bundle), name])
    };
    let seen = with("beyond", json!([]));
    let status = text(&seen.stdout);
    let sets: Vec<String> =
        status.lines().filter(|line| line.starts_with("Cap")).map(|line| line.replace('\t', " ")).collect();
    let all = ["CapInh: 0", "CapPrm: 20", "CapEff: 20", "CapBnd: 20", "CapAmb: 0"].map(|set| {
        let (name, bits) = set.split_once(' ').expect("two words");
        format!("{name} {bits:0>16}")
    });
    assert_eq!(sets, all, "{}", text(&seen.stderr));
    let told = text(&with("inherited", json!(["CAP_CHOWN"])).stderr);
    assert!(told.contains("inheritable has CAP_CHOWN") && told.contains("EPERM"), "{told}");
}

/// Neither is mounted through a link, and who has made one is told so.
pub(crate) fn proc_and_sys_are_mounted_on_directories(scene: &Scene) {
    let caller = Caller::new(scene);
    for (place, kind) in [("proc", "proc"), ("sys", "sysfs")] {
        for target in ["/tmp", "nowhere"] {
            let name = format!("{place}-{}", target.trim_start_matches('/'));
            let bundle = bundle(scene, &name, &["true"], |config| {
                let mounts = config["mounts"].as_array_mut().expect("a list");
                if place == "sys" {
                    mounts.push(json!({ "destination": "/sys", "type": kind, "source": kind }));
                }
            });
            let at = bundle.join("rootfs").join(place);
            if at.exists() {
                fs::remove_dir_all(&at).expect("it can be removed");
            }
            symlink(target, &at).expect("a link");
            let told = caller.bad(&["create", "-b", path(&bundle), &name]);
            assert!(told.contains("must be mounted on ordinary directory"), "{told}");
        }
    }
}

/// A group right below the topmost one, which is where it is without `linux.cgroupsPath`, can be killed as any other.
#[expect(clippy::disallowed_methods, reason = "somebody whose pid namespace is joined")]
pub(crate) fn at_the_top_pids_may_be_shared(scene: &Scene) {
    let caller = Caller::new(scene);
    let line = ["--pid", "--fork", "sh", "-c", "echo; exec cat"];
    let mut there =
        Command::new("unshare").args(line).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs");
    // When it says something the first process of the namespace is there, and the namespace can be named.
    there.stdout.take().expect("a pipe").read_exact(&mut [0]).expect("a line");
    let theirs = format!("/proc/{}/ns/pid_for_children", there.id());
    for (name, listed) in [("shares", None), ("joins", Some(json!({ "type": "pid", "path": theirs })))] {
        let name = format!("{name}-{}", std::process::id());
        let bundle = bundle(scene, &name, &["sleep", "1000"], |config| {
            config["linux"]["cgroupsPath"] = format!("/{name}").into();
            let namespaces = config["linux"]["namespaces"].as_array_mut().expect("a list");
            namespaces.retain(|namespace| namespace["type"] != "pid");
            namespaces.extend(listed);
        });
        let init = wait::pidfd(caller.create(&bundle, &name, Stdio::null()));
        caller.good(&["start", &name]);
        caller.good(&["kill", &name, "KILL"]);
        assert_eq!(end_of(&init).terminating_signal(), Some(9));
        caller.good(&["delete", &name]);
    }
    // It ends at the end of what it reads.
    drop(there.stdin.take());
    there.wait().expect("it is a child");
}

/// With `--debug`, as runc: the CPUs of a further process are a number with a bit for each.
pub(crate) fn where_a_further_process_begins_is_told(scene: &Scene) {
    let caller = Caller::new(scene);
    let bundle = bundle(scene, "pinned", &["sleep", "1000"], |config| {
        config["process"]["execCPUAffinity"] = json!({ "initial": "0" });
    });
    let init = wait::pidfd(caller.create(&bundle, "pinned", Stdio::null()));
    caller.good(&["start", "pinned"]);
    let done = caller.run(&["--debug", "exec", "pinned", "true"]);
    caller.good(&["delete", "--force", "pinned"]);
    end_of(&init);
    let told = text(&done.stderr);
    assert!(done.status.success() && told.contains("affinity: 0x1\""), "{told}");
}
