//! The decider alone: what is counted, and that the same is decided again.

use std::collections::BTreeMap;
use std::sync::Arc;

use orangery_io_stream::Source;
use proptest::prelude::*;
use tokio::sync::mpsc;

use super::decide::{Decider, Key, Order};
use crate::faults::plan::{FaultKind, Pick, Plan, PlanOf, PlannedFault, Trigger};

/// A decider and what it orders.
struct Played {
    plan: Arc<Plan>,
    decider: Decider,
    orders: mpsc::UnboundedReceiver<Order>,
}

fn key(id: &str, generation: u32) -> Key {
    (id.into(), generation)
}

impl Played {
    fn new(plan: Plan) -> Self {
        plan.check().unwrap();
        let (plan, (sender, orders)) = (Arc::new(plan), mpsc::unbounded_channel());
        Self { plan: Arc::clone(&plan), decider: Decider::new(plan, sender), orders }
    }

    fn one(fault: PlannedFault) -> Self {
        Self::new(Plan::seeded(1).fault(fault))
    }

    fn accept(&mut self, id: &str) {
        self.decider.accepted(&key(id, 1), &BTreeMap::new());
    }

    fn begin(&mut self, id: &str) {
        self.accept(id);
        self.decider.started(&key(id, 1));
    }

    /// What was ordered since the last time: fault, verb, container.
    fn heard(&mut self) -> Vec<String> {
        let mut heard = Vec::new();
        while let Ok(order) = self.orders.try_recv() {
            let (verb, fault, whom) = match order {
                Order::Apply(fault, whom, _) => ("apply", fault, Some(whom)),
                Order::Applied(fault, whom) => ("applied", fault, Some(whom)),
                Order::Skip(fault, whom, _) => ("skip", fault, whom),
                Order::Read(whom) => {
                    heard.push(format!("read {}", whom.key.0));
                    continue;
                }
            };
            let whom = whom.map_or_else(|| "-".into(), |whom| whom.key.0.to_string());
            heard.push(format!("{} {verb} {whom}", self.plan.faults[fault].name));
        }
        heard
    }
}

fn fault(kind: FaultKind, trigger: Trigger) -> PlannedFault {
    PlannedFault::new("f", kind, trigger)
}

#[test]
fn the_nth_and_no_other() {
    let mut played = Played::one(fault(FaultKind::Kill, Trigger::Spawn { nth: 3 }));
    for id in ["a", "b", "c", "d"] {
        played.accept(id);
    }
    assert_eq!(played.heard(), [""; 0], "nobody runs yet");
    for id in ["d", "c", "b", "a"] {
        played.decider.started(&key(id, 1));
    }
    assert_eq!(played.heard(), ["f apply c"], "by the order in which they were accepted");

    let mut played = Played::one(fault(FaultKind::Kill, Trigger::Restart { nth: 2 }).id("s"));
    for (id, generation) in [("s", 1), ("t", 2), ("s", 2), ("t", 3), ("s", 3), ("s", 4)] {
        played.decider.accepted(&key(id, generation), &BTreeMap::new());
        played.decider.started(&key(id, generation));
    }
    assert_eq!(played.heard(), ["f apply s"]);
}

#[test]
fn times_are_those_that_were_taken() {
    let mut played = Played::one(fault(FaultKind::Kill, Trigger::Spawn { nth: 2 }).times(2));
    for id in ["a", "b", "c", "d"] {
        played.begin(id);
    }
    assert_eq!(played.heard(), ["f apply b", "f apply c"]);
}

