//! One call of the program: by the keeper, with a time that it may take. Its words come from its log and from what it writes. It is
//! attended (`keeper/attend.rs`): who attends it says how it ends, and has what it leaves behind until that is claimed or let go.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{Known, own_node};
use crate::ExitStatus;
use crate::cgroup::Group;
use crate::drivers::words;
use crate::error::{Error, ErrorKind};
use crate::native::container::running;
use crate::native::helper;
use crate::native::report::Report;
use crate::native::supply::{Supply, some};
use crate::native::{Inner, cgroup_error, stdio};
use crate::plan::driver::{self, Ground, Host};
use crate::plan::{Need, Plan};

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Who was killed is gone by then, or is held up inside of the kernel.
const KILLED: Duration = Duration::from_secs(5);

/// What is to be called.
#[derive(Default)]
pub(super) struct Call<'a> {
    /// The command, first, and what belongs to it.
    pub(super) args: Vec<String>,
    /// Descriptors from 0 on; without any nothing is read, and what is written are words.
    pub(super) stdio: Vec<Option<OwnedFd>>,
    /// Its log.
    pub(super) log: Option<PathBuf>,
    /// It is born in this group.
    pub(super) group: Option<Arc<Group>>,
    /// It makes a container.
    pub(super) host: Option<Host<'a>>,
    pub(super) trees: Vec<(Need, Option<OwnedFd>)>,
    /// It executes this command.
    pub(super) runs: Option<String>,
    /// The command's.
    pub(super) oom_score_adj: Option<i32>,
    /// Where it finds the socket for the master of a terminal.
    pub(super) console: Option<PathBuf>,
}

/// What a call has left behind is nobody else's as long as this is there.
pub(super) struct Done {
    line: AsyncFd<OwnedFd>,
    _attendant: OwnedFd,
    words: Arc<OwnedFd>,
}

impl Done {
    /// Whoever is left to who attends it, but for this one, is ended; those that a kill does not end soon are left to the keeper.
    pub(super) async fn end_others(&self, kept: i32) {
        if rustix::net::send(&self.line, &kept.to_le_bytes(), rustix::net::SendFlags::NOSIGNAL).is_ok() {
            let _ = tokio::time::timeout(KILLED, said(&self.line)).await;
        }
    }
}

/// A call that only has to be made.
pub(super) struct Ready {
    step: String,
    plan: Plan,
    fds: Vec<OwnedFd>,
    report: Report,
    words: Arc<OwnedFd>,
    log: Option<PathBuf>,
    runs: Option<String>,
    line: AsyncFd<OwnedFd>,
    /// The number of the request, for claims.
    pub(super) request: u64,
}

/// What `--version` says.
pub(super) async fn version(inner: &Arc<Inner>, known: &Arc<Known>) -> Result<String, Error> {
    let call = Call { args: vec!["--version".into()], ..Call::default() };
    let done = run_on(inner, known, prepare(inner, known, call)?).await.map_err(|error| error.with_field("runtime"))?;
    Ok(helper::text(&done.words))
}

/// [`run`], for who may be dropped meanwhile: it goes on, for its time.
pub(super) async fn run_on(inner: &Arc<Inner>, known: &Arc<Known>, ready: Ready) -> Result<Done, Error> {
    let (inner, known) = (Arc::clone(inner), Arc::clone(known));
    let task = tokio::spawn(async move { run(&inner, &known, ready).await });
    task.await.unwrap_or_else(|_| Err(Error::new(ErrorKind::System, "a call of the runtime panicked")))
}

/// [`bring`], and whom it has left behind is ended.
pub(super) async fn run(inner: &Inner, known: &Known, ready: Ready) -> Result<Done, Error> {
    let done = bring(inner, known, ready).await?;
    done.end_others(0).await;
    Ok(done)
}

