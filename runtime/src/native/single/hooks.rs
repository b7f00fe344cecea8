//! The programs that a bundle has run at points of its container's life, one after the other, each waited for. All are children
//! of the keeper, which tells how they end.

use std::ffi::OsString;
use std::io::{Seek as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, OFlags};

use super::super::report::{Said, read, step_error};
use super::super::stdio;
use super::super::supply::{Supply, some};
use super::exec::{Beside, or_ended};
use super::{Listening, Maker, Stop, Until};
use crate::cgroup::Group;
use crate::error::{Error, ErrorKind, Errors};
use crate::plan::wire::{ExitRecord, Op};
use crate::plan::{Plan, hook, process};
use crate::spec::{Hook, HookKind, ProcessSpec, Stdio};

/// What of its words is told when one fails.
const WORDS: usize = 4096;
/// How long what was killed may take to end.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// What hooks are told, and where they run.
#[derive(Clone, Copy)]
pub struct Hooked<'a> {
    /// The container's state, with this number of its first process.
    pub state: &'a dyn Fn(HookKind, i32) -> Vec<u8>,
    /// The working directory of those that run outside.
    pub bundle: &'a Path,
}

impl std::fmt::Debug for Hooked<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hooked").field("bundle", &self.bundle).finish_non_exhaustive()
    }
}

/// CLD_EXITED.
const EXITED: i32 = 1;

/// Where one runs.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// The container's first process, whose end ends it as well.
    init: Option<&'a OwnedFd>,
    /// The container, for one that runs inside.
    beside: Option<&'a Beside<'a>>,
}

impl<'a> Place<'a> {
    /// In this container.
    fn of(beside: &'a Beside<'a>) -> Self {
        Self { init: Some(beside.init.1), beside: Some(beside) }
    }
}

/// What one says.
struct Words {
    /// `None`: nothing more comes.
    pipe: Option<OwnedFd>,
    /// As much of it as is told.
    said: Vec<u8>,
}

/// One that is about to run.
struct Ready {
    plan: Plan,
    supply: Supply,
    report: OwnedFd,
    words: OwnedFd,
}

impl Maker {
    /// Run one outside of the container, whose first process has this number (0: it is gone).
    ///
    /// # Errors
    /// It was not to be executed, has ended otherwise than with 0, or was killed as it took too long.
    pub fn hook(
        &mut self,
        kind: HookKind,
        index: usize,
        hook: &Hook,
        hooked: Hooked<'_>,
        pid: i32,
    ) -> Result<(), Error> {
        self.outside((kind, index), hook, hooked, (pid, None))
    }

    /// The same, of a container that is needed for it.
    fn outside(
        &mut self,
        (kind, index): (HookKind, usize),
        hook: &Hook,
        hooked: Hooked<'_>,
        (pid, init): (i32, Option<&OwnedFd>),
    ) -> Result<(), Error> {
        let plan = hook::outside(&with_environment(hook), hooked.bundle, &self.machine);
        let prepared = prepared(plan, &(hooked.state)(kind, pid));
        let place = Place { init, beside: None };
        prepared
            .and_then(|ready| self.run(ready, hook, place, &mut |_, _| Ok(())))
            .map_err(|error| named(kind, index, &error))
    }

    /// Those of its creation, in the order of the specification.
    pub(super) fn hooks_of_creation(&mut self, beside: &Beside<'_>, hooked: Hooked<'_>) -> Result<(), Error> {
        let hooks = &beside.spec.hooks;
        for kind in [HookKind::Prestart, HookKind::CreateRuntime] {
            for (index, hook) in hooks.of(kind).iter().enumerate() {
                self.outside((kind, index), hook, hooked, (beside.init.0, Some(beside.init.1)))?;
            }
        }
        let kind = HookKind::CreateContainer;
        let rootfs = beside.spec.rootfs.directories().first().map_or(Path::new("/"), |path| path.as_path());
        for (index, hook) in hooks.of(kind).iter().enumerate() {
            let state = (hooked.state)(kind, number_inside(beside));
            let joined = self.joining(beside).map_err(|error| or_ended(beside, error));
            let ran = joined.and_then(|(joining, tasks)| {
                let mut ready = prepared(hook::inside(hook, rootfs, &joining, &self.machine), &state)?;
                ready.supply.tasks = some(tasks);
                self.run(ready, hook, Place::of(beside), &mut |_, _| Ok(()))
            });
            ran.map_err(|error| named(kind, index, &error))?;
        }
        Ok(())
    }

