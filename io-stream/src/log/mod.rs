//! Durable logs: a pipe is emptied into files by splice(2), and the files' length is the truth.
//!
//! ```text
//!   stdout ==pipe==splice==> stdout.<offset>.log   .idx (when, in which order)
//!   stderr ==pipe==splice==> stderr.<offset>.log   .idx             ==> LogReader: chunks, gaps, the end
//!                            log.state (identity, what was read away, how it ended)
//! ```
//!
//! - The kernel moves the bytes and the file's position in one step: whenever the writing process is
//!   killed, what is in the log and what is left in the pipe are together everything, once.
//! - A terminal or a socket is no pipe, and splice(2) needs one: its bytes are read and then written. A process that is
//!   killed in between loses one read, 4 KiB of a terminal.
//! - A segment is named by the stream offset of its first byte: rotation and removal never change an
//!   offset, and a [`Cursor`](crate::Cursor) stays valid as long as its bytes are kept.
//! - The index entry is written before the bytes: no byte is without a time.
//! - No room never stops the workload: bytes are read away and counted until there is room again; a new
//!   segment begins then, and readers are told a [`Gap`](crate::Gap) of exact size. A writer that is
//!   killed while it reads away leaves a gap that is at least as large as told.
//! - A reader follows across rotation, removal and the writer's death, in this process or another.
//! - No reader holds anything up: there is no [`Overflow::Block`](crate::Overflow::Block) here. One that is so slow that
//!   retention overtakes it is told a [`Gap`](crate::Gap) of exact size; who must have everything keeps more.
//!
//! One writer at a time: the state file is locked (flock(2)) as long as a [`Log`] lives.
//!
//! Whoever may write into the directory can spoil the log, and no more: symbolic links and what is no regular file are not
//! followed, opened or waited for.
//!
//! ```
//! use std::io::Write;
//! use orangery_io_stream::log::{Log, LogEvent, LogOptions, ReadOptions, log_pump_pair};
//! use orangery_io_stream::{From, PipeReader};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path();
//! let (ours, mut theirs) = std::io::pipe()?;
//! theirs.write_all(b"kept")?;
//! drop(theirs);
//!
//! let log = Log::create(dir, LogOptions::default())?;
//! let stdout = PipeReader::from_fd(ours.into())?;
//! log_pump_pair(Some(stdout), None, log.clone(), std::future::pending(), None).await;
//!
//! let mut reader = log.reader(From::Start, ReadOptions::default())?;
//! let Some(LogEvent::Chunk(chunk)) = reader.next().await? else { panic!() };
//! assert_eq!(chunk.data, "kept");
//! assert!(matches!(reader.next().await?, Some(LogEvent::End(_))));
//! # Ok(())
//! # }
//! ```

mod change;
#[cfg(feature = "zstd")]
mod compress;
#[cfg(feature = "zstd")]
mod compressor;
mod copied;
mod error;
mod event;
mod files;
mod follow;
mod handle;
mod held;
mod index;
mod loss;
mod news;
mod options;
mod position;
mod pump;
mod reader;
mod recorded;
mod recording;
mod retain;
mod segment;
mod state;
mod sync;
mod track;
mod writer;

pub use change::Change;
#[cfg(feature = "zstd")]
pub use compress::compress_closed;
pub use error::{LogError, LogErrorKind};
pub use event::{LogChunk, LogEvent};
pub use handle::{Log, LogMetrics};
pub use held::{Holder, Meanwhile};
pub use options::{LogOptions, ReadOptions, SyncPolicy};
pub use pump::log_pump_pair;
pub use reader::LogReader;
pub use recording::Recording;

pub(crate) use follow::Follow;
