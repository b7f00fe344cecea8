//! Every route: what answers it, and what is said of it. The one table of both, so that the document of the interface cannot
//! differ from what is served.

use actix_web::http::Method;
use actix_web::web::{self, ServiceConfig};
use actix_web::{Resource, Route};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::containers::{DeleteQuery, ListQuery};
use super::control::WaitQuery;
use super::feed::{EventsQuery, StatsQuery};
use super::place::StreamQuery;
use super::{attach, containers, control, feed, groups, itself, processes, streams};
use crate::wire::{
    Container, Containers, Create, CreateGroup, Exec, Group, Groups, Health, Kill, Nothing, Pause, Process, Processes,
    Resize, Stop, Update, Waited,
};

type MakeSchema = fn(&mut SchemaGenerator) -> Schema;

/// One route.
pub(super) struct Entry {
    pub(super) method: Method,
    pub(super) path: &'static str,
    /// Its name for programs that are made of the document.
    pub(super) name: &'static str,
    pub(super) summary: &'static str,
    /// The type whose fields are its parameters.
    pub(super) query: Option<MakeSchema>,
    pub(super) body: Option<MakeSchema>,
    pub(super) status: u16,
    pub(super) answer: Answer,
    /// It takes an Idempotency-Key.
    pub(super) once: bool,
    handler: fn(Route) -> Route,
}

