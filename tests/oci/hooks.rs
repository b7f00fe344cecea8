//! Programs that a bundle has run at points of its container's life.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use orangery_tests::net::{Net, ip, ip_says};
use orangery_tests::victim::reap_adopted;
use orangery_tests::{Scene, wait};
use serde_json::{Value, json};

use crate::bundle::bundle;
use crate::caller::{Caller, all, end_of, path, pipe};
use crate::hung::nothing_left;

const OUTSIDE: [&str; 4] = ["prestart", "createRuntime", "poststart", "poststop"];

/// A hook of the host's shell.
fn shell(script: &str) -> Value {
    json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"] })
}

/// Each of the six writes its name down, and what it was told and sees beside that.
fn witnesses(dir: &Path) -> Value {
    let outside = |kind: &str| {
        let to = dir.join(kind);
        let to = path(&to);
        let log = dir.join("log");
        shell(&format!(
            "echo {kind} >> {}; cat > {to}.state; readlink /proc/self/ns/mnt > {to}.mnt; pwd > {to}.cwd; cat /proc/self/mountinfo > {to}.mounts",
            path(&log)
        ))
    };
    let mut hooks = json!({ "createContainer": [outside("createContainer")] });
    for kind in OUTSIDE {
        hooks[kind] = json!([outside(kind)]);
    }
    hooks["startContainer"] = json!([shell("cat > /state; readlink /proc/self/ns/mnt > /mnt; echo $0 $* > /args")]);
    hooks
}

struct Seen(PathBuf);

impl Seen {
    fn of(&self, what: &str) -> String {
        fs::read_to_string(self.0.join(what)).unwrap_or_default()
    }

    fn log(&self) -> Vec<String> {
        self.of("log").lines().map(str::to_owned).collect()
    }

    #[track_caller]
    fn state(&self, file: &str, status: &str, pid: u64) {
        let state: Value = serde_json::from_str(&self.of(file)).expect(file);
        assert_eq!(state["status"].as_str(), Some(status), "{file}");
        assert_eq!(state["pid"].as_u64().unwrap_or(0), pid, "{file}");
        assert_eq!(state["id"].as_str(), Some("hooked"));
        assert_eq!(state["ociVersion"].as_str(), Some("1.0.2"));
        assert_eq!(state["annotations"]["org.example.key"].as_str(), Some("value"));
        assert!(state["bundle"].as_str().is_some_and(|bundle| bundle.ends_with("hooked")));
    }
}

pub(crate) fn hooks_run_in_order_and_where_they_belong(scene: &Scene) {
    each_in_its_place(scene, false);
}

pub(crate) fn hooks_of_a_container_with_ids_of_its_own(scene: &Scene) {
    each_in_its_place(scene, true);
}

