//! Containers and processes that belong to the next supervisor, with all that can be done to them.

use std::os::fd::AsFd;

use orangery_runtime::durable::{Came, Claim, ClaimedProcess, ContainerRecord, Leftovers};
use orangery_runtime::spec::{Limits, Stdio};
use orangery_runtime::{ErrorKind, ExitStatus, Pause, ProcessSpec, Runtime as _};
use orangery_tests::host::{outcome, probe};
use orangery_tests::noise::{period, stands_at};
use orangery_tests::{Scene, wait};
use rustix::pipe::{SpliceFlags, splice};

use super::saved::*;

const MIB: u64 = 1 << 20;

/// A flood, one that waits for its input, and one that is exec'd in the container of the second.
pub(crate) fn a_container_is_owned_again(scene: &Scene) {
    let total = (3 * MIB).to_string();
    let was = be_victim(scene, async |host, _, adopted| {
        assert_eq!(adopted.came(), Came::Fresh);
        let flood = held(scene, "flood", probe(&["noise", &total]));
        let flooded = create(host, scene, host.spec("flooded"), flood).await;
        let _flood = start(&*flooded, scene, "flood").await;
        let mut waits = held(scene, "waits", probe(&["wait"]));
        waits.stdin = Stdio::Piped;
        let waiting = create(host, scene, host.spec("waiting"), waits.clone()).await;
        let _waits = start(&*waiting, scene, "waits").await;
        waits.hold = Some(hold(scene, "beside"));
        let beside = wait::soon("exec", waiting.exec(waits)).await.expect("exec'd");
        save_process(scene, "beside", &beside);
        stays((flooded, waiting, _flood, _waits, beside));
    });
    if was {
        return;
    }
    let (mut victim, _keeper) = victim(scene, "play");
    victim.kill();
    scene.block_on(async {
        let mut next = Next::after(scene, Came::KeeperLives);
        let flooded = next.container(scene, "flooded").await.expect("it is there");
        let waiting = next.container(scene, "waiting").await.expect("it is there");
        let flood = next.found(scene, "flooded", "flood", true).await;
        let waits = next.found(scene, "waiting", "waits", true).await;
        let beside = next.found(scene, "waiting", "beside", false).await;
        let (living, left) = next.finish().await;
        assert_eq!(left, Leftovers::default());
        // Its end, and every byte.
        let bytes = written(scene, "flood", flood.stdout);
        let exit = wait::soon("the flood's end", flood.exit).await.expect("told");
        assert_eq!(exit.status, ExitStatus::Code(0));
        assert!(exit.rusage.is_some_and(|rusage| rusage.max_rss_kib > 0), "{exit:?}");
        assert!(bytes.len() as u64 == 3 * MIB && stands_at(&period(), 0, &bytes), "{} bytes", bytes.len());
        flood.held.expect("held").settle();
        // What can be done to a container.
        let host = living.host(scene);
        assert_eq!(
            outcome(wait::soon("exec", waiting.exec(probe(&["exit", "5"]))).await.expect("exec'd")).await.code(),
            5
        );
        assert!(waiting.root().is_ok() && waiting.init_pid() > 0);
        let error = waiting.start().await.expect_err("it was started");
        assert_eq!(error.kind(), ErrorKind::State);
        let errors = host.refused(host.spec("waiting"), probe(&["true"])).await;
        assert_eq!(errors.0[0].kind(), ErrorKind::Exists);
        // Both inputs are still open, and end when both ends of ours are gone.
        assert!(!wait::readable(&waits.pidfd, std::time::Duration::ZERO), "it has lost its input");
        // What it said before anybody was gone, or afterwards.
        let said = waits.stdout.as_ref().expect("stdout").try_clone().expect("a copy");
        for started in [waits, beside] {
            let mut held = started.held.expect("held");
            held.stdin.take().expect("its input is held").discard();
            drop(started.stdin);
            let exit = wait::soon("its end", started.exit).await.expect("told");
            assert_eq!(exit.status, ExitStatus::Code(0));
            held.settle();
        }
        assert_eq!(written(scene, "waits", Some(said)), b"ready\n");
        for container in [flooded, waiting] {
            let evidence = wait::soon("finish", container.finish()).await;
            assert_eq!(evidence.cgroup_mode, container.cgroup_mode());
            wait::soon("delete", container.delete()).await.expect("deleted");
            wait::soon("delete", container.delete()).await.expect("twice is no error");
        }
        // And new ones can be made.
        assert_eq!(host.once(host.spec("waiting"), probe(&["exit", "6"])).await.code(), 6);
        drop(host);
        living.end(scene).await;
    });
}

