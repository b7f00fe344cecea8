//! What can be typed of `rootfs`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use orangery::runtime::spec::size::parse_size;

pub(super) const HELP: &str = "\
What is user 0 in an archive is the container's root, what is 1000 its user 1000. An ordinary user needs a range in /etc/subuid and
/etc/subgid for that (`orangery doctor` says whether there is one); without it everything is the container's root's, and that is said.

Examples:
  orangery rootfs unpack alpine-minirootfs.tar.gz alpine
  orangery run --rootfs alpine/rootfs --writable -- /bin/sh -c 'apk info'
  orangery rootfs remove alpine";

pub(super) const UNPACK_HELP: &str = "\
DIR is made, closed to other users, and holds `rootfs` (for `run --rootfs DIR/rootfs`) and `orangery.json` (what was unpacked, and what was
not). It is there whole or not at all. Several sources lie over each other, the first lowest; whiteouts (.wh.NAME) are understood then.

Nothing is written outside of it: absolute names, `..` and links that lead out are refused by their names. Devices are left out, and said.
Archives are tar: ustar, GNU or pax, sparse files included; plain, or compressed by gzip or zstd.

Examples:
  orangery rootfs unpack debian.tar.zst debian
  docker export CONTAINER | orangery rootfs unpack - copy
  orangery rootfs unpack base.tar app.tar.gz app         two layers
  orangery rootfs unpack --max-size 1G upload.tar sandbox --json | jq .report.skipped";

pub(super) const REMOVE_HELP: &str = "\
Files of a container belong to ids of your range, and its directories may be closed to you: `rm` cannot remove them, this can, without root.
Links are not followed. A DIR that is gone already is no error; what an interrupted `unpack` or `remove` has left is removed as well.

Examples:
  orangery rootfs remove alpine
  orangery rootfs remove --force some-other-tree";

/// The options of `rootfs`.
#[derive(Debug, Args)]
pub(crate) struct RootfsArgs {
    #[command(subcommand)]
    pub(crate) act: RootfsAct,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RootfsAct {
    /// Make a root file system of archives or directories
    #[command(after_help = UNPACK_HELP)]
    Unpack(UnpackArgs),
    /// Remove root file systems, whoever of your ids they belong to
    #[command(after_help = REMOVE_HELP)]
    Remove(RemoveArgs),
}

#[derive(Debug, Args)]
pub(crate) struct UnpackArgs {
    /// Archives or directories, the lowest first; `-` is stdin
    #[arg(value_name = "SOURCE", required = true)]
    pub(crate) sources: Vec<PathBuf>,
    /// Where it is made; must not be there yet
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Refuse more content than this [default: 16G]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) max_size: Option<u64>,
    /// Refuse more files, directories and links than this [default: 1000000]
    #[arg(long, value_name = "N")]
    pub(crate) max_entries: Option<u64>,
    /// Refuse directories that lie deeper than this [default: 256]
    #[arg(long, value_name = "N")]
    pub(crate) max_depth: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// What `rootfs unpack` has made
    #[arg(value_name = "DIR", required = true)]
    pub(crate) dirs: Vec<PathBuf>,
    /// Also what something else has made
    #[arg(long)]
    pub(crate) force: bool,
}
