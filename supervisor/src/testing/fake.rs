//! A scripted runtime for tests: containers that exist only here, with real pipes, driven by the test.
//!
//! It is never chosen inside the product: only [`SupervisorBuilder::build_on`](crate::SupervisorBuilder::build_on)
//! takes it, behind the feature `testing`.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use orangery_runtime::cgroup::{Limits, Stats};
use orangery_runtime::spec::Stdio;
use orangery_runtime::spec::UnmetLimit;
use orangery_runtime::{
    BoxFuture, Container, ContainerSpec, Error, ErrorKind, Errors, Evidence, Exit, ExitStatus, Held, HeldProcess,
    Pause, ProcessSpec, Root, Runtime, Started,
};
use tokio::sync::{oneshot, watch};

/// What the fake has seen and what it still holds.
#[derive(Default)]
struct Scene {
    log: Vec<String>,
    started: VecDeque<Actor>,
    alive: usize,
    readings: u64,
    no_freezer: bool,
    /// Containers whose processes no kill ends.
    asleep: BTreeSet<String>,
    refuse: Option<Error>,
    refuse_update: Option<Error>,
}

/// The test's side of one started process.
pub struct Actor {
    env: Vec<(OsString, OsString)>,
    stdin: Option<std::fs::File>,
    stdout: Option<std::fs::File>,
    exit: Option<oneshot::Sender<Exit>>,
}

impl std::fmt::Debug for Actor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Actor").finish_non_exhaustive()
    }
}

impl Actor {
    /// Write to its standard output.
    ///
    /// # Panics
    /// When its standard output is closed.
    pub fn say(&mut self, bytes: &[u8]) {
        let written = self.stdout.as_mut().map(|out| out.write_all(bytes));
        assert!(matches!(written, Some(Ok(()))), "the pipe is open: {written:?}");
    }

    /// Read everything from its standard input, to the end of file, where it is piped. Blocks until that comes.
    ///
    /// # Panics
    /// When it is not piped, or was read before.
    pub fn hear(&mut self) -> Vec<u8> {
        let mut heard = Vec::new();
        let read = self.stdin.take().map(|mut stdin| stdin.read_to_end(&mut heard));
        assert!(matches!(read, Some(Ok(_))), "there is a standard input: {read:?}");
        heard
    }

    /// The value of this variable of its environment.
    #[must_use]
    pub fn env(&self, name: &str) -> Option<String> {
        let found = self.env.iter().find(|(have, _)| have == name);
        found.map(|(_, value)| value.to_string_lossy().into_owned())
    }

    /// Close its standard output; it runs on.
    pub fn hang_up(&mut self) {
        self.stdout = None;
    }

    /// End it with this code, its output closed.
    pub fn exit(mut self, code: i32) {
        self.end(ExitStatus::Code(code));
    }

    /// End it with this code while something that it started still holds its output: what is returned.
    pub fn leave(mut self, code: i32) -> Option<std::fs::File> {
        let held = self.stdout.take();
        self.end(ExitStatus::Code(code));
        held
    }

    fn end(&mut self, status: ExitStatus) {
        self.stdout = None;
        if let Some(exit) = self.exit.take() {
            let _ = exit.send(Exit::new(status, None, orangery_runtime::native::now_ns()));
        }
    }
}

/// The scripted runtime. Clones are the same one.
#[derive(Clone, Default)]
pub struct FakeRuntime {
    scene: Arc<Mutex<Scene>>,
    changed: watch::Sender<u64>,
}

impl std::fmt::Debug for FakeRuntime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FakeRuntime").finish_non_exhaustive()
    }
}

