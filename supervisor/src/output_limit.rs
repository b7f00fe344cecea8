//! How much a container may write, and what happens when it writes more: plain values.

/// How many bytes of output a container's main process may write, both streams together.
///
/// Whatever the action, nobody reads more than that: readers get exactly so many bytes, then a gap
/// ([`GapCause::OutputLimit`](crate::stream::GapCause::OutputLimit)). What is written beyond is read away and counted.
/// A durable log is not cut: it keeps what is written until the action has its effect, and [`OutputAction::Truncate`] is
/// refused beside one; its own options bound it.
///
/// ```
/// use orangery::{OutputAction, OutputLimit, Sandbox};
/// let limit = OutputLimit { bytes: 10 << 20, action: OutputAction::Truncate };
/// let sandbox = Sandbox::builder().output_limit(limit).build()?;
/// # Ok::<(), orangery::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OutputLimit {
    /// At least 1.
    pub bytes: u64,
    /// What happens with the first byte beyond.
    pub action: OutputAction,
}

/// What happens when more is written than may be.
///
/// ```
/// use orangery::OutputAction;
/// assert_eq!(OutputAction::default(), OutputAction::Kill);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OutputAction {
    /// The container is killed; [`Cause::Limit`](crate::Cause::Limit).
    #[default]
    Kill,
    /// Nothing: it runs on, and its cause is its own.
    Truncate,
    /// The process gets this signal, once. The limit is the cause then, whatever it makes of the signal.
    Signal(i32),
}
