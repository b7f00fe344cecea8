//! Messages on the keeper's socket: what the supervisor asks, what the keeper tells, and what a child reports.
//!
//! ```text
//! 0      128                   128 + descriptors, up to a multiple of 8
//! | head | purpose of each descriptor | plan, names, maps |
//! ```

use super::{JOINABLE, MAGIC, Purpose, VERSION, u16_at, u32_at, u64_at};

/// Size of each message's head.
pub const MESSAGE: usize = 128;
/// Size of a message with one descriptor and no body.
pub const WITH_ONE: usize = MESSAGE + 8;

/// Flag of [`Ask::Arm`]: also carried out when the supervisor goes before its time.
pub const AT_END: u16 = 2;
/// Deadlines that a keeper holds at the most; one more is refused with ENOSPC.
pub const MAX_LEASES: u32 = 16_384;
/// Bytes that a deadline writes at the most.
pub const LEASE_BYTES: usize = 64;

/// Flag of [`Ask::Store`]: in place of what slot `x` holds.
pub const REPLACE: u16 = 4;
/// Flag of [`Ask::Spawn`]: how it ends is kept until [`Ask::Settle`].
pub const KEEP_EXIT: u16 = 32;
/// Flag of [`Ask::Spawn`]: the keeper neither tells nor reaps its end, which is for whoever becomes its parent when the keeper
/// leaves ([`End::Release`]).
pub const LEAVE_EXIT: u16 = 64;
/// Flag of [`Ask::Spawn`]: what falls to it ([`Op::Attend`](super::Op::Attend)) may be [claimed](Ask::Claim).
pub const BRINGS: u16 = 128;
/// Flag of [`Ask::Store`]: it is no reason for the keeper to stay.
pub const ASIDE: u16 = 16;
/// Ends of processes that a keeper keeps at the most. One of more stays a zombie while nobody is there, and is told once.
pub const MAX_ENDS: u32 = 65_536;
/// Things that a keeper stores at the most; one more is refused with ENOSPC.
pub const MAX_STORED: u32 = 65_536;
/// Bytes of the label of something that is stored, at the most.
pub const LABEL: usize = 64;
/// What stands before the label in [`Tell::Stored`]: see [`Drained`].
pub const DRAINED: usize = 32;

/// What the supervisor asks of the keeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Ask {
    /// First message: the end of the supervisor means [`End`] `x`.
    Hello = 1,
    /// A plan follows the head (or comes as the last descriptor, `x` bytes, when bit 0 of `flags` is set).
    Spawn = 2,
    /// Remove the tree `name` (behind the head) below descriptor 0 when the supervisor goes; `x` is a [`Tree`].
    Register = 3,
    /// Forget all registered trees: the supervisor has removed them itself.
    Forget = 4,
    /// Make a user namespace with the maps that follow the head (two strings) and send it back.
    Userns = 5,
    /// At CLOCK_MONOTONIC `x` (nanoseconds) send signal `y` to the pidfd, if there is one, then write what is behind the
    /// head to the control file, if there is one. With [`AT_END`] in `flags` also when the supervisor goes first. With
    /// [`LADDER`](super::LADDER) rungs stand before those bytes, in the order of their times and none after `x`: signals
    /// that are sent before, to the pidfd for those who are told or, without one, to the pidfd. The answer says in `x` which
    /// slot it has.
    Arm = 7,
    /// Forget what `id` has armed in slot `x`. There is no answer.
    Cancel = 8,
    /// Kill the process that request `id` has started: its pidfd did not arrive. There is no answer but its exit.
    Kill = 9,
    /// Hold a descriptor for the supervisor that comes after this one, with a label (behind the head) that means something
    /// to supervisors only. A pipe may come with the file of a log: from the moment that there is no supervisor, and until
    /// the next one is there, the keeper empties the pipe into it, up to a file size of `y` bytes, and away after that. The
    /// answer says in `x` which slot it has.
    Store = 10,
    /// Close what `id` has stored in slot `x`. There is no answer.
    Discard = 11,
    /// How the process ended that request `id` has started at place `x` is written down, or of no interest: forget it, and
    /// tell no more of it. There is no answer.
    Settle = 12,
    /// Process `pid`, which has fallen to the one that request `x` has started ([`BRINGS`]), is as one that this request has started: it
    /// is watched, and its end is told. That other one is ended for it, if it has not gone. The answer is that of [`Ask::Spawn`]. Refused
    /// with ECHILD where it is no child of the keeper's then.
    Claim = 13,
}

