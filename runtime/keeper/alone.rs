//! Without a supervisor, where the last one wanted that: the pipes are emptied into their logs (`store`), deadlines are
//! kept, the ends of processes too (in `ends`, and where nobody asked for that as zombies), and the next supervisor is let in
//! at the door. It has
//! to be the same user; it is told all that there is, and is the supervisor from then on.

use crate::arch::nr;
use crate::deadline;
use crate::exits;
use crate::serve::{self, Keeper};
use crate::store;
use crate::sys::{self, HIGH};
use crate::wire::{DRAINED, End, LABEL, Message, Moment, Purpose, Stage, Tell};

/// Marks of the door and of who stands in it, in the epoll set.
pub(crate) const DOOR: u64 = u64::MAX - 3;
pub(crate) const GUEST: u64 = u64::MAX - 4;

/// How far the telling of what there is has come.
#[derive(Clone, Copy)]
pub(crate) enum Replay {
    Ready,
    Children(i32),
    Deadlines(u32),
    Stored(u32),
    Whole,
}

/// There is something that a further supervisor would want to have.
pub(crate) fn holds_anything(keeper: &mut Keeper) -> bool {
    let mut fd = HIGH;
    while fd <= keeper.top {
        if keeper.entry(fd).is_some_and(|entry| entry.state != 0 && entry.told) {
            return true;
        }
        fd += 1;
    }
    keeper.store.count > 0
}

/// The supervisor is gone, and wanted us to go on.
pub(crate) fn begin(keeper: &mut Keeper) {
    keeper.replay = None;
    // Nothing is told; of the dead those are reaped whose ends are to be kept.
    keeper.blocked = true;
    leave(keeper);
    keeper.pass(Moment::Left);
    deadline::holder_gone(keeper);
    exits::untell(keeper);
    store::take_over(keeper);
    let _ = sys::epoll_add(keeper.epoll, keeper.door, serve::IN, DOOR);
    keeper.pass(Moment::TookOver);
}

/// Let go of the supervisor that was.
fn leave(keeper: &mut Keeper) {
    for fd in [keeper.socket, keeper.supervisor] {
        if fd >= 0 {
            // First: others may hold the same open file.
            sys::epoll_del(keeper.epoll, fd);
            sys::close(fd);
        }
    }
    (keeper.socket, keeper.supervisor) = (-1, -1);
}

/// Somebody is at the door. Whoever stands there and says nothing gives way to the next one.
pub(crate) fn on_door(keeper: &mut Keeper) {
    // SOCK_CLOEXEC | SOCK_NONBLOCK
    let Ok(low) = sys::call(nr::ACCEPT4, [keeper.door as usize, 0, 0, 0o2_004_000, 0, 0]) else { return };
    let high = sys::dup_high(low as i32);
    sys::close(low as i32);
    let Ok(guest) = high else { return };
    if !same_user(guest) || sys::epoll_add(keeper.epoll, guest, serve::IN, GUEST).is_err() {
        sys::close(guest);
        return;
    }
    dismiss(keeper);
    keeper.guest = guest;
}

/// The user id of who has connected is ours. In a user namespace of our own, where only our user is mapped as 0, too.
fn same_user(socket: i32) -> bool {
    // struct ucred: pid, uid, gid. SOL_SOCKET is 1, SO_PEERCRED is 17.
    let mut cred = [0u32; 3];
    let mut len = 12u32;
    let args = [socket as usize, 1, 17, cred.as_mut_ptr() as usize, &raw mut len as usize, 0];
    sys::call(nr::GETSOCKOPT, args).is_ok() && sys::call(nr::GETUID, [0; 6]) == Ok(cred[1] as usize)
}

/// Whoever stands in the door is sent away.
fn dismiss(keeper: &mut Keeper) {
    if keeper.guest >= 0 {
        sys::epoll_del(keeper.epoll, keeper.guest);
        sys::close(keeper.guest);
        keeper.guest = -1;
    }
}

/// Who stands in the door has said something, or has gone.
pub(crate) fn on_guest(keeper: &mut Keeper) {
    let mut head = [0u8; crate::wire::MESSAGE];
    let got = match sys::recv(keeper.guest, &mut head) {
        Ok(got) => got,
        Err(sys::EAGAIN) => return,
        Err(_) => return dismiss(keeper),
    };
    let _ = sys::close_range(serve::first_of_request(keeper), HIGH as usize - 1, 0);
    let bytes = head.get(..got.len).unwrap_or(&[]);
    let hello = Message::decode(bytes).filter(|hello| hello.kind == crate::wire::Ask::Hello as u16);
    let end = match hello.map(|hello| hello.x) {
        Some(0) => End::Kill,
        Some(1) => End::Keep,
        _ => {
            // Another version reads at least that there is one: it stands at the same place in all.
            let failed =
                Message { kind: Tell::Failed as u16, errno: sys::EPROTO, x: Stage::Request as u64, ..Message::default() };
            let _ = sys::send(keeper.guest, &failed.encode(), None);
            return dismiss(keeper);
        }
    };
    welcome(keeper, end);
}

