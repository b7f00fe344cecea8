//! Where a supervisor whose containers outlive it has just done something for good.

macro_rules! steps {
    ($($(#[$doc:meta])* $step:ident,)*) => {
        /// What was just done. The list is closed and only grows; `tests/real/points.rs` is killed at each, and goes on.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Step {
            $($(#[$doc])* $step,)*
        }

        impl Step {
            /// All of them.
            pub const ALL: &[Step] = &[$(Step::$step),*];
        }
    };
}

steps! {
    /// The state directory is ours.
    Locked,
    /// The runtime has its keeper, and nothing is claimed yet.
    Connected,
    /// All records were read.
    Read,
    /// A container of an earlier supervisor and its processes were claimed.
    Claimed,
    /// What nobody had written down is removed.
    Cleared,
    /// One of which nothing is left has its report.
    Accounted,
    /// An adopted container is as if it had been started here.
    GoesOn,
    /// A record lies beside the one that it is to replace.
    Drafted,
    /// It is in its place.
    Placed,
    /// A main process was started; its record does not say so.
    Started,
    /// It does, and whoever asked is not answered.
    Answering,
    /// A report is on the disk, and nobody was told.
    Reported,
    /// The keeper has let go of the process that it is of.
    Settled,
    /// What is forgotten lies where nobody looks for it.
    Moved,
    /// It is removed.
    Removed,
    /// The supervisor goes, and leaves everything.
    Leaving,
}
