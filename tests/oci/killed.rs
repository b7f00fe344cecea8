//! Commands that are killed in the middle.

use std::process::Stdio;

use orangery_tests::Scene;
use orangery_tests::victim::reap_adopted;
use rustix::event::{Timespec, poll};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use crate::bundle::bundle;
use crate::caller::{Caller, path};

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
