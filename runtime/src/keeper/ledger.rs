//! What the keeper holds for us, as we know it: enough to give all of it to another one when it dies beside us
//! (`succession`). Descriptors are kept here only where there would be another one; the places are the keeper's.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::lease::{Deadline, Lever};
use super::store::Holding;
use crate::error::Error;
use crate::plan::wire::{self, ASIDE, Ask, Message, Purpose, Tree};

/// See the file's head.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// There would be another keeper.
    pub(super) inherits: bool,
    pub(super) stored: HashMap<u64, Entry>,
    pub(super) leases: HashMap<u64, Armed>,
    /// By the request that has started them: those that live, and those whose end is not settled.
    pub(super) processes: HashMap<u64, Process>,
    pub(super) trees: Vec<(Tree, Arc<OwnedFd>, String)>,
}

/// Something that is stored, or about to be.
#[derive(Debug)]
pub(super) struct Entry {
    /// Where it is, once that is known.
    pub(super) slot: Option<u64>,
    /// What it is, if another keeper is to have it.
    pub(super) what: Option<What>,
    /// What it was before a replacement that is not answered yet.
    pub(super) before: Option<What>,
}

/// What is stored, to be said again.
#[derive(Clone, Debug)]
pub(super) struct What {
    pub(super) label: Vec<u8>,
    pub(super) aside: bool,
    pub(super) purpose: Purpose,
    pub(super) fd: Arc<OwnedFd>,
    pub(super) log: Option<(Arc<OwnedFd>, u64)>,
}

/// A deadline that is armed, or about to be.
#[derive(Debug)]
pub(super) struct Armed {
    pub(super) when: Deadline,
    pub(super) lever: Lever,
    /// Rungs that an earlier keeper has carried out.
    pub(super) before: usize,
}

/// A process that was started by a keeper.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pidfd: Arc<OwnedFd>,
    /// How it ends is kept until it is settled.
    pub(super) keep: bool,
    /// Its parent is gone: under this number its pidfd is stored, or about to be.
    pub(super) stored: Option<u64>,
    /// Its parent is gone, and somebody waits for its end here.
    pub(super) watched: bool,
}

/// A request as it goes out.
pub(super) type Request = (Message, Vec<u8>, Vec<(Purpose, OwnedFd)>);

fn copy(fd: &OwnedFd) -> Result<OwnedFd, Error> {
    fd.try_clone().map_err(|error| Error::system("cannot duplicate a descriptor", error))
}

impl Entry {
    /// The end of a pipe or a terminal.
    pub(super) fn is_stream(&self) -> bool {
        self.what.as_ref().is_some_and(|what| matches!(what.purpose, Purpose::Stdio | Purpose::PtyMaster))
    }
}

impl Process {
    /// One that is stored, as its parent is not the keeper.
    pub(super) fn orphan(pidfd: OwnedFd, stored: u64) -> Self {
        Self { pidfd: Arc::new(pidfd), keep: true, stored: Some(stored), watched: true }
    }
}

impl What {
    /// With duplicates of its own.
    pub(super) fn of(label: &[u8], aside: bool, holding: &Holding) -> Result<Self, Error> {
        let log = holding.log.as_ref().map(|(log, most)| Ok::<_, Error>((Arc::new(copy(log)?), *most))).transpose()?;
        Ok(Self { label: label.to_vec(), aside, purpose: holding.purpose, fd: Arc::new(copy(&holding.fd)?), log })
    }

    pub(super) fn request(&self, id: u64) -> Result<Request, Error> {
        let flags = if self.aside { ASIDE } else { 0 };
        let mut fds = vec![(self.purpose, copy(&self.fd)?)];
        let mut most = 0;
        if let Some((log, size)) = &self.log {
            fds.push((Purpose::Log, copy(log)?));
            most = *size;
        }
        let head = Message { kind: Ask::Store as u16, id, flags, y: most, ..Message::default() };
        Ok((head, self.label.clone(), fds))
    }
}

impl Armed {
    /// What is left of it to be done.
    pub(super) fn request(&self, id: u64) -> Result<Request, Error> {
        let lever = &self.lever;
        let rungs = lever.rungs.get(self.before..).unwrap_or_default();
        let mut flags = if self.when.at_end { wire::AT_END } else { 0 };
        let (mut fds, mut body) = (Vec::new(), Vec::new());
        let mut signal_number = 0;
        if let Some((pidfd, signal)) = &lever.signal {
            fds.push((Purpose::Pidfd, copy(pidfd)?));
            signal_number = u64::try_from(*signal).unwrap_or(0);
        }
        // Who was told the rungs is killed first in the end, also once none of them is left.
        if !rungs.is_empty() || lever.told.is_some() {
            flags |= wire::LADDER;
            body.extend((rungs.len() as u64).to_le_bytes());
            body.extend(rungs.iter().flat_map(|rung| rung.encode()));
        }
        if let Some((file, bytes)) = &lever.write {
            fds.push((Purpose::Control, copy(file)?));
            body.extend(bytes);
        }
        if let Some(told) = &lever.told {
            fds.push((Purpose::Told, copy(told)?));
        }
        let head =
            Message { kind: Ask::Arm as u16, id, flags, x: self.when.at_ns, y: signal_number, ..Message::default() };
        Ok((head, body, fds))
    }
}

