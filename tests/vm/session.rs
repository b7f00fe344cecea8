//! In the machine of systemd: what an administrator sets up once, and what an ordinary user's session gets of its own
//! manager. Each trial is a process of its own, because each moves itself.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use orangery_runtime::cgroup::handed::HandOver;
use orangery_runtime::cgroup::{CpuQuota, Limits, Oom, enter_leaf, is_delegated};
use orangery_runtime::native::{NativeRuntime, Options};
use orangery_runtime::systemd::enter_scope;
use orangery_runtime::{ExitStatus, Runtime as _};
use orangery_tests::block::writes_are_held_up;
use orangery_tests::wait;

use crate::oci;
use crate::suites::{BEGIN, DONE, END, GUEST, USER};
use crate::user::{life, sh, spec, with_runtime};

/// Names the part that this process plays there.
pub(crate) const SESSION: &str = "ORANGERY_VM_SESSION";
/// Suites of the kit, in a scope, with what of each: emulation is slow, and what the others show is shown elsewhere.
pub(crate) const SUITES: [(&str, &[&str]); 2] = [
    ("limits", &["--color=never", "--test-threads=1", "pause"]),
    ("durable", &["--color=never", "--test-threads=1", "a_container_is_owned_again"]),
];

const PODMAN: &str = "podman_has_its_containers_in_units";

/// The disk of this machine.
const DISK: &str = "/dev/loop0";

/// Play it.
pub(crate) fn run(part: &str) -> ExitCode {
    match part {
        "root" => {
            disk();
            println!("\n{BEGIN} setup");
            let failed = trial("handed_over_once_and_taken_back");
            println!("\n{END} setup {}", u8::from(failed));
            units("units");
        }
        "user" => {
            println!("\n{BEGIN} session");
            let failed = [trial("no_rights_at_first"), trial("limits_hold_in_a_scope")];
            println!("\n{END} session {}", u8::from(failed.contains(&true)));
            units("units@user");
            for (suite, _) in SUITES {
                println!("\n{BEGIN} {suite}@scope");
                println!("\n{END} {suite}@scope {}", ended(again(&format!("suite {suite}")).stdout(Stdio::inherit())));
            }
        }
        "end" => {
            println!("\n{DONE}");
            let _ = ended(busybox().args(["poweroff", "-f"]));
        }
        "handed_over_once_and_taken_back" => handed_over(),
        "handed" => handed(),
        "no_rights_at_first" => no_rights(),
        "limits_hold_in_a_scope" => limits_hold(),
        "a_life_in_a_unit" => oci::a_life_in_a_unit(),
        "units_end_either_way" => oci::units_end_either_way(),
        "what_fails_leaves_no_unit" => oci::what_fails_leaves_no_unit(),
        PODMAN => oci::podman_has_its_containers_in_units(),
        other => match other.strip_prefix("suite ") {
            Some(suite) => in_a_scope(suite),
            None => panic!("no part is called {other:?}"),
        },
    }
    ExitCode::SUCCESS
}

/// Containers in units of this user's manager.
fn units(suite: &str) {
    println!("\n{BEGIN} {suite}");
    let mut failed = ["a_life_in_a_unit", "units_end_either_way", "what_fails_leaves_no_unit"].map(trial).to_vec();
    // podman's user would need a home and a range of ids there.
    if suite == "units" {
        match Path::new("/usr/bin/podman").exists() {
            true => failed.push(trial(PODMAN)),
            false => println!("\ntest {PODMAN} ... ignored"),
        }
    }
    println!("\n{END} {suite} {}", u8::from(failed.contains(&true)));
}

#[expect(clippy::disallowed_methods, reason = "a part of a trial")]
fn again(part: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.env(SESSION, part).stdin(Stdio::null());
    command
}

#[expect(clippy::disallowed_methods, reason = "the end of the machine")]
fn busybox() -> Command {
    Command::new("/usr/bin/busybox")
}

fn ended(command: &mut Command) -> String {
    match command.status() {
        Ok(status) => status.code().map_or_else(|| format!("{status}"), |code| code.to_string()),
        Err(error) => error.to_string(),
    }
}

/// As a harness would say it; whether it has failed.
fn trial(name: &str) -> bool {
    let output = again(name).output().expect("a part");
    let verdict = if output.status.success() { "ok" } else { "FAILED" };
    println!("\ntest {name} ... {verdict}");
    if !output.status.success() {
        println!("---- {name} ----\n{}", String::from_utf8_lossy(&output.stderr));
    }
    !output.status.success()
}

