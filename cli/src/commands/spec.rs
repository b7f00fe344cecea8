//! What was typed becomes what a daemon is asked for: each option that was given is a key of the spec, with its words as
//! they were written. What is meant as seen from here, paths and variables, is said so that it means the same there.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory as _};
use orangery_daemon::wire::Spec;
use serde_json::{Map, Value};

use crate::args::{Cli, ServiceArgs};
use crate::errors::Failure;
use crate::start::absolute;
use crate::up::file::{Keys, Kind, kind};

/// Keys whose value is a path of the host.
const PATHS: [&str; 3] = ["rootfs", "bundle", "device"];

/// The options of the work that were given.
///
/// # Errors
/// What a daemon cannot be told.
pub(super) fn of_options(matches: &ArgMatches) -> Result<Map<String, Value>, Failure> {
    let keys = Keys::of::<ServiceArgs>();
    let mut spec = Map::new();
    for arg in keys.args() {
        let (id, Some(key)) = (arg.get_id().as_str(), arg.get_long()) else { continue };
        // What is no option of `run`, or is said elsewhere, or was not given.
        let is_option = key != "command" && matches.try_contains_id(id).is_ok();
        if !is_option || matches.value_source(id) != Some(ValueSource::CommandLine) {
            continue;
        }
        let words = matches.get_raw(id).into_iter().flatten();
        let words = words.map(|word| from_here(key, word)).collect::<Result<Vec<Value>, Failure>>()?;
        let value = match (kind(arg), words) {
            (Kind::Flag, _) => Value::Bool(true),
            (Kind::One { .. }, mut words) => words.pop().unwrap_or_default(),
            (Kind::Many { .. }, words) => Value::Array(words),
        };
        spec.insert(key.to_owned(), value);
    }
    Ok(spec)
}

/// Whether `run` has an option for that key.
pub(super) fn is_option(key: &str) -> bool {
    let cli = Cli::command();
    cli.find_subcommand("run").is_some_and(|run| run.get_arguments().any(|arg| arg.get_long() == Some(key)))
}

/// With the command.
pub(super) fn with_command(mut spec: Map<String, Value>, command: &[OsString]) -> Result<Spec, Failure> {
    if !command.is_empty() {
        spec.insert("command".into(), Value::Array(words("COMMAND", command)?.into_iter().map(Value::from).collect()));
    }
    Ok(Spec(spec))
}

/// Words as text: a daemon is asked in JSON.
pub(super) fn words(option: &str, words: &[OsString]) -> Result<Vec<String>, Failure> {
    words.iter().map(|word| text(option, word)).collect()
}

pub(super) fn text(option: &str, word: &OsStr) -> Result<String, Failure> {
    word.to_str().map(str::to_owned).ok_or_else(|| {
        Failure::refused(option, format!("{} is no UTF-8, which the daemon cannot be told", word.display()))
    })
}

/// `K=V`; `K` alone is ours of that name.
pub(super) fn variable(word: &OsStr) -> Result<(String, String), Failure> {
    let word = text("--env", word)?;
    match word.split_once('=') {
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => match std::env::var_os(&word) {
            Some(value) => Ok((word, text("--env", &value)?)),
            None => Err(Failure::refused("--env", format!("{word} is not set here"))
                .with_hint("--env K=V sets a variable, --env K passes ours")),
        },
    }
}

/// A word of a key, such that it means there what it means here.
pub(super) fn from_here(key: &str, word: &OsStr) -> Result<Value, Failure> {
    let option = format!("--{key}");
    let path = |path: &str| text(&option, absolute(Path::new(path)).as_os_str());
    let word = match key {
        "log" => {
            let why = "the daemon keeps the log of each of its containers itself";
            return Err(
                Failure::refused(&option, why).with_hint("orangery logs NAME; --log-max-size and its like count")
            );
        }
        "env" => variable(word).map(|(key, value)| format!("{key}={value}"))?,
        key if PATHS.contains(&key) => path(&text(&option, word)?)?,
        "mount" => {
            let parts = text(&option, word)?;
            let part = |part: &str| match part.split_once('=') {
                Some((name @ ("src" | "source"), source)) => path(source).map(|source| format!("{name}={source}")),
                _ => Ok(part.to_owned()),
            };
            parts.split(',').map(part).collect::<Result<Vec<String>, Failure>>()?.join(",")
        }
        "join" => match text(&option, word)?.split_once('=') {
            Some((kind, place)) => format!("{kind}={}", path(place)?),
            None => text(&option, word)?,
        },
        _ => text(&option, word)?,
    };
    Ok(word.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(options: &[&str]) -> Value {
        let line = [&["orangery", "run", "--detach"], options, &["--", "true", "-x"]].concat();
        let matches = Cli::command().try_get_matches_from(line).unwrap();
        of_options(matches.subcommand_matches("run").unwrap()).unwrap().into()
    }

    #[test]
    fn what_was_given_and_nothing_else() {
        assert_eq!(spec(&[]), serde_json::json!({}));
        let options =
            ["--memory", "64M", "-e", "A=1=2", "-e", "B=", "--host-opt", "--no-init", "--nofile", "5", "--pids", "7"];
        let expected = serde_json::json!({
            "memory": "64M", "env": ["A=1=2", "B="], "host-opt": true, "no-init": true, "nofile": "5", "pids": "7",
        });
        assert_eq!(spec(&options), expected);
    }

    #[test]
    fn paths_and_variables_are_ours() {
        let here = std::env::current_dir().unwrap().display().to_string();
        let options = ["--mount", "type=bind,src=a,dst=/a,ro", "--rootfs", "b", "--join", "net=c", "-e", "PATH"];
        let expected = serde_json::json!({
            "mount": [format!("type=bind,src={here}/a,dst=/a,ro")],
            "rootfs": format!("{here}/b"),
            "join": [format!("net={here}/c")],
            "env": [format!("PATH={}", std::env::var("PATH").unwrap())],
        });
        assert_eq!(spec(&options), expected);
        assert!(variable(OsStr::new("NOT_SET_ANYWHERE")).is_err());
        assert!(from_here("log", OsStr::new("x")).is_err());
    }
}
