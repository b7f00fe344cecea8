//! What it prints and how it exits.

use crate::kit::{copy_program, doctor, empty_root, lacks, ran, root, sh};
use crate::refusals::short;
use crate::{Test, always, needs};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        always("the_command_of_the_readme", the_command_of_the_readme),
        always("exit_codes", exit_codes),
        always("a_timeout_is_124_also_a_gentle_one", timeouts),
        always("events_are_lines_of_json_from_the_creation_to_the_removal", events),
        always("silence_is_124_and_in_the_report_with_and_without_a_log", silence),
        needs("processor_time_of_all_processes", lacks("--cpus"), processor_time),
        always("the_report_is_json_also_when_the_command_fails", reports),
        always("a_failure_is_in_the_report_file", failure_in_the_report),
        always("the_environment_is_small", environment),
        always("name_host_workdir_and_user", identity),
        always("only_the_standard_descriptors", descriptors),
        always("bind_and_tmpfs_mounts", mounts),
        always("mounts_without_programs_and_slaves_are_explained", mount_options),
        always("a_device_of_the_host", device),
        always("private_space_has_as_many_inodes_as_it_is_given", disk_inodes),
        always("rlimits", rlimits),
        needs("memory_and_pids_limits", lacks("--memory").or_else(|| lacks("--pids")), limits),
        always("the_output_limit_kills", output_limit),
        always("the_output_limit_truncates_or_signals", output_limit_truncates),
        always("no_init_makes_it_pid_1", no_init),
        always("doctor_is_json_and_agrees_with_its_exit_code", doctor_json),
        always("explain_explains_and_runs_nothing", explain),
        always("a_namespace_that_exists_is_joined_or_refused", join),
        always("help_teaches", help),
        needs("own_root_and_overlay", lacks("overlay (--writable)"), own_root),
    ]
}

fn the_command_of_the_readme() {
    let ran = sh(&[], "echo hello; echo oops >&2; exit 3");
    assert_eq!((ran.code, ran.text(), ran.err.as_str()), (Some(3), "hello\n", "oops\n"));
}

fn exit_codes() {
    for (script, code) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("exit 255", 255),
        ("kill -9 $$", 137),
        ("kill -TERM $$", 143),
        ("kill -SEGV $$", 139),
    ] {
        assert_eq!(sh(&[], script).ended(code).err, "", "{script}");
    }
    ran(&["run", "--", "no-such-command"]).ended(127);
    ran(&["run", "--", "/no/such/command"]).ended(127);
    ran(&["run", "--", "/usr"]).ended(126);
    ran(&["run", "--", "/etc/passwd"]).ended(126);
    ran(&["run", "--no-such-option", "--", "true"]).ended(125);
    ran(&[]).ended(125);
}

fn timeouts() {
    sh(&["--timeout", "200ms"], "sleep 60").ended(124);
    sh(&["--timeout", "1h"], "exit 4").ended(4);
    // One that is asked before it listens dies of it without a word, and is begun again with more time.
    let gently = |limit| {
        let options = ["--timeout", limit, "--timeout-signal", "USR1", "--timeout-grace", "1m"];
        sh(&options, "trap 'echo bye; exit 9' USR1; while :; do sleep 0.05; done")
    };
    let gentle = ["200ms", "2s", "20s"].into_iter().map(gently).find(|gentle| !gentle.out.is_empty());
    assert_eq!(gentle.expect("it never listens in time").ended(124).text(), "bye\n");
    sh(&["--timeout", "200ms", "--timeout-grace", "100ms"], "trap '' TERM; while :; do sleep 0.05; done").ended(124);
}

fn events() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("events");
    sh(&["--events", file.to_str().unwrap(), "--name", "told", "--label", "a=b"], "exit 3").ended(3);
    let lines = std::fs::read_to_string(&file).unwrap();
    let events: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<_> = events.iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert_eq!((kinds.first(), kinds.last()), (Some(&"container_created"), Some(&"container_removed")));
    let exit = events.iter().find(|event| event["kind"] == "process_exited").unwrap();
    assert_eq!(
        (&exit["exit"]["code"], &exit["container"], &exit["labels"]["a"]),
        (&3.into(), &"told".into(), &"b".into())
    );
    let nowhere = ran(&["run", "--events", "/no/such/dir/file", "--", "true"]).ended(125).err.clone();
    assert!(nowhere.contains("--events"), "{nowhere}");
}

