//! The daemon is killed while containers write, end and are made; sometimes its keeper with it. Every line has to be there once and
//! in order, every exit has to be the right one, every restart has to be done once, and nothing may be left at the end.
//!
//! A short run by default. A long one: `ORANGERY_TORTURE_KILLS=1000 ORANGERY_TORTURE_SEED=7 cargo test -p orangery-tests --test
//! torture -- --nocapture`. What it prints says how long writers were held up and how long a daemon took to come back.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "test code: a panic is a failed trial")]

mod chance;
mod daemon;
mod http;
mod lane;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use chance::Chance;
use daemon::Daemon;
use lane::{Field, Kind};
use orangery_tests::{Scene, Trial};

fn main() -> ExitCode {
    // Its own limit is the number of kills.
    let limit = Duration::from_secs(120 + kills());
    orangery_tests::main(&[
        Trial::new("kills_at_any_moment_lose_nothing", &[], kills_at_any_moment_lose_nothing).within(limit)
    ])
}

/// One writer at full speed for each core; many short lives; one that is started again and again.
const LANES: [Kind; 5] = [
    Kind { name: "writer-a", lines: 200_000, restarts: 0 },
    Kind { name: "writer-b", lines: 200_000, restarts: 0 },
    Kind { name: "short-a", lines: 20, restarts: 0 },
    Kind { name: "short-b", lines: 20, restarts: 0 },
    Kind { name: "service", lines: 2_000, restarts: 5 },
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
        probe: scene.probe().to_path_buf(),
        over: AtomicBool::new(false),
        both: AtomicU64::new(0),
        done: AtomicU64::new(0),
        lost: AtomicU64::new(0),
    });
    let mut chance = Chance::new(seed);
    let mut daemon = Daemon::start(scene);
    let lanes: Vec<_> = LANES
        .into_iter()
        .map(|kind| {
            let (field, seed) = (Arc::clone(&field), chance.next());
            (kind, thread::spawn(move || lane::run(&field, kind, seed)))
        })
        .collect();
    let mut back = Vec::new();
    if kills == 0 {
        thread::park_timeout(Duration::from_secs(3));
    }
    for _ in 0..kills {
        // Whatever happens to go on then is what is interrupted: no event says when.
        thread::park_timeout(APART.mul_f64(chance.below(1000) as f64 / 1000.0));
        if lanes.iter().any(|(_, lane)| lane.is_finished()) {
            break;
        }
        let began = Instant::now();
        if chance.below(20) == 0 {
            field.both.fetch_add(1, Ordering::Release);
            daemon.kill_both();
        } else {
            daemon.kill();
        }
        daemon = Daemon::start(scene);
        back.push(u64::try_from(began.elapsed().as_micros()).expect("microseconds"));
    }
    field.over.store(true, Ordering::Release);
    let mut longest = Vec::new();
    for (kind, lane) in lanes {
        let of_lane = lane.join().unwrap_or_else(|_| panic!("the lane {} has failed", kind.name));
        if kind.name.starts_with("writer") {
            longest.extend(of_lane);
        }
    }
    let (done, lost) = (field.done.load(Ordering::Relaxed), field.lost.load(Ordering::Relaxed));
    println!("{kills} kills: {done} containers were compared, {lost} of them have lost their exit with both");
    daemon.finish();
    (longest, back)
}

fn spread(mut all: Vec<u64>) -> String {
    all.sort_unstable();
    let at = |part: usize| all.get((all.len() * part / 100).min(all.len().saturating_sub(1))).copied().unwrap_or(0);
    format!("p50 {} p99 {} max {} of {}", at(50), at(99), at(100), all.len())
}
