//! The same configurations carried out by `orangery-oci`, runc and crun: what can be seen of the container is the same, or the
//! difference has a name (`known.rs`) and a line in docs/oci-differences.md.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: a panic is a failed trial"
)]

mod config;
mod known;
mod observe;
mod pairs;
mod run;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use orangery_tests::{Scene, trial, victim};

use known::{Difference, KNOWN};
use run::Runtime;

/// The table of all that is known.
const DOCUMENT: &str = include_str!("../../docs/oci-differences.md");
/// So many at a time.
const WORKERS: usize = 4;

fn main() -> ExitCode {
    if std::env::var_os(run::ROLE).is_some() {
        return orangery_oci::main(std::env::args_os());
    }
    let lacks = Runtime::others().is_empty().then_some("needs runc or crun");
    orangery_tests::main(&[trial!(the_same_as_others_see, Root, Cgroups)
        .skip_if(lacks)
        .within(Duration::from_secs(240))])
}

fn the_same_as_others_see(scene: &Scene) {
    let (ours, others) = (Runtime::ours(), Runtime::others());
    let mut cases = pairs::cases();
    if let Some(only) = std::env::var_os("ORANGERY_DIFFERENTIAL") {
        cases.retain(|case| only.to_str().is_some_and(|only| case.name().contains(only)));
    }
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mine = ours.carry_out(scene, case);
                    for other in &others {
                        let its = other.carry_out(scene, case);
                        let differ = Difference::between(case, other.name, &mine, &its);
                        found.lock().expect("no panic").extend(differ);
                    }
                }
            });
        }
    });
    victim::reap_adopted();
    judge(cases.len(), &others, &found.into_inner().expect("no panic"));
}

/// Each has a name, which the document explains.
fn judge(cases: usize, others: &[Runtime], found: &[Difference]) {
    for known in KNOWN {
        assert!(DOCUMENT.contains(&format!("\n| {} |", known.name)), "{} is not explained", known.name);
    }
    let mut met: BTreeMap<&str, usize> = BTreeMap::new();
    let mut strange = Vec::new();
    for difference in found {
        match KNOWN.iter().find(|known| known.is(difference)) {
            Some(known) => *met.entry(known.name).or_default() += 1,
            None => strange.push(difference.to_string()),
        }
    }
    println!(
        "{cases} configurations, {} others, {} differences, of these unknown {}",
        others.len(),
        found.len(),
        strange.len()
    );
    met.iter().for_each(|(name, count)| println!("{count:6} {name}"));
    strange.sort();
    assert!(strange.is_empty(), "{}", strange.join("\n"));
}
