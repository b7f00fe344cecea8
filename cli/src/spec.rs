//! Options become a container spec and a process spec, once, for `run` and `explain` alike.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use orangery::runtime::spec::user::{NameOrId, parse_user};
use orangery::runtime::{ContainerSpec, Errors, ProcessSpec, Runtime as _};
use orangery::{
    Access, Command, Disk, Error, Limits, Mount, Network, NetworkPlugin, NetworkProvider, Pasta, Rootfs, Sandbox,
    SandboxBuilder, Supervisor, User, UserNamespace, WindowSize,
};

use crate::args::{self, Enforcing, LimitArgs, RootArgs, TimeArgs, Words, WorkArgs};
use crate::errors::Failure;
use crate::signals;
use crate::start::absolute;

/// PATH inside: the library's own.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is to run, and in what.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) container: ContainerSpec,
    pub(crate) main: ProcessSpec,
}

/// Between the signal of a `--timeout-signal` and the kill.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

impl Wanted {
    /// What the options say.
    ///
    /// # Errors
    /// Options that contradict each other, or say nothing.
    pub(crate) fn new(work: &WorkArgs, words: Words<'_>) -> Result<Self, Failure> {
        match &work.root.bundle {
            Some(dir) => from_bundle(dir, words),
            None => Ok(Self { container: container(work, words)?, main: main(work, words)? }),
        }
    }

    /// The same, said to the library. `watched`: the output goes through its streams, where it sees a silence.
    ///
    /// # Errors
    /// What the library refuses without looking at the machine.
    pub(crate) fn command(self, supervisor: &Supervisor, work: &WorkArgs, watched: bool) -> Result<Command, Failure> {
        if let Some(dir) = &work.root.bundle {
            // As for every command: see `sandbox`.
            let command = timed(supervisor.bundle(dir)?.drain_grace(Some(Duration::ZERO)), &work.time);
            return Ok(if self.container.id.is_empty() { command } else { command.id(self.container.id) });
        }
        let sandbox = sandbox(&self.container, work, watched);
        let sandbox = sandbox.map_err(|error| self.all_refusals(supervisor).map_or(error, Error::from))?;
        let Self { main, .. } = self;
        let mut words = main.argv.into_iter();
        let program = words.next().unwrap_or_default();
        let mut command = supervisor.command(program).args(words).sandbox(&sandbox).user(main.user);
        // After the user, which would set a HOME of its own.
        command = command.env_clear().envs(main.env);
        if let Some(dir) = main.cwd {
            command = command.current_dir(dir);
        }
        command = timed(command, &work.time).tty(main.tty.is_some());
        Ok(main.rlimits.into_iter().fold(command, Command::rlimit))
    }

    /// What the runtime, which looks at the machine too, refuses; nothing is made.
    pub(crate) fn all_refusals(&self, supervisor: &Supervisor) -> Option<Errors> {
        let mut container = self.container.clone();
        if container.id.is_empty() {
            container.id = "unnamed".into();
        }
        supervisor.native()?.check(&container, &self.main).err()
    }
}

/// An OCI bundle: its config.json says everything but the name.
fn from_bundle(dir: &Path, words: Words<'_>) -> Result<Wanted, Failure> {
    let (mut container, mut main) = orangery::runtime::spec::oci::read(dir).map_err(Error::from)?;
    if words.tty {
        main.tty.get_or_insert_default();
    }
    container.id = words.name.unwrap_or_default().to_owned();
    Ok(Wanted { container, main })
}

fn timed(command: Command, time: &TimeArgs) -> Command {
    let command = match &time.stop {
        Some(ladder) => command.stop_ladder(ladder.clone()),
        None => command,
    };
    let Some(limit) = time.timeout else { return command };
    let command = command.timeout(limit);
    match (time.timeout_signal, time.timeout_grace) {
        (None, None) => command,
        (signal, grace) => command.timeout_gently(signal.unwrap_or(signals::TERM), grace.unwrap_or(GRACE)),
    }
}

fn sandbox(container: &ContainerSpec, work: &WorkArgs, watched: bool) -> Result<Sandbox, Error> {
    let container = container.clone();
    let mut builder = Sandbox::builder()
        .id(container.id)
        .rootfs(container.rootfs)
        .host_opt(container.host_opt)
        .user_namespace(container.user_namespace)
        .network(container.network)
        .limits(container.limits)
        .enforcement(container.enforcement)
        .disk(container.disk)
        .init(!container.without_init);
    if let Some(provider) = container.network_provider {
        builder = builder.network_provider(provider);
    }
    if let Some(provider) = container.rootfs_provider {
        builder = builder.rootfs_provider(provider);
    }
    if let Some(pasta) = container.pasta {
        builder = builder.pasta(pasta);
    }
    for namespace in container.join {
        builder = builder.join_namespace(namespace);
    }
    for path in container.masked_paths {
        builder = builder.mask(path);
    }
    builder = of_each(builder, work);
    if let Some(name) = container.hostname {
        builder = builder.hostname(name);
    }
    for mount in container.mounts {
        builder = builder.mount(mount);
    }
    for file in container.files {
        builder = builder.file(file.path, file.content.to_vec());
    }
    for (key, value) in &work.label.label {
        builder = builder.label(key, value);
    }
    if let Some(limit) = work.program.output_limit {
        builder = builder.output_limit(limit);
    }
    if let Some(limit) = work.time.timeout_cpu {
        builder = builder.cpu_time(limit);
    }
    // Where the output goes through pipes of ours we watch them ourselves.
    if let (Some(limit), true) = (work.time.timeout_idle, watched) {
        builder = builder.idle(limit);
    }
    // Whoever of its children still writes then ends with it: with a log as without.
    builder = builder.drain_grace(Some(Duration::ZERO));
    builder.build()
}

