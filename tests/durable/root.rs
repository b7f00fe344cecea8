//! Roots that are served or copied go on without a supervisor, are the next one's, and end with their container whoever is
//! there to see it.

use orangery_runtime::ContainerSpec;
use orangery_runtime::durable::{Came, ClaimedProcess, Holds};
use orangery_runtime::rootfs::Layering;
use orangery_runtime::spec::{Access, Rootfs};
use orangery_tests::host::{command, outcome};
use orangery_tests::victim::reap_adopted;
use orangery_tests::{Scene, wait};

use super::network::{called, init_of, one_ends};
use super::saved::*;

const SERVER: &str = "fuse-overlayfs";

/// One that will go on and one that ends meanwhile; the keeper is killed as well, or not.
fn one_goes_on_and_one_ends(scene: &Scene, way: Layering, both: bool) {
    let mut forced = options(scene);
    forced.layering = vec![way];
    let was = be_victim_with(scene, forced, async |host, _, _| {
        for id in ["goes-on", "ends"] {
            let deaf = held(scene, id, command(&["/probe", "deaf"]));
            let mut spec = ContainerSpec::default();
            spec.id = id.into();
            spec.rootfs = Rootfs::Dir { path: scene.dir().join("image"), access: Access::Overlay };
            let container = create(host, scene, spec, deaf).await;
            let started = start(&*container, scene, id).await;
            stays((container, started));
        }
    });
    if was {
        return;
    }
    scene.image("image");
    let (mut victim, keeper) = victim(scene, "play");
    let served = way == Layering::FuseOverlayfs;
    assert_eq!(called(SERVER).len(), if served { 2 } else { 0 });
    if both {
        // The keeper first, so that it does not go on alone; and the supervisor cannot start another one.
        victim.stop();
        wait::kill(&keeper);
        wait::gone(&keeper, "the keeper");
    }
    victim.kill();
    let before: Vec<_> = called(SERVER).into_iter().map(wait::pidfd).collect();
    let main = wait::pidfd(pid_of(scene, "ends"));
    wait::kill(wait::pidfd(init_of(scene, "ends")));
    wait::gone(&main, "the process of a container that was killed");
    // Where we are its parent by now, pid 1 waits for it to be reaped.
    reap_adopted();
    assert!(!served || one_ends(&before), "both go on");
    reap_adopted();
    scene.block_on(async {
        let mut next = Next::after(scene, if both { Came::KeeperGone } else { Came::KeeperLives });
        let container = next.container(scene, "goes-on").await.expect("it is there");
        let ended = next.container(scene, "ends").await;
        let main = next.found(scene, "goes-on", "goes-on", true).await;
        let other = next.process(scene, "ends", "ends", true).await;
        let (living, _) = next.finish().await;
        assert_eq!(container.root_way().expect("it was written down").to_string().split(',').next(), Some(way.name()));
        if !both {
            let script = "echo changed > /etc/marker; busybox cat /etc/marker";
            let further = container.exec(command(&["/bin/sh", "-c", script]));
            let further = wait::soon("exec", further).await.expect("a further process");
            assert_eq!(outcome(further).await.out, "changed\n");
        }
        if served {
            let lost = container.root_lost();
            called(SERVER).into_iter().map(wait::pidfd).for_each(wait::kill);
            let why = wait::soon("the loss", lost).await;
            assert!(why.contains("ended"), "{why}");
        }
        if let ClaimedProcess::Found(started) = other {
            started.held.into_iter().for_each(Holds::settle);
        }
        container.kill().expect("killed");
        wait::gone(&main.pidfd, "its main process");
        reap_adopted();
        for container in [Some(container), ended].into_iter().flatten() {
            wait::soon("delete", container.delete()).await.expect("deleted");
        }
        assert_eq!((called(SERVER), called("orangery-root")), (Vec::new(), Vec::new()));
        main.held.into_iter().for_each(Holds::settle);
        living.end(scene).await;
    });
}

pub(crate) fn a_served_root_goes_on_and_ends_without_a_supervisor(scene: &Scene) {
    one_goes_on_and_one_ends(scene, Layering::FuseOverlayfs, false);
}

pub(crate) fn a_served_root_goes_on_and_ends_without_anybody(scene: &Scene) {
    one_goes_on_and_one_ends(scene, Layering::FuseOverlayfs, true);
}

pub(crate) fn a_copied_root_goes_on_without_a_supervisor(scene: &Scene) {
    one_goes_on_and_one_ends(scene, Layering::Copy, false);
}
