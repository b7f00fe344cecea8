//! Asks the probes of one container: from its start until it is ready ([`ready`]), then about its health. Part of the
//! container's straight line ([`life`](super::life)) and dropped with its main process, so that nothing is asked of a dead
//! one and no late answer is heard. What is found is in the slot ([`vitals`](super::vitals)); what follows from it is a kill
//! with its cause noted first, as a limit's.

mod attempt;
mod exec;
mod http;
mod notify;
mod ready;
mod tcp;
mod watchdog;

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use orangery_io_stream::{From as Position, Overflow, SubscribeOptions, Subscriber};
use orangery_runtime::spec::Stdio;
use orangery_runtime::{Container, ErrorKind, ProcessSpec};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::net::unix::pipe;
use tokio::time::Instant;

use super::slot::ContainerSlot;
use crate::error::Error;
use crate::faults::Faults;
use crate::ladder::StopLadder;
use crate::probe::health::{Answer, Thresholds, Verdict};
use crate::probe::{Care, Health, HealthState, OnUnhealthy, Question};
use crate::process::backstop;
use crate::process::slot::{CAPTURE_BUDGET, Slot};
use crate::report::Cause;
use attempt::Asker;
use notify::Channel;
use ready::{Means, until_ready};

/// What has to be there before the first byte, and before the start.
pub(super) struct Prepared {
    care: Care,
    lines: Option<Subscriber>,
    descriptor: Option<pipe::Receiver>,
    channel: Option<Channel>,
    /// Commands run as the main process does.
    further: ProcessSpec,
}

/// Before anything is made; `main` is told what it has to know.
///
/// # Errors
/// A line is looked for in output that does not pass here; no descriptor is left.
pub(super) fn prepare(slot: &Slot, care: Care, main: &mut ProcessSpec) -> Result<Prepared, Error> {
    let is_line = care.readiness.as_ref().is_some_and(|readiness| matches!(readiness.probe.0, Question::Line(_)));
    // What stands in a log already is an earlier run's.
    let lines = is_line.then(|| lines(slot, main, Position::Now)).transpose()?;
    let channel = care.is_notified().then(|| Channel::new(main));
    if let Some(watchdog) = &care.watchdog {
        notify::set(main, "WATCHDOG_USEC", watchdog.within.as_micros().to_string());
    }
    let further = exec::like(main);
    let descriptor = care.asks(&Question::Descriptor).then(|| descriptor(main)).transpose()?;
    Ok(Prepared { care, lines, descriptor, channel, further })
}

/// What the keeper has held where nobody was there to hear of it ([`Prepared::hold`]).
pub(crate) struct Ears {
    pub(crate) socket: Option<OwnedFd>,
    pub(crate) descriptor: Option<OwnedFd>,
}

/// What each of them is called in the keeper, behind its process's label.
pub(crate) const EARS: [&str; 2] = [".notify", ".ready"];

/// Of one that another supervisor has started. What it has said since is in its log, or waits in what the keeper has held; where
/// that is a descriptor that has gone, it is taken for ready.
pub(super) fn prepare_again(
    slot: &Slot,
    mut care: Care,
    main: &ProcessSpec,
    (ready, notify): (bool, Option<String>),
    ears: Ears,
) -> Result<Prepared, Error> {
    let descriptor =
        ears.descriptor.filter(|_| !ready && care.asks(&Question::Descriptor)).map(line_reader).transpose()?;
    if ready
        || (care.asks(&Question::Descriptor) && descriptor.is_none())
        || (care.asks(&Question::Notify) && notify.is_none())
    {
        care.readiness = None;
    }
    let is_line = care.readiness.as_ref().is_some_and(|readiness| matches!(readiness.probe.0, Question::Line(_)));
    let lines = is_line.then(|| lines(slot, main, Position::Start)).transpose()?;
    let channel = notify.filter(|_| care.is_notified()).map(|name| Channel::again(name, ears.socket)).transpose()?;
    Ok(Prepared { care, lines, descriptor, channel, further: exec::like(main) })
}

fn lines(slot: &Slot, main: &ProcessSpec, from: Position) -> Result<Subscriber, Error> {
    if main.tty.is_none() && ![&main.stdout, &main.stderr].into_iter().any(|end| matches!(end, Stdio::Piped)) {
        let why = "its output goes to descriptors of its own: nobody here sees what is written";
        return Err(Error::invalid("ready_when.probe", why));
    }
    // It keeps nothing and is read without a pause, so that it holds nobody up for long.
    let overflow = Overflow::block(CAPTURE_BUDGET);
    Ok(slot.output.subscribe(SubscribeOptions { overflow, from, ..SubscribeOptions::default() }))
}

/// Our end; the other one is the next of its descriptors.
fn descriptor(main: &mut ProcessSpec) -> Result<pipe::Receiver, Error> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(no_pipe)?;
    notify::set(main, "NOTIFY_FD", (3 + main.preserved.len()).to_string());
    main.preserved.push(Arc::new(write));
    line_reader(read)
}

