//! The system call filter of a bundle, as libseccomp would read it.

use oci_spec::runtime as oci;

use super::Refusals;
use crate::seccomp::{Action, Arch, ArgCheck, Filter, Op, Rule, syscall_number};
use crate::spec::ProcessSpec;

const EPERM: u32 = 1;

pub(super) fn convert(no: &mut Refusals, seccomp: &oci::LinuxSeccomp, process: &mut ProcessSpec) {
    no.unsupported("linux.seccomp.listenerPath", seccomp.listener_path().is_some());
    process.filter_flags = flags(seccomp);
    let default = action(seccomp.default_action(), seccomp.default_errno_ret());
    let default = default.unwrap_or_else(|why| {
        no.add("linux.seccomp.defaultAction", why);
        Action::KillProcess
    });
    let mut rules: Vec<Rule> = Vec::new();
    for (index, syscall) in seccomp.syscalls().iter().flatten().enumerate() {
        match of_one(syscall) {
            // libseccomp has no rules that say what is done anyway.
            Ok(Some((action, _))) if action == default => {}
            Ok(Some((action, checks))) => {
                let numbers = syscall.names().iter().filter_map(|name| syscall_number(name));
                rules.extend(numbers.flat_map(|number| {
                    checks.iter().map(move |args| Rule { syscall: number, args: args.clone(), action })
                }));
            }
            Ok(None) => {}
            Err(why) => no.add(&format!("linux.seccomp.syscalls[{index}]"), why),
        }
    }
    process.filters = vec![Filter { default, rules: without_hidden(rules), arches: vec![Arch::native()] }];
}

/// SECCOMP_FILTER_FLAG_*; a single thread is in sync with itself.
fn flags(seccomp: &oci::LinuxSeccomp) -> u64 {
    use oci::LinuxSeccompFilterFlag as Flag;
    let bit = |flag: &Flag| match flag {
        Flag::SeccompFilterFlagLog => 2,
        Flag::SeccompFilterFlagSpecAllow => 4,
        Flag::SeccompFilterFlagWaitKillableRecv => 0x20,
        Flag::SeccompFilterFlagTsync => 0,
    };
    seccomp.flags().iter().flatten().fold(0, |all, flag| all | bit(flag))
}

/// A rule without conditions hides those of the same call that have some, wherever it stands.
fn without_hidden(rules: Vec<Rule>) -> Vec<Rule> {
    let always: std::collections::BTreeSet<u32> =
        rules.iter().filter(|rule| rule.args.is_empty()).map(|rule| rule.syscall).collect();
    rules.into_iter().filter(|rule| rule.args.is_empty() || !always.contains(&rule.syscall)).collect()
}

type Conditions = Vec<Vec<ArgCheck>>;

/// What is done, and under which conditions: one of them is enough.
fn of_one(syscall: &oci::LinuxSyscall) -> Result<Option<(Action, Conditions)>, String> {
    if syscall.names().is_empty() {
        return Err("it names no system call".into());
    }
    let action = action(syscall.action(), syscall.errno_ret())?;
    let mut checks = Vec::new();
    for arg in syscall.args().iter().flatten() {
        checks.push(condition(arg)?);
    }
    let twice = |index: usize| checks.iter().filter(|check| usize::from(check.index) == index).count() > 1;
    // Several about the same argument are alternatives, as runc has it: together they could rarely be met.
    let conditions = if (0..6).any(twice) { checks.into_iter().map(|one| vec![one]).collect() } else { vec![checks] };
    Ok(Some((action, conditions)))
}

