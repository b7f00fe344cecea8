//! A program that owns its process lets itself be moved into a leaf of its group.

use std::fs;
use std::path::Path;
use std::time::Instant;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use orangery::{Supervisor, SupervisorBuilder};
use orangery_tests::{Scene, Trial, trial, wait};

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial!(a_host_is_moved_into_a_leaf_only_when_it_says_so, Root)]
}

const TOP: &str = "/sys/fs/cgroup";

/// Our group of version 2.
fn own() -> String {
    let text = fs::read_to_string("/proc/self/cgroup").expect("our groups");
    text.lines().find_map(|line| line.strip_prefix("0::")).expect("version 2").to_owned()
}

fn enter(group: &Path) {
    fs::write(group.join("cgroup.procs"), "0").expect("entered");
}

/// The last process that was in it may still be on its way out.
fn remove(group: &Path) {
    let until = Instant::now() + wait::PATIENCE;
    while let Err(error) = fs::remove_dir(group) {
        assert!(Instant::now() < until, "{}: {error}", group.display());
        std::thread::yield_now();
    }
}

fn lives(scene: &Scene, builder: SupervisorBuilder) {
    scene.block_on(async {
        let supervisor = builder.build().expect("a supervisor");
        let output = wait::soon("its end", supervisor.command("true").run()).await.expect("run");
        assert!(output.report.success(), "{output:?}");
        wait::soon("shutdown", supervisor.shutdown()).await;
    });
}

/// In the trial's own mount namespace version 2 lies over whatever the machine has: it is then the one hierarchy. Where
/// there were others beside it nobody is moved before.
fn a_host_is_moved_into_a_leaf_only_when_it_says_so(scene: &Scene) {
    let builder = || Supervisor::builder().state_dir(scene.state_dir());
    let all = || fs::read_to_string("/proc/self/cgroup").expect("our groups");
    let (before, mixed) = (own(), all());
    if mixed.lines().count() > 1 {
        lives(scene, builder().enter_leaf());
        assert_eq!(all(), mixed);
    }
    mount(Some("cgroup2"), TOP, Some("cgroup2"), MsFlags::empty(), None::<&str>).expect("version 2");
    // The scene's, which goes with it.
    let name = scene.options().cgroup_parent.expect("a parent");
    let below = |name: &Path| Path::new(TOP).join(name.strip_prefix("/").expect("absolute"));
    let group = below(&name);
    enter(&group);
    lives(scene, builder());
    assert_eq!(Path::new(&own()), name, "moved without a word");
    lives(scene, builder().enter_leaf());
    assert_eq!(Path::new(&own()), name.join("orangery-self"));
    lives(scene, builder().enter_leaf());
    assert_eq!(Path::new(&own()), name.join("orangery-self"), "once is enough");
    enter(&below(Path::new(&before)));
    remove(&group.join("orangery-self"));
    umount2(TOP, MntFlags::MNT_DETACH).expect("uncovered");
}
