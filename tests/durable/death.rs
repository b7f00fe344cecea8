//! The keeper dies beside a living supervisor: another one has everything, and what runs does not notice.

use std::os::fd::OwnedFd;

use orangery_runtime::durable::{Came, Claim, ClaimedProcess, Leftovers};
use orangery_runtime::keeper::{Client, Deadline, Holding, Lever};
use orangery_runtime::native::{KeeperNews, NativeRuntime, Replaced, exit_of, now_ns};
use orangery_runtime::spec::Stdio;
use orangery_runtime::{ErrorKind, Exit, ExitStatus, Started};
use orangery_tests::host::{outcome, probe};
use orangery_tests::noise::{period, stands_at};
use orangery_tests::victim::reap_adopted;
use orangery_tests::{Host, Scene, wait};
use rustix::process::{Signal, getpid, kill_process};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::saved::*;

const FLOOD: u64 = 3 << 20;

/// A runtime that tells what becomes of its keeper.
struct Telling {
    rt: NativeRuntime,
    news: mpsc::UnboundedReceiver<KeeperNews>,
    driver: JoinHandle<()>,
}

impl Telling {
    async fn start(scene: &Scene) -> Self {
        let (rt, driver, adopted) = NativeRuntime::durable(options(scene)).expect("a durable runtime");
        let (sender, news) = mpsc::unbounded_channel();
        let driver = tokio::spawn(driver.run_telling(move |one| drop(sender.send(one))));
        assert_eq!(adopted.came(), Came::Fresh);
        wait::soon("finish", adopted.finish()).await;
        Self { rt, news, driver }
    }

    async fn next(&mut self) -> KeeperNews {
        wait::soon("news", self.news.recv()).await.expect("the driver tells")
    }

    /// Kill the keeper, and hear of the next one.
    async fn another(&mut self) -> Replaced {
        let before = self.rt.keeper_pid();
        kill_keeper(&self.rt);
        assert_eq!(self.next().await, KeeperNews::Died);
        match self.next().await {
            KeeperNews::Replaced(replaced) => {
                assert!(replaced.pid == self.rt.keeper_pid() && replaced.pid != before, "{replaced:?}");
                assert_eq!(replaced.left_out, 0, "{replaced:?}");
                assert!(!self.rt.keeper_is_dead());
                replaced
            }
            other => panic!("{other:?}"),
        }
    }

    /// It leaves with nothing to be held.
    async fn end(self, scene: &Scene) {
        let keeper = wait::pidfd(self.rt.keeper_pid());
        wait::soon("shutdown", orangery_runtime::Runtime::shutdown(&self.rt)).await;
        drop(self.rt);
        wait::soon("the driver's end", self.driver).await.expect("no panic");
        wait::gone(&keeper, "the keeper");
        reap_adopted();
        let left: Vec<_> = std::fs::read_dir(scene.state_dir()).expect("the state directory").flatten().collect();
        let left: Vec<_> = left.iter().map(|entry| entry.file_name()).filter(|name| *name != *"ids").collect();
        assert!(left.is_empty() && scene.cgroups().is_empty(), "{left:?} {:?}", scene.cgroups());
        let _ = std::fs::remove_dir_all(scene.state_dir());
    }
}

fn kill_keeper(rt: &NativeRuntime) {
    let keeper = wait::pidfd(rt.keeper_pid());
    wait::kill(&keeper);
    wait::gone(&keeper, "the keeper");
}

/// The keeper has done all that it was asked so far, what it does not answer included: it refuses what comes behind it.
async fn all_is_done(keeper: &Client) {
    let nothing = Lever { signal: Some((wait::pidfd(std::process::id()), 0)), ..Lever::default() };
    let refused = keeper.arm(Deadline { at_ns: u64::MAX, at_end: false }, nothing);
    let error = wait::soon("a refusal", refused).await.expect_err("no signal");
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
}

/// Whoever tells it.
async fn end_of(exit: tokio::sync::oneshot::Receiver<Exit>, pidfd: &std::sync::Arc<OwnedFd>) -> ExitStatus {
    let told = wait::soon("its end", exit).await;
    match told {
        Ok(exit) => exit.status,
        Err(_) => wait::soon("its end", exit_of(std::sync::Arc::clone(pidfd))).await.status,
    }
}

