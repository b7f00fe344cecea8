//! Containers that exist only as a voice and a hub, against a plain account of what was told and written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_executor::block_on;
use futures_util::StreamExt as _;
use orangery_io_stream::{EndInfo, Generation, HubOptions, Overflow, Source, SubscribeOptions};
use proptest::prelude::*;

use super::directory::Listed;
use super::*;
use crate::events::{Feed, Kind, Since, Voice};
use crate::filter::EventFilter;
use crate::ids::ProcessId;
use crate::process::output::Output;

fn labels(value: &str) -> Arc<BTreeMap<String, String>> {
    Arc::new(BTreeMap::from([("of".to_owned(), value.to_owned())]))
}

fn wanted() -> EventFilter {
    EventFilter::new().label("of", "a")
}

/// What stands at this place of every stream.
fn byte(source: Source, offset: u64) -> u8 {
    (offset % 251) as u8 ^ if source == Source::Stdout { 0 } else { 101 }
}

/// One incarnation of a container, as its supervisor has it.
struct Life {
    voice: Voice,
    output: Output,
    listed: Option<Listed>,
    written: BTreeMap<Source, u64>,
}

impl Life {
    fn new(feed: &Feed, id: &str, of: &str, generation: u32, ring_bytes: usize) -> Self {
        let options = HubOptions { ring_bytes, generation: Generation(generation), ..HubOptions::default() };
        let voice = feed.voice().of(id, &labels(of), generation);
        voice.tell(None, Kind::ContainerCreated { cgroup_mode: String::new(), create_us: 1 }, None);
        let written = Source::ALL.into_iter().map(|source| (source, 0)).collect();
        Self { voice, output: Output::new(options), listed: None, written }
    }

    fn start(mut self, lost: bool) -> Self {
        let kind = Kind::ProcessStarted { pid: 1, start_us: 1 };
        self.listed = Some(self.voice.tell_start(ProcessId::MAIN, kind, &self.output, lost));
        self
    }

    fn write(&mut self, source: Source, bytes: u64) {
        let at = self.written.get_mut(&source).unwrap();
        let data: Vec<u8> = (*at..*at + bytes).map(|offset| byte(source, offset)).collect();
        *at += bytes;
        assert!(block_on(self.output.hub.publish(source, data.into())));
    }

    fn end(&self) {
        self.output.hub.close(EndInfo::default());
        let report = Arc::new(crate::report::example());
        self.voice.tell(Some(ProcessId::MAIN), Kind::ProcessEnded { report }, None);
        self.voice.tell(None, Kind::ContainerRemoved, None);
    }
}

/// What comes without waiting.
fn next(follow: &mut Follow) -> Option<Item> {
    match follow.poll_next_unpin(&mut Context::from_waker(futures_util::task::noop_waker_ref())) {
        Poll::Ready(item) => item,
        Poll::Pending => None,
    }
}

fn all(follow: &mut Follow) -> Vec<Item> {
    std::iter::from_fn(|| next(follow)).collect()
}

/// An item in short.
fn brief(item: &Item) -> String {
    match item {
        Item::Event(event) => format!("{} {}", event.container.as_deref().unwrap_or("-"), event.kind.name()),
        Item::Lagged { missed } => format!("lagged {missed}"),
        Item::Chunk { member, chunk } => format!("{} +{}", member.container, chunk.data.len()),
        Item::Gap { member, gap } => format!("{} gap {}..{}", member.container, gap.from, gap.to),
        Item::Disconnected { member, .. } => format!("{} disconnected", member.container),
        Item::Gone { member, why } => format!("{} gone {why:?}", member.container),
        Item::Closed { member, .. } => format!("{} closed", member.container),
        Item::End { container, report, .. } => format!("{container} end {}", report.is_some()),
    }
}

fn briefs(follow: &mut Follow) -> Vec<String> {
    all(follow).iter().map(brief).collect()
}

