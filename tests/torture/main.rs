//! The daemon is killed while containers write, end and are made, while it leaves, comes, becomes another program and is taken over
//! by another process; sometimes its keeper with it, or before it.
//! Every line has to be there once and in order, every exit has to be the right one, every restart has to be done once, and nothing
//! may be left at the end. Logs are cut into small files, so that a kill meets the change from one to the next.
//!
//! A short run by default. A long one: `ORANGERY_TORTURE_KILLS=1000 ORANGERY_TORTURE_SEED=7 cargo test -p orangery-tests --test
//! torture -- --nocapture`. What it prints says how long writers were held up and how long a daemon took to come back.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "test code: a panic is a failed trial")]

mod chance;
mod daemon;
mod http;
mod lane;
mod reaper;

use std::any::Any;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use chance::Chance;
use daemon::{Daemon, Way, a_moment};
use lane::{Field, Kind};
use orangery_tests::{Scene, Trial};
use reaper::Reaper;

fn main() -> ExitCode {
    // Its own limit is the number of kills.
    let limit = Duration::from_secs(120 + kills());
    orangery_tests::main(&[
        Trial::new("kills_at_any_moment_lose_nothing", &[], kills_at_any_moment_lose_nothing).within(limit)
    ])
}

/// One writer at full speed for each core; many short lives; one that is started again and again.
const LANES: [Kind; 5] = [
    Kind { name: "writer-a", lines: 200_000, restarts: 0, compress: false },
    Kind { name: "writer-b", lines: 200_000, restarts: 0, compress: true },
    Kind { name: "short-a", lines: 20, restarts: 0, compress: false },
    Kind { name: "short-b", lines: 20, restarts: 0, compress: false },
    Kind { name: "service", lines: 2_000, restarts: 5, compress: false },
];
/// Longest time between a daemon that answers and its kill.
const APART: Duration = Duration::from_millis(300);

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

fn kills() -> u64 {
    number("ORANGERY_TORTURE_KILLS", 20)
}

fn seed() -> u64 {
    let now = || u64::from(std::time::UNIX_EPOCH.elapsed().expect("after 1970").subsec_nanos());
    number("ORANGERY_TORTURE_SEED", now())
}

fn kills_at_any_moment_lose_nothing(scene: &Scene) {
    if daemon::be_it() {
        return;
    }
    let (kills, seed) = (kills(), seed());
    println!("{kills} kills, ORANGERY_TORTURE_SEED={seed}");
    let (quiet, _) = play(scene, seed, 0);
    let (held, back) = play(scene, seed, kills);
    println!("the longest write of each writer, us: without kills {}, with kills {}", spread(quiet), spread(held));
    println!("from a kill to a daemon that answers, us: {}", spread(back));
}

/// All lanes at once, until that many kills were done. Returns the writers' longest writes, and how long each daemon took to come.
fn play(scene: &Scene, seed: u64, kills: u64) -> (Vec<u64>, Vec<u64>) {
    let field = Arc::new(Field {
        socket: daemon::socket(scene),
        logs: daemon::logs(scene),
        probe: scene.probe().to_path_buf(),
        over: AtomicBool::new(false),
        keepers: AtomicU64::new(0),
        done: AtomicU64::new(0),
        lost: AtomicU64::new(0),
        files: AtomicU64::new(0),
    });
    let mut chance = Chance::new(seed);
    let _reaper = Reaper::start();
    let mut daemon = Daemon::start(scene);
    let lanes: Vec<_> = LANES
        .into_iter()
        .map(|kind| {
            let (field, seed) = (Arc::clone(&field), chance.next());
            (kind, thread::spawn(move || lane::run(&field, kind, seed)))
        })
        .collect();
    let (mut back, mut ways) = (Vec::new(), [0; Way::ALL.len()]);
    if kills == 0 {
        thread::park_timeout(Duration::from_secs(3));
    }
    for _ in 0..kills {
        a_moment(&mut chance, APART);
        if lanes.iter().any(|(_, lane)| lane.is_finished()) {
            break;
        }
        let (began, way) = (Instant::now(), Way::by(&mut chance));
        ways[way as usize] += 1;
        println!("kill {}: {way:?}", ways.iter().sum::<u64>());
        // Before and after: who has begun in between may have been hit.
        let keeper = || field.keepers.fetch_add(u64::from(way.takes_keeper()), Ordering::AcqRel);
        keeper();
        daemon.go(way, &mut chance);
        keeper();
        daemon = Daemon::start(scene);
        back.push(u64::try_from(began.elapsed().as_micros()).expect("microseconds"));
    }
    field.over.store(true, Ordering::Release);
    let (mut longest, mut failed) = (Vec::new(), Vec::new());
    for (kind, lane) in lanes {
        match lane.join() {
            Ok(of_lane) if kind.name.starts_with("writer") => longest.extend(of_lane),
            Ok(_) => {}
            Err(why) => failed.push(format!("{}: {}", kind.name, said(&*why))),
        }
    }
    if !failed.is_empty() {
        // First: whatever it goes on to say is not what matters.
        drop(daemon);
        panic!("ORANGERY_TORTURE_SEED={seed} ORANGERY_TORTURE_KILLS={kills}\n{}", failed.join("\n"));
    }
    let [done, lost, files] = [&field.done, &field.lost, &field.files].map(|count| count.load(Ordering::Relaxed));
    let ways: Vec<_> = Way::ALL.iter().zip(ways).map(|(way, count)| format!("{way:?} {count}")).collect();
    println!("{kills} kills: {}", ways.join(", "));
    println!(
        "{done} containers were compared, {lost} of them have lost their exit with a keeper; their logs had {files} files"
    );
    assert!(files > 2 * done, "no log went on in another file");
    daemon.finish();
    (longest, back)
}

/// What a thread has panicked with.
fn said(why: &(dyn Any + Send)) -> &str {
    let text = why.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| why.downcast_ref::<&str>().copied()).unwrap_or("a panic without words")
}

fn spread(mut all: Vec<u64>) -> String {
    all.sort_unstable();
    let at = |part: usize| all.get((all.len() * part / 100).min(all.len().saturating_sub(1))).copied().unwrap_or(0);
    format!("p50 {} p99 {} max {} of {}", at(50), at(99), at(100), all.len())
}
