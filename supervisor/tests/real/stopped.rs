//! A supervisor that is stopped: what it has promised holds all the same.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use orangery::{Cause, Command as Work, ContainerHandle, ExitStatus, LimitKind, StopLadder, Supervisor};
use orangery_tests::{Scene, Trial, trial, wait};
use rustix::process::{Signal, pidfd_send_signal};

use crate::durable::settle;
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

/// That it is to be stopped, and the seconds that its container has.
const ROLE: &str = "ORANGERY_TEST_STOPPED";
const KILLED: ExitStatus = ExitStatus::Signal { signal: 9, core_dumped: false };

fn role() -> Option<Duration> {
    std::env::var(ROLE).ok().map(|seconds| Duration::from_secs(seconds.parse().expect("a number")))
}

/// Requests reach the keeper in order: once this has run, what was armed before is there.
async fn armed(container: &ContainerHandle) {
    container.command("true").spawn().await.unwrap().wait().await.unwrap();
}

/// Stopped by SIGSTOP with a container that has seconds to live. It dies in time; once the supervisor goes on, it
/// knows why.
fn a_stopped_supervisor_does_not_lengthen_the_wall_limit(scene: &Scene) {
    if let Some(limit) = role() {
        return play(scene, async |supervisor| {
            let container = supervisor.command("sleep").arg("1000").timeout(limit).spawn().await.unwrap();
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
    if let Some(limit) = role() {
        return play(scene, async |supervisor| {
            let ladder = StopLadder::new().then(15, limit / 2).then(10, 1000 * limit);
            let container = up(asked(supervisor).timeout(limit).timeout_ladder(ladder)).await;
            armed(&container).await;
            println!("{}", container.pid());
            let report = wait::soon("the end", container.wait()).await.unwrap();
            assert_eq!((report.exit, report.cause.clone()), (ExitStatus::Code(5), Cause::Limit(LimitKind::Wall)));
        });
    }
    stop_it(scene);
}

fn a_stopped_supervisor_goes_on_with_a_stop_that_has_begun(scene: &Scene) {
    if let Some(limit) = role() {
        return play(scene, async |supervisor| {
            let container = up(asked(supervisor)).await;
            let stop = container.stop_with(StopLadder::new().then(15, limit).then(10, 1000 * limit));
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
    if let Some(limit) = role() {
        return play(scene, async |supervisor| {
            let container = up(asked(supervisor)).await;
            let stop = container.stop(15, limit);
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
    if let Some(limit) = role() {
        return play(scene, async |supervisor| {
            let container = supervisor.command("sleep").arg("1000").spawn().await.unwrap();
            let more = container.command("sleep").arg("1000").timeout(limit).spawn().await.unwrap();
            armed(&container).await;
            println!("{}", more.pid());
            let report = wait::soon("the end", more.wait()).await.unwrap();
            assert_eq!((report.exit, report.cause.clone()), (KILLED, Cause::Limit(LimitKind::Wall)));
            assert!(container.inspect().report.is_none(), "the container lives");
        });
    }
    stop_it(scene);
}

/// With so much time that it is stopped before that is over: more and more of it on a busy machine.
fn stop_it(scene: &Scene) {
    assert!([1, 3, 9].into_iter().any(|seconds| is_stopped_in_time(scene, seconds)), "never in time");
}

/// Stop the supervisor of this trial while it waits, until what it has told of has ended, and let it go on. `false`: that had
/// ended before, and nothing is shown by it.
#[expect(clippy::disallowed_methods, reason = "a supervisor that can be stopped")]
fn is_stopped_in_time(scene: &Scene, seconds: u64) -> bool {
    let mut host = Command::new(std::env::current_exe().unwrap());
    let host = scene.share(&mut host).env(ROLE, seconds.to_string()).stdout(Stdio::piped());
    let mut host = host.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(host.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ours = wait::pidfd(host.id());
    wait::stop(&ours);
    let process = line.trim().parse().ok().and_then(wait::try_pidfd);
    let process = process.filter(|process| !wait::readable(process, Duration::ZERO));
    if let Some(process) = &process {
        wait::gone(process, "the container of a stopped supervisor");
        let status = std::fs::read_to_string(format!("/proc/{}/status", host.id())).unwrap();
        assert!(status.contains("State:\tT"), "it is stopped all the while: {status}");
    }
    pidfd_send_signal(&ours, Signal::CONT).unwrap();
    let status = wait::child(&mut host, wait::PATIENCE * 2).unwrap();
    assert!(process.is_none() || status.unwrap().success(), "{status:?}");
    // One that has failed has left it to its keeper to clean up.
    settle(scene);
    let _ = std::fs::remove_dir(scene.state_dir());
    process.is_some()
}
