//! Containers one after another: made, waited for, compared, deleted, whatever happens to the daemon meanwhile.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::chance::Chance;
use crate::http::{Answer, ask};

/// What all lanes share.
pub(crate) struct Field {
    pub(crate) socket: PathBuf,
    pub(crate) logs: PathBuf,
    pub(crate) probe: PathBuf,
    /// No more containers: the kills are over.
    pub(crate) over: AtomicBool,
    /// A keeper was killed so often, with its daemon or before it: what lived through one of these may have no exit, and what was
    /// about to run has been killed.
    pub(crate) keepers: AtomicU64,
    pub(crate) done: AtomicU64,
    pub(crate) lost: AtomicU64,
    /// Files with bytes in all logs together.
    pub(crate) files: AtomicU64,
}

/// How long an answer is waited for, over any number of daemons.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of a line of the probe.
const LINE: usize = 10;

/// One kind of load.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// Lines of each container, at most.
    pub(crate) lines: u64,
    /// How often a service of it is started again; `0`: no service.
    pub(crate) restarts: u64,
    /// Its log's closed files are compressed.
    pub(crate) compress: bool,
}

impl Field {
    /// Ask until somebody answers who is not about to go. `again` is told how often it was asked before.
    fn insist(&self, method: &str, path: &str, key: Option<&str>, body: Option<&Value>) -> (Answer, u32) {
        let until = Instant::now() + PATIENCE;
        let mut before = 0;
        loop {
            match ask(&self.socket, method, path, key, body) {
                Ok(answer) if !answer.is_for_now() => return (answer, before),
                Ok(answer) => assert!(Instant::now() < until, "{method} {path}: {}, for {PATIENCE:?}", answer.text()),
                Err(error) => assert!(Instant::now() < until, "{method} {path}: {error}, for {PATIENCE:?}"),
            }
            before += 1;
            // The daemon is being started: there is nothing to wait on but it.
            std::thread::yield_now();
        }
    }
}

/// Until it is over. What each writer waited for its longest line, in microseconds.
pub(crate) fn run(field: &Arc<Field>, kind: Kind, seed: u64) -> Vec<u64> {
    let mut chance = Chance::new(seed);
    let mut longest = Vec::new();
    let mut number = 0;
    while !field.over.load(Ordering::Acquire) {
        number += 1;
        let one = One {
            field,
            name: format!("{}-{number}", kind.name),
            lines: 1 + chance.below(kind.lines),
            code: 1 + chance.below(99),
            restarts: kind.restarts,
            compress: kind.compress,
        };
        longest.extend(one.live());
        field.done.fetch_add(1, Ordering::Relaxed);
    }
    longest
}

struct One<'f> {
    field: &'f Field,
    name: String,
    lines: u64,
    code: u64,
    restarts: u64,
    compress: bool,
}

impl One<'_> {
    fn live(&self) -> Vec<u64> {
        let keepers = self.field.keepers.load(Ordering::Acquire);
        self.create();
        let ended = self.wait();
        let exit = &ended["exit"];
        let out = self.output("stdout");
        let err = String::from_utf8(self.output("stderr")).expect("numbers");
        // Nobody had it when both were killed: its exit is unknown and its pipes are broken, and that is what is said.
        if self.field.keepers.load(Ordering::Acquire) != keepers {
            self.in_order(&out, true);
            self.field.lost.fetch_add(u64::from(exit["exit"] == "lost"), Ordering::Relaxed);
        } else {
            assert_eq!(exit["exit_code"], self.code, "{}: {ended}", self.name);
            self.in_order(&out, false);
            assert_eq!(err.lines().count() as u64, 1 + self.restarts, "{}: {err}", self.name);
        }
        self.field.files.fetch_add(self.files(), Ordering::Relaxed);
        self.delete();
        err.lines().map(|line| line.parse().expect("microseconds")).collect()
    }

    fn create(&self) {
        let mut spec = json!({
            "command": ["/probe", "count", self.lines.to_string(), self.code.to_string()],
            "log-max-size": "64K",
            "log-max-files": 1000,
            "mount": [format!("type=bind,src={},dst=/probe,ro", self.field.probe.display())],
        });
        if self.restarts > 0 {
            spec["restart"] = json!(format!("on-failure:{}", self.restarts));
            spec["restart-delay"] = json!("1ms");
        }
        if self.compress {
            spec["log-compress"] = json!("1");
        }
        let body = json!({ "name": self.name, "spec": spec });
        // Whoever was killed before the answer may have made it, and started it: the key says that it is the same one.
        let (answer, _) = self.field.insist("POST", "/v1/containers", Some(&self.name), Some(&body));
        assert_eq!(answer.status, 201, "{}: {}", self.name, answer.text());
    }

    fn wait(&self) -> Value {
        let path = format!("/v1/containers/{}/wait?timeout=30s", self.name);
        let until = Instant::now() + PATIENCE;
        loop {
            let (answer, _) = self.field.insist("GET", &path, None, None);
            assert_eq!(answer.status, 200, "{}: {}", self.name, answer.text());
            let answer = answer.json();
            if answer["done"] == true {
                return answer;
            }
            assert!(Instant::now() < until, "{} does not end: {answer}", self.name);
        }
    }

    fn output(&self, stream: &str) -> Vec<u8> {
        let path = format!("/v1/containers/{}/output?follow=false&stream={stream}", self.name);
        let (answer, _) = self.field.insist("GET", &path, None, None);
        assert_eq!(answer.status, 200, "{}: {}", self.name, answer.text());
        answer.body
    }

    /// How many its log has.
    fn files(&self) -> u64 {
        let entries = std::fs::read_dir(self.field.logs.join(&self.name)).into_iter().flatten().flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().contains(".log")).count() as u64
    }

    /// Every line once and in order, in each incarnation; `cut`: an incarnation may have lost its end, at any byte.
    fn in_order(&self, out: &[u8], cut: bool) {
        let first = b"000000000\n";
        let mut expected = 0;
        for (place, line) in out.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let wanted = format!("{expected:09}\n");
            let starts_anew = line.strip_suffix(first).is_some_and(|rest| wanted.as_bytes().starts_with(rest));
            let is_cut = cut && (starts_anew || wanted.as_bytes().starts_with(line));
            if line != wanted.as_bytes() && !is_cut {
                let said = String::from_utf8_lossy(line);
                panic!("{}: line {place} is {said:?}, not number {expected}", self.name);
            }
            expected = if line.ends_with(first) { 1 } else { expected + 1 };
            expected %= self.lines;
        }
        let all = self.lines * (1 + self.restarts) * LINE as u64;
        assert!(cut || out.len() as u64 == all, "{}: {} bytes of {all}", self.name, out.len());
    }

    fn delete(&self) {
        let path = format!("/v1/containers/{}", self.name);
        let (answer, before) = self.field.insist("DELETE", &path, None, None);
        let gone = answer.status == 204 || before > 0 && answer.status == 404;
        assert!(gone, "{}: {} {}", self.name, answer.status, answer.text());
    }
}
