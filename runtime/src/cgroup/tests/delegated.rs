//! A subtree made up as systemd delegates it: the scope of a session holds processes, a slice above it is the user's own,
//! what is above that is not.

use super::*;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;

const USER: u32 = 1000;

/// `<top>/<name>/slice/scope` with a process in the scope; scope and slice are the user's.
struct Session {
    base: PathBuf,
    child: Child,
}

impl Session {
    fn new(top: &Path) -> Option<Self> {
        let base = top.join(instance());
        if let Err(error) = fs::create_dir_all(base.join("slice/scope")) {
            println!("SKIPPED: {error}");
            return None;
        }
        let child = gated("true");
        fs::write(base.join("slice/scope/cgroup.procs"), child.id().to_string()).unwrap();
        let session = Self { base, child };
        session.give("slice");
        session.give("slice/scope");
        Some(session)
    }

    fn give(&self, group: &str) {
        let dir = self.base.join(group);
        for path in [dir.clone(), dir.join("cgroup.procs"), dir.join("cgroup.subtree_control")] {
            chown(path, Some(USER), Some(USER)).unwrap();
        }
    }

    fn hierarchy(&self, top: dir::Dir) -> detect::Hierarchy {
        let below = self.base.strip_prefix(top.path()).unwrap().join("slice/scope");
        let own: Vec<OsString> = below.iter().map(OsString::from).collect();
        detect::Hierarchy { kind: Kind::V2, top, own: Ok(own) }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for group in ["slice/scope", "slice", ""] {
            until("removed", || fs::remove_dir(self.base.join(group)).is_ok());
        }
    }
}

/// The first v2 mount, as root.
fn top() -> Option<dir::Dir> {
    let found = detect::hierarchies().unwrap().into_iter().find(|hierarchy| hierarchy.kind == Kind::V2);
    if found.is_none() || !rustix::process::geteuid().is_root() {
        println!("SKIPPED: needs root and a cgroup2");
        return None;
    }
    found.map(|hierarchy| hierarchy.top)
}

#[test]
fn an_ordinary_user_is_placed_in_the_slice_above_its_scope() {
    let Some(top) = top() else { return };
    let Some(session) = Session::new(top.path()) else { return };
    let hierarchy = session.hierarchy(top);
    let name = format!("orangery-{}", instance());
    crate::sys::as_ids((USER, USER), || {
        // Its own group has processes, and nobody is moved out of it.
        let placed = place::place_above(&hierarchy, &name).expect("a place");
        assert_eq!(placed.place.dir.path(), session.base.join("slice").join(&name));
        assert_eq!(fs::metadata(placed.place.dir.path()).unwrap().uid(), USER);
        let procs = fs::read_to_string(session.base.join("slice/scope/cgroup.procs")).unwrap();
        assert_eq!(procs.trim(), session.child.id().to_string());
        assert!(placed.place.close());
    });
}

#[test]
fn what_is_not_delegated_is_left_alone() {
    let Some(top) = top() else { return };
    let Some(session) = Session::new(top.path()) else { return };
    // The slice is root's again; only the scope is ours, and it has processes.
    chown(session.base.join("slice/cgroup.procs"), Some(0), Some(0)).unwrap();
    let hierarchy = session.hierarchy(top);
    crate::sys::as_ids((USER, USER), || {
        assert!(place::place_above(&hierarchy, "orangery-none").is_none());
    });
    assert!(!session.base.join("slice/orangery-none").exists() && !session.base.join("orangery-none").exists());
}
