//! Limits of block devices: a weight among others, and most of bytes and operations a second. This file is what may be
//! asked, and its validation: pure.
//!
//! ```text
//!   disk.rs    a name -> the disk that the kernel counts by; whether anything there heeds a weight
//!   files.rs   what is written for it in both versions, and why it cannot be
//! ```

pub(super) mod disk;
pub(super) mod files;

use super::Limits;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// "No limit any more", for an update.
const NONE: u64 = u64::MAX;
/// Less than two a second is refused by v2.
const LEAST: u64 = 2;
/// Operations are counted in 32 bits, of which the largest number is "none".
const IOPS_MAX: u64 = u32::MAX as u64 - 1;
/// The most that a weight may be: `CGROUP_WEIGHT_MAX`.
const WEIGHT_MAX: u64 = 10_000;

/// A block device, by its number or by a path: of its node (links are followed), or of any file or directory, which means the
/// device of the file system that it is on.
///
/// Limits are a whole disk's, in the kernel: a partition stands for the disk that it is on. File systems that are on no single
/// device (overlay, tmpfs, btrfs, those of networks) do not stand for any. Paths are looked up by the supervisor, when the limit is
/// written.
///
/// ```
/// use orangery_runtime::cgroup::BlockDevice;
/// assert_eq!("8:16".parse(), Ok(BlockDevice::Number { major: 8, minor: 16 }));
/// assert_eq!("/dev/sdb".parse(), Ok(BlockDevice::Path("/dev/sdb".into())));
/// assert!("sdb".parse::<BlockDevice>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum BlockDevice {
    /// As `lsblk` shows it, MAJ:MIN.
    Number {
        /// Of its driver.
        major: u32,
        /// Among the driver's.
        minor: u32,
    },
    /// An absolute path.
    Path(PathBuf),
}

impl fmt::Display for BlockDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number { major, minor } => write!(f, "{major}:{minor}"),
            Self::Path(path) => write!(f, "{}", path.display()),
        }
    }
}

impl From<BlockDevice> for String {
    fn from(device: BlockDevice) -> String {
        device.to_string()
    }
}

impl TryFrom<String> for BlockDevice {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for BlockDevice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with('/') {
            return Ok(Self::Path(text.into()));
        }
        let number = |part: &str| super::parse::number(part).and_then(|n| u32::try_from(n).ok());
        let parts = text.split_once(':').and_then(|(major, minor)| Some((number(major)?, number(minor)?)));
        let (major, minor) = parts.ok_or_else(|| format!("{text:?} is no device: an absolute path, or MAJ:MIN"))?;
        Ok(Self::Number { major, minor })
    }
}

impl From<&Path> for BlockDevice {
    fn from(path: &Path) -> Self {
        Self::Path(path.into())
    }
}

impl From<PathBuf> for BlockDevice {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}

/// Most of what goes to and from one device, a second. `None` is "not asked"; `u64::MAX` takes a limit away in an update.
///
/// v2: `io.max` (4.5). v1: `blkio.throttle.*`, which count what processes wait for (reads, direct and synchronous writes) and
/// not what the kernel writes back later.
///
/// ```
/// use orangery_runtime::cgroup::{BlockDevice, IoMax, Limits};
/// let device = BlockDevice::Path("/dev/sda".into());
/// let io_max = vec![IoMax { write_bps: Some(10 << 20), read_iops: Some(500), ..IoMax::new(device) }];
/// assert!(Limits { io_max, ..Limits::default() }.validate().is_empty());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoMax {
    /// Which.
    pub device: BlockDevice,
    /// Bytes read: `rbps`.
    pub read_bps: Option<u64>,
    /// Bytes written: `wbps`.
    pub write_bps: Option<u64>,
    /// Reads: `riops`.
    pub read_iops: Option<u64>,
    /// Writes: `wiops`.
    pub write_iops: Option<u64>,
}

impl IoMax {
    /// Of this device, with nothing asked yet.
    pub fn new(device: impl Into<BlockDevice>) -> Self {
        Self { device: device.into(), read_bps: None, write_bps: None, read_iops: None, write_iops: None }
    }