impl FakeRuntime {
    fn scene(&self) -> MutexGuard<'_, Scene> {
        self.scene.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, what: impl Into<String>) {
        self.scene().log.push(what.into());
        self.changed.send_modify(|count| *count += 1);
    }

    /// The next creation fails with this.
    pub fn refuse(&self, error: Error) {
        self.scene().refuse = Some(error);
    }

    /// The next update of limits fails with this.
    pub fn refuse_update(&self, error: Error) {
        self.scene().refuse_update = Some(error);
    }

    /// From now on there is no freezer.
    pub fn without_freezer(&self) {
        self.scene().no_freezer = true;
    }

    /// From now on the processes of this container sleep so deeply, as in a wait for a disk that does not answer, that no
    /// kill ends them.
    pub fn fall_asleep(&self, id: &str) {
        self.scene().asleep.insert(id.to_owned());
    }

    /// From now on a kill ends them again. Those that were killed while they slept die of the next one.
    pub fn wake(&self, id: &str) {
        self.scene().asleep.remove(id);
        self.changed.send_modify(|count| *count += 1);
    }

    /// What was asked of it, in order.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.scene().log.clone()
    }

    /// Containers that are made and not deleted.
    #[must_use]
    pub fn alive(&self) -> usize {
        self.scene().alive
    }

    /// How often counters were read; each reading has this number, from 1, as its `cpu_usage_ns`.
    #[must_use]
    pub fn readings(&self) -> u64 {
        self.scene().readings
    }

    /// The next process that was started and not yet taken.
    pub async fn actor(&self) -> Actor {
        let mut changes = self.changed.subscribe();
        loop {
            if let Some(actor) = self.scene().started.pop_front() {
                return actor;
            }
            let _ = changes.changed().await;
        }
    }

    /// Wait until something that begins with `line` was asked of it.
    pub async fn saw(&self, line: &str) {
        let mut changes = self.changed.subscribe();
        while !self.scene().log.iter().any(|seen| seen.starts_with(line)) {
            let _ = changes.changed().await;
        }
    }

    /// Wait until no container is left.
    pub async fn empty(&self) {
        let mut changes = self.changed.subscribe();
        while self.alive() > 0 {
            let _ = changes.changed().await;
        }
    }
}

impl Runtime for FakeRuntime {
    fn create(&self, spec: ContainerSpec, main: ProcessSpec) -> BoxFuture<Result<Box<dyn Container>, Errors>> {
        let fake = self.clone();
        Box::pin(async move {
            if let Some(error) = fake.scene().refuse.take() {
                return Err(Errors(vec![error]));
            }
            fake.scene().alive += 1;
            fake.note(format!("create {}", spec.id));
            let container = FakeContainer { id: spec.id, main, fake, killed: Arc::default(), deleted: Arc::default() };
            Ok(Box::new(container) as Box<dyn Container>)
        })
    }

    fn check(&self, _: &ContainerSpec, _: &ProcessSpec) -> Result<(), Errors> {
        Ok(())
    }

    fn shutdown(&self) -> BoxFuture<()> {
        self.note("shutdown");
        Box::pin(std::future::ready(()))
    }
}

struct FakeContainer {
    id: String,
    main: ProcessSpec,
    fake: FakeRuntime,
    /// Fires when the container is killed; each process takes it as its end.
    killed: Arc<watch::Sender<bool>>,
    deleted: Arc<Mutex<bool>>,
}

impl FakeContainer {
    fn begin(&self, spec: &ProcessSpec, what: &str) -> Result<Started, Error> {
        let failed = |error: rustix::io::Errno| Error::system("cannot make a pipe", error);
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(failed)?;
        let stdout = matches!(spec.stdout, Stdio::Piped).then_some(read);
        let (heard, stdin) = if matches!(spec.stdin, Stdio::Piped) {
            let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(failed)?;
            (Some(read.into()), Some(write))
        } else {
            (None, None)
        };
        let (exit, told) = oneshot::channel();
        let (sender, receiver) = oneshot::channel();
        let mut killed = self.killed.subscribe();
        tokio::spawn(async move {
            tokio::select! {
                biased;
                Ok(exit) = told => { let _ = sender.send(exit); }
                _ = killed.wait_for(|killed| *killed) => {
                    let signal = ExitStatus::Signal { signal: 9, core_dumped: false };
                    let _ = sender.send(Exit::new(signal, None, orangery_runtime::native::now_ns()));
                }
            }
        });
        let env = spec.env.clone();
        self.fake.scene().started.push_back(Actor { env, stdin: heard, stdout: Some(write.into()), exit: Some(exit) });
        self.fake.note(format!("{what} {}", self.id));
        // A pidfd is any descriptor here: the fake never signals a real process.
        let pidfd = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(failed)?.0;
        Ok(Started {
            pid: 1,
            pidfd: Arc::new(pidfd),
            exit: receiver,
            stdin,
            stdout,
            stderr: None,
            tty: None,
            listener: None,
            group: None,
            held: None,
        })
    }
}

