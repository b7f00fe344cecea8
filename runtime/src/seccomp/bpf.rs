//! The assembler: a [`Filter`] becomes a classic BPF program (`linux/bpf_common.h`, `linux/seccomp.h`).
//!
//! ```text
//!    ld arch; a filter's architectures?   ── no ──► kill the process
//!    ld nr;   x86_64: x32 bit?            ── yes ─► ENOSYS
//!    binary tree over runs of numbers with the same answer ──► return, or the argument checks of one number
//! ```
//!
//! Code is written from the end to the start: a jump's target is then always there, its distance known, and one that is
//! too far for the 8 bits gets a stepping stone right behind the jump. Only forward jumps exist in classic BPF anyway.

use std::collections::BTreeMap;

use super::{Action, Arch, ArgCheck, ENOSYS, Filter, Op, Rule, SeccompError};

/// Most instructions of a program (`BPF_MAXINSNS`).
pub const MAX_INSNS: usize = 4096;

/// Numbers from here up are of x32, or of nobody.
pub(super) const X32_BIT: u32 = 0x4000_0000;

pub(super) const LD_ABS: u16 = 0x20;
pub(super) const JA: u16 = 0x05;
pub(super) const JEQ: u16 = 0x15;
pub(super) const JGT: u16 = 0x25;
pub(super) const JGE: u16 = 0x35;
pub(super) const AND: u16 = 0x54;
pub(super) const RET: u16 = 0x06;

/// Offsets in `struct seccomp_data`.
pub(super) const DATA_NR: u32 = 0;
pub(super) const DATA_ARCH: u32 = 4;
pub(super) const DATA_ARGS: u32 = 16;

/// One instruction: `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insn {
    /// Operation.
    pub code: u16,
    /// Instructions skipped if the condition holds.
    pub jt: u8,
    /// Instructions skipped if not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// The program of a filter.
///
/// # Errors
/// A rule that cannot be meant (see [`SeccompError`]), or a program above [`MAX_INSNS`].
pub fn assemble(filter: &Filter) -> Result<Vec<Insn>, SeccompError> {
    assemble_all(std::slice::from_ref(filter))
}

/// One program of filters that are about different architectures: a call is answered by that of its own.
///
/// # Errors
/// As for [`assemble`]; [`SeccompError::Arches`] when two are about the same one.
pub fn assemble_all(filters: &[Filter]) -> Result<Vec<Insn>, SeccompError> {
    let mut code = Backwards::default();
    let mut parts: Vec<(Arch, Label)> = Vec::new();
    if filters.is_empty() {
        return Err(SeccompError::NoArch);
    }
    for filter in filters {
        check(filter)?;
        if filter.arches.iter().any(|arch| parts.iter().any(|(other, _)| other == arch)) {
            return Err(SeccompError::Arches);
        }
        let runs = runs(filter, &mut code);
        let tree = code.tree(&runs);
        let dispatch = code.dispatch(filter, tree);
        parts.extend(filter.arches.iter().map(|arch| (*arch, dispatch)));
    }
    code.arch_check(&parts);
    code.finish()
}

/// The bytes of `struct sock_filter[]`, little endian as both architectures are.
pub fn encode(program: &[Insn]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(program.len() * 8);
    for insn in program {
        bytes.extend_from_slice(&insn.code.to_le_bytes());
        bytes.extend_from_slice(&[insn.jt, insn.jf]);
        bytes.extend_from_slice(&insn.k.to_le_bytes());
    }
    bytes
}

/// The program that lets nothing run.
pub(super) fn kill_all() -> [Insn; 1] {
    [Insn { code: RET, jt: 0, jf: 0, k: ret_value(Action::KillProcess) }]
}

fn check(filter: &Filter) -> Result<(), SeccompError> {
    if filter.arches.is_empty() {
        return Err(SeccompError::NoArch);
    }
    check_action(filter.default)?;
    for &Rule { syscall, ref args, action } in &filter.rules {
        if syscall >= X32_BIT {
            return Err(SeccompError::Syscall(syscall));
        }
        check_action(action)?;
        for &ArgCheck { index, op, value } in args {
            if index > 5 {
                return Err(SeccompError::Index { syscall, index });
            }
            if let Op::MaskedEq(mask) = op
                && value & !mask != 0
            {
                return Err(SeccompError::NeverMatches { syscall, mask, value });
            }
        }
    }
    Ok(())
}