#[test]
fn lines_and_offsets_are_counted_in_each_output() {
    let line = Trigger::Line { source: Source::Stdout, containing: "go".into(), nth: 2 };
    let mut played = Played::one(fault(FaultKind::Kill, line).times(9));
    played.begin("a");
    played.begin("b");
    assert_eq!(played.heard(), ["read a", "read b"]);
    for (id, source, text) in [
        ("a", Source::Stdout, "go"),
        ("b", Source::Stdout, "lets go"),
        ("a", Source::Stderr, "go"),
        ("a", Source::Stdout, "stay"),
        ("b", Source::Stdout, "gone"),
    ] {
        played.decider.line(&key(id, 1), source, text.as_bytes());
    }
    assert_eq!(played.heard(), ["f apply b"]);

    let output = Trigger::Output { source: Source::Stdout, offset: 10 };
    let mut played = Played::one(fault(FaultKind::Kill, output).times(9));
    played.begin("a");
    played.begin("b");
    played.heard();
    for (id, upto) in [("a", 9), ("b", 10), ("b", 20), ("a", 11), ("a", 30)] {
        played.decider.output(&key(id, 1), Source::Stdout, upto);
    }
    assert_eq!(played.heard(), ["f apply b", "f apply a"], "once in each");
}

#[test]
fn whoever_is_picked_runs_and_matches() {
    let of = |pick| {
        let mut played = Played::one(fault(FaultKind::Pause, Trigger::Exit { nth: 1 }).pick(pick).label("k", "v"));
        for (id, value) in [("a", "v"), ("b", "w"), ("c", "v"), ("d", "v"), ("e", "v")] {
            played.decider.accepted(&key(id, 1), &BTreeMap::from([("k".to_owned(), value.to_owned())]));
        }
        for id in ["a", "b", "c", "d"] {
            played.decider.started(&key(id, 1));
        }
        played.decider.exited(&key("b", 1));
        assert_eq!(played.heard(), [""; 0], "nobody's");
        played.decider.exited(&key("a", 1));
        played.heard()
    };
    assert_eq!(of(Pick::All), ["f apply c", "f apply d"]);
    assert_eq!(of(Pick::Some(5)), ["f apply c", "f apply d"]);
    assert_eq!(of(Pick::One).len(), 1);
    let mut played = Played::one(fault(FaultKind::Pause, Trigger::Now).pick(Pick::All));
    played.accept("a");
    played.decider.armed();
    assert_eq!(played.heard(), ["f skip -"]);
}

#[test]
fn whatever_cannot_happen_any_more_is_skipped() {
    let mut played = Played::one(fault(FaultKind::Kill, Trigger::Spawn { nth: 1 }));
    played.accept("a");
    played.decider.gone(&key("a", 1));
    assert_eq!(played.heard(), ["f skip a"]);

    let step = FaultKind::FailStep { of: PlanOf::Container, step: 7 };
    let mut played = Played::one(fault(step.clone(), Trigger::Spawn { nth: 1 }));
    played.accept("a");
    assert!(!played.decider.fails(&key("a", 1), PlanOf::Main, 7));
    assert!(!played.decider.fails(&key("a", 1), PlanOf::Container, 6));
    assert!(!played.decider.fails(&key("b", 1), PlanOf::Container, 7));
    played.decider.started(&key("a", 1));
    assert_eq!(played.heard(), ["f skip a"], "there was no such step");
    assert!(!played.decider.fails(&key("a", 1), PlanOf::Container, 7));

    let mut played = Played::one(fault(step, Trigger::Spawn { nth: 1 }));
    played.accept("a");
    assert!(played.decider.fails(&key("a", 1), PlanOf::Container, 7));
    assert!(!played.decider.fails(&key("a", 1), PlanOf::Container, 7), "once");
    assert_eq!(played.heard(), ["f applied a"]);
}

#[test]
fn a_plan_that_has_ended_decides_nothing_and_says_what_it_has_not() {
    let plan = Plan::seeded(1)
        .fault(PlannedFault::new("late", FaultKind::LateExit, Trigger::Spawn { nth: 1 }))
        .fault(PlannedFault::new("never", FaultKind::Kill, Trigger::Spawn { nth: 9 }));
    let mut played = Played::new(plan);
    played.begin("a");
    played.decider.close();
    played.decider.close();
    played.begin("b");
    assert_eq!(played.heard(), ["late skip a", "never skip -"]);
    let (held, code) = played.decider.report(&key("a", 1));
    assert!(held.0.is_empty() && code.is_none());
}

