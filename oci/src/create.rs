//! `create`: a container whose command waits for `start`.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use orangery_runtime::cgroup::{Cgroups, Group, GroupIdentity};
use orangery_runtime::native::single::{Born, Halt, Hooked, Made, Maker, Order};
use orangery_runtime::seccomp::{Action, Filter};
use orangery_runtime::spec::{Rootfs, oci};
use orangery_runtime::{ContainerSpec, Error, ErrorKind, ProcessSpec};
use rustix::fs::{FileType, Mode, OFlags};

use crate::agent;
use crate::args::{CgroupManager, Create, Global, Rootless};
use crate::container::{Container, reason};
use crate::failure::Failure;
use crate::hooks::{self, Told};
use crate::place::{self, Place, Room};
use crate::record::{Maps, Progress, Record};
use crate::streams::{self, Preserved};
use crate::systemd::{Owner, Wanted};
use crate::{clock, console, exec, notify};

/// `create`, whole.
///
/// # Errors
/// Whatever is refused or fails; nothing is left of the container then.
pub(crate) fn create(place: &Place, global: &Global, what: &Create, preserved: Preserved) -> Result<(), Failure> {
    let bundle = Bundle::read(global, what)?;
    if bundle.process.tty.is_some() && what.console_socket.is_none() {
        return Err(Failure::new("process.terminal: a terminal needs --console-socket, which gets its master"));
    }
    make(place, global, what, bundle, preserved, None).map(|left| left.container.room.unlock())
}

/// Its filter asks somebody.
fn asks(process: &ProcessSpec) -> bool {
    let asks = |filter: &Filter| {
        filter.default == Action::Notify || filter.rules.iter().any(|rule| rule.action == Action::Notify)
    };
    process.filters.iter().any(asks)
}

/// What is to be made.
#[derive(Debug)]
pub(crate) struct Bundle {
    path: PathBuf,
    spec: ContainerSpec,
    pub(crate) process: ProcessSpec,
    oci_version: String,
    /// Who makes its cgroup, if that is systemd.
    systemd: Option<Wanted>,
    annotations: std::collections::BTreeMap<String, String>,
    /// We are root of the machine: of another user namespace is an ordinary user of it.
    by_root: bool,
}

impl Bundle {
    /// Read it.
    ///
    /// # Errors
    /// Every refusal of its config.json.
    pub(crate) fn read(global: &Global, what: &Create) -> Result<Bundle, Failure> {
        place::check(&what.id)?;
        let failed = |error| Failure::system(format!("--bundle {}", what.bundle.display()), error);
        let path = std::fs::canonicalize(&what.bundle).map_err(failed)?;
        let (mut spec, mut process, said) = oci::read_with(&path, &what.config)?;
        process.shares_keyring = what.no_new_keyring;
        console::is_for_a_terminal(what.console_socket.as_deref(), &process)?;
        if asks(&process) && spec.filter_listener.is_none() {
            return Err(Failure::new(
                "linux.seccomp.listenerPath: SCMP_ACT_NOTIFY needs one, where somebody answers what is asked",
            ));
        }
        if !process.filters.is_empty() {
            // Of callers who look for it there, in their words.
            tracing::debug!("seccomp filter flags: {}", process.filter_flags);
        }
        spec.id.clone_from(&what.id);
        spec.no_pivot = what.no_pivot;
        let by_root = rustix::process::geteuid().is_root() && orangery_runtime::sys::has_all_ids();
        if !by_root {
            // As with runc: there are no devices but those of the host that this user may open.
            spec.device_rules_if_possible |= !spec.device_rules.is_empty();
        }
        let (oci_version, annotations) = (said.version, said.annotations);
        let by_systemd = global.systemd_cgroup || global.cgroup_manager == CgroupManager::Systemd;
        let wanted = || Wanted::of(spec.cgroups_path.as_deref(), &what.id, &annotations, !by_root);
        let systemd = by_systemd.then(wanted).transpose()?;
        Ok(Bundle { path, spec, process, oci_version, systemd, annotations, by_root })
    }

    fn rootfs(&self) -> PathBuf {
        match &self.spec.rootfs {
            Rootfs::Dir { path, .. } => path.clone(),
            _ => self.path.clone(),
        }
    }

    /// Where its cgroup is; `None`: it gets none of its own.
    fn cgroup(&self, global: &Global) -> Option<PathBuf> {
        if global.cgroup_manager == CgroupManager::Disabled {
            return None;
        }
        let asked = self.spec.cgroups_path.clone().filter(|path| !path.as_os_str().is_empty());
        Some(Path::new("/").join(asked.unwrap_or_else(|| PathBuf::from(&self.spec.id))))
    }
}

