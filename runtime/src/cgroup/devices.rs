//! Which devices a container may open and make: a list of rules becomes a program that the kernel runs at each open and mknod in
//! the container's cgroup of version 2, and in those below it. The list is read from its end: of each kind of access that is
//! asked for the first rule decides that is about it, and without one it is refused. So rules for reading and for writing add up for
//! who opens for both, which the kernel asks about once.

use serde::{Deserialize, Serialize};

use super::error::{CgroupError, unsupported};
use super::group::Group;

/// What a [`DeviceRule`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceKind {
    /// Devices of either kind.
    Any,
    /// Of characters.
    Char,
    /// Of blocks.
    Block,
}

/// What some devices may be used for, or may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// Allowed; else refused.
    pub allow: bool,
    /// Which kind.
    pub kind: DeviceKind,
    /// Their major number; all if unset.
    pub major: Option<u32>,
    /// Their minor number; all if unset.
    pub minor: Option<u32>,
    /// For what: [`DeviceRule::MKNOD`], [`DeviceRule::READ`], [`DeviceRule::WRITE`].
    pub access: u8,
}

impl DeviceRule {
    /// To be made (`BPF_DEVCG_ACC_MKNOD`).
    pub const MKNOD: u8 = 1;
    /// To be opened for reading.
    pub const READ: u8 = 2;
    /// To be opened for writing.
    pub const WRITE: u8 = 4;
    /// For everything.
    pub const ALL: u8 = 7;

    fn is_about_all(&self) -> bool {
        let all = (self.kind, self.major, self.minor) == (DeviceKind::Any, None, None);
        all && self.access & Self::ALL == Self::ALL
    }
}

/// Most rules of a container: the kernel takes a million instructions, and each rule has ten.
pub(crate) const MOST: usize = 1024;

/// Registers: what is asked (kind, access), major, minor; one to compute in.
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 1;

/// `struct bpf_insn`: code, registers, offset, number.
fn insn(code: u8, dst: u8, src: u8, offset: i16, number: u32) -> u64 {
    u64::from_le_bytes([
        code,
        src << 4 | dst,
        offset.to_le_bytes()[0],
        offset.to_le_bytes()[1],
        number.to_le_bytes()[0],
        number.to_le_bytes()[1],
        number.to_le_bytes()[2],
        number.to_le_bytes()[3],
    ])
}

/// Go on behind the rule, which is `ahead` instructions away, if `register` is not `number`.
fn unless(register: u8, number: u32, ahead: usize) -> u64 {
    // BPF_JMP | BPF_JNE | BPF_K
    insn(0x55, register, 0, i16::try_from(ahead).unwrap_or(i16::MAX), number)
}

/// The program of a list.
pub(crate) fn program(rules: &[DeviceRule]) -> Vec<u64> {
    // `struct bpf_cgroup_dev_ctx` is access << 16 | kind, major, minor.
    let mut all = vec![
        insn(0x61, KIND, 1, 0, 0),
        insn(0x54, KIND, 0, 0, 0xffff),
        insn(0x61, ACCESS, 1, 0, 0),
        insn(0x74, ACCESS, 0, 0, 16),
        insn(0x61, MAJOR, 1, 4, 0),
        insn(0x61, MINOR, 1, 8, 0),
    ];
    for rule in rules.iter().rev() {
        all.extend(of_one(rule));
        if rule.is_about_all() {
            // The kernel takes no program with instructions that nobody comes to.
            return all;
        }
    }
    all.extend(verdict(false));
    all
}

fn verdict(allow: bool) -> [u64; 2] {
    // mov r0; exit
    [insn(0xb7, 0, 0, 0, allow.into()), insn(0x95, 0, 0, 0, 0)]
}

fn of_one(rule: &DeviceRule) -> Vec<u64> {
    let kind = match rule.kind {
        DeviceKind::Any => None,
        // BPF_DEVCG_DEV_CHAR, BPF_DEVCG_DEV_BLOCK
        DeviceKind::Char => Some(2),
        DeviceKind::Block => Some(1),
    };
    let equal = [(KIND, kind), (MAJOR, rule.major), (MINOR, rule.minor)];
    let equal: Vec<(u8, u32)> = equal.into_iter().filter_map(|(register, is)| Some((register, is?))).collect();
    let access = u32::from(rule.access);
    let about: Vec<u64> = match (rule.access & DeviceRule::ALL == DeviceRule::ALL, rule.allow) {
        (true, _) => Vec::new(),
        // What is in it is granted; the rest is left for the rules before this one: and, then a jump if something is left.
        (false, true) => vec![insn(0x54, ACCESS, 0, 0, !access), insn(0x55, ACCESS, 0, 2, 0)],
        // Something of what is still asked for is in it: mov32, and, then a jump if nothing is left.
        (false, false) => {
            vec![insn(0xbc, SCRATCH, ACCESS, 0, 0), insn(0x54, SCRATCH, 0, 0, access), insn(0x15, SCRATCH, 0, 2, 0)]
        }
    };
    let count = equal.len();
    // Behind each comparison: the others, what it is about, the verdict.
    let ahead = |index: usize| count - index - 1 + about.len() + 2;
    let compared = equal.iter().enumerate().map(|(index, (register, is))| unless(*register, *is, ahead(index)));
    compared.chain(about.iter().copied()).chain(verdict(rule.allow)).collect()
}

