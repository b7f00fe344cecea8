//! The signals of a daemon.

use nix::sys::signal::{SigSet, Signal as Number};
use orangery_daemon::server::Notify;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::door::{Door, Successor};
use super::program::Program;
use crate::errors::Failure;

/// INT, TERM and USR2.
#[derive(Debug)]
pub(super) struct Told {
    int: Signal,
    term: Signal,
    usr2: Signal,
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

/// They wait: who becomes another program has no handlers for a moment, and USR2 would end it.
#[derive(Debug)]
pub(super) struct Deferred(());

fn ours() -> SigSet {
    [Number::SIGINT, Number::SIGTERM, Number::SIGUSR2].into_iter().collect()
}

impl Deferred {
    pub(super) fn begin() -> Self {
        // It fails for no set that can be made.
        let _ = ours().thread_block();
        Self(())
    }
}

impl Drop for Deferred {
    fn drop(&mut self) {
        now();
    }
}

/// USR2 waits until there is who hears it: it would end us. To be called before anybody can know that we are there.
pub(super) fn not_yet() {
    let _ = SigSet::from(Number::SIGUSR2).thread_block();
}

/// Whatever waits comes.
fn now() {
    let _ = ours().thread_unblock();
}

impl Told {
    /// Listen from now on; what an earlier program of this process has deferred comes now.
    ///
    /// # Errors
    /// The kernel refuses, which it does not for these.
    pub(super) fn listen() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::system("cannot listen for signals", &error));
        let told = Self {
            int: listen(SignalKind::interrupt())?,
            term: listen(SignalKind::terminate())?,
            usr2: listen(SignalKind::user_defined2())?,
        };
        now();
        Ok(told)
    }

    /// Done when it is to end, or somebody can go on in its place.
    ///
    /// # Cancel safety
    /// No signal is lost.
    pub(super) async fn next(&mut self, program: &Program, door: &Door, notify: &Notify) -> Next {
        let Self { int, term, usr2 } = self;
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