fn check_action(action: Action) -> Result<(), SeccompError> {
    match action {
        Action::Errno(errno) if errno > 4095 => Err(SeccompError::Errno(errno)),
        _ => Ok(()),
    }
}

/// `SECCOMP_RET_*`.
pub(super) fn ret_value(action: Action) -> u32 {
    match action {
        Action::KillProcess => 0x8000_0000,
        Action::KillThread => 0,
        Action::Trap => 0x0003_0000,
        Action::Errno(errno) => 0x0005_0000 | u32::from(errno),
        Action::Notify => 0x7fc0_0000,
        Action::Trace => 0x7ff0_0000,
        Action::Log => 0x7ffc_0000,
        Action::Allow => 0x7fff_0000,
    }
}

/// A place in the program, as the number of instructions from it to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Label(usize);

/// Where a jump goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// To any `ret` of this action.
    Do(Action),
    /// To this place.
    At(Label),
}

/// A run of system call numbers with one answer; the last one ends at 2^32.
#[derive(Clone, Copy, Debug)]
struct Run {
    first: u32,
    target: Target,
}

/// The runs of all numbers, ascending; writes the argument checks that they lead to.
fn runs(filter: &Filter, code: &mut Backwards) -> Vec<Run> {
    let mut calls: BTreeMap<u32, Vec<&Rule>> = BTreeMap::new();
    for rule in &filter.rules {
        calls.entry(rule.syscall).or_default().push(rule);
    }
    let mut runs = vec![Run { first: 0, target: Target::Do(filter.default) }];
    let mut push = |run: Run| {
        if runs.last().is_some_and(|last| last.first == run.first) {
            runs.pop();
        }
        if runs.last().is_none_or(|last| last.target != run.target) {
            runs.push(run);
        }
    };
    for (&number, rules) in &calls {
        push(Run { first: number, target: code.alternatives(rules, filter.default) });
        // Below X32_BIT, so there is a next number.
        push(Run { first: number + 1, target: Target::Do(filter.default) });
    }
    runs
}

/// A program written from its end.
#[derive(Debug, Default)]
struct Backwards {
    /// Last instruction first.
    insns: Vec<Insn>,
    /// The nearest `ret` of each action.
    rets: Vec<(Action, Label)>,
}

impl Backwards {
    fn put(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        self.insns.push(Insn { code, jt, jf, k });
        Label(self.insns.len())
    }

    /// How many instructions the next one would skip to get there; `None` if more than 8 bits hold.
    fn near(&self, label: Label) -> Option<u8> {
        u8::try_from(self.insns.len() - label.0).ok()
    }

    /// A place within reach that leads to the target.
    fn reach(&mut self, target: Target) -> Label {
        match target {
            Target::Do(action) => self.ret(action),
            Target::At(label) if self.near(label).is_some() => label,
            Target::At(label) => self.jump(label),
        }
    }

    fn jump(&mut self, label: Label) -> Label {
        // A distance above 32 bits would need a program that is refused for its length.
        let distance = u32::try_from(self.insns.len() - label.0).unwrap_or(u32::MAX);
        self.put(JA, 0, 0, distance)
    }

    /// A `ret` of this action within reach; written here if there is none, which is as long as a jump to one.
    fn ret(&mut self, action: Action) -> Label {
        let known = self.rets.iter().position(|(known, _)| *known == action);
        if let Some(at) = known
            && self.near(self.rets[at].1).is_some()
        {
            return self.rets[at].1;
        }
        let label = self.put(RET, 0, 0, ret_value(action));
        match known {
            Some(at) => self.rets[at].1 = label,
            None => self.rets.push((action, label)),
        }
        label
    }

    /// Compare and go one of two ways.
    fn branch(&mut self, code: u16, k: u32, yes: Target, no: Target) -> Label {
        let (mut yes, mut no) = (yes, no);
        loop {
            // A stepping stone for one moves the other's target one further, hence the loop; it ends because a stone
            // stays within reach.
            let (to_yes, to_no) = (self.reach(yes), self.reach(no));
            if let (Some(jt), Some(jf)) = (self.near(to_yes), self.near(to_no)) {
                return self.put(code, jt, jf, k);
            }
            (yes, no) = (Target::At(to_yes), Target::At(to_no));
        }
    }

