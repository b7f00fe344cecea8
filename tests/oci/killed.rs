//! Commands that are killed in the middle.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use orangery_tests::victim::reap_adopted;
use orangery_tests::{Scene, stock, wait};
use rustix::event::{Timespec, poll};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use serde_json::json;

use crate::bundle::bundle;
use crate::caller::{Caller, end_of, path};

/// Whenever `create` is killed: its keeper removes what there is, or `delete` does, or both at once.
pub(crate) fn a_create_that_is_killed_leaves_what_delete_removes(scene: &Scene) {
    let caller = Caller::new(scene);
    let bundle = bundle(scene, "killed", &["sleep", "1000"], |_| ());
    let mut came_to_be = 0;
    for step in 0..24 {
        let mut create = caller.command(&["create", "--bundle", path(&bundle), "killed"]);
        let mut create = create.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs");
        // Another moment each time, how far it has come by then is the machine's to say.
        let _ = poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: step * 1_500_000 }));
        create.kill().expect("killed");
        came_to_be += u32::from(create.wait().expect("reaped").success());
        caller.good(&["delete", "--force", "killed"]);
        // Its keeper and its init, if there were any, are ours now: both end.
        while waitid(WaitId::All, WaitIdOptions::EXITED).is_ok() {}
        reap_adopted();
        // A keeper may have gone on beside the first.
        caller.good(&["delete", "--force", "killed"]);
        assert!(scene.cgroups().is_empty(), "{step}: {:?}", scene.cgroups());
        let rooms = std::fs::read_dir(&caller.root).map_or(0, Iterator::count);
        assert_eq!(rooms, 0, "{step}: something is written down of it");
    }
    assert!(came_to_be < 24, "not one of them was killed");
}

/// Where a hook says that it runs.
fn fifo(place: &Path) -> PathBuf {
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, place, rustix::fs::FileType::Fifo, mode, 0).expect("a FIFO");
    place.to_path_buf()
}

/// The keeper of a `create`, if it has one yet.
fn keeper_of(create: u32) -> Option<OwnedFd> {
    let family = stock::descendants(create);
    let keeper = family.iter().find(|process| process.name == "orangery-keeper" && process.parent == create);
    keeper.and_then(|keeper| wait::try_pidfd(keeper.pid))
}

/// A command that lives removes what its keeper would have; of both of them `delete` does.
pub(crate) fn a_keeper_that_is_killed_leaves_nothing_unknown(scene: &Scene) {
    let caller = Caller::new(scene);
    let plain = bundle(scene, "killed", &["sleep", "1000"], |_| ());
    let place = fifo(&scene.dir().join("begun"));
    let held = bundle(scene, "held", &["sleep", "1000"], |config| {
        let script = format!("echo begun > {}; exec sleep 1000", path(&place));
        config["hooks"]["createRuntime"] =
            json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"] }]);
    });
    let (mut failed, mut left) = (0, 0);
    for step in 0..48u32 {
        let bundle = if step < 2 { &held } else { &plain };
        let mut create = caller.command(&["create", "--bundle", path(bundle), "killed"]);
        let mut create = create.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs");
        // The first two are met in the middle for certain. Half of the others are followed from the beginning of their keeper on, however
        // late that comes; how far each has come by its moment is the machine's to say.
        if step < 2 {
            std::fs::read(&place).expect("a line");
        } else if step % 4 < 2 {
            while keeper_of(create.id()).is_none() && create.try_wait().expect("ours").is_none() {}
        }
        let _ = poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: i64::from(step / 4) * 2_000_000 }));
        if let Some(keeper) = keeper_of(create.id()) {
            wait::kill(&keeper);
        }
        let both = step % 2 == 1;
        if both {
            create.kill().expect("killed");
        }
        let made = create.wait().expect("reaped").success();
        if both || made {
            left += u32::from(std::fs::read_dir(&caller.root).is_ok_and(|rooms| rooms.count() > 0));
            caller.good(&["delete", "--force", "killed"]);
        } else {
            failed += 1;
        }
        // What is left of it by now would not end.
        while waitid(WaitId::All, WaitIdOptions::EXITED).is_ok() {}
        reap_adopted();
        caller.good(&["delete", "--force", "killed"]);
        assert!(scene.cgroups().is_empty(), "{step}: {:?}", scene.cgroups());
        let rooms = std::fs::read_dir(&caller.root).map_or(0, Iterator::count);
        assert_eq!(rooms, 0, "{step}: something is written down of it");
    }
    assert!(failed > 0 && left > 0, "not one of them was killed in the middle: {failed}, {left}");
}

