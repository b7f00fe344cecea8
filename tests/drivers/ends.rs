//! Limits, kills, and what is left of a container: nothing.

use orangery_runtime::cgroup::{Limits, Oom};
use orangery_runtime::drivers::DrivenRuntime;
use orangery_runtime::spec::Stdio;
use orangery_runtime::{ErrorKind, ExitStatus, Pause, Runtime as _};
use orangery_tests::Scene;
use orangery_tests::host::{command, outcome, probe};
use orangery_tests::wait::{self, Lines};

use std::os::fd::AsFd as _;

use rustix::process::{WaitId, WaitIdOptions, waitid};

use crate::program::{Which, play};

const KILLED: ExitStatus = ExitStatus::Signal { signal: 9, core_dumped: false };
const MIB: u64 = 1 << 20;

pub(crate) fn a_kill_takes_all(scene: &Scene, which: Which) {
    play(scene, which, async |host| {
        for without_init in [false, true] {
            let mut spec = host.spec("kill");
            spec.without_init = without_init;
            let container = host.create(spec, command(&["/bin/sleep", "1000"])).await;
            let started = container.start().await.expect("started");
            let mut beside = container.exec(probe(&["deaf"])).await.expect("it runs");
            let mut lines = Lines::of(beside.stdout.take().expect("an output"));
            assert_eq!(wait::soon("ready", lines.next()).await, "ready");
            container.kill().expect("killed");
            assert_eq!(outcome(started).await.exit.status, KILLED);
            assert_eq!(outcome(beside).await.exit.status, KILLED);
            container.finish().await;
            let error = container.exec(probe(&["true"])).await.expect_err("it has ended");
            assert_eq!(error.kind(), ErrorKind::State, "{error:?}");
            container.delete().await.expect("deleted");
            container.delete().await.expect("deleted again");
        }
    });
}

pub(crate) fn pause_and_resume(scene: &Scene, which: Which) {
    play(scene, which, async |host| {
        let container = host.create(host.spec("paused"), command(&["/bin/sleep", "1000"])).await;
        let started = container.start().await.expect("started");
        let mut cat = probe(&["cat"]);
        cat.stdin = Stdio::Piped;
        let mut cat = container.exec(cat).await.expect("it runs");
        let (input, output) = (cat.stdin.take().expect("an input"), cat.stdout.take().expect("an output"));
        container.pause(Pause::Freeze).await.expect("paused");
        assert_eq!(container.paused(), Some(Pause::Freeze));
        let error = container.exec(probe(&["true"])).await.expect_err("paused");
        assert_eq!(error.kind(), ErrorKind::State, "{error:?}");
        rustix::io::write(&input, b"x").expect("written");
        let limit = std::time::Duration::from_millis(200);
        assert!(!wait::readable(&output, limit), "a further process is held as well");
        container.resume().await.expect("resumed");
        assert!(wait::readable(&output, std::time::Duration::from_secs(20)), "it goes on");
        container.pause(Pause::Freeze).await.expect("paused again");
        container.kill().expect("killed while it is paused");
        assert_eq!(outcome(started).await.exit.status, KILLED);
        container.delete().await.expect("deleted");
    });
}

pub(crate) fn memory_ends_in_an_oom_kill(scene: &Scene, which: Which) {
    play(scene, which, async |host| {
        for without_init in [false, true] {
            let mut spec = host.spec("oom");
            spec.without_init = without_init;
            spec.limits.memory = Some(48 * MIB);
            let (outcome, evidence) = host.life(spec, probe(&["alloc", "128"])).await;
            assert_eq!(outcome.exit.status, KILLED, "{outcome:?}");
            assert!(matches!(evidence.oom, Oom::Own { kills } if kills >= 1), "{evidence:?}");
        }
        let mut spec = host.spec("oom");
        spec.limits.memory = Some(48 * MIB);
        let container = host.create(spec, command(&["/bin/sleep", "1000"])).await;
        let started = container.start().await.expect("started");
        let process = container.exec(probe(&["alloc", "128"])).await.expect("it runs");
        assert_eq!(outcome(process).await.exit.status, KILLED);
        let (kills, oom) = wait::soon("the kill", container.oom(0)).await.expect("counted");
        assert!(kills >= 1 && matches!(oom, Oom::Own { .. }), "{oom:?}");
        container.kill().expect("killed");
        outcome(started).await;
        container.delete().await.expect("deleted");
    });
}

