//! The supervisor is killed in the middle of what it does: at each point that a creation, a start and a removal pass.

use std::sync::Arc;

use orangery_runtime::durable::{Came, Claim, ClaimedProcess, ContainerRecord, Leftovers};
use orangery_runtime::native::{Faults, Options, Point};
use orangery_runtime::spec::StagedFile;
use orangery_runtime::{ErrorKind, ExitStatus};
use orangery_tests::host::probe;
use orangery_tests::victim::Victim;
use orangery_tests::{Host, Scene, victim, wait};
use rustix::process::{Signal, getpid, kill_process};

use super::saved::*;

/// A runtime that is killed at the point whose name stands in the role, behind the first word.
fn killed(scene: &Scene) -> Options {
    let mut options = options(scene);
    let role = victim::role().unwrap_or_default();
    let at = role.split_once(' ').map(|(_, at)| at.to_owned()).unwrap_or_default();
    options.faults = Faults::new(move |id, point| {
        if id == "killed" && format!("{point:?}") == at {
            let _ = kill_process(getpid(), Signal::KILL);
        }
        false
    });
    options
}

/// Let the victim come to its end.
fn die(scene: &Scene, role: &str) {
    let mut victim = Victim::start(scene, role);
    victim.end();
}

fn spec(host: &Host) -> orangery_runtime::ContainerSpec {
    let mut spec = host.spec("killed");
    spec.files = vec![StagedFile { path: "/in/one".into(), content: Arc::from(&b"x"[..]), mode: 0o600 }];
    spec
}

/// Nothing of a container that was not written down is left; one that was made before it is unharmed.
pub(crate) fn at_each_moment_of_a_creation(scene: &Scene) {
    let was = be_victim_with(scene, killed(scene), async |host, _, mut adopted| {
        if adopted.came() == Came::Fresh {
            let other = create(host, scene, host.spec("other"), held(scene, "other", probe(&["deaf"]))).await;
            stays((start(&*other, scene, "other").await, other));
        } else {
            let claim = Claim::new(load::<ContainerRecord>(scene, "other").expect("written"));
            let other = adopted.container(claim).await.expect("claimed").expect("there");
            let main = adopted.process("other", b"other", None, true).await.expect("claimed");
            assert!(matches!(main, ClaimedProcess::Found(_)), "{main:?}");
            let left = adopted.finish().await;
            // What the one before it was killed with.
            assert!(left.processes <= 1 && left.streams == 0 && left.cgroups.is_empty(), "{left:?}");
            stays((other, main));
        }
        let made = create(host, scene, spec(host), held(scene, "main", probe(&["true"]))).await;
        panic!("it was not killed: {:?}", made.init_pid());
    });
    if was {
        return;
    }
    let mut points = vec!["StagedFile(0)", "Cgroup", "ContainerDescriptors", "ContainerBorn", "IdRange"];
    if scene.root() {
        points.extend(["UserNamespace", "Bind(0)"]);
    }
    for point in points {
        die(scene, &format!("create {point}"));
    }
    scene.block_on(async {
        let mut next = Next::after(scene, Came::KeeperLives);
        let other = next.container(scene, "other").await.expect("there");
        let main = next.found(scene, "other", "other", true).await;
        let (living, left) = next.finish().await;
        assert!(left.processes <= 1 && left.cgroups.is_empty(), "{left:?}");
        wait::soon("delete", other.delete()).await.expect("deleted");
        main.held.expect("held").settle();
        living.end(scene).await;
    });
}

