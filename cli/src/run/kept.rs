//! `run --restart`: the command is kept running, through incarnations that share our streams.

use std::io;
use std::time::Duration;

use orangery::restart::{Death, GiveUp};
use orangery::{OutputAction, OutputLimit, Report, Restart, Service, ServiceInspect, ServiceState, Supervisor};
use serde::Serialize;

use super::{Ended, cared_for};
use crate::args::RunArgs;
use crate::copy::{Counts, Trouble};
use crate::errors::Failure;
use crate::logged::{self, Lives};
use crate::passthrough::{Copies, Streams};
use crate::signals::{self, Signals, by_signal};
use crate::spec::Wanted;

/// A stop that is followed by no kill: the command decides.
const PATIENCE: Duration = Duration::from_secs(u32::MAX as u64);

/// What the report says beside the last incarnation's.
#[derive(Debug, Serialize)]
pub(super) struct Restarts {
    restarts: u64,
    state: ServiceState,
    give_up: Option<GiveUp>,
    deaths: Vec<Death>,
}

/// From the first start to where nothing follows.
pub(super) async fn supervised(
    supervisor: &Supervisor,
    wanted: Wanted,
    args: &RunArgs,
    restart: Restart,
    mut signals: Signals,
) -> Result<Ended, Failure> {
    let lives = args.work.log.log.as_deref().map(Lives::of).transpose()?;
    if lives.is_some() && args.work.program.output_limit.is_some() {
        let why =
            "with --restart it counts all lives of the command together, and with --log they do not write through us";
        return Err(
            Failure::refused("--output-limit", why).with_hint("--log-max-size and --log-max-files bound the log")
        );
    }
    let streams = Streams::choose(args, lives.is_some(), false)?.for_many()?;
    let command = logged::into_log(wanted.command(supervisor, &args.work, false)?, &args.work.log);
    let command = cared_for(streams.give(command)?, args)?;
    let mut starting = Box::pin(command.restart(restart).supervise());
    let mut early = None;
    let service = loop {
        tokio::select! {
            service = &mut starting => break service?,
            // It may run already: only the second one gives up.
            signal = signals.next() => {
                if early.replace(signal).is_some() {
                    return Ok(Ended { code: by_signal(signal), report: None, restarts: None });
                }
            }
        }
    };
    // Not of its container: the first may have ended already, and the next not be there yet.
    let copies = streams.start_alone(lives)?;
    let limit = args.work.program.output_limit;
    let (kill_after, own_way) = (args.stop.kill_after, args.work.time.stop.is_some());
    let mut watch = Watch { service, signals, kill_after, own_way, told: 0, limit, over_limit: false };
    if let Some(signal) = early {
        watch.stop(signal);
    }
    watch.until_the_end(copies).await
}

/// A service that runs, and what has been done to it.
struct Watch {
    service: Service,
    signals: Signals,
    kill_after: Option<Duration>,
    /// `--stop`: it is not our signal that ends it.
    own_way: bool,
    /// Signals that ended it, INT among them.
    told: u32,
    /// `--output-limit`, of all incarnations together.
    limit: Option<OutputLimit>,
    /// It was passed.
    over_limit: bool,
}

impl Watch {
    async fn until_the_end(&mut self, mut copies: Copies) -> Result<Ended, Failure> {
        let (mut ended, mut writing, mut given_up) = (None, true, None);
        let mut end = Box::pin(self.service.wait());
        while (ended.is_none() || writing) && given_up.is_none() {
            tokio::select! {
                settled = &mut end, if ended.is_none() => {
                    ended = Some(settled?);
                    copies.command_ended();
                }
                trouble = copies.trouble.recv(), if writing => match trouble {
                    Some(trouble) => self.incomplete(trouble)?,
                    None => writing = false,
                },
                signal = self.signals.next() => match &ended {
                    // It has ended, and its output does not get away: the user does not want to wait for that.
                    Some(_) => given_up = Some(by_signal(signal)),
                    None => self.stop(signal),
                },
            }
        }
        Ok(self.account(ended, given_up, copies.counts.as_deref()))
    }

    fn account(&self, ended: Option<ServiceInspect>, given_up: Option<u8>, counts: Option<&Counts>) -> Ended {
        let Some(ServiceInspect { restarts, state, give_up, deaths, report, .. }) = ended else {
            return Ended { code: given_up.unwrap_or(u8::MAX), report: None, restarts: None };
        };
        let report = report.map(|mut report: Report| {
            counts.inspect(|counts| counts.complete(&mut report, self.limit.filter(|_| self.over_limit)));
            report
        });
        let code = report.as_ref().and_then(|report| u8::try_from(report.shell_code()).ok()).unwrap_or(u8::MAX);
        let restarts = Some(Restarts { restarts, state, give_up, deaths });
        Ended { code: given_up.unwrap_or(code), report, restarts }
    }

    /// Tell it to end, and start nothing any more.
    fn stop(&mut self, signal: i32) {
        tracing::info!(signal = signals::name(signal), "stops");
        self.told += 1;
        match signal {
            signals::INT if self.told > 1 => self.service.kill(),
            _ if self.told > 1 => {
                // The stop goes on; it may have ended meanwhile.
                let _ = self.service.current().map(|container| container.signal(signal));
            }
            _ if self.own_way => drop(self.service.stop_gently()),
            signal => drop(self.service.stop(signal, self.kill_after.unwrap_or(PATIENCE))),
        }
    }

    /// Not all of the output gets away.
    fn incomplete(&mut self, trouble: Trouble) -> Result<(), Failure> {
        match trouble {
            // Nobody reads what it writes: SIGPIPE tells it, and no other is wanted.
            Trouble::Unwritable(_, error) if error.kind() == io::ErrorKind::BrokenPipe => {
                drop(self.service.stop(signals::PIPE, self.kill_after.unwrap_or(PATIENCE)));
                Ok(())
            }
            Trouble::Unwritable(source, error) => Err(Failure::system(format!("cannot write {source}"), &error)),
            Trouble::OverLimit => {
                self.over_limit();
                Ok(())
            }
        }
    }

    /// Do what `--output-limit` says.
    fn over_limit(&mut self) {
        self.over_limit = true;
        match self.limit.map(|limit| limit.action) {
            Some(OutputAction::Truncate) => {}
            Some(OutputAction::Signal(signal)) => {
                // It may have ended meanwhile.
                let _ = self.service.current().map(|container| container.signal(signal));
            }
            _ => self.service.kill(),
        }
    }
}
