//! The plan that `explain` prints is what the keeper's children do: a run under strace, compared step by step.
//!
//! Expected is each step's list of calls, decoded from the plan's bytes; seen is what the child called. Nothing may be
//! missing and nothing may come in between but what stands in [`BETWEEN`] with its reason.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "test code: a panic is a failed trial")]

use std::collections::BTreeMap;
use std::process::{Command, ExitCode};

use orangery_runtime::hand::Errand;
use orangery_runtime::plan::Plan;
use orangery_runtime::plan::explain;
use orangery_runtime::plan::reach;
use orangery_runtime::plan::wire::{EXIST_OK, OPTIONAL, PRESENT};
use orangery_runtime::spec::{Access, Mount, Network, Rootfs, StagedFile, Stdio, WindowSize, namespaces, oci};
use orangery_runtime::{ContainerSpec, ProcessSpec, Started};
use orangery_tests::host::{outcome, probe};
use orangery_tests::{Host, Scene, trial, wait};

fn main() -> ExitCode {
    orangery_tests::main(&[
        trial!(the_default_container, Strace).long(),
        trial!(a_container_without_init, Strace).long(),
        trial!(a_process_with_a_terminal, Strace).long(),
        trial!(a_process_with_rules, Strace)
            .long()
            .skip_if((orangery_runtime::doctor::landlock() < 6).then_some("needs a kernel with a later landlock")),
        trial!(a_rich_container, Strace).long(),
        trial!(an_image_under_an_overlay, Strace, Busybox).long(),
        trial!(the_hosts_root_and_network, Strace).long(),
        trial!(a_container_in_namespaces_of_another_one, Strace).long(),
        trial!(a_hand, Strace, Root).long(),
        trial!(a_bundle, Strace).long(),
    ])
}

/// Calls of a child that are no step: leaving the keeper's table and saying so; until it execs the keeper's death is its
/// own, one that was before it asked for that included.
const BETWEEN: [&str; 4] = ["close_range(", "futex(", "prctl(PR_SET_PDEATHSIG", "ppoll("];

/// Calls of a middle process before it enters a container: what it must not take along (docs/decisions/0075).
const APART: [&str; 5] = ["setgroups(0", "open_tree(", "mount_setattr(", "dup3(", "close("];

/// What a walk is made of, name by name.
const WALK: [&str; 6] = ["openat2(", "fstat(", "readlinkat(", "mkdirat(", "openat(", "close("];

/// And what a copy is made of beside it.
const COPY: [&str; 6] = ["getdents64(", "sendfile(", "symlinkat(", "mknodat(", "fchownat(", "fchmod("];

/// Names the process that runs under strace.
const ROLE: &str = "ORANGERY_TEST_STRACED";

fn the_default_container(scene: &Scene) {
    compare(scene, |host| (host.spec("plain"), probe(&["true"])));
}

fn a_container_without_init(scene: &Scene) {
    compare(scene, |host| {
        let mut spec = host.spec("pid1");
        spec.without_init = true;
        (spec, probe(&["true"]))
    });
}

fn a_process_with_a_terminal(scene: &Scene) {
    compare(scene, |host| {
        let mut main = probe(&["true"]);
        (main.stdout, main.stderr) = (Stdio::Null, Stdio::Null);
        main.tty = Some(WindowSize { rows: 5, columns: 7 });
        (host.spec("tty"), main)
    });
}

fn a_process_with_rules(scene: &Scene) {
    compare(scene, |host| {
        let mut main = probe(&["true"]);
        main.landlock = Some("ro:/,rw:/tmp,write:/dev/null,bind:80,connect:443,scope:signals".parse().expect("rules"));
        (host.spec("rules"), main)
    });
}

fn a_rich_container(scene: &Scene) {
    compare(scene, |host| {
        let mut spec = host.spec("rich");
        spec.mounts.push(Mount::bind("/usr", "/data/deep").read_only());
        spec.mounts.push(Mount::tmpfs("/scratch").no_exec());
        spec.mounts.push(Mount::device("/dev/full"));
        spec.files.push(StagedFile { path: "/in/file".into(), content: b"content".as_slice().into(), mode: 0o600 });
        spec.sysctls.insert("net.ipv4.ip_default_ttl".into(), "7".into());
        spec.masked_paths.push("/etc/hosts".into());
        spec.readonly_paths.push("/var".into());
        let mut main = probe(&["true"]);
        main.umask = Some(0o077);
        main.cwd = Some("/tmp".into());
        (spec, main)
    });
}

