//! A supervisor's side of it: what it writes down, and the supervisor that is killed.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use orangery_runtime::durable::{Adopted, Came, Claim, ClaimedProcess, ContainerRecord, ProcessRecord};
use orangery_runtime::native::{Driver, End, NativeRuntime, Options};
use orangery_runtime::spec::{Hold, LogFile};
use orangery_runtime::{Container, ContainerSpec, ProcessSpec, Runtime as _, Started};
use orangery_tests::victim::{self, Victim, keeper, reap_adopted};
use orangery_tests::wait;
use orangery_tests::{Host, Scene};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::task::JoinHandle;

pub(crate) const NO_LIMIT: u64 = u64::MAX;

/// Options of a durable runtime in the scene.
pub(crate) fn options(scene: &Scene) -> Options {
    let mut options = scene.options();
    options.end = End::Keep;
    options
}

pub(crate) fn log(scene: &Scene, label: &str) -> PathBuf {
    scene.dir().join(format!("{label}.log"))
}

/// Its output goes into the log of its label; its end is kept.
pub(crate) fn held(scene: &Scene, label: &str, mut process: ProcessSpec) -> ProcessSpec {
    process.hold = Some(hold(scene, label));
    process
}

pub(crate) fn hold(scene: &Scene, label: &str) -> Hold {
    let mut hold = Hold::new(label);
    hold.stdout = Some(log_file(&log(scene, label)));
    hold
}

pub(crate) fn log_file(path: &Path) -> LogFile {
    let file = File::options().write(true).create(true).truncate(false).open(path).expect("a log");
    LogFile { file: Arc::new(file.into()), most: NO_LIMIT }
}

/// Write something down as a supervisor does: whole or not at all.
pub(crate) fn save(scene: &Scene, name: &str, value: &impl Serialize) {
    let path = scene.dir().join(name);
    let young = path.with_extension("young");
    fs::write(&young, serde_json::to_vec(value).expect("written")).expect("written");
    fs::rename(&young, &path).expect("in place");
}

pub(crate) fn load<T: DeserializeOwned>(scene: &Scene, name: &str) -> Option<T> {
    let bytes = fs::read(scene.dir().join(name)).ok()?;
    Some(serde_json::from_slice(&bytes).expect("as it was written"))
}

/// Make a container and write it down.
pub(crate) async fn create(host: &Host, scene: &Scene, spec: ContainerSpec, main: ProcessSpec) -> Box<dyn Container> {
    let id = spec.id.clone();
    let container = host.create(spec, main).await.expect("created");
    save(scene, &id, &container.record().expect("a record"));
    container.written_down();
    container
}

/// Start its main process and write that down.
pub(crate) async fn start(container: &dyn Container, scene: &Scene, label: &str) -> Started {
    let started = wait::soon("start", container.start()).await.expect("started");
    save_process(scene, label, &started);
    started
}

/// What the victim has to the last: nothing of it is given back.
pub(crate) fn stays<T: 'static>(value: T) {
    Box::leak(Box::new(value));
}

/// Write a process down.
pub(crate) fn save_process(scene: &Scene, label: &str, started: &Started) {
    save(scene, &process_of(label), &started.held.as_ref().expect("it is held").record);
}

fn process_of(label: &str) -> String {
    format!("{label}.process")
}

/// The number of a process that was written down.
pub(crate) fn pid_of(scene: &Scene, label: &str) -> u32 {
    let record: ProcessRecord = load(scene, &process_of(label)).expect("written");
    record.process().pid().cast_unsigned()
}

/// A runtime that is alive, with what an earlier one has left.
pub(crate) struct Next {
    pub(crate) rt: NativeRuntime,
    pub(crate) adopted: Adopted,
    driver: JoinHandle<()>,
}

impl Next {
    pub(crate) fn start(options: Options) -> Self {
        let (rt, driver, adopted): (NativeRuntime, Driver, Adopted) =
            NativeRuntime::durable(options).expect("a durable runtime");
        Self { rt, adopted, driver: tokio::spawn(driver.run()) }
    }

    /// It has come to what an earlier one has left.
    pub(crate) fn after(scene: &Scene, came: Came) -> Self {
        let next = Self::start(options(scene));
        assert_eq!(next.adopted.came(), came);
        next
    }

