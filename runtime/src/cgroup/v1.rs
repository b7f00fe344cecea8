//! cgroup v1: the values its files take, the cpuset that has to be filled before anybody may enter, and killing and
//! freezing through the freezer, where version 2 has one file each.

use super::detect::Controller;
use super::dir::Dir;
use super::error::{CgroupError, timed_out};
use super::limits::{CpuQuota, Limits};
use super::setting::Setting;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

type Result<T> = std::result::Result<T, CgroupError>;

/// A v1 memory limit at or above this is "none": `LONG_MAX` rounded down to a page, of 64 KiB at most.
pub(super) const UNLIMITED: u64 = i64::MAX as u64 & !0xffff;

const LIMIT: &str = "memory.limit_in_bytes";
const TOTAL: &str = "memory.memsw.limit_in_bytes";

/// How many processes are held by a pidfd at once while a group is killed (a group may have more than we may open).
const KILL_BATCH: usize = 128;
/// Rounds of freeze, kill, thaw: each waits at most 20 ms, so a kill blocks for at most about 4 s.
const KILL_ROUNDS: u32 = 200;

/// What the memory controller has now; a fresh group is `UNLIMITED` in both. `total` is `None` without swap accounting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MemoryNow {
    pub(super) limit: u64,
    pub(super) total: Option<u64>,
}

impl MemoryNow {
    /// A group that nobody has limited yet.
    pub(super) fn fresh(dir: &Dir) -> MemoryNow {
        MemoryNow { limit: UNLIMITED, total: dir.has(TOTAL).then_some(UNLIMITED) }
    }

    pub(super) fn read(dir: &Dir) -> Result<MemoryNow> {
        let number = |file: &str| {
            let text = dir.read(file)?;
            super::parse::number(&text)
                .ok_or_else(|| CgroupError::refused("read", dir.path().join(file), format!("{text:?} is no number")))
        };
        let total = if dir.has(TOTAL) { Some(number(TOTAL)?) } else { None };
        Ok(MemoryNow { limit: number(LIMIT)?, total })
    }
}

/// The memory writes, ordered so that memory never exceeds memory + swap on the way (the kernel's EINVAL). A changed
/// memory limit keeps the amount of swap, as in v2.
pub(super) fn memory(limits: &Limits, now: MemoryNow) -> Vec<Setting> {
    let set = |file, value: u64, field| Setting::new(Controller::Memory, file, value.to_string(), field);
    let limit = limits.memory.unwrap_or(now.limit);
    let kept = now.total.filter(|t| *t < UNLIMITED && now.limit < UNLIMITED).map(|t| t.saturating_sub(now.limit));
    let total = limits.memory_swap.or(kept).map(|swap| limit.saturating_add(swap));
    let mut writes = Vec::new();
    if limits.memory.is_some() {
        writes.push(set(LIMIT, limit, "memory"));
    }
    if let Some(total) = total {
        let field = if limits.memory_swap.is_some() { "memory_swap" } else { "memory" };
        let write = set(TOTAL, total, field);
        let raises = now.total.is_some_and(|old| total > old);
        writes.insert(if raises { 0 } else { writes.len() }, write);
    }
    writes
}

/// The CPU writes. The quota is lifted first: the kernel checks each write on its own, and the old quota in the new
/// period may be more than the parent has.
pub(super) fn cpu(limits: &Limits) -> Vec<Setting> {
    let set = |file, value, field| Setting::new(Controller::Cpu, file, value, field);
    let mut writes = Vec::new();
    if let Some(weight) = limits.cpu_weight {
        let exact = limits.cpu_shares.unwrap_or_else(|| shares(weight));
        writes.push(set("cpu.shares", exact.to_string(), "cpu_weight"));
    }
    if let Some(quota) = limits.cpu_quota {
        writes.push(set("cpu.cfs_quota_us", "-1".into(), "cpu_quota"));
        writes.push(set("cpu.cfs_period_us", quota.period_us.to_string(), "cpu_quota"));
        if quota.quota_us != CpuQuota::NONE {
            writes.push(set("cpu.cfs_quota_us", quota.quota_us.to_string(), "cpu_quota"));
        }
    }
    writes
}

/// The same proportions around both defaults, 100 and 1024, as systemd does it.
fn shares(weight: u64) -> u64 {
    weight.saturating_mul(1024).div_euclid(100).clamp(2, 262_144)
}

/// A new v1 cpuset is empty and refuses every task with ENOSPC: give it what its parent has.
pub(super) fn fill_cpuset(parent: &Dir, child: &Dir) -> Result<()> {
    for (file, effective) in [("cpuset.cpus", "cpuset.effective_cpus"), ("cpuset.mems", "cpuset.effective_mems")] {
        if !child.read(file)?.trim().is_empty() {
            continue;
        }
        let mut value = parent.read(file)?;
        if value.trim().is_empty() {
            value = parent.read(effective)?;
        }
        child.write(file, value.trim())?;
    }
    Ok(())
}

/// FROZEN; `freezer.state` says FREEZING until the last task has stopped, and reading it is what moves it on.
pub(super) fn set_frozen(dir: &Dir, frozen: bool) -> Result<()> {
    dir.write("freezer.state", if frozen { "FROZEN" } else { "THAWED" })
}

pub(super) fn is_frozen(dir: &Dir) -> Result<Option<bool>> {
    Ok(match dir.read("freezer.state")?.trim() {
        "FROZEN" => Some(true),
        "THAWED" => Some(false),
        _ => None,
    })
}

