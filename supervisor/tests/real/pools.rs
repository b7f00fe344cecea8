//! Pools of real sandboxes: what a ready one is, who gets which, and that nothing of any is left.

use std::collections::BTreeSet;
use std::time::Duration;

use orangery::{Cause, DiscardReason, ErrorKind, LimitKind, Pool, Sandbox, Stdin, Supervisor};
use orangery_tests::stock::{self, descendants};
use orangery_tests::{Scene, Trial, trial, wait};
use tokio::io::AsyncWriteExt as _;

use crate::stage::play;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial!(a_ready_sandbox_is_a_stub_alone_and_each_holder_gets_a_fresh_one),
        trial!(a_stop_of_what_idles_and_its_report),
        trial!(a_ready_one_that_is_killed_is_replaced),
        trial!(two_hundred_takers_at_once).long(),
        trial!(dropping_take_at_every_poll_leaves_nothing),
        trial!(a_command_runs_before_anybody_asks),
        trial!(limits_of_a_lease, Memory),
        trial!(what_can_never_be_made_is_told),
        trial!(the_output_limit_is_each_commands),
        trial!(an_end_in_the_middle_of_everything),
    ]
}

fn pool(supervisor: &Supervisor, idle: usize, most: usize) -> Pool {
    Pool::builder(&Sandbox::builder().id("p").build().unwrap()).idle(idle).most(most).build(supervisor).unwrap()
}

/// What runs for us but the keeper.
fn processes() -> Vec<stock::Process> {
    let all = descendants(std::process::id()).into_iter();
    all.filter(|process| process.name != "orangery-keeper" && process.state != 'Z').collect()
}

fn a_ready_sandbox_is_a_stub_alone_and_each_holder_gets_a_fresh_one(scene: &Scene) {
    play(scene, async |supervisor| {
        let pool = pool(supervisor, 2, 3);
        wait::soon("filled", pool.filled()).await.unwrap();
        let idle = processes();
        assert_eq!(idle.iter().map(|process| &*process.name).collect::<Vec<_>>(), ["orangery-init"; 2]);
        let mut ids = BTreeSet::new();
        for _ in 0..5 {
            let lease = wait::soon("take", pool.take()).await.unwrap();
            assert_eq!(lease.inspect().init_pid, lease.inspect().pid, "no process but the stub");
            // Everything that a stranger could leave behind: files, what nobody sees, memory, a process.
            let script = "ls -A /tmp /dev/shm /root | grep -c secret; touch /tmp/secret /dev/shm/secret /root/secret
                setsid sleep 1000 & exit 0";
            let output = lease.command("sh").arg("-c").arg(script).run().await.unwrap();
            assert_eq!(output.stdout.to_vec(), b"0\n");
            assert!(ids.insert(lease.id().to_owned()));
        }
        let now = pool.inspect();
        assert_eq!((now.leases, now.discarded[&DiscardReason::Used]), (5, 5));
        wait::soon("close", pool.close()).await;
        assert_eq!(processes(), []);
        assert!(supervisor.list().await.unwrap().is_empty());
    });
}

fn a_stop_of_what_idles_and_its_report(scene: &Scene) {
    play(scene, async |supervisor| {
        let pool = pool(supervisor, 1, 1);
        let lease = wait::soon("take", pool.take()).await.unwrap();
        // A stub has no handlers: TERM does nothing, and the grace is over at once.
        wait::soon("stop", lease.stop(15, Duration::ZERO)).await.unwrap();
        let report = wait::soon("report", lease.wait()).await.unwrap();
        assert_eq!((&report.cause, report.shell_code()), (&Cause::Stop { escalated: true }, 137));
        assert_eq!(lease.command("true").spawn().await.unwrap_err().kind(), ErrorKind::State);
    });
}

