//! The supervisor is killed, and its keeper with it.

use std::fs;
use std::sync::Arc;

use orangery_runtime::durable::{Came, ClaimedProcess};
use orangery_runtime::native::{Options, Orphans, Without};
use orangery_runtime::spec::Stdio;
use orangery_runtime::{Container, ErrorKind, ExitStatus, Started};
use orangery_tests::host::{outcome, probe};
use orangery_tests::victim::reap_adopted;
use orangery_tests::{Scene, wait};

use super::saved::*;

/// One that ends, one that does not, each in a container of its own; then both are killed.
fn both_killed(scene: &Scene, options: Options) -> bool {
    let was = be_victim_with(scene, options, async |host, _, _| {
        let deaf = create(host, scene, host.spec("lives"), held(scene, "deaf", probe(&["deaf"]))).await;
        let lives = start(&*deaf, scene, "deaf").await;
        let mut waits = held(scene, "waits", probe(&["wait"]));
        waits.stdin = Stdio::Piped;
        let ending = create(host, scene, host.spec("ends"), waits).await;
        let ends = start(&*ending, scene, "waits").await;
        stays((deaf, lives, ending, ends));
    });
    if was {
        return false;
    }
    let (mut victim, keeper) = victim(scene, "play");
    let ends = wait::pidfd(pid_of(scene, "waits"));
    let record: serde_json::Value = load(scene, "ends").expect("written");
    let init = wait::pidfd(record["init"]["pid"].as_u64().expect("a pid") as u32);
    // The keeper first, so that it does not go on alone; and the supervisor cannot start another one.
    victim.stop();
    wait::kill(&keeper);
    wait::gone(&keeper, "the keeper");
    victim.kill();
    // Its input has ended with those who held the other end. Its container ends as well.
    wait::gone(&ends, "a process without an input");
    // A zombie in its pid namespace holds an init up.
    reap_adopted();
    wait::kill(&init);
    wait::gone(&init, "an init");
    reap_adopted();
    true
}

/// What is left of the two.
struct Left {
    living: Living,
    lives: Box<dyn Container>,
    deaf: Started,
    ends: Option<Box<dyn Container>>,
}

async fn what_is_left(scene: &Scene, options: Options, came: Came) -> Left {
    let mut next = Next::start(options);
    assert_eq!(next.adopted.came(), came);
    let lives = next.container(scene, "lives").await.expect("there");
    let deaf = next.found(scene, "lives", "deaf", true).await;
    let ends = next.container(scene, "ends").await;
    // With a cgroup there is something left of it.
    assert_eq!(ends.is_some(), lives.cgroup_mode() != "none");
    if ends.is_some() {
        let ended = next.process(scene, "ends", "waits", true).await;
        assert!(matches!(ended, ClaimedProcess::Lost | ClaimedProcess::Never), "{ended:?}");
    }
    let (living, left) = next.finish().await;
    assert_eq!((left.processes, left.streams), (0, 0));
    Left { living, lives, deaf, ends }
}

fn claim(scene: &Scene, options: &dyn Fn() -> Options) {
    if !both_killed(scene, options()) {
        return;
    }
    scene.block_on(async {
        let Left { living, lives, deaf, ends } = what_is_left(scene, options(), Came::KeeperGone).await;
        drop((lives, deaf, ends));
        living.leave().await;
        // Its keeper has not started them, and stays for them all the same.
        let Left { living, lives, deaf, ends } = what_is_left(scene, options(), Came::KeeperLives).await;
        let host = living.host(scene);
        assert!(deaf.stdout.is_none() && deaf.held.as_ref().is_some_and(|held| held.stdout.is_none()));
        assert!(deaf.exit.await.is_err(), "nobody can tell");
        match wait::soon("exec", lives.exec(probe(&["exit", "8"]))).await {
            Ok(further) => assert_eq!(outcome(further).await.code(), 8),
            // It lives in a user namespace of the keeper that is gone.
            Err(error) => assert!(!scene.root() && error.kind() == ErrorKind::Permission, "{error}"),
        }
        lives.kill().expect("killed");
        let pidfd = Arc::clone(&deaf.pidfd);
        let exit = wait::soon("its end", lives.exit_of(pidfd)).await;
        assert!(
            matches!(exit.status, ExitStatus::Signal { signal: 9, .. } | ExitStatus::Lost),
            "of a child of the trial's, which is a subreaper: {exit:?}"
        );
        deaf.held.expect("held").settle();
        for container in [Some(lives), ends].into_iter().flatten() {
            wait::soon("delete", container.delete()).await.expect("deleted");
        }
        assert_eq!(host.once(host.spec("lives"), probe(&["exit", "6"])).await.code(), 6);
        drop(host);
        living.end(scene).await;
    });
}

