//! The threads that copy: our own ends may block, so each has one. A writer that is held up holds up the command; no byte
//! is dropped.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use orangery::{Cause, LimitKind, Measured, OutputAction, OutputLimit, Report, Source, StdinWriter};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::stdio::{stderr, stdin, stdout};
use tokio::io::AsyncWriteExt as _;
use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedSender;

const BUFFER: usize = 64 << 10;

/// Why a copy ended early.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Our own end does not take it.
    Unwritable(Source, io::Error),
    /// Both streams together are over their limit; said once.
    OverLimit,
}

/// Bytes that the command wrote and we read.
#[derive(Debug)]
pub(crate) struct Counts {
    stdout: AtomicU64,
    stderr: AtomicU64,
    stdout_over: AtomicU64,
    stderr_over: AtomicU64,
    left: AtomicU64,
    told: AtomicBool,
    began: Instant,
    /// When bytes came last, in milliseconds after that.
    last: AtomicU64,
}

impl Counts {
    pub(crate) fn new(limit: Option<u64>) -> Self {
        let left = AtomicU64::new(limit.unwrap_or(u64::MAX));
        let [stdout, stderr, stdout_over, stderr_over] = [(); 4].map(|()| AtomicU64::new(0));
        Self {
            stdout,
            stderr,
            stdout_over,
            stderr_over,
            left,
            told: AtomicBool::new(false),
            began: Instant::now(),
            last: AtomicU64::new(0),
        }
    }

    /// Of a stream: what was read, and how much of that was beyond the limit.
    fn totals(&self, source: Source) -> (u64, u64) {
        let (read, over) = self.of(source);
        (read.load(Ordering::Relaxed), over.load(Ordering::Relaxed))
    }

    /// What we know and the supervisor does not, where its streams have carried nothing; `passed` is the limit that was.
    pub(crate) fn complete(&self, report: &mut Report, passed: Option<OutputLimit>) {
        for (totals, source) in [(&mut report.stdout, Source::Stdout), (&mut report.stderr, Source::Stderr)] {
            let (bytes, over) = self.totals(source);
            (totals.bytes, totals.suppressed) = (Measured::Known(bytes), over);
        }
        let Some(limit) = passed else { return };
        report.output_limit = Some(limit.bytes);
        if limit.action != OutputAction::Truncate {
            report.cause = Cause::Limit(LimitKind::Output);
        }
    }

    const fn of(&self, source: Source) -> (&AtomicU64, &AtomicU64) {
        match source {
            Source::Stdout => (&self.stdout, &self.stdout_over),
            Source::Stderr => (&self.stderr, &self.stderr_over),
        }
    }

    /// Whether nobody has been told of the limit before.
    fn tell(&self) -> bool {
        !self.told.swap(true, Ordering::Relaxed)
    }

    /// Wait until no byte has come for `limit`.
    pub(crate) async fn silent(&self, limit: Duration) {
        loop {
            let last = self.began + Duration::from_millis(self.last.load(Ordering::Relaxed));
            let left = limit.saturating_sub(last.elapsed());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }

    /// Count `len` bytes; how many of them are within the limit.
    pub(crate) fn add(&self, source: Source, len: usize) -> usize {
        let (read, over) = self.of(source);
        read.fetch_add(len as u64, Ordering::Relaxed);
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.fetch_max(now, Ordering::Relaxed);
        let take = |left: u64| Some(left.saturating_sub(len as u64));
        let before = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).unwrap_or(0);
        let within = len.min(usize::try_from(before).unwrap_or(usize::MAX));
        over.fetch_add((len - within) as u64, Ordering::Relaxed);
        within
    }
}

/// One pipe of the command to one stream of ours.
#[derive(Debug)]
pub(crate) struct Copier {
    pub(crate) source: Source,
    pub(crate) reader: OwnedFd,
    /// Hangs up when nobody writes any more. The other ends of `reader` may be held, unused, for longer.
    pub(crate) stopped: Arc<OwnedFd>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) trouble: UnboundedSender<Trouble>,
}

impl Copier {
    /// Until the end of the stream, or until we cannot go on.
    pub(crate) fn run(self) {
        if let Err(error) = self.copy() {
            let _ = self.trouble.send(Trouble::Unwritable(self.source, error));
        }
    }

    /// What is beyond the limit is read away: a pipe that is closed, or full, would be an answer of its own.
    fn copy(&self) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        loop {
            let mut fds = [PollFd::new(&self.reader, PollFlags::IN), PollFd::new(&*self.stopped, PollFlags::IN)];
            match poll(&mut fds, None) {
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
                Ok(_) => {}
            }
            // Both were looked at in one call: an empty pipe beside a closed `stopped` stays empty.
            if fds[0].revents().is_empty() {
                return Ok(());
            }
            let len = match rustix::io::read(&self.reader, &mut buffer[..]) {
                Ok(0) => return Ok(()),
                Ok(len) => len,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let within = self.counts.add(self.source, len);
            let data = buffer.get(..within).unwrap_or_default();
            write_all(self.source, data)?;
            if within < len && self.counts.tell() {
                let _ = self.trouble.send(Trouble::OverLimit);
            }
        }
    }
}

/// Our stdin to the command's, until either ends.
pub(crate) fn feed(runtime: &Handle, mut writer: StdinWriter) {
    // Dropping the writer is the end of file. A command that does not read its input to the end is no error.
    feed_to(|data| runtime.block_on(writer.write_all(data)).is_ok());
}

/// Our stdin into a pipe that several commands read one after the other. Held up while none reads, it ends with us.
pub(crate) fn feed_pipe(pipe: &OwnedFd) {
    feed_to(|data| write_to(pipe, data).is_ok());
}

/// Our stdin, until its end or until `take` says false.
pub(crate) fn feed_to(mut take: impl FnMut(&[u8]) -> bool) {
    let mut buffer = vec![0; BUFFER];
    loop {
        match rustix::io::read(stdin(), &mut buffer[..]) {
            Ok(0) => return,
            Ok(len) => {
                if !take(buffer.get(..len).unwrap_or_default()) {
                    return;
                }
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait(stdin(), PollFlags::IN),
            Err(error) => return tracing::warn!(%error, "stdin cannot be read: the command sees its end"),
        }
    }
}

/// Everything, to our own stdout or stderr.
pub(crate) fn write_all(source: Source, data: &[u8]) -> io::Result<()> {
    write_to(if source == Source::Stdout { stdout() } else { stderr() }, data)
}

fn write_to(fd: impl AsFd, mut data: &[u8]) -> io::Result<()> {
    while !data.is_empty() {
        match rustix::io::write(&fd, data) {
            Ok(len) => data = data.get(len..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            // Whoever shares the descriptor made it non-blocking.
            Err(Errno::AGAIN) => wait(&fd, PollFlags::OUT),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Until something of `flags` is so, or it has failed.
pub(crate) fn wait(fd: impl AsFd, flags: PollFlags) {
    // An error comes back from the next read or write.
    let _ = poll(&mut [PollFd::new(&fd, flags)], None);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_for_both_streams_together_and_exact() {
        let counts = Counts::new(Some(10));
        assert_eq!(counts.add(Source::Stdout, 6), 6);
        assert_eq!(counts.add(Source::Stderr, 6), 4);
        assert_eq!(counts.add(Source::Stdout, 1), 0);
        assert_eq!([Source::Stdout, Source::Stderr].map(|source| counts.totals(source)), [(7, 1), (6, 2)]);
        assert_eq!([counts.tell(), counts.tell()], [true, false]);
        assert_eq!(Counts::new(None).add(Source::Stdout, usize::MAX), usize::MAX);
    }
}
