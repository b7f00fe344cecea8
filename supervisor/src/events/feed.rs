//! The writing side of the feed, and what both sides share.
//!
//! Told where the tables change: [`ContainerSlot::step`](crate::container::slot::ContainerSlot::step) and the process
//! [`Slot`](crate::process::slot::Slot), under their locks, so that the order of the feed is the order of what happened.
//! Whoever tells waits for no reader; a reader that is too slow learns how many it has missed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;
use std::time::SystemTime;

use orangery_io_stream::{Cursor, StreamId};

use super::ring::Ring;
use super::{Event, Kind, SCHEMA};
use crate::follow::Member;
use crate::follow::directory::{Directory, Life, Listed};
use crate::ids::ProcessId;
use crate::metrics::Meters;
use crate::process::output::Output;
use crate::report::{Cause, unix_ms};

/// Events that are kept for readers that come later or are slow, unless told otherwise.
pub(crate) const HISTORY: usize = 4096;

/// The feed of one supervisor. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Feed(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub(super) id: StreamId,
    meters: Meters,
    /// Whose outputs can be followed beside it.
    outputs: Directory,
    /// Hears of each event before any reader, under the lock of whoever tells it.
    observer: OnceLock<Observer>,
    state: Mutex<State>,
}

/// Called with each event. It must not wait, and must tell nothing.
type Observer = Box<dyn Fn(&Event) + Send + Sync>;

pub(super) struct State {
    pub(super) ring: Ring,
    pub(super) closed: bool,
    /// Where each reader is.
    pub(super) readers: BTreeMap<u64, u64>,
    /// Those of them that have everything and wait.
    pub(super) waiting: BTreeMap<u64, Waker>,
    pub(super) numbers: u64,
    /// Containers of which `container_created` was told and the last event was not, by name and generation.
    lives: BTreeMap<(Arc<str>, u32), Arc<Life>>,
}

impl Feed {
    pub(crate) fn new(history: usize) -> Self {
        let state = State {
            ring: Ring::new(history),
            closed: false,
            readers: BTreeMap::new(),
            waiting: BTreeMap::new(),
            numbers: 0,
            lives: BTreeMap::new(),
        };
        let (id, meters, outputs) = (StreamId::random(), Meters::default(), Directory::default());
        Self(Arc::new(Shared { id, meters, outputs, observer: OnceLock::new(), state: Mutex::new(state) }))
    }

    /// Have this called with each event; for one, before anything is told.
    #[cfg_attr(not(any(test, feature = "faults")), expect(dead_code, reason = "only plans of faults observe"))]
    pub(crate) fn observe(&self, observer: impl Fn(&Event) + Send + Sync + 'static) {
        let _ = self.0.observer.set(Box::new(observer));
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The place before event `seq`.
    pub(super) fn cursor(&self, seq: u64) -> Cursor {
        Cursor::of_event(self.0.id, seq)
    }

    /// What is counted.
    pub(crate) fn meters(&self) -> &Meters {
        &self.0.meters
    }

    /// Whose outputs can be followed.
    pub(crate) fn outputs(&self) -> &Directory {
        &self.0.outputs
    }

    /// What is known of the end of the container of this name of which event `seq` tells; else, when it has ended, the number
    /// of an event behind its last one.
    pub(crate) fn life(&self, id: &Arc<str>, generation: u32, seq: u64) -> Result<Arc<Life>, u64> {
        let state = self.state();
        // A later one may have its name by now.
        let life = state.lives.get(&(Arc::clone(id), generation));
        let life = life.filter(|life| life.created.get().is_some_and(|created| *created <= seq));
        life.cloned().ok_or_else(|| state.ring.next())
    }

    /// The number of the next event.
    pub(crate) fn next(&self) -> u64 {
        self.state().ring.next()
    }

    /// How many readers there are, and how many events the slowest of them is behind.
    #[cfg(feature = "metrics")]
    pub(crate) fn readers(&self) -> (u64, u64) {
        let state = self.state();
        let slowest = state.readers.values().min().map_or(0, |at| state.ring.next() - at);
        (state.readers.len() as u64, slowest)
    }

    /// Whoever speaks about no container.
    pub(crate) fn voice(&self) -> Voice {
        Voice { feed: self.clone(), container: None, labels: Arc::default(), generation: 0, life: Arc::default() }
    }

    /// Nothing comes any more: readers end when they have everything.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        wake(state);
    }

