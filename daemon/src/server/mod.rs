//! HTTP/1.1 on a unix socket, and on TCP where that is asked for with a token.
//!
//! ```text
//!   listen ── sockets      peer ── who connects, how many      leave ── how it stops      count ── of whom that waits for
//!       ask ── queries and bodies, with bounds      failed ── errors as answers
//!   routes ── the table of all routes      openapi ── the document that is made of it
//!   daemon ── what requests share          registry, store ── what is known of each container, and written down
//!   containers, processes, control, groups ── what can be done      make ── how a spec becomes a command (not ours)
//!   place ── where a client begins to read    reader ── the output as one client reads it
//!   streams, attach, feed ── that as bytes, events, frames; and what happens    line ── what each of these has besides
//!   frames ── how long those of a client may be
//!   once ── idempotency keys    systemd ── what it wants to hear    second_place ── and what it keeps    itself ── health, metrics
//! ```

mod ask;
mod attach;
mod containers;
mod control;
mod count;
mod daemon;
mod failed;
mod feed;
mod frames;
mod groups;
mod itself;
mod leave;
mod line;
mod listen;
mod make;
mod once;
mod openapi;
mod peer;
mod place;
mod processes;
mod reader;
mod registry;
mod routes;
mod second_place;
mod store;
mod streams;
mod systemd;
mod target;
mod view;

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::{Next, from_fn};
use actix_web::web::{Data, to};
use actix_web::{App, HttpServer};
use futures_util::FutureExt as _;
use orangery::Supervisor;
use tokio::sync::watch;

use daemon::{Daemon, Maker};
use leave::Present;
use peer::{Most, Quota};

pub use control::ladder;
pub use daemon::stdin;
pub use failed::problem;
pub use listen::{ListenError, Listeners};
pub use make::{Made, MadeGroup, Make};
pub use openapi::document;
pub use peer::Token;
pub use second_place::pidfds;
pub use systemd::Notify;

/// Most connections, where there are descriptors for them.
const CONNECTIONS: usize = 1024;
/// The head of a request is there after this long.
const HEAD: Duration = Duration::from_secs(10);
/// A connection on which nothing is asked is closed after this long.
const IDLE: Duration = Duration::from_secs(75);
/// What is being answered when the daemon goes has this long.
const LAST_WORDS: u64 = 10;
/// Threads that answer.
const WORKERS: usize = 2;

/// How it is to serve.
#[derive(Debug)]
pub struct Options {
    /// Where its state is.
    pub state_dir: PathBuf,
    /// Where clients come in.
    pub listeners: Listeners,
    /// What clients on TCP have to know; without it they are refused.
    pub token: Option<Token>,
    /// How often an idle stream says that it lives.
    pub heartbeat: Duration,
    /// Containers live on when it ends.
    pub durable: bool,
    /// Who hears how it is.
    pub notify: Arc<Notify>,
    /// What that one has kept of processes for us ([`pidfds`]): those names.
    pub kept: Vec<String>,
}

/// Why it is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It ends.
    End,
    /// Another one goes on in its place, at the same sockets.
    HandOver,
}

