//! Budgets as their users meet them, on the scripted runtime: what is refused, who waits, and that what was taken comes back
//! wherever a creation is given up.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says why by panicking")]

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt as _;
use orangery::faults::{Fault, FaultPoint, FaultPolicy, Site};
use orangery::testing::{FakeRuntime, VirtualClock};
use orangery::{Budget, Command, ContainerHandle, ErrorKind, Probe, Supervisor, SupervisorBuilder};

const HOUR: Duration = Duration::from_secs(3600);

/// The start of everything that caller `a` makes (its ids begin so) takes an hour.
struct Slow;

impl FaultPolicy for Slow {
    fn decide(&self, at: &FaultPoint<'_>) -> Fault {
        let slow = at.site == Site::StartGate && at.container.starts_with("a-");
        if slow { Fault::Delay(HOUR) } else { Fault::Continue }
    }
}

fn on(fake: &FakeRuntime, set: impl FnOnce(SupervisorBuilder) -> SupervisorBuilder) -> Supervisor {
    set(Supervisor::builder().shards(1)).build_on(Arc::new(fake.clone())).unwrap()
}

fn prog(supervisor: &Supervisor) -> Command {
    supervisor.command("prog")
}

fn used(supervisor: &Supervisor, budget: Budget) -> u64 {
    supervisor.budgets().of(budget).used
}

/// Until everything that was taken is back.
async fn idle(supervisor: &Supervisor) {
    while supervisor.budgets().iter().any(|of| of.used > 0) {
        tokio::task::yield_now().await;
    }
}

async fn ends(fake: &FakeRuntime, handle: &ContainerHandle) {
    fake.actor().await.exit(0);
    handle.wait().await.unwrap();
}

#[tokio::test]
async fn what_is_taken_is_shown_and_what_does_not_fit_is_refused_with_all_figures() {
    let fake = FakeRuntime::default();
    let supervisor = on(&fake, |it| it.max_containers(1).max_processes(1).max_buffer_bytes(600 << 10));
    let first = prog(&supervisor).spawn().await.unwrap();
    let shown = |budget| (used(&supervisor, budget), supervisor.budgets().of(budget).limit);
    assert_eq!(shown(Budget::Containers), (1, Some(1)));
    assert_eq!(shown(Budget::Creations), (0, Some(32)));
    assert_eq!(shown(Budget::BufferBytes), (256 << 10, Some(600 << 10)));
    assert_eq!(used(&supervisor, Budget::Descriptors), orangery::DESCRIPTORS_EACH);
    let refused = prog(&supervisor).spawn().await.unwrap_err();
    let spent = refused.spent().unwrap();
    assert_eq!((refused.kind(), refused.field()), (ErrorKind::Exhausted, Some("containers")));
    assert_eq!((spent.budget, spent.used, spent.limit), (Budget::Containers, 1, Some(1)));
    let further = first.command("more").spawn().await.unwrap();
    assert_eq!(shown(Budget::Processes), (1, Some(1)));
    assert_eq!(first.command("more").spawn().await.unwrap_err().field(), Some("processes"));
    fake.actor().await;
    fake.actor().await.exit(0);
    further.wait().await.unwrap();
    assert_eq!(shown(Budget::Processes), (0, Some(1)), "before anybody is told of its end");
    let refused = first.command("more").run().await.unwrap_err();
    assert_eq!(refused.field(), Some("buffer_bytes"), "captured: {refused}");
    drop(first);
    idle(&supervisor).await;
    supervisor.shutdown().await;
}

#[tokio::test]
async fn who_waits_for_room_gets_it_or_the_refusal_when_its_patience_ends() {
    let (clock, fake) = (VirtualClock::default(), FakeRuntime::default());
    let supervisor = on(&fake, |it| it.clock(&clock).max_containers(1).max_processes(1));
    let first = prog(&supervisor).spawn().await.unwrap();
    let second = tokio::spawn(prog(&supervisor).wait_for_room(2 * HOUR).spawn());
    let late = tokio::spawn(prog(&supervisor).wait_for_room(HOUR).spawn());
    while used(&supervisor, Budget::Waiting) < 2 {
        tokio::task::yield_now().await;
    }
    clock.advance(HOUR).await;
    assert_eq!(late.await.unwrap().unwrap_err().spent().unwrap().budget, Budget::Containers);
    ends(&fake, &first).await;
    let second = second.await.unwrap().unwrap();
    fake.actor().await;
    let further = second.command("more").spawn().await.unwrap();
    let waiting = tokio::spawn(second.command("more").wait_for_room(HOUR).spawn());
    while used(&supervisor, Budget::Waiting) < 1 {
        tokio::task::yield_now().await;
    }
    fake.actor().await.exit(0);
    further.wait().await.unwrap();
    drop(waiting.await.unwrap().unwrap());
    supervisor.shutdown().await;
}

/// From the call on, whatever room the ends of others make: who waits for room, who waits for a turn, who is being made, and
/// who comes later.
#[tokio::test]
async fn who_waits_when_the_supervisor_ends_is_told() {
    let (clock, fake) = (VirtualClock::default(), FakeRuntime::default());
    let set = |it: SupervisorBuilder| it.clock(&clock).max_containers(3).max_creations(1).fault_policy(Arc::new(Slow));
    let supervisor = on(&fake, set);
    let first = prog(&supervisor).spawn().await.unwrap();
    let made = tokio::spawn(prog(&supervisor).id("a-0").spawn());
    while used(&supervisor, Budget::Creations) < 1 {
        tokio::task::yield_now().await;
    }
    let turn = tokio::spawn(prog(&supervisor).spawn());
    let room = tokio::spawn(prog(&supervisor).wait_for_room(HOUR).spawn());
    while used(&supervisor, Budget::Waiting) < 2 {
        tokio::task::yield_now().await;
    }
    let down = supervisor.shutdown();
    let late = prog(&supervisor).spawn().await.unwrap_err();
    down.await;
    for told in [made, turn, room] {
        assert_eq!(told.await.unwrap().unwrap_err().kind(), ErrorKind::ShutDown);
    }
    let later = prog(&supervisor).wait_for_room(HOUR).spawn().await.unwrap_err();
    assert_eq!((late.kind(), later.kind()), (ErrorKind::ShutDown, ErrorKind::ShutDown));
    assert_eq!((supervisor.list().await.unwrap_err().kind(), fake.alive()), (ErrorKind::ShutDown, 0));
    drop(first);
}

