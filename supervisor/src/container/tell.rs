//! What happens to a container, told to the feed: by [`ContainerSlot::step`], from what is in the slot.

use super::slot::ContainerSlot;
use super::state::News;
use crate::error::Error;
use crate::events::{Failure, Kind, Voice};
use crate::guard::Part;

impl ContainerSlot {
    /// Called under the lock of the state.
    pub(super) fn tell(&self, news: News) {
        let container = self.container.get();
        let report = self.main.concluded.get();
        let kind = match news {
            News::Created => Kind::ContainerCreated {
                cgroup_mode: container.map_or_else(String::new, |container| container.cgroup_mode()),
                create_us: self.create_us.get().copied().unwrap_or_default(),
            },
            News::Started => Kind::ContainerStarted {
                pid: self.main.born.get().map_or(0, |born| born.pid),
                init_pid: container.map_or(0, |container| container.init_pid()),
            },
            News::Failed => {
                let error = self.failure.get().cloned().unwrap_or_else(Error::lost_request);
                Kind::ContainerFailed(Failure::from(&error))
            }
            News::Paused => Kind::ContainerPaused,
            News::Resumed => Kind::ContainerResumed,
            News::Updated => Kind::ContainerUpdated { limits: self.limits(), watched: self.watched() },
            News::Exited => {
                let exit = *self.main.exit.borrow();
                Kind::ContainerExited { exit: exit.map_or(crate::ExitStatus::Lost, |exit| exit.status.into()) }
            }
            // It is of the report that was concluded just before.
            News::Unkillable => match report.and_then(|report| report.unkillable.clone()) {
                Some(left) => Kind::ContainerUnkillable(left),
                None => return,
            },
            News::Kept => Kind::ContainerKept,
            News::Removed => Kind::ContainerRemoved,
        };
        let cause = report.map(|report| report.cause.clone());
        self.voice.tell(None, kind, cause);
    }

    /// A voice for one more process of it.
    pub(crate) fn voice(&self) -> Voice {
        self.voice.clone()
    }

    /// Set a property; told as it is seen.
    pub(crate) fn set_property(&self, name: &str, value: String) -> Result<Option<String>, Error> {
        let mut properties = self.properties();
        let old = properties.set(name, value)?;
        self.voice.tell(None, Kind::PropertyChanged { name: name.to_owned(), removed: false }, None);
        Ok(old)
    }

    /// Remove one, if it is there.
    pub(crate) fn remove_property(&self, name: &str) -> Option<String> {
        let mut properties = self.properties();
        let old = properties.remove(name)?;
        self.voice.tell(None, Kind::PropertyChanged { name: name.to_owned(), removed: true }, None);
        Some(old)
    }

    /// Said of its actor.
    pub(crate) fn part(&self) -> Part {
        Part { actor: "container", process: None, voice: self.voice(), span: self.span.clone() }
    }
}
