//! The system call filter of a bundle, as libseccomp would read it.

use oci_spec::runtime as oci;

use super::Refusals;
use crate::seccomp::{Action, Arch, ArgCheck, Filter, Op, Rule};
use crate::spec::{FilterListener, ProcessSpec};

const EPERM: u32 = 1;

pub(super) fn convert(no: &mut Refusals, seccomp: &oci::LinuxSeccomp, process: &mut ProcessSpec) {
    process.filter_flags = flags(seccomp);
    let default = action(seccomp.default_action(), seccomp.default_errno_ret());
    let default = default.unwrap_or_else(|why| {
        no.add("linux.seccomp.defaultAction", why);
        Action::KillProcess
    });
    let mut asked: Vec<Asked<'_>> = Vec::new();
    for (index, syscall) in seccomp.syscalls().iter().flatten().enumerate() {
        match of_one(syscall) {
            // libseccomp has no rules that say what is done anyway.
            Ok(one) if one.action == default => {}
            Ok(one) => asked.push(one),
            Err(why) => no.add(&format!("linux.seccomp.syscalls[{index}]"), why),
        }
    }
    // This machine's own is always meant. x32 has the numbers of x86_64 with a bit that no call has here.
    let arches = std::iter::once(Arch::native()).chain(compat(seccomp));
    process.filters = arches
        .map(|arch| {
            let rules = asked.iter().flat_map(|one| rules(arch, one)).collect();
            Filter { default, rules: without_hidden(rules), arches: vec![arch] }
        })
        .collect();
}

/// The 32-bit programs that this machine runs too, where they are listed.
fn compat(seccomp: &oci::LinuxSeccomp) -> Option<Arch> {
    let compat = Arch::native().compat()?;
    let name = if compat == Arch::I386 { oci::Arch::ScmpArchX86 } else { oci::Arch::ScmpArchArm };
    seccomp.architectures().iter().flatten().any(|arch| *arch == name).then_some(compat)
}

/// What is asked for there, of the calls that it has.
fn rules(arch: Arch, asked: &Asked<'_>) -> Vec<Rule> {
    let narrow = Arch::native().compat() == Some(arch);
    let mut all = Vec::new();
    for name in asked.names {
        let checks = asked
            .conditions
            .iter()
            .map(|checks| if narrow { checks.iter().map(low).collect() } else { checks.clone() });
        if let Some(number) = arch.number(name) {
            all.extend(checks.map(|args: Vec<ArgCheck>| Rule { syscall: number, args, action: asked.action }));
        }
        let gate = if arch == Arch::I386 { gate(name) } else { None };
        if let Some((gate, place)) = gate {
            // Its arguments lie in memory, which no filter sees: what is let through by them is not, what is stopped is
            // always; but a rule about the gate itself without conditions hides both, as with libseccomp.
            let always = asked.conditions.iter().any(Vec::is_empty);
            if always || !matches!(asked.action, Action::Allow | Action::Log | Action::Trace | Action::Notify) {
                let args = vec![ArgCheck { index: 0, op: Op::MaskedEq(0xffff), value: place }];
                all.extend(arch.number(gate).map(|number| Rule { syscall: number, args, action: asked.action }));
            }
        }
    }
    all
}

/// Registers there have 32 bits.
fn low(check: &ArgCheck) -> ArgCheck {
    let half = |value: u64| value & 0xffff_ffff;
    let op = match check.op {
        Op::MaskedEq(mask) => Op::MaskedEq(half(mask)),
        op => op,
    };
    ArgCheck { index: check.index, op, value: half(check.value) }
}

/// Calls of i386 that are made through one of two others as well, with what they are called by there (`linux/net.h`, `linux/ipc.h`; of
/// the second the upper half is a version).
fn gate(name: &str) -> Option<(&'static str, u64)> {
    const SOCKETS: [&str; 20] = [
        "socket",
        "bind",
        "connect",
        "listen",
        "accept",
        "getsockname",
        "getpeername",
        "socketpair",
        "send",
        "recv",
        "sendto",
        "recvfrom",
        "shutdown",
        "setsockopt",
        "getsockopt",
        "sendmsg",
        "recvmsg",
        "accept4",
        "recvmmsg",
        "sendmmsg",
    ];
    const IPC: [(&str, u64); 12] = [
        ("semop", 1),
        ("semget", 2),
        ("semctl", 3),
        ("semtimedop", 4),
        ("msgsnd", 11),
        ("msgrcv", 12),
        ("msgget", 13),
        ("msgctl", 14),
        ("shmat", 21),
        ("shmdt", 22),
        ("shmget", 23),
        ("shmctl", 24),
    ];
    let socket = SOCKETS.iter().position(|call| *call == name).and_then(|at| u64::try_from(at + 1).ok());
    let ipc = || IPC.iter().find(|(call, _)| *call == name).map(|(_, place)| ("ipc", *place));
    socket.map(|place| ("socketcall", place)).or_else(ipc)
}

