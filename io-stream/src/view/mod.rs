//! Views: lines and log formats over the same bytes, never the storage.
//!
//! Put between a reader and its user; whoever wants other eyes on the same bytes makes another view.
//! They are pure and keep at most one unfinished line of each source; how the bytes were cut into
//! chunks changes nothing in what they give. They hold no descriptor and change no stored byte.
//!
//! ```
//! use orangery_io_stream::view::{LineEvent, LineOptions, json_file};
//! use orangery_io_stream::{EndInfo, Hub, HubOptions, Source, SubscribeOptions};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let hub = Hub::new(HubOptions::default());
//! let mut lines = hub.subscribe(SubscribeOptions::default()).lines(LineOptions::default());
//! hub.publish(Source::Stdout, "one\r\ntw".into()).await;
//! hub.publish(Source::Stdout, "o\n".into()).await;
//! hub.close(EndInfo::default());
//!
//! let mut texts = Vec::new();
//! let mut json = Vec::new();
//! while let Some(event) = lines.next().await {
//!     if let LineEvent::Line(line) = event {
//!         json_file::write_line(&line, &mut json);
//!         texts.push(line.data);
//!     }
//! }
//! assert_eq!(texts, ["one", "two"]);
//! assert!(json.starts_with(br#"{"log":"one\n","stream":"stdout","time":""#));
//! # }
//! ```

mod ansi;
pub mod cri;
mod json;
pub mod json_file;
mod line_stream;
mod lines;
pub mod ndjson;
mod sse;
mod timestamp;

pub use ansi::AnsiStripper;
pub use line_stream::{LineEvent, LineStream};
pub use lines::{CarriageReturn, Line, LineOptions, Lines, Piece};
pub use sse::ServerSentEvents;
pub use timestamp::rfc3339;
