//! Limits, their refusal, and OOM.

use super::*;

fn memory_file(cgroups: &Cgroups) -> &'static str {
    if cgroups.mode() == Mode::V2 { "memory.max" } else { "memory.limit_in_bytes" }
}

/// With and without a limit on swap: the kernel counts the two differently.
#[test]
fn a_real_oom_is_told_apart_from_a_kill() {
    for memory_swap in [None, Some(0)] {
        both(|cgroups| {
            let limits = Limits { memory: Some(32 << 20), memory_swap, ..Limits::default() };
            if !cgroups.supports(&limits).is_empty() {
                println!("SKIPPED: {:?}", cgroups.supports(&limits));
                return;
            }
            oom_and_kill(&make(&cgroups, "oom", &limits));
        });
    }
}

fn oom_and_kill(group: &Group) {
    let birth = group.oom();
    let child = born(group, "exec sleep 1000");
    group.kill().unwrap();
    assert_eq!(exit_signal(child), Some(9));
    assert_eq!(Group::verdict(&birth, &group.oom()), Oom::No);
    assert_eq!(hog(group), Some(9));
    run(group.wait_empty()).unwrap();
    assert_eq!(Group::verdict(&birth, &group.oom()), Oom::Own { kills: 1 });
    assert_eq!(group.stats().oom_kills, Some(1));
    assert!(group.stats().memory_peak.unwrap() > 16 << 20);
    until("removed", || group.remove().is_ok());
}

fn hog(group: &Group) -> Option<i32> {
    exit_signal(born(group, "exec dd if=/dev/zero of=/dev/null bs=256M count=1 2>/dev/null"))
}

#[test]
fn an_ancestors_oom_names_the_ancestor() {
    both(|cgroups| {
        // Our own directory is the only ancestor that a test may limit.
        let memory = cgroups.parents.places().find(|p| p.has(detect::Controller::Memory)).unwrap();
        memory.dir.write(memory_file(&cgroups), "33554432").unwrap();
        let group = make(&cgroups, "oom", &Limits::default());
        let birth = group.oom();
        assert_eq!(hog(&group), Some(9));
        let path = Some(memory.dir.path().display().to_string());
        assert_eq!(Group::verdict(&birth, &group.oom()), Oom::Ancestor { kills: 1, path });
        run(group.wait_empty()).unwrap();
        until("removed", || group.remove().is_ok());
    });
}

/// In the order in which it is given, the swap of v1 included, which no file takes in another.
#[test]
fn what_was_there_is_put_back() {
    both(|cgroups| {
        let swap = Limits { memory: Some(64 << 20), memory_swap: Some(1 << 20), ..some_limits() };
        let limits = if cgroups.supports(&swap).is_empty() { swap } else { some_limits() };
        let group = make(&cgroups, "back", &limits);
        let files = || {
            let names = ["pids.max", "cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us"].into_iter();
            let names = names.chain(["memory.max", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]);
            let read =
                |name: &str| group.paths().into_iter().find_map(|path| std::fs::read_to_string(path.join(name)).ok());
            names.map(read).collect::<Vec<_>>()
        };
        let before = files();
        let quota = Some(CpuQuota { quota_us: 5_000, period_us: 200_000 });
        let starved = Limits { memory: Some(8 << 20), pids: Some(3), cpu_quota: quota, ..Limits::default() };
        let back = group.put_back(&starved).unwrap();
        group.update(&starved).unwrap();
        assert_ne!(files(), before);
        for (file, bytes) in &back {
            assert_eq!(rustix::io::write(file, bytes).unwrap(), bytes.len());
        }
        assert_eq!(files(), before);
        let kept = group.before(&starved).unwrap();
        group.update(&starved).unwrap();
        assert_ne!(files(), before);
        kept.put_back().unwrap();
        assert_eq!(files(), before);
        let kept = group.before(&starved).unwrap();
        until("removed", || group.remove().is_ok());
        let lost = kept.put_back().unwrap_err();
        assert!(lost.contains("pids.max: "), "{lost}");
    });
}

