//! The loop: one epoll over the supervisor's socket and pidfd, the children's pidfds and SIGCHLD.
//!
//! Nothing waits for what one request has started (bounded waits stand in `birth.rs` and `middle.rs`, the last of them for the end
//! of who has been killed). When the socket to the supervisor is full the keeper stops reading requests and stops reaping; zombies are the queue, so that nothing is lost, and EPOLLOUT wakes it again.

use crate::arch::{EpollEvent, nr};
use crate::sys::{self, Res};
use crate::trace::Line;
use crate::wire::{self, Ask, End, MESSAGE, Message, Moment, Purpose, Stage, Tell};
use crate::{alone, birth, deadline, ends, exits, spawn, steps, store, sweep};

pub(crate) const IN: u32 = 1;
pub(crate) const OUT: u32 = 4;
const HUP: u32 = 0x10;
pub(crate) const ET: u32 = 1 << 31;
pub(crate) const CLONE_NEWPID: usize = 0x2000_0000;

/// The table is indexed by descriptor number; this many at the most (NORESERVE, touched as used).
pub(crate) const PLACES: usize = 1 << 20;
/// Mark of the supervisor's pidfd in the epoll set.
pub(crate) const SUPERVISOR: u64 = u64::MAX - 8;
/// Size of the keeper's descriptor table at first, 64 KiB of kernel memory; it is doubled as needed.
pub(crate) const TABLE: usize = 8192;
/// Trees that are removed when the supervisor goes: one a cgroup hierarchy and the state directory.
pub(crate) const ROOTS: usize = 24;
/// One message: its head, the purposes of its descriptors, and the plan or the names behind them.
pub(crate) const BUFFER: usize = MESSAGE + wire::MAX_FDS + wire::MAX_INLINE;

/// What the keeper remembers of a child, at the index of its pidfd.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    /// The supervisor's number for it.
    pub(crate) id: u64,
    pub(crate) pid: i32,
    /// Next in the list of those that have ended and are not yet told; 0 ends the list.
    pub(crate) next: i32,
    /// 1: alive and watched; 2: in the list of the ended; 3: its end was told and is kept.
    pub(crate) state: u32,
    /// Where its end is kept (`ends`), plus one.
    pub(crate) end: u32,
    /// Its end is kept until the supervisor has written it down.
    pub(crate) keep: bool,
    /// It stays a zombie for its next parent.
    pub(crate) leave: bool,
    /// The supervisor is told of its end: it knows of its birth.
    pub(crate) told: bool,
    /// What falls to it may be claimed.
    pub(crate) brings: bool,
    /// Who of that is claimed, and by which request; 0 for nobody.
    pub(crate) wanted: i32,
    pub(crate) wanted_id: u64,
}

impl Entry {
    /// One that lives; `told`: to whom request `id` is known.
    pub(crate) const fn alive(id: u64, pid: i32, told: bool) -> Entry {
        Entry { id, pid, next: 0, state: 1, end: 0, keep: false, leave: false, told, brings: false, wanted: 0, wanted_id: 0 }
    }
}

/// A tree to remove at the end.
#[derive(Clone, Copy)]
pub(crate) struct Root {
    pub(crate) parent: i32,
    pub(crate) kind: u64,
    pub(crate) name: [u8; 128],
}

impl Root {
    pub(crate) const NONE: Root = Root { parent: -1, kind: 0, name: [0; 128] };
}

/// A descriptor that goes out with an answer.
#[derive(Clone, Copy)]
pub(crate) struct Brought {
    pub(crate) purpose: Purpose,
    pub(crate) fd: i32,
    /// Made for this answer alone: closed when it has gone out.
    pub(crate) ours: bool,
}