fn silence() {
    let dir = tempfile::tempdir().unwrap();
    let (file, log) = (dir.path().join("report.json"), dir.path().join("log"));
    let idle = ["--timeout-idle", "500ms", "--report", file.to_str().unwrap()];
    let logged = [&idle[..], &["--log", log.to_str().unwrap()]].concat();
    for options in [&idle[..], &logged[..]] {
        sh(options, "sleep 60").ended(124);
        let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        assert_eq!(report["cause"]["limit"], "idle", "{options:?}");
    }
    assert_eq!(sh(&["--timeout-idle", "1h"], "echo a; exit 4").ended(4).text(), "a\n");
}

fn processor_time() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("report.json");
    let options = ["--timeout-cpu", "300ms", "--report", file.to_str().unwrap()];
    sh(&options, "for i in 1 2 3; do (while :; do :; done) & done; wait").ended(137);
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(report["cause"]["limit"], "cpu", "{report}");
}

fn reports() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("report.json");
    let ran = sh(&["--report", file.to_str().unwrap(), "--name", "reported"], "echo four; exit 5");
    assert_eq!(ran.ended(5).text(), "four\n");
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!((&report["schema"], &report["id"]), (&1.into(), &"reported".into()));
    assert_eq!((&report["exit"]["code"], &report["cause"]), (&5.into(), &"own".into()));
    assert_eq!((&report["stdout"]["bytes"], &report["stderr"]["bytes"]), (&5.into(), &0.into()));
    let killed = sh(&["--report", "-", "--timeout", "200ms"], "sleep 60");
    assert_eq!(killed.ended(124).json()["cause"]["limit"], "wall");
}

fn failure_in_the_report() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("report.json");
    ran(&["run", "--report", file.to_str().unwrap(), "--", "no-such-command"]).ended(127);
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!((&report["error"]["kind"], &report["error"]["exit_code"]), (&"command_not_found".into(), &127.into()));
}

fn environment() {
    let ran = crate::kit::orangery(&["run", "--env", "A=b=c", "-e", "PASSED", "--env", "LANG=C", "--", "env"])
        .envs([("PASSED", "on"), ("SECRET", "kept")])
        .output()
        .unwrap();
    let text = String::from_utf8(ran.stdout).unwrap();
    let mut names: Vec<&str> = text.lines().collect();
    names.sort_unstable();
    assert_eq!(names.len(), 6, "{text}");
    assert_eq!((names[0], names[2], names[3]), ("A=b=c", "LANG=C", "PASSED=on"));
    assert!(names[1] == "HOME=/root" && names[4].starts_with("PATH=/usr") && names[5].starts_with("TERM="), "{text}");
}

fn identity() {
    let ran = sh(&["--hostname", "fruit", "--workdir", "/tmp"], "hostname; pwd; id -u");
    assert_eq!(ran.ended(0).text(), "fruit\n/tmp\n0\n");
    assert_eq!(sh(&["--user", "1234"], "id -u; id -g; echo $HOME").ended(0).text(), "1234\n1234\n/home/user\n");
    assert_eq!(sh(&["--name", "pip"], "hostname").ended(0).text(), "pip\n");
}

fn descriptors() {
    // One more is the directory that it reads.
    assert_eq!(ran(&["run", "--", "ls", "/proc/self/fd"]).ended(0).text(), "0\n1\n2\n3\n");
}

fn mounts() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("here"), "text").unwrap();
    let bind = format!("type=bind,src={},dst=/data,ro", dir.path().display());
    let ran = sh(
        &["--mount", &bind, "--mount", "type=tmpfs,dst=/scratch,size=1M"],
        "cat /data/here; ! touch /data/x && touch /scratch/y",
    );
    assert_eq!(ran.ended(0).text(), "text");
    assert!(!dir.path().join("x").exists());
    let writable = format!("type=bind,src={},dst=/data", dir.path().display());
    sh(&["--mount", &writable], "echo new > /data/new").ended(0);
    assert_eq!(std::fs::read(dir.path().join("new")).unwrap(), b"new\n");
}