pub(crate) fn limits_and_counters_are_its_own(scene: &Scene) {
    let was = be_victim(scene, async |host, _, _| {
        let mut spec = host.spec("limited");
        spec.limits = Limits { memory: Some(64 << 20), ..Limits::default() };
        let mut waits = held(scene, "waits", probe(&["wait"]));
        waits.stdin = Stdio::Piped;
        let container = create(host, scene, spec, waits).await;
        let main = start(&*container, scene, "waits").await;
        let mut own = held(scene, "own", probe(&["alloc", "100"]));
        own.limits = Limits { memory: Some(16 << 20), ..Limits::default() };
        let own = wait::soon("exec", container.exec(own)).await.expect("exec'd");
        save_process(scene, "own", &own);
        stays((container, main, own));
    });
    if was {
        return;
    }
    let (mut victim, _keeper) = victim(scene, "play");
    victim.kill();
    scene.block_on(async {
        let mut next = Next::after(scene, Came::KeeperLives);
        let container = next.container(scene, "limited").await.expect("there");
        let main = next.found(scene, "limited", "waits", true).await;
        let own = next.found(scene, "limited", "own", false).await;
        let (living, _) = next.finish().await;
        let exit = wait::soon("its end", own.exit).await.expect("told");
        assert_eq!(exit.status, ExitStatus::Signal { signal: 9, core_dumped: false });
        let evidence = own.group.as_ref().expect("its group is known").evidence();
        assert!(matches!(evidence.oom, orangery_runtime::cgroup::Oom::Own { .. }), "{evidence:?}");
        drop(own.group);
        own.held.expect("held").settle();
        container.update(Limits { memory: Some(80 << 20), ..Limits::default() }).expect("changed");
        assert_eq!(container.stats().memory_limit, Some(orangery_runtime::cgroup::Ceiling::At(80 << 20)));
        // A further one with limits has a group of another name.
        let mut again = probe(&["exit", "3"]);
        again.limits = Limits { memory: Some(16 << 20), ..Limits::default() };
        assert_eq!(outcome(container.exec(again).await.expect("exec'd")).await.code(), 3);
        container.kill().expect("killed");
        let evidence = wait::soon("finish", container.finish()).await;
        assert!(evidence.stats.memory_peak.is_some(), "{evidence:?}");
        main.held.expect("held").settle();
        wait::soon("delete", container.delete()).await.expect("deleted");
        living.end(scene).await;
    });
}

pub(crate) fn a_pause_is_known(scene: &Scene) {
    let was = be_victim(scene, async |host, how, _| {
        let container = create(host, scene, host.spec("held"), held(scene, "deaf", probe(&["deaf"]))).await;
        let main = start(&*container, scene, "deaf").await;
        let how = if how == "freeze" { Pause::Freeze } else { Pause::Stop };
        wait::soon("pause", container.pause(how)).await.expect("paused");
        save(scene, "held", &container.record().expect("a record"));
        stays((container, main));
    });
    if was {
        return;
    }
    for how in ["freeze", "stop"] {
        let (mut victim, _keeper) = victim(scene, how);
        victim.kill();
        scene.block_on(async {
            let mut next = Next::after(scene, Came::KeeperLives);
            let container = next.container(scene, "held").await.expect("there");
            let main = next.found(scene, "held", "deaf", true).await;
            let (living, _) = next.finish().await;
            let error = container.exec(probe(&["true"])).await.expect_err("it is held");
            assert_eq!(error.kind(), ErrorKind::State, "{how}");
            wait::soon("resume", container.resume()).await.expect("resumed");
            assert_eq!(outcome(container.exec(probe(&["exit", "4"])).await.expect("it runs")).await.code(), 4);
            wait::soon("delete", container.delete()).await.expect("deleted");
            main.held.expect("held").settle();
            living.end(scene).await;
        });
    }
}

