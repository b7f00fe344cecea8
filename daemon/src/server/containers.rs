//! Containers: made, listed, looked at, started, deleted.

use std::sync::Arc;

use actix_web::http::header::LOCATION;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use schemars::JsonSchema;
use serde::Deserialize;

use super::ask::{Body, flag, parameter, query};
use super::daemon::Daemon;
use super::failed::{Answer, Failed, failed};
use super::once::{self, Done};
use super::target::card;
use super::view;
use crate::wire::{Container, Containers, Create, ProblemKind, State};

/// POST /v1/containers
pub(super) async fn create(daemon: Data<Daemon>, request: HttpRequest, body: Body) -> Answer {
    let create: Create = body.read()?;
    let key = once::key(&request)?;
    let made = Arc::clone(&daemon).create(create, key.clone());
    Ok(created(daemon.keys.once(key, &body.0, made).await?))
}

pub(super) fn created(done: Done) -> HttpResponse {
    HttpResponse::Created().insert_header((LOCATION, done.location)).content_type("application/json").body(done.body)
}

/// Which containers.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// `K=V`: with this label; of several, all.
    #[serde(default)]
    label: Vec<String>,
    /// `K=V`: with this property; of several, all.
    #[serde(default)]
    property: Vec<String>,
    /// In one of these states, with commas between them.
    state: Option<String>,
    /// Whose names begin with this.
    name_prefix: Option<String>,
}

/// Parameters of [`ListQuery`] that may be there several times.
pub(super) const LISTS: [&str; 2] = ["label", "property"];

/// A filter that was read.
struct Filter {
    labels: Vec<(String, String)>,
    properties: Vec<(String, String)>,
    states: Vec<State>,
    prefix: String,
}

pub(super) fn pairs(field: &str, texts: &[String]) -> Result<Vec<(String, String)>, Failed> {
    let pair = |text: &String| match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(parameter(field, format!("{text:?} is not K=V"))),
    };
    texts.iter().map(pair).collect()
}

impl Filter {
    fn of(said: &ListQuery) -> Result<Self, Failed> {
        let state = |name: &str| {
            let names = State::ALL.map(State::name).join(", ");
            State::by_name(name).ok_or_else(|| parameter("state", format!("{name:?} is no state: {names}")))
        };
        let states = said.state.as_deref().map(|states| states.split(',').map(state).collect::<Result<_, _>>());
        Ok(Self {
            labels: pairs("label", &said.label)?,
            properties: pairs("property", &said.property)?,
            states: states.transpose()?.unwrap_or_default(),
            prefix: said.name_prefix.clone().unwrap_or_default(),
        })
    }

    fn wants(&self, container: &Container) -> bool {
        let has = |of: &std::collections::BTreeMap<String, String>, wanted: &[(String, String)]| {
            wanted.iter().all(|(key, value)| of.get(key) == Some(value))
        };
        container.name.starts_with(&self.prefix)
            && (self.states.is_empty() || self.states.contains(&container.state))
            && has(&container.labels, &self.labels)
            && has(&container.properties, &self.properties)
    }
}

/// GET /v1/containers
pub(super) async fn list(daemon: Data<Daemon>, request: HttpRequest) -> Answer {
    let filter = Filter::of(&query(&request, &LISTS)?)?;
    let mut containers: Vec<Container> = daemon.registry.all().iter().map(|card| view::container(card)).collect();
    containers.retain(|container| filter.wants(container));
    Ok(HttpResponse::Ok().json(Containers { containers }))
}

/// GET /v1/containers/{name}
pub(super) async fn inspect(daemon: Data<Daemon>, request: HttpRequest) -> Answer {
    Ok(HttpResponse::Ok().json(view::container(&*card(&daemon, &request)?)))
}

/// POST /v1/containers/{name}/start
pub(super) async fn start(daemon: Data<Daemon>, request: HttpRequest, body: Body) -> Answer {
    let _: crate::wire::Nothing = body.read()?;
    let card = card(&daemon, &request)?;
    apart(Arc::clone(&daemon).start(Arc::clone(&card))).await?;
    Ok(HttpResponse::Ok().json(view::container(&card)))
}

/// What is asked of a deletion.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DeleteQuery {
    /// `true`: kill it if it lives.
    force: Option<String>,
}

impl DeleteQuery {
    pub(super) fn force(request: &HttpRequest) -> Result<bool, Failed> {
        flag("force", query::<Self>(request, &[])?.force.as_deref(), false)
    }
}

/// DELETE /v1/containers/{name}
pub(super) async fn delete(daemon: Data<Daemon>, request: HttpRequest) -> Answer {
    let force = DeleteQuery::force(&request)?;
    let card = card(&daemon, &request)?;
    apart(Arc::clone(&daemon).delete(card, force)).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// In a task of its own: a client that leaves does not end what was begun.
pub(super) async fn apart<T: Send + 'static>(
    work: impl Future<Output = Result<T, Failed>> + Send + 'static,
) -> Result<T, Failed> {
    tokio::spawn(work).await.unwrap_or_else(|_| Err(failed(ProblemKind::ShutDown, "the daemon goes")))
}
