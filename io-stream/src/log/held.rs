//! A log whose open files somebody else holds as well: who empties the same pipes into them when this process is gone.
//!
//! It must never be wrong about where the next byte goes. So it is told of another file *before* a byte goes there, and
//! until it knows the file has no name: a crash in between leaves a file that is empty, or one that it has gone on with,
//! and [`Log::open`] tells the two apart. Told by the pump, which moves nothing meanwhile.

use std::fmt;
use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::LogError;
use super::change::Change;
use super::files;
use super::handle::Log;
use super::segment::{self, Listing, Segment};
use crate::chunk::{Source, Stamp};
use crate::sync::lock;

/// Who holds the open files of a log as well.
pub trait Holder: Send + Sync + fmt::Debug {
    /// What comes out of `pipe` goes into this file from now on, behind what is in it; `takes`: else it is read away, because
    /// the log takes nothing for now. Ready when it knows; `false`: it knows what it knew, and is told again after
    /// [`LogOptions::retry`](super::LogOptions::retry), while the log goes on.
    fn hold<'a>(
        &'a self,
        source: Source,
        pipe: BorrowedFd<'a>,
        file: OwnedFd,
        takes: bool,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>>;
}

/// What was done with a pipe by who held its log, while there was no writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Meanwhile {
    /// So many bytes are the last ones of the log.
    pub logged: u64,
    /// So many after those are gone.
    pub lost: u64,
    /// When it began (`CLOCK_MONOTONIC`).
    pub since: Duration,
}

/// What the holder of a source knows.
#[derive(Debug)]
pub(super) enum Held {
    /// The file that is being written.
    This,
    /// Another one than is being written now: to be told before a byte moves.
    Other,
    /// One that takes nothing any more: as well.
    Closed(File),
}

impl Log {
    /// The file of `source` that is being written, made where there is none, for somebody who holds it too: from now on
    /// its [`Holder`] is told of each other one before a byte goes there.
    ///
    /// # Errors
    ///
    /// The file cannot be made, or no descriptor is left.
    pub fn share(&self, source: Source) -> Result<OwnedFd, LogError> {
        const SHARE: &str = "make a segment in";
        let made = || {
            let mut inner = lock(&self.core.inner);
            let writer = &mut inner.writers[source];
            writer.share(&self.core.dir)?.try_clone().map(OwnedFd::from)
        };
        made().map_err(LogError::io(SHARE, self.dir()))
    }

    /// Somebody else holds one of its files.
    pub(super) fn is_shared(&self) -> bool {
        let inner = lock(&self.core.inner);
        Source::ALL.iter().any(|source| inner.writers[*source].held.is_some())
    }

    /// Who is told, from the next byte on; once.
    pub fn held_by(&self, holder: Arc<dyn Holder>) {
        let _ = self.core.holder.set(holder);
    }

    /// [`Log::held_by`] of a log that somebody else has held while it had no writer. He may know another file.
    pub fn held_again(&self, holder: Arc<dyn Holder>, sources: &[Source]) {
        for source in sources {
            let held = &mut lock(&self.core.inner).writers[*source].held;
            // One that is to be told that its file is over is told so first.
            if !matches!(held, Some(Held::Closed(_))) {
                *held = Some(Held::Other);
            }
        }
        self.held_by(holder);
    }

    /// What he has done with a source: when that was goes into the index, and what is gone is counted.
    pub fn meanwhile(&self, source: Source, done: &Meanwhile) {
        let mut inner = lock(&self.core.inner);
        inner.meanwhile(source, done, &self.core);
        drop(inner);
        self.core.news.send_replace(());
    }

    /// Tell the holder what it does not know yet; nothing moves meanwhile. Where that cannot be, the log goes on all the same.
    pub(super) async fn tell(&self, source: Source, pipe: BorrowedFd<'_>) {
        let untold = lock(&self.core.inner).writers[source].untold();
        let goes_on = matches!(untold, Ok(Some((_, true))));
        let knows = match (untold, self.core.holder.get()) {
            (Ok(None), _) => return,
            (Ok(Some((file, takes))), Some(holder)) => holder.hold(source, pipe, file.into(), takes).await,
            (Ok(Some(_)), None) => true,
            (Err(error), _) => {
                tracing::warn!(%source, %error, dir = %self.dir().display(), "who holds the log as well knows another file");
                false
            }
        };
        if knows && goes_on {
            self.core.watch.tell(Change::Told);
        }
        let again = (!knows).then(|| Stamp::now().mono + self.options().retry);
        if let Err(error) = lock(&self.core.inner).writers[source].told(&self.core.dir, again) {
            tracing::warn!(%source, %error, dir = %self.dir().display(), "a segment has no name until the log is opened again");
        } else if goes_on {
            self.core.watch.tell(Change::Named);
        }
    }
}

/// What is in the directory of a log that was left, with its files as its writers would have left them.
pub(super) fn recover(dir: &Path) -> io::Result<Listing> {
    let mut found = segment::look(dir)?;
    if !found.held.is_empty() {
        name_all(dir, &found.held)?;
        found = segment::look(dir)?;
    }
    for source in Source::ALL {
        put_last(dir, source, &found.segments[source])?;
    }
    Ok(found)
}

/// Give the files their names that a crash has left without, or remove them where nobody has written into them.
fn name_all(dir: &Path, all: &[Segment]) -> io::Result<()> {
    for segment in all {
        let (held, data) = (segment.held(dir), segment.data(dir));
        if std::fs::symlink_metadata(&held)?.len() > 0 {
            files::appear(&held, &data)?;
        } else {
            files::remove(&held)?;
            files::remove(&segment.index(dir))?;
        }
    }
    Ok(())
}

/// What was put behind the end of a file that a later one follows comes behind all of them: by somebody who was not told of
/// those. Nobody else writes beyond where the next one begins.
fn put_last(dir: &Path, source: Source, segments: &[Segment]) -> io::Result<()> {
    let Some(last) = segments.last().filter(|last| last.form == segment::Form::Plain) else { return Ok(()) };
    for pair in segments.windows(2) {
        let [before, after] = pair else { continue };
        let room = after.base - before.base;
        if before.form != segment::Form::Plain {
            continue;
        }
        match std::fs::symlink_metadata(before.data(dir)) {
            Ok(there) if there.len() > room => {}
            Ok(_) => continue,
            // Compressed or removed since we looked, by who still does that for the one before us: it was whole.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        }
        let (mut from, mut to) = (files::write(&before.data(dir))?, files::write(&last.data(dir))?);
        from.seek(SeekFrom::Start(room))?;
        to.seek(SeekFrom::End(0))?;
        let moved = io::copy(&mut from, &mut to)?;
        from.set_len(room)?;
        tracing::warn!(%source, moved, dir = %dir.display(), "what was emptied into an older file goes behind the newest");
    }
    Ok(())
}

/// The file has its name from now on.
pub(super) fn name(dir: &Path, segment: &Segment) -> io::Result<()> {
    match files::appear(&segment.held(dir), &segment.data(dir)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        named => named,
    }
}