impl Ask {
    /// The request with this number.
    #[must_use]
    pub fn from_u16(number: u16) -> Option<Ask> {
        Some(match number {
            1 => Ask::Hello,
            2 => Ask::Spawn,
            3 => Ask::Register,
            4 => Ask::Forget,
            5 => Ask::Userns,
            7 => Ask::Arm,
            8 => Ask::Cancel,
            9 => Ask::Kill,
            10 => Ask::Store,
            11 => Ask::Discard,
            12 => Ask::Settle,
            13 => Ask::Claim,
            _ => return None,
        })
    }
}

/// What the keeper says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Tell {
    /// The keeper is ready; `x` is 1 when it can enter pid namespaces itself. To a further supervisor it brings the
    /// keeper's own pidfd, and what it holds follows.
    Ready = 1,
    /// The request succeeded; `pid` is the process, `x` its place in the keeper, descriptors come along.
    Done = 2,
    /// The request failed: `errno`, at [`Stage`] `x`.
    Failed = 3,
    /// A process ended: see [`ExitRecord`]; `x` is its place, where that is kept.
    Exited = 4,
    /// The keeper has entered a user namespace and waits for its maps.
    NeedsMaps = 5,
    /// Of what `id` has armed `x` rungs have been carried out so far, and where `y` is 1 what comes in the end; the first
    /// `errno` of it.
    Fired = 6,
    /// Not from the keeper, but from a child of it on a socket of its plan: the descriptor that the plan was for, or what
    /// has come of an [`Errand`](super::Errand).
    Sent = 7,
    /// To a further supervisor: request `id` of an earlier one has started this process, `pid`, which is at place `x`. Its
    /// exit may follow.
    Child = 8,
    /// To a further supervisor: what request `id` has armed waits in slot `x` for the time `y`. What was carried out of it
    /// while nobody was there is told after [`Tell::Whole`].
    Armed = 9,
    /// To a further supervisor: what request `id` has stored in slot `x`, with [`Drained`] and the label behind the head.
    Stored = 10,
    /// To a further supervisor: that was all; `x` is the largest `id` that an earlier one has used, `y` how many trees are
    /// registered. From here on it is as with the first.
    Whole = 11,
}

impl Tell {
    /// The message with this number.
    #[must_use]
    pub fn from_u16(number: u16) -> Option<Tell> {
        Some(match number {
            1 => Tell::Ready,
            2 => Tell::Done,
            3 => Tell::Failed,
            4 => Tell::Exited,
            5 => Tell::NeedsMaps,
            6 => Tell::Fired,
            7 => Tell::Sent,
            8 => Tell::Child,
            9 => Tell::Armed,
            10 => Tell::Stored,
            11 => Tell::Whole,
            _ => return None,
        })
    }
}

/// What the keeper does when its supervisor goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum End {
    /// Kill and remove everything (embedded mode).
    Kill = 0,
    /// Go on without it, and wait at the door that came with [`Ask::Hello`] for the next one; with nothing to hold, end.
    Keep = 1,
    /// Exit and kill nothing: the children fall to the next subreaper (OCI).
    Release = 2,
}

/// What kind of tree [`Ask::Register`] names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Tree {
    /// A cgroup: killed, thawed, then its directories removed.
    Cgroup = 0,
    /// Plain files and directories.
    Files = 1,
}

/// Where in the keeper a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Stage {
    /// The message or the plan is malformed.
    Request = 0,
    /// `clone3`.
    Clone = 2,
    /// The child died or was stopped before it had its own descriptor table.
    Birth = 3,
    /// Writing `setgroups`, `uid_map` or `gid_map`.
    Maps = 4,
    /// Keeping the pidfd (descriptor table or epoll full).
    Watch = 5,
    /// Making the object that was asked for.
    Make = 6,
    /// The descriptors are not those that the message names, or not those that this request takes.
    Purpose = 8,
    /// Entering a network namespace that is to be joined.
    JoinNetwork = 16,
    /// Entering an ipc namespace.
    JoinIpc = 17,
    /// Entering a uts namespace.
    JoinUts = 18,
    /// Entering a cgroup namespace.
    JoinCgroup = 19,
    /// Entering a pid namespace.
    JoinPid = 20,
    /// Entering a mount namespace.
    JoinMount = 21,
    /// Entering a user namespace.
    JoinUser = 22,
    /// Entering a time namespace.
    JoinTime = 23,
}

