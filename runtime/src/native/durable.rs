//! Start a runtime whose containers outlive it, or the next one of such: with the keeper that is there, or without one.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::adopted::{Adopted, Came, Earlier as Before, Unclaimed};
use super::start::{Parts, Speaking, assemble, directory, open_cgroups, ranges, roots, trace_fd};
use super::state::{Earlier, Instance};
use super::{Driver, End, NativeRuntime, Options, Orphans};
use crate::durable::{Kind, identity, read_label};
use crate::error::{Error, ErrorKind};
use crate::ids::Ranges;
use crate::keeper::{self, Found, Heir, Kept};
use crate::plan::wire::{self, Tree};

/// The name of the door in the state directory.
const DOOR: &str = "door";

/// How long a keeper that has nothing left may take to remove what it had.
const ENDING: Duration = Duration::from_secs(15);

impl NativeRuntime {
    /// Start a runtime whose containers outlive it, in a state directory of its own: the first one there, or the next. What
    /// an earlier one has left is in [`Adopted`]; [`Adopted::finish`] removes what of it nobody has claimed. Blocks: up to 10 s for
    /// a supervisor that is about to leave, up to 15 s for a keeper that is about to end.
    ///
    /// [`Options::end`] has to be [`End::Keep`], [`Options::state_dir`] given and this caller's alone (hold a lock on what is
    /// around it), [`Options::door`] left out.
    ///
    /// # Errors
    /// [`ErrorKind::State`] when another supervisor is there and does not leave; [`ErrorKind::Keeper`] for a keeper that
    /// speaks another protocol; else as [`NativeRuntime::start`].
    pub fn durable(options: Options) -> Result<(NativeRuntime, Driver, Adopted), Error> {
        if options.end != End::Keep || options.door.is_some() {
            let why = "a durable runtime keeps, and has its door in its state directory";
            return Err(Error::invalid(if options.door.is_some() { "door" } else { "end" }, why));
        }
        let Some(base) = options.state_dir.clone() else {
            return Err(Error::invalid("state_dir", "a durable runtime needs one of its own"));
        };
        if options.subreaper {
            rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
                .map_err(|error| Error::system("cannot become a subreaper", error).with_field("subreaper"))?;
        }
        let until = Instant::now() + ENDING;
        loop {
            let Some(earlier) = Earlier::find(&base)? else { return fresh(options, &base) };
            match keeper::adopt_for(&base.join(DOOR), wire::End::Keep, true) {
                Ok(found) => return with_keeper(options, earlier, found),
                Err(error) if !nobody_answers(&error) => return Err(error),
                Err(error) => {
                    if let Some(instance) = earlier.lock() {
                        return without_keeper(options, instance, earlier.listed());
                    }
                    if !earlier.is_gone() && Instant::now() > until {
                        return Err(
                            error.with_hint("somebody holds its lock: a keeper that cannot end, or a copy of it")
                        );
                    }
                }
            }
            // A keeper that ends tells nobody but by letting go of the lock.
            let pause = rustix::event::Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
            let _ = rustix::event::poll(&mut [], Some(&pause));
        }
    }
}

/// There is no keeper behind the door, or it has ended when we knocked.
fn nobody_answers(error: &Error) -> bool {
    let errno = error.errno();
    matches!(errno, Some(libc::ENOENT | libc::ECONNREFUSED | libc::ECONNRESET | libc::EPIPE))
        || (error.kind() == ErrorKind::Keeper && errno.is_none() && error.hint().is_none())
}

fn fresh(options: Options, base: &Path) -> Result<(NativeRuntime, Driver, Adopted), Error> {
    let mut instance = Instance::create(Some(base))?;
    instance.stay();
    // What was killed before it had a name.
    instance.sweep_dead();
    let cgroups = open_cgroups(&options, instance.name(), Vec::new())?;
    let parts = launch(&options, instance, cgroups)?;
    let (runtime, driver) = lasting(options, parts)?;
    let adopted = Adopted::new(&runtime.inner, Before::nothing(Came::Fresh));
    Ok((runtime, driver, adopted))
}

/// Supervisor and keeper are gone; the instance is ours.
fn without_keeper(
    options: Options,
    instance: Instance,
    (places, boot): (Vec<PathBuf>, String),
) -> Result<(NativeRuntime, Driver, Adopted), Error> {
    let same_boot = boot == identity::this_boot();
    let places = if same_boot { places } else { Vec::new() };
    let cgroups = open_cgroups(&options, instance.name(), places)?;
    let parts = launch(&options, instance, cgroups)?;
    let kill = options.orphans == Orphans::Kill;
    let (runtime, driver) = lasting(options, parts)?;
    let came = if same_boot { Came::KeeperGone } else { Came::Rebooted };
    let adopted = Adopted::new(&runtime.inner, Before { kill, ..Before::nothing(came) });
    Ok((runtime, driver, adopted))
}

/// A keeper for an instance that has none.
fn launch(options: &Options, mut instance: Instance, cgroups: crate::cgroup::Cgroups) -> Result<Parts, Error> {
    instance.record(&roots(&cgroups))?;
    let door = keeper::listen(&instance.base().join(DOOR))?;
    let keeper = Speaking::with(keeper::launch(options.keeper_path.as_deref())?, keeper::first_id());
    keeper.client.inherits();
    keeper.client.hello(wire::End::Keep, trace_fd(options)?, Some(door))?;
    tell_trees(&keeper.client, 0, &cgroups, &instance)?;
    let ranges = ranges(&keeper, &instance)?;
    let parts = Parts { keeper, cgroups, ranges, instance };
    lend_locks(&parts)?;
    Ok(parts)
}