/// Whether the process is there depends on the moment; it is never half there.
pub(crate) fn at_each_moment_of_a_start(scene: &Scene) {
    let was = be_victim_with(scene, killed(scene), async |host, role, _| {
        let main = held(scene, "main", probe(&["exit", "5"]));
        if role.starts_with("exec") {
            let container = create(host, scene, host.spec("killed-not"), held(scene, "first", probe(&["deaf"]))).await;
            stays(start(&*container, scene, "first").await);
            // The point is that of another container's name.
            drop(container);
        }
        let container = create(host, scene, host.spec("killed"), main).await;
        let started = container.start().await;
        panic!("it was not killed: {started:?}");
    });
    if was {
        return;
    }
    for (point, there) in [
        (Point::ProcessDescriptors, false),
        (Point::ProcessStored, false),
        (Point::ProcessBorn, true),
        (Point::ProcessRunning, true),
    ] {
        for step in ["start", "exec"] {
            die(scene, &format!("{step} {point:?}"));
            scene.block_on(async {
                let mut next = Next::after(scene, Came::KeeperLives);
                let container = next.container(scene, "killed").await.expect("there");
                let claimed = next.process(scene, "killed", "main", true).await;
                let other = match step {
                    "exec" => {
                        let other = next.container(scene, "killed-not").await.expect("there");
                        Some((other, next.found(scene, "killed-not", "first", true).await))
                    }
                    _ => None,
                };
                let (living, left) = next.finish().await;
                assert_eq!(left, Leftovers::default(), "{point:?}");
                match claimed {
                    ClaimedProcess::Found(started) if there => {
                        let exit = wait::soon("its end", started.exit).await.expect("told");
                        assert_eq!(exit.status, ExitStatus::Code(5), "{point:?}");
                        started.held.expect("held").settle();
                        let error = container.start().await.expect_err("it was started");
                        assert_eq!(error.kind(), ErrorKind::State);
                    }
                    ClaimedProcess::Never if !there => {}
                    other => panic!("{point:?}: {other:?}"),
                }
                wait::soon("delete", container.delete()).await.expect("deleted");
                if let Some((container, main)) = other {
                    wait::soon("delete", container.delete()).await.expect("deleted");
                    main.held.expect("held").settle();
                }
                living.end(scene).await;
            });
        }
    }
}

/// It does not come to its exec, and nobody is there to hear that: no exit of it is told.
pub(crate) fn a_command_that_is_not_there(scene: &Scene) {
    let was = be_victim_with(scene, killed(scene), async |host, _, _| {
        let mut main = held(scene, "main", probe(&["true"]));
        main.argv = vec!["/no/such/program".into()];
        let container = create(host, scene, host.spec("killed"), main).await;
        let started = container.start().await;
        panic!("it was not killed: {started:?}");
    });
    if was {
        return;
    }
    die(scene, "start ProcessBorn");
    scene.block_on(async {
        let mut next = Next::after(scene, Came::KeeperLives);
        let container = next.container(scene, "killed").await.expect("there");
        match next.process(scene, "killed", "main", true).await {
            ClaimedProcess::Failed(error) => {
                assert_eq!((error.kind(), error.errno()), (ErrorKind::CommandNotFound, Some(libc::ENOENT)), "{error}");
            }
            other => panic!("{other:?}"),
        }
        let (living, left) = next.finish().await;
        assert_eq!(left, Leftovers::default());
        wait::soon("delete", container.delete()).await.expect("deleted");
        living.end(scene).await;
    });
}

/// Killed when the processes are gone and when the cgroup is: the rest is removed by the next.
pub(crate) fn at_a_removal(scene: &Scene) {
    let was = be_victim(scene, async |host, role, _| {
        let container = create(host, scene, host.spec("ended"), held(scene, "main", probe(&["exit", "2"]))).await;
        let started = start(&*container, scene, "main").await;
        wait::soon("its end", started.exit).await.expect("told");
        match role {
            "finished" => drop(container.finish().await),
            "deleted" => container.delete().await.expect("deleted"),
            _ => container.kill().expect("killed"),
        }
        stays((container, started.held));
    });
    if was {
        return;
    }
    for role in ["killed", "finished", "deleted"] {
        let (mut victim, keeper) = victim(scene, role);
        victim.kill();
        scene.block_on(async {
            let mut next = Next::after(scene, Came::KeeperLives);
            let container = next.container(scene, "ended").await;
            // Its end was told and not settled: it is told again, whatever is left of its container.
            let claimed = next.process(scene, "ended", "main", true).await;
            let (living, left) = next.finish().await;
            assert_eq!(left, Leftovers::default(), "{role}");
            match claimed {
                ClaimedProcess::Found(started) => {
                    assert_eq!(wait::soon("its end", started.exit).await.expect("told").status, ExitStatus::Code(2));
                    started.held.expect("held").settle();
                }
                other => panic!("{role}: {other:?}"),
            }
            if let Some(container) = container {
                wait::soon("finish", container.finish()).await;
                wait::soon("delete", container.delete()).await.expect("deleted");
            }
            living.end(scene).await;
        });
        drop(keeper);
    }
}
