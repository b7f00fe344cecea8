//! What the keeper has just done by itself, as its trace says it: where a test kills it (docs/decisions/0047).

/// Something is done, and nobody has been told. The list is closed and only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// It knows what its supervisor's end means.
    Greeted,
    /// It would remove a tree in the end.
    Registered,
    /// A process was cloned.
    Born,
    /// Something is held.
    Stored,
    /// Something else is held in its place.
    Replaced,
    /// Something is not held any more.
    Discarded,
    /// A deadline is armed.
    Armed,
    /// It is not any more.
    Cancelled,
    /// A rung of a deadline, or what comes in the end, is carried out.
    Fired,
    /// A process is reaped, and how it ended is kept.
    Reaped,
    /// How a process ended is told.
    Told,
    /// That is not kept any more.
    Settled,
    /// The supervisor is gone, and nothing was done about it.
    Left,
    /// Pipes are emptied from now on, and the door is open.
    TookOver,
    /// What a pipe held is in its log.
    Emptied,
    /// A further supervisor is in, which empties the pipes; it was told nothing.
    Welcomed,
    /// It was told one thing more.
    Shown,
    /// It was told that this is all.
    Whole,
    /// Nobody wants anything of it: everything is to be removed.
    Ending,
    /// Nobody of its own lives.
    Buried,
    /// One of the trees is removed.
    Removed,
}

impl Moment {
    /// All of them.
    pub const ALL: [Moment; 21] = [
        Moment::Greeted,
        Moment::Registered,
        Moment::Born,
        Moment::Stored,
        Moment::Replaced,
        Moment::Discarded,
        Moment::Armed,
        Moment::Cancelled,
        Moment::Fired,
        Moment::Reaped,
        Moment::Told,
        Moment::Settled,
        Moment::Left,
        Moment::TookOver,
        Moment::Emptied,
        Moment::Welcomed,
        Moment::Shown,
        Moment::Whole,
        Moment::Ending,
        Moment::Buried,
        Moment::Removed,
    ];

    /// As the trace says it: `keeper 17 has taken-over`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Moment::Greeted => "greeted",
            Moment::Registered => "registered",
            Moment::Born => "born",
            Moment::Stored => "stored",
            Moment::Replaced => "replaced",
            Moment::Discarded => "discarded",
            Moment::Armed => "armed",
            Moment::Cancelled => "cancelled",
            Moment::Fired => "fired",
            Moment::Reaped => "reaped",
            Moment::Told => "told",
            Moment::Settled => "settled",
            Moment::Left => "left",
            Moment::TookOver => "taken-over",
            Moment::Emptied => "emptied",
            Moment::Welcomed => "welcomed",
            Moment::Shown => "shown",
            Moment::Whole => "whole",
            Moment::Ending => "ending",
            Moment::Buried => "buried",
            Moment::Removed => "removed",
        }
    }
}
