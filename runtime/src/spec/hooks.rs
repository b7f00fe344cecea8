//! Programs that a bundle has run at points of its container's life.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Hook {
    /// The program, an absolute path.
    pub path: PathBuf,
    /// Its arguments, its own name first; none: the path is its name.
    pub args: Vec<String>,
    /// Its environment, complete, as `KEY=VALUE`; `None`: that of whoever runs it, and of one in the container none.
    pub env: Option<Vec<String>>,
    /// Seconds after which it is killed and has failed; 0: never.
    pub timeout: u32,
}

/// When a [`Hook`] runs, in the order of a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookKind {
    /// As [`HookKind::CreateRuntime`], before it: an older name.
    Prestart,
    /// By whoever makes the container, when its namespaces and mounts are there and its root is not yet `/`.
    CreateRuntime,
    /// The same moment, in the container's namespaces, where the path is the host's still.
    CreateContainer,
    /// In the container, right before its command.
    StartContainer,
    /// Outside, when its command runs.
    Poststart,
    /// Outside, when it is gone.
    Poststop,
}

impl HookKind {
    /// Its name in a bundle.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Prestart => "prestart",
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
            Self::StartContainer => "startContainer",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        }
    }

    /// It runs in the container's namespaces.
    #[must_use]
    pub fn is_inside(self) -> bool {
        matches!(self, Self::CreateContainer | Self::StartContainer)
    }
}

/// All of a bundle, each list in the order in which they run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Hooks {
    /// See [`HookKind::Prestart`].
    pub prestart: Vec<Hook>,
    /// See [`HookKind::CreateRuntime`].
    pub create_runtime: Vec<Hook>,
    /// See [`HookKind::CreateContainer`].
    pub create_container: Vec<Hook>,
    /// See [`HookKind::StartContainer`].
    pub start_container: Vec<Hook>,
    /// See [`HookKind::Poststart`].
    pub poststart: Vec<Hook>,
    /// See [`HookKind::Poststop`].
    pub poststop: Vec<Hook>,
}

impl Hooks {
    /// Those of a kind.
    #[must_use]
    pub fn of(&self, kind: HookKind) -> &[Hook] {
        match kind {
            HookKind::Prestart => &self.prestart,
            HookKind::CreateRuntime => &self.create_runtime,
            HookKind::CreateContainer => &self.create_container,
            HookKind::StartContainer => &self.start_container,
            HookKind::Poststart => &self.poststart,
            HookKind::Poststop => &self.poststop,
        }
    }

    /// There are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Some run while the container is made: it has to wait for them.
    #[must_use]
    pub fn hold_up(&self) -> bool {
        !(self.prestart.is_empty() && self.create_runtime.is_empty() && self.create_container.is_empty())
    }
}
