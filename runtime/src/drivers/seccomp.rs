//! A system call filter in the words of a config.json.
//!
//! Ours say what the first rule that fits decides; those words have no order. So the conditions of a call are made to exclude
//! each other: each is a set of arguments with some bits given (a *cube*), and what is left over by all of them is written as
//! such sets too.
//!
//! runc and crun pass over a name that their libseccomp does not know. Where the default lets calls through, a call that is refused by
//! such a name would be let through as well; so it is said the other way round then: the default refuses, and every other call that is
//! known here is named as one that passes.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::seccomp::{Action, Arch, ArgCheck, Filter, Op, Rule, syscall_name, syscall_number};

/// Linux 4.18. What was numbered after it not every libseccomp knows that is in use.
const NEWEST_OF_ALL: &str = "rseq";
/// What a call gets whose name is not known there: that of an older kernel.
const ENOSYS: u16 = 38;

/// Arguments that have these bits where the mask is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cube {
    mask: u64,
    value: u64,
}

/// What libseccomp can be told.
pub(super) fn written(filter: &Filter, flags: u64) -> Result<Value, String> {
    if filter.arches != [Arch::native()] {
        return Err("it is about other architectures than this machine's".into());
    }
    let mut rules: BTreeMap<u32, Vec<&Rule>> = BTreeMap::new();
    for rule in &filter.rules {
        rules.entry(rule.syscall).or_default().push(rule);
    }
    let default = match closed(filter, &rules) {
        true => {
            // Nothing is said of them, and that has to be said.
            for (number, _) in Arch::native().syscalls() {
                rules.entry(number).or_default();
            }
            Action::Errno(ENOSYS)
        }
        false => filter.default,
    };
    let mut always: BTreeMap<String, (Value, Vec<&str>)> = BTreeMap::new();
    let mut calls = Vec::new();
    for (number, rules) in rules {
        let name = syscall_name(number).ok_or_else(|| format!("system call {number} has no name here"))?;
        for (check, action) in apart(&rules, filter.default, default).map_err(|why| format!("{name}: {why}"))? {
            let mut entry = of_action(action)?;
            match check {
                // Those of one answer are one entry.
                None => always.entry(entry.to_string()).or_insert((entry, Vec::new())).1.push(name),
                Some(checks) => {
                    entry["names"] = json!([name]);
                    entry["args"] = checks;
                    calls.push(entry);
                }
            }
        }
    }
    for (mut entry, names) in always.into_values() {
        entry["names"] = json!(names);
        calls.push(entry);
    }
    let mut made = json!({ "architectures": [of_arch(Arch::native())], "syscalls": calls });
    let default = of_action(default)?;
    made["defaultAction"] = default["action"].clone();
    if let Some(errno) = default.get("errnoRet") {
        made["defaultErrnoRet"] = errno.clone();
    }
    let known = [(2, "SECCOMP_FILTER_FLAG_LOG"), (4, "SECCOMP_FILTER_FLAG_SPEC_ALLOW")];
    let named: Vec<_> = known.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name).collect();
    if !named.is_empty() {
        made["flags"] = json!(named);
    }
    Ok(made)
}

/// It lets through what it does not name, and refuses by a name that may be passed over.
fn closed(filter: &Filter, rules: &BTreeMap<u32, Vec<&Rule>>) -> bool {
    let passes = |action| matches!(action, Action::Allow | Action::Log);
    let newest = syscall_number(NEWEST_OF_ALL).unwrap_or(0);
    let mut uncertain = rules.range(newest.saturating_add(1)..).flat_map(|(_, rules)| rules);
    passes(filter.default) && uncertain.any(|rule| !passes(rule.action))
}

type Entries = Vec<(Option<Value>, Action)>;

