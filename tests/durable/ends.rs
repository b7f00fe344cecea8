//! How a process ended, and what is held of one that has.

use orangery_runtime::durable::{Came, ClaimedProcess, Leftovers};
use orangery_runtime::spec::Stdio;
use orangery_runtime::{ErrorKind, ExitStatus};
use orangery_tests::host::{outcome, probe};
use orangery_tests::{Host, Scene, wait};

use super::saved::*;

/// One was told and settled, one was told and not settled, one ended while nobody was there.
pub(crate) fn an_end_is_told_until_it_is_settled(scene: &Scene) {
    let was = be_victim(scene, async |host, _, _| {
        let mut waits = held(scene, "late", probe(&["wait"]));
        waits.stdin = Stdio::Piped;
        let container = create(host, scene, host.spec("ends"), waits).await;
        let late = start(&*container, scene, "late").await;
        for (label, code) in [("settled", "3"), ("told", "4")] {
            let process = held(scene, label, probe(&["exit", code]));
            let started = wait::soon("exec", container.exec(process)).await.expect("exec'd");
            save_process(scene, label, &started);
            let held = started.held.expect("held");
            wait::soon("its end", started.exit).await.expect("told");
            match label {
                "settled" => held.settle(),
                _ => stays(held),
            }
        }
        stays((container, late));
    });
    if was {
        return;
    }
    let (mut victim, _keeper) = victim(scene, "play");
    victim.kill();
    // Whatever came of it: an answer of the keeper's, told or not, is the same once more.
    for round in 0..3 {
        scene.block_on(async {
            let mut next = Next::after(scene, Came::KeeperLives);
            let container = next.container(scene, "ends").await.expect("there");
            let told = next.found(scene, "ends", "told", false).await;
            assert!(matches!(next.process(scene, "ends", "settled", false).await, ClaimedProcess::Never));
            let late = next.found(scene, "ends", "late", true).await;
            let (living, left) = next.finish().await;
            assert_eq!(left, Leftovers::default());
            assert_eq!(wait::soon("its end", told.exit).await.expect("told").status, ExitStatus::Code(4));
            if round < 2 {
                drop((told.held, late, container));
                return living.leave().await;
            }
            told.held.expect("held").settle();
            wait::soon("delete", container.delete()).await.expect("deleted");
            let exit = wait::soon("its end", late.exit).await.expect("told");
            assert_eq!(exit.status, ExitStatus::Signal { signal: 9, core_dumped: false });
            late.held.expect("held").settle();
            living.end(scene).await;
        });
    }
}

/// How many descriptors the keeper keeps, when it has answered all that was asked before. What a request has brought, below
/// those, it closes a moment after its answer.
async fn descriptors(host: &Host) -> usize {
    /// Of `runtime/keeper/sys.rs`.
    const HIGH: u32 = 256;
    let (pipe, _) = std::io::pipe().expect("a pipe");
    host.rt.keeper().store(b"x", orangery_runtime::keeper::Holding::pipe(pipe.into())).await.expect("stored").discard();
    let (pipe, _) = std::io::pipe().expect("a pipe");
    host.rt.keeper().store(b"x", orangery_runtime::keeper::Holding::pipe(pipe.into())).await.expect("stored").discard();
    let answer = host
        .rt
        .keeper()
        .store(&[0; 100], orangery_runtime::keeper::Holding::pipe(std::io::pipe().expect("a pipe").0.into()));
    answer.await.expect_err("too long");
    let all = std::fs::read_dir(format!("/proc/{}/fd", host.rt.keeper_pid())).into_iter().flatten();
    let numbers = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    numbers.filter(|number| *number >= HIGH).count()
}

/// Wait until the keeper has as many as before: it hears of an end a moment after us.
async fn settles(host: &Host, before: usize, what: &str) {
    let until = std::time::Instant::now() + wait::PATIENCE;
    while std::time::Instant::now() < until {
        if descriptors(host).await == before {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("{what}: {before} descriptors before, {} after", descriptors(host).await);
}

pub(crate) fn nothing_is_held_of_what_has_ended(scene: &Scene) {
    scene.block_on(async {
        let (living, _) = Next::after(scene, Came::Fresh).finish().await;
        let host = living.host(scene);
        let mut waits = held(scene, "main", probe(&["wait"]));
        waits.stdin = Stdio::Piped;
        let container = create(&host, scene, host.spec("box"), waits).await;
        let mut main = start(&*container, scene, "main").await;
        let before = descriptors(&host).await;
        for n in 0..20 {
            let process = held(scene, &format!("n{n}"), probe(&["exit", "9"]));
            let mut started = wait::soon("exec", container.exec(process)).await.expect("exec'd");
            let held = started.held.take().expect("held");
            assert!(held.stdout.is_some());
            assert_eq!(outcome(started).await.code(), 9);
            held.settle();
        }
        settles(&host, before, "after twenty that were settled").await;
        for n in 0..5 {
            let mut process = probe(&["exit", "9"]);
            process.argv = vec!["/no/such/program".into()];
            let process = held(scene, &format!("f{n}"), process);
            let error = wait::soon("exec", container.exec(process)).await.expect_err("not there");
            assert_eq!(error.kind(), ErrorKind::CommandNotFound);
            let mut process = held(scene, &format!("g{n}"), probe(&["true"]));
            process.hold.as_mut().expect("held").label = vec![b'x'; 33];
            let error = wait::soon("exec", container.exec(process)).await.expect_err("too long");
            assert_eq!((error.kind(), error.field()), (ErrorKind::Invalid, Some("hold.label")));
        }
        settles(&host, before, "after ten that failed").await;
        main.held.as_mut().expect("held").stdin.take().expect("held").discard();
        drop(main.stdin.take());
        wait::soon("its end", main.exit).await.expect("told");
        main.held.expect("held").settle();
        wait::soon("delete", container.delete()).await.expect("deleted");
        drop((host, container));
        living.end(scene).await;
    });
}

/// Futures that are dropped at every await of theirs.
pub(crate) fn who_gives_up_leaves_nothing(scene: &Scene) {
    scene.block_on(async {
        let (living, _) = Next::after(scene, Came::Fresh).finish().await;
        let host = living.host(scene);
        let mut waits = held(scene, "main", probe(&["wait"]));
        waits.stdin = Stdio::Piped;
        let container = create(&host, scene, host.spec("box"), waits).await;
        let main = start(&*container, scene, "main").await;
        let before = descriptors(&host).await;
        for polls in 1..40 {
            let process = held(scene, &format!("p{polls}"), probe(&["deaf"]));
            let mut exec = container.exec(process);
            let mut left = polls;
            let given_up = std::future::poll_fn(|context| {
                if left == 0 {
                    return std::task::Poll::Ready(None);
                }
                left -= 1;
                // Woken or not: it is asked again at once.
                context.waker().wake_by_ref();
                match exec.as_mut().poll(context) {
                    std::task::Poll::Ready(done) => std::task::Poll::Ready(Some(done)),
                    std::task::Poll::Pending => std::task::Poll::Pending,
                }
            });
            let done = given_up.await;
            drop(exec);
            if let Some(done) = done {
                let started = done.expect("exec'd");
                wait::kill(&*started.pidfd);
                wait::soon("its end", started.exit).await.expect("told");
                started.held.expect("held").settle();
            }
        }
        if scene.root() {
            settles(&host, before, "after those who gave up").await;
        }
        drop((host, main.stdin));
        wait::soon("delete", container.delete()).await.expect("deleted");
        main.held.expect("held").settle();
        drop(container);
        living.end(scene).await;
    });
}
