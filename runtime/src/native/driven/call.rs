//! One call of the program: by the keeper, with a time that it may take. Its words come from its log and from what it writes.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Known;
use crate::cgroup::Group;
use crate::drivers::words;
use crate::error::{Error, ErrorKind};
use crate::keeper::Brings;
use crate::native::container::running;
use crate::native::helper;
use crate::native::report::Report;
use crate::native::supply::Supply;
use crate::native::{Inner, lives, stdio};
use crate::plan::driver::{self, Ground, Host};
use crate::plan::{Need, Plan};
use crate::{Exit, ExitStatus};

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

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
}

/// What a call has left behind can be claimed as long as this is there.
pub(super) struct Done {
    _brings: Option<Brings>,
    words: Arc<OwnedFd>,
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
    brings: bool,
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

/// Make it, and wait until it has ended well. Not to be dropped before.
///
/// # Errors
/// What it says, with its name and the command as the stage.
pub(super) async fn run(inner: &Inner, known: &Known, ready: Ready) -> Result<Done, Error> {
    let Ready { step, plan, fds, report, words, log, runs, brings } = ready;
    let (spawned, brings) = match brings {
        true => inner.keeper.spawn_bringing(&plan, fds).await.map(|(spawned, brings)| (spawned, Some(brings)))?,
        false => (inner.keeper.spawn(&plan, fds).await?, None),
    };
    let (pid, pidfd) = (spawned.pid, spawned.pidfd.claim()?);
    running(&report, Some(&plan)).await.map_err(not_there)?;
    let exit = ended((pid, &pidfd), spawned.exit, known, &step).await?;
    let how = match exit.status {
        ExitStatus::Code(0) => return Ok(Done { _brings: brings, words }),
        ExitStatus::Code(code) => format!("ended with code {code}"),
        ExitStatus::Signal { signal, .. } => format!("was ended by signal {signal}"),
        ExitStatus::Lost => "ended without anybody seeing how".to_owned(),
    };
    let logged = log.and_then(|log| end_of(&log).ok()).unwrap_or_default();
    let said = words::said(&String::from_utf8_lossy(&logged), &helper::text(&words));
    Err(words::failed(&step, &how, &said, runs.as_deref()))
}

/// So much of a log is read: a program may write without end.
const LOG: u64 = 256 << 10;

/// Its last error stands there.
fn end_of(log: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut file = std::fs::File::open(log)?;
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(LOG)))?;
    let mut text = Vec::new();
    file.take(LOG).read_to_end(&mut text)?;
    Ok(text)
}

/// Its plan and what belongs to it.
pub(super) fn prepare(inner: &Inner, known: &Known, mut call: Call<'_>) -> Result<Ready, Error> {
    let failed = |error: std::io::Error| Error::system("cannot prepare a call of the runtime", error);
    let words = Arc::new(helper::words()?);
    if call.stdio.is_empty() {
        let null = std::fs::File::open("/dev/null").map_err(failed)?;
        let copy = || words.try_clone().map(Some).map_err(failed);
        call.stdio = vec![Some(null.into()), copy()?, copy()?];
    }
    let argv = argv(known, &call);
    let mut env = vec![OsString::from(PATH), "HOME=/".into()];
    env.extend(known.program.env.iter().map(|(key, value)| format!("{key}={value}").into()));
    let group = call.group.take();
    let plan = driver::call(&driver::Call {
        program: known.path.as_os_str(),
        argv: &argv,
        env: &env,
        nofile: inner.machine.nofile,
        grouped: group.is_some(),
        oom_score_adj: call.oom_score_adj,
        preserved: u16::try_from(call.stdio.len().saturating_sub(3)).unwrap_or(u16::MAX),
        ground: Ground { place: known.place, unified: known.hierarchies.beside() },
        host: call.host.take(),
    });
    plan.fits()?;
    let (read, write) = stdio::pipe()?;
    let mut supply = Supply::new(write);
    supply.stdio = call.stdio;
    supply.trees = call.trees;
    let fds = supply.all(&plan, group.as_deref())?;
    let command = call.args.first().map_or("", String::as_str);
    let step = format!("{} {command}", known.program.name());
    let brings = matches!(command, "create" | "exec");
    let (log, runs) = (call.log, call.runs);
    Ok(Ready { step, plan, fds, report: Report::new(read, false)?, words, log, runs, brings })
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

/// How it ends; one that takes too long is killed, with its session's first group: what it has started, unless that has left it.
async fn ended(
    (pid, pidfd): (i32, &OwnedFd),
    exit: tokio::sync::oneshot::Receiver<Exit>,
    known: &Known,
    step: &str,
) -> Result<Exit, Error> {
    let gone = || Error::new(ErrorKind::Keeper, "the keeper is gone");
    let mut exit = exit;
    match tokio::time::timeout(known.program.patience, &mut exit).await {
        Ok(exit) => exit.map_err(|_| gone()),
        Err(_) => {
            // The number is its own as long as it has not ended.
            if lives(pidfd)
                && let Some(group) = rustix::process::Pid::from_raw(pid)
            {
                let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            }
            let _ = rustix::process::pidfd_send_signal(pidfd, rustix::process::Signal::KILL);
            let _ = exit.await;
            let what = format!("it has not ended within {:?}, and was killed", known.program.patience);
            Err(Error::new(ErrorKind::Creation, what).with_stage(step).with_field("runtime"))
        }
    }
}
