//! `panic = "abort"` in the host's profile: an actor's panic is the end of the host, and the keeper cleans everything up.
//!
//! The host is another program of another profile; CI builds it and says where it is:
//! `cargo build --profile abort -p orangery --example abort_host --features faults`, then `ORANGERY_ABORT_HOST=FILE`.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use orangery_tests::stock::descendants;
use orangery_tests::victim::reap_adopted;
use orangery_tests::{Scene, Trial, trial, wait};

pub(crate) fn trials() -> Vec<Trial> {
    let skipped =
        host().is_none().then_some("no host with panic=abort: build one and say where it is (ORANGERY_ABORT_HOST)");
    vec![trial!(an_aborting_host_leaves_nothing).skip_if(skipped)]
}

fn host() -> Option<PathBuf> {
    std::env::var_os("ORANGERY_ABORT_HOST").map(PathBuf::from).filter(|file| file.exists())
}

#[expect(clippy::disallowed_methods, reason = "the host under test")]
fn an_aborting_host_leaves_nothing(scene: &Scene) {
    let mut command = Command::new(host().expect("a host"));
    command.arg(scene.state_dir()).args(scene.options().cgroup_parent);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut host = command.spawn().expect("started");
    let mut said = String::new();
    BufReader::new(host.stdout.take().expect("stdout")).read_line(&mut said).expect("a line");
    assert_eq!(said, "ready\n");
    let family: Vec<(String, OwnedFd)> = descendants(host.id())
        .into_iter()
        .filter_map(|process| Some((process.to_string(), wait::try_pidfd(process.pid)?)))
        .collect();
    assert!(family.len() >= 5, "a keeper, two stubs, two commands: {family:?}");
    host.stdin.take().expect("stdin").write_all(b"\n").expect("written");
    let mut errors = String::new();
    host.stderr.take().expect("stderr").read_to_string(&mut errors).expect("its log");
    let status = wait::child(&mut host, wait::PATIENCE).expect("waited").expect("in time");
    assert_eq!(status.signal(), Some(6), "{status:?}: {errors}");
    assert_eq!(errors.matches("panic=abort").count(), 1, "said once, though two were started: {errors}");
    for (process, pidfd) in &family {
        wait::gone(pidfd, process);
    }
    reap_adopted();
    let stock = scene.stock();
    assert!(stock.cgroups.is_empty() && stock.files.is_empty(), "{stock:?}");
    let _ = std::fs::remove_dir(scene.state_dir());
}