pub(crate) fn the_number_of_processes(scene: &Scene, which: Which) {
    play(scene, which, async |host| {
        let mut spec = host.spec("pids");
        spec.limits.pids = Some(24);
        let (outcome, evidence) = host.life(spec, probe(&["forks", "64"])).await;
        assert_eq!(outcome.code(), 0, "{outcome:?}");
        assert!(evidence.stats.pids_refused >= Some(1), "{evidence:?}");
    });
}

pub(crate) fn counters(scene: &Scene, which: Which) {
    play(scene, which, async |host| {
        let mut spec = host.spec("counters");
        spec.limits.memory = Some(64 * MIB);
        let container = host.create(spec, command(&["/bin/sleep", "1000"])).await;
        let started = container.start().await.expect("started");
        let stats = container.stats();
        assert!(stats.source.is_some() && stats.memory_current > Some(0), "{stats:?}");
        container.update(Limits { memory: Some(80 * MIB), ..Limits::default() }).expect("changed");
        let limit = format!("{:?}", container.stats().memory_limit);
        assert!(limit.contains(&(80 * MIB).to_string()), "{limit}");
        container.kill().expect("killed");
        outcome(started).await;
        container.delete().await.expect("deleted");
    });
}

/// Given up at many moments; what is left is what the scene's stock tells.
pub(crate) fn dropped_creations_leave_nothing(scene: &Scene, which: Which) {
    play(scene, which, async |host| {
        for (number, ms) in [0, 1, 3, 10, 20, 40, 60, 80].into_iter().enumerate() {
            let creation = host.rt.create(host.spec(&format!("dropped-{number}")), command(&["/bin/sleep", "1000"]));
            let _ = tokio::time::timeout(std::time::Duration::from_millis(ms), creation).await;
        }
        // One that is dropped when it is there.
        drop(host.create(host.spec("made"), command(&["/bin/sleep", "1000"])).await);
        let container = host.create(host.spec("started"), command(&["/bin/sleep", "1000"])).await;
        let started = container.start().await.expect("started");
        drop(container);
        assert_eq!(outcome(started).await.exit.status, KILLED);
    });
}

pub(crate) fn a_dropped_process_is_killed(scene: &Scene, which: Which) {
    play(scene, which, async |host| {
        let container = host.create(host.spec("execs"), command(&["/bin/sleep", "1000"])).await;
        let started = container.start().await.expect("started");
        for ms in [0, 5, 20, 50] {
            let begun = container.exec(command(&["/bin/sleep", "2000"]));
            let _ = tokio::time::timeout(std::time::Duration::from_millis(ms), begun).await.map(drop);
        }
        container.kill().expect("killed");
        outcome(started).await;
        container.delete().await.expect("deleted");
    });
}

/// As when this process is gone: the keeper removes everything, the bundle and what the program has written down too.
pub(crate) fn without_a_shutdown_nothing_is_left(scene: &Scene, which: Which) {
    let image = scene.image("image");
    let keeper = scene.block_on(async {
        let (rt, driver) = DrivenRuntime::start(which.program(), scene.options()).expect("a runtime");
        let driver = tokio::spawn(driver.run());
        let host = crate::program::Host { rt, image };
        let container = host.create(host.spec("left"), command(&["/bin/sleep", "1000"])).await;
        let started = container.start().await.expect("started");
        let keeper = wait::pidfd(host.rt.native().keeper_pid());
        host.rt.native().keeper().close();
        driver.abort();
        drop((container, started));
        keeper
    });
    wait::gone(&keeper, "the keeper");
    // Whoever was to reap it was aborted.
    let _ = waitid(WaitId::PidFd(keeper.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    let state = scene.state_dir();
    let left: Vec<_> = std::fs::read_dir(state).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    assert!(left.iter().all(|path| path.is_file()), "{left:?}");
}
