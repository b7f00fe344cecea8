//! The conversation with the keeper: requests out, answers and exit records in.
//!
//! [`Client`] is shared by everybody; the [`Driver`] is the one future that reads. Requests are sent by whoever asks,
//! directly; only when the socket is full do they wait in an outbox that the driver empties. Exit records are handed
//! to the waiter that was registered *before* the request went out, so that none can come too early.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::{Notify, Semaphore, SemaphorePermit, oneshot, watch};

use super::conversation::{Answer, Answered, Awaited, Held, Shared, Unclaimed, Waiting, gone};
use super::driver::Driver;
use super::frame::sealed;
use super::launch::Launched;
use super::lease::{Deadline, Done, Lease, Lever};
use super::ledger::{self, Armed, Request};
use crate::Exit;
use crate::error::{Error, ErrorKind};
use crate::plan::wire::{Ask, MAX_INLINE, Message, Purpose};
use crate::plan::{Plan, wire};

/// So many deadlines are on their way to the keeper at a time, with three descriptors each.
const ARMING: usize = 32;

/// Speaks to the keeper. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    pub(super) shared: Arc<Shared>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("dead", &self.is_dead()).finish_non_exhaustive()
    }
}

/// A process that the keeper has started; it may still fail before its exec.
#[derive(Debug)]
pub struct Spawned {
    /// The number of the request: what a further supervisor finds it under.
    pub id: u64,
    /// Where it is in the keeper.
    pub place: u64,
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
        Client::joining(launched, 1)
    }

    /// The same, where requests up to `next` have been made already.
    pub(crate) fn joining(launched: Launched, next: u64) -> (Client, Driver) {
        let shared = Arc::new(Shared {
            waiting: Mutex::new(Waiting::on(launched.socket)),
            next: AtomicU64::new(next),
            dead: AtomicBool::new(false),
            wake: Notify::new(),
            seated: Notify::new(),
            closing: AtomicBool::new(false),
            keeps: AtomicBool::new(false),
            arming: Semaphore::new(ARMING),
        });
        let driver = Driver { shared: Arc::clone(&shared), keeper: Some(launched.pidfd), heir: None };
        (Client { shared }, driver)
    }

    /// Requests that wait to be sent, and those that are not answered yet.
    pub fn load(&self) -> (u64, u64) {
        let waiting = self.shared.lock();
        (waiting.outbox.len() as u64, waiting.answers.len() as u64)
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
        self.spawn_as(self.id(), 0, plan, fds).await
    }

    /// The same as request `id`, which nobody has used. How it ends is kept until it is [settled](Client::settle).
    pub(crate) async fn spawn_kept(&self, id: u64, plan: &Plan, fds: Vec<OwnedFd>) -> Result<Spawned, Error> {
        self.spawn_as(id, wire::KEEP_EXIT, plan, fds).await
    }

    /// A process as request `id`, which nobody has used. One of those that fall to it can be [claimed](Client::claim).
    pub(crate) async fn spawn_bringing(&self, id: u64, plan: &Plan, fds: Vec<OwnedFd>) -> Result<Spawned, Error> {
        self.spawn_as(id, wire::BRINGS, plan, fds).await
    }

    /// A process that has fallen to the one that request `of` has started, which ends by this: as if it had been started by this.
    pub(crate) async fn claim(&self, of: u64, pid: i32) -> Result<Spawned, Error> {
        let id = self.id();
        let (sender, exit) = oneshot::channel();
        let awaited = Awaited { sender, span: tracing::Span::current(), keep: false };
        let head = Message { kind: Ask::Claim as u16, id, pid, x: of, ..Message::default() };
        let note = |waiting: &mut Waiting| drop(waiting.exits.insert(id, awaited));
        let asked = match self.begin(head, &[], Vec::new(), note) {
            Ok(answer) => Asking { shared: &self.shared, id, answer: Some(answer) }.wait().await,
            Err(error) => Err(error),
        };
        if asked.is_err() {
            self.shared.lock().exits.remove(&id);
        }
        let Answered { pid, slot, brought } = asked?;
        Ok(Spawned { id, place: slot, pid, pidfd: expect(brought, Purpose::Pidfd)?, exit })
    }

    /// How the process ended that request `id` has started at `place` is written down, or of no interest.
    pub(crate) fn settle(&self, id: u64, place: u64) {
        self.shared.lock().exits.remove(&id);
        self.shared.settle(id, place);
    }

    async fn spawn_as(&self, id: u64, flags: u16, plan: &Plan, fds: Vec<OwnedFd>) -> Result<Spawned, Error> {
        let (exit_sender, exit) = oneshot::channel();
        let keep = flags & wire::KEEP_EXIT != 0;
        let awaited = Awaited { sender: exit_sender, span: tracing::Span::current(), keep };
        tracing::debug!(request = id, "the keeper is asked for a process");
        let asked = match self.begin_spawn(id, flags, plan, fds, awaited) {
            Ok(answer) => Asking { shared: &self.shared, id, answer: Some(answer) }.wait().await,
            Err(error) => Err(error),
        };
        if asked.is_err() {
            self.shared.lock().exits.remove(&id);
        }
        let Answered { pid, slot, brought } = asked?;
        tracing::debug!(request = id, pid, "the keeper has started it");
        Ok(Spawned { id, place: slot, pid, pidfd: expect(brought, Purpose::Pidfd)?, exit })
    }

    fn begin_spawn(
        &self,
        id: u64,
        flags: u16,
        plan: &Plan,
        fds: Vec<OwnedFd>,
        awaited: Awaited,
    ) -> Result<oneshot::Receiver<Answer>, Error> {
        let note = |waiting: &mut Waiting| drop(waiting.exits.insert(id, awaited));
        let mut fds: Vec<_> = plan.needs().iter().map(|need| need.purpose()).zip(fds).collect();
        let head = Message { kind: Ask::Spawn as u16, id, flags, ..Message::default() };
        if plan.bytes().len() <= MAX_INLINE {
            return self.begin(head, plan.bytes(), fds, note);
        }
        fds.push((Purpose::Plan, sealed(plan.bytes())?));
        let head = Message { flags: flags | 1, x: plan.bytes().len() as u64, ..head };
        self.begin(head, &[], fds, note)
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
        let answered = self.ask(head, &text, Vec::new(), |_| ()).await?;
        expect(answered.brought, Purpose::User)?.claim()
    }

    /// Wait until not too many of us are on their way to [`Client::arm`]: each has descriptors in hand.
    pub(crate) async fn turn_to_arm(&self) -> Option<SemaphorePermit<'_>> {
        self.shared.arming.acquire().await.ok()
    }

    /// Let the keeper do something at a time, or when we go.
    ///
    /// # Errors
    /// [`ErrorKind::Exhausted`] when it holds [`wire::MAX_LEASES`] already or has no descriptor left,
    /// [`ErrorKind::Invalid`] for something that is no signal, no file, or too long to be written, and for rungs that are
    /// more than [`wire::MAX_RUNGS`] or not in the order of their times.
    ///
    /// # Cancel safety
    /// A future that is dropped leaves nothing armed.
    pub async fn arm(&self, when: Deadline, lever: Lever) -> Result<Lease, Error> {
        let id = self.id();
        let (sender, done) = watch::channel(Done::default());
        // As soon as it is asked for its drop cancels, before the answer and after it.
        let lease = Lease::new(self.clone(), id, done);
        let armed = Armed { when, lever, before: 0 };
        let (head, body, fds) = armed.request(id)?;
        let note = |waiting: &mut Waiting| {
            waiting.leases.insert(id, Held { slot: None, done: sender });
            if waiting.ledger.inherits {
                waiting.ledger.leases.insert(id, armed);
            }
        };
        match self.ask(head, &body, fds, note).await {
            Ok(_) => Ok(lease),
            Err(error) => {
                let mut waiting = self.shared.lock();
                waiting.leases.remove(&id);
                waiting.ledger.leases.remove(&id);
                drop(waiting);
                Err(refused_lease(&error))
            }
        }
    }

    /// Forget a deadline; it may have been carried out already.
    pub(super) fn disarm(&self, id: u64) {
        let slot = {
            let mut waiting = self.shared.lock();
            waiting.ledger.leases.remove(&id);
            match waiting.leases.remove(&id) {
                Some(Held { slot: Some(slot), .. }) => slot,
                Some(_) => {
                    waiting.forgotten.insert(id);
                    return;
                }
                None => return,
            }
        };
        self.shared.cancel(id, slot);
    }

    /// A deadline of an earlier supervisor that the keeper does not know any more, and nobody will hear of.
    pub(crate) fn lease_before(&self, id: u64) -> Lease {
        let mut waiting = self.shared.lock();
        let told = waiting.early.as_mut().and_then(|early| early.remove(&id));
        // Who waits hears that there is nobody to tell it, and its drop has nothing to cancel.
        let (_, done) = watch::channel(told.unwrap_or_default());
        Lease::new(self.clone(), id, done)
    }

    /// Nobody asks for deadlines of an earlier supervisor any more.
    pub(crate) fn claimed(&self) {
        self.shared.lock().early = None;
    }

    /// The number of a request that is still to be made.
    pub(crate) fn id(&self) -> u64 {
        self.shared.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Tell the keeper what our end means, where traces go, and at which listening socket (SOCK_SEQPACKET) the next
    /// supervisor will come, without which nothing is kept. Not awaited: order on the socket is kept.
    ///
    /// # Errors
    /// The keeper is gone.
    pub fn hello(&self, end: wire::End, trace: Option<OwnedFd>, door: Option<OwnedFd>) -> Result<(), Error> {
        self.shared.keeps.store(end == wire::End::Keep, Ordering::Release);
        let (head, body, fds) = hello(self.id(), end, trace, door);
        self.shared.post(head, &body, fds)
    }

    /// Let the keeper remove `name` below `parent` when we go.
    ///
    /// # Errors
    /// The keeper is gone.
    pub fn register(&self, tree: wire::Tree, parent: OwnedFd, name: &str) -> Result<(), Error> {
        let (head, body, fds) = ledger::register(self.id(), tree, parent, name);
        self.shared.post(head, &body, fds)
    }

    /// What was given up before the keeper has answered is taken back as soon as it does: a keeper that goes on without us
    /// would hold it for nobody.
    pub(crate) async fn taken_back(&self) {
        loop {
            let news = self.shared.seated.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            if self.shared.lock().owes_nothing() {
                return;
            }
            news.await;
        }
    }

    /// End the conversation: the keeper does what [`Client::hello`] said.
    pub fn close(&self) {
        self.shared.closing.store(true, Ordering::Release);
        self.shared.hang_up();
        self.shared.wake.notify_one();
    }

    async fn ask(
        &self,
        head: Message,
        body: &[u8],
        fds: Vec<(Purpose, OwnedFd)>,
        note: impl FnOnce(&mut Waiting),
    ) -> Answer {
        self.begin(head, body, fds, note)?.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Ask now, hear later. It is noted under the same lock, so that no other keeper comes in between.
    pub(super) fn begin(
        &self,
        head: Message,
        body: &[u8],
        fds: Vec<(Purpose, OwnedFd)>,
        note: impl FnOnce(&mut Waiting),
    ) -> Result<oneshot::Receiver<Answer>, Error> {
        self.begin_with(&mut self.shared.lock(), head, body, fds, note)
    }

    /// The same, for who has the lock.
    pub(super) fn begin_with(
        &self,
        waiting: &mut Waiting,
        head: Message,
        body: &[u8],
        fds: Vec<(Purpose, OwnedFd)>,
        note: impl FnOnce(&mut Waiting),
    ) -> Result<oneshot::Receiver<Answer>, Error> {
        let (sender, receiver) = oneshot::channel();
        self.shared.may_post(&fds)?;
        waiting.answers.insert(head.id, sender);
        note(waiting);
        let posted = self.shared.post_to(waiting, head, body, fds);
        if posted.is_err() {
            waiting.answers.remove(&head.id);
        }
        posted.map(|()| receiver)
    }
}

pub(super) fn hello(id: u64, end: wire::End, trace: Option<OwnedFd>, door: Option<OwnedFd>) -> Request {
    let head = Message { kind: Ask::Hello as u16, id, x: end as u64, ..Message::default() };
    let trace = trace.map(|fd| (Purpose::Trace, fd));
    (head, Vec::new(), trace.into_iter().chain(door.map(|fd| (Purpose::Door, fd))).collect())
}

/// Whoever has asked for a process, until the answer is in their hands.
struct Asking<'a> {
    shared: &'a Shared,
    id: u64,
    answer: Option<oneshot::Receiver<Answer>>,
}

