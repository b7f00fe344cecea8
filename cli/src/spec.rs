//! Options become a container spec and a process spec, once, for `run` and `explain` alike.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::time::Duration;

use orangery::runtime::spec::user::{NameOrId, parse_user};
use orangery::runtime::{ContainerSpec, ProcessSpec, Runtime as _};
use orangery::{
    Access, Command, Disk, Error, Limits, Mount, Network, Rootfs, Sandbox, Supervisor, User, UserNamespace, WindowSize,
};

use crate::args::{self, LimitArgs, RootArgs, RunArgs};
use crate::errors::Failure;
use crate::start::absolute;

/// PATH inside: the library's own.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is to run, and in what.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) container: ContainerSpec,
    pub(crate) main: ProcessSpec,
}

impl Wanted {
    /// What the options say.
    ///
    /// # Errors
    /// Options that contradict each other, or say nothing.
    pub(crate) fn new(args: &RunArgs) -> Result<Self, Failure> {
        match &args.root.bundle {
            Some(dir) => from_bundle(dir, args),
            None => Ok(Self { container: container(args)?, main: main(args)? }),
        }
    }

    /// The same, said to the library.
    ///
    /// # Errors
    /// What the library refuses without looking at the machine.
    pub(crate) fn command(self, supervisor: &Supervisor, args: &RunArgs) -> Result<Command, Failure> {
        if let Some(dir) = &args.root.bundle {
            let command = supervisor.bundle(dir)?;
            return Ok(match &args.place.name {
                Some(name) => command.id(name),
                None => command,
            });
        }
        let sandbox = sandbox(&self.container, args).map_err(|error| self.all_refusals(supervisor, error))?;
        let Self { main, .. } = self;
        let mut words = main.argv.into_iter();
        let program = words.next().unwrap_or_default();
        let mut command = supervisor.command(program).args(words).sandbox(&sandbox).user(main.user);
        // After the user, which would set a HOME of its own.
        command = command.env_clear().envs(main.env);
        if let Some(dir) = main.cwd {
            command = command.current_dir(dir);
        }
        command = command.tty(main.tty.is_some());
        Ok(main.rlimits.into_iter().fold(command, Command::rlimit))
    }
}

impl Wanted {
    /// The builder refuses what it can see alone; the runtime, which looks at the machine too, says that and the rest.
    fn all_refusals(&self, supervisor: &Supervisor, error: Error) -> Failure {
        let mut container = self.container.clone();
        if container.id.is_empty() {
            container.id = "unnamed".into();
        }
        let checked = supervisor.native().map_or(Ok(()), |native| native.check(&container, &self.main));
        checked.err().map_or_else(|| error.into(), |all| Error::from(all).into())
    }
}

/// An OCI bundle: its config.json says everything but the name.
fn from_bundle(dir: &Path, args: &RunArgs) -> Result<Wanted, Failure> {
    let (mut container, mut main) = orangery::runtime::spec::oci::read(dir).map_err(Error::from)?;
    if args.process.tty {
        main.tty.get_or_insert_default();
    }
    container.id = args.place.name.clone().unwrap_or_default();
    Ok(Wanted { container, main })
}

fn sandbox(container: &ContainerSpec, args: &RunArgs) -> Result<Sandbox, Error> {
    let container = container.clone();
    let mut builder = Sandbox::builder()
        .id(container.id)
        .rootfs(container.rootfs)
        .host_opt(container.host_opt)
        .user_namespace(container.user_namespace)
        .network(container.network)
        .limits(container.limits)
        .disk(container.disk)
        .init(!container.without_init);
    for namespace in container.join {
        builder = builder.join_namespace(namespace);
    }
    if let Some(name) = container.hostname {
        builder = builder.hostname(name);
    }
    for mount in container.mounts {
        builder = builder.mount(mount);
    }
    for (key, value) in &args.place.label {
        builder = builder.label(key, value);
    }
    if let Some(limit) = args.process.output_limit {
        builder = builder.output_limit(limit);
    }
    if let Some(limit) = args.time.timeout_cpu {
        builder = builder.cpu_time(limit);
    }
    // Where the output does not go through pipes of ours, which we watch ourselves.
    if let (Some(limit), true) = (args.time.timeout_idle, args.log.log.is_some() || args.process.tty) {
        builder = builder.idle(limit);
    }
    // Whoever of its children still writes then ends with it: with a log as without.
    builder = builder.drain_grace(Some(Duration::ZERO));
    builder.build()
}

