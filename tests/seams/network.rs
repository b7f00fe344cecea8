//! A network provider that writes down what it is asked.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use orangery_runtime::native::{Faults, Point};
use orangery_runtime::network::{Loopback, NetworkLink, NetworkProperties, NetworkProvider};
use orangery_runtime::spec::Network;
use orangery_runtime::{BoxFuture, ContainerSpec, Error, ErrorKind};
use orangery_tests::host::{command, outcome, probe, see};
use orangery_tests::{Host, Scene, wait};

use crate::Log;

/// How `attach` goes; otherwise well.
const FAILS: u8 = 1;
const PANICS: u8 = 2;
const HANGS: u8 = 3;

#[derive(Clone, Debug, Default)]
struct Scribe {
    log: Log,
    attach: Arc<AtomicU8>,
}

/// Says when it is dropped before its end.
struct Underway(Log, bool);

impl Drop for Underway {
    fn drop(&mut self) {
        if !self.1 {
            self.0.say("attach was dropped");
        }
    }
}

impl NetworkProvider for Scribe {
    fn attach(&self, link: Arc<NetworkLink>) -> BoxFuture<Result<(), Error>> {
        let Self { log, attach } = self.clone();
        Box::pin(async move {
            log.say(format!("attach {}", link.container()));
            let mut underway = Underway(log.clone(), false);
            tokio::task::yield_now().await;
            match attach.load(Ordering::Acquire) {
                FAILS => return Err(Error::new(ErrorKind::Exhausted, "no address is left")),
                PANICS => panic!("a provider with a bug"),
                HANGS => std::future::pending::<()>().await,
                _ => {}
            }
            underway.1 = true;
            Ok(())
        })
    }

    fn change(&self, link: Arc<NetworkLink>, to: NetworkProperties) -> BoxFuture<Result<(), Error>> {
        self.log.say(format!("change {} {to:?}", link.container()));
        Box::pin(std::future::ready(Ok(())))
    }

    fn describe(&self, link: &NetworkLink) -> NetworkProperties {
        let inode = rustix::fs::fstat(link.namespace()).expect("fstat").st_ino;
        NetworkProperties::from([("namespace".into(), format!("net:[{inode}]"))])
    }

    fn detach(&self, link: Arc<NetworkLink>) -> BoxFuture<()> {
        let log = self.log.clone();
        Box::pin(async move {
            log.say(format!("detach {}", link.container()));
            tokio::task::yield_now().await;
        })
    }
}

fn wired(host: &Host, id: &str, provider: &Scribe) -> ContainerSpec {
    let mut spec = host.spec(id);
    spec.network_provider = Some(Arc::new(provider.clone()));
    spec
}

pub(crate) fn a_network_is_attached_changed_and_detached(scene: &Scene) {
    let scribe = Scribe::default();
    scene.play(async |host| {
        let container = host.create(wired(host, "net", &scribe), see(&[])).await.expect("created");
        // Before the start, and the namespace is the container's.
        assert_eq!(scribe.log.take(), ["attach net"]);
        let told = container.network().expect("a network");
        let seen = outcome(container.start().await.expect("started")).await.json();
        assert_eq!(seen["ns"]["net"], told["namespace"].as_str(), "{seen}");
        let to = NetworkProperties::from([("rate".into(), "1M".into())]);
        container.change_network(to).await.expect("changed");
        assert_eq!(scribe.log.take(), ["change net {\"rate\": \"1M\"}"]);
        container.finish().await;
        assert!(scribe.log.take().is_empty());
        let error = container.change_network(NetworkProperties::new()).await.expect_err("it has ended");
        assert_eq!(error.kind(), ErrorKind::State);
        let (one, two) = tokio::join!(container.delete(), container.delete());
        one.and(two).expect("deleted");
        container.delete().await.expect("deleted again");
        assert_eq!(scribe.log.take(), ["detach net"]);
    });
    assert!(scribe.log.take().is_empty());
}

