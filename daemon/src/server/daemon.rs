//! What all requests share, and how a container comes to be.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use orangery::Supervisor;
use tokio::sync::watch;

use super::failed::{Failed, failed};
use super::leave::Present;
use super::make::{Made, Make};
use super::once::{Done, Keys};
use super::peer::{Quota, Token};
use super::registry::{Asked, Body, Card, Registry};
use super::store::{SCHEMA, Store};
use super::view;
use crate::wire::{Create, Problem, ProblemKind, Stdin};

/// The daemon, as its requests see it.
#[derive(Debug)]
pub(super) struct Daemon {
    pub(super) supervisor: Supervisor,
    pub(super) make: Maker,
    pub(super) store: Store,
    pub(super) registry: Registry,
    pub(super) keys: Keys,
    pub(super) streams: Quota,
    pub(super) token: Option<Token>,
    /// True: it goes.
    pub(super) bye: watch::Receiver<bool>,
    pub(super) heartbeat: Duration,
    pub(super) started_at_ms: u64,
    pub(super) state_dir: String,
    pub(super) durable: bool,
    pub(super) present: Present,
}

/// See [`Make`].
#[derive(Clone)]
pub(super) struct Maker(pub(super) Arc<dyn Make>);

impl std::fmt::Debug for Maker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Maker(..)")
    }
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// On a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failed> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| failed(ProblemKind::SupervisorFault, "the request was lost: its thread panicked"))
}

/// Returns when the daemon goes.
pub(super) async fn going(bye: &mut watch::Receiver<bool>) {
    let _ = bye.wait_for(|bye| *bye).await;
}

/// A container that is being made: what there is of it goes again unless it is kept.
struct Fresh {
    daemon: Arc<Daemon>,
    card: Arc<Card>,
    kept: bool,
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if !self.kept {
            let name = &self.card.name;
            if let Err(error) = self.daemon.store.remove(name) {
                tracing::error!(%error, name, "what was written down of a container that was not made stays");
            }
            // The name last: with it somebody else may write at once.
            self.daemon.registry.remove(&self.card);
            self.card.becomes(Body::Nothing, None);
        }
    }
}

impl Daemon {
    /// What an earlier daemon has written down, with what there still is of it.
    pub(super) async fn recall(&self, known: Vec<(String, Asked)>) {
        for (name, asked) in known {
            let group = asked.group.as_ref().map(|name| (name.clone(), self.supervisor.group(name)));
            let body = match self.supervisor.service(&name).await {
                Ok(Some(service)) => Body::Service(service),
                _ => match self.supervisor.container(&name).await {
                    Ok(Some(container)) => Body::Container(container),
                    _ => Body::Nothing,
                },
            };
            match group {
                Some((of, Some(group))) => self.registry.enroll(&of, group),
                // Its making was not answered, and the supervisor has undone it.
                Some((_, None)) if matches!(body, Body::Nothing) => {
                    let (store, of) = (self.store.clone(), name.clone());
                    let removed = blocking(move || store.remove(&of)).await;
                    if !matches!(removed, Ok(Ok(()))) {
                        tracing::error!(name, "what was written down of a service that was not made stays");
                    }
                    continue;
                }
                _ => {}
            }
            // They are names of files: none is there twice.
            let _ = self.registry.add(Card::new(&name, asked, body));
        }
    }

    /// Make what was asked for, and start it if that was asked for.
    pub(super) async fn create(self: Arc<Self>, mut create: Create, key: Option<String>) -> Result<Done, Failed> {
        let name = create.name.take();
        if let Some(card) = key.as_deref().and_then(|key| self.registry.by_key(key)) {
            return self.again(card, name, &create).await;
        }
        let name = match name {
            Some(name) => checked(name)?,
            None => random_name(),
        };
        let asked = Asked { schema: SCHEMA, create, created_at_ms: now_ms(), group: None, key };
        let card = self.registry.add(Card::new(&name, asked, Body::Busy))?;
        let mut fresh = Fresh { daemon: Arc::clone(&self), card, kept: false };
        let card = Arc::clone(&fresh.card);
        let made = self.made(&card).await?;
        let (store, record) = (self.store.clone(), Arc::clone(&card));
        blocking(move || store.write(&record.name, &record.asked)).await?.map_err(|error| unwritten(&error))?;
        // From here on it may run, whatever becomes of us: then it is the next daemon's.
        fresh.kept = card.asked.create.start;
        let body = match card.asked.create.start {
            true => {
                started(made, FIRST).await.inspect_err(|error| fresh.kept = error.0.kind == ProblemKind::ShutDown)?
            }
            false => Body::Nothing,
        };
        card.becomes(body, card.asked.create.start.then(now_ms));
        fresh.kept = true;
        Ok(done(&card))
    }

