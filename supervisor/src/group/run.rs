//! What a group's actor does: hears of the members, asks the tables, does what they say.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::actor::{self, Ask, GroupActor};
use super::handle::Group;
use super::member::{Member, Wish, news};
use super::slot::{GroupSlot, OwnedGroup};
use super::state::{Action, Members, News, Whole};
use crate::error::{Error, ErrorKind};
use crate::ladder::StopLadder;
use crate::recovery::GroupRecord;
use crate::report::unix_ms;
use crate::restart::{Budget, Death, Decision, GiveUp, Outcome};
use crate::service::state::{Effect, Input, ServiceState, next};
use crate::service::{BackOff, Delay, Status};
use crate::supervisor::Supervisor;

/// The longest delay: a clock cannot say more.
const LONGEST: Duration = Duration::from_secs(u32::MAX as u64);

/// A group to be.
pub(super) struct Order {
    /// Its name below those of the groups that it is in.
    pub(super) path: String,
    pub(super) name: String,
    pub(super) members: Members,
    pub(super) made: Vec<(String, Member)>,
    pub(super) budget: Budget,
    pub(super) ladder: Option<StopLadder>,
    /// A delay that is over waits for the group above.
    pub(super) held: bool,
    /// Another supervisor has begun it.
    pub(super) again: Option<Box<GroupRecord>>,
}

/// Its actor begins; nothing is started yet, unless it goes on.
///
/// # Errors
/// A group of that name is there, it cannot be written down, or the supervisor is shut down.
pub(super) async fn begin(supervisor: &Supervisor, order: Order) -> Result<Group, Error> {
    let Order { path, name, members, made, budget, ladder, held, again } = order;
    let watched = |member: &Member| Watched {
        status: member.watch(),
        from: 0,
        heard: None,
        started_in: (0, false),
        wish: Wish::default(),
    };
    let watched: Vec<_> = made.iter().map(|(_, member)| watched(member)).collect();
    let hears: Vec<_> = made.iter().map(|(_, member)| member.watch()).collect();
    // Dropped on the way, it is the last handle that is dropped.
    let slot = OwnedGroup::new(&supervisor.enroll(GroupSlot::new(path, name, made, supervisor))?);
    let goes_on = again.is_some();
    // It was detached before, or nobody would have left it.
    slot.detached.store(goes_on, Ordering::Release);
    let mut run = Run {
        slot: Arc::clone(&slot),
        members,
        watched,
        budget,
        stop: HowToStop { described: ladder, asked: Vec::new() },
        held,
        began: Instant::now(),
        since: Instant::now(),
        starting: Vec::new(),
        stopping: Vec::new(),
        goes_on,
    };
    match again {
        Some(record) => run.restore(*record),
        None => run.write_down(&run.status()).map_err(|error| {
            let what = format!("cannot write down the group {:?}", slot.path);
            orangery_runtime::Error::system(what, error).with_field("durable")
        })?,
    }
    let actor = GroupActor::new(run, supervisor.faults_of(&slot.path));
    let for_actor = Arc::clone(&slot);
    let (reply, begun) = oneshot::channel();
    supervisor.spawn(async move {
        for_actor.begin(actor, hears, goes_on);
        let _ = reply.send(());
    });
    begun.await.map_err(|_| Error::shut_down())?;
    Group::attach(slot).ok_or_else(Error::shut_down)
}

/// A member as its group hears of it.
pub(super) struct Watched {
    status: watch::Receiver<Status>,
    /// Incarnations before this one are late news.
    pub(super) from: u32,
    /// The last news, and of which incarnation.
    pub(super) heard: Option<(u32, News)>,
    /// The generation of the group that it was started in last, and whether for the first time in it.
    pub(super) started_in: (u32, bool),
    pub(super) wish: Wish,
}

/// How a member is stopped: as whoever asked says, else as the group was described, else in its own way.
pub(super) struct HowToStop {
    pub(super) described: Option<StopLadder>,
    /// Of the stop under way: the first, and the shortest of those that joined it.
    pub(super) asked: Vec<StopLadder>,
}

impl HowToStop {
    /// A stop is asked for, or joined.
    fn ask(&mut self, ladder: StopLadder) {
        match self.asked.as_mut_slice() {
            [_, shortest] => *shortest = shortest.clone().shorter(ladder),
            _ => self.asked.push(ladder),
        }
    }

    /// What a member is told, one after the other.
    fn told(&self) -> Vec<Option<StopLadder>> {
        match self.asked.is_empty() {
            true => vec![self.described.clone()],
            false => self.asked.iter().cloned().map(Some).collect(),
        }
    }
}

