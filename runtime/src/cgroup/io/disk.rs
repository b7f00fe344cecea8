//! Which disk a name means, and whether anything there heeds a weight: /dev, and what /sys says of it. Never a cgroup file.

use super::BlockDevice;
use rustix::fs::{self as rfs, FileType};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

const NUMBERS: &str = "/sys/dev/block";

/// A whole disk, as the files of cgroups name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cgroup) struct Disk {
    pub(super) major: u32,
    pub(super) minor: u32,
}

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

impl Disk {
    /// The disk that this names; else why there is none.
    pub(in crate::cgroup) fn of(device: &BlockDevice) -> Result<Disk, String> {
        let disk = match device {
            BlockDevice::Number { major, minor } => Disk { major: *major, minor: *minor },
            BlockDevice::Path(path) => at(path)?,
        };
        disk.whole()
    }

    /// The kernel refuses limits on partitions. Without a /sys it says itself what it does not take.
    fn whole(self) -> Result<Disk, String> {
        let known = self.known();
        if !known.exists() {
            let readable = Path::new(NUMBERS).exists();
            return if readable { Err(format!("no block device has the number {self}")) } else { Ok(self) };
        }
        if !known.join("partition").exists() {
            return Ok(self);
        }
        // Through the link, and up: the directory of a partition lies in its disk's.
        let text = fs::read_to_string(known.join("../dev")).unwrap_or_default();
        match text.trim().parse() {
            Ok(BlockDevice::Number { major, minor }) => Ok(Disk { major, minor }),
            _ => Err(format!("{self} is a partition, and /sys does not say of which disk")),
        }
    }

    fn known(self) -> PathBuf {
        Path::new(NUMBERS).join(self.to_string())
    }

    /// Its scheduler is bfq, which shares it by weight.
    pub(super) fn is_under_bfq(self) -> bool {
        is_bfq(&self.known())
    }
}

fn at(path: &Path) -> Result<Disk, String> {
    let stat = rfs::stat(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let number = |device| Disk { major: rfs::major(device), minor: rfs::minor(device) };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::BlockDevice => Ok(number(stat.st_rdev)),
        FileType::CharacterDevice => Err(format!("{} is no block device", path.display())),
        _ if rfs::major(stat.st_dev) == 0 => Err(format!(
            "{} is on a file system that is on no single device (overlay, tmpfs, btrfs, a network's): name the device itself",
            path.display()
        )),
        _ => Ok(number(stat.st_dev)),
    }
}

/// Two names of one disk.
pub(super) fn is_same(one: &BlockDevice, other: &BlockDevice) -> bool {
    one == other || Disk::of(one).is_ok_and(|disk| Disk::of(other) == Ok(disk))
}

/// Any disk of this machine is under bfq.
pub(super) fn is_any_under_bfq() -> bool {
    fs::read_dir("/sys/block").into_iter().flatten().flatten().any(|disk| is_bfq(&disk.path()))
}

fn is_bfq(disk: &Path) -> bool {
    fs::read_to_string(disk.join("queue/scheduler")).is_ok_and(|text| text.contains("[bfq]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str) -> Result<Disk, String> {
        Disk::of(&BlockDevice::Path(path.into()))
    }

    #[test]
    fn what_is_no_disk_is_said_to_be_none() {
        for (path, why) in
            [("/no/such", "No such file"), ("/dev/null", "no block device"), ("/proc", "no single device")]
        {
            let told = of(path).unwrap_err();
            assert!(told.contains(why) && told.starts_with(path), "{told}");
        }
        let none = BlockDevice::Number { major: 4095, minor: 7 };
        assert!(!Path::new(NUMBERS).exists() || Disk::of(&none).is_err());
        assert!(is_same(&none, &none) && !is_same(&none, &BlockDevice::Path("/proc".into())));
    }

    /// Of whatever this machine has: nothing is asked of it but to be there.
    #[test]
    fn a_partition_stands_for_its_disk() {
        for found in fs::read_dir(NUMBERS).into_iter().flatten().flatten() {
            let device: BlockDevice = found.file_name().to_str().unwrap().parse().unwrap();
            let disk = Disk::of(&device).unwrap();
            assert!(!disk.known().join("partition").exists(), "{device} is {disk}");
            assert_eq!(disk.to_string() == device.to_string(), !found.path().join("partition").exists(), "{device}");
        }
    }
}
