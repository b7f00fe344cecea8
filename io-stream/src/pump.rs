//! From descriptor to hub: reads as long as somebody may write, and ends as exactly one end.
//!
//! Run by whoever owns the incarnation, as one future for both pipes. It waits for nothing but the
//! pipes, the exit it is told of, the grace, and readers that asked to be waited for.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use crate::chunk::Source;
use crate::error::{StreamError, StreamErrorKind};
use crate::event::EndReason;
use crate::fate::Fate;
use crate::hub::Hub;
use crate::intercept::{Interference, Passage};
use crate::options::EndInfo;
use crate::pipe::{PipeReader, READ};

/// How one pump ended.
#[derive(Debug)]
pub enum PumpEnd {
    /// Every writer closed its end.
    Eof,
    /// It was told to stop while somebody still held a write end.
    Leaked,
    /// The hub was closed by somebody else.
    Closed,
    /// Reading failed.
    Failed(StreamError),
}

/// Reads one descriptor to its end into `hub`, which it leaves open.
///
/// Ends when every writer has closed its end, when reading fails, or when the hub is closed. A hub
/// without subscribers is read into all the same: nobody's absence blocks the workload.
///
/// # Cancel safety
///
/// Dropped, it closes the descriptor. Bytes that it had read but not yet published (only while it waits
/// for a blocking subscriber) are lost; the hub stays open.
pub async fn pump(reader: PipeReader, source: Source, hub: Hub) -> PumpEnd {
    let mut reader = reader;
    run(&mut reader, source, &hub, hub.bytes_ended()).await
}

/// Reads both streams of one incarnation into `hub` and closes it, once.
///
/// - At the end of both: [`EndReason::Eof`].
/// - When `exit` is ready and `grace` has passed since without that: what the pipes hold at that moment
///   is still read, then [`EndReason::Leaked`], and the descriptors are closed. With no `grace` it waits
///   for the last writer, however long.
/// - When reading failed: [`EndReason::Error`], once the other stream has ended.
///
/// A missing stream counts as ended. Returns the reason that the hub was closed with. A subscriber with
/// [`Overflow::Block`](crate::Overflow::Block) can hold the end back by its budget, once.
///
/// ```
/// use std::io::Write;
/// use orangery_io_stream::{EndReason, Hub, HubOptions, PipeReader, SubscribeOptions, pump_pair};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (ours, mut theirs) = std::io::pipe()?;
/// theirs.write_all(b"hello")?;
/// drop(theirs);
///
/// let hub = Hub::new(HubOptions::default());
/// let reader = hub.subscribe(SubscribeOptions::default());
/// let stdout = PipeReader::from_fd(ours.into())?;
/// let exit = async {}; // whatever tells that the process is gone
/// let grace = std::time::Duration::from_secs(2);
/// let reason = pump_pair(Some(stdout), None, hub, exit, Some(grace)).await;
///
/// assert_eq!(reason, EndReason::Eof);
/// assert_eq!(reader.collect(1024).await.to_vec(), b"hello");
/// # Ok(())
/// # }
/// ```
///
/// # Panics
///
/// Outside a tokio runtime with a timer, if there is a grace.
///
/// # Cancel safety
///
/// Dropped at any time (or after a panic) it leaves the hub ended as [`EndReason::Abandoned`].
pub fn pump_pair(
    mut stdout: Option<PipeReader>,
    mut stderr: Option<PipeReader>,
    hub: Hub,
    exit: impl Future<Output = ()>,
    grace: Option<Duration>,
) -> impl Future<Output = EndReason> {
    // Made before the first poll: a future that never ran abandons its hub too.
    let guard = AbandonOnDrop(hub);
    async move {
        let hub = &guard.0;
        let exit = std::pin::pin!(exit);
        let (info, _) = drain_pair((&mut stdout, &mut stderr), hub, exit, grace).await;
        close(hub, info)
    }
}