/// Later mounts reach a slave where its source lies on a mount that they travel from, which is not so everywhere.
fn mount_options() {
    let options = "type=bind,src=/usr,dst=/data,ro,noexec,propagation=slave";
    let explained = ran(&["explain", "--mount", options, "--mount", "type=tmpfs,dst=/t,noexec", "--", "true"]);
    if explained.code == Some(0) {
        let text = explained.text();
        assert!(text.contains("set ro,nosuid,nodev,noexec on it; later mounts of the host still arrive"), "{text}");
    } else {
        assert!(explained.ended(125).err.contains("/usr lies on a private mount"), "{explained:?}");
    }
    let dir = tempfile::tempdir().unwrap();
    copy_program("/bin/true", dir.path().join("true"));
    let bind = format!("type=bind,src={},dst=/data", dir.path().display());
    ran(&["run", "--mount", &bind, "--", "/data/true"]).ended(0);
    ran(&["run", "--mount", &(bind + ",noexec"), "--", "/data/true"]).ended(126);
}

fn device() {
    // Our own /dev has /dev/zero anyway; what makes the difference is said by the plan.
    let options = ["--device", "/dev/zero", "--", "sh", "-c", "head -c 3 /dev/zero | wc -c"];
    assert_eq!(ran(&[&["run"], &options[..]].concat()).ended(0).text().trim(), "3");
    let text = ran(&[&["explain"], &options[..]].concat());
    let text = text.ended(0).text();
    assert!(text.contains("set nosuid on it") && text.contains("open dev/zero without"), "{text}");
}

fn disk_inodes() {
    let made = |options: &[&str]| {
        let ran = sh(options, "cd /tmp; seq 200 | xargs touch 2>/dev/null; ls | wc -l");
        ran.ended(0).text().trim().parse::<u32>().unwrap()
    };
    assert_eq!(made(&[]), 200);
    let few = made(&["--disk-inodes", "100"]);
    assert!((50..100).contains(&few), "{few}");
    let ran = ran(&["run", "--disk-inodes", "63", "--", "true"]);
    assert!(ran.ended(125).err.contains("64 inodes"), "{ran:?}");
}

fn rlimits() {
    let options = ["--nofile", "64", "--rlimit", "core=0", "--fsize", "4K", "--cpu-time", "5:6"];
    let ran = sh(&options, "ulimit -n; ulimit -c; ulimit -t; ulimit -f");
    assert_eq!(ran.ended(0).text(), "64\n0\n5\n8\n");
}

fn limits() {
    let memory = ["--memory", "16M", "--memory-swap", "0"];
    // Its one buffer has 64 MiB.
    let killed = ran(&[
        &["run", "--report", "-"],
        &memory[..],
        &["--", "dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"],
    ]
    .concat());
    assert_eq!(killed.ended(137).json()["cause"]["limit"], "memory", "{killed:?}");
    let refused = sh(&["--pids", "4"], "for i in 1 2 3 4 5 6; do sleep 60 & done; echo forked");
    assert!(refused.err.contains("fork") && !refused.text().contains("forked"), "{refused:?}");
}

fn output_limit() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("report.json");
    let ran = sh(&["--output-limit", "64K", "--report", file.to_str().unwrap()], "yes");
    assert_eq!(ran.ended(137).out.len(), 64 << 10);
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(report["cause"]["limit"], "output");
    assert_eq!((&report["output_limit"], &report["stderr"]["suppressed"]), (&(64 << 10).into(), &0.into()));
    assert!(report["stdout"]["suppressed"].as_u64() > Some(0), "{report}");
    assert_eq!(sh(&["--output-limit", "6"], "echo hello").ended(0).text(), "hello\n");
}

fn output_limit_truncates() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("report.json");
    let report = || serde_json::from_slice::<serde_json::Value>(&std::fs::read(&file).unwrap()).unwrap();
    let run = |limit: &str, script: &str| sh(&["--output-limit", limit, "--report", file.to_str().unwrap()], script);
    let ran = run("10:truncate", "echo 12345678; seq 100000; exit 4");
    assert_eq!(ran.ended(4).text(), "12345678\n1");
    let truncated = report();
    assert_eq!((&truncated["cause"], &truncated["output_limit"]), (&"own".into(), &10.into()));
    assert_eq!(truncated["stdout"]["suppressed"], 588_895 - 1);
    let script = "trap 'echo enough; exit 5' USR1; while :; do echo yes; done";
    let ran = run("10:USR1", script);
    assert_eq!(ran.ended(5).text(), "yes\nyes\nye");
    assert_eq!(report()["cause"]["limit"], "output");
}

