//! A command as a probe: a further process of the container, with a time of its own, that leaves nothing behind.

use std::sync::Arc;
use std::time::Duration;

use orangery_runtime::spec::Stdio;
use orangery_runtime::{ErrorKind, ExitStatus, ProcessSpec};
use tokio::sync::oneshot;

use super::attempt::no_answer;
use crate::admission::{Beside, Cost};
use crate::container::life::later;
use crate::container::msg::{Exec, Executed};
use crate::container::slot::ContainerSlot;
use crate::ladder::StopLadder;
use crate::process::slot::{Slot, Terms};
use crate::process::wall::Wall;
use crate::report::{Cause, LimitKind};

/// How much of its last words is told, of each stream.
const WORDS: usize = 256;
/// How long after its kill it may take to end.
const DYING: Duration = Duration::from_secs(2);

/// # Errors
/// Why it was no success, in words.
pub(super) async fn run(
    container: &Arc<ContainerSlot>,
    main: &ProcessSpec,
    command: &[String],
    time: Duration,
) -> Result<(), String> {
    let lost = || "nobody has run the command".to_owned();
    let Some((actor, inside)) = container.actor.get().zip(container.container.get()) else { return Err(lost()) };
    let (reply, answer) = oneshot::channel();
    let terms = Terms { wall: Some(Wall { limit: time, ladder: StopLadder::new() }), ..Terms::default() };
    let spec = process(main, command);
    let cost = Cost::of_process(&spec, container.ring_bytes, Beside { captured: true, logged: false });
    let permit = container.door.get().ok_or_else(lost)?.enter(cost).map_err(|error| error.to_string())?;
    actor.do_send(Exec { spec, terms, capture: true, log: None, permit, reply });
    let Executed { slot, captures, .. } = answer.await.map_err(|_| lost())?.map_err(|error| error.to_string())?;
    let (slot, (stdout, stderr)) = slot.take().zip(captures).ok_or_else(lost)?;
    // Nobody answers what its filter asks.
    drop(slot.take_listener());
    let ended = async {
        let exit = later(slot.exit.subscribe()).await;
        // What it has left behind would hold its output, and pile up.
        match inside.kill_session(slot.born.get().map_or(0, |born| born.pid)).await {
            Err(error) if error.kind() != ErrorKind::State => {
                tracing::warn!(%error, "what a probe has started is left");
            }
            _ => {}
        }
        exit
    };
    let all = futures_util::future::join3(ended, stdout.collect(WORDS), stderr.collect(WORDS));
    let Ok((exit, stdout, stderr)) = tokio::time::timeout(time + DYING, all).await else {
        return Err(format!("{}, and it cannot be killed", no_answer(time)));
    };
    let why = match exit.map_err(|error| error.to_string())?.status {
        ExitStatus::Code(0) => return Ok(()),
        _ if ran_out(&slot) => no_answer(time),
        ExitStatus::Code(code) => format!("exit code {code}"),
        ExitStatus::Signal { signal, .. } => format!("killed by signal {signal}"),
        _ => "nobody knows how it ended".into(),
    };
    let words = [stderr.to_vec(), stdout.to_vec()].map(|words| String::from_utf8_lossy(&words).trim().to_owned());
    let last = words.into_iter().find(|words| !words.is_empty());
    Err(last.map_or_else(|| why.clone(), |words| format!("{why}: {words}")))
}

fn ran_out(slot: &Slot) -> bool {
    slot.intent().is_some_and(|intent| intent.cause == Cause::Limit(LimitKind::Wall))
}

/// As the main process runs, but for its streams and whatever else it has for itself.
fn process(main: &ProcessSpec, command: &[String]) -> ProcessSpec {
    let mut process = main.clone();
    process.argv = command.iter().map(Into::into).collect();
    (process.stdin, process.stdout, process.stderr) = (Stdio::Null, Stdio::Piped, Stdio::Piped);
    (process.tty, process.preserved) = (None, Vec::new());
    process
}
