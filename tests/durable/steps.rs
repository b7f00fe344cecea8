//! The keeper is killed at each of its own moments, or its supervisor just then, or both: whoever comes next has every byte and
//! every end, or says that it does not know it, and nothing is left.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use orangery_runtime::durable::{Came, Claim, ClaimedProcess, ContainerRecord, ProcessRecord};
use orangery_runtime::keeper::{Deadline, Lever};
use orangery_runtime::native::{KeeperNews, NativeRuntime, Options, exit_of, now_ns};
use orangery_runtime::plan::wire::Moment;
use orangery_runtime::spec::Stdio;
use orangery_runtime::{Container, ExitStatus, ProcessSpec, Rung, Started};
use orangery_tests::host::probe;
use orangery_tests::noise::{period, stands_at};
use orangery_tests::victim::{self, reap_adopted};
use orangery_tests::{Host, Scene, wait};

use super::pace::{At, Pace, Whom};
use super::saved::*;

/// More than a pipe holds.
const FLOOD: u64 = 200_000;

/// A process's container, its label, and whether it is the main one.
const PROCESSES: [(&str, &str, bool); 5] = [
    ("flooded", "flood", true),
    ("boxed", "waits", true),
    ("boxed", "ended", false),
    ("boxed", "settled", false),
    ("boxed", "signalled", false),
];

/// What can be said of all of them in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Known {
    /// What nobody held has gone; what is there is right.
    Part,
    /// Every byte, and every end that the kernel tells.
    Bytes,
    All,
}

/// A supervisor's options, whose keepers are traced into its standard input.
fn traced(scene: &Scene) -> Options {
    let mut options = options(scene);
    options.keeper_trace = Some(Arc::new(std::io::stdin().as_fd().try_clone_to_owned().expect("a copy")));
    // What a dead keeper leaves is waited for.
    options.subreaper = true;
    options
}

fn be_supervisor(scene: &Scene) -> bool {
    use std::os::unix::fs::DirBuilderExt as _;
    let Some(role) = victim::role() else { return false };
    let _ = fs::DirBuilder::new().mode(0o700).create(scene.state_dir());
    scene.block_on(async {
        if role == "work" {
            work(scene).await;
        } else {
            let mut next = Next::start(traced(scene));
            stays(claim(scene, &mut next).await);
            stays(next.finish().await);
            println!("whole");
        }
        std::future::pending::<()>().await;
    });
    true
}

/// All that a keeper is asked.
async fn work(scene: &Scene) {
    let (rt, driver, adopted) = NativeRuntime::durable(traced(scene)).expect("a durable runtime");
    tokio::spawn(driver.run_telling(|news| {
        if matches!(news, KeeperNews::Replaced(_)) {
            println!("again");
        }
    }));
    wait::soon("finish", adopted.finish()).await;
    let host = Host::new(rt, scene);
    let (flooded, flood) = made(&host, scene, "flooded", "flood", || probe(&["noise", &FLOOD.to_string()])).await;
    let stdout = flood.stdout.as_ref().expect("stdout");
    let streams = flood.held.as_ref().expect("held").stdout.as_ref().expect("held");
    let further = log_file(&log(scene, "flood.1"));
    wait::soon("another file", streams.rotate(stdout.as_fd(), &further)).await.expect("it is known");
    let waits = || {
        let mut waits = probe(&["wait"]);
        waits.stdin = Stdio::Piped;
        waits
    };
    let (boxed, main) = made(&host, scene, "boxed", "waits", waits).await;
    for (label, code) in [("ended", "5"), ("settled", "6")] {
        let Started { exit, pidfd, held, .. } = ran(&*boxed, scene, label, || probe(&["exit", code])).await;
        end_of(exit, &pidfd).await;
        match held {
            Some(held) if label == "settled" => held.settle(),
            held => stays(held),
        }
    }
    let signalled = ran(&*boxed, scene, "signalled", || probe(&["deaf"])).await;
    let never = armed(&host, &signalled, u64::MAX, &[]).await;
    drop(armed(&host, &signalled, u64::MAX, &[]).await);
    let now = now_ns();
    let now = armed(&host, &signalled, now + 1, &[now]).await;
    wait::soon("a deadline", now.wait()).await.expect("carried out");
    let Started { exit, pidfd, held, .. } = signalled;
    end_of(exit, &pidfd).await;
    // Answered behind everything that was not to be answered; nothing comes of it.
    let lever = Lever { signal: Some((pidfd.try_clone().expect("a copy"), 0)), ..Lever::default() };
    host.rt.keeper().arm(Deadline { at_ns: u64::MAX, at_end: false }, lever).await.expect_err("no signal");
    println!("ready {}", host.rt.keeper_pid());
    stays((host, flooded, flood, boxed, main, held, never, now));
}

