//! What of a container is still there: for who must say what cannot be ended.

use super::container::Core;
use super::lives;
use crate::sys::stat::Stat;
use crate::{Held, HeldProcess};

impl Core {
    /// Blocks: files of cgroupfs and /proc.
    pub(super) fn held(&self) -> Held {
        let mut pids = self.group().and_then(|group| group.processes().ok()).unwrap_or_default();
        // Without a group it is the only one that is known.
        if self.rests.init().is_ok_and(|init| lives(&init)) {
            pids.push(self.init_pid());
        }
        let cgroups = self.group().map(|group| group.paths()).unwrap_or_default();
        // What cannot be ended comes first: the others may only wait for it.
        pids.sort_unstable();
        pids.dedup();
        let mut processes: Vec<_> = pids.into_iter().filter_map(look).collect();
        processes.sort_by_key(|process| (process.state != 'D', process.pid));
        processes.truncate(Held::MOST);
        Held { processes, cgroups: cgroups.into_iter().filter(|path| path.exists()).collect() }
    }
}

fn look(pid: i32) -> Option<HeldProcess> {
    let stat = Stat::of(pid).filter(Stat::is_alive)?;
    Some(HeldProcess { pid, state: stat.state(), name: stat.name().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen_and_no_process_is_not() {
        let own = look(std::process::id().cast_signed()).unwrap();
        assert!(matches!(own.state, 'R' | 'S' | 'D'), "{own:?}");
        assert_eq!(look(i32::MAX), None);
    }
}
