//! Sudden ends: of the supervisor, of the keeper, of both. Nothing of a container may be left.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "test code: a panic is a failed trial")]

use std::process::ExitCode;

use orangery_runtime::hand::Errand;
use orangery_runtime::native::NativeRuntime;
use orangery_runtime::{ErrorKind, ExitStatus, Pause};
use orangery_tests::cold::Cold;
use orangery_tests::host::probe;
use orangery_tests::stock::descendants;
use orangery_tests::victim::{self, Victim, keeper, reap_adopted};
use orangery_tests::wait::{self, Lines};
use orangery_tests::{Host, Scene, trial};

fn main() -> ExitCode {
    orangery_tests::main(&[
        trial!(the_supervisor_is_killed_with_containers_running),
        trial!(the_supervisor_is_killed_while_it_creates),
        trial!(the_supervisor_is_killed_with_paused_containers, Freezer),
        trial!(the_supervisor_is_killed_and_a_fork_of_it_holds_its_sockets, Root),
        trial!(the_supervisor_drops_everything_without_a_shutdown),
        trial!(the_keeper_is_killed),
        trial!(dropped_after_the_keepers_death),
        trial!(a_hand_goes_with_the_keeper, ManyIds),
        trial!(the_keeper_is_killed_beside_a_newborn_that_does_not_run, Freezer),
        trial!(the_keeper_is_killed_while_containers_are_made),
        trial!(both_are_killed_and_the_next_start_sweeps),
        trial!(both_are_killed_while_paused_and_the_next_start_sweeps, Freezer),
        trial!(a_living_supervisor_is_not_swept),
        trial!(a_stub_init_is_killed),
        trial!(foreign_entries_in_the_state_directory_are_left_alone),
    ])
}

/// What pid 1 does on a machine: reap whatever falls to us, until nothing of ours is left. Without it an init's pidfd
/// stays silent as long as a dead process of its namespace is unreaped (`kernel.md`, rule 5).
fn reap_in_background() -> std::thread::JoinHandle<()> {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    std::thread::spawn(|| while waitid(WaitId::All, WaitIdOptions::EXITED).is_ok() {})
}

/// The victim's process: make containers for ever, or make some and wait to be killed.
fn be_victim(scene: &Scene) -> bool {
    let Some(does) = victim::role() else { return false };
    scene.block_on(async {
        let (rt, driver) = NativeRuntime::start(scene.options()).expect("a runtime");
        let _driver = tokio::spawn(driver.run());
        let host = Host::new(rt, scene);
        let mut kept = Vec::new();
        let count = if does == "creates" { 20_000 } else { 5 };
        if does == "creates" {
            println!("ready");
        }
        for n in 0..count {
            let mut spec = host.spec(&format!("c{n}"));
            spec.without_init = n % 2 == 1;
            let container = host.create(spec, probe(&["deaf"])).await.expect("created");
            let mut started = container.start().await.expect("started");
            let mut lines = Lines::of(started.stdout.take().expect("stdout"));
            assert_eq!(lines.next().await, "ready");
            if does == "pauses" {
                container.pause(Pause::Freeze).await.expect("paused");
            }
            if does == "creates" && n % 8 == 7 {
                kept.clear();
            }
            kept.push((container, started, lines));
        }
        println!("ready");
        if does == "drops" {
            // The supervisor is looked at before it goes.
            let _ = std::io::stdin().read_line(&mut String::new());
            return;
        }
        std::future::pending::<()>().await;
    });
    true
}

fn the_supervisor_is_killed_and_a_fork_of_it_holds_its_sockets(scene: &Scene) {
    if be_victim(scene) {
        return;
    }
    let mut victim = Victim::start(scene, "waits");
    assert_eq!(victim.line(), "ready");
    let family = victim.family();
    let held = victim.sockets();
    assert!(!held.is_empty());
    victim.kill();
    for (process, pidfd) in &family {
        wait::gone(pidfd, &process.to_string());
    }
    reap_adopted();
    let stock = scene.stock();
    assert!(stock.cgroups.is_empty() && stock.files.is_empty(), "{stock:?}");
    drop(held);
    let _ = std::fs::remove_dir(scene.state_dir());
}

