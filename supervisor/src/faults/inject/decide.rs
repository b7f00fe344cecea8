//! Who is hit by what, and when: told what happens, in the order in which it does, under whatever locks that is told. Pure but
//! for the channel that its orders go into: no clock, no container, no actor.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use orangery_io_stream::Source;
use tokio::sync::{mpsc, oneshot, watch};

use super::count::{Counter, Happening};
use crate::faults::held::{Held, Hold};
use crate::faults::plan::{Draw, FaultKind, Meets, Pick, Plan, PlanOf, PlannedFault, sub_seed};

/// An incarnation of a container.
pub(super) type Key = (Arc<str>, u32);

/// Whom a fault is about.
#[derive(Clone, Debug)]
pub(super) struct Whom {
    pub(super) key: Key,
    pub(super) labels: Arc<BTreeMap<String, String>>,
    /// Says `true` when its main process has ended; closed when nothing of it is left.
    pub(super) ended: watch::Receiver<bool>,
}

/// What is to be done, for somebody who can.
#[derive(Debug)]
pub(super) enum Order {
    /// Apply this fault, and revert it in the end. It holds already what it is to hold.
    Apply(usize, Whom, Option<Hold>),
    /// This fault was applied in passing, and is over.
    Applied(usize, Whom),
    /// This fault does not happen.
    Skip(usize, Option<Whom>, &'static str),
    /// Read its output, and tell.
    Read(Whom),
}

/// What is known of a container.
#[derive(Debug)]
struct Known {
    labels: Arc<BTreeMap<String, String>>,
    /// In the order in which they came.
    number: u64,
    ended: watch::Sender<bool>,
    running: bool,
    /// Faults that wait for its start.
    due: Vec<usize>,
    /// Faults that wait for it to come by.
    marks: Vec<usize>,
    stalled: Vec<(Source, watch::Receiver<()>)>,
}

impl Known {
    fn has_ended(&self) -> bool {
        *self.ended.borrow()
    }

    fn whom(&self, key: &Key) -> Whom {
        Whom { key: key.clone(), labels: Arc::clone(&self.labels), ended: self.ended.subscribe() }
    }
}

/// How far a fault is.
#[derive(Debug)]
struct Progress {
    seed: u64,
    seen: Counter,
    taken: u32,
}

/// Something that waits for its end.
#[derive(Debug)]
struct Until {
    fault: usize,
    seen: Counter,
    over: oneshot::Sender<()>,
}

/// Decides for one plan.
#[derive(Debug)]
pub(super) struct Decider {
    plan: Arc<Plan>,
    progress: Vec<Progress>,
    known: HashMap<Key, Known>,
    numbers: u64,
    untils: Vec<Until>,
    orders: mpsc::UnboundedSender<Order>,
    closed: bool,
}

impl Decider {
    pub(super) fn new(plan: Arc<Plan>, orders: mpsc::UnboundedSender<Order>) -> Self {
        let of = |fault: &PlannedFault| Progress {
            seed: sub_seed(plan.seed, &fault.name),
            seen: Counter::default(),
            taken: 0,
        };
        let progress = plan.faults.iter().map(of).collect();
        Self { plan, progress, known: HashMap::new(), numbers: 0, untils: Vec::new(), orders, closed: false }
    }

    /// Decide nothing any more. What was never taken, and what waits for something that will not come any more, is skipped.
    pub(super) fn close(&mut self) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        self.untils.clear();
        let never = self.progress.iter().enumerate().filter(|(_, progress)| progress.taken == 0);
        let mut left: Vec<_> = never.map(|(fault, _)| (fault, None, "nothing has triggered it")).collect();
        for (key, known) in &mut self.known {
            let waiting = std::mem::take(&mut known.due).into_iter().chain(std::mem::take(&mut known.marks));
            let waiting: Vec<usize> = waiting.collect();
            let why = "the plan ended before the container came to it";
            left.extend(waiting.into_iter().map(|fault| (fault, Some(known.whom(key)), why)));
        }
        left.sort_by_key(|(fault, whom, _)| (*fault, whom.as_ref().map(|whom| whom.key.clone())));
        for (fault, whom, why) in left {
            self.order(Order::Skip(fault, whom, why));
        }
    }

    fn order(&self, order: Order) {
        let _ = self.orders.send(order);
    }

    /// A container is accepted.
    pub(super) fn accepted(&mut self, key: &Key, labels: &BTreeMap<String, String>) {
        if self.closed {
            return;
        }
        self.learn(key, labels);
        self.happened(Happening::Accepted { again: key.1 > 1 }, Some(key));
    }