pub(super) fn register(id: u64, tree: Tree, parent: OwnedFd, name: &str) -> Request {
    let mut text = name.as_bytes().to_vec();
    text.push(0);
    let head = Message { kind: Ask::Register as u16, id, x: tree as u64, ..Message::default() };
    (head, text, vec![(Purpose::TreeRoot, parent)])
}

impl Ledger {
    /// Processes whose parent the keeper is.
    pub(super) fn unwatched(&self) -> Vec<Arc<OwnedFd>> {
        let unwatched = self.processes.values().filter(|process| !process.watched && process.stored.is_none());
        unwatched.map(|process| Arc::clone(&process.pidfd)).collect()
    }

    /// The keeper has died: nothing is anywhere any more. Gives the processes that have lost their parent by it.
    pub(super) fn orphan(&mut self) -> Vec<(u64, Arc<OwnedFd>)> {
        for entry in self.stored.values_mut() {
            entry.slot = None;
            entry.before = None;
        }
        let unwatched = self.processes.iter_mut().filter(|(_, process)| !process.watched && process.stored.is_none());
        let unwatched = unwatched.map(|(id, process)| {
            process.watched = true;
            (*id, Arc::clone(&process.pidfd))
        });
        unwatched.collect()
    }

    /// It is about to be stored, or to take the place of what is.
    pub(super) fn store(&mut self, id: u64, replaces: bool, what: Option<What>) {
        match self.stored.get_mut(&id).filter(|_| replaces) {
            Some(entry) => entry.before = std::mem::replace(&mut entry.what, what),
            None => {
                self.stored.insert(id, Entry { slot: None, what, before: None });
            }
        }
    }

    /// An earlier supervisor has stored it. Its log is not known: until it goes on in another file a further keeper holds its
    /// pipe as it is.
    pub(super) fn found(
        &mut self,
        id: u64,
        slot: u64,
        label: &[u8],
        purpose: Purpose,
        fd: &OwnedFd,
    ) -> Result<(), Error> {
        let aside = purpose == Purpose::Lock;
        let what =
            || Ok::<_, Error>(What { label: label.to_vec(), aside, purpose, fd: Arc::new(copy(fd)?), log: None });
        let what = self.inherits.then(what).transpose()?;
        self.stored.insert(id, Entry { slot: Some(slot), what, before: None });
        Ok(())
    }

    /// It is not stored, or not replaced by something else. `true`: it is not there at all.
    pub(super) fn refused(&mut self, id: u64) -> bool {
        match self.stored.get_mut(&id) {
            Some(entry) if entry.slot.is_some() => {
                if let Some(before) = entry.before.take() {
                    entry.what = Some(before);
                }
                false
            }
            Some(_) => self.unstore(id),
            None => false,
        }
    }

    /// All that another keeper is to know, in the order in which it may be told: whoever dies in between must not leave one that
    /// takes a part for all. So what it holds comes first, with locks, and that it is to go on without us (`hello`) behind;
    /// what it is to remove in the end is last.
    ///
    /// What cannot be said, for want of descriptors, is left out: the numbers of those are given too.
    pub(super) fn all(&self, hello: Request, next: impl Fn() -> u64) -> (Vec<Request>, Vec<u64>) {
        let stored = self.stored.iter().filter_map(|(id, entry)| Some((*id, entry.what.as_ref()?.request(*id))));
        let leases = self.leases.iter().map(|(id, armed)| (*id, armed.request(*id)));
        let trees = self.trees.iter().map(|(tree, parent, name)| {
            let id = next();
            (id, copy(parent).map(|parent| register(id, *tree, parent, name)))
        });
        let (mut all, mut left_out) = (Vec::new(), Vec::new());
        for (id, request) in stored.chain(leases).chain(std::iter::once((hello.0.id, Ok(hello)))).chain(trees) {
            match request {
                Ok(request) => all.push(request),
                Err(error) => {
                    tracing::error!(%error, "another keeper does not get everything");
                    left_out.push(id);
                }
            }
        }
        (all, left_out)
    }

    /// The keeper does not get this.
    pub(super) fn leave_out(&mut self, id: u64) {
        self.leases.remove(&id);
        self.unstore(id);
    }

    fn unstore(&mut self, id: u64) -> bool {
        // A further keeper may have room for it.
        let process = self.processes.values_mut().find(|process| process.stored == Some(id));
        process.into_iter().for_each(|process| process.stored = None);
        self.stored.remove(&id).is_some()
    }
}