/// A provider's thread enters the namespace by the descriptor and changes it from inside.
pub(crate) fn a_provider_can_enter_the_namespace(scene: &Scene) {
    #[derive(Debug)]
    struct Enters;
    impl NetworkProvider for Enters {
        fn attach(&self, link: Arc<NetworkLink>) -> BoxFuture<Result<(), Error>> {
            Box::pin(async move {
                let entered = std::thread::spawn(move || {
                    nix::sched::setns(link.namespace().as_fd(), nix::sched::CloneFlags::CLONE_NEWNET).expect("entered");
                    std::fs::write("/proc/sys/net/ipv4/ip_default_ttl", "7").expect("written");
                });
                entered.join().map_err(|_| Error::new(ErrorKind::System, "the thread panicked"))
            })
        }
        fn describe(&self, _: &NetworkLink) -> NetworkProperties {
            NetworkProperties::new()
        }
        fn detach(&self, _: Arc<NetworkLink>) -> BoxFuture<()> {
            Box::pin(std::future::ready(()))
        }
    }
    let before = std::fs::read_to_string("/proc/sys/net/ipv4/ip_default_ttl").expect("ours");
    scene.play(async |host| {
        let mut spec = host.spec("enters");
        spec.network_provider = Some(Arc::new(Enters));
        let read = command(&["cat", "/proc/sys/net/ipv4/ip_default_ttl"]);
        assert_eq!(host.once(spec, read).await.out, "7\n");
    });
    assert_eq!(std::fs::read_to_string("/proc/sys/net/ipv4/ip_default_ttl").expect("ours"), before);
}

pub(crate) fn each_failure_detaches_once(scene: &Scene) {
    let before = scene.stock();
    // The provider itself.
    for (how, said) in [(FAILS, "no address is left"), (PANICS, "")] {
        let scribe = Scribe::default();
        scribe.attach.store(how, Ordering::Release);
        scene.play(async |host| {
            if how == PANICS {
                let (rt, spec) = (host.rt.clone(), wired(host, "net", &scribe));
                let made = tokio::spawn(async move {
                    orangery_runtime::Runtime::create(&rt, spec, probe(&["true"])).await.map(drop)
                });
                assert!(wait::soon("the panic", made).await.expect_err("it panicked").is_panic());
                // The janitor does the rest; shutting down waits for it.
                wait::soon("shutdown", orangery_runtime::Runtime::shutdown(&host.rt)).await;
            } else {
                let errors = host.refused(wired(host, "net", &scribe), probe(&["true"])).await;
                let error = &errors.0[0];
                assert_eq!((error.kind(), error.field()), (ErrorKind::Exhausted, Some("network_provider")));
                assert_eq!((error.what(), error.stage()), (said, Some("network: attach")));
            }
            assert_eq!(scribe.log.take(), ["attach net", "attach was dropped", "detach net"]);
        });
    }
    // Everything around it.
    let stages = [
        (Point::ContainerDescriptors, &[][..]),
        (Point::ContainerBorn, &[]),
        (Point::NetworkNamespace, &[]),
        (Point::NetworkAttached, &["attach net", "detach net"]),
    ];
    for (point, said) in stages {
        let scribe = Scribe::default();
        let mut options = scene.options();
        options.faults = Faults::new(move |_, at| at == point);
        scene.play_with(options, async |host| {
            let errors = host.refused(wired(host, "net", &scribe), probe(&["true"])).await;
            assert_eq!(errors.0[0].stage(), Some(format!("{point:?}").as_str()));
            assert_eq!(scribe.log.take(), said, "{point:?}");
        });
    }
    // The start.
    for without_init in [false, true] {
        let scribe = Scribe::default();
        scene.play(async |host| {
            let mut spec = wired(host, "net", &scribe);
            spec.without_init = without_init;
            let container = host.create(spec, command(&["/no/such/program"])).await.expect("created");
            let error = wait::soon("start", container.start()).await.expect_err("there is no such program");
            assert_eq!(error.kind(), ErrorKind::CommandNotFound);
            container.delete().await.expect("deleted");
            assert_eq!(scribe.log.take(), ["attach net", "detach net"]);
        });
    }
    let left = before.left_over(&scene.stock());
    assert!(left.is_empty(), "{left:?}");
}

