//! What a group is to be.

use std::pin::Pin;
use std::time::Duration;

use super::handle::Group;
use super::member::Member;
use super::order::{self, Said};
use super::run::{self, Order};
use super::state::{Members, Strategy};
use crate::command::Command;
use crate::error::Error;
use crate::ladder::StopLadder;
use crate::recovery::is_name;
use crate::restart::{Budget, Policy, Restart};
use crate::supervisor::Supervisor;

/// Describes a [`Group`]: see [`Group::builder`].
///
/// ```no_run
/// # async fn f(supervisor: orangery::Supervisor) -> Result<(), orangery::Error> {
/// use orangery::{Group, Restart, Strategy};
/// let group = Group::builder("shop")
///     .strategy(Strategy::RestForOne)
///     .service("db", supervisor.command("db").restart(Restart::always()))
///     .service("api", supervisor.command("api").restart(Restart::always()))
///     .service("mail", supervisor.command("mail").restart(Restart::on_failure())).after(["db"])
///     .start(&supervisor)
///     .await?;
/// group.stop(15, std::time::Duration::from_secs(10)).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a group does nothing until it is started"]
pub struct GroupBuilder {
    name: String,
    strategy: Strategy,
    restart: Restart,
    ladder: Option<StopLadder>,
    said: Vec<Said>,
    members: Vec<Wanted>,
}

#[derive(Clone, Debug)]
enum Wanted {
    Service(Box<Command>),
    Group(Box<GroupBuilder>),
}

impl GroupBuilder {
    pub(super) fn new(name: String) -> Self {
        let ladder = None;
        let (strategy, restart) = (Strategy::default(), Restart::never());
        Self { name, strategy, restart, ladder, said: Vec::new(), members: Vec::new() }
    }

    /// Who is restarted with a member that has died. Default: [`Strategy::OneForOne`].
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// What follows when a member has failed, and with it, all others stopped, the group. Default: [`Restart::never`], the
    /// group has failed too.
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// [`GroupBuilder::stop_ladder`] of one signal.
    pub fn stop_with(self, signal: i32, grace: Duration) -> Self {
        self.stop_ladder(StopLadder::from((signal, grace)))
    }

    /// How a member is stopped when another one's end or failure takes it along, and by
    /// [`Group::stop_gently`](crate::Group::stop_gently). Default: each in its own way
    /// ([`Command::stop_ladder`](crate::Command::stop_ladder)).
    pub fn stop_ladder(mut self, ladder: StopLadder) -> Self {
        self.ladder = Some(ladder);
        self
    }

    /// A member that is kept running as its own restart says. It comes after the member that was added before it. Without
    /// an id of its own its containers are called `group.member`.
    pub fn service(self, name: impl Into<String>, command: Command) -> Self {
        self.member(name, Wanted::Service(Box::new(command)))
    }

    /// A member that is a group; its name is its group's.
    pub fn group(self, group: GroupBuilder) -> Self {
        self.member(group.name.clone(), Wanted::Group(Box::new(group)))
    }

    fn member(mut self, name: impl Into<String>, member: Wanted) -> Self {
        self.said.push(Said { name: name.into(), after: None });
        self.members.push(member);
        self
    }

    /// The member that was added last comes after these, instead of after the one before it.
    pub fn after<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        if let Some(last) = self.said.last_mut() {
            last.after = Some(names.into_iter().map(Into::into).collect());
        }
        self
    }

    /// The member that was added last comes after nobody.
    pub fn independent(self) -> Self {
        self.after(std::iter::empty::<String>())
    }

    /// Start it: each member when those that it comes after are ready. Comes back when all are. With a supervisor that is
    /// [durable](Supervisor::durable) it outlives its handles and that supervisor, from here on.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for names that are taken or mean nobody, and for members that wait
    /// for each other in a circle, which is named; else why the first member could not be started. Nothing is left then.
    ///
    /// # Cancel safety
    /// Dropping the future at any await undoes everything.
    pub async fn start(self, supervisor: &Supervisor) -> Result<Group, Error> {
        let group = self.prepare(supervisor).await?;
        group.start().await?;
        Ok(group.last())
    }

    /// It and all groups in it, not started yet: [`Group::start`] does that. For who wants to hold it, and its members,
    /// while it starts: to stop it, or to hear of all that happens.
    ///
    /// ```no_run
    /// # async fn f(supervisor: orangery::Supervisor) -> Result<(), orangery::Error> {
    /// # let builder = orangery::Group::builder("shop").service("db", supervisor.command("db"));
    /// let group = builder.prepare(&supervisor).await?;
    /// let mut changes = group.service("db").map(|db| db.changes());
    /// group.start().await?;
    /// # drop(changes);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As for [`GroupBuilder::start`], as far as the description is to blame.
    ///
    /// # Cancel safety
    /// As for [`GroupBuilder::start`].
    pub async fn prepare(self, supervisor: &Supervisor) -> Result<Group, Error> {
        let path = self.name.clone();
        self.make(supervisor.clone(), path, false).await
    }

    fn make(
        self,
        supervisor: Supervisor,
        path: String,
        held: bool,
    ) -> Pin<Box<dyn Future<Output = Result<Group, Error>> + Send>> {
        Box::pin(async move {
            let Self { name, strategy, restart, ladder, said, members } = self;
            let mut errors = restart.check();
            errors.extend(ladder.iter().flat_map(|ladder| ladder.check("stop_ladder")));
            let after = order::resolve(&said).map_err(|refused| errors.extend(refused));
            if said.is_empty() {
                errors.push(orangery_runtime::Error::invalid("members", format!("the group {name:?} has no members")));
            }
            if supervisor.state_dir().is_some() && !is_name(&path) {
                let why =
                    "letters, digits, '.', '_' and '-', a letter or digit first, at most 128 with those of its groups";
                errors.push(orangery_runtime::Error::invalid("name", format!("{path:?}: {why}")));
            }
            Error::all(errors)?;
            let (mut made, mut temporary) = (Vec::new(), Vec::new());
            for (said, wanted) in said.iter().zip(members) {
                let path = format!("{path}.{}", said.name);
                let member = match wanted {
                    Wanted::Service(command) => {
                        temporary.push(command.restart_policy() == Policy::Never);
                        Member::Service(command.named(|| path).service(true).await?)
                    }
                    Wanted::Group(group) => {
                        temporary.push(false);
                        Member::Group(group.make(supervisor.clone(), path, true).await?)
                    }
                };
                made.push((said.name.clone(), member));
            }
            let members = Members::new(strategy, after.unwrap_or_default(), temporary);
            let budget = Budget::new(restart, supervisor.seed());
            run::begin(&supervisor, Order { path, name, members, made, budget, ladder, held, again: None }).await
        })
    }
}