/// The processes of this group and of those below it, as far as our pid namespace sees them (0 is one it does not).
pub(super) fn processes(dir: &Dir) -> Result<BTreeSet<i32>> {
    let mut all = BTreeSet::new();
    dir.visit(&mut |group| {
        match group.read("cgroup.procs") {
            Ok(text) => all.extend(text.lines().filter_map(|l| l.parse::<i32>().ok())),
            Err(e) if e.is_gone() => {}
            Err(e) => return Err(e),
        }
        Ok(())
    })?;
    Ok(all)
}

/// Kills everything in `dir` and below: freeze (so that nobody forks away), SIGKILL each through a pidfd, thaw (a
/// v1-frozen task does not die before), until nobody is left. `freeze` is the file system's own way to do it.
pub(super) fn kill_each(dir: &Dir, freeze: &dyn Fn(bool) -> Result<()>) -> Result<()> {
    for _ in 0..KILL_ROUNDS {
        match kill_round(dir, freeze) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(e) if e.is_gone() => return Ok(()),
            Err(e) => {
                let _ = freeze(false);
                return Err(e);
            }
        }
    }
    Err(timed_out("kill", dir.path(), "processes are left after 200 rounds of freeze, kill, thaw"))
}

/// One round; true when the group was empty.
fn kill_round(dir: &Dir, freeze: &dyn Fn(bool) -> Result<()>) -> Result<bool> {
    if processes(dir)?.is_empty() {
        freeze(false)?;
        return Ok(true);
    }
    freeze(true)?;
    let held = signal_each(dir);
    // Whatever came of it: nobody dies frozen.
    freeze(false)?;
    await_first_death(&held?);
    Ok(false)
}

/// Kills what is frozen in `dir` and below, and thaws it: nobody forks meanwhile, so one round is enough.
pub(super) fn kill_frozen(dir: &Dir, freeze: &dyn Fn(bool) -> Result<()>) -> Result<()> {
    let signalled = signal_each(dir);
    freeze(false).and(signalled.map(drop))
}

/// SIGKILL to each; what is returned are the last of them.
fn signal_each(dir: &Dir) -> Result<Vec<(i32, OwnedFd)>> {
    let pids: Vec<i32> = processes(dir)?.into_iter().collect();
    let mut held = Vec::new();
    for batch in pids.chunks(KILL_BATCH) {
        held = hold(batch);
        signal_members(dir, &held)?;
    }
    Ok(held)
}

fn hold(pids: &[i32]) -> Vec<(i32, OwnedFd)> {
    let open = |pid: &i32| Some((*pid, pidfd_open(Pid::from_raw(*pid)?, PidfdFlags::empty()).ok()?));
    pids.iter().filter(|pid| **pid > 0).filter_map(open).collect()
}

/// The group is listed again *after* the pidfds were opened: a process that has a listed number is in the group, and a
/// pidfd of somebody who had that number in between is dead. So no stranger is ever signalled.
fn signal_members(dir: &Dir, held: &[(i32, OwnedFd)]) -> Result<()> {
    let members = processes(dir)?;
    for (_, fd) in held.iter().filter(|(pid, _)| members.contains(pid)) {
        match pidfd_send_signal(fd, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(e) => return Err(CgroupError::sys("kill the processes of", dir.path(), e)),
        }
    }
    Ok(())
}

/// Up to 20 ms. Only paces the rounds: whatever it says, the next round looks at the group itself.
fn await_first_death(targets: &[(i32, OwnedFd)]) {
    let mut fds: Vec<PollFd<'_>> = targets.iter().map(|(_, fd)| PollFd::new(fd, PollFlags::IN)).collect();
    let _ = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 20_000_000 }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writes(limits: &Limits, limit: u64, total: Option<u64>) -> Vec<(&'static str, String)> {
        let known = |file: &str| [LIMIT, TOTAL].into_iter().find(|known| *known == file).unwrap();
        memory(limits, MemoryNow { limit, total }).into_iter().map(|s| (known(&s.file), s.value)).collect()
    }

    #[test]
    fn memory_and_swap_are_ordered() {
        let (limit, sum) = (LIMIT, TOTAL);
        let ask = |memory, memory_swap| Limits { memory, memory_swap, ..Limits::default() };
        let fresh = Some(UNLIMITED);
        assert_eq!(writes(&ask(Some(64), None), UNLIMITED, fresh), [(limit, "64".into())]);
        assert_eq!(writes(&ask(Some(64), Some(0)), UNLIMITED, fresh), [(limit, "64".into()), (sum, "64".into())]);
        // Raised: the sum first. Lowered: memory first. The amount of swap stays.
        assert_eq!(writes(&ask(Some(96), None), 64, Some(80)), [(sum, "112".into()), (limit, "96".into())]);
        assert_eq!(writes(&ask(Some(32), None), 64, Some(80)), [(limit, "32".into()), (sum, "48".into())]);
        assert_eq!(writes(&ask(None, Some(1)), 64, Some(80)), [(sum, "65".into())]);
        assert_eq!(writes(&ask(Some(32), None), 64, None), [(limit, "32".into())]);
        assert!(writes(&ask(None, None), UNLIMITED, fresh).is_empty());
    }

    #[test]
    fn weights_keep_their_proportions() {
        assert_eq!([shares(1), shares(100), shares(10_000)], [10, 1024, 102_400]);
        let exact = Limits { cpu_weight: Some(20), cpu_shares: Some(512), ..Limits::default() };
        assert_eq!(cpu(&exact).first().map(|write| write.value.as_str()), Some("512"));
    }
}
