//! Who waits, and who comes next. Pure.
//!
//! Callers come in turn, one grant each, however many of each caller's wait; among what one caller waits for, who came
//! first. What holds its room already comes before what needs room, and a further process before a container.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// For what somebody waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A further process that was admitted: to be started.
    Start,
    /// A container that was admitted: to be made.
    Turn,
    /// A further process: room, and to be started.
    Process,
    /// A container: room, and to be made.
    Container,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Start, Self::Turn, Self::Process, Self::Container];

    /// It takes one of its caller's turns.
    pub(super) const fn is_container(self) -> bool {
        matches!(self, Self::Turn | Self::Container)
    }

    /// It needs room, too.
    pub(super) const fn is_outside(self) -> bool {
        matches!(self, Self::Process | Self::Container)
    }
}

/// A place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    kind: Kind,
    number: u64,
}

/// Everybody who waits.
#[derive(Debug)]
pub(super) struct Queue<T> {
    lines: BTreeMap<Arc<str>, Line<T>>,
    /// Callers that wait for something, the next one first.
    rotation: VecDeque<Arc<str>>,
    waiting: u64,
    last: u64,
}

/// One caller's.
#[derive(Debug)]
struct Line<T> {
    waits: [BTreeMap<u64, T>; Kind::ALL.len()],
    /// How many of its containers are being made.
    making: u64,
}

impl<T> Line<T> {
    fn is_empty(&self) -> bool {
        self.waits.iter().all(BTreeMap::is_empty)
    }

    fn first(&self, kind: Kind) -> Option<&T> {
        self.waits[kind as usize].values().next()
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { lines: BTreeMap::new(), rotation: VecDeque::new(), waiting: 0, last: 0 }
    }
}

impl<T> Queue<T> {
    fn line(&mut self, caller: &Arc<str>) -> &mut Line<T> {
        let new = || Line { waits: Default::default(), making: 0 };
        self.lines.entry(Arc::clone(caller)).or_insert_with(new)
    }

    fn tidy(&mut self, caller: &Arc<str>) {
        if self.lines.get(caller).is_some_and(|line| line.is_empty() && line.making == 0) {
            self.lines.remove(caller);
        }
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> u64 {
        self.waiting
    }

    /// How many of this caller's containers are being made.
    pub(super) fn making(&self, caller: &str) -> u64 {
        self.lines.get(caller).map_or(0, |line| line.making)
    }

    /// Wait behind what of this kind the caller waits for.
    pub(super) fn push(&mut self, caller: &Arc<str>, kind: Kind, who: T) -> Place {
        self.last += 1;
        self.waiting += 1;
        let number = self.last;
        let line = self.line(caller);
        let first = line.is_empty();
        line.waits[kind as usize].insert(number, who);
        if first {
            self.rotation.push_back(Arc::clone(caller));
        }
        Place { kind, number }
    }

    /// Wait no more. `None`: it was its turn already.
    pub(super) fn leave(&mut self, caller: &Arc<str>, place: Place) -> Option<T> {
        let line = self.lines.get_mut(caller)?;
        let left = line.waits[place.kind as usize].remove(&place.number)?;
        self.waiting -= 1;
        if line.is_empty() {
            self.rotation.retain(|waiting| waiting != caller);
            self.tidy(caller);
        }
        Some(left)
    }

    /// Everybody who waits with a container leaves.
    pub(super) fn dismiss(&mut self) -> Vec<T> {
        let mut left = Vec::new();
        for line in self.lines.values_mut() {
            for kind in Kind::ALL.into_iter().filter(|kind| kind.is_container()) {
                left.extend(std::mem::take(&mut line.waits[kind as usize]).into_values());
            }
        }
        self.waiting -= left.len() as u64;
        let lines = &mut self.lines;
        self.rotation.retain(|caller| lines.get(caller).is_some_and(|line| !line.is_empty()));
        lines.retain(|_, line| !line.is_empty() || line.making > 0);
        left
    }

    /// One of the caller's containers is being made.
    pub(super) fn begun(&mut self, caller: &Arc<str>) {
        self.line(caller).making += 1;
    }

    /// It is made, or will not be.
    pub(super) fn ended(&mut self, caller: &Arc<str>) {
        let line = self.line(caller);
        line.making = line.making.saturating_sub(1);
        self.tidy(caller);
    }

    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.lines.is_empty() && self.rotation.is_empty() && self.waiting == 0
    }

