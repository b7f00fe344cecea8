//! The containers and the sources that one follower has, and what is still to be said of them. Knows no events.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_core::Stream;
use orangery_io_stream::{self as stream, Cursor, Event, Gap, Subscriber};

use super::cursor::Stop;
use super::directory::{Inbox, Life};
use super::item::{GoneWhy, Item, Member};
use super::ready::{Bell, Ready};
use super::turns::Turns;
use crate::report::Report;

/// What one follower has.
pub(super) struct Crowd {
    numbers: u64,
    containers: BTreeMap<u64, Container>,
    /// The newest container of a name whose last event was not seen yet.
    named: HashMap<(Arc<str>, u32), u64>,
    sources: BTreeMap<u64, Source>,
    /// What comes before anything else.
    notices: VecDeque<Notice>,
    turns: Turns,
    pub(super) ready: Arc<Ready>,
    inbox: Arc<Inbox>,
}

/// One incarnation of a container.
struct Container {
    id: Arc<str>,
    generation: u32,
    last: Last,
    /// Its last event was seen.
    over: bool,
    report: Option<Arc<Report>>,
    sources: BTreeSet<u64>,
}

/// What is known of a container's last event.
#[derive(Clone, Debug)]
pub(super) enum Last {
    /// All of it.
    Told(Arc<Life>),
    /// It comes before this one.
    Before(u64),
    /// That it comes.
    Comes,
}

struct Source {
    member: Arc<Member>,
    container: u64,
    state: At,
    /// Behind the last item; `None`: there was none yet.
    place: Option<Cursor>,
}

enum At {
    Following {
        reader: Subscriber,
        /// What is missing before the reader's first byte.
        gaps: VecDeque<Gap>,
        bell: Arc<Bell>,
        /// It stands in line for its turn.
        in_line: bool,
    },
    /// Too slow, and not read any more. It has its place, in case of a resume.
    Left,
    /// To be said to be gone; takes no place among those that are followed.
    Owed(GoneWhy),
}

enum Notice {
    Gone(u64),
    End(u64),
}

/// A source to be followed.
pub(super) struct Joining {
    pub(super) member: Arc<Member>,
    pub(super) last: Last,
    pub(super) reader: Result<Subscriber, GoneWhy>,
    pub(super) place: Option<Cursor>,
    pub(super) gaps: VecDeque<Gap>,
}

