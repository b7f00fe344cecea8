//! The supervisor: what a service starts once and asks for everything.

mod budgets;
pub(crate) mod derived;
mod durable;
mod events;
#[cfg(any(test, feature = "faults"))]
mod faults;
mod follow;
mod groups;
#[cfg(feature = "metrics")]
mod metrics;
mod pools;
mod services;

use std::ffi::OsStr;
use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once, OnceLock, PoisonError};
use std::time::Duration;

use actix::Addr;
use actix_rt::ArbiterHandle;
use orangery_runtime::drivers::{DrivenRuntime, Program};
use orangery_runtime::durable::Adopted;
use orangery_runtime::native::{End, NativeRuntime, Options};
use orangery_runtime::rootfs::Layering;
use orangery_runtime::{Error as RuntimeError, ErrorKind as RuntimeErrorKind, ProcessSpec, Runtime};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::admission::{self, Admission, Amounts, Beside, Budget, Cost};
use crate::blocking;
use crate::clock::Clock;
use crate::command::{Command, Ways};
use crate::container::idle;
use crate::error::{Error, ErrorKind};
use crate::events::{Feed, HISTORY};
use crate::faults::Faults;
use crate::filter::Filter;
use crate::guard;
use crate::handle::{ContainerHandle, Inspect};
use crate::manager::actor::ManagerActor;
use crate::manager::msg::{Birth, Create, Find, List, ShutDown};
use crate::probe::Care;
use crate::process::recording::LogTo;
use crate::recovery::adopt::Ground;
use crate::recovery::{Lap, RecoveryReport, StateDir};
use crate::sandbox::Sandbox;
use crate::shard::{Shards, run_system};

use derived::derive;
pub(crate) use services::WeakSupervisor;

/// Starts containers and watches over them, on threads of its own. Cheap to clone; works from any runtime or none.
///
/// Dropping the last clone kills and removes everything without blocking; [`Supervisor::shutdown`] also waits.
///
/// A panic of one of its actors harms nobody in a host that unwinds. With `panic = "abort"` in the host's profile it is
/// the end of the host, as every panic is, and the keeper removes all containers; the library warns of it once.
///
/// ```no_run
/// # async fn f() -> Result<(), orangery::Error> {
/// let supervisor = orangery::Supervisor::new()?;
/// let output = supervisor.command("echo").arg("hi").run().await?;
/// assert_eq!(output.stdout.to_vec(), b"hi\n");
/// supervisor.shutdown().await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Supervisor {
    inner: Arc<Inner>,
    /// On whose behalf it is asked.
    caller: Arc<str>,
}

struct Inner {
    manager: Addr<ManagerActor>,
    system: ArbiterHandle,
    admission: Admission,
    faults: Faults,
    feed: Feed,
    groups: groups::Groups,
    pools: pools::Pools,
    stop: Arc<Notify>,
    ended: watch::Receiver<bool>,
    native: Option<NativeRuntime>,
    kill_patience: Duration,
    names: Mutex<u64>,
    prefix: String,
    /// Where what outlives us is written down.
    state: Option<Arc<StateDir>>,
    /// What was found there.
    recovery: Option<RecoveryReport>,
    /// What outlives us ends all the same.
    ends_all: Arc<AtomicBool>,
}

impl std::fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supervisor").finish_non_exhaustive()
    }
}

/// Configures a [`Supervisor`].
///
/// ```no_run
/// let supervisor = orangery::Supervisor::builder().shards(2).max_containers(100).build()?;
/// # Ok::<(), orangery::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct SupervisorBuilder {
    options: Options,
    shards: Option<usize>,
    budgets: Amounts,
    descriptors_free: u64,
    faults: Faults,
    clock: Clock,
    enter_leaf: bool,
    event_history: usize,
    kill_patience: Duration,
    durable: durable::Durable,
    program: Option<Program>,
}

