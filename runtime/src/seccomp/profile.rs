//! The default profile of a container, in the spirit of Docker's but ours.
//!
//! It is an **allow-list**. A deny-list is shorter, but each new kernel adds a call that nobody has looked at, and those
//! are where the bugs are. What an allow-list usually breaks is a libc that tries a new call first: so a number that the
//! tables do not know gets **ENOSYS**, as from an older kernel, and the libc falls back. A call that the tables know and
//! the profile refuses gets **EPERM**: the program learns that it may not, instead of that it could not exist.
//! Known are all calls up to Linux 6.19.
//!
//! The profile is a second wall: the capability checks of the kernel and the user namespace are the first.
//! It never looks behind pointers (a filter cannot), which is why clone3 is ENOSYS.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::spec::caps::CapSet;

use super::table_class::{HIDDEN, LIFTED, ORDINARY, REFUSED};
use super::{
    Action, Arch, ArgCheck, ENOSYS, EPERM, Filter, Op, Rule, assemble, bpf, encode, table_aarch64, table_arm,
    table_common, table_i386, table_x86_64,
};

/// A number and its name.
pub(super) type Syscall = (u32, &'static str);

/// Every `CLONE_NEW*` of clone(2). CLONE_NEWTIME is not among them: its bit is part of the exit signal there.
const CLONE_NEW: u64 = 0x7e02_0000;
/// What unshare(2) may do without a new namespace: CLONE_FS, CLONE_FILES, CLONE_SYSVSEM.
const UNSHARE_HARMLESS: u64 = 0x0000_0200 | 0x0000_0400 | 0x0004_0000;
/// Native, PER_LINUX32, UNAME26, both, and the question what it is (personality(2)). No switching off of ASLR.
const PERSONALITIES: [u64; 5] = [0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff];
/// Addresses of the hypervisor, which no network namespace covers (vsock(7)).
const AF_VSOCK: u64 = 40;
/// Writes input into a terminal (CVE-2017-5226 and many like it).
const TIOCSTI: u64 = 0x5412;
/// Selection and paste on a virtual console.
const TIOCLINUX: u64 = 0x541c;
/// What the kernel keeps of an `int` argument.
const INT: u64 = 0xffff_ffff;

impl Arch {
    /// Its system calls up to 6.19, ascending.
    pub fn syscalls(self) -> impl Iterator<Item = (u32, &'static str)> {
        let own = match self {
            Self::X86_64 => table_x86_64::SYSCALLS,
            Self::Aarch64 => table_aarch64::SYSCALLS,
            Self::I386 => table_i386::SYSCALLS,
            Self::Arm => table_arm::SYSCALLS,
        };
        let last = if self == Self::Arm { table_arm::OWN } else { &[] };
        own.iter().chain(table_common::SYSCALLS).chain(last).copied()
    }

    /// The number of a system call there.
    pub fn number(self, name: &str) -> Option<u32> {
        self.syscalls().find(|(_, known)| *known == name).map(|(number, _)| number)
    }
}

/// The name of a system call of this machine.
pub fn syscall_name(number: u32) -> Option<&'static str> {
    Arch::native().syscalls().find(|(known, _)| *known == number).map(|(_, name)| name)
}

/// The number of a system call of this machine, such as `openat`.
pub fn syscall_number(name: &str) -> Option<u32> {
    Arch::native().number(name)
}

/// The profile of this machine for a process that can at most hold these capabilities (its bounding set).
pub fn default_profile(caps: CapSet) -> Filter {
    profile_for(Arch::native(), caps)
}

/// [`default_profile`] for any architecture.
pub fn profile_for(arch: Arch, caps: CapSet) -> Filter {
    let mut rules = Vec::new();
    for (number, name) in arch.syscalls() {
        for (args, action) in verdict(name, caps) {
            rules.push(Rule { syscall: number, args, action });
        }
    }
    Filter { default: Action::Errno(ENOSYS), rules, arches: vec![arch] }
}