    /// What an earlier daemon was asked for with this key: it may have been killed before it could start it, or answer.
    async fn again(self: Arc<Self>, card: Arc<Card>, name: Option<String>, create: &Create) -> Result<Done, Failed> {
        if card.asked.create != *create || name.is_some_and(|name| name != card.name) {
            return Err(failed(ProblemKind::Idempotency, "this key was used with another body"));
        }
        if create.start && matches!(card.body(), Body::Nothing) {
            self.start(Arc::clone(&card)).await?;
        }
        Ok(done(&card))
    }

    /// The command of a container; nothing is started.
    async fn made(&self, card: &Arc<Card>) -> Result<Made, Failed> {
        let (make, supervisor, card) = (self.make.clone(), self.supervisor.clone(), Arc::clone(card));
        let log = self.store.log(&card.name);
        let made = blocking(move || make.0.command(&supervisor, &card.name, &card.asked.create, &log)).await?;
        made.map_err(Failed)
    }

    /// Start what is there and does not run.
    pub(super) async fn start(self: Arc<Self>, card: Arc<Card>) -> Result<(), Failed> {
        let hold = card.hold()?;
        let running = || failed(ProblemKind::State, "it runs");
        let body = match hold.before().clone() {
            Body::Service(service) if service.state().is_settled() => {
                service.start().await?;
                Body::Service(service)
            }
            Body::Container(container) if container.inspect().report.is_some() => {
                let made = self.made(&card).await?;
                let generation = container.inspect().generation.saturating_add(1);
                container.delete().await?;
                started(made, generation).await?
            }
            Body::Nothing => started(self.made(&card).await?, FIRST).await?,
            _ => return Err(running()),
        };
        {
            let mut state = card.state();
            state.started_at_ms = Some(now_ms());
            state.further.clear();
        }
        hold.becomes(body);
        Ok(())
    }

    /// End it if it lives and `force` says so, and forget it with its log.
    pub(super) async fn delete(self: Arc<Self>, card: Arc<Card>, force: bool) -> Result<(), Failed> {
        // Members of one that could not be read are services of their own (docs/decisions/0036).
        if let Some(group) = card.asked.group.as_ref().filter(|group| self.registry.group(group).is_some()) {
            return Err(failed(ProblemKind::State, format!("it is a member of the group {group:?}: delete that")));
        }
        let hold = card.hold()?;
        let rests = match hold.before() {
            Body::Service(service) => service.state().is_settled(),
            Body::Container(container) => container.inspect().report.is_some(),
            Body::Nothing | Body::Busy => true,
        };
        if !force && !rests {
            return Err(Problem::new(ProblemKind::State, "it lives").hint("stop it, or force=true").into());
        }
        match hold.before().clone() {
            Body::Service(service) => {
                service.kill();
                service.wait().await?;
                // With what is written down of it, or the next daemon would have it again.
                self.supervisor.forget(&card.name).await?;
            }
            Body::Container(container) => container.delete().await?,
            Body::Nothing | Body::Busy => {}
        }
        hold.becomes(Body::Nothing);
        let (store, name) = (self.store.clone(), card.name.clone());
        let removed = blocking(move || store.remove(&name)).await?;
        removed.map_err(|error| system("cannot remove its record and its log", &error))?;
        self.registry.remove(&card);
        Ok(())
    }
}

fn done(card: &Card) -> Done {
    let body = serde_json::to_string(&view::container(card)).unwrap_or_default();
    Done { location: format!("/v1/containers/{}", card.name), body }
}

/// The generation of what was never started before.
const FIRST: u32 = 1;

async fn started(made: Made, generation: u32) -> Result<Body, Failed> {
    Ok(match made.kept {
        true => Body::Service(made.command.supervise().await?),
        false => Body::Container(made.command.spawn_again(generation).await?),
    })
}

/// What a standard input is to the library.
#[must_use]
pub fn stdin(stdin: Stdin) -> orangery::Stdin {
    match stdin {
        Stdin::Null => orangery::Stdin::Null,
        Stdin::Open => orangery::Stdin::Piped,
        Stdin::Keep => orangery::Stdin::Kept,
    }
}

/// A name that can be that of a file too.
pub(super) fn checked(name: String) -> Result<String, Failed> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if begins && name.len() <= 128 && name.chars().all(good) {
        return Ok(name);
    }
    let why = format!("{name:?} is no name: 1 to 128 of A-Z a-z 0-9 . _ -, the first a letter or digit");
    Err(Problem::new(ProblemKind::Invalid, why).field("name").into())
}

fn random_name() -> String {
    use std::hash::{BuildHasher as _, RandomState};
    format!("c{:012x}", RandomState::new().hash_one(now_ms()) >> 16)
}

/// A system operation has failed.
pub(super) fn system(what: &str, error: &std::io::Error) -> Failed {
    let room = super::failed::is_no_room(error.raw_os_error());
    let kind = if room { ProblemKind::NoRoom } else { ProblemKind::System };
    let problem = Problem::new(kind, format!("{what}: {error}"));
    match error.raw_os_error() {
        Some(errno) => problem.errno(errno).into(),
        None => problem.into(),
    }
}

fn unwritten(error: &std::io::Error) -> Failed {
    system("cannot write the container down", error)
}