fn again(feed: &Feed, follow: Follow, options: &FollowOptions) -> Follow {
    let text = follow.cursor().to_string();
    drop(follow);
    Follow::resume(feed, &text.parse().unwrap(), wanted(), options).unwrap()
}

#[test]
fn the_story_of_one_that_was_there_and_one_that_comes() {
    let feed = Feed::new(100);
    let mut early = Life::new(&feed, "early", "a", 1, 100).start(false);
    let _other = Life::new(&feed, "other", "b", 1, 100).start(false);
    early.write(Source::Stdout, 5);
    let mut follow = Follow::begin(&feed, wanted(), &FollowOptions::default());
    early.write(Source::Stdout, 6);
    assert_eq!(briefs(&mut follow), ["early +5", "early +6"]);
    let mut late = Life::new(&feed, "late", "a", 1, 100).start(false);
    late.write(Source::Stderr, 7);
    early.end();
    late.end();
    drop((early, late));
    let told = briefs(&mut follow);
    let of = |id: &str| told.iter().filter_map(|line| line.strip_prefix(id)).collect::<Vec<_>>();
    assert_eq!(of("early "), ["closed", "process_ended", "container_removed", "end true"]);
    let late =
        ["container_created", "process_started", "+7", "process_ended", "closed", "container_removed", "end true"];
    let mut sorted = of("late ");
    assert!(sorted.iter().position(|line| *line == "+7") > sorted.iter().position(|line| *line == "process_started"));
    assert_eq!(sorted.last(), Some(&"end true"));
    sorted.sort_unstable();
    assert_eq!(sorted, {
        let mut late = late;
        late.sort_unstable();
        late
    });
    assert_eq!(follow.cursor().sources(), 0);
    feed.close();
    assert_eq!(block_on(follow.recv()), None);
}

#[test]
fn the_oldest_events_of_those_that_have_gone_name_what_nobody_keeps() {
    let feed = Feed::new(100);
    let gone = Life::new(&feed, "gone", "a", 1, 100).start(false);
    gone.end();
    drop(gone);
    let failed = Life::new(&feed, "failed", "a", 1, 100);
    let failure = crate::events::Failure { stage: None, errno: None, why: String::new() };
    failed.voice.tell(None, Kind::ContainerFailed(failure), None);
    let options = FollowOptions { since: Since::Oldest, ..FollowOptions::default() };
    let mut follow = Follow::begin(&feed, wanted(), &options);
    let told = briefs(&mut follow);
    assert_eq!(told[..3], ["gone container_created", "gone process_started", "gone gone Ended"]);
    assert_eq!(told[3..6], ["gone process_ended", "gone container_removed", "gone end true"]);
    assert_eq!(told[6..], ["failed container_created", "failed container_failed", "failed end false"]);
}

#[test]
fn no_more_than_were_asked_for_and_the_others_are_named() {
    let feed = Feed::new(100);
    let mut lives: Vec<_> = (0..3).map(|n| Life::new(&feed, &format!("c{n}"), "a", 1, 100).start(false)).collect();
    let options = FollowOptions { max_sources: 2, ..FollowOptions::default() };
    let mut follow = Follow::begin(&feed, wanted().kind("none"), &options);
    lives.iter_mut().for_each(|life| life.write(Source::Stdout, 3));
    assert_eq!(briefs(&mut follow), ["c2 gone TooMany", "c0 +3", "c1 +3"]);
    lives.push(Life::new(&feed, "c3", "a", 1, 100).start(false));
    assert_eq!(briefs(&mut follow), ["c3 gone TooMany"]);
    lives[0].end();
    assert_eq!(briefs(&mut follow), ["c0 closed", "c0 end true"]);
    // There is room again, and a follower that is resumed takes who was not followed from the beginning.
    let mut follow = again(&feed, follow, &options);
    assert_eq!(briefs(&mut follow), ["c3 gone TooMany", "c2 +3"]);
    lives.push(Life::new(&feed, "c4", "a", 1, 100).start(false));
    assert_eq!(briefs(&mut follow).last().unwrap(), "c4 gone TooMany");
}

