//! Nothing is left: of what is removed, of what fails, of what is broken off.

use std::cell::Cell;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;
use crate::error::ErrorKind;

#[test]
fn deep_and_closed_trees_are_removed_without_following_links() {
    let (dir, to) = place();
    let victim = dir.path().join("victim");
    std::fs::create_dir(&victim).unwrap();
    std::fs::write(victim.join("kept"), "").unwrap();
    std::fs::create_dir(&to).unwrap();
    // Deeper than a path can say.
    let mut at = rustix::fs::open(&to, rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
    for level in 0..1000 {
        let flags = rustix::fs::OFlags::PATH;
        rustix::fs::mkdirat(&at, "downwards", rustix::fs::Mode::RWXU).unwrap();
        let next = rustix::fs::openat(&at, "downwards", flags, rustix::fs::Mode::empty()).unwrap();
        rustix::fs::symlinkat(&victim, &next, "link").unwrap();
        rustix::fs::mkdirat(&next, ".orangery-removed-0", rustix::fs::Mode::RWXU).unwrap();
        if level % 10 == 0 {
            rustix::fs::mkdirat(&next, "closed", rustix::fs::Mode::RWXU).unwrap();
            rustix::fs::mkdirat(&next, "closed/inner", rustix::fs::Mode::RWXU).unwrap();
            rustix::fs::chmodat(&next, "closed", rustix::fs::Mode::empty(), rustix::fs::AtFlags::empty()).unwrap();
        }
        at = next;
    }
    drop(at);
    std::fs::set_permissions(to.join("downwards/downwards"), std::fs::Permissions::from_mode(0o000)).unwrap();
    std::fs::set_permissions(to.join("downwards"), std::fs::Permissions::from_mode(0o000)).unwrap();
    assert_eq!(removed(&to).unwrap().entries, 1000 * 3 + 100 * 2 + 1);
    assert_eq!(names(dir.path()), ["victim"]);
    assert_eq!(names(&victim), ["kept"]);
}

#[test]
fn what_is_no_directory_is_refused_and_what_is_gone_is_not() {
    let (dir, to) = place();
    assert_eq!(removed(&to).unwrap(), Removed::default());
    assert_eq!(removed(Path::new("/no/such/place")).unwrap(), Removed::default());
    symlink("/etc", &to).unwrap();
    for path in [&to, Path::new("/"), Path::new(".."), &dir.path().join(".")] {
        if path.ends_with("made") || path.file_name().is_none() {
            let error = removed(path).unwrap_err();
            assert_eq!((error.kind(), error.field()), (ErrorKind::Invalid, Some("path")), "{error}");
        }
    }
    assert!(to.symlink_metadata().unwrap().is_symlink());
    assert_eq!(report_of(dir.path()).unwrap_err().field(), Some("path"));
}

/// Broken off at each moment, the next one goes on; and an unpacking that is broken off leaves nothing.
#[test]
fn broken_off_at_any_moment() {
    let tar = || Tar::default().file("a/b/c", "1").file("a/d", "2").link("e", "a").dir("f/g/");
    let (dir, to) = place();
    for most in 0.. {
        let asked = Cell::new(0);
        let leave = || asked.replace(asked.get() + 1) >= most;
        match of(tar()).into_dir_blocking(&to, &leave) {
            Ok(_) => {
                assert!(most > 10);
                break;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::State),
        }
        assert!(names(dir.path()).is_empty(), "{most}");
    }
    removed(&to).unwrap();
    for most in 0.. {
        unpacked(of(tar()), &to).unwrap();
        let asked = Cell::new(0);
        let leave = || asked.replace(asked.get() + 1) >= most;
        let over = remove::tree(&to, &mut owners::Owners::new(), &leave).is_ok();
        removed(&to).unwrap();
        assert!(names(dir.path()).is_empty(), "{most}");
        if over {
            assert!(most > 5);
            break;
        }
    }
}

/// As a kill leaves it: the next one for the same place removes it, but not while somebody is at it.
#[test]
fn what_a_killed_one_has_left_is_swept() {
    let (dir, to) = place();
    let staged = dir.path().join(".made.unpacking");
    std::fs::create_dir_all(staged.join("rootfs/half")).unwrap();
    let held = rustix::fs::open(&staged, rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let error = unpacked(of(Tar::default().file("a", "")), &to).unwrap_err();
    assert_eq!((error.kind(), error.field()), (ErrorKind::Exists, Some("to")), "{error}");
    // Not by closing it: a child of another test may have it, too, until its exec.
    rustix::fs::flock(&held, rustix::fs::FlockOperation::Unlock).unwrap();
    let made = unpacked(of(Tar::default().file("a", "")), &to).unwrap();
    assert_eq!((names(&made.rootfs), names(dir.path())), (vec!["a".to_owned()], vec!["made".to_owned()]));
    let error = unpacked(of(Tar::default().file("a", "")), &to).unwrap_err();
    assert_eq!((error.kind(), error.field()), (ErrorKind::Exists, Some("to")));
    std::fs::create_dir_all(staged.join("rootfs/half")).unwrap();
    let rt = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert!(rt.block_on(remove(&to)).unwrap().entries > 2);
    assert!(names(dir.path()).is_empty());
}

/// Names change hands while the tree is removed; nothing outside is touched, and it ends.
#[test]
fn racing_renames() {
    let (dir, to) = place();
    let victim = dir.path().join("victim");
    std::fs::create_dir(&victim).unwrap();
    for number in 0..20 {
        std::fs::write(victim.join(number.to_string()), "").unwrap();
    }
    for _ in 0..20 {
        for name in ["a/b/c", "d/e/f", "g/h"] {
            std::fs::create_dir_all(to.join(name)).unwrap();
            std::fs::write(to.join(name).join("file"), "").unwrap();
        }
        symlink(&victim, to.join("link")).unwrap();
        let over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(std::sync::atomic::Ordering::Acquire) {
                    let swap = rustix::fs::RenameFlags::EXCHANGE;
                    let cwd = rustix::fs::CWD;
                    let _ = rustix::fs::renameat_with(cwd, to.join("link"), cwd, to.join("a/b"), swap);
                    let _ = rustix::fs::renameat_with(cwd, to.join("link"), cwd, to.join("d"), swap);
                }
            });
            let done = removed(&to).and_then(|_| removed(&to));
            over.store(true, std::sync::atomic::Ordering::Release);
            done.unwrap();
        });
        assert_eq!((names(&victim).len(), names(dir.path()).len()), (20, 1));
    }
}

