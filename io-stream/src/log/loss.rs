//! Why bytes were read away instead of logged: kept beside the log, so that whoever reads it later is told the same.

use crate::event::GapCause;

/// See the file's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Loss {
    /// The log took none.
    #[default]
    Full,
    /// They are behind the limit of what is logged of one process.
    OverLimit,
}

impl Loss {
    /// A number for it.
    pub(crate) const fn code(self) -> u8 {
        self as u8
    }

    /// The loss of that number.
    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Full),
            1 => Some(Self::OverLimit),
            _ => None,
        }
    }

    /// What readers are told.
    pub(crate) const fn cause(self) -> GapCause {
        match self {
            Self::Full => GapCause::LogFull,
            Self::OverLimit => GapCause::OutputLimit,
        }
    }
}
