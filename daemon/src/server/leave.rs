//! How a daemon stops: with a word to everybody, or so that whoever comes waits for the next one.

use std::time::Duration;

use actix_web::dev::ServerHandle;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::count::Count;
use super::{LAST_WORDS, Listeners, Notify, Stop, listen};

/// The thread that accepts is told to stop, and does not say when it has.
const SETTLED: Duration = Duration::from_millis(20);
/// Who has connected when the daemon is replaced has this long to ask for something.
const FIRST_WORDS: Duration = Duration::from_secs(1);
/// Streams that end have this long to say so, then connections on which nothing is asked to be closed. Who reads slowly, or not
/// at all, is cut: it goes on at its cursor, and holds up nobody.
const FAREWELL: Duration = Duration::from_secs(1);
/// A graceful stop looks once a second whether all have gone.
const CLOSING: Duration = Duration::from_millis(1_200);

/// What there is.
#[derive(Clone, Debug)]
pub(super) struct Present {
    pub(super) connections: Count,
    /// Connections on which nothing has been asked yet.
    pub(super) newcomers: Count,
    /// What is being answered; not bodies that come afterwards.
    pub(super) requests: Count,
}

impl Present {
    pub(super) fn nobody() -> Self {
        Self { connections: Count::new(), newcomers: Count::new(), requests: Count::new() }
    }
}

/// Needs the server running beside it.
pub(super) async fn stop(
    why: Stop,
    handle: &ServerHandle,
    present: &Present,
    going: &watch::Sender<bool>,
    notify: &Notify,
    listeners: &mut Listeners,
) {
    match why {
        Stop::End => {
            notify.stopping();
            if listeners.own().is_some() && notify.room > 0 {
                notify.forget(listen::OWN);
            }
            listeners.vanish();
            going.send_replace(true);
            handle.stop(true).await;
        }
        Stop::HandOver => {
            // Time until the next one says so.
            notify.say("WATCHDOG=1");
            handle.pause().await;
            sleep(SETTLED).await;
            let _ = timeout(FIRST_WORDS, present.newcomers.none()).await;
            going.send_replace(true);
            let _ = timeout(Duration::from_secs(LAST_WORDS), present.requests.none()).await;
            let _ = timeout(FAREWELL, present.connections.none()).await;
            let _ = timeout(CLOSING, handle.stop(true)).await;
        }
    }
}
