//! The binary at a terminal: one that the test has made, as its user would have it.
#![allow(clippy::disallowed_methods, reason = "the tests start the binary under test")]

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Winsize, tcgetattr, tcsetattr, tcsetwinsize,
};

use crate::kit::binary;

/// Long enough for anything on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// One that runs at a terminal of its own.
pub(crate) struct AtTerminal {
    child: Child,
    master: OwnedFd,
    /// Our own hold on it: its modes outlive whoever sets them.
    slave: OwnedFd,
    before: String,
    seen: String,
}

impl AtTerminal {
    /// `orangery run -it OPTIONS -- sh -c SCRIPT`, 33 by 101 characters large.
    pub(crate) fn sh(options: &[&str], script: &str) -> Self {
        Self::run(&[&["run", "-it"], options, &["--", "sh", "-c", script]].concat())
    }

    pub(crate) fn run(args: &[&str]) -> Self {
        let mut command = Command::new("setsid");
        // It controls the session: whoever closes it, or sizes it, signals.
        command
            .args(["--ctty".as_ref(), binary().as_os_str()])
            .args(args.iter().map(OsStr::new))
            .env_remove("RUST_LOG");
        Self::start(command)
    }

    pub(crate) fn start(mut command: Command) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave = ioctl_tiocgptpeer(&master, flags).unwrap();
        unusual(&slave);
        let copy = || slave.try_clone().unwrap();
        let before = modes(&slave);
        size(&master, 33, 101);
        let child = command.stdin(copy()).stdout(copy()).stderr(copy()).spawn().unwrap();
        drop(command);
        Self { child, master, slave, before, seen: String::new() }
    }

    /// Read on until `text` has come; what came up to its end.
    #[track_caller]
    pub(crate) fn until(&mut self, text: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.seen.find(text) {
                let rest = self.seen.split_off(at + text.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            assert!(Instant::now() < end, "no {text:?} in {:?}", self.seen);
            if !self.read() && self.has_ended() && !self.read() {
                panic!("it ended without {text:?}: {:?}", self.seen);
            }
        }
    }

    /// What is there within a second.
    fn read(&mut self) -> bool {
        let mut fds = [PollFd::new(&self.master, PollFlags::IN)];
        if poll(&mut fds, Some(&Timespec { tv_sec: 1, tv_nsec: 0 })).unwrap() == 0 {
            return false;
        }
        let mut buffer = [0; 4096];
        let len = rustix::io::read(&self.master, &mut buffer).unwrap();
        self.seen += &String::from_utf8_lossy(&buffer[..len]);
        true
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub(crate) fn type_in(&self, text: &str) {
        let mut left = text.as_bytes();
        while !left.is_empty() {
            left = &left[rustix::io::write(&self.master, left).unwrap()..];
        }
    }

    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        size(&self.master, rows, columns);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // Our child, and not reaped: the number is its own. setsid execs in place.
        kill_process(Pid::from_raw(self.child.id().cast_signed()).unwrap(), signal).unwrap();
    }

    /// Every key is a byte, and nothing is echoed.
    pub(crate) fn is_raw(&self) -> bool {
        let modes = tcgetattr(&self.slave).unwrap();
        !modes.local_modes.intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    /// As a shell does when we have been stopped.
    pub(crate) fn cook(&self) {
        let mut modes = tcgetattr(&self.slave).unwrap();
        modes.local_modes.insert(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
        tcsetattr(&self.slave, OptionalActions::Now, &modes).unwrap();
    }

    /// It sets its modes again.
    #[track_caller]
    pub(crate) fn until_raw(&self) {
        let end = Instant::now() + PATIENCE;
        while !self.is_raw() {
            assert!(Instant::now() < end, "it stays as it is");
            std::thread::yield_now();
        }
    }

    pub(crate) fn is_as_before(&self) -> bool {
        modes(&self.slave) == self.before
    }

    /// How many typed bytes lie there for whoever reads next.
    pub(crate) fn unread(&self) -> u64 {
        rustix::io::ioctl_fionread(&self.slave).unwrap()
    }

    /// Its end, and what else it has said.
    #[track_caller]
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let code = wait(&mut self.child);
        while self.unread_output() && self.read() {}
        assert!(self.is_as_before(), "{} is not {}", modes(&self.slave), self.before);
        (code, self.seen)
    }

    fn unread_output(&self) -> bool {
        poll(&mut [PollFd::new(&self.master, PollFlags::IN)], Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() > 0
    }

    /// Close the window.
    pub(crate) fn close(self) -> Option<i32> {
        let Self { mut child, master, slave, .. } = self;
        drop((master, slave));
        wait(&mut child)
    }
}

#[track_caller]
fn wait(child: &mut Child) -> Option<i32> {
    let pidfd = pidfd_open(Pid::from_raw(child.id().cast_signed()).unwrap(), PidfdFlags::empty()).unwrap();
    let patience = Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
    assert_eq!(poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&patience)).unwrap(), 1, "it does not end");
    child.wait().unwrap().code()
}

fn size(terminal: &OwnedFd, rows: u16, columns: u16) {
    tcsetwinsize(terminal, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
}

/// Modes that nobody sets by chance.
fn unusual(terminal: &OwnedFd) {
    let mut modes = tcgetattr(terminal).unwrap();
    modes.special_codes[SpecialCodeIndex::VERASE] = 8;
    modes.special_codes[SpecialCodeIndex::VSTOP] = 14;
    modes.input_modes.insert(InputModes::IXANY | InputModes::IMAXBEL);
    modes.local_modes.remove(LocalModes::ECHOKE);
    tcsetattr(terminal, OptionalActions::Now, &modes).unwrap();
}

/// All of them, as `stty -g` writes them.
fn modes(terminal: &OwnedFd) -> String {
    let output = Command::new("stty").arg("-g").stdin(terminal.try_clone().unwrap()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}
