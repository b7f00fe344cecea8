//! Ways for the bytes of one process: through a hub to readers, into a log, through a terminal, and what others do with them.
//!
//! Each way starts the same writer (this program again, `write_out`), takes everything that it writes, and is timed from
//! before the start until everybody has everything.

use std::fs::File;
use std::future::pending;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use orangery_io_stream::log::{Log, LogOptions, log_pump_pair};
use orangery_io_stream::{
    EndReason, Event, Hub, HubOptions, Overflow, PipeReader, Pty, SubscribeOptions, Subscriber, pump_pair,
};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

/// The first argument of a writer.
pub const WRITER: &str = "write-out";
/// Bytes of a line of what is written.
const LINE: usize = 100;

/// What is written, and how.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Bytes in all.
    pub total: usize,
    /// Bytes a write.
    pub write: usize,
}

/// A way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Pipe, pump, hub, and so many readers that read everything (they hold the writer up rather than lose a byte).
    Readers(usize),
    /// The same, through a terminal to one reader.
    Terminal,
    /// From the pipe into a durable log.
    Log,
    /// `cat` from the pipe to a file.
    Cat,
    /// `tokio::io::copy` from the pipe to a file.
    Copy,
    /// `conmon` with its `k8s-file` log.
    Conmon,
}

impl Way {
    /// Its name in tables.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Readers(1) => "1 reader".into(),
            Self::Readers(count) => format!("{count} readers"),
            Self::Terminal => "terminal, 1 reader".into(),
            Self::Log => "log".into(),
            Self::Cat => "cat > file".into(),
            Self::Copy => "tokio copy > file".into(),
            Self::Conmon => "conmon, k8s-file".into(),
        }
    }

    /// MiB a second. Files go into `dir`.
    ///
    /// # Errors
    /// Something could not be started, or not everything has arrived.
    pub async fn rate(self, load: Load, dir: &Path) -> anyhow::Result<f64> {
        let began = Instant::now();
        match self {
            Self::Readers(count) => readers(count, load).await?,
            Self::Terminal => terminal(load).await?,
            Self::Log => log(load, dir).await?,
            Self::Cat => cat(load, dir)?,
            Self::Copy => copy(load, dir).await?,
            Self::Conmon => conmon(load, dir)?,
        }
        Ok(load.total as f64 / f64::from(1 << 20) / began.elapsed().as_secs_f64())
    }
}

/// The writer: lines, cut into writes.
///
/// # Errors
/// Its output cannot be written.
pub fn write_out(load: Load) -> std::io::Result<()> {
    let mut line = [b'x'; LINE];
    line[LINE - 1] = b'\n';
    // A whole number of lines, so that each write begins where the last one has ended.
    let block = line.repeat(load.write.div_ceil(LINE) * 2);
    let mut out = File::from(rustix::stdio::stdout().try_clone_to_owned()?);
    let mut written = 0;
    while written < load.total {
        let at = written % LINE;
        let len = load.write.min(load.total - written);
        out.write_all(block.get(at..at + len).unwrap_or_default())?;
        written += len;
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a writer that is no thread of ours")]
fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    Command::new(program)
}

fn writer(load: Load, stdout: impl Into<Stdio>) -> anyhow::Result<Child> {
    let mut command = command(std::env::current_exe()?);
    command.arg(WRITER).arg(load.total.to_string()).arg(load.write.to_string()).stdout(stdout);
    command.spawn().context("the writer")
}

fn finish(mut child: Child) -> anyhow::Result<()> {
    let status = child.wait()?;
    ensure!(status.success(), "the writer ended with {status}");
    Ok(())
}

async fn readers(count: usize, load: Load) -> anyhow::Result<()> {
    let (ours, theirs) = std::io::pipe()?;
    let child = writer(load, theirs)?;
    fan_out(PipeReader::from_fd(ours.into())?, count, load.total).await?;
    finish(child)
}

async fn fan_out(reader: PipeReader, count: usize, total: usize) -> anyhow::Result<()> {
    let hub = Hub::new(HubOptions::default());
    let overflow = Overflow::block(Duration::from_secs(60));
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..count {
        all.spawn(count_bytes(hub.subscribe(SubscribeOptions { overflow, ..SubscribeOptions::default() })));
    }
    let reason = pump_pair(Some(reader), None, hub, pending(), None).await;
    ensure!(reason == EndReason::Eof, "the pump ended with {reason:?}");
    while let Some(bytes) = all.join_next().await {
        ensure!(bytes? == total, "a reader has missed bytes");
    }
    Ok(())
}

async fn count_bytes(mut reader: Subscriber) -> usize {
    let mut bytes = 0;
    while let Some(event) = reader.recv().await {
        if let Event::Chunk(chunk) = event {
            bytes += chunk.data.len();
        }
    }
    bytes
}

async fn terminal(load: Load) -> anyhow::Result<()> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let peer = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    // As many bytes come out as go in.
    let mut modes = tcgetattr(&peer)?;
    modes.make_raw();
    tcsetattr(&peer, OptionalActions::Now, &modes)?;
    let child = writer(load, peer)?;
    fan_out(Pty::from_master(master)?.reader()?, 1, load.total).await?;
    finish(child)
}

