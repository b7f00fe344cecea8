//! What systemd keeps for the next daemon (its fd store), beside the keeper: for when both have crashed. Without it nothing is missing
//! but this.
//!
//! - The daemon's own listening socket: whoever connects in between waits.
//! - A pidfd of each process: how one has ended that has meanwhile is known by it, from Linux 6.15 on.
//!
//! Not the pipes of processes: those are the keeper's alone (docs/decisions/0034).

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};

use orangery::events::{Item, Kind, Since};
use orangery::runtime::sys::Inherited;
use orangery::{ProcessId, Supervisor};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::{Listeners, Notify, listen};

/// What a process is called there, before its container and its number.
const PROCESS: &str = "orangery-process-";
/// The longest name (sd_pid_notify_with_fds(3)).
const NAME: usize = 255;

/// What was kept of processes, apart from the sockets: the pidfds, and what they are called there.
#[must_use]
pub fn pidfds(given: Vec<Inherited>) -> (Vec<(String, OwnedFd)>, Vec<Inherited>) {
    let (pidfds, others): (Vec<_>, Vec<_>) = given.into_iter().partition(|one| one.name.starts_with(PROCESS));
    (pidfds.into_iter().map(|one| (one.name, one.fd)).collect(), others)
}

/// What is there.
struct Kept<'a> {
    at: &'a Notify,
    names: BTreeSet<String>,
    /// It was said that there is no more room.
    full: bool,
}

/// Never done. `names`: what is kept there already.
pub(super) async fn keep(notify: &Notify, names: Vec<String>, supervisor: &Supervisor, listeners: &Listeners) {
    let mut kept = Kept { at: notify, names: names.into_iter().collect(), full: false };
    if notify.room == 0 {
        return std::future::pending().await;
    }
    if let Some((name, own)) = listeners.lent().into_iter().find(|(name, _)| *name == listen::OWN) {
        kept.put(name.to_owned(), || Some(own));
    }
    // Also of those that have ended while there was no daemon: they are told at the start.
    let mut events = supervisor.events(Since::Oldest);
    kept.all(supervisor).await;
    loop {
        match events.recv().await {
            Some(Item::Event(event)) => {
                let Some(container) = event.container.as_deref() else { continue };
                match (&event.kind, event.process) {
                    (Kind::ProcessStarted { pid, .. }, Some(number)) => kept.process(container, number, *pid),
                    (Kind::ProcessEnded { .. }, Some(number)) if number.0 > 0 => kept.forget(&name(container, number)),
                    // With its report.
                    (Kind::ContainerRemoved | Kind::ContainerKept | Kind::ContainerFailed(_), _) => {
                        kept.forget(&name(container, ProcessId(0)));
                    }
                    _ => {}
                }
            }
            Some(Item::Lagged { .. }) => kept.all(supervisor).await,
            Some(_) => {}
            None => return std::future::pending().await,
        }
    }
}

fn name(container: &str, number: ProcessId) -> String {
    format!("{PROCESS}{container}-{number}")
}

impl Kept<'_> {
    /// All processes that there are, and no others.
    async fn all(&mut self, supervisor: &Supervisor) {
        // One that does not answer has not lost them: what is kept stays.
        let Ok(containers) = supervisor.list().await else { return };
        let living = containers.iter().flat_map(|container| {
            let processes = container.processes.iter().filter(|process| !process.ended);
            processes.map(|process| (&*container.id, process.id, process.pid))
        });
        let living: Vec<_> = living.collect();
        let names: BTreeSet<String> = living.iter().map(|(container, number, _)| name(container, *number)).collect();
        let gone: Vec<String> =
            self.names.iter().filter(|name| name.starts_with(PROCESS) && !names.contains(*name)).cloned().collect();
        gone.iter().for_each(|name| self.forget(name));
        living.into_iter().for_each(|(container, number, pid)| self.process(container, number, pid));
    }

    fn process(&mut self, container: &str, number: ProcessId, pid: i32) {
        // One that is another process by now is nobody's: who looks for it knows it by its inode.
        let open = || pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok();
        self.put(name(container, number), open);
    }

    fn put<F: AsFd>(&mut self, name: String, fd: impl FnOnce() -> Option<F>) {
        let is_name = name.len() <= NAME && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
        if !is_name || (self.names.len() >= self.at.room && !self.names.contains(&name)) {
            if !std::mem::replace(&mut self.full, true) {
                tracing::warn!(name, room = self.at.room, "systemd keeps no more descriptors: FileDescriptorStoreMax=");
            }
            return;
        }
        if let Some(fd) = fd() {
            self.at.store(&name, fd);
            self.names.insert(name);
        }
    }

    fn forget(&mut self, name: &str) {
        self.at.forget(name);
        self.names.remove(name);
    }
}
