//! What an earlier supervisor has left: claimed piece by piece, by what that one has written down; the rest is removed.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use super::Inner;
use super::container::{Core, NativeContainer};
use super::helper::{Again, Helper, HelperRecord, One};
use super::janitor::{self, Name, Rests, Stub};
use super::off_thread::off_thread;
use super::own_group::OwnGroup;
use super::provided::{self, Network, Root};
use super::report::{Report, Said, failed_before};
use super::stdio::{Ends, Exec};
use crate::cgroup::Group;
use crate::durable::{
    Beside, ContainerRecord, FirstRecord, Found, Kind, Part, Piece, ProcessRecord, Storing, read_label,
};
use crate::error::{Error, ErrorKind};
use crate::keeper::{Child, Kept, Lease};
use crate::network::pasta::Wired as Pasta;
use crate::network::{NetworkLink, NetworkProvider};
use crate::plan::wire::Purpose;
use crate::rootfs::RootfsProvider;
use crate::spec::ProcessSpec;
use crate::{Container, Started};

/// What there was when a [durable](super::NativeRuntime::durable) runtime started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Came {
    /// Nothing: it is the first, or nothing was left to be held.
    Fresh,
    /// The keeper: everything is known.
    KeeperLives,
    /// The keeper was gone as well: there are no streams, and nobody knows how processes ended. An ordinary user's
    /// containers lived in the user namespace of that keeper: nothing further can be started in them.
    KeeperGone,
    /// The machine was started anew: nothing lives.
    Rebooted,
}

/// One container that is claimed.
#[derive(Debug)]
#[non_exhaustive]
pub struct Claim {
    /// What was written down of it.
    pub record: ContainerRecord,
    /// Its main process, for one that is still to be started.
    pub main: Option<ProcessSpec>,
    /// Who has wired its network.
    pub network_provider: Option<Arc<dyn NetworkProvider>>,
    /// Who has prepared its root file system.
    pub rootfs_provider: Option<Arc<dyn RootfsProvider>>,
}

impl Claim {
    /// Without a command that is still to be started, and without providers.
    #[must_use]
    pub fn new(record: ContainerRecord) -> Self {
        Self { record, main: None, network_provider: None, rootfs_provider: None }
    }
}

/// What came of claiming a process.
#[derive(Debug)]
pub enum ClaimedProcess {
    /// It is there, or has ended, which its exit tells.
    Found(Box<Started>),
    /// It was asked for and did not come to its exec. Nothing of it is held any more.
    Failed(Error),
    /// It was never there, or its end was settled.
    Never,
    /// It has ended, and nobody knows how.
    Lost,
}

/// A deadline of an earlier supervisor. It is cancelled when the lease is dropped.
#[derive(Debug)]
#[non_exhaustive]
pub struct ClaimedLease {
    /// The deadline.
    pub lease: Lease,
    /// When the next of it is carried out: a rung of its ladder, or what comes in the end. Also of one that was carried out
    /// while nobody was there, which [`Lease::sent`] and [`Lease::fired`] tell when the driver runs, before any exit that has
    /// come of it. `None`: the keeper does not know it (any more). It was carried out and told to an earlier supervisor, or
    /// was cancelled or never armed, or went with a keeper that is gone: [`Lease::wait`] is an error.
    pub at_ns: Option<u64>,
}

/// What nobody has claimed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Leftovers {
    /// Processes that were killed, or whose end nobody has asked for.
    pub processes: usize,
    /// Ends of pipes and terminals that were closed.
    pub streams: usize,
    /// Deadlines that were cancelled.
    pub leases: usize,
    /// Containers whose cgroup was removed.
    pub containers: Vec<String>,
    /// Cgroups that could not be removed.
    pub cgroups: Vec<PathBuf>,
}

/// What is handed over.
pub(super) struct Earlier {
    pub(super) came: Came,
    /// Nothing may be claimed.
    pub(super) kill: bool,
    pub(super) children: Vec<Child>,
    pub(super) deadlines: Unclaimed,
    pub(super) kept: Vec<Kept>,
}

impl Earlier {
    pub(super) fn nothing(came: Came) -> Self {
        Self { came, kill: false, children: Vec::new(), deadlines: Unclaimed::default(), kept: Vec::new() }
    }
}