impl Stage {
    /// Entering each of [`JOINABLE`], in that order.
    pub const JOIN: [Stage; JOINABLE.len()] = [
        Stage::JoinNetwork,
        Stage::JoinIpc,
        Stage::JoinUts,
        Stage::JoinCgroup,
        Stage::JoinPid,
        Stage::JoinMount,
        Stage::JoinTime,
        Stage::JoinUser,
    ];

    /// All of them.
    pub const ALL: [Stage; 15] = [
        Stage::Request,
        Stage::Clone,
        Stage::Birth,
        Stage::Maps,
        Stage::Watch,
        Stage::Make,
        Stage::Purpose,
        Stage::JoinNetwork,
        Stage::JoinIpc,
        Stage::JoinUts,
        Stage::JoinCgroup,
        Stage::JoinPid,
        Stage::JoinMount,
        Stage::JoinUser,
        Stage::JoinTime,
    ];

    /// In words, as errors tell it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Stage::Request => "keeper: request",
            Stage::Clone => "keeper: clone3",
            Stage::Birth => "keeper: birth",
            Stage::Maps => "keeper: write the id maps",
            Stage::Watch => "keeper: watch the process",
            Stage::Make => "keeper",
            Stage::Purpose => "keeper: purposes of the descriptors",
            Stage::JoinNetwork => "keeper: join the network namespace",
            Stage::JoinIpc => "keeper: join the ipc namespace",
            Stage::JoinUts => "keeper: join the uts namespace",
            Stage::JoinCgroup => "keeper: join the cgroup namespace",
            Stage::JoinPid => "keeper: join the pid namespace",
            Stage::JoinMount => "keeper: join the mount namespace",
            Stage::JoinUser => "keeper: join the user namespace",
            Stage::JoinTime => "keeper: join the time namespace",
        }
    }
}

/// Fixed head of a message in both directions. 128 bytes; unused fields are zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// [`Ask`] or [`Tell`].
    pub kind: u16,
    /// Bit 0: the plan is in a memfd; others: [`AT_END`], [`REPLACE`], [`LADDER`](super::LADDER), [`ASIDE`],
    /// [`KEEP_EXIT`], [`BRINGS`].
    pub flags: u16,
    /// How many descriptors come with it; their purposes stand behind the head.
    pub fds: u16,
    /// Chosen by the supervisor, repeated in the answer and in the exit record.
    pub id: u64,
    /// Process id, where there is one.
    pub pid: i32,
    /// Error number, where there is one.
    pub errno: i32,
    /// First number.
    pub x: u64,
    /// Second number.
    pub y: u64,
    /// How a process ended.
    pub exit: ExitRecord,
}

/// What a keeper without a supervisor has done with one pipe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// CLOCK_MONOTONIC in nanoseconds when it began: what it has put into the log was read later.
    pub since_ns: u64,
    /// Bytes that it has put into the log, the last ones there.
    pub logged: u64,
    /// Bytes after those that are gone: the log took no more.
    pub lost: u64,
    /// Why not; ENOSPC as well where the largest size was reached, 0 where nothing was lost.
    pub errno: i32,
    /// The pipe has ended.
    pub ended: bool,
}

impl Drained {
    /// As it travels.
    #[must_use]
    pub fn encode(&self) -> [u8; DRAINED] {
        let mut out = [0; DRAINED];
        let flags = u64::from(self.errno.unsigned_abs()) | if self.ended { 1 << 32 } else { 0 };
        let words = [self.since_ns, self.logged, self.lost, flags];
        for (to, from) in out.iter_mut().zip(words.iter().flat_map(|word| word.to_le_bytes())) {
            *to = from;
        }
        out
    }

    /// `None` for what is too short.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Drained> {
        let flags = u64_at(bytes, 24)?;
        Some(Drained {
            since_ns: u64_at(bytes, 0)?,
            logged: u64_at(bytes, 8)?,
            lost: u64_at(bytes, 16)?,
            errno: (flags & 0xffff_ffff) as i32,
            ended: flags >> 32 & 1 == 1,
        })
    }
}

/// How a process ended, as its parent saw it: the only source of rusage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExitRecord {
    /// `si_code`: CLD_EXITED 1, CLD_KILLED 2, CLD_DUMPED 3.
    pub code: i32,
    /// Exit code or signal number.
    pub status: i32,
    /// User time in microseconds.
    pub user_us: u64,
    /// System time in microseconds.
    pub system_us: u64,
    /// Largest resident set in KiB.
    pub max_rss_kib: u64,
    /// Minor faults.
    pub minor_faults: u64,
    /// Major faults.
    pub major_faults: u64,
    /// Voluntary context switches.
    pub voluntary: u64,
    /// Involuntary context switches.
    pub involuntary: u64,
    /// CLOCK_MONOTONIC in nanoseconds when the exit was seen.
    pub at_ns: u64,
}

