//! What the keeper holds of a process that runs, in the hands of whoever watches the process.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::record::ProcessRecord;
use crate::error::Error;
use crate::keeper::{Client, Holding, Stored};
use crate::plan::wire::{Drained, Purpose};
use crate::spec::LogFile;

/// What the keeper holds of one process. Dropping it changes nothing, as the end of a supervisor must not: see
/// [`Holds::settle`].
#[derive(Debug)]
pub struct Holds {
    /// For [`Adopted::process`](super::Adopted::process): to be written down.
    pub record: ProcessRecord,
    /// Our end of its standard input.
    pub stdin: Option<HeldStream>,
    /// Our end of its standard output.
    pub stdout: Option<HeldStream>,
    /// Our end of its standard error.
    pub stderr: Option<HeldStream>,
    /// The master of its terminal.
    pub tty: Option<HeldStream>,
    /// What is of no use any more, and what makes it known by its label where it has no streams.
    pub(crate) others: Vec<Stored>,
    pub(crate) client: Client,
    /// Where it is in the keeper; `None`: the keeper does not know it.
    pub(crate) place: Option<u64>,
}

impl Holds {
    /// The process has ended, how it did is written down, and its streams are read to their end: the keeper forgets all of
    /// it. Until then the next supervisor is told once more.
    pub fn settle(self) {
        let Self { record, stdin, stdout, stderr, tty, others, client, place } = self;
        for stream in [stdin, stdout, stderr, tty].into_iter().flatten() {
            stream.discard();
        }
        others.into_iter().for_each(Stored::discard);
        if let Some(place) = place {
            client.settle(record.request, place);
        }
    }
}

/// One stream that the keeper holds as well. Dropping it changes nothing.
#[derive(Debug)]
pub struct HeldStream {
    /// What was done with it while there was no supervisor; of one that was adopted.
    pub drained: Option<Drained>,
    pub(crate) stored: Stored,
    pub(crate) purpose: Purpose,
    pub(crate) label: Vec<u8>,
}

impl HeldStream {
    /// Let it go into another file while there is no supervisor: `source` is our end of the stream, of which nothing may be
    /// read while this is under way. From one moment to the next, so that no byte has two places or none.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a log that is none; the keeper has no descriptor left or is gone. It holds what
    /// it held then.
    ///
    /// # Cancel safety
    /// Dropped after it was asked for, it is done.
    pub async fn rotate(&self, source: BorrowedFd<'_>, log: &LogFile) -> Result<(), Error> {
        let source = copy(source)?;
        let holding = holding(self.purpose, source, Some(log))?;
        self.stored.replace(&self.label, holding).await
    }

    /// The keeper closes its end: of an input, so that the process sees the end of it; of an output, so that who writes into
    /// it is told that nobody reads.
    pub fn discard(self) {
        self.stored.discard();
    }
}

fn copy(fd: BorrowedFd<'_>) -> Result<OwnedFd, Error> {
    fd.try_clone_to_owned().map_err(|error| Error::system("cannot duplicate a descriptor", error))
}

/// A stream, and the file that it is emptied into.
pub(crate) fn holding(purpose: Purpose, fd: OwnedFd, log: Option<&LogFile>) -> Result<Holding, Error> {
    let Some(log) = log else { return Ok(Holding::other(purpose, fd)) };
    let file = copy(log.file.as_fd())?;
    Ok(match purpose {
        Purpose::PtyMaster => Holding::shown(fd, file, log.most),
        _ => Holding::output(fd, file, log.most),
    })
}
