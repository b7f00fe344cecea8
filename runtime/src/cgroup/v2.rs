//! cgroup v2: the values its files take, switching controllers on, and the notifications of `cgroup.events`.

use super::detect::Controller;
use super::dir::Dir;
use super::error::{CgroupError, unsupported};
use super::limits::{CpuQuota, Limits, PIDS_MAX};
use super::parse;
use super::setting::Setting;
use super::v1;
use rustix::fs::OFlags;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

type Result<T> = std::result::Result<T, CgroupError>;

/// The writes for the limits that are asked, but for those of devices (`io/files.rs`).
pub(super) fn settings(limits: &Limits) -> Vec<Setting> {
    let quota = limits.cpu_quota.map(|q| match q.quota_us {
        CpuQuota::NONE => format!("max {}", q.period_us),
        us => format!("{us} {}", q.period_us),
    });
    let pids = limits.pids.map(|most| if most == PIDS_MAX { "max".to_owned() } else { most.to_string() });
    let number = |value: Option<u64>| value.map(|v| v.to_string());
    [
        (Controller::Memory, "memory.max", number(limits.memory), "memory"),
        (Controller::Memory, "memory.swap.max", number(limits.memory_swap), "memory_swap"),
        (Controller::Cpu, "cpu.weight", number(limits.cpu_weight), "cpu_weight"),
        (Controller::Cpu, "cpu.max", quota, "cpu_quota"),
        (Controller::Cpuset, "cpuset.cpus", limits.cpuset_cpus.clone(), "cpuset_cpus"),
        (Controller::Cpuset, "cpuset.mems", limits.cpuset_mems.clone(), "cpuset_mems"),
        (Controller::Pids, "pids.max", pids, "pids"),
    ]
    .into_iter()
    .filter_map(|(controller, file, value, field)| Some(Setting::new(controller, file, value?, field)))
    .collect()
}

/// Processes of its own would make this group refuse controllers for its children (the "no internal processes" rule).
/// The hierarchy's true root, the one group without a `cgroup.type`, is exempt.
pub(super) fn has_internal_processes(dir: &Dir) -> Result<bool> {
    if !dir.has("cgroup.type") {
        return Ok(false);
    }
    Ok(!dir.read("cgroup.procs")?.trim().is_empty())
}

/// Switches on what it can of our controllers for the children of `dir`. Returns those that are on, and why the
/// others are not. One write each: a single write is all or nothing.
pub(super) fn enable(dir: &Dir) -> (Vec<Controller>, BTreeMap<Controller, String>) {
    enable_of(dir, &|_| true)
}

/// The same of those that are wanted; others that are on already are on.
pub(super) fn enable_of(
    dir: &Dir,
    wanted: &dyn Fn(Controller) -> bool,
) -> (Vec<Controller>, BTreeMap<Controller, String>) {
    let words = |file| dir.read(file).map(|t| parse::words(&t)).unwrap_or_default();
    let (available, on) = (words("cgroup.controllers"), words("cgroup.subtree_control"));
    let (mut enabled, mut refused) = (Vec::new(), BTreeMap::new());
    for controller in Controller::V2 {
        let name = controller.name();
        if on.iter().any(|w| w == name) {
            enabled.push(controller);
        } else if !wanted(controller) {
            refused.insert(controller, format!("nobody has asked for the {name} controller of this group"));
        } else if !available.iter().any(|w| w == name) {
            refused.insert(controller, format!("{} has no {name} controller", dir.path().display()));
        } else {
            match dir.write("cgroup.subtree_control", &format!("+{name}")) {
                Ok(()) => enabled.push(controller),
                Err(e) => {
                    refused.insert(controller, describe(&e));
                }
            }
        }
    }
    (enabled, refused)
}

/// Our controllers that `dir` has.
pub(super) fn available(dir: &Dir) -> Vec<Controller> {
    let there = dir.read("cgroup.controllers").map(|text| parse::words(&text)).unwrap_or_default();
    Controller::V2.into_iter().filter(|controller| there.iter().any(|word| word == controller.name())).collect()
}

/// Our controllers that are on for the children of `dir`.
pub(super) fn enabled(dir: &Dir) -> Vec<Controller> {
    let on = dir.read("cgroup.subtree_control").map(|text| parse::words(&text)).unwrap_or_default();
    Controller::V2.into_iter().filter(|controller| on.iter().any(|word| word == controller.name())).collect()
}

