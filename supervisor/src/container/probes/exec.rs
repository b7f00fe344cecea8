//! A command as a probe: a further process of the container, with a time of its own, that leaves nothing behind.

use std::sync::Arc;
use std::time::Duration;

use orangery_io_stream::{Captured, Subscriber};
use orangery_runtime::spec::Stdio;
use orangery_runtime::{Container, ErrorKind, Exit, ExitStatus, ProcessSpec};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::attempt::{Miss, no_answer};
use crate::admission::Cost;
use crate::container::life::later;
use crate::container::msg::{Exec, Executed};
use crate::container::slot::ContainerSlot;
use crate::error::{Error, ErrorKind as Kind};
use crate::ids::ProcessRole;
use crate::ladder::StopLadder;
use crate::process::slot::{Slot, Terms};
use crate::process::wall::Wall;
use crate::report::{Cause, LimitKind};

/// How much of its last words is told, of each stream.
const WORDS: usize = 256;
/// How long after its kill it may take to end.
const DYING: Duration = Duration::from_secs(2);

/// # Errors
/// Why it was no success.
pub(super) async fn run(
    container: &Arc<ContainerSlot>,
    further: &ProcessSpec,
    command: &[String],
    time: Duration,
) -> Result<(), Miss> {
    let lost = || Miss::Unasked("nobody has run the command".into());
    let started = timeout(time.saturating_add(DYING), start(container, further, command, time)).await;
    let Executed { slot, captures, .. } = started.map_err(|_| Miss::Failed(no_answer(time)))??;
    let (slot, captures) = slot.take().zip(captures).ok_or_else(lost)?;
    let inside = container.container.get().ok_or_else(lost)?;
    // Nobody answers what its filter asks.
    drop(slot.take_listener());
    let Ok((exit, stdout, stderr)) = timeout(time.saturating_add(DYING), see_through(&**inside, &slot, captures)).await
    else {
        return Err(Miss::Failed(format!("{}, and it cannot be killed", no_answer(time))));
    };
    let why = match exit.ok_or_else(lost)?.status {
        ExitStatus::Code(0) => return Ok(()),
        _ if ran_out(&slot) => no_answer(time),
        ExitStatus::Code(code) => format!("exit code {code}"),
        ExitStatus::Signal { signal, .. } => format!("killed by signal {signal}"),
        _ => return Err(lost()),
    };
    let words = [stderr.to_vec(), stdout.to_vec()].map(|words| String::from_utf8_lossy(&words).trim().to_owned());
    let last = words.into_iter().find(|words| !words.is_empty());
    Err(Miss::Failed(last.map_or_else(|| why.clone(), |words| format!("{why}: {words}"))))
}

async fn start(
    container: &ContainerSlot,
    further: &ProcessSpec,
    command: &[String],
    limit: Duration,
) -> Result<Executed, Miss> {
    let lost = || Miss::Unasked("nobody has run the command".into());
    let mut spec = further.clone();
    spec.argv = command.iter().map(Into::into).collect();
    // Its room is the container's. That its turn does not come says nothing of the container.
    let unasked = |error: Error| Miss::Unasked(error.to_string());
    let mut permit = container.door.get().ok_or_else(lost)?.enter(Cost::of_probe()).map_err(unasked)?;
    let turn = timeout(limit, permit.turn()).await;
    turn.map_err(|_| Miss::Unasked("its turn to be started did not come".into()))?.map_err(unasked)?;
    let (reply, answer) = oneshot::channel();
    let wall = Some(Wall { limit, ladder: StopLadder::new() });
    let terms = Terms { role: ProcessRole::Probe, wall, ..Terms::default() };
    let exec = Exec { spec, terms, capture: true, log: None, lasting: false, permit, reply };
    container.actor.get().ok_or_else(lost)?.do_send(exec);
    answer.await.map_err(|_| lost())?.map_err(|error| match error.kind() {
        Kind::Exhausted | Kind::Keeper | Kind::System | Kind::SupervisorFault | Kind::ShutDown => {
            Miss::Unasked(error.to_string())
        }
        _ => Miss::Failed(error.to_string()),
    })
}

/// Its end and its words. What it has left behind is killed: it would hold its output, and pile up.
async fn see_through(
    inside: &dyn Container,
    slot: &Slot,
    (stdout, stderr): (Subscriber, Subscriber),
) -> (Option<Exit>, Captured, Captured) {
    let ended = async {
        let exit = later(slot.exit.subscribe()).await;
        match inside.kill_session(slot.born.get().map_or(0, |born| born.pid)).await {
            Err(error) if error.kind() != ErrorKind::State => {
                tracing::warn!(%error, "what a probe has started is left");
            }
            _ => {}
        }
        exit.ok()
    };
    futures_util::future::join3(ended, stdout.collect(WORDS), stderr.collect(WORDS)).await
}

fn ran_out(slot: &Slot) -> bool {
    slot.intent().is_some_and(|intent| intent.cause == Cause::Limit(LimitKind::Wall))
}

/// As the main process runs, but for its command, its streams and whatever else it has for itself.
pub(super) fn like(main: &ProcessSpec) -> ProcessSpec {
    let mut further = main.clone();
    (further.stdin, further.stdout, further.stderr) = (Stdio::Null, Stdio::Piped, Stdio::Piped);
    (further.tty, further.preserved, further.preserved_at) = (None, Vec::new(), Vec::new());
    further
}
