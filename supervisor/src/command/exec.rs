//! A further process in a container that runs.

use std::ffi::OsStr;
use std::future::{Future, IntoFuture};
use std::path::PathBuf;
use std::pin::Pin;

use orangery_io_stream::Subscriber;
use orangery_runtime::cgroup::Limits;
use orangery_runtime::spec::Mount;
use tokio::sync::oneshot;

use super::{Output, Parts};
use crate::admission::Beside;
use crate::blocking;
use crate::container::msg::{Exec, Executed};
use crate::error::Error;
use crate::handle::{ContainerHandle, ProcessHandle};
use crate::output_limit::OutputLimit;

/// A further process in a container that runs: see [`ContainerHandle::command`]. It ends with its container at the
/// latest, and how long its output is waited for after its exit is the sandbox's drain grace.
///
/// ```no_run
/// # async fn f(container: orangery::ContainerHandle) -> Result<(), orangery::Error> {
/// let output = container.command("sh").arg("-c").arg("ls /tmp | wc -l").await?;
/// assert!(output.report.success());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a command does nothing until it is spawned or run"]
pub struct ExecCommand {
    container: ContainerHandle,
    parts: Parts,
    output: Option<OutputLimit>,
}

impl ExecCommand {
    pub(crate) fn new(container: ContainerHandle, program: &OsStr) -> Self {
        Self { container, parts: Parts::new(program), output: None }
    }

    process_setters! {
        timeout: "It is killed this long after its start. What it has started itself lives on with the container."
    }

    /// A mount that this process and its children alone see, made in a mount namespace of their own. The mount point is
    /// made where it is missing and can be; that directory or file the whole container sees.
    ///
    /// For an ordinary user a bind mount is refused ([`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported)): he may not take
    /// files of the host into a container that is there already. A tmpfs is not.
    pub fn mount(mut self, mount: Mount) -> Self {
        self.parts.process.mounts.push(mount);
        self
    }

    /// [`ExecCommand::mount`] of a file or directory of the host, read-only.
    pub fn bind(self, source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        self.mount(Mount::bind(source, target).read_only())
    }

    /// Limits of its own, below the container's, which hold as well: it and its children live in a group of their own, and
    /// its report tells what that group has used. Refused, naming the field, where the container has no cgroup.
    ///
    /// On cgroup v2 the first such process of a container moves those that are there into a leaf, which takes some
    /// milliseconds.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.parts.process.limits = limits;
        self
    }

    /// How much this process may write, in place of the sandbox's limit, which each process of a container has for itself.
    /// What is done when it writes more is done to it alone.
    ///
    /// ```no_run
    /// # async fn f(container: orangery::ContainerHandle) -> Result<(), orangery::Error> {
    /// use orangery::{OutputAction, OutputLimit};
    /// let limit = OutputLimit { bytes: 1 << 10, action: OutputAction::Truncate };
    /// let output = container.command("ps").output_limit(limit).await?;
    /// println!("{} bytes were too many", output.report.stdout.suppressed);
    /// # Ok(()) }
    /// ```
    pub fn output_limit(mut self, limit: OutputLimit) -> Self {
        self.output = Some(limit);
        self
    }

    /// Start it.
    ///
    /// # Errors
    /// [`ErrorKind::State`](crate::ErrorKind::State) when the container has ended or is paused; else as for
    /// [`Command::spawn`](crate::Command::spawn).
    ///
    /// # Cancel safety
    /// Dropping the future kills what was started.
    pub async fn spawn(self) -> Result<ProcessHandle, Error> {
        Ok(self.start(false).await?.0)
    }

    /// [`ExecCommand::spawn`] for programs without a runtime.
    ///
    /// # Errors
    /// As for [`ExecCommand::spawn`].
    pub fn spawn_blocking(self) -> Result<ProcessHandle, Error> {
        blocking::block_on(self.spawn())
    }

    async fn start(self, capture: bool) -> Result<(ProcessHandle, Option<(Subscriber, Subscriber)>), Error> {
        let Self { container, mut parts, output } = self;
        // Whoever runs one to its end goes with us.
        let lasting = !capture;
        if let Some(limit) = output {
            Error::all(limit.check())?;
        }
        parts.ways.check()?;
        if lasting && container.slot().lasting.is_some() {
            Error::all(parts.process.unrecordable())?;
        }
        let log = parts.log.take();
        let terms = std::mem::take(&mut parts.ways).terms(&parts.process, None, output);
        let patience = parts.patience;
        let (mut spec, mut stdin) = parts.finish();
        if let Some(kept) = container.slot().lasting.as_ref().filter(|_| lasting) {
            stdin = kept.input(&mut spec, stdin).await?;
        }
        let permit = container
            .admitted(&spec, Beside { captured: capture, logged: log.is_some(), ..Beside::default() }, patience)
            .await?;
        let (reply, answer) = oneshot::channel();
        container.tell(Exec { spec, terms, capture, log, lasting, permit, reply });
        let Executed { slot, actor, captures } = answer.await.map_err(|_| container.lost())??;
        let slot = slot.take().ok_or_else(Error::lost_request)?;
        let handle = ProcessHandle::new(slot, actor, container.system().clone());
        handle.provide(stdin);
        Ok((handle, captures))
    }

    /// Run it to its end: the one-shot form. Awaiting the command itself does the same.
    ///
    /// # Errors
    /// As for [`ExecCommand::spawn`]. A command that fails, or hits a limit, is no error: see [`Output::report`].
    ///
    /// # Cancel safety
    /// Dropping the future kills the process, not its container.
    pub async fn run(self) -> Result<Output, Error> {
        let most = self.parts.capture;
        let (handle, captures) = self.start(true).await?;
        // Nobody can take it.
        drop(handle.listener());
        let killer = Killer(handle);
        Output::of(captures.ok_or_else(Error::lost_request)?, most, killer.0.wait()).await
    }

    /// [`ExecCommand::run`] for programs without a runtime.
    ///
    /// # Errors
    /// As for [`ExecCommand::run`].
    pub fn run_blocking(self) -> Result<Output, Error> {
        blocking::block_on(self.run())
    }
}

/// Whoever runs a command to its end wants nothing of it any more when they go.
struct Killer(ProcessHandle);

impl Drop for Killer {
    fn drop(&mut self) {
        if !self.0.ended() {
            let _ = self.0.kill();
        }
    }
}

impl IntoFuture for ExecCommand {
    type Output = Result<Output, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<Output, Error>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
