//! One container, or one process in it, made by a program that goes: without a supervisor, without tokio, each step waited for
//! where it is asked. What is made outlives the program as a child of its nearest subreaper, which sees how it ends.
//!
//! ```text
//!   Maker::start ─► a keeper of its own, which kills and removes everything if we go now, however we go
//!   Maker::create ─► Made: behind its gate, tied to nobody          Maker::exec ─► Made: it runs
//!   Made::leave ─► the keeper goes, and so may we
//! ```
//!
//! The same checks, plans and keeper as [`NativeRuntime`](super::NativeRuntime)'s; what that keeps for a living supervisor (names,
//! ranges of ids, ends, deadlines) is not here.

mod create;
mod exec;
mod halt;
mod home;
mod hooks;
mod stand_in;

use std::os::fd::{AsFd as _, OwnedFd};
use std::rc::Rc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

pub use create::{Born, Order};
pub use exec::Beside;
pub use halt::Halt;
pub use hooks::Hooked;
pub use stand_in::StandIn;

use halt::{Stop, Until};

use super::Options;
use super::report::{self, Said, step_error};
use super::start::{machine, trace_fd};
use super::stdio::Ends;
use crate::cgroup::Group;
use crate::durable::Identity;
use crate::error::{Error, ErrorKind};
use crate::keeper::{Brief, Nature, has_rights};
use crate::network::device::Given;
use crate::plan::idmap::IdMap;
use crate::plan::machine::HostLayout;
use crate::plan::{Machine, Plan, wire};

/// Makes one thing by a keeper that is started for it. Dropped, all that it has made is killed and removed, which is waited for.
#[derive(Debug)]
pub struct Maker {
    brief: Brief,
    machine: Machine,
    /// The keeper's pid.
    keeper: u32,
    /// All ids of an unprivileged keeper's namespace, where that has more than one.
    keepers_ids: Option<IdMap>,
    /// Who may want that nothing is waited for any more.
    halt: Option<Rc<dyn Halt>>,
}

impl Maker {
    /// Start the keeper.
    ///
    /// # Errors
    /// It does not start ([`ErrorKind::Keeper`]), or this user may not make user namespaces.
    pub fn start() -> Result<Self, Error> {
        Self::start_in(None)
    }

    /// Start one for a container that another one has made, whose first process is this: an ordinary user's lives in the user
    /// namespace of that one, as none but those in there have rights over what was made from there.
    ///
    /// # Errors
    /// As [`Maker::start`]; [`ErrorKind::State`] when the container has ended.
    pub fn start_beside(init: (i32, &OwnedFd)) -> Result<Self, Error> {
        let keepers = if has_rights() { None } else { exec::keepers_namespace(init)? };
        Self::start_in(keepers.as_ref())
    }

    fn start_in(userns: Option<&OwnedFd>) -> Result<Self, Error> {
        let (mut brief, nature, keepers_ids) = Brief::start(userns)?;
        brief.hello(wire::End::Kill, trace_fd(&Options::default())?)?;
        let Nature { pid, enters_pidns, privileged } = nature;
        // Of the host's layout nothing is read before somebody shows the host.
        let machine = machine(pid, privileged, enters_pidns, HostLayout::default());
        Ok(Self { brief, machine, keeper: pid, keepers_ids, halt: None })
    }

    /// Whoever this is can end every wait from here on; the one before cannot any more.
    pub fn halted_by(&mut self, halt: Option<Rc<dyn Halt>>) {
        self.halt = halt;
    }

    /// Let it go: what it has started goes on.
    ///
    /// # Errors
    /// The keeper is dead, or kills everything instead.
    pub fn leave(mut self) -> Result<(), Error> {
        self.brief.leave()
    }

