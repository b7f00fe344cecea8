//! The daemon in whose place this process is to go on.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use orangery::runtime::sys::Inherited;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::able::Able;
use super::handover::{LEFT, LINE, Offer, SERVING, TAKE, line, place};
use crate::errors::Failure;

/// The most that come with one message (SCM_MAX_FD).
const MOST: usize = 253;
/// It has so long for its offer, and as long to stop and leave: clients that it answers may take ten seconds and more.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// It listens to us. Dropped before [`Predecessor::serving`] it goes on itself when this process has ended.
#[derive(Debug)]
pub(super) struct Predecessor {
    stream: UnixStream,
}

/// What it gives us: nothing is ours before [`Predecessor::take`].
#[derive(Debug)]
pub(super) struct Offered {
    pub(super) from: Predecessor,
    pub(super) sockets: Vec<Inherited>,
    /// Where its own socket is.
    pub(super) own: Option<PathBuf>,
}

fn failed(what: &str) -> impl Fn(io::Error) -> Failure {
    let what = format!("cannot {what} the daemon that is to be taken over");
    move |error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Failure::refused(
            "--takeover",
            format!("{what}: it says nothing"),
        )
        .with_hint(
            "look whether it is stopped (SIGSTOP) or hangs: kill -CONT, or kill -KILL and the same without --takeover",
        ),
        _ => Failure::system(&what, &error).with_option("--takeover"),
    }
}

impl Predecessor {
    /// Who serves this state, asked whether we may. `None`: nobody does. It has `patience` for each answer.
    ///
    /// # Errors
    /// It refuses, is not understood, or says nothing.
    pub(super) fn ask(state: &Path, able: &Able, patience: Duration) -> Result<Option<Offered>, Failure> {
        let dir = File::open(state).map_err(failed("look for"))?;
        let stream = match UnixStream::connect(place(&dir)) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            stream => stream.map_err(failed("ask"))?,
        };
        let bounded = stream.set_read_timeout(Some(patience)).and_then(|()| stream.set_write_timeout(Some(patience)));
        bounded.map_err(failed("ask"))?;
        let mut from = Self { stream };
        from.say(&serde_json::to_string(able).unwrap_or_default()).map_err(failed("ask"))?;
        let (text, fds) = from.offered().map_err(failed("hear"))?;
        let offer: Offer = serde_json::from_str(&text)
            .map_err(|error| failed("understand")(io::Error::new(io::ErrorKind::InvalidData, error)))?;
        if let Some(why) = offer.refused {
            return Err(Failure::refused("--takeover", format!("the running daemon refuses: {why}")));
        }
        if fds.len() != offer.sockets.len() {
            return Err(Failure::refused("--takeover", "the running daemon does not give what it offers"));
        }
        let sockets = offer.sockets.into_iter().zip(fds).map(|(name, fd)| Inherited { name, fd }).collect();
        Ok(Some(Offered { from, sockets, own: offer.own }))
    }

    /// We take it. Comes back when it has left, or has ended.
    ///
    /// # Errors
    /// It has changed its mind, or says nothing: then it goes on when it wakes up, and hears that we have gone.
    pub(super) fn take(&mut self) -> Result<(), Failure> {
        // Who has ended in the meantime has left as well.
        let _ = self.say(TAKE);
        let mut said = String::new();
        match BufReader::new(&self.stream).read_line(&mut said) {
            Ok(0) => Ok(()),
            Ok(_) if said.trim_end() == LEFT => Ok(()),
            Ok(_) => Err(Failure::refused("--takeover", "the running daemon has not left")),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
            Err(error) => Err(failed("hear")(error)),
        }
    }

    /// We go on in its place.
    pub(super) fn serving(mut self) {
        let _ = self.say(SERVING);
    }

    fn say(&mut self, text: &str) -> io::Result<()> {
        self.stream.write_all(line(text).as_bytes())
    }

    /// A line, and what comes with it.
    fn offered(&self) -> io::Result<(String, Vec<OwnedFd>)> {
        let (mut text, mut fds) = (Vec::new(), Vec::new());
        while !text.ends_with(b"\n") && text.len() < LINE {
            let mut part = [0; 4096];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let got = recvmsg(&self.stream, &mut [IoSliceMut::new(&mut part)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(rights) = message {
                    fds.extend(rights);
                }
            }
            match got.bytes {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                bytes => text.extend_from_slice(part.get(..bytes).unwrap_or_default()),
            }
        }
        Ok((String::from_utf8_lossy(&text).into_owned(), fds))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_daemon_that_says_nothing_is_not_waited_for_for_ever() {
        let state = tempfile::tempdir().unwrap();
        let able = Able::of_this(state.path()).unwrap();
        assert!(Predecessor::ask(state.path(), &able, PATIENCE).unwrap().is_none(), "there is none");
        let stopped = UnixListener::bind(state.path().join("handover")).unwrap();
        let error = Predecessor::ask(state.path(), &able, Duration::from_millis(10)).unwrap_err();
        assert!(error.what().contains("it says nothing"), "{}", error.what());
        // It offers, and then it stops.
        let offers = std::thread::spawn(move || {
            // Who has given up is there, too.
            let _first = stopped.accept().unwrap();
            let (mut stream, _) = stopped.accept().unwrap();
            stream.write_all(Offer { schema: 1, ..Offer::default() }.line().as_bytes()).unwrap();
            stream
        });
        let mut offered = Predecessor::ask(state.path(), &able, PATIENCE).unwrap().unwrap();
        let _stream = offers.join().unwrap();
        offered.from.stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        let error = offered.from.take().unwrap_err();
        assert!(error.what().contains("it says nothing"), "{}", error.what());
    }
}
