//! Budgets, asked before any work starts. A permit is held by what it was given for and comes back when that is gone.
//!
//! Who asks by hand is refused at once where there is no room. A restart waits: permits that come back go to those who
//! wait, the first come first, and nobody overtakes them. So that many who restart at once do not crowd out everybody
//! else, [`TURNS`] of them are made at a time.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use orangery_runtime as runtime;
use orangery_runtime::spec::{Resource, rlimit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::error::Error;

/// Restarts that are made at a time.
const TURNS: usize = 16;

/// How often who waits looks whether the limit on descriptors was raised, of which nobody tells.
const LOOK: Duration = Duration::from_secs(1);

/// Descriptors of the supervisor's process that one container takes at most.
pub const DESCRIPTORS_EACH: u64 = 4;
/// Descriptors that are kept free for everything else in the process.
pub const DESCRIPTORS_RESERVED: u64 = 64;

/// How many containers fit below a limit of `nofile` descriptors (RLIMIT_NOFILE): [`DESCRIPTORS_EACH`] for each of them
/// and [`DESCRIPTORS_RESERVED`] kept free. A supervisor admits no more than that, by the soft limit as it is at the
/// moment; several supervisors in one process do not know of each other.
///
/// ```
/// assert_eq!(orangery::containers_that_fit(1024), 240);
/// assert_eq!(orangery::containers_that_fit(10), 0);
/// assert_eq!(orangery::containers_that_fit(u64::MAX), u64::MAX, "no limit");
/// ```
#[must_use]
pub fn containers_that_fit(nofile: u64) -> u64 {
    match nofile {
        rlimit::INFINITY => u64::MAX,
        limit => limit.saturating_sub(DESCRIPTORS_RESERVED) / DESCRIPTORS_EACH,
    }
}

/// How many containers there may be.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    queue: Arc<Mutex<Queue>>,
    turns: Arc<Semaphore>,
    most: usize,
    /// The soft limit on descriptors, which its owner may change at any time.
    nofile: fn() -> u64,
}

#[derive(Debug, Default)]
struct Queue {
    used: usize,
    /// Bounded by the services of the supervisor: each waits at most once.
    waiting: VecDeque<oneshot::Sender<Permit>>,
}

/// The right to one container.
#[derive(Debug)]
pub(crate) struct Permit {
    /// `None`: it was given on.
    queue: Option<Arc<Mutex<Queue>>>,
}

