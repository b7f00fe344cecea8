//! Wrong input: a clear error of at most three lines, exit 125.

use std::os::unix::fs::symlink;

use crate::kit::{Ran, empty_root, lacks, ran, root};
use crate::{Test, always, needs};

pub(crate) fn tests() -> Vec<Test> {
    let limited =
        if root() || lacks("--memory").is_none() { Some("this user may use cgroups".to_owned()) } else { None };
    vec![
        always("wrong_input_is_named", wrong_input),
        always("several_refusals_at_once", several),
        always("a_mount_target_leads_out_of_the_root", out_of_the_root),
        needs("a_limit_without_a_cgroup_is_refused", limited, limit_without_cgroup),
        always("errors_can_be_json", json),
        always("control_characters_stay_on_their_line", control_characters),
    ]
}

/// At most three lines, the first of which is ours.
#[track_caller]
pub(crate) fn short(ran: &Ran) -> &str {
    let text = ran.ended(125).err.as_str();
    assert!(text.starts_with("orangery: ") && text.lines().count() <= 3, "{text}");
    text
}

fn wrong_input() {
    let cases: &[(&[&str], &[&str])] = &[
        (&["--rootfs", "/no/such/root"], &["/no/such/root", "No such file", "--rootfs"]),
        (&["--rootfs", "/etc/passwd"], &["no tar archive", "--rootfs"]),
        (&["--user", "nobody-here"], &["nobody-here", "--user"]),
        (&["--user=-1"], &["--user"]),
        (&["--user", "a b"], &["a b", "--user"]),
        (&["--memory", "64Q"], &["64Q", "K, M, G or T", "--memory"]),
        (&["--memory", "1K"], &["1024", "--memory"]),
        (&["--cpus", "none"], &["none", "--cpus"]),
        (&["--pids", "many"], &["many", "--pids"]),
        (&["--timeout", "soon"], &["soon", "--timeout"]),
        (&["--timeout-signal", "NOPE", "--timeout", "1s"], &["NOPE", "--timeout-signal"]),
        (&["--nofile", "9:8"], &["soft", "--nofile"]),
        (&["--rlimit", "nothing=1"], &["nothing", "--rlimit"]),
        (&["--mount", "type=bind,dst=/x"], &["src is missing", "--mount"]),
        (&["--mount", "type=bind,src=/no/such/source,dst=/x"], &["/no/such/source", "--mount"]),
        (&["--mount", "type=tmpfs,dst=relative"], &["relative", "absolute", "--mount"]),
        (&["--mount", "type=tmpfs,dst=/a/../b"], &["'..'", "--mount"]),
        (&["--mount", "type=bind,src=/usr,dst=/x,propagation=shared"], &["appear on the host", "slave", "--mount"]),
        (&["--mount", "type=tmpfs,dst=/x,propagation=slave"], &["only a bind mount", "--mount"]),
        (&["--device", "/etc/passwd"], &["/etc/passwd is no device", "--device"]),
        (&["--device", "/no/such/device"], &["/no/such/device", "No such file", "--device"]),
        (&["--env", "NOT_SET_ANYWHERE"], &["NOT_SET_ANYWHERE", "--env"]),
        (&["--env", "=x"], &["--env"]),
        (&["--workdir", "relative"], &["relative", "--workdir"]),
        (&["--hostname", "a b"], &["a b", "--hostname"]),
        (&["--name", "../x"], &["../x", "--name"]),
        (&["--writable"], &["needs --rootfs"]),
        (&["--rw"], &["needs --rootfs"]),
        (&["--network", "some"], &["some"]),
        (&["--publish", "80:80"], &["needs --network pasta", "--publish"]),
        (&["--host-loopback"], &["needs --network pasta", "--host-loopback"]),
        (&["--network", "pasta", "-p", "80"], &["HOST:CONTAINER", "80"]),
        (&["--network", "pasta", "-p", "80:80/sctp"], &["sctp", "udp"]),
        (&["--network", "pasta", "-p", "80:80", "-p", "127.0.0.1:80:81"], &["listens where", "--publish"]),
        (&["--network-plugin", "/no/such/socket"], &["/no/such/socket", "--network-plugin"]),
        (&["--output-limit", "0"], &["--output-limit"]),
        (&["--report", "/no/such/dir/report"], &["/no/such/dir/report", "No such file", "--report"]),
        (&["--cgroup-parent", "/no/such/group"], &["--cgroup-parent"]),
        (&["--label", "x"], &["key=value", "--label"]),
        (&["--join", "net"], &["KIND=PATH", "--join"]),
        (&["--join", "disk=/proc/self/ns/net"], &["disk", "net, ipc, uts", "--join"]),
        (&["--join", "net=/proc/self/ns/uts"], &["kind uts, not net", "--join"]),
        (&["--join", "net=/dev/null"], &["no namespace", "--join"]),
        (&["--join", "net=/no/such/namespace"], &["No such file", "--join"]),
        (&["--join", "user=/proc/self/ns/user"], &["own user namespace", "--join"]),
    ];
    for (options, parts) in cases {
        let ran = ran(&[&["run"], *options, &["--", "true"]].concat());
        let text = short(&ran);
        for part in *parts {
            assert!(text.contains(part), "{options:?}: {part} is missing in\n{text}");
        }
    }
    let bundle = ran(&["run", "--bundle", "/no/such/bundle"]);
    assert!(short(&bundle).contains("config.json") && bundle.err.contains("--bundle"), "{bundle:?}");
    assert!(short(&ran(&["run"])).contains("COMMAND"));
    assert!(short(&ran(&["ruin"])).contains("ruin"));
}