/// Make it, and wait until it has ended well. Not to be dropped before.
///
/// # Errors
/// What it says, with its name and the command as the stage; whom it has left behind is ended.
pub(super) async fn bring(inner: &Inner, known: &Known, ready: Ready) -> Result<Done, Error> {
    let Ready { step, plan, fds, report, words, log, runs, line, request } = ready;
    let spawned = inner.keeper.spawn_bringing(request, &plan, fds).await?;
    let done = Done { line, _attendant: spawned.pidfd.claim()?, words };
    running(&report, Some(&plan)).await.map_err(not_there)?;
    let status = ended(&done.line, known, &step).await;
    if matches!(status, Ok(ExitStatus::Code(0))) {
        return Ok(done);
    }
    if !status.as_ref().is_err_and(is_held_up) {
        done.end_others(0).await;
    }
    let how = match status? {
        ExitStatus::Code(code) => format!("ended with code {code}"),
        ExitStatus::Signal { signal, .. } => format!("was ended by signal {signal}"),
        ExitStatus::Lost => "ended without anybody seeing how".to_owned(),
    };
    let logged = log.and_then(|log| end_of(&log, LOG).ok()).unwrap_or_default();
    let said = words::said(&String::from_utf8_lossy(&logged), &helper::text(&done.words));
    Err(words::failed(&step, &how, &said, runs.as_deref()))
}

/// So much of a log is read: a program may write without end.
const LOG: u64 = 256 << 10;

/// The last `most` bytes of what a program has written into a file. Something else may be there by now, which nobody waits for.
pub(super) fn end_of(path: &Path, most: u64) -> std::io::Result<Vec<u8>> {
    use rustix::fs::{Mode, OFlags};
    use std::io::{Read as _, Seek as _, SeekFrom};
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = std::fs::File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    file.seek(SeekFrom::Start(about.len().saturating_sub(most)))?;
    let mut text = Vec::new();
    file.take(most).read_to_end(&mut text)?;
    Ok(text)
}

/// Its plan and what belongs to it.
pub(super) fn prepare(inner: &Inner, known: &Known, mut call: Call<'_>) -> Result<Ready, Error> {
    let failed = |error: std::io::Error| Error::system("cannot prepare a call of the runtime", error);
    let words = Arc::new(helper::words()?);
    if call.stdio.len() < 3 {
        call.stdio.resize_with(3, || None);
    }
    // Without streams of a process nothing is read, and what is written are words.
    for (number, stream) in call.stdio.iter_mut().enumerate().take(3) {
        let own = match stream.take() {
            None if number > 0 => words.try_clone().map_err(failed)?,
            None => own_node::null(inner.machine.privileged).map_err(|error| failed(error.into()))?,
            Some(fd) => own_node::instead_of(fd, inner.machine.privileged).map_err(|error| failed(error.into()))?,
        };
        *stream = Some(own);
    }
    let argv = argv(known, &call);
    let mut env = vec![OsString::from(PATH), "HOME=/".into()];
    env.extend(known.program.env.iter().map(|(key, value)| format!("{key}={value}").into()));
    let group = call.group.take();
    // Root's program enters those of version 1 itself.
    let tasks =
        group.as_ref().filter(|_| !inner.machine.privileged).map_or_else(|| Ok(Vec::new()), |group| group.tasks());
    let tasks = tasks.map_err(|error| cgroup_error(&error))?;
    let plan = driver::call(&driver::Call {
        program: known.path.as_os_str(),
        argv: &argv,
        env: &env,
        nofile: inner.machine.nofile,
        grouped: group.as_ref().is_some_and(|group| group.has_birth()),
        tasks: u16::try_from(tasks.len()).unwrap_or(u16::MAX),
        oom_score_adj: call.oom_score_adj,
        preserved: u16::try_from(call.stdio.len().saturating_sub(3)).unwrap_or(u16::MAX),
        ground: Ground {
            place: known.place,
            unified: known.hierarchies.beside(),
            read_only: &known.hierarchies.read_only,
        },
        host: call.host.take(),
        console: call.console.as_deref().map(Path::as_os_str),
    });
    plan.fits()?;
    let (read, write) = stdio::pipe()?;
    let mut supply = Supply::new(write);
    supply.stdio = call.stdio;
    supply.trees = call.trees;
    supply.tasks = some(tasks);
    let (line, theirs) = stdio::channel()?;
    supply.channel = Some(theirs);
    let fds = supply.all(&plan, group.as_deref())?;
    let command = call.args.first().map_or("", String::as_str);
    let step = format!("{} {command}", known.program.name());
    let (log, runs, request) = (call.log, call.runs, inner.keeper.id());
    let line = crate::sys::watch(line, Interest::READABLE)
        .map_err(|error| Error::system("cannot watch a call of the runtime", error))?;
    Ok(Ready { step, plan, fds, report: Report::new(read, false)?, words, log, runs, line, request })
}