/// As [`pump_pair`], for a process: the hub is closed when both streams have ended *and* `exit` has said how it did, so that
/// the last event carries it ([`End::fate`](crate::End::fate)). The streams wait for each other and for the exit as
/// [`pump_pair`] says; the exit is waited for however long it takes. Meanwhile, from the last byte on, the hub takes no more
/// ([`Hub::end_bytes`]) and the descriptors are closed: who reads plain bytes is done.
///
/// # Panics
///
/// As [`pump_pair`].
///
/// # Cancel safety
///
/// As [`pump_pair`].
pub fn pump_process(
    mut stdout: Option<PipeReader>,
    mut stderr: Option<PipeReader>,
    hub: Hub,
    exit: impl Future<Output = Fate>,
    grace: Option<Duration>,
) -> impl Future<Output = EndReason> {
    let guard = AbandonOnDrop(hub);
    async move {
        let hub = &guard.0;
        let mut exit = std::pin::pin!(exit);
        let (info, known) = drain_pair((&mut stdout, &mut stderr), hub, exit.as_mut(), grace).await;
        hub.end_bytes(info);
        let fate = match known {
            Some(fate) => fate,
            None => tokio::select! { fate = exit => fate, () = hub.closed() => Fate::Unknown },
        };
        close(hub, EndInfo { fate, ..info })
    }
}

/// Both streams to their ends, and what the exit said if it came first. They are lent: an argument of an async function is in
/// its future twice.
async fn drain_pair<E>(
    (stdout, stderr): (&mut Option<PipeReader>, &mut Option<PipeReader>),
    hub: &Hub,
    exit: Pin<&mut impl Future<Output = E>>,
    grace: Option<Duration>,
) -> (EndInfo, Option<E>) {
    let stopped = Stopped::default();
    let pumps = async {
        tokio::join!(run_some(stdout, Source::Stdout, hub, &stopped), run_some(stderr, Source::Stderr, hub, &stopped),)
    };
    let closed = std::pin::pin!(hub.bytes_ended());
    let ((out, err), known) = until_grace(exit, grace, &stopped, closed, pumps).await;
    (end_info(&out, &err), known)
}

/// Ends the hub as abandoned unless it was closed before.
struct AbandonOnDrop(Hub);

impl Drop for AbandonOnDrop {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// Runs the pumps of both sources to their ends; they are told to stop when `grace` has passed since the exit, or when
/// what they pump into was closed. Gives what the exit said, if it came before.
pub(crate) async fn until_grace<P: Future, E>(
    exit: Pin<&mut impl Future<Output = E>>,
    grace: Option<Duration>,
    stopped: &Stopped,
    closed: Pin<&mut impl Future<Output = ()>>,
    pumps: P,
) -> (P::Output, Option<E>) {
    let mut pumps = std::pin::pin!(pumps);
    let mut known = None;
    let grace_over = async {
        known = Some(exit.await);
        match grace {
            Some(grace) => Box::pin(tokio::time::sleep(grace)).await,
            None => pending().await,
        }
    };
    let ends = tokio::select! {
        biased;
        // Asked first: pumps that are never out of work would eat the task's budget before it.
        () = async { tokio::select! { () = grace_over => {} () = closed => {} } } => {
            stopped.tell();
            pumps.await
        }
        ends = &mut pumps => ends,
    };
    (ends, known)
}

/// How pumps hear that they are to stop.
#[derive(Debug, Default)]
pub(crate) struct Stopped {
    said: AtomicBool,
    told: Notify,
}

impl Stopped {
    pub(crate) fn tell(&self) {
        self.said.store(true, Ordering::Release);
        self.told.notify_waiters();
    }

    /// Whether it was said.
    pub(crate) fn is_told(&self) -> bool {
        self.said.load(Ordering::Acquire)
    }

