//! What outlives the process (durable mode): a directory with a lock ([`dir`]), records in it that are whole or not at all
//! ([`file`]), what is written down of a container ([`record`], by [`kept`]), and how it is found again.
//!
//! ```text
//!   spawn ─► create ─► record.json ─► start ─► record.json ─► the caller is answered ─► ... exit ─► report.json ─► told ─► forget
//!            `── killed here: ──'     `── killed here: adopted, if it has come to its start ──'
//!              undone                     or told as it ended
//! ```
//!
//! One record for each container, with its processes; written before it is started and when it was, when a further process was,
//! when its limits or properties change, and when the stop of one of them is begun and goes on. Nothing here decides anything about a container: who has one is its
//! [`life`](crate::container::life), also of an adopted one.

pub(crate) mod adopt;
pub(crate) mod dir;
pub(crate) mod ended;
mod file;
pub(crate) mod form;
mod found;
mod group;
mod input;
pub(crate) mod kept;
#[cfg(any(test, feature = "testing"))]
mod known;
pub(crate) mod logs;
mod record;
mod report;
mod service;
mod side_by_side;

pub(crate) use dir::{StateDir, is_name, understood};
pub(crate) use found::{Found, look};
pub(crate) use group::{GroupRecord, MemberRecord};
pub(crate) use kept::{Kept, unwritten};
#[cfg(any(test, feature = "testing"))]
pub use known::known_records;
pub(crate) use record::{ContainerRecord, ProcessRecord};
pub(crate) use report::Lap;
pub use report::{RecoveryReport, RecoveryTimes, SetAside};
pub(crate) use service::ServiceRecord;

/// Of a container.
const RECORD: &str = "record.json";
/// Of one that has ended.
const REPORT: &str = "report.json";
