//! What can be written in a table: the options of a clap struct by their long names, with their parsers and their help.
//! So a key and an option of `run` are one thing, and a table of keys that could differ from it does not exist.

use std::ffi::OsString;

use clap::builder::{Arg, ArgAction};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgMatches, Args, Command};

/// The keys of one kind of table.
#[derive(Debug)]
pub(crate) struct Keys {
    command: Command,
}

/// What a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// true or false.
    Flag,
    /// A text; or, for some, a number too.
    One { number: bool },
    /// A list of texts; or, for `K=V`, a table too.
    Many { pairs: bool },
}

/// Names of values that are numbers, or begin with one.
const NUMBERS: [&str; 7] = ["N", "SIZE", "TIME", "SECONDS", "PERCENT", "UID[:GID]|NAME", "PORT|ADDRESS:PORT"];

/// Why a word is refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct No {
    pub(crate) what: String,
    pub(crate) hint: Option<String>,
}

/// Why words are refused that are right, each for itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Together {
    /// The first key cannot stand beside the other ones.
    Conflict(String, String),
    /// It is missing.
    Missing(String),
    Other(String),
}

impl Keys {
    pub(crate) fn of<A: Args>() -> Self {
        let command = Command::new("file").no_binary_name(true).disable_help_flag(true).disable_version_flag(true);
        let mut command = A::augment_args(command);
        command.build();
        Self { command }
    }

    pub(crate) fn args(&self) -> impl Iterator<Item = &Arg> {
        self.command.get_arguments().filter(|arg| arg.get_long().is_some())
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.args().filter_map(Arg::get_long)
    }

    /// `None`: there is no such key.
    pub(crate) fn kind(&self, key: &str) -> Option<Kind> {
        self.args().find(|arg| arg.get_long() == Some(key)).map(kind)
    }

    /// What the value is called, such as `SIZE`.
    pub(crate) fn value_name(&self, key: &str) -> String {
        self.args().find(|arg| arg.get_long() == Some(key)).map(value_name).unwrap_or_default()
    }

    /// Whether `--key=value` is right as far as that can be said of it alone.
    ///
    /// # Errors
    /// Why not, and what would be.
    pub(crate) fn check(&mut self, word: OsString) -> Result<(), No> {
        match self.command.try_get_matches_from_mut([word]) {
            Err(error) if !is_of_several(error.kind()) => Err(no(&error)),
            _ => Ok(()),
        }
    }

    /// What all words of a table say.
    ///
    /// # Errors
    /// What of them does not go together.
    pub(crate) fn all(&mut self, words: &[OsString]) -> Result<ArgMatches, Together> {
        self.command.try_get_matches_from_mut(words).map_err(|error| {
            let bare = |kind| names(&error, kind).iter().map(|name| bare(name)).collect::<Vec<_>>().join(", ");
            match error.kind() {
                ErrorKind::ArgumentConflict => {
                    Together::Conflict(bare(ContextKind::InvalidArg), bare(ContextKind::PriorArg))
                }
                ErrorKind::MissingRequiredArgument => Together::Missing(bare(ContextKind::InvalidArg)),
                _ => Together::Other(no(&error).what),
            }
        })
    }
}

pub(crate) fn kind(arg: &Arg) -> Kind {
    let name = value_name(arg);
    match arg.get_action() {
        ArgAction::SetTrue => Kind::Flag,
        ArgAction::Append => Kind::Many { pairs: name.contains('=') },
        _ => Kind::One { number: NUMBERS.contains(&name.as_str()) },
    }
}

pub(crate) fn value_name(arg: &Arg) -> String {
    arg.get_value_names().and_then(|names| names.first()).map(ToString::to_string).unwrap_or_default()
}

/// About more than one key.
fn is_of_several(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::MissingRequiredArgument | ErrorKind::ArgumentConflict)
}

/// `memory` of `--memory <SIZE>`; of a group, of which one is wanted, each.
fn bare(argument: &str) -> String {
    let of_name = |c: &char| c.is_ascii_alphanumeric() || *c == '-';
    let names = argument.split("--").skip(1).map(|text| text.chars().take_while(of_name).collect::<String>());
    names.collect::<Vec<_>>().join(" or ")
}

fn names(error: &clap::Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        _ => Vec::new(),
    }
}

fn no(error: &clap::Error) -> No {
    let possible = names(error, ContextKind::ValidValue);
    let value = names(error, ContextKind::InvalidValue).pop().unwrap_or_default();
    let source = std::error::Error::source(error).map(ToString::to_string);
    let what = match source {
        Some(why) => why,
        None if value.is_empty() => "a value is missing".into(),
        None if !possible.is_empty() => format!("{value:?} is not possible"),
        None => error.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    };
    No { what, hint: (!possible.is_empty()).then(|| possible.join(", ")) }
}
