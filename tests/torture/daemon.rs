//! The daemon in a process of its own, and its keeper, by descriptors.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use orangery_tests::stock::descendants;
use orangery_tests::victim::{self, Victim, reap_adopted};
use orangery_tests::{Scene, wait};

use crate::http::ask;

fn state(scene: &Scene) -> PathBuf {
    scene.dir().join("daemon")
}

pub(crate) fn socket(scene: &Scene) -> PathBuf {
    state(scene).join("socket")
}

/// In the process that is the daemon: be it, by its command line, to its end.
pub(crate) fn be_it() -> bool {
    victim::role().is_some() && {
        // Whoever looks at the trial's verdict does not look at ours.
        let _ = orangery_cli::main();
        true
    }
}

/// One daemon after another on one state directory.
pub(crate) struct Daemon<'s> {
    scene: &'s Scene,
    process: Victim,
}

impl<'s> Daemon<'s> {
    /// It answers.
    pub(crate) fn start(scene: &'s Scene) -> Self {
        let (state, socket) = (state(scene), socket(scene));
        let parent = scene.options().cgroup_parent;
        let mut arguments = vec!["serve", "--state"].into_iter().map(OsStr::new).collect::<Vec<_>>();
        arguments.extend([state.as_os_str(), OsStr::new("--socket"), socket.as_os_str()]);
        if let Some(parent) = &parent {
            arguments.extend([OsStr::new("--cgroup-parent"), parent.as_os_str()]);
        }
        let mut process = Victim::with_arguments(scene, "serve", &arguments);
        // It says where it is, once it can be asked.
        assert!(!process.line().is_empty(), "no daemon");
        Self { scene, process }
    }

    pub(crate) fn kill(mut self) {
        self.process.kill();
        reap_adopted();
    }

    /// Not one after the other: nobody notices.
    pub(crate) fn kill_both(mut self) {
        let (keeper, daemon) = (keeper(), wait::pidfd(self.process.pid()));
        wait::kill(&keeper);
        wait::kill(&daemon);
        self.process.kill();
        wait::gone(&keeper, "the keeper");
        reap_adopted();
    }

    /// It goes for good, with everything.
    pub(crate) fn finish(mut self) {
        let left = ask(&socket(self.scene), "GET", "/v1/containers", None, None).expect("an answer").json();
        assert_eq!(left["containers"].as_array().map(Vec::len), Some(0), "{left}");
        let keepers = keepers();
        let daemon = wait::pidfd(self.process.pid());
        rustix::process::pidfd_send_signal(&daemon, rustix::process::Signal::TERM).expect("asked to end");
        self.process.end();
        for keeper in keepers {
            wait::gone(&keeper, "a keeper that holds nothing");
        }
        reap_adopted();
    }
}

/// The one that there is, unless another is about to end.
fn keeper() -> OwnedFd {
    keepers().pop().expect("a keeper")
}

/// Wherever they hang in the tree by now; the newest last.
fn keepers() -> Vec<OwnedFd> {
    let family = descendants(std::process::id());
    let keepers = family.iter().filter(|process| process.name == "orangery-keeper");
    keepers.filter_map(|process| wait::try_pidfd(process.pid)).collect()
}
