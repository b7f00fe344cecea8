//! Several filters as one. The kernel runs every filter of a process at each call, so one merged program is faster, and
//! it can have the one listener that a process may have.

use std::collections::BTreeSet;

use super::bpf::ret_value;
use super::{Action, Filter, Rule, SeccompError};

/// The filter that answers each call as the kernel would with all of these loaded in this order: the most severe answer
/// stands (kill the process, kill the thread, trap, errno, notify, trace, log, allow), of two with the same severity that
/// of the filter loaded last. Pure.
///
/// # Errors
/// [`SeccompError::NoArch`] for no filters at all, [`SeccompError::Arches`] for filters of different architectures.
pub fn merge(filters: &[Filter]) -> Result<Filter, SeccompError> {
    let Some((first, others)) = filters.split_first() else { return Err(SeccompError::NoArch) };
    let mut merged = first.clone();
    for filter in others {
        merged = two(&merged, filter)?;
    }
    Ok(merged)
}

fn two(one: &Filter, two: &Filter) -> Result<Filter, SeccompError> {
    let same = |a: &Filter, b: &Filter| a.arches.iter().all(|arch| b.arches.contains(arch));
    if !same(one, two) || !same(two, one) {
        return Err(SeccompError::Arches);
    }
    let calls: BTreeSet<u32> = one.rules.iter().chain(&two.rules).map(|rule| rule.syscall).collect();
    let mut rules = Vec::new();
    for syscall in calls {
        // The first pair whose conditions all hold is made of the first of each whose conditions hold.
        let (firsts, seconds) = (alternatives(one, syscall), alternatives(two, syscall));
        for first in &firsts {
            for second in &seconds {
                let args = first.args.iter().chain(&second.args).copied().collect();
                rules.push(Rule { syscall, args, action: severest(first.action, second.action) });
            }
        }
    }
    Ok(Filter { default: severest(one.default, two.default), rules, arches: one.arches.clone() })
}

/// The rules of one call, to the first that always holds; the last one always does.
fn alternatives(filter: &Filter, syscall: u32) -> Vec<Rule> {
    let mut rules = Vec::new();
    for rule in filter.rules.iter().filter(|rule| rule.syscall == syscall) {
        rules.push(rule.clone());
        if rule.args.is_empty() {
            return rules;
        }
    }
    rules.push(Rule { syscall, args: Vec::new(), action: filter.default });
    rules
}

/// `later` is of the filter that is loaded later, which the kernel asks first.
fn severest(earlier: Action, later: Action) -> Action {
    if severity(earlier) < severity(later) { earlier } else { later }
}

/// Less is more severe: the kernel compares the upper half of the answer as a signed number.
pub(super) fn severity(action: Action) -> i32 {
    (ret_value(action) & 0xffff_0000).cast_signed()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::interpret::tests::{calls, filter, seeds};
    use super::super::interpret::{all, meaning, run};
    use super::super::{Arch, assemble};
    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        /// One program of the merged filter answers as the kernel does with a program for each.
        #[test]
        fn one_program_is_as_good_as_many(
            filters in proptest::collection::vec(filter(8), 1..4),
            numbers in proptest::collection::vec(0..4u32, 24),
            seeds in seeds(),
        ) {
            let mut filters = filters;
            let arches = filters[0].arches.clone();
            // A handful of numbers only, so that the filters speak of the same calls.
            let mut numbers = numbers.into_iter().cycle();
            for filter in &mut filters {
                filter.arches.clone_from(&arches);
                for rule in &mut filter.rules {
                    rule.syscall = numbers.next().unwrap_or(0);
                }
            }
            let merged = merge(&filters).unwrap();
            let programs: Vec<_> = filters.iter().map(|filter| assemble(filter).unwrap()).collect();
            let one = assemble(&merged).unwrap();
            for call in filters.iter().chain([&merged]).flat_map(|filter| calls(filter, &seeds)) {
                prop_assert_eq!(run(&one, &call).0, all(&programs, &call), "{:x?}", call);
                prop_assert_eq!(meaning(&merged, &call), all(&programs, &call), "{:x?}", call);
            }
        }
    }

    #[test]
    fn the_most_severe_answer_stands_and_of_equals_the_last() {
        use Action::{Allow, Errno, KillProcess, KillThread, Log, Notify, Trace, Trap};
        let order = [KillProcess, KillThread, Trap, Errno(1), Notify, Trace, Log, Allow];
        for (at, severe) in order.iter().enumerate() {
            for mild in &order[at..] {
                assert_eq!((severest(*severe, *mild), severest(*mild, *severe)), (*severe, *severe));
            }
        }
        assert_eq!(severest(Errno(1), Errno(2)), Errno(2));
        let arches = |arches: &[Arch]| Filter { default: Allow, rules: Vec::new(), arches: arches.to_vec() };
        assert_eq!(merge(&[]), Err(SeccompError::NoArch));
        let (one, both) = (arches(&[Arch::X86_64]), arches(&[Arch::Aarch64, Arch::X86_64]));
        assert_eq!(merge(&[one.clone(), both]), Err(SeccompError::Arches));
        assert_eq!(merge(std::slice::from_ref(&one)), Ok(one));
    }
}
