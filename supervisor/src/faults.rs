//! Fault points: one mechanism for every way in which a test makes us fail.
//!
//! Two ways to use them. A **plan** (`Plan`, with the feature `faults`) is data: named faults with targets, triggers and a
//! seed; `Supervisor::inject` arms it on a supervisor that runs and gives a handle with whose end everything is reverted.
//! `docs/faults.md` has its table. A **policy** ([`FaultPolicy`]) is code that is asked at each single point, for tests of
//! this library itself.
//!
//! # Sites
//!
//! A [`Site`] is asked about each time it is passed; the answer comes from the supervisor's own [`FaultPolicy`]
//! (`SupervisorBuilder::fault_policy`, feature `faults`), so that two supervisors of one test process do not see each
//! other. Without a policy the question costs one branch.
//!
//! What each answer means. What stands nowhere in a row makes no sense there: it is ignored, and said once in the log.
//!
//! | site | Delay | Errno | Panic | Drop | Override |
//! |---|---|---|---|---|---|
//! | [`PlanStep`](Site::PlanStep), [`ProcessStep`](Site::ProcessStep) | | the step fails in the child, with EINVAL whatever the number | | | |
//! | [`Stage`](Site::Stage) | | fails with this, and everything is undone | | | |
//! | [`StartGate`](Site::StartGate) | starts later | `Creation` with this, and everything is undone | of the task that sees the container through: the request is lost, everything is undone | | |
//! | [`Exec`](Site::Exec) | starts later | `Creation` with this | the request is lost | | |
//! | [`ReportDelivery`](Site::ReportDelivery) | told later | | of that task: another report says what was known, the container is removed | | the report's exit is this code, its cause [`Injected`](crate::Cause::Injected); `wait_exit` tells the true one |
//! | [`PumpRead`](Site::PumpRead) | the bytes wait, and what is behind them | the read fails and the stream ends as failed | of that task: killed, the exit is lost | the bytes are lost, a gap says so ([`GapCause::Injected`](crate::stream::GapCause::Injected)) | |
//! | [`PumpWrite`](Site::PumpWrite) | as above | | as above | as above | |
//! | [`Stdin`](Site::Stdin) | the write waits | the write fails | | the bytes are lost, the writer is told that they were written | |
//! | [`ManagerMessage`](Site::ManagerMessage), [`ServiceMessage`](Site::ServiceMessage), [`GroupMessage`](Site::GroupMessage), [`ContainerMessage`](Site::ContainerMessage), [`ProcessMessage`](Site::ProcessMessage) | handled later, what comes meanwhile before it; lost if the actor panics first | | of the actor, which goes on: the message in hand is lost | a request is lost, its caller is told; news (`gone`, `service gone`, `news`, `close`, `removed`, `prepared`, `exited`) is not lost | |
//! | [`Probe`](Site::Probe) | asked later | the attempt fails with this | | there is no answer | 0: it succeeds, else it fails, and nobody is asked |
//! | [`Notification`](Site::Notification) | heard later, and what is behind it | | | it is lost | |
//! | [`Admission`](Site::Admission) | | `Exhausted` with this | | `Exhausted` | |
//! | [`Follow`](Site::Follow) | | | | who follows does not get its output ([`GoneWhy::Injected`](crate::follow::GoneWhy::Injected)) | |
//! | [`Pool`](Site::Pool) | later | `make`: `Creation` with this | of the pool's task: `make` is a failed attempt, otherwise another task goes on where it stood | | |
//! | [`Log`](Site::Log) | the bytes wait in their pipe | the write fails with this: the segment is closed, bytes are read away and counted until the log is tried again | of the log's pump: its readers are told an abandoned end | | |
//! | [`Record`](Site::Record) | | | | | |
//!
//! The bytes of a process with a log ([`Command::log`](crate::Command::log)) pass [`PumpRead`](Site::PumpRead) and then
//! [`Log`](Site::Log), before they are taken from the pipe. At the first, `Drop` is a log that takes none of them (a gap, `lost`
//! in the report), and a panic is that of the log's pump, whose readers are told an abandoned end. `Log` is passed once for each
//! write of either stream: the Nth fails with ENOSPC where the policy answers so for a `count` of N - 1.
//!
//! A delay is waited for in the supervisor's own time and holds up nobody else.

mod armed;
mod held;
#[cfg(any(test, feature = "faults"))]
mod inject;
#[cfg(not(any(test, feature = "faults")))]
#[path = "faults/inject/off.rs"]
mod inject;
mod mailbox;
mod messages;
#[cfg(any(test, feature = "faults"))]
mod plan;
mod step;
mod streams;

use std::collections::BTreeMap;
use std::time::Duration;

use orangery_io_stream::Source;
use orangery_runtime::native::Point;

pub(crate) use armed::Faults;
pub(crate) use inject::Plans;
#[cfg(any(test, feature = "faults"))]
pub use inject::{FaultEntry, FaultReport, FaultStep, Injection};
pub(crate) use mailbox::Mailbox;
#[cfg(any(test, feature = "faults"))]
pub use plan::{FaultKind, Pick, Plan, PlanOf, PlannedFault, SEED_VARIABLE, Target, Trigger};
pub use step::Step;