/// Deadlines that nobody has claimed yet, with their times, by their numbers. Dropped, they stay armed.
#[derive(Debug, Default)]
pub(super) struct Unclaimed(HashMap<u64, (u64, Lease)>);

impl Unclaimed {
    pub(super) fn of(deadlines: Vec<(u64, u64, Lease)>) -> Self {
        Self(deadlines.into_iter().map(|(id, at, lease)| (id, (at, lease))).collect())
    }

    /// Nobody will. Gives how many there were.
    fn cancel(mut self) -> usize {
        let leases = std::mem::take(&mut self.0);
        leases.len()
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        self.0.drain().for_each(|(_, (_, lease))| lease.leave());
    }
}

/// Everything that an earlier supervisor has left, until it is claimed. Dropped before [`Adopted::finish`], it all stays as it
/// is, for a further one.
#[derive(Debug)]
pub struct Adopted {
    inner: Arc<Inner>,
    came: Came,
    kill: bool,
    children: HashMap<u64, Child>,
    leases: Unclaimed,
    /// By the request that has started their process.
    kept: HashMap<u64, KeptOfOne>,
    /// Stored by somebody else than us.
    strange: Vec<Kept>,
    cores: HashMap<String, Arc<Core>>,
    /// Groups of containers, when they were looked for.
    groups: Option<HashMap<String, Result<Group, Error>>>,
    /// Where in `kept` a process is, by its label.
    labels: HashMap<Vec<u8>, u64>,
}

/// What the keeper holds of one process.
#[derive(Debug)]
struct KeptOfOne {
    /// What the process is known by.
    label: Vec<u8>,
    parts: Vec<(Kind, Kept)>,
}

impl Adopted {
    pub(super) fn new(inner: &Arc<Inner>, earlier: Earlier) -> Self {
        let Earlier { came, kill, children, deadlines, kept } = earlier;
        let mut adopted = Self {
            inner: Arc::clone(inner),
            came,
            kill,
            children: children.into_iter().map(|child| (child.id, child)).collect(),
            leases: deadlines,
            kept: HashMap::new(),
            strange: Vec::new(),
            cores: HashMap::new(),
            groups: None,
            labels: HashMap::new(),
        };
        for kept in kept {
            match read_label(&kept.label) {
                // Not a child of this keeper's, but of one before it.
                Some((Kind::Process, request, _)) => match inner.keeper.held_process(request, kept) {
                    Ok(child) => drop(adopted.children.insert(request, child)),
                    Err(error) => tracing::error!(request, %error, "a process cannot be adopted"),
                },
                Some((kind, request, label)) => {
                    let label = label.to_vec();
                    adopted.labels.insert(label.clone(), request);
                    adopted
                        .kept
                        .entry(request)
                        .or_insert(KeptOfOne { label, parts: Vec::new() })
                        .parts
                        .push((kind, kept));
                }
                None => adopted.strange.push(kept),
            }
        }
        adopted
    }

    /// What there was.
    #[must_use]
    pub fn came(&self) -> Came {
        self.came
    }

    /// A container, with all that can be done to one; `None`: nothing of it is left.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a record of another version; [`ErrorKind::Invalid`] without a provider that it has;
    /// [`ErrorKind::Exists`] when it was claimed before; [`ErrorKind::State`] when the record is not of this keeper's; the
    /// provider's.
    ///
    /// # Cancel safety
    /// Dropped, what it would have claimed is unclaimed.
    pub async fn container(&mut self, claim: Claim) -> Result<Option<Box<dyn Container>>, Error> {
        let Claim { record, main, network_provider, rootfs_provider } = claim;
        record.check()?;
        if self.cores.contains_key(&record.id) {
            let what = format!("the container {:?} was claimed before", record.id);
            return Err(Error::new(ErrorKind::Exists, what).with_field("id"));
        }
        let missing = |field: &str| Error::invalid(field, "the container has such a provider, which has to be given");
        let ours = record.network.as_ref().is_some_and(|found| found.pasta.is_some());
        if record.network.is_some() && network_provider.is_none() && !ours {
            return Err(missing("network_provider"));
        }
        if record.rootfs.is_some() && rootfs_provider.is_none() {
            return Err(missing("rootfs_provider"));
        }
        let Some((init, group)) = self.what_is_left(&record).await? else { return Ok(None) };
        let mut rests = Rests::default();
        rests.hold(Name::take(&self.inner.names, &record.id)?, self.range(&record));
        rests.group = group;
        if let Some(found) = record.network.clone() {
            rests.network = self.network(network_provider, &record, init.as_ref(), found).await?;
        }
        if let Some((provider, Found { state, .. })) = rootfs_provider.zip(record.rootfs.clone()) {
            rests.root = Some(Root::adopt(&*provider, &record.id, state).await?);
        }
        if let Some((init, serving)) = init.as_ref().zip(record.serving.clone()) {
            rests.serving = Some(self.helper_again(init, &record, Some(serving)));
        }
        if let Some(init) = init {
            rests.born(init);
        }
        let core = Core::adopted(Arc::clone(&self.inner), &record, rests, main);
        self.first(&core, &record)?;
        let core = Arc::new(core);
        self.cores.insert(record.id, Arc::clone(&core));
        Ok(Some(Box::new(NativeContainer::new(core))))
    }