    /// Those of its start, each a further process of it with the rights of `main`, its command.
    ///
    /// # Errors
    /// As [`Maker::hook`].
    pub fn hooks_of_start(
        &mut self,
        beside: &Beside<'_>,
        main: &ProcessSpec,
        hooked: Hooked<'_>,
        listening: Listening<'_>,
    ) -> Result<(), Errors> {
        let kind = HookKind::StartContainer;
        for (index, hook) in beside.spec.hooks.of(kind).iter().enumerate() {
            let state = (hooked.state)(kind, number_inside(beside));
            let ran = self.in_container(beside, main, hook, &state, listening);
            ran.map_err(|errors| Errors(errors.0.iter().map(|error| named(kind, index, error)).collect()))?;
        }
        Ok(())
    }

    fn in_container(
        &mut self,
        beside: &Beside<'_>,
        main: &ProcessSpec,
        hook: &Hook,
        state: &[u8],
        listening: Listening<'_>,
    ) -> Result<(), Errors> {
        let one = |error: Error| Errors(vec![error]);
        let (stdin, out, words) = streams(state).map_err(one)?;
        let (stdin, out) = (Arc::new(stdin), Arc::new(out));
        let mut spec = as_command(hook, main);
        (spec.stdin, spec.stdout, spec.stderr) = (Stdio::Fd(stdin), Stdio::Fd(Arc::clone(&out)), Stdio::Fd(out));
        let (checked, plan, tasks) = self.planned(beside, spec, process::plan_tied)?;
        let ready = || {
            let mut ends = self.streams(&checked, beside.ids)?;
            let (report, mut supply) = reporting()?;
            supply.stdio = std::mem::take(&mut ends.theirs);
            supply.channel = ends.channel()?;
            supply.tasks = some(tasks);
            Ok((Ready { plan, supply, report, words }, ends))
        };
        let (ready, mut ends) = ready().map_err(one)?;
        drop(checked);
        let mut asks = |pid, until: &Until<'_>| {
            let listener = ends.listener(|channel| until.wait([Some(channel)]).map(drop))?;
            listener.map_or(Ok(()), |listener| Ok(listening(listener, pid)?))
        };
        self.run(ready, hook, Place::of(beside), &mut asks).map_err(one)
    }

    /// Start it, and wait for its end: not past its timeout, nor longer than there is a container that it is for.
    fn run(
        &mut self,
        ready: Ready,
        hook: &Hook,
        place: Place<'_>,
        begun: &mut dyn FnMut(i32, &Until<'_>) -> Result<(), Stop>,
    ) -> Result<(), Error> {
        let Ready { plan, mut supply, report, words } = ready;
        let time = (hook.timeout > 0).then(|| Instant::now() + Duration::from_secs(hook.timeout.into()));
        let halt = self.halt.clone();
        let until = Until { time, init: place.init, halt: halt.as_deref() };
        until.look()?;
        let group = place.beside.and_then(|beside| beside.group);
        let ended = |error| match place.beside {
            Some(beside) => or_ended(beside, error),
            None => error,
        };
        let spawned = || {
            if let Some(beside) = place.beside {
                beside.supply(&mut supply, &plan, &self.machine)?;
            }
            let fds = supply.all(&plan, group)?;
            self.brief.spawn_own(&plan, fds)
        };
        let (id, pid, pidfd) = spawned().map_err(ended)?;
        let mut words = Words { pipe: Some(words), said: Vec::new() };
        let end = begun(pid, &until).and_then(|()| match self.word((&report, &pidfd), &until)? {
            Said::Failed(step, errno) => Err(ended(not_run(&plan, step, errno, hook)).into()),
            Said::Ready | Said::End => self.end_of((id, &pidfd), &until, &mut words),
        });
        let how = match end {
            Ok(ExitRecord { code: EXITED, status: 0, .. }) => return Ok(()),
            Ok(ExitRecord { code: EXITED, status, .. }) => format!("exit status {status}"),
            Ok(ExitRecord { status, .. }) => format!("signal {status}"),
            Err(stop) => {
                kill(pid, &pidfd, group);
                let patience = Until { time: Some(Instant::now() + PATIENCE), ..Until::default() };
                let _ = self.end_of((id, &pidfd), &patience, &mut words);
                match stop {
                    Stop::Late => format!("hook ran past specified timeout of {}s", hook.timeout),
                    Stop::Failed(error) => return Err(error),
                }
            }
        };
        Err(Error::new(ErrorKind::Creation, how + &told(&words.said)))
    }

    /// What it reports before its exec.
    fn word(&self, (report, pidfd): (&OwnedFd, &OwnedFd), until: &Until<'_>) -> Result<Said, Stop> {
        let mut lives = Some(pidfd.as_fd());
        loop {
            match read(report) {
                Err(rustix::io::Errno::AGAIN) => {
                    let [_, ended] = until.wait([Some(report.as_fd()), lives])?;
                    self.wake(ended, &mut lives);
                }
                Err(rustix::io::Errno::INTR) => {}
                said => return said.map_err(|error| Error::system("cannot read the report", error).into()),
            }
        }
    }

    /// It has ended, and may have stopped the keeper before that, which has to tell.
    fn wake(&self, ended: bool, lives: &mut Option<BorrowedFd<'_>>) {
        if ended {
            self.brief.wake();
            *lives = None;
        }
    }

    /// Its end, waited for; what it says meanwhile is read.
    fn end_of(&self, (id, pidfd): (u64, &OwnedFd), until: &Until<'_>, words: &mut Words) -> Result<ExitRecord, Stop> {
        let mut lives = Some(pidfd.as_fd());
        loop {
            if let Some(end) = self.brief.end_of(id)? {
                // Once: whoever it has left behind may hold them open for ever.
                words.read();
                return Ok(end);
            }
            let pipe = words.pipe.as_ref().map(OwnedFd::as_fd);
            let [_, speaks, ended] = until.wait([Some(self.brief.socket()?), pipe, lives])?;
            self.wake(ended, &mut lives);
            if speaks {
                words.read();
            }
        }
    }
}

