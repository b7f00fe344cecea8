//! The conversation with the keeper: requests out, answers and exit records in.
//!
//! [`Client`] is shared by everybody; [`Driver`] is the one future that reads. Requests are sent by whoever asks,
//! directly; only when the socket is full do they wait in an outbox that the driver empties. Exit records are handed
//! to the waiter that was registered *before* the request went out, so that none can come too early.

use std::collections::{HashMap, HashSet, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, oneshot, watch};

use super::frame::{Heard, frame, receive, sealed, transmit};
use super::launch::Launched;
use super::lease::{Deadline, Lease, Lever};
use crate::error::{Error, ErrorKind};
use crate::plan::wire::{Ask, MAX_FDS, MAX_INLINE, Message, Purpose, Stage, Tell};
use crate::plan::{Plan, wire};
use crate::{Exit, ExitStatus, Rusage};

/// What the keeper answers to one request: a process id, and what it has sent along.
type Answer = Result<(i32, Option<(Purpose, Unclaimed)>), Error>;

/// A descriptor on its way from the keeper to whoever asked for it. Dropped before it is claimed, wherever on that way,
/// the process behind it is killed: it was started for somebody who has gone. (A socket or a namespace is just closed.)
#[derive(Debug)]
pub struct Unclaimed(Option<OwnedFd>);

impl Unclaimed {
    /// Take it over, with the duty to end what is behind it.
    ///
    /// # Errors
    /// Never for one that came from the keeper.
    pub fn claim(mut self) -> Result<OwnedFd, Error> {
        self.0.take().ok_or_else(|| Error::new(ErrorKind::Keeper, "a descriptor was claimed twice"))
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        if let Some(fd) = &self.0 {
            // EBADF for what is no pidfd.
            let _ = rustix::process::pidfd_send_signal(fd, rustix::process::Signal::KILL);
        }
    }
}

/// A deadline of ours in the keeper.
struct Held {
    /// Where it is there, once that is known.
    slot: Option<u64>,
    fired: watch::Sender<Option<i32>>,
}

#[derive(Default)]
struct Waiting {
    answers: HashMap<u64, oneshot::Sender<Answer>>,
    exits: HashMap<u64, oneshot::Sender<Exit>>,
    /// What is armed, and who hears of it.
    leases: HashMap<u64, Held>,
    /// Given up before the keeper has said where it is: cancelled as soon as it says so.
    forgotten: HashSet<u64>,
    outbox: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
}

struct Shared {
    socket: OwnedFd,
    waiting: Mutex<Waiting>,
    next: AtomicU64,
    dead: AtomicBool,
    /// The outbox has something, or the client wants the conversation to end.
    wake: Notify,
    closing: AtomicBool,
}

/// Speaks to the keeper. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("dead", &self.is_dead()).finish_non_exhaustive()
    }
}

/// A process that the keeper has started; it may still fail before its exec.
#[derive(Debug)]
pub struct Spawned {
    /// Its process id, for display.
    pub pid: i32,
    /// Its pidfd; the process is killed when nobody claims it.
    pub pidfd: Unclaimed,
    /// Its end.
    pub exit: oneshot::Receiver<Exit>,
}

impl Client {
    /// Take over the conversation with a keeper that was just started.
    #[must_use]
    pub fn new(launched: Launched) -> (Client, Driver) {
        let shared = Arc::new(Shared {
            socket: launched.socket,
            waiting: Mutex::default(),
            next: AtomicU64::new(1),
            dead: AtomicBool::new(false),
            wake: Notify::new(),
            closing: AtomicBool::new(false),
        });
        let driver = Driver { shared: Arc::clone(&shared), keeper: Some(launched.pidfd) };
        (Client { shared }, driver)
    }