/// Kill it at a time; before that, signals that nobody feels (SIGWINCH).
async fn armed(host: &Host, of: &Started, at_ns: u64, rungs: &[u64]) -> orangery_runtime::Lease {
    let rungs = rungs.iter().map(|at_ns| Rung { at_ns: *at_ns, signal: 28 }).collect();
    let lever = Lever { rungs, signal: Some((of.pidfd.try_clone().expect("a copy"), 9)), ..Lever::default() };
    let asked = host.rt.keeper().arm(Deadline { at_ns, at_end: false }, lever);
    wait::soon("a deadline", asked).await.expect("armed")
}

/// A container that runs and is written down, after as many attempts as keepers die meanwhile.
async fn made(
    host: &Host,
    scene: &Scene,
    name: &str,
    label: &str,
    main: impl Fn() -> ProcessSpec,
) -> (Box<dyn Container>, Started) {
    for _ in 0..3 {
        let Ok(container) = host.create(host.spec(name), held(scene, label, main())).await else { continue };
        save(scene, name, &container.record().expect("a record"));
        container.written_down();
        match wait::soon("start", container.start()).await {
            Ok(started) => {
                save_process(scene, label, &started);
                return (container, started);
            }
            Err(_) => wait::soon("delete", container.delete()).await.expect("deleted"),
        }
    }
    panic!("{name} does not start");
}

/// The same of a further process.
async fn ran(container: &dyn Container, scene: &Scene, label: &str, what: impl Fn() -> ProcessSpec) -> Started {
    for _ in 0..3 {
        if let Ok(started) = wait::soon("exec", container.exec(held(scene, label, what()))).await {
            save_process(scene, label, &started);
            return started;
        }
    }
    panic!("{label} does not start");
}

/// By whoever tells it.
async fn end_of(exit: tokio::sync::oneshot::Receiver<orangery_runtime::Exit>, pidfd: &Arc<OwnedFd>) -> ExitStatus {
    match wait::soon("its end", exit).await {
        Ok(exit) => exit.status,
        Err(_) => wait::soon("its end", exit_of(Arc::clone(pidfd))).await.status,
    }
}