/// What a preset and rules of landlock say of each process, those of hooks and probes among them.
fn of_each(mut builder: SandboxBuilder, work: &WorkArgs) -> SandboxBuilder {
    if let Some(rules) = &work.root.landlock {
        builder = builder.landlock(rules.clone());
    }
    let Some(choices) = work.choices() else { return builder };
    if let Some(caps) = choices.caps {
        builder = builder.process_caps(caps);
    }
    builder = choices.rlimits.into_iter().fold(builder, SandboxBuilder::process_rlimit);
    builder.refuse_calls(choices.refused_calls)
}

fn container(work: &WorkArgs, words: Words<'_>) -> Result<ContainerSpec, Failure> {
    let root = &work.root;
    let mut spec = ContainerSpec::default();
    spec.id = words.name.unwrap_or_default().to_owned();
    spec.rootfs = rootfs(root)?;
    if let Rootfs::Dir { path, access } = &spec.rootfs
        && path.is_file()
    {
        spec.rootfs_provider = Some(crate::rootfs::of_archive(path, *access)?);
        spec.rootfs = Rootfs::default();
    }
    spec.host_opt = root.host_opt;
    spec.mounts = root.mount.clone();
    spec.mounts.extend(root.device.iter().map(|path| Mount::device(absolute(path))));
    spec.user_namespace = match root.userns {
        args::Userns::Own => UserNamespace::Own,
        args::Userns::Shared => UserNamespace::Shared,
        args::Userns::Host => UserNamespace::Host,
    };
    spec.network = match root.network {
        args::Network::None | args::Network::Pasta => Network::None,
        args::Network::Host => Network::Host,
    };
    spec.pasta = pasta(root)?;
    spec.network_provider = root
        .network_plugin
        .as_ref()
        .map(|socket| Arc::new(NetworkPlugin::new(absolute(socket))) as Arc<dyn NetworkProvider>);
    spec.hostname = root.hostname.clone();
    for join in &root.join {
        spec.join.push(join.open()?);
    }
    spec.limits = limits(&work.limits);
    spec.enforcement = work.limits.limits.map(Enforcing::enforcement).unwrap_or_default();
    spec.masked_paths = work.choices().map(|choices| choices.masked).unwrap_or_default();
    let disk = Disk::default();
    spec.disk = Disk { bytes: root.disk.unwrap_or(disk.bytes), inodes: root.disk_inodes.unwrap_or(disk.inodes) };
    spec.without_init = work.program.no_init;
    Ok(spec)
}

fn pasta(root: &RootArgs) -> Result<Option<Pasta>, Failure> {
    if !matches!(root.network, args::Network::Pasta) {
        let option = if root.publish.is_empty() { "--host-loopback" } else { "--publish" };
        if root.publish.is_empty() && !root.host_loopback {
            return Ok(None);
        }
        return Err(Failure::refused(option, format!("{option} needs --network pasta")));
    }
    let pasta = Pasta::new().host_loopback(root.host_loopback);
    Ok(Some(root.publish.iter().copied().fold(pasta, Pasta::publish)))
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
        io_weight: args.io_weight,
        io_device_weight: args.io_device_weight.clone(),
        io_max: args.io_max.clone(),
        ..Limits::default()
    }
}

fn main(work: &WorkArgs, words: Words<'_>) -> Result<ProcessSpec, Failure> {
    let mut spec = ProcessSpec::default();
    spec.argv = words.command.to_vec();
    spec.cwd = work.program.workdir.clone();
    spec.rlimits = work.rlimits.all();
    spec.tty = words.tty.then(WindowSize::default);
    let mut home = "/root";
    if let Some(user) = &work.program.user {
        let request = parse_user(user).map_err(|why| Failure::refused("--user", why))?;
        if request.user != NameOrId::Id(0) && request.user != NameOrId::Name("root".into()) {
            home = "/home/user";
        }
        spec.user = User::Name(user.clone());
    }
    spec.env = environment(home, &work.program.env)?;
    spec.landlock.clone_from(&work.root.landlock);
    if let Some(choices) = work.choices() {
        choices.give(&mut spec);
    }
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
