//! A service that starts sandboxes and streams what they write to any number of clients, who may come late, be cut off and
//! come back: not a byte is missing and none comes twice, because the bytes are in a log and the clients have cursors.
//!
//! `cargo run --release --features actix-web --example log_server [ADDRESS [HEARTBEAT_SECONDS]]`
//!
//! ```text
//! curl --data-binary 'for i in 1 2 3; do echo $i; sleep 1; done' localhost:3000/sandboxes     {"id":"job-1"}
//! curl -N localhost:3000/sandboxes/job-1/events                server-sent events, each id a cursor
//! curl -N -H 'Last-Event-ID: CURSOR' localhost:3000/sandboxes/job-1/events?stream=stderr
//! curl -N localhost:3000/sandboxes/job-1/output                the bytes alone
//! curl -X DELETE localhost:3000/sandboxes/job-1
//! ```

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web::{Bytes, Data, Path, Query, resource};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, ResponseError};
use futures_util::{Stream, StreamExt, stream};
use orangery::stream::CursorError;
use orangery::stream::log::LogOptions;
use orangery::stream::view::ServerSentEvents;
use orangery::{
    ContainerHandle, Cursor, Error, ErrorKind, Event, Gone, Sandbox, Sources, SubscribeOptions, Subscriber, Supervisor,
};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Sandboxes that run at one time, and ended ones whose output is kept.
const RUNNING: usize = 16;
const KEPT: usize = 64;
/// How much of each stream of a sandbox is kept.
const LOG: (u64, usize) = (1 << 20, 4);

struct Server {
    supervisor: Supervisor,
    logs: tempfile::TempDir,
    count: AtomicU64,
    /// In the order in which they were started.
    jobs: Mutex<Vec<ContainerHandle>>,
    heartbeat: Duration,
    /// True: this server goes.
    bye: watch::Receiver<bool>,
}

#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("there is no sandbox of this id")]
    Unknown,
    #[error("{0}")]
    Sandbox(#[from] Error),
    #[error("Last-Event-ID: {0}")]
    Cursor(#[from] CursorError),
    #[error("{0}")]
    Gone(#[from] Gone),
}

impl ResponseError for Refused {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::Unknown => StatusCode::NOT_FOUND,
            Self::Cursor(_) => StatusCode::BAD_REQUEST,
            Self::Gone(_) => StatusCode::GONE,
            Self::Sandbox(error) => match error.kind() {
                ErrorKind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
                ErrorKind::Exhausted | ErrorKind::ShutDown => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            },
        }
    }

    fn error_response(&self) -> HttpResponse {
        let oldest = match self {
            Self::Gone(gone) => Some(gone.oldest.to_string()),
            _ => None,
        };
        HttpResponse::build(self.status_code()).json(json!({"error": self.to_string(), "oldest": oldest}))
    }
}

impl Server {
    fn jobs(&self) -> std::sync::MutexGuard<'_, Vec<ContainerHandle>> {
        self.jobs.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn job(&self, id: &str) -> Result<ContainerHandle, Refused> {
        self.jobs().iter().find(|job| job.id() == id).cloned().ok_or(Refused::Unknown)
    }

    /// Ends it, if it runs, and forgets what it wrote.
    async fn forget(&self, job: ContainerHandle) -> Result<(), Refused> {
        self.jobs().retain(|kept| kept.id() != job.id());
        job.delete().await?;
        let log = self.logs.path().join(job.id());
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(log)).await {
            eprintln!("a log stays: {error}");
        }
        Ok(())
    }

    fn keep(&self, job: ContainerHandle) -> Option<ContainerHandle> {
        let mut jobs = self.jobs();
        jobs.push(job);
        let ended = |job: &&ContainerHandle| job.inspect().report.is_some();
        let oldest = jobs.iter().find(ended).cloned();
        oldest.filter(|_| jobs.iter().filter(ended).count() > KEPT)
    }
}

async fn start(server: Data<Server>, script: Bytes) -> Result<HttpResponse, Refused> {
    let id = format!("job-{}", server.count.fetch_add(1, Ordering::Relaxed) + 1);
    let sandbox = Sandbox::builder().id(&id).file("/in/main.sh", script).wall(Duration::from_secs(600)).build()?;
    let (segment_bytes, keep_segments) = LOG;
    let options = LogOptions { segment_bytes, keep_segments, ..LogOptions::default() };
    let command = server.supervisor.command("sh").arg("/in/main.sh").sandbox(&sandbox);
    let job = command.log(server.logs.path().join(&id), options).spawn().await?;
    if let Some(oldest) = server.keep(job) {
        server.forget(oldest).await?;
    }
    Ok(HttpResponse::Created().json(json!({"id": id})))
}

async fn end(server: Data<Server>, id: Path<String>) -> Result<HttpResponse, Refused> {
    server.forget(server.job(&id)?).await?;
    Ok(HttpResponse::NoContent().finish())
}