fn named(kind: HookKind, index: usize, error: &Error) -> Error {
    let what = format!("error running {} hook #{index}: {error}", kind.name());
    Error::new(error.kind(), what)
}

fn prepared(plan: Plan, state: &[u8]) -> Result<Ready, Error> {
    plan.fits()?;
    let (stdin, out, words) = streams(state)?;
    let (report, mut supply) = reporting()?;
    let copy = out.try_clone().map_err(|error| Error::system("cannot duplicate a descriptor", error))?;
    supply.stdio = some(vec![stdin, out, copy]);
    Ok(Ready { plan, supply, report, words })
}

fn reporting() -> Result<(OwnedFd, Supply), Error> {
    let (report, theirs) = stdio::pipe()?;
    silent(&report)?;
    Ok((report, Supply::new(theirs)))
}

/// Reading it waits for nobody.
fn silent(pipe: &OwnedFd) -> Result<(), Error> {
    rustix::fs::fcntl_setfl(pipe, OFlags::NONBLOCK).map_err(|error| Error::system("cannot prepare a pipe", error))
}

/// What it reads, what it writes to, and our end of that.
fn streams(state: &[u8]) -> Result<(OwnedFd, OwnedFd, OwnedFd), Error> {
    let (words, out) = stdio::pipe()?;
    silent(&words)?;
    let failed = |error: std::io::Error| Error::system("cannot prepare the state for a hook", error);
    // A file, so that nobody waits for one that does not read it.
    let file = rustix::fs::memfd_create("orangery-state", MemfdFlags::CLOEXEC).map_err(|error| failed(error.into()))?;
    let mut file = std::fs::File::from(file);
    file.write_all(state).and_then(|()| file.rewind()).map_err(failed)?;
    Ok((file.into(), out, words))
}

