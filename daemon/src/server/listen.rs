//! Where clients come in: a unix socket of ours, those that systemd has opened for us, and TCP where that is asked for.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use orangery::runtime::sys::Inherited;
use rustix::net::{AddressFamily, SocketType, sockopt};

/// What a socket of our own is called when it is handed on, and any other.
pub(super) const OWN: &str = "orangery-own";
const OTHER: &str = "orangery-given";

/// What is listened at.
#[derive(Debug, Default)]
pub struct Listeners {
    pub(super) unix: Vec<UnixListener>,
    pub(super) tcp: Vec<TcpListener>,
    /// A file of ours, which goes with us.
    file: Option<SocketFile>,
}

/// Why nobody can be listened for.
#[derive(Debug)]
pub struct ListenError {
    /// What was attempted.
    pub what: String,
    /// Why it failed; none where it was not even tried.
    pub error: Option<io::Error>,
    /// What to do.
    pub hint: Option<&'static str>,
}

impl std::fmt::Display for ListenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for ListenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.as_ref().map(|error| error as _)
    }
}

fn failed(what: String) -> impl FnOnce(io::Error) -> ListenError {
    move |error| ListenError { what, error: Some(error), hint: None }
}

fn refused(what: String, hint: &'static str) -> ListenError {
    ListenError { what, error: None, hint: Some(hint) }
}

impl Listeners {
    /// The sockets that were opened for us (sd_listen_fds(3)), if there are any; that which is called `orangery-own` is an earlier
    /// daemon's at `own`, and ours from now on.
    ///
    /// # Errors
    /// One is neither a unix socket nor TCP.
    pub fn given(given: Vec<Inherited>, own: &Path) -> Result<Self, ListenError> {
        let mut all = Self::default();
        let mut last = None;
        for (index, Inherited { name, fd }) in given.into_iter().enumerate() {
            match listens(&fd) {
                Some(AddressFamily::UNIX) if name == OWN && last.is_none() => last = Some(fd.into()),
                Some(AddressFamily::UNIX) => all.unix.push(fd.into()),
                Some(_) => all.tcp.push(fd.into()),
                None => {
                    let what =
                        format!("descriptor {} of LISTEN_FDS listens neither at a unix socket nor at TCP", index + 3);
                    return Err(refused(what, "ListenStream= in the unit of the socket"));
                }
            }
        }
        // Without its file nobody would find it. Only one that was given has it: dropped, it goes.
        if let Some(last) = last
            && let Ok(file) = SocketFile::of(own)
        {
            all.unix.push(last);
            all.file = Some(file);
        }
        Ok(all)
    }

    /// The same sockets once more, without the file.
    pub(super) fn again(&self) -> io::Result<Self> {
        let unix = self.unix.iter().map(UnixListener::try_clone).collect::<io::Result<_>>()?;
        let tcp = self.tcp.iter().map(TcpListener::try_clone).collect::<io::Result<_>>()?;
        Ok(Self { unix, tcp, file: None })
    }

    /// All of them for another daemon, which is to listen at them, with the names that [`Listeners::given`] knows.
    #[must_use]
    pub fn lent(&self) -> Vec<(&'static str, BorrowedFd<'_>)> {
        let own = self.file.as_ref().map(|_| self.unix.len().saturating_sub(1));
        let unix = self.unix.iter().enumerate();
        let unix = unix.map(|(index, unix)| (if Some(index) == own { OWN } else { OTHER }, unix.as_fd()));
        unix.chain(self.tcp.iter().map(|tcp| (OTHER, tcp.as_fd()))).collect()
    }

    /// There is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.unix.is_empty() && self.tcp.is_empty()
    }

    /// Where that one is which is our own, with its file.
    #[must_use]
    pub fn own(&self) -> Option<&Path> {
        self.file.as_ref().map(|file| &*file.path)
    }

    /// Whether the file goes with them, or is another daemon's.
    pub const fn own_file(&mut self, ours: bool) {
        if let Some(file) = &mut self.file {
            file.stays = !ours;
        }
    }

    /// It is listened there already; port 0 is any.
    #[must_use]
    pub fn has(&self, address: SocketAddr) -> bool {
        let is = |there: &SocketAddr| there.ip() == address.ip() && [0, there.port()].contains(&address.port());
        self.addresses().iter().any(is)
    }

    /// One of them is for strangers.
    #[must_use]
    pub fn is_for_strangers(&self) -> bool {
        !self.tcp.is_empty()
    }

    /// A socket in the file system, for its user alone: it has mode 0600, in a directory of mode 0700 that is made where it is
    /// missing.
    ///
    /// # Errors
    /// The directory is somebody else's too, another daemon listens there, or what the system says.
    pub fn unix(mut self, path: &Path) -> Result<Self, ListenError> {
        let dir = path.parent().unwrap_or(Path::new("/"));
        private(dir)?;
        vacant(path)?;
        // Under another name first: whoever connects by this one finds it ready, and no moment is without one.
        let temporary = path.with_extension(format!("{}.new", std::process::id()));
        let _ = fs::remove_file(&temporary);
        let listener =
            UnixListener::bind(&temporary).map_err(failed(format!("cannot listen at {}", path.display())))?;
        let placed = fs::set_permissions(&temporary, Permissions::from_mode(0o600))
            .and_then(|()| SocketFile::of(&temporary))
            .and_then(|made| fs::rename(&temporary, path).map(|()| made.at(path)));
        let file = placed.map_err(|error| {
            let _ = fs::remove_file(&temporary);
            failed(format!("cannot make {}", path.display()))(error)
        })?;
        self.unix.push(listener);
        self.file = Some(file);
        Ok(self)
    }

    /// TCP.
    ///
    /// # Errors
    /// What the system says.
    pub fn tcp(mut self, address: SocketAddr) -> Result<Self, ListenError> {
        self.tcp.push(TcpListener::bind(address).map_err(failed(format!("cannot listen at {address}")))?);
        Ok(self)
    }

    /// Where unix sockets are listened at, those that have a path; ours last.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        // Ours was bound by another name.
        let given = &self.unix[..self.unix.len() - usize::from(self.file.is_some())];
        let given = given.iter().filter_map(|unix| Some(unix.local_addr().ok()?.as_pathname()?.to_owned()));
        given.chain(self.file.as_ref().map(|file| file.path.clone())).collect()
    }

    /// Where TCP is listened at.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.tcp.iter().filter_map(|tcp| tcp.local_addr().ok()).collect()
    }

    /// No new client finds us: it goes to the next daemon, if there is one.
    pub(super) fn vanish(&mut self) {
        *self = Self::default();
    }
}

