//! Let the keeper hold the parts of a process before the process is asked for. What was stored for one that did not come to
//! be is not held any more.

use std::os::fd::{AsFd, BorrowedFd};

use super::holds::{HeldStream, Holds, holding};
use super::label::Kind;
use super::record::ProcessRecord;
use crate::error::Error;
use crate::keeper::{Client, Stored};
use crate::plan::wire::{Drained, Purpose};
use crate::spec::{Hold, LogFile};

/// One part, with the file that it is emptied into.
pub(crate) struct Part<'a> {
    kind: Kind,
    fd: BorrowedFd<'a>,
    log: Option<&'a LogFile>,
}

impl<'a> Part<'a> {
    pub(crate) fn new(kind: Kind, fd: &'a impl AsFd) -> Self {
        Self { kind, fd: fd.as_fd(), log: None }
    }

    pub(crate) fn with_log(self, log: Option<&'a LogFile>) -> Self {
        Self { log, ..self }
    }
}

fn purpose(kind: Kind) -> Purpose {
    match kind {
        Kind::Stdin | Kind::Stdout | Kind::Stderr => Purpose::Stdio,
        Kind::Terminal => Purpose::PtyMaster,
        Kind::Report => Purpose::Report,
        Kind::Gate => Purpose::Gate,
        Kind::Channel | Kind::Beside => Purpose::Channel,
        Kind::Listener => Purpose::Listener,
        Kind::Process => Purpose::Pidfd,
        Kind::Instance | Kind::Ids => Purpose::Lock,
    }
}

/// One part that the keeper holds.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) kind: Kind,
    pub(crate) stored: Stored,
    /// Of one that an earlier supervisor has stored.
    pub(crate) drained: Option<Drained>,
}

/// What is stored of one process. Dropped, nothing of it is held, unless it is [kept](Storing::keep).
#[derive(Debug)]
pub(crate) struct Storing {
    client: Client,
    /// The request that starts the process.
    request: u64,
    label: Vec<u8>,
    pieces: Vec<Piece>,
    /// Where the process is in the keeper, once it is there.
    place: Option<u64>,
    keep: bool,
}

impl Storing {
    /// For a process that is going to be asked for as request [`Storing::request`].
    ///
    /// # Errors
    /// The label is none; the keeper does not hold it.
    pub(crate) async fn begin(client: &Client, hold: &Hold, parts: &[Part<'_>]) -> Result<Self, Error> {
        if hold.label.is_empty() || hold.label.len() > Hold::LABEL {
            let why = format!("{} bytes; 1 to {} are possible", hold.label.len(), Hold::LABEL);
            return Err(Error::invalid("hold.label", why));
        }
        let mut storing = Self::of(client.clone(), client.id(), hold.label.clone(), Vec::new());
        storing.keep = false;
        storing.add(parts).await?;
        Ok(storing)
    }

    /// What an earlier supervisor has stored.
    pub(crate) fn of(client: Client, request: u64, label: Vec<u8>, pieces: Vec<Piece>) -> Self {
        Self { client, request, label, pieces, place: None, keep: true }
    }

    /// The number of the request that starts it.
    pub(crate) fn request(&self) -> u64 {
        self.request
    }

    /// The process is there; how it ends is kept.
    pub(crate) fn born(&mut self, place: u64) {
        self.place = Some(place);
    }

    /// Dropping it changes nothing from now on: the process waits for its start.
    pub(crate) fn keep(&mut self) {
        self.keep = true;
    }

    /// The process is being started: what does not come to its exec is not held any more.
    pub(crate) fn start(&mut self) {
        self.keep = false;
    }

    /// This is stored.
    pub(crate) fn has(&self, kind: Kind) -> bool {
        self.pieces.iter().any(|piece| piece.kind == kind)
    }

    /// Hold these as well: all asked for at once.
    pub(crate) async fn add(&mut self, parts: &[Part<'_>]) -> Result<(), Error> {
        let ask = |part: &Part<'_>| {
            let failed = |error| Error::system("cannot duplicate a descriptor", error);
            let fd = part.fd.try_clone_to_owned().map_err(failed)?;
            let holding = holding(purpose(part.kind), fd, part.log)?;
            self.client.store_later(&part.kind.label(self.request, &self.label), holding)
        };
        let asked = parts.iter().map(ask).collect::<Result<Vec<_>, _>>();
        for (part, asked) in parts.iter().zip(asked.map_err(named)?) {
            let stored = asked.wait().await.map_err(named)?;
            self.pieces.push(Piece { kind: part.kind, stored, drained: None });
        }
        Ok(())
    }

    /// Nothing of it is held any more.
    pub(crate) fn discard(mut self) {
        self.keep = false;
    }

    /// The process is there: what was needed for its start only is not held any more, and the rest is its own.
    pub(crate) fn started(mut self, record: ProcessRecord) -> Holds {
        let (client, place) = (self.client.clone(), self.place.take());
        let (mut stdin, mut stdout, mut stderr, mut tty, mut others) = (None, None, None, None, Vec::new());
        let mut report = None;
        for Piece { kind, stored, drained } in std::mem::take(&mut self.pieces) {
            let stream = match kind {
                Kind::Stdin => &mut stdin,
                Kind::Stdout => &mut stdout,
                Kind::Stderr => &mut stderr,
                Kind::Terminal => &mut tty,
                Kind::Listener | Kind::Process => {
                    others.push(stored);
                    continue;
                }
                Kind::Report => {
                    report = Some(stored);
                    continue;
                }
                Kind::Gate | Kind::Channel | Kind::Beside | Kind::Instance | Kind::Ids => {
                    stored.discard();
                    continue;
                }
            };
            let label = kind.label(self.request, &self.label);
            *stream = Some(HeldStream { drained, stored, purpose: purpose(kind), label });
        }
        let known = stdin.is_some() || stdout.is_some() || stderr.is_some() || tty.is_some() || !others.is_empty();
        match report {
            // Without it nothing would say under which label this process is found.
            Some(report) if !known => others.push(report),
            Some(report) => report.discard(),
            None => {}
        }
        Holds { record, stdin, stdout, stderr, tty, others, client, place }
    }
}

/// What is refused is refused of the field that asked for it.
fn named(error: Error) -> Error {
    if error.field().is_some() { error } else { error.with_field("hold") }
}

impl Drop for Storing {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        for piece in self.pieces.drain(..) {
            piece.stored.discard();
        }
        if let Some(place) = self.place {
            self.client.settle(self.request, place);
        }
    }
}