    /// The container of this name, as it was written down.
    pub(crate) async fn container(&mut self, scene: &Scene, name: &str) -> Option<Box<dyn Container>> {
        let record: ContainerRecord = load(scene, name).expect("it was written down");
        wait::soon("claim", self.adopted.container(Claim::new(record))).await.expect("claimed")
    }

    /// The process of this label, as far as it was written down.
    pub(crate) async fn process(&mut self, scene: &Scene, container: &str, label: &str, main: bool) -> ClaimedProcess {
        let record: Option<ProcessRecord> = load(scene, &process_of(label));
        let claimed = self.adopted.process(container, label.as_bytes(), record.as_ref(), main);
        wait::soon("claim", claimed).await.expect("claimed")
    }

    /// A process that is there.
    pub(crate) async fn found(&mut self, scene: &Scene, container: &str, label: &str, main: bool) -> Started {
        match self.process(scene, container, label, main).await {
            ClaimedProcess::Found(started) => *started,
            other => panic!("{label} was not found: {other:?}"),
        }
    }

    /// Nothing is claimed any more; what is left can be looked at.
    pub(crate) async fn finish(self) -> (Living, orangery_runtime::durable::Leftovers) {
        let Self { rt, adopted, driver } = self;
        let left = wait::soon("finish", adopted.finish()).await;
        (Living { rt, driver }, left)
    }
}

/// A runtime that has claimed what it wants.
pub(crate) struct Living {
    pub(crate) rt: NativeRuntime,
    driver: JoinHandle<()>,
}

impl Living {
    /// It leaves, and its keeper has nothing left: everything is gone.
    pub(crate) async fn end(self, scene: &Scene) {
        let keeper = wait::pidfd(self.rt.keeper_pid());
        self.leave().await;
        wait::gone(&keeper, "the keeper");
        reap_adopted();
        let left: Vec<_> = fs::read_dir(scene.state_dir()).expect("the state directory").flatten().collect();
        // That of the ranges, where /run cannot be used, stays for whoever comes.
        let left: Vec<_> = left.iter().map(|entry| entry.file_name()).filter(|name| *name != *"ids").collect();
        assert!(left.is_empty(), "{left:?}");
        assert!(scene.cgroups().is_empty(), "{:?}", scene.cgroups());
        let _ = fs::remove_dir_all(scene.state_dir());
    }

    /// It leaves.
    pub(crate) async fn leave(self) {
        let Self { rt, driver } = self;
        wait::soon("shutdown", rt.shutdown()).await;
        drop(rt);
        wait::soon("the driver's end", driver).await.expect("no panic");
    }

    pub(crate) fn host(&self, scene: &Scene) -> Host {
        Host::new(self.rt.clone(), scene)
    }
}

/// Play the supervisor that is to be killed, if that is what this process is. It stays until it is.
pub(crate) fn be_victim(scene: &Scene, play: impl AsyncFnOnce(&Host, &str, Adopted)) -> bool {
    be_victim_with(scene, options(scene), play)
}

pub(crate) fn be_victim_with(scene: &Scene, options: Options, play: impl AsyncFnOnce(&Host, &str, Adopted)) -> bool {
    let Some(role) = victim::role() else { return false };
    // The state directory is the runtime's own.
    let _ = fs::DirBuilder::new().mode(0o700).create(scene.state_dir());
    scene.block_on(async {
        let Next { rt, adopted, driver } = Next::start(options);
        let host = Host::new(rt, scene);
        play(&host, &role, adopted).await;
        println!("ready");
        std::future::pending::<()>().await;
        drop(driver);
    });
    true
}

/// A victim that has said that it is ready, and its keeper.
pub(crate) fn victim(scene: &Scene, role: &str) -> (Victim, OwnedFd) {
    let mut victim = Victim::start(scene, role);
    assert_eq!(victim.line(), "ready");
    let family = victim.family();
    let keeper = keeper(&family).1.try_clone().expect("a copy");
    (victim, keeper)
}

/// All that is in a pipe up to its end, and in the log before it.
pub(crate) fn written(scene: &Scene, label: &str, pipe: Option<OwnedFd>) -> Vec<u8> {
    use std::io::Read as _;
    let mut bytes = fs::read(log(scene, label)).expect("the log");
    if let Some(pipe) = pipe {
        File::from(pipe).read_to_end(&mut bytes).expect("read");
    }
    bytes
}
