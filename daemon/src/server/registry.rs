//! What the daemon knows of each container beside the library: what it was asked for, since when, and its handle.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use orangery::{ContainerHandle, Group, ProcessHandle, Service};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::failed::{Failed, failed};
use crate::wire::{Create, Problem, ProblemKind};

/// So many ended processes of a container are kept, beside its main one.
const ENDED: usize = 64;

/// All containers.
#[derive(Debug, Default)]
pub(super) struct Registry {
    cards: Mutex<BTreeMap<String, Arc<Card>>>,
    groups: Mutex<BTreeMap<String, Group>>,
}

/// One container.
#[derive(Debug)]
pub(super) struct Card {
    pub(super) name: String,
    pub(super) asked: Asked,
    state: Mutex<State>,
    /// Said when nobody is at it any more.
    free: Notify,
}

/// What is written down of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Asked {
    /// Version of this record.
    pub(super) schema: u32,
    pub(super) create: Create,
    pub(super) created_at_ms: u64,
    /// The group that it is a member of.
    #[serde(default)]
    pub(super) group: Option<String>,
    /// With which idempotency key: the next daemon knows it from here.
    #[serde(default)]
    pub(super) key: Option<String>,
}

/// As it is.
#[derive(Debug)]
pub(super) struct State {
    pub(super) body: Body,
    pub(super) started_at_ms: Option<u64>,
    pub(super) further: BTreeMap<u32, Further>,
}

/// What there is of it.
#[derive(Clone, Debug)]
pub(super) enum Body {
    /// It was never started.
    Nothing,
    /// Somebody is at it: it is being started, or deleted.
    Busy,
    /// One container.
    Container(ContainerHandle),
    /// A container that is kept running.
    Service(Service),
}

/// A further process.
#[derive(Clone, Debug)]
pub(super) struct Further {
    pub(super) process: ProcessHandle,
    pub(super) tty: bool,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Card>>> {
        self.cards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// # Errors
    /// There is none of this name.
    pub(super) fn get(&self, name: &str) -> Result<Arc<Card>, Failed> {
        let found = self.lock().get(name).cloned();
        found.ok_or_else(|| failed(ProblemKind::NotFound, format!("there is no container {name:?}")))
    }

    /// The one that was asked for with this key.
    pub(super) fn by_key(&self, key: &str) -> Option<Arc<Card>> {
        self.lock().values().find(|card| card.asked.key.as_deref() == Some(key)).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Card>> {
        self.lock().values().cloned().collect()
    }

    /// # Errors
    /// The name is taken.
    pub(super) fn add(&self, card: Card) -> Result<Arc<Card>, Failed> {
        let mut cards = self.lock();
        if cards.contains_key(&card.name) {
            let why = format!("there is a container {:?}", card.name);
            return Err(Problem::new(ProblemKind::Exists, why).field("name").into());
        }
        let card = Arc::new(card);
        cards.insert(card.name.clone(), Arc::clone(&card));
        Ok(card)
    }

    pub(super) fn remove(&self, card: &Arc<Card>) {
        let mut cards = self.lock();
        if cards.get(&card.name).is_some_and(|there| Arc::ptr_eq(there, card)) {
            cards.remove(&card.name);
        }
    }
}

impl Registry {
    fn lock_groups(&self) -> MutexGuard<'_, BTreeMap<String, Group>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn group(&self, name: &str) -> Option<Group> {
        self.lock_groups().get(name).cloned()
    }

    pub(super) fn groups(&self) -> BTreeMap<String, Group> {
        self.lock_groups().clone()
    }

    pub(super) fn enroll(&self, name: &str, group: Group) {
        self.lock_groups().insert(name.to_owned(), group);
    }

    pub(super) fn dismiss(&self, name: &str) {
        // Dropped when nobody holds the lock: it may be the last that holds its members.
        let group = self.lock_groups().remove(name);
        drop(group);
    }
}

impl Card {
    pub(super) fn new(name: &str, asked: Asked, body: Body) -> Self {
        let state = State { body, started_at_ms: None, further: BTreeMap::new() };
        Self { name: name.to_owned(), asked, state: Mutex::new(state), free: Notify::new() }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn body(&self) -> Body {
        self.state().body.clone()
    }

    /// Its body, when nobody is at it.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(super) async fn settled(&self) -> Body {
        loop {
            let mut free = std::pin::pin!(self.free.notified());
            // Before the look, so that none is missed.
            free.as_mut().enable();
            match self.body() {
                Body::Busy => free.await,
                body => return body,
            }
        }
    }

    /// What there is of it from now on, and since when it runs.
    pub(super) fn becomes(&self, body: Body, started_at_ms: Option<u64>) {
        {
            let mut state = self.state();
            (state.body, state.started_at_ms) = (body, started_at_ms);
        }
        self.free.notify_waiters();
    }

    /// Take it for a change of its body; the one that is there is handed out, and stays when `hold` is dropped without a word.
    ///
    /// # Errors
    /// Somebody else has it.
    pub(super) fn hold(self: &Arc<Self>) -> Result<Hold, Failed> {
        match std::mem::replace(&mut self.state().body, Body::Busy) {
            Body::Busy => Err(busy()),
            before => Ok(Hold { card: Arc::clone(self), next: Some(before) }),
        }
    }

    /// Its container, if one runs or has run.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn container(&self) -> Result<ContainerHandle, Failed> {
        match self.body() {
            Body::Container(container) => Ok(container),
            Body::Service(service) => {
                service.current().ok_or_else(|| failed(ProblemKind::State, "no incarnation of it runs"))
            }
            Body::Nothing => Err(failed(ProblemKind::State, "it has not been started")),
            Body::Busy => Err(busy()),
        }
    }

    /// A further process of it was started.
    pub(super) fn remember(&self, process: ProcessHandle, tty: bool) {
        let mut state = self.state();
        state.further.insert(process.id().0, Further { process, tty });
        let ended: Vec<u32> =
            state.further.iter().filter(|(_, further)| has_ended(&further.process)).map(|(id, _)| *id).collect();
        for id in ended.iter().take(ended.len().saturating_sub(ENDED)) {
            state.further.remove(id);
        }
    }
}

/// Somebody is at it.
pub(super) fn busy() -> Failed {
    failed(ProblemKind::State, "it is being started or deleted")
}

fn has_ended(process: &ProcessHandle) -> bool {
    super::view::report_now(process).is_some()
}

/// A card that is being changed.
#[derive(Debug)]
pub(super) struct Hold {
    pub(super) card: Arc<Card>,
    next: Option<Body>,
}

impl Hold {
    /// What was there.
    pub(super) fn before(&self) -> &Body {
        self.next.as_ref().unwrap_or(&Body::Nothing)
    }

    /// What is there from now on.
    pub(super) fn becomes(mut self, body: Body) {
        self.next = Some(body);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.card.state().body = self.next.take().unwrap_or(Body::Nothing);
        self.card.free.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_hears_when_nobody_is_at_it_any_more() {
        let asked = Asked { schema: 1, create: Create::default(), created_at_ms: 0, group: None, key: None };
        let card = Arc::new(Card::new("a", asked, Body::Busy));
        let (body, ()) = tokio::join!(card.settled(), async { card.becomes(Body::Nothing, Some(3)) });
        assert!(matches!(body, Body::Nothing) && card.state().started_at_ms == Some(3));
        let hold = card.hold().unwrap();
        assert!(card.hold().is_err(), "somebody has it");
        let (body, ()) = tokio::join!(card.settled(), async { drop(hold) });
        assert!(matches!(body, Body::Nothing));
        assert!(matches!(card.settled().await, Body::Nothing));
    }
}