/// Its last event is among what is missed: of one that never started, and of one that is not followed.
#[test]
fn who_was_seen_has_an_end_however_slow_the_follower_is() {
    let feed = Feed::new(4);
    let options = FollowOptions { max_sources: 1, ..FollowOptions::default() };
    let mut follow = Follow::begin(&feed, wanted(), &options);
    let (_read, unread) =
        (Life::new(&feed, "r", "a", 1, 100).start(false), Life::new(&feed, "u", "a", 1, 100).start(false));
    let brief = briefs(&mut follow);
    assert_eq!(brief.last().unwrap(), "u gone TooMany");
    let failing = Life::new(&feed, "f", "a", 1, 100);
    assert_eq!(briefs(&mut follow), ["f container_created"]);
    let failure = crate::events::Failure { stage: None, errno: None, why: String::new() };
    failing.voice.tell(None, Kind::ContainerFailed(failure), None);
    unread.end();
    // Another one has its name by now, and is told apart from it.
    drop(unread);
    let _again = Life::new(&feed, "u", "a", 1, 100);
    (0..4).for_each(|_| feed.voice().tell(None, Kind::KeeperLost, None));
    assert_eq!(briefs(&mut follow), ["lagged 4", "u end true", "f end false"]);
}

#[test]
fn a_name_that_is_used_again_is_told_apart() {
    let feed = Feed::new(100);
    let mut follow = Follow::begin(&feed, wanted().kind("none"), &FollowOptions::default());
    let mut first = Life::new(&feed, "x", "a", 1, 100).start(false);
    first.write(Source::Stdout, 1);
    first.end();
    let mut second = Life::new(&feed, "x", "a", 1, 100).start(false);
    second.write(Source::Stdout, 2);
    drop(first);
    let mut late = Follow::begin(&feed, wanted().kind("none"), &FollowOptions::default());
    assert_eq!(briefs(&mut follow), ["x +1", "x closed", "x end true", "x +2"]);
    assert_eq!(briefs(&mut late), ["x +2"]);
    let mut follow = again(&feed, follow, &FollowOptions::default());
    second.write(Source::Stdout, 3);
    second.end();
    let told: Vec<_> = briefs(&mut follow).into_iter().filter(|line| !line.contains('_')).collect();
    assert_eq!(told, ["x +3", "x closed", "x end true"]);
}

#[test]
fn what_was_injected_and_what_was_too_slow_is_said() {
    let feed = Feed::new(100);
    let output = SubscribeOptions { queue_bytes: 4, overflow: Overflow::Disconnect, ..SubscribeOptions::default() };
    let options = FollowOptions { output, max_sources: 1, ..FollowOptions::default() };
    let mut follow = Follow::begin(&feed, wanted().kind("none"), &options);
    let lost = Life::new(&feed, "lost", "a", 1, 100).start(true);
    assert_eq!(briefs(&mut follow), ["lost gone Injected"]);
    let mut slow = Life::new(&feed, "slow", "a", 1, 100).start(false);
    slow.write(Source::Stdout, 3);
    slow.write(Source::Stdout, 3);
    assert_eq!(briefs(&mut follow), ["slow +3", "slow disconnected"]);
    lost.end();
    let mut follow = again(&feed, follow, &options);
    let told: Vec<_> = briefs(&mut follow).into_iter().filter(|line| line.starts_with("slow")).collect();
    assert_eq!(told, ["slow +3"], "it goes on where it was");
    slow.write(Source::Stdout, 3);
    slow.write(Source::Stdout, 3);
    slow.end();
    assert_eq!(briefs(&mut follow).last().unwrap(), "slow end true");
    assert_eq!(follow.cursor().sources(), 0);
}

