//! A supervisor whose end releases its containers: they live on, nobody sweeps them, and what was to be reverted is.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "test code: a panic is a failed trial")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, ExitCode, Stdio};

use orangery_runtime::cgroup::Limits;
use orangery_runtime::native::{End, NativeRuntime, Options};
use orangery_runtime::{Act, Deadline, Pause, Runtime as _};
use orangery_tests::host::probe;
use orangery_tests::victim::reap_adopted;
use orangery_tests::wait::{self, Lines};
use orangery_tests::{Host, Scene, trial};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

fn main() -> ExitCode {
    orangery_tests::main(&[
        trial!(containers_outlive_a_shutdown),
        trial!(containers_outlive_a_sudden_end),
        trial!(a_pause_does_not_outlive_its_holder, Freezer),
        trial!(a_temporary_limit_does_not_outlive_its_holder, Pids),
    ])
}

const ROLE: &str = "ORANGERY_TEST_RELEASES";

fn options(scene: &Scene) -> Options {
    let mut options = scene.options();
    options.end = End::Release;
    options
}

/// The supervisor that goes: one container with a main process that stays, then its way to go.
fn be_supervisor(scene: &Scene) -> bool {
    let Ok(how) = std::env::var(ROLE) else { return false };
    scene.block_on(async {
        let (rt, driver) = NativeRuntime::start(options(scene)).expect("a runtime");
        let driver = tokio::spawn(driver.run());
        let host = Host::new(rt, scene);
        let mut spec = host.spec("released");
        spec.limits.pids = (how == "starved").then_some(50);
        let container = host.create(spec, probe(&["deaf"])).await.expect("created");
        let mut started = container.start().await.expect("started");
        assert_eq!(Lines::of(started.stdout.take().expect("stdout")).next().await, "ready");
        let mut lease = None;
        if how == "paused" {
            container.pause(Pause::Freeze).await.expect("paused");
            let when = Deadline { at_ns: u64::MAX, at_end: true };
            lease = Some(container.lease(when, Act::Thaw).await.expect("a lease"));
        }
        let mut leases = Vec::new();
        if how == "starved" {
            let starved = Limits { pids: Some(5), ..Limits::default() };
            for act in container.put_back(&starved).expect("files") {
                let when = Deadline { at_ns: u64::MAX, at_end: true };
                leases.push(container.lease(when, act).await.expect("a lease"));
            }
            container.update(starved).expect("starved");
        }
        println!("{} {} {}", host.rt.keeper_pid(), container.init_pid(), started.pid);
        if how == "shutdown" {
            host.rt.shutdown().await;
            drop(container);
            driver.await.expect("no panic");
            return;
        }
        std::future::pending::<()>().await;
        drop((lease, leases, container));
    });
    true
}

/// The process limits of the containers in this scene.
fn pids_max(scene: &Scene) -> Vec<String> {
    let files = scene.cgroups().into_iter().map(|cgroup| fs::read_to_string(cgroup.join("pids.max")));
    files.flatten().map(|limit| limit.trim().to_owned()).filter(|limit| limit != "max").collect()
}

fn reap(pidfd: &OwnedFd) {
    waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).expect("it is our child now");
}

#[expect(clippy::disallowed_methods, reason = "a supervisor that goes")]
fn released(scene: &Scene, how: &str) {
    let mut process = Command::new(std::env::current_exe().expect("us"));
    let process = scene.share(&mut process).env(ROLE, how).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut supervisor = process.spawn().expect("a supervisor");
    let mut line = String::new();
    BufReader::new(supervisor.stdout.take().expect("stdout")).read_line(&mut line).expect("a line");
    let pids: Vec<u32> = line.split_whitespace().map(|pid| pid.parse().expect("a pid")).collect();
    let (keeper, init, main) = (wait::try_pidfd(pids[0]), wait::pidfd(pids[1]), wait::pidfd(pids[2]));
    if how == "starved" {
        assert_eq!(pids_max(scene), ["5"]);
    }
    if how == "shutdown" {
        let status = wait::child(&mut supervisor, wait::PATIENCE).expect("waited").expect("in time");
        assert!(status.success(), "{status:?}");
    } else {
        supervisor.kill().expect("killed");
        supervisor.wait().expect("reaped");
    }
    if let Some(keeper) = keeper {
        wait::gone(&keeper, "the keeper");
        let _ = waitid(WaitId::PidFd(keeper.as_fd()), WaitIdOptions::EXITED);
    }
    // The next supervisor sweeps what dead ones have left; this is not left.
    scene.play(async |host| {
        host.once(host.spec("other"), probe(&["true"])).await;
    });
    for (pid, pidfd) in [(pids[1], &init), (pids[2], &main)] {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
        assert!(status.contains(&format!("PPid:\t{}\n", std::process::id())), "ours now: {status}");
        assert!(!wait::readable(pidfd, std::time::Duration::ZERO), "{pid} has ended");
    }
    // A frozen process would not die of it in cgroup v1, and a v2 one is killed frozen: so the state is asked, too.
    for cgroup in scene.cgroups() {
        for (file, thawed) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
            if let Ok(state) = fs::read_to_string(cgroup.join(file)) {
                assert_eq!(state.trim(), thawed, "{}", cgroup.display());
            }
        }
    }
    if how == "starved" {
        assert_eq!(pids_max(scene), ["50"], "put back by the keeper, which is gone");
    }
    pidfd_send_signal(&init, Signal::KILL).expect("killed");
    // The further process of a pid namespace goes with its init, and is to be reaped first.
    wait::gone(&main, "the main process");
    reap(&main);
    wait::gone(&init, "the init");
    reap(&init);
    // A child of its keeper's own that had ended and was not reaped when that went is ours as well.
    reap_adopted();
    remove_cgroups(scene);
}

/// What whoever takes a released container over would do: the deepest first.
fn remove_cgroups(scene: &Scene) {
    for cgroup in scene.cgroups().iter().rev() {
        let until = std::time::Instant::now() + wait::PATIENCE;
        while let Err(error) = fs::remove_dir(cgroup) {
            assert!(std::time::Instant::now() < until, "{}: {error}", cgroup.display());
            std::thread::yield_now();
        }
    }
}

fn containers_outlive_a_shutdown(scene: &Scene) {
    if !be_supervisor(scene) {
        released(scene, "shutdown");
    }
}

fn containers_outlive_a_sudden_end(scene: &Scene) {
    if !be_supervisor(scene) {
        released(scene, "killed");
    }
}

fn a_temporary_limit_does_not_outlive_its_holder(scene: &Scene) {
    if !be_supervisor(scene) {
        released(scene, "starved");
    }
}

fn a_pause_does_not_outlive_its_holder(scene: &Scene) {
    if !be_supervisor(scene) {
        released(scene, "paused");
    }
}
