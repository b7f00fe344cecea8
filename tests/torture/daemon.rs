//! The daemon in a process of its own, and its keeper, by descriptors.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use orangery_tests::stock::descendants;
use orangery_tests::victim::{self, Victim};
use orangery_tests::{Scene, scene, wait};
use rustix::process::{Signal, pidfd_send_signal};

use crate::chance::Chance;
use crate::http::ask;
use crate::reaper::{reaped_here, started_here};

fn state(scene: &Scene) -> PathBuf {
    scene.dir().join("daemon")
}

pub(crate) fn socket(scene: &Scene) -> PathBuf {
    state(scene).join("socket")
}

/// Where the logs of its containers are.
pub(crate) fn logs(scene: &Scene) -> PathBuf {
    state(scene).join("serve/logs")
}

/// In the process that is the daemon: be it, by its command line, to its end.
pub(crate) fn be_it() -> bool {
    victim::role().is_some() && {
        // Whoever looks at the trial's verdict does not look at ours.
        let _ = orangery_cli::main();
        true
    }
}

/// How a daemon goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// In the middle of whatever it does.
    AtWork,
    /// It was asked to leave, and is killed while it does, or has just done it.
    Leaving,
    /// The next one goes as well, while it has again what the last one has left.
    Twice,
    /// With its keeper.
    Both,
    /// After its keeper alone, while another keeper takes the place of that one, or has just taken it.
    Keeper,
    /// While it becomes another program, or as that.
    Replaced,
    /// With another process that is taking its place, or has just taken it.
    TakenOver,
}

impl Way {
    pub(crate) const ALL: [Way; 7] =
        [Way::AtWork, Way::Leaving, Way::Twice, Way::Both, Way::Keeper, Way::Replaced, Way::TakenOver];

    pub(crate) fn by(chance: &mut Chance) -> Self {
        match chance.below(20) {
            0 => Way::Both,
            1 => Way::Keeper,
            2..=4 => Way::Leaving,
            5..=7 => Way::Twice,
            8..=9 => Way::Replaced,
            10..=11 => Way::TakenOver,
            _ => Way::AtWork,
        }
    }

    /// The keeper goes as well.
    pub(crate) fn takes_keeper(self) -> bool {
        matches!(self, Way::Both | Way::Keeper)
    }
}

/// Longest time that one that leaves, or that comes, is let live.
const SOON: Duration = Duration::from_millis(30);
/// Longest time that one is let live whose place, or whose keeper's place, is being taken: some have become the next one by then.
const IN_TURN: Duration = Duration::from_millis(300);

/// Some time, up to `most`: whatever goes on then is what is interrupted. No event says when.
pub(crate) fn a_moment(chance: &mut Chance, most: Duration) {
    thread::park_timeout(most.mul_f64(chance.below(1000) as f64 / 1000.0));
}

/// One daemon after another on one state directory. Dropped before [`Daemon::finish`], in a trial that fails, it goes with all that
/// it has made.
pub(crate) struct Daemon<'s> {
    scene: &'s Scene,
    process: Victim,
    gone: bool,
}

impl<'s> Daemon<'s> {
    /// It answers.
    pub(crate) fn start(scene: &'s Scene) -> Self {
        let mut daemon = Self { scene, process: process(scene, &[]), gone: false };
        // It says where it is, once it can be asked.
        assert!(!daemon.process.line().is_empty(), "a daemon does not come to answer");
        daemon
    }

    /// It is killed, in this way.
    pub(crate) fn go(mut self, way: Way, chance: &mut Chance) {
        match way {
            Way::AtWork => {}
            Way::Leaving => {
                self.signal(Signal::TERM);
                a_moment(chance, SOON);
            }
            Way::Keeper => {
                wait::kill(keeper());
                a_moment(chance, IN_TURN);
            }
            Way::Replaced => {
                self.signal(Signal::USR2);
                a_moment(chance, IN_TURN);
            }
            Way::TakenOver => {
                let mut other = process(self.scene, &["--takeover"]);
                a_moment(chance, IN_TURN);
                if chance.below(2) == 0 {
                    std::mem::swap(&mut self.process, &mut other);
                }
                end(&mut self.process);
                a_moment(chance, SOON);
                end(&mut other);
            }
            Way::Twice => {
                self.kill();
                (self.process, self.gone) = (process(self.scene, &[]), false);
                a_moment(chance, SOON);
            }
            Way::Both => return self.kill_both(),
        }
        self.kill();
    }

    fn kill(&mut self) {
        end(&mut self.process);
        self.gone = true;
    }

    /// Not one after the other: nobody notices.
    fn kill_both(mut self) {
        let (keeper, daemon) = (keeper(), wait::pidfd(self.process.pid()));
        wait::kill(&keeper);
        wait::kill(&daemon);
        self.kill();
        wait::gone(&keeper, "the keeper");
    }

    fn signal(&self, signal: Signal) {
        let daemon = wait::pidfd(self.process.pid());
        pidfd_send_signal(&daemon, signal).expect("it lives");
    }

    /// It goes for good, with everything.
    pub(crate) fn finish(mut self) {
        let left = ask(&socket(self.scene), "GET", "/v1/containers", None, None).expect("an answer").json();
        assert_eq!(left["containers"].as_array().map(Vec::len), Some(0), "{left}");
        let keepers = keepers();
        self.signal(Signal::TERM);
        reaped_here(&mut self.process, Victim::end);
        for keeper in keepers {
            wait::gone(&keeper, "a keeper that holds nothing");
        }
        self.gone = true;
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        if !self.gone {
            scene::end_descendants(std::process::id());
        }
    }
}

/// One that was just started, with these options beside the usual ones.
fn process(scene: &Scene, options: &[&str]) -> Victim {
    let (state, socket) = (state(scene), socket(scene));
    let parent = scene.options().cgroup_parent;
    let mut arguments = vec!["serve", "--state"].into_iter().map(OsStr::new).collect::<Vec<_>>();
    arguments.extend([state.as_os_str(), OsStr::new("--socket"), socket.as_os_str()]);
    if let Some(parent) = &parent {
        arguments.extend([OsStr::new("--cgroup-parent"), parent.as_os_str()]);
    }
    arguments.extend(options.iter().map(OsStr::new));
    started_here(|| Victim::with_arguments(scene, "serve", &arguments))
}

fn end(process: &mut Victim) {
    reaped_here(process, Victim::kill);
}

/// The one that there is, unless another is about to end.
fn keeper() -> OwnedFd {
    keepers().pop().expect("a keeper")
}

/// Wherever they hang in the tree by now; the newest last. A newborn has its keeper's name until it has one of its own.
fn keepers() -> Vec<OwnedFd> {
    let family = descendants(std::process::id());
    let named: Vec<_> = family.iter().filter(|process| process.name == "orangery-keeper").collect();
    let keepers = named.iter().filter(|process| !named.iter().any(|keeper| keeper.pid == process.parent));
    keepers.filter_map(|process| wait::try_pidfd(process.pid)).collect()
}