    /// `seq` gets its number, under the lock.
    fn publish(&self, voice: &Voice, (process, kind, cause): News, seq: Option<&OnceLock<u64>>) {
        let mut state = self.state();
        voice.note(process, &kind, &mut state);
        if let Some(seq) = seq {
            let _ = seq.set(state.ring.next());
        }
        let event = Event {
            schema: SCHEMA,
            seq: state.ring.next(),
            at_ms: unix_ms(SystemTime::now()),
            mono_ns: orangery_runtime::native::now_ns(),
            container: voice.container.clone(),
            labels: Arc::clone(&voice.labels),
            process,
            generation: voice.generation,
            cause,
            kind,
        };
        self.0.meters.observe(&event);
        if let Some(observer) = self.0.observer.get() {
            observer(&event);
        }
        state.ring.push(Arc::new(event));
        wake(state);
    }
}

/// What is told.
type News = (Option<ProcessId>, Kind, Option<Cause>);

/// Wake who waits, outside of the lock.
fn wake(mut state: MutexGuard<'_, State>) {
    let waiting = std::mem::take(&mut state.waiting);
    drop(state);
    waiting.into_values().for_each(Waker::wake);
}

/// Speaks about one container, or about none. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Voice {
    feed: Feed,
    container: Option<Arc<str>>,
    labels: Arc<BTreeMap<String, String>>,
    generation: u32,
    /// What was told of its end.
    life: Arc<Life>,
}

impl Voice {
    /// About this container from now on.
    pub(crate) fn of(&self, id: &str, labels: &Arc<BTreeMap<String, String>>, generation: u32) -> Self {
        let (feed, life) = (self.feed.clone(), Arc::default());
        Self { feed, container: Some(id.into()), labels: Arc::clone(labels), generation, life }
    }

    /// Called under the lock of the feed.
    fn note(&self, process: Option<ProcessId>, kind: &Kind, state: &mut State) {
        let seq = state.ring.next();
        let name = || self.container.as_ref().map(|id| (Arc::clone(id), self.generation));
        match kind {
            Kind::ContainerCreated { .. } => {
                let _ = self.life.created.set(seq);
                if let Some(name) = name() {
                    state.lives.insert(name, Arc::clone(&self.life));
                }
            }
            Kind::ProcessEnded { report } if process == Some(ProcessId::MAIN) => {
                let _ = self.life.report.set(Arc::clone(report));
            }
            Kind::ContainerRemoved | Kind::ContainerFailed(_) => {
                let _ = self.life.over.set(seq);
                if let Some(name) = name().filter(|_| self.life.created.get().is_some()) {
                    state.lives.remove(&name);
                }
            }
            _ => {}
        }
    }

    /// What is counted.
    pub(crate) fn meters(&self) -> &Meters {
        self.feed.meters()
    }

    /// Where it is heard.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn feed(&self) -> &Feed {
        &self.feed
    }

    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    /// This has happened to the container or to a process of it. Never blocks on a reader.
    pub(crate) fn tell(&self, process: Option<ProcessId>, kind: Kind, cause: Option<Cause>) {
        self.feed.publish(self, (process, kind, cause), None);
    }

    /// A process begins to run: it can be followed from its first byte on, until what comes back is dropped. `lost`: those who
    /// follow now do not get it.
    pub(crate) fn tell_start(&self, process: ProcessId, kind: Kind, output: &Output, lost: bool) -> Listed {
        let container = self.container.clone().unwrap_or_else(|| "".into());
        let member = Member { container, labels: Arc::clone(&self.labels), generation: self.generation, process };
        let listed = self.feed.outputs().enter(member, &self.life, output, lost);
        self.feed.publish(self, (Some(process), kind, None), Some(&listed.about.began));
        listed
    }
}
