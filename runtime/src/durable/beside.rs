//! A descriptor that is no stream of a process and has to outlive a supervisor all the same: where the process says of itself
//! that it is ready, say. Nothing is done with it while nobody is there.

use std::os::fd::OwnedFd;

use super::label::Kind;
use crate::error::Error;
use crate::keeper::{Client, Holding, Stored};
use crate::plan::wire::Purpose;
use crate::spec::Hold;

/// One descriptor that the keeper holds as well. Dropping it changes nothing, as the end of a supervisor must not. From
/// [`Container::hold_beside`](crate::Container::hold_beside).
#[derive(Debug)]
pub struct Beside {
    stored: Stored,
}

impl Beside {
    pub(crate) async fn store(client: &Client, label: &[u8], fd: OwnedFd) -> Result<Self, Error> {
        if label.is_empty() || label.len() > Hold::LABEL {
            let why = format!("{} bytes; 1 to {} are possible", label.len(), Hold::LABEL);
            return Err(Error::invalid("label", why));
        }
        let label = Kind::Beside.label(client.id(), label);
        Ok(Self { stored: client.store(&label, Holding::other(Purpose::Channel, fd)).await? })
    }

    pub(crate) fn again(stored: Stored) -> Self {
        Self { stored }
    }

    /// The keeper closes its copy.
    pub fn discard(self) {
        self.stored.discard();
    }
}
