//! What can be typed of `serve`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use orangery::runtime::rootfs::Layering;

pub(super) const HELP: &str = "\
Only its own user and root can connect: the socket has mode 0600 in a directory of mode 0700, and the kernel says who is at the
other end. INT and TERM end it: streams are told where they stand, and what is being answered has ten seconds. Containers,
their reports and their logs are the next one's, which is started with the same --state.

USR2 replaces it by the program that lies at its path by then, in the same process: no connection is refused meanwhile, streams of our
clients go on, and one that cannot take over is not run. The reason is in the log.

With --takeover another process takes over from the one that serves this --state: its sockets, then everything else. Where nobody is there it
simply starts. One that is kept by systemd is replaced by systemctl reload.

systemd: READY, RELOADING, STOPPING and the watchdog (Type=notify), sockets (ListenStream=), the fd store; units are in contrib/. Without systemd
nothing is missing.

The interface is described by GET /v1/openapi.json.

Examples:
  orangery serve &
  orangery run --detach --name web -- ./web
  curl --unix-socket /run/orangery-serve/socket http://localhost/v1/containers
  orangery serve --listen 127.0.0.1:7070 --token-file ./token";

/// The options of `serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Where its state and the logs of its containers are, made with mode 0700 [/var/lib/orangery; for other users than root
    /// ~/.local/state/orangery]
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// Its socket [$ORANGERY_SOCKET, else /run/orangery-serve/socket; for other users than root in $XDG_RUNTIME_DIR]
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Listen here too; without encryption, and only for who has the token
    #[arg(long, value_name = "ADDRESS:PORT", requires = "token_file")]
    pub(crate) listen: Option<SocketAddr>,
    /// What clients on TCP have to send is in this file, which nobody else can read
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// An existing cgroup to make those of containers in; our own by default
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup_parent: Option<PathBuf>,
    /// How a --writable root may be made, the first that can be had [overlay,fuse-overlayfs,copy]
    #[arg(long, value_name = "WAY,...", value_delimiter = ',')]
    pub(crate) layering: Vec<Layering>,
    /// Go on in the place of the daemon that serves this state, if one does
    #[arg(long)]
    pub(crate) takeover: bool,
    /// Say what this program could take over, and do nothing
    #[arg(long, hide = true)]
    pub(crate) check: bool,
}