#[test]
fn a_flood_holds_up_nobody_for_longer_than_its_turn() {
    let feed = Feed::new(100);
    let mut follow = Follow::begin(&feed, wanted().kind("none"), &FollowOptions::default());
    let mut noisy = Life::new(&feed, "noisy", "a", 1, 100).start(false);
    let mut quiet = Life::new(&feed, "quiet", "a", 1, 100).start(false);
    let fill = |noisy: &mut Life| (0..200).for_each(|_| noisy.write(Source::Stdout, 1000));
    fill(&mut noisy);
    assert_eq!(brief(&next(&mut follow).unwrap()), "noisy +1000");
    for _ in 0..100 {
        fill(&mut noisy);
        quiet.write(Source::Stdout, 10);
        let before = std::iter::from_fn(|| next(&mut follow)).take_while(|item| !brief(item).starts_with("quiet"));
        assert!(before.count() <= 17, "16 KiB in pieces of 1,000 bytes");
    }
    // And none of the quiet one's bytes were lost, while the noisy one's queue ran over.
    assert!(all(&mut follow).iter().all(|item| !brief(item).starts_with("quiet gap")));
}

#[test]
fn a_follower_that_waits_is_woken_by_an_event_and_by_a_byte_and_leaves_nothing() {
    let feed = Feed::new(100);
    let mut follow = Follow::begin(&feed, wanted().kind("none"), &FollowOptions::default());
    let (told, heard) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        while let Some(item) = block_on(follow.recv()) {
            told.send(brief(&item)).unwrap();
        }
    });
    let mut life = Life::new(&feed, "x", "a", 1, 100).start(false);
    for bytes in 1..100 {
        life.write(Source::Stdout, bytes);
        assert_eq!(heard.recv().unwrap(), format!("x +{bytes}"));
    }
    life.end();
    assert_eq!((heard.recv().unwrap(), heard.recv().unwrap()), ("x closed".into(), "x end true".into()));
    feed.close();
    thread.join().unwrap();
    assert_eq!(life.output.hub.subscribers(), 0);
    drop(life);
    assert_eq!(feed.outputs().look(), (0, 0));
}

#[test]
fn a_cursor_of_another_supervisor_is_foreign_and_one_of_tomorrow_is_ahead() {
    let feed = Feed::new(100);
    let options = FollowOptions::default();
    let mut cursor = Follow::begin(&feed, wanted(), &options).cursor();
    let resume = |feed: &Feed, cursor: &FollowCursor| Follow::resume(feed, cursor, wanted(), &options).map(drop);
    assert_eq!(resume(&Feed::new(1), &cursor), Err(orangery_io_stream::GoneReason::Foreign));
    cursor.event += 1;
    assert_eq!(resume(&feed, &cursor), Err(orangery_io_stream::GoneReason::Ahead));
    assert_eq!(feed.outputs().look(), (0, 0));
}

/// What a random run does next.
#[derive(Clone, Debug)]
enum Step {
    Create { id: u8, ours: bool },
    Fail,
    Write { which: u8, stderr: bool, bytes: u8 },
    End { which: u8, forget: bool },
    Forget { which: u8 },
    Read { items: u8 },
    Cut,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..4_u8, prop::bool::weighted(0.8)).prop_map(|(id, ours)| Step::Create { id, ours }),
        1 => Just(Step::Fail),
        8 => (any::<u8>(), any::<bool>(), 1..20_u8).prop_map(|(which, stderr, bytes)| Step::Write { which, stderr, bytes }),
        2 => (any::<u8>(), any::<bool>()).prop_map(|(which, forget)| Step::End { which, forget }),
        1 => any::<u8>().prop_map(|which| Step::Forget { which }),
        6 => (0..12_u8).prop_map(|items| Step::Read { items }),
        3 => Just(Step::Cut),
    ]
}

/// What one incarnation has come to, as the reader of the items knows it.
#[derive(Debug, Default)]
struct Account {
    at: BTreeMap<Source, u64>,
    started: bool,
    /// Its output has ended, or is gone.
    shut: bool,
    gone: bool,
    removed: bool,
    over: bool,
}