    /// The keeper is gone.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.shared.dead.load(Ordering::Acquire)
    }

    /// Start a process by a plan; `fds` are the plan's needs, in order, the report pipe first.
    ///
    /// # Errors
    /// The stage at which the keeper failed, with the errno.
    ///
    /// # Cancel safety
    /// When the future is dropped after the request has gone out, the process is killed as soon as it is known.
    pub async fn spawn(&self, plan: &Plan, fds: Vec<OwnedFd>) -> Result<Spawned, Error> {
        let id = self.id();
        let (exit_sender, exit) = oneshot::channel();
        self.shared.lock().exits.insert(id, exit_sender);
        let asked = self.ask_spawn(id, plan, fds).await;
        if asked.is_err() {
            self.shared.lock().exits.remove(&id);
        }
        let (pid, brought) = asked?;
        Ok(Spawned { pid, pidfd: expect(brought, Purpose::Pidfd)?, exit })
    }

    async fn ask_spawn(&self, id: u64, plan: &Plan, fds: Vec<OwnedFd>) -> Answer {
        let mut fds: Vec<_> = plan.needs().iter().map(|need| need.purpose()).zip(fds).collect();
        let head = Message { kind: Ask::Spawn as u16, id, ..Message::default() };
        if plan.bytes().len() <= MAX_INLINE {
            return self.ask(head, plan.bytes(), fds).await;
        }
        fds.push((Purpose::Plan, sealed(plan.bytes())?));
        let head = Message { flags: 1, x: plan.bytes().len() as u64, ..head };
        self.ask(head, &[], fds).await
    }

    /// A user namespace with these maps, for id-mapped mounts.
    ///
    /// # Errors
    /// The stage and the errno.
    pub async fn userns(&self, uid_map: &str, gid_map: &str) -> Result<OwnedFd, Error> {
        let mut text = uid_map.as_bytes().to_vec();
        text.push(0);
        text.extend_from_slice(gid_map.as_bytes());
        text.push(0);
        let head = Message { kind: Ask::Userns as u16, id: self.id(), ..Message::default() };
        let (_, brought) = self.ask(head, &text, Vec::new()).await?;
        expect(brought, Purpose::User)?.claim()
    }

    /// Let the keeper do something at a time, or when we go.
    ///
    /// # Errors
    /// [`ErrorKind::Exhausted`] when it holds [`wire::MAX_LEASES`] already or has no descriptor left,
    /// [`ErrorKind::Invalid`] for something that is no signal, no file, or too long to be written.
    ///
    /// # Cancel safety
    /// A future that is dropped leaves nothing armed.
    pub async fn arm(&self, when: Deadline, lever: Lever) -> Result<Lease, Error> {
        let id = self.id();
        let (sender, fired) = watch::channel(None);
        self.shared.lock().leases.insert(id, Held { slot: None, fired: sender });
        // From here on its drop cancels, before the answer and after it.
        let lease = Lease::new(self.clone(), id, fired);
        let flags = if when.at_end { wire::AT_END } else { 0 };
        let mut fds = Vec::new();
        let mut y = 0;
        if let Some((pidfd, signal)) = lever.signal {
            fds.push((Purpose::Pidfd, pidfd));
            y = u64::try_from(signal).unwrap_or(0);
        }
        let bytes = lever.write.map(|(file, bytes)| {
            fds.push((Purpose::Control, file));
            bytes
        });
        let head = Message { kind: Ask::Arm as u16, id, flags, x: when.at_ns, y, ..Message::default() };
        match self.ask(head, &bytes.unwrap_or_default(), fds).await {
            Ok(_) => Ok(lease),
            Err(error) => {
                self.shared.lock().leases.remove(&id);
                Err(refused_lease(&error))
            }
        }
    }

    /// Forget a deadline; it may have been carried out already.
    pub(super) fn disarm(&self, id: u64) {
        let slot = {
            let mut waiting = self.shared.lock();
            match waiting.leases.remove(&id) {
                Some(Held { slot: Some(slot), .. }) => slot,
                Some(_) => {
                    waiting.forgotten.insert(id);
                    return;
                }
                None => return,
            }
        };
        self.cancel(id, slot);
    }

    fn cancel(&self, id: u64, slot: u64) {
        let head = Message { kind: Ask::Cancel as u16, id, x: slot, ..Message::default() };
        // Without a keeper there is nothing to cancel.
        let _ = self.post(head, &[], Vec::new());
    }

    fn id(&self) -> u64 {
        self.shared.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Tell the keeper what our end means, and where traces go. Not awaited: order on the socket is kept.
    ///
    /// # Errors
    /// The keeper is gone.
    pub fn hello(&self, end: wire::End, trace: Option<OwnedFd>) -> Result<(), Error> {
        let head = Message { kind: Ask::Hello as u16, id: self.id(), x: end as u64, ..Message::default() };
        self.post(head, &[], trace.into_iter().map(|fd| (Purpose::Trace, fd)).collect())
    }

    /// Let the keeper remove `name` below `parent` when we go.
    ///
    /// # Errors
    /// The keeper is gone.
    pub fn register(&self, tree: wire::Tree, parent: OwnedFd, name: &str) -> Result<(), Error> {
        let head = Message { kind: Ask::Register as u16, id: self.id(), x: tree as u64, ..Message::default() };
        let mut text = name.as_bytes().to_vec();
        text.push(0);
        self.post(head, &text, vec![(Purpose::TreeRoot, parent)])
    }

    /// End the conversation: the keeper does what [`Client::hello`] said.
    pub fn close(&self) {
        self.shared.closing.store(true, Ordering::Release);
        let _ = rustix::net::shutdown(&self.shared.socket, rustix::net::Shutdown::Both);
        self.shared.wake.notify_one();
    }

    async fn ask(&self, head: Message, body: &[u8], fds: Vec<(Purpose, OwnedFd)>) -> Answer {
        let (sender, receiver) = oneshot::channel();
        self.shared.lock().answers.insert(head.id, sender);
        if let Err(error) = self.post(head, body, fds) {
            self.shared.lock().answers.remove(&head.id);
            return Err(error);
        }
        receiver.await.unwrap_or_else(|_| Err(gone()))
    }

    fn post(&self, head: Message, body: &[u8], fds: Vec<(Purpose, OwnedFd)>) -> Result<(), Error> {
        if self.is_dead() {
            return Err(gone());
        }
        if fds.len() > MAX_FDS {
            return Err(Error::new(
                ErrorKind::Exhausted,
                format!("{} descriptors in one request; {MAX_FDS} are possible", fds.len()),
            ));
        }
        let (bytes, fds) = frame(head, body, fds);
        let mut waiting = self.shared.lock();
        if waiting.outbox.is_empty() {
            match transmit(&self.shared.socket, &bytes, &fds) {
                Ok(()) => return Ok(()),
                Err(rustix::io::Errno::AGAIN) => {}
                Err(error) => return Err(unsaid(error)),
            }
        }
        waiting.outbox.push_back((bytes, fds));
        self.shared.wake.notify_one();
        Ok(())
    }
}

