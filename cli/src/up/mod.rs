//! `orangery up`: services from a file, supervised together.
//!
//! ```text
//!   file ── text -> services and groups, or refusals with their places        schema ── what a file can say, for editors
//!   build ── those -> a group of the library      watch ── it runs, signals stop it, how it ended
//!   follow ── output of all incarnations          news ── the feed: states, words, JSON
//!   words ── events as sentences                  screen ── who may write where
//! ```

pub(crate) mod build;
pub(crate) mod file;
mod follow;
mod news;
pub(crate) mod schema;
mod screen;
mod watch;
pub(crate) mod words;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::args::UpArgs;
use crate::errors::Failure;
use crate::signals::Signals;
use crate::start::{self, Leaf};
use build::Built;
use file::{LONGEST, Refusal, Text};
use news::View;
use screen::Mode;

/// Do what the file says.
///
/// # Errors
/// It is refused, or could not be done.
pub(crate) fn up(args: &UpArgs, json: bool, verbose: u8) -> Result<u8, Failure> {
    let text = read(&args.file)?;
    enter(&args.file)?;
    let file = file::read(&text).map_err(|refusals| refused(&text, refusals))?;
    let name = name(&args.file);
    let _leaf = Leaf::with_limits(!args.check);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::system("cannot start the event loop", &error))?;
    let ended = runtime.block_on(async {
        let signals = Signals::listen()?;
        let supervisor = start::supervisor(&args.place).build()?;
        let ended = match build::build(&supervisor, file, &name) {
            Err(refusals) => Err(refused(&text, refusals)),
            Ok(built) if args.check => checked(&text, &built, json),
            Ok(built) => {
                let view = View { mode: Mode::choose(json, verbose == 0), events: args.watch_events };
                watch::supervised(&supervisor, built, signals, view).await
            }
        };
        // Whatever happened: when we end nothing is left.
        supervisor.shutdown().await;
        ended
    });
    runtime.shutdown_background();
    ended
}

/// The same file for somebody else who supervises: its name, and what it says, as far as that is right without a look at the
/// machine. Paths in it are to be read from where this leaves us.
///
/// # Errors
/// It is refused.
pub(crate) fn for_a_daemon(path: &Path) -> Result<(String, toml::Table), Failure> {
    let text = read(path)?;
    enter(path)?;
    let file = file::read(&text).map_err(|refusals| refused(&text, refusals))?;
    let table = text.as_str().parse().map_err(|error| Failure::refused("FILE", format!("{}: {error}", text.name)))?;
    Ok((file.said.name.unwrap_or_else(|| name(path)), table))
}

/// Its text, of bounded length.
fn read(path: &Path) -> Result<Text, Failure> {
    let stdin = path == Path::new("-");
    let name = if stdin { "<stdin>".to_owned() } else { path.display().to_string() };
    let mut bytes = Vec::new();
    let most = LONGEST as u64 + 1;
    let got = match stdin {
        true => io::stdin().lock().take(most).read_to_end(&mut bytes),
        false => File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)),
    };
    got.map_err(|error| Failure::system(format!("cannot read {name}"), &error).with_option("FILE"))?;
    if bytes.len() > LONGEST {
        return Err(Failure::refused("FILE", format!("{name} is longer than {} KiB", LONGEST >> 10)));
    }
    Text::new(&name, bytes).map_err(|at| Failure::refused("FILE", format!("{name} is no text: byte {at} is no UTF-8")))
}

/// Relative paths in a file are relative to it; those of a stream to where we are.
fn enter(path: &Path) -> Result<(), Failure> {
    match path.parent() {
        Some(dir) if path != Path::new("-") && !dir.as_os_str().is_empty() => std::env::set_current_dir(dir)
            .map_err(|error| Failure::system(format!("cannot enter {}", dir.display()), &error).with_option("FILE")),
        _ => Ok(()),
    }
}

/// What its containers' names begin with: the file's, as far as a name can have it.
fn name(path: &Path) -> String {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let good = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let name: String =
        stem.trim_start_matches(|c: char| !c.is_ascii_alphanumeric()).chars().filter(good).take(40).collect();
    if name.is_empty() { "up".into() } else { name }
}

fn refused(text: &Text, refusals: Vec<Refusal>) -> Failure {
    Failure::of_file(&text.name, refusals.into_iter().map(|refusal| refusal.place(text)).collect())
}

fn checked(text: &Text, built: &Built, json: bool) -> Result<u8, Failure> {
    let services: Vec<&str> = built.units.iter().map(|unit| unit.label.as_str()).collect();
    let said = match json {
        true => serde_json::json!({ "schema": 1, "file": text.name, "services": services }).to_string(),
        false => {
            let what = if let [_] = services[..] { "service" } else { "services" };
            format!("{}: nothing is wrong; {} {what}: {}", text.name, services.len(), services.join(", "))
        }
    };
    match io::Write::write_all(&mut io::stdout(), format!("{said}\n").as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::system("cannot write", &error)),
        _ => Ok(0),
    }
}

/// Whether a text is a file of `up`, as far as that can be said without looking at a machine; else everything that is
/// wrong, one text each.
///
/// # Errors
/// It is not.
pub fn check(text: &str) -> Result<(), Vec<String>> {
    let text = Text::new("up.toml", text.as_bytes().to_vec()).map_err(|at| vec![format!("byte {at} is no UTF-8")])?;
    let told = |refusal: Refusal| refusal.place(&text).text(crate::errors::one_line);
    file::read(&text).map(drop).map_err(|refusals| refusals.into_iter().map(told).collect())
}
