//! Killed at each step: every one that a durable supervisor passes while it has again what another one has left, makes, ends, forgets and
//! leaves, at its first time and at its last. Whoever comes next has everything once, or nothing of it.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Arc, Mutex};

use orangery::faults::{Fault, FaultPoint, FaultPolicy, Site, Step};
use orangery::stream::log::LogOptions;
use orangery::{Cause, ExitStatus, Stdin, Supervisor};
use orangery_tests::victim::{self, Victim, reap_adopted};
use orangery_tests::{Scene, Trial, trial, wait};
use rustix::process::{Signal, getpid, kill_process};

use crate::durable::{dir, durable, end, found, settle, stand};
use crate::stage;

pub(crate) fn trials() -> Vec<Trial> {
    // Some sixty lives of three supervisors each.
    vec![
        trial!(whoever_is_killed_at_a_step_is_succeeded).within(std::time::Duration::from_secs(600)),
        trial!(what_is_lost_is_told_once),
    ]
}

/// Counts what is passed into a file, and ends this process where it is told to.
struct Passed {
    count: Mutex<BTreeMap<String, u64>>,
    file: std::path::PathBuf,
    at: Option<(String, u64)>,
}

impl FaultPolicy for Passed {
    fn decide(&self, at: &FaultPoint<'_>) -> Fault {
        let name = match at.site {
            Site::Record(_) | Site::Stage(_) | Site::StartGate | Site::ReportDelivery | Site::Log => {
                format!("{:?}", at.site)
            }
            _ => return Fault::Continue,
        };
        let mut count = self.count.lock().expect("no panic");
        let passed = count.entry(name.clone()).or_default();
        *passed += 1;
        if self.at.as_ref().is_some_and(|(site, time)| *site == name && time == passed) {
            let _ = kill_process(getpid(), Signal::KILL);
        }
        let mut file = std::fs::File::options().create(true).append(true).open(&self.file).expect("a file");
        writeln!(file, "{name}").expect("written");
        Fault::Continue
    }
}

/// Lines of each, and how it ends.
const LINES: usize = 100;
const SCRIPT: &str = "i=0; while [ $i -lt 100 ]; do echo line $i; i=$((i+1)); done; read x; exit 7";

fn lines() -> String {
    (0..LINES).map(|n| format!("line {n}\n")).collect()
}

async fn make(supervisor: &Supervisor, id: &str) {
    let command = supervisor.command("sh").arg("-c").arg(SCRIPT).stdin(Stdin::Kept).id(id);
    drop(command.spawn().await.unwrap());
}

/// It is as if nobody had ever been killed; then its id is free.
async fn whole(supervisor: &Supervisor, id: &str) {
    let container = found(supervisor, id).await;
    // A line is what it waits for, unless that has come: then nobody reads this one.
    if let Some(mut stdin) = container.stdin() {
        let _ = stdin.write_all_bytes("\n".into()).await;
    }
    let report = wait::soon("the report", container.wait()).await.unwrap();
    assert_eq!((report.exit, report.cause.clone()), (ExitStatus::Code(7), Cause::Own), "{id}: {report:?}");
    let text = container.stdout().collect(1 << 20).await.to_vec();
    assert_eq!(String::from_utf8(text).unwrap(), lines(), "{id}");
    wait::soon("delete", container.delete()).await.unwrap();
}

/// What an earlier one has left: one that runs to its end, or one that does not.
async fn seed(scene: &Scene, role: &str) {
    let supervisor = durable(scene);
    if role == "lost" {
        let sleeps = supervisor.command("sleep").arg("1000").id("lost").spawn().await.unwrap();
        return stand(&sleeps.pid().to_string()).await;
    }
    make(&supervisor, "adopted").await;
    stand("ready").await;
}

/// All of it: have again, make, wait, forget, leave.
async fn work(scene: &Scene, passed: Passed) {
    let log = LogOptions { segment_bytes: 512, keep_segments: 1 << 20, ..LogOptions::default() };
    let builder = stage::builder(scene).durable(dir(scene)).durable_log(log).fault_policy(Arc::new(passed));
    let supervisor = builder.build().expect("a durable supervisor");
    make(&supervisor, "made").await;
    for id in ["adopted", "made"] {
        whole(&supervisor, id).await;
    }
    make(&supervisor, "left").await;
    wait::soon("leaving", supervisor.leave()).await;
}

