//! What was read becomes a group of the library; what this machine refuses of it is told at its place.

use orangery::runtime::spec::StagedFile;
use orangery::{Command, Error, Group, GroupBuilder, Supervisor};

use super::file::{File, Member, MemberKind, Refusal, Service};
use crate::args::{OwnArgs, Words};
use crate::errors::Failure;
use crate::logged;
use crate::spec::Wanted;

/// A service, as it is shown and as it is found.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    /// Such as `workers.a`: its name, with the groups that it is in.
    pub(crate) label: String,
    /// The id of each of its containers: the label after the name of the file.
    pub(crate) id: String,
    /// Whom it waits for.
    pub(crate) after: Vec<String>,
    /// Its policy is to start it once: how that ends is how it is.
    pub(crate) once: bool,
}

/// The whole.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) group: GroupBuilder,
    pub(crate) units: Vec<Unit>,
}

struct Builder<'a> {
    supervisor: &'a Supervisor,
    units: Vec<Unit>,
    refusals: Vec<Refusal>,
}

/// Nothing is made yet. `name`: of the file.
///
/// # Errors
/// Everything that this machine refuses.
pub(crate) fn build(supervisor: &Supervisor, file: File, name: &str) -> Result<Built, Vec<Refusal>> {
    let File { said, members } = file;
    let mut builder = Builder { supervisor, units: Vec::new(), refusals: Vec::new() };
    let name = said.name.as_deref().unwrap_or(name);
    let group = builder.group(name, name, &said.own, members, "");
    let Builder { units, mut refusals, .. } = builder;
    refusals.sort_by_key(|refusal| (refusal.span.start, refusal.span.end));
    if refusals.is_empty() { Ok(Built { group, units }) } else { Err(refusals) }
}

impl Builder<'_> {
    /// `path`: of its containers' names. `label`: what its members' labels begin with.
    fn group(&mut self, name: &str, path: &str, own: &OwnArgs, members: Vec<Member>, label: &str) -> GroupBuilder {
        let mut group = Group::builder(name).restart(own.restart.policy());
        if let Some(strategy) = own.strategy {
            group = group.strategy(strategy.into());
        }
        for Member { name, kind } in members {
            let (path, label) = (format!("{path}.{name}"), format!("{label}{name}"));
            let (after, with) = match kind {
                MemberKind::Service(service) => {
                    let after = service.said.after.clone();
                    let Some(command) = self.service(path, label, &service) else { continue };
                    (after, group.service(name, command))
                }
                MemberKind::Group(inner) => {
                    let label = format!("{label}.");
                    let built = self.group(&name, &path, &inner.said.own, inner.members, &label);
                    (inner.said.after, group.group(built))
                }
            };
            group = with.after(after);
        }
        group
    }

    /// `None`: it is refused, and that is written down.
    fn service(&mut self, id: String, label: String, service: &Service) -> Option<Command> {
        let refused = self.refusals.len();
        let command = self.command(&id, service);
        if self.refusals.len() > refused {
            return None;
        }
        let work = &service.said.work;
        let once = work.restart.restart(&work.exits).is_none();
        self.units.push(Unit { label, id, after: service.said.after.clone(), once });
        command
    }

    fn command(&mut self, id: &str, service: &Service) -> Option<Command> {
        let command = command(self.supervisor, id, service, Beside::default());
        command.map_err(|mut refusals| self.refusals.append(&mut refusals)).ok()
    }
}

/// What is said of a command beside its table.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    pub(crate) files: Vec<StagedFile>,
    pub(crate) tty: bool,
}

/// The command of a service: nothing is made yet.
///
/// # Errors
/// Everything that this machine refuses.
pub(crate) fn command(
    supervisor: &Supervisor,
    id: &str,
    service: &Service,
    beside: Beside,
) -> Result<Command, Vec<Refusal>> {
    let refused = |failure: &Failure| vec![refuse(service, failure)];
    let (said, work) = (&service.said, &service.said.work);
    let words = Words { command: &said.command, name: Some(id), tty: beside.tty };
    let mut wanted = Wanted::new(work, words).map_err(|failure| refused(&failure))?;
    wanted.container.files.extend(beside.files);
    if let Some(errors) = wanted.all_refusals(supervisor) {
        let each = errors.0.into_iter().map(|error| refuse(service, &Failure::from(Error::from(error))));
        return Err(each.collect());
    }
    if let Some((key, why)) = said.probes.refused().or_else(|| said.hooks.refused()) {
        return Err(refused(&Failure::refused(key, why)));
    }
    let command = wanted.command(supervisor, work, true).map_err(|failure| refused(&failure))?;
    let restart = work.exits.apply(work.restart.policy());
    let command = logged::into_log(command, &work.log).restart(restart);
    Ok(said.hooks.apply(said.probes.apply(command)))
}

/// Kinds of failures that are not its description's.
const OF_THE_MACHINE: [&str; 4] = ["unsupported", "permission", "exhausted", "system"];

/// At the key that the failure is about.
fn refuse(service: &Service, failure: &Failure) -> Refusal {
    let key = failure.key();
    let span = key.as_ref().and_then(|key| service.places.get(key)).unwrap_or(&service.span);
    let field = key.map_or_else(|| service.field.clone(), |key| format!("{}.{key}", service.field));
    let kind = Some(failure.kind()).filter(|kind| OF_THE_MACHINE.contains(kind)).map(str::to_owned);
    Refusal { machine: kind, ..Refusal::new(span, field, failure.what()).maybe(failure.hint().map(str::to_owned)) }
}
