//! The one encoding that the planner writes, `explain` decodes and the keeper executes.
//!
//! This file is compiled twice: as a module of `orangery-runtime` (std) and, by `#[path]`, inside the
//! freestanding keeper (`no_std`). It therefore names nothing but `core`, allocates nothing and never panics.
//! Everything that arrives over the keeper's socket is treated as hostile until [`check`] has accepted it; after
//! that every slot number, string and list of it is known to be in bounds.
//!
//! A plan is a header, an array of fixed-size steps and a blob of NUL-terminated strings, all little endian:
//!
//! ```text
//! 0            64                    64 + 48 n                                   len
//! | header     | step 0 | step 1 ... | strings, lists, filters, pointer tables   |
//! ```

#[path = "wire/errand.rs"]
mod errand;
#[path = "wire/ladder.rs"]
mod ladder;
#[path = "wire/message.rs"]
mod message;
#[path = "wire/moment.rs"]
mod moment;
#[path = "wire/purpose.rs"]
mod purpose;

pub use errand::*;
pub use ladder::*;
pub use message::*;
pub use moment::*;
pub use purpose::*;

/// First four bytes of each plan and message.
pub const MAGIC: u32 = 0x4e52_474f;
/// Version of plan and protocol; a keeper refuses any other with `EPROTO`. It is raised with every step, message or size that a keeper
/// before did not know: a daemon is not replaced by one that would find its containers' keeper unable to do what it asks
/// (docs/decisions/0034), and is told so before anything is given up.
pub const VERSION: u16 = 10;
/// Size of a plan's header.
pub const HEADER: usize = 64;
/// Size of one step.
pub const STEP: usize = 48;
/// Slots a plan may name: descriptors received with it first, those that steps open after them. A step may open into a
/// slot that was closed.
pub const MAX_SLOTS: usize = 512;
/// Steps a plan may have.
pub const MAX_STEPS: usize = 8192;
/// Descriptors one request may carry: with what is opened for it they lie below the keeper's own, and the kernel passes 253.
pub const MAX_FDS: usize = 240;
/// The numbers from here on are the keeper's own: what comes with a request, and what its plan opens, lies below.
pub const HIGH: i32 = 256;
/// Largest plan that travels inside a message; a larger one comes in a sealed memfd.
pub const MAX_INLINE: usize = 64 * 1024;
/// Largest plan at all (arguments and environment of 2 MiB fit).
pub const MAX_PLAN: usize = 4 * 1024 * 1024;
/// Where in the header the slots of [`Header::join`] stand, two bytes each.
pub const JOIN_AT: usize = 48;
const _: () = assert!(JOIN_AT + 2 * JOINABLE.len() <= HEADER);
/// Size of a `struct sched_attr` with the range of utilization (5.3); an older kernel takes it as long as that is 0.
pub const SCHED_ATTR: u32 = 56;
/// "No slot" in a step.
pub const NONE: i16 = -1;

/// Header flag: the child must wait until the keeper has written its id maps.
pub const NEEDS_MAPS: u16 = 1;
/// Header flag: `deny` goes into `setgroups` before the maps.
pub const DENY_SETGROUPS: u16 = 2;

/// Step flag: a target that does not exist (ENOENT, ENOTDIR) leaves the slot empty and is no error; a step
/// with this flag whose slot is empty is skipped.
pub const OPTIONAL: u16 = 1;
/// Step flag of [`Op::Mkdir`], [`Op::Symlink`], [`Op::MakeFile`]: what exists already is left as it is.
pub const EXIST_OK: u16 = 2;
/// Step flag: the step is skipped when its slot is empty; its errors are errors.
pub const PRESENT: u16 = 4;

