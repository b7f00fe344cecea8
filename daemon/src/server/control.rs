//! What is done to a container or a process that runs.

use std::time::Duration;

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use orangery::runtime::spec::io::{parse_io_max, parse_io_weight};
use orangery::runtime::spec::size::{parse_cpus, parse_duration, parse_size};
use orangery::{CpuQuota, LimitUpdate, Limits, StopLadder};
use schemars::JsonSchema;
use serde::Deserialize;

use super::ask::{Body as Said, invalid, parameter, query};
use super::containers::apart;
use super::daemon::{Daemon, going};
use super::failed::{Answer, Failed};
use super::registry::{Body, busy};
use super::target::{Target, card};
use super::view;
use crate::signal;
use crate::wire::{Kill, Nothing, Pause, PauseHow, Resize, Stop, Text, Update, Waited};

const KILL: i32 = 9;
const TERM: i32 = 15;
/// Between one signal and the kill.
const GRACE: Duration = Duration::from_secs(10);
/// A wait without a time, and the longest one.
const WAIT: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(600));

/// `TERM:10s,INT:5s`: each signal with the time that it is given, then the kill.
///
/// # Errors
/// What is no signal or no time.
pub fn ladder(text: &str) -> Result<StopLadder, String> {
    text.split(',').try_fold(StopLadder::new(), |ladder, rung| {
        let (signal, grace) = rung
            .split_once(':')
            .ok_or_else(|| format!("{rung:?} is no signal with its time: write TERM:10s, or TERM:10s,INT:5s"))?;
        Ok(ladder.then(signal::number(signal)?, parse_duration(grace)?))
    })
}

