//! What a process of a container inherits from this command: its standard streams, and further descriptors.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use orangery_runtime::ProcessSpec;
use orangery_runtime::spec::Stdio;

use crate::args::Command;
use crate::failure::Failure;

/// Taken before anything else is opened, as they are known by their numbers alone.
#[derive(Debug, Default)]
pub(crate) struct Preserved {
    fds: Vec<Arc<OwnedFd>>,
    /// Theirs.
    numbers: Vec<u16>,
    /// As many of them are sockets that somebody listens at for the container.
    listening: usize,
}

/// Sockets that whoever activates us has handed to us for the container (sd_listen_fds(3)). Some callers say for whom, and some do not.
fn listening() -> usize {
    let number = |name: &str| std::env::var(name).ok()?.parse::<usize>().ok();
    let ours = std::env::var_os("LISTEN_PID").is_none()
        || number("LISTEN_PID").and_then(|pid| u32::try_from(pid).ok()) == Some(std::process::id());
    number("LISTEN_FDS").filter(|_| ours).unwrap_or(0)
}

impl Preserved {
    /// What a command asks for: those that are [listened](listening) at, and so many more. To be called before anything is opened.
    ///
    /// As with crun, a number that nobody has opened is none of them, and the others keep theirs.
    ///
    /// # Errors
    /// What is open cannot be read.
    pub(crate) fn of(command: &Command) -> Result<Preserved, Failure> {
        let (listening, count) = match command {
            Command::Create(what) => (listening(), what.preserve_fds),
            Command::Run(what) => (listening(), what.create.preserve_fds),
            Command::Exec(what) => (0, what.preserve_fds),
            _ => return Ok(Preserved::default()),
        };
        let count = count.saturating_add(listening);
        if count == 0 {
            return Ok(Preserved::default());
        }
        let numbers = open_ones(count).map_err(|error| Failure::system("cannot read /proc/self/fd", error))?;
        let taken = orangery_runtime::sys::taken(&numbers);
        let (numbers, fds) = taken.into_iter().map(|(number, fd)| (number, Arc::new(fd))).unzip();
        Ok(Preserved { fds, numbers, listening })
    }
}

/// Which of `count` numbers from 3 up are open, in their order.
fn open_ones(count: usize) -> std::io::Result<Vec<u16>> {
    let entries = std::fs::read_dir("/proc/self/fd")?;
    let numbers: Vec<u16> = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    let wanted = 3..count.saturating_add(3);
    // That of the directory, which is closed by now, is no longer there.
    let is_open = |number: u16| std::fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_ok();
    let is_wanted = |number: &u16| wanted.contains(&usize::from(*number)) && is_open(*number);
    let mut open: Vec<u16> = numbers.into_iter().filter(is_wanted).collect();
    open.sort_unstable();
    Ok(open)
}

/// Give ours to `process`; with a terminal of its own it has none of the three.
///
/// # Errors
/// No descriptor is left.
pub(crate) fn give(process: &mut ProcessSpec, preserved: Preserved) -> Result<(), Failure> {
    process.preserved = preserved.fds;
    process.preserved_at = preserved.numbers;
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
    process.preserved_at.clear();
    process
}