impl SupervisorBuilder {
    /// Where the instance directory is made. Default: `/run/orangery`, or `$XDG_RUNTIME_DIR/orangery`.
    pub fn state_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.options.state_dir = Some(dir.into());
        self
    }

    /// An existing cgroup to make ours in. Default: our own.
    pub fn cgroup_parent(mut self, path: impl Into<PathBuf>) -> Self {
        self.options.cgroup_parent = Some(path.into());
        self
    }

    /// Start the keeper from this file, which is written if it is missing, instead of from memory: for security modules
    /// that attach profiles by path.
    pub fn keeper_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.options.keeper_path = Some(path.into());
        self
    }

    /// Move **this whole process** into a leaf of its own cgroup (v2) before anything is placed, so that the group may have
    /// controllers and limits work: for programs that own their process and were given a group of their own, as by
    /// `systemd-run --user --scope -p Delegate=yes`. Elsewhere (v1, hybrid, no rights) nothing is moved. Default: a host is
    /// never moved.
    pub fn enter_leaf(mut self) -> Self {
        self.enter_leaf = true;
        self
    }

    /// Use no cgroups: limits are refused.
    pub fn without_cgroups(mut self) -> Self {
        self.options.no_cgroups = true;
        self
    }

    /// Shards, each with a thread that starts with its first container. Default: the processors, at most 4.
    pub fn shards(mut self, count: usize) -> Self {
        self.shards = Some(count);
        self
    }

    /// Most containers at a time; one more is refused at once. Default: 4,096. The descriptors that they need are a limit
    /// of their own: [`containers_that_fit`](crate::containers_that_fit).
    pub fn max_containers(mut self, count: usize) -> Self {
        self.budgets = self.budgets.with(Budget::Containers, count as u64);
        self
    }

    /// How long the end of what was killed is waited for, before it is reported as [`Unkillable`](crate::Unkillable).
    /// Default: 30 s, since the kernel needs time to give back the memory of a large container. What is unkillable at a
    /// shutdown holds that up for ten seconds at each of its three steps, and is then left to the next start.
    pub fn kill_patience(mut self, patience: Duration) -> Self {
        self.kill_patience = patience;
        self
    }

    /// In which ways a root of layers may be made ([`Access::Overlay`](crate::Access::Overlay), several directories), tried in
    /// this order. Default: all of [`Layering::ALL`](crate::Layering::ALL);
    /// [`inspect`](crate::ContainerHandle::inspect) and the report say which it was, and why not one before it.
    pub fn layering(mut self, ways: impl IntoIterator<Item = Layering>) -> Self {
        self.options.layering = ways.into_iter().collect();
        self
    }

    /// Have this program make the containers, such as `Program::new("runc")`: runc, crun, youki, or our own `orangery-oci`.
    /// Default: we make them. Containers need a root that is not the host's ([`Rootfs`](crate::Rootfs)), and are not
    /// [durable](SupervisorBuilder::durable); what else it cannot have is refused by the field (docs/drivers.md).
    ///
    /// ```no_run
    /// use orangery::Program;
    /// let supervisor = orangery::Supervisor::builder().runtime(Program::new("crun")).build()?;
    /// # Ok::<(), orangery::Error>(())
    /// ```
    pub fn runtime(mut self, program: Program) -> Self {
        self.program = Some(program);
        self
    }

    /// Who decides at the fault points: see [`faults`](crate::faults).
    #[cfg(any(test, feature = "faults"))]
    pub fn fault_policy(mut self, policy: Arc<dyn crate::faults::FaultPolicy>) -> Self {
        self.faults = Faults::new(Some(policy));
        self
    }

    /// Have no use for these features of the kernel, as on an older one.
    #[cfg(any(test, feature = "faults"))]
    pub fn without(mut self, features: orangery_runtime::native::Without) -> Self {
        self.options.without = features;
        self
    }

    /// Have fault points, so that [`Supervisor::inject`] can arm plans. Costs a question at each of them, also for each read
    /// from a pipe. A [`SupervisorBuilder::fault_policy`] brings them along.
    #[cfg(any(test, feature = "faults"))]
    pub fn fault_points(mut self) -> Self {
        if self.faults.plans().is_none() {
            self.faults = Faults::new(None);
        }
        self
    }

    /// Live in a time that the test moves: for [`SupervisorBuilder::build_on`]. One clock for each supervisor.
    #[cfg(any(test, feature = "testing"))]
    pub fn clock(mut self, clock: &crate::testing::VirtualClock) -> Self {
        self.clock.told = Some(clock.clone());
        self
    }

    /// Start it.
    ///
    /// # Errors
    /// The keeper cannot be started, or the state directory or cgroup cannot be used.
    pub fn build(self) -> Result<Supervisor, Error> {
        if self.enter_leaf
            && let Err(error) = orangery_runtime::cgroup::enter_leaf()
        {
            tracing::info!(%error, "this process stays where it is in the cgroup tree");
        }
        let state = self.open_state()?;
        let mut options = self.options.clone();
        options.faults = self.faults.of_runtime();
        let mut lap = Lap::begin();
        if let Some(program) = self.program.clone() {
            if state.is_some() {
                let why = "containers that another program makes do not outlive their supervisor";
                return Err(RuntimeError::new(RuntimeErrorKind::Unsupported, why).with_field("runtime").into());
            }
            let (runtime, driver) = DrivenRuntime::start(program, options)?;
            let native = runtime.native().clone();
            return self.start(Arc::new(runtime), Some(native), (None, None, 0), |tell| driver.run_telling(tell));
        }
        let (runtime, driver, adopted) = match &state {
            Some(state) => {
                (options.end, options.state_dir) = (End::Keep, Some(state.runtime()));
                let (runtime, driver, adopted) = NativeRuntime::durable(options)?;
                (runtime, driver, Some(adopted))
            }
            None => {
                let (runtime, driver) = NativeRuntime::start(options)?;
                (runtime, driver, None)
            }
        };
        let native = runtime.clone();
        self.start(Arc::new(runtime), Some(native), (state, adopted, lap.us()), |tell| driver.run_telling(tell))
    }

    /// Start it on another runtime: a scripted fake.
    ///
    /// # Errors
    /// No thread can be started.
    #[cfg(any(test, feature = "testing"))]
    pub fn build_on(self, runtime: Arc<dyn Runtime>) -> Result<Supervisor, Error> {
        let state = self.open_state()?;
        self.start(runtime, None, (state, None, 0), |_| std::future::ready(()))
    }

    fn start<D: Future<Output = ()> + Send + 'static>(
        self,
        runtime: Arc<dyn Runtime>,
        native: Option<NativeRuntime>,
        (state, adopted, keeper_us): (Option<Arc<StateDir>>, Option<Adopted>, u64),
        driver: impl FnOnce(events::Tell) -> D,
    ) -> Result<Supervisor, Error> {
        if cfg!(panic = "abort") {
            static SAID: Once = Once::new();
            SAID.call_once(|| {
                tracing::warn!(
                    "built with panic=abort: a panic of an actor ends the whole process, and the keeper cleans up"
                );
            });
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let prefix = random_prefix();
        let shards = Shards::new(self.shards.unwrap_or(cores.min(4)), self.clock, &thread_name(&prefix));
        let stop = Arc::new(Notify::new());
        let feed = Feed::new(self.event_history);
        let (sender, receiver) = std::sync::mpsc::channel();
        let (for_system, for_shards, faults) = (Arc::clone(&stop), shards.clone(), self.faults.clone());
        let (keeper, tell) = events::Watch::new(&feed);
        #[cfg(any(test, feature = "faults"))]
        self.faults.observe(&feed);
        let (for_end_of_faults, groups) = (self.faults.clone(), groups::Groups::default());
        let for_end_of_groups = groups.clone();
        let (driver, voice) = (driver(tell), feed.voice());
        let ends_all = Arc::new(AtomicBool::new(false));
        let admission = Admission::new(self.budgets, self.descriptors_free);
        let door = admission.door(&"".into());
        let (for_recovery, patience, counted) =
            (state.clone(), self.kill_patience, native.as_ref().is_some_and(NativeRuntime::counts_cpu));
        let leaves = state.clone().map(|state| (state, shards.clone()));
        let part = guard::Part { actor: "manager", process: None, voice: voice.clone(), span: tracing::Span::none() };
        let system = move || async move {
            let driver = tokio::spawn(driver);
            let for_manager = Arc::clone(&runtime);
            let (begun, mut all_begun) = mpsc::channel(1);
            let found = match &for_recovery {
                Some(state) => {
                    let ground = Ground { state, voice: &voice, patience, counted, door, begun };
                    durable::recover(ground, adopted).await.map(Some)
                }
                None => {
                    drop(begun);
                    Ok(None)
                }
            };
            let (mut recovery, restored) = match found {
                Ok(found) => found.unzip(),
                Err(error) => {
                    let _ = sender.send(Err(error));
                    runtime.shutdown().await;
                    let _ = driver.await;
                    return;
                }
            };
            let (mut restored, mut lap) = (restored.unwrap_or_default(), Lap::begin());
            let kept_running = (std::mem::take(&mut restored.services), std::mem::take(&mut restored.groups));
            let manager =
                guard::start(ManagerActor::new(for_manager, for_shards, faults, voice, restored), part, || ());
            // Each is found from the first moment on.
            let _ = all_begun.recv().await;
            if let Some(found) = &mut recovery {
                (found.took.keeper_us, found.took.lines_us) = (keeper_us, lap.us());
                tracing::info!(?found, "recovered");
            }
            let _ = sender.send(Ok((manager.clone(), actix_rt::Arbiter::current(), recovery, kept_running)));
            for_system.notified().await;
            keeper.leave();
            for_end_of_faults.end_plans();
            match leaves.filter(|(state, _)| state.is_left()) {
                Some((_, shards)) => leave(shards, &runtime).await,
                None => {
                    for_end_of_groups.close();
                    close(&manager, &runtime).await;
                }
            }
            let _ = tokio::time::timeout(PATIENCE, for_end_of_faults.plans_ended()).await;
            let _ = driver.await;
        };
        let for_end = (feed.clone(), state.clone());
        let end = move || {
            let (feed, state) = for_end;
            feed.close();
            if let Some(state) = state {
                state.release();
            }
        };
        let ended = run_system(shards, system, end)
            .map_err(|error| Error::from(orangery_runtime::Error::system("cannot start a thread", error)))?;
        let begun = receiver.recv();
        let (manager, system, recovery, (services, groups_of_them)) =
            begun.map_err(|_| Error::new(ErrorKind::System, "the supervisor's thread ended at its start"))??;
        let inner = Inner {
            manager,
            system,
            admission,
            faults: self.faults,
            feed,
            groups,
            pools: pools::Pools::default(),
            stop,
            ended,
            native,
            kill_patience: self.kill_patience,
            names: Mutex::new(0),
            prefix,
            state,
            recovery,
            ends_all,
        };
        let supervisor = Supervisor { inner: Arc::new(inner), caller: "".into() };
        blocking::block_on(supervisor.go_on(services, groups_of_them))?;
        Ok(supervisor)
    }
}

