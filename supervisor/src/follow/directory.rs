//! Who can be followed and who follows: where outputs and followers find each other.
//!
//! A process is entered when it is born, before its first byte is read and before the feed is told; a follower when it
//! begins. Both under one lock, so that of each pair exactly one side finds the other: the process gives what it finds its
//! output, the follower takes the outputs that it finds. Nobody waits here, and no reader is made under the lock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use orangery_io_stream::{SubscribeOptions, Subscriber};

use super::crowd::{Joining, Last};
use super::item::{GoneWhy, Member};
use super::options::FollowOptions;
use crate::filter::EventFilter;
use crate::ids::ProcessId;
use crate::process::output::Output;
use crate::report::Report;

/// All of one supervisor. Clones are the same one.
#[derive(Clone, Default)]
pub(crate) struct Directory(Arc<Mutex<Book>>);

#[derive(Default)]
struct Book {
    numbers: u64,
    there: BTreeMap<u64, Entry>,
    followers: BTreeMap<u64, Arc<Inbox>>,
}

/// What the feed has told of the end of an incarnation of a container. Written under the lock of the feed.
#[derive(Debug, Default)]
pub(crate) struct Life {
    /// The number of its `container_created`.
    pub(crate) created: OnceLock<u64>,
    /// The number of its last event.
    pub(crate) over: OnceLock<u64>,
    /// How its main process ended.
    pub(crate) report: OnceLock<Arc<Report>>,
}

/// A process that can be followed.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) about: Arc<About>,
    pub(super) output: Output,
}

/// What is known of it without keeping it.
#[derive(Debug)]
pub(crate) struct About {
    pub(super) member: Arc<Member>,
    pub(super) life: Arc<Life>,
    /// The number of its `process_started`. Written under the lock of the feed.
    pub(crate) began: OnceLock<u64>,
}

/// A process that was born since the follower began.
pub(super) struct Arrival {
    pub(super) about: Arc<About>,
    pub(super) reader: Result<Subscriber, GoneWhy>,
}

impl Arrival {
    pub(super) fn joining(self) -> Joining {
        let Self { about, reader } = self;
        let (member, last) = (Arc::clone(&about.member), Last::Told(Arc::clone(&about.life)));
        Joining { member, last, reader, place: None, gaps: VecDeque::new() }
    }
}

/// Where a follower hears of newcomers.
pub(super) struct Inbox {
    filter: EventFilter,
    output: SubscribeOptions,
    further: bool,
    most: usize,
    /// Sources that it has, those in here included.
    held: AtomicUsize,
    arrivals: Mutex<Vec<Arrival>>,
}

impl Inbox {
    pub(super) fn new(filter: &EventFilter, options: &FollowOptions) -> Self {
        Self {
            filter: filter.clone(),
            output: options.output,
            further: options.further,
            most: options.max_sources.max(1),
            held: AtomicUsize::new(0),
            arrivals: Mutex::default(),
        }
    }

    /// Whether this is to be followed.
    pub(super) fn wants(&self, member: &Member) -> bool {
        (self.further || member.process == ProcessId::MAIN) && self.filter.is_about(&member.container, &member.labels)
    }

    /// How it is read.
    pub(super) const fn output(&self) -> SubscribeOptions {
        self.output
    }

    /// A place for one more source, which is given back with [`Inbox::release`].
    pub(super) fn reserve(&self) -> bool {
        let more = |held: usize| (held < self.most).then_some(held + 1);
        self.held.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    pub(super) fn release(&self) {
        self.held.fetch_sub(1, Ordering::AcqRel);
    }

    pub(super) fn take(&self) -> Vec<Arrival> {
        let arrivals = std::mem::take(&mut *self.arrivals.lock().unwrap_or_else(PoisonError::into_inner));
        // Those that are not read take no place from now on.
        arrivals.iter().filter(|arrival| arrival.reader.is_err()).for_each(|_| self.release());
        arrivals
    }

    /// The output of a newcomer. Where there is no room it is not noted: its event says that it was there.
    fn arrive(&self, entry: &Entry, why_not: Option<GoneWhy>) {
        if !self.reserve() {
            return;
        }
        let from = orangery_io_stream::From::Start;
        let reader = match why_not {
            Some(why) => Err(why),
            None => Ok(entry.output.subscribe(SubscribeOptions { from, ..self.output })),
        };
        let arrival = Arrival { about: Arc::clone(&entry.about), reader };
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).push(arrival);
    }
}

impl Directory {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This process can be followed from now on, until what comes back is dropped. `lost`: those who follow now do not get
    /// it.
    pub(crate) fn enter(&self, member: Member, life: &Arc<Life>, output: &Output, lost: bool) -> Listed {
        let about = Arc::new(About { member: Arc::new(member), life: Arc::clone(life), began: OnceLock::new() });
        let entry = Entry { about: Arc::clone(&about), output: output.clone() };
        let (number, followers) = {
            let mut book = self.book();
            book.numbers += 1;
            let number = book.numbers;
            book.there.insert(number, entry.clone());
            let wanting = book.followers.values().filter(|inbox| inbox.wants(&about.member));
            (number, wanting.cloned().collect::<Vec<_>>())
        };
        followers.iter().for_each(|inbox| inbox.arrive(&entry, lost.then_some(GoneWhy::Injected)));
        Listed { directory: self.clone(), number, about }
    }

    /// A follower begins: with what is there and what it wants of it. `look` is called at the same moment.
    pub(super) fn follow<T>(&self, inbox: &Arc<Inbox>, look: impl FnOnce() -> T) -> (Seat, Vec<Entry>, T) {
        let mut book = self.book();
        book.numbers += 1;
        let number = book.numbers;
        book.followers.insert(number, Arc::clone(inbox));
        let there = book.there.values().filter(|entry| inbox.wants(&entry.about.member)).cloned().collect();
        (Seat { directory: self.clone(), number }, there, look())
    }

    /// How many followers there are, and how many sources they have all together.
    #[cfg(feature = "metrics")]
    pub(crate) fn look(&self) -> (u64, u64) {
        let book = self.book();
        let held = book.followers.values().map(|inbox| inbox.held.load(Ordering::Acquire) as u64);
        (book.followers.len() as u64, held.sum())
    }
}

/// A process is in the directory while this exists.
pub(crate) struct Listed {
    directory: Directory,
    number: u64,
    pub(crate) about: Arc<About>,
}

impl Drop for Listed {
    fn drop(&mut self) {
        let entry = self.directory.book().there.remove(&self.number);
        // Its last owner ends the output, which wakes readers: not under our lock.
        drop(entry);
    }
}

/// A follower is in the directory while this exists.
pub(super) struct Seat {
    directory: Directory,
    number: u64,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let inbox = self.directory.book().followers.remove(&self.number);
        drop(inbox);
    }
}