/// A store: what nobody holds is swept by the next, what somebody holds stays, and nothing is left of what is dropped.
#[test]
fn a_store_is_swept_of_what_nobody_holds() {
    let (dir, _) = place();
    let (store, tar) = (dir.path().join("store"), dir.path().join("one.tar"));
    std::fs::write(&tar, Tar::default().file("a", "a").end()).unwrap();
    let rt = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let provider = Unpacking::from_tar(&store, &tar);
    let first = rt.block_on(provider.prepare("one")).unwrap();
    std::fs::create_dir_all(store.join("dead-0/rootfs/x")).unwrap();
    let second = rt.block_on(provider.prepare("one")).unwrap();
    assert_eq!(names(&store).len(), 2, "{:?}", names(&store));
    rt.block_on(first.guard.release());
    rt.block_on(first.guard.release());
    assert_eq!(rt.block_on(second.guard.usage()).unwrap().inodes, 2);
    rt.block_on(second.guard.release());
    assert!(names(&store).is_empty());
    std::fs::write(&tar, Tar::default().file("a", "a").file("/b", "").end()).unwrap();
    assert_eq!(rt.block_on(provider.prepare("one")).unwrap_err().field(), Some("entry"));
    assert!(names(&store).is_empty());
    std::fs::set_permissions(&store, std::fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(rt.block_on(provider.prepare("one")).unwrap_err().field(), Some("store"));
}
