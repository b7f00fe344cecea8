//! What is typed, or comes through our stdin, for a process of a container: by a thread, because reading blocks.

use tokio::sync::mpsc;

use crate::copy;
use crate::errors::Failure;
use crate::passthrough::thread;
use crate::terminal::{Session, Terminal};

/// Pieces that wait; then nothing more is read.
const WAITING: usize = 4;

/// Our input.
#[derive(Debug)]
pub(super) struct Input {
    pieces: mpsc::Receiver<Vec<u8>>,
    /// Somebody types it: at a terminal there is no end of file.
    typed: bool,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Send(Vec<u8>),
    /// There is no more.
    Close,
}

impl Input {
    /// From a pipe or a file.
    ///
    /// # Errors
    /// No thread can be started.
    pub(super) fn piped() -> Result<Self, Failure> {
        let (sender, pieces) = mpsc::channel(WAITING);
        thread("stdin", move || copy::feed_to(|data| sender.blocking_send(data.to_vec()).is_ok()))?;
        Ok(Self { pieces, typed: false })
    }

    /// From our terminal, as the command's keyboard.
    ///
    /// # Errors
    /// No thread can be started, or our terminal has gone.
    pub(super) fn typed(terminal: Terminal) -> Result<(Self, Session), Failure> {
        let (sender, pieces) = mpsc::channel(WAITING);
        let session = terminal.open(Some(move |typed| sender.blocking_send(typed).is_ok()))?;
        Ok((Self { pieces, typed: true }, session))
    }

    pub(super) const fn is_typed(&self) -> bool {
        self.typed
    }

    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub(super) async fn next(&mut self) -> Next {
        match self.pieces.recv().await {
            Some(data) => Next::Send(data),
            // The detach keys, or a terminal that is gone: others say so.
            None if self.typed => std::future::pending().await,
            None => Next::Close,
        }
    }
}
