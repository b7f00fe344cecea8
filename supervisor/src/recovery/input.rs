//! The input of a process that outlives us, where it is known from the beginning: a file that the process itself reads, so
//! that nobody has to be there to write it.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::sync::Arc;

use bytes::Bytes;
use orangery_runtime::ProcessSpec;
use orangery_runtime::spec::Stdio;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use super::Kept;
use super::dir::StateDir;
use crate::command::Stdin;
use crate::error::Error;

/// More than this is no memory of ours: it lies on the disk of the state directory, without a name.
const IN_MEMORY: usize = 256 << 10;

impl Kept {
    /// What `process` is to read, as a file of its own, where that is known; what is left to be provided.
    ///
    /// # Errors
    /// What the system said; the field is `stdin`.
    pub(crate) async fn input(&self, process: &mut ProcessSpec, stdin: Stdin) -> Result<Stdin, Error> {
        let Stdin::Bytes(bytes) = stdin else { return Ok(stdin) };
        if process.tty.is_some() {
            // It is typed.
            return Ok(Stdin::Bytes(bytes));
        }
        let state = Arc::clone(self.state());
        let made = tokio::task::spawn_blocking(move || file(&state, &bytes)).await;
        let made = made.map_err(|_| Error::lost_request())?.map_err(|error| {
            orangery_runtime::Error::system("cannot make a file of the input", error).with_field("stdin")
        })?;
        process.stdin = Stdio::Fd(Arc::new(made));
        Ok(Stdin::Null)
    }
}

/// At its beginning, and not to be written by whoever has it.
fn file(state: &StateDir, bytes: &Bytes) -> io::Result<OwnedFd> {
    if bytes.len() > IN_MEMORY {
        return on_disk(state, bytes);
    }
    let memory = memfd_create("stdin", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut memory = File::from(memory);
    memory.write_all(bytes)?;
    fcntl_add_seals(&memory, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    for_reading(&memory)
}

fn on_disk(state: &StateDir, bytes: &Bytes) -> io::Result<OwnedFd> {
    let path = state.nameless();
    let made = OpenOptions::new().create_new(true).write(true).mode(0o400).open(&path)?;
    // The process is somebody else: opened once more by its name in /proc, it is to be read by it, whatever our umask is.
    let shown = made.set_permissions(Permissions::from_mode(0o444));
    let read = shown.and_then(|()| (&made).write_all(bytes)).and_then(|()| for_reading(&made));
    std::fs::remove_file(&path)?;
    read
}

/// The same file, opened once more.
fn for_reading(file: impl AsFd) -> io::Result<OwnedFd> {
    File::open(format!("/proc/self/fd/{}", file.as_fd().as_raw_fd())).map(OwnedFd::from)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use orangery_io_stream::log::LogOptions;

    use super::*;

    #[test]
    fn it_is_read_from_its_beginning_and_cannot_be_written() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
        let state = StateDir::open(dir.path(), LogOptions::default(), false).unwrap();
        for length in [0, 1, IN_MEMORY, IN_MEMORY + 1] {
            let bytes: Bytes = (0..length).map(|at| at as u8).collect::<Vec<_>>().into();
            let mut file = File::from(file(&state, &bytes).unwrap());
            assert!((&file).write_all(b"x").is_err() && file.set_len(0).is_err());
            let mode = file.metadata().unwrap().permissions().mode();
            assert!(mode & 0o444 == 0o444 && (length <= IN_MEMORY || mode & 0o222 == 0), "{mode:o}");
            let mut read = Vec::new();
            file.read_to_end(&mut read).unwrap();
            assert!(read == bytes, "{length}: {}", read.len());
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            assert!(length > IN_MEMORY || OpenOptions::new().write(true).open(path).unwrap().write_all(b"x").is_err());
        }
        assert_eq!(std::fs::read_dir(dir.path().join("gone")).unwrap().count(), 0);
    }
}
