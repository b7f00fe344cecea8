//! What outlives this process, of a supervisor whose state lies in a directory.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use orangery_io_stream::log::LogOptions;
use orangery_runtime::durable::Adopted;
use tokio::sync::oneshot;

use super::{Supervisor, SupervisorBuilder};
use crate::command::Template;
use crate::container::state::State;
use crate::error::{Error, ErrorKind};
use crate::faults::Step;
use crate::group::Group;
use crate::manager::msg::Find;
use crate::manager::restore::Restored;
use crate::recovery::adopt::{self, Gone, Ground};
use crate::recovery::logs::Opening;
use crate::recovery::{self, Lap, RecoveryReport, StateDir, ended};

/// What a builder was told of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Durable {
    dir: Option<PathBuf>,
    log: LogOptions,
    sync: bool,
}

impl SupervisorBuilder {
    /// Containers outlive this process: see [`Supervisor::durable`].
    pub fn durable(mut self, dir: impl Into<PathBuf>) -> Self {
        self.durable.dir = Some(dir.into());
        self
    }

    /// The log of each process that outlives us and has not said what it wants ([`Command::log`](crate::Command::log)).
    /// Default: [`LogOptions::default`]. For a durable supervisor alone.
    pub fn durable_log(mut self, options: LogOptions) -> Self {
        self.durable.log = options;
        self
    }

    /// This process becomes a subreaper (`PR_SET_CHILD_SUBREAPER`): when the keeper dies, and another one takes its place, what it
    /// was the parent of falls to us, so that it is told how that ends, also before Linux 6.15. Default: no, as it is a property of
    /// the whole process, and for good: orphans of your other children fall to it as well, for you to wait for. For a durable
    /// supervisor alone.
    pub fn subreaper(mut self, subreaper: bool) -> Self {
        self.options.subreaper = subreaper;
        self
    }

    /// Records are forced to the disk, so that a crash of the whole machine leaves reports and services as they were last
    /// written. Default: no; a crash of this process alone loses nothing either way. For a durable supervisor alone.
    pub fn sync_records(mut self, sync: bool) -> Self {
        self.durable.sync = sync;
        self
    }

    /// The directory, if there is one. Before anything else is begun.
    pub(super) fn open_state(&self) -> Result<Option<Arc<StateDir>>, Error> {
        let Durable { dir, log, sync } = &self.durable;
        let Some(dir) = dir else { return Ok(None) };
        let state = StateDir::open(dir, *log, *sync)?.with_faults(self.faults.clone());
        state.pass(Step::Locked);
        Ok(Some(Arc::new(state)))
    }
}

/// Have again what was left there. Needs the runtime's driver running, where there is anything to adopt.
pub(super) async fn recover(ground: Ground<'_>, adopted: Option<Adopted>) -> Result<(RecoveryReport, Restored), Error> {
    let (mut lap, state, voice) = (Lap::begin(), ground.state, ground.voice);
    state.pass(Step::Connected);
    let recovery::Found { living, ended, services, groups, set_aside } = recovery::look(state);
    state.pass(Step::Read);
    let mut report = RecoveryReport { set_aside, ..RecoveryReport::default() };
    let mut restored = Restored { services, groups, ..Restored::default() };
    report.services = restored.services.iter().map(|service| service.template.id().to_owned()).collect();
    report.groups = restored.groups.iter().map(|group| group.path.clone()).collect();
    for (record, ended) in ended {
        report.ended.push(record.template.id().to_owned());
        restored.ended.push(ended::slot(state, &record, ended, voice));
    }
    report.took.records_us = lap.us();
    let mut gone = Vec::new();
    if let Some(mut adopted) = adopted {
        let opening = Opening::begin(&living);
        for record in living {
            let claimed = adopt::claim(&ground, &mut adopted, record).await;
            state.pass(Step::Claimed);
            match claimed {
                Ok(again) => {
                    report.adopted.push(again.slot.id.clone());
                    restored.living.push(again);
                }
                Err(one) => gone.push(one),
            }
        }
        // Of those that are gone they are closed: their ends are to be written.
        let mut logs = opening.all().await;
        for again in &mut restored.living {
            again.log = logs.remove(&again.slot.id);
        }
        drop(logs);
        report.took.claims_us = lap.us();
        // What nobody has written down, before anything new is made.
        report.killed = adopted.finish().await.processes;
        state.pass(Step::Cleared);
    } else {
        gone.extend(living.into_iter().map(|record| Gone { record, main: None }));
    }
    for one in gone.into_iter().filter(|gone| !gone.undo(state)) {
        let (slot, known) = ended::account(state, one, voice).await?;
        state.pass(Step::Accounted);
        if known { &mut report.ended } else { &mut report.lost }.push(slot.id.clone());
        restored.ended.push(slot);
    }
    report.took.leftovers_us = lap.us();
    Ok((report, restored))
}

