//! Birth, kill, freeze, waiting, removal, leftovers.

use super::*;

#[test]
fn a_life() {
    both(|cgroups| {
        assert_eq!(cgroups.supports(&some_limits()), []);
        let group = make(&cgroups, "web.1", &some_limits());
        assert_eq!(group.birth().unwrap().is_some(), cgroups.mode() != Mode::V1);
        let mut children: Vec<Child> = (0..5).map(|_| born(&group, "sleep 1000 & sleep 1000; echo no")).collect();
        until("ten sleeps", || group.stats().pids_current == Some(15));
        let stats = group.stats();
        assert_eq!(stats.pids_limit, Some(Ceiling::At(32)));
        assert_eq!(stats.memory_limit, Some(Ceiling::At(64 << 20)));
        assert!(stats.cpu_usage_ns.unwrap() > 0 && stats.memory_current.unwrap() > 0, "{stats:?}");
        assert_eq!((stats.pids_refused, stats.oom_kills), (Some(0), Some(0)));
        assert!(!group.is_empty().unwrap());
        assert!(group.remove().unwrap_err().is_busy());
        let again = cgroups.create("web.1", &Limits::default()).unwrap_err();
        assert!(again.is_exists(), "{again}");
        assert!(group.paths().iter().all(|p| p.is_dir()), "a refused create removed what was there");
        group.kill().unwrap();
        group.kill().unwrap();
        run(group.wait_empty()).unwrap(); // nobody has reaped them
        assert!(group.is_empty().unwrap());
        until("removed", || match group.remove() {
            Err(e) if e.is_busy() => false,
            other => other.map(|()| true).unwrap(),
        });
        group.remove().unwrap();
        group.kill().unwrap();
        run(group.wait_empty()).unwrap();
        assert!(group.paths().iter().all(|p| !p.exists()));
        assert!(children.drain(..).all(|c| exit_signal(c) == Some(9)));
        assert_eq!(group.stats(), Stats::default());
        assert!(matches!(Group::verdict(&group.oom(), &group.oom()), Oom::Unknown { .. }));
    });
}

#[test]
fn frozen_is_killed_too() {
    both(|cgroups| {
        let group = make(&cgroups, "f", &Limits::default());
        if group.freeze().is_err_and(|e| e.is_unsupported()) {
            println!("SKIPPED: nothing here can freeze");
            return;
        }
        group.thaw().unwrap();
        let child = born(&group, "while :; do :; done");
        run(group.wait_frozen(false)).unwrap();
        for _ in 0..3 {
            group.freeze().unwrap();
            run(group.wait_frozen(true)).unwrap();
            // What it has used until then may be counted a little later.
            pause(20);
            let before = group.stats().cpu_usage_ns.unwrap();
            pause(20);
            assert_eq!(group.stats().cpu_usage_ns, Some(before), "it ran while frozen");
            group.thaw().unwrap();
            run(group.wait_frozen(false)).unwrap();
            until("it runs again", || group.stats().cpu_usage_ns.unwrap() > before);
        }
        group.freeze().unwrap();
        run(group.wait_frozen(true)).unwrap();
        group.kill().unwrap();
        assert_eq!(exit_signal(child), Some(9));
        run(group.wait_empty()).unwrap();
        until("removed", || group.remove().is_ok());
    });
}

#[test]
fn waiting_is_woken() {
    let Some(cgroups) = cgroups(false) else {
        return;
    };
    let group = make(&cgroups, "w", &Limits::default());
    for _ in 0..20 {
        let mut child = born(&group, "sleep 0.02");
        run(async {
            group.wait_empty().await.unwrap();
        });
        child.wait().unwrap();
    }
    // A watcher of a group that vanishes is told as well.
    run(async {
        let removed = async { group.remove().unwrap() };
        let (watched, ()) = tokio::join!(group.wait_frozen(true), removed);
        assert!(watched.unwrap_err().is_gone());
    });
}

#[test]
fn those_who_fork_meanwhile_and_nested_groups_die() {
    both(|cgroups| {
        let group = make(&cgroups, "forkers", &Limits::default());
        for path in group.paths() {
            std::fs::create_dir_all(path.join("a/b")).unwrap();
            std::fs::create_dir(path.join("c")).unwrap();
        }
        let mut children: Vec<Child> = (0..20).map(|_| born(&group, "while :; do (:) & (:); done")).collect();
        let inside = group.paths().iter().map(|p| p.join("a/b/cgroup.procs")).find(|p| p.exists()).unwrap();
        std::fs::write(inside, children[0].id().to_string()).unwrap();
        group.kill().unwrap();
        run(group.wait_empty()).unwrap();
        assert!(children.drain(..).all(|c| exit_signal(c) == Some(9)));
        until("removed", || group.remove().is_ok());
    });
}

