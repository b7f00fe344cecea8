//! What every command has, a container's main one and a further one alike: the process and how it is watched.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use orangery_runtime::ProcessSpec;
use orangery_runtime::spec::{Stdio, User};
use serde::{Deserialize, Serialize};

use super::{Stdin, Ways};
use crate::probe::Care;
use crate::process::recording::LogTo;

/// PATH of a command, unless it is given.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// See the file's head.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Parts {
    pub(crate) process: ProcessSpec,
    pub(crate) stdin: Stdin,
    pub(crate) ways: Ways,
    pub(crate) capture: usize,
    pub(crate) log: Option<LogTo>,
    /// How long it may wait for room.
    pub(crate) patience: Option<Duration>,
    /// Of a container's main process only.
    pub(crate) care: Care,
}

impl Parts {
    /// The default environment: PATH, HOME, TERM and LANG, and nothing of ours.
    pub(crate) fn new(program: &OsStr) -> Self {
        let mut process = ProcessSpec::default();
        process.argv = vec![program.to_os_string()];
        process.env = [("PATH", PATH), ("HOME", "/root"), ("TERM", "xterm"), ("LANG", "C.UTF-8")]
            .into_iter()
            .map(|(key, value)| (key.into(), value.into()))
            .collect();
        let capture = orangery_io_stream::DEFAULT_CAPTURE;
        Self {
            process,
            stdin: Stdin::Null,
            ways: Ways::default(),
            capture,
            log: None,
            patience: None,
            care: Care::default(),
        }
    }

    /// Set a variable, in place of one of the same name.
    pub(crate) fn env(&mut self, key: OsString, value: OsString) {
        self.process.env.retain(|(have, _)| *have != key);
        self.process.env.push((key, value));
    }

    /// With the home that belongs to the user, unless another was chosen.
    pub(crate) fn user(&mut self, user: User) {
        let root = matches!(&user, User::Root | User::Ids { uid: 0, .. }) || user == User::Name("root".into());
        if self.process.env.iter().any(|(key, value)| key == "HOME" && value == "/root") {
            self.env("HOME".into(), if root { "/root" } else { "/home/user" }.into());
        }
        self.process.user = user;
    }

    /// The process with its streams as they will be, and what to feed it.
    pub(crate) fn finish(self) -> (ProcessSpec, Stdin) {
        let Self { mut process, stdin, .. } = self;
        for stdio in [&mut process.stdout, &mut process.stderr] {
            if matches!(stdio, Stdio::Null) && process.tty.is_none() {
                *stdio = Stdio::Piped;
            }
        }
        if !matches!(stdin, Stdin::Null) {
            process.stdin = Stdio::Piped;
        }
        (process, stdin)
    }
}

