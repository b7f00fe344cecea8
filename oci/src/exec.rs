//! `exec`: a further process of a container.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::rc::Rc;

use orangery_runtime::ProcessSpec;
use orangery_runtime::native::single::{self, Beside, Halt, Maker};
use orangery_runtime::spec::{CapSet, Network, User, WindowSize, user};

use crate::agent;
use crate::args::Exec;
use crate::container::Container;
use crate::failure::Failure;
use crate::hooks::Told;
use crate::place::{self, Place};
use crate::run::Waiting;
use crate::streams::{self, Preserved};
use crate::terminal::{self, Terminal};
use crate::{console, pieces, record};

/// Exit code of a process that has not come to its exec, as with runc.
const FAILED: u8 = 255;

/// `exec`, whole: the exit code is the process's.
///
/// # Errors
/// It was refused, or has not come to its exec.
pub(crate) fn exec(place: &Place, what: &Exec, preserved: Preserved) -> Result<u8, Failure> {
    let mut waiting = None;
    begin(place, what, preserved, &mut waiting).map_err(|failure| {
        let failure = failure.with_code(FAILED);
        match &waiting {
            Some(waiting) => waiting.code_of(failure),
            None => failure,
        }
    })
}

/// In the foreground there is somebody who passes signals on; one that ends commands ends this one before there is another.
fn begin(place: &Place, what: &Exec, preserved: Preserved, waiting: &mut Option<Rc<Waiting>>) -> Result<u8, Failure> {
    let container = Container::find(place, &what.id)?;
    let (pid, init) = container.alive()?;
    // What it would enter is the host's still.
    if container.record.progress.unfinished {
        return Err(Failure::new("cannot exec in a container that is being created"));
    }
    if !what.ignore_paused && container.is_frozen()? {
        return Err(Failure::new("cannot exec in a paused container (use --ignore-paused to override)"));
    }
    let mut process = wanted(&container, what)?;
    console::is_for_a_terminal(what.console_socket.as_deref(), &process)?;
    if process.tty.is_some() && what.detach && what.console_socket.is_none() {
        return Err(Failure::new("without waiting a terminal needs --console-socket, which gets its master"));
    }
    if what.console_socket.is_none() {
        terminal::fit(&mut process);
    }
    streams::give(&mut process, preserved)?;
    if let Some(owner) = &container.record.systemd {
        owner.come_near()?;
    }
    if !what.detach {
        *waiting = Some(Rc::new(Waiting::begin()?));
    }
    let (group, ids) = (container.group()?.filter(|group| !group.paths().is_empty()), container.record.ids()?);
    let spec = &container.record.spec;
    let below: Vec<_> = what.cgroup.iter().flat_map(|text| sub_cgroup(text)).collect();
    if !below.is_empty() && group.is_none() {
        return Err(Failure::new("--cgroup needs a cgroup of the container's own"));
    }
    let own_network = spec.network != Network::Host;
    let beside =
        Beside { init: (pid, init), spec, ids: ids.as_ref(), own_network, group: group.as_ref(), below: &below };
    match &process.cpus_before {
        // Whatever is started from here on begins there, into whatever cgroup it is born.
        Some(cpus) => single::run_on(cpus)?,
        None => anywhere(),
    }
    let told = Told::of(&container.record).with(container.status()?.name(), pid);
    let listening = &mut |listener, further| agent::tell(spec.filter_listener.as_ref(), listener, further, &told);
    let mut maker = Maker::start_beside((pid, init))?;
    maker.halted_by(waiting.clone().map(|waiting| waiting as Rc<dyn Halt>));
    let mut made = maker.exec(&beside, process, listening)?;
    let mut tty = made.take_tty();
    if let (Some(path), Some(master)) = (&what.console_socket, &tty) {
        console::send("--console-socket", path, b"/dev/ptmx", master.as_fd())?;
        tty = None;
    }
    if let Some(path) = &what.pidfd_socket {
        console::send("--pidfd-socket", path, b"pidfd", made.pidfd().as_fd())?;
    }
    if let Some(path) = &what.pid_file {
        place::replace(path, made.pid().to_string().as_bytes(), 0o644)?;
    }
    let pidfd = made.leave()?;
    let Some(waiting) = waiting else { return Ok(0) };
    waiting.until_end(&pidfd, tty.map(Terminal::begin).transpose()?, None)
}

/// Not on the CPUs of the caller alone.
pub(crate) fn anywhere() {
    // Where that is forbidden it can still run on some.
    if let Err(error) = single::run_anywhere() {
        tracing::warn!(%error, "it runs on the caller's CPUs");
    }
}

/// `[CONTROLLER[,CONTROLLER...]:]PATH`.
fn sub_cgroup(text: &str) -> Vec<(Option<String>, PathBuf)> {
    match text.split_once(':') {
        Some((names, path)) => names.split(',').map(|name| (Some(name.to_owned()), path.into())).collect(),
        None => vec![(None, text.into())],
    }
}

/// As `--process` says; or the container's own, with what the command line changes in it.
fn wanted(container: &Container, what: &Exec) -> Result<ProcessSpec, Failure> {
    if let Some(path) = &what.process {
        let text = std::fs::read(path);
        let text = text.map_err(|error| Failure::system(format!("--process {}", path.display()), error))?;
        let own = &container.record.process;
        let mut process = pieces::process(&text, own)?;
        // Its filter is the container's.
        (process.seccomp, process.filters) = (own.seccomp, own.filters.clone());
        (process.filter_flags, process.personality) = (own.filter_flags, own.personality);
        process.memory_policy.clone_from(&own.memory_policy);
        if process.cpus_before.is_none() && process.cpus.is_none() {
            (process.cpus_before, process.cpus) = (own.cpus_before.clone(), own.cpus.clone());
        }
        process.apparmor_profile = process.apparmor_profile.or_else(|| own.apparmor_profile.clone());
        process.selinux_label = process.selinux_label.or_else(|| own.selinux_label.clone());
        if what.tty {
            process.tty.get_or_insert_default();
        }
        return Ok(process);
    }
    if what.command.is_empty() {
        return Err(Failure::new("a command is needed, or --process"));
    }
    let mut process = record::command(&container.record.process);
    process.argv.clone_from(&what.command);
    process.tty = what.tty.then(WindowSize::default);
    for entry in &what.env {
        let pair = entry.split_once('=').filter(|(key, _)| !key.is_empty());
        let (key, value) = pair.ok_or_else(|| Failure::new(format!("--env {entry:?} is not NAME=VALUE")))?;
        let key = OsString::from(key);
        process.env.retain(|(have, _)| *have != key);
        process.env.push((key, value.into()));
    }
    if let Some(cwd) = &what.cwd {
        process.cwd = Some(cwd.clone());
    }
    if let Some(text) = &what.user {
        user::parse_user(text).map_err(|why| Failure::new(format!("--user {text}: {why}")))?;
        process.user = User::Name(text.clone());
    }
    process.groups.extend(&what.additional_gids);
    process.new_privileges &= !what.no_new_privs;
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    process.apparmor_profile = given(&what.apparmor).or(process.apparmor_profile);
    process.selinux_label = given(&what.process_label).or(process.selinux_label);
    for name in &what.cap {
        let Ok(cap) = CapSet::parse(name) else {
            tracing::warn!(%name, "--cap: no capability of this name is known: left out");
            continue;
        };
        let caps = process.caps.get_or_insert_with(orangery_runtime::spec::Caps::none);
        for set in [&mut caps.bounding, &mut caps.effective, &mut caps.permitted] {
            *set = *set | cap;
        }
    }
    Ok(process)
}
