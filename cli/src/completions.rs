//! `orangery completions`: scripts that complete command lines, made of the same options that are parsed.

use clap::CommandFactory as _;
use clap_complete::{Shell as Script, generate};

use crate::args::{Cli, Shell};
use crate::commands::say;
use crate::errors::Failure;

/// Print it.
///
/// # Errors
/// It cannot be written.
pub(crate) fn completions(shell: Shell) -> Result<u8, Failure> {
    let script = match shell {
        Shell::Bash => Script::Bash,
        Shell::Zsh => Script::Zsh,
        Shell::Fish => Script::Fish,
    };
    let mut text = Vec::new();
    generate(script, &mut Cli::command(), "orangery", &mut text);
    say(&text)?;
    Ok(0)
}