/// How long a shutdown waits for containers that do not go: a reader holds up their output, or the kernel their
/// removal. The keeper's own end then takes them along.
const PATIENCE: Duration = Duration::from_secs(10);

/// Kill everything, wait until nothing is left, end the runtime.
async fn close(manager: &Addr<ManagerActor>, runtime: &Arc<dyn Runtime>) {
    let emptied = async {
        // A panic loses the message in hand: asked again, until there is an answer or the manager is broken.
        for _ in 0..=guard::BUDGET {
            let (reply, done) = oneshot::channel();
            manager.do_send(ShutDown { reply });
            if done.await.is_ok() {
                break;
            }
        }
    };
    if tokio::time::timeout(PATIENCE, emptied).await.is_err() {
        tracing::warn!("containers are left after {} s: the keeper ends and removes them", PATIENCE.as_secs());
    }
    runtime.shutdown().await;
}

/// Everything goes on without us. Nothing is read any more when the runtime lets go, so that nobody else does at the same
/// time.
async fn leave(shards: Shards, runtime: &Arc<dyn Runtime>) {
    let _ = tokio::task::spawn_blocking(move || shards.join()).await;
    runtime.shutdown().await;
}

/// What all threads of a supervisor are called: told apart from those of another one, in 15 bytes.
fn thread_name(prefix: &str) -> String {
    format!("orangery-{}", prefix.get(..6).unwrap_or(prefix))
}

