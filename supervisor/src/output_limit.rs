//! How much a process may write, and what happens when it writes more: plain values.

use orangery_runtime as runtime;
use serde::{Deserialize, Serialize};

/// How many bytes of output a process may write, both its streams together.
///
/// Of a sandbox it is the limit of each of its processes, for itself: of the main one, and of each further one that has
/// none of its own ([`ExecCommand::output_limit`](crate::ExecCommand::output_limit)), because each has streams, readers and
/// a report of its own.
///
/// Whatever the action, nobody reads more than that: readers get exactly so many bytes, then a gap
/// ([`GapCause::OutputLimit`](crate::stream::GapCause::OutputLimit)). What is written beyond is read away and counted.
/// A durable log gets exactly so many bytes too, and its readers the gap with the end, or before what the next process
/// writes.
///
/// ```
/// use orangery::{OutputAction, OutputLimit, Sandbox};
/// let limit = OutputLimit { bytes: 10 << 20, action: OutputAction::Truncate };
/// let sandbox = Sandbox::builder().output_limit(limit).build()?;
/// # Ok::<(), orangery::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OutputLimit {
    /// At least 1.
    pub bytes: u64,
    /// What happens with the first byte beyond.
    pub action: OutputAction,
}

impl OutputLimit {
    /// What makes no sense.
    pub(crate) fn check(&self) -> Vec<runtime::Error> {
        let mut errors = Vec::new();
        if self.bytes == 0 {
            errors.push(runtime::Error::invalid("output", "a limit of zero allows nothing"));
        }
        match self.action {
            OutputAction::Signal(signal) if !(1..=64).contains(&signal) => {
                errors.push(runtime::Error::invalid("output", format!("{signal} is no signal")));
            }
            _ => {}
        }
        errors
    }
}

/// What happens when more is written than may be.
///
/// ```
/// use orangery::OutputAction;
/// assert_eq!(OutputAction::default(), OutputAction::Kill);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OutputAction {
    /// It is killed, a main process with its whole container; [`Cause::Limit`](crate::Cause::Limit).
    #[default]
    Kill,
    /// Nothing: it runs on, and its cause is its own.
    Truncate,
    /// The process gets this signal, once. The limit is the cause then, whatever it makes of the signal.
    Signal(i32),
}
