//! What a dead keeper leaves to us, its parent: its children, where this process is a subreaper or a pid 1. Those that we know
//! are waited for by their pidfds, which tells how they end; the others too, as a zombie in the pid namespace of a container
//! holds up the end of that container's init. No child of the host's is ever touched: one is known by its cgroup, which is
//! below ours, by its session, which is the dead keeper's, by its pid namespace, which is that of one that we know, or as a newborn
//! that still has the keeper's name, in a pid namespace that is not the keeper's.
//!
//! Looked for when a keeper has died, and whenever one of them has ended, as its children may have fallen to us then.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open};
use tokio::task::JoinSet;

use super::adopt::pid_of;
use super::conversation::Shared;
use super::succession::Heir;
use crate::native::{Without, exit_without};

/// All of them that are waited for.
#[derive(Debug)]
pub(super) struct Orphans {
    shared: Arc<Shared>,
    places: Places,
    without: Without,
    /// By number, with the pid namespaces that they had while that could be seen: not of one that is dying.
    watched: HashMap<i32, Option<Namespace>>,
    ends: JoinSet<i32>,
}

/// Device and inode.
type Namespace = (u64, u64);

/// Where the children of keepers of ours are.
#[derive(Clone, Debug, Default)]
struct Places {
    /// A part of the path of their cgroups.
    cgroup: Option<String>,
    sessions: HashSet<i32>,
}

impl Orphans {
    pub(super) fn of(shared: &Arc<Shared>, heir: Option<&Heir>) -> Self {
        let places = Places { cgroup: heir.and_then(|heir| heir.cgroup.clone()), ..Places::default() };
        let without = heir.map_or_else(Without::default, |heir| heir.without);
        Self { shared: Arc::clone(shared), places, without, watched: HashMap::new(), ends: JoinSet::new() }
    }

    /// The keeper has died, and nobody knows it yet: who hears of it may end some of these.
    pub(super) fn note(&mut self) {
        let known = self.shared.lock().ledger.unwatched();
        for pidfd in known {
            let pid = pid_of(&pidfd).unwrap_or(0);
            self.watched.insert(pid, namespace(pid));
        }
    }

    /// The keeper of this number has died, and is reaped; its children were these, which were [noted](Orphans::note), and
    /// perhaps others.
    pub(super) async fn take(&mut self, keeper: u32, known: Vec<(u64, Arc<OwnedFd>)>) {
        self.places.sessions.insert(keeper.cast_signed());
        let known: Vec<_> = known.into_iter().map(|(id, pidfd)| (id, pid_of(&pidfd).unwrap_or(0), pidfd)).collect();
        // First: the kernel's list of children may leave some out while others are reaped.
        self.look().await;
        for (id, pid, pidfd) in known {
            let (shared, without) = (Arc::clone(&self.shared), self.without);
            self.ends.spawn(async move {
                let exit = exit_without(pidfd, without).await;
                shared.exited(id, exit);
                pid
            });
        }
    }

    /// One of them has ended, and is waited for. Never, if there is none.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(super) async fn ended(&mut self) -> i32 {
        loop {
            match self.ends.join_next().await {
                Some(Ok(pid)) => return pid,
                Some(Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// It has: its own children may be ours now.
    pub(super) async fn look_behind(&mut self, pid: i32) {
        self.watched.remove(&pid);
        self.look().await;
    }

    async fn look(&mut self) {
        if reaps() {
            self.find().await;
        }
        // Nobody of them is left: the numbers may become those of sessions of others.
        if self.watched.is_empty() {
            self.places.sessions.clear();
        }
    }

    async fn find(&mut self) {
        let (places, watched) = (self.places.clone(), self.watched.clone());
        let found = tokio::task::spawn_blocking(move || strangers(&places, &watched)).await.unwrap_or_default();
        for (pid, pidfd) in found {
            self.watched.insert(pid, namespace(pid));
            self.ends.spawn(async move {
                crate::native::exit_of(Arc::new(pidfd)).await;
                pid
            });
        }
    }
}

/// Orphans fall to this process.
fn reaps() -> bool {
    getpid().as_raw_nonzero().get() == 1 || matches!(rustix::process::child_subreaper(), Ok(Some(_)))
}

/// Children of ours that were children of keepers, and that nobody waits for. Blocks: files of /proc.
fn strangers(places: &Places, watched: &HashMap<i32, Option<Namespace>>) -> Vec<(i32, OwnedFd)> {
    let own = namespace(getpid().as_raw_nonzero().get());
    let namespaces: HashSet<Namespace> = watched.values().flatten().copied().filter(|one| Some(*one) != own).collect();
    let in_namespace = |pid| namespace(pid).is_some_and(|one| namespaces.contains(&one));
    let unknown = children().into_iter().filter(|pid| !watched.contains_key(pid));
    let unknown = unknown.filter(|pid| places.have(*pid) || in_namespace(*pid));
    unknown.filter_map(|pid| Some((pid, pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?))).collect()
}

/// Nothing where the kernel does not list them (CONFIG_PROC_CHILDREN).
fn children() -> Vec<i32> {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// The pid namespace of a process, if we may look.
fn namespace(pid: i32) -> Option<Namespace> {
    let stat = rustix::fs::stat(format!("/proc/{pid}/ns/pid")).ok()?;
    Some((stat.st_dev, stat.st_ino))
}

impl Places {
    fn have(&self, pid: i32) -> bool {
        let file = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let in_session = session(&file("stat")).is_some_and(|session| self.sessions.contains(&session));
        let below = |cgroup: &String| file("cgroup").lines().any(|line| line.contains(cgroup));
        in_session || self.cgroup.as_ref().is_some_and(below) || is_newborn(&file("status"))
    }
}

/// From /proc/N/status: it has not come to its exec, and is in a pid namespace below ours.
fn is_newborn(status: &str) -> bool {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let ours = matches!(field("Name:").map(str::trim), Some("orangery-keeper" | "orangery-init"));
    ours && field("NSpid:").is_some_and(|numbers| numbers.split_ascii_whitespace().count() > 1)
}

/// From /proc/N/stat; the name before it may hold anything.
fn session(stat: &str) -> Option<i32> {
    stat.rsplit_once(") ")?.1.split_ascii_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_read_whatever_the_name_is() {
        assert_eq!(session("17 (a) S (b)) R 1 2 33 4 5"), Some(33));
        assert_eq!(session("17 (a) R 1 2"), None);
    }

    #[test]
    fn a_keeper_is_no_newborn_of_one() {
        assert!(is_newborn("Name:\torangery-keeper\nNSpid:\t17\t2\n"));
        assert!(!is_newborn("Name:\torangery-keeper\nNSpid:\t17\n"));
        assert!(!is_newborn("Name:\tmake\nNSpid:\t17\t2\n"));
    }

    #[test]
    fn a_child_of_the_hosts_is_nobody_that_we_look_for() {
        let own = std::process::id().cast_signed();
        let places = Places { cgroup: Some("/orangery-no-such/".into()), sessions: HashSet::from([i32::MAX]) };
        assert!(!places.have(own));
        let text = fs::read_to_string("/proc/self/stat").unwrap();
        assert!(Places { sessions: HashSet::from([session(&text).unwrap()]), ..places }.have(own));
    }
}
