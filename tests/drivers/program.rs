//! The programs, and a runtime that drives one.

use std::path::PathBuf;

use orangery_runtime::drivers::{DrivenRuntime, Program};
use orangery_runtime::spec::{Access, Rootfs, UserNamespace};
use orangery_runtime::{Container, ContainerSpec, Errors, Evidence, ProcessSpec, Runtime as _};
use orangery_tests::host::{Outcome, outcome};
use orangery_tests::{Scene, wait};

/// Tells this program that it is `orangery-oci`.
const ROLE: &str = "ORANGERY_TEST_OCI";

/// Tells this program that it sends something that is no terminal to the socket of this path.
pub(crate) const SENDS: &str = "ORANGERY_TEST_SENDS";

pub(crate) fn send_something(socket: &std::ffi::OsStr) -> std::process::ExitCode {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
    let null = std::fs::File::open("/dev/null").expect("there");
    let to = std::os::unix::net::UnixStream::connect(socket).expect("somebody listens");
    let fds = [std::os::fd::AsFd::as_fd(&null)];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    let sent = rustix::net::sendmsg(&to, &[std::io::IoSlice::new(b"x")], &mut control, SendFlags::empty());
    sent.map_or(std::process::ExitCode::FAILURE, |_| std::process::ExitCode::SUCCESS)
}

pub(crate) fn is_the_program() -> bool {
    std::env::var_os(ROLE).is_some()
}

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Runc,
    Crun,
    Youki,
    Ours,
}

impl Which {
    fn name(self) -> &'static str {
        match self {
            Self::Runc => "runc",
            Self::Crun => "crun",
            Self::Youki => "youki",
            Self::Ours => "orangery-oci",
        }
    }

    /// Why it cannot be tried here.
    pub(crate) fn lacks(self) -> Option<&'static str> {
        let search = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
        let has = |name: &str| search.iter().any(|dir| PathBuf::from(dir).join(name).is_file());
        match self {
            Self::Ours => None,
            Self::Runc => (!has("runc")).then_some("needs runc"),
            Self::Crun => (!has("crun")).then_some("needs crun"),
            Self::Youki => (!has("youki")).then_some("needs youki"),
        }
    }

    pub(crate) fn program(self) -> Program {
        match self {
            Self::Ours => Program::new(std::env::current_exe().expect("us")).env(ROLE, "1"),
            other => {
                let dirs = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"].map(PathBuf::from);
                let found = dirs.into_iter().map(|dir| dir.join(other.name())).find(|path| path.is_file());
                Program::new(found.expect("it is installed"))
            }
        }
    }
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A runtime that drives a program, and an image.
pub(crate) struct Host {
    pub(crate) rt: DrivenRuntime,
    pub(crate) image: PathBuf,
}

/// Start one, play, shut it down, wait until its keeper is gone.
pub(crate) fn play(scene: &Scene, which: Which, play: impl AsyncFnOnce(&Host)) {
    play_with(scene, which.program(), play);
}

pub(crate) fn play_with(scene: &Scene, program: Program, play: impl AsyncFnOnce(&Host)) {
    let image = scene.dir().join("image");
    let image = if image.exists() { image } else { scene.image("image") };
    scene.block_on(async {
        let (rt, driver) = DrivenRuntime::start(program, scene.options()).expect("a runtime");
        let driver = tokio::spawn(driver.run());
        let host = Host { rt, image };
        play(&host).await;
        wait::soon("shutdown", host.rt.shutdown()).await;
        wait::soon("the driver's end", driver).await.expect("no panic");
    });
}

impl Host {
    /// The image, read-only, with the host's ids, where they are ours to give.
    pub(crate) fn spec(&self, id: &str) -> ContainerSpec {
        let mut spec = ContainerSpec::default();
        spec.id = id.to_owned();
        spec.rootfs = Rootfs::Dir { path: self.image.clone(), access: Access::ReadOnly };
        if is_root() {
            spec.user_namespace = UserNamespace::Host;
        }
        spec
    }

    pub(crate) async fn create(&self, spec: ContainerSpec, main: ProcessSpec) -> Box<dyn Container> {
        let made = wait::soon("create", self.rt.create(spec, main)).await;
        made.unwrap_or_else(|errors| panic!("create: {errors}"))
    }

    pub(crate) async fn refused(&self, spec: ContainerSpec, main: ProcessSpec) -> Errors {
        match wait::soon("create", self.rt.create(spec, main)).await {
            Ok(_) => panic!("it was not refused"),
            Err(errors) => errors,
        }
    }

    /// A whole life.
    pub(crate) async fn life(&self, spec: ContainerSpec, main: ProcessSpec) -> (Outcome, Evidence) {
        let container = self.create(spec, main).await;
        let started = wait::soon("start", container.start()).await.unwrap_or_else(|error| panic!("start: {error}"));
        let outcome = outcome(started).await;
        let evidence = wait::soon("finish", container.finish()).await;
        wait::soon("delete", container.delete()).await.unwrap_or_else(|error| panic!("delete: {error}"));
        (outcome, evidence)
    }
}
