//! Limits that cannot be had, as the embedder sees them: in what is inspected, in the report, and as events.

use std::time::Duration;

use orangery::events::{Item, Kind, Since};
use orangery::{Enforcement, ErrorKind, Limits, OomVerdict, Pause, Resource, Sandbox, SandboxBuilder, StatsSource};
use orangery_tests::{Scene, Trial, trial, wait};

use crate::stage::builder;

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial!(what_does_not_hold_is_told_everywhere), trial!(processor_time_that_nobody_counts_is_named)]
}

fn modest() -> SandboxBuilder {
    Sandbox::builder().enforcement(Enforcement::BestEffort)
}

fn what_does_not_hold_is_told_everywhere(scene: &Scene) {
    scene.block_on(async {
        let supervisor = builder(scene).without_cgroups().build().unwrap();
        let mut events = supervisor.events(Since::Now);
        let sandbox = modest().memory(256 << 20).cpus(0.5).build().unwrap();
        let container = supervisor.command("sleep").arg("1000").sandbox(&sandbox).spawn().await.unwrap();
        let now = container.inspect();
        assert!(now.limits.is_empty(), "none of them holds: {:?}", now.limits);
        let names = |unmet: &[orangery::UnmetLimit]| unmet.iter().map(|it| it.limit.clone()).collect::<Vec<_>>();
        assert_eq!(names(&now.unmet), ["memory", "cpu_quota"]);
        let instead = now.unmet[0].instead.as_ref().unwrap();
        assert_eq!((instead.rlimit.resource, instead.rlimit.soft), (Resource::As, 256 << 20));
        container.update(Limits { pids: Some(50), ..Limits::default() }).await.unwrap();
        wait::soon("pause", container.pause_with(Pause::Any)).await.unwrap();
        let now = container.inspect();
        assert_eq!((names(&now.unmet), now.paused), (names_of(["memory", "cpu_quota", "pids"]), Some(Pause::Stop)));
        assert!(now.limits.is_empty());
        assert_eq!(container.stats().source, Some(StatsSource::Proc));
        wait::soon("resume", container.resume()).await.unwrap();
        container.signal(9).unwrap();
        let report = wait::soon("end", container.wait()).await.unwrap();
        assert_eq!(names(&report.unmet), ["memory", "cpu_quota", "pids"]);
        assert!(matches!(&report.oom, OomVerdict::Unknown { why } if !why.is_empty()), "{:?}", report.oom);
        let mut told = Vec::new();
        loop {
            match wait::soon("an event", events.recv()).await {
                Some(Item::Event(event)) => match &event.kind {
                    Kind::LimitUnmet(unmet) => told.push(unmet.limit.clone()),
                    Kind::ContainerRemoved => break,
                    _ => {}
                },
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(told, ["memory", "cpu_quota", "pids"]);
        // Where nothing is said, it is required.
        let strict = Sandbox::builder().pids(9).build().unwrap();
        let refused = supervisor.command("true").sandbox(&strict).spawn().await.unwrap_err();
        assert_eq!((refused.kind(), refused.field()), (ErrorKind::Unsupported, Some("limits.pids")));
        wait::soon("shutdown", supervisor.shutdown()).await;
    });
}

fn names_of<const N: usize>(names: [&str; N]) -> Vec<String> {
    names.map(str::to_owned).into()
}

/// All its processes together are held to it all the same: looked at in /proc.
fn processor_time_that_nobody_counts_is_named(scene: &Scene) {
    scene.block_on(async {
        let supervisor = builder(scene).without_cgroups().build().unwrap();
        let sandbox = Sandbox::builder().cpu_time(Duration::from_millis(300)).build().unwrap();
        // Neither the shell nor one of its children alone comes to a second, which the rlimit would end.
        let script = "burn() { i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done; }; while :; do burn & wait; done";
        let command = supervisor.command("sh").arg("-c").arg(script).sandbox(&sandbox);
        let container = command.spawn().await.unwrap();
        let unmet = container.inspect().unmet;
        assert_eq!((unmet.len(), unmet[0].limit.as_str()), (1, "cpu_time"), "{unmet:?}");
        let instead = unmet[0].instead.as_ref().unwrap();
        assert_eq!((instead.rlimit.resource, instead.rlimit.soft), (Resource::Cpu, 1));
        let report = wait::soon("end", container.wait()).await.unwrap();
        assert_eq!(report.cause, orangery::Cause::Limit(orangery::LimitKind::Cpu), "{report:?}");
        assert_eq!(report.unmet, unmet);
        wait::soon("shutdown", supervisor.shutdown()).await;
    });
}