/// The places that can be made to fail. The list is closed and only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Site {
    /// Step n of a container's plan, in its first process. All steps are asked about before the plan is sent; the first
    /// that shall fail does.
    PlanStep(u16),
    /// Step n of the plan of a process, the main one's too, as for [`Site::PlanStep`].
    ProcessStep(u16),
    /// A stage of a creation or a start has done its work.
    Stage(Point),
    /// The main process is about to be started.
    StartGate,
    /// A further process is about to be started.
    Exec,
    /// A report is about to be published.
    ReportDelivery,
    /// Bytes of this stream were read from its pipe.
    PumpRead(Source),
    /// Bytes of this stream are about to be given to its readers.
    PumpWrite(Source),
    /// Bytes are about to be written to a standard input.
    Stdin,
    /// The manager has a message of this name: `create`, `gone`, `list`, `find`, `supervise`, `service gone`, `find service`,
    /// `list services`, `shut down`.
    ManagerMessage(&'static str),
    /// A service's actor has a message of this name: `start`, `stop`, `news`, `close`.
    ServiceMessage(&'static str),
    /// A group's actor has a message of this name: `start`, `stop`, `news`, `close`. Its name, below those of the groups that it is
    /// in, stands where a container's id does.
    GroupMessage(&'static str),
    /// A container actor has a message of this name: `exec`, `pause`, `socket`, `update`, `stats`, `removed`.
    ContainerMessage(&'static str),
    /// A process actor has a message of this name: `signal`, `stop`, `prepared`, `exited`.
    ProcessMessage(&'static str),
    /// A command or a connection is about to be tried as a probe.
    Probe,
    /// A notification (sd_notify) has come.
    Notification,
    /// A container is about to be admitted.
    Admission,
    /// A process was started and is about to be given to those who [follow](crate::follow) it.
    Follow,
    /// A pool's task is about to do this with a sandbox: `make`, `watch`.
    Pool(&'static str),
    /// A durable supervisor has done this for good. Nothing can be answered: it is where a test's process is killed.
    Record(Step),
    /// A durable log is about to take bytes.
    Log,
}

/// What happens at a site; see the [table](self).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Nothing.
    #[default]
    Continue,
    /// It happens this much later.
    Delay(Duration),
    /// It fails with this error number.
    Errno(i32),
    /// Whoever does it panics.
    Panic,
    /// What is in hand is lost.
    Drop,
    /// This value stands in the place of the true one.
    Override(i32),
}

/// A site that is being passed, by whom, and how often that was so before.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct FaultPoint<'a> {
    /// The site.
    pub site: Site,
    /// The container's id; empty where it is about none or about all.
    pub container: &'a str,
    /// The container's labels; empty where it is about none.
    pub labels: &'a BTreeMap<String, String>,
    /// The container's incarnation, counted from 1; 0 where it is about none.
    pub generation: u32,
    /// How often this site was passed before for this container (or, where there is none, by this supervisor).
    pub count: u64,
}

/// Decides at each site.
///
/// Asked on the thread that passes the site, often one of the supervisor's own: it must not block.
///
/// ```
/// use orangery::faults::{Fault, FaultPoint, FaultPolicy, Site};
///
/// /// The second exec of each container of the team `a` fails with ENOMEM.
/// struct SecondExec;
///
/// impl FaultPolicy for SecondExec {
///     fn decide(&self, at: &FaultPoint<'_>) -> Fault {
///         let ours = at.labels.get("team").is_some_and(|team| team == "a");
///         if at.site == Site::Exec && ours && at.count == 1 { Fault::Errno(12) } else { Fault::Continue }
///     }
/// }
/// ```
pub trait FaultPolicy: Send + Sync + 'static {
    /// What happens at this point.
    fn decide(&self, at: &FaultPoint<'_>) -> Fault;
}

/// Messages that nobody waits for: an actor that panics over one looks for it again.
const NEWS: [&str; 7] = ["gone", "service gone", "news", "close", "removed", "prepared", "exited"];

impl Site {
    /// Whether `fault` means anything here: the table above.
    fn takes(self, fault: Fault) -> bool {
        use Fault::{Continue, Delay, Drop, Errno, Override, Panic};
        match (self, fault) {
            (_, Continue) => true,
            (Self::PlanStep(_) | Self::ProcessStep(_) | Self::Stage(_), fault) => matches!(fault, Errno(_)),
            (Self::StartGate | Self::Exec, fault) => matches!(fault, Delay(_) | Errno(_) | Panic),
            (Self::ReportDelivery, fault) => matches!(fault, Delay(_) | Panic | Override(_)),
            (Self::PumpRead(_), fault) => matches!(fault, Delay(_) | Errno(_) | Panic | Drop),
            (Self::PumpWrite(_), fault) => matches!(fault, Delay(_) | Panic | Drop),
            (Self::Stdin, fault) => matches!(fault, Delay(_) | Errno(_) | Drop),
            (
                Self::ManagerMessage(name)
                | Self::ServiceMessage(name)
                | Self::GroupMessage(name)
                | Self::ContainerMessage(name)
                | Self::ProcessMessage(name),
                fault,
            ) => matches!(fault, Delay(_) | Panic) || fault == Drop && !NEWS.contains(&name),
            (Self::Probe, fault) => matches!(fault, Delay(_) | Errno(_) | Drop | Override(_)),
            (Self::Notification, fault) => matches!(fault, Delay(_) | Drop),
            (Self::Admission, fault) => matches!(fault, Errno(_) | Drop),
            (Self::Follow, fault) => matches!(fault, Drop),
            (Self::Pool(name), fault) => {
                matches!(fault, Delay(_) | Panic) || matches!(fault, Errno(_)) && name == "make"
            }
            (Self::Log, fault) => matches!(fault, Delay(_) | Errno(_) | Panic),
            (Self::Record(_), _) => false,
        }
    }
}

#[cfg(test)]
mod tests;
