//! The command `orangery`: one supervised sandbox from a shell. A thin rim around the library: it turns options into a
//! spec, passes streams and signals through, and prints what the library says. It decides nothing about containers.
//!
//! ```text
//!   args ── what the user typed          spec ── options -> ContainerSpec, ProcessSpec
//!   run ── a container's whole life, or several with --restart      passthrough, copy ── the three streams     signals ── what is forwarded
//!   up ── services from a file, supervised together
//!   terminal ── a terminal for the command, and ours as its window
//!   logged ── into a durable log         logs ── and out of one
//!   explain ── the plan, not executed    doctor ── what this machine can do   errors ── at most three lines
//! ```
#![forbid(unsafe_code)]

mod args;
mod copy;
mod doctor;
mod errors;
mod events;
mod explain;
mod join;
mod logged;
mod logs;
mod mount;
mod passthrough;
mod run;
mod signals;
mod spec;
mod start;
mod terminal;
mod up;

use std::process::ExitCode;

use args::{Cli, Subcommand};

pub use up::check as check_up_file;

/// The command: reads its arguments and does what they say.
#[must_use]
pub fn main() -> ExitCode {
    start::grow_descriptor_table();
    let cli = match args::parse() {
        Ok(cli) => cli,
        Err(ended) => return ended,
    };
    start::tracing(cli.common.verbose);
    let done = match &cli.subcommand {
        Subcommand::Run(args) => run::run(args),
        Subcommand::Explain(args) => explain::explain(args, cli.common.json),
        Subcommand::Logs(args) => logs::logs(args, cli.common.json),
        Subcommand::Up(args) => up::up(args, cli.common.json, cli.common.verbose),
        Subcommand::Schema => up::schema::schema(),
        Subcommand::Doctor => doctor::doctor(cli.common.json),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(failure) => failure.tell(cli.common.json),
    }
}

impl Cli {
    /// `--json` as it stands on a command line that could not be parsed.
    fn wants_json(words: impl Iterator<Item = std::ffi::OsString>) -> bool {
        words.take_while(|word| word != "--").any(|word| word == "--json")
    }
}