pub(crate) fn a_dropped_creation_detaches(scene: &Scene) {
    let scribe = Scribe::default();
    scribe.attach.store(HANGS, Ordering::Release);
    scene.play(async |host| {
        {
            let mut creation = Box::pin(host.create(wired(host, "net", &scribe), probe(&["true"])));
            let mut said = Vec::new();
            // Until the provider hangs.
            while said.is_empty() {
                let tick = tokio::time::sleep(std::time::Duration::from_millis(1));
                tokio::select! {
                    _ = &mut creation => panic!("it cannot end"),
                    () = tick => said = scribe.log.take(),
                }
            }
            assert_eq!(said, ["attach net"]);
        }
        wait::soon("shutdown", orangery_runtime::Runtime::shutdown(&host.rt)).await;
        assert_eq!(scribe.log.take(), ["attach was dropped", "detach net"]);
    });
}

pub(crate) fn the_end_of_a_container_detaches_once(scene: &Scene) {
    let scribe = Scribe::default();
    scene.play(async |host| {
        // Killed from outside, then deleted.
        let container = host.create(wired(host, "killed", &scribe), probe(&["wait"])).await.expect("created");
        let started = container.start().await.expect("started");
        container.kill().expect("killed");
        wait::soon("its end", started.exit).await.expect("an exit");
        container.delete().await.expect("deleted");
        assert_eq!(scribe.log.take(), ["attach killed", "detach killed"]);
        // Dropped without a word.
        let container = host.create(wired(host, "dropped", &scribe), probe(&["true"])).await.expect("created");
        drop(container);
        // A deletion that is dropped half-way goes on.
        let container = host.create(wired(host, "half", &scribe), probe(&["true"])).await.expect("created");
        let mut deletion = container.delete();
        tokio::select! {
            biased;
            _ = &mut deletion => {}
            () = tokio::task::yield_now() => {}
        }
        drop(deletion);
        container.delete().await.expect("deleted");
        drop(container);
        wait::soon("shutdown", orangery_runtime::Runtime::shutdown(&host.rt)).await;
        let mut said = scribe.log.take();
        said.sort();
        assert_eq!(said, ["attach dropped", "attach half", "detach dropped", "detach half"]);
    });
}

pub(crate) fn what_a_provider_cannot_wire_is_refused(scene: &Scene) {
    let scribe = Scribe::default();
    scene.play(async |host| {
        let mut spec = wired(host, "net", &scribe);
        spec.network = Network::Host;
        let errors = host.refused(spec, probe(&["true"])).await;
        assert_eq!((errors.0[0].kind(), errors.0[0].field()), (ErrorKind::Invalid, Some("network_provider")));
        let mut spec = wired(host, "net", &scribe);
        spec.join.push(Arc::new(std::fs::File::open("/proc/self/ns/net").expect("ours").into()));
        let errors = host.refused(spec, probe(&["true"])).await;
        assert_eq!((errors.0[0].kind(), errors.0[0].field()), (ErrorKind::Invalid, Some("network_provider")));
        assert!(scribe.log.take().is_empty());
        // Nobody wires this one.
        let container = host.create(host.spec("plain"), probe(&["true"])).await.expect("created");
        assert_eq!(container.network(), None);
        let error = container.change_network(NetworkProperties::new()).await.expect_err("nobody to ask");
        assert_eq!((error.kind(), error.field()), (ErrorKind::Unsupported, Some("network_provider")));
        container.delete().await.expect("deleted");
    });
}

pub(crate) fn loopback_is_the_trivial_network(scene: &Scene) {
    scene.play(async |host| {
        let mut spec = host.spec("lo");
        spec.network_provider = Some(Arc::new(Loopback));
        let container = host.create(spec, command(&["cat", "/proc/net/dev"])).await.expect("created");
        assert_eq!(container.network().expect("a network")["interfaces"], "lo");
        let error = container.change_network(NetworkProperties::new()).await.expect_err("nothing to change");
        assert_eq!((error.kind(), error.field()), (ErrorKind::Unsupported, Some("network")));
        let seen = outcome(container.start().await.expect("started")).await;
        assert_eq!(seen.out.lines().filter(|line| line.contains(':')).count(), 1, "{}", seen.out);
        container.delete().await.expect("deleted");
    });
}
