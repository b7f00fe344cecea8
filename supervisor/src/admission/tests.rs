use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::error::ErrorKind;

/// Of a container: four descriptors, and more while it is made.
fn container() -> Cost {
    let kept = Amounts::default().with(Budget::Containers, 1).with(Budget::Descriptors, 4);
    let making = Amounts::default().with(Budget::Creations, 1).with(Budget::Descriptors, cost::MAKING);
    Cost { kept, sent: Amounts::default(), making, container: true }
}

fn process() -> Cost {
    let kept = Amounts::default().with(Budget::Processes, 1).with(Budget::Descriptors, 3);
    let making = Amounts::default().with(Budget::Descriptors, cost::MAKING);
    Cost { kept, sent: Amounts::default(), making, container: false }
}

fn admission(budget: Budget, most: u64) -> Admission {
    Admission::on(default_limits().with(budget, most), Machine { nofile: || u64::MAX, open: || None })
}

impl Admission {
    fn caller(&self, key: &str) -> Door {
        self.door(&key.into())
    }

    fn used(&self, budget: Budget) -> u64 {
        self.budgets().of(budget).used
    }
}

/// One look at a future that may not be ready.
async fn is_ready(future: &mut (impl Future + Unpin)) -> bool {
    std::future::poll_fn(|cx| std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx).is_ready())).await
}

#[test]
fn one_above_a_limit_is_refused_at_once_with_all_figures_and_a_permit_comes_back() {
    let of = |budget| if budget == Budget::Containers { container() } else { process() };
    for budget in [Budget::Containers, Budget::Processes] {
        let admission = admission(budget, 2);
        let door = admission.caller("");
        let held = [door.enter(of(budget)).unwrap(), door.enter(of(budget)).unwrap()];
        let refused = door.enter(of(budget)).unwrap_err();
        assert_eq!((refused.kind(), refused.field()), (ErrorKind::Exhausted, Some(budget.name())));
        let spent = refused.spent().unwrap();
        assert_eq!((spent.budget, spent.used, spent.limit), (budget, 2, Some(2)));
        assert!(refused.retryable() && refused.hint().unwrap().contains("wait_for_room"), "{refused}");
        drop(held);
        assert!(door.enter(of(budget)).is_ok());
    }
}

#[test]
fn descriptors_are_a_budget_of_their_own_and_the_refusal_names_it() {
    let full = Admission::on(default_limits(), Machine { nofile: || 64 + 2 * 4 + 3, open: || None });
    let door = full.caller("");
    let held = [door.enter(container()).unwrap(), door.enter(container()).unwrap()];
    let refused = door.enter(container()).unwrap_err();
    assert_eq!((refused.kind(), refused.field()), (ErrorKind::Exhausted, Some("descriptors")));
    assert!(refused.to_string().contains("RLIMIT_NOFILE, 11") && refused.hint().is_some(), "{refused}");
    drop(held);
    assert_eq!(full.used(Budget::Descriptors), 0);
}

/// What the host has open itself counts, beside what is promised and not open yet.
#[test]
fn descriptors_of_others_leave_less_room() {
    let busy = Admission::on(default_limits(), Machine { nofile: || 1000, open: || Some(960) });
    let door = busy.caller("");
    let held: Vec<_> = std::iter::from_fn(|| door.enter(container()).ok()).collect();
    assert_eq!(held.len(), 4, "16 of 1,000, less 960 and 24 for what is being made");
    assert_eq!(busy.budgets().of(Budget::Descriptors).limit, Some(16));
}

/// What is being made may have some of what is open, and may not: that is nobody's room.
#[tokio::test]
async fn descriptors_of_others_are_theirs_while_something_is_made() {
    static OPEN: AtomicU64 = AtomicU64::new(900);
    let busy = Admission::on(default_limits(), Machine { nofile: || 1024, open: || Some(OPEN.load(Ordering::SeqCst)) });
    let door = busy.caller("");
    let mut held = vec![door.enter(container()).unwrap(), door.enter(container()).unwrap()];
    for permit in &mut held {
        permit.turn().await.unwrap();
    }
    held.extend(std::iter::from_fn(|| door.enter(container()).ok()));
    assert_eq!(held.len(), 25, "1,024 less 900, and 24 for what is being made");
    // Half of what is being made is open now, and some of the others' has been closed.
    OPEN.store(900 + 24 - 8, Ordering::SeqCst);
    assert_eq!(busy.budgets().of(Budget::Descriptors).limit, Some(100), "it is not known yet");
    for permit in &mut held[..2] {
        permit.made();
    }
    OPEN.store(892 + 8, Ordering::SeqCst);
    assert_eq!(busy.budgets().of(Budget::Descriptors).limit, Some(108));
}