    /// Its pid 1 and its cgroup, as far as they are there.
    async fn what_is_left(
        &mut self,
        record: &ContainerRecord,
    ) -> Result<Option<(Option<Init>, Option<Arc<Group>>)>, Error> {
        if !record.is_of_this_boot() {
            return Ok(None);
        }
        let failed = |error| Error::system("cannot duplicate a pidfd", error);
        let init = match self.children.get(&record.request) {
            Some(child) if record.init.may_be(&child.pidfd) => Some(child.pidfd.try_clone().map_err(failed)?),
            Some(_) => return Err(Error::new(ErrorKind::State, "the keeper knows another process under this record")),
            // The child of a keeper that is gone, also of one before the last.
            None => record.init.find(),
        };
        if self.kill {
            if let Some(init) = &init {
                let _ = rustix::process::pidfd_send_signal(init, rustix::process::Signal::KILL);
            }
            return Ok(None);
        }
        let group = if record.cgroups.is_empty() { None } else { self.group(record).await? };
        let provided = record.network.is_some() || record.rootfs.is_some();
        let left = init.is_some() || group.is_some() || provided;
        Ok(left.then(|| (init.map(Arc::new), group)))
    }

    /// All of them are looked for once, on a thread that may block.
    async fn group(&mut self, record: &ContainerRecord) -> Result<Option<Arc<Group>>, Error> {
        if self.groups.is_none() {
            let cgroups = self.inner.cgroups()?;
            let found = off_thread(move || {
                let look = |id: String| match cgroups.reopen(&id) {
                    Ok(group) => Some((id, Ok(group))),
                    Err(error) if error.is_gone() => None,
                    Err(error) => Some((id, Err(super::cgroup_error(&error)))),
                };
                cgroups.living().into_iter().filter_map(look).collect()
            });
            self.groups = Some(found.await.map_err(|error| Error::new(ErrorKind::System, error.to_string()))?);
        }
        let group = self.groups.as_mut().and_then(|groups| groups.remove(&record.id)).transpose()?;
        Ok(group.map(|group| Arc::new(group.born_in(&record.cgroups))))
    }

    fn range(&self, record: &ContainerRecord) -> Option<Arc<crate::ids::Range>> {
        let (range, ranges) = record.range.zip(self.inner.ranges.as_ref())?;
        let mut shared = self.inner.shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(have) = shared.as_ref().filter(|have| range.shared && have.base() == range.base) {
            return Some(Arc::clone(have));
        }
        let taken = match ranges.take_again(range.base) {
            Ok(taken) => Arc::new(taken),
            // With a keeper its lock was gone, this one or one before it: its ids are those of somebody else's container as
            // well by now.
            Err(error) => {
                tracing::warn!(container = record.id, %error, "a range of user ids has two owners");
                return None;
            }
        };
        if range.shared && shared.is_none() {
            *shared = Some(Arc::clone(&taken));
        }
        Some(taken)
    }