fn each_in_its_place(scene: &Scene, mapped: bool) {
    let caller = Caller::new(scene);
    let seen = Seen(scene.dir().join("seen"));
    fs::create_dir(&seen.0).expect("a directory");
    let script = "test -e /args && echo after; exec sleep 1000";
    let bundle = bundle(scene, "hooked", &["sh", "-c", script], |config| {
        config["hooks"] = witnesses(&seen.0);
        config["root"]["readonly"] = false.into();
        if mapped {
            let one = json!([{ "containerID": 0, "hostID": 300_000, "size": 1000 }]);
            config["linux"]["uidMappings"] = one.clone();
            config["linux"]["gidMappings"] = one;
            config["linux"]["namespaces"].as_array_mut().expect("a list").push(json!({ "type": "user" }));
        }
    });
    let root = bundle.join("rootfs");
    if mapped {
        for place in [&seen.0, &root] {
            std::os::unix::fs::chown(place, Some(300_000), Some(300_000)).expect("given away");
        }
        // What it appends to is there already.
        fs::write(seen.0.join("log"), "").expect("a log");
        std::os::unix::fs::chown(seen.0.join("log"), Some(300_000), Some(300_000)).expect("given away");
    }
    let (said, out) = pipe();
    let pid = u64::from(caller.create(&bundle, "hooked", out));
    let init = wait::pidfd(u32::try_from(pid).expect("a pid"));
    assert_eq!(seen.log(), ["prestart", "createRuntime", "createContainer"]);
    let host = fs::read_link("/proc/self/ns/mnt").expect("ours").display().to_string();
    for kind in ["prestart", "createRuntime"] {
        seen.state(&format!("{kind}.state"), "creating", pid);
        assert_eq!(seen.of(&format!("{kind}.mnt")).trim(), host);
        assert_eq!(seen.of(&format!("{kind}.cwd")).trim(), path(&bundle));
    }
    // In there, and before the root is `/`: its mounts lie where the bundle has it.
    seen.state("createContainer.state", "creating", 1);
    let its = fs::read_link(format!("/proc/{pid}/ns/mnt")).expect("its").display().to_string();
    assert_eq!(seen.of("createContainer.mnt").trim(), its);
    assert_eq!(seen.of("createContainer.cwd").trim(), path(&root));
    let mounts = seen.of("createContainer.mounts");
    for mount in [root.clone(), root.join("proc"), root.join("dev/pts")] {
        assert!(mounts.contains(&format!(" {} ", path(&mount))), "{}: {mounts}", mount.display());
    }
    assert!(!root.join("args").exists(), "it is not started");
    caller.good(&["start", "hooked"]);
    assert_eq!(seen.log(), ["prestart", "createRuntime", "createContainer", "poststart"]);
    let inside = Seen(root);
    inside.state("state", "created", 1);
    assert_eq!((inside.of("mnt").trim(), inside.of("args").trim()), (its.as_str(), "sh"));
    seen.state("poststart.state", "running", pid);
    assert_eq!(seen.of("poststart.mnt").trim(), host);
    let mut said = BufReader::new(said);
    let mut line = String::new();
    said.read_line(&mut line).expect("a line");
    assert_eq!(line, "after\n", "its command came after the hook");
    caller.good(&["kill", "hooked", "KILL"]);
    end_of(&init);
    assert_eq!(all(said), "");
    caller.good(&["delete", "hooked"]);
    assert_eq!(seen.log(), ["prestart", "createRuntime", "createContainer", "poststart", "poststop"]);
    seen.state("poststop.state", "stopped", 0);
}

/// The name that it is called, arguments and environment are what the bundle says, and nothing else comes along.
pub(crate) fn a_hook_has_what_it_is_given(scene: &Scene) {
    let caller = Caller::new(scene);
    let file = scene.dir().join("said");
    // The first of its own arguments, which `$0` of a script is not.
    let script = "tr '\\0' ' ' < /proc/$$/cmdline | cut -d' ' -f1,2; readlink /proc/$$/exe; echo $0 $*; \
                  tr '\\0' '\\n' < /proc/self/environ; ls /proc/self/fd | wc -l; umask";
    let script = format!("({script}) > {} ; echo loud >&2", path(&file));
    let bundle = bundle(scene, "given", &["true"], |config| {
        config["hooks"]["createRuntime"] =
            json!([{ "path": "/bin/sh", "args": ["named", "-c", script, "zero", "one"], "env": ["A=1", "B=2=3"] }]);
    });
    // What it says is not told, when nothing is wrong.
    caller.good(&["run", "-b", path(&bundle), "given"]);
    let said = fs::read_to_string(&file).expect("it has run");
    let lines: Vec<&str> = said.lines().collect();
    let shell = fs::canonicalize("/bin/sh").expect("a shell");
    assert_eq!(lines.get(..3), Some(&["named -c", path(&shell), "zero one"][..]), "{said}");
    // The shell adds PWD and the like to its children's.
    let ours = lines.iter().filter(|line| line.contains('=') && !line.starts_with("PWD=") && !line.starts_with("_="));
    let ours: Vec<&str> =
        ours.copied().filter(|line| !line.starts_with("OLDPWD=") && !line.starts_with("SHLVL=")).collect();
    assert_eq!(ours, ["A=1", "B=2=3"], "{said}");
    // 0, 1, 2, and the directory that ls reads.
    assert_eq!(lines.get(lines.len() - 2).map(|line| line.trim()), Some("4"), "{said}");
    assert_eq!(lines.last(), Some(&"0022"));
}

