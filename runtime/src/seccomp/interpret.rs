//! For tests: a classic BPF machine with the kernel's own checks (`bpf_check_classic`, `seccomp_check_filter`), and the
//! meaning of a filter in plain Rust to compare with.

use super::bpf::{AND, DATA_ARCH, DATA_ARGS, DATA_NR, JA, JEQ, JGE, JGT, LD_ABS, RET, X32_BIT, ret_value};
use super::{Action, Arch, Filter, Insn, MAX_INSNS, Op};

/// `struct seccomp_data`, without the instruction pointer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) arch: u32,
    pub(super) nr: u32,
    pub(super) args: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        match offset {
            DATA_NR => self.nr,
            DATA_ARCH => self.arch,
            _ => {
                let at = (offset - DATA_ARGS) as usize;
                (self.args[at / 8] >> (at % 8 * 8)) as u32
            }
        }
    }
}

/// What the kernel would refuse to load.
pub(super) fn verify(program: &[Insn]) {
    assert!((1..=MAX_INSNS).contains(&program.len()));
    assert_eq!(program.last().map(|insn| insn.code), Some(RET), "the end is reached without a return");
    for (at, insn) in program.iter().enumerate() {
        let behind = program.len() - at - 1;
        match insn.code {
            RET | AND => {}
            LD_ABS => assert!(insn.k % 4 == 0 && (insn.k < 8 || (16..64).contains(&insn.k)), "{at}: load {}", insn.k),
            JA => assert!((insn.k as usize) < behind, "{at}: jump past the end"),
            JEQ | JGT | JGE => assert!(usize::from(insn.jt.max(insn.jf)) < behind, "{at}: jump past the end"),
            code => panic!("{at}: unknown operation {code:#x}"),
        }
    }
}

/// Run it; what it returns and after how many instructions.
pub(super) fn run(program: &[Insn], call: &Call) -> (u32, usize) {
    let (mut at, mut a, mut steps) = (0, 0, 0);
    loop {
        let insn = program[at];
        at += 1;
        steps += 1;
        let jump = |yes: bool| usize::from(if yes { insn.jt } else { insn.jf });
        match insn.code {
            LD_ABS => a = call.word(insn.k),
            AND => a &= insn.k,
            JA => at += insn.k as usize,
            JEQ => at += jump(a == insn.k),
            JGT => at += jump(a > insn.k),
            JGE => at += jump(a >= insn.k),
            RET => return (insn.k, steps),
            code => panic!("unknown operation {code:#x}"),
        }
    }
}

/// What the filter means, without any program.
pub(super) fn meaning(filter: &Filter, call: &Call) -> u32 {
    if !filter.arches.iter().any(|arch| arch.audit() == call.arch) {
        return ret_value(Action::KillProcess);
    }
    if filter.arches.contains(&Arch::X86_64) && call.nr >= X32_BIT {
        return ret_value(Action::Errno(38));
    }
    let decides = |rule: &&super::Rule| {
        rule.syscall == call.nr
            && rule.args.iter().all(|check| {
                let (arg, value) = (call.args[usize::from(check.index)], check.value);
                match check.op {
                    Op::Eq => arg == value,
                    Op::Ne => arg != value,
                    Op::Lt => arg < value,
                    Op::Le => arg <= value,
                    Op::Gt => arg > value,
                    Op::Ge => arg >= value,
                    Op::MaskedEq(mask) => arg & mask == value,
                }
            })
    };
    ret_value(filter.rules.iter().find(decides).map_or(filter.default, |rule| rule.action))
}

/// What the kernel makes of several programs, loaded in this order (`seccomp_run_filters`).
pub(super) fn all(programs: &[Vec<Insn>], call: &Call) -> u32 {
    let mut answer = ret_value(Action::Allow);
    for program in programs.iter().rev() {
        let (this, _) = run(program, call);
        if (this & 0xffff_0000).cast_signed() < (answer & 0xffff_0000).cast_signed() {
            answer = this;
        }
    }
    answer
}