/// Who stands in the door is the supervisor now.
fn welcome(keeper: &mut Keeper, end: End) {
    store::hand_back(keeper);
    sys::epoll_del(keeper.epoll, keeper.door);
    sys::epoll_del(keeper.epoll, keeper.guest);
    keeper.socket = keeper.guest;
    keeper.guest = -1;
    keeper.end = end;
    keeper.replay = Some(Replay::Ready);
    // SO_PEERPIDFD (77) is 6.5; before that its socket alone tells of its end.
    let mut pidfd = -1i32;
    let mut len = 4u32;
    let args = [keeper.socket as usize, 1, 77, &raw mut pidfd as usize, &raw mut len as usize, 0];
    if sys::call(nr::GETSOCKOPT, args).is_ok() {
        let high = sys::dup_high(pidfd);
        sys::close(pidfd);
        serve::watch_supervisor(keeper, high.unwrap_or(-1));
    }
    keeper.pass(Moment::Welcomed);
    // It writes as soon as there is room, which is at once.
    if sys::epoll_add(keeper.epoll, keeper.socket, serve::OUT, u64::MAX).is_err() {
        begin(keeper);
    }
}

/// Tell the further supervisor what there is, until the socket is full. `false`: not all of it yet.
pub(crate) fn tell(keeper: &mut Keeper) -> bool {
    while let Some(replay) = keeper.replay {
        let (sent, next) = match replay {
            Replay::Ready => (ready(keeper), Replay::Children(HIGH)),
            Replay::Children(fd) if fd > keeper.top => (true, Replay::Deadlines(0)),
            Replay::Children(fd) => (child(keeper, fd), Replay::Children(fd + 1)),
            Replay::Deadlines(slot) if slot >= keeper.deadlines.slots() => (true, Replay::Stored(0)),
            Replay::Deadlines(slot) => (armed(keeper, slot), Replay::Deadlines(slot + 1)),
            Replay::Stored(slot) if slot >= keeper.store.high => (true, Replay::Whole),
            Replay::Stored(slot) => (stored(keeper, slot), Replay::Stored(slot + 1)),
            Replay::Whole => {
                let trees = keeper.roots.iter().filter(|root| root.parent >= 0).count();
                let whole = Message { kind: Tell::Whole as u16, x: keeper.last_id, y: trees as u64, ..Message::default() };
                if !keeper.say(whole) {
                    return false;
                }
                keeper.pass(Moment::Whole);
                keeper.replay = None;
                return true;
            }
        };
        if !sent {
            return false;
        }
        keeper.replay = Some(next);
    }
    true
}

fn ready(keeper: &mut Keeper) -> bool {
    let (me, x) = (keeper.me, u64::from(keeper.enters_pidns));
    let message = Message { kind: Tell::Ready as u16, x, y: keeper.places as u64, ..Message::default() };
    keeper.show(&message.encode_with(Purpose::Pidfd), me)
}

fn child(keeper: &mut Keeper, fd: i32) -> bool {
    match keeper.entry(fd).copied() {
        Some(entry) if entry.state != 0 && entry.told => {
            let pid = keeper.ends.at(entry.end).map_or(entry.pid, |end| end.pid);
            let message = Message { kind: Tell::Child as u16, id: entry.id, pid, x: fd as u64, ..Message::default() };
            let said = keeper.show(&message.encode_with(Purpose::Pidfd), fd);
            shown(keeper, said)
        }
        _ => true,
    }
}

fn armed(keeper: &mut Keeper, slot: u32) -> bool {
    match keeper.deadlines.armed(slot) {
        Some((id, at)) => {
            let message = Message { kind: Tell::Armed as u16, id, x: u64::from(slot), y: at, ..Message::default() };
            let said = keeper.say(message);
            if said {
                keeper.deadlines.tell_again(slot);
            }
            shown(keeper, said)
        }
        None => true,
    }
}

fn stored(keeper: &mut Keeper, slot: u32) -> bool {
    let Some(stored) = keeper.store.at(slot).copied() else { return true };
    let Some(purpose) = stored.purpose() else { return true };
    let message = Message { kind: Tell::Stored as u16, id: stored.id, x: u64::from(slot), ..Message::default() };
    let mut bytes = [0u8; crate::wire::WITH_ONE + DRAINED + LABEL];
    let drained = stored.drained.encode();
    let label = stored.label.iter().take(usize::from(stored.len));
    let text = message.encode_with(purpose);
    for (to, from) in bytes.iter_mut().zip(text.iter().chain(drained.iter()).chain(label)) {
        *to = *from;
    }
    let len = crate::wire::WITH_ONE + DRAINED + usize::from(stored.len);
    let said = keeper.show(bytes.get(..len).unwrap_or(&[]), stored.source);
    shown(keeper, said)
}

fn shown(keeper: &Keeper, said: bool) -> bool {
    if said {
        keeper.pass(Moment::Shown);
    }
    said
}

