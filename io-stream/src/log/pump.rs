//! From pipe to log, as one future for both streams of one incarnation.
//!
//! The twin of the hub's pumps: same ends, same grace. No byte passes through this process but those
//! that a full log makes it read away.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use rustix::io::Errno;

use super::Log;
use super::writer::Taken;
use crate::chunk::Source;
use crate::error::{StreamError, StreamErrorKind};
use crate::event::EndReason;
use crate::intercept::{Interceptor, Interference, Passage};
use crate::options::EndInfo;
use crate::pipe::PipeReader;
use crate::pump::{PumpEnd, Stopped, end_info, until_grace};

const PUMP: &str = "empty a pipe into a log";

/// Empties both pipes of one incarnation into `log`, and writes down how they ended.
///
/// Ends as [`pump_pair`](crate::pump_pair) does: at the end of both, or when `exit` is ready and `grace`
/// has passed since. It waits for nothing but the pipes: while the log takes no bytes, they are read
/// away and counted. Only the page cache can make the calling thread wait, where the kernel throttles
/// writers to a slow disk.
///
/// An interceptor of a pipe is asked [`Passage::Read`] and then [`Passage::Log`] before bytes are taken: those that it loses
/// the log does not get, as if it were full.
///
/// A pipe is spliced from; a terminal or a socket is read and written, see the [module](super).
///
/// # Panics
///
/// Outside a tokio runtime with a timer, if there is a grace.
///
/// # Cancel safety
///
/// Dropped at any time it leaves the log as a crash would: no byte is lost, no end is written, and
/// another writer may go on with the same pipes.
pub async fn log_pump_pair(
    stdout: Option<PipeReader>,
    stderr: Option<PipeReader>,
    log: Log,
    exit: impl Future<Output = ()>,
    grace: Option<Duration>,
) -> EndReason {
    let exit = std::pin::pin!(exit);
    let (info, _) = drain_pair(stdout, stderr, &log, exit, grace, &Stopped::default()).await;
    log.finish(info);
    info.reason()
}

/// Both streams to their ends, or until it is `closing` at the latest: what there is then is taken, and that was all. Gives
/// what the exit said, if it came first.
pub(super) async fn drain_pair<E>(
    stdout: Option<PipeReader>,
    stderr: Option<PipeReader>,
    log: &Log,
    exit: Pin<&mut impl Future<Output = E>>,
    grace: Option<Duration>,
    closing: &Stopped,
) -> (EndInfo, Option<E>) {
    let stopped = Stopped::default();
    let pumps = async {
        tokio::join!(
            run(stdout.as_ref(), Source::Stdout, log, &stopped),
            run(stderr.as_ref(), Source::Stderr, log, &stopped),
        )
    };
    let closed = std::pin::pin!(closing.told());
    let ((out, err), known) = until_grace(exit, grace, &stopped, closed, pumps).await;
    let info = end_info(&out, &err);
    let leaked_writers = info.leaked_writers && !closing.is_told();
    (EndInfo { leaked_writers, ..info }, known)
}

async fn run(reader: Option<&PipeReader>, source: Source, log: &Log, stopped: &Stopped) -> PumpEnd {
    let Some(reader) = reader else { return PumpEnd::Eof };
    let mut stop = std::pin::pin!(stopped.told());
    // Of what was there before this pump: whether a byte comes or not.
    log.tell(source, reader.feed().as_fd()).await;
    loop {
        let ready = tokio::select! {
            biased;
            () = &mut stop => return drain(reader, source, log).await,
            ready = reader.ready() => ready,
        };
        if let (Ok(()), Some(interceptor)) = (&ready, &reader.interceptor)
            && let Err(error) = asked(interceptor, reader, source, log).await
        {
            return PumpEnd::Failed(error);
        }
        if ready.is_ok() {
            log.tell(source, reader.feed().as_fd()).await;
        }
        let taken = ready.and_then(|()| reader.try_io(|| take(reader, source, log)));
        match taken {
            Ok(Taken::Eof) => return PumpEnd::Eof,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return PumpEnd::Failed(StreamError::io(PUMP, StreamErrorKind::Read, error)),
        }
    }
}

/// Lets a test interfere with what is there; nobody is asked about nothing.
async fn asked(by: &Interceptor, reader: &PipeReader, source: Source, log: &Log) -> Result<(), StreamError> {
    if reader.available()? == 0 {
        return Ok(());
    }
    for passage in [Passage::Read(source), Passage::Log(source)] {
        match (by.ask(passage).await, passage) {
            (Interference::None, _) => {}
            (Interference::Lose, _) => {
                log.fail(source, Errno::NOSPC);
                return Ok(());
            }
            (Interference::Fail(error), Passage::Log(_)) => {
                log.fail(source, Errno::from_io_error(&error).unwrap_or(Errno::IO));
            }
            (Interference::Fail(error), _) => return Err(StreamError::io(PUMP, StreamErrorKind::Read, error)),
        }
    }
    Ok(())
}

fn take(reader: &PipeReader, source: Source, log: &Log) -> io::Result<Taken> {
    match log.step(source, reader.feed()) {
        Taken::Empty => Err(io::ErrorKind::WouldBlock.into()),
        Taken::Failed(errno) => Err(errno.into()),
        taken => Ok(taken),
    }
}

/// Takes what the pipe holds now, and not what a writer adds meanwhile.
async fn drain(reader: &PipeReader, source: Source, log: &Log) -> PumpEnd {
    let mut left = match reader.available() {
        Ok(left) => left,
        Err(error) => return PumpEnd::Failed(error),
    };
    // One step more than there is to take: it tells an ended pipe from one that is held.
    loop {
        let done = left == 0;
        match log.step(source, reader.feed()) {
            Taken::Logged(len) | Taken::Discarded(len) => left = left.saturating_sub(len),
            Taken::Untold => {
                log.tell(source, reader.feed().as_fd()).await;
                continue;
            }
            Taken::Empty => return PumpEnd::Leaked,
            Taken::Eof => return PumpEnd::Eof,
            Taken::Failed(errno) => {
                return PumpEnd::Failed(StreamError::io(PUMP, StreamErrorKind::Read, errno));
            }
        }
        if done {
            return PumpEnd::Leaked;
        }
    }
}
