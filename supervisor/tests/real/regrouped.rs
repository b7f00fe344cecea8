//! Groups of a supervisor that is killed: the next one has them as groups, and finishes what was begun.

use std::time::Duration;

use orangery::{
    ErrorKind, Group, GroupInspect, MemberInspect, Probe, Readiness, Restart, Service, ServiceState, Strategy,
    Supervisor,
};
use orangery_tests::victim::Victim;
use orangery_tests::{Scene, Trial, trial, victim, wait};

use crate::begun::{STUBBORN, TERM, USR2, until};
use crate::durable::{dir, durable, end, settle, stand};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial!(a_group_is_one_again),
        trial!(what_was_begun_of_a_group_is_finished),
        trial!(a_group_comes_to_rest_whenever_it_was_left),
    ]
}

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);

fn always() -> Restart {
    Restart::always().back_off(MS, 1, MS)
}

/// The services of a group and of those within it, with their names, states and incarnations.
fn services(inspect: &GroupInspect) -> Vec<(String, ServiceState, u32)> {
    let mut all = Vec::new();
    for (_, member) in &inspect.members {
        match member {
            MemberInspect::Service(now) => all.push((now.id.clone(), now.state, now.generation)),
            MemberInspect::Group(inner) => all.extend(services(inner)),
        }
    }
    all
}

/// Until all of them run, in this incarnation at least.
async fn all_run(group: &Group, generation: u32) {
    let mut members: Vec<Service> = Vec::new();
    let mut groups = vec![group.clone()];
    while let Some(group) = groups.pop() {
        for (name, _) in group.inspect().members {
            members.extend(group.service(&name));
            groups.extend(group.group(&name));
        }
    }
    for member in members {
        let runs =
            move |now: &orangery::ServiceInspect| now.generation >= generation && now.state == ServiceState::Running;
        wait::soon("a member", member.wait_for(runs)).await.unwrap();
    }
}

fn pid(group: &Group, name: &str) -> i32 {
    group.service(name).unwrap().current().unwrap().pid()
}

async fn forget(scene: &Scene, supervisor: Supervisor, group: &str) {
    assert!(supervisor.forget(group).await.unwrap());
    assert!(supervisor.group(group).is_none() && !supervisor.forget(group).await.unwrap());
    end(scene, supervisor).await;
    for room in ["groups", "services", "containers", "aside", "gone"] {
        assert_eq!(std::fs::read_dir(dir(scene).join(room)).unwrap().count(), 0, "{room}");
    }
}

fn a_group_is_one_again(scene: &Scene) {
    if victim::role().is_some() {
        return scene.block_on(async {
            let supervisor = durable(scene);
            let sleeper = || supervisor.command("sleep").arg("1000").restart(always());
            let inner = Group::builder("in").service("x", sleeper()).service("y", sleeper());
            let group = Group::builder("shop").strategy(Strategy::OneForAll).restart(always());
            let group = group.service("a", sleeper()).service("b", sleeper()).group(inner);
            let group = group.start(&supervisor).await.unwrap();
            // And one whose making is never answered.
            let never = Group::builder("never").service("z", sleeper()).prepare(&supervisor).await.unwrap();
            stand(&format!("{} {}", pid(&group, "a"), pid(&group.group("in").unwrap(), "y"))).await;
            drop(never);
        });
    }
    let mut before = Victim::start(scene, "groups");
    let line = before.line();
    before.kill();
    scene.block_on(async {
        let supervisor = durable(scene);
        let told = supervisor.recovery().unwrap();
        assert_eq!((&told.groups[..], told.set_aside.len()), (&["shop".to_owned(), "shop.in".to_owned()][..], 0));
        assert_eq!(told.services, ["shop.a", "shop.b", "shop.in.x", "shop.in.y"]);
        let group = supervisor.group("shop").expect("the group");
        let inner = supervisor.group("shop.in").expect("the group within it");
        assert_eq!((group.state(), inner.state()), (ServiceState::Running, ServiceState::Running));
        assert_eq!(line, format!("{} {}", pid(&group, "a"), pid(&inner, "y")));
        assert_eq!(supervisor.forget("shop").await.unwrap_err().kind(), ErrorKind::State);
        assert_eq!(supervisor.forget("shop.a").await.unwrap_err().kind(), ErrorKind::State);
        // Its strategy holds.
        group.service("b").unwrap().current().unwrap().kill().unwrap();
        all_run(&group, 2).await;
        assert_eq!(inner.inspect().whole.generation, 2);
        // A member that gives up for good is a death of the whole, whose restart is its own.
        drop(inner);
        wait::soon("a stop", group.stop(TERM, HOUR)).await.unwrap();
        assert_eq!(group.state(), ServiceState::Stopped);
        drop(group);
        supervisor.leave().await;
        let supervisor = durable(scene);
        let group = supervisor.group("shop").expect("the group");
        assert!(services(&group.inspect()).iter().all(|(_, state, _)| *state == ServiceState::Stopped));
        wait::soon("a start", group.start()).await.unwrap();
        all_run(&group, 3).await;
        wait::soon("a stop", group.stop(TERM, HOUR)).await.unwrap();
        drop(group);
        forget(scene, supervisor, "shop").await;
    });
    settle(scene);
}