impl Asking<'_> {
    async fn wait(mut self) -> Answer {
        let answer = match &mut self.answer {
            Some(answer) => answer.await.unwrap_or_else(|_| Err(gone())),
            None => Err(gone()),
        };
        // The rest is without an await.
        self.answer = None;
        answer
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let Some(mut answer) = self.answer.take() else { return };
        let answered = {
            let mut waiting = self.shared.lock();
            match answer.try_recv() {
                Ok(answered) => {
                    waiting.exits.remove(&self.id);
                    answered
                }
                Err(_) if waiting.exits.contains_key(&self.id) => {
                    // Settled when the keeper says that there is such a process.
                    waiting.cancelled.insert(self.id);
                    return;
                }
                Err(_) => return,
            }
        };
        if let Ok(answered) = answered {
            self.shared.settle(self.id, answered.slot);
        }
    }
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

#[cfg(test)]
impl Client {
    /// Nobody is at the other end of the conversation, which comes along.
    pub(super) fn of_nobody() -> (Client, Driver, OwnedFd) {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (socket, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).expect("a pair");
        let own = rustix::process::getpid();
        let pidfd = rustix::process::pidfd_open(own, rustix::process::PidfdFlags::empty()).expect("ours");
        let launched = Launched { socket, pidfd, pid: 0, enters_pidns: false, privileged: false, ids: None };
        let (client, driver) = Client::new(launched);
        (client, driver, theirs)
    }
}

