//! Many lives in one supervisor, and many that are cut short: the stock is what it was.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "test code: a panic is a failed trial")]

use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use orangery_runtime::spec::{Mount, Stdio};
use orangery_runtime::{ErrorKind, Runtime as _};
use orangery_tests::host::{outcome, probe};
use orangery_tests::stock::Stock;
use orangery_tests::{Host, Scene, trial, wait};

fn main() -> ExitCode {
    orangery_tests::main(&[
        trial!(the_stock_sees_what_is_left).long(),
        trial!(a_thousand_lives).long(),
        trial!(a_thousand_execs).long(),
        trial!(a_thousand_failed_creations).long(),
        trial!(creations_cancelled_at_each_poll),
        trial!(starts_cancelled_at_each_poll),
        trial!(execs_cancelled_at_each_poll),
        trial!(deletes_cancelled_at_each_poll),
        trial!(a_hundred_runtimes).long(),
        trial!(descriptors_of_a_living_container),
    ])
}

/// Most user namespaces that a runtime keeps for id ranges.
const CACHED: usize = 64;

/// The kit itself: one of each thing that can be left is found.
#[expect(clippy::disallowed_methods, reason = "a process that is left behind on purpose")]
fn the_stock_sees_what_is_left(scene: &Scene) {
    let before = scene.stock();
    let mut process = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().expect("cat");
    let file = std::fs::File::open("/dev/null").expect("null");
    std::fs::create_dir(scene.state_dir()).expect("a directory");
    let groups: Vec<_> = scene.cgroup_parents().iter().map(|parent| parent.join("orangery-left")).collect();
    groups.iter().for_each(|group| std::fs::create_dir(group).expect("a cgroup"));
    std::fs::write(scene.state_dir().join("file"), "x").expect("a file");
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || stopped.recv());
    let left = before.left_over(&scene.stock());
    for what in ["process ", "descriptor ", "file ", "threads"] {
        assert!(left.iter().any(|line| line.starts_with(what)), "no {what} in {left:?}");
    }
    assert_eq!(left.iter().filter(|line| line.starts_with("cgroup ")).count(), groups.len(), "{left:?}");
    drop((file, stop));
    thread.join().expect("no panic").expect_err("hung up");
    groups.iter().for_each(|group| std::fs::remove_dir(group).expect("removed"));
    drop(process.stdin.take());
    process.wait().expect("reaped");
    std::fs::remove_dir_all(scene.state_dir()).expect("removed");
    assert_eq!(before.left_over(&scene.stock()), Vec::<String>::new());
}

/// What is there while the runtime runs; taken when nothing is under way. A dead process that the keeper is just about
/// to reap is none, and the cached user namespaces of id ranges are the runtime's, bounded, until it ends.
fn standing(scene: &Scene) -> Stock {
    let mut stock = scene.stock();
    // The keeper is always there; a thread of tokio's blocking pool comes and goes.
    stock.threads = 0;
    stock.processes.retain(|process| !process.ends_with(" Z"));
    let cached = stock.descriptors.values().filter(|what| what.starts_with("user:[")).count();
    assert!(cached <= CACHED, "{cached} user namespaces are kept");
    stock.descriptors.retain(|_, what| !what.starts_with("user:["));
    stock
}

/// Everything that was dropped is given back: the janitor is asked by making and deleting one more.
async fn settled(scene: &Scene, host: &Host, before: &Stock) {
    let mut left = Vec::new();
    for n in 0..50 {
        host.once(host.spec(&format!("settle{n}")), probe(&["true"])).await;
        left = before.left_over(&standing(scene));
        if left.is_empty() {
            return;
        }
    }
    panic!("left: {left:?}");
}

fn a_thousand_lives(scene: &Scene) {
    scene.play(async |host| {
        host.once(host.spec("first"), probe(&["true"])).await;
        let before = standing(scene);
        for n in 0..1000 {
            let mut main = probe(&["true"]);
            (main.stdout, main.stderr) = (Stdio::Null, Stdio::Null);
            assert_eq!(host.once(host.spec(&format!("c{n}")), main).await.code(), 0);
            if n % 250 == 249 {
                settled(scene, host, &before).await;
            }
        }
    });
}

fn a_thousand_execs(scene: &Scene) {
    scene.play(async |host| {
        let container = host.create(host.spec("one"), probe(&["true"])).await.expect("created");
        outcome(container.start().await.expect("started")).await;
        let before = standing(scene);
        for _ in 0..1000 {
            let mut main = probe(&["true"]);
            (main.stdout, main.stderr) = (Stdio::Null, Stdio::Null);
            assert_eq!(outcome(container.exec(main).await.expect("exec")).await.code(), 0);
        }
        let left = before.left_over(&standing(scene));
        assert!(left.is_empty(), "{left:?}");
        container.delete().await.expect("deleted");
    });
}

fn a_thousand_failed_creations(scene: &Scene) {
    scene.play(async |host| {
        host.once(host.spec("first"), probe(&["true"])).await;
        let before = standing(scene);
        for n in 0..1000 {
            let mut spec = host.spec(&format!("c{n}"));
            spec.mounts.push(Mount::bind("/usr", "/proc/self/fd/0").read_only());
            let errors = host.refused(spec, probe(&["true"])).await;
            assert_eq!(errors.0[0].field(), Some("mounts"), "{errors:?}");
        }
        settled(scene, host, &before).await;
    });
}

/// Counts wake-ups and hands them on to a task.
struct Counting {
    wakes: AtomicUsize,
    task: Waker,
}

impl Wake for Counting {
    fn wake(self: Arc<Self>) {
        self.wakes.fetch_add(1, Ordering::AcqRel);
        self.task.wake_by_ref();
    }
}