macro_rules! ops {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// What a step does. The numbers are the encoding.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u16)]
        pub enum Op { $($(#[$doc])* $name = $number,)* }

        impl Op {
            /// All operations, in the order of their numbers.
            pub const ALL: &'static [Op] = &[$(Op::$name,)*];

            /// The operation with this number.
            #[must_use]
            pub fn from_u16(number: u16) -> Option<Op> {
                match number { $($number => Some(Op::$name),)* _ => None }
            }

            /// The name that traces and errors print.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Op::$name => $text,)* }
            }
        }
    };
}

ops! {
    /// Block until one byte can be read from slot `a`; end of file cancels the plan.
    Wait = 1, "wait";
    /// `setsid()`.
    Setsid = 2, "setsid";
    /// Write string `s` to slot `a` (a v1 `tasks` file).
    WriteFd = 3, "write-fd";
    /// `unshare(x)`.
    Unshare = 4, "unshare";
    /// `setns(a, x)`.
    SetNs = 5, "setns";
    /// `setgroups`: `n` little-endian u32 at `s`.
    SetGroups = 6, "setgroups";
    /// `setresgid(y)`, then `setresuid(x)`.
    SetIds = 7, "setids";
    /// `mount(NULL, s, NULL, x)`: change propagation.
    Propagation = 8, "propagation";
    /// `open_tree(a, s, x)` into `dst`.
    OpenTree = 9, "open-tree";
    /// `fsopen(s)`, `n` pairs of key and value at `t` (an empty value is a flag), the number of slot `a`, if there is one, as `fd`,
    /// create, `fsmount(x)` into `dst`.
    NewMount = 10, "new-mount";
    /// `move_mount(a, "", b, s, x)`.
    MoveMount = 11, "move-mount";
    /// `mount_setattr(a, s, AT_EMPTY_PATH | z >> 32, {set x, clear y, propagation z & 0xffffffff, userns b})`.
    MountAttr = 12, "mount-setattr";
    /// `mkdirat(a, s, x)`.
    Mkdir = 13, "mkdir";
    /// `symlinkat(t, a, s)`.
    Symlink = 14, "symlink";
    /// `mknodat(a, s, x, y)`.
    Mknod = 15, "mknod";
    /// Create file `s` below `a` with mode `x`; content from memfd `b` or string `t`.
    MakeFile = 16, "make-file";
    /// `openat2(a, s, {flags x & 0xffffffff, mode x >> 32, resolve y})` into `dst`.
    Open = 17, "open";
    /// `fchdir(a)`.
    Fchdir = 18, "fchdir";
    /// `pivot_root(".", ".")`, `umount2(".", MNT_DETACH)` `x` times, `chdir("/")`. Where `y` is not 0 instead `umount2` of /proc and /sys,
    /// where it is 2 `move_mount(".", "/")`, then `chroot(".")`, `chdir("/")`.
    PivotRoot = 19, "pivot-root";
    /// `sethostname(s)`.
    Hostname = 20, "sethostname";
    /// `setdomainname(s)`.
    Domainname = 21, "setdomainname";
    /// Bring `lo` up in this network namespace.
    Loopback = 22, "loopback-up";
    /// Open `s` (below `a`) for writing and write `t`.
    WriteFile = 23, "write-file";
    /// `prlimit(x, soft y, hard z)`.
    Rlimit = 24, "setrlimit";
    /// `umask(x)`.
    Umask = 25, "umask";
    /// `chdir(s)`; the result must lie inside the root.
    Chdir = 26, "chdir";
    /// Drop every capability from the bounding set that is not in `x`.
    CapBound = 27, "cap-bound";
    /// `capset(effective x, permitted y, inheritable z)`.
    CapSet = 28, "capset";
    /// Clear the ambient set and raise those in `x`.
    CapAmbient = 29, "cap-ambient";
    /// `prctl(x, y)`: no_new_privs, dumpable, keep-caps; others are refused.
    Prctl = 30, "prctl";
    /// `seccomp(SET_MODE_FILTER, x, n bytes at s)`; a listener goes into `dst`.
    Seccomp = 31, "seccomp";
    /// Make slot `a` descriptor number `x` of the process, inherited over exec.
    Install = 32, "install-fd";
    /// `close_range(x, z, y)`; without a `z` there is no last one.
    CloseRange = 33, "close-range";
    /// Unblock all signals (their dispositions are the default already).
    Signals = 34, "unblock-signals";
    /// `prctl(PR_SET_NAME, s)`.
    Name = 35, "set-name";
    /// Tell the supervisor that everything so far has succeeded; where `x` is 1 the process still goes with the keeper.
    Ready = 36, "ready";
    /// Be the stub init: close everything but slot `a`, if there is one, reap, never return. A byte on `a` lets it go; end of file
    /// without one ends it.
    Stub = 37, "stub-init";
    /// `execve`: the first of `n` candidates at `s` that can be executed. Where `z` is not 0 it goes on ending with its parent.
    Exec = 38, "execve";
    /// Close slot `a`.
    Close = 39, "close";
    /// Slot `a` must be a device with number `x`: of characters, or of blocks when `y` is 1.
    CheckDevice = 40, "check-device";
    /// Slot `a` must lie on a file system with magic `x`.
    CheckFs = 41, "check-fs";
    /// A new session keyring, so that nothing of the supervisor's is inherited.
    Keyring = 42, "session-keyring";
    /// Send slot `b` over socket `a` (SCM_RIGHTS), with [`Purpose`] `x`.
    SendFd = 43, "send-fd";
    /// `umount2(s, x)`.
    Umount = 44, "umount";
    /// Block until the keeper has written the id maps.
    WaitMaps = 45, "wait-maps";
    /// `open_tree(a, "", x | AT_EMPTY_PATH)` into `dst`: a copy of a tree.
    CloneTree = 46, "clone-tree";
    /// Slot `a` must be of file type `x` (S_IFMT bits), or must not when `y` is 1; with [`OPTIONAL`] the slot is emptied
    /// where that is not so.
    CheckType = 47, "check-type";
    /// Move slot `a` to a number at or above `x`, out of the way of what is installed for the process.
    Lift = 48, "lift-fd";
    /// `fchownat(a, s, x, y, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)`.
    Chown = 49, "chown";
    /// `socket(x, y, 0)` into `dst`.
    Socket = 50, "socket";
    /// `exit_group(0)`: a plan that runs nothing has done what it was for.
    Quit = 51, "quit";
    /// Unlock the other end of the pseudoterminal whose master is slot `a` (TIOCSPTLCK) and open it with flags `x` into
    /// `dst` (TIOCGPTPEER).
    OpenPeer = 52, "open-peer";
    /// `ioctl(a, TIOCSWINSZ)`: `x` rows, `y` columns.
    WindowSize = 53, "window-size";
    /// `ioctl(a, TIOCSCTTY)`: it controls the session that was just made.
    ControllingTerminal = 54, "controlling-terminal";
    /// `fchmod(a, x)`.
    Chmod = 55, "chmod";
    /// `fsetxattr(a, s, n bytes at t, 0)`.
    SetXattr = 56, "set-xattr";
    /// Be the guard of a pid namespace: close everything but slot `a`, a pidfd, wait until that process has ended, end.
    Guard = 60, "guard";
    /// Do what is asked for over socket `a`, one [`Errand`] at a time, until that is closed; never return.
    Hand = 62, "hand";
    /// One of the `n` candidates at `s` must be a file that this process may execute: what [`Op::Exec`] would say, before
    /// it is too late to tell.
    Find = 63, "find-program";
    /// The place `s` below `a`, links followed inside of it and what is missing made (the last name a file when `x` is 1, else
    /// directories), opened (O_PATH) into `dst`; it must not lie on a file system with magic `y`.
    Place = 70, "place";
    /// `personality(x)`.
    Personality = 71, "personality";
    /// `ioprio_set(IOPRIO_WHO_PROCESS, 0, x)`.
    IoPriority = 72, "io-priority";
    /// `sched_setattr(0, s, 0)`: the [`SCHED_ATTR`] bytes of a `struct sched_attr`.
    Scheduler = 73, "scheduler";
    /// `landlock_create_ruleset({files x, network y, scopes z})` into `dst`.
    LandlockRuleset = 80, "landlock-ruleset";
    /// `landlock_add_rule(a, PATH_BENEATH)`: `x` is allowed at and below what is open in slot `b`; `y`, where that is no directory.
    LandlockPath = 81, "landlock-path";
    /// `landlock_add_rule(a, NET_PORT)`: `x` is allowed of port `y`.
    LandlockPort = 82, "landlock-port";
    /// `landlock_restrict_self(a)`.
    LandlockRestrict = 83, "landlock-restrict";
    /// Copy what lies below `a` into `b`, a new file system that is about to be mounted there; `x` says what of the directory itself
    /// (1: mode, 2: owner).
    CopyUp = 90, "copy-up";
    /// `set_mempolicy(x, s, 8 n + 1)`: `n` bytes of a mask of nodes; none where `n` is 0.
    MemoryPolicy = 91, "memory-policy";
    /// `sched_setaffinity(0, n, s)`: `n` bytes of a mask of CPUs.
    Affinity = 92, "affinity";
    /// `fspick(a)`, `n` pairs of key and value at `t` as for [`Op::NewMount`], reconfigure: other options for the file system that is
    /// mounted there.
    Reconfigure = 93, "reconfigure";
    /// What follows is done by a child, which ends with this process: that one is a subreaper, reaps nobody else, says how the child ends
    /// over socket `a` (`si_code` and `si_status`), kills it for a byte from there, and ends when that is closed.
    Attend = 100, "attend";
    /// What comes before it, a middle process does, which sees the host. It enters the namespaces `x` of the process that is slot `a`, and
    /// its pid namespace, and what comes after it is for the child that is born in there. Of plans with [`Header::pidns`] alone.
    Enter = 101, "enter";
}

/// One decoded step: numbers only; what they mean depends on `op`.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// What to do.
    pub op: Op,
    /// [`OPTIONAL`], [`EXIST_OK`], [`PRESENT`].
    pub flags: u16,
    /// Slot that receives a descriptor.
    pub dst: i16,
    /// First slot.
    pub a: i16,
    /// Second slot.
    pub b: i16,
    /// Index of the spec's field this step comes from; the keeper ignores it.
    pub field: u16,
    /// Offset of the first string.
    pub s: u32,
    /// Offset of the second string.
    pub t: u32,
    /// Count.
    pub n: u32,
    /// First number.
    pub x: u64,
    /// Second number.
    pub y: u64,
    /// Third number.
    pub z: u64,
}