fn container(args: &RunArgs) -> Result<ContainerSpec, Failure> {
    let root = &args.root;
    let mut spec = ContainerSpec::default();
    spec.id = args.place.name.clone().unwrap_or_default();
    spec.rootfs = rootfs(root)?;
    spec.host_opt = root.host_opt;
    spec.mounts = root.mount.clone();
    spec.mounts.extend(root.device.iter().map(|path| Mount::device(absolute(path))));
    spec.user_namespace = match root.userns {
        args::Userns::Own => UserNamespace::Own,
        args::Userns::Shared => UserNamespace::Shared,
        args::Userns::Host => UserNamespace::Host,
    };
    spec.network = match root.network {
        args::Network::None => Network::None,
        args::Network::Host => Network::Host,
    };
    spec.hostname = root.hostname.clone();
    for join in &root.join {
        spec.join.push(join.open()?);
    }
    spec.limits = limits(&args.limits);
    let disk = Disk::default();
    spec.disk = Disk { bytes: root.disk.unwrap_or(disk.bytes), inodes: root.disk_inodes.unwrap_or(disk.inodes) };
    spec.without_init = args.process.no_init;
    Ok(spec)
}

fn rootfs(root: &RootArgs) -> Result<Rootfs, Failure> {
    let Some(path) = &root.rootfs else {
        let option = if root.writable { "--writable" } else { "--rw" };
        if root.writable || root.rw {
            return Err(Failure::refused(option, format!("{option} needs --rootfs")).with_hint(
                "the host's own trees stay read-only; /tmp, /run, /var, /root and /home are writable anyway",
            ));
        }
        return Ok(if root.host_root { Rootfs::HostRoot } else { Rootfs::HostAllowList });
    };
    let access = match (root.writable, root.rw) {
        (true, _) => Access::Overlay,
        (_, true) => Access::ReadWrite,
        _ => Access::ReadOnly,
    };
    Ok(Rootfs::Dir { path: absolute(path), access })
}

fn limits(args: &LimitArgs) -> Limits {
    Limits {
        memory: args.memory,
        memory_swap: args.memory_swap,
        cpu_quota: args.cpus,
        cpu_weight: args.cpu_weight,
        cpuset_cpus: args.cpuset_cpus.clone(),
        pids: args.pids,
        ..Limits::default()
    }
}

fn main(args: &RunArgs) -> Result<ProcessSpec, Failure> {
    let mut spec = ProcessSpec::default();
    spec.argv = args.command.clone();
    spec.cwd = args.process.workdir.clone();
    spec.rlimits = args.rlimits.all();
    spec.tty = args.process.tty.then(WindowSize::default);
    let mut home = "/root";
    if let Some(user) = &args.process.user {
        let request = parse_user(user).map_err(|why| Failure::refused("--user", why))?;
        if request.user != NameOrId::Id(0) && request.user != NameOrId::Name("root".into()) {
            home = "/home/user";
        }
        spec.user = User::Name(user.clone());
    }
    spec.env = environment(home, &args.process.env)?;
    Ok(spec)
}

/// The four variables that are always there, then what was asked for; the last of a name counts.
fn environment(home: &str, asked: &[OsString]) -> Result<Vec<(OsString, OsString)>, Failure> {
    let defaults = [("PATH", PATH), ("HOME", home), ("TERM", "xterm"), ("LANG", "C.UTF-8")];
    let mut env: Vec<(OsString, OsString)> = defaults.map(|(key, value)| (key.into(), value.into())).into();
    for text in asked {
        let Some((key, value)) = variable(text) else {
            let what = format!("{} is not set here", text.display());
            return Err(Failure::refused("--env", what).with_hint("--env K=V sets a variable, --env K passes ours"));
        };
        env.retain(|(have, _)| *have != key);
        env.push((key, value));
    }
    Ok(env)
}

fn variable(text: &OsStr) -> Option<(OsString, OsString)> {
    let bytes = text.as_bytes();
    match bytes.iter().position(|byte| *byte == b'=') {
        Some(at) => {
            let part = |range: &[u8]| OsString::from_vec(range.to_vec());
            Some((part(&bytes[..at]), part(&bytes[at + 1..])))
        }
        None => Some((text.to_os_string(), std::env::var_os(text)?)),
    }
}