/// The rules of one call, none of which fits where another one does; without those that say what is said of all calls. `unsaid`: what a
/// call gets for which no rule fits; `default`: what is written as that of all calls.
fn apart(rules: &[&Rule], unsaid: Action, default: Action) -> Result<Entries, String> {
    let first = rules.iter().position(|rule| rule.args.is_empty());
    let (checked, otherwise) = match first {
        Some(at) => (&rules[..at], rules[at].action),
        None => (rules, unsaid),
    };
    let mut entries: Entries = match (cubes(checked), checked) {
        (_, []) => vec![(None, otherwise)],
        (Some((index, cubes)), _) => disjoint(&cubes, otherwise)
            .into_iter()
            .map(|(cube, action)| (Some(json!([of_cube(index, cube)])), action))
            .collect(),
        (None, _)
            if otherwise == default
                && checked.iter().all(|rule| rule.action == checked[0].action && once_each(rule)) =>
        {
            checked.iter().map(|rule| (Some(rule.args.iter().map(of_check).collect()), rule.action)).collect()
        }
        _ => {
            return Err(
                "no config.json can say that the first rule that fits decides, for conditions like these".into()
            );
        }
    };
    entries.retain(|(_, action)| *action != default);
    Ok(entries)
}

/// No argument has two conditions: to who reads a config.json those would be alternatives, of which one is enough.
fn once_each(rule: &Rule) -> bool {
    (0..6).all(|index| rule.args.iter().filter(|check| check.index == index).count() < 2)
}

/// As sets of one argument, where they are such.
fn cubes(rules: &[&Rule]) -> Option<(u8, Vec<(Cube, Action)>)> {
    let index = rules.first()?.args.first()?.index;
    let cube = |rule: &&Rule| match rule.args.as_slice() {
        [ArgCheck { index: at, op: Op::MaskedEq(mask), value }] if *at == index => {
            Some((Cube { mask: *mask, value: *value }, rule.action))
        }
        [ArgCheck { index: at, op: Op::Eq, value }] if *at == index => {
            Some((Cube { mask: u64::MAX, value: *value }, rule.action))
        }
        _ => None,
    };
    Some((index, rules.iter().map(cube).collect::<Option<_>>()?))
}

/// Each with what no one before it has said, and at last what is left.
fn disjoint(cubes: &[(Cube, Action)], otherwise: Action) -> Vec<(Cube, Action)> {
    let mut left = vec![Cube { mask: 0, value: 0 }];
    let mut all = Vec::new();
    for (cube, action) in merged(cubes) {
        all.extend(left.iter().filter_map(|free| common(*free, cube)).map(|part| (part, action)));
        left = left.iter().flat_map(|free| without(*free, cube)).collect();
    }
    all.extend(left.into_iter().map(|free| (free, otherwise)));
    all
}

/// Two neighbours that differ in one bit are one set.
fn merged(cubes: &[(Cube, Action)]) -> Vec<(Cube, Action)> {
    let mut all: Vec<(Cube, Action)> = cubes.to_vec();
    if all.iter().any(|(_, action)| *action != all[0].1) {
        return all;
    }
    while let Some((at, other, bit)) = neighbours(&all) {
        all[at].0.mask &= !bit;
        all[at].0.value &= !bit;
        all.remove(other);
    }
    all
}

fn neighbours(all: &[(Cube, Action)]) -> Option<(usize, usize, u64)> {
    let pairs = (0..all.len()).flat_map(|at| (at + 1..all.len()).map(move |other| (at, other)));
    pairs.into_iter().find_map(|(at, other)| {
        let (a, b) = (all[at].0, all[other].0);
        let differ = a.value ^ b.value;
        (a.mask == b.mask && differ.count_ones() == 1).then_some((at, other, differ))
    })
}

fn common(a: Cube, b: Cube) -> Option<Cube> {
    let both = a.mask & b.mask;
    (a.value & both == b.value & both).then_some(Cube { mask: a.mask | b.mask, value: a.value | b.value })
}