/// The fixed part of a plan.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// Length of the whole plan in bytes.
    pub len: u32,
    /// Number of steps.
    pub steps: u16,
    /// Number of slots.
    pub slots: u16,
    /// How many descriptors come with the plan; they fill the first slots.
    pub fds: u16,
    /// [`NEEDS_MAPS`], [`DENY_SETGROUPS`].
    pub flags: u16,
    /// Namespaces for `clone3` (CLONE_NEW* bits only).
    pub clone: u64,
    /// Slot of the cgroup v2 directory to be born in.
    pub cgroup: i16,
    /// Slot of the pidfd whose pid namespace the child is born in, where [`Op::Enter`] stands.
    pub pidns: i16,
    /// Slot of the pipe that a failing step is reported on.
    pub report: i16,
    /// Slots of existing namespaces that the child is born in, in the order of [`JOINABLE`]: a middle process enters them.
    pub join: [i16; JOINABLE.len()],
    /// Offset of the uid map, 0 for none.
    pub uid_map: u32,
    /// Offset of the gid map, 0 for none.
    pub gid_map: u32,
}

/// Namespaces that a plan may ask `clone3` for, or a middle process to join.
pub const CLONE_ALLOWED: u64 = 0x7e02_0080;

/// CLONE_NEWTIME
pub const NEWTIME: u64 = 0x80;
/// CLONE_NEWNS
pub const NEWNS: u64 = 0x0002_0000;
/// CLONE_NEWCGROUP
pub const NEWCGROUP: u64 = 0x0200_0000;
/// CLONE_NEWUTS
pub const NEWUTS: u64 = 0x0400_0000;
/// CLONE_NEWIPC
pub const NEWIPC: u64 = 0x0800_0000;
/// CLONE_NEWUSER
pub const NEWUSER: u64 = 0x1000_0000;
/// CLONE_NEWPID
pub const NEWPID: u64 = 0x2000_0000;
/// CLONE_NEWNET
pub const NEWNET: u64 = 0x4000_0000;

