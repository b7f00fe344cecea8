//! What can be typed of every command that asks a daemon.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use orangery::runtime::spec::size::parse_duration;

/// Which daemon.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "The daemon")]
pub(crate) struct DaemonArgs {
    /// Its socket [$ORANGERY_SOCKET, else where `orangery serve` of this user makes it]
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
}

/// Which daemon, and what follows when it goes meanwhile.
#[derive(Debug, Args)]
#[command(next_help_heading = "The daemon")]
pub(crate) struct LastingArgs {
    #[command(flatten)]
    pub(crate) daemon: DaemonArgs,
    /// When it goes, wait this long for it to come back, and go on where it stopped; 0s: end at once
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "1m")]
    pub(crate) reconnect: Duration,
}
