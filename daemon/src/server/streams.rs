//! The output of a process: as bytes alone, and as server-sent events.

use std::io;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::web::{Bytes, Data};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::{Stream, StreamExt as _, stream};
use orangery::Event;
use orangery::stream::view::ServerSentEvents;
use tokio::time::Duration;

use super::daemon::{Daemon, blocking};
use super::failed::{Answer, Failed};
use super::line::{Line, Next};
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

/// GET .../logs
pub(super) async fn logs(daemon: Data<Daemon>, request: HttpRequest) -> Answer {
    let one = one_more(&daemon, &request)?;
    let (reader, wanted) = reader(&daemon, &request, Kind::Logs).await?;
    let view = ServerSentEvents::new(reader.place());
    let view = if wanted.times { view.with_times() } else { view };
    let mut begun = Vec::new();
    ServerSentEvents::push_retry(RETRY, &mut begun);
    let client = LogClient { reader, view, line: Line::new(&daemon, one), over: false };
    Ok(sse(stream::iter([Ok(begun.into())]).chain(client.into_stream())))
}

/// One client of `logs`.
struct LogClient {
    reader: Reader,
    view: ServerSentEvents,
    line: Line,
    over: bool,
}

impl LogClient {
    fn into_stream(self) -> impl Stream<Item = io::Result<Bytes>> {
        stream::unfold(self, |mut client| async move {
            let mut body = Vec::new();
            while body.is_empty() && !client.over {
                client.more(&mut body).await;
            }
            (!body.is_empty()).then(|| (Ok(body.into()), client))
        })
    }

    async fn more(&mut self, body: &mut Vec<u8>) {
        match self.line.next(self.reader.next()).await {
            Next::Item(item) => self.tell(item, body),
            Next::Alive => ServerSentEvents::push_heartbeat(body),
            Next::Bye => {
                self.view.push_bye(body);
                self.over = true;
            }
        }
    }

    fn tell(&mut self, item: Item, body: &mut Vec<u8>) {
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
    let body = stream::unfold((reader, Line::new(&daemon, one)), |(mut reader, mut line)| async move {
        let item = loop {
            match line.next(bytes(&mut reader)).await {
                Next::Item(item) => break item?,
                // Bytes alone have no word for that.
                Next::Alive => {}
                Next::Bye => break Err(io::Error::other("the daemon goes")),
            }
        };
        Some((item, (reader, line)))
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