    fn ids(&self, spec: &crate::spec::CheckedSpec) -> Result<Option<IdMap>, Error> {
        use crate::spec::UserNamespace;
        if let Some(ids) = spec.joined_ids() {
            return Ok(Some(ids.clone()));
        }
        if let Some(maps) = &spec.container().id_maps {
            let keeper = (self.keeper, self.keepers_ids.as_ref());
            return crate::ids::chosen::of(maps, (!self.machine.privileged).then_some(keeper)).map(Some);
        }
        match spec.container().user_namespace {
            UserNamespace::Host => Ok(None),
            _ if self.machine.privileged => {
                let why = "the ids of a user namespace have to be given: there is nobody who keeps ranges apart";
                Err(Error::new(ErrorKind::Unsupported, why).with_field("linux.uidMappings"))
            }
            _ => Ok(Some(self.keepers_ids.clone().unwrap_or_else(|| {
                let (uid, gid) = spec.main().ids();
                IdMap::single(uid, gid, 0, 0)
            }))),
        }
    }
}

/// A process that was made. Dropped, it is killed and everything is removed.
#[derive(Debug)]
pub struct Made {
    /// `None` when it was left.
    maker: Option<Maker>,
    pid: i32,
    pidfd: OwnedFd,
    group: Option<Group>,
    ids: Option<IdMap>,
    tty: Option<OwnedFd>,
    /// Interfaces of the host's that it was given.
    lent: Option<Given>,
}

/// Called with who answers what the filter of a process asks, and the number of that process, as soon as it is there: what comes
/// next may be asked about.
pub type Listening<'a> = &'a mut dyn FnMut(OwnedFd, i32) -> Result<(), Error>;

impl Made {
    /// Its number in our pid namespace; nobody has reaped it.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// How it is found again by what was written down.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity::of(&self.pidfd, self.pid, false)
    }

    /// Its pidfd.
    #[must_use]
    pub fn pidfd(&self) -> &OwnedFd {
        &self.pidfd
    }

    /// The container's cgroup.
    #[must_use]
    pub fn group(&self) -> Option<&Group> {
        self.group.as_ref()
    }

    /// The container's ids, where it has its own.
    #[must_use]
    pub fn ids(&self) -> Option<&IdMap> {
        self.ids.as_ref()
    }

    /// The master of its terminal, once.
    pub fn take_tty(&mut self) -> Option<OwnedFd> {
        self.tty.take()
    }

    /// Let it go: the keeper ends, and the process is a child of our nearest subreaper's from here on, also if it has ended
    /// meanwhile. That is us, if we are one.
    ///
    /// # Errors
    /// The keeper is dead, or kills everything instead.
    pub fn leave(mut self) -> Result<OwnedFd, Error> {
        let copy = self.pidfd.try_clone().map_err(|error| Error::system("cannot duplicate a pidfd", error))?;
        self.maker()?.brief.leave()?;
        self.maker = None;
        Ok(copy)
    }

    /// Its keeper, which has it until it is left.
    fn maker(&mut self) -> Result<&mut Maker, Error> {
        self.maker.as_mut().ok_or_else(|| Error::new(ErrorKind::State, "it was left"))
    }

    fn hear(&mut self, ends: Ends) -> Result<(), Error> {
        self.tty = ends.sent()?.0;
        Ok(())
    }
}

/// Run on these CPUs (`0-3,6`), with all that is started from here on.
///
/// # Errors
/// No such list, or no such CPUs for us.
pub fn run_on(cpus: &str) -> Result<(), Error> {
    let wrong = |why: String| Error::invalid("cpus_before", why);
    let mut set = rustix::thread::CpuSet::new();
    for cpu in crate::cgroup::parse_list(cpus, 1024).map_err(wrong)?.into_iter().flat_map(|(first, last)| first..=last)
    {
        set.set(usize::try_from(cpu).unwrap_or_default());
    }
    // As a number with a bit for each, which is how runc tells it, and who tests runtimes looks for it.
    let bytes =
        (0..1024).step_by(4).map(|cpu| (0..4).filter(|bit| set.is_set(cpu + bit)).map(|bit| 1u32 << bit).sum::<u32>());
    let digits: String = bytes.rev().skip_while(|digit| *digit == 0).map(|digit| format!("{digit:x}")).collect();
    tracing::debug!("initial CPU affinity: 0x{digits}");
    let done = rustix::thread::sched_setaffinity(None, &set);
    done.map_err(|error| Error::system("cannot run on these CPUs", error).with_field("cpus_before"))
}

