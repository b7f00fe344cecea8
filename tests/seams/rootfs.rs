//! A provider of root file systems that writes down what it is asked.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use orangery_runtime::native::{Faults, Point};
use orangery_runtime::rootfs::{Directory, Layers, PreparedRootfs, RootfsGuard, RootfsProvider, RootfsUsage};
use orangery_runtime::spec::Access;
use orangery_runtime::{BoxFuture, ContainerSpec, Error, ErrorKind, Runtime as _};
use orangery_tests::host::{command, outcome, probe};
use orangery_tests::{Host, Scene, wait};

use crate::Log;

const FAILS: u8 = 1;
const HANGS: u8 = 2;

#[derive(Clone, Debug)]
struct Store {
    log: Log,
    layers: Vec<PathBuf>,
    prepare: Arc<AtomicU8>,
}

#[derive(Debug)]
struct Guard(Log, String);

impl RootfsProvider for Store {
    fn prepare(&self, container: &str) -> BoxFuture<Result<PreparedRootfs, Error>> {
        let (store, id) = (self.clone(), container.to_owned());
        Box::pin(async move {
            store.log.say(format!("prepare {id}"));
            match store.prepare.load(Ordering::Acquire) {
                FAILS => return Err(Error::new(ErrorKind::NotFound, "no such image")),
                HANGS => std::future::pending::<()>().await,
                _ => {}
            }
            let guard = Box::new(Guard(store.log, id));
            Ok(PreparedRootfs::new(Layers::Directories(store.layers), Access::Overlay, guard))
        })
    }
}

impl RootfsGuard for Guard {
    fn usage(&self) -> BoxFuture<Result<RootfsUsage, Error>> {
        Box::pin(std::future::ready(Ok(RootfsUsage::new(4711, 42))))
    }

    fn release(&self) -> BoxFuture<()> {
        let (log, id) = (self.0.clone(), self.1.clone());
        Box::pin(async move {
            log.say(format!("release {id}"));
            tokio::task::yield_now().await;
        })
    }
}

fn store(layers: &[PathBuf]) -> Store {
    Store { log: Log::default(), layers: layers.to_vec(), prepare: Arc::default() }
}

fn provided(host: &Host, id: &str, store: &Store) -> ContainerSpec {
    let mut spec = host.spec(id);
    spec.mounts.clear();
    spec.rootfs_provider = Some(Arc::new(store.clone()));
    spec
}

pub(crate) fn a_root_is_prepared_and_released(scene: &Scene) {
    let image = scene.image("image");
    let upper = scene.dir().join("upper");
    std::fs::create_dir_all(upper.join("etc")).expect("a layer");
    std::fs::write(upper.join("etc/marker"), "provided").expect("a file");
    let store = store(&[upper, image]);
    scene.play(async |host| {
        let main = command(&["/bin/cat", "/etc/marker"]);
        let container = host.create(provided(host, "img", &store), main).await.expect("created");
        assert_eq!(store.log.take(), ["prepare img"]);
        assert_eq!(container.rootfs_usage().await.expect("told"), Some(RootfsUsage::new(4711, 42)));
        assert_eq!(outcome(container.start().await.expect("started")).await.out, "provided");
        container.finish().await;
        assert!(store.log.take().is_empty());
        let (one, two) = tokio::join!(container.delete(), container.delete());
        one.and(two).expect("deleted");
        assert_eq!(store.log.take(), ["release img"]);
        let dry = host.rt.plan(provided(host, "img", &store), probe(&["true"])).expect_err("nothing is prepared");
        assert_eq!((dry.0[0].kind(), dry.0[0].field()), (ErrorKind::Unsupported, Some("rootfs_provider")));
        let dropped = host.create(provided(host, "dropped", &store), probe(&["true"])).await.expect("created");
        drop(dropped);
        host.rt.shutdown().await;
        assert_eq!(store.log.take(), ["prepare dropped", "release dropped"]);
    });
}

