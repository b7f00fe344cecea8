//! The follower itself: events and outputs, each in its turn.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use tokio::task::coop;

use super::crowd::{Crowd, Joining, Last};
use super::cursor::FollowCursor;
use super::directory::{About, Inbox, Seat};
use super::item::{GoneWhy, Item, Member};
use crate::events::{self, Event, Events, Kind};
use crate::filter::EventFilter;
use crate::ids::ProcessId;

/// Output and events of many containers as one `Stream`: [`Supervisor::follow`](crate::Supervisor::follow), and the
/// [module](super) for what comes when.
///
/// It ends when the supervisor has ended and everything was handed out. Dropping it disturbs nobody. Needs no particular
/// runtime.
///
/// ```no_run
/// use orangery::EventFilter;
/// use orangery::follow::{FollowOptions, Item};
/// # async fn f(supervisor: orangery::Supervisor) {
/// let wanted = EventFilter::new().label("tenant", "a").kind("process_exited");
/// let mut feed = supervisor.follow(wanted, FollowOptions::default());
/// while let Some(item) = feed.recv().await {
///     match item {
///         Item::Chunk { member, chunk } => println!("{} {}: {:?}", member.container, chunk.source, chunk.data),
///         Item::Gap { member, gap } => println!("{}: {} bytes are missing", member.container, gap.bytes()),
///         Item::Event(event) => println!("{:?}: {}", event.container, event.kind.name()),
///         Item::End { container, report, .. } => println!("{container}: {:?}", report.map(|report| report.exit)),
///         _ => {}
///     }
/// }
/// # }
/// ```
pub struct Follow {
    events: Events,
    /// Processes with earlier events were there before this began, or had gone.
    joined: u64,
    filter: EventFilter,
    inbox: Arc<Inbox>,
    _seat: Seat,
    crowd: Crowd,
    /// Sources whose `process_started` was not seen yet.
    waiting: Vec<(Arc<About>, Joining)>,
    /// No event comes any more.
    closed: bool,
    /// Events are looked at first, every other time.
    events_first: bool,
}

impl std::fmt::Debug for Follow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follow").field("filter", &self.filter).field("at", &self.events.at()).finish_non_exhaustive()
    }
}

impl Follow {
    pub(super) fn new(
        events: Events,
        joined: u64,
        filter: EventFilter,
        inbox: Arc<Inbox>,
        seat: Seat,
        crowd: Crowd,
    ) -> Self {
        let (waiting, closed, events_first) = (Vec::new(), false, false);
        Self { events, joined, filter, inbox, _seat: seat, crowd, waiting, closed, events_first }
    }

    pub(super) fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// The next item; `None` when there will be no more.
    ///
    /// # Cancel safety
    /// May be dropped and called again: nothing is lost.
    pub async fn recv(&mut self) -> Option<Item> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    /// The place behind the last item that was handed out: [`Supervisor::resume_follow`](crate::Supervisor::resume_follow)
    /// goes on there. Takes as long as there are sources.
    #[must_use]
    pub fn cursor(&self) -> FollowCursor {
        FollowCursor { feed: self.events.feed(), event: self.events.at(), containers: self.crowd.stops() }
    }

    /// One more source: from now on, or from its `process_started` on where that is still to come.
    pub(super) fn admit(&mut self, about: &Arc<About>, joining: Joining) {
        if about.began.get().is_some_and(|began| *began < self.events.at()) {
            self.crowd.join(joining);
        } else {
            self.waiting.push((Arc::clone(about), joining));
        }
    }

    /// A container whose end is still to come, and nothing else.
    pub(super) fn know(&mut self, about: &About) {
        self.crowd.container(&about.member.container, about.member.generation, Last::Told(Arc::clone(&about.life)));
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        // A follower that never waits must not starve its task's neighbours.
        let progress = ready!(coop::poll_proceed(cx));
        let item = self.look(cx);
        if item.is_ready() {
            progress.made_progress();
        }
        item
    }

