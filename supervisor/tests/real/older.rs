//! As on an older kernel, one feature after the other switched off: a supervisor and its keeper are killed, the next supervisor has
//! what lives again, hears how it ends, as far as anybody can know, and kills what does not.

use std::sync::atomic::{AtomicBool, Ordering};

use orangery::events::{Item, Kind, Since};
use orangery::runtime::native::Without;
use orangery::runtime::sys::pidfd_exit_status;
use orangery::{ExitStatus, State, Stdin, Supervisor};
use orangery_tests::victim::{self, Victim, reap_adopted};
use orangery_tests::{Scene, Trial, trial, wait};

use crate::durable::{dir, end, found, settle, stand};
use crate::stage;

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial!(what_an_older_kernel_lacks_is_done_otherwise).long()]
}

const FEATURES: [&str; 4] = ["pidfs", "exit_info", "cgroup_kill", "all"];

fn without(feature: &str) -> Without {
    let mut without = Without::default();
    match feature {
        "pidfs" => without.pidfs = true,
        "exit_info" => without.exit_info = true,
        "cgroup_kill" => without.cgroup_kill = true,
        _ => without = Without::all(),
    }
    without
}

fn durable(scene: &Scene, feature: &str) -> Supervisor {
    let builder = stage::builder(scene).durable(dir(scene)).without(without(feature));
    builder.build().expect("a durable supervisor")
}

/// It waits until somebody makes the file of its name.
fn ending(supervisor: &Supervisor, scene: &Scene, id: &str, code: u8) -> orangery::Command {
    let sandbox = orangery::Sandbox::builder().bind_ro(go(scene), "/go").build().unwrap();
    let script = format!("while [ ! -e /go/{id} ]; do sleep 0.02; done; exit {code}");
    supervisor.command("sh").arg("-c").arg(script).stdin(Stdin::Null).sandbox(&sandbox.with_id(id))
}

fn go(scene: &Scene) -> std::path::PathBuf {
    scene.dir().join("go")
}

async fn first(scene: &Scene, feature: &str) {
    let supervisor = durable(scene, feature);
    let ends = ending(&supervisor, scene, "ends", 5).spawn().await.unwrap();
    let lives = supervisor.command("sleep").arg("1000").id("lives").spawn().await.unwrap();
    // An ordinary user's has no freezer.
    if scene.root() {
        lives.pause().await.unwrap();
    }
    stand(&ends.pid().to_string()).await;
}

/// Not the parent of anything: whoever it is here reaps.
async fn next(scene: &Scene, feature: &str) {
    let supervisor = durable(scene, feature);
    let told = supervisor.recovery().expect("it is durable").clone();
    assert_eq!((told.adopted.as_slice(), told.lost.len()), (&["ends".to_owned(), "lives".to_owned()][..], 0));
    println!("watches");
    let ended = wait::soon("its end", found(&supervisor, "ends").await.wait()).await.unwrap();
    println!("{:?}", ended.exit);
    let lives = found(&supervisor, "lives").await;
    assert_eq!(lives.inspect().state, if scene.root() { State::Paused } else { State::Running });
    lives.kill().unwrap();
    let ended = wait::soon("its end", lives.wait()).await.unwrap();
    println!("{:?}", ended.exit);
    // And what was started here, when the keeper dies beside us.
    let mut events = supervisor.events(Since::Now);
    let own = ending(&supervisor, scene, "own", 6).spawn().await.unwrap();
    println!("{}", own.pid());
    loop {
        if let Some(Item::Event(event)) = wait::soon("another keeper", events.recv()).await
            && matches!(event.kind, Kind::KeeperReplaced { .. })
        {
            break;
        }
    }
    println!("replaced");
    let ended = wait::soon("its end", own.wait()).await.unwrap();
    println!("{:?}", ended.exit);
    end(scene, supervisor).await;
    stand("over").await;
}

/// Nobody reaps any more, also where an assertion has failed.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// The keeper first, so that it does not go on alone; and its supervisor cannot start another one.
fn kill_both(first: &mut Victim) {
    let family = first.family();
    let (_, keeper) = victim::keeper(&family);
    first.stop();
    wait::kill(keeper);
    wait::gone(keeper, "the keeper");
    first.kill();
}

fn round(scene: &Scene, feature: &str) {
    std::fs::create_dir(go(scene)).unwrap();
    let mut before = Victim::start(scene, &format!("first {feature}"));
    let ends = wait::pidfd(before.line().parse().expect("its pid"));
    let record = std::fs::read_to_string(dir(scene).join("containers/ends/record.json")).unwrap();
    assert!(!without(feature).pidfs || !record.contains(r#""inode":"#), "{record}");
    kill_both(&mut before);
    let mut after = Victim::start(scene, &format!("next {feature}"));
    assert_eq!(after.line(), "watches", "{feature}");
    let told = |pidfd: &_, code| match pidfd_exit_status(pidfd) {
        Ok(Some(_)) if !without(feature).exit_info => format!("{:?}", ExitStatus::Code(code)),
        _ => format!("{:?}", ExitStatus::Lost),
    };
    let over = AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while !over.load(Ordering::Acquire) {
                reap_adopted();
                std::thread::yield_now();
            }
        });
        let _over = Over(&over);
        std::fs::write(go(scene).join("ends"), "").unwrap();
        let said = after.line();
        assert_eq!(said, told(&ends, 5), "{feature}");
        let killed = after.line();
        let known = format!("{:?}", ExitStatus::Signal { signal: 9, core_dumped: false });
        assert!(killed == known || killed == format!("{:?}", ExitStatus::Lost), "{feature}: {killed}");
        let own = wait::pidfd(after.line().parse().expect("its pid"));
        let family = after.family();
        wait::kill(&victim::keeper(&family).1);
        assert_eq!(after.line(), "replaced", "{feature}");
        std::fs::write(go(scene).join("own"), "").unwrap();
        let said = after.line();
        assert_eq!(said, told(&own, 6), "{feature}");
        assert_eq!(after.line(), "over", "{feature}");
    });
    after.kill();
    settle(scene);
    std::fs::remove_dir_all(go(scene)).unwrap();
}

fn what_an_older_kernel_lacks_is_done_otherwise(scene: &Scene) {
    if let Some(role) = victim::role() {
        let (role, feature) = role.split_once(' ').expect("two words");
        return scene.block_on(async {
            match role {
                "first" => first(scene, feature).await,
                _ => next(scene, feature).await,
            }
        });
    }
    FEATURES.iter().for_each(|feature| round(scene, feature));
}