fn a_ready_one_that_is_killed_is_replaced(scene: &Scene) {
    play(scene, async |supervisor| {
        let pool = pool(supervisor, 1, 1);
        wait::soon("filled", pool.filled()).await.unwrap();
        let stub = processes().remove(0);
        wait::kill(wait::pidfd(stub.pid));
        wait::soon("another", async {
            while pool.inspect().made < 2 || pool.inspect().idle < 1 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!(pool.inspect().discarded[&DiscardReason::Died], 1);
        let lease = pool.try_take().unwrap();
        assert!(lease.command("true").run().await.unwrap().report.success());
    });
}

fn two_hundred_takers_at_once(scene: &Scene) {
    play(scene, async |supervisor| {
        let pool = pool(supervisor, 4, 16);
        let takers = (0..200).map(|n| {
            let taken = pool.take();
            tokio::spawn(async move {
                let lease = taken.await.unwrap();
                let output = lease.command("echo").arg(n.to_string()).run().await.unwrap();
                assert_eq!(output.stdout.to_vec(), format!("{n}\n").into_bytes());
                lease.id().to_owned()
            })
        });
        let takers: Vec<_> = takers.collect();
        let mut ids = BTreeSet::new();
        for taker in takers {
            assert!(ids.insert(wait::soon("a taker", taker).await.unwrap()), "one holder each");
        }
        wait::soon("close", pool.close()).await;
        assert!(supervisor.list().await.unwrap().is_empty());
        assert_eq!(processes(), []);
    });
}

fn dropping_take_at_every_poll_leaves_nothing(scene: &Scene) {
    play(scene, async |supervisor| {
        let pool = pool(supervisor, 0, 2);
        for polls in 0..12 {
            let mut taking = Box::pin(async {
                let lease = pool.take().await.unwrap();
                lease.command("true").run().await.unwrap().report.success()
            });
            for _ in 0..polls {
                let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(taking.as_mut().poll(cx))).await;
                if let std::task::Poll::Ready(good) = polled {
                    assert!(good);
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop(taking);
            let now = pool.inspect();
            assert_eq!((now.waiting, now.leased), (0, 0));
        }
        wait::soon("close", pool.close()).await;
        assert!(supervisor.list().await.unwrap().is_empty());
    });
}

fn a_command_runs_before_anybody_asks(scene: &Scene) {
    play(scene, async |supervisor| {
        let shell = supervisor.command("sh").arg("-c").arg("echo up; exec cat").stdin(Stdin::Piped);
        let pool = Pool::running(shell).idle(1).most(1).build(supervisor).unwrap();
        let lease = wait::soon("take", pool.take()).await.unwrap();
        let mut stdin = lease.stdin().unwrap();
        stdin.write_all(b"hello\n").await.unwrap();
        stdin.shutdown().await.unwrap();
        assert!(wait::soon("cat", lease.wait()).await.unwrap().success());
        assert_eq!(lease.stdout().collect(100).await.to_vec(), b"up\nhello\n");
    });
}

fn limits_of_a_lease(scene: &Scene) {
    play(scene, async |supervisor| {
        let sandbox = Sandbox::builder().memory(32 << 20).build().unwrap();
        let pool = Pool::builder(&sandbox).idle(1).most(2).build(supervisor).unwrap();
        let lease = wait::soon("take", pool.take()).await.unwrap();
        let hungry = lease.command("tail").arg("/dev/zero").run().await.unwrap();
        assert_eq!(hungry.report.cause, Cause::Limit(LimitKind::Memory));
        let slow = lease.command("sleep").arg("1000").timeout(Duration::from_millis(50)).run().await.unwrap();
        assert_eq!(slow.report.cause, Cause::Limit(LimitKind::Wall));
        let spent = lease.id().to_owned();
        drop(lease);
        let next = wait::soon("take", pool.take()).await.unwrap();
        assert_ne!(next.id(), spent);
        assert!(next.command("true").run().await.unwrap().report.success());
    });
}

fn what_can_never_be_made_is_told(scene: &Scene) {
    play(scene, async |supervisor| {
        let pool = Pool::running(supervisor.command("no-such-program")).idle(1).build(supervisor).unwrap();
        let error = wait::soon("take", pool.take()).await.unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::CommandNotFound, Some("argv[0]")));
        let dir = Sandbox::builder().rootfs_dir("/no/such/root", orangery::Access::ReadOnly).build().unwrap();
        let pool = Pool::builder(&dir).build(supervisor).unwrap();
        assert!(wait::soon("filled", pool.filled()).await.is_err());
        assert!(pool.inspect().error.is_some() && pool.inspect().made == 0);
    });
}

fn the_output_limit_is_each_commands(scene: &Scene) {
    play(scene, async |supervisor| {
        let sandbox = Sandbox::builder().output(4096).build().unwrap();
        let pool = Pool::builder(&sandbox).idle(1).most(1).build(supervisor).unwrap();
        let lease = wait::soon("take", pool.take()).await.unwrap();
        for _ in 0..2 {
            let flood = lease.command("yes").run().await.unwrap();
            assert_eq!(flood.report.cause, Cause::Limit(LimitKind::Output));
            assert_eq!(flood.stdout.to_vec().len(), 4096);
        }
        assert!(lease.command("true").run().await.unwrap().report.success(), "the sandbox lives on");
    });
}

fn an_end_in_the_middle_of_everything(scene: &Scene) {
    play(scene, async |supervisor| {
        let pool = pool(supervisor, 4, 8);
        let lease = wait::soon("take", pool.take()).await.unwrap();
        let running = lease.command("sleep").arg("1000").spawn().await.unwrap();
        let waiting: Vec<_> = (0..20).map(|_| tokio::spawn(pool.take())).collect();
        wait::soon("shutdown", supervisor.shutdown()).await;
        for taker in waiting {
            match wait::soon("an answer", taker).await.unwrap() {
                Ok(lease) => drop(lease),
                Err(error) => {
                    assert!(matches!(error.kind(), ErrorKind::ShutDown | ErrorKind::SupervisorFault), "{error}")
                }
            }
        }
        drop((running, lease, pool));
        assert_eq!(processes(), []);
    });
}