pub(super) mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::{ArgCheck, Rule, SeccompError, assemble, assemble_all, encode};
    use super::*;

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![
            Just(Action::Allow),
            (0..=4095u16).prop_map(Action::Errno),
            Just(Action::KillProcess),
            Just(Action::KillThread),
            Just(Action::Trap),
            Just(Action::Notify),
            Just(Action::Log),
            Just(Action::Trace),
        ]
    }

    /// Values around the places where halves are compared.
    fn value() -> impl Strategy<Value = u64> {
        let half = || prop_oneof![0..3u64, Just(0x7fff_ffff), 0xffff_fffe..=0xffff_ffffu64, 0..=0xffff_ffffu64];
        (half(), half()).prop_map(|(high, low)| (high << 32) | low)
    }

    fn arg_check() -> impl Strategy<Value = ArgCheck> {
        let op = prop_oneof![
            Just(Op::Eq),
            Just(Op::Ne),
            Just(Op::Lt),
            Just(Op::Le),
            Just(Op::Gt),
            Just(Op::Ge),
            value().prop_map(Op::MaskedEq),
        ];
        (0..6u8, op, value()).prop_map(|(index, op, value)| {
            let value = if let Op::MaskedEq(mask) = op { value & mask } else { value };
            ArgCheck { index, op, value }
        })
    }

    fn number() -> impl Strategy<Value = u32> {
        prop_oneof![8 => 0..40u32, 4 => 0..500u32, 1 => 0..X32_BIT]
    }

    fn rule() -> impl Strategy<Value = Rule> {
        (number(), vec(arg_check(), 0..4), action()).prop_map(|(syscall, args, action)| Rule { syscall, args, action })
    }

    pub(in super::super) fn filter(rules: usize) -> impl Strategy<Value = Filter> {
        let arches =
            prop_oneof![Just(vec![Arch::X86_64]), Just(vec![Arch::Aarch64]), Just(vec![Arch::X86_64, Arch::Aarch64])];
        (action(), vec(rule(), 0..rules), arches).prop_map(|(default, rules, arches)| Filter { default, rules, arches })
    }

    /// Calls that come near the filter's rules: their numbers and neighbours, their values and neighbours.
    pub(in super::super) fn calls(filter: &Filter, seeds: &[(u32, u64, u64)]) -> Vec<Call> {
        let arches = [Arch::X86_64.audit(), Arch::Aarch64.audit(), 0x4000_0003];
        let mut calls = Vec::new();
        for &(nr, pick, random) in seeds {
            let rule = filter.rules.get(pick as usize % filter.rules.len().max(1));
            let mut args = [random; 6];
            for check in rule.iter().flat_map(|rule| &rule.args) {
                let noise = if let Op::MaskedEq(mask) = check.op { random & !mask } else { 0 };
                args[usize::from(check.index)] = match random % 5 {
                    0 => check.value.wrapping_add(1),
                    1 => check.value.wrapping_sub(1),
                    2 => check.value ^ (1 << ((random >> 8) % 64)),
                    _ => check.value | noise,
                };
            }
            for nr in [nr, rule.map_or(nr, |rule| rule.syscall), rule.map_or(nr, |rule| rule.syscall + 1)] {
                let arch = arches[if pick % 16 == 0 { 2 } else { (pick % 2) as usize }];
                calls.push(Call { arch, nr, args });
            }
        }
        calls
    }

    fn agree(filter: &Filter, seeds: &[(u32, u64, u64)]) -> Result<(), TestCaseError> {
        let program = match assemble(filter) {
            Err(SeccompError::TooLong(_)) => return Ok(()),
            program => program.unwrap(),
        };
        verify(&program);
        prop_assert_eq!(encode(&program).len(), program.len() * 8);
        for call in calls(filter, seeds) {
            prop_assert_eq!(run(&program, &call).0, meaning(filter, &call), "{:x?}", call);
        }
        Ok(())
    }

    pub(in super::super) fn seeds() -> impl Strategy<Value = Vec<(u32, u64, u64)>> {
        vec((prop_oneof![number(), any::<u32>()], any::<u64>(), prop_oneof![value(), any::<u64>()]), 40)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_program_means_its_filter(filter in filter(12), seeds in seeds()) {
            agree(&filter, &seeds)?;
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

        /// Long enough that jumps need stepping stones.
        #[test]
        fn a_long_program_means_its_filter(filter in filter(250), seeds in seeds()) {
            agree(&filter, &seeds)?;
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

        /// Each call is answered by the filter of its architecture, whatever the other one says of its number.
        #[test]
        fn a_program_of_two_means_both(native in filter(12), compat in filter(250), seeds in seeds()) {
            let compat = Filter { arches: vec![Arch::I386], ..compat };
            let program = assemble_all(&[native.clone(), compat.clone()]).unwrap();
            verify(&program);
            for call in calls(&native, &seeds).into_iter().chain(calls(&compat, &seeds)) {
                let of = if call.arch == Arch::I386.audit() { &compat } else { &native };
                prop_assert_eq!(run(&program, &call).0, meaning(of, &call));
            }
        }
    }

    #[test]
    fn a_program_has_one_filter_for_each_architecture() {
        assert_eq!(assemble_all(&[of(vec![]), of(vec![])]), Err(SeccompError::Arches));
        assert_eq!(assemble_all(&[]), Err(SeccompError::NoArch));
    }

    fn errno_rule(syscall: u32, args: Vec<ArgCheck>) -> Rule {
        Rule { syscall, args, action: Action::Errno(1) }
    }

    fn of(rules: Vec<Rule>) -> Filter {
        Filter { default: Action::Allow, rules, arches: vec![Arch::X86_64] }
    }

    #[test]
    fn a_jump_over_more_than_255_instructions_is_taken() {
        let value = |value: u64| ArgCheck { index: 3, op: Op::Eq, value: (value << 32) | value };
        // The checks of 5 lie behind those of 7, so the tree is far from them.
        let long = |nr| (0..400).map(move |n| errno_rule(nr, vec![value(n)]));
        let rules = long(5).chain(long(7)).chain([errno_rule(9, vec![])]).collect();
        let filter = of(rules);
        let program = assemble(&filter).unwrap();
        verify(&program);
        assert!(program.iter().any(|insn| insn.code == JA && insn.k > 255));
        for nr in 4..11 {
            for arg in [0, 1, 200, 399, 400] {
                let call = Call { arch: Arch::X86_64.audit(), nr, args: [(arg << 32) | arg; 6] };
                assert_eq!(run(&program, &call).0, meaning(&filter, &call), "{nr} {arg}");
            }
        }
    }

    #[test]
    fn the_first_matching_rule_decides_and_an_unconditional_one_ends_the_list() {
        let is = |value| ArgCheck { index: 0, op: Op::Eq, value };
        let rules = vec![
            Rule { syscall: 5, args: vec![is(1)], action: Action::Trap },
            Rule { syscall: 5, args: vec![], action: Action::Log },
            Rule { syscall: 5, args: vec![is(2)], action: Action::KillThread },
        ];
        let program = assemble(&of(rules)).unwrap();
        let got = |arg| run(&program, &Call { arch: Arch::X86_64.audit(), nr: 5, args: [arg; 6] }).0;
        assert_eq!([got(1), got(2), got(3)], [Action::Trap, Action::Log, Action::Log].map(ret_value));
    }

    #[test]
    fn x32_numbers_are_enosys_even_where_the_default_allows() {
        let program = assemble(&of(vec![])).unwrap();
        let got = |nr| {
            let arch = Arch::X86_64.audit();
            run(&program, &Call { arch, nr, args: [0; 6] }).0
        };
        let enosys = ret_value(Action::Errno(38));
        assert_eq!(got(X32_BIT - 1), ret_value(Action::Allow));
        assert_eq!([X32_BIT, X32_BIT + 39, u32::MAX].map(got), [enosys; 3]);
    }

    #[test]
    fn rules_that_cannot_be_meant_are_refused() {
        let error = |rule| assemble(&of(vec![rule])).unwrap_err();
        let check = |index, op, value| errno_rule(1, vec![ArgCheck { index, op, value }]);
        assert_eq!(error(errno_rule(X32_BIT, vec![])), SeccompError::Syscall(X32_BIT));
        assert_eq!(error(check(6, Op::Eq, 0)), SeccompError::Index { syscall: 1, index: 6 });
        assert_eq!(error(check(0, Op::MaskedEq(2), 3)), SeccompError::NeverMatches { syscall: 1, mask: 2, value: 3 });
        assert_eq!(error(Rule { syscall: 1, args: vec![], action: Action::Errno(4096) }), SeccompError::Errno(4096));
        assert_eq!(assemble(&Filter { arches: vec![], ..of(vec![]) }), Err(SeccompError::NoArch));
        let long = (0..2000).map(|n| check(0, Op::Eq, n)).collect();
        assert!(matches!(assemble(&of(long)), Err(SeccompError::TooLong(_))));
    }

    #[test]
    fn the_bytes_are_those_of_sock_filter() {
        let program = assemble(&Filter { arches: vec![Arch::Aarch64], ..of(vec![]) }).unwrap();
        let bytes = encode(&program);
        assert_eq!(bytes[..8], [0x20, 0, 0, 0, 4, 0, 0, 0]);
        assert_eq!(bytes[8..16], [0x15, 0, program[1].jt, program[1].jf, 0xb7, 0, 0, 0xc0]);
    }
}