/// A flood, one that waits for its input, and one beside it.
async fn three(host: &Host, scene: &Scene) -> (Vec<Box<dyn orangery_runtime::Container>>, Vec<Started>) {
    let flood = held(scene, "flood", probe(&["noise", &FLOOD.to_string()]));
    let flooded = create(host, scene, host.spec("flooded"), flood).await;
    let flood = start(&*flooded, scene, "flood").await;
    let mut waits = held(scene, "waits", probe(&["wait"]));
    waits.stdin = Stdio::Piped;
    let waiting = create(host, scene, host.spec("waiting"), waits.clone()).await;
    let main = start(&*waiting, scene, "waits").await;
    waits.hold = Some(hold(scene, "beside"));
    let beside = wait::soon("exec", waiting.exec(waits)).await.expect("exec'd");
    save_process(scene, "beside", &beside);
    (vec![flooded, waiting], vec![flood, main, beside])
}

/// Every byte and every end of the three, and nothing is left.
async fn all_of_it(scene: &Scene, containers: Vec<Box<dyn orangery_runtime::Container>>, started: Vec<Started>) {
    for (label, started) in ["flood", "waits", "beside"].into_iter().zip(started) {
        let Started { stdin, stdout, exit, pidfd, held, .. } = started;
        let mut held = held.expect("held");
        if label == "flood" {
            let bytes = written(scene, label, stdout);
            assert!(bytes.len() as u64 == FLOOD && stands_at(&period(), 0, &bytes), "{} bytes", bytes.len());
        } else {
            assert!(!wait::readable(&*pidfd, std::time::Duration::ZERO), "it has lost its input");
            held.stdin.take().expect("its input is held").discard();
            drop(stdin);
        }
        let status = end_of(exit, &pidfd).await;
        // The kernel tells it since 6.15, and we are told as its parents.
        let known = orangery_runtime::sys::pidfd_exit_status(&*pidfd).is_ok_and(|status| status.is_some());
        assert!(status == ExitStatus::Code(0) || (!known && status == ExitStatus::Lost), "{label}: {status:?}");
        held.settle();
    }
    for container in containers {
        wait::soon("delete", container.delete()).await.expect("deleted");
    }
}

pub(crate) fn another_keeper_has_everything(scene: &Scene) {
    scene.block_on(async {
        let mut telling = Telling::start(scene).await;
        let host = Host::new(telling.rt.clone(), scene);
        let (containers, started) = three(&host, scene).await;
        // As often as it may, and what is new is as good as what is old.
        for round in 0..3 {
            let replaced = telling.another().await;
            assert!(replaced.processes >= 5 && replaced.streams >= 5, "{replaced:?}");
            let further = wait::soon("exec", containers[1].exec(probe(&["exit", "5"]))).await.expect("exec'd");
            assert_eq!(outcome(further).await.code(), 5);
            let name = format!("new{round}");
            let young = create(&host, scene, host.spec(&name), held(scene, &name, probe(&["exit", "6"]))).await;
            let mut started = start(&*young, scene, &name).await;
            let held = started.held.take().expect("held");
            assert_eq!(outcome(started).await.code(), 6);
            held.settle();
            wait::soon("delete", young.delete()).await.expect("deleted");
        }
        all_of_it(scene, containers, started).await;
        drop(host);
        telling.end(scene).await;
    });
}

/// The next supervisor has from the second keeper what the first one has started.
pub(crate) fn the_next_has_it_from_the_second(scene: &Scene) {
    let was = be_victim(scene, async |host, _, adopted| {
        wait::soon("finish", adopted.finish()).await;
        let kept = three(host, scene).await;
        for _ in 0..2 {
            kill_keeper(&host.rt);
            // Answered by the next one, behind all that it is told.
            host.rt
                .keeper()
                .store(b"x", Holding::pipe(std::io::pipe().expect("a pipe").0.into()))
                .await
                .expect("held")
                .discard();
        }
        all_is_done(host.rt.keeper()).await;
        stays(kept);
    });
    if was {
        return;
    }
    let (mut victim, keeper) = victim(scene, "play");
    victim.kill();
    scene.block_on(async {
        for round in 0..2 {
            let mut next = Next::after(scene, Came::KeeperLives);
            let mut containers = Vec::new();
            for name in ["flooded", "waiting"] {
                containers.push(next.container(scene, name).await.expect("it is there"));
            }
            let mut started = Vec::new();
            for (container, label, main) in
                [("flooded", "flood", true), ("waiting", "waits", true), ("waiting", "beside", false)]
            {
                started.push(next.found(scene, container, label, main).await);
            }
            let (living, left) = next.finish().await;
            assert_eq!(left, Leftovers::default());
            if round == 0 {
                drop((containers, started));
                living.leave().await;
                continue;
            }
            let further = wait::soon("exec", containers[1].exec(probe(&["exit", "5"]))).await.expect("exec'd");
            assert_eq!(outcome(further).await.code(), 5);
            all_of_it(scene, containers, started).await;
            living.end(scene).await;
        }
    });
    drop(keeper);
}

