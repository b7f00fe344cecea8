use proptest::prelude::*;

use super::*;
use crate::report::Measured;

const POLICIES: [Policy; 4] = [Policy::Never, Policy::OnFailure, Policy::Always, Policy::UnlessStopped];
const OUTCOMES: [Outcome; 7] = [
    Outcome::Succeeded,
    Outcome::Failed,
    Outcome::Stopped,
    Outcome::Prevented,
    Outcome::Forced,
    Outcome::Permanent,
    Outcome::Unhealthy,
];
const SECOND: Duration = Duration::from_secs(1);
const FAILED: (Outcome, bool) = (Outcome::Failed, true);

/// A row for each policy, a column for each outcome: Restart, Done, Give up, Unhealthy and given up.
#[test]
fn the_table() {
    for (policy, row) in POLICIES.into_iter().zip(["DDDDRGU", "DRDDRGU", "RRRDRGU", "RRDDRGU"]) {
        for (outcome, letter) in OUTCOMES.into_iter().zip(row.chars()) {
            let want = match letter {
                'R' => Answer::Restart,
                'D' => Answer::Done,
                'G' => Answer::GiveUp(GiveUp::Permanent),
                _ => Answer::GiveUp(GiveUp::Unhealthy),
            };
            assert_eq!(policy.answer(outcome), want, "{policy:?} {outcome:?}");
        }
    }
}

fn ended(exit: ExitStatus, cause: Cause) -> Report {
    Report { exit, cause, oom: OomVerdict::No, wall_us: Measured::Known(5), ended_at_ms: 7, ..crate::report::example() }
}

fn code(code: i32) -> Report {
    ended(ExitStatus::Code(code), Cause::Own)
}

fn killed(cause: Cause) -> Report {
    ended(ExitStatus::Signal { signal: 9, core_dumped: false }, cause)
}

#[test]
fn ends_are_judged_by_their_classes_and_the_last_one_counts() {
    let plain = Restart::on_failure();
    for (report, want) in [
        (code(0), Outcome::Succeeded),
        (code(1), Outcome::Failed),
        (killed(Cause::Own), Outcome::Failed),
        (killed(Cause::Limit(LimitKind::Wall)), Outcome::Failed),
        (killed(Cause::SupervisorFault), Outcome::Failed),
        (killed(Cause::Stop { escalated: true }), Outcome::Stopped),
        (ended(ExitStatus::Code(0), Cause::Stop { escalated: false }), Outcome::Stopped),
        (ended(ExitStatus::Lost, Cause::SupervisorFault), Outcome::Failed),
    ] {
        assert_eq!(plain.judge(&report, OnUnhealthy::Restart), (want, true), "{report:?}");
    }
    let unhealthy = killed(Cause::Unhealthy);
    for (action, want) in [
        (OnUnhealthy::Report, Outcome::Failed),
        (OnUnhealthy::Restart, Outcome::Forced),
        (OnUnhealthy::Stop, Outcome::Unhealthy),
    ] {
        assert_eq!(Restart::never().judge(&unhealthy, action), (want, true));
        let classed = Restart::never().class(ExitClass::Unhealthy, Treatment::Prevent);
        assert_eq!(classed.judge(&unhealthy, action).0, Outcome::Prevented);
    }
    // Its answer to our signal is no success of its own.
    for cause in [Cause::NotReady, Cause::Watchdog] {
        assert_eq!(plain.judge(&ended(ExitStatus::Code(0), cause), OnUnhealthy::Stop).0, Outcome::Failed);
    }
    let classed = Restart::always()
        .class(ExitClass::Code(125), Treatment::Permanent)
        .class(ExitClass::Code(0), Treatment::NoBackOff)
        .class(ExitClass::AnyLimit, Treatment::Prevent)
        .class(ExitClass::Limit(LimitKind::Output), Treatment::Success)
        .class(ExitClass::Oom, Treatment::Force)
        .class(ExitClass::Signal(9), Treatment::NoBackOff);
    for (report, want) in [
        (code(125), (Outcome::Permanent, true)),
        (code(0), (Outcome::Succeeded, false)),
        (killed(Cause::Limit(LimitKind::Wall)), (Outcome::Prevented, false)),
        (killed(Cause::Limit(LimitKind::Output)), (Outcome::Succeeded, false)),
        (killed(Cause::Limit(LimitKind::Memory)), (Outcome::Forced, false)),
    ] {
        assert_eq!(classed.judge(&report, OnUnhealthy::Restart), want, "{report:?}");
    }
    let ancestor = OomVerdict::Ancestor { kills: 1, path: None };
    assert_eq!(
        classed.judge(&Report { oom: ancestor.clone(), ..killed(Cause::Own) }, OnUnhealthy::Restart).0,
        Outcome::Forced
    );
    assert_eq!(
        classed.judge(&Report { oom: ancestor, ..code(3) }, OnUnhealthy::Restart).0,
        Outcome::Failed,
        "another process was taken"
    );
}

