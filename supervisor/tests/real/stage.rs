//! A supervisor in a trial's scene.

use std::time::Duration;

use orangery::{Command, ContainerHandle, Event, Output, Supervisor, SupervisorBuilder};
use orangery_tests::stock::Stock;
use orangery_tests::{Scene, wait};

/// Configured for the scene: its state directory and its cgroup parent.
pub(crate) fn builder(scene: &Scene) -> SupervisorBuilder {
    let options = scene.options();
    let builder = Supervisor::builder().state_dir(scene.state_dir());
    match options.cgroup_parent {
        Some(parent) => builder.cgroup_parent(parent),
        None => builder,
    }
}

/// Start a supervisor, play, shut it down.
pub(crate) fn play(scene: &Scene, play: impl AsyncFnOnce(&Supervisor)) {
    scene.block_on(async {
        let supervisor = builder(scene).build().expect("a supervisor");
        play(&supervisor).await;
        wait::soon("shutdown", supervisor.shutdown()).await;
    });
}

/// Everything that a supervisor without a shutdown has left behind goes by itself, its threads included.
pub(crate) fn settled(scene: &Scene, before: &Stock) {
    let until = std::time::Instant::now() + wait::PATIENCE;
    loop {
        let left = before.left_over(&scene.stock());
        if left.is_empty() {
            return;
        }
        assert!(std::time::Instant::now() < until, "left behind: {left:?}");
        std::thread::yield_now();
    }
}

/// It has said its first line.
pub(crate) async fn up(command: Command) -> ContainerHandle {
    let container = command.spawn().await.unwrap();
    let mut output = container.stdout();
    let line = async {
        loop {
            match output.recv().await.expect("a line, not the end") {
                Event::Chunk(chunk) if chunk.data.contains(&b'\n') => return,
                _ => {}
            }
        }
    };
    wait::soon("ready", line).await;
    container
}

/// Run with a limit that is over before anything was said, on a busy machine, it runs once more, with twice the time.
pub(crate) async fn long_enough(run: impl AsyncFn(Duration) -> Output) -> Output {
    let mut limit = Duration::from_millis(200);
    loop {
        let output = run(limit).await;
        if !output.stdout.head.is_empty() || limit > wait::PATIENCE {
            return output;
        }
        limit *= 2;
    }
}

/// Of this process from now on; every trial has its own.
pub(crate) fn limit_descriptors(most: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum }).expect("a soft limit below the hard one");
}
