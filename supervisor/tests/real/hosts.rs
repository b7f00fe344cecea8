//! From every kind of program: the futures need no runtime, and neither does the end of a supervisor. actix-web itself, a
//! real server of it, is tested with its example.

use orangery::{ContainerHandle, ExitStatus, Supervisor};
use orangery_tests::{Scene, Trial, trial, wait};

use crate::stage::{builder, settled};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial!(from_a_multi_threaded_runtime),
        trial!(from_the_runtime_of_tokio_test),
        trial!(from_an_actix_system),
        trial!(from_a_foreign_executor),
        trial!(from_no_runtime),
        trial!(the_blocking_form_inside_runtimes),
        trial!(dropped_in_a_multi_threaded_runtime),
        trial!(dropped_in_the_runtime_of_tokio_test),
        trial!(dropped_in_an_actix_system),
        trial!(dropped_in_a_foreign_executor),
        trial!(dropped_without_a_runtime),
        trial!(dropped_by_a_panic),
    ]
}

/// One of each thing that a handle can do.
async fn life(supervisor: Supervisor) {
    let output = supervisor.command("sh").arg("-c").arg("echo hi; exit 3").run().await.unwrap();
    assert_eq!((output.stdout.to_vec(), output.report.exit), (b"hi\n".to_vec(), ExitStatus::Code(3)));
    let container = sleeping(&supervisor).await;
    let process = container.command("echo").arg("more").spawn().await.unwrap();
    assert_eq!(process.stdout().collect(100).await.to_vec(), b"more\n");
    assert_eq!(supervisor.list().await.unwrap().len(), 1);
    container.kill().unwrap();
    assert!(matches!(container.wait().await.unwrap().exit, ExitStatus::Signal { signal: 9, .. }));
    supervisor.shutdown().await;
}

async fn sleeping(supervisor: &Supervisor) -> ContainerHandle {
    supervisor.command("sleep").arg("1000").spawn().await.unwrap()
}

fn start(scene: &Scene) -> Supervisor {
    builder(scene).build().expect("a supervisor")
}

fn multi_threaded() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("tokio")
}

/// What the macro `#[tokio::test]` makes of a function.
fn of_tokio_test() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("tokio")
}

fn from_a_multi_threaded_runtime(scene: &Scene) {
    let supervisor = start(scene);
    // Spawned, so that the future is polled by a worker.
    multi_threaded().block_on(async { tokio::spawn(life(supervisor)).await.unwrap() });
}

fn from_the_runtime_of_tokio_test(scene: &Scene) {
    of_tokio_test().block_on(async { life(start(scene)).await });
}

fn from_an_actix_system(scene: &Scene) {
    actix_rt::System::new().block_on(async { life(start(scene)).await });
}

fn from_a_foreign_executor(scene: &Scene) {
    futures_executor::block_on(life(start(scene)));
}

fn from_no_runtime(scene: &Scene) {
    let supervisor = start(scene);
    let output = supervisor.command("echo").arg("hi").run_blocking().unwrap();
    assert_eq!(output.stdout.to_vec(), b"hi\n");
    let container = supervisor.command("sleep").arg("1000").spawn_blocking().unwrap();
    container.kill().unwrap();
    assert!(matches!(container.wait_blocking().unwrap().exit, ExitStatus::Signal { signal: 9, .. }));
    supervisor.shutdown_blocking();
}

/// It blocks the thread, as it says; it neither panics nor waits for the runtime that it blocks.
fn the_blocking_form_inside_runtimes(scene: &Scene) {
    let supervisor = start(scene);
    let hi = || {
        let output = supervisor.command("echo").arg("hi").run_blocking().unwrap();
        assert_eq!(output.stdout.to_vec(), b"hi\n");
    };
    multi_threaded().block_on(async { hi() });
    of_tokio_test().block_on(async { hi() });
    actix_rt::System::new().block_on(async { hi() });
    futures_executor::block_on(async { hi() });
    of_tokio_test().block_on(async { start(scene).shutdown_blocking() });
    supervisor.shutdown_blocking();
}

/// Drop the last supervisor in `host` while a container runs. Its keeper is stopped meanwhile, so that nothing of the
/// clean-up can be done: a drop that waited for any of it would never come back.
fn dropped(scene: &Scene, host: impl FnOnce(Box<dyn FnOnce() + Send>)) {
    let before = scene.stock();
    let supervisor = start(scene);
    let container = futures_executor::block_on(sleeping(&supervisor));
    let keeper = wait::pidfd(supervisor.native().expect("native").keeper_pid());
    rustix::process::pidfd_send_signal(&keeper, rustix::process::Signal::STOP).expect("stopped");
    host(Box::new(move || drop(supervisor)));
    rustix::process::pidfd_send_signal(&keeper, rustix::process::Signal::CONT).expect("goes on");
    assert!(matches!(container.wait_blocking().unwrap().exit, ExitStatus::Signal { signal: 9, .. }));
    wait::gone(&keeper, "the keeper");
    drop((container, keeper));
    settled(scene, &before);
}

fn dropped_in_a_multi_threaded_runtime(scene: &Scene) {
    dropped(scene, |drop| multi_threaded().block_on(async { tokio::spawn(async { drop() }).await.unwrap() }));
}

fn dropped_in_the_runtime_of_tokio_test(scene: &Scene) {
    dropped(scene, |drop| of_tokio_test().block_on(async { drop() }));
}

fn dropped_in_an_actix_system(scene: &Scene) {
    dropped(scene, |drop| actix_rt::System::new().block_on(async { drop() }));
}

fn dropped_in_a_foreign_executor(scene: &Scene) {
    dropped(scene, |drop| futures_executor::block_on(async { drop() }));
}

fn dropped_without_a_runtime(scene: &Scene) {
    dropped(scene, |drop| drop());
}

/// A second panic while the first one unwinds would abort.
fn dropped_by_a_panic(scene: &Scene) {
    dropped(scene, |drop| {
        let unwound = std::thread::spawn(move || {
            struct OnDrop(Option<Box<dyn FnOnce() + Send>>);
            impl Drop for OnDrop {
                fn drop(&mut self) {
                    self.0.take().expect("once")();
                }
            }
            let _holds = OnDrop(Some(drop));
            panic!("on purpose");
        });
        unwound.join().expect_err("it panicked");
    });
}
