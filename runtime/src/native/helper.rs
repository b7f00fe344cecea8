//! A program of ours that a container needs beside it, for its network or for its root (`serving.rs`): started by the keeper,
//! outside of the container and in its user namespace, in a pid namespace of its own whose pid 1 ends with the container's
//! (`plan/helper.rs`). At most one for each.
//!
//! It has three descriptors, because programs close what else they inherit: what it is for, a pipe on which a network's says
//! once, in a line, that it is ready, and a memfd for what it has to say. The memfd can neither fill up the machine nor hold up
//! who writes, and it does not break when its reader goes.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use rustix::fs::{MemfdFlags, SealFlags};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::sync::oneshot;

use super::container::running;
use super::janitor::ended;
use super::reach::fetch;
use super::report::{Report, Said, step_error};
use super::supply::{Supply, some};
use super::{Inner, lives, stdio};
use crate::durable::Identity;
use crate::error::{Error, ErrorKind};
use crate::keeper::{Client, Spawned};
use crate::plan::idmap::IdMap;
use crate::plan::wire::Purpose;
use crate::plan::{Need, Plan, helper, reach};
use crate::{Exit, ExitStatus};

/// A helper's device is closed, and felt to be, before its end is seen: by so many nanoseconds at most, unless the machine stands still.
const SKEW: u64 = 1_000_000_000;
/// So much of what it says is kept, the first.
const WORDS: u64 = 16 << 10;

/// Who starts one helper, and has it.
#[derive(Debug)]
pub(crate) struct Helper {
    keeper: Client,
    /// The container's pid 1, and its ids.
    init: Arc<OwnedFd>,
    ids: Option<IdMap>,
    nofile: (u64, u64),
    without_pidfs: bool,
    /// We may give things away, and must: the helper opens its pipe anew, as the container's first user.
    gives: bool,
    /// What it ends of is our doing.
    ending: AtomicBool,
    /// It had ended before that.
    lost: AtomicBool,
    running: Mutex<Running>,
    told: Mutex<Told>,
}

/// How the helper has ended, as the keeper tells it.
#[derive(Debug, Default)]
enum Told {
    /// By nobody: there is none, or it has ended before this supervisor came.
    #[default]
    Never,
    Awaited(oneshot::Receiver<Exit>),
    /// `None`: the keeper has gone before it told.
    Heard(Option<Exit>),
}

/// What there is of it.
#[derive(Debug, Default)]
struct Running {
    guard: Option<Process>,
    helper: Option<Process>,
    words: Option<Arc<OwnedFd>>,
    /// It has ended before this supervisor came.
    missed: bool,
}

#[derive(Clone, Debug)]
struct Process {
    pidfd: Arc<OwnedFd>,
    pid: i32,
    /// What the keeper knows it by, and where.
    request: u64,
    place: Option<u64>,
}

/// Why it did not start.
#[derive(Debug)]
pub(crate) enum Failed {
    /// It did not come to its exec.
    Before(Error),
    /// It has ended, with these words.
    Ended(String),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Before(error)
    }
}

/// What the next supervisor needs to have it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HelperRecord {
    pub(crate) guard: One,
    pub(crate) helper: One,
}

/// A process of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct One {
    pub(crate) process: Identity,
    pub(crate) request: u64,
}

/// A process of it that was found again.
pub(crate) struct Again {
    pub(crate) pidfd: OwnedFd,
    pub(crate) pid: i32,
    pub(crate) request: u64,
    pub(crate) place: Option<u64>,
    pub(crate) exit: Option<oneshot::Receiver<Exit>>,
}

impl Helper {
    pub(super) fn new(inner: &Inner, init: Arc<OwnedFd>, ids: Option<IdMap>) -> Arc<Self> {
        Arc::new(Self {
            keeper: inner.keeper.clone(),
            init,
            ids,
            nofile: inner.machine.nofile,
            without_pidfs: inner.without.pidfs,
            gives: inner.machine.privileged,
            ending: AtomicBool::new(false),
            lost: AtomicBool::new(false),
            running: Mutex::default(),
            told: Mutex::default(),
        })
    }

