//! Which time the supervisor's threads live in: the real one, or in tests one that moves only when it is told to.

use std::io;

use tokio::runtime::{Builder, Runtime};

/// The time of one supervisor.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clock {
    #[cfg(any(test, feature = "testing"))]
    pub(crate) told: Option<crate::testing::VirtualClock>,
}

impl Clock {
    /// A runtime for one of the supervisor's threads; its further threads, for what blocks, are called `name`.
    pub(crate) fn runtime(&self, name: &str) -> io::Result<Runtime> {
        let mut builder = Builder::new_current_thread();
        builder.enable_io().enable_time().thread_name(name);
        #[cfg(any(test, feature = "testing"))]
        if let Some(clock) = &self.told {
            return clock.runtime(&mut builder);
        }
        builder.build()
    }

    /// The threads are about to end.
    pub(crate) fn release(&self) {
        #[cfg(any(test, feature = "testing"))]
        if let Some(clock) = &self.told {
            clock.release();
        }
    }
}