#[test]
fn what_makes_no_sense_is_refused_all_at_once() {
    let refused = Restart::always().jitter(101).back_off(SECOND, 0, SECOND).window(3, Duration::ZERO).check();
    assert_eq!((refused.len(), refused[0].field()), (3, Some("restart.jitter")));
    assert_eq!(Restart::always().at_most(3).when_spent(WhenSpent::Delay).check().len(), 1);
    assert_eq!(Restart::always().window(0, SECOND).when_spent(WhenSpent::Delay).check().len(), 1);
    for restart in [Restart::never(), Restart::always().at_most(0), Restart::always().without_window()] {
        assert!(restart.check().is_empty());
    }
}

/// The delays of ends that come as soon as they can.
fn loop_of(budget: &mut Budget, ends: usize) -> Vec<Decision> {
    let mut now = Duration::ZERO;
    let mut decisions = Vec::new();
    for _ in 0..ends {
        let decision = budget.decide(now, Duration::ZERO, FAILED);
        if let Decision::Restart { after } = decision {
            now += after;
        }
        decisions.push(decision);
    }
    decisions
}

#[test]
fn the_default_gives_up_after_ten_restarts_in_102_seconds() {
    let mut budget = Budget::new(Restart::on_failure().jitter(0), 0);
    let decisions = loop_of(&mut budget, 11);
    let waited: Duration = decisions
        .iter()
        .filter_map(|decision| match decision {
            Decision::Restart { after } => Some(*after),
            _ => None,
        })
        .sum();
    assert_eq!(waited, Duration::from_millis(102_300));
    assert_eq!(decisions.last(), Some(&Decision::Escalate(GiveUp::WindowSpent)));
    budget.renew();
    let again = budget.decide(Duration::from_secs(103), Duration::ZERO, FAILED);
    assert_eq!(again, Decision::Restart { after: Duration::from_millis(100) }, "somebody has started it");
}

#[test]
fn a_spent_window_can_be_waited_for() {
    let restart = Restart::always().delays([]).window(2, 10 * SECOND).when_spent(WhenSpent::Delay);
    let mut budget = Budget::new(restart, 0);
    let mut at = |seconds: u32| budget.decide(seconds * SECOND, Duration::ZERO, FAILED);
    assert_eq!([at(0), at(4), at(5)], [0, 0, 5].map(|s| Decision::Restart { after: s * SECOND }));
    assert_eq!([at(11), at(40)], [3, 0].map(|s| Decision::Restart { after: s * SECOND }));
}

#[test]
fn an_end_without_back_off_is_followed_at_once_and_neither_grows_nor_resets_it() {
    let mut budget = Budget::new(Restart::always().jitter(0).without_window(), 0);
    let mut after = |waits| match budget.decide(SECOND, Duration::ZERO, (Outcome::Failed, waits)) {
        Decision::Restart { after } => after.as_millis(),
        other => panic!("{other:?}"),
    };
    assert_eq!([after(true), after(false), after(true), after(false)], [100, 0, 200, 0]);
}