/// One that anybody may write to.
fn disk() {
    let _ = ended(busybox().args(["insmod", "/modules/loop.ko"]));
    fs::File::create("/tmp/disk").and_then(|disk| disk.set_len(1 << 20)).expect("a file");
    let made = ended(busybox().args(["losetup", DISK, "/tmp/disk"]));
    assert_eq!(made, "0", "a loop device");
    fs::set_permissions(DISK, fs::Permissions::from_mode(0o666)).expect("its mode");
}

fn own_group() -> String {
    fs::read_to_string("/proc/self/cgroup").expect("our groups").trim().to_owned()
}

fn block_on(play: impl AsyncFnOnce(&NativeRuntime)) {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("tokio");
    tokio.block_on(with_runtime(Options::default(), play));
}

fn no_rights() {
    assert!(own_group().contains("/session-"), "{}", own_group());
    assert!(!is_delegated().expect("groups"));
    block_on(async |rt| assert_eq!(rt.cgroup_mode().0, "none"));
}

fn limits_hold() {
    let scope = enter_scope("a trial").expect("a scope");
    let group = own_group();
    assert!(group.contains("/user@1000.service/") && group.ends_with(&scope), "{group} is not {scope}");
    assert!(is_delegated().expect("groups"));
    assert!(enter_leaf().expect("a leaf").is_some());
    block_on(async |rt| limits(rt).await);
}

/// Memory, processes, processor time and a disk's operations and bytes, each reached.
async fn limits(rt: &NativeRuntime) {
    assert_eq!(rt.cgroup_mode(), ("v2".into(), None));
    let limits = Limits { memory: Some(24 << 20), ..Limits::default() };
    let hog = sh("dd if=/dev/zero of=/dev/null bs=64M count=1 2>/dev/null; echo $?");
    let (exit, out, evidence) = life(rt, spec("hog", limits), hog).await;
    assert_eq!((exit.status, out.trim()), (ExitStatus::Code(0), "137"));
    assert_eq!(evidence.oom, Oom::Own { kills: 1 });
    let limits = Limits { pids: Some(4), ..Limits::default() };
    let many = sh("for i in 1 2 3 4 5 6 7 8; do sleep 100 >/dev/null & done");
    let (_, _, evidence) = life(rt, spec("many", limits), many).await;
    assert!(evidence.stats.pids_refused.is_some_and(|count| count > 0), "{:?}", evidence.stats);
    // Until it was held up for the third time.
    let limits = Limits { cpu_quota: Some(CpuQuota { quota_us: 2_000, period_us: 50_000 }), ..Limits::default() };
    let container = wait::soon("create", rt.create(spec("slow", limits), sh("while :; do :; done"))).await;
    let container = container.unwrap_or_else(|errors| panic!("create: {errors:#?}"));
    let started = wait::soon("start", container.start()).await.expect("started");
    while container.stats().cpu_throttled_periods < Some(3) {
        assert!(container.stats().cpu_throttled_periods.is_some(), "{:?}", container.stats());
        tokio::task::yield_now().await;
    }
    container.kill().expect("killed");
    wait::soon("its end", started.exit).await.expect("an exit");
    wait::soon("delete", container.delete()).await.expect("deleted");
    writes_are_held_up(rt, Path::new(DISK), &|id, script| (spec(id, Limits::default()), sh(script))).await;
}

fn handed_over() {
    let hand = HandOver { uid: USER, gid: USER, dry_run: false };
    hand.give(|step| eprintln!("{step:?}")).expect("given");
    let mut again_it_is = 0;
    hand.give(|step| again_it_is += u32::from(!step.already && step.refused.is_none())).expect("given again");
    assert_eq!(again_it_is, 0, "all of it was so already");
    let mut user = again("handed").uid(USER).gid(USER).stdin(Stdio::piped()).spawn().expect("a user");
    hand.enter(user.id(), |step| eprintln!("{step:?}")).expect("entered");
    drop(user.stdin.take());
    let status = wait::child(&mut user, 3 * wait::PATIENCE).expect("waited").expect("it ends");
    assert!(status.success(), "{status}");
    hand.take_back(|step| eprintln!("{step:?}")).expect("taken back");
    assert!(!Path::new("/sys/fs/cgroup/orangery-user-1000").exists());
}

/// As the user, from when our input has ended.
fn handed() {
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).expect("the end of our input");
    assert!(own_group().ends_with("/orangery-user-1000/orangery-session"), "{}", own_group());
    block_on(async |rt| limits(rt).await);
}

#[expect(clippy::disallowed_methods, reason = "a suite")]
fn in_a_scope(suite: &str) {
    enter_scope("a suite").expect("a scope");
    enter_leaf().expect("a leaf");
    let (_, args) = SUITES.iter().find(|(name, _)| *name == suite).expect("a suite");
    let mut command = Command::new(format!("/suites/{suite}"));
    let error = command.args(*args).env(GUEST, "1").env_remove(SESSION).exec();
    panic!("exec: {error}");
}
