//! A runtime with its driver, and containers with the probe in them.

use std::path::PathBuf;

use orangery_runtime::native::{NativeRuntime, Options};
use orangery_runtime::spec::{Mount, Stdio};
use orangery_runtime::{Container, ContainerSpec, Errors, Evidence, Exit, ExitStatus, ProcessSpec, Runtime, Started};
use serde_json::Value;

use crate::{Scene, wait};

/// Where the probe is in a container.
pub const PROBE: &str = "/probe";

/// A running runtime.
pub struct Host {
    /// The runtime itself.
    pub rt: NativeRuntime,
    probe: PathBuf,
    root: bool,
}

/// What came of one process.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub exit: Exit,
    /// What it wrote to standard output.
    pub out: String,
    /// And to standard error.
    pub err: String,
}

impl Outcome {
    /// The exit code; a signal is a failure.
    pub fn code(&self) -> i32 {
        match self.exit.status {
            ExitStatus::Code(code) => code,
            other => panic!("{other:?}; out {:?} err {:?}", self.out, self.err),
        }
    }

    /// Standard output as JSON, of a process that ended well.
    pub fn json(&self) -> Value {
        assert_eq!(self.code(), 0, "out {:?} err {:?}", self.out, self.err);
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error} in {:?}", self.out))
    }
}

impl Scene {
    /// Start a runtime, play, shut it down, wait until its keeper is gone.
    pub fn play(&self, play: impl AsyncFnOnce(&Host)) {
        self.play_with(self.options(), play);
    }

    /// The same with other options.
    pub fn play_with(&self, options: Options, play: impl AsyncFnOnce(&Host)) {
        self.block_on(async {
            let (rt, driver) = NativeRuntime::start(options).expect("a runtime");
            let driver = tokio::spawn(driver.run());
            let host = Host { rt, probe: self.probe().to_path_buf(), root: self.root() };
            play(&host).await;
            wait::soon("shutdown", host.rt.shutdown()).await;
            wait::soon("the driver's end", driver).await.expect("no panic");
        });
    }

    /// A tokio runtime for one future; gone afterwards with all its threads.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("tokio");
        runtime.block_on(future)
    }
}

impl Host {
    /// Of a runtime that a trial started itself.
    #[must_use]
    pub fn new(rt: NativeRuntime, scene: &Scene) -> Self {
        Self { rt, probe: scene.probe().to_path_buf(), root: scene.root() }
    }

    /// Running as root.
    #[must_use]
    pub fn root(&self) -> bool {
        self.root
    }

    /// The default sandbox, with the probe.
    #[must_use]
    pub fn spec(&self, id: &str) -> ContainerSpec {
        let mut spec = ContainerSpec::default();
        spec.id = id.to_owned();
        spec.mounts.push(Mount::bind(self.probe.clone(), PROBE).read_only());
        spec
    }

    /// Make a container whose main process is `main`.
    ///
    /// # Errors
    /// The runtime's.
    pub async fn create(&self, spec: ContainerSpec, main: ProcessSpec) -> Result<Box<dyn Container>, Errors> {
        wait::soon("create", self.rt.create(spec, main)).await
    }

    /// A refused creation.
    pub async fn refused(&self, spec: ContainerSpec, main: ProcessSpec) -> Errors {
        match self.create(spec, main).await {
            Ok(_) => panic!("it was not refused"),
            Err(errors) => errors,
        }
    }

    /// A whole life: create, start, read, wait, delete.
    pub async fn once(&self, spec: ContainerSpec, main: ProcessSpec) -> Outcome {
        self.life(spec, main).await.0
    }

    /// The same, with the evidence.
    pub async fn life(&self, spec: ContainerSpec, main: ProcessSpec) -> (Outcome, Evidence) {
        let container = self.create(spec, main).await.unwrap_or_else(|errors| panic!("create: {errors}"));
        let started = wait::soon("start", container.start()).await.unwrap_or_else(|error| panic!("start: {error}"));
        let outcome = outcome(started).await;
        let evidence = wait::soon("finish", container.finish()).await;
        wait::soon("delete", container.delete()).await.unwrap_or_else(|error| panic!("delete: {error}"));
        (outcome, evidence)
    }

    /// What the probe sees in the default sandbox, changed by `change`; `paths` are looked at too.
    pub async fn see(&self, paths: &[&str], change: impl FnOnce(&mut ContainerSpec, &mut ProcessSpec)) -> Value {
        let (mut spec, mut main) = (self.spec("see"), see(paths));
        change(&mut spec, &mut main);
        self.once(spec, main).await.json()
    }
}

/// The probe with a sub-command, its output piped.
#[must_use]
pub fn probe(args: &[&str]) -> ProcessSpec {
    let mut all = vec![PROBE];
    all.extend_from_slice(args);
    command(&all)
}

/// The probe, looking.
#[must_use]
pub fn see(paths: &[&str]) -> ProcessSpec {
    let mut args = vec!["see"];
    args.extend_from_slice(paths);
    probe(&args)
}

/// Any command, its output piped.
#[must_use]
pub fn command(argv: &[&str]) -> ProcessSpec {
    let mut process = ProcessSpec::default();
    process.argv = argv.iter().map(Into::into).collect();
    process.stdout = Stdio::Piped;
    process.stderr = Stdio::Piped;
    process
}

/// Read a started process's output and wait for its end. What is printed to a terminal is not read.
pub async fn outcome(started: Started) -> Outcome {
    let Started { stdin, stdout, stderr, exit, tty, .. } = started;
    drop(stdin);
    let (_printed, stdout) = if tty.is_some() { (stdout, None) } else { (None, stdout) };
    let read = async |pipe: Option<std::os::fd::OwnedFd>| match pipe {
        Some(pipe) => wait::all(pipe).await,
        None => String::new(),
    };
    let (out, err, exit) =
        wait::soon("the end of a process", async { tokio::join!(read(stdout), read(stderr), exit) }).await;
    Outcome { exit: exit.expect("an exit"), out, err }
}