fn an_image_under_an_overlay(scene: &Scene) {
    let image = if std::env::var_os(ROLE).is_some() { scene.dir().join("image") } else { scene.image("image") };
    compare(scene, |host| {
        let mut spec = host.spec("image");
        spec.mounts.clear();
        spec.rootfs = Rootfs::Dir { path: image.clone(), access: Access::Overlay };
        (spec, probe(&["true"]))
    });
}

fn the_hosts_root_and_network(scene: &Scene) {
    compare(scene, |host| {
        let mut spec = host.spec("host");
        spec.rootfs = Rootfs::HostRoot;
        spec.network = Network::Host;
        spec.mounts[0].target = "/usr/bin/false".into();
        let mut main = probe(&["true"]);
        main.argv[0] = "/usr/bin/false".into();
        (spec, main)
    });
}

/// A container whose mounts are listed.
fn a_bundle(scene: &Scene) {
    let dir = scene.dir().join("bundle");
    std::fs::create_dir_all(dir.join("rootfs/a")).expect("a root");
    if !dir.join("rootfs/probe").exists() {
        std::fs::copy(scene.probe(), dir.join("rootfs/probe")).expect("the probe");
        std::fs::write(dir.join("rootfs/a/file"), "copied").expect("a file");
        std::os::unix::fs::symlink("/a", dir.join("rootfs/link")).expect("a link");
    }
    compare(scene, |host| {
        let one = |id: u32| serde_json::json!([{"containerID": 0, "hostID": id, "size": 1}]);
        let namespaces =
            ["mount", "pid", "ipc", "uts", "network", "time"].map(|kind| serde_json::json!({"type": kind}));
        let mut config = serde_json::json!({
            "ociVersion": "1.0.2", "root": {"path": "rootfs", "readonly": true}, "hostname": "bundle", "domainname": "d",
            "process": {"user": {"uid": 0, "gid": 0}, "args": ["/probe", "true"], "cwd": "/made/here",
                "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 5}, "scheduler": {"policy": "SCHED_OTHER", "nice": 3}},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]},
                {"destination": "/dev", "type": "tmpfs", "source": "t", "options": ["mode=755", "strictatime"]},
                {"destination": "/link/b/c", "type": "bind", "source": "/usr", "options": ["rbind", "ro", "rnosuid", "rslave"]},
                {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]},
                {"destination": "/a", "type": "tmpfs", "source": "t", "options": ["tmpcopyup", "ro"]},
            ],
            "linux": {
                "namespaces": namespaces,
                "sysctl": {"net.ipv4.ip_default_ttl": "7"}, "maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"],
                "seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}, "rootfsPropagation": "rshared",
                "personality": {"domain": "LINUX"}, "memoryPolicy": {"mode": "MPOL_LOCAL"},
                "timeOffsets": {"boottime": {"secs": 9}},
            },
        });
        if !host.root() {
            config["linux"]["namespaces"].as_array_mut().expect("a list").push(serde_json::json!({"type": "user"}));
            config["linux"]["uidMappings"] = one(rustix::process::geteuid().as_raw());
            config["linux"]["gidMappings"] = one(rustix::process::getegid().as_raw());
        }
        let (mut spec, mut main) = oci::parse(&dir, config.to_string().as_bytes()).expect("a bundle");
        spec.id = "bundle".into();
        main.stdout = Stdio::Piped;
        (spec, main)
    });
}

/// Whom an ordinary user traces gets no rights from a file, and newuidmap can map one id alone: the plan that is compared
/// with it shall be made the same way.
fn without_file_rights(scene: &Scene) {
    if !scene.root() {
        rustix::thread::set_no_new_privs(true).expect("no new privileges");
    }
}

/// Under strace: run it. Outside: start that, then compare.
fn compare(scene: &Scene, what: impl Fn(&Host) -> (ContainerSpec, ProcessSpec)) {
    if std::env::var_os(ROLE).is_some() {
        return scene.play(async |host| {
            let (spec, main) = what(host);
            assert_eq!(host.once(spec, main).await.code(), 0);
        });
    }
    without_file_rights(scene);
    let mut plans = Vec::new();
    scene.play(async |host| {
        let (spec, main) = what(host);
        let (container, main) = host.rt.plan(spec, main).expect("a plan");
        plans.extend([Some(container), main].into_iter().flatten());
    });
    let calls = trace(scene);
    follow(&plans[0], &caller(&calls, &["sethostname("]));
    if let Some(main) = plans.get(1) {
        follow(main, &caller(&calls, &["setsid(", "getcwd(", "execve("]));
    }
}