/// The encoded program of [`default_profile`], made once for each set of capabilities that makes a difference.
pub fn compile_default(caps: CapSet) -> Vec<u8> {
    static CACHE: OnceLock<Mutex<HashMap<u64, Vec<u8>>>> = OnceLock::new();
    let caps = caps.intersection(deciding());
    let mut cache = CACHE.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    cache.entry(caps.0).or_insert_with(|| compile(caps)).clone()
}

fn compile(caps: CapSet) -> Vec<u8> {
    // The rules are ours and a test assembles them; if that were ever wrong, nothing may run.
    assemble(&default_profile(caps)).map_or_else(|_| encode(&bpf::kill_all()), |program| encode(&program))
}

/// The capabilities that lift something.
fn deciding() -> CapSet {
    LIFTED.iter().fold(CapSet::SYS_ADMIN, |all, (caps, _)| all.union(*caps))
}

type Verdict = Vec<(Vec<ArgCheck>, Action)>;

const ALLOW: Action = Action::Allow;
const REFUSE: Action = Action::Errno(EPERM);

/// The rules of one system call, in order.
fn verdict(name: &str, caps: CapSet) -> Verdict {
    if let Some(special) = by_arguments(name, caps) {
        return special;
    }
    let action = if HIDDEN.contains(&name) {
        if caps.contains(CapSet::SYS_ADMIN) { ALLOW } else { Action::Errno(ENOSYS) }
    } else if let Some((lifting, _)) = LIFTED.iter().find(|(_, names)| names.contains(&name)) {
        if caps.intersects(*lifting) { ALLOW } else { REFUSE }
    } else if ORDINARY.contains(&name) {
        ALLOW
    } else if REFUSED.contains(&name) {
        REFUSE
    } else {
        // Nobody has looked at it: like an unknown one. A test holds that there is none.
        return Vec::new();
    };
    vec![(Vec::new(), action)]
}

/// Calls that are allowed by their arguments.
fn by_arguments(name: &str, caps: CapSet) -> Option<Verdict> {
    let admin = caps.contains(CapSet::SYS_ADMIN);
    let rules = match name {
        "clone" | "unshare" if admin => allow_else(ALLOW, []),
        "clone" => allow_else(REFUSE, [masked(CLONE_NEW, 0)]),
        "unshare" => allow_else(REFUSE, [masked(!UNSHARE_HARMLESS, 0)]),
        "personality" => allow_else(REFUSE, PERSONALITIES.map(|value| masked(INT, value))),
        "socket" => refuse_if([masked(INT, AF_VSOCK)]),
        "ioctl" => {
            let request = |value| ArgCheck { index: 1, ..masked(INT, value) };
            refuse_if([request(TIOCSTI), request(TIOCLINUX)])
        }
        _ => return None,
    };
    Some(rules)
}

/// About the first argument.
fn masked(mask: u64, value: u64) -> ArgCheck {
    ArgCheck { index: 0, op: Op::MaskedEq(mask), value }
}

fn allow_else<const N: usize>(otherwise: Action, any: [ArgCheck; N]) -> Verdict {
    let mut rules: Verdict = any.into_iter().map(|check| (vec![check], ALLOW)).collect();
    rules.push((Vec::new(), otherwise));
    rules
}

fn refuse_if<const N: usize>(any: [ArgCheck; N]) -> Verdict {
    let mut rules: Verdict = any.into_iter().map(|check| (vec![check], REFUSE)).collect();
    rules.push((Vec::new(), ALLOW));
    rules
}

#[cfg(test)]
mod tests {
    use super::super::bpf::ret_value;
    use super::super::interpret::{Call, meaning, run, verify};
    use super::super::{Insn, MAX_INSNS};
    use super::*;
    use crate::spec::caps::Caps;

    const ARCHES: [Arch; 2] = [Arch::X86_64, Arch::Aarch64];
    const BY_ARGUMENTS: [&str; 6] = ["clone", "clone3", "unshare", "personality", "socket", "ioctl"];

    fn program(arch: Arch, caps: CapSet) -> Vec<Insn> {
        let program = assemble(&profile_for(arch, caps)).unwrap();
        verify(&program);
        program
    }

    fn number(arch: Arch, name: &str) -> Option<u32> {
        arch.syscalls().find(|(_, known)| *known == name).map(|(number, _)| number)
    }

