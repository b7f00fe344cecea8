//! A supervisor that is stopped: what it has promised holds all the same.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use orangery::{Cause, Command as Work, ContainerHandle, ExitStatus, LimitKind, StopLadder, Supervisor};
use orangery_tests::{Scene, Trial, trial, wait};
use rustix::process::{Signal, pidfd_send_signal};

use crate::stage::{play, up};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial!(a_stopped_supervisor_does_not_lengthen_the_wall_limit),
        trial!(a_stopped_supervisor_asks_before_it_kills_at_the_wall_limit),
        trial!(a_stopped_supervisor_goes_on_with_a_stop_that_has_begun),
        trial!(a_stopped_supervisor_kills_at_the_end_of_a_stop),
        trial!(a_stopped_supervisor_kills_one_further_process_at_its_limit),
    ]
}

const ROLE: &str = "ORANGERY_TEST_STOPPED";
const SECOND: Duration = Duration::from_secs(1);
const KILLED: ExitStatus = ExitStatus::Signal { signal: 9, core_dumped: false };

fn is_stopped() -> bool {
    std::env::var_os(ROLE).is_some()
}

/// Requests reach the keeper in order: once this has run, what was armed before is there.
async fn armed(container: &ContainerHandle) {
    container.command("true").spawn().await.unwrap().wait().await.unwrap();
}

/// Stopped by SIGSTOP with a container that has a second to live. It dies in time; once the supervisor goes on, it
/// knows why.
fn a_stopped_supervisor_does_not_lengthen_the_wall_limit(scene: &Scene) {
    if is_stopped() {
        return play(scene, async |supervisor| {
            let container = supervisor.command("sleep").arg("1000").timeout(SECOND).spawn().await.unwrap();
            armed(&container).await;
            println!("{}", container.pid());
            let report = wait::soon("the end", container.wait()).await.unwrap();
            assert_eq!((report.exit, report.cause.clone()), (KILLED, Cause::Limit(LimitKind::Wall)));
        });
    }
    stop_it(scene);
}

/// Ends with code 5 when it is asked by the signal USR1, and not by TERM.
fn asked(supervisor: &Supervisor) -> Work {
    let script = "trap '' TERM; trap 'exit 5' USR1; echo ready; while :; do sleep 0.01; done";
    supervisor.command("sh").arg("-c").arg(script)
}

fn a_stopped_supervisor_asks_before_it_kills_at_the_wall_limit(scene: &Scene) {
    if is_stopped() {
        return play(scene, async |supervisor| {
            let ladder = StopLadder::new().then(15, SECOND / 2).then(10, 1000 * SECOND);
            let container = up(asked(supervisor).timeout(SECOND).timeout_ladder(ladder)).await;
            armed(&container).await;
            println!("{}", container.pid());
            let report = wait::soon("the end", container.wait()).await.unwrap();
            assert_eq!((report.exit, report.cause.clone()), (ExitStatus::Code(5), Cause::Limit(LimitKind::Wall)));
        });
    }
    stop_it(scene);
}

fn a_stopped_supervisor_goes_on_with_a_stop_that_has_begun(scene: &Scene) {
    if is_stopped() {
        return play(scene, async |supervisor| {
            let container = up(asked(supervisor)).await;
            let stop = container.stop_with(StopLadder::new().then(15, SECOND).then(10, 1000 * SECOND));
            armed(&container).await;
            println!("{}", container.pid());
            wait::soon("the stop", stop).await.unwrap();
            let report = wait::soon("the end", container.wait()).await.unwrap();
            let gently = Cause::Stop { escalated: false };
            assert_eq!((report.exit, report.cause.clone()), (ExitStatus::Code(5), gently));
        });
    }
    stop_it(scene);
}

fn a_stopped_supervisor_kills_at_the_end_of_a_stop(scene: &Scene) {
    if is_stopped() {
        return play(scene, async |supervisor| {
            let container = up(asked(supervisor)).await;
            let stop = container.stop(15, SECOND);
            armed(&container).await;
            println!("{}", container.pid());
            wait::soon("the stop", stop).await.unwrap();
            let report = wait::soon("the end", container.wait()).await.unwrap();
            assert_eq!((report.exit, report.cause.clone()), (KILLED, Cause::Stop { escalated: true }));
        });
    }
    stop_it(scene);
}

fn a_stopped_supervisor_kills_one_further_process_at_its_limit(scene: &Scene) {
    if is_stopped() {
        return play(scene, async |supervisor| {
            let container = supervisor.command("sleep").arg("1000").spawn().await.unwrap();
            let more = container.command("sleep").arg("1000").timeout(SECOND).spawn().await.unwrap();
            armed(&container).await;
            println!("{}", more.pid());
            let report = wait::soon("the end", more.wait()).await.unwrap();
            assert_eq!((report.exit, report.cause.clone()), (KILLED, Cause::Limit(LimitKind::Wall)));
            assert!(container.inspect().report.is_none(), "the container lives");
        });
    }
    stop_it(scene);
}

/// Stop the supervisor of this trial while it waits, until what it has told of has ended, and let it go on.
#[expect(clippy::disallowed_methods, reason = "a supervisor that can be stopped")]
fn stop_it(scene: &Scene) {
    let mut host = Command::new(std::env::current_exe().unwrap());
    let host = scene.share(&mut host).env(ROLE, "1").stdout(Stdio::piped());
    let mut host = host.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(host.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let container = wait::pidfd(line.trim().parse().unwrap());
    let ours = wait::pidfd(host.id());
    pidfd_send_signal(&ours, Signal::STOP).unwrap();
    wait::gone(&container, "the container of a stopped supervisor");
    let status = std::fs::read_to_string(format!("/proc/{}/status", host.id())).unwrap();
    assert!(status.contains("State:\tT"), "it is stopped all the while: {status}");
    pidfd_send_signal(&ours, Signal::CONT).unwrap();
    let status = wait::child(&mut host, wait::PATIENCE).unwrap();
    assert!(status.unwrap().success(), "{status:?}");
    let _ = std::fs::remove_dir(scene.state_dir());
}
