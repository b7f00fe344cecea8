//! One incarnation of a service: a container, from its admission to its report. A plain task on the service's shard; what
//! it learns it writes down first and tells the actor after.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use actix::Addr;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::actor::ServiceActor;
use super::msg::News;
use crate::command::Template;
use crate::error::Error;
use crate::handle::ContainerHandle;
use crate::manager::msg::Birth;
use crate::probe::Vitals;
use crate::report::Report;
use crate::supervisor::WeakSupervisor;

/// What is known of it.
pub(crate) struct Incarnation {
    pub(crate) generation: u32,
    container: OnceLock<ContainerHandle>,
    end: Mutex<Option<End>>,
    /// Give it up while it is being made.
    abort: Arc<Notify>,
}

/// How it ended.
#[derive(Clone, Debug)]
pub(crate) enum End {
    Reported {
        report: Arc<Report>,
        ran: Duration,
    },
    /// It could not be started.
    NotStarted(Error),
    /// It ran, and our own failure has lost its report.
    Lost(Error),
}

impl Incarnation {
    pub(crate) fn new(generation: u32) -> Arc<Self> {
        Arc::new(Self { generation, container: OnceLock::new(), end: Mutex::new(None), abort: Arc::default() })
    }

    /// It was there before.
    pub(crate) fn adopt(&self, container: &ContainerHandle) {
        let _ = self.container.set(container.clone());
    }

    pub(crate) fn container(&self) -> Option<&ContainerHandle> {
        self.container.get()
    }

    pub(crate) fn end(&self) -> Option<End> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Give it up if it is still being made; then it ends as not started, with everything undone.
    pub(crate) fn abort(&self) {
        self.abort.notify_one();
    }

    /// Kill it, wherever it is.
    pub(crate) fn kill(&self) {
        match self.container() {
            Some(container) => {
                if let Err(error) = container.kill() {
                    tracing::error!(container = container.id(), %error, "cannot kill");
                }
            }
            None => self.abort(),
        }
    }
}

/// Who makes incarnations.
#[derive(Clone)]
pub(crate) struct Maker {
    pub(crate) template: Template,
    /// Its end is not held up by a service.
    pub(crate) supervisor: WeakSupervisor,
}

/// See it through. `queued`: it waits for its admission, in turn with others, where there is no room.
pub(crate) async fn live(maker: Maker, it: Arc<Incarnation>, queued: bool, actor: Addr<ServiceActor>) {
    let news = News { generation: it.generation };
    let end = match make(&maker, &it, queued).await {
        Err(error) => End::NotStarted(error),
        Ok(container) => see_through(&it, container, &actor).await,
    };
    *it.end.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
    actor.do_send(news);
}

/// The same of one that another supervisor has started.
pub(crate) async fn watch(it: Arc<Incarnation>, container: ContainerHandle, actor: Addr<ServiceActor>) {
    let end = match see_through(&it, container, &actor).await {
        // It ran before we came.
        End::Reported { report, ran } => {
            let ran = report.wall_us.known().map_or(ran, |wall| Duration::from_micros(*wall));
            End::Reported { report, ran }
        }
        end => end,
    };
    *it.end.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
    actor.do_send(News { generation: it.generation });
}

async fn see_through(it: &Incarnation, container: ContainerHandle, actor: &Addr<ServiceActor>) -> End {
    let news = || actor.do_send(News { generation: it.generation });
    let began = Instant::now();
    let (exit, report, vitals) = (container.wait_exit(), container.wait(), container.watch_vitals());
    let _ = it.container.set(container);
    news();
    tokio::select! {
        _ = exit => {}
        never = tell(vitals, news) => match never {},
    }
    let ran = began.elapsed();
    match report.await {
        Ok(report) => End::Reported { report, ran },
        Err(error) => End::Lost(error),
    }
}

/// Say so when something else is known of it; for ever.
async fn tell(mut vitals: watch::Receiver<Vitals>, news: impl Fn()) -> Infallible {
    while vitals.changed().await.is_ok() {
        news();
    }
    std::future::pending().await
}

async fn make(maker: &Maker, it: &Incarnation, queued: bool) -> Result<ContainerHandle, Error> {
    let supervisor = maker.supervisor.upgrade()?;
    let (cost, patience) = maker.template.cost();
    let admitted = async {
        if queued { supervisor.admitted_to_restart(cost).await } else { supervisor.admitted(cost, patience).await }
    };
    let permit = tokio::select! {
        permit = admitted => permit?,
        () = it.abort.notified() => return Err(Error::given_up()),
    };
    let (generation, abort) = (it.generation, Arc::clone(&it.abort));
    let birth = Birth { generation, of_service: true, abort, permit: Some(permit), lasting: true, kept: None };
    maker.template.clone().start(&supervisor, None, birth, None).await
}