/// What kernels before 5.14 need: v2 without `cgroup.kill`, also for a frozen group.
#[test]
fn without_cgroup_kill_each_is_killed() {
    let Some(mut cgroups) = cgroups(false) else {
        return;
    };
    Arc::get_mut(&mut cgroups.parents).unwrap().without_kill = true;
    let group = make(&cgroups, "old", &Limits::default());
    assert!(!cgroups.kills() && group.kill_file().unwrap().is_none());
    let kill_frozen = |group: &Group| {
        run(group.wait_frozen(true)).unwrap();
        group.kill_frozen()
    };
    for (frozen, kill) in
        [(false, Group::kill as fn(&Group) -> Result<(), CgroupError>), (true, Group::kill), (true, kill_frozen)]
    {
        let mut children: Vec<Child> = (0..10).map(|_| born(&group, "while :; do (:) & (:); done")).collect();
        if frozen {
            group.freeze().unwrap();
        }
        kill(&group).unwrap();
        run(group.wait_empty()).unwrap();
        run(group.wait_frozen(false)).unwrap();
        assert!(children.drain(..).all(|c| exit_signal(c) == Some(9)));
    }
}

#[test]
fn refused_forks_are_counted() {
    both(|cgroups| {
        let group = make(&cgroups, "one", &Limits { pids: Some(1), ..Limits::default() });
        let mut child = born(&group, "(:) 2>/dev/null; exit 7");
        child.wait().unwrap();
        assert!(group.stats().pids_refused.is_some_and(|n| n > 0), "{:?}", group.stats());
    });
}

#[test]
fn leftovers_are_told_and_go_with_the_last_group() {
    both(|cgroups| {
        let group = make(&cgroups, "late", &Limits::default());
        let roots = cgroups.roots().len();
        let again = cgroups.reopen("late").unwrap();
        assert_eq!(again.paths(), group.paths());
        assert!(cgroups.reopen("nobody").unwrap_err().is_gone());
        drop(again);
        let left = cgroups.close();
        assert!(!left.is_empty() && left.len() <= roots, "{left:?}");
        assert_eq!(left.len(), group.paths().len());
        group.remove().unwrap();
    });
}

#[test]
fn no_cgroups_refuse_limits_and_nothing_else() {
    let none = Cgroups::none("there are none");
    assert_eq!((none.mode(), none.why_none()), (Mode::None, Some("there are none")));
    assert_eq!(
        none.supports(&Limits { pids: Some(5), ..Limits::default() }),
        [("pids".into(), "there are none".into())]
    );
    let group = make(&none, "x", &Limits::default());
    assert!(group.paths().is_empty() && group.birth().unwrap().is_none() && group.tasks().unwrap().is_empty());
    assert!(group.kill().unwrap_err().is_unsupported() && group.freeze().unwrap_err().is_unsupported());
    assert!(matches!(Group::verdict(&group.oom(), &group.oom()), Oom::Unknown { .. }));
    group.remove().unwrap();
    assert!(none.create("x", &some_limits()).unwrap_err().field().is_some());
}

#[test]
fn groups_are_cheap_in_descriptors() {
    both(|cgroups| {
        let open = || std::fs::read_dir("/proc/thread-self/fd").unwrap().count();
        let held = usize::from(cgroups.mode() != Mode::V1);
        let before = open();
        let groups: Vec<Group> =
            (0..200).map(|i| cgroups.create(&format!("g{i}"), &Limits::default()).unwrap()).collect();
        // Other tests run in threads of this process: allow for theirs.
        assert!(open() <= before + 200 * held + 100, "{} {}", before, open());
        for group in groups {
            group.remove().unwrap();
        }
    });
}

/// `cargo test costs -- --ignored --nocapture --test-threads 1`
#[test]
#[ignore = "prints measurements"]
fn costs() {
    both(|cgroups| {
        for (what, limits) in [("no limit", Limits::default()), ("five limits", some_limits())] {
            let (mut made, mut read, mut gone) = (Vec::new(), Vec::new(), Vec::new());
            let mut dirs = 0;
            for i in 0..300 {
                let begin = Instant::now();
                let group = cgroups.create(&format!("c{i}"), &limits).unwrap();
                made.push(begin.elapsed());
                dirs = group.paths().len();
                let begin = Instant::now();
                group.oom();
                read.push(begin.elapsed());
                let begin = Instant::now();
                group.remove().unwrap();
                gone.push(begin.elapsed());
            }
            let median = |list: &mut Vec<Duration>| {
                list.sort();
                list[list.len() / 2]
            };
            let times = (median(&mut made), median(&mut read), median(&mut gone));
            println!(
                "{} {what}: {dirs} directories, create {:?}, oom() {:?}, remove {:?}",
                cgroups.mode(),
                times.0,
                times.1,
                times.2
            );
        }
    });
}
