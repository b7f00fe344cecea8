//! How long a command runs and how it is ended, main or further process alike.

use std::time::Duration;

use orangery_runtime::ProcessSpec;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::hook::Hooks;
use crate::ids::ProcessRole;
use crate::ladder::StopLadder;
use crate::output_limit::OutputLimit;
use crate::process::slot::Terms;
use crate::process::wall::Wall;

/// See the file's head.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ways {
    pub(crate) wall: Option<Duration>,
    /// At the end of the wall limit.
    pub(crate) at_wall: StopLadder,
    /// At a stop.
    pub(crate) at_stop: StopLadder,
    /// What goes with a stop.
    pub(crate) hooks: Hooks,
}

impl Default for Ways {
    fn default() -> Self {
        Self { wall: None, at_wall: StopLadder::new(), at_stop: StopLadder::default(), hooks: Hooks::default() }
    }
}

impl Ways {
    /// Everything that is wrong with it.
    pub(crate) fn check(&self) -> Result<(), Error> {
        Error::all(
            [self.at_stop.check("stop_ladder"), self.at_wall.check("timeout_ladder"), self.hooks.check()].concat(),
        )
    }

    /// With what the sandbox says, where the command says nothing.
    pub(crate) fn terms(self, main: &ProcessSpec, wall: Option<Duration>, may_write: Option<OutputLimit>) -> Terms {
        let Self { wall: own, at_wall, at_stop, hooks: _ } = self;
        let wall = own.or(wall).map(|limit| Wall { limit, ladder: at_wall });
        let (limits, rlimits) = (main.limits.clone(), main.rlimits.clone());
        Terms { role: ProcessRole::Exec, ladder: at_stop, wall, may_write, limits, rlimits }
    }
}