/// Who answers.
pub(super) fn listener(no: &mut Refusals, seccomp: &oci::LinuxSeccomp) -> Option<FilterListener> {
    let path = seccomp.listener_path().clone().filter(|path| !path.as_os_str().is_empty());
    let metadata = seccomp.listener_metadata().clone().unwrap_or_default();
    if path.is_none() && !metadata.is_empty() {
        no.add("linux.seccomp.listenerMetadata", "there is no listenerPath that it could be sent to");
    }
    if path.as_ref().is_some_and(|path| !path.is_absolute() || path.as_os_str().len() > 107) {
        no.add("linux.seccomp.listenerPath", "it is no absolute path of at most 107 bytes, as a unix socket has");
    }
    Some(FilterListener { path: path?, metadata })
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

/// What is done with these calls, and under which conditions: one of them is enough.
struct Asked<'a> {
    names: &'a [String],
    action: Action,
    conditions: Vec<Vec<ArgCheck>>,
}

fn of_one(syscall: &oci::LinuxSyscall) -> Result<Asked<'_>, String> {
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
    Ok(Asked { names: syscall.names(), action, conditions })
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
    use crate::seccomp::syscall_number;

    fn filters(json: &str) -> Result<Vec<Filter>, Vec<String>> {
        let (mut no, mut process) = (Refusals(Vec::new()), ProcessSpec::default());
        convert(&mut no, &serde_json::from_str(json).unwrap(), &mut process);
        let fields: Vec<_> = no.0.iter().map(|error| error.field().unwrap_or_default().to_owned()).collect();
        if fields.is_empty() { Ok(process.filters) } else { Err(fields) }
    }

    fn filter(json: &str) -> Result<Filter, Vec<String>> {
        filters(json).map(|mut all| all.remove(0))
    }

    #[test]
    fn programs_of_32_bits_are_filtered_by_the_same_names() {
        let all = filters(
            r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86","SCMP_ARCH_X32",
                "SCMP_ARCH_AARCH64","SCMP_ARCH_ARM"],"syscalls":[
                {"names":["mkdir","openat","stat64"],"action":"SCMP_ACT_ALLOW"},
                {"names":["bind"],"action":"SCMP_ACT_ALLOW"},
                {"names":["listen"],"action":"SCMP_ACT_ALLOW","args":[{"index":1,"value":1,"op":"SCMP_CMP_EQ"}]},
                {"names":["connect"],"action":"SCMP_ACT_KILL","args":[{"index":1,"value":1,"op":"SCMP_CMP_EQ"}]},
                {"names":["openat2"],"action":"SCMP_ACT_LOG",
                    "args":[{"index":0,"value":18446744073709551615,"op":"SCMP_CMP_EQ"}]}]}"#,
        )
        .unwrap();
        let compat = Arch::native().compat().unwrap();
        assert_eq!((all.len(), all[0].arches[0], all[1].arches[0]), (2, Arch::native(), compat));
        let of = |number: u32| all[1].rules.iter().filter(|rule| rule.syscall == number).collect::<Vec<_>>();
        assert_eq!(of(39).len() + of(195).len(), 2, "mkdir and stat64 have the same numbers on both");
        assert_eq!(of(437)[0].args[0].value, 0xffff_ffff);
        if compat == Arch::I386 {
            let gates: Vec<_> = of(102).into_iter().map(|rule| (rule.args[0].value, rule.action)).collect();
            assert_eq!(gates, [(2, Action::Allow), (3, Action::KillThread)], "not listen, whose argument nobody sees");
        }
        let native = filters(r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_S390X"]}"#).unwrap();
        assert_eq!(native.len(), 1);
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
