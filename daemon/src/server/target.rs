//! Whom a path names: a container's main process, or a further one.

use std::sync::Arc;

use actix_web::HttpRequest;
use orangery::{ProcessHandle, ProcessId};

use super::daemon::Daemon;
use super::failed::{Failed, failed};
use super::registry::{Card, Further};
use crate::wire::ProblemKind;

/// See the file's head.
#[derive(Debug)]
pub(super) enum Target {
    Main(Arc<Card>),
    Further(Arc<Card>, Further),
}

/// The container that a path names.
///
/// # Errors
/// There is none.
pub(super) fn card(daemon: &Daemon, request: &HttpRequest) -> Result<Arc<Card>, Failed> {
    daemon.registry.get(request.match_info().get("name").unwrap_or_default())
}

impl Target {
    /// # Errors
    /// There is no such container, or no such process of it.
    pub(super) fn of(daemon: &Daemon, request: &HttpRequest) -> Result<Self, Failed> {
        let card = card(daemon, request)?;
        let Some(text) = request.match_info().get("pid") else { return Ok(Self::Main(card)) };
        let none = || failed(ProblemKind::NotFound, format!("{:?} has no process {text:?}", card.name));
        let number: u32 = text.parse().map_err(|_| none())?;
        if number == 0 {
            return Ok(Self::Main(card));
        }
        let known = card.state().further.get(&number).cloned();
        let further = match known {
            Some(further) => further,
            // Of an earlier daemon: it is known as long as it lives.
            None => {
                let process = card.container().ok().and_then(|it| it.process_by_id(ProcessId(number)));
                Further { process: process.ok_or_else(none)?, tty: false }
            }
        };
        Ok(Self::Further(card, further))
    }

    pub(super) fn card(&self) -> &Arc<Card> {
        match self {
            Self::Main(card) | Self::Further(card, _) => card,
        }
    }

    /// # Errors
    /// It does not run.
    pub(super) fn process(&self) -> Result<ProcessHandle, Failed> {
        match self {
            Self::Main(card) => Ok(card.container()?.process().clone()),
            Self::Further(_, further) => Ok(further.process.clone()),
        }
    }

    pub(super) fn number(&self) -> u32 {
        match self {
            Self::Main(_) => 0,
            Self::Further(_, further) => further.process.id().0,
        }
    }

    pub(super) fn tty(&self) -> bool {
        match self {
            Self::Main(card) => !card.asked.create.tty.is_none(),
            Self::Further(_, further) => further.tty,
        }
    }
}
