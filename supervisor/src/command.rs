//! A command to run in a sandbox: like `std::process::Command`.

use std::ffi::{OsStr, OsString};
use std::future::{Future, IntoFuture};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use orangery_io_stream::Captured;
use orangery_runtime::ProcessSpec;
use orangery_runtime::spec::{Caps, Rlimit, Seccomp, Stdio, User};

use crate::blocking;
use crate::error::Error;
use crate::handle::ContainerHandle;
use crate::report::Report;
use crate::sandbox::Sandbox;
use crate::supervisor::Supervisor;

/// PATH of a command, unless it is given.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the command reads.
///
/// ```no_run
/// # async fn f(supervisor: orangery::Supervisor) -> Result<(), orangery::Error> {
/// use orangery::Stdin;
/// let sorted = supervisor.command("sort").stdin(Stdin::Bytes("b\na\n".into())).run().await?;
/// assert_eq!(sorted.stdout.to_vec(), b"a\nb\n");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default)]
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
    /// These bytes, then end of file. Unread input is no error.
    Bytes(Bytes),
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
    process: ProcessSpec,
    stdin: Stdin,
    wall: Option<Duration>,
    gentle: Option<(i32, Duration)>,
    capture: usize,
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

/// A command with the default environment: PATH, HOME, TERM and LANG, and nothing of ours.
pub(crate) fn process(program: &OsStr) -> ProcessSpec {
    let mut process = ProcessSpec::default();
    process.argv = vec![program.to_os_string()];
    process.env = [("PATH", PATH), ("HOME", "/root"), ("TERM", "xterm"), ("LANG", "C.UTF-8")]
        .into_iter()
        .map(|(key, value)| (key.into(), value.into()))
        .collect();
    process
}

/// Set a variable, in place of one of the same name.
fn set_env(process: &mut ProcessSpec, key: OsString, value: OsString) {
    process.env.retain(|(have, _)| *have != key);
    process.env.push((key, value));
}

impl Command {
    pub(crate) fn new(supervisor: Result<Supervisor, Error>, program: &OsStr) -> Self {
        Self {
            supervisor,
            sandbox: Sandbox::default(),
            process: process(program),
            stdin: Stdin::Null,
            wall: None,
            gentle: None,
            capture: orangery_io_stream::DEFAULT_CAPTURE,
        }
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

    /// One more argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.process.argv.push(arg.as_ref().to_os_string());
        self
    }

