//! The format of Docker's json-file log driver.
//!
//! One JSON object for each line or part: `log` (with its newline, where the line ends), `stream`,
//! `time`. Bytes that are no UTF-8 become U+FFFD, as with Docker.

use super::lines::Line;
use super::{json, timestamp};

/// Appends `line` as one line of a json-file log.
///
/// A time that is not known is written as `0001-01-01T00:00:00Z`.
pub fn write_line(line: &Line, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"log\":");
    json::push_lossy(&line.data, line.ends, out);
    out.extend_from_slice(b",\"stream\":");
    json::push_str(line.source.as_str(), out);
    out.extend_from_slice(b",\"time\":\"");
    timestamp::push(line.wall, out);
    out.extend_from_slice(b"\"}\n");
}