    /// There is such a container.
    pub(super) fn learn(&mut self, key: &Key, labels: &BTreeMap<String, String>) {
        let number = self.numbers;
        self.known.entry(key.clone()).or_insert_with(|| Known {
            labels: Arc::new(labels.clone()),
            number,
            ended: watch::Sender::new(false),
            running: false,
            due: Vec::new(),
            marks: Vec::new(),
            stalled: Vec::new(),
        });
        self.numbers += 1;
    }

    /// Everything that was there is known.
    pub(super) fn armed(&mut self) {
        self.happened(Happening::Armed, None);
    }

    /// Its main process runs.
    pub(super) fn started(&mut self, key: &Key) {
        let Some(known) = self.known.get_mut(key).filter(|known| !known.running && !known.has_ended()) else { return };
        known.running = true;
        let whom = known.whom(key);
        let due = std::mem::take(&mut known.due);
        let of_birth = |fault: &usize| self.plan.faults[*fault].kind.meets() == Meets::Birth;
        let (missed, marks) = std::mem::take(&mut known.marks).into_iter().partition(of_birth);
        known.marks = marks;
        let read = self.plan.faults.iter().any(|fault| {
            let reads = fault.trigger.reads() || fault.until.as_ref().is_some_and(|until| until.reads());
            reads && fault.target.matches(&whom.key.0, &whom.labels)
        });
        let missed: Vec<usize> = missed;
        for fault in missed {
            self.order(Order::Skip(fault, Some(whom.clone()), "its plan has no such step"));
        }
        for fault in due {
            self.order(Order::Apply(fault, whom.clone(), None));
        }
        if read && !self.closed {
            self.order(Order::Read(whom));
        }
    }

    /// Its main process has ended.
    pub(super) fn exited(&mut self, key: &Key) {
        let Some(known) = self.known.get_mut(key).filter(|known| !known.has_ended()) else { return };
        known.running = false;
        known.stalled.clear();
        known.ended.send_replace(true);
        self.happened(Happening::Exited, Some(key));
    }

    /// It had ended before the plan was armed.
    pub(super) fn ended_before(&mut self, key: &Key) {
        if let Some(known) = self.known.get_mut(key) {
            known.running = false;
            known.ended.send_replace(true);
        }
    }

    /// Nothing of it is left.
    pub(super) fn gone(&mut self, key: &Key) {
        let Some(known) = self.known.remove(key) else { return };
        for fault in known.due.iter().chain(&known.marks) {
            self.order(Order::Skip(*fault, Some(known.whom(key)), "the container ended before it came to it"));
        }
        let counters = self.progress.iter_mut().map(|progress| &mut progress.seen);
        counters.chain(self.untils.iter_mut().map(|until| &mut until.seen)).for_each(|seen| seen.forget(known.number));
    }

    /// Its output has come so far.
    pub(super) fn output(&mut self, key: &Key, source: Source, upto: u64) {
        self.happened(Happening::Output(source, upto), Some(key));
    }

    /// It has written a line.
    pub(super) fn line(&mut self, key: &Key, source: Source, text: &[u8]) {
        self.happened(Happening::Line(source, text), Some(key));
    }

    /// Ready when what ends this fault has happened, from now on.
    pub(super) fn until(&mut self, fault: usize) -> oneshot::Receiver<()> {
        let (over, receiver) = oneshot::channel();
        self.untils.retain(|until| !until.over.is_closed());
        self.untils.push(Until { fault, seen: Counter::default(), over });
        receiver
    }

    fn happened(&mut self, happening: Happening<'_>, about: Option<&Key>) {
        let number = match about {
            Some(key) => match self.known.get(key) {
                Some(known) => known.number,
                None => return,
            },
            None => 0,
        };
        if self.closed {
            return;
        }
        self.end(happening, about, number);
        for fault in 0..self.plan.faults.len() {
            if self.is_about(fault, about)
                && let Some(draw) = self.occasion(fault, happening, number)
            {
                self.fire(fault, about, draw);
            }
        }
    }

    fn is_about(&self, fault: usize, about: Option<&Key>) -> bool {
        let Some(key) = about else { return true };
        self.known.get(key).is_some_and(|known| self.plan.faults[fault].target.matches(&key.0, &known.labels))
    }

    /// End what was to last until this.
    fn end(&mut self, happening: Happening<'_>, about: Option<&Key>, number: u64) {
        for mut until in std::mem::take(&mut self.untils) {
            let planned = &self.plan.faults[until.fault];
            let trigger = planned.until.as_ref().filter(|_| self.is_about(until.fault, about));
            let come = trigger.is_some_and(|trigger| {
                until.seen.count(trigger, happening, number).is_some_and(|count| count >= trigger.first())
            });
            if come {
                let _ = until.over.send(());
            } else {
                self.untils.push(until);
            }
        }
    }

