//! What the library says of a container, as it is told to clients.

use std::sync::Arc;

use futures_util::FutureExt as _;
use orangery::restart::GiveUp;
use orangery::{Cause, Inspect, LimitKind, ProcessHandle, Report, ServiceInspect, ServiceState};
use serde::Serialize;
use serde_json::Value;

use super::registry::{Body, Card, Further};
use crate::wire::{self, Container, Exit, HealthState, Paused, Process, Running, ServiceStatus, State};

/// What `timeout(1)` says.
const TIMED_OUT: i32 = 124;

pub(super) fn json(of: &impl Serialize) -> Value {
    serde_json::to_value(of).unwrap_or_default()
}

/// The report, if there is one.
pub(super) fn report_now(process: &ProcessHandle) -> Option<Arc<Report>> {
    // Whether it is there, not whether this task has had its share of the thread.
    tokio::task::unconstrained(process.wait()).now_or_never()?.ok()
}

pub(super) fn exit(report: &Report) -> Exit {
    let exit_code = match report.cause {
        Cause::Limit(LimitKind::Wall | LimitKind::Idle) => TIMED_OUT,
        _ => report.shell_code(),
    };
    let exit = match report.exit {
        orangery::ExitStatus::Code(code) => wire::ExitStatus::Code(code),
        orangery::ExitStatus::Signal { signal, core_dumped } => wire::ExitStatus::Signal { signal, core_dumped },
        _ => wire::ExitStatus::Lost,
    };
    Exit { exit_code, exit, cause: json(&report.cause), report: json(report) }
}

pub(super) fn process(further: &Further) -> Process {
    let report = report_now(&further.process);
    let running = tokio::task::unconstrained(further.process.wait_exit()).now_or_never().is_none();
    Process {
        id: further.process.id().0,
        pid: further.process.pid(),
        ended: !running,
        tty: further.tty,
        exit: report.as_deref().map(exit),
    }
}

/// As it is now.
pub(super) fn container(card: &Card) -> Container {
    let (body, started_at_ms) = {
        let state = card.state();
        (state.body.clone(), state.started_at_ms)
    };
    let (service, inspect) = match &body {
        Body::Nothing | Body::Busy => (None, None),
        Body::Container(container) => (None, Some(container.inspect())),
        Body::Service(service) => (Some(service.inspect()), service.current().map(|current| current.inspect())),
    };
    let state = match (&body, &service, &inspect) {
        (Body::Busy, ..) if started_at_ms.is_some() => State::Stopping,
        (Body::Busy, ..) => State::Starting,
        (_, Some(service), inspect) => of_service(service.state, inspect.as_ref()),
        (_, None, Some(inspect)) => of_container(inspect),
        _ => State::Created,
    };
    let report = service.as_ref().and_then(|service| service.report.as_ref());
    let report = inspect.as_ref().and_then(|inspect| inspect.report.as_ref()).or(report);
    let mut shown = blank(card, state, started_at_ms);
    shown.exit = report.map(exit);
    shown.service = service.as_ref().map(status);
    shown.generation = service.as_ref().map_or(0, |service| service.generation);
    shown.why = shown.service.as_ref().and_then(|service| service.why.clone());
    if let Some(inspect) = inspect {
        fill(&mut shown, inspect);
    }
    shown
}

fn blank(card: &Card, state: State, started_at_ms: Option<u64>) -> Container {
    let asked = &card.asked;
    let words = asked.create.spec.0.get("command").and_then(Value::as_array);
    let words = words.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
    Container {
        name: card.name.clone(),
        state,
        command: words.collect(),
        created_at_ms: asked.created_at_ms,
        started_at_ms,
        tty: !asked.create.tty.is_none(),
        stdin: asked.create.stdin,
        pid: None,
        init_pid: None,
        generation: 0,
        labels: labels(&asked.create.spec.0),
        properties: Default::default(),
        ready: false,
        health: None,
        limits: Value::Null,
        watched: Value::Null,
        unmet: Vec::new(),
        paused: None,
        cgroup_mode: None,
        rootfs: None,
        network: None,
        processes: Vec::new(),
        service: None,
        exit: None,
        why: None,
    }
}

/// As they were asked for: a table, or a list of `K=V`.
fn labels(spec: &serde_json::Map<String, Value>) -> std::collections::BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match spec.get("label") {
        Some(Value::Object(table)) => table.iter().map(|(key, value)| (key.clone(), text(value))).collect(),
        Some(Value::Array(list)) => {
            let pairs = list.iter().filter_map(|pair| pair.as_str()?.split_once('='));
            pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
        }
        _ => Default::default(),
    }
}

fn fill(shown: &mut Container, inspect: Inspect) {
    shown.pid = inspect.pid;
    shown.init_pid = inspect.init_pid;
    shown.generation = inspect.generation;
    shown.labels = inspect.labels;
    shown.properties = inspect.properties;
    shown.ready = inspect.vitals.ready && inspect.report.is_none();
    shown.health = inspect.vitals.health.map(|health| match health {
        orangery::HealthState::Healthy => HealthState::Healthy,
        orangery::HealthState::Unhealthy => HealthState::Unhealthy,
        _ => HealthState::Unknown,
    });
    shown.limits = json(&inspect.limits);
    shown.watched = json(&inspect.watched);
    shown.unmet = inspect.unmet.iter().map(json).collect();
    shown.paused = inspect.paused.map(|how| Paused { how: name(&how), weakness: how.weakness().map(str::to_owned) });
    shown.cgroup_mode = inspect.cgroup_mode;
    shown.rootfs = inspect.rootfs.map(|way| way.to_string());
    shown.network = inspect.network;
    let running =
        |process: &orangery::ProcessSummary| Running { id: process.id.0, pid: process.pid, ended: process.ended };
    shown.processes = inspect.processes.iter().map(running).collect();
}

fn of_container(inspect: &Inspect) -> State {
    match inspect.state {
        _ if inspect.report.is_some() => State::Exited,
        orangery::State::Creating => State::Starting,
        orangery::State::Running if inspect.vitals.ready => State::Running,
        orangery::State::Running => State::Starting,
        orangery::State::Paused => State::Paused,
        orangery::State::Ending | orangery::State::Unkillable => State::Stopping,
        _ => State::Exited,
    }
}

fn of_service(state: ServiceState, inspect: Option<&Inspect>) -> State {
    match state {
        ServiceState::Starting | ServiceState::Unready => State::Starting,
        ServiceState::Running if inspect.is_some_and(|inspect| inspect.state == orangery::State::Paused) => {
            State::Paused
        }
        ServiceState::Running => State::Running,
        ServiceState::Stopping => State::Stopping,
        ServiceState::BackOff => State::Waiting,
        ServiceState::Failed => State::Failed,
        _ => State::Exited,
    }
}

fn status(service: &ServiceInspect) -> ServiceStatus {
    let why = service.give_up.as_ref().map(|why: &GiveUp| name(why));
    ServiceStatus {
        state: name(&service.state),
        restarts: service.restarts,
        next_start_at_ms: service.back_off.map(|back_off| back_off.until_ms),
        why: service.error.clone().or(why),
    }
}

/// The library's name of something that has one.
pub(super) fn name(of: &impl Serialize) -> String {
    json(of).as_str().unwrap_or("unknown").to_owned()
}
