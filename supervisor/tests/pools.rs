//! Pools in a time that the test moves, against the scripted runtime.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says why by panicking")]

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use orangery::events::{Item, Kind, Since};
use orangery::faults::{Fault, FaultPoint, FaultPolicy, Site};
use orangery::testing::{FakeRuntime, VirtualClock};
use orangery::{
    Cause, DiscardReason, Error, ErrorKind, Lease, LimitKind, Pool, PoolBuilder, PoolInspect, PoolState, Reset,
    Sandbox, Supervisor,
};
use orangery::{runtime, stream};

const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

const fn shared<T: Send + Sync + 'static>() {}
const _: () = {
    shared::<Pool>();
    shared::<Lease>();
};

struct Stage {
    clock: VirtualClock,
    fake: FakeRuntime,
    supervisor: Supervisor,
}

/// Panics at this place of a pool's task, so often.
struct PanicAt(&'static str, AtomicU32);

impl FaultPolicy for PanicAt {
    fn decide(&self, at: &FaultPoint<'_>) -> Fault {
        let left = |left: u32| left.checked_sub(1);
        let hit = at.site == Site::Pool(self.0);
        if hit && self.1.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left).is_ok() {
            Fault::Panic
        } else {
            Fault::Continue
        }
    }
}

impl Stage {
    fn set() -> Self {
        Self::with("nowhere", 0)
    }

    fn with(place: &'static str, panics: u32) -> Self {
        let (clock, fake) = (VirtualClock::default(), FakeRuntime::default());
        let faults = Arc::new(PanicAt(place, panics.into()));
        let builder = Supervisor::builder().shards(1).clock(&clock).fault_policy(faults);
        let supervisor = builder.build_on(Arc::new(fake.clone())).unwrap();
        Self { clock, fake, supervisor }
    }

    async fn pool(&self, idle: usize, most: usize) -> Pool {
        let pool = builder().idle(idle).most(most).build(&self.supervisor).unwrap();
        pool.filled().await.unwrap();
        pool
    }

    fn told(&self, line: &str) -> usize {
        self.fake.log().iter().filter(|told| *told == line).count()
    }

    async fn end(self) {
        self.supervisor.shutdown().await;
        assert_eq!(self.fake.alive(), 0);
    }

    /// Until what is asked for is so. The table is told of each change, and the clock stands still.
    async fn until(&self, pool: &Pool, what: impl Fn(&PoolInspect) -> bool) -> PoolInspect {
        loop {
            let now = pool.inspect();
            if what(&now) {
                return now;
            }
            tokio::task::yield_now().await;
        }
    }
}

fn builder() -> PoolBuilder {
    Pool::builder(&Sandbox::builder().id("p").build().unwrap())
}

fn refuse(fake: &FakeRuntime, kind: runtime::ErrorKind) {
    fake.refuse(runtime::Error::new(kind, "not today"));
}

type Taking = Pin<Box<dyn Future<Output = Result<Lease, Error>> + Send>>;

