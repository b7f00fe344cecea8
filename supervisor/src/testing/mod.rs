//! For tests of programs that embed the supervisor. Feature `testing`.
//!
//! | for | is |
//! |---|---|
//! | a supervisor of one test's own, which fails it when it leaves something behind | [`supervisor`], [`LeakGuard`] |
//! | a line of output, with a deadline, and the last lines in the failure | [`wait_line`], [`LineReader`] |
//! | a state, with a deadline | [`wait_state`] |
//! | a test that this machine cannot run, told and counted | [`skip_unless!`](crate::skip_unless) |
//! | no machine at all: containers that exist only in the test | [`FakeRuntime`], [`VirtualClock`] |
//! | records of a state directory, for a fuzzer | [`known_records`] |
//!
//! In a plain test, of which any number run side by side in one process:
//!
//! ```
//! use std::time::Duration;
//!
//! use orangery::{State, skip_unless, testing};
//!
//! const SOON: Duration = Duration::from_secs(20);
//!
//! # #[expect(clippy::needless_doctest_main, reason = "shown as a test")]
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // #[tokio::test]
//! async fn greets() -> Result<(), Box<dyn std::error::Error>> {
//!     skip_unless!(Containers, Ok(()));
//!     let supervisor = testing::supervisor()?;
//!     let greeter = supervisor.command("sh").arg("-c").arg("echo starting; echo ready; cat").stdin(orangery::Stdin::Piped);
//!     let greeter = greeter.spawn().await?;
//!     let ready = testing::wait_line(greeter.output(), "ready", SOON).await?;
//!     assert_eq!(ready.text, "ready");
//!     greeter.pause_with(orangery::Pause::Stop).await?;
//!     testing::wait_state(&greeter, State::Paused, SOON).await?;
//!     drop(greeter);
//!     supervisor.finish().await?;
//!     Ok(())
//! }
//! # greets().await }
//! ```
//!
//! Deadlines are of real time, on any executor and also where its clock is paused.

mod clock;
mod fake;
mod guard;
mod lines;
mod look;
mod skip;
mod states;
mod within;

pub use crate::recovery::known_records;
pub use clock::VirtualClock;
pub use fake::{Actor, FakeRuntime};
pub use guard::{LeakGuard, Leftovers, TestSupervisor, supervisor};
pub use lines::{LineReader, NoLine, Seen, wait_line};
pub use skip::{Capability, lacks, skips};
pub use states::{NotThere, wait_state};
