//! The log format of the Kubernetes container runtime interface.
//!
//! One line of text for each line or part: time, stream, tag, content. The tag is `F` where the line
//! ends and `P` where it does not; the kubelet joins parts up to the next `F`. A newline cannot be in
//! the content, so any other bytes survive.

use super::lines::Line;
use super::timestamp;

/// Appends `line` as one line of a CRI log.
///
/// A time that is not known is written as `0001-01-01T00:00:00Z`.
///
/// ```
/// use orangery_io_stream::view::{Lines, LineOptions, Piece, cri};
/// use orangery_io_stream::Source;
///
/// let mut lines = Lines::new(LineOptions::default());
/// let mut piece = Piece { source: Source::Stderr, offset: 0, wall: None, data: "oops\n".into() };
/// let mut out = Vec::new();
/// while let Some(line) = lines.next_from(&mut piece) {
///     cri::write_line(&line, &mut out);
/// }
/// assert_eq!(out, b"0001-01-01T00:00:00Z stderr F oops\n");
/// ```
pub fn write_line(line: &Line, out: &mut Vec<u8>) {
    timestamp::push(line.wall, out);
    out.push(b' ');
    out.extend_from_slice(line.source.as_str().as_bytes());
    out.extend_from_slice(if line.ends { b" F " } else { b" P " });
    out.extend_from_slice(&line.data);
    out.push(b'\n');
}