/// What of `from` is not in `taken`, in parts that exclude each other.
fn without(from: Cube, taken: Cube) -> Vec<Cube> {
    if common(from, taken).is_none() {
        return vec![from];
    }
    let mut rest = from;
    let mut parts = Vec::new();
    for bit in (0..64).map(|bit| 1u64 << bit).filter(|bit| taken.mask & !from.mask & bit != 0) {
        rest.mask |= bit;
        parts.push(Cube { mask: rest.mask, value: rest.value | (!taken.value & bit) });
        rest.value |= taken.value & bit;
    }
    parts
}

fn of_cube(index: u8, cube: Cube) -> Value {
    json!({ "index": index, "value": cube.mask, "valueTwo": cube.value, "op": "SCMP_CMP_MASKED_EQ" })
}

fn of_check(check: &ArgCheck) -> Value {
    let op = match check.op {
        Op::MaskedEq(mask) => return of_cube(check.index, Cube { mask, value: check.value }),
        Op::Eq => "SCMP_CMP_EQ",
        Op::Ne => "SCMP_CMP_NE",
        Op::Lt => "SCMP_CMP_LT",
        Op::Le => "SCMP_CMP_LE",
        Op::Gt => "SCMP_CMP_GT",
        Op::Ge => "SCMP_CMP_GE",
    };
    json!({ "index": check.index, "value": check.value, "op": op })
}

fn of_action(action: Action) -> Result<Value, String> {
    let name = match action {
        Action::Errno(errno) => return Ok(json!({ "action": "SCMP_ACT_ERRNO", "errnoRet": errno })),
        Action::Allow => "SCMP_ACT_ALLOW",
        Action::KillProcess => "SCMP_ACT_KILL_PROCESS",
        Action::KillThread => "SCMP_ACT_KILL_THREAD",
        Action::Trap => "SCMP_ACT_TRAP",
        Action::Log => "SCMP_ACT_LOG",
        Action::Trace => "SCMP_ACT_TRACE",
        Action::Notify => return Err("a driver has no listener for calls that are asked about".into()),
    };
    Ok(json!({ "action": name }))
}