/// What there is of all that was written down.
type Claimed = (Vec<Box<dyn Container>>, Vec<(&'static str, ClaimedProcess)>);

async fn claim(scene: &Scene, next: &mut Next) -> Claimed {
    let (mut containers, mut processes) = (Vec::new(), Vec::new());
    for name in ["flooded", "boxed"] {
        if let Some(record) = load::<ContainerRecord>(scene, name) {
            let claim = next.adopted.container(Claim::new(record));
            containers.extend(wait::soon("claim", claim).await.expect("claimed"));
        }
    }
    for (container, label, main) in PROCESSES {
        if load::<ContainerRecord>(scene, container).is_some() {
            processes.push((label, next.process(scene, container, label, main).await));
        }
    }
    (containers, processes)
}

/// It is what it can be, and is settled.
async fn check(scene: &Scene, label: &str, process: ClaimedProcess, known: Known, killed: &dyn Fn()) {
    let was_started = load::<ProcessRecord>(scene, &format!("{label}.process")).is_some();
    let started = match process {
        ClaimedProcess::Found(started) => *started,
        // It may have been settled, and was not written down before it ran.
        ClaimedProcess::Never => return assert!(known < Known::All || label == "settled" || !was_started, "{label}"),
        ClaimedProcess::Lost => return assert!(known < Known::All, "{label} is lost"),
        other => return assert!(!was_started, "{label}: {other:?}"),
    };
    let Started { stdin, stdout, exit, pidfd, held, .. } = started;
    let mut held = held.expect("held");
    if let Some(stdin) = held.stdin.take() {
        stdin.discard();
    }
    drop(stdin);
    if label == "signalled" {
        killed();
    }
    let bytes = (label == "flood").then(|| {
        let first = fs::read(log(scene, "flood")).expect("the log");
        [first, written(scene, "flood.1", stdout)].concat()
    });
    let status = end_of(exit, &pidfd).await;
    let right = match label {
        "flood" | "waits" => ExitStatus::Code(0),
        "ended" => ExitStatus::Code(5),
        "settled" => ExitStatus::Code(6),
        _ => ExitStatus::Signal { signal: 9, core_dumped: false },
    };
    // One whose pipe nobody holds any more hears that nobody reads, and says so by a signal.
    let alone = known == Known::Part && matches!(status, ExitStatus::Signal { .. });
    assert!(status == right || alone || (known < Known::All && status == ExitStatus::Lost), "{label}: {status:?}");
    if let Some(bytes) = bytes {
        assert!(stands_at(&period(), 0, &bytes), "{} bytes", bytes.len());
        assert!(bytes.len() as u64 == FLOOD || known == Known::Part, "{} bytes", bytes.len());
    }
    held.settle();
}

/// The last supervisor, which is nobody's victim.
async fn succeed(scene: &Scene, pace: &Pace, known: Known, ending: bool) {
    pace.enter("end");
    let mut next = Next::start(options(scene));
    let known = if next.adopted.came() == Came::KeeperLives { known } else { Known::Part };
    // Whatever dead keepers have left is ours, until the last one ends.
    let reaper = std::thread::spawn(reap_all);
    let (containers, processes) = claim(scene, &mut next).await;
    let (living, _) = next.finish().await;
    let kill = || containers.iter().for_each(|container| drop(container.kill()));
    let (last, others): (Vec<_>, Vec<_>) = processes.into_iter().partition(|(label, _)| *label == "signalled");
    for (label, process) in others.into_iter().chain(last) {
        check(scene, label, process, known, &kill).await;
    }
    for container in containers {
        wait::soon("delete", container.delete()).await.expect("deleted");
    }
    if ending {
        // Killed in the middle of its removal: whoever comes next goes on with that.
        let keeper = wait::pidfd(living.rt.keeper_pid());
        living.leave().await;
        wait::gone(&keeper, "the keeper");
        Next::start(options(scene)).finish().await.0.end(scene).await;
    } else {
        living.end(scene).await;
    }
    reaper.join().expect("no panic");
}

/// Until there is no child any more.
fn reap_all() {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    while !matches!(waitid(WaitId::All, WaitIdOptions::EXITED), Err(rustix::io::Errno::CHILD)) {}
}

fn clean(scene: &Scene) {
    let names = PROCESSES.map(|(_, label, _)| [format!("{label}.process"), format!("{label}.log")]);
    let others = ["flood.1.log", "flooded", "boxed"].map(str::to_owned);
    for name in names.into_iter().flatten().chain(others) {
        let _ = fs::remove_file(scene.dir().join(name));
    }
}

/// Lines up to this one. `None`: it has been killed.
fn line(victim: &mut victim::Victim, wanted: &str) -> Option<String> {
    loop {
        match victim.line() {
            line if line.starts_with(wanted) => return Some(line),
            line if line.is_empty() => return None,
            _ => {}
        }
    }
}

/// One supervisor works and is killed, its keeper goes on alone, another one comes and is killed, and then we do. `second`: the first
/// keeper dies beside the first supervisor.
fn round(scene: &Scene, second: bool, strike: Option<(At, Whom)>) -> Vec<At> {
    clean(scene);
    let known = match &strike {
        None if second => Known::Bytes,
        None | Some((_, Whom::Supervisor)) if !second => Known::All,
        Some((At { phase: "work" | "second", .. }, Whom::Keeper)) => Known::Bytes,
        Some((At { phase: "end", .. }, _)) => Known::All,
        _ => Known::Part,
    };
    let ending = matches!(&strike, Some((At { phase: "end", .. }, _)));
    let wanted = strike.is_some();
    let what = format!("{strike:?}");
    let pace = Pace::keep(strike);
    let mut victim = pace.victim(scene, "work");
    let ready = line(&mut victim, "ready");
    if let Some(ready) = ready.as_ref().filter(|_| second) {
        pace.enter("second");
        wait::kill(wait::pidfd(ready.trim_start_matches("ready ").parse().expect("a number")));
        line(&mut victim, "again");
    }
    pace.without(victim, "alone");
    if ready.is_some() {
        // It is emptied, or hears that nobody reads.
        if let Some(flood) = wait::try_pidfd(pid_of(scene, "flood")) {
            wait::gone(&flood, "the flood");
        }
        if !second {
            pace.until("reaped");
        }
    }
    let mut victim = pace.victim(scene, "next");
    if line(&mut victim, "whole").is_some() {
        // Its keeper may not have said so yet.
        pace.until("whole");
    }
    pace.without(victim, "left");
    reap_adopted();
    scene.block_on(succeed(scene, &pace, known, ending));
    reap_adopted();
    assert!(!wanted || pace.has_struck(), "nobody was killed: {what}");
    pace.end()
}

/// The first and the last time of each moment in these phases.
fn each(heard: &[At], phases: &[&str]) -> Vec<(At, At)> {
    let mut all: Vec<(At, At)> = Vec::new();
    for at in heard.iter().filter(|at| phases.contains(&at.phase)) {
        match all.iter_mut().find(|(first, _)| (first.phase, &first.moment) == (at.phase, &at.moment)) {
            Some((_, last)) => *last = at.clone(),
            None => all.push((at.clone(), at.clone())),
        }
    }
    all
}

fn strike(scene: &Scene, second: bool, at: &At, whom: Whom) {
    eprintln!("{whom:?} at {at:?}");
    round(scene, second, Some((at.clone(), whom)));
}

pub(crate) fn at_each_moment_of_a_keeper(scene: &Scene) {
    if be_supervisor(scene) {
        return;
    }
    let heard = round(scene, false, None);
    let met: BTreeSet<_> = heard.iter().map(|at| at.moment.as_str()).collect();
    let missing: Vec<_> = Moment::ALL.into_iter().filter(|moment| !met.contains(moment.name())).collect();
    assert!(missing.is_empty(), "never passed: {missing:?} of {met:?}");
    for (first, last) in each(&heard, &["work"]) {
        strike(scene, false, &first, Whom::Keeper);
        strike(scene, false, &last, Whom::Supervisor);
        // Of the others nobody can tell.
        if ["born", "replaced", "fired"].contains(&first.moment.as_str()) {
            strike(scene, false, &first, Whom::Both);
        }
    }
    for (first, _) in each(&heard, &["alone"]) {
        strike(scene, false, &first, Whom::Keeper);
    }
    for (first, last) in each(&heard, &["next"]) {
        if ["welcomed", "shown", "whole"].contains(&first.moment.as_str()) {
            strike(scene, false, &first, Whom::Keeper);
            strike(scene, false, &first, Whom::Supervisor);
            strike(scene, false, &last, Whom::Both);
        }
    }
    for (first, _) in each(&heard, &["end"]) {
        if ["ending", "buried", "removed"].contains(&first.moment.as_str()) {
            strike(scene, false, &first, Whom::Keeper);
        }
    }
}

/// The supervisor is killed between a birth and the answer: what was born runs by then, or will, and is the next one's.
pub(crate) fn what_is_born_for_who_has_gone_is_the_next_ones(scene: &Scene) {
    if be_supervisor(scene) {
        return;
    }
    clean(scene);
    // The first is the stub of its container.
    let born = At { phase: "work", moment: "born".to_owned(), nth: 2 };
    let pace = Pace::keep(Some((born, Whom::Supervisor)));
    let mut victim = pace.victim(scene, "work");
    assert_eq!(line(&mut victim, "ready"), None, "it is killed before that");
    pace.without(victim, "alone");
    assert!(pace.has_struck());
    scene.block_on(async {
        let mut next = Next::after(scene, Came::KeeperLives);
        let container = next.container(scene, "flooded").await.expect("it lives");
        let claimed = next.process(scene, "flooded", "flood", true).await;
        let ClaimedProcess::Found(started) = claimed else { panic!("it has run for nobody: {claimed:?}") };
        let (living, left) = next.finish().await;
        assert_eq!(left.processes, 0, "{left:?}");
        let Started { stdout, exit, pidfd, held, .. } = *started;
        let bytes = written(scene, "flood", stdout);
        assert!(bytes.len() as u64 == FLOOD && stands_at(&period(), 0, &bytes), "{} bytes", bytes.len());
        assert_eq!(end_of(exit, &pidfd).await, ExitStatus::Code(0));
        held.expect("held").settle();
        wait::soon("delete", container.delete()).await.expect("deleted");
        living.end(scene).await;
    });
    drop(pace.end());
}

pub(crate) fn at_each_moment_of_a_second_keeper(scene: &Scene) {
    if be_supervisor(scene) {
        return;
    }
    let heard = round(scene, true, None);
    for (first, last) in each(&heard, &["second"]) {
        for (at, whom) in
            [(&first, Whom::Keeper), (&last, Whom::Keeper), (&first, Whom::Supervisor), (&last, Whom::Both)]
        {
            strike(scene, true, at, whom);
        }
    }
}