    async fn network(
        &mut self,
        provider: Option<Arc<dyn NetworkProvider>>,
        record: &ContainerRecord,
        init: Option<&Init>,
        found: Found,
    ) -> Result<Option<Arc<Network>>, Error> {
        let Found { state, pasta, helper } = found;
        let living = init.filter(|init| super::lives(init));
        let namespace = match living {
            Some(init) => provided::network_namespace(&self.inner.keeper, init).await.ok(),
            None => None,
        };
        let link = NetworkLink::new(&record.id, namespace.map_or_else(provided::no_namespace, Ok)?);
        let network = match (pasta, provider) {
            (Some(pasta), _) => {
                let link = match init {
                    Some(init) => link.with_helper(self.helper_again(init, record, helper)),
                    None => link,
                };
                Network::pasta(Pasta::again(pasta), link)
            }
            (None, Some(provider)) => Network::new(provider, link),
            (None, None) => return Ok(None),
        };
        network.adopt(state).await.map(Some)
    }

    fn helper_again(&mut self, init: &Init, record: &ContainerRecord, helper: Option<HelperRecord>) -> Arc<Helper> {
        let again = Helper::new(&self.inner, Arc::clone(init), record.joining.joining().ids);
        if let Some(HelperRecord { guard, helper }) = helper {
            again.again(self.helper(guard), self.helper(helper));
        }
        again
    }

    /// One of the two processes of a helper; `None`: it has ended.
    fn helper(&mut self, one: One) -> Option<Again> {
        let One { process, request } = one;
        let pid = process.pid();
        match self.children.remove(&request) {
            Some(child) if process.may_be(&child.pidfd) => {
                let Child { pidfd, exit, place, .. } = child;
                Some(Again { pidfd, pid, request, place: Some(place), exit: Some(exit) })
            }
            // Not one of ours: `finish` ends it.
            Some(child) => {
                self.children.insert(request, child);
                None
            }
            None => Some(Again { pidfd: process.find()?, pid, request, place: None, exit: None }),
        }
    }

    /// What its first process is, if that is not just the stub.
    fn first(&mut self, core: &Core, record: &ContainerRecord) -> Result<(), Error> {
        let request = record.request;
        match record.first {
            FirstRecord::Stub => {
                if let Some(child) = self.children.remove(&request) {
                    let keeper = self.inner.keeper.clone();
                    core.rests.of_no_interest(Stub { keeper, request, place: child.place });
                }
            }
            FirstRecord::Idle => {
                if let Some((exit, place)) = self.exit(core, request) {
                    let mut storing = Storing::of(self.inner.keeper.clone(), request, Vec::new(), Vec::new());
                    place.into_iter().for_each(|place| storing.born(place));
                    core.idles(exit, Some(storing));
                }
            }
            FirstRecord::Command => {
                let waits =
                    self.kept.get(&request).is_some_and(|kept| kept.parts.iter().any(|(kind, _)| *kind == Kind::Gate));
                if waits && let Some(kept) = self.kept.remove(&request) {
                    let Some(child) = self.children.remove(&request) else {
                        discard(kept.parts.into_iter().map(|(_, kept)| kept));
                        return Ok(());
                    };
                    let (mut storing, ends, report, gate) = self.pieces(request, kept)?;
                    storing.born(child.place);
                    if let (Some(report), Some(gate)) = (report, gate) {
                        core.waits(gate, ends, report, child.exit, storing);
                    }
                }
            }
        }
        Ok(())
    }

    fn exit(
        &mut self,
        core: &Core,
        request: u64,
    ) -> Option<(tokio::sync::oneshot::Receiver<crate::Exit>, Option<u64>)> {
        if let Some(child) = self.children.remove(&request) {
            return Some((child.exit, Some(child.place)));
        }
        core.rests.init().is_ok().then(|| (tokio::sync::oneshot::channel().1, None))
    }

    /// What is kept of a process, as the process has it.
    fn pieces(&self, request: u64, kept: KeptOfOne) -> Result<Pieces, Error> {
        let (mut ends, mut report, mut gate) = (Ends::default(), None, None);
        let mut pieces = Vec::new();
        for (kind, Kept { stored, fd, drained, .. }) in kept.parts {
            pieces.push(Piece { kind, stored, drained: Some(drained) });
            match kind {
                Kind::Report => report = Some(Report::new(fd, true)?),
                Kind::Gate => gate = Some(fd),
                kind => ends.put(kind, fd),
            }
        }
        Ok((Storing::of(self.inner.keeper.clone(), request, kept.label, pieces), ends, report, gate))
    }