/// What the process has called that has made all these calls, after what the middle process has that it was cloned by.
fn caller(calls: &BTreeMap<u32, Vec<String>>, marks: &[&str]) -> Vec<String> {
    let all = |calls: &[String]| marks.iter().all(|mark| calls.iter().any(|call| call.starts_with(mark)));
    let child = calls.iter().find(|(_, calls)| all(calls));
    let (pid, child) = child.unwrap_or_else(|| panic!("nobody called {marks:?}"));
    let gives_birth = |call: &String| {
        call.starts_with("clone3(") && call.contains("CLONE_PARENT_SETTID") && call.ends_with(&format!("= {pid}"))
    };
    // One that enters a container; what it joins by name is no step.
    let enters = |call: &String| call.starts_with("setns(") && call.contains("CLONE_NEWPID");
    let middle = calls.values().find(|calls| calls.iter().any(gives_birth) && calls.iter().any(enters));
    // From where it has left the keeper's table.
    let begins = |call: &&String| !call.starts_with("close_range(256");
    let middle = middle.into_iter().flat_map(|calls| calls.iter().skip_while(begins));
    let until = middle.scan(false, |done, call| (!std::mem::replace(done, gives_birth(call))).then_some(call));
    until.chain(child).cloned().collect()
}

/// Until it waits for what comes next.
fn a_hand(scene: &Scene) {
    if std::env::var_os(ROLE).is_some() {
        return scene.play(async |host| {
            let container = host.create(host.spec("touched"), probe(&["true"])).await.expect("created");
            let mut hand = container.hand((1, 1)).await.expect("a hand");
            let again = Errand::Reopen { flags: rustix::fs::OFlags::PATH };
            let opened = hand.carry_out(&again, std::fs::File::open("/").expect("opened")).expect("an answer");
            assert!(opened.is_ok(), "{opened:?}");
            container.delete().await.expect("deleted");
        });
    }
    let calls = trace(scene);
    follow(&reach::hand((1, 1)), &caller(&calls, &["prctl(PR_SET_NAME, \"orangery-hand\""]));
}

/// In the order in which they are entered.
const JOINED: [(&str, &str); 4] =
    [("net", "CLONE_NEWNET"), ("ipc", "CLONE_NEWIPC"), ("cgroup", "CLONE_NEWCGROUP"), ("user", "CLONE_NEWUSER")];

/// A process that enters them clones the child; the child's steps are the plan's.
fn a_container_in_namespaces_of_another_one(scene: &Scene) {
    let joining = |host: &Host, other: &Started| {
        let (mut spec, mut main) = (host.spec("joins"), probe(&["true"]));
        main.cwd = Some("/tmp".into());
        let open = |kind: &str| namespaces::open(kind, format!("/proc/{}/ns/{kind}", other.pid).as_ref());
        spec.join = JOINED.iter().map(|(kind, _)| open(kind).expect("a namespace").into()).collect();
        (spec, main)
    };
    without_file_rights(scene);
    let mut plans = Vec::new();
    scene.play(async |host| {
        let mut main = probe(&["cat"]);
        main.stdin = Stdio::Piped;
        let container = host.create(host.spec("other"), main).await.expect("created");
        let other = container.start().await.expect("started");
        let (spec, main) = joining(host, &other);
        if std::env::var_os(ROLE).is_some() {
            assert_eq!(host.once(spec, main).await.code(), 0);
        } else {
            let (first, main) = host.rt.plan(spec, main).expect("a plan");
            plans.extend([Some(first), main].into_iter().flatten());
        }
        assert_eq!(outcome(other).await.code(), 0);
        container.delete().await.expect("deleted");
    });
    let [first, main] = plans.as_slice() else { return };
    let calls = trace(scene);
    follow(first, &caller(&calls, &["sethostname(\"joins\""]));
    follow(main, &caller(&calls, &["chdir(\"/tmp\"", "execve("]));
    let entered = |calls: &[String]| -> Vec<String> {
        let flags =
            calls.iter().filter_map(|call| call.strip_prefix("setns(")?.split([' ', ')']).nth(1).map(str::to_owned));
        flags.collect()
    };
    let wanted = JOINED.map(|(_, flag)| flag.to_owned());
    let middle = calls.values().find(|calls| entered(calls) == wanted).expect("somebody enters them");
    let last = middle.iter().rfind(|call| call.starts_with("clone3(")).expect("and clones");
    assert!(last.contains("CLONE_PARENT") && explain::birth(first).contains("CLONE_PARENT"), "{last}");
}