/// The plain account: what was told and written, and what was handed out of it.
#[derive(Default)]
struct Books {
    lives: Vec<(u32, bool, bool, Life)>,
    generation: u32,
    /// Numbers of the events that are wanted.
    told: BTreeSet<u64>,
    seen: u64,
    accounts: BTreeMap<u32, Account>,
    lagged: bool,
    cuts: u32,
}

impl Books {
    /// One more item, and the number of the event behind it.
    fn take(&mut self, item: &Item, behind: u64) -> Result<(), TestCaseError> {
        match item {
            Item::Event(event) => {
                let skipped = self.told.range(self.seen..event.seq).count();
                prop_assert!(event.seq >= self.seen && skipped == 0, "{event:?} behind {}", self.seen);
                self.seen = event.seq + 1;
                let account = self.accounts.entry(event.generation).or_default();
                account.started |= event.kind.name() == "process_started";
                account.removed |= matches!(event.kind.name(), "container_removed" | "container_failed");
            }
            Item::Lagged { missed } => {
                prop_assert!(*missed > 0 && behind >= self.seen + missed);
                (self.seen, self.lagged) = (behind, true);
            }
            Item::Chunk { member, chunk } => {
                let account = self.of(member)?;
                let at = account.at.entry(chunk.source).or_default();
                prop_assert_eq!(*at, chunk.offset, "a hole or a duplicate");
                let right = (chunk.offset..).zip(&chunk.data).all(|(at, have)| *have == byte(chunk.source, at));
                prop_assert!(right, "other bytes");
                *at = chunk.end();
            }
            Item::Gap { member, gap } => {
                let at = self.of(member)?.at.entry(gap.source).or_default();
                prop_assert_eq!(*at, gap.from, "a hole or a duplicate");
                *at = gap.to;
            }
            Item::Closed { member, end } => {
                let account = self.of(member)?;
                for source in Source::ALL {
                    prop_assert_eq!(account.at.get(&source).copied().unwrap_or(0), end.totals(source).bytes);
                }
                account.shut = true;
            }
            Item::Gone { member, .. } => {
                let account = self.of(member)?;
                (account.shut, account.gone) = (true, true);
            }
            Item::Disconnected { .. } => prop_assert!(false, "nobody asked for that"),
            Item::End { generation, report, .. } => {
                let lagged = self.lagged;
                let account = self.accounts.entry(*generation).or_default();
                prop_assert!(!account.over, "a second end");
                prop_assert!(lagged || account.removed && (account.shut || !account.started), "{account:?}");
                // Of one that had ended before a cut it was in an event.
                let known = account.started == report.is_some() || self.cuts > 0 && report.is_none();
                prop_assert!(lagged || known, "{report:?}");
                account.over = true;
            }
        }
        Ok(())
    }

    fn of(&mut self, member: &Member) -> Result<&mut Account, TestCaseError> {
        let lagged = self.lagged;
        let account = self.accounts.entry(member.generation).or_default();
        prop_assert!(account.started || lagged, "its bytes before its start");
        prop_assert!(!account.shut && !account.over, "behind its end");
        Ok(account)
    }

    fn create(&mut self, feed: &Feed, id: &str, ours: bool, ring: usize) {
        self.generation += 1;
        let from = feed.next();
        let life = Life::new(feed, id, if ours { "a" } else { "b" }, self.generation, ring).start(false);
        self.note(ours, from..feed.next());
        self.lives.push((self.generation, ours, true, life));
    }

    fn note(&mut self, ours: bool, events: std::ops::Range<u64>) {
        if ours {
            self.told.extend(events);
        }
    }

