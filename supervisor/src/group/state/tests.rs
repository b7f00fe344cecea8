use std::collections::BTreeSet;

use proptest::prelude::{any, prop};
use proptest::strategy::Strategy as Drawn;
use proptest::test_runner::TestCaseError;
use proptest::{prop_assert, prop_assert_ne, proptest};

use super::*;

const UNITS: [Unit; 7] =
    [Unit::Down, Unit::Starting, Unit::Ready, Unit::Stopping, Unit::Waiting, Unit::Due, Unit::Over];
const NEWS: [News; 6] =
    [News::Ready, News::Waiting, News::Due, News::Stopped, News::Over, News::Failed(GiveUp::WindowSpent)];
const STRATEGIES: [Strategy; 3] = [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne];

/// All pairs: a row for each unit, a column for each news; the letter of the unit after it.
#[test]
fn the_table() {
    let letter = |unit| match unit {
        Unit::Down => 'd',
        Unit::Starting => 's',
        Unit::Ready => 'r',
        Unit::Stopping => 'x',
        Unit::Waiting => 'w',
        Unit::Due => 'u',
        Unit::Over => 'o',
    };
    for (unit, row) in UNITS.into_iter().zip(["rwuddd", "rwuooo", "rwuooo", "xxxddd", "rwuooo", "rwuooo", "rwuooo"]) {
        let told: String = NEWS.map(|news| letter(unit.hears(news, false))).iter().collect();
        assert_eq!(told, row, "{unit:?}");
        for news in [News::Stopped, News::Over] {
            assert_eq!(Unit::Stopping.hears(news, true), Unit::Over, "a temporary one comes not again");
        }
    }
}

/// Three in a row, all ready.
fn three(strategy: Strategy) -> Members {
    let mut members = Members::new(strategy, vec![vec![], vec![0], vec![1]], vec![false; 3]);
    members.up();
    for member in 0..3 {
        assert_eq!(members.next(), [Action::Start(member)], "each after the one before is ready");
        assert!(members.next().is_empty(), "told once");
        assert_eq!(members.whole(), Whole::Changing);
        members.heard(member, News::Ready);
    }
    assert_eq!((members.next(), members.whole()), (vec![], Whole::Ready));
    members
}

#[test]
fn a_stop_goes_backwards_each_after_the_next_is_gone() {
    let mut members = three(Strategy::OneForOne);
    members.down();
    for member in [2, 1, 0] {
        assert_eq!(members.next(), [Action::Stop(member)]);
        assert!(members.next().is_empty());
        members.heard(member, News::Stopped);
    }
    assert_eq!(members.whole(), Whole::Down);
}

#[test]
fn one_for_one_starts_it_alone() {
    let mut members = three(Strategy::OneForOne);
    members.heard(1, News::Waiting);
    assert!(members.next().is_empty());
    members.heard(1, News::Due);
    assert_eq!(members.next(), [Action::Start(1)]);
    assert_eq!((members.unit(0), members.unit(2)), (Unit::Ready, Unit::Ready));
}

#[test]
fn one_for_all_stops_the_others_backwards_and_starts_all_in_order_when_its_delay_is_over() {
    let mut members = three(Strategy::OneForAll);
    members.heard(1, News::Waiting);
    assert_eq!(members.next(), [Action::Stop(2)]);
    members.heard(2, News::Stopped);
    assert_eq!(members.next(), [Action::Stop(0)], "the one that has died is gone already");
    members.heard(0, News::Stopped);
    assert!(members.next().is_empty(), "its delay runs");
    members.heard(1, News::Due);
    for member in 0..3 {
        assert_eq!(members.next(), [Action::Start(member)]);
        members.heard(member, News::Ready);
    }
    assert_eq!(members.whole(), Whole::Ready);
}

#[test]
fn rest_for_one_leaves_alone_what_was_there_before() {
    let mut members = three(Strategy::RestForOne);
    members.heard(1, News::Due);
    assert_eq!(members.next(), [Action::Stop(2)]);
    members.heard(2, News::Stopped);
    assert_eq!(members.next(), [Action::Start(1)]);
    members.heard(1, News::Ready);
    assert_eq!(members.next(), [Action::Start(2)]);
    assert_eq!(members.unit(0), Unit::Ready);
}

