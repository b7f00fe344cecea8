//! What the suites of other runtimes ask of a command line and of a config.json, and what callers are used to.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use orangery_tests::{Scene, wait};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use serde_json::{Value, json};

use crate::bundle::{bundle, cgroup};
use crate::caller::{Caller, ROLE, STAYS, end_of, path, text};

/// Why options of ps(1) cannot be tried here.
pub(crate) fn lacks_ps() -> Option<&'static str> {
    let search = std::env::var_os("PATH").unwrap_or_default();
    let has = std::env::split_paths(&search).any(|dir| dir.join("ps").is_file());
    (!has).then_some("needs ps")
}

/// What is mounted gets other attributes and options; where nothing is, there is nothing to change.
pub(crate) fn what_is_mounted_is_mounted_again(scene: &Scene) {
    let caller = Caller::new(scene);
    let run = |name: &str, at: &str, mounts: Value| {
        let script = format!("cat /proc/self/mountinfo | busybox grep ' {at} '");
        let bundle = bundle(scene, name, &["sh", "-c", &script], |config| {
            let list = config["mounts"].as_array_mut().expect("a list");
            list.extend(mounts.as_array().expect("a list").iter().cloned());
        });
        caller.run(&["run", "--bundle", path(&bundle), name])
    };
    let options = |name: &str, at: &str, mounts: Value| {
        let output = run(name, at, mounts);
        let line = text(&output.stdout);
        let (before, after) = line.trim().split_once(" - ").unwrap_or_else(|| panic!("{}", text(&output.stderr)));
        format!("{} {}", before.split(' ').nth(5).expect("options"), after.rsplit(' ').next().expect("options"))
    };
    let tmpfs = |options: &[&str]| json!({ "destination": "/tmp", "type": "tmpfs", "options": options });
    let again = json!([tmpfs(&["mode=755", "nodev", "noatime"]), tmpfs(&["remount", "ro", "nosuid", "size=1m"])]);
    let seen = options("again", "/tmp", again);
    let (of_mount, of_all) = seen.split_once(' ').expect("both");
    assert_eq!(of_mount, "ro,nosuid,noatime", "what is not named is gone, but for times");
    assert!(of_all.contains("size=1024k") && of_all.contains("mode=755"), "{seen}");
    let bind =
        |options: &[&str]| json!({ "destination": "/tmp", "type": "bind", "source": "/dev/shm", "options": options });
    let seen = options("bound", "/tmp", json!([bind(&["bind"]), bind(&["bind", "remount", "ro", "noexec"])]));
    assert!(seen.starts_with("ro,noexec,relatime "), "{seen}");
    let proc = json!([{ "destination": "/proc", "type": "proc", "source": "proc", "options": ["remount", "ro"] }]);
    assert!(options("proc", "/proc", proc).starts_with("ro,relatime "));
    // Devices come to lie in there all the same.
    let dev = json!([{ "destination": "/dev", "type": "tmpfs", "options": ["remount", "ro"] }]);
    assert!(options("dev", "/dev", dev).starts_with("ro,"));
    for (name, mounts) in
        [("nothing", json!([tmpfs(&["remount", "ro"])])), ("odd", json!([tmpfs(&[]), tmpfs(&["remount", "odd=1"])]))]
    {
        let output = run(name, "/tmp", mounts);
        assert_eq!(output.status.code(), Some(1), "{name}: {}", text(&output.stdout));
        let told = text(&output.stderr);
        assert!(told.contains("mounts"), "{name}: {told}");
        assert_eq!(told.contains("mounted again"), name == "odd", "what is refused of a file system says why: {told}");
    }
}