/// What was asked at the other end: kind, number, first number.
#[cfg(test)]
pub(super) fn heard(theirs: &OwnedFd) -> Vec<(u16, u64, u64)> {
    let mut buffer = [0; wire::MESSAGE];
    let mut asked = Vec::new();
    while rustix::net::recv(theirs, &mut buffer, rustix::net::RecvFlags::empty()).is_ok_and(|(len, _)| len > 0) {
        let Message { kind, id, x, .. } = Message::decode(&buffer).expect("a request");
        asked.push((kind, id, x));
    }
    asked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keeper::frame::Heard;
    use crate::plan::wire::{ExitRecord, Tell};

    /// Somebody asks for process 7, and has no answer yet.
    fn asking(client: &Client) -> Asking<'_> {
        let (sender, _) = oneshot::channel();
        let awaited = Awaited { sender, span: tracing::Span::none(), keep: true };
        let head = Message { kind: Ask::Spawn as u16, id: 7, ..Message::default() };
        let note = |waiting: &mut Waiting| drop(waiting.exits.insert(7, awaited));
        let answer = client.begin(head, &[], Vec::new(), note).expect("sent");
        Asking { shared: &client.shared, id: 7, answer: Some(answer) }
    }

    /// The keeper says that it is at place 40.
    fn started(client: &Client) {
        // No pidfd: what is dropped unclaimed is killed.
        let fd = std::fs::File::open("/dev/null").expect("there").into();
        let message = Message { kind: Tell::Done as u16, id: 7, x: 40, ..Message::default() };
        let brought = Some(Some((Purpose::Pidfd, fd)));
        client.shared.deliver(Heard { message, brought, no_room: false, body: Vec::new() });
    }

    /// Who asked is dropped with the answer unread, when the end of the process was told already: nobody else settles it.
    #[test]
    fn an_end_that_came_before_who_asked_was_dropped_is_settled() {
        let (client, _driver, theirs) = Client::of_nobody();
        let asking = asking(&client);
        started(&client);
        let exit = ExitRecord { code: 1, ..ExitRecord::default() };
        let message = Message { kind: Tell::Exited as u16, id: 7, x: 40, exit, ..Message::default() };
        client.shared.deliver(Heard { message, brought: Some(None), no_room: false, body: Vec::new() });
        drop(asking);
        assert!(client.shared.lock().cancelled.is_empty());
        let asked = heard(&theirs);
        assert_eq!(asked.last(), Some(&(Ask::Settle as u16, 7, 40)), "{asked:?}");
    }

    /// Who asked is dropped before there is an answer: with that the end is settled, whenever it comes.
    #[test]
    fn who_gave_up_has_settled_the_end_before_it_comes() {
        let (client, _driver, theirs) = Client::of_nobody();
        drop(asking(&client));
        assert!(heard(&theirs).iter().all(|(kind, ..)| *kind != Ask::Settle as u16), "nobody knows where it is");
        started(&client);
        assert_eq!(heard(&theirs), [(Ask::Settle as u16, 7, 40)]);
        let waiting = client.shared.lock();
        assert!(waiting.cancelled.is_empty() && waiting.exits.is_empty() && waiting.ledger.processes.is_empty());
    }
}