/// What is needed for a moment refuses nobody: who is admitted waits until it is there.
#[tokio::test(start_paused = true)]
async fn descriptors_that_are_needed_on_the_way_are_waited_for() {
    // Room for 34 containers, or for a few and what is needed to make them.
    let tight = Admission::on(default_limits(), Machine { nofile: || 64 + 136, open: || None });
    let (a, b) = (tight.caller("a"), tight.caller("b"));
    let mut held: Vec<_> = (0..32).map(|_| a.enter(container()).unwrap()).collect();
    assert!(b.enter(container()).is_ok() && b.enter(process()).is_ok());
    let mut turns: Vec<_> = held.iter_mut().map(|permit| Box::pin(permit.turn())).collect();
    let mut going = 0;
    for turn in &mut turns {
        going += usize::from(is_ready(turn).await);
    }
    assert_eq!(going, 1, "the first one's fits into what is kept free, a second one's into nothing");
    drop(turns);
    for permit in &mut held {
        permit.turn().await.unwrap();
        permit.made();
    }
    held.truncate(8);
    let mut turns: Vec<_> = held.iter_mut().map(|permit| Box::pin(permit.turn())).collect();
    let mut going = 0;
    for turn in &mut turns {
        going += usize::from(is_ready(turn).await);
    }
    assert_eq!(going, 3, "half of 160 for containers");
    let mut further = b.enter(process()).unwrap();
    further.turn().await.unwrap();
    drop(turns);
    drop((further, held));
    assert_eq!(tight.used(Budget::Descriptors), 0);
    assert_eq!(tight.desk.lock().making, (Amounts::default(), 0));
    assert_eq!(tight.desk.lock().unopened, 0);
}

#[tokio::test]
async fn so_many_are_made_at_a_time_and_one_caller_never_has_all_turns() {
    let admission = admission(Budget::Creations, 4);
    let (a, b) = (admission.caller("a"), admission.caller("b"));
    let mut of_a: Vec<_> = (0..5).map(|_| a.enter(container()).unwrap()).collect();
    for permit in &mut of_a[..3] {
        permit.turn().await.unwrap();
    }
    {
        let mut fourth = Box::pin(of_a[3].turn());
        assert!(!is_ready(&mut fourth).await, "the last turn is for others");
        assert_eq!(admission.used(Budget::Waiting), 1);
        let mut of_b = b.enter(container()).unwrap();
        let mut turn = Box::pin(of_b.turn());
        assert!(is_ready(&mut turn).await);
        assert!(!is_ready(&mut fourth).await);
    }
    assert_eq!((admission.used(Budget::Creations), admission.used(Budget::Waiting)), (3, 0));
    of_a[0].made();
    of_a[0].made();
    assert_eq!((admission.used(Budget::Creations), admission.used(Budget::Containers)), (2, 5));
    of_a[3].turn().await.unwrap();
    drop(of_a);
    assert_eq!(admission.budgets(), Budgets::new(&Amounts::default(), &default_limits().with(Budget::Creations, 4)));
}