impl Group {
    /// Nothing but what these rules allow can be opened or made in it from now on. Once, before anybody is in it.
    ///
    /// # Errors
    /// It has no directory of version 2; the kernel's refusal, to anybody but root.
    pub(crate) fn allow_devices(&self, rules: &[DeviceRule]) -> Result<(), CgroupError> {
        const FIELD: &str = "device_rules";
        let Some(dir) = self.v2_dir()? else {
            let why = "rules of devices need a cgroup of version 2";
            return Err(unsupported("restrict the devices of", self.id(), why).with_field(FIELD));
        };
        // The program is attached to an open directory, not to the place that an O_PATH descriptor is.
        let open = || {
            let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
            rustix::fs::openat(&dir, ".", flags, rustix::fs::Mode::empty()).map_err(std::io::Error::from)
        };
        let done = open().and_then(|open| crate::sys::bpf::attach_device_program(open, &program(rules)));
        done.map_err(|error| CgroupError::sys("restrict the devices of", dir.path(), error).with_field(FIELD))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a program says, by a few lines of what the kernel does.
    fn says(program: &[u64], kind: u32, access: u32, major: u32, minor: u32) -> bool {
        let context = [access << 16 | kind, major, minor];
        let (mut registers, mut at) = ([0u32; 11], 0usize);
        loop {
            let bytes = program[at].to_le_bytes();
            let (code, dst, src) = (bytes[0], usize::from(bytes[1] & 15), usize::from(bytes[1] >> 4));
            let offset = usize::try_from(i16::from_le_bytes([bytes[2], bytes[3]])).unwrap();
            let number = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
            at += 1;
            match code {
                0x61 => registers[dst] = context[offset / 4],
                0x54 => registers[dst] &= number,
                0x74 => registers[dst] >>= number,
                0xbc => registers[dst] = registers[src],
                0xb7 => registers[dst] = number,
                0x55 if registers[dst] != number => at += offset,
                0x15 if registers[dst] == number => at += offset,
                0x5d if registers[dst] != registers[src] => at += offset,
                0x55 | 0x15 | 0x5d => {}
                0x95 => return registers[0] == 1,
                other => panic!("{other:#x}"),
            }
        }
    }

    fn rule(allow: bool, kind: DeviceKind, major: Option<u32>, minor: Option<u32>, access: u8) -> DeviceRule {
        DeviceRule { allow, kind, major, minor, access }
    }

    #[test]
    fn the_last_rule_that_is_about_it_decides() {
        use DeviceKind::{Any, Block, Char};
        let (char, block) = (2, 1);
        assert!(!says(&program(&[]), char, 2, 1, 3), "nothing is allowed by nobody");
        let all = program(&[
            rule(false, Any, None, None, 7),
            rule(true, Char, Some(1), Some(3), 7),
            rule(true, Any, None, None, 1),
            rule(true, Block, Some(8), None, 2),
            rule(true, Char, Some(10), None, 6),
            rule(false, Char, Some(10), Some(7), 4),
        ]);
        assert!(says(&all, char, 6, 1, 3) && !says(&all, char, 2, 1, 4) && !says(&all, block, 2, 1, 3));
        assert!(says(&all, block, 1, 99, 99), "it may be made");
        assert!(says(&all, block, 2, 8, 5) && !says(&all, block, 6, 8, 5), "to be read, and no more");
        assert!(says(&all, char, 2, 10, 7) && !says(&all, char, 6, 10, 7) && says(&all, char, 6, 10, 8));
        let apart = program(&[
            rule(false, Any, None, None, 7),
            rule(true, Char, Some(10), None, 2),
            rule(true, Char, Some(10), Some(7), 4),
            rule(true, Block, None, None, 6),
            rule(false, Block, Some(8), None, 2),
            rule(true, Block, Some(8), Some(1), 4),
        ]);
        for (access, has) in [(2, true), (4, true), (6, true), (1, false), (7, false)] {
            assert_eq!(says(&apart, char, access, 10, 7), has, "{access}: they add up");
        }
        assert!(says(&apart, char, 2, 10, 8) && !says(&apart, char, 6, 10, 8));
        assert!(says(&apart, block, 4, 8, 1) && !says(&apart, block, 6, 8, 1), "reading was taken away");
        let everything = rule(true, Any, None, None, 7);
        assert_eq!(program(&[everything; 3]).len(), 6 + 2, "nobody would come to the others");
        assert!(says(&program(&[everything]), block, 7, 8, 0));
    }
}