/// The right to make one container now.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) permit: Permit,
    /// Held until it is made.
    pub(crate) making: Option<OwnedSemaphorePermit>,
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Admission {
    pub(crate) fn new(most: usize) -> Self {
        let nofile = || Resource::Nofile.current().0;
        Self { queue: Arc::default(), turns: Arc::new(Semaphore::new(TURNS)), most, nofile }
    }

    /// Descriptors that are promised to containers or kept free.
    #[cfg(feature = "metrics")]
    pub(crate) fn descriptors(&self) -> u64 {
        lock(&self.queue).used as u64 * DESCRIPTORS_EACH + DESCRIPTORS_RESERVED
    }

    /// A permit, or the refusal that says which budget is spent, in words and as its field.
    pub(crate) fn permit(&self) -> Result<Permit, Error> {
        let nofile = self.serve();
        let mut queue = lock(&self.queue);
        let used = queue.used;
        if used < self.room(nofile) && queue.waiting.is_empty() {
            queue.used += 1;
            return Ok(Permit { queue: Some(Arc::clone(&self.queue)) });
        }
        if used < self.most {
            return Err(descriptors_spent(used, nofile));
        }
        let what = format!("{used} containers exist or are being made; this supervisor's limit is {}", self.most);
        Err(runtime::Error::new(runtime::ErrorKind::Exhausted, what).with_field("containers").into())
    }

    /// The right to make one: at once or not at all, or `queued`: when it is one's turn.
    ///
    /// # Cancel safety
    /// Who does not wait any more has no place in the queue.
    pub(crate) async fn turn(&self, queued: bool) -> Result<Turn, Error> {
        if !queued {
            return self.permit().map(|permit| Turn { permit, making: None });
        }
        let making = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| Error::shut_down())?;
        let (sender, mut given) = oneshot::channel();
        lock(&self.queue).waiting.push_back(sender);
        loop {
            self.serve();
            tokio::select! {
                permit = &mut given => {
                    return permit.map(|permit| Turn { permit, making: Some(making) }).map_err(|_| Error::shut_down());
                }
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// How many fit, with this limit on descriptors.
    fn room(&self, nofile: u64) -> usize {
        self.most.min(usize::try_from(containers_that_fit(nofile)).unwrap_or(usize::MAX))
    }

    /// Let those in who wait and for whom there is room; by which limit on descriptors.
    fn serve(&self) -> u64 {
        let nofile = (self.nofile)();
        let room = self.room(nofile);
        loop {
            let mut queue = lock(&self.queue);
            if queue.used >= room {
                return nofile;
            }
            let Some(first) = queue.waiting.pop_front() else { return nofile };
            queue.used += 1;
            drop(queue);
            // Who does not wait any more: it comes back and goes to the next.
            let _ = first.send(Permit { queue: Some(Arc::clone(&self.queue)) });
        }
    }
}

fn descriptors_spent(used: usize, nofile: u64) -> Error {
    let what = format!(
        "{used} containers exist or are being made; {DESCRIPTORS_EACH} descriptors for one more and \
         {DESCRIPTORS_RESERVED} in reserve do not fit below RLIMIT_NOFILE, {nofile}"
    );
    let error = runtime::Error::new(runtime::ErrorKind::Exhausted, what);
    error.with_field("descriptors").with_hint("raise the limit on open files, such as with `ulimit -n`").into()
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(shared) = self.queue.take() else { return };
        loop {
            let mut queue = lock(&shared);
            let Some(first) = queue.waiting.pop_front() else {
                queue.used -= 1;
                return;
            };
            drop(queue);
            match first.send(Permit { queue: Some(Arc::clone(&shared)) }) {
                Ok(()) => return,
                // Who does not wait any more: on to the next.
                Err(mut back) => back.queue = None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn one_above_the_limit_is_refused_at_once_and_a_permit_comes_back() {
        let admission = Admission::new(2);
        let held = [admission.permit().unwrap(), admission.permit().unwrap()];
        let refused = admission.permit().unwrap_err();
        assert_eq!((refused.kind(), refused.field()), (ErrorKind::Exhausted, Some("containers")));
        drop(held);
        assert!(admission.permit().is_ok());
    }

    #[test]
    fn descriptors_are_a_budget_of_their_own_and_the_refusal_names_it() {
        let admission = Admission { nofile: || 64 + 2 * 4 + 3, ..Admission::new(10) };
        let held = [admission.permit().unwrap(), admission.permit().unwrap()];
        let refused = admission.permit().unwrap_err();
        assert_eq!((refused.kind(), refused.field()), (ErrorKind::Exhausted, Some("descriptors")));
        assert!(refused.to_string().contains("RLIMIT_NOFILE, 75") && refused.hint().is_some(), "{refused}");
        let roomier = Admission { nofile: || u64::MAX, ..admission };
        assert!(roomier.permit().is_ok(), "the limit as it is now");
        drop(held);
    }

    /// One look at a future that may not be ready.
    async fn is_ready(future: &mut (impl Future + Unpin)) -> bool {
        std::future::poll_fn(|cx| std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx).is_ready())).await
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_served_in_turn_and_overtaken_by_nobody() {
        let admission = Admission::new(1);
        let held = admission.permit().unwrap();
        let mut first = Box::pin(admission.turn(true));
        let mut gone = Box::pin(admission.turn(true));
        let mut last = Box::pin(admission.turn(true));
        for waiting in [&mut first, &mut gone, &mut last] {
            assert!(!is_ready(waiting).await);
        }
        drop(gone);
        drop(held);
        assert!(admission.permit().is_err(), "others were there before");
        assert!(!is_ready(&mut last).await, "in turn");
        let turn = first.await.unwrap();
        assert!(!is_ready(&mut last).await);
        drop(turn);
        drop(last.await.unwrap());
        assert!(admission.permit().is_ok());
        assert_eq!(lock(&admission.queue).used, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_raised_limit_is_seen_by_who_waits_and_few_restart_at_a_time() {
        let none = Admission { nofile: || 0, ..Admission::new(100) };
        let raised = Admission { nofile: || u64::MAX, ..none.clone() };
        let mut waiting = Box::pin(none.turn(true));
        assert!(!is_ready(&mut waiting).await);
        raised.serve();
        let mut turns = vec![waiting.await.unwrap()];
        while turns.len() < TURNS {
            turns.push(raised.turn(true).await.unwrap());
        }
        let mut one_more = Box::pin(raised.turn(true));
        assert!(!is_ready(&mut one_more).await);
        assert!(raised.permit().is_ok(), "others are not held up");
        turns.pop();
        assert!(is_ready(&mut one_more).await);
    }
}