fn argv(known: &Known, call: &Call<'_>) -> Vec<OsString> {
    let mut argv = vec![known.path.clone().into_os_string()];
    argv.extend(known.program.args.iter().map(Into::into));
    if let Some(log) = &call.log {
        let root = known.dir.join("root");
        argv.extend(["--root".into(), root.into(), "--log".into(), log.into(), "--log-format".into(), "json".into()]);
    }
    argv.extend(call.args.iter().map(Into::into));
    argv
}

/// It does not come to its exec.
fn not_there(error: Error) -> Error {
    let kind = match error.kind() {
        ErrorKind::CommandNotFound => ErrorKind::NotFound,
        ErrorKind::CommandNotExecutable => ErrorKind::Permission,
        _ => return error,
    };
    error.with_kind(kind).with_field("runtime")
}

/// How it ends; one that takes too long is killed, with its first process group: what it has started, unless that has left it.
async fn ended(line: &AsyncFd<OwnedFd>, known: &Known, step: &str) -> Result<ExitStatus, Error> {
    let patience = known.program.patience;
    if let Ok(said) = tokio::time::timeout(patience, said(line)).await {
        return said;
    }
    // Without anybody who attends it there is nobody who could be told.
    let _ = rustix::net::send(line, &[1], rustix::net::SendFlags::NOSIGNAL);
    let what = format!("it has not ended within {patience:?}, and was killed");
    let error = match tokio::time::timeout(KILLED, said(line)).await {
        Ok(_) => Error::new(ErrorKind::Creation, what),
        Err(_) => Error::system(format!("{what}, and is still there {KILLED:?} later"), Errno::TIMEDOUT).with_hint(
            "it waits inside of the kernel, for a device or a file system, or is frozen: what for says /proc/PID/stack",
        ),
    };
    Err(error.with_stage(step).with_field("runtime"))
}

/// Not even a kill has ended it.
pub(super) fn is_held_up(error: &Error) -> bool {
    error.errno() == Some(Errno::TIMEDOUT.raw_os_error()) && error.field() == Some("runtime")
}

/// What is said of its end by who attends it.
async fn said(line: &AsyncFd<OwnedFd>) -> Result<ExitStatus, Error> {
    let failed = |error: std::io::Error| Error::system("cannot hear how a call of the runtime ends", error);
    let mut words = [0; 8];
    loop {
        let mut ready = line.readable().await.map_err(failed)?;
        match rustix::net::recv(line, &mut words, rustix::net::RecvFlags::DONTWAIT) {
            Ok((8, _)) => break,
            // Killed, with the group that it was born in.
            Ok(_) | Err(Errno::CONNRESET) => return Ok(ExitStatus::Lost),
            Err(Errno::AGAIN) => ready.clear_ready(),
            Err(Errno::INTR) => {}
            Err(error) => return Err(failed(error.into())),
        }
    }
    let [a, b, c, d, e, f, g, h] = words;
    let (code, status) = (i32::from_le_bytes([a, b, c, d]), i32::from_le_bytes([e, f, g, h]));
    Ok(match code {
        // CLD_EXITED, CLD_KILLED, CLD_DUMPED
        1 => ExitStatus::Code(status),
        2 | 3 => ExitStatus::Signal { signal: status, core_dumped: code == 3 },
        _ => ExitStatus::Lost,
    })
}
