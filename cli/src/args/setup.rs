//! What can be typed of `setup`.

use clap::Args;

pub(super) const HELP: &str = "\
Run once, by root; after it nothing of that user's sandboxes needs root. Run again, it changes only what is not so yet.

cgroups: makes orangery-user-<uid> at the top of each hierarchy and gives it to the user. Under v1, and beside it, that is all. On pure v2
the kernel also wants the user's processes to have been started in there: with systemd use `systemd-run --user --scope -p Delegate=yes`, or
`loginctl enable-linger NAME` and a user unit with Delegate=yes, and this command is not needed; without it --enter moves a shell in.

User ids: only looked at. Ranges in /etc/subuid and /etc/subgid are given by usermod, the mapping is done by newuidmap and newgidmap.

Examples:
  sudo orangery setup --user ann --dry-run
  sudo orangery setup --user ann
  sudo orangery setup --user ann --enter $$             on pure v2 without systemd
  sudo orangery setup --user ann --undo";

/// The options of `setup`.
#[derive(Debug, Args)]
pub(crate) struct SetupArgs {
    /// The ordinary user, by name or number
    #[arg(long, value_name = "NAME")]
    pub(crate) user: String,
    /// Say what would be done, and do none of it
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Take back what was made for this user
    #[arg(long, conflicts_with = "enter")]
    pub(crate) undo: bool,
    /// Move this process, and what it starts from then on, into the user's v2 group
    #[arg(long, value_name = "PID")]
    pub(crate) enter: Option<u32>,
}