    /// A process, after its container, of which nothing may be left: by the label of its [`Hold`](crate::spec::Hold), or where the keeper holds
    /// nothing of it any more, by its record. `main`: it is the main process, and its start was asked for; one that still
    /// waits is let go.
    ///
    /// # Errors
    /// [`ErrorKind::State`] when the keeper knows another process under this record; [`ErrorKind::Unsupported`] for a record of another version.
    ///
    /// # Cancel safety
    /// Dropped, what it would have claimed may be discarded.
    pub async fn process(
        &mut self,
        container: &str,
        label: &[u8],
        record: Option<&ProcessRecord>,
        main: bool,
    ) -> Result<ClaimedProcess, Error> {
        record.map_or(Ok(()), ProcessRecord::check)?;
        let core = self.cores.get(container).cloned();
        if let Some(core) = core.as_ref().filter(|core| main && core.waits_or_idles()) {
            return Ok(match Arc::clone(core).start().await {
                Ok(started) => ClaimedProcess::Found(Box::new(started)),
                Err(error) => ClaimedProcess::Failed(error),
            });
        }
        let held = self.labels.get(label).copied().filter(|request| self.kept.contains_key(request));
        let Some(request) = held.or(record.map(|record| record.request)) else { return Ok(ClaimedProcess::Never) };
        if let (Some(record), Some(child)) = (record, self.children.get(&request))
            && !record.process.may_be(&child.pidfd)
        {
            // Unclaimed, as it is: `finish` ends it.
            return Err(Error::new(ErrorKind::State, "the keeper knows another process under this record"));
        }
        let kept = self.kept.remove(&request);
        let Some(child) = self.children.remove(&request) else {
            let claimed = match record {
                Some(record) => self.orphan(core.as_deref(), label, record, main).await,
                None => ClaimedProcess::Never,
            };
            discard(kept.into_iter().flat_map(|kept| kept.parts).map(|(_, kept)| kept));
            return Ok(claimed);
        };
        let Child { pid, pidfd, exit, place, .. } = child;
        let pidfd = Arc::new(pidfd);
        let kept = kept.unwrap_or_else(|| KeptOfOne { label: label.to_vec(), parts: Vec::new() });
        let claimed = async {
            let (mut storing, mut ends, report, _) = self.pieces(request, kept)?;
            storing.born(place);
            // What is not claimed after all is held by nobody.
            storing.start();
            if let Some(report) = report
                && let Some(error) = before_exec(&report).await?
            {
                return Ok(ClaimedProcess::Failed(error));
            }
            ends.receive(Some(&mut storing), None).await?;
            let group = record.and_then(|record| record.group.clone());
            let group = core.as_ref().zip(group).and_then(|(core, group)| core.own_group_again(&group));
            if let Some(core) = &core {
                core.is_started(main);
            }
            let pidfd = Arc::clone(&pidfd);
            let exec = Exec { pid, pidfd, exit, group, without_pidfs: self.inner.without.pidfs };
            Ok(ClaimedProcess::Found(Box::new(ends.started(exec, Some(storing))?)))
        };
        claimed.await.inspect_err(|_| {
            // Nobody would ever read what it writes.
            let _ = rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
        })
    }

    /// The keeper does not know it: it was the child of one that is gone, or is nobody any more.
    async fn orphan(&self, core: Option<&Core>, label: &[u8], record: &ProcessRecord, main: bool) -> ClaimedProcess {
        let found = record.process.find();
        if found.is_none() && self.came != Came::KeeperGone {
            return ClaimedProcess::Never;
        }
        if let Some(core) = core {
            core.is_started(main);
        }
        let Some(pidfd) = found else { return ClaimedProcess::Lost };
        // Nobody sends: how it ends is told by the kernel, if at all.
        let (_, exit) = tokio::sync::oneshot::channel();
        let group: Option<OwnGroup> =
            core.zip(record.group.as_ref()).and_then(|(core, group)| core.own_group_again(group));
        let mut storing = Storing::of(self.inner.keeper.clone(), record.request, label.to_vec(), Vec::new());
        // Or it would take us for the last, and remove what is around this one.
        if let Err(error) = storing.add(&[Part::new(Kind::Process, &pidfd)]).await {
            tracing::warn!(pid = record.process.pid(), %error, "the keeper does not stay for it");
        }
        let held = storing.started(record.clone());
        ClaimedProcess::Found(Box::new(Started {
            group,
            held: Some(held),
            ..Started::bare(record.process.pid(), Arc::new(pidfd), exit)
        }))
    }