/// A container whose first process is recorded and whose maker and keeper are both gone is in the making for good.
pub(crate) fn a_create_that_is_killed_in_a_hook_is_deleted(scene: &Scene) {
    let caller = Caller::new(scene);
    let log = scene.dir().join("log");
    let bundle = bundle(scene, "halfway", &["sleep", "1000"], |config| {
        // Its parent is the keeper, whose parent is the command, which is not to see the other's end. The container outlives the keeper by
        // no instant, and neither does the hook: who kills both has left it.
        let script = "read state; keeper=$PPID; ppid=$(cut -d' ' -f4 /proc/$keeper/stat); kill -STOP $ppid; \
                      setsid sh -c \"kill -9 $keeper; kill -9 $ppid; echo went >> $0\" & exec sleep 1000";
        config["hooks"]["createRuntime"] =
            json!([{ "path": "/bin/sh", "args": ["sh", "-c", script, path(&log)], "env": ["PATH=/usr/bin:/bin"] }]);
        config["hooks"]["poststop"] =
            json!([{ "path": "/bin/sh", "args": ["sh", "-c", "echo stopped >> $0", path(&log)] }]);
    });
    let mut create = caller.command(&["create", "--bundle", path(&bundle), "halfway"]);
    let status = create.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("it runs");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    while waitid(WaitId::All, WaitIdOptions::EXITED).is_ok() {}
    assert_eq!(caller.status("halfway"), "creating");
    assert!(caller.bad(&["start", "halfway"]).contains("being created"));
    caller.good(&["delete", "halfway"]);
    assert_eq!(std::fs::read_to_string(&log).expect("a log"), "went\nstopped\n");
    assert!(scene.cgroups().is_empty(), "{:?}", scene.cgroups());
}

/// Nobody is left who would wait for it: neither the command nor the keeper, each killed while the other could do nothing.
pub(crate) fn a_hook_ends_with_its_keeper(scene: &Scene) {
    let caller = Caller::new(scene);
    for kind in ["createRuntime", "createContainer", "startContainer", "poststart"] {
        let inside = kind == "startContainer";
        let name = kind.to_ascii_lowercase();
        let place = scene.dir().join(if inside { format!("{name}/rootfs/begun") } else { format!("{name}-begun") });
        let bundle = bundle(scene, &name, &["sleep", "1000"], |config| {
            let begun = if inside { "/begun" } else { path(&place) };
            let script = format!("echo $$ > {begun}; exec sleep 1000");
            config["hooks"][kind] =
                json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"] }]);
            config["root"]["readonly"] = false.into();
            // It tells its number as we have it.
            let all = config["linux"]["namespaces"].as_array_mut().expect("a list");
            all.retain(|namespace| namespace["type"] != "pid");
        });
        fifo(&place);
        let create = ["create", "--bundle", path(&bundle), "tied"];
        let line = if kind.starts_with("create") { &create[..] } else { &["start", "tied"] };
        if line != create {
            caller.create(&bundle, "tied", Stdio::null());
        }
        let mut command = caller.command(line);
        let mut command = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs");
        let pid = std::fs::read_to_string(&place).expect("a line");
        let hook = wait::pidfd(pid.trim().parse().expect("a pid"));
        wait::stop(wait::pidfd(command.id()));
        wait::kill(keeper_of(command.id()).expect("a keeper"));
        command.kill().expect("killed");
        command.wait().expect("reaped");
        wait::gone(&hook, kind);
        caller.good(&["delete", "--force", "tied"]);
        while waitid(WaitId::All, WaitIdOptions::EXITED).is_ok() {}
        reap_adopted();
        assert!(scene.cgroups().is_empty(), "{kind}: {:?}", scene.cgroups());
    }
}

/// What lies at the path of its cgroup by now is another's, and none of its business.
pub(crate) fn a_cgroup_that_is_anothers_by_now_is_left_alone(scene: &Scene) {
    let caller = Caller::new(scene);
    let bundle = bundle(scene, "former", &["sleep", "1000"], |_| ());
    let init = wait::pidfd(caller.create(&bundle, "former", Stdio::null()));
    caller.good(&["start", "former"]);
    caller.good(&["kill", "former", "KILL"]);
    end_of(&init);
    let groups = scene.cgroups();
    assert!(!groups.is_empty());
    for group in &groups {
        wait::removed(group);
        std::fs::create_dir(group).expect("another one");
    }
    let mut other = sleeper();
    // One of version 1 that knows no processors yet takes nobody.
    let moved =
        groups.iter().filter(|group| std::fs::write(group.join("cgroup.procs"), other.id().to_string()).is_ok());
    assert!(moved.count() > 0);
    caller.good(&["delete", "--force", "former"]);
    assert_eq!(scene.cgroups(), groups);
    let lives = other.try_wait().expect("ours").is_none();
    other.kill().expect("killed");
    let how = other.wait().expect("reaped");
    assert!(lives, "it was killed by a delete: {how}");
    groups.iter().for_each(|group| wait::removed(group));
}

#[expect(clippy::disallowed_methods, reason = "a process of somebody else's")]
fn sleeper() -> std::process::Child {
    std::process::Command::new("sleep").arg("1000").spawn().expect("it runs")
}
