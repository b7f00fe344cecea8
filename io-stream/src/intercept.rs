//! Where a test can interfere with the bytes of a pipe: behind each read, before each publication or write into a log, before
//! each write to standard input.
//!
//! Off unless a reader or a writer was given an [`Interceptor`]; the question costs one branch then.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use crate::chunk::Source;

/// A place that bytes pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Passage {
    /// A pump has read bytes of this source.
    Read(Source),
    /// A pump is about to publish bytes of this source.
    Publish(Source),
    /// A log is about to take bytes of this source: [`Interference::Fail`] is the answer of its disk, and so is
    /// [`Interference::Lose`], which is a full one.
    Log(Source),
    /// Bytes are about to be written to standard input.
    Write,
}

/// What becomes of the bytes.
#[derive(Debug, Default)]
#[non_exhaustive]
pub enum Interference {
    /// They pass.
    #[default]
    None,
    /// They are lost. Readers are told by a gap, [`GapCause::Injected`](crate::GapCause::Injected), and history from
    /// before it is not kept; a writer is told that they were written.
    Lose,
    /// The read or the write fails with this; the bytes of a read are lost with it.
    Fail(io::Error),
}

/// An answer that may take its time: the bytes wait for it, and so does what comes behind them.
pub type Answer = Pin<Box<dyn Future<Output = Interference> + Send + Sync>>;

/// Asked at each passage, by [`PipeReader::intercepted`](crate::PipeReader::intercepted) and
/// [`StdinWriter::intercepted`](crate::StdinWriter::intercepted).
///
/// ```
/// use orangery_io_stream::{Interceptor, Interference, StdinWriter};
/// use tokio::io::AsyncWriteExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (_theirs, ours) = std::io::pipe()?;
/// let full = Interceptor::new(|_| {
///     Box::pin(async { Interference::Fail(std::io::ErrorKind::StorageFull.into()) })
/// });
/// let mut stdin = StdinWriter::from_fd(ours.into())?.intercepted(full);
/// assert_eq!(stdin.write(b"x").await.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Interceptor(Arc<dyn Fn(Passage) -> Answer + Send + Sync>);

impl Interceptor {
    /// Asks `decide` at each passage, on the thread that reads or writes.
    pub fn new(decide: impl Fn(Passage) -> Answer + Send + Sync + 'static) -> Self {
        Self(Arc::new(decide))
    }

    pub(crate) fn ask(&self, passage: Passage) -> Answer {
        (self.0)(passage)
    }
}

impl fmt::Debug for Interceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Interceptor")
    }
}

/// The question of a writer, which is polled: asked once for each write, however often that is tried.
pub(crate) struct Writes {
    by: Interceptor,
    asked: Option<Answer>,
    /// The write in hand was let pass and is not done yet.
    passed: bool,
}

impl Writes {
    pub(crate) const fn new(by: Interceptor) -> Self {
        Self { by, asked: None, passed: false }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Interference> {
        if self.passed {
            return Poll::Ready(Interference::None);
        }
        let asked = self.asked.get_or_insert_with(|| self.by.ask(Passage::Write));
        let answer = ready!(asked.as_mut().poll(cx));
        self.asked = None;
        self.passed = matches!(answer, Interference::None);
        Poll::Ready(answer)
    }

    /// The write is done; the next one is asked for anew.
    pub(crate) const fn done(&mut self) {
        self.passed = false;
    }
}

impl fmt::Debug for Writes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Writes")
    }
}
