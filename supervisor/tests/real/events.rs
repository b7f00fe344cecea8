//! The feed on real containers: what only a kernel and a keeper can have happened.

use orangery::events::{Event, Events, Item, Kind, Since};
use orangery::{Cause, LimitKind, OomVerdict, Sandbox};
use orangery_tests::{Scene, Trial, trial, wait};
use std::sync::Arc;

use crate::stage::play;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial!(the_end_of_the_keeper_is_told_and_a_shutdown_is_not),
        trial!(an_oom_kill_and_its_limit_are_told_before_the_end, Memory),
        trial!(a_step_that_fails_is_told_by_its_stage),
        trial!(a_leaked_writer_is_told),
    ]
}

/// The events up to the first of this kind.
pub(crate) async fn until(events: &mut Events, last: &str) -> Vec<Arc<Event>> {
    let mut told = Vec::new();
    while let Some(Item::Event(event)) = wait::soon(last, events.recv()).await {
        told.push(Arc::clone(&event));
        if event.kind.name() == last {
            return told;
        }
    }
    panic!("the feed ended without {last}: {told:?}");
}

fn the_end_of_the_keeper_is_told_and_a_shutdown_is_not(scene: &Scene) {
    let mut rest = None;
    play(scene, async |supervisor| {
        supervisor.command("true").run().await.unwrap();
        let mut events = supervisor.events(Since::Oldest);
        until(&mut events, "container_removed").await;
        rest = Some(events);
    });
    let told = scene.block_on(async { wait::soon("the end of the feed", rest.unwrap().recv()).await });
    assert_eq!(told, None, "a shutdown is no loss");
    play(scene, async |supervisor| {
        let mut events = supervisor.events(Since::Now);
        wait::kill(wait::pidfd(supervisor.native().unwrap().keeper_pid()));
        let told = until(&mut events, "keeper_lost").await;
        assert_eq!((told.len(), told[0].container.as_deref()), (1, None));
    });
}

fn an_oom_kill_and_its_limit_are_told_before_the_end(scene: &Scene) {
    play(scene, async |supervisor| {
        let mut events = supervisor.events(Since::Now);
        let sandbox = Sandbox::builder().memory(32 << 20).build().unwrap();
        supervisor.command("sh").arg("-c").arg("x=a; while :; do x=$x$x; done").sandbox(&sandbox).run().await.unwrap();
        let told = until(&mut events, "process_ended").await;
        let kills =
            |kind: &Kind| matches!(kind, Kind::Oom { verdict: OomVerdict::Own { .. } | OomVerdict::Killed { .. } });
        // When it happens, which may be before the exit is known, and with that the cause.
        let oom = told.iter().position(|event| kills(&event.kind)).expect("the kernel's kill");
        let hit = told.iter().position(|event| event.kind == Kind::LimitHit { limit: LimitKind::Memory });
        assert!(hit.is_some_and(|hit| hit > oom), "{told:?}");
        assert_eq!(told.last().unwrap().cause, Some(Cause::Limit(LimitKind::Memory)));
    });
}

fn a_step_that_fails_is_told_by_its_stage(scene: &Scene) {
    play(scene, async |supervisor| {
        let mut events = supervisor.events(Since::Now);
        let error = supervisor.command("/no/such/program").run().await.unwrap_err();
        let told = until(&mut events, "container_failed").await;
        let Kind::ContainerFailed(failure) = &told.last().unwrap().kind else { panic!() };
        assert_eq!((failure.stage.as_deref(), failure.errno), (error.stage(), error.errno()));
        let container = supervisor.command("sleep").arg("1000").spawn().await.unwrap();
        container.command("/no/such/program").run().await.unwrap_err();
        let told = until(&mut events, "process_failed").await;
        assert_eq!(told.last().unwrap().process, Some(orangery::ProcessId(1)));
    });
}

fn a_leaked_writer_is_told(scene: &Scene) {
    play(scene, async |supervisor| {
        let mut events = supervisor.events(Since::Now);
        let sandbox = Sandbox::builder().drain_grace(Some(std::time::Duration::from_millis(10))).build().unwrap();
        let container = supervisor.command("sleep").arg("1000").sandbox(&sandbox).spawn().await.unwrap();
        let more = container.command("sh").arg("-c").arg("sleep 1000 & exit 0");
        assert!(more.run().await.unwrap().report.leaked_writers);
        let told = until(&mut events, "process_ended").await;
        assert!(told.iter().any(|event| event.kind == Kind::LeakedWriters));
    });
}