/// While nobody is there, and afterwards, nobody else gets the ids of a container that lives.
pub(crate) fn ranges_of_ids_stay_taken(scene: &Scene) {
    let was = be_victim(scene, async |host, _, _| {
        for name in ["one", "two"] {
            let container = create(host, scene, host.spec(name), held(scene, name, probe(&["deaf"]))).await;
            let main = start(&*container, scene, name).await;
            stays((container, main));
        }
    });
    if was {
        return;
    }
    let base = |pid: i32| -> u32 {
        let map = std::fs::read_to_string(format!("/proc/{pid}/uid_map")).expect("a map");
        map.split_ascii_whitespace().nth(1).expect("a number").parse().expect("a number")
    };
    let (mut victim, _keeper) = victim(scene, "play");
    victim.kill();
    let file = orangery_runtime::native::state::ids_file(&scene.state_dir());
    let stranger = orangery_runtime::ids::Ranges::open(&file).expect("the file");
    let free = |taken: &[u32]| {
        let some: Vec<_> = (0..8).map(|_| stranger.take().expect("a range")).collect();
        let bases: Vec<u32> = some.iter().map(|range| range.base().0).collect();
        taken.iter().all(|base| !bases.contains(base))
    };
    scene.block_on(async {
        let mut taken = Vec::new();
        for name in ["one", "two"] {
            let record: serde_json::Value = load(scene, name).expect("written");
            taken.push(record["range"]["base"][0].as_u64().expect("a base") as u32);
        }
        assert!(free(&taken), "somebody else has got them");
        let mut next = Next::after(scene, Came::KeeperLives);
        let one = next.container(scene, "one").await.expect("there");
        let main = next.found(scene, "one", "one", true).await;
        assert_eq!(base(one.init_pid()), taken[0]);
        let (living, left) = next.finish().await;
        assert_eq!((left.processes, left.streams), (2, 2), "init and main process, its outputs: {left:?}");
        assert!(free(&taken[..1]) && !left.containers.is_empty());
        let other = orangery_runtime::ids::Ranges::open(&file).expect("the file");
        let mut all: Vec<_> = (0..9).map(|_| other.take().expect("a range").base().0).collect();
        all.dedup();
        assert!(!all.contains(&taken[0]));
        wait::soon("delete", one.delete()).await.expect("deleted");
        main.held.expect("held").settle();
        living.end(scene).await;
    });
}

/// It is pid 1 itself, behind the start gate, which the keeper holds.
pub(crate) fn a_command_that_waits_is_started_by_the_next(scene: &Scene) {
    let was = be_victim(scene, async |host, _, _| {
        let mut spec = host.spec("gated");
        spec.without_init = true;
        let container = create(host, scene, spec, held(scene, "main", probe(&["both", "out", "err"]))).await;
        stays(container);
    });
    if was {
        return;
    }
    let (mut one, _keeper) = victim(scene, "play");
    one.kill();
    scene.block_on(async {
        let mut next = Next::after(scene, Came::KeeperLives);
        let container = next.container(scene, "gated").await.expect("there");
        let (living, left) = next.finish().await;
        assert_eq!(left, Leftovers::default());
        let started = wait::soon("start", container.start()).await.expect("started");
        let held = started.held.as_ref().expect("held");
        assert!(held.stdout.is_some() && held.stderr.is_some() && held.stdin.is_none());
        let exit = wait::soon("its end", started.exit).await.expect("told");
        assert_eq!(exit.status, ExitStatus::Code(0));
        assert_eq!(written(scene, "main", started.stdout), b"out\n");
        started.held.expect("held").settle();
        wait::soon("delete", container.delete()).await.expect("deleted");
        living.end(scene).await;
    });
    // One that is deleted before it was started holds nothing either.
    let (mut two, _keeper) = victim(scene, "play");
    two.kill();
    scene.block_on(async {
        let mut next = Next::after(scene, Came::KeeperLives);
        let container = next.container(scene, "gated").await.expect("there");
        let (living, _) = next.finish().await;
        wait::soon("delete", container.delete()).await.expect("deleted");
        living.end(scene).await;
    });
}