/// An error with its cause, for the reasons that `supports` and `why_none` give.
pub(super) fn describe(error: &CgroupError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// `cgroup.kill` (5.14); before that, and `without` it, freeze (5.2), SIGKILL each, thaw; before that without freezing.
pub(super) fn kill(dir: &Dir, without: bool) -> Result<()> {
    match kill_at_once(dir, without)? {
        true => Ok(()),
        false => v1::kill_each(dir, &|frozen| set_frozen_if(dir, frozen)),
    }
}

/// The same for a frozen group, and nothing is waited for.
pub(super) fn kill_frozen(dir: &Dir, without: bool) -> Result<()> {
    match kill_at_once(dir, without)? {
        true => Ok(()),
        false => v1::kill_frozen(dir, &|frozen| set_frozen_if(dir, frozen)),
    }
}

/// One write; `false`: there is no file for it.
fn kill_at_once(dir: &Dir, without: bool) -> Result<bool> {
    if without {
        return Ok(false);
    }
    match dir.write("cgroup.kill", "1") {
        Err(e) if e.is_gone() && dir.has("cgroup.procs") => Ok(false),
        Err(e) if e.is_gone() => Ok(true),
        other => other.map(|()| true),
    }
}

fn set_frozen_if(dir: &Dir, frozen: bool) -> Result<()> {
    match set_frozen(dir, frozen) {
        Err(e) if e.is_unsupported() => Ok(()),
        other => other,
    }
}

/// `cgroup.freeze` (5.2); asynchronous: `cgroup.events` tells when all have stopped.
pub(super) fn set_frozen(dir: &Dir, frozen: bool) -> Result<()> {
    match dir.write("cgroup.freeze", if frozen { "1" } else { "0" }) {
        Err(e) if e.is_gone() && dir.has("cgroup.procs") => {
            Err(unsupported("freeze", dir.path(), "this kernel has no cgroup.freeze (it came with 5.2)"))
        }
        other => other,
    }
}

/// Waits until `key` of `cgroup.events` is `wanted`. `Ok(false)`: the group was removed meanwhile.
///
/// Register, then look, then wait: the file is opened and registered before the first read, so a change after that
/// read makes an edge; an edge before it costs one more read. The kernel sends notifications up to 18 ms late, so the
/// file is also right before any edge.
pub(super) async fn await_event(dir: &Dir, key: &'static str, wanted: bool) -> Result<bool> {
    let opened = match dir.file("cgroup.events", OFlags::RDONLY | OFlags::NONBLOCK) {
        Ok(fd) => fd,
        Err(e) if e.is_gone() => return Ok(false),
        Err(e) => return Err(e),
    };
    let fail = |e: std::io::Error| CgroupError::sys("watch", dir.path().join("cgroup.events"), e);
    let watched = watch(opened).map_err(fail)?;
    loop {
        match read_event(watched.get_ref(), key) {
            Ok(Some(value)) if value == wanted => return Ok(true),
            Ok(Some(_)) => {}
            Ok(None) => {
                return Err(unsupported("watch", dir.path(), format!("cgroup.events has no {key:?}")));
            }
            Err(rustix::io::Errno::NODEV) => return Ok(false),
            Err(e) => return Err(fail(e.into())),
        }
        watched.ready(Interest::PRIORITY).await.map_err(fail)?.clear_ready();
    }
}

/// What `cgroup.events` says of `key` now.
pub(super) fn event(dir: &Dir, key: &'static str) -> Result<Option<bool>> {
    let text = dir.read("cgroup.events")?;
    Ok(text.lines().find_map(|line| Some(line.strip_prefix(key)?.trim() == "1")))
}

/// tokio calls the safe constructor unsound because a type may answer `as_raw_fd` with another number each time; an
/// `OwnedFd` cannot, and the replacement is `unsafe`.
#[expect(deprecated, reason = "the successor is unsafe; its condition holds for OwnedFd")]
fn watch(fd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, Interest::PRIORITY)
}

fn read_event(fd: &OwnedFd, key: &str) -> rustix::io::Result<Option<bool>> {
    let mut buffer = [0u8; 512];
    let length = rustix::io::retry_on_intr(|| rustix::io::pread(fd, &mut buffer, 0))?;
    let text = String::from_utf8_lossy(&buffer[..length]);
    Ok(parse::keyed(&text, key).map(|value| value != 0))
}

/// Where the v2 tree shows an empty group right now; a removed one is empty.
pub(super) fn is_empty(dir: &Dir) -> Result<bool> {
    match dir.read("cgroup.events") {
        Ok(text) => Ok(parse::keyed(&text, "populated") == Some(0)),
        Err(e) if e.is_gone() => Ok(true),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::CpuQuota;

    #[test]
    fn rare_controllers_are_switched_on_where_they_are_wanted() {
        let group = tempfile::tempdir().unwrap();
        std::fs::write(group.path().join("cgroup.controllers"), "cpu memory pids hugetlb misc\n").unwrap();
        std::fs::write(group.path().join("cgroup.subtree_control"), "memory misc\n").unwrap();
        let dir = Dir::open(group.path()).unwrap();
        let (on, refused) = enable_of(&dir, &|controller| controller == Controller::Pids);
        assert_eq!(on, [Controller::Memory, Controller::Pids, Controller::Misc], "what is on stays");
        assert!(refused[&Controller::Hugetlb].contains("nobody has asked") && !refused.contains_key(&Controller::Misc));
        let (on, refused) = enable(&dir);
        assert!(on.contains(&Controller::Hugetlb) && refused[&Controller::Rdma].contains("has no rdma controller"));
        assert!(Controller::V2.into_iter().filter(|one| one.is_rare()).count() == 4 && !Controller::Pids.is_rare());
    }

    #[test]
    fn every_limit_has_its_file() {
        let all = Limits {
            memory: Some(1 << 20),
            memory_swap: Some(0),
            cpu_quota: Some(CpuQuota { quota_us: 5000, period_us: 100_000 }),
            cpu_weight: Some(7),
            cpuset_cpus: Some("0-1".into()),
            cpuset_mems: Some("0".into()),
            pids: Some(9),
            ..Limits::default()
        };
        let lines: Vec<String> = settings(&all).into_iter().map(|s| format!("{}={}", s.file, s.value)).collect();
        assert_eq!(
            lines,
            [
                "memory.max=1048576",
                "memory.swap.max=0",
                "cpu.weight=7",
                "cpu.max=5000 100000",
                "cpuset.cpus=0-1",
                "cpuset.mems=0",
                "pids.max=9"
            ]
        );
        assert!(settings(&Limits::default()).is_empty());
    }
}
