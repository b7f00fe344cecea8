//! A good guest: the host reaps what it likes and ignores what it likes, every report stays true all the same, and
//! nothing of the host's own is changed.

use std::collections::BTreeMap;

use nix::sys::signal::SigSet;
use orangery::{ErrorKind, ExitStatus, Supervisor};
use orangery_tests::{Scene, Trial, trial, wait};
use rustix::process::{WaitOptions, wait as wait_for_any};

use crate::stage::{builder, play};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial!(a_host_that_reaps_everything),
        trial!(a_host_that_ignores_sigchld).long(),
        trial!(a_host_with_children_of_its_own),
        trial!(a_host_that_blocks_every_signal),
        trial!(nothing_of_the_host_is_changed),
        trial!(the_keepers_death_is_seen),
    ]
}

/// Exit codes and signals of many commands, some at once, all true.
async fn true_reports(supervisor: &Supervisor) {
    let mut running = tokio::task::JoinSet::new();
    for n in 0..24 {
        let command = supervisor.command("sh").arg("-c").arg(format!("exit {n}"));
        running.spawn(async move { (n, command.run().await.unwrap().report) });
    }
    while let Some(ended) = running.join_next().await {
        let (n, report) = ended.unwrap();
        assert_eq!(report.exit, ExitStatus::Code(n));
        assert!(report.usage.known().is_some(), "{report:?}");
    }
    let killed = supervisor.command("sh").arg("-c").arg("kill -SEGV $$").run().await.unwrap();
    assert!(matches!(killed.report.exit, ExitStatus::Signal { signal: 11, .. }), "{:?}", killed.report);
}

/// As shells and old daemons do: nothing of ours is theirs but the keeper's own end.
fn a_host_that_reaps_everything(scene: &Scene) {
    let mut reaper = None;
    play(scene, async |supervisor| {
        reaper = Some(std::thread::spawn(|| {
            let mut taken = 0;
            while wait_for_any(WaitOptions::empty()).is_ok_and(|ended| ended.is_some()) {
                taken += 1;
            }
            taken
        }));
        true_reports(supervisor).await;
    });
    // The supervisor may be quicker.
    assert!(reaper.unwrap().join().unwrap() <= 1, "more than the keeper was the host's child");
}

#[expect(clippy::disallowed_methods, reason = "a host with another signal disposition is another process")]
fn a_host_that_ignores_sigchld(scene: &Scene) {
    const ROLE: &str = "ORANGERY_TEST_IGNORES";
    if std::env::var_os(ROLE).is_some() {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:\t")).unwrap();
        assert!(u64::from_str_radix(ignored, 16).unwrap() & 1 << 16 != 0, "SIGCHLD is not ignored: {status}");
        return play(scene, async |supervisor| true_reports(supervisor).await);
    }
    // env(1) hands ignored signals on.
    let mut host = std::process::Command::new("env");
    host.arg("--ignore-signal=CHLD").arg(std::env::current_exe().unwrap()).env(ROLE, "1");
    let status = wait::child(&mut scene.share(&mut host).spawn().unwrap(), 6 * wait::PATIENCE).unwrap();
    assert!(status.unwrap().success(), "{status:?}");
    let _ = std::fs::remove_dir(scene.state_dir());
}

/// tokio waits for its children with SIGCHLD: neither takes the other's.
fn a_host_with_children_of_its_own(scene: &Scene) {
    play(scene, async |supervisor| {
        let own = async {
            for n in 0..24 {
                let status = tokio::process::Command::new("sh").arg("-c").arg(format!("exit {n}")).status().await;
                assert_eq!(status.unwrap().code(), Some(n));
            }
        };
        tokio::join!(own, true_reports(supervisor));
    });
}

fn a_host_that_blocks_every_signal(scene: &Scene) {
    SigSet::all().thread_block().unwrap();
    play(scene, async |supervisor| {
        true_reports(supervisor).await;
        let masks = supervisor.command("grep").arg("SigBlk").arg("/proc/self/status").run().await.unwrap();
        assert_eq!(masks.stdout.to_vec(), b"SigBlk:\t0000000000000000\n", "the mask is not handed on");
    });
}

/// What belongs to the host's process as a whole.
fn of_the_host() -> BTreeMap<String, String> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap();
    let status = read("/proc/self/status");
    let wanted = ["Umask", "Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp", "CapInh", "CapPrm", "CapEff", "CapBnd"];
    let signals = ["SigBlk", "SigIgn", "SigCgt"];
    let mut found: BTreeMap<String, String> = status
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| wanted.contains(name) || signals.contains(name))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    for file in ["limits", "cgroup", "mountinfo", "oom_score_adj", "comm", "timerslack_ns"] {
        found.insert(file.to_owned(), read(&format!("/proc/self/{file}")));
    }
    for namespace in std::fs::read_dir("/proc/self/ns").unwrap().flatten() {
        let link = std::fs::read_link(namespace.path()).unwrap();
        found.insert(namespace.path().display().to_string(), link.display().to_string());
    }
    found.insert("cwd".to_owned(), std::env::current_dir().unwrap().display().to_string());
    found.insert("environment".to_owned(), format!("{:?}", std::env::vars_os().collect::<Vec<_>>()));
    found.insert("subreaper".to_owned(), format!("{:?}", rustix::process::child_subreaper().unwrap()));
    found.insert("dumpable".to_owned(), format!("{:?}", rustix::process::dumpable_behavior().unwrap()));
    // The kit's file for both.
    for (name, stream) in [("stdout", "/proc/self/fd/1"), ("stderr", "/proc/self/fd/2")] {
        found.insert(name.to_owned(), std::fs::metadata(stream).unwrap().len().to_string());
    }
    found
}

fn nothing_of_the_host_is_changed(scene: &Scene) {
    // The kit makes the trial a subreaper; the usual host is none.
    rustix::process::set_child_subreaper(None).unwrap();
    scene.block_on(async {
        let before = of_the_host();
        let same = |when: &str| {
            for (name, value) in of_the_host() {
                assert_eq!(before.get(&name), Some(&value), "{name} has changed {when}");
            }
        };
        let supervisor = builder(scene).build().unwrap();
        same("at the start");
        let container = supervisor.command("sleep").arg("1000").spawn().await.unwrap();
        same("with a container");
        container.kill().unwrap();
        container.wait().await.unwrap();
        true_reports(&supervisor).await;
        supervisor.command("no-such-program").run().await.unwrap_err();
        supervisor.shutdown().await;
        same("after the end");
    });
    rustix::process::set_child_subreaper(rustix::process::Pid::from_raw(1)).unwrap();
}

/// A new request says so; what lives can still be killed, and is still reported.
fn the_keepers_death_is_seen(scene: &Scene) {
    scene.block_on(async {
        let supervisor = builder(scene).build().unwrap();
        let container = supervisor.command("sleep").arg("1000").spawn().await.unwrap();
        let keeper = wait::pidfd(supervisor.native().unwrap().keeper_pid());
        wait::kill(&keeper);
        wait::gone(&keeper, "the keeper");
        let refused = wait::soon("a refusal", supervisor.command("true").run()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Keeper, "{refused}");
        assert!(refused.retryable());
        assert!(container.inspect().report.is_none(), "it lives on");
        container.kill().unwrap();
        let report = wait::soon("the report", container.wait()).await.unwrap();
        assert!(!report.success(), "{report:?}");
        assert!(matches!(report.exit, ExitStatus::Signal { signal: 9, .. } | ExitStatus::Lost), "{report:?}");
        wait::soon("shutdown", supervisor.shutdown()).await;
    });
}