pub(crate) fn what_lives_is_claimed_without_a_keeper(scene: &Scene) {
    claim(scene, &|| options(scene));
}

/// By number and start time, as before 6.9, and with nothing else that is newer than that.
pub(crate) fn what_lives_is_claimed_on_an_older_kernel(scene: &Scene) {
    claim(scene, &|| {
        let mut options = options(scene);
        options.without = Without::all();
        options
    });
}

pub(crate) fn what_lives_is_killed_if_that_is_wanted(scene: &Scene) {
    if !both_killed(scene, options(scene)) {
        return;
    }
    let deaf = wait::pidfd(pid_of(scene, "deaf"));
    let record: serde_json::Value = load(scene, "lives").expect("written");
    let init = wait::pidfd(record["init"]["pid"].as_u64().expect("a pid") as u32);
    scene.block_on(async {
        let mut options = options(scene);
        options.orphans = Orphans::Kill;
        let mut next = Next::start(options);
        assert_eq!(next.adopted.came(), Came::KeeperGone);
        assert!(next.container(scene, "lives").await.is_none());
        assert!(next.container(scene, "ends").await.is_none());
        let (living, left) = next.finish().await;
        assert!(left.cgroups.is_empty(), "{left:?}");
        wait::gone(&deaf, "what was to be killed");
        // Only then its init comes to its end.
        reap_adopted();
        wait::gone(&init, "its init");
        reap_adopted();
        living.end(scene).await;
    });
}

/// Its door does not fit into an address.
pub(crate) fn a_long_path_has_a_door(scene: &Scene) {
    let long = scene.state_dir().join("x".repeat(60)).join("y".repeat(60));
    let options = || {
        let mut options = options(scene);
        options.state_dir = Some(long.clone());
        options
    };
    scene.block_on(async {
        for came in [Came::Fresh, Came::KeeperLives] {
            let next = Next::start(options());
            assert_eq!(next.adopted.came(), came);
            let (living, left) = next.finish().await;
            if came == Came::Fresh {
                let host = living.host(scene);
                drop(create(&host, scene, host.spec("stays"), held(scene, "main", probe(&["true"]))).await);
                drop(host);
                living.leave().await;
            } else {
                // Its init, which nobody has claimed.
                assert_eq!((left.processes, left.streams), (1, 0), "{left:?}");
                let keeper = wait::pidfd(living.rt.keeper_pid());
                living.leave().await;
                wait::gone(&keeper, "the keeper");
            }
        }
    });
    reap_adopted();
    assert_eq!(fs::read_dir(&long).expect("the directory").count(), usize::from(long.join("ids").exists()));
    fs::remove_dir_all(scene.state_dir()).expect("removed");
}

/// It has nothing to hold any more, and a supervisor comes while it removes its rest.
pub(crate) fn a_keeper_that_is_ending_is_waited_for(scene: &Scene) {
    for _ in 0..20 {
        scene.block_on(async {
            let (living, left) = Next::start(options(scene)).finish().await;
            assert_eq!((left.processes, left.containers.len()), (0, 0), "{left:?}");
            let host = living.host(scene);
            assert_eq!(host.once(host.spec("short"), probe(&["true"])).await.code(), 0);
            drop(host);
            living.leave().await;
        });
    }
    scene.block_on(async {
        let (living, _) = Next::start(options(scene)).finish().await;
        // As long as it is there, nobody else comes in.
        let other = tokio::task::spawn_blocking({
            let options = options(scene);
            move || orangery_runtime::native::NativeRuntime::durable(options).map(drop)
        });
        let error = other.await.expect("no panic").expect_err("one at a time");
        assert_eq!(error.kind(), ErrorKind::State, "{error}");
        living.end(scene).await;
    });
    let _ = fs::remove_dir_all(scene.state_dir());
}