pub(crate) fn ps_takes_the_options_of_ps(scene: &Scene) {
    let caller = Caller::new(scene);
    let init = caller.staying("listed");
    let pid = caller.state("listed")["pid"].to_string();
    let table = caller.good(&["ps", "listed"]);
    let words: Vec<_> = table.lines().next().expect("a head").split_whitespace().collect();
    assert_eq!(words, ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
    assert!(table.lines().count() == 2 && table.contains(&pid), "{table}");
    let chosen = caller.good(&["ps", "listed", "-e", "-o", "pid,args"]);
    assert_eq!(chosen.lines().nth(1).expect("a line").trim(), format!("{pid} {STAYS}"));
    assert!(caller.bad(&["ps", "listed", "-e", "-o", "args"]).contains("no column PID"));
    assert!(caller.bad(&["ps", "listed", "--no-such-option"]).contains("ps(1)"));
    // Where there is none, what was asked of it is an error, and what was not is ours.
    let without = |line: &[&str]| caller.command(line).env("PATH", "/nowhere").output().expect("it runs");
    assert!(
        text(&without(&["ps", "listed", "-e"]).stderr).contains("No such file"),
        "{:?}",
        without(&["ps", "listed", "-e"])
    );
    let ours = text(&without(&["ps", "listed"]).stdout);
    assert!(ours.starts_with("UID") && ours.contains(&pid) && ours.contains(STAYS), "{ours}");
    caller.good(&["kill", "listed", "KILL"]);
    end_of(&init);
    assert_eq!(caller.good(&["ps", "listed"]).lines().count(), 1, "nobody, after the end");
    caller.good(&["delete", "listed"]);
}

pub(crate) fn ids_are_those_of_others(scene: &Scene) {
    let caller = Caller::new(scene);
    let made = bundle(scene, "ids", &["echo", "good"], |_| ());
    for id in ["_x", "+x", ".x", "-x", "x+y.z", "..."] {
        assert_eq!(caller.good(&["run", "--bundle", path(&made), "--", id]), "good\n", "{id}");
    }
    for id in [".", "..", "a/b", "a b", ""] {
        assert!(caller.bad(&["run", "--bundle", path(&made), "--", id]).contains("invalid container id"), "{id}");
    }
}

/// The one of version 2 that counts for whole groups, and that groups below `dir` have.
fn divisible(dir: &Path) -> Option<&'static str> {
    let text = fs::read_to_string(dir.join("cgroup.controllers")).ok()?;
    ["memory", "io", "hugetlb"].into_iter().find(|name| text.split_whitespace().any(|word| word == *name))
}

/// Why a group of version 2 cannot be divided here.
pub(crate) fn lacks_division() -> Option<&'static str> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let top = mounts.lines().find_map(|line| {
        let words: Vec<_> = line.split(' ').collect();
        (words.get(2) == Some(&"cgroup2")).then(|| words[1].to_owned())
    });
    let on = top.and_then(|top| fs::read_to_string(Path::new(&top).join("cgroup.subtree_control")).ok());
    let can = on.is_some_and(|on| on.split_whitespace().any(|word| ["memory", "io", "hugetlb"].contains(&word)));
    (!can).then_some("needs a controller of cgroup version 2")
}

/// As systemd inside a container does: the container's own group may have no processes any more, and its first one is below.
pub(crate) fn an_exec_is_beside_the_first_process(scene: &Scene) {
    let caller = Caller::new(scene);
    let parents = scene.cgroup_parents().iter();
    let parent = parents.into_iter().find(|parent| divisible(parent).is_some()).expect("version 2");
    let controller = format!("+{}", divisible(parent).expect("one"));
    let init = caller.staying("divided");
    let group = parent.join("divided");
    let below = group.join("init.scope");
    let its = || {
        let said = caller.good(&["exec", "divided", "cat", "/proc/self/cgroup"]);
        said.lines().find_map(|line| line.strip_prefix("0::")).expect("version 2").to_owned()
    };
    assert!(its().ends_with("/divided"));
    fs::create_dir(&below).expect("a group below");
    fs::write(below.join("cgroup.procs"), caller.state("divided")["pid"].to_string()).expect("moved");
    assert!(its().ends_with("/divided"), "it may be there still");
    for dir in [parent, &group] {
        fs::write(dir.join("cgroup.subtree_control"), &controller).expect("switched on");
    }
    assert!(its().ends_with("/divided/init.scope"));
    let pids: Value = serde_json::from_str(&caller.good(&["ps", "--format", "json", "divided"])).expect("JSON");
    assert_eq!(pids, json!([caller.state("divided")["pid"]]), "who is below is the container's");
    let output = caller.run(&["exec", "--cgroup", "/", "divided", "true"]);
    assert_eq!(output.status.code(), Some(255), "who says where is taken at the word");
    assert!(text(&output.stderr).contains("busy"), "{}", text(&output.stderr));
    caller.end("divided", &init);
    fs::write(parent.join("cgroup.subtree_control"), controller.replace('+', "-")).expect("switched off");
}