fn random_prefix() -> String {
    format!("{:012x}", random() >> 16)
}

pub(crate) fn random() -> u64 {
    let mut bytes = [0u8; 8];
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    u64::from_ne_bytes(bytes)
}

impl Supervisor {
    /// Start one with the defaults.
    ///
    /// # Errors
    /// The keeper cannot be started; the hint says what to change on this machine.
    pub fn new() -> Result<Self, Error> {
        Self::builder().build()
    }

    /// Configure one.
    pub fn builder() -> SupervisorBuilder {
        SupervisorBuilder {
            options: Options::default(),
            shards: None,
            budgets: admission::default_limits(),
            descriptors_free: 0,
            enter_leaf: false,
            faults: Faults::default(),
            clock: Clock::default(),
            event_history: HISTORY,
            kill_patience: Duration::from_secs(30),
            durable: durable::Durable::default(),
            program: None,
        }
    }

    /// The process's own supervisor, started on first use, and anew when the last one was shut down, has lost its
    /// keeper, or has nobody who answers.
    ///
    /// # Errors
    /// As for [`Supervisor::new`], each time until it succeeds.
    pub fn shared() -> Result<Self, Error> {
        static SHARED: OnceLock<Mutex<Option<Supervisor>>> = OnceLock::new();
        let shared = SHARED.get_or_init(Mutex::default);
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        match &*shared {
            Some(supervisor) if supervisor.is_usable() => Ok(supervisor.clone()),
            _ => Ok(shared.insert(Self::new()?).clone()),
        }
    }

