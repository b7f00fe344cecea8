//! A pid namespace that is shared with others: nothing ends with our first process but what the cgroup ends.

use std::fs;

use orangery_runtime::spec::UserNamespace;
use orangery_runtime::{ErrorKind, Pause};
use orangery_tests::host::{outcome, probe, see};
use orangery_tests::victim::{self, Victim};
use orangery_tests::{Scene, stock, wait};

use crate::{KINDS, Living, fields, in_the_right_ones, joining, open};

/// Seen from inside, by the probe in its own /proc/self/ns, and its cgroup is its own all the same.
pub(crate) fn everything_of_another_container(scene: &Scene) {
    scene.play(async |host| {
        let other = Living::new(host, host.spec("other")).await;
        let theirs = outcome(other.container.exec(see(&[])).await.expect("exec")).await.json();
        in_the_right_ones(host, &other, &KINDS).await;
        in_the_right_ones(host, &other, &["pid", "user"]).await;
        for kinds in [&KINDS[..], &["pid", "user"], &["pid", "mnt"], &["net", "ipc", "pid", "user"]] {
            let container =
                host.create(joining(host, "joins", &other, kinds), see(&["/proc/1"])).await.expect("created");
            let ours = outcome(container.start().await.expect("started")).await.json();
            for kind in kinds {
                assert_eq!(ours["ns"][kind], theirs["ns"][kind], "{kinds:?}: {kind}");
            }
            // Owners in the options are told in the reader's ids.
            let same = kinds.contains(&"mnt") && kinds.contains(&"user");
            assert_eq!(ours["mountinfo"] == theirs["mountinfo"], same, "{kinds:?}");
            assert_eq!(ours["hostname"] == theirs["hostname"], kinds.contains(&"uts"), "{kinds:?}");
            assert_eq!(ours["paths"]["/proc/1"]["kind"], "dir", "{kinds:?}");
            assert!(
                ours["pid"].as_u64() > theirs["pid"].as_u64(),
                "the same numbers: {} {}",
                ours["pid"],
                theirs["pid"]
            );
            let group = fs::read_to_string(format!("/proc/{}/cgroup", container.init_pid())).expect("its cgroup");
            assert!(group.contains("/joins") && !group.contains("/other"), "{group}");
            wait::soon("delete", container.delete()).await.expect("deleted");
        }
        let again = outcome(other.container.exec(see(&[])).await.expect("exec")).await.json();
        assert_eq!((&again["mountinfo"], &again["hostname"]), (&theirs["mountinfo"], &theirs["hostname"]));
        other.end().await;
    });
}

pub(crate) fn a_pid_namespace_without_rights_over_it_is_refused(scene: &Scene) {
    scene.play(async |host| {
        let other = Living::new(host, host.spec("other")).await;
        let errors = host.refused(joining(host, "alone", &other, &["pid"]), probe(&["true"])).await;
        assert_eq!((errors.0[0].kind(), errors.0[0].field()), (ErrorKind::Permission, Some("join[0]")), "{errors:?}");
        assert!(errors.0[0].what().contains("/proc"), "{errors:?}");
        let mut spec = joining(host, "queues", &other, &["ipc"]);
        spec.mqueue = true;
        let errors = host.refused(spec, probe(&["true"])).await;
        assert_eq!((errors.0[0].kind(), errors.0[0].field()), (ErrorKind::Permission, Some("mqueue")), "{errors:?}");
        let mut spec = joining(host, "queues", &other, &["ipc", "user"]);
        spec.mqueue = true;
        assert_eq!(host.once(spec, probe(&["true"])).await.code(), 0);
        other.end().await;
    });
}

/// Processes below `parent`, but for the dead.
fn below(parent: i32) -> Vec<u32> {
    let all = stock::descendants(parent.cast_unsigned());
    all.iter().filter(|process| process.state != 'Z').map(|process| process.pid).collect()
}

/// A process that has left its parents falls to pid 1 of the namespace, which is another container's; the end of ours is
/// its end, however that comes, and the end of nobody else.
pub(crate) fn what_runs_in_anothers_pid_namespace_ends_with_its_container(scene: &Scene) {
    scene.play(async |host| {
        let other = Living::new(host, host.spec("other")).await;
        for how in ["deleted", "killed", "dropped"] {
            let spec = joining(host, how, &other, &["pid", "user"]);
            let container = host.create(spec, probe(&["orphan"])).await.expect("created");
            assert_eq!(outcome(container.start().await.expect("started")).await.out, "left\n");
            let left = below(other.container.init_pid());
            assert_eq!(left.len(), 1, "the orphan belongs to the other's pid 1");
            let (orphan, init) = (wait::pidfd(left[0]), wait::pidfd(container.init_pid().cast_unsigned()));
            match how {
                "deleted" => wait::soon("delete", container.delete()).await.expect("deleted"),
                "killed" => container.kill().expect("killed"),
                _ => drop(container),
            }
            wait::gone(&orphan, "the orphan");
            wait::gone(&init, "the first process");
            assert!(!wait::readable(&*other.main.pidfd, std::time::Duration::ZERO), "the other goes on");
        }
        other.end().await;
    });
}