async fn log(load: Load, dir: &Path) -> anyhow::Result<()> {
    let dir = tempfile::tempdir_in(dir)?;
    let (ours, theirs) = std::io::pipe()?;
    let options = LogOptions { segment_bytes: u64::MAX, ..LogOptions::default() };
    let log = Log::create(dir.path(), options)?;
    let child = writer(load, theirs)?;
    let reason = log_pump_pair(Some(PipeReader::from_fd(ours.into())?), None, log.clone(), pending(), None).await;
    ensure!(reason == EndReason::Eof, "the pump ended with {reason:?}");
    ensure!(log.metrics().taken == load.total as u64 && log.metrics().discarded == 0, "not all is in the log");
    finish(child)
}

fn cat(load: Load, dir: &Path) -> anyhow::Result<()> {
    let file = tempfile::tempfile_in(dir)?;
    let (ours, theirs) = std::io::pipe()?;
    let child = writer(load, theirs)?;
    let copied = command("cat").stdin(ours).stdout(file.try_clone()?).status()?;
    ensure!(copied.success() && file.metadata()?.len() == load.total as u64, "cat has not everything");
    finish(child)
}

async fn copy(load: Load, dir: &Path) -> anyhow::Result<()> {
    let file = tempfile::tempfile_in(dir)?;
    let (ours, theirs) = std::io::pipe()?;
    let child = writer(load, theirs)?;
    let mut from = tokio::net::unix::pipe::Receiver::from_owned_fd(OwnedFd::from(ours))?;
    let copied = tokio::io::copy(&mut from, &mut tokio::fs::File::from_std(file)).await?;
    ensure!(copied == load.total as u64, "tokio has not everything");
    finish(child)
}

/// Whether it can be started.
#[must_use]
pub fn conmon_version() -> Option<String> {
    let output = command("conmon").arg("--version").output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).lines().next()?.trim_start_matches("conmon version ").to_owned())
}

/// It is started as podman does, with a script for the runtime: all that conmon asks of one is to start a process with the
/// streams that it was given, and to write down its pid.
fn conmon(load: Load, dir: &Path) -> anyhow::Result<()> {
    let dir = tempfile::tempdir_in(dir)?;
    let path = |name: &str| dir.path().join(name);
    let exe = std::env::current_exe()?;
    let script = format!(
        "#!/bin/sh\nwhile [ $# -gt 0 ]; do case $1 in --pid-file) pid=$2; shift;; create) create=1;; esac; shift; done\n\
         [ \"$create\" ] || exit 0\n'{}' {WRITER} {} {} &\necho $! > \"$pid\"\n",
        exe.display(),
        load.total,
        load.write
    );
    std::fs::write(path("runtime"), script)?;
    std::fs::set_permissions(path("runtime"), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let mut monitor = command("conmon");
    monitor.args(["--sync", "--cid", "bench", "--cuuid", "bench", "--log-level", "error"]);
    monitor.arg("--runtime").arg(path("runtime")).arg("--bundle").arg(dir.path());
    std::fs::create_dir(path("sockets"))?;
    monitor.arg("--socket-dir-path").arg(path("sockets"));
    monitor.arg("--container-pidfile").arg(path("pid")).arg("--exit-dir").arg(dir.path());
    monitor.arg("--log-path").arg(format!("k8s-file:{}", path("log").display()));
    let output = monitor.stdin(Stdio::null()).output()?;
    // One line of its format for each line, with a time and the name of the stream in front.
    let logged = std::fs::metadata(path("log")).map_or(0, |log| log.len());
    if !output.status.success() || logged < load.total as u64 {
        bail!(
            "conmon ended with {}, {logged} bytes logged: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}
