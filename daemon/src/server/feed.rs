//! What happens, as server-sent events; and the counters of one container.

use std::io;
use std::time::Duration;

use actix_web::web::{Bytes, Data};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::{FutureExt as _, Stream, StreamExt as _, stream};
use orangery::events::{Events, Item, Since};
use orangery::runtime::spec::size::parse_duration;
use orangery::stream::view::ServerSentEvents;
use orangery::{Cursor, EventFilter, StatsStream};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Interval;

use super::ask::{flag, parameter, query};
use super::containers::pairs;
use super::daemon::{Daemon, going};
use super::failed::{Answer, Failed};
use super::peer::Taken;
use super::place::cursor;
use super::streams::{one_more, pulse, sse};
use super::target::card;
use super::view;

/// Which events.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EventsQuery {
    /// About this container; of several, one of them.
    #[serde(default)]
    container: Vec<String>,
    /// About containers whose names begin with this.
    name_prefix: Option<String>,
    /// `K=V`: about containers with this label; of several, all.
    #[serde(default)]
    label: Vec<String>,
    /// Of these kinds, with commas between them.
    kind: Option<String>,
    /// `now` (default), or `start`: with the oldest that is kept.
    from: Option<String>,
    /// From this place, as an earlier answer told it; the header Last-Event-ID says the same.
    cursor: Option<String>,
    /// `false`: end with what is there now.
    follow: Option<String>,
}

/// Parameters of [`EventsQuery`] that may be there several times.
pub(super) const LISTS: [&str; 2] = ["container", "label"];

fn filter(said: &EventsQuery) -> Result<EventFilter, Failed> {
    let mut filter = EventFilter::new();
    for (key, value) in pairs("label", &said.label)? {
        filter = filter.label(key, value);
    }
    for name in &said.container {
        filter = filter.id(name);
    }
    for kind in said.kind.iter().flat_map(|kinds| kinds.split(',')) {
        filter = filter.kind(kind);
    }
    Ok(match &said.name_prefix {
        Some(prefix) => filter.id_prefix(prefix),
        None => filter,
    })
}

/// GET /v1/events
pub(super) async fn events(daemon: Data<Daemon>, request: HttpRequest) -> Answer {
    let one = one_more(&daemon, &request)?;
    let said: EventsQuery = query(&request, &LISTS)?;
    let filter = filter(&said)?;
    let since = match said.from.as_deref() {
        None | Some("now") => Since::Now,
        Some("start") => Since::Oldest,
        Some(other) => return Err(parameter("from", format!("{other:?} is neither start nor now"))),
    };
    let follow = flag("follow", said.follow.as_deref(), true)?;
    let events = match cursor(&request, said.cursor.as_deref())? {
        Some(_) if said.from.is_some() => return Err(parameter("from", "cursor says where to begin already")),
        Some(cursor) => daemon.supervisor.resume_events(cursor)?,
        None => daemon.supervisor.events(since),
    };
    let told = Told {
        events: events.only(filter),
        follow,
        pulse: pulse(daemon.heartbeat),
        bye: daemon.bye.clone(),
        over: false,
        _one: one,
    };
    // Where it begins, so that a client that is cut off before the first event comes back there.
    let mut begun = format!("retry: 1000\nid: {}\n\n", told.events.cursor()).into_bytes();
    ServerSentEvents::push_heartbeat(&mut begun);
    Ok(sse(stream::iter([Ok(begun.into())]).chain(told.into_stream())))
}

/// One client of `events`.
struct Told {
    events: Events,
    follow: bool,
    pulse: Interval,
    bye: watch::Receiver<bool>,
    over: bool,
    _one: Taken,
}

fn push(name: &str, id: &Cursor, data: &str) -> Bytes {
    format!("event: {name}\nid: {id}\ndata: {data}\n\n").into()
}

impl Told {
    fn into_stream(self) -> impl Stream<Item = io::Result<Bytes>> {
        stream::unfold(self, |mut told| async move {
            if told.over {
                return None;
            }
            let body = told.more().await?;
            Some((Ok(body), told))
        })
    }

    async fn more(&mut self) -> Option<Bytes> {
        let item = tokio::select! {
            biased;
            () = going(&mut self.bye) => {
                self.over = true;
                return Some(push("bye", &self.events.cursor(), "{}"));
            }
            item = async {
                match self.follow {
                    true => self.events.recv().await,
                    false => tokio::task::unconstrained(self.events.recv()).now_or_never().flatten(),
                }
            } => item,
            _ = self.pulse.tick() => return Some(Bytes::from_static(b":\n\n")),
        };
        self.pulse.reset();
        let at = self.events.cursor();
        match item {
            Some(Item::Event(event)) => {
                Some(push(event.kind.name(), &at, &serde_json::to_string(&*event).unwrap_or_default()))
            }
            Some(Item::Lagged { missed }) => {
                let to = at.event();
                Some(push("gap", &at, &json!({ "from": to.saturating_sub(missed), "to": to }).to_string()))
            }
            Some(_) => Some(Bytes::from_static(b":\n\n")),
            None if self.follow => None,
            None => {
                self.over = true;
                Some(push("now", &at, "{}"))
            }
        }
    }
}

/// How often.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StatsQuery {
    /// Server-sent events at this interval (1s), until its end.
    every: Option<String>,
}

/// GET /v1/containers/{name}/stats
pub(super) async fn stats(daemon: Data<Daemon>, request: HttpRequest) -> Answer {
    let said: StatsQuery = query(&request, &[])?;
    let container = card(&daemon, &request)?.container()?;
    let Some(every) = said.every.as_deref() else { return Ok(HttpResponse::Ok().json(view::json(&container.stats()))) };
    let every = parse_duration(every).map_err(|why| parameter("every", why))?;
    let one = one_more(&daemon, &request)?;
    // A shorter interval would be the client's way to keep a thread busy.
    let stats = container.stats_stream(every.max(Duration::from_millis(100)));
    Ok(sse(counters(stats, daemon.bye.clone(), one)))
}

fn counters(stats: StatsStream, bye: watch::Receiver<bool>, one: Taken) -> impl Stream<Item = io::Result<Bytes>> {
    stream::unfold(Some((stats, bye, one)), |state| async move {
        let (mut stats, mut bye, one) = state?;
        let next = tokio::select! {
            biased;
            () = going(&mut bye) => return Some((Ok(Bytes::from_static(b"event: bye\ndata: {}\n\n")), None)),
            next = stats.next() => next,
        };
        Some(match next {
            Some(now) => {
                let body = format!("event: stats\ndata: {}\n\n", view::json(&now));
                (Ok(body.into()), Some((stats, bye, one)))
            }
            None => (Ok(Bytes::from_static(b"event: end\ndata: {}\n\n")), None),
        })
    })
}
