//! A daemon that goes, and comes back: the waiting, and what is said about it.

use std::time::Duration;

use tokio::time::Instant;

use super::place::NO_DAEMON;
use super::{BackOff, Client, Lost};
use crate::errors::Failure;

/// It is said that it is away when so many attempts have found nobody.
const SAID: u32 = 2;
/// A connection that stood for this long was no failure.
const STOOD: Duration = Duration::from_secs(2);

/// How one command waits for a daemon that has gone.
#[derive(Clone, Debug)]
pub(crate) struct Again {
    back_off: BackOff,
    /// Notices are JSON documents.
    json: bool,
    /// It was there at least once: who was never there is not waited for.
    met: bool,
    /// Attempts since it was there last.
    tried: u32,
    /// Since when it is there.
    since: Option<Instant>,
}

impl Again {
    /// `patience`: so long, each time. Zero: not at all.
    pub(crate) const fn new(patience: Duration, json: bool) -> Self {
        Self { back_off: BackOff::new(patience), json, met: false, tried: 0, since: None }
    }

    /// The same of a daemon that has answered before.
    pub(crate) const fn met(self) -> Self {
        Self { met: true, ..self }
    }

    /// Wait until it may be worth another attempt. The first one is made at once, as it were: who is back by then was
    /// hardly away.
    ///
    /// # Errors
    /// The answer was a no, or the daemon has been away for too long, or was never there.
    pub(crate) async fn after(&mut self, client: &Client, lost: Lost) -> Result<(), Failure> {
        let failure = match lost {
            Lost::Away(failure) => failure,
            no => return Err(no.into()),
        };
        if self.since.take().is_some_and(|since| since.elapsed() >= STOOD) {
            self.back_off.worked();
        }
        // Whose connection has broken was there.
        self.met |= failure.kind() != NO_DAEMON;
        if !self.met {
            return Err(failure);
        }
        let Some(pause) = self.back_off.pause() else {
            let waited = self.back_off.patience();
            return Err(match waited.is_zero() {
                true => failure,
                false => failure.with_hint(format!("--reconnect, for a longer time than {waited:?}")),
            });
        };
        self.tried += 1;
        if self.tried == SAID {
            let socket = client.socket().display();
            self.say("away", &format!("the daemon has gone away: waiting for it at {socket}"));
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// It answers.
    pub(crate) fn back(&mut self) {
        if std::mem::take(&mut self.tried) >= SAID {
            self.say("back", "the daemon is back: going on where it stopped");
        }
        self.met = true;
        self.since.get_or_insert_with(Instant::now);
    }

    /// And what it says leads on.
    pub(crate) fn worked(&mut self) {
        self.back();
        self.back_off.worked();
    }

    fn say(&self, notice: &str, text: &str) {
        match self.json {
            false => crate::errors::notice(text),
            true => crate::errors::notice_json(notice, text),
        }
    }
}
