//! Supervisor and keeper are killed, and a container was not written down: without a cgroup nobody would ever find it.

use orangery_runtime::ProcessSpec;
use orangery_runtime::durable::{Came, Leftovers};
use orangery_runtime::native::{Faults, Options};
use orangery_tests::host::probe;
use orangery_tests::stock::descendants;
use orangery_tests::victim::{self, Victim, reap_adopted};
use orangery_tests::{Scene, wait};

use super::saved::*;

fn without_cgroups(scene: &Scene) -> Options {
    let mut options = options(scene);
    options.no_cgroups = true;
    options
}

/// One of each kind, one that runs and is nobody's but the supervisor's, and one that is written down.
pub(crate) fn what_is_not_written_down_goes_with_both(scene: &Scene) {
    let was = be_victim_with(scene, without_cgroups(scene), async |host, _, _| {
        let [mut command, mut idle] = ["command", "idle"].map(|name| host.spec(name));
        (command.without_init, idle.idle) = (true, true);
        let of = |label| held(scene, label, probe(&["deaf"]));
        let stub = host.create(host.spec("stub"), of("stub")).await.expect("created");
        let command = host.create(command, of("command")).await.expect("created");
        let idle = host.create(idle, held(scene, "idle", ProcessSpec::default())).await.expect("created");
        let runs = host.create(host.spec("runs"), probe(&["deaf"])).await.expect("created");
        let running = wait::soon("start", runs.start()).await.expect("started");
        let kept = create(host, scene, host.spec("kept"), of("kept")).await;
        let all = [stub, command, idle, runs];
        let pids: Vec<_> = all.iter().map(|one| one.init_pid()).chain([running.pid]).collect();
        save(scene, "pids", &pids);
        stays((all, running, kept));
    });
    if was {
        return;
    }
    let (mut victim, keeper) = victim(scene, "play");
    let ending = load::<Vec<i32>>(scene, "pids").expect("written");
    let ending: Vec<_> = ending.into_iter().map(|pid| wait::pidfd(pid.cast_unsigned())).collect();
    // The keeper first, so that it ends nobody; and the supervisor cannot start another one.
    victim.stop();
    wait::kill(&keeper);
    wait::gone(&keeper, "the keeper");
    victim.kill();
    // From the last: what is dead in a pid namespace and not reaped holds up the end of its init.
    for one in ending.iter().rev() {
        wait::gone(one, "a process that nobody knows");
        reap_adopted();
    }
    scene.block_on(async {
        let mut next = Next::start(without_cgroups(scene));
        assert_eq!(next.adopted.came(), Came::KeeperGone);
        let kept = next.container(scene, "kept").await.expect("it was written down");
        let (living, left) = next.finish().await;
        assert_eq!(left, Leftovers::default());
        wait::soon("delete", kept.delete()).await.expect("deleted");
        reap_adopted();
        living.end(scene).await;
    });
}

/// It says that it has come to that point of its creation, and goes no further.
fn held_at_a_point(scene: &Scene) -> Options {
    let mut options = without_cgroups(scene);
    let at = victim::role().unwrap_or_default();
    options.faults = Faults::new(move |_, point| {
        if format!("{point:?}") == at {
            println!("{at}");
            loop {
                std::thread::park();
            }
        }
        false
    });
    options
}

pub(crate) fn both_are_killed_while_one_is_made(scene: &Scene) {
    let was = be_victim_with(scene, held_at_a_point(scene), async |host, _, adopted| {
        wait::soon("finish", adopted.finish()).await;
        let made = host.create(host.spec("killed"), held(scene, "main", probe(&["deaf"]))).await;
        panic!("it was not held: {:?}", made.map(|made| made.init_pid()));
    });
    if was {
        return;
    }
    // How far its init has come when it is born to us is another story each time.
    for point in ["ContainerDescriptors", "ContainerBorn", "ContainerBorn", "ContainerBorn"] {
        let mut victim = Victim::start(scene, point);
        assert_eq!(victim.line(), point);
        let family = victim.family();
        let (_, keeper) = victim::keeper(&family);
        // Another keeper would hold what the supervisor has heard of already.
        victim.stop();
        wait::kill(keeper);
        wait::gone(keeper, "the keeper");
        victim.kill();
        for process in descendants(std::process::id()) {
            if let Some(pidfd) = wait::try_pidfd(process.pid) {
                wait::gone(pidfd, &format!("after {point} {process}"));
            }
        }
        reap_adopted();
    }
    scene.block_on(async {
        let (living, left) = Next::after(scene, Came::KeeperGone).finish().await;
        assert_eq!(left, Leftovers::default());
        living.end(scene).await;
    });
}
