//! What is refused of a plan: everything that could never happen, or not as it is meant.

use std::collections::BTreeSet;

use orangery_runtime::Error;

use super::kind::Meets;
use super::{FaultKind, Pick, Plan, PlannedFault, Trigger};

/// All refusals of a plan.
pub(super) fn refusals(plan: &Plan) -> Vec<Error> {
    let mut names = BTreeSet::new();
    let mut refused = Vec::new();
    for (index, fault) in plan.faults.iter().enumerate() {
        let of = if fault.name.is_empty() { index.to_string() } else { format!("{:?}", fault.name) };
        let mut refuse = |field: &str, why: &str| refused.push(Error::invalid(format!("faults[{of}].{field}"), why));
        if fault.name.is_empty() {
            refuse("name", "a fault needs a name");
        } else if !names.insert(&fault.name) {
            refuse("name", "another fault of the plan has this name");
        }
        chance(fault, &mut refuse);
        kind(&fault.kind, &mut refuse);
        trigger("trigger", &fault.trigger, &mut refuse);
        length(fault, &mut refuse);
        together(fault, &mut refuse);
    }
    refused
}

fn chance(fault: &PlannedFault, refuse: &mut dyn FnMut(&str, &str)) {
    if !(fault.probability > 0.0 && fault.probability <= 1.0) {
        refuse("probability", "it is above 0 and at most 1");
    }
    if fault.times == 0 {
        refuse("times", "at least once");
    }
}

fn kind(kind: &FaultKind, refuse: &mut dyn FnMut(&str, &str)) {
    for (_, why) in kind.limits().map(|limits| limits.validate()).unwrap_or_default() {
        refuse("kind", &why);
    }
    match kind {
        FaultKind::StarveCpu { percent } if *percent > 100 => refuse("kind.percent", "from 1 to 100"),
        FaultKind::OverrideExit { code } if !(0..=255).contains(code) => refuse("kind.code", "from 0 to 255"),
        _ => {}
    }
}

fn trigger(field: &str, trigger: &Trigger, refuse: &mut dyn FnMut(&str, &str)) {
    if trigger.first() == 0 {
        refuse(&format!("{field}.nth"), "they are counted from 1");
    }
    match trigger {
        Trigger::Line { containing, .. } if containing.is_empty() => {
            refuse(&format!("{field}.containing"), "it needs some text to look for");
        }
        Trigger::Output { offset: 0, .. } => refuse(&format!("{field}.offset"), "at least one byte"),
        _ => {}
    }
}

fn length(fault: &PlannedFault, refuse: &mut dyn FnMut(&str, &str)) {
    let once = "it is over at once: only a kind that lasts has a length";
    match fault.lasts_ms {
        Some(_) if !fault.kind.lasts() => refuse("lasts_ms", once),
        Some(0) => refuse("lasts_ms", "at least one millisecond"),
        _ => {}
    }
    match &fault.until {
        Some(_) if !fault.kind.lasts() => refuse("until", once),
        Some(_) if fault.lasts_ms.is_some() => refuse("until", "either this or lasts_ms"),
        Some(Trigger::Now) => refuse("until", "it would be over before it has begun"),
        Some(until) => trigger("until", until, refuse),
        None => {}
    }
}

/// What does not go together.
fn together(fault: &PlannedFault, refuse: &mut dyn FnMut(&str, &str)) {
    let (meets, pick) = (fault.kind.meets(), fault.target.pick);
    let birth = matches!(fault.trigger, Trigger::Spawn { .. } | Trigger::Restart { .. });
    match meets {
        Meets::Birth if !birth => refuse("trigger", "a step can only fail of what is being made: spawn or restart"),
        Meets::Birth if pick != Pick::It => refuse("target.pick", "a step fails of the container that is being made"),
        Meets::Life if matches!(fault.trigger, Trigger::Exit { .. }) && pick == Pick::It => {
            refuse("target.pick", "what has ended cannot be hit any more: one, some or all of the others");
        }
        _ => {}
    }
    match (&fault.trigger, pick) {
        (Trigger::Now, Pick::It) => refuse("target.pick", "nothing has happened to anybody: one, some or all"),
        (_, Pick::Some(0)) => refuse("target.pick", "at least one"),
        _ => {}
    }
}