    /// That of an earlier supervisor, as far as it lives.
    pub(super) fn again(&self, guard: Option<Again>, helper: Option<Again>) {
        let process = |again: Again| {
            let Again { pidfd, pid, request, place, exit } = again;
            (Process { pidfd: Arc::new(pidfd), pid, request, place }, exit)
        };
        let mut running = self.running();
        running.guard = guard.map(process).map(|(guard, _)| guard);
        running.missed = helper.is_none();
        if let Some((helper, exit)) = helper.map(process) {
            running.helper = Some(helper);
            *self.told() = exit.map_or(Told::Never, Told::Awaited);
        }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Run the first of `programs` that can be executed, and wait until it has said that it is ready. Once.
    ///
    /// # Cancel safety
    /// What is there by then is [ended](Helper::end) with the network.
    pub(crate) async fn start(
        &self,
        namespace: BorrowedFd<'_>,
        programs: &[OsString],
        arguments: &[OsString],
    ) -> Result<(), Failed> {
        let without =
            || Error::new(ErrorKind::Unsupported, "the container has the host's user ids").with_field("network");
        let ids = self.ids.as_ref().ok_or_else(without)?;
        let failed = |error: std::io::Error| Error::system("cannot prepare a network's helper", error);
        let (ready, says) = stdio::pipe()?;
        let (uid, gid) = ids.first_ids();
        if let Some((uid, gid)) = ids.outside(uid, gid).filter(|_| self.gives) {
            use rustix::fs::{Gid, Uid, fchown};
            fchown(&says, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(|error| failed(error.into()))?;
        }
        let namespace = namespace.try_clone_to_owned().map_err(failed)?;
        let guard = helper::guard("network", "orangery-net", Some(ids));
        let plan = helper::helper(ids, self.nofile, programs, arguments);
        self.run(&guard, &plan, vec![namespace, says], None).await?;
        if said_ready(ready).await? {
            tracing::debug!("a network's helper is ready");
            return Ok(());
        }
        Err(Failed::Ended(self.words()))
    }

    /// Run `plan` beside a guard, with these descriptors from 0 on and then the file for its words, until it has come to its exec.
    pub(super) async fn run(
        &self,
        guard: &Plan,
        plan: &Plan,
        mut stdio: Vec<OwnedFd>,
        tree: Option<OwnedFd>,
    ) -> Result<(), Error> {
        let failed = |error: std::io::Error| Error::system("cannot prepare a helper", error);
        let guard = self.guard(guard).await?;
        let words = Arc::new(words()?);
        let (report, mut supply) = reporting()?;
        supply.init = Some(guard.try_clone().map_err(failed)?);
        while stdio.len() < 3 {
            stdio.push(words.try_clone().map_err(failed)?);
        }
        supply.stdio = some(stdio);
        supply.trees = tree.into_iter().map(|tree| (Need::Layer(0), Some(tree))).collect();
        self.running().words = Some(words);
        let spawned = self.keeper.spawn(plan, supply.all(plan, None)?).await?;
        let Spawned { pid, id, place, pidfd, exit } = spawned;
        let pidfd = Arc::new(pidfd.claim()?);
        {
            self.running().helper = Some(Process { pidfd, pid, request: id, place: Some(place) });
            *self.told() = Told::Awaited(exit);
        }
        running(&report, Some(plan)).await
    }

    /// What it has said.
    pub(super) fn words(&self) -> String {
        self.running().words.as_ref().map(|words| read(words)).unwrap_or_default()
    }

    /// How many descriptors it may have, and the ids of its container.
    pub(super) fn ground(&self) -> ((u64, u64), Option<&IdMap>) {
        (self.nofile, self.ids.as_ref())
    }

    /// The guard, ready.
    async fn guard(&self, plan: &Plan) -> Result<Arc<OwnedFd>, Error> {
        let (report, mut supply) = reporting()?;
        let copy = self.init.try_clone().map_err(|error| Error::system("cannot duplicate a pidfd", error))?;
        supply.init = Some(copy);
        let Spawned { pid, id, place, pidfd, .. } = self.keeper.spawn(plan, supply.all(plan, None)?).await?;
        let pidfd = Arc::new(pidfd.claim()?);
        self.running().guard = Some(Process { pidfd: Arc::clone(&pidfd), pid, request: id, place: Some(place) });
        match report.next().await? {
            Said::Ready => Ok(pidfd),
            Said::Failed(step, errno) => Err(step_error(plan, step, errno)),
            Said::End => Err(Error::new(ErrorKind::State, "the container has ended")),
        }
    }

    /// A socket of the container's network.
    pub(crate) async fn socket(&self, family: u32, kind: u32) -> Result<OwnedFd, Error> {
        let init = self.init.try_clone().map_err(|error| Error::system("cannot duplicate a pidfd", error))?;
        fetch(&self.keeper, init, &reach::socket(true, family, kind), Purpose::Socket).await
    }

    /// It runs.
    pub(crate) fn is_up(&self) -> bool {
        self.running().helper.as_ref().is_some_and(|helper| lives(&helper.pidfd))
    }

    /// Resolves when it has ended, for whatever reason. Without one, never.
    pub(super) async fn gone(&self) {
        let helper = self.running().helper.clone();
        match helper {
            Some(helper) => drop(ended(&helper.pidfd).await),
            None => std::future::pending().await,
        }
    }

    /// The container is about to be killed: whether it has lost this one before.
    pub(super) fn note_loss(&self) {
        let there = self.running().helper.is_some();
        if there && !self.is_up() && lives(&self.init) && !self.ending.load(Ordering::Acquire) {
            self.lost.store(true, Ordering::Release);
        }
    }

    /// It was, as far as that was noted; or it ended for a reason of its own before a process of the container had ended by
    /// itself, at `before_ns` as the keeper has it, which may be for want of its files. Two ends come of the container's: with
    /// 0, as its file system is unmounted; and by SIGKILL, as the guard goes. For one that somebody else has killed the order
    /// speaks.
    pub(super) fn was_lost(&self, before_ns: u64) -> bool {
        let mut told = self.told();
        if let Told::Awaited(exit) = &mut *told
            && let Ok(exit) = exit.try_recv()
        {
            *told = Told::Heard(Some(exit));
        }
        let lost = |exit: &Exit| match exit.status {
            ExitStatus::Code(0) => false,
            ExitStatus::Signal { signal: libc::SIGKILL, .. } => exit.at_ns < before_ns,
            _ => exit.at_ns < before_ns.saturating_add(SKEW),
        };
        self.lost.load(Ordering::Acquire) || matches!(&*told, Told::Heard(Some(exit)) if lost(exit))
    }

    /// Its end is told, or nobody is there to tell it.
    pub(super) async fn heard(&self) {
        std::future::poll_fn(|cx| self.poll_exit(cx)).await;
    }

    /// How it has ended, when that is told.
    fn poll_exit(&self, cx: &mut Context<'_>) -> Poll<Option<Exit>> {
        let mut told = self.told();
        if let Told::Awaited(exit) = &mut *told {
            *told = Told::Heard(ready!(Pin::new(exit).poll(cx)).ok());
        }
        match &*told {
            Told::Heard(exit) => Poll::Ready(*exit),
            _ => Poll::Ready(None),
        }
    }

    /// Kill it: the container is being killed, and whatever waits for an answer of it need not. Idempotent.
    pub(super) fn kill(&self) {
        self.ending.store(true, Ordering::Release);
        let running = self.running();
        // The guard takes the helper along; one that found itself without a guard is ended too.
        for process in [&running.guard, &running.helper].into_iter().flatten() {
            let _ = rustix::process::pidfd_send_signal(&process.pidfd, rustix::process::Signal::KILL);
        }
    }

    /// Resolves when it has ended before the container, with how and its words. Without one, never. For one to ask.
    pub(super) async fn ended(&self) -> String {
        let (helper, words, missed) = {
            let running = self.running();
            (running.helper.clone(), running.words.clone(), running.missed)
        };
        if missed {
            return "its helper has ended while there was no supervisor".into();
        }
        let Some(helper) = helper else { return std::future::pending().await };
        let _ = ended(&helper.pidfd).await;
        if !lives(&self.init) || self.ending.load(Ordering::Acquire) {
            // As it should be: the guard has gone along, and has taken it along.
            return std::future::pending().await;
        }
        // Told right before or after the pidfd is readable; a keeper that is gone tells nothing.
        let exit = std::future::poll_fn(|cx| self.poll_exit(cx)).await;
        let how = match exit.map_or(ExitStatus::Lost, |exit| exit.status) {
            ExitStatus::Code(code) => format!("its helper has ended with code {code}"),
            ExitStatus::Signal { signal, .. } => format!("its helper was ended by signal {signal}"),
            ExitStatus::Lost => "its helper has ended".to_owned(),
        };
        match words.map(|words| read(&words)).filter(|words| !words.is_empty()) {
            Some(words) => format!("{how}: {words}"),
            None => how,
        }
    }

    /// End it, and wait until it has. Idempotent.
    pub(super) async fn end(&self) {
        self.kill();
        let Running { guard, helper, .. } = std::mem::take(&mut *self.running());
        for process in [helper, guard].into_iter().flatten() {
            let _ = ended(&process.pidfd).await;
            if let Some(place) = process.place {
                self.keeper.settle(process.request, place);
            }
        }
    }

    /// `None`: there is none.
    pub(super) fn record(&self) -> Option<HelperRecord> {
        let running = self.running();
        let one = |process: &Process| One {
            process: Identity::of(&process.pidfd, process.pid, self.without_pidfs),
            request: process.request,
        };
        Some(HelperRecord { guard: one(running.guard.as_ref()?), helper: one(running.helper.as_ref()?) })
    }
}

/// Where a program may be.
pub(crate) fn candidates(program: &str) -> Vec<OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = path.as_bytes().split(|byte| *byte == b':').filter(|dir| dir.starts_with(b"/"));
    let dirs = dirs.map(|dir| Path::new(OsStr::from_bytes(dir)).to_path_buf());
    let usual = ["/usr/local/bin", "/usr/bin", "/bin"].map(PathBuf::from);
    dirs.chain(usual).map(|dir| dir.join(program).into_os_string()).collect()
}

/// Where it is; `None`: it is not installed.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    use rustix::fs::{Access, access};
    let is = |path: &PathBuf| path.is_file() && access(path, Access::EXEC_OK).is_ok();
    candidates(program).into_iter().map(PathBuf::from).find(is)
}