    fn step(&mut self, feed: &Feed, step: &Step, ring: usize) {
        let running: Vec<usize> = (0..self.lives.len()).filter(|at| self.lives[*at].2).collect();
        let pick = |which: u8| running.get(usize::from(which) % running.len().max(1)).copied();
        let from = feed.next();
        match step {
            Step::Create { id, ours } => self.create(feed, &format!("c{id}"), *ours, ring),
            Step::Fail => {
                self.generation += 1;
                let failed = Life::new(feed, "f", "a", self.generation, ring);
                let failure = crate::events::Failure { stage: None, errno: None, why: String::new() };
                failed.voice.tell(None, Kind::ContainerFailed(failure), None);
                self.note(true, from..feed.next());
            }
            Step::Write { which, stderr, bytes } => {
                let source = if *stderr { Source::Stderr } else { Source::Stdout };
                if let Some(at) = pick(*which) {
                    self.lives[at].3.write(source, u64::from(*bytes));
                }
            }
            Step::End { which, forget } => {
                let Some(at) = pick(*which) else { return };
                self.lives[at].2 = false;
                self.lives[at].3.end();
                self.note(self.lives[at].1, from..feed.next());
                if *forget {
                    self.lives.remove(at);
                }
            }
            Step::Forget { which } => {
                let ended: Vec<usize> = (0..self.lives.len()).filter(|at| !self.lives[*at].2).collect();
                if let Some(at) = ended.get(usize::from(*which) % ended.len().max(1)) {
                    self.lives.remove(*at);
                }
            }
            Step::Read { .. } | Step::Cut => {}
        }
    }
}

fn run(
    steps: &[Step],
    ring: usize,
    queue_bytes: usize,
    history: usize,
    turn_bytes: usize,
) -> Result<(), TestCaseError> {
    let feed = Feed::new(history);
    let output = SubscribeOptions { queue_bytes, ..SubscribeOptions::default() };
    let options = FollowOptions { output, turn_bytes, ..FollowOptions::default() };
    let mut follow = Follow::begin(&feed, wanted(), &options);
    let mut books = Books::default();
    for step in steps {
        match step {
            Step::Read { items } => {
                for _ in 0..*items {
                    let Some(item) = next(&mut follow) else { break };
                    books.take(&item, follow.cursor().event)?;
                }
            }
            Step::Cut => (follow, books.cuts) = (again(&feed, follow, &options), books.cuts + 1),
            step => books.step(&feed, step, ring),
        }
    }
    for at in 0..books.lives.len() {
        if books.lives[at].2 {
            let from = feed.next();
            books.lives[at].3.end();
            books.note(books.lives[at].1, from..feed.next());
        }
    }
    feed.close();
    while let Some(item) = block_on(follow.recv()) {
        books.take(&item, follow.cursor().event)?;
    }
    prop_assert!(books.lagged || books.told.range(books.seen..).next().is_none(), "events are missing");
    prop_assert_eq!(follow.cursor().containers.len(), 0);
    for account in books.accounts.values() {
        // Behind a lag the end of one is missed that no cursor names.
        let missed = books.lagged && books.cuts > 0;
        prop_assert!(missed || account.over && (account.shut || !account.started), "{account:?}");
        prop_assert!(!account.gone || books.cuts > 0, "nothing is gone for who stays: {account:?}");
    }
    let ours = books.accounts.keys().copied().collect::<BTreeSet<_>>();
    prop_assert!(books.lagged || books.lives.iter().all(|(generation, own, ..)| ours.contains(generation) == *own));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever is made, written, ended and forgotten, and wherever it is cut and resumed: received bytes and gaps join
    /// without a hole, events come in order without one, everything that ended has ended once and last.
    #[test]
    fn a_follower_gives_a_true_account(
        steps in proptest::collection::vec(step(), 1..120),
        ring in prop_oneof![Just(0), Just(40), Just(1 << 20)],
        queue in prop_oneof![Just(1), Just(1 << 20)],
        history in prop_oneof![Just(4), Just(1000)],
        turn in 1..2000_usize,
    ) {
        run(&steps, ring, queue, history, turn)?;
    }
}