#[test]
fn a_member_that_has_failed_takes_all_along() {
    let mut members = three(Strategy::OneForOne);
    members.heard(0, News::Failed(GiveUp::Permanent));
    for member in [2, 1] {
        assert_eq!(members.next(), [Action::Stop(member)]);
        members.heard(member, News::Stopped);
    }
    assert_eq!(members.whole(), Whole::Failed(0, GiveUp::Permanent));
    members.up();
    assert_eq!(members.next(), [Action::Start(0)]);
}

#[test]
fn independent_ones_start_and_stop_together_and_what_is_over_holds_up_nobody() {
    let mut members = Members::new(Strategy::OneForAll, vec![vec![], vec![], vec![0, 1]], vec![true, false, false]);
    members.up();
    assert_eq!(members.next(), [Action::Start(0), Action::Start(1)]);
    members.heard(0, News::Over);
    members.heard(1, News::Ready);
    assert_eq!(members.next(), [Action::Start(2)]);
    members.heard(2, News::Due);
    assert_eq!(members.next(), [Action::Stop(1)], "one that is over is not started for a sibling's sake");
    members.heard(1, News::Stopped);
    assert_eq!(members.next(), [Action::Start(1)]);
    members.heard(1, News::Over);
    assert_eq!(members.next(), [Action::Start(2)]);
    members.heard(2, News::Over);
    assert_eq!(members.whole(), Whole::Over);
}

/// Edges to smaller indices: no circle.
fn edges(count: usize) -> impl Drawn<Value = Vec<Vec<usize>>> {
    prop::collection::vec(prop::collection::btree_set(0..count, 0..count), count).prop_map(|rows| {
        let below = |(row, set): (usize, BTreeSet<usize>)| set.into_iter().filter(|other| *other < row).collect();
        rows.into_iter().enumerate().map(below).collect()
    })
}

/// What may happen to a member as it is: the services' side.
fn may_hear(unit: Unit) -> &'static [News] {
    match unit {
        Unit::Starting => &[News::Ready, News::Waiting, News::Over, News::Failed(GiveUp::CannotStart)],
        Unit::Ready => &[News::Waiting, News::Over, News::Stopped, News::Failed(GiveUp::WindowSpent)],
        Unit::Waiting => &[News::Due],
        Unit::Stopping => &[News::Stopped, News::Waiting],
        Unit::Down | Unit::Due | Unit::Over => &[],
    }
}

fn check(members: &mut Members, after: &[Vec<usize>]) -> Result<bool, TestCaseError> {
    let before = members.clone();
    let actions = members.next();
    for action in &actions {
        match *action {
            Action::Start(member) => {
                let ready = |other: &usize| matches!(members.unit(*other), Unit::Ready | Unit::Over);
                prop_assert!(after[member].iter().all(ready), "before what it needs");
                prop_assert!(matches!(before.unit(member), Unit::Down | Unit::Due) && members.wanted == Wanted::Up);
            }
            Action::Stop(member) => {
                let mut later = members.later[member].iter();
                prop_assert!(later.all(|other| before.unit(*other).is_gone()), "before what needs it");
                prop_assert!(!before.unit(member).is_down());
            }
        }
    }
    prop_assert!(members.next().is_empty(), "told once");
    Ok(!actions.is_empty())
}

proptest! {
    /// Whatever members do: nobody starts before what it needs or is stopped before what needs it, and once members behave
    /// the whole comes to what is wanted.
    #[test]
    fn a_group_comes_to_rest(
        strategy in 0..3usize,
        after in (1..6usize).prop_flat_map(edges),
        temporary in prop::collection::vec(any::<bool>(), 6),
        chances in prop::collection::vec((0..6usize, 0..4usize, 0..40u8), 0..80),
    ) {
        let count = after.len();
        let mut members = Members::new(STRATEGIES[strategy], after.clone(), temporary);
        members.up();
        for (member, news, wish) in chances {
            check(&mut members, &after)?;
            match wish {
                0 => members.down(),
                1 => members.up(),
                _ => {}
            }
            let member = member % count;
            let may = may_hear(members.unit(member));
            if !may.is_empty() {
                members.heard(member, may[news % may.len()]);
            }
        }
        for _ in 0..200 {
            check(&mut members, &after)?;
            for member in 0..count {
                match members.unit(member) {
                    Unit::Starting => members.heard(member, News::Ready),
                    Unit::Stopping => members.heard(member, News::Stopped),
                    Unit::Waiting => members.heard(member, News::Due),
                    _ => {}
                }
            }
        }
        prop_assert_ne!(members.whole(), Whole::Changing, "{:?}", members);
    }
}
