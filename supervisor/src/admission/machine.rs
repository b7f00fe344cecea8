//! What the machine sets limits by, read when it is asked.

use std::fs;

use orangery_runtime::spec::{Resource, rlimit};

/// Where it is read; another one in tests.
#[derive(Clone, Copy, Debug)]
pub(super) struct Machine {
    /// The soft limit on descriptors, which its owner may change at any time; `u64::MAX`: none.
    pub(super) nofile: fn() -> u64,
    /// Descriptors that are open in the process; `None` where the kernel does not say.
    pub(super) open: fn() -> Option<u64>,
}

/// What was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) nofile: u64,
    pub(super) open: Option<u64>,
}

impl Machine {
    pub(super) fn look(self) -> Seen {
        Seen { nofile: (self.nofile)(), open: (self.open)() }
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self { nofile, open }
    }
}

fn nofile() -> u64 {
    match Resource::Nofile.current() {
        (rlimit::INFINITY, _) => u64::MAX,
        (soft, _) => soft,
    }
}

/// Since Linux 6.2 the size of the directory is how many entries it has; before it is 0, and counting them each time would
/// cost milliseconds.
fn open() -> Option<u64> {
    let size = rustix::fs::stat("/proc/self/fd").ok()?.st_size;
    u64::try_from(size).ok().filter(|count| *count > 0)
}

fn number(file: &str) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Most pages of pipes, where the kernel sets this user a limit.
pub(super) fn pipe_pages() -> Option<u64> {
    // CAP_SYS_ADMIN, CAP_SYS_RESOURCE
    const FREE: u64 = 1 << 21 | 1 << 24;
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let caps = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    let caps = u64::from_str_radix(caps.trim(), 16).ok()?;
    let hard = number("/proc/sys/fs/pipe-user-pages-hard")?;
    (caps & FREE == 0 && hard > 0).then_some(hard)
}

/// Half of the machine's memory: what buffers may take together unless another limit is set.
pub(super) fn half_of_memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.map_or(1 << 30, |kib| kib * 512)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_is_what_the_directory_lists() {
        let (said, listed) = (open(), fs::read_dir("/proc/self/fd").unwrap().count() as u64);
        // Other tests of this process open and close.
        assert!(said.is_none_or(|said| said.abs_diff(listed) < 200), "{said:?} {listed}");
        assert!(half_of_memory() > 1 << 20);
    }
}