/// The socket's file, which goes with the daemon unless another one has put its own there.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
    /// It is not ours to remove any more.
    stays: bool,
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        let there = fs::symlink_metadata(path)?;
        Ok(Self { path: path.to_owned(), identity: (there.dev(), there.ino()), stays: false })
    }

    /// It was moved.
    fn at(mut self, path: &Path) -> Self {
        path.clone_into(&mut self.path);
        self
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let there = fs::symlink_metadata(&self.path).map(|there| (there.dev(), there.ino()));
        if !self.stays && there.is_ok_and(|there| there == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// What kind of socket listens there.
fn listens(fd: &OwnedFd) -> Option<AddressFamily> {
    let listens = sockopt::socket_acceptconn(fd).is_ok_and(|listens| listens)
        && sockopt::socket_type(fd).is_ok_and(|kind| kind == SocketType::STREAM);
    let family = sockopt::socket_domain(fd).ok().filter(|_| listens)?;
    matches!(family, AddressFamily::UNIX | AddressFamily::INET | AddressFamily::INET6).then_some(family)
}

/// A directory that nobody else can look into.
fn private(dir: &Path) -> Result<(), ListenError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(failed(format!("cannot make {}", dir.display())))?;
    let there = fs::metadata(dir).map_err(failed(format!("cannot look at {}", dir.display())))?;
    let own = rustix::process::geteuid().as_raw();
    match there.mode() & 0o077 {
        0 if there.uid() == own => Ok(()),
        0 => Err(refused(format!("{} belongs to another user", dir.display()), "a directory of your own")),
        open => {
            let what = format!("{} is open to others (mode {open:03o}), who could reach the socket", dir.display());
            Err(refused(what, "a directory of its own, which is made with mode 0700"))
        }
    }
}

/// Nobody listens there; what an earlier daemon has left does not count.
fn vacant(path: &Path) -> Result<(), ListenError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(format!("cannot look at {}", path.display()))(error)),
        Ok(there) if !there.file_type().is_socket() => {
            Err(refused(format!("{} is there and no socket", path.display()), "another path"))
        }
        Ok(_) => match UnixStream::connect(path) {
            Ok(_) => {
                let what = format!("another daemon listens at {}", path.display());
                Err(refused(
                    what,
                    "orangery ps, which asks that one; serve --takeover, which goes on in its place; or another --socket",
                ))
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            Err(error) => Err(failed(format!("cannot tell whether a daemon listens at {}", path.display()))(error)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_its_users_alone_and_goes_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("own/socket");
        let listeners = Listeners::default().unix(&path).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        let error = Listeners::default().unix(&path).unwrap_err();
        assert!(error.what.contains("another daemon"), "{error}");
        let Listeners { unix, file, .. } = listeners;
        drop(unix);
        // It is left by one that was killed: the next one takes its place, and the file stays that one's.
        let next = Listeners::default().unix(&path).unwrap();
        drop(file);
        assert!(path.exists());
        drop(next);
        assert!(!path.exists());
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_handed_on_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("own/socket"), dir.path().join("other"));
        let given = Inherited { name: "web.socket".into(), fd: UnixListener::bind(&other).unwrap().into() };
        let first = Listeners::given(vec![given], &path).unwrap().unix(&path).unwrap();
        let first = first.tcp(([127, 0, 0, 1], 0).into()).unwrap();
        let owned = |(name, fd): &(&str, BorrowedFd<'_>)| Inherited {
            name: (*name).to_owned(),
            fd: fd.try_clone_to_owned().unwrap(),
        };
        let next = Listeners::given(first.lent().iter().map(owned).collect(), &path).unwrap();
        assert_eq!((next.paths(), next.addresses()), (vec![other, path.clone()], first.addresses()));
        Listeners::given(next.lent().iter().map(owned).collect(), &path).unwrap().own_file(false);
        assert!(path.exists());
        drop(next);
        assert!(!path.exists());
        let silent = Inherited { name: "x".into(), fd: std::net::UdpSocket::bind("127.0.0.1:0").unwrap().into() };
        assert!(Listeners::given(vec![silent], &path).unwrap_err().what.contains("descriptor 3"));
    }

    #[test]
    fn places_that_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let open = dir.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, Permissions::from_mode(0o750)).unwrap();
        assert!(Listeners::default().unix(&open.join("socket")).unwrap_err().what.contains("open to others"));
        fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        assert!(Listeners::default().unix(&dir.path().join("file")).unwrap_err().what.contains("no socket"));
        assert!(Listeners::default().unix(&dir.path().join("file/socket")).is_err());
    }
}