/// Poll once.
async fn ready(taking: &mut Taking) -> Option<Result<Lease, Error>> {
    std::future::poll_fn(|cx| {
        std::task::Poll::Ready(match taking.as_mut().poll(cx) {
            std::task::Poll::Ready(done) => Some(done),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

/// In the queue.
async fn waiting(pool: &Pool) -> Taking {
    let mut taking: Taking = Box::pin(pool.take());
    let early = ready(&mut taking).await;
    assert!(early.is_none(), "it does not wait: {early:?}");
    taking
}

#[tokio::test]
async fn what_is_taken_is_replaced_and_what_was_used_is_destroyed() {
    let stage = Stage::set();
    let pool = stage.pool(2, 10).await;
    let lease = pool.try_take().unwrap();
    let id = lease.id().to_owned();
    assert!(id.starts_with("p-"));
    let now = stage.until(&pool, |now| now.idle == 2).await;
    assert_eq!((now.leased, now.made, now.leases), (1, 3, 1));
    drop(lease);
    stage.fake.saw(&format!("delete {id}")).await;
    let now = stage.until(&pool, |now| now.leaving == 0).await;
    assert_eq!((now.leased, now.discarded), (0, BTreeMap::from([(DiscardReason::Used, 1)])));
    stage.end().await;
}

#[tokio::test]
async fn one_that_nobody_has_looked_at_comes_back_and_a_tainted_one_does_not() {
    let stage = Stage::set();
    let pool = stage.pool(1, 1).await;
    let lease = pool.try_take().unwrap();
    assert!(format!("{lease:?}").contains("p-"), "no look");
    drop(lease);
    assert_eq!(pool.inspect().idle, 1);
    let lease = pool.try_take().unwrap();
    lease.taint();
    drop(lease);
    let now = stage.until(&pool, |now| now.idle == 1).await;
    assert_eq!((now.made, now.leases, now.discarded), (2, 2, BTreeMap::from([(DiscardReason::Tainted, 1)])));
    stage.end().await;
}

#[tokio::test]
async fn callers_are_served_in_turn_and_one_too_many_is_told_which_budget_is_spent() {
    let stage = Stage::set();
    let pool = builder().idle(0).most(1).waiting(3).build(&stage.supervisor).unwrap();
    let none = pool.try_take().unwrap_err();
    assert_eq!((none.kind(), none.field(), none.retryable()), (ErrorKind::Exhausted, Some("pool.idle"), true));
    let held = pool.take().await.unwrap();
    let none = pool.try_take().unwrap_err();
    assert_eq!((none.kind(), none.field()), (ErrorKind::Exhausted, Some("pool.most")));
    let (first, gone, mut last) = (waiting(&pool).await, waiting(&pool).await, waiting(&pool).await);
    let refused = pool.take().await.unwrap_err();
    assert_eq!((refused.kind(), refused.field()), (ErrorKind::Exhausted, Some("pool.waiting")));
    drop(gone);
    assert_eq!(pool.inspect().waiting, 2);
    let id = held.id().to_owned();
    drop(held);
    let second = first.await.unwrap();
    assert_ne!(second.id(), id);
    assert!(ready(&mut last).await.is_none(), "in turn");
    drop(second);
    drop(last.await.unwrap());
    stage.end().await;
}

#[tokio::test]
async fn an_untouched_lease_goes_to_the_next_in_turn() {
    let stage = Stage::set();
    let pool = stage.pool(1, 1).await;
    let held = pool.take().await.unwrap();
    let (gone, next) = (waiting(&pool).await, waiting(&pool).await);
    // On its way to somebody who goes without having looked.
    drop(held);
    drop(gone);
    let lease = next.await.unwrap();
    assert_eq!((lease.id(), pool.inspect().made), ("p-1", 1));
    drop(lease);
    stage.end().await;
}

#[tokio::test]
async fn one_that_dies_while_it_is_ready_is_replaced_at_once_and_those_that_die_young_after_growing_delays() {
    let stage = Stage::set();
    let pool = stage.pool(1, 4).await;
    for (n, delay) in (2..).zip([0, 0, 0, 100, 200]) {
        stage.fake.actor().await.exit(1);
        if delay > 0 {
            let waits = stage.until(&pool, |now| now.back_off.is_some()).await;
            assert_eq!(waits.back_off.unwrap().delay, Duration::from_millis(delay));
            stage.clock.advance(Duration::from_millis(delay) - MS).await;
            assert_eq!((pool.inspect().state, pool.inspect().making), (PoolState::BackOff, 0));
            stage.clock.advance(2 * MS).await;
        }
        // At once: the clock stands.
        stage.until(&pool, |now| now.made == n && now.idle == 1).await;
        if n == 2 {
            // The next one does not die young.
            stage.clock.advance(11 * SECOND).await;
        }
    }
    assert_eq!(pool.inspect().discarded, BTreeMap::from([(DiscardReason::Died, 5)]));
    stage.end().await;
}

#[tokio::test]
async fn a_creation_that_fails_is_told_to_the_first_in_turn_and_tried_again() {
    let stage = Stage::set();
    let pool = builder().idle(0).most(1).build(&stage.supervisor).unwrap();
    refuse(&stage.fake, runtime::ErrorKind::Creation);
    let (mut first, mut second): (Taking, Taking) = (Box::pin(pool.take()), Box::pin(pool.take()));
    // The failure may be there before the second one waits.
    let (told, mut given) = (ready(&mut first).await, ready(&mut second).await);
    let told = match told {
        Some(told) => told,
        None => first.await,
    };
    assert_eq!(told.unwrap_err().kind(), ErrorKind::Creation);
    while given.is_none() {
        stage.clock.advance(MS).await;
        given = ready(&mut second).await;
    }
    drop(given.unwrap().unwrap());
    assert!(pool.inspect().error.unwrap().contains("not today"));
    stage.end().await;
}

#[tokio::test]
async fn what_can_never_be_made_is_told_to_everybody_until_the_next_attempt() {
    let stage = Stage::set();
    let pool = builder().idle(0).most(2).build(&stage.supervisor).unwrap();
    for _ in 0..2 {
        refuse(&stage.fake, runtime::ErrorKind::CommandNotFound);
        assert_eq!(pool.take().await.unwrap_err().kind(), ErrorKind::CommandNotFound);
        stage.clock.advance(MS).await;
    }
    // The delay of the second failure is under way: nothing is tried.
    assert_eq!(pool.inspect().state, PoolState::BackOff);
    assert_eq!(pool.take().await.unwrap_err().kind(), ErrorKind::CommandNotFound);
    assert_eq!(pool.filled().await.unwrap_err().kind(), ErrorKind::CommandNotFound);
    stage.clock.advance(100 * MS).await;
    drop(pool.take().await.unwrap());
    stage.end().await;
}

#[tokio::test]
async fn old_ones_are_replaced_and_one_that_comes_back_too_old_as_well() {
    let stage = Stage::set();
    let pool = builder().idle(2).most(4).max_age(HOUR).build(&stage.supervisor).unwrap();
    pool.filled().await.unwrap();
    let lease = pool.try_take().unwrap();
    stage.until(&pool, |now| now.idle == 2).await;
    stage.clock.advance(HOUR / 2).await;
    assert_eq!(pool.inspect().made, 3);
    stage.clock.advance(HOUR / 2).await;
    let now = stage.until(&pool, |now| now.idle == 2 && now.made == 5).await;
    assert_eq!(now.discarded, BTreeMap::from([(DiscardReason::Aged, 2)]));
    drop(lease);
    assert_eq!(pool.inspect().discarded, BTreeMap::from([(DiscardReason::Aged, 3)]));
    stage.end().await;
}

#[tokio::test]
async fn a_closed_pool_refuses_and_waits_for_its_leases() {
    let stage = Stage::set();
    let pool = stage.pool(2, 2).await;
    let (lease, _touched) = (pool.try_take().unwrap(), pool.try_take().unwrap().id().to_owned());
    let third = pool.take().await.unwrap();
    let waits = waiting(&pool).await;
    let mut closing = Box::pin(pool.close());
    assert_eq!(waits.await.unwrap_err().kind(), ErrorKind::State);
    assert_eq!(pool.try_take().unwrap_err().kind(), ErrorKind::State);
    stage.until(&pool, |now| now.idle + now.making + now.leaving == 0).await;
    let done = std::future::poll_fn(|cx| std::task::Poll::Ready(closing.as_mut().poll(cx).is_ready())).await;
    assert!(!done, "two are out");
    assert!(lease.command("true").spawn().await.is_ok(), "a lease outlives it");
    drop((lease, third));
    closing.await;
    assert_eq!(stage.fake.alive(), 0);
    stage.end().await;
}

#[tokio::test]
async fn the_end_of_the_supervisor_is_told_to_who_waits_and_leases_may_be_dropped_after_it() {
    let stage = Stage::set();
    let pool = stage.pool(1, 1).await;
    let lease = pool.take().await.unwrap();
    let waits = waiting(&pool).await;
    stage.supervisor.shutdown().await;
    assert_eq!(waits.await.unwrap_err().kind(), ErrorKind::ShutDown);
    assert_eq!(pool.take().await.unwrap_err().kind(), ErrorKind::ShutDown);
    assert_eq!(stage.fake.alive(), 0);
    drop(lease);
    pool.close().await;
    assert_eq!(pool.inspect().leased, 0);
}

#[tokio::test]
async fn the_last_handle_closes_it() {
    let stage = Stage::set();
    let pool = stage.pool(3, 3).await;
    let other = pool.clone();
    drop(pool);
    assert_eq!(other.inspect().idle, 3);
    drop(other);
    stage.fake.empty().await;
    stage.end().await;
}

#[tokio::test]
async fn a_take_that_is_dropped_at_every_poll_loses_nothing() {
    let stage = Stage::set();
    let pool = builder().idle(0).most(1).build(&stage.supervisor).unwrap();
    for polls in 0..20 {
        let mut taking: Taking = Box::pin(pool.take());
        for _ in 0..polls {
            if let Some(lease) = ready(&mut taking).await {
                drop(lease.unwrap());
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(taking);
        // What was being handed over at that moment comes back by itself.
        let mut now = pool.inspect();
        while (now.waiting, now.leased) != (0, 0) {
            tokio::task::yield_now().await;
            now = pool.inspect();
        }
    }
    let lease = pool.take().await.unwrap();
    assert_eq!(pool.inspect().made, 1, "nobody has ever looked at it");
    drop(lease);
    stage.end().await;
}

#[tokio::test]
async fn a_panic_of_the_task_of_a_sandbox_loses_no_sandbox() {
    let stage = Stage::with("watch", 3);
    let pool = stage.pool(2, 2).await;
    let now = stage.until(&pool, |now| now.idle == 2).await;
    assert_eq!((now.made, now.discarded.len()), (2, 0));
    // They are still looked after.
    stage.fake.actor().await.exit(1);
    stage.until(&pool, |now| now.made == 3 && now.idle == 2).await;
    drop(pool.try_take().unwrap().id().to_owned());
    stage.until(&pool, |now| now.made == 4 && now.idle == 2 && now.leaving == 0).await;
    stage.end().await;
}

#[tokio::test]
async fn one_whose_task_panics_again_and_again_is_killed_and_replaced() {
    // Six are more than its budget.
    let stage = Stage::with("watch", 6);
    let pool = stage.pool(1, 1).await;
    let now = stage.until(&pool, |now| now.made == 2 && now.idle == 1).await;
    assert_eq!((now.discarded, now.leaving), (BTreeMap::from([(DiscardReason::Died, 1)]), 0));
    stage.end().await;
}

#[tokio::test]
async fn a_panic_while_one_is_made_is_a_failed_attempt() {
    let stage = Stage::with("make", 1);
    let pool = builder().idle(0).most(1).build(&stage.supervisor).unwrap();
    let mut first: Taking = Box::pin(pool.take());
    // Its attempt may have failed before anybody could wait for it.
    let early = ready(&mut first).await;
    let mut second: Taking = Box::pin(pool.take());
    // And the one behind it may be made by then: nothing has to pass before that.
    let given = ready(&mut second).await;
    let failed = if let Some(early) = early { early } else { first.await };
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::SupervisorFault);
    stage.clock.advance(MS).await;
    drop(if let Some(given) = given { given } else { second.await }.unwrap());
    stage.end().await;
}

#[tokio::test]
async fn its_story_is_in_the_feed() {
    let stage = Stage::set();
    let mut events = stage.supervisor.events(Since::Now);
    let pool = stage.pool(1, 1).await;
    drop(pool.try_take().unwrap().id().to_owned());
    let mut told = Vec::new();
    while told.len() < 3 {
        let Item::Event(event) = events.recv().await.unwrap() else { continue };
        if event.kind.name().starts_with("pool_") {
            told.push((event.container.as_deref().unwrap().to_owned(), event.kind.clone()));
        }
    }
    let (pool, id) = (|| "p".to_owned(), || "p-1".to_owned());
    let story = [
        Kind::PoolReady { pool: pool() },
        Kind::PoolLeased { pool: pool() },
        Kind::PoolDiscarded { pool: pool(), why: DiscardReason::Used },
    ];
    assert_eq!(told, story.map(|kind| (id(), kind)));
    stage.end().await;
}

#[tokio::test]
async fn a_lease_that_is_held_for_too_long_ends_and_its_place_is_the_pools_again() {
    let stage = Stage::set();
    let pool = builder().idle(1).most(1).max_lease(HOUR).build(&stage.supervisor).unwrap();
    let lease = pool.take().await.unwrap();
    assert_eq!(lease.id(), "p-1");
    let command = lease.command("more").spawn().await.unwrap();
    stage.clock.advance(HOUR - SECOND).await;
    assert_eq!((pool.inspect().leased, stage.told("kill p-1")), (1, 0));
    stage.clock.advance(SECOND).await;
    for report in [lease.wait().await.unwrap(), command.wait().await.unwrap()] {
        assert_eq!(report.cause, Cause::Limit(LimitKind::Wall));
    }
    let now = stage.until(&pool, |now| now.idle == 1).await;
    assert_eq!((now.made, now.leased, now.discarded), (2, 0, BTreeMap::from([(DiscardReason::Overdue, 1)])));
    // It was given back already, and another one's time is its own.
    let next = pool.take().await.unwrap();
    drop(lease);
    assert_eq!((pool.inspect().leased, pool.inspect().discarded[&DiscardReason::Overdue]), (1, 1));
    stage.clock.advance(HOUR - SECOND).await;
    assert_eq!(pool.inspect().leased, 1);
    drop(next);
    stage.end().await;
}

#[tokio::test]
async fn each_lease_of_an_untouched_sandbox_has_all_its_time_and_one_that_has_ended_is_taken_away_too() {
    let stage = Stage::set();
    let pool = builder().idle(1).most(1).max_lease(HOUR).build(&stage.supervisor).unwrap();
    for _ in 0..3 {
        let lease = pool.take().await.unwrap();
        stage.clock.advance(HOUR - SECOND).await;
        drop(lease);
        stage.clock.advance(HOUR).await;
    }
    let lease = pool.take().await.unwrap();
    assert_eq!((lease.id(), pool.inspect().made), ("p-1", 1));
    stage.fake.actor().await.exit(0);
    lease.wait().await.unwrap();
    assert_eq!(pool.inspect().leased, 1);
    stage.clock.advance(HOUR).await;
    stage.until(&pool, |now| now.made == 2 && now.idle == 1).await;
    drop(lease);
    stage.end().await;
}

#[tokio::test]
async fn a_name_is_one_pools_until_nothing_of_it_is_left() {
    let stage = Stage::set();
    let pool = stage.pool(1, 1).await;
    let lease = pool.take().await.unwrap();
    let taken = || builder().build(&stage.supervisor).unwrap_err();
    assert_eq!((taken().kind(), taken().field()), (ErrorKind::Exists, Some("id")));
    assert!(taken().to_string().contains("a pool with the id \"p\" exists"), "{}", taken());
    let closing = pool.close();
    assert_eq!(taken().kind(), ErrorKind::Exists, "one is out");
    drop(lease);
    closing.await;
    let again = stage.pool(1, 1).await;
    let unnamed = |n| Pool::builder(&Sandbox::default()).idle(n).build(&stage.supervisor).unwrap();
    drop((unnamed(1), unnamed(1), again, pool));
    stage.end().await;
}

#[tokio::test]
async fn everything_that_a_pool_cannot_be_is_refused_at_once() {
    let stage = Stage::set();
    let sandbox = Sandbox::builder().wall(SECOND).idle(SECOND).unattended(SECOND).build().unwrap();
    let builder = Pool::builder(&sandbox).idle(1).most(0).max_age(Duration::ZERO).reset(Reset::Wipe);
    let builder = builder.max_lease(Duration::ZERO);
    let refused = builder.build(&stage.supervisor).unwrap_err();
    assert_eq!((refused.kind(), refused.messages().count()), (ErrorKind::Invalid, 8));
    let long = Pool::builder(&Sandbox::default()).max_lease(Duration::MAX).build(&stage.supervisor).unwrap_err();
    assert_eq!((long.kind(), long.field()), (ErrorKind::Invalid, Some("pool.max_lease")));
    let wipe = Pool::builder(&Sandbox::default()).reset(Reset::Wipe).build(&stage.supervisor).unwrap_err();
    assert_eq!((wipe.kind(), wipe.field()), (ErrorKind::Unsupported, Some("pool.reset")));
    let logged = stage.supervisor.command("prog").log("/nowhere", stream::log::LogOptions::default()).timeout(SECOND);
    assert_eq!(Pool::running(logged).build(&stage.supervisor).unwrap_err().messages().count(), 2);
    stage.end().await;
}