    /// Neither shut down nor without its keeper or its manager.
    fn is_usable(&self) -> bool {
        !self.is_ending()
            && self.inner.manager.connected()
            && self.native().is_none_or(|native| !native.keeper_is_dead())
    }

    /// A command, to be run in a sandbox.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        Command::new(Ok(self.clone()), program.as_ref())
    }

    pub(crate) fn create(
        &self,
        sandbox: &Sandbox,
        mut main: ProcessSpec,
        ways: Ways,
        (capture, log, care): (Option<Duration>, Option<LogTo>, Care),
        birth: Birth,
        patience: Option<Duration>,
    ) -> impl Future<Output = Result<ContainerHandle, Error>> + Send + 'static + use<> {
        let (supervisor, sandbox) = (self.clone(), sandbox.clone());
        async move {
            let description = &sandbox.inner;
            Error::all(care.check())?;
            let mut birth = birth;
            if description.idle.is_some() && log.is_none() {
                idle::heard(&main)?;
            }
            let (spoken_to, probes) = (care.descriptors(), care.commands() + ways.hooks.commands());
            let beside = Beside { captured: capture.is_some(), logged: log.is_some(), spoken_to, probes };
            let cost = Cost::of_container(description, &main, beside);
            let permit = match birth.permit.take() {
                Some(permit) => permit,
                None => supervisor.admitted(cost, patience).await?,
            };
            let meters = supervisor.inner.feed.meters();
            let mut spec = description.spec.clone();
            if spec.id.is_empty() {
                spec.id = supervisor.name();
            }
            let faults = supervisor.inner.faults.of(&spec.id, &description.labels, birth.generation);
            faults.pass_admission().inspect_err(|error| meters.refused(error))?;
            if spec.without_init && ways.hooks.post_stop.is_some() {
                let why = "without an init the container ends with its command, and nothing can be run in it any more";
                return Err(Error::invalid("post_stop", why));
            }
            let (terms, policy) =
                derive(description, &mut main, ways, care, supervisor.native().is_some_and(NativeRuntime::counts_cpu));
            let (reply, answer) = oneshot::channel();
            supervisor.inner.manager.do_send(Create {
                spec,
                main,
                terms,
                policy,
                patience: supervisor.inner.kill_patience,
                labels: description.labels.clone(),
                ring_bytes: description.ring_bytes,
                capture,
                log,
                permit,
                birth,
                faults,
                reply,
            });
            let alive = match answer.await {
                Ok(Err(given_up)) if given_up.kind() == ErrorKind::State && supervisor.is_ending() => {
                    return Err(Error::shut_down());
                }
                answer => answer.map_err(|_| supervisor.lost())??,
            };
            if alive.0.lasting.is_some() {
                // It is theirs who have asked for it; from now on it is nobody's alone.
                alive.0.detached.store(true, Ordering::Release);
            }
            Ok(ContainerHandle::new(alive, supervisor.inner.system.clone()))
        }
    }

    /// It was shut down, whether that is done or goes on.
    fn is_ending(&self) -> bool {
        self.inner.admission.is_closed() || *self.inner.ended.borrow()
    }

    /// Why an answer did not come.
    pub(crate) fn lost(&self) -> Error {
        if self.is_ending() { Error::shut_down() } else { Error::lost_request() }
    }

    /// A name that no other container of this machine has.
    pub(crate) fn name(&self) -> String {
        let mut names = self.inner.names.lock().unwrap_or_else(PoisonError::into_inner);
        *names += 1;
        format!("{}-{}", self.inner.prefix, *names)
    }

    /// A handle of the container with this id, also of a detached one; `None` when there is none or it has not started
    /// yet. Processes of it: [`ContainerHandle::process_by_id`].
    ///
    /// The handle is one of the container's handles like that of `spawn`: the container is killed when the last of all of
    /// them is dropped, unless it was detached, then dropping it does nothing. A container is found until it is removed
    /// and its report is written.
    ///
    /// ```
    /// # async fn f(supervisor: orangery::Supervisor) -> Result<(), orangery::Error> {
    /// supervisor.command("sleep").arg("100").id("job-7").spawn().await?.detach();
    /// // Later, elsewhere:
    /// if let Some(job) = supervisor.container("job-7").await? {
    ///     job.kill()?;
    ///     println!("{:?}", job.wait().await?.exit);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The supervisor is shut down.
    ///
    /// # Cancel safety
    /// May be dropped at any moment: as if the handle had been dropped.
    pub fn container(
        &self,
        id: &str,
    ) -> impl Future<Output = Result<Option<ContainerHandle>, Error>> + Send + 'static + use<> {
        let (supervisor, id) = (self.clone(), id.to_owned());
        async move {
            let (reply, answer) = oneshot::channel();
            supervisor.inner.manager.do_send(Find { id, reply });
            let found = answer.await.map_err(|_| supervisor.lost())?;
            Ok(found.and_then(|slot| ContainerHandle::attach(slot, supervisor.inner.system.clone())))
        }
    }

    /// Everything that exists, in order of ids.
    ///
    /// # Errors
    /// The supervisor is shut down.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub fn list(&self) -> impl Future<Output = Result<Vec<Inspect>, Error>> + Send + 'static + use<> {
        let (reply, answer) = oneshot::channel();
        self.inner.manager.do_send(List { reply });
        let supervisor = self.clone();
        async move {
            let slots = answer.await.map_err(|_| supervisor.lost())?;
            Ok(slots.iter().map(|slot| Inspect::of(slot)).collect())
        }
    }

    /// [`Supervisor::list`], of those that `filter` wants.
    ///
    /// # Errors
    /// The supervisor is shut down.
    ///
    /// # Cancel safety
    /// Nothing is changed; may be dropped and called again.
    pub fn list_matching(
        &self,
        filter: &Filter,
    ) -> impl Future<Output = Result<Vec<Inspect>, Error>> + Send + 'static + use<> {
        let (supervisor, filter) = (self.clone(), filter.clone());
        async move {
            let mut found = supervisor.list().await?;
            found.retain(|container| filter.matches(container));
            Ok(found)
        }
    }

    /// What all its threads are called.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn thread_name(&self) -> String {
        thread_name(&self.inner.prefix)
    }

    /// The runtime underneath: its plan, its keeper, its cgroup mode. `None` on a fake.
    #[must_use]
    pub fn native(&self) -> Option<&NativeRuntime> {
        self.inner.native.as_ref()
    }

    /// Kill and remove everything, end the keeper, join all threads. Idempotent: a second call joins the first. What
    /// does not go within ten seconds is left to the keeper, which kills and removes it at its end. What is asked for from
    /// now on is refused with [`ErrorKind::ShutDown`], and so is what waits for room, for its turn, or is being made.
    ///
    /// # Cancel safety
    /// The shut-down goes on when the future is dropped.
    pub fn shutdown(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        self.end_all()
    }

    /// [`Supervisor::shutdown`] for programs without a runtime.
    pub fn shutdown_blocking(&self) {
        blocking::block_on(self.shutdown());
    }
}

impl Inner {
    /// Begin the end. Whoever asks for something from here on, or waits for it, is told that it is shut down.
    fn end(&self) {
        // First: a service whose restart is refused by our end has not ended.
        if let Some(state) = self.state.as_ref().filter(|_| !self.ends_all.load(Ordering::Acquire)) {
            state.leave();
        }
        self.admission.close();
        self.stop.notify_one();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.end();
    }
}
