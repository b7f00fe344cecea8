//! What a container uses where no cgroup counts it: read of each of its processes. Blocks.
//!
//! Of processor time and of what was read and written the kernel keeps what a process has used itself and what the children
//! have used that it has waited for. So what has ended is counted while somebody of the container lives who has waited for it,
//! and that is its init at the latest; what the keeper waits for (the main process, further ones) is not, and nor are children
//! whose parent ignores SIGCHLD.

use std::os::fd::OwnedFd;

use super::container::Core;
use super::lives;
use super::space::{Member, Space};
use crate::cgroup::{Group, Source, Stats};

/// USER_HZ: the kernel's own is another one, but this is what it tells, on every machine that we run on.
const TICKS: u64 = 100;

impl Core {
    /// What its cgroup has counted, or else what its processes tell. Nothing where it has neither a group nor a pid namespace
    /// of its own.
    pub(super) fn counted(&self) -> Stats {
        if let Some(group) = self.group().filter(|group| !group.paths().is_empty()) {
            return Group::stats(group);
        }
        match self.rests.init() {
            Ok(init) if !self.shares_pids => read(self.init_pid(), &init).unwrap_or_default(),
            _ => Stats::default(),
        }
    }
}

/// One reading; `None`: it has ended.
fn read(init_pid: i32, init: &OwnedFd) -> Option<Stats> {
    let members = Space::of(init_pid, init).ok()?.members().ok()?;
    let mut sums = Sums::default();
    members.iter().for_each(|member| sums.add(member));
    lives(init).then(|| sums.stats())
}

#[derive(Default)]
struct Sums {
    user: u64,
    system: u64,
    pages: u64,
    threads: u64,
    processes: u64,
    /// Read and written.
    io: (u64, u64),
    /// One of them could not be looked into.
    io_hidden: bool,
}

impl Sums {
    fn add(&mut self, member: &Member) {
        let io = std::fs::read_to_string(format!("/proc/{}/io", member.key.0));
        if !lives(&member.pidfd) {
            // What was read is another's, or of nobody.
            return;
        }
        let [user, system] = member.stat.ticks();
        self.user = self.user.saturating_add(user);
        self.system = self.system.saturating_add(system);
        self.pages = self.pages.saturating_add(member.stat.resident_pages());
        self.threads = self.threads.saturating_add(member.stat.threads());
        self.processes += 1;
        match io.ok().as_deref().and_then(|text| Some((io_field(text, "read_bytes")?, io_field(text, "write_bytes")?)))
        {
            Some((read, written)) => {
                self.io = (self.io.0.saturating_add(read), self.io.1.saturating_add(written));
            }
            None => self.io_hidden = true,
        }
    }

    fn stats(&self) -> Stats {
        let ns = |ticks: u64| ticks.saturating_mul(1_000_000_000 / TICKS);
        let page = rustix::param::page_size() as u64;
        let known = |bytes: u64| (!self.io_hidden).then_some(bytes);
        Stats {
            source: Some(Source::Proc),
            cpu_user_ns: Some(ns(self.user)),
            cpu_system_ns: Some(ns(self.system)),
            cpu_usage_ns: Some(ns(self.user.saturating_add(self.system))),
            memory_rss: Some(self.pages.saturating_mul(page)),
            pids_current: Some(self.threads),
            processes: Some(self.processes),
            io_read_bytes: known(self.io.0),
            io_write_bytes: known(self.io.1),
            ..Stats::default()
        }
    }
}

fn io_field(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": ")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_namespace_is_read() {
        use rustix::process::{Pid, PidfdFlags, pidfd_open};
        let own = std::process::id().cast_signed();
        let pidfd = pidfd_open(Pid::from_raw(own).unwrap(), PidfdFlags::empty()).unwrap();
        let stats = read(own, &pidfd).unwrap();
        assert_eq!(stats.source, Some(Source::Proc));
        assert!(stats.processes >= Some(1) && stats.pids_current >= stats.processes, "{stats:?}");
        assert!(stats.memory_rss > Some(0), "{stats:?}");
        // Nobody counts these here.
        assert_eq!([stats.memory_current, stats.memory_peak, stats.oom_kills, stats.pids_refused], [None; 4]);
    }

    #[test]
    fn what_was_read_and_written() {
        let text = "rchar: 9\nread_bytes: 4096\nwrite_bytes: 0\ncancelled_write_bytes: 7\n";
        assert_eq!((io_field(text, "read_bytes"), io_field(text, "write_bytes")), (Some(4096), Some(0)));
        assert_eq!(io_field("read_bytes: x", "read_bytes"), None);
    }

    #[test]
    fn what_one_does_not_tell_is_unknown_of_all() {
        let sums = Sums { io_hidden: true, user: 3, ..Sums::default() };
        let stats = sums.stats();
        assert_eq!((stats.io_read_bytes, stats.cpu_usage_ns), (None, Some(30_000_000)));
    }
}