fn no_init() {
    assert_eq!(sh(&["--no-init"], "echo $$").ended(0).text(), "1\n");
    assert_ne!(sh(&["--no-init", "--init"], "echo $$").ended(0).text(), "1\n");
}

fn doctor_json() {
    let can = doctor()["can_run"].as_bool().unwrap();
    ran(&["doctor"]).ended(i32::from(!can));
    assert!(can, "the other tests need a sandbox: {}", doctor());
    let findings = doctor()["findings"].as_array().unwrap();
    assert!(findings.len() > 15 && findings.iter().all(|finding| finding["name"].is_string()), "{findings:?}");
    // Whoever may not use cgroups is told how to.
    let cgroups = findings.iter().find(|finding| finding["name"] == "cgroups").unwrap();
    assert!(cgroups["state"] == "ok" || cgroups["fix"].is_string() || root(), "{cgroups}");
}

fn explain() {
    let dir = tempfile::tempdir().unwrap();
    let (state, shared) = (dir.path().join("state"), dir.path().join("shared"));
    std::fs::create_dir(&shared).unwrap();
    let mount = format!("type=bind,src={},dst=/shared", shared.display());
    let options = ["--state-dir", state.to_str().unwrap(), "--mount", &mount, "--", "touch", "/shared/done"];
    let text = ran(&[&["explain"], &options[..]].concat());
    for part in
        ["clone3(", "pivot_root(", "run touch /shared/done", "execve(\"/usr/bin/touch\")", "Nothing of this was done."]
    {
        assert!(text.ended(0).text().contains(part), "{part} is missing in {}", text.text());
    }
    let json = ran(&[&["explain", "--json"], &options[..]].concat()).json();
    assert!(json["container"]["steps"].as_array().unwrap().len() > 50);
    assert_eq!(json["command"]["steps"][0]["step"], 0);
    assert_eq!(std::fs::read_dir(&shared).unwrap().count(), 0, "it was run");
    assert_eq!(std::fs::read_dir(&state).unwrap().count(), 0, "state is left");
    // The same refusals as run's.
    assert_eq!(
        ran(&["explain", "--user", "nobody-here", "--", "true"]).ended(125).err,
        ran(&["run", "--user", "nobody-here", "--", "true"]).err
    );
}

/// Of this process: root may, an ordinary user has no rights over the host's.
fn join() {
    let options = ["--join", "uts=/proc/self/ns/uts", "--", "cat", "/proc/sys/kernel/hostname"];
    let (joined, explained) = (ran(&[&["run"], &options[..]].concat()), ran(&[&["explain"], &options[..]].concat()));
    if root() {
        assert_eq!(joined.ended(0).text(), std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap());
        let text = explained.ended(0).text();
        assert!(text.contains("setns(<uts namespace to join>, CLONE_NEWUTS); clone3("), "{text}");
        assert!(!text.contains("sethostname("), "{text}");
    } else {
        assert!(short(&joined).contains("no rights") && joined.err.contains("--join"), "{joined:?}");
        assert_eq!(explained.ended(125).err, joined.err);
    }
}

fn help() {
    for args in [&["--help"][..], &["run", "--help"], &["explain", "--help"], &["doctor", "--help"]] {
        let help = ran(args);
        assert!(help.ended(0).text().contains("Examples:"), "{args:?}");
        assert!(help.text().lines().all(|line| line.chars().count() <= 120), "{args:?}");
    }
    assert_eq!(ran(&["--version"]).ended(0).text(), format!("orangery {}\n", env!("CARGO_PKG_VERSION")));
}

fn own_root() {
    let dir = empty_root();
    let root = dir.path().to_str().unwrap();
    // The host's programs in a root of our own: through mounts.
    let mut options = vec!["--rootfs", root, "--writable"];
    let binds: Vec<String> = ["/usr", "/bin", "/lib", "/lib64"]
        .iter()
        .filter(|path| std::path::Path::new(path).exists())
        .map(|path| format!("type=bind,src={path},dst={path},ro"))
        .collect();
    options.extend(binds.iter().flat_map(|bind| ["--mount", bind.as_str()]));
    sh(&options, "echo thrown away > /note && cat /note").ended(0);
    assert!(!dir.path().join("note").exists());
    options[2] = "--rw";
    sh(&options, "echo kept > /note").ended(0);
    assert_eq!(std::fs::read(dir.path().join("note")).unwrap(), b"kept\n");
}