/// Kinds of [`Header::join`], in the order in which they are entered: the user namespace last, because whoever is in it
/// has no rights over the namespaces of others any more.
pub const JOINABLE: [u64; 8] = [NEWNET, NEWIPC, NEWUTS, NEWCGROUP, NEWPID, NEWNS, NEWTIME, NEWUSER];
/// Place of the cgroup namespace in [`JOINABLE`].
pub const JOIN_CGROUP: u16 = 3;

/// Why [`check`] refused a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    /// Wrong magic, version, length or count.
    Header,
    /// Step with this index names something out of bounds or an unknown operation.
    Step(u16),
}

fn u16_at(plan: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(plan.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

/// The little-endian u32 at `at`.
#[must_use]
pub fn u32_at(plan: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(plan.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// The little-endian u64 at `at`.
#[must_use]
pub fn u64_at(plan: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(plan.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// Decode the header; only lengths are looked at.
#[must_use]
pub fn header(plan: &[u8]) -> Option<Header> {
    if u32_at(plan, 0)? != MAGIC || u16_at(plan, 4)? != VERSION {
        return None;
    }
    Some(Header {
        len: u32_at(plan, 8)?,
        steps: u16_at(plan, 12)?,
        slots: u16_at(plan, 14)?,
        fds: u16_at(plan, 16)?,
        flags: u16_at(plan, 18)?,
        clone: u64_at(plan, 24)?,
        cgroup: u16_at(plan, 32)? as i16,
        pidns: u16_at(plan, 34)? as i16,
        report: u16_at(plan, 36)? as i16,
        join: join(plan)?,
        uid_map: u32_at(plan, 40)?,
        gid_map: u32_at(plan, 44)?,
    })
}

fn join(plan: &[u8]) -> Option<[i16; JOINABLE.len()]> {
    let mut slots = [NONE; JOINABLE.len()];
    let mut at = JOIN_AT;
    for slot in &mut slots {
        *slot = u16_at(plan, at)? as i16;
        at += 2;
    }
    Some(slots)
}

/// What is joined is a descriptor that came along, is not made as well, and is not where another process is already.
fn joins_ok(header: &Header) -> bool {
    header.join.iter().zip(JOINABLE).all(|(slot, kind)| {
        slot_ok(*slot, header.fds, Slot::May) && (*slot < 0 || header.pidns < 0 && header.clone & kind == 0)
    })
}

/// Decode step `index`.
#[must_use]
pub fn step(plan: &[u8], index: u16) -> Option<Step> {
    let at = HEADER + usize::from(index) * STEP;
    Some(Step {
        op: Op::from_u16(u16_at(plan, at)?)?,
        flags: u16_at(plan, at + 2)?,
        dst: u16_at(plan, at + 4)? as i16,
        a: u16_at(plan, at + 6)? as i16,
        b: u16_at(plan, at + 8)? as i16,
        field: u16_at(plan, at + 10)?,
        s: u32_at(plan, at + 12)?,
        t: u32_at(plan, at + 16)?,
        n: u32_at(plan, at + 20)?,
        x: u64_at(plan, at + 24)?,
        y: u64_at(plan, at + 32)?,
        z: u64_at(plan, at + 40)?,
    })
}

/// The bytes of the string at `offset`, without its NUL; `None` when it is not terminated inside the plan.
#[must_use]
pub fn string(plan: &[u8], offset: u32) -> Option<&[u8]> {
    let tail = plan.get(offset as usize..)?;
    let mut end = 0;
    while *tail.get(end)? != 0 {
        end += 1;
    }
    tail.get(..end)
}

/// Offset just behind `count` strings that begin at `offset`.
#[must_use]
pub fn list_end(plan: &[u8], offset: u32, count: u32) -> Option<u32> {
    let mut at = offset;
    let mut left = count;
    while left > 0 {
        at = at.checked_add(u32::try_from(string(plan, at)?.len()).ok()?)?.checked_add(1)?;
        left -= 1;
    }
    Some(at)
}

/// Which operands an operation uses; the rest of its record is ignored.
struct Uses {
    dst: bool,
    a: Slot,
    b: Slot,
    s: Text,
    t: Text,
}

#[derive(Clone, Copy, PartialEq)]
enum Slot {
    No,
    May,
    Must,
}

#[derive(Clone, Copy, PartialEq)]
enum Text {
    No,
    May,
    One,
    Blob,
    List,
    Pairs,
}

fn uses(op: Op) -> Uses {
    use Slot::{May, Must};
    let none = Uses { dst: false, a: Slot::No, b: Slot::No, s: Text::No, t: Text::No };
    match op {
        Op::Wait
        | Op::Lift
        | Op::Fchdir
        | Op::Close
        | Op::Install
        | Op::CheckDevice
        | Op::CheckFs
        | Op::SetNs
        | Op::WindowSize
        | Op::ControllingTerminal
        | Op::Chmod
        | Op::Guard
        | Op::Hand
        | Op::Attend
        | Op::Enter
        | Op::LandlockPort
        | Op::LandlockRestrict
        | Op::CheckType => Uses { a: Must, ..none },
        Op::WriteFd => Uses { a: Must, s: Text::One, ..none },
        Op::SetGroups => Uses { s: Text::Blob, ..none },
        Op::Seccomp | Op::Scheduler | Op::MemoryPolicy | Op::Affinity => Uses { s: Text::Blob, ..none },
        Op::Propagation | Op::Hostname | Op::Domainname | Op::Chdir | Op::Name | Op::Umount => {
            Uses { s: Text::One, ..none }
        }
        Op::OpenTree | Op::Open => Uses { dst: true, a: May, b: May, s: Text::One, ..none },
        Op::Place => Uses { dst: true, a: Must, s: Text::One, ..none },
        Op::CloneTree | Op::OpenPeer => Uses { dst: true, a: Must, ..none },
        Op::NewMount => Uses { dst: true, a: May, s: Text::One, t: Text::Pairs, ..none },
        Op::Reconfigure => Uses { a: Must, t: Text::Pairs, ..none },
        Op::MoveMount => Uses { a: Must, b: May, s: Text::One, ..none },
        Op::MountAttr => Uses { a: Must, b: May, s: Text::One, ..none },
        Op::Stub => Uses { a: May, ..none },
        Op::Mkdir | Op::Mknod | Op::Chown => Uses { a: May, s: Text::One, ..none },
        Op::Symlink | Op::WriteFile => Uses { a: May, s: Text::One, t: Text::One, ..none },
        Op::MakeFile => Uses { a: May, b: May, s: Text::One, t: Text::May, ..none },
        Op::SendFd | Op::CopyUp | Op::LandlockPath => Uses { a: Must, b: Must, ..none },
        Op::SetXattr => Uses { a: Must, s: Text::One, t: Text::Blob, ..none },
        Op::Exec | Op::Find => Uses { s: Text::List, ..none },
        Op::Setsid
        | Op::Unshare
        | Op::SetIds
        | Op::PivotRoot
        | Op::Loopback
        | Op::Rlimit
        | Op::Umask
        | Op::CapBound
        | Op::CapSet
        | Op::CapAmbient
        | Op::Prctl
        | Op::CloseRange
        | Op::Signals
        | Op::Ready
        | Op::Keyring
        | Op::Personality
        | Op::IoPriority
        | Op::Quit
        | Op::WaitMaps => none,
        Op::Socket | Op::LandlockRuleset => Uses { dst: true, ..none },
    }
}

fn slot_ok(slot: i16, slots: u16, how: Slot) -> bool {
    match how {
        Slot::No => true,
        Slot::May => slot == NONE || (slot >= 0 && (slot as u16) < slots),
        Slot::Must => slot >= 0 && (slot as u16) < slots,
    }
}

fn text_ok(plan: &[u8], offset: u32, n: u32, strings: u32, kind: Text) -> bool {
    match kind {
        Text::No => true,
        Text::May => offset == 0 || (offset >= strings && string(plan, offset).is_some()),
        Text::One => offset >= strings && string(plan, offset).is_some(),
        Text::Blob => offset >= strings && blob(plan, offset, n).is_some(),
        Text::List => offset >= strings && list_end(plan, offset, n).is_some(),
        Text::Pairs => match n.checked_mul(2) {
            Some(count) => offset >= strings && list_end(plan, offset, count).is_some(),
            None => false,
        },
    }
}

/// `len` bytes at `offset`.
#[must_use]
pub fn blob(plan: &[u8], offset: u32, len: u32) -> Option<&[u8]> {
    plan.get(offset as usize..(offset as usize).checked_add(len as usize)?)
}

/// High and low half of a packed pair (offset, count).
#[must_use]
pub fn pair(packed: u64) -> (u32, u32) {
    ((packed >> 32) as u32, packed as u32)
}

/// Arguments, environment and pointer table of an [`Op::Exec`] step lie inside the plan.
fn exec_ok(plan: &[u8], step: &Step, strings: u32) -> bool {
    let ((argv, argc), (envp, envc)) = (pair(step.x), pair(step.y));
    let Some(words) = u64::from(argc).checked_add(u64::from(envc)).and_then(|n| n.checked_add(2)) else {
        return false;
    };
    let table = u64::from(step.t);
    let end = words.checked_mul(8).and_then(|bytes| bytes.checked_add(table));
    step.n > 0
        && argc > 0
        && argv >= strings
        && envp >= strings
        && table >= u64::from(strings)
        && table % 8 == 0
        && list_end(plan, argv, argc).is_some()
        && list_end(plan, envp, envc).is_some()
        && end.is_some_and(|end| end <= plan.len() as u64)
}

fn step_ok(plan: &[u8], step: &Step, slots: u16, strings: u32) -> bool {
    let uses = uses(step.op);
    slot_ok(step.a, slots, uses.a)
        && slot_ok(step.b, slots, uses.b)
        && (!uses.dst || slot_ok(step.dst, slots, Slot::Must))
        && text_ok(plan, step.s, step.n, strings, uses.s)
        && text_ok(plan, step.t, step.n, strings, uses.t)
        && match step.op {
            Op::Exec => exec_ok(plan, step, strings),
            Op::Seccomp => {
                step.n.is_multiple_of(8) && step.n > 0 && step.n / 8 <= 4096 && slot_ok(step.dst, slots, Slot::May)
            }
            Op::Enter => step.x & !CLONE_ALLOWED == 0,
            Op::SetGroups => step.n.is_multiple_of(4),
            Op::Scheduler => step.n == SCHED_ATTR,
            Op::MemoryPolicy | Op::Affinity => step.n.is_multiple_of(8),
            Op::WindowSize => u16::try_from(step.x).is_ok() && u16::try_from(step.y).is_ok(),
            Op::SendFd => u8::try_from(step.x).is_ok_and(|number| Purpose::from_u8(number).is_some()),
            // PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_SECUREBITS, PR_SET_NO_NEW_PRIVS
            Op::Prctl => matches!(step.x, 4 | 8 | 28 | 38),
            _ => true,
        }
}

/// Accept or refuse a plan that came with `fds` descriptors. Afterwards every operand of every step is in bounds.
///
/// # Errors
/// [`Bad`] says whether the header or which step is wrong.
pub fn check(plan: &[u8], fds: usize) -> Result<Header, Bad> {
    let header = header(plan).ok_or(Bad::Header)?;
    let strings = HEADER + usize::from(header.steps) * STEP;
    let sane = header.len as usize == plan.len()
        && plan.len() <= MAX_PLAN
        && header.steps > 0
        && usize::from(header.steps) <= MAX_STEPS
        && strings <= plan.len()
        && usize::from(header.slots) <= MAX_SLOTS
        && header.fds <= header.slots
        && usize::from(header.fds) == fds
        && header.clone & !CLONE_ALLOWED == 0
        && slot_ok(header.cgroup, header.fds, Slot::May)
        && slot_ok(header.pidns, header.fds, Slot::May)
        && slot_ok(header.report, header.fds, Slot::Must)
        && joins_ok(&header)
        && (header.uid_map == 0 || string(plan, header.uid_map).is_some())
        && (header.gid_map == 0 || string(plan, header.gid_map).is_some());
    if !sane {
        return Err(Bad::Header);
    }
    let mut index = 0;
    let mut enters = 0;
    while index < header.steps {
        let good = step(plan, index).filter(|step| step_ok(plan, step, header.slots, strings as u32));
        let Some(good) = good else { return Err(Bad::Step(index)) };
        enters += i32::from(good.op == Op::Enter);
        index += 1;
    }
    // Nobody is born beside another one but at that step.
    if enters == i32::from(header.pidns >= 0) { Ok(header) } else { Err(Bad::Header) }
}
