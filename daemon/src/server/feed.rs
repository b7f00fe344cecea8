//! What happens, as server-sent events; and the counters of one container.

use std::io;
use std::time::Duration;

use actix_web::web::{Bytes, Data};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::{FutureExt as _, Stream, StreamExt as _, stream};
use orangery::events::{Events, Item, Kind, Since};
use orangery::runtime::spec::size::parse_duration;
use orangery::stream::view::ServerSentEvents;
use orangery::{Cursor, EventFilter, StatsStream};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::ask::{flag, parameter, query};
use super::containers::pairs;
use super::daemon::Daemon;
use super::failed::{Answer, Failed};
use super::line::{Line, Next};
use super::place::cursor;
use super::streams::{one_more, sse};
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
        if !Kind::NAMES.contains(&kind) {
            return Err(parameter(
                "kind",
                format!("no event is called {kind:?}: there are {}", Kind::NAMES.join(", ")),
            ));
        }
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
    let client = FeedClient { events: events.only(filter), follow, line: Line::new(&daemon, one), over: false };
    // Where it begins, so that a client that is cut off before the first event comes back there.
    let mut begun = format!("retry: 1000\nid: {}\n\n", client.events.cursor()).into_bytes();
    ServerSentEvents::push_heartbeat(&mut begun);
    Ok(sse(stream::iter([Ok(begun.into())]).chain(client.into_stream())))
}

/// One client of `events`.
struct FeedClient {
    events: Events,
    follow: bool,
    line: Line,
    over: bool,
}

fn push(name: &str, id: &Cursor, data: &str) -> Bytes {
    format!("event: {name}\nid: {id}\ndata: {data}\n\n").into()
}

impl FeedClient {
    fn into_stream(self) -> impl Stream<Item = io::Result<Bytes>> {
        stream::unfold(self, |mut client| async move {
            if client.over {
                return None;
            }
            let body = client.more().await?;
            Some((Ok(body), client))
        })
    }

    async fn more(&mut self) -> Option<Bytes> {
        let next = async {
            match self.follow {
                true => self.events.recv().await,
                false => tokio::task::unconstrained(self.events.recv()).now_or_never().flatten(),
            }
        };
        let next = self.line.next(next).await;
        let at = self.events.cursor();
        let item = match next {
            Next::Item(item) => item,
            Next::Alive => return Some(Bytes::from_static(b":\n\n")),
            Next::Bye => {
                self.over = true;
                return Some(push("bye", &at, "{}"));
            }
        };
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
    Ok(sse(counters(stats, Line::new(&daemon, one))))
}

fn counters(stats: StatsStream, line: Line) -> impl Stream<Item = io::Result<Bytes>> {
    stream::unfold(Some((stats, line)), |state| async move {
        let (mut stats, mut line) = state?;
        let (body, over) = match line.next(stats.next()).await {
            Next::Item(Some(now)) => (format!("event: stats\ndata: {}\n\n", view::json(&now)).into(), false),
            Next::Item(None) => (Bytes::from_static(b"event: end\ndata: {}\n\n"), true),
            Next::Alive => (Bytes::from_static(b":\n\n"), false),
            Next::Bye => (Bytes::from_static(b"event: bye\ndata: {}\n\n"), true),
        };
        Some((Ok(body), (!over).then_some((stats, line))))
    })
}
