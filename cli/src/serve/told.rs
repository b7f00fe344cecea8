//! The signals of a daemon.
//!
//! Of all its threads one has them unblocked, and it is there for as long as somebody listens. Whatever comes when it is not waits for
//! the process, and for the program that this becomes: another thread would take it, and nobody would hear of it.

use std::convert::Infallible;
use std::sync::mpsc;
use std::thread::JoinHandle;

use nix::sys::signal::{SigSet, Signal as Number};
use orangery_daemon::server::Notify;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::door::{Door, Successor};
use super::program::Program;
use crate::errors::Failure;

/// INT, TERM and USR2. Dropped, they wait until somebody listens again.
#[derive(Debug)]
pub(super) struct Told {
    int: Signal,
    term: Signal,
    usr2: Signal,
    ear: Option<Ear>,
}

/// What becomes of this daemon.
#[derive(Debug)]
pub(super) enum Next {
    /// Nothing: it ends.
    End,
    /// This process goes on as another program.
    Program,
    /// Another process goes on.
    Process(Box<Successor>),
}

fn ours() -> SigSet {
    [Number::SIGINT, Number::SIGTERM, Number::SIGUSR2].into_iter().collect()
}

/// USR2 waits until there is who hears it: it would end us. To be called before anybody can know that we are there.
pub(super) fn not_yet() {
    // It fails for no set that can be made.
    let _ = SigSet::from(Number::SIGUSR2).thread_block();
}

/// All of them wait from now on, but while a [`Told`] is there. To be called on the main thread, before it starts another one.
pub(super) fn for_who_listens() {
    let _ = ours().thread_block();
}

/// The thread that they come to. Dropped, it has ended.
#[derive(Debug)]
struct Ear {
    over: Option<mpsc::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl Ear {
    fn open() -> Result<Self, Failure> {
        let (over, until) = mpsc::channel::<Infallible>();
        let hear = move || {
            let _ = ours().thread_unblock();
            let _ = until.recv();
        };
        let thread = std::thread::Builder::new().name("orangery-ear".into()).spawn(hear);
        let thread = thread.map_err(|error| Failure::system("cannot listen for signals", &error))?;
        Ok(Self { over: Some(over), thread: Some(thread) })
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        drop(self.over.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Told {
    /// Listen from now on; what has waited comes now, also what an earlier program of this process was told.
    ///
    /// # Errors
    /// The kernel has no thread for it.
    pub(super) fn listen() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::system("cannot listen for signals", &error));
        let (int, term) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        let usr2 = listen(SignalKind::user_defined2())?;
        // Last: before, they would end us.
        Ok(Self { int, term, usr2, ear: Some(Ear::open()?) })
    }

    /// What comes from now on waits for the next who listens.
    pub(super) fn defer(&mut self) {
        drop(self.ear.take());
    }

    /// Done when it is to end, or somebody can go on in its place.
    ///
    /// # Cancel safety
    /// No signal is lost.
    pub(super) async fn next(&mut self, program: &Program, door: &Door, notify: &Notify) -> Next {
        let Self { int, term, usr2, .. } = self;
        let end = async {
            tokio::select! {
                _ = int.recv() => {}
                _ = term.recv() => {}
            }
        };
        let replaced = async {
            loop {
                usr2.recv().await;
                notify.reloading();
                match program.check().await {
                    Ok(()) => return,
                    Err(why) => {
                        tracing::error!("not replaced: {why}");
                        notify.stays(&why);
                    }
                }
            }
        };
        tokio::select! {
            biased;
            () = end => Next::End,
            () = replaced => Next::Program,
            successor = door.successor() => Next::Process(Box::new(successor)),
        }
    }

    /// It is to end.
    ///
    /// # Cancel safety
    /// No signal is lost.
    pub(super) async fn end(&mut self) {
        tokio::select! {
            _ = self.int.recv() => {}
            _ = self.term.recv() => {}
        }
    }

    /// It was told to end in the meantime.
    pub(super) async fn is_over(&mut self) -> bool {
        // The reactor has a look first: a signal that has come is known behind that.
        tokio::task::yield_now().await;
        tokio::select! {
            biased;
            () = self.end() => true,
            () = std::future::ready(()) => false,
        }
    }
}
