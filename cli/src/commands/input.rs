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

    /// The next piece; `None`: there is no more, or, of what is typed, nobody types any more.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub(super) async fn next(&mut self) -> Option<Vec<u8>> {
        self.pieces.recv().await
    }
}