fn put<const N: usize>(out: &mut [u8; MESSAGE], at: usize, bytes: [u8; N]) {
    let mut index = 0;
    while index < N {
        if let (Some(to), Some(from)) = (out.get_mut(at + index), bytes.get(index)) {
            *to = *from;
        }
        index += 1;
    }
}

impl Message {
    /// The message as it travels.
    #[must_use]
    pub fn encode(&self) -> [u8; MESSAGE] {
        let mut out = [0; MESSAGE];
        put(&mut out, 0, MAGIC.to_le_bytes());
        put(&mut out, 4, VERSION.to_le_bytes());
        put(&mut out, 6, self.kind.to_le_bytes());
        put(&mut out, 8, self.id.to_le_bytes());
        put(&mut out, 16, self.pid.to_le_bytes());
        put(&mut out, 20, self.errno.to_le_bytes());
        put(&mut out, 24, self.x.to_le_bytes());
        put(&mut out, 32, self.y.to_le_bytes());
        put(&mut out, 40, self.flags.to_le_bytes());
        put(&mut out, 42, self.fds.to_le_bytes());
        let exit = &self.exit;
        put(&mut out, 48, exit.code.to_le_bytes());
        put(&mut out, 52, exit.status.to_le_bytes());
        let words = [
            exit.user_us,
            exit.system_us,
            exit.max_rss_kib,
            exit.minor_faults,
            exit.major_faults,
            exit.voluntary,
            exit.involuntary,
            exit.at_ns,
        ];
        let mut at = 56;
        for word in words {
            put(&mut out, at, word.to_le_bytes());
            at += 8;
        }
        out
    }

    /// The message with one descriptor of this purpose, as it travels.
    #[must_use]
    pub fn encode_with(self, purpose: Purpose) -> [u8; WITH_ONE] {
        let mut out = [0; WITH_ONE];
        for (to, from) in out.iter_mut().zip(Message { fds: 1, ..self }.encode()) {
            *to = from;
        }
        if let Some(place) = out.get_mut(MESSAGE) {
            *place = purpose as u8;
        }
        out
    }

    /// Decode a head; `None` for a short one, a wrong magic or another version.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Message> {
        if bytes.len() < MESSAGE || u32_at(bytes, 0)? != MAGIC || u16_at(bytes, 4)? != VERSION {
            return None;
        }
        Some(Message {
            kind: u16_at(bytes, 6)?,
            flags: u16_at(bytes, 40)?,
            fds: u16_at(bytes, 42)?,
            id: u64_at(bytes, 8)?,
            pid: u32_at(bytes, 16)? as i32,
            errno: u32_at(bytes, 20)? as i32,
            x: u64_at(bytes, 24)?,
            y: u64_at(bytes, 32)?,
            exit: ExitRecord {
                code: u32_at(bytes, 48)? as i32,
                status: u32_at(bytes, 52)? as i32,
                user_us: u64_at(bytes, 56)?,
                system_us: u64_at(bytes, 64)?,
                max_rss_kib: u64_at(bytes, 72)?,
                minor_faults: u64_at(bytes, 80)?,
                major_faults: u64_at(bytes, 88)?,
                voluntary: u64_at(bytes, 96)?,
                involuntary: u64_at(bytes, 104)?,
                at_ns: u64_at(bytes, 112)?,
            },
        })
    }
}

/// Size of what the child writes to its report pipe.
pub const REPORT: usize = 8;
/// Step number in a report that says: ready, waiting behind the start gate or as stub init.
pub const REPORT_READY: u16 = u16::MAX;

/// What the child reports: the step and errno that stopped it, or [`REPORT_READY`].
#[must_use]
pub fn report(step: u16, errno: i32) -> [u8; REPORT] {
    let (s, e) = (step.to_le_bytes(), errno.to_le_bytes());
    [s[0], s[1], 0, 0, e[0], e[1], e[2], e[3]]
}

/// Decode a report.
#[must_use]
pub fn read_report(bytes: &[u8]) -> Option<(u16, i32)> {
    Some((u16_at(bytes, 0)?, u32_at(bytes, 4)? as i32))
}
