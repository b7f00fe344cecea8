//! `start`, `stop`, `kill`, `pause`, `resume`, `update`, `rm`: one request for each container that is named.

use hyper::Method;
use orangery_daemon::wire::{Container, Kill, Pause, PauseHow, Stop, Text, Update};
use serde::Serialize;
use serde_json::{Value, json};

use super::{asking, container, each};
use crate::args::{EndArgs, KillArgs, NamesArgs, PauseArgs, RmArgs, UpdateArgs};
use crate::client::Client;
use crate::errors::Failure;
use crate::signals;

pub(super) fn start(args: &NamesArgs, json: bool) -> Result<u8, Failure> {
    changed(args, json, "start", &json!({}))
}

pub(super) fn stop(args: &EndArgs, json: bool) -> Result<u8, Failure> {
    changed(&args.names, json, "stop", &Stop { stop: args.stop.clone(), ..Stop::default() })
}

pub(super) fn kill(args: &KillArgs, json: bool) -> Result<u8, Failure> {
    told(&args.names, json, "kill", &Kill { signal: Some(Text::from(signals::name(args.signal))) })
}

pub(super) fn pause(args: &PauseArgs, json: bool) -> Result<u8, Failure> {
    let asked = args.how();
    asking(&args.names.daemon, async |client| {
        each(&args.names.names, json, async |name| {
            let answer = client.send(Method::POST, &container(name).then("pause"), &Pause { how: asked }, &[]).await?;
            // A daemon of an older version answers with nothing.
            let held = answer.document::<Container>().await.ok().and_then(|now| now.paused);
            if let (PauseHow::Any, Some(weakness)) = (asked, held.and_then(|held| held.weakness)) {
                held_weakly(name, &weakness, json);
            }
            Ok(Value::Bool(true))
        })
        .await
    })
}

/// What was done instead is never done in silence.
fn held_weakly(name: &str, weakness: &str, json: bool) {
    let text = format!("{name} has no freezer and is held by {weakness}");
    if json {
        crate::errors::notice_json("weaker_pause", &text);
    } else {
        crate::errors::notice(&text);
    }
}

pub(super) fn resume(args: &NamesArgs, json: bool) -> Result<u8, Failure> {
    told(args, json, "resume", &json!({}))
}

pub(super) fn update(args: &UpdateArgs, json: bool) -> Result<u8, Failure> {
    let update = Update {
        memory: args.memory.clone(),
        memory_swap: args.memory_swap.clone(),
        cpus: args.cpus.clone(),
        cpu_weight: args.cpu_weight,
        cpuset_cpus: args.cpuset_cpus.clone(),
        pids: args.pids,
        io_weight: args.io_weight,
        io_device_weight: args.io_device_weight.clone(),
        io_max: args.io_max.clone(),
        timeout: args.timeout.clone(),
        timeout_cpu: args.timeout_cpu.clone(),
        timeout_idle: args.timeout_idle.clone(),
        output_limit: args.output_limit.clone(),
        properties: args.property.iter().cloned().collect(),
    };
    asking(&args.names.daemon, async |client| {
        each(&args.names.names, json, async |name| {
            let answer = client.send(Method::PATCH, &container(name), &update, &[]).await?;
            Ok(answer.document::<Container>().await?)
        })
        .await
    })
}

pub(super) fn rm(args: &RmArgs, json: bool) -> Result<u8, Failure> {
    asking(&args.names.daemon, async |client| {
        each(&args.names.names, json, async |name| {
            let target = container(name).maybe("force", args.force.then_some(true));
            client.delete(&target).await.map_err(|lost| match Failure::from(lost) {
                lives if lives.kind() == "state" && !args.force => lives.with_hint("orangery stop, or rm --force"),
                other => other,
            })
        })
        .await
    })
}

/// Something that is answered with what the container is then.
fn changed(args: &NamesArgs, json: bool, what: &str, body: &impl Serialize) -> Result<u8, Failure> {
    asking(&args.daemon, async |client| {
        each(&args.names, json, async |name| Ok(client.post::<Container>(&container(name).then(what), body).await?))
            .await
    })
}

/// Something that is answered with nothing.
fn told(args: &NamesArgs, json: bool, what: &str, body: &impl Serialize) -> Result<u8, Failure> {
    asking(&args.daemon, async |client| {
        each(&args.names, json, async |name| tell(&client, name, what, body).await).await
    })
}

async fn tell(client: &Client, name: &str, what: &str, body: &impl Serialize) -> Result<Value, Failure> {
    client.send(Method::POST, &container(name).then(what), body, &[]).await?;
    Ok(Value::Bool(true))
}