/// What it was to do at a time is done at that time.
pub(crate) fn a_deadline_is_kept_by_the_second(scene: &Scene) {
    scene.block_on(async {
        let mut telling = Telling::start(scene).await;
        let host = Host::new(telling.rt.clone(), scene);
        let deaf = create(&host, scene, host.spec("deaf"), held(scene, "deaf", probe(&["deaf"]))).await;
        let started = start(&*deaf, scene, "deaf").await;
        let keeper: &Client = telling.rt.keeper();
        let arm = async |at_ns: u64| {
            let pidfd = started.pidfd.try_clone().expect("a copy");
            let lever = Lever { signal: Some((pidfd, 9)), ..Lever::default() };
            keeper.arm(Deadline { at_ns, at_end: false }, lever).await.expect("armed")
        };
        let (never, cancelled) = (arm(u64::MAX).await, arm(u64::MAX).await);
        // Not yet when the first one is killed, as far as that can be had.
        let soon = arm(now_ns() + 300_000_000).await;
        let keepers = telling.rt.keeper_pid();
        drop(cancelled);
        let replaced = telling.another().await;
        assert_ne!(keepers, telling.rt.keeper_pid());
        assert!((1..=2).contains(&replaced.leases), "{replaced:?}");
        assert_eq!(wait::soon("the deadline", soon.wait()).await.expect("it is kept"), 0);
        assert_eq!(never.fired(), None);
        assert_eq!(end_of(started.exit, &started.pidfd).await, ExitStatus::Signal { signal: 9, core_dumped: false });
        started.held.expect("held").settle();
        drop((soon, never));
        wait::soon("delete", deaf.delete()).await.expect("deleted");
        drop(host);
        telling.end(scene).await;
    });
}

/// It is killed at a moment of many creations: each is there, or fails by name and leaves nothing.
pub(crate) fn it_dies_while_containers_are_made(scene: &Scene) {
    scene.block_on(async {
        let mut telling = Telling::start(scene).await;
        let host = Host::new(telling.rt.clone(), scene);
        for round in 0..4 {
            let keeper = wait::pidfd(telling.rt.keeper_pid());
            let (mut done, mut kept) = (0, Vec::new());
            let mut lives: Vec<_> = (0..8)
                .map(|n| {
                    let name = format!("r{round}c{n}");
                    let (spec, main) = (host.spec(&name), held(scene, &name, probe(&["exit", "7"])));
                    let made = host.create(spec, main);
                    Box::pin(async move {
                        let container = made.await.map_err(|errors| errors.0[0].clone())?;
                        match container.start().await {
                            Ok(started) => Ok((container, started)),
                            Err(error) => {
                                container.delete().await.expect("deleted");
                                Err(error)
                            }
                        }
                    })
                })
                .collect();
            std::future::poll_fn(|cx| {
                lives.retain_mut(|life| match life.as_mut().poll(cx) {
                    std::task::Poll::Ready(made) => {
                        done += 1;
                        if done == round {
                            wait::kill(&keeper);
                        }
                        match made {
                            Ok(made) => kept.push(made),
                            // Whatever went with it: the words are those for who can ask again.
                            Err(error) => assert_eq!(error.kind(), ErrorKind::Keeper, "{error:?}"),
                        }
                        false
                    }
                    std::task::Poll::Pending => true,
                });
                if round == 0 {
                    wait::kill(&keeper);
                }
                if lives.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
            })
            .await;
            assert_eq!(telling.next().await, KeeperNews::Died);
            assert!(matches!(telling.next().await, KeeperNews::Replaced(_)));
            for (container, started) in kept {
                let status = end_of(started.exit, &started.pidfd).await;
                // Not yet exec'd, it goes with the keeper.
                let went = matches!(status, ExitStatus::Signal { signal: 9, .. });
                assert!(went || matches!(status, ExitStatus::Code(7) | ExitStatus::Lost), "{status:?}");
                started.held.expect("held").settle();
                wait::soon("delete", container.delete()).await.expect("deleted");
            }
        }
        drop(host);
        telling.end(scene).await;
    });
}