    /// Go round until nobody who comes next may go on. `may` is told how many of the caller's are being made.
    pub(super) fn round(&mut self, mut may: impl FnMut(Kind, &T, u64) -> bool) -> Vec<(Arc<str>, Kind, T)> {
        let (mut granted, mut passed) = (Vec::new(), 0);
        while passed < self.rotation.len() {
            let Some(caller) = self.rotation.pop_front() else { break };
            let line = self.line(&caller);
            let making = line.making;
            let found = Kind::ALL.into_iter().find(|kind| line.first(*kind).is_some_and(|who| may(*kind, who, making)));
            let taken = found.and_then(|kind| Some((kind, line.waits[kind as usize].pop_first()?.1)));
            let waits_on = !line.is_empty();
            passed += 1;
            if let Some((kind, who)) = taken {
                line.making += u64::from(kind.is_container());
                self.waiting -= 1;
                passed = 0;
                granted.push((Arc::clone(&caller), kind, who));
            }
            if waits_on {
                self.rotation.push_back(caller);
            } else {
                self.tidy(&caller);
            }
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn callers() -> [Arc<str>; 2] {
        ["a".into(), "b".into()]
    }

    #[test]
    fn callers_come_in_turn_however_many_wait_of_each() {
        let mut queue = Queue::default();
        let [a, b] = callers();
        for number in 0..10_000 {
            queue.push(&a, Kind::Container, ("a", number));
        }
        queue.push(&b, Kind::Container, ("b", 0));
        let mut left = [true; 3].into_iter();
        let granted = queue.round(|_, _, _| left.next().unwrap_or(false));
        let who: Vec<_> = granted.into_iter().map(|(_, _, who)| who).collect();
        assert_eq!(who, [("a", 0), ("b", 0), ("a", 1)]);
        assert_eq!((queue.waiting(), queue.making("a"), queue.making("b")), (9_998, 2, 1));
    }

    #[test]
    fn who_holds_room_comes_first_and_who_leaves_leaves_nothing() {
        let mut queue = Queue::default();
        let [a, b] = callers();
        let outside = queue.push(&a, Kind::Container, "outside");
        queue.push(&a, Kind::Process, "process");
        queue.push(&a, Kind::Turn, "turn");
        assert_eq!(queue.leave(&a, outside), Some("outside"));
        assert_eq!(queue.leave(&a, outside), None);
        assert_eq!(queue.leave(&b, outside), None);
        let who: Vec<_> = queue.round(|_, _, _| true).into_iter().map(|(_, _, who)| who).collect();
        assert_eq!((who, queue.making("a")), (vec!["turn", "process"], 1));
        queue.ended(&a);
        assert!(queue.is_idle());
    }

    #[test]
    fn who_waits_with_a_container_is_dismissed_and_nobody_else() {
        let mut queue = Queue::default();
        let [a, b] = callers();
        queue.push(&a, Kind::Container, "container");
        queue.push(&b, Kind::Turn, "turn");
        let process = queue.push(&b, Kind::Process, "process");
        queue.begun(&a);
        assert_eq!((queue.dismiss(), queue.waiting(), queue.making("a")), (vec!["container", "turn"], 1, 1));
        queue.ended(&a);
        assert_eq!(queue.leave(&b, process), Some("process"));
        assert!(queue.is_idle());
    }

    #[test]
    fn who_may_not_go_on_holds_up_nobody_else() {
        let mut queue = Queue::default();
        let [a, b] = callers();
        queue.push(&a, Kind::Container, "a");
        queue.push(&b, Kind::Container, "b");
        let who: Vec<_> = queue.round(|_, who, _| *who == "b").into_iter().map(|(_, _, who)| who).collect();
        assert_eq!((who, queue.waiting()), (vec!["b"], 1));
        assert_eq!(queue.round(|_, _, _| true).len(), 1);
    }
}
