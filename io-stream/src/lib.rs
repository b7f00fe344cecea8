//! Bytes out of one descriptor to any number of readers.
//!
//! ```text
//!   workload                    this crate                                     readers
//!
//!   stdout ==pipe==> PipeReader --.                               .--> Subscriber (its own queue)
//!                                  > pump_pair --Bytes--> Hub ----+--> Subscriber .bytes()
//!   stderr ==pipe==> PipeReader --'                        |      '--> Subscriber .reader()
//!                                                         ring: replay history
//!   stdin  <==pipe== StdinWriter <------------------------------------ whoever writes
//! ```
//!
//! - The **pump** reads a pipe as long as somebody may write into it and hands [`Bytes`](bytes::Bytes)
//!   to the hub. It reads on when nobody listens: a reader's absence never blocks the workload.
//! - The **hub** gives each chunk its position (offset in its stream, one sequence over both, two
//!   clocks), keeps the newest ones as history, and puts it into the queue of every subscriber. The
//!   payload is shared, never copied for a reader.
//! - A **subscriber** takes events out: [`Event::Chunk`], [`Event::Gap`], and one last [`Event::End`].
//!   Dropping it is leaving.
//!
//! This crate knows no containers, no processes and no actors. It spawns no task and no thread, starts
//! no process, and writes no file but those it is asked for. Subscribers work on any executor or none; pumps and pipe ends need a
//! tokio runtime.
//!
//! # What a slow reader sees
//!
//! Each subscriber has a bounded queue and chooses what happens when it is full ([`Overflow`]); its
//! choice changes nothing for the others, except that [`Overflow::Block`] makes them wait too. What it
//! loses it is told, at the place where it is missing: received bytes and gaps together are the stream.
//!
//! ```
//! use orangery_io_stream::{EndInfo, Event, Hub, HubOptions, Source, SubscribeOptions};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let hub = Hub::new(HubOptions::default());
//! let mut slow = hub.subscribe(SubscribeOptions {
//!     queue_bytes: 8,
//!     ..SubscribeOptions::default() // drops the oldest
//! });
//! for line in ["first\n", "second\n", "third\n"] {
//!     hub.publish(Source::Stdout, line.into()).await;
//! }
//! hub.close(EndInfo::default());
//!
//! let Some(Event::Gap(gap)) = slow.recv().await else { panic!() };
//! assert_eq!((gap.from, gap.to), (0, 13)); // "first\nsecond\n"
//! let Some(Event::Chunk(chunk)) = slow.recv().await else { panic!() };
//! assert_eq!((chunk.offset, &chunk.data[..]), (13, &b"third\n"[..]));
//! let Some(Event::End(end)) = slow.recv().await else { panic!() };
//! assert_eq!((end.stdout.bytes, end.stdout.dropped), (19, 13));
//! # }
//! ```
//!
//! | policy | the slow reader sees | the workload |
//! |---|---|---|
//! | [`DropOldest`](Overflow::DropOldest) | a [`Gap`], then the newest bytes | untouched |
//! | [`DropNewest`](Overflow::DropNewest) | what it had queued, then a [`Gap`] | untouched |
//! | [`Disconnect`](Overflow::Disconnect) | what it had queued, then [`Event::Lagged`] | untouched |
//! | [`Spill`](Overflow::Spill) | everything, from disk; a [`Gap`] when that is full | untouched |
//! | [`Block`](Overflow::Block) | everything; after the budget what its [`Fallback`] says | waits up to the budget |
//!
//! A [`RateLimit`] in front of any of them lets so many bytes a second pass and tells what it suppressed
//! as a [`Gap`]. [`Hub::metrics`] counts all of it.
//!
//! Whoever reads, [`HubOptions::output_limit`] bounds what there is to read, and [`Capture`] keeps the first and the last
//! bytes of an output of any length.
//!
//! # Lines and formats
//!
//! [`view`] makes lines, plain text without terminal sequences, and the log formats of CRI, Docker and
//! newline-delimited JSON out of the same bytes.
//!
//! # Logs
//!
//! [`log`] empties pipes into files instead, by splice(2), and reads them back from any place.
//!
//! # Terminals and raw descriptors
//!
//! [`Pty`] reads, sizes and hangs up a pseudo-terminal through the same pumps. [`HandOver`] splices a pipe to a
//! socket or file where nobody else needs the bytes. [`set_pipe_size`] says what it got; a pump has the pipe of a stream
//! with many readers made larger, as long as that spends no more than a quarter of the user's pipe pages.
//!
//! # Order
//!
//! The order is that of the reads. Two pipes cannot tell in which order their bytes were written.
//!
//! # Ends
//!
//! [`EndReason::Eof`] is said only when every writer is gone. A process that is gone while something it
//! started still holds its pipe ends as [`EndReason::Leaked`] after a grace; a pump that dies ends as
//! [`EndReason::Abandoned`]. A subscriber that comes after the end gets the history and the same end.
//!
//! The end of the bytes and the end of the process are two facts. [`Event::End`] carries both ([`End::fate`]) and so comes with the
//! later one; who reads plain bytes ([`Subscriber::bytes`]) has the end with the last byte.

// Elsewhere it is empty, and the build script of `orangery-runtime` says the one thing there is to say.
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

mod base64;
mod byte_stream;
mod capture;
mod chunk;
mod cursor;
mod error;
mod event;
mod fate;
mod from;
mod hand_over;
mod hub;
mod intercept;
mod keyboard;
pub mod log;
mod metrics;
mod options;
mod overflow;
mod pipe;
mod pipe_size;
mod pty;
mod pump;
mod queue;
mod rate;
mod read_buffer;
mod ring;
mod sealed;
mod slot;
mod spill;
mod stdin;
mod subscriber;
mod sync;
pub mod view;

pub use byte_stream::{ByteReader, ByteStream};
pub use capture::{Capture, Captured, DEFAULT_CAPTURE};
pub use chunk::{Chunk, Generation, Source, Sources, Totals};
pub use cursor::{Cursor, CursorError, Gone, GoneReason, StreamId};
pub use error::{StreamError, StreamErrorKind};
pub use event::{End, EndReason, Event, Gap, GapCause};
pub use fate::Fate;
pub use from::From;
pub use hand_over::{HandOver, HandOverEnd};
pub use hub::Hub;
pub use intercept::{Answer, Interceptor, Interference, Passage};
pub use keyboard::PtyWriter;
pub use metrics::{Metrics, SubscriberMetrics};
pub use options::{EndInfo, HubOptions, SubscribeOptions};
pub use overflow::{Fallback, Overflow};
pub use pipe::{PipeReader, PipeWriter};
pub use pipe_size::{DEFAULT_PIPE_SIZE, PipeBudget, PipeRefusal, PipeSize, pipe_size, set_pipe_size};
pub use pty::{Pty, PtySize};
pub use pump::{PumpEnd, pump, pump_pair, pump_process};
pub use rate::RateLimit;
pub use sealed::{seal, unseal};
pub use stdin::StdinWriter;
pub use subscriber::{Opening, Subscriber};
