//! The daemon itself: whether it can be used, what it counts, and what can be asked.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};

use super::daemon::Daemon;
use super::failed::{Answer, failed};
use super::openapi;
use crate::wire::{API, Health, ProblemKind, Status};

/// What a page of OpenMetrics is.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether it can be used.
pub(super) fn status(daemon: &Daemon) -> Status {
    let keeper_is_dead = daemon.supervisor.native().is_some_and(|native| native.keeper_is_dead());
    match *daemon.bye.borrow() {
        true => Status::Stopping,
        false if keeper_is_dead => Status::KeeperLost,
        false => Status::Ok,
    }
}

/// GET /v1/health
pub(super) async fn health(daemon: Data<Daemon>) -> Answer {
    let status = status(&daemon);
    let health = Health {
        status,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        api: API,
        pid: std::process::id(),
        started_at_ms: daemon.started_at_ms,
        durable: daemon.durable,
        keepers_replaced: daemon.supervisor.native().map_or(0, |native| native.keepers_replaced()),
        containers: daemon.registry.all().len(),
        state_dir: daemon.state_dir.clone(),
    };
    let mut answer = match status {
        Status::Ok => HttpResponse::Ok(),
        _ => HttpResponse::ServiceUnavailable(),
    };
    Ok(answer.json(health))
}

/// GET /v1/metrics
pub(super) async fn metrics(daemon: Data<Daemon>) -> Answer {
    Ok(HttpResponse::Ok().content_type(OPEN_METRICS).body(daemon.supervisor.metrics()))
}

/// GET /v1/openapi.json
pub(super) async fn document(daemon: Data<Daemon>) -> Answer {
    Ok(HttpResponse::Ok().json(openapi::document(&daemon.make.0.spec_schema())))
}

/// There is no such path.
pub(super) async fn nowhere(request: HttpRequest) -> Answer {
    Err(failed(ProblemKind::NotFound, format!("there is nothing at {:?}", request.path())))
}

/// There is such a path, and not by this method.
pub(super) async fn no_method(request: HttpRequest) -> Answer {
    Err(failed(ProblemKind::Method, format!("{} is not for {:?}", request.method(), request.path())))
}