/// Kill the supervisor when it is ready; the keeper must clean up alone, to the last file.
fn killed(scene: &Scene, does: &str) {
    if be_victim(scene) {
        return;
    }
    for _ in 0..3 {
        let mut victim = Victim::start(scene, does);
        assert_eq!(victim.line(), "ready");
        if does == "creates" {
            // Somewhere in the middle of things: when a few directories are there.
            while victim.family().len() < 8 {
                std::thread::yield_now();
            }
        }
        let family = victim.family();
        victim.kill();
        for (process, pidfd) in &family {
            wait::gone(pidfd, &process.to_string());
        }
        // The keeper is the last to go, and it was the victim's child: ours now.
        reap_adopted();
        assert_eq!(descendants(std::process::id()), []);
        let stock = scene.stock();
        assert!(stock.cgroups.is_empty(), "{:?}", stock.cgroups);
        assert!(stock.files.is_empty(), "{:?}", stock.files);
    }
    let _ = std::fs::remove_dir(scene.state_dir());
}

fn the_supervisor_is_killed_with_containers_running(scene: &Scene) {
    killed(scene, "waits");
}

fn the_supervisor_is_killed_while_it_creates(scene: &Scene) {
    killed(scene, "creates");
}

fn the_supervisor_is_killed_with_paused_containers(scene: &Scene) {
    killed(scene, "pauses");
}

/// `main` returns with containers running and nobody has said goodbye.
fn the_supervisor_drops_everything_without_a_shutdown(scene: &Scene) {
    if be_victim(scene) {
        return;
    }
    let (input, go) = std::io::pipe().expect("a pipe");
    let mut victim = Victim::with_input(scene, "drops", input.into());
    assert_eq!(victim.line(), "ready");
    let family = victim.family();
    let (_, keeper) = keeper(&family);
    drop(go);
    victim.end();
    wait::gone(keeper, "the keeper");
    reap_adopted();
    let stock = scene.stock();
    assert!(stock.cgroups.is_empty() && stock.files.is_empty(), "{stock:?}");
}

/// The exits are still told, by whatever the kernel keeps; new work is refused by kind; the shutdown leaves nothing.
fn the_keeper_is_killed(scene: &Scene) {
    let mut reaper = None;
    scene.play(async |host| {
        let container = host.create(host.spec("orphan"), probe(&["deaf"])).await.expect("created");
        let mut started = container.start().await.expect("started");
        let mut lines = Lines::of(started.stdout.take().expect("stdout"));
        assert_eq!(lines.next().await, "ready");
        let keeper = wait::pidfd(host.rt.keeper_pid());
        wait::kill(&keeper);
        wait::gone(&keeper, "the keeper");
        reaper = Some(reap_in_background());
        // The channel closes: the end is not known from the keeper any more.
        assert!(wait::soon("the channel's end", started.exit).await.is_err(), "a dead keeper told an exit");
        let error = container.exec(probe(&["true"])).await.expect_err("no keeper");
        assert_eq!(error.kind(), ErrorKind::Keeper, "{error:?}");
        assert!(error.retryable());
        let errors = host.refused(host.spec("late"), probe(&["true"])).await;
        assert_eq!(errors.0[0].kind(), ErrorKind::Keeper, "{errors:?}");
        assert!(!wait::readable(&*started.pidfd, std::time::Duration::ZERO), "it lives on");
        container.kill().expect("killed");
        wait::gone(&*started.pidfd, "the process");
        wait::soon("finish", container.finish()).await;
        wait::soon("delete", container.delete()).await.expect("deleted");
        if let Ok(Some(status)) = orangery_runtime::sys::pidfd_exit_status(&*started.pidfd) {
            assert_eq!(status & 0x7f, 9, "{status:#x}");
        }
    });
    reaper.expect("a reaper").join().expect("no panic");
}

/// What nobody deletes is given back by the janitor, with or without a keeper.
fn dropped_after_the_keepers_death(scene: &Scene) {
    let mut reaper = None;
    scene.play(async |host| {
        let container = host.create(host.spec("dropped"), probe(&["deaf"])).await.expect("created");
        let init = wait::pidfd(container.init_pid().cast_unsigned());
        let keeper = wait::pidfd(host.rt.keeper_pid());
        wait::kill(&keeper);
        wait::gone(&keeper, "the keeper");
        reaper = Some(reap_in_background());
        drop(container);
        wait::gone(&init, "the container");
    });
    // The shutdown is answered when everything that was ordered before is done.
    assert!(scene.cgroups().is_empty(), "{:?}", scene.cgroups());
    reaper.expect("a reaper").join().expect("no panic");
}