/// All that the keeper has.
pub(crate) struct Keeper {
    /// -1 while there is no supervisor.
    pub(crate) socket: i32,
    /// The supervisor's pidfd, -1 where it cannot be seen.
    pub(crate) supervisor: i32,
    /// Where a further supervisor comes, and who stands there and has not said what it wants; -1 for nobody.
    pub(crate) door: i32,
    pub(crate) guest: i32,
    /// What a further supervisor is being told.
    pub(crate) replay: Option<alone::Replay>,
    pub(crate) store: store::Store,
    pub(crate) ends: ends::Ends,
    /// The largest number of a request.
    pub(crate) last_id: u64,
    pub(crate) epoll: i32,
    /// Our own pidfd: how a newborn sees that we are there.
    pub(crate) me: i32,
    pub(crate) proc: i32,
    /// Readable once we have ended, for who may not have our pidfd: the other end is in our table alone, which nobody else keeps.
    pub(crate) alive: i32,
    pub(crate) orphans: i32,
    pub(crate) trace: i32,
    /// Whoever reads the trace answers each of our own moments.
    pub(crate) paced: bool,
    /// Shared with children between clone and their first steps: see `spawn::shared`.
    pub(crate) page: *mut u32,
    /// That of a middle process, while there is one.
    pub(crate) stack: *mut u8,
    pub(crate) table: *mut Entry,
    pub(crate) places: usize,
    /// What our descriptor table has grown to.
    pub(crate) size: usize,
    /// Highest pidfd ever watched.
    pub(crate) top: i32,
    pub(crate) buf: *mut u8,
    pub(crate) seq: u32,
    /// It may enter a container's pid namespace and come back; else a middle process does it.
    pub(crate) enters_pidns: bool,
    pub(crate) end: End,
    pub(crate) roots: [Root; ROOTS],
    /// First of the ended whose record is not yet sent.
    pub(crate) pending: i32,
    /// There is, or was, a child whose orphans come to us.
    pub(crate) adopts: bool,
    /// Somebody who is claimed, and cannot be told of yet, stands before those who have ended and are nobody's.
    pub(crate) unswept: bool,
    /// Children that were killed because they could not be watched, and are not yet reaped.
    pub(crate) unwatched: u32,
    /// An answer that did not fit into the socket, with its descriptor.
    pub(crate) reply: Option<(Message, Option<Brought>)>,
    pub(crate) blocked: bool,
    pub(crate) deadlines: deadline::Deadlines,
}

impl Keeper {
    /// The entry of pidfd `fd`.
    pub(crate) fn entry(&mut self, fd: i32) -> Option<&mut Entry> {
        let index = usize::try_from(fd).ok()?;
        if index >= self.places {
            return None;
        }
        // SAFETY: the table has `places` entries, zeroed by the kernel, and only `self` points to it.
        unsafe { self.table.add(index).as_mut() }
    }

