//! A group that somebody else has made, as systemd does for a unit, in the one hierarchy by which it knows its processes.

use super::*;

#[test]
fn what_is_lacking_is_made_and_goes_with_a_failure() {
    for legacy in [false, true] {
        let mut found = detect::tops(|kind| !legacy || *kind != Kind::V2).unwrap();
        let theirs = if legacy { detect::of_systemd().unwrap() } else { Vec::new() };
        found.extend(theirs);
        let known = |(mount, _): &&(detect::Mount, dir::Dir)| [Kind::V2, Kind::V1(Vec::new())].contains(&mount.kind);
        let Some(tracked) = found.iter().find(known).map(|(_, top)| top.path().to_path_buf()) else {
            println!("SKIPPED: needs a hierarchy that systemd would know its processes by (legacy: {legacy})");
            continue;
        };
        let slice = instance();
        let path = PathBuf::from(format!("/{slice}/x.scope"));
        let given = tracked.join(&slice).join("x.scope");
        if let Err(error) = std::fs::create_dir_all(&given) {
            println!("SKIPPED: {}: {error}", given.display());
            continue;
        }
        let all: Vec<PathBuf> = found.iter().map(|(_, top)| top.path().join(&slice)).collect();
        let there = Cgroups::found(&path, Some(&Limits::default()), found, false).unwrap().0;
        let left = || all.iter().map(|dir| dir.join("x.scope")).filter(|dir| dir.exists()).collect::<Vec<_>>();

        let refused = Limits { cpuset_cpus: Some("8191".into()), ..Limits::default() };
        let us = i32::try_from(std::process::id()).unwrap();
        there.complete("x.scope", &refused, us).unwrap_err();
        assert_eq!(left(), [given.as_path()], "legacy: {legacy}");
        let limits = Limits { pids: Some(7), ..Limits::default() };
        // What version 2 alone has for it is systemd's to switch on.
        let limits = if there.supports(&limits).is_empty() { limits } else { Limits::default() };
        // Of somebody who has been there before.
        for place in &all {
            let theirs = place.join("x.scope/theirs");
            std::fs::create_dir_all(&theirs).unwrap();
            let before = left();
            assert!(there.complete("x.scope", &limits, us).unwrap_err().is_exists(), "{}", theirs.display());
            assert_eq!(left(), before, "nothing was made or removed");
            std::fs::remove_dir(&theirs).unwrap();
            if before != [given.as_path()] {
                std::fs::remove_dir(place.join("x.scope")).unwrap();
            }
        }
        let group = Guarded(there.complete("x.scope", &limits, us).unwrap());
        assert_eq!(left().len(), all.len());
        let child = born(&group, "exec sleep 1000");
        let member = std::fs::read_to_string(given.join("cgroup.procs")).unwrap();
        assert_eq!(member.trim(), child.id().to_string());
        let its = i32::try_from(child.id()).unwrap();
        assert!(there.complete("x.scope", &limits, us).unwrap_err().is_exists(), "somebody is in it");
        assert!(there.complete("x.scope", &limits, its).is_ok(), "whom it was made around");
        assert_eq!(
            of_process(i32::try_from(child.id()).unwrap()).unwrap().filter(|_| !legacy),
            Some(path).filter(|_| !legacy)
        );
        group.kill().unwrap();
        assert_eq!(exit_signal(child), Some(9));
        let again = there.find("x.scope").unwrap();
        let whose = again.identity();
        assert!(again.has_unit() && again.that_are(&whose).has_unit());
        // As systemd does when the last process has gone: what it knows nothing of stays.
        std::fs::remove_dir(&given).unwrap();
        let rest = there.find("x.scope").unwrap().that_are(&whose);
        assert!(!rest.has_unit());
        std::fs::create_dir(&given).unwrap();
        let another = there.find("x.scope").unwrap();
        assert!(another.has_unit() && !another.that_are(&whose).has_unit());
        drop(group);
        assert!(left().is_empty());
        all.iter().for_each(|dir| std::fs::remove_dir(dir).unwrap());
    }
}
