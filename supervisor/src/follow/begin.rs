//! How a follower begins: anew, or where another one was.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};

use orangery_io_stream::{Cursor, From, Gap, GapCause, GoneReason, Source, SubscribeOptions, Subscriber};

use super::crowd::{Crowd, Joining, Last};
use super::cursor::{FollowCursor, Stop};
use super::directory::{Entry, Inbox};
use super::item::{GoneWhy, Member};
use super::options::FollowOptions;
use super::reader::Follow;
use crate::events::Feed;
use crate::filter::EventFilter;
use crate::ids::ProcessId;

/// A source in which nothing was read yet.
fn fresh(entry: &Entry, inbox: &Inbox, from: From) -> Joining {
    let reader = match inbox.reserve() {
        true => Ok(entry.output.subscribe(SubscribeOptions { from, ..inbox.output() })),
        false => Err(GoneWhy::TooMany),
    };
    // From the first byte on it has no place yet: what is missing there is still to be said.
    let place = reader.as_ref().ok().filter(|_| from != From::Start).map(|reader| reader.opening().start);
    joining(entry, reader, place)
}

fn joining(entry: &Entry, reader: Result<Subscriber, GoneWhy>, place: Option<Cursor>) -> Joining {
    let about = &entry.about;
    let (member, last) = (Arc::clone(&about.member), Last::Told(Arc::clone(&about.life)));
    Joining { member, last, reader, place, gaps: VecDeque::new() }
}

impl Follow {
    pub(crate) fn begin(feed: &Feed, filter: EventFilter, options: &FollowOptions) -> Self {
        let inbox = Arc::new(Inbox::new(&filter, options));
        let look = || (feed.read(options.since), feed.next());
        let (seat, there, (events, joined)) = feed.outputs().follow(&inbox, look);
        let crowd = Crowd::new(&inbox, options.turn_bytes);
        let mut follow = Self::new(events, joined, filter, inbox, seat, crowd);
        for entry in there {
            let joining = fresh(&entry, follow.inbox(), options.output.from);
            follow.admit(&entry.about, joining);
        }
        follow
    }

    pub(crate) fn resume(
        feed: &Feed,
        cursor: &FollowCursor,
        filter: EventFilter,
        options: &FollowOptions,
    ) -> Result<Self, GoneReason> {
        let inbox = Arc::new(Inbox::new(&filter, options));
        let look = || (feed.read_at(cursor.feed, cursor.event), feed.next());
        let (seat, mut there, (events, joined)) = feed.outputs().follow(&inbox, look);
        let mut crowd = Crowd::new(&inbox, options.turn_bytes);
        for stop in &cursor.containers {
            if let Some(last) = known(&there, stop, cursor.event) {
                crowd.container(&stop.id, stop.generation, last);
            }
            for (process, place) in &stop.sources {
                crowd.join(again(&mut there, stop, (*process, *place), (cursor.event, joined), &inbox));
            }
            if stop.over {
                crowd.over(&stop.id, stop.generation);
            }
        }
        let mut follow = Self::new(events?, joined, filter, inbox, seat, crowd);
        for entry in there {
            let before = |seq: &u64| *seq < cursor.event;
            // One that was there then and is not in the cursor has been read to its end, or it was not followed.
            if !entry.about.began.get().is_some_and(before) || !entry.output.has_ended() {
                let joining = fresh(&entry, follow.inbox(), From::Start);
                follow.admit(&entry.about, joining);
            } else if !entry.about.life.over.get().is_some_and(before) {
                follow.know(&entry.about);
            }
        }
        Ok(follow)
    }
}

/// What is known of the last event of a cursor's container, where one of its processes is still there.
fn known(there: &[Entry], stop: &Stop, event: u64) -> Option<Last> {
    let before = |seq: &OnceLock<u64>| seq.get().is_some_and(|seq| *seq < event);
    let mut lives = there.iter().map(|entry| &*entry.about).filter(|about| {
        let Member { container, generation, .. } = &*about.member;
        (container, *generation) == (&stop.id, stop.generation)
            && before(&about.began)
            && before(&about.life.over) == stop.over
    });
    let life = Arc::clone(&lives.next()?.life);
    // Two of the same name, of which both have ended by then: nobody knows which.
    lives.all(|other| Arc::ptr_eq(&other.life, &life)).then_some(Last::Told(life))
}

/// A source of a cursor, found among those that are `there` and taken from them, or gone.
fn again(
    there: &mut Vec<Entry>,
    stop: &Stop,
    (process, place): (ProcessId, Option<Cursor>),
    (event, joined): (u64, u64),
    inbox: &Inbox,
) -> Joining {
    let same = |entry: &Entry| {
        let Member { container, generation, process: number, .. } = &*entry.about.member;
        (container, *generation, *number) == (&stop.id, stop.generation, process)
    };
    for at in (0..there.len()).filter(|at| same(&there[*at])).collect::<Vec<_>>() {
        let entry = there[at].clone();
        let found = match place {
            Some(place) => resume(&entry, place, inbox),
            None if entry.about.began.get().is_some_and(|began| *began < event) => {
                Some(fresh(&entry, inbox, From::Start))
            }
            None => None,
        };
        if let Some(joining) = found {
            there.remove(at);
            return joining;
        }
    }
    let labels = Arc::new(BTreeMap::new());
    let member = Member { container: Arc::clone(&stop.id), labels, generation: stop.generation, process };
    Joining {
        member: Arc::new(member),
        last: Last::Before(joined),
        reader: Err(GoneWhy::Ended),
        place,
        gaps: VecDeque::new(),
    }
}

/// From `place` on, or from where it still can be had, with the difference as gaps. `None`: it is a place in something else.
fn resume(entry: &Entry, place: Cursor, inbox: &Inbox) -> Option<Joining> {
    let mut at = place;
    loop {
        match entry.output.resume(at, inbox.output()) {
            Ok(reader) => {
                let reader = if inbox.reserve() { Ok(reader) } else { Err(GoneWhy::TooMany) };
                let missing = Source::ALL.into_iter().filter(|source| at.offset(*source) > place.offset(*source));
                let gap = |source| {
                    let (from, to) = (place.offset(source), at.offset(source));
                    Gap { source, from, to, cause: GapCause::NotRetained }
                };
                return Some(Joining { gaps: missing.map(gap).collect(), ..joining(entry, reader, Some(place)) });
            }
            // By the time that is asked for it may have gone as well.
            Err(gone) if gone.reason == GoneReason::Expired => {
                for source in Source::ALL {
                    at = at.with(source, at.offset(source).max(gone.oldest.offset(source)));
                }
            }
            Err(_) => return None,
        }
    }
}
