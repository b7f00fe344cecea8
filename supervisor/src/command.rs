//! A command to run in a sandbox: like `std::process::Command`.

#[macro_use]
mod parts;
mod care;
mod exec;
mod template;
mod ways;

use std::ffi::OsStr;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use orangery_io_stream::{Captured, Subscriber};
use serde::{Deserialize, Serialize};

use crate::blocking;
use crate::error::Error;
use crate::handle::ContainerHandle;
use crate::hook::Hook;
use crate::manager::msg::Birth;
use crate::process::slot::CAPTURE_BUDGET;
use crate::report::Report;
use crate::sandbox::Sandbox;
use crate::supervisor::Supervisor;

pub use exec::ExecCommand;
pub(crate) use parts::Parts;
pub(crate) use template::Template;
pub(crate) use ways::Ways;

/// What the command reads.
///
/// ```no_run
/// # async fn f(supervisor: orangery::Supervisor) -> Result<(), orangery::Error> {
/// use orangery::Stdin;
/// let sorted = supervisor.command("sort").stdin(Stdin::Bytes("b\na\n".into())).run().await?;
/// assert_eq!(sorted.stdout.to_vec(), b"a\nb\n");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Stdin {
    /// /dev/null.
    #[default]
    Null,
    /// A pipe: [`ContainerHandle::stdin`]. It is closed when its writer is dropped.
    Piped,
    /// A pipe that stays open when its writer is dropped, so that another may be taken later, also by who attaches then:
    /// only a shutdown of a writer closes it, or the end of the process.
    Kept,
    /// These bytes, then end of file. Unread input is no error. Of what outlives its supervisor
    /// ([`Supervisor::durable`]) this is a file, which needs nobody to write it: the process alone reads it, from wherever it seeks
    /// to, and cannot change it. At a terminal they are typed.
    Bytes(#[serde(with = "crate::recovery::form::input")] Bytes),
}

/// A command and the sandbox that it runs in.
///
/// ```no_run
/// # async fn f() -> Result<(), orangery::Error> {
/// let output = orangery::run("sh").arg("-c").arg("echo hello").await?;
/// assert_eq!(output.stdout.to_vec(), b"hello\n");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a command does nothing until it is spawned or run"]
pub struct Command {
    supervisor: Result<Supervisor, Error>,
    sandbox: Sandbox,
    parts: Parts,
}

/// What [`Command::run`] gives: the captured output and the report.
///
/// ```no_run
/// # async fn f(supervisor: orangery::Supervisor) -> Result<(), orangery::Error> {
/// let output: orangery::Output = supervisor.command("ls").run().await?;
/// println!("{} bytes, then {:?}", output.stdout.to_vec().len(), output.report.exit);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Output {
    /// Standard output: head and tail, at most 1 MiB unless told otherwise.
    pub stdout: Captured,
    /// Standard error.
    pub stderr: Captured,
    /// How it ended.
    pub report: Report,
}

impl Output {
    async fn of(
        (stdout, stderr): (Subscriber, Subscriber),
        most: usize,
        report: impl Future<Output = Result<Arc<Report>, Error>>,
    ) -> Result<Self, Error> {
        let (stdout, stderr, report) =
            futures_util::future::join3(stdout.collect(most), stderr.collect(most), report).await;
        Ok(Self { stdout, stderr, report: Report::clone(&*report?) })
    }
}

impl Command {
    pub(crate) fn new(supervisor: Result<Supervisor, Error>, program: &OsStr) -> Self {
        Self { supervisor, sandbox: Sandbox::default(), parts: Parts::new(program) }
    }

    /// The sandbox to run in. Default: `Sandbox::default()`.
    pub fn sandbox(mut self, sandbox: &Sandbox) -> Self {
        self.sandbox = sandbox.clone();
        self
    }

