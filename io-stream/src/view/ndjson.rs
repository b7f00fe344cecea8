//! Newline-delimited JSON of ours: loses nothing.
//!
//! One object for each event. A line: `stream`, `line`, `offset`, `end`, `time` (null if not known),
//! `begins`, `ends`, and `text` or, where the bytes are no UTF-8, `base64`. A gap: `gap` with `stream`,
//! `from`, `to`, `cause`. The end: `end` with the totals, the reason, and how the process has ended (`exit`).

use super::line_stream::LineEvent;
use super::lines::Line;
use super::{json, timestamp};
use crate::base64;
use crate::chunk::Source;
use crate::event::{End, EndReason, Gap};
use crate::fate::Fate;

/// Appends `event` as one line.
pub fn write_event(event: &LineEvent, out: &mut Vec<u8>) {
    match event {
        LineEvent::Line(line) => write_line(line, out),
        LineEvent::Gap(gap) => write_gap(gap, out),
        LineEvent::End(end) => write_end(end, out),
        LineEvent::Lagged(cursor) => {
            out.extend_from_slice(b"{\"lagged\":");
            json::push_str(&cursor.to_string(), out);
            out.extend_from_slice(b"}\n");
        }
    }
}

/// Appends `line` as one line.
pub fn write_line(line: &Line, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"stream\":");
    json::push_str(line.source.as_str(), out);
    for (name, number) in [("line", line.line), ("offset", line.offset), ("end", line.end)] {
        push_field(name, number, out);
    }
    out.extend_from_slice(b",\"time\":");
    match line.wall {
        None => out.extend_from_slice(b"null"),
        known => {
            out.push(b'"');
            timestamp::push(known, out);
            out.push(b'"');
        }
    }
    for (name, flag) in [("begins", line.begins), ("ends", line.ends)] {
        push_name(name, out);
        out.extend_from_slice(if flag { b"true" } else { b"false" });
    }
    push_payload(&line.data, out);
    out.extend_from_slice(b"}\n");
}

/// `,"text":` or, where the bytes are no UTF-8, `,"base64":`.
pub(super) fn push_payload(data: &[u8], out: &mut Vec<u8>) {
    match std::str::from_utf8(data) {
        Ok(text) => {
            push_name("text", out);
            json::push_str(text, out);
        }
        Err(_) => {
            push_name("base64", out);
            out.push(b'"');
            base64::push_standard(data, out);
            out.push(b'"');
        }
    }
}

/// Appends `gap` as one line.
pub fn write_gap(gap: &Gap, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"gap\":");
    push_gap(gap, out);
    out.extend_from_slice(b"}\n");
}

/// The object of a gap.
pub(super) fn push_gap(gap: &Gap, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"stream\":");
    json::push_str(gap.source.as_str(), out);
    push_field("from", gap.from, out);
    push_field("to", gap.to, out);
    push_name("cause", out);
    json::push_str(gap.cause.as_str(), out);
    out.push(b'}');
}

fn write_end(end: &End, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"end\":");
    push_end(end, out);
    out.extend_from_slice(b"}\n");
}

/// The object of an end.
pub(super) fn push_end(end: &End, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"reason\":");
    let reason = match end.reason {
        EndReason::Eof => "eof",
        EndReason::Leaked => "leaked",
        EndReason::Error(_) => "error",
        EndReason::Abandoned => "abandoned",
    };
    json::push_str(reason, out);
    for source in Source::ALL {
        push_field(source.as_str(), end.totals(source).bytes, out);
    }
    push_name("exit", out);
    push_fate(end.fate, out);
    out.push(b'}');
}

/// As a report has it: `{"code":3}`, `{"signal":{"signal":9,"core_dumped":false}}`, and null where it is not known.
fn push_fate(fate: Fate, out: &mut Vec<u8>) {
    let text = match fate {
        Fate::Unknown => "null".into(),
        Fate::Code(code) => format!("{{\"code\":{code}}}"),
        Fate::Signal { signal, core_dumped } => {
            format!("{{\"signal\":{{\"signal\":{signal},\"core_dumped\":{core_dumped}}}}}")
        }
    };
    out.extend_from_slice(text.as_bytes());
}

fn push_name(name: &str, out: &mut Vec<u8>) {
    out.push(b',');
    json::push_str(name, out);
    out.push(b':');
}

pub(super) fn push_field(name: &str, number: u64, out: &mut Vec<u8>) {
    push_name(name, out);
    json::push_number(number, out);
}