pub(crate) fn a_container_that_was_never_started_is_started(scene: &Scene) {
    let was = be_victim(scene, async |host, _, _| {
        let container = create(host, scene, host.spec("created"), held(scene, "main", probe(&["true"]))).await;
        let mut idle = host.spec("idle");
        idle.idle = true;
        let idle = create(host, scene, idle, held(scene, "stub", ProcessSpec::default())).await;
        stays((container, idle));
    });
    if was {
        return;
    }
    let (mut victim, _keeper) = victim(scene, "play");
    victim.kill();
    scene.block_on(async {
        let mut next = Next::after(scene, Came::KeeperLives);
        let mut claim = Claim::new(load::<ContainerRecord>(scene, "created").expect("written"));
        claim.main = Some(held(scene, "main", probe(&["exit", "7"])));
        let container = next.adopted.container(claim).await.expect("claimed").expect("there");
        assert!(matches!(next.process(scene, "created", "main", true).await, ClaimedProcess::Never));
        let idle = next.container(scene, "idle").await.expect("there");
        let (living, left) = next.finish().await;
        assert_eq!(left, Leftovers::default());
        let started = wait::soon("start", container.start()).await.expect("started");
        assert_eq!(wait::soon("its end", started.exit).await.expect("told").status, ExitStatus::Code(7));
        started.held.expect("held").settle();
        let stub = wait::soon("start", idle.start()).await.expect("started");
        idle.kill().expect("killed");
        let exit = wait::soon("its end", stub.exit).await.expect("told");
        assert_eq!(exit.status, ExitStatus::Signal { signal: 9, core_dumped: false });
        stub.held.expect("held").settle();
        for container in [container, idle] {
            wait::soon("delete", container.delete()).await.expect("deleted");
        }
        living.end(scene).await;
    });
}

/// A live upgrade: the next one stands at the door before the first one leaves.
pub(crate) fn one_leaves_and_the_next_comes(scene: &Scene) {
    scene.block_on(async {
        let first = Next::after(scene, Came::Fresh);
        let (first, _) = first.finish().await;
        let host = first.host(scene);
        let container = create(&host, scene, host.spec("stays"), held(scene, "deaf", probe(&["deaf"]))).await;
        let main = start(&*container, scene, "deaf").await;
        let options = options(scene);
        let coming = tokio::task::spawn_blocking(move || orangery_runtime::native::NativeRuntime::durable(options));
        drop((container, host));
        first.leave().await;
        let (rt, driver, adopted) = wait::soon("the next", coming).await.expect("no panic").expect("started");
        drop(main);
        let driver = tokio::spawn(driver.run());
        let mut adopted = adopted;
        assert_eq!(adopted.came(), Came::KeeperLives);
        let record: ContainerRecord = load(scene, "stays").expect("written");
        let again = Claim::new(record.clone());
        let container = adopted.container(Claim::new(record)).await.expect("claimed").expect("there");
        let error = adopted.container(again).await.map(drop).expect_err("claimed before");
        assert_eq!(error.kind(), ErrorKind::Exists);
        // Its main process is nobody's, and so it is ended.
        let left = wait::soon("finish", adopted.finish()).await;
        assert_eq!((left.processes, left.streams), (1, 2), "{left:?}");
        wait::soon("delete", container.delete()).await.expect("deleted");
        let keeper = wait::pidfd(rt.keeper_pid());
        wait::soon("shutdown", rt.shutdown()).await;
        drop((rt, container));
        wait::soon("the driver's end", driver).await.expect("no panic");
        wait::gone(&keeper, "the keeper");
    });
    orangery_tests::victim::reap_adopted();
    std::fs::remove_dir_all(scene.state_dir()).expect("removed");
}