/// Serve until `stop` is done; then open streams are told where they stand, what is being answered has a few seconds, and it
/// comes back. What becomes of the containers is the supervisor's. `Some`: what the next daemon is to listen at; whoever connects
/// from then on waits for that one. `stop` is polled first when everybody is answered.
///
/// # Errors
/// The state directory cannot be used, or no thread can be started.
pub async fn serve(
    supervisor: Supervisor,
    make: Arc<dyn Make>,
    options: Options,
    stop: impl Future<Output = Stop>,
) -> io::Result<Option<Listeners>> {
    let Options { state_dir, mut listeners, token, heartbeat, durable, notify, kept } = options;
    let state_dir_of_disk = state_dir.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let store = store::Store::open(&state_dir_of_disk)?;
        store.all().map(|all| (store, all))
    });
    let (store, known) = opened.await.map_err(io::Error::other)??;
    let (going, bye) = watch::channel(false);
    let daemon = Data::new(Daemon {
        supervisor,
        make: Maker(make),
        store,
        registry: registry::Registry::default(),
        keys: once::Keys::default(),
        streams: Quota::new(share(connections() / 2)),
        token,
        bye,
        heartbeat,
        started_at_ms: daemon::now_ms(),
        state_dir: state_dir.display().to_string(),
        durable,
        present: Present::nobody(),
    });
    daemon.recall(known).await;
    let server = server(&daemon, listeners.again()?)?;
    let handle = server.handle();
    let mut running = std::pin::pin!(server);
    // Its threads are there behind the first look, or cannot be.
    if let Some(ended) = running.as_mut().now_or_never() {
        return ended.map(|()| None);
    }
    notify.say("READY=1");
    // Whoever had it before goes now.
    listeners.own_file(true);
    let why = tokio::select! {
        // It could not go on.
        ended = &mut running => return ended.map(|()| None),
        why = stop => why,
        () = watched(&notify, &daemon) => Stop::End,
        () = second_place::keep(&notify, kept, &daemon.supervisor, &listeners) => Stop::End,
    };
    let stopped = leave::stop(why, &handle, &daemon.present, &going, &notify, &mut listeners);
    tokio::select! {
        biased;
        ended = &mut running => ended?,
        () = stopped => {}
    }
    Ok((why == Stop::HandOver).then_some(listeners))
}

/// Says that we live, for as long as we do.
async fn watched(notify: &Notify, daemon: &Daemon) {
    let Some(every) = notify.watchdog else { return std::future::pending().await };
    let mut ticks = tokio::time::interval(every / 3);
    loop {
        ticks.tick().await;
        // Asked of the supervisor: where that does not answer, systemd is not told either.
        if daemon.supervisor.list().await.is_ok() {
            notify.say("WATCHDOG=1");
        }
    }
}

/// How many connections there may be: a part of the descriptors, most of which are for containers.
fn connections() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let eighth = limit.map_or(CONNECTIONS, |limit| usize::try_from(limit / 8).unwrap_or(CONNECTIONS));
    eighth.clamp(32, CONNECTIONS)
}

/// How many descriptors clients may take, all together: their connections, and half as many streams with their files. Whoever
/// starts the supervisor [leaves](orangery::SupervisorBuilder::leave_descriptors) them, so that containers keep no client out.
#[must_use]
pub fn descriptors_of_clients() -> u64 {
    2 * connections() as u64
}

/// One process or address never has all of them.
fn share(all: usize) -> Most {
    Most { each: all / 4, all }
}

fn server(daemon: &Data<Daemon>, at: Listeners) -> io::Result<actix_web::dev::Server> {
    let most = connections();
    let connections = Arc::new(Quota::new(share(most)));
    let present = daemon.present.clone();
    let for_app = daemon.clone();
    let mut server = HttpServer::new(move || {
        App::new()
            .app_data(for_app.clone())
            .wrap(from_fn(admitted))
            .configure(routes::configure)
            .default_service(to(itself::nowhere))
    })
    .on_connect(move |connection, data| {
        if let Some(connection) = peer::connected(&connections, &present, connection) {
            data.insert(connection);
        }
    })
    // A client that has gone is not taken for one that has only said its last word. The end is ours to say.
    .h1_allow_half_closed(false)
    .disable_signals()
    .workers(WORKERS)
    // Of each of them as many as are let in altogether: those above are closed at once, and nobody waits behind them.
    .max_connections(most)
    .client_request_timeout(HEAD)
    .client_disconnect_timeout(HEAD)
    .keep_alive(IDLE)
    .shutdown_timeout(LAST_WORDS);
    for listener in at.unix {
        listener.set_nonblocking(true)?;
        server = server.listen_uds(listener)?;
    }
    for listener in at.tcp {
        listener.set_nonblocking(true)?;
        server = server.listen(listener)?;
    }
    Ok(server.run())
}

/// Nobody is answered who may not ask.
async fn admitted(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    peer::spoke(request.request());
    let daemon = request.app_data::<Data<Daemon>>();
    let (token, _one) =
        (daemon.and_then(|daemon| daemon.token.clone()), daemon.map(|daemon| daemon.present.requests.one()));
    peer::admit(request.request(), token.as_ref())?;
    next.call(request).await
}