/// Poll `future` at most `polls` times, each time that it asked to be woken, and then drop it. `Some` when it was done
/// before.
async fn cut<T>(future: impl Future<Output = T>, polls: usize) -> Option<T> {
    let mut future = pin!(future);
    let mut left = polls;
    let mut counting: Option<Arc<Counting>> = None;
    std::future::poll_fn(|cx| {
        let waker =
            counting.get_or_insert_with(|| Arc::new(Counting { wakes: AtomicUsize::new(1), task: cx.waker().clone() }));
        while left > 0 && waker.wakes.swap(0, Ordering::AcqRel) > 0 {
            left -= 1;
            let inner = Waker::from(Arc::clone(waker));
            if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&inner)) {
                return Poll::Ready(Some(value));
            }
        }
        if left == 0 { Poll::Ready(None) } else { Poll::Pending }
    })
    .await
}

fn creations_cancelled_at_each_poll(scene: &Scene) {
    scene.play(async |host| {
        host.once(host.spec("first"), probe(&["true"])).await;
        let before = standing(scene);
        let (mut cancelled, mut done) = (0, 0);
        for n in 0..120 {
            let mut spec = host.spec(&format!("c{n}"));
            spec.without_init = n % 2 == 0;
            match wait::soon("a creation", cut(host.rt.create(spec, probe(&["deaf"])), 1 + n % 12)).await {
                None => cancelled += 1,
                Some(Ok(container)) => {
                    done += 1;
                    if n % 3 == 0 {
                        drop(container);
                    } else {
                        container.delete().await.expect("deleted");
                    }
                }
                Some(Err(errors)) => panic!("{errors}"),
            }
        }
        assert!(cancelled > 10 && done > 5, "{cancelled} cancelled, {done} done");
        settled(scene, host, &before).await;
    });
}

fn starts_cancelled_at_each_poll(scene: &Scene) {
    scene.play(async |host| {
        host.once(host.spec("first"), probe(&["true"])).await;
        let before = standing(scene);
        for n in 0..60 {
            let mut spec = host.spec(&format!("c{n}"));
            spec.without_init = n % 2 == 0;
            let container = host.create(spec, probe(&["deaf"])).await.expect("created");
            let started = wait::soon("a start", cut(container.start(), 1 + n % 6)).await;
            if started.is_none() {
                assert_eq!(container.start().await.expect_err("started once").kind(), ErrorKind::State);
            }
            container.delete().await.expect("deleted");
        }
        settled(scene, host, &before).await;
    });
}

/// An exec that nobody waits for any more is killed, or was never there: the container has nobody but its init.
fn execs_cancelled_at_each_poll(scene: &Scene) {
    scene.play(async |host| {
        let container = host.create(host.spec("one"), probe(&["true"])).await.expect("created");
        outcome(container.start().await.expect("started")).await;
        let before = standing(scene);
        let mut cancelled = 0;
        for n in 0..100 {
            let exec = wait::soon("an exec", cut(container.exec(probe(&["deaf"])), 1 + n % 6)).await;
            match exec {
                None => cancelled += 1,
                Some(started) => {
                    let started = started.expect("exec");
                    wait::kill(&*started.pidfd);
                    wait::soon("its end", started.exit).await.expect("an exit");
                }
            }
        }
        assert!(cancelled > 10, "{cancelled}");
        let mut left = Vec::new();
        for _ in 0..50 {
            // Each goes through the keeper behind all that was asked before.
            outcome(container.exec(probe(&["true"])).await.expect("exec")).await;
            left = before.left_over(&standing(scene));
            if left.is_empty() {
                break;
            }
        }
        assert!(left.is_empty(), "{left:?}");
        container.delete().await.expect("deleted");
    });
}

fn deletes_cancelled_at_each_poll(scene: &Scene) {
    scene.play(async |host| {
        host.once(host.spec("first"), probe(&["true"])).await;
        let before = standing(scene);
        for n in 0..60 {
            let container = host.create(host.spec(&format!("c{n}")), probe(&["deaf"])).await.expect("created");
            let started = container.start().await.expect("started");
            let deleted = wait::soon("a delete", cut(container.delete(), n % 6)).await;
            if n % 2 == 0 {
                wait::soon("the second delete", container.delete()).await.expect("deleted");
            }
            drop((deleted, container));
            wait::soon("its end", started.exit).await.expect("an exit");
        }
        settled(scene, host, &before).await;
    });
}

fn a_hundred_runtimes(scene: &Scene) {
    let before = scene.stock();
    for _ in 0..100 {
        scene.play(async |host| {
            host.once(host.spec("x"), probe(&["true"])).await;
        });
    }
    let mut left = before.left_over(&scene.stock());
    left.retain(|line| !line.starts_with("file ") || !line.ends_with("/state"));
    assert!(left.is_empty(), "{left:?}");
}

/// At most four a container, as `decisions.md` promises.
fn descriptors_of_a_living_container(scene: &Scene) {
    scene.play(async |host| {
        host.once(host.spec("first"), probe(&["true"])).await;
        let before = orangery_tests::stock::descriptors().len();
        let mut kept = Vec::new();
        for n in 0..50 {
            let mut main = probe(&["deaf"]);
            (main.stdout, main.stderr) = (Stdio::Null, Stdio::Null);
            let container = host.create(host.spec(&format!("c{n}")), main).await.expect("created");
            let started = container.start().await.expect("started");
            kept.push((container, started));
        }
        let each = (orangery_tests::stock::descriptors().len() - before) as f64 / 50.0;
        assert!(each <= 4.0, "{each} descriptors a container");
        for (container, _started) in kept {
            container.delete().await.expect("deleted");
        }
    });
}