    /// What stands behind the head and the purposes of the message that was just received. Nobody writes to it before
    /// the next one.
    pub(crate) fn body(&self, message: &Message, got: &sys::Received) -> &'static [u8] {
        // SAFETY: `buf` has BUFFER bytes, lives as long as the keeper, and `len` of them were just received.
        let bytes: &'static [u8] = unsafe { core::slice::from_raw_parts(self.buf, got.len.min(BUFFER)) };
        bytes.get(wire::body_at(message.fds)..).unwrap_or(&[])
    }

    /// The purposes of the descriptors of the message that was just received.
    pub(crate) fn purposes(&self, message: &Message, got: &sys::Received) -> &'static [u8] {
        // SAFETY: as above.
        let bytes: &'static [u8] = unsafe { core::slice::from_raw_parts(self.buf, got.len.min(BUFFER)) };
        wire::listed(bytes, message.fds).unwrap_or(&[])
    }

    /// Send an answer; what does not fit now is kept and holds up the next request, not the exits of others.
    pub(crate) fn answer(&mut self, message: Message, brought: Option<Brought>) {
        let mut brought = brought;
        let sent = transmit(self.socket, message, brought);
        match (sent, brought) {
            (Err(sys::EPIPE | sys::ECONNRESET), Some(made)) => return unheard(self, made),
            (Err(errno), Some(made)) if errno != sys::EAGAIN => return self.withdraw(message.id, made, errno),
            _ => {}
        }
        if let Some(errno) = later(sent) {
            // What a request has made lies below HIGH and would be closed with the rest of it.
            if let Some(made) = brought.as_mut().filter(|made| made.fd < sys::HIGH) {
                match sys::dup_high(made.fd) {
                    Ok(fd) => made.fd = fd,
                    Err(errno) => return self.refuse(message.id, Stage::Make, errno),
                }
            }
            self.reply = Some((message, brought));
            self.block(errno);
            return;
        }
        // An answer comes before the next request is read, so this is of the newest child at the latest.
        spawn::store(self.page, spawn::shared::TOLD, self.seq);
        if let Some(made) = brought.filter(|made| made.ours) {
            sys::close(made.fd);
        }
    }

    /// A descriptor that cannot be handed over, as too many are on their way (ETOOMANYREFS) or there is no memory: what
    /// was made is undone, and the asker is told.
    fn withdraw(&mut self, id: u64, made: Brought, errno: sys::Errno) {
        undo(self, made);
        self.refuse(id, Stage::Make, errno);
    }

    /// Send what stands alone. `false`: not now, and everything else waits with it.
    pub(crate) fn say(&mut self, message: Message) -> bool {
        match later(sys::send(self.socket, &message.encode(), None)) {
            Some(errno) => {
                self.block(errno);
                false
            }
            None => true,
        }
    }

    /// Send a message with a descriptor that stays ours. `false`: not now, and everything else waits with it.
    pub(crate) fn show(&mut self, bytes: &[u8], fd: i32) -> bool {
        match later(sys::send(self.socket, bytes, Some(fd))) {
            Some(errno) => {
                self.block(errno);
                false
            }
            None => true,
        }
    }

    /// The request has been carried out; there is nothing to bring.
    pub(crate) fn done(&mut self, id: u64) {
        self.answer(Message { kind: Tell::Done as u16, id, ..Message::default() }, None);
    }

    /// What was asked for, made for the asker alone.
    pub(crate) fn bring(&mut self, id: u64, purpose: Purpose, fd: i32) {
        let message = Message { kind: Tell::Done as u16, id, ..Message::default() };
        self.answer(message, Some(Brought { purpose, fd, ours: true }));
    }

    pub(crate) fn refuse(&mut self, id: u64, stage: Stage, errno: i32) {
        let message = Message { kind: Tell::Failed as u16, id, errno, x: stage as u64, ..Message::default() };
        self.answer(message, None);
    }

    /// This is done, and nobody has been told. A trace that is a socket answers with a byte: until it does, or is closed, nothing
    /// else is done, which is for tests that kill us, or our supervisor, just here.
    pub(crate) fn pass(&self, moment: Moment) {
        if self.trace < 0 {
            return;
        }
        let pid = sys::call(nr::GETPID, [0; 6]).unwrap_or(0) as u64;
        Line::new().text(b"keeper ").number(pid).text(b" has ").text(moment.name().as_bytes()).end(self.trace);
        if self.paced {
            let _ = sys::read(self.trace, &mut [0u8; 1]);
        }
    }

    fn block(&mut self, errno: sys::Errno) {
        if errno != sys::EAGAIN {
            // The socket may be writable while there is no memory: no more than a thousand tries a second.
            let word = 0u32;
            let _ = sys::futex_wait(&raw const word, 0, 1_000_000);
        }
        if !self.blocked {
            self.blocked = true;
            let _ = sys::epoll_mod(self.epoll, self.socket, OUT, u64::MAX);
        }
    }

    fn unblock(&mut self) {
        self.blocked = false;
        if let Some((message, brought)) = self.reply.take() {
            self.answer(message, brought);
        }
        if !self.blocked && !alone::tell(self) {
            return;
        }
        // What was done at a deadline is told before the exit that has come of it.
        if !self.blocked {
            deadline::tell(self);
        }
        if !self.blocked {
            exits::drain(self);
        }
        if !self.blocked {
            let _ = sys::epoll_mod(self.epoll, self.socket, IN, u64::MAX);
        }
    }
}

/// What was made for somebody who has gone before he heard of it is nobody's: a process is ended. But one whose end is kept may run
/// already, and what it does is done once: the next supervisor has it written down, asks for it by its label, and ends it if not.
fn unheard(keeper: &mut Keeper, made: Brought) {
    if !made.ours && keeper.entry(made.fd).is_some_and(|entry| entry.keep) {
        spawn::store(keeper.page, spawn::shared::TOLD, keeper.seq);
    } else {
        undo(keeper, made);
    }
}

/// What was made for an answer that does not arrive.
fn undo(keeper: &mut Keeper, made: Brought) {
    if made.ours {
        sys::close(made.fd);
    } else {
        birth::abandon(keeper, made.fd);
    }
}

/// Why something that was sent has to be sent again; a supervisor that has gone is heard of by the loop.
fn later(sent: Res<()>) -> Option<sys::Errno> {
    sent.err().filter(|errno| !matches!(*errno, sys::EPIPE | sys::ECONNRESET))
}

