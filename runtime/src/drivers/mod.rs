//! runc, crun, youki and whatever else has their command line as a [`Runtime`](crate::Runtime): what an embedder chooses who
//! wants another program to make the containers. Exits, streams, limits, counters and removal stay ours
//! (docs/drivers.md has the table).
//!
//! ```text
//!  CheckedSpec ─ refused ─ config, process, mounts, seccomp ─► config.json        pure, here
//!                native/driven/: a call of the program ─► keeper ─► runc create ─► pid file ─► the keeper claims it
//! ```

use std::path::PathBuf;
use std::time::Duration;

pub(crate) mod config;
mod flavour;
mod mounts;
mod process;
pub(crate) mod refused;
mod seccomp;
pub(crate) mod words;

pub use crate::native::driven::{DrivenRuntime, flavour_of};
pub use flavour::{Flavour, Kind};
pub(crate) use mounts::scratch;
pub(crate) use process::written;

use crate::plan::idmap::IdMap;
use crate::spec::CheckedSpec;

/// Where the first process of a container with an init is inside. In /dev, which is always made anew.
pub(crate) const INIT: &str = "/dev/.orangery-init";

/// The mask of a process that gives none.
pub(crate) const UMASK: u32 = 0o022;

/// A program with runc's command line.
///
/// ```
/// use std::time::Duration;
/// use orangery_runtime::drivers::Program;
/// let crun = Program::new("/usr/bin/crun").arg("--cgroup-manager=cgroupfs").patience(Duration::from_secs(20));
/// # let _ = crun;
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Program {
    /// Its path, or a name that is looked for in PATH and the usual places.
    pub path: PathBuf,
    /// Options that each call gets before the command.
    pub args: Vec<String>,
    /// Further environment of each call; it has a PATH of its own and nothing of ours.
    pub env: Vec<(String, String)>,
    /// How long one call may take; then it is killed, and that is an error.
    pub patience: Duration,
}

impl Program {
    /// This one. A call may take 60 seconds.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), args: Vec::new(), env: Vec::new(), patience: Duration::from_secs(60) }
    }

    /// With a further option before the command of each call.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// With a variable in its environment.
    #[must_use]
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }

    /// How long one call may take.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// What it is called in errors.
    pub(crate) fn name(&self) -> String {
        self.path.file_name().map_or_else(|| "the runtime".into(), |name| name.to_string_lossy().into_owned())
    }
}

/// What a config.json depends on beside the spec.
pub(crate) struct Layout<'a> {
    pub(crate) spec: &'a CheckedSpec,
    pub(crate) ids: Option<&'a IdMap>,
    /// The container's group, from the top of each hierarchy on.
    pub(crate) cgroup: Option<&'a str>,
    /// Where the call finds what is the host's: `rootfs`, `binds/N`, `scratch`, `init`.
    pub(crate) place: &'a str,
    /// The machine has version 2 alone.
    pub(crate) unified: bool,
}

impl Layout<'_> {
    /// pid 1 is ours.
    pub(crate) fn has_init(&self) -> bool {
        !self.spec.container().without_init
    }
}

/// What was [checked](refused) to be UTF-8.
fn text(word: impl AsRef<std::ffi::OsStr>) -> String {
    word.as_ref().to_string_lossy().into_owned()
}
