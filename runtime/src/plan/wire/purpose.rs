//! What each descriptor on the keeper's socket is for. The list of purposes travels in the message, beside the
//! descriptors: neither side ever guesses from an order what it has been given.

use super::message::{Ask, MESSAGE, Message, Tell};
use super::{Header, JOINABLE, LADDER, NONE};

macro_rules! purposes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// What a descriptor is for. The numbers are the encoding.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Purpose { $($(#[$doc])* $name = $number,)* }

        impl Purpose {
            /// All of them.
            pub const ALL: &'static [Purpose] = &[$(Purpose::$name,)*];

            /// The purpose with this number.
            #[must_use]
            pub fn from_u8(number: u8) -> Option<Purpose> {
                match number { $($number => Some(Purpose::$name),)* _ => None }
            }

            /// In words.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Purpose::$name => $text,)* }
            }
        }
    };
}

purposes! {
    /// Write end of the pipe that a plan's steps report on.
    Report = 1, "report pipe";
    /// Read end of a start gate.
    Gate = 2, "start gate";
    /// cgroup v2 directory to be born in.
    Cgroup = 3, "cgroup directory";
    /// `tasks` file of a v1 hierarchy.
    Tasks = 4, "cgroup tasks file";
    /// pidfd: of a container's init (to the keeper), of a new process (from it).
    Pidfd = 5, "pidfd";
    /// Detached mount tree.
    Tree = 6, "mount tree";
    /// Content of a file to be made.
    File = 7, "file content";
    /// Standard stream.
    Stdio = 8, "standard stream";
    /// Descriptor that a process keeps over its exec.
    Preserved = 9, "preserved descriptor";
    /// Network namespace.
    Network = 10, "network namespace";
    /// IPC namespace.
    Ipc = 11, "ipc namespace";
    /// UTS namespace.
    Uts = 12, "uts namespace";
    /// User namespace.
    User = 13, "user namespace";
    /// memfd with a large plan.
    Plan = 14, "plan";
    /// Where traces go.
    Trace = 15, "trace";
    /// Directory below which a tree is removed at the end.
    TreeRoot = 16, "directory of a tree";
    /// Socket of a family and type that was asked for, in a network namespace that was asked for.
    Socket = 17, "socket";
    /// File that a deadline writes to.
    Control = 18, "control file";
    /// Socket on which a plan sends what it was for.
    Channel = 19, "channel";
    /// Master end of a pseudoterminal of a container.
    PtyMaster = 20, "pty master";
    /// Listener of a system call filter.
    Listener = 21, "seccomp listener";
    /// PID namespace.
    Pid = 22, "pid namespace";
    /// Mount namespace.
    Mount = 23, "mount namespace";
    /// Cgroup namespace.
    CgroupNamespace = 24, "cgroup namespace";
    /// Listening socket at which the next supervisor comes.
    Door = 25, "door";
    /// File that a pipe is emptied into.
    Log = 26, "log";
    /// pidfd of who is told by the rungs of a ladder.
    Told = 27, "pidfd of who is told";
    /// File that is locked as long as somebody has it open.
    Lock = 28, "lock";
    /// Where a hand does what it is asked.
    Place = 29, "place of an errand";
    /// What a hand has opened.
    Opened = 30, "opened file";
    /// Device by which a file system is served.
    Fuse = 31, "fuse device";
    /// Time namespace.
    Time = 40, "time namespace";
}

/// What the descriptors of [`Header::join`] are, in the order of [`JOINABLE`].
pub const JOINED: [Purpose; JOINABLE.len()] = [
    Purpose::Network,
    Purpose::Ipc,
    Purpose::Uts,
    Purpose::CgroupNamespace,
    Purpose::Pid,
    Purpose::Mount,
    Purpose::Time,
    Purpose::User,
];

/// The purposes behind the head of a message; `None` when the message is shorter than its list.
#[must_use]
pub fn listed(bytes: &[u8], count: u16) -> Option<&[u8]> {
    bytes.get(MESSAGE..MESSAGE.checked_add(usize::from(count))?)
}

/// Where the body of a message begins: behind the list of purposes, at a multiple of eight.
#[must_use]
pub fn body_at(count: u16) -> usize {
    MESSAGE + usize::from(count).next_multiple_of(8)
}

/// `list` is what this request takes.
fn asked(ask: Ask, flags: u16, list: &[u8]) -> bool {
    let (last, others) = match list.split_last() {
        Some((last, others)) if flags & 1 != 0 && ask == Ask::Spawn => (Some(*last), others),
        _ => (None, list),
    };
    let only = |purpose: Purpose| others.len() == 1 && others.first() == Some(&(purpose as u8));
    match ask {
        Ask::Hello => {
            let both = [Purpose::Trace as u8, Purpose::Door as u8];
            others.is_empty() || only(Purpose::Trace) || only(Purpose::Door) || others == both
        }
        Ask::Store => {
            let stored = |number: &u8| Purpose::from_u8(*number).is_some_and(of_a_store);
            match others {
                [one] => stored(one),
                [one, log] => {
                    (*one == Purpose::Stdio as u8 || *one == Purpose::PtyMaster as u8) && *log == Purpose::Log as u8
                }
                _ => false,
            }
        }
        Ask::Register => only(Purpose::TreeRoot),
        Ask::Arm => armed(flags, others),
        Ask::Forget | Ask::Userns | Ask::Cancel | Ask::Kill | Ask::Discard | Ask::Settle | Ask::Claim => {
            others.is_empty()
        }
        Ask::Spawn => {
            (flags & 1 == 0 || last == Some(Purpose::Plan as u8))
                && others.iter().all(|number| Purpose::from_u8(*number).is_some_and(of_a_plan))
        }
    }
}