fn condition(arg: &oci::LinuxSeccompArg) -> Result<ArgCheck, String> {
    use oci::LinuxSeccompOperator as Is;
    let index = u8::try_from(arg.index()).ok().filter(|index| *index < 6);
    let index = index.ok_or_else(|| format!("there is no argument {}: they are 0 to 5", arg.index()))?;
    let (op, value) = match arg.op() {
        Is::ScmpCmpNe => (Op::Ne, arg.value()),
        Is::ScmpCmpLt => (Op::Lt, arg.value()),
        Is::ScmpCmpLe => (Op::Le, arg.value()),
        Is::ScmpCmpEq => (Op::Eq, arg.value()),
        Is::ScmpCmpGe => (Op::Ge, arg.value()),
        Is::ScmpCmpGt => (Op::Gt, arg.value()),
        // The first is the mask.
        Is::ScmpCmpMaskedEq => (Op::MaskedEq(arg.value()), arg.value_two().unwrap_or(0) & arg.value()),
    };
    Ok(ArgCheck { index, op, value })
}

fn action(action: oci::LinuxSeccompAction, errno: Option<u32>) -> Result<Action, String> {
    use oci::LinuxSeccompAction as Act;
    let number = errno.unwrap_or(EPERM);
    Ok(match action {
        Act::ScmpActKill | Act::ScmpActKillThread => Action::KillThread,
        Act::ScmpActKillProcess => Action::KillProcess,
        Act::ScmpActTrap => Action::Trap,
        Act::ScmpActErrno => {
            let number = u16::try_from(number).ok().filter(|number| *number <= 4095);
            Action::Errno(number.ok_or_else(|| "an error number is at most 4095".to_owned())?)
        }
        Act::ScmpActNotify => Action::Notify,
        Act::ScmpActTrace => Action::Trace,
        Act::ScmpActLog => Action::Log,
        Act::ScmpActAllow => Action::Allow,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(json: &str) -> Result<Filter, Vec<String>> {
        let (mut no, mut process) = (Refusals(Vec::new()), ProcessSpec::default());
        convert(&mut no, &serde_json::from_str(json).unwrap(), &mut process);
        let fields: Vec<_> = no.0.iter().map(|error| error.field().unwrap_or_default().to_owned()).collect();
        if fields.is_empty() { Ok(process.filters.remove(0)) } else { Err(fields) }
    }

    #[test]
    fn rules_are_read_as_libseccomp_reads_them() {
        let read = filter(
            r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"architectures":["SCMP_ARCH_X86_64"],"syscalls":[
                {"names":["clone","no_such_call"],"action":"SCMP_ACT_ALLOW",
                    "args":[{"index":0,"value":2114060288,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}]},
                {"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"}]},
                {"names":["socket"],"action":"SCMP_ACT_KILL"},
                {"names":["personality"],"action":"SCMP_ACT_LOG",
                    "args":[{"index":0,"value":0,"op":"SCMP_CMP_EQ"},{"index":0,"value":8,"op":"SCMP_CMP_EQ"}]},
                {"names":["read"],"action":"SCMP_ACT_ERRNO","errnoRet":38}]}"#,
        )
        .unwrap();
        assert_eq!(read.default, Action::Errno(38));
        let of = |name: &str| {
            let number = syscall_number(name).unwrap();
            read.rules
                .iter()
                .filter(|rule| rule.syscall == number)
                .map(|rule| (rule.args.len(), rule.action))
                .collect::<Vec<_>>()
        };
        assert_eq!(of("clone"), [(1, Action::Allow)]);
        assert_eq!(of("socket"), [(0, Action::KillThread)], "it always holds");
        assert_eq!(of("personality"), [(1, Action::Log), (1, Action::Log)]);
        assert_eq!(of("read"), [], "that is what is done anyway");
    }

    #[test]
    fn what_cannot_be_meant_is_named() {
        let wrong = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":[],"action":"SCMP_ACT_KILL"},
            {"names":["read"],"action":"SCMP_ACT_ERRNO","errnoRet":5000},
            {"names":["read"],"action":"SCMP_ACT_KILL","args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]}]}"#;
        let field = |index| format!("linux.seccomp.syscalls[{index}]");
        assert_eq!(filter(wrong).unwrap_err(), [field(0), field(1), field(2)]);
    }
}