/// Options that runc's callers give, and what becomes of a container that has ended.
pub(crate) fn words_of_runcs_command_line(scene: &Scene) {
    let caller = Caller::new(scene);
    let init = caller.staying("words");
    let exec = |options: &[&str], command: &[&str]| caller.run(&[&["exec"], options, &["words"], command].concat());
    assert!(exec(&["--cap", "CAP_TIME_TRAVEL"], &["true"]).status.success(), "left out, as in a config.json");
    assert_eq!(text(&exec(&["--env", "A=b=c"], &["sh", "-c", "echo $A"]).stdout), "b=c\n");
    for wrong in [&["--env", "A"][..], &["--env", "=b"], &["--console-socket", "/no/such"]] {
        let output = exec(wrong, &["true"]);
        assert_eq!(output.status.code(), Some(255), "{wrong:?}: {}", text(&output.stderr));
    }
    // Where no module reads them they are refused by name; empty ones say nothing.
    assert!(exec(&["--apparmor", "", "--process-label", ""], &["true"]).status.success());
    for (option, field) in [("--apparmor", "apparmor_profile"), ("--process-label", "selinux_label")] {
        let output = exec(&[option, "no-such-thing"], &["true"]);
        assert_eq!(output.status.code(), Some(255), "{option}");
        assert!(text(&output.stderr).contains(field) || !output.stderr.is_empty(), "{}", text(&output.stderr));
    }
    let first = caller.good(&["events", "--stats", "words"]);
    assert!(first.starts_with(r#"{"type":"stats","id":"words","data":{"#), "{first}");
    for wrong in ["0", "5x", ""] {
        assert!(caller.bad(&["events", "--interval", wrong, "words"]).contains("--interval"));
    }
    assert_eq!(caller.good(&["update", "words"]), "", "what is not asked for is no error");
    for option in ["--l3-cache-schema", "--mem-bw-schema"] {
        let told = caller.bad(&["update", option, "L3:0=f", "words"]);
        assert!(told.contains(option) && told.contains("resctrl"), "{told}");
    }
    for line in [&["checkpoint", "--image-path", "/no", "words"][..], &["restore", "-d", "others"]] {
        assert!(caller.bad(line).contains(&format!("{} is not supported", line[0])));
    }
    caller.good(&["kill", "words", "KILL"]);
    end_of(&init);
    assert!(caller.bad(&["kill", "words", "0"]).contains("not running"));
    assert_eq!(caller.good(&["kill", "--all", "words", "0"]), "", "all of none");
    caller.good(&["delete", "words"]);

    let stays = bundle(scene, "stays", &["sleep", "1000"], |_| ());
    assert!(
        caller.bad(&["create", "--console-socket", "/no/such", "-b", path(&stays), "stays"]).contains("no terminal")
    );
    let file = scene.dir().join("stays.pid");
    let line = ["run", "--keep", "--detach", "--pid-file", path(&file), "-b", path(&stays), "stays"];
    assert!(caller.command(&line).stdout(Stdio::null()).status().expect("it runs").success());
    let init = wait::pidfd(fs::read_to_string(file).expect("a pid file").parse().expect("a number"));
    caller.end("stays", &init);
}

/// Counters come at an interval that may be short, until the container ends.
pub(crate) fn counters_come_in_milliseconds(scene: &Scene) {
    use std::io::BufRead as _;
    let caller = Caller::new(scene);
    let init = caller.staying("counted");
    let mut events = caller.command(&["events", "--interval", "10ms", "counted"]);
    let mut events = events.stdout(Stdio::piped()).spawn().expect("it runs");
    let lines = std::io::BufReader::new(events.stdout.take().expect("a pipe")).lines();
    let three: Vec<String> = lines.take(3).collect::<Result<_, _>>().expect("lines");
    assert!(three.iter().all(|line| line.starts_with(r#"{"type":"stats""#)), "{three:?}");
    caller.end("counted", &init);
    wait::child(&mut events, wait::PATIENCE).expect("waited").expect("it ends with the container");
}

/// Sockets that a service manager has opened for the container come before those that are preserved for it.
#[expect(clippy::disallowed_methods, reason = "the program that is tried, by a shell that opens files for it")]
pub(crate) fn sockets_that_are_listened_at_are_handed_on(scene: &Scene) {
    let caller = Caller::new(scene);
    let script = "echo $LISTEN_FDS $LISTEN_PID; cat <&3; cat <&4";
    let made = bundle(scene, "sockets", &["sh", "-c", script], |_| ());
    for name in ["three", "four"] {
        fs::write(scene.dir().join(name), format!("{name}\n")).expect("a file");
    }
    let said = |listening: &[(&str, &str)], preserved: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", r#"exec "$0" "$@" 3<three 4<four"#]).arg(std::env::current_exe().expect("us"));
        command.args(["--root", path(&caller.root), "run", "--preserve-fds", preserved, "-b", path(&made), "sockets"]);
        command.env(ROLE, "1").envs(listening.iter().copied()).current_dir(scene.dir()).stdin(Stdio::null());
        text(&command.output().expect("it runs").stdout)
    };
    assert_eq!(said(&[("LISTEN_FDS", "1")], "1"), "1 1\nthree\nfour\n");
    assert_eq!(said(&[("LISTEN_FDS", "1")], "0"), "1 1\nthree\n");
    assert_eq!(said(&[("LISTEN_FDS", "1"), ("LISTEN_PID", "1")], "2"), "\nthree\nfour\n", "they are another process's");
}

pub(crate) fn a_config_that_is_changed_later_changes_nothing(scene: &Scene) {
    let caller = Caller::new(scene);
    let made = bundle(scene, "early", &["sleep", "1000"], |_| ());
    let init = wait::pidfd(caller.create(&made, "early", Stdio::null()));
    let other = bundle(scene, "late", &["false"], |config| config["process"]["env"] = json!(["PATH=/bin", "WHO=late"]));
    fs::copy(other.join("config.json"), made.join("config.json")).expect("another one");
    caller.good(&["start", "early"]);
    assert!(!wait::readable(&init, std::time::Duration::ZERO), "it is the command that there was");
    assert_eq!(caller.good(&["exec", "early", "sh", "-c", "echo $WHO"]), "bundle\n");
    fs::remove_file(made.join("config.json")).expect("removed");
    assert_eq!(caller.state("early")["annotations"]["org.example.key"].as_str(), Some("value"));
    caller.end("early", &init);
}

pub(crate) fn every_operation_wants_an_id(scene: &Scene) {
    let caller = Caller::new(scene);
    for command in
        ["create", "start", "run", "state", "kill", "delete", "exec", "ps", "pause", "resume", "events", "update"]
    {
        assert!(caller.bad(&[command]).contains("<ID>"), "{command}");
    }
}

/// A group that cannot be had, or that others are in, is refused and stays as it is.
pub(crate) fn a_group_that_is_not_fit_is_refused(scene: &Scene) {
    let caller = Caller::new(scene);
    let refused = |name: &str, place: String| {
        let made = bundle(scene, name, &["true"], |config| config["linux"]["cgroupsPath"] = place.into());
        caller.bad(&["create", "--bundle", path(&made), name])
    };
    let told = refused("file", cgroup(scene, "cgroup.procs/below"));
    assert!(told.contains("linux.cgroupsPath"), "{told}");
    assert!(refused("outside", format!("{}/../../../../x", cgroup(scene, "x"))).contains("linux.cgroupsPath"));
    let init = caller.staying("taken");
    let told = refused("second", cgroup(scene, "taken"));
    assert!(told.contains("container's cgroup is not empty") && told.contains("taken"), "{told}");
    assert_eq!(caller.status("taken"), "running", "who is in there goes on");
    caller.end("taken", &init);
    // Groups below it are somebody's too.
    let parents = scene.cgroup_parents();
    for parent in parents {
        fs::create_dir_all(parent.join("full/below")).expect("a group");
    }
    let told = refused("third", cgroup(scene, "full"));
    assert!(told.contains("full"), "{told}");
    for parent in parents {
        fs::remove_dir(parent.join("full/below")).expect("it is there still");
        fs::remove_dir(parent.join("full")).expect("it is there still");
    }
}

/// podman for a container whose command is systemd, and podman's images as mounts.
pub(crate) fn mounts_as_podman_asks_for_them(scene: &Scene) {
    let caller = Caller::new(scene);
    let run = |name: &str, command: &str, mounts: Value| {
        let bundle = bundle(scene, name, &["sh", "-c", command], |config| {
            let list = config["mounts"].as_array_mut().expect("a list");
            list.extend(mounts.as_array().expect("a list").iter().cloned());
        });
        let output = caller.run(&["run", "--bundle", path(&bundle), name]);
        assert!(output.status.success(), "{name}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    let hierarchy = "/sys/fs/cgroup/systemd";
    if Path::new(hierarchy).exists() {
        let said = run(
            "init",
            "cat /proc/self/mountinfo | busybox grep -c ' /sys/fs/cgroup/systemd '",
            json!([
                { "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"] },
                { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["rprivate", "ro"] },
                { "destination": hierarchy, "type": "bind", "source": hierarchy, "options": ["bind", "ro"] },
            ]),
        );
        assert_eq!(said, "1\n");
    }
    // Two paths that are longer together than an option of fsconfig(2).
    let layers = ["one", "two"].map(|name| {
        let dir = scene.dir().join("store").join(name.repeat(38)).join("lower");
        fs::create_dir_all(&dir).expect("a layer");
        fs::write(dir.join(name), "").expect("a file");
        dir
    });
    let lower = format!("lowerdir={}:{}", path(&layers[0]), path(&layers[1]));
    assert!(lower.len() > 255 + "lowerdir=".len());
    let said = run(
        "image",
        "cd /tmp; echo *",
        json!([{ "destination": "/tmp", "type": "overlay", "source": "overlay", "options": [lower, "private"] }]),
    );
    assert_eq!(said, "one two\n");
}

/// Why nobody can be bound to one CPU of several.
pub(crate) fn lacks_cpus() -> Option<&'static str> {
    let set = rustix::thread::sched_getaffinity(None).expect("ours");
    (set.count() < 2).then_some("needs two CPUs")
}

/// Who calls may be bound to some of them; what of them a container has its cgroup says, or `execCPUAffinity`.
pub(crate) fn cpus_of_the_caller_are_not_the_containers(scene: &Scene) {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    const LIST: &str = "busybox grep Cpus_allowed_list /proc/self/status";
    let caller = Caller::new(scene);
    let ours = sched_getaffinity(None).expect("ours");
    let list = |said: &str| {
        let line = said.lines().find(|line| line.starts_with("Cpus_allowed_list:")).expect("a line");
        line.split_whitespace().nth(1).expect("a list").to_owned()
    };
    let free = list(&fs::read_to_string("/proc/thread-self/status").expect("ours"));
    let first = (0..CpuSet::MAX_CPU).find(|cpu| ours.is_set(*cpu)).expect("one");
    let mut one = CpuSet::new();
    one.set(first);
    sched_setaffinity(None, &one).expect("bound");
    let run = bundle(scene, "free", &["sh", "-c", LIST], |_| ());
    let said = caller.good(&["run", "--bundle", path(&run), "free"]);
    let init = caller.staying("calm");
    let further = caller.good(&["exec", "calm", "sh", "-c", LIST]);
    sched_setaffinity(None, &ours).expect("as before");
    caller.end("calm", &init);
    assert_eq!((list(&said), list(&further)), (free.clone(), free));
}

/// As whoever reads with Go's JSON takes them.
pub(crate) fn keys_in_other_cases_are_the_fields(scene: &Scene) {
    let caller = Caller::new(scene);
    let most = |text: &str| text.split_whitespace().last().map(str::to_owned);
    let made = bundle(scene, "cases", &["busybox", "grep", "Max open files", "/proc/self/limits"], |config| {
        config["process"]["RLimits"] = json!([{ "Type": "RLIMIT_NOFILE", "SOFT": 77, "hard": 78 }]);
    });
    let said = caller.good(&["run", "--bundle", path(&made), "cases"]);
    assert_eq!(most(said.trim_end().trim_end_matches("files").trim()).as_deref(), Some("78"), "{said}");
    let both = bundle(scene, "both", &["true"], |config| config["process"]["ARGS"] = json!(["false"]));
    let told = caller.bad(&["run", "--bundle", path(&both), "both"]);
    assert!(told.contains("process.ARGS") && told.contains("args"), "{told}");
}

/// Who has held the ids of a mount while it was made ends by itself, and nobody's start is refused until then.
pub(crate) fn a_start_waits_for_nobody_who_held_ids(scene: &Scene) {
    let caller = Caller::new(scene);
    let source = scene.dir().join("held");
    fs::create_dir(&source).expect("a directory");
    let made = bundle(scene, "held", &["true"], |config| {
        let ids = |to: u32| json!([{ "containerID": 0, "hostID": to, "size": 1 }, { "containerID": 1, "hostID": to + 7, "size": 1 }]);
        let mount = json!({ "destination": "/tmp", "type": "bind", "source": path(&source), "options": ["bind"],
            "uidMappings": ids(700_000), "gidMappings": ids(800_000) });
        config["mounts"].as_array_mut().expect("a list").push(mount);
    });
    // Without the mend one of twenty was refused.
    for _ in 0..60 {
        assert_eq!(caller.good(&["run", "--bundle", path(&made), "held"]), "");
    }
    // They have fallen to us.
    while waitid(WaitId::All, WaitIdOptions::EXITED).is_ok() {}
}
