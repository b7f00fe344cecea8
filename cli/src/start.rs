//! What the command does to its own process before anything else: it owns it, a library would not.

use std::path::{Path, PathBuf};

use orangery::runtime::{cgroup, systemd};
use orangery::{Program, Supervisor, SupervisorBuilder};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::args::PlaceArgs;

/// Descriptors that one container and its keeper need, rounded up to what the kernel's table grows to.
const DESCRIPTORS: i32 = 255;

/// Grow the descriptor table while there is one thread: 10 us now, 7 to 9 ms (an RCU grace period) later.
pub(crate) fn grow_descriptor_table() {
    // A failure (a tiny RLIMIT_NOFILE) costs the time that it would have saved, nothing else.
    drop(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), DESCRIPTORS));
}

/// As many descriptors as we may have: a daemon holds a few of each container and each client.
pub(crate) fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::info!(%error, "the limit of descriptors stays as it is");
    }
}

/// Logs go to stderr, which the command shares: errors only, unless `-v` or RUST_LOG asks for more.
pub(crate) fn tracing(verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::ERROR,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let mut filter = EnvFilter::builder().with_default_directive(level.into()).from_env_lossy();
    if std::env::var_os("RUST_LOG").is_none() {
        // How many threads a server has is not what its user wants to know, and what clients send that is no request is theirs to
        // say, not to be written down without end.
        for quiet in ["actix_server=warn", "actix_http=off"].into_iter().filter_map(|text| text.parse().ok()) {
            filter = filter.add_directive(quiet);
        }
    }
    let subscriber = tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter);
    // Only a second subscriber is refused, and there is none.
    let _ = subscriber.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init();
}

/// Our own cgroup while it is moved into a leaf, so that the container's may have controllers (cgroup v2).
#[derive(Debug)]
pub(crate) struct Leaf(Option<PathBuf>);

impl Leaf {
    /// The same; where there are `limits` and no rights to any, in a scope of the user's own manager.
    pub(crate) fn with_limits(limits: bool) -> Self {
        if limits && matches!(cgroup::is_delegated(), Ok(false)) && systemd::session_bus().is_some() {
            match systemd::enter_scope("orangery: limits for its containers") {
                Ok(scope) => tracing::info!(scope, "in a scope of the user's systemd, for the limits"),
                Err(error) => tracing::warn!(%error, "no limits can be had"),
            }
        }
        Self::enter()
    }

    /// Move into it, where that is needed and allowed.
    pub(crate) fn enter() -> Self {
        match cgroup::enter_leaf() {
            Ok(leaf) => Self(leaf),
            Err(error) => {
                tracing::info!(%error, "this process stays where it is in the cgroup tree");
                Self(None)
            }
        }
    }
}

impl Drop for Leaf {
    /// Back, and the leaf away. The kernel refuses where controllers are on above it; that group is then one that was
    /// delegated for this command, and goes with it.
    fn drop(&mut self) {
        let Some(leaf) = self.0.take() else { return };
        let back = leaf.parent().map(|parent| std::fs::write(parent.join("cgroup.procs"), "0"));
        if matches!(back, Some(Ok(()))) {
            let _ = std::fs::remove_dir(&leaf);
        }
    }
}

/// A supervisor for one container.
pub(crate) fn supervisor(place: &PlaceArgs) -> SupervisorBuilder {
    let mut builder = Supervisor::builder().shards(1);
    if let Some(dir) = &place.state_dir {
        builder = builder.state_dir(absolute(dir));
    }
    builder = builder.layering(place.layering.iter().copied());
    if let Some(program) = &place.runtime {
        builder = builder.runtime(Program::new(program));
    }
    match &place.cgroup_parent {
        Some(parent) => builder.cgroup_parent(parent),
        None => builder,
    }
}

/// The library takes absolute paths only; a shell's user writes relative ones.
pub(crate) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}
