//! Groups: services that are started, stopped and restarted together. Their containers are ordinary ones, but for their end.

use std::sync::Arc;

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use orangery::{GroupInspect, MemberInspect};

use super::ask::Body as Said;
use super::containers::{DeleteQuery, apart, created};
use super::daemon::{Daemon, blocking, checked, now_ms, system};
use super::failed::{Answer, Failed, failed};
use super::make::MadeGroup;
use super::once::{self, Done};
use super::registry::{Asked, Body, Card};
use super::store::SCHEMA;
use super::view;
use crate::wire::{CreateGroup, Group, Groups, Member, Nothing, Problem, ProblemKind};

/// POST /v1/groups
pub(super) async fn create(daemon: Data<Daemon>, request: HttpRequest, body: Said) -> Answer {
    let create: CreateGroup = body.read()?;
    let key = once::key(&request)?;
    let made = Arc::clone(&daemon).create_group(create);
    Ok(created(daemon.keys.once(key, &body.0, made).await?))
}

/// Cards of a group that is being made: they go again unless they are kept.
struct Fresh {
    daemon: Arc<Daemon>,
    cards: Vec<Arc<Card>>,
    kept: bool,
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if !self.kept {
            for card in &self.cards {
                if let Err(error) = self.daemon.store.remove(&card.name) {
                    tracing::error!(%error, name = card.name, "what was written down of a service stays");
                }
                self.daemon.registry.remove(card);
                card.becomes(Body::Nothing, None);
            }
        }
    }
}

impl Daemon {
    async fn create_group(self: Arc<Self>, create: CreateGroup) -> Result<Done, Failed> {
        let name = checked(create.name.clone())?;
        if self.registry.group(&name).is_some() {
            return Err(Problem::new(ProblemKind::Exists, format!("there is a group {name:?}")).field("name").into());
        }
        let (make, supervisor, logs) = (self.make.clone(), self.supervisor.clone(), self.store.logs().to_owned());
        let made = blocking(move || make.0.group(&supervisor, &create, &logs)).await?.map_err(Failed)?;
        let MadeGroup { group, members } = made;
        let mut fresh = Fresh { daemon: Arc::clone(&self), cards: Vec::new(), kept: false };
        for (name_of_one, create) in members {
            let asked = Asked { schema: SCHEMA, create, created_at_ms: now_ms(), group: Some(name.clone()), key: None };
            fresh.cards.push(self.registry.add(Card::new(&name_of_one, asked, Body::Busy))?);
        }
        let (store, cards) = (self.store.clone(), fresh.cards.clone());
        let written = move || cards.iter().try_for_each(|card| store.write(&card.name, &card.asked));
        blocking(written).await?.map_err(|error| system("cannot write the group down", &error))?;
        let group = group.start(&self.supervisor).await?;
        for card in &fresh.cards {
            let service = self.supervisor.service(&card.name).await?;
            card.becomes(service.map_or(Body::Nothing, Body::Service), Some(now_ms()));
        }
        fresh.kept = true;
        let told = shown(&name, &group.inspect());
        self.registry.enroll(&name, group);
        let body = serde_json::to_string(&told).unwrap_or_default();
        Ok(Done { location: format!("/v1/groups/{name}"), body })
    }

    async fn delete_group(self: Arc<Self>, name: String, force: bool) -> Result<(), Failed> {
        let all = self.registry.all().into_iter();
        let cards: Vec<_> = all.filter(|card| card.asked.group.as_ref() == Some(&name)).collect();
        match self.registry.group(&name) {
            Some(group) => {
                if !force && !group.state().is_settled() {
                    return Err(Problem::new(ProblemKind::State, "it lives").hint("stop it, or force=true").into());
                }
                group.kill();
                group.wait().await?;
                drop(group);
                // With its members, or the next daemon would have it again.
                self.supervisor.forget(&name).await?;
                self.registry.dismiss(&name);
            }
            // Its record could not be read, and its members are there.
            None if cards.is_empty() => return self.group(&name).map(drop),
            None => {}
        }
        for card in cards {
            Arc::clone(&self).delete(card, force).await?;
        }
        Ok(())
    }

    fn group(&self, name: &str) -> Result<orangery::Group, Failed> {
        let found = self.registry.group(name);
        found.ok_or_else(|| failed(ProblemKind::NotFound, format!("there is no group {name:?}")))
    }
}

fn shown(name: &str, inspect: &GroupInspect) -> Group {
    let mut members = Vec::new();
    collect(name, inspect, &mut members);
    let whole = &inspect.whole;
    let why = whole.error.clone().or_else(|| whole.give_up.as_ref().map(view::name));
    Group { name: name.to_owned(), state: view::name(&whole.state), why, members }
}

fn collect(path: &str, inspect: &GroupInspect, members: &mut Vec<Member>) {
    for (name, member) in &inspect.members {
        let name = format!("{path}.{name}");
        match member {
            MemberInspect::Group(inner) => collect(&name, inner, members),
            MemberInspect::Service(service) => {
                members.push(Member { name, state: view::name(&service.state), restarts: service.restarts });
            }
        }
    }
}

fn name(request: &HttpRequest) -> &str {
    request.match_info().get("name").unwrap_or_default()
}

/// GET /v1/groups
pub(super) async fn list(daemon: Data<Daemon>) -> Answer {
    let groups = daemon.registry.groups();
    let groups = groups.iter().map(|(name, group)| shown(name, &group.inspect())).collect();
    Ok(HttpResponse::Ok().json(Groups { groups }))
}

/// GET /v1/groups/{name}
pub(super) async fn inspect(daemon: Data<Daemon>, request: HttpRequest) -> Answer {
    let name = name(&request);
    Ok(HttpResponse::Ok().json(shown(name, &daemon.group(name)?.inspect())))
}

/// POST /v1/groups/{name}/stop
pub(super) async fn stop(daemon: Data<Daemon>, request: HttpRequest, body: Said) -> Answer {
    let _: Nothing = body.read()?;
    let name = name(&request);
    let group = daemon.group(name)?;
    let stopping = group.clone();
    apart(async move { Ok(stopping.stop_gently().await?) }).await?;
    Ok(HttpResponse::Ok().json(shown(name, &group.inspect())))
}

/// DELETE /v1/groups/{name}
pub(super) async fn delete(daemon: Data<Daemon>, request: HttpRequest) -> Answer {
    let force = DeleteQuery::force(&request)?;
    apart(Arc::clone(&daemon).delete_group(name(&request).to_owned(), force)).await?;
    Ok(HttpResponse::NoContent().finish())
}