fn be_victim(scene: &Scene) -> bool {
    let Some(role) = victim::role() else { return false };
    let file = scene.dir().join("passed");
    scene.block_on(async {
        if role == "seed" || role == "lost" {
            return seed(scene, &role).await;
        }
        let at = role.split_once(' ').map(|(time, site)| (site.to_owned(), time.parse().expect("a number")));
        work(scene, Passed { count: Mutex::default(), file, at }).await;
    });
    true
}

/// What the last one has passed, and how often.
fn passed(scene: &Scene) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for name in std::fs::read_to_string(scene.dir().join("passed")).expect("steps").lines() {
        *all.entry(name.to_owned()).or_default() += 1;
    }
    all
}

/// One that leaves something and is killed, one that is killed at a point, and we.
fn round(scene: &Scene, role: &str) {
    let mut before = Victim::start(scene, "seed");
    assert_eq!(before.line(), "ready");
    before.kill();
    // There from the beginning, also of one that is killed at its first step.
    std::fs::write(scene.dir().join("passed"), "").expect("a file");
    Victim::start(scene, role).end();
    reap_adopted();
    scene.block_on(async {
        let supervisor = durable(scene);
        let told = supervisor.recovery().expect("it is durable").clone();
        assert!(told.lost.is_empty() && told.set_aside.is_empty(), "{role}: {told:?}");
        for left in supervisor.list().await.unwrap() {
            whole(&supervisor, &left.id).await;
        }
        // And its id can be used again.
        make(&supervisor, "made").await;
        whole(&supervisor, "made").await;
        end(scene, supervisor).await;
    });
    settle(scene);
}

fn whoever_is_killed_at_a_step_is_succeeded(scene: &Scene) {
    if be_victim(scene) {
        return;
    }
    round(scene, "work");
    let all = passed(scene);
    let is_passed = |step: &Step| all.contains_key(&format!("{:?}", Site::Record(*step)));
    // Nothing is lost here: below.
    let others = Step::ALL.iter().copied().filter(|step| *step != Step::Accounted);
    let missing: Vec<_> = others.filter(|step| !is_passed(step)).collect();
    assert!(missing.is_empty(), "never passed: {missing:?} of {all:?}");
    for (site, times) in &all {
        round(scene, &format!("1 {site}"));
        // It has not come behind it.
        assert!(!passed(scene).contains_key(site), "it was not killed at {site}");
        if *times > 1 && site.starts_with("Record") {
            round(scene, &format!("{times} {site}"));
        }
    }
}

/// With the keeper and the process gone as well there is nothing but the record, and one report of it.
fn what_is_lost_is_told_once(scene: &Scene) {
    if be_victim(scene) {
        return;
    }
    let mut before = Victim::start(scene, "lost");
    let pid = before.line().parse().expect("its pid");
    let (process, family) = (wait::pidfd(pid), before.family());
    // The keeper first, so that it does not go on alone; stopped, so that nobody starts another one.
    before.stop();
    let (_, keeper) = victim::keeper(&family);
    for pidfd in [keeper, &process] {
        wait::kill(pidfd);
    }
    wait::gone(keeper, "the keeper");
    before.kill();
    wait::gone(&process, "the process");
    reap_adopted();
    Victim::start(scene, &format!("1 {:?}", Site::Record(Step::Accounted))).end();
    reap_adopted();
    scene.block_on(async {
        let supervisor = durable(scene);
        let told = supervisor.recovery().expect("it is durable");
        assert_eq!((told.ended.as_slice(), told.lost.len()), (&["lost".to_owned()][..], 0), "{told:?}");
        let report = wait::soon("the report", found(&supervisor, "lost").await.wait()).await.unwrap();
        assert_eq!(report.exit, ExitStatus::Lost);
        end(scene, supervisor).await;
    });
    settle(scene);
}
