//! A command apart from who runs it: what each incarnation of a service is made from.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::sync::Arc;
use std::time::Duration;

use orangery_runtime::ProcessSpec;
use serde::{Deserialize, Serialize};

use super::{Command, Parts};
use crate::admission::{Beside, Cost};
use crate::blocking;
use crate::error::Error;
use crate::handle::ContainerHandle;
use crate::ladder::StopLadder;
use crate::manager::msg::Birth;
use crate::probe::OnUnhealthy;
use crate::process::recording::LogTo;
use crate::recovery::Kept;
use crate::restart::{Policy, Restart};
use crate::sandbox::Sandbox;
use crate::service::Service;
use crate::supervisor::Supervisor;

/// See the file's head.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Template {
    pub(super) sandbox: Sandbox,
    pub(super) parts: Parts,
}

impl Template {
    /// Of a container without a command: its stub init is its main process.
    pub(crate) fn idle(sandbox: &Sandbox) -> Self {
        let mut parts = Parts::new(OsStr::new(""));
        parts.process = ProcessSpec::default();
        Self { sandbox: sandbox.idling(), parts }
    }

    pub(crate) fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    pub(crate) fn parts(&self) -> &Parts {
        &self.parts
    }

    /// The same of another id.
    pub(crate) fn with_id(mut self, id: String) -> Self {
        self.sandbox = self.sandbox.with_id(id);
        self
    }

    pub(crate) fn id(&self) -> &str {
        self.sandbox.id()
    }

    /// How it is stopped by who does not say how.
    pub(crate) fn ladder(&self) -> StopLadder {
        self.parts.ways.at_stop.clone()
    }

    pub(crate) fn labels(&self) -> &BTreeMap<String, String> {
        &self.sandbox.inner.labels
    }

    /// What an incarnation of it takes, and how long the first one may wait for it.
    pub(crate) fn cost(&self) -> (Cost, Option<Duration>) {
        let (care, hooks) = (&self.parts.care, &self.parts.ways.hooks);
        let (spoken_to, probes) = (care.descriptors(), care.commands() + hooks.commands());
        let beside = Beside { captured: false, logged: self.parts.log.is_some(), spoken_to, probes };
        (Cost::of_container(&self.sandbox.inner, &self.parts.clone().finish().0, beside), self.parts.patience)
    }

    pub(crate) fn on_unhealthy(&self) -> OnUnhealthy {
        self.parts.care.on_unhealthy()
    }

    /// Its output goes there.
    pub(crate) fn log_to(&mut self, log: LogTo) {
        self.parts.log = Some(log);
    }

    /// With a name, where it has none.
    pub(crate) fn named(mut self, name: impl FnOnce() -> String) -> Self {
        if self.id().is_empty() {
            self.sandbox = self.sandbox.with_id(name());
        }
        self
    }

    /// A container of it. Dropping the future undoes everything.
    pub(crate) async fn start(
        self,
        supervisor: &Supervisor,
        capture: Option<Duration>,
        birth: Birth,
        patience: Option<Duration>,
    ) -> Result<ContainerHandle, Error> {
        let kept = supervisor.state_dir().filter(|_| birth.lasting);
        let kept = kept.map(|state| Arc::new(Kept::new(state, &self, birth.generation, birth.of_service)));
        let birth = Birth { kept, ..birth };
        let Self { sandbox, mut parts } = self;
        let (ways, log) = (std::mem::take(&mut parts.ways), parts.log.take());
        ways.check()?;
        let care = std::mem::take(&mut parts.care);
        let (mut process, mut stdin) = parts.finish();
        if let Some(kept) = &birth.kept {
            stdin = kept.input(&mut process, stdin).await?;
        }
        let handle = supervisor.create(&sandbox, process, ways, (capture, log, care), birth, patience).await?;
        handle.process().provide(stdin);
        Ok(handle)
    }
}

impl Command {
    /// How it is kept running by [`Command::supervise`], in place of what the sandbox says.
    pub fn restart(mut self, restart: Restart) -> Self {
        self.sandbox = self.sandbox.with_restart(restart);
        self
    }

    /// Start it and keep it running, as its [`Restart`] says. Each incarnation is a container of its own, with the same id
    /// and the next generation: nothing of the one before is left but what it wrote into mounts of the host. Comes back when
    /// the first one has started.
    ///
    /// ```no_run
    /// # async fn f(supervisor: orangery::Supervisor) -> Result<(), orangery::Error> {
    /// use orangery::Restart;
    /// let service = supervisor.command("server").id("web").restart(Restart::always()).supervise().await?;
    /// service.stop(15, std::time::Duration::from_secs(10)).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As for [`Command::spawn`], of the first start: nothing is left then. A restart that fails counts as a death.
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a restart that makes no sense, and for a sandbox that keeps files
    /// or has a lifetime without handles: its containers come and go.
    ///
    /// # Cancel safety
    /// Dropping the future at any await undoes everything.
    pub async fn supervise(self) -> Result<Service, Error> {
        let service = self.service(false).await?;
        service.start().await?;
        Ok(service.last())
    }

    /// [`Command::supervise`] for programs without a runtime.
    ///
    /// # Errors
    /// As for [`Command::supervise`].
    pub fn supervise_blocking(self) -> Result<Service, Error> {
        blocking::block_on(self.supervise())
    }

    /// Apart from who runs it.
    pub(crate) fn into_template(self) -> Template {
        Template { sandbox: self.sandbox, parts: self.parts }
    }

    pub(crate) fn restart_policy(&self) -> Policy {
        self.sandbox.inner.restart.policy
    }

    /// With an id, where it has none.
    pub(crate) fn named(mut self, id: impl FnOnce() -> String) -> Self {
        if self.sandbox.id().is_empty() {
            self.sandbox = self.sandbox.with_id(id());
        }
        self
    }

    /// As a service that has not been started yet.
    pub(crate) async fn service(self, held: bool) -> Result<Service, Error> {
        let Self { supervisor, sandbox, parts } = self;
        let restart = sandbox.inner.restart.clone();
        let mut errors = restart.check();
        errors.extend(parts.care.check());
        let mut refuse = |field: &str, why: &str| errors.push(orangery_runtime::Error::invalid(field, why));
        if sandbox.inner.keep_files {
            refuse("keep_files", "a service's next container takes the place of the one that has ended, and its files");
        }
        if sandbox.inner.unattended.is_some() {
            refuse("unattended", "a service attends to its containers: use a wall limit, or drop the service");
        }
        Error::all(errors)?;
        parts.ways.check()?;
        supervisor?.service_of(Template { sandbox, parts }, restart, held).await
    }
}
