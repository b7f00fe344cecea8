//! Programs of a bundle that do not come to an end, or have something to do with the container that they belong to.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use orangery_tests::victim::reap_adopted;
use orangery_tests::{Scene, stock, wait};
use rustix::fs::{CWD, FileType, Mode};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use serde_json::{Value, json};

use crate::bundle::bundle;
use crate::caller::{Caller, ROLE, end_of, path, text};

/// A hook of the host's shell, which can call the program by `$oci`.
fn shell(caller: &Caller<'_>, script: &str) -> Value {
    let oci = format!("oci={}", path(&std::env::current_exe().expect("us")));
    let root = format!("root={}", path(&caller.root));
    json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin", oci, root, format!("{ROLE}=1")] })
}

/// Where a hook says that it runs, with its number and that of whom it has started, and stays.
struct Hang(PathBuf);

impl Hang {
    fn new(scene: &Scene) -> Self {
        let place = scene.dir().join("hangs");
        rustix::fs::mknodat(CWD, &place, FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("a FIFO");
        Self(place)
    }

    fn hook(&self, caller: &Caller<'_>) -> Value {
        shell(caller, &format!("sleep 1000 & echo $$ $! > {}; wait", path(&self.0)))
    }

    /// Wait until one runs; itself, and whom it has started.
    fn begun(&self) -> Vec<OwnedFd> {
        let mut line = String::new();
        BufReader::new(File::open(&self.0).expect("opened")).read_line(&mut line).expect("a line");
        line.split_whitespace().map(|pid| wait::pidfd(pid.parse().expect("a pid"))).collect()
    }
}

/// One that runs in the container's namespaces tells numbers of processes as we have them.
fn seen_from_here(config: &mut Value) {
    let all = config["linux"]["namespaces"].as_array_mut().expect("a list");
    all.retain(|namespace| namespace["type"] != "pid");
}

fn spawn(caller: &Caller<'_>, line: &[&str]) -> Child {
    let mut command = caller.command(line);
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it runs")
}

/// How it ends, and what it tells.
fn ended(child: Child) -> (Option<i32>, String) {
    ended_within(child, wait::PATIENCE)
}

fn ended_within(mut child: Child, limit: Duration) -> (Option<i32>, String) {
    let status = wait::child(&mut child, limit).expect("waited").expect("in time");
    let output = child.wait_with_output().expect("its words");
    (status.code(), text(&output.stderr))
}

fn killed(mut child: Child) {
    child.kill().expect("killed");
    child.wait().expect("reaped");
}

/// Whoever has fallen to us has ended, and nothing is left.
pub(crate) fn nothing_left(scene: &Scene, before: &stock::Stock, what: &str) {
    while waitid(WaitId::All, WaitIdOptions::EXITED).is_ok() {}
    reap_adopted();
    let left = before.left_over(&scene.stock());
    assert!(left.is_empty(), "{what}: {left:?}");
}

const OF_CREATION: [&str; 3] = ["prestart", "createRuntime", "createContainer"];

fn hanging(caller: &Caller<'_>, hang: &Hang, name: &str, kind: &str) -> PathBuf {
    bundle(caller.scene, name, &["sleep", "1000"], |config| {
        let log = caller.scene.dir().join("log");
        config["hooks"]["poststop"] = json!([shell(caller, &format!("echo stopped >> {}", path(&log)))]);
        config["hooks"][kind] = json!([hang.hook(caller)]);
        seen_from_here(config);
    })
}

/// A forced `delete` and a `kill` go through, and take the hook along; all else that would wait is refused.
pub(crate) fn a_hung_hook_of_a_creation_holds_nobody_up(scene: &Scene) {
    let (caller, hang) = (Caller::new(scene), Hang::new(scene));
    fs::create_dir_all(scene.state_dir()).expect("the state directory");
    let before = scene.stock();
    for (index, kind) in OF_CREATION.into_iter().enumerate() {
        let bundle = hanging(&caller, &hang, &format!("hung{index}"), kind);
        for line in [&["delete", "--force", "hung"][..], &["kill", "hung", "KILL"]] {
            let create = spawn(&caller, &["create", "-b", path(&bundle), "hung"]);
            let family = hang.begun();
            assert_eq!(caller.status("hung"), "creating");
            assert!(caller.bad(&["delete", "hung"]).contains("not stopped: creating"));
            assert!(caller.bad(&["start", "hung"]).contains("being created"));
            assert!(caller.bad(&["pause", "hung"]).contains("creating"));
            caller.good(line);
            let (code, told) = ended(create);
            assert_eq!(code, Some(1), "{kind}: {told}");
            // One that is in its cgroup has been killed with it.
            assert!(told.contains(&format!("error running {kind} hook #0: ")), "{told}");
            for process in family {
                wait::gone(&process, "the hook");
            }
            assert!(caller.bad(&["state", "hung"]).contains("does not exist"));
            let log = scene.dir().join("log");
            assert_eq!(fs::read_to_string(&log).expect("a log"), "stopped\n", "{kind}");
            fs::remove_file(log).expect("removed");
            nothing_left(scene, &before, kind);
        }
    }
}

pub(crate) fn a_hung_hook_of_a_start_holds_nobody_up(scene: &Scene) {
    let (caller, hang) = (Caller::new(scene), Hang::new(scene));
    fs::create_dir_all(scene.state_dir()).expect("the state directory");
    let before = scene.stock();
    // Inside there is no FIFO of the host's.
    let begun = "echo begun > /begun; sleep 1000 & wait";
    let bundle = bundle(scene, "hung", &["sleep", "1000"], |config| {
        config["root"]["readonly"] = false.into();
        config["hooks"]["startContainer"] =
            json!([{ "path": "/bin/sh", "args": ["sh", "-c", begun], "env": ["PATH=/bin"] }]);
    });
    let place = bundle.join("rootfs/begun");
    rustix::fs::mknodat(CWD, &place, FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("a FIFO");
    let init = wait::pidfd(caller.create(&bundle, "hung", Stdio::null()));
    let start = spawn(&caller, &["start", "hung"]);
    assert_eq!(fs::read_to_string(&place).expect("a line"), "begun\n");
    assert_eq!(caller.status("hung"), "created");
    assert!(caller.bad(&["start", "hung"]).contains("another command starts"));
    assert!(caller.bad(&["delete", "hung"]).contains("not stopped: created"));
    caller.good(&["delete", "--force", "hung"]);
    let (code, told) = ended(start);
    assert!(code == Some(1) && told.contains("error running startContainer hook #0: "), "{told}");
    end_of(&init);
    drop(init);
    nothing_left(scene, &before, "startContainer");

    // It runs: whoever waits for the hook waits for that alone, and takes it along when it is killed.
    let bundle = hanging(&caller, &hang, "after", "poststart");
    let init = wait::pidfd(caller.create(&bundle, "after", Stdio::null()));
    let start = spawn(&caller, &["start", "after"]);
    let family = hang.begun();
    assert_eq!(caller.status("after"), "running");
    caller.good(&["pause", "after"]);
    caller.good(&["resume", "after"]);
    caller.good(&["delete", "--force", "after"]);
    end_of(&init);
    assert!(caller.bad(&["state", "after"]).contains("does not exist"));
    killed(start);
    for process in family {
        wait::gone(&process, "the hook");
    }
    drop(init);
    nothing_left(scene, &before, "poststart");

    // Nothing is left of it: there may be another one.
    let bundle = hanging(&caller, &hang, "late", "poststop");
    let init = wait::pidfd(caller.create(&bundle, "late", Stdio::null()));
    let delete = spawn(&caller, &["delete", "late"]);
    let family = hang.begun();
    end_of(&init);
    drop(init);
    assert!(caller.bad(&["state", "late"]).contains("does not exist"));
    let init = wait::pidfd(caller.create(&bundle, "late", Stdio::null()));
    killed(delete);
    for process in family {
        wait::gone(&process, "the hook");
    }
    let delete = spawn(&caller, &["delete", "--force", "late"]);
    hang.begun();
    killed(delete);
    end_of(&init);
    drop(init);
    nothing_left(scene, &before, "poststop");
}

/// Each asks for what it has to do with its own container.
pub(crate) fn a_hook_may_call_for_its_own_container(scene: &Scene) {
    let caller = Caller::new(scene);
    let said = scene.dir().join("said");
    let pids = scene.cgroup_parents();
    let limit = || {
        let mut files = pids.iter().map(|parent| parent.join("own/pids.max"));
        files.find_map(|file| fs::read_to_string(file).ok()).map(|text| text.trim().to_owned())
    };
    let call = |lines: &[&str]| {
        let lines: Vec<String> =
            lines.iter().map(|line| format!("$oci --root $root {line} || echo {line} refused")).collect();
        shell(&caller, &format!("{{ {}; }} >> {} 2>&1", lines.join("; "), path(&said)))
    };
    let bundle = bundle(scene, "own", &["sleep", "1000"], |config| {
        config["hooks"]["createRuntime"] =
            json!([call(&["state own", "update --pids-limit 77 own", "start own", "delete own", "exec own true"])]);
        config["hooks"]["poststart"] = json!([call(&[
            "state own",
            "update --pids-limit 78 own",
            "exec own echo inside",
            "pause own",
            "resume own",
            "start own",
            "kill own 0",
            "delete own",
        ])]);
    });
    let lines = || {
        let text = fs::read_to_string(&said).expect("its words");
        let worth = |line: &&str| line.contains("refused") || line.contains("status") || line.contains("inside");
        text.lines().filter(worth).map(|line| line.trim().to_owned()).collect::<Vec<_>>()
    };
    let init = wait::pidfd(caller.create(&bundle, "own", Stdio::null()));
    let first = ["\"status\": \"creating\",", "start own refused", "delete own refused", "exec own true refused"];
    assert_eq!(lines(), first, "{:?}", fs::read_to_string(&said));
    assert_eq!(limit().as_deref(), Some("77"));
    caller.good(&["start", "own"]);
    let then = ["\"status\": \"running\",", "inside", "start own refused", "delete own refused"];
    assert_eq!(lines(), [&first[..], &then].concat(), "{:?}", fs::read_to_string(&said));
    assert_eq!(limit().as_deref(), Some("78"));
    caller.good(&["delete", "--force", "own"]);
    end_of(&init);
}

/// One that deletes its own container: nothing is made, and nothing is left.
pub(crate) fn a_hook_may_delete_its_own_container(scene: &Scene) {
    let caller = Caller::new(scene);
    fs::create_dir_all(scene.state_dir()).expect("the state directory");
    let before = scene.stock();
    for kind in ["createRuntime", "poststart"] {
        let bundle = bundle(scene, &kind.to_ascii_lowercase(), &["sleep", "1000"], |config| {
            config["hooks"][kind] = json!([shell(&caller, "$oci --root $root delete --force own")]);
        });
        let (code, told) = ended(spawn(&caller, &["run", "-b", path(&bundle), "own"]));
        // Killed by the deletion: the command, or all that would have come to be.
        let expected = if kind == "poststart" { 137 } else { 1 };
        assert_eq!(code, Some(expected), "{kind}: {told}");
        assert!(caller.bad(&["state", "own"]).contains("does not exist"));
        nothing_left(scene, &before, kind);
    }
}

/// With its group; who has left that is nobody's whom anybody would wait for.
pub(crate) fn a_command_that_is_killed_takes_its_hook_along(scene: &Scene) {
    let caller = Caller::new(scene);
    let hang = Hang::new(scene);
    for kind in OF_CREATION {
        let bundle = bundle(scene, &kind.to_ascii_lowercase(), &["sleep", "1000"], |config| {
            let script = format!("sleep 1000 & one=$!; setsid sleep 1000 & echo $$ $one $! > {}; wait", path(&hang.0));
            config["hooks"][kind] = json!([shell(&caller, &script)]);
            seen_from_here(config);
        });
        let create = spawn(&caller, &["create", "-b", path(&bundle), "killed"]);
        let mut family = hang.begun();
        let daemon = family.pop().expect("three");
        killed(create);
        for process in family {
            wait::gone(&process, "the hook");
        }
        caller.good(&["delete", "--force", "killed"]);
        assert!(scene.cgroups().is_empty(), "{:?}", scene.cgroups());
        // The keeper has gone by now, and left it to us.
        wait::kill(&daemon);
        wait::gone(&daemon, "who was left behind");
        while waitid(WaitId::All, WaitIdOptions::EXITED).is_ok() {}
        reap_adopted();
    }
}

fn send(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(child.id().cast_signed()).expect("a pid");
    kill_process(pid, signal).expect("sent");
}

/// In the foreground: the creation ends with the code of the signal; of what runs the command has it, and nobody waits for a hook then.
pub(crate) fn a_signal_ends_a_run_while_a_hook_runs(scene: &Scene) {
    let (caller, hang) = (Caller::new(scene), Hang::new(scene));
    fs::create_dir_all(scene.state_dir()).expect("the state directory");
    let before = scene.stock();
    let kinds = [("createRuntime", Signal::TERM), ("createContainer", Signal::INT), ("poststart", Signal::HUP)];
    for (kind, signal) in kinds {
        let script = "trap 'exit 3' HUP; while :; do sleep 1; done";
        let bundle = bundle(scene, &kind.to_ascii_lowercase(), &["sh", "-c", script], |config| {
            config["hooks"][kind] = json!([hang.hook(&caller)]);
            seen_from_here(config);
        });
        let run = spawn(&caller, &["run", "-b", path(&bundle), "ended"]);
        let family = hang.begun();
        // Nobody is ended by that.
        send(&run, Signal::WINCH);
        send(&run, signal);
        let (code, told) = ended(run);
        assert_eq!(code, Some(128 + signal.as_raw()), "{kind}: {told}");
        assert!(told.contains(&format!("error running {kind} hook #0: ended by SIG")), "{told}");
        for process in family {
            wait::gone(&process, "the hook");
        }
        nothing_left(scene, &before, kind);
    }
}

/// In the foreground, also before there is somebody to pass it on to: in a container that stands still nobody comes to his command.
pub(crate) fn a_signal_ends_an_exec_that_has_not_begun(scene: &Scene) {
    let caller = Caller::new(scene);
    let bundle = bundle(scene, "held", &["sleep", "1000"], |_| ());
    let init = wait::pidfd(caller.create(&bundle, "held", Stdio::null()));
    caller.good(&["start", "held"]);
    caller.good(&["pause", "held"]);
    for signal in [nix::sys::signal::SIGTERM, nix::sys::signal::SIGINT] {
        // It comes to the command when that listens, however early it was sent: until then it is kept back, as here.
        let kept: nix::sys::signal::SigSet = [signal].into_iter().collect();
        kept.thread_block().expect("blocked");
        let exec = spawn(&caller, &["exec", "--ignore-paused", "held", "true"]);
        kept.thread_unblock().expect("as before");
        send(&exec, Signal::from_named_raw(signal as i32).expect("a signal"));
        let (code, told) = ended(exec);
        assert!(code == Some(128 + signal as i32) && told.contains("ended by SIG"), "{code:?}: {told}");
    }
    caller.good(&["delete", "--force", "held"]);
    end_of(&init);
}

/// Whoever has what is written down of a container locked, and stays, is waited for for a while.
pub(crate) fn a_lock_that_somebody_keeps_holds_nobody_up_for_ever(scene: &Scene) {
    let caller = Caller::new(scene);
    let bundle = bundle(scene, "kept", &["sleep", "1000"], |_| ());
    let init = wait::pidfd(caller.create(&bundle, "kept", Stdio::null()));
    caller.good(&["start", "kept"]);
    let record = File::open(caller.root.join("kept/state.json")).expect("a record");
    rustix::fs::flock(&record, rustix::fs::FlockOperation::LockExclusive).expect("locked");
    // For some fifteen seconds.
    let limit = Duration::from_secs(60);
    let (code, told) = ended_within(spawn(&caller, &["pause", "kept"]), limit);
    assert!(code == Some(1) && told.contains("changes container kept does not come to an end"), "{told}");
    let (code, told) = ended_within(spawn(&caller, &["delete", "--force", "kept"]), limit);
    assert_eq!(code, Some(0), "{told}");
    end_of(&init);
}

/// Also one that never comes to its own beginning: its cgroup stands still.
pub(crate) fn a_hook_that_does_not_begin_is_killed_in_time(scene: &Scene) {
    let caller = Caller::new(scene);
    fs::create_dir_all(scene.state_dir()).expect("the state directory");
    let before = scene.stock();
    let places: Vec<_> = scene.cgroup_parents().iter().map(|parent| parent.join("still")).collect();
    let freeze = places.iter().map(|place| {
        format!("for f in {0}/freezer.state {0}/cgroup.freeze; do case $f in *state) w=FROZEN;; *) w=1;; esac; if [ -e $f ]; then echo $w > $f; fi; done", path(place))
    });
    let freeze = freeze.collect::<Vec<_>>().join("; ");
    let bundle = bundle(scene, "still", &["true"], |config| {
        config["hooks"]["createRuntime"] = json!([shell(&caller, &freeze)]);
        config["hooks"]["createContainer"] = json!([{ "path": "/bin/true", "timeout": 1 }]);
    });
    let (code, told) = ended(spawn(&caller, &["create", "-b", path(&bundle), "still"]));
    assert!(
        code == Some(1) && told.contains("createContainer hook #0: hook ran past specified timeout of 1s"),
        "{told}"
    );
    nothing_left(scene, &before, "frozen");
}

/// What hooks do to those who wait for them: everything ends, and nothing is left.
pub(crate) fn hooks_that_do_harm(scene: &Scene) {
    let caller = Caller::new(scene);
    fs::create_dir_all(scene.state_dir()).expect("the state directory");
    let before = scene.stock();
    for (index, (script, timeout, code)) in [
        ("exec 0<&- 1>&- 2>&-; exit 0", 0, 0),
        ("exec 0<&- 1>&- 2>&-; sleep 1000", 1, 1),
        ("kill -STOP $$", 1, 1),
        ("kill -9 $PPID", 0, 1),
        ("kill -STOP $PPID; exec sleep 1000", 1, 1),
        // Inside a pid namespace its parent has no number.
        ("[ $PPID = 0 ] || kill -STOP $PPID; exit 0", 0, 0),
        ("head -c 5000000 /dev/zero >&2; exit 4", 0, 1),
        ("trap '' TERM INT HUP; while :; do :; done", 1, 1),
        ("for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done; exit 5", 0, 1),
    ]
    .into_iter()
    .enumerate()
    {
        for kind in ["createRuntime", "createContainer", "poststart"] {
            let bundle = bundle(scene, &format!("harm{index}{}", kind.to_ascii_lowercase()), &["true"], |config| {
                // Its number as the host has it, whose procfs it sees also where it is in the container's namespaces.
                let number = format!("read number rest < /proc/self/stat; echo $number > {}/harm", path(scene.dir()));
                let mut hook = shell(&caller, &format!("{number}; {script}"));
                if timeout > 0 {
                    hook["timeout"] = timeout.into();
                }
                config["hooks"][kind] = json!([hook]);
            });
            let (came, told) = ended(spawn(&caller, &["run", "-b", path(&bundle), "harmed"]));
            assert_eq!(came, Some(code), "{kind}: {script}: {told}");
            assert!(told.len() < 20_000, "{kind}: {script}: {} bytes", told.len());
            end_group(&scene.dir().join("harm"));
            nothing_left(scene, &before, script);
        }
    }
}

/// Nobody else would let it go on.
pub(crate) fn a_command_that_its_hook_has_stopped_is_woken(scene: &Scene) {
    let (caller, hang) = (Caller::new(scene), Hang::new(scene));
    fs::create_dir_all(scene.state_dir()).expect("the state directory");
    let before = scene.stock();
    // The command is the parent of the keeper.
    let stops = "kill -STOP $(cut -d' ' -f4 /proc/$PPID/stat)";
    let hook = shell(&caller, &format!("{stops}; sleep 1000 & echo $$ $! > {}; wait", path(&hang.0)));
    let bundle =
        bundle(scene, "stopped", &["sleep", "1000"], |config| config["hooks"]["createRuntime"] = json!([hook]));
    let create = spawn(&caller, &["create", "-b", path(&bundle), "stopped"]);
    let family = hang.begun();
    caller.good(&["delete", "--force", "stopped"]);
    let (code, told) = ended(create);
    assert_eq!(code, Some(1), "{told}");
    for process in family {
        wait::gone(&process, "the hook");
    }
    assert!(caller.bad(&["state", "stopped"]).contains("does not exist"));
    nothing_left(scene, &before, "stopped");
}

/// Whoever a hook has left in its group, all of whom have fallen to us.
fn end_group(file: &Path) {
    // One that was killed at its very beginning has said nothing.
    let Ok(text) = fs::read_to_string(file) else { return };
    fs::remove_file(file).expect("removed");
    let leader = text.trim().parse().ok().and_then(Pid::from_raw).expect("a number");
    for process in stock::descendants(std::process::id()) {
        let pid = Pid::from_raw(process.pid.cast_signed()).expect("a number");
        if rustix::process::getpgid(Some(pid)) == Ok(leader) {
            wait::try_pidfd(process.pid).iter().for_each(wait::kill);
        }
    }
}
