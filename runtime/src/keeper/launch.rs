//! Start the keeper from a sealed memfd: no file to find, none to replace, no hook in anybody's `main`.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Resource, getrlimit};

use super::maps::{self, Written};
use crate::error::{Error, ErrorKind};
use crate::plan::idmap::IdMap;
use crate::plan::wire::{MESSAGE, Message, Tell};

/// The program that `build.rs` compiled.
static KEEPER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/orangery-keeper"));

/// Longest time the keeper may take to say that it is ready.
const PATIENCE: Duration = Duration::from_secs(10);

/// A keeper that runs and has said that it is ready.
#[derive(Debug)]
pub struct Launched {
    /// Our end of the conversation.
    pub socket: OwnedFd,
    /// The keeper itself.
    pub pidfd: OwnedFd,
    /// Its process id, for display.
    pub pid: u32,
    /// It can enter a container's pid namespace and come back.
    pub enters_pidns: bool,
    /// It has the rights of the host's user namespace; otherwise it lives in one of its own.
    pub privileged: bool,
    /// All ids of its own user namespace, where that has more than one.
    pub ids: Option<IdMap>,
}

/// Start the keeper. Where `path` is given the program is written there instead of into a memfd (for security modules
/// that attach by path, and for `vm.memfd_noexec=2`).
///
/// # Errors
/// [`ErrorKind::Keeper`] when it does not start, [`ErrorKind::Unsupported`] when this user may not make user
/// namespaces; the hint says what to change.
pub fn launch(path: Option<&Path>) -> Result<Launched, Error> {
    launch_where(path, is_privileged())
}

/// Start one for a program that goes: with rights over this user namespace it lives here, whatever ids there are; otherwise in that
/// of the keeper before it, if there was one.
pub(super) fn launch_here(userns: Option<&OwnedFd>) -> Result<Launched, Error> {
    match userns.filter(|_| !has_rights()) {
        Some(userns) => launch_again(None, Some(userns)),
        None => launch_where(None, has_rights()),
    }
}

fn launch_where(path: Option<&Path>, here: bool) -> Result<Launched, Error> {
    let place = if here { Place::Host } else { Place::New { with_ranges: true } };
    if let Some(launched) = attempt(path, place)? {
        return Ok(launched);
    }
    let half = || Error::new(ErrorKind::Keeper, "the id maps of the keeper were written by somebody else");
    attempt(path, Place::New { with_ranges: false })?.ok_or_else(half)
}

/// Start another one, in the user namespace of the one before it.
pub(super) fn launch_again(path: Option<&Path>, userns: Option<&OwnedFd>) -> Result<Launched, Error> {
    match userns {
        Some(userns) => {
            attempt(path, Place::Of(userns))?.ok_or_else(|| Error::new(ErrorKind::Keeper, "it has no maps"))
        }
        None => launch(path),
    }
}

/// The user namespace that a keeper lives in.
#[derive(Clone, Copy)]
enum Place<'a> {
    /// Ours, in which we have all rights that are needed.
    Host,
    /// One of its own.
    New {
        /// With more ids than one.
        with_ranges: bool,
    },
    /// That of a keeper before it.
    Of(&'a OwnedFd),
}

/// A keeper of ours has the rights of the host's user namespace: CAP_SYS_ADMIN, CAP_SETUID, CAP_SETGID. Otherwise it gets a
/// user namespace in which it has them.
pub(crate) fn is_privileged() -> bool {
    crate::sys::has_all_ids() && has_rights()
}

/// In this user namespace, whichever it is.
pub(crate) fn has_rights() -> bool {
    [21, 7, 6].into_iter().all(crate::sys::has_capability)
}

/// Start it once; `None` when its user namespace got only one of its maps.
fn attempt(path: Option<&Path>, place: Place<'_>) -> Result<Option<Launched>, Error> {
    let privileged = matches!(place, Place::Host);
    let (ours, theirs) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )
    .map_err(|error| Error::system("cannot make the keeper's socket", error))?;
    rustix::fs::fcntl_setfl(&theirs, rustix::fs::OFlags::empty())
        .map_err(|error| Error::system("cannot prepare the keeper's socket", error))?;
    let mut child = start(path, theirs, place)?;
    let pid = child.id();
    let raw = rustix::process::Pid::from_raw(pid.cast_signed());
    let pidfd = raw
        .ok_or(rustix::io::Errno::SRCH)
        .and_then(|raw| rustix::process::pidfd_open(raw, rustix::process::PidfdFlags::empty()))
        .map_err(|error| Error::system("cannot open the keeper's pidfd", error));
    let greeted = pidfd.and_then(|pidfd| Ok((pidfd, greet(&ours, pid, place)?)));
    let (pidfd, greeted) = match greeted {
        Ok((pidfd, Some(greeted))) => (pidfd, greeted),
        other => {
            let _ = child.kill();
            let _ = child.wait();
            return other.map(|_| None);
        }
    };
    let ids = if privileged { None } else { maps::ids_of(pid) };
    Ok(Some(Launched { socket: ours, pidfd, pid, enters_pidns: greeted, privileged, ids }))
}

fn memfd() -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // MFD_EXEC is 6.3; before, every memfd may be executed and the flag is EINVAL.
    let fd = rustix::fs::memfd_create("orangery-keeper", flags | MemfdFlags::EXEC)
        .or_else(|_| rustix::fs::memfd_create("orangery-keeper", flags))?;
    let mut file = File::from(fd);
    file.write_all(KEEPER)?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    // F_SEAL_EXEC is 6.3 too.
    let exec = SealFlags::from_bits_retain(0x20);
    rustix::fs::fcntl_add_seals(&file, seals | exec).or_else(|_| rustix::fs::fcntl_add_seals(&file, seals))?;
    Ok(file)
}