fn several() {
    let ran = ran(&["run", "--memory", "1K", "--user", "nobody-here", "--hostname", "a b", "--", "true"]);
    let text = ran.ended(125).err.as_str();
    for part in ["hostname", "nobody-here", "1024"] {
        assert!(text.contains(part), "{text}");
    }
    // Three are ours; where there is no cgroup that is one more.
    assert!(text.lines().filter(|line| line.starts_with("  also: ")).count() >= 2, "{text}");
}

fn out_of_the_root() {
    let (dir, target) = (empty_root(), tempfile::tempdir().unwrap());
    symlink(target.path(), dir.path().join("absolute")).unwrap();
    let up = format!("../../../../../../..{}", target.path().display());
    symlink(up, dir.path().join("relative")).unwrap();
    for name in ["absolute", "relative"] {
        let mount = format!("type=tmpfs,dst=/{name}/x");
        let ran = ran(&["run", "--rootfs", dir.path().to_str().unwrap(), "--mount", &mount, "--", "true"]);
        assert!(short(&ran).contains("--mount"), "{ran:?}");
        assert_eq!(std::fs::read_dir(target.path()).unwrap().count(), 0, "{name} led out");
    }
}

fn limit_without_cgroup() {
    for option in ["--memory=64M", "--cpus=0.5", "--pids=32", "--cpu-weight=50"] {
        let ran = ran(&["run", option, "--", "true"]);
        let text = short(&ran);
        assert!(text.contains(option.split('=').next().unwrap()) && text.contains("Delegate=yes"), "{text}");
    }
}

fn json() {
    for args in [
        &["run", "--json", "--memory", "64Q", "--", "true"][..],
        &["--json", "run", "--rootfs", "/no/such/root", "--", "true"],
    ] {
        let ran = ran(args);
        assert_eq!(ran.ended(125).err.lines().count(), 1);
        let error: serde_json::Value = serde_json::from_str(&ran.err).unwrap();
        assert!(error["error"]["what"].is_string() && error["error"]["option"].is_string(), "{error}");
        assert_eq!(error["error"]["exit_code"], 125);
    }
}

fn control_characters() {
    let ran = ran(&["run", "--rootfs", "/no\nsuch\u{1b}[31m", "--", "true"]);
    assert!(!short(&ran).contains('\u{1b}'), "{ran:?}");
}