/// What is answered.
#[derive(Clone, Copy)]
pub(super) enum Answer {
    Nothing,
    Json(MakeSchema),
    /// Of this type.
    Text(&'static str),
    WebSocket,
}

/// The ways of one path.
struct Path(&'static str, Vec<Entry>);

impl Path {
    fn on(mut self, method: Method, name: &'static str, summary: &'static str, handler: fn(Route) -> Route) -> Self {
        self.1.push(Entry {
            method,
            path: self.0,
            name,
            summary,
            query: None,
            body: None,
            status: 204,
            answer: Answer::Nothing,
            once: false,
            handler,
        });
        self
    }

    fn get(self, name: &'static str, summary: &'static str, handler: fn(Route) -> Route) -> Self {
        self.on(Method::GET, name, summary, handler)
    }

    fn post(self, name: &'static str, summary: &'static str, handler: fn(Route) -> Route) -> Self {
        self.on(Method::POST, name, summary, handler)
    }

    /// Of the last one, as all that follow.
    fn with(mut self, change: impl FnOnce(&mut Entry)) -> Self {
        if let Some(last) = self.1.last_mut() {
            change(last);
        }
        self
    }

    fn query<T: JsonSchema>(self) -> Self {
        self.with(|entry| entry.query = Some(T::json_schema))
    }

    fn body<T: JsonSchema>(self) -> Self {
        self.with(|entry| entry.body = Some(|generator| generator.subschema_for::<T>()))
    }

    fn once(self) -> Self {
        self.with(|entry| entry.once = true)
    }

    fn answers(self, status: u16, answer: Answer) -> Self {
        self.with(|entry| (entry.status, entry.answer) = (status, answer))
    }

    fn json<T: JsonSchema>(self) -> Self {
        self.answers(200, Answer::Json(|generator| generator.subschema_for::<T>()))
    }

    fn created<T: JsonSchema>(self) -> Self {
        self.answers(201, Answer::Json(|generator| generator.subschema_for::<T>()))
    }

    fn text(self, of: &'static str) -> Self {
        self.answers(200, Answer::Text(of))
    }

    fn sse(self) -> Self {
        self.text("text/event-stream")
    }
}

fn path(path: &'static str) -> Path {
    Path(path, Vec::new())
}

fn itself() -> [Path; 4] {
    [
        path("/v1/health").get("health", "Whether the daemon can be used", |on| on.to(itself::health)).json::<Health>(),
        path("/v1/metrics")
            .get("metrics", "What it counts", |on| on.to(itself::metrics))
            .text("application/openmetrics-text"),
        path("/v1/openapi.json")
            .get("document", "This document", |on| on.to(itself::document))
            .text("application/json"),
        path("/v1/events")
            .get("events", "What happens; each id is a cursor", |on| on.to(feed::events))
            .query::<EventsQuery>()
            .sse(),
    ]
}

fn whole() -> [Path; 9] {
    [
        path("/v1/containers")
            .post("create", "Make a container, and start it", |on| on.to(containers::create))
            .body::<Create>()
            .once()
            .created::<Container>()
            .get("list", "All containers, or some", |on| on.to(containers::list))
            .query::<ListQuery>()
            .json::<Containers>(),
        path("/v1/containers/{name}")
            .get("inspect", "A container as it is now", |on| on.to(containers::inspect))
            .json::<Container>()
            .on(Method::PATCH, "update", "Change limits and properties; what is not named stays. Of what is kept running: until its next incarnation", |on| {
                on.to(control::update)
            })
            .body::<Update>()
            .json::<Container>()
            .on(Method::DELETE, "delete", "Forget it, with its log and its report", |on| on.to(containers::delete))
            .query::<DeleteQuery>(),
        path("/v1/containers/{name}/start")
            .post("start", "Start what does not run", |on| on.to(containers::start))
            .body::<Nothing>()
            .json::<Container>(),
        path("/v1/containers/{name}/wait")
            .get("wait", "Wait for its end, or until it is ready; call again", |on| on.to(control::wait))
            .query::<WaitQuery>()
            .json::<Waited>(),
        path("/v1/containers/{name}/stop")
            .post("stop", "End it gently; answered when it has ended", |on| on.to(control::stop))
            .body::<Stop>()
            .json::<Container>(),
        path("/v1/containers/{name}/kill")
            .post("kill", "Send a signal; without one, kill it", |on| on.to(control::kill))
            .body::<Kill>(),
        path("/v1/containers/{name}/pause")
            .post("pause", "Hold all its processes", |on| on.to(control::pause))
            .body::<Pause>()
            .json::<Container>(),
        path("/v1/containers/{name}/resume")
            .post("resume", "Let them go on", |on| on.to(control::resume))
            .body::<Nothing>(),
        path("/v1/containers/{name}/stats")
            .get("stats", "Its counters; with `every` as server-sent events", |on| on.to(feed::stats))
            .query::<StatsQuery>()
            .text("application/json"),
    ]
}

/// What there is of a main process, and of a further one.
macro_rules! streams {
    ($path:literal, $resize:literal, $output:literal, $logs:literal, $attach:literal) => {
        [
            path(concat!($path, "/resize"))
                .post($resize, "Give its terminal another size", |on| on.to(control::resize))
                .body::<Resize>(),
            path(concat!($path, "/output"))
                .get($output, "The bytes that it writes; cut where some are missing", |on| on.to(streams::output))
                .query::<StreamQuery>()
                .text("application/octet-stream"),
            path(concat!($path, "/logs"))
                .get($logs, "What it writes; each id is a cursor", |on| on.to(streams::logs))
                .query::<StreamQuery>()
                .sse(),
            path(concat!($path, "/attach"))
                .get($attach, "Its streams, and its standard input", |on| on.to(attach::attach))
                .query::<StreamQuery>()
                .answers(101, Answer::WebSocket),
        ]
    };
}

fn main_streams() -> [Path; 4] {
    streams!("/v1/containers/{name}", "resize", "output", "logs", "attach")
}

fn further_streams() -> [Path; 4] {
    streams!(
        "/v1/containers/{name}/processes/{pid}",
        "process_resize",
        "process_output",
        "process_logs",
        "process_attach"
    )
}

fn further() -> [Path; 5] {
    [
        path("/v1/containers/{name}/processes")
            .post("exec", "A further process in it", |on| on.to(processes::exec))
            .body::<Exec>()
            .once()
            .created::<Process>()
            .get("processes", "Its processes; ended ones are kept for a while", |on| on.to(processes::list))
            .json::<Processes>(),
        path("/v1/containers/{name}/processes/{pid}")
            .get("process", "A process as it is now", |on| on.to(processes::inspect))
            .json::<Process>(),
        path("/v1/containers/{name}/processes/{pid}/wait")
            .get("process_wait", "Wait for its end; call again", |on| on.to(control::wait))
            .query::<WaitQuery>()
            .json::<Waited>(),
        path("/v1/containers/{name}/processes/{pid}/stop")
            .post("process_stop", "End it gently; answered when it has ended", |on| on.to(control::stop))
            .body::<Stop>()
            .json::<Process>(),
        path("/v1/containers/{name}/processes/{pid}/kill")
            .post("process_kill", "Send a signal; without one, kill it", |on| on.to(control::kill))
            .body::<Kill>(),
    ]
}

fn groups() -> [Path; 3] {
    [
        path("/v1/groups")
            .post("create_group", "Services that are started, stopped and restarted together", |on| {
                on.to(groups::create)
            })
            .body::<CreateGroup>()
            .once()
            .created::<Group>()
            .get("groups", "All groups", |on| on.to(groups::list))
            .json::<Groups>(),
        path("/v1/groups/{name}")
            .get("group", "A group as it is now", |on| on.to(groups::inspect))
            .json::<Group>()
            .on(Method::DELETE, "delete_group", "Forget it, with its containers", |on| on.to(groups::delete))
            .query::<DeleteQuery>(),
        path("/v1/groups/{name}/stop")
            .post("stop_group", "Stop its members in reverse order; answered when all have ended", |on| {
                on.to(groups::stop)
            })
            .body::<Nothing>()
            .json::<Group>(),
    ]
}

fn paths() -> impl Iterator<Item = Path> {
    let containers = whole().into_iter().chain(main_streams()).chain(further()).chain(further_streams());
    itself().into_iter().chain(containers).chain(groups())
}

/// All of them.
pub(super) fn all() -> impl Iterator<Item = Entry> {
    paths().flat_map(|path| path.1)
}

/// Serve them.
pub(super) fn configure(config: &mut ServiceConfig) {
    for Path(path, entries) in paths() {
        let resource = web::resource(path).default_service(web::to(itself::no_method));
        let on = |resource: Resource, entry: Entry| resource.route((entry.handler)(web::method(entry.method)));
        config.service(entries.into_iter().fold(resource, on));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths_are_there_once() {
        let once = |mut names: Vec<&str>| {
            let all = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), all, "{names:?}");
        };
        once(all().map(|entry| entry.name).collect());
        once(paths().map(|path| path.0).collect());
    }
}