#[test]
fn the_tally_keeps_the_last_hundred() {
    let mut budget = Budget::new(Restart::always(), 0);
    for generation in 1..=130 {
        budget.count(Death { generation, ..Death::of(&code(1)) });
    }
    let tally = budget.tally();
    assert_eq!((tally.len(), tally[0].generation, tally[99].generation), (100, 31, 130));
    assert_eq!((tally[0].at_ms, tally[0].ran_us, tally[0].exit), (7, 5, Some(ExitStatus::Code(1))));
}

/// Ends: what passes until each, how long it ran, and what it was.
fn ends() -> impl Strategy<Value = Vec<(u64, u64, usize, bool)>> {
    prop::collection::vec((0..30_000u64, 0..30_000u64, 0..OUTCOMES.len(), any::<bool>()), 0..60)
}

fn description() -> impl Strategy<Value = Restart> {
    let delays = prop_oneof![
        (0..5000u64, 1..5u32, 0..60_000u64).prop_map(|(base, factor, cap)| Delays::Growing {
            base: Duration::from_millis(base),
            factor,
            cap: Duration::from_millis(cap),
        }),
        prop::collection::vec((0..5000u64).prop_map(Duration::from_millis), 0..4).prop_map(Delays::Listed),
    ];
    let window = prop::option::of((1..6u32, 1..120_000u64));
    (0..POLICIES.len(), delays, 0..=100u32, window, any::<bool>(), 0..20_000u64).prop_map(
        |(policy, delays, jitter_percent, window, delay, stable)| Restart {
            delays,
            jitter_percent,
            stable: Duration::from_millis(stable),
            most: window.map(|(most, _)| most),
            within: window.map(|(_, within)| Duration::from_millis(within)),
            when_spent: if delay { WhenSpent::Delay } else { WhenSpent::Fail },
            ..Restart::with(POLICIES[policy])
        },
    )
}

proptest! {
    /// However ends come: no window holds more restarts than it may, a delay that the window did not lengthen is within
    /// its jitter of the formula, and the same seed decides the same.
    #[test]
    fn windows_and_delays(restart in description(), seed in any::<u64>(), ends in ends()) {
        let (mut budget, mut twin) = (Budget::new(restart.clone(), seed), Budget::new(restart.clone(), seed));
        let (mut now, mut starts, mut row) = (Duration::ZERO, Vec::new(), 0u32);
        for (pause, ran, outcome, waits) in ends {
            now += Duration::from_millis(pause);
            let (ran, outcome) = (Duration::from_millis(ran), OUTCOMES[outcome]);
            let decision = budget.decide(now, ran, (outcome, waits));
            prop_assert_eq!(decision, twin.decide(now, ran, (outcome, waits)));
            let answer = restart.policy.answer(outcome);
            prop_assert_eq!(decision == Decision::Done, answer == Answer::Done);
            if answer != Answer::Restart {
                continue;
            }
            if ran >= restart.stable {
                row = 0;
            }
            row += u32::from(waits);
            let Decision::Restart { after } = decision else {
                prop_assert!(restart.most.is_some() && restart.when_spent == WhenSpent::Fail);
                continue;
            };
            let full = if waits { restart.delay(row) } else { Duration::ZERO };
            let least = full - full * restart.jitter_percent / 100;
            prop_assert!(after + Duration::from_nanos(1) >= least);
            prop_assert!(after <= full || restart.when_spent == WhenSpent::Delay);
            now += after;
            starts.push(now);
            if let (Some(most), Some(within)) = (restart.most, restart.within) {
                for span in starts.windows(most as usize + 1) {
                    prop_assert!(span[span.len() - 1] - span[0] >= within);
                }
            }
        }
    }

    /// Delays never shrink, never pass the cap, and no number overflows.
    #[test]
    fn delays_grow_to_the_cap(base in 0..u64::MAX, factor in 1..u32::MAX, cap in 0..u64::MAX, nth in 1..u32::MAX) {
        let cap = Duration::from_nanos(cap);
        let restart = Restart::always().back_off(Duration::from_nanos(base), factor, cap);
        prop_assert!(restart.delay(nth) <= restart.delay(nth.saturating_add(1)));
        prop_assert!(restart.delay(nth) <= cap);
        prop_assert_eq!(restart.delay(1), Duration::from_nanos(base).min(cap));
    }
}