    /// Each rate under the kernel's key.
    pub(super) fn rates(&self) -> [(&'static str, Option<u64>); 4] {
        [("rbps", self.read_bps), ("wbps", self.write_bps), ("riops", self.read_iops), ("wiops", self.write_iops)]
    }

    /// Its name among limits.
    pub(crate) fn name(&self) -> String {
        format!("io_max[{}]", self.device)
    }

    fn wrong(&self) -> Option<String> {
        let Self { device, .. } = self;
        if self.rates().iter().all(|(_, rate)| rate.is_none()) {
            return Some(format!("nothing is asked of {device}: rbps, wbps, riops or wiops"));
        }
        self.rates().into_iter().find_map(|(key, rate)| {
            let most = if key.ends_with("iops") { IOPS_MAX } else { NONE - 1 };
            let rate = rate.filter(|rate| *rate != NONE && !(LEAST..=most).contains(rate))?;
            Some(format!("{key} of {device}: {rate} is not between {LEAST} and {most}"))
        })
    }

    /// What holds after `new` was asked for beside `old`: of a device that both name, by whatever name, what is new counts.
    #[must_use]
    pub fn merged(old: Vec<Self>, new: Vec<Self>) -> Vec<Self> {
        let mut all = old;
        for new in new {
            match all.iter_mut().find(|old| disk::is_same(&old.device, &new.device)) {
                Some(old) => {
                    old.read_bps = new.read_bps.or(old.read_bps);
                    old.write_bps = new.write_bps.or(old.write_bps);
                    old.read_iops = new.read_iops.or(old.read_iops);
                    old.write_iops = new.write_iops.or(old.write_iops);
                }
                None => all.push(new),
            }
        }
        let limits = |rate: &mut Option<u64>| *rate = rate.filter(|rate| *rate != NONE);
        for of in &mut all {
            let Self { read_bps, write_bps, read_iops, write_iops, .. } = of;
            [read_bps, write_bps, read_iops, write_iops].into_iter().for_each(limits);
        }
        all.retain(|of| of.rates().iter().any(|(_, rate)| rate.is_some()));
        all
    }
}

/// A weight on one device, in the place of the general one there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoWeight {
    /// Which.
    pub device: BlockDevice,
    /// 1 to 10000; everybody's is 100.
    pub weight: u64,
}

impl IoWeight {
    /// Its name among limits.
    pub(crate) fn name(&self) -> String {
        format!("io_device_weight[{}]", self.device)
    }

    /// As [`IoMax::merged`].
    #[must_use]
    pub fn merged(old: Vec<Self>, new: Vec<Self>) -> Vec<Self> {
        let mut all = old;
        for new in new {
            all.retain(|old| !disk::is_same(&old.device, &new.device));
            all.push(new);
        }
        all
    }
}

/// What no kernel would take.
pub(super) fn validate(limits: &Limits) -> Vec<(&'static str, String)> {
    let mut wrong = Vec::new();
    let weight = |weight: u64| {
        let bad = !(1..=WEIGHT_MAX).contains(&weight);
        bad.then(|| format!("{weight} is not between 1 and {WEIGHT_MAX}"))
    };
    wrong.extend(limits.io_weight.and_then(weight).map(|why| ("io_weight", why)));
    for of in &limits.io_device_weight {
        wrong.extend(weight(of.weight).map(|why| ("io_device_weight", format!("{}: {why}", of.device))));
    }
    wrong.extend(limits.io_max.iter().filter_map(IoMax::wrong).map(|why| ("io_max", why)));
    wrong.extend(names(limits.io_device_weight.iter().map(|of| &of.device)).map(|why| ("io_device_weight", why)));
    wrong.extend(names(limits.io_max.iter().map(|of| &of.device)).map(|why| ("io_max", why)));
    wrong
}