/// Although somebody still has its socket.
fn a_hand_goes_with_the_keeper(scene: &Scene) {
    let mut reaper = None;
    scene.play(async |host| {
        let container = host.create(host.spec("touched"), probe(&["deaf"])).await.expect("created");
        let mut hand = container.hand((1, 1)).await.expect("a hand");
        let here = Errand::Reopen { flags: rustix::fs::OFlags::PATH };
        // It has answered, so that it is on its own feet.
        hand.carry_out(&here, std::fs::File::open("/").expect("opened")).expect("an answer").expect("opened");
        let all = descendants(std::process::id());
        let found = all.iter().find(|process| process.name == "orangery-hand").expect("a hand");
        let (seen, keeper) = (wait::pidfd(found.pid), wait::pidfd(host.rt.keeper_pid()));
        wait::kill(&keeper);
        reaper = Some(reap_in_background());
        wait::gone(&keeper, "the keeper");
        wait::gone(&seen, "a hand without its keeper");
        drop(hand);
        container.kill().expect("killed");
        wait::soon("delete", container.delete()).await.expect("deleted");
    });
    reaper.expect("a reaper").join().expect("no panic");
}

/// A newborn that has not run yet holds all that the keeper held, its end of the socket too: its death is known by itself.
fn the_keeper_is_killed_beside_a_newborn_that_does_not_run(scene: &Scene) {
    let mut reaper = None;
    scene.play(async |host| {
        let container = host.create(host.spec("cold"), probe(&["deaf"])).await.expect("created");
        let Some(cold) = Cold::of(scene, "cold") else { return container.delete().await.expect("deleted") };
        cold.freeze(true);
        let exec = tokio::spawn(container.exec(probe(&["true"])));
        cold.holds(2).await;
        // The keeper answers in turn: it has left the newborn alone.
        host.once(host.spec("behind"), probe(&["true"])).await;
        let keeper = wait::pidfd(host.rt.keeper_pid());
        wait::kill(&keeper);
        wait::gone(&keeper, "the keeper");
        reaper = Some(reap_in_background());
        let error = wait::soon("a refusal", container.exec(probe(&["true"]))).await.expect_err("no keeper");
        assert_eq!(error.kind(), ErrorKind::Keeper, "{error:?}");
        container.kill().expect("killed");
        // Killed before it could say anything: as good as started, and nobody is left to tell its end.
        let newborn = wait::soon("the newborn", exec).await.expect("no panic").expect("started");
        assert!(wait::soon("the channel's end", newborn.exit).await.is_err());
        wait::soon("delete", container.delete()).await.expect("deleted");
    });
    if let Some(reaper) = reaper {
        reaper.join().expect("no panic");
    }
}

fn the_keeper_is_killed_while_containers_are_made(scene: &Scene) {
    for round in 0..5 {
        let mut reaper = None;
        scene.play(async |host| {
            let keeper = wait::pidfd(host.rt.keeper_pid());
            reaper = Some(reap_in_background());
            let mut lives: Vec<_> =
                (0..8).map(|n| Box::pin(host.create(host.spec(&format!("c{n}")), probe(&["deaf"])))).collect();
            let mut done = 0;
            let mut kept = Vec::new();
            std::future::poll_fn(|cx| {
                lives.retain_mut(|life| match life.as_mut().poll(cx) {
                    std::task::Poll::Ready(made) => {
                        done += 1;
                        if done == round {
                            wait::kill(&keeper);
                        }
                        match made {
                            Ok(container) => kept.push(container),
                            Err(errors) => assert!(
                                matches!(errors.0[0].kind(), ErrorKind::Keeper | ErrorKind::Creation),
                                "{errors:?}"
                            ),
                        }
                        false
                    }
                    std::task::Poll::Pending => true,
                });
                if round == 0 {
                    wait::kill(&keeper);
                }
                if lives.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
            })
            .await;
            for container in kept {
                wait::soon("delete", container.delete()).await.expect("deleted");
            }
        });
        for process in descendants(std::process::id()) {
            if let Some(pidfd) = wait::try_pidfd(process.pid) {
                wait::gone(&pidfd, &format!("round {round}: {process}"));
            }
        }
        reaper.expect("a reaper").join().expect("no panic");
        assert!(scene.cgroups().is_empty(), "round {round}: {:?}", scene.cgroups());
    }
}

