//! The end of a process that is not the keeper's child any more.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::{Without, now_ns};
use crate::keeper::pid_of;
use crate::sys::stat::Stat;
use crate::{Exit, ExitStatus};

/// How the process behind a pidfd ends, for when the keeper is gone: it is ours to reap, or the kernel (6.15) tells it, before its
/// new parent has reaped it or after. Before that kernel the answer is [`ExitStatus::Lost`].
pub async fn exit_of(pidfd: Arc<OwnedFd>) -> Exit {
    exit_without(pidfd, Without::default()).await
}

/// The same, on such a kernel.
pub(crate) async fn exit_without(pidfd: Arc<OwnedFd>, without: Without) -> Exit {
    let status = wait_reaped(&pidfd, without).await.ok().flatten().unwrap_or(ExitStatus::Lost);
    Exit { status, rusage: None, at_ns: now_ns() }
}

/// Reap a process that has fallen to us because the keeper is gone and this host is a subreaper, or pid 1 of its
/// container. Never touches a child that is not the one behind `pidfd`.
pub(super) fn reap(pidfd: &OwnedFd) -> Option<ExitStatus> {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    let status = waitid(WaitId::PidFd(std::os::fd::AsFd::as_fd(pidfd)), options).ok()??;
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Some(ExitStatus::Code(code)),
        (None, Some(signal)) => Some(ExitStatus::Signal { signal, core_dumped: status.dumped() }),
        (None, None) => None,
    }
}

async fn wait_reaped(pidfd: &Arc<OwnedFd>, without: Without) -> io::Result<Option<ExitStatus>> {
    let told = || match without.exit_info {
        true => Err(io::ErrorKind::Unsupported.into()),
        false => crate::sys::pidfd_exit_status(pidfd),
    };
    let watched = crate::sys::watch(pidfd.try_clone()?, tokio::io::Interest::READABLE)?;
    loop {
        let mut guard = watched.readable().await?;
        if let Some(status) = reap(pidfd) {
            return Ok(Some(status));
        }
        match told() {
            Ok(Some(raw)) => return Ok(Some(from_wait(raw))),
            Ok(None) => {
                let hung_up = guard.ready().is_read_closed();
                guard.clear_ready();
                if hung_up {
                    return Ok(told()?.map(from_wait));
                }
                // A zombie. Its new parent may be one that reaps nobody, as the first process of many containers is.
                if let Some(raw) = of_zombie(pidfd) {
                    return Ok(Some(from_wait(raw)));
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// How a zombie has ended. `None`: it is none any more, or we may not look into it.
fn of_zombie(pidfd: &OwnedFd) -> Option<i32> {
    let pid = pid_of(pidfd)?;
    // Asks for the same right as the number does, which is 0 for who lacks it.
    std::fs::read_link(format!("/proc/{pid}/ns/user")).ok()?;
    let stat = Stat::of(pid).filter(|stat| !stat.is_alive())?;
    // Not reaped up to now: the number was its own all the time.
    pid_of(pidfd).filter(|now| *now == pid)?;
    stat.exit_code()
}

fn from_wait(raw: i32) -> ExitStatus {
    match raw & 0x7f {
        0 => ExitStatus::Code((raw >> 8) & 0xff),
        signal => ExitStatus::Signal { signal, core_dumped: raw & 0x80 != 0 },
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::process::{Command, Stdio};

    use super::*;

    /// A grandchild whose parent waits for nobody.
    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "a process that is none of the keeper's")]
    async fn a_process_that_nobody_reaps_has_ended_all_the_same() {
        for (end, status) in [
            ("exit 7", ExitStatus::Code(7)),
            ("exit 0", ExitStatus::Code(0)),
            ("kill -9 $(exec sh -c 'echo $PPID')", ExitStatus::Signal { signal: 9, core_dumped: false }),
        ] {
            let script = format!("exec 3<&0; (read go <&3; {end}) & echo $!; exec sleep 1000");
            let mut parent = Command::new("sh")
                .args(["-c", &script])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("a shell");
            let mut line = String::new();
            BufReader::new(parent.stdout.take().expect("its output")).read_line(&mut line).expect("a number");
            let pid = rustix::process::Pid::from_raw(line.trim().parse().expect("a number")).expect("a number");
            let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).expect("a pidfd");
            parent.stdin.take().expect("its input").write_all(b"go\n").expect("told");
            let told = crate::sys::pidfd_exit_status(&pidfd).is_ok();
            let exit = tokio::time::timeout(std::time::Duration::from_secs(20), exit_of(Arc::new(pidfd))).await;
            parent.kill().expect("killed");
            parent.wait().expect("ended");
            let expected = if told { status } else { ExitStatus::Lost };
            assert_eq!(exit.expect("an end").status, expected, "{end}");
        }
    }
}