    /// `allow`, or the error number.
    fn answer(arch: Arch, program: &[Insn], nr: u32, args: &[u64]) -> String {
        let mut six = [0xdead_beef_dead_beef; 6];
        six[..args.len()].copy_from_slice(args);
        let got = run(program, &Call { arch: arch.audit(), nr, args: six }).0;
        match [ALLOW, REFUSE, Action::Errno(ENOSYS), Action::KillProcess].iter().position(|a| ret_value(*a) == got) {
            Some(at) => ["allow", "EPERM", "ENOSYS", "kill"][at].to_owned(),
            None => format!("{got:#x}"),
        }
    }

    #[test]
    fn each_known_call_is_of_one_class_and_each_class_names_known_calls() {
        let lists = || {
            let lifted = LIFTED.iter().map(|(_, names)| *names);
            lifted.chain([ORDINARY, HIDDEN, REFUSED]).flatten().copied()
        };
        for arch in ARCHES {
            for (number, name) in arch.syscalls() {
                let classes = lists().filter(|known| *known == name).count();
                let special = usize::from(BY_ARGUMENTS.contains(&name) && name != "clone3");
                assert_eq!(classes + special, 1, "{arch:?} {number} {name}");
            }
            let numbers: Vec<u32> = arch.syscalls().map(|(number, _)| number).collect();
            assert!(numbers.is_sorted_by(|a, b| a < b), "{arch:?}");
        }
        for name in lists().chain(BY_ARGUMENTS) {
            assert!(ARCHES.iter().any(|arch| number(*arch, name).is_some()), "{name}");
        }
    }

    #[test]
    fn numbers_are_those_of_libc() {
        macro_rules! same {
            ($($name:ident)*) => { $(
                let theirs = libc::$name;
                assert_eq!(syscall_number(&stringify!($name)[4..]).map(i64::from), Some(theirs), stringify!($name));
            )* };
        }
        same!(
            SYS_read SYS_ioctl SYS_clone SYS_execve SYS_mount SYS_umount2 SYS_pivot_root SYS_setns SYS_unshare SYS_bpf
            SYS_perf_event_open SYS_userfaultfd SYS_kexec_load SYS_kexec_file_load SYS_init_module SYS_finit_module
            SYS_delete_module SYS_reboot SYS_swapon SYS_swapoff SYS_sethostname SYS_setdomainname SYS_settimeofday
            SYS_clock_settime SYS_adjtimex SYS_clock_adjtime SYS_keyctl SYS_add_key SYS_request_key SYS_ptrace
            SYS_process_vm_readv SYS_open_by_handle_at SYS_personality SYS_socket SYS_quotactl SYS_acct SYS_vhangup
            SYS_syslog SYS_mbind SYS_migrate_pages SYS_move_pages SYS_statx SYS_rseq SYS_futex
            SYS_openat SYS_prlimit64 SYS_seccomp SYS_getrandom SYS_memfd_create SYS_execveat SYS_exit_group SYS_wait4
            SYS_io_uring_setup SYS_open_tree SYS_move_mount SYS_fsopen SYS_fsconfig SYS_fsmount SYS_fspick SYS_clone3
            SYS_close_range SYS_openat2 SYS_pidfd_getfd SYS_faccessat2 SYS_epoll_pwait2 SYS_mount_setattr
            SYS_landlock_create_ruleset SYS_futex_waitv SYS_chroot SYS_kcmp SYS_fanotify_init SYS_name_to_handle_at
        );
        assert_eq!(syscall_name(syscall_number("openat").unwrap()), Some("openat"));
        assert_eq!((syscall_name(9999), syscall_number("CAP")), (None, None));
    }