fn transmit(socket: i32, message: Message, brought: Option<Brought>) -> Res<()> {
    match brought {
        Some(brought) => sys::send(socket, &message.encode_with(brought.purpose), Some(brought.fd)),
        None => sys::send(socket, &message.encode(), None),
    }
}

pub(crate) fn run(keeper: &mut Keeper) -> ! {
    let hello = Message {
        kind: Tell::Ready as u16,
        x: u64::from(keeper.enters_pidns),
        y: keeper.places as u64,
        ..Message::default()
    };
    keeper.answer(hello, None);
    let mut events = [EpollEvent { events: 0, data: 0 }; 64];
    loop {
        let count = sys::epoll_wait(keeper.epoll, &mut events, -1).unwrap_or(0);
        for event in events.iter().take(count) {
            let (bits, data) = (event.events, event.data);
            match data {
                u64::MAX => on_socket(keeper, bits),
                data if data == u64::MAX - 1 => exits::sweep_orphans(keeper),
                deadline::EVENT => deadline::expired(keeper),
                SUPERVISOR => on_supervisor_end(keeper),
                alone::DOOR => alone::on_door(keeper),
                alone::GUEST => alone::on_guest(keeper),
                pipe if pipe & store::EVENT != 0 => on_pipe(keeper, pipe as u32),
                fd => exits::ended(keeper, fd as i32),
            }
        }
        if keeper.unswept {
            exits::sweep_orphans(keeper);
        }
    }
}

/// A pipe is emptied by one at a time, and an event may be older than a further supervisor.
fn on_pipe(keeper: &mut Keeper, slot: u32) {
    if keeper.socket < 0 {
        store::drain(keeper, slot);
    }
}

fn on_socket(keeper: &mut Keeper, bits: u32) {
    if keeper.socket < 0 {
        return;
    }
    if bits & OUT != 0 && bits & HUP == 0 {
        keeper.unblock();
        return;
    }
    // A bounded number of requests a turn, so that exits are told meanwhile.
    let mut turn = 0;
    while turn < 16 && !keeper.blocked {
        match request(keeper) {
            Ok(true) => turn += 1,
            Ok(false) => sweep::supervisor_gone(keeper),
            Err(_) => break,
        }
    }
    if bits & HUP != 0 && keeper.blocked && keeper.socket >= 0 {
        last_requests(keeper);
    }
}

/// What it asked before its end counts, a tree to be removed above all, and what is to be forgotten.
fn last_requests(keeper: &mut Keeper) {
    // Nobody hears an answer any more, and none holds up what comes behind it: from now on each fails.
    let _ = sys::call(nr::SHUTDOWN, [keeper.socket as usize, sys::SHUT_WR, 0, 0, 0, 0]);
    if let Some((_, Some(made))) = keeper.reply.take() {
        unheard(keeper, made);
    }
    keeper.blocked = false;
    while request(keeper) == Ok(true) {}
    sweep::supervisor_gone(keeper);
}

fn on_supervisor_end(keeper: &mut Keeper) {
    // Its pidfd is readable for good, and may be of one that has gone before.
    if keeper.supervisor < 0 || !sys::readable(keeper.supervisor) {
        return;
    }
    last_requests(keeper);
}

/// Hear of the supervisor's end by its pidfd, where there is one.
pub(crate) fn watch_supervisor(keeper: &mut Keeper, pidfd: i32) {
    if pidfd >= 0 && sys::epoll_add(keeper.epoll, pidfd, IN | ET, SUPERVISOR).is_ok() {
        keeper.supervisor = pidfd;
    } else if pidfd >= 0 {
        sys::close(pidfd);
    }
}

/// Read and carry out one request. `Ok(false)`: the supervisor has closed its end.
fn request(keeper: &mut Keeper) -> Res<bool> {
    // SAFETY: `buf` has BUFFER bytes and nobody else refers to it.
    let buf = unsafe { core::slice::from_raw_parts_mut(keeper.buf, BUFFER) };
    let got = match sys::recv(keeper.socket, buf) {
        // It went with answers unread, which is said once, and before what it has asked.
        Err(sys::ECONNRESET) => sys::recv(keeper.socket, buf)?,
        got => got?,
    };
    if got.len == 0 {
        return Ok(false);
    }
    let bytes = buf.get(..got.len).unwrap_or(&[]);
    match Message::decode(bytes) {
        Some(message) if !got.truncated => match message.asks_with(bytes, got.count) {
            Some(_) => dispatch(keeper, &message, &got),
            None => keeper.refuse(message.id, Stage::Purpose, sys::EPROTO),
        },
        // Cut: by us, as it is too long, or by the kernel, as it has no room for another descriptor.
        message => keeper.refuse(message.map_or(0, |message| message.id), Stage::Request, sys::EPROTO),
    }
    // What a request brought stays below HIGH and is gone after it; what the keeper keeps, it has moved up.
    let _ = sys::close_range(first_of_request(keeper), sys::HIGH as usize - 1, 0);
    Ok(true)
}