fn ready<T: Send + 'static>(value: T) -> BoxFuture<T> {
    Box::pin(std::future::ready(value))
}

impl Container for FakeContainer {
    fn start(&self) -> BoxFuture<Result<Started, Error>> {
        ready(self.begin(&self.main, "start"))
    }

    fn exec(&self, process: ProcessSpec) -> BoxFuture<Result<Started, Error>> {
        ready(self.begin(&process, "exec"))
    }

    fn kill(&self) -> Result<(), Error> {
        self.fake.note(format!("kill {}", self.id));
        if self.fake.scene().asleep.contains(&self.id) {
            return Ok(());
        }
        self.killed.send_replace(true);
        // Whatever still holds the write ends dies with the container.
        for actor in &mut self.fake.scene().started {
            actor.stdout = None;
        }
        Ok(())
    }

    fn pause(&self, how: Pause) -> BoxFuture<Result<(), Error>> {
        if how == Pause::Freeze && self.fake.scene().no_freezer {
            return ready(Err(Error::new(ErrorKind::Unsupported, "there is no freezer").with_field("pause")));
        }
        self.fake.note(format!("{} {}", if how == Pause::Freeze { "pause" } else { "stop" }, self.id));
        ready(Ok(()))
    }

    fn resume(&self) -> BoxFuture<Result<(), Error>> {
        self.fake.note(format!("resume {}", self.id));
        ready(Ok(()))
    }

    fn update(&self, _: Limits) -> Result<Vec<UnmetLimit>, Error> {
        self.fake.note(format!("update {}", self.id));
        self.fake.scene().refuse_update.take().map_or_else(|| Ok(Vec::new()), Err)
    }

    fn stats(&self) -> Stats {
        let mut scene = self.fake.scene();
        scene.readings += 1;
        let mut stats = Stats::default();
        stats.cpu_usage_ns = Some(scene.readings);
        stats
    }

    /// In the network of the test itself: what it listens on there is the container's.
    fn socket(&self, family: u32, kind: u32) -> BoxFuture<Result<OwnedFd, Error>> {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
        let (stream, flags) = (kind & 0xf, SocketFlags::from_bits_retain(kind & !0xf) | SocketFlags::CLOEXEC);
        let family = AddressFamily::from_raw(u16::try_from(family).unwrap_or_default());
        let made = socket_with(family, SocketType::from_raw(stream), flags, None);
        ready(made.map_err(|error| Error::system("cannot make a socket", error).with_field("socket")))
    }

    fn signal(&self, _: &OwnedFd, signal: i32) -> Result<(), Error> {
        self.fake.note(format!("signal {} {signal}", self.id));
        Ok(())
    }

    fn finish(&self) -> BoxFuture<Evidence> {
        self.fake.note(format!("finish {}", self.id));
        let (fake, id, mut changed) = (self.fake.clone(), self.id.clone(), self.fake.changed.subscribe());
        Box::pin(async move {
            while fake.scene().asleep.contains(&id) {
                let _ = changed.changed().await;
            }
            Evidence::default()
        })
    }

    fn delete(&self) -> BoxFuture<Result<(), Error>> {
        if self.fake.scene().asleep.contains(&self.id) {
            return Box::pin(std::future::pending());
        }
        let mut deleted = self.deleted.lock().unwrap_or_else(PoisonError::into_inner);
        if !*deleted {
            *deleted = true;
            self.fake.scene().alive -= 1;
            self.fake.note(format!("delete {}", self.id));
        }
        ready(Ok(()))
    }

    fn held(&self) -> Held {
        let process = HeldProcess { pid: 1, state: 'D', name: "prog".into() };
        let mut held = Held::default();
        held.processes.push(process);
        held
    }

    fn root(&self) -> Result<Root, Error> {
        Err(Error::new(ErrorKind::State, "a fake has no root"))
    }

    fn init_pid(&self) -> i32 {
        1
    }

    fn cgroup_mode(&self) -> String {
        "fake".into()
    }
}

impl Drop for FakeContainer {
    fn drop(&mut self) {
        let mut deleted = self.deleted.lock().unwrap_or_else(PoisonError::into_inner);
        if !*deleted {
            *deleted = true;
            self.fake.scene().alive -= 1;
            self.fake.note(format!("drop {}", self.id));
        }
    }
}
