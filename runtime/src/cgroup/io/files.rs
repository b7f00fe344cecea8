//! What is written for limits of devices, and where; or why it cannot be. Weights have two readers in the kernel: the scheduler
//! bfq, in files of its own in both versions, and io.cost of v2, which an administrator switches on for a disk in `io.cost.qos` of the
//! topmost group.

use super::super::detect::Controller;
use super::super::dir::Dir;
use super::super::error::{CgroupError, unsupported};
use super::super::limits::Limits;
use super::super::place::Place;
use super::super::setting::{Line, Setting};
use super::disk::{self, Disk};
use super::{BlockDevice, NONE};

const BFQ: &str = "io.bfq.weight";
const COST: &str = "io.weight";
/// v1's, for all devices and for one; the second pair is that of schedulers before bfq.
const LEGACY: [(&str, &str); 2] =
    [("blkio.bfq.weight", "blkio.bfq.weight_device"), ("blkio.weight", "blkio.weight_device")];
const THROTTLE: [(&str, &str); 4] = [
    ("rbps", "blkio.throttle.read_bps_device"),
    ("wbps", "blkio.throttle.write_bps_device"),
    ("riops", "blkio.throttle.read_iops_device"),
    ("wiops", "blkio.throttle.write_iops_device"),
];

/// Why the limit of this name cannot be had, where the controller is there.
pub(in crate::cgroup) fn refusal(place: &Place, legacy: bool, field: &str, limits: &Limits) -> Option<String> {
    let dir = &place.dir;
    let known = |files: &[&str]| {
        let none = files.iter().all(|file| dir.lacks(file));
        none.then(|| format!("this kernel has no {} ({})", files.join(" and no "), dir.path().display()))
    };
    if let Some(of) = limits.io_max.iter().find(|of| of.name() == field) {
        let file = if legacy { THROTTLE[0].1 } else { "io.max" };
        let others = limits.io_max.iter().filter(|other| other.name() != field).map(|other| &other.device);
        return known(&[file]).or_else(|| why_not(&of.device, others));
    }
    let files = if legacy { [LEGACY[0].0, LEGACY[1].0] } else { [BFQ, COST] };
    let of = limits.io_device_weight.iter().find(|of| of.name() == field).map(|of| &of.device);
    known(&files).or_else(|| match of {
        None => (!disk::is_any_under_bfq() && cost(place, legacy).is_empty())
            .then(|| format!("no disk here shares by weight: {HEEDS}")),
        Some(device) => {
            let others = limits.io_device_weight.iter().map(|of| &of.device).filter(|other| *other != device);
            why_not(device, others).or_else(|| unweighed(place, legacy, device))
        }
    })
}

const HEEDS: &str = "the scheduler bfq does (/sys/block/*/queue/scheduler), and on cgroup v2 io.cost (io.cost.qos)";

/// There is no such disk, or another one of the same limits is it too.
fn why_not<'a>(device: &BlockDevice, mut others: impl Iterator<Item = &'a BlockDevice>) -> Option<String> {
    if let Err(why) = Disk::of(device) {
        return Some(why);
    }
    let twin = others.find(|other| disk::is_same(device, other))?;
    Some(format!("{device} and {twin} are on the same disk, which is what the kernel limits: name it once"))
}

fn unweighed(place: &Place, legacy: bool, device: &BlockDevice) -> Option<String> {
    let disk = Disk::of(device).ok()?;
    let heeds = disk.is_under_bfq() || cost(place, legacy).contains(&disk.to_string());
    (!heeds).then(|| format!("{device} does not share by weight: {HEEDS}"))
}

/// The disks under io.cost, as far as we can see the topmost group.
fn cost(place: &Place, legacy: bool) -> Vec<String> {
    let top = place.dir.path().ancestors().nth(place.depth).filter(|_| !legacy);
    let text = top.and_then(|top| std::fs::read_to_string(top.join("io.cost.qos")).ok()).unwrap_or_default();
    let enabled = text.lines().filter(|line| line.split(' ').any(|word| word == "enable=1"));
    enabled.filter_map(|line| Some(line.split_once(' ')?.0.to_owned())).collect()
}

/// The writes for the limits that are asked.
pub(in crate::cgroup) fn settings(limits: &Limits, dir: &Dir, legacy: bool) -> Result<Vec<Setting>, CgroupError> {
    let mut writes: Vec<Setting> = Vec::new();
    if let Some(weight) = limits.io_weight {
        writes.extend(general(dir, legacy, weight));
    }
    for of in &limits.io_device_weight {
        let disk = found(dir, &of.device, of.name())?;
        writes.push(own(dir, legacy, disk, of.weight).with_field(of.name()));
    }
    for of in &limits.io_max {
        let disk = found(dir, &of.device, of.name())?;
        let asked = of.rates().into_iter().filter_map(|(key, rate)| Some((key, rate?)));
        let set = if legacy { throttle(disk, asked) } else { vec![most(disk, asked)] };
        writes.extend(set.into_iter().map(|setting| setting.with_field(of.name())));
    }
    Ok(writes)
}

