//! Touching files in somebody else's name, on one thread, for the length of one call.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{DumpableBehavior, Gid, dumpable_behavior, getgroups, set_dumpable_behavior};
use rustix::thread::set_thread_groups;

/// A change of ids makes the whole process undumpable, which is the host's to decide: the first who is somebody else keeps
/// what it was, the last puts it back.
static AWAY: Mutex<(usize, Option<DumpableBehavior>)> = Mutex::new((0, None));

fn away() -> MutexGuard<'static, (usize, Option<DumpableBehavior>)> {
    AWAY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Somebody else until dropped.
struct Away {
    uid: u32,
    gid: u32,
    groups: Vec<Gid>,
}

impl Away {
    fn go(uid: u32, gid: u32) -> Self {
        let mut away = away();
        if away.0 == 0 {
            away.1 = dumpable_behavior().ok();
        }
        away.0 += 1;
        let back = Self {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            groups: getgroups().unwrap_or_default(),
        };
        let _ = set_thread_groups(&[]);
        set_fs_ids(uid, gid);
        back
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        let mut away = away();
        set_fs_ids(self.uid, self.gid);
        let _ = set_thread_groups(&self.groups);
        away.0 -= 1;
        if away.0 == 0
            && let Some(before) = away.1.take()
        {
            let _ = set_dumpable_behavior(before);
        }
    }
}

/// Run `act` with these ids for file access and no supplementary group, on this thread only, without the capabilities that
/// override permissions. Back again when it returns or unwinds. Only for root: nobody else may become somebody else.
pub fn as_ids<T>((uid, gid): (u32, u32), act: impl FnOnce() -> T) -> T {
    let _away = Away::go(uid, gid);
    act()
}

/// setfsgid first: it needs a right that setfsuid may take.
fn set_fs_ids(uid: u32, gid: u32) {
    // SAFETY: takes a number, changes this thread's credentials for file access only.
    let _ = unsafe { libc::setfsgid(gid) };
    // SAFETY: as above.
    let _ = unsafe { libc::setfsuid(uid) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_to_what_it_was() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root can be somebody else");
            return;
        }
        let before = (dumpable_behavior().unwrap(), getgroups().unwrap());
        let file = tempfile::NamedTempFile::new().unwrap();
        let (outer, inner) = as_ids((12_345, 12_345), || {
            let outer = std::fs::read(file.path()).map_err(|error| error.kind());
            (outer, std::thread::spawn(|| as_ids((12_346, 12_346), || getgroups().unwrap().len())).join().unwrap())
        });
        assert_eq!((outer, inner), (Err(std::io::ErrorKind::PermissionDenied), 0));
        assert_eq!((dumpable_behavior().unwrap(), getgroups().unwrap()), before);
        assert!(std::fs::read(file.path()).is_ok());
    }
}
