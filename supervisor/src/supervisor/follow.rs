//! One feed of many containers, begun and resumed.

use orangery_io_stream::GoneReason;

use super::Supervisor;
use crate::filter::EventFilter;
use crate::follow::{Follow, FollowCursor, FollowOptions};

impl Supervisor {
    /// Output and events of all containers that `filter` is about, later ones included, fair between noisy and quiet ones:
    /// see [`follow`](crate::follow). The kinds of the filter choose among events alone; without one all of them come.
    ///
    /// ```no_run
    /// use orangery::EventFilter;
    /// use orangery::follow::{FollowOptions, Item};
    /// # async fn f(supervisor: orangery::Supervisor) {
    /// let mut feed = supervisor.follow(EventFilter::new().label("tenant", "a"), FollowOptions::default());
    /// while let Some(item) = feed.recv().await {
    ///     if let Item::Chunk { member, chunk } = item {
    ///         println!("{} wrote {} bytes", member.container, chunk.data.len());
    ///     }
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn follow(&self, filter: EventFilter, options: FollowOptions) -> Follow {
        Follow::begin(&self.inner.feed, filter, &options)
    }

    /// The same from `cursor` on, which another follower of this supervisor had: every item that it has not handed out comes,
    /// and none twice; what is no longer kept is said, by name. `filter` and the choice of streams and processes should be
    /// the same as then: what they leave out now is said to be gone, and what they include now comes from its beginning.
    /// `options.since` and `options.output.from` are not looked at.
    ///
    /// # Errors
    /// [`GoneReason::Foreign`] or [`GoneReason::Ahead`]: it is none of this supervisor's.
    pub fn resume_follow(
        &self,
        cursor: &FollowCursor,
        filter: EventFilter,
        options: FollowOptions,
    ) -> Result<Follow, GoneReason> {
        Follow::resume(&self.inner.feed, cursor, filter, &options)
    }
}
