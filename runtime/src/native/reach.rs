//! Descriptors out of a container: sockets of its network, terminals of its devpts, levers on its cgroup. What needs the
//! inside is made by a child of the keeper (`plan/reach.rs`); what needs the cgroup is opened here.

use std::os::fd::OwnedFd;

use super::container::{Core, running};
use super::report::{Report, Said, step_error};
use super::supply::{Supply, some};
use super::{cgroup_error, stdio};
use crate::error::{Error, ErrorKind};
use crate::hand::Hand;
use crate::keeper::{self, Deadline, Lease, Lever, Spawned};
use crate::plan::wire::Purpose;
use crate::plan::{Plan, reach};
use crate::spec::Disk;
use crate::{Act, Pty};

impl Core {
    /// Carry out a plan that sends a descriptor.
    async fn fetch(&self, plan: &Plan, purpose: Purpose) -> Result<OwnedFd, Error> {
        self.alive()?;
        fetch(&self.inner().keeper, self.init_pidfd()?, plan, purpose).await.map_err(|error| self.or_ended(error))
    }

    pub(super) async fn socket(&self, family: u32, kind: u32) -> Result<OwnedFd, Error> {
        // Without rights over the host's network the keeper is in it already, and so is such a container.
        let enter = self.joining().own_network || self.inner().machine.privileged;
        self.fetch(&reach::socket(enter, family, kind), Purpose::Socket).await
    }

    pub(super) async fn pty(&self) -> Result<Pty, Error> {
        let plan = reach::pty(self.joining(), self.main_ids());
        let master = self.fetch(&plan, Purpose::PtyMaster).await?;
        let failed = |error| Error::system("cannot open the slave of a pseudoterminal", error).with_field("pty");
        let slave = crate::sys::pty::slave(&master).map_err(failed)?;
        Ok(Pty { master, slave })
    }

    /// Whoever these are in the keeper's user namespace. Of a container that has ended as well: it enters nothing.
    pub(super) async fn hand(&self, ids: (u32, u32)) -> Result<Hand, Error> {
        let plan = reach::hand(ids);
        let (child, report, ours) = begin(&self.inner().keeper, None, &plan).await?;
        let said = report.next().await;
        // Killed with the hand, whatever it is waiting for; who has settled it hears nothing of that.
        self.inner().keeper.settle(child.id, child.place);
        match said? {
            Said::Ready => Ok(Hand::new(ours, child.pidfd)),
            Said::Failed(step, errno) => Err(step_error(&plan, step, errno)),
            Said::End => Err(Error::new(ErrorKind::Keeper, "a hand has ended before it was ready")),
        }
    }

    pub(super) async fn lease(&self, when: Deadline, act: Act) -> Result<Lease, Error> {
        self.alive()?;
        let keeper = &self.inner().keeper;
        let _turn = keeper.turn_to_arm().await;
        let lever = self.lever(act)?;
        keeper.arm(when, lever).await
    }

    fn lever(&self, act: Act) -> Result<Lever, Error> {
        let clone =
            |fd: &OwnedFd| fd.try_clone().map_err(|error| Error::system("cannot duplicate a descriptor", error));
        let plain = Lever::default();
        Ok(match act {
            Act::Kill => self.kill_lever()?,
            Act::Thaw => {
                let file = self.group().map(crate::cgroup::Group::thaw_file).transpose();
                let none =
                    || Error::new(ErrorKind::Unsupported, "there is no freezer for this container").with_field("pause");
                let write = file.map_err(|error| if error.is_unsupported() { none() } else { cgroup_error(&error) })?;
                Lever { write: Some(write.ok_or_else(none)?), ..plain }
            }
            Act::Signal(pidfd, signal) => Lever { signal: Some((clone(&pidfd)?, signal)), ..plain },
            Act::Write(file, bytes) => Lever { write: Some((clone(&file)?, bytes)), ..plain },
            Act::Ladder { to, rungs, all: false } => {
                Lever { signal: Some((clone(&to)?, libc::SIGKILL)), rungs, ..plain }
            }
            Act::Ladder { to, rungs, all: true } => Lever { told: Some(clone(&to)?), rungs, ..self.kill_lever()? },
        })
    }

    /// What kills every process of it.
    fn kill_lever(&self) -> Result<Lever, Error> {
        let write = self.group().map(crate::cgroup::Group::kill_file).transpose();
        let write = write.map_err(|error| cgroup_error(&error))?.flatten();
        Ok(Lever { signal: Some((self.init_pidfd()?, libc::SIGKILL)), write, ..Lever::default() })
    }
}

/// Carry out a plan that sends a descriptor from beside the process behind `init`.
pub(super) async fn fetch(
    keeper: &keeper::Client,
    init: OwnedFd,
    plan: &Plan,
    purpose: Purpose,
) -> Result<OwnedFd, Error> {
    sent(keeper, Some(init), plan, purpose).await
}

/// A file system in memory of this size.
pub(super) async fn file_system(keeper: &keeper::Client, disk: Disk) -> Result<OwnedFd, Error> {
    sent(keeper, None, &reach::file_system(disk), Purpose::Tree).await
}

async fn sent(keeper: &keeper::Client, init: Option<OwnedFd>, plan: &Plan, purpose: Purpose) -> Result<OwnedFd, Error> {
    let (child, report, ours) = begin(keeper, init, plan).await?;
    let ran = running(&report, Some(plan)).await;
    keeper.settle(child.id, child.place);
    ran?;
    received(&ours, purpose)
}

/// Carry out a plan that changes the files which come with it and runs nothing. The inner error: the step that failed, and why.
pub(crate) async fn errand(
    keeper: &keeper::Client,
    plan: &Plan,
    files: Vec<OwnedFd>,
) -> Result<Result<(), (u16, i32)>, Error> {
    let (report_read, report_write) = stdio::pipe()?;
    let mut supply = Supply::new(report_write);
    supply.files = some(files);
    let fds = supply.all(plan, None)?;
    let report = Report::new(report_read, false)?;
    let child = keeper.spawn(plan, fds).await?;
    let said = report.next().await;
    keeper.settle(child.id, child.place);
    match said? {
        Said::Failed(step, errno) => Ok(Err((step, errno))),
        Said::Ready => Ok(Ok(())),
        Said::End => Err(Error::new(ErrorKind::Keeper, "a child of the keeper ended before it had changed all files")),
    }
}

/// The child that carries out a plan with a channel: killed when it is dropped before it has ended. Its report, and our end.
async fn begin(
    keeper: &keeper::Client,
    init: Option<OwnedFd>,
    plan: &Plan,
) -> Result<(Spawned, Report, OwnedFd), Error> {
    let (report_read, report_write) = stdio::pipe()?;
    let (ours, theirs) = stdio::channel()?;
    let mut supply = Supply::new(report_write);
    supply.channel = Some(theirs);
    supply.init = init;
    let fds = supply.all(plan, None)?;
    let report = Report::new(report_read, false)?;
    Ok((keeper.spawn(plan, fds).await?, report, ours))
}

/// What came over a channel whose sender has ended.
pub(super) fn received(channel: &OwnedFd, purpose: Purpose) -> Result<OwnedFd, Error> {
    let lost = || Error::new(ErrorKind::Keeper, format!("a plan ended without sending its {}", purpose.name()));
    match keeper::receive(channel) {
        Ok(Some(heard)) => keeper::expect(heard.brought.flatten(), purpose),
        Ok(None) => Err(lost()),
        Err(error) => Err(lost().with_errno(Some(error.raw_os_error()))),
    }
}
