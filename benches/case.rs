//! One kind of container, said in every contestant's words.
//!
//! **The same for all**: a read-only root that has nothing but the guest, its own mount, pid, ipc, uts, cgroup and user
//! namespaces (and network, or not), /proc, /dev, /sys, private /tmp and /run, the same static guest of one page.
//!
//! Two roots: `dir`, a directory with the guest in /bin, which every peer can be given; and `host`, the library's
//! default allow-list of the host, where the guest comes as descriptor 3 (so that nothing is mounted for it) and which
//! only the stub can be compared with.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use clap::ValueEnum;
use orangery::{Access, Command, Network, Sandbox, Supervisor};
use orangery_runtime::spec::{Rootfs, Stdio};
use orangery_runtime::{ContainerSpec, ProcessSpec};

static GUEST: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/orangery-guest"));

/// What `/` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Root {
    /// A directory with the guest.
    Dir,
    /// The library's default: an allow-list of the host.
    Host,
}

/// One kind of container.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What `/` is.
    pub root: Root,
    /// It has a network namespace.
    pub network: bool,
}

/// Files that the containers use.
#[derive(Debug)]
pub struct Fixture {
    dir: tempfile::TempDir,
}

impl Fixture {
    /// Make them.
    ///
    /// # Errors
    /// The temporary directory cannot be written.
    pub fn new() -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("orangery-bench").tempdir()?;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        let root = dir.path().join("root");
        for name in ["bin", "dev", "proc", "sys", "tmp", "run", "etc", "var", "home", "root"] {
            fs::create_dir_all(root.join(name))?;
        }
        let fixture = Self { dir };
        fs::write(fixture.guest(), GUEST)?;
        fs::set_permissions(fixture.guest(), fs::Permissions::from_mode(0o755))?;
        Ok(fixture)
    }

    /// The directory itself.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The root directory.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// The guest outside.
    #[must_use]
    pub fn guest(&self) -> PathBuf {
        self.root().join("bin/true")
    }

    fn open_guest(&self) -> anyhow::Result<OwnedFd> {
        Ok(File::open(self.guest())?.into())
    }
}

impl Case {
    /// "dir, own network".
    #[must_use]
    pub fn name(&self) -> String {
        let root = match self.root {
            Root::Dir => "root dir",
            Root::Host => "host allow-list",
        };
        format!("{root}, network {}", if self.network { "none (own namespace)" } else { "host" })
    }

    fn network(self) -> Network {
        if self.network { Network::None } else { Network::Host }
    }

    /// The sandbox.
    ///
    /// # Errors
    /// Never for these.
    pub fn sandbox(self, fixture: &Fixture) -> anyhow::Result<Sandbox> {
        self.sandbox_of(fixture.root())
    }

    /// The sandbox, where the root of the fixture is another process's.
    ///
    /// # Errors
    /// Never for these.
    pub fn sandbox_of(self, root: PathBuf) -> anyhow::Result<Sandbox> {
        let sandbox = Sandbox::builder().network(self.network());
        let sandbox = match self.root {
            Root::Dir => sandbox.rootfs_dir(root, Access::ReadOnly),
            Root::Host => sandbox,
        };
        Ok(sandbox.build()?)
    }

    /// What is executed inside.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self.root {
            Root::Dir => "/bin/true",
            Root::Host => "/proc/self/fd/3",
        }
    }

    /// The guest in it, which ends at once or waits until it is killed.
    ///
    /// # Errors
    /// The guest cannot be opened.
    pub fn command(self, supervisor: &Supervisor, fixture: &Fixture, pause: bool) -> anyhow::Result<Command> {
        let mut command = supervisor.command(self.program()).sandbox(&self.sandbox(fixture)?);
        if self.root == Root::Host {
            command = command.preserve(fixture.open_guest()?);
        }
        Ok(if pause { command.arg("pause") } else { command })
    }

    /// The same as the runtime sees it, to have its plans.
    ///
    /// # Errors
    /// The guest cannot be opened.
    pub fn specs(self, fixture: &Fixture, pause: bool) -> anyhow::Result<(ContainerSpec, ProcessSpec)> {
        let mut container = ContainerSpec::default();
        // As long as those that the supervisor gives.
        container.id = "0123456789ab-100".into();
        container.network = self.network();
        let mut process = ProcessSpec::default();
        process.argv = vec![self.program().into()];
        if pause {
            process.argv.push("pause".into());
        }
        let pair = |(key, value): (&str, &str)| (OsString::from(key), OsString::from(value));
        process.env = [
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            ("HOME", "/root"),
            ("TERM", "xterm"),
            ("LANG", "C.UTF-8"),
        ]
        .map(pair)
        .to_vec();
        (process.stdout, process.stderr) = (Stdio::Piped, Stdio::Piped);
        match self.root {
            Root::Dir => container.rootfs = Rootfs::Dir { path: fixture.root(), access: Access::ReadOnly },
            Root::Host => process.preserved = vec![Arc::new(fixture.open_guest().context("the guest")?)],
        }
        Ok((container, process))
    }
}