/// Keeper and supervisor at once: pid namespaces keep running, and the next start of anybody removes them.
fn swept(scene: &Scene, does: &str) {
    if be_victim(scene) {
        return;
    }
    let mut victim = Victim::start(scene, does);
    assert_eq!(victim.line(), "ready");
    let family = victim.family();
    // Stopped first, so that neither sees the other go.
    let (_, pidfd) = keeper(&family);
    rustix::process::pidfd_send_signal(pidfd, rustix::process::Signal::STOP).expect("stopped");
    victim.kill();
    wait::kill(pidfd);
    wait::gone(pidfd, "the keeper");
    reap_adopted();
    let alive = family.iter().filter(|(_, pidfd)| !wait::readable(pidfd, std::time::Duration::ZERO)).count();
    assert!(alive >= 5, "{alive} of {} live on", family.len());
    assert!(!scene.stock().files.is_empty());
    let reaper = reap_in_background();
    scene.play(async |host| {
        let names: Vec<_> =
            std::fs::read_dir(scene.state_dir()).expect("instances").flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(names.len(), 1, "the dead one's directory is gone: {names:?}");
        for (process, pidfd) in &family {
            wait::gone(pidfd, &process.to_string());
        }
        host.once(host.spec("after"), probe(&["true"])).await;
    });
    reaper.join().expect("no panic");
}

fn both_are_killed_and_the_next_start_sweeps(scene: &Scene) {
    if scene.cgroup_parents().is_empty() && victim::role().is_none() {
        // Without cgroups nothing says which processes were a dead supervisor's: the files are swept, and that is all.
        return files_are_swept(scene);
    }
    swept(scene, "waits");
}

fn files_are_swept(scene: &Scene) {
    let mut victim = Victim::start(scene, "waits");
    assert_eq!(victim.line(), "ready");
    let family = victim.family();
    let (_, pidfd) = keeper(&family);
    rustix::process::pidfd_send_signal(pidfd, rustix::process::Signal::STOP).expect("stopped");
    victim.kill();
    wait::kill(pidfd);
    wait::gone(pidfd, "the keeper");
    scene.play(async |host| {
        host.once(host.spec("after"), probe(&["true"])).await;
        assert_eq!(std::fs::read_dir(scene.state_dir()).expect("instances").count(), 1);
    });
    let reaper = reap_in_background();
    for (process, pidfd) in &family {
        wait::kill(pidfd);
        wait::gone(pidfd, &process.to_string());
    }
    reaper.join().expect("no panic");
}

fn both_are_killed_while_paused_and_the_next_start_sweeps(scene: &Scene) {
    swept(scene, "pauses");
}

fn a_living_supervisor_is_not_swept(scene: &Scene) {
    if be_victim(scene) {
        return;
    }
    let mut victim = Victim::start(scene, "waits");
    assert_eq!(victim.line(), "ready");
    let family = victim.family();
    scene.play(async |host| {
        host.once(host.spec("neighbour"), probe(&["true"])).await;
        for (process, pidfd) in &family {
            assert!(!wait::readable(pidfd, std::time::Duration::ZERO), "{process} was swept");
        }
    });
    victim.kill();
    for (process, pidfd) in &family {
        wait::gone(pidfd, &process.to_string());
    }
    reap_adopted();
}

fn a_stub_init_is_killed(scene: &Scene) {
    scene.play(async |host| {
        let container = host.create(host.spec("headless"), probe(&["deaf"])).await.expect("created");
        let started = container.start().await.expect("started");
        wait::kill(wait::pidfd(container.init_pid().cast_unsigned()));
        let exit = wait::soon("its end", started.exit).await.expect("an exit");
        assert_eq!(exit.status, ExitStatus::Signal { signal: 9, core_dumped: false });
        assert!(container.exec(probe(&["true"])).await.is_err());
        wait::soon("finish", container.finish()).await;
        container.delete().await.expect("deleted");
    });
}

/// A sweep touches only what carries an instance's name and its record.
fn foreign_entries_in_the_state_directory_are_left_alone(scene: &Scene) {
    use std::fs;
    let state = scene.state_dir();
    fs::create_dir(&state).expect("the state directory");
    fs::set_permissions(&state, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("its mode");
    let precious = scene.dir().join("precious");
    fs::create_dir_all(precious.join("deep")).expect("a directory");
    fs::create_dir(state.join("not-an-instance")).expect("a directory");
    fs::write(state.join("a-file"), "x").expect("a file");
    // A record that points elsewhere must not make the sweep remove it.
    let hostile = state.join("i0123456789abcdef");
    fs::create_dir(&hostile).expect("an instance");
    fs::write(hostile.join("record"), format!("{}\n/sys/fs/cgroup\n/\n../../x\n", precious.display()))
        .expect("a record");
    std::os::unix::fs::symlink(&precious, state.join("i00000000000000ff")).expect("a link");
    scene.play(async |host| {
        host.once(host.spec("x"), probe(&["true"])).await;
    });
    assert!(precious.join("deep").exists() && state.join("not-an-instance").exists() && state.join("a-file").exists());
    fs::remove_dir_all(&state).expect("removed");
}
