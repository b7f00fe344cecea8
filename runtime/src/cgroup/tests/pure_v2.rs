//! Only on a machine, in practice a VM, whose one hierarchy is v2 and where we may move ourselves about:
//! `cargo test cgroup::tests::pure_v2 -- --ignored --test-threads 1`.

use super::*;
use std::fs;
use std::path::Path;

/// Our own v2 group and the mount's top, if that is all there is.
fn alone() -> Option<(PathBuf, Vec<std::ffi::OsString>)> {
    match detect::hierarchies().unwrap().as_slice() {
        [only] if only.kind == Kind::V2 => Some((only.top.path().to_path_buf(), only.own.clone().unwrap())),
        _ => {
            println!("SKIPPED: needs pure v2");
            None
        }
    }
}

fn move_self(group: &Path) {
    fs::write(group.join("cgroup.procs"), "0").unwrap();
}

/// A group with processes falls back to `orangery/` at the top, which goes again; the leaf makes it usable.
#[test]
#[ignore = "moves the test process; for a VM"]
fn places_are_found_in_order() {
    let Some((top, _)) = alone() else { return };
    let own = top.join("session");
    fs::create_dir_all(&own).unwrap();
    move_self(&own);
    let config = Config { parent: None, instance: instance(), places: Vec::new(), without_kill: false };
    let cgroups = Cgroups::open(&config).unwrap();
    assert_eq!(cgroups.mode(), Mode::V2);
    assert_eq!(cgroups.roots()[0].path, top.join("orangery").join(format!("orangery-{}", config.instance)));
    assert_eq!(cgroups.supports(&some_limits()), []);
    make(&cgroups, "x", &some_limits());
    few_ask_for_huge_pages(&cgroups);
    assert!(cgroups.close().is_empty());
    assert!(!top.join("orangery").exists());

    let leaf = enter_leaf().unwrap().unwrap();
    assert_eq!(leaf, own.join("orangery-self"));
    assert_eq!(enter_leaf().unwrap(), None);
    fs::write(top.join("cgroup.subtree_control"), "+memory +pids").unwrap();
    let cgroups = Cgroups::open(&config).unwrap();
    assert_eq!(cgroups.roots()[0].path, own.join(format!("orangery-{}", config.instance)));
    make(&cgroups, "x", &Limits { pids: Some(5), ..Limits::default() });
    drop(cgroups);
    // A configured parent with somebody inside is no silent fallback.
    let parent = Some(PathBuf::from("/session/orangery-self"));
    let error =
        Cgroups::open(&Config { parent, instance: instance(), places: Vec::new(), without_kill: false }).unwrap_err();
    assert_eq!(error.field(), Some("parent"), "{error}");
    fs::write(own.join("cgroup.subtree_control"), "-memory -pids -cpu -cpuset -io").unwrap();
    move_self(&top);
    fs::remove_dir(leaf).unwrap();
    fs::remove_dir(own).unwrap();
}

/// What costs everybody who has it is switched on with the first limit that asks.
fn few_ask_for_huge_pages(cgroups: &Cgroups) {
    let ours = cgroups.roots()[0].path.clone();
    let on = || fs::read_to_string(ours.join("cgroup.subtree_control")).unwrap();
    assert!(on().contains("memory") && !on().contains("hugetlb") && !on().contains("misc"), "{}", on());
    let huge = Other::new("huge", "hugetlb").v2("hugetlb.2MB.max", "0");
    let limits = Limits { other: vec![huge], ..Limits::default() };
    assert_eq!(cgroups.supports(&limits), []);
    let group = make(cgroups, "huge", &limits);
    assert!(on().contains("hugetlb") && !on().contains("misc"), "{}", on());
    assert_eq!(fs::read_to_string(ours.join("huge/hugetlb.2MB.max")).unwrap(), "0\n");
    group.remove().unwrap();
}

/// An ordinary user gets mode none with the reason and the way out, and a delegated group does work for them.
#[test]
#[ignore = "gives up root for good; for a VM, last"]
fn without_rights_there_is_a_reason() {
    let Some((top, _)) = alone() else { return };
    let own = top.join("user");
    fs::create_dir_all(&own).unwrap();
    for path in [own.clone(), own.join("cgroup.procs"), own.join("cgroup.subtree_control")] {
        std::os::unix::fs::chown(path, Some(1000), Some(1000)).unwrap();
    }
    move_self(&own);
    become_user();
    let config = Config { parent: None, instance: instance(), places: Vec::new(), without_kill: false };
    let cgroups = Cgroups::open(&config).unwrap();
    assert_eq!(cgroups.mode(), Mode::None);
    let why = cgroups.why_none().unwrap();
    assert!(why.contains("processes of its own") && why.contains("systemd-run"), "{why}");
    enter_leaf().unwrap().unwrap();
    let cgroups = Cgroups::open(&config).unwrap();
    assert_eq!(cgroups.mode(), Mode::V2, "{:?}", cgroups.why_none());
    let group = make(&cgroups, "x", &Limits { pids: Some(5), memory: Some(32 << 20), ..Limits::default() });
    let child = born(&group, "exec sleep 100");
    group.kill().unwrap();
    assert_eq!(exit_signal(child), Some(9));
}

fn become_user() {
    use rustix::process::{Gid, Uid, geteuid};
    let (user, group) = (Uid::from_raw(1000), Gid::from_raw(1000));
    // For this thread only: the caller's other threads stay root, and the test harness ends with it.
    rustix::thread::set_thread_gid(group).unwrap();
    rustix::thread::set_thread_uid(user).unwrap();
    assert!(!geteuid().is_root());
}