#[derive(serde::Deserialize)]
struct Which {
    stream: Option<Only>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Only {
    Stdout,
    Stderr,
}

/// A reader from the beginning, or from where this client was cut off.
fn reader(job: &ContainerHandle, which: &Which, request: &HttpRequest) -> Result<Subscriber, Refused> {
    let sources = match which.stream {
        None => Sources::Both,
        Some(Only::Stdout) => Sources::Stdout,
        Some(Only::Stderr) => Sources::Stderr,
    };
    let options = SubscribeOptions { sources, ..SubscribeOptions::default() };
    match request.headers().get("Last-Event-ID") {
        None => Ok(job.subscribe(options)),
        Some(cursor) => {
            let cursor: Cursor = cursor.to_str().map_err(|_| CursorError::NotACursor)?.parse()?;
            Ok(job.resume_from(cursor, options)?)
        }
    }
}

async fn events(
    server: Data<Server>,
    id: Path<String>,
    which: Query<Which>,
    request: HttpRequest,
) -> Result<HttpResponse, Refused> {
    let job = server.job(&id)?;
    let reader = reader(&job, &which, &request)?;
    let mut pulse = interval(server.heartbeat);
    pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let view = ServerSentEvents::new(reader.opening().start);
    let told = Told { job, view, reader, pulse, bye: server.bye.clone(), over: false };
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header(("Cache-Control", "no-store"))
        .streaming(told.into_stream()))
}

/// One client of `events`.
struct Told {
    job: ContainerHandle,
    reader: Subscriber,
    view: ServerSentEvents,
    pulse: Interval,
    bye: watch::Receiver<bool>,
    over: bool,
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
            () = gone(&mut self.bye) => {
                self.view.push_bye(body);
                self.over = true;
            }
            event = self.reader.recv() => match event {
                Some(event) => {
                    if let Event::End(_) = event {
                        exit(&self.job, &self.view, body).await;
                    }
                    self.view.push(&event, body);
                    self.pulse.reset();
                }
                None => self.over = true,
            },
            _ = self.pulse.tick() => ServerSentEvents::push_heartbeat(body),
        }
    }
}

async fn gone(bye: &mut watch::Receiver<bool>) {
    let _ = bye.wait_for(|bye| *bye).await;
}

/// How it ended, before the last event.
async fn exit(job: &ContainerHandle, view: &ServerSentEvents, body: &mut Vec<u8>) {
    if let Ok(report) = job.wait().await
        && let Ok(report) = serde_json::to_string(&*report)
    {
        view.push_other("exit", &report, body);
    }
}

/// The bytes alone. What they cannot say (a gap, a server that goes) cuts the connection, so that no client takes a part
/// for the whole.
async fn output(
    server: Data<Server>,
    id: Path<String>,
    which: Query<Which>,
    request: HttpRequest,
) -> Result<HttpResponse, Refused> {
    let bytes = reader(&server.job(&id)?, &which, &request)?.bytes();
    let body = stream::unfold((bytes, server.bye.clone()), |(mut bytes, mut bye)| async move {
        let item = tokio::select! {
            biased;
            () = gone(&mut bye) => Err(io::Error::other("the server goes")),
            item = bytes.next() => item?.map_err(io::Error::from),
        };
        Some((item, (bytes, bye)))
    });
    Ok(HttpResponse::Ok().content_type("application/octet-stream").streaming(body))
}

#[actix_web::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let address = args.next().unwrap_or_else(|| "127.0.0.1:3000".into());
    let heartbeat = args.next().map_or(Ok(15), |seconds| seconds.parse())?;
    let supervisor = Supervisor::builder().max_containers(RUNNING).build()?;
    let (going, bye) = watch::channel(false);
    let data = Data::new(Server {
        supervisor: supervisor.clone(),
        logs: tempfile::tempdir()?,
        count: AtomicU64::new(0),
        jobs: Mutex::default(),
        heartbeat: Duration::from_secs(u64::max(heartbeat, 1)),
        bye,
    });
    let for_app = data.clone();
    let server = HttpServer::new(move || {
        App::new()
            .app_data(for_app.clone())
            .service(resource("/sandboxes").post(start))
            .service(resource("/sandboxes/{id}").delete(end))
            .service(resource("/sandboxes/{id}/events").get(events))
            .service(resource("/sandboxes/{id}/output").get(output))
    });
    // Our own end of the signals: the streams say good-bye first. And a client that has gone is not taken for one that has
    // only said its last word.
    let server = server.disable_signals().h1_allow_half_closed(false).workers(1).bind(address)?;
    for address in server.addrs() {
        println!("listening on {address}");
    }
    let (mut int, mut term) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let server = server.run();
    let handle = server.handle();
    tokio::spawn(async move {
        tokio::select! {
            _ = int.recv() => {}
            _ = term.recv() => {}
        }
        going.send_replace(true);
        handle.stop(true).await;
    });
    server.await?;
    data.jobs().clear();
    supervisor.shutdown().await;
    Ok(())
}