    /// System call, arguments, and the answer without and with all capabilities.
    const TABLE: &[(&str, &[u64], &str, &str)] = &[
        ("read", &[], "allow", "allow"),
        ("execve", &[], "allow", "allow"),
        ("restart_syscall", &[], "allow", "allow"),
        ("rt_sigreturn", &[], "allow", "allow"),
        ("ptrace", &[], "allow", "allow"),
        ("process_vm_writev", &[], "allow", "allow"),
        ("modify_ldt", &[], "allow", "allow"),
        ("file_setattr", &[], "allow", "allow"),
        ("mount", &[], "EPERM", "allow"),
        ("umount2", &[], "EPERM", "allow"),
        ("move_mount", &[], "EPERM", "allow"),
        ("open_tree", &[], "EPERM", "allow"),
        ("open_tree_attr", &[], "EPERM", "allow"),
        ("fsopen", &[], "EPERM", "allow"),
        ("fsconfig", &[], "EPERM", "allow"),
        ("fsmount", &[], "EPERM", "allow"),
        ("fspick", &[], "EPERM", "allow"),
        ("mount_setattr", &[], "EPERM", "allow"),
        ("pivot_root", &[], "EPERM", "allow"),
        ("setns", &[], "EPERM", "allow"),
        ("statmount", &[], "ENOSYS", "allow"),
        ("listns", &[], "ENOSYS", "allow"),
        ("bpf", &[], "EPERM", "allow"),
        ("perf_event_open", &[], "EPERM", "allow"),
        ("userfaultfd", &[], "EPERM", "EPERM"),
        ("kexec_load", &[], "EPERM", "EPERM"),
        ("kexec_file_load", &[], "EPERM", "EPERM"),
        ("swapon", &[], "EPERM", "EPERM"),
        ("keyctl", &[], "EPERM", "EPERM"),
        ("add_key", &[], "EPERM", "EPERM"),
        ("request_key", &[], "EPERM", "EPERM"),
        ("io_uring_setup", &[], "EPERM", "EPERM"),
        ("nfsservctl", &[], "EPERM", "EPERM"),
        ("lookup_dcookie", &[], "EPERM", "allow"),
        ("reboot", &[], "EPERM", "allow"),
        ("init_module", &[], "EPERM", "allow"),
        ("finit_module", &[], "EPERM", "allow"),
        ("delete_module", &[], "EPERM", "allow"),
        ("sethostname", &[], "EPERM", "allow"),
        ("settimeofday", &[], "EPERM", "allow"),
        ("clock_settime", &[], "EPERM", "allow"),
        ("adjtimex", &[], "EPERM", "allow"),
        ("open_by_handle_at", &[], "EPERM", "allow"),
        ("chroot", &[], "EPERM", "allow"),
        ("iopl", &[], "EPERM", "allow"),
        ("mbind", &[], "EPERM", "allow"),
        ("clone3", &[], "ENOSYS", "allow"),
        // Threads of glibc; fork; CLONE_NEWUSER; NEWNS hidden between others; NEWNET with a high bit.
        ("clone", &[0x3d_0f00], "allow", "allow"),
        ("clone", &[0x0120_0011], "allow", "allow"),
        ("clone", &[0x1000_0011], "EPERM", "allow"),
        ("clone", &[0x3f_0f00], "EPERM", "allow"),
        ("clone", &[0x1_4000_0000], "EPERM", "allow"),
        // CLONE_FS | CLONE_FILES; NEWTIME; NEWUSER; a bit that no kernel knows.
        ("unshare", &[0x600], "allow", "allow"),
        ("unshare", &[0x80], "EPERM", "allow"),
        ("unshare", &[0x1000_0000], "EPERM", "allow"),
        ("unshare", &[0x1_0000_0000], "EPERM", "allow"),
        ("personality", &[0], "allow", "allow"),
        ("personality", &[8], "allow", "allow"),
        ("personality", &[0x2_0008], "allow", "allow"),
        ("personality", &[0xffff_ffff], "allow", "allow"),
        ("personality", &[u64::MAX], "allow", "allow"),
        ("personality", &[0x4_0000], "EPERM", "EPERM"),
        ("personality", &[0x40_0000], "EPERM", "EPERM"),
        ("socket", &[1, 1, 0], "allow", "allow"),
        ("socket", &[16, 3, 0], "allow", "allow"),
        ("socket", &[40, 1, 0], "EPERM", "EPERM"),
        ("socket", &[0x1_0000_0028, 1, 0], "EPERM", "EPERM"),
        ("ioctl", &[0, 0x5401], "allow", "allow"),
        ("ioctl", &[0, 0x5412], "EPERM", "EPERM"),
        ("ioctl", &[0, 0xffff_ffff_0000_5412], "EPERM", "EPERM"),
        ("ioctl", &[0, 0x541c], "EPERM", "EPERM"),
        ("ioctl", &[0x5412, 0x5413], "allow", "allow"),
    ];

