//! The output of a process: as bytes alone, and as server-sent events.

use std::io;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::web::{Bytes, Data};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::{Stream, StreamExt as _, stream};
use orangery::Event;
use orangery::stream::view::ServerSentEvents;
use tokio::sync::watch;
use tokio::time::{Duration, Interval, MissedTickBehavior, interval};

use super::daemon::{Daemon, blocking, going};
use super::failed::{Answer, Failed};
use super::peer::{self, Taken};
use super::place::{Kind, Wanted};
use super::reader::{Item, Reader};
use super::target::Target;
use super::view;
use crate::wire::{Problem, ProblemKind};

/// A client that was cut off comes back after this.
const RETRY: Duration = Duration::from_secs(1);

/// One stream more for this client.
///
/// # Errors
/// It has what it may have.
pub(super) fn one_more(daemon: &Daemon, request: &HttpRequest) -> Result<Taken, Failed> {
    daemon.streams.take(peer::of(request)).ok_or_else(|| {
        let mut problem = Problem::new(ProblemKind::Exhausted, "as many streams are open as there may be");
        problem.retryable = true;
        problem.hint("close one, or wait").into()
    })
}

/// The reader that a request wants.
///
/// # Errors
/// There is no such process, or it cannot be read from there.
pub(super) async fn reader(
    daemon: &Data<Daemon>,
    request: &HttpRequest,
    kind: Kind,
) -> Result<(Reader, Wanted), Failed> {
    let wanted = Wanted::of(request, kind)?;
    match Target::of(daemon, request)? {
        Target::Main(card) => {
            let dir = daemon.store.log(&card.name);
            blocking(move || Reader::of_container(&card, &dir, &wanted).map(|reader| (reader, wanted))).await?
        }
        Target::Further(_, further) => Ok((Reader::of_further(&further, &wanted)?, wanted)),
    }
}

/// An answer of server-sent events.
pub(super) fn sse(body: impl Stream<Item = io::Result<Bytes>> + 'static) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/event-stream"))
        .insert_header((CACHE_CONTROL, "no-store"))
        .streaming(body)
}

/// Shows that the connection lives.
pub(super) fn pulse(every: Duration) -> Interval {
    let mut pulse = interval(every);
    pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pulse.reset();
    pulse
}

/// GET .../logs
pub(super) async fn logs(daemon: Data<Daemon>, request: HttpRequest) -> Answer {
    let one = one_more(&daemon, &request)?;
    let (reader, wanted) = reader(&daemon, &request, Kind::Logs).await?;
    let view = ServerSentEvents::new(reader.place());
    let view = if wanted.times { view.with_times() } else { view };
    let mut begun = Vec::new();
    ServerSentEvents::push_retry(RETRY, &mut begun);
    let told = Told { reader, view, pulse: pulse(daemon.heartbeat), bye: daemon.bye.clone(), over: false, _one: one };
    Ok(sse(stream::iter([Ok(begun.into())]).chain(told.into_stream())))
}

/// One client of `logs`.
struct Told {
    reader: Reader,
    view: ServerSentEvents,
    pulse: Interval,
    bye: watch::Receiver<bool>,
    over: bool,
    _one: Taken,
}

impl Told {
    fn into_stream(self) -> impl Stream<Item = io::Result<Bytes>> {
        stream::unfold(self, |mut told| async move {
            let mut body = Vec::new();
            while body.is_empty() && !told.over {
                told.more(&mut body).await;
            }
            (!body.is_empty()).then(|| (Ok(body.into()), told))
        })
    }

    async fn more(&mut self, body: &mut Vec<u8>) {
        tokio::select! {
            biased;
            () = going(&mut self.bye) => {
                self.view.push_bye(body);
                self.over = true;
            }
            item = self.reader.next() => self.tell(item, body),
            _ = self.pulse.tick() => ServerSentEvents::push_heartbeat(body),
        }
    }

    fn tell(&mut self, item: Item, body: &mut Vec<u8>) {
        self.pulse.reset();
        match item {
            Item::Event(event) => {
                self.over = matches!(event, Event::End(_) | Event::Lagged { .. });
                self.view.push(&event, body);
            }
            Item::Exit(report) => {
                let exit = serde_json::to_string(&view::exit(&report)).unwrap_or_default();
                self.view.push_other("exit", &exit, body);
            }
            Item::Now => {
                self.view.push_other("now", "{}", body);
                self.over = true;
            }
            // Without a last word: whoever comes back with the id hears what there still is.
            Item::Cut => self.over = true,
            Item::Over => {
                self.view.push_other("end", r#"{"reason":"eof"}"#, body);
                self.over = true;
            }
        }
    }
}

/// GET .../output: what bytes cannot say (a gap, a daemon that goes) cuts the connection, so that no client takes a part for
/// the whole.
pub(super) async fn output(daemon: Data<Daemon>, request: HttpRequest) -> Answer {
    let one = one_more(&daemon, &request)?;
    let (reader, _) = reader(&daemon, &request, Kind::Output).await?;
    let body = stream::unfold((reader, daemon.bye.clone(), one), |(mut reader, mut bye, one)| async move {
        let item = tokio::select! {
            biased;
            () = going(&mut bye) => Err(io::Error::other("the daemon goes")),
            item = bytes(&mut reader) => item?,
        };
        Some((item, (reader, bye, one)))
    });
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "application/octet-stream"))
        .insert_header((CACHE_CONTROL, "no-store"))
        .streaming(body))
}

/// The next bytes; `None` at the end.
async fn bytes(reader: &mut Reader) -> Option<io::Result<Bytes>> {
    loop {
        match reader.next().await {
            Item::Event(Event::Chunk(chunk)) => return Some(Ok(chunk.data)),
            Item::Event(Event::Gap(gap)) => {
                return Some(Err(io::Error::other(format!("{} bytes of {} are missing", gap.bytes(), gap.source))));
            }
            Item::Event(Event::Lagged { .. }) => return Some(Err(io::Error::other("too slow"))),
            Item::Cut => return Some(Err(io::Error::other("its log cannot be read on"))),
            Item::Event(Event::End(_)) | Item::Now | Item::Over => return None,
            Item::Event(_) | Item::Exit(_) => {}
        }
    }
}