/// Names that are none, and those that are there twice.
fn names<'a>(devices: impl Iterator<Item = &'a BlockDevice>) -> impl Iterator<Item = String> {
    let mut seen: Vec<&BlockDevice> = Vec::new();
    let mut wrong = Vec::new();
    for device in devices {
        if let BlockDevice::Path(path) = device
            && (!path.is_absolute() || path.to_str().is_none_or(|text| text.contains(['\0', '\n'])))
        {
            wrong.push(format!("{} is not an absolute path that can be used here", path.display()));
        }
        if seen.contains(&device) {
            wrong.push(format!("{device} is named twice: all that is asked of a device stands together"));
        }
        seen.push(device);
    }
    wrong.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(device: &str) -> IoMax {
        IoMax::new(device.parse::<BlockDevice>().unwrap())
    }

    fn wrong(io_max: Vec<IoMax>) -> Vec<&'static str> {
        validate(&Limits { io_max, ..Limits::default() }).into_iter().map(|(field, _)| field).collect()
    }

    #[test]
    fn devices_are_paths_or_numbers() {
        for bad in ["", ":", "8", "8:", ":0", "8:0:0", "-8:0", "8:4294967296", "sda", "./sda", " 8:0", "8:0\n1", "٣:0"]
        {
            assert!(bad.parse::<BlockDevice>().is_err(), "{bad:?}");
        }
        for good in ["0:0", "259:1048575", "/", "/dev/disk/by-id/a:b"] {
            let device: BlockDevice = good.parse().unwrap();
            let told = serde_json::to_string(&device).unwrap();
            assert_eq!(serde_json::from_str::<BlockDevice>(&told).unwrap(), device, "{told}");
        }
    }

    #[test]
    fn rates_are_what_the_kernel_takes() {
        for (bps, good) in [(0, false), (1, false), (2, true), (u64::MAX - 1, true), (u64::MAX, true)] {
            assert_eq!(wrong(vec![IoMax { read_bps: Some(bps), ..of("8:0") }]).is_empty(), good, "{bps}");
        }
        for (iops, good) in [(1, false), (2, true), (IOPS_MAX, true), (IOPS_MAX + 1, false), (u64::MAX, true)] {
            assert_eq!(wrong(vec![IoMax { write_iops: Some(iops), ..of("8:0") }]).is_empty(), good, "{iops}");
        }
        assert_eq!(wrong(vec![of("8:0")]), ["io_max"]);
        let one = IoMax { read_bps: Some(9), ..of("/dev/a") };
        assert_eq!(wrong(vec![one.clone(), one.clone()]), ["io_max"]);
        for path in ["a", "/a\nb", "/a\0"] {
            assert_eq!(wrong(vec![IoMax { device: Path::new(path).into(), ..one.clone() }]), ["io_max"], "{path:?}");
        }
    }

    #[test]
    fn weights_have_their_range() {
        for (weight, good) in [(0, false), (1, true), (10_000, true), (10_001, false)] {
            let limits = Limits { io_weight: Some(weight), ..Limits::default() };
            assert_eq!(validate(&limits).is_empty(), good, "{weight}");
            let io_device_weight = vec![IoWeight { device: "8:0".parse().unwrap(), weight }];
            assert_eq!(validate(&Limits { io_device_weight, ..Limits::default() }).is_empty(), good, "{weight}");
        }
    }

    #[test]
    fn what_is_new_counts_and_the_rest_stays() {
        let old = vec![IoMax { read_bps: Some(5), write_bps: Some(6), ..of("7:200") }];
        let new = vec![
            IoMax { read_bps: Some(NONE), read_iops: Some(7), ..of("7:200") },
            IoMax { read_bps: Some(NONE), ..of("7:201") },
        ];
        let holds = IoMax { write_bps: Some(6), read_iops: Some(7), ..of("7:200") };
        assert_eq!(IoMax::merged(old, new), [holds]);
        let weight = |weight| vec![IoWeight { device: "7:200".parse().unwrap(), weight }];
        assert_eq!(IoWeight::merged(weight(1), weight(2)), weight(2));
    }
}