    /// Ready when the pumps are told to stop.
    pub(crate) async fn told(&self) {
        // Registered before the look: what is said in between is heard.
        let told = self.told.notified();
        if !self.is_told() {
            told.await;
        }
    }
}

async fn run_some(reader: &mut Option<PipeReader>, source: Source, hub: &Hub, stopped: &Stopped) -> PumpEnd {
    match reader {
        Some(open) => {
            let end = run(open, source, hub, stopped.told()).await;
            // Its descriptor does not wait for the other stream's end.
            *reader = None;
            end
        }
        None => PumpEnd::Eof,
    }
}

/// One pump, until its end or `stop`.
async fn run(reader: &mut PipeReader, source: Source, hub: &Hub, stop: impl Future<Output = ()>) -> PumpEnd {
    let mut stop = std::pin::pin!(stop);
    loop {
        // The read goes last: a leaked writer that never pauses must not outrun the stop.
        let read = tokio::select! {
            biased;
            () = &mut stop => return match hub.takes_no_more() {
                true => PumpEnd::Closed,
                false => Box::pin(drain(reader, source, hub)).await,
            },
            read = reader.read() => read,
        };
        match read {
            Ok(data) if data.is_empty() => return PumpEnd::Eof,
            Ok(data) => {
                let full = data.len() == reader.most();
                let delivered = match deliver_now(reader, source, &data, hub) {
                    Some(open) => Ok(open),
                    // In a box: an idle pump does not carry the room for it.
                    None => Box::pin(deliver(reader, source, data, hub)).await,
                };
                match delivered {
                    Ok(true) => {}
                    Ok(false) => return PumpEnd::Closed,
                    Err(error) => return failed(source, error),
                }
                if full {
                    reader.grow_for(hub.subscribers());
                }
            }
            Err(error) => return failed(source, error),
        }
    }
}

/// Gives what was read to the hub where that needs no waiting. Returns whether the hub is open.
fn deliver_now(reader: &PipeReader, source: Source, data: &Bytes, hub: &Hub) -> Option<bool> {
    if reader.interceptor.is_some() { None } else { hub.publish_now(source, data) }
}

/// Gives what was read to the hub, unless a test has it otherwise. Returns whether the hub is open.
async fn deliver(reader: &PipeReader, source: Source, data: Bytes, hub: &Hub) -> Result<bool, StreamError> {
    if let Some(interceptor) = &reader.interceptor {
        for passage in [Passage::Read(source), Passage::Publish(source)] {
            match interceptor.ask(passage).await {
                Interference::None => {}
                Interference::Lose => return Ok(hub.lose(source, data.len() as u64)),
                Interference::Fail(error) => return Err(StreamError::io(READ, StreamErrorKind::Read, error)),
            }
        }
    }
    Ok(hub.publish(source, data).await)
}

/// Publishes what the pipe holds now, and not what a writer adds meanwhile.
async fn drain(reader: &mut PipeReader, source: Source, hub: &Hub) -> PumpEnd {
    let mut left = match reader.available() {
        Ok(left) => left,
        Err(error) => return failed(source, error),
    };
    // One read more than there is to read: it tells an ended pipe from one that is held.
    loop {
        let done = left == 0;
        match reader.read_now() {
            Ok(None) => return PumpEnd::Leaked,
            Ok(Some(data)) if data.is_empty() => return PumpEnd::Eof,
            Ok(Some(data)) => {
                left = left.saturating_sub(data.len() as u64);
                match deliver(reader, source, data, hub).await {
                    Ok(true) => {}
                    Ok(false) => return PumpEnd::Closed,
                    Err(error) => return failed(source, error),
                }
            }
            Err(error) => return failed(source, error),
        }
        if done {
            return PumpEnd::Leaked;
        }
    }
}

fn failed(source: Source, error: StreamError) -> PumpEnd {
    tracing::warn!(%source, %error, "a pump failed");
    PumpEnd::Failed(error)
}

/// Closes the hub by what both pumps came to.
fn close(hub: &Hub, info: EndInfo) -> EndReason {
    hub.close(info);
    tracing::debug!(
        stdout = hub.totals(Source::Stdout).bytes,
        stderr = hub.totals(Source::Stderr).bytes,
        "the output is drained"
    );
    // Somebody else may have closed it first: theirs is the reason then.
    hub.end().map_or(EndReason::Abandoned, |end| end.reason)
}

/// What both pumps came to.
pub(crate) fn end_info(out: &PumpEnd, err: &PumpEnd) -> EndInfo {
    let ends = [out, err];
    EndInfo {
        leaked_writers: ends.iter().any(|end| matches!(end, PumpEnd::Leaked)),
        error: ends.iter().find_map(|end| match end {
            PumpEnd::Failed(error) => Some(error.kind()),
            PumpEnd::Eof | PumpEnd::Leaked | PumpEnd::Closed => None,
        }),
        fate: Fate::Unknown,
    }
}
