//! What is handed over to an ordinary user, used as that user, and taken back.

use super::*;
use crate::cgroup::handed::{Act, HandOver, Step};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Nobody's, so that no real set-up is in the way.
const USER: u32 = 54_321;

fn steps(carry_out: impl FnOnce(&mut dyn FnMut(&Step)) -> Result<(), CgroupError>) -> Vec<Step> {
    let mut steps = Vec::new();
    carry_out(&mut |step| steps.push(step.clone())).unwrap();
    steps
}

fn given(steps: &[Step]) -> Vec<&Path> {
    steps.iter().filter(|step| step.act == Act::Give).map(|step| step.path.as_path()).collect()
}

/// Taken back also when the test fails.
struct Back(HandOver);

impl Drop for Back {
    fn drop(&mut self) {
        let _ = self.0.take_back(|_| {});
    }
}

#[test]
fn what_is_handed_over_is_used_and_taken_back() {
    let hand_over = HandOver { uid: USER, gid: USER, dry_run: false };
    if !rustix::process::geteuid().is_root() || cgroups(false).is_none() {
        println!("SKIPPED: needs root and cgroups");
        return;
    }
    let dry = HandOver { dry_run: true, ..hand_over };
    let planned = steps(|tell| dry.give(tell));
    assert!(given(&planned).iter().all(|path| !path.exists()), "a dry run makes nothing: {planned:?}");

    let back = Back(hand_over);
    let done = steps(|tell| hand_over.give(tell));
    assert_eq!(given(&planned), given(&done));
    for path in given(&done) {
        for file in [path.to_path_buf(), path.join("cgroup.procs")] {
            assert_eq!(std::fs::metadata(&file).unwrap().uid(), USER, "{}", file.display());
        }
    }
    // Limits on the whole stay the administrator's.
    let memory = given(&done).into_iter().map(|path| path.join("memory.limit_in_bytes")).find(|path| path.exists());
    assert!(memory.is_none_or(|file| std::fs::metadata(file).unwrap().uid() == 0));
    let again = steps(|tell| hand_over.give(tell));
    assert!(again.iter().all(|step| step.already || step.refused.is_some()), "{again:?}");

    let found = detect::hierarchies().unwrap();
    let v1 = found.iter().find(|hierarchy| hierarchy.kind != Kind::V2);
    if let Some(hierarchy) = v1 {
        let name = format!("orangery-{}", instance());
        crate::sys::as_ids((USER, USER), || {
            let (parent, depth, dir) = place::handed_over(&hierarchy.top, USER, &name).expect("a place");
            assert_eq!(dir.path(), hierarchy.top.path().join("orangery-user-54321").join(&name));
            assert_eq!((depth, std::fs::metadata(dir.path()).unwrap().uid()), (2, USER));
            parent.rmdir(name.as_ref()).unwrap();
        });
    }
    let gone = steps(|tell| hand_over.take_back(tell));
    assert!(gone.iter().all(|step| step.act == Act::Remove && !step.already && !step.path.exists()), "{gone:?}");
    assert!(steps(|tell| hand_over.take_back(tell)).iter().all(|step| step.already));
    drop(back);
}

#[test]
fn what_something_lives_in_is_not_taken_back() {
    let hand_over = HandOver { uid: USER + 1, gid: USER + 1, dry_run: false };
    if !rustix::process::geteuid().is_root() || cgroups(false).is_none() {
        println!("SKIPPED: needs root and cgroups");
        return;
    }
    let back = Back(hand_over);
    let done = steps(|tell| hand_over.give(tell));
    let inside = given(&done)[0].join("somebodys");
    std::fs::create_dir(&inside).unwrap();
    let error = hand_over.take_back(|_| {}).unwrap_err();
    assert!(error.is_busy(), "{error:?}");
    std::fs::remove_dir(&inside).unwrap();
    drop(back);
    assert!(given(&done).iter().all(|path| !path.exists()));
}

#[test]
fn a_process_is_moved_where_it_may_use_what_is_handed_over() {
    let hand_over = HandOver { uid: USER + 2, gid: USER + 2, dry_run: false };
    if !rustix::process::geteuid().is_root() || detect::hierarchies().unwrap().iter().all(|h| h.kind != Kind::V2) {
        println!("SKIPPED: needs root and a cgroup2");
        return;
    }
    let mut child = gated("true");
    assert!(hand_over.enter(child.id(), |_| {}).unwrap_err().is_gone(), "it is not handed over yet");
    let back = Back(hand_over);
    hand_over.give(|_| {}).unwrap();
    let moved = steps(|tell| hand_over.enter(child.id(), tell));
    let group = &moved.last().unwrap().path;
    let procs = std::fs::read_to_string(group.join("cgroup.procs")).unwrap();
    assert_eq!(procs.trim(), child.id().to_string());
    let _ = child.kill();
    let _ = child.wait();
    until("empty", || hand_over.take_back(|_| {}).is_ok());
    drop(back);
}
