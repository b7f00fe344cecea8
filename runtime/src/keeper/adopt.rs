//! Take over a keeper whose supervisor has gone.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tokio::sync::{oneshot, watch};

use super::client::{Client, expect};
use super::conversation::{Awaited, Held};
use super::driver::Driver;
use super::frame::{Heard, receive};
use super::launch::Launched;
use super::lease::{Done, Lease};
use super::store::{Kept, Stored};
use crate::Exit;
use crate::error::{Error, ErrorKind};
use crate::plan::wire::{Ask, DRAINED, Drained, End, Message, Purpose, Tell};

/// Longest time the keeper may take for its next word.
const PATIENCE: Duration = Duration::from_secs(10);

/// A process that an earlier supervisor has started.
#[derive(Debug)]
pub struct Child {
    /// [`Spawned::id`](super::Spawned::id) of it.
    pub id: u64,
    /// Where it is in the keeper.
    pub place: u64,
    /// Its process id, for display.
    pub pid: i32,
    /// Its pidfd.
    pub pidfd: OwnedFd,
    /// Its end, which may have been long ago.
    pub exit: oneshot::Receiver<Exit>,
}

/// What a keeper held while it had no supervisor.
#[derive(Debug)]
pub struct Found {
    /// Whom to ask from now on.
    pub client: Client,
    /// To be run as that of a keeper that was just started.
    pub driver: Driver,
    /// The keeper itself.
    pub pidfd: OwnedFd,
    /// The keeper can enter a container's pid namespace and come back.
    pub enters_pidns: bool,
    /// Every process whose end was not yet told.
    pub children: Vec<Child>,
    /// Every deadline that is armed: the number of its request, its time, and itself, which is cancelled when it is dropped.
    /// Those that were carried out while nobody was there too: how far is known when the driver runs.
    pub deadlines: Vec<(u64, u64, Lease)>,
    /// What was stored.
    pub kept: Vec<Kept>,
    /// How many trees it removes at its end. A supervisor that died while it told them has told the first ones alone.
    pub trees: usize,
}

/// Become the supervisor of the keeper that waits behind the socket `door`. Blocks until it has told all that it holds. Its
/// pipes are nobody's from then on: what they hold is ours to empty. Ends of processes come when the driver runs.
///
/// The socket has to be in a directory that only this user can enter: who can connect is the supervisor.
///
/// # Errors
/// [`ErrorKind::State`] where nobody listens, or a supervisor is still there and says nothing for 10 s;
/// [`ErrorKind::Keeper`] where the keeper speaks another protocol or ends.
pub fn adopt(door: &Path, end: End) -> Result<Found, Error> {
    adopt_for(door, end, false)
}

/// The same. `inherits`: what it holds is kept here as well, for another keeper.
pub(crate) fn adopt_for(door: &Path, end: End, inherits: bool) -> Result<Found, Error> {
    let socket = connect(door)?;
    let hello = Message { kind: Ask::Hello as u16, x: end as u64, ..Message::default() };
    rustix::net::send(&socket, &hello.encode(), rustix::net::SendFlags::NOSIGNAL)
        .map_err(|error| Error::system("cannot speak to the keeper", error).with_kind(ErrorKind::Keeper))?;
    let mut all = Vec::new();
    let (ready, last, trees) = loop {
        let heard = next(&socket)?;
        match Tell::from_u16(heard.message.kind) {
            Some(Tell::Whole) => break (take_ready(&mut all)?, heard.message.x, heard.message.y),
            Some(Tell::Ready | Tell::Child | Tell::Armed | Tell::Stored) => all.push(heard),
            _ => return Err(other_protocol()),
        }
    };
    let enters_pidns = ready.message.x == 1;
    let pidfd = expect(ready.brought.flatten(), Purpose::Pidfd)?;
    let failed = |error| Error::system("cannot duplicate a pidfd", error);
    let itself = pidfd.try_clone().map_err(failed)?;
    let launched = Launched { socket, pidfd, pid: 0, enters_pidns, privileged: false, ids: None };
    let (client, driver) = Client::joining(launched, last.saturating_add(1).max(first_id()));
    {
        let mut waiting = client.shared.lock();
        waiting.early = Some(HashMap::new());
        waiting.ledger.inherits = inherits;
    }
    client.shared.keeps.store(end == End::Keep, Ordering::Release);
    let mut found = Found {
        client,
        driver,
        pidfd: itself,
        enters_pidns,
        children: Vec::new(),
        deadlines: Vec::new(),
        kept: Vec::new(),
        trees: usize::try_from(trees).unwrap_or(usize::MAX),
    };
    for heard in all {
        found.add(heard).inspect_err(|_| found.client.close())?;
    }
    Ok(found)
}

