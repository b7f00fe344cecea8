//! What the keeper holds for the supervisor that comes after us.

use std::os::fd::OwnedFd;

use tokio::sync::oneshot;

use super::adopt::Child;
use super::client::Client;
use super::conversation::{Answer, Shared, Waiting, gone};
use super::ledger::{Entry, Process, What};
use crate::error::{Error, ErrorKind};
use crate::plan::wire::{ASIDE, Ask, Drained, LABEL, Message, Purpose, REPLACE};

/// Something to hold.
#[derive(Debug)]
pub struct Holding {
    pub(super) purpose: Purpose,
    pub(super) fd: OwnedFd,
    pub(super) log: Option<(OwnedFd, u64)>,
}

impl Holding {
    /// Our end of a pipe. It stays as it is: full, if it is an output and nobody reads it.
    #[must_use]
    pub fn pipe(fd: OwnedFd) -> Self {
        Self { purpose: Purpose::Stdio, fd, log: None }
    }

    /// The reading end of a pipe, and the file that the keeper empties it into while there is no supervisor: from its end,
    /// up to a size of `most` bytes; what comes after that is counted and gone. A regular file that was opened for writing,
    /// without `O_APPEND`. Nobody else writes to it meanwhile.
    #[must_use]
    pub fn output(pipe: OwnedFd, log: OwnedFd, most: u64) -> Self {
        Self { purpose: Purpose::Stdio, fd: pipe, log: Some((log, most)) }
    }

    /// The master end of a pseudoterminal. As [`Holding::pipe`].
    #[must_use]
    pub fn terminal(master: OwnedFd) -> Self {
        Self { purpose: Purpose::PtyMaster, fd: master, log: None }
    }

    /// The master end of a pseudoterminal, what it shows emptied into a file as that of [`Holding::output`]. It does not
    /// block.
    #[must_use]
    pub fn shown(master: OwnedFd, log: OwnedFd, most: u64) -> Self {
        Self { purpose: Purpose::PtyMaster, fd: master, log: Some((log, most)) }
    }

    /// Something else that is to come back as it was.
    pub(crate) fn other(purpose: Purpose, fd: OwnedFd) -> Self {
        Self { purpose, fd, log: None }
    }
}

/// Something that the keeper holds for us, until it is [discarded](Stored::discard): dropping this changes nothing, as the
/// end of a supervisor must not.
#[derive(Debug)]
pub struct Stored {
    client: Client,
    id: u64,
}

impl Stored {
    pub(super) fn new(client: Client, id: u64) -> Self {
        Self { client, id }
    }

    /// The number of the request that has stored it.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Hold this in its place, from one moment to the next: a log that goes on in another file is never in two.
    ///
    /// # Errors
    /// As [`Client::store`]; the keeper holds what it held then.
    ///
    /// # Cancel safety
    /// Dropped after it was asked for, it is done.
    pub async fn replace(&self, label: &[u8], with: Holding) -> Result<(), Error> {
        let asked = self.client.asking(label, false, with)?;
        let head = Message { kind: Ask::Store as u16, flags: REPLACE, id: self.id, ..Message::default() };
        let answer = loop {
            self.client.shared.seated(self.id).await?;
            let mut waiting = self.client.shared.lock();
            // Another keeper may have come since, and may not have said yet where it is.
            let Some(x) = waiting.ledger.stored.get(&self.id).and_then(|entry| entry.slot) else { continue };
            break self.client.put(&mut waiting, Message { x, ..head }, label, asked)?;
        };
        answer.await.unwrap_or_else(|_| Err(gone())).map(drop).map_err(|error| refused(&error))
    }
}

impl Stored {
    /// The keeper closes what it holds here.
    pub fn discard(self) {
        self.client.shared.discard(self.id);
    }
}

/// Something that the keeper is about to be asked to hold.
struct Asking {
    what: Option<What>,
    fds: Vec<(Purpose, OwnedFd)>,
    most: u64,
}

/// Something that the keeper was asked to hold. Dropped, it is not held.
pub(crate) struct Asked {
    client: Client,
    id: u64,
    answer: Option<oneshot::Receiver<Answer>>,
}

impl Asked {
    /// What came of it.
    pub(crate) async fn wait(mut self) -> Result<Stored, Error> {
        let answer = match &mut self.answer {
            Some(answer) => answer.await.unwrap_or_else(|_| Err(gone())),
            None => Err(gone()),
        };
        // The answer is in our hands: the rest is without an await.
        self.answer = None;
        answer.map_err(|error| refused(&error))?;
        Ok(Stored::new(self.client.clone(), self.id))
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let Some(mut answer) = self.answer.take() else { return };
        {
            let mut waiting = self.client.shared.lock();
            if waiting.answers.remove(&self.id).is_some() {
                waiting.ledger.stored.remove(&self.id);
                waiting.unwanted.insert(self.id);
                return;
            }
        }
        if let Ok(Ok(_)) = answer.try_recv() {
            self.client.shared.discard(self.id);
        }
    }
}