pub(crate) fn each_failure_releases_once(scene: &Scene) {
    let image = scene.image("image");
    let before = scene.stock();
    scene.play(async |host| {
        let broken = store(std::slice::from_ref(&image));
        broken.prepare.store(FAILS, Ordering::Release);
        let error = host.refused(provided(host, "img", &broken), probe(&["true"])).await.0.remove(0);
        assert_eq!((error.kind(), error.field()), (ErrorKind::NotFound, Some("rootfs_provider")));
        assert_eq!((error.stage(), broken.log.take()), (Some("rootfs: prepare"), vec!["prepare img".to_owned()]));
        // What it gives is checked as any other.
        let wrong = store(&[image.clone(), "/no/such".into()]);
        let error = host.refused(provided(host, "img", &wrong), probe(&["true"])).await.0.remove(0);
        assert_eq!((error.kind(), error.field()), (ErrorKind::NotFound, Some("rootfs.lower[1]")));
        assert_eq!(wrong.log.take(), ["prepare img", "release img"]);
    });
    let points = [
        Point::RootfsPrepared,
        Point::IdRange,
        Point::Cgroup,
        Point::UserNamespace,
        Point::Layer(0),
        Point::ContainerDescriptors,
        Point::ContainerStep(9),
        Point::ContainerBorn,
    ];
    for point in points {
        let store = store(std::slice::from_ref(&image));
        let mut options = scene.options();
        options.faults = Faults::new(move |_, at| at == point);
        scene.play_with(options, async |host| {
            match host.create(provided(host, "img", &store), probe(&["true"])).await {
                Err(errors) => assert!(errors.0[0].errno().is_some(), "{errors:?}"),
                // An ordinary user maps no ids.
                Ok(container) => {
                    assert!(matches!(point, Point::UserNamespace | Point::Layer(_)) && !host.root(), "{point:?}");
                    container.delete().await.expect("deleted");
                }
            }
            assert_eq!(store.log.take(), ["prepare img", "release img"], "{point:?}");
        });
    }
    let left = before.left_over(&scene.stock());
    assert!(left.is_empty(), "{left:?}");
}

pub(crate) fn a_dropped_creation_releases(scene: &Scene) {
    let store = store(&[scene.image("image")]);
    scene.play(async |host| {
        store.prepare.store(HANGS, Ordering::Release);
        // Dropped as soon as the provider was asked, and its own future with it: nothing was given out.
        let asked = async {
            loop {
                let said = store.log.take();
                if !said.is_empty() {
                    return said;
                }
                tokio::task::yield_now().await;
            }
        };
        let said = wait::soon("the question", async {
            tokio::select! {
                _ = host.rt.create(provided(host, "img", &store), probe(&["true"])) => panic!("nothing was prepared"),
                said = asked => said,
            }
        });
        assert_eq!(said.await, ["prepare img"]);
        store.prepare.store(0, Ordering::Release);
        let mut given = 0;
        for polls in 0..40 {
            let made = after_polls(host, &store, polls).await;
            given += 1;
            if made.is_some() {
                break;
            }
        }
        host.rt.shutdown().await;
        let said = store.log.take();
        let count = |what: &str| said.iter().filter(|line| line.starts_with(what)).count();
        assert_eq!(count("release"), count("prepare"), "{given} tries: {said:?}");
    });
}

/// Drop a creation after so many of its polls; `Some` when it was quicker.
async fn after_polls(host: &Host, store: &Store, polls: usize) -> Option<()> {
    let mut creation = host.rt.create(provided(host, "img", store), probe(&["true"]));
    let mut left = polls;
    let made = std::future::poll_fn(|cx| {
        if left == 0 {
            return std::task::Poll::Ready(None);
        }
        left -= 1;
        match creation.as_mut().poll(cx) {
            // Nobody need wake it once more.
            std::task::Poll::Pending if left == 0 => std::task::Poll::Ready(None),
            polled => polled.map(Some),
        }
    });
    let made = wait::soon("a few polls", made);
    // The name of the one before may still be in use; that is a refusal and no matter here.
    made.await.and_then(Result::ok).map(drop)
}

pub(crate) fn a_directory_is_the_trivial_root(scene: &Scene) {
    let image = scene.image("image");
    scene.play(async |host| {
        let mut spec = host.spec("dir");
        spec.mounts.clear();
        spec.rootfs_provider = Some(Arc::new(Directory::new(&image, Access::ReadOnly)));
        let container = host.create(spec, command(&["/bin/cat", "/etc/marker"])).await.expect("created");
        let usage = container.rootfs_usage().await.expect("counted").expect("a provider");
        assert!(usage.inodes > 20 && usage.bytes > 100_000, "{usage:?}");
        assert_eq!(outcome(container.start().await.expect("started")).await.out, "the image");
        container.delete().await.expect("deleted");
        let plain = host.create(host.spec("plain"), probe(&["true"])).await.expect("created");
        assert_eq!(plain.rootfs_usage().await.expect("told"), None);
        plain.delete().await.expect("deleted");
    });
}