/// A number that no request of an earlier supervisor has, also one of another keeper: none makes a request a nanosecond.
pub(crate) fn first_id() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0)).max(1)
}

/// The number of a living process in our pid namespace, from its pidfd's fdinfo.
pub(crate) fn pid_of(pidfd: &OwnedFd) -> Option<i32> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    let pid: i32 = text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok())?;
    (pid > 0).then_some(pid)
}

fn connect(door: &Path) -> Result<OwnedFd, Error> {
    let failed = |error: rustix::io::Errno| {
        let kind = match error {
            rustix::io::Errno::NOENT | rustix::io::Errno::CONNREFUSED => ErrorKind::State,
            rustix::io::Errno::ACCESS | rustix::io::Errno::PERM => ErrorKind::Permission,
            _ => ErrorKind::Keeper,
        };
        Error::system(format!("no keeper answers at {}", door.display()), error).with_kind(kind)
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).map_err(failed)?;
    let (address, _place) = super::door::address(door)
        .map_err(|error| failed(rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO)))?;
    rustix::net::connect(&socket, &address).map_err(failed)?;
    Ok(socket)
}

/// The first thing that it has said.
fn take_ready(all: &mut Vec<Heard>) -> Result<Heard, Error> {
    match all.first() {
        Some(first) if Tell::from_u16(first.message.kind) == Some(Tell::Ready) => Ok(all.remove(0)),
        _ => Err(other_protocol()),
    }
}

fn other_protocol() -> Error {
    Error::new(ErrorKind::Keeper, "the keeper speaks another protocol")
        .with_hint("it was started by another version; the version that has started it can take it over")
}

fn next(socket: &OwnedFd) -> Result<Heard, Error> {
    let until = Instant::now() + PATIENCE;
    loop {
        match receive(socket) {
            Ok(Some(heard)) if heard.no_room => return Err(super::conversation::full()),
            Ok(Some(heard)) if heard.brought.is_none() => return Err(other_protocol()),
            Ok(Some(heard)) => return Ok(heard),
            Ok(None) => return Err(Error::new(ErrorKind::Keeper, "the keeper has closed its door")),
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => wait(socket, until)?,
            Err(error) => return Err(Error::system("cannot hear the keeper", error).with_kind(ErrorKind::Keeper)),
        }
    }
}

fn wait(socket: &OwnedFd, until: Instant) -> Result<(), Error> {
    let left = until.saturating_duration_since(Instant::now());
    let left =
        rustix::event::Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: i64::from(left.subsec_nanos()) };
    match poll(&mut [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN)], Some(&left)) {
        Ok(0) => Err(Error::new(ErrorKind::State, "the keeper says nothing within 10 s: another supervisor has it")),
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(Error::system("cannot wait for the keeper", error)),
    }
}

impl Found {
    fn add(&mut self, heard: Heard) -> Result<(), Error> {
        let Heard { message, brought, body, .. } = heard;
        let shared = &self.client.shared;
        match Tell::from_u16(message.kind) {
            Some(Tell::Child) => {
                let (sender, exit) = oneshot::channel();
                let awaited = Awaited { sender, span: tracing::Span::current(), keep: true };
                shared.lock().exits.insert(message.id, awaited);
                let pidfd = expect(brought.flatten(), Purpose::Pidfd)?;
                shared.enter(message.id, &pidfd);
                self.children.push(Child { id: message.id, place: message.x, pid: message.pid, pidfd, exit });
            }
            Some(Tell::Armed) => {
                let (sender, done) = watch::channel(Done::default());
                shared.lock().leases.insert(message.id, Held { slot: Some(message.x), done: sender });
                let lease = Lease::new(self.client.clone(), message.id, done);
                self.deadlines.push((message.id, message.y, lease));
            }
            Some(Tell::Stored) => {
                let (purpose, fd) = brought.flatten().ok_or_else(other_protocol)?;
                let drained = Drained::decode(&body).ok_or_else(other_protocol)?;
                let label = body.get(DRAINED..).unwrap_or_default().to_vec();
                shared.lock().ledger.found(message.id, message.x, &label, purpose, &fd)?;
                let stored = Stored::new(self.client.clone(), message.id);
                self.kept.push(Kept { stored, label, purpose, fd, drained });
            }
            _ => return Err(other_protocol()),
        }
        Ok(())
    }
}
