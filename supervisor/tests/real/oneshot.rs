//! One shot from start to end, and its blocking form: bounded output, a deadline, and nothing left of what is dropped on the
//! way, from every kind of program.

use std::time::Duration;

use futures_util::FutureExt as _;
use orangery::{Cause, ErrorKind, ExitStatus, LimitKind, Output, Pool, Sandbox, Supervisor, block_on};
use orangery_tests::{Scene, Trial, trial, wait};

use crate::stage::{builder, long_enough, play};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial!(ten_mebibytes_are_bounded_to_both_ends),
        trial!(a_deadline_is_a_report),
        trial!(dropping_a_further_run_at_every_poll_leaves_nothing),
        trial!(every_blocking_form_from_no_runtime),
        trial!(every_blocking_form_inside_runtimes),
    ]
}

/// 10 MiB of numbered lines of 16 bytes on both streams, of which 1,000 bytes each are kept.
fn ten_mebibytes_are_bounded_to_both_ends(scene: &Scene) {
    let check = |output: &Output| {
        let whole = 16 * 655_360;
        for captured in [&output.stdout, &output.stderr] {
            assert_eq!((captured.head.len(), captured.tail.len(), captured.omitted), (500, 500, whole - 1000));
            assert!(captured.head.starts_with(b"000000000000001\n000000000000002\n"));
            assert!(captured.tail.ends_with(b"000000000655359\n000000000655360\n"));
        }
        assert_eq!(output.report.stdout.bytes.known(), Some(&whole));
        assert_eq!(output.report.exit, ExitStatus::Code(3));
    };
    let script = "seq -f %015.0f 1 655360; seq -f %015.0f 1 655360 >&2; exit 3";
    play(scene, async |supervisor| {
        let command = supervisor.command("sh").args(["-c", script]).capture(1000);
        check(&command.clone().run().await.unwrap());
        check(&tokio::task::block_in_place(|| command.run_blocking()).unwrap());
        let container = supervisor.command("sleep").arg("1000").spawn().await.unwrap();
        check(&container.command("sh").args(["-c", script]).capture(1000).run().await.unwrap());
    });
}

fn a_deadline_is_a_report(scene: &Scene) {
    play(scene, async |supervisor| {
        let limit = Duration::from_millis(200);
        // What it has started goes along, and what it has said by then is there.
        let script = "echo begun; (setsid sleep 1000 &); exec sleep 1000";
        let command = supervisor.command("sh").args(["-c", script]);
        let output = long_enough(async |limit| command.clone().timeout(limit).run().await.unwrap()).await;
        assert_eq!((output.report.cause, output.stdout.to_vec()), (Cause::Limit(LimitKind::Wall), b"begun\n".to_vec()));
        let container = supervisor.command("sleep").arg("1000").spawn().await.unwrap();
        let further = container.command("sleep").arg("1000").timeout(limit).run().await.unwrap();
        assert_eq!(further.report.cause, Cause::Limit(LimitKind::Wall));
        assert!(container.command("true").run().await.unwrap().report.success());
    });
}

fn dropping_a_further_run_at_every_poll_leaves_nothing(scene: &Scene) {
    play(scene, async |supervisor| {
        let container = supervisor.command("sleep").arg("1000").spawn().await.unwrap();
        for polls in 0..24 {
            let mut running = Box::pin(container.command("sh").args(["-c", "echo; exec sleep 1000"]).run());
            for _ in 0..polls {
                assert!((&mut running).now_or_never().is_none());
                tokio::task::yield_now().await;
            }
        }
        // The container lives on with its main process alone.
        wait::soon("the last of them", async {
            while container.processes().len() > 1 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    });
}

/// One of each.
fn all_blocking(supervisor: &Supervisor) {
    assert_eq!(supervisor.command("echo").arg("hi").run_blocking().unwrap().stdout.to_vec(), b"hi\n");
    let container = supervisor.command("sleep").arg("1000").spawn_blocking().unwrap();
    assert!(container.command("true").run_blocking().unwrap().report.success());
    let further = container.command("sh").args(["-c", "exit 3"]).spawn_blocking().unwrap();
    assert_eq!(further.wait_blocking().unwrap().exit, ExitStatus::Code(3));
    let further = container.command("sleep").arg("1000").spawn_blocking().unwrap();
    further.stop_blocking(15, Duration::from_secs(60)).unwrap();
    assert_eq!(further.wait_blocking().unwrap().cause, Cause::Stop { escalated: false });
    container.stop_blocking(15, Duration::from_secs(60)).unwrap();
    assert_eq!(container.wait_blocking().unwrap().exit, ExitStatus::Signal { signal: 15, core_dumped: false });
    container.delete_blocking().unwrap();
    let pool = Pool::builder(&Sandbox::default()).idle(1).most(2).build(supervisor).unwrap();
    let lease = pool.take_blocking().unwrap();
    assert!(lease.command("true").run_blocking().unwrap().report.success());
    drop(lease);
    block_on(pool.close());
    let refused = supervisor.command("no-such-program").run_blocking().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::CommandNotFound);
}

fn every_blocking_form_from_no_runtime(scene: &Scene) {
    let supervisor = builder(scene).build().expect("a supervisor");
    all_blocking(&supervisor);
    supervisor.shutdown_blocking();
}

fn every_blocking_form_inside_runtimes(scene: &Scene) {
    let supervisor = builder(scene).build().expect("a supervisor");
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("tokio");
    tokio.block_on(async { all_blocking(&supervisor) });
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("tokio");
    let for_worker = supervisor.clone();
    tokio.block_on(async { tokio::spawn(async move { all_blocking(&for_worker) }).await.unwrap() });
    drop(tokio);
    actix_rt::System::new().block_on(async { all_blocking(&supervisor) });
    futures_executor::block_on(async { all_blocking(&supervisor) });
    supervisor.shutdown_blocking();
}
