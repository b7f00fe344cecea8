//! Further processes in a container.

use std::sync::Arc;

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use orangery::runtime::spec::io::parse_io_max;
use orangery::runtime::spec::size::{parse_cpus, parse_duration, parse_size};
use orangery::{CpuQuota, Limits, User};

use super::ask::{Body, invalid};
use super::containers::created;
use super::control;
use super::daemon::{Daemon, stdin};
use super::failed::{Answer, Failed};
use super::once::{self, Done};
use super::registry::{Card, Further};
use super::target::{Target, card};
use super::view;
use crate::wire::{Exec, Process, Processes, Text, Tty};

/// A command in a running container.
fn command(card: &Card, exec: &Exec) -> Result<orangery::ExecCommand, Failed> {
    let words = exec.command.split_first().filter(|(program, _)| !program.is_empty());
    let (program, args) = words.ok_or_else(|| invalid("command", "there is no command"))?;
    let mut command = card.container()?.command(program).args(args).stdin(stdin(exec.stdin));
    command = command.envs(exec.env.iter().map(|(key, value)| (key, value.as_str())));
    if let Some(dir) = &exec.workdir {
        command = command.current_dir(dir);
    }
    if let Some(user) = &exec.user {
        command = command.user(User::Name(user.clone()));
    }
    command = match exec.tty {
        Tty::Usual(tty) => command.tty(tty),
        Tty::Sized(size) => command.tty_size(size.rows, size.columns),
    };
    let read = |field, text: &Option<Text>, parse: fn(&str) -> Result<u64, String>| {
        text.as_ref().map(|text| parse(text.as_str()).map_err(|why| invalid(field, why))).transpose()
    };
    if let Some(text) = &exec.timeout {
        command = command.timeout(parse_duration(text.as_str()).map_err(|why| invalid("timeout", why))?);
    }
    let cpus = exec.cpus.as_ref().map(|text| parse_cpus(text.as_str()).map_err(|why| invalid("cpus", why)));
    let limits = Limits {
        memory: read("memory", &exec.memory, parse_size)?,
        pids: exec.pids,
        io_max: control::all("io-max", &exec.io_max, parse_io_max)?,
        cpu_quota: cpus.transpose()?.map(|(quota_us, period_us)| CpuQuota { quota_us, period_us }),
        ..Limits::default()
    };
    Ok(if limits == Limits::default() { command } else { command.limits(limits) })
}

async fn started(card: Arc<Card>, exec: Exec) -> Result<Done, Failed> {
    let process = command(&card, &exec)?.spawn().await?;
    let further = Further { process: process.clone(), tty: !exec.tty.is_none() };
    card.remember(process, further.tty);
    let told = view::process(&further);
    let location = format!("/v1/containers/{}/processes/{}", card.name, told.id);
    Ok(Done { location, body: serde_json::to_string(&told).unwrap_or_default() })
}

/// POST /v1/containers/{name}/processes
pub(super) async fn exec(daemon: Data<Daemon>, request: HttpRequest, body: Body) -> Answer {
    let exec: Exec = body.read()?;
    let card = card(&daemon, &request)?;
    let key = once::key(&request)?;
    Ok(created(daemon.keys.once(key, &body.0, started(card, exec)).await?))
}

/// The main process, if it was started.
fn main(card: &Card) -> Option<Process> {
    let process = card.container().ok()?.process().clone();
    Some(view::process(&Further { process, tty: !card.asked.create.tty.is_none() }))
}

/// GET /v1/containers/{name}/processes
pub(super) async fn list(daemon: Data<Daemon>, request: HttpRequest) -> Answer {
    let card = card(&daemon, &request)?;
    let further: Vec<Further> = card.state().further.values().cloned().collect();
    let processes = main(&card).into_iter().chain(further.iter().map(view::process)).collect();
    Ok(HttpResponse::Ok().json(Processes { processes }))
}

/// GET /v1/containers/{name}/processes/{pid}
pub(super) async fn inspect(daemon: Data<Daemon>, request: HttpRequest) -> Answer {
    let process = match Target::of(&daemon, &request)? {
        Target::Further(_, further) => view::process(&further),
        Target::Main(card) => {
            let process = card.container()?.process().clone();
            view::process(&Further { process, tty: !card.asked.create.tty.is_none() })
        }
    };
    Ok(HttpResponse::Ok().json(process))
}