/// Another one that dies as well, and so on: in the end there is none, which is told in words and by kind.
pub(crate) fn a_storm_of_deaths_has_an_end(scene: &Scene) {
    scene.block_on(async {
        let mut telling = Telling::start(scene).await;
        let host = Host::new(telling.rt.clone(), scene);
        let deaf = create(&host, scene, host.spec("deaf"), held(scene, "deaf", probe(&["deaf"]))).await;
        let started = start(&*deaf, scene, "deaf").await;
        let mut keepers = 1;
        loop {
            kill_keeper(&telling.rt);
            assert_eq!(telling.next().await, KeeperNews::Died);
            match telling.next().await {
                KeeperNews::Replaced(_) => keepers += 1,
                KeeperNews::Ended { why } => break assert!(why.is_some_and(|why| why.contains("died"))),
                other => panic!("{other:?}"),
            }
            assert!(keepers < 20, "it goes on for ever");
        }
        assert!(keepers > 2 && telling.rt.keeper_is_dead(), "{keepers}");
        let error = wait::soon("exec", deaf.exec(probe(&["true"]))).await.expect_err("no keeper");
        assert_eq!(error.kind(), ErrorKind::Keeper, "{error}");
        assert!(!wait::readable(&*started.pidfd, std::time::Duration::ZERO), "it lives on");
        deaf.kill().expect("killed");
        assert_eq!(end_of(started.exit, &started.pidfd).await, ExitStatus::Signal { signal: 9, core_dumped: false });
        started.held.expect("held").settle();
        wait::soon("delete", deaf.delete()).await.expect("deleted");
        drop(host);
        wait::soon("shutdown", orangery_runtime::Runtime::shutdown(&telling.rt)).await;
        drop(telling.rt);
        wait::soon("the driver's end", telling.driver).await.expect("no panic");
        reap_adopted();
        // What the keeper would have removed is the next one's.
        let (living, left) = Next::after(scene, Came::KeeperGone).finish().await;
        assert_eq!(left, Leftovers::default());
        living.end(scene).await;
    });
}

/// The keeper is killed and the supervisor right behind it, at any moment of the handing over: what runs lives, and is the
/// next one's.
pub(crate) fn both_die_in_the_middle_of_it(scene: &Scene) {
    let was = be_victim(scene, async |host, role, mut adopted| {
        let kept = if adopted.came() == Came::Fresh {
            wait::soon("finish", adopted.finish()).await;
            let deaf = create(host, scene, host.spec("deaf"), held(scene, "deaf", probe(&["deaf"]))).await;
            (start(&*deaf, scene, "deaf").await, deaf)
        } else {
            let record = load(scene, "deaf").expect("written");
            let claim = Claim::new(record);
            let deaf = adopted.container(claim).await.expect("claimed").expect("there");
            let record = load(scene, "deaf.process");
            let main = adopted.process("deaf", b"deaf", record.as_ref(), true).await.expect("claimed");
            let ClaimedProcess::Found(started) = main else { panic!("{main:?}") };
            assert_eq!(wait::soon("finish", adopted.finish()).await, Leftovers::default());
            (*started, deaf)
        };
        stays(kept);
        let round: u32 = role.parse().expect("a number");
        kill_keeper(&host.rt);
        // So many turns of everybody later.
        for _ in 0..round {
            tokio::task::yield_now().await;
        }
        let _ = kill_process(getpid(), Signal::KILL);
    });
    if was {
        return;
    }
    for round in 0..8_u32 {
        let mut victim = orangery_tests::victim::Victim::start(scene, &(round * round).to_string());
        victim.end();
        reap_adopted();
    }
    scene.block_on(async {
        let mut next = Next::start(options(scene));
        assert!(matches!(next.adopted.came(), Came::KeeperLives | Came::KeeperGone));
        let deaf = next.container(scene, "deaf").await.expect("it is there");
        let started = next.found(scene, "deaf", "deaf", true).await;
        let (living, left) = next.finish().await;
        assert_eq!(left, Leftovers::default());
        assert!(!wait::readable(&*started.pidfd, std::time::Duration::ZERO), "it lives on");
        deaf.kill().expect("killed");
        wait::gone(&*started.pidfd, "it");
        reap_adopted();
        started.held.expect("held").settle();
        wait::soon("delete", deaf.delete()).await.expect("deleted");
        living.end(scene).await;
    });
}
