//! Who answers what the filters of a container ask (`linux.seccomp.listenerPath`).

use std::os::fd::{AsFd as _, OwnedFd};

use orangery_runtime::spec::FilterListener;
use orangery_runtime::{Error, ErrorKind};
use serde_json::json;

use crate::console;
use crate::hooks::Told;

/// Give it the listener of the process `pid`, with the container's state.
///
/// # Errors
/// Nobody listens there.
pub(crate) fn tell(agent: Option<&FilterListener>, listener: OwnedFd, pid: i32, state: &Told) -> Result<(), Error> {
    // Refused before there is a process.
    let Some(agent) = agent else { return Ok(()) };
    let mut said = json!({ "ociVersion": state.version(), "fds": ["seccompFd"], "pid": pid, "state": state });
    if !agent.metadata.is_empty() {
        said["metadata"] = agent.metadata.clone().into();
    }
    let sent = console::send("linux.seccomp.listenerPath", &agent.path, said.to_string().as_bytes(), listener.as_fd());
    sent.map_err(|failure| Error::new(ErrorKind::System, format!("failed to connect with seccomp agent: {failure}")))
}
