//! A recording that goes on in another process than the one that began it, or that is only read any more.

use std::path::PathBuf;

use super::handle::Log;
use super::recording::Recording;
use crate::cursor::Cursor;
use crate::event::End;

impl Recording {
    /// Goes on with what another process has begun at `began`: its bytes since then are this one's as well. Nobody else may
    /// pump into `log` meanwhile.
    pub fn again(log: Log, began: Cursor) -> Self {
        Self::from(log, began)
    }

    /// What is left of one that ended there, so: to be read. It holds no lock, and the log may have been gone on with.
    pub fn ended(dir: impl Into<PathBuf>, began: Cursor, until: Cursor, end: End) -> Self {
        Self::over(dir.into(), began, until, end)
    }

    /// Where it began.
    pub fn began(&self) -> Cursor {
        self.core.began
    }

    /// Where it stands, or has ended.
    pub fn cursor(&self) -> Cursor {
        self.core.newest()
    }

    /// The log, until the end.
    pub fn log(&self) -> Option<Log> {
        crate::sync::lock(&self.core.log).clone()
    }
}
