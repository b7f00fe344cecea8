//! Idempotency keys: the same request twice is done once, and answered twice.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError};

use actix_web::HttpRequest;
use futures_util::future::{BoxFuture, FutureExt as _, Shared};

use super::failed::{Failed, failed};
use crate::wire::{Problem, ProblemKind};

/// So many keys are remembered.
const KEYS: usize = 1024;
/// The longest key.
const LONGEST: usize = 255;

/// What was made: where it is, and the body of the answer.
#[derive(Clone, Debug)]
pub(super) struct Done {
    pub(super) location: String,
    pub(super) body: String,
}

type Outcome = Result<Done, Box<Problem>>;

/// The keys that were used, each with its answer or the one that is on its way. Of those that have failed none is kept: the
/// same request may succeed later.
pub(super) struct Keys {
    hasher: RandomState,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    entries: HashMap<String, Entry>,
    /// In the order in which they came.
    order: VecDeque<String>,
}

struct Entry {
    body: u64,
    outcome: Shared<BoxFuture<'static, Outcome>>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

impl Default for Keys {
    fn default() -> Self {
        Self { hasher: RandomState::new(), known: Mutex::default() }
    }
}

/// The key of a request.
///
/// # Errors
/// It is none.
pub(super) fn key(request: &HttpRequest) -> Result<Option<String>, Failed> {
    let Some(header) = request.headers().get("Idempotency-Key") else { return Ok(None) };
    match header.to_str() {
        Ok(key) if !key.is_empty() && key.len() <= LONGEST => Ok(Some(format!("{} {key}", request.path()))),
        _ => Err(Problem::new(ProblemKind::Usage, format!("a key has 1 to {LONGEST} visible characters"))
            .field("Idempotency-Key")
            .into()),
    }
}

impl Keys {
    /// What `make` makes; of the same key, what it has made, or is making.
    ///
    /// # Errors
    /// Its own, or the key came with another body.
    pub(super) async fn once<F>(&self, key: Option<String>, body: &[u8], make: F) -> Result<Done, Failed>
    where
        F: Future<Output = Result<Done, Failed>> + Send + 'static,
    {
        let Some(key) = key else { return run(make).await.map_err(Failed) };
        let body = self.hasher.hash_one(body);
        let outcome = self.find(&key, body, make)?;
        let outcome = outcome.await;
        if outcome.is_err() {
            self.forget(&key, body);
        }
        outcome.map_err(Failed)
    }

    fn find<F>(&self, key: &str, body: u64, make: F) -> Result<Shared<BoxFuture<'static, Outcome>>, Failed>
    where
        F: Future<Output = Result<Done, Failed>> + Send + 'static,
    {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = known.entries.get(key) {
            if entry.body != body {
                return Err(failed(ProblemKind::Idempotency, "this key was used with another body"));
            }
            return Ok(entry.outcome.clone());
        }
        if known.entries.len() >= KEYS && !known.make_room() {
            let mut problem = Problem::new(ProblemKind::Exhausted, format!("{KEYS} keys are in use at this moment"));
            problem.retryable = true;
            return Err(problem.into());
        }
        let outcome = run(make).boxed().shared();
        known.entries.insert(key.to_owned(), Entry { body, outcome: outcome.clone() });
        known.order.push_back(key.to_owned());
        Ok(outcome)
    }

    fn forget(&self, key: &str, body: u64) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |entry: &Entry| entry.body == body && entry.outcome.peek().is_some_and(Result::is_err);
        if known.entries.get(key).is_some_and(failed) {
            known.entries.remove(key);
            known.order.retain(|other| other != key);
        }
    }
}

impl Known {
    /// Forgets the oldest that is answered; false: none is.
    fn make_room(&mut self) -> bool {
        let answered = |key: &String| self.entries.get(key).is_none_or(|entry| entry.outcome.peek().is_some());
        let Some(at) = self.order.iter().position(answered) else { return false };
        if let Some(key) = self.order.remove(at) {
            self.entries.remove(&key);
        }
        true
    }
}

/// In a task of its own: a client that leaves does not end what was begun.
fn run<F>(make: F) -> impl Future<Output = Outcome> + Send
where
    F: Future<Output = Result<Done, Failed>> + Send + 'static,
{
    let task = tokio::spawn(make);
    async move {
        match task.await {
            Ok(done) => done.map_err(|failed| failed.0),
            Err(_) => Err(Box::new(Problem::new(ProblemKind::ShutDown, "the daemon goes"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn counted(count: &Arc<AtomicUsize>, fails: bool) -> impl Future<Output = Result<Done, Failed>> + use<> {
        let count = Arc::clone(count);
        async move {
            let number = count.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            match fails {
                true => Err(failed(ProblemKind::Exhausted, "no room")),
                false => Ok(Done { location: String::new(), body: number.to_string() }),
            }
        }
    }

    #[tokio::test]
    async fn the_same_is_done_once_and_another_body_is_refused() {
        let (keys, count) = (Keys::default(), Arc::new(AtomicUsize::new(0)));
        let ask = |key: &str, body: &'static [u8]| keys.once(Some(key.into()), body, counted(&count, false));
        let (one, other) = tokio::join!(ask("a", b"x"), ask("a", b"x"));
        assert_eq!((one.unwrap().body, other.unwrap().body), ("0".into(), "0".into()));
        assert_eq!(ask("a", b"x").await.unwrap().body, "0");
        assert_eq!(ask("a", b"y").await.unwrap_err().0.status, 422);
        assert_eq!(ask("b", b"y").await.unwrap().body, "1");
        assert_eq!(keys.once(None, b"x", counted(&count, false)).await.unwrap().body, "2");
    }

    #[tokio::test]
    async fn a_failure_is_not_kept_and_old_keys_make_room() {
        let (keys, count) = (Keys::default(), Arc::new(AtomicUsize::new(0)));
        assert!(keys.once(Some("a".into()), b"x", counted(&count, true)).await.is_err());
        assert_eq!(keys.once(Some("a".into()), b"y", counted(&count, false)).await.unwrap().body, "1");
        for number in 0..KEYS {
            keys.once(Some(format!("more {number}")), b"", counted(&count, false)).await.unwrap();
        }
        assert_eq!(keys.known.lock().unwrap().entries.len(), KEYS);
        assert_eq!(keys.once(Some("a".into()), b"z", counted(&count, false)).await.unwrap().body, "1026");
    }
}