fn no_pipe(error: rustix::io::Errno) -> Error {
    orangery_runtime::Error::system("cannot make a pipe", error).with_field("ready_when.probe").into()
}

fn line_reader(read: OwnedFd) -> Result<pipe::Receiver, Error> {
    pipe::Receiver::from_owned_fd(read)
        .map_err(|error| no_pipe(rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO)))
}

impl Prepared {
    /// Nobody has to ask whether it is ready.
    pub(super) fn is_ready(&self) -> bool {
        self.care.readiness.is_none()
    }

    /// The name of the socket that it speaks to.
    pub(super) fn notify(&self) -> Option<String> {
        self.channel.as_ref().map(|channel| channel.name().to_owned())
    }

    /// Between the container's creation and its start.
    ///
    /// # Errors
    /// It cannot be listened to what it says.
    pub(super) async fn open(&mut self, container: &dyn Container) -> Result<(), Error> {
        match &mut self.channel {
            Some(channel) => channel.open(container).await,
            None => Ok(()),
        }
    }

    /// What it says of its readiness while nobody is there waits in the kernel: the keeper holds the other end, until it is
    /// ready. Not longer: who says more than a socket takes would wait as well. Before its start.
    pub(super) async fn hold(&self, container: &dyn Container, slot: &Slot) {
        let Some(label) = slot.label.get() else { return };
        let socket = self.channel.as_ref().filter(|_| self.care.asks(&Question::Notify)).and_then(Channel::socket);
        let descriptor = self.descriptor.as_ref().map(AsFd::as_fd);
        for (name, end) in EARS.into_iter().zip([socket, descriptor]) {
            let Some(Ok(end)) = end.map(|end| end.try_clone_to_owned()) else { continue };
            match container.hold_beside(format!("{label}{name}").into_bytes(), end).await {
                Ok(beside) => slot.is_beside(beside),
                Err(error) if error.kind() == ErrorKind::Unsupported => {}
                Err(error) => tracing::warn!(%error, name, "the keeper does not hold where it says that it is ready"),
            }
        }
    }
}

/// Ask until its end, which drops this.
pub(super) async fn watch(container: &Arc<ContainerSlot>, prepared: Prepared, faults: &Faults) {
    let Prepared { care, lines, descriptor, channel, further } = prepared;
    let asker = Asker { container, further, faults };
    let listen = async {
        if let Some(channel) = &channel {
            channel.listen(container, faults).await;
        }
    };
    let beats = || channel.as_ref().map(|channel| channel.beats.subscribe());
    let means = Means { lines, descriptor, beats: beats() };
    let ask = async {
        // Another supervisor has found it wanting, and has begun to end it.
        if let Some(cause @ (Cause::NotReady | Cause::Unhealthy | Cause::Watchdog)) = container.main.begun_for() {
            return backstop::descend(&container.main, cause, &container.main.ladder).await;
        }
        if let Some(readiness) = &care.readiness
            && let Err(why) = until_ready(&asker, readiness, means).await
        {
            container.know(|vitals| vitals.failure = Some(why));
            return end(&container.main, Cause::NotReady, &container.main.ladder).await;
        }
        if care.readiness.is_some() {
            container.write_down().await;
            container.main.discard_beside();
        }
        let health = async {
            if let Some(health) = &care.health {
                keep_asking(&asker, health).await;
            }
        };
        let watchdog = async {
            if let Some((watchdog, beats)) = care.watchdog.as_ref().zip(beats()) {
                watchdog::watch(container, watchdog, beats).await;
            }
        };
        tokio::join!(health, watchdog);
    };
    tokio::join!(listen, ask);
}

/// Ask about its health until that has an end.
async fn keep_asking(asker: &Asker<'_>, health: &Health) {
    let (container, began) = (asker.container, Instant::now());
    let thresholds = Thresholds { failures: health.failures, successes: health.successes };
    let mut verdict = Verdict::NONE;
    loop {
        container.sleep(health.interval).await;
        let answer = match asker.ask(&health.probe.0, health.attempt).await {
            Answer::Failed if container.vitals().stopping => Answer::Void,
            Answer::Failed if began.elapsed() < health.grace => Answer::FailedEarly,
            answer => answer,
        };
        let after = verdict.next(answer, thresholds);
        container.know(|vitals| vitals.failures = after.failures);
        if after.state != verdict.state {
            container.became(after.state);
        }
        verdict = after;
        if verdict.state == HealthState::Unhealthy && health.action != OnUnhealthy::Report {
            let ladder = health.ladder.as_ref().unwrap_or(&container.main.ladder);
            return end(&container.main, Cause::Unhealthy, ladder).await;
        }
    }
}

/// End it for this reason, unless that is under way for another.
async fn end(slot: &Arc<Slot>, cause: Cause, ladder: &StopLadder) {
    if slot.intent().is_none() {
        backstop::descend(slot, cause, ladder).await;
    }
}
