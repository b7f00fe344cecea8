//! The durable mode, as far as it is the runtime's: what a supervisor has to write down so that the next one can have its
//! containers and processes, what the keeper holds for it meanwhile, and how it is claimed.
//!
//! ```text
//!  ProcessSpec::hold ─► stored in the keeper, then spawned ─► Started::held  (rotate, discard, settle)
//!  Container::record() ─► written down by the supervisor          │ killed at any moment
//!    ─► Container::written_down(): from then on it outlives us      │
//!                                                                 ▼
//!  NativeRuntime::durable ─► Adopted ─► container(claim), process(label) ... finish: what nobody has claimed is removed
//! ```
//!
//! Records are values of the supervisor's to keep: this crate writes none of them to a disk but its instance's, which says
//! where its cgroups are. A process is known by the inode of its pidfd and the boot that it lives in, never by its number.

mod beside;
mod holds;
pub(crate) mod identity;
mod label;
mod record;
mod storing;

pub use beside::Beside;
pub use holds::{HeldStream, Holds};
pub use identity::{Identity, Remembered, remember};
pub use label::{Kind, read_label};
pub use record::{ContainerRecord, ProcessRecord};
pub(crate) use record::{FirstRecord, Found, GroupRecord, JoiningRecord, PausedRecord, RangeRecord};
pub(crate) use storing::{Part, Piece, Storing};

pub use crate::native::adopted::{Adopted, Came, Claim, ClaimedLease, ClaimedProcess, Leftovers};
pub use crate::plan::wire::Drained;

/// What is spoken with a keeper: one that speaks another version cannot be taken over.
pub const PROTOCOL: u16 = crate::plan::wire::VERSION;
