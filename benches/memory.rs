//! Memory of processes, and a process that has a lot of it.

use std::fs;

use anyhow::Context as _;

/// Touch `mebibytes` and keep them: what a service that forks directly would pay for.
#[must_use]
pub fn resident(mebibytes: usize) -> Vec<u8> {
    std::hint::black_box(vec![1; mebibytes << 20])
}

/// What belongs to one process alone, in KiB, and how many descriptors and threads it has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weight {
    /// Resident pages, shared ones included, KiB.
    pub resident_kib: u64,
    /// Private dirty pages, KiB.
    pub dirty_kib: u64,
    /// Open descriptors.
    pub descriptors: u64,
    /// Threads.
    pub threads: u64,
}

/// Weigh process `pid`.
///
/// # Errors
/// It is gone, or its files cannot be read.
pub fn weigh(pid: u32) -> anyhow::Result<Weight> {
    let read =
        |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).with_context(|| format!("/proc/{pid}/{file}"));
    let count = |dir: &str| {
        fs::read_dir(format!("/proc/{pid}/{dir}"))
            .map(|entries| entries.count() as u64)
            .with_context(|| format!("/proc/{pid}/{dir}"))
    };
    let rollup = read("smaps_rollup")?;
    let kib = |name: &'static str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok()).context(name)
    };
    let (resident_kib, dirty_kib) = (kib("Rss")?, kib("Private_Dirty")?);
    Ok(Weight { resident_kib, dirty_kib, descriptors: count("fd")?, threads: count("task")? })
}

/// The share of process `pid` in the pages that it has, in KiB.
///
/// # Errors
/// As for [`weigh`].
pub fn pss(pid: u32) -> anyhow::Result<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).with_context(|| format!("/proc/{pid}"))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok()).context("Pss")
}

/// Names of all processes below `pid`, with their pids.
#[must_use]
pub fn descendants(pid: u32) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    let mut parents = vec![pid];
    let all: Vec<(u32, u32, String)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
            Some((pid, rest.split_whitespace().nth(1)?.parse().ok()?, name.to_owned()))
        })
        .collect();
    while let Some(parent) = parents.pop() {
        for (pid, _, name) in all.iter().filter(|(_, above, _)| *above == parent) {
            found.push((*pid, name.clone()));
            parents.push(*pid);
        }
    }
    found
}

/// As many descriptors as the hard limit allows.
pub fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
