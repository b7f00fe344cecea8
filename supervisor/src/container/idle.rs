//! The limit on silence: a container whose main process writes nothing for so long is killed.

use std::sync::Arc;
use std::time::Duration;

use orangery_io_stream::{From as Position, Source, SubscribeOptions, Subscriber};
use orangery_runtime::ProcessSpec;
use orangery_runtime::native::now_ns;
use orangery_runtime::spec::Stdio;

use super::slot::ContainerSlot;
use crate::error::Error;
use crate::process::slot::Slot;
use crate::report::{Cause, LimitKind};

pub(super) const UNHEARD: &str = "its output goes to descriptors of its own: nobody here sees what is written";

/// Whether anybody here hears what it writes.
pub(super) fn is_heard(slot: &Slot) -> bool {
    slot.output.log().is_some() || slot.born.get().is_some_and(|born| born.ours.0.or(born.ours.1).is_some())
}

/// Refuse what nobody here could hear.
pub(crate) fn heard(main: &ProcessSpec) -> Result<(), Error> {
    if matches!(main.stdout, Stdio::Piped) || matches!(main.stderr, Stdio::Piped) {
        return Ok(());
    }
    Err(Error::invalid("idle", UNHEARD))
}

/// Carry it out; ends with that. Time in a pause does not count: a pause that ends begins a new silence, and so does another
/// limit.
pub(super) async fn enforce(container: &ContainerSlot) {
    let mut watched = container.watched.subscribe();
    let mut output = None;
    loop {
        let limit = watched.borrow_and_update().idle;
        let silent = async {
            match limit {
                Some(limit) => {
                    silence(container, output.get_or_insert_with(|| Output::of(&container.main)), limit).await
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            since = silent => {
                let _ = container.silent_ns.set((since, now_ns()));
                let _ = container.main.kill(Cause::Limit(LimitKind::Idle));
                return;
            }
            // Its sender is in the slot that we hold.
            _ = watched.changed() => {}
        }
    }
}

/// Ready when nothing has come for so long, in which it was not paused: since when.
async fn silence(container: &ContainerSlot, output: &mut Output<'_>, limit: Duration) -> u64 {
    loop {
        let awake = container.awake().await;
        let since = now_ns();
        tokio::select! {
            biased;
            () = output.more() => {}
            () = container.paused_since(awake) => {}
            () = tokio::time::sleep(limit) => return since,
        }
    }
}

/// Whoever hears that there is more.
enum Output<'a> {
    Hub(Subscriber),
    /// Counted, not read back.
    Log(&'a Slot),
}

impl<'a> Output<'a> {
    fn of(slot: &'a Arc<Slot>) -> Self {
        match slot.output.log() {
            Some(_) => Self::Log(slot),
            None => Self::Hub(slot.output.subscribe(SubscribeOptions { from: Position::Now, ..Default::default() })),
        }
    }

    /// Ready when bytes came. Never again after the end of the output: what runs on is silent.
    async fn more(&mut self) {
        let more = match self {
            // The last event, which is the end, is no output.
            Self::Hub(reader) => {
                let event = reader.recv().await;
                matches!(event, Some(orangery_io_stream::Event::Chunk(_) | orangery_io_stream::Event::Gap(_)))
            }
            Self::Log(slot) => {
                let before = Source::ALL.into_iter().map(|source| slot.output.totals(source).bytes).sum();
                match slot.output.log() {
                    Some(log) => log.exceeds(before).await,
                    None => false,
                }
            }
        };
        if !more {
            std::future::pending().await
        }
    }
}
