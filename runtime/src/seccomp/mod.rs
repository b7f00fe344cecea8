//! System call filters: rules of ours become a classic BPF program. Pure; nothing here loads a filter.
//!
//! ```text
//!  capabilities ─ default_profile ─► Filter ─ assemble ─► [Insn] ─ encode ─► bytes of the plan
//! ```
//!
//! Further filters of a process are merged with the profile into one; one that asks (`Action::Notify`) has a listener,
//! which comes back with the started process.
//!
//! The child loads the bytes as its last step (`seccomp(SET_MODE_FILTER)`, 3.17). Knows no spec beside the capability
//! sets, no files and no JSON. seccomp(2) and the kernel's `Documentation/userspace-api/seccomp_filter.rst` are the sources.

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", docsrs)))]
compile_error!("the seccomp profile knows the system calls of x86_64 and aarch64 only");

mod bpf;
#[cfg(test)]
mod interpret;
mod listener;
mod merge;
mod profile;
mod table_aarch64;
mod table_arm;
mod table_class;
mod table_common;
mod table_i386;
mod table_x86_64;

use serde::{Deserialize, Serialize};

pub use bpf::{Insn, MAX_INSNS, assemble, assemble_all, encode};
pub use listener::{Answer, Asked, Listener};
pub use merge::merge;
pub use profile::{compile_default, default_profile, profile_for, syscall_name, syscall_number};

/// The same numbers on both architectures (`asm-generic/errno.h`).
const EPERM: u16 = 1;
const ENOSYS: u16 = 38;

/// A processor architecture, as system call filters see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Arch {
    /// 64-bit x86 (not i386, not x32).
    X86_64,
    /// 64-bit ARM, little endian.
    Aarch64,
    /// 32-bit x86.
    I386,
    /// 32-bit ARM (EABI), little endian.
    Arm,
}

impl Arch {
    /// The one this program was built for.
    pub const fn native() -> Self {
        if cfg!(target_arch = "aarch64") { Self::Aarch64 } else { Self::X86_64 }
    }

    /// The 32-bit one whose programs this one's kernel may run too.
    #[must_use]
    pub const fn compat(self) -> Option<Self> {
        match self {
            Self::X86_64 => Some(Self::I386),
            Self::Aarch64 => Some(Self::Arm),
            Self::I386 | Self::Arm => None,
        }
    }

    /// `AUDIT_ARCH_*` of `linux/audit.h`.
    pub const fn audit(self) -> u32 {
        match self {
            Self::X86_64 => 0xc000_003e,
            Self::Aarch64 => 0xc000_00b7,
            Self::I386 => 0x4000_0003,
            Self::Arm => 0x4000_0028,
        }
    }
}

/// What the kernel does with a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Action {
    /// Makes it.
    Allow,
    /// Fails it with this error number, at most 4095.
    Errno(u16),
    /// Ends the process with SIGSYS (4.14).
    KillProcess,
    /// Ends the thread with SIGSYS.
    KillThread,
    /// Sends the thread a SIGSYS that can be caught.
    Trap,
    /// Asks the listener (5.0).
    Notify,
    /// Makes it and writes it to the audit log (4.14).
    Log,
    /// Asks the tracer; fails with ENOSYS if there is none.
    Trace,
}

/// How an argument is compared. Numbers are unsigned 64-bit: the register as it is.
///
/// The kernel cuts many arguments to 32 bits *after* the filter, so a rule that refuses an `int` compares with
/// [`Op::MaskedEq`] of `0xffff_ffff`; a plain [`Op::Eq`] is evaded by a high bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Op {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// Less.
    Lt,
    /// Less or equal.
    Le,
    /// Greater.
    Gt,
    /// Greater or equal.
    Ge,
    /// `argument & mask == value`.
    MaskedEq(u64),
}

/// A condition on one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArgCheck {
    /// Which argument, 0 to 5.
    pub index: u8,
    /// The comparison: argument on the left, value on the right.
    pub op: Op,
    /// What it is compared with.
    pub value: u64,
}

/// What is done with one system call if all conditions hold; always, if there are none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Its number.
    pub syscall: u32,
    /// All of these must hold.
    pub args: Vec<ArgCheck>,
    /// Then this is done.
    pub action: Action,
}

/// A filter. The rules of one system call are alternatives: the first whose conditions all hold decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// What is done where no rule decides.
    pub default: Action,
    /// In order.
    pub rules: Vec<Rule>,
    /// Architectures whose calls the rules are about; a call of any other one ends the process.
    ///
    /// System call numbers differ between them, so more than one makes sense for numbers from 424 up only. What is done with the calls
    /// of 32-bit programs is a filter of its own beside that of this machine's own, of [`Arch::compat`] alone ([`assemble_all`]).
    pub arches: Vec<Arch>,
}

/// Why a filter has no program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SeccompError {
    /// No architecture is given.
    #[error("a filter needs at least one architecture")]
    NoArch,
    /// Filters that are to be merged must be about the same calls.
    #[error("filters of different architectures cannot be merged")]
    Arches,
    /// The number is out of what system calls can have.
    #[error("system call number {0} is above {max}", max = bpf::X32_BIT - 1)]
    Syscall(u32),
    /// There are six arguments.
    #[error("system call {syscall} has no argument {index}: they are 0 to 5")]
    Index {
        /// The rule's system call.
        syscall: u32,
        /// The refused index.
        index: u8,
    },
    /// The value has bits that the mask removes.
    #[error("system call {syscall}: an argument masked with {mask:#x} is never {value:#x}")]
    NeverMatches {
        /// The rule's system call.
        syscall: u32,
        /// The mask.
        mask: u64,
        /// The impossible value.
        value: u64,
    },
    /// The kernel would cut it.
    #[error("error number {0} is above 4095")]
    Errno(u16),
    /// `BPF_MAXINSNS`.
    #[error("the filter has {0} instructions; the kernel takes {MAX_INSNS}")]
    TooLong(usize),
}
