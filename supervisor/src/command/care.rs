//! What is asked about a command while it runs.

use super::Command;
use crate::probe::{Health, Readiness, Watchdog};

impl Command {
    /// When it is ready: [`ContainerHandle::ready`](crate::ContainerHandle::ready) waits for that, and so do
    /// [`Command::supervise`] and a [`Group`](crate::Group) that starts in order. Not ready in time, it is ended
    /// with the cause [`NotReady`](crate::Cause::NotReady). Default: it is ready when it has started.
    ///
    /// ```no_run
    /// # async fn f(supervisor: orangery::Supervisor) -> Result<(), orangery::Error> {
    /// use orangery::Probe;
    /// let db = supervisor.command("postgres").ready_when(Probe::line("ready to accept connections")).spawn().await?;
    /// db.ready().await?;
    /// # Ok(()) }
    /// ```
    pub fn ready_when(mut self, readiness: impl Into<Readiness>) -> Self {
        self.parts.care.readiness = Some(readiness.into());
        self
    }

    /// How it is seen, from when it is ready on, that it still does what it is for, and what follows when it does not: see
    /// [`Health`].
    ///
    /// ```no_run
    /// # async fn f(supervisor: orangery::Supervisor) -> Result<(), orangery::Error> {
    /// use orangery::{Health, Probe};
    /// let web = supervisor.command("web").healthy_while(Health::new(Probe::tcp(80)).failures(5)).supervise().await?;
    /// # drop(web);
    /// # Ok(()) }
    /// ```
    pub fn healthy_while(mut self, health: impl Into<Health>) -> Self {
        self.parts.care.health = Some(health.into());
        self
    }

    /// How often it will say that it is alive, from when it is ready on: see [`Watchdog`].
    ///
    /// ```no_run
    /// # async fn f(supervisor: orangery::Supervisor) -> Result<(), orangery::Error> {
    /// let worker = supervisor.command("worker").watchdog(std::time::Duration::from_secs(30)).supervise().await?;
    /// # drop(worker);
    /// # Ok(()) }
    /// ```
    pub fn watchdog(mut self, watchdog: impl Into<Watchdog>) -> Self {
        self.parts.care.watchdog = Some(watchdog.into());
        self
    }
}
