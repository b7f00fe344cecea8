//! What the daemon and its clients say to each other, as plain data. Knows no HTTP and nothing of the library: what that
//! says in documents of its own (reports, events, limits) is carried as JSON, with the schema's version in it.
//!
//! Requests refuse fields that they do not know; whoever reads an answer skips them.
//!
//! ```text
//!   create ── what is to be made        container ── what there is       process ── further processes, and how one ended
//!   control ── what is done to it       attach ── frames of a WebSocket  group ── several together
//!   problem ── why not                  health ── the daemon itself      text ── a number or a text
//! ```

mod attach;
mod container;
mod control;
mod create;
mod group;
mod health;
mod problem;
mod process;
mod text;

pub use attach::{Asked, Output, Stream, Told};
pub use container::{Container, Containers, HealthState, Paused, Running, ServiceStatus, State};
pub use control::{Kill, Nothing, Pause, PauseHow, Resize, Stop, Update, Waited};
pub use create::{Create, File, Spec, Stdin, Tty, WindowSize};
pub use group::{CreateGroup, Group, Groups, Member};
pub use health::{Health, Status};
pub use problem::{Problem, ProblemKind, Refused};
pub use process::{Exec, Exit, ExitStatus, Process, Processes};
pub use text::Text;

/// Version of this interface: the first part of every path.
pub const API: u32 = 1;
