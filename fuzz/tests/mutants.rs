//! Every target over its corpus and seeded mutants of it, on stable, in seconds.
#![allow(clippy::expect_used, clippy::panic, reason = "test code: a panic is a failed test")]

use std::panic::catch_unwind;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use orangery_fuzz::{Seeded, TARGETS};
use orangery_runtime::durable::{ContainerRecord, Drained, ProcessRecord};
use orangery_runtime::plan::wire::{self, ExitRecord, Message, Op, Purpose, Tell};
use orangery_runtime::plan::{Builder, Need};

const MUTANTS: usize = 20_000;
/// Of what takes a millisecond each.
const FEW: usize = 2_000;

/// The files of a target's corpus, and what is better made than kept: the encodings are of this version.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    // What is read in one step more.
    let corpus = if target == "bundle_plan" { "bundle" } else { target };
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(corpus);
    let mut seeds: Vec<Vec<u8>> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| std::fs::read(entry.path()).expect("a file of the corpus"))
        .collect();
    seeds.sort_unstable();
    match target {
        "plan" => seeds.push(plan()),
        "message" => seeds.push(message()),
        "answer" => seeds.push(answer()),
        "state" => {
            let known = |seed: &Vec<u8>| orangery::testing::known_records(seed).is_ok_and(|known| known > 0);
            assert!(seeds.iter().all(known), "a record of the corpus is not understood");
        }
        "record" => assert!(seeds.iter().all(|seed| understood(seed)), "a record of the corpus is not understood"),
        "bundle_plan" => {
            let plans = seeds.iter().filter(|seed| orangery_fuzz::planned(seed).is_ok_and(|steps| steps > 50)).count();
            assert!(
                plans > 0,
                "no bundle of the corpus comes to a plan: {:?}",
                seeds.iter().map(|seed| orangery_fuzz::planned(seed)).collect::<Vec<_>>()
            );
        }
        _ => {}
    }
    seeds
}

fn plan() -> Vec<u8> {
    let mut builder = Builder::new(&[Need::Layer(0)]);
    let root = builder.received(Need::Layer(0)).expect("the root");
    builder.clone_flags(0x0002_0000).maps("0 1000 1", "0 1000 1", true);
    let tree = builder.clone_tree(root);
    builder.move_mount(tree, root, "mnt").chown(root, "x", 1, 2).set_groups(&[1, 2, 3]);
    builder.exec(&["/bin/true".as_ref()], &["true".as_ref(), "x".as_ref()], &["A=b".as_ref()]);
    let plan = builder.finish();
    let fds = u8::try_from(plan.needs().len()).expect("few");
    assert!(wire::check(plan.bytes(), fds.into()).is_ok() && plan.steps().any(|step| step.op == Op::Exec));
    [&[fds], plan.bytes()].concat()
}

fn message() -> Vec<u8> {
    let exit = ExitRecord { code: 1, status: 3, user_us: 5, at_ns: u64::MAX, ..ExitRecord::default() };
    Message { kind: 2, id: 7, pid: 42, exit, ..Message::default() }.encode().to_vec()
}

fn answer() -> Vec<u8> {
    let told = Message { kind: Tell::Stored as u16, id: 7, x: 3, ..Message::default() };
    let drained = Drained { since_ns: 5, logged: 6, lost: 7, errno: 28, ended: true };
    let mut bytes = told.encode_with(Purpose::Stdio).to_vec();
    bytes.extend(drained.encode());
    bytes.extend(b"o\x07\0\0\0\0\0\0\0judge");
    assert_eq!(told.tells_with(&bytes, 1), None, "the head says how many");
    bytes
}

fn understood(seed: &[u8]) -> bool {
    let container = serde_json::from_slice::<ContainerRecord>(seed).is_ok_and(|record| record.check().is_ok());
    container || serde_json::from_slice::<ProcessRecord>(seed).is_ok_and(|record| record.check().is_ok())
}

/// How long somebody wants it to be tried, by `ORANGERY_FUZZ=TARGET:SECONDS`.
fn asked(name: &str) -> Option<Duration> {
    let asked = std::env::var("ORANGERY_FUZZ").ok()?;
    let (target, seconds) = asked.split_once(':')?;
    (target == name).then(|| seconds.parse().ok().map(Duration::from_secs)).flatten()
}

#[test]
fn no_mutant_makes_a_target_panic() {
    for (name, target) in TARGETS {
        let seeds = seeds(name);
        assert!(!seeds.is_empty(), "{name} has no corpus");
        let mut seeded = Seeded::new(1);
        let until = asked(name).map(|time| Instant::now() + time);
        let rounds = if matches!(name, "up" | "state" | "archive") { FEW } else { MUTANTS };
        for round in 0.. {
            if until.map_or(round >= rounds, |until| Instant::now() >= until) {
                if until.is_some() {
                    println!("{name}: {round} executions");
                }
                break;
            }
            let seed = &seeds[round % seeds.len()];
            let input = if round < seeds.len() { seed.clone() } else { seeded.mutate(seed) };
            if catch_unwind(|| target(&input)).is_err() {
                panic!("{name} fails, round {round}: {}", input.escape_ascii());
            }
        }
    }
}

/// libFuzzer's glue and the corpus are of the same targets.
#[test]
fn every_target_has_its_glue() {
    let glue = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("libfuzzer/fuzz_targets");
    for (name, _) in TARGETS {
        let text = std::fs::read_to_string(glue.join(format!("{name}.rs"))).expect("its glue");
        assert!(text.contains(&format!("orangery_fuzz::{name}(")), "{name}");
    }
}