    /// More arguments.
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.process.argv.extend(args.into_iter().map(|arg| arg.as_ref().to_os_string()));
        self
    }

    /// An environment variable.
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        set_env(&mut self.process, key.as_ref().to_os_string(), value.as_ref().to_os_string());
        self
    }

    /// More environment variables.
    pub fn envs<K: AsRef<OsStr>, V: AsRef<OsStr>>(mut self, vars: impl IntoIterator<Item = (K, V)>) -> Self {
        for (key, value) in vars {
            self = self.env(key, value);
        }
        self
    }

    /// Nothing in the environment but what is set afterwards.
    pub fn env_clear(mut self) -> Self {
        self.process.env.clear();
        self
    }

    /// Working directory inside; `/` by default.
    pub fn current_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.process.cwd = Some(dir.into());
        self
    }

    /// Who it runs as; uid 0 of the container by default.
    pub fn user(mut self, user: User) -> Self {
        let root = matches!(&user, User::Root | User::Ids { uid: 0, .. }) || user == User::Name("root".into());
        let home = if root { "/root" } else { "/home/user" };
        if self.process.env.iter().any(|(key, value)| key == "HOME" && value == "/root") {
            set_env(&mut self.process, "HOME".into(), home.into());
        }
        self.process.user = user;
        self
    }

    /// Supplementary groups.
    pub fn groups(mut self, groups: impl IntoIterator<Item = u32>) -> Self {
        self.process.groups.extend(groups);
        self
    }

    /// File mode creation mask.
    pub fn umask(mut self, umask: u32) -> Self {
        self.process.umask = Some(umask);
        self
    }

    /// All five capability sets.
    pub fn caps(mut self, caps: Caps) -> Self {
        self.process.caps = Some(caps);
        self
    }

    /// A resource limit.
    pub fn rlimit(mut self, limit: Rlimit) -> Self {
        self.process.rlimits.push(limit);
        self
    }

    /// System call filter. Default: our profile.
    pub fn seccomp(mut self, seccomp: Seccomp) -> Self {
        self.process.seccomp = seccomp;
        self
    }

    /// Adjustment of the OOM score.
    pub fn oom_score_adj(mut self, score: i32) -> Self {
        self.process.oom_score_adj = Some(score);
        self
    }

    /// What it reads. Default: nothing.
    pub fn stdin(mut self, stdin: Stdin) -> Self {
        self.stdin = stdin;
        self
    }

    /// It reads this descriptor itself; no byte passes through us.
    pub fn stdin_fd(mut self, fd: OwnedFd) -> Self {
        self.process.stdin = Stdio::Fd(Arc::new(fd));
        self
    }

    /// It writes to this descriptor itself.
    pub fn stdout_fd(mut self, fd: OwnedFd) -> Self {
        self.process.stdout = Stdio::Fd(Arc::new(fd));
        self
    }

    /// It writes errors to this descriptor itself.
    pub fn stderr_fd(mut self, fd: OwnedFd) -> Self {
        self.process.stderr = Stdio::Fd(Arc::new(fd));
        self
    }

    /// A further descriptor for it: the first becomes 3, and so on.
    pub fn preserve(mut self, fd: OwnedFd) -> Self {
        self.process.preserved.push(Arc::new(fd));
        self
    }

    /// The whole container is killed this long after the start; overrides the sandbox's wall limit.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.wall = Some(limit);
        self
    }

    /// At the timeout send `signal` first, and kill only after `grace`.
    pub fn timeout_gently(mut self, signal: i32, grace: Duration) -> Self {
        self.gentle = Some((signal, grace));
        self
    }

    /// How many bytes of each stream [`Command::run`] keeps, half of them from the head and half from the tail.
    pub fn capture(mut self, bytes: usize) -> Self {
        self.capture = bytes;
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
        self.start(false).await
    }

    async fn start(self, capture: bool) -> Result<ContainerHandle, Error> {
        let Self { supervisor, sandbox, mut process, stdin, wall, gentle, .. } = self;
        let supervisor = supervisor?;
        for stdio in [&mut process.stdout, &mut process.stderr] {
            if matches!(stdio, Stdio::Null) {
                *stdio = Stdio::Piped;
            }
        }
        if !matches!(stdin, Stdin::Null) {
            process.stdin = Stdio::Piped;
        }
        let handle = supervisor.create(&sandbox, process, wall, gentle, capture).await?;
        handle.process().provide(stdin);
        Ok(handle)
    }

    /// Run it to its end: the one-shot form.
    ///
    /// # Errors
    /// As for [`Command::spawn`]. A command that fails, or hits a limit, is no error: see [`Output::report`].
    ///
    /// # Cancel safety
    /// Dropping the future kills and removes the container.
    pub async fn run(self) -> Result<Output, Error> {
        let capture = self.capture;
        let handle = self.start(true).await?;
        let (stdout, stderr) = handle.captures().ok_or_else(Error::lost_request)?;
        let output = (stdout.collect(capture), stderr.collect(capture), handle.wait());
        let (stdout, stderr, report) = futures_util::future::join3(output.0, output.1, output.2).await;
        Ok(Output { stdout, stderr, report: Report::clone(&*report?) })
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

/// A further process in a container that runs: see [`ContainerHandle::command`].
///
/// ```no_run
/// # async fn f(container: orangery::ContainerHandle) -> Result<(), orangery::Error> {
/// let listing = container.command("ls").arg("/").current_dir("/tmp").spawn().await?;
/// println!("{:?}", listing.stdout().collect(4096).await.to_vec());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a command does nothing until it is spawned"]
pub struct ExecCommand {
    pub(crate) container: ContainerHandle,
    pub(crate) process: ProcessSpec,
    pub(crate) stdin: Stdin,
}

impl ExecCommand {
    /// One more argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.process.argv.push(arg.as_ref().to_os_string());
        self
    }

    /// More arguments.
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.process.argv.extend(args.into_iter().map(|arg| arg.as_ref().to_os_string()));
        self
    }

    /// An environment variable.
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        set_env(&mut self.process, key.as_ref().to_os_string(), value.as_ref().to_os_string());
        self
    }

    /// Working directory inside.
    pub fn current_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.process.cwd = Some(dir.into());
        self
    }

    /// Who it runs as.
    pub fn user(mut self, user: User) -> Self {
        self.process.user = user;
        self
    }

    /// All five capability sets.
    pub fn caps(mut self, caps: Caps) -> Self {
        self.process.caps = Some(caps);
        self
    }

    /// A resource limit.
    pub fn rlimit(mut self, limit: Rlimit) -> Self {
        self.process.rlimits.push(limit);
        self
    }

    /// What it reads.
    pub fn stdin(mut self, stdin: Stdin) -> Self {
        self.stdin = stdin;
        self
    }

    /// Start it.
    ///
    /// # Errors
    /// [`ErrorKind::State`](crate::ErrorKind::State) when the container has ended or is paused; else as for
    /// [`Command::spawn`].
    ///
    /// # Cancel safety
    /// Dropping the future kills what was started.
    pub fn spawn(self) -> impl Future<Output = Result<crate::handle::ProcessHandle, Error>> + Send + 'static {
        self.container.clone().exec(self)
    }

    /// [`ExecCommand::spawn`] for programs without a runtime.
    ///
    /// # Errors
    /// As for [`ExecCommand::spawn`].
    pub fn spawn_blocking(self) -> Result<crate::handle::ProcessHandle, Error> {
        blocking::block_on(self.spawn())
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
        command.process = process;
        Ok(command)
    }
}