/// The one place that starts a process without the keeper.
#[expect(clippy::disallowed_methods, reason = "the keeper itself is started here")]
fn start(path: Option<&Path>, socket: OwnedFd, place: Place<'_>) -> Result<Child, Error> {
    let failed = |what: &str, error: io::Error| Error::system(what, error).with_kind(ErrorKind::Keeper);
    let (program, _memfd) = match path {
        Some(path) => {
            install(path).map_err(|error| failed("cannot write the keeper's program", error))?;
            (path.to_path_buf(), None)
        }
        None => {
            let file = memfd().map_err(|error| failed("cannot make the keeper's memfd", error))?;
            (format!("/proc/self/fd/{}", file.as_raw_fd()).into(), Some(file))
        }
    };
    let mut command = Command::new(program);
    command.arg0("orangery-keeper").env_clear().stdin(Stdio::from(socket)).stdout(Stdio::null()).stderr(Stdio::null());
    match place {
        Place::Host => {}
        Place::New { .. } => {
            command.arg("userns");
        }
        // As its standard output, which is nothing else's.
        Place::Of(userns) => {
            let userns = userns.try_clone().map_err(|error| failed("cannot duplicate a user namespace", error))?;
            command.args(["userns", "of"]).stdout(Stdio::from(userns));
        }
    }
    command.spawn().map_err(|error| {
        failed("cannot start the keeper", error)
            .with_hint("with vm.memfd_noexec=2, or no /proc, give Supervisor::builder().keeper_path(...)")
    })
}

/// The program as a file that everybody may execute: it can be a container's init.
pub(crate) fn write_program(path: &Path) -> io::Result<()> {
    install(path)
}

/// Write the program to `path` unless it is there already.
fn install(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
    if std::fs::read(path).is_ok_and(|have| have == KEEPER) {
        return Ok(());
    }
    // A name that nobody has, whoever else does this: one that was killed in the middle may have had our number.
    let unique = super::adopt::first_id();
    let temporary = path.with_extension(format!("new-{}-{unique}", std::process::id()));
    let written = || {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(&temporary)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o755))?;
        file.write_all(KEEPER)?;
        drop(file);
        std::fs::rename(&temporary, path)
    };
    written().inspect_err(|_| drop(std::fs::remove_file(&temporary)))
}

/// Wait for the keeper's first words, whether it enters pid namespaces; in between write its id maps if it asks for them.
/// `None`: see [`Written::Half`].
fn greet(socket: &OwnedFd, pid: u32, place: Place<'_>) -> Result<Option<bool>, Error> {
    loop {
        let message = receive(socket)?;
        match Tell::from_u16(message.kind) {
            Some(Tell::Ready) => return Ok(Some(message.x == 1)),
            Some(Tell::NeedsMaps) if matches!(place, Place::New { .. }) => {
                let with_ranges = matches!(place, Place::New { with_ranges: true });
                if maps::write(pid, with_ranges)? == Written::Half {
                    return Ok(None);
                }
                rustix::net::send(socket, &[0], rustix::net::SendFlags::NOSIGNAL)
                    .map_err(|error| Error::system("the keeper is gone", error).with_kind(ErrorKind::Keeper))?;
            }
            Some(Tell::Failed) => return Err(start_failed(&message, matches!(place, Place::Host))),
            _ => return Err(Error::new(ErrorKind::Keeper, "the keeper speaks another protocol")),
        }
    }
}

fn start_failed(message: &Message, privileged: bool) -> Error {
    if message.errno == libc::EMFILE {
        let hard = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        let what = format!("the hard limit of open files, {hard}, is too low for the keeper");
        return Error::new(ErrorKind::Exhausted, what).with_errno(Some(message.errno)).with_hint(
            "raise it where this service is started (LimitNOFILE=, ulimit -Hn); each container takes two or three",
        );
    }
    if privileged {
        return Error::new(ErrorKind::Keeper, "the keeper could not start").with_errno(Some(message.errno));
    }
    Error::new(ErrorKind::Unsupported, "this user may not make a user namespace")
        .with_errno(Some(message.errno))
        .with_hint(
            "see `orangery doctor`: user.max_user_namespaces, kernel.unprivileged_userns_clone and \
             kernel.apparmor_restrict_unprivileged_userns decide; containers need a seccomp profile that allows unshare",
        )
}

fn receive(socket: &OwnedFd) -> Result<Message, Error> {
    let gone = |what: &str| Error::new(ErrorKind::Keeper, what.to_owned());
    let mut fds = [PollFd::new(socket, PollFlags::IN)];
    let timeout = rustix::event::Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
    match poll(&mut fds, Some(&timeout)) {
        Ok(0) => return Err(gone("the keeper did not answer within 10 s")),
        Ok(_) => {}
        Err(error) => return Err(Error::system("cannot wait for the keeper", error)),
    }
    let mut buffer = [0; MESSAGE];
    let (len, _) = rustix::net::recv(socket.as_fd(), &mut buffer, rustix::net::RecvFlags::empty())
        .map_err(|error| Error::system("cannot hear the keeper", error).with_kind(ErrorKind::Keeper))?;
    if len == 0 {
        return Err(gone("the keeper ended at its start"));
    }
    Message::decode(&buffer).ok_or_else(|| gone("the keeper speaks another protocol"))
}
