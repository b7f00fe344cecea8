//! Groups of real containers.

use std::time::Duration;

use futures_util::StreamExt as _;
use orangery::events::{Item, Kind, Since};
use orangery::{Group, GroupBuilder, Restart, ServiceState, Strategy, Supervisor};
use orangery_tests::{Scene, Trial, trial, wait};

use crate::stage::play;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial!(three_stop_in_reverse_each_gone_before_the_next_term),
        trial!(one_that_is_killed_takes_all_along_and_all_come_back),
        trial!(a_dropped_group_leaves_nothing),
    ]
}

const MS: Duration = Duration::from_millis(1);

fn three(supervisor: &Supervisor) -> GroupBuilder {
    let sleeper = || supervisor.command("sleep").arg("1000").restart(Restart::always().back_off(MS, 1, MS));
    Group::builder("g").service("a", sleeper()).service("b", sleeper()).service("c", sleeper())
}

/// What the feed tells of starts, stops and ends, in its order, up to the removal of this container.
async fn story(supervisor: &Supervisor, last: &str) -> Vec<String> {
    let mut told = Vec::new();
    let mut events = supervisor.events(Since::Oldest);
    while let Some(item) = wait::soon("an event", events.next()).await {
        let Item::Event(event) = item else { panic!("{item:?}") };
        let id = event.container.as_deref().unwrap_or_default();
        match event.kind {
            Kind::ContainerStarted { .. } => told.push(format!("start {id}")),
            Kind::ContainerStopping => told.push(format!("stop {id}")),
            Kind::ContainerRemoved => told.push(format!("gone {id}")),
            _ => {}
        }
        if matches!(event.kind, Kind::ContainerRemoved) && id == last {
            break;
        }
    }
    told
}

fn three_stop_in_reverse_each_gone_before_the_next_term(scene: &Scene) {
    play(scene, async |supervisor| {
        let group = three(supervisor).start(supervisor).await.unwrap();
        wait::soon("a stop", group.stop(15, Duration::from_secs(60))).await.unwrap();
        assert_eq!(group.state(), ServiceState::Stopped);
        let want = "start g.a, start g.b, start g.c, stop g.c, gone g.c, stop g.b, gone g.b, stop g.a, gone g.a";
        assert_eq!(story(supervisor, "g.a").await.join(", "), want);
    });
}

fn one_that_is_killed_takes_all_along_and_all_come_back(scene: &Scene) {
    play(scene, async |supervisor| {
        let group = three(supervisor).strategy(Strategy::OneForAll).start(supervisor).await.unwrap();
        group.service("b").unwrap().current().unwrap().signal(9).unwrap();
        for member in ["a", "b", "c"] {
            let back = group.service(member).unwrap();
            let back = back.wait_for(|now| now.generation == 2 && now.state == ServiceState::Running);
            wait::soon("all of it", back).await.unwrap();
        }
        assert_eq!(group.inspect().whole.generation, 1, "the group itself has not failed");
        group.kill();
        wait::soon("a kill", group.wait()).await.unwrap();
    });
}

fn a_dropped_group_leaves_nothing(scene: &Scene) {
    play(scene, async |supervisor| {
        let inner = three(supervisor);
        let group = Group::builder("outer").group(inner).start(supervisor).await.unwrap();
        let changes = group.group("g").unwrap().service("a").unwrap().changes();
        drop(group);
        let last = wait::soon("its end", changes.collect::<Vec<_>>()).await;
        assert_eq!(last.last().unwrap().state, ServiceState::Stopped);
    });
}
