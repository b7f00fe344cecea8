//! The output of a service through all its incarnations, as lines: one task a service.

use std::time::Duration;

use orangery::stream::view::{LineEvent, LineOptions};
use orangery::{Overflow, Service, ServiceState, SubscribeOptions, Subscriber};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::screen::Tell;

/// Incarnations whose output waits to be shown; the next one is not missed meanwhile, and its output waits in its pipe.
const WAITING: usize = 4;

/// A prompt is shown when nothing has come for so long.
const IDLE: Duration = Duration::from_millis(200);

/// All of them.
#[derive(Debug)]
pub(super) struct Followers {
    tasks: Vec<JoinHandle<()>>,
    /// Nothing is started any more.
    over: watch::Sender<bool>,
}

impl Followers {
    /// Show what these write, from the first byte on.
    pub(super) fn start(services: Vec<Service>, screen: &mpsc::Sender<Tell>) -> Self {
        let over = watch::Sender::new(false);
        let mut tasks = Vec::new();
        for (unit, service) in services.into_iter().enumerate() {
            let (sender, outputs) = mpsc::channel(WAITING);
            tasks.push(tokio::spawn(incarnations(service, sender, over.subscribe())));
            tasks.push(tokio::spawn(show(unit, outputs, screen.clone())));
        }
        Self { tasks, over }
    }

    /// All services have settled: wait until what they have written is shown.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub(super) async fn end(&mut self) {
        self.over.send_replace(true);
        while let Some(task) = self.tasks.last_mut() {
            // None is aborted before, and none panics.
            let _ = task.await;
            self.tasks.pop();
        }
    }

    /// Show nothing any more: nobody waits for a reader of ours.
    pub(super) fn give_up(&mut self) {
        self.tasks.drain(..).for_each(|task| task.abort());
    }
}

impl Drop for Followers {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// A reader of each incarnation, made as soon as there is one.
async fn incarnations(service: Service, outputs: mpsc::Sender<Subscriber>, mut over: watch::Receiver<bool>) {
    let mut seen = 0;
    loop {
        let next = service.wait_for(move |now| now.generation > seen && now.state != ServiceState::Starting);
        let last = tokio::select! {
            biased;
            now = next => match now {
                Ok(now) => (now.generation, false),
                Err(_) => return,
            },
            _ = over.wait_for(|over| *over) => (service.inspect().generation, true),
        };
        // It may be a later one by now, or be missing, because it could not be started.
        if let Some(container) = service.current().filter(|container| container.inspect().generation > seen) {
            seen = container.inspect().generation;
            // No byte is lost, and whoever writes waits for us.
            let options = SubscribeOptions { overflow: Overflow::block(Duration::MAX), ..SubscribeOptions::default() };
            if outputs.send(container.subscribe(options)).await.is_err() {
                return;
            }
        }
        seen = seen.max(last.0);
        if last.1 {
            return;
        }
    }
}

async fn show(unit: usize, mut outputs: mpsc::Receiver<Subscriber>, screen: mpsc::Sender<Tell>) {
    let options = LineOptions { idle: Some(IDLE), ..LineOptions::default() };
    while let Some(output) = outputs.recv().await {
        let mut lines = output.lines(options);
        while let Some(event) = lines.next().await {
            let tell = match event {
                LineEvent::Line(line) => Tell::Line(unit, line),
                LineEvent::Gap(gap) => Tell::Missing(unit, gap),
                LineEvent::End(_) | LineEvent::Lagged(_) => continue,
            };
            if screen.send(tell).await.is_err() {
                return;
            }
        }
    }
}