/// What an earlier supervisor has stored.
#[derive(Debug)]
pub struct Kept {
    /// Its place: it goes on being held.
    pub stored: Stored,
    /// What that supervisor has called it.
    pub label: Vec<u8>,
    /// A standard stream or the master of a terminal.
    pub purpose: Purpose,
    /// The descriptor.
    pub fd: OwnedFd,
    /// What was done with it while nobody was there.
    pub drained: Drained,
}

impl Client {
    /// Let the keeper hold something under a label of at most [`LABEL`] bytes, for [`adopt`](super::adopt()).
    ///
    /// Asked for before the process is, so that not a byte of it is lost between the two.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a label that is too long, a log that is none, a pipe that is none;
    /// [`ErrorKind::Exhausted`] when it has no room or no descriptor left; [`ErrorKind::Keeper`] when it is gone.
    ///
    /// # Cancel safety
    /// Dropped, the keeper does not hold it.
    pub async fn store(&self, label: &[u8], holding: Holding) -> Result<Stored, Error> {
        self.store_later(label, holding)?.wait().await
    }

    /// The same, asked for now and heard of later: several go out together.
    pub(crate) fn store_later(&self, label: &[u8], holding: Holding) -> Result<Asked, Error> {
        let asked = self.asking(label, false, holding)?;
        let id = self.id();
        let head = Message { kind: Ask::Store as u16, id, ..Message::default() };
        let answer = self.put(&mut self.shared.lock(), head, label, asked)?;
        Ok(Asked { client: self.clone(), id, answer: Some(answer) })
    }

    /// Let the keeper have a locked file open as long as it is there; nobody waits for the answer.
    pub(crate) fn store_lock(&self, label: &[u8], lock: OwnedFd) -> Result<(), Error> {
        let asked = self.asking(label, true, Holding::other(Purpose::Lock, lock))?;
        let head = Message { kind: Ask::Store as u16, id: self.id(), flags: ASIDE, ..Message::default() };
        self.put(&mut self.shared.lock(), head, label, asked).map(drop)
    }

    /// With all that it takes, so that nothing of it is done under the lock.
    fn asking(&self, label: &[u8], aside: bool, holding: Holding) -> Result<Asking, Error> {
        if label.len() > LABEL {
            return Err(Error::invalid("label", format!("{} bytes; {LABEL} are possible", label.len())));
        }
        let inherits = self.shared.lock().ledger.inherits;
        let what = inherits.then(|| What::of(label, aside, &holding)).transpose()?;
        let mut fds = vec![(holding.purpose, holding.fd)];
        let most = holding.log.map_or(0, |(log, most)| {
            fds.push((Purpose::Log, log));
            most
        });
        Ok(Asking { what, fds, most })
    }

    fn put(
        &self,
        waiting: &mut Waiting,
        head: Message,
        label: &[u8],
        Asking { what, fds, most }: Asking,
    ) -> Result<oneshot::Receiver<Answer>, Error> {
        let note = |waiting: &mut Waiting| waiting.ledger.store(head.id, head.flags & REPLACE != 0, what);
        let begun = self.begin_with(waiting, Message { y: most, ..head }, label, fds, note);
        if begun.is_err() {
            waiting.ledger.refused(head.id);
        }
        begun
    }

    /// A process that an earlier supervisor has let the keeper hold by its pidfd, as if it were its child. Nobody
    /// tells its end but the kernel.
    pub(crate) fn held_process(&self, id: u64, kept: Kept) -> Result<Child, Error> {
        let Kept { stored, fd, .. } = kept;
        let copy = fd.try_clone().map_err(|error| Error::system("cannot duplicate a pidfd", error))?;
        self.shared.lock().ledger.processes.insert(id, Process::orphan(copy, stored.id()));
        let (_, exit) = oneshot::channel();
        Ok(Child { id, place: u64::MAX, pid: super::pid_of(&fd).unwrap_or(0), pidfd: fd, exit })
    }
}

impl Shared {
    /// Something that is stored has its place; waits while it is being handed over.
    async fn seated(&self, id: u64) -> Result<(), Error> {
        loop {
            let mut seated = std::pin::pin!(self.seated.notified());
            // From now on, so that nothing comes between a look and the wait.
            seated.as_mut().enable();
            match self.lock().ledger.stored.get(&id) {
                Some(Entry { slot: Some(_), .. }) => return Ok(()),
                Some(_) => {}
                None => return Err(gone()),
            }
            seated.await;
        }
    }
}

/// [`failed`](super::conversation::failed) speaks of processes.
fn refused(error: &Error) -> Error {
    let kind = match error.errno() {
        Some(libc::EINVAL | libc::ENOENT) => ErrorKind::Invalid,
        _ => error.kind(),
    };
    Error::new(kind, "the keeper does not hold it").with_stage("keeper: store").with_errno(error.errno())
}
