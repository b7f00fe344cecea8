//! `orangery run`: one container from its description to its exit code.

mod kept;
mod report;

use std::io;
use std::time::Duration;

use orangery::{Cause, Command, ContainerHandle, ExitStatus, LimitKind, OutputAction, OutputLimit, Report, Supervisor};
use tokio::time::Instant;

use crate::args::RunArgs;
use crate::copy::{Counts, Trouble};
use crate::errors::Failure;
use crate::events;
use crate::logged;
use crate::passthrough::{Copies, Streams};
use crate::signals::{self, Signals, by_signal};
use crate::spec::{GRACE, Wanted};
use crate::start::{self, Leaf};
use crate::terminal::{Session, Terminal};
use report::ReportPlace;

/// How it ended.
struct Ended {
    code: u8,
    /// `None` when a signal came before the command had started.
    report: Option<Report>,
    /// With `--restart`.
    restarts: Option<kept::Restarts>,
}

/// Run it; the exit code is the command's.
///
/// # Errors
/// It could not be run, or its end is not known.
pub(crate) fn run(args: &RunArgs) -> Result<u8, Failure> {
    let place = args.process.report.as_deref().map(ReportPlace::open).transpose()?;
    let ended = with_runtime(args);
    if let Some(place) = place {
        place.write(&ended)?;
    }
    let Ended { code, report, .. } = ended?;
    match report {
        Some(report) if report.exit == ExitStatus::Lost || report.cause == Cause::SupervisorFault => {
            Err(Failure::new("the container was lost: its keeper, or a part of the supervisor, failed")
                .with_hint("the same command again; with -v for what happened"))
        }
        _ => Ok(code),
    }
}

fn with_runtime(args: &RunArgs) -> Result<Ended, Failure> {
    let wanted = Wanted::new(&args.work, args.words())?;
    let events = events::open(args.process.events.as_deref())?;
    let _leaf = Leaf::with_limits(!wanted.container.limits.is_empty());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::system("cannot start the event loop", &error))?;
    let ended = runtime.block_on(async {
        let signals = Signals::listen()?;
        let supervisor = start::supervisor(&args.place).build()?;
        let told = events.map(|file| events::Told::begin(&supervisor, file)).transpose()?;
        let ended = supervised(&supervisor, wanted, args, signals).await;
        // Whatever happened: when we end nothing is left.
        supervisor.shutdown().await;
        told.map_or(Ok(()), events::Told::end)?;
        ended
    });
    // A thread may still read a terminal; it ends with the process.
    runtime.shutdown_background();
    ended
}

async fn supervised(
    supervisor: &Supervisor,
    wanted: Wanted,
    args: &RunArgs,
    mut signals: Signals,
) -> Result<Ended, Failure> {
    tell_mode(supervisor);
    if let Some(restart) = args.work.restart.restart(&args.work.exits) {
        if wanted.main.tty.is_some() {
            let why = "each life of a command has a terminal of its own: what is typed between two would reach nobody";
            return Err(
                Failure::refused("--restart", why).with_hint("-i without -t, or a shell with a loop in one terminal")
            );
        }
        return kept::supervised(supervisor, wanted, args, restart, signals).await;
    }
    let mut early = Vec::new();
    let Some(begun) = begin(supervisor, wanted, args, &mut signals, &mut early).await? else {
        return Ok(Ended { code: by_signal(signals::INT), report: None, restarts: None });
    };
    let Begun { container, copies, session } = begun;
    tracing::info!(container = container.id(), pid = container.pid(), "started");
    let (interrupted, kill_at, over_limit) = (false, None, None);
    let mut watch = Watch { container, signals, args, session, interrupted, kill_at, over_limit, silent: false };
    for signal in early {
        watch.forward(signal);
    }
    watch.until_the_end(copies).await
}

/// A command that runs, with its streams on their way.
struct Begun {
    container: ContainerHandle,
    copies: Copies,
    /// It has a terminal.
    session: Option<Session>,
}