#[test]
fn updates_are_all_or_nothing() {
    both(|cgroups| {
        let group = make(&cgroups, "u", &some_limits());
        let file = |name: &str| {
            let found = group.paths().into_iter().find_map(|p| std::fs::read_to_string(p.join(name)).ok());
            found.unwrap().trim().to_string()
        };
        let child = born(&group, "sleep 1000");
        let more = Limits { memory: Some(96 << 20), pids: Some(40), ..Limits::default() };
        group.update(&more).unwrap();
        let (memory, quota_now) = (
            || file(memory_file(&cgroups)),
            || match cgroups.mode() {
                Mode::V2 => file("cpu.max"),
                _ => format!("{} {}", file("cpu.cfs_quota_us"), file("cpu.cfs_period_us")),
            },
        );
        assert_eq!((file("pids.max"), memory()), ("40".into(), (96 << 20).to_string()));
        assert_eq!(quota_now(), "50000 100000");
        let quota = Some(CpuQuota { quota_us: 1000, period_us: 1_000_000 });
        // No such CPU: refused by the kernel after memory and the quota were written.
        let bad =
            Limits { memory: Some(48 << 20), cpu_quota: quota, cpuset_cpus: Some("8000".into()), ..Limits::default() };
        let error = group.update(&bad).unwrap_err();
        assert_eq!(error.field(), Some("cpuset_cpus"), "{error}");
        assert_eq!(memory(), (96 << 20).to_string());
        assert_eq!(quota_now(), "50000 100000");
        group.update(&Limits { cpu_quota: quota, ..Limits::default() }).unwrap();
        assert_eq!(quota_now(), "1000 1000000");
        assert_eq!(group.update(&Limits { pids: Some(0), ..Limits::default() }).unwrap_err().field(), Some("pids"));
        group.kill().unwrap();
        exit_signal(child);
        run(group.wait_empty()).unwrap();
        until("removed", || group.remove().is_ok());
        if cgroups.mode() == Mode::V2 {
            return; // every group has every file there
        }
        let bare = make(&cgroups, "bare", &Limits::default());
        let error = bare.update(&Limits { pids: Some(5), ..Limits::default() }).unwrap_err();
        assert!(error.is_unsupported() && error.field() == Some("pids"), "{error}");
        bare.remove().unwrap();
    });
}

#[test]
fn a_failed_create_leaves_nothing() {
    both(|cgroups| {
        let bad = Limits { cpuset_cpus: Some("8000".into()), ..some_limits() };
        let error = cgroups.create("x", &bad).unwrap_err();
        assert_eq!(error.field(), Some("cpuset_cpus"), "{error}");
        for root in cgroups.roots() {
            assert!(!root.path.join("x").exists());
        }
        for id in ["", ".", "..", ".x", "a/b", "a b", "a\n", "é", &"x".repeat(129)] {
            assert_eq!(cgroups.create(id, &Limits::default()).unwrap_err().field(), Some("id"), "{id:?}");
        }
    });
}

#[test]
fn names_and_parents_are_checked() {
    for name in ["", "A", "a/b", "..", "a_b", "é"] {
        let config = Config { parent: None, instance: name.into(), places: Vec::new(), without_kill: false };
        assert_eq!(Cgroups::open(&config).unwrap_err().field(), Some("instance"));
    }
    for parent in ["/../x", "/no/such/group"] {
        let error = Cgroups::open(&Config {
            parent: Some(parent.into()),
            instance: instance(),
            places: Vec::new(),
            without_kill: false,
        })
        .unwrap_err();
        assert_eq!(error.field(), Some("parent"), "{error}");
    }
}

#[test]
fn a_configured_parent_is_used_in_each_hierarchy_that_has_it() {
    both(|outer| {
        let group = make(&outer, "outer", &Limits { pids: Some(100), ..Limits::default() });
        let parent = group.paths().pop().unwrap();
        let inner = Cgroups::open(&Config {
            parent: Some(parent.clone()),
            instance: instance(),
            places: Vec::new(),
            without_kill: false,
        });
        let inner = inner.unwrap();
        assert!(inner.roots().iter().any(|r| r.path.starts_with(&parent)));
        let refused = inner.supports(&Limits { cpuset_cpus: Some("0".into()), ..Limits::default() });
        // v1: the outer group has no cpuset directory. v2: it has everything.
        assert_eq!(refused.len(), usize::from(outer.mode() != Mode::V2), "{refused:?}");
        assert!(inner.close().is_empty());
        group.remove().unwrap();
    });
}