/// Everything that a group's actor has. It survives a panic of a handler.
pub(super) struct Run {
    pub(super) slot: Arc<GroupSlot>,
    pub(super) members: Members,
    pub(super) watched: Vec<Watched>,
    pub(super) budget: Budget,
    pub(super) stop: HowToStop,
    pub(super) held: bool,
    pub(super) began: Instant,
    /// Since when this incarnation is ready, or was begun.
    pub(super) since: Instant,
    starting: Vec<oneshot::Sender<Result<(), Error>>>,
    stopping: Vec<oneshot::Sender<()>>,
    /// Another supervisor has begun it, and nothing was done yet.
    pub(super) goes_on: bool,
}

impl Run {
    /// Hear of the members and do what follows from it.
    pub(super) fn go_on(&mut self) {
        self.look();
        self.tell_again();
        while self.act() {}
    }

    /// When its delay is over, where one is under way.
    pub(super) fn due(&self) -> Option<Instant> {
        self.status().delay.filter(|delay| !delay.shown.due).map(|delay| delay.until)
    }

    fn status(&self) -> Status {
        self.slot.status()
    }

    pub(super) fn asked(&mut self, ask: Ask) {
        match ask {
            Ask::Start(reply) => {
                if self.status().state.is_settled() {
                    self.budget.renew();
                }
                self.starting.push(reply);
                if let Effect::Refuse(why) = self.step(Input::Start) {
                    self.answer_starts(&Err(Error::new(ErrorKind::State, why)));
                }
            }
            Ask::Stop { ladder, reply } => {
                self.stopping.push(reply);
                if let Some(ladder) = ladder {
                    self.stop.ask(ladder);
                }
                self.step(Input::Stop);
                // Those that stop already hear of it too.
                for member in self.members.stopping() {
                    self.stop_member(member);
                }
            }
        }
    }

    /// One step of the table of the whole.
    fn step(&mut self, input: Input) -> Effect {
        let (after, effect) = next(self.status().state, input);
        tracing::debug!(group = %self.slot.name, ?input, ?after, "group");
        let give_up = match (input, after) {
            (Input::Died(Decision::Escalate(why)), ServiceState::Failed) if effect == Effect::Settled => Some(why),
            _ => None,
        };
        match effect {
            Effect::Create => {
                self.since = Instant::now();
                self.stop.asked.clear();
                self.members.up();
            }
            Effect::End | Effect::Abort => self.members.down(),
            _ => {}
        }
        match effect {
            Effect::Wait(delay) => self.wait(delay),
            Effect::Ignore(_) | Effect::Refuse(_) => {}
            _ => self.change(|status| {
                status.state = after;
                status.delay = None;
                status.give_up = give_up.or(status.give_up);
                if effect == Effect::Create {
                    status.generation += 1;
                    status.restarts += u64::from(input == Input::DelayOver);
                    (status.give_up, status.error) = (None, None);
                }
            }),
        }
        // Who is answered is answered for good.
        match effect {
            Effect::Runs => self.answer_starts(&Ok(())),
            Effect::Settled => self.settled(),
            _ => {}
        }
        effect
    }

    /// The whole becomes another one: first on the disk, where it outlives us, then for everybody.
    fn change(&self, change: impl Fn(&mut Status)) {
        let mut status = self.status();
        change(&mut status);
        self.note(&status);
        self.slot.publish(change);
    }

    /// Some microseconds on this thread, so that nothing older comes after it.
    fn write_down(&self, status: &Status) -> io::Result<()> {
        match self.slot.state_dir() {
            Some(state) => state.write_group(&self.record(status)),
            None => Ok(()),
        }
    }

    fn note(&self, status: &Status) {
        if let Err(error) = self.write_down(status) {
            tracing::error!(group = %self.slot.path, %error, "its record is an older one");
        }
    }

    fn wait(&mut self, delay: Duration) {
        let delay = delay.min(LONGEST);
        let shown = BackOff { delay, until_ms: unix_ms(SystemTime::now() + delay), due: false };
        let delay = Delay { shown, until: Instant::now() + delay };
        self.change(|status| {
            (status.state, status.delay) = (ServiceState::BackOff, Some(delay));
        });
    }

    pub(super) fn delay_over(&mut self) {
        if self.held {
            self.slot.publish(|status| {
                if let Some(delay) = &mut status.delay {
                    delay.shown.due = true;
                }
            });
        } else {
            self.step(Input::DelayOver);
        }
    }

    fn settled(&mut self) {
        let error = self.status().error;
        let stopped = || Error::new(ErrorKind::State, "the group was stopped, or has ended");
        self.answer_starts(&Err(error.unwrap_or_else(stopped)));
        for waiter in self.stopping.drain(..) {
            let _ = waiter.send(());
        }
    }

