//! A supervisor in a process of its own, to be killed: the trial's program again, in the trial's scene.

use std::io::{BufRead as _, BufReader};
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::process::{PidfdGetfdFlags, pidfd_getfd};

use crate::stock::{Process, descendants};
use crate::{Scene, wait};

/// Tells the process that it is the victim, and what it does.
const VICTIM: &str = "ORANGERY_TEST_VICTIM";

/// What this process is to do, if it is a victim.
#[must_use]
pub fn role() -> Option<String> {
    std::env::var(VICTIM).ok()
}

/// Whatever it waits for itself has failed by then.
const LIMIT: Duration = wait::PATIENCE.saturating_mul(2);

/// The killed-to-be, and what it says.
#[derive(Debug)]
pub struct Victim {
    does: String,
    process: Child,
    said: BufReader<ChildStdout>,
}

impl Victim {
    /// Start this trial once more, as the victim.
    #[must_use]
    pub fn start(scene: &Scene, does: &str) -> Self {
        Self::with_arguments(scene, does, &[])
    }

    /// As [`Victim::start`], for one that reads its standard input.
    #[must_use]
    pub fn with_input(scene: &Scene, does: &str, input: OwnedFd) -> Self {
        Self::spawn(scene, does, &[], input.into())
    }

    /// As [`Victim::start`], for one that looks at its arguments.
    #[must_use]
    pub fn with_arguments(scene: &Scene, does: &str, arguments: &[&std::ffi::OsStr]) -> Self {
        Self::spawn(scene, does, arguments, Stdio::null())
    }

    #[expect(clippy::disallowed_methods, reason = "a supervisor that can be killed")]
    fn spawn(scene: &Scene, does: &str, arguments: &[&std::ffi::OsStr], input: Stdio) -> Self {
        let mut process = Command::new(std::env::current_exe().expect("us"));
        let mut process = scene
            .share(&mut process)
            .args(arguments)
            .env(VICTIM, does)
            .stdin(input)
            .stdout(Stdio::piped())
            .spawn()
            .expect("a victim");
        let said = BufReader::new(process.stdout.take().expect("stdout"));
        Self { does: does.to_owned(), process, said }
    }

    /// The next line that it says.
    pub fn line(&mut self) -> String {
        let says = !self.said.buffer().is_empty() || wait::readable(self.said.get_ref(), LIMIT);
        assert!(says, "the victim says nothing: {:?}", self.does);
        let mut line = String::new();
        self.said.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// SIGKILL, reaped.
    pub fn kill(&mut self) {
        self.process.kill().expect("killed");
        self.process.wait().expect("reaped");
    }

    /// SIGSTOP: when this returns none of its threads does anything any more.
    pub fn stop(&self) {
        wait::stop(wait::pidfd(self.pid()));
    }

    /// It ends by itself.
    pub fn end(&mut self) {
        let ended = wait::child(&mut self.process, LIMIT).expect("waited");
        assert!(ended.is_some(), "the victim does not come to its end: {:?}", self.does);
    }

    /// It has ended by itself.
    pub fn ended(&mut self) -> bool {
        self.process.try_wait().expect("waited").is_some()
    }

    /// All that it has started, held by pidfds so that numbers cannot be confused.
    #[must_use]
    pub fn family(&self) -> Vec<(Process, OwnedFd)> {
        descendants(self.process.id())
            .into_iter()
            .filter_map(|process| Some((process.clone(), wait::try_pidfd(process.pid)?)))
            .collect()
    }

    /// Copies of all its sockets, as a process holds them that it has forked without an exec.
    #[must_use]
    pub fn sockets(&self) -> Vec<OwnedFd> {
        let pidfd = wait::pidfd(self.process.id());
        let fds = std::fs::read_dir(format!("/proc/{}/fd", self.process.id())).expect("its descriptors").flatten();
        let sockets = fds.filter(|fd| {
            std::fs::read_link(fd.path()).is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
        });
        let numbers = sockets.filter_map(|fd| fd.file_name().to_str()?.parse().ok());
        numbers.map(|number| pidfd_getfd(&pidfd, number, PidfdGetfdFlags::empty()).expect("a copy")).collect()
    }
}

/// The keeper of a family.
#[must_use]
pub fn keeper(family: &[(Process, OwnedFd)]) -> &(Process, OwnedFd) {
    family.iter().find(|(process, _)| process.name == "orangery-keeper").expect("a keeper")
}

/// Reap what fell to us, the subreaper.
pub fn reap_adopted() {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    while waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG).is_ok_and(|ended| ended.is_some()) {}
}
