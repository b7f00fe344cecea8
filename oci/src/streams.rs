//! What a process of a container inherits from this command: its standard streams, and further descriptors.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use orangery_runtime::ProcessSpec;
use orangery_runtime::spec::Stdio;

use crate::failure::Failure;

/// Taken before anything else is opened, as they are known by their numbers alone.
#[derive(Debug, Default)]
pub(crate) struct Preserved {
    fds: Vec<Arc<OwnedFd>>,
    /// As many of them are sockets that somebody listens at for the container.
    listening: usize,
}

/// Sockets that whoever activates us has handed to us for the container (sd_listen_fds(3)). Some callers say for whom, and some do not.
pub(crate) fn listening() -> usize {
    let number = |name: &str| std::env::var(name).ok()?.parse::<usize>().ok();
    let ours = std::env::var_os("LISTEN_PID").is_none()
        || number("LISTEN_PID").and_then(|pid| u32::try_from(pid).ok()) == Some(std::process::id());
    number("LISTEN_FDS").filter(|_| ours).unwrap_or(0)
}

impl Preserved {
    /// So many, from 3 up.
    ///
    /// # Errors
    /// One of them is not open.
    pub(crate) fn take(count: usize) -> Result<Preserved, Failure> {
        let taken = orangery_runtime::sys::from_three(count)
            .map_err(|number| Failure::new(format!("--preserve-fds: descriptor {number} is not open")))?;
        Ok(Preserved { fds: taken.into_iter().map(Arc::new).collect(), listening: 0 })
    }

    /// Those that are [listened](listening) at, and so many more.
    ///
    /// # Errors
    /// As [`Preserved::take`].
    pub(crate) fn take_listening(count: usize) -> Result<Preserved, Failure> {
        let listening = listening();
        Ok(Preserved { listening, ..Self::take(listening.saturating_add(count))? })
    }
}

/// Give ours to `process`; with a terminal of its own it has none of the three.
///
/// # Errors
/// No descriptor is left.
pub(crate) fn give(process: &mut ProcessSpec, preserved: Preserved) -> Result<(), Failure> {
    process.preserved = preserved.fds;
    if preserved.listening > 0 {
        // The first process's own number, where it has a pid namespace of its own. As with runc it is said wherever it has none as well.
        for (name, value) in [("LISTEN_FDS", preserved.listening.to_string()), ("LISTEN_PID", "1".to_owned())] {
            process.env.retain(|(have, _)| have != name);
            process.env.push((name.into(), value.into()));
        }
    }
    if process.tty.is_none() {
        process.stdin = stream(std::io::stdin().as_fd())?;
        process.stdout = stream(std::io::stdout().as_fd())?;
        process.stderr = stream(std::io::stderr().as_fd())?;
    }
    Ok(())
}

fn stream(ours: BorrowedFd<'_>) -> Result<Stdio, Failure> {
    let copy =
        ours.try_clone_to_owned().map_err(|error| Failure::system("cannot duplicate a standard stream", error))?;
    Ok(Stdio::Fd(Arc::new(copy)))
}

/// The same process, as it can be written down.
pub(crate) fn without(process: &ProcessSpec) -> ProcessSpec {
    let mut process = process.clone();
    (process.stdin, process.stdout, process.stderr) = (Stdio::Null, Stdio::Null, Stdio::Null);
    process.preserved.clear();
    process
}