impl Crowd {
    pub(super) fn new(inbox: &Arc<Inbox>, turn_bytes: usize) -> Self {
        Self {
            numbers: 0,
            containers: BTreeMap::new(),
            named: HashMap::new(),
            sources: BTreeMap::new(),
            notices: VecDeque::new(),
            turns: Turns::new(turn_bytes),
            ready: Arc::default(),
            inbox: Arc::clone(inbox),
        }
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// The container of that name whose last event was not seen yet; made if there is none.
    pub(super) fn container(&mut self, id: &Arc<str>, generation: u32, last: Last) -> u64 {
        let name = (Arc::clone(id), generation);
        if let Some(number) = self.named.get(&name) {
            if let Some(container) = self.containers.get_mut(number)
                && !matches!(container.last, Last::Told(_))
            {
                container.last = last;
            }
            return *number;
        }
        let number = self.number();
        let container =
            Container { id: Arc::clone(id), generation, last, over: false, report: None, sources: BTreeSet::new() };
        self.containers.insert(number, container);
        self.named.insert(name, number);
        number
    }

    /// One more source, from now on.
    pub(super) fn join(&mut self, joining: Joining) {
        let Joining { member, last, reader, place, gaps } = joining;
        let container = self.container(&member.container, member.generation, last);
        let key = self.number();
        let state = match reader {
            Ok(reader) => At::Following { reader, gaps, bell: Bell::rung(key, &self.ready), in_line: false },
            Err(why) => {
                self.notices.push_back(Notice::Gone(key));
                At::Owed(why)
            }
        };
        if let Some(container) = self.containers.get_mut(&container) {
            container.sources.insert(key);
        }
        self.sources.insert(key, Source { member, container, state, place });
    }

    /// The last event of a container was seen.
    pub(super) fn over(&mut self, id: &Arc<str>, generation: u32) {
        let number = self.container(id, generation, Last::Comes);
        self.named.remove(&(Arc::clone(id), generation));
        if let Some(container) = self.containers.get_mut(&number) {
            container.over = true;
        }
        self.settle(number);
    }

    /// How the main process of a container ended.
    pub(super) fn reported(&mut self, id: &Arc<str>, generation: u32, report: &Arc<Report>) {
        let number = self.named.get(&(Arc::clone(id), generation));
        if let Some(container) = number.and_then(|number| self.containers.get_mut(number)) {
            container.report = Some(Arc::clone(report));
        }
    }

    /// Events before `seq` were seen, or will never be: containers whose last one was among them are over.
    pub(super) fn passed(&mut self, seq: u64) {
        self.over_where(|container| match &container.last {
            Last::Told(life) => life.over.get().is_some_and(|over| *over < seq),
            Last::Before(next) => *next <= seq,
            Last::Comes => false,
        });
    }

    /// No event comes any more.
    pub(super) fn closed(&mut self) {
        self.over_where(|_| true);
    }

    fn over_where(&mut self, over: impl Fn(&Container) -> bool) {
        let open = self.containers.values().filter(|container| !container.over && over(container));
        let names: Vec<_> = open.map(|container| (Arc::clone(&container.id), container.generation)).collect();
        names.iter().for_each(|(id, generation)| self.over(id, *generation));
    }

    /// Say that a container has ended, if it has.
    fn settle(&mut self, number: u64) {
        let Some(container) = self.containers.get(&number) else { return };
        let left = |key| self.sources.get(key).is_some_and(|source| matches!(source.state, At::Left));
        if container.over && container.sources.iter().all(left) {
            self.notices.push_back(Notice::End(number));
        }
    }

    /// A source has nothing more.
    fn leave(&mut self, key: u64) {
        let Some(source) = self.sources.remove(&key) else { return };
        if !matches!(source.state, At::Owed(_)) {
            self.inbox.release();
        }
        if let Some(container) = self.containers.get_mut(&source.container) {
            container.sources.remove(&key);
        }
        self.settle(source.container);
    }

    /// What comes before anything else.
    pub(super) fn notice(&mut self) -> Option<Item> {
        loop {
            let item = match self.notices.pop_front()? {
                Notice::Gone(key) => self.gone(key),
                Notice::End(number) => self.end(number),
            };
            if item.is_some() {
                return item;
            }
        }
    }

    fn gone(&mut self, key: u64) -> Option<Item> {
        let source = self.sources.get(&key)?;
        let At::Owed(why) = source.state else { return None };
        let item = Item::Gone { member: Arc::clone(&source.member), why };
        self.leave(key);
        Some(item)
    }

    fn end(&mut self, number: u64) -> Option<Item> {
        let container = self.containers.remove(&number)?;
        for key in container.sources {
            self.sources.remove(&key);
            self.inbox.release();
        }
        let told = if let Last::Told(life) = &container.last { life.report.get().cloned() } else { None };
        let report = told.or(container.report);
        Some(Item::End { container: container.id, generation: container.generation, report })
    }

    /// The next piece of output, in turn.
    pub(super) fn output(&mut self) -> Option<Item> {
        for key in self.ready.take() {
            if let Some(Source { state: At::Following { in_line: in_line @ false, .. }, .. }) =
                self.sources.get_mut(&key)
            {
                *in_line = true;
                self.turns.join(key);
            }
        }
        loop {
            let key = self.turns.current()?;
            match self.sources.get_mut(&key).and_then(Source::next) {
                Some((item, done)) => {
                    self.took(key, &item, done);
                    return Some(item);
                }
                None => self.turns.leave(),
            }
        }
    }

    /// `done`: it was its last one.
    fn took(&mut self, key: u64, item: &Item, done: bool) {
        if !done {
            let bytes = if let Item::Chunk { chunk, .. } = item { chunk.data.len() as u64 } else { 0 };
            self.turns.took(bytes);
            return;
        }
        self.turns.leave();
        if let Item::Disconnected { .. } = item {
            // It goes with its container, or with the follower.
            if let Some(source) = self.sources.get_mut(&key) {
                source.state = At::Left;
                let container = source.container;
                self.settle(container);
            }
        } else {
            self.leave(key);
        }
    }

    /// Nothing is left of which anything could come.
    pub(super) fn is_empty(&self) -> bool {
        self.containers.is_empty() && self.notices.is_empty()
    }

    /// Whether something is to be said before anything else.
    pub(super) fn has_notice(&self) -> bool {
        !self.notices.is_empty()
    }

    /// The places of all that has not ended.
    pub(super) fn stops(&self) -> Vec<Stop> {
        let stops = self.containers.values().map(|container| Stop {
            id: Arc::clone(&container.id),
            generation: container.generation,
            over: container.over,
            sources: container
                .sources
                .iter()
                .filter_map(|key| self.sources.get(key))
                .map(|source| (source.member.process, source.place))
                .collect(),
        });
        stops.filter(|stop| stop.over || !stop.sources.is_empty()).collect()
    }
}

impl Source {
    /// Its next item, and whether it was the last one; `None`: nothing yet.
    fn next(&mut self) -> Option<(Item, bool)> {
        let At::Following { reader, gaps, bell, in_line } = &mut self.state else { return None };
        let member = Arc::clone(&self.member);
        if let Some(gap) = gaps.pop_front() {
            self.place = self.place.map(|place| place.with(gap.source, gap.to));
            return Some((Item::Gap { member, gap }, false));
        }
        // Before the look: what comes in between rings.
        bell.answered();
        let waker = Waker::from(Arc::clone(bell));
        let Poll::Ready(event) = Pin::new(&mut *reader).poll_next(&mut Context::from_waker(&waker)) else {
            *in_line = false;
            return None;
        };
        self.place = Some(match (&event, self.place) {
            // Before the first byte: there may be one of the other stream as well.
            (Some(Event::Gap(gap)), None) => {
                let start =
                    stream::Source::ALL.into_iter().fold(reader.cursor(), |start, source| start.with(source, 0));
                start.with(gap.source, gap.to)
            }
            (Some(Event::Gap(gap)), Some(place)) => place.with(gap.source, gap.to),
            _ => reader.cursor(),
        });
        Some(match event {
            Some(Event::Chunk(chunk)) => (Item::Chunk { member, chunk }, false),
            Some(Event::Gap(gap)) => (Item::Gap { member, gap }, false),
            Some(Event::End(end)) => (Item::Closed { member, end }, true),
            Some(Event::Lagged { cursor, .. }) => (Item::Disconnected { member, at: cursor }, true),
            // Of a newer kind, or behind the last one, which does not happen: said as what it is, gone.
            _ => (Item::Gone { member, why: GoneWhy::Ended }, true),
        })
    }
}
