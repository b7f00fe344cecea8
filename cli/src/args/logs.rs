//! What can be typed about logs: `run --log` and `logs`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use orangery::runtime::spec::size::{parse_duration, parse_size};

use super::client::LastingArgs;
use super::limits::whole;

pub(super) const HELP: &str = "\
What the log does not have any more, or never had because the disk was full, is said on stderr. A log of the daemon is
followed across its restarts, without a byte missing or twice.

Examples:
  orangery run --log ./log -- ./build
  orangery logs ./log --follow --tail 20
  orangery logs --follow web
  orangery logs ./log --since 5m --timestamps
  orangery logs ./log --format json | jq -r 'select(.stream == \"stderr\") | .text'";

#[derive(Debug, Args)]
#[command(next_help_heading = "Keeping the output")]
pub(crate) struct LogArgs {
    /// Keep the output in this directory, and show it from there; an existing log is gone on with
    #[arg(long, value_name = "DIR")]
    pub(crate) log: Option<PathBuf>,
    /// A file of the log is no longer than this
    #[arg(long, value_name = "SIZE", value_parser = positive_size, default_value = "10M", requires = "log", allow_hyphen_values = true)]
    pub(crate) log_max_size: u64,
    /// So many files of each stream are kept
    #[arg(long, value_name = "N", value_parser = positive, default_value = "5", requires = "log", allow_hyphen_values = true)]
    pub(crate) log_max_files: usize,
    /// Compress the files that are full, at this level of zstd [without LEVEL: zstd's default]
    #[arg(long, value_name = "LEVEL", num_args = 0..=1, require_equals = true, default_missing_value = "0", value_parser = level, requires = "log")]
    pub(crate) log_compress: Option<i32>,
}

fn positive_size(text: &str) -> Result<u64, String> {
    match parse_size(text)? {
        0 => Err("a file of a log needs room".into()),
        size => Ok(size),
    }
}

/// As the program zstd has them, and 0 for its default.
fn level(text: &str) -> Result<i32, String> {
    let level = text.parse().ok().filter(|level| (-7..=22).contains(level));
    level.ok_or_else(|| format!("{text:?} is no level of compression: write a whole number from -7 to 22"))
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err(format!("{text:?} is not a whole number from 1 on, such as 5")),
        Ok(number) => Ok(number),
    }
}

/// The options of `logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// A container of the daemon; or, with a `/` in it, the directory of a log
    #[arg(value_name = "NAME|DIR")]
    pub(crate) of: OsString,
    /// Go on with what is written later
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// The same, also behind the end of a command: with what the next one writes there, as `run --restart` does. A
    /// service of the daemon has one output through all its lives anyway
    #[arg(short = 'F', long)]
    pub(crate) follow_on: bool,
    /// Only the last lines of each stream, and what follows
    #[arg(long, value_name = "N", value_parser = whole, conflicts_with_all = ["since", "from"], allow_hyphen_values = true)]
    pub(crate) tail: Option<u64>,
    /// Only what was written so long ago or later, such as 5m
    #[arg(long, value_name = "TIME", value_parser = parse_duration, conflicts_with = "from", allow_hyphen_values = true)]
    pub(crate) since: Option<Duration>,
    /// Only from this byte of the stream on (of stdout without --stream)
    #[arg(long, value_name = "OFFSET", value_parser = whole, allow_hyphen_values = true)]
    pub(crate) from: Option<u64>,
    /// Only this stream
    #[arg(long, value_enum)]
    pub(crate) stream: Option<LogStream>,
    /// raw: each byte to the stream it came from; lines, json and cri: lines on stdout. With --json: json
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: LogFormat,
    /// The time in front of each line
    #[arg(long)]
    pub(crate) timestamps: bool,
    #[command(flatten)]
    pub(crate) lasting: LastingArgs,
}

/// Whose log it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogOf<'a> {
    /// A container's, which the daemon keeps.
    Container(&'a str),
    /// The one in this directory.
    Dir(&'a Path),
}

impl LogsArgs {
    /// A path has a `/` in it, and a name has none: nothing is looked at to tell, so that a directory that happens to be
    /// there changes nothing.
    pub(crate) fn of(&self) -> LogOf<'_> {
        let is_path = self.of.as_bytes().contains(&b'/') || self.of == "." || self.of == "..";
        match self.of.to_str() {
            Some(name) if !is_path => LogOf::Container(name),
            _ => LogOf::Dir(Path::new(&self.of)),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogStream {
    Stdout,
    Stderr,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    #[default]
    Raw,
    Lines,
    Json,
    Cri,
}