    fn answer_starts(&mut self, answer: &Result<(), Error>) {
        for waiter in self.starting.drain(..) {
            let _ = waiter.send(answer.clone());
        }
    }

    /// Hear of every member.
    pub(super) fn look(&mut self) {
        for (index, member) in self.watched.iter_mut().enumerate() {
            let status = member.status.borrow_and_update();
            let from = if member.wish.is_idle() { status.generation } else { member.from };
            let heard = news(&status, from).map(|news| (status.generation, news));
            drop(status);
            // Once: the same may mean another thing later, when it was acted upon.
            if heard != member.heard {
                member.heard = heard;
                if let Some((_, news)) = heard {
                    self.members.heard(index, news);
                }
            }
        }
    }

    /// Do what the tables say; `false`: nothing.
    fn act(&mut self) -> bool {
        let actions = self.members.next();
        for action in &actions {
            if let Action::Start(index) = *action {
                self.expect(index);
            }
        }
        if !actions.is_empty() {
            // Before a member hears of it: whoever is killed in between is not taken for one who wanted something else.
            self.note(&self.status());
        }
        for action in &actions {
            match *action {
                Action::Start(index) => self.ask_for(index),
                Action::Stop(index) => self.stop_member(index),
            }
        }
        !actions.is_empty() || self.judge()
    }

    /// What is heard of it from now on is of the incarnation that is going to be asked for.
    fn expect(&mut self, index: usize) {
        let generation = self.status().generation;
        let Some(watched) = self.watched.get_mut(index) else { return };
        watched.from = watched.status.borrow().generation + 1;
        watched.heard = None;
        watched.started_in = (generation, watched.started_in.0 != generation);
    }

    /// It was asked for, and has not come so far.
    pub(super) fn awaits_start(&self, index: usize) -> bool {
        self.watched.get(index).is_some_and(|watched| watched.status.borrow().generation < watched.from)
    }

    pub(super) fn ask_for(&self, index: usize) {
        let (Some(watched), Some((_, member))) = (self.watched.get(index), self.slot.members.get(index)) else {
            return;
        };
        let fresh = watched.started_in.1;
        let (started, slot) = (member.start(fresh, &watched.wish), Arc::downgrade(&self.slot));
        tokio::spawn(async move {
            // Its status will not tell.
            if !started.await
                && let Some(slot) = slot.upgrade()
                && let Some(actor) = slot.actor.get()
            {
                actor.do_send(actor::News);
            }
        });
    }

    pub(super) fn stop_member(&self, index: usize) {
        let (Some(watched), Some((_, member))) = (self.watched.get(index), self.slot.members.get(index)) else {
            return;
        };
        for ladder in self.stop.told() {
            tokio::spawn(member.stop(ladder, &watched.wish));
        }
    }

    /// What the members have come to is an input of the whole.
    fn judge(&mut self) -> bool {
        let state = self.status().state;
        let up = matches!(state, ServiceState::Starting | ServiceState::Running);
        match self.members.whole() {
            Whole::Ready | Whole::Over if state == ServiceState::Starting => {
                self.since = Instant::now();
                self.step(Input::Started);
            }
            Whole::Over if up => {
                self.step(Input::Died(Decision::Done));
            }
            Whole::Down if state == ServiceState::Stopping => {
                self.step(Input::Died(Decision::Done));
            }
            Whole::Failed(member, why) if up => {
                let decision = self.account(member, why);
                self.step(Input::Died(decision));
            }
            _ => return false,
        }
        true
    }

    /// Write the failure of a member down and decide what follows.
    fn account(&mut self, member: usize, why: GiveUp) -> Decision {
        let name = self.slot.members.get(member).map_or("", |(name, _)| name);
        let cause = self.watched.get(member).and_then(|member| member.status.borrow().error.clone());
        let error =
            cause.unwrap_or_else(|| Error::new(ErrorKind::State, format!("the member {name:?} has failed: {why:?}")));
        let death = Death::unreported(self.status().generation, &error);
        self.budget.count(death);
        let tally: Arc<VecDeque<Death>> = self.budget.tally();
        self.slot.publish(|status| (status.error, status.tally) = (Some(error), tally));
        if matches!(why, GiveUp::Permanent | GiveUp::SupervisorFault) {
            return Decision::Escalate(why);
        }
        let decided = self.budget.decide(self.began.elapsed(), self.since.elapsed(), (Outcome::Failed, true));
        match decided {
            Decision::Done => Decision::Escalate(GiveUp::Member),
            decided => decided,
        }
    }
}