fn of_arch(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "SCMP_ARCH_X86_64",
        Arch::Aarch64 => "SCMP_ARCH_AARCH64",
        Arch::I386 => "SCMP_ARCH_X86",
        Arch::Arm => "SCMP_ARCH_ARM",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::{default_profile, syscall_number};
    use crate::spec::{CapSet, Caps};

    /// What ours says of a call.
    fn ours(filter: &Filter, number: u32, argument: u64) -> Action {
        let fits = |check: &ArgCheck| match check.op {
            Op::MaskedEq(mask) => argument & mask == check.value,
            Op::Eq => argument == check.value,
            _ => panic!("{check:?}"),
        };
        let mut rules = filter.rules.iter().filter(|rule| rule.syscall == number);
        rules.find(|rule| rule.args.iter().all(fits)).map_or(filter.default, |rule| rule.action)
    }

    /// What is written says the same, and no two entries fit that differ.
    fn theirs(written: &Value, name: &str, argument: u64) -> Value {
        let fits = |check: &Value| {
            let number = |key: &str| check[key].as_u64().unwrap();
            assert_eq!(check["op"], "SCMP_CMP_MASKED_EQ");
            argument & number("value") == number("valueTwo")
        };
        let named = |entry: &&Value| entry["names"].as_array().unwrap().iter().any(|known| known == name);
        let mut found: Vec<Value> = written["syscalls"]
            .as_array()
            .unwrap()
            .iter()
            .filter(named)
            .filter(|entry| entry["args"].as_array().is_none_or(|checks| checks.iter().all(fits)))
            .map(|entry| json!({ "action": entry["action"], "errnoRet": entry["errnoRet"] }))
            .collect();
        assert!(found.len() < 2, "{name} {argument:#x}: {found:?}");
        found
            .pop()
            .unwrap_or_else(|| json!({ "action": written["defaultAction"], "errnoRet": written["defaultErrnoRet"] }))
    }

    #[test]
    fn the_profile_says_the_same_in_other_words() {
        for caps in [CapSet::EMPTY, Caps::default_root().bounding, CapSet::ALL] {
            let filter = default_profile(caps);
            let made = written(&filter, 0).unwrap();
            let bits = (0..64).map(|bit| 1u64 << bit);
            let values = [0, 8, 40, 0x2_0000, 0x2_0008, 0xffff_ffff, u64::MAX, 0x5412, 0x541c, 0x3d_0f00, 0x1000_0011];
            for argument in bits.chain(values).chain([0x1_0000_0028, 0x1_0000_5412, 0x600, 0x0120_0011]) {
                for (number, name) in Arch::native().syscalls() {
                    let mut expected = of_action(ours(&filter, number, argument)).unwrap();
                    if expected.get("errnoRet").is_none() {
                        expected["errnoRet"] = Value::Null;
                    }
                    assert_eq!(theirs(&made, name, argument), expected, "{name} {argument:#x} {caps}");
                }
            }
            let conditions = made["syscalls"].as_array().unwrap().iter().filter(|entry| entry.get("args").is_some());
            assert!(conditions.count() < 400);
        }
    }

    /// Refused by a name that may not be known there: then nothing else is let through by default.
    #[test]
    fn an_unknown_name_does_not_open_it() {
        let refused = |name| Rule { syscall: syscall_number(name).unwrap(), args: vec![], action: Action::Errno(1) };
        let of = |rules: Vec<Rule>, default| {
            let filter = Filter { default, rules, arches: vec![Arch::native()] };
            (written(&filter, 0).unwrap(), filter)
        };
        let (old, _) = of(vec![refused("ptrace")], Action::Allow);
        assert_eq!(old["defaultAction"], "SCMP_ACT_ALLOW");
        for default in [Action::Allow, Action::Log] {
            let mut rules = vec![refused("ptrace"), refused("mseal")];
            let some = ArgCheck { index: 0, op: Op::Eq, value: 5 };
            rules.push(Rule { args: vec![some], ..refused("cachestat") });
            let (made, filter) = of(rules, default);
            assert_eq!((&made["defaultAction"], &made["defaultErrnoRet"]), (&json!("SCMP_ACT_ERRNO"), &json!(ENOSYS)));
            for (number, name) in Arch::native().syscalls() {
                for argument in [5, 6] {
                    let mut expected = of_action(ours(&filter, number, argument)).unwrap();
                    if expected.get("errnoRet").is_none() {
                        expected["errnoRet"] = Value::Null;
                    }
                    assert_eq!(theirs(&made, name, argument), expected, "{name} {argument}");
                }
            }
        }
        let (kept, _) = of(vec![refused("mseal")], Action::Errno(13));
        assert_eq!(kept["defaultErrnoRet"], 13);
    }

    #[test]
    fn what_has_no_words_is_refused() {
        let number = syscall_number("write").unwrap();
        let at = |index, op| ArgCheck { index, op, value: 2 };
        let check = |op| at(0, op);
        let rule = |args, action| Rule { syscall: number, args, action };
        let of = |rules| written(&Filter { default: Action::Allow, rules, arches: vec![Arch::native()] }, 6);
        let one = of(vec![rule(vec![check(Op::Gt), at(2, Op::Lt)], Action::Errno(5))]).unwrap();
        assert_eq!(one["syscalls"][0]["args"].as_array().unwrap().len(), 2);
        assert_eq!(one["flags"], json!(["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]));
        let between = vec![rule(vec![check(Op::Ge), check(Op::Le)], Action::Errno(5))];
        assert!(of(between).unwrap_err().starts_with("write: "), "either would be enough");
        let two = vec![rule(vec![check(Op::Gt)], Action::Errno(5)), rule(vec![], Action::Errno(6))];
        assert!(of(two).unwrap_err().starts_with("write: "));
        assert!(of(vec![rule(vec![], Action::Notify)]).is_err());
        assert!(written(&Filter { default: Action::Allow, rules: vec![], arches: vec![] }, 0).is_err());
    }
}
