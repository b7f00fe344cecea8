//! What a process of a container writes, to our own streams: by a thread, because those may block.

use std::io;

use bytes::Bytes;
use orangery::Source;
use tokio::sync::{mpsc, oneshot};

use crate::copy::write_all;
use crate::errors::Failure;
use crate::passthrough::thread;

/// Pieces that wait; whoever has more waits.
const WAITING: usize = 16;

/// The way to that thread.
#[derive(Debug)]
pub(super) struct Output {
    /// `None`: nobody reads us any more.
    pieces: Option<mpsc::Sender<(Source, Bytes)>>,
    ended: oneshot::Receiver<io::Result<()>>,
}

impl Output {
    /// # Errors
    /// No thread can be started.
    pub(super) fn start() -> Result<Self, Failure> {
        let (pieces, mut waiting) = mpsc::channel::<(Source, Bytes)>(WAITING);
        let (end, ended) = oneshot::channel();
        thread("output", move || {
            let mut written = Ok(());
            while let (Ok(()), Some((source, data))) = (&written, waiting.blocking_recv()) {
                written = write_all(source, &data);
            }
            // Whoever asked may be gone.
            let _ = end.send(written);
        })?;
        Ok(Self { pieces: Some(pieces), ended })
    }

    /// Write it; what nobody reads any more is dropped. `false`: that was found out now.
    pub(super) async fn write(&mut self, source: Source, data: &[u8]) -> bool {
        let Some(pieces) = &self.pieces else { return true };
        if pieces.send((source, Bytes::copy_from_slice(data))).await.is_ok() {
            return true;
        }
        self.pieces = None;
        false
    }

    /// Until everything is written.
    ///
    /// # Errors
    /// Not all of it could be. Nobody who reads it is none.
    pub(super) async fn end(mut self) -> Result<(), Failure> {
        self.pieces = None;
        match self.ended.await {
            Ok(Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::system("cannot write the output", &error))
            }
            _ => Ok(()),
        }
    }
}