/// Orphans of a container in our own pid namespace fall to the keeper, and may end long after their container's processes.
pub(crate) fn what_is_left_in_our_own_pid_namespace_is_reaped(scene: &Scene) {
    scene.play(async |host| {
        let keeper = host.rt.keeper_pid();
        let zombies = || -> Vec<u32> {
            let all = stock::descendants(keeper);
            all.iter().filter(|process| process.state == 'Z').map(|process| process.pid).collect()
        };
        let mut spec = host.spec("ours");
        spec.user_namespace = UserNamespace::Host;
        spec.join = vec![open(std::process::id().cast_signed(), "pid")];
        let container = host.create(spec, probe(&["orphan"])).await.expect("created");
        assert_eq!(outcome(container.start().await.expect("started")).await.out, "left\n");
        let init = container.init_pid().cast_unsigned();
        let orphan = stock::descendants(keeper).into_iter().find(|process| process.state != 'Z' && process.pid != init);
        let orphan = wait::pidfd(orphan.expect("the orphan is the keeper's").pid);
        wait::soon("delete", container.delete()).await.expect("deleted");
        wait::gone(&orphan, "the orphan");
        let dead = zombies();
        // Round trips through the keeper, behind the end of the orphan.
        host.see(&[], |_, _| {}).await;
        assert!(!zombies().iter().any(|pid| dead.contains(pid)), "{dead:?} {:?}", zombies());
    });
}

/// Nobody is left of it when the supervisor is killed, not even who has left it for a pid namespace that goes on: ours.
pub(crate) fn it_ends_with_its_supervisor(scene: &Scene) {
    if victim::role().is_some() {
        return scene.play(async |host| {
            let mut spec = host.spec("ours");
            spec.user_namespace = UserNamespace::Host;
            spec.join = vec![open(std::process::id().cast_signed(), "pid")];
            let container = host.create(spec, probe(&["orphan"])).await.expect("created");
            assert_eq!(outcome(container.start().await.expect("started")).await.out, "left\n");
            println!("ready");
            std::future::pending::<()>().await;
        });
    }
    let mut victim = Victim::start(scene, "waits");
    assert_eq!(victim.line(), "ready");
    let mut family = victim.family();
    family.retain(|(process, _)| process.state != 'Z');
    let names: Vec<&str> = family.iter().map(|(process, _)| process.name.as_str()).collect();
    assert!(names.contains(&"probe") && names.contains(&"orangery-init"), "{names:?}");
    victim.kill();
    for (process, pidfd) in &family {
        wait::gone(pidfd, &process.name);
    }
    victim::reap_adopted();
    let stock = scene.stock();
    assert!(stock.cgroups.is_empty() && stock.files.is_empty(), "{stock:?}");
}

pub(crate) fn a_stop_would_stop_others(scene: &Scene) {
    scene.play(async |host| {
        let other = Living::new(host, host.spec("other")).await;
        let living = Living::new(host, joining(host, "stops", &other, &["pid", "user"])).await;
        let error = living.container.pause(Pause::Stop).await.expect_err("the other would be stopped");
        assert_eq!((error.kind(), error.field()), (ErrorKind::Unsupported, Some("pause")), "{error:?}");
        living.container.pause(Pause::Freeze).await.expect("frozen");
        assert_eq!(outcome(other.beside_and_closed().await).await.code(), 0, "the other is not held");
        living.container.resume().await.expect("goes on");
        living.end().await;
        let frozen = Living::new(host, joining(host, "frozen", &other, &["pid", "user"])).await;
        frozen.container.pause(Pause::Freeze).await.expect("frozen");
        wait::soon("delete", frozen.container.delete()).await.expect("deleted");
        other.end().await;
    });
}

pub(crate) fn without_a_cgroup_no_pid_namespace(scene: &Scene) {
    let mut options = scene.options();
    options.no_cgroups = true;
    scene.play_with(options, async |host| {
        let other = Living::new(host, host.spec("other")).await;
        let errors = host.refused(joining(host, "pid", &other, &["user", "pid"]), probe(&["true"])).await;
        assert_eq!((errors.0[0].kind(), errors.0[0].field()), (ErrorKind::Unsupported, Some("join[1]")), "{errors:?}");
        assert!(errors.0[0].what().contains("cgroup.kill"), "{errors:?}");
        other.end().await;
    });
}

pub(crate) fn a_dead_pid_namespace(scene: &Scene) {
    scene.play(async |host| {
        let other = Living::new(host, host.spec("other")).await;
        let mut spec = host.spec("late");
        spec.user_namespace = UserNamespace::Host;
        spec.join = other.namespaces(&["pid"]);
        other.end().await;
        let errors = host.refused(spec, probe(&["true"])).await;
        assert_eq!(fields(&errors), [(ErrorKind::State, "join[0]")], "{errors:?}");
        assert!(errors.0[0].what().contains("pid 1 is gone"), "{errors:?}");
    });
}
