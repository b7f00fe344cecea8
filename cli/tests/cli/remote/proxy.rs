//! Between a client and a daemon: passes everything on, and cuts each connection when so many bytes of the answer have passed.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

pub(crate) struct Proxy {
    socket: PathBuf,
    thread: JoinHandle<usize>,
}

impl Proxy {
    /// The first connections are cut after fewer bytes than the later ones, so that the heads of answers pass some time.
    pub(crate) fn start(to: &Path, bytes: usize) -> Self {
        let socket = to.with_file_name("proxy");
        let listener = UnixListener::bind(&socket).unwrap();
        let to = to.to_owned();
        let thread = std::thread::spawn(move || {
            for number in 1.. {
                let (client, _) = listener.accept().unwrap();
                let Ok(daemon) = UnixStream::connect(&to) else { return number };
                let mut first = [0; 1];
                // Whoever says nothing has come to end this.
                if (&client).read(&mut first).unwrap() == 0 {
                    return number - 1;
                }
                (&daemon).write_all(&first).unwrap();
                std::thread::spawn(move || pass(&client, &daemon, bytes + number * 7));
            }
            0
        });
        Self { socket, thread }
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// How many connections there were.
    pub(crate) fn end(self) -> usize {
        drop(UnixStream::connect(&self.socket).unwrap());
        let count = self.thread.join().unwrap();
        std::fs::remove_file(&self.socket).unwrap();
        count
    }
}

/// Until either end closes, or `left` bytes have come back.
fn pass(client: &UnixStream, daemon: &UnixStream, mut left: usize) {
    let (from, to) = (client.try_clone().unwrap(), daemon.try_clone().unwrap());
    let asking = std::thread::spawn(move || {
        let (mut from, mut to) = (from, to);
        // Either may be cut.
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let mut buffer = [0; 1024];
    while left > 0 {
        let most = left.min(buffer.len());
        let Ok(len @ 1..) = (&*daemon).read(&mut buffer[..most]) else { break };
        if (&*client).write_all(&buffer[..len]).is_err() {
            break;
        }
        left -= len;
    }
    for end in [client, daemon] {
        // The other side may have closed it.
        let _ = end.shutdown(Shutdown::Both);
    }
    asking.join().unwrap();
}
