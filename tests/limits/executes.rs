//! Pauses that fall into somebody's execve(2).

use orangery_runtime::Pause;
use orangery_tests::host::probe;
use orangery_tests::wait::{self, Lines};
use orangery_tests::{Scene, Trial, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial!(who_executes_with_threads_is_paused_too, Freezer)]
}

/// The freezer of version 1 alone would wait for ever, once in a few pauses.
fn who_executes_with_threads_is_paused_too(scene: &Scene) {
    scene.play(async |host| {
        let container = host.create(host.spec("executes"), probe(&["executes"])).await.expect("created");
        let mut started = container.start().await.expect("started");
        let mut lines = Lines::of(started.stdout.take().expect("an output"));
        assert_eq!(wait::soon("ready", lines.next()).await, "ready");
        for _ in 0..20 {
            wait::soon("pause", container.pause(Pause::Freeze)).await.expect("paused");
            wait::soon("resume", container.resume()).await.expect("resumed");
        }
        container.delete().await.expect("deleted");
    });
}
