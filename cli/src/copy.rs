//! The threads that copy: our own ends may block, so each has one. A writer that is held up holds up the command; no byte
//! is dropped.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use orangery::{Event, Source, StdinWriter, Subscriber};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::stdio::{stderr, stdin, stdout};
use tokio::io::AsyncWriteExt as _;
use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedSender;

const BUFFER: usize = 64 << 10;

/// A writer could not go on.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) source: Source,
    pub(crate) error: io::Error,
}

/// Our stdin to the command's, until either ends.
pub(crate) fn feed(runtime: &Handle, mut writer: StdinWriter) {
    let mut buffer = vec![0; BUFFER];
    loop {
        match rustix::io::read(stdin(), &mut buffer[..]) {
            // Dropping the writer is the end of file.
            Ok(0) => return,
            // A command that does not read its input to the end is no error.
            Ok(len) => match runtime.block_on(writer.write_all(&buffer[..len])) {
                Ok(()) => {}
                Err(_closed) => return,
            },
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait(stdin(), PollFlags::IN),
            Err(error) => return tracing::warn!(%error, "stdin cannot be read: the command sees its end"),
        }
    }
}

/// One of the supervisor's streams to ours, until it ends or we cannot.
pub(crate) fn written(runtime: &Handle, mut reader: Subscriber, broken: &UnboundedSender<Broken>) {
    while let Some(event) = runtime.block_on(reader.recv()) {
        let (source, written) = match event {
            Event::Chunk(chunk) => (chunk.source, write_all(chunk.source, &chunk.data)),
            // Cannot happen with a budget of ten years; if it does it must not pass unseen.
            Event::Gap(gap) => (gap.source, Err(io::Error::other(format!("{} bytes were lost", gap.bytes())))),
            _ => continue,
        };
        if let Err(error) = written {
            let _ = broken.send(Broken { source, error });
            return;
        }
    }
}

/// One pipe to our stdout, which is our stderr too, until nobody writes into it any more: all writers have closed it,
/// or `stopped` hangs up, which says that all of them are gone.
pub(crate) fn merged(reader: &OwnedFd, stopped: &OwnedFd, broken: &UnboundedSender<Broken>) {
    let mut buffer = vec![0; BUFFER];
    loop {
        let mut fds = [PollFd::new(reader, PollFlags::IN), PollFd::new(stopped, PollFlags::IN)];
        match poll(&mut fds, None) {
            Err(Errno::INTR) => continue,
            Err(error) => return drop(broken.send(Broken { source: Source::Stdout, error: error.into() })),
            Ok(_) => {}
        }
        // Both were looked at in one call: an empty pipe beside a closed `stopped` stays empty.
        if fds[0].revents().is_empty() {
            return;
        }
        let copied = match rustix::io::read(reader, &mut buffer[..]) {
            Ok(0) => return,
            Ok(len) => write_all(Source::Stdout, &buffer[..len]),
            Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = copied {
            return drop(broken.send(Broken { source: Source::Stdout, error }));
        }
    }
}

fn write_all(source: Source, mut data: &[u8]) -> io::Result<()> {
    let fd = if source == Source::Stdout { stdout() } else { stderr() };
    while !data.is_empty() {
        match rustix::io::write(fd, data) {
            Ok(len) => data = data.get(len..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            // Whoever shares the descriptor made it non-blocking.
            Err(Errno::AGAIN) => wait(fd, PollFlags::OUT),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn wait(fd: impl AsFd, flags: PollFlags) {
    // An error comes back from the next read or write.
    let _ = poll(&mut [PollFd::new(&fd, flags)], None);
}
