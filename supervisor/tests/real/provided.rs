//! Networks and root file systems that the service provides, seen through the library's handles.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use orangery::events::{Kind, Since};
use orangery::runtime::network::Loopback;
use orangery::runtime::rootfs::{Directory, Layering, RootKind};
use orangery::runtime::{BoxFuture, Error as RuntimeError};
use orangery::{Access, Cause, ErrorKind, NetworkLink, NetworkProperties, NetworkProvider, Pasta, Sandbox, Stdin};
use orangery_tests::net::Net;
use orangery_tests::{Scene, Trial, stock, trial, wait};

use crate::events::until;
use crate::stage::{builder, play};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial!(a_provided_network_is_inspected_changed_and_detached, Containers),
        trial!(a_network_that_is_lost_is_an_event, Containers, Pasta),
        trial!(a_provided_root_is_used_and_counted, Containers, Busybox),
        trial!(a_root_that_is_lost_ends_its_container, Containers, Busybox, Fuse),
    ]
}

/// Counts what it holds.
#[derive(Clone, Debug, Default)]
struct Counting(Arc<AtomicU32>);

impl NetworkProvider for Counting {
    fn attach(&self, _: Arc<NetworkLink>) -> BoxFuture<Result<(), RuntimeError>> {
        self.0.fetch_add(1, Ordering::AcqRel);
        Box::pin(std::future::ready(Ok(())))
    }

    fn change(&self, _: Arc<NetworkLink>, to: NetworkProperties) -> BoxFuture<Result<(), RuntimeError>> {
        let good = to.contains_key("rate");
        let answer = if good { Ok(()) } else { Err(RuntimeError::invalid("network", "no rate")) };
        Box::pin(std::future::ready(answer))
    }

    fn describe(&self, link: &NetworkLink) -> NetworkProperties {
        NetworkProperties::from([("for".to_owned(), link.container().to_owned())])
    }

    fn detach(&self, _: Arc<NetworkLink>) -> BoxFuture<()> {
        self.0.fetch_sub(1, Ordering::AcqRel);
        Box::pin(std::future::ready(()))
    }
}

fn a_provided_network_is_inspected_changed_and_detached(scene: &Scene) {
    let counting = Counting::default();
    play(scene, async |supervisor| {
        let sandbox =
            Sandbox::builder().id("wired").network_provider(Arc::new(counting.clone())).build().expect("good");
        let container = supervisor.command("sleep").arg("1000").sandbox(&sandbox).spawn().await.expect("spawned");
        assert_eq!(counting.0.load(Ordering::Acquire), 1);
        assert_eq!(container.inspect().network, Some(NetworkProperties::from([("for".into(), "wired".into())])));
        container.change_network(NetworkProperties::from([("rate".into(), "1".into())])).await.expect("changed");
        let error = container.change_network(NetworkProperties::new()).await.expect_err("refused");
        assert_eq!((error.kind(), error.field()), (ErrorKind::Invalid, Some("network")));
        assert_eq!(container.rootfs_usage().await.expect("told"), None);
        container.kill().expect("killed");
        wait::soon("its report", container.wait()).await.expect("a report");
        assert_eq!(counting.0.load(Ordering::Acquire), 0);
        // The client of a spawn hangs up.
        for polls in 0..12 {
            let id = format!("gone{polls}");
            let mut spawn = Box::pin(supervisor.command("true").sandbox(&sandbox.with_id(id)).spawn());
            for _ in 0..polls {
                tokio::select! {
                    biased;
                    _ = &mut spawn => break,
                    () = tokio::task::yield_now() => {}
                }
            }
        }
    });
    assert_eq!(counting.0.load(Ordering::Acquire), 0);
}