impl Supervisor {
    /// Start one whose containers outlive it: with its end, however that comes, they go on, and the next one in the same
    /// directory has them again, with their output at the same offsets, their exits and their limits.
    ///
    /// - What [`spawn`](crate::Command::spawn) has started and what a service keeps running does not end with its last
    ///   handle. It is found by its id ([`Supervisor::container`]), also when it has ended: its report and its log stay, and
    ///   its id is taken, until [`Supervisor::forget`] or [`ContainerHandle::delete`](crate::ContainerHandle::delete).
    /// - A service goes on with its incarnation, its delay, its counters and its window, a group with its members, their
    ///   order and its own: what was begun of a start, a stop or a restart is finished.
    /// - Its output goes into a log: the directory's own unless it has one ([`Command::log`](crate::Command::log)). So a
    ///   cursor stays valid, and nobody has to read.
    /// - What [`run`](crate::Command::run) runs to its end, pools, probes and hooks go with the supervisor, as without it.
    /// - What cannot be written down is refused, by its field: descriptors, providers, files that are kept.
    /// - Dropping the last clone and [`Supervisor::leave`] leave everything; [`Supervisor::shutdown`] ends everything.
    ///
    /// The directory is made, with mode 0700, and belongs to one supervisor at a time. It holds what commands are given:
    /// arguments, environments, files.
    ///
    /// ```no_run
    /// # async fn f() -> Result<(), orangery::Error> {
    /// let supervisor = orangery::Supervisor::durable("/var/lib/judge")?;
    /// let job = match supervisor.container("job-7").await? {
    ///     Some(job) => job, // of the one before us
    ///     None => supervisor.command("make").id("job-7").spawn().await?,
    /// };
    /// println!("{:?}", job.wait().await?.exit);
    /// job.delete().await?;
    /// supervisor.leave().await;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As for [`Supervisor::new`], and those of the directory, whose field is `durable`: [`ErrorKind::State`] while another
    /// supervisor has it, [`ErrorKind::Permission`] where others can enter it, [`ErrorKind::Invalid`] where something else is
    /// in it, [`ErrorKind::Unsupported`] for that of another version. Records that cannot be read are no error: see
    /// [`Supervisor::recovery`].
    pub fn durable(dir: impl AsRef<Path>) -> Result<Self, Error> {
        Self::builder().durable(dir.as_ref()).build()
    }

    /// Whether this program could go on with what lies in the directory of a durable supervisor, which may be in use: nothing is
    /// touched. `false`: nothing is there yet.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for that of another version, [`ErrorKind::Invalid`] where it says none; what the system said.
    /// The field is `durable`.
    pub fn understands(dir: impl AsRef<Path>) -> Result<bool, Error> {
        recovery::understood(dir.as_ref())
    }

    /// What was found at the start; `None` of a supervisor that is not durable.
    #[must_use]
    pub fn recovery(&self) -> Option<&RecoveryReport> {
        self.inner.recovery.as_ref()
    }

    /// End this supervisor and leave everything as it is: what runs goes on, and the next one has it again. Idempotent. Of
    /// one that is not durable: [`Supervisor::shutdown`].
    ///
    /// # Cancel safety
    /// It goes on when the future is dropped.
    pub fn leave(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        self.end()
    }

    /// Give up the report, the log and the id of a container that has ended, and the service of that name, if it has settled;
    /// or a group that has settled, with all its members. `false`: there is none, or it is not durable.
    ///
    /// # Errors
    /// [`ErrorKind::State`] of one that has not ended, or not settled, and of a member of a group; what the system said.
    ///
    /// # Cancel safety
    /// Dropped on the way, what was given up by then is gone; what was not is there, each member of a group for itself.
    pub fn forget(&self, id: &str) -> impl Future<Output = Result<bool, Error>> + Send + 'static + use<> {
        let (supervisor, id) = (self.clone(), id.to_owned());
        async move {
            if let Some(group) = supervisor.group_of(&id) {
                return Err(Error::new(ErrorKind::State, format!("it is a member of the group {group:?}")));
            }
            if let Some(group) = supervisor.group(&id) {
                return supervisor.forget_group(group).await;
            }
            let service = supervisor.service(&id).await?;
            if service.as_ref().is_some_and(|service| !service.state().is_settled()) {
                return Err(Error::new(ErrorKind::State, "the service has not settled"));
            }
            if let Some(service) = &service {
                let mut ended = supervisor.inner.ended.clone();
                tokio::select! {
                    () = service.close() => {}
                    _ = ended.wait_for(|ended| *ended) => return Err(Error::shut_down()),
                }
            }
            Ok(supervisor.forget_container(id).await? || service.is_some())
        }
    }

    async fn forget_container(&self, id: String) -> Result<bool, Error> {
        let (reply, answer) = oneshot::channel();
        self.inner.manager.do_send(Find { id, reply });
        match answer.await.map_err(|_| self.lost())? {
            Some(slot) if slot.is_retained() => slot.forget().await,
            Some(slot) if slot.lasting.is_some() && slot.state() != State::Gone => {
                Err(Error::new(ErrorKind::State, "the container has not ended"))
            }
            _ => Ok(false),
        }
    }

    async fn forget_group(&self, group: Group) -> Result<bool, Error> {
        if self.state_dir().is_none() {
            return Ok(false);
        }
        if !group.state().is_settled() {
            return Err(Error::new(ErrorKind::State, "the group has not settled"));
        }
        let mut ended = self.inner.ended.clone();
        let members = tokio::select! {
            members = group.close() => members,
            // Who goes takes nothing away any more.
            _ = ended.wait_for(|ended| *ended) => return Err(Error::shut_down()),
        };
        for id in members {
            self.forget_container(id).await?;
        }
        Ok(true)
    }

    pub(crate) fn state_dir(&self) -> Option<&Arc<StateDir>> {
        self.inner.state.as_ref()
    }

    /// As what outlives us, where this supervisor does.
    ///
    /// # Errors
    /// It cannot.
    pub(crate) fn lasting(&self, template: Template) -> Result<Template, Error> {
        match self.state_dir() {
            Some(state) => template.kept_in(state, || self.name()),
            None => Ok(template),
        }
    }

    /// The same as dropping the last clone, and waited for.
    fn end(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        self.inner.end();
        let mut ended = self.inner.ended.clone();
        async move {
            let _ = ended.wait_for(|ended| *ended).await;
        }
    }

    /// Everything is to end with it.
    pub(super) fn end_all(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        self.inner.ends_all.store(true, Ordering::Release);
        self.end()
    }
}