/// Where the bundle says nothing of it a hook outside has the caller's environment, as with runc and crun; one in the container has none.
pub(crate) fn a_hook_without_an_environment_has_the_callers(scene: &Scene) {
    let caller = Caller::new(scene);
    let file = scene.dir().join("said");
    let script = format!("echo \"of the caller: $OF_THE_CALLER\" >> {}", path(&file));
    let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", script] });
    let mut empty = hook.clone();
    empty["env"] = json!([]);
    let bundle = bundle(scene, "inherits", &["true"], |config| {
        config["hooks"] = json!({ "createRuntime": [hook, empty], "createContainer": [hook], "poststop": [hook] });
    });
    let mut command = caller.command(&["run", "-b", path(&bundle), "inherits"]);
    let output = command.env("OF_THE_CALLER", "yes").output().expect("it runs");
    assert!(output.status.success(), "{}", crate::caller::text(&output.stderr));
    let said = fs::read_to_string(&file).expect("they have run");
    let said: Vec<&str> = said.lines().map(|line| line.trim_start_matches("of the caller:").trim()).collect();
    assert_eq!(said, ["yes", "", "", "yes"]);
}

pub(crate) fn a_hook_that_fails_ends_what_it_is_for(scene: &Scene) {
    let caller = Caller::new(scene);
    fs::create_dir_all(scene.state_dir()).expect("the state directory");
    let log = scene.dir().join("log");
    let stopped = shell(&format!("echo stopped >> {}", path(&log)));
    let bad = shell("echo because >&2; exit 7");
    for kind in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart"] {
        let _ = fs::remove_file(&log);
        let before = scene.stock();
        let name = kind.to_ascii_lowercase();
        let bundle = bundle(scene, &name, &["sleep", "1000"], |config| {
            config["hooks"][kind] = json!([shell("exit 0"), bad, shell(&format!("echo third >> {}", path(&log)))]);
            config["hooks"]["poststop"] = json!([stopped]);
        });
        let why = format!("error running {kind} hook #1: exit status 7, output: because");
        if kind.starts_with("start") || kind.starts_with("posts") {
            let init = wait::pidfd(caller.create(&bundle, &name, Stdio::null()));
            assert!(caller.bad(&["start", &name]).contains(&why));
            assert_eq!(end_of(&init).terminating_signal(), Some(9));
            assert_eq!(caller.status(&name), "stopped");
            assert!(!log.exists(), "{kind}: it is still there");
            caller.good(&["delete", &name]);
        } else {
            let told = caller.bad(&["create", "-b", path(&bundle), &name]);
            assert!(told.contains(&why), "{told}");
        }
        assert_eq!(fs::read_to_string(&log).expect("a log"), "stopped\n", "{kind}");
        let told = caller.bad(&["run", "-b", path(&bundle), &name]);
        assert!(told.contains(&why), "{told}");
        assert!(caller.bad(&["state", &name]).contains("does not exist"));
        assert_eq!(fs::read_to_string(&log).expect("a log"), "stopped\nstopped\n", "{kind}");
        nothing_left(scene, &before, kind);
    }
}

/// All of them run, whatever comes of the first, and the container is gone.
pub(crate) fn a_poststop_hook_that_fails_is_a_warning(scene: &Scene) {
    let caller = Caller::new(scene);
    let log = scene.dir().join("log");
    let bundle = bundle(scene, "warned", &["sleep", "1000"], |config| {
        config["hooks"]["poststop"] = json!([shell("exit 3"), shell(&format!("echo second > {}", path(&log)))]);
    });
    let init = wait::pidfd(caller.create(&bundle, "warned", Stdio::null()));
    let told = scene.dir().join("told");
    caller.good(&["--log", path(&told), "delete", "warned"]);
    let told = fs::read_to_string(told).expect("a log");
    assert!(told.contains("level=warning") && told.contains("error running poststop hook #0: exit status 3"), "{told}");
    end_of(&init);
    assert_eq!(fs::read_to_string(&log).expect("a log"), "second\n");
    assert!(caller.bad(&["state", "warned"]).contains("does not exist"));
}