/// Ten thousand of one caller, and one of another: it is the second to go.
#[tokio::test(start_paused = true)]
async fn a_caller_with_ten_thousand_requests_starves_nobody() {
    let admission = admission(Budget::Containers, 1);
    let (a, b) = (admission.caller("a"), admission.caller("b"));
    let held = a.enter(container()).unwrap();
    let mut many: Vec<_> = (0..10_000).map(|_| Box::pin(a.wait(container()))).collect();
    for waiting in &mut many {
        assert!(!is_ready(waiting).await);
    }
    let mut one = Box::pin(b.wait(container()));
    assert!(!is_ready(&mut one).await);
    assert!(b.enter(container()).is_err(), "nobody takes the room of who waits");
    drop(held);
    let first = many.remove(0).await.unwrap();
    assert!(!is_ready(&mut one).await);
    drop(first);
    drop(one.await.unwrap());
    drop(many);
    assert_eq!((admission.used(Budget::Waiting), admission.used(Budget::Containers)), (0, 0));
    assert!(admission.desk.lock().queue.is_idle());
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_one_budget_holds_up_nobody_who_wants_another() {
    let admission = admission(Budget::Containers, 1);
    let door = admission.caller("");
    let held = door.enter(container()).unwrap();
    let mut waiting = Box::pin(door.wait(container()));
    assert!(!is_ready(&mut waiting).await);
    assert!(door.enter(process()).is_ok());
    assert!(door.wait(process()).await.is_ok());
    drop(held);
    drop(waiting.await.unwrap());
}

/// Who waits for its turn alone takes nobody's room.
#[tokio::test(start_paused = true)]
async fn who_waits_for_a_turn_makes_nobody_be_refused() {
    let tight = Admission::on(default_limits(), Machine { nofile: || 64 + 136, open: || None });
    let (a, b) = (tight.caller("a"), tight.caller("b"));
    let mut making: Vec<_> = (0..4).map(|_| a.enter(container()).unwrap()).collect();
    let mut held = Vec::new();
    for permit in &mut making {
        let mut turn = Box::pin(permit.turn());
        held.push(is_ready(&mut turn).await);
    }
    assert_eq!(held, [true, true, true, false], "half of the descriptors");
    let mut waiting = Box::pin(a.wait(container()));
    assert!(!is_ready(&mut waiting).await);
    assert!(b.enter(container()).is_ok());
    drop(making);
    drop(waiting.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_bounded_and_what_can_never_fit_does_not_wait() {
    let admission = Admission::on(
        default_limits().with(Budget::Containers, 1).with(Budget::Waiting, 1).with(Budget::Processes, 0),
        Machine { nofile: || u64::MAX, open: || None },
    );
    let door = admission.caller("");
    let held = door.enter(container()).unwrap();
    let mut waiting = Box::pin(door.wait(container()));
    assert!(!is_ready(&mut waiting).await);
    assert_eq!(door.wait(container()).await.unwrap_err().field(), Some("waiting"));
    assert_eq!(door.wait(process()).await.unwrap_err().field(), Some("processes"));
    drop((held, waiting));
    assert!(door.enter(container()).is_ok());
}

#[test]
fn what_is_left_to_others_is_not_for_containers() {
    let room = |free, open| {
        let machine = Machine { nofile: || 1000, open };
        Admission::beside(free, default_limits(), machine).budgets().of(Budget::Descriptors).limit
    };
    assert_eq!(room(0, || None), Some(1000 - 64));
    assert_eq!(room(300, || None), Some(1000 - 364));
    // Those that others have open are the ones that are left to them.
    assert_eq!(room(300, || Some(200)), Some(1000 - 364));
    assert_eq!(room(300, || Some(500)), Some(1000 - 500 - cost::MAKING));
    assert_eq!(room(u64::MAX, || None), Some(0));
}

#[tokio::test(start_paused = true)]
async fn a_raised_limit_is_seen_by_who_waits_and_few_restart_at_a_time() {
    static NOFILE: AtomicU64 = AtomicU64::new(0);
    let machine = Machine { nofile: || NOFILE.load(Ordering::SeqCst), open: || None };
    let admission = Admission::on(default_limits(), machine);
    let door = admission.caller("");
    let mut waiting = Box::pin(door.wait_to_restart(container()));
    assert!(!is_ready(&mut waiting).await);
    NOFILE.store(u64::MAX, Ordering::SeqCst);
    let mut restarts = vec![waiting.await.unwrap()];
    while restarts.len() < RESTARTS {
        restarts.push(door.wait_to_restart(container()).await.unwrap());
    }
    let mut one_more = Box::pin(door.wait_to_restart(container()));
    assert!(!is_ready(&mut one_more).await);
    assert!(door.enter(container()).is_ok(), "others are not held up");
    restarts[0].made();
    assert!(is_ready(&mut one_more).await);
}

#[tokio::test(start_paused = true)]
async fn whose_patience_ends_is_refused_as_who_did_not_wait() {
    let admission = admission(Budget::Containers, 1);
    let door = admission.caller("");
    let held = door.enter(container()).unwrap();
    let spawn = |task| {
        tokio::spawn(task);
        true
    };
    let late = admit(&door, container(), Some(Duration::from_secs(5)), spawn).await.unwrap_err();
    assert_eq!(late.spent().map(|spent| (spent.budget, spent.used)), Some((Budget::Containers, 1)));
    let mut waiting = Box::pin(admit(&door, container(), Some(Duration::MAX), spawn));
    assert!(!is_ready(&mut waiting).await);
    drop(held);
    let permit = waiting.await.unwrap();
    assert_eq!(admission.used(Budget::Creations), 1, "with its turn");
    drop(permit);
    assert_eq!(admission.used(Budget::Containers), 0);
}

/// Whatever room there is by then: who waits for room or for a turn is told the same as who comes later.
#[tokio::test(start_paused = true)]
async fn when_it_is_closed_who_waits_is_told_and_no_container_is_let_in() {
    let admission = Admission::on(
        default_limits().with(Budget::Containers, 2).with(Budget::Creations, 1),
        Machine { nofile: || u64::MAX, open: || None },
    );
    let door = admission.caller("");
    let (mut making, mut admitted) = (door.enter(container()).unwrap(), door.enter(container()).unwrap());
    making.turn().await.unwrap();
    {
        let (mut turn, mut room) = (Box::pin(admitted.turn()), Box::pin(door.wait(container())));
        let mut restart = Box::pin(door.wait_to_restart(container()));
        for waiting in [is_ready(&mut turn).await, is_ready(&mut room).await, is_ready(&mut restart).await] {
            assert!(!waiting);
        }
        admission.close();
        drop(making);
        for told in [turn.await.err(), room.await.err(), restart.await.err()] {
            assert_eq!(told.unwrap().kind(), ErrorKind::ShutDown);
        }
    }
    assert_eq!(door.enter(container()).unwrap_err().kind(), ErrorKind::ShutDown);
    assert_eq!(door.wait(container()).await.unwrap_err().kind(), ErrorKind::ShutDown);
    let mut hook = door.enter(process()).unwrap();
    hook.turn().await.unwrap();
    drop((hook, admitted));
    assert_eq!((admission.used(Budget::Containers), admission.used(Budget::Waiting)), (0, 0));
    assert!(admission.desk.lock().queue.is_idle());
}