/// The lowest descriptor that may belong to a request.
pub(crate) fn first_of_request(keeper: &Keeper) -> usize {
    if keeper.trace >= 0 { 4 } else { 3 }
}

fn dispatch(keeper: &mut Keeper, message: &Message, got: &sys::Received) {
    keeper.last_id = keeper.last_id.max(message.id);
    match Ask::from_u16(message.kind) {
        Some(Ask::Hello) => hello(keeper, message, got),
        Some(Ask::Spawn) => spawn::spawn(keeper, message, got),
        Some(Ask::Register) => register(keeper, message, got),
        Some(Ask::Forget) => forget(keeper, message),
        Some(Ask::Userns) => spawn::userns(keeper, message, got),
        Some(Ask::Arm) => deadline::arm(keeper, message, got),
        Some(Ask::Cancel) => deadline::cancel(keeper, message),
        Some(Ask::Kill) => exits::kill(keeper, message.id),
        Some(Ask::Store) => store::store(keeper, message, got),
        Some(Ask::Discard) => store::discard(keeper, message),
        Some(Ask::Settle) => exits::settle(keeper, message),
        Some(Ask::Claim) => exits::claim(keeper, message),
        None => keeper.refuse(message.id, Stage::Request, sys::EPROTO),
    }
}

/// How the supervisor wants its end to be understood. Of what comes along, one receives the trace, at the other the next
/// supervisor will come.
fn hello(keeper: &mut Keeper, message: &Message, got: &sys::Received) {
    let find = |purpose: Purpose| {
        let at = keeper.purposes(message, got).iter().position(|number| *number == purpose as u8);
        at.and_then(|at| got.fds.get(at)).copied()
    };
    let (trace, door) = (find(Purpose::Trace), find(Purpose::Door));
    if let Some(door) = door {
        match sys::dup_high(door) {
            Ok(door) => {
                if keeper.door >= 0 {
                    sys::close(keeper.door);
                }
                keeper.door = door;
            }
            Err(errno) => return keeper.refuse(message.id, Stage::Make, errno),
        }
    }
    keeper.end = match message.x {
        0 => End::Kill,
        1 if keeper.door >= 0 => End::Keep,
        2 => End::Release,
        _ => return keeper.refuse(message.id, Stage::Request, sys::EINVAL),
    };
    if trace.is_some_and(|trace| trace == 3 || sys::dup3(trace, 3, true).is_ok()) {
        keeper.trace = 3;
        keeper.paced = steps::stat(3).is_ok_and(|(mode, _)| mode & 0o170_000 == 0o140_000);
    }
    keeper.pass(Moment::Greeted);
    keeper.done(message.id);
}

fn register(keeper: &mut Keeper, message: &Message, got: &sys::Received) {
    let name = wire::string(keeper.body(message, got), 0).unwrap_or(&[]);
    let bad = name.is_empty() || name.len() > 127 || name == b"." || name == b".." || name.contains(&b'/');
    if bad {
        return keeper.refuse(message.id, Stage::Request, sys::EINVAL);
    }
    let parent = match sys::dup_high(got.fds[0]) {
        Ok(parent) => parent,
        Err(errno) => return keeper.refuse(message.id, Stage::Make, errno),
    };
    for root in &mut keeper.roots {
        if root.parent < 0 {
            root.parent = parent;
            root.kind = message.x;
            root.name = [0; 128];
            for (to, from) in root.name.iter_mut().zip(name) {
                *to = *from;
            }
            keeper.pass(Moment::Registered);
            return keeper.done(message.id);
        }
    }
    sys::close(parent);
    keeper.refuse(message.id, Stage::Make, sys::E2BIG);
}

fn forget(keeper: &mut Keeper, message: &Message) {
    for root in &mut keeper.roots {
        if root.parent >= 0 {
            sys::close(root.parent);
            *root = Root::NONE;
        }
    }
    keeper.done(message.id);
}