/// What the keeper is to remove at its end, of which it knows the first ones; and another one, when it dies beside us.
fn tell_trees(
    client: &keeper::Client,
    known: usize,
    cgroups: &crate::cgroup::Cgroups,
    instance: &Instance,
) -> Result<(), Error> {
    let mut trees = vec![(Tree::Files, directory(instance.base())?, DOOR.to_owned())];
    trees.extend(cgroups.roots().into_iter().map(|root| (Tree::Cgroup, root.parent, root.name)));
    // Last: as long as it is there, so may be the others.
    trees.push((Tree::Files, directory(instance.base())?, instance.name().to_owned()));
    for (index, (tree, parent, name)) in trees.into_iter().enumerate() {
        if index >= known {
            let copy = parent.try_clone().map_err(|error| Error::system("cannot duplicate a directory", error))?;
            client.register(tree, copy, &name)?;
        }
        client.would_remove(tree, parent, &name);
    }
    Ok(())
}

/// The runtime, whose keeper is followed by another one when it dies.
fn lasting(options: Options, parts: Parts) -> Result<(NativeRuntime, Driver), Error> {
    let cgroup = parts.cgroups.roots().first().map(|root| format!("/{}", root.name));
    let (path, trace) = (options.keeper_path.clone(), trace_fd(&options)?);
    let (door, privileged) = (parts.instance.base().join(DOOR), parts.keeper.privileged);
    let without = options.without;
    let (runtime, mut driver) = assemble(options, parts);
    let present = Arc::clone(&runtime.inner.present);
    let userns = format!("/proc/{}/ns/user", present.pid.load(Ordering::Acquire));
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    let unknown = |error: &rustix::io::Errno| {
        tracing::warn!(%error, "another keeper would not be in the user namespace of this one: what runs could not be entered");
    };
    let open = || rustix::fs::open(userns, flags, rustix::fs::Mode::empty()).inspect_err(unknown).ok();
    let userns = if privileged { None } else { open() };
    let label = |request| Kind::Process.label(request, &[]);
    driver.keeper.followed_by(Heir { path, door, userns, trace, cgroup, label, without, present });
    Ok((runtime, driver))
}

/// The keeper has them open as well: they stay locked while there is no supervisor.
fn lend_locks(parts: &Parts) -> Result<(), Error> {
    let failed = |error| Error::system("cannot duplicate a lock", error);
    let client = &parts.keeper.client;
    client.store_lock(&Kind::Instance.label(0, &[]), parts.instance.lock().map_err(failed)?)?;
    match &parts.ranges {
        Some(ranges) => client.store_lock(&Kind::Ids.label(0, &[]), ranges.file().try_clone().map_err(failed)?.into()),
        None => Ok(()),
    }
}

/// The keeper is there, and everything is known.
fn with_keeper(options: Options, earlier: Earlier, found: Found) -> Result<(NativeRuntime, Driver, Adopted), Error> {
    let Found { client, driver, pidfd, enters_pidns, children, deadlines, kept, trees } = found;
    // Whatever fails here is no reason to cancel them.
    let deadlines = Unclaimed::of(deadlines);
    let gone = || Error::new(ErrorKind::Keeper, "the keeper is not in our pid namespace, or has ended");
    let pid = keeper::pid_of(&pidfd).ok_or_else(gone)?.cast_unsigned();
    let privileged = keeper::is_privileged();
    let ids = if privileged { None } else { keeper::maps::ids_of(pid) };
    let keeper = Speaking { client, driver, pid, privileged, enters_pidns, ids };
    let (places, _) = earlier.listed();
    let cgroups = open_cgroups(&options, earlier.name(), places)?;
    let (mut locks, kept): (Vec<Kept>, Vec<Kept>) =
        kept.into_iter().partition(|kept| kept.purpose == wire::Purpose::Lock);
    let mut lock = |wanted: Kind| {
        let is = |kept: &Kept| read_label(&kept.label).is_some_and(|(kind, ..)| kind == wanted);
        let at = locks.iter().position(is);
        at.map(|at| locks.swap_remove(at).fd)
    };
    let ids = lock(Kind::Ids);
    let held = lock(Kind::Instance);
    // One that could not be lent is held by nobody now.
    let unlent = held.is_none() || (privileged && ids.is_none());
    let instance = match held {
        Some(lock) => earlier.inherit(lock),
        None => {
            let taken = || Error::new(ErrorKind::State, "another supervisor has the instance").with_field("state_dir");
            earlier.lock().ok_or_else(taken)?
        }
    };
    let ranges = match ids.filter(|_| privileged) {
        Some(ids) => Some(Ranges::adopt(File::from(ids))),
        None => ranges(&keeper, &instance)?,
    };
    tell_trees(&keeper.client, trees, &cgroups, &instance)?;
    let parts = Parts { keeper, cgroups, ranges, instance };
    if unlent {
        lend_locks(&parts)?;
    }
    let (runtime, driver) = lasting(options, parts)?;
    let before = Before { children, deadlines, kept, ..Before::nothing(Came::KeeperLives) };
    let adopted = Adopted::new(&runtime.inner, before);
    Ok((runtime, driver, adopted))
}
