//! The report pipe of a plan: ready, running (end of file at exec), or the step that failed.

use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::error::{Error, ErrorKind};
use crate::plan::Plan;
use crate::plan::wire::{self, Op, REPORT, REPORT_READY};

/// What came over the pipe.
pub(super) enum Said {
    /// The plan got as far as its Ready step.
    Ready,
    /// The step that failed, and why.
    Failed(u16, i32),
    /// End of file: exec'd, or dead.
    End,
}

/// Our end of a report pipe.
#[derive(Debug)]
pub(super) struct Report {
    fd: AsyncFd<OwnedFd>,
    /// A failure stays in it, for the next supervisor: the keeper holds our end as well.
    kept: bool,
}

impl Report {
    /// Needs a tokio runtime with I/O.
    pub(super) fn new(fd: OwnedFd, kept: bool) -> Result<Self, Error> {
        rustix::fs::fcntl_setfl(&fd, rustix::fs::OFlags::NONBLOCK)
            .map_err(|error| Error::system("cannot prepare the report pipe", error))?;
        let fd = crate::sys::watch(fd, Interest::READABLE)
            .map_err(|error| Error::system("cannot watch the report pipe", error))?;
        Ok(Self { fd, kept })
    }

    /// The next word. A report is smaller than PIPE_BUF, so it comes whole or not at all.
    pub(super) async fn next(&self) -> Result<Said, Error> {
        let failed = |error: std::io::Error| Error::system("cannot read the report pipe", error);
        loop {
            let mut guard = self.fd.readable().await.map_err(failed)?;
            let mut buffer = [0; REPORT];
            let kept = self.kept;
            let read =
                guard.try_io(|fd| if kept { look(fd.get_ref(), &mut buffer) } else { take(fd.get_ref(), &mut buffer) });
            match read {
                Ok(Ok(len)) => return Ok(said(len, &buffer)),
                Ok(Err(error)) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(failed(error)),
                Err(_would_block) => {}
            }
        }
    }
}

fn said(len: usize, buffer: &[u8; REPORT]) -> Said {
    match wire::read_report(buffer).filter(|_| len > 0) {
        Some((REPORT_READY, _)) => Said::Ready,
        Some((step, errno)) => Said::Failed(step, errno),
        None => Said::End,
    }
}

/// The next word, now; EAGAIN where there is none yet.
pub(super) fn read(pipe: &OwnedFd) -> Result<Said, rustix::io::Errno> {
    let mut buffer = [0; REPORT];
    rustix::io::read(pipe, &mut buffer).map(|len| said(len, &buffer))
}

fn take(pipe: &OwnedFd, buffer: &mut [u8; REPORT]) -> std::io::Result<usize> {
    Ok(rustix::io::read(pipe, buffer)?)
}

/// What stands at the beginning of the pipe, which a failure does not leave.
fn look(pipe: &OwnedFd, buffer: &mut [u8; REPORT]) -> std::io::Result<usize> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    if rustix::pipe::tee(pipe, &write, REPORT, rustix::pipe::SpliceFlags::NONBLOCK)? == 0 {
        return Ok(0);
    }
    let len = take(&read, buffer)?;
    match wire::read_report(buffer) {
        Some((REPORT_READY, _)) => take(pipe, buffer),
        _ => Ok(len),
    }
}

/// The failure that an earlier supervisor's process has reported, without that supervisor's plan.
pub(super) fn failed_before(step: u16, errno: i32) -> Error {
    let kind = match errno {
        libc::ENOENT | libc::ENOTDIR => ErrorKind::CommandNotFound,
        libc::EPERM | libc::EACCES => ErrorKind::Permission,
        _ => ErrorKind::Creation,
    };
    Error::new(kind, "the process did not come to its exec").with_stage(format!("step {step}")).with_errno(Some(errno))
}

/// A failed step as an error that names the field it came from.
pub(super) fn step_error(plan: &Plan, index: u16, errno: i32) -> Error {
    let Some(step) = plan.step(index) else {
        return Error::new(ErrorKind::Creation, "the plan ended early").with_errno(Some(errno));
    };
    if matches!(step.op, Op::Exec | Op::Find) {
        return exec_error(plan, errno);
    }
    let lines = crate::plan::explain::lines(plan);
    let words = lines.get(usize::from(index)).map_or_else(String::new, |line| line.words.clone());
    let field = plan.field(&step);
    let kind = match errno {
        libc::EPERM | libc::EACCES => ErrorKind::Permission,
        libc::ENOMEM | libc::ENOSPC | libc::EMFILE | libc::ENFILE | libc::EAGAIN | libc::EUSERS => ErrorKind::Exhausted,
        _ => ErrorKind::Creation,
    };
    let mut error =
        Error::new(kind, words).with_stage(format!("step {index} {}", step.op.name())).with_errno(Some(errno));
    if !field.is_empty() {
        error = error.with_field(field);
    }
    match hint(field, step.op, errno) {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

fn exec_error(plan: &Plan, errno: i32) -> Error {
    let program =
        plan.steps().find(|step| step.op == Op::Exec).map_or_else(String::new, |step| plan.text(wire::pair(step.x).0));
    let (kind, what) = match errno {
        libc::ENOENT | libc::ENOTDIR => (ErrorKind::CommandNotFound, "not found in the container"),
        _ => (ErrorKind::CommandNotExecutable, "cannot be executed"),
    };
    Error::new(kind, format!("{program} {what}")).with_field("argv[0]").with_stage("execve").with_errno(Some(errno))
}

fn hint(field: &str, op: Op, errno: i32) -> Option<&'static str> {
    match (field, op, errno) {
        ("mounts", Op::Open, libc::EXDEV | libc::ELOOP) => {
            Some("the target leads out of the root file system; name a path inside it without such links")
        }
        ("mounts", Op::Open, libc::ENOTDIR) => {
            Some("this must be mounted on ordinary directory, and a link or a file lies there")
        }
        ("mounts", Op::Open, libc::ENOENT) => {
            Some("the mount point does not exist there and this root is read-only; make it, or use --writable")
        }
        ("mounts", Op::Mkdir | Op::MakeFile, libc::EROFS) => {
            Some("the mount point does not exist there and the place for it is read-only; name one that does")
        }
        ("rootfs", Op::Open, libc::ENOENT | libc::ENOTDIR | libc::ELOOP) => Some(
            "the root needs a directory there, to mount at; make it, or use --writable, which makes what is missing",
        ),
        ("rootfs", Op::Mkdir, libc::EACCES | libc::EPERM | libc::EROFS) => {
            Some("it has to be made in that root, where this user may make nothing; use --writable instead of --rw")
        }
        ("rootfs", Op::MountAttr | Op::OpenTree, libc::EPERM | libc::EACCES) => {
            Some("this user may not see that directory; check the permissions of each parent")
        }
        ("", Op::NewMount, libc::EPERM) => Some(
            "something masks /proc or /sys outside, so that the kernel refuses new ones inside; see `orangery doctor`",
        ),
        ("mounts", Op::Reconfigure, libc::EINVAL) => {
            Some("nothing is mounted there that could be mounted again, or its file system has no such option")
        }
        ("oom_score_adj", Op::WriteFd, libc::EACCES) => Some(
            "a score below what this process was given needs CAP_SYS_RESOURCE; one that is ours or higher does not",
        ),
        ("disk", Op::MakeFile, libc::ENOSPC) | ("files", _, libc::ENOSPC) => Some("raise the disk limit"),
        _ => None,
    }
}
