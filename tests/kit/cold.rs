//! Freezes a container's processes behind the runtime's back, in the cgroup that they are born into: what is born there
//! does not run its first instruction before it is thawed.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use crate::{Scene, wait};

/// The group of one container.
pub struct Cold(PathBuf);

impl Cold {
    /// Of the container with this id; `None` where no hierarchy has both births and a freezer (v1).
    #[must_use]
    pub fn of(scene: &Scene, id: &str) -> Option<Self> {
        scene.cgroups().into_iter().find(|dir| dir.ends_with(id) && dir.join("cgroup.freeze").exists()).map(Self)
    }

    /// Freeze, or thaw.
    pub fn freeze(&self, on: bool) {
        fs::write(self.0.join("cgroup.freeze"), if on { "1" } else { "0" }).expect("a freezer");
    }

    /// So many processes are in it.
    pub async fn holds(&self, count: usize) {
        let until = Instant::now() + wait::PATIENCE;
        let found = || fs::read_to_string(self.0.join("cgroup.procs")).map_or(0, |text| text.lines().count());
        while found() < count {
            assert!(Instant::now() < until, "{} processes instead of {count}", found());
            tokio::task::yield_now().await;
        }
    }
}
