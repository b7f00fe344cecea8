//! One event: when, about whom, what, why.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Kind;
use crate::ids::ProcessId;
use crate::report::Cause;

/// Version of the schema of [`Event`].
pub const SCHEMA: u32 = 1;

/// Something that has happened. Made once and shared by all readers.
///
/// In JSON one object; readers skip fields that they do not know, and fields that are about nothing are missing.
///
/// ```
/// use orangery::events::{Event, Kind};
/// let line = r#"{"schema":1,"seq":7,"at_ms":1700000000000,"mono_ns":5,"container":"job-7","labels":{"tenant":"a"},
///     "process":0,"generation":1,"kind":"process_exited","exit":{"code":3}}"#;
/// let event: Event = serde_json::from_str(line).unwrap();
/// assert_eq!((event.container.as_deref(), event.kind.name()), (Some("job-7"), "process_exited"));
/// let newer = line.replace("process_exited", "network_attached");
/// assert_eq!(serde_json::from_str::<Event>(&newer).unwrap().kind, Kind::Unknown);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Event {
    /// Version of this schema: 1.
    pub schema: u32,
    /// Its number in the feed, from 0 without a gap.
    pub seq: u64,
    /// When, in milliseconds since 1970, by a clock that may be set.
    pub at_ms: u64,
    /// When, by CLOCK_MONOTONIC in nanoseconds: later events of a feed never have an earlier time.
    pub mono_ns: u64,
    /// The id of the container that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Arc<str>>,
    /// The labels of that container.
    #[serde(default, skip_serializing_if = "labels_are_none")]
    pub labels: Arc<BTreeMap<String, String>>,
    /// The process of that container that it is about; 0 is the main one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessId>,
    /// Which incarnation of the container, from 1; 0 when it is about none.
    pub generation: u32,
    /// Why, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// What.
    #[serde(flatten)]
    pub kind: Kind,
}

fn labels_are_none(labels: &Arc<BTreeMap<String, String>>) -> bool {
    labels.is_empty()
}
