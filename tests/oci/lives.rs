//! What becomes of containers, told by the commands and by who is their parent.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use orangery_tests::{Scene, wait};

use crate::bundle::bundle;
use crate::caller::{Caller, all, end_of, path, pipe, text};

pub(crate) fn a_life_by_commands(scene: &Scene) {
    let caller = Caller::new(scene);
    let script = "echo $WHO; exec sleep 1000";
    let bundle = bundle(scene, "life", &["sh", "-c", script], |_| ());
    let (said, out) = pipe();
    let pid = caller.create(&bundle, "life", out);
    let init = wait::pidfd(pid);
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    assert!(status.contains(&format!("PPid:\t{}\n", std::process::id())), "the caller's child: {status}");
    let state = caller.state("life");
    assert_eq!((state["status"].as_str(), state["pid"].as_u64()), (Some("created"), Some(pid.into())));
    assert_eq!(state["bundle"].as_str(), Some(path(&bundle)));
    assert_eq!(state["annotations"]["org.example.key"].as_str(), Some("value"));
    let groups = scene.cgroups();
    assert!(!groups.is_empty() && groups.iter().all(|group| group.ends_with("life")), "{groups:?}");

    assert_eq!(caller.good(&["start", "life"]), "");
    assert_eq!(caller.status("life"), "running");
    assert!(!wait::readable(&init, std::time::Duration::ZERO), "it has ended");
    assert_eq!(caller.good(&["list", "-q"]), "life\n");
    assert!(caller.good(&["list"]).lines().nth(1).expect("a line").starts_with("life  "));
    let list: serde_json::Value = serde_json::from_str(&caller.good(&["list", "--format", "json"])).expect("JSON");
    assert_eq!(list[0]["id"].as_str(), Some("life"));

    let mut said = BufReader::new(said);
    let mut line = String::new();
    said.read_line(&mut line).expect("a line");
    assert_eq!(line, "bundle\n", "the output was the caller's");
    assert_eq!(caller.good(&["kill", "life", "KILL"]), "");
    assert_eq!(end_of(&init).terminating_signal(), Some(9));
    assert_eq!(all(said), "");
    let state = caller.state("life");
    assert_eq!((state["status"].as_str(), state["pid"].as_u64()), (Some("stopped"), Some(0)));
    assert_eq!(caller.good(&["delete", "life"]), "");
    assert!(caller.bad(&["state", "life"]).contains("container does not exist"));
}

pub(crate) fn what_is_refused_leaves_nothing(scene: &Scene) {
    let caller = Caller::new(scene);
    fs::create_dir_all(scene.state_dir()).expect("the state directory");
    let before = scene.stock();
    let log = scene.dir().join("log");
    let refused = |name: &str, args: &[&str], change: &dyn Fn(&mut serde_json::Value), why: &str| {
        let bundle = bundle(scene, name, args, |config| change(config));
        let told = caller.bad(&["--log", path(&log), "--log-format=json", "create", "-b", path(&bundle), name]);
        assert!(told.contains(why), "{name}: {told}");
        let line = fs::read_to_string(&log).expect("a log");
        let line: serde_json::Value = serde_json::from_str(line.lines().last().expect("a line")).expect("JSON");
        assert_eq!(line["level"].as_str(), Some("error"));
        assert_eq!(line["msg"].as_str(), Some(told.trim_end()), "both say the same");
        assert!(line["time"].is_string());
        assert!(caller.bad(&["state", name]).contains("does not exist"));
        let left = before.left_over(&scene.stock());
        assert!(left.is_empty(), "{name}: {left:?}");
    };
    refused("field", &["true"], &|config| config["process"]["cwd"] = "relative".into(), "cwd");
    refused("program", &["no-such-program"], &|_| (), "No such file or directory");
    refused("rights", &["/etc/marker"], &|_| (), "Permission denied");
    refused("cwd", &["true"], &|config| config["process"]["cwd"] = "/etc/marker".into(), "Not a directory");
    refused("root", &["true"], &|config| config["root"]["path"] = "nowhere".into(), "rootfs");
    let told = caller.bad(&["create", "--bundle", "/no/such", "it"]);
    assert!(told.contains("--bundle /no/such"), "{told}");
    assert!(caller.bad(&["create", "bad/name"]).contains("invalid container id"));
}

pub(crate) fn states_in_which_a_command_is_refused(scene: &Scene) {
    let caller = Caller::new(scene);
    for line in [&["start", "none"][..], &["state", "none"], &["kill", "none"], &["delete", "none"]] {
        assert!(caller.bad(line).contains("container does not exist"), "{line:?}");
    }
    assert_eq!(caller.good(&["delete", "--force", "none"]), "");
    let bundle = bundle(scene, "twice", &["sleep", "1000"], |_| ());
    let init = wait::pidfd(caller.create(&bundle, "twice", Stdio::null()));
    assert!(caller.bad(&["create", "--bundle", path(&bundle), "twice"]).contains("exists"));
    assert_eq!(caller.status("twice"), "created", "it is the first that stays");
    caller.good(&["start", "twice"]);
    assert!(caller.bad(&["start", "twice"]).contains("already running"));
    assert!(caller.bad(&["delete", "twice"]).contains("not stopped"));
    assert!(caller.bad(&["kill", "twice", "NOPE"]).contains("unknown signal"));
    assert_eq!(caller.good(&["kill", "twice", "--all", "9"]), "", "options may follow");
    end_of(&init);
    assert!(caller.bad(&["start", "twice"]).contains("stopped"));
    assert!(caller.bad(&["kill", "twice"]).contains("not running"));
    assert_eq!(caller.good(&["delete", "twice", "--force"]), "");
    assert!(caller.bad(&["frobnicate"]).contains("frobnicate"));
}

