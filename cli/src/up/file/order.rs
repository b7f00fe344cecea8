//! Who comes after whom among the members of one group. Pure.

use super::refusal::{Refusal, near};
use super::text::{Span, Text};

/// A member, and what it says.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) name: String,
    pub(super) span: Span,
    /// With the tables that it is in.
    pub(super) field: String,
    pub(super) after: Vec<(String, Span)>,
}

/// Names that mean nobody or are taken, and circles.
pub(super) fn check(said: &[Said], text: &Text, refusals: &mut Vec<Refusal>) {
    for (index, member) in said.iter().enumerate() {
        if let Some(before) = said.iter().take(index).find(|before| before.name == member.name) {
            let line = text.place(before.span.start).0;
            let why = format!("a service and a group cannot both be {:?}: see line {line}", member.name);
            refusals.push(Refusal::new(&member.span, &member.field, why));
        }
        for (name, span) in &member.after {
            if !said.iter().any(|other| other.name == *name) {
                let others: Vec<&str> =
                    said.iter().map(|other| other.name.as_str()).filter(|other| *other != member.name).collect();
                let meant = near(name, others.iter().copied()).map(str::to_owned);
                let hint = meant.or_else(|| (!others.is_empty()).then(|| others.join(", ")));
                let why = format!("no member of this group is called {name:?}");
                refusals.push(Refusal::new(span, format!("{}.after", member.field), why).maybe(hint));
            }
        }
    }
    circles(said, text, refusals);
}

/// Each circle once, at the first word that is part of it.
fn circles(said: &[Said], text: &Text, refusals: &mut Vec<Refusal>) {
    let mut left: Vec<&Said> = said.iter().collect();
    loop {
        // Who waits for nobody that is left is in no circle.
        let names: Vec<&str> = left.iter().map(|member| member.name.as_str()).collect();
        let before = left.len();
        left.retain(|member| member.after.iter().any(|(name, _)| names.contains(&name.as_str())));
        if left.len() < before {
            continue;
        }
        let Some(circle) = circle(&left) else { return };
        let Some((first, (_, span))) = circle.first() else { return };
        let words = circle.iter().map(|(member, (next, span))| {
            format!("{} waits for {next} (line {})", member.name, text.place(span.start).0)
        });
        let why = format!("they wait for each other: {}", words.collect::<Vec<_>>().join(", "));
        refusals.push(Refusal::new(span, format!("{}.after", first.field), why).hint("take one of these out"));
        left.retain(|member| circle.iter().all(|(of_it, _)| of_it.name != member.name));
    }
}

type Edge<'a> = (&'a Said, &'a (String, Span));

/// From who is first on along who they wait for; everybody here waits for somebody here.
fn circle<'a>(left: &[&'a Said]) -> Option<Vec<Edge<'a>>> {
    let mut way: Vec<Edge<'a>> = Vec::new();
    let mut here = *left.first()?;
    loop {
        if let Some(began) = way.iter().position(|(member, _)| member.name == here.name) {
            return Some(way.split_off(began));
        }
        let find = |name: &str| left.iter().find(|other| other.name == name);
        let (edge, next) = here.after.iter().find_map(|edge| Some((edge, find(&edge.0)?)))?;
        way.push((here, edge));
        here = next;
    }
}