fn a_network_that_is_lost_is_an_event(scene: &Scene) {
    let net = Net::set(scene);
    if scene.root() {
        net.route();
    }
    play(scene, async |supervisor| {
        let mut events = supervisor.events(Since::Now);
        let sandbox = Sandbox::builder().id("wired").pasta(Pasta::new()).build().expect("good");
        let container = supervisor.command("sleep").arg("1000").sandbox(&sandbox).spawn().await.expect("spawned");
        assert_eq!(container.inspect().network.expect("a network")["state"], "up");
        let all = stock::descendants(std::process::id());
        // It calls itself passt.avx2 where it can.
        let pasta = all.into_iter().find(|process| process.name.starts_with("pas")).expect("pasta runs");
        wait::kill(wait::pidfd(pasta.pid));
        let told = until(&mut events, "network_lost").await;
        let told = told.last().expect("it is told");
        assert_eq!(told.container.as_deref(), Some("wired"));
        let Kind::NetworkLost { why } = &told.kind else { panic!("{told:?}") };
        assert!(why.contains("signal 9"), "{why}");
        assert_eq!(container.inspect().network.expect("a network")["state"], "down");
        container.kill().expect("killed");
        wait::soon("its report", container.wait()).await.expect("a report");
    });
}

fn a_root_that_is_lost_ends_its_container(scene: &Scene) {
    let image = scene.image("image");
    scene.block_on(async {
        let supervisor = builder(scene).layering([Layering::FuseOverlayfs]).build().expect("a supervisor");
        let mut events = supervisor.events(Since::Now);
        let sandbox = Sandbox::builder().id("served").rootfs_dir(&image, Access::Overlay).build().expect("good");
        // One does nothing, one ends by itself as soon as it feels it: that is no end of its own.
        for line in ["sleep 1000", "while true </etc/marker; do :; done; exit 5"] {
            let line = ["sh", "-c", line];
            let container =
                supervisor.command("/bin/busybox").args(line).sandbox(&sandbox).spawn().await.expect("spawned");
            let way = container.inspect().rootfs.expect("it is told");
            assert_eq!(way.kind, RootKind::FuseOverlayfs);
            let all = stock::descendants(std::process::id());
            let server = all.into_iter().find(|process| process.name == "fuse-overlayfs").expect("it runs");
            // Not KILL, which its guard sends it too when the container has ended first.
            let server = wait::pidfd(server.pid);
            rustix::process::pidfd_send_signal(&server, rustix::process::Signal::TERM).expect("sent");
            let told = until(&mut events, "root_lost").await;
            assert_eq!(told.last().expect("it is told").container.as_deref(), Some("served"));
            let report = wait::soon("its report", container.wait()).await.expect("a report");
            let Cause::RootLost { why } = &report.cause else { panic!("{:?}", report.cause) };
            assert!(why.contains("its helper"), "{why}");
            assert_eq!(report.rootfs, Some(way));
        }
        // Whoever ends otherwise: that is no loss.
        let ends = supervisor.command("/bin/busybox").args(["sh", "-c", "exit 5"]).sandbox(&sandbox);
        assert_eq!(wait::soon("its end", ends.run()).await.expect("run").report.cause, Cause::Own);
        let sleeps = supervisor.command("/bin/busybox").args(["sleep", "1000"]).sandbox(&sandbox);
        let container = sleeps.spawn().await.expect("spawned");
        container.kill().expect("killed");
        let report = wait::soon("its report", container.wait()).await.expect("a report");
        assert_eq!(report.cause, Cause::Stop { escalated: true });
        wait::soon("shutdown", supervisor.shutdown()).await;
    });
}

fn a_provided_root_is_used_and_counted(scene: &Scene) {
    let image = scene.image("image");
    play(scene, async |supervisor| {
        let root = Arc::new(Directory::new(&image, Access::Overlay));
        let sandbox = Sandbox::builder().rootfs_provider(root.clone()).network_provider(Arc::new(Loopback));
        let refused = sandbox.clone().keep_files(true).build().expect_err("released at the end");
        assert_eq!(refused.field(), Some("keep_files"));
        let sandbox = sandbox.build().expect("good");
        let container = supervisor.command("cat").sandbox(&sandbox).stdin(Stdin::Piped).spawn().await.expect("spawned");
        let usage = container.rootfs_usage().await.expect("counted").expect("a provider");
        assert!(usage.inodes > 20, "{usage:?}");
        container.delete().await.expect("deleted");
        let layers = [scene.dir().join("image")];
        let sandbox = Sandbox::builder().rootfs_layers(layers, Access::ReadOnly).build().expect("good");
        let output = supervisor.command("cat").arg("/etc/marker").sandbox(&sandbox).run().await.expect("run");
        assert_eq!(output.stdout.to_vec(), b"the image");
    });
}