#[test]
fn it_lasts_until_that_has_happened_since_it_was_applied() {
    let lasting = fault(FaultKind::Pause, Trigger::Spawn { nth: 1 }).until(Trigger::Exit { nth: 2 });
    let mut played = Played::one(lasting);
    for id in ["a", "b", "c", "d"] {
        played.begin(id);
    }
    played.decider.exited(&key("b", 1));
    let mut over = played.decider.until(0);
    played.decider.exited(&key("c", 1));
    assert!(over.try_recv().is_err());
    played.decider.exited(&key("d", 1));
    assert!(over.try_recv().is_ok());
}

/// What can happen to one of eight containers.
#[derive(Clone, Debug)]
enum Step {
    Accept(usize),
    Start(usize),
    Exit(usize),
    Gone(usize),
    Line(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0..5usize, 0..8usize).prop_map(|(what, who)| match what {
        0 => Step::Accept(who),
        1 => Step::Start(who),
        2 => Step::Exit(who),
        3 => Step::Gone(who),
        _ => Step::Line(who),
    });
    proptest::collection::vec(step, 0..120)
}

fn faults() -> impl Strategy<Value = Vec<PlannedFault>> {
    let trigger = prop_oneof![
        (1..4u64).prop_map(|nth| Trigger::Spawn { nth }),
        (1..4u64).prop_map(|nth| Trigger::Exit { nth }),
        (1..3u64).prop_map(|nth| Trigger::Line { source: Source::Stdout, containing: "x".into(), nth }),
    ];
    let pick = prop_oneof![Just(Pick::One), Just(Pick::All), (1..3u32).prop_map(Pick::Some)];
    let fault =
        ("[a-z]{6}", trigger, pick, 0.1..1.0f64, 1..9u32).prop_map(|(name, trigger, pick, probability, times)| {
            PlannedFault::new(name, FaultKind::Pause, trigger).pick(pick).probability(probability).times(times)
        });
    proptest::collection::vec(fault, 1..5).prop_filter("names are unique", |faults| {
        let mut names: Vec<_> = faults.iter().map(|fault| &fault.name).collect();
        names.sort();
        names.windows(2).all(|pair| pair[0] != pair[1])
    })
}

fn play(plan: Plan, steps: &[Step]) -> Vec<String> {
    let mut played = Played::new(plan);
    let of = |who: &usize| key(&format!("c{who}"), 1);
    for step in steps {
        match step {
            Step::Accept(who) => played.decider.accepted(&of(who), &BTreeMap::new()),
            Step::Start(who) => played.decider.started(&of(who)),
            Step::Exit(who) => played.decider.exited(&of(who)),
            Step::Gone(who) => played.decider.gone(&of(who)),
            Step::Line(who) => played.decider.line(&of(who), Source::Stdout, b"x"),
        }
    }
    played.heard()
}

proptest! {
    #[test]
    fn the_same_again_and_a_fault_more_shifts_no_other(seed: u64, all in faults(), at in 0..5usize, steps in steps()) {
        let plan = |faults: &[PlannedFault]| faults.iter().cloned().fold(Plan::seeded(seed), Plan::fault);
        let first = play(plan(&all), &steps);
        prop_assert_eq!(&first, &play(plan(&all), &steps));
        let mut fewer = all.clone();
        let added = fewer.remove(at % all.len());
        let others = |lines: Vec<String>| -> Vec<String> {
            lines.into_iter().filter(|line| !line.starts_with(&added.name) && !line.starts_with("read ")).collect()
        };
        prop_assert_eq!(others(first), others(play(plan(&fewer), &steps)));
    }
}