/// The calls of each process of a run, in order; one that was interrupted in the listing as one line, with its result.
#[expect(clippy::disallowed_methods, reason = "runs strace")]
fn trace(scene: &Scene) -> BTreeMap<u32, Vec<String>> {
    let listing = scene.dir().join("strace");
    let mut command = Command::new("strace");
    let command = scene.share(&mut command).env(ROLE, "1").args(["-f", "-s", "4096", "-o"]).arg(&listing);
    let mut strace = command.arg(std::env::current_exe().expect("us")).spawn().expect("strace");
    // The whole trial once more, and each call of it stops twice.
    let status = wait::child(&mut strace, 8 * wait::PATIENCE).expect("waited").expect("in time");
    assert!(status.success(), "{status:?}");
    let mut calls: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for line in std::fs::read_to_string(&listing).expect("a listing").lines() {
        let Some((pid, call)) = line.split_once(' ') else { continue };
        let call = call.trim_start();
        let calls = calls.entry(pid.parse().expect("a pid")).or_default();
        if let Some((_, result)) = call.strip_prefix("<... ").and_then(|call| call.split_once(" resumed>")) {
            if let Some(begun) = calls.last_mut()
                && let Some(whole) = begun.strip_suffix("<unfinished ...>").map(|begun| format!("{begun}{result}"))
            {
                *begun = whole;
            }
        } else if !call.starts_with("---") && !call.starts_with("+++") {
            calls.push(call.to_owned());
        }
    }
    calls
}

/// The name in `#3 = fsmount(ro)` or `mkdirat(...)`; the shown text in quotes, if there is one.
fn expected(call: &str) -> (&str, Option<&str>) {
    let call = call.split_once(" = ").filter(|(slot, _)| slot.starts_with('#')).map_or(call, |(_, call)| call);
    let name = call.split('(').next().unwrap_or(call);
    (name, call.split('"').nth(1).filter(|text| !text.is_empty()))
}

fn matches(seen: &str, call: &str) -> bool {
    let (name, text) = expected(call);
    let has = |text: &str| seen.contains(&format!("\"{text}\"")) || seen.contains(&format!("\"{text}\\0"));
    seen.split('(').next() == Some(name) && text.is_none_or(has)
}

fn failed(seen: &str) -> bool {
    seen.contains(" = -1 ")
}

fn follow(plan: &Plan, seen: &[String]) {
    let mut at = 0;
    let lines = explain::lines(plan);
    for (line, step) in lines.iter().zip(plan.steps()) {
        // What comes from the exec'd program is not ours any more.
        for (index, call) in line.calls.iter().enumerate() {
            if line.op == "stub-init" && index > 1 {
                return;
            }
            let apart = if line.op == "enter" { &APART[..] } else { &[] };
            let between =
                |seen: &&String| BETWEEN.iter().chain(apart).any(|name| seen.starts_with(name)) && !matches(seen, call);
            while seen.get(at).is_some_and(|seen| between(&seen)) {
                at += 1;
            }
            if line.op == "stub-init" && at >= seen.len() {
                // It has said that it is ready, and the whole life was over before it came to sleep.
                return;
            }
            let here = seen.get(at).map_or("", String::as_str);
            let may_miss = step.flags & (OPTIONAL | PRESENT) != 0 || line.op == "wait-maps";
            if !matches(here, call) && may_miss {
                break;
            }
            assert!(
                matches(here, call),
                "step {} {} ({}): expected {call}, seen {here}\nbefore: {:#?}",
                line.step,
                line.op,
                line.words,
                &seen[at.saturating_sub(3)..at]
            );
            at += 1;
            if failed(here) && !matches!(line.op, "place" | "copy-up") {
                assert!(
                    step.flags & (OPTIONAL | EXIST_OK) != 0 || line.op == "execve" || line.op == "cap-bound",
                    "step {}: {here}",
                    line.step
                );
                break;
            }
            if matches!(line.op, "place" | "copy-up") && index == 0 {
                let copy = if line.op == "place" { &[] } else { COPY.as_slice() };
                let walk = |seen: &&String| WALK.iter().chain(copy).any(|name| seen.starts_with(name));
                at += seen.iter().skip(at).take_while(walk).count();
            }
            // One line stands for as many calls as there are capabilities or pieces.
            while matches!(line.op, "cap-bound" | "cap-ambient") || call.contains("until the end") {
                let more = seen.get(at).is_some_and(|next| matches(next, call) && same_kind(next, here));
                if !more {
                    break;
                }
                at += 1;
            }
        }
    }
}

/// The same first argument: `prctl(PR_CAPBSET_DROP, ...)`.
fn same_kind(one: &str, two: &str) -> bool {
    one.split(',').next() == two.split(',').next()
}