    /// A deadline of an earlier supervisor, by [`Lease::id`].
    pub fn lease(&mut self, id: u64) -> ClaimedLease {
        match self.leases.0.remove(&id) {
            Some((at, lease)) => ClaimedLease { lease, at_ns: Some(at) },
            None => ClaimedLease { lease: self.inner.keeper.lease_before(id), at_ns: None },
        }
    }

    /// What an earlier supervisor has had held [beside](crate::Container::hold_beside) under this label, and the descriptor.
    pub fn beside(&mut self, label: &[u8]) -> Option<(Beside, OwnedFd)> {
        let is = |kept: &KeptOfOne| kept.label == label && kept.parts.iter().all(|(kind, _)| *kind == Kind::Beside);
        let request = self.kept.iter().find(|(_, kept)| is(kept)).map(|(request, _)| *request)?;
        let (_, Kept { stored, fd, .. }) = self.kept.remove(&request)?.parts.pop()?;
        Some((Beside::again(stored), fd))
    }

    /// Kill and remove everything that nobody has claimed. Needs the [`Driver`](super::Driver) running; before anything new is made.
    ///
    /// # Cancel safety
    /// Dropped, some of it may be there still, for a further supervisor.
    pub async fn finish(self) -> Leftovers {
        let Self { inner, children, leases, kept, strange, cores, .. } = self;
        let mut left = Leftovers { processes: children.len(), leases: leases.cancel(), ..Leftovers::default() };
        inner.keeper.claimed();
        for child in children.values() {
            let _ = rustix::process::pidfd_send_signal(&child.pidfd, rustix::process::Signal::KILL);
        }
        // First the groups: who is frozen there does not die of a signal.
        remove_others(&inner, &cores, &mut left).await;
        let until = tokio::time::Instant::now() + PATIENCE;
        for (id, child) in children {
            let pidfd = Arc::new(child.pidfd);
            // One that cannot die is the kernel's; the keeper goes on watching it.
            let _ = tokio::time::timeout_at(until, janitor::ended(&pidfd)).await;
            inner.keeper.settle(id, child.place);
        }
        let all: Vec<Kept> =
            kept.into_values().flat_map(|kept| kept.parts).map(|(_, kept)| kept).chain(strange).collect();
        left.streams = all.len();
        for orphan in all.iter().filter(|kept| kept.purpose == Purpose::Pidfd) {
            let _ = rustix::process::pidfd_send_signal(&orphan.fd, rustix::process::Signal::KILL);
        }
        discard(all.into_iter());
        if let Some(ranges) = &inner.ranges {
            ranges.let_go_of_others(cores.values().filter_map(|core| core.rests.range()).collect());
        }
        tracing::debug!(?left, "what nobody has claimed is removed");
        left
    }
}

/// How long those that are killed may take to die.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

type Init = Arc<OwnedFd>;
type Pieces = (Storing, Ends, Option<Report>, Option<OwnedFd>);

fn discard(all: impl Iterator<Item = Kept>) {
    all.for_each(|kept| kept.stored.discard());
}

/// Why it did not come to its exec; `None`: it did, or was killed before.
async fn before_exec(report: &Report) -> Result<Option<Error>, Error> {
    loop {
        match report.next().await? {
            Said::End => return Ok(None),
            Said::Failed(step, errno) => return Ok(Some(failed_before(step, errno))),
            Said::Ready => {}
        }
    }
}

/// Groups of containers that nobody has claimed.
async fn remove_others(inner: &Arc<Inner>, cores: &HashMap<String, Arc<Core>>, left: &mut Leftovers) {
    let Ok(cgroups) = inner.cgroups() else { return };
    let for_thread = Arc::clone(&cgroups);
    let living = off_thread(move || for_thread.living()).await.unwrap_or_default();
    for id in living.into_iter().filter(|id| !cores.contains_key(id)) {
        let Ok(group) = cgroups.reopen(&id) else { continue };
        let group = Arc::new(group);
        match janitor::remove_group(&group).await {
            Ok(()) => left.containers.push(id),
            Err(error) => {
                tracing::warn!(container = id, %error, "a container that nobody has claimed could not be removed");
                left.cgroups.extend(group.paths());
            }
        }
    }
}