/// Start it; `None` when a second INT came first.
async fn begin(
    supervisor: &Supervisor,
    wanted: Wanted,
    args: &RunArgs,
    signals: &mut Signals,
    early: &mut Vec<i32>,
) -> Result<Option<Begun>, Failure> {
    if wanted.main.tty.is_some() {
        let terminal = Terminal::choose(args.process.interactive, &args.process.detach_keys)?;
        let command = logged::into_log(wanted.command(supervisor, &args.work, true)?, &args.work.log);
        let command = cared_for(terminal.give(command), args)?;
        let Some((container, output, _)) = spawned(command.spawn_with_output(), signals, early).await? else {
            return Ok(None);
        };
        let (copies, session) = terminal.start(&container, output)?;
        return Ok(Some(Begun { container, copies, session: Some(session) }));
    }
    let (work, logged) = (&args.work, args.work.log.log.is_some());
    let streams = Streams::choose(args, logged, work.time.timeout_idle.is_some())?;
    let command = streams.give(logged::into_log(wanted.command(supervisor, work, logged)?, &work.log))?;
    let command = cared_for(command, args)?;
    let Some(container) = spawned(command.spawn(), signals, early).await? else { return Ok(None) };
    let copies = streams.start(&container)?;
    Ok(Some(Begun { container, copies, session: None }))
}

/// The command with what is asked about it while it runs.
fn cared_for(command: Command, args: &RunArgs) -> Result<Command, Failure> {
    if let Some((key, why)) = args.probes.refused() {
        return Err(Failure::refused(&format!("--{key}"), why));
    }
    if args.probes.reads_lines() && !args.process.tty && args.work.log.log.is_none() {
        let why = "what the command writes does not pass through us: it gets our own streams";
        return Err(
            Failure::refused("--ready-line", why).with_hint("--log DIR, or -t; or another of the --ready options")
        );
    }
    Ok(args.probes.apply(command))
}

/// Start it. The command may run, and have been heard of, before this returns: a signal that comes meanwhile is kept
/// for it, and only the second INT gives up; `None` then, and dropping the future has undone what was made.
async fn spawned<T>(
    spawn: impl Future<Output = Result<T, orangery::Error>>,
    signals: &mut Signals,
    early: &mut Vec<i32>,
) -> Result<Option<T>, Failure> {
    let mut spawn = Box::pin(spawn);
    loop {
        tokio::select! {
            spawned = &mut spawn => return Ok(Some(spawned?)),
            signal = signals.next() => {
                if signal == signals::INT && early.contains(&signal) {
                    return Ok(None);
                }
                early.push(signal);
            }
        }
    }
}

fn tell_mode(supervisor: &Supervisor) {
    if let Some((mode, why)) = supervisor.native().map(|native| native.cgroup_mode()) {
        tracing::info!(mode, why = why.unwrap_or_default(), "cgroups");
    }
}

/// A container that runs, and what has been done to it.
struct Watch<'a> {
    container: ContainerHandle,
    signals: Signals,
    args: &'a RunArgs,
    session: Option<Session>,
    /// One INT was forwarded.
    interrupted: bool,
    kill_at: Option<Instant>,
    /// The limit that its output has passed.
    over_limit: Option<OutputLimit>,
    /// It was killed for its silence.
    silent: bool,
}