    #[test]
    fn the_profile_answers_as_the_table_says() {
        for arch in ARCHES {
            let (none, all) = (program(arch, CapSet::EMPTY), program(arch, CapSet::ALL));
            for &(name, args, without, with) in TABLE {
                // Not every architecture has every call.
                let Some(nr) = number(arch, name) else {
                    continue;
                };
                assert_eq!(answer(arch, &none, nr, args), without, "{arch:?} {name} {args:x?}");
                assert_eq!(answer(arch, &all, nr, args), with, "{arch:?} {name} {args:x?} with all");
            }
        }
    }

    #[test]
    fn unknown_numbers_are_enosys_and_other_architectures_are_ended() {
        for arch in ARCHES {
            let program = program(arch, CapSet::ALL);
            for nr in [471, 500, 1023, 0x3fff_ffff, 0x4000_0000, 0x4000_0003, u32::MAX] {
                assert_eq!(answer(arch, &program, nr, &[]), "ENOSYS", "{arch:?} {nr:#x}");
            }
            let other = if arch == Arch::X86_64 { Arch::Aarch64 } else { Arch::X86_64 };
            assert_eq!(answer(other, &program, 0, &[]), "kill");
            let i386 = Call { arch: 0x4000_0003, nr: 1, args: [0; 6] };
            assert_eq!(run(&program, &i386).0, ret_value(Action::KillProcess));
        }
    }

    #[test]
    fn a_capability_lifts_its_own_calls_only() {
        let all: Vec<CapSet> = (0..41).map(|bit| CapSet(1 << bit)).collect();
        for (lifting, names) in LIFTED {
            for &cap in &all {
                for name in *names {
                    let lifted = verdict(name, cap)[0].1 == ALLOW;
                    assert_eq!(lifted, lifting.contains(cap), "{name} {cap}");
                }
            }
        }
    }

    #[test]
    fn every_number_of_the_profile_means_what_the_rules_say() {
        for arch in ARCHES {
            for caps in [CapSet::EMPTY, Caps::default_root().bounding, CapSet::ALL] {
                let (filter, program) = (profile_for(arch, caps), program(arch, caps));
                let mut most = 0;
                for nr in (0..700).chain([X32_EDGE, X32_EDGE - 1]) {
                    let call = Call { arch: arch.audit(), nr, args: [0; 6] };
                    let (got, steps) = run(&program, &call);
                    assert_eq!(got, meaning(&filter, &call), "{arch:?} {nr}");
                    most = most.max(steps);
                }
                println!("{arch:?} {} capabilities: {} instructions, at most {most} run", caps.len(), program.len());
                assert!(program.len() < MAX_INSNS / 4 && most < 32);
            }
        }
    }
    const X32_EDGE: u32 = 0x4000_0000;

    #[test]
    fn all_deciding_sets_assemble_and_the_cache_tells_them_apart() {
        let deciding = deciding();
        for names in 0..1u64 << deciding.len() {
            let caps = (0..41).map(|bit| CapSet(1 << bit)).filter(|cap| deciding.contains(*cap));
            let caps = caps.enumerate().filter(|(at, _)| names >> at & 1 == 1).map(|(_, cap)| cap);
            let caps = caps.fold(CapSet::EMPTY, CapSet::union);
            // Every single one and the full one; the others in strides, for time.
            if names.count_ones() < 2 || names % 61 == 0 || caps == deciding {
                assert!(compile_default(caps).len() > 8, "{caps}");
            }
        }
        let none = compile_default(CapSet::EMPTY);
        assert_eq!(none, compile_default(CapSet::CHOWN), "a capability that decides nothing");
        assert_ne!(none, compile_default(CapSet::SYS_ADMIN));
        assert_eq!(none, encode(&program(Arch::native(), CapSet::EMPTY)));
    }
}
