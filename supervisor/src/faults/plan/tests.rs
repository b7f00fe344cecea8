use proptest::prelude::*;

use super::*;
use crate::error::ErrorKind;

fn fault(name: &str, kind: FaultKind, trigger: Trigger) -> PlannedFault {
    PlannedFault::new(name, kind, trigger)
}

const SPAWN: Trigger = Trigger::Spawn { nth: 1 };
const EXIT: Trigger = Trigger::Exit { nth: 1 };

fn refusals(fault: PlannedFault) -> Vec<String> {
    let refused = check::refusals(&Plan::seeded(1).fault(fault));
    refused.iter().map(|error| error.field().unwrap().to_owned()).collect()
}

#[test]
fn nonsense_is_refused_with_the_fault_and_the_field() {
    use FaultKind::{FailStep, Kill, LateExit, OverrideExit, Pause, StarveCpu, StarveMemory, StarvePids};
    let step = || FailStep { of: PlanOf::Main, step: 1 };
    let line =
        |text: &str, nth| Trigger::Line { source: orangery_io_stream::Source::Stdout, containing: text.into(), nth };
    let output = |offset| Trigger::Output { source: orangery_io_stream::Source::Stdout, offset };
    let second = Duration::from_secs(1);
    let cases = [
        (fault("f", Kill, SPAWN).probability(0.0), "probability"),
        (fault("f", Kill, SPAWN).probability(1.5), "probability"),
        (fault("f", Kill, SPAWN).probability(f64::NAN), "probability"),
        (fault("f", Kill, SPAWN).times(0), "times"),
        (fault("f", Kill, Trigger::Spawn { nth: 0 }), "trigger.nth"),
        (fault("f", Kill, line("", 1)), "trigger.containing"),
        (fault("f", Kill, line("x", 0)), "trigger.nth"),
        (fault("f", Kill, output(0)), "trigger.offset"),
        (fault("f", Kill, SPAWN).lasting(second), "lasts_ms"),
        (fault("f", step(), SPAWN).until(EXIT), "until"),
        (fault("f", OverrideExit { code: 3 }, EXIT).lasting(second), "lasts_ms"),
        (fault("f", OverrideExit { code: 256 }, EXIT), "kind.code"),
        (fault("f", OverrideExit { code: -1 }, EXIT), "kind.code"),
        (fault("f", Pause, SPAWN).lasting(Duration::ZERO), "lasts_ms"),
        (fault("f", Pause, SPAWN).lasting(second).until(EXIT), "until"),
        (fault("f", Pause, SPAWN).until(Trigger::Now), "until"),
        (fault("f", Pause, SPAWN).until(Trigger::Exit { nth: 0 }), "until.nth"),
        (fault("f", StarveMemory { bytes: 1 }, SPAWN), "kind"),
        (fault("f", StarvePids { most: 0 }, SPAWN), "kind"),
        (fault("f", StarveCpu { percent: 0 }, SPAWN), "kind"),
        (fault("f", StarveCpu { percent: 101 }, SPAWN), "kind.percent"),
        (fault("f", Kill, EXIT), "target.pick"),
        (fault("f", Kill, Trigger::Now), "target.pick"),
        (fault("f", Kill, SPAWN).pick(Pick::Some(0)), "target.pick"),
        (fault("f", step(), EXIT), "trigger"),
        (fault("f", step(), SPAWN).pick(Pick::One), "target.pick"),
    ];
    for (fault, field) in cases {
        assert_eq!(refusals(fault.clone()), [format!("faults[\"f\"].{field}")], "{fault:?}");
    }
    for good in
        [fault("f", LateExit, EXIT).lasting(second), fault("f", Pause, EXIT).pick(Pick::All), fault("f", step(), SPAWN)]
    {
        assert_eq!(refusals(good.clone()), [""; 0], "{good:?}");
    }
    assert_eq!(refusals(fault("", Kill, SPAWN)), ["faults[0].name"]);
}

#[test]
fn all_refusals_come_at_once() {
    let twice = Plan::seeded(1)
        .fault(fault("a", FaultKind::Kill, SPAWN).times(0))
        .fault(fault("a", FaultKind::Kill, SPAWN).probability(2.0));
    let error = twice.check().unwrap_err();
    assert_eq!((error.kind(), error.field()), (ErrorKind::Invalid, Some("faults[\"a\"].times")));
    assert_eq!(error.messages().count(), 3, "times, the name, probability: {error}");
}

#[test]
fn a_text_with_a_word_too_many_is_refused_and_defaults_may_be_left_out() {
    let text = r#"{"seed":3,"faults":[{"name":"a","kind":"kill","trigger":{"line":{"source":"stdout","containing":"x","nth":2}}}]}"#;
    let plan: Plan = serde_json::from_str(text).unwrap();
    let trigger = Trigger::Line { source: orangery_io_stream::Source::Stdout, containing: "x".into(), nth: 2 };
    assert_eq!(plan, Plan::seeded(3).fault(fault("a", FaultKind::Kill, trigger)));
    for (right, wrong) in [
        ("\"seed\"", "\"sede\""),
        ("\"name\":\"a\"", "\"name\":\"a\",\"probabilty\":1"),
        ("\"kill\"", "\"kil\""),
        ("stdout", "stdin"),
        ("\"nth\"", "\"n\""),
    ] {
        assert!(serde_json::from_str::<Plan>(&text.replace(right, wrong)).is_err(), "{wrong}");
    }
}

proptest! {
    #[test]
    fn a_draw_is_even_and_its_own(seed: u64, name in "[a-z]{1,8}", other in "[a-z]{1,8}") {
        let of = |name: &str, number| Draw::of(sub_seed(seed, name), 0, number).hits(0.25);
        let hits = (0..4000).filter(|number| of(&name, *number)).count();
        // Six times the standard deviation.
        prop_assert!((836..=1164).contains(&hits), "{hits} of 4000");
        let both = (0..4000).filter(|number| of(&name, *number) && of(&other, *number)).count();
        prop_assert!(name == other || both < 400, "{both} of 4000 together");
    }

    #[test]
    fn whoever_is_chosen_was_there_once(seed: u64, all in 0..20usize, count in 1..20usize) {
        let chosen = Draw::of(seed, 0, 0).choose((0..all).collect(), count);
        prop_assert_eq!(chosen.len(), count.min(all));
        prop_assert!(chosen.is_sorted_by(|a, b| a < b));
    }
}