/// One that is being made when it ends is undone before it has, and what its room was waited for by is not let in.
#[tokio::test]
async fn a_room_that_the_end_makes_is_nobodys() {
    for _ in 0..20 {
        let fake = FakeRuntime::default();
        let supervisor = on(&fake, |it| it.max_containers(1));
        let first = prog(&supervisor).spawn().await.unwrap();
        let waiting = tokio::spawn(prog(&supervisor).wait_for_room(HOUR).spawn());
        while used(&supervisor, Budget::Waiting) < 1 {
            tokio::task::yield_now().await;
        }
        supervisor.shutdown().await;
        assert_eq!(waiting.await.unwrap().unwrap_err().kind(), ErrorKind::ShutDown);
        drop(first);
    }
}

#[tokio::test]
async fn a_caller_whose_creations_hang_keeps_nobody_out() {
    let (clock, fake) = (VirtualClock::default(), FakeRuntime::default());
    let supervisor = on(&fake, |it| it.clock(&clock).max_creations(4).fault_policy(Arc::new(Slow)));
    let (a, b) = (supervisor.caller("a"), supervisor.caller("b"));
    let hanging: Vec<_> = (0..100).map(|n| tokio::spawn(prog(&a).id(format!("a-{n}")).spawn())).collect();
    while used(&supervisor, Budget::Waiting) < 97 {
        tokio::task::yield_now().await;
    }
    assert_eq!(used(&supervisor, Budget::Creations), 3, "three quarters");
    assert_eq!(used(&supervisor, Budget::Containers), 100, "they are admitted");
    for _ in 0..3 {
        let handle = prog(&b).spawn().await.unwrap();
        // A further process of it is `b`'s too, and waits for no turn.
        drop(handle.command("more").spawn().await.unwrap());
    }
    hanging.iter().for_each(tokio::task::JoinHandle::abort);
    idle(&supervisor).await;
    supervisor.shutdown().await;
}

/// In each stage: waiting for room, waiting for its turn, being made, behind its gate, started. What follows each time finds all
/// budgets as they were.
#[tokio::test]
async fn a_creation_that_is_given_up_at_any_poll_gives_everything_back() {
    let (clock, fake) = (VirtualClock::default(), FakeRuntime::default());
    let supervisor = on(&fake, |it| it.clock(&clock).max_containers(2).max_creations(1).fault_policy(Arc::new(Slow)));
    for waits in [false, true] {
        for hangs in [false, true] {
            for polls in 0..12 {
                let behind = hangs.then(|| tokio::spawn(prog(&supervisor).id("a-0").spawn()));
                while hangs && used(&supervisor, Budget::Creations) == 0 {
                    tokio::task::yield_now().await;
                }
                let command = prog(&supervisor);
                let command = if waits { command.wait_for_room(HOUR) } else { command };
                given_up(command.spawn(), polls).await;
                drop(behind.inspect(tokio::task::JoinHandle::abort));
                idle(&supervisor).await;
            }
        }
    }
    supervisor.shutdown().await;
    assert_eq!(fake.alive(), 0);
}

#[tokio::test]
async fn a_further_process_that_is_given_up_at_any_poll_gives_everything_back() {
    let fake = FakeRuntime::default();
    let supervisor = on(&fake, |it| it.max_processes(1));
    let container = prog(&supervisor).spawn().await.unwrap();
    let _main = fake.actor().await;
    for waits in [false, true] {
        for polls in 0..12 {
            let command = container.command("more");
            let command = if waits { command.wait_for_room(HOUR) } else { command };
            given_up(command.spawn(), polls).await;
            while used(&supervisor, Budget::Processes) + used(&supervisor, Budget::Waiting) > 0 {
                // A real one would have been killed.
                if let Some(actor) = fake.actor().now_or_never() {
                    actor.exit(0);
                }
                tokio::task::yield_now().await;
            }
        }
    }
    drop(container);
    idle(&supervisor).await;
    supervisor.shutdown().await;
}

/// Its room is its container's: others that are many make nobody ill.
#[tokio::test]
async fn a_probe_is_not_refused_when_no_process_is_let_in() {
    let fake = FakeRuntime::default();
    let supervisor = on(&fake, |it| it.max_processes(0).max_buffer_bytes(512 << 10));
    let container = prog(&supervisor).ready_when(Probe::exec(["check"])).spawn().await.unwrap();
    assert_eq!(used(&supervisor, Budget::Descriptors), orangery::DESCRIPTORS_EACH + 3);
    assert_eq!(container.command("more").spawn().await.unwrap_err().field(), Some("processes"));
    let _main = fake.actor().await;
    fake.actor().await.exit(0);
    container.ready().await.unwrap();
    drop(container);
    idle(&supervisor).await;
    supervisor.shutdown().await;
}

/// Poll it so often, then drop it, and what has come of it.
async fn given_up<T>(future: impl Future<Output = T>, polls: usize) {
    let mut future = pin!(future);
    for _ in 0..polls {
        if poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_ready())).await {
            return;
        }
        tokio::task::yield_now().await;
    }
}
