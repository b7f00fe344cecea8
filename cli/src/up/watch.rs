//! A group from its start to where nothing of it runs, and what our exit code is then.

use std::io;

use orangery::events::Since;
use orangery::{Error, Group, Service, ServiceInspect, ServiceState, Supervisor};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::build::{Built, Unit};
use super::follow::Followers;
use super::news::{News, View};
use super::screen::{Mode, Screen, Tell};
use crate::errors::Failure;
use crate::signals::{self, Signals};

/// It was told to end, and told again.
const KILLED: u8 = 137;

/// Start it, see it through, say how it ended.
///
/// # Errors
/// It could not be started.
pub(super) async fn supervised(
    supervisor: &Supervisor,
    built: Built,
    signals: Signals,
    view: View,
) -> Result<u8, Failure> {
    let Built { group, units } = built;
    let group = group.prepare(supervisor).await?;
    let services: Vec<Service> = units.iter().filter_map(|unit| find(&group, &unit.label)).collect();
    let screen = Screen::start(view.mode, &units)?;
    let news = News::new(view, &units, &screen.tell);
    let news = tokio::spawn(news.tell(supervisor.events(Since::Oldest)));
    let followers = Followers::start(supervisor, &units, &screen.tell);
    let mut watch = Watch { group, signals, followers, screen, told: 0, broken: None };
    let started = watch.until_settled().await;
    let stopped = watch.told > 0 || watch.broken.is_some();
    let code = match started {
        _ if watch.told > 1 => Ok(KILLED),
        Err(error) if !stopped => not_started(&services, error),
        _ => Ok(settled(&units, &services)),
    };
    drop(services);
    let last = json!({ "schema": 1, "kind": "final", "exit_code": code.as_ref().ok(), "group": watch.group.inspect() });
    let last = (view.mode == Mode::Json).then(|| Tell::Json(last.to_string()));
    match watch.until_shown(supervisor, news, last).await {
        Some(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::system("cannot write", &error)),
        _ => code,
    }
}

/// A service by its label: names of groups, and its own.
fn find(group: &Group, label: &str) -> Option<Service> {
    match label.split_once('.') {
        Some((name, rest)) => find(&group.group(name)?, rest),
        None => group.service(label),
    }
}

struct Watch {
    group: Group,
    signals: Signals,
    followers: Followers,
    screen: Screen,
    /// Signals that ended it.
    told: u32,
    /// A stream of ours takes no more.
    broken: Option<io::Error>,
}

impl Watch {
    /// Until nothing of it runs, and nothing follows; what the start has answered.
    async fn until_settled(&mut self) -> Result<(), Error> {
        let mut start = Box::pin(self.group.start());
        let started = loop {
            tokio::select! {
                answer = &mut start => break answer,
                told = told(&mut self.signals, &mut self.screen.trouble) => self.stop(told),
            }
        };
        let mut end = Box::pin(self.group.wait());
        loop {
            tokio::select! {
                // Its handle is ours: it is not gone before it has settled.
                _ = &mut end => return started,
                told = told(&mut self.signals, &mut self.screen.trouble) => self.stop(told),
            }
        }
    }

    /// Until all that was written, and all that has happened, is shown; or until nobody waits for that any more. What a
    /// stream of ours has answered.
    async fn until_shown(
        mut self,
        supervisor: &Supervisor,
        mut news: JoinHandle<()>,
        last: Option<Tell>,
    ) -> Option<io::Error> {
        let Self { followers, screen, signals, broken, .. } = &mut self;
        let Screen { tell, trouble, .. } = screen;
        let shown = async {
            tokio::join!(supervisor.shutdown(), followers.end());
            // The feed has ended, and with it who tells it.
            let _ = (&mut news).await;
            if let Some(last) = last {
                let _ = tell.send(last).await;
            }
        };
        let given_up = tokio::select! {
            () = shown => false,
            told = told(signals, trouble), if broken.is_none() => {
                if let Told::Broken(error) = told {
                    *broken = Some(error);
                }
                true
            }
        };
        news.abort();
        self.followers.give_up();
        if given_up || self.broken.is_some() {
            return self.broken;
        }
        tokio::select! {
            error = self.screen.end() => error,
            _ = self.signals.next() => None,
        }
    }

    fn stop(&mut self, told: Told) {
        match told {
            Told::Broken(error) => {
                tracing::info!(%error, "nobody reads us: stops");
                self.broken = Some(error);
                // Who waits for a reader of ours could not end.
                self.followers.give_up();
            }
            Told::Signal(signal) => {
                tracing::info!(signal = signals::name(signal), "stops");
                self.told += 1;
            }
        }
        if self.told > 1 {
            self.group.kill();
            self.followers.give_up();
        } else {
            // Asked for when called; that it is done is seen in its state.
            drop(self.group.stop_gently());
        }
    }
}

/// Why it is to end.
enum Told {
    Signal(i32),
    Broken(io::Error),
}

async fn told(signals: &mut Signals, trouble: &mut mpsc::UnboundedReceiver<io::Error>) -> Told {
    tokio::select! {
        signal = signals.next() => Told::Signal(signal),
        Some(error) = trouble.recv() => Told::Broken(error),
    }
}

/// What could not even be started is our own failure; what has failed while others started is not.
fn not_started(services: &[Service], error: Error) -> Result<u8, Failure> {
    if services.iter().any(|service| has_failed(&service.inspect())) { Ok(1) } else { Err(error.into()) }
}

/// 0: all have ended well, or as they were told to.
fn settled(units: &[Unit], services: &[Service]) -> u8 {
    u8::from(units.iter().zip(services).any(|(unit, service)| is_bad(unit, &service.inspect())))
}

/// It ran, and then failed for good.
fn has_failed(now: &ServiceInspect) -> bool {
    now.state == ServiceState::Failed && now.report.is_some() && now.error.is_none()
}

fn is_bad(unit: &Unit, now: &ServiceInspect) -> bool {
    match now.state {
        ServiceState::Failed => true,
        ServiceState::Ended if unit.once => now.report.as_ref().is_none_or(|report| !report.success()),
        _ => false,
    }
}
