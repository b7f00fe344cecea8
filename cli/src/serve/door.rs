//! Where another process asks to go on in our place.

use std::fs::{self, File, Permissions};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use orangery_daemon::server::Listeners;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Interest};
use tokio::net::{UnixListener, UnixStream};

use super::able::Able;
use super::handover::{LEFT, LINE, Offer, SERVING, TAKE, line, place};
use crate::errors::Failure;

/// Who asks has so long, for all that it has to say before we leave.
const PATIENCE: Duration = Duration::from_secs(30);

/// A socket in the state directory, which goes with this.
#[derive(Debug)]
pub(super) struct Door {
    listener: UnixListener,
    dir: File,
    identity: (u64, u64),
    offer: Offer,
    sockets: Vec<OwnedFd>,
}

/// Who is about to go on in our place.
#[derive(Debug)]
pub(super) struct Successor {
    stream: BufReader<UnixStream>,
}

impl Door {
    /// In the directory that only this user can enter, whose lock is ours: what lies there is an earlier daemon's. `managed`: by
    /// somebody who takes the end of this process for the end of the daemon.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub(super) fn open(state: &Path, listeners: &Listeners, managed: bool) -> Result<Self, Failure> {
        let made = || {
            let dir = File::open(state)?;
            let path = place(&dir);
            if let Err(error) = fs::remove_file(&path)
                && error.kind() != io::ErrorKind::NotFound
            {
                return Err(error);
            }
            let listener = UnixListener::bind(&path)?;
            // The directory keeps others out, and this does once more.
            fs::set_permissions(&path, Permissions::from_mode(0o600))?;
            let there = fs::symlink_metadata(&path)?;
            let lent = listeners.lent();
            let offer = match managed {
                true => Offer::refusal(format!(
                    "process {} is kept by a service manager, which would take that for its end: systemctl reload",
                    std::process::id()
                )),
                false => Offer {
                    schema: 1,
                    sockets: lent.iter().map(|(name, _)| (*name).to_owned()).collect(),
                    own: listeners.own().map(Path::to_owned),
                    ..Offer::default()
                },
            };
            let sockets = lent.iter().map(|(_, fd)| fd.try_clone_to_owned()).collect::<io::Result<_>>()?;
            Ok(Self { listener, dir, identity: (there.dev(), there.ino()), offer, sockets })
        };
        made().map_err(|error| Failure::system("cannot make the socket for a takeover", &error).with_option("--state"))
    }

    /// The next one that may, and has got our sockets.
    ///
    /// # Cancel safety
    /// Who is spoken with is left, and sees that.
    pub(super) async fn successor(&self) -> Successor {
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a takeover cannot be asked for");
                    tokio::time::sleep(PATIENCE).await;
                    continue;
                }
            };
            match tokio::time::timeout(PATIENCE, self.asked(stream)).await {
                Ok(Ok(successor)) => return successor,
                Ok(Err(why)) => tracing::warn!(why, "no takeover"),
                Err(_) => tracing::warn!("no takeover: who asked says nothing"),
            }
        }
    }

    async fn asked(&self, stream: UnixStream) -> Result<Successor, String> {
        let peer = stream.peer_cred().map_err(|error| error.to_string())?;
        let mut stream = BufReader::new(stream);
        let judged = match peer.uid() == rustix::process::geteuid().as_raw() {
            false => Err(format!("user {} is not this daemon's", peer.uid())),
            true => heard(&mut stream).await.and_then(|said| judge(&said)),
        };
        let refused = judged.err().map(Offer::refusal).or_else(|| self.offer.refused.clone().map(Offer::refusal));
        if let Some(refusal) = refused {
            let _ = stream.write_all(refusal.line().as_bytes()).await;
            return Err(refusal.refused.unwrap_or_default());
        }
        self.hand_over(stream.get_ref()).await.map_err(|error| error.to_string())?;
        match heard(&mut stream).await?.as_str() {
            TAKE => Ok(Successor { stream }),
            other => Err(other.to_owned()),
        }
    }

    /// The offer with its descriptors.
    async fn hand_over(&self, stream: &UnixStream) -> io::Result<()> {
        let text = self.offer.line();
        let fds: Vec<BorrowedFd<'_>> = self.sockets.iter().map(|fd| fd.as_fd()).collect();
        let send = || {
            let mut space = vec![MaybeUninit::uninit(); SendAncillaryMessage::ScmRights(&fds).size()];
            let mut control = SendAncillaryBuffer::new(&mut space);
            control.push(SendAncillaryMessage::ScmRights(&fds));
            Ok(sendmsg(stream, &[IoSlice::new(text.as_bytes())], &mut control, SendFlags::NOSIGNAL)?)
        };
        match stream.async_io(Interest::WRITABLE, send).await? {
            sent if sent == text.len() => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }
}

fn judge(said: &str) -> Result<(), String> {
    let able: Able = serde_json::from_str(said).map_err(|_| "it does not say what it is able to".to_owned())?;
    able.can_follow()
}

/// The next line.
async fn heard(stream: &mut BufReader<UnixStream>) -> Result<String, String> {
    let mut said = String::new();
    let read = stream.take(LINE as u64).read_line(&mut said).await;
    match read {
        Ok(_) if said.ends_with('\n') => Ok(said.trim_end().to_owned()),
        Ok(_) => Err("who asked has gone".into()),
        Err(error) => Err(error.to_string()),
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let path = place(&self.dir);
        if fs::symlink_metadata(&path).is_ok_and(|there| (there.dev(), there.ino()) == self.identity) {
            let _ = fs::remove_file(&path);
        }
    }
}

impl Successor {
    /// We have left: it goes on now. `false`: it has gone before it could.
    ///
    /// # Cancel safety
    /// It goes on without us.
    pub(super) async fn follows(mut self) -> bool {
        let told = self.stream.write_all(line(LEFT).as_bytes()).await;
        told.is_ok() && heard(&mut self.stream).await.as_deref() == Ok(SERVING)
    }
}
