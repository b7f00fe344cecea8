//! The limit on silence: a container whose main process writes nothing for so long is killed.

use std::sync::Arc;
use std::time::Duration;

use orangery_io_stream::{From as Position, Source, SubscribeOptions, Subscriber};
use orangery_runtime::ProcessSpec;
use orangery_runtime::spec::Stdio;
use tokio::time::timeout;

use super::slot::ContainerSlot;
use super::state::State;
use crate::error::Error;
use crate::process::slot::Slot;
use crate::report::{Cause, LimitKind};

/// Refuse what nobody here could hear.
pub(crate) fn heard(main: &ProcessSpec) -> Result<(), Error> {
    if matches!(main.stdout, Stdio::Piped) || matches!(main.stderr, Stdio::Piped) {
        return Ok(());
    }
    Err(Error::invalid("idle", "its output goes to descriptors of its own: nobody here sees what is written"))
}

/// Carry it out; ends with that. Time in a pause does not count: a pause that ends begins a new silence.
pub(super) async fn enforce(container: &ContainerSlot, limit: Duration) {
    let slot = &container.main;
    let mut output = Output::of(slot);
    loop {
        match timeout(limit, output.more()).await {
            Ok(()) => {}
            Err(_) if container.state() == State::Paused => {}
            Err(_) => {
                let _ = slot.kill(Cause::Limit(LimitKind::Idle));
                return;
            }
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
