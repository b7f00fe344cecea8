//! What whoever starts the daemon brings along: how a spec becomes a command. So its keys are those of the command line, and
//! a table of them that could differ does not exist.

use std::path::Path;

use orangery::{Command, GroupBuilder, Supervisor};
use serde_json::Value;

use crate::wire::{Create, CreateGroup, Problem};

/// How a spec becomes a command. Called on threads that may block.
pub trait Make: Send + Sync + 'static {
    /// What is asked for, under this name, its output going into a log in `log`. Nothing is made yet.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its field.
    fn command(&self, supervisor: &Supervisor, name: &str, create: &Create, log: &Path) -> Result<Made, Box<Problem>>;

    /// The group that is asked for, with the names of its containers. `logs`: where each has its log, by its name.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its field.
    fn group(&self, supervisor: &Supervisor, create: &CreateGroup, logs: &Path) -> Result<MadeGroup, Box<Problem>>;

    /// The JSON schema of a [`Spec`](crate::wire::Spec), for the document of the interface.
    fn spec_schema(&self) -> Value;
}

/// A container that can be started.
#[derive(Debug)]
pub struct Made {
    /// What is started.
    pub command: Command,
    /// It is kept running: [`Command::supervise`].
    pub kept: bool,
}

/// A group that can be started.
#[derive(Debug)]
pub struct MadeGroup {
    /// What is started.
    pub group: GroupBuilder,
    /// Its containers in the order of the file, each by its name, as one that is asked for alone.
    pub members: Vec<(String, Create)>,
}
