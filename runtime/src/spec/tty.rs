//! A process's own terminal: how large it is, and what it excludes.

use serde::{Deserialize, Serialize};

use super::check::Refusals;
use super::{ProcessSpec, Stdio};

/// The size of a terminal's window, in characters.
///
/// ```
/// use orangery_runtime::spec::WindowSize;
/// assert_eq!(WindowSize::default(), WindowSize { rows: 24, columns: 80 });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters of a line.
    pub columns: u16,
}

impl Default for WindowSize {
    /// 24 lines of 80 characters.
    fn default() -> Self {
        Self { rows: 24, columns: 80 }
    }
}

/// A terminal has a size, and is all three streams.
pub(super) fn check(no: &mut Refusals, spec: &ProcessSpec) {
    let Some(size) = spec.tty else { return };
    if size.rows == 0 || size.columns == 0 {
        no.add("tty", "a terminal has at least one row and one column");
    }
    let streams = [("stdin", &spec.stdin), ("stdout", &spec.stdout), ("stderr", &spec.stderr)];
    for (field, stream) in streams {
        match stream {
            Stdio::Null => {}
            Stdio::Piped if field == "stdin" => {}
            Stdio::Piped | Stdio::Fd(_) => {
                no.add(
                    field,
                    "a process with a terminal has that for all three streams, and nothing else for this one",
                );
            }
        }
    }
}