/// Make it, write it down, and let it go; `halt` may want that it is given up.
///
/// # Errors
/// As [`create`].
pub(crate) fn make(
    place: &Place,
    global: &Global,
    what: &Create,
    bundle: Bundle,
    preserved: Preserved,
    halt: Option<Rc<dyn Halt>>,
) -> Result<Left, Failure> {
    let room = place.make(&what.id)?;
    exec::anywhere();
    let mut begun = Begun::default();
    match fill(place, &room, global, what, (bundle, preserved), halt.clone(), &mut begun) {
        Ok(Filled { record, pidfd, tty }) => Ok(Left { container: Container::with(room, record), pidfd, tty }),
        Err(failure) => {
            if let Some(unit) = begun.unit {
                unit.stop();
            }
            // What had come to the keeper is gone with it; whatever else fails here has its reason already.
            let _ = room.remove();
            // There may be another one of this name while the programs of this one run.
            drop(room);
            if let Some(record) = begun.record {
                hooks::after_end(&record, halt);
            }
            Err(failure)
        }
    }
}

/// A container that was made and let go. Its lock is taken off, not left to the last descriptor: whoever has held the ids of a mount has
/// shared those of the keeper, and may end a little later than that.
#[derive(Debug)]
pub(crate) struct Left {
    pub(crate) container: Container,
    pub(crate) pidfd: OwnedFd,
    /// The master of its terminal, if nobody else got it.
    pub(crate) tty: Option<OwnedFd>,
}

/// What there is of a container, for when its making fails.
#[derive(Debug, Default)]
struct Begun {
    /// Once its first process was born.
    record: Option<Record>,
    /// The unit that systemd has made for it.
    unit: Option<Unit>,
}

/// A unit, and its cgroup as it was when systemd had just made it.
#[derive(Debug)]
struct Unit {
    owner: Owner,
    path: PathBuf,
    groups: Vec<GroupIdentity>,
}

impl Unit {
    /// As long as it is this one: with its last process, which the keeper has ended, it is gone, and so is what is written down
    /// of the container. Whoever makes another one of that name has a unit of that name.
    fn stop(&self) {
        let there = Cgroups::of_unit(&self.path, None).and_then(|(above, name)| above.find(&name));
        if there.is_ok_and(|group| group.that_are(&self.groups).has_unit()) {
            self.owner.stop();
        }
    }
}

/// A container that was made.
struct Filled {
    record: Record,
    pidfd: OwnedFd,
    tty: Option<OwnedFd>,
}

fn fill(
    place: &Place,
    room: &Room,
    global: &Global,
    what: &Create,
    (mut bundle, preserved): (Bundle, Preserved),
    halt: Option<Rc<dyn Halt>>,
    begun: &mut Begun,
) -> Result<Filled, Failure> {
    let home = match bundle.systemd.take() {
        Some(wanted) => Home::Unit(wanted),
        None => Home::Files(cgroups(global, &bundle)?),
    };
    let mut main = bundle.process.clone();
    streams::give(&mut main, preserved)?;
    notify::offer(room, &mut bundle.spec, &mut main)?;
    let mut record = Record {
        version: Record::VERSION,
        oci_version: bundle.oci_version.clone(),
        id: what.id.clone(),
        rootfs: bundle.rootfs(),
        bundle: bundle.path,
        annotations: bundle.annotations,
        created: clock::now(),
        owner: rustix::process::geteuid().as_raw(),
        cgroup: home.path(),
        systemd: home.owner(),
        progress: Progress::default(),
        spec: bundle.spec.clone(),
        process: streams::without(&bundle.process),
    };
    // Before there is anything: a command that is killed leaves what `delete` finds.
    room.write(&record)?;
    if let Some(owner) = &record.systemd {
        owner.come_near()?;
    }
    let mut maker = Maker::start()?;
    maker.halted_by(halt);
    let mut stand_in = None;
    let (cgroups, group, _) = match home {
        Home::Files(made) => made,
        Home::Unit(wanted) => {
            let there = maker.stand_in()?;
            let made = given(wanted, there.pid(), &bundle.spec, begun)?;
            stand_in = Some(there);
            record.cgroup.clone_from(&made.2);
            room.write(&record)?;
            made
        }
    };
    let (gate, report) = fifos(room)?;
    let (cgroups, owns) = ((&cgroups, group.as_str()), (place.root(), room.id()));
    let lock = room.dir().try_clone();
    let lock = lock.map_err(|error| Failure::system("cannot duplicate the container's directory", error))?;
    let told = Told::of(&record);
    let hooked = Hooked { state: &|kind, pid| told.text(kind, pid), bundle: &record.bundle.clone() };
    let born = &mut |born: &Born<'_>| {
        let progress = &mut record.progress;
        progress.init.clone_from(&born.init);
        progress.ids = born.ids.map(Maps::of);
        if progress.init.is_none() {
            progress.groups = born.group.map(Group::identity).unwrap_or_default();
            progress.shares = born.shares.to_vec();
        }
        let written = room.add(progress);
        if progress.init.is_some() {
            begun.record = Some(record.clone());
        }
        written.map_err(|failure| Error::new(ErrorKind::System, failure.to_string()))?;
        // Whoever wants that looks at what is written down afterwards, to kill what there is by then.
        match room.is_unwanted() {
            true => Err(Error::new(ErrorKind::State, "the container was deleted while it was made")),
            false => Ok(()),
        }
    };
    let agent = bundle.spec.filter_listener.clone();
    let listening = &mut |listener, pid| agent::tell(agent.as_ref(), listener, pid, &told.with("creating", pid));
    let order =
        Order { spec: bundle.spec, main, cgroups, stand_in, owns, lock, gate, report, hooked, listening, told: born };
    let mut made = maker.create(order)?;
    let tty = hand_over(&mut made, what)?;
    record.progress.unfinished = false;
    room.add(&record.progress)?;
    if let Some(path) = &what.pid_file {
        place::replace(path, made.pid().to_string().as_bytes(), 0o644)?;
    }
    Ok(Filled { pidfd: made.leave()?, record, tty })
}

