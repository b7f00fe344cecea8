//! A command line that is none, in the words of a failure.

use std::error::Error as _;

use clap::CommandFactory as _;
use clap::error::{ContextKind, ContextValue, ErrorKind as ClapKind};

use super::Cli;
use crate::errors::Failure;

/// The command line itself is wrong. clap's own text takes more lines than an error should.
pub(super) fn refusal(error: &clap::Error) -> Failure {
    let text = error.to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    let rest: Vec<&str> = lines.take_while(|line| !line.starts_with("Usage:")).collect();
    let tip = rest.iter().find_map(|line| line.strip_prefix("tip: ")).map(str::to_owned);
    let argument = context(error, ContextKind::InvalidArg);
    let what = match (error.kind(), error.source()) {
        (ClapKind::ValueValidation, Some(source)) => source.to_string(),
        (ClapKind::MissingRequiredArgument, _) => {
            format!("{} is missing", argument.as_deref().unwrap_or("an argument"))
        }
        (ClapKind::ArgumentConflict, _) => {
            let others = context(error, ContextKind::PriorArg).unwrap_or_else(|| "another".into());
            format!("{} cannot be used with {others}", argument.as_deref().unwrap_or("an argument"))
        }
        (ClapKind::DisplayHelpOnMissingArgumentOrSubcommand, _) => "no subcommand is given".into(),
        _ => first,
    };
    let subcommand = std::env::args().nth(1).filter(|word| Cli::command().find_subcommand(word).is_some());
    let help = format!("orangery {}--help", subcommand.map(|word| word + " ").unwrap_or_default());
    let option = argument.filter(|_| error.kind() == ClapKind::ValueValidation);
    let possible = (error.kind() == ClapKind::InvalidValue).then(|| possible(error)).flatten();
    let hint = possible.or(tip).unwrap_or(help);
    let failure = Failure::new(what).with_kind("usage").with_hint(hint);
    match option {
        Some(option) => failure.with_option(&option),
        None => failure,
    }
}

/// Every value that there is, where one was given that there is not.
fn possible(error: &clap::Error) -> Option<String> {
    match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(values)) if !values.is_empty() => Some(values.join(", ")),
        _ => None,
    }
}

fn context(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) => Some(texts.join(", ")),
        _ => None,
    }
}
