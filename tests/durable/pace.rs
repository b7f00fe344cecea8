//! Keepers that are held at each of their own moments until this process lets them go on: by their trace, which is a socket
//! of ours (docs/decisions/0047). Here one of them is killed, or its supervisor, or both.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

use orangery_tests::victim::Victim;
use orangery_tests::{Scene, wait};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType};

/// Who is killed at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    Keeper,
    Supervisor,
    Both,
}

/// A moment of a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct At {
    /// What the round was at.
    pub(crate) phase: &'static str,
    pub(crate) moment: String,
    /// The nth of those in this phase, from 1.
    pub(crate) nth: usize,
}

#[derive(Debug)]
struct State {
    phase: &'static str,
    victim: Option<OwnedFd>,
    heard: Vec<At>,
    struck: bool,
}

/// See the file's head.
pub(crate) struct Pace {
    ours: Arc<OwnedFd>,
    theirs: OwnedFd,
    shared: Arc<(Mutex<State>, Condvar)>,
    reader: Option<JoinHandle<()>>,
}

fn lock(shared: &(Mutex<State>, Condvar)) -> MutexGuard<'_, State> {
    shared.0.lock().expect("no panic")
}

impl Pace {
    pub(crate) fn keep(strike: Option<(At, Whom)>) -> Self {
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .expect("a pair");
        let ours = Arc::new(ours);
        let state = State { phase: "work", victim: None, heard: Vec::new(), struck: false };
        let shared = Arc::new((Mutex::new(state), Condvar::new()));
        let (socket, told) = (Arc::clone(&ours), Arc::clone(&shared));
        let reader = std::thread::spawn(move || read(&socket, &told, strike));
        Self { ours, theirs, shared, reader: Some(reader) }
    }

    /// A supervisor, whose keepers' trace is its standard input. Nobody is killed before it can be.
    pub(crate) fn victim(&self, scene: &Scene, phase: &'static str) -> Victim {
        let mut state = lock(&self.shared);
        let victim = Victim::with_input(scene, phase, self.theirs.try_clone().expect("a copy"));
        (state.phase, state.victim) = (phase, Some(wait::pidfd(victim.pid())));
        victim
    }

    /// It is killed, if it has not been yet, and what comes is another phase.
    pub(crate) fn without(&self, mut victim: Victim, phase: &'static str) {
        let mut state = lock(&self.shared);
        victim.kill();
        (state.phase, state.victim) = (phase, None);
    }

    pub(crate) fn enter(&self, phase: &'static str) {
        lock(&self.shared).phase = phase;
    }

    /// Somebody was killed.
    pub(crate) fn has_struck(&self) -> bool {
        lock(&self.shared).struck
    }

    /// Until this was heard in this phase, or somebody was killed.
    pub(crate) fn until(&self, moment: &str) {
        let waits = |state: &mut State| {
            !state.struck && !state.heard.iter().any(|at| at.phase == state.phase && at.moment == moment)
        };
        let (_state, late) =
            self.shared.1.wait_timeout_while(lock(&self.shared), wait::PATIENCE, waits).expect("no panic");
        assert!(!late.timed_out(), "{moment} does not come");
    }

    /// All that keepers have said.
    pub(crate) fn end(mut self) -> Vec<At> {
        self.stop();
        std::mem::take(&mut lock(&self.shared).heard)
    }

    fn stop(&mut self) {
        let _ = rustix::net::shutdown(&self.ours, Shutdown::Both);
        if let Some(reader) = self.reader.take() {
            reader.join().expect("no panic");
        }
    }
}

fn read(socket: &OwnedFd, shared: &(Mutex<State>, Condvar), strike: Option<(At, Whom)>) {
    let mut buffer = [0; 256];
    loop {
        let len = match rustix::net::recv(socket, &mut buffer, RecvFlags::empty()) {
            Err(rustix::io::Errno::INTR) => continue,
            Ok((len, _)) if len > 0 => len,
            _ => return,
        };
        let line = String::from_utf8_lossy(&buffer[..len]);
        // Their children speak too, and do not wait.
        let Some((pid, moment)) = line.strip_prefix("keeper ").and_then(|rest| rest.trim_end().split_once(" has "))
        else {
            continue;
        };
        let mut state = lock(shared);
        let phase = state.phase;
        let before = state.heard.iter().filter(|at| at.phase == phase && at.moment == moment).count();
        let at = At { phase, moment: moment.to_owned(), nth: before + 1 };
        let struck = strike.as_ref().filter(|(wanted, _)| *wanted == at).map(|(_, whom)| *whom);
        state.heard.push(at);
        // It waits for our word, so its number is its own.
        let keeper = wait::pidfd(pid.parse().expect("a number"));
        if let (Some(Whom::Supervisor | Whom::Both), Some(victim)) = (struck, &state.victim) {
            wait::kill(victim);
            wait::gone(victim, "the supervisor");
        }
        if let Some(Whom::Keeper | Whom::Both) = struck {
            wait::kill(&keeper);
            wait::gone(&keeper, "the keeper");
        } else {
            let _ = rustix::net::send(socket, &[0], SendFlags::NOSIGNAL);
        }
        state.struck |= struck.is_some();
        drop(state);
        shared.1.notify_all();
    }
}