fn found(dir: &Dir, device: &BlockDevice, field: String) -> Result<Disk, CgroupError> {
    Disk::of(device).map_err(|why| unsupported("limit io of", dir.path(), why).with_field(field))
}

fn set(file: &'static str, value: String) -> Setting {
    Setting::new(Controller::Io, file, value, "io_weight")
}

/// The weight for all devices that have none of their own, wherever the kernel reads one.
fn general(dir: &Dir, legacy: bool, weight: u64) -> Vec<Setting> {
    if legacy {
        let (file, _) = LEGACY[usize::from(!dir.has(LEGACY[0].0))];
        return vec![set(file, bfq(weight).to_string())];
    }
    let line = || Line { key: "default".into(), reset: "default 100".into() };
    let set = |file, weight: u64| set(file, format!("default {weight}")).of_line(line());
    [(BFQ, bfq(weight)), (COST, weight)].into_iter().filter(|(file, _)| dir.has(file)).map(|(f, w)| set(f, w)).collect()
}

/// The weight on one, where that device reads it.
fn own(dir: &Dir, legacy: bool, disk: Disk, weight: u64) -> Setting {
    let (file, weight) = match legacy {
        true => (LEGACY[usize::from(!dir.has(LEGACY[0].1))].1, bfq(weight)),
        false if disk.is_under_bfq() => (BFQ, bfq(weight)),
        false => (COST, weight),
    };
    let line = Line { key: disk.to_string(), reset: format!("{disk} default") };
    set(file, format!("{disk} {weight}")).of_line(line)
}

/// The same proportions around everybody's 100, in bfq's range of 1 to 1000: as systemd does it.
fn bfq(weight: u64) -> u64 {
    if weight <= 100 { weight } else { 100 + (weight - 100) * 900 / 9900 }
}

fn most(disk: Disk, asked: impl Iterator<Item = (&'static str, u64)>) -> Setting {
    let mut value = disk.to_string();
    for (key, rate) in asked {
        value.push_str(&if rate == NONE { format!(" {key}=max") } else { format!(" {key}={rate}") });
    }
    let key = disk.to_string();
    set("io.max", value).of_line(Line { reset: unlimited(&key, false), key })
}

fn throttle(disk: Disk, asked: impl Iterator<Item = (&'static str, u64)>) -> Vec<Setting> {
    let file = |key| THROTTLE.into_iter().find_map(|(known, file)| (known == key).then_some(file));
    let key = disk.to_string();
    let line = || Line { reset: unlimited(&key, true), key: key.clone() };
    let value = |rate| if rate == NONE { 0 } else { rate };
    asked.filter_map(|(key, rate)| Some(set(file(key)?, format!("{disk} {}", value(rate))).of_line(line()))).collect()
}

/// Take all rates away from a group and those below it: what it has begun to write ends now, and not when its turn comes. What
/// cannot be written stays as it is.
pub(in crate::cgroup) fn lift(dir: &Dir, legacy: bool) {
    let files: &[&'static str] = if legacy { &THROTTLE.map(|(_, file)| file) } else { &["io.max"] };
    let _ = dir.visit(&mut |group| {
        for file in files {
            let text = group.read(file).unwrap_or_default();
            for disk in text.lines().filter_map(|line| line.split(' ').next()) {
                let _ = group.write(file, &unlimited(disk, legacy));
            }
        }
        Ok(())
    });
}

fn unlimited(disk: &str, legacy: bool) -> String {
    // Zero is "none" on v1.
    if legacy { format!("{disk} 0") } else { format!("{disk} rbps=max wbps=max riops=max wiops=max") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> Disk {
        Disk { major: 8, minor: 16 }
    }

    fn line(setting: Setting) -> (String, String) {
        (format!("{}={}", setting.file, setting.value), setting.line.unwrap().reset)
    }

    #[test]
    fn every_rate_has_its_place() {
        let asked = [("rbps", 9), ("wiops", NONE)];
        let all = "8:16 rbps=max wbps=max riops=max wiops=max".to_owned();
        assert_eq!(line(most(disk(), asked.into_iter())), ("io.max=8:16 rbps=9 wiops=max".into(), all));
        let legacy: Vec<_> = throttle(disk(), asked.into_iter()).into_iter().map(line).collect();
        let reset = || "8:16 0".to_owned();
        let files = ["blkio.throttle.read_bps_device=8:16 9", "blkio.throttle.write_iops_device=8:16 0"];
        assert_eq!(legacy, files.map(|file| (file.to_owned(), reset())));
        let every = throttle(disk(), ["rbps", "wbps", "riops", "wiops"].map(|key| (key, 2)).into_iter());
        assert_eq!(every.len(), 4);
    }

    #[test]
    fn weights_keep_their_proportions() {
        assert_eq!([bfq(1), bfq(100), bfq(4500), bfq(10_000)], [1, 100, 500, 1000]);
    }
}
