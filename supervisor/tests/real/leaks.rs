//! A thousand lives in one supervisor leave nothing, whether it goes on, ends, or is killed halfway.

use orangery::{Command, Supervisor};
use orangery_tests::stock::{Stock, descendants};
use orangery_tests::victim::{self, Victim, reap_adopted};
use orangery_tests::{Scene, Trial, trial, wait};

use crate::stage::{builder, play};

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial!(a_thousand_runs).long(), trial!(killed_halfway_through_a_thousand_runs).long()]
}

const RUNS: usize = 1000;
/// At a time.
const WIDTH: usize = 8;

fn command(supervisor: &Supervisor) -> Command {
    supervisor.command("true")
}

/// Run all, some at a time; `each` is told after every end.
async fn runs(supervisor: &Supervisor, count: usize, mut each: impl FnMut(usize)) {
    let mut running = tokio::task::JoinSet::new();
    for n in 0..count + WIDTH {
        if n >= WIDTH {
            let output: Result<orangery::Output, _> = running.join_next().await.expect("one").expect("no panic");
            assert!(output.expect("it ran").report.success());
            each(n - WIDTH + 1);
        }
        if n < count {
            running.spawn(command(supervisor).run());
        }
    }
}

/// What is there while the supervisor stands: its keeper, its threads, and the user namespaces that it keeps for id
/// ranges (bounded) are its own.
fn standing(scene: &Scene) -> Stock {
    let mut stock = scene.stock();
    stock.threads = 0;
    stock.processes.retain(|process| !process.ends_with(" Z"));
    stock.descriptors.retain(|_, what| !what.starts_with("user:["));
    stock
}

fn a_thousand_runs(scene: &Scene) {
    play(scene, async |supervisor| {
        // Every shard has its thread, every cache is filled.
        runs(supervisor, 64, |_| ()).await;
        let before = standing(scene);
        let numbers = before.descriptors.len();
        runs(supervisor, RUNS, |_| ()).await;
        let mut after = standing(scene);
        // The report comes after the removal, but the last mailbox may still hold a slot.
        for _ in 0..50 {
            if before.left_over(&after).is_empty() {
                break;
            }
            command(supervisor).run().await.expect("it ran");
            after = standing(scene);
        }
        assert_eq!(before.left_over(&after), Vec::<String>::new());
        assert!(after.descriptors.len() <= numbers);
        assert!(supervisor.list().await.expect("listed").is_empty());
    });
}

/// `kill -9` of the supervisor when half are done, with more under way: the keeper removes all, to the last file.
fn killed_halfway_through_a_thousand_runs(scene: &Scene) {
    if victim::role().is_some() {
        return scene.block_on(async {
            let supervisor = builder(scene).build().expect("a supervisor");
            // More than it will live to see.
            runs(&supervisor, 100 * RUNS, |done| println!("{done}")).await;
        });
    }
    let mounts = scene.stock().mounts;
    let mut victim = Victim::start(scene, "runs");
    for done in 1..=RUNS / 2 {
        assert_eq!(victim.line(), done.to_string());
    }
    // In the middle of things: a keeper and some of the eight that are under way.
    let family = loop {
        let family = victim.family();
        if family.len() > 2 {
            break family;
        }
    };
    victim.kill();
    for (process, pidfd) in &family {
        wait::gone(pidfd, &process.to_string());
    }
    // Somebody may have been born between the look and the kill; the keeper, which is the last to go, waited for it.
    reap_adopted();
    assert_eq!(descendants(std::process::id()), []);
    let stock = scene.stock();
    assert!(stock.cgroups.is_empty() && stock.files.is_empty(), "{stock:?}");
    assert_eq!(stock.mounts, mounts);
    let _ = std::fs::remove_dir(scene.state_dir());
}