/// Our end of a report pipe, and theirs among what a plan needs.
fn reporting() -> Result<(Report, Supply), Error> {
    let (read, write) = stdio::pipe()?;
    Ok((Report::new(read, false)?, Supply::new(write)))
}

/// A file of a fixed size.
pub(super) fn words() -> Result<OwnedFd, Error> {
    let failed = |error: rustix::io::Errno| Error::system("cannot make a memfd", error);
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let words = rustix::fs::memfd_create("orangery-words", flags).map_err(failed)?;
    rustix::fs::ftruncate(&words, WORDS).map_err(failed)?;
    rustix::fs::fcntl_add_seals(&words, SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL).map_err(failed)?;
    Ok(words)
}

/// What stands in it.
pub(super) fn text(words: &OwnedFd) -> String {
    let mut bytes = vec![0u8; usize::try_from(WORDS).unwrap_or_default()];
    let len = rustix::io::pread(words, &mut bytes[..], 0).unwrap_or(0);
    let text = bytes.get(..len).unwrap_or_default().split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

/// What stands in it, as one line; what the program says of its own system log is not.
fn read(words: &OwnedFd) -> String {
    let text = text(words);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines: Vec<&str> =
        lines.filter(|line| !line.starts_with("Failed to send ") || !line.ends_with("syslog")).collect();
    lines.join("; ").chars().filter(|c| !c.is_control()).collect()
}

/// A line has come; `false`: the end of file, and no line.
async fn said_ready(pipe: OwnedFd) -> Result<bool, Error> {
    let failed = |error: std::io::Error| Error::system("cannot hear of a network's helper", error);
    rustix::fs::fcntl_setfl(&pipe, rustix::fs::OFlags::NONBLOCK).map_err(|error| failed(error.into()))?;
    let pipe = crate::sys::watch(pipe, Interest::READABLE).map_err(failed)?;
    loop {
        let mut ready = pipe.readable().await.map_err(failed)?;
        let mut buffer = [0u8; 64];
        match ready.try_io(|pipe| Ok(rustix::io::read(pipe.get_ref().as_fd(), &mut buffer)?)) {
            Ok(Ok(0)) => return Ok(false),
            Ok(Ok(len)) if buffer.get(..len).is_some_and(|said| said.contains(&b'\n')) => return Ok(true),
            Ok(Ok(_)) | Err(_) => {}
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Ok(Err(error)) => return Err(failed(error)),
        }
    }
}