/// Run on all CPUs there are, with all that is started from here on: what the caller is bound to is not meant for a container, which its
/// cgroup alone keeps from some. Since Linux 6.2 a cgroup that is entered does not widen what was asked for by a call.
///
/// # Errors
/// The kernel refuses it.
pub fn run_anywhere() -> Result<(), Error> {
    let mut set = rustix::thread::CpuSet::new();
    (0..rustix::thread::CpuSet::MAX_CPU).for_each(|cpu| set.set(cpu));
    rustix::thread::sched_setaffinity(None, &set).map_err(|error| Error::system("cannot run on all CPUs", error))
}

impl Drop for Made {
    fn drop(&mut self) {
        let Some(mut maker) = self.maker.take() else { return };
        // With its namespace they would be gone, or without their addresses.
        if let Some(lent) = self.lent.take() {
            lent.back();
        }
        // The keeper kills and removes all of it, unless somebody has killed the keeper.
        if maker.brief.end() {
            return;
        }
        let _ = super::signal(&self.pidfd, 9);
        if let Some(group) = &self.group {
            let _ = group.kill();
        }
        let _ = poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(&PATIENCE));
        if let Some(group) = &self.group {
            gone(group);
        }
    }
}

/// How long what was killed may take to end.
const PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// Its last process may not have left it altogether yet.
fn gone(group: &Group) {
    for tries in 1..=60 {
        match group.remove() {
            Err(error) if error.is_busy() => {
                let _ = poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: tries * 1_000_000 }));
            }
            _ => return,
        }
    }
}

/// What a plan says on its report pipe or FIFO: that it is ready, or, when it was let go, nothing but the end of it.
fn heard(report: &OwnedFd, plan: &Plan, until: &Until<'_>) -> Result<Word, Error> {
    match word(report, until)? {
        Said::Ready => Ok(Word::Ready),
        Said::Failed(step, errno) => Err(step_error(plan, step, errno)),
        Said::End => Ok(Word::End),
    }
}

/// What was heard that is no failure.
#[derive(PartialEq, Eq)]
enum Word {
    Ready,
    End,
}

/// The next word, waited for.
fn word(report: &OwnedFd, until: &Until<'_>) -> Result<Said, Stop> {
    loop {
        match report::read(report) {
            Ok(said) => return Ok(said),
            Err(rustix::io::Errno::AGAIN) => drop(until.wait([Some(report.as_fd())])?),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Error::system("cannot read the report", error).into()),
        }
    }
}

/// Open the gate of a container that somebody else has [made](Maker::create), and wait until its command runs.
/// `gate` is the writing end of what it waits at, `report` the reading end of its report, opened before; `halt` may want that it is
/// not waited for.
///
/// # Errors
/// The step between gate and exec that failed; [`ErrorKind::State`] when it has gone.
pub fn open_gate(gate: OwnedFd, report: &OwnedFd, halt: Option<&dyn Halt>) -> Result<(), Error> {
    rustix::io::write(&gate, &[1]).map_err(|error| Error::system("cannot open the start gate", error))?;
    drop(gate);
    match word(report, &Until { halt, ..Until::default() })? {
        Said::End => Ok(()),
        Said::Failed(step, errno) => Err(report::failed_before(step, errno)),
        Said::Ready => Err(Error::new(ErrorKind::Keeper, "a process behind its gate said that it is ready")),
    }
}