/// Killed between the change to a new file and the first byte in it.
pub(crate) fn a_log_goes_on_in_another_file(scene: &Scene) {
    let was = be_victim(scene, async |host, _, _| {
        let flood = held(scene, "flood", probe(&["noise", &(4 * MIB).to_string()]));
        let container = create(host, scene, host.spec("flooded"), flood).await;
        let main = start(&*container, scene, "flood").await;
        let pipe = main.stdout.as_ref().expect("stdout");
        let file = log_file(&log(scene, "flood"));
        let mut taken = 0;
        while taken < MIB {
            taken += splice(pipe, None, &*file.file, None, 1 << 16, SpliceFlags::empty()).expect("spliced") as u64;
        }
        let next = log_file(&log(scene, "next"));
        let held = main.held.as_ref().expect("held").stdout.as_ref().expect("held");
        wait::soon("rotate", held.rotate(pipe.as_fd(), &next)).await.expect("rotated");
        stays((container, main));
    });
    if was {
        return;
    }
    let (mut victim, _keeper) = victim(scene, "play");
    victim.kill();
    scene.block_on(async {
        let mut next = Next::after(scene, Came::KeeperLives);
        let container = next.container(scene, "flooded").await.expect("there");
        let mut main = next.found(scene, "flooded", "flood", true).await;
        let (living, _) = next.finish().await;
        let mut bytes = written(scene, "flood", None);
        assert!(bytes.len() as u64 >= MIB);
        bytes.extend(written(scene, "next", main.stdout.take()));
        wait::soon("its end", main.exit).await.expect("told");
        assert!(bytes.len() as u64 == 4 * MIB && stands_at(&period(), 0, &bytes), "{} bytes", bytes.len());
        main.held.expect("held").settle();
        wait::soon("delete", container.delete()).await.expect("deleted");
        living.end(scene).await;
    });
}

/// Records of another version, another boot and another process.
pub(crate) fn a_wrong_record_is_refused(scene: &Scene) {
    let was = be_victim(scene, async |host, _, _| {
        let container = create(host, scene, host.spec("right"), held(scene, "main", probe(&["deaf"]))).await;
        let main = start(&*container, scene, "main").await;
        stays((container, main));
    });
    if was {
        return;
    }
    let (mut victim, _keeper) = victim(scene, "play");
    victim.kill();
    scene.block_on(async {
        let mut next = Next::after(scene, Came::KeeperLives);
        let changed = |change: fn(&mut serde_json::Value)| -> ContainerRecord {
            let mut value = load::<serde_json::Value>(scene, "right").expect("written");
            change(&mut value);
            serde_json::from_value(value).expect("a record")
        };
        let newer = changed(|value| value["version"] = 1000.into());
        let error = next.adopted.container(Claim::new(newer)).await.map(drop).expect_err("another version");
        assert_eq!((error.kind(), error.field()), (ErrorKind::Unsupported, Some("version")));
        let booted = changed(|value| value["init"]["boot"] = "another".into());
        assert!(next.adopted.container(Claim::new(booted)).await.expect("no error").is_none());
        if load::<serde_json::Value>(scene, "right").expect("written")["init"].get("inode").is_some() {
            let other = changed(|value| value["init"]["inode"] = 1.into());
            let error = next.adopted.container(Claim::new(other)).await.map(drop).expect_err("another process");
            assert_eq!(error.kind(), ErrorKind::State);
        }
        let wired = changed(|value| value["network"] = serde_json::json!({"state": null}));
        let error = next.adopted.container(Claim::new(wired)).await.map(drop).expect_err("no provider");
        assert_eq!((error.kind(), error.field()), (ErrorKind::Invalid, Some("network_provider")));
        // None of them has harmed the right one.
        let container = next.container(scene, "right").await.expect("there");
        let main = next.found(scene, "right", "main", true).await;
        let (living, left) = next.finish().await;
        assert_eq!(left, Leftovers::default());
        wait::soon("delete", container.delete()).await.expect("deleted");
        main.held.expect("held").settle();
        living.end(scene).await;
    });
}