/// With ours, where the bundle says nothing of it, as runc and crun do: as far as it is text.
fn with_environment(hook: &Hook) -> Hook {
    let ours =
        || std::env::vars_os().filter_map(|(name, value)| Some(format!("{}={}", name.to_str()?, value.to_str()?)));
    Hook { env: Some(hook.env.clone().unwrap_or_else(|| ours().collect())), ..hook.clone() }
}

/// A further process as the container's command is one, but for what the hook says.
fn as_command(hook: &Hook, main: &ProcessSpec) -> ProcessSpec {
    let mut spec = main.clone();
    let name = hook.path.clone().into_os_string();
    spec.argv = if hook.args.is_empty() { vec![name] } else { hook.args.iter().map(OsString::from).collect() };
    spec.program = Some(hook.path.clone());
    let pair = |entry: &String| entry.split_once('=').map(|(key, value)| (key.into(), value.into()));
    spec.env = hook.env.iter().flatten().filter_map(pair).collect();
    (spec.tty, spec.preserved, spec.preserved_at) = (None, Vec::new(), Vec::new());
    spec
}

/// The number of the container's first process in its own pid namespace.
fn number_inside(beside: &Beside<'_>) -> i32 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", beside.init.0)).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    line.and_then(|line| line.split_whitespace().last()?.parse().ok()).unwrap_or(beside.init.0)
}

fn not_run(plan: &Plan, step: u16, errno: i32, hook: &Hook) -> Error {
    let error = step_error(plan, step, errno);
    if plan.step(step).is_some_and(|step| step.op == Op::Exec) {
        let what = format!("cannot execute {}", hook.path.display());
        return Error::new(error.kind(), what).with_errno(Some(errno));
    }
    error
}

impl Words {
    /// Read some of what has come, and no more, so that one that never stops talking is not waited for.
    fn read(&mut self) {
        let Some(pipe) = &self.pipe else { return };
        let mut buffer = [0u8; 4096];
        match rustix::io::retry_on_intr(|| rustix::io::read(pipe, &mut buffer)) {
            Ok(0) => self.pipe = None,
            Ok(len) => {
                let room = WORDS.saturating_sub(self.said.len()).min(len);
                self.said.extend_from_slice(buffer.get(..room).unwrap_or_default());
            }
            Err(rustix::io::Errno::AGAIN) => {}
            Err(_) => self.pipe = None,
        }
    }
}

fn told(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let text = text.trim();
    if text.is_empty() { String::new() } else { format!(", output: {text}") }
}

/// With its group: what it has started, unless that has left it. Of one inside, the whole container goes, which would not be started
/// without it: who is frozen feels a signal no sooner.
fn kill(pid: i32, pidfd: &OwnedFd, group: Option<&Group>) {
    // Before 6.9 a group is known by number alone, which is its own as long as it has not ended.
    let unknown = crate::sys::pidfd_kill_group(pidfd).is_err_and(|error| error.raw_os_error() == Some(libc::EINVAL));
    if unknown
        && super::super::lives(pidfd)
        && let Some(group) = rustix::process::Pid::from_raw(pid)
    {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _ = super::super::signal(pidfd, 9);
    if let Some(group) = group {
        let _ = group.kill();
    }
}