/// A text of a body as what it is.
fn read<T>(field: &str, text: Option<&Text>, parse: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>, Failed> {
    text.map(|text| parse(text.as_str()).map_err(|why| invalid(field, why))).transpose()
}

pub(super) fn all<T>(field: &str, texts: &[Text], parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, Failed> {
    texts.iter().map(|text| parse(text.as_str()).map_err(|why| invalid(field, why))).collect()
}

/// The ladder that is asked for; `None`: its own.
fn asked(stop: &Stop) -> Result<Option<StopLadder>, Failed> {
    let whole = stop.stop.as_deref().map(|text| ladder(text).map_err(|why| invalid("stop", why))).transpose()?;
    let signal = read("signal", stop.signal.as_ref(), signal::number)?;
    let grace = read("grace", stop.grace.as_ref(), parse_duration)?;
    match (whole, signal, grace) {
        (Some(_), Some(_), _) => Err(invalid("signal", "stop says which signals already")),
        (Some(_), _, Some(_)) => Err(invalid("grace", "stop says how long already")),
        (whole, None, None) => Ok(whole),
        (None, signal, grace) => Ok(Some(StopLadder::from((signal.unwrap_or(TERM), grace.unwrap_or(GRACE))))),
    }
}

/// POST .../stop
pub(super) async fn stop(daemon: Data<Daemon>, request: HttpRequest, body: Said) -> Answer {
    let ladder = asked(&body.read()?)?;
    match Target::of(&daemon, &request)? {
        Target::Further(_, further) => {
            let process = further.process.clone();
            apart(async move {
                match ladder {
                    Some(ladder) => process.stop_with(ladder).await?,
                    None => process.stop_gently().await?,
                }
                process.wait().await?;
                Ok(())
            })
            .await?;
            Ok(HttpResponse::Ok().json(view::process(&further)))
        }
        Target::Main(card) => {
            let body = card.body();
            apart(async move {
                match (body, ladder) {
                    (Body::Service(service), Some(ladder)) => service.stop_with(ladder).await?,
                    (Body::Service(service), None) => service.stop_gently().await?,
                    (Body::Container(container), ladder) => {
                        match ladder {
                            Some(ladder) => container.stop_with(ladder).await?,
                            None => container.stop_gently().await?,
                        }
                        container.wait().await?;
                    }
                    (Body::Nothing, _) => {}
                    (Body::Busy, _) => return Err(busy()),
                }
                Ok(())
            })
            .await?;
            Ok(HttpResponse::Ok().json(view::container(&card)))
        }
    }
}

/// POST .../kill
pub(super) async fn kill(daemon: Data<Daemon>, request: HttpRequest, body: Said) -> Answer {
    let said: Kill = body.read()?;
    let signal = read("signal", said.signal.as_ref(), signal::number)?.unwrap_or(KILL);
    let target = Target::of(&daemon, &request)?;
    match (&target, target.card().body()) {
        (Target::Main(_), Body::Service(service)) if signal == KILL => service.kill(),
        _ if signal == KILL => target.process()?.kill()?,
        _ => target.process()?.signal(signal)?,
    }
    Ok(HttpResponse::NoContent().finish())
}

/// POST .../resize
pub(super) async fn resize(daemon: Data<Daemon>, request: HttpRequest, body: Said) -> Answer {
    let Resize { rows, columns } = body.read()?;
    Target::of(&daemon, &request)?.process()?.resize(rows, columns)?;
    Ok(HttpResponse::NoContent().finish())
}

/// POST /v1/containers/{name}/pause
pub(super) async fn pause(daemon: Data<Daemon>, request: HttpRequest, body: Said) -> Answer {
    let Pause { how } = body.read()?;
    let how = match how {
        PauseHow::Any => orangery::Pause::Any,
        PauseHow::Freeze => orangery::Pause::Freeze,
        PauseHow::Stop => orangery::Pause::Stop,
    };
    let card = card(&daemon, &request)?;
    card.container()?.pause_with(how).await?;
    Ok(HttpResponse::Ok().json(view::container(&card)))
}

/// POST /v1/containers/{name}/resume
pub(super) async fn resume(daemon: Data<Daemon>, request: HttpRequest, body: Said) -> Answer {
    let _: Nothing = body.read()?;
    card(&daemon, &request)?.container()?.resume().await?;
    Ok(HttpResponse::NoContent().finish())
}

/// What is to be changed.
fn change(update: &Update) -> Result<LimitUpdate, Failed> {
    let cpus = |text: &str| parse_cpus(text).map(|(quota_us, period_us)| CpuQuota { quota_us, period_us });
    let limits = Limits {
        memory: read("memory", update.memory.as_ref(), parse_size)?,
        memory_swap: read("memory-swap", update.memory_swap.as_ref(), parse_size)?,
        cpu_quota: read("cpus", update.cpus.as_ref(), cpus)?,
        cpu_weight: update.cpu_weight,
        cpuset_cpus: update.cpuset_cpus.clone(),
        pids: update.pids,
        io_weight: update.io_weight,
        io_device_weight: all("io-device-weight", &update.io_device_weight, parse_io_weight)?,
        io_max: all("io-max", &update.io_max, parse_io_max)?,
        ..Limits::default()
    };
    let mut change = LimitUpdate::new().limits(limits);
    if let Some(limit) = read("timeout", update.timeout.as_ref(), parse_duration)? {
        change = change.wall(limit);
    }
    if let Some(limit) = read("timeout-cpu", update.timeout_cpu.as_ref(), parse_duration)? {
        change = change.cpu_time(limit);
    }
    if let Some(limit) = read("timeout-idle", update.timeout_idle.as_ref(), parse_duration)? {
        change = change.idle(limit);
    }
    match read("output-limit", update.output_limit.as_ref(), parse_size)? {
        Some(limit) => Ok(change.output(limit)),
        None => Ok(change),
    }
}

/// PATCH /v1/containers/{name}
pub(super) async fn update(daemon: Data<Daemon>, request: HttpRequest, body: Said) -> Answer {
    let said: Update = body.read()?;
    let change = change(&said)?;
    let card = card(&daemon, &request)?;
    let container = card.container()?;
    let limits = Update { properties: Default::default(), ..said.clone() };
    if limits != Update::default() {
        container.update(change).await?;
    }
    for (name, value) in said.properties {
        match value {
            Some(value) => drop(container.set_property(&name, value)?),
            None => drop(container.remove_property(&name)),
        }
    }
    Ok(HttpResponse::Ok().json(view::container(&card)))
}

/// For what, and how long.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WaitQuery {
    /// No longer than this: 30s by default, 10m at most.
    timeout: Option<String>,
    /// `exit` (default) or `ready`.
    #[serde(rename = "for")]
    what: Option<String>,
}

/// GET .../wait
pub(super) async fn wait(daemon: Data<Daemon>, request: HttpRequest) -> Answer {
    let said: WaitQuery = query(&request, &[])?;
    let time = said.timeout.as_deref().map(|text| parse_duration(text).map_err(|why| parameter("timeout", why)));
    let time = time.transpose()?.unwrap_or(WAIT.0).min(WAIT.1);
    let ready = match said.what.as_deref() {
        None | Some("exit") => false,
        Some("ready") => true,
        Some(other) => return Err(parameter("for", format!("{other:?} is neither exit nor ready"))),
    };
    let target = Target::of(&daemon, &request)?;
    let mut bye = daemon.bye.clone();
    let done = tokio::select! {
        done = happened(&target, ready) => { done?; true }
        () = tokio::time::sleep(time) => false,
        // Another daemon knows it, or this one has killed it: asked again, one hears.
        () = going(&mut bye) => false,
    };
    let shown = view::container(target.card());
    let exit = match &target {
        Target::Main(_) => shown.exit.filter(|_| done && !ready),
        Target::Further(_, further) => view::process(further).exit.filter(|_| done && !ready),
    };
    Ok(HttpResponse::Ok().json(Waited { done, state: shown.state, exit }))
}

async fn happened(target: &Target, ready: bool) -> Result<(), Failed> {
    // One that is being started is waited for.
    let body = target.card().settled().await;
    match (target, body, ready) {
        (Target::Further(_, further), _, false) => drop(further.process.wait().await?),
        (Target::Further(..), _, true) => return Err(parameter("for", "a further process is never ready")),
        (Target::Main(_), Body::Container(container), false) => drop(container.wait().await?),
        (Target::Main(_), Body::Container(container), true) => container.ready().await?,
        (Target::Main(_), Body::Service(service), false) => drop(service.wait().await?),
        (Target::Main(_), Body::Service(service), true) => {
            let is_ready =
                |now: &orangery::ServiceInspect| now.state == orangery::ServiceState::Running || now.state.is_settled();
            let now = service.wait_for(is_ready).await?;
            if now.state.is_settled() {
                let kind = crate::wire::ProblemKind::NotReady;
                return Err(super::failed::failed(kind, "it has ended before it was ready"));
            }
        }
        (Target::Main(card), ..) => drop(card.container()?),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ladders_and_what_is_none() {
        let seconds = Duration::from_secs;
        assert_eq!(ladder("TERM:10s"), Ok(StopLadder::default()));
        assert_eq!(ladder("sigint:5s,15:1m"), Ok(StopLadder::new().then(2, seconds(5)).then(15, seconds(60))));
        for text in ["", "TERM", "TERM:", ":5s", "TERM:5s,", "NONE:5s", "TERM:5s;INT:5s", "TERM:-1s"] {
            assert!(ladder(text).is_err(), "{text}");
        }
        let stop = |text| asked(&serde_json::from_str(text).unwrap()).map_err(|failed| failed.0.field.unwrap());
        assert_eq!(stop("{}").unwrap(), None);
        assert_eq!(stop(r#"{"signal":"INT"}"#).unwrap(), Some(StopLadder::from((2, GRACE))));
        assert_eq!(stop(r#"{"grace":1.5}"#).unwrap(), Some(StopLadder::from((TERM, Duration::from_millis(1500)))));
        assert_eq!(stop(r#"{"stop":"TERM:1s","grace":1}"#).unwrap_err(), "grace");
        assert_eq!(stop(r#"{"signal":"TREM"}"#).unwrap_err(), "signal");
    }

    #[test]
    fn what_cannot_be_changed_is_named() {
        let refused = |text| change(&serde_json::from_str(text).unwrap()).map_err(|failed| failed.0.field.unwrap());
        assert!(refused(r#"{"memory":"64M","timeout":10,"output-limit":4096}"#).is_ok());
        for (text, field) in [
            (r#"{"memory":"64Q"}"#, "memory"),
            (r#"{"cpus":"many"}"#, "cpus"),
            (r#"{"timeout":"soon"}"#, "timeout"),
            (r#"{"output-limit":"-1"}"#, "output-limit"),
        ] {
            assert_eq!(refused(text).unwrap_err(), field);
        }
    }
}