    /// The id of the container, in place of the sandbox's.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.sandbox = self.sandbox.with_id(id);
        self
    }

    /// How long to wait for the end of the output after the exit, in place of what the sandbox says
    /// ([`SandboxBuilder::drain_grace`](crate::SandboxBuilder::drain_grace)).
    pub fn drain_grace(mut self, grace: Option<Duration>) -> Self {
        self.sandbox = self.sandbox.with_drain_grace(grace);
        self
    }

    process_setters! {
        timeout: "The whole container is killed this long after the start; overrides the sandbox's wall limit."
    }

    /// A command that runs in the container before the first signal of a stop: to take a server out of its balancer, to
    /// have it save. The ladder begins when it has ended, or at its deadline; it is skipped by a kill, and by whatever else
    /// is no stop. That it fails or comes to its deadline holds up nothing. What became of it is
    /// [`Report::pre_stop`](crate::Report::pre_stop), and an event when it ends.
    ///
    /// ```no_run
    /// # async fn f(supervisor: orangery::Supervisor) -> Result<(), orangery::Error> {
    /// use orangery::Hook;
    /// let server = supervisor.command("server").pre_stop(Hook::new("drain").arg("--now")).spawn().await?;
    /// server.stop_gently().await?;
    /// println!("{:?}", server.wait().await?.pre_stop);
    /// # Ok(()) }
    /// ```
    pub fn pre_stop(mut self, hook: Hook) -> Self {
        self.parts.ways.hooks.pre_stop = Some(hook);
        self
    }

    /// A command that runs in the container after its main process has ended, however it has, and before anything of it is
    /// removed: its files and mounts are there, and so is what the main process has left running. It finds the exit as
    /// `ORANGERY_EXIT_CODE` or `ORANGERY_EXIT_SIGNAL` in its environment. A kill, by whomever, ends the whole container, and
    /// so skips it. What became of it is [`Report::post_stop`](crate::Report::post_stop), for which the report waits, and
    /// an event. Refused for a sandbox without an init ([`SandboxBuilder::init`](crate::SandboxBuilder::init)), which ends
    /// with its command.
    pub fn post_stop(mut self, hook: Hook) -> Self {
        self.parts.ways.hooks.post_stop = Some(hook);
        self
    }

    /// Start it.
    ///
    /// # Errors
    /// Every refusal of the description, or the step of the creation that failed; nothing is left behind.
    ///
    /// # Cancel safety
    /// Dropping the future at any await undoes everything.
    pub async fn spawn(self) -> Result<ContainerHandle, Error> {
        self.start(None, Birth { lasting: true, ..Birth::default() }).await
    }

    /// [`Command::spawn`], in the place of one of the same id that has ended and is deleted: its reports, its events and its
    /// cursors have this generation, as an incarnation of a service has its own. The first one is 1.
    ///
    /// # Errors
    /// As for [`Command::spawn`]; [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for 0.
    ///
    /// # Cancel safety
    /// As for [`Command::spawn`].
    pub async fn spawn_again(self, generation: u32) -> Result<ContainerHandle, Error> {
        if generation == 0 {
            return Err(Error::invalid("generation", "the first one is 1"));
        }
        self.start(None, Birth { generation, lasting: true, ..Birth::default() }).await
    }

    /// [`Command::spawn`], with readers of standard output and standard error that are there before the first byte and lose
    /// none: one that does not read holds the command up, for as long as it is kept.
    ///
    /// # Errors
    /// As for [`Command::spawn`].
    ///
    /// # Cancel safety
    /// As for [`Command::spawn`].
    pub async fn spawn_with_output(self) -> Result<(ContainerHandle, Subscriber, Subscriber), Error> {
        let birth = Birth { lasting: true, ..Birth::default() };
        let handle = self.start(Some(Duration::MAX), birth).await?;
        let (stdout, stderr) = handle.captures().ok_or_else(Error::lost_request)?;
        Ok((handle, stdout, stderr))
    }

    async fn start(self, capture: Option<Duration>, birth: Birth) -> Result<ContainerHandle, Error> {
        let Self { supervisor, sandbox, parts } = self;
        let (supervisor, patience) = (supervisor?, parts.patience);
        let template = Template { sandbox, parts };
        let template = if birth.lasting { supervisor.lasting(template)? } else { template };
        template.start(&supervisor, capture, birth, patience).await
    }

    /// Run it to its end: the one-shot form.
    ///
    /// # Errors
    /// As for [`Command::spawn`]. A command that fails, or hits a limit, is no error: see [`Output::report`].
    ///
    /// # Cancel safety
    /// Dropping the future kills and removes the container.
    pub async fn run(self) -> Result<Output, Error> {
        let capture = self.parts.capture;
        let handle = self.start(Some(CAPTURE_BUDGET), Birth::default()).await?;
        // Nobody can take it.
        drop(handle.listener());
        let (stdout, stderr) = handle.captures().ok_or_else(Error::lost_request)?;
        Output::of((stdout, stderr), capture, handle.wait()).await
    }

    /// [`Command::run`] for programs without a runtime; may be called inside one too, and blocks its thread.
    ///
    /// # Errors
    /// As for [`Command::run`].
    pub fn run_blocking(self) -> Result<Output, Error> {
        blocking::block_on(self.run())
    }

    /// [`Command::spawn`] for programs without a runtime.
    ///
    /// # Errors
    /// As for [`Command::spawn`].
    pub fn spawn_blocking(self) -> Result<ContainerHandle, Error> {
        blocking::block_on(self.spawn())
    }
}

impl IntoFuture for Command {
    type Output = Result<Output, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<Output, Error>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// A bundle as a sandbox and the command in it.
#[cfg(feature = "oci")]
impl Supervisor {
    /// The command of an OCI bundle, in its sandbox, by the bundle's `config.json`.
    ///
    /// # Errors
    /// The file cannot be read or is not valid; every field that is not supported yet, at once.
    pub fn bundle(&self, bundle: impl AsRef<std::path::Path>) -> Result<Command, Error> {
        let (spec, process) = orangery_runtime::spec::oci::read(bundle.as_ref())?;
        let mut command = Command::new(Ok(self.clone()), OsStr::new(""));
        command.sandbox = Sandbox::from_spec(spec);
        command.parts.process = process;
        Ok(command)
    }
}
