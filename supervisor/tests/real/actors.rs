//! Actors that fail, on real containers: each handler panics once, mailboxes are flooded, and the kill, the exit and
//! the bytes arrive all the same. What is left of it all is the kit's to find.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use orangery::faults::{Fault, FaultPoint, FaultPolicy, Site};
use orangery::{Cause, ContainerHandle, ErrorKind, ExitStatus, Limits, Measured, Sandbox, Stdin, Supervisor};
use orangery_tests::{Scene, Trial, trial, wait};
use tokio::io::AsyncWriteExt as _;

use crate::stage::{builder, play};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial!(each_handler_of_a_process_panics),
        trial!(each_handler_of_a_container_panics),
        trial!(the_pause_of_a_container_panics, Freezer),
        trial!(creating_and_listing_panic),
        trial!(the_news_of_an_end_is_lost),
        trial!(the_news_of_the_last_end_is_lost_in_a_shutdown),
        trial!(the_shutdown_is_lost),
        trial!(a_broken_actor_takes_its_workload_along),
        trial!(a_flooded_mailbox),
    ]
}

/// Panics at handlers of this message, this often.
struct PanicAt {
    message: &'static str,
    times: AtomicU32,
}

impl FaultPolicy for PanicAt {
    fn decide(&self, at: &FaultPoint<'_>) -> Fault {
        let (Site::ManagerMessage(name) | Site::ContainerMessage(name) | Site::ProcessMessage(name)) = at.site else {
            return Fault::Continue;
        };
        let spend = |left: u32| left.checked_sub(1);
        if name == self.message && self.times.fetch_update(Ordering::SeqCst, Ordering::SeqCst, spend).is_ok() {
            return Fault::Panic;
        }
        Fault::Continue
    }
}

fn faulty(scene: &Scene, message: &'static str, times: u32, play: impl AsyncFnOnce(&Supervisor)) {
    let policy = Arc::new(PanicAt { message, times: times.into() });
    scene.block_on(async {
        let supervisor = builder(scene).fault_policy(Arc::clone(&policy) as Arc<dyn FaultPolicy>).build().unwrap();
        play(&supervisor).await;
        wait::soon("shutdown", supervisor.shutdown()).await;
    });
    let left = policy.times.load(Ordering::SeqCst);
    assert!(left == 0 || times == u32::MAX, "{message} was not asked often enough: {left}");
}

/// Ignores TERM, says each line that it is told, and exits with 7 at the end of its input.
async fn parrot(supervisor: &Supervisor) -> ContainerHandle {
    let script = "trap '' TERM; while read line; do echo $line; done; exit 7";
    supervisor.command("sh").arg("-c").arg(script).stdin(Stdin::Piped).spawn().await.unwrap()
}

fn each_handler_of_a_process_panics(scene: &Scene) {
    for message in ["signal", "stop", "exited"] {
        faulty(scene, message, 1, async |supervisor| {
            let container = parrot(supervisor).await;
            let mut stdin = container.stdin().unwrap();
            stdin.write_all(b"before\n").await.unwrap();
            let lost = match message {
                "signal" => container.process().signal_in_order(15).await.unwrap_err().kind(),
                "stop" => container.stop(15, Duration::from_secs(3600)).await.unwrap_err().kind(),
                _ => ErrorKind::SupervisorFault,
            };
            assert_eq!(lost, ErrorKind::SupervisorFault, "only the message in hand is lost");
            stdin.write_all(b"after\n").await.unwrap();
            stdin.shutdown().await.unwrap();
            let report = wait::soon("the report", container.wait()).await.unwrap();
            assert_eq!((report.exit, &report.stdout.bytes), (ExitStatus::Code(7), &Measured::Known(13)), "{message}");
            let output = container.stdout().collect(100).await;
            assert_eq!(output.to_vec(), b"before\nafter\n", "{message}");
        });
    }
}

fn each_handler_of_a_container_panics(scene: &Scene) {
    for message in ["exec", "update", "removed"] {
        faulty(scene, message, 1, async |supervisor| {
            let container = supervisor.command("sleep").arg("1000").spawn().await.unwrap();
            let lost = match message {
                "exec" => container.command("true").spawn().await.map(drop).unwrap_err().kind(),
                "update" => container.update(Limits::default()).await.unwrap_err().kind(),
                _ => ErrorKind::SupervisorFault,
            };
            assert_eq!(lost, ErrorKind::SupervisorFault);
            let more = container.command("sh").arg("-c").arg("exit 3").spawn().await.unwrap();
            assert_eq!(more.wait().await.unwrap().exit, ExitStatus::Code(3));
            container.update(Limits::default()).await.unwrap();
            killed(&container).await;
        });
    }
}