fn gone() -> Error {
    Error::new(ErrorKind::Keeper, "the keeper is gone")
}

fn unsaid(error: rustix::io::Errno) -> Error {
    Error::system("cannot speak to the keeper", error).with_kind(ErrorKind::Keeper)
}

fn full() -> Error {
    Error::new(ErrorKind::Exhausted, "no room for a descriptor from the keeper")
        .with_errno(Some(libc::EMFILE))
        .with_hint("raise the limit of open files where this service is started (LimitNOFILE=, ulimit -n)")
}

fn confused() -> Error {
    Error::new(ErrorKind::Keeper, "the keeper's answer came with other descriptors than it names")
}

/// [`failed`] speaks of processes.
fn refused_lease(error: &Error) -> Error {
    let kind = match error.errno() {
        Some(libc::EINVAL) => ErrorKind::Invalid,
        _ => error.kind(),
    };
    Error::new(kind, "the keeper does not take the deadline").with_stage("keeper: deadline").with_errno(error.errno())
}

/// The descriptor, when it is there for this.
pub(crate) fn expect<T>(brought: Option<(Purpose, T)>, purpose: Purpose) -> Result<T, Error> {
    match brought {
        Some((found, fd)) if found == purpose => Ok(fd),
        Some((found, _)) => {
            let what = format!("the keeper answered with a {} instead of a {}", found.name(), purpose.name());
            Err(Error::new(ErrorKind::Keeper, what))
        }
        None => Err(Error::new(ErrorKind::Keeper, format!("the keeper answered without a {}", purpose.name()))),
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hand one message to whoever waits for it. What came along with one that is not what it says is closed.
    fn deliver(self: &Arc<Self>, heard: Heard) {
        let Heard { message, brought, no_room } = heard;
        let message = &message;
        match Tell::from_u16(message.kind) {
            Some(Tell::Done | Tell::Failed) if brought.is_none() => {
                self.end_unowned(message);
                self.answer(message.id, Err(if no_room { full() } else { confused() }));
            }
            Some(Tell::Done) => {
                self.placed(message);
                if !matches!(brought, Some(Some((Purpose::Pidfd, _)))) {
                    self.end_unowned(message);
                }
                let brought = brought.flatten().map(|(purpose, fd)| (purpose, Unclaimed(Some(fd))));
                self.answer(message.id, Ok((message.pid, brought)));
            }
            Some(Tell::Failed) => {
                let mut waiting = self.lock();
                waiting.forgotten.remove(&message.id);
                // Who asked may have gone.
                waiting.exits.remove(&message.id);
                drop(waiting);
                self.answer(message.id, Err(failed(message)));
            }
            Some(Tell::Exited) => {
                let waiter = self.lock().exits.remove(&message.id);
                if let Some(waiter) = waiter {
                    let _ = waiter.send(exit_of(message));
                }
            }
            Some(Tell::Fired) => {
                if let Some(held) = self.lock().leases.get(&message.id) {
                    held.fired.send_replace(Some(message.errno));
                }
            }
            Some(Tell::Ready | Tell::NeedsMaps | Tell::Sent) | None => {
                tracing::warn!(kind = message.kind, "the keeper said something unexpected");
            }
        }
    }

    fn answer(&self, id: u64, answer: Answer) {
        let waiter = self.lock().answers.remove(&id);
        if let Some(waiter) = waiter {
            let _ = waiter.send(answer);
        }
    }

    /// If it is a process that was started, nobody has its pidfd: the keeper must end it.
    fn end_unowned(self: &Arc<Self>, message: &Message) {
        if self.lock().exits.remove(&message.id).is_some() {
            let head = Message { kind: Ask::Kill as u16, id: message.id, ..Message::default() };
            // Without a keeper the supervisor's end is the process's.
            let _ = Client { shared: Arc::clone(self) }.post(head, &[], Vec::new());
        }
    }

    /// If it is a deadline that was armed, its slot is known now.
    fn placed(self: &Arc<Self>, message: &Message) {
        let forgotten = {
            let mut waiting = self.lock();
            if let Some(held) = waiting.leases.get_mut(&message.id) {
                held.slot = Some(message.x);
            }
            waiting.forgotten.remove(&message.id)
        };
        if forgotten {
            Client { shared: Arc::clone(self) }.cancel(message.id, message.x);
        }
    }

    /// Send what waits, as far as the socket takes it.
    fn flush(&self) {
        loop {
            let mut waiting = self.lock();
            let Some((bytes, fds)) = waiting.outbox.pop_front() else { return };
            match transmit(&self.socket, &bytes, &fds) {
                Ok(()) => {}
                Err(rustix::io::Errno::AGAIN) => return waiting.outbox.push_front((bytes, fds)),
                Err(error) => {
                    drop(waiting);
                    let id = Message::decode(&bytes).map_or(0, |message| message.id);
                    self.answer(id, Err(unsaid(error)));
                }
            }
        }
    }

    /// Nobody will answer any more.
    fn bury(&self) {
        self.dead.store(true, Ordering::Release);
        let mut waiting = self.lock();
        waiting.answers.clear();
        waiting.exits.clear();
        waiting.leases.clear();
        waiting.forgotten.clear();
        waiting.outbox.clear();
    }
}

fn failed(message: &Message) -> Error {
    let stage = match message.x {
        x if x == Stage::Request as u64 => "keeper: request",
        x if x == Stage::PidNamespace as u64 => "keeper: enter the pid namespace",
        x if x == Stage::Clone as u64 => "keeper: clone3",
        x if x == Stage::Birth as u64 => "keeper: birth",
        x if x == Stage::Maps as u64 => "keeper: write the id maps",
        x if x == Stage::Join as u64 => "keeper: enter a namespace to be joined",
        x if x == Stage::Watch as u64 => "keeper: watch the process",
        x if x == Stage::Purpose as u64 => "keeper: purposes of the descriptors",
        _ => "keeper",
    };
    let kind = match message.errno {
        libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE | libc::ENOSPC | libc::EUSERS => ErrorKind::Exhausted,
        libc::EPERM | libc::EACCES => ErrorKind::Permission,
        libc::ESRCH => ErrorKind::State,
        _ => ErrorKind::Creation,
    };
    Error::new(kind, "the process could not be started").with_stage(stage).with_errno(Some(message.errno))
}

fn exit_of(message: &Message) -> Exit {
    let record = &message.exit;
    let status = match record.code {
        1 => ExitStatus::Code(record.status),
        code => ExitStatus::Signal { signal: record.status, core_dumped: code == 3 },
    };
    let rusage = Rusage {
        user_us: record.user_us,
        system_us: record.system_us,
        max_rss_kib: record.max_rss_kib,
        minor_faults: record.minor_faults,
        major_faults: record.major_faults,
        voluntary_switches: record.voluntary,
        involuntary_switches: record.involuntary,
    };
    Exit { status, rusage: Some(rusage), at_ns: record.at_ns }
}

/// Reads from the keeper until it is gone. Must run on a tokio runtime with I/O enabled.
#[derive(Debug)]
pub struct Driver {
    shared: Arc<Shared>,
    /// Taken when it is reaped.
    keeper: Option<OwnedFd>,
}

/// Never run, or not to its end: nobody hears the keeper any more, so the conversation ends, and with it the keeper and all
/// that it has. As our child it has to be waited for; by a thread, as removing everything may take a while.
impl Drop for Driver {
    fn drop(&mut self) {
        let Some(keeper) = self.keeper.take() else { return };
        self.shared.bury();
        let _ = rustix::net::shutdown(&self.shared.socket, rustix::net::Shutdown::Both);
        // Without a thread it stays a zombie until this process ends.
        let _ = std::thread::Builder::new().name("orangery-reaper".into()).spawn(move || {
            let wait = || {
                let id = rustix::process::WaitId::PidFd(keeper.as_fd());
                rustix::process::waitid(id, rustix::process::WaitIdOptions::EXITED)
            };
            while matches!(wait(), Err(rustix::io::Errno::INTR)) {}
        });
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Driver {
    /// Run the conversation; comes back when the keeper has ended and is reaped.
    ///
    /// # Cancel safety
    /// Dropped early, it ends the keeper, and with it every container.
    pub async fn run(mut self) {
        let socket =
            match self.shared.socket.try_clone().and_then(|socket| crate::sys::watch(socket, Interest::READABLE)) {
                Ok(socket) => socket,
                Err(error) => {
                    tracing::error!(%error, "cannot listen to the keeper");
                    self.shared.bury();
                    return;
                }
            };
        // Its end of the socket alone does not tell: a newborn that has not run yet may hold a copy for long.
        let keeper = self.keeper.as_ref().and_then(|keeper| keeper.try_clone().ok());
        let keeper = keeper.and_then(|keeper| crate::sys::watch(keeper, Interest::READABLE).ok());
        while self.turn(&socket, keeper.as_ref()).await {}
        self.shared.bury();
        drop(socket);
        self.reap(keeper).await;
    }

    /// One wake-up: read all there is, send what waits. `false`: the keeper has closed its end, or is gone.
    async fn turn(&self, socket: &AsyncFd<OwnedFd>, keeper: Option<&AsyncFd<OwnedFd>>) -> bool {
        // Only while something waits to be sent: else every request that the keeper takes would wake us.
        let full = !self.shared.lock().outbox.is_empty();
        let writer = match full.then(|| self.shared.socket.try_clone()) {
            Some(Ok(socket)) => crate::sys::watch(socket, Interest::WRITABLE).ok(),
            _ => None,
        };
        let writable = async {
            match &writer {
                Some(writer) => writer.writable().await.map(drop),
                None => std::future::pending().await,
            }
        };
        let ended = async {
            match keeper {
                Some(keeper) => keeper.readable().await.is_ok(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ready = socket.readable() => match ready {
                Ok(mut guard) => {
                    let open = self.hear(socket.get_ref());
                    guard.clear_ready();
                    open
                }
                Err(_) => false,
            },
            // What it had said before is in the socket.
            _ = ended => {
                self.hear(socket.get_ref());
                false
            }
            ready = writable => {
                self.shared.flush();
                ready.is_ok()
            }
            () = self.shared.wake.notified() => !self.shared.closing.load(Ordering::Acquire),
        }
    }

    /// Take all that is there. `false`: there will be no more.
    fn hear(&self, socket: &OwnedFd) -> bool {
        loop {
            match receive(socket) {
                Ok(Some(heard)) => self.shared.deliver(heard),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return true,
                Ok(None) | Err(_) => return false,
            }
        }
    }

    /// The keeper is our child: wait for it, unless the host has done so.
    async fn reap(&mut self, watched: Option<AsyncFd<OwnedFd>>) {
        // Without a place to watch it, a thread waits when we are dropped.
        let Some(watched) = watched else { return };
        let _ = watched.readable().await;
        let Some(keeper) = self.keeper.take() else { return };
        let options = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOHANG;
        let _ = rustix::process::waitid(rustix::process::WaitId::PidFd(keeper.as_fd()), options);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    /// Who asked has been dropped, and then the keeper says that there is no process: nobody waits for its end.
    #[test]
    fn a_cancelled_start_that_fails_leaves_no_waiter() {
        let (ours, _theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("a pair");
        let pidfd = rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty());
        let launched = Launched {
            socket: ours,
            pidfd: pidfd.expect("ours"),
            pid: 0,
            enters_pidns: false,
            privileged: false,
            range: None,
        };
        let (client, _driver) = Client::new(launched);
        let (sender, receiver) = oneshot::channel();
        client.shared.lock().exits.insert(7, sender);
        drop(receiver);
        let message = Message { kind: Tell::Failed as u16, id: 7, ..Message::default() };
        client.shared.deliver(Heard { message, brought: Some(None), no_room: false });
        assert!(client.shared.lock().exits.is_empty());
    }
}