    fn look(&mut self, cx: &Context<'_>) -> Poll<Option<Item>> {
        self.crowd.ready.listen(cx);
        self.events_first = !self.events_first;
        let mut item = self.crowd.notice();
        if item.is_none() && !self.events_first {
            item = self.crowd.output();
        }
        // An event may bring a source along, and the end of the feed notices.
        let item = item.or_else(|| self.event(cx)).or_else(|| self.crowd.output()).or_else(|| self.crowd.notice());
        match item {
            Some(item) => Poll::Ready(Some(item)),
            None if self.closed && self.crowd.is_empty() => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    /// The next event that is wanted, or what there is to say because of one that is not.
    fn event(&mut self, cx: &Context<'_>) -> Option<Item> {
        loop {
            match self.events.poll(cx) {
                Poll::Ready(Some(events::Item::Event(event))) => {
                    let item = self.happened(&event);
                    if item.is_some() {
                        return item;
                    }
                    if self.crowd.has_notice() {
                        return self.crowd.notice();
                    }
                }
                Poll::Ready(Some(events::Item::Lagged { missed })) => {
                    let at = self.events.at();
                    self.welcome(|began| began < at);
                    self.crowd.passed(at);
                    return Some(Item::Lagged { missed });
                }
                Poll::Ready(None) => {
                    if !std::mem::replace(&mut self.closed, true) {
                        self.welcome(|_| true);
                        self.crowd.closed();
                    }
                    return None;
                }
                Poll::Pending => return None,
            }
        }
    }

    fn happened(&mut self, event: &Arc<Event>) -> Option<Item> {
        let id = event.container.clone().unwrap_or_else(|| "".into());
        if !self.filter.is_about(&id, &event.labels) {
            return None;
        }
        match &event.kind {
            Kind::ContainerCreated { .. } => {
                let last = self.last_of(event, &id);
                self.crowd.container(&id, event.generation, last);
            }
            Kind::ProcessStarted { .. } => self.started(event, id),
            Kind::ProcessEnded { report } if event.process == Some(ProcessId::MAIN) => {
                self.crowd.reported(&id, event.generation, report);
            }
            Kind::ContainerRemoved | Kind::ContainerFailed(_) => self.crowd.over(&id, event.generation),
            _ => {}
        }
        self.filter.is_of(&event.kind).then(|| Item::Event(Arc::clone(event)))
    }

    /// A process has begun: its source is read from here on, or said to be gone.
    fn started(&mut self, event: &Event, container: Arc<str>) {
        let process = event.process.unwrap_or(ProcessId::MAIN);
        let member = Member { container, labels: Arc::clone(&event.labels), generation: event.generation, process };
        if !self.inbox.wants(&member) || self.welcome(|began| began == event.seq) > 0 {
            return;
        }
        // One that had gone when this began has told its last event by then.
        let (why, last) = match event.seq < self.joined {
            true => (GoneWhy::Ended, Last::Before(self.joined)),
            false => (GoneWhy::TooMany, self.last_of(event, &member.container)),
        };
        let (member, gaps) = (Arc::new(member), std::collections::VecDeque::new());
        self.crowd.join(Joining { member, last, reader: Err(why), place: None, gaps });
    }

    /// What is known of the last event of the container that this one is about.
    fn last_of(&self, event: &Event, container: &Arc<str>) -> Last {
        self.events.life(container, event.generation, event.seq).map_or_else(Last::Before, Last::Told)
    }

    /// Take in those that wait for an event that has come; how many.
    fn welcome(&mut self, has_come: impl Fn(u64) -> bool) -> usize {
        let arrivals = self.inbox.take().into_iter().map(|arrival| (Arc::clone(&arrival.about), arrival.joining()));
        self.waiting.extend(arrivals);
        let begun = |about: &About| about.began.get().is_some_and(|began| has_come(*began));
        let (come, waiting) =
            std::mem::take(&mut self.waiting).into_iter().partition::<Vec<_>, _>(|(about, _)| begun(about));
        self.waiting = waiting;
        let count = come.len();
        come.into_iter().for_each(|(_, joining)| self.crowd.join(joining));
        count
    }
}

impl Stream for Follow {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        self.poll(cx)
    }
}