    /// Make what is written next flow into the target.
    fn land(&mut self, target: Target) {
        let label = self.reach(target);
        if label.0 != self.insns.len() {
            self.jump(label);
        }
    }

    /// Load a word of the call's data; flows into what was written last.
    fn load(&mut self, offset: u32) -> Label {
        self.put(LD_ABS, 0, 0, offset)
    }

    /// The rules of one system call, in order.
    fn alternatives(&mut self, rules: &[&Rule], default: Action) -> Target {
        // What stands after an unconditional rule is never asked.
        let end = rules.iter().position(|rule| rule.args.is_empty()).map_or(rules.len(), |at| at + 1);
        let mut next = Target::Do(default);
        for rule in rules[..end].iter().rev() {
            let mut matched = Target::Do(rule.action);
            for check in rule.args.iter().rev() {
                matched = Target::At(self.compare(check, matched, next));
            }
            next = matched;
        }
        next
    }

    /// One 64-bit comparison out of 32-bit ones: the upper half first.
    fn compare(&mut self, check: &ArgCheck, yes: Target, no: Target) -> Label {
        let ArgCheck { index, op, value } = *check;
        let arg = DATA_ARGS + 8 * u32::from(index);
        match op {
            Op::Eq => self.equal(arg, u64::MAX, value, yes, no),
            Op::Ne => self.equal(arg, u64::MAX, value, no, yes),
            Op::MaskedEq(mask) => self.equal(arg, mask, value, yes, no),
            Op::Gt => self.greater(arg, JGT, value, yes, no),
            Op::Ge => self.greater(arg, JGE, value, yes, no),
            Op::Lt => self.greater(arg, JGE, value, no, yes),
            Op::Le => self.greater(arg, JGT, value, no, yes),
        }
    }

    fn equal(&mut self, arg: u32, mask: u64, value: u64, yes: Target, no: Target) -> Label {
        let low = self.equal_half(arg, low(mask), low(value), yes, no);
        match high(mask) {
            0 => low,
            mask => self.equal_half(arg + 4, mask, high(value), Target::At(low), no),
        }
    }

    fn equal_half(&mut self, offset: u32, mask: u32, value: u32, yes: Target, no: Target) -> Label {
        self.branch(JEQ, value, yes, no);
        if mask != u32::MAX {
            self.put(AND, 0, 0, mask);
        }
        self.load(offset)
    }

    /// `code` is JGT or JGE, for the lower half; the upper halves decide unless they are equal.
    fn greater(&mut self, arg: u32, code: u16, value: u64, yes: Target, no: Target) -> Label {
        self.branch(code, low(value), yes, no);
        let low = self.load(arg);
        let equal = self.branch(JEQ, high(value), Target::At(low), no);
        self.branch(JGT, high(value), yes, Target::At(equal));
        self.load(arg + 4)
    }

    /// The tree over the runs, with the number loaded.
    fn tree(&mut self, runs: &[Run]) -> Target {
        match runs {
            [] => Target::Do(Action::KillProcess),
            [run] => run.target,
            runs => {
                let (below, above) = runs.split_at(runs.len() / 2);
                let first = above[0].first;
                let above = self.tree(above);
                let below = self.tree(below);
                Target::At(self.branch(JGE, first, above, below))
            }
        }
    }

    /// Load the number and turn x32 away.
    fn dispatch(&mut self, filter: &Filter, tree: Target) -> Label {
        if filter.arches.contains(&Arch::X86_64) {
            self.branch(JGE, X32_BIT, Target::Do(Action::Errno(ENOSYS)), tree);
        } else {
            self.land(tree);
        }
        self.load(DATA_NR)
    }

    fn arch_check(&mut self, parts: &[(Arch, Label)]) {
        let mut next = Target::Do(Action::KillProcess);
        for (arch, dispatch) in parts.iter().rev() {
            next = Target::At(self.branch(JEQ, arch.audit(), Target::At(*dispatch), next));
        }
        self.land(next);
        self.load(DATA_ARCH);
    }

    fn finish(mut self) -> Result<Vec<Insn>, SeccompError> {
        if self.insns.len() > MAX_INSNS {
            return Err(SeccompError::TooLong(self.insns.len()));
        }
        self.insns.reverse();
        Ok(self.insns)
    }
}

fn low(value: u64) -> u32 {
    (value & 0xffff_ffff) as u32
}

fn high(value: u64) -> u32 {
    (value >> 32) as u32
}
