//! A supervisor that is stopped: what it has promised holds all the same.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use orangery::{Cause, LimitKind, Sandbox};
use orangery_tests::{Scene, Trial, trial, wait};
use rustix::process::{Signal, pidfd_send_signal};

use crate::stage::play;

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial!(a_stopped_supervisor_does_not_lengthen_the_wall_limit)]
}

/// Stopped by SIGSTOP with a container that has a second to live. It dies in time; once the supervisor goes on, it
/// knows why.
#[expect(clippy::disallowed_methods, reason = "a supervisor that can be stopped")]
fn a_stopped_supervisor_does_not_lengthen_the_wall_limit(scene: &Scene) {
    const ROLE: &str = "ORANGERY_TEST_STOPPED";
    if std::env::var_os(ROLE).is_some() {
        return play(scene, async |supervisor| {
            let sandbox = Sandbox::builder().wall(Duration::from_secs(1)).build().unwrap();
            let container = supervisor.command("sleep").arg("1000").sandbox(&sandbox).spawn().await.unwrap();
            // Requests reach the keeper in order: once this has run, the deadline is there.
            container.command("true").spawn().await.unwrap().wait().await.unwrap();
            println!("{}", container.inspect().pid.unwrap());
            let report = wait::soon("the end", container.wait()).await.unwrap();
            assert_eq!(report.cause, Cause::Limit(LimitKind::Wall));
        });
    }
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