async fn killed(container: &ContainerHandle) {
    container.kill().unwrap();
    let report = wait::soon("the report", container.wait()).await.unwrap();
    assert!(matches!(report.exit, ExitStatus::Signal { signal: 9, .. }), "{report:?}");
}

fn the_pause_of_a_container_panics(scene: &Scene) {
    faulty(scene, "pause", 1, async |supervisor| {
        let container = supervisor.command("sleep").arg("1000").spawn().await.unwrap();
        assert_eq!(container.pause().await.unwrap_err().kind(), ErrorKind::SupervisorFault);
        container.pause().await.unwrap();
        killed(&container).await;
    });
}

fn creating_and_listing_panic(scene: &Scene) {
    faulty(scene, "create", 2, async |supervisor| {
        for _ in 0..2 {
            let error = supervisor.command("true").run().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::SupervisorFault);
            assert!(error.retryable());
        }
        assert!(supervisor.command("true").run().await.unwrap().report.success());
    });
    faulty(scene, "list", 1, async |supervisor| {
        let container = supervisor.command("sleep").arg("1000").spawn().await.unwrap();
        assert_eq!(supervisor.list().await.unwrap_err().kind(), ErrorKind::SupervisorFault);
        assert_eq!(supervisor.list().await.unwrap().len(), 1);
        killed(&container).await;
    });
}

/// The name is free again, and nobody waits for a ghost.
fn the_news_of_an_end_is_lost(scene: &Scene) {
    faulty(scene, "gone", 1, async |supervisor| {
        let sandbox = Sandbox::builder().id("twice").build().unwrap();
        assert!(supervisor.command("true").sandbox(&sandbox).run().await.unwrap().report.success());
        // The report may be quicker than the news.
        wait::soon("an empty list", async { while !supervisor.list().await.unwrap().is_empty() {} }).await;
        assert!(supervisor.command("true").sandbox(&sandbox).run().await.unwrap().report.success());
    });
}

fn the_news_of_the_last_end_is_lost_in_a_shutdown(scene: &Scene) {
    faulty(scene, "gone", 2, async |supervisor| {
        for _ in 0..2 {
            supervisor.command("sleep").arg("1000").spawn().await.unwrap().detach();
        }
    });
}

fn the_shutdown_is_lost(scene: &Scene) {
    faulty(scene, "shut down", 2, async |supervisor| {
        supervisor.command("sleep").arg("1000").spawn().await.unwrap().detach();
    });
}

/// Six panics within five seconds: it is never left unmanaged.
fn a_broken_actor_takes_its_workload_along(scene: &Scene) {
    faulty(scene, "signal", u32::MAX, async |supervisor| {
        let container = parrot(supervisor).await;
        for _ in 0..6 {
            assert!(container.process().signal_in_order(15).await.is_err());
        }
        let report = wait::soon("the report", container.wait()).await.unwrap();
        assert_eq!(report.cause, Cause::SupervisorFault);
        assert!(supervisor.command("true").run().await.unwrap().report.success(), "the others are untouched");
    });
}

/// A hundred thousand messages lie before the actor: bytes, kill and exit pass them.
fn a_flooded_mailbox(scene: &Scene) {
    play(scene, async |supervisor| {
        let container = parrot(supervisor).await;
        let (mut stdin, mut output) = (container.stdin().unwrap(), container.stdout());
        let mut say = async |line: &[u8]| {
            stdin.write_all(line).await.unwrap();
            let chunk = wait::soon("a line", output.recv()).await;
            assert!(matches!(&chunk, Some(orangery::Event::Chunk(chunk)) if &chunk.data[..] == line), "{chunk:?}");
        };
        // Who speaks ignores TERM already.
        say(b"ready\n").await;
        let flood: Vec<_> = (0..100_000).map(|_| container.process().stop(15, Duration::from_secs(3600))).collect();
        say(b"through\n").await;
        killed(&container).await;
        drop(flood);
    });
}
