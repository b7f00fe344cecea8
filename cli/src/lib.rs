//! The command `orangery`: supervised sandboxes from a shell. A thin rim around the library: it turns options into a
//! spec, passes streams and signals through, and prints what the library says. It decides nothing about containers.
//!
//! ```text
//!   args ── what the user typed          spec ── options -> ContainerSpec, ProcessSpec
//!   run ── a container's whole life, or several with --restart      passthrough, copy ── the three streams     signals ── what is forwarded
//!   up ── services from a file, supervised together
//!   terminal ── a terminal for the command, and ours as its window
//!   logged ── into a durable log         logs ── and out of one          log_view ── as it is shown
//!   serve ── the daemon                  commands ── against one         client ── how a daemon is asked    completions ── for shells
//!   explain ── the plan, not executed    doctor ── what this machine can do   setup ── what root does for others   rootfs ── made of archives   errors ── at most three lines
//! ```
#![forbid(unsafe_code)]

mod args;
mod client;
mod commands;
mod completions;
mod copy;
mod doctor;
mod errors;
mod events;
mod explain;
mod join;
mod log_view;
mod logged;
mod logs;
mod mount;
mod outer;
mod passthrough;
mod rootfs;
mod run;
mod serve;
mod setup;
mod signals;
mod spec;
mod start;
mod terminal;
mod up;

use std::process::ExitCode;

use args::{Cli, LogOf, Subcommand};

pub use serve::document as daemon_document;
pub use up::check as check_up_file;

/// The command: reads its arguments and does what they say.
#[must_use]
pub fn main() -> ExitCode {
    start::grow_descriptor_table();
    let (cli, matches) = match args::parse() {
        Ok(parsed) => parsed,
        Err(ended) => return ended,
    };
    let serves = matches!(cli.subcommand, Subcommand::Serve(_));
    // A daemon says what it does where its journal is; a command shares stderr with what it runs.
    start::tracing(cli.common.verbose.saturating_add(serves.into()));
    let json = cli.common.json;
    let done = match &cli.subcommand {
        Subcommand::Run(args) if args.detach => commands::detach::run(args, &matches, json),
        Subcommand::Run(args) => run::run(args),
        Subcommand::Explain(args) => explain::explain(args, json),
        Subcommand::Logs(args) => match args.of() {
            LogOf::Dir(dir) => logs::logs(dir, args, json),
            LogOf::Container(name) => commands::logs::logs(name, args, json),
        },
        Subcommand::Up(args) if args.detach => commands::group::up(args, json),
        Subcommand::Up(args) => up::up(args, json, cli.common.verbose),
        Subcommand::Schema => up::schema::schema(),
        Subcommand::Doctor => doctor::doctor(json),
        Subcommand::Setup(args) => setup::setup(args, json),
        Subcommand::Rootfs(args) => rootfs::rootfs(args, json),
        Subcommand::Serve(args) => serve::serve(args, json),
        Subcommand::Completions { shell } => completions::completions(*shell),
        other => commands::run(other, json),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(failure) => failure.tell(json),
    }
}

impl Cli {
    /// `--json` as it stands on a command line that could not be parsed.
    fn wants_json(words: impl Iterator<Item = std::ffi::OsString>) -> bool {
        words.take_while(|word| word != "--").any(|word| word == "--json")
    }
}
