//! What is watched over a container while its main process runs: the limits that are ours, the lifetime without a handle,
//! the probes.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use super::life::Never;
use super::probes::{self, Prepared};
use super::slot::ContainerSlot;
use super::{attend, cpu, idle, network, oom, root};
use crate::faults::Faults;
use crate::process::wall;

/// Never ends by itself.
pub(super) async fn watch_over(
    container: Arc<ContainerSlot>,
    unattended: Option<Duration>,
    asked: Option<Box<Prepared>>,
    faults: Faults,
) -> Never {
    let mut updates = container.watched.subscribe();
    // Each has room where it is wanted alone: most containers have one limit, or none.
    let mut watching: FuturesUnordered<Pin<Box<dyn Future<Output = ()> + '_>>> = FuturesUnordered::new();
    if unattended.is_some() {
        watching.push(Box::pin(attend::enforce(&container, unattended)));
    }
    if let Some(asked) = asked {
        watching.push(Box::pin(probes::watch(&container, *asked, &faults)));
    }
    if network::is_wired(&container) {
        watching.push(Box::pin(network::watch(&container)));
    }
    if root::is_served(&container) {
        watching.push(Box::pin(root::watch(&container)));
    }
    let mut begun = [false; 5];
    loop {
        // Once for each: they hear of other limits themselves.
        let wanted = wanted(&container);
        for (kind, _) in wanted.iter().enumerate().filter(|(kind, wanted)| **wanted && !begun[*kind]) {
            watching.push(match kind {
                0 => Box::pin(wall::enforce(&container.main)),
                1 => Box::pin(container.main.enforce_output()),
                2 => Box::pin(cpu::enforce(&container)),
                3 => Box::pin(idle::enforce(&container)),
                _ => Box::pin(oom::watch(&container)),
            });
        }
        begun.iter_mut().zip(wanted).for_each(|(begun, wanted)| *begun |= wanted);
        tokio::select! {
            Some(()) = watching.next() => {}
            // Its sender is in the slot that we hold.
            _ = updates.changed() => {}
        }
    }
}

/// Wall clock, output, processor time, silence, memory: whether there is such a limit.
fn wanted(container: &ContainerSlot) -> [bool; 5] {
    let watched = container.watched.borrow();
    let main = &container.main;
    [
        main.wall.borrow().is_some(),
        main.may_write.borrow().is_some(),
        watched.cpu_time.is_some(),
        watched.idle.is_some(),
        container.limited.borrow().memory.is_some(),
    ]
}