pub(crate) fn run_waits_and_tells_the_exit_code(scene: &Scene) {
    let caller = Caller::new(scene);
    let ends = bundle(scene, "ends", &["sh", "-c", "echo out; echo err >&2; exit 7"], |_| ());
    let output = caller.run(&["run", "ends", "--bundle", path(&ends)]);
    let said = (output.status.code(), text(&output.stdout), text(&output.stderr));
    assert_eq!(said, (Some(7), "out\n".into(), "err\n".into()));
    assert!(caller.bad(&["state", "ends"]).contains("does not exist"), "it was deleted");
    assert_eq!(caller.run(&["run", "--keep", "ends", "--bundle", path(&ends)]).status.code(), Some(7));
    assert_eq!(caller.status("ends"), "stopped");
    caller.good(&["delete", "ends"]);

    let trap = "trap 'exit 5' TERM; echo ready; while :; do sleep 1; done";
    let waits = bundle(scene, "waits", &["sh", "-c", trap], |_| ());
    let (mut said, out) = pipe();
    let mut process = caller.command(&["run", "--bundle", path(&waits), "waits"]);
    let mut process = process.stdout(out).spawn().expect("it runs");
    let mut ready = [0; 6];
    std::io::Read::read_exact(&mut said, &mut ready).expect("it says that it is ready");
    let runs = wait::pidfd(process.id());
    rustix::process::pidfd_send_signal(&runs, rustix::process::Signal::TERM).expect("told");
    let status = wait::child(&mut process, wait::PATIENCE).expect("waited").expect("in time");
    assert_eq!(status.code(), Some(5), "the signal was passed on");

    let stays = bundle(scene, "stays", &["sleep", "1000"], |_| ());
    let file = scene.dir().join("stays.pid");
    let line = ["run", "--detach", "--pid-file", path(&file), "-b", path(&stays), "stays"];
    let mut process = caller.command(&line);
    assert!(process.stdout(Stdio::null()).status().expect("it runs").success());
    let init = wait::pidfd(fs::read_to_string(file).expect("a pid file").parse().expect("a number"));
    assert_eq!(caller.status("stays"), "running");
    caller.good(&["delete", "--force", "stays"]);
    assert_eq!(end_of(&init).terminating_signal(), Some(9));
}

pub(crate) fn one_that_was_not_started_is_deleted(scene: &Scene) {
    let caller = Caller::new(scene);
    let bundle = bundle(scene, "waiting", &["sleep", "1000"], |_| ());
    let init = wait::pidfd(caller.create(&bundle, "waiting", Stdio::null()));
    assert_eq!(caller.good(&["delete", "waiting"]), "");
    assert_eq!(end_of(&init).terminating_signal(), Some(9));
    assert!(scene.cgroups().is_empty(), "{:?}", scene.cgroups());
}

/// While `run` is held up, what it waits for is deleted, and somebody makes another one of that name.
pub(crate) fn a_run_removes_its_own_container_alone(scene: &Scene) {
    let caller = Caller::new(scene);
    let bundle = bundle(scene, "name", &["sh", "-c", "echo ready; exec sleep 1000"], |_| ());
    let (mut said, out) = pipe();
    let mut process = caller.command(&["run", "--bundle", path(&bundle), "name"]);
    let mut process = process.stdout(out).spawn().expect("it runs");
    std::io::Read::read_exact(&mut said, &mut [0; 6]).expect("it says that it is ready");
    // Its command runs a moment before it lets others come.
    let room = fs::File::open(caller.root.join("name")).expect("its directory");
    rustix::fs::flock(&room, rustix::fs::FlockOperation::LockExclusive).expect("locked");
    drop(room);
    let runs = wait::pidfd(process.id());
    wait::stop(&runs);
    caller.good(&["delete", "--force", "name"]);
    let init = wait::pidfd(caller.create(&bundle, "name", Stdio::null()));
    caller.good(&["start", "name"]);
    rustix::process::pidfd_send_signal(&runs, rustix::process::Signal::CONT).expect("told");
    let status = wait::child(&mut process, wait::PATIENCE).expect("waited").expect("in time");
    assert_eq!(status.code(), Some(137));
    assert_eq!(caller.status("name"), "running", "it is another one");
    caller.good(&["delete", "--force", "name"]);
    assert_eq!(end_of(&init).terminating_signal(), Some(9));
}
