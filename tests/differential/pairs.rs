//! Which configurations: the plain one, each variant alone, and combinations of one variant of each axis that have as many pairs
//! among them as so few can have. The same ones each time.

use std::collections::BTreeSet;

use crate::config::{VARIANTS, Variant};

/// How many there are in all.
const TOTAL: usize = 272;
/// So many combinations are thought of for each that is taken.
const THOUGHT_OF: usize = 40;

/// One configuration.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) number: usize,
    pub(crate) variants: Vec<&'static Variant>,
}

impl Case {
    /// `axis/name+axis/name`.
    pub(crate) fn name(&self) -> String {
        let names: Vec<String> = self.variants.iter().map(|of| format!("{}/{}", of.axis, of.name)).collect();
        if names.is_empty() { "plain".to_owned() } else { names.join("+") }
    }

    /// It has this variant.
    pub(crate) fn has(&self, axis: &str, names: &[&str]) -> bool {
        self.variants.iter().any(|of| of.axis == axis && (names.is_empty() || names.contains(&of.name)))
    }
}

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    let mut lists: Vec<Vec<&'static Variant>> = vec![Vec::new()];
    lists.extend(VARIANTS.iter().map(|variant| vec![variant]));
    let mut chance = Chance(0x0060);
    let mut met = BTreeSet::new();
    while lists.len() < TOTAL {
        let candidates = (0..THOUGHT_OF).map(|_| combination(&mut chance));
        let best = candidates.max_by_key(|list| pairs(list).filter(|pair| !met.contains(pair)).count());
        let best = best.unwrap_or_default();
        met.extend(pairs(&best));
        lists.push(best);
    }
    lists.into_iter().enumerate().map(|(number, variants)| Case { number, variants }).collect()
}

/// Of each axis one variant, or the plain one.
fn combination(chance: &mut Chance) -> Vec<&'static Variant> {
    let mut axes: Vec<&str> = VARIANTS.iter().map(|variant| variant.axis).collect();
    axes.dedup();
    let mut list = Vec::new();
    for axis in axes {
        let of_axis: Vec<&Variant> = VARIANTS.iter().filter(|of| of.axis == axis && !of.alone).collect();
        list.extend(of_axis.get(chance.below(of_axis.len() + 1)).copied());
    }
    list
}

fn pairs<'a>(
    list: &'a [&'static Variant],
) -> impl Iterator<Item = (&'static str, &'static str, &'static str, &'static str)> + 'a {
    list.iter().enumerate().flat_map(move |(index, one)| {
        list[index + 1..].iter().map(move |other| (one.axis, one.name, other.axis, other.name))
    })
}

/// A small generator of numbers, the same on every machine.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % most.max(1)
    }
}