/// Who is waited for at sockets gets what comes over them.
fn hand_over(made: &mut Made, what: &Create) -> Result<Option<OwnedFd>, Failure> {
    let mut tty = made.take_tty();
    if let (Some(path), Some(master)) = (&what.console_socket, &tty) {
        console::send("--console-socket", path, b"/dev/ptmx", master.as_fd())?;
        tty = None;
    }
    if let Some(path) = &what.pidfd_socket {
        console::send("--pidfd-socket", path, b"pidfd", made.pidfd().as_fd())?;
    }
    Ok(tty)
}

/// Where a cgroup is made, under which name, and its path; `None`: there is none.
type Lies = (Cgroups, String, Option<PathBuf>);

/// Who makes its cgroup.
enum Home {
    /// We do, by files.
    Files(Lies),
    /// systemd, for its unit.
    Unit(Wanted),
}

impl Home {
    /// As far as it is known before anything is made.
    fn path(&self) -> Option<PathBuf> {
        match self {
            Self::Files((_, _, path)) => path.clone(),
            Self::Unit(_) => None,
        }
    }

    fn owner(&self) -> Option<Owner> {
        match self {
            Self::Files(_) => None,
            Self::Unit(wanted) => Some(wanted.owner()),
        }
    }
}

/// That of a container without systemd.
fn cgroups(global: &Global, bundle: &Bundle) -> Result<Lies, Failure> {
    let none = |why: &str| (Cgroups::none(why), "none".to_owned(), None);
    let Some(path) = bundle.cgroup(global) else { return Ok(none("switched off")) };
    let may_lack = match global.rootless {
        Rootless::True => true,
        Rootless::False => false,
        Rootless::Auto => !bundle.by_root,
    };
    match Cgroups::above(&path, Some(&bundle.spec.limits)) {
        Ok((cgroups, _)) if may_lack && !cgroups.roots().iter().all(|root| may_write(&root.path)) => {
            tracing::warn!("no cgroup of its own: no rights over what it would lie in");
            Ok(none("no rights over cgroups"))
        }
        Ok((cgroups, name)) => Ok((cgroups, name, Some(path))),
        Err(error) if may_lack && error.is_permission() => {
            tracing::warn!(error = %reason(&error), "no cgroup of its own");
            Ok(none("no rights over cgroups"))
        }
        Err(error) => Err(Failure::system("linux.cgroupsPath", reason(&error))),
    }
}

/// The cgroup that systemd makes for it, around this process.
fn given(mut wanted: Wanted, pid: i32, spec: &ContainerSpec, begun: &mut Begun) -> Result<Lies, Failure> {
    let path = wanted.start(pid, &spec.limits)?;
    let failed = |error| Failure::system("the cgroup of its unit", reason(&error));
    let (cgroups, name) = Cgroups::of_unit(&path, Some(&spec.limits)).map_err(failed)?;
    let groups = cgroups.find(&name).map_err(failed)?.identity();
    begun.unit = Some(Unit { owner: wanted.owner(), path: path.clone(), groups });
    Ok((cgroups, name, Some(path)))
}

fn may_write(dir: &Path) -> bool {
    rustix::fs::access(dir, rustix::fs::Access::WRITE_OK).is_ok()
}

/// The gate, open for both ends so that there is never an end of it; the report, its reading end first.
fn fifos(room: &Room) -> Result<(OwnedFd, (OwnedFd, OwnedFd)), Failure> {
    let failed = |error: rustix::io::Errno| Failure::system("cannot make a FIFO in the container's directory", error);
    let mode = Mode::from_raw_mode(0o600);
    for name in ["gate", "report"] {
        rustix::fs::mknodat(room.dir(), name, FileType::Fifo, mode, 0).map_err(failed)?;
    }
    let open = |name: &str, flags: OFlags| {
        rustix::fs::openat(room.dir(), name, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty()).map_err(failed)
    };
    let gate = open("gate", OFlags::RDWR)?;
    let report = open("report", OFlags::RDONLY | OFlags::NONBLOCK)?;
    Ok((gate, (report, open("report", OFlags::WRONLY)?)))
}
