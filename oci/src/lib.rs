//! The program `orangery-oci`: containers of OCI bundles for callers that know runc's command line (podman, containerd). A thin
//! front over [`orangery_runtime::native::single`]; the commands are the files of the same names.
//!
//! There is no daemon. A container outlives the command that has made it, as a child of the nearest subreaper, which is the
//! caller (conmon, containerd's shim): it keeps the stdio that the command was given, and the caller sees how it ends. What is
//! known of it lies in a directory below `--root` (`place.rs`, `record.rs`).
//!
//! Everything here is synchronous and single-threaded: a command does one thing and goes.
#![forbid(unsafe_code)]

mod agent;
mod args;
mod clock;
mod console;
mod container;
mod create;
mod delete;
mod events;
mod exec;
mod failure;
mod features;
mod hooks;
mod kill;
mod list;
mod log;
mod notify;
mod pause;
mod pieces;
mod place;
mod ps;
mod record;
mod run;
mod start;
mod state;
mod streams;
mod systemd;
mod template;
mod terminal;
mod update;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;

use args::{Arguments, Command};
use failure::Failure;
use log::Log;
use place::Place;
use streams::Preserved;

/// Be the program.
#[must_use]
pub fn main(line: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(line) {
        Ok(arguments) => arguments,
        Err(told) => return unread(&told),
    };
    // Before the log can have a number of theirs.
    let preserved = match Preserved::of(&arguments.command) {
        Ok(preserved) => preserved,
        Err(failure) => {
            eprintln!("{failure}");
            return ExitCode::from(failure.code());
        }
    };
    let log = match Log::open(&arguments.global) {
        Ok(log) => log,
        Err(failure) => {
            eprintln!("{failure}");
            return ExitCode::from(failure.code());
        }
    };
    match run(arguments, preserved) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            log.error(&failure.to_string());
            ExitCode::from(failure.code())
        }
    }
}

/// Help and version are no failure; everything else is, with 1 as with runc.
fn unread(told: &clap::Error) -> ExitCode {
    let _ = told.print();
    ExitCode::from(u8::from(told.use_stderr()))
}

fn run(Arguments { global, command, .. }: Arguments, preserved: Preserved) -> Result<u8, Failure> {
    // Those are about no container.
    match &command {
        Command::Features => return features::features().map(|()| 0),
        Command::Spec { bundle, rootless } => return template::spec(bundle, *rootless).map(|()| 0),
        Command::Checkpoint(_) | Command::Restore(_) => {
            let name = command.name();
            return Err(Failure::new(format!(
                "{name} is not supported: no container is written to files, or made of some"
            )));
        }
        _ => {}
    }
    let place = Place::of(global.root.as_deref())?;
    tracing::debug!(root = %place.root().display(), "{} begins", command.name());
    match command {
        Command::Create(what) => create::create(&place, &global, &what, preserved).map(|()| 0),
        Command::Start { id } => start::start(&place, &id).map(|()| 0),
        Command::Run(what) => run::run(&place, &global, &what, preserved),
        Command::State { id } => state::state(&place, &id).map(|()| 0),
        Command::Kill(what) => kill::kill(&place, &what).map(|()| 0),
        Command::Delete { id, force, regex: false } => delete::delete(&place, &id, force).map(|()| 0),
        Command::Delete { id, force, regex: true } => delete::all(&place, &id, force).map(|()| 0),
        Command::Exec(what) => exec::exec(&place, &what, preserved),
        Command::Ps { id, format, options } => ps::ps(&place, &id, format, &options).map(|()| 0),
        Command::Pause { id } => pause::pause(&place, &id).map(|()| 0),
        Command::Resume { id } => pause::resume(&place, &id).map(|()| 0),
        Command::Events { id, stats, interval } => events::events(&place, &id, stats, interval).map(|()| 0),
        Command::Update(what) => update::update(&place, &what).map(|()| 0),
        Command::Features | Command::Spec { .. } | Command::Checkpoint(_) | Command::Restore(_) => Ok(0),
        Command::List { quiet, format } => list::list(&place, quiet, format).map(|()| 0),
    }
}