/// The setters of [`Parts`], for a builder that has them in `parts`.
macro_rules! process_setters {
    (timeout: $timeout:literal) => {
        /// One more argument.
        pub fn arg(mut self, arg: impl AsRef<std::ffi::OsStr>) -> Self {
            self.parts.process.argv.push(arg.as_ref().to_os_string());
            self
        }

        /// More arguments.
        pub fn args<S: AsRef<std::ffi::OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
            self.parts.process.argv.extend(args.into_iter().map(|arg| arg.as_ref().to_os_string()));
            self
        }

        /// An environment variable.
        pub fn env(mut self, key: impl AsRef<std::ffi::OsStr>, value: impl AsRef<std::ffi::OsStr>) -> Self {
            self.parts.env(key.as_ref().to_os_string(), value.as_ref().to_os_string());
            self
        }

        /// More environment variables.
        pub fn envs<K: AsRef<std::ffi::OsStr>, V: AsRef<std::ffi::OsStr>>(
            mut self,
            vars: impl IntoIterator<Item = (K, V)>,
        ) -> Self {
            for (key, value) in vars {
                self = self.env(key, value);
            }
            self
        }

        /// Nothing in the environment but what is set afterwards.
        pub fn env_clear(mut self) -> Self {
            self.parts.process.env.clear();
            self
        }

        /// Working directory inside; `/` by default.
        pub fn current_dir(mut self, dir: impl Into<std::path::PathBuf>) -> Self {
            self.parts.process.cwd = Some(dir.into());
            self
        }

        /// Who it runs as; uid 0 of the container by default.
        pub fn user(mut self, user: orangery_runtime::spec::User) -> Self {
            self.parts.user(user);
            self
        }

        /// Supplementary groups.
        pub fn groups(mut self, groups: impl IntoIterator<Item = u32>) -> Self {
            self.parts.process.groups.extend(groups);
            self
        }

        /// File mode creation mask.
        pub fn umask(mut self, umask: u32) -> Self {
            self.parts.process.umask = Some(umask);
            self
        }

        /// All five capability sets.
        pub fn caps(mut self, caps: orangery_runtime::spec::Caps) -> Self {
            self.parts.process.caps = Some(caps);
            self
        }

        /// What it may still reach after its start, in place of the sandbox's rules
        /// ([`SandboxBuilder::landlock`](crate::SandboxBuilder::landlock)).
        pub fn landlock(mut self, rules: orangery_runtime::spec::Landlock) -> Self {
            self.parts.process.landlock = Some(rules);
            self
        }

        /// A resource limit.
        pub fn rlimit(mut self, limit: orangery_runtime::spec::Rlimit) -> Self {
            self.parts.process.rlimits.push(limit);
            self
        }

        /// System call filter. Default: our profile.
        pub fn seccomp(mut self, seccomp: orangery_runtime::spec::Seccomp) -> Self {
            self.parts.process.seccomp = seccomp;
            self
        }

        /// One more filter of system calls, beside the profile: the most severe answer of all stands. One that asks
        /// ([`Action::Notify`](crate::seccomp::Action::Notify)) asks whoever takes the
        /// [`listener`](crate::ProcessHandle::listener) of the process; with `run` nobody can, and such calls fail with
        /// ENOSYS.
        ///
        /// ```no_run
        /// use orangery::seccomp::{Action, Answer, Arch, Filter, Rule, syscall_number};
        /// # async fn f(supervisor: orangery::Supervisor) -> Result<(), Box<dyn std::error::Error>> {
        /// let rules = syscall_number("mkdir").map(|syscall| Rule { syscall, args: Vec::new(), action: Action::Notify });
        /// let filter = Filter { default: Action::Allow, rules: rules.into_iter().collect(), arches: vec![Arch::native()] };
        /// let container = supervisor.command("mkdir").arg("/tmp/x").seccomp_filter(filter).spawn().await?;
        /// let mut listener = container.listener().ok_or("taken already")?;
        /// while let Some(asked) = listener.next().await? {
        ///     listener.answer(asked.id, Answer::Continue)?;
        /// }
        /// # Ok(()) }
        /// ```
        pub fn seccomp_filter(mut self, filter: orangery_runtime::seccomp::Filter) -> Self {
            self.parts.process.filters.push(filter);
            self
        }

        /// It may gain privileges by set-user-id programs and file capabilities. A filter of system calls is then loaded while
        /// the process still has its rights, and must allow what gives them up (setgroups, setresuid, capset, prctl and the
        /// like), as ours does. No mount of a container honours set-user-id, so that this is for programs that check it.
        /// Default: no.
        pub fn new_privileges(mut self, may: bool) -> Self {
            self.parts.process.new_privileges = may;
            self
        }

        /// Adjustment of the OOM score.
        pub fn oom_score_adj(mut self, score: i32) -> Self {
            self.parts.process.oom_score_adj = Some(score);
            self
        }

        /// What it reads. Default: nothing.
        pub fn stdin(mut self, stdin: $crate::command::Stdin) -> Self {
            self.parts.stdin = stdin;
            self
        }

        /// It reads this descriptor itself; no byte passes through us.
        pub fn stdin_fd(mut self, fd: std::os::fd::OwnedFd) -> Self {
            self.parts.process.stdin = orangery_runtime::spec::Stdio::Fd(std::sync::Arc::new(fd));
            self
        }

        /// It writes to this descriptor itself.
        pub fn stdout_fd(mut self, fd: std::os::fd::OwnedFd) -> Self {
            self.parts.process.stdout = orangery_runtime::spec::Stdio::Fd(std::sync::Arc::new(fd));
            self
        }

        /// It writes errors to this descriptor itself.
        pub fn stderr_fd(mut self, fd: std::os::fd::OwnedFd) -> Self {
            self.parts.process.stderr = orangery_runtime::spec::Stdio::Fd(std::sync::Arc::new(fd));
            self
        }

        /// Its output goes into a durable log in this directory, by splice(2): what is in it does not depend on whoever
        /// reads, or on how this process ends. A log that is there is gone on with, one that is missing is made, with its
        /// directory; an absolute path. One process at a time writes a log.
        ///
        /// Everything that reads the output works as without: subscribers read the log, from its first byte on as far as
        /// it is kept, and live ones after it, without a gap between; cursors are those of the log and outlive the
        /// process and this program ([`LogReader::resume`](crate::stream::log::LogReader::resume)). A full disk never stops
        /// the command: what the log does not take is counted as `lost` in the report. It costs five descriptors, and five
        /// more for each subscriber. A stream that has a descriptor of its own is not logged. What a terminal prints is: read and
        /// written, because splice(2) takes from pipes alone, so that whoever kills this process between the two loses the
        /// command 4 KiB of it at the most. An [`OutputLimit`](crate::OutputLimit) cuts the log to the byte.
        ///
        /// A directory that cannot be used is refused before anything is made: kind
        /// [`State`](crate::ErrorKind::State) while another writes there, else by what the system says; the field is `log`.
        /// Where the start fails a log that was made for it is removed.
        ///
        /// ```no_run
        /// use orangery::stream::log::{LogOptions, SyncPolicy};
        /// # async fn f(supervisor: orangery::Supervisor) -> Result<(), orangery::Error> {
        /// let options = LogOptions { segment_bytes: 1 << 20, sync: SyncPolicy::OnClose, ..LogOptions::default() };
        /// let container = supervisor.command("make").log("/var/log/builds/7", options).spawn().await?;
        /// let output = container.output();
        /// # drop(output);
        /// println!("{} bytes lost", container.wait().await?.stdout.lost);
        /// # Ok(()) }
        /// ```
        pub fn log(mut self, dir: impl Into<std::path::PathBuf>, options: orangery_io_stream::log::LogOptions) -> Self {
            self.parts.log = Some($crate::process::recording::LogTo { dir: dir.into(), options });
            self
        }

        /// A terminal of its own, of 24 lines of 80 characters unless it has a size already: a pseudoterminal of the
        /// container's own /dev/pts, which belongs to the process's user, is its three streams and controls its session. For
        /// the main process it is /dev/console too.
        ///
        /// What it prints is one stream, [`stdout`](crate::ProcessHandle::stdout), in which every `\n` is `\r\n` until it
        /// sets other modes. What it reads is typed by the writer of [`stdin`](Self::stdin), if there is to be one: there is no
        /// end of file but the one that is typed (a shutdown of the writer, or the end of
        /// [`Stdin::Bytes`](crate::Stdin::Bytes), does so where the terminal's modes know one), and a writer that goes has
        /// ended nothing. [`resize`](crate::ProcessHandle::resize) and [`hang_up`](crate::ProcessHandle::hang_up) are for its
        /// handle. Descriptors for single streams are refused beside it, naming the stream.
        ///
        /// ```no_run
        /// # async fn f(supervisor: orangery::Supervisor) -> Result<(), orangery::Error> {
        /// let shell = supervisor.command("sh").tty(true).stdin(orangery::Stdin::Bytes("tty; exit\n".into())).run().await?;
        /// assert!(String::from_utf8_lossy(&shell.stdout.to_vec()).contains("/dev/pts/0\r\n"));
        /// # Ok(()) }
        /// ```
        pub fn tty(mut self, tty: bool) -> Self {
            self.parts.process.tty = tty.then(|| self.parts.process.tty.unwrap_or_default());
            self
        }

        /// [`tty`](Self::tty), of this size: neither may be zero.
        pub fn tty_size(mut self, rows: u16, columns: u16) -> Self {
            self.parts.process.tty = Some(orangery_runtime::spec::WindowSize { rows, columns });
            self
        }

        /// A further descriptor for it: the first becomes 3, and so on.
        pub fn preserve(mut self, fd: std::os::fd::OwnedFd) -> Self {
            self.parts.process.preserved.push(std::sync::Arc::new(fd));
            self
        }

        /// Where a budget of the supervisor is spent, wait so long for room instead of being refused at once. Who waits
        /// comes in turn with its caller ([`Supervisor::caller`](crate::Supervisor::caller)); the refusal is the same when the
        /// time is over.
        ///
        /// ```no_run
        /// # async fn f(supervisor: orangery::Supervisor) -> Result<(), orangery::Error> {
        /// let patience = std::time::Duration::from_secs(10);
        /// match supervisor.command("make").wait_for_room(patience).run().await {
        ///     Err(error) if error.spent().is_some() => println!("busy: {error}; {:?}", error.hint()),
        ///     done => println!("{:?}", done?.report.exit),
        /// }
        /// # Ok(()) }
        /// ```
        pub fn wait_for_room(mut self, patience: std::time::Duration) -> Self {
            self.parts.patience = Some(patience);
            self
        }

        #[doc = $timeout]
        pub fn timeout(mut self, limit: std::time::Duration) -> Self {
            self.parts.ways.wall = Some(limit);
            self
        }

        /// At the timeout send `signal` first, and kill only after `grace`.
        pub fn timeout_gently(self, signal: i32, grace: std::time::Duration) -> Self {
            self.timeout_ladder($crate::StopLadder::from((signal, grace)))
        }

        /// What is sent at the timeout, before the kill. Default: nothing.
        pub fn timeout_ladder(mut self, ladder: $crate::StopLadder) -> Self {
            self.parts.ways.at_wall = ladder;
            self
        }

        /// How it is stopped by who does not say how: [`stop_gently`](crate::ProcessHandle::stop_gently) of its handle, or
        /// of its service or group. Default: TERM, 10 s.
        ///
        /// ```no_run
        /// # async fn f(supervisor: orangery::Supervisor) -> Result<(), orangery::Error> {
        /// use orangery::StopLadder;
        /// use std::time::Duration;
        /// let seconds = Duration::from_secs;
        /// let ladder = StopLadder::new().then(3, seconds(60)).then(15, seconds(5));
        /// let server = supervisor.command("nginx").stop_ladder(ladder).spawn().await?;
        /// server.stop_gently().await?;
        /// # Ok(()) }
        /// ```
        pub fn stop_ladder(mut self, ladder: $crate::StopLadder) -> Self {
            self.parts.ways.at_stop = ladder;
            self
        }

        /// How many bytes of each stream `run` keeps, half of them from the head and half from the tail.
        pub fn capture(mut self, bytes: usize) -> Self {
            self.parts.capture = bytes;
            self
        }
    };
}
