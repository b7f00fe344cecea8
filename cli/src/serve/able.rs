//! What a program can take over, as it says itself (`serve --check`).

use std::path::Path;

use orangery::Supervisor;
use orangery::runtime::durable::PROTOCOL;
use serde::{Deserialize, Serialize};

use crate::errors::Failure;

/// One line of JSON.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Able {
    schema: u32,
    version: String,
    /// The version of what it speaks with a keeper.
    keeper: u16,
}

impl Able {
    /// This program, of a state directory that it can read.
    ///
    /// # Errors
    /// It cannot.
    pub(super) fn of_this(state: &Path) -> Result<Self, Failure> {
        Supervisor::understands(state.join(super::SUPERVISOR))?;
        Ok(Self { schema: 1, version: env!("CARGO_PKG_VERSION").into(), keeper: PROTOCOL })
    }

    /// That program can have what this one has.
    ///
    /// # Errors
    /// It cannot, in words.
    pub(super) fn can_follow(&self) -> Result<(), String> {
        match self.keeper {
            PROTOCOL => Ok(()),
            other => Err(format!(
                "it ({}) speaks version {other} with a keeper, and the one that has the containers speaks {PROTOCOL}: end the \
                 containers first, or start it with another --state beside this one",
                self.version
            )),
        }
    }

    pub(super) fn version(&self) -> &str {
        &self.version
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_protocol_is_refused_in_words() {
        let able = |keeper| Able { schema: 1, version: "9.9".into(), keeper };
        assert_eq!(able(PROTOCOL).can_follow(), Ok(()));
        for other in [PROTOCOL - 1, PROTOCOL + 1] {
            let why = able(other).can_follow().unwrap_err();
            assert!(
                why.contains("9.9") && why.contains(&format!("version {other} ")) && why.contains("--state"),
                "{why}"
            );
        }
    }
}