/// One in the middle of a restart of all, one in the middle of its stop, one in the middle of its first start.
fn what_was_begun_of_a_group_is_finished(scene: &Scene) {
    if victim::role().is_some() {
        return scene.block_on(async {
            let supervisor = durable(scene);
            let sleeper = || supervisor.command("sleep").arg("1000").restart(always());
            let stubborn = || supervisor.command("sh").arg("-c").arg(STUBBORN).restart(always());
            let shop = Group::builder("shop").strategy(Strategy::OneForAll).stop_with(TERM, HOUR);
            let shop = shop.service("a", stubborn()).service("b", sleeper()).service("c", sleeper());
            let shop = shop.start(&supervisor).await.unwrap();
            let calm = Group::builder("calm").service("d", sleeper()).service("e", stubborn());
            let calm = calm.start(&supervisor).await.unwrap();
            let late = Group::builder("late")
                .service("f", sleeper().ready_when(Readiness::new(Probe::line("never")).timeout(HOUR)));
            let late = late.service("g", sleeper()).prepare(&supervisor).await.unwrap();
            let first = late.service("f").unwrap();
            late.clone().detach();
            drop(late.start());
            let output = |group: &Group, name: &str| group.service(name).unwrap().current().unwrap().stdout();
            until(output(&shop, "a"), "up").await;
            until(output(&calm, "e"), "up").await;
            shop.service("b").unwrap().current().unwrap().kill().unwrap();
            drop(calm.stop(TERM, HOUR));
            // Both have heard of it, and stay.
            until(output(&shop, "a"), "term").await;
            until(output(&calm, "e"), "term").await;
            wait::soon("a start", first.wait_state(ServiceState::Unready)).await.unwrap();
            stand("ready").await;
        });
    }
    let mut before = Victim::start(scene, "begins");
    assert_eq!(before.line(), "ready");
    before.kill();
    scene.block_on(async {
        let supervisor = durable(scene);
        let told = supervisor.recovery().unwrap();
        assert_eq!((told.groups.len(), told.set_aside.len()), (3, 0), "{told:?}");
        let group = |name: &str| supervisor.group(name).expect("a group");
        let (shop, calm, late) = (group("shop"), group("calm"), group("late"));
        assert_eq!((shop.state(), calm.state()), (ServiceState::Running, ServiceState::Stopping));
        let heard = async |group: &Group, name: &str| {
            let service = group.service(name).unwrap();
            wait::soon("its stop", service.wait_state(ServiceState::Stopping)).await.unwrap();
            service.current().unwrap().signal(USR2).unwrap();
        };
        // The rest follows of itself.
        heard(&shop, "a").await;
        all_run(&shop, 2).await;
        let incarnations: Vec<_> = services(&shop.inspect()).into_iter().map(|(_, _, generation)| generation).collect();
        assert_eq!(incarnations, [2, 2, 2]);
        heard(&calm, "e").await;
        wait::soon("its stop", calm.wait()).await.unwrap();
        let now = services(&calm.inspect());
        assert!(
            now.iter().all(|(_, state, generation)| (*state, *generation) == (ServiceState::Stopped, 1)),
            "{now:?}"
        );
        let now = services(&late.inspect());
        let is = (ServiceState::Unready, 1, ServiceState::Stopped, 0);
        assert_eq!((late.state(), (now[0].1, now[0].2, now[1].1, now[1].2)), (ServiceState::Starting, is));
        shop.kill();
        late.kill();
        for group in [shop, late] {
            wait::soon("its end", group.wait()).await.unwrap();
        }
        drop(calm);
        for name in ["calm", "late"] {
            assert!(supervisor.forget(name).await.unwrap());
        }
        forget(scene, supervisor, "shop").await;
    });
    settle(scene);
}

const ROUNDS: usize = 8;

/// Killed wherever it is in restarting all of them.
fn a_group_comes_to_rest_whenever_it_was_left(scene: &Scene) {
    if victim::role().is_some() {
        return scene.block_on(async {
            let supervisor = durable(scene);
            // Each kill counts, and there are as many as fit into the time.
            let sleeper = || supervisor.command("sleep").arg("1000").restart(always().without_window());
            let group = match supervisor.group("g") {
                Some(group) => group,
                None => {
                    let group = Group::builder("g").strategy(Strategy::OneForAll);
                    let group = group.service("a", sleeper()).service("b", sleeper()).service("c", sleeper());
                    group.start(&supervisor).await.unwrap()
                }
            };
            loop {
                let now = services(&group.inspect());
                let last = now.iter().map(|(_, _, generation)| *generation).max().unwrap_or(0);
                println!("{last}");
                if let Some(b) = group.service("b").unwrap().current() {
                    b.kill().unwrap();
                }
                all_run(&group, last + 1).await;
            }
        });
    }
    for round in 0..ROUNDS {
        let mut before = Victim::start(scene, "restarts");
        (0..=round % 3).for_each(|_| assert_ne!(before.line(), ""));
        before.kill();
    }
    scene.block_on(async {
        let supervisor = durable(scene);
        let told = supervisor.recovery().unwrap();
        assert_eq!((&told.groups[..], told.set_aside.len()), (&["g".to_owned()][..], 0), "{told:?}");
        let group = supervisor.group("g").expect("the group");
        all_run(&group, 1).await;
        assert_eq!(group.inspect().whole.generation, 1, "no member has failed");
        wait::soon("its stop", group.stop(9, Duration::ZERO)).await.unwrap();
        drop(group);
        forget(scene, supervisor, "g").await;
    });
    settle(scene);
}
