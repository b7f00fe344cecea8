//! A path in a tree that may be hostile.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

/// A walk is begun anew so often, so that nobody can hold us there.
const AGAIN: u32 = 128;

/// How a path is walked inside.
pub(crate) const INSIDE: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// Open `path` with `root` as its `/`: links lead nowhere outside, and none of /proc's own is followed.
///
/// The kernel does not go up (`..`, in the path or in a link) while something is renamed or mounted anywhere on the machine,
/// and says EAGAIN (openat2(2)): then it is asked again, a bounded number of times.
///
/// # Errors
/// The operating system's. EAGAIN also for a file that somebody holds a lease on, with `O_NONBLOCK`.
pub fn open_inside(root: impl AsFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let mut left = AGAIN;
    loop {
        match openat2(&root, path, flags, Mode::empty(), INSIDE) {
            Err(Errno::AGAIN) if left > 0 => left -= 1,
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// Who renames has nothing to do with the path.
    #[test]
    fn a_busy_machine_is_no_reason() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join("a")).expect("made");
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        std::fs::write(&one, "").expect("written");
        let root = std::fs::File::open(dir.path()).expect("opened");
        let path = Path::new("a").join("../a/".repeat(50));
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Acquire) {
                    std::fs::rename(&one, &two).expect("renamed");
                    std::fs::rename(&two, &one).expect("renamed");
                }
            });
            let opened: Result<Vec<_>, _> =
                (0..2000).map(|_| open_inside(&root, &path, OFlags::PATH | OFlags::CLOEXEC).map(drop)).collect();
            over.store(true, Ordering::Release);
            assert_eq!(opened.map(|all| all.len()), Ok(2000));
        });
    }
}