/// It is killed with what it has started, and the container with it.
pub(crate) fn a_hook_that_takes_too_long_is_killed(scene: &Scene) {
    let caller = Caller::new(scene);
    fs::create_dir_all(scene.state_dir()).expect("the state directory");
    let before = scene.stock();
    // The time begins before it does: the first has enough of it to say something.
    for (kind, timeout, says) in
        [("createRuntime", 5, ", output: begun"), ("createContainer", 1, ""), ("startContainer", 1, "")]
    {
        let bundle = bundle(scene, &kind.to_ascii_lowercase(), &["sleep", "1000"], |config| {
            let mut slow = shell("echo begun; sleep 1000 & wait");
            slow["timeout"] = timeout.into();
            config["hooks"][kind] = json!([slow]);
        });
        let told = caller.bad(&["run", "-b", path(&bundle), "slow"]);
        let why = format!("error running {kind} hook #0: hook ran past specified timeout of {timeout}s{says}");
        assert!(told.contains(&why), "{told}");
        nothing_left(scene, &before, kind);
    }
}

/// Nobody waits for what it leaves behind, though that has its outputs still; nor for the silence of one that talks all the time.
pub(crate) fn a_hook_may_leave_somebody_behind(scene: &Scene) {
    let caller = Caller::new(scene);
    let file = scene.dir().join("left.pid");
    let mut loud = shell("exec yes");
    loud["timeout"] = 1.into();
    let leaves = bundle(scene, "leaves", &["true"], |config| {
        config["hooks"]["createRuntime"] = json!([shell(&format!("sleep 1000 & echo $! > {}", path(&file)))]);
    });
    caller.good(&["run", "-b", path(&leaves), "leaves"]);
    let left = fs::read_to_string(&file).expect("it has run");
    let left = wait::pidfd(left.trim().parse().expect("a pid"));
    wait::kill(&left);
    end_of(&left);
    let talks = bundle(scene, "talks", &["true"], |config| config["hooks"]["createRuntime"] = json!([loud]));
    assert!(caller.bad(&["run", "-b", path(&talks), "talks"]).contains("timeout of 1s"));
    reap_adopted();
}

pub(crate) fn a_hook_that_is_none_is_refused(scene: &Scene) {
    let caller = Caller::new(scene);
    for (hook, why) in [
        (json!({ "path": "sh" }), "hooks.createRuntime[0].path"),
        (json!({ "path": "/bin/sh", "timeout": 0 }), "hooks.createRuntime[0].timeout"),
        (json!({ "path": "/no/such/program" }), "createRuntime hook #0: cannot execute /no/such/program"),
    ] {
        let bundle = bundle(scene, "none", &["true"], |config| config["hooks"]["createRuntime"] = json!([hook]));
        let told = caller.bad(&["create", "-b", path(&bundle), "none"]);
        assert!(told.contains(why), "{told}");
        fs::remove_dir_all(bundle).expect("gone");
    }
}

/// What was lent comes back by whichever name it has inside by then.
pub(crate) fn an_interface_that_a_hook_renames_comes_back(scene: &Scene) {
    let _net = Net::set(scene);
    ip("link add gift type veth peer name rest");
    ip("addr add 10.9.8.7/24 dev gift");
    ip("link set gift up");
    let caller = Caller::new(scene);
    let rename = "ip link set eth0 down && ip link set eth0 name stolen && exit 3; exit 4";
    let bundle = bundle(scene, "lent", &["true"], |config| {
        config["linux"]["netDevices"] = json!({ "gift": { "name": "eth0" } });
        config["hooks"]["createContainer"] =
            json!([{ "path": "/bin/sh", "args": ["sh", "-c", rename], "env": ["PATH=/usr/sbin:/sbin:/usr/bin:/bin"] }]);
    });
    let told = caller.bad(&["create", "--bundle", path(&bundle), "lent"]);
    assert!(told.contains("createContainer hook #0: exit status 3"), "{told}");
    let here = ip_says("addr show dev gift");
    assert!(here.contains("10.9.8.7/24") && here.contains("UP"), "{here}");
    reap_adopted();
}
