//! What the keeper holds for the supervisor that comes after us.

use std::os::fd::OwnedFd;

use super::client::Client;
use crate::error::{Error, ErrorKind};
use crate::plan::wire::{Ask, Drained, LABEL, Message, Purpose, REPLACE};

/// Something to hold.
#[derive(Debug)]
pub struct Holding {
    purpose: Purpose,
    fd: OwnedFd,
    log: Option<(OwnedFd, u64)>,
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
}

/// Something that the keeper holds for us, until it is [discarded](Stored::discard): dropping this changes nothing, as the
/// end of a supervisor must not.
#[derive(Debug)]
pub struct Stored {
    client: Client,
    id: u64,
    slot: u64,
}

impl Stored {
    pub(super) fn new(client: Client, id: u64, slot: u64) -> Self {
        Self { client, id, slot }
    }

    /// Hold this in its place, from one moment to the next: a log that goes on in another file is never in two.
    ///
    /// # Errors
    /// As [`Client::store`]; the keeper holds what it held then.
    ///
    /// # Cancel safety
    /// Dropped after it was asked for, it is done.
    pub async fn replace(&self, label: &[u8], with: Holding) -> Result<(), Error> {
        let head = Message { kind: Ask::Store as u16, flags: REPLACE, id: self.id, x: self.slot, ..Message::default() };
        self.client.put(head, label, with).await.map(drop)
    }
}

impl Stored {
    /// The keeper closes what it holds here.
    pub fn discard(self) {
        let head = Message { kind: Ask::Discard as u16, id: self.id, x: self.slot, ..Message::default() };
        // Without a keeper nothing is held.
        let _ = self.client.shared.post(head, &[], Vec::new());
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
    /// Dropped after it was asked for, the keeper holds it until its end.
    pub async fn store(&self, label: &[u8], holding: Holding) -> Result<Stored, Error> {
        let id = self.id();
        let head = Message { kind: Ask::Store as u16, id, ..Message::default() };
        let slot = self.put(head, label, holding).await?;
        Ok(Stored::new(self.clone(), id, slot))
    }

    async fn put(&self, head: Message, label: &[u8], holding: Holding) -> Result<u64, Error> {
        if label.len() > LABEL {
            return Err(Error::invalid("label", format!("{} bytes; {LABEL} are possible", label.len())));
        }
        let mut fds = vec![(holding.purpose, holding.fd)];
        let most = holding.log.map_or(0, |(log, most)| {
            fds.push((Purpose::Log, log));
            most
        });
        self.ask(Message { y: most, ..head }, label, fds).await.map(|answered| answered.slot).map_err(|error| {
            let kind = match error.errno() {
                Some(libc::EINVAL | libc::ENOENT) => ErrorKind::Invalid,
                _ => error.kind(),
            };
            Error::new(kind, "the keeper does not hold it").with_stage("keeper: store").with_errno(error.errno())
        })
    }
}