    /// What is drawn for this fault, if this is an occasion for it and it is taken.
    fn occasion(&mut self, fault: usize, happening: Happening<'_>, number: u64) -> Option<Draw> {
        let (planned, progress) = (&self.plan.faults[fault], &mut self.progress[fault]);
        let count = progress.seen.count(&planned.trigger, happening, number)?;
        if count < planned.trigger.first() || progress.taken >= planned.times {
            return None;
        }
        // In outputs by the container, so that it does not matter which of two is quicker.
        let draw = Draw::of(progress.seed, if planned.trigger.reads() { number + 1 } else { 0 }, count);
        draw.hits(planned.probability).then(|| {
            progress.taken += 1;
            draw
        })
    }

    fn fire(&mut self, fault: usize, about: Option<&Key>, draw: Draw) {
        let victims = match self.plan.faults[fault].target.pick {
            Pick::It => about.cloned().into_iter().collect(),
            Pick::One => draw.choose(self.running(fault), 1),
            Pick::Some(count) => draw.choose(self.running(fault), usize::try_from(count).unwrap_or(usize::MAX)),
            Pick::All => self.running(fault),
        };
        if victims.is_empty() {
            self.order(Order::Skip(fault, None, "nobody whom it could hit was running"));
        }
        for key in victims {
            self.meet(fault, &key);
        }
    }

    /// Who runs of those that it matches, in the order in which they came.
    fn running(&self, fault: usize) -> Vec<Key> {
        let target = &self.plan.faults[fault].target;
        let running = self.known.iter().filter(|(key, known)| known.running && target.matches(&key.0, &known.labels));
        let mut running: Vec<_> = running.map(|(key, known)| (known.number, key.clone())).collect();
        running.sort();
        running.into_iter().map(|(_, key)| key).collect()
    }

    /// It is to hit this one.
    fn meet(&mut self, fault: usize, key: &Key) {
        let kind = &self.plan.faults[fault].kind;
        let Some(known) = self.known.get_mut(key) else { return };
        let order = match (kind.meets(), kind) {
            (Meets::Birth | Meets::End, _) => {
                known.marks.push(fault);
                return;
            }
            (Meets::Life, _) if known.has_ended() => {
                Order::Skip(fault, Some(known.whom(key)), "the container had ended")
            }
            (Meets::Life, FaultKind::StallOutput { source }) => {
                // From the next byte on, so not by way of anybody else.
                let (hold, held) = watch::channel(());
                known.stalled.push((*source, held));
                Order::Apply(fault, known.whom(key), Some(hold))
            }
            (Meets::Life, _) if known.running => Order::Apply(fault, known.whom(key), None),
            (Meets::Life, _) => {
                known.due.push(fault);
                return;
            }
        };
        self.order(order);
    }

    /// A step of a plan of this container is about to be sent: whether it is to fail.
    pub(super) fn fails(&mut self, key: &Key, of: PlanOf, step: u16) -> bool {
        let wanted = FaultKind::FailStep { of, step };
        let Some(known) = self.known.get_mut(key) else { return false };
        let Some(at) = known.marks.iter().position(|fault| self.plan.faults[*fault].kind == wanted) else {
            return false;
        };
        let (fault, whom) = (known.marks.remove(at), known.whom(key));
        self.order(Order::Applied(fault, whom));
        true
    }

    /// Who holds this output of the container.
    pub(super) fn stalled(&mut self, key: &Key, source: Source) -> Vec<watch::Receiver<()>> {
        let Some(known) = self.known.get_mut(key) else { return Vec::new() };
        // Closed: it has been let go.
        known.stalled.retain(|(_, held)| held.has_changed().is_ok());
        known.stalled.iter().filter(|(of, _)| *of == source).map(|(_, held)| held.clone()).collect()
    }

    /// Its report is about to be made: who holds it up, and what is to stand in it, in whose name.
    pub(super) fn report(&mut self, key: &Key) -> (Held, Option<(i32, String)>) {
        let (mut held, mut instead) = (Held::default(), None);
        let Some(known) = self.known.get_mut(key) else { return (held, instead) };
        let whom = known.whom(key);
        for fault in std::mem::take(&mut known.marks) {
            let planned = &self.plan.faults[fault];
            let order = match planned.kind {
                FaultKind::LateExit => {
                    let (hold, receiver) = watch::channel(());
                    held.0.push(receiver);
                    Order::Apply(fault, whom.clone(), Some(hold))
                }
                FaultKind::OverrideExit { code } => {
                    instead = Some((code, planned.name.clone()));
                    Order::Applied(fault, whom.clone())
                }
                _ => Order::Skip(fault, Some(whom.clone()), "the container ended before it came to it"),
            };
            self.order(order);
        }
        (held, instead)
    }
}