/// Who gets the last signal, what is written, and of a ladder who is told before.
fn armed(flags: u16, list: &[u8]) -> bool {
    const PIDFD: u8 = Purpose::Pidfd as u8;
    const CONTROL: u8 = Purpose::Control as u8;
    let list = match list.split_last() {
        Some((last, others)) if *last == Purpose::Told as u8 && flags & LADDER != 0 => others,
        // Without such a one the rungs are for the first.
        _ if flags & LADDER != 0 && list == [CONTROL] => return false,
        _ => list,
    };
    matches!(list, [PIDFD] | [CONTROL] | [PIDFD, CONTROL])
}

/// What can be held for a further supervisor.
fn of_a_store(purpose: Purpose) -> bool {
    matches!(
        purpose,
        Purpose::Stdio
            | Purpose::PtyMaster
            | Purpose::Report
            | Purpose::Gate
            | Purpose::Channel
            | Purpose::Listener
            | Purpose::Lock
            | Purpose::Pidfd
    )
}

fn of_a_plan(purpose: Purpose) -> bool {
    match purpose {
        Purpose::Report
        | Purpose::Gate
        | Purpose::Cgroup
        | Purpose::Tasks
        | Purpose::Pidfd
        | Purpose::Tree
        | Purpose::File
        | Purpose::Stdio
        | Purpose::Preserved
        | Purpose::Network
        | Purpose::Ipc
        | Purpose::Uts
        | Purpose::User
        | Purpose::Pid
        | Purpose::Mount
        | Purpose::Time
        | Purpose::CgroupNamespace
        | Purpose::Channel => true,
        Purpose::Plan
        | Purpose::Trace
        | Purpose::TreeRoot
        | Purpose::Socket
        | Purpose::Control
        | Purpose::PtyMaster
        | Purpose::Door
        | Purpose::Log
        | Purpose::Told
        | Purpose::Lock
        | Purpose::Place
        | Purpose::Opened
        | Purpose::Fuse
        | Purpose::Listener => false,
    }
}

impl Message {
    /// The purposes of the `received` descriptors that came with this request, when they are as many as it says, known,
    /// and what it takes. A request of an unknown kind takes none.
    #[must_use]
    pub fn asks_with<'a>(&self, bytes: &'a [u8], received: usize) -> Option<&'a [u8]> {
        let list = listed(bytes, self.fds).filter(|list| list.len() == received)?;
        let good = Ask::from_u16(self.kind).map_or(list.is_empty(), |ask| asked(ask, self.flags, list));
        if good { Some(list) } else { None }
    }

    /// The purpose of the descriptor that came with this answer, `Some(None)` when none did; `None` when they are not
    /// what the message says, or not what the keeper may send.
    #[must_use]
    pub fn tells_with(&self, bytes: &[u8], received: usize) -> Option<Option<Purpose>> {
        let list = listed(bytes, self.fds).filter(|list| list.len() == received)?;
        let Some((number, more)) = list.split_first() else { return Some(None) };
        let purpose = Purpose::from_u8(*number)?;
        let may = match Tell::from_u16(self.kind) {
            Some(Tell::Done) => matches!(purpose, Purpose::Pidfd | Purpose::User),
            Some(Tell::Ready | Tell::Child) => purpose == Purpose::Pidfd,
            Some(Tell::Sent) => {
                use Purpose::{Fuse, Listener, Opened, PtyMaster, Socket, Tree};
                matches!(purpose, Socket | PtyMaster | Listener | Opened | Fuse | Tree)
            }
            Some(Tell::Stored) => of_a_store(purpose),
            _ => false,
        };
        if may && more.is_empty() { Some(Some(purpose)) } else { None }
    }
}

/// The descriptors that the header of a plan names are there for what it uses them for.
#[must_use]
pub fn fit(header: &Header, purposes: &[u8]) -> bool {
    let is = |slot: i16, purpose: Purpose| match usize::try_from(slot) {
        Ok(slot) => purposes.get(slot) == Some(&(purpose as u8)),
        Err(_) => slot == NONE,
    };
    is(header.report, Purpose::Report)
        && is(header.cgroup, Purpose::Cgroup)
        && is(header.pidns, Purpose::Pidfd)
        && header.join.iter().zip(JOINED).all(|(slot, purpose)| is(*slot, purpose))
}