impl Watch<'_> {
    /// Until the report is there and every byte is written.
    async fn until_the_end(&mut self, mut copies: Copies) -> Result<Ended, Failure> {
        let (mut report, mut writing, mut given_up) = (None, true, None);
        let idle = self.args.work.time.timeout_idle;
        let mut end = Box::pin(self.container.wait());
        while (report.is_none() || writing) && given_up.is_none() {
            let kill_at = self.kill_at;
            tokio::select! {
                ended = &mut end, if report.is_none() => {
                    report = Some(ended?);
                    copies.command_ended();
                }
                trouble = copies.trouble.recv(), if writing => match trouble {
                    Some(trouble) => self.incomplete(trouble)?,
                    None => writing = false,
                },
                signal = self.signals.next() => match &report {
                    // It has ended, and its output does not get away: the user does not want to wait for that.
                    Some(_) => given_up = Some(by_signal(signal)),
                    None => self.forward(signal),
                },
                () = silence(copies.counts.as_deref(), idle), if report.is_none() && !self.silent => {
                    self.silent = true;
                    self.kill("--timeout-idle has passed");
                }
                () = at(kill_at) => self.kill("it was told long enough ago"),
                () = attended(&mut self.session, &self.container) => {}
            }
        }
        let report = report.map(|report| {
            let mut report = Report::clone(&report);
            copies.counts.as_deref().inspect(|counts| counts.complete(&mut report, self.over_limit));
            // As with the supervisor's own limit: who ended by itself meanwhile has done so.
            if self.silent && matches!(report.exit, ExitStatus::Signal { signal: 9, .. }) {
                report.cause = Cause::Limit(LimitKind::Idle);
            }
            report
        });
        let code = report.as_ref().and_then(|report| u8::try_from(report.shell_code()).ok()).unwrap_or(u8::MAX);
        Ok(Ended { code: given_up.unwrap_or(code), report, restarts: None })
    }

    fn forward(&mut self, signal: i32) {
        if signal == signals::INT && std::mem::replace(&mut self.interrupted, true) {
            return self.kill("a second INT");
        }
        if signal == signals::HUP && self.hang_up() {
            return;
        }
        if matches!(signal, signals::INT | signals::TERM) && self.args.work.time.stop.is_some() {
            tracing::info!(signal = signals::name(signal), "stops");
            // It goes on when the future is dropped, and its end is what we wait for anyway.
            return drop(self.container.stop_gently());
        }
        tracing::info!(signal = signals::name(signal), "forwarded");
        // It may have ended meanwhile: then there is nobody to signal.
        let _ = self.container.signal(signal);
        if let (signals::TERM, Some(after)) = (signal, self.args.stop.kill_after) {
            self.kill_at.get_or_insert(Instant::now() + after);
        }
    }

    /// Our terminal is gone, and so the command's goes; whoever does not end by that is killed. `false`: it has none.
    fn hang_up(&mut self) -> bool {
        if self.session.is_none() || self.container.hang_up().is_err() {
            return false;
        }
        tracing::info!("hung up");
        self.kill_at.get_or_insert(Instant::now() + self.args.stop.kill_after.unwrap_or(GRACE));
        true
    }

    fn kill(&mut self, why: &str) {
        tracing::info!(why, "killed");
        self.kill_at = None;
        let _ = self.container.kill();
    }

    /// Not all of the output gets away.
    fn incomplete(&mut self, trouble: Trouble) -> Result<(), Failure> {
        match trouble {
            // Nobody sees its terminal any more.
            Trouble::Unwritable(_, error) if self.session.is_some() && gone(&error) => {
                self.hang_up();
                Ok(())
            }
            // The command's own pipe is closed with ours: SIGPIPE tells it, or EPIPE, as without us.
            Trouble::Unwritable(_, error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Trouble::Unwritable(source, error) => Err(Failure::system(format!("cannot write {source}"), &error)),
            Trouble::OverLimit => {
                self.over_limit();
                Ok(())
            }
        }
    }

    /// Do what `--output-limit` says.
    fn over_limit(&mut self) {
        self.over_limit = self.args.work.program.output_limit;
        match self.over_limit.map(|limit| limit.action) {
            Some(OutputAction::Truncate) => tracing::info!("over --output-limit: the rest is dropped"),
            Some(OutputAction::Signal(signal)) => {
                tracing::info!(signal = signals::name(signal), "over --output-limit");
                let _ = self.container.signal(signal);
            }
            _ => self.kill("over --output-limit"),
        }
    }
}

/// The reader of a pipe has gone, or a terminal was hung up.
fn gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe || rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::IO)
}

/// Never ends.
async fn attended(session: &mut Option<Session>, container: &ContainerHandle) {
    match session {
        Some(session) => session.attend(container).await,
        None => std::future::pending().await,
    }
}

/// Until nothing has come for so long through the pipes that we copy; never where there are none.
async fn silence(counts: Option<&Counts>, limit: Option<Duration>) {
    match counts.zip(limit) {
        Some((counts, limit)) => counts.silent(limit).await,
        None => std::future::pending().await,
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
